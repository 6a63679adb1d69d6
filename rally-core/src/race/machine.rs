//! The race as a state machine: events in, actions out.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::verdict::{RaceLedger, RaceVerdict, Shortfall, Untold};
use crate::metrics::{Interval, Ledger};
use crate::role::coordinator::RunningTask;
use crate::track::Challenge;
use crate::{
    Allocation, ClusterTime, Completion, ContentHash, DriverEvent, DriverEventKind, JoinPoint, RaceDriver,
    RaceEventKind, RaceId, RaceOutcome, Role, RoleError, RoleErrorKind, Sequence, Step, StopMode, TaskIndex,
};

/// Rates are not told of less time than this: a driver's clock may jump.
const SHORTEST_SPAN: Duration = Duration::from_millis(100);

/// A driver of a race by its place in the list that the race was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DriverIndex(pub usize);

/// What becomes of a race when one of its drivers is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnDriverLoss {
    /// It fails; what was measured is kept.
    #[default]
    Fail,
    /// It goes on with the others, and its result is marked. Before the first step, it fails all the same: no race
    /// begins with fewer clients than the track wants.
    Continue,
}

/// How long a race waits for its drivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaceTiming {
    /// How long a driver may prepare without saying a word. 30 minutes by default: it reports what it downloads.
    pub prepare_silence: Duration,
    /// How long a driver that runs tasks may be silent. 20 s by default: it reports every second, and the network
    /// gives up a silent host long before.
    pub drive_silence: Duration,
    /// How long requests under way may take when a race ends. 30 s by default.
    pub drain_within: Duration,
    /// How long a driver may take to stop at once. 5 s by default.
    pub stop_within: Duration,
    /// Time from the decision to start a step until its start, in addition to the worst round trip to a driver. 20 ms by
    /// default: a driver wakes its workers in much less.
    pub lead: Duration,
    /// Bounds the part of the round trip. 1 s by default; a driver that gets its request later than that starts late.
    pub max_round_trip: Duration,
    /// After so much time, and no more often, watchers are told whom the race waits for. 2 s by default.
    pub wait_is_news: Duration,
}

impl Default for RaceTiming {
    fn default() -> Self {
        Self {
            prepare_silence: Duration::from_secs(30 * 60),
            drive_silence: Duration::from_secs(20),
            drain_within: Duration::from_secs(30),
            stop_within: Duration::from_secs(5),
            lead: Duration::from_millis(20),
            max_round_trip: Duration::from_secs(1),
            wait_is_news: Duration::from_secs(2),
        }
    }
}

/// What happened to a race.
#[derive(Clone, Debug, PartialEq)]
pub enum RaceInput {
    /// A driver said something. What was already taken, and what leaves a gap, changes nothing; see [`Race::taken`].
    Driver {
        /// Who.
        driver: DriverIndex,
        /// What.
        event: DriverEvent,
    },
    /// A driver answered a request.
    Answered {
        /// Who.
        driver: DriverIndex,
        /// From the request to the answer.
        round_trip: Duration,
    },
    /// A driver refused a request, or cannot be reached any more.
    Lost {
        /// Who.
        driver: DriverIndex,
        /// Why.
        error: RoleError,
    },
    /// The user wants the race to end.
    Cancelled(StopMode),
}

/// What has to be done for a race; requests are answered by [`RaceInput::Answered`] or [`RaceInput::Lost`].
#[derive(Clone, Debug, PartialEq)]
pub enum RaceAction {
    /// Ask a driver to prepare.
    Prepare {
        /// Whom.
        driver: DriverIndex,
        /// Its clients.
        clients: Range<u32>,
        /// Whether it asks the cluster under test for telemetry.
        telemetry: bool,
    },
    /// Ask a driver to run a step.
    Drive {
        /// Whom.
        driver: DriverIndex,
        /// The step.
        step: Step,
    },
    /// Tell a driver that its step is completed elsewhere.
    CompleteStep {
        /// Whom.
        driver: DriverIndex,
        /// The join point at the end of the step.
        until: JoinPoint,
    },
    /// Ask a driver to go on with the telemetry of one that was lost.
    AttachTelemetry {
        /// Whom.
        driver: DriverIndex,
    },
    /// Ask a driver to end the race. No answer is needed: that it [ended](DriverEventKind::Ended) is its answer.
    Stop {
        /// Whom.
        driver: DriverIndex,
        /// How.
        mode: StopMode,
    },
    /// Keep what a driver measured.
    Record {
        /// Who measured it.
        driver: DriverIndex,
        /// When the driver told it, in coordinator time.
        at: ClusterTime,
        /// What.
        interval: Box<Interval>,
    },
    /// Keep what telemetry devices of a driver found: a JSON array of metrics documents.
    RecordTelemetry {
        /// Who found it.
        driver: DriverIndex,
        /// What.
        json: Vec<u8>,
    },
    /// Fetch a file of raw samples.
    FetchSegment {
        /// From whom.
        driver: DriverIndex,
        /// Its content.
        hash: ContentHash,
        /// Its length in bytes.
        length: u64,
    },
    /// Tell whoever watches. The last action of all announces [`RaceEventKind::Ended`].
    Announce(RaceEventKind),
}

