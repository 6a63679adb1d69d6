//! The crate as its users see it.

mod client;
mod driver;
mod engine;
mod fixture;
mod partition;
