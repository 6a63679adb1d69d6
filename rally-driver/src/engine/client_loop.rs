//! What one simulated client does in one step.

use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use rally_core::metrics::{RequestTimes, SampleType};
use rally_core::track::Task;
use rally_core::{ClientTask, OnError};
use serde_json::Value;

use super::error::{ClientError, TaskError};
use super::length::Length;
use super::pace::Pace;
use super::step::WorkerStep;
use crate::client::Clients;
use crate::recorder::Sample;
use crate::{
    ErrorClass, Outcome, ParamSource, ParamSourceSetup, Params, Partition, RequestTimer, Runner, RunnerError,
    RunnerSetup, SchedulerSetup, Span,
};

/// Runs the tasks of one client, one after the other.
///
/// # Errors
///
/// [`TaskError`] ends the race.
pub(crate) async fn run_client(step: Rc<WorkerStep>, client: u32, tasks: Vec<ClientTask>) -> Result<(), TaskError> {
    let timer = Rc::new(RequestTimer::default());
    let clients = match Clients::new(&step.race.plan, client, &timer) {
        Ok(clients) => Rc::new(clients),
        Err(error) => {
            let Some(allocated) = tasks.first() else { return Ok(()) };
            return Err(TaskError::failed(step.race.task(allocated.task), client, error.into()));
        }
    };
    clients.warm_up().await;
    for (column, allocated) in tasks.into_iter().enumerate() {
        let task = step.race.task(allocated.task);
        if !step.ends(allocated.task) {
            let result = async {
                let mut client_task = ClientTaskLoop::new(&step, client, allocated, &clients, &timer)?;
                let start = if column == 0 { step.start.monotonic } else { RequestTimer::now() };
                let run = AssertUnwindSafe(client_task.run(start)).catch_unwind();
                run.await.unwrap_or_else(|payload| Err(ClientError::panicked(payload.as_ref())))
            };
            result.await.map_err(|source| TaskError::failed(task, client, source))?;
        }
        step.client_done(client, allocated.task).await;
    }
    Ok(())
}

/// One client running one task.
struct ClientTaskLoop<'a> {
    step: &'a WorkerStep,
    client: u32,
    allocated: ClientTask,
    task: &'a Task,
    timer: Rc<RequestTimer>,
    clients: Rc<Clients>,
    /// Reconnects and retries of the clients that were recorded.
    repairs: (u64, u64),
    runner: Box<dyn Runner>,
    source: Box<dyn ParamSource>,
    /// What the runner has prepared.
    prepared: Option<Params>,
    pace: Pace,
    length: Length,
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

