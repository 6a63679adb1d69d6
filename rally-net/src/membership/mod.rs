//! Who belongs to the cluster right now, as two state machines without I/O.
//!
//! Members dial, the coordinator listens: a member's [`Uplink`] keeps a connection to the coordinator for ever, and the
//! coordinator's [`Registry`] keeps a record of every host that has said hello. Both are handed the time and what
//! happened, and answer with what their caller has to do about it, in order. Their caller also asks for the next
//! deadline and calls `handle_timeout` once it has passed; after a stall it hands over what has arrived in the meantime
//! first, so that nobody is blamed for a silence of our own making.
//!
//! A member says hello once on each connection and then sends a heartbeat every [`Timing::heartbeat`], each of which
//! the coordinator answers. Silence is judged by each side alone: after [`Timing::suspect_after`] the other side is
//! suspect, after [`Timing::dead_after`] it is given up and the connection closed.
//!
//! # One identity, one process
//!
//! A host is its [`HostId`](rally_core::HostId), and each start of its daemon has a higher
//! [`Epoch`](rally_core::Epoch). What a hello means depends on what is known already:
//!
//! | epoch | the old connection | outcome |
//! | --- | --- | --- |
//! | older | any | refused: [`RefuseReason::OldEpoch`] |
//! | newer | gone, silent for `suspect_after`, or from the same address | the host has restarted |
//! | same | gone, silent for `suspect_after`, or from the same address | the host has returned |
//! | newer or same | heard of lately, from another address | refused: [`RefuseReason::SameIdentityElsewhere`] |
//!
//! One UDP address is one process, so a hello from the same address can only come from the host itself. From another
//! address it may be a cloned machine, or the host itself after its address has changed: as long as the old connection
//! is heard of, the newcomer is refused and told where the other one is; if they are the same host, the old connection
//! falls silent, and one of the next attempts succeeds ([`Timing::rejoin_within`]). Two clones therefore never throw
//! each other out while both are well, and the one outside always knows why.

mod registry;
mod silence;
mod uplink;

use std::net::SocketAddr;
use std::time::Duration;

use rally_core::Epoch;
use serde::{Deserialize, Serialize};

pub use registry::{
    Capacity, HostChange, HostRecord, MembershipEvent, Registry, RegistryAction, RegistryEvent, Report,
};
pub use uplink::{DialFailure, Link, LossCause, Uplink, UplinkAction, UplinkEvent, UplinkInput};

/// When membership waits how long for what; the same on all hosts of a cluster.
///
/// `heartbeat < suspect_after < dead_after` is assumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Between two heartbeats of a member; 500 ms, so that a few may be lost before anyone becomes suspect.
    pub heartbeat: Duration,
    /// A silence after which the other side is suspect; 2 s.
    pub suspect_after: Duration,
    /// A silence after which the other side is given up; 5 s.
    pub dead_after: Duration,
    /// An attempt to connect is given up after this time; 5 s, enough for a handshake with lost packets.
    pub dial_timeout: Duration,
    /// The longest wait before the first retry; it doubles with each further one; 100 ms.
    pub retry_at_first: Duration,
    /// The longest wait before any retry; 3 s.
    pub retry_at_most: Duration,
    /// A connection that lived this long lets retries begin at `retry_at_first` again; 10 s, well above `dead_after`,
    /// so that a coordinator that accepts and never answers is not hammered.
    pub stable_after: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(500),
            suspect_after: Duration::from_secs(2),
            dead_after: Duration::from_secs(5),
            dial_timeout: Duration::from_secs(5),
            retry_at_first: Duration::from_millis(100),
            retry_at_most: Duration::from_secs(3),
            stable_after: Duration::from_secs(10),
        }
    }
}

impl Timing {
    /// How long it takes at most, once hosts and network are well, until a member is known as alive to its coordinator
    /// again, whatever happened before; 18.5 s by default, usually far less.
    ///
    /// It takes `dead_after` to notice that a connection is dead, or `dial_timeout` to give up an attempt that cannot
    /// succeed any more; then a wait of `retry_at_most`. That attempt may be refused because an earlier connection from
    /// another address was heard of until now, for `suspect_after` at most; the next one after another `retry_at_most`
    /// succeeds. Round trips are covered by one `dial_timeout` and one `heartbeat`.
    pub fn rejoin_within(&self) -> Duration {
        self.dead_after + self.dial_timeout + self.suspect_after + 2 * self.retry_at_most + self.heartbeat
    }
}

/// One connection, numbered in ascending order by whoever owns the connections of this process; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Session(pub u64);

/// Why the coordinator does not take a host in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum RefuseReason {
    /// The host is connected from another address: this machine is a copy of that one, or its address has just changed.
    #[error(
        "a host with the same identity is connected from {address}: if this machine is a copy, delete `identity.pem` in \
         this host's directory and start it with a token"
    )]
    SameIdentityElsewhere {
        /// Where the other one is.
        address: SocketAddr,
    },
    /// A later start of the same host is known.
    #[error(
        "a later start of this host, number {known}, is known: if this machine is a copy or was restored from a backup, \
         delete `identity.pem` in this host's directory and start it with a token"
    )]
    OldEpoch {
        /// The latest epoch that the coordinator knows.
        known: Epoch,
    },
    /// The cluster is full.
    #[error("the cluster has {limit} hosts, which is its limit")]
    TooManyHosts {
        /// How many hosts may be connected.
        limit: u32,
    },
}

/// Why one side closes a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum DisconnectReason {
    /// Nothing was heard from the other side for too long.
    #[error("nothing was heard for too long")]
    Silent,
    /// The same host has connected anew.
    #[error("the same host has connected anew from {by}")]
    Replaced {
        /// Where the new connection comes from.
        by: SocketAddr,
    },
    /// A newer connection of the same host exists, or nobody waits for this one any more.
    #[error("a newer connection exists, or this one came too late")]
    Superseded,
    /// A later start of the same coordinator is known.
    #[error("a later start of this coordinator, number {known}, is known")]
    OldEpoch {
        /// The latest epoch that the member knows.
        known: Epoch,
    },
}
