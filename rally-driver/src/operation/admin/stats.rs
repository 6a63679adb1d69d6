//! Statistics, and what is expected of them.

use std::cmp::Ordering;

use rally_core::track::JsonObject;
use serde_json::{Value, json};

use super::super::assertion::compare;
use super::super::given::Given;
use super::super::request::query_text;
use super::{Judge, Requests, at, number};
use crate::RunnerError;

pub(super) fn index_stats(given: &Given<'_>) -> Result<Requests, RunnerError> {
    let index = given.name_if_any("index").unwrap_or_else(|| "_all".to_owned());
    let request = given.call("GET", format!("/{index}/_stats/_all")).prepare()?;
    Ok(Requests { judge: condition(given, "")?, ..request.into() })
}

pub(super) fn transform_stats(given: &Given<'_>) -> Result<Requests, RunnerError> {
    let path = format!("/_transform/{}/_stats", given.name("transform-id")?);
    let request = given.call("GET", path).prepare()?;
    Ok(Requests { judge: condition(given, "/transforms/0")?, ..request.into() })
}

pub(super) fn node_stats(given: &Given<'_>) -> Result<Requests, RunnerError> {
    Ok(given.call("GET", "/_nodes/stats/_all").prepare()?.into())
}

/// Compares what the parameter `condition` speaks of, below a JSON pointer, with what it expects.
fn condition(given: &Given<'_>, pointer: &'static str) -> Result<Option<Judge>, RunnerError> {
    let Some(condition) = given.get("condition") else { return Ok(None) };
    let part = |key| {
        let part = condition.get(key);
        part.ok_or_else(|| given.wrong("condition", "an object with `path` and `expected-value`", condition))
    };
    let path = query_text(part("path")?);
    let expected = part("expected-value")?.clone();
    // Always text, so that all metrics have the same type in the store.
    let text = |value: &Value| if value.is_null() { Value::Null } else { query_text(value).into() };
    Ok(Some(Box::new(move |answer| {
        let actual = answer.pointer(pointer).map_or(&Value::Null, |part| at(part, &path));
        let condition = json!({ "path": path, "actual-value": text(actual), "expected-value": text(&expected) });
        (
            compare(actual, &expected).is_some_and(Ordering::is_eq),
            JsonObject::from_iter([("condition".to_owned(), condition)]),
        )
    })))
}

pub(super) fn cluster_health(given: &Given<'_>) -> Result<Requests, RunnerError> {
    let path = given.name_if_any("index").map_or_else(String::new, |index| format!("/{index}"));
    let request = given.call("GET", format!("/_cluster/health{path}")).prepare()?;
    let wanted = given.object("request-params")?;
    let wanted = |key| wanted.and_then(|params| params.get(key)).filter(|value| !value.is_null());
    let status = rank(wanted("wait_for_status").unwrap_or(&Value::Null));
    let may_relocate = wanted("wait_for_no_relocating_shards").is_none();
    let judge: Judge = Box::new(move |answer| {
        let (found, relocating) = (at(answer, "status"), number(answer, "relocating_shards"));
        let meta = [("cluster-status", found.clone()), ("relocating-shards", relocating.into())];
        let success = rank(found) >= status && (may_relocate || relocating == 0);
        (success, meta.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    });
    Ok(Requests { judge: Some(judge), ..request.into() })
}

/// The health of a cluster as a number that grows with it; 0 for what is unknown.
fn rank(status: &Value) -> u8 {
    match status.as_str().map(str::to_lowercase).as_deref() {
        Some("green") => 3,
        Some("yellow") => 2,
        Some("red") => 1,
        _ => 0,
    }
}
