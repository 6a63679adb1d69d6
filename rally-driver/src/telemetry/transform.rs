//! What transforms did.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::device::{Cluster, Device, Records, elements, object};
use super::selection::Parameters;
use crate::RunnerError;

/// What is counted, by the name in metrics, the key in statistics, and the unit.
const COUNTED: [(&str, &str, &str); 11] = [
    ("pages_processed", "pages_processed", ""),
    ("documents_processed", "documents_processed", ""),
    ("documents_indexed", "documents_indexed", ""),
    ("index_total", "index_total", ""),
    ("index_failures", "index_failures", ""),
    ("search_total", "search_total", ""),
    ("search_failures", "search_failures", ""),
    ("processing_total", "processing_total", ""),
    ("search_time", "search_time_in_ms", "ms"),
    ("index_time", "index_time_in_ms", "ms"),
    ("processing_time", "processing_time_in_ms", "ms"),
];

/// Counters of every transform, sampled, and once more at the end under names that begin with `total_`.
#[derive(Debug)]
pub(super) struct TransformStats {
    interval: Duration,
    /// None: all of them.
    transforms: Option<Vec<String>>,
}

impl TransformStats {
    pub(super) fn new(parameters: &Parameters<'_>) -> Result<Self, String> {
        let interval = parameters.interval("transform-stats", 1.0)?;
        Ok(Self { interval, transforms: parameters.of_cluster("transform-stats-transforms")? })
    }

    async fn tell(&self, prefix: &str, cluster: &Cluster, records: &mut Records) -> Result<(), RunnerError> {
        let stats = cluster.get("/_transform/_all/_stats").await?;
        for transform in elements(&stats["transforms"]) {
            let id = transform["id"].as_str().unwrap_or_default();
            if self.transforms.as_ref().is_some_and(|wanted| !wanted.iter().any(|it| it == id)) {
                continue;
            }
            let meta = object(json!({ "transform_id": id }));
            let number = |key: &str| transform["stats"][key].as_f64().unwrap_or(0.0);
            for (name, key, unit) in COUNTED {
                let value = transform["stats"].get(key).filter(|value| value.is_number()).cloned();
                let name = format!("{prefix}transform_{name}");
                records.value(name, value.unwrap_or(Value::from(0)), unit, meta.clone());
            }
            let millis = number("search_time_in_ms") + number("processing_time_in_ms") + number("index_time_in_ms");
            let documents = number("documents_processed");
            if millis > 0.0 && documents > 0.0 {
                let throughput = documents / millis * 1_000.0;
                records.value(format!("{prefix}transform_throughput"), throughput, "docs/s", meta);
            }
        }
        Ok(())
    }
}

#[async_trait(?Send)]
impl Device for TransformStats {
    fn name(&self) -> &'static str {
        "transform-stats"
    }

    fn interval(&self) -> Option<Duration> {
        Some(self.interval)
    }

    async fn sample(&mut self, cluster: &Cluster, records: &mut Records) -> Result<(), RunnerError> {
        self.tell("", cluster, records).await
    }

    async fn after(&mut self, cluster: &Cluster, records: &mut Records) -> Result<(), RunnerError> {
        self.tell("total_", cluster, records).await
    }
}
