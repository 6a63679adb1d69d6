//! `submit-async-search`, `get-async-search` and `delete-async-search`: a search that goes on while other operations of the
//! same composite one run.

use async_trait::async_trait;
use rally_core::track::JsonObject;
use serde_json::{Value, json};

use super::composite::Linked;
use super::json::{Scanner, find};
use super::request::encode;
use super::search_answer::{Needed, SearchAnswer};
use super::{senseless, unprepared};
use crate::client::{PreparedRequest, Request, Response};
use crate::{Outcome, Params, Runner, RunnerError, RunnerSetup};

/// Starts a search and keeps its id under its name.
#[derive(Debug)]
pub(super) struct SubmitAsyncSearch {
    linked: Linked,
    prepared: Option<(String, PreparedRequest)>,
}

impl SubmitAsyncSearch {
    pub(super) fn new(setup: &RunnerSetup) -> Result<Self, RunnerError> {
        Ok(Self { linked: Linked::new(setup)?, prepared: None })
    }
}

#[async_trait(?Send)]
impl Runner for SubmitAsyncSearch {
    fn prepare(&mut self, params: &Params) -> Result<(), RunnerError> {
        let given = self.linked.given(params);
        let path = match given.name_if_any("index") {
            Some(index) => format!("/{index}/_async_search"),
            None => "/_async_search".to_owned(),
        };
        let call = given.call("POST", path).query("wait_for_completion_timeout", 0).body(given.wanted("body")?.clone());
        self.prepared = Some((given.wanted_text("name")?.to_owned(), call.prepare()?));
        Ok(())
    }

    async fn run(&mut self) -> Result<Outcome, RunnerError> {
        let (name, request) = self.prepared.as_ref().ok_or_else(unprepared)?;
        let response = self.linked.client.send(request).await?;
        let id: Option<String> = find(&response.body, "id").map_err(senseless("an async search"))?;
        let id = id.ok_or_else(|| {
            RunnerError::response(format!(
                "the async search `{name}` has no id, as it was done at once; with `keep_on_completion` it has one"
            ))
        })?;
        self.linked.context.put(name, &id);
        Ok(Outcome::default())
    }
}

/// What asks for searches by name: one request for each, but for the id in its path.
#[derive(Debug)]
struct ByName {
    linked: Linked,
    prepared: Option<(Vec<String>, Request)>,
}

impl ByName {
    fn new(setup: &RunnerSetup) -> Result<Self, RunnerError> {
        Ok(Self { linked: Linked::new(setup)?, prepared: None })
    }

    /// Reads the names from the parameter `key`.
    fn prepare(&mut self, params: &Params, key: &str, method: &'static str) -> Result<(), RunnerError> {
        let given = self.linked.given(params);
        let names = given.names(key)?.filter(|names| !names.is_empty()).ok_or_else(|| given.missing(key))?;
        self.prepared = Some((names, given.call(method, "/_async_search/").request()?));
        Ok(())
    }

    fn names(&self) -> Result<&[String], RunnerError> {
        self.prepared.as_ref().map(|(names, _)| names.as_slice()).ok_or_else(unprepared)
    }

    /// Asks for the search of this name.
    async fn ask(&self, name: &str) -> Result<Response, RunnerError> {
        let (_, request) = self.prepared.as_ref().ok_or_else(unprepared)?;
        let id = encode(&self.linked.context.get(name)?);
        // Behind the path, there may be a query.
        let path = request.path.replacen("/_async_search/", &format!("/_async_search/{id}"), 1);
        self.linked.client.request(&Request { path, ..request.clone() }).await
    }
}

/// Asks for the results of searches. It is a success once none of them is running.
#[derive(Debug)]
pub(super) struct GetAsyncSearch(ByName);

impl GetAsyncSearch {
    pub(super) fn new(setup: &RunnerSetup) -> Result<Self, RunnerError> {
        ByName::new(setup).map(Self)
    }
}

#[async_trait(?Send)]
impl Runner for GetAsyncSearch {
    fn prepare(&mut self, params: &Params) -> Result<(), RunnerError> {
        self.0.prepare(params, "retrieve-results-for", "GET")
    }

    async fn run(&mut self) -> Result<Outcome, RunnerError> {
        let (names, mut stats) = (self.0.names()?, JsonObject::new());
        for name in names {
            if let Some(found) = finished(&self.0.ask(name).await?.body)? {
                stats.insert(name.clone(), found);
            }
        }
        let (success, weight) = (stats.len() == names.len(), stats.len() as u64);
        let meta = JsonObject::from_iter([("stats".to_owned(), stats.into())]);
        Ok(Outcome { weight, success, meta, ..Outcome::default() })
    }
}

/// What a search found; none as long as it is running.
fn finished(answer: &[u8]) -> Result<Option<Value>, RunnerError> {
    let senseless = senseless("an async search");
    if find(answer, "is_running").map_err(&senseless)?.unwrap_or(false) {
        return Ok(None);
    }
    let mut scanner = Scanner::new(answer);
    let response = if scanner.seek("response").map_err(&senseless)? { scanner.value() } else { Ok(&b"{}"[..]) };
    let found = SearchAnswer::read(response.map_err(&senseless)?, Needed::Details).map_err(&senseless)?;
    let mut stats = JsonObject::new();
    if let Some((hits, relation)) = found.total {
        stats.insert("hits".to_owned(), hits.into());
        stats.insert("hits_relation".to_owned(), relation.into());
    }
    stats.insert("timed_out".to_owned(), json!(found.timed_out));
    stats.insert("took".to_owned(), json!(found.took));
    Ok(Some(stats.into()))
}

/// Forgets searches and their results.
#[derive(Debug)]
pub(super) struct DeleteAsyncSearch(ByName);

impl DeleteAsyncSearch {
    pub(super) fn new(setup: &RunnerSetup) -> Result<Self, RunnerError> {
        ByName::new(setup).map(Self)
    }
}

#[async_trait(?Send)]
impl Runner for DeleteAsyncSearch {
    fn prepare(&mut self, params: &Params) -> Result<(), RunnerError> {
        self.0.prepare(params, "delete-results-for", "DELETE")
    }

    async fn run(&mut self) -> Result<Outcome, RunnerError> {
        for name in self.0.names()? {
            self.0.ask(name).await?;
            self.0.linked.context.remove(name);
        }
        Ok(Outcome::default())
    }
}
