//! What a race looks like while it runs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::DriverIndex;
use crate::metrics::{Distribution, Interval, SampleType, TaskProgress};
use crate::{LivePercentiles, RunningTask, TaskIndex, TaskStatus};

/// How the tasks of the current step do, from the intervals of all drivers.
#[derive(Debug, Default)]
pub(super) struct Progress {
    tasks: BTreeMap<TaskIndex, LiveTask>,
    /// Who has reported since the last report.
    heard: BTreeSet<DriverIndex>,
    /// Who had before it.
    expected: BTreeSet<DriverIndex>,
}

#[derive(Debug, Default)]
struct LiveTask {
    /// The last word of each driver.
    done: BTreeMap<DriverIndex, TaskProgress>,
    is_normal: bool,
    samples: u64,
    failed: u64,
    unit: String,
    /// Since the last report.
    recent: Work,
    /// Since the start of the step, without `recent`.
    before: Work,
}

/// Work of all drivers in some time.
#[derive(Debug, Default)]
struct Work {
    weight: u64,
    service_time: Distribution,
}

impl Progress {
    /// Begins a step.
    pub(super) fn step(&mut self, tasks: &[RunningTask]) {
        let tasks = tasks.iter().map(|running| (running.task, LiveTask::default())).collect();
        *self = Self { tasks, ..Self::default() };
    }

    pub(super) fn record(&mut self, driver: DriverIndex, interval: &Interval) {
        self.heard.insert(driver);
        for part in &interval.tasks {
            let Some(live) = self.tasks.get_mut(&part.task).filter(|_| part.inner.is_none()) else { continue };
            live.is_normal |= part.sample_type == SampleType::Normal;
            live.samples = live.samples.saturating_add(part.samples);
            live.failed = live.failed.saturating_add(part.failed);
            // There is none if all requests failed.
            if !part.unit.is_empty() {
                live.unit.clone_from(&part.unit);
            }
            let weight = &mut live.recent.weight;
            *weight = part.throughput.iter().fold(*weight, |weight, bin| weight.saturating_add(bin.weight));
            live.recent.service_time.merge(&part.service_time);
        }
        for progress in &interval.progress {
            if let Some(live) = self.tasks.get_mut(&progress.task) {
                live.done.insert(driver, *progress);
            }
        }
    }

    /// Whether all drivers that reported lately have done so again. Reports that come one after the other would show the
    /// work of different spans of time as if they were one.
    pub(super) fn is_complete(&self) -> bool {
        !self.heard.is_empty() && self.heard.is_superset(&self.expected)
    }

    /// The status of all tasks; rates and times are of the `seconds` since it was asked for last.
    pub(super) fn report(&mut self, seconds: f64) -> Vec<TaskStatus> {
        self.expected = std::mem::take(&mut self.heard);
        let report = |(&task, live): (&TaskIndex, &mut LiveTask)| {
            let recent = std::mem::take(&mut live.recent);
            let status = live.status(task, &recent, seconds);
            live.before.add(recent);
            status
        };
        self.tasks.iter_mut().map(report).collect()
    }

    /// The status of all tasks at the end of the step; rates and times are of the `seconds` that it took.
    pub(super) fn conclude(&mut self, seconds: f64) -> Vec<TaskStatus> {
        let report = |(&task, live): (&TaskIndex, &mut LiveTask)| {
            let mut all = std::mem::take(&mut live.before);
            all.add(std::mem::take(&mut live.recent));
            live.status(task, &all, seconds)
        };
        self.tasks.iter_mut().map(report).collect()
    }
}

impl LiveTask {
    fn status(&self, task: TaskIndex, work: &Work, seconds: f64) -> TaskStatus {
        TaskStatus {
            task,
            done: self.done(),
            sample_type: if self.is_normal { SampleType::Normal } else { SampleType::Warmup },
            samples: self.samples,
            failed: self.failed,
            throughput: work.weight as f64 / seconds,
            unit: self.unit.clone(),
            service_time: live_percentiles(&work.service_time),
        }
    }

    /// The mean over all clients whose progress is known.
    fn done(&self) -> Option<f64> {
        let known = || self.done.values().filter_map(|it| Some((it.done?, f64::from(it.clients))));
        let clients: f64 = known().map(|(_, clients)| clients).sum();
        (clients > 0.0).then(|| known().map(|(done, clients)| done * clients).sum::<f64>() / clients)
    }
}

