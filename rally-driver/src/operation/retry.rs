//! Runs an operation again until it succeeds, as its parameters `retries`, `retry-until-success`, `retry-wait-period`,
//! `retry-on-timeout` and `retry-on-error` say.

use std::time::Duration;

use async_trait::async_trait;

use super::given::Given;
use crate::{ErrorClass, Outcome, Params, Runner, RunnerError, RunnerSetup};

/// How long is waited between two attempts unless the operation says so.
const WAIT: Duration = Duration::from_millis(500);

/// A runner whose failures are tried again. All attempts are one sample.
pub(super) struct Retry<R> {
    setup: RunnerSetup,
    inner: R,
    /// What `retry-until-success` is unless the operation says so.
    until_success: bool,
    policy: Policy,
}

/// What is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Policy {
    /// None: without end.
    retries: Option<u64>,
    wait: Duration,
    /// Without an answer, or with one that came too late.
    on_timeout: bool,
    /// An answer that the runner does not take for a success.
    on_error: bool,
}

impl<R: Runner> Retry<R> {
    pub(super) fn new(setup: &RunnerSetup, inner: R) -> Self {
        let policy = Policy { retries: Some(0), wait: WAIT, on_timeout: true, on_error: false };
        Self { setup: setup.clone(), inner, until_success: false, policy }
    }

    /// Goes on until success unless the operation says otherwise.
    pub(super) fn until_success(setup: &RunnerSetup, inner: R) -> Self {
        Self { until_success: true, ..Self::new(setup, inner) }
    }
}

impl Policy {
    fn of(given: &Given<'_>, until_success: bool) -> Result<Self, RunnerError> {
        let until_success = given.flag("retry-until-success", until_success)?;
        let retries = given.count("retries", 0)?;
        Ok(Self {
            retries: (!until_success).then_some(retries),
            wait: given.seconds("retry-wait-period", WAIT)?,
            on_timeout: given.flag("retry-on-timeout", true)?,
            on_error: given.flag("retry-on-error", false)? || until_success,
        })
    }

    /// Whether this result is worth another attempt.
    fn wants_again(&self, result: &Result<Outcome, RunnerError>) -> bool {
        match result {
            Ok(outcome) => !outcome.success && self.on_error,
            // An answer that makes no sense will make none the next time, nor will a certificate be another one.
            Err(RunnerError::Transport { class, .. }) => {
                self.on_timeout && matches!(class, ErrorClass::Connect | ErrorClass::Timeout)
            }
            // Request timeout: the server says that it waited for the client, or for what it was asked to wait for.
            Err(RunnerError::Api { status: 408, .. }) => self.on_timeout,
            Err(_) => false,
        }
    }
}

#[async_trait(?Send)]
impl<R: Runner> Runner for Retry<R> {
    fn prepare(&mut self, params: &Params) -> Result<(), RunnerError> {
        self.policy = Policy::of(&Given::new(&self.setup, params), self.until_success)?;
        self.inner.prepare(params)
    }

    async fn run(&mut self) -> Result<Outcome, RunnerError> {
        let mut attempt = 0;
        loop {
            let result = self.inner.run().await;
            if !self.policy.wants_again(&result) || self.policy.retries.is_some_and(|retries| attempt >= retries) {
                return result;
            }
            attempt += 1;
            tokio::time::sleep(self.policy.wait).await;
        }
    }

    fn progress(&self) -> Option<f64> {
        self.inner.progress()
    }

    fn is_self_terminating(&self) -> bool {
        self.inner.is_self_terminating()
    }
}
