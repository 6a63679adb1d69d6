//! `paginated-search` and `composite-agg`: pages that begin behind the end of the one before.

use std::rc::Rc;

use async_trait::async_trait;
use rally_core::track::{JsonObject, OperationType};
use serde_json::json;

use super::composite_agg::CompositeAggregation;
use super::given::Given;
use super::pages::{PageTotals, page_limit};
use super::search::{OF_POINT_IN_TIME, SearchRequest};
use super::search_answer::{Needed, SearchAnswer};
use super::{in_composite, senseless, unprepared};
use crate::client::{Body, Client, Request};
use crate::{CompositeContext, Outcome, Params, Runner, RunnerError, RunnerSetup};

/// How long a point in time lives on after each page.
const KEEP_ALIVE: &str = "1m";

#[derive(Debug)]
pub(super) struct Paginated {
    setup: RunnerSetup,
    client: Rc<Client>,
    prepared: Option<Prepared>,
}

#[derive(Debug)]
struct Prepared {
    /// All pages, but for their body.
    request: Request,
    /// The body of the first page, but for the point in time. Every execution begins with it.
    body: JsonObject,
    limit: Option<u64>,
    follow: Follow,
    point_in_time: Option<PointInTime>,
}

/// How a page leads to the next one.
#[derive(Debug)]
enum Follow {
    /// By the sort values of its last hit, as long as there are more hits than pages of this size.
    SearchAfter { size: u64 },
    /// By the key behind its last bucket, as long as there is one.
    AfterKey(CompositeAggregation),
}

#[derive(Debug)]
struct PointInTime {
    name: String,
    context: Rc<CompositeContext>,
}

impl Paginated {
    pub(super) fn new(setup: &RunnerSetup) -> Result<Self, RunnerError> {
        let client = Rc::clone(setup.clients.default_cluster()?);
        Ok(Self { setup: setup.clone(), client, prepared: None })
    }

    fn point_in_time(&self, given: &Given<'_>) -> Result<Option<PointInTime>, RunnerError> {
        let name = given.text("with-point-in-time-from")?;
        let point_in_time =
            |name: &str| Ok(PointInTime { name: name.to_owned(), context: Rc::clone(in_composite(&self.setup)?) });
        name.map(point_in_time).transpose()
    }
}

#[async_trait(?Send)]
impl Runner for Paginated {
    fn prepare(&mut self, params: &Params) -> Result<(), RunnerError> {
        let given = Given::new(&self.setup, params);
        let point_in_time = self.point_in_time(&given)?;
        let size = given.positive("results-per-page")?;
        let search = SearchRequest::new(&given, |call| call, point_in_time.is_some())?;
        let (limit, follow, request);
        let mut body;
        if self.setup.task.operation.operation_type == OperationType::CompositeAgg {
            limit = if given.get("pages").is_some() { page_limit(&given)? } else { None };
            let mut whole = search.body_object(&given)?;
            let aggregation = CompositeAggregation::find(&whole).map_err(|problem| given.invalid(problem))?;
            if let Some(size) = size {
                aggregation.set(&mut whole, "size", size.into());
            }
            (follow, body, request) = (Follow::AfterKey(aggregation), whole, search.request);
        } else {
            limit = page_limit(&given)?;
            let search = search.sized(&given)?;
            follow = Follow::SearchAfter { size: size.ok_or_else(|| given.missing("results-per-page"))? };
            (body, request) = (search.body_object(&given)?, search.request);
        }
        if point_in_time.is_some() {
            // It knows them itself.
            OF_POINT_IN_TIME.iter().for_each(|key| drop(body.shift_remove(*key)));
        }
        self.prepared = Some(Prepared { request, body, limit, follow, point_in_time });
        Ok(())
    }

    async fn run(&mut self) -> Result<Outcome, RunnerError> {
        let prepared = self.prepared.as_ref().ok_or_else(unprepared)?;
        let mut body = prepared.body.clone();
        let mut request = prepared.request.clone();
        let mut totals = PageTotals::default();
        loop {
            if let Some(PointInTime { name, context }) = &prepared.point_in_time {
                body.insert("pit".to_owned(), json!({ "id": context.get(name)?, "keep_alive": KEEP_ALIVE }));
            }
            request.body = json_body(&body)?;
            let response = self.client.request(&request).await?;
            let page = SearchAnswer::read(&response.body, prepared.needed()).map_err(senseless("a search"))?;
            totals.add(&page);
            if let Some(PointInTime { name, context }) = &prepared.point_in_time {
                let id = page.pit_id.as_deref().ok_or_else(|| {
                    RunnerError::Assertion(format!(
                        "the answer to a search in the point in time `{name}` has no `pit_id`"
                    ))
                })?;
                context.put(name, id);
            }
            if totals.has_reached(prepared.limit) || !prepared.follow.advance(&totals, &page, &mut body)? {
                return Ok(totals.outcome());
            }
        }
    }
}

impl Prepared {
    fn needed(&self) -> Needed {
        let pit = self.point_in_time.is_some();
        match self.follow {
            Follow::SearchAfter { .. } => Needed::LastSort { pit },
            Follow::AfterKey(_) => Needed::Aggregations { pit },
        }
    }
}

impl Follow {
    /// Changes the body so that it asks for the page after this one; false if there is none.
    fn advance(
        &self,
        totals: &PageTotals,
        page: &SearchAnswer<'_>,
        body: &mut JsonObject,
    ) -> Result<bool, RunnerError> {
        match self {
            Self::SearchAfter { size } => {
                if totals.hits() <= totals.pages.saturating_mul(*size) || page.is_empty != Some(false) {
                    return Ok(false);
                }
                let sort = page.last_sort.clone().ok_or_else(|| {
                    RunnerError::Other(
                        "the last hit of a page has no `sort` values for the next page to begin behind; the body of a \
                         `paginated-search` needs a `sort`"
                            .to_owned(),
                    )
                })?;
                body.insert("search_after".to_owned(), sort);
                Ok(true)
            }
            Self::AfterKey(aggregation) => {
                let after = page.aggregations.map(|text| aggregation.after_key(text)).transpose();
                let Some(after) = after.map_err(senseless("a composite aggregation"))?.flatten() else {
                    return Ok(false);
                };
                aggregation.set(body, "after", after);
                Ok(true)
            }
        }
    }
}

fn json_body(body: &JsonObject) -> Result<Body, RunnerError> {
    let json = serde_json::to_vec(body).map_err(|error| RunnerError::Other(format!("cannot write a body: {error}")))?;
    Ok(Body::Json(json.into()))
}
