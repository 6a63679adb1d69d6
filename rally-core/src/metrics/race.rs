//! What all drivers of a race measured, added up.

use std::collections::BTreeMap;

use super::threshold::Measured;
use super::{
    ClusterResults, Distribution, DriverFindings, ErrorCount, Interval, Ledger, OperationMetrics, Percentiles, Results,
    SampleType, TaskErrors, TaskInterval, TelemetryTotals, Threshold, ThresholdOutcome, ThresholdTask, Throughput,
    ThroughputSummary, ThroughputValue,
};
use crate::allocation::TaskIndex;
use crate::track::{Challenge, JsonObject, Task, Track};

/// Error classes of a task that are told apart; what a peer sends beyond is not kept.
const MAX_ERROR_CLASSES: usize = 100;

/// Clusters that are told apart; what a peer sends of others is only part of the whole.
const MAX_CLUSTERS: usize = 64;

/// Adds up the intervals of all drivers of a race.
///
/// Its memory grows with tasks, drivers and seconds, not with requests.
#[derive(Clone, Debug, Default)]
pub struct RaceMetrics {
    drivers: BTreeMap<String, DriverTotals>,
    tasks: Tasks,
    /// The same for each cluster, if several are loaded at the same time.
    clusters: BTreeMap<String, Tasks>,
    telemetry: TelemetryTotals,
}

type Tasks = BTreeMap<TaskIndex, TaskTotals>;

/// What became of an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntervalStanding {
    /// It was added.
    Added,
    /// It was there before and changed nothing.
    Duplicate,
    /// It was added; this many intervals before it never arrived.
    AfterGap(u64),
}

#[derive(Clone, Debug, Default)]
struct DriverTotals {
    last: u64,
    missing: u64,
    ledger: Ledger,
    arrived: u64,
    intervals: u64,
    saturated: u64,
    reason: Option<String>,
}

#[derive(Clone, Debug, Default)]
struct TaskTotals {
    service_time: Distribution,
    processing_time: Distribution,
    latency: Distribution,
    samples: u64,
    failed: u64,
    unit: String,
    throughput: Throughput,
    /// By nanoseconds since the start of the step.
    reported: Vec<(u64, f64)>,
    errors: Vec<ErrorCount>,
    /// Nanoseconds, warm-up included.
    duration: u64,
}

impl RaceMetrics {
    /// Adds an interval of a driver, once. The intervals of one driver come in the order of their numbers.
    pub fn add(&mut self, driver: &str, interval: &Interval) -> IntervalStanding {
        let totals = self.drivers.entry(driver.to_owned()).or_default();
        let Some(gap) = interval.number.checked_sub(totals.last).and_then(|ahead| ahead.checked_sub(1)) else {
            return IntervalStanding::Duplicate;
        };
        totals.last = interval.number;
        totals.missing = totals.missing.saturating_add(gap);
        totals.ledger = interval.ledger;
        totals.intervals = totals.intervals.saturating_add(1);
        if let Some(reason) = &interval.health.saturated {
            totals.saturated = totals.saturated.saturating_add(1);
            totals.reason = Some(reason.clone());
        }
        // Times of inner operations are part of the samples of the raw segments only.
        for part in interval.tasks.iter().filter(|part| part.inner.is_none()) {
            totals.arrived = totals.arrived.saturating_add(part.samples);
            self.tasks.entry(part.task).or_default().add(part);
            if let Some(cluster) = &part.cluster
                && (self.clusters.contains_key(cluster) || self.clusters.len() < MAX_CLUSTERS)
            {
                self.clusters.entry(cluster.clone()).or_default().entry(part.task).or_default().add(part);
            }
        }
        if gap == 0 { IntervalStanding::Added } else { IntervalStanding::AfterGap(gap) }
    }

    /// Drivers with what does not balance: samples that were made but did not arrive, and intervals that are missing.
    pub fn unbalanced(&self) -> impl Iterator<Item = (&str, u64, u64)> {
        self.drivers.iter().filter_map(|(driver, totals)| {
            let lost = totals.ledger.made.saturating_sub(totals.arrived);
            (lost > 0 || totals.missing > 0).then_some((driver.as_str(), lost, totals.missing))
        })
    }

    /// Adds the record of a telemetry device.
    pub fn add_telemetry(&mut self, record: &serde_json::Value) {
        self.telemetry.add(record);
    }

    /// How each driver did, by name.
    #[must_use]
    pub fn drivers(&self) -> Vec<DriverFindings> {
        let findings = |(driver, totals): (&String, &DriverTotals)| DriverFindings {
            driver: driver.clone(),
            intervals: totals.intervals,
            saturated: totals.saturated,
            reason: totals.reason.clone(),
            lost: totals.ledger.made.saturating_sub(totals.arrived),
            unwritten: totals.ledger.unwritten,
        };
        self.drivers.iter().map(findings).collect()
    }

