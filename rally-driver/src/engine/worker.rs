//! A worker: one thread with its share of the clients.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rally_core::{ClientTask, StopMode, TaskIndex};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;

use super::alarm::Alarm;
use super::client_loop::{ClientSteps, PreparedTask};
use super::error::{Panicked, TaskError, WorkerError};
use super::roster::Roster;
use super::step::{ProgressSum, RaceContext, StepShare, WorkerStep};
use crate::client::SetupError;
use crate::recorder::{Recording, StepStart};
use crate::segment::SampleSender;

/// Requests to one worker that may wait. The race sends a new one of each kind only once the last is answered, asks each
/// step to end early at most once, and to stop at most twice.
const REQUESTS: usize = 8;

/// How long requests in flight may take when the race is stopped.
pub(super) const DRAIN: Duration = Duration::from_secs(10);

/// What the race asks of a worker.
#[derive(Debug)]
pub(crate) enum WorkerRequest {
    /// Make these tasks of later steps ready, so that their faults show now: [`WorkerEvent::Failed`] tells the first.
    Rehearse(Vec<(u32, ClientTask)>),
    /// Make ready for a step; answered by [`WorkerEvent::Ready`].
    Prepare(StepShare),
    /// Run the step that was prepared; answered by [`WorkerEvent::Reached`].
    Drive {
        start: StepStart,
        /// Where raw samples go, if they are wanted.
        samples: Option<SampleSender>,
    },
    /// End the current step early.
    CompleteStep,
    /// Say what was measured; answered by [`WorkerEvent::Measured`].
    Measure,
    /// End; answered by [`WorkerEvent::Ended`].
    Stop(StopMode),
}

/// What a worker has to say, with its number.
#[derive(Debug)]
pub(crate) struct WorkerReport {
    pub(crate) worker: usize,
    pub(crate) event: WorkerEvent,
}

#[derive(Debug)]
pub(crate) enum WorkerEvent {
    /// Connections are open, and the tasks of each client are made ready.
    Ready,
    /// The clients cannot be made.
    Unready(SetupError),
    /// One client has done its part of a task.
    ClientDone { task: TaskIndex },
    /// What was measured since the last time.
    Measured(Box<Measurement>),
    /// All clients have reached the join point at the end of the step.
    Reached(Box<Measurement>),
    /// The user should know.
    Noticed(String),
    /// A client could not go on.
    Failed(TaskError),
    /// The worker itself could not go on; [`WorkerEvent::Ended`] follows.
    Broken(WorkerError),
    /// It is gone. This is the last word of every worker that is asked to end, or that does by itself.
    Ended(Box<Measurement>),
}

/// What a worker measured, and how it did.
#[derive(Debug, Default)]
pub(crate) struct Measurement {
    pub(crate) recording: Recording,
    pub(crate) progress: Vec<ProgressSum>,
    /// Requests that have ended, counted by themselves.
    pub(crate) made: u64,
    /// Requests under way; those of a worker that has ended were cut off.
    pub(crate) in_flight: u32,
    /// CPU time since the measurement before, in nanoseconds, without that in which it was awake but idle.
    pub(crate) busy: u64,
}

/// A worker's thread. Dropping it ends the thread, which stops all its clients where they are.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) requests: mpsc::Sender<WorkerRequest>,
    pub(crate) thread: JoinHandle<()>,
}

impl Worker {
    /// Starts a worker for the clients of these numbers.
    ///
    /// # Errors
    ///
    /// What the operating system says if there is no thread left.
    pub(crate) fn start(
        number: usize,
        clients: Vec<u32>,
        race: Arc<RaceContext>,
        events: mpsc::Sender<WorkerReport>,
    ) -> io::Result<Self> {
        let (sender, requests) = mpsc::channel(REQUESTS);
        let thread = std::thread::Builder::new().name(format!("load-{number}")).spawn(move || {
            let (step, running) = (None, JoinSet::new());
            let (usage, rehearsed, prepared) = (CpuUsage::start(), Vec::new(), None);
            WorkerThread { number, race, events, requests, usage, rehearsed, prepared, step, running }.run(&clients);
        })?;
        Ok(Self { requests: sender, thread })
    }
}

/// What lives on the worker's thread.
struct WorkerThread {
    number: usize,
    race: Arc<RaceContext>,
    events: mpsc::Sender<WorkerReport>,
    requests: mpsc::Receiver<WorkerRequest>,
    usage: CpuUsage,
    /// Tasks of later steps.
    rehearsed: Vec<PreparedTask>,
    prepared: Option<Prepared>,
    step: Option<Rc<WorkerStep>>,
    running: JoinSet<Result<(), TaskError>>,
}

/// The step that comes next.
struct Prepared {
    share: StepShare,
    clients: Vec<ClientSteps>,
}

impl WorkerThread {
    /// Lives until it is asked to end, and says how it ended, also if something of it panics.
    fn run(mut self, clients: &[u32]) {
        let lived = catch_unwind(AssertUnwindSafe(|| self.live(clients)));
        let lived = lived.unwrap_or_else(|payload| Err(Panicked::with(payload.as_ref()).into()));
        if let Err(error) = lived {
            self.say(WorkerEvent::Broken(error));
        }
        let measurement = self.measure();
        self.say(WorkerEvent::Ended(measurement));
    }

