//! What the clients of one driver do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use rally_core::metrics::{DriverHealth, Interval, RaceMetrics, SampleType};
use rally_core::track::{JsonObject, Operation, ParallelBuilder, Task};
use rally_core::{DriverEventKind, LoadDriver as _, OnError, StopMode, TaskIndex};
use rally_driver::{ErrorClass, Outcome, ParamSource, Params, Registry, RunnerError, Scheduler};

use crate::fixture::{Call, Companion, Instant, Race, challenge, plan, raw_samples, run, scripted, takes, task};

#[tokio::test]
async fn every_client_runs_its_warm_up_and_its_iterations() {
    let (registry, calls) = scripted(|_| takes(0));
    let plan = plan(challenge().task(task("a").clients(3).warmup_iterations(2).iterations(5)));
    let told = run(registry, &plan, 2).await;
    assert_eq!(told.samples(0, SampleType::Warmup), 6);
    assert_eq!(told.samples(0, SampleType::Normal), 15);
    assert_eq!(calls.what().len(), 21);
    let ledger = told.intervals.last().unwrap().ledger;
    assert_eq!((ledger.made, ledger.merged, ledger.lost), (21, 21, 0));
    let progress = &told.intervals[0].progress;
    assert!(progress.iter().all(|task| task.done == Some(1.0)), "{progress:?}");
}

#[tokio::test]
async fn a_task_without_any_length_is_run_once() {
    let (registry, calls) = scripted(|_| takes(0));
    run(registry, &plan(challenge().task(task("a"))), 1).await;
    assert_eq!(calls.count("a"), 1);
}

#[tokio::test]
async fn a_stall_shows_in_the_latency_of_every_request_that_was_due() {
    // 100 requests per second, and the 20th takes 300 ms: 30 requests that were due in that time are late.
    let (registry, _) = scripted(|call| takes(if call.number == 20 { 300 } else { 0 }));
    let mut plan = plan(challenge().task(task("a").iterations(100).target_throughput(100.0)));
    plan.sample_bytes = 1 << 20;
    let samples = raw_samples(registry, &plan).await;
    // A busy machine makes others late, too, so that only what must be late at least is certain.
    let stalled = &samples[20];
    assert!(stalled.service_time >= 300_000_000 && stalled.latency >= stalled.service_time, "{stalled:?}");
    for (number, sample) in (1_i64..).zip(&samples[21..50]) {
        let rest = 300_000_000 - number * 10_000_000;
        assert!(sample.latency >= rest, "request {number} after the stall: {sample:?}");
        assert!(sample.latency > sample.service_time, "it was not slow itself: {sample:?}");
    }
    let lag = samples[21..45].iter().filter_map(|sample| sample.dispatch_lag).min();
    assert!(lag < Some(50_000_000), "the stall is not the driver's fault: {lag:?}");
}

#[tokio::test]
async fn the_target_throughput_is_reached_by_all_clients_together() {
    let (registry, _) = scripted(|_| takes(1));
    let mut plan = plan(challenge().task(task("a").clients(4).iterations(50).target_throughput(400.0)));
    plan.sample_bytes = 1 << 20;
    let samples = raw_samples(registry, &plan).await;
    // Each client's first request comes at once, and from then on one is due every 10 ms. Whatever delays one stands in its
    // latency, so that it can be seen when it was due; a few are off because they were held up between two clock readings.
    let mut on_schedule = 0;
    for client in 0..4 {
        let mut own: Vec<_> = samples.iter().filter(|sample| sample.client == client).collect();
        own.sort_unstable_by_key(|sample| sample.called);
        assert_eq!(own.len(), 50);
        let due = own.iter().map(|sample| sample.called - (sample.latency - sample.service_time));
        on_schedule += (0..).zip(due).filter(|(number, due)| (due - number * 10_000_000).abs() < 2_000_000).count();
    }
    assert!(on_schedule > 150, "only {on_schedule} of 200 requests were due when they should be: {samples:?}");
}

/// Wants requests 5 ms after the one before was done, and a longer break after one that has found something.
struct Breaks {
    next: Duration,
    log: Arc<Mutex<Vec<&'static str>>>,
}

impl Scheduler for Breaks {
    fn next(&mut self, last: Duration, rate: Option<f64>) -> Duration {
        assert_eq!(rate, None, "the task has no target");
        assert!(self.next >= last);
        self.log.lock().unwrap().push("next");
        self.next
    }

    fn before_request(&mut self, now: Duration) {
        assert!(now >= self.next);
        self.log.lock().unwrap().push("before");
    }

