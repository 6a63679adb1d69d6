//! What telemetry devices found out about the cluster under test, as Rally's results have it.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::results::interpolate_median;

/// Entries of one list, such as the fields of disk usage statistics; what a device sends beyond is not kept.
const MAX_ENTRIES: usize = 10_000;

/// The part of the results that does not belong to a task. Times are in milliseconds and sizes in bytes; what no device
/// has reported is none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are named as in Rally's race documents")]
pub struct ClusterResults {
    #[serde(serialize_with = "as_whole")]
    pub total_time: Option<f64>,
    pub total_time_per_shard: Option<Spread>,
    #[serde(serialize_with = "as_whole")]
    pub indexing_throttle_time: Option<f64>,
    pub indexing_throttle_time_per_shard: Option<Spread>,
    #[serde(serialize_with = "as_whole")]
    pub merge_time: Option<f64>,
    pub merge_time_per_shard: Option<Spread>,
    #[serde(serialize_with = "as_whole")]
    pub merge_count: Option<f64>,
    #[serde(serialize_with = "as_whole")]
    pub refresh_time: Option<f64>,
    pub refresh_time_per_shard: Option<Spread>,
    #[serde(serialize_with = "as_whole")]
    pub refresh_count: Option<f64>,
    #[serde(serialize_with = "as_whole")]
    pub flush_time: Option<f64>,
    pub flush_time_per_shard: Option<Spread>,
    #[serde(serialize_with = "as_whole")]
    pub flush_count: Option<f64>,
    #[serde(serialize_with = "as_whole")]
    pub merge_throttle_time: Option<f64>,
    pub merge_throttle_time_per_shard: Option<Spread>,
    #[serde(deserialize_with = "or_empty")]
    pub ml_processing_time: Vec<JobTimes>,
    #[serde(serialize_with = "as_whole")]
    pub young_gc_time: Option<f64>,
    #[serde(serialize_with = "as_whole")]
    pub young_gc_count: Option<f64>,
    #[serde(serialize_with = "as_whole")]
    pub old_gc_time: Option<f64>,
    #[serde(serialize_with = "as_whole")]
    pub old_gc_count: Option<f64>,
    #[serde(serialize_with = "as_whole")]
    pub zgc_cycles_gc_time: Option<f64>,
    #[serde(serialize_with = "as_whole")]
    pub zgc_cycles_gc_count: Option<f64>,
    #[serde(serialize_with = "as_whole")]
    pub zgc_pauses_gc_time: Option<f64>,
    #[serde(serialize_with = "as_whole")]
    pub zgc_pauses_gc_count: Option<f64>,
    pub memory_segments: Option<f64>,
    pub memory_doc_values: Option<f64>,
    pub memory_terms: Option<f64>,
    pub memory_norms: Option<f64>,
    pub memory_points: Option<f64>,
    pub memory_stored_fields: Option<f64>,
    #[serde(serialize_with = "as_whole")]
    pub dataset_size: Option<f64>,
    #[serde(serialize_with = "as_whole")]
    pub store_size: Option<f64>,
    #[serde(serialize_with = "as_whole")]
    pub translog_size: Option<f64>,
    #[serde(serialize_with = "as_whole")]
    pub segment_count: Option<f64>,
    #[serde(deserialize_with = "or_empty")]
    pub total_transform_search_times: Vec<TransformMean>,
    #[serde(deserialize_with = "or_empty")]
    pub total_transform_index_times: Vec<TransformMean>,
    #[serde(deserialize_with = "or_empty")]
    pub total_transform_processing_times: Vec<TransformMean>,
    #[serde(deserialize_with = "or_empty")]
    pub total_transform_throughput: Vec<TransformMean>,
    #[serde(serialize_with = "as_whole")]
    pub ingest_pipeline_cluster_count: Option<f64>,
    #[serde(serialize_with = "as_whole")]
    pub ingest_pipeline_cluster_time: Option<f64>,
    #[serde(serialize_with = "as_whole")]
    pub ingest_pipeline_cluster_failed: Option<f64>,
    #[serde(deserialize_with = "or_empty")]
    pub disk_usage_total: Vec<FieldUsage>,
    #[serde(deserialize_with = "or_empty")]
    pub disk_usage_inverted_index: Vec<FieldUsage>,
    #[serde(deserialize_with = "or_empty")]
    pub disk_usage_stored_fields: Vec<FieldUsage>,
    #[serde(deserialize_with = "or_empty")]
    pub disk_usage_doc_values: Vec<FieldUsage>,
    #[serde(deserialize_with = "or_empty")]
    pub disk_usage_points: Vec<FieldUsage>,
    #[serde(deserialize_with = "or_empty")]
    pub disk_usage_norms: Vec<FieldUsage>,
    #[serde(deserialize_with = "or_empty")]
    pub disk_usage_term_vectors: Vec<FieldUsage>,
}

