//! The coordinator's side of membership.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rally_core::{Activity, Epoch, HostFacts, HostId};

use super::{DisconnectReason, RefuseReason, Session, Timing};
use crate::{ClockEstimate, HostState};

/// Every host that has said hello, and how it stands.
///
/// Each event costs the same whatever the number of hosts, up to the logarithm of an ordered queue; a heartbeat does not
/// even touch the queue.
#[derive(Debug)]
pub struct Registry {
    timing: Timing,
    capacity: Capacity,
    hosts: HashMap<HostId, HostRecord>,
    /// The current session of each connected host; any other session changes nothing.
    sessions: HashMap<Session, HostId>,
    /// When to look at each alive or suspect host again: never later than its true deadline, but perhaps earlier,
    /// because heartbeats do not move it.
    wakes: BTreeSet<(Instant, HostId)>,
    /// Dead hosts and those that left, the longest gone first.
    departed: BTreeSet<(Instant, HostId)>,
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
    /// How it stands.
    pub state: HostState,
    /// When its last hello or heartbeat arrived.
    pub last_heard: Instant,
    /// Its connection: always there while it is alive, never once it is dead or has left.
    pub session: Option<Session>,
    /// Its place in `wakes`, or in `departed`.
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
            hosts: HashMap::new(),
            sessions: HashMap::new(),
            wakes: BTreeSet::new(),
            departed: BTreeSet::new(),
        }
    }

    /// Applies one event and returns what has to be done about it, in order; at most three actions.
    ///
    /// Events of a session that is not its host's current one change nothing.
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
        while let Some(&(at, host)) = self.wakes.first()
            && at <= now
        {
            self.wakes.pop_first();
            let Some(record) = self.hosts.get_mut(&host) else { continue };
            let suspect_at = record.last_heard + self.timing.suspect_after;
            let dead_at = record.last_heard + self.timing.dead_after;
            if record.state == HostState::Alive && suspect_at <= now {
                record.state = HostState::Suspect;
                actions.push(publish(record, HostChange::Suspected));
            }
            if record.state == HostState::Suspect && dead_at <= now {
                if let Some(session) = record.session.take() {
                    self.sessions.remove(&session);
                    actions.push(RegistryAction::Disconnect { session, reason: DisconnectReason::Silent });
                }
                actions.push(publish(record, HostChange::Died));
                self.depart(now, host, HostState::Dead);
            } else {
                record.queued_at = if record.state == HostState::Alive { suspect_at } else { dead_at };
                self.wakes.insert((record.queued_at, host));
            }
        }
        actions
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), `None` while nobody is connected.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.wakes.first().map(|&(at, _)| at)
    }

    /// Every host that is remembered, in no particular order.
    pub fn hosts(&self) -> impl ExactSizeIterator<Item = &HostRecord> {
        self.hosts.values()
    }

    /// One host.
    pub fn host(&self, host: HostId) -> Option<&HostRecord> {
        self.hosts.get(&host)
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
        let is_full = self.hosts.len() - self.departed.len() >= self.capacity.live as usize;
        let too_many_hosts = || RefuseReason::TooManyHosts { limit: self.capacity.live };
        let refuse = |reason| vec![RegistryAction::Refuse { session, reason }];

        let Some(record) = self.hosts.get_mut(&host) else {
            if is_full {
                return refuse(too_many_hosts());
            }
            let queued_at = now + self.timing.suspect_after;
            let record = HostRecord {
                host,
                epoch,
                address,
                facts,
                activity: Activity::default(),
                round_trip: None,
                clock: None,
                state: HostState::Alive,
                last_heard: now,
                session: Some(session),
                queued_at,
            };
            let joined = publish(&record, HostChange::Joined);
            self.hosts.insert(host, record);
            self.sessions.insert(session, host);
            self.wakes.insert((queued_at, host));
            return vec![RegistryAction::Welcome { session }, joined];
        };

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
        self.sessions.insert(session, host);
        let queue = if record.is_departed() { &mut self.departed } else { &mut self.wakes };
        queue.remove(&(record.queued_at, host));
        let change = if epoch > record.epoch {
            record.activity = Activity::default();
            record.round_trip = None;
            record.clock = None;
            HostChange::Restarted { before: record.epoch }
        } else {
            HostChange::Returned
        };
        record.epoch = epoch;
        record.address = address;
        record.facts = facts;
        record.state = HostState::Alive;
        record.last_heard = now;
        record.queued_at = now + self.timing.suspect_after;
        self.wakes.insert((record.queued_at, host));
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
        let Some(record) = self.sessions.get(&session).and_then(|host| self.hosts.get_mut(host)) else {
            return Vec::new();
        };
        record.last_heard = record.last_heard.max(now);
        record.address = address;
        record.activity = report.activity;
        record.round_trip = report.round_trip;
        record.clock = report.clock;
        if record.state != HostState::Suspect {
            return Vec::new();
        }
        record.state = HostState::Alive;
        self.wakes.remove(&(record.queued_at, record.host));
        record.queued_at = record.last_heard + self.timing.suspect_after;
        self.wakes.insert((record.queued_at, record.host));
        vec![publish(record, HostChange::Recovered)]
    }

    fn closed(&mut self, now: Instant, session: Session, left: bool) -> Vec<RegistryAction> {
        let Some(host) = self.sessions.remove(&session) else { return Vec::new() };
        let Some(record) = self.hosts.get_mut(&host) else { return Vec::new() };
        record.session = None;
        if left {
            let action = publish(record, HostChange::Left);
            self.depart(now, host, HostState::Left);
            return vec![action];
        }
        // It may come back on a new connection, but must do so before it is given up. Its place in the queue is early
        // enough, because death comes after suspicion.
        if record.state == HostState::Suspect {
            return Vec::new();
        }
        record.state = HostState::Suspect;
        vec![publish(record, HostChange::Suspected)]
    }

    /// Puts a host without a session among the departed, and forgets the longest gone if there are too many.
    fn depart(&mut self, now: Instant, host: HostId, state: HostState) {
        if let Some(record) = self.hosts.get_mut(&host) {
            self.wakes.remove(&(record.queued_at, host));
            record.state = state;
            record.queued_at = now;
            self.departed.insert((now, host));
        }
        if self.departed.len() > self.capacity.departed as usize
            && let Some((_, forgotten)) = self.departed.pop_first()
        {
            self.hosts.remove(&forgotten);
        }
    }
}

fn publish(record: &HostRecord, change: HostChange) -> RegistryAction {
    RegistryAction::Publish(MembershipEvent { host: record.host, epoch: record.epoch, change })
}
