//! Distributions that can be merged: exact as long as they are small, histograms beyond.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Significant decimal digits of a histogram.
const DIGITS: u8 = 3;

/// The largest value that a histogram tells apart from larger ones, in nanoseconds: 146 years.
const LARGEST: u64 = 1 << 62;

/// A distribution of times in nanoseconds.
///
/// Up to [`Distribution::EXACT`] values are kept as they are; beyond, a histogram with three significant digits takes
/// their place. Count, sum, minimum and maximum are always exact. What a merge gives does not depend on how the values
/// were spread before.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub struct Distribution {
    values: Values,
    sum: u128,
    min: u64,
    max: u64,
}

#[derive(Clone, Debug)]
enum Values {
    Exact(Vec<u64>),
    Histogram(Histogram<u64>),
}

impl Default for Distribution {
    fn default() -> Self {
        Self { values: Values::Exact(Vec::new()), sum: 0, min: u64::MAX, max: 0 }
    }
}

impl Distribution {
    /// Values that are kept exactly.
    pub const EXACT: usize = 10_000;

    /// Adds a value.
    pub fn record(&mut self, value: u64) {
        self.sum += u128::from(value);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        match &mut self.values {
            Values::Exact(values) if values.len() < Self::EXACT => values.push(value),
            Values::Exact(_) => add(self.histogram(), value, 1),
            Values::Histogram(histogram) => add(histogram, value, 1),
        }
    }

    /// Adds all values of another distribution.
    pub fn merge(&mut self, other: &Self) {
        self.sum = self.sum.saturating_add(other.sum);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        match (&mut self.values, &other.values) {
            (Values::Exact(ours), Values::Exact(theirs)) if ours.len() + theirs.len() <= Self::EXACT => {
                ours.extend_from_slice(theirs);
            }
            (_, Values::Exact(theirs)) => {
                let histogram = self.histogram();
                theirs.iter().for_each(|value| add(histogram, *value, 1));
            }
            (_, Values::Histogram(theirs)) => {
                let histogram = self.histogram();
                for recorded in theirs.iter_recorded() {
                    add(histogram, recorded.value_iterated_to(), recorded.count_at_value());
                }
            }
        }
    }

    /// Number of values.
    #[must_use]
    pub fn count(&self) -> u64 {
        match &self.values {
            Values::Exact(values) => values.len() as u64,
            Values::Histogram(histogram) => histogram.len(),
        }
    }

    /// Whether there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// The sum of all values.
    #[must_use]
    pub fn sum(&self) -> u128 {
        self.sum
    }

    /// The smallest value.
    #[must_use]
    pub fn min(&self) -> Option<u64> {
        (!self.is_empty()).then_some(self.min)
    }

    /// The largest value.
    #[must_use]
    pub fn max(&self) -> Option<u64> {
        (!self.is_empty()).then_some(self.max)
    }

    /// The mean, exact but for the division.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (!self.is_empty()).then(|| self.sum as f64 / self.count() as f64)
    }

    /// The values at these percentiles (0 to 100), one for each; none if there is no value.
    ///
    /// As long as the distribution is exact they are interpolated linearly at rank `p / 100 * (n - 1)`, as Rally's
    /// in-memory store does it. Beyond, it is the value of the histogram at that rank.
    #[must_use]
    pub fn percentiles<const N: usize>(&self, percentiles: [f64; N]) -> Option<[f64; N]> {
        let last = self.count().checked_sub(1)?;
        let rank = |percentile: f64| percentile.clamp(0.0, 100.0) / 100.0 * last as f64;
        Some(match &self.values {
            Values::Exact(values) => {
                let mut sorted = values.clone();
                sorted.sort_unstable();
                percentiles.map(|percentile| {
                    let rank = rank(percentile);
                    let (below, above) = (sorted[rank.floor() as usize] as f64, sorted[rank.ceil() as usize] as f64);
                    below + (above - below) * rank.fract()
                })
            }
            Values::Histogram(histogram) => percentiles.map(|percentile| {
                // Half a rank keeps the quantile clear of rounding errors at the border of two ranks.
                let quantile = (rank(percentile).round() + 0.5) / histogram.len() as f64;
                histogram.value_at_quantile(quantile).clamp(self.min, self.max) as f64
            }),
        })
    }

    /// The histogram, made of the exact values if there is none yet.
    fn histogram(&mut self) -> &mut Histogram<u64> {
        if let Values::Exact(values) = &self.values {
            let mut histogram = Histogram::new(DIGITS).expect("three digits are allowed");
            values.iter().for_each(|value| add(&mut histogram, *value, 1));
            self.values = Values::Histogram(histogram);
        }
        match &mut self.values {
            Values::Histogram(histogram) => histogram,
            Values::Exact(_) => unreachable!("it was just replaced"),
        }
    }
}

impl PartialEq for Distribution {
    /// Whether they hold the same values, in whatever order they were added.
    fn eq(&self, other: &Self) -> bool {
        let same_values = match (&self.values, &other.values) {
            (Values::Exact(ours), Values::Exact(theirs)) => {
                let (mut ours, mut theirs) = (ours.clone(), theirs.clone());
                ours.sort_unstable();
                theirs.sort_unstable();
                ours == theirs
            }
            (Values::Histogram(ours), Values::Histogram(theirs)) => ours == theirs,
            (Values::Exact(_), Values::Histogram(_)) | (Values::Histogram(_), Values::Exact(_)) => false,
        };
        same_values && (self.sum, self.min, self.max) == (other.sum, other.min, other.max)
    }
}

