//! A member's side: it dials the coordinator and follows it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures_util::TryStreamExt;
use quinn::ConnectionError;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};
use tracing::{debug, info, warn};

use super::config::TokenSource;
use super::coordinator::close_code;
use super::dial::{dial_coordinator, join};
use super::shared::{Shared, Side, lock};
use super::{HostEvent, socket_patience};
use crate::clock::ClockSample;
use crate::close::{describe, is_goodbye};
use crate::identity::find_local_token;
use crate::membership::{
    DialFailure, Link, LossCause, Session, Timing, Uplink, UplinkAction, UplinkEvent, UplinkInput,
};
use crate::protocol::Datagram;
use crate::rpc::{self, Peer, Request, Services};
use crate::status::{CoordinatorStatus, HostSummary, LinkState};

/// How many happenings on connections may wait for the uplink.
const INBOX: usize = 64;

/// How long a member waits for the coordinator's list of hosts before it shows the last one.
const HOSTS_TIMEOUT: Duration = Duration::from_secs(1);

/// Asks the coordinator for all hosts of the cluster.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ListHosts;

impl Request for ListHosts {
    const NAME: &'static str = "cluster/hosts";
    /// One host; they come as a stream, because all of them may not fit one frame.
    type Answer = HostSummary;
}

/// The host cannot become part of the cluster: why, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct JoinError(pub(super) String);

/// What only a member has.
#[derive(Debug)]
pub(super) struct MemberSide {
    coordinator: SocketAddr,
    token: TokenSource,
    uplink: Mutex<Uplink>,
    joined: watch::Sender<Option<Result<(), JoinError>>>,
    last_hosts: Mutex<Option<(Instant, Vec<HostSummary>)>>,
}

impl MemberSide {
    pub(super) fn new(coordinator: SocketAddr, token: TokenSource, timing: Timing) -> Self {
        Self {
            coordinator,
            token,
            uplink: Mutex::new(Uplink::new(Instant::now(), timing, rand::random())),
            joined: watch::Sender::new(None),
            last_hosts: Mutex::default(),
        }
    }

    pub(super) fn coordinator(&self) -> SocketAddr {
        self.coordinator
    }

    /// The current connection to the coordinator.
    pub(super) fn session(&self) -> Option<Session> {
        match lock(&self.uplink).link() {
            Link::Connected { session, .. } => Some(session),
            Link::Connecting { .. } | Link::Stopped => None,
        }
    }

    pub(super) async fn joined(&self) -> Result<(), JoinError> {
        let mut joined = self.joined.subscribe();
        let outcome = joined.wait_for(Option::is_some).await.map(|outcome| outcome.clone());
        outcome.ok().flatten().unwrap_or_else(|| Err(JoinError("the host was stopped before it had joined".to_owned())))
    }

    pub(super) fn link(&self) -> CoordinatorStatus {
        let wall = |instant: Instant| SystemTime::now() - instant.elapsed();
        let link = match lock(&self.uplink).link() {
            Link::Connected { since, suspect, .. } => LinkState::Connected { since: wall(since), suspect },
            Link::Connecting { since, attempts, last_failure } => LinkState::Connecting {
                since: wall(since),
                attempts,
                last_error: last_failure.map(|failure| self.advise(&failure)),
            },
            Link::Stopped => LinkState::Connecting {
                since: SystemTime::now(),
                attempts: 0,
                last_error: self.joined.borrow().clone().and_then(Result::err).map(|error| error.to_string()),
            },
        };
        CoordinatorStatus { address: self.coordinator, link }
    }

    /// The hosts of the cluster and how long ago the coordinator listed them.
    pub(super) async fn hosts(&self, coordinator: Option<Peer>) -> (Vec<HostSummary>, Option<Duration>) {
        if let Some(peer) = coordinator {
            let list = async { peer.subscribe(&ListHosts, HOSTS_TIMEOUT).await?.try_collect().await };
            match timeout(HOSTS_TIMEOUT, list).await {
                Ok(Ok(hosts)) => *lock(&self.last_hosts) = Some((Instant::now(), hosts)),
                Ok(Err(error)) => debug!(%error, "the coordinator did not list its hosts"),
                Err(_) => debug!("the coordinator did not list its hosts in time"),
            }
        }
        match &*lock(&self.last_hosts) {
            Some((asked, hosts)) => (hosts.clone(), Some(asked.elapsed())),
            None => (Vec::new(), None),
        }
    }

