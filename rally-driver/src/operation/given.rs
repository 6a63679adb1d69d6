//! What an operation is given: its parameters, read with care, and the requests that are made of them.

use std::time::Duration;

use serde_json::Value;

use super::request::{self, encode, query_text};
use super::{invalid, missing};
use crate::client::{Client, PreparedRequest, Response};
use crate::{ErrorClass, Params, RunnerError, RunnerSetup};

/// The parameters of an operation. Every mistake in them is named with the operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given<'a> {
    setup: &'a RunnerSetup,
    params: &'a Params,
}

impl<'a> Given<'a> {
    pub(super) fn new(setup: &'a RunnerSetup, params: &'a Params) -> Self {
        Self { setup, params }
    }

    /// A parameter; none if it is missing or null.
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.params.values.get(key).filter(|value| !value.is_null())
    }

    /// A parameter that must be there.
    pub(super) fn wanted(&self, key: &str) -> Result<&'a Value, RunnerError> {
        self.get(key).ok_or_else(|| missing(self.setup, key))
    }

    /// A parameter as it goes into a query, where null is left out.
    pub(super) fn value(&self, key: &str) -> Value {
        self.get(key).cloned().unwrap_or_default()
    }

    /// A name, or several, that must be there, as they stand in a path.
    pub(super) fn name(&self, key: &str) -> Result<String, RunnerError> {
        self.name_if_any(key).ok_or_else(|| missing(self.setup, key))
    }

    /// A name, or several, as they stand in a path.
    pub(super) fn name_if_any(&self, key: &str) -> Option<String> {
        self.get(key).map(|value| encode(&query_text(value))).filter(|name| !name.is_empty())
    }

    /// A parameter that is true or false, also as text.
    pub(super) fn flag(&self, key: &str, default: bool) -> Result<bool, RunnerError> {
        match self.get(key) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(Value::String(text)) if text == "true" || text == "false" => Ok(text == "true"),
            Some(other) => Err(self.wrong(key, "true or false", other)),
        }
    }

    /// A number of seconds that is not negative.
    pub(super) fn seconds(&self, key: &str, default: Duration) -> Result<Duration, RunnerError> {
        self.get(key).map_or(Ok(default), |value| {
            request::seconds(value).ok_or_else(|| self.wrong(key, "a number of seconds, at least 0", value))
        })
    }

    /// A whole number that is not negative.
    pub(super) fn count(&self, key: &str, default: u64) -> Result<u64, RunnerError> {
        self.get(key).map_or(Ok(default), |value| {
            let count = value.as_u64().or_else(|| value.as_str()?.parse().ok());
            count.ok_or_else(|| self.wrong(key, "a whole number, at least 0", value))
        })
    }

    /// The elements of a list that must be there.
    pub(super) fn list(&self, key: &str) -> Result<&'a [Value], RunnerError> {
        let value = self.wanted(key)?;
        value.as_array().map(Vec::as_slice).ok_or_else(|| self.wrong(key, "a list", value))
    }

    /// The elements of a list of lists that begin with a name, each as that name in a path and the rest.
    pub(super) fn entries(&self, key: &str) -> Result<Vec<(String, &'a [Value])>, RunnerError> {
        let elements = self.list(key)?.iter();
        elements
            .map(|element| {
                let (name, rest) = element
                    .as_array()
                    .and_then(|entry| entry.split_first())
                    .ok_or_else(|| self.wrong(key, "a list of lists that begin with a name", element))?;
                Ok((encode(&query_text(name)), rest))
            })
            .collect()
    }

    /// Says that a parameter makes no sense, and what would.
    pub(super) fn wrong(&self, key: &str, right: &str, found: &Value) -> RunnerError {
        self.invalid(format!("`{key}` must be {right}, not {found}"))
    }

    pub(super) fn invalid(&self, problem: impl Into<String>) -> RunnerError {
        invalid(self.setup, problem)
    }

    /// Whether the cluster is a serverless one whose settings are out of reach.
    pub(super) fn is_serverless_for_users(&self) -> bool {
        self.setup.plan.is_serverless() && !self.setup.plan.serverless_operator
    }

    /// What must be true for the race to go on is not.
    pub(super) fn assertion(&self, problem: impl std::fmt::Display) -> RunnerError {
        RunnerError::Assertion(format!("operation `{}`: {problem}", self.setup.task.operation.name))
    }

    /// Sends a request.
    pub(super) async fn send(&self, request: &PreparedRequest) -> Result<Response, RunnerError> {
        self.client()?.send(request).await
    }

    /// Sends a request and reads its answer as JSON.
    pub(super) async fn ask(&self, request: &PreparedRequest) -> Result<Value, RunnerError> {
        read(&self.send(request).await?.body)
    }

    fn client(&self) -> Result<&'a Client, RunnerError> {
        self.setup.clients.default_cluster().map(AsRef::as_ref)
    }

    /// A request with `request-params` in its query, and with all else that the operation says of its requests.
    pub(super) fn call(&self, method: &'static str, path: impl Into<String>) -> Call<'a> {
        self.new_call(method, path.into(), true)
    }

    /// A request beside those that the operation is about: without `request-params`, but with all else.
    pub(super) fn aside(&self, method: &'static str, path: impl Into<String>) -> Call<'a> {
        self.new_call(method, path.into(), false)
    }

    fn new_call(&self, method: &'static str, path: String, with_request_params: bool) -> Call<'a> {
        Call { given: *self, method, path, with_request_params, query: Vec::new(), body: None, ignore: None }
    }
}

/// A request while it is made.
#[derive(Debug)]
pub(super) struct Call<'a> {
    given: Given<'a>,
    method: &'static str,
    path: String,
    with_request_params: bool,
    query: Vec<(&'static str, Value)>,
    body: Option<Value>,
    ignore: Option<u16>,
}

impl Call<'_> {
    /// Adds to the query. Null is left out.
    pub(super) fn query(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    /// Sets the body. Null means none.
    pub(super) fn body(mut self, body: impl Into<Value>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Takes this status for a success.
    pub(super) fn ignoring(mut self, status: u16) -> Self {
        self.ignore = Some(status);
        self
    }

    /// Makes it ready to be sent.
    pub(super) fn prepare(self) -> Result<PreparedRequest, RunnerError> {
        let make = if self.with_request_params { request::request } else { request::aside };
        let mut request = make(self.method, &self.path, &self.query, &self.given.params.values);
        request.body = request::body(self.body.as_ref());
        request.ignore.extend(self.ignore);
        self.given.client()?.prepare(&request)
    }
}

/// Reads an answer as JSON.
pub(super) fn read(answer: &[u8]) -> Result<Value, RunnerError> {
    serde_json::from_slice(answer).map_err(|error| unexpected(format!("it is no JSON: {error}")))
}

/// An answer is not what the API promises: a request that failed, without a status that says so.
pub(super) fn unexpected(problem: impl std::fmt::Display) -> RunnerError {
    RunnerError::Transport { class: ErrorClass::Response, description: format!("an answer makes no sense: {problem}") }
}
