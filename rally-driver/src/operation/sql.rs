//! `sql`: a query in SQL, and further pages of its rows.

use std::rc::Rc;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::given::Given;
use super::json::find;
use super::{senseless, unprepared};
use crate::client::{Body, Client, PreparedRequest, Request};
use crate::{Outcome, Params, Runner, RunnerError, RunnerSetup};

#[derive(Debug)]
pub(super) struct Sql {
    setup: RunnerSetup,
    client: Rc<Client>,
    prepared: Option<Prepared>,
}

#[derive(Debug)]
struct Prepared {
    first: PreparedRequest,
    /// Asks for another page, but for its body.
    next: Request,
    pages: u64,
}

impl Sql {
    pub(super) fn new(setup: &RunnerSetup) -> Result<Self, RunnerError> {
        let client = Rc::clone(setup.clients.default_cluster()?);
        Ok(Self { setup: setup.clone(), client, prepared: None })
    }
}

#[async_trait(?Send)]
impl Runner for Sql {
    fn prepare(&mut self, params: &Params) -> Result<(), RunnerError> {
        let given = Given::new(&self.setup, params);
        let body = given.wanted("body")?;
        if body.get("query").is_none_or(Value::is_null) {
            return Err(given.missing("body.query"));
        }
        let pages = given.positive("pages")?.unwrap_or(1);
        let next = given.call("POST", "/_sql").request()?;
        let first = given.call("POST", "/_sql").body(body.clone()).prepare()?;
        self.prepared = Some(Prepared { first, next, pages });
        Ok(())
    }

    async fn run(&mut self) -> Result<Outcome, RunnerError> {
        let Prepared { first, next, pages } = self.prepared.as_ref().ok_or_else(unprepared)?;
        let mut response = self.client.send(first).await?;
        for page in 1..*pages {
            let cursor: Option<String> = find(&response.body, "cursor").map_err(senseless("an SQL query"))?;
            let cursor = cursor.ok_or_else(|| {
                RunnerError::Other(format!(
                    "operation `{}`: the rows end with page {page}, but `pages` asks for {pages}",
                    self.setup.task.operation.name
                ))
            })?;
            let body = json!({ "cursor": cursor }).to_string();
            let next = Request { body: Body::Json(body.into()), ..next.clone() };
            response = self.client.request(&next).await?;
        }
        Ok(Outcome { weight: *pages, ..Outcome::default() })
    }
}
