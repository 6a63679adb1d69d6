//! The owner of races.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures_util::stream;
use rally_core::metrics::{RaceDocument, RaceReport};
use rally_core::race::{RaceLog, RaceSetup, RaceTiming, RaceVerdict, Timer};
use rally_core::{
    ClusterTime, ContentHash, Coordinator, EventStream, HostFacts, LoadDriver, RaceEvent, RaceEventKind, RaceId,
    RacePlan, RaceRequest, RaceStatus, Role, RoleError, RoleErrorKind, Sequence, StopMode,
};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info, info_span, warn};

use super::local::LocalSurroundings;
use super::sample_files::{FetchPace, SampleFile};
use super::text::busy_text;
use crate::archive::{Archive, ArchiveRecorder, HostClock, ReportSlot, take_from_archive};
use crate::settings::ReportingSettings;
use crate::store::{self, StoreSettings};

/// Races that have ended and can still be asked for.
const REMEMBERED: usize = 8;

/// How long a race waits until all of the races before is kept.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

/// The bundle of a request whose plan comes beside it.
pub(crate) const NO_BUNDLE: ContentHash = ContentHash::from_bytes([0; 32]);

/// What races need of the host that owns them.
#[async_trait]
pub trait Surroundings: Send + Sync + 'static {
    /// What this host is.
    fn facts(&self) -> HostFacts;

    /// Coordinator time.
    fn timer(&self) -> Arc<dyn Timer>;

    /// Keeps a plan, as JSON, until it is [forgotten](Self::forget).
    ///
    /// # Errors
    ///
    /// A sentence if it cannot be kept.
    async fn keep(&self, plan: Vec<u8>) -> Result<ContentHash, String>;

    /// Gets a plan, and makes it available to drivers.
    ///
    /// # Errors
    ///
    /// A sentence if nobody has it or it cannot be understood.
    async fn plan(&self, content: ContentHash) -> Result<RacePlan, String>;

    /// Finds out where its drivers can fetch the corpora of a race from, if they are to, gets ready here what none of them has,
    /// and gives the plan that says so, with its hash. `notice` takes sentences for the user, each with the host that it is
    /// about. By default there is nobody to fetch anything.
    ///
    /// # Errors
    ///
    /// A sentence that names what cannot be had.
    async fn ship(
        &self,
        _race: &RaceId,
        plan: (RacePlan, ContentHash),
        _drivers: &[String],
        _notice: Arc<dyn Fn(String, String) + Send + Sync>,
    ) -> Result<(RacePlan, ContentHash), String> {
        Ok(plan)
    }

    /// Ends what [`ship`](Self::ship) began, also if that was dropped: nobody offers corpora of the race any more, and the
    /// plan that it made is forgotten.
    async fn withdraw(&self, _race: &RaceId) {}

    /// The load drivers on these hosts, each with the name that the user gave it.
    ///
    /// # Errors
    ///
    /// A sentence that names a host that is not there.
    async fn load_drivers(&self, hosts: &[String]) -> Result<Vec<(String, Arc<dyn LoadDriver>)>, String>;

    /// The clocks of these drivers now, in their order; none where they are not known. By default all are on this host.
    async fn clocks(&self, drivers: &[String]) -> Vec<Option<HostClock>> {
        vec![Some(self.clock()); drivers.len()]
    }

    /// Whether this host is one of these drivers. By default all are on this host.
    async fn is_among(&self, _drivers: &[String]) -> bool {
        true
    }

    /// The clock of this host, which is coordinator time.
    fn clock(&self) -> HostClock {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let shift = wall.as_nanos().cast_signed() - i128::from(self.timer().now().as_nanos());
        HostClock::own(i64::try_from(shift).unwrap_or(i64::MAX))
    }

    /// Tells `notice` whenever one of these drivers falls silent or is heard of again, with its name and a sentence. It
    /// does not return. By default all are on this host.
    async fn watch_silence(&self, _drivers: &[String], _notice: &(dyn Fn(String, String) + Send + Sync)) {
        std::future::pending().await
    }

    /// Where races are archived; none if only their results are wanted.
    fn archive(&self) -> Option<Archive>;

    /// Puts a file of raw samples of a driver into a directory, under the name `HASH.parquet`, unless it is there.
    ///
    /// # Errors
    ///
    /// A sentence if it cannot be had.
    ///
    /// # Cancel safety
    ///
    /// When dropped, what has arrived may stay in a hidden file, and the next call goes on from there.
    async fn find_samples(
        &self,
        driver: &str,
        content: ContentHash,
        directory: &Path,
        pace: FetchPace,
    ) -> Result<(), String>;

    /// Deletes a plan that is no longer needed.
    async fn forget(&self, _content: ContentHash) {}

    /// How results are reported, and to which metrics store they go.
    ///
    /// # Errors
    ///
    /// A sentence if the settings cannot be read.
    fn reporting(&self) -> Result<ReportingSettings, String> {
        Ok(ReportingSettings::default())
    }
}

