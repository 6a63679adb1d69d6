//! A race on drivers of this process, with operations that need no server.

use std::error::Error;
use std::fs::File;
use std::ops::Range;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::join_all;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::RowAccessor;
use rally_core::metrics::{Interval, SampleType, TaskInterval};
use rally_core::track::{Challenge, ChallengeBuilder, Task, TaskBuilder, Track};
use rally_core::{
    Allocation, ContentHash, DriverAssignment, DriverEvent, DriverEventKind, EventStream, HostFacts, JoinPoint,
    LoadDriver, RaceId, RacePlan, Sequence, Step, StopMode,
};
use rally_driver::{
    ContentSource, CoordinatorClock, DriverOptions, LocalLoadDriver, Outcome, Params, Registry, RequestTimer, Runner,
    RunnerError, RunnerSetup, local_clock,
};
use tempfile::TempDir;

/// One execution, as its runner saw it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Call {
    pub(crate) task: String,
    /// Of the task.
    pub(crate) client: u32,
    /// How many this client had before.
    pub(crate) number: u64,
    /// In nanoseconds of the driver's clock.
    pub(crate) at: u64,
}

/// Everything that runners were called for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Calls(Arc<Mutex<Vec<Call>>>);

impl Calls {
    pub(crate) fn all(&self) -> Vec<Call> {
        self.0.lock().unwrap().clone()
    }

    /// Task, client and number, sorted.
    pub(crate) fn what(&self) -> Vec<(String, u32, u64)> {
        let mut all: Vec<_> = self.all().into_iter().map(|call| (call.task, call.client, call.number)).collect();
        all.sort();
        all
    }

    /// Waits for the first call of a task.
    pub(crate) async fn begun(&self, task: &str) {
        while self.count(task) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(crate) fn count(&self, task: &str) -> usize {
        self.all().iter().filter(|call| call.task == task).count()
    }
}

/// What a scripted runner does when it is called.
type Script = dyn Fn(&Call) -> (Duration, Result<Outcome, RunnerError>) + Send + Sync;

/// A registry whose operation `scripted` takes as long and ends as the script says.
pub(crate) fn scripted(
    script: impl Fn(&Call) -> (Duration, Result<Outcome, RunnerError>) + Send + Sync + 'static,
) -> (Registry, Calls) {
    let calls = Calls::default();
    let mut registry = Registry::empty();
    let (script, log): (Arc<Script>, _) = (Arc::new(script), calls.clone());
    registry.register_runner("scripted", move |setup| {
        Ok(Scripted {
            timer: Rc::clone(&setup.timer),
            task: Arc::clone(&setup.task),
            client: setup.partition.index,
            number: 0,
            script: Arc::clone(&script),
            calls: log.clone(),
        })
    });
    (registry, calls)
}

/// A script that succeeds after a time.
pub(crate) fn takes(milliseconds: u64) -> (Duration, Result<Outcome, RunnerError>) {
    (Duration::from_millis(milliseconds), Ok(Outcome::default()))
}

struct Scripted {
    timer: Rc<RequestTimer>,
    task: Arc<Task>,
    client: u32,
    number: u64,
    script: Arc<Script>,
    calls: Calls,
}

#[async_trait(?Send)]
impl Runner for Scripted {
    fn prepare(&mut self, _params: &Params) -> Result<(), RunnerError> {
        Ok(())
    }

    async fn run(&mut self) -> Result<Outcome, RunnerError> {
        let at = RequestTimer::now();
        let call = Call { task: self.task.name.clone(), client: self.client, number: self.number, at };
        self.number += 1;
        let (delay, outcome) = (self.script)(&call);
        self.calls.0.lock().unwrap().push(call);
        self.timer.sent();
        if delay > Duration::ZERO {
            tokio::time::sleep(delay).await;
        }
        self.timer.received();
        outcome
    }
}

/// A runner whose requests take no time, with something that lives as long as it does.
pub(crate) struct Instant<T>(Rc<RequestTimer>, T);

impl<T> Instant<T> {
    pub(crate) fn with(setup: &RunnerSetup, companion: T) -> Self {
        Self(Rc::clone(&setup.timer), companion)
    }
}

/// What is told of the executions of an [`Instant`].
pub(crate) trait Companion {
    fn prepare(&mut self, _params: &Params) {}

    fn run(&mut self) {}
}

impl Companion for () {}

#[async_trait(?Send)]
impl<T: Companion> Runner for Instant<T> {
    fn prepare(&mut self, params: &Params) -> Result<(), RunnerError> {
        self.1.prepare(params);
        Ok(())
    }

