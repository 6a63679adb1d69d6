//! The race in a shell that stands for the network's: requests are sent until they are answered, events are asked for
//! until they arrive, silent hosts count as dead, and drivers stop when nobody keeps their lease.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::allocation::spread;
use crate::metrics::{Interval, Ledger, TaskInterval};
use crate::race::tests::empty_task;
use crate::race::{DriverIndex, OnDriverLoss, Race, RaceAction, RaceInput, RaceTiming, RaceVerdict};
use crate::sim::{Node, NodeId, Outbox};
use crate::track::Challenge;
use crate::{
    Allocation, ClusterTime, Completion, DriverEvent, DriverEventKind, JoinPoint, RaceDriver, RaceEventKind, RaceId,
    Role, RoleError, RoleErrorKind, Sequence, Step, StopMode, TaskIndex,
};

/// A driver goes on without its coordinator for so long.
pub(super) const LEASE_TERM: Duration = Duration::from_secs(6);
/// A host that is silent for so long counts as dead.
const DEAD_AFTER: Duration = Duration::from_secs(5);
/// Requests and subscriptions are sent again at this interval.
const AGAIN: Duration = Duration::from_millis(200);
/// Drivers report what they measured at this interval.
const INTERVAL: Duration = Duration::from_secs(1);

/// What everybody knows of a race.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) race: u32,
    pub(super) challenge: Challenge,
    allocation: Allocation,
    clients: Vec<Range<u32>>,
    on_loss: OnDriverLoss,
    timing: RaceTiming,
}

impl Plan {
    pub(super) fn new(
        race: u32,
        challenge: Challenge,
        drivers: usize,
        on_loss: OnDriverLoss,
        timing: RaceTiming,
    ) -> Self {
        let allocation = Allocation::new(&challenge);
        let clients = spread(allocation.clients, &vec![2; drivers]);
        Self { race, challenge, allocation, clients, on_loss, timing }
    }

    /// Whether nothing comes after a join point.
    fn is_last(&self, at: JoinPoint) -> bool {
        self.allocation.step(JoinPoint(at.0 + 1)).is_none()
    }
}

/// What really happened.
#[derive(Debug, Default)]
pub(super) struct Truth {
    /// Starts of all drivers.
    pub(super) starts: u64,
    /// Samples by race and start of a driver. What is made, but neither merged nor lost, has vanished without a word.
    pub(super) samples: HashMap<(u32, u64), Ledger>,
    /// Drivers without which a race has gone on, or ended, by race.
    pub(super) given_up: HashMap<u32, BTreeSet<String>>,
    /// Events of races that had ended, which arrived all the same.
    pub(super) late: u64,
}

#[derive(Clone, Debug)]
pub(super) enum Packet {
    /// From this start of the coordinator; answered by `Answer`. `start` is the driver's process that is meant.
    Request { epoch: u64, plan: Arc<Plan>, start: Option<u64>, number: u64, request: Request },
    /// From this start of the coordinator: tell me the events after this one, and keep your lease; answered by `Events`.
    Follow { epoch: u64, race: u32, start: u64, after: Sequence },
    /// From a driver.
    Answer { race: u32, start: u64, number: u64, is_accepted: bool },
    /// From a driver.
    Events { race: u32, start: u64, events: Vec<DriverEvent> },
}

#[derive(Clone, Debug)]
pub(super) enum Request {
    Prepare { telemetry: bool },
    Drive(Step),
    CompleteStep(JoinPoint),
    AttachTelemetry,
    Stop(StopMode),
}

#[derive(Debug)]
pub(super) enum Host {
    Coordinator(Box<Coordinator>),
    Driver(Box<Driver>),
}

impl Node for Host {
    type Message = Packet;

    fn handle(&mut self, outbox: &mut Outbox<Packet>, from: NodeId, packet: Packet) {
        match self {
            Self::Coordinator(coordinator) => coordinator.receive(outbox, from, packet),
            Self::Driver(driver) => driver.receive(outbox, packet),
        }
    }

