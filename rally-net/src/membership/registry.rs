//! The coordinator's side of membership.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rally_core::{Activity, Epoch, HostFacts, HostId};
use slab::Slab;

use super::silence::Silence;
use super::{DisconnectReason, RefuseReason, Session, Timing};
use crate::{ClockEstimate, HostState};

/// Every host that has said hello, and how it stands.
///
/// Each event costs the same whatever the number of hosts. Only hosts that are suspect or have departed stand in ordered
/// queues, whose cost grows with the logarithm of their number.
#[derive(Debug)]
pub struct Registry {
    timing: Timing,
    capacity: Capacity,
    /// Every host that is remembered; where it stands here is its place, as long as it is remembered.
    records: Slab<HostRecord>,
    places: HashMap<HostId, usize>,
    /// The place of each connected host by its current session; any other session changes nothing.
    sessions: HashMap<Session, usize>,
    /// Alive hosts; the longest silent one is the next to become suspect.
    alive: Silence,
    /// When each suspect host is to be given up.
    suspect: BTreeSet<(Instant, usize)>,
    /// Dead hosts and those that left, the longest gone first.
    departed: BTreeSet<(Instant, usize)>,
}

/// How many hosts a [`Registry`] remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Alive and suspect hosts; more are refused; 4,096.
    pub live: u32,
    /// Dead hosts and those that left; the longest gone are forgotten first; 1,024.
    pub departed: u32,
}

impl Default for Capacity {
    fn default() -> Self {
        Self { live: 4096, departed: 1024 }
    }
}

/// What is known of one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRecord {
    /// The host.
    pub host: HostId,
    /// The number of its daemon's latest start.
    pub epoch: Epoch,
    /// Where its packets come from.
    pub address: SocketAddr,
    /// What it said about itself.
    pub facts: HostFacts,
    /// What it is doing, by its last heartbeat.
    pub activity: Activity,
    /// The shortest recent round trip that it has measured.
    pub round_trip: Option<Duration>,
    /// Its clock against ours, as it has estimated it.
    pub clock: Option<ClockEstimate>,
    /// How far its wall clock was moved since its daemon started, in nanoseconds.
    pub wall_shift: i64,
    /// How it stands.
    pub state: HostState,
    /// When its last hello or heartbeat arrived.
    pub last_heard: Instant,
    /// Its connection: always there while it is alive, never once it is dead or has left.
    pub session: Option<Session>,
    /// Where it stands in `suspect` or in `departed`; of no meaning while it is alive.
    queued_at: Instant,
}

impl HostRecord {
    fn is_departed(&self) -> bool {
        matches!(self.state, HostState::Dead | HostState::Left)
    }
}

/// What a member says about itself with each heartbeat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What it is doing.
    pub activity: Activity,
    /// The shortest recent round trip, as soon as it has measured one.
    pub round_trip: Option<Duration>,
    /// Its clock against the coordinator's, as soon as it is known.
    pub clock: Option<ClockEstimate>,
    /// How far its wall clock was moved since its daemon started, in nanoseconds.
    pub wall_shift: i64,
}

/// What happened on the connections of the coordinator.
#[derive(Clone, Debug)]
pub enum RegistryEvent {
    /// A host with a valid certificate opened a connection and introduced itself.
    Hello {
        /// The connection.
        session: Session,
        /// Who it is, by its certificate.
        host: HostId,
        /// The number of its daemon's start.
        epoch: Epoch,
        /// Where its packets come from.
        address: SocketAddr,
        /// What it says about itself.
        facts: HostFacts,
    },
    /// A heartbeat arrived.
    Heartbeat {
        /// The connection it came on.
        session: Session,
        /// What the member says about itself.
        report: Report,
        /// Where its packets come from now; a connection survives a change.
        address: SocketAddr,
    },
    /// A connection is gone.
    Closed {
        /// The connection.
        session: Session,
        /// Whether the host said goodbye.
        left: bool,
    },
}

/// What the caller of a [`Registry`] has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistryAction {
    /// Tell the host that it is in; its heartbeats are to be answered from now on.
    Welcome {
        /// The connection that said hello.
        session: Session,
    },
    /// Tell the host why it is not taken in, and close the connection.
    Refuse {
        /// The connection that said hello.
        session: Session,
        /// Why.
        reason: RefuseReason,
    },
    /// Close the connection; nothing that still comes from it counts.
    Disconnect {
        /// The connection.
        session: Session,
        /// Why.
        reason: DisconnectReason,
    },
    /// Tell everyone who watches membership.
    Publish(MembershipEvent),
}

