//! The coordinator.

use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};

use super::{EventStream, Sequence, StopMode};
use crate::metrics::{RaceReport, SampleType};
use crate::race::{OnDriverLoss, RaceVerdict};
use crate::{ClusterTime, ContentHash, JoinPoint, RaceId, Role, RoleError, RoleErrorKind, Step, TaskIndex};

/// Owns races: whoever starts one may leave and come back to watch it.
///
/// Dropping a handle never ends a race; dropping the coordinator itself stops its race.
#[async_trait]
pub trait Coordinator: Send + Sync + 'static {
    /// Starts a race. The same request again, while its race runs, changes nothing: the answer may have been lost.
    ///
    /// # Errors
    ///
    /// Busy while another race runs; invalid if the request cannot be run at all, or if its id is taken.
    async fn start_race(&self, request: RaceRequest) -> Result<(), RoleError>;

    /// The events of a race after the one numbered `after`, as they happen; all of them for [`Sequence::START`]. A race that
    /// is only in the archive has nothing but its end.
    ///
    /// # Errors
    ///
    /// Invalid if the coordinator knows no such race.
    async fn events(&self, race: &RaceId, after: Sequence) -> Result<EventStream<RaceEvent>, RoleError>;

    /// Ends a race early; what was measured is kept and shown as incomplete.
    ///
    /// # Errors
    ///
    /// Invalid if the coordinator knows no such race.
    async fn cancel(&self, race: &RaceId, mode: StopMode) -> Result<(), RoleError>;

    /// The race that runs now, and how far it is.
    ///
    /// # Errors
    ///
    /// [`RoleError`] if the host cannot be reached.
    async fn current_race(&self) -> Result<Option<RaceStatus>, RoleError>;

    /// What a race that has ended found out. It is there as soon as [`RaceEventKind::Ended`] is.
    ///
    /// # Errors
    ///
    /// Invalid if the coordinator knows no such race, or if it has not ended; failed if the race never began.
    async fn report(&self, race: &RaceId) -> Result<RaceReport, RoleError>;

    /// Waits for the end of a race, and says how it ended.
    ///
    /// # Errors
    ///
    /// Invalid if the coordinator knows no such race; [`RoleError`] if it cannot be asked.
    async fn verdict(&self, race: &RaceId) -> Result<RaceVerdict, RoleError> {
        let mut events = self.events(race, Sequence::START).await?;
        while let Some(event) = events.next().await {
            if let RaceEventKind::Ended(verdict) = event?.kind {
                return Ok(*verdict);
            }
        }
        Err(RoleError {
            host: "its host".to_owned(),
            role: Role::Coordinator,
            phase: format!("tell the end of race {race}"),
            kind: RoleErrorKind::Failed,
            cause: "its events broke off".to_owned(),
        })
    }
}

/// What to race, where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaceRequest {
    /// The id of the new race.
    pub race: RaceId,
    /// The content of the bundle with the track, its parameters and all options of the race.
    pub bundle: ContentHash,
    /// The hosts that drive the load, by name or address.
    pub load_driver_hosts: Vec<String>,
    /// The hosts that launch nodes, by name or address; empty if the cluster under test runs already.
    pub provisioner_hosts: Vec<String>,
    /// What becomes of the race when a load driver is lost.
    pub on_driver_loss: OnDriverLoss,
}

impl RaceRequest {
    /// A race that these hosts drive, by name or address, against a cluster that runs already; it fails if one of them is
    /// lost.
    #[must_use]
    pub fn new<H: ToString>(race: RaceId, bundle: ContentHash, load_driver_hosts: impl IntoIterator<Item = H>) -> Self {
        let load_driver_hosts = load_driver_hosts.into_iter().map(|host| host.to_string()).collect();
        Self { race, bundle, load_driver_hosts, provisioner_hosts: Vec::new(), on_driver_loss: OnDriverLoss::default() }
    }
}

/// Something that happened in a race.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RaceEvent {
    /// Its number. Progress and waits that were overtaken are forgotten and leave a gap; nothing else does.
    pub sequence: Sequence,
    /// When, in coordinator time.
    pub at: ClusterTime,
    /// What.
    pub kind: RaceEventKind,
}

