//! The crate as its users see it.

mod driver;
mod engine;
mod fixture;
mod partition;
