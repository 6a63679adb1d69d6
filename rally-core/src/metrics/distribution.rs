//! Distributions that can be merged: exact as long as they are small, histograms beyond.

use hdrhistogram::Histogram;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Significant decimal digits of a histogram.
const DIGITS: u8 = 3;

/// The largest value that a histogram tells apart: about 292 years in nanoseconds.
const LARGEST: u64 = i64::MAX as u64;

/// A distribution of times in nanoseconds.
///
/// Up to [`Distribution::EXACT`] values are kept as they are; beyond, a histogram with three significant digits takes
/// their place. Count, sum, minimum and maximum are always exact. In whatever order values are recorded and
/// distributions merged, the result is the same.
#[derive(Clone, Debug, Default)]
pub struct Distribution {
    count: u64,
    sum: u128,
    min: u64,
    max: u64,
    values: Values,
}

#[derive(Clone, Debug)]
enum Values {
    Exact(Vec<u64>),
    Histogram(Box<Histogram<u64>>),
    /// A histogram as it arrived: values with how often each occurs. It takes no more memory than its bytes, and becomes a
    /// real one when something is added.
    Buckets(Vec<(u64, u64)>),
}

impl Default for Values {
    fn default() -> Self {
        Self::Exact(Vec::new())
    }
}

impl Distribution {
    /// Values that are kept exactly.
    pub const EXACT: usize = 10_000;

    /// Adds a value.
    pub fn record(&mut self, value: u64) {
        self.min = if self.count == 0 { value } else { self.min.min(value) };
        self.max = self.max.max(value);
        self.count = self.count.saturating_add(1);
        self.sum = self.sum.saturating_add(u128::from(value));
        match &mut self.values {
            Values::Exact(values) if values.len() < Self::EXACT => values.push(value),
            Values::Exact(_) | Values::Buckets(_) => add(self.histogram(), value, 1),
            Values::Histogram(histogram) => add(histogram, value, 1),
        }
    }

    /// Adds all values of another distribution.
    pub fn merge(&mut self, other: &Self) {
        match &other.values {
            Values::Exact(values) => values.iter().for_each(|&value| self.record(value)),
            Values::Histogram(histogram) => self.merge_buckets(other, buckets(histogram)),
            Values::Buckets(buckets) => self.merge_buckets(other, buckets.iter().copied()),
        }
    }

    fn merge_buckets(&mut self, other: &Self, buckets: impl IntoIterator<Item = (u64, u64)>) {
        self.min = if self.count == 0 { other.min } else { self.min.min(other.min) };
        self.max = self.max.max(other.max);
        self.count = self.count.saturating_add(other.count);
        self.sum = self.sum.saturating_add(other.sum);
        let own = self.histogram();
        buckets.into_iter().for_each(|(value, count)| add(own, value, count));
    }

