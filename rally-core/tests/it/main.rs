//! Integration tests of the crate.

mod track_conformance;
