//! A worker: one thread with its share of the clients.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rally_core::{StopMode, TaskIndex};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::alarm::Alarm;
use super::client_loop::ClientSteps;
use super::error::TaskError;
use super::roster::Roster;
use super::step::{ProgressSum, RaceContext, StepShare, WorkerStep};
use crate::RequestTimer;
use crate::client::SetupError;
use crate::recorder::{Recording, StepStart};

/// Requests to one worker that may wait. The race sends a new one of each kind only once the last is answered.
const REQUESTS: usize = 8;

/// How long requests in flight may take when the race is stopped.
const DRAIN: Duration = Duration::from_secs(10);

/// What the race asks of a worker.
#[derive(Debug)]
pub(crate) enum WorkerRequest {
    /// Make ready for a step; answered by [`WorkerEvent::Ready`].
    Prepare(StepShare),
    /// Run the step that was prepared; answered by [`WorkerEvent::Reached`].
    Drive {
        start: StepStart,
        /// Whether raw samples are wanted.
        keeps_raw: bool,
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
    /// Connections are open, and the first task of each client is made ready.
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
    /// The worker itself could not go on.
    Broken(io::Error),
    /// It is gone.
    Ended(Box<Measurement>),
}

/// What a worker measured, and how it did.
#[derive(Debug, Default)]
pub(crate) struct Measurement {
    pub(crate) recording: Recording,
    pub(crate) progress: Vec<ProgressSum>,
    /// Requests under way; those of a worker that has ended were cut off.
    pub(crate) in_flight: u32,
    /// CPU time of the worker as a share of the time since it was last asked.
    pub(crate) busy: f64,
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
            WorkerThread { number, race, events, requests, prepared: None, step, running }.run(&clients);
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
    fn run(mut self, clients: &[u32]) {
        let runtime = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
            Ok(runtime) => runtime,
            Err(error) => {
                let event = WorkerEvent::Broken(error);
                // Without a receiver the race is over.
                let _ = self.events.blocking_send(WorkerReport { worker: self.number, event });
                return;
            }
        };
        runtime.block_on(async {
            let result = match Alarm::new() {
                Ok(alarm) => {
                    let alarm = Rc::new(alarm);
                    tokio::select! {
                        result = alarm.run() => result,
                        () = self.serve(clients, &alarm) => Ok(()),
                    }
                }
                Err(error) => Err(error),
            };
            if let Err(error) = result {
                self.send(WorkerEvent::Broken(error)).await;
            }
            self.running.shutdown().await;
        });
    }

    async fn serve(&mut self, clients: &[u32], alarm: &Rc<Alarm>) {
        let roster = match Roster::gather(&self.race.plan, clients).await {
            Ok(roster) => roster,
            Err(error) => return self.send(WorkerEvent::Unready(error)).await,
        };
        let mut usage = CpuUsage::start();
        let mode = loop {
            tokio::select! {
                biased;
                request = self.requests.recv() => match request {
                    Some(WorkerRequest::Prepare(share)) => self.prepare(share, &roster).await,
                    Some(WorkerRequest::Drive { start, keeps_raw }) => {
                        usage.take();
                        self.drive(start, keeps_raw, alarm).await;
                    }
                    Some(WorkerRequest::CompleteStep) => {
                        if let Some(step) = &self.step {
                            step.complete();
                        }
                    }
                    Some(WorkerRequest::Measure) => {
                        let measurement = self.measure(usage.take());
                        self.send(WorkerEvent::Measured(measurement)).await;
                    }
                    Some(WorkerRequest::Stop(mode)) => break Some(mode),
                    // Nobody holds the race any more.
                    None => break None,
                },
                Some(ended) = self.running.join_next() => {
                    if let Ok(Err(error)) = ended {
                        // The race decides what becomes of the other clients.
                        self.send(WorkerEvent::Failed(error)).await;
                    } else if self.running.is_empty() {
                        self.reach(usage.take()).await;
                    }
                }
            }
        };
        self.stop(mode.unwrap_or(StopMode::Now)).await;
        if let Some(problem) = roster.disband().await {
            self.send(WorkerEvent::Noticed(problem)).await;
        }
        if mode.is_some() {
            let measurement = self.measure(usage.take());
            self.send(WorkerEvent::Ended(measurement)).await;
        }
    }

    /// Makes ready whatever can be made ready before the step begins.
    async fn prepare(&mut self, share: StepShare, roster: &Roster) {
        let clients = share
            .clients
            .iter()
            .map(|(client, tasks)| ClientSteps::prepare(&self.race, *client, roster.lanes(*client), tasks.clone()));
        self.prepared = Some(Prepared { clients: clients.collect(), share });
        roster.warm_up().await;
        self.send(WorkerEvent::Ready).await;
    }

    async fn drive(&mut self, start: StepStart, keeps_raw: bool, alarm: &Rc<Alarm>) {
        let Some(Prepared { share, clients }) = self.prepared.take() else { return };
        let step = WorkerStep::new(&self.race, alarm, &share, start, keeps_raw, self.number, &self.events);
        let step = Rc::new(step);
        for client in clients {
            self.running.spawn_local(client.run(Rc::clone(&step)));
        }
        self.step = Some(step);
        if self.running.is_empty() {
            self.reach(0.0).await;
        }
    }

    async fn reach(&mut self, busy: f64) {
        let measurement = self.measure(busy);
        self.step = None;
        self.send(WorkerEvent::Reached(measurement)).await;
    }

    /// Ends all clients; a drain ends as soon as somebody wants the end at once.
    async fn stop(&mut self, mode: StopMode) {
        if mode == StopMode::Drain
            && let Some(step) = &self.step
        {
            step.cancel();
            let (running, requests) = (&mut self.running, &mut self.requests);
            let drained = async { while running.join_next().await.is_some() {} };
            let hurried =
                async { while !matches!(requests.recv().await, Some(WorkerRequest::Stop(StopMode::Now)) | None) {} };
            // Whoever is not done by now is dropped below.
            tokio::select! {
                _ = timeout(DRAIN, drained) => {}
                () = hurried => {}
            }
        }
        self.running.shutdown().await;
    }

    fn measure(&self, busy: f64) -> Box<Measurement> {
        let Some(step) = &self.step else { return Box::default() };
        Box::new(Measurement {
            recording: step.recorder.borrow_mut().take(),
            progress: step.progress(),
            in_flight: step.in_flight.get(),
            busy,
        })
    }

    async fn send(&self, event: WorkerEvent) {
        // Without a receiver the race is over; the closed request channel tells.
        let _ = self.events.send(WorkerReport { worker: self.number, event }).await;
    }
}

/// CPU time of the current thread against time that passed.
#[derive(Debug)]
struct CpuUsage {
    cpu: u64,
    clock: u64,
}

impl CpuUsage {
    fn start() -> Self {
        Self { cpu: thread_cpu(), clock: RequestTimer::now() }
    }

    /// The share since it was last taken, from 0 to 1.
    fn take(&mut self) -> f64 {
        let now = Self::start();
        let share = (now.cpu - self.cpu) as f64 / (now.clock - self.clock).max(1) as f64;
        *self = now;
        share.min(1.0)
    }
}

/// CPU time of the current thread in nanoseconds.
fn thread_cpu() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