fn add(histogram: &mut Histogram<u64>, value: u64, count: u64) {
    histogram.record_n(value.min(LARGEST), count).expect("a histogram that grows takes any value up to 2^62");
}

/// A distribution as it travels: of a histogram only the steps that hold something.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Wire {
    Exact(Vec<u64>),
    Histogram {
        sum: u128,
        min: u64,
        max: u64,
        /// For each step, how much larger its values are than those of the step before, and how many there are.
        steps: Vec<(u64, u64)>,
    },
}

impl From<Distribution> for Wire {
    fn from(distribution: Distribution) -> Self {
        match distribution.values {
            Values::Exact(values) => Self::Exact(values),
            Values::Histogram(histogram) => {
                let mut before = 0;
                let mut steps = Vec::new();
                for recorded in histogram.iter_recorded() {
                    let value = recorded.value_iterated_to();
                    steps.push((value - before, recorded.count_at_value()));
                    before = value;
                }
                let Distribution { sum, min, max, .. } = distribution;
                Self::Histogram { sum, min, max, steps }
            }
        }
    }
}

/// What a peer sent cannot be a distribution.
#[derive(Debug, thiserror::Error)]
#[error("not a distribution: {0}")]
struct InvalidDistribution(&'static str);

impl TryFrom<Wire> for Distribution {
    type Error = InvalidDistribution;

    fn try_from(wire: Wire) -> Result<Self, Self::Error> {
        let mut distribution = Self::default();
        match wire {
            Wire::Exact(values) if values.len() > Self::EXACT => {
                return Err(InvalidDistribution("more exact values than there may be"));
            }
            Wire::Exact(values) => values.into_iter().for_each(|value| distribution.record(value)),
            Wire::Histogram { sum, min, max, steps } => {
                let histogram = distribution.histogram();
                let (mut value, mut total) = (0_u64, 0_u64);
                for (further, count) in steps {
                    value = value.saturating_add(further);
                    total = total.checked_add(count).ok_or(InvalidDistribution("its counts overflow"))?;
                    add(histogram, value, count);
                }
                if min > max || total <= Self::EXACT as u64 {
                    return Err(InvalidDistribution("a histogram with too few values, or an empty range"));
                }
                (distribution.sum, distribution.min, distribution.max) = (sum, min, max);
            }
        }
        Ok(distribution)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[u64]) -> Distribution {
        let mut distribution = Distribution::default();
        values.iter().for_each(|value| distribution.record(*value));
        distribution
    }

    #[test]
    fn percentiles_of_few_values_are_interpolated_as_rally_does_it() {
        let distribution = of(&[40, 10, 30, 20]);
        for (percentile, expected) in [(0.0, 10.0), (50.0, 25.0), (90.0, 37.0), (99.9, 39.97), (100.0, 40.0)] {
            let [found] = distribution.percentiles([percentile]).unwrap();
            assert!((found - expected).abs() < 1e-9, "{percentile}: {found}, not {expected}");
        }
        assert_eq!(of(&[7]).percentiles([50.0, 100.0]), Some([7.0, 7.0]));
        assert_eq!(of(&[]).percentiles([50.0]), None);
        assert_eq!((of(&[]).min(), of(&[]).mean()), (None, None));
    }

    #[test]
    fn many_values_keep_three_digits_and_exact_totals() {
        let values: Vec<u64> = (1..=100_000).map(|value| value * 1_000).collect();
        let distribution = of(&values);
        assert_eq!(distribution.count(), 100_000);
        assert_eq!(distribution.sum(), values.iter().map(|value| u128::from(*value)).sum());
        assert_eq!((distribution.min(), distribution.max()), (Some(1_000), Some(100_000_000)));
        for percentile in [1.0, 50.0, 90.0, 99.0, 99.9, 99.99, 100.0] {
            let [found] = distribution.percentiles([percentile]).unwrap();
            let exact = 1_000.0 + percentile / 100.0 * 99_999.0 * 1_000.0;
            assert!((found / exact - 1.0).abs() < 2e-3, "{percentile}: {found}, not {exact}");
        }
    }

    #[test]
    fn what_a_peer_makes_up_is_refused() {
        for wire in [
            Wire::Exact(vec![1; Distribution::EXACT + 1]),
            Wire::Histogram { sum: 1, min: 1, max: 1, steps: vec![(1, 1)] },
            Wire::Histogram { sum: 1, min: 2, max: 1, steps: vec![(1, 20_000)] },
            Wire::Histogram { sum: 1, min: 1, max: 1, steps: vec![(1, u64::MAX), (1, u64::MAX)] },
        ] {
            assert!(Distribution::try_from(wire).is_err());
        }
        let far = Wire::Histogram { sum: 1, min: 0, max: u64::MAX, steps: vec![(u64::MAX, 20_000), (u64::MAX, 1)] };
        assert_eq!(Distribution::try_from(far).unwrap().count(), 20_001);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn merging_shards_equals_recording_everything_in_one(
            values in prop::collection::vec(prop_oneof![0_u64..1_000_000, any::<u64>()], 0..30_000),
            shards in 1_usize..8,
        ) {
            let whole = of(&values);
            let mut merged = Distribution::default();
            for shard in values.chunks(values.len().div_ceil(shards).max(1)).rev() {
                merged.merge(&of(shard));
            }
            prop_assert_eq!(&merged, &whole);
            let json = serde_json::to_string(&merged).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Distribution>(&json).unwrap(), &whole);
        }
    }
}