    async fn run(&mut self) -> Result<Outcome, RunnerError> {
        self.0.sent();
        self.0.received();
        self.1.run();
        Ok(Outcome::default())
    }
}

/// A task with the operation `scripted`.
pub(crate) fn task(name: &str) -> TaskBuilder {
    Task::builder(rally_core::track::Operation::builder("scripted")).name(name)
}

pub(crate) fn challenge() -> ChallengeBuilder {
    Challenge::builder("only")
}

/// A race of one challenge.
pub(crate) fn plan(challenge: ChallengeBuilder) -> RacePlan {
    let track = Track::builder("tests").challenge(challenge).build().unwrap();
    RacePlan {
        test_mode: true,
        offline: true,
        distribution_version: Some("8.15.0".to_owned()),
        skip_rest_api_check: true,
        ..RacePlan::new(track, "only")
    }
}

struct Plan(Bytes);

#[async_trait]
impl ContentSource for Plan {
    async fn fetch(&self, _content: ContentHash) -> Result<Bytes, Box<dyn Error + Send + Sync>> {
        Ok(self.0.clone())
    }
}

/// One driver in one race.
pub(crate) struct Race {
    pub(crate) driver: LocalLoadDriver,
    pub(crate) id: RaceId,
    pub(crate) clock: CoordinatorClock,
    _directory: TempDir,
    pub(crate) assignment: DriverAssignment,
    events: EventStream<DriverEvent>,
}

/// What a driver told until it reached a join point, or the end.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) intervals: Vec<Interval>,
    pub(crate) others: Vec<DriverEventKind>,
}

impl Told {
    pub(crate) fn samples(&self, task: u32, sample_type: SampleType) -> u64 {
        self.tasks(task, sample_type).map(|interval| interval.samples).sum()
    }

    pub(crate) fn tasks(&self, task: u32, sample_type: SampleType) -> impl Iterator<Item = &TaskInterval> {
        let all = self.intervals.iter().flat_map(|interval| &interval.tasks);
        all.filter(move |interval| {
            interval.inner.is_none() && interval.task.0 == task && interval.sample_type == sample_type
        })
    }

    pub(crate) fn failure(&self) -> Option<String> {
        self.others.iter().find_map(|kind| match kind {
            DriverEventKind::Failed(error) => Some(error.to_string()),
            _ => None,
        })
    }
}

impl Race {
    /// Prepares a race on a driver that has all clients.
    pub(crate) async fn prepare(registry: Registry, plan: &RacePlan, cores: u32) -> Self {
        let clients = Allocation::new(plan.challenge().unwrap()).clients;
        Self::prepare_share(registry, plan, cores, 0..clients).await
    }

    /// Prepares a race on a driver that has some of the clients.
    pub(crate) async fn prepare_share(registry: Registry, plan: &RacePlan, cores: u32, clients: Range<u32>) -> Self {
        Self::prepare_with(registry, plan, cores, clients, |_| ()).await
    }

    /// The same on a driver whose options are adjusted.
    pub(crate) async fn prepare_with(
        registry: Registry,
        plan: &RacePlan,
        cores: u32,
        clients: Range<u32>,
        adjust: impl FnOnce(&mut DriverOptions),
    ) -> Self {
        Self::prepare_observing(registry, plan, cores, clients, false, adjust).await
    }

    /// The same on a driver that runs the telemetry devices, or not.
    pub(crate) async fn prepare_observing(
        registry: Registry,
        plan: &RacePlan,
        cores: u32,
        clients: Range<u32>,
        telemetry: bool,
        adjust: impl FnOnce(&mut DriverOptions),
    ) -> Self {
        let json = Bytes::from(serde_json::to_vec(plan).unwrap());
        let directory = tempfile::tempdir().unwrap();
        let clock = local_clock();
        let mut options = DriverOptions {
            facts: HostFacts { name: "here".to_owned(), cores, ..HostFacts::default() },
            registry: Arc::new(registry),
            content: Arc::new(Plan(json)),
            clock: Arc::clone(&clock),
            data_dir: directory.path().join("data"),
            segment_dir: directory.path().join("segments"),
        };
        adjust(&mut options);
        let driver = LocalLoadDriver::new(options);
        let id: RaceId = "4711".parse().unwrap();
        let plan = ContentHash::from_bytes([7; 32]);
        let assignment = DriverAssignment { race: id.clone(), plan, clients, telemetry };
        driver.prepare(assignment.clone()).await.unwrap();
        let events = driver.events(&id, Sequence::START).await.unwrap();
        Self { driver, id, clock, _directory: directory, assignment, events }
    }

