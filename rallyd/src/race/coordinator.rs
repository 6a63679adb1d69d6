//! The owner of races.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rally_core::race::{RaceLog, RaceSetup, RaceTiming, RaceVerdict, Recorder, Timer};
use rally_core::{
    ClusterTime, ContentHash, Coordinator, EventStream, LoadDriver, RaceEvent, RaceEventKind, RaceId, RacePlan,
    RaceRequest, RaceStatus, Role, RoleError, RoleErrorKind, Sequence, StopMode,
};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{Instrument, info, info_span};

use super::text::busy_text;

/// Races that have ended and can still be asked for.
const REMEMBERED: usize = 8;

/// What races need of the host that owns them.
#[async_trait]
pub trait Surroundings: Send + Sync + 'static {
    /// Coordinator time.
    fn timer(&self) -> Arc<dyn Timer>;

    /// Gets a plan, and makes it available to drivers.
    ///
    /// # Errors
    ///
    /// A sentence if nobody has it or it cannot be understood.
    async fn plan(&self, content: ContentHash) -> Result<RacePlan, String>;

    /// Gets the corpora of a race ready here if its drivers are to fetch them from this host, and gives the plan that says
    /// so, with its hash. `notice` takes sentences for the user. By default there is nobody to fetch anything.
    ///
    /// # Errors
    ///
    /// A sentence that names what cannot be had.
    async fn ship(
        &self,
        plan: RacePlan,
        content: ContentHash,
        _notice: Arc<dyn Fn(String) + Send + Sync>,
    ) -> Result<(RacePlan, ContentHash), String> {
        Ok((plan, content))
    }

    /// The load drivers on these hosts, each with the name that the user gave it.
    ///
    /// # Errors
    ///
    /// A sentence that names a host that is not there.
    async fn load_drivers(&self, hosts: &[String]) -> Result<Vec<(String, Arc<dyn LoadDriver>)>, String>;

    /// What keeps the measurements of a race.
    fn recorder(&self, race: &RaceId, plan: &Arc<RacePlan>) -> Box<dyn Recorder>;
}

/// Runs races, one at a time, each as a future of its own. Dropping it ends the race that runs.
pub struct RaceCoordinator {
    /// What users know this host by.
    name: String,
    surroundings: Arc<dyn Surroundings>,
    races: Mutex<Races>,
}

#[derive(Default)]
struct Races {
    /// The latest last.
    known: VecDeque<KnownRace>,
    running: JoinSet<()>,
}

#[derive(Debug)]
struct KnownRace {
    race: RaceId,
    since: ClusterTime,
    log: Arc<RaceLog>,
}

impl fmt::Debug for RaceCoordinator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RaceCoordinator").field("races", &self.lock().known).finish_non_exhaustive()
    }
}

impl RaceCoordinator {
    /// A coordinator without a race; `name` is what users know this host by.
    #[must_use]
    pub fn new(name: String, surroundings: Arc<dyn Surroundings>) -> Self {
        Self { name, surroundings, races: Mutex::default() }
    }

    fn error(&self, phase: String, kind: RoleErrorKind, cause: String) -> RoleError {
        RoleError { host: self.name.clone(), role: Role::Coordinator, phase, kind, cause }
    }

