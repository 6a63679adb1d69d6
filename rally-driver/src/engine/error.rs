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
    #[error(transparent)]
    Panicked(#[from] Panicked),
}

/// Something panicked that was not to take the process with it.
#[derive(Debug, thiserror::Error)]
#[error("it panicked: {0}")]
pub(crate) struct Panicked(String);

impl Panicked {
    /// With what was said.
    pub(crate) fn with(payload: &(dyn Any + Send)) -> Self {
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        Self(text.unwrap_or("no message").to_owned())
    }
}

/// A worker could not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkerError {
    #[error("the operating system gives it no event loop")]
    Runtime(#[source] io::Error),
    #[error("the operating system's timer failed")]
    Alarm(#[source] io::Error),
    #[error(transparent)]
    Panicked(#[from] Panicked),
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
