//! Which devices a race has, and what they are told.

use std::time::Duration;

use rally_core::RacePlan;
use rally_core::track::JsonObject;
use serde_json::Value;

use super::device::Device;
use super::environment::{ClusterEnvironment, NodeEnvironment};
use super::index_stats::IndexStats;
use super::ingest::IngestPipelineStats;
use super::jvm::JvmSummary;
use super::node_stats::NodeStats;
use super::sampled::Sampled;
use super::storage::{DiskUsageStats, GeoIpStats, MlBucketProcessing, SegmentStats};
use super::transform::TransformStats;

/// Who may use a device on a serverless project.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Availability {
    Everybody,
    Operators,
    Nobody,
}

use Availability::{Everybody, Nobody, Operators};

/// A telemetry device that users can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TelemetryDevice {
    /// What it is asked for by.
    pub name: &'static str,
    /// What it does, in one sentence.
    pub description: &'static str,
    /// Whether it looks at nodes that Rally launches, and not at a cluster through its API.
    pub of_nodes: bool,
    availability: Availability,
}

const fn of_cluster(name: &'static str, availability: Availability, description: &'static str) -> TelemetryDevice {
    TelemetryDevice { name, description, of_nodes: false, availability }
}

const fn of_nodes(name: &'static str, description: &'static str) -> TelemetryDevice {
    TelemetryDevice { name, description, of_nodes: true, availability: Nobody }
}

const DEVICES: [TelemetryDevice; 16] = [
    of_nodes("jit", "Logs of the just-in-time compiler."),
    of_nodes("gc", "Logs of the garbage collector."),
    of_nodes("jfr", "A recording of Java Flight Recorder."),
    of_nodes("heapdump", "A dump of the heap when the node ends."),
    of_cluster("node-stats", Operators, "Statistics of every node, sampled."),
    of_cluster("recovery-stats", Operators, "Recoveries of shards, sampled."),
    of_cluster("ccr-stats", Nobody, "Cross-cluster replication, sampled."),
    of_cluster("segment-stats", Operators, "All segments at the end of the race."),
    of_cluster("transform-stats", Everybody, "Counters of transforms, sampled and at the end."),
    of_cluster("searchable-snapshots-stats", Nobody, "Caches of searchable snapshots, sampled."),
    of_cluster("shard-stats", Operators, "Documents, size and segments of every shard, sampled."),
    of_cluster("data-stream-stats", Everybody, "Size and age of data streams, sampled."),
    of_cluster("ingest-pipeline-stats", Operators, "What ingest pipelines did during the race; always on."),
    of_cluster("disk-usage-stats", Operators, "What each field takes on disk at the end of the race."),
    of_cluster("geoip-stats", Operators, "Caches of geographical lookups at the end of the race."),
    of_cluster("blob-store-stats", Operators, "Requests to the object store of a serverless project, sampled."),
];

/// All devices that can be asked for by `--telemetry`.
#[must_use]
pub fn telemetry_devices() -> &'static [TelemetryDevice] {
    &DEVICES
}

/// Telemetry parameters as one cluster's devices see them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameters<'a> {
    given: &'a JsonObject,
    cluster: &'a str,
}

impl Parameters<'_> {
    /// `NAME-sample-interval` in seconds.
    pub(super) fn interval(&self, device: &str, default: f64) -> Result<Duration, String> {
        self.seconds(&format!("{device}-sample-interval"), default)
    }

    /// Seconds, more than none.
    pub(super) fn seconds(&self, key: &str, default: f64) -> Result<Duration, String> {
        let Some(value) = self.given.get(key) else { return Ok(Duration::from_secs_f64(default)) };
        let seconds = value.as_f64().or_else(|| value.as_str()?.parse().ok());
        seconds
            .filter(|seconds| *seconds > 0.0)
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .ok_or_else(|| format!("the telemetry parameter `{key}` must be a number of seconds above 0, not {value}"))
    }

    pub(super) fn flag(&self, key: &str, default: bool) -> Result<bool, String> {
        match self.given.get(key) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(true),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(false),
            Some(value) => Err(format!("the telemetry parameter `{key}` must be true or false, not {value}")),
        }
    }

    /// Names, as a list or as a text with commas in between.
    pub(super) fn list(&self, key: &str) -> Result<Option<Vec<String>>, String> {
        self.given.get(key).map(|value| names(key, value)).transpose()
    }

    /// Names, as in [`Parameters::list`], or an object with such names by cluster.
    pub(super) fn of_cluster(&self, key: &str) -> Result<Option<Vec<String>>, String> {
        match self.given.get(key) {
            Some(Value::Object(by_cluster)) => by_cluster.get(self.cluster).map(|value| names(key, value)).transpose(),
            Some(value) => names(key, value).map(Some),
            None => Ok(None),
        }
    }
}

fn names(key: &str, value: &Value) -> Result<Vec<String>, String> {
    let wrong = || format!("the telemetry parameter `{key}` must be a name or a list of names, not {value}");
    match value {
        Value::String(text) => Ok(text.split(',').map(|name| name.trim().to_owned()).collect()),
        Value::Array(names) => names.iter().map(|name| name.as_str().map(str::to_owned).ok_or_else(wrong)).collect(),
        _ => Err(wrong()),
    }
}

