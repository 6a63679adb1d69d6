//! Races in this process, from the request to the verdict.

mod shipping;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::http::Uri;
use futures_util::StreamExt;
use rally_core::race::{RaceVerdict, Timer};
use rally_core::track::{Challenge, ChallengeBuilder, Operation, ParallelBuilder, Task, TaskBuilder, Track};
use rally_core::{
    ContentHash, Coordinator, HostFacts, LoadDriver, RaceEvent, RaceEventKind, RaceId, RaceOutcome, RacePlan,
    RaceRequest, RoleErrorKind, Sequence, StopMode,
};
use rally_driver::{Outcome, Params, Registry, RequestTimer, Runner, RunnerError};
use rally_net::{DEFAULT_CERTIFICATE_LIFETIME, HostConfig, Place, Timing, TokenSource};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::cluster::RaceRoles;
use super::sample_files::FetchPace;
use super::{LocalSurroundings, RaceCoordinator, RaceHost, RaceKeeping, Surroundings, View, watch};
use crate::archive::{Archive, ArchiveError, read_intervals};
use crate::settings::ReportingSettings;

/// An operation that takes a moment, or no time at all.
struct Nap {
    timer: std::rc::Rc<RequestTimer>,
    takes: Duration,
}

#[async_trait(?Send)]
impl Runner for Nap {
    fn prepare(&mut self, _: &Params) -> Result<(), RunnerError> {
        Ok(())
    }

    async fn run(&mut self) -> Result<Outcome, RunnerError> {
        self.timer.sent();
        if !self.takes.is_zero() {
            tokio::time::sleep(self.takes).await;
        }
        self.timer.received();
        Ok(Outcome::default())
    }
}

fn task(name: &str, clients: u32) -> TaskBuilder {
    Task::builder(Operation::builder("nap")).name(name).clients(clients)
}

fn plan(build: impl FnOnce(ChallengeBuilder) -> ChallengeBuilder) -> RacePlan {
    let track = Track::builder("t").challenge(build(Challenge::builder("c").default_challenge())).build().unwrap();
    RacePlan { test_mode: true, offline: true, ..RacePlan::new(track, "c") }
}

fn napping() -> Registry {
    let mut registry = Registry::empty();
    for (name, takes) in [("nap", Duration::from_millis(1)), ("blink", Duration::ZERO)] {
        registry.register_runner(name, move |setup| Ok(Nap { timer: std::rc::Rc::clone(&setup.timer), takes }));
    }
    registry
}

/// A race of these hosts.
fn request(race: &str, bundle: ContentHash, load_drivers: &[&str]) -> RaceRequest {
    RaceRequest {
        race: race.parse().unwrap(),
        bundle,
        load_driver_hosts: load_drivers.iter().map(|&host| host.to_owned()).collect(),
        provisioner_hosts: Vec::new(),
        on_driver_loss: Default::default(),
    }
}

/// A coordinator with a driver in this process, and where it keeps its files.
struct Alone {
    _directory: tempfile::TempDir,
    surroundings: Arc<LocalSurroundings>,
    coordinator: RaceCoordinator,
}

