//! Devices that look at a cluster once, when the race is over.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::device::{Cluster, Device, Records, elements, encode, entries, object};
use super::selection::Parameters;
use crate::client::Request;
use crate::{ErrorClass, RunnerError};

/// What a field takes on disk, by the name of the metric and where it stands.
const USES: [(&str, &str); 7] = [
    ("disk_usage_inverted_index", "/inverted_index/total_in_bytes"),
    ("disk_usage_stored_fields", "/stored_fields_in_bytes"),
    ("disk_usage_doc_values", "/doc_values_in_bytes"),
    ("disk_usage_points", "/points_in_bytes"),
    ("disk_usage_norms", "/norms_in_bytes"),
    ("disk_usage_term_vectors", "/term_vectors_in_bytes"),
    ("disk_usage_knn_vectors", "/knn_vectors_in_bytes"),
];

const GEOIP: [&str; 6] = ["count", "hits", "misses", "evictions", "hits_time_in_millis", "misses_time_in_millis"];

/// All segments as a text, in a document `segment-stats`.
#[derive(Debug)]
pub(super) struct SegmentStats;

#[async_trait(?Send)]
impl Device for SegmentStats {
    fn name(&self) -> &'static str {
        "segment-stats"
    }

    async fn after(&mut self, cluster: &Cluster, records: &mut Records) -> Result<(), RunnerError> {
        let table = cluster.send(Request::new("GET", "/_cat/segments/_all?v=true")).await?;
        let text = String::from_utf8_lossy(&table.body);
        records.document("segment-stats", object(json!({ "text": text })), cluster.meta());
        Ok(())
    }
}

/// What each field of an index takes on disk.
#[derive(Debug)]
pub(super) struct DiskUsageStats {
    indices: Vec<String>,
    timeout: Duration,
    flush: bool,
}

impl DiskUsageStats {
    /// `of_track` are the indices and data streams of the track.
    pub(super) fn new(parameters: &Parameters<'_>, of_track: Vec<String>) -> Result<Self, String> {
        let indices = parameters.list("disk-usage-stats-indices")?.unwrap_or(of_track);
        if indices.is_empty() {
            return Err(
                "telemetry device `disk-usage-stats` has nothing to look at: the track has neither indices nor data \
                        streams; name some in the telemetry parameter `disk-usage-stats-indices`"
                    .to_owned(),
            );
        }
        let timeout = parameters.seconds("disk-usage-stats-timeout", 600.0)?;
        Ok(Self { indices, timeout, flush: parameters.flag("disk-usage-stats-flush", true)? })
    }
}

#[async_trait(?Send)]
impl Device for DiskUsageStats {
    fn name(&self) -> &'static str {
        "disk-usage-stats"
    }

    async fn after(&mut self, cluster: &Cluster, records: &mut Records) -> Result<(), RunnerError> {
        let mut found = false;
        for index in &self.indices {
            let path = format!("/{}/_disk_usage?run_expensive_tasks=true&flush={}", encode(index), self.flush);
            let mut request = Request::new("POST", path);
            request.timeout = Some(self.timeout);
            let usage = match cluster.json(request).await {
                Ok(usage) => usage,
                Err(RunnerError::Api { status: 404, .. }) => {
                    records.notice(format!("disk usage: there is no index `{index}`"));
                    continue;
                }
                Err(RunnerError::Transport { class: ErrorClass::Timeout, .. }) => {
                    records.notice(format!("disk usage: `{index}` was not done within {:?}", self.timeout));
                    continue;
                }
                Err(error) => return Err(error),
            };
            if usage["_shards"]["failed"].as_u64().unwrap_or(0) > 0 {
                return Err(RunnerError::Other(format!("disk usage of `{index}` failed for some shards")));
            }
            for (index, usage) in entries(&usage).filter(|(index, _)| *index != "_shards") {
                found = true;
                for (field, usage) in entries(&usage["fields"]) {
                    let meta = object(json!({ "index": index, "field": field }));
                    let total = usage["total_in_bytes"].as_u64().unwrap_or(0);
                    records.value("disk_usage_total", total, "byte", meta.clone());
                    for (name, place) in USES {
                        let bytes = usage.pointer(place).and_then(Value::as_u64).unwrap_or(0);
                        if bytes > 0 {
                            records.value(name, bytes, "byte", meta.clone());
                        }
                    }
                }
            }
        }
        if found { Ok(()) } else { Err(RunnerError::Other("none of the indices could be looked at".to_owned())) }
    }
}

/// The caches of geographical lookups.
#[derive(Debug)]
pub(super) struct GeoIpStats;

#[async_trait(?Send)]
impl Device for GeoIpStats {
    fn name(&self) -> &'static str {
        "geoip-stats"
    }

    async fn after(&mut self, cluster: &Cluster, records: &mut Records) -> Result<(), RunnerError> {
        let info = cluster.get("/_nodes/_all").await?;
        let names: BTreeMap<&String, &Value> = entries(&info["nodes"]).map(|(id, node)| (id, &node["name"])).collect();
        let stats = cluster.get("/_ingest/geoip/stats").await?;
        for (id, node) in entries(&stats["nodes"]) {
            let name = names.get(id).and_then(|name| name.as_str()).unwrap_or(id);
            for key in GEOIP {
                if let Some(value) = node["cache_stats"].get(key).filter(|value| value.is_number()) {
                    let unit = if key.ends_with("millis") { "ms" } else { "" };
                    records.node_value(name, format!("geoip_cache_{key}"), value.clone(), unit, cluster.meta());
                }
            }
        }
        Ok(())
    }
}

/// How long machine learning jobs took for a bucket.
#[derive(Debug)]
pub(super) struct MlBucketProcessing;

#[async_trait(?Send)]
impl Device for MlBucketProcessing {
    fn name(&self) -> &'static str {
        "ml-bucket-processing"
    }

    async fn after(&mut self, cluster: &Cluster, records: &mut Records) -> Result<(), RunnerError> {
        let times = |kind: &str| json!({ kind: { "field": "processing_time_ms" } });
        let body = json!({
            "size": 0,
            "query": { "term": { "result_type": "bucket" } },
            "aggs": { "jobs": {
                "terms": { "field": "job_id", "size": 1_000 },
                "aggs": {
                    "min": times("min"), "mean": times("avg"), "max": times("max"),
                    "median": { "percentiles": { "field": "processing_time_ms", "percents": [50] } },
                },
            } },
        });
        let found = match cluster.json(Request::new("GET", "/.ml-anomalies-*/_search").json(body.to_string())).await {
            Ok(found) => found,
            // A cluster without machine learning has nothing to tell.
            Err(RunnerError::Api { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        for job in elements(&found["aggregations"]["jobs"]["buckets"]) {
            let fields = object(json!({
                "job": job["key"],
                "min": job["min"]["value"],
                "mean": job["mean"]["value"],
                "median": job["median"]["values"]["50.0"],
                "max": job["max"]["value"],
                "unit": "ms",
            }));
            records.document("ml_processing_time", fields, Default::default());
        }
        Ok(())
    }
}
