//! What tasks and drivers did over time, from the intervals of a race, in as few points as a chart can show.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use rally_core::TaskIndex;
use rally_core::metrics::{Distribution, MAX_SECONDS, Moments, SampleType, TaskInterval, ThroughputBin};

use crate::archive::{RecordedInterval, read_intervals};

/// Points of a line at most; more than that no chart can show.
const POINTS: u64 = 160;

const SECOND: u64 = 1_000_000_000;
const NANOS_PER_MILLI: f64 = 1e6;

/// The percentiles that are shown over time.
pub(super) const BANDS: [f64; 4] = [50.0, 90.0, 99.0, 100.0];

/// A race over time.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    pub(super) tasks: BTreeMap<TaskIndex, TaskLine>,
    /// By name.
    pub(super) drivers: BTreeMap<String, Vec<DriverPoint>>,
    /// Whether the file of intervals ends in damage.
    pub(super) is_damaged: bool,
}

/// A task over time, in seconds since its step started.
#[derive(Debug, Default)]
pub(super) struct TaskLine {
    pub(super) unit: String,
    /// Seconds that each point stands for.
    pub(super) width: u64,
    /// Work per second by the second in which its requests started, warm-up included.
    pub(super) throughput: Vec<(f64, f64)>,
    /// By the second in which requests ended, warm-up included.
    pub(super) latency: Vec<(f64, [f64; 4])>,
    pub(super) service_time: Vec<(f64, [f64; 4])>,
    /// When the first request that counts was started, if there is a warm-up; the end if none counts.
    pub(super) warmup_until: Option<f64>,
    /// Without warm-up, in nanoseconds.
    pub(super) all_latencies: Distribution,
    pub(super) all_service_times: Distribution,
}

impl TaskLine {
    /// Where a time axis ends that has room for everything.
    pub(super) fn until(&self) -> f64 {
        let last = |at: Option<f64>| at.unwrap_or_default();
        let throughput = last(self.throughput.last().map(|(at, _)| *at));
        let times = last(self.service_time.last().map(|(at, _)| *at));
        throughput.max(times).max(last(self.latency.last().map(|(at, _)| *at))) + self.width as f64 / 2.0
    }

    /// Whether requests are sent at times of their own, so that latency is more than service time.
    pub(super) fn is_throttled(&self) -> bool {
        self.latency != self.service_time || self.all_latencies != self.all_service_times
    }
}

/// How a driver did, at some seconds since the first interval of the race.
#[derive(Clone, Debug, Default)]
pub(super) struct DriverPoint {
    pub(super) at: f64,
    /// The 99th percentile of the dispatch lag, in milliseconds; none if no request was due.
    pub(super) lag: Option<f64>,
    /// The share of time in which the busiest worker was busy, from 0 to 1.
    pub(super) busiest: f64,
    pub(super) in_flight: u32,
}

/// How long things take.
#[derive(Debug, Default)]
struct Extent {
    /// Its first and its last moment, in nanoseconds of coordinator time.
    race: Option<(u64, u64)>,
    /// The last second of each task.
    tasks: BTreeMap<TaskIndex, u64>,
}

#[derive(Debug, Default)]
struct Bin {
    latency: Distribution,
    service_time: Distribution,
}

#[derive(Debug, Default)]
struct OpenTask {
    line: TaskLine,
    /// Work by bin.
    work: BTreeMap<u64, u64>,
    times: Moments<Bin>,
    has_warmup: bool,
    /// The start of the first request that counts, in nanoseconds since the start of the step.
    normal_from: Option<u64>,
}

#[derive(Debug, Default)]
struct OpenDriver {
    points: Vec<DriverPoint>,
    current: Option<(u64, Distribution, DriverPoint)>,
}

impl Timeline {
    /// Reads the intervals twice: how long all takes, then what happened.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let mut extent = Extent::default();
        read_intervals(path, |recorded| extent.add(&recorded))?;
        let (mut tasks, mut drivers) = (BTreeMap::<TaskIndex, OpenTask>::new(), BTreeMap::<String, OpenDriver>::new());
        let is_damaged = read_intervals(path, |recorded| {
            let at = recorded.at.as_nanos();
            for part in parts(&recorded) {
                let width = width(extent.tasks.get(&part.task).copied().unwrap_or_default());
                tasks.entry(part.task).or_default().add(part, u64::from(recorded.interval.second), width);
            }
            let Some((start, end)) = extent.race else { return };
            let width = width(since(start, end));
            drivers.entry(recorded.driver.clone()).or_default().add(&recorded, since(start, at), width);
        })?;
        let tasks = tasks.into_iter().map(|(task, open)| (task, open.close())).collect();
        let drivers = drivers.into_iter().map(|(driver, open)| (driver, open.close())).collect();
        Ok(Self { tasks, drivers, is_damaged })
    }
}

