//! A race over real drivers: the shell around the state machine.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::{join_all, try_join_all};
use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt, TryFutureExt};

use super::log::RaceLog;
use super::progress::Progress;
use super::{DriverIndex, OnDriverLoss, Race, RaceAction, RaceInput, RacePlan, RaceTiming, RaceVerdict};
use crate::allocation::{Allocation, spread};
use crate::metrics::{Interval, RaceMetrics};
use crate::{
    ClusterTime, ContentHash, DriverAssignment, DriverEvent, EventStream, HostFacts, JoinPoint, LoadDriver, RaceDriver,
    RaceEventKind, RaceId, Role, RoleError, RoleErrorKind, Step, StopMode,
};

/// How often progress is reported.
const PROGRESS: Duration = Duration::from_secs(1);

/// After so many events of a driver, it is told that it may forget them.
const FORGET_AFTER: u32 = 100;

/// How long a race that has ended tries to reach drivers that it had given up. Their lease ends all the same.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Coordinator time, the one thing that a race needs from its surroundings.
#[async_trait]
pub trait Timer: Send + Sync + 'static {
    /// The time.
    fn now(&self) -> ClusterTime;

    /// Returns at this time or soon after it, at once if it is over.
    async fn sleep_until(&self, time: ClusterTime);
}

/// Keeps what drivers measure. It is called between two events of a race, so it must not take long.
#[async_trait]
pub trait Recorder: Send + 'static {
    /// Drivers were chosen; comes first.
    fn started(&mut self, drivers: &[RaceDriver], facts: &[HostFacts]) {
        let _ = (drivers, facts);
    }

    /// A step was started.
    fn step_started(&mut self, step: Step) {
        let _ = step;
    }

    /// All drivers have reached a join point: nothing more is measured of the tasks before it.
    fn step_ended(&mut self, until: JoinPoint) {
        let _ = until;
    }

    /// A driver measured something, and told it at that time; each interval comes once.
    fn interval(&mut self, driver: DriverIndex, at: ClusterTime, interval: &Interval);

    /// Telemetry devices found something: a JSON array of metrics documents.
    fn telemetry(&mut self, driver: DriverIndex, json: &[u8]) {
        let _ = (driver, json);
    }

    /// A driver has a file of raw samples for whoever wants it.
    fn segment(&mut self, driver: DriverIndex, hash: ContentHash, length: u64) {
        let _ = (driver, hash, length);
    }

    /// Something was told to whoever watches; all but progress and the end.
    fn event(&mut self, at: ClusterTime, kind: &RaceEventKind) {
        let _ = (at, kind);
    }

    /// The race is over. Watchers hear of it when this returns, so it must not wait for long.
    async fn ended(&mut self, at: ClusterTime, verdict: &RaceVerdict) {
        let _ = (at, verdict);
    }
}

impl Recorder for RaceMetrics {
    fn interval(&mut self, driver: DriverIndex, _: ClusterTime, interval: &Interval) {
        // The race has dropped what came twice, and its verdict says what is missing.
        let _ = self.add(&driver.0.to_string(), interval);
    }
}

/// A race that can be run.
#[derive(Clone)]
pub struct RaceSetup {
    /// Its id.
    pub race: RaceId,
    /// What is to be run.
    pub plan: Arc<RacePlan>,
    /// The content under which drivers find the plan.
    pub content: ContentHash,
    /// Who may drive, by the name or address that the user knows it by. Those that get no client are left in peace.
    pub drivers: Vec<(String, Arc<dyn LoadDriver>)>,
    /// What becomes of the race when one of them is lost.
    pub on_driver_loss: OnDriverLoss,
    /// How long it waits for them.
    pub timing: RaceTiming,
}

impl fmt::Debug for RaceSetup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let drivers: Vec<_> = self.drivers.iter().map(|(name, _)| name).collect();
        f.debug_struct("RaceSetup").field("race", &self.race).field("drivers", &drivers).finish_non_exhaustive()
    }
}

impl RaceSetup {
    /// A race of all these drivers, who find the plan under `content`; it fails if one of them is lost.
    #[must_use]
    pub fn new(
        race: RaceId,
        plan: RacePlan,
        content: ContentHash,
        drivers: impl IntoIterator<Item = (String, Arc<dyn LoadDriver>)>,
    ) -> Self {
        let (on_driver_loss, timing) = Default::default();
        Self { race, plan: Arc::new(plan), content, drivers: drivers.into_iter().collect(), on_driver_loss, timing }
    }

