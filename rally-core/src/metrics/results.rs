//! The results of a race, as Rally's race document has them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::distribution::interpolate;
use super::{ClusterResults, Distribution, ReportedThroughput, SampleType, ThroughputValue};
use crate::track::JsonObject;

const NANOS_PER_MILLI: f64 = 1e6;

/// What a race found out: the `results` of Rally's race document.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// The cluster under test.
    pub cluster_name: String,
    /// By task, in the order of the schedule.
    pub op_metrics: Vec<OperationMetrics>,
    /// Of the cluster under test as a whole.
    #[serde(flatten)]
    pub cluster: ClusterResults,
}

/// What one task found out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OperationMetrics {
    /// The task.
    pub task: String,
    /// Its operation.
    pub operation: String,
    /// Its throughput.
    pub throughput: ThroughputSummary,
    /// Latencies in milliseconds.
    pub latency: Percentiles,
    /// Service times in milliseconds.
    pub service_time: Percentiles,
    /// Processing times in milliseconds.
    pub processing_time: Percentiles,
    /// Failed samples as a share of all, from 0 to 1.
    pub error_rate: f64,
    /// From the start of the task to its last answer, in milliseconds.
    pub duration: f64,
    /// The metadata of track, challenge, operation and task.
    pub meta: JsonObject,
}

/// The throughput of a task over time; nothing is known if the mean or the median is missing or zero.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ThroughputSummary {
    /// The smallest value.
    pub min: Option<f64>,
    /// The mean.
    pub mean: Option<f64>,
    /// The median.
    pub median: Option<f64>,
    /// The largest value.
    pub max: Option<f64>,
    /// Such as `docs/s`.
    pub unit: String,
}

impl ThroughputSummary {
    /// Summarizes what runners reported. Mean, minimum and maximum are those of all values; the median is that of the means of
    /// seconds, which are the values themselves where a second has one.
    #[must_use]
    pub fn of_reported<'a>(seconds: impl Iterator<Item = &'a ReportedThroughput> + Clone, unit: &str) -> Self {
        let values: Vec<_> = seconds.clone().map(|second| ThroughputValue::reported(*second)).collect();
        let summary = Self::new(&values, unit);
        if summary.mean.is_none() {
            return summary;
        }
        let count: f64 = seconds.clone().map(|second| second.count as f64).sum();
        Self {
            min: seconds.clone().map(|second| second.min).min_by(f64::total_cmp),
            mean: Some(seconds.clone().map(|second| second.sum).sum::<f64>() / count.max(1.0)),
            max: seconds.map(|second| second.max).max_by(f64::total_cmp),
            ..summary
        }
    }

    /// Summarizes the normal values.
    #[must_use]
    pub fn new(values: &[ThroughputValue], unit: &str) -> Self {
        let mut sorted: Vec<f64> =
            values.iter().filter(|value| value.sample_type == SampleType::Normal).map(|value| value.value).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let mean = sorted.iter().sum::<f64>() / sorted.len().max(1) as f64;
        let unit = format!("{unit}/s");
        match interpolate(&sorted, 50.0) {
            Some(median) if median != 0.0 && mean != 0.0 => Self {
                min: sorted.first().copied(),
                mean: Some(mean),
                median: Some(median),
                max: sorted.last().copied(),
                unit,
            },
            Some(_) | None => Self { unit, ..Self::default() },
        }
    }
}

/// The median of values in any order; none if there is no value.
pub(super) fn interpolate_median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    interpolate(&sorted, 50.0)
}

/// Percentiles of times in milliseconds, and their mean.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// By percentile as decimal text with an underscore: `50_0`, `99_9`.
    #[serde(flatten)]
    pub values: BTreeMap<String, f64>,
    /// The mean; none if there is no sample.
    pub mean: Option<f64>,
    /// Always `ms`.
    pub unit: String,
}

impl Percentiles {
    /// The percentiles that so many samples can tell, by Rally's choice.
    #[must_use]
    pub fn choice(samples: u64) -> &'static [f64] {
        const ALL: [f64; 6] = [100.0, 50.0, 90.0, 99.0, 99.9, 99.99];
        match samples {
            0 => &[],
            1 => &ALL[..1],
            2..10 => &ALL[..2],
            10..100 => &ALL[..3],
            100..1_000 => &ALL[..4],
            1_000..10_000 => &ALL[..5],
            10_000.. => &ALL,
        }
    }

    /// Summarizes times in nanoseconds.
    #[must_use]
    pub fn new(times: &Distribution) -> Self {
        let choice = Self::choice(times.count());
        let keys = choice.iter().map(|percentile| format!("{percentile:?}").replace('.', "_"));
        let values = times.percentiles(choice).into_iter().map(|nanos| nanos / NANOS_PER_MILLI);
        Self {
            values: keys.zip(values).collect(),
            mean: times.mean().map(|nanos| nanos / NANOS_PER_MILLI),
            unit: "ms".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentiles_depend_on_the_number_of_samples() {
        for (samples, expected) in [
            (0, vec![]),
            (1, vec!["100_0"]),
            (9, vec!["100_0", "50_0"]),
            (99, vec!["100_0", "50_0", "90_0"]),
            (999, vec!["100_0", "50_0", "90_0", "99_0"]),
            (9_999, vec!["100_0", "50_0", "90_0", "99_0", "99_9"]),
            (10_000, vec!["100_0", "50_0", "90_0", "99_0", "99_9", "99_99"]),
        ] {
            let mut times = Distribution::default();
            (0..samples).for_each(|time| times.record(time));
            assert_eq!(Percentiles::new(&times).values.into_keys().collect::<Vec<_>>(), expected, "{samples}");
        }
    }

    #[test]
    fn a_throughput_of_zero_is_no_throughput() {
        let value = |value| ThroughputValue { at: 1, value, sample_type: SampleType::Normal };
        let summary = ThroughputSummary::new(&[value(0.0)], "docs");
        assert_eq!(summary, ThroughputSummary { unit: "docs/s".to_owned(), ..ThroughputSummary::default() });
        let summary = ThroughputSummary::new(&[value(30.0), value(10.0), value(11.0)], "docs");
        assert_eq!(
            (summary.min, summary.mean, summary.median, summary.max),
            (Some(10.0), Some(17.0), Some(11.0), Some(30.0))
        );
    }
}