/// A change in the cluster, seen from the coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembershipEvent {
    /// The host.
    pub host: HostId,
    /// The number of its daemon's start.
    pub epoch: Epoch,
    /// What changed.
    pub change: HostChange,
}

/// How a host's standing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostChange {
    /// A host that was not known is alive.
    Joined,
    /// The same start of a known host has a new connection, whether or not it was missed; it is alive.
    Returned,
    /// A known host is alive with a new start of its daemon; whatever it did before has ended.
    Restarted {
        /// The start that is over.
        before: Epoch,
    },
    /// Its connection is lost or silent.
    Suspected,
    /// It was suspect and is heard of again on the same connection.
    Recovered,
    /// It was silent for so long that it is given up.
    Died,
    /// It said goodbye.
    Left,
}

impl Registry {
    /// A registry that knows nobody.
    pub fn new(timing: Timing, capacity: Capacity) -> Self {
        Self {
            timing,
            capacity,
            records: Slab::new(),
            places: HashMap::new(),
            sessions: HashMap::new(),
            alive: Silence::new(),
            suspect: BTreeSet::new(),
            departed: BTreeSet::new(),
        }
    }

    /// Applies one event and returns what has to be done about it, in order; at most three actions.
    ///
    /// Events of a session that is not its host's current one change nothing. Time never goes back: `now` is not before
    /// that of any earlier call.
    #[must_use]
    pub fn handle(&mut self, now: Instant, event: RegistryEvent) -> Vec<RegistryAction> {
        match event {
            RegistryEvent::Hello { session, host, epoch, address, facts } => {
                self.hello(now, session, host, epoch, address, facts)
            }
            RegistryEvent::Heartbeat { session, report, address } => self.heartbeat(now, session, report, address),
            RegistryEvent::Closed { session, left } => self.closed(now, session, left),
        }
    }

    /// Judges every host whose deadline has passed; at most three actions each.
    #[must_use]
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<RegistryAction> {
        let mut actions = Vec::new();
        while let Some((suspect_at, place)) = self.next_suspicion()
            && suspect_at <= now
        {
            actions.push(self.suspect(place));
        }
        while let Some(&(dead_at, place)) = self.suspect.first()
            && dead_at <= now
        {
            let record = &mut self.records[place];
            if let Some(session) = record.session.take() {
                self.sessions.remove(&session);
                actions.push(RegistryAction::Disconnect { session, reason: DisconnectReason::Silent });
            }
            actions.push(publish(record, HostChange::Died));
            self.depart(now, place, HostState::Dead);
        }
        actions
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), `None` while nobody is connected.
    pub fn next_deadline(&self) -> Option<Instant> {
        let suspicion = self.next_suspicion().map(|(at, _)| at);
        let death = self.suspect.first().map(|&(at, _)| at);
        suspicion.into_iter().chain(death).min()
    }

    /// Every host that is remembered, in no particular order.
    pub fn hosts(&self) -> impl ExactSizeIterator<Item = &HostRecord> {
        self.records.iter().map(|(_, record)| record)
    }

    /// One host.
    pub fn host(&self, host: HostId) -> Option<&HostRecord> {
        self.records.get(*self.places.get(&host)?)
    }

    /// Which alive host becomes suspect next, and when.
    fn next_suspicion(&self) -> Option<(Instant, usize)> {
        let place = self.alive.longest()?;
        Some((self.records[place].last_heard + self.timing.suspect_after, place))
    }