    fn live(&mut self, clients: &[u32]) -> Result<(), WorkerError> {
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        runtime.map_err(WorkerError::Runtime)?.block_on(async {
            let alarm = Rc::new(Alarm::new().map_err(WorkerError::Alarm)?);
            let result = tokio::select! {
                result = alarm.run() => result.map_err(WorkerError::Alarm),
                result = self.serve(clients, &alarm) => result,
            };
            self.running.shutdown().await;
            result
        })
    }

    async fn serve(&mut self, clients: &[u32], alarm: &Rc<Alarm>) -> Result<(), WorkerError> {
        let roster = match Roster::gather(&self.race, clients).await {
            Ok(roster) => roster,
            Err(error) => {
                self.send(WorkerEvent::Unready(error)).await;
                return Ok(());
            }
        };
        let mode = loop {
            tokio::select! {
                biased;
                request = self.requests.recv() => match request {
                    Some(WorkerRequest::Rehearse(tasks)) => self.rehearse(tasks, &roster).await,
                    Some(WorkerRequest::Prepare(share)) => self.prepare(share, &roster).await,
                    Some(WorkerRequest::Drive { start, samples }) => {
                        self.usage.take(alarm.take_idle());
                        self.drive(start, samples, alarm).await;
                    }
                    Some(WorkerRequest::CompleteStep) => {
                        if let Some(step) = &self.step {
                            step.complete();
                        }
                    }
                    Some(WorkerRequest::Measure) => {
                        let measurement = self.measure();
                        self.send(WorkerEvent::Measured(measurement)).await;
                    }
                    Some(WorkerRequest::Stop(mode)) => break mode,
                    // Nobody holds the race any more.
                    None => break StopMode::Now,
                },
                Some(ended) = self.running.join_next() => {
                    match ended.map_err(JoinError::try_into_panic) {
                        // The race decides what becomes of the other clients.
                        Ok(Err(error)) => self.send(WorkerEvent::Failed(error)).await,
                        // Its runners and sources are of others, and panic even where they are dropped.
                        Err(Ok(payload)) => return Err(Panicked::with(payload.as_ref()).into()),
                        Ok(Ok(())) | Err(Err(_)) if self.running.is_empty() => self.reach().await,
                        Ok(Ok(())) | Err(Err(_)) => {}
                    }
                }
            }
        };
        let problem = self.stop(mode).await;
        // Before anything else that takes time: the race does not wait for ever.
        let measurement = self.measure();
        self.send(WorkerEvent::Measured(measurement)).await;
        if let Some(problem) = problem {
            self.send(problem).await;
        }
        if let Some(problem) = roster.disband().await {
            self.send(WorkerEvent::Noticed(problem)).await;
        }
        Ok(())
    }

    /// Makes a task ready for one of its clients before the race.
    async fn rehearse(&mut self, tasks: Vec<(u32, ClientTask)>, roster: &Roster) {
        let tasks = tasks.into_iter();
        let rehearsed =
            tasks.map(|(client, task)| PreparedTask::new(&self.race, client, task, &roster.lanes(client))).collect();
        match rehearsed {
            Ok(rehearsed) => self.rehearsed = rehearsed,
            Err(error) => self.send(WorkerEvent::Failed(error)).await,
        }
    }

    /// Makes ready whatever can be made ready before the step begins.
    async fn prepare(&mut self, share: StepShare, roster: &Roster) {
        let (race, rehearsed) = (&self.race, &mut self.rehearsed);
        let clients = share.clients.iter().map(|(client, tasks)| {
            ClientSteps::prepare(race, *client, &roster.lanes(*client), tasks.clone(), rehearsed)
        });
        self.prepared = Some(Prepared { clients: clients.collect(), share });
        roster.warm_up().await;
        self.send(WorkerEvent::Ready).await;
    }

    async fn drive(&mut self, start: StepStart, samples: Option<SampleSender>, alarm: &Rc<Alarm>) {
        let Some(Prepared { share, clients }) = self.prepared.take() else { return };
        let step = WorkerStep::new(&self.race, alarm, &share, start, samples, self.number, &self.events);
        let step = Rc::new(step);
        for client in clients {
            self.running.spawn_local(client.run(Rc::clone(&step)));
        }
        self.step = Some(step);
        if self.running.is_empty() {
            self.reach().await;
        }
    }

    async fn reach(&mut self) {
        let measurement = self.measure();
        self.step = None;
        self.send(WorkerEvent::Reached(measurement)).await;
    }

