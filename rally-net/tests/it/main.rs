//! Integration tests of `rally-net`.

mod cluster;
mod services;