/// Runs races, one at a time, each as a future of its own. Dropping it ends the race that runs.
pub struct RaceCoordinator {
    surroundings: Arc<dyn Surroundings>,
    races: Mutex<Races>,
    /// How long a race waits for those before.
    pub(super) patience: Duration,
}

#[derive(Default)]
struct Races {
    /// The latest last.
    known: VecDeque<KnownRace>,
    running: JoinSet<()>,
}

#[derive(Clone, Debug)]
struct KnownRace {
    request: RaceRequest,
    since: ClusterTime,
    log: Arc<RaceLog>,
    report: ReportSlot,
    /// Cancelled as soon as nothing of the race is left to do.
    settled: CancellationToken,
}

impl Races {
    fn unsettled(&self) -> Vec<(RaceId, CancellationToken)> {
        let unsettled = self.known.iter().filter(|known| !known.settled.is_cancelled());
        unsettled.map(|known| (known.request.race.clone(), known.settled.clone())).collect()
    }
}

impl fmt::Debug for RaceCoordinator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RaceCoordinator").field("races", &self.lock().known).finish_non_exhaustive()
    }
}

impl RaceCoordinator {
    /// A coordinator without a race.
    #[must_use]
    pub fn new(surroundings: Arc<dyn Surroundings>) -> Self {
        Self { surroundings, races: Mutex::default(), patience: PATIENCE }
    }

    /// A coordinator for races in this process, with one load driver: the host `localhost`. Races are archived in
    /// `races` below the directory, and corpora are kept in `data`.
    #[must_use]
    pub fn local(directory: &Path) -> Self {
        Self::new(Arc::new(LocalSurroundings::below(directory)))
    }

    /// Starts a race of a plan, under a random id, on these hosts.
    ///
    /// # Errors
    ///
    /// As [`Coordinator::start_race`]; failed if the plan cannot be kept.
    pub async fn race(&self, plan: &RacePlan, load_driver_hosts: &[&str]) -> Result<RaceId, RoleError> {
        let race = random_id();
        let phase = || format!("start race {race}");
        let json = serde_json::to_string(plan)
            .map_err(|error| self.error(phase(), RoleErrorKind::Invalid, error.to_string()))?;
        let request = RaceRequest::new(race.clone(), NO_BUNDLE, load_driver_hosts);
        self.start(request, json).await?;
        Ok(race)
    }

    /// Starts a race with a plan, as JSON, that takes the place of the request's.
    ///
    /// # Errors
    ///
    /// As [`Coordinator::start_race`]; failed if the plan cannot be kept.
    pub async fn start(&self, mut request: RaceRequest, plan: String) -> Result<(), RoleError> {
        let error = |cause| self.error(format!("start race {}", request.race), RoleErrorKind::Failed, cause);
        request.bundle = self.surroundings.keep(plan.into_bytes()).await.map_err(error)?;
        let bundle = request.bundle;
        let started = self.start_race(request).await;
        if started.is_err() {
            self.surroundings.forget(bundle).await;
        }
        started
    }

    fn error(&self, phase: String, kind: RoleErrorKind, cause: String) -> RoleError {
        RoleError { host: self.surroundings.facts().name, role: Role::Coordinator, phase, kind, cause }
    }

    /// Ends the race that runs, if there is one, and waits until all of it is kept; one for which that takes longer than
    /// `within` is dropped, and its archive says what is missing.
    pub async fn stop(&self, mode: StopMode, within: Duration) {
        let mut running = {
            let mut races = self.lock();
            races.known.iter().for_each(|known| known.log.cancel(mode));
            std::mem::take(&mut races.running)
        };
        if timeout(within, async { while running.join_next().await.is_some() {} }).await.is_err() {
            let races = self.unsettled().into_iter().map(|(race, _)| race.to_string()).collect::<Vec<_>>().join(", ");
            warn!(%races, "ending before all that belongs to a race is kept; its archive says what is missing");
            running.shutdown().await;
        }
    }