    fn handle_timeout(&mut self, outbox: &mut Outbox<Packet>) {
        match self {
            Self::Coordinator(coordinator) => coordinator.handle_timeout(outbox),
            Self::Driver(driver) => driver.advance(outbox.now()),
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        match self {
            Self::Coordinator(coordinator) => coordinator.next_deadline(),
            Self::Driver(driver) => driver.next_deadline(),
        }
    }
}

#[derive(Debug)]
pub(super) struct Coordinator {
    /// Coordinator time zero, which all starts have in common.
    zero: Instant,
    /// The number of this process.
    epoch: u64,
    truth: Rc<RefCell<Truth>>,
    /// Races that have ended.
    former: Vec<Running>,
    current: Option<Running>,
}

#[derive(Debug)]
struct Running {
    epoch: u64,
    plan: Arc<Plan>,
    race: Race,
    links: Vec<DriverLink>,
    requests: u64,
    again_at: Instant,
    /// By driver.
    accounts: Vec<Account>,
    steps_ended: usize,
    /// The last look at the cluster under test has arrived.
    was_observed: bool,
    was_cancelled: bool,
}

/// What a coordinator knows of the samples of a driver.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Account {
    /// What it said last.
    pub(super) told: Ledger,
    pub(super) merged: u64,
}

#[derive(Debug)]
struct DriverLink {
    node: NodeId,
    /// The process of the driver that was prepared.
    start: Option<u64>,
    heard: Instant,
    /// Requests in order; the first one is sent until it is answered.
    requests: VecDeque<(u64, Request, Instant)>,
    is_lost: bool,
}

impl Coordinator {
    pub(super) fn new(zero: Instant, epoch: u64, truth: Rc<RefCell<Truth>>) -> Self {
        Self { zero, epoch, truth, former: Vec::new(), current: None }
    }

    fn time(&self, now: Instant) -> ClusterTime {
        cluster_time(self.zero, now)
    }

    pub(super) fn start_race(&mut self, outbox: &mut Outbox<Packet>, plan: Arc<Plan>, nodes: &[NodeId]) {
        let now = outbox.now();
        let used = plan.clients.iter().filter(|clients| !clients.is_empty()).count();
        let drivers = (0..used).map(|index| RaceDriver { name: name(index), clients: plan.clients[index].clone() });
        let id: RaceId = plan.race.to_string().parse().unwrap();
        let (race, actions) =
            Race::start(id, &plan.challenge, drivers.collect(), plan.on_loss, plan.timing.clone(), self.time(now));
        let link = |&node| DriverLink { node, start: None, heard: now, requests: VecDeque::new(), is_lost: false };
        let links = nodes[..used].iter().map(link).collect();
        self.former.extend(self.current.take());
        self.current = Some(Running {
            epoch: self.epoch,
            plan,
            race,
            links,
            requests: 0,
            again_at: now + AGAIN,
            accounts: vec![Account::default(); used],
            steps_ended: 0,
            was_observed: false,
            was_cancelled: false,
        });
        self.perform(outbox, actions);
    }

    pub(super) fn cancel(&mut self, outbox: &mut Outbox<Packet>, mode: StopMode) {
        if let Some(running) = &mut self.current {
            running.was_cancelled = true;
        }
        self.input(outbox, RaceInput::Cancelled(mode));
    }

    pub(super) fn verdict(&self) -> Option<&RaceVerdict> {
        self.current.as_ref()?.race.verdict()
    }

    pub(super) fn awaiting(&self) -> Vec<&str> {
        self.current.as_ref().map(|running| running.race.awaiting()).unwrap_or_default()
    }

    /// The drivers by name, with the start that takes part, if it is known, and what was recorded of it.
    pub(super) fn accounts(&self) -> impl Iterator<Item = (String, Option<u64>, Account)> {
        let drivers = self.current.iter().flat_map(|running| running.links.iter().zip(&running.accounts));
        drivers.enumerate().map(|(index, (link, account))| (name(index), link.start, *account))
    }

    pub(super) fn steps_ended(&self) -> usize {
        self.current.as_ref().map_or(0, |running| running.steps_ended)
    }

    pub(super) fn was_observed(&self) -> bool {
        self.current.as_ref().is_some_and(|running| running.was_observed)
    }

