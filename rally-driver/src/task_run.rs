//! One task on its own, without a coordinator.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::available_parallelism;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use indexmap::IndexMap;
use rally_core::metrics::{Distribution, Ledger, SampleType, TaskInterval};
use rally_core::track::{Challenge, JsonObject, LoadTrackError, TaskBuilder, Track, TrackBuilder};
use rally_core::{
    Allocation, ContentHash, DriverAssignment, DriverEventKind, HostFacts, InvalidRaceId, JoinPoint, LoadDriver,
    OnError, RaceId, RacePlan, RoleError, Sequence, Step, StopMode,
};

use crate::recorder::Recording;
use crate::{ContentSource, DriverOptions, LocalLoadDriver, Registry, local_clock};

/// Runs one task from this process and gives what it measured.
///
/// # Examples
///
/// ```
/// use rally_core::track::{Operation, Task};
/// use rally_driver::{Outcome, Params, Registry, RequestTimer, Runner, RunnerError, TaskRun};
/// use std::rc::Rc;
///
/// struct Ping(Rc<RequestTimer>);
///
/// #[async_trait::async_trait(?Send)]
/// impl Runner for Ping {
///     fn prepare(&mut self, _: &Params) -> Result<(), RunnerError> {
///         Ok(())
///     }
///
///     async fn run(&mut self) -> Result<Outcome, RunnerError> {
///         self.0.sent();
///         // Here something is sent and its answer is read.
///         self.0.received();
///         Ok(Outcome::default())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut registry = Registry::empty();
/// registry.register_runner("ping", |setup| Ok(Ping(Rc::clone(&setup.timer))));
/// let task = Task::builder(Operation::builder("ping")).clients(4).iterations(100);
/// let report = TaskRun::new(task).target_hosts(["http://localhost:9200"]).run(registry).await?;
/// assert_eq!(report.normal().map(|task| task.samples), Some(400));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct TaskRun {
    task: TaskBuilder,
    track: TrackBuilder,
    target_hosts: Vec<String>,
    client_options: JsonObject,
    on_error: OnError,
    cores: Option<u32>,
    data_dir: PathBuf,
}

impl TaskRun {
    /// Begins with the task.
    #[must_use]
    pub fn new(task: TaskBuilder) -> Self {
        Self {
            task,
            track: Track::builder("task"),
            target_hosts: Vec::new(),
            client_options: JsonObject::new(),
            on_error: OnError::default(),
            cores: None,
            data_dir: PathBuf::from("."),
        }
    }

    /// The hosts of the cluster under test, as `host:port` or URL. None by default: not every runner speaks HTTP.
    #[must_use]
    pub fn target_hosts(mut self, hosts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.target_hosts = hosts.into_iter().map(Into::into).collect();
        self
    }

    /// Options of the clients, as in `--client-options`. None by default.
    #[must_use]
    pub fn client_options(mut self, options: JsonObject) -> Self {
        self.client_options = options;
        self
    }

    /// The indices and corpora that the task works with. Nothing by default.
    #[must_use]
    pub fn track(mut self, track: TrackBuilder) -> Self {
        self.track = track;
        self
    }

    /// What a failed request does. By default it is recorded and the task goes on.
    #[must_use]
    pub fn on_error(mut self, on_error: OnError) -> Self {
        self.on_error = on_error;
        self
    }

    /// Cores to use, each by a worker thread. All that the process may use by default.
    #[must_use]
    pub fn cores(mut self, cores: u32) -> Self {
        self.cores = Some(cores);
        self
    }