    /// Adds to a failed attempt what the user may check.
    fn advise(&self, failure: &DialFailure) -> String {
        let Self { coordinator, .. } = self;
        match failure {
            DialFailure::TimedOut(_) => format!(
                "{failure} from {coordinator}: check that rallyd runs there as the coordinator, and that UDP port {} is \
                 open in both directions",
                coordinator.port()
            ),
            DialFailure::Unreachable(_)
            | DialFailure::Rejected(_)
            | DialFailure::Refused(_)
            | DialFailure::OldCoordinator { .. } => failure.to_string(),
        }
    }
}

/// Keeps the connection to the coordinator, until the host stops.
pub(super) async fn follow_coordinator(shared: Arc<Shared>, services: Arc<Services>) {
    let (inbox, inputs) = mpsc::channel(INBOX);
    Follower { shared, services, inbox, dials: JoinSet::new(), connections: JoinSet::new() }.run(inputs).await;
}

struct Follower {
    shared: Arc<Shared>,
    services: Arc<Services>,
    inbox: mpsc::Sender<UplinkInput>,
    dials: JoinSet<(u64, Result<Peer, DialFailure>)>,
    connections: JoinSet<()>,
}

impl Follower {
    async fn run(mut self, mut inputs: mpsc::Receiver<UplinkInput>) {
        let shared = Arc::clone(&self.shared);
        let Side::Member(side) = &shared.side else { return };
        loop {
            let deadline = lock(&side.uplink).next_deadline();
            tokio::select! {
                biased;
                () = shared.end.cancelled() => return,
                Some(input) = inputs.recv() => self.handle(side, input),
                Some(dialed) = self.dials.join_next() => match dialed {
                    Ok((attempt, outcome)) => self.dialed(side, attempt, outcome),
                    Err(error) if error.is_cancelled() => (),
                    Err(error) => warn!(%error, "dialing the coordinator has failed"),
                },
                Some(ended) = self.connections.join_next() => {
                    if let Err(error) = ended {
                        warn!(%error, "following the coordinator has failed");
                    }
                }
                () = async { match deadline {
                    Some(deadline) => sleep_until(deadline.into()).await,
                    None => std::future::pending().await,
                } } => {
                    socket_patience(deadline).await;
                    while let Ok(input) = inputs.try_recv() {
                        self.handle(side, input);
                    }
                    let actions = lock(&side.uplink).handle_timeout(Instant::now());
                    self.perform(side, actions);
                }
            }
        }
    }

    fn handle(&mut self, side: &MemberSide, input: UplinkInput) {
        if let UplinkInput::Closed { session, .. } = &input {
            self.shared.remove_session(*session);
        }
        let actions = lock(&side.uplink).handle(Instant::now(), input);
        self.perform(side, actions);
    }

    fn dialed(&mut self, side: &MemberSide, attempt: u64, outcome: Result<Peer, DialFailure>) {
        match outcome {
            Err(failure) => self.handle(side, UplinkInput::Failed { attempt, failure }),
            Ok(peer) => {
                let session = self.shared.next_session();
                let (coordinator, epoch) = (peer.host(), peer.epoch());
                self.shared.add_session(session, peer.clone());
                // What an earlier start of the coordinator had asked for ends before this one can ask for anything.
                self.handle(side, UplinkInput::Connected { attempt, session, coordinator, epoch });
                let (services, inbox, shared) =
                    (Arc::clone(&self.services), self.inbox.clone(), Arc::clone(&self.shared));
                self.connections.spawn(async move {
                    let cause = tokio::select! {
                        cause = rpc::serve(&services, &peer) => cause,
                        cause = hear(&shared, &peer, session, &inbox) => cause,
                    };
                    let cause = if is_goodbye(&cause) { LossCause::Left } else { LossCause::Broken(describe(&cause)) };
                    // The uplink is gone only when the host stops.
                    let _ = inbox.send(UplinkInput::Closed { session, cause }).await;
                });
            }
        }
    }

    fn perform(&mut self, side: &MemberSide, actions: Vec<UplinkAction>) {
        for action in actions {
            match action {
                UplinkAction::Dial { attempt } => {
                    let shared = Arc::clone(&self.shared);
                    self.dials.spawn(async move { (attempt, dial(&shared).await) });
                }
                UplinkAction::Abandon { .. } => self.dials.abort_all(),
                UplinkAction::SendHeartbeat { session, .. } => self.send_heartbeat(session),
                UplinkAction::Disconnect { session, reason } => {
                    if let Some(peer) = self.shared.remove_session(session) {
                        peer.connection().close(close_code(&reason).into(), b"");
                    }
                }
                UplinkAction::Publish(event) => self.publish(side, event),
            }
        }
    }

