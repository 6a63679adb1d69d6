//! What a race looks like while it runs.

use std::collections::BTreeMap;

use super::DriverIndex;
use crate::metrics::{Interval, SampleType, TaskProgress};
use crate::{RunningTask, TaskIndex, TaskStatus};

/// How the tasks of the current step do, from the intervals of all drivers.
#[derive(Debug, Default)]
pub(super) struct Progress {
    tasks: BTreeMap<TaskIndex, LiveTask>,
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
    weight: u64,
}

impl Progress {
    /// Begins a step.
    pub(super) fn step(&mut self, tasks: &[RunningTask]) {
        self.tasks = tasks.iter().map(|running| (running.task, LiveTask::default())).collect();
    }

    pub(super) fn record(&mut self, driver: DriverIndex, interval: &Interval) {
        for part in &interval.tasks {
            let Some(live) = self.tasks.get_mut(&part.task).filter(|_| part.inner.is_none()) else { continue };
            live.is_normal |= part.sample_type == SampleType::Normal;
            live.samples += part.samples;
            live.failed += part.failed;
            live.unit.clone_from(&part.unit);
            live.weight += part.throughput.iter().map(|bin| bin.weight).sum::<u64>();
        }
        for progress in &interval.progress {
            if let Some(live) = self.tasks.get_mut(&progress.task) {
                live.done.insert(driver, *progress);
            }
        }
    }

    /// The status of all tasks; rates are over the `seconds` since it was asked for last.
    pub(super) fn report(&mut self, seconds: f64) -> Vec<TaskStatus> {
        let report = |(&task, live): (&TaskIndex, &mut LiveTask)| {
            let weight = std::mem::take(&mut live.weight);
            TaskStatus {
                task,
                done: live.done(),
                sample_type: if live.is_normal { SampleType::Normal } else { SampleType::Warmup },
                samples: live.samples,
                failed: live.failed,
                throughput: weight as f64 / seconds,
                unit: live.unit.clone(),
                service_time: None,
            }
        };
        self.tasks.iter_mut().map(report).collect()
    }
}

impl LiveTask {
    /// The mean over all clients whose progress is known.
    fn done(&self) -> Option<f64> {
        let known = || self.done.values().filter_map(|it| Some((it.done?, f64::from(it.clients))));
        let clients: f64 = known().map(|(_, clients)| clients).sum();
        (clients > 0.0).then(|| known().map(|(done, clients)| done * clients).sum::<f64>() / clients)
    }
}
