//! What ends a race on a driver.

use std::any::Any;
use std::io;

use rally_core::track::Task;

use crate::{ErrorClass, RunnerError};

/// A client could not go on with its task.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error(transparent)]
    Runner(#[from] RunnerError),
    #[error("a request failed ({class}): {description}")]
    Aborted { class: ErrorClass, description: String },
    #[error("the runner marked no request; call `RequestTimer::sent` and `RequestTimer::received` around each one")]
    NoRequest,
    #[error("the operating system's timer failed")]
    Wait(#[source] io::Error),
    #[error("it panicked: {0}")]
    Panicked(String),
}

impl ClientError {
    pub(crate) fn panicked(payload: &(dyn Any + Send)) -> Self {
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        Self::Panicked(text.unwrap_or("no message").to_owned())
    }
}

/// The task of a client failed.
#[derive(Debug, thiserror::Error)]
#[error("task `{task}` with operation `{operation}` failed on client {client}")]
pub(crate) struct TaskError {
    task: String,
    operation: String,
    client: u32,
    source: ClientError,
}

impl TaskError {
    pub(crate) fn failed(task: &Task, client: u32, source: ClientError) -> Self {
        Self { task: task.name.clone(), operation: task.operation.name.clone(), client, source }
    }
}
