//! `wait-for-recovery`: waits until all shards of an index are recovered, and tells how fast that was.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::super::given::{Given, unexpected};
use super::{Action, at, number, per_second};
use crate::client::PreparedRequest;
use crate::{Outcome, RunnerError};

/// How long is waited between two questions unless the operation says so.
pub(super) const WAIT_PERIOD: Duration = Duration::from_secs(1);

pub(super) struct WaitForRecovery {
    question: PreparedRequest,
    period: Duration,
}

pub(super) fn wait_for_recovery(given: &Given<'_>) -> Result<WaitForRecovery, RunnerError> {
    let question = given.call("GET", format!("/{}/_recovery", given.name("index")?)).prepare()?;
    Ok(WaitForRecovery { question, period: given.seconds("completion-recheck-wait-period", WAIT_PERIOD)? })
}

#[async_trait(?Send)]
impl Action for WaitForRecovery {
    async fn run(&mut self, given: &Given<'_>) -> Result<Outcome, RunnerError> {
        loop {
            if let Some(outcome) = recovered(&given.ask(&self.question).await?)? {
                return Ok(outcome);
            }
            sleep(self.period).await;
        }
    }
}

/// What was recovered, once every shard is done. An answer without any index comes before the recovery has begun.
fn recovered(answer: &Value) -> Result<Option<Outcome>, RunnerError> {
    let indices = answer.as_object().ok_or_else(|| unexpected(format!("this is no recovery: {answer}")))?;
    let shards = || indices.values().filter_map(|index| at(index, "shards").as_array()).flatten();
    if indices.is_empty() || shards().any(|shard| at(shard, "stage") != "DONE") {
        return Ok(None);
    }
    let bytes = shards().map(|shard| number(shard, "index.size.recovered_in_bytes")).fold(0, u64::saturating_add);
    let start = shards().map(|shard| number(shard, "start_time_in_millis")).min().unwrap_or(0);
    let stop = shards().map(|shard| number(shard, "stop_time_in_millis")).max().unwrap_or(0);
    let meta = [("start_time_millis", json!(start)), ("stop_time_millis", json!(stop))];
    Ok(Some(Outcome {
        weight: bytes,
        unit: "byte".into(),
        throughput: per_second(bytes, stop.saturating_sub(start)),
        meta: meta.map(|(name, value)| (name.to_owned(), value)).into_iter().collect(),
        ..Outcome::default()
    }))
}
