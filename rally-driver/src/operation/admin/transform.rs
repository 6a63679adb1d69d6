//! Transforms.

use super::super::given::Given;
use super::Requests;
use crate::RunnerError;

pub(super) fn create(given: &Given<'_>) -> Result<Requests, RunnerError> {
    let call = given.call("PUT", transform(given)?).query("defer_validation", given.flag("defer-validation", false)?);
    Ok(call.body(given.wanted("body")?.clone()).prepare()?.into())
}

pub(super) fn start(given: &Given<'_>) -> Result<Requests, RunnerError> {
    let path = format!("{}/_start", transform(given)?);
    Ok(given.call("POST", path).query("timeout", given.value("timeout")).prepare()?.into())
}

pub(super) fn delete(given: &Given<'_>) -> Result<Requests, RunnerError> {
    let call = given.call("DELETE", transform(given)?).query("force", given.flag("force", false)?);
    Ok(call.ignoring(404).prepare()?.into())
}

pub(super) fn transform(given: &Given<'_>) -> Result<String, RunnerError> {
    Ok(format!("/_transform/{}", given.name("transform-id")?))
}