    fn after_request(&mut self, now: Duration, outcome: &Outcome) {
        let found = outcome.meta.get("hits").is_some_and(|hits| hits == 1);
        self.next = now + Duration::from_millis(if found { 50 } else { 5 });
        self.log.lock().unwrap().push("after");
    }
}

#[tokio::test]
async fn a_scheduler_of_a_program_decides_from_what_requests_found() {
    let (mut registry, calls) = scripted(|call| {
        let meta = JsonObject::from_iter([("hits".to_owned(), u64::from(call.number == 2).into())]);
        (Duration::ZERO, Ok(Outcome { meta, ..Outcome::default() }))
    });
    let log = Arc::<Mutex<Vec<_>>>::default();
    let known = Arc::clone(&log);
    registry.register_scheduler("breaks", move |_| Ok(Breaks { next: Duration::ZERO, log: Arc::clone(&known) }));
    run(registry, &plan(challenge().task(task("a").iterations(5).property("schedule", "breaks"))), 1).await;
    let at: Vec<_> = calls.all().iter().map(|call| call.at).collect();
    let gaps: Vec<_> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.iter().all(|gap| *gap >= 5_000_000) && gaps[2] >= 50_000_000, "{gaps:?}");
    assert_eq!(log.lock().unwrap()[..6], ["next", "before", "after", "next", "before", "after"]);
}

#[tokio::test]
async fn no_request_is_sent_before_it_is_due() {
    let (registry, calls) = scripted(|_| takes(0));
    let plan = plan(challenge().task(task("a").iterations(200).target_throughput(2_000.0)));
    let before = rally_driver::RequestTimer::now();
    run(registry, &plan, 1).await;
    for call in calls.all() {
        assert!(call.at >= before + call.number * 500_000, "request {} came early", call.number);
    }
}

#[tokio::test]
async fn clients_ramp_up_in_order() {
    let (registry, calls) = scripted(|_| takes(1));
    let task = task("a")
        .clients(4)
        .warmup_time_period(Duration::from_secs(1))
        .time_period(Duration::from_secs(1))
        .property("ramp-up-time-period", 1);
    run(registry, &plan(challenge().task(task)), 2).await;
    let first = |client| calls.all().iter().filter(|call| call.client == client).map(|call| call.at).min().unwrap();
    for client in 1..4 {
        let delay = Duration::from_nanos(first(client) - first(client - 1));
        assert!(delay >= Duration::from_millis(200), "client {client} started {delay:?} after the one before it");
    }
    // The last one is there for the fourth quarter of the ramp-up and the second after it, in which it has time for
    // more than a thousand requests.
    assert!(calls.all().iter().filter(|call| call.client == 3).count() > 100);
}

#[tokio::test]
async fn the_completing_task_ends_its_step_and_is_not_cut_short() {
    let (registry, calls) = scripted(|call| takes(if call.task == "main" { 5 } else { 1 }));
    let element = ParallelBuilder::new()
        .completed_by("main")
        .task(task("main").clients(2).iterations(10))
        .task(task("background").clients(2).time_period(Duration::from_secs(3_600)));
    let told = run(registry, &plan(challenge().parallel(element)), 2).await;
    assert_eq!(calls.count("main"), 20);
    assert!(calls.count("background") > 2);
    assert!(told.others.iter().any(|kind| matches!(kind, DriverEventKind::TaskCompleted { task: TaskIndex(0), .. })));
}

#[tokio::test]
async fn any_task_that_is_done_ends_its_step_and_wakes_clients_that_wait() {
    let (registry, calls) = scripted(|_| takes(1));
    let hour = Duration::from_secs(3_600);
    let element = ParallelBuilder::new()
        .completed_by("any")
        .task(task("short").iterations(3))
        .task(task("rare").time_period(hour).property("target-interval", 1_000));
    run(registry, &plan(challenge().parallel(element)), 2).await;
    assert_eq!(calls.count("short"), 3);
    assert_eq!(calls.count("rare"), 1, "its second request is due in 1,000 s");
}

#[tokio::test]
async fn any_of_many_tasks_ends_each_of_many_steps() {
    let (registry, calls) = scripted(|_| takes(0));
    let step = |number| {
        let tasks = (0..16).map(|task_of| task(&format!("{number}-{task_of}")).iterations(2));
        tasks.fold(ParallelBuilder::new().completed_by("any"), ParallelBuilder::task)
    };
    let steps = (0..20).fold(challenge(), |challenge, number| challenge.parallel(step(number)));
    run(registry, &plan(steps), 2).await;
    assert!((0..20).all(|number| (0..16).any(|task| calls.count(&format!("{number}-{task}")) == 2)));
}

