//! Operations that create, delete, maintain, watch and wait for what is in a cluster.
//!
//! Most are [`Requests`]: made in advance, sent one after the other. Those that ask a cluster again and again, or whose
//! requests depend on what it answered before, are actions of their own.

mod deletion;
mod enrich;
mod force_merge;
mod ilm;
mod index;
mod maintenance;
mod ml;
mod recovery;
mod shrink;
mod snapshot;
mod snapshot_wait;
mod stats;
mod template;
mod transform;
mod transform_wait;

use async_trait::async_trait;
use rally_core::track::JsonObject;
use serde_json::Value;

use super::action::{Action, once, retried};
use super::given::{Given, read};
use crate::client::PreparedRequest;
use crate::{Outcome, Registry, RunnerError};

/// Registers all of them.
pub(super) fn register(registry: &mut Registry) {
    retried(registry, "index-stats", stats::index_stats);
    once(registry, "node-stats", stats::node_stats);
    retried(registry, "cluster-health", stats::cluster_health);
    retried(registry, "transform-stats", stats::transform_stats);

    retried(registry, "refresh", maintenance::refresh);
    retried(registry, "put-pipeline", maintenance::put_pipeline);
    retried(registry, "put-settings", maintenance::put_settings);
    once(registry, "downsample", maintenance::downsample);
    once(registry, "force-merge", force_merge::force_merge);
    retried(registry, "shrink-index", shrink::shrink_index);
    retried(registry, "wait-for-recovery", recovery::wait_for_recovery);

    retried(registry, "create-index", index::create_index);
    retried(registry, "delete-index", index::delete_index);
    retried(registry, "create-data-stream", index::create_data_stream);
    retried(registry, "delete-data-stream", index::delete_data_stream);

    retried(registry, "create-index-template", |given| template::create(given, "_template"));
    retried(registry, "create-composable-template", |given| template::create(given, "_index_template"));
    retried(registry, "create-component-template", |given| template::create(given, "_component_template"));
    retried(registry, "delete-index-template", |given| template::delete(given, "_template"));
    retried(registry, "delete-composable-template", |given| template::delete(given, "_index_template"));
    retried(registry, "delete-component-template", template::delete_component);

    retried(registry, "create-ml-datafeed", ml::create_datafeed);
    retried(registry, "delete-ml-datafeed", ml::delete_datafeed);
    retried(registry, "start-ml-datafeed", ml::start_datafeed);
    retried(registry, "stop-ml-datafeed", ml::stop_datafeed);
    retried(registry, "create-ml-job", ml::create_job);
    retried(registry, "delete-ml-job", ml::delete_job);
    retried(registry, "open-ml-job", ml::open_job);
    retried(registry, "close-ml-job", ml::close_job);

    retried(registry, "create-snapshot-repository", snapshot::create_repository);
    retried(registry, "delete-snapshot-repository", snapshot::delete_repository);
    once(registry, "create-snapshot", snapshot::create);
    once(registry, "restore-snapshot", snapshot::restore);
    retried(registry, "wait-for-snapshot-create", snapshot_wait::wait_for_one);
    retried(registry, "wait-for-current-snapshots-create", snapshot_wait::wait_for_all);

    retried(registry, "create-transform", transform::create);
    retried(registry, "start-transform", transform::start);
    retried(registry, "delete-transform", transform::delete);
    retried(registry, "wait-for-transform", transform_wait::wait_for_transform);

    retried(registry, "create-ilm-policy", ilm::create);
    retried(registry, "delete-ilm-policy", ilm::delete);
    retried(registry, "enrich-policy", enrich::enrich_policy);
}

/// Says of an answer whether it is a success, and what stays with the sample.
type Judge = Box<dyn Fn(&Value) -> (bool, JsonObject)>;

/// Requests that are sent one after the other. Their number is the weight.
struct Requests {
    all: Vec<PreparedRequest>,
    /// What is sent in place of the only request if that meets status 400: older servers know another path.
    older: Option<PreparedRequest>,
    /// For the last answer.
    judge: Option<Judge>,
}

impl From<Vec<PreparedRequest>> for Requests {
    fn from(all: Vec<PreparedRequest>) -> Self {
        Self { all, older: None, judge: None }
    }
}

impl From<PreparedRequest> for Requests {
    fn from(request: PreparedRequest) -> Self {
        vec![request].into()
    }
}

#[async_trait(?Send)]
impl Action for Requests {
    async fn run(&mut self, given: &Given<'_>) -> Result<Outcome, RunnerError> {
        let mut last = bytes::Bytes::new();
        for request in &self.all {
            let response = match (given.send(request).await, &self.older) {
                (Err(RunnerError::Api { status: 400, .. }), Some(older)) => given.send(older).await?,
                (result, _) => result?,
            };
            last = response.body;
        }
        let (success, meta) = match &self.judge {
            Some(judge) => judge(&read(&last)?),
            None => (true, JsonObject::new()),
        };
        Ok(Outcome { weight: self.all.len() as u64, success, meta, ..Outcome::default() })
    }
}

/// The value at a path of keys, `.` between them; null if there is none.
fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.').try_fold(value, |value, key| value.get(key)).unwrap_or(&Value::Null)
}

/// A number at a path; 0 if there is none.
fn number(value: &Value, path: &str) -> u64 {
    at(value, path).as_u64().unwrap_or(0)
}

/// Work per second; none if it took no time.
fn per_second(work: u64, milliseconds: u64) -> Option<f64> {
    (milliseconds > 0).then(|| work as f64 / milliseconds as f64 * 1_000.0)
}

/// Major and minor version of a server from its answer to `GET /`; none if its version is no number, as on serverless.
fn version(root: &Value) -> Option<(u64, u64)> {
    let mut parts = at(root, "version.number").as_str()?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}
