//! The member's side of membership.

use std::time::{Duration, Instant};

use rally_core::{Epoch, HostId};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{DisconnectReason, RefuseReason, Session, Timing};

/// A member's connection to its coordinator, which it seeks for ever.
///
/// It waits between attempts for a random time whose upper limit doubles from [`Timing::retry_at_first`] to
/// [`Timing::retry_at_most`], so that members do not come back in step when their coordinator returns.
///
/// Only before the first connection may it give up, so that a host that can never join says so instead of trying for
/// ever: when the coordinator answers, but rejects the host for what it is ([`DialFailure::Rejected`],
/// [`RefuseReason::OldEpoch`]), or when another host with the same identity has been in the way for
/// [`Timing::dead_after`] (a former self of this host would have fallen silent by then). Once connected, a member
/// outlives whatever its coordinator goes through.
#[derive(Debug)]
pub struct Uplink {
    timing: Timing,
    rng: StdRng,
    state: State,
    /// Since when there is no connection, if there is none.
    down_since: Instant,
    /// Attempts so far, the number of the last one.
    attempt: u64,
    /// Attempts since `down_since`.
    attempts_since_down: u32,
    /// Attempts and short-lived connections since the last stable connection.
    failures: u32,
    last_failure: Option<DialFailure>,
    /// Since when another host with the same identity has been in the way, without another outcome in between.
    same_identity_since: Option<Instant>,
    /// The coordinator of the last connection.
    coordinator: Option<(HostId, Epoch)>,
}

#[derive(Debug)]
enum State {
    /// Until the next attempt.
    Waiting { until: Instant },
    /// An attempt is under way.
    Dialing { until: Instant },
    /// Welcomed by the coordinator.
    Connected {
        session: Session,
        since: Instant,
        last_heard: Instant,
        suspect: bool,
        next_heartbeat: Instant,
        /// The number of the last heartbeat.
        sequence: u64,
    },
    /// The host cannot join.
    Stopped,
}

/// How an [`Uplink`] stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// Not connected; it keeps trying.
    Connecting {
        /// Since when there is no connection.
        since: Instant,
        /// Attempts since then.
        attempts: u32,
        /// Why the last attempt failed.
        last_failure: Option<DialFailure>,
    },
    /// Connected.
    Connected {
        /// The connection.
        session: Session,
        /// Since when.
        since: Instant,
        /// Silent for longer than it should be.
        suspect: bool,
    },
    /// The host cannot join the cluster, and no longer tries.
    Stopped,
}

/// Why an attempt to connect failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialFailure {
    /// Nobody answered, or the connection broke before the welcome; it may be better next time.
    #[error("{0}")]
    Unreachable(String),
    /// There was no answer in time.
    #[error("no answer within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    /// The two sides cannot agree and will not by themselves: a foreign certificate, another protocol version.
    #[error("{0}")]
    Rejected(String),
    /// The coordinator knows the host, but does not take it in.
    #[error(transparent)]
    Refused(RefuseReason),
    /// A coordinator answered whose daemon has been started anew since.
    #[error("start {found} of the coordinator answered, but start {known} is known")]
    OldCoordinator {
        /// The epoch of the one that answered.
        found: Epoch,
        /// The latest epoch that is known.
        known: Epoch,
    },
}

/// Why a connection was lost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LossCause {
    /// The coordinator was silent for too long.
    #[error("the coordinator was silent for too long")]
    Silent,
    /// The coordinator said goodbye.
    #[error("the coordinator has stopped")]
    Left,
    /// The coordinator closed the connection.
    #[error("the coordinator closed the connection: {0}")]
    Disconnected(DisconnectReason),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(String),
}

/// What happened to the connections of the member.
#[derive(Clone, Debug)]
pub enum UplinkInput {
    /// The coordinator has welcomed this host.
    Connected {
        /// The number of the attempt.
        attempt: u64,
        /// The new connection.
        session: Session,
        /// Who the coordinator is, by its certificate.
        coordinator: HostId,
        /// The number of its daemon's start.
        epoch: Epoch,
    },
    /// An attempt has failed.
    Failed {
        /// The number of the attempt.
        attempt: u64,
        /// Why.
        failure: DialFailure,
    },
    /// The coordinator has answered a heartbeat or sent something else.
    Heard {
        /// The connection it came on.
        session: Session,
    },
    /// A connection is gone.
    Closed {
        /// The connection.
        session: Session,
        /// Why.
        cause: LossCause,
    },
}

/// What the caller of an [`Uplink`] has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UplinkAction {
    /// Connect to the coordinator and say hello; answered by [`UplinkInput::Connected`] or [`UplinkInput::Failed`].
    Dial {
        /// The number of the attempt.
        attempt: u64,
    },
    /// Give up an attempt that takes too long; its outcome does not count any more.
    Abandon {
        /// The number of the attempt.
        attempt: u64,
    },
    /// Send a heartbeat.
    SendHeartbeat {
        /// The connection to send it on.
        session: Session,
        /// The number of the heartbeat on this connection, from 1.
        sequence: u64,
    },
    /// Close the connection; nothing that still comes from it counts.
    Disconnect {
        /// The connection.
        session: Session,
        /// Why.
        reason: DisconnectReason,
    },
    /// Tell everyone who watches the connection.
    Publish(UplinkEvent),
}