impl Alone {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let facts = HostFacts { name: "here".to_owned(), cores: 2, ..HostFacts::default() };
        let (data, samples) = (directory.path().join("data"), directory.path().join("samples"));
        let surroundings = Arc::new(LocalSurroundings::new(facts, Arc::new(napping()), data, samples));
        let coordinator = RaceCoordinator::new(Arc::<LocalSurroundings>::clone(&surroundings));
        Self { _directory: directory, surroundings, coordinator }
    }

    async fn request(&self, race: &str, plan: &RacePlan) -> RaceRequest {
        let bundle = self.surroundings.keep(serde_json::to_vec(plan).unwrap()).await.unwrap();
        RaceRequest::new(race.parse().unwrap(), bundle, ["localhost"])
    }

    async fn start(&self, race: &str, plan: &RacePlan) -> RaceId {
        let request = self.request(race, plan).await;
        let race = request.race.clone();
        self.coordinator.start_race(request).await.unwrap();
        race
    }

    async fn verdict(&self, race: &RaceId) -> RaceVerdict {
        watch(&self.coordinator, race, &mut View::quiet()).await.unwrap()
    }

    async fn all_events(&self, race: &RaceId) -> Vec<RaceEvent> {
        let events = self.coordinator.events(race, Sequence::START).await.unwrap();
        events.map(|event| event.unwrap()).collect().await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_race_runs_all_its_steps_and_accounts_for_every_sample() {
    let place = Alone::new();
    let plan = plan(|challenge| {
        let pair = ParallelBuilder::new().task(task("search", 2).iterations(5)).task(task("count", 1).iterations(3));
        challenge.task(task("index", 3).iterations(10)).parallel(pair)
    });
    let race = place.start("one", &plan).await;
    let verdict = place.verdict(&race).await;
    assert_eq!(
        (verdict.outcome, &verdict.errors[..], &verdict.shortfalls[..]),
        (RaceOutcome::Completed, &[][..], &[][..])
    );
    assert_eq!(verdict.ledger.merged, 3 * 10 + 2 * 5 + 3);

    // Whoever comes after its end sees how it went.
    let steps: Vec<_> = place
        .all_events(&race)
        .await
        .into_iter()
        .filter_map(|event| match event.kind {
            RaceEventKind::StepStarted { step, tasks, .. } => {
                Some((step.until.0, tasks.into_iter().map(|task| task.name).collect::<Vec<_>>().join(" ")))
            }
            _ => None,
        })
        .collect();
    assert_eq!(steps, [(1, "index".to_owned()), (2, "search count".to_owned())]);
    assert_eq!(place.coordinator.current_race().await, Ok(None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_task_that_completes_a_step_ends_one_that_would_go_on_for_ever() {
    let place = Alone::new();
    let plan = plan(|challenge| {
        let endless = task("search", 2).property("time-period", 100_000);
        let pair = ParallelBuilder::new().task(task("index", 1).iterations(20)).task(endless).completed_by("index");
        challenge.parallel(pair)
    });
    let race = place.start("one", &plan).await;
    assert_eq!(place.verdict(&race).await.outcome, RaceOutcome::Completed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_race_can_be_cancelled_and_the_next_one_runs() {
    let place = Alone::new();
    let endless = plan(|challenge| challenge.task(task("search", 2).time_period(Duration::from_secs(100_000))));
    let race = place.start("endless", &endless).await;
    let mut events = place.coordinator.events(&race, Sequence::START).await.unwrap();
    while !matches!(events.next().await.unwrap().unwrap().kind, RaceEventKind::StepStarted { .. }) {}

    let second = place.coordinator.start_race(place.request("second", &endless).await).await.unwrap_err();
    assert_eq!(second.kind, RoleErrorKind::Busy);
    assert!(second.cause.contains("race endless has run for 0 s on localhost; `rallyd attach endless`"), "{second}");
    // Whoever asks twice for the same gets it once; another race cannot have the same id.
    place.coordinator.start_race(place.request("endless", &endless).await).await.unwrap();
    let other = plan(|challenge| challenge.task(task("other", 1)));
    let other = place.coordinator.start_race(place.request("endless", &other).await).await.unwrap_err();
    assert_eq!(other.kind, RoleErrorKind::Invalid);
    assert!(other.cause.contains("choose another --race-id"), "{other}");
    let status = place.coordinator.current_race().await.unwrap().unwrap();
    let step = status.step.unwrap();
    assert_eq!((&status.race, step.step.until.0, step.of, &*step.tasks[0].name), (&race, 1, 1, "search"));

    place.coordinator.cancel(&race, StopMode::Drain).await.unwrap();
    assert_eq!(place.verdict(&race).await.outcome, RaceOutcome::Cancelled);
    let again = place.coordinator.start_race(place.request("endless", &endless).await).await.unwrap_err();
    assert!(again.cause.contains("there has been a race endless already"), "{again}");

    let short = plan(|challenge| challenge.task(task("index", 1).iterations(1)));
    let race = place.start("short", &short).await;
    assert_eq!(place.verdict(&race).await.outcome, RaceOutcome::Completed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_race_that_cannot_be_run_fails_with_the_reason() {
    let place = Alone::new();
    let unknown = plan(|challenge| challenge.task(Task::builder(Operation::builder("fly")).name("fly")));
    let race = place.start("unknown", &unknown).await;
    let verdict = place.verdict(&race).await;
    assert_eq!(verdict.outcome, RaceOutcome::Failed);
    assert!(verdict.errors[0].to_string().contains("`fly`"), "{verdict:?}");

    let mut elsewhere = place.request("elsewhere", &unknown).await;
    elsewhere.load_driver_hosts = vec!["10.0.0.7".to_owned()];
    let race = elsewhere.race.clone();
    place.coordinator.start_race(elsewhere).await.unwrap();
    let verdict = place.verdict(&race).await;
    assert!(verdict.errors[0].cause.contains("10.0.0.7"), "{verdict:?}");
    assert!(place.coordinator.events(&"other".parse().unwrap(), Sequence::START).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_that_cannot_be_written_is_named_and_stops_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let facts = HostFacts { name: "here".to_owned(), cores: 1, ..HostFacts::default() };
    let file = directory.path().join("races");
    std::fs::write(&file, "not a directory").unwrap();
    let samples = directory.path().join("samples");
    let surroundings = LocalSurroundings::new(facts, Arc::new(napping()), directory.path().join("data"), samples);
    let surroundings = Arc::new(surroundings.archive_in(Archive::new(&file), ReportingSettings::default()));
    let plan = plan(|challenge| challenge.task(task("index", 1).iterations(10)));
    let bundle = surroundings.keep(serde_json::to_vec(&plan).unwrap()).await.unwrap();
    let request = RaceRequest::new("kept".parse().unwrap(), bundle, ["localhost"]);
    let race = request.race.clone();
    let coordinator = RaceCoordinator::new(surroundings);
    coordinator.start_race(request).await.unwrap();
    let verdict = watch(&coordinator, &race, &mut View::quiet()).await.unwrap();
    assert_eq!(verdict.outcome, RaceOutcome::Completed);
    let report = coordinator.report(&race).await.unwrap();
    assert_eq!(report.race.results.unwrap().op_metrics[0].error_rate, 0.0);
    assert!(
        report.findings.archive.iter().any(|text| text.contains("cannot make") && text.contains("File exists")),
        "{:?}",
        report.findings
    );
    coordinator.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archived_race_keeps_its_id_and_can_still_be_watched() {
    let directory = tempfile::tempdir().unwrap();
    let facts = HostFacts { name: "here".to_owned(), cores: 1, ..HostFacts::default() };
    let (data, samples) = (directory.path().join("data"), directory.path().join("samples"));
    let archive = Archive::new(directory.path().join("races"));
    let surroundings = LocalSurroundings::new(facts, Arc::new(napping()), data, samples);
    let surroundings = Arc::new(surroundings.archive_in(archive, ReportingSettings::default()));
    let plan = plan(|challenge| challenge.task(task("index", 1).iterations(10)));
    let bundle = surroundings.keep(serde_json::to_vec(&plan).unwrap()).await.unwrap();
    let request = RaceRequest::new("kept".parse().unwrap(), bundle, ["localhost"]);
    let race = request.race.clone();
    let coordinator = RaceCoordinator::new(Arc::<LocalSurroundings>::clone(&surroundings));
    coordinator.start_race(request.clone()).await.unwrap();
    let verdict = watch(&coordinator, &race, &mut View::quiet()).await.unwrap();
    coordinator.settled().await;
    let report = coordinator.report(&race).await.unwrap();
    assert!(report.is_settled);

    let next = RaceCoordinator::new(surroundings);
    let error = next.start_race(request).await.unwrap_err();
    assert!(error.cause.contains("`rallyd delete race --id=kept`"), "{error}");
    assert_eq!(watch(&next, &race, &mut View::quiet()).await.unwrap(), verdict);
    assert_eq!(next.events(&race, Sequence(1)).await.unwrap().count().await, 0);
    assert_eq!(next.report(&race).await.unwrap(), report);
}

/// Where a race is held up for as long as the test says.
#[derive(Default)]
struct Gate {
    reached: CancellationToken,
    open: CancellationToken,
}

impl Gate {
    fn open() -> Self {
        let gate = Self::default();
        gate.open.cancel();
        gate
    }

    async fn pass(&self) {
        self.reached.cancel();
        self.open.cancelled().await;
    }
}

/// Surroundings whose plans and raw samples are only there when the test says so.
struct Slow {
    local: LocalSurroundings,
    plans: CancellationToken,
    samples: CancellationToken,
    ship: Gate,
    is_among: Gate,
}

impl Slow {
    fn new(directory: &Path) -> Self {
        let facts = HostFacts { name: "here".to_owned(), cores: 2, ..HostFacts::default() };
        let [data, samples, races] = ["data", "samples", "races"].map(|name| directory.join(name));
        let local = LocalSurroundings::new(facts, Arc::new(napping()), data, samples);
        let local = local.archive_in(Archive::new(races), ReportingSettings::default());
        let (plans, samples) = (CancellationToken::new(), CancellationToken::new());
        Self { local, plans, samples, ship: Gate::open(), is_among: Gate::open() }
    }
}

#[async_trait]
impl Surroundings for Slow {
    fn facts(&self) -> HostFacts {
        self.local.facts()
    }

    fn timer(&self) -> Arc<dyn Timer> {
        self.local.timer()
    }

    async fn keep(&self, plan: Vec<u8>) -> Result<ContentHash, String> {
        self.local.keep(plan).await
    }

    async fn plan(&self, content: ContentHash) -> Result<RacePlan, String> {
        self.plans.cancelled().await;
        self.local.plan(content).await
    }

    async fn ship(
        &self,
        _: &RaceId,
        plan: (RacePlan, ContentHash),
        _: &[String],
        _: Arc<dyn Fn(String, String) + Send + Sync>,
    ) -> Result<(RacePlan, ContentHash), String> {
        self.ship.pass().await;
        Ok(plan)
    }

    async fn is_among(&self, _: &[String]) -> bool {
        self.is_among.pass().await;
        true
    }

    fn reporting(&self) -> Result<ReportingSettings, String> {
        self.local.reporting()
    }

    async fn load_drivers(&self, hosts: &[String]) -> Result<Vec<(String, Arc<dyn LoadDriver>)>, String> {
        self.local.load_drivers(hosts).await
    }

    fn archive(&self) -> Option<Archive> {
        self.local.archive()
    }

    async fn find_samples(
        &self,
        driver: &str,
        content: ContentHash,
        directory: &Path,
        pace: FetchPace,
    ) -> Result<(), String> {
        self.samples.cancelled().await;
        self.local.find_samples(driver, content, directory, pace).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_race_that_is_cancelled_before_it_begins_was_cancelled_and_has_not_failed() {
    let directory = tempfile::tempdir().unwrap();
    let coordinator = RaceCoordinator::new(Arc::new(Slow::new(directory.path())));
    let plan = plan(|challenge| challenge.task(task("index", 1)));
    let race = coordinator.race(&plan, &["localhost"]).await.unwrap();
    coordinator.cancel(&race, StopMode::Drain).await.unwrap();
    assert_eq!(coordinator.verdict(&race).await, Ok(RaceVerdict::cancelled()));
    coordinator.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_race_that_is_cancelled_just_before_it_is_archived_leaves_its_id_to_others() {
    let directory = tempfile::tempdir().unwrap();
    let surroundings = Arc::new(Slow { is_among: Gate::default(), ..Slow::new(directory.path()) });
    surroundings.plans.cancel();
    let coordinator = RaceCoordinator::new(Arc::<Slow>::clone(&surroundings));
    let race = coordinator.race(&plan(|challenge| challenge.task(task("index", 1))), &["localhost"]).await.unwrap();
    surroundings.is_among.reached.cancelled().await;
    coordinator.cancel(&race, StopMode::Drain).await.unwrap();
    assert_eq!(coordinator.verdict(&race).await, Ok(RaceVerdict::cancelled()));
    coordinator.settled().await;
    assert!(!surroundings.archive().unwrap().directory(&race).exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_race_that_is_cancelled_while_corpora_are_made_ready_leaves_nothing_in_the_metrics_store() {
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let paths = Arc::clone(&asked);
    let answer = move |uri: Uri| {
        paths.lock().unwrap().push(uri.path().to_owned());
        std::future::ready("{}")
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let reporting = ReportingSettings {
        datastore_type: Some("elasticsearch".to_owned()),
        datastore_host: Some(listener.local_addr().unwrap().to_string()),
        ..ReportingSettings::default()
    };
    let mut serving = JoinSet::new();
    serving.spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await.unwrap() });

    let directory = tempfile::tempdir().unwrap();
    let mut surroundings = Slow::new(directory.path());
    let archive = surroundings.archive().unwrap();
    surroundings.local = surroundings.local.archive_in(archive, reporting);
    surroundings.ship = Gate::default();
    surroundings.plans.cancel();
    let surroundings = Arc::new(surroundings);
    let coordinator = RaceCoordinator::new(Arc::<Slow>::clone(&surroundings));
    let race = coordinator.race(&plan(|challenge| challenge.task(task("index", 1))), &["localhost"]).await.unwrap();
    surroundings.ship.reached.cancelled().await;
    coordinator.cancel(&race, StopMode::Drain).await.unwrap();
    assert_eq!(coordinator.verdict(&race).await, Ok(RaceVerdict::cancelled()));
    coordinator.settled().await;
    let asked = asked.lock().unwrap();
    assert!(asked.contains(&"/".to_owned()), "the store was tried: {asked:?}");
    assert!(!asked.iter().any(|path| path.starts_with("/rally-")), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_loses_patience_with_a_race_disturbs_neither_it_nor_others_who_wait() {
    let place = Alone::new();
    let endless = plan(|challenge| challenge.task(task("search", 1).time_period(Duration::from_secs(100_000))));
    let race = place.start("endless", &endless).await;
    let settled = || timeout(Duration::from_millis(20), place.coordinator.settled());
    assert!(settled().await.is_err() && settled().await.is_err(), "it still runs");
    assert_eq!(place.coordinator.current_race().await.unwrap().map(|it| it.race), Some(race.clone()));
    let others = async { tokio::join!(place.coordinator.settled(), place.coordinator.settled()) };
    let ((), cancelled) = tokio::join!(
        async {
            others.await;
        },
        place.coordinator.cancel(&race, StopMode::Now)
    );
    cancelled.unwrap();
    assert_eq!(place.verdict(&race).await.outcome, RaceOutcome::Cancelled);
    place.coordinator.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_still_to_come_of_a_race_holds_up_the_next_one_for_a_while_and_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let surroundings = Arc::new(Slow::new(directory.path()));
    surroundings.plans.cancel();
    let archive = surroundings.archive().unwrap();
    let mut coordinator = RaceCoordinator::new(Arc::<Slow>::clone(&surroundings));
    coordinator.patience = Duration::from_millis(1);
    let mut plan = plan(|challenge| challenge.task(task("index", 1).iterations(3)));
    plan.sample_bytes = 1 << 20;
    let first = coordinator.race(&plan, &["localhost"]).await.unwrap();
    assert_eq!(coordinator.verdict(&first).await.unwrap().outcome, RaceOutcome::Completed);
    let told = coordinator.report(&first).await.unwrap();
    assert_eq!((told.is_settled, &told.findings.archive[..]), (false, &[][..]));
    assert!(matches!(archive.delete(&first), Err(ArchiveError::InUse { .. })));
    let still = ["raw samples of localhost are still to come"];
    assert_eq!(archive.verdict(&first).unwrap().unwrap().findings.archive, still);

    let second = coordinator.race(&plan, &["localhost"]).await.unwrap();
    let mut events = coordinator.events(&second, Sequence::START).await.unwrap();
    let waiting = events.next().await.unwrap().unwrap().kind;
    let RaceEventKind::Waiting { drivers, .. } = waiting else { panic!("{waiting:?}") };
    assert_eq!(drivers, [format!("race {first} to be kept as a whole")]);
    let verdict = coordinator.verdict(&second).await.unwrap();
    assert_eq!(verdict.outcome, RaceOutcome::Failed);
    assert!(verdict.errors[0].cause.contains(&format!("race {first} has ended, but")), "{verdict:?}");

    // Nobody collects any more; whoever comes later hears of it.
    coordinator.stop(StopMode::Now, Duration::ZERO).await;
    let later = RaceCoordinator::new(Arc::<Slow>::clone(&surroundings));
    let told = later.report(&first).await.unwrap();
    let [missing] = &told.findings.archive[..] else { panic!("{told:?}") };
    assert!(told.is_settled && missing.starts_with("raw samples of localhost are missing: whoever ran"), "{missing}");
    archive.delete(&first).unwrap();

    surroundings.samples.cancel();
    let third = later.race(&plan, &["localhost"]).await.unwrap();
    assert_eq!(later.verdict(&third).await.unwrap().outcome, RaceOutcome::Completed);
    later.settled().await;
    let told = later.report(&third).await.unwrap();
    assert_eq!((told.is_settled, &told.findings.archive[..]), (true, &[][..]));
    assert!(archive.verdict(&third).unwrap().unwrap().findings.archive.is_empty());
}

#[test]
fn what_an_earlier_run_of_a_host_left_of_races_is_deleted() {
    let directory = tempfile::tempdir().unwrap();
    for (place, file) in [("plans", "a.json"), ("samples", "b.parquet")] {
        std::fs::create_dir(directory.path().join(place)).unwrap();
        std::fs::write(directory.path().join(place).join(file), "secret").unwrap();
    }
    std::fs::write(directory.path().join("identity"), "kept").unwrap();
    let data = directory.path().join("data");
    RaceRoles::new(HostFacts::default(), Arc::new(napping()), directory.path(), data, None);
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(left, ["identity"]);
}

/// A host of a cluster on loopback, and where it keeps its files.
struct Member {
    directory: tempfile::TempDir,
    host: RaceHost,
}

impl Member {
    async fn start(name: &str, place: Place) -> Self {
        Self::start_with(napping(), name, place).await
    }

    async fn start_with(registry: Registry, name: &str, place: Place) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let facts = HostFacts { name: name.to_owned(), cores: 1, ..HostFacts::default() };
        let is_coordinator = matches!(place, Place::Coordinator { .. });
        let data = directory.path().join("data");
        let archive = Archive::new(directory.path().join("races"));
        let reporting = Box::new(|| Ok(ReportingSettings::default()));
        let keeping = is_coordinator.then_some(RaceKeeping { archive, reporting });
        let config = HostConfig::new(directory.path(), "127.0.0.1:0".parse().unwrap(), place);
        let timing = Timing {
            heartbeat: Duration::from_millis(50),
            suspect_after: Duration::from_millis(300),
            dead_after: Duration::from_millis(800),
            ..Timing::default()
        };
        let config = HostConfig { facts, timing, ..config };
        let host = RaceHost::start_with(config, Arc::new(registry), data, keeping).await.unwrap();
        host.host().joined().await.unwrap();
        Self { directory, host }
    }

    async fn coordinator() -> Self {
        Self::start("coordinator", Place::Coordinator { certificate_lifetime: DEFAULT_CERTIFICATE_LIFETIME }).await
    }

    async fn of(coordinator: &Self, name: &str) -> Self {
        Self::of_with(napping(), coordinator, name).await
    }

    async fn of_with(registry: Registry, coordinator: &Self, name: &str) -> Self {
        let token = TokenSource::CoordinatorDirectory(coordinator.directory.path().to_owned());
        let place = Place::Member { coordinator: coordinator.host.host().address(), token };
        let member = Self::start_with(registry, name, place).await;
        let known = || coordinator.host.host().peer(member.host.host().id().unwrap()).is_some();
        while !known() {
            tokio::task::yield_now().await;
        }
        member
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_starts_and_watches_a_race_that_two_others_drive_together() {
    let coordinator = Member::coordinator().await;
    let a = Member::of(&coordinator, "a").await;
    // As far as is known of it, it is the machine of the coordinator.
    let b = Member::of(&coordinator, "coordinator").await;
    let plan = plan(|challenge| {
        let endless = task("search", 3).property("time-period", 100_000);
        let pair = ParallelBuilder::new().task(task("index", 1).iterations(20)).task(endless).completed_by("index");
        challenge.task(task("warm", 4).iterations(10)).parallel(pair)
    });
    let bundle = a.host.roles().content.keep(serde_json::to_vec(&plan).unwrap()).await.unwrap();
    let request = RaceRequest {
        race: "far".parse().unwrap(),
        bundle,
        load_driver_hosts: vec!["a".to_owned(), b.host.host().address().to_string()],
        provisioner_hosts: Vec::new(),
        on_driver_loss: Default::default(),
    };
    let plan_on = |member: &Member| member.directory.path().join(format!("plans/{bundle}.json"));
    assert_eq!(std::fs::metadata(plan_on(&a)).unwrap().permissions().mode() & 0o777, 0o600);
    let remote = a.host.host().remote_coordinator();
    let race = request.race.clone();
    remote.start_race(request.clone()).await.unwrap();
    let verdict = watch(&remote, &race, &mut View::quiet()).await.unwrap();
    assert_eq!((verdict.outcome, &verdict.errors[..]), (RaceOutcome::Completed, &[][..]), "{verdict:?}");
    assert!(verdict.ledger.merged > 4 * 10 + 20, "{verdict:?}");

    // Whoever watched it has its results, and so has the coordinator's archive.
    let report = remote.report(&race).await.unwrap();
    let tasks: Vec<_> = report.race.results.as_ref().unwrap().op_metrics.iter().map(|it| it.task.clone()).collect();
    assert_eq!(tasks, ["warm", "index", "search"]);
    let names: Vec<_> = report.findings.drivers.iter().map(|it| it.driver.clone()).collect();
    assert_eq!(names, [b.host.host().address().to_string(), "a".to_owned()]);
    let archive = Archive::new(coordinator.directory.path().join("races"));
    assert_eq!(archive.load(&race).unwrap(), report.race);
    assert_eq!(archive.verdict(&race).unwrap().unwrap().verdict, verdict);
    assert!(remote.report(&"other".parse().unwrap()).await.is_err());
    let hosts: Vec<serde_json::Value> =
        serde_json::from_slice(&std::fs::read(archive.hosts_path(&race)).unwrap()).unwrap();
    let roles: Vec<_> =
        hosts.iter().map(|host| (host["role"].as_str().unwrap(), host["facts"]["cores"].as_u64())).collect();
    assert_eq!(roles, [("load driver", Some(1)), ("load driver", Some(1)), ("coordinator", Some(1))]);
    for host in &hosts {
        // When the race began, a host that had just joined may not have known its clock yet.
        let clock = &host["clock"]["end"];
        assert!(clock["offset"].is_i64() && clock["error"].is_u64() && clock["wall_shift"].is_i64(), "{host}");
    }

    // Nobody keeps the plan, which may hold passwords.
    for member in [&coordinator, &a, &b] {
        while plan_on(member).exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    // Both took part, and both are free again.
    let events = remote.events(&race, Sequence::START).await.unwrap();
    let started: Vec<_> = events.map(|event| event.unwrap().kind).collect().await;
    let RaceEventKind::Started { drivers, .. } = &started[0] else { panic!("{started:?}") };
    let drivers: Vec<_> = drivers.iter().map(|driver| (driver.name.clone(), driver.clients.clone())).collect();
    assert_eq!(drivers, [("a".to_owned(), 0..2), (b.host.host().address().to_string(), 2..4)]);

    let unknown = RaceRequest { race: "none".parse().unwrap(), load_driver_hosts: vec!["c".to_owned()], ..request };
    remote.start_race(unknown).await.unwrap();
    let verdict = watch(&remote, &"none".parse().unwrap(), &mut View::quiet()).await.unwrap();
    assert!(verdict.errors[0].cause.contains("there is no host c in the cluster; its hosts are"), "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_race_whose_driver_leaves_fails_with_its_name() {
    let coordinator = Member::coordinator().await;
    let a = Member::of(&coordinator, "a").await;
    let b = Member::of(&coordinator, "b").await;
    let plan = plan(|challenge| challenge.task(task("search", 2).time_period(Duration::from_secs(100_000))));
    let bundle = coordinator.host.roles().content.keep(serde_json::to_vec(&plan).unwrap()).await.unwrap();
    let owner = Arc::clone(coordinator.host.coordinator().unwrap());
    let race: RaceId = "short".parse().unwrap();
    let request = request(race.as_str(), bundle, &["a", "b"]);
    owner.start_race(request).await.unwrap();
    let mut events = owner.events(&race, Sequence::START).await.unwrap();
    while !matches!(events.next().await.unwrap().unwrap().kind, RaceEventKind::StepStarted { .. }) {}
    drop(b);
    let verdict = watch(&*owner, &race, &mut View::quiet()).await.unwrap();
    assert_eq!(verdict.outcome, RaceOutcome::Failed);
    assert_eq!(verdict.errors[0].host, "b");
    assert!(verdict.errors[0].phase.contains("drive step 1 (search)"), "{verdict:?}");
    // It is named before it is given up.
    let all: Vec<_> = owner.events(&race, Sequence::START).await.unwrap().map(Result::unwrap).collect().await;
    let silent = |event: &RaceEvent| match &event.kind {
        RaceEventKind::Noticed { driver, message } => driver == "b" && message.starts_with("it has been silent for"),
        _ => false,
    };
    let failed = |event: &RaceEvent| matches!(event.kind, RaceEventKind::RoleFailed(_));
    let (silent, failed) = (all.iter().position(silent), all.iter().position(failed));
    assert!(silent.is_some() && silent < failed, "{all:?}");
    let notices = owner.report(&race).await.unwrap().findings.notices;
    assert!(notices.iter().any(|notice| notice.starts_with("b: it has been silent for")), "{notices:?}");
    drop(a);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raw_samples_arrive_while_a_race_runs_and_outlive_their_drivers() {
    let coordinator = Member::coordinator().await;
    let a = Member::of(&coordinator, "a").await;
    let b = Member::of(&coordinator, "b").await;
    let blink = Task::builder(Operation::builder("blink")).name("blink").clients(2);
    let mut plan = plan(|challenge| challenge.task(blink.time_period(Duration::from_secs(100_000))));
    // The first file is the last one.
    plan.sample_bytes = 1_000;
    let bundle = coordinator.host.roles().content.keep(serde_json::to_vec(&plan).unwrap()).await.unwrap();
    let owner = Arc::clone(coordinator.host.coordinator().unwrap());
    let race: RaceId = "long".parse().unwrap();
    owner.start_race(request(race.as_str(), bundle, &["a", "b"])).await.unwrap();
    let archive = Archive::new(coordinator.directory.path().join("races"));
    let directory = archive.samples_directory(&race);
    let files = || {
        let files = std::fs::read_dir(&directory).into_iter().flatten().map(|file| file.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|it| it == "parquet")).count()
    };
    let b_has_told = || {
        let mut told = false;
        let read = read_intervals(&archive.intervals_path(&race), |recorded| told |= recorded.driver == "b");
        read.is_ok() && told
    };
    let arrived = async {
        while files() < 2 || !b_has_told() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), arrived).await.expect("samples should arrive while the race runs");
    assert!(owner.current_race().await.unwrap().is_some());
    drop(b);
    let verdict = watch(&*owner, &race, &mut View::quiet()).await.unwrap();
    assert_eq!((verdict.outcome, verdict.errors[0].host.as_str()), (RaceOutcome::Failed, "b"));
    owner.settled().await;
    let report = owner.report(&race).await.unwrap();
    // Both files are there, and none is known to be missing.
    let missing = "raw samples of b are missing that were in no complete file when it was lost";
    assert_eq!((files(), &report.findings.archive[..]), (2, &[missing.to_owned()][..]));
    drop(a);
}
