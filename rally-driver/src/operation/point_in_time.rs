//! `open-point-in-time` and `close-point-in-time`: a state of an index that the searches of a composite operation share.

use async_trait::async_trait;
use serde_json::json;

use super::composite::Linked;
use super::json::find;
use super::{senseless, unprepared};
use crate::client::{Body, PreparedRequest, Request};
use crate::{Outcome, Params, Runner, RunnerError, RunnerSetup};

/// Opens a point in time and keeps its id under the operation's name.
#[derive(Debug)]
pub(super) struct OpenPointInTime {
    linked: Linked,
    prepared: Option<(String, PreparedRequest)>,
}

impl OpenPointInTime {
    pub(super) fn new(setup: &RunnerSetup) -> Result<Self, RunnerError> {
        Ok(Self { linked: Linked::new(setup)?, prepared: None })
    }
}

#[async_trait(?Send)]
impl Runner for OpenPointInTime {
    fn prepare(&mut self, params: &Params) -> Result<(), RunnerError> {
        let given = self.linked.given(params);
        let keep_alive = given.get("keep-alive").cloned().unwrap_or_else(|| json!("1m"));
        let call = given.call("POST", format!("/{}/_pit", given.name("index")?)).query("keep_alive", keep_alive);
        self.prepared = Some((given.wanted_text("name")?.to_owned(), call.prepare()?));
        Ok(())
    }

    async fn run(&mut self) -> Result<Outcome, RunnerError> {
        let (name, request) = self.prepared.as_ref().ok_or_else(unprepared)?;
        let response = self.linked.client.send(request).await?;
        let id: Option<String> = find(&response.body, "id").map_err(senseless("the opening of a point in time"))?;
        let no_id = || RunnerError::response(format!("the point in time `{name}` has no `id` in the answer"));
        self.linked.context.put(name, &id.ok_or_else(no_id)?);
        Ok(Outcome::default())
    }
}

/// Closes the point in time that another operation has opened.
#[derive(Debug)]
pub(super) struct ClosePointInTime {
    linked: Linked,
    prepared: Option<(String, Request)>,
}

impl ClosePointInTime {
    pub(super) fn new(setup: &RunnerSetup) -> Result<Self, RunnerError> {
        Ok(Self { linked: Linked::new(setup)?, prepared: None })
    }
}

#[async_trait(?Send)]
impl Runner for ClosePointInTime {
    fn prepare(&mut self, params: &Params) -> Result<(), RunnerError> {
        let given = self.linked.given(params);
        let name = given.wanted_text("with-point-in-time-from")?;
        self.prepared = Some((name.to_owned(), given.call("DELETE", "/_pit").request()?));
        Ok(())
    }

    async fn run(&mut self) -> Result<Outcome, RunnerError> {
        let (name, request) = self.prepared.as_mut().ok_or_else(unprepared)?;
        let Linked { client, context, .. } = &self.linked;
        request.body = Body::Json(json!({ "id": context.get(name)? }).to_string().into());
        client.request(request).await?;
        context.remove(name);
        Ok(Outcome::default())
    }
}