    /// Where corpora are kept. The working directory by default.
    #[must_use]
    pub fn data_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.data_dir = directory.into();
        self
    }

    /// Runs the task to its end.
    ///
    /// # Errors
    ///
    /// [`TaskRunError`] says why it could not be run, or what ended it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the load.
    pub async fn run(self, registry: Registry) -> Result<TaskReport, TaskRunError> {
        let track = self.track.challenge(Challenge::builder("task").task(self.task)).build()?;
        let plan = RacePlan {
            target_hosts: IndexMap::from([("default".to_owned(), self.target_hosts)]),
            client_options: IndexMap::from([("default".to_owned(), self.client_options)]),
            on_error: self.on_error,
            enable_assertions: true,
            ..RacePlan::new(track, "task")
        };
        let clients = plan.challenge().map_or(1, |challenge| Allocation::new(challenge).clients);
        let json = Bytes::from(serde_json::to_vec(&plan).map_err(TaskRunError::Plan)?);
        let assignment = DriverAssignment {
            race: RaceId::try_from("task".to_owned())?,
            plan: ContentHash::from_bytes(*blake3::hash(&json).as_bytes()),
            clients: 0..clients,
            telemetry: false,
        };
        let clock = local_clock();
        let available = || available_parallelism().map_or(1, |cores| cores.get() as u32);
        let cores = self.cores.unwrap_or_else(available);
        let driver = LocalLoadDriver::new(DriverOptions {
            facts: HostFacts { name: "this host".to_owned(), cores, ..HostFacts::default() },
            registry: Arc::new(registry),
            content: Arc::new(OnePlan(json)),
            clock: Arc::clone(&clock),
            segment_dir: self.data_dir.clone(),
            data_dir: self.data_dir,
        });

        let race = assignment.race.clone();
        driver.prepare(assignment).await?;
        let mut events = driver.events(&race, Sequence::START).await?;
        let (mut recording, mut report) = (Recording::default(), TaskReport::default());
        while let Some(event) = events.next().await {
            match event?.kind {
                DriverEventKind::Prepared => {
                    driver.drive(&race, Step { until: JoinPoint(1), start: clock() }).await?;
                }
                DriverEventKind::Measured(interval) => {
                    let health = interval.health;
                    recording.merge(Recording { tasks: interval.tasks, ..Recording::default() });
                    report.ledger = interval.ledger;
                    report.dispatch_lag.merge(&health.dispatch_lag);
                    report.reconnects += health.reconnects;
                    report.retries += health.retries;
                    report.notices.extend(health.saturated);
                }
                DriverEventKind::Noticed { message } => report.notices.push(message),
                DriverEventKind::Reached { .. } => driver.stop(&race, StopMode::Drain).await?,
                DriverEventKind::Failed(error) => return Err(error.into()),
                _ => (),
            }
        }
        report.tasks = recording.tasks;
        Ok(report)
    }
}

/// What a task measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaskReport {
    /// By sample type and, for composite operations, by the operations inside.
    pub tasks: Vec<TaskInterval>,
    /// How many samples there are.
    pub ledger: Ledger,
    /// How much later than intended requests were sent because of the driver itself, in nanoseconds.
    pub dispatch_lag: Distribution,
    /// Connections that had to be opened again.
    pub reconnects: u64,
    /// Requests that clients sent again by themselves.
    pub retries: u64,
    /// What the user should know, such as that the load driver was the bottleneck.
    pub notices: Vec<String>,
}

impl TaskReport {
    /// What counts; none if everything was warm-up.
    #[must_use]
    pub fn normal(&self) -> Option<&TaskInterval> {
        self.tasks.iter().find(|task| task.inner.is_none() && task.sample_type == SampleType::Normal)
    }
}

/// A task could not be run on its own.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TaskRunError {
    /// The task or its track makes no sense.
    #[error(transparent)]
    Track(#[from] LoadTrackError),
    /// The race plan cannot be written as JSON.
    #[error("failed to write the race plan")]
    Plan(#[source] serde_json::Error),
    /// The race has no id.
    #[error(transparent)]
    Race(#[from] InvalidRaceId),
    /// The driver failed.
    #[error(transparent)]
    Driver(#[from] RoleError),
}

/// The only content there is.
struct OnePlan(Bytes);

#[async_trait]
impl ContentSource for OnePlan {
    async fn fetch(&self, _content: ContentHash) -> Result<Bytes, Box<dyn Error + Send + Sync>> {
        Ok(self.0.clone())
    }
}