    /// Number of values.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether every value is known as it was recorded.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        matches!(self.values, Values::Exact(_))
    }

    /// The sum of all values.
    #[must_use]
    pub fn sum(&self) -> u128 {
        self.sum
    }

    /// The smallest value; none if there is no value.
    #[must_use]
    pub fn min(&self) -> Option<u64> {
        (!self.is_empty()).then_some(self.min)
    }

    /// The largest value; none if there is no value.
    #[must_use]
    pub fn max(&self) -> Option<u64> {
        (!self.is_empty()).then_some(self.max)
    }

    /// The arithmetic mean; none if there is no value.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (!self.is_empty()).then(|| self.sum as f64 / self.count as f64)
    }

    /// The values at these percentiles (0 to 100), in their order; nothing if there is no value.
    ///
    /// Between two exact values Rally's linear interpolation applies, with the rank `p / 100 * (n - 1)`. A histogram
    /// gives its own value, which is within 0.1 % of the exact one.
    #[must_use]
    pub fn percentiles(&self, percentiles: &[f64]) -> Vec<f64> {
        match &self.values {
            _ if self.is_empty() => Vec::new(),
            Values::Exact(values) => {
                let mut sorted: Vec<f64> = values.iter().map(|&value| value as f64).collect();
                sorted.sort_unstable_by(f64::total_cmp);
                percentiles.iter().filter_map(|&percentile| interpolate(&sorted, percentile)).collect()
            }
            Values::Histogram(histogram) => {
                let at = |percentile: &f64| match *percentile {
                    percentile if percentile >= 100.0 => self.max,
                    percentile => histogram.value_at_percentile(percentile).clamp(self.min, self.max),
                };
                percentiles.iter().map(|percentile| at(percentile) as f64).collect()
            }
            Values::Buckets(_) => {
                let mut whole = self.clone();
                whole.histogram();
                whole.percentiles(percentiles)
            }
        }
    }

    /// The values of a histogram with how often each occurs; nothing of exact values.
    fn buckets(&self) -> Vec<(u64, u64)> {
        match &self.values {
            Values::Exact(_) => Vec::new(),
            Values::Histogram(histogram) => buckets(histogram),
            Values::Buckets(buckets) => buckets.clone(),
        }
    }

    /// The histogram, into which exact values are moved first.
    fn histogram(&mut self) -> &mut Histogram<u64> {
        if !matches!(self.values, Values::Histogram(_)) {
            let mut histogram = empty_histogram();
            match &self.values {
                Values::Exact(values) => values.iter().for_each(|&value| add(&mut histogram, value, 1)),
                Values::Buckets(buckets) => {
                    buckets.iter().for_each(|&(value, count)| add(&mut histogram, value, count))
                }
                Values::Histogram(_) => {}
            }
            self.values = Values::Histogram(Box::new(histogram));
        }
        match &mut self.values {
            Values::Histogram(histogram) => histogram,
            Values::Exact(_) | Values::Buckets(_) => unreachable!("the values were just moved into a histogram"),
        }
    }
}

/// The value at a percentile of sorted values, by linear interpolation; none if there is no value.
pub(super) fn interpolate(sorted: &[f64], percentile: f64) -> Option<f64> {
    let rank = percentile.clamp(0.0, 100.0) / 100.0 * (sorted.len().checked_sub(1)? as f64);
    let lower = sorted[rank.floor() as usize];
    let upper = sorted[rank.ceil() as usize];
    Some(lower + (upper - lower) * rank.fract())
}

fn empty_histogram() -> Histogram<u64> {
    Histogram::new(DIGITS).expect("three digits are allowed")
}

fn add(histogram: &mut Histogram<u64>, value: u64, count: u64) {
    histogram
        .record_n(value.min(LARGEST), count)
        .expect("a histogram that resizes itself takes every value up to LARGEST");
}

impl PartialEq for Distribution {
    fn eq(&self, other: &Self) -> bool {
        if (self.count, self.sum, self.min, self.max) != (other.count, other.sum, other.min, other.max) {
            return false;
        }
        match (&self.values, &other.values) {
            (Values::Exact(one), Values::Exact(other)) => {
                let (mut one, mut other) = (one.clone(), other.clone());
                one.sort_unstable();
                other.sort_unstable();
                one == other
            }
            (Values::Exact(_), _) | (_, Values::Exact(_)) => false,
            (_, _) => self.buckets() == other.buckets(),
        }
    }
}

/// The values of a histogram with how often each occurs.
fn buckets(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
    histogram.iter_recorded().map(|recorded| (recorded.value_iterated_to(), recorded.count_at_value())).collect()
}

/// A distribution on the wire.
#[derive(Serialize, Deserialize)]
enum Encoded {
    Exact(Vec<u64>),
    Histogram { sum: u128, min: u64, max: u64, buckets: Vec<(u64, u64)> },
}

