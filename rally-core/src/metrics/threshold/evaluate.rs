//! Thresholds against what was measured.

use serde::{Deserialize, Serialize};

use super::{Aggregate, Threshold, ThresholdMetric, ThresholdTask, ThresholdUnit, TimeKind, TimeValue};
use crate::metrics::{Distribution, ThroughputSummary};

/// What became of a threshold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ThresholdOutcome {
    /// The condition.
    pub threshold: Threshold,
    /// By task, in the order of the schedule: one, or all of them.
    pub tasks: Vec<ThresholdStanding>,
}

/// What became of a threshold for one task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ThresholdStanding {
    /// The task.
    pub task: String,
    /// The value in the unit of the threshold; none if the race has none, which fails it, too.
    pub value: Option<f64>,
    /// What the task counts, for throughput.
    pub unit: String,
    /// Whether the race counts as failed by it.
    pub failed: bool,
}

/// What a threshold may ask of a task.
pub(in crate::metrics) struct Measured<'a> {
    pub(in crate::metrics) throughput: ThroughputSummary,
    pub(in crate::metrics) latency: &'a Distribution,
    pub(in crate::metrics) service_time: &'a Distribution,
    pub(in crate::metrics) processing_time: &'a Distribution,
    /// None without a sample that counts.
    pub(in crate::metrics) error_rate: Option<f64>,
    /// Milliseconds.
    pub(in crate::metrics) duration: f64,
}

const NANOS_PER_MILLI: f64 = 1e6;

impl Threshold {
    /// Whether it is about this task.
    #[must_use]
    pub fn is_about(&self, task: &str) -> bool {
        match &self.task {
            ThresholdTask::Every => true,
            ThresholdTask::Named(name) => name == task,
        }
    }

    pub(in crate::metrics) fn standing(&self, task: &str, measured: Option<&Measured<'_>>) -> ThresholdStanding {
        let value = measured.and_then(|it| self.value(it)).map(|value| value / self.unit.factor());
        let failed = value.is_none_or(|value| self.operator.holds(value, self.limit));
        let unit = measured.map(|it| it.throughput.unit.clone()).unwrap_or_default();
        ThresholdStanding { task: task.to_owned(), value, unit, failed }
    }

    fn value(&self, it: &Measured<'_>) -> Option<f64> {
        match self.metric {
            ThresholdMetric::Throughput(aggregate) => {
                if let ThresholdUnit::PerSecond(what) = &self.unit
                    && !what.is_empty()
                    && it.throughput.unit != self.unit.to_string()
                {
                    return None;
                }
                match aggregate {
                    Aggregate::Min => it.throughput.min,
                    Aggregate::Mean => it.throughput.mean,
                    Aggregate::Median => it.throughput.median,
                    Aggregate::Max => it.throughput.max,
                }
            }
            ThresholdMetric::Time(kind, value) => {
                let times = match kind {
                    TimeKind::Latency => it.latency,
                    TimeKind::ServiceTime => it.service_time,
                    TimeKind::ProcessingTime => it.processing_time,
                };
                let nanos = match value {
                    TimeValue::Percentile(percentile) => times.percentiles(&[percentile]).first().copied(),
                    TimeValue::Mean => times.mean(),
                    TimeValue::Min => times.min().map(|nanos| nanos as f64),
                    TimeValue::Max => times.max().map(|nanos| nanos as f64),
                };
                nanos.map(|nanos| nanos / NANOS_PER_MILLI)
            }
            ThresholdMetric::ErrorRate => it.error_rate,
            ThresholdMetric::Duration => Some(it.duration),
        }
    }
}

impl ThresholdOutcome {
    /// Whether the race counts as failed by it. One that is about no task with results does, since nobody can say that
    /// it holds.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.tasks.is_empty() || self.tasks.iter().any(|standing| standing.failed)
    }

    /// What the failure comes from, as sentences; nothing if it did not fail.
    #[must_use]
    pub fn reasons(&self) -> Vec<String> {
        let Threshold { metric, unit, .. } = &self.threshold;
        if self.tasks.is_empty() {
            return vec!["no task has results".to_owned()];
        }
        let failed = self.tasks.iter().filter(|standing| standing.failed);
        let reason = |standing: &ThresholdStanding| {
            let ThresholdStanding { task, value, unit: counted, .. } = standing;
            match (value, metric) {
                (Some(value), ThresholdMetric::Throughput(_)) => {
                    format!("{metric} of task `{task}` is {} {counted}", shown(*value))
                }
                (Some(value), ThresholdMetric::Time(..) | ThresholdMetric::Duration)
                    if *unit == ThresholdUnit::None =>
                {
                    format!("{metric} of task `{task}` is {} ms", shown(*value))
                }
                (Some(value), _) => format!("{metric} of task `{task}` is {} {unit}", shown(*value)),
                (None, ThresholdMetric::Throughput(_)) if !counted.is_empty() => {
                    format!("task `{task}` has no {metric} in {unit}; it counts {counted}")
                }
                (None, _) => format!("task `{task}` has no {metric}"),
            }
        };
        failed.map(|standing| reason(standing).trim_end().to_owned()).collect()
    }
}

