//! Integration tests of the crate.

mod track_conformance;
mod track_constructs;
mod track_properties;
