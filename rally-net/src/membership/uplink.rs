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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const COORDINATOR: HostId = HostId::from_random(9);

    fn uplink(now: Instant) -> Uplink {
        Uplink::new(now, Timing::default(), 1)
    }

    fn connected(attempt: u64, session: u64, epoch: u64) -> UplinkInput {
        let (session, epoch) = (Session(session), Epoch(epoch));
        UplinkInput::Connected { attempt, session, coordinator: COORDINATOR, epoch }
    }

    fn unreachable_host() -> DialFailure {
        DialFailure::Unreachable("no route".to_owned())
    }

    fn same_identity() -> DialFailure {
        DialFailure::Refused(RefuseReason::SameIdentityElsewhere { address: "10.0.0.1:1900".parse().unwrap() })
    }

    /// Lets the current wait pass and returns the moment of the next attempt, and its number.
    fn dial(uplink: &mut Uplink) -> (Instant, u64) {
        let now = uplink.next_deadline().unwrap();
        match uplink.handle_timeout(now)[..] {
            [UplinkAction::Dial { attempt }] => (now, attempt),
            ref other => panic!("{other:?} instead of an attempt"),
        }
    }

    fn is_stopped(actions: &[UplinkAction]) -> bool {
        matches!(actions, [.., UplinkAction::Publish(UplinkEvent::Stopped { .. })])
    }

    #[test]
    fn a_connected_member_sends_heartbeats_and_gives_up_a_silent_coordinator() {
        let start = Instant::now();
        let timing = Timing::default();
        let mut uplink = uplink(start);
        let (now, attempt) = dial(&mut uplink);
        assert_eq!((now, attempt), (start, 1));
        let session = Session(1);
        assert_eq!(
            uplink.handle(now, connected(1, 1, 3)),
            [
                UplinkAction::Publish(UplinkEvent::Connected {
                    coordinator: COORDINATOR,
                    epoch: Epoch(3),
                    restarted: false
                }),
                UplinkAction::SendHeartbeat { session, sequence: 1 },
            ]
        );
        assert_eq!(
            uplink.handle_timeout(start + timing.heartbeat),
            [UplinkAction::SendHeartbeat { session, sequence: 2 }]
        );
        let suspected = uplink.handle_timeout(start + timing.suspect_after);
        assert_eq!(suspected[0], UplinkAction::Publish(UplinkEvent::CoordinatorSuspected));
        let heard = start + timing.suspect_after;
        assert_eq!(
            uplink.handle(heard, UplinkInput::Heard { session }),
            [UplinkAction::Publish(UplinkEvent::CoordinatorRecovered)]
        );
        assert_eq!(
            uplink.handle_timeout(heard + timing.dead_after),
            [
                UplinkAction::Disconnect { session, reason: DisconnectReason::Silent },
                UplinkAction::Publish(UplinkEvent::CoordinatorLost { cause: LossCause::Silent }),
            ]
        );
        assert_eq!(uplink.handle(heard + timing.dead_after, UplinkInput::Heard { session }), []);
    }

    #[test]
    fn an_attempt_without_an_answer_is_abandoned_and_its_late_success_closed() {
        let mut uplink = uplink(Instant::now());
        let (now, attempt) = dial(&mut uplink);
        let late = now + Timing::default().dial_timeout;
        let failure = DialFailure::TimedOut(Timing::default().dial_timeout);
        assert_eq!(
            uplink.handle_timeout(late),
            [UplinkAction::Abandon { attempt }, UplinkAction::Publish(UplinkEvent::AttemptFailed { attempt, failure }),]
        );
        assert_eq!(
            uplink.handle(late, connected(attempt, 1, 1)),
            [UplinkAction::Disconnect { session: Session(1), reason: DisconnectReason::Superseded }]
        );
    }

    #[test]
    fn a_host_that_can_never_join_stops_at_first_but_not_once_it_has_been_in() {
        for (failure, is_permanent) in [
            (unreachable_host(), false),
            (same_identity(), false),
            (DialFailure::Refused(RefuseReason::TooManyHosts { limit: 1 }), false),
            (DialFailure::Refused(RefuseReason::OldEpoch { known: Epoch(9) }), true),
            (DialFailure::Rejected("foreign certificate".to_owned()), true),
        ] {
            let mut fresh = uplink(Instant::now());
            let (now, attempt) = dial(&mut fresh);
            let actions = fresh.handle(now, UplinkInput::Failed { attempt, failure: failure.clone() });
            assert_eq!(is_stopped(&actions), is_permanent, "{failure}");
            assert_eq!(fresh.next_deadline().is_none(), is_permanent);

            let mut known = uplink(Instant::now());
            let (now, attempt) = dial(&mut known);
            let _ = known.handle(now, connected(attempt, 1, 1));
            let _ = known.handle(now, UplinkInput::Closed { session: Session(1), cause: LossCause::Left });
            let (now, attempt) = dial(&mut known);
            let actions = known.handle(now, UplinkInput::Failed { attempt, failure: failure.clone() });
            assert!(!is_stopped(&actions), "{failure}");
            dial(&mut known);
        }
    }

    #[test]
    fn another_host_with_the_same_identity_is_waited_for_only_so_long() {
        let start = Instant::now();
        let timing = Timing::default();
        let mut uplink = uplink(start);
        loop {
            let (now, attempt) = dial(&mut uplink);
            let actions = uplink.handle(now, UplinkInput::Failed { attempt, failure: same_identity() });
            assert_eq!(is_stopped(&actions), now - start >= timing.dead_after);
            if is_stopped(&actions) {
                assert!(now - start <= timing.dead_after + timing.retry_at_most);
                break;
            }
        }
    }

    #[test]
    fn a_restarted_coordinator_is_told_from_the_old_one_and_the_old_one_is_sent_away() {
        let mut uplink = uplink(Instant::now());
        for (session, epoch, expected) in [(1, 5, Some(false)), (2, 5, Some(false)), (3, 6, Some(true)), (4, 5, None)] {
            let (now, attempt) = dial(&mut uplink);
            let actions = uplink.handle(now, connected(attempt, session, epoch));
            let session = Session(session);
            match expected {
                Some(restarted) => {
                    let event = UplinkEvent::Connected { coordinator: COORDINATOR, epoch: Epoch(epoch), restarted };
                    assert_eq!(actions[0], UplinkAction::Publish(event));
                    let _ = uplink.handle(now, UplinkInput::Closed { session, cause: LossCause::Left });
                }
                None => {
                    let reason = DisconnectReason::OldEpoch { known: Epoch(6) };
                    assert_eq!(actions[0], UplinkAction::Disconnect { session, reason });
                }
            }
        }
        assert_eq!(uplink.coordinator(), Some((COORDINATOR, Epoch(6))));
    }

    #[test]
    fn a_coordinator_that_accepts_and_drops_is_not_hammered() {
        let start = Instant::now();
        let mut uplink = uplink(start);
        let mut last = start;
        for session in 1..=200 {
            let (now, attempt) = dial(&mut uplink);
            let _ = uplink.handle(now, connected(attempt, session, 1));
            let cause = LossCause::Broken("reset".to_owned());
            let _ = uplink.handle(now, UplinkInput::Closed { session: Session(session), cause });
            last = now;
        }
        // On average half of the longest wait.
        assert!(last - start > 200 * Timing::default().retry_at_most / 3, "{:?}", last - start);
    }

    #[test]
    fn retries_begin_quickly_again_after_a_connection_that_lasted() {
        let timing = Timing::default();
        let mut uplink = uplink(Instant::now());
        for _ in 0..20 {
            let (now, attempt) = dial(&mut uplink);
            let _ = uplink.handle(now, UplinkInput::Failed { attempt, failure: unreachable_host() });
        }
        let (now, attempt) = dial(&mut uplink);
        let _ = uplink.handle(now, connected(attempt, 1, 1));
        let end = now + timing.stable_after;
        let _ = uplink.handle(end, UplinkInput::Closed { session: Session(1), cause: LossCause::Left });
        assert!(uplink.next_deadline().unwrap() <= end + timing.retry_at_first);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Timeout,
        Connected { attempt_back: u64, session: u64, epoch: u64 },
        Failed { attempt_back: u64, kind: u8 },
        Heard { session: u64 },
        Closed { session: u64 },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Timeout),
            2 => (0..2_u64, 1..9_u64, 1..4_u64).prop_map(|(attempt_back, session, epoch)| {
                Step::Connected { attempt_back, session, epoch }
            }),
            2 => (0..2_u64, 0..5_u8).prop_map(|(attempt_back, kind)| Step::Failed { attempt_back, kind }),
            2 => (1..9_u64).prop_map(|session| Step::Heard { session }),
            1 => (1..9_u64).prop_map(|session| Step::Closed { session }),
        ]
    }

    proptest! {
        #[test]
        fn waits_double_up_to_the_limit(seed in any::<u64>()) {
            let timing = Timing::default();
            let mut uplink = Uplink::new(Instant::now(), timing.clone(), seed);
            for failures in 0..40_u32 {
                let (now, attempt) = dial(&mut uplink);
                let _ = uplink.handle(now, UplinkInput::Failed { attempt, failure: unreachable_host() });
                let wait = uplink.next_deadline().unwrap() - now;
                let limit = timing.retry_at_first.saturating_mul(2_u32.saturating_pow(failures));
                prop_assert!(wait <= limit.min(timing.retry_at_most), "{wait:?} after {failures} failures");
            }
        }

        #[test]
        fn whatever_comes_there_are_few_actions_and_always_a_next_deadline(
            steps in prop::collection::vec((0..2500_u64, step()), 0..100),
        ) {
            let mut now = Instant::now();
            let mut uplink = uplink(now);
            for (millis, step) in steps {
                now += Duration::from_millis(millis);
                let before = (uplink.link(), uplink.next_deadline());
                let current = match before.0 {
                    Link::Connected { session, .. } => Some(session.0),
                    Link::Connecting { .. } | Link::Stopped => None,
                };
                let (actions, is_stale) = match step {
                    Step::Timeout => {
                        let actions = uplink.handle_timeout(now);
                        // A wait that was drawn as zero is due at once.
                        prop_assert!(uplink.next_deadline().is_none_or(|deadline| deadline >= now));
                        (actions, false)
                    }
                    Step::Connected { attempt_back, session, epoch } => {
                        let attempt = uplink.attempt.saturating_sub(attempt_back);
                        (uplink.handle(now, connected(attempt, session, epoch)), false)
                    }
                    Step::Failed { attempt_back, kind } => {
                        let attempt = uplink.attempt.saturating_sub(attempt_back);
                        let failure = match kind {
                            0 => same_identity(),
                            1 => DialFailure::Rejected("no".to_owned()),
                            2 => DialFailure::Refused(RefuseReason::TooManyHosts { limit: 1 }),
                            _ => unreachable_host(),
                        };
                        (uplink.handle(now, UplinkInput::Failed { attempt, failure }), attempt_back > 0)
                    }
                    Step::Heard { session } => {
                        let input = UplinkInput::Heard { session: Session(session) };
                        (uplink.handle(now, input), current != Some(session))
                    }
                    Step::Closed { session } => {
                        let input = UplinkInput::Closed { session: Session(session), cause: LossCause::Left };
                        (uplink.handle(now, input), current != Some(session))
                    }
                };
                prop_assert!(actions.len() <= 3);
                if is_stale && uplink.attempt > 0 {
                    prop_assert_eq!(actions, []);
                    prop_assert_eq!((uplink.link(), uplink.next_deadline()), before);
                }
                prop_assert_eq!(uplink.next_deadline().is_none(), uplink.link() == Link::Stopped);
            }
        }
    }
}
