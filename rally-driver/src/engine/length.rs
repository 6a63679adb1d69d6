//! How long one client runs a task.

use std::time::Duration;

use rally_core::metrics::SampleType;
use rally_core::track::Task;

use crate::RunnerError;

/// What bounds a client's task. The source or the runner may end it earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// It runs for a time; without a total, until something else ends it.
    Time {
        /// The first part, whose samples do not count.
        warmup: Duration,
        /// Warm-up included.
        total: Option<Duration>,
    },
    /// It runs so many times; without a total, until the source is exhausted.
    Iterations {
        /// The first ones, whose samples do not count.
        warmup: u64,
        /// Warm-up included.
        total: Option<u64>,
    },
}

/// What the length says of one iteration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Iteration {
    pub(crate) sample_type: SampleType,
    /// How much of the length is used up once it is done, from 0 to 1, if that can be known.
    pub(crate) progress: Option<f64>,
}

impl Length {
    /// The length of a task, given whether its source and its runner end it by themselves.
    ///
    /// # Errors
    ///
    /// [`RunnerError::Other`] if nothing would be run.
    pub(crate) fn of(task: &Task, source_is_infinite: bool, runner_ends: bool) -> Result<Self, RunnerError> {
        let timed = task.warmup_time_period.is_some() || task.time_period.is_some();
        let counted = task.warmup_iterations.is_some() || task.iterations.is_some();
        if timed || (!counted && (runner_ends || !source_is_infinite)) {
            let warmup = task.warmup_time_period.unwrap_or_default();
            return Ok(Self::Time { warmup, total: task.time_period.map(|period| warmup.saturating_add(period)) });
        }
        let warmup = task.warmup_iterations.unwrap_or(0);
        let iterations = task.iterations.or(source_is_infinite.then_some(1));
        let total = iterations.map(|iterations| warmup.saturating_add(iterations));
        if total == Some(0) {
            return Err(RunnerError::Other("there is nothing to run: give it at least one iteration".to_owned()));
        }
        Ok(Self::Iterations { warmup, total })
    }

    /// The iteration with this number, counted from 0, that begins after this time; none if the task is over.
    pub(crate) fn iteration(self, number: u64, elapsed: Duration) -> Option<Iteration> {
        let sample_type = |is_warmup| if is_warmup { SampleType::Warmup } else { SampleType::Normal };
        match self {
            Self::Time { total: Some(total), .. } if elapsed >= total => None,
            Self::Time { warmup, total } => Some(Iteration {
                sample_type: sample_type(elapsed < warmup),
                progress: total.map(|total| elapsed.as_secs_f64() / total.as_secs_f64()),
            }),
            Self::Iterations { total: Some(total), .. } if number >= total => None,
            Self::Iterations { warmup, total } => Some(Iteration {
                sample_type: sample_type(number < warmup),
                progress: total.map(|total| (number + 1) as f64 / total as f64),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use rally_core::track::{Operation, TaskBuilder};

    use super::*;

    fn task(change: impl FnOnce(TaskBuilder) -> TaskBuilder) -> Task {
        let builder = change(Task::builder(Operation::builder("sleep")));
        crate::testing::task(builder)
    }

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_length_comes_from_the_task_then_from_the_runner_then_from_the_source() {
        let time = |warmup, total: Option<u64>| Length::Time { warmup: seconds(warmup), total: total.map(seconds) };
        let iterations = |warmup, total| Length::Iterations { warmup, total };
        let plain = task(|task| task);
        let warm = task(|task| task.property("warmup-iterations", 5));
        let counted = task(|task| task.property("warmup-iterations", 5).iterations(10));
        let timed = task(|task| task.property("warmup-time-period", 3).property("time-period", 10));
        let warm_time = task(|task| task.property("warmup-time-period", 3));
        for (task, infinite, ends, expected) in [
            (&plain, true, false, iterations(0, Some(1))),
            (&plain, false, false, time(0, None)),
            (&plain, true, true, time(0, None)),
            (&warm, true, false, iterations(5, Some(6))),
            (&warm, false, false, iterations(5, None)),
            (&counted, true, true, iterations(5, Some(15))),
            (&counted, false, false, iterations(5, Some(15))),
            (&timed, true, false, time(3, Some(13))),
            (&warm_time, true, false, time(3, None)),
        ] {
            assert_eq!(Length::of(task, infinite, ends), Ok(expected), "{infinite} {ends}");
        }
    }

    #[test]
    fn iterations_warm_up_first_and_then_count() {
        let length = Length::Iterations { warmup: 1, total: Some(4) };
        let seen: Vec<_> = (0..6).map_while(|number| length.iteration(number, seconds(99))).collect();
        assert_eq!(seen.iter().map(|i| i.progress).collect::<Vec<_>>(), [0.25, 0.5, 0.75, 1.0].map(Some));
        assert_eq!(seen.iter().filter(|i| i.sample_type == SampleType::Warmup).count(), 1);
    }

    #[test]
    fn a_time_period_begins_after_the_warm_up() {
        let length = Length::Time { warmup: seconds(2), total: Some(seconds(4)) };
        let at = |elapsed| length.iteration(1_000, Duration::from_millis(elapsed)).map(|i| (i.sample_type, i.progress));
        assert_eq!(at(0), Some((SampleType::Warmup, Some(0.0))));
        assert_eq!(at(1_999).map(|(sample_type, _)| sample_type), Some(SampleType::Warmup));
        assert_eq!(at(2_000), Some((SampleType::Normal, Some(0.5))));
        assert_eq!(at(4_000), None);
    }
}