    pub(crate) async fn next(&mut self) -> Option<DriverEventKind> {
        self.events.next().await.map(|event| event.unwrap().kind)
    }

    /// Waits until the driver is prepared. Gives the notices until then: a busy machine has a slow clock, and is told so; as is
    /// what happens to corpora.
    pub(crate) async fn prepared(&mut self) -> Vec<String> {
        let mut notices = Vec::new();
        while let Some(kind) = self.next().await {
            match kind {
                DriverEventKind::Noticed { message } => notices.push(message),
                other => {
                    assert_eq!(other, DriverEventKind::Prepared);
                    return notices;
                }
            }
        }
        panic!("the driver ended before it was prepared")
    }

    pub(crate) async fn begin(&self, until: u32) {
        let step = Step { until: JoinPoint(until), start: (self.clock)() };
        self.driver.drive(&self.id, step).await.unwrap();
    }

    /// What is told up to a join point, or to the end of the race.
    pub(crate) async fn until_reached(&mut self) -> Told {
        let mut told = Told::default();
        while let Some(kind) = self.next().await {
            match kind {
                DriverEventKind::Measured(interval) => told.intervals.push(*interval),
                DriverEventKind::Reached { .. } => break,
                other => told.others.push(other),
            }
        }
        told
    }

    /// Stops the race and gives what is told to its end.
    pub(crate) async fn stop(&mut self, mode: StopMode) -> Told {
        self.driver.stop(&self.id, mode).await.unwrap();
        let told = self.until_reached().await;
        assert_eq!(told.others.last(), Some(&DriverEventKind::Ended));
        told
    }
}

/// Plays all steps of one race on several drivers to its end. Nothing may go wrong.
pub(crate) async fn play(mut races: Vec<Race>, steps: u32) {
    join_all(races.iter_mut().map(Race::prepared)).await;
    for until in 1..=steps {
        for race in &races {
            race.begin(until).await;
        }
        for told in join_all(races.iter_mut().map(Race::until_reached)).await {
            assert_eq!(told.failure(), None);
        }
    }
    join_all(races.iter_mut().map(|race| race.stop(StopMode::Drain))).await;
}

/// The times of a raw sample.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawTimes {
    /// Of the race.
    pub(crate) client: i32,
    /// When the runner was called, since the start of the step.
    pub(crate) called: i64,
    pub(crate) service_time: i64,
    pub(crate) latency: i64,
    pub(crate) dispatch_lag: Option<i64>,
}

/// Runs a race of one step and reads its raw samples.
pub(crate) async fn raw_samples(registry: Registry, plan: &RacePlan) -> Vec<RawTimes> {
    let mut race = Race::prepare(registry, plan, 1).await;
    race.prepared().await;
    race.begin(1).await;
    race.until_reached().await;
    let told = race.stop(StopMode::Drain).await;
    let segment = told.others.iter().find_map(|kind| match kind {
        DriverEventKind::SegmentWritten { hash, .. } => Some(race.driver.segment_path(*hash)),
        _ => None,
    });
    let reader = SerializedFileReader::new(File::open(segment.unwrap()).unwrap()).unwrap();
    let rows = reader.get_row_iter(None).unwrap().map(Result::unwrap);
    rows.map(|row| RawTimes {
        client: row.get_int(4).unwrap(),
        called: row.get_long(7).unwrap(),
        service_time: row.get_long(8).unwrap(),
        latency: row.get_long(10).unwrap(),
        dispatch_lag: row.get_long(11).ok(),
    })
    .collect()
}

/// Runs all steps of a race on one driver and gives what was told in them.
pub(crate) async fn run(registry: Registry, plan: &RacePlan, cores: u32) -> Told {
    let steps = plan.challenge().unwrap().schedule.len() as u32;
    let mut race = Race::prepare(registry, plan, cores).await;
    let mut all = Told::default();
    loop {
        match race.next().await.unwrap() {
            DriverEventKind::Prepared => break,
            DriverEventKind::Ended => return all,
            other => all.others.push(other),
        }
    }
    for until in 1..=steps {
        race.begin(until).await;
        let told = race.until_reached().await;
        let has_ended = told.others.last() == Some(&DriverEventKind::Ended);
        all.intervals.extend(told.intervals);
        all.others.extend(told.others);
        if has_ended {
            return all;
        }
    }
    let told = race.stop(StopMode::Drain).await;
    all.intervals.extend(told.intervals);
    all.others.extend(told.others);
    all
}
