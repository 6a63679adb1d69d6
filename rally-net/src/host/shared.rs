//! What all parts of a running host share.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use quinn::Endpoint;
use rally_core::{Epoch, HostFacts, HostId};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::coordinator::CoordinatorSide;
use super::leases::Leases;
use super::member::{JoinError, MemberSide};
use super::{HostEvent, TokenError, socket};
use crate::close::CloseCode;
use crate::cluster_clock::ClusterClock;
use crate::identity::{Credentials, JoinToken, TokenId, TokenSummary};
use crate::membership::{Session, Timing};
use crate::protocol::{Hello, Welcome, wall_clock};
use crate::rpc::Peer;
use crate::status::{HostRole, HostState, HostStatus, HostSummary};
use crate::tls;
use crate::transfer::Shelf;

/// Which build this is, as hosts tell each other.
const BUILD: &str =
    if cfg!(debug_assertions) { concat!(env!("CARGO_PKG_VERSION"), " debug") } else { env!("CARGO_PKG_VERSION") };

/// What all parts of a running host share.
pub(crate) struct Shared {
    pub(super) endpoint: Endpoint,
    pub(super) address: SocketAddr,
    pub(super) directory: PathBuf,
    pub(crate) epoch: Epoch,
    pub(super) facts: HostFacts,
    pub(super) capabilities: Vec<String>,
    pub(super) started: Instant,
    pub(super) started_at: SystemTime,
    pub(crate) timing: Timing,
    pub(super) clock: ClusterClock,
    pub(crate) leases: Leases,
    pub(crate) shelf: Arc<Shelf>,
    pub(super) events: broadcast::Sender<HostEvent>,
    /// The host is about to end: roles stop what they run, handles give back what they hold.
    pub(crate) stop: CancellationToken,
    /// Ends everything that runs for the host, its connections included.
    pub(super) end: CancellationToken,
    /// What handles of this host run beside it, such as the renewal of leases that they hold.
    pub(crate) tracker: TaskTracker,
    /// Which part of the host has crashed, if one has.
    pub(super) crashed: watch::Sender<Option<&'static str>>,
    /// `false` once the roles of this host have stopped what they ran; see [`Shared::roles_ended`].
    pub(crate) roles_running: watch::Sender<bool>,
    pub(super) side: Side,
    credentials: watch::Sender<Option<Credentials>>,
    sessions: Mutex<HashMap<Session, Peer>>,
    last_session: AtomicU64,
}

/// What depends on the host's place in the cluster.
pub(super) enum Side {
    Coordinator(CoordinatorSide),
    Member(MemberSide),
}

/// What [`Shared::new`] is made of, beside what it makes itself.
pub(super) struct Parts {
    pub(super) endpoint: Endpoint,
    pub(super) address: SocketAddr,
    pub(super) directory: PathBuf,
    pub(super) epoch: Epoch,
    pub(super) facts: HostFacts,
    pub(super) capabilities: Vec<String>,
    pub(super) timing: Timing,
    pub(super) credentials: Option<Credentials>,
    pub(super) side: Side,
}

/// Changes that a slow listener may have pending before it misses some.
const EVENT_BACKLOG: usize = 1024;

