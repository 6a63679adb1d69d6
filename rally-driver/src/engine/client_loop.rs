//! What one simulated client does in one step.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
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
use tokio::task::yield_now;

use super::error::{ClientError, Panicked, TaskError};
use super::length::Length;
use super::pace::Pace;
use super::roster::Lane;
use super::step::{RaceContext, WorkerStep};
use crate::client::Clients;
use crate::recorder::{RequestError, Sample};
use crate::timer::nanos;
use crate::{
    ErrorClass, Outcome, ParamSource, ParamSourceSetup, Params, Partition, RequestTimer, Runner, RunnerError,
    RunnerSetup, SchedulerSetup, Span,
};

/// A client whose requests never wait lets others have their turn after this time, in nanoseconds.
const TURN: u64 = 1_000_000;

/// What one simulated client does in a step, made ready before the step begins.
pub(crate) struct ClientSteps {
    client: u32,
    /// A fault shows when the step is run: nobody has asked for it yet.
    tasks: Result<Vec<PreparedTask>, TaskError>,
}

impl ClientSteps {
    /// Makes a client's tasks ready, except those that were `rehearsed`, so that nothing is opened while others measure.
    /// This takes the memory of as many clients with one task each.
    pub(crate) fn prepare(
        race: &Arc<RaceContext>,
        client: u32,
        lanes: &[Lane],
        tasks: Vec<ClientTask>,
        rehearsed: &mut Vec<PreparedTask>,
    ) -> Self {
        let mut is_first = true;
        let tasks = tasks.into_iter().map(|allocated| {
            let mut task = match rehearsed.iter().position(|known| known.allocated == allocated) {
                Some(known) => rehearsed.swap_remove(known),
                None => PreparedTask::new(race, client, allocated, lanes)?,
            };
            if std::mem::take(&mut is_first) {
                task.draw()?;
            }
            Ok(task)
        });
        Self { client, tasks: tasks.collect() }
    }

    /// Runs the tasks, one after the other.
    ///
    /// # Errors
    ///
    /// [`TaskError`] ends the race.
    pub(crate) async fn run(self, step: Rc<WorkerStep>) -> Result<(), TaskError> {
        let mut start = step.start.monotonic;
        for mut task in self.tasks? {
            let allocated = task.allocated.task;
            if !step.ends(allocated) {
                task.run(&step, start).await?;
            }
            drop(task);
            step.client_done(self.client, allocated).await;
            start = RequestTimer::now();
        }
        Ok(())
    }
}

/// One client's task, with its runner and its parameter source: one of each for every lane.
pub(crate) struct PreparedTask {
    race: Arc<RaceContext>,
    client: u32,
    allocated: ClientTask,
    loops: Vec<ClientTaskLoop>,
}

impl PreparedTask {
    /// Makes a task ready as far as it can be before those before it have run.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(crate) fn new(
        race: &Arc<RaceContext>,
        client: u32,
        allocated: ClientTask,
        lanes: &[Lane],
    ) -> Result<Self, TaskError> {
        let make = || lanes.iter().map(|lane| ClientTaskLoop::new(race, client, allocated, lane.clone())).collect();
        let loops = caught(make).map_err(|source| TaskError::failed(race.task(allocated.task), client, source))?;
        let mut one = Self { race: Arc::clone(race), client, allocated, loops };
        if one.loops.iter().all(|one| one.source.can_draw_early()) {
            one.draw()?;
        }
        Ok(one)
    }

    /// Draws and prepares what is done first, unless it is there.
    fn draw(&mut self) -> Result<(), TaskError> {
        let drawn = caught(|| self.loops.iter_mut().try_for_each(ClientTaskLoop::draw_first));
        drawn.map_err(|source| self.failed(source))
    }

    async fn run(&mut self, step: &WorkerStep, start: u64) -> Result<(), TaskError> {
        self.draw()?;
        let run = async {
            match &mut self.loops[..] {
                // The usual case does without the bookkeeping of the other.
                [one] => one.run(step, start).await,
                all => try_join_all(all.iter_mut().map(|one| one.run(step, start))).await.map(drop),
            }
        };
        let run = AssertUnwindSafe(run).catch_unwind().await;
        run.unwrap_or_else(|payload| Err(Panicked::with(payload.as_ref()).into())).map_err(|source| self.failed(source))
    }

    fn failed(&self, source: ClientError) -> TaskError {
        TaskError::failed(self.race.task(self.allocated.task), self.client, source)
    }
}

/// Runs what others have written. A panic is an error.
fn caught<T>(work: impl FnOnce() -> Result<T, ClientError>) -> Result<T, ClientError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| Err(Panicked::with(payload.as_ref()).into()))
}