    fn send_heartbeat(&self, session: Session) {
        let Some(peer) = self.shared.session(session) else { return };
        let clock = &self.shared.clock;
        let heartbeat = Datagram::Heartbeat {
            activity: self.shared.leases.activity(),
            clock: clock.estimate().zip(clock.round_trip()),
            wall_shift: clock.wall_shift(),
            sent: clock.local(),
        };
        send(&peer, &heartbeat);
    }

    fn publish(&self, side: &MemberSide, event: UplinkEvent) {
        // First of all, so that who waits for this host to join and listens then is not told of the past.
        self.shared.publish(HostEvent::Uplink(event.clone()));
        match &event {
            UplinkEvent::Connected { coordinator, epoch, restarted } => {
                info!(%coordinator, %epoch, "connected to the coordinator");
                self.shared.leases.owner_seen(*coordinator, *epoch);
                if *restarted {
                    self.shared.clock.reset();
                }
                side.joined.send_replace(Some(Ok(())));
            }
            UplinkEvent::Stopped { failure } => {
                let why = side.advise(failure);
                warn!(why, "this host cannot join its cluster");
                side.joined.send_replace(Some(Err(JoinError(why))));
            }
            UplinkEvent::AttemptFailed { attempt, failure } => {
                info!(attempt, why = side.advise(failure), "the coordinator cannot be reached yet");
            }
            UplinkEvent::CoordinatorLost { cause } => warn!(%cause, "lost the coordinator; trying again"),
            UplinkEvent::CoordinatorSuspected => warn!("the coordinator is silent"),
            UplinkEvent::CoordinatorRecovered => info!("the coordinator is heard of again"),
        }
    }
}

/// One attempt: joins first if this host has no certificate that is good for the cluster.
async fn dial(shared: &Shared) -> Result<Peer, DialFailure> {
    let Side::Member(side) = &shared.side else {
        return Err(DialFailure::Rejected("the coordinator dials nobody".to_owned()));
    };
    let now = SystemTime::now();
    let token = token(side)?;
    let usable = shared.credentials().filter(|credentials| {
        // A token is worth more than what is on disk once that has expired, or is for another cluster.
        token
            .as_ref()
            .is_none_or(|token| credentials.expires_at() > now && credentials.authority() == token.fingerprint)
    });
    let credentials = match (usable, token) {
        (Some(credentials), _) => credentials,
        (None, Some(token)) => {
            let credentials = join(shared, side.coordinator, &token).await?;
            credentials.store(&shared.directory).map_err(|error| DialFailure::Rejected(error.to_string()))?;
            shared.install(credentials.clone()).map_err(DialFailure::Rejected)?;
            credentials
        }
        (None, None) => {
            return Err(DialFailure::Unreachable(
                "this user's coordinator on this machine has not been started yet, so there is no token to join with; if \
                 the coordinator is another user's, hand its token over by `--token`, RALLY_TOKEN, or `join.token` in the \
                 section [cluster] of rally.ini"
                    .to_owned(),
            ));
        }
    };
    dial_coordinator(shared, side.coordinator, &credentials).await
}

fn token(side: &MemberSide) -> Result<Option<crate::identity::JoinToken>, DialFailure> {
    match &side.token {
        TokenSource::None => Ok(None),
        TokenSource::Given(token) => Ok(Some(token.clone())),
        TokenSource::CoordinatorDirectory(directory) => {
            find_local_token(directory).map_err(|error| DialFailure::Rejected(error.to_string()))
        }
    }
}

/// Takes in the coordinator's answers to heartbeats, until the connection ends.
async fn hear(shared: &Shared, peer: &Peer, session: Session, inbox: &mpsc::Sender<UplinkInput>) -> ConnectionError {
    loop {
        let datagram = match peer.connection().read_datagram().await {
            Ok(datagram) => datagram,
            Err(error) => return error,
        };
        let received = shared.clock.local();
        if let Ok(Datagram::Answer { sent, received_there, sent_there }) = postcard::from_bytes(&datagram) {
            shared.clock.record(ClockSample { sent, received_there, sent_there, received });
            // The uplink is gone only when the host stops, which also ends this connection.
            let _ = inbox.send(UplinkInput::Heard { session }).await;
        }
    }
}

/// Sends a datagram; one that cannot be sent now is as good as lost.
pub(super) fn send(peer: &Peer, datagram: &Datagram) {
    match postcard::to_stdvec(datagram) {
        Ok(bytes) => {
            if let Err(error) = peer.connection().send_datagram(Bytes::from(bytes)) {
                debug!(peer = peer.name(), %error, "a heartbeat could not be sent");
            }
        }
        Err(error) => debug!(%error, "a heartbeat could not be encoded"),
    }
}
