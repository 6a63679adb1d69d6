//! Schedulers: when the next request is due.

mod deterministic;
mod poisson;

use std::time::Duration;

use rally_core::track::Task;

use crate::Outcome;

pub(crate) use deterministic::Deterministic;
pub(crate) use poisson::Poisson;

/// What a scheduler is made from. One is made for every client of a task.
#[derive(Clone, Copy, Debug)]
pub struct SchedulerSetup<'a> {
    /// The task; its `params` hold what the track says of it.
    pub task: &'a Task,
    /// Differs between tasks and clients, and is the same when a race is repeated with its id.
    pub seed: u64,
}

/// Says when each request of one client is due.
///
/// A scheduler is made for every client of a task that names it as its `schedule`. A request that is due is sent as soon as
/// its client is done with the one before, and its latency counts from when it was due: a schedule is never thinned out
/// because the cluster under test is slow.
///
/// # Examples
///
/// A schedule with a burst of ten requests once a second:
///
/// ```
/// use std::time::Duration;
///
/// use rally_driver::{Registry, Scheduler};
///
/// #[derive(Default)]
/// struct Bursts {
///     number: u32,
/// }
///
/// impl Scheduler for Bursts {
///     fn next(&mut self, _last: Duration, _rate: Option<f64>) -> Duration {
///         self.number += 1;
///         Duration::from_secs(u64::from(self.number / 10))
///     }
/// }
///
/// let mut registry = Registry::rally();
/// registry.register_scheduler("bursts", |_| Ok(Bursts::default()));
/// ```
pub trait Scheduler {
    /// When the next request is due, measured from the start of the client's task, given when the last one was; zero
    /// means at once, without an intended start.
    ///
    /// `rate` is how many requests per second this client should send to reach the task's target throughput. There is
    /// none if the task has no target, nor before a request has told how much work one request does; it changes with
    /// that.
    fn next(&mut self, last: Duration, rate: Option<f64>) -> Duration;

    /// A request is about to be sent, at this time since the start of the client's task.
    fn before_request(&mut self, _now: Duration) {}

    /// A request is done, at this time since the start of the client's task, and this is what came of it.
    fn after_request(&mut self, _now: Duration, _outcome: &Outcome) {}
}

/// The time between two requests at a rate. A rate that is no positive number means no time at all.
fn interval(rate: f64) -> Duration {
    Duration::try_from_secs_f64(1.0 / rate).unwrap_or_default()
}
