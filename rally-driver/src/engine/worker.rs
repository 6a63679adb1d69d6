//! A worker: one thread with its share of the clients.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rally_core::{StopMode, TaskIndex};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::timeout;

use super::alarm::Alarm;
use super::client_loop::run_client;
use super::error::TaskError;
use super::step::{ProgressSum, RaceContext, StepShare, WorkerStep};
use crate::RequestTimer;
use crate::recorder::Recording;

/// Requests to one worker that may wait. The race sends a new one of each kind only once the last is answered.
const REQUESTS: usize = 8;

/// How long requests in flight may take when the race is stopped.
const DRAIN: Duration = Duration::from_secs(10);

/// What the race asks of a worker.
#[derive(Debug)]
pub(crate) enum WorkerRequest {
    /// Run a step; answered by [`WorkerEvent::Reached`].
    Drive(StepShare),
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
    /// Starts a worker.
    ///
    /// # Errors
    ///
    /// What the operating system says if there is no thread left.
    pub(crate) fn start(number: usize, race: Arc<RaceContext>, events: mpsc::Sender<WorkerReport>) -> io::Result<Self> {
        let (sender, requests) = mpsc::channel(REQUESTS);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name(format!("load-{number}")).spawn(move || {
            let worker = WorkerThread { number, race, events, requests, step: None, clients: JoinSet::new() };
            worker.run(&runtime);
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
    step: Option<Rc<WorkerStep>>,
    clients: JoinSet<Result<(), TaskError>>,
}

impl WorkerThread {
    fn run(mut self, runtime: &Runtime) {
        let local = LocalSet::new();
        local.block_on(runtime, async {
            let result = match Alarm::new() {
                Ok(alarm) => {
                    let alarm = Rc::new(alarm);
                    tokio::select! {
                        result = alarm.run() => result,
                        () = self.serve(&alarm) => Ok(()),
                    }
                }
                Err(error) => Err(error),
            };
            if let Err(error) = result {
                self.send(WorkerEvent::Broken(error)).await;
            }
            self.clients.shutdown().await;
        });
    }

    async fn serve(&mut self, alarm: &Rc<Alarm>) {
        let mut usage = CpuUsage::start();
        loop {
            tokio::select! {
                biased;
                request = self.requests.recv() => match request {
                    Some(WorkerRequest::Drive(share)) => self.drive(share, alarm).await,
                    Some(WorkerRequest::CompleteStep) => {
                        if let Some(step) = &self.step {
                            step.complete();
                        }
                    }
                    Some(WorkerRequest::Measure) => {
                        let measurement = self.measure(usage.take());
                        self.send(WorkerEvent::Measured(measurement)).await;
                    }
                    Some(WorkerRequest::Stop(mode)) => {
                        self.stop(mode).await;
                        let measurement = self.measure(usage.take());
                        self.send(WorkerEvent::Ended(measurement)).await;
                        break;
                    }
                    // Nobody holds the race any more.
                    None => break,
                },
                Some(ended) = self.clients.join_next() => {
                    if let Ok(Err(error)) = ended {
                        // The race decides what becomes of the other clients.
                        self.send(WorkerEvent::Failed(error)).await;
                    } else if self.clients.is_empty() {
                        self.reach(usage.take()).await;
                    }
                }
            }
        }
    }

    async fn drive(&mut self, share: StepShare, alarm: &Rc<Alarm>) {
        let step = Rc::new(WorkerStep::new(&self.race, alarm, &share, self.number, &self.events));
        for (client, tasks) in share.clients {
            self.clients.spawn_local(run_client(Rc::clone(&step), client, tasks));
        }
        self.step = Some(step);
        if self.clients.is_empty() {
            self.reach(0.0).await;
        }
    }

    async fn reach(&mut self, busy: f64) {
        let measurement = self.measure(busy);
        self.step = None;
        self.send(WorkerEvent::Reached(measurement)).await;
    }

    async fn stop(&mut self, mode: StopMode) {
        if mode == StopMode::Drain
            && let Some(step) = &self.step
        {
            step.cancel();
            let drained = async { while self.clients.join_next().await.is_some() {} };
            // Whoever is not done by now is dropped below.
            let _ = timeout(DRAIN, drained).await;
        }
        self.clients.shutdown().await;
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
