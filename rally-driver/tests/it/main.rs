//! The crate as its users see it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod admin;
#[path = "../../src/testing/authority.rs"]
mod authority;
mod bulk;
mod bulk_server;
mod client;
mod cluster;
mod composite;
mod corpora;
mod driver;
mod engine;
mod execution;
mod fixture;
mod operation;
mod operation_types;
mod partition;
mod preparation;
mod pressure;
mod search;
mod search_server;
mod server;
mod target;
mod telemetry;
mod tls;
