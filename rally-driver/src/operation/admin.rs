//! Administration: requests that are made from parameters, sent one after the other, and counted.

use std::rc::Rc;

use async_trait::async_trait;
use rally_core::track::JsonObject;
use serde_json::{Value, json};

use super::request::{body, encode, query_text, request};
use super::{invalid, missing};
use crate::client::{Client, PreparedRequest, Request};
use crate::{Outcome, Params, Runner, RunnerError, RunnerSetup};

/// The types that are run here.
pub(super) const NAMES: [&str; 21] = [
    "cluster-health",
    "refresh",
    "create-index",
    "delete-index",
    "create-data-stream",
    "delete-data-stream",
    "create-index-template",
    "delete-index-template",
    "create-composable-template",
    "delete-composable-template",
    "create-component-template",
    "delete-component-template",
    "force-merge",
    "index-stats",
    "put-pipeline",
    "put-settings",
    "create-snapshot-repository",
    "delete-snapshot-repository",
    "create-ilm-policy",
    "delete-ilm-policy",
    "node-stats",
];

#[derive(Debug)]
pub(super) struct Admin {
    setup: RunnerSetup,
    client: Rc<Client>,
    requests: Vec<PreparedRequest>,
    check: Check,
    /// What counts as work.
    weight: u64,
}

/// What the last answer must say for the operation to be a success.
#[derive(Debug)]
enum Check {
    Nothing,
    Health { status: Option<String>, relocating: bool },
    Condition { path: String, expected: Value },
}

impl Admin {
    pub(super) fn new(setup: &RunnerSetup) -> Result<Self, RunnerError> {
        let client = Rc::clone(setup.clients.default_cluster()?);
        Ok(Self { setup: setup.clone(), client, requests: Vec::new(), check: Check::Nothing, weight: 1 })
    }

    fn requests(&self, params: &Params) -> Result<Vec<Request>, RunnerError> {
        let text = |key: &str| params.get(key).map(query_text).ok_or_else(|| missing(&self.setup, key));
        let wanted = |key: &str| params.get(key).ok_or_else(|| missing(&self.setup, key));
        let index = params.get("index").map(query_text);
        let with_body = |mut request: Request, value: Option<&Value>| {
            request.body = body(value);
            request
        };
        let one = |method, path: String| vec![request(method, &path, &[], params)];
        let only_if_exists = params.get("only-if-exists").and_then(Value::as_bool).unwrap_or(true);
        let delete = |path: String| {
            let mut request = request("DELETE", &path, &[], params);
            if only_if_exists {
                request.ignore.push(404);
            }
            request
        };
        Ok(match self.setup.task.operation.operation_type.as_str() {
            "cluster-health" => match index {
                Some(index) => one("GET", format!("/_cluster/health/{}", encode(&index))),
                None => one("GET", "/_cluster/health".to_owned()),
            },
            "refresh" => one("POST", format!("/{}/_refresh", encode(index.as_deref().unwrap_or("_all")))),
            "index-stats" => one("GET", format!("/{}/_stats/_all", encode(index.as_deref().unwrap_or("_all")))),
            "node-stats" => one("GET", "/_nodes/stats/_all".to_owned()),
            "create-index" => self
                .entries(params, "indices")?
                .map(|(name, rest)| {
                    with_body(request("PUT", &format!("/{}", encode(&name)), &[], params), rest.first())
                })
                .collect(),
            "delete-index" => {
                self.names(params, "indices")?.map(|name| delete(format!("/{}", encode(&name)))).collect()
            }
            "create-data-stream" => self
                .names(params, "data-streams")?
                .map(|name| request("PUT", &format!("/_data_stream/{}", encode(&name)), &[], params))
                .collect(),
            "delete-data-stream" => self
                .names(params, "data-streams")?
                .map(|name| delete(format!("/_data_stream/{}", encode(&name))))
                .collect(),
            kind @ ("create-index-template" | "create-composable-template" | "create-component-template") => {
                let api = template_api(kind);
                self.entries(params, "templates")?
                    .map(|(name, rest)| {
                        with_body(request("PUT", &format!("/{api}/{}", encode(&name)), &[], params), rest.first())
                    })
                    .collect()
            }
            "delete-component-template" => self
                .names(params, "templates")?
                .map(|name| delete(format!("/_component_template/{}", encode(&name))))
                .collect(),
            kind @ ("delete-index-template" | "delete-composable-template") => {
                let api = template_api(kind);
                let mut requests = Vec::new();
                for (name, rest) in self.entries(params, "templates")? {
                    requests.push(delete(format!("/{api}/{}", encode(&name))));
                    if let [Value::Bool(true), Value::String(pattern)] = rest {
                        requests.push(delete(format!("/{}", encode(pattern))));
                    }
                }
                requests
            }
            "force-merge" => {
                if params.get("mode").and_then(Value::as_str) == Some("polling") {
                    return Err(invalid(&self.setup, "`\"mode\": \"polling\"` is not supported yet"));
                }
                let segments = params.get("max-num-segments").cloned().unwrap_or_default();
                let path = format!("/{}/_forcemerge", encode(index.as_deref().unwrap_or("_all")));
                vec![request("POST", &path, &[("max_num_segments", segments)], params)]
            }
            "put-pipeline" => {
                let path = format!("/_ingest/pipeline/{}", encode(&text("id")?));
                vec![with_body(request("PUT", &path, &[], params), Some(wanted("body")?))]
            }
            "put-settings" => {
                vec![with_body(request("PUT", "/_cluster/settings", &[], params), Some(wanted("body")?))]
            }
            "create-snapshot-repository" => {
                let path = format!("/_snapshot/{}", encode(&text("repository")?));
                vec![with_body(request("PUT", &path, &[], params), Some(wanted("body")?))]
            }
            "delete-snapshot-repository" => vec![delete(format!("/_snapshot/{}", encode(&text("repository")?)))],
            "create-ilm-policy" => {
                let policy = wanted("body")?;
                if policy.get("policy").is_none() {
                    return Err(invalid(&self.setup, "`body` must have the key `policy` at its root"));
                }
                let path = format!("/_ilm/policy/{}", encode(&text("policy-name")?));
                vec![with_body(request("PUT", &path, &[], params), Some(policy))]
            }
            "delete-ilm-policy" => vec![delete(format!("/_ilm/policy/{}", encode(&text("policy-name")?)))],
            other => return Err(invalid(&self.setup, format!("there is no administration `{other}`"))),
        })
    }