    pub(super) fn was_cancelled(&self) -> bool {
        self.current.as_ref().is_some_and(|running| running.was_cancelled)
    }

    /// Whether it owns this race: it was started by this process.
    pub(super) fn owns(&self, race: u32) -> bool {
        self.current.as_ref().is_some_and(|running| running.plan.race == race)
    }

    fn input(&mut self, outbox: &mut Outbox<Packet>, input: RaceInput) {
        let now = self.time(outbox.now());
        if let Some(running) = &mut self.current {
            let actions = running.race.handle(now, input);
            self.perform(outbox, actions);
        }
    }

    fn perform(&mut self, outbox: &mut Outbox<Packet>, actions: Vec<RaceAction>) {
        let Some(running) = &mut self.current else { return };
        let ask = |running: &mut Running, driver: DriverIndex, request, outbox: &mut Outbox<Packet>| {
            running.requests += 1;
            let link = &mut running.links[driver.0];
            link.requests.push_back((running.requests, request, outbox.now()));
            if link.requests.len() == 1 {
                link.send(running.epoch, &running.plan, outbox);
            }
        };
        for action in actions {
            match action {
                RaceAction::Prepare { driver, telemetry, .. } => {
                    ask(running, driver, Request::Prepare { telemetry }, outbox);
                }
                RaceAction::Drive { driver, step } => ask(running, driver, Request::Drive(step), outbox),
                RaceAction::CompleteStep { driver, until } => {
                    ask(running, driver, Request::CompleteStep(until), outbox);
                }
                RaceAction::AttachTelemetry { driver } => ask(running, driver, Request::AttachTelemetry, outbox),
                RaceAction::Stop { driver, mode } => ask(running, driver, Request::Stop(mode), outbox),
                RaceAction::Record { driver, interval, .. } => {
                    let account = &mut running.accounts[driver.0];
                    account.merged += interval.tasks.iter().map(|task| task.samples).sum::<u64>();
                    account.told = interval.ledger;
                }
                RaceAction::Announce(RaceEventKind::StepEnded { .. }) => running.steps_ended += 1,
                RaceAction::Announce(RaceEventKind::RoleFailed(error)) => {
                    self.truth.borrow_mut().given_up.entry(running.plan.race).or_default().insert(error.host);
                }
                RaceAction::RecordTelemetry { .. } => running.was_observed = true,
                RaceAction::FetchSegment { .. } | RaceAction::Announce(_) => {}
            }
        }
    }

    fn receive(&mut self, outbox: &mut Outbox<Packet>, from: NodeId, packet: Packet) {
        let Some(running) = &mut self.current else { return };
        let (race, start) = match &packet {
            Packet::Answer { race, start, .. } | Packet::Events { race, start, .. } => (*race, *start),
            Packet::Request { .. } | Packet::Follow { .. } => panic!("the coordinator sends these"),
        };
        if race != running.plan.race {
            return self.receive_late(outbox.now(), from, race, packet);
        }
        let Some(index) = running.links.iter().position(|link| link.node == from) else { return };
        let link = &mut running.links[index];
        if link.is_lost || link.start.is_some_and(|known| known > start) {
            return;
        }
        let driver = DriverIndex(index);
        if link.start.is_some_and(|known| known < start) {
            return self.lose(outbox, driver, RoleErrorKind::Unreachable, "it was restarted");
        }
        link.start = Some(start);
        link.heard = outbox.now();
        match packet {
            Packet::Answer { number, is_accepted, .. } => {
                let Some(&(awaited, _, asked)) = link.requests.front() else { return };
                if awaited != number {
                    return;
                }
                link.requests.pop_front();
                if !is_accepted {
                    return self.lose(outbox, driver, RoleErrorKind::Busy, "it refused");
                }
                link.send(running.epoch, &running.plan, outbox);
                let round_trip = outbox.now() - asked;
                self.input(outbox, RaceInput::Answered { driver, round_trip });
            }
            Packet::Events { events, .. } => {
                for event in events {
                    self.input(outbox, RaceInput::Driver { driver, event });
                }
            }
            Packet::Request { .. } | Packet::Follow { .. } => {}
        }
    }

