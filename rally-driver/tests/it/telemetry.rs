//! Telemetry devices in a race: what they tell, and what is told if they cannot.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rally_core::track::{JsonObject, Operation, Task, TaskBuilder, Track};
use rally_core::{DriverEventKind, JoinPoint, LoadDriver, RacePlan, StopMode};
use rally_driver::client::{Client, ClientOptions, MediaTypes, Request};
use rally_driver::{DriverOptions, Registry, RequestTimer, telemetry_devices};
use serde_json::{Value, json};

use crate::fixture::{self, Race, challenge};
use crate::server::Server;
use crate::target::{Act, Target};

fn request() -> TaskBuilder {
    Task::builder(Operation::builder("raw-request").property("path", "/_cluster/health"))
}

fn plan(task: TaskBuilder, address: &str) -> RacePlan {
    let mut plan = fixture::plan(challenge().task(task));
    plan.target_hosts.insert("default".to_owned(), vec![address.to_owned()]);
    plan.client_options.insert("default".to_owned(), JsonObject::new());
    plan
}

/// What devices have told so far.
#[derive(Debug, Default)]
struct Heard {
    records: Vec<Value>,
    notices: Vec<String>,
}

impl Heard {
    fn take(&mut self, kind: DriverEventKind) {
        match kind {
            DriverEventKind::Telemetry { json } => {
                self.records.extend(serde_json::from_slice::<Vec<Value>>(&json).unwrap());
            }
            DriverEventKind::Noticed { message } if message.contains("telemetry") || message.contains("clean") => {
                self.notices.push(message)
            }
            _ => {}
        }
    }

    fn names(&self) -> BTreeSet<&str> {
        self.records.iter().filter_map(|record| record["name"].as_str()).collect()
    }

    /// Notices by their device; one notice may be of several that failed of the same.
    fn failed(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut failed: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for notice in &self.notices {
            let devices = notice.split(" at cluster ").next().unwrap_or_default();
            devices.split('`').skip(1).step_by(2).for_each(|device| failed.entry(device).or_default().push(notice));
        }
        failed
    }
}

async fn prepare(plan: &RacePlan, adjust: impl FnOnce(&mut DriverOptions)) -> Race {
    Race::prepare_observing(Registry::rally(), plan, 1, 0..1, true, adjust).await
}

/// Takes events until one of this kind comes.
async fn hear_until(race: &mut Race, heard: &mut Heard, end: impl Fn(&DriverEventKind) -> bool) {
    while let Some(kind) = race.next().await {
        let is_end = end(&kind);
        heard.take(kind);
        if is_end {
            return;
        }
    }
    panic!("the race ended: {heard:?}");
}

/// Runs a race of one step to its end.
async fn hear(plan: &RacePlan, adjust: impl FnOnce(&mut DriverOptions)) -> Heard {
    let mut heard = Heard::default();
    let mut race = prepare(plan, adjust).await;
    hear_until(&mut race, &mut heard, |kind| *kind == DriverEventKind::Prepared).await;
    race.begin(1).await;
    hear_until(&mut race, &mut heard, |kind| matches!(kind, DriverEventKind::Reached { .. })).await;
    race.stop(StopMode::Drain).await.others.into_iter().for_each(|kind| heard.take(kind));
    heard
}

const GARBAGE: &str = "GET /_nodes/stats/jvm";
const INGEST: &str = "GET /_nodes/stats/ingest";

fn garbage(count: u64) -> Value {
    let collectors = json!({ "young": { "collection_count": count, "collection_time_in_millis": count } });
    json!({ "nodes": { "id": { "name": "n", "jvm": {
        "gc": { "collectors": collectors }, "mem": { "pools": { "old": { "peak_used_in_bytes": 7 } } },
    } } } })
}

fn ingested(count: u64) -> Value {
    json!({ "cluster_name": "es", "nodes": { "id": { "name": "n", "ingest": { "total": { "count": count } } } } })
}

