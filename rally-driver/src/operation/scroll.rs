//! `scroll-search`: pages of a search that the cluster keeps open.

use std::rc::Rc;

use async_trait::async_trait;
use serde_json::json;

use super::given::Given;
use super::pages::{PageTotals, page_limit};
use super::search::SearchRequest;
use super::search_answer::{Needed, SearchAnswer};
use super::{request, senseless, unprepared};
use crate::client::{Body, Client, PreparedRequest, Request};
use crate::{Outcome, Params, Runner, RunnerError, RunnerSetup};

/// How long the cluster keeps the search open between two pages.
const KEEP_ALIVE: &str = "10s";

#[derive(Debug)]
pub(super) struct Scroll {
    setup: RunnerSetup,
    client: Rc<Client>,
    prepared: Option<Prepared>,
}

#[derive(Debug)]
struct Prepared {
    first: PreparedRequest,
    /// Asks for another page, but for its body.
    next: Request,
    /// Ends the search, but for its body.
    clear: Request,
    limit: Option<u64>,
    size: Option<u64>,
}

impl Scroll {
    pub(super) fn new(setup: &RunnerSetup) -> Result<Self, RunnerError> {
        let client = Rc::clone(setup.clients.default_cluster()?);
        Ok(Self { setup: setup.clone(), client, prepared: None })
    }

    /// Reads pages until there are no more or enough, keeping the latest id of the scroll in `id`.
    async fn pages(&self, prepared: &Prepared, id: &mut Option<String>) -> Result<PageTotals, RunnerError> {
        let mut totals = PageTotals::default();
        let mut response = self.client.send(&prepared.first).await?;
        loop {
            let page = SearchAnswer::read(&response.body, Needed::Scroll).map_err(senseless("a scroll"))?;
            totals.add(&page);
            if page.scroll_id.is_some() {
                id.clone_from(&page.scroll_id);
            }
            let hits = totals.hits();
            let is_last = hits == 0 || prepared.size.is_some_and(|size| hits < size) || page.is_empty != Some(false);
            if is_last || totals.has_reached(prepared.limit) {
                return Ok(totals);
            }
            let id = id.as_ref().ok_or_else(|| {
                RunnerError::response("the answer to a scroll has no `_scroll_id` to ask for the next page with")
            })?;
            let body = json!({ "scroll_id": id, "scroll": KEEP_ALIVE });
            let next = Request { body: Body::Json(body.to_string().into()), ..prepared.next.clone() };
            response = self.client.request(&next).await?;
        }
    }
}

#[async_trait(?Send)]
impl Runner for Scroll {
    fn prepare(&mut self, params: &Params) -> Result<(), RunnerError> {
        let given = Given::new(&self.setup, params);
        let (limit, size) = (page_limit(&given)?, given.positive("results-per-page")?);
        let search = SearchRequest::new(
            &given,
            |call| call.query("sort", "_doc").query("scroll", KEEP_ALIVE).query("size", size),
            false,
        );
        let SearchRequest { mut request, body } = search?.sized(&given)?;
        request.body = request::body(Some(&body));
        let later = |method| Request { method, path: "/_search/scroll".to_owned(), ..request.clone() };
        let (next, clear) = (later("GET"), later("DELETE"));
        self.prepared = Some(Prepared { first: self.client.prepare(&request)?, next, clear, limit, size });
        Ok(())
    }

    async fn run(&mut self) -> Result<Outcome, RunnerError> {
        let prepared = self.prepared.as_ref().ok_or_else(unprepared)?;
        let mut id = None;
        let totals = self.pages(prepared, &mut id).await;
        if let Some(id) = id {
            let body = json!({ "scroll_id": [id] }).to_string();
            let clear = Request { body: Body::Json(body.into()), ..prepared.clear.clone() };
            // The cluster forgets the search by itself after a while.
            if let Err(error) = self.client.request(&clear).await {
                tracing::warn!(task = %self.setup.task.name, "cannot end a scroll: {error}");
            }
        }
        totals.map(PageTotals::outcome)
    }
}
