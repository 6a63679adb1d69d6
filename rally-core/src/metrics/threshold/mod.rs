//! Conditions under which a race counts as failed, such as `search.service_time.p99 > 50ms`.
//!
//! ```text
//! threshold = task "." metric operator number [unit]
//! task      = letters, digits, "_" and "-" | '"' any text, with \" and \\ '"' | "'" any text "'" | "*", which is every task
//! metric    = "throughput." ("min" | "mean" | "median" | "max")
//!           | ("latency" | "service_time" | "processing_time") "." ("p" number | "mean" | "min" | "max")
//!           | "error_rate" | "duration"
//! operator  = ">" | ">=" | "<" | "<="
//! unit      = "us" | "ms" | "s" | "min"   of times and durations; only 0 needs none
//!           | "%"                         of error rates; only 0 needs none
//!           | unit "/s" | "/s"            of throughput, such as "docs/s"; none is whatever the task counts
//! ```

mod evaluate;
mod parse;

pub(super) use evaluate::Measured;
pub use evaluate::{ThresholdOutcome, ThresholdStanding};
pub use parse::ThresholdSyntaxError;

use std::fmt;

use serde::{Deserialize, Serialize};

use super::TimeKind;

/// A condition under which a race counts as failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Threshold {
    /// Whose metric.
    pub task: ThresholdTask,
    /// What is compared.
    pub metric: ThresholdMetric,
    /// How it is compared.
    pub operator: ThresholdOperator,
    /// What it is compared with; finite and not negative.
    pub limit: f64,
    /// The unit of the limit.
    pub unit: ThresholdUnit,
}

/// The tasks that a threshold is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ThresholdTask {
    /// Every task with results.
    Every,
    /// The task of this name.
    Named(String),
}

/// What a threshold is about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ThresholdMetric {
    /// Throughput over time, as in the summary report.
    Throughput(Aggregate),
    /// A time of requests.
    Time(TimeKind, TimeValue),
    /// Failed samples as a share of all.
    ErrorRate,
    /// From the start of the task to its last answer.
    Duration,
}

/// One value for the throughput of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "they say it themselves")]
pub enum Aggregate {
    Min,
    Mean,
    Median,
    Max,
}

/// One value for the times of a task.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TimeValue {
    /// The percentile, from 0 to 100.
    Percentile(f64),
    /// The arithmetic mean.
    Mean,
    /// The shortest.
    Min,
    /// The longest.
    Max,
}

/// How a value is compared with the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "they say it themselves")]
pub enum ThresholdOperator {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

/// The unit of a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ThresholdUnit {
    /// A limit of zero, or a throughput in whatever the task counts.
    None,
    /// `us`.
    Microseconds,
    /// `ms`.
    Milliseconds,
    /// `s`.
    Seconds,
    /// `min`.
    Minutes,
    /// `%`.
    Percent,
    /// Of this per second, such as `docs`; empty for whatever the task counts.
    PerSecond(String),
}

impl ThresholdUnit {
    /// What one of it is in the unit in which results are: milliseconds, a share from 0 to 1, or one per second.
    fn factor(&self) -> f64 {
        match self {
            Self::None | Self::Milliseconds | Self::PerSecond(_) => 1.0,
            Self::Microseconds => 1e-3,
            Self::Seconds => 1e3,
            Self::Minutes => 60e3,
            Self::Percent => 1e-2,
        }
    }
}

impl ThresholdOperator {
    fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Self::Greater => value > limit,
            Self::GreaterOrEqual => value >= limit,
            Self::Less => value < limit,
            Self::LessOrEqual => value <= limit,
        }
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{} {} {}{}", self.task, self.metric, self.operator, self.limit, self.unit)
    }
}

impl fmt::Display for ThresholdTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every => f.write_str("*"),
            Self::Named(name) if !name.is_empty() && name.chars().all(parse::is_plain) => f.write_str(name),
            Self::Named(name) => write!(f, "\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\"")),
        }
    }
}

impl fmt::Display for ThresholdMetric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Throughput(aggregate) => write!(f, "throughput.{aggregate}"),
            Self::Time(kind, TimeValue::Percentile(percentile)) => write!(f, "{kind}.p{percentile}"),
            Self::Time(kind, TimeValue::Mean) => write!(f, "{kind}.mean"),
            Self::Time(kind, TimeValue::Min) => write!(f, "{kind}.min"),
            Self::Time(kind, TimeValue::Max) => write!(f, "{kind}.max"),
            Self::ErrorRate => f.write_str("error_rate"),
            Self::Duration => f.write_str("duration"),
        }
    }
}

impl fmt::Display for Aggregate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Min => "min",
            Self::Mean => "mean",
            Self::Median => "median",
            Self::Max => "max",
        })
    }
}

impl fmt::Display for ThresholdOperator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
        })
    }
}

impl fmt::Display for ThresholdUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::Microseconds => f.write_str("us"),
            Self::Milliseconds => f.write_str("ms"),
            Self::Seconds => f.write_str("s"),
            Self::Minutes => f.write_str("min"),
            Self::Percent => f.write_str("%"),
            Self::PerSecond(what) => write!(f, "{what}/s"),
        }
    }
}

impl From<Threshold> for String {
    fn from(threshold: Threshold) -> Self {
        threshold.to_string()
    }
}
