//! The state machines of both sides in a shell that stands for QUIC: connections by handshake, on unreliable packets.
//!
//! Unlike a real shell, it hands the machines everything that comes from connections and epochs that are over, and
//! checks that it changes nothing.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rally_core::sim::{Node, NodeId, Outbox};
use rally_core::{ClusterTime, Epoch, HostFacts, HostId, Role};
use rally_net::{
    AcquireError, Capacity, ClockFilter, ClockSample, DialFailure, DisconnectReason, Holder, HostState, LeaseError,
    LeaseId, LeaseTable, Link, LocalTime, LossCause, MembershipEvent, RefuseReason, Registry, RegistryAction,
    RegistryEvent, Report, Session, Timing, Uplink, UplinkAction, UplinkEvent, UplinkInput,
};

pub(super) const LEASE_TERM: Duration = Duration::from_secs(3);
/// The coordinator renews its leases at this interval.
const LEASE_ROUND: Duration = Duration::from_secs(1);
/// A handshake packet is sent again at this interval until it is answered.
const RETRANSMIT: Duration = Duration::from_millis(200);

/// A connection as the member has named it: unique over all members and their starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Conn(HostId, Epoch, SocketAddr, u64);

#[derive(Clone, Debug)]
pub(super) enum Packet {
    /// From the member: opens a connection; answered by `Accepted`.
    Initial {
        conn: Conn,
    },
    /// From the coordinator: go on with `Hello`.
    Accepted {
        conn: Conn,
    },
    /// From the member; answered by `Welcome` or `Refused`.
    Hello {
        conn: Conn,
        host: HostId,
        epoch: Epoch,
        address: SocketAddr,
    },
    Welcome {
        conn: Conn,
        coordinator: HostId,
        epoch: Epoch,
    },
    Refused {
        conn: Conn,
        reason: RefuseReason,
    },
    /// From the member: a heartbeat; answered by `Pong`.
    Ping {
        conn: Conn,
        sent: LocalTime,
        report: Report,
        address: SocketAddr,
    },
    Pong {
        conn: Conn,
        sent: LocalTime,
        received_there: ClusterTime,
        sent_there: ClusterTime,
    },
    /// From the coordinator: take the role under a lease; answered by `Granted` or `LeaseEnded`.
    Acquire {
        conn: Conn,
    },
    Renew {
        conn: Conn,
        id: LeaseId,
    },
    Granted {
        conn: Conn,
        id: LeaseId,
    },
    LeaseEnded {
        conn: Conn,
    },
    /// From either side, `None` for a goodbye.
    Close {
        conn: Conn,
        reason: Option<DisconnectReason>,
    },
    /// From either side: no such connection.
    Reset {
        conn: Conn,
    },
}

#[derive(Debug)]
pub(super) enum Host {
    Coordinator(Box<Coordinator>),
    Member(Box<Member>),
}

impl Node for Host {
    type Message = Packet;

    fn handle(&mut self, outbox: &mut Outbox<Packet>, from: NodeId, packet: Packet) {
        match self {
            Self::Coordinator(coordinator) => coordinator.receive(outbox, from, packet),
            Self::Member(member) => member.receive(outbox, packet),
        }
    }