/// A change of the connection to the coordinator, seen from the member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UplinkEvent {
    /// The coordinator has taken this host in.
    Connected {
        /// Who the coordinator is.
        coordinator: HostId,
        /// The number of its daemon's start.
        epoch: Epoch,
        /// Whether this is another start than that of the last connection; what the old one asked for is over.
        restarted: bool,
    },
    /// The coordinator is silent for longer than it should be.
    CoordinatorSuspected,
    /// The coordinator was suspect and is heard of again.
    CoordinatorRecovered,
    /// The connection is lost; it is sought again.
    CoordinatorLost {
        /// Why.
        cause: LossCause,
    },
    /// An attempt has failed.
    AttemptFailed {
        /// The number of the attempt.
        attempt: u64,
        /// Why.
        failure: DialFailure,
    },
    /// The host cannot join the cluster; nothing follows.
    Stopped {
        /// Why.
        failure: DialFailure,
    },
}

impl Uplink {
    /// Begins with an attempt at `now`; `seed` spreads the retries of different members.
    pub fn new(now: Instant, timing: Timing, seed: u64) -> Self {
        Self {
            timing,
            rng: StdRng::seed_from_u64(seed),
            state: State::Waiting { until: now },
            down_since: now,
            attempt: 0,
            attempts_since_down: 0,
            failures: 0,
            last_failure: None,
            same_identity_since: None,
            coordinator: None,
        }
    }

    /// Applies one input and returns what has to be done about it, in order; at most three actions.
    ///
    /// Inputs of an attempt or session that is not the current one change nothing.
    #[must_use]
    pub fn handle(&mut self, now: Instant, input: UplinkInput) -> Vec<UplinkAction> {
        match input {
            UplinkInput::Connected { attempt, session, coordinator, epoch } => {
                self.connected(now, attempt, session, coordinator, epoch)
            }
            UplinkInput::Failed { attempt, failure } => match self.state {
                State::Dialing { .. } if attempt == self.attempt => self.failed(now, failure),
                State::Waiting { .. } | State::Dialing { .. } | State::Connected { .. } | State::Stopped => Vec::new(),
            },
            UplinkInput::Heard { session } => match &mut self.state {
                State::Connected { session: current, last_heard, suspect, .. } if session == *current => {
                    *last_heard = now.max(*last_heard);
                    if std::mem::take(suspect) {
                        vec![UplinkAction::Publish(UplinkEvent::CoordinatorRecovered)]
                    } else {
                        Vec::new()
                    }
                }
                State::Waiting { .. } | State::Dialing { .. } | State::Connected { .. } | State::Stopped => Vec::new(),
            },
            UplinkInput::Closed { session, cause } => match self.state {
                State::Connected { session: current, since, .. } if session == current => self.lost(now, since, cause),
                State::Waiting { .. } | State::Dialing { .. } | State::Connected { .. } | State::Stopped => Vec::new(),
            },
        }
    }

