//! One race on this driver: it holds the workers together and says what happens.

mod ending;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::num::NonZero;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use rally_core::metrics::{DriverHealth, Interval};
use rally_core::{
    Allocation, Completion, DriverAssignment, DriverEventKind, JoinPoint, RacePlan, RacePlanError, Role, RoleError,
    RoleErrorKind, Step, StopMode, TaskIndex,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use self::ending::{END, end_at_once};
use super::accounts::Accounts;
use super::clock_cost::{clock_source, cost_of_the_clock, slow_clock};
use super::error::{Panicked, TaskError, WorkerError};
use super::health::{Effort, PULSE, saturation, starvation, stood_still};
use super::step::{ProgressSum, RaceContext, StepShare};
use super::worker::{Measurement, Worker, WorkerEvent, WorkerReport, WorkerRequest};
use crate::client::{InvalidClientOptions, SetupError};
use crate::corpus::{Notice, Preparation};
use crate::driver::{ContentSource, CoordinatorClock};
use crate::events::{EventLog, NobodyListens};
use crate::readiness::clusters_answer;
use crate::recorder::{Recording, StepStart};
use crate::segment::{Announcement, COMPLETE_AFTER, SegmentWriter, WriteSegmentError};
use crate::source::wanted_documents;
use crate::telemetry::{Found, Since, Telemetry};
use crate::timer::nanos;
use crate::{CorpusError, Registry, RequestTimer, RunnerError};

/// What was measured is told this often.
const INTERVAL: Duration = Duration::from_secs(1);

/// Reports of workers that may wait.
const REPORTS: usize = 1_024;

/// How long workers may take to make a step ready. It is as long as a driver may prepare the race.
const READY: Duration = Duration::from_secs(30 * 60);

/// What a race is asked for.
#[derive(Debug)]
pub(crate) enum Command {
    /// [`rally_core::LoadDriver::drive`].
    Drive { step: Step, reply: oneshot::Sender<Result<(), InvalidStep>> },
    /// [`rally_core::LoadDriver::complete_step`].
    CompleteStep { until: JoinPoint },
    /// [`rally_core::LoadDriver::attach_telemetry`].
    AttachTelemetry,
    /// [`rally_core::LoadDriver::stop`].
    Stop { mode: StopMode },
}

/// The driver cannot run this step.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidStep {
    #[error("it is not prepared yet")]
    NotPrepared,
    #[error("it stands at join point {at}{}", if *is_driving { " and is on its way to the next one" } else { "" })]
    OutOfOrder { at: JoinPoint, is_driving: bool },
    #[error("the schedule has only {0} steps")]
    Unknown(usize),
    #[error("the race has ended")]
    Ended,
}