    fn names(&self, params: &Params, key: &str) -> Result<impl Iterator<Item = String>, RunnerError> {
        let names = params.get(key).and_then(Value::as_array).ok_or_else(|| missing(&self.setup, key))?;
        Ok(names.iter().map(query_text).collect::<Vec<_>>().into_iter())
    }

    /// The entries of a list of lists that begin with a name.
    fn entries<'a>(
        &self,
        params: &'a Params,
        key: &str,
    ) -> Result<impl Iterator<Item = (String, &'a [Value])>, RunnerError> {
        let entries = params.get(key).and_then(Value::as_array).ok_or_else(|| missing(&self.setup, key))?;
        Ok(entries.iter().filter_map(|entry| {
            let (name, rest) = entry.as_array()?.split_first()?;
            Some((query_text(name), rest))
        }))
    }

    fn judge(&self, answer: &[u8]) -> (bool, JsonObject) {
        let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
        let mut meta = JsonObject::new();
        let success = match &self.check {
            Check::Nothing => true,
            Check::Health { status, relocating } => {
                let found = answer.get("status").and_then(Value::as_str).unwrap_or("unknown").to_lowercase();
                let moving = answer.get("relocating_shards").and_then(Value::as_u64).unwrap_or(0);
                meta.insert("cluster-status".to_owned(), json!(found));
                meta.insert("relocating-shards".to_owned(), json!(moving));
                status.as_ref().is_none_or(|wanted| rank(&found) >= rank(wanted)) && (!relocating || moving == 0)
            }
            Check::Condition { path, expected } => {
                let actual =
                    path.split('.').try_fold(&answer, |value, key| value.get(key)).cloned().unwrap_or_default();
                let condition = json!({
                    "path": path, "actual-value": query_text(&actual), "expected-value": query_text(expected),
                });
                meta.insert("condition".to_owned(), condition);
                actual == *expected
            }
        };
        (success, meta)
    }
}

/// Health of a cluster as a number that grows with it.
fn rank(status: &str) -> u8 {
    match status {
        "green" => 3,
        "yellow" => 2,
        "red" => 1,
        _ => 0,
    }
}

fn template_api(kind: &str) -> &'static str {
    match kind {
        "create-index-template" | "delete-index-template" => "_template",
        "create-composable-template" | "delete-composable-template" => "_index_template",
        _ => "_component_template",
    }
}

#[async_trait(?Send)]
impl Runner for Admin {
    fn prepare(&mut self, params: &Params) -> Result<(), RunnerError> {
        let requests = self.requests(params)?;
        let kind = self.setup.task.operation.operation_type.as_str();
        self.check = match kind {
            "cluster-health" => {
                let given = params.get("request-params");
                let given = |key: &str| given.and_then(|given| given.get(key));
                Check::Health {
                    status: given("wait_for_status").and_then(Value::as_str).map(str::to_lowercase),
                    relocating: given("wait_for_no_relocating_shards").is_some(),
                }
            }
            "index-stats" => match params.get("condition") {
                Some(condition) => Check::Condition {
                    path: condition
                        .get("path")
                        .and_then(Value::as_str)
                        .ok_or_else(|| missing(&self.setup, "condition.path"))?
                        .to_owned(),
                    expected: condition.get("expected-value").cloned().unwrap_or_default(),
                },
                None => Check::Nothing,
            },
            _ => Check::Nothing,
        };
        self.weight = requests.len() as u64;
        self.requests = requests.iter().map(|request| self.client.prepare(request)).collect::<Result<_, _>>()?;
        Ok(())
    }

    async fn run(&mut self) -> Result<Outcome, RunnerError> {
        let mut last = bytes::Bytes::new();
        for request in &self.requests {
            last = self.client.send(request).await?.body;
        }
        let (success, meta) = self.judge(&last);
        Ok(Outcome { weight: self.weight, success, meta, ..Outcome::default() })
    }
}
