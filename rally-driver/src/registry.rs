//! The names behind which runners, parameter sources and schedulers stand.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use rally_core::track::TrackRegistry;

use crate::operation::Asserting;
use crate::param_source::StaticParams;
use crate::scheduler::{Deterministic, Poisson};
use crate::{ParamSource, ParamSourceSetup, Runner, RunnerError, RunnerSetup, Scheduler, SchedulerSetup};

type MakeRunner = dyn Fn(&RunnerSetup) -> Result<Box<dyn Runner>, RunnerError> + Send + Sync;
type MakeParamSource = dyn Fn(&ParamSourceSetup) -> Result<Box<dyn ParamSource>, RunnerError> + Send + Sync;
type MakeScheduler = dyn Fn(&SchedulerSetup<'_>) -> Result<Box<dyn Scheduler>, RunnerError> + Send + Sync;

/// Makes runners, parameter sources and schedulers by name.
#[derive(Clone, Default)]
pub struct Registry {
    runners: HashMap<String, Arc<MakeRunner>>,
    param_sources: HashMap<String, Arc<MakeParamSource>>,
    schedulers: HashMap<String, Arc<MakeScheduler>>,
    track: TrackRegistry,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.track.fmt(f)
    }
}

impl Registry {
    /// A registry with nothing in it.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// A registry with the runners and parameter sources that Rally has.
    #[must_use]
    pub fn rally() -> Self {
        let mut registry = Self::default();
        crate::operation::register(&mut registry);
        crate::source::register(&mut registry);
        registry
    }

    /// Runs operations of this type. It takes the place of a runner of the same name.
    pub fn register_runner<R: Runner + 'static>(
        &mut self,
        operation_type: &str,
        make: impl Fn(&RunnerSetup) -> Result<R, RunnerError> + Send + Sync + 'static,
    ) -> &mut Self {
        self.track.register_runner(operation_type);
        let make = move |setup: &RunnerSetup| Ok(Box::new(make(setup)?) as Box<dyn Runner>);
        self.runners.insert(operation_type.to_owned(), Arc::new(make));
        self
    }

    /// Gives parameters to operations that name this source, or whose type has this name and that name no other.
    pub fn register_param_source<P: ParamSource + 'static>(
        &mut self,
        name: &str,
        make: impl Fn(&ParamSourceSetup) -> Result<P, RunnerError> + Send + Sync + 'static,
    ) -> &mut Self {
        self.track.register_param_source(name);
        let make = move |setup: &ParamSourceSetup| Ok(Box::new(make(setup)?) as Box<dyn ParamSource>);
        self.param_sources.insert(name.to_owned(), Arc::new(make));
        self
    }

    /// Schedules tasks that name this scheduler.
    pub fn register_scheduler<S: Scheduler + 'static>(
        &mut self,
        name: &str,
        make: impl Fn(&SchedulerSetup<'_>) -> Result<S, RunnerError> + Send + Sync + 'static,
    ) -> &mut Self {
        self.track.register_scheduler(name);
        let make = move |setup: &SchedulerSetup<'_>| Ok(Box::new(make(setup)?) as Box<dyn Scheduler>);
        self.schedulers.insert(name.to_owned(), Arc::new(make));
        self
    }

    /// Makes the runner of one client.
    ///
    /// # Errors
    ///
    /// [`RunnerError::Other`] if there is none for the type of the operation, or what the runner says of the operation.
    pub fn runner(&self, setup: &RunnerSetup) -> Result<Box<dyn Runner>, RunnerError> {
        let name = setup.task.operation.operation_type.as_str();
        let make =
            self.runners.get(name).ok_or_else(|| unknown("runner for the operation type", name, &self.runners))?;
        let runner = make(setup)?;
        // Only an operation with assertions, or one whose own source may make some, pays for them.
        let operation = &setup.task.operation;
        let may_assert = operation.params.contains_key("assertions") || operation.param_source.is_some();
        Ok(if setup.plan.enable_assertions && may_assert { Box::new(Asserting::new(setup, runner)) } else { runner })
    }

    /// Makes the parameter source of one client: the one that the operation names, or else the one of its type, or else
    /// one that always gives the operation's own parameters.
    ///
    /// # Errors
    ///
    /// [`RunnerError::Other`] if there is none of the name, or what the source says of the operation.
    pub fn param_source(&self, setup: &ParamSourceSetup) -> Result<Box<dyn ParamSource>, RunnerError> {
        let operation = &setup.task.operation;
        let named = operation.param_source.as_deref();
        match (named, self.param_sources.get(named.unwrap_or(operation.operation_type.as_str()))) {
            (_, Some(make)) => make(setup),
            (None, None) => Ok(Box::new(StaticParams::of(operation))),
            (Some(name), None) => Err(unknown("parameter source", name, &self.param_sources)),
        }
    }

    /// Makes the scheduler of one client; none if its task runs as fast as possible.
    ///
    /// # Errors
    ///
    /// [`RunnerError::Other`] if there is none of the name, or what the scheduler says of the task.
    pub fn scheduler(&self, setup: &SchedulerSetup<'_>) -> Result<Option<Box<dyn Scheduler>>, RunnerError> {
        let throttled = setup.task.target_throughput.is_some();
        let name = setup.task.schedule.as_deref().unwrap_or("deterministic");
        match (name, self.schedulers.get(name)) {
            (_, Some(make)) => make(setup).map(Some),
            ("deterministic" | "poisson", None) if !throttled => Ok(None),
            ("deterministic", None) => Ok(Some(Box::new(Deterministic))),
            ("poisson", None) => Ok(Some(Box::new(Poisson::new(setup.seed)))),
            (_, None) => Err(unknown("scheduler", name, &self.schedulers)),
        }
    }

    /// The names, for the track loader.
    #[must_use]
    pub fn track(&self) -> &TrackRegistry {
        &self.track
    }
}

fn unknown<T>(what: &str, name: &str, known: &HashMap<String, T>) -> RunnerError {
    let mut known: Vec<_> = known.keys().map(String::as_str).collect();
    known.sort_unstable();
    RunnerError::Other(format!("there is no {what} `{name}`; registered are: {}", known.join(", ")))
}
