//! Integration tests of `rally-net`.

mod cluster;
mod fakes;
mod network;
mod relay;
mod roles;
mod transfer;