fn shown(value: f64) -> String {
    // Enough to tell it from the limit, and not more than anybody reads.
    let digits = if value.abs() >= 100.0 { 1 } else { 3 };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(threshold: &str, measured: Option<&Measured<'_>>) -> (Option<f64>, bool) {
        let standing = threshold.parse::<Threshold>().unwrap().standing("t", measured);
        (standing.value.map(|value| (value * 1e3).round() / 1e3), standing.failed)
    }

    #[test]
    fn every_metric_is_compared_in_the_unit_of_its_limit() {
        let mut times = Distribution::default();
        (1..=101).for_each(|millis| times.record(millis * 1_000_000));
        let none = Distribution::default();
        let unit = "docs/s".to_owned();
        let measured = Measured {
            throughput: ThroughputSummary { min: Some(1.0), mean: Some(2.0), median: Some(3.0), max: Some(4.0), unit },
            latency: &times,
            service_time: &times,
            processing_time: &none,
            error_rate: Some(0.02),
            duration: 90_000.0,
        };
        for (threshold, value, failed) in [
            ("t.throughput.min < 2", Some(1.0), true),
            ("t.throughput.mean < 2/s", Some(2.0), false),
            ("t.throughput.median <= 3docs/s", Some(3.0), true),
            ("t.throughput.max > 5 docs/s", Some(4.0), false),
            ("t.throughput.max > 5 MB/s", None, true),
            ("t.latency.p50 > 50ms", Some(51.0), true),
            ("t.latency.p50 > 0.051s", Some(0.051), false),
            ("t.latency.p99.5 >= 100.5ms", Some(100.5), true),
            ("t.latency.p100 > 101000us", Some(101_000.0), false),
            ("t.service_time.mean > 50ms", Some(51.0), true),
            ("t.service_time.min < 2ms", Some(1.0), true),
            ("t.service_time.max < 0.1min", Some(0.002), true),
            ("t.processing_time.p99 > 1min", None, true),
            ("t.error_rate > 1%", Some(2.0), true),
            ("t.error_rate > 2%", Some(2.0), false),
            ("t.error_rate > 0", Some(0.02), true),
            ("t.duration > 1.5min", Some(1.5), false),
            ("t.duration >= 90s", Some(90.0), true),
        ] {
            assert_eq!(standing(threshold, Some(&measured)), (value, failed), "{threshold}");
        }
        assert_eq!(standing("t.duration > 1s", None), (None, true));
    }

    #[test]
    fn a_failure_says_what_was_measured() {
        let outcome = |threshold: &str, value, unit: &str| {
            let standing = ThresholdStanding { task: "t".to_owned(), value, unit: unit.to_owned(), failed: true };
            ThresholdOutcome { threshold: threshold.parse().unwrap(), tasks: vec![standing] }.reasons().join("")
        };
        assert_eq!(outcome("*.latency.p99 > 1ms", Some(3.25), "ops/s"), "latency.p99 of task `t` is 3.250 ms");
        assert_eq!(outcome("t.duration > 0", Some(5.0), "ops/s"), "duration of task `t` is 5.000 ms");
        assert_eq!(outcome("t.error_rate > 0", Some(0.5), "ops/s"), "error_rate of task `t` is 0.500");
        assert_eq!(
            outcome("t.throughput.min < 9", Some(123.456), "docs/s"),
            "throughput.min of task `t` is 123.5 docs/s"
        );
        assert_eq!(
            outcome("t.throughput.min < 9MB/s", None, "docs/s"),
            "task `t` has no throughput.min in MB/s; it counts docs/s"
        );
        let nothing = ThresholdOutcome { threshold: "*.error_rate > 0".parse().unwrap(), tasks: Vec::new() };
        assert!(nothing.failed());
        assert_eq!(nothing.reasons(), ["no task has results"]);
    }
}