/// A sum of whole numbers, such as counts, bytes and milliseconds, without a point, as Rally has it.
fn as_whole<S: Serializer>(number: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    /// Up to here a float has every whole number.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match number {
        Some(number) if number.fract() == 0.0 && number.abs() <= EXACT => serializer.serialize_some(&(*number as i64)),
        number => number.serialize(serializer),
    }
}

/// A list, for which Rally may write null.
fn or_empty<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// How a time is spread over the primary shards. Rally writes an empty object where there is none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spread {
    /// The smallest value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The median.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub median: Option<f64>,
    /// The largest value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// Always `ms`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub unit: String,
}

/// The time that a machine learning job takes for a bucket.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JobTimes {
    /// The job.
    pub job: String,
    /// The shortest time.
    pub min: Option<f64>,
    /// The mean.
    pub mean: Option<f64>,
    /// The median.
    pub median: Option<f64>,
    /// The longest time.
    pub max: Option<f64>,
    /// Usually `ms`.
    pub unit: String,
}

/// The mean of what a transform reported.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TransformMean {
    /// The transform.
    pub id: String,
    /// The mean.
    pub mean: f64,
    /// Such as `ms` or `docs/s`.
    pub unit: String,
}

/// What a field takes on disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FieldUsage {
    /// The index.
    pub index: String,
    /// The field.
    pub field: String,
    /// How much.
    pub value: f64,
    /// Usually `byte`.
    pub unit: String,
}

/// Adds up the records of telemetry devices, as far as results need them. Its memory grows with what there is to tell
/// apart, such as shards, jobs and fields, not with the length of the race.
#[derive(Clone, Debug, Default)]
pub struct TelemetryTotals {
    numbers: BTreeMap<String, Numbers>,
    jobs: Vec<JobTimes>,
    transforms: BTreeMap<(String, String), Mean>,
    usage: BTreeMap<String, Vec<FieldUsage>>,
}

#[derive(Clone, Debug, Default)]
struct Numbers {
    /// Of the cluster: one for each time that a device ended.
    values: Vec<f64>,
    shards: Vec<f64>,
}

#[derive(Clone, Debug, Default)]
struct Mean {
    sum: f64,
    count: f64,
    unit: String,
}

/// Numbers that results are made of; `_total` values of the whole cluster, and no other record.
const NUMBERS: [&str; 29] = [
    "indexing_total_time",
    "indexing_throttle_time",
    "merges_total_time",
    "merges_total_count",
    "merges_total_throttled_time",
    "refresh_total_time",
    "refresh_total_count",
    "flush_total_time",
    "flush_total_count",
    "node_total_young_gen_gc_time",
    "node_total_young_gen_gc_count",
    "node_total_old_gen_gc_time",
    "node_total_old_gen_gc_count",
    "node_total_zgc_cycles_gc_time",
    "node_total_zgc_cycles_gc_count",
    "node_total_zgc_pauses_gc_time",
    "node_total_zgc_pauses_gc_count",
    "segments_memory_in_bytes",
    "segments_doc_values_memory_in_bytes",
    "segments_terms_memory_in_bytes",
    "segments_norms_memory_in_bytes",
    "segments_points_memory_in_bytes",
    "segments_stored_fields_memory_in_bytes",
    "segments_count",
    "dataset_size_in_bytes",
    "store_size_in_bytes",
    "translog_size_in_bytes",
    "ingest_pipeline_cluster_count",
    "ingest_pipeline_cluster_time",
];