impl Serialize for Distribution {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let encoded = match &self.values {
            Values::Exact(values) => Encoded::Exact(values.clone()),
            Values::Histogram(_) | Values::Buckets(_) => {
                Encoded::Histogram { sum: self.sum, min: self.min, max: self.max, buckets: self.buckets() }
            }
        };
        encoded.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Distribution {
    /// Never needs much more memory than the bytes it is read from.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let mut distribution = Self::default();
        match Encoded::deserialize(deserializer)? {
            Encoded::Exact(values) => values.into_iter().for_each(|value| distribution.record(value)),
            Encoded::Histogram { sum, min, max, buckets } => {
                if min > max {
                    return Err(Error::custom("the minimum of a distribution is larger than its maximum"));
                }
                for (_, count) in &buckets {
                    distribution.count = distribution
                        .count
                        .checked_add(*count)
                        .ok_or_else(|| Error::custom("a distribution has more values than can be counted"))?;
                }
                if distribution.count <= Self::EXACT as u64 {
                    return Err(Error::custom("a histogram has so few values that they would be exact"));
                }
                (distribution.sum, distribution.min, distribution.max) = (sum, min, max);
                distribution.values = Values::Buckets(buckets);
            }
        }
        Ok(distribution)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: impl IntoIterator<Item = u64>) -> Distribution {
        let mut distribution = Distribution::default();
        values.into_iter().for_each(|value| distribution.record(value));
        distribution
    }

    #[test]
    fn percentiles_of_few_values_are_interpolated_as_rally_does() {
        let distribution = of([40, 10, 30, 20]);
        assert_eq!(distribution.percentiles(&[0.0, 50.0, 90.0, 100.0]), [10.0, 25.0, 37.0, 40.0]);
        assert_eq!(of([7]).percentiles(&[50.0, 99.99]), [7.0, 7.0]);
        assert_eq!(of([]).percentiles(&[50.0]), [0.0; 0]);
    }

    #[test]
    fn percentiles_of_many_values_are_within_a_thousandth() {
        let distribution = of((1..=100_000).map(|value| value * 1_000));
        assert!(!distribution.is_exact());
        assert_eq!((distribution.min(), distribution.max()), (Some(1_000), Some(100_000_000)));
        assert_eq!(distribution.mean(), Some(50_000_500.0));
        for (percentile, expected) in [(50.0, 5e7), (99.0, 9.9e7), (99.99, 9.999e7), (100.0, 1e8)] {
            let found = distribution.percentiles(&[percentile])[0];
            assert!((found - expected).abs() <= expected / 1_000.0, "{percentile}: {found}");
        }
    }

    #[test]
    fn contradictory_histograms_are_refused() {
        for encoded in [
            Encoded::Histogram { sum: 0, min: 2, max: 1, buckets: vec![(1, 20_000)] },
            Encoded::Histogram { sum: 0, min: 0, max: 1, buckets: vec![(1, u64::MAX), (2, 1)] },
            Encoded::Histogram { sum: 0, min: 0, max: 1, buckets: vec![(1, 1)] },
        ] {
            let bytes = postcard::to_stdvec(&encoded).unwrap();
            assert!(postcard::from_bytes::<Distribution>(&bytes).is_err());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn merged_shards_equal_all_values_recorded_in_one(
            values in prop::collection::vec(any::<u64>(), 0..25_000), shards in 1_usize..7,
        ) {
            let parts: Vec<Distribution> =
                (0..shards).map(|shard| of(values.iter().copied().skip(shard).step_by(shards))).collect();
            let merge = |parts: &mut dyn Iterator<Item = &Distribution>| {
                parts.fold(Distribution::default(), |mut all, part| { all.merge(part); all })
            };
            let all = of(values);
            prop_assert_eq!(&merge(&mut parts.iter()), &all);
            prop_assert_eq!(&merge(&mut parts.iter().rev()), &all);
            let bytes = postcard::to_stdvec(&all).unwrap();
            prop_assert_eq!(&postcard::from_bytes::<Distribution>(&bytes).unwrap(), &all);
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = postcard::from_bytes::<Distribution>(&bytes);
        }
    }
}
