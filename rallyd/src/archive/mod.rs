//! The archive of races on this machine: one directory for each, named after the race's id.

mod intervals;
mod store;

pub use intervals::{IntervalLog, read_intervals};
pub use store::{Archive, ArchiveError, RaceDocument};