    /// Runs the race to its end. All that happens is told to `log`, which can also cancel it.
    ///
    /// Whatever goes wrong stands in the verdict, also if the race cannot begin: the track has no such challenge, there
    /// is no driver, or one of them cannot be asked what it offers.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the race is not ended in order; drivers stop as their last handle goes.
    pub async fn run(self, timer: Arc<dyn Timer>, log: Arc<RaceLog>, recorder: &mut dyn Recorder) -> RaceVerdict {
        let verdict = match self.begin(&timer, &log, recorder).await {
            Ok(run) => run.finish().await,
            Err(error) => {
                log.push(timer.now(), RaceEventKind::RoleFailed(error.clone()));
                RaceVerdict::not_begun(error)
            }
        };
        // Whoever hears of the end may ask for the results at once.
        recorder.ended(timer.now(), &verdict).await;
        log.push(timer.now(), RaceEventKind::Ended(Box::new(verdict.clone())));
        verdict
    }

    async fn begin<'a>(
        &'a self,
        timer: &Arc<dyn Timer>,
        log: &Arc<RaceLog>,
        recorder: &'a mut dyn Recorder,
    ) -> Result<Run<'a>, RoleError> {
        let invalid = |cause: String| RoleError {
            host: "this host".to_owned(),
            role: Role::Coordinator,
            phase: format!("start race {}", self.race),
            kind: RoleErrorKind::Invalid,
            cause,
        };
        let name = &self.plan.challenge;
        let challenge = self.plan.challenge().ok_or_else(|| invalid(format!("there is no challenge `{name}`")))?;
        if self.drivers.is_empty() {
            return Err(invalid("there is no load driver".to_owned()));
        }
        let asked = timer.now();
        // A host that cannot say who it is goes by the name that the user gave it.
        let facts = self
            .drivers
            .iter()
            .map(|(name, driver)| driver.facts().map_err(|error| RoleError { host: name.clone(), ..error }));
        let facts = try_join_all(facts).await?;
        let round_trip = timer.now().saturating_since(asked);

        let cores: Vec<_> = facts.iter().map(|facts| facts.cores).collect();
        let mut links = Vec::new();
        let (mut drivers, mut used) = (Vec::new(), Vec::new());
        let shares = spread(Allocation::new(challenge).clients, &cores);
        for (((name, driver), clients), facts) in self.drivers.iter().zip(shares).zip(facts) {
            if !clients.is_empty() {
                drivers.push(RaceDriver { name: name.clone(), clients });
                links.push(DriverLink::new(Arc::clone(driver)));
                used.push(facts);
            }
        }
        recorder.started(&drivers, &used);
        let now = timer.now();
        let (race, actions) =
            Race::start(self.race.clone(), challenge, drivers, self.on_driver_loss, self.timing.clone(), now);
        let mut run = Run {
            race,
            links,
            progress: Progress::default(),
            reported: now,
            step_start: now,
            work: FuturesUnordered::new(),
            setup: self,
            timer: Arc::clone(timer),
            log: Arc::clone(log),
            recorder,
        };
        for driver in 0..run.links.len() {
            let input = RaceInput::Answered { driver: DriverIndex(driver), round_trip };
            let actions = run.race.handle(now, input);
            run.perform(actions);
        }
        run.perform(actions);
        Ok(run)
    }
}

type Work = Pin<Box<dyn Future<Output = Happened> + Send>>;

/// Something that the race waited for.
enum Happened {
    Due,
    Cancelled(StopMode),
    Answered { driver: DriverIndex, asked: ClusterTime, result: Result<(), RoleError> },
    Subscribed { driver: DriverIndex, result: Result<EventStream<DriverEvent>, RoleError> },
    Said { driver: DriverIndex, said: Option<Result<DriverEvent, RoleError>>, events: EventStream<DriverEvent> },
}

struct Run<'a> {
    race: Race,
    links: Vec<DriverLink>,
    progress: Progress,
    /// When progress was reported last.
    reported: ClusterTime,
    step_start: ClusterTime,
    work: FuturesUnordered<Work>,
    setup: &'a RaceSetup,
    timer: Arc<dyn Timer>,
    log: Arc<RaceLog>,
    recorder: &'a mut dyn Recorder,
}

struct DriverLink {
    driver: Arc<dyn LoadDriver>,
    /// What it is asked next; the first request is under way.
    requests: VecDeque<Request>,
    /// Events since it was last told that it may forget.
    unforgotten: u32,
}

#[derive(Clone)]
enum Request {
    Prepare(DriverAssignment),
    Drive(Step),
    CompleteStep(JoinPoint),
    AttachTelemetry,
    Stop(StopMode),
}

impl DriverLink {
    fn new(driver: Arc<dyn LoadDriver>) -> Self {
        Self { driver, requests: VecDeque::new(), unforgotten: 0 }
    }
}

