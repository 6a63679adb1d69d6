//! The load driver.

use std::ops::Range;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{EventStream, Sequence, StopMode};
use crate::allocation::TaskIndex;
use crate::metrics::Interval;
use crate::{ClusterTime, ContentHash, HostFacts, JoinPoint, RaceId, RoleError};

/// Interprets a track and applies load with its share of the clients.
///
/// A driver plays in one race at a time. Everything it has to say about a race comes as numbered [`DriverEvent`]s, so
/// that a watcher whose connection broke can go on where it stopped. Dropping the last handle of a driver in this
/// process stops its load; a remote driver stops it when the lease of the one who prepared it ends.
#[async_trait]
pub trait LoadDriver: Send + Sync + 'static {
    /// What the host offers; the coordinator spreads clients by it.
    ///
    /// # Errors
    ///
    /// [`RoleError`] if the host cannot be reached.
    async fn facts(&self) -> Result<HostFacts, RoleError>;

    /// Takes part in a race: loads the track, fetches its slice of each corpus, opens connections.
    ///
    /// Returns as soon as the assignment is accepted; [`DriverEventKind::Prepared`] follows. Asked again with the same
    /// assignment it changes nothing.
    ///
    /// # Errors
    ///
    /// Busy while it plays in another race.
    async fn prepare(&self, assignment: DriverAssignment) -> Result<(), RoleError>;

    /// The events of a race after the one numbered `after`, as they happen.
    ///
    /// Asking for what follows `after` also says that everything up to it has arrived, so the driver may forget it.
    ///
    /// # Errors
    ///
    /// Invalid if the driver does not play in this race or has forgotten events after `after`.
    async fn events(&self, race: &RaceId, after: Sequence) -> Result<EventStream<DriverEvent>, RoleError>;

    /// Runs the tasks up to a join point; answered by [`DriverEventKind::Reached`].
    ///
    /// # Errors
    ///
    /// Invalid if the driver is not prepared for this race, or not at the join point before.
    async fn drive(&self, race: &RaceId, step: Step) -> Result<(), RoleError>;

    /// Ends the current tasks early, because the task that completes their parallel element is done elsewhere.
    ///
    /// # Errors
    ///
    /// Invalid if the driver does not play in this race.
    async fn complete_step(&self, race: &RaceId, until: JoinPoint) -> Result<(), RoleError>;

    /// Goes on with the telemetry of a driver that was lost; answered by [`DriverEventKind::TelemetryAttached`]. Asked again,
    /// or of a driver that does the telemetry anyway, it changes nothing.
    ///
    /// A driver that stands at the last join point looks at the cluster under test once, and says again that it has
    /// [reached](DriverEventKind::Reached) it.
    ///
    /// # Errors
    ///
    /// Invalid if the driver does not play in this race.
    async fn attach_telemetry(&self, race: &RaceId) -> Result<(), RoleError>;

    /// Ends the race on this driver and frees it for the next; answered by [`DriverEventKind::Ended`].
    ///
    /// # Errors
    ///
    /// [`RoleError`] if the host cannot be reached. A race that the driver does not know is no error: it has ended.
    async fn stop(&self, race: &RaceId, mode: StopMode) -> Result<(), RoleError>;
}

/// One driver's part of a race.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriverAssignment {
    /// The race.
    pub race: RaceId,
    /// The content of the [`RacePlan`](crate::RacePlan) as JSON.
    pub plan: ContentHash,
    /// The clients of the race that this driver simulates, counted from 0 over all drivers.
    pub clients: Range<u32>,
    /// Whether this driver runs the telemetry devices that ask the cluster under test; exactly one does. If it is lost,
    /// another one is asked to [go on](LoadDriver::attach_telemetry).
    pub telemetry: bool,
}

/// The tasks between two join points.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The join point at the end of the step.
    pub until: JoinPoint,
    /// When to start, in coordinator time; the same for all drivers.
    pub start: ClusterTime,
}

/// Something that happened on a driver during a race.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DriverEvent {
    /// Its number, without gaps.
    pub sequence: Sequence,
    /// When, in coordinator time.
    pub at: ClusterTime,
    /// What.
    pub kind: DriverEventKind,
}

/// What happened on a driver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum DriverEventKind {
    /// Everything is in place; the driver waits at join point 0.
    Prepared,
    /// All clients of this driver have reached a join point.
    Reached {
        /// The join point.
        at: JoinPoint,
    },
    /// All clients here of a task that ends its step are done, while others may still run: by `completed-by` a task, the
    /// coordinator waits for this from every driver that has clients of it; by `any`, the first one counts.
    TaskCompleted {
        /// The join point at the end of the step.
        until: JoinPoint,
        /// The task.
        task: TaskIndex,
    },
    /// What was measured in the last second.
    Measured(Box<Interval>),
    /// Records of telemetry devices: a JSON array of metrics documents.
    Telemetry {
        /// The documents.
        json: Vec<u8>,
    },
    /// Something that the user should see, as a sentence: data that is downloaded, a warning.
    Noticed {
        /// The sentence.
        message: String,
    },
    /// A file of raw samples is complete and can be fetched.
    SegmentWritten {
        /// Its content.
        hash: ContentHash,
        /// Its length in bytes.
        length: u64,
    },
    /// The driver cannot go on; nothing but [`DriverEventKind::Ended`] follows.
    Failed(RoleError),
    /// The driver has ended the race; the last event.
    Ended,
    /// The driver goes on with the telemetry of another one.
    TelemetryAttached {
        /// Whether there are devices that ask the cluster under test.
        has_devices: bool,
    },
}
