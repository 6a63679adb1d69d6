//! `search`: one request that is made once and sent as it is each time. What all searches have in common is here, too.

use std::rc::Rc;

use async_trait::async_trait;
use rally_core::track::JsonObject;
use serde_json::{Value, json};

use super::scroll::Scroll;
use super::search_answer::{Needed, SearchAnswer};
use super::{invalid, missing, request, senseless, unprepared};
use crate::client::{Client, PreparedRequest, Request};
use crate::{Outcome, Params, Runner, RunnerError, RunnerSetup};

#[derive(Debug)]
pub(super) struct Search {
    setup: RunnerSetup,
    client: Rc<Client>,
    request: Option<PreparedRequest>,
    detailed: bool,
    /// With `pages`, a search is a scroll.
    scroll: Option<Scroll>,
}

impl Search {
    pub(super) fn new(setup: &RunnerSetup) -> Result<Self, RunnerError> {
        let client = Rc::clone(setup.clients.default_cluster()?);
        Ok(Self { setup: setup.clone(), client, request: None, detailed: false, scroll: None })
    }
}

#[async_trait(?Send)]
impl Runner for Search {
    fn prepare(&mut self, params: &Params) -> Result<(), RunnerError> {
        self.scroll = None;
        if params.contains_key("pages") {
            return self.scroll.insert(Scroll::new(&self.setup)?).prepare(params);
        }
        let SearchRequest { mut request, body } = SearchRequest::new(&self.setup, params, &[], false)?.sized(params);
        request.body = request::body(Some(&body));
        self.detailed = params.get("detailed-results") == Some(&json!(true));
        self.request = Some(self.client.prepare(&request)?);
        Ok(())
    }

    async fn run(&mut self) -> Result<Outcome, RunnerError> {
        if let Some(scroll) = &mut self.scroll {
            return scroll.run().await;
        }
        let response = self.client.send(self.request.as_ref().ok_or_else(unprepared)?).await?;
        let meta = if self.detailed {
            SearchAnswer::read(&response.body, Needed::Details).map_err(senseless("a search"))?.details()
        } else {
            JsonObject::new()
        };
        Ok(Outcome { meta, ..Outcome::default() })
    }
}

/// A search as its parameters describe it. The body is apart, since pages change it.
#[derive(Debug)]
pub(super) struct SearchRequest {
    pub(super) request: Request,
    pub(super) body: Value,
}

impl SearchRequest {
    /// Makes the request of `index`, `body`, `cache`, `response-compression-enabled` and the parameters that most
    /// operations understand. A search in a point in time names neither index nor routing.
    pub(super) fn new(
        setup: &RunnerSetup,
        params: &Params,
        query: &[(&str, Value)],
        in_point_in_time: bool,
    ) -> Result<Self, RunnerError> {
        let body = params.get("body").ok_or_else(|| missing(setup, "body"))?.clone();
        let cache = match params.get("cache").filter(|cache| !cache.is_null()) {
            Some(cache) => cache.clone(),
            None if setup.plan.is_serverless() && !setup.plan.serverless_operator => json!(false),
            None => Value::Null,
        };
        let query = [query, &[("request_cache", cache)]].concat();
        let mut request = if in_point_in_time {
            let mut params = JsonObject::clone(params);
            if let Some(Value::Object(given)) = params.get_mut("request-params") {
                given.retain(|name, _| !matches!(name.as_str(), "index" | "routing" | "preference"));
            }
            request::request("GET", "/_search", &query, &params)
        } else {
            let index = params.get("index").filter(|index| !index.is_null()).ok_or_else(|| missing(setup, "index"))?;
            let path = format!("/{}/_search", request::encode(&request::query_text(index)));
            request::request("GET", &path, &query, params)
        };
        if params.get("response-compression-enabled") == Some(&json!(false)) {
            request.headers.push(("accept-encoding".to_owned(), "identity".to_owned()));
        }
        Ok(Self { request, body })
    }

    /// Asks for as many hits as `results-per-page` says, if it is there.
    pub(super) fn sized(mut self, params: &Params) -> Self {
        let Some(size) = params.get("results-per-page").filter(|size| !size.is_null()) else { return self };
        if self.body.is_null() {
            self.body = json!({});
        }
        if let Value::Object(body) = &mut self.body {
            body.insert("size".to_owned(), size.clone());
        }
        self
    }

    /// The body for those who add to it; an empty one if there is none.
    pub(super) fn body_object(&self, setup: &RunnerSetup) -> Result<JsonObject, RunnerError> {
        match &self.body {
            Value::Null => Ok(JsonObject::new()),
            Value::Object(body) => Ok(body.clone()),
            other => Err(invalid(setup, format!("`body` must be an object, not {other}"))),
        }
    }
}
