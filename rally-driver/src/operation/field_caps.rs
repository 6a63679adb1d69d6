//! `field-caps`: which fields indices have, and what they can do.

use std::rc::Rc;

use async_trait::async_trait;
use rally_core::track::JsonObject;
use serde_json::{Value, json};

use super::{invalid, request, unprepared};
use crate::client::{Body, Client, PreparedRequest};
use crate::{Outcome, Params, Runner, RunnerError, RunnerSetup};

#[derive(Debug)]
pub(super) struct FieldCaps {
    setup: RunnerSetup,
    client: Rc<Client>,
    request: Option<PreparedRequest>,
}

impl FieldCaps {
    pub(super) fn new(setup: &RunnerSetup) -> Result<Self, RunnerError> {
        let client = Rc::clone(setup.clients.default_cluster()?);
        Ok(Self { setup: setup.clone(), client, request: None })
    }
}

#[async_trait(?Send)]
impl Runner for FieldCaps {
    fn prepare(&mut self, params: &Params) -> Result<(), RunnerError> {
        let index = params.get("index").map_or_else(|| "_all".to_owned(), request::query_text);
        let mut body = match params.get("body") {
            None | Some(Value::Null) => JsonObject::new(),
            Some(Value::Object(body)) => body.clone(),
            Some(other) => return Err(invalid(&self.setup, format!("`body` must be an object, not {other}"))),
        };
        body.insert("fields".to_owned(), params.get("fields").cloned().unwrap_or_else(|| json!("*")));
        if let Some(filter) = params.get("index_filter").filter(|filter| !filter.is_null()) {
            body.insert("index_filter".to_owned(), filter.clone());
        }
        let path = format!("/{}/_field_caps", request::encode(&index));
        let mut request = request::request("POST", &path, &[], params);
        request.body = Body::Json(Value::Object(body).to_string().into());
        self.request = Some(self.client.prepare(&request)?);
        Ok(())
    }

    async fn run(&mut self) -> Result<Outcome, RunnerError> {
        self.client.send(self.request.as_ref().ok_or_else(unprepared)?).await?;
        Ok(Outcome::default())
    }
}
