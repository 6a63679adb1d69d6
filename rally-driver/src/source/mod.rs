//! The parameter sources that Rally has for its operation types.

mod admin;
mod bulk;
mod search;
mod wanted;

pub(crate) use wanted::wanted_documents;

use rally_core::track::{JsonObject, Task};
use serde_json::Value;

use crate::{ParamSource, Params, Registry, RunnerError};

/// Registers all of them.
pub(crate) fn register(registry: &mut Registry) {
    for name in wanted::READERS {
        registry.register_param_source(name, bulk::BulkSource::new);
    }
    for name in ["search", "scroll-search", "paginated-search", "composite-agg"] {
        registry.register_param_source(name, search::params);
    }
    admin::register(registry);
}

/// A source that gives the same parameters each time.
#[derive(Debug)]
struct Fixed(Params);

impl Fixed {
    fn new(values: JsonObject) -> Self {
        Self(values.into())
    }
}

impl ParamSource for Fixed {
    fn next(&mut self) -> Result<Option<Params>, RunnerError> {
        Ok(Some(self.0.clone()))
    }
}

/// A parameter that makes no sense.
fn invalid(task: &Task, problem: impl Into<String>) -> RunnerError {
    RunnerError::InvalidParameter { operation: task.operation.name.clone(), problem: problem.into() }
}

fn missing(task: &Task, parameter: &str) -> RunnerError {
    RunnerError::MissingParameter { operation: task.operation.name.clone(), parameter: parameter.to_owned() }
}

/// A parameter that may be one name or a list of names; none if it is not there.
fn names(params: &JsonObject, key: &str) -> Option<Vec<String>> {
    match params.get(key)? {
        Value::String(name) => Some(vec![name.clone()]),
        Value::Array(names) => Some(names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect()),
        _ => None,
    }
}
