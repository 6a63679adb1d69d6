//! The crate as its users see it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod client;
mod driver;
mod engine;
mod fixture;
mod partition;
mod pressure;
mod target;