    /// Does what is due; at most two actions.
    #[must_use]
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<UplinkAction> {
        let timing = &self.timing;
        match &mut self.state {
            State::Waiting { until } if *until <= now => {
                self.attempt += 1;
                self.attempts_since_down = self.attempts_since_down.saturating_add(1);
                self.state = State::Dialing { until: now + timing.dial_timeout };
                vec![UplinkAction::Dial { attempt: self.attempt }]
            }
            State::Dialing { until } if *until <= now => {
                let mut actions = vec![UplinkAction::Abandon { attempt: self.attempt }];
                let failure = DialFailure::TimedOut(timing.dial_timeout);
                actions.extend(self.failed(now, failure));
                actions
            }
            &mut State::Connected { session, since, last_heard, .. } if last_heard + timing.dead_after <= now => {
                let mut actions = vec![UplinkAction::Disconnect { session, reason: DisconnectReason::Silent }];
                actions.extend(self.lost(now, since, LossCause::Silent));
                actions
            }
            State::Connected { session, last_heard, suspect, next_heartbeat, sequence, .. } => {
                let mut actions = Vec::new();
                if !*suspect && *last_heard + timing.suspect_after <= now {
                    *suspect = true;
                    actions.push(UplinkAction::Publish(UplinkEvent::CoordinatorSuspected));
                }
                if *next_heartbeat <= now {
                    // After a stall one heartbeat is enough.
                    *next_heartbeat = now + timing.heartbeat;
                    *sequence += 1;
                    actions.push(UplinkAction::SendHeartbeat { session: *session, sequence: *sequence });
                }
                actions
            }
            State::Waiting { .. } | State::Dialing { .. } | State::Stopped => Vec::new(),
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), `None` once it has stopped.
    pub fn next_deadline(&self) -> Option<Instant> {
        match self.state {
            State::Waiting { until } | State::Dialing { until } => Some(until),
            State::Connected { last_heard, suspect, next_heartbeat, .. } => {
                let silence = if suspect { self.timing.dead_after } else { self.timing.suspect_after };
                Some(next_heartbeat.min(last_heard + silence))
            }
            State::Stopped => None,
        }
    }

    /// How it stands.
    pub fn link(&self) -> Link {
        match self.state {
            State::Waiting { .. } | State::Dialing { .. } => Link::Connecting {
                since: self.down_since,
                attempts: self.attempts_since_down,
                last_failure: self.last_failure.clone(),
            },
            State::Connected { session, since, suspect, .. } => Link::Connected { session, since, suspect },
            State::Stopped => Link::Stopped,
        }
    }

    /// The coordinator of the current or last connection, and the number of its daemon's start.
    pub fn coordinator(&self) -> Option<(HostId, Epoch)> {
        self.coordinator
    }

    fn connected(
        &mut self,
        now: Instant,
        attempt: u64,
        session: Session,
        coordinator: HostId,
        epoch: Epoch,
    ) -> Vec<UplinkAction> {
        match self.state {
            State::Dialing { .. } if attempt == self.attempt => {}
            // Said already.
            State::Connected { session: current, .. } if session == current => return Vec::new(),
            State::Waiting { .. } | State::Dialing { .. } | State::Connected { .. } | State::Stopped => {
                return vec![UplinkAction::Disconnect { session, reason: DisconnectReason::Superseded }];
            }
        }
        if let Some((known_host, known)) = self.coordinator
            && known_host == coordinator
            && epoch < known
        {
            let mut actions = vec![UplinkAction::Disconnect { session, reason: DisconnectReason::OldEpoch { known } }];
            actions.extend(self.failed(now, DialFailure::OldCoordinator { found: epoch, known }));
            return actions;
        }
        let restarted = self.coordinator.is_some_and(|known| known != (coordinator, epoch));
        self.coordinator = Some((coordinator, epoch));
        self.same_identity_since = None;
        self.last_failure = None;
        self.state = State::Connected {
            session,
            since: now,
            last_heard: now,
            suspect: false,
            next_heartbeat: now + self.timing.heartbeat,
            sequence: 1,
        };
        // The first heartbeat at once, because it carries the first clock sample.
        vec![
            UplinkAction::Publish(UplinkEvent::Connected { coordinator, epoch, restarted }),
            UplinkAction::SendHeartbeat { session, sequence: 1 },
        ]
    }

    /// The current attempt has failed.
    fn failed(&mut self, now: Instant, failure: DialFailure) -> Vec<UplinkAction> {
        let is_same_identity = matches!(failure, DialFailure::Refused(RefuseReason::SameIdentityElsewhere { .. }));
        self.same_identity_since = is_same_identity.then(|| self.same_identity_since.unwrap_or(now));
        let can_never_join = match &failure {
            DialFailure::Rejected(_) | DialFailure::Refused(RefuseReason::OldEpoch { .. }) => true,
            DialFailure::Refused(RefuseReason::SameIdentityElsewhere { .. }) => {
                self.same_identity_since.is_some_and(|since| since + self.timing.dead_after <= now)
            }
            DialFailure::Unreachable(_)
            | DialFailure::TimedOut(_)
            | DialFailure::Refused(RefuseReason::TooManyHosts { .. })
            | DialFailure::OldCoordinator { .. } => false,
        };
        self.last_failure = Some(failure.clone());
        let mut actions =
            vec![UplinkAction::Publish(UplinkEvent::AttemptFailed { attempt: self.attempt, failure: failure.clone() })];
        if can_never_join && self.coordinator.is_none() {
            self.state = State::Stopped;
            actions.push(UplinkAction::Publish(UplinkEvent::Stopped { failure }));
            return actions;
        }
        let wait = match failure {
            DialFailure::Unreachable(_)
            | DialFailure::TimedOut(_)
            | DialFailure::Refused(RefuseReason::SameIdentityElsewhere { .. }) => self.next_wait(),
            // It takes somebody's doing before this can succeed.
            DialFailure::Rejected(_)
            | DialFailure::Refused(RefuseReason::OldEpoch { .. } | RefuseReason::TooManyHosts { .. })
            | DialFailure::OldCoordinator { .. } => {
                self.rng.random_range(self.timing.retry_at_most / 2..=self.timing.retry_at_most)
            }
        };
        self.state = State::Waiting { until: now + wait };
        actions
    }

    /// The current connection, which began at `since`, is gone.
    fn lost(&mut self, now: Instant, since: Instant, cause: LossCause) -> Vec<UplinkAction> {
        if now.saturating_duration_since(since) >= self.timing.stable_after {
            self.failures = 0;
        }
        self.down_since = now;
        self.attempts_since_down = 0;
        let wait = self.next_wait();
        self.state = State::Waiting { until: now + wait };
        vec![UplinkAction::Publish(UplinkEvent::CoordinatorLost { cause })]
    }

    /// A random wait below a limit that doubles each time.
    fn next_wait(&mut self) -> Duration {
        let limit = self
            .timing
            .retry_at_first
            .saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX))
            .min(self.timing.retry_at_most);
        self.failures = self.failures.saturating_add(1);
        self.rng.random_range(Duration::ZERO..=limit)
    }
}
