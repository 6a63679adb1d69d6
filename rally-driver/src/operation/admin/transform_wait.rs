//! `wait-for-transform`: stops a transform at its next checkpoint and tells how fast it is until then.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::super::given::Given;
use super::transform::transform;
use super::{Action, at, number, per_second};
use crate::client::PreparedRequest;
use crate::{Outcome, RunnerError};

/// How long the transform may take, and how long is waited between two questions, unless the operation says so.
const TIMEOUT: Duration = Duration::from_secs(3_600);
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// How many more documents, and how many more milliseconds of work, are worth a sample before the end.
const WORTH_A_SAMPLE: Work = Work { documents: 5_000, milliseconds: 500 };

pub(super) struct WaitForTransform {
    id: Value,
    stop: PreparedRequest,
    stats: PreparedRequest,
    waits_for_completion: bool,
    timeout: Duration,
    interval: Duration,
    /// When it was first told to stop.
    begun: Option<Instant>,
    /// The cluster has heard that it is to stop.
    is_stopping: bool,
    progress: f64,
    /// As of the last sample.
    reported: Work,
}

/// What a transform has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Work {
    documents: u64,
    milliseconds: u64,
}

impl Work {
    fn of(stats: &Value) -> Self {
        let times = ["search_time_in_ms", "processing_time_in_ms", "index_time_in_ms"];
        let times = times.map(|name| number(stats, name));
        Self {
            documents: number(stats, "documents_processed"),
            milliseconds: times.into_iter().fold(0, u64::saturating_add),
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            documents: self.documents.saturating_sub(before.documents),
            milliseconds: self.milliseconds.saturating_sub(before.milliseconds),
        }
    }
}

pub(super) fn wait_for_transform(given: &Given<'_>) -> Result<WaitForTransform, RunnerError> {
    let path = transform(given)?;
    let stop = given
        .aside("POST", format!("{path}/_stop"))
        .query("force", given.flag("force", false)?)
        .query("timeout", given.value("timeout"))
        .query("wait_for_checkpoint", given.flag("wait-for-checkpoint", true)?)
        .query("wait_for_completion", false);
    Ok(WaitForTransform {
        id: given.wanted("transform-id")?.clone(),
        stop: stop.prepare()?,
        stats: given.call("GET", format!("{path}/_stats")).prepare()?,
        waits_for_completion: given.flag("wait-for-completion", true)?,
        timeout: given.seconds("transform-timeout", TIMEOUT)?,
        interval: given.seconds("poll-interval", POLL_INTERVAL)?,
        begun: None,
        is_stopping: false,
        progress: 0.0,
        reported: Work::default(),
    })
}

#[async_trait(?Send)]
impl Action for WaitForTransform {
    const ENDS_ITS_TASK: bool = true;

    async fn run(&mut self, given: &Given<'_>) -> Result<Outcome, RunnerError> {
        let begin = *self.begun.get_or_insert_with(Instant::now);
        match self.wait(given, begin).await {
            // Where the race goes on after errors, the transform is asked for again: for as long as it may take, with pauses.
            Err(error @ (RunnerError::Api { .. } | RunnerError::Transport { .. })) => {
                self.check_time(given, begin)?;
                sleep(self.interval).await;
                Err(error)
            }
            result => result,
        }
    }

    fn progress(&self) -> Option<f64> {
        Some(self.progress)
    }
}

impl WaitForTransform {
    fn check_time(&self, given: &Given<'_>, begin: Instant) -> Result<(), RunnerError> {
        if begin.elapsed() <= self.timeout {
            return Ok(());
        }
        let (id, timeout) = (&self.id, self.timeout);
        let problem =
            format!("transform {id} is not done after {timeout:?}; `transform-timeout` gives it more seconds");
        Err(given.assertion(problem))
    }

    /// Waits for what is worth a sample.
    async fn wait(&mut self, given: &Given<'_>, begin: Instant) -> Result<Outcome, RunnerError> {
        if !self.is_stopping {
            given.send(&self.stop).await?;
            self.is_stopping = true;
        }
        loop {
            let answer = given.ask(&self.stats).await?;
            let transform = answer.pointer("/transforms/0").ok_or_else(|| {
                given.assertion(format!("the cluster knows nothing of transform {}: {answer}", self.id))
            })?;
            self.check_time(given, begin)?;
            let state = at(transform, "state").as_str();
            if state == Some("failed") {
                return Err(given.assertion(format!("transform {} failed: {}", self.id, at(transform, "reason"))));
            }
            let is_done = state == Some("stopped") || !self.waits_for_completion;
            let percent = at(transform, "checkpointing.next.checkpoint_progress.percent_complete").as_f64();
            self.progress = if is_done { 1.0 } else { (percent.unwrap_or(0.0) / 100.0).clamp(0.0, JUST_NOT_DONE) };

            let work = Work::of(at(transform, "stats"));
            let more = work.since(self.reported);
            let is_worth_a_sample =
                more.documents > WORTH_A_SAMPLE.documents && more.milliseconds > WORTH_A_SAMPLE.milliseconds;
            if is_done || is_worth_a_sample {
                self.reported = work;
                let measured = if is_done { work } else { more };
                return Ok(Outcome {
                    weight: work.documents,
                    unit: "docs".into(),
                    throughput: Some(per_second(measured.documents, measured.milliseconds).unwrap_or(0.0)),
                    meta: [("transform-id".to_owned(), json!(self.id))].into_iter().collect(),
                    ..Outcome::default()
                });
            }
            sleep(self.interval).await;
        }
    }
}

/// A transform at 100 % still has to stop.
const JUST_NOT_DONE: f64 = 0.999;
