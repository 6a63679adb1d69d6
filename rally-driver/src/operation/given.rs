//! What an operation is given: its parameters, and the requests that are made of them.

use std::ops::Deref;

use serde_json::Value;

use super::in_composite;
use super::request::{self, encode, query_text};
use crate::client::{Client, PreparedRequest, Request, Response};
use crate::parameters::Parameters;
use crate::{CompositeContext, Params, RunnerError, RunnerSetup};

/// The parameters of an operation, and what it is executed with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given<'a> {
    setup: &'a RunnerSetup,
    params: Parameters<'a>,
}

impl<'a> Deref for Given<'a> {
    type Target = Parameters<'a>;

    fn deref(&self) -> &Self::Target {
        &self.params
    }
}

impl<'a> Given<'a> {
    pub(super) fn new(setup: &'a RunnerSetup, params: &'a Params) -> Self {
        Self { setup, params: Parameters::new(&setup.task.operation.name, params) }
    }

    /// A parameter as it goes into a query, where null is left out.
    pub(super) fn value(&self, key: &str) -> Value {
        self.get(key).cloned().unwrap_or_default()
    }

    /// A query or the like that restricts what is asked for; none if it is empty.
    pub(super) fn restriction(&self, key: &str) -> Option<&'a Value> {
        self.get(key).filter(|value| value.as_object().is_none_or(|clauses| !clauses.is_empty()))
    }

    /// A name, or several, that must be there, as they stand in a path.
    pub(super) fn name(&self, key: &str) -> Result<String, RunnerError> {
        self.name_if_any(key).ok_or_else(|| self.missing(key))
    }

    /// A name, or several, as they stand in a path.
    pub(super) fn name_if_any(&self, key: &str) -> Option<String> {
        self.get(key).map(|value| encode(&query_text(value))).filter(|name| !name.is_empty())
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

    /// Prepares a request that was not complete before, and sends it.
    pub(super) async fn request(&self, request: &Request) -> Result<Response, RunnerError> {
        self.client()?.request(request).await
    }

    /// Marks that there was no need for a request: it took no time.
    pub(super) fn mark_none(&self) {
        self.setup.timer.sent();
        self.setup.timer.received();
    }

    /// What operations inside a composite one share.
    ///
    /// # Errors
    ///
    /// [`RunnerError::Assertion`] outside of a composite operation.
    pub(super) fn context(&self) -> Result<&'a CompositeContext, RunnerError> {
        in_composite(self.setup).map(AsRef::as_ref)
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
        let (query, without) = (Vec::new(), &[][..]);
        Call { given: *self, method, path, with_request_params, without, query, body: None, ignore: None }
    }
}

/// A request while it is made.
#[derive(Debug)]
pub(super) struct Call<'a> {
    given: Given<'a>,
    method: &'static str,
    path: String,
    with_request_params: bool,
    without: &'static [&'static str],
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

    /// Leaves these out of `request-params`.
    pub(super) fn without(mut self, names: &'static [&'static str]) -> Self {
        self.without = names;
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

    /// Makes it, for those who still change it.
    pub(super) fn request(self) -> Result<Request, RunnerError> {
        let request_params = match self.given.object("request-params")? {
            Some(params) if self.with_request_params => {
                let mut params = params.clone();
                params.retain(|name, _| !self.without.contains(&name.as_str()));
                Some(params)
            }
            _ => None,
        };
        let mut request = request::request(self.method, &self.path, &self.query, &self.given, request_params.as_ref())?;
        request.body = request::body(self.body.as_ref());
        request.ignore.extend(self.ignore);
        Ok(request)
    }

    /// Makes it ready to be sent.
    pub(super) fn prepare(self) -> Result<PreparedRequest, RunnerError> {
        let client = self.given.client()?;
        client.prepare(&self.request()?)
    }
}

/// Reads an answer as JSON.
pub(super) fn read(answer: &[u8]) -> Result<Value, RunnerError> {
    serde_json::from_slice(answer).map_err(|error| unexpected(format!("it is no JSON: {error}")))
}

/// An answer is not what the API promises.
pub(super) fn unexpected(problem: impl std::fmt::Display) -> RunnerError {
    RunnerError::response(format!("an answer makes no sense: {problem}"))
}
