//! The coordinator.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{EventStream, Sequence, StopMode};
use crate::{ClusterTime, ContentHash, RaceId, RoleError};

/// Owns races: whoever starts one may leave and come back to watch it.
///
/// Dropping a handle never ends a race; dropping the coordinator itself stops its race.
#[async_trait]
pub trait Coordinator: Send + Sync + 'static {
    /// Starts a race.
    ///
    /// # Errors
    ///
    /// Busy while another race runs; invalid if the request cannot be run at all.
    async fn start_race(&self, request: RaceRequest) -> Result<(), RoleError>;

    /// The events of a race after the one numbered `after`, as they happen; all of them for [`Sequence::START`].
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

    /// The race that runs now.
    ///
    /// # Errors
    ///
    /// [`RoleError`] if the host cannot be reached.
    async fn current_race(&self) -> Result<Option<RaceId>, RoleError>;
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
}

/// Something that happened in a race.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RaceEvent {
    /// Its number, without gaps.
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
    /// A role failed; the outcome follows.
    RoleFailed(RoleError),
    /// The race has ended; the last event.
    Ended(RaceOutcome),
}

/// How a race ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