/// Whether a device may be used on the cluster under test.
fn is_available(plan: &RacePlan, availability: Availability) -> bool {
    !plan.is_serverless() || availability == Everybody || (plan.serverless_operator && availability == Operators)
}

/// Checks the telemetry devices that a plan asks for, and their parameters; returns what the user should know.
///
/// # Errors
///
/// A sentence that says which name or parameter makes no sense.
pub fn check(plan: &RacePlan) -> Result<Vec<String>, String> {
    let mut notices = Vec::new();
    for name in &plan.telemetry {
        let Some(device) = DEVICES.iter().find(|device| device.name == name) else {
            let known: Vec<_> = DEVICES.iter().map(|device| device.name).collect();
            return Err(format!("there is no telemetry device `{name}`; there are {}", known.join(", ")));
        };
        if device.of_nodes {
            notices.push(format!(
                "telemetry device `{name}` looks at nodes that Rally launches; this cluster runs already, so it is left out"
            ));
        } else if !is_available(plan, device.availability) {
            notices.push(format!("telemetry device `{name}` is not available on a serverless project and is left out"));
        } else if name == "data-stream-stats" && has_no_data_streams(plan) {
            return Err("telemetry device `data-stream-stats` needs Elasticsearch 7.9 or later, with its default \
                        distribution"
                .to_owned());
        }
    }
    for (key, value) in &plan.telemetry_params {
        // Those that take names by cluster.
        let is_by_cluster = key.ends_with("-indices") || key.ends_with("-transforms");
        if let Value::Object(by_cluster) = value
            && is_by_cluster
            && let Some(unknown) = by_cluster.keys().find(|cluster| !plan.target_hosts.contains_key(*cluster))
        {
            let known: Vec<_> = plan.target_hosts.keys().map(String::as_str).collect();
            return Err(format!(
                "the telemetry parameter `{key}` names the cluster `{unknown}`, but --target-hosts has {}",
                known.join(", ")
            ));
        }
    }
    for cluster in plan.target_hosts.keys() {
        asked_for(plan, cluster)?;
    }
    Ok(notices)
}

fn has_no_data_streams(plan: &RacePlan) -> bool {
    let version = plan.distribution_version.as_deref().and_then(|version| {
        let mut numbers = version.split('.').map(str::parse::<u32>);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    });
    plan.distribution_flavor.as_deref() == Some("oss") || version.is_some_and(|version| version < (7, 9))
}

/// The devices of one cluster, in the order in which they look at it.
pub(super) fn devices(plan: &RacePlan, cluster: &str) -> Vec<Box<dyn Device>> {
    let authentication = plan.client_options.get(cluster).and_then(|options| {
        let has = |key: &str| options.contains_key(key);
        if has("api_key") { Some("api_key") } else { (has("basic_auth_user") || has("basic_auth")).then_some("basic") }
    });
    let environment = ClusterEnvironment {
        is_serverless: plan.is_serverless(),
        is_operator: plan.serverless_operator,
        authentication,
    };
    let mut devices: Vec<Box<dyn Device>> = vec![Box::new(environment)];
    if is_available(plan, Operators) {
        devices.push(Box::new(NodeEnvironment));
        devices.push(Box::<JvmSummary>::default());
        devices.push(Box::new(IndexStats));
        devices.push(Box::<IngestPipelineStats>::default());
    }
    devices.push(Box::new(MlBucketProcessing));
    if let Ok(asked_for) = asked_for(plan, cluster) {
        devices.extend(asked_for);
    }
    devices
}

/// The devices that the user asked for, and the one that is sampled in any case.
fn asked_for(plan: &RacePlan, cluster: &str) -> Result<Vec<Box<dyn Device>>, String> {
    let parameters = Parameters { given: &plan.telemetry_params, cluster };
    let mut devices: Vec<Box<dyn Device>> = Vec::new();
    for device in DEVICES.iter().filter(|device| plan.telemetry.iter().any(|name| name == device.name)) {
        if device.of_nodes || !is_available(plan, device.availability) {
            continue;
        }
        match device.name {
            "node-stats" => devices.push(Box::new(NodeStats::new(&parameters)?)),
            "segment-stats" => devices.push(Box::new(SegmentStats)),
            "transform-stats" => devices.push(Box::new(TransformStats::new(&parameters)?)),
            "disk-usage-stats" => {
                let indices = plan.track.indices.iter().map(|index| index.name.clone());
                let streams = plan.track.data_streams.iter().map(|stream| stream.name.clone());
                devices.push(Box::new(DiskUsageStats::new(&parameters, indices.chain(streams).collect())?));
            }
            "geoip-stats" => devices.push(Box::new(GeoIpStats)),
            name => {
                if let Some(device) = Sampled::new(name, &parameters)? {
                    devices.push(Box::new(device));
                }
            }
        }
    }
    if is_available(plan, Operators)
        && let Some(device) = Sampled::new("master-node-stats", &parameters)?
    {
        devices.push(Box::new(device));
    }
    Ok(devices)
}