/// One race from the preparation of its drivers to the verdict.
///
/// It is handed time and events, and says what is to be done. Every wait has a deadline and knows who is missing, so
/// that every race ends: load that a track wants for ever goes on as long as all drivers report, and ends in a bounded
/// time as soon as it is cancelled or one of them is silent.
#[derive(Debug)]
pub struct Race {
    id: RaceId,
    allocation: Allocation,
    /// Names of the tasks by their index.
    tasks: Vec<String>,
    drivers: Vec<Driver>,
    on_loss: OnDriverLoss,
    timing: RaceTiming,
    state: State,
    /// Some drivers are ready, or all are to be; none as long as nobody waits.
    wait: Option<Wait>,
    observer: Observer,
    errors: Vec<RoleError>,
    shortfalls: Vec<Shortfall>,
}

/// The driver that asks the cluster under test for telemetry.
#[derive(Debug)]
struct Observer {
    driver: DriverIndex,
    /// The driver that did so before it and was lost, as long as this one has not said that it goes on.
    heir_of: Option<DriverIndex>,
}

/// A wait for drivers, and what watchers know of it.
#[derive(Debug)]
struct Wait {
    since: ClusterTime,
    /// Whom they were told of last, and when.
    told: Option<(ClusterTime, BTreeSet<DriverIndex>)>,
}

impl Wait {
    fn begin(since: ClusterTime) -> Self {
        Self { since, told: None }
    }
}

#[derive(Debug)]
enum State {
    /// Drivers get ready; those in `awaiting` are not.
    Preparing { awaiting: BTreeSet<DriverIndex> },
    /// Drivers run the step; those in `awaiting` have not reached its end.
    Driving { step: Step, awaiting: BTreeSet<DriverIndex>, completion: Completing },
    /// Nothing is started any more; those in `awaiting` have not ended.
    Stopping { end: End, mode: StopMode, awaiting: BTreeSet<DriverIndex>, deadline: ClusterTime },
    /// It is over.
    Ended(RaceVerdict),
}

/// What still has to happen for a step to end early.
#[derive(Debug)]
enum Completing {
    /// It does not, or all have been told.
    No,
    /// Nothing: all are to be told.
    Due,
    /// All of these drivers are done with the task.
    All { task: TaskIndex, awaiting: BTreeSet<DriverIndex> },
    /// One of the drivers is done with one of its tasks.
    Any,
}

/// Why a race ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Finished,
    Cancelled,
    Failed,
}

#[derive(Debug)]
struct Driver {
    name: String,
    clients: Range<u32>,
    standing: Standing,
    /// The last of its events that was taken.
    taken: Sequence,
    /// When it was last heard of, or when something new was asked of it.
    heard: ClusterTime,
    round_trip: Duration,
    /// The number of its last interval.
    interval: u64,
    missing_intervals: u64,
    /// What it said last.
    ledger: Ledger,
    /// Samples that have arrived.
    merged: u64,
    /// It applies load, or may do so.
    load: Option<Load>,
    /// What it could not tell when it was given up.
    untold: Option<Untold>,
}

/// The load of a driver by its last interval.
#[derive(Clone, Copy, Debug)]
struct Load {
    /// When the interval arrived, and when the driver had told it; the start of the step as long as none has.
    arrived: ClusterTime,
    told: ClusterTime,
    /// Requests per second that were done in the interval.
    rate: f64,
    in_flight: u32,
}

impl Load {
    fn begin(start: ClusterTime) -> Self {
        Self { arrived: start, told: start, rate: 0.0, in_flight: 0 }
    }

