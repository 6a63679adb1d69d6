//! Statistics of every node, sampled.

use std::time::Duration;

use async_trait::async_trait;
use rally_core::track::JsonObject;
use serde_json::{Value, json};

use super::device::{Cluster, Device, Records, entries, flatten, object};
use super::selection::Parameters;
use crate::RunnerError;

/// Sections of index statistics that are taken unless the user names others.
const INDEX_SECTIONS: [&str; 12] = [
    "docs",
    "store",
    "indexing",
    "search",
    "merges",
    "refresh",
    "flush",
    "query_cache",
    "fielddata",
    "segments",
    "translog",
    "request_cache",
];

/// Parts of a node's statistics: the parameter that leaves them out, their prefix, and where they stand.
const PARTS: [(&str, &str, &str); 11] = [
    ("thread-pools", "thread_pool", "/thread_pool"),
    ("breakers", "breakers", "/breakers"),
    ("buffer-pools", "jvm_buffer_pools", "/jvm/buffer_pools"),
    ("mem", "jvm_mem", "/jvm/mem"),
    ("mem", "os_mem", "/os/mem"),
    ("cgroup", "os_cgroup", "/os/cgroup"),
    ("gc", "jvm_gc", "/jvm/gc"),
    ("network", "transport", "/transport"),
    ("process", "process_cpu", "/process/cpu"),
    ("indexing-pressure", "indexing_pressure", "/indexing_pressure"),
    ("fs", "fs", "/fs"),
];

/// A document `node-stats` for each node, with all numbers by flat names.
#[derive(Debug)]
pub(super) struct NodeStats {
    interval: Duration,
    /// Sections of index statistics.
    sections: Vec<String>,
    /// Prefixes of the parts that are taken, and where they stand.
    parts: Vec<(&'static str, &'static str)>,
}

impl NodeStats {
    pub(super) fn new(parameters: &Parameters<'_>) -> Result<Self, String> {
        let named = parameters.list("node-stats-include-indices-metrics")?;
        let sections = match named {
            Some(named) => named,
            None if parameters.flag("node-stats-include-indices", false)? => INDEX_SECTIONS.map(str::to_owned).to_vec(),
            None => Vec::new(),
        };
        let mut parts = Vec::new();
        for (parameter, prefix, place) in PARTS {
            if parameters.flag(&format!("node-stats-include-{parameter}"), true)? {
                parts.push((prefix, place));
            }
        }
        Ok(Self { interval: parameters.interval("node-stats", 1.0)?, sections, parts })
    }
}

#[async_trait(?Send)]
impl Device for NodeStats {
    fn name(&self) -> &'static str {
        "node-stats"
    }

    fn interval(&self) -> Option<Duration> {
        Some(self.interval)
    }

    async fn sample(&mut self, cluster: &Cluster, records: &mut Records) -> Result<(), RunnerError> {
        let stats = cluster.get("/_nodes/stats/_all").await?;
        for (_, node) in entries(&stats["nodes"]) {
            let mut fields = JsonObject::new();
            for section in &self.sections {
                flatten(&format!("indices_{section}"), &node["indices"][section.as_str()], &mut fields);
            }
            for (prefix, place) in &self.parts {
                flatten(prefix, node.pointer(place).unwrap_or(&Value::Null), &mut fields);
            }
            let mut meta = cluster.meta();
            meta.extend(object(json!({ "node_name": node["name"], "roles": node["roles"] })));
            records.document("node-stats", fields, meta);
        }
        Ok(())
    }
}