    /// Hands what comes of a race that has ended to that race, in which it must change nothing. A coordinator that was
    /// restarted does not know the race.
    fn receive_late(&mut self, now: Instant, from: NodeId, race: u32, packet: Packet) {
        let time = self.time(now);
        let Some(former) = self.former.iter_mut().find(|former| former.plan.race == race) else { return };
        let Some(index) = former.links.iter().position(|link| link.node == from) else { return };
        let (driver, before) = (DriverIndex(index), former.race.verdict().cloned());
        let inputs: Vec<_> = match packet {
            Packet::Events { events, .. } => {
                self.truth.borrow_mut().late += events.len() as u64;
                events.into_iter().map(|event| RaceInput::Driver { driver, event }).collect()
            }
            Packet::Answer { .. } => vec![RaceInput::Answered { driver, round_trip: AGAIN }],
            Packet::Request { .. } | Packet::Follow { .. } => Vec::new(),
        };
        for input in inputs {
            assert_eq!(former.race.handle(time, input), []);
        }
        assert!(before.is_some() && former.race.verdict() == before.as_ref(), "an old race has changed");
        assert_eq!(former.race.next_deadline(), None);
    }

    fn lose(&mut self, outbox: &mut Outbox<Packet>, driver: DriverIndex, kind: RoleErrorKind, cause: &str) {
        let Some(running) = &mut self.current else { return };
        let link = &mut running.links[driver.0];
        link.is_lost = true;
        link.requests.clear();
        let (phase, cause) = ("take part".to_owned(), cause.to_owned());
        let error = RoleError { host: name(driver.0), role: Role::LoadDriver, phase, kind, cause };
        self.input(outbox, RaceInput::Lost { driver, error });
    }

    fn handle_timeout(&mut self, outbox: &mut Outbox<Packet>) {
        let now = outbox.now();
        let time = self.time(now);
        let Some(running) = &mut self.current else { return };
        if running.again_at <= now {
            // Packets that came while this host stood still are read first, as a real one does.
            let stood_still = now - running.again_at > Duration::from_millis(250);
            running.again_at = now + AGAIN;
            let mut dead = Vec::new();
            for (index, link) in running.links.iter_mut().enumerate() {
                if stood_still {
                    link.heard = now;
                }
                if !link.is_lost && now - link.heard > DEAD_AFTER {
                    dead.push(DriverIndex(index));
                }
                link.send(running.epoch, &running.plan, outbox);
                if let Some(start) = link.start.filter(|_| !link.is_lost) {
                    let (epoch, race) = (running.epoch, running.plan.race);
                    let after = running.race.taken(DriverIndex(index));
                    outbox.send(link.node, Packet::Follow { epoch, race, start, after });
                }
            }
            for driver in dead {
                self.lose(
                    outbox,
                    driver,
                    RoleErrorKind::Unreachable,
                    "it was silent for so long that it counts as dead",
                );
            }
        }
        let Some(running) = &mut self.current else { return };
        let actions = running.race.handle_timeout(time);
        self.perform(outbox, actions);
    }

    fn next_deadline(&self) -> Option<Instant> {
        let running = self.current.as_ref().filter(|running| running.race.verdict().is_none())?;
        let race = running.race.next_deadline().map(|at| self.zero + Duration::from_nanos(at.as_nanos()));
        race.into_iter().chain([running.again_at]).min()
    }
}

impl DriverLink {
    fn send(&self, epoch: u64, plan: &Arc<Plan>, outbox: &mut Outbox<Packet>) {
        if let Some((number, request, _)) = self.requests.front() {
            let (plan, request) = (Arc::clone(plan), request.clone());
            outbox.send(self.node, Packet::Request { epoch, plan, start: self.start, number: *number, request });
        }
    }
}

pub(super) struct Driver {
    index: usize,
    coordinator: NodeId,
    /// Where its clock takes coordinator time zero to be.
    zero: Instant,
    /// The number of this process.
    start: u64,
    rng: StdRng,
    truth: Rc<RefCell<Truth>>,
    /// The latest start of the coordinator that it has heard of.
    owner: u64,
    /// The last race it took part in.
    play: Option<Play>,
    /// The race before that, and all it said there.
    former: Option<(u32, Vec<DriverEvent>)>,
}

