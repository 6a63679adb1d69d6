//! What is made ready before the race, and before each of its steps.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rally_core::metrics::SampleType;
use rally_core::track::{JsonObject, Operation, ParallelBuilder, Task, TaskBuilder};
use rally_core::{DriverEventKind, RacePlan, StopMode};
use rally_driver::{ParamSource, ParamSourceSetup, Params, Registry, RunnerError, RunnerSetup};
use serde_json::{Value, json};

use crate::fixture::{Instant, Race, Told, challenge, plan, run};
use crate::target::{Act, Target};

/// A race whose second step is an operation with these properties.
fn with_late_task(target: &Target, operation_type: &str, properties: Value) -> RacePlan {
    let properties = properties.as_object().unwrap().clone();
    let operation =
        properties.into_iter().fold(Operation::builder(operation_type).name("late"), |operation, (key, value)| {
            operation.property(&key, value)
        });
    let first = Operation::builder("raw-request").property("path", "/").name("first");
    let mut plan = plan(challenge().task(Task::builder(first)).task(Task::builder(operation)));
    plan.target_hosts.insert("default".to_owned(), vec![target.address.clone()]);
    plan.client_options.insert("default".to_owned(), JsonObject::new());
    plan
}

#[tokio::test]
async fn faults_of_later_tasks_are_told_before_the_first_request() {
    for (operation_type, properties, expected) in [
        ("cluster-health", json!({ "retries": "many" }), "`retries` must be a whole number, at least 0, not \"many\""),
        ("raw-request", json!({ "path": "/a b" }), "GET /a b: this path cannot be sent"),
        ("search", json!({ "index": "a", "param-source": "mine" }), "there is no parameter source `mine`"),
        ("teleport", json!({}), "there is no runner for the operation type `teleport`"),
        ("force-merge", json!({ "mode": "magic", "index": "a" }), "`mode`"),
    ] {
        let target = Target::start(|_| Act::ok()).await;
        let plan = with_late_task(&target, operation_type, properties);
        // Nor do telemetry devices look at a cluster whose race cannot be run.
        let mut race = Race::prepare_observing(Registry::rally(), &plan, 1, 0..1, true, |_| ()).await;
        let mut told = Told::default();
        while let Some(kind) = race.next().await {
            assert_ne!(kind, DriverEventKind::Prepared, "{operation_type} shows no fault");
            told.others.push(kind);
        }
        let failure = told.failure().unwrap();
        assert!(failure.starts_with("load driver on here could not prepare race 4711: "), "{failure}");
        assert!(failure.contains(expected), "{failure}");
        assert_eq!(target.seen().len(), 0);
    }
}

/// What was made, and what was drawn, as task and client.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn add(&self, what: &str, task: &Task, client: u32) {
        self.0.lock().unwrap().push(format!("{what} {} {client}", task.name));
    }

    fn sorted(&self) -> Vec<String> {
        let mut all = self.0.lock().unwrap().clone();
        all.sort();
        all
    }
}

struct Drawing {
    setup: ParamSourceSetup,
    draws_early: bool,
    log: Log,
}

impl ParamSource for Drawing {
    fn next(&mut self) -> Result<Option<Params>, RunnerError> {
        self.log.add("draw", &self.setup.task, self.setup.partition.index);
        Ok(Some(JsonObject::new().into()))
    }

    fn can_draw_early(&self) -> bool {
        self.draws_early
    }
}

/// Operations that log when they are made and when their parameters are drawn; those of `lazy` only at the last moment.
fn logging() -> (Registry, Log) {
    let (mut registry, log) = (Registry::empty(), Log::default());
    for (name, draws_early) in [("eager", true), ("lazy", false)] {
        let of_runner = log.clone();
        registry.register_runner(name, move |setup: &RunnerSetup| {
            of_runner.add("make", &setup.task, setup.partition.index);
            Ok(Instant::with(setup, ()))
        });
        let of_source = log.clone();
        registry.register_param_source(name, move |setup: &ParamSourceSetup| {
            Ok(Drawing { setup: setup.clone(), draws_early, log: of_source.clone() })
        });
    }
    (registry, log)
}