/// What tasks did in the second of an interval, if it is one that a race can have.
fn parts(recorded: &RecordedInterval) -> impl Iterator<Item = &TaskInterval> {
    let is_possible = u64::from(recorded.interval.second) < MAX_SECONDS;
    recorded.interval.tasks.iter().filter(move |part| is_possible && part.inner.is_none() && part.samples > 0)
}

/// The work of a part in seconds that a race can have.
fn bins(part: &TaskInterval) -> impl Iterator<Item = &ThroughputBin> {
    part.throughput.iter().filter(|bin| u64::from(bin.second) < MAX_SECONDS)
}

/// Whole seconds; intervals come once per second with some jitter, so the nearest one counts.
fn since(start: u64, at: u64) -> u64 {
    (at.saturating_sub(start) + SECOND / 2) / SECOND
}

/// Seconds of a point, if there are seconds up to this one.
fn width(last: u64) -> u64 {
    (last + 1).div_ceil(POINTS)
}

impl Extent {
    fn add(&mut self, recorded: &RecordedInterval) {
        let at = recorded.at.as_nanos();
        let (first, last) = self.race.unwrap_or((at, at));
        self.race = Some((first.min(at), last.max(at)));
        for part in parts(recorded) {
            let seconds = bins(part).map(|bin| bin.second).chain([recorded.interval.second]);
            let last = self.tasks.entry(part.task).or_default();
            *last = seconds.map(u64::from).fold(*last, u64::max);
        }
    }
}

impl OpenTask {
    fn add(&mut self, part: &TaskInterval, second: u64, width: u64) {
        self.line.width = width;
        if !part.unit.is_empty() {
            self.line.unit.clone_from(&part.unit);
        }
        for bin in bins(part) {
            let work = self.work.entry(u64::from(bin.second) / width).or_default();
            *work = work.saturating_add(bin.weight);
        }
        match part.sample_type {
            SampleType::Warmup => self.has_warmup = true,
            SampleType::Normal => {
                let starts = bins(part).map(|bin| bin.first);
                self.normal_from = self.normal_from.into_iter().chain(starts).min();
                self.line.all_latencies.merge(&part.latency);
                self.line.all_service_times.merge(&part.service_time);
            }
        }
        if let Some(bin) = self.times.at(second / width) {
            bin.latency.merge(&part.latency);
            bin.service_time.merge(&part.service_time);
        }
        if let Some((number, bin)) = self.times.over() {
            self.end_bin(number, bin);
        }
    }

    fn end_bin(&mut self, number: u64, bin: Bin) {
        let at = middle(number, self.line.width);
        for (line, times) in [(&mut self.line.latency, bin.latency), (&mut self.line.service_time, bin.service_time)] {
            if let Ok(bands) = <[f64; 4]>::try_from(times.percentiles(&BANDS)) {
                line.push((at, bands.map(|nanos| nanos / NANOS_PER_MILLI)));
            }
        }
    }

    fn close(mut self) -> TaskLine {
        self.times.rest().into_iter().for_each(|(number, bin)| self.end_bin(number, bin));
        // The last one is not whole.
        if self.work.len() > 3 {
            self.work.pop_last();
        }
        let width = self.line.width.max(1);
        if let (Some(&first), Some(&last)) = (self.work.keys().next(), self.work.keys().next_back()) {
            let work = |number: u64| self.work.get(&number).copied().unwrap_or_default() as f64 / width as f64;
            self.line.throughput = (first..=last).map(|number| (middle(number, width), work(number))).collect();
        }
        let normal_from = self.normal_from.map(|start| start as f64 / SECOND as f64);
        self.line.warmup_until = self.has_warmup.then(|| normal_from.unwrap_or_else(|| self.line.until()));
        self.line
    }
}

impl OpenDriver {
    fn add(&mut self, recorded: &RecordedInterval, second: u64, width: u64) {
        let number = second / width;
        if self.current.as_ref().is_none_or(|(current, ..)| *current != number) {
            self.end_bin();
        }
        let health = &recorded.interval.health;
        let (_, lag, point) = self.current.get_or_insert_with(|| {
            (number, Distribution::default(), DriverPoint { at: middle(number, width), ..DriverPoint::default() })
        });
        lag.merge(&health.dispatch_lag);
        point.busiest = point.busiest.max(health.busiest_worker);
        point.in_flight = point.in_flight.max(health.in_flight);
    }

