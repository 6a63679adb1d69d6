//! Schedulers: when the next request is due.

use std::time::Duration;

use rally_core::track::Task;

/// What a scheduler is made from. One is made for every client of a task.
#[derive(Clone, Copy, Debug)]
pub struct SchedulerSetup<'a> {
    /// The task; its `params` hold what the track says of it.
    pub task: &'a Task,
    /// Requests per second that this client should send; none if the task has no target throughput. It changes with the
    /// weight of the requests; a new scheduler is made then.
    pub rate: Option<f64>,
    /// Differs between races, tasks and clients.
    pub seed: u64,
}

/// Says when each request of one client is due.
pub trait Scheduler {
    /// When the next request is due, measured from the start of the client's task, given when the last one was.
    fn next(&mut self, last: Duration) -> Duration;

    /// A request is about to be sent, at this time since the start of the client's task.
    fn before_request(&mut self, _now: Duration) {}

    /// A request is done, at this time since the start of the client's task, with this weight and unit.
    fn after_request(&mut self, _now: Duration, _weight: u64, _unit: &str) {}
}
