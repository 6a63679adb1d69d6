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
    },
    /// A driver never said that it had ended: what it measured last is missing.
    Unended {
        /// Its name.
        driver: String,
    },
    /// A driver did not end within the time it was given, and nothing more was expected of it.
    Overdue {
        /// Its name.
        driver: String,
        /// The time.
        within: Duration,
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
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Driver { driver, until } => {
                write!(f, "the race went on without {driver} from the step before join point {until} on")
            }
            Self::Unended { driver } => write!(f, "{driver} never reported its end; its last measurements are missing"),
            Self::Overdue { driver, within } => {
                write!(f, "{driver} did not end within {within:?}; its last measurements are missing")
            }
            Self::Samples { driver, made, merged, lost } => {
                write!(f, "{driver} made {made} samples, of which {merged} arrived and {lost} are known to be lost")
            }
            Self::Intervals { driver, missing } => write!(f, "{missing} intervals of {driver} never arrived"),
            Self::Telemetry { driver, by } => write!(
                f,
                "the telemetry of {driver} ended with it, and {by} went on with it: what is sampled is missing in between, and \
                 what is counted from the start of the race (garbage collection, ingest pipelines) is counted from then on"
            ),
        }
    }
}