    /// Ends all clients; a drain ends as soon as somebody wants the end at once.
    /// Gives what the first client failed of meanwhile.
    async fn stop(&mut self, mode: StopMode) -> Option<WorkerEvent> {
        let mut problem = None;
        if mode == StopMode::Drain
            && let Some(step) = &self.step
        {
            step.cancel();
            let (running, requests) = (&mut self.running, &mut self.requests);
            let drained = async {
                while let Some(ended) = running.join_next().await {
                    let failed = match ended.map_err(JoinError::try_into_panic) {
                        Ok(Err(error)) => Some(WorkerEvent::Failed(error)),
                        Err(Ok(payload)) => Some(WorkerEvent::Broken(Panicked::with(payload.as_ref()).into())),
                        Ok(Ok(())) | Err(Err(_)) => None,
                    };
                    problem = problem.take().or(failed);
                }
            };
            let hurried =
                async { while !matches!(requests.recv().await, Some(WorkerRequest::Stop(StopMode::Now)) | None) {} };
            // Whoever is not done by now is dropped below.
            tokio::select! {
                _ = timeout(DRAIN, drained) => {}
                () = hurried => {}
            }
        }
        self.running.shutdown().await;
        problem
    }

    fn measure(&mut self) -> Box<Measurement> {
        let Some(step) = &self.step else { return Box::default() };
        let busy = self.usage.take(step.alarm.take_idle());
        Box::new(Measurement {
            recording: step.recorder.borrow_mut().take(),
            progress: step.progress(),
            made: step.made.take(),
            in_flight: step.in_flight.get(),
            busy,
        })
    }

    async fn send(&self, event: WorkerEvent) {
        // Without a receiver the race is over; the closed request channel tells.
        let _ = self.events.send(WorkerReport { worker: self.number, event }).await;
    }

    /// The same where there is no runtime.
    fn say(&self, event: WorkerEvent) {
        let _ = self.events.blocking_send(WorkerReport { worker: self.number, event });
    }
}

/// CPU time of the current thread, counted from when it was last taken.
#[derive(Debug)]
struct CpuUsage(u64);

impl CpuUsage {
    fn start() -> Self {
        Self(thread_cpu())
    }

    /// CPU time in nanoseconds, without so many in which the thread was awake but idle.
    fn take(&mut self, idle: u64) -> u64 {
        let before = std::mem::replace(&mut self.0, thread_cpu());
        (self.0 - before).saturating_sub(idle)
    }
}

/// CPU time of the current thread in nanoseconds.
fn thread_cpu() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::path::Path;

    use async_trait::async_trait;
    use rally_core::track::{Operation, Task};
    use rally_core::{Completion, RacePlan};

    use super::*;
    use crate::corpus::Corpora;
    use crate::{Outcome, Params, Registry, Runner, RunnerError};

    /// Panics when it is dropped outside of a task, once.
    struct Fragile(Cell<bool>);

    #[async_trait(?Send)]
    impl Runner for Fragile {
        fn prepare(&mut self, _params: &Params) -> Result<(), RunnerError> {
            Ok(())
        }

        async fn run(&mut self) -> Result<Outcome, RunnerError> {
            Ok(Outcome::default())
        }
    }

    impl Drop for Fragile {
        fn drop(&mut self) {
            assert!(!self.0.take(), "cannot be closed");
        }
    }

    #[test]
    fn a_panic_of_the_worker_itself_is_told_and_its_last_words_follow() {
        let mut registry = Registry::empty();
        registry.register_runner("fragile", |_| Ok(Fragile(Cell::new(true))));
        let task = crate::testing::task(Task::builder(Operation::builder("fragile")));
        let challenge = rally_core::track::Challenge::builder("c").task(Task::builder(Operation::builder("fragile")));
        let track = rally_core::track::Track::builder("t").challenge(challenge).build().unwrap();
        let race = Arc::new(RaceContext {
            race: "4711".parse().unwrap(),
            plan: Arc::new(RacePlan::new(track, "c")),
            tasks: vec![Arc::new(task)],
            registry: Arc::new(registry),
            data_dir: Arc::from(Path::new(".")),
            corpora: Arc::new(Corpora::default()),
            ended: Default::default(),
        });
        let (sender, mut reports) = mpsc::channel(16);
        let worker = Worker::start(3, vec![0], race, sender).unwrap();
        let allocated =
            ClientTask { task: TaskIndex(0), client_in_task: 0, client_in_element: 0, clients_of_element: 1 };
        let share = |clients| StepShare { completion: Completion::Each, clients };
        // What was prepared first is dropped for the second, where nobody but the worker could notice.
        worker.requests.blocking_send(WorkerRequest::Prepare(share(vec![(0, vec![allocated])]))).unwrap();
        worker.requests.blocking_send(WorkerRequest::Prepare(share(Vec::new()))).unwrap();
        let mut told = Vec::new();
        while let Some(WorkerReport { worker, event }) = reports.blocking_recv() {
            assert_eq!(worker, 3);
            told.push(match event {
                WorkerEvent::Broken(error) => error.to_string(),
                WorkerEvent::Ready => "ready".to_owned(),
                WorkerEvent::Ended(_) => "ended".to_owned(),
                other => format!("{other:?}"),
            });
        }
        assert_eq!(told, ["ready", "it panicked: cannot be closed", "ended"]);
        worker.thread.join().unwrap();
    }
}
