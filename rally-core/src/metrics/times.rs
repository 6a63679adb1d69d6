//! The times of one request.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Whether a sample counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SampleType {
    /// Taken during warm-up; it only counts into the cumulative throughput.
    Warmup,
    /// It counts.
    Normal,
}

/// One of the times of a request, as [`RequestTimes`] defines them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeKind {
    /// From the intended start to the last byte.
    Latency,
    /// From the first byte sent to the last byte read.
    ServiceTime,
    /// With our own work around it.
    ProcessingTime,
}

impl fmt::Display for TimeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Latency => "latency",
            Self::ServiceTime => "service_time",
            Self::ProcessingTime => "processing_time",
        })
    }
}

/// The raw instants of one request, in nanoseconds on one monotonic clock, and what is derived from them.
///
/// A runner may send several HTTP requests: `sent` belongs to the first and `received` to the last of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestTimes {
    /// When the schedule wanted it to start; none if the task is not throttled or this is its first request.
    pub intended: Option<u64>,
    /// The runner was called.
    pub called: u64,
    /// The first byte was written.
    pub sent: u64,
    /// The last byte of the answer was read.
    pub received: u64,
    /// The runner returned.
    pub returned: u64,
}

impl RequestTimes {
    /// From the first byte written to the last byte read.
    #[must_use]
    pub fn service_time(&self) -> Duration {
        between(self.sent, self.received)
    }

    /// From the call of the runner to its return: service time and our own work around it.
    #[must_use]
    pub fn processing_time(&self) -> Duration {
        between(self.called, self.returned)
    }

    /// From the intended start to the last byte read; service time if there is no intended start.
    #[must_use]
    pub fn latency(&self) -> Duration {
        between(self.intended.unwrap_or(self.sent), self.received)
    }

    /// How much later than intended the first byte was written; none without an intended start.
    #[must_use]
    pub fn dispatch_lag(&self) -> Option<Duration> {
        self.intended.map(|intended| between(intended, self.sent))
    }
}

fn between(from: u64, to: u64) -> Duration {
    Duration::from_nanos(to.saturating_sub(from))
}
