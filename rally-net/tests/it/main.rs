//! Integration tests of `rally-net`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod cluster;
mod fakes;
mod identity;
mod network;
mod relay;
mod requests;
mod roles;
mod transfer;
