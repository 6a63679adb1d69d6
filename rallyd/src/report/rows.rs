//! Every line of Rally's reports, in Rally's order.

use rally_core::metrics::{
    ClusterResults, FieldUsage, OperationMetrics, Percentiles, Results, Spread, TimeKind, TransformMean,
};

const MILLIS_PER_MINUTE: f64 = 60_000.0;
const MILLIS_PER_SECOND: f64 = 1_000.0;
const GIBIBYTE: f64 = 1024.0 * 1024.0 * 1024.0;
const MEBIBYTE: f64 = 1024.0 * 1024.0;

/// One line: a value of the results, and how it is shown.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    /// What it is about.
    pub(super) metric: String,
    /// The task, the job or the transform; empty if it is about the whole cluster.
    pub(super) task: String,
    /// The value as it stands in the results.
    pub(super) raw: Option<f64>,
    pub(super) unit: Unit,
    pub(super) kind: Kind,
}

/// From a value of the results to what is shown.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Unit {
    /// The value is divided, and called so.
    Scaled(f64, String),
    /// Bytes, in whatever unit reads best.
    Bytes,
}

/// What a row is, as far as rows are treated differently.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Cluster,
    Throughput,
    Percentile(TimeKind, f64),
    ErrorRate,
}

impl Unit {
    /// What a value is divided by, and the unit that it has then. `largest` is the value that must read well.
    pub(super) fn resolve(&self, largest: f64) -> (f64, String) {
        match self {
            Self::Scaled(divisor, unit) => (*divisor, unit.clone()),
            Self::Bytes => {
                let units = ["TB", "GB", "MB", "KB"];
                let sizes = [1024.0 * GIBIBYTE, GIBIBYTE, MEBIBYTE, 1024.0];
                let fitting = sizes.into_iter().zip(units).find(|(size, _)| largest >= *size);
                let (divisor, unit) = fitting.unwrap_or((1.0, "B"));
                (divisor, unit.to_owned())
            }
        }
    }
}

/// Which percentiles a row may be about: how it is called, its key in the results, and the percentile.
const PERCENTILES: [(&str, &str, f64); 6] = [
    ("50th", "50_0", 50.0),
    ("90th", "90_0", 90.0),
    ("99th", "99_0", 99.0),
    ("99.9th", "99_9", 99.9),
    ("99.99th", "99_99", 99.99),
    ("100th", "100_0", 100.0),
];

/// All lines, those without a value included; processing times are left out unless asked for.
pub(super) fn rows(results: &Results, processing_time: bool) -> Vec<Row> {
    let mut rows = cluster_rows(&results.cluster);
    rows.extend(results.op_metrics.iter().flat_map(|task| task_rows(task, processing_time)));
    rows
}

/// All lines, each with its value for every cluster of `by_cluster`, or just the one of `results` if there are none.
pub(super) fn rows_by_cluster(
    results: &Results,
    by_cluster: &[Results],
    processing_time: bool,
) -> Vec<(Row, Vec<Option<f64>>)> {
    let of_clusters: Vec<Vec<Row>> = by_cluster.iter().map(|it| rows(it, processing_time)).collect();
    let values = |row: &Row| {
        if of_clusters.is_empty() {
            return vec![row.raw];
        }
        let same = |other: &&Row| (&other.metric, &other.task) == (&row.metric, &row.task);
        of_clusters.iter().map(|rows| rows.iter().find(same)?.raw).collect()
    };
    rows(results, processing_time).into_iter().map(|row| (row.clone(), values(&row))).collect()
}

