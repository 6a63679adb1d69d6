//! One host of a cluster: its socket, its identity, its connections, and what it does for others.
//!
//! A [`Host`] is a thin shell around state machines: [`Registry`](crate::membership::Registry) on the coordinator,
//! [`Uplink`](crate::membership::Uplink) on a member, leases and clock on both. It moves bytes and time in and out of
//! them; what they decide is tested without it.

mod accept;
mod config;
mod coordinator;
mod dial;
mod files;
mod host_source;
mod leases;
mod member;
mod renewal;
mod shared;
pub mod socket;
mod start;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rally_core::{ClusterTime, Epoch, HostId};
use tokio::sync::broadcast;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;
use tracing::warn;

pub use config::{HostConfig, Place, Roles, TokenSource};
pub use dial::ConnectError;
pub use files::PeerSource;
pub use member::JoinError;
pub use start::StartError;

pub(crate) use shared::Shared;

use crate::close::CloseCode;
use crate::cluster_clock::ClusterClock;
use crate::identity::{JoinToken, TokenBookError, TokenId, TokenSummary};
use crate::membership::{MembershipEvent, Timing, UplinkEvent};
use crate::remote::{RemoteCoordinator, RemoteLoadDriver, RemoteProvisioner};
use crate::rpc::Peer;
use crate::status::{HostRole, HostStatus};
use crate::transfer::{Shelf, Source};
use host_source::HostSource;

/// A running host. Dropping it ends it at once, without a goodbye; see [`Host::stop`].
#[derive(Debug)]
pub struct Host {
    shared: Arc<Shared>,
    /// Everything that runs for this host.
    tasks: JoinSet<()>,
    /// Requests of peers that are being served.
    served: TaskTracker,
}

/// How long peers of a host that ends have to take what its roles said last.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// A change in the cluster, as far as this host can see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostEvent {
    /// On the coordinator: how a host stands has changed.
    Membership(MembershipEvent),
    /// On a member: the connection to the coordinator has changed.
    Uplink(UplinkEvent),
}

/// A part of a host has crashed, which is a defect; its log says more.
#[derive(Debug, thiserror::Error)]
#[error("the part of this host that should {part} has crashed, which is a defect of rallyd; the log says more")]
pub struct HostFailed {
    part: &'static str,
}

/// What only a coordinator can do was asked of another host.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// This host is not the coordinator.
    #[error("only the coordinator gives out tokens: run this on {coordinator}")]
    NotCoordinator {
        /// Where the coordinator is.
        coordinator: SocketAddr,
    },
    /// The book of tokens could not be changed.
    #[error(transparent)]
    Book(#[from] TokenBookError),
}

impl Host {
    /// Binds the socket and begins; a member that has not joined yet does so as soon as its coordinator answers.
    ///
    /// # Errors
    ///
    /// [`StartError`] if the address cannot be bound or the identity on disk is of no use.
    ///
    /// # Panics
    ///
    /// If one of [`HostConfig::services`] has the name of a service that every host offers.
    pub async fn start(config: HostConfig) -> Result<Self, StartError> {
        match spawn_blocking(move || start::start(config)).await {
            Ok(started) => started,
            Err(crash) => std::panic::resume_unwind(crash.into_panic()),
        }
    }

    /// The address that the host is bound to.
    pub fn address(&self) -> SocketAddr {
        self.shared.address()
    }

    /// The host's place in the cluster.
    pub fn role(&self) -> HostRole {
        self.shared.role()
    }

    /// The host's id, `None` before it has joined a cluster.
    pub fn id(&self) -> Option<HostId> {
        self.shared.credentials().map(|credentials| credentials.host())
    }

    /// The number of this start of the host, counted in its directory.
    pub fn epoch(&self) -> Epoch {
        self.shared.epoch
    }

    /// Waits until the host is part of its cluster for the first time; at once on a coordinator.
    ///
    /// # Errors
    ///
    /// [`JoinError`] if it never will be, with the reason and the remedy. A coordinator that does not answer is no
    /// such reason: the host keeps trying.
    pub async fn joined(&self) -> Result<(), JoinError> {
        self.shared.joined().await
    }

    /// Waits until the host cannot go on, because a part of it has crashed; usually for ever.
    pub async fn failed(&self) -> HostFailed {
        let mut crashed = self.shared.crashed.subscribe();
        let part = crashed.wait_for(Option::is_some).await.map(|part| *part);
        HostFailed { part: part.ok().flatten().unwrap_or("whole") }
    }

    /// Changes in the cluster from now on. A listener that falls behind is told how many it has missed.
    pub fn events(&self) -> broadcast::Receiver<HostEvent> {
        self.shared.events.subscribe()
    }

    /// When the host calls others silent.
    pub fn timing(&self) -> &Timing {
        &self.shared.timing
    }

    /// Coordinator time on this host.
    pub fn clock(&self) -> &ClusterClock {
        &self.shared.clock
    }

