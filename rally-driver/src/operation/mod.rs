//! The runners of Rally's operation types.

mod admin;
mod assertion;
mod bulk;
mod given;
mod request;
mod retry;
mod sleep;
mod stored;

pub(crate) use assertion::Asserting;

use crate::{Registry, RunnerError, RunnerSetup};

/// Registers all of them.
pub(crate) fn register(registry: &mut Registry) {
    registry.register_runner("bulk", bulk::Bulk::new);
    registry.register_runner("sleep", |setup| Ok(sleep::Sleep::new(setup)));
    for name in ["search", "raw-request"] {
        registry.register_runner(name, stored::StoredRequest::new);
    }
    admin::register(registry);
}

/// A parameter that must be there.
fn missing(setup: &RunnerSetup, parameter: &str) -> RunnerError {
    RunnerError::MissingParameter { operation: setup.task.operation.name.clone(), parameter: parameter.to_owned() }
}

/// A parameter that makes no sense.
fn invalid(setup: &RunnerSetup, problem: impl Into<String>) -> RunnerError {
    RunnerError::InvalidParameter { operation: setup.task.operation.name.clone(), problem: problem.into() }
}