    fn hello(
        &mut self,
        now: Instant,
        session: Session,
        host: HostId,
        epoch: Epoch,
        address: SocketAddr,
        facts: HostFacts,
    ) -> Vec<RegistryAction> {
        if self.sessions.contains_key(&session) {
            return Vec::new(); // Said already.
        }
        let is_full = self.records.len() - self.departed.len() >= self.capacity.live as usize;
        let too_many_hosts = || RefuseReason::TooManyHosts { limit: self.capacity.live };
        let refuse = |reason| vec![RegistryAction::Refuse { session, reason }];

        let Some(&place) = self.places.get(&host) else {
            if is_full {
                return refuse(too_many_hosts());
            }
            let record = HostRecord {
                host,
                epoch,
                address,
                facts,
                activity: Activity::default(),
                round_trip: None,
                clock: None,
                wall_shift: 0,
                state: HostState::Alive,
                last_heard: now,
                session: Some(session),
                queued_at: now,
            };
            let joined = publish(&record, HostChange::Joined);
            let place = self.records.insert(record);
            self.places.insert(host, place);
            self.sessions.insert(session, place);
            self.alive.heard(place);
            return vec![RegistryAction::Welcome { session }, joined];
        };

        let record = &mut self.records[place];
        if epoch < record.epoch {
            return refuse(RefuseReason::OldEpoch { known: record.epoch });
        }
        if let Some(current) = record.session {
            if epoch == record.epoch && session < current {
                // Opened before the current one, but its hello was slower.
                return vec![RegistryAction::Disconnect { session, reason: DisconnectReason::Superseded }];
            }
            let is_heard_of = now.saturating_duration_since(record.last_heard) < self.timing.suspect_after;
            if is_heard_of && address != record.address {
                return refuse(RefuseReason::SameIdentityElsewhere { address: record.address });
            }
        }
        if record.is_departed() && is_full {
            return refuse(too_many_hosts());
        }

        let mut actions = Vec::with_capacity(3);
        if let Some(old) = record.session.replace(session) {
            self.sessions.remove(&old);
            actions
                .push(RegistryAction::Disconnect { session: old, reason: DisconnectReason::Replaced { by: address } });
        }
        self.sessions.insert(session, place);
        // It stands in one of them at most.
        self.suspect.remove(&(record.queued_at, place));
        self.departed.remove(&(record.queued_at, place));
        let change = if epoch > record.epoch {
            record.activity = Activity::default();
            record.round_trip = None;
            record.clock = None;
            record.wall_shift = 0;
            HostChange::Restarted { before: record.epoch }
        } else {
            HostChange::Returned
        };
        record.epoch = epoch;
        record.address = address;
        record.facts = facts;
        record.state = HostState::Alive;
        record.last_heard = now;
        self.alive.heard(place);
        actions.push(RegistryAction::Welcome { session });
        actions.push(publish(record, change));
        actions
    }

    fn heartbeat(
        &mut self,
        now: Instant,
        session: Session,
        report: Report,
        address: SocketAddr,
    ) -> Vec<RegistryAction> {
        let Some(&place) = self.sessions.get(&session) else { return Vec::new() };
        let record = &mut self.records[place];
        record.last_heard = now;
        record.address = address;
        record.activity = report.activity;
        record.round_trip = report.round_trip;
        record.clock = report.clock;
        record.wall_shift = report.wall_shift;
        self.alive.heard(place);
        if record.state != HostState::Suspect {
            return Vec::new();
        }
        record.state = HostState::Alive;
        self.suspect.remove(&(record.queued_at, place));
        vec![publish(record, HostChange::Recovered)]
    }

    fn closed(&mut self, now: Instant, session: Session, left: bool) -> Vec<RegistryAction> {
        let Some(place) = self.sessions.remove(&session) else { return Vec::new() };
        let record = &mut self.records[place];
        record.session = None;
        if left {
            let action = publish(record, HostChange::Left);
            self.depart(now, place, HostState::Left);
            return vec![action];
        }
        // It may come back on a new connection, but must do so before it is given up.
        if record.state == HostState::Suspect { Vec::new() } else { vec![self.suspect(place)] }
    }

    /// Makes an alive host suspect.
    fn suspect(&mut self, place: usize) -> RegistryAction {
        let record = &mut self.records[place];
        record.state = HostState::Suspect;
        record.queued_at = record.last_heard + self.timing.dead_after;
        self.alive.remove(place);
        self.suspect.insert((record.queued_at, place));
        publish(record, HostChange::Suspected)
    }

    /// Puts a host without a session among the departed, and forgets the longest gone if there are too many.
    fn depart(&mut self, now: Instant, place: usize, state: HostState) {
        let record = &mut self.records[place];
        self.alive.remove(place);
        self.suspect.remove(&(record.queued_at, place));
        record.state = state;
        record.queued_at = now;
        self.departed.insert((now, place));
        if self.departed.len() > self.capacity.departed as usize
            && let Some((_, forgotten)) = self.departed.pop_first()
        {
            self.places.remove(&self.records.remove(forgotten).host);
        }
    }
}