/// One client running one task against one cluster, or against whatever its runner chooses.
struct ClientTaskLoop {
    race: Arc<RaceContext>,
    client: u32,
    allocated: ClientTask,
    task: Arc<Task>,
    lane: Lane,
    runner: Box<dyn Runner>,
    source: Box<dyn ParamSource>,
    /// What the runner has prepared.
    prepared: Option<Params>,
    pace: Pace,
    length: Length,
    first: First,
    /// Since when nobody else had a turn, in nanoseconds of the driver's clock.
    turn: u64,
}

/// What is done first.
enum First {
    /// It is not drawn yet.
    Undrawn,
    /// It is ready; none if there is nothing to do.
    Drawn(Option<NextRequest>),
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
        Ok(Self {
            race: Arc::clone(race),
            client,
            allocated,
            task: Arc::clone(task),
            pace: Pace::new(task, scheduler),
            length: Length::of(task, source.is_infinite(), runner.is_self_terminating())?,
            lane,
            runner,
            source,
            prepared: None,
            first: First::Undrawn,
            turn: 0,
        })
    }

    fn draw_first(&mut self) -> Result<(), ClientError> {
        if matches!(self.first, First::Undrawn) {
            self.first = First::Drawn(self.next_request(0, self.ramp_up())?);
        }
        Ok(())
    }

    /// Sends requests until the task is over for this client.
    ///
    /// Parameters of the next request are drawn and prepared right after the last one is done, before it is waited for.
    async fn run(&mut self, step: &WorkerStep, start: u64) -> Result<(), ClientError> {
        let begin = start.saturating_add(nanos(self.ramp_up()));
        let mut free = begin;
        let mut number = 0;
        let First::Drawn(mut next) = std::mem::replace(&mut self.first, First::Undrawn) else { return Ok(()) };
        while let Some(request) = next {
            let intended = request.due.map(|due| start.saturating_add(nanos(due)));
            let due = intended.unwrap_or(0).max(begin);
            let called = if number == 0 || due > free {
                let Some(woken) = self.wait_until(step, due).await? else { break };
                self.turn = woken;
                woken
            } else {
                // Runners that never wait would starve everybody else on this worker.
                let gives_way = free.saturating_sub(self.turn) >= TURN;
                if gives_way {
                    yield_now().await;
                    self.turn = free;
                }
                if step.ends(self.allocated.task) {
                    break;
                }
                // The clock is only read again if time has passed since the last request.
                if gives_way || request.was_prepared { RequestTimer::now() } else { free }
            };
            let moments = Moments { start, intended, due, free, called };
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

    /// Waits, and gives the time at which the wait was over; none if the task ends before.
    async fn wait_until(&self, step: &WorkerStep, due: u64) -> Result<Option<u64>, ClientError> {
        while !step.ends(self.allocated.task) {
            step.alarm.sleep_until(due).await.map_err(ClientError::Wait)?;
            let now = RequestTimer::now();
            if now >= due && !step.ends(self.allocated.task) {
                return Ok(Some(now));
            }
        }
        Ok(None)
    }

    /// Executes the operation once and records it. Returns when it was done.
    async fn execute(
        &mut self,
        step: &WorkerStep,
        moments: Moments,
        request: &NextRequest,
    ) -> Result<u64, ClientError> {
        let Moments { start, intended, due, free, called } = moments;
        self.pace.before_request(elapsed(start, called));
        step.in_flight.set(step.in_flight.get() + 1);
        let mut has_waited = false;
        let result = {
            let mut run = pin!(self.runner.run());
            poll_fn(|context| {
                let polled = run.as_mut().poll(context);
                has_waited |= polled.is_pending();
                polled
            })
            .await
        };
        step.in_flight.set(step.in_flight.get() - 1);
        let returned = RequestTimer::now();
        if has_waited {
            self.turn = returned;
        }
        let span = self.lane.timer.take();

        let (outcome, error, mut ends, span) = match result {
            Ok(outcome) => {
                let error = (!outcome.success).then(|| describe(&outcome));
                (outcome, error, None, span.ok_or(ClientError::NoRequest)?)
            }
            Err(failure) => match (failed(&failure), span) {
                (Some((outcome, error)), span) => {
                    (outcome, Some(error), None, span.unwrap_or(Span { sent: called, received: returned }))
                }
                // The cluster has seen the request that ends the race, so it is a sample like any other.
                (None, Some(span)) => {
                    let (outcome, error) = unusable(&failure);
                    (outcome, Some(error), Some(failure.into()), span)
                }
                (None, None) => return Err(failure.into()),
            },
        };
        match self.pace.after_request(elapsed(start, returned), &outcome) {
            // Of all clients of the task, on whatever host, one tells it.
            Ok(Some(_)) if self.allocated.client_in_task == 0 => {
                step.notice_other_unit(self.allocated.task, &outcome.unit);
            }
            Ok(_) => {}
            Err(error) => ends = ends.or(Some(error.into())),
        }
        step.set_progress(self.client, self.allocated.task, self.runner.progress().or(request.progress));
        let ends = ends.or_else(|| error.as_ref().and_then(|failure| self.ends_race(failure)));
        let mut recorder = step.recorder.borrow_mut();
        recorder.record(Sample {
            task: self.allocated.task,
            cluster: self.lane.cluster.as_ref(),
            client: self.client,
            sample_type: request.sample_type,
            times: RequestTimes { intended, called, sent: span.sent, received: span.received, returned },
            dispatch_lag: intended.map(|_| span.sent.saturating_sub(due.max(free))),
            is_behind: intended.is_some() && due < free,
            task_start: start,
            outcome,
            error: error.map(|failure| failure.recorded(&self.lane.clients)),
        });
        if let Some((reconnects, retries)) = self.lane.new_repairs() {
            recorder.count_repairs(reconnects, retries);
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
    /// The earliest time at which it could: after the ramp-up.
    due: u64,
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

/// The sample that a failure leaves behind whatever was sent; none if it ends the race and says nothing of the cluster.
fn failed(failure: &RunnerError) -> Option<(Outcome, Failure)> {
    match failure {
        RunnerError::Transport { class, description } => Some(sample("transport", *class, description)),
        RunnerError::Api { status, description, meta } => {
            let (mut outcome, failure) = sample("api", ErrorClass::Http(*status), description);
            outcome.meta.insert("http-status".to_owned(), (*status).into());
            outcome.meta.extend(meta.iter().map(|(name, value)| ((*name).to_owned(), value.as_str().into())));
            Some((outcome, failure))
        }
        RunnerError::Assertion(description) => Some(sample("assertion", ErrorClass::Assertion, description)),
        RunnerError::MissingParameter { .. } | RunnerError::InvalidParameter { .. } | RunnerError::Other(_) => None,
    }
}

/// The sample of a request after which its runner could not go on.
fn unusable(failure: &RunnerError) -> (Outcome, Failure) {
    sample("runner", ErrorClass::Response, &failure.to_string())
}

fn sample(error_type: &str, class: ErrorClass, description: &str) -> (Outcome, Failure) {
    let mut outcome = Outcome { weight: 0, success: false, ..Outcome::default() };
    outcome.meta.insert("error-type".to_owned(), error_type.into());
    outcome.meta.insert("error-description".to_owned(), description.into());
    let failure = Failure { class, description: description.to_owned(), is_answer: error_type == "api" };
    (outcome, failure)
}

fn elapsed(start: u64, now: u64) -> Duration {
    Duration::from_nanos(now.saturating_sub(start))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use rally_core::track::{JsonObject, Operation, TaskBuilder};

    use super::*;
    use crate::timer::READS;
    use crate::{Registry, TaskRun};

    /// Tells how often the clock was read when it was called.
    struct Counting {
        timer: Rc<RequestTimer>,
        reads: Arc<Mutex<Vec<u64>>>,
    }

    #[async_trait(?Send)]
    impl Runner for Counting {
        fn prepare(&mut self, _params: &Params) -> Result<(), RunnerError> {
            Ok(())
        }

        async fn run(&mut self) -> Result<Outcome, RunnerError> {
            self.reads.lock().unwrap().push(READS.get());
            self.timer.sent();
            self.timer.received();
            Ok(Outcome::default())
        }
    }

    /// Gives other parameters each time, as a source of bulks does.
    struct Fresh;

    impl ParamSource for Fresh {
        fn next(&mut self) -> Result<Option<Params>, RunnerError> {
            Ok(Some(JsonObject::new().into()))
        }
    }

    /// How often the clock is read from one call of the runner to the next, most of the time.
    fn reads_per_request(task: impl FnOnce(TaskBuilder) -> TaskBuilder) -> u64 {
        let reads = Arc::<Mutex<Vec<u64>>>::default();
        let mut registry = Registry::empty();
        let log = Arc::clone(&reads);
        registry.register_runner("count", move |setup| {
            Ok(Counting { timer: Rc::clone(&setup.timer), reads: Arc::clone(&log) })
        });
        registry.register_param_source("fresh", |_| Ok(Fresh));
        let task = task(Task::builder(Operation::builder("count"))).iterations(101);
        let directory = tempfile::tempdir().unwrap();
        let run = TaskRun::new(task).cores(1).data_dir(directory.path()).run(registry);
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run).unwrap();
        let mut counts: Vec<u64> = reads.lock().unwrap().windows(2).map(|pair| pair[1] - pair[0]).collect();
        counts.sort_unstable();
        // Some have a second's end in between, or were late.
        counts[counts.len() / 2]
    }

    #[test]
    fn the_clock_is_read_three_times_for_a_request() {
        assert_eq!(reads_per_request(|task| task), 3);
    }

    #[test]
    fn the_clock_is_read_once_more_after_parameters_were_prepared() {
        let fresh = |_| Task::builder(Operation::builder("count").property("param-source", "fresh"));
        assert_eq!(reads_per_request(fresh), 4);
    }

    #[test]
    fn the_clock_is_read_once_more_after_a_wait() {
        assert_eq!(reads_per_request(|task| task.target_throughput(50.0)), 4);
    }
}