    /// What may have come of it until it was given up.
    fn untold(self, now: ClusterTime) -> Untold {
        let within = now.saturating_since(self.arrived);
        let done = (self.rate * within.as_secs_f64()).ceil() as u64;
        Untold { requests: done.saturating_add(self.in_flight.into()), within }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It takes part.
    Playing,
    /// It has failed, and is about to hand over the rest.
    Failed,
    /// Nothing is expected of it any more.
    Lost,
    /// It has said everything.
    Ended,
}

impl Race {
    /// Makes a race and says how it begins.
    ///
    /// `drivers` are the names of the drivers and their clients, which together are all clients of the allocation. The
    /// first driver does the telemetry, and the next one that plays if it is lost.
    #[must_use]
    pub fn start(
        id: RaceId,
        challenge: &Challenge,
        drivers: Vec<RaceDriver>,
        on_loss: OnDriverLoss,
        timing: RaceTiming,
        now: ClusterTime,
    ) -> (Self, Vec<RaceAction>) {
        let started = RaceEventKind::Started { challenge: challenge.name.clone(), drivers: drivers.clone() };
        let drivers: Vec<_> = drivers.into_iter().map(|driver| Driver::new(driver, now)).collect();
        let mut actions = vec![RaceAction::Announce(started)];
        actions.extend(drivers.iter().enumerate().map(|(index, driver)| RaceAction::Prepare {
            driver: DriverIndex(index),
            clients: driver.clients.clone(),
            telemetry: index == 0,
        }));
        let mut race = Self {
            id,
            allocation: Allocation::new(challenge),
            tasks: challenge.tasks().map(|task| task.name.clone()).collect(),
            state: State::Preparing { awaiting: (0..drivers.len()).map(DriverIndex).collect() },
            drivers,
            wait: Some(Wait::begin(now)),
            observer: Observer { driver: DriverIndex(0), heir_of: None },
            on_loss,
            timing,
            errors: Vec::new(),
            shortfalls: Vec::new(),
        };
        race.advance(now, &mut actions);
        (race, actions)
    }

    /// Applies one event and returns what has to be done about it, in order.
    #[must_use]
    pub fn handle(&mut self, now: ClusterTime, input: RaceInput) -> Vec<RaceAction> {
        let mut actions = Vec::new();
        if self.verdict().is_some() {
            return actions;
        }
        match input {
            RaceInput::Driver { driver, event } => self.driver_event(now, driver, event, &mut actions),
            RaceInput::Answered { driver, round_trip } => {
                let driver = &mut self.drivers[driver.0];
                driver.round_trip = round_trip;
                driver.heard = driver.heard.max(now);
            }
            RaceInput::Lost { driver, error } => self.lost(now, driver, Standing::Lost, error, &mut actions),
            RaceInput::Cancelled(mode) => self.cancel(now, mode, &mut actions),
        }
        self.advance(now, &mut actions);
        actions
    }

    /// Does what is due; to be called once [`next_deadline`](Self::next_deadline) has come.
    #[must_use]
    pub fn handle_timeout(&mut self, now: ClusterTime) -> Vec<RaceAction> {
        let mut actions = Vec::new();
        if self.next_deadline().is_none_or(|deadline| deadline > now) {
            return actions;
        }
        if self.wait_is_news_at().is_some_and(|at| at <= now) {
            self.tell_wait(now, &mut actions);
        }
        if let State::Stopping { mode, awaiting, deadline, .. } = &mut self.state
            && *deadline <= now
        {
            match mode {
                StopMode::Drain => {
                    *mode = StopMode::Now;
                    *deadline = now + self.timing.stop_within;
                    actions.extend(stop(awaiting, StopMode::Now));
                }
                StopMode::Now => {
                    for driver in std::mem::take(awaiting) {
                        let driver = &mut self.drivers[driver.0];
                        driver.standing = Standing::Lost;
                        driver.give_up(now);
                        let (within, untold) = (self.timing.stop_within, driver.untold);
                        self.shortfalls.push(Shortfall::Overdue { driver: driver.name.clone(), within, untold });
                    }
                }
            }
        }
        for driver in self.silent(now) {
            let silence = now.saturating_since(self.drivers[driver.0].heard);
            let error = RoleError {
                host: self.drivers[driver.0].name.clone(),
                role: Role::LoadDriver,
                phase: self.phase(),
                kind: RoleErrorKind::DeadlinePassed,
                cause: format!("nothing was heard of it for {} s", silence.as_secs()),
            };
            self.lost(now, driver, Standing::Lost, error, &mut actions);
        }
        self.advance(now, &mut actions);
        actions
    }

