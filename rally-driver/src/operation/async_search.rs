//! `submit-async-search`, `get-async-search` and `delete-async-search`: a search that goes on while other operations of the
//! same composite one run.

use async_trait::async_trait;
use rally_core::track::JsonObject;
use serde_json::{Value, json};

use super::action::Action;
use super::composite::Opening;
use super::given::Given;
use super::json::{Scanner, find};
use super::request::encode;
use super::search_answer::{Needed, SearchAnswer};
use super::senseless;
use crate::client::{Request, Response};
use crate::{Outcome, RunnerError};

/// Starts a search and keeps its id under the operation's name.
pub(super) fn submit(given: &Given<'_>) -> Result<Opening, RunnerError> {
    given.context()?;
    let path = match given.name_if_any("index") {
        Some(index) => format!("/{index}/_async_search"),
        None => "/_async_search".to_owned(),
    };
    let call = given.call("POST", path).query("wait_for_completion_timeout", 0).body(given.wanted("body")?.clone());
    // Without `keep_on_completion`, a search that is done in time is not kept.
    Opening::new(given, call, "the async search", true)
}

/// What asks for searches by name: one request for each, but for the id in its path.
struct ByName {
    names: Vec<String>,
    request: Request,
}

impl ByName {
    /// Reads the names from the parameter `key`.
    fn new(given: &Given<'_>, key: &str, method: &'static str) -> Result<Self, RunnerError> {
        given.context()?;
        let names = given.names(key)?.ok_or_else(|| given.missing(key))?;
        Ok(Self { names, request: given.call(method, "/_async_search/").request()? })
    }

    /// Asks for the search of this name; none if it was done when it was submitted, so that nothing is kept of it.
    async fn ask(&self, given: &Given<'_>, name: &str) -> Result<Option<Response>, RunnerError> {
        let Some(id) = given.context()?.find(name)? else {
            given.mark_none();
            return Ok(None);
        };
        // Behind the path, there may be a query.
        let path = self.request.path.replacen("/_async_search/", &format!("/_async_search/{}", encode(&id)), 1);
        given.request(&Request { path, ..self.request.clone() }).await.map(Some)
    }
}

/// Asks for the results of searches. It is a success once none of them is running.
pub(super) struct Results(ByName);

pub(super) fn get(given: &Given<'_>) -> Result<Results, RunnerError> {
    ByName::new(given, "retrieve-results-for", "GET").map(Results)
}

#[async_trait(?Send)]
impl Action for Results {
    async fn run(&mut self, given: &Given<'_>) -> Result<Outcome, RunnerError> {
        let (mut stats, mut success) = (JsonObject::new(), true);
        for name in &self.0.names {
            let Some(response) = self.0.ask(given, name).await? else { continue };
            match finished(&response.body)? {
                Some(found) => drop(stats.insert(name.clone(), found)),
                None => success = false,
            }
        }
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
pub(super) struct Deletion(ByName);

pub(super) fn delete(given: &Given<'_>) -> Result<Deletion, RunnerError> {
    ByName::new(given, "delete-results-for", "DELETE").map(Deletion)
}

#[async_trait(?Send)]
impl Action for Deletion {
    async fn run(&mut self, given: &Given<'_>) -> Result<Outcome, RunnerError> {
        for name in &self.0.names {
            self.0.ask(given, name).await?;
            given.context()?.remove(name);
        }
        Ok(Outcome::default())
    }
}
