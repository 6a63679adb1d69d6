//! Integration tests of `rally-net`, one module per subject.

#![expect(clippy::unwrap_used, reason = "these are tests, helpers included")]

mod cluster;
mod fakes;
mod identity;
mod network;
mod offload;
mod old_races;
mod relay;
mod requests;
mod roles;
mod services;
mod simulation;
mod transfer;
