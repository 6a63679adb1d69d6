//! What one simulated client does in one step.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::try_join_all;
use rally_core::metrics::{RequestTimes, SampleType};
use rally_core::track::Task;
use rally_core::{ClientTask, OnError};
use serde_json::Value;

use super::error::{ClientError, TaskError};
use super::length::Length;
use super::pace::Pace;
use super::roster::Lane;
use super::step::{RaceContext, WorkerStep};
use crate::client::Clients;
use crate::recorder::{RequestError, Sample};
use crate::{
    ErrorClass, Outcome, ParamSource, ParamSourceSetup, Params, Partition, RequestTimer, Runner, RunnerError,
    RunnerSetup, SchedulerSetup, Span,
};

/// What one simulated client does in a step, with its first task made ready before the step begins.
pub(crate) struct ClientSteps {
    race: Arc<RaceContext>,
    client: u32,
    lanes: Rc<[Lane]>,
    tasks: Vec<ClientTask>,
    /// A fault shows when the step is run: nobody has asked for it yet.
    first: Result<Vec<ClientTaskLoop>, ClientError>,
}

impl ClientSteps {
    /// Makes the first of a client's tasks ready, of which there is at least one.
    pub(crate) fn prepare(race: &Arc<RaceContext>, client: u32, lanes: Rc<[Lane]>, tasks: Vec<ClientTask>) -> Self {
        let first = tasks.first().map(|task| ClientTaskLoop::of_lanes(race, client, task, &lanes));
        Self { race: Arc::clone(race), client, lanes, tasks, first: first.unwrap_or_else(|| Ok(Vec::new())) }
    }

    /// Runs the tasks, one after the other.
    ///
    /// # Errors
    ///
    /// [`TaskError`] ends the race.
    pub(crate) async fn run(self, step: Rc<WorkerStep>) -> Result<(), TaskError> {
        let Self { race, client, lanes, tasks, first } = self;
        let mut first = Some(first);
        for allocated in tasks {
            let ready = first.take();
            let start = if ready.is_some() { step.start.monotonic } else { RequestTimer::now() };
            if !step.ends(allocated.task) {
                let result = async {
                    let mut loops =
                        ready.unwrap_or_else(|| ClientTaskLoop::of_lanes(&race, client, &allocated, &lanes))?;
                    let run = async {
                        match &mut loops[..] {
                            // The usual case does without the bookkeeping of the other.
                            [one] => one.run(&step, start).await,
                            all => try_join_all(all.iter_mut().map(|one| one.run(&step, start))).await.map(drop),
                        }
                    };
                    let run = AssertUnwindSafe(run).catch_unwind();
                    run.await.unwrap_or_else(|payload| Err(ClientError::panicked(payload.as_ref())))
                };
                result.await.map_err(|source| TaskError::failed(race.task(allocated.task), client, source))?;
            }
            step.client_done(client, allocated.task).await;
        }
        Ok(())
    }
}

/// One client running one task against one cluster, or against whatever its runner chooses.
struct ClientTaskLoop {
    race: Arc<RaceContext>,
    client: u32,
    allocated: ClientTask,
    task: Arc<Task>,
    lane: Lane,
    /// Reconnects and retries of the clients that were recorded.
    repairs: (u64, u64),
    runner: Box<dyn Runner>,
    source: Box<dyn ParamSource>,
    /// What the runner has prepared.
    prepared: Option<Params>,
    pace: Pace,
    length: Length,
    /// What is done first; none if there is nothing to do.
    first: Option<NextRequest>,
}

/// What is to be done next.
struct NextRequest {
    /// From the start of the task.
    due: Option<Duration>,
    sample_type: SampleType,
    progress: Option<f64>,
    /// Whether preparing it took time.
    was_prepared: bool,
}

impl ClientTaskLoop {
    /// Makes a task ready for each lane of a client.
    fn of_lanes(
        race: &Arc<RaceContext>,
        client: u32,
        allocated: &ClientTask,
        lanes: &[Lane],
    ) -> Result<Vec<Self>, ClientError> {
        let make = || lanes.iter().map(|lane| Self::new(race, client, *allocated, lane.clone())).collect();
        catch_unwind(AssertUnwindSafe(make)).unwrap_or_else(|payload| Err(ClientError::panicked(payload.as_ref())))
    }

