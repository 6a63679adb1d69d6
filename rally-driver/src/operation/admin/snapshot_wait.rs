//! Waits for snapshots.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::super::given::{Given, unexpected};
use super::recovery::WAIT_PERIOD;
use super::snapshot::{repository, snapshot};
use super::{Action, at, number, per_second, version};
use crate::client::PreparedRequest;
use crate::{Outcome, RunnerError};

/// The first version whose servers can leave out the names of indices, which are many.
const WITHOUT_INDEX_NAMES_SINCE: (u64, u64) = (8, 3);

/// How often in a row a snapshot may be neither under way nor in its repository: whoever takes it may have yet to begin.
const UNKNOWN_AT_MOST: u32 = 60;

/// `wait-for-snapshot-create`: waits for one snapshot, and tells how fast it was.
pub(super) struct WaitForOne {
    name: Value,
    running: PreparedRequest,
    status: PreparedRequest,
    period: Duration,
}

pub(super) fn wait_for_one(given: &Given<'_>) -> Result<WaitForOne, RunnerError> {
    let status = given.call("GET", format!("{}/_status", snapshot(given)?)).query("ignore_unavailable", true);
    Ok(WaitForOne {
        name: given.wanted("snapshot")?.clone(),
        running: given.aside("GET", running(given)?).query("verbose", false).prepare()?,
        status: status.prepare()?,
        period: period(given)?,
    })
}

#[async_trait(?Send)]
impl Action for WaitForOne {
    async fn run(&mut self, given: &Given<'_>) -> Result<Outcome, RunnerError> {
        let mut unknown = 0;
        loop {
            let running = given.ask(&self.running).await?;
            let mut running = at(&running, "snapshots").as_array().into_iter().flatten();
            if running.any(|snapshot| *at(snapshot, "snapshot") == self.name) {
                unknown = 0;
            } else {
                let status = given.ask(&self.status).await?;
                let snapshot = status.pointer("/snapshots/0").unwrap_or(&Value::Null);
                unknown = if snapshot.is_null() { unknown + 1 } else { 0 };
                if unknown == UNKNOWN_AT_MOST {
                    return Err(given.assertion(format!(
                        "snapshot {} is neither being taken nor in its repository, after {unknown} questions; \
                         `create-snapshot` must come before",
                        self.name
                    )));
                }
                match at(snapshot, "state").as_str() {
                    Some("SUCCESS") => return Ok(finished(at(snapshot, "stats"))),
                    Some(state @ ("FAILED" | "PARTIAL")) => {
                        return Err(given.assertion(format!(
                            "snapshot {} is {state}: {}",
                            self.name,
                            at(snapshot, "shards_stats")
                        )));
                    }
                    _ => {}
                }
            }
            sleep(self.period).await;
        }
    }
}

fn finished(stats: &Value) -> Outcome {
    let (bytes, files) = (number(stats, "total.size_in_bytes"), number(stats, "total.file_count"));
    let (start, duration) = (number(stats, "start_time_in_millis"), number(stats, "time_in_millis"));
    let meta = [
        ("start_time_millis", start),
        ("stop_time_millis", start.saturating_add(duration)),
        ("duration", duration),
        ("file_count", files),
    ];
    Outcome {
        weight: bytes,
        unit: "byte".into(),
        throughput: per_second(bytes, duration),
        meta: meta.map(|(name, value)| (name.to_owned(), json!(value))).into_iter().collect(),
        ..Outcome::default()
    }
}

/// `wait-for-current-snapshots-create`: waits until no snapshot is being taken. Asking each for its statistics would
/// cost too much, so that the service time has to tell how long it took.
pub(super) struct WaitForAll {
    root: PreparedRequest,
    running: PreparedRequest,
    running_without_names: PreparedRequest,
    period: Duration,
}

pub(super) fn wait_for_all(given: &Given<'_>) -> Result<WaitForAll, RunnerError> {
    let path = running(given)?;
    let running = || given.call("GET", path.as_str()).query("verbose", false);
    Ok(WaitForAll {
        root: given.aside("GET", "/").prepare()?,
        running: running().prepare()?,
        running_without_names: running().query("index_names", false).prepare()?,
        period: period(given)?,
    })
}

#[async_trait(?Send)]
impl Action for WaitForAll {
    async fn run(&mut self, given: &Given<'_>) -> Result<Outcome, RunnerError> {
        let root = given.ask(&self.root).await?;
        let has_names = version(&root).is_some_and(|version| version < WITHOUT_INDEX_NAMES_SINCE);
        let question = if has_names { &self.running } else { &self.running_without_names };
        loop {
            let answer = given.ask(question).await?;
            let total = at(&answer, "total").as_u64();
            if total.ok_or_else(|| unexpected(format!("it does not count snapshots: {answer}")))? == 0 {
                return Ok(Outcome::default());
            }
            sleep(self.period).await;
        }
    }
}

/// The path of the snapshots that are being taken.
fn running(given: &Given<'_>) -> Result<String, RunnerError> {
    Ok(format!("{}/_current", repository(given)?))
}

fn period(given: &Given<'_>) -> Result<Duration, RunnerError> {
    given.seconds("completion-recheck-wait-period", WAIT_PERIOD)
}
