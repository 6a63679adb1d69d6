//! `force-merge`, which waits for the answer or asks for the task until it is done.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::super::given::{Given, unexpected};
use super::super::request::encode;
use super::{Action, at, version};
use crate::client::PreparedRequest;
use crate::{ErrorClass, Outcome, RunnerError};

/// How long is waited between two questions unless the operation says so.
const POLL_PERIOD: Duration = Duration::from_secs(10);

/// The first version whose servers can merge in the background.
const IN_BACKGROUND_SINCE: (u64, u64) = (8, 1);

pub(super) struct ForceMerge {
    blocking: PreparedRequest,
    in_background: PreparedRequest,
    /// None if the answer is waited for.
    poll_period: Option<Duration>,
}

pub(super) fn force_merge(given: &Given<'_>) -> Result<ForceMerge, RunnerError> {
    let index = given.name_if_any("index").unwrap_or_else(|| "_all".to_owned());
    let segments = given.get("max-num-segments").filter(|segments| **segments != json!(0));
    let merge = || {
        let call = given.call("POST", format!("/{index}/_forcemerge"));
        call.query("max_num_segments", segments.cloned().unwrap_or_default())
    };
    let poll_period = match given.get("mode") {
        None => None,
        Some(mode) if mode == "blocking" => None,
        Some(mode) if mode == "polling" => Some(given.seconds("poll-period", POLL_PERIOD)?),
        Some(other) => return Err(given.wrong("mode", "`blocking` or `polling`", other)),
    };
    let in_background = merge().query("wait_for_completion", false).prepare()?;
    Ok(ForceMerge { blocking: merge().prepare()?, in_background, poll_period })
}

#[async_trait(?Send)]
impl Action for ForceMerge {
    async fn run(&mut self, given: &Given<'_>) -> Result<Outcome, RunnerError> {
        let Some(period) = self.poll_period else {
            given.send(&self.blocking).await?;
            return Ok(Outcome::default());
        };
        let root = given.ask(&given.aside("GET", "/").prepare()?).await?;
        // Serverless has no number for a version, and is newer than all that have.
        if version(&root).is_some_and(|version| version < IN_BACKGROUND_SINCE) {
            match given.send(&self.blocking).await {
                Ok(_) => return Ok(Outcome::default()),
                Err(RunnerError::Transport { class: ErrorClass::Timeout, .. }) => {}
                Err(error) => return Err(error),
            }
            let merges = given.aside("GET", "/_tasks").query("actions", "indices:admin/forcemerge").prepare()?;
            loop {
                sleep(period).await;
                if !has_nodes(&given.ask(&merges).await?) {
                    return Ok(Outcome::default());
                }
            }
        }
        let answer = given.ask(&self.in_background).await?;
        let id = at(&answer, "task").as_str().ok_or_else(|| unexpected(format!("it names no task: {answer}")))?;
        let question = given.aside("GET", format!("/_tasks/{}", encode(id))).prepare()?;
        loop {
            sleep(period).await;
            let task = given.ask(&question).await?;
            match (at(&task, "completed").as_bool(), task.get("error")) {
                (Some(false), _) => {}
                (Some(true), None) => return Ok(Outcome::default()),
                (Some(true), Some(error)) => return Err(given.assertion(format!("the merge failed: {error}"))),
                (None, _) => return Err(unexpected(format!("it does not say whether the merge is done: {task}"))),
            }
        }
    }
}

/// Whether an answer about tasks knows any: they are listed by node.
fn has_nodes(tasks: &Value) -> bool {
    at(tasks, "nodes").as_object().is_some_and(|nodes| !nodes.is_empty())
}
