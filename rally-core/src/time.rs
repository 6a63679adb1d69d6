//! Coordinator time: the one clock that all hosts of a cluster refer to.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point in coordinator time, in nanoseconds since the Unix epoch.
///
/// Coordinator time starts at the wall clock of the coordinator's daemon and advances with its monotonic clock, so a
/// step of the wall clock never moves it. "Start at T" always means this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ClusterTime(u64);

impl ClusterTime {
    /// A point this many nanoseconds after the Unix epoch.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the Unix epoch.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to `self`, zero if `earlier` is later.
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for ClusterTime {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for ClusterTime {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for ClusterTime {
    /// Seconds since the Unix epoch with nine decimals.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_instead_of_wrapping() {
        let second = Duration::from_secs(1);
        assert_eq!(ClusterTime::from_nanos(0) - second, ClusterTime::from_nanos(0));
        assert_eq!(ClusterTime::from_nanos(u64::MAX) + second, ClusterTime::from_nanos(u64::MAX));
        assert_eq!(ClusterTime::from_nanos(5).saturating_since(ClusterTime::from_nanos(9)), Duration::ZERO);
    }
}