#[tokio::test]
async fn requests_that_were_due_during_the_ramp_up_do_not_tell_of_too_few_clients() {
    let (registry, _) = scripted(|_| takes(0));
    let task = task("a")
        .clients(2)
        .warmup_time_period(Duration::from_secs(2))
        .time_period(Duration::from_secs(1))
        .target_throughput(100.0)
        .property("ramp-up-time-period", 2);
    let told = run(registry, &plan(challenge().task(task)), 1).await;
    let of_clients = |kind: &&DriverEventKind| {
        // A busy machine is told that its clock is slow.
        matches!(kind, DriverEventKind::Noticed { message } if message.contains("their client still waited"))
    };
    let notices: Vec<_> = told.others.iter().filter(of_clients).collect();
    assert!(notices.is_empty(), "{notices:?}");
}

#[tokio::test]
async fn clients_with_several_tasks_run_one_after_the_other() {
    let (registry, calls) = scripted(|_| takes(1));
    let element = ParallelBuilder::new()
        .property("clients", 2)
        .task(task("first").clients(2).iterations(3))
        .task(task("second").clients(2).iterations(2));
    run(registry, &plan(challenge().parallel(element)), 1).await;
    for client in 0..2 {
        let mut calls: Vec<_> = calls.all().into_iter().filter(|call| call.client == client).collect();
        calls.sort_by_key(|call| call.at);
        let tasks: Vec<_> = calls.iter().map(|call| call.task.as_str()).collect();
        assert_eq!(tasks, ["first", "first", "first", "second", "second"]);
    }
}

#[tokio::test]
async fn the_throughput_of_a_later_task_counts_from_its_own_start() {
    let (registry, _) = scripted(|call| takes(if call.task == "first" { 960 } else { 20 }));
    let element = ParallelBuilder::new()
        .property("clients", 1)
        .task(task("first").iterations(1))
        .task(task("second").iterations(10));
    let told = run(registry, &plan(challenge().parallel(element)), 1).await;
    let mut metrics = RaceMetrics::default();
    for interval in &told.intervals {
        metrics.add("here", interval);
    }
    let (values, _) = metrics.throughput(TaskIndex(1));
    // The tenth request starts 180 ms after the first one at the earliest.
    assert!(!values.is_empty() && values.iter().all(|value| value.value < 56.0), "{values:?}");
}

#[tokio::test]
async fn failed_requests_are_samples_without_work_and_counted_by_class() {
    let (registry, _) = scripted(|call| match call.number {
        1 | 2 => (Duration::ZERO, Err(api_error(429))),
        3 => (
            Duration::ZERO,
            Err(RunnerError::Transport { class: ErrorClass::Timeout, description: "no answer in time".to_owned() }),
        ),
        4 => {
            let meta = JsonObject::from_iter([("error-type".to_owned(), "bulk".into())]);
            (Duration::ZERO, Ok(Outcome { weight: 7, unit: "docs".into(), success: false, meta, ..Outcome::default() }))
        }
        _ => (Duration::ZERO, Ok(Outcome { weight: 10, unit: "docs".into(), ..Outcome::default() })),
    });
    let told = run(registry, &plan(challenge().task(task("a").iterations(6))), 1).await;
    let [interval] = told.tasks(0, SampleType::Normal).collect::<Vec<_>>()[..] else { panic!("{told:?}") };
    assert_eq!((interval.samples, interval.failed), (6, 4));
    assert_eq!(interval.throughput.iter().map(|bin| bin.weight).sum::<u64>(), 27);
    assert_eq!(interval.unit, "docs");
    let errors: Vec<_> = interval.errors.iter().map(|error| (error.class.as_str(), error.count)).collect();
    assert_eq!(errors, [("http 429", 2), ("timeout", 1), ("bulk", 1)]);
    assert_eq!(interval.errors[0].example, "too many requests");
}

fn api_error(status: u16) -> RunnerError {
    RunnerError::Api { status, description: "too many requests".to_owned(), meta: Vec::new() }
}

fn refused() -> RunnerError {
    RunnerError::Transport { class: ErrorClass::Connect, description: "connection refused".to_owned() }
}

