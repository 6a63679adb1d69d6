//! `bulk`: documents that the parameter source has made ready.

mod answer;
mod lines;
mod summary;
mod tally;

use std::borrow::Cow;
use std::rc::Rc;

use async_trait::async_trait;
use bytes::Bytes;
use rally_core::track::JsonObject;
use serde_json::{Value, json};

use self::answer::Answer;
use self::summary::Summary;
use self::tally::Tally;
use super::given::Given;
use crate::client::{Body, Client, PreparedRequest, Request};
use crate::{Outcome, Params, Runner, RunnerError, RunnerSetup};

/// What `refresh` may be.
const REFRESH: [&str; 3] = ["wait_for", "true", "false"];

/// Sends bulks and looks at what became of their documents.
#[derive(Debug)]
pub(super) struct Bulk {
    setup: RunnerSetup,
    client: Rc<Client>,
    bulk: Option<PreparedBulk>,
}

/// A bulk that is ready to be sent.
#[derive(Debug)]
struct PreparedBulk {
    /// For what is sent again.
    template: Request,
    request: PreparedRequest,
    body: Bytes,
    documents: u64,
    unit: Cow<'static, str>,
    index: Value,
    has_action_lines: bool,
    is_detailed: bool,
    /// How often documents are sent again that the cluster had no room for.
    retries: u64,
}

impl Bulk {
    pub(super) fn new(setup: &RunnerSetup) -> Result<Self, RunnerError> {
        let client = Rc::clone(setup.clients.default_cluster()?);
        Ok(Self { setup: setup.clone(), client, bulk: None })
    }

    /// The body as the source made it, or of a text or a list of lines.
    fn body(given: &Given<'_>, params: &Params) -> Result<Bytes, RunnerError> {
        if let Some(body) = &params.body {
            return Ok(body.clone());
        }
        let mut text = match given.wanted("body")? {
            Value::String(text) => text.clone(),
            Value::Array(lines) => lines.iter().map(|line| format!("{}\n", line_text(line).trim_end())).collect(),
            other => return Err(given.wrong("body", "a text or a list of lines", other)),
        };
        if !text.ends_with('\n') {
            text.push('\n');
        }
        Ok(text.into())
    }

    fn prepared(&self, params: &Params) -> Result<PreparedBulk, RunnerError> {
        let given = Given::new(&self.setup, params);
        if given.get("request-params").is_some() {
            let problem =
                "`request-params` cannot be used with bulks; `timeout`, `pipeline` and `refresh` are parameters";
            return Err(given.invalid(problem));
        }
        if let Some(refresh) = given.get("refresh")
            && !refresh.as_str().is_some_and(|refresh| REFRESH.contains(&refresh))
        {
            return Err(given.wrong("refresh", "`wait_for`, `true` or `false`, as text", refresh));
        }
        given.wanted("action-metadata-present")?;
        let has_action_lines = given.flag("action-metadata-present", true)?;
        let unit = match given.wanted_text("unit")? {
            "docs" => Cow::Borrowed("docs"),
            unit => Cow::Owned(unit.to_owned()),
        };
        let documents = match params.documents {
            0 => given.positive("bulk-size")?.ok_or_else(|| given.missing("bulk-size"))?,
            documents => documents,
        };
        let index = given.value("index");
        let path = if has_action_lines { "/_bulk".to_owned() } else { format!("/{}/_bulk", given.name("index")?) };
        let call = given.call("PUT", path);
        let call =
            ["timeout", "pipeline", "refresh"].into_iter().fold(call, |call, name| call.query(name, given.value(name)));
        let mut template = call.request()?;
        let body = Self::body(&given, params)?;
        template.body = Body::Ndjson(body.clone());
        Ok(PreparedBulk {
            request: self.client.prepare(&template)?,
            template,
            body,
            documents,
            unit,
            index,
            has_action_lines,
            is_detailed: given.flag("detailed-results", false)?,
            retries: given.count("retries_on_429", 0)?,
        })
    }

    /// Sends those documents again that the cluster had no room for, and adds up what becomes of them. Returns whether
    /// there are none of them left.
    async fn retry(&self, bulk: &PreparedBulk, tally: &mut Tally, first: &Answer) -> Result<bool, RunnerError> {
        let (mut body, mut busy) = (bulk.body.clone(), first.busy());
        while !busy.is_empty() && tally.retries < bulk.retries {
            body = lines::pick(&body, bulk.has_action_lines, &busy)
                .ok_or_else(|| strange("it is about more documents than were sent"))?;
            tally.retries += 1;
            let request = Request { body: Body::Ndjson(body.clone()), ..bulk.template.clone() };
            let response = match self.client.request(&request).await {
                Ok(response) => response,
                // Only the first request can fail as a whole; these documents just remain what they are.
                Err(RunnerError::Api { status, .. }) => {
                    tally.status = status;
                    return Ok(false);
                }
                Err(error) => return Err(error),
            };
            let answer = Answer::parse(&response.body)?;
            tally.add(Tally::of(&answer, response.status, lines::sizes(&body, bulk.has_action_lines)));
            busy = answer.busy();
        }
        Ok(busy.is_empty())
    }
}

impl PreparedBulk {
    fn outcome(&self, success: bool, mut meta: JsonObject) -> Outcome {
        meta.insert("index".to_owned(), self.index.clone());
        Outcome { weight: self.documents, unit: self.unit.clone(), success, meta, ..Outcome::default() }
    }

    /// What is said of a bulk without a look at its items.
    fn all_well(&self, took: Option<u64>, status: u16) -> Outcome {
        let mut meta = JsonObject::new();
        meta.insert("took".to_owned(), json!(took));
        meta.insert("success-count".to_owned(), json!((self.unit == "docs").then_some(self.documents)));
        meta.insert("error-count".to_owned(), json!(0));
        meta.insert("request-status".to_owned(), status.into());
        meta.insert("max-doc-status".to_owned(), status.into());
        self.outcome(true, meta)
    }
}

#[async_trait(?Send)]
impl Runner for Bulk {
    fn prepare(&mut self, params: &Params) -> Result<(), RunnerError> {
        // The memory of the last body can be used again before the next one needs any.
        self.bulk = None;
        self.bulk = Some(self.prepared(params)?);
        Ok(())
    }

    async fn run(&mut self) -> Result<Outcome, RunnerError> {
        let Some(bulk) = &self.bulk else {
            return Err(RunnerError::Other("the runner was not prepared".to_owned()));
        };
        let response = self.client.send(&bulk.request).await?;
        if !bulk.is_detailed {
            let summary = Summary::scan(&response.body)?;
            if !summary.errors {
                return Ok(bulk.all_well(summary.took, response.status));
            }
        }
        let answer = Answer::parse(&response.body)?;
        let mut tally = Tally::of(&answer, response.status, lines::sizes(&bulk.body, bulk.has_action_lines));
        let mut success = tally.errors == 0;
        if bulk.retries > 0 && !success {
            let is_done = self.retry(bulk, &mut tally, &answer).await?;
            // Whatever else failed at first is forgotten, as in the original.
            success |= tally.retries > 0 && is_done;
        }
        Ok(bulk.outcome(success, tally.meta(success, bulk.is_detailed)))
    }
}

/// An answer that is none of the bulk API.
fn strange(problem: impl std::fmt::Display) -> RunnerError {
    RunnerError::response(format!("the answer to a bulk request makes no sense: {problem}"))
}

fn line_text(line: &Value) -> Cow<'_, str> {
    match line {
        Value::String(text) => text.into(),
        other => other.to_string().into(),
    }
}