    /// Waits until all races that were started so far have ended and everything that belongs to them is kept.
    ///
    /// # Cancel safety
    ///
    /// It only waits: races go on when it is dropped, and it can be called again, also several times at once.
    pub async fn settled(&self) {
        for (_, settled) in self.unsettled() {
            settled.cancelled().await;
        }
    }

    /// Races that run, or of which something is still to be kept.
    fn unsettled(&self) -> Vec<(RaceId, CancellationToken)> {
        self.lock().unsettled()
    }

    fn lock(&self) -> MutexGuard<'_, Races> {
        self.races.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, race: &RaceId) -> Option<KnownRace> {
        self.lock().known.iter().rev().find(|known| known.request.race == *race).cloned()
    }

    fn log(&self, phase: &str, race: &RaceId) -> Result<Arc<RaceLog>, RoleError> {
        self.known(race).map(|known| known.log).ok_or_else(|| {
            self.error(format!("{phase} race {race}"), RoleErrorKind::Invalid, "it knows no such race".to_owned())
        })
    }

    /// Why a race cannot have this id.
    fn taken(&self, races: &Races, race: &RaceId) -> Option<String> {
        if races.known.iter().any(|known| known.request.race == *race) {
            return Some(format!("there has been a race {race} already; choose another --race-id"));
        }
        let is_archived = self.surroundings.archive().is_some_and(|archive| archive.contains(race));
        is_archived.then(|| {
            format!(
                "there is a race {race} in the archive; choose another --race-id, or delete that race with \
                 `rallyd delete race --id={race}`"
            )
        })
    }

    /// The report of a race that is only in the archive.
    fn archived(&self, race: &RaceId) -> Option<RaceReport> {
        let archive = self.surroundings.archive()?;
        let verdict = archive.verdict(race).ok()??;
        let is_settled = !archive.is_in_use(race);
        Some(RaceReport { race: archive.load(race).ok()?, findings: verdict.findings, is_settled })
    }
}

#[async_trait]
impl Coordinator for RaceCoordinator {
    async fn start_race(&self, request: RaceRequest) -> Result<(), RoleError> {
        let mut races = self.lock();
        while races.running.try_join_next().is_some() {}
        let now = self.surroundings.timer().now();
        let error = |kind, cause| self.error(format!("start race {}", request.race), kind, cause);
        if let Some(KnownRace { request: last, since, log, .. }) = races.known.back() {
            let status = log.status(&last.race, *since, now);
            if status.is_some() && *last == request {
                // Asked again, because the answer was lost.
                return Ok(());
            }
            if let Some(status) = status.filter(|_| last.race != request.race) {
                return Err(error(RoleErrorKind::Busy, busy_text(&status)));
            }
        }
        if let Some(cause) = self.taken(&races, &request.race) {
            return Err(error(RoleErrorKind::Invalid, cause));
        }
        let before = races.unsettled();
        if races.known.len() >= REMEMBERED
            && let Some(oldest) = races.known.iter().position(|known| known.settled.is_cancelled())
        {
            races.known.remove(oldest);
        }
        let (log, report) = (Arc::<RaceLog>::default(), ReportSlot::default());
        let settled = CancellationToken::new();
        let guard = settled.clone().drop_guard();
        races.known.push_back(KnownRace {
            request: request.clone(),
            since: now,
            log: Arc::clone(&log),
            report: Arc::clone(&report),
            settled,
        });
        let span = info_span!("race", id = %request.race);
        let earlier = Earlier { races: before, patience: self.patience };
        let run = run(Arc::clone(&self.surroundings), request, log, report, earlier);
        let run = async move {
            run.await;
            drop(guard);
        };
        races.running.spawn(run.instrument(span));
        Ok(())
    }