struct Play {
    plan: Arc<Plan>,
    /// The number of this process.
    start: u64,
    events: Vec<DriverEvent>,
    at: JoinPoint,
    /// It asks the cluster under test for telemetry.
    observes: bool,
    doing: Doing,
    lease: Instant,
    measure_at: Instant,
    interval: u64,
    ledger: Ledger,
}

enum Doing {
    Preparing {
        until: Instant,
    },
    Waiting,
    /// Tasks with their ends; those without one go on until they are told.
    Running {
        step: Step,
        tasks: BTreeMap<TaskIndex, Option<Instant>>,
        is_completed: bool,
    },
    /// It takes a last look at the cluster under test.
    Observing {
        until: Instant,
    },
    Stopping {
        until: Instant,
    },
    Ended,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = self.play.as_ref().map(|play| play.at);
        f.debug_struct("Driver").field("index", &self.index).field("at", &at).finish_non_exhaustive()
    }
}

impl Driver {
    pub(super) fn new(
        index: usize,
        coordinator: NodeId,
        zero: Instant,
        start: u64,
        seed: u64,
        truth: Rc<RefCell<Truth>>,
    ) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        Self { index, coordinator, zero, start, rng, truth, owner: 0, play: None, former: None }
    }

    pub(super) fn name(&self) -> String {
        name(self.index)
    }

    /// The race in which it applies load, and up to which join point.
    pub(super) fn runs(&self) -> Option<(u32, JoinPoint)> {
        let play = self.play.as_ref()?;
        match &play.doing {
            Doing::Running { step, .. } => Some((play.plan.race, step.until)),
            Doing::Preparing { .. }
            | Doing::Waiting
            | Doing::Observing { .. }
            | Doing::Stopping { .. }
            | Doing::Ended => None,
        }
    }

    /// The join point that it has reached in a race in which it still plays.
    pub(super) fn join_point(&self, race: u32) -> Option<JoinPoint> {
        let play = self.play.as_ref().filter(|play| play.plan.race == race)?;
        match play.doing {
            Doing::Waiting | Doing::Running { .. } | Doing::Observing { .. } => Some(play.at),
            Doing::Preparing { .. } | Doing::Stopping { .. } | Doing::Ended => None,
        }
    }

    pub(super) fn is_free(&self) -> bool {
        self.play.as_ref().is_none_or(|play| matches!(play.doing, Doing::Ended))
    }

    fn receive(&mut self, outbox: &mut Outbox<Packet>, packet: Packet) {
        let now = outbox.now();
        self.advance(now);
        let (Packet::Request { epoch, .. } | Packet::Follow { epoch, .. }) = packet else {
            panic!("drivers send these");
        };
        if epoch < self.owner {
            return;
        }
        if epoch > self.owner {
            // What an earlier start of the coordinator had asked for is over.
            self.owner = epoch;
            self.end_play(now);
        }
        self.repeat_former(outbox);
        match packet {
            Packet::Request { plan, start, number, request, .. } => {
                let (race, mine) = (plan.race, self.start);
                let is_accepted = start.is_none_or(|start| start == mine) && self.asked(now, plan, request);
                outbox.send(self.coordinator, Packet::Answer { race, start: mine, number, is_accepted });
            }
            Packet::Follow { race, start, after, .. } => {
                let mut events = Vec::new();
                if let Some(play) = self.play.as_mut().filter(|play| play.plan.race == race && start == self.start) {
                    play.lease = now + LEASE_TERM;
                    events.extend(play.events.iter().filter(|event| event.sequence > after).cloned());
                }
                outbox.send(self.coordinator, Packet::Events { race, start: self.start, events });
            }
            Packet::Answer { .. } | Packet::Events { .. } => {}
        }
        self.advance(now);
    }

    /// Ends its race without being asked to.
    fn end_play(&mut self, now: Instant) {
        if let Some(play) = self.play.as_mut().filter(|play| !matches!(play.doing, Doing::Ended)) {
            play.doing = Doing::Stopping { until: now };
        }
        self.advance(now);
    }

    /// Now and then, what it said in its former race is still on its way.
    fn repeat_former(&mut self, outbox: &mut Outbox<Packet>) {
        let Some((race, events)) = &self.former else { return };
        if self.rng.random_bool(0.02) {
            let (race, events) = (*race, events.clone());
            outbox.send(self.coordinator, Packet::Events { race, start: self.start, events });
        }
    }

    /// Does what was asked for; false if it makes no sense.
    fn asked(&mut self, now: Instant, plan: Arc<Plan>, request: Request) -> bool {
        let until = now + self.rng.random_range(Duration::ZERO..Duration::from_secs(2));
        let at = cluster_time(self.zero, now);
        let is_free = self.is_free();
        match (&mut self.play, request) {
            (Some(play), Request::Prepare { .. }) if play.plan.race == plan.race => true,
            (Some(play), Request::Prepare { .. }) if play.plan.race > plan.race || !is_free => false,
            (_, Request::Prepare { telemetry }) => {
                self.former = self.play.take().map(|play| (play.plan.race, play.events));
                self.play = Some(Play {
                    plan,
                    start: self.start,
                    events: Vec::new(),
                    at: JoinPoint(0),
                    observes: telemetry,
                    doing: Doing::Preparing { until },
                    lease: now + LEASE_TERM,
                    measure_at: now + INTERVAL,
                    interval: 0,
                    ledger: Ledger::default(),
                });
                true
            }
            (Some(play), request) if play.plan.race == plan.race => match (&mut play.doing, request) {
                (Doing::Waiting, Request::Drive(step)) if step.until.0 == play.at.0 + 1 => {
                    let tasks = play.tasks(step.until, self.index, now, &mut self.rng);
                    play.doing = Doing::Running { step, tasks, is_completed: false };
                    play.measure_at = now + INTERVAL;
                    true
                }
                (Doing::Running { step, .. }, Request::Drive(again)) => step.until >= again.until,
                (_, Request::Drive(again)) => again.until <= play.at,
                (Doing::Running { step, is_completed, .. }, Request::CompleteStep(until)) => {
                    *is_completed |= step.until == until;
                    true
                }
                (doing, Request::AttachTelemetry) => {
                    if !std::mem::replace(&mut play.observes, true) {
                        if matches!(doing, Doing::Waiting) && play.plan.is_last(play.at) {
                            *doing = Doing::Observing { until };
                        }
                        play.say(at, DriverEventKind::TelemetryAttached { has_devices: true });
                    }
                    true
                }
                (
                    Doing::Preparing { .. } | Doing::Waiting | Doing::Running { .. } | Doing::Observing { .. },
                    Request::Stop(mode),
                ) => {
                    play.doing = Doing::Stopping { until: if mode == StopMode::Now { now } else { until } };
                    true
                }
                (Doing::Stopping { until }, Request::Stop(StopMode::Now)) => {
                    *until = now;
                    true
                }
                (_, Request::CompleteStep(_) | Request::Stop(_) | Request::Prepare { .. }) => true,
            },
            // A race that it does not know has ended.
            (_, Request::Stop(_)) => true,
            (_, Request::Drive(_) | Request::CompleteStep(_) | Request::AttachTelemetry) => false,
        }
    }

    /// Does what is due.
    fn advance(&mut self, now: Instant) {
        let Some(play) = &mut self.play else { return };
        if matches!(play.doing, Doing::Ended) {
            return;
        }
        if play.lease <= now && !matches!(play.doing, Doing::Stopping { .. }) {
            play.doing = Doing::Stopping { until: now };
        }

        // Its clock is far from the coordinator's, and it does not know: nothing may depend on this.
        let at = cluster_time(self.zero, now);
        if play.measure_at <= now {
            play.measure_at = now + INTERVAL;
            play.measure(at, &mut self.rng, &self.truth);
        }
        let mut said = Vec::new();
        match &mut play.doing {
            Doing::Preparing { until } if *until <= now => {
                play.doing = Doing::Waiting;
                said.push(DriverEventKind::Prepared);
            }
            Doing::Running { step, tasks, is_completed } => {
                let step = *step;
                let done = |end: &Option<Instant>| *is_completed || end.is_some_and(|end| end <= now);
                let over: Vec<_> = tasks.iter().filter(|(_, end)| done(end)).map(|(task, _)| *task).collect();
                tasks.retain(|_, end| !done(end));
                let is_over = tasks.is_empty();
                said.extend(over.into_iter().map(|task| DriverEventKind::TaskCompleted { until: step.until, task }));
                if is_over {
                    play.at = step.until;
                    play.measure(at, &mut self.rng, &self.truth);
                    if play.observes && play.plan.is_last(step.until) {
                        let until = now + self.rng.random_range(Duration::ZERO..Duration::from_secs(2));
                        play.doing = Doing::Observing { until };
                    } else {
                        play.doing = Doing::Waiting;
                        said.push(DriverEventKind::Reached { at: step.until });
                    }
                }
            }
            Doing::Observing { until } if *until <= now => {
                play.doing = Doing::Waiting;
                said.push(DriverEventKind::Telemetry { json: b"[]".to_vec() });
                said.push(DriverEventKind::Reached { at: play.at });
            }
            Doing::Stopping { until } if *until <= now => {
                play.doing = Doing::Ended;
                play.measure(at, &mut self.rng, &self.truth);
                said.push(DriverEventKind::Ended);
            }
            Doing::Preparing { .. }
            | Doing::Waiting
            | Doing::Observing { .. }
            | Doing::Stopping { .. }
            | Doing::Ended => {}
        }
        for kind in said {
            play.say(at, kind);
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let play = self.play.as_ref()?;
        let next = match &play.doing {
            Doing::Ended => return None,
            Doing::Stopping { until } => return Some(play.measure_at.min(*until)),
            Doing::Preparing { until } | Doing::Observing { until } => Some(*until),
            Doing::Waiting => None,
            Doing::Running { tasks, .. } => tasks.values().flatten().min().copied(),
        };
        next.into_iter().chain([play.lease, play.measure_at]).min()
    }
}