    /// When to call [`handle_timeout`](Self::handle_timeout); none once the race has ended.
    #[must_use]
    pub fn next_deadline(&self) -> Option<ClusterTime> {
        let patience = match &self.state {
            State::Preparing { awaiting } | State::Driving { awaiting, .. } => {
                awaiting.iter().map(|driver| self.drivers[driver.0].heard + self.silence()).min()
            }
            State::Stopping { deadline, .. } => Some(*deadline),
            State::Ended(_) => None,
        };
        patience.into_iter().chain(self.wait_is_news_at()).min()
    }

    /// How the race ended; none as long as it has not.
    #[must_use]
    pub fn verdict(&self) -> Option<&RaceVerdict> {
        match &self.state {
            State::Ended(verdict) => Some(verdict),
            State::Preparing { .. } | State::Driving { .. } | State::Stopping { .. } => None,
        }
    }

    /// The last event of a driver that was taken: those after it are wanted.
    #[must_use]
    pub fn taken(&self, driver: DriverIndex) -> Sequence {
        self.drivers[driver.0].taken
    }

    /// Whom the race waits for, by name.
    #[must_use]
    pub fn awaiting(&self) -> Vec<&str> {
        self.missing().into_iter().flatten().map(|driver| self.drivers[driver.0].name.as_str()).collect()
    }

    fn missing(&self) -> Option<&BTreeSet<DriverIndex>> {
        match &self.state {
            State::Preparing { awaiting } | State::Driving { awaiting, .. } | State::Stopping { awaiting, .. } => {
                Some(awaiting)
            }
            State::Ended(_) => None,
        }
    }

    /// When watchers are to be told whom the race waits for; none if they know.
    fn wait_is_news_at(&self) -> Option<ClusterTime> {
        let (wait, missing) = (self.wait.as_ref()?, self.missing()?);
        match &wait.told {
            None => Some(wait.since + self.timing.wait_is_news),
            Some((at, told)) => (told != missing).then(|| *at + self.timing.wait_is_news),
        }
    }

    fn tell_wait(&mut self, now: ClusterTime, actions: &mut Vec<RaceAction>) {
        let drivers = self.awaiting().into_iter().map(str::to_owned).collect();
        let missing = self.missing().cloned().unwrap_or_default();
        if let Some(wait) = &mut self.wait {
            wait.told = Some((now, missing));
            actions.push(RaceAction::Announce(RaceEventKind::Waiting { drivers, since: wait.since }));
        }
    }

    fn driver_event(
        &mut self,
        now: ClusterTime,
        index: DriverIndex,
        event: DriverEvent,
        actions: &mut Vec<RaceAction>,
    ) {
        let driver = &mut self.drivers[index.0];
        if event.sequence != driver.taken.next() {
            return;
        }
        driver.taken = event.sequence;
        driver.heard = driver.heard.max(now);
        match event.kind {
            DriverEventKind::Measured(interval) => {
                // Events may come late, but tell of nothing that is still to come.
                actions.extend(driver.record(now, index, event.at.min(now), interval));
            }
            DriverEventKind::Telemetry { json } => actions.push(RaceAction::RecordTelemetry { driver: index, json }),
            DriverEventKind::SegmentWritten { hash, length } => {
                actions.push(RaceAction::FetchSegment { driver: index, hash, length });
            }
            DriverEventKind::Noticed { message } => {
                let driver = driver.name.clone();
                actions.push(RaceAction::Announce(RaceEventKind::Noticed { driver, message }));
            }
            DriverEventKind::Prepared => {
                if let State::Preparing { awaiting } = &mut self.state {
                    awaiting.remove(&index);
                    let driver = driver.name.clone();
                    actions.push(RaceAction::Announce(RaceEventKind::DriverPrepared { driver }));
                }
            }
            DriverEventKind::TaskCompleted { until, task } => {
                if let State::Driving { step, completion, .. } = &mut self.state
                    && step.until == until
                {
                    completion.task_completed(index, task);
                }
            }
            DriverEventKind::Reached { at } => {
                let is_last = self.allocation.step(JoinPoint(at.0 + 1)).is_none();
                // Once it goes on with the telemetry, it looks at the cluster and arrives again.
                let is_about_to_observe = self.observer.driver == index && self.observer.heir_of.is_some() && is_last;
                if let State::Driving { step, awaiting, completion } = &mut self.state
                    && step.until == at
                {
                    driver.load = None;
                    if !is_about_to_observe {
                        awaiting.remove(&index);
                    }
                    // Whoever has nothing to do arrives at once, and completes nothing.
                    let ran = runs(&self.allocation, at, &self.drivers[index.0].clients, |_| true);
                    completion.reached(index, ran);
                    if ran {
                        self.wait.get_or_insert_with(|| Wait::begin(now));
                    }
                }
            }
            DriverEventKind::TelemetryAttached { has_devices } => {
                if self.observer.driver == index
                    && let Some(lost) = self.observer.heir_of.take()
                    && has_devices
                {
                    let (driver, by) = (self.drivers[lost.0].name.clone(), self.drivers[index.0].name.clone());
                    self.shortfalls.push(Shortfall::Telemetry { driver, by });
                }
            }
            DriverEventKind::Failed(error) => self.lost(now, index, Standing::Failed, error, actions),
            DriverEventKind::Ended => {
                let asked = matches!(self.state, State::Stopping { .. });
                match driver.standing {
                    Standing::Playing if !asked => {
                        let error = RoleError {
                            host: driver.name.clone(),
                            role: Role::LoadDriver,
                            phase: self.phase(),
                            kind: RoleErrorKind::Cancelled,
                            cause: "it has ended the race on its own".to_owned(),
                        };
                        self.lost(now, index, Standing::Ended, error, actions);
                    }
                    Standing::Playing | Standing::Failed | Standing::Lost => driver.standing = Standing::Ended,
                    Standing::Ended => {}
                }
                let driver = &mut self.drivers[index.0];
                (driver.load, driver.untold) = (None, None);
                if let State::Stopping { awaiting, .. } = &mut self.state {
                    awaiting.remove(&index);
                }
            }
        }
    }