impl TelemetryTotals {
    /// Adds the record of a device; one that no result is made of changes nothing.
    pub fn add(&mut self, record: &Value) {
        let Some(name) = record["name"].as_str() else { return };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let unit = || text(&record["unit"]);
        if name == "ml_processing_time" {
            if self.jobs.len() < MAX_ENTRIES {
                let [min, mean, median, max] = ["min", "mean", "median", "max"].map(|key| record[key].as_f64());
                self.jobs.push(JobTimes { job: text(&record["job"]), min, mean, median, max, unit: unit() });
            }
            return;
        }
        let Some(value) = record["value"].as_f64() else { return };
        let meta = &record["meta"];
        if NUMBERS.contains(&name) || name == "ingest_pipeline_cluster_failed" {
            let numbers = self.numbers.entry(name.to_owned()).or_default();
            if numbers.values.len() < MAX_ENTRIES {
                numbers.values.push(value);
                let shards = record["per-shard"].as_array().into_iter().flatten().filter_map(Value::as_f64);
                numbers.shards.extend(shards.take(MAX_ENTRIES));
            }
        } else if name.starts_with("total_transform_") {
            let key = (name.to_owned(), text(&meta["transform_id"]));
            if self.transforms.len() < MAX_ENTRIES || self.transforms.contains_key(&key) {
                let mean = self.transforms.entry(key).or_default();
                (mean.sum, mean.count, mean.unit) = (mean.sum + value, mean.count + 1.0, unit());
            }
        } else if name.starts_with("disk_usage_") {
            let usage = self.usage.entry(name.to_owned()).or_default();
            if usage.len() < MAX_ENTRIES {
                usage.push(FieldUsage {
                    index: text(&meta["index"]),
                    field: text(&meta["field"]),
                    value,
                    unit: unit(),
                });
            }
        }
    }

