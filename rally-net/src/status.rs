//! What a host knows about itself and its cluster, as plain data.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use rally_core::{Activity, Epoch, HostFacts, HostId};
use serde::{Deserialize, Serialize};

/// Which place a host has in its cluster; it stands in its certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostRole {
    /// The host that all others follow.
    Coordinator,
    /// Every other host.
    Member,
}

/// How a host stands, seen from the one who reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostState {
    /// Heard of lately.
    Alive,
    /// Silent for longer than it should be.
    Suspect,
    /// Silent for so long that it counts as gone.
    Dead,
    /// It said goodbye.
    Left,
}

/// A host's clock against the coordinator's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockEstimate {
    /// Coordinator time minus the host's own time, in nanoseconds.
    pub offset: i64,
    /// The true offset lies within this distance, in nanoseconds.
    pub error: u64,
}

/// One host of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostSummary {
    /// Its id.
    pub id: HostId,
    /// Its place in the cluster.
    pub role: HostRole,
    /// Where its packets come from.
    pub address: SocketAddr,
    /// How it stands.
    pub state: HostState,
    /// How long ago something was heard of it; zero for the one who reports.
    pub last_heard: Duration,
    /// The shortest recent round trip between it and the coordinator, `None` for the coordinator.
    pub round_trip: Option<Duration>,
    /// Its clock, `None` for the coordinator and until it is known.
    pub clock: Option<ClockEstimate>,
    /// How far its wall clock was moved since its daemon started, in nanoseconds. Coordinator time does not follow that.
    pub wall_shift: i64,
    /// The number of its daemon's start.
    pub epoch: Epoch,
    /// What it said about itself.
    pub facts: HostFacts,
    /// What it is doing.
    pub activity: Activity,
}

/// What a host says about itself and its cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostStatus {
    /// Its id, `None` before it has joined a cluster for the first time.
    pub id: Option<HostId>,
    /// Its place in the cluster.
    pub role: HostRole,
    /// The address it is bound to.
    pub address: SocketAddr,
    /// The number of its daemon's start.
    pub epoch: Epoch,
    /// How long it has been up.
    pub uptime: Duration,
    /// What it said about itself.
    pub facts: HostFacts,
    /// What it is doing.
    pub activity: Activity,
    /// The coordinator it follows.
    pub coordinator: CoordinatorStatus,
    /// Every host of the cluster including this one and the coordinator, as the coordinator sees them.
    pub hosts: Vec<HostSummary>,
    /// How old `hosts` is: zero if the coordinator has just answered, `None` if it never has.
    pub hosts_age: Option<Duration>,
}

/// How a host stands to its coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoordinatorStatus {
    /// Where it is.
    pub address: SocketAddr,
    /// Whether it can be talked to.
    pub link: LinkState,
}

/// The link from a host to its coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkState {
    /// This host is the coordinator.
    Own {
        /// Since when.
        since: SystemTime,
    },
    /// Connected.
    Connected {
        /// Since when.
        since: SystemTime,
        /// Silent for longer than it should be.
        suspect: bool,
    },
    /// Not connected; the host keeps trying.
    Connecting {
        /// Since when it has been without a coordinator.
        since: SystemTime,
        /// Attempts so far.
        attempts: u32,
        /// Why the last attempt failed, with what to check.
        last_error: Option<String>,
    },
}