impl Shared {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { endpoint, address, directory, epoch, facts, capabilities, timing, credentials, side } = parts;
        Self {
            endpoint,
            address,
            directory,
            epoch,
            facts,
            capabilities,
            timing,
            started: Instant::now(),
            started_at: SystemTime::now(),
            clock: match side {
                Side::Coordinator(_) => ClusterClock::of_coordinator(),
                Side::Member(_) => ClusterClock::of_member(),
            },
            leases: Leases::new(epoch),
            shelf: Arc::default(),
            events: broadcast::channel(EVENT_BACKLOG).0,
            stop: CancellationToken::new(),
            end: CancellationToken::new(),
            tracker: TaskTracker::new(),
            crashed: watch::Sender::new(None),
            roles_running: watch::Sender::new(false),
            side,
            credentials: watch::Sender::new(credentials),
            sessions: Mutex::default(),
            last_session: AtomicU64::new(0),
        }
    }

    pub(crate) fn role(&self) -> HostRole {
        match self.side {
            Side::Coordinator(_) => HostRole::Coordinator,
            Side::Member(_) => HostRole::Member,
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What to call this host in messages to the user.
    pub(crate) fn name(&self) -> String {
        display_name(&self.facts.name, self.address)
    }

    pub(super) fn credentials(&self) -> Option<Credentials> {
        self.credentials.borrow().clone()
    }

    /// Credentials as they change, from now on.
    pub(super) fn credentials_changed(&self) -> watch::Receiver<Option<Credentials>> {
        self.credentials.subscribe()
    }

    /// Uses these credentials for every connection from now on; connections that stand are not touched.
    pub(super) fn install(&self, credentials: Credentials) -> Result<(), String> {
        let tls = tls::server_config(&credentials).map_err(|error| error.to_string())?;
        self.endpoint.set_server_config(Some(socket::server(tls).map_err(|error| error.to_string())?));
        self.credentials.send_replace(Some(credentials));
        Ok(())
    }

    pub(super) fn hello(&self) -> Hello {
        Hello {
            epoch: self.epoch,
            facts: self.facts.clone(),
            build: BUILD.to_owned(),
            capabilities: self.capabilities.clone(),
            wall_clock: wall_clock(SystemTime::now()),
        }
    }

    pub(super) fn welcome(&self) -> Welcome {
        Welcome {
            epoch: self.epoch,
            facts: self.facts.clone(),
            build: BUILD.to_owned(),
            capabilities: self.capabilities.clone(),
        }
    }

    /// Numbers a new connection.
    pub(super) fn next_session(&self) -> Session {
        Session(self.last_session.fetch_add(1, Ordering::Relaxed) + 1)
    }

    pub(super) fn add_session(&self, session: Session, peer: Peer) {
        lock(&self.sessions).insert(session, peer);
    }

    pub(super) fn remove_session(&self, session: Session) -> Option<Peer> {
        lock(&self.sessions).remove(&session)
    }

    pub(super) fn session(&self, session: Session) -> Option<Peer> {
        lock(&self.sessions).get(&session).cloned()
    }

    pub(super) fn publish(&self, event: HostEvent) {
        // It is no error that nobody listens.
        let _ = self.events.send(event);
    }

    pub(crate) fn peer(&self, host: HostId) -> Option<Peer> {
        match &self.side {
            Side::Coordinator(side) => self.session(side.session_of(host)?),
            Side::Member(_) => self.coordinator_peer().filter(|peer| peer.host() == host),
        }
    }

    pub(crate) fn coordinator_peer(&self) -> Option<Peer> {
        match &self.side {
            Side::Coordinator(_) => None,
            Side::Member(side) => self.session(side.session()?),
        }
    }

    /// How a host is called and whether it counts as gone; `None` if it is not known here.
    pub(crate) fn standing(&self, host: HostId) -> Option<(String, HostState)> {
        match &self.side {
            Side::Coordinator(side) => side.standing(host),
            Side::Member(_) => self.peer(host).map(|peer| (peer.name().to_owned(), HostState::Alive)),
        }
    }

    pub(super) async fn joined(&self) -> Result<(), JoinError> {
        match &self.side {
            Side::Coordinator(_) => Ok(()),
            Side::Member(side) => side.joined().await,
        }
    }

    /// Every host of the cluster as this coordinator sees it; empty on a member.
    pub(crate) fn hosts(&self) -> Vec<HostSummary> {
        match &self.side {
            Side::Coordinator(side) => side.hosts(self.own_summary()),
            Side::Member(_) => Vec::new(),
        }
    }

    pub(super) async fn status(&self) -> HostStatus {
        let (coordinator, hosts, hosts_age) = match &self.side {
            Side::Coordinator(_) => (self.own_link(), self.hosts(), Some(Duration::ZERO)),
            Side::Member(side) => {
                let (hosts, age) = side.hosts(self.coordinator_peer()).await;
                (side.link(), hosts, age)
            }
        };
        HostStatus {
            id: self.credentials().map(|credentials| credentials.host()),
            role: self.role(),
            address: self.address,
            epoch: self.epoch,
            uptime: self.started.elapsed(),
            facts: self.facts.clone(),
            activity: self.leases.activity(),
            coordinator,
            hosts,
            hosts_age,
        }
    }

    pub(super) fn create_token(&self, lifetime: Duration, note: &str) -> Result<JoinToken, TokenError> {
        let mut tokens = self.coordinator_side()?.tokens();
        Ok(tokens.create(lifetime, note, SystemTime::now())?)
    }

    pub(super) fn tokens(&self) -> Result<Vec<TokenSummary>, TokenError> {
        Ok(self.coordinator_side()?.tokens().list(SystemTime::now()))
    }

    pub(super) fn revoke_token(&self, token: TokenId) -> Result<(), TokenError> {
        Ok(self.coordinator_side()?.tokens().revoke(token, SystemTime::now())?)
    }

    fn coordinator_side(&self) -> Result<&CoordinatorSide, TokenError> {
        match &self.side {
            Side::Coordinator(side) => Ok(side),
            Side::Member(side) => Err(TokenError::NotCoordinator { coordinator: side.coordinator() }),
        }
    }

    pub(super) fn begin_stop(&self) {
        self.stop.cancel();
        self.tracker.close();
    }

    /// Closes all connections, and ends what served them.
    pub(super) fn end(&self, why: CloseCode) {
        self.end.cancel();
        self.endpoint.close(why.into(), b"");
    }

    /// Waits until the roles of this host have ended what they ran, and handles have given back their leases.
    pub(super) async fn roles_ended(&self) {
        let mut running = self.roles_running.subscribe();
        // The sender lives in `self`, so the wait can only end by the value.
        let _ = running.wait_for(|running| !running).await;
        self.tracker.wait().await;
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("address", &self.address)
            .field("epoch", &self.epoch)
            .field("credentials", &self.credentials())
            .finish_non_exhaustive()
    }
}

/// A host's name and address as users see them.
pub(super) fn display_name(name: &str, address: SocketAddr) -> String {
    if name.is_empty() { address.to_string() } else { format!("{name} ({address})") }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
