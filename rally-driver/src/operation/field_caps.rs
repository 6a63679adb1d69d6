//! `field-caps`: which fields indices have, and what they can do.

use std::rc::Rc;

use async_trait::async_trait;
use serde_json::json;

use super::given::Given;
use super::unprepared;
use crate::client::{Client, PreparedRequest};
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
        let given = Given::new(&self.setup, params);
        let index = given.name_if_any("index").unwrap_or_else(|| "_all".to_owned());
        let mut body = given.object("body")?.cloned().unwrap_or_default();
        if let Some(fields) = given.get("fields") {
            body.insert("fields".to_owned(), fields.clone());
        }
        body.entry("fields").or_insert_with(|| json!("*"));
        if let Some(filter) = given.restriction("index_filter") {
            body.insert("index_filter".to_owned(), filter.clone());
        }
        self.request = Some(given.call("POST", format!("/{index}/_field_caps")).body(body).prepare()?);
        Ok(())
    }

    async fn run(&mut self) -> Result<Outcome, RunnerError> {
        self.client.send(self.request.as_ref().ok_or_else(unprepared)?).await?;
        Ok(Outcome::default())
    }
}
