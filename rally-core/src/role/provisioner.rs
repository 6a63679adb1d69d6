//! The provisioner.

use std::net::SocketAddr;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{EventStream, Sequence, StopMode};
use crate::{ClusterTime, ContentHash, HostFacts, RaceId, RoleError};

/// Installs and runs the nodes of the cluster under test on one host.
///
/// Dropping the provisioner must not leave a process behind; a remote one stops its nodes when the lease of the one who
/// asked for them ends.
#[async_trait]
pub trait Provisioner: Send + Sync + 'static {
    /// What the host offers.
    ///
    /// # Errors
    ///
    /// [`RoleError`] if the host cannot be reached.
    async fn facts(&self) -> Result<HostFacts, RoleError>;

    /// Installs the nodes of the plan and launches them; returns as soon as the plan is accepted.
    ///
    /// Each node is reported by [`ProvisionerEventKind::NodeLaunched`] once it answers on its HTTP port. Asked again with
    /// the same plan it changes nothing.
    ///
    /// # Errors
    ///
    /// Busy while it runs nodes of another race.
    async fn launch(&self, plan: NodePlan) -> Result<(), RoleError>;

    /// The events of a race after the one numbered `after`, as they happen.
    ///
    /// # Errors
    ///
    /// Invalid if the provisioner does not play in this race or has forgotten events after `after`.
    async fn events(&self, race: &RaceId, after: Sequence) -> Result<EventStream<ProvisionerEvent>, RoleError>;

    /// Stops the nodes of a race and cleans up after them; answered by [`ProvisionerEventKind::Ended`].
    ///
    /// # Errors
    ///
    /// [`RoleError`] if the host cannot be reached. A race that the provisioner does not know is no error: it has ended.
    async fn stop(&self, race: &RaceId, mode: StopMode) -> Result<(), RoleError>;
}

/// The nodes that one host shall run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodePlan {
    /// The race.
    pub race: RaceId,
    /// The content of the bundle with cars, plugins and their variables.
    pub bundle: ContentHash,
    /// The nodes to run on this host.
    pub nodes: Vec<PlannedNode>,
}

/// One node to launch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedNode {
    /// Its name, such as `rally-node-0`.
    pub name: String,
    /// Where it shall answer HTTP.
    pub http: SocketAddr,
}

/// One node that answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchedNode {
    /// Its name, as planned.
    pub name: String,
    /// Where it answers HTTP.
    pub http: SocketAddr,
    /// Its process id on its host.
    pub pid: u32,
}

/// Something that happened on a provisioner during a race.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvisionerEvent {
    /// Its number, without gaps.
    pub sequence: Sequence,
    /// When, in coordinator time.
    pub at: ClusterTime,
    /// What.
    pub kind: ProvisionerEventKind,
}

/// What happened on a provisioner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ProvisionerEventKind {
    /// A node answers on its HTTP port.
    NodeLaunched(LaunchedNode),
    /// A node has ended although nobody asked it to.
    NodeExited {
        /// Its name.
        name: String,
        /// How it ended, and the last lines of its log.
        cause: String,
    },
    /// The provisioner cannot go on; nothing but [`ProvisionerEventKind::Ended`] follows.
    Failed(RoleError),
    /// All nodes are stopped and cleaned up; the last event.
    Ended,
}
