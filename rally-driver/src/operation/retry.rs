//! Runs an operation again until it succeeds, as its parameters `retries`, `retry-until-success`, `retry-wait-period`,
//! `retry-on-timeout` and `retry-on-error` say.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use super::request;
use crate::{ErrorClass, Outcome, Params, Runner, RunnerError, RunnerSetup};

/// How long is waited between two attempts unless the operation says so.
const WAIT: Duration = Duration::from_millis(500);

/// A runner whose failures are tried again. All attempts are one sample.
#[derive(Debug)]
pub(super) struct Retry<R> {
    inner: R,
    /// None: without end.
    retries: Option<u64>,
    wait: Duration,
    on_timeout: bool,
    on_error: bool,
    /// What `retry-until-success` is unless the operation says so.
    until_success: bool,
}

impl<R: Runner> Retry<R> {
    #[expect(clippy::unnecessary_wraps, reason = "what the registry wants")]
    pub(super) fn new(_setup: &RunnerSetup, inner: R) -> Result<Self, RunnerError> {
        Ok(Self { inner, retries: Some(0), wait: WAIT, on_timeout: true, on_error: false, until_success: false })
    }

    /// Goes on until success unless the operation says otherwise.
    pub(super) fn until_success(inner: R) -> Self {
        Self { inner, retries: None, wait: WAIT, on_timeout: true, on_error: true, until_success: true }
    }
}

#[async_trait(?Send)]
impl<R: Runner> Runner for Retry<R> {
    fn prepare(&mut self, params: &Params) -> Result<(), RunnerError> {
        let truth = |key: &str, default: bool| params.get(key).and_then(Value::as_bool).unwrap_or(default);
        let until_success = truth("retry-until-success", self.until_success);
        self.retries =
            if until_success { None } else { Some(params.get("retries").and_then(Value::as_u64).unwrap_or(0)) };
        self.on_error = until_success || truth("retry-on-error", false);
        self.on_timeout = truth("retry-on-timeout", true);
        self.wait = params.get("retry-wait-period").and_then(request::seconds).unwrap_or(WAIT);
        self.inner.prepare(params)
    }

    async fn run(&mut self) -> Result<Outcome, RunnerError> {
        let mut attempt = 0;
        loop {
            let result = self.inner.run().await;
            let again = match &result {
                Ok(outcome) => !outcome.success && self.on_error,
                Err(RunnerError::Transport { class: ErrorClass::Timeout | ErrorClass::Connect, .. }) => self.on_timeout,
                Err(RunnerError::Api { status: 408, .. }) => self.on_timeout,
                Err(_) => false,
            };
            if !again || self.retries.is_some_and(|retries| attempt >= retries) {
                return result;
            }
            attempt += 1;
            tokio::time::sleep(self.wait).await;
        }
    }
}