    /// The errors of all tasks of a challenge that had some, in the order of the schedule.
    #[must_use]
    pub fn task_errors(&self, challenge: &Challenge) -> Vec<TaskErrors> {
        let errors = |(index, task): (usize, &Task)| {
            let errors = self.errors(TaskIndex(index as u32));
            (!errors.is_empty()).then(|| TaskErrors { task: task.name.clone(), errors: errors.to_vec() })
        };
        challenge.tasks().enumerate().filter_map(errors).collect()
    }

    /// The throughput of a task over time, with what it is counted in.
    #[must_use]
    pub fn throughput(&self, task: TaskIndex) -> (Vec<ThroughputValue>, &str) {
        self.tasks.get(&task).map_or((Vec::new(), ""), |totals| (totals.throughput(), &totals.unit))
    }

    /// The throughput of a task over time against each cluster by its name, if several were loaded at the same time.
    #[must_use]
    pub fn throughput_by_cluster(&self, task: TaskIndex) -> Vec<(&str, Vec<ThroughputValue>)> {
        let clusters = self.clusters.iter();
        clusters.filter_map(|(name, tasks)| Some((name.as_str(), tasks.get(&task)?.throughput()))).collect()
    }

    /// The errors of a task by class, warm-up included.
    #[must_use]
    pub fn errors(&self, task: TaskIndex) -> &[ErrorCount] {
        self.tasks.get(&task).map_or(&[], |totals| &totals.errors)
    }

    /// What becomes of a threshold by what was measured. A threshold for every task is about those that have a value.
    #[must_use]
    pub fn threshold_outcome(&self, challenge: &Challenge, threshold: &Threshold) -> ThresholdOutcome {
        let standing = |(index, task): (usize, &Task)| {
            let measured = self.tasks.get(&TaskIndex(index as u32)).map(TaskTotals::measured);
            threshold.standing(&task.name, measured.as_ref())
        };
        let tasks = challenge.tasks().enumerate().filter(|(_, task)| threshold.is_about(&task.name)).map(standing);
        let tasks = tasks.filter(|standing| threshold.task != ThresholdTask::Every || standing.value.is_some());
        ThresholdOutcome { threshold: threshold.clone(), tasks: tasks.collect() }
    }

    /// The results by task, in the order of the schedule.
    ///
    /// A task without any sample is left out, and so is one whose operation is not to be reported and never failed.
    #[must_use]
    pub fn results(&self, track: &Track, challenge: &Challenge) -> Results {
        let op_metrics = operation_metrics(&self.tasks, track, challenge);
        Results { cluster_name: "default".to_owned(), op_metrics, cluster: self.telemetry.results() }
    }

    /// The results of each cluster by name, if several were loaded at the same time: those of tasks alone.
    #[must_use]
    pub fn results_by_cluster(&self, track: &Track, challenge: &Challenge) -> Vec<Results> {
        let results = |(name, tasks): (&String, &Tasks)| {
            let op_metrics = operation_metrics(tasks, track, challenge);
            Results { cluster_name: name.clone(), op_metrics, cluster: ClusterResults::default() }
        };
        self.clusters.iter().map(results).collect()
    }
}

/// The metadata of track, challenge, operation and task, of which the last one prevails.
#[must_use]
pub fn task_meta(track: &Track, challenge: &Challenge, task: &Task) -> JsonObject {
    let all = [&track.meta, &challenge.meta, &task.operation.meta, &task.meta];
    all.into_iter().flat_map(Clone::clone).collect()
}

fn operation_metrics(tasks: &Tasks, track: &Track, challenge: &Challenge) -> Vec<OperationMetrics> {
    let tasks = challenge.tasks().enumerate().filter_map(|(index, task)| {
        let totals = tasks.get(&TaskIndex(index as u32))?;
        let error_rate = totals.error_rate().unwrap_or_default();
        if !task.operation.include_in_reporting() && error_rate == 0.0 {
            return None;
        }
        Some(OperationMetrics {
            task: task.name.clone(),
            operation: task.operation.name.clone(),
            throughput: ThroughputSummary::new(&totals.throughput(), &totals.unit),
            latency: Percentiles::new(&totals.latency),
            service_time: Percentiles::new(&totals.service_time),
            processing_time: Percentiles::new(&totals.processing_time),
            error_rate,
            duration: totals.duration as f64 / 1e6,
            meta: task_meta(track, challenge, task),
        })
    });
    tasks.collect()
}