#[tokio::test]
async fn without_a_first_look_nothing_is_told_of_the_race_and_the_reason_is_said_once() {
    let looks = [AtomicUsize::new(0), AtomicUsize::new(0)];
    let target = Target::start(move |seen| {
        let is_first = |device: usize| looks[device].fetch_add(1, Ordering::Relaxed) == 0;
        match seen.line() {
            GARBAGE if is_first(0) => Act::Answer(500, "no time".to_owned()),
            GARBAGE => Act::Answer(200, garbage(900).to_string()),
            INGEST if is_first(1) => Act::Answer(500, "no time".to_owned()),
            INGEST => Act::Answer(200, ingested(800).to_string()),
            _ => Act::ok(),
        }
    })
    .await;
    let heard = hear(&plan(request(), &target.address), |_| ()).await;
    let failed = heard.failed();
    for device in ["jvm-summary", "ingest-pipeline-stats"] {
        assert!(matches!(failed[device][..], [one] if one.contains("HTTP status 500")), "{heard:?}");
    }
    let names = heard.names();
    assert!(names.contains("jvm_memory_pool_stats"), "peaks are no differences: {heard:?}");
    let differences = names.iter().filter(|name| name.contains("_gc_") || name.starts_with("ingest_pipeline")).count();
    assert_eq!(differences, 0, "{heard:?}");
}

#[tokio::test]
async fn each_of_several_clusters_that_are_loaded_at_once_is_looked_at_by_its_name() {
    let answers = |seconds| {
        Target::start(move |seen| match seen.line() {
            INGEST => Act::Answer(200, ingested(seconds).to_string()),
            _ => Act::ok(),
        })
    };
    let (here, there) = (answers(1).await, answers(2).await);
    let mut plan = plan(request(), &here.address);
    plan.target_hosts.insert("remote".to_owned(), vec![there.address.clone()]);
    plan.client_options.insert("remote".to_owned(), JsonObject::new());
    plan.multi_cluster = true;
    let heard = hear(&plan, |_| ()).await;
    let counts = heard.records.iter().filter(|record| record["name"] == "ingest_pipeline_cluster_count");
    let clusters: Vec<_> = counts.map(|record| record["meta"]["cluster"].as_str().unwrap()).collect();
    assert_eq!(clusters, ["default", "remote"], "{heard:?}");
    assert!(heard.records.iter().all(|record| record["meta"]["cluster"].is_string()), "{heard:?}");
}

#[tokio::test]
async fn devices_look_at_the_same_time_so_that_none_waits_for_a_slow_one() {
    let target = Target::start(|seen| match seen.line() {
        // One after the other, the second one would never be asked.
        GARBAGE => Act::AfterSeeing(INGEST, garbage(1).to_string()),
        INGEST => Act::Answer(200, ingested(1).to_string()),
        _ => Act::ok(),
    })
    .await;
    let mut plan = plan(request(), &target.address);
    plan.client_options.insert("default".to_owned(), json!({ "timeout": 20 }).as_object().unwrap().clone());
    let heard = hear(&plan, |_| ()).await;
    assert_eq!(heard.failed().keys().filter(|device| **device == "jvm-summary").count(), 0, "{heard:?}");
    assert!(heard.names().contains("node_total_young_gen_gc_count"), "{heard:?}");
}

#[tokio::test]
async fn devices_that_end_before_the_race_are_missed_and_the_race_goes_on() {
    let target = Target::start(|_| Act::ok()).await;
    let heard = hear(&plan(request(), &target.address), |options| {
        let clock = Arc::clone(&options.clock);
        options.clock = Arc::new(move || {
            assert_ne!(thread::current().name(), Some("telemetry"), "no time for devices");
            clock()
        });
    })
    .await;
    assert!(
        matches!(&heard.notices[..], [one] if one.starts_with("the telemetry devices have ended before the race did")
            && one.contains("it panicked: ") && one.contains("no time for devices")),
        "{heard:?}"
    );
    assert_eq!(target.seen().iter().filter(|seen| seen.line() == "GET /_cluster/health").count(), 1);
}