    /// Waits until coordinator time is `time`; see [`ClusterClock::at`].
    ///
    /// # Errors
    ///
    /// On a member before its first heartbeat is answered.
    pub async fn at(&self, time: ClusterTime) -> Result<(), crate::cluster_clock::UnknownTime> {
        self.shared.clock.at(time).await
    }

    /// What the host knows about itself and its cluster.
    pub async fn status(&self) -> HostStatus {
        self.shared.status().await
    }

    /// The connection to a host: on the coordinator to any member, on a member only to the coordinator. `None` while
    /// there is none.
    pub fn peer(&self, host: HostId) -> Option<Peer> {
        self.shared.peer(host)
    }

    /// The connection to the coordinator; `None` while there is none, and on the coordinator itself.
    pub fn coordinator(&self) -> Option<Peer> {
        self.shared.coordinator_peer()
    }

    /// Connects to any host of the cluster, for transfers between members.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] if it does not answer within [`Timing::dial_timeout`] or is not that
    /// host.
    pub async fn connect(&self, host: HostId, address: SocketAddr) -> Result<Peer, ConnectError> {
        dial::connect_member(&self.shared, host, address).await
    }

    /// A host of the cluster as a source of files, this one included: over the connection that stands, over one that is made
    /// for it, or, where none can be made, through the coordinator. `name` is what to call it in errors.
    pub fn source(&self, host: HostId, address: SocketAddr, name: &str) -> Arc<dyn Source> {
        if self.id() == Some(host) {
            return Arc::clone(self.shelf()) as Arc<dyn Source>;
        }
        Arc::new(HostSource::new(Arc::clone(&self.shared), host, address, name.to_owned()))
    }

    /// The files that this host offers to the others.
    pub fn shelf(&self) -> &Arc<Shelf> {
        &self.shared.shelf
    }

    /// The load driver of a member, wherever it is; only the coordinator may use it.
    pub fn load_driver(&self, host: HostId) -> RemoteLoadDriver {
        RemoteLoadDriver::new(Arc::clone(&self.shared), host)
    }

    /// The provisioner of a member, wherever it is; only the coordinator may use it.
    pub fn provisioner(&self, host: HostId) -> RemoteProvisioner {
        RemoteProvisioner::new(Arc::clone(&self.shared), host)
    }

    /// The coordinator that this member follows, as the owner of races.
    pub fn remote_coordinator(&self) -> RemoteCoordinator {
        RemoteCoordinator::new(Arc::clone(&self.shared))
    }

    /// Makes a token with which hosts can join for `lifetime`.
    ///
    /// # Errors
    ///
    /// On a member, or if the token cannot be stored.
    pub fn create_token(&self, lifetime: Duration, note: &str) -> Result<JoinToken, TokenError> {
        self.shared.create_token(lifetime, note)
    }

    /// The tokens that were made and not forgotten yet.
    ///
    /// # Errors
    ///
    /// On a member.
    pub fn tokens(&self) -> Result<Vec<TokenSummary>, TokenError> {
        self.shared.tokens()
    }

    /// Makes a token useless; hosts that have joined with it stay.
    ///
    /// # Errors
    ///
    /// On a member, or if there is no such token.
    pub fn revoke_token(&self, token: TokenId) -> Result<(), TokenError> {
        self.shared.revoke_token(token)
    }

    /// Ends the host: what runs under its leases is stopped, peers are told, the endpoint is closed, everything that ran
    /// is awaited. Whatever is not done `within` the time is dropped.
    pub async fn stop(mut self, within: Duration) {
        let orderly = async {
            self.shared.begin_stop();
            self.shared.roles_ended().await;
            self.served.close();
            // Whoever still waits for something that never comes is told by the goodbye.
            let _ = timeout(LAST_ANSWERS, self.served.wait()).await;
            self.shared.end(CloseCode::Goodbye);
            while let Some(ended) = self.tasks.join_next().await {
                if let Err(error) = ended {
                    warn!(%error, "a part of the host has failed");
                }
            }
            self.shared.endpoint.wait_idle().await;
        };
        if timeout(within, orderly).await.is_err() {
            warn!(?within, "the host was not able to end in time; what is left is dropped");
        }
    }
}

/// A deadline that is noticed this late was slept through: the process or the machine had stood still.
const STALL: Duration = Duration::from_millis(250);

/// How long packets that arrived during a stall get to be read, so that nobody is blamed for our own silence.
const AFTER_STALL: Duration = Duration::from_millis(250);

/// Waits for what the socket has received, if this process has just stood still; call it before a deadline counts.
async fn socket_patience(deadline: Option<Instant>) {
    if deadline.is_some_and(|deadline| deadline.elapsed() > STALL) {
        sleep(AFTER_STALL).await;
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.shared.begin_stop();
        self.shared.end(CloseCode::Failed);
    }
}