impl Run<'_> {
    async fn finish(mut self) -> RaceVerdict {
        self.watch_time();
        self.watch_cancel(None);
        loop {
            if let Some(verdict) = self.race.verdict() {
                let verdict = verdict.clone();
                self.last_words().await;
                return verdict;
            }
            let happened = self.work.next().await.unwrap_or(Happened::Due);
            let now = self.timer.now();
            let actions = match happened {
                Happened::Due => {
                    self.watch_time();
                    self.race.handle_timeout(now)
                }
                Happened::Cancelled(mode) => {
                    self.watch_cancel(Some(mode));
                    self.race.handle(now, RaceInput::Cancelled(mode))
                }
                Happened::Answered { driver, asked, result } => self.answered(now, driver, asked, result),
                Happened::Subscribed { driver, result: Ok(events) } => {
                    self.listen(driver, events);
                    Vec::new()
                }
                Happened::Subscribed { driver, result: Err(error) } => self.lost(now, driver, error),
                Happened::Said { driver, said: Some(Ok(event)), events } => self.said(now, driver, event, events),
                Happened::Said { driver, said: Some(Err(error)), .. } => self.lost(now, driver, error),
                Happened::Said { driver, said: None, .. } => {
                    let cause = "its events ended before the race".to_owned();
                    let phase = format!("report on race {}", self.setup.race);
                    let kind = RoleErrorKind::Unreachable;
                    let host = self.setup.drivers[driver.0].0.clone();
                    self.lost(now, driver, RoleError { host, role: Role::LoadDriver, phase, kind, cause })
                }
            };
            self.perform(actions);
            self.report(now);
        }
    }

    /// Frees drivers that the race has given up, in case they can still hear it.
    async fn last_words(&mut self) {
        let race = &self.setup.race;
        let unheard = self.links.iter().filter(|link| link.requests.iter().any(|it| matches!(it, Request::Stop(_))));
        let stops = join_all(unheard.map(|link| link.driver.stop(race, StopMode::Now)));
        let deadline = self.timer.sleep_until(self.timer.now() + LAST_WORDS);
        futures_util::future::select(stops, deadline).await;
    }

    fn watch_time(&mut self) {
        let soon = self.timer.now() + PROGRESS;
        let until = self.race.next_deadline().map_or(soon, |deadline| deadline.min(soon));
        let timer = Arc::clone(&self.timer);
        self.work.push(Box::pin(async move {
            timer.sleep_until(until).await;
            Happened::Due
        }));
    }

    fn watch_cancel(&mut self, known: Option<StopMode>) {
        let log = Arc::clone(&self.log);
        self.work.push(Box::pin(async move { Happened::Cancelled(log.cancelled(known).await) }));
    }

    /// Waits for the next event of a driver.
    fn listen(&mut self, driver: DriverIndex, mut events: EventStream<DriverEvent>) {
        self.work.push(Box::pin(async move {
            let said = events.next().await;
            Happened::Said { driver, said, events }
        }));
    }

    /// Asks for the events after the last one that was taken, which the driver may forget then.
    fn subscribe(&mut self, driver: DriverIndex) {
        let after = self.race.taken(driver);
        let link = &mut self.links[driver.0];
        link.unforgotten = 0;
        let (it, race) = (Arc::clone(&link.driver), self.setup.race.clone());
        self.work.push(Box::pin(async move {
            let result = it.events(&race, after).await;
            Happened::Subscribed { driver, result }
        }));
    }

    fn request(&mut self, driver: DriverIndex, request: Request) {
        let requests = &mut self.links[driver.0].requests;
        requests.push_back(request);
        if requests.len() == 1 {
            self.send(driver);
        }
    }

    /// Sends the first of the requests that wait.
    fn send(&mut self, driver: DriverIndex) {
        let link = &self.links[driver.0];
        let Some(request) = link.requests.front().cloned() else { return };
        let asked = self.timer.now();
        let answer = ask(Arc::clone(&link.driver), &self.setup.race, request);
        self.work.push(Box::pin(answer.map_ok_or_else(
            move |error| Happened::Answered { driver, asked, result: Err(error) },
            move |()| Happened::Answered { driver, asked, result: Ok(()) },
        )));
    }

    fn answered(
        &mut self,
        now: ClusterTime,
        driver: DriverIndex,
        asked: ClusterTime,
        result: Result<(), RoleError>,
    ) -> Vec<RaceAction> {
        let request = self.links[driver.0].requests.pop_front();
        self.send(driver);
        match result {
            Ok(()) => {
                if let Some(Request::Prepare(_)) = request {
                    self.subscribe(driver);
                }
                let round_trip = now.saturating_since(asked);
                self.race.handle(now, RaceInput::Answered { driver, round_trip })
            }
            Err(error) => self.lost(now, driver, error),
        }
    }

    fn said(
        &mut self,
        now: ClusterTime,
        driver: DriverIndex,
        event: DriverEvent,
        events: EventStream<DriverEvent>,
    ) -> Vec<RaceAction> {
        let is_last = matches!(event.kind, crate::DriverEventKind::Ended);
        let actions = self.race.handle(now, RaceInput::Driver { driver, event });
        self.links[driver.0].unforgotten += 1;
        if is_last {
            // Nothing follows.
        } else if self.links[driver.0].unforgotten >= FORGET_AFTER {
            self.subscribe(driver);
        } else {
            self.listen(driver, events);
        }
        actions
    }

    fn lost(&mut self, now: ClusterTime, driver: DriverIndex, error: RoleError) -> Vec<RaceAction> {
        self.race.handle(now, RaceInput::Lost { driver, error })
    }

    fn perform(&mut self, actions: Vec<RaceAction>) {
        for action in actions {
            match action {
                RaceAction::Prepare { driver, clients, telemetry } => {
                    let (race, plan) = (self.setup.race.clone(), self.setup.content);
                    self.request(driver, Request::Prepare(DriverAssignment { race, plan, clients, telemetry }));
                }
                RaceAction::Drive { driver, step } => self.request(driver, Request::Drive(step)),
                RaceAction::CompleteStep { driver, until } => self.request(driver, Request::CompleteStep(until)),
                RaceAction::AttachTelemetry { driver } => self.request(driver, Request::AttachTelemetry),
                RaceAction::Stop { driver, mode } => self.request(driver, Request::Stop(mode)),
                RaceAction::Record { driver, at, interval } => {
                    self.progress.record(driver, &interval);
                    self.recorder.interval(driver, at, &interval);
                }
                RaceAction::RecordTelemetry { driver, json } => self.recorder.telemetry(driver, &json),
                RaceAction::FetchSegment { driver, hash, length } => self.recorder.segment(driver, hash, length),
                RaceAction::Announce(kind) => self.announce(kind),
            }
        }
    }

    fn announce(&mut self, kind: RaceEventKind) {
        let now = self.timer.now();
        match &kind {
            // Told when all is recorded.
            RaceEventKind::Ended(_) => return,
            RaceEventKind::StepStarted { step, tasks, .. } => {
                self.progress.step(tasks);
                self.reported = step.start;
                self.step_start = step.start;
                self.recorder.step_started(*step);
            }
            RaceEventKind::StepEnded { until } => {
                let tasks = self.progress.conclude(seconds(self.step_start, now));
                self.log.push(now, RaceEventKind::Progress(tasks));
                self.recorder.step_ended(*until);
                self.progress.step(&[]);
            }
            RaceEventKind::Started { .. }
            | RaceEventKind::DriverPrepared { .. }
            | RaceEventKind::Progress(_)
            | RaceEventKind::Noticed { .. }
            | RaceEventKind::RoleFailed(_)
            | RaceEventKind::Waiting { .. } => {}
        }
        self.recorder.event(now, &kind);
        self.log.push(now, kind);
    }

    /// Reports the progress if it is time, and drivers that are a little late have been waited for.
    fn report(&mut self, now: ClusterTime) {
        let since = now.saturating_since(self.reported);
        if since < PROGRESS || (!self.progress.is_complete() && since < 2 * PROGRESS) || self.race.verdict().is_some() {
            return;
        }
        let tasks = self.progress.report(seconds(self.reported, now));
        self.reported = now;
        if !tasks.is_empty() {
            self.log.push(now, RaceEventKind::Progress(tasks));
        }
    }
}

/// Seconds between two points in time, and never so few that rates would make no sense.
fn seconds(from: ClusterTime, until: ClusterTime) -> f64 {
    until.saturating_since(from).as_secs_f64().max(1e-3)
}

fn ask(
    driver: Arc<dyn LoadDriver>,
    race: &RaceId,
    request: Request,
) -> impl Future<Output = Result<(), RoleError>> + Send + 'static {
    let race = race.clone();
    async move {
        match request {
            Request::Prepare(assignment) => driver.prepare(assignment).await,
            Request::Drive(step) => driver.drive(&race, step).await,
            Request::CompleteStep(until) => driver.complete_step(&race, until).await,
            Request::AttachTelemetry => driver.attach_telemetry(&race).await,
            Request::Stop(mode) => driver.stop(&race, mode).await,
        }
    }
}
