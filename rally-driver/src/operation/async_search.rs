//! `submit-async-search`, `get-async-search` and `delete-async-search`: a search that goes on while other operations of the
//! same composite one run.

use std::rc::Rc;

use async_trait::async_trait;
use rally_core::track::JsonObject;
use serde_json::{Value, json};

use super::json::{Scanner, find};
use super::search_answer::{Needed, SearchAnswer};
use super::{in_composite, invalid, missing, request, senseless, unprepared};
use crate::client::{Client, PreparedRequest};
use crate::{CompositeContext, Outcome, Params, Runner, RunnerError, RunnerSetup};

/// Starts a search and keeps its id under its name.
#[derive(Debug)]
pub(super) struct SubmitAsyncSearch {
    setup: RunnerSetup,
    client: Rc<Client>,
    context: Rc<CompositeContext>,
    prepared: Option<(String, PreparedRequest)>,
}

impl SubmitAsyncSearch {
    pub(super) fn new(setup: &RunnerSetup) -> Result<Self, RunnerError> {
        let client = Rc::clone(setup.clients.default_cluster()?);
        Ok(Self { setup: setup.clone(), client, context: Rc::clone(in_composite(setup)?), prepared: None })
    }
}

#[async_trait(?Send)]
impl Runner for SubmitAsyncSearch {
    fn prepare(&mut self, params: &Params) -> Result<(), RunnerError> {
        let name = params.get("name").and_then(Value::as_str).ok_or_else(|| missing(&self.setup, "name"))?;
        let body = params.get("body").ok_or_else(|| missing(&self.setup, "body"))?;
        let path = match params.get("index").filter(|index| !index.is_null()) {
            Some(index) => format!("/{}/_async_search", request::encode(&request::query_text(index))),
            None => "/_async_search".to_owned(),
        };
        let mut request = request::request("POST", &path, &[("wait_for_completion_timeout", json!(0))], params);
        request.body = request::body(Some(body));
        self.prepared = Some((name.to_owned(), self.client.prepare(&request)?));
        Ok(())
    }

    async fn run(&mut self) -> Result<Outcome, RunnerError> {
        let (name, request) = self.prepared.as_ref().ok_or_else(unprepared)?;
        let response = self.client.send(request).await?;
        let id: Option<String> = find(&response.body, "id").map_err(senseless("an async search"))?;
        let id = id.ok_or_else(|| {
            RunnerError::Other(format!(
                "the async search `{name}` has no id, as it was done at once; with `keep_on_completion` it has one"
            ))
        })?;
        self.context.put(name, &id);
        Ok(Outcome::default())
    }
}

/// Asks for the results of searches. It is a success once none of them is running.
#[derive(Debug)]
pub(super) struct GetAsyncSearch {
    setup: RunnerSetup,
    client: Rc<Client>,
    context: Rc<CompositeContext>,
    searches: Vec<String>,
    params: Params,
}

impl GetAsyncSearch {
    pub(super) fn new(setup: &RunnerSetup) -> Result<Self, RunnerError> {
        let client = Rc::clone(setup.clients.default_cluster()?);
        let context = Rc::clone(in_composite(setup)?);
        Ok(Self { setup: setup.clone(), client, context, searches: Vec::new(), params: Params::default() })
    }
}

#[async_trait(?Send)]
impl Runner for GetAsyncSearch {
    fn prepare(&mut self, params: &Params) -> Result<(), RunnerError> {
        self.searches = names(&self.setup, params, "retrieve-results-for")?;
        self.params = params.clone();
        Ok(())
    }

    async fn run(&mut self) -> Result<Outcome, RunnerError> {
        let mut stats = JsonObject::new();
        for name in &self.searches {
            let path = format!("/_async_search/{}", request::encode(&self.context.get(name)?));
            let response = self.client.request(&request::request("GET", &path, &[], &self.params)).await?;
            if let Some(found) = finished(&response.body)? {
                stats.insert(name.clone(), found);
            }
        }
        let success = stats.len() == self.searches.len();
        let weight = stats.len() as u64;
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
pub(super) struct DeleteAsyncSearch {
    setup: RunnerSetup,
    client: Rc<Client>,
    context: Rc<CompositeContext>,
    searches: Vec<String>,
    params: Params,
}

impl DeleteAsyncSearch {
    pub(super) fn new(setup: &RunnerSetup) -> Result<Self, RunnerError> {
        let client = Rc::clone(setup.clients.default_cluster()?);
        let context = Rc::clone(in_composite(setup)?);
        Ok(Self { setup: setup.clone(), client, context, searches: Vec::new(), params: Params::default() })
    }
}

#[async_trait(?Send)]
impl Runner for DeleteAsyncSearch {
    fn prepare(&mut self, params: &Params) -> Result<(), RunnerError> {
        self.searches = names(&self.setup, params, "delete-results-for")?;
        self.params = params.clone();
        Ok(())
    }

    async fn run(&mut self) -> Result<Outcome, RunnerError> {
        for name in &self.searches {
            let path = format!("/_async_search/{}", request::encode(&self.context.get(name)?));
            self.client.request(&request::request("DELETE", &path, &[], &self.params)).await?;
            self.context.remove(name);
        }
        Ok(Outcome::default())
    }
}

/// One name, or a list of them.
fn names(setup: &RunnerSetup, params: &Params, key: &str) -> Result<Vec<String>, RunnerError> {
    let given = params.get(key).ok_or_else(|| missing(setup, key))?;
    let names: Option<Vec<String>> = match given {
        Value::String(name) => Some(vec![name.clone()]),
        Value::Array(names) => names.iter().map(|name| name.as_str().map(str::to_owned)).collect(),
        _ => None,
    };
    names.filter(|names| !names.is_empty()).ok_or_else(|| {
        invalid(setup, format!("`{key}` must be the name of an async search or a list of names, not {given}"))
    })
}