    fn new(race: &Arc<RaceContext>, client: u32, allocated: ClientTask, lane: Lane) -> Result<Self, ClientError> {
        let task = race.task(allocated.task);
        let partition = Partition { index: allocated.client_in_task, total: task.clients };
        let seed = race.seed(&task.name, allocated.client_in_task);
        let runner = race.registry.runner(&RunnerSetup {
            plan: Arc::clone(&race.plan),
            task: Arc::clone(task),
            partition,
            clients: Rc::clone(&lane.clients),
            timer: Rc::clone(&lane.timer),
            registry: Arc::clone(&race.registry),
            composite: None,
        })?;
        let source = race.registry.param_source(&ParamSourceSetup {
            plan: Arc::clone(&race.plan),
            task: Arc::clone(task),
            partition,
            data_dir: Arc::clone(&race.data_dir),
            seed,
            corpora: Arc::clone(&race.corpora),
        })?;
        let scheduler = race.registry.scheduler(&SchedulerSetup { task, seed })?;
        let mut one = Self {
            race: Arc::clone(race),
            client,
            allocated,
            task: Arc::clone(task),
            repairs: lane.clients.reconnects_and_retries(),
            pace: Pace::new(task, scheduler),
            length: Length::of(task, source.is_infinite(), runner.is_self_terminating())?,
            lane,
            runner,
            source,
            prepared: None,
            first: None,
        };
        one.first = one.next_request(0, one.ramp_up())?;
        Ok(one)
    }

    /// Sends requests until the task is over for this client.
    ///
    /// Parameters of the next request are drawn and prepared right after the last one is done, before it is waited for.
    async fn run(&mut self, step: &WorkerStep, start: u64) -> Result<(), ClientError> {
        let begin = start.saturating_add(nanos(self.ramp_up()));
        let mut free = begin;
        let mut number = 0;
        let mut next = self.first.take();
        while let Some(request) = next {
            let intended = request.due.map(|due| start + nanos(due));
            let due = intended.unwrap_or(0).max(begin);
            if number == 0 || due > free {
                self.wait_until(step, due).await?;
            } else {
                // Runners that never wait would starve everybody else on this worker.
                tokio::task::coop::consume_budget().await;
            }
            if step.ends(self.allocated.task) {
                break;
            }
            // The clock is only read again if time has passed since the last request.
            let called = if number == 0 || due > free || request.was_prepared { RequestTimer::now() } else { free };
            let moments = Moments { start, intended, free, called };
            free = self.execute(step, moments, &request).await?;
            number += 1;
            if self.runner.is_self_terminating() && self.runner.progress().is_some_and(|progress| progress >= 1.0) {
                break;
            }
            next = self.next_request(number, elapsed(start, free))?;
        }
        Ok(())
    }

    /// How long this client waits before its first request.
    fn ramp_up(&self) -> Duration {
        let share = f64::from(self.allocated.client_in_element) / f64::from(self.allocated.clients_of_element.max(1));
        self.task.ramp_up_time_period.map_or(Duration::ZERO, |period| period.mul_f64(share))
    }

    /// Draws and prepares what is to be done next; none if the task is over.
    fn next_request(&mut self, number: u64, elapsed: Duration) -> Result<Option<NextRequest>, ClientError> {
        let due = self.pace.next();
        let Some(iteration) = self.length.iteration(number, elapsed) else { return Ok(None) };
        let Some(params) = self.source.next()? else { return Ok(None) };
        let progress = self.runner.progress().or(iteration.progress).or_else(|| self.source.progress());
        let was_prepared = !self.prepared.as_ref().is_some_and(|prepared| is_same(prepared, &params));
        if was_prepared {
            self.runner.prepare(&params)?;
            self.prepared = Some(params);
        }
        Ok(Some(NextRequest { due, sample_type: iteration.sample_type, progress, was_prepared }))
    }

    /// Waits, unless the task ends in the meantime.
    async fn wait_until(&self, step: &WorkerStep, due: u64) -> Result<(), ClientError> {
        while RequestTimer::now() < due && !step.ends(self.allocated.task) {
            step.alarm.sleep_until(due).await.map_err(ClientError::Wait)?;
        }
        Ok(())
    }

