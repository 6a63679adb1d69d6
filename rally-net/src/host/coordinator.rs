//! The coordinator's side: it listens, admits, and keeps the registry.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use rally_core::HostId;
use tokio::sync::Notify;
use tokio::time::sleep_until;
use tracing::{debug, info};

use super::shared::{Shared, Side, display_name, lock};
use super::{HostEvent, socket_patience};
use crate::close::CloseCode;
use crate::identity::{Authority, Fingerprint, IssueError, TokenBook, check_clock};
use crate::membership::{
    DisconnectReason, HostChange, RefuseReason, Registry, RegistryAction, RegistryEvent, Session, Timing,
};
use crate::protocol::{JoinRefusal, JoinRequest, Joined, from_wall_clock};
use crate::status::{CoordinatorStatus, HostRole, HostState, HostSummary, LinkState};

/// What only a coordinator has.
#[derive(Debug)]
pub(super) struct CoordinatorSide {
    registry: Mutex<Registry>,
    /// Rung when the registry's next deadline has become earlier.
    deadline_moved: Notify,
    authority: Authority,
    certificate_lifetime: Duration,
    tokens: Mutex<TokenBook>,
}

impl CoordinatorSide {
    pub(super) fn new(timing: Timing, authority: Authority, certificate_lifetime: Duration, tokens: TokenBook) -> Self {
        Self {
            registry: Mutex::new(Registry::new(timing, Default::default())),
            deadline_moved: Notify::new(),
            authority,
            certificate_lifetime,
            tokens: Mutex::new(tokens),
        }
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        self.authority.fingerprint()
    }

    pub(super) fn tokens(&self) -> MutexGuard<'_, TokenBook> {
        lock(&self.tokens)
    }

    /// The current connection of a host.
    pub(super) fn session_of(&self, host: HostId) -> Option<Session> {
        lock(&self.registry).host(host)?.session
    }

    pub(super) fn standing(&self, host: HostId) -> Option<(String, HostState)> {
        let registry = lock(&self.registry);
        let record = registry.host(host)?;
        Some((display_name(&record.facts.name, record.address), record.state))
    }

    /// This host first, the others by name and address.
    pub(super) fn hosts(&self, own: HostSummary) -> Vec<HostSummary> {
        let now = Instant::now();
        let mut hosts: Vec<_> = lock(&self.registry)
            .hosts()
            .map(|record| HostSummary {
                id: record.host,
                role: HostRole::Member,
                address: record.address,
                state: record.state,
                last_heard: now.saturating_duration_since(record.last_heard),
                round_trip: record.round_trip,
                clock: record.clock,
                wall_shift: record.wall_shift,
                epoch: record.epoch,
                facts: record.facts.clone(),
                activity: record.activity.clone(),
            })
            .collect();
        hosts.sort_by(|a, b| (&a.facts.name, a.address).cmp(&(&b.facts.name, b.address)));
        hosts.insert(0, own);
        hosts
    }

    /// Makes a certificate for a host that proves with its token, or with its connection, that it may have one.
    pub(super) fn issue(&self, request: &[u8], host: HostId, role: HostRole) -> Result<Vec<Vec<u8>>, IssueError> {
        let chain = self.authority.issue(request, host, role, self.certificate_lifetime, SystemTime::now())?;
        Ok(chain.iter().map(|certificate| certificate.to_vec()).collect())
    }

    /// Decides about a host that wants to join. The token is looked at first: nobody else learns anything.
    pub(super) fn join(&self, request: &JoinRequest) -> Result<Joined, JoinRefusal> {
        let now = SystemTime::now();
        self.tokens()
            .check(request.token, &request.secret, now)
            .map_err(|refusal| JoinRefusal::Token(refusal.to_string()))?;
        check_clock(from_wall_clock(request.wall_clock), now)
            .map_err(|difference| JoinRefusal::Clock(difference.to_string()))?;
        let host = HostId::from_random(rand::random());
        let chain = self
            .issue(&request.request, host, HostRole::Member)
            .map_err(|error| JoinRefusal::Invalid(error.to_string()))?;
        info!(%host, name = ?request.name, "a host has joined");
        Ok(Joined { host, chain })
    }
}

impl Shared {
    /// What this coordinator says about itself in the list of hosts.
    pub(super) fn own_summary(&self) -> HostSummary {
        HostSummary {
            id: self.credentials().map_or(HostId::from_random(0), |credentials| credentials.host()),
            role: self.role(),
            address: self.address,
            state: HostState::Alive,
            last_heard: Duration::ZERO,
            round_trip: None,
            clock: None,
            wall_shift: self.clock.wall_shift(),
            epoch: self.epoch,
            facts: self.facts.clone(),
            activity: self.leases.activity(),
        }
    }

    pub(super) fn own_link(&self) -> CoordinatorStatus {
        CoordinatorStatus { address: self.address, link: LinkState::Own { since: self.started_at } }
    }

    /// Feeds the registry and does what it wants; returns what it decided about a hello.
    pub(super) fn apply(&self, event: RegistryEvent) -> Option<Result<(), RefuseReason>> {
        let Side::Coordinator(side) = &self.side else { return None };
        let mut registry = lock(&side.registry);
        let before = registry.next_deadline();
        let actions = registry.handle(Instant::now(), event);
        let after = registry.next_deadline();
        drop(registry);
        if after.is_some_and(|after| before.is_none_or(|before| after < before)) {
            side.deadline_moved.notify_one();
        }
        self.perform(actions)
    }

    fn perform(&self, actions: Vec<RegistryAction>) -> Option<Result<(), RefuseReason>> {
        let mut verdict = None;
        for action in actions {
            match action {
                RegistryAction::Welcome { .. } => verdict = Some(Ok(())),
                RegistryAction::Refuse { reason, .. } => verdict = Some(Err(reason)),
                RegistryAction::Disconnect { session, reason } => {
                    if let Some(peer) = self.remove_session(session) {
                        debug!(peer = peer.name(), %reason, "closing a connection");
                        peer.connection().close(close_code(&reason).into(), b"");
                    }
                }
                RegistryAction::Publish(event) => {
                    info!(host = %event.host, epoch = %event.epoch, change = ?event.change, "membership changed");
                    if matches!(event.change, HostChange::Joined | HostChange::Restarted { .. }) {
                        self.leases.owner_seen(event.host, event.epoch);
                    }
                    self.publish(HostEvent::Membership(event));
                }
            }
        }
        verdict
    }
}

/// Ends waits of the registry, until the host stops.
pub(super) async fn watch_deadlines(shared: Arc<Shared>) {
    let Side::Coordinator(side) = &shared.side else { return };
    loop {
        let deadline = lock(&side.registry).next_deadline();
        tokio::select! {
            () = shared.end.cancelled() => return,
            () = side.deadline_moved.notified() => continue,
            () = async { match deadline {
                Some(deadline) => sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            } } => (),
        }
        socket_patience(deadline).await;
        let actions = lock(&side.registry).handle_timeout(Instant::now());
        shared.perform(actions);
    }
}

pub(super) fn close_code(reason: &DisconnectReason) -> CloseCode {
    match reason {
        DisconnectReason::Silent => CloseCode::Silent,
        DisconnectReason::Replaced { .. } | DisconnectReason::Superseded => CloseCode::Replaced,
        DisconnectReason::OldEpoch { .. } => CloseCode::Refused,
    }
}