    fn end_bin(&mut self) {
        let Some((_, lag, mut point)) = self.current.take() else { return };
        point.lag = lag.percentiles(&[99.0]).first().map(|nanos| nanos / NANOS_PER_MILLI);
        self.points.push(point);
    }

    fn close(mut self) -> Vec<DriverPoint> {
        self.end_bin();
        self.points
    }
}

fn middle(number: u64, width: u64) -> f64 {
    (number * width) as f64 + width as f64 / 2.0
}

#[cfg(test)]
mod tests {
    use rally_core::ClusterTime;
    use rally_core::metrics::{Interval, ThroughputBin};

    use super::*;
    use crate::archive::IntervalLog;

    fn part(second: u32, sample_type: SampleType) -> TaskInterval {
        let mut times = Distribution::default();
        (1..=10).for_each(|it| times.record(it * 1_000_000));
        // The first request that counts is started in the middle of a second.
        let first = u64::from(second) * SECOND + SECOND / 2;
        let bin = ThroughputBin { second, first, first_weight: 1, last: first, weight: 10, task_start: 0 };
        TaskInterval {
            task: TaskIndex(3),
            inner: None,
            cluster: None,
            sample_type,
            service_time: times.clone(),
            processing_time: times.clone(),
            latency: times,
            samples: 10,
            failed: 0,
            unit: "docs".to_owned(),
            throughput: vec![bin],
            reported_throughput: Vec::new(),
            errors: Vec::new(),
            duration: 1,
        }
    }

    fn timeline(seconds: u32) -> Timeline {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("intervals");
        let mut log = IntervalLog::open(&path).unwrap();
        for second in 0..seconds {
            let sample_type = if second < 2 { SampleType::Warmup } else { SampleType::Normal };
            let tasks = vec![part(second, sample_type)];
            // Every other one arrives almost a second late.
            let jitter = u64::from(second % 2) * 990_000_000;
            let at = ClusterTime::from_nanos(7 * SECOND + u64::from(second) * SECOND + jitter);
            for driver in ["a", "b"] {
                let number = u64::from(second) + 1;
                let interval = Interval { number, second, tasks: tasks.clone(), ..Interval::default() };
                log.append(driver, at, &interval).unwrap();
            }
        }
        Timeline::read(&path).unwrap()
    }

    #[test]
    fn drivers_are_added_up_and_each_second_is_a_point() {
        let timeline = timeline(6);
        let line = &timeline.tasks[&TaskIndex(3)];
        assert_eq!(line.throughput, [(0.5, 20.0), (1.5, 20.0), (2.5, 20.0), (3.5, 20.0), (4.5, 20.0)]);
        assert_eq!(line.latency.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0.5, 1.5, 2.5, 3.5, 4.5, 5.5]);
        assert_eq!((line.latency[0].1[0], line.latency[0].1[3]), (5.5, 10.0));
        assert_eq!((line.warmup_until, line.all_latencies.count()), (Some(2.5), 4 * 20));
        assert_eq!(timeline.drivers.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert!(!timeline.is_damaged);
    }

    #[test]
    fn a_long_race_has_few_points() {
        let timeline = timeline(1_000);
        let line = &timeline.tasks[&TaskIndex(3)];
        assert_eq!(line.width, 7);
        assert!(line.throughput.len() <= 160 && line.latency.len() <= 160, "{}", line.throughput.len());
        assert!(line.throughput.iter().all(|(_, rate)| *rate == 20.0));
    }

    #[test]
    fn seconds_that_no_race_can_have_are_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("intervals");
        let mut log = IntervalLog::open(&path).unwrap();
        let mut number = 0;
        let mut append = |second: u32, part: TaskInterval| {
            number += 1;
            let interval = Interval { number, second, tasks: vec![part], ..Interval::default() };
            log.append("a", ClusterTime::from_nanos(number * SECOND), &interval).unwrap();
        };
        (0..6).for_each(|second| append(second, part(second, SampleType::Normal)));
        // Without samples, far away, and both.
        append(6, TaskInterval { samples: 0, ..part(u32::MAX, SampleType::Normal) });
        append(7, part(u32::MAX, SampleType::Normal));
        append(u32::MAX, part(7, SampleType::Normal));
        let timeline = Timeline::read(&path).unwrap();
        let line = &timeline.tasks[&TaskIndex(3)];
        assert_eq!((line.width, line.throughput.len()), (1, 5));
        assert_eq!(line.latency.last().map(|(at, _)| *at), Some(7.5));
    }
}
