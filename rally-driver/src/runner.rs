//! Runners: how an operation is executed.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use async_trait::async_trait;
use rally_core::RacePlan;
use rally_core::track::{JsonObject, Task};

use crate::client::Clients;
use crate::{CompositeContext, Params, Partition, Registry, RequestTimer, RunnerError, Span};

/// What one execution did.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Work that was done, in `unit`.
    pub weight: u64,
    /// What is counted: `ops`, `docs`, `pages`, `byte`.
    pub unit: Cow<'static, str>,
    /// Whether it succeeded.
    pub success: bool,
    /// The throughput in units per second, if the runner knows better than the driver.
    pub throughput: Option<f64>,
    /// Stays with the sample: `hits`, `took`, `error-type` and the like.
    pub meta: JsonObject,
    /// The operations inside a composite one.
    pub inner: Vec<InnerTiming>,
}

impl Default for Outcome {
    /// One operation that succeeded.
    fn default() -> Self {
        Self {
            weight: 1,
            unit: Cow::Borrowed("ops"),
            success: true,
            throughput: None,
            meta: JsonObject::new(),
            inner: Vec::new(),
        }
    }
}

/// An operation inside a composite one.
#[derive(Clone, Debug, PartialEq)]
pub struct InnerTiming {
    /// Its name.
    pub operation: String,
    /// Its type.
    pub operation_type: String,
    /// When it was sent and answered.
    pub span: Span,
    /// Whether it succeeded.
    pub success: bool,
    /// What its runner says of it.
    pub meta: JsonObject,
}

/// What a runner is made from. One is made for every client of a task.
#[derive(Clone, Debug)]
pub struct RunnerSetup {
    /// The race.
    pub plan: Arc<RacePlan>,
    /// The task.
    pub task: Arc<Task>,
    /// The client's part of the task.
    pub partition: Partition,
    /// Connections to the clusters under test, this client's own.
    pub clients: Rc<Clients>,
    /// Marks the requests of an execution. The HTTP clients do so by themselves.
    pub timer: Rc<RequestTimer>,
    /// Where runners come from, for those that run others.
    pub registry: Arc<Registry>,
    /// What the operations inside a composite one share; none outside of it.
    pub composite: Option<Rc<CompositeContext>>,
}

/// Executes one operation for one client.
///
/// A runner is made for every client of a task, by what was given to
/// [`Registry::register_runner`](crate::Registry::register_runner), before the step of the task begins; for one client of
/// each task before the race does, so that mistakes in a late task show early. Everything of one client stays
/// on one thread, so nothing here needs to be `Send`, and nothing is shared unless the runner itself shares it. Dropping a
/// runner ends whatever it has open.
///
/// An operation is executed in two parts, so that only the second one is measured:
///
/// 1. [`Runner::prepare`] turns parameters into whatever is sent. It is called before the request is due, and only when
///    the parameters are others than before.
/// 2. [`Runner::run`] sends it and waits for the answer. The service time is from the first
///    [`RequestTimer::sent`](crate::RequestTimer::sent) to the last
///    [`RequestTimer::received`](crate::RequestTimer::received) in it. The HTTP clients of [`RunnerSetup::clients`] mark
///    both by themselves; a runner that speaks another protocol marks them in [`RunnerSetup::timer`].
///
/// # Examples
///
/// A runner that counts the hits of a search as its work:
///
/// ```
/// use std::rc::Rc;
///
/// use async_trait::async_trait;
/// use rally_driver::client::{Client, PreparedRequest, Request};
/// use rally_driver::{Outcome, Params, Registry, Runner, RunnerError, RunnerSetup};
///
/// struct CountHits {
///     client: Rc<Client>,
///     request: Option<PreparedRequest>,
/// }
///
/// impl CountHits {
///     fn new(setup: &RunnerSetup) -> Result<Self, RunnerError> {
///         Ok(Self { client: Rc::clone(setup.clients.default_cluster()?), request: None })
///     }
/// }
///
/// #[async_trait(?Send)]
/// impl Runner for CountHits {
///     fn prepare(&mut self, params: &Params) -> Result<(), RunnerError> {
///         let body = params.get("body").map(ToString::to_string).unwrap_or_default();
///         self.request = Some(self.client.prepare(&Request::new("GET", "/_search").json(body))?);
///         Ok(())
///     }
///
///     async fn run(&mut self) -> Result<Outcome, RunnerError> {
///         let request = self.request.as_ref().ok_or_else(|| RunnerError::Other("not prepared".to_owned()))?;
///         let response = self.client.send(request).await?;
///         let hits = response.body.windows(5).filter(|bytes| bytes == b"\"_id\"").count();
///         Ok(Outcome { weight: hits as u64, unit: "hits".into(), ..Outcome::default() })
///     }
/// }
///
/// let mut registry = Registry::rally();
/// registry.register_runner("count-hits", CountHits::new);
/// ```
#[async_trait(?Send)]
pub trait Runner {
    /// Makes a request of parameters, before the clock starts. It is called when parameters differ from those before,
    /// and at least once before [`Runner::run`].
    ///
    /// # Errors
    ///
    /// [`RunnerError`] ends the race.
    fn prepare(&mut self, params: &Params) -> Result<(), RunnerError>;

    /// Executes the operation once, with the parameters that were prepared last.
    ///
    /// # Errors
    ///
    /// A failed sample, as [`RunnerError`] says. All but [`RunnerError::Transport`] and [`RunnerError::Api`] end the race.
    async fn run(&mut self) -> Result<Outcome, RunnerError>;

    /// How much is done, from 0 to 1, for runners that end their task by themselves; 1 ends it. None for all others.
    fn progress(&self) -> Option<f64> {
        None
    }

    /// Whether the runner ends its task by itself, through [`Runner::progress`].
    fn is_self_terminating(&self) -> bool {
        false
    }
}
