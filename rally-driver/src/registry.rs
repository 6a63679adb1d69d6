//! The names behind which runners, parameter sources and schedulers stand.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use rally_core::track::TrackRegistry;

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

    /// The names, for the track loader.
    #[must_use]
    pub fn track(&self) -> &TrackRegistry {
        &self.track
    }
}
