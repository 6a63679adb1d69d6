//! `search` and `raw-request`: one request that is made once and sent as it is each time.

use std::rc::Rc;

use async_trait::async_trait;
use rally_core::track::JsonObject;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{invalid, missing, request};
use crate::client::{Client, PreparedRequest, Request};
use crate::{Outcome, Params, Runner, RunnerError, RunnerSetup};

#[derive(Debug)]
pub(super) struct StoredRequest {
    setup: RunnerSetup,
    client: Rc<Client>,
    request: Option<PreparedRequest>,
    detailed: bool,
}

impl StoredRequest {
    pub(super) fn new(setup: &RunnerSetup) -> Result<Self, RunnerError> {
        let client = Rc::clone(setup.clients.default_cluster()?);
        Ok(Self { setup: setup.clone(), client, request: None, detailed: false })
    }

    fn search(&self, params: &Params) -> Result<Request, RunnerError> {
        if params.contains_key("pages") {
            return Err(invalid(&self.setup, "`pages` needs the operation type `scroll-search` or `paginated-search`"));
        }
        let index = params.get("index").map(request::query_text).ok_or_else(|| missing(&self.setup, "index"))?;
        let plan = &self.setup.plan;
        let cache = match params.get("cache") {
            Some(cache) => cache.clone(),
            None if plan.is_serverless() && !plan.serverless_operator => json!(false),
            None => Value::Null,
        };
        let path = format!("/{}/_search", request::encode(&index));
        let mut request = request::request("GET", &path, &[("request_cache", cache)], params);
        let mut body = params.get("body").cloned();
        if let (Some(Value::Object(body)), Some(size)) = (&mut body, params.get("results-per-page")) {
            body.insert("size".to_owned(), size.clone());
        }
        request.body = request::body(body.as_ref());
        if params.get("response-compression-enabled") == Some(&json!(false)) {
            request.headers.push(("accept-encoding".to_owned(), "identity".to_owned()));
        }
        Ok(request)
    }

    fn raw(&self, params: &Params) -> Result<Request, RunnerError> {
        let path = params.get("path").and_then(Value::as_str).ok_or_else(|| missing(&self.setup, "path"))?;
        if !path.starts_with('/') {
            return Err(invalid(&self.setup, format!("`path` must begin with a slash, not be `{path}`")));
        }
        let method = match params.get("method").and_then(Value::as_str).unwrap_or("GET").to_uppercase().as_str() {
            "GET" => "GET",
            "POST" => "POST",
            "PUT" => "PUT",
            "DELETE" => "DELETE",
            "HEAD" => "HEAD",
            "PATCH" => "PATCH",
            "OPTIONS" => "OPTIONS",
            other => return Err(invalid(&self.setup, format!("`{other}` is no method"))),
        };
        let mut request = request::request(method, path, &[], params);
        request.body = request::body(params.get("body"));
        Ok(request)
    }
}

#[async_trait(?Send)]
impl Runner for StoredRequest {
    fn prepare(&mut self, params: &Params) -> Result<(), RunnerError> {
        let is_search = self.setup.task.operation.operation_type.as_str() == "search";
        let request = if is_search { self.search(params)? } else { self.raw(params)? };
        self.detailed = is_search && params.get("detailed-results") == Some(&json!(true));
        self.request = Some(self.client.prepare(&request)?);
        Ok(())
    }

    async fn run(&mut self) -> Result<Outcome, RunnerError> {
        let Some(request) = &self.request else {
            return Err(RunnerError::Other("the runner was not prepared".to_owned()));
        };
        let response = self.client.send(request).await?;
        let meta = if self.detailed { details(&response.body)? } else { JsonObject::new() };
        Ok(Outcome { meta, ..Outcome::default() })
    }
}

/// The answer to a search, without its hits and aggregations, which are skipped.
#[derive(Deserialize)]
struct Found {
    took: Option<Value>,
    timed_out: Option<Value>,
    #[serde(rename = "_shards")]
    shards: Option<Value>,
    hits: Option<Hits>,
    num_reduce_phases: Option<Value>,
    #[serde(rename = "_clusters")]
    clusters: Option<Value>,
}

#[derive(Deserialize)]
struct Hits {
    total: Option<Value>,
}

fn details(body: &[u8]) -> Result<JsonObject, RunnerError> {
    let found: Found = serde_json::from_slice(body)
        .map_err(|error| RunnerError::Other(format!("the answer to a search makes no sense: {error}")))?;
    let total = found.hits.and_then(|hits| hits.total).unwrap_or(json!(0));
    let (hits, relation) = match &total {
        Value::Object(total) => {
            (total.get("value").cloned().unwrap_or(json!(0)), total.get("relation").cloned().unwrap_or(json!("eq")))
        }
        number => (number.clone(), json!("eq")),
    };
    let mut meta = JsonObject::new();
    meta.insert("hits".to_owned(), hits);
    meta.insert("hits_relation".to_owned(), relation);
    let optional = [
        ("timed_out", found.timed_out),
        ("took", found.took),
        ("shards", found.shards),
        ("num_reduce_phases", found.num_reduce_phases),
        ("clusters", found.clusters),
    ];
    meta.extend(optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    Ok(meta)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_found_without_reading_the_hits() {
        let body = br#"{"took":5,"timed_out":false,"_shards":{"total":1,"failed":0},
            "hits":{"total":{"value":10000,"relation":"gte"},"max_score":1.0,"hits":[{"_id":"1"}]},"aggregations":{"a":{}}}"#;
        let expected = json!({
            "hits": 10000, "hits_relation": "gte", "timed_out": false, "took": 5, "shards": { "total": 1, "failed": 0 },
        });
        assert_eq!(Value::Object(details(body).unwrap()), expected);
        assert!(details(b"<html>").is_err());
    }
}