    /// A driver takes no further part in the steps.
    fn lost(
        &mut self,
        now: ClusterTime,
        index: DriverIndex,
        standing: Standing,
        error: RoleError,
        actions: &mut Vec<RaceAction>,
    ) {
        let was = self.drivers[index.0].standing;
        if matches!(was, Standing::Lost | Standing::Ended) || was == standing {
            return;
        }
        let phase = self.phase();
        let driver = &mut self.drivers[index.0];
        driver.standing = standing;
        if standing == Standing::Lost {
            driver.give_up(now);
        }
        if was == Standing::Failed {
            // It has told its error; now the rest is missing, too.
            if let State::Stopping { awaiting, .. } = &mut self.state {
                awaiting.remove(&index);
            }
            return;
        }
        let is_loss = matches!(error.kind, RoleErrorKind::Unreachable | RoleErrorKind::DeadlinePassed);
        // What fails a driver is what it was asked for, as long as nothing else is.
        let is_asked = !matches!(self.state, State::Stopping { .. } | State::Ended(_));
        let cause = if error.phase == phase || (standing == Standing::Failed && is_asked) {
            error.cause
        } else {
            format!("it could not {}: {}", error.phase, error.cause)
        };
        let error = RoleError { host: driver.name.clone(), phase, cause: cause.clone(), ..error };
        self.errors.push(error.clone());
        actions.push(RaceAction::Announce(RaceEventKind::RoleFailed(error)));
        match &mut self.state {
            State::Driving { step, awaiting, completion } if is_loss && self.on_loss == OnDriverLoss::Continue => {
                // It can no longer complete the step: that must not keep the others going for ever.
                let ran = awaiting.remove(&index) && runs(&self.allocation, step.until, &driver.clients, |_| true);
                completion.reached(index, ran);
                let (driver, untold) = (driver.name.clone(), driver.untold);
                self.shortfalls.push(Shortfall::Driver { driver, until: step.until, untold });
                // Should it be able to hear this after all, it is free again.
                actions.push(RaceAction::Stop { driver: index, mode: StopMode::Now });
                match self.with(|standing| standing == Standing::Playing).first() {
                    None => self.stop(now, End::Failed, StopMode::Now, actions),
                    Some(&heir) if index == self.observer.driver => self.pass_on_telemetry(now, heir, actions),
                    Some(_) => {}
                }
            }
            State::Preparing { .. } | State::Driving { .. } => {
                self.stop(now, End::Failed, StopMode::Now, actions);
                if standing == Standing::Lost {
                    actions.push(RaceAction::Stop { driver: index, mode: StopMode::Now });
                }
            }
            State::Stopping { end, .. } if standing == Standing::Failed => {
                // Of a race that fails anyway, it is one of the errors.
                if *end != End::Failed {
                    self.shortfalls.push(Shortfall::EndedBadly { driver: driver.name.clone(), cause });
                }
            }
            State::Stopping { awaiting, .. } => {
                awaiting.remove(&index);
            }
            State::Ended(_) => {}
        }
    }

