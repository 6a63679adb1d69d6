//! Parameter sources: what an operation is executed with.

use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use rally_core::RacePlan;
use rally_core::track::{JsonObject, Operation, Task};

use crate::RunnerError;
use crate::corpus::Corpora;

/// The parameters of one execution: a JSON object, and perhaps a body that is too large to be one.
///
/// A source that gives the same parameters each time gives the same [`Rc`] each time, so that a runner prepares its
/// request only once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Params {
    /// The parameters by name.
    pub values: Rc<JsonObject>,
    /// A body that is ready to be sent, such as that of a bulk request.
    pub body: Option<Bytes>,
    /// Documents in that body.
    pub documents: u64,
}

impl Deref for Params {
    type Target = JsonObject;

    fn deref(&self) -> &JsonObject {
        &self.values
    }
}

impl From<JsonObject> for Params {
    fn from(values: JsonObject) -> Self {
        Self { values: Rc::new(values), ..Self::default() }
    }
}

/// The part of a task's work that one client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Which of the task's clients it is, counted from 0.
    pub index: u32,
    /// How many clients the task has.
    pub total: u32,
}

/// What a parameter source is made from. One is made for every client of a task.
#[derive(Clone, Debug)]
pub struct ParamSourceSetup {
    /// The race.
    pub plan: Arc<RacePlan>,
    /// The task, with its operation and the operation's parameters.
    pub task: Arc<Task>,
    /// The client's part.
    pub partition: Partition,
    /// Where the corpora are.
    pub data_dir: Arc<std::path::Path>,
    /// Differs between races, tasks and clients, and is the same when a race is repeated with its id.
    pub seed: u64,
    /// What the race has prepared of the corpora.
    pub(crate) corpora: Arc<Corpora>,
}

impl ParamSourceSetup {
    /// A setup outside of a race, such as in a test of a source: no corpus is prepared.
    #[must_use]
    pub fn new(
        plan: Arc<RacePlan>,
        task: Arc<Task>,
        partition: Partition,
        data_dir: Arc<std::path::Path>,
        seed: u64,
    ) -> Self {
        Self { plan, task, partition, data_dir, seed, corpora: Arc::default() }
    }
}

/// Gives the parameters of each execution of an operation.
///
/// A source is made for every client of a task. It gives the client's own part of the work, which
/// [`ParamSourceSetup::partition`] names, and draws its random numbers from [`ParamSourceSetup::seed`], so that a race can
/// be repeated. Parameters are drawn as soon as the request before is done and before the next one is due, so the time
/// that it takes is in no measured time unless the client is late. The first ones are drawn before the step begins; those
/// of one client of each task before the race does.
///
/// # Examples
///
/// A source that gives each client its own share of a thousand ids and ends when they are used up:
///
/// ```
/// use rally_core::track::JsonObject;
/// use rally_driver::{ParamSource, ParamSourceSetup, Params, Registry, RunnerError};
///
/// struct Ids {
///     next: u64,
///     step: u64,
/// }
///
/// impl ParamSource for Ids {
///     fn next(&mut self) -> Result<Option<Params>, RunnerError> {
///         let id = self.next;
///         self.next += self.step;
///         let params = JsonObject::from_iter([("path".to_owned(), format!("/logs/_doc/{id}").into())]);
///         Ok((id < 1_000).then(|| params.into()))
///     }
///
///     fn is_infinite(&self) -> bool {
///         false
///     }
///
///     fn progress(&self) -> Option<f64> {
///         Some((self.next as f64 / 1_000.0).min(1.0))
///     }
/// }
///
/// let mut registry = Registry::rally();
/// registry.register_param_source("ids", |setup: &ParamSourceSetup| {
///     Ok(Ids { next: setup.partition.index.into(), step: setup.partition.total.into() })
/// });
/// ```
pub trait ParamSource {
    /// The parameters of the next execution; none if the source is exhausted, which ends the client's task.
    ///
    /// # Errors
    ///
    /// [`RunnerError`] ends the race.
    fn next(&mut self) -> Result<Option<Params>, RunnerError>;

    /// Whether its first parameters can be drawn before the race begins, which one client of each task does, so that
    /// mistakes show in time. A source that needs what only the tasks before it bring about says no; its parameters are
    /// drawn when its task begins.
    fn can_draw_early(&self) -> bool {
        true
    }

    /// Whether it goes on for ever, so that the task decides how long it runs.
    fn is_infinite(&self) -> bool {
        true
    }

    /// How much of it is used up, from 0 to 1, if it can tell.
    fn progress(&self) -> Option<f64> {
        None
    }
}

/// Gives the operation's own parameters each time.
#[derive(Debug)]
pub(crate) struct StaticParams(Params);

impl StaticParams {
    pub(crate) fn of(operation: &Operation) -> Self {
        Self(operation.params.clone().into())
    }
}

impl ParamSource for StaticParams {
    fn next(&mut self) -> Result<Option<Params>, RunnerError> {
        Ok(Some(self.0.clone()))
    }
}
