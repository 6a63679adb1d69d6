//! What telemetry devices have in common.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use async_trait::async_trait;
use rally_core::RacePlan;
use rally_core::track::JsonObject;
use serde_json::{Value, json};

use crate::client::{Client, Clients, HANDLING_CLUSTER, Request, Response};
pub(super) use crate::operation::encode;
use crate::{RequestTimer, RunnerError};

/// Devices begin with the first host.
const NUMBER: u32 = 0;

/// Looks at one cluster. What it does not override it does not do.
#[async_trait(?Send)]
pub(super) trait Device {
    /// What users know it by.
    fn name(&self) -> &'static str;

    /// How often it samples; none if it only looks before and after the race.
    fn interval(&self) -> Option<Duration> {
        None
    }

    /// Before the first step, or when this driver goes on with the telemetry of another.
    async fn before(&mut self, _cluster: &Cluster, _records: &mut Records) -> Result<(), RunnerError> {
        Ok(())
    }

    /// Once in every interval.
    async fn sample(&mut self, _cluster: &Cluster, _records: &mut Records) -> Result<(), RunnerError> {
        Ok(())
    }

    /// After the last step.
    async fn after(&mut self, _cluster: &Cluster, _records: &mut Records) -> Result<(), RunnerError> {
        Ok(())
    }
}

/// A cluster under test as devices see it.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) name: String,
    client: Rc<Client>,
}

impl Cluster {
    /// With a client of its own, which asks the cluster what it is.
    ///
    /// # Errors
    ///
    /// What is wrong with its hosts or options.
    pub(super) async fn new(plan: &RacePlan, name: &str) -> Result<Self, RunnerError> {
        let unusable = |cause: &dyn std::fmt::Display| RunnerError::Other(cause.to_string());
        let mut clients =
            Clients::new(plan, NUMBER, &Rc::new(RequestTimer::default())).map_err(|error| unusable(&error))?.only(name);
        clients.get_acquainted(plan).await;
        let unknown = || unusable(&format!("there is no cluster `{name}`"));
        Ok(Self { name: name.to_owned(), client: Rc::clone(clients.get(name).ok_or_else(unknown)?) })
    }

    /// The answer to a `GET`.
    pub(super) async fn get(&self, path: impl Into<String>) -> Result<Value, RunnerError> {
        self.json(Request::new("GET", path)).await
    }

    /// What the cluster says of itself, and whether it is hosted by its maker.
    pub(super) async fn root(&self) -> Result<(Value, bool), RunnerError> {
        let response = self.send(Request { wants_headers: true, ..Request::new("GET", "/") }).await?;
        let is_hosted = response.headers.as_ref().is_some_and(|headers| headers.contains_key(HANDLING_CLUSTER));
        Ok((read("/", &response)?, is_hosted))
    }

    /// The answer to a request, as JSON.
    pub(super) async fn json(&self, request: Request) -> Result<Value, RunnerError> {
        let path = request.path.clone();
        read(&path, &self.send(request).await?)
    }

    /// The answer to a request.
    pub(super) async fn send(&self, request: Request) -> Result<Response, RunnerError> {
        self.client.request(&request).await
    }

    /// A meta object that names the cluster.
    pub(super) fn meta(&self) -> JsonObject {
        object(json!({ "cluster": self.name }))
    }
}

fn read(path: &str, response: &Response) -> Result<Value, RunnerError> {
    serde_json::from_slice(&response.body)
        .map_err(|error| RunnerError::Other(format!("the answer to {path} makes no sense: {error}")))
}

/// Records of one look.
#[derive(Debug, Default)]
pub(super) struct Records {
    records: Vec<JsonObject>,
    notices: Vec<String>,
}

impl Records {
    /// A value of the whole cluster.
    pub(super) fn value(&mut self, name: impl Into<String>, value: impl Into<Value>, unit: &str, meta: JsonObject) {
        self.measured(name.into(), value.into(), unit, meta, json!({ "level": "cluster" }));
    }

    /// A value of one node.
    pub(super) fn node_value(
        &mut self,
        node: &str,
        name: impl Into<String>,
        value: impl Into<Value>,
        unit: &str,
        meta: JsonObject,
    ) {
        self.measured(name.into(), value.into(), unit, meta, json!({ "level": "node", "node": node }));
    }

    /// A value of the whole cluster with that of each primary shard.
    pub(super) fn value_by_shard(&mut self, name: &str, value: Value, unit: &str, shards: Vec<Value>) {
        let more = json!({ "level": "cluster", "per-shard": shards });
        self.measured(name.to_owned(), value, unit, JsonObject::new(), more);
    }

    fn measured(&mut self, name: String, value: Value, unit: &str, meta: JsonObject, more: Value) {
        let mut record = object(json!({ "name": name, "value": value }));
        if !unit.is_empty() {
            record.insert("unit".to_owned(), json!(unit));
        }
        record.extend(object(more));
        self.push(record, meta);
    }

    /// A record with fields of its own.
    pub(super) fn document(&mut self, name: &str, fields: JsonObject, meta: JsonObject) {
        let mut record = object(json!({ "name": name }));
        record.extend(fields);
        self.push(record, meta);
    }

    fn push(&mut self, mut record: JsonObject, meta: JsonObject) {
        if !meta.is_empty() {
            record.insert("meta".to_owned(), Value::Object(meta));
        }
        self.records.push(record);
    }

    /// Something that the user should know.
    pub(super) fn notice(&mut self, notice: String) {
        self.notices.push(notice);
    }

    pub(super) fn drop_notices(&mut self) {
        self.notices.clear();
    }

    pub(super) fn into_parts(self) -> (Vec<JsonObject>, Vec<String>) {
        (self.records, self.notices)
    }
}

/// The object that a JSON value is; an empty one for anything else.
pub(super) fn object(value: Value) -> JsonObject {
    match value {
        Value::Object(object) => object,
        _ => JsonObject::new(),
    }
}

/// The entries of an object; none for anything else.
pub(super) fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// The elements of an array; none for anything else.
pub(super) fn elements(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Adds all numbers below a value, their keys joined by `_` behind a prefix. Texts, truths and lists are left out.
pub(super) fn flatten(prefix: &str, value: &Value, flat: &mut JsonObject) {
    match value {
        Value::Number(_) => {
            flat.insert(prefix.to_owned(), value.clone());
        }
        Value::Object(object) => {
            for (key, value) in object {
                let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}_{key}") };
                flatten(&name, value, flat);
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) => {}
    }
}

/// What was counted between two looks; never less than nothing, as counters begin anew when a node does. What the first
/// look did not show has begun since then. Without any first look there is no difference to tell.
pub(super) fn difference(before: Option<u64>, after: u64) -> u64 {
    after.saturating_sub(before.unwrap_or(0))
}

/// What a device remembers of its first look.
///
/// # Errors
///
/// A sentence if it had none: counters since the start of a node say nothing of the race.
pub(super) fn first_look<T>(before: Option<&T>) -> Result<&T, RunnerError> {
    before.ok_or_else(|| {
        let problem = "it has not seen the cluster before the race, so what happened during the race is not told";
        RunnerError::Other(problem.to_owned())
    })
}

/// Counters by name, from one look to the next.
pub(super) type Counters = BTreeMap<String, u64>;