    async fn events(&self, race: &RaceId, after: Sequence) -> Result<EventStream<RaceEvent>, RoleError> {
        let log = self.log("report on", race);
        let archived = || self.surroundings.archive()?.verdict(race).ok()?;
        match log {
            Ok(log) => Ok(log.follow(after)),
            Err(unknown) => {
                let Some(archived) = archived() else { return Err(unknown) };
                let sequence = Sequence::START.next();
                let kind = RaceEventKind::Ended(Box::new(archived.verdict));
                let event = RaceEvent { sequence, at: self.surroundings.timer().now(), kind };
                Ok(Box::pin(stream::iter((after < sequence).then_some(Ok(event)))))
            }
        }
    }

    async fn cancel(&self, race: &RaceId, mode: StopMode) -> Result<(), RoleError> {
        self.log("cancel", race)?.cancel(mode);
        Ok(())
    }

    async fn current_race(&self) -> Result<Option<RaceStatus>, RoleError> {
        let now = self.surroundings.timer().now();
        let races = self.lock();
        Ok(races.known.back().and_then(|known| known.log.status(&known.request.race, known.since, now)))
    }

    async fn report(&self, race: &RaceId) -> Result<RaceReport, RoleError> {
        let error = |kind, cause: &str| self.error(format!("report on race {race}"), kind, cause.to_owned());
        let Some(known) = self.known(race) else {
            return self.archived(race).ok_or_else(|| error(RoleErrorKind::Invalid, "it knows no such race"));
        };
        if !known.log.is_ended() {
            return Err(error(RoleErrorKind::Invalid, "it has not ended"));
        }
        let report = known.report.lock().unwrap_or_else(PoisonError::into_inner).clone();
        report.ok_or_else(|| error(RoleErrorKind::Failed, "it never began"))
    }
}

/// An id that no race has.
pub(crate) fn random_id() -> RaceId {
    RaceId::try_from(uuid::Uuid::new_v4().to_string()).expect("a UUID is short and has no special characters")
}

async fn run(
    surroundings: Arc<dyn Surroundings>,
    request: RaceRequest,
    log: Arc<RaceLog>,
    report: ReportSlot,
    earlier: Earlier,
) {
    let (timer, host) = (surroundings.timer(), surroundings.facts().name);
    let begin = async {
        earlier.settled(&*timer, &log).await?;
        begin(&surroundings, &request, &log, report).await
    };
    let begun = tokio::select! {
        begun = begin => begun.map_err(Some),
        _ = log.cancelled(None) => Err(None),
    };
    let Begun { setup, mut recorder, store } = match begun {
        Ok(begun) => begun,
        Err(cause) => {
            let verdict = match cause {
                Some(cause) => {
                    let (role, kind) = (Role::Coordinator, RoleErrorKind::Invalid);
                    let error = RoleError { host, role, phase: format!("start race {}", request.race), kind, cause };
                    info!(%error, "the race cannot begin");
                    log.push(timer.now(), RaceEventKind::RoleFailed(error.clone()));
                    RaceVerdict::not_begun(error)
                }
                None => {
                    info!("the race was cancelled before it began");
                    RaceVerdict::cancelled()
                }
            };
            log.push(timer.now(), RaceEventKind::Ended(Box::new(verdict)));
            surroundings.withdraw(&request.race).await;
            surroundings.forget(request.bundle).await;
            return;
        }
    };
    let notice = {
        let (timer, log, asides) = (Arc::clone(&timer), Arc::clone(&log), recorder.asides());
        move |driver: String, message: String| {
            asides.add(format!("{driver}: {message}"));
            log.push(timer.now(), RaceEventKind::Noticed { driver, message });
        }
    };
    let mut fetching = JoinSet::new();
    if let Some(directory) = recorder.samples_directory() {
        fetching.spawn(recorder.sample_files().fetch_as_they_come(Arc::clone(&surroundings), directory));
    }
    let verdict = tokio::select! {
        // First, so that nothing is told after the end.
        biased;
        verdict = setup.run(timer, log, &mut recorder) => verdict,
        never = never(surroundings.watch_silence(&request.load_driver_hosts, &notice)) => match never {},
    };
    info!(outcome = ?verdict.outcome, errors = verdict.errors.len(), "the race has ended");
    // What is under way goes on below, at full pace.
    fetching.shutdown().await;
    surroundings.withdraw(&request.race).await;
    surroundings.forget(request.bundle).await;
    collect(&*surroundings, &mut recorder, store, verdict.ledger.merged).await;
    recorder.settle();
}

/// Races that were started before this one, and of which something is still to be kept.
struct Earlier {
    races: Vec<(RaceId, CancellationToken)>,
    patience: Duration,
}