    /// Ends the race that runs, if there is one, and waits for it; one that does not end `within` the time is dropped.
    pub async fn stop(&self, mode: StopMode, within: Duration) {
        let mut running = {
            let mut races = self.lock();
            races.known.iter().for_each(|known| known.log.cancel(mode));
            std::mem::take(&mut races.running)
        };
        if timeout(within, async { while running.join_next().await.is_some() {} }).await.is_err() {
            running.shutdown().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Races> {
        self.races.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self, phase: &str, race: &RaceId) -> Result<Arc<RaceLog>, RoleError> {
        let races = self.lock();
        let known = races.known.iter().rev().find(|known| known.race == *race);
        known.map(|known| Arc::clone(&known.log)).ok_or_else(|| {
            self.error(format!("{phase} race {race}"), RoleErrorKind::Invalid, "it knows no such race".to_owned())
        })
    }
}

#[async_trait]
impl Coordinator for RaceCoordinator {
    async fn start_race(&self, request: RaceRequest) -> Result<(), RoleError> {
        let mut races = self.lock();
        while races.running.try_join_next().is_some() {}
        let now = self.surroundings.timer().now();
        if let Some(KnownRace { race, since, log }) = races.known.back() {
            if *race == request.race {
                // Asked again, because the answer was lost.
                return Ok(());
            }
            if let Some(status) = log.status(race, *since, now) {
                let cause = busy_text(&status);
                return Err(self.error(format!("start race {}", request.race), RoleErrorKind::Busy, cause));
            }
        }
        if races.known.len() == REMEMBERED {
            races.known.pop_front();
        }
        let log = Arc::<RaceLog>::default();
        races.known.push_back(KnownRace { race: request.race.clone(), since: now, log: Arc::clone(&log) });
        let span = info_span!("race", id = %request.race);
        let run = run(self.name.clone(), Arc::clone(&self.surroundings), request, log);
        races.running.spawn(run.instrument(span));
        Ok(())
    }

    async fn events(&self, race: &RaceId, after: Sequence) -> Result<EventStream<RaceEvent>, RoleError> {
        Ok(self.log("report on", race)?.follow(after))
    }

    async fn cancel(&self, race: &RaceId, mode: StopMode) -> Result<(), RoleError> {
        self.log("cancel", race)?.cancel(mode);
        Ok(())
    }

    async fn current_race(&self) -> Result<Option<RaceStatus>, RoleError> {
        let now = self.surroundings.timer().now();
        let races = self.lock();
        Ok(races.known.back().and_then(|known| known.log.status(&known.race, known.since, now)))
    }
}

async fn run(host: String, surroundings: Arc<dyn Surroundings>, request: RaceRequest, log: Arc<RaceLog>) {
    let timer = surroundings.timer();
    let begun = tokio::select! {
        begun = begin(&host, &*surroundings, &request, &log) => begun,
        _ = log.cancelled(None) => Err("it was cancelled before it began".to_owned()),
    };
    let verdict = match begun {
        Ok((setup, mut recorder)) => setup.run(timer, log, &mut *recorder).await,
        Err(cause) => {
            let (role, kind) = (Role::Coordinator, RoleErrorKind::Invalid);
            let error = RoleError { host, role, phase: format!("start race {}", request.race), kind, cause };
            let verdict = RaceVerdict::not_begun(error.clone());
            log.push(timer.now(), RaceEventKind::RoleFailed(error));
            log.push(timer.now(), RaceEventKind::Ended(Box::new(verdict.clone())));
            verdict
        }
    };
    info!(outcome = ?verdict.outcome, errors = verdict.errors.len(), "the race has ended");
}

async fn begin(
    host: &str,
    surroundings: &dyn Surroundings,
    request: &RaceRequest,
    log: &Arc<RaceLog>,
) -> Result<(RaceSetup, Box<dyn Recorder>), String> {
    let drivers = surroundings.load_drivers(&request.load_driver_hosts).await?;
    let (timer, log, driver) = (surroundings.timer(), Arc::clone(log), host.to_owned());
    let notice = move |message| log.push(timer.now(), RaceEventKind::Noticed { driver: driver.clone(), message });
    let plan = surroundings.plan(request.bundle).await?;
    let (plan, content) = surroundings.ship(plan, request.bundle, Arc::new(notice)).await?;
    let plan = Arc::new(plan);
    let recorder = surroundings.recorder(&request.race, &plan);
    let setup = RaceSetup {
        race: request.race.clone(),
        plan,
        content,
        drivers,
        on_driver_loss: request.on_driver_loss,
        timing: RaceTiming::default(),
    };
    Ok((setup, recorder))
}
