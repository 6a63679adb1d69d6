//! What a task did in each second, from the intervals of a race.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use rally_core::TaskIndex;
use rally_core::metrics::{Distribution, SampleType, TaskInterval, TimeKind};

use super::read_intervals;

const NANOS_PER_MILLI: f64 = 1e6;

/// Percentiles that are kept of each second.
const PERCENTILES: [f64; 6] = [50.0, 90.0, 99.0, 99.9, 99.99, 100.0];

/// The seconds of one task in which it had normal samples, in the order of time. Drivers are added up.
///
/// Of a second that is over, only its percentiles are kept.
#[derive(Clone, Debug, Default)]
pub struct TaskSeries {
    over: Vec<Over>,
    current: Option<(u64, Second)>,
}

#[derive(Clone, Debug)]
struct Over {
    /// By kind, then by percentile, in milliseconds.
    times: [Vec<f64>; 3],
    work: u64,
}

#[derive(Clone, Debug, Default)]
struct Second {
    /// By kind.
    times: [Distribution; 3],
    work: u64,
}

impl TaskSeries {
    fn add(&mut self, second: u64, part: &TaskInterval) {
        if self.current.as_ref().is_none_or(|(current, _)| *current != second) {
            self.end_second();
        }
        let (_, current) = self.current.get_or_insert_with(|| (second, Second::default()));
        for (times, more) in current.times.iter_mut().zip([&part.latency, &part.service_time, &part.processing_time]) {
            times.merge(more);
        }
        current.work = part.throughput.iter().fold(current.work, |work, bin| work.saturating_add(bin.weight));
    }

    fn end_second(&mut self) {
        if let Some((_, second)) = self.current.take() {
            let millis = |times: Distribution| {
                times.percentiles(&PERCENTILES).into_iter().map(|nanos| nanos / NANOS_PER_MILLI).collect()
            };
            self.over.push(Over { times: second.times.map(millis), work: second.work });
        }
    }

    /// A percentile of the times of each second, in milliseconds; nothing if it is not 50, 90, 99, 99.9, 99.99 or 100.
    #[must_use]
    pub fn percentile(&self, kind: TimeKind, percentile: f64) -> Vec<f64> {
        let Some(index) = PERCENTILES.iter().position(|known| *known == percentile) else { return Vec::new() };
        self.over.iter().filter_map(|second| second.times[kind as usize].get(index).copied()).collect()
    }

    /// The work of each second but the first and the last, which are not whole.
    #[must_use]
    pub fn work(&self) -> Vec<f64> {
        let work: Vec<f64> = self.over.iter().map(|second| second.work as f64).collect();
        work.get(1..work.len().saturating_sub(1)).map(<[f64]>::to_vec).unwrap_or_default()
    }
}

/// The seconds of each task, by its place in the schedule.
///
/// Drivers send their intervals once per second; those that arrive in the same second of coordinator time are added up.
///
/// # Errors
///
/// If the file cannot be read; one that is not there has no task.
pub fn task_series(intervals: &Path) -> io::Result<BTreeMap<TaskIndex, TaskSeries>> {
    let mut tasks = BTreeMap::<TaskIndex, TaskSeries>::new();
    read_intervals(intervals, |recorded| {
        let second = recorded.at.as_nanos() / 1_000_000_000;
        for part in &recorded.interval.tasks {
            if part.inner.is_none() && part.sample_type == SampleType::Normal && part.samples > 0 {
                tasks.entry(part.task).or_default().add(second, part);
            }
        }
    })?;
    tasks.values_mut().for_each(TaskSeries::end_second);
    Ok(tasks)
}
