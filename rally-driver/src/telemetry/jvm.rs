//! Garbage collection between the start and the end of a race, and the peaks of memory pools.

use std::collections::BTreeMap;

use async_trait::async_trait;
use rally_core::track::JsonObject;
use serde_json::{Value, json};

use super::device::{Cluster, Device, Records, difference, entries, first_look};
use crate::RunnerError;

/// Milliseconds and count of each collector of a node.
type Collectors = BTreeMap<String, (u64, u64)>;

/// Collections of garbage by node and in all.
#[derive(Debug, Default)]
pub(super) struct JvmSummary {
    /// By node; none before the first look.
    before: Option<BTreeMap<String, Collectors>>,
}

#[async_trait(?Send)]
impl Device for JvmSummary {
    fn name(&self) -> &'static str {
        "jvm-summary"
    }

    async fn before(&mut self, cluster: &Cluster, _records: &mut Records) -> Result<(), RunnerError> {
        let stats = cluster.get("/_nodes/stats/jvm").await?;
        let nodes = entries(&stats["nodes"]);
        self.before = Some(nodes.map(|(_, node)| (name_of(node), collectors(node))).collect());
        Ok(())
    }

    async fn after(&mut self, cluster: &Cluster, records: &mut Records) -> Result<(), RunnerError> {
        let stats = cluster.get("/_nodes/stats/jvm").await?;
        for (_, node) in entries(&stats["nodes"]) {
            let pools = entries(&node["jvm"]["mem"]["pools"]);
            let mut fields: JsonObject = pools
                .map(|(pool, usage)| {
                    (pool.clone(), json!({ "peak_usage": usage["peak_used_in_bytes"], "unit": "byte" }))
                })
                .collect();
            if !fields.is_empty() {
                fields.insert("level".to_owned(), json!("node"));
                fields.insert("node".to_owned(), json!(name_of(node)));
                records.document("jvm_memory_pool_stats", fields, JsonObject::new());
            }
        }
        let before = first_look(self.before.as_ref())?;
        let mut totals = Collectors::new();
        for (_, node) in entries(&stats["nodes"]) {
            let name = name_of(node);
            for (collector, (time, count)) in collectors(node) {
                let before = before.get(&name).and_then(|known| known.get(&collector));
                let time = difference(before.map(|before| before.0), time);
                let count = difference(before.map(|before| before.1), count);
                records.node_value(&name, format!("node_{collector}_gc_time"), time, "ms", JsonObject::new());
                records.node_value(&name, format!("node_{collector}_gc_count"), count, "", JsonObject::new());
                let total = totals.entry(collector).or_default();
                *total = (total.0.saturating_add(time), total.1.saturating_add(count));
            }
        }
        for (collector, (time, count)) in totals {
            records.value(format!("node_total_{collector}_gc_time"), time, "ms", JsonObject::new());
            records.value(format!("node_total_{collector}_gc_count"), count, "", JsonObject::new());
        }
        Ok(())
    }
}

fn name_of(node: &Value) -> String {
    node["name"].as_str().unwrap_or_default().to_owned()
}

/// The collectors of a node by the name that metrics have: `young_gen`, `old_gen`, `zgc_cycles`.
fn collectors(node: &Value) -> Collectors {
    let collectors = entries(&node["jvm"]["gc"]["collectors"]);
    collectors
        .map(|(name, stats)| {
            let name = match name.as_str() {
                "young" => "young_gen".to_owned(),
                "old" => "old_gen".to_owned(),
                other => other.to_lowercase().replace([' ', '-'], "_"),
            };
            let number = |key: &str| stats[key].as_u64().unwrap_or(0);
            (name, (number("collection_time_in_millis"), number("collection_count")))
        })
        .collect()
}
