//! Integration tests of `rally-net`.

mod cluster;
mod fakes;
mod identity;
mod network;
mod relay;
mod requests;
mod roles;
mod transfer;