#[tokio::test]
async fn what_ends_the_race_depends_on_the_error_and_on_what_the_user_wants() {
    let lenient =
        |builder: rally_core::track::TaskBuilder| builder.property("ignore-response-error-level", "non-fatal");
    for (on_error, error, is_lenient, ends) in [
        (OnError::Continue, api_error(500), false, false),
        (OnError::Continue, refused(), false, true),
        (OnError::ContinueOnNetwork, refused(), false, false),
        (OnError::Abort, api_error(404), false, true),
        (OnError::Abort, api_error(404), true, false),
        (OnError::Abort, refused(), true, true),
        (OnError::ContinueOnNetwork, RunnerError::Other("no sense".to_owned()), false, true),
    ] {
        let case = format!("{on_error:?} {error} {is_lenient}");
        let (registry, _) = scripted(move |_| (Duration::ZERO, Err(error.clone())));
        let task = task("a").iterations(2);
        let mut plan = plan(challenge().task(if is_lenient { lenient(task) } else { task }));
        plan.on_error = on_error;
        let told = run(registry, &plan, 1).await;
        assert_eq!(told.failure().is_some(), ends, "{case}: {told:?}");
    }
}

#[tokio::test]
async fn the_request_that_ends_the_race_is_a_sample_whatever_is_wrong_with_it() {
    let other = RunnerError::Other("the answer makes no sense".to_owned());
    let invalid =
        RunnerError::InvalidParameter { operation: "find".to_owned(), problem: "`pages` must be a number".to_owned() };
    for error in [other, invalid] {
        let expected = error.to_string();
        let script = move |call: &Call| if call.number == 5 { (Duration::ZERO, Err(error.clone())) } else { takes(0) };
        let (registry, calls) = scripted(script);
        let told = run(registry, &plan(challenge().task(task("find").iterations(9))), 1).await;
        assert!(told.failure().unwrap().ends_with(&expected), "{told:?}");
        assert_eq!((calls.count("find"), told.samples(0, SampleType::Normal)), (6, 6));
        let ledger = told.intervals.last().unwrap().ledger;
        assert_eq!((ledger.made, ledger.merged, ledger.lost), (6, 6, 0));
        let errors: Vec<_> = told.tasks(0, SampleType::Normal).flat_map(|interval| &interval.errors).collect();
        assert!(
            matches!(&errors[..], [one] if one.class == "response" && one.count == 1 && one.example == expected),
            "{errors:?}"
        );
    }
}

#[tokio::test]
async fn a_request_in_a_unit_that_is_not_the_targets_is_a_sample_all_the_same() {
    let (registry, _) = scripted(|_| {
        let outcome = Outcome { weight: 3, unit: "pages".into(), ..Outcome::default() };
        (Duration::ZERO, Ok(outcome))
    });
    let task = task("a").iterations(9).property("target-throughput", "10 docs/s");
    let told = run(registry, &plan(challenge().task(task)), 1).await;
    assert!(told.failure().unwrap().contains("the operation counts `pages`"), "{told:?}");
    let [interval] = told.tasks(0, SampleType::Normal).collect::<Vec<_>>()[..] else { panic!("{told:?}") };
    assert_eq!((interval.samples, interval.failed), (1, 0));
    assert_eq!(told.intervals.last().unwrap().ledger.made, 1);
}

#[tokio::test]
async fn a_failure_names_task_operation_and_client_and_keeps_what_was_measured() {
    let (registry, _) = scripted(|call| match call.number {
        3 => (Duration::ZERO, Err(RunnerError::Assertion("expected 1 hit, not 2".to_owned()))),
        _ => takes(0),
    });
    let told = run(registry, &plan(challenge().task(task("find").iterations(9))), 1).await;
    assert_eq!(
        told.failure().unwrap(),
        "load driver on here could not drive race 4711 up to join point 1: task `find` with operation `scripted` \
         failed on client 0: expected 1 hit, not 2"
    );
    assert_eq!(told.samples(0, SampleType::Normal), 4);
    let errors: Vec<_> = told.tasks(0, SampleType::Normal).flat_map(|interval| &interval.errors).collect();
    assert!(matches!(errors[..], [error] if error.class == "assertion" && error.count == 1), "{errors:?}");
    assert_eq!(told.others.last(), Some(&DriverEventKind::Ended));
}

#[tokio::test]
async fn a_runner_that_panics_fails_the_race_and_is_named() {
    let (registry, _) = scripted(|_| panic!("index out of bounds"));
    let told = run(registry, &plan(challenge().task(task("find"))), 1).await;
    let failure = told.failure().unwrap();
    assert!(failure.contains("task `find`") && failure.contains("it panicked: index out of bounds"), "{failure}");
    let ledger = told.intervals.last().unwrap().ledger;
    assert_eq!((ledger.made, ledger.merged, ledger.lost), (1, 0, 1));
}