/// What happened in a race.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum RaceEventKind {
    /// The race has begun: its drivers prepare.
    Started {
        /// The challenge.
        challenge: String,
        /// Who drives.
        drivers: Vec<RaceDriver>,
    },
    /// A driver is ready.
    DriverPrepared {
        /// Its name.
        driver: String,
    },
    /// All drivers were told to start a step.
    StepStarted {
        /// Which, and when.
        step: Step,
        /// Steps of the race.
        of: u32,
        /// What runs in it.
        tasks: Vec<RunningTask>,
    },
    /// How far the tasks of the current step are: about once per second, and once at its end, when rates and times are of
    /// the whole step.
    Progress(Vec<TaskStatus>),
    /// All drivers have reached a join point.
    StepEnded {
        /// The join point.
        until: JoinPoint,
    },
    /// Something that the user should see.
    Noticed {
        /// The driver that says so.
        driver: String,
        /// The sentence.
        message: String,
    },
    /// A role failed; whether the race goes on is another event.
    RoleFailed(RoleError),
    /// The race has ended; the last event.
    Ended(Box<RaceVerdict>),
    /// The race has been waiting for the race before, of which something is still to be kept, or for some of its drivers, or
    /// all of them, to prepare, to reach a join point, or to end: told after
    /// [`RaceTiming::wait_is_news`](crate::race::RaceTiming::wait_is_news), and again when fewer are missing.
    Waiting {
        /// Their names, or what the race before is called.
        drivers: Vec<String>,
        /// Since when.
        since: ClusterTime,
    },
}

/// A driver of a race.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaceDriver {
    /// Its host, by the name or address that the user knows it by.
    pub name: String,
    /// Its clients, counted from 0 over all drivers.
    pub clients: Range<u32>,
}

/// A task that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningTask {
    /// The task.
    pub task: TaskIndex,
    /// Its name.
    pub name: String,
}

/// A race that runs, at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RaceStatus {
    /// The race.
    pub race: RaceId,
    /// When it was started, in coordinator time.
    pub since: ClusterTime,
    /// When this was said, in coordinator time.
    pub now: ClusterTime,
    /// Who drives; empty before they are chosen.
    pub drivers: Vec<RaceDriver>,
    /// The step that runs; none while drivers prepare.
    pub step: Option<StepStatus>,
    /// Whom the race has been waiting for lately; empty while all are at work.
    pub awaited: Vec<AwaitedDriver>,
}

/// A driver that a race waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwaitedDriver {
    /// Its name.
    pub driver: String,
    /// What it said last while it prepares, such as how far a download is; none once steps run.
    pub said: Option<String>,
}

/// A step that runs, at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepStatus {
    /// Which, and when it started.
    pub step: Step,
    /// Steps of the race.
    pub of: u32,
    /// What runs in it.
    pub tasks: Vec<RunningTask>,
    /// How far the tasks are; empty for the first second.
    pub progress: Vec<TaskStatus>,
}

/// How a task does, over all drivers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskStatus {
    /// The task.
    pub task: TaskIndex,
    /// How much of it is done, from 0 to 1; none if it cannot be known.
    pub done: Option<f64>,
    /// Whether its samples count already.
    pub sample_type: SampleType,
    /// Samples so far.
    pub samples: u64,
    /// Failed samples so far.
    pub failed: u64,
    /// Work per second since the last report.
    pub throughput: f64,
    /// What the work is counted in, such as `docs`.
    pub unit: String,
    /// Service times since the last report, warm-up included; none if no request returned.
    pub service_time: Option<LivePercentiles>,
}

/// A few percentiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LivePercentiles {
    /// The median.
    pub p50: Duration,
    /// The 90th percentile.
    pub p90: Duration,
    /// The 99th percentile.
    pub p99: Duration,
}

/// How a race ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum RaceOutcome {
    /// All tasks ran to their end and every sample is accounted for.
    Completed,
    /// It ended regularly, but something is missing; the report names it.
    Incomplete,
    /// The user ended it.
    Cancelled,
    /// A role failed.
    Failed,
}