/// What ends a race early.
#[derive(Debug, thiserror::Error)]
enum RaceError {
    #[error("failed to fetch the race plan")]
    Fetch(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error(transparent)]
    Plan(#[from] RacePlanError),
    #[error("track `{track}` has no challenge `{challenge}`")]
    UnknownChallenge { track: String, challenge: String },
    #[error("the race has {clients} clients, but this driver was assigned those up to {end}")]
    Clients { clients: u32, end: u32 },
    #[error("failed to start a worker")]
    Start(#[source] io::Error),
    #[error("worker {worker} could not go on")]
    Worker { worker: usize, source: WorkerError },
    #[error("workers {workers:?} have not made ready what comes up to join point {until} within {READY:?}")]
    Unready { workers: BTreeSet<usize>, until: JoinPoint },
    #[error(
        "workers {workers:?} did not end within {END:?}; {lost} of their requests are lost at least, and what they have \
         measured since they reported last is unknown"
    )]
    Stuck { workers: BTreeSet<usize>, lost: u64 },
    #[error(transparent)]
    Options(#[from] InvalidClientOptions),
    #[error(transparent)]
    Setup(#[from] SetupError),
    #[error("{0}")]
    Telemetry(String),
    #[error(transparent)]
    Operation(#[from] RunnerError),
    #[error(transparent)]
    Corpus(#[from] CorpusError),
    #[error(transparent)]
    Segments(#[from] WriteSegmentError),
    #[error(transparent)]
    Task(#[from] TaskError),
    #[error(transparent)]
    Panicked(Panicked),
    #[error(transparent)]
    NobodyListens(#[from] NobodyListens),
}

/// What a race is made from.
pub(crate) struct RaceSetup {
    pub(crate) host: String,
    pub(crate) cores: NonZero<usize>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) data_dir: PathBuf,
    pub(crate) segment_dir: PathBuf,
    pub(crate) content: Arc<dyn ContentSource>,
    pub(crate) clock: CoordinatorClock,
    pub(crate) assignment: DriverAssignment,
    pub(crate) events: Arc<EventLog>,
}

/// A race on its way. Dropping it stops its load.
pub(crate) struct Race {
    setup: RaceSetup,
    context: Arc<RaceContext>,
    allocation: Allocation,
    workers: Vec<Worker>,
    reports: mpsc::Receiver<WorkerReport>,
    segments: Option<SegmentWriter>,
    /// The devices that ask the cluster under test, if this driver runs them.
    telemetry: Option<Telemetry>,
    /// This is the driver that runs the devices, if there are any.
    observes: bool,
    /// The last join point is reached, and devices look at the cluster once more before anybody hears of it.
    is_detaching: bool,
    /// No more raw samples are written.
    segments_are_full: bool,
    /// The last join point that was reached.
    at: JoinPoint,
    upcoming: Option<Upcoming>,
    driving: Option<Driving>,
    /// The start of the step that runs or ran last.
    started: Option<StepStart>,
    pending: Pending,
    intervals: u64,
    accounts: Accounts,
    /// Workers do not wait for the cluster any longer when this is dropped.
    _ends: DropGuard,
}

/// The step that is made ready.
struct Upcoming {
    since: Instant,
    completion: Completion,
    /// Workers that are not ready.
    awaiting: BTreeSet<usize>,
    /// For each task, how many clients it has here.
    clients: BTreeMap<TaskIndex, u32>,
}

/// The step that runs.
struct Driving {
    until: JoinPoint,
    keeps_raw: bool,
    completion: Completion,
    /// Workers that have not reached the join point.
    awaiting: BTreeSet<usize>,
    /// For each task, how many clients it has here, and how many of them are not done.
    clients: BTreeMap<TaskIndex, (u32, u32)>,
    /// The user was told that clients are too busy.
    is_behind: bool,
    /// Workers were asked to end the step early.
    is_completed: bool,
}

/// What becomes the next interval.
struct Pending {
    since: Instant,
    recording: Recording,
    /// By worker.
    progress: BTreeMap<usize, Vec<ProgressSum>>,
    /// CPU time by worker, in nanoseconds.
    busy: BTreeMap<usize, u64>,
    /// Requests under way by worker, as it said last.
    in_flight: BTreeMap<usize, u32>,
    /// Time in which this driver did not run at all.
    still: Duration,
    /// Workers that were asked and have not answered.
    awaiting: BTreeSet<usize>,
}

impl Pending {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            recording: Recording::default(),
            progress: BTreeMap::new(),
            busy: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            still: Duration::ZERO,
            awaiting: BTreeSet::new(),
        }
    }
}

impl Race {
    /// Runs a race from its preparation to its end, which is told also if something of it panics.
    pub(crate) async fn run(setup: RaceSetup, mut commands: mpsc::Receiver<Command>) {
        let (events, clock, host) = (Arc::clone(&setup.events), Arc::clone(&setup.clock), setup.host.clone());
        let race = setup.assignment.race.clone();
        // Whoever could be told that nobody listens does not listen.
        let say = |kind| drop(events.push(clock(), kind));
        let fail = |phase: String, error: &RaceError| {
            let error = RoleError::new(host.clone(), Role::LoadDriver, phase, RoleErrorKind::Failed, error);
            say(DriverEventKind::Failed(error));
        };
        // What gets documents ready or waits for the cluster on other threads.
        let threads = TaskTracker::new();
        let played = async {
            match unless_stopped(&mut commands, Self::prepare(setup, &threads)).await {
                Some(Ok(prepared)) => prepared.play(&mut commands).await,
                Some(Err(error)) => Err((format!("prepare race {race}"), error)),
                None => Ok(()),
            }
        };
        match AssertUnwindSafe(played).catch_unwind().await {
            Ok(Ok(())) => {}
            Ok(Err((phase, error))) => fail(phase, &error),
            Err(payload) => {
                let phase = format!("play in race {race}");
                fail(phase, &RaceError::Panicked(Panicked::with(payload.as_ref())));
            }
        }
        // They know by now that nobody waits for what they do, and one that is stuck can do no harm.
        threads.close();
        let _ = timeout(END, threads.wait()).await;
        say(DriverEventKind::Ended);
    }

    /// Makes everything that is needed of this host, the cluster under test and others before workers can begin.
    ///
    /// # Cancel safety
    ///
    /// When dropped, whatever runs on `threads` ends soon.
    async fn prepare(setup: RaceSetup, threads: &TaskTracker) -> Result<Self, RaceError> {
        let bytes = setup.content.fetch(setup.assignment.plan).await.map_err(RaceError::Fetch)?;
        let plan: Arc<RacePlan> = Arc::new(RacePlan::from_json(&bytes)?);
        let Some(challenge) = plan.challenge() else {
            let (track, challenge) = (plan.track.name.clone(), plan.challenge.clone());
            return Err(RaceError::UnknownChallenge { track, challenge });
        };
        let allocation = Allocation::new(challenge);
        let clients = setup.assignment.clients.clone();
        if clients.end > allocation.clients {
            return Err(RaceError::Clients { clients: allocation.clients, end: clients.end });
        }
        let tasks: Vec<_> = challenge.tasks().cloned().map(Arc::new).collect();
        let (events, clock) = (Arc::clone(&setup.events), Arc::clone(&setup.clock));
        // Whoever could be told that nobody listens does not listen.
        let notice: Notice = Arc::new(move |message| drop(events.push(clock(), DriverEventKind::Noticed { message })));
        let corpora = {
            let preparation = Preparation {
                plan: &plan,
                data_dir: &setup.data_dir,
                cores: setup.cores.get(),
                content: &setup.content,
                notice: &notice,
                threads,
            };
            preparation.run(&wanted_documents(&plan.track, &tasks, &allocation, clients)?).await?
        };
        // Workers look what kind of cluster it is.
        clusters_answer(&plan, &notice, threads).await?;
        let segments = match plan.sample_bytes {
            0 => None,
            cap => {
                let prefix = setup.assignment.race.as_str();
                Some(SegmentWriter::start(&setup.segment_dir, prefix, cap, &tasks, COMPLETE_AFTER)?)
            }
        };
        let ended = CancellationToken::new();
        let context = Arc::new(RaceContext {
            race: setup.assignment.race.clone(),
            plan,
            tasks,
            registry: Arc::clone(&setup.registry),
            data_dir: setup.data_dir.clone().into(),
            corpora: Arc::new(corpora),
            ended: ended.clone(),
        });
        Ok(Self {
            observes: setup.assignment.telemetry,
            setup,
            context,
            allocation,
            workers: Vec::new(),
            reports: mpsc::channel(REPORTS).1,
            segments,
            telemetry: None,
            is_detaching: false,
            segments_are_full: false,
            at: JoinPoint(0),
            upcoming: None,
            driving: None,
            started: None,
            pending: Pending::new(),
            intervals: 0,
            accounts: Accounts::default(),
            _ends: ended.drop_guard(),
        })
    }

    /// Makes ready, does what it is asked for, and ends, however far it has come. Gives what went wrong, and in which phase.
    async fn play(mut self, commands: &mut mpsc::Receiver<Command>) -> Result<(), (String, RaceError)> {
        let race = self.setup.assignment.race.clone();
        let (phase, result) = match unless_stopped(commands, self.make_ready()).await {
            Some(Ok(())) => {
                let result = self.serve(commands).await;
                let phase = match &self.driving {
                    Some(driving) => format!("drive race {race} up to join point {}", driving.until),
                    None => format!("play in race {race}"),
                };
                (phase, result)
            }
            Some(Err(error)) => (format!("prepare race {race}"), Err(error)),
            None => (format!("prepare race {race}"), Ok(StopMode::Now)),
        };
        let mode = *result.as_ref().unwrap_or(&StopMode::Now);
        let (events, clock) = (Arc::clone(&self.setup.events), Arc::clone(&self.setup.clock));
        match (result, self.finish(mode, end_at_once(commands)).await) {
            (Ok(_), ended) => ended.map_err(|error| (format!("end race {race}"), error)),
            (Err(error), ended) => {
                if let Err(stuck @ RaceError::Stuck { .. }) = ended {
                    // Whoever could be told that nobody listens does not listen.
                    drop(events.push(clock(), DriverEventKind::Noticed { message: stuck.to_string() }));
                }
                Err((phase, error))
            }
        }
    }

    /// Makes the first step ready, and looks whether the others can be.
    async fn make_ready(&mut self) -> Result<(), RaceError> {
        self.check_clock()?;
        self.warn_of_options()?;
        self.start_workers()?;
        self.rehearse();
        self.prepare_step()?;
        while self.makes_ready()
            && let Some(report) = self.reports.recv().await
        {
            self.handle(report)?;
        }
        // Only a race that can be run is worth a look at the cluster.
        self.attach_telemetry().await?;
        Ok(self.say(DriverEventKind::Prepared)?)
    }

    fn start_workers(&mut self) -> Result<(), RaceError> {
        let (sender, reports) = mpsc::channel(REPORTS);
        self.reports = reports;
        let clients = self.setup.assignment.clients.clone();
        let count = self.setup.cores.get().min(clients.len());
        for number in 0..count {
            let own = clients.clone().filter(|client| worker_of(*client, count) == number).collect();
            let worker = Worker::start(number, own, Arc::clone(&self.context), sender.clone());
            self.workers.push(worker.map_err(RaceError::Start)?);
        }
        Ok(())
    }

    /// Lets workers make every task ready for the first of the clients here that run it, so that its faults are told
    /// before the first request. What they make is used when the task's step comes.
    fn rehearse(&self) {
        let mut seen = BTreeSet::new();
        let mut shares = vec![Vec::new(); self.workers.len()];
        for step in &self.allocation.steps {
            for client in self.setup.assignment.clients.clone() {
                let tasks = step.rows.get(client as usize).into_iter().flatten();
                let new = tasks.filter(|allocated| seen.insert(allocated.task)).map(|allocated| (client, *allocated));
                shares[worker_of(client, self.workers.len())].extend(new);
            }
        }
        for (worker, share) in shares.into_iter().enumerate().filter(|(_, share)| !share.is_empty()) {
            self.ask(worker, WorkerRequest::Rehearse(share));
        }
    }

    /// Tells what the user should know of the client options; one driver does.
    fn warn_of_options(&self) -> Result<(), RaceError> {
        let warnings = crate::client::warnings(&self.context.plan)?;
        if self.setup.assignment.clients.start == 0 {
            warnings.into_iter().try_for_each(|message| self.say(DriverEventKind::Noticed { message }))?;
        }
        Ok(())
    }

    /// Starts the telemetry devices, and lets them look at the cluster before the race.
    async fn attach_telemetry(&mut self) -> Result<(), RaceError> {
        if !self.observes {
            return Ok(());
        }
        let telemetry = Telemetry::start(&self.context.plan, &self.setup.clock, Since::Beginning);
        self.telemetry = telemetry.map_err(RaceError::Telemetry)?;
        while let Some(telemetry) = &mut self.telemetry {
            match telemetry.next().await {
                Some(Found::Attached) => break,
                found => self.hear(found).await?,
            }
        }
        Ok(())
    }

    /// Goes on with the telemetry of a driver that was lost.
    fn take_over_telemetry(&mut self) -> Result<(), RaceError> {
        if std::mem::replace(&mut self.observes, true) {
            return Ok(());
        }
        let telemetry = Telemetry::start(&self.context.plan, &self.setup.clock, Since::Takeover);
        self.telemetry = telemetry.map_err(RaceError::Telemetry)?;
        self.say(DriverEventKind::TelemetryAttached { has_devices: self.telemetry.is_some() })?;
        if self.driving.is_none() && self.is_at_the_end() {
            // It has arrived there without a look at the cluster.
            self.arrive_if_ready()?;
        }
        Ok(())
    }

    fn is_at_the_end(&self) -> bool {
        self.allocation.step(JoinPoint(self.at.0 + 1)).is_none()
    }

    /// Tells what telemetry devices found.
    async fn hear(&mut self, found: Option<Found>) -> Result<(), NobodyListens> {
        match found {
            Some(Found::Detached) | None => {
                let ended = self.end_telemetry().await;
                if found.is_none() {
                    let cause = ended.err().map(|panicked| format!(": {panicked}")).unwrap_or_default();
                    let message = format!(
                        "the telemetry devices have ended before the race did, so their records are missing from now on{cause}"
                    );
                    self.say(DriverEventKind::Noticed { message })?;
                }
                if std::mem::take(&mut self.is_detaching) {
                    self.say(DriverEventKind::Reached { at: self.at })?;
                }
                Ok(())
            }
            Some(found) => self.tell_found(found),
        }
    }

    /// Waits for the thread of the telemetry devices, and tells what they have found until then.
    async fn end_telemetry(&mut self) -> Result<(), Panicked> {
        let Some(telemetry) = self.telemetry.take() else { return Ok(()) };
        let (left, ended) = telemetry.end().await;
        // Nobody may listen any more; whoever ends the race finds out.
        let _ = left.into_iter().try_for_each(|found| self.tell_found(found));
        ended.map_err(|payload| Panicked::with(payload.as_ref()))
    }

    fn tell_found(&self, found: Found) -> Result<(), NobodyListens> {
        match found {
            Found::Records(json) => self.say(DriverEventKind::Telemetry { json }),
            Found::Notice(message) => self.say(DriverEventKind::Noticed { message }),
            Found::Attached | Found::Detached => Ok(()),
        }
    }

    /// Warns if reading the clock takes so long that it would show in what is measured.
    fn check_clock(&self) -> Result<(), NobodyListens> {
        match slow_clock(&self.setup.host, cost_of_the_clock(RequestTimer::now), clock_source().as_deref()) {
            Some(message) => self.say(DriverEventKind::Noticed { message }),
            None => Ok(()),
        }
    }

    /// Does what it is asked for until it is stopped.
    async fn serve(&mut self, commands: &mut mpsc::Receiver<Command>) -> Result<StopMode, RaceError> {
        let mut ticks = interval(INTERVAL);
        // Intervals end with the seconds of the step, on all drivers; a late one does not make all that follow late.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut pulse = interval(PULSE);
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(Command::Drive { step, reply }) => {
                        let accepted = self.accept(step);
                        let begins = matches!(accepted, Ok(true));
                        // Whoever asked may have gone; the step is run nevertheless.
                        let _ = reply.send(accepted.map(|_| ()));
                        if begins {
                            self.drive(step)?;
                            ticks.reset_after(self.until_start() + INTERVAL);
                            pulse.reset();
                        }
                    }
                    Some(Command::CompleteStep { until }) => {
                        if self.driving.as_ref().is_some_and(|driving| driving.until == until) {
                            self.complete_step();
                        }
                    }
                    Some(Command::AttachTelemetry) => self.take_over_telemetry()?,
                    Some(Command::Stop { mode }) => return Ok(mode),
                    None => return Ok(StopMode::Now),
                },
                Some(report) = self.reports.recv() => self.handle(report)?,
                Some(announcement) = next_announcement(&mut self.segments) => self.announce(&announcement)?,
                found = next_found(&mut self.telemetry) => self.hear(found).await?,
                due = pulse.tick(), if self.driving.is_some() => self.pending.still += stood_still(due.elapsed()),
                _ = ticks.tick(), if self.driving.is_some() || self.is_detaching || self.makes_ready() => match self.driving {
                    Some(_) => self.measure()?,
                    // Whoever waits for this driver sees that it is alive.
                    None => {
                        self.check_upcoming()?;
                        self.tell_interval()?;
                    }
                },
            }
        }
    }

    fn makes_ready(&self) -> bool {
        self.upcoming.as_ref().is_some_and(|upcoming| !upcoming.awaiting.is_empty())
    }

    /// Gives up on workers that make no step ready.
    fn check_upcoming(&self) -> Result<(), RaceError> {
        match &self.upcoming {
            Some(upcoming) if !upcoming.awaiting.is_empty() && upcoming.since.elapsed() >= READY => {
                Err(RaceError::Unready { workers: upcoming.awaiting.clone(), until: JoinPoint(self.at.0 + 1) })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether a step is the next one (`true`), or runs or ran already.
    fn accept(&self, step: Step) -> Result<bool, InvalidStep> {
        let is_driving = self.driving.is_some();
        if step.until <= self.at || self.driving.as_ref().is_some_and(|driving| driving.until == step.until) {
            return Ok(false);
        }
        if self.allocation.step(step.until).is_none() {
            return Err(InvalidStep::Unknown(self.allocation.steps.len()));
        }
        if is_driving || step.until.0 != self.at.0 + 1 {
            return Err(InvalidStep::OutOfOrder { at: self.at, is_driving });
        }
        if self.upcoming.as_ref().is_none_or(|upcoming| !upcoming.awaiting.is_empty()) {
            return Err(InvalidStep::NotPrepared);
        }
        Ok(true)
    }

    /// Lets the workers make the next step ready, if there is one.
    fn prepare_step(&mut self) -> Result<(), RaceError> {
        let Some(allocated) = self.allocation.step(JoinPoint(self.at.0 + 1)) else { return Ok(()) };
        let completion = allocated.completion.clone();
        let mut shares = vec![StepShare { completion: completion.clone(), clients: Vec::new() }; self.workers.len()];
        let mut clients: BTreeMap<TaskIndex, u32> = BTreeMap::new();
        let rows = self.setup.assignment.clients.clone().map(|client| (client, &allocated.rows[client as usize]));
        for (client, row) in rows.filter(|(_, row)| !row.is_empty()) {
            row.iter().for_each(|allocated| *clients.entry(allocated.task).or_default() += 1);
            shares[worker_of(client, self.workers.len())].clients.push((client, row.clone()));
        }
        let awaiting = (0..self.workers.len()).collect();
        self.upcoming = Some(Upcoming { since: Instant::now(), completion, awaiting, clients });
        for (worker, share) in shares.into_iter().enumerate() {
            self.ask(worker, WorkerRequest::Prepare(share));
        }
        self.arrive_if_ready()
    }

    /// Tells that the driver has reached a join point, once the step after it is ready.
    fn arrive_if_ready(&mut self) -> Result<(), RaceError> {
        let is_preparing = self.at == JoinPoint(0);
        if is_preparing || self.makes_ready() {
            return Ok(());
        }
        let is_last = self.is_at_the_end();
        if let Some(telemetry) = self.telemetry.as_ref().filter(|_| is_last) {
            telemetry.detach();
            self.is_detaching = true;
            return Ok(());
        }
        Ok(self.say(DriverEventKind::Reached { at: self.at })?)
    }

    fn drive(&mut self, step: Step) -> Result<(), RaceError> {
        let Some(Upcoming { completion, clients, .. }) = self.upcoming.take() else { return Ok(()) };
        let now = (self.setup.clock)();
        let start = StepStart {
            monotonic: RequestTimer::now() + nanos(step.start.saturating_since(now)),
            cluster: step.start.max(now),
        };
        self.started = Some(start);
        let samples = self.segments.as_ref().filter(|_| !self.segments_are_full).map(SegmentWriter::samples);
        self.driving = Some(Driving {
            until: step.until,
            keeps_raw: samples.is_some(),
            completion,
            awaiting: (0..self.workers.len()).collect(),
            clients: clients.into_iter().map(|(task, clients)| (task, (clients, clients))).collect(),
            is_behind: false,
            is_completed: false,
        });
        self.pending = Pending::new();
        for worker in 0..self.workers.len() {
            self.ask(worker, WorkerRequest::Drive { start, samples: samples.clone() });
        }
        self.reach_if_all_have()
    }

    /// The time until the step starts that is to be driven; none if it runs.
    fn until_start(&self) -> Duration {
        let start = self.started.map(|start| start.monotonic).unwrap_or_default();
        Duration::from_nanos(start.saturating_sub(RequestTimer::now()))
    }

    /// Ends the step early, once: each of its tasks may ask for it.
    fn complete_step(&mut self) {
        if let Some(driving) = self.driving.as_mut().filter(|driving| !driving.is_completed) {
            driving.is_completed = true;
            (0..self.workers.len()).for_each(|worker| self.ask(worker, WorkerRequest::CompleteStep));
        }
    }

    /// Asks all workers what they measured. What those that were asked before did not tell is left for the next time.
    fn measure(&mut self) -> Result<(), RaceError> {
        if !self.pending.awaiting.is_empty() {
            self.tell_interval()?;
        }
        for worker in 0..self.workers.len() {
            if self.pending.awaiting.insert(worker) {
                self.ask(worker, WorkerRequest::Measure);
            }
        }
        Ok(())
    }

    fn handle(&mut self, report: WorkerReport) -> Result<(), RaceError> {
        let WorkerReport { worker, event } = report;
        match event {
            WorkerEvent::Ready => {
                if let Some(upcoming) = &mut self.upcoming {
                    upcoming.awaiting.remove(&worker);
                }
                self.arrive_if_ready()
            }
            WorkerEvent::Unready(error) => Err(error.into()),
            WorkerEvent::ClientDone { task } => self.client_done(task),
            WorkerEvent::Measured(measurement) => {
                self.merge(worker, *measurement);
                if self.pending.awaiting.remove(&worker) && self.pending.awaiting.is_empty() {
                    self.tell_interval()?;
                }
                Ok(())
            }
            WorkerEvent::Reached(measurement) => {
                self.merge(worker, *measurement);
                if let Some(driving) = &mut self.driving {
                    driving.awaiting.remove(&worker);
                }
                self.reach_if_all_have()
            }
            WorkerEvent::Noticed(message) => Ok(self.say(DriverEventKind::Noticed { message })?),
            WorkerEvent::Failed(error) => Err(error.into()),
            WorkerEvent::Broken(source) => Err(RaceError::Worker { worker, source }),
            WorkerEvent::Ended(measurement) => {
                self.merge_last(worker, *measurement);
                Ok(())
            }
        }
    }

    /// Counts a client that is done. If it was the last one of a task that ends the step, the coordinator is told; if no
    /// other driver has clients of it, the step ends at once.
    fn client_done(&mut self, task: TaskIndex) -> Result<(), RaceError> {
        let Some(driving) = &mut self.driving else { return Ok(()) };
        let Some((all, waiting)) = driving.clients.get_mut(&task) else { return Ok(()) };
        *waiting -= 1;
        let ends_step = match driving.completion {
            Completion::Each => false,
            Completion::By(completing) => completing == task,
            Completion::Any => true,
        };
        if *waiting > 0 || !ends_step {
            return Ok(());
        }
        let (is_here, until) = (*all == self.context.task(task).clients, driving.until);
        self.say(DriverEventKind::TaskCompleted { until, task })?;
        if is_here {
            self.complete_step();
        }
        Ok(())
    }

    fn reach_if_all_have(&mut self) -> Result<(), RaceError> {
        let Some(driving) = self.driving.take_if(|driving| driving.awaiting.is_empty()) else { return Ok(()) };
        self.at = driving.until;
        self.tell_interval()?;
        match self.allocation.step(JoinPoint(self.at.0 + 1)) {
            Some(_) => self.prepare_step(),
            None => self.arrive_if_ready(),
        }
    }

    fn merge(&mut self, worker: usize, measurement: Measurement) {
        self.accounts.done(worker, &measurement);
        self.add(worker, measurement);
    }

    /// Merges what a worker measured that has ended.
    fn merge_last(&mut self, worker: usize, measurement: Measurement) {
        self.accounts.ended(worker, &measurement);
        self.add(worker, Measurement { in_flight: 0, ..measurement });
    }

    fn add(&mut self, worker: usize, measurement: Measurement) {
        let Measurement { recording, progress, in_flight, busy, made: _ } = measurement;
        if self.segments.is_some() && self.driving.as_ref().is_some_and(|driving| !driving.keeps_raw) {
            self.accounts.ledger.unwritten += recording.samples;
        }
        self.pending.recording.merge(recording);
        if !progress.is_empty() {
            self.pending.progress.insert(worker, progress);
        }
        self.pending.in_flight.insert(worker, in_flight);
        *self.pending.busy.entry(worker).or_default() += busy;
    }

    fn tell_interval(&mut self) -> Result<(), NobodyListens> {
        let pending = std::mem::replace(&mut self.pending, Pending::new());
        // A worker that did not answer still will.
        self.pending.awaiting.clone_from(&pending.awaiting);
        self.accounts.told(&pending.recording.tasks);
        let silent: Vec<_> = pending.awaiting.into_iter().collect();
        let mut sums = Vec::new();
        pending.progress.into_values().flatten().for_each(|one| ProgressSum::add_to(&mut sums, one));
        let interval = pending.since.elapsed();
        let now = RequestTimer::now();
        let second = |start: StepStart| start.second_between(now.saturating_sub(nanos(interval)), now);
        let second = self.started.map(second).unwrap_or_default();
        // A worker that is done with the step just after it was asked was busy for no longer than that.
        let busiest = pending.busy.into_values().max().unwrap_or_default();
        let busiest = (busiest as f64 / nanos(interval).max(1) as f64).min(1.0);
        let effort = Effort {
            interval,
            busiest,
            throttled: pending.recording.throttled,
            late: pending.recording.late,
            still: pending.still,
            silent: &silent,
        };
        let Recording { throttled, behind, .. } = pending.recording;
        if let Some(driving) = self.driving.as_mut().filter(|driving| !driving.is_behind)
            && let Some(message) = starvation(&self.setup.host, effort.interval, throttled, behind)
        {
            driving.is_behind = true;
            self.say(DriverEventKind::Noticed { message })?;
        }
        let health = DriverHealth {
            saturated: saturation(&self.setup.host, &effort),
            dispatch_lag: pending.recording.dispatch_lag,
            busiest_worker: busiest,
            in_flight: pending.in_flight.into_values().sum(),
            reconnects: pending.recording.reconnects,
            retries: pending.recording.retries,
        };
        let progress = sums.into_iter().map(ProgressSum::mean).collect();
        let (tasks, ledger) = (pending.recording.tasks, self.accounts.ledger);
        self.tell(Interval { number: 0, second, tasks, progress, health, ledger })
    }

    /// Tells an interval, giving it its number and the final counts of its ledger.
    fn tell(&mut self, mut interval: Interval) -> Result<(), NobodyListens> {
        self.intervals += 1;
        interval.number = self.intervals;
        if let Some(segments) = &self.segments {
            let (written, unwritten) = segments.counts();
            interval.ledger.written = written;
            interval.ledger.unwritten += unwritten;
        }
        self.say(DriverEventKind::Measured(Box::new(interval)))
    }

    fn announce(&mut self, announcement: &Announcement) -> Result<(), NobodyListens> {
        let host = &self.setup.host;
        let kind = match announcement {
            Announcement::Written { hash, length } => DriverEventKind::SegmentWritten { hash: *hash, length: *length },
            Announcement::CapReached => {
                self.segments_are_full = true;
                let message = format!(
                    "raw samples on {host} have reached {} bytes; no more are written, but everything is still counted",
                    self.context.plan.sample_bytes
                );
                DriverEventKind::Noticed { message }
            }
            Announcement::Failed(error) => {
                self.segments_are_full = true;
                let cause = RoleError::new(host.clone(), Role::LoadDriver, "", RoleErrorKind::Failed, error).cause;
                let message =
                    format!("no more raw samples are written on {host}: {cause}; everything is still counted");
                DriverEventKind::Noticed { message }
            }
        };
        self.say(kind)
    }

    fn ask(&self, worker: usize, request: WorkerRequest) {
        // A worker that is gone has said so, and one that is stuck is named by the next interval.
        let _ = self.workers[worker].requests.try_send(request);
    }

    fn say(&self, kind: DriverEventKind) -> Result<(), NobodyListens> {
        self.setup.events.push((self.setup.clock)(), kind)
    }
}

/// The worker of a client. A client keeps its worker, because its connections live there.
fn worker_of(client: u32, workers: usize) -> usize {
    client as usize % workers.max(1)
}

/// Makes a race ready, unless it is stopped meanwhile.
async fn unless_stopped<T>(commands: &mut mpsc::Receiver<Command>, preparing: impl Future<Output = T>) -> Option<T> {
    let mut preparing = std::pin::pin!(preparing);
    loop {
        tokio::select! {
            prepared = &mut preparing => return Some(prepared),
            command = commands.recv() => match command {
                Some(Command::Drive { reply, .. }) => drop(reply.send(Err(InvalidStep::NotPrepared))),
                Some(Command::CompleteStep { .. } | Command::AttachTelemetry) => (),
                Some(Command::Stop { .. }) | None => return None,
            }
        }
    }
}

async fn next_announcement(segments: &mut Option<SegmentWriter>) -> Option<Announcement> {
    segments.as_mut()?.announcement().await
}

/// What telemetry devices find next; it waits for ever if there are none.
async fn next_found(telemetry: &mut Option<Telemetry>) -> Option<Found> {
    match telemetry {
        Some(telemetry) => telemetry.next().await,
        None => std::future::pending().await,
    }
}