    /// Lets a driver go on with the telemetry of the one that was lost while all run a step.
    fn pass_on_telemetry(&mut self, now: ClusterTime, heir: DriverIndex, actions: &mut Vec<RaceAction>) {
        let lost = std::mem::replace(&mut self.observer.driver, heir);
        self.observer.heir_of.get_or_insert(lost);
        // It may have waited in silence until now.
        let driver = &mut self.drivers[heir.0];
        driver.heard = driver.heard.max(now);
        if let State::Driving { step, awaiting, .. } = &mut self.state
            && self.allocation.step(JoinPoint(step.until.0 + 1)).is_none()
        {
            // It may be at the end of the race already.
            awaiting.insert(heir);
        }
        actions.push(RaceAction::AttachTelemetry { driver: heir });
    }

    fn cancel(&mut self, now: ClusterTime, mode: StopMode, actions: &mut Vec<RaceAction>) {
        match &mut self.state {
            State::Preparing { .. } | State::Driving { .. } => self.stop(now, End::Cancelled, mode, actions),
            State::Stopping { mode: current @ StopMode::Drain, awaiting, deadline, .. } if mode == StopMode::Now => {
                *current = StopMode::Now;
                *deadline = now + self.timing.stop_within;
                actions.extend(stop(awaiting, StopMode::Now));
            }
            // It ends already.
            State::Stopping { .. } | State::Ended(_) => {}
        }
    }

    fn stop(&mut self, now: ClusterTime, end: End, mode: StopMode, actions: &mut Vec<RaceAction>) {
        let awaiting = self.with(|standing| matches!(standing, Standing::Playing | Standing::Failed));
        let within = match mode {
            StopMode::Drain => self.timing.drain_within,
            StopMode::Now => self.timing.stop_within,
        };
        actions.extend(stop(&awaiting, mode));
        self.wait = Some(Wait::begin(now));
        self.state = State::Stopping { end, mode, awaiting, deadline: now + within };
    }

    /// Goes on to the next state if nobody is awaited any more.
    fn advance(&mut self, now: ClusterTime, actions: &mut Vec<RaceAction>) {
        match &mut self.state {
            State::Preparing { awaiting } if awaiting.is_empty() => self.begin_step(now, JoinPoint(1), actions),
            State::Driving { step, awaiting, .. } if awaiting.is_empty() => {
                let until = step.until;
                actions.push(RaceAction::Announce(RaceEventKind::StepEnded { until }));
                self.begin_step(now, JoinPoint(until.0 + 1), actions);
            }
            State::Driving { step, awaiting, completion: completion @ Completing::Due } => {
                *completion = Completing::No;
                let until = step.until;
                actions.extend(awaiting.iter().map(|&driver| RaceAction::CompleteStep { driver, until }));
            }
            State::Stopping { end, awaiting, .. } if awaiting.is_empty() => {
                let end = *end;
                self.end(end, actions);
            }
            State::Preparing { .. } | State::Driving { .. } | State::Stopping { .. } | State::Ended(_) => {}
        }
    }

