//! What is measured: the times of a request, distributions that can be merged, and intervals on their way to the
//! coordinator.

mod distribution;
mod interval;
mod race;
mod results;
mod throughput;
mod times;

pub use distribution::Distribution;
pub use interval::{DriverHealth, ErrorCount, Interval, Ledger, TaskInterval, TaskProgress, ThroughputBin};
pub use race::{IntervalStanding, RaceMetrics};
pub use results::{OperationMetrics, Percentiles, Results, ThroughputSummary};
pub use throughput::{Throughput, ThroughputValue};
pub use times::{RequestTimes, SampleType};
