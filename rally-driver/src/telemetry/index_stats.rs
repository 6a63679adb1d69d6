//! What all indices did since they were made: the lines of the summary report about indexing, merges and segments.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::device::{Cluster, Device, Records, elements, entries};
use crate::RunnerError;

/// A cluster that has spent more than this on one kind of work before the race, in milliseconds, is not clean.
const CLEAN: u64 = 2_000;

/// Times by metric and where they stand in statistics; the same place holds in those of a shard.
const TIMES: [(&str, &str); 6] = [
    ("merges_total_time", "/merges/total_time_in_millis"),
    ("merges_total_throttled_time", "/merges/total_throttled_time_in_millis"),
    ("indexing_total_time", "/indexing/index_time_in_millis"),
    ("indexing_throttle_time", "/indexing/throttle_time_in_millis"),
    ("refresh_total_time", "/refresh/total_time_in_millis"),
    ("flush_total_time", "/flush/total_time_in_millis"),
];

const COUNTS: [(&str, &str); 3] = [
    ("merges_total_count", "/merges/total"),
    ("refresh_total_count", "/refresh/total"),
    ("flush_total_count", "/flush/total"),
];

/// Sizes of the primary shards, in bytes. Versions that no longer know one leave it out.
const MEMORY: [(&str, &str); 6] = [
    ("segments_memory_in_bytes", "/segments/memory_in_bytes"),
    ("segments_doc_values_memory_in_bytes", "/segments/doc_values_memory_in_bytes"),
    ("segments_stored_fields_memory_in_bytes", "/segments/stored_fields_memory_in_bytes"),
    ("segments_terms_memory_in_bytes", "/segments/terms_memory_in_bytes"),
    ("segments_norms_memory_in_bytes", "/segments/norms_memory_in_bytes"),
    ("segments_points_memory_in_bytes", "/segments/points_memory_in_bytes"),
];

/// Sizes of all shards, in bytes.
const SIZES: [(&str, &str); 3] = [
    ("dataset_size_in_bytes", "/store/total_data_set_size_in_bytes"),
    ("store_size_in_bytes", "/store/size_in_bytes"),
    ("translog_size_in_bytes", "/translog/size_in_bytes"),
];

/// Index statistics at the end of the race. They are not reduced by what was there before.
#[derive(Debug, Default)]
pub(super) struct IndexStats;

#[async_trait(?Send)]
impl Device for IndexStats {
    fn name(&self) -> &'static str {
        "index-stats"
    }

    async fn before(&mut self, cluster: &Cluster, records: &mut Records) -> Result<(), RunnerError> {
        let stats = statistics(cluster).await?;
        for (name, place) in TIMES {
            let time = stats.pointer(&format!("/_all/primaries{place}")).and_then(Value::as_u64).unwrap_or(0);
            if time > CLEAN {
                records.notice(format!(
                    "the cluster under test is not clean: {name} is {time} ms before the race, and the report will count it"
                ));
            }
        }
        Ok(())
    }

    async fn after(&mut self, cluster: &Cluster, records: &mut Records) -> Result<(), RunnerError> {
        let stats = statistics(cluster).await?;
        let all = &stats["_all"];
        let primaries = |place: &str| all["primaries"].pointer(place).filter(|value| value.is_number()).cloned();
        if let Some(count) = primaries("/segments/count") {
            records.value("segments_count", count, "", Default::default());
        }
        for (name, place) in MEMORY {
            if let Some(bytes) = primaries(place) {
                records.value(name, bytes, "byte", Default::default());
            }
        }
        for (name, place) in TIMES {
            if let Some(time) = primaries(place) {
                records.value_by_shard(name, time, "ms", by_primary_shard(&stats, place));
            }
        }
        for (name, place) in COUNTS {
            if let Some(count) = primaries(place) {
                records.value(name, count, "", Default::default());
            }
        }
        for (name, place) in SIZES {
            if let Some(bytes) = all["total"].pointer(place).filter(|value| value.is_number()) {
                records.value(name, bytes.clone(), "byte", Default::default());
            }
        }
        Ok(())
    }
}

async fn statistics(cluster: &Cluster) -> Result<Value, RunnerError> {
    cluster.get("/_stats/_all?level=shards").await
}

fn by_primary_shard(stats: &Value, place: &str) -> Vec<Value> {
    entries(&stats["indices"])
        .flat_map(|(_, index)| entries(&index["shards"]))
        .flat_map(|(_, copies)| elements(copies))
        .filter(|copy| copy["routing"]["primary"] == json!(true))
        .filter_map(|copy| copy.pointer(place).filter(|value| value.is_number()).cloned())
        .collect()
}
