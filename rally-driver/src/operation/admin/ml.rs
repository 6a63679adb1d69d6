//! Machine learning: datafeeds and jobs. Servers before version 7 know them by another path, which is tried after
//! status 400.

use serde_json::{Value, json};

use super::super::given::{Call, Given};
use super::Requests;
use crate::RunnerError;

pub(super) fn create_datafeed(given: &Given<'_>) -> Result<Requests, RunnerError> {
    let (path, body) = (datafeed(given)?, given.wanted("body")?);
    both(given, "PUT", &path, |call, _| call.body(body.clone()))
}

pub(super) fn delete_datafeed(given: &Given<'_>) -> Result<Requests, RunnerError> {
    delete(given, &datafeed(given)?)
}

pub(super) fn start_datafeed(given: &Given<'_>) -> Result<Requests, RunnerError> {
    let path = format!("{}/_start", datafeed(given)?);
    let mut body = given.value("body");
    for key in ["start", "end", "timeout"] {
        if let Some(value) = given.get(key) {
            if !body.is_object() {
                body = json!({});
            }
            body[key] = value.clone();
        }
    }
    both(given, "POST", &path, |call, _| call.body(body.clone()))
}

pub(super) fn stop_datafeed(given: &Given<'_>) -> Result<Requests, RunnerError> {
    stop(given, &format!("{}/_stop", datafeed(given)?))
}

pub(super) fn create_job(given: &Given<'_>) -> Result<Requests, RunnerError> {
    let (path, body) = (job(given)?, given.wanted("body")?);
    both(given, "PUT", &path, |call, _| call.body(body.clone()))
}

pub(super) fn delete_job(given: &Given<'_>) -> Result<Requests, RunnerError> {
    delete(given, &job(given)?)
}

pub(super) fn open_job(given: &Given<'_>) -> Result<Requests, RunnerError> {
    both(given, "POST", &format!("{}/_open", job(given)?), |call, _| call)
}

pub(super) fn close_job(given: &Given<'_>) -> Result<Requests, RunnerError> {
    stop(given, &format!("{}/_close", job(given)?))
}

fn datafeed(given: &Given<'_>) -> Result<String, RunnerError> {
    Ok(format!("ml/datafeeds/{}", given.name("datafeed-id")?))
}

fn job(given: &Given<'_>) -> Result<String, RunnerError> {
    Ok(format!("ml/anomaly_detectors/{}", given.name("job-id")?))
}

fn delete(given: &Given<'_>, path: &str) -> Result<Requests, RunnerError> {
    let force = given.flag("force", false)?;
    both(given, "DELETE", path, |call, _| call.query("force", force).ignoring(404))
}

/// Stops with `force` and `timeout`: in the body, which older servers do not read.
fn stop(given: &Given<'_>, path: &str) -> Result<Requests, RunnerError> {
    let (force, timeout) = (given.flag("force", false)?, given.value("timeout"));
    let mut body = json!({ "force": force });
    if timeout != Value::Null {
        body["timeout"] = timeout.clone();
    }
    both(given, "POST", path, |call, is_older| {
        if is_older { call.query("force", force).query("timeout", timeout.clone()) } else { call.body(body.clone()) }
    })
}

/// A request for today's path and for the older one.
fn both<'a>(
    given: &Given<'a>,
    method: &'static str,
    path: &str,
    finish: impl Fn(Call<'a>, bool) -> Call<'a>,
) -> Result<Requests, RunnerError> {
    let request = finish(given.call(method, format!("/_{path}")), false).prepare()?;
    let older = finish(given.call(method, format!("/_xpack/{path}")), true).prepare()?;
    Ok(Requests { older: Some(older), ..request.into() })
}
