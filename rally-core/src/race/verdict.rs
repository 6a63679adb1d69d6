//! How a race ended, and what is missing from its result.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{JoinPoint, RaceOutcome, RoleError};

/// How a race ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaceVerdict {
    /// The end in one word.
    pub outcome: RaceOutcome,
    /// Why roles failed, in the order in which it became known.
    pub errors: Vec<RoleError>,
    /// What is missing from the result.
    pub shortfalls: Vec<Shortfall>,
    /// All samples of the race.
    pub ledger: RaceLedger,
}

impl RaceVerdict {
    /// Of a race that could not begin.
    #[must_use]
    pub fn not_begun(error: RoleError) -> Self {
        let (shortfalls, ledger) = (Vec::new(), RaceLedger::default());
        Self { outcome: RaceOutcome::Failed, errors: vec![error], shortfalls, ledger }
    }

    /// Of a race that was cancelled before it began.
    #[must_use]
    pub fn cancelled() -> Self {
        let (errors, shortfalls, ledger) = (Vec::new(), Vec::new(), RaceLedger::default());
        Self { outcome: RaceOutcome::Cancelled, errors, shortfalls, ledger }
    }
}

/// What became of the samples of all drivers, as far as they could say.
///
/// Nothing is lost in silence: `made` is `merged + lost`, or a [`Shortfall`] names the driver with the difference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaceLedger {
    /// Samples that drivers said they had made.
    pub made: u64,
    /// Samples that are part of an interval that was recorded.
    pub merged: u64,
    /// Samples that drivers said they had lost.
    pub lost: u64,
}

/// Requests of a driver of which nobody knows what became, as it could not tell any more.
///
/// Nobody can know how many they are: this is what the driver sent at its last rate until it was given up, and what it had
/// under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Untold {
    /// About how many requests at most.
    pub requests: u64,
    /// The time from the last interval that arrived, or from the start of the step, until the driver was given up.
    pub within: Duration,
}

impl fmt::Display for Untold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requests, within } = self;
        write!(f, "up to about {requests} requests of the last {:.1} s", within.as_secs_f64())
    }
}

/// Something is missing from the result of a race.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Shortfall {
    /// The race went on without a driver.
    Driver {
        /// Its name.
        driver: String,
        /// The join point at the end of the step during which it was lost.
        until: JoinPoint,
        /// What it could not tell; none if it had told everything.
        #[serde(default)]
        untold: Option<Untold>,
    },
    /// A driver never said that it had ended: what it measured last is missing.
    Unended {
        /// Its name.
        driver: String,
        /// What it could not tell; none if it applied no load.
        #[serde(default)]
        untold: Option<Untold>,
    },
    /// A driver did not end within the time it was given, and nothing more was expected of it.
    Overdue {
        /// Its name.
        driver: String,
        /// The time.
        within: Duration,
        /// What it did not tell; none if it had told everything.
        #[serde(default)]
        untold: Option<Untold>,
    },
    /// The accounts of a driver do not balance.
    Samples {
        /// Its name.
        driver: String,
        /// Samples that it said it had made.
        made: u64,
        /// Samples that arrived.
        merged: u64,
        /// Samples that it said it had lost.
        lost: u64,
    },
    /// Intervals of a driver never arrived.
    Intervals {
        /// Its name.
        driver: String,
        /// How many.
        missing: u64,
    },
    /// The driver that asked the cluster under test for telemetry was lost, and another one went on with it.
    Telemetry {
        /// The name of the one that was lost.
        driver: String,
        /// The name of the other.
        by: String,
    },
    /// A driver could not end in order after the last step, or when it was stopped.
    EndedBadly {
        /// Its name.
        driver: String,
        /// What went wrong.
        cause: String,
    },
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Driver { driver, until, untold } => {
                write!(f, "the race went on without {driver} from the step before join point {until} on")?;
                match untold {
                    Some(untold) => write!(f, "; its last measurements are missing: {untold}"),
                    None => Ok(()),
                }
            }
            Self::Unended { driver, untold } => {
                write!(f, "{driver} never reported its end; {}", missing(untold.as_ref()))
            }
            Self::Overdue { driver, within, untold } => {
                write!(f, "{driver} did not end within {within:?}; {}", missing(untold.as_ref()))
            }
            Self::Samples { driver, made, merged, lost } => {
                write!(f, "{driver} made {made} samples, of which {merged} arrived and {lost} are known to be lost")
            }
            Self::Intervals { driver, missing } => write!(f, "{missing} intervals of {driver} never arrived"),
            Self::EndedBadly { driver, cause } => write!(f, "{driver} did not end in order: {cause}"),
            Self::Telemetry { driver, by } => write!(
                f,
                "the telemetry of {driver} ended with it, and {by} went on with it: what is sampled is missing in between, and \
                 what is counted from the start of the race (garbage collection, ingest pipelines) is counted from then on"
            ),
        }
    }
}

/// What is missing of a driver that did not say its last words.
fn missing(untold: Option<&Untold>) -> String {
    match untold {
        Some(untold) => format!("its last measurements are missing: {untold}"),
        None => "it had no requests under way".to_owned(),
    }
}
