//! `bulk`: documents that the parameter source has made ready.

use std::collections::BTreeSet;
use std::rc::Rc;

use async_trait::async_trait;
use rally_core::track::JsonObject;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{invalid, missing, request};
use crate::client::{Body, Client, PreparedRequest, Response};
use crate::{Outcome, Params, Runner, RunnerError, RunnerSetup};

/// Causes that an error describes; more are only counted.
const DESCRIBED: usize = 5;

/// Properties that are not there yet.
const UNSUPPORTED: [&str; 1] = ["retries_on_429"];

#[derive(Debug)]
pub(super) struct Bulk {
    setup: RunnerSetup,
    client: Rc<Client>,
    request: Option<PreparedRequest>,
    documents: u64,
    index: Value,
}

impl Bulk {
    pub(super) fn new(setup: &RunnerSetup) -> Result<Self, RunnerError> {
        let client = Rc::clone(setup.clients.default_cluster()?);
        Ok(Self { setup: setup.clone(), client, request: None, documents: 0, index: Value::Null })
    }

    fn outcome(&self, response: &Response) -> Result<Outcome, RunnerError> {
        let strange = |error| RunnerError::Other(format!("the answer to a bulk request makes no sense: {error}"));
        let summary: Summary = serde_json::from_slice(&response.body).map_err(strange)?;
        let mut meta = JsonObject::new();
        meta.insert("index".to_owned(), self.index.clone());
        meta.insert("took".to_owned(), summary.took.unwrap_or_default());
        meta.insert("request-status".to_owned(), response.status.into());
        let failures = if summary.errors {
            let answer: Answer = serde_json::from_slice(&response.body).map_err(strange)?;
            Failures::of(&answer, response.status)
        } else {
            Failures { max_status: response.status, ..Failures::default() }
        };
        meta.insert("success-count".to_owned(), self.documents.saturating_sub(failures.count).into());
        meta.insert("error-count".to_owned(), failures.count.into());
        meta.insert("max-doc-status".to_owned(), failures.max_status.into());
        let success = failures.count == 0;
        if !success {
            meta.insert("error-type".to_owned(), json!("bulk"));
            meta.insert("error-description".to_owned(), failures.describe().into());
        }
        Ok(Outcome { weight: self.documents, unit: "docs".into(), success, meta, ..Outcome::default() })
    }
}

#[async_trait(?Send)]
impl Runner for Bulk {
    fn prepare(&mut self, params: &Params) -> Result<(), RunnerError> {
        if let Some(unsupported) = UNSUPPORTED.iter().find(|key| params.contains_key(**key)) {
            return Err(invalid(&self.setup, format!("`{unsupported}` is not supported yet")));
        }
        let body = params.body.clone().ok_or_else(|| missing(&self.setup, "body"))?;
        let query =
            ["timeout", "pipeline", "refresh"].map(|name| (name, params.get(name).cloned().unwrap_or_default()));
        let mut request = request::request("PUT", "/_bulk", &query, params);
        request.body = Body::Ndjson(body);
        self.request = Some(self.client.prepare(&request)?);
        self.documents = params.documents;
        self.index = params.get("index").cloned().unwrap_or_default();
        Ok(())
    }

    async fn run(&mut self) -> Result<Outcome, RunnerError> {
        let Some(request) = &self.request else {
            return Err(RunnerError::Other("the runner was not prepared".to_owned()));
        };
        self.outcome(&self.client.send(request).await?)
    }
}

/// The part of the answer that is always read. Items are skipped.
#[derive(Deserialize)]
struct Summary {
    #[serde(default)]
    errors: bool,
    took: Option<Value>,
}

/// The whole answer, read only if items failed.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    items: Vec<std::collections::HashMap<String, Item>>,
}

#[derive(Deserialize)]
struct Item {
    status: u16,
    error: Option<Value>,
    #[serde(rename = "_shards")]
    shards: Option<Shards>,
}

#[derive(Deserialize)]
struct Shards {
    #[serde(default)]
    failed: u64,
}

/// What went wrong with the items of a bulk.
#[derive(Debug, Default)]
struct Failures {
    count: u64,
    max_status: u16,
    causes: BTreeSet<(u16, String)>,
}

impl Failures {
    fn of(answer: &Answer, status: u16) -> Self {
        let mut failures = Self { max_status: status, ..Self::default() };
        let failed = |item: &&Item| item.status > 299 || item.shards.as_ref().is_some_and(|shards| shards.failed > 0);
        for item in answer.items.iter().flat_map(|item| item.values()).filter(failed) {
            failures.count += 1;
            failures.max_status = failures.max_status.max(item.status);
            let reason = match &item.error {
                Some(Value::String(text)) => text.clone(),
                Some(error) => error.get("reason").and_then(Value::as_str).unwrap_or_default().to_owned(),
                None => String::new(),
            };
            failures.causes.insert((item.status, reason));
        }
        failures
    }

    fn describe(&self) -> String {
        let cause = |(status, reason): &(u16, String)| match reason.as_str() {
            "" => format!("HTTP status: {status}"),
            reason => format!("HTTP status: {status}, message: {reason}"),
        };
        let mut text = self.causes.iter().take(DESCRIBED).map(cause).collect::<Vec<_>>().join(" | ");
        if self.causes.len() > DESCRIBED {
            let statuses: BTreeSet<u16> = self.causes.iter().map(|(status, _)| *status).collect();
            let count = |status: &u16| self.causes.iter().filter(|(other, _)| other == status).count();
            let summary: Vec<String> = statuses.iter().map(|status| format!("{}x{status}", count(status))).collect();
            text = format!("{text} | TRUNCATED {}", summary.join(", "));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_items_are_counted_and_described_once_for_each_cause() {
        let item = |status: u16, reason: &str| json!({ "index": { "status": status, "error": { "reason": reason } } });
        let mut items = vec![json!({ "index": { "status": 201 } }), item(429, "full"), item(429, "full")];
        items.push(json!({ "create": { "status": 200, "_shards": { "failed": 1 } } }));
        let of = |items: &[Value]| {
            Failures::of(&serde_json::from_value(json!({ "errors": true, "items": items })).unwrap(), 200)
        };
        let failures = of(&items);
        assert_eq!((failures.count, failures.max_status), (3, 429));
        assert_eq!(failures.describe(), "HTTP status: 200 | HTTP status: 429, message: full");
        items.extend(["a", "b", "c", "d"].map(|reason| item(400, reason)));
        let text = of(&items).describe();
        assert!(text.ends_with("HTTP status: 400, message: d | TRUNCATED 1x200, 4x400, 1x429"), "{text}");
    }
}