/// A cluster that has indexed for long, as one has while a race runs.
const USED: &str = r#"{"_all": {"primaries": {"indexing": {"index_time_in_millis": 9000}}, "total": {}}}"#;

#[tokio::test]
async fn a_driver_takes_the_telemetry_over_while_it_applies_load_and_at_the_end_of_the_race() {
    let target = Target::start(|seen| match seen.line() {
        GARBAGE => Act::Answer(200, garbage(1).to_string()),
        "GET /_stats/_all?level=shards" => Act::Answer(200, USED.to_owned()),
        _ => Act::ok(),
    })
    .await;
    let is_attached = |kind: &DriverEventKind| *kind == DriverEventKind::TelemetryAttached { has_devices: true };
    let has_reached = |kind: &DriverEventKind| matches!(kind, DriverEventKind::Reached { .. });
    for is_driving in [true, false] {
        let task = request().time_period(Duration::from_secs(3_600)).target_throughput(50.0);
        let plan = plan(task, &target.address);
        let mut heard = Heard::default();
        let mut race = Race::prepare_observing(Registry::rally(), &plan, 1, 0..1, false, |_| ()).await;
        hear_until(&mut race, &mut heard, |kind| *kind == DriverEventKind::Prepared).await;
        race.begin(1).await;
        if !is_driving {
            race.driver.complete_step(&race.id, JoinPoint(1)).await.unwrap();
            hear_until(&mut race, &mut heard, has_reached).await;
        }
        race.driver.attach_telemetry(&race.id).await.unwrap();
        hear_until(&mut race, &mut heard, is_attached).await;
        // The request may come twice.
        race.driver.attach_telemetry(&race.id).await.unwrap();
        race.driver.complete_step(&race.id, JoinPoint(1)).await.unwrap();
        hear_until(&mut race, &mut heard, has_reached).await;
        let rest = race.stop(StopMode::Drain).await.others;
        assert!(!rest.iter().any(is_attached), "{rest:?}");
        let names = heard.names();
        assert!(names.contains("indexing_total_time") && names.contains("node_total_young_gen_gc_count"), "{heard:?}");
        let unclean = |notice: &&String| notice.contains("not clean");
        assert_eq!(heard.notices.iter().filter(unclean).count(), 0, "it is no state before the race: {heard:?}");
    }
}

#[tokio::test]
async fn a_driver_of_a_race_without_a_cluster_has_no_telemetry_to_take_over() {
    let (registry, _) = fixture::scripted(|_| fixture::takes(0));
    let mut race = Race::prepare(registry, &fixture::plan(challenge().task(fixture::task("a"))), 1).await;
    race.prepared().await;
    race.begin(1).await;
    race.until_reached().await;
    race.driver.attach_telemetry(&race.id).await.unwrap();
    let told = race.until_reached().await;
    assert_eq!(told.others, [DriverEventKind::TelemetryAttached { has_devices: false }]);
    race.stop(StopMode::Drain).await;
}

#[tokio::test]
async fn devices_have_ended_when_the_race_has() {
    let target = Target::start(|_| Act::ok()).await;
    let alive = Arc::new(());
    let witness = Arc::clone(&alive);
    let heard = hear(&plan(request().iterations(2), &target.address), |options| {
        let clock = Arc::clone(&options.clock);
        options.clock = Arc::new(move || {
            let _held = Arc::clone(&witness);
            clock()
        });
    })
    .await;
    assert_eq!(heard.failed().get("cluster-environment"), None);
    // The options are gone with the driver, and nobody else has the clock any more.
    assert_eq!(Arc::strong_count(&alive), 1);
}

