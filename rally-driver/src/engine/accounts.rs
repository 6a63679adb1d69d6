//! What became of the requests of this driver.

use std::collections::{BTreeMap, BTreeSet};

use rally_core::metrics::{Ledger, TaskInterval};

use super::worker::Measurement;

/// Counts requests where workers end them, and again where they become part of an interval: whatever is lost in between
/// shows.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    pub(super) ledger: Ledger,
    /// Requests that were under way when a worker reported last.
    under_way: BTreeMap<usize, u32>,
}

impl Accounts {
    /// Takes into account what a worker says it has done.
    pub(super) fn done(&mut self, worker: usize, measurement: &Measurement) {
        self.ledger.made += measurement.made;
        self.under_way.insert(worker, measurement.in_flight);
    }

    /// Takes into account what a worker has done that has ended. Its requests under way were cut off: they are no samples of
    /// any interval.
    pub(super) fn ended(&mut self, worker: usize, measurement: &Measurement) {
        self.done(worker, measurement);
        self.lose(&BTreeSet::from([worker]));
    }

    /// Takes requests for lost that were under way on workers when these reported last. Gives how many.
    pub(super) fn lose(&mut self, workers: &BTreeSet<usize>) -> u64 {
        let lost = workers.iter().filter_map(|worker| self.under_way.remove(worker)).map(u64::from).sum();
        self.ledger.made += lost;
        self.ledger.lost += lost;
        lost
    }

    /// Takes into account what becomes part of an interval.
    pub(super) fn told(&mut self, tasks: &[TaskInterval]) {
        // Inner operations are parts of a sample.
        self.ledger.merged += tasks.iter().filter(|task| task.inner.is_none()).map(|task| task.samples).sum::<u64>();
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use rally_core::metrics::{RaceMetrics, RequestTimes, SampleType};
    use rally_core::{ClusterTime, TaskIndex};

    use super::*;
    use crate::Outcome;
    use crate::recorder::{Recorder, Recording, Sample, StepStart};

    fn recorded(samples: u64) -> Recording {
        let start = StepStart { monotonic: 0, cluster: ClusterTime::from_nanos(0) };
        let mut recorder = Recorder::new(1, start, None);
        for _ in 0..samples {
            recorder.record(Sample {
                task: TaskIndex(0),
                cluster: None,
                client: 0,
                sample_type: SampleType::Normal,
                times: RequestTimes { intended: None, called: 1, sent: 2, received: 3, returned: 4 },
                dispatch_lag: None,
                is_behind: false,
                task_start: 0,
                outcome: Outcome { unit: Cow::Borrowed("ops"), ..Outcome::default() },
                error: None,
            });
        }
        recorder.take()
    }

    fn measured(made: u64, in_flight: u32) -> Measurement {
        Measurement { made, in_flight, recording: recorded(made), ..Measurement::default() }
    }

    /// What a coordinator finds missing after measurements of which some get lost on their way to the interval.
    fn missing(lost: usize) -> u64 {
        let mut accounts = Accounts::default();
        let mut recording = Recording::default();
        for (worker, measurement) in [measured(3, 1), measured(2, 0), measured(4, 2)].into_iter().enumerate() {
            accounts.done(worker, &measurement);
            if worker >= lost {
                recording.merge(measurement.recording);
            }
        }
        accounts.told(&recording.tasks);
        let ledger = accounts.ledger;
        let interval =
            rally_core::metrics::Interval { number: 1, tasks: recording.tasks, ledger, ..Default::default() };
        let mut metrics = RaceMetrics::default();
        metrics.add("here", &interval);
        assert_eq!((ledger.made, ledger.merged), (9, 9 - metrics.drivers()[0].lost));
        metrics.drivers()[0].lost
    }

    #[test]
    fn a_recording_that_gets_lost_shows() {
        assert_eq!([0, 1, 2, 3].map(missing), [0, 3, 5, 9]);
    }

    #[test]
    fn what_a_worker_had_under_way_when_it_ended_or_was_given_up_is_lost_once() {
        let mut accounts = Accounts::default();
        accounts.done(0, &measured(3, 5));
        accounts.done(1, &measured(3, 2));
        accounts.ended(0, &measured(1, 4));
        assert_eq!(accounts.lose(&BTreeSet::from([0, 1, 2])), 2);
        let Ledger { made, lost, .. } = accounts.ledger;
        assert_eq!((made, lost), (7 + 4 + 2, 4 + 2));
    }
}