fn task(operation_type: &str, name: &str, clients: u32) -> TaskBuilder {
    Task::builder(Operation::builder(operation_type)).name(name).clients(clients).iterations(1)
}

#[tokio::test]
async fn all_tasks_of_a_step_are_ready_before_it_and_one_client_of_each_later_one() {
    let (registry, log) = logging();
    let element = ParallelBuilder::new().property("clients", 2).task(task("eager", "a", 2)).task(task("eager", "b", 2));
    let mut race = Race::prepare(registry, &plan(challenge().parallel(element).task(task("eager", "c", 2))), 2).await;
    race.prepared().await;
    let both = |what: &str, tasks: &[&str]| -> Vec<String> {
        tasks.iter().flat_map(|task| [0, 1].map(|client| format!("{what} {task} {client}"))).collect()
    };
    let of_the_first_step = [both("draw", &["a", "b"]), both("make", &["a", "b"])].concat();
    let mut expected = of_the_first_step.clone();
    expected.extend(["draw c 0".to_owned(), "make c 0".to_owned()]);
    expected.sort();
    assert_eq!(log.sorted(), expected);
    race.begin(1).await;
    race.until_reached().await;
    // The first client's is the one from before.
    let mut expected = [of_the_first_step, both("draw", &["c"]), both("make", &["c"])].concat();
    expected.sort();
    assert_eq!(log.sorted(), expected);
    race.begin(2).await;
    race.until_reached().await;
    race.stop(StopMode::Drain).await;
    assert_eq!(log.sorted(), expected);
}

#[tokio::test]
async fn a_source_that_needs_what_earlier_tasks_bring_about_is_asked_when_its_task_begins() {
    let (registry, log) = logging();
    let element = ParallelBuilder::new().property("clients", 1).task(task("eager", "a", 1)).task(task("lazy", "b", 1));
    let plan = plan(challenge().parallel(element).task(task("lazy", "c", 1)));
    let mut race = Race::prepare(registry.clone(), &plan, 1).await;
    race.prepared().await;
    assert_eq!(log.sorted(), ["draw a 0", "make a 0", "make b 0", "make c 0"]);
    race.stop(StopMode::Now).await;
    let told = run(registry, &plan, 1).await;
    assert_eq!([0, 1, 2].map(|task| told.samples(task, SampleType::Normal)), [1, 1, 1]);
}

#[tokio::test]
async fn a_race_that_is_stopped_before_it_is_ready_ends_when_its_threads_have() {
    let (begun, is_made) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
    let mut registry = Registry::empty();
    let (begins, makes) = (Arc::clone(&begun), Arc::clone(&is_made));
    registry.register_runner("slow", move |setup: &RunnerSetup| {
        begins.store(true, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(300));
        makes.store(true, Ordering::SeqCst);
        Ok(Instant::with(setup, ()))
    });
    let mut race = Race::prepare(registry, &plan(challenge().task(task("slow", "a", 1))), 1).await;
    while !begun.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let told = race.stop(StopMode::Now).await;
    assert!(is_made.load(Ordering::SeqCst), "a worker is left behind");
    assert_eq!((told.failure(), told.intervals.len()), (None, 0));
}

#[tokio::test]
async fn repairs_are_counted_once_whichever_task_of_a_client_sees_them() {
    // The second request is the first of the second task, whose connection was closed meanwhile.
    let target = Target::start(|seen| if seen.number == 0 { Act::AnswerAndClose } else { Act::ok() }).await;
    let request =
        |name: &str| Task::builder(Operation::builder("raw-request").property("path", "/")).name(name).iterations(2);
    let element = ParallelBuilder::new().property("clients", 1).task(request("a")).task(request("b"));
    let mut plan = plan(challenge().parallel(element));
    plan.target_hosts.insert("default".to_owned(), vec![target.address.clone()]);
    plan.client_options.insert("default".to_owned(), JsonObject::new());
    let told = run(Registry::rally(), &plan, 1).await;
    assert_eq!(told.intervals.iter().map(|interval| interval.health.reconnects).sum::<u64>(), 1);
}