#[tokio::test]
async fn every_device_tells_what_a_server_answers_and_once_what_it_does_not() {
    let Some(server) = Server::start("telemetry").await else { return };
    let hosts = [server.address().to_owned()];
    let client =
        Client::new(&hosts, ClientOptions::default(), MediaTypes::default(), 0, RequestTimer::default().into())
            .unwrap();
    for (method, path, body) in [
        ("PUT", "/_ingest/pipeline/mark", json!({ "processors": [{ "set": { "field": "m", "value": 1 } }] })),
        ("PUT", "/logs/_doc/1?refresh=true&pipeline=mark", json!({ "message": "one" })),
        ("PUT", "/_index_template/s", json!({ "index_patterns": ["s-*"], "data_stream": {} })),
        ("POST", "/s-a/_doc?refresh=true", json!({ "@timestamp": "2024-01-01T00:00:00Z", "message": "two" })),
    ] {
        client.request(&Request::new(method, path).json(body.to_string())).await.unwrap();
    }
    let mut plan = plan(request().time_period(Duration::from_secs(3_600)).target_throughput(50.0), server.address());
    plan.track.indices =
        Track::builder("t").index("logs", json!({})).challenge(challenge().task(request())).build().unwrap().indices;
    let devices = telemetry_devices().iter().filter(|device| !device.of_nodes).map(|device| device.name);
    plan.telemetry = devices.map(str::to_owned).collect();
    for device in plan.telemetry.iter().map(String::as_str).chain(["master-node-stats"]) {
        plan.telemetry_params.insert(format!("{device}-sample-interval"), json!(0.05));
    }
    let mut heard = Heard::default();
    let mut race = prepare(&plan, |_| ()).await;
    hear_until(&mut race, &mut heard, |kind| *kind == DriverEventKind::Prepared).await;
    race.begin(1).await;
    let sampled = ["node-stats", "recovery-stats", "shard-stats", "master-node-stats"];
    let missing =
        ["ccr-stats", "transform-stats", "searchable-snapshots-stats", "data-stream-stats", "blob-store-stats"];
    while !sampled.iter().all(|name| heard.names().contains(name))
        || !missing.iter().all(|device| heard.failed().contains_key(device))
    {
        let kind = race.next().await.unwrap();
        heard.take(kind);
    }
    race.driver.complete_step(&race.id, JoinPoint(1)).await.unwrap();
    hear_until(&mut race, &mut heard, |kind| matches!(kind, DriverEventKind::Reached { .. })).await;
    race.stop(StopMode::Drain).await.others.into_iter().for_each(|kind| heard.take(kind));
    let names = heard.names();
    for name in [
        "cluster_environment",
        "node_environment",
        "shared_node_environment",
        "node_young_gen_gc_count",
        "node_young_gen_gc_time",
        "node_total_old_gen_gc_count",
        "node_total_old_gen_gc_time",
        "jvm_memory_pool_stats",
        "segments_count",
        "segments_memory_in_bytes",
        "merges_total_time",
        "merges_total_throttled_time",
        "merges_total_count",
        "indexing_total_time",
        "indexing_throttle_time",
        "refresh_total_time",
        "refresh_total_count",
        "flush_total_time",
        "flush_total_count",
        "dataset_size_in_bytes",
        "store_size_in_bytes",
        "translog_size_in_bytes",
        "ingest_pipeline_cluster_count",
        "ingest_pipeline_cluster_time",
        "ingest_pipeline_cluster_failed",
        "ingest_pipeline_node_count",
        "segment-stats",
        "disk_usage_total",
        "disk_usage_inverted_index",
        "disk_usage_stored_fields",
        "disk_usage_doc_values",
    ] {
        assert!(names.contains(name), "{name} is missing in {names:#?}");
    }
    let failed = heard.failed();
    assert_eq!(failed.keys().copied().collect::<BTreeSet<_>>(), missing.into_iter().chain(["geoip-stats"]).collect());
    for (device, notices) in failed {
        assert!(matches!(notices[..], [one] if one.contains(": HTTP status 40")), "{device}: {notices:?}");
    }
}