impl Work {
    fn add(&mut self, other: Self) {
        self.weight = self.weight.saturating_add(other.weight);
        if self.service_time.is_empty() {
            self.service_time = other.service_time;
        } else {
            self.service_time.merge(&other.service_time);
        }
    }
}

fn live_percentiles(times: &Distribution) -> Option<LivePercentiles> {
    match times.percentiles(&[50.0, 90.0, 99.0])[..] {
        [p50, p90, p99] => {
            let [p50, p90, p99] = [p50, p90, p99].map(|nanos| Duration::from_nanos(nanos as u64));
            Some(LivePercentiles { p50, p90, p99 })
        }
        // There is no value.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{TaskInterval, ThroughputBin};
    use crate::race::tests::empty_task;

    const TASK: TaskIndex = TaskIndex(3);

    /// An interval with requests that took these milliseconds.
    fn interval(millis: &[u64], done: f64) -> Interval {
        let mut service_time = Distribution::default();
        millis.iter().for_each(|millis| service_time.record(millis * 1_000_000));
        let weight = 10 * millis.len() as u64;
        let bin = ThroughputBin { second: 0, first: 0, first_weight: 10, last: 0, weight, task_start: 0 };
        let part = TaskInterval {
            task: TASK,
            samples: millis.len() as u64,
            unit: "docs".to_owned(),
            throughput: vec![bin],
            service_time,
            ..empty_task()
        };
        let progress = vec![TaskProgress { task: TASK, done: Some(done), clients: 2 }];
        Interval { tasks: vec![part], progress, ..Interval::default() }
    }

    fn millis(status: &TaskStatus) -> Option<[u128; 3]> {
        status.service_time.map(|times| [times.p50, times.p90, times.p99].map(|time| time.as_millis()))
    }

    #[test]
    fn a_report_is_of_the_time_since_the_last_one_and_the_conclusion_of_all() {
        let mut progress = Progress::default();
        progress.step(&[RunningTask { task: TASK, name: "index".to_owned() }]);
        assert_eq!(millis(&progress.report(1.0)[0]), None);
        progress.record(DriverIndex(0), &interval(&[1, 1, 1], 0.2));
        progress.record(DriverIndex(1), &interval(&[3, 3, 3], 0.4));
        let status = progress.report(2.0).remove(0);
        assert_eq!((status.throughput, status.samples), (30.0, 6));
        assert!(status.done.is_some_and(|done| (done - 0.3).abs() < 1e-9), "{status:?}");
        assert_eq!(millis(&status), Some([2, 3, 3]));
        progress.record(DriverIndex(0), &interval(&[8, 8], 1.0));
        let status = progress.report(1.0).remove(0);
        assert_eq!((status.throughput, status.samples, millis(&status)), (20.0, 8, Some([8, 8, 8])));
        let status = progress.conclude(4.0).remove(0);
        assert_eq!((status.throughput, status.samples, millis(&status)), (20.0, 8, Some([3, 8, 8])));
    }

    #[test]
    fn the_unit_stays_when_all_requests_fail_and_no_sum_overflows() {
        let mut progress = Progress::default();
        progress.step(&[RunningTask { task: TASK, name: "index".to_owned() }]);
        progress.record(DriverIndex(0), &interval(&[1], 0.1));
        let mut failing = interval(&[1], 0.1);
        failing.tasks[0].unit.clear();
        failing.tasks[0].samples = u64::MAX;
        failing.tasks[0].failed = u64::MAX;
        failing.tasks[0].throughput[0].weight = u64::MAX;
        progress.record(DriverIndex(0), &failing);
        progress.record(DriverIndex(0), &failing);
        let status = progress.report(1.0).remove(0);
        assert_eq!((status.unit.as_str(), status.samples, status.failed), ("docs", u64::MAX, u64::MAX));
        progress.record(DriverIndex(0), &failing);
        assert_eq!(progress.conclude(1.0)[0].throughput, u64::MAX as f64);
    }

    #[test]
    fn a_report_waits_for_those_that_reported_before() {
        let mut progress = Progress::default();
        progress.step(&[RunningTask { task: TASK, name: "index".to_owned() }]);
        assert!(!progress.is_complete());
        progress.record(DriverIndex(0), &interval(&[1], 0.1));
        progress.record(DriverIndex(1), &interval(&[1], 0.1));
        assert!(progress.is_complete());
        let _ = progress.report(1.0);
        progress.record(DriverIndex(1), &interval(&[1], 0.1));
        assert!(!progress.is_complete());
        progress.record(DriverIndex(0), &interval(&[1], 0.1));
        assert!(progress.is_complete());
    }
}