fn publish(record: &HostRecord, change: HostChange) -> RegistryAction {
    RegistryAction::Publish(MembershipEvent { host: record.host, epoch: record.epoch, change })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOST: HostId = HostId::from_random(1);
    const HERE: &str = "10.0.0.1:1900";
    const ELSEWHERE: &str = "10.0.0.2:1900";

    fn registry() -> Registry {
        Registry::new(Timing::default(), Capacity::default())
    }

    fn hello(session: u64, host: HostId, epoch: u64, address: &str) -> RegistryEvent {
        let (session, epoch, address) = (Session(session), Epoch(epoch), address.parse().unwrap());
        RegistryEvent::Hello { session, host, epoch, address, facts: HostFacts::default() }
    }

    fn heartbeat(session: u64, address: &str) -> RegistryEvent {
        let address = address.parse().unwrap();
        RegistryEvent::Heartbeat { session: Session(session), report: Report::default(), address }
    }

    fn closed(session: u64, left: bool) -> RegistryEvent {
        RegistryEvent::Closed { session: Session(session), left }
    }

    fn welcome(session: u64) -> RegistryAction {
        RegistryAction::Welcome { session: Session(session) }
    }

    fn refuse(session: u64, reason: RefuseReason) -> RegistryAction {
        RegistryAction::Refuse { session: Session(session), reason }
    }

    fn disconnect(session: u64, reason: DisconnectReason) -> RegistryAction {
        RegistryAction::Disconnect { session: Session(session), reason }
    }

    fn changed(epoch: u64, change: HostChange) -> RegistryAction {
        RegistryAction::Publish(MembershipEvent { host: HOST, epoch: Epoch(epoch), change })
    }

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn a_silent_host_is_suspected_and_then_given_up() {
        let start = Instant::now();
        let mut registry = registry();
        assert_eq!(registry.next_deadline(), None);
        assert_eq!(registry.handle(start, hello(1, HOST, 1, HERE)), [welcome(1), changed(1, HostChange::Joined)]);
        assert_eq!(registry.handle(start + seconds(1.0), heartbeat(1, HERE)), []);
        assert_eq!(registry.handle_timeout(start + seconds(2.9)), []);
        assert_eq!(registry.next_deadline(), Some(start + seconds(3.0)));
        assert_eq!(registry.handle_timeout(start + seconds(3.0)), [changed(1, HostChange::Suspected)]);
        assert_eq!(registry.handle(start + seconds(3.5), heartbeat(1, HERE)), [changed(1, HostChange::Recovered)]);
        assert_eq!(registry.handle_timeout(start + seconds(5.5)), [changed(1, HostChange::Suspected)]);
        assert_eq!(
            registry.handle_timeout(start + seconds(8.5)),
            [disconnect(1, DisconnectReason::Silent), changed(1, HostChange::Died)]
        );
        assert_eq!(registry.handle(start + seconds(8.6), heartbeat(1, HERE)), []);
        assert_eq!(registry.host(HOST).unwrap().state, HostState::Dead);
        assert_eq!(registry.next_deadline(), None);
    }

    #[test]
    fn a_hello_of_a_known_host_means_what_the_table_in_the_docs_says() {
        use HostChange::{Restarted, Returned};
        let same_identity = || RefuseReason::SameIdentityElsewhere { address: HERE.parse().unwrap() };
        let restarted = Restarted { before: Epoch(5) };
        // Silence in seconds, whether the old connection is lost, the epoch and address of the hello, what follows.
        for (silence, is_lost, epoch, address, expected) in [
            (0.1, false, 4, HERE, Err(RefuseReason::OldEpoch { known: Epoch(5) })),
            (4.0, true, 4, ELSEWHERE, Err(RefuseReason::OldEpoch { known: Epoch(5) })),
            (0.1, false, 5, HERE, Ok(Returned)),
            (0.1, false, 6, HERE, Ok(restarted)),
            (0.1, false, 5, ELSEWHERE, Err(same_identity())),
            (0.1, false, 6, ELSEWHERE, Err(same_identity())),
            (1.9, false, 6, ELSEWHERE, Err(same_identity())),
            (2.0, false, 5, ELSEWHERE, Ok(Returned)),
            (2.0, false, 6, ELSEWHERE, Ok(restarted)),
            (0.1, true, 5, ELSEWHERE, Ok(Returned)),
            (0.1, true, 6, ELSEWHERE, Ok(restarted)),
            (9.0, true, 5, ELSEWHERE, Ok(Returned)),
            (9.0, true, 6, ELSEWHERE, Ok(restarted)),
        ] {
            let start = Instant::now();
            let mut registry = registry();
            let _ = registry.handle(start, hello(1, HOST, 5, HERE));
            if is_lost {
                assert_eq!(registry.handle(start, closed(1, false)), [changed(5, HostChange::Suspected)]);
            }
            let now = start + seconds(silence);
            let _ = registry.handle_timeout(now);
            let mut wanted = Vec::new();
            match expected {
                Err(reason) => wanted.push(refuse(2, reason)),
                Ok(change) => {
                    if !is_lost {
                        wanted.push(disconnect(1, DisconnectReason::Replaced { by: address.parse().unwrap() }));
                    }
                    wanted.extend([welcome(2), changed(epoch, change)]);
                }
            }
            let context = format!("silence {silence}, lost {is_lost}, epoch {epoch}, from {address}");
            assert_eq!(registry.handle(now, hello(2, HOST, epoch, address)), wanted, "{context}");
        }
    }

    #[test]
    fn a_hello_that_was_overtaken_by_a_newer_connection_does_not_replace_it() {
        let now = Instant::now();
        let mut registry = registry();
        let _ = registry.handle(now, hello(2, HOST, 1, HERE));
        assert_eq!(registry.handle(now, hello(1, HOST, 1, HERE)), [disconnect(1, DisconnectReason::Superseded)]);
        assert_eq!(registry.host(HOST).unwrap().session, Some(Session(2)));
    }

    #[test]
    fn an_address_change_within_a_connection_is_followed() {
        let now = Instant::now();
        let mut registry = registry();
        let _ = registry.handle(now, hello(1, HOST, 1, HERE));
        assert_eq!(registry.handle(now, heartbeat(1, ELSEWHERE)), []);
        assert_eq!(registry.host(HOST).unwrap().address, ELSEWHERE.parse().unwrap());
    }

    #[test]
    fn a_host_that_left_is_not_suspected_and_may_return() {
        let now = Instant::now();
        let mut registry = registry();
        let _ = registry.handle(now, hello(1, HOST, 1, HERE));
        assert_eq!(registry.handle(now, closed(1, true)), [changed(1, HostChange::Left)]);
        assert_eq!(registry.next_deadline(), None);
        assert_eq!(registry.handle(now, hello(2, HOST, 1, HERE)), [welcome(2), changed(1, HostChange::Returned)]);
    }

    #[test]
    fn a_full_cluster_says_so_and_the_longest_gone_are_forgotten_first() {
        let start = Instant::now();
        let mut registry = Registry::new(Timing::default(), Capacity { live: 2, departed: 2 });
        let host = HostId::from_random;
        for id in 1..=4 {
            let now = start + seconds(id as f64);
            let _ = registry.handle(now, hello(id, host(id.into()), 1, HERE));
            let _ = registry.handle(now, closed(id, true));
        }
        assert_eq!(registry.hosts().len(), 2);
        assert!(registry.host(host(2)).is_none() && registry.host(host(3)).is_some());

        let now = start + seconds(5.0);
        let _ = registry.handle(now, hello(5, host(5), 1, HERE));
        let _ = registry.handle(now, hello(6, host(6), 1, HERE));
        let too_many = RefuseReason::TooManyHosts { limit: 2 };
        assert_eq!(registry.handle(now, hello(7, host(7), 1, HERE)), [refuse(7, too_many.clone())]);
        assert_eq!(registry.handle(now, hello(8, host(3), 1, HERE)), [refuse(8, too_many)]);
        assert_eq!(registry.handle(now, hello(9, host(5), 2, HERE)).len(), 3, "a restart needs no further place");
    }

    fn records(registry: &Registry) -> HashMap<HostId, HostRecord> {
        registry.hosts().map(|record| (record.host, record.clone())).collect()
    }

    fn event() -> impl Strategy<Value = Option<RegistryEvent>> {
        let address = || prop_oneof![Just(HERE), Just(ELSEWHERE), Just("10.0.0.1:1901")];
        prop_oneof![
            4 => (1..40_u64, 1..6_u128, 1..4_u64, address())
                .prop_map(|(session, host, epoch, at)| Some(hello(session, HostId::from_random(host), epoch, at))),
            4 => (1..40_u64, address()).prop_map(|(session, at)| Some(heartbeat(session, at))),
            2 => (1..40_u64, any::<bool>()).prop_map(|(session, left)| Some(closed(session, left))),
            2 => Just(None),
        ]
    }

    proptest! {
        #[test]
        fn whatever_comes_the_registry_stays_consistent(
            events in prop::collection::vec((0..1500_u64, event()), 0..120),
        ) {
            let capacity = Capacity { live: 3, departed: 2 };
            let mut registry = Registry::new(Timing::default(), capacity);
            let mut now = Instant::now();
            for (millis, event) in events {
                now += Duration::from_millis(millis);
                let before = records(&registry);
                match event {
                    Some(event) => {
                        let stale = match &event {
                            RegistryEvent::Heartbeat { session, .. } | RegistryEvent::Closed { session, .. } => {
                                before.values().all(|record| record.session != Some(*session))
                            }
                            RegistryEvent::Hello { host, epoch, .. } => {
                                before.get(host).is_some_and(|record| *epoch < record.epoch)
                            }
                        };
                        let actions = registry.handle(now, event);
                        prop_assert!(actions.len() <= 3);
                        if stale {
                            prop_assert_eq!(&records(&registry), &before);
                        }
                    }
                    None => {
                        let actions = registry.handle_timeout(now);
                        prop_assert!(actions.len() <= 3 * before.len());
                        prop_assert!(registry.next_deadline().is_none_or(|deadline| deadline > now));
                        for record in registry.hosts() {
                            let silence = now - record.last_heard;
                            prop_assert!(record.state != HostState::Alive || silence < registry.timing.suspect_after);
                            prop_assert!(record.state != HostState::Suspect || silence < registry.timing.dead_after);
                        }
                    }
                }
                for (place, record) in &registry.records {
                    let host = &record.host;
                    prop_assert_eq!(registry.places.get(host), Some(&place));
                    prop_assert!(before.get(host).is_none_or(|before| before.epoch <= record.epoch));
                    prop_assert!(record.state != HostState::Alive || record.session.is_some());
                    prop_assert!(!record.is_departed() || record.session.is_none());
                    prop_assert!(record.session.is_none_or(|session| registry.sessions.get(&session) == Some(&place)));
                    let queued = (record.queued_at, place);
                    prop_assert_eq!(registry.suspect.contains(&queued), record.state == HostState::Suspect);
                    prop_assert_eq!(registry.departed.contains(&queued), record.is_departed());
                    prop_assert_eq!(registry.alive.places().contains(&place), record.state == HostState::Alive);
                }
                let heard = registry.alive.places();
                prop_assert!(heard.is_sorted_by_key(|place| registry.records[*place].last_heard));
                prop_assert_eq!(registry.places.len(), registry.records.len());
                let connected = registry.hosts().filter(|record| record.session.is_some()).count();
                prop_assert_eq!(registry.sessions.len(), connected);
                prop_assert!(heard.len() + registry.suspect.len() <= capacity.live as usize);
                prop_assert!(registry.departed.len() <= capacity.departed as usize);
            }
        }

        #[test]
        fn a_clone_elsewhere_never_gets_in_while_the_first_is_heard_of(
            steps in prop::collection::vec((0..1999_u64, 5..7_u64), 1..50),
        ) {
            let mut registry = registry();
            let mut now = Instant::now();
            let _ = registry.handle(now, hello(1, HOST, 5, HERE));
            for ((millis, epoch), session) in steps.into_iter().zip(2..) {
                now += Duration::from_millis(millis);
                let reason = RefuseReason::SameIdentityElsewhere { address: HERE.parse().unwrap() };
                prop_assert_eq!(registry.handle(now, hello(session, HOST, epoch, ELSEWHERE)), [refuse(session, reason)]);
                prop_assert_eq!(registry.handle(now, heartbeat(1, HERE)), []);
                prop_assert_eq!(registry.handle_timeout(now), []);
            }
        }
    }
}