/// Panics when it is dropped.
struct Fragile;

impl Companion for Fragile {}

impl Drop for Fragile {
    fn drop(&mut self) {
        panic!("cannot be closed");
    }
}

#[tokio::test]
async fn a_runner_that_panics_while_it_is_dropped_fails_the_race_and_loses_no_sample() {
    let mut registry = Registry::empty();
    registry.register_runner("scripted", |setup| Ok(Instant::with(setup, Fragile)));
    let told = run(registry, &plan(challenge().task(task("a").iterations(3))), 1).await;
    let failure = told.failure().unwrap();
    assert!(failure.ends_with("worker 0 could not go on: it panicked: cannot be closed"), "{failure}");
    assert_eq!((told.samples(0, SampleType::Normal), told.intervals.last().unwrap().ledger.made), (3, 3));
    assert_eq!(told.others.last(), Some(&DriverEventKind::Ended));
}

#[tokio::test]
async fn an_operation_without_a_runner_fails_with_the_names_that_there_are() {
    let (registry, _) = scripted(|_| takes(0));
    let unknown = rally_core::track::Task::builder(rally_core::track::Operation::builder("teleport"));
    let failure = run(registry, &plan(challenge().task(unknown)), 1).await.failure().unwrap();
    assert!(
        failure.ends_with("there is no runner for the operation type `teleport`; registered are: scripted"),
        "{failure}"
    );
}

#[tokio::test]
async fn a_worker_that_has_no_time_left_is_reported_as_the_bottleneck() {
    let (registry, _) = scripted(|call| {
        let until = call.at + 1_000_000;
        while rally_driver::RequestTimer::now() < until {
            std::hint::spin_loop();
        }
        takes(0)
    });
    // Four clients want 2,000 requests per second that take a millisecond of CPU each.
    let task = task("a").clients(4).time_period(Duration::from_secs(2)).target_throughput(2_000.0);
    let mut race = Race::prepare(registry, &plan(challenge().task(task)), 1).await;
    race.prepared().await;
    race.begin(1).await;
    let told = race.until_reached().await;
    let sentences: Vec<_> = told.intervals.iter().filter_map(|interval| interval.health.saturated.as_ref()).collect();
    let share = |interval: &&Interval| {
        let DriverHealth { saturated, busiest_worker, .. } = &interval.health;
        let busy = format!("its busiest worker used {:.0} % of a core", busiest_worker * 100.0);
        // Where others leave it little of its core, it was late without being busy all the time.
        let late = format!("although its busiest worker used only {:.0} % of a core", busiest_worker * 100.0);
        saturated.as_ref().is_some_and(|sentence| {
            let names = |problem: &str, share: &str| sentence.contains(problem) && sentence.contains(share);
            names("here was the bottleneck: ", &busy) || names("here could not keep up: it sent ", &late)
        })
    };
    let named = told.intervals.iter().filter(share).count();
    assert!(named > 0, "{sentences:?}");
    assert!(told.intervals.iter().any(|interval| interval.health.busiest_worker > 0.0));
    let lag: u64 = told.intervals.iter().map(|interval| interval.health.dispatch_lag.count()).sum();
    assert!(lag > 0, "dispatch lag is recorded for throttled tasks");
    race.stop(StopMode::Now).await;
}

/// Parameters that nobody looks at.
struct Any;

impl ParamSource for Any {
    fn next(&mut self) -> Result<Option<Params>, RunnerError> {
        Ok(Some(JsonObject::new().into()))
    }
}

