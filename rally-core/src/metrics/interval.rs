//! What a driver sends each second: distributions and exact counters, numbered so that nothing is counted twice.

use serde::{Deserialize, Serialize};

use super::{Distribution, SampleType};
use crate::allocation::TaskIndex;

/// What one driver measured since its interval before.
///
/// A sample belongs to the interval in which its request returned.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Its number on this driver in this race, from 1 without gaps.
    pub number: u64,
    /// The second of its step that it tells of, counted from 0: the one in the middle between the interval before and this one.
    pub second: u32,
    /// What was measured, by task, inner operation and sample type.
    pub tasks: Vec<TaskInterval>,
    /// How far each task is on this driver.
    pub progress: Vec<TaskProgress>,
    /// How the driver itself did.
    pub health: DriverHealth,
    /// Totals since the race began, this interval included.
    pub ledger: Ledger,
}

/// One task's part of an interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskInterval {
    /// The task.
    pub task: TaskIndex,
    /// The cluster, if the race loads several at the same time.
    pub cluster: Option<String>,
    /// Name and type of an operation inside a composite one; none for the task's own operation. Inner operations have
    /// a service time only.
    pub inner: Option<(String, String)>,
    /// Whether these samples count.
    pub sample_type: SampleType,
    /// Service times in nanoseconds.
    pub service_time: Distribution,
    /// Processing times in nanoseconds.
    pub processing_time: Distribution,
    /// Latencies in nanoseconds.
    pub latency: Distribution,
    /// Samples, one for each call of the runner.
    pub samples: u64,
    /// Samples that failed.
    pub failed: u64,
    /// What the runner counts, such as `docs`; the last one that it reported.
    pub unit: String,
    /// Work done by the second in which its request was started.
    pub throughput: Vec<ThroughputBin>,
    /// Throughput as runners report it themselves, by the second in which their request was started; it takes the place of the
    /// computed one.
    pub reported_throughput: Vec<ReportedThroughput>,
    /// Errors by class, with an example of each.
    pub errors: Vec<ErrorCount>,
    /// From the start of the task to the end of its last request here, in nanoseconds.
    pub duration: u64,
}

/// The work of one second of a task.
///
/// Rally emits a throughput value at the first sample of each second; with the first sample of every bin told apart,
/// the same values come out of bins that were merged from many workers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ThroughputBin {
    /// Seconds since the start of the step.
    pub second: u32,
    /// Start of the earliest request, in nanoseconds since the start of the step.
    pub first: u64,
    /// Work that the earliest request did.
    pub first_weight: u64,
    /// Start of the latest request, in nanoseconds since the start of the step.
    pub last: u64,
    /// Work that all requests did.
    pub weight: u64,
    /// The earliest start of a task's client loop, in nanoseconds since the start of the step; the cumulative throughput
    /// counts from here.
    pub task_start: u64,
}

/// What runners reported as their throughput for requests of one second, in units per second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReportedThroughput {
    /// Seconds since the start of the step.
    pub second: u32,
    /// Start of the earliest request, in nanoseconds since the start of the step.
    pub first: u64,
    /// How many values were reported.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

/// Errors of one class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorCount {
    /// The class: `connect`, `timeout`, `tls`, `http 429`, `bulk`, `assertion` and the like.
    pub class: String,
    /// How many.
    pub count: u64,
    /// The first one, as text of at most a few thousand characters.
    pub example: String,
}

/// How far a task is on one driver.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskProgress {
    /// The task.
    pub task: TaskIndex,
    /// The mean over its clients here, from 0 to 1; none if it cannot be known.
    pub done: Option<f64>,
    /// Clients here, by which progress is averaged over drivers.
    pub clients: u32,
}

/// How a driver did as a generator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DriverHealth {
    /// How much later than intended requests were sent because of the driver itself, in nanoseconds: the time from
    /// when a client was free and its request due until its first byte was written.
    pub dispatch_lag: Distribution,
    /// CPU time of the busiest worker as a share of the interval, from 0 to 1.
    pub busiest_worker: f64,
    /// Requests under way when the interval ended.
    pub in_flight: u32,
    /// Connections that had to be opened again.
    pub reconnects: u64,
    /// Requests that the client sent again by itself.
    pub retries: u64,
    /// Why the driver was the bottleneck in this interval, if it was, as a sentence.
    pub saturated: Option<String>,
}

/// Totals that must balance: what a driver made against what arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Samples that were made, warm-up included.
    pub made: u64,
    /// Samples that are part of an interval.
    pub merged: u64,
    /// Samples that were written to a segment.
    pub written: u64,
    /// Samples that no segment has, because its disk was full or its cap was reached.
    pub unwritten: u64,
    /// Samples that were lost: their requests were cut off at the end of the race.
    pub lost: u64,
}
