//! The archive of races on this machine: one directory for each, named after the race's id.

mod again;
mod clocks;
mod intervals;
mod lines;
mod metrics_store;
mod owner;
mod pending;
mod recorder;
mod records;
mod store;
mod writer;

pub use clocks::HostClock;
#[cfg(test)]
pub(crate) use clocks::clock_trouble;
pub use intervals::{IntervalLog, RecordedInterval, read_intervals};
pub(crate) use pending::take_from_archive;
pub(crate) use recorder::{ArchiveRecorder, ReportSlot};
pub use store::{Archive, ArchiveError};
