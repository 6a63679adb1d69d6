//! What a coordinator does with one second of a race of 1,000 drivers with 20 tasks: it decodes their intervals, counts
//! them, adds them up and works out the progress. The runtime has one thread, so the time is that of one core.
//!
//! `cargo bench -p benches --bench race_merge`

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use criterion::{Criterion, Throughput};
use futures_util::{StreamExt, stream};
use rally_core::metrics::{Distribution, Interval, Ledger, RaceMetrics, SampleType, TaskInterval, ThroughputBin};
use rally_core::race::{RaceLog, RaceSetup};
use rally_core::track::{Challenge, Operation, ParallelBuilder, Task, Track};
use rally_core::{
    ClusterTime, ContentHash, DriverAssignment, DriverEvent, DriverEventKind, EventStream, HostFacts, JoinPoint,
    LoadDriver, RaceId, RaceOutcome, RacePlan, RoleError, Sequence, Step, StopMode, TaskIndex,
};
use rally_driver::{ClockTimer, local_clock};
use tokio::sync::watch;

const DRIVERS: u32 = 1_000;
const TASKS: u32 = 20;

/// Requests of each task that return on one driver in one second: 1,000,000 over all.
const SAMPLES: u64 = 50;

/// A driver that has measured the same in each second.
struct Replay {
    /// Of one interval, as they arrive.
    tasks: Arc<[u8]>,
    intervals: u64,
    /// 0 before it is asked to drive, 1 then, 2 once it is asked to stop.
    asked: watch::Sender<u8>,
}

impl Replay {
    fn event(tasks: &[u8], intervals: u64, number: u64) -> DriverEventKind {
        if number == 1 {
            return DriverEventKind::Prepared;
        }
        match number - 1 {
            interval if interval <= intervals => {
                let tasks: Vec<TaskInterval> = postcard::from_bytes(tasks).expect("they were encoded here");
                let made = interval * u64::from(TASKS) * SAMPLES;
                let ledger = Ledger { made, merged: made, ..Ledger::default() };
                DriverEventKind::Measured(Box::new(Interval { number: interval, tasks, ledger, ..Interval::default() }))
            }
            interval if interval == intervals + 1 => DriverEventKind::Reached { at: JoinPoint(1) },
            _ => DriverEventKind::Ended,
        }
    }
}

#[async_trait]
impl LoadDriver for Replay {
    async fn facts(&self) -> Result<HostFacts, RoleError> {
        Ok(HostFacts { cores: 1, ..HostFacts::default() })
    }

    async fn prepare(&self, _: DriverAssignment) -> Result<(), RoleError> {
        Ok(())
    }

    async fn events(&self, _: &RaceId, after: Sequence) -> Result<EventStream<DriverEvent>, RoleError> {
        let (tasks, intervals) = (Arc::clone(&self.tasks), self.intervals);
        let next = move |(last, mut asked): (u64, watch::Receiver<u8>)| {
            let tasks = Arc::clone(&tasks);
            async move {
                let number = last + 1;
                let wanted = if number == 1 { 0 } else { 1 + u8::from(number == intervals + 3) };
                asked.wait_for(|asked| *asked >= wanted).await.ok()?;
                let kind = Self::event(&tasks, intervals, number);
                let event = DriverEvent { sequence: Sequence(number), at: ClusterTime::from_nanos(number), kind };
                (number <= intervals + 3).then_some((Ok(event), (number, asked)))
            }
        };
        Ok(stream::unfold((after.0, self.asked.subscribe()), next).boxed())
    }

    async fn drive(&self, _: &RaceId, _: Step) -> Result<(), RoleError> {
        self.asked.send_replace(1);
        Ok(())
    }

    async fn complete_step(&self, _: &RaceId, _: JoinPoint) -> Result<(), RoleError> {
        Ok(())
    }

    async fn attach_telemetry(&self, _: &RaceId) -> Result<(), RoleError> {
        Ok(())
    }

    async fn stop(&self, _: &RaceId, _: StopMode) -> Result<(), RoleError> {
        self.asked.send_replace(2);
        Ok(())
    }
}

/// What one driver measured of all tasks in a second, as it arrives.
fn tasks() -> Arc<[u8]> {
    let mut times = Distribution::default();
    (0..SAMPLES).for_each(|sample| times.record(1_000_000 + 77_777 * sample));
    let part = |task| TaskInterval {
        task: TaskIndex(task),
        inner: None,
        cluster: None,
        sample_type: SampleType::Normal,
        service_time: times.clone(),
        processing_time: times.clone(),
        latency: times.clone(),
        samples: SAMPLES,
        failed: 0,
        unit: "docs".to_owned(),
        throughput: vec![ThroughputBin {
            second: 0,
            first: 0,
            first_weight: 1,
            last: 1_000,
            weight: SAMPLES,
            task_start: 0,
        }],
        reported_throughput: Vec::new(),
        errors: Vec::new(),
        duration: 1_000_000_000,
    };
    let tasks: Vec<_> = (0..TASKS).map(part).collect();
    postcard::to_stdvec(&tasks).expect("it is plain data").into()
}

/// One step with all tasks side by side.
fn plan() -> RacePlan {
    let operation = || Operation::builder("search").property("body", serde_json::json!({}));
    let all = (0..TASKS).fold(ParallelBuilder::new(), |all, task| {
        all.task(Task::builder(operation()).name(&format!("task-{task}")).clients(DRIVERS / TASKS))
    });
    let track = Track::builder("t").challenge(Challenge::builder("c").parallel(all)).build().expect("it is valid");
    RacePlan::new(track, "c")
}

/// The time that a race of so many seconds takes its coordinator.
async fn race(plan: RacePlan, tasks: Arc<[u8]>, intervals: u64) -> Duration {
    let replay = || Replay { tasks: Arc::clone(&tasks), intervals, asked: watch::Sender::default() };
    let drivers = (0..DRIVERS).map(|number| (format!("driver-{number}"), Arc::new(replay()) as Arc<dyn LoadDriver>));
    let race = "bench".parse().expect("it is short");
    let setup = RaceSetup::new(race, plan, ContentHash::from_bytes([0; 32]), drivers);
    let (timer, mut metrics) = (Arc::new(ClockTimer::new(local_clock())), RaceMetrics::default());
    let start = Instant::now();
    let verdict = setup.run(timer, Arc::<RaceLog>::default(), &mut metrics).await;
    let taken = start.elapsed();
    assert_eq!(verdict.outcome, RaceOutcome::Completed, "{:?}", verdict.errors.first());
    assert_eq!(verdict.ledger.merged, intervals * u64::from(DRIVERS * TASKS) * SAMPLES);
    taken
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args().sample_size(10);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("there are threads");
    let (plan, tasks) = (plan(), tasks());
    let mut group = criterion.benchmark_group("coordinator");
    group.throughput(Throughput::Elements(u64::from(DRIVERS * TASKS)));
    group.bench_function("one second of 1,000 drivers with 20 tasks", |b| {
        b.iter_custom(|intervals| runtime.block_on(race(plan.clone(), Arc::clone(&tasks), intervals)));
    });
    group.finish();
    criterion.final_summary();
}
