//! What a task did in each second, from the intervals of a race.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use rally_core::TaskIndex;
use rally_core::metrics::{Distribution, SampleType, TaskInterval, TimeKind};

use super::{Moments, read_intervals};

const NANOS_PER_MILLI: f64 = 1e6;

/// Percentiles that are kept of each second.
const PERCENTILES: [f64; 6] = [50.0, 90.0, 99.0, 99.9, 99.99, 100.0];

/// Seconds of a step that are looked at, about four months; no race has more, whatever a driver says.
const MAX_SECONDS: u32 = 10_000_000;

/// The seconds of one task in which it had normal samples, counted from the start of its step. Drivers are added up.
///
/// Of the times of a second that is over, only percentiles are kept.
#[derive(Clone, Debug, Default)]
pub struct TaskSeries {
    /// By second: by kind, then by percentile, in milliseconds.
    times: BTreeMap<u64, [Vec<f64>; 3]>,
    open: Moments<[Distribution; 3]>,
    /// By the second in which requests were started.
    work: BTreeMap<u32, u64>,
    samples: u64,
    failed: u64,
}

impl TaskSeries {
    fn add(&mut self, second: u32, part: &TaskInterval) {
        self.samples = self.samples.saturating_add(part.samples);
        self.failed = self.failed.saturating_add(part.failed);
        for bin in part.throughput.iter().filter(|bin| bin.second < MAX_SECONDS) {
            let work = self.work.entry(bin.second).or_default();
            *work = work.saturating_add(bin.weight);
        }
        if let Some(open) = self.open.at(u64::from(second)) {
            for (times, more) in open.iter_mut().zip([&part.latency, &part.service_time, &part.processing_time]) {
                times.merge(more);
            }
        }
        let over = self.open.over();
        self.keep(over);
    }

    fn close(&mut self) {
        let rest = self.open.rest();
        self.keep(rest);
    }

    fn keep(&mut self, over: impl IntoIterator<Item = (u64, [Distribution; 3])>) {
        let millis = |times: Distribution| {
            times.percentiles(&PERCENTILES).into_iter().map(|nanos| nanos / NANOS_PER_MILLI).collect()
        };
        self.times.extend(over.into_iter().map(|(second, times)| (second, times.map(millis))));
    }

    /// A percentile of the times of each second that has some, in milliseconds; nothing if it is not 50, 90, 99, 99.9, 99.99 or
    /// 100.
    #[must_use]
    pub fn percentile(&self, kind: TimeKind, percentile: f64) -> Vec<f64> {
        let Some(index) = PERCENTILES.iter().position(|known| *known == percentile) else { return Vec::new() };
        self.times.values().filter_map(|times| times[kind as usize].get(index).copied()).collect()
    }

    /// The work of each second between the first and the last one with work, which are not whole; 0 where nothing was done.
    #[must_use]
    pub fn work(&self) -> Vec<f64> {
        let (Some((&first, _)), Some((&last, _))) = (self.work.first_key_value(), self.work.last_key_value()) else {
            return Vec::new();
        };
        (first + 1..last).map(|second| self.work.get(&second).copied().unwrap_or_default() as f64).collect()
    }

    /// How many normal samples failed, and how many there are.
    #[must_use]
    pub fn failures(&self) -> (u64, u64) {
        (self.failed, self.samples)
    }
}

/// The seconds of each task, by its place in the schedule.
///
/// Drivers end their intervals with the seconds of the step, so those of the same second are added up, whenever they arrived.
///
/// # Errors
///
/// If the file cannot be read; one that is not there has no task.
pub fn task_series(intervals: &Path) -> io::Result<BTreeMap<TaskIndex, TaskSeries>> {
    let mut tasks = BTreeMap::<TaskIndex, TaskSeries>::new();
    read_intervals(intervals, |recorded| {
        for part in &recorded.interval.tasks {
            if part.inner.is_none() && part.sample_type == SampleType::Normal && part.samples > 0 {
                tasks.entry(part.task).or_default().add(recorded.interval.second, part);
            }
        }
    })?;
    tasks.values_mut().for_each(TaskSeries::close);
    Ok(tasks)
}

#[cfg(test)]
mod tests {
    use rally_core::ClusterTime;
    use rally_core::metrics::{Interval, ThroughputBin};

    use super::*;
    use crate::archive::IntervalLog;

    /// Ten requests of a second, each of which takes so many milliseconds; their bin is that of the second, too.
    fn interval(second: u32, millis: u64) -> Interval {
        let mut times = Distribution::default();
        (0..10).for_each(|_| times.record(millis * 1_000_000));
        let at = u64::from(second) * 1_000_000_000;
        let bin = ThroughputBin { second, first: at, first_weight: 1, last: at, weight: 10, task_start: 0 };
        let part = TaskInterval {
            task: TaskIndex(0),
            inner: None,
            cluster: None,
            sample_type: SampleType::Normal,
            service_time: times.clone(),
            processing_time: times.clone(),
            latency: times,
            samples: 10,
            failed: 1,
            unit: "docs".to_owned(),
            throughput: vec![bin],
            reported_throughput: Vec::new(),
            errors: Vec::new(),
            duration: at,
        };
        Interval { number: u64::from(second) + 1, second, tasks: vec![part], ..Interval::default() }
    }

    fn series(intervals: impl IntoIterator<Item = (&'static str, u64, Interval)>) -> TaskSeries {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("intervals");
        let mut log = IntervalLog::open(&path).unwrap();
        for (driver, millis, interval) in intervals {
            log.append(driver, ClusterTime::from_nanos(millis * 1_000_000), &interval).unwrap();
        }
        task_series(&path).unwrap().remove(&TaskIndex(0)).unwrap()
    }

    #[test]
    fn a_second_has_what_was_done_in_it_whenever_that_arrived() {
        // The second driver cannot be reached for five seconds, and intervals of the first one are early or late.
        let first = (0..8).map(|it| ("a", 1_000 * u64::from(it) + [0, 999][it as usize % 2], interval(it, 10)));
        let second = (0..8).map(|it| ("b", 8_000 + u64::from(it), interval(it, 20)));
        let series = series(first.chain(second));
        assert_eq!(series.work(), [20.0; 6]);
        assert_eq!(series.percentile(TimeKind::Latency, 50.0), [15.0; 8]);
        assert_eq!(series.percentile(TimeKind::ServiceTime, 100.0), [20.0; 8]);
        assert_eq!(series.failures(), (16, 160));
    }

    #[test]
    fn a_second_without_work_is_a_zero_and_has_no_times() {
        let series = series([0, 1, 4, 5].map(|it| ("a", 1_000 * u64::from(it), interval(it, 10))));
        assert_eq!(series.work(), [10.0, 0.0, 0.0, 10.0]);
        assert_eq!(series.percentile(TimeKind::Latency, 50.0), [10.0; 4]);
    }

    #[test]
    fn seconds_that_no_race_can_have_are_left_out() {
        let series = series([0, 1, 2, u32::MAX].map(|it| ("a", 5, interval(it, 10))));
        assert_eq!(series.work(), [10.0]);
    }
}
