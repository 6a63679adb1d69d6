//! Metrics as documents, with the fields of Rally's metrics store.

use serde_json::{Value, json};

use super::{OperationMetrics, RaceDocument, Results, SampleType, ThroughputSummary};
use crate::track::JsonObject;

/// Values of track parameters whose names begin so are secrets.
const SECRET_PREFIX: &str = "secret_";

/// Makes records of one race: what all of them have in common.
#[derive(Clone, Debug)]
pub struct RecordContext {
    common: JsonObject,
    meta: JsonObject,
}

/// A value of a request or of a task.
#[derive(Clone, Debug)]
pub struct TaskValue<'a> {
    /// Milliseconds since the epoch.
    pub epoch_millis: i64,
    /// Milliseconds since the start of the task's step.
    pub relative_millis: f64,
    /// `latency`, `service_time`, `processing_time` or `throughput`.
    pub name: &'a str,
    /// The value.
    pub value: f64,
    /// Its unit.
    pub unit: &'a str,
    /// Whether it counts.
    pub sample_type: SampleType,
    /// The task.
    pub task: &'a str,
    /// Its operation.
    pub operation: &'a str,
    /// The type of the operation.
    pub operation_type: &'a str,
    /// What is known of it beside.
    pub meta: JsonObject,
}

impl RecordContext {
    /// For the records of this race; `cluster` is what is known of the cluster under test, such as `source_revision`.
    #[must_use]
    pub fn new(race: &RaceDocument, cluster: &JsonObject) -> Self {
        let mut common = JsonObject::new();
        common.insert("race-id".to_owned(), json!(race.race_id));
        common.insert("race-timestamp".to_owned(), json!(race.race_timestamp));
        common.insert("environment".to_owned(), json!(race.environment));
        common.insert("track".to_owned(), json!(race.track));
        common.insert("challenge".to_owned(), json!(race.challenge_name()));
        common.insert("car".to_owned(), json!(race.car.join("+")));
        if !race.track_params.is_empty() {
            common.insert("track-params".to_owned(), Value::Object(without_secrets(&race.track_params)));
        }
        let tags = race.user_tags.iter().map(|(key, value)| (format!("tag_{key}"), value.clone()));
        Self { common, meta: cluster.clone().into_iter().chain(tags).collect() }
    }

    /// The record of a telemetry device with everything that belongs to the race. A device sends `name`, `@timestamp`, and
    /// either `value` with `unit` or fields of its own.
    #[must_use]
    pub fn telemetry(&self, mut record: JsonObject) -> JsonObject {
        let given = match record.remove("meta") {
            Some(Value::Object(meta)) => meta,
            Some(_) | None => JsonObject::new(),
        };
        if record.contains_key("value") {
            record.entry("sample-type").or_insert_with(|| json!(SampleType::Normal));
        }
        self.complete(record, given)
    }

    /// The record of a request or a task.
    #[must_use]
    pub fn task_value(&self, it: TaskValue<'_>) -> JsonObject {
        let mut record = JsonObject::new();
        record.insert("@timestamp".to_owned(), json!(it.epoch_millis));
        record.insert("relative-time".to_owned(), json!(it.relative_millis));
        record.insert("name".to_owned(), json!(it.name));
        record.insert("value".to_owned(), json!(it.value));
        record.insert("unit".to_owned(), json!(it.unit));
        record.insert("sample-type".to_owned(), json!(it.sample_type));
        record.insert("task".to_owned(), json!(it.task));
        record.insert("operation".to_owned(), json!(it.operation));
        record.insert("operation-type".to_owned(), json!(it.operation_type));
        self.complete(record, it.meta)
    }

    fn complete(&self, mut record: JsonObject, given: JsonObject) -> JsonObject {
        // What a device says must not pass for another race.
        record.extend(self.common.clone());
        let mut meta = self.meta.clone();
        meta.extend(given);
        if !meta.is_empty() {
            record.insert("meta".to_owned(), Value::Object(meta));
        }
        record
    }
}

fn without_secrets(params: &JsonObject) -> JsonObject {
    let hide = |(key, value): (&String, &Value)| {
        let value = if key.starts_with(SECRET_PREFIX) { json!("<hidden>") } else { value.clone() };
        (key.clone(), value)
    };
    params.iter().map(hide).collect()
}