impl Play {
    fn say(&mut self, at: ClusterTime, kind: DriverEventKind) {
        let sequence = Sequence(self.events.len() as u64 + 1);
        self.events.push(DriverEvent { sequence, at, kind });
    }

    /// What this driver has to do in a step, and how long it takes.
    fn tasks(
        &self,
        until: JoinPoint,
        index: usize,
        now: Instant,
        rng: &mut StdRng,
    ) -> BTreeMap<TaskIndex, Option<Instant>> {
        let step = self.plan.allocation.step(until).expect("a step of the race");
        let clients = self.plan.clients[index].clone();
        let rows = &step.rows[clients.start as usize..clients.end as usize];
        let tasks: BTreeSet<_> = rows.iter().flatten().map(|allocated| allocated.task).collect();
        let mut ends = BTreeMap::new();
        for task in tasks {
            let end = now + rng.random_range(Duration::from_millis(1)..Duration::from_secs(5));
            let is_endless = match step.completion {
                Completion::Each => false,
                Completion::By(by) => by != task,
                // Of two tasks, the first one has an end.
                Completion::Any => task.0 % 2 == 1,
            };
            ends.insert(task, (!is_endless).then_some(end));
        }
        ends
    }

    fn measure(&mut self, at: ClusterTime, rng: &mut StdRng, truth: &Rc<RefCell<Truth>>) {
        let mut now_and_then = |samples| if rng.random_bool(0.002) { samples } else { 0 };
        let (lost, vanished) = (now_and_then(3), now_and_then(2));
        let merged = rng.random_range(0..100);
        self.ledger.made += merged + lost + vanished;
        self.ledger.merged += merged;
        self.ledger.lost += lost;
        truth.borrow_mut().samples.insert((self.plan.race, self.start), self.ledger);
        self.interval += 1;
        let tasks = vec![TaskInterval { samples: merged, ..empty_task() }];
        let interval = Interval { number: self.interval, tasks, ledger: self.ledger, ..Interval::default() };
        self.say(at, DriverEventKind::Measured(Box::new(interval)));
    }
}

fn name(index: usize) -> String {
    format!("driver-{index}")
}

fn cluster_time(zero: Instant, now: Instant) -> ClusterTime {
    ClusterTime::from_nanos((now - zero).as_nanos() as u64)
}
