//! `open-point-in-time` and `close-point-in-time`: a state of an index that the searches of a composite operation share.

use std::rc::Rc;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::json::find;
use super::{in_composite, missing, request, senseless, unprepared};
use crate::client::{Body, Client, PreparedRequest, Request};
use crate::{CompositeContext, Outcome, Params, Runner, RunnerError, RunnerSetup};

/// Opens a point in time and keeps its id under the operation's name.
#[derive(Debug)]
pub(super) struct OpenPointInTime {
    setup: RunnerSetup,
    client: Rc<Client>,
    context: Rc<CompositeContext>,
    prepared: Option<(String, PreparedRequest)>,
}

impl OpenPointInTime {
    pub(super) fn new(setup: &RunnerSetup) -> Result<Self, RunnerError> {
        let client = Rc::clone(setup.clients.default_cluster()?);
        Ok(Self { setup: setup.clone(), client, context: Rc::clone(in_composite(setup)?), prepared: None })
    }
}

#[async_trait(?Send)]
impl Runner for OpenPointInTime {
    fn prepare(&mut self, params: &Params) -> Result<(), RunnerError> {
        let name = params.get("name").and_then(Value::as_str).ok_or_else(|| missing(&self.setup, "name"))?;
        let index = params.get("index").ok_or_else(|| missing(&self.setup, "index"))?;
        let keep_alive = params.get("keep-alive").cloned().unwrap_or_else(|| json!("1m"));
        let path = format!("/{}/_pit", request::encode(&request::query_text(index)));
        let request = request::request("POST", &path, &[("keep_alive", keep_alive)], params);
        self.prepared = Some((name.to_owned(), self.client.prepare(&request)?));
        Ok(())
    }

    async fn run(&mut self) -> Result<Outcome, RunnerError> {
        let (name, request) = self.prepared.as_ref().ok_or_else(unprepared)?;
        let response = self.client.send(request).await?;
        let id: Option<String> = find(&response.body, "id").map_err(senseless("the opening of a point in time"))?;
        let id =
            id.ok_or_else(|| RunnerError::Other(format!("the point in time `{name}` has no `id` in the answer")))?;
        self.context.put(name, &id);
        Ok(Outcome::default())
    }
}

/// Closes the point in time that another operation has opened.
#[derive(Debug)]
pub(super) struct ClosePointInTime {
    setup: RunnerSetup,
    client: Rc<Client>,
    context: Rc<CompositeContext>,
    prepared: Option<(String, Request)>,
}

impl ClosePointInTime {
    pub(super) fn new(setup: &RunnerSetup) -> Result<Self, RunnerError> {
        let client = Rc::clone(setup.clients.default_cluster()?);
        Ok(Self { setup: setup.clone(), client, context: Rc::clone(in_composite(setup)?), prepared: None })
    }
}

#[async_trait(?Send)]
impl Runner for ClosePointInTime {
    fn prepare(&mut self, params: &Params) -> Result<(), RunnerError> {
        let key = "with-point-in-time-from";
        let name = params.get(key).and_then(Value::as_str).ok_or_else(|| missing(&self.setup, key))?;
        self.prepared = Some((name.to_owned(), request::request("DELETE", "/_pit", &[], params)));
        Ok(())
    }

    async fn run(&mut self) -> Result<Outcome, RunnerError> {
        let (name, request) = self.prepared.as_mut().ok_or_else(unprepared)?;
        request.body = Body::Json(json!({ "id": self.context.get(name)? }).to_string().into());
        self.client.request(request).await?;
        self.context.remove(name);
        Ok(Outcome::default())
    }
}
