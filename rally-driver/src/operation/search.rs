//! `search`: one request that is made once and sent as it is each time. What all searches have in common is here, too.

use std::rc::Rc;

use async_trait::async_trait;
use rally_core::track::JsonObject;
use serde_json::{Value, json};

use super::given::{Call, Given};
use super::scroll::Scroll;
use super::search_answer::{Needed, SearchAnswer};
use super::{request, senseless, unprepared};
use crate::client::{Client, PreparedRequest, Request};
use crate::{Outcome, Params, Runner, RunnerError, RunnerSetup};

/// What a search in a point in time must not say, because that was opened with it.
pub(super) const OF_POINT_IN_TIME: [&str; 3] = ["index", "routing", "preference"];

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
        let given = Given::new(&self.setup, params);
        if given.get("pages").is_some() {
            return self.scroll.insert(Scroll::new(&self.setup)?).prepare(params);
        }
        let SearchRequest { mut request, body } = SearchRequest::new(&given, |call| call, false)?.sized(&given)?;
        request.body = request::body(Some(&body));
        self.detailed = given.flag("detailed-results", false)?;
        self.request = Some(self.client.prepare(&request)?);
        Ok(())
    }

    async fn run(&mut self) -> Result<Outcome, RunnerError> {
        if let Some(scroll) = &mut self.scroll {
            return scroll.run().await;
        }
        let request = self.request.as_ref().ok_or_else(unprepared)?;
        let meta = if self.detailed {
            let response = self.client.send(request).await?;
            SearchAnswer::read(&response.body, Needed::Details).map_err(senseless("a search"))?.details()
        } else {
            self.client.send_unread(request).await?;
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
    /// operations understand, and of what `ask` adds. A search in a point in time names neither index nor routing.
    pub(super) fn new<'a>(
        given: &Given<'a>,
        ask: impl FnOnce(Call<'a>) -> Call<'a>,
        in_point_in_time: bool,
    ) -> Result<Self, RunnerError> {
        let body = given.wanted_or_null("body")?.clone();
        let cache = match given.get("cache") {
            Some(cache) => cache.clone(),
            None if given.is_serverless_for_users() => json!(false),
            None => Value::Null,
        };
        let call = if in_point_in_time {
            given.call("GET", "/_search").without(&OF_POINT_IN_TIME)
        } else {
            given.call("GET", format!("/{}/_search", given.name("index")?))
        };
        let mut request = ask(call).query("request_cache", cache).request()?;
        let says_encoding = request.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("accept-encoding"));
        if !given.flag("response-compression-enabled", true)? && !says_encoding {
            request.headers.push(("accept-encoding".to_owned(), "identity".to_owned()));
        }
        Ok(Self { request, body })
    }

    /// Asks for as many hits as `results-per-page` says, if it is there.
    pub(super) fn sized(mut self, given: &Given<'_>) -> Result<Self, RunnerError> {
        if let Some(size) = given.positive("results-per-page")? {
            let mut body = self.body_object(given)?;
            body.insert("size".to_owned(), size.into());
            self.body = body.into();
        }
        Ok(self)
    }

    /// The body for those who add to it; an empty one if there is none.
    pub(super) fn body_object(&self, given: &Given<'_>) -> Result<JsonObject, RunnerError> {
        match &self.body {
            Value::Null => Ok(JsonObject::new()),
            Value::Object(body) => Ok(body.clone()),
            other => Err(given.wrong("body", "an object", other)),
        }
    }
}
