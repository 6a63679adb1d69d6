//! How fast one client runs a task: its scheduler, and the rate that follows from the weight of its requests.

use std::fmt;
use std::time::Duration;

use rally_core::track::Task;

use crate::scheduler::Scheduler;
use crate::{Outcome, RunnerError};

/// The pace of one client.
pub(crate) struct Pace {
    /// None if the task runs as fast as possible.
    scheduler: Option<Box<dyn Scheduler>>,
    target: Option<Target>,
    last: Duration,
}

/// A target throughput, as far as one client has to reach it.
#[derive(Clone, Debug)]
struct Target {
    /// Units per second for this client.
    value: f64,
    /// With `/s` at its end.
    unit: String,
    /// The weight of the last request that did any work.
    weight: Option<u64>,
}

/// The runner counts something else than the target throughput does, so that every request is taken for one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OtherUnit;

impl fmt::Debug for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pace").field("target", &self.target).field("last", &self.last).finish_non_exhaustive()
    }
}

impl Pace {
    pub(crate) fn new(task: &Task, scheduler: Option<Box<dyn Scheduler>>) -> Self {
        let target = task.target_throughput.as_ref().map(|target| Target {
            value: target.value / f64::from(task.clients.max(1)),
            unit: target.unit.clone(),
            weight: None,
        });
        Self { scheduler, target, last: Duration::ZERO }
    }

    /// When the next request is due, from the start of the client's task; none if it is not throttled.
    pub(crate) fn next(&mut self) -> Option<Duration> {
        let scheduler = self.scheduler.as_mut()?;
        let rate = self.target.as_ref().and_then(|target| Some(target.value / target.weight? as f64));
        self.last = scheduler.next(self.last, rate);
        (self.last > Duration::ZERO).then_some(self.last)
    }

    /// A request is about to be sent.
    pub(crate) fn before_request(&mut self, now: Duration) {
        if let Some(scheduler) = &mut self.scheduler {
            scheduler.before_request(now);
        }
    }

    /// A request is done. Says once if its unit is not the target's.
    ///
    /// # Errors
    ///
    /// [`RunnerError::Other`] if the target counts something that the runner does not.
    pub(crate) fn after_request(&mut self, now: Duration, outcome: &Outcome) -> Result<Option<OtherUnit>, RunnerError> {
        let Some(scheduler) = &mut self.scheduler else { return Ok(None) };
        scheduler.after_request(now, outcome);
        let (weight, unit) = (outcome.weight, &*outcome.unit);
        let Some(target) = self.target.as_mut().filter(|target| weight > 0 && target.weight != Some(weight)) else {
            return Ok(None);
        };
        if target.unit.strip_suffix("/s") == Some(unit) {
            target.weight = Some(weight);
            return Ok(None);
        }
        if target.unit != "ops/s" {
            return Err(RunnerError::Other(format!(
                "the target throughput is in `{}`, but the operation counts `{unit}`; give the target in `{unit}/s` or `ops/s`",
                target.unit
            )));
        }
        Ok(target.weight.replace(1).is_none().then_some(OtherUnit))
    }
}

#[cfg(test)]
mod tests {
    use rally_core::track::Operation;

    use super::*;
    use crate::scheduler::Deterministic;

    fn pace(target: &str, clients: u32) -> Pace {
        let task = Task::builder(Operation::builder("bulk")).clients(clients).property("target-throughput", target);
        Pace::new(&crate::testing::task(task), Some(Box::new(Deterministic)))
    }

    fn did(weight: u64, unit: &'static str) -> Outcome {
        Outcome { weight, unit: unit.into(), ..Outcome::default() }
    }

    fn due(pace: &mut Pace) -> Option<u128> {
        pace.next().map(|due| due.as_millis())
    }

    #[test]
    fn requests_are_not_throttled_until_one_has_told_its_weight() {
        let mut pace = pace("1000 docs/s", 2);
        assert_eq!(due(&mut pace), None);
        assert_eq!(pace.after_request(Duration::ZERO, &did(0, "ops")), Ok(None));
        assert_eq!(due(&mut pace), None);
        assert_eq!(pace.after_request(Duration::ZERO, &did(50, "docs")), Ok(None));
        assert_eq!((due(&mut pace), due(&mut pace)), (Some(100), Some(200)));
    }

    #[test]
    fn the_rate_follows_the_weight() {
        let mut pace = pace("100 docs/s", 1);
        let mut schedule = Vec::new();
        for weight in [10, 20, 0, 10] {
            pace.after_request(Duration::ZERO, &did(weight, "docs")).unwrap();
            schedule.extend(due(&mut pace));
        }
        assert_eq!(schedule, [100, 300, 500, 600]);
    }

    #[test]
    fn a_target_in_operations_counts_every_request_as_one_and_says_so_once() {
        let mut pace = pace("10 ops/s", 1);
        assert_eq!(pace.after_request(Duration::ZERO, &did(500, "docs")), Ok(Some(OtherUnit)));
        assert_eq!(due(&mut pace), Some(100));
        assert_eq!(pace.after_request(Duration::ZERO, &did(700, "docs")), Ok(None));
        assert_eq!(due(&mut pace), Some(200));
    }

    #[test]
    fn a_target_in_another_unit_is_an_error() {
        let error = pace("10 docs/s", 1).after_request(Duration::ZERO, &did(3, "pages")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the target throughput is in `docs/s`, but the operation counts `pages`; give the target in `pages/s` or \
             `ops/s`"
        );
    }
}
