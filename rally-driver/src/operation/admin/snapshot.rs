//! Snapshots and their repositories.

use serde_json::json;

use super::super::given::Given;
use super::Requests;
use crate::RunnerError;

pub(super) fn create_repository(given: &Given<'_>) -> Result<Requests, RunnerError> {
    Ok(given.call("PUT", repository(given)?).body(given.wanted("body")?.clone()).prepare()?.into())
}

pub(super) fn delete_repository(given: &Given<'_>) -> Result<Requests, RunnerError> {
    Ok(given.call("DELETE", repository(given)?).ignoring(404).prepare()?.into())
}

pub(super) fn create(given: &Given<'_>) -> Result<Requests, RunnerError> {
    let wait = given.flag("wait-for-completion", false)?;
    let call = given.call("PUT", snapshot(given)?).query("wait_for_completion", wait);
    Ok(call.body(given.wanted("body")?.clone()).prepare()?.into())
}

pub(super) fn restore(given: &Given<'_>) -> Result<Requests, RunnerError> {
    let wait = given.flag("wait-for-completion", false)?;
    let call = given.call("POST", format!("{}/_restore", snapshot(given)?)).query("wait_for_completion", wait);
    Ok(call.body(given.get("body").cloned().unwrap_or_else(|| json!({}))).prepare()?.into())
}

pub(super) fn repository(given: &Given<'_>) -> Result<String, RunnerError> {
    Ok(format!("/_snapshot/{}", given.name("repository")?))
}

pub(super) fn snapshot(given: &Given<'_>) -> Result<String, RunnerError> {
    Ok(format!("{}/{}", repository(given)?, given.name("snapshot")?))
}