    /// The results: sums of times, counts and sizes; medians of segment memory and count.
    #[must_use]
    pub fn results(&self) -> ClusterResults {
        let sum = |name| Some(&self.numbers.get(name)?.values).map(|values| values.iter().sum());
        let median = |name| interpolate_median(&self.numbers.get(name)?.values);
        let spread = |name| {
            let shards = &self.numbers.get(name)?.shards;
            Some(Spread {
                min: Some(shards.iter().copied().reduce(f64::min)?),
                median: interpolate_median(shards),
                max: shards.iter().copied().reduce(f64::max),
                unit: "ms".to_owned(),
            })
        };
        let transforms = |name: &'static str| {
            let means = self.transforms.iter().filter(move |((known, _), _)| known == name);
            means.map(|((_, id), it)| TransformMean { id: id.clone(), mean: it.sum / it.count, unit: it.unit.clone() })
        };
        let usage = |name| self.usage.get(name).cloned().unwrap_or_default();
        ClusterResults {
            total_time: sum("indexing_total_time"),
            total_time_per_shard: spread("indexing_total_time"),
            indexing_throttle_time: sum("indexing_throttle_time"),
            indexing_throttle_time_per_shard: spread("indexing_throttle_time"),
            merge_time: sum("merges_total_time"),
            merge_time_per_shard: spread("merges_total_time"),
            merge_count: sum("merges_total_count"),
            refresh_time: sum("refresh_total_time"),
            refresh_time_per_shard: spread("refresh_total_time"),
            refresh_count: sum("refresh_total_count"),
            flush_time: sum("flush_total_time"),
            flush_time_per_shard: spread("flush_total_time"),
            flush_count: sum("flush_total_count"),
            merge_throttle_time: sum("merges_total_throttled_time"),
            merge_throttle_time_per_shard: spread("merges_total_throttled_time"),
            ml_processing_time: self.jobs.clone(),
            young_gc_time: sum("node_total_young_gen_gc_time"),
            young_gc_count: sum("node_total_young_gen_gc_count"),
            old_gc_time: sum("node_total_old_gen_gc_time"),
            old_gc_count: sum("node_total_old_gen_gc_count"),
            zgc_cycles_gc_time: sum("node_total_zgc_cycles_gc_time"),
            zgc_cycles_gc_count: sum("node_total_zgc_cycles_gc_count"),
            zgc_pauses_gc_time: sum("node_total_zgc_pauses_gc_time"),
            zgc_pauses_gc_count: sum("node_total_zgc_pauses_gc_count"),
            memory_segments: median("segments_memory_in_bytes"),
            memory_doc_values: median("segments_doc_values_memory_in_bytes"),
            memory_terms: median("segments_terms_memory_in_bytes"),
            memory_norms: median("segments_norms_memory_in_bytes"),
            memory_points: median("segments_points_memory_in_bytes"),
            memory_stored_fields: median("segments_stored_fields_memory_in_bytes"),
            dataset_size: sum("dataset_size_in_bytes"),
            store_size: sum("store_size_in_bytes"),
            translog_size: sum("translog_size_in_bytes"),
            // The original cuts off, too.
            segment_count: median("segments_count").map(f64::trunc),
            total_transform_search_times: transforms("total_transform_search_time").collect(),
            total_transform_index_times: transforms("total_transform_index_time").collect(),
            total_transform_processing_times: transforms("total_transform_processing_time").collect(),
            total_transform_throughput: transforms("total_transform_throughput").collect(),
            ingest_pipeline_cluster_count: sum("ingest_pipeline_cluster_count"),
            ingest_pipeline_cluster_time: sum("ingest_pipeline_cluster_time"),
            ingest_pipeline_cluster_failed: sum("ingest_pipeline_cluster_failed"),
            disk_usage_total: usage("disk_usage_total"),
            disk_usage_inverted_index: usage("disk_usage_inverted_index"),
            disk_usage_stored_fields: usage("disk_usage_stored_fields"),
            disk_usage_doc_values: usage("disk_usage_doc_values"),
            disk_usage_points: usage("disk_usage_points"),
            disk_usage_norms: usage("disk_usage_norms"),
            disk_usage_term_vectors: usage("disk_usage_term_vectors"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn results_are_sums_medians_and_spreads_of_what_devices_report() {
        let mut totals = TelemetryTotals::default();
        for record in [
            json!({"name": "merges_total_time", "value": 300, "unit": "ms", "per-shard": [100, 40, 160]}),
            json!({"name": "merges_total_time", "value": 200, "unit": "ms", "per-shard": [200]}),
            json!({"name": "segments_count", "value": 4}),
            json!({"name": "segments_count", "value": 7}),
            json!({"name": "refresh_total_time", "value": 5, "unit": "ms"}),
            json!({"name": "ml_processing_time", "job": "j", "min": 1, "mean": 2, "median": 2, "max": 3, "unit": "ms"}),
            json!({"name": "total_transform_search_time", "value": 10, "unit": "ms", "meta": {"transform_id": "t"}}),
            json!({"name": "total_transform_search_time", "value": 20, "unit": "ms", "meta": {"transform_id": "t"}}),
            json!({"name": "disk_usage_total", "value": 9, "unit": "byte", "meta": {"index": "i", "field": "f"}}),
            json!({"name": "node-stats", "cpu": 3}),
            json!("not a record"),
        ] {
            totals.add(&record);
        }
        let spread =
            |min, median, max| Spread { min: Some(min), median: Some(median), max: Some(max), unit: "ms".to_owned() };
        let expected = ClusterResults {
            merge_time: Some(500.0),
            merge_time_per_shard: Some(spread(40.0, 130.0, 200.0)),
            segment_count: Some(5.0),
            refresh_time: Some(5.0),
            ml_processing_time: vec![JobTimes {
                job: "j".to_owned(),
                min: Some(1.0),
                mean: Some(2.0),
                median: Some(2.0),
                max: Some(3.0),
                unit: "ms".to_owned(),
            }],
            total_transform_search_times: vec![TransformMean { id: "t".to_owned(), mean: 15.0, unit: "ms".to_owned() }],
            disk_usage_total: vec![FieldUsage {
                index: "i".to_owned(),
                field: "f".to_owned(),
                value: 9.0,
                unit: "byte".to_owned(),
            }],
            ..ClusterResults::default()
        };
        assert_eq!(totals.results(), expected);
    }

    #[test]
    fn whole_numbers_are_written_without_a_point() {
        let results = ClusterResults {
            segment_count: Some(7.0),
            merge_count: Some(0.0),
            total_time: Some(1_204.0),
            refresh_time: Some(0.5),
            memory_terms: Some(3.0),
            ..ClusterResults::default()
        };
        let text = serde_json::to_string(&results).unwrap();
        for part in [
            "\"segment_count\":7,",
            "\"merge_count\":0,",
            "\"total_time\":1204,",
            "\"refresh_time\":0.5,",
            "\"memory_terms\":3.0,",
            "\"flush_count\":null,",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(serde_json::from_str::<ClusterResults>(&text).unwrap(), results);
    }
}
