//! `raw-request`: any request to any API, made once and sent as it is each time.

use std::rc::Rc;

use async_trait::async_trait;
use serde_json::Value;

use super::{invalid, missing, request, unprepared};
use crate::client::{Client, PreparedRequest, Request};
use crate::{Outcome, Params, Runner, RunnerError, RunnerSetup};

#[derive(Debug)]
pub(super) struct RawRequest {
    setup: RunnerSetup,
    client: Rc<Client>,
    request: Option<PreparedRequest>,
}

impl RawRequest {
    pub(super) fn new(setup: &RunnerSetup) -> Result<Self, RunnerError> {
        let client = Rc::clone(setup.clients.default_cluster()?);
        Ok(Self { setup: setup.clone(), client, request: None })
    }
}

#[async_trait(?Send)]
impl Runner for RawRequest {
    fn prepare(&mut self, params: &Params) -> Result<(), RunnerError> {
        self.request = Some(self.client.prepare(&free_request(&self.setup, params)?)?);
        Ok(())
    }

    async fn run(&mut self) -> Result<Outcome, RunnerError> {
        self.client.send(self.request.as_ref().ok_or_else(unprepared)?).await?;
        Ok(Outcome::default())
    }
}

/// A request whose parameters say everything: `path`, `method` and `body`.
pub(super) fn free_request(setup: &RunnerSetup, params: &Params) -> Result<Request, RunnerError> {
    let path = params.get("path").and_then(Value::as_str).ok_or_else(|| missing(setup, "path"))?;
    if !path.starts_with('/') {
        return Err(invalid(setup, format!("`path` must begin with a slash, not be `{path}`")));
    }
    let method = match params.get("method").and_then(Value::as_str).unwrap_or("GET").to_uppercase().as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        "PATCH" => "PATCH",
        "OPTIONS" => "OPTIONS",
        other => return Err(invalid(setup, format!("`{other}` is no method"))),
    };
    let mut request = request::request(method, path, &[], params);
    request.body = request::body(params.get("body"));
    Ok(request)
}