/// The result documents of a race, one for each result that it has.
#[must_use]
pub fn result_documents(race: &RaceDocument) -> Vec<JsonObject> {
    let Some(results) = &race.results else { return Vec::new() };
    let common = common_of_results(race);
    let document = |item: Value| {
        let mut document = common.clone();
        if let Value::Object(item) = item {
            document.extend(item);
        }
        document
    };
    let mut documents: Vec<_> = if race.results_by_cluster.is_empty() {
        results.op_metrics.iter().flat_map(task_items).map(document).collect()
    } else {
        // As Rally has it, each cluster has results of its own, and there are none of all together.
        let of_cluster = |it: &Results| {
            let items: Vec<_> = it.op_metrics.iter().flat_map(task_items).collect();
            let cluster = json!(it.cluster_name);
            items.into_iter().map(move |mut item| {
                item["cluster"] = cluster.clone();
                item
            })
        };
        race.results_by_cluster.iter().flat_map(of_cluster).map(document).collect()
    };
    documents.extend(cluster_items(results).into_iter().map(document));
    documents
}

fn common_of_results(race: &RaceDocument) -> JsonObject {
    let mut common = JsonObject::new();
    let version = race.distribution_version();
    for (key, value) in [
        ("@timestamp", json!(race.epoch_millis)),
        ("rally-version", json!(race.rally_version)),
        ("rally-revision", json!(race.rally_revision)),
        ("environment", json!(race.environment)),
        ("race-id", json!(race.race_id)),
        ("race-timestamp", json!(race.race_timestamp)),
        ("distribution-version", json!(version)),
        ("distribution-flavor", race.cluster.get("distribution-flavor").cloned().unwrap_or_default()),
        ("user-tags", json!(race.user_tags)),
        ("track", json!(race.track)),
        ("challenge", json!(race.challenge_name())),
        ("car", json!(race.car.join("+"))),
        ("active", json!(true)),
    ] {
        common.insert(key.to_owned(), value);
    }
    let major = version.and_then(|version| version.split('.').next()?.parse::<u32>().ok());
    for (key, value) in [
        ("distribution-major-version", major.map(|major| json!(major))),
        ("team-revision", race.cluster.get("team-revision").cloned()),
        ("target-id", race.cluster.get("target-id").cloned()),
        ("target-platform", race.cluster.get("target-platform").cloned()),
        ("target-auth-type", race.cluster.get("target-auth-type").cloned()),
        ("track-revision", race.track_revision.as_ref().map(|revision| json!(revision))),
        ("track-params", (!race.track_params.is_empty()).then(|| Value::Object(without_secrets(&race.track_params)))),
    ] {
        if let Some(value) = value {
            common.insert(key.to_owned(), value);
        }
    }
    common
}

fn task_items(it: &OperationMetrics) -> Vec<Value> {
    let item = |name: &str, value: Value| {
        let mut item = json!({"task": it.task, "operation": it.operation, "name": name, "value": value});
        if !it.meta.is_empty() {
            item["meta"] = json!(it.meta);
        }
        item
    };
    let ThroughputSummary { min, mean, median, max, unit } = &it.throughput;
    vec![
        item("throughput", json!({"min": min, "mean": mean, "median": median, "max": max, "unit": unit})),
        item("latency", json!(it.latency)),
        item("service_time", json!(it.service_time)),
        item("processing_time", json!(it.processing_time)),
        item("error_rate", json!({"single": it.error_rate})),
        item("duration", json!({"single": it.duration})),
    ]
}