    /// Starts the step that ends at a join point, or finishes the race if there is none.
    fn begin_step(&mut self, now: ClusterTime, until: JoinPoint, actions: &mut Vec<RaceAction>) {
        let Some(allocated) = self.allocation.step(until) else {
            self.stop(now, End::Finished, StopMode::Drain, actions);
            return self.advance(now, actions);
        };
        let awaiting = self.with(|standing| standing == Standing::Playing);
        let worst = awaiting.iter().map(|driver| self.drivers[driver.0].round_trip).max().unwrap_or_default();
        let start = now + self.timing.lead + worst.min(self.timing.max_round_trip);
        let tasks: BTreeSet<_> = allocated.rows.iter().flatten().map(|allocated| allocated.task).collect();
        let who_runs = |task: TaskIndex| -> BTreeSet<DriverIndex> {
            let runs = |driver: &DriverIndex| {
                runs(&self.allocation, until, &self.drivers[driver.0].clients, |allocated| allocated == task)
            };
            awaiting.iter().copied().filter(runs).collect()
        };
        // Nobody may be left to complete the step, whose other tasks would go on for ever then.
        let completion = match allocated.completion {
            Completion::Each => Completing::No,
            Completion::Any if tasks.iter().any(|&task| who_runs(task).is_empty()) => Completing::Due,
            Completion::Any => Completing::Any,
            Completion::By(task) => match who_runs(task) {
                awaiting if awaiting.is_empty() => Completing::Due,
                awaiting => Completing::All { task, awaiting },
            },
        };
        let tasks = tasks
            .into_iter()
            .map(|task| RunningTask { task, name: self.tasks.get(task.0 as usize).cloned().unwrap_or_default() })
            .collect();
        for index in &awaiting {
            let driver = &mut self.drivers[index.0];
            driver.heard = start;
            driver.load = runs(&self.allocation, until, &driver.clients, |_| true).then(|| Load::begin(start));
        }
        let step = Step { until, start };
        actions.push(RaceAction::Announce(RaceEventKind::StepStarted {
            step,
            of: self.allocation.steps.len() as u32,
            tasks,
        }));
        actions.extend(awaiting.iter().map(|&driver| RaceAction::Drive { driver, step }));
        self.wait = None;
        self.state = State::Driving { step, awaiting, completion };
        self.advance(now, actions);
    }

    fn end(&mut self, end: End, actions: &mut Vec<RaceAction>) {
        let mut ledger = RaceLedger::default();
        let mut shortfalls = std::mem::take(&mut self.shortfalls);
        for shortfall in &mut shortfalls {
            // It may have told the rest since it was given up.
            if let Shortfall::Driver { driver: named, untold, .. } | Shortfall::Overdue { driver: named, untold, .. } =
                shortfall
                && let Some(driver) = self.drivers.iter().find(|driver| driver.name == *named)
            {
                *untold = driver.untold;
            }
        }
        for driver in &self.drivers {
            ledger.made = ledger.made.saturating_add(driver.ledger.made);
            ledger.merged = ledger.merged.saturating_add(driver.merged);
            ledger.lost = ledger.lost.saturating_add(driver.ledger.lost);
            let name = || driver.name.clone();
            let is_named = shortfalls.iter().any(|shortfall| match shortfall {
                Shortfall::Overdue { driver: named, .. } | Shortfall::Driver { driver: named, .. } => {
                    *named == driver.name
                }
                Shortfall::Unended { .. }
                | Shortfall::Samples { .. }
                | Shortfall::Intervals { .. }
                | Shortfall::Telemetry { .. }
                | Shortfall::EndedBadly { .. } => false,
            });
            if driver.standing != Standing::Ended && !is_named {
                shortfalls.push(Shortfall::Unended { driver: name(), untold: driver.untold });
            }
            if driver.missing_intervals > 0 {
                shortfalls.push(Shortfall::Intervals { driver: name(), missing: driver.missing_intervals });
            }
            let Ledger { made, lost, .. } = driver.ledger;
            if lost > 0 || made != driver.merged {
                shortfalls.push(Shortfall::Samples { driver: name(), made, merged: driver.merged, lost });
            }
        }
        let outcome = match end {
            End::Finished if shortfalls.is_empty() => RaceOutcome::Completed,
            End::Finished => RaceOutcome::Incomplete,
            End::Cancelled => RaceOutcome::Cancelled,
            End::Failed => RaceOutcome::Failed,
        };
        let verdict = RaceVerdict { outcome, errors: std::mem::take(&mut self.errors), shortfalls, ledger };
        actions.push(RaceAction::Announce(RaceEventKind::Ended(Box::new(verdict.clone()))));
        self.wait = None;
        self.state = State::Ended(verdict);
    }

    fn with(&self, standing: impl Fn(Standing) -> bool) -> BTreeSet<DriverIndex> {
        let drivers = self.drivers.iter().enumerate();
        drivers.filter(|(_, driver)| standing(driver.standing)).map(|(index, _)| DriverIndex(index)).collect()
    }

    /// Awaited drivers that have been silent for too long.
    fn silent(&self, now: ClusterTime) -> Vec<DriverIndex> {
        match &self.state {
            State::Preparing { awaiting } | State::Driving { awaiting, .. } => {
                let overdue = |driver: &DriverIndex| self.drivers[driver.0].heard + self.silence() <= now;
                awaiting.iter().copied().filter(overdue).collect()
            }
            State::Stopping { .. } | State::Ended(_) => Vec::new(),
        }
    }