impl Earlier {
    /// Waits for them, and tells whom it waits for: what is still on its way would disturb this race.
    async fn settled(self, timer: &dyn Timer, log: &RaceLog) -> Result<(), String> {
        let since = timer.now();
        for (race, settled) in &self.races {
            if timeout(RaceTiming::default().wait_is_news, settled.cancelled()).await.is_ok() {
                continue;
            }
            let waiting = vec![format!("race {race} to be kept as a whole")];
            log.push(timer.now(), RaceEventKind::Waiting { drivers: waiting, since });
            timeout(self.patience, settled.cancelled()).await.map_err(|_| {
                format!(
                    "race {race} has ended, but its raw samples are still collected, or the metrics store still takes it, after \
                     {:?}; `rallyd attach {race}` shows what is missing, and `rallyd restart` gives it up",
                    self.patience
                )
            })?;
        }
        Ok(())
    }
}

/// Waits for what does not return, and for ever after it.
async fn never(work: impl Future<Output = ()>) -> Infallible {
    work.await;
    std::future::pending().await
}

/// A race that is about to run.
struct Begun {
    setup: RaceSetup,
    recorder: ArchiveRecorder,
    /// Where its results go beside the archive.
    store: Option<StoreSettings>,
}

async fn begin(
    surroundings: &Arc<dyn Surroundings>,
    request: &RaceRequest,
    log: &Arc<RaceLog>,
    report: ReportSlot,
) -> Result<Begun, String> {
    let drivers = surroundings.load_drivers(&request.load_driver_hosts).await?;
    let (timer, log) = (surroundings.timer(), Arc::clone(log));
    let notice = move |driver, message| log.push(timer.now(), RaceEventKind::Noticed { driver, message });
    let plan = surroundings.plan(request.bundle).await?;
    let store = StoreSettings::new(&surroundings.reporting()?).map_err(|error| error.to_string())?;
    let mut announcement = None;
    if let Some(store) = store.clone().filter(|_| surroundings.archive().is_some()) {
        let document = RaceDocument::new(request.race.clone(), &plan, env!("CARGO_PKG_VERSION"), crate::REVISION);
        store::prepare(store.clone(), document.clone()).await.map_err(|error| error.to_string())?;
        announcement = Some((store, document));
    }
    let (plan, content) =
        surroundings.ship(&request.race, (plan, request.bundle), &request.load_driver_hosts, Arc::new(notice)).await?;
    let plan = Arc::new(plan);
    // As late as possible: a race that ends before it has begun leaves nothing there.
    if let Some((store, document)) = announcement {
        store::begin(store, document).await.map_err(|error| error.to_string())?;
    }
    let place = store.as_ref().map(StoreSettings::place);
    let recorder = ArchiveRecorder::start(Arc::clone(surroundings), request, Arc::clone(&plan), report, place).await;
    let recorder = recorder.map_err(|error| error.to_string())?;
    let setup = RaceSetup {
        race: request.race.clone(),
        plan,
        content,
        drivers,
        on_driver_loss: request.on_driver_loss,
        timing: RaceTiming::default(),
    };
    Ok(Begun { setup, recorder, store })
}

/// Gets the raw samples that are still missing from the archive of a race that has ended, and the whole into the metrics
/// store, if there is one.
async fn collect(
    surroundings: &dyn Surroundings,
    recorder: &mut ArchiveRecorder,
    store: Option<StoreSettings>,
    samples: u64,
) {
    let missing = recorder.sample_files().all();
    let Some((archive, directory)) = recorder.archive().cloned().zip(recorder.samples_directory()) else { return };
    let mut silent = Vec::new();
    for SampleFile { driver, content } in missing {
        if silent.contains(&driver) {
            continue;
        }
        if let Err(cause) = surroundings.find_samples(&driver, content, &directory, FetchPace::Full).await {
            recorder.notice_late(format!("raw samples of {driver} are missing: {cause}"));
            // The others would take as long to fail.
            silent.push(driver);
        }
    }
    if let Some(store) = store {
        let document = recorder.document().clone();
        let race = document.race_id.clone();
        match store::finish(store, archive, document, store::patience(samples)).await {
            Ok(()) => recorder.stored(),
            Err(error) => recorder.notice_late(format!("{error}; {}", take_from_archive(&race))),
        }
    }
}
