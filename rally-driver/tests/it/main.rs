//! The crate as its users see it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod admin;
mod client;
mod driver;
mod engine;
mod fixture;
mod operation;
mod partition;
mod server;