impl TaskTotals {
    fn add(&mut self, part: &TaskInterval) {
        self.duration = self.duration.max(part.duration);
        part.throughput.iter().for_each(|&bin| self.throughput.add(part.sample_type, bin));
        for error in &part.errors {
            if let Some(known) = self.errors.iter_mut().find(|known| known.class == error.class) {
                known.count = known.count.saturating_add(error.count);
            } else if self.errors.len() < MAX_ERROR_CLASSES {
                self.errors.push(error.clone());
            }
        }
        if !part.unit.is_empty() {
            self.unit.clone_from(&part.unit);
        }
        if part.sample_type == SampleType::Normal {
            self.service_time.merge(&part.service_time);
            self.processing_time.merge(&part.processing_time);
            self.latency.merge(&part.latency);
            self.samples = self.samples.saturating_add(part.samples);
            self.failed = self.failed.saturating_add(part.failed);
            self.reported.extend(&part.reported_throughput);
        }
    }

    fn error_rate(&self) -> Option<f64> {
        (self.samples > 0).then(|| self.failed as f64 / self.samples as f64)
    }

    fn measured(&self) -> Measured<'_> {
        Measured {
            throughput: ThroughputSummary::new(&self.throughput(), &self.unit),
            latency: &self.latency,
            service_time: &self.service_time,
            processing_time: &self.processing_time,
            error_rate: self.error_rate(),
            duration: self.duration as f64 / 1e6,
        }
    }

    fn throughput(&self) -> Vec<ThroughputValue> {
        if self.reported.is_empty() {
            return self.throughput.values();
        }
        let value = |&(at, value): &(u64, f64)| ThroughputValue { at, value, sample_type: SampleType::Normal };
        self.reported.iter().map(value).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(number: u64, made: u64, samples: u64) -> Interval {
        let times = || {
            let mut times = Distribution::default();
            (0..samples).for_each(|time| times.record(time));
            times
        };
        let part = TaskInterval {
            task: TaskIndex(0),
            cluster: None,
            inner: None,
            sample_type: SampleType::Normal,
            service_time: times(),
            processing_time: times(),
            latency: times(),
            samples,
            failed: 1,
            unit: "docs".to_owned(),
            throughput: Vec::new(),
            reported_throughput: Vec::new(),
            errors: vec![ErrorCount { class: "timeout".to_owned(), count: 1, example: "slow".to_owned() }],
            duration: number,
        };
        Interval { number, tasks: vec![part], ledger: Ledger { made, ..Ledger::default() }, ..Interval::default() }
    }

    #[test]
    fn an_interval_counts_once_and_a_missing_one_is_named() {
        let mut metrics = RaceMetrics::default();
        assert_eq!(metrics.add("a", &interval(1, 10, 10)), IntervalStanding::Added);
        assert_eq!(metrics.add("a", &interval(1, 10, 10)), IntervalStanding::Duplicate);
        assert_eq!(metrics.add("b", &interval(1, 10, 10)), IntervalStanding::Added);
        assert_eq!(metrics.add("a", &interval(3, 30, 10)), IntervalStanding::AfterGap(1));
        assert_eq!(metrics.unbalanced().collect::<Vec<_>>(), [("a", 10, 1)]);
        assert_eq!(metrics.errors(TaskIndex(0))[0].count, 3);
        assert_eq!(metrics.tasks[&TaskIndex(0)].service_time.count(), 30);
    }

    #[test]
    fn each_of_several_clusters_has_results_of_its_own_beside_those_of_all() {
        let operation = crate::track::Operation::builder("search");
        let challenge = Challenge::builder("c").default_challenge().task(Task::builder(operation));
        let track = Track::builder("t").challenge(challenge).build().unwrap();
        let challenge = track.challenge("c").unwrap();
        let mut metrics = RaceMetrics::default();
        for (number, cluster, samples) in [(1, "a", 10), (2, "b", 4), (3, "a", 10)] {
            let mut interval = interval(number, 24, samples);
            interval.tasks[0].cluster = Some(cluster.to_owned());
            metrics.add("d", &interval);
        }
        assert_eq!(metrics.results(&track, challenge).op_metrics[0].error_rate, 3.0 / 24.0);
        let by_cluster = metrics.results_by_cluster(&track, challenge);
        let rates: Vec<_> =
            by_cluster.iter().map(|it| (it.cluster_name.as_str(), it.op_metrics[0].error_rate)).collect();
        assert_eq!(rates, [("a", 2.0 / 20.0), ("b", 1.0 / 4.0)]);
        let throughput = metrics.throughput_by_cluster(TaskIndex(0));
        assert_eq!(throughput.iter().map(|(cluster, _)| *cluster).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(metrics.throughput_by_cluster(TaskIndex(1)), []);
    }

    #[test]
    fn throughput_that_runners_report_takes_the_place_of_the_computed_one_and_counts_from_the_start_of_the_step() {
        let mut metrics = RaceMetrics::default();
        let mut reporting = interval(1, 10, 10);
        reporting.tasks[0].reported_throughput = vec![(2_000_000_000, 50.0)];
        metrics.add("a", &reporting);
        let expected = ThroughputValue { at: 2_000_000_000, value: 50.0, sample_type: SampleType::Normal };
        assert_eq!(metrics.throughput(TaskIndex(0)), (vec![expected], "docs"));
    }
}