#[tokio::test]
async fn a_driver_that_makes_a_step_ready_for_long_is_heard_of_all_the_while() {
    let (mut registry, _) = scripted(|_| takes(0));
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    registry.register_param_source("slow", move |setup| {
        // The first client is made ready before the race.
        if setup.partition.index == 1 {
            let _ = released.lock().unwrap().recv();
        }
        Ok(Any)
    });
    let slow = Operation::builder("scripted").property("param-source", "slow");
    let slow = Task::builder(slow).name("slow").clients(2).iterations(1);
    let mut race = Race::prepare(registry, &plan(challenge().task(task("quick").clients(2)).task(slow)), 1).await;
    race.prepared().await;
    race.begin(1).await;
    let heard = async {
        let mut intervals = 0;
        // The first one is the last of the step before.
        while intervals < 3 {
            match race.next().await.unwrap() {
                DriverEventKind::Measured(_) => intervals += 1,
                DriverEventKind::Reached { .. } => panic!("it is not ready"),
                _ => {}
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), heard).await.expect("it should be heard of every second");
    drop(release);
    race.until_reached().await;
    race.begin(2).await;
    race.until_reached().await;
    let ledger = race.stop(StopMode::Drain).await.intervals.last().unwrap().ledger;
    assert_eq!((ledger.made, ledger.merged), (4, 4));
}

#[tokio::test]
async fn a_worker_that_does_not_end_is_named_and_what_it_had_under_way_is_lost() {
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let (gets_stuck, is_stuck) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
    let (gets, is) = (Arc::clone(&gets_stuck), Arc::clone(&is_stuck));
    let (registry, _) = scripted(move |call| match call.client {
        0 => takes(3_600_000),
        _ if gets.load(Ordering::Relaxed) => {
            is.store(true, Ordering::Relaxed);
            let _ = released.lock().unwrap().recv();
            takes(0)
        }
        _ => takes(1),
    });
    let task = task("a").clients(2).time_period(Duration::from_secs(3_600));
    let mut race = Race::prepare(registry, &plan(challenge().task(task)), 1).await;
    race.prepared().await;
    race.begin(1).await;
    while !matches!(race.next().await.unwrap(), DriverEventKind::Measured(told) if told.health.in_flight > 0) {}
    gets_stuck.store(true, Ordering::Relaxed);
    while !is_stuck.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // The worker stands still, and from now on so does the clock, as long as there is nothing to wait for.
    tokio::time::pause();
    let told = race.stop(StopMode::Now).await;
    tokio::time::resume();
    drop(release);
    let failure = told.failure().unwrap();
    assert!(
        failure.starts_with("load driver on here could not end race 4711: workers {0} did not end within 20s; "),
        "{failure}"
    );
    let ledger = told.intervals.last().unwrap().ledger;
    assert!(ledger.lost >= 1 && ledger.made == ledger.merged + ledger.lost, "{ledger:?}");
}

#[tokio::test]
async fn what_a_client_fails_of_while_the_race_is_stopped_is_told() {
    let (registry, calls) =
        scripted(|_| (Duration::from_millis(300), Err(RunnerError::Assertion("no hits".to_owned()))));
    let task = task("a").time_period(Duration::from_secs(3_600));
    let mut race = Race::prepare(registry, &plan(challenge().task(task)), 1).await;
    race.prepared().await;
    race.begin(1).await;
    calls.begun("a").await;
    let told = race.stop(StopMode::Drain).await;
    let failure = told.failure().unwrap();
    assert!(failure.starts_with("load driver on here could not end race 4711: task `a`"), "{failure}");
    assert!(failure.ends_with("no hits"), "{failure}");
}

#[tokio::test]
async fn stopping_lets_requests_finish_or_drops_them() {
    for (mode, samples, lost) in [(StopMode::Drain, 1, 0), (StopMode::Now, 0, 1)] {
        let (registry, calls) = scripted(|_| takes(200));
        let task = task("a").time_period(Duration::from_secs(3_600));
        let mut race = Race::prepare(registry, &plan(challenge().task(task)), 1).await;
        race.prepared().await;
        race.begin(1).await;
        calls.begun("a").await;
        let told = race.stop(mode).await;
        assert_eq!(told.samples(0, SampleType::Normal), samples, "{mode:?}");
        let ledger = told.intervals.last().unwrap().ledger;
        assert_eq!((ledger.made, ledger.merged, ledger.lost), (1, samples, lost), "{mode:?}");
        assert_eq!(calls.count("a"), 1);
    }
}

#[tokio::test]
async fn requests_that_may_finish_are_dropped_as_soon_as_the_end_is_wanted_at_once() {
    // Less than the time that requests may take to finish, so a driver that did not listen would count it as a sample.
    let (registry, calls) = scripted(|_| takes(8_000));
    let task = task("a").time_period(Duration::from_secs(3_600));
    let mut race = Race::prepare(registry, &plan(challenge().task(task)), 1).await;
    race.prepared().await;
    race.begin(1).await;
    calls.begun("a").await;
    race.driver.stop(&race.id, StopMode::Drain).await.unwrap();
    let told = race.stop(StopMode::Now).await;
    let ledger = told.intervals.last().unwrap().ledger;
    assert_eq!((ledger.made, ledger.merged, ledger.lost), (1, 0, 1));
}
