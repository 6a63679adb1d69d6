//! Results for tests.

use rally_core::metrics::{
    ClusterResults, Distribution, ErrorCount, FieldUsage, Findings, JobTimes, OperationMetrics, Percentiles,
    RaceReport, Results, Spread, TaskErrors, ThresholdOutcome, ThresholdStanding, ThroughputSummary, TransformMean,
};
use rally_core::track::JsonObject;
use serde_json::json;

/// A race with errors and thresholds, whose texts would be markup.
pub(crate) fn failed_race() -> RaceReport {
    let mut times = Distribution::default();
    (1..=100).for_each(|millis| times.record(millis * 1_000_000));
    let task = |name: &str, error_rate| OperationMetrics {
        task: name.to_owned(),
        operation: name.to_owned(),
        throughput: ThroughputSummary {
            min: Some(90.0),
            mean: Some(100.0),
            median: Some(100.0),
            max: Some(110.0),
            unit: "ops/s".to_owned(),
        },
        latency: Percentiles::new(&times),
        service_time: Percentiles::new(&times),
        processing_time: Percentiles::new(&times),
        error_rate,
        duration: 12_345.0,
        meta: JsonObject::new(),
    };
    let results = Results {
        cluster_name: "default".to_owned(),
        op_metrics: vec![task("search", 0.0), task("<b>index", 0.25)],
        cluster: ClusterResults { segment_count: Some(31.0), ..ClusterResults::default() },
    };
    let race = json!({
        "@timestamp": 1_793_534_400_000_i64, "rally-version": "1", "rally-revision": null, "environment": "local",
        "race-id": "r", "race-timestamp": "20261101T120000Z", "pipeline": "benchmark-only", "track": "t&t",
        "challenge": "c", "user-tags": {"intention": "<script>"}, "cluster": {"distribution-version": "8.15.3"},
        "results": results,
    });
    let example = "</script><img src=x>".to_owned();
    let errors = vec![ErrorCount { class: "http 429".to_owned(), count: 25, example }];
    let outcome = |threshold: &str, failed| ThresholdOutcome {
        threshold: threshold.parse().unwrap(),
        tasks: vec![ThresholdStanding {
            task: "search".to_owned(),
            value: Some(99.01),
            unit: "ops/s".to_owned(),
            failed,
        }],
    };
    RaceReport {
        is_settled: true,
        race: serde_json::from_value(race).unwrap(),
        findings: Findings {
            errors: vec![TaskErrors { task: "<b>index".to_owned(), errors }],
            thresholds: vec![
                outcome("search.service_time.p99 > 50ms", true),
                outcome("search.service_time.max > 1s", false),
            ],
            ..Findings::default()
        },
    }
}

/// Every field has a value.
pub(crate) fn cluster() -> ClusterResults {
    let spread = || Some(Spread { min: Some(6e3), median: Some(12e3), max: Some(60e3), unit: "ms".to_owned() });
    let transform = |mean, unit: &str| vec![TransformMean { id: "rollup".to_owned(), mean, unit: unit.to_owned() }];
    let usage = |value| {
        let field = |field: &str, value| FieldUsage {
            index: "towns".to_owned(),
            field: field.to_owned(),
            value,
            unit: "byte".to_owned(),
        };
        vec![field("name", value), field("_id", value / 4096.0)]
    };
    ClusterResults {
        total_time: Some(90e3),
        total_time_per_shard: spread(),
        indexing_throttle_time: Some(0.0),
        indexing_throttle_time_per_shard: spread(),
        merge_time: Some(123_456.0),
        merge_time_per_shard: spread(),
        merge_count: Some(17.0),
        refresh_time: Some(6e3),
        refresh_time_per_shard: spread(),
        refresh_count: Some(21.0),
        flush_time: Some(3e3),
        flush_time_per_shard: spread(),
        flush_count: Some(2.0),
        merge_throttle_time: Some(1e3),
        merge_throttle_time_per_shard: spread(),
        ml_processing_time: vec![JobTimes {
            job: "low_request_rate".to_owned(),
            min: Some(1.5),
            mean: Some(2.5),
            median: Some(2.25),
            max: Some(9.0),
            unit: "ms".to_owned(),
        }],
        young_gc_time: Some(1234.0),
        young_gc_count: Some(12.0),
        old_gc_time: Some(0.0),
        old_gc_count: Some(0.0),
        zgc_cycles_gc_time: Some(5e3),
        zgc_cycles_gc_count: Some(5.0),
        zgc_pauses_gc_time: Some(50.0),
        zgc_pauses_gc_count: Some(15.0),
        memory_segments: Some(3e6),
        memory_doc_values: Some(1e6),
        memory_terms: Some(1.5e6),
        memory_norms: Some(1e5),
        memory_points: Some(2e5),
        memory_stored_fields: Some(2.5e5),
        dataset_size: Some(4e9),
        store_size: Some(3.5e9),
        translog_size: Some(55.0),
        segment_count: Some(31.0),
        total_transform_search_times: transform(100.0, "ms"),
        total_transform_index_times: transform(200.0, "ms"),
        total_transform_processing_times: transform(300.0, "ms"),
        total_transform_throughput: transform(1500.5, "docs/s"),
        ingest_pipeline_cluster_count: Some(1000.0),
        ingest_pipeline_cluster_time: Some(2500.0),
        ingest_pipeline_cluster_failed: Some(1.0),
        disk_usage_total: usage(3e9),
        disk_usage_inverted_index: usage(1e9),
        disk_usage_stored_fields: usage(1e8),
        disk_usage_doc_values: usage(1e7),
        disk_usage_points: usage(1e6),
        disk_usage_norms: usage(1e5),
        disk_usage_term_vectors: usage(1e4),
    }
}