fn cluster_items(results: &Results) -> Vec<Value> {
    let Ok(Value::Object(fields)) = serde_json::to_value(&results.cluster) else { return Vec::new() };
    let mut items = Vec::new();
    for (name, value) in fields {
        match value {
            Value::Number(single) => items.push(json!({"name": name, "value": {"single": single}})),
            Value::Object(spread) => items.push(json!({"name": name, "value": spread})),
            Value::Array(entries) => items.extend(entries.into_iter().filter_map(|mut entry| {
                let fields = entry.as_object_mut()?;
                fields.remove("unit");
                let value = match ["mean", "value"]
                    .into_iter()
                    .find(|key| name != "ml_processing_time" && fields.contains_key(*key))
                {
                    Some(key) => json!({"single": fields.remove(key)}),
                    None => {
                        let times = ["min", "mean", "median", "max"];
                        Value::Object(
                            times.into_iter().filter_map(|key| Some((key.to_owned(), fields.remove(key)?))).collect(),
                        )
                    }
                };
                fields.insert("name".to_owned(), json!(name));
                fields.insert("value".to_owned(), value);
                Some(entry)
            })),
            Value::Null | Value::Bool(_) | Value::String(_) => {}
        }
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{ClusterResults, FieldUsage, JobTimes, Percentiles, Spread, TransformMean};

    fn race() -> RaceDocument {
        let results = Results {
            cluster_name: "default".to_owned(),
            op_metrics: vec![OperationMetrics {
                task: "t".to_owned(),
                operation: "o".to_owned(),
                throughput: ThroughputSummary { unit: "docs/s".to_owned(), ..Default::default() },
                latency: Percentiles::default(),
                service_time: Percentiles::default(),
                processing_time: Percentiles::default(),
                error_rate: 0.5,
                duration: 10.0,
                meta: JsonObject::new(),
            }],
            cluster: ClusterResults {
                merge_time: Some(3.0),
                merge_time_per_shard: Some(Spread { min: Some(1.0), ..Spread::default() }),
                ml_processing_time: vec![JobTimes { job: "j".to_owned(), mean: Some(2.0), ..JobTimes::default() }],
                total_transform_throughput: vec![TransformMean {
                    id: "x".to_owned(),
                    mean: 7.0,
                    unit: "docs/s".into(),
                }],
                disk_usage_total: vec![FieldUsage {
                    index: "i".into(),
                    field: "f".into(),
                    value: 9.0,
                    unit: "byte".into(),
                }],
                ..ClusterResults::default()
            },
        };
        serde_json::from_value(json!({
            "@timestamp": 5, "rally-version": "1", "rally-revision": null, "environment": "local", "race-id": "r",
            "race-timestamp": "20261101T000000Z", "pipeline": "benchmark-only", "track": "geonames",
            "user-tags": {"setup": "x"}, "car": ["external"], "cluster": {"distribution-version": "8.15.0"},
            "track-params": {"secret_key": "s", "size": 3}, "results": results,
        }))
        .unwrap()
    }

    #[test]
    fn a_record_has_the_fields_of_its_race_and_no_secret() {
        let cluster = JsonObject::from_iter([("target_id".to_owned(), json!("docker"))]);
        let context = RecordContext::new(&race(), &cluster);
        let record =
            json!({"@timestamp": 7, "name": "segments_count", "value": 3, "race-id": "other", "meta": {"a": 1}});
        let Value::Object(record) = record else { unreachable!() };
        let expected = json!({
            "@timestamp": 7, "name": "segments_count", "value": 3, "race-id": "r", "sample-type": "normal",
            "race-timestamp": "20261101T000000Z", "environment": "local", "track": "geonames", "challenge": "default",
            "car": "external", "track-params": {"secret_key": "<hidden>", "size": 3}, "meta": {"target_id": "docker", "tag_setup": "x", "a": 1},
        });
        assert_eq!(Value::Object(context.telemetry(record)), expected);
    }

    #[test]
    fn each_result_becomes_a_document_of_its_own() {
        let documents = result_documents(&race());
        let short: Vec<_> = documents.iter().map(|it| json!([it["name"], it["value"]])).collect();
        assert_eq!(documents[0]["distribution-major-version"], 8);
        assert_eq!(short[4], json!(["error_rate", {"single": 0.5}]));
        assert_eq!(
            short[6..],
            [
                json!(["merge_time", {"single": 3.0}]),
                json!(["merge_time_per_shard", {"min": 1.0}]),
                json!(["ml_processing_time", {"min": null, "mean": 2.0, "median": null, "max": null}]),
                json!(["total_transform_throughput", {"single": 7.0}]),
                json!(["disk_usage_total", {"single": 9.0}]),
            ]
        );
        assert_eq!((&documents[9]["id"], &documents[10]["field"]), (&json!("x"), &json!("f")));
    }

    #[test]
    fn of_several_clusters_each_has_documents_of_its_own() {
        let mut race = race();
        let of = |name: &str| Results { cluster_name: name.to_owned(), ..race.results.clone().unwrap() };
        race.results_by_cluster = vec![of("a"), of("b")];
        let documents = result_documents(&race);
        let rates = documents.iter().filter(|it| it["name"] == "error_rate").map(|it| it["cluster"].clone());
        assert_eq!(rates.collect::<Vec<_>>(), ["a", "b"]);
    }
}