fn cluster_rows(it: &ClusterResults) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut row = |metric: &str, task: &str, raw: Option<f64>, divisor: f64, unit: &str| {
        let unit = Unit::Scaled(divisor, unit.to_owned());
        rows.push(Row { metric: metric.to_owned(), task: task.to_owned(), raw, unit, kind: Kind::Cluster });
    };
    type Total<'a> = (&'a str, Option<f64>, Option<Option<f64>>, &'a Option<Spread>);
    let totals: [Total<'_>; 6] = [
        ("indexing", it.total_time, None, &it.total_time_per_shard),
        ("indexing throttle", it.indexing_throttle_time, None, &it.indexing_throttle_time_per_shard),
        ("merge", it.merge_time, Some(it.merge_count), &it.merge_time_per_shard),
        ("merge throttle", it.merge_throttle_time, None, &it.merge_throttle_time_per_shard),
        ("refresh", it.refresh_time, Some(it.refresh_count), &it.refresh_time_per_shard),
        ("flush", it.flush_time, Some(it.flush_count), &it.flush_time_per_shard),
    ];
    for (name, time, count, spread) in totals {
        row(&format!("Cumulative {name} time of primary shards"), "", time, MILLIS_PER_MINUTE, "min");
        if let Some(count) = count {
            row(&format!("Cumulative {name} count of primary shards"), "", count, 1.0, "");
        }
        let spread = spread.as_ref();
        for (which, value) in [
            ("Min", spread.and_then(|it| it.min)),
            ("Median", spread.and_then(|it| it.median)),
            ("Max", spread.and_then(|it| it.max)),
        ] {
            let metric = format!("{which} cumulative {name} time across primary shards");
            row(&metric, "", value, MILLIS_PER_MINUTE, "min");
        }
    }
    for job in &it.ml_processing_time {
        for (which, value) in [("Min", job.min), ("Mean", job.mean), ("Median", job.median), ("Max", job.max)] {
            row(&format!("{which} ML processing time"), &job.job, value, 1.0, &job.unit);
        }
    }
    for (collector, time, count) in [
        ("Young Gen", it.young_gc_time, it.young_gc_count),
        ("Old Gen", it.old_gc_time, it.old_gc_count),
        ("ZGC Cycles", it.zgc_cycles_gc_time, it.zgc_cycles_gc_count),
        ("ZGC Pauses", it.zgc_pauses_gc_time, it.zgc_pauses_gc_count),
    ] {
        row(&format!("Total {collector} GC time"), "", time, MILLIS_PER_SECOND, "s");
        row(&format!("Total {collector} GC count"), "", count, 1.0, "");
    }
    for (metric, size) in
        [("Dataset size", it.dataset_size), ("Store size", it.store_size), ("Translog size", it.translog_size)]
    {
        row(metric, "", size, GIBIBYTE, "GB");
    }
    for (what, size) in [
        ("segments", it.memory_segments),
        ("doc values", it.memory_doc_values),
        ("terms", it.memory_terms),
        ("norms", it.memory_norms),
        ("points", it.memory_points),
        ("stored fields", it.memory_stored_fields),
    ] {
        row(&format!("Heap used for {what}"), "", size, MEBIBYTE, "MB");
    }
    row("Segment count", "", it.segment_count, 1.0, "");
    let transforms: [(&str, &[TransformMean]); 4] = [
        ("Transform processing time", &it.total_transform_processing_times),
        ("Transform indexing time", &it.total_transform_index_times),
        ("Transform search time", &it.total_transform_search_times),
        ("Transform throughput", &it.total_transform_throughput),
    ];
    for (metric, means) in transforms {
        for mean in means {
            row(metric, &mean.id, Some(mean.mean), 1.0, &mean.unit);
        }
    }
    row("Total Ingest Pipeline count", "", it.ingest_pipeline_cluster_count, 1.0, "");
    row("Total Ingest Pipeline time", "", it.ingest_pipeline_cluster_time, MILLIS_PER_SECOND, "s");
    row("Total Ingest Pipeline failed", "", it.ingest_pipeline_cluster_failed, 1.0, "");
    rows.extend(disk_usage_rows(it));
    rows
}

/// By index; within an index by total, then by field.
fn disk_usage_rows(it: &ClusterResults) -> Vec<Row> {
    let kinds: [(&str, &[FieldUsage]); 7] = [
        ("inverted index", &it.disk_usage_inverted_index),
        ("stored fields", &it.disk_usage_stored_fields),
        ("doc values", &it.disk_usage_doc_values),
        ("points", &it.disk_usage_points),
        ("norms", &it.disk_usage_norms),
        ("term vectors", &it.disk_usage_term_vectors),
        ("total", &it.disk_usage_total),
    ];
    let mut fields: Vec<&FieldUsage> = it.disk_usage_total.iter().collect();
    fields.sort_by(|one, other| {
        let by_total = || one.value.total_cmp(&other.value);
        one.index.cmp(&other.index).then_with(by_total).then_with(|| one.field.cmp(&other.field))
    });
    let mut rows = Vec::new();
    for field in fields {
        for (kind, usage) in kinds {
            let found = usage.iter().find(|it| it.index == field.index && it.field == field.field);
            if let Some(found) = found {
                let metric = format!("{} {} {kind}", field.index, field.field);
                let raw = Some(found.value);
                rows.push(Row { metric, task: String::new(), raw, unit: Unit::Bytes, kind: Kind::Cluster });
            }
        }
    }
    rows
}

fn task_rows(task: &OperationMetrics, processing_time: bool) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut row = |metric: String, raw: Option<f64>, unit: &str, kind: Kind| {
        rows.push(Row { metric, task: task.task.clone(), raw, unit: Unit::Scaled(1.0, unit.to_owned()), kind });
    };
    let it = &task.throughput;
    for (which, value) in [("Min", it.min), ("Mean", it.mean), ("Median", it.median), ("Max", it.max)] {
        row(format!("{which} Throughput"), value.map(two_decimals), &it.unit, Kind::Throughput);
    }
    let times: [(&str, &Percentiles, TimeKind); 3] = [
        ("latency", &task.latency, TimeKind::Latency),
        ("service time", &task.service_time, TimeKind::ServiceTime),
        ("processing time", &task.processing_time, TimeKind::ProcessingTime),
    ];
    for (name, times, kind) in times {
        if kind == TimeKind::ProcessingTime && !processing_time {
            continue;
        }
        for (called, key, percentile) in PERCENTILES {
            let value = times.values.get(key).copied();
            row(format!("{called} percentile {name}"), value, "ms", Kind::Percentile(kind, percentile));
        }
    }
    row("error rate".to_owned(), Some(two_decimals(task.error_rate * 100.0)), "%", Kind::ErrorRate);
    rows
}

fn two_decimals(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
