//! What all clients of one worker share while a step runs.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use rally_core::metrics::TaskProgress;
use rally_core::track::Task;
use rally_core::{ClientTask, Completion, RaceId, RacePlan, TaskIndex};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::alarm::Alarm;
use super::worker::{WorkerEvent, WorkerReport};
use crate::Registry;
use crate::corpus::Corpora;
use crate::recorder::{Recorder, StepStart};
use crate::segment::{SampleCollector, SampleSender};

/// What all workers of a race share.
#[derive(Debug)]
pub(crate) struct RaceContext {
    pub(crate) race: RaceId,
    pub(crate) plan: Arc<RacePlan>,
    /// The tasks of the challenge by their index.
    pub(crate) tasks: Vec<Arc<Task>>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) data_dir: Arc<Path>,
    pub(crate) corpora: Arc<Corpora>,
    /// Nothing more is made ready: the race ends.
    pub(crate) ended: CancellationToken,
}

impl RaceContext {
    pub(crate) fn task(&self, task: TaskIndex) -> &Arc<Task> {
        &self.tasks[task.0 as usize]
    }

    /// A number that differs between races, tasks and clients, and is the same when a race is repeated with its id.
    pub(crate) fn seed(&self, task: &str, client_in_task: u32) -> u64 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.race.as_str().as_bytes()).update(b"\0").update(task.as_bytes()).update(b"\0");
        hasher.update(&client_in_task.to_le_bytes());
        let mut seed = [0; 8];
        hasher.finalize_xof().fill(&mut seed);
        u64::from_le_bytes(seed)
    }
}

/// One worker's part of a step.
#[derive(Clone, Debug)]
pub(crate) struct StepShare {
    pub(crate) completion: Completion,
    /// Clients and the tasks that each runs one after the other; at least one.
    pub(crate) clients: Vec<(u32, Vec<ClientTask>)>,
}

/// A step as the clients of one worker see it.
#[derive(Debug)]
pub(crate) struct WorkerStep {
    pub(crate) race: Arc<RaceContext>,
    pub(crate) start: StepStart,
    pub(crate) alarm: Rc<Alarm>,
    pub(crate) recorder: RefCell<Recorder>,
    pub(crate) in_flight: Cell<u32>,
    completion: Completion,
    /// The step ends early: clients stop after their current request.
    completed: Cell<bool>,
    /// The race ends: all clients stop after their current request.
    cancelled: Cell<bool>,
    /// By client and task.
    progress: RefCell<Vec<(u32, TaskIndex, Option<f64>)>>,
    noticed_unit: RefCell<Vec<TaskIndex>>,
    worker: usize,
    events: mpsc::Sender<WorkerReport>,
}

impl WorkerStep {
    pub(crate) fn new(
        race: &Arc<RaceContext>,
        alarm: &Rc<Alarm>,
        share: &StepShare,
        start: StepStart,
        samples: Option<SampleSender>,
        worker: usize,
        events: &mpsc::Sender<WorkerReport>,
    ) -> Self {
        let clients = share.clients.iter();
        let progress =
            clients.flat_map(|(client, tasks)| tasks.iter().map(|allocated| (*client, allocated.task, Some(0.0))));
        let raw = samples.map(|samples| SampleCollector::new(samples, start));
        Self {
            race: Arc::clone(race),
            start,
            alarm: Rc::clone(alarm),
            recorder: RefCell::new(Recorder::new(race.tasks.len(), start, raw)),
            in_flight: Cell::new(0),
            completion: share.completion.clone(),
            completed: Cell::new(false),
            cancelled: Cell::new(false),
            progress: RefCell::new(progress.collect()),
            noticed_unit: RefCell::default(),
            worker,
            events: events.clone(),
        }
    }

    /// Whether the clients of a task have to stop. The task that completes the step never ends early.
    pub(crate) fn ends(&self, task: TaskIndex) -> bool {
        self.cancelled.get() || (self.completed.get() && self.completion != Completion::By(task))
    }

    /// Ends the step early.
    pub(crate) fn complete(&self) {
        self.completed.set(true);
        self.alarm.wake_all();
    }

    /// Ends all tasks.
    pub(crate) fn cancel(&self) {
        self.cancelled.set(true);
        self.alarm.wake_all();
    }

    pub(crate) async fn client_done(&self, client: u32, task: TaskIndex) {
        self.set_progress(client, task, Some(1.0));
        self.send(WorkerEvent::ClientDone { task }).await;
    }

    pub(crate) fn set_progress(&self, client: u32, task: TaskIndex, progress: Option<f64>) {
        let mut all = self.progress.borrow_mut();
        // Sorted by client, because they were dealt out in order.
        let first = all.partition_point(|(other, ..)| *other < client);
        if let Some((.., known)) = all[first..].iter_mut().find(|(_, other, _)| *other == task) {
            *known = progress.map(|progress| progress.clamp(0.0, 1.0));
        }
    }

    /// How far the tasks are: for each, the sum of what is known, how many clients know, and how many there are.
    pub(crate) fn progress(&self) -> Vec<ProgressSum> {
        let mut sums: Vec<ProgressSum> = Vec::new();
        for &(_, task, progress) in &*self.progress.borrow() {
            let one = ProgressSum { task, sum: progress.unwrap_or(0.0), known: progress.is_some().into(), clients: 1 };
            ProgressSum::add_to(&mut sums, one);
        }
        sums
    }

    /// Tells the user once for each task, whose client may run it against several clusters.
    pub(crate) fn notice_other_unit(&self, task: TaskIndex, unit: &str) {
        let mut noticed = self.noticed_unit.borrow_mut();
        if !noticed.contains(&task) {
            noticed.push(task);
            let name = &self.race.task(task).name;
            let message = format!(
                "task `{name}` has a target throughput in `ops/s`, but counts `{unit}`: every request is taken for one \
                 operation"
            );
            // The race goes on without the warning if there is no room for it.
            let _ = self.events.try_send(WorkerReport { worker: self.worker, event: WorkerEvent::Noticed(message) });
        }
    }

    async fn send(&self, event: WorkerEvent) {
        // Without a receiver the race is over, and so is this client in a moment.
        let _ = self.events.send(WorkerReport { worker: self.worker, event }).await;
    }
}

/// Progress of some clients of a task.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ProgressSum {
    task: TaskIndex,
    sum: f64,
    known: u32,
    clients: u32,
}

impl ProgressSum {
    pub(crate) fn add_to(sums: &mut Vec<Self>, one: Self) {
        match sums.iter_mut().find(|known| known.task == one.task) {
            Some(known) => {
                known.sum += one.sum;
                known.known += one.known;
                known.clients += one.clients;
            }
            None => sums.push(one),
        }
    }

    pub(crate) fn mean(self) -> TaskProgress {
        let done = (self.known > 0).then(|| self.sum / f64::from(self.known));
        TaskProgress { task: self.task, done, clients: self.clients }
    }
}
