//! Integration tests of the crate.

#![expect(clippy::unwrap_used, reason = "helpers of tests are no tests to clippy, and may panic all the same")]

mod track_conformance;
mod track_constructs;
mod track_properties;
