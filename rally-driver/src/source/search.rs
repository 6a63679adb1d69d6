//! Parameters of searches.

use rally_core::track::{JsonObject, OperationType, Track};
use serde_json::{Value, json};

use super::Fixed;
use crate::parameters::Parameters;
use crate::{ParamSourceSetup, RunnerError};

/// What reaches the runner, beside the index.
const KEYS: [&str; 13] = [
    "body",
    "cache",
    "detailed-results",
    "request-params",
    "response-compression-enabled",
    "pages",
    "results-per-page",
    "with-point-in-time-from",
    "assertions",
    "request-timeout",
    "headers",
    "opaque-id",
    "ignore",
];

/// The operation's own parameters, with the only index or data stream of the track as the default target.
pub(super) fn params(setup: &ParamSourceSetup) -> Result<Fixed, RunnerError> {
    let (task, given) = (&setup.task, Parameters::of(&setup.task));
    if given.get("type").is_some() {
        return Err(given.invalid("`type` is gone; mapping types do not exist any more"));
    }
    let index = target(&given, "index", &setup.plan.track).ok_or_else(|| given.missing("index"))?;
    let mut values = JsonObject::new();
    values.insert("index".to_owned(), index);
    for key in KEYS {
        if let Some(value) = given.get(key) {
            values.insert(key.to_owned(), value.clone());
        }
    }
    for (key, default) in [
        ("body", Value::Null),
        ("detailed-results", json!(false)),
        ("request-params", json!({})),
        ("response-compression-enabled", json!(true)),
    ] {
        values.entry(key).or_insert(default);
    }
    let is_detailed = given.flag("detailed-results", false)?;
    if values.contains_key("assertions") && !is_detailed && !values.contains_key("pages") {
        return Err(given.invalid("`assertions` need `\"detailed-results\": true`"));
    }
    if task.operation.operation_type == OperationType::Search
        && values.contains_key("pages")
        && setup.partition.index == 0
    {
        tracing::warn!(operation = %task.operation.name, "`search` with `pages` is deprecated: use `scroll-search`");
    }
    values.insert("operation-type".to_owned(), json!(task.operation.operation_type.as_str()));
    Ok(Fixed::new(values))
}

/// What the operation names in the parameter `key`, or else as its data stream, or else the only index or data stream of the
/// track.
pub(super) fn target(given: &Parameters<'_>, key: &str, track: &Track) -> Option<Value> {
    let is_empty = |name: &Value| name == "" || name.as_array().is_some_and(Vec::is_empty);
    let named = |key: &str| given.get(key).filter(|name| !is_empty(name)).cloned();
    named(key).or_else(|| named("data-stream")).or_else(|| {
        match (track.indices.as_slice(), track.data_streams.as_slice()) {
            ([index], _) => Some(json!(index.name)),
            ([], [stream]) => Some(json!(stream.name)),
            _ => None,
        }
    })
}