impl<'a> ClientTaskLoop<'a> {
    fn new(
        step: &'a WorkerStep,
        client: u32,
        allocated: ClientTask,
        clients: &Rc<Clients>,
        timer: &Rc<RequestTimer>,
    ) -> Result<Self, ClientError> {
        let race = &step.race;
        let task = race.task(allocated.task);
        let partition = Partition { index: allocated.client_in_task, total: task.clients };
        let seed = race.seed(&task.name, allocated.client_in_task);
        let runner = race.registry.runner(&RunnerSetup {
            plan: Arc::clone(&race.plan),
            task: Arc::clone(task),
            partition,
            clients: Rc::clone(clients),
            timer: Rc::clone(timer),
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
        Ok(Self {
            step,
            client,
            allocated,
            task,
            timer: Rc::clone(timer),
            clients: Rc::clone(clients),
            repairs: clients.reconnects_and_retries(),
            pace: Pace::new(task, scheduler),
            length: Length::of(task, source.is_infinite(), runner.is_self_terminating())?,
            runner,
            source,
            prepared: None,
        })
    }

    /// Sends requests until the task is over for this client.
    ///
    /// Parameters of the next request are drawn and prepared right after the last one is done, before it is waited for.
    async fn run(&mut self, start: u64) -> Result<(), ClientError> {
        let begin = start + self.ramp_up();
        let mut free = begin;
        let mut number = 0;
        while let Some(request) = self.next_request(number, elapsed(start, free))? {
            let intended = request.due.map(|due| start + nanos(due));
            let due = intended.unwrap_or(0).max(begin);
            if number == 0 || due > free {
                self.wait_until(due).await?;
            } else {
                // Runners that never wait would starve everybody else on this worker.
                tokio::task::coop::consume_budget().await;
            }
            if self.step.ends(self.allocated.task) {
                break;
            }
            // The clock is only read again if time has passed since the last request.
            let called = if number == 0 || due > free || request.was_prepared { RequestTimer::now() } else { free };
            free = self.execute(start, intended, due.max(free), called, &request).await?;
            number += 1;
            if self.runner.is_self_terminating() && self.runner.progress().is_some_and(|progress| progress >= 1.0) {
                break;
            }
        }
        Ok(())
    }

    fn ramp_up(&self) -> u64 {
        let share = f64::from(self.allocated.client_in_element) / f64::from(self.allocated.clients_of_element.max(1));
        self.task.ramp_up_time_period.map_or(0, |period| nanos(period.mul_f64(share)))
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
    async fn wait_until(&self, due: u64) -> Result<(), ClientError> {
        while RequestTimer::now() < due && !self.step.ends(self.allocated.task) {
            self.step.alarm.sleep_until(due).await.map_err(ClientError::Wait)?;
        }
        Ok(())
    }

    /// Executes the operation once and records it. Returns when it was done.
    async fn execute(
        &mut self,
        start: u64,
        intended: Option<u64>,
        free: u64,
        called: u64,
        request: &NextRequest,
    ) -> Result<u64, ClientError> {
        self.pace.before_request(elapsed(start, called));
        let in_flight = &self.step.in_flight;
        in_flight.set(in_flight.get() + 1);
        let result = self.runner.run().await;
        in_flight.set(in_flight.get() - 1);
        let returned = RequestTimer::now();
        let span = self.timer.take();

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
        let elapsed = elapsed(start, returned);
        if self.pace.after_request(elapsed, outcome.weight, &outcome.unit)?.is_some() {
            self.step.notice_other_unit(self.allocated.task, &outcome.unit);
        }
        let aborts = error.as_ref().filter(|(class, _)| self.aborts_on(*class)).cloned();
        self.step.set_progress(self.client, self.allocated.task, self.runner.progress().or(request.progress));
        let times = RequestTimes { intended, called, sent: span.sent, received: span.received, returned };
        self.step.recorder.borrow_mut().record(Sample {
            task: self.allocated.task,
            client: self.client,
            sample_type: request.sample_type,
            times,
            dispatch_lag: intended.map(|_| span.sent.saturating_sub(free)),
            task_start: start,
            outcome,
            error,
        });
        let (reconnects, retries) = self.clients.reconnects_and_retries();
        if (reconnects, retries) != self.repairs {
            let (reconnects_before, retries_before) = std::mem::replace(&mut self.repairs, (reconnects, retries));
            let mut recorder = self.step.recorder.borrow_mut();
            recorder.count_repairs(reconnects - reconnects_before, retries - retries_before);
        }
        match aborts {
            Some((class, description)) => Err(ClientError::Aborted { class, description }),
            None => Ok(returned),
        }
    }

    /// Whether a failed request ends the race.
    fn aborts_on(&self, class: ErrorClass) -> bool {
        match self.step.race.plan.on_error {
            OnError::ContinueOnNetwork => false,
            OnError::Abort if !self.task.ignores_non_fatal_errors => true,
            OnError::Abort | OnError::Continue => class == ErrorClass::Connect,
        }
    }
}

/// Whether the runner has prepared these very parameters. Bodies differ from each other as a rule.
fn is_same(prepared: &Params, params: &Params) -> bool {
    Rc::ptr_eq(&prepared.values, &params.values) && prepared.body.is_none() && params.body.is_none()
}

/// Class and description of what a runner says was no success.
fn describe(outcome: &Outcome) -> (ErrorClass, String) {
    let text = |key| outcome.meta.get(key).and_then(Value::as_str);
    let class = if text("error-type") == Some("bulk") { ErrorClass::Bulk } else { ErrorClass::Response };
    (class, text("error-description").unwrap_or("the runner reported no success").to_owned())
}

/// The sample that a failure leaves behind.
///
/// # Errors
///
/// The failure itself if it is none that leaves a sample.
fn failed(failure: RunnerError) -> Result<(Outcome, (ErrorClass, String)), RunnerError> {
    let mut outcome = Outcome { weight: 0, success: false, ..Outcome::default() };
    let (error_type, class, description) = match failure {
        RunnerError::Transport { class, description } => ("transport", class, description),
        RunnerError::Api { status, description, meta } => {
            outcome.meta.insert("http-status".to_owned(), status.into());
            outcome.meta.extend(meta.into_iter().map(|(name, value)| (name.to_owned(), value.into())));
            ("api", ErrorClass::Http(status), description)
        }
        other => return Err(other),
    };
    outcome.meta.insert("error-type".to_owned(), error_type.into());
    outcome.meta.insert("error-description".to_owned(), description.as_str().into());
    Ok((outcome, (class, description)))
}

fn elapsed(start: u64, now: u64) -> Duration {
    Duration::from_nanos(now.saturating_sub(start))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
