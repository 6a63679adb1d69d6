//! What ingest pipelines did during the race.

use async_trait::async_trait;
use rally_core::track::JsonObject;
use serde_json::{Value, json};

use super::device::{Cluster, Counters, Device, Records, difference, elements, entries, first_look, object};
use crate::RunnerError;

/// What is counted, by the name in metrics, the key in statistics, and the unit.
const COUNTED: [(&str, &str, &str); 3] =
    [("count", "count", ""), ("time", "time_in_millis", "ms"), ("failed", "failed", "")];

/// Counts of documents, time and failures of the cluster, its nodes, their pipelines and processors.
#[derive(Debug, Default)]
pub(super) struct IngestPipelineStats {
    /// None before the first look.
    before: Option<Counters>,
}

/// Something that ingests, on one node.
struct Ingester<'a> {
    /// What tells it from others, and stays the same.
    key: String,
    /// `node`, `pipeline` or `processor`.
    level: &'static str,
    node: &'a str,
    stats: &'a Value,
    meta: JsonObject,
}

#[async_trait(?Send)]
impl Device for IngestPipelineStats {
    fn name(&self) -> &'static str {
        "ingest-pipeline-stats"
    }

    async fn before(&mut self, cluster: &Cluster, _records: &mut Records) -> Result<(), RunnerError> {
        let stats = cluster.get("/_nodes/stats/ingest").await?;
        let mut before = Counters::new();
        for ingester in ingesters(&stats) {
            for (name, key, _) in COUNTED {
                before.insert(format!("{}/{name}", ingester.key), ingester.stats[key].as_u64().unwrap_or(0));
            }
        }
        self.before = Some(before);
        Ok(())
    }

    async fn after(&mut self, cluster: &Cluster, records: &mut Records) -> Result<(), RunnerError> {
        let before = first_look(self.before.as_ref())?;
        let stats = cluster.get("/_nodes/stats/ingest").await?;
        let mut totals = [0_u64; COUNTED.len()];
        for ingester in ingesters(&stats) {
            for ((name, key, unit), total) in COUNTED.into_iter().zip(&mut totals) {
                let before = before.get(&format!("{}/{name}", ingester.key)).copied();
                let counted = difference(before, ingester.stats[key].as_u64().unwrap_or(0));
                if ingester.level == "node" {
                    *total = total.saturating_add(counted);
                }
                let metric = format!("ingest_pipeline_{}_{name}", ingester.level);
                records.node_value(ingester.node, metric, counted, unit, ingester.meta.clone());
            }
        }
        let meta = object(json!({ "cluster_name": stats["cluster_name"] }));
        for ((name, _, unit), total) in COUNTED.into_iter().zip(totals) {
            records.value(format!("ingest_pipeline_cluster_{name}"), total, unit, meta.clone());
        }
        Ok(())
    }
}

/// All that ingest: nodes, their pipelines, and the processors of those, named by their type and place.
fn ingesters(stats: &Value) -> Vec<Ingester<'_>> {
    let cluster = &stats["cluster_name"];
    let mut all = Vec::new();
    for (_, node) in entries(&stats["nodes"]) {
        let name = node["name"].as_str().unwrap_or_default();
        let ingester =
            |key: String, level, stats, meta: Value| Ingester { key, level, node: name, stats, meta: object(meta) };
        all.push(ingester(name.to_owned(), "node", &node["ingest"]["total"], json!({ "cluster_name": cluster })));
        for (pipeline, stats) in entries(&node["ingest"]["pipelines"]) {
            let meta = json!({ "cluster_name": cluster, "pipeline_name": pipeline });
            all.push(ingester(format!("{name}/{pipeline}"), "pipeline", stats, meta));
            for (place, processor) in elements(&stats["processors"]).enumerate() {
                for (kind, stats) in entries(processor) {
                    let processor = format!("{kind}_{}", place + 1);
                    let key = format!("{name}/{pipeline}/{processor}");
                    let meta = json!({
                        "cluster_name": cluster, "pipeline_name": pipeline, "processor_name": processor, "type": kind,
                    });
                    all.push(ingester(key, "processor", &stats["stats"], meta));
                }
            }
        }
    }
    all
}
