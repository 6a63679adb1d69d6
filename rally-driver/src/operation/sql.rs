//! `sql`: a query in SQL, and further pages of its rows.

use std::rc::Rc;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::json::find;
use super::{invalid, missing, request, senseless, unprepared};
use crate::client::{Body, Client, PreparedRequest, Request};
use crate::{Outcome, Params, Runner, RunnerError, RunnerSetup};

#[derive(Debug)]
pub(super) struct Sql {
    setup: RunnerSetup,
    client: Rc<Client>,
    first: Option<PreparedRequest>,
    pages: u64,
}

impl Sql {
    pub(super) fn new(setup: &RunnerSetup) -> Result<Self, RunnerError> {
        let client = Rc::clone(setup.clients.default_cluster()?);
        Ok(Self { setup: setup.clone(), client, first: None, pages: 1 })
    }
}

#[async_trait(?Send)]
impl Runner for Sql {
    fn prepare(&mut self, params: &Params) -> Result<(), RunnerError> {
        let body = params.get("body").ok_or_else(|| missing(&self.setup, "body"))?;
        if body.get("query").is_none_or(Value::is_null) {
            return Err(missing(&self.setup, "body.query"));
        }
        self.pages = match params.get("pages") {
            None => 1,
            Some(pages) => pages
                .as_u64()
                .filter(|pages| *pages > 0)
                .ok_or_else(|| invalid(&self.setup, format!("`pages` must be a number from 1 on, not {pages}")))?,
        };
        let request = Request { body: request::body(Some(body)), ..Request::new("POST", "/_sql") };
        self.first = Some(self.client.prepare(&request)?);
        Ok(())
    }

    async fn run(&mut self) -> Result<Outcome, RunnerError> {
        let mut response = self.client.send(self.first.as_ref().ok_or_else(unprepared)?).await?;
        for page in 1..self.pages {
            let cursor: Option<String> = find(&response.body, "cursor").map_err(senseless("an SQL query"))?;
            let cursor = cursor.ok_or_else(|| {
                RunnerError::Other(format!(
                    "operation `{}`: the rows end with page {page}, but `pages` asks for {}",
                    self.setup.task.operation.name, self.pages
                ))
            })?;
            let next = json!({ "cursor": cursor }).to_string();
            let next = Request { body: Body::Json(next.into()), ..Request::new("POST", "/_sql") };
            response = self.client.request(&next).await?;
        }
        Ok(Outcome { weight: self.pages, ..Outcome::default() })
    }
}