    fn silence(&self) -> Duration {
        match self.state {
            State::Preparing { .. } => self.timing.prepare_silence,
            State::Driving { .. } | State::Stopping { .. } | State::Ended(_) => self.timing.drive_silence,
        }
    }

    /// What the drivers are doing, as a verb phrase.
    fn phase(&self) -> String {
        match &self.state {
            State::Preparing { .. } => format!("prepare race {}", self.id),
            State::Driving { step, .. } => {
                let step = self.allocation.step(step.until);
                let tasks: BTreeSet<_> =
                    step.iter().flat_map(|step| step.rows.iter().flatten()).map(|t| t.task).collect();
                let names: Vec<_> =
                    tasks.iter().filter_map(|task| self.tasks.get(task.0 as usize)).map(String::as_str).collect();
                let until = step.map_or(JoinPoint(0), |step| step.until);
                format!("drive step {until} ({}) of race {}", names.join(", "), self.id)
            }
            State::Stopping { .. } | State::Ended(_) => format!("end race {}", self.id),
        }
    }
}

impl Driver {
    fn new(driver: RaceDriver, now: ClusterTime) -> Self {
        Self {
            name: driver.name,
            clients: driver.clients,
            standing: Standing::Playing,
            taken: Sequence::START,
            heard: now,
            round_trip: Duration::ZERO,
            interval: 0,
            missing_intervals: 0,
            ledger: Ledger::default(),
            merged: 0,
            load: None,
            untold: None,
        }
    }

    /// Nothing is expected of it any more.
    fn give_up(&mut self, now: ClusterTime) {
        self.untold = self.load.take().map(|load| load.untold(now));
    }

    /// Takes an interval into account, once.
    fn record(
        &mut self,
        now: ClusterTime,
        index: DriverIndex,
        at: ClusterTime,
        interval: Box<Interval>,
    ) -> Option<RaceAction> {
        let missing = interval.number.checked_sub(self.interval)?.checked_sub(1)?;
        self.missing_intervals = self.missing_intervals.saturating_add(missing);
        self.interval = interval.number;
        self.ledger = interval.ledger;
        // Inner operations are parts of a sample.
        let tasks = interval.tasks.iter().filter(|task| task.inner.is_none());
        let requests = tasks.fold(0_u64, |requests, task| requests.saturating_add(task.samples));
        self.merged = self.merged.saturating_add(requests);
        if let Some(load) = &mut self.load {
            let rate = requests as f64 / at.saturating_since(load.told).max(SHORTEST_SPAN).as_secs_f64();
            *load = Load { arrived: now.max(load.arrived), told: at, rate, in_flight: interval.health.in_flight };
        }
        Some(RaceAction::Record { driver: index, at, interval })
    }
}

impl Completing {
    fn task_completed(&mut self, driver: DriverIndex, completed: TaskIndex) {
        match self {
            Self::All { task, .. } if *task == completed => self.done(driver),
            Self::Any => *self = Self::Due,
            Self::All { .. } | Self::No | Self::Due => {}
        }
    }

    /// A driver is done with the whole step, in which it did or did not have something to do.
    fn reached(&mut self, driver: DriverIndex, ran: bool) {
        match self {
            Self::All { .. } => self.done(driver),
            Self::Any if ran => *self = Self::Due,
            Self::Any | Self::No | Self::Due => {}
        }
    }

    /// A driver has done what it can for the end of the step, or will never do it.
    fn done(&mut self, driver: DriverIndex) {
        if let Self::All { awaiting, .. } = self {
            awaiting.remove(&driver);
            if awaiting.is_empty() {
                *self = Self::Due;
            }
        }
    }
}

/// Whether some of the clients run such a task in the step before a join point.
fn runs(
    allocation: &Allocation,
    until: JoinPoint,
    clients: &Range<u32>,
    is_wanted: impl Fn(TaskIndex) -> bool,
) -> bool {
    let rows = allocation.step(until).map_or(&[][..], |step| &step.rows);
    let rows = rows.get(clients.start as usize..clients.end as usize).unwrap_or_default();
    rows.iter().flatten().any(|allocated| is_wanted(allocated.task))
}

fn stop(drivers: &BTreeSet<DriverIndex>, mode: StopMode) -> impl Iterator<Item = RaceAction> {
    drivers.iter().map(move |&driver| RaceAction::Stop { driver, mode })
}