    fn handle_timeout(&mut self, outbox: &mut Outbox<Packet>) {
        match self {
            Self::Coordinator(coordinator) => coordinator.handle_timeout(outbox),
            Self::Member(member) => member.handle_timeout(outbox),
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        match self {
            Self::Coordinator(coordinator) => {
                coordinator.registry.next_deadline().into_iter().chain([coordinator.next_lease_round]).min()
            }
            Self::Member(member) => {
                let retransmit = member.dial.as_ref().map(|dial| dial.retransmit_at);
                [member.uplink.next_deadline(), member.leases.next_deadline(), retransmit].into_iter().flatten().min()
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct Coordinator {
    pub(super) host: HostId,
    pub(super) epoch: Epoch,
    start: Instant,
    /// Coordinator time at `start`.
    pub(super) cluster_start: ClusterTime,
    pub(super) registry: Registry,
    pub(super) events: Vec<MembershipEvent>,
    connections: HashMap<Conn, Connection>,
    conns: HashMap<Session, Conn>,
    sessions: u64,
    next_lease_round: Instant,
    /// Whether packets of unknown connections are answered, or their sender has to find out by itself.
    resets: bool,
}

#[derive(Debug)]
struct Connection {
    peer: NodeId,
    session: Session,
    host: Option<HostId>,
    /// The answer to its hello, sent again when the hello comes again.
    answer: Option<Packet>,
    is_open: bool,
    lease: Option<LeaseId>,
}

impl Coordinator {
    pub(super) fn new(
        now: Instant,
        start: Instant,
        host: HostId,
        epoch: Epoch,
        cluster_start: ClusterTime,
        resets: bool,
    ) -> Self {
        Self {
            host,
            epoch,
            start,
            cluster_start,
            registry: Registry::new(Timing::default(), Capacity::default()),
            events: Vec::new(),
            connections: HashMap::new(),
            conns: HashMap::new(),
            sessions: 0,
            next_lease_round: now + LEASE_ROUND,
            resets,
        }
    }

    fn cluster_time(&self, now: Instant) -> ClusterTime {
        self.cluster_start + now.saturating_duration_since(self.start)
    }

    fn receive(&mut self, outbox: &mut Outbox<Packet>, from: NodeId, packet: Packet) {
        let now = outbox.now();
        match packet {
            Packet::Initial { conn } => {
                if !self.connections.contains_key(&conn) {
                    self.sessions += 1;
                    let session = Session(self.sessions);
                    self.conns.insert(session, conn);
                    let connection =
                        Connection { peer: from, session, host: None, answer: None, is_open: true, lease: None };
                    self.connections.insert(conn, connection);
                }
                outbox.send(from, Packet::Accepted { conn });
            }
            Packet::Hello { conn, host, epoch, address } => {
                let Some(connection) = self.connections.get_mut(&conn) else { return };
                if let Some(answer) = &connection.answer {
                    outbox.send(from, answer.clone());
                    return;
                }
                connection.host = Some(host);
                let session = connection.session;
                let before = self.registry.host(host).cloned();
                let facts = HostFacts::default();
                let actions = self.registry.handle(now, RegistryEvent::Hello { session, host, epoch, address, facts });
                if let Some(before) = before
                    && epoch < before.epoch
                {
                    assert_eq!(self.registry.host(host), Some(&before), "a hello of an old epoch changed something");
                }
                self.perform(outbox, actions);
            }
            Packet::Ping { conn, sent, report, address } => {
                let received_there = self.cluster_time(now);
                let Some(session) = self.connections.get(&conn).map(|connection| connection.session) else {
                    if self.resets {
                        outbox.send(from, Packet::Reset { conn });
                    }
                    return;
                };
                self.event(outbox, conn, RegistryEvent::Heartbeat { session, report, address });
                if self.connections[&conn].is_open {
                    outbox.send(from, Packet::Pong { conn, sent, received_there, sent_there: self.cluster_time(now) });
                }
            }
            Packet::Close { conn, reason } => {
                if let Some(connection) = self.connections.get_mut(&conn) {
                    connection.is_open = false;
                    let session = connection.session;
                    self.event(outbox, conn, RegistryEvent::Closed { session, left: reason.is_none() });
                }
            }
            Packet::Reset { conn } => {
                if let Some(connection) = self.connections.get_mut(&conn) {
                    connection.is_open = false;
                    let session = connection.session;
                    self.event(outbox, conn, RegistryEvent::Closed { session, left: false });
                }
            }
            Packet::Granted { conn, id } => {
                if let Some(connection) = self.connections.get_mut(&conn) {
                    connection.lease = Some(id);
                }
            }
            Packet::LeaseEnded { conn } => {
                if let Some(connection) = self.connections.get_mut(&conn) {
                    connection.lease = None;
                }
            }
            Packet::Accepted { .. }
            | Packet::Welcome { .. }
            | Packet::Refused { .. }
            | Packet::Pong { .. }
            | Packet::Acquire { .. }
            | Packet::Renew { .. } => panic!("the coordinator got {packet:?}"),
        }
    }

    /// Hands over an event of a connection; one that is not its host's current one must change nothing.
    fn event(&mut self, outbox: &mut Outbox<Packet>, conn: Conn, event: RegistryEvent) {
        let connection = &self.connections[&conn];
        let before = connection.host.and_then(|host| self.registry.host(host)).cloned();
        let is_current = before.as_ref().is_some_and(|record| record.session == Some(connection.session));
        let host = connection.host;
        let actions = self.registry.handle(outbox.now(), event);
        if !is_current {
            assert_eq!(actions, [], "a stale session caused something");
            let after = host.and_then(|host| self.registry.host(host)).cloned();
            assert_eq!(after, before, "a stale session changed something");
        }
        self.perform(outbox, actions);
    }

    fn handle_timeout(&mut self, outbox: &mut Outbox<Packet>) {
        let actions = self.registry.handle_timeout(outbox.now());
        self.perform(outbox, actions);
        assert!(self.registry.next_deadline().is_none_or(|deadline| deadline > outbox.now()));
        if self.next_lease_round <= outbox.now() {
            self.next_lease_round = outbox.now() + LEASE_ROUND;
            for (&conn, connection) in &self.connections {
                let is_welcome = matches!(connection.answer, Some(Packet::Welcome { .. }));
                if connection.is_open && is_welcome {
                    let request = match connection.lease {
                        Some(id) => Packet::Renew { conn, id },
                        None => Packet::Acquire { conn },
                    };
                    outbox.send(connection.peer, request);
                }
            }
        }
    }

    fn perform(&mut self, outbox: &mut Outbox<Packet>, actions: Vec<RegistryAction>) {
        assert!(actions.len() <= 3 * self.registry.hosts().len().max(1));
        for action in actions {
            let (session, answer) = match action {
                RegistryAction::Welcome { session } => {
                    let conn = self.conns[&session];
                    (session, Packet::Welcome { conn, coordinator: self.host, epoch: self.epoch })
                }
                RegistryAction::Refuse { session, reason } => {
                    (session, Packet::Refused { conn: self.conns[&session], reason })
                }
                RegistryAction::Disconnect { session, reason } => {
                    (session, Packet::Close { conn: self.conns[&session], reason: Some(reason) })
                }
                RegistryAction::Publish(event) => {
                    self.events.push(event);
                    continue;
                }
            };
            if let Some(connection) = self.connections.get_mut(&self.conns[&session]) {
                connection.is_open = matches!(answer, Packet::Welcome { .. });
                outbox.send(connection.peer, answer.clone());
                connection.answer = Some(answer);
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) host: HostId,
    pub(super) epoch: Epoch,
    pub(super) address: SocketAddr,
    start: Instant,
    coordinator: NodeId,
    pub(super) uplink: Uplink,
    pub(super) leases: LeaseTable,
    /// The filter, and to which start of the coordinator it belongs.
    pub(super) clock: (Epoch, ClockFilter),
    pub(super) events: Vec<UplinkEvent>,
    dial: Option<Dial>,
    /// Every connection that there ever was, with the coordinator's epoch.
    connections: HashMap<Conn, (Session, Epoch)>,
    current: Option<(Session, Conn)>,
}

#[derive(Debug)]
struct Dial {
    attempt: u64,
    conn: Conn,
    is_accepted: bool,
    retransmit_at: Instant,
}

impl Member {
    pub(super) fn new(
        now: Instant,
        start: Instant,
        coordinator: NodeId,
        host: HostId,
        epoch: Epoch,
        address: SocketAddr,
        seed: u64,
    ) -> Self {
        Self {
            host,
            epoch,
            address,
            start,
            coordinator,
            uplink: Uplink::new(now, Timing::default(), seed),
            leases: LeaseTable::new(epoch),
            clock: (Epoch(0), ClockFilter::new()),
            events: Vec::new(),
            dial: None,
            connections: HashMap::new(),
            current: None,
        }
    }

    pub(super) fn local_time(&self, now: Instant) -> LocalTime {
        LocalTime::from_nanos(now.saturating_duration_since(self.start).as_nanos() as u64)
    }

    /// Says goodbye.
    pub(super) fn leave(&self, outbox: &mut Outbox<Packet>) {
        if let Some((_, conn)) = self.current {
            outbox.send(self.coordinator, Packet::Close { conn, reason: None });
        }
    }

    fn receive(&mut self, outbox: &mut Outbox<Packet>, packet: Packet) {
        let now = outbox.now();
        match packet {
            Packet::Accepted { conn } => {
                if let Some(dial) = &mut self.dial
                    && dial.conn == conn
                    && !dial.is_accepted
                {
                    dial.is_accepted = true;
                    self.transmit_dial(outbox);
                }
            }
            Packet::Welcome { conn, coordinator, epoch } => {
                let Some(dial) = self.dial.take_if(|dial| dial.conn == conn) else {
                    if !self.connections.contains_key(&conn) {
                        outbox.send(self.coordinator, Packet::Reset { conn });
                    }
                    return;
                };
                let session = Session(self.connections.len() as u64 + 1);
                self.connections.insert(conn, (session, epoch));
                self.current = Some((session, conn));
                let attempt = dial.attempt;
                let known = self.uplink.coordinator();
                self.input(outbox, UplinkInput::Connected { attempt, session, coordinator, epoch });
                if known.is_some_and(|(_, known)| epoch < known) {
                    assert!(!matches!(self.uplink.link(), Link::Connected { .. }), "an old coordinator was accepted");
                    return;
                }
                let ended = self.leases.owner_seen(coordinator, epoch);
                assert!(ended.iter().all(|end| end.holder.epoch < epoch));
                if self.clock.0 != epoch {
                    self.clock = (epoch, ClockFilter::new());
                }
            }
            Packet::Refused { conn, reason } => {
                if let Some(dial) = self.dial.take_if(|dial| dial.conn == conn) {
                    let failure = DialFailure::Refused(reason);
                    self.input(outbox, UplinkInput::Failed { attempt: dial.attempt, failure });
                }
            }
            Packet::Pong { conn, sent, received_there, sent_there } => {
                let Some(&(session, _)) = self.connections.get(&conn) else { return };
                if self.is_current(session) {
                    let sample = ClockSample { sent, received_there, sent_there, received: self.local_time(now) };
                    // Refused if it was overtaken by a later one, which a datagram may be.
                    let _ = self.clock.1.record(sample);
                }
                self.input(outbox, UplinkInput::Heard { session });
            }
            Packet::Acquire { conn } => {
                let Some(&(_, epoch)) = self.connections.get(&conn) else { return };
                let Some((host, known)) = self.uplink.coordinator() else { return };
                let holder = Holder { host, epoch, purpose: "race".to_owned() };
                let before = self.leases.next_deadline();
                match self.leases.acquire(now, Role::LoadDriver, holder, LEASE_TERM) {
                    Ok(lease) => {
                        assert_eq!(epoch, known, "a lease was granted to an old epoch");
                        outbox.send(self.coordinator, Packet::Granted { conn, id: lease.id });
                    }
                    Err(AcquireError::OldEpoch { .. } | AcquireError::Held { .. }) => {
                        assert_eq!(self.leases.next_deadline(), before);
                    }
                }
            }
            Packet::Renew { conn, id } => {
                let Some(&(_, epoch)) = self.connections.get(&conn) else { return };
                let Some((host, known)) = self.uplink.coordinator() else { return };
                match self.leases.renew(now, id, host, epoch) {
                    Ok(_) => assert_eq!(epoch, known, "a lease was renewed by an old epoch"),
                    Err(LeaseError::Ended(_) | LeaseError::NotHolder { .. }) => {
                        outbox.send(self.coordinator, Packet::LeaseEnded { conn });
                    }
                }
            }
            Packet::Close { conn, reason } => {
                let cause = reason.map_or(LossCause::Left, LossCause::Disconnected);
                if let Some(&(session, _)) = self.connections.get(&conn) {
                    self.input(outbox, UplinkInput::Closed { session, cause });
                } else if let Some(dial) = self.dial.take_if(|dial| dial.conn == conn) {
                    let failure = DialFailure::Unreachable(cause.to_string());
                    self.input(outbox, UplinkInput::Failed { attempt: dial.attempt, failure });
                }
            }
            Packet::Reset { conn } => {
                if let Some(&(session, _)) = self.connections.get(&conn) {
                    let cause = LossCause::Broken("reset".to_owned());
                    self.input(outbox, UplinkInput::Closed { session, cause });
                }
            }
            Packet::Initial { .. }
            | Packet::Hello { .. }
            | Packet::Ping { .. }
            | Packet::Granted { .. }
            | Packet::LeaseEnded { .. } => panic!("a member got {packet:?}"),
        }
    }

    fn is_current(&self, session: Session) -> bool {
        matches!(self.uplink.link(), Link::Connected { session: current, .. } if current == session)
    }

    /// Hands over an input; one of a session that is not the current one must change nothing.
    fn input(&mut self, outbox: &mut Outbox<Packet>, input: UplinkInput) {
        let is_stale = match &input {
            UplinkInput::Heard { session } | UplinkInput::Closed { session, .. } => !self.is_current(*session),
            UplinkInput::Connected { .. } | UplinkInput::Failed { .. } => false,
        };
        let before = (self.uplink.link(), self.uplink.next_deadline());
        let actions = self.uplink.handle(outbox.now(), input);
        if is_stale {
            assert_eq!(actions, [], "a stale session caused something");
            assert_eq!((self.uplink.link(), self.uplink.next_deadline()), before, "a stale session changed something");
        }
        self.perform(outbox, actions);
    }

    fn handle_timeout(&mut self, outbox: &mut Outbox<Packet>) {
        let now = outbox.now();
        for ended in self.leases.handle_timeout(now) {
            assert_eq!(ended.resource, Role::LoadDriver);
        }
        let actions = self.uplink.handle_timeout(now);
        self.perform(outbox, actions);
        if self.dial.as_ref().is_some_and(|dial| dial.retransmit_at <= now) {
            self.transmit_dial(outbox);
        }
    }

    fn transmit_dial(&mut self, outbox: &mut Outbox<Packet>) {
        let Some(dial) = &mut self.dial else { return };
        let (conn, host, epoch) = (dial.conn, self.host, self.epoch);
        let packet = if dial.is_accepted {
            Packet::Hello { conn, host, epoch, address: self.address }
        } else {
            Packet::Initial { conn }
        };
        dial.retransmit_at = outbox.now() + RETRANSMIT;
        outbox.send(self.coordinator, packet);
    }

    fn perform(&mut self, outbox: &mut Outbox<Packet>, actions: Vec<UplinkAction>) {
        assert!(actions.len() <= 3);
        for action in actions {
            match action {
                UplinkAction::Dial { attempt } => {
                    let conn = Conn(self.host, self.epoch, self.address, attempt);
                    self.dial = Some(Dial { attempt, conn, is_accepted: false, retransmit_at: outbox.now() });
                    self.transmit_dial(outbox);
                }
                UplinkAction::Abandon { attempt } => {
                    self.dial.take_if(|dial| dial.attempt == attempt).expect("only the attempt under way is abandoned");
                }
                UplinkAction::SendHeartbeat { session, .. } => {
                    let (current, conn) = self.current.expect("there is a connection to send heartbeats on");
                    assert_eq!(session, current);
                    let sent = self.local_time(outbox.now());
                    let report = Report {
                        round_trip: self.clock.1.round_trip(),
                        clock: self.clock.1.estimate(sent),
                        ..Report::default()
                    };
                    outbox.send(self.coordinator, Packet::Ping { conn, sent, report, address: self.address });
                }
                UplinkAction::Disconnect { session, reason } => {
                    let (current, conn) = self.current.expect("there is a connection to close");
                    assert_eq!(session, current);
                    outbox.send(self.coordinator, Packet::Close { conn, reason: Some(reason) });
                }
                UplinkAction::Publish(event) => self.events.push(event),
            }
        }
    }
}

/// Whether both sides agree that this member is connected, in the current epochs of both.
pub(super) fn is_settled(coordinator: &Coordinator, member: &Member) -> bool {
    let is_known = coordinator
        .registry
        .host(member.host)
        .is_some_and(|record| record.state == HostState::Alive && record.epoch == member.epoch);
    let is_connected = matches!(member.uplink.link(), Link::Connected { suspect: false, .. });
    is_known && is_connected && member.uplink.coordinator() == Some((coordinator.host, coordinator.epoch))
}