    /// Executes the operation once and records it. Returns when it was done.
    async fn execute(
        &mut self,
        step: &WorkerStep,
        moments: Moments,
        request: &NextRequest,
    ) -> Result<u64, ClientError> {
        let Moments { start, intended, free, called } = moments;
        self.pace.before_request(elapsed(start, called));
        step.in_flight.set(step.in_flight.get() + 1);
        let result = self.runner.run().await;
        step.in_flight.set(step.in_flight.get() - 1);
        let returned = RequestTimer::now();
        let span = self.lane.timer.take();

        let (outcome, error, span) = match result {
            Ok(outcome) => {
                let error = (!outcome.success).then(|| describe(&outcome));
                (outcome, error, span.ok_or(ClientError::NoRequest)?)
            }
            Err(failure) => {
                let (outcome, error) = failed(failure)?;
                (outcome, Some(error), span.unwrap_or(Span { sent: called, received: returned }))
            }
        };
        if self.pace.after_request(elapsed(start, returned), outcome.weight, &outcome.unit)?.is_some() {
            step.notice_other_unit(self.allocated.task, &outcome.unit);
        }
        step.set_progress(self.client, self.allocated.task, self.runner.progress().or(request.progress));
        let ends = error.as_ref().and_then(|failure| self.ends_race(failure));
        let repairs = self.lane.clients.reconnects_and_retries();
        let mut recorder = step.recorder.borrow_mut();
        recorder.record(Sample {
            task: self.allocated.task,
            cluster: self.lane.cluster.as_ref(),
            client: self.client,
            sample_type: request.sample_type,
            times: RequestTimes { intended, called, sent: span.sent, received: span.received, returned },
            dispatch_lag: intended.map(|intended| span.sent.saturating_sub(intended.max(free))),
            is_behind: intended.is_some_and(|intended| intended < free),
            task_start: start,
            outcome,
            error: error.map(|failure| failure.recorded(&self.lane.clients)),
        });
        if repairs != self.repairs {
            let (reconnects, retries) = std::mem::replace(&mut self.repairs, repairs);
            recorder.count_repairs(repairs.0 - reconnects, repairs.1 - retries);
        }
        match ends {
            Some(error) => Err(error),
            None => Ok(returned),
        }
    }

    /// What ends the race after a failed request, if anything does.
    fn ends_race(&self, failure: &Failure) -> Option<ClientError> {
        let Failure { class, description, .. } = failure;
        let ends = match (self.race.plan.on_error, class) {
            (_, ErrorClass::Assertion) => {
                return Some(ClientError::Runner(RunnerError::Assertion(description.clone())));
            }
            (OnError::ContinueOnNetwork, _) => false,
            (OnError::Abort, _) if !self.task.ignores_non_fatal_errors => true,
            (OnError::Abort | OnError::Continue, class) => *class == ErrorClass::Connect,
        };
        ends.then(|| ClientError::Aborted { class: *class, description: description.clone() })
    }
}

/// The instants that are known before a request is sent, in nanoseconds of the driver's clock.
#[derive(Clone, Copy)]
struct Moments {
    /// The client's loop of the task began.
    start: u64,
    /// The schedule wants the request to start; none if it is not throttled.
    intended: Option<u64>,
    /// The client had done the request before, or its ramp-up was over.
    free: u64,
    /// The runner is called.
    called: u64,
}

/// What went wrong with a request.
struct Failure {
    class: ErrorClass,
    description: String,
    /// Whether an answer told so.
    is_answer: bool,
}

impl Failure {
    fn recorded(self, clients: &Clients) -> RequestError {
        let body = clients.take_error_body();
        RequestError {
            class: self.class,
            description: self.description,
            body: if self.is_answer { body } else { Bytes::new() },
        }
    }
}

/// Whether the runner has prepared these very parameters. Bodies differ from each other as a rule.
fn is_same(prepared: &Params, params: &Params) -> bool {
    Rc::ptr_eq(&prepared.values, &params.values) && prepared.body.is_none() && params.body.is_none()
}

/// Class and description of what a runner says was no success.
fn describe(outcome: &Outcome) -> Failure {
    let text = |key| outcome.meta.get(key).and_then(Value::as_str);
    let class = if text("error-type") == Some("bulk") { ErrorClass::Bulk } else { ErrorClass::Response };
    let description = text("error-description").unwrap_or("the runner reported no success").to_owned();
    Failure { class, description, is_answer: false }
}

/// The sample that a failure leaves behind.
///
/// # Errors
///
/// The failure itself if it is none that leaves a sample.
fn failed(failure: RunnerError) -> Result<(Outcome, Failure), RunnerError> {
    let mut outcome = Outcome { weight: 0, success: false, ..Outcome::default() };
    let (error_type, class, description) = match failure {
        RunnerError::Transport { class, description } => ("transport", class, description),
        RunnerError::Api { status, description, meta } => {
            outcome.meta.insert("http-status".to_owned(), status.into());
            outcome.meta.extend(meta.into_iter().map(|(name, value)| (name.to_owned(), value.into())));
            ("api", ErrorClass::Http(status), description)
        }
        RunnerError::Assertion(description) => ("assertion", ErrorClass::Assertion, description),
        other => return Err(other),
    };
    outcome.meta.insert("error-type".to_owned(), error_type.into());
    outcome.meta.insert("error-description".to_owned(), description.as_str().into());
    Ok((outcome, Failure { class, description, is_answer: error_type == "api" }))
}

fn elapsed(start: u64, now: u64) -> Duration {
    Duration::from_nanos(now.saturating_sub(start))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
