//! The archive of races on this machine: one directory for each, named after the race's id.

mod again;
mod clocks;
mod intervals;
mod moments;
mod recorder;
mod series;
mod store;
mod writer;

pub use clocks::HostClock;
#[cfg(test)]
pub(crate) use clocks::clock_trouble;
pub use intervals::{IntervalLog, RecordedInterval, read_intervals};
pub(crate) use moments::Moments;
pub(crate) use recorder::{ArchiveRecorder, ReportSlot};
pub use series::{TaskSeries, task_series};
pub use store::{Archive, ArchiveError};
