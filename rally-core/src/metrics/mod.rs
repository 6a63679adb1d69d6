//! What is measured: the times of a request, distributions that can be merged, and intervals on their way to the
//! coordinator.

mod distribution;
mod interval;
mod times;

pub use distribution::Distribution;
pub use interval::{DriverHealth, ErrorCount, Interval, Ledger, TaskInterval, TaskProgress, ThroughputBin};
pub use times::{RequestTimes, SampleType};
