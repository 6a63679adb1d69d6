//! `raw-request`: any request to any API, made once and sent as it is each time.

use std::rc::Rc;

use async_trait::async_trait;

use super::given::Given;
use super::unprepared;
use crate::client::{Client, PreparedRequest};
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
        self.request = Some(free_request(&Given::new(&self.setup, params))?);
        Ok(())
    }

    async fn run(&mut self) -> Result<Outcome, RunnerError> {
        self.client.send_unread(self.request.as_ref().ok_or_else(unprepared)?).await?;
        Ok(Outcome::default())
    }
}

/// A request whose parameters say everything: `path`, `method` and `body`.
pub(super) fn free_request(given: &Given<'_>) -> Result<PreparedRequest, RunnerError> {
    let path = given.wanted_text("path")?;
    if !path.starts_with('/') {
        return Err(given.invalid(format!("`path` must begin with a slash, not be `{path}`")));
    }
    let method = match given.text("method")?.unwrap_or("GET").to_uppercase().as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        "PATCH" => "PATCH",
        "OPTIONS" => "OPTIONS",
        other => return Err(given.invalid(format!("`{other}` is no method"))),
    };
    given.call(method, path).body(given.value("body")).prepare()
}
