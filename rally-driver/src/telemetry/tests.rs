use std::fs;

use indexmap::IndexMap;
use rally_core::RacePlan;
use rally_core::track::{Challenge, JsonObject, Operation, Task, Track};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::device::object;
use super::environment::ClusterEnvironment;
use super::*;
use crate::RunnerError;

/// A plan whose cluster answers from this table of paths and bodies.
fn plan(directory: &tempfile::TempDir, answers: &[(&str, Value)]) -> RacePlan {
    let file = directory.path().join(format!("{}.json", fs::read_dir(directory).unwrap().count()));
    let answers: Vec<Value> = answers.iter().map(|(path, body)| json!({ "path": path, "body": body })).collect();
    fs::write(&file, Value::from(answers).to_string()).unwrap();
    let challenge = Challenge::builder("c").task(Task::builder(Operation::builder("sleep")));
    let track = Track::builder("t").index("logs", json!({})).challenge(challenge).build().unwrap();
    RacePlan {
        client_options: IndexMap::from([("default".to_owned(), object(json!({ "static_responses": file })))]),
        ..RacePlan::new(track, "c").target(["localhost:9200"])
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// What a device reports: before the race with the first answers, then a sample and its last words with the second ones.
fn reports(name: &str, params: Value, before: &[(&str, Value)], after: &[(&str, Value)]) -> [Vec<Value>; 3] {
    let directory = tempfile::tempdir().unwrap();
    let mut before = plan(&directory, before);
    before.telemetry_params = object(params);
    if selection::telemetry_devices().iter().any(|device| device.name == name) {
        before.telemetry.push(name.to_owned());
    }
    let after = plan(&directory, after);
    block_on(async {
        let mut devices = selection::devices(&before, "default");
        let device = devices.iter_mut().find(|device| device.name() == name).unwrap();
        let mut all = [Records::default(), Records::default(), Records::default()];
        let cluster = Cluster::new(&before, "default").await.unwrap();
        device.before(&cluster, &mut all[0]).await.unwrap();
        let cluster = Cluster::new(&after, "default").await.unwrap();
        device.sample(&cluster, &mut all[1]).await.unwrap();
        device.after(&cluster, &mut all[2]).await.unwrap();
        all.map(|records| {
            let (records, notices) = records.into_parts();
            records.into_iter().map(Value::Object).chain(notices.into_iter().map(Value::String)).collect()
        })
    })
}

fn value(name: &str, value: u64, unit: &str, meta: Value) -> Value {
    let mut record = json!({ "name": name, "value": value, "level": "cluster" });
    if !unit.is_empty() {
        record["unit"] = json!(unit);
    }
    if meta != json!({}) {
        record["meta"] = meta;
    }
    record
}

fn node_value(node: &str, name: &str, number: u64, unit: &str, meta: Value) -> Value {
    let mut record = value(name, number, unit, meta);
    (record["level"], record["node"]) = (json!("node"), json!(node));
    record
}

#[test]
fn garbage_collection_is_what_happened_during_the_race_by_node_and_in_all() {
    let stats = |young: u64, cycles: u64| {
        let collectors = json!({
            "young": { "collection_count": young, "collection_time_in_millis": 10 * young },
            "ZGC Cycles": { "collection_count": cycles, "collection_time_in_millis": cycles },
        });
        let pools = json!({ "old": { "peak_used_in_bytes": 7 } });
        json!({ "nodes": { "id": { "name": "n", "jvm": { "gc": { "collectors": collectors }, "mem": { "pools": pools } } } } })
    };
    let path = "/_nodes/stats/jvm";
    let [before, sample, after] = reports("jvm-summary", json!({}), &[(path, stats(3, 9))], &[(path, stats(5, 4))]);
    assert_eq!((before, sample), (vec![], vec![]));
    let none = || json!({});
    let expected = [
        node_value("n", "node_zgc_cycles_gc_time", 0, "ms", none()),
        node_value("n", "node_zgc_cycles_gc_count", 0, "", none()),
        node_value("n", "node_young_gen_gc_time", 20, "ms", none()),
        node_value("n", "node_young_gen_gc_count", 2, "", none()),
        json!({ "name": "jvm_memory_pool_stats", "old": { "peak_usage": 7, "unit": "byte" }, "level": "node", "node": "n" }),
        value("node_total_young_gen_gc_time", 20, "ms", none()),
        value("node_total_young_gen_gc_count", 2, "", none()),
        value("node_total_zgc_cycles_gc_time", 0, "ms", none()),
        value("node_total_zgc_cycles_gc_count", 0, "", none()),
    ];
    assert_eq!(after.len(), expected.len(), "{after:#?}");
    for record in expected {
        assert!(after.contains(&record), "{record} is missing in {after:#?}");
    }
}

/// Never gets an answer before the race.
struct Waiting {
    before: Option<()>,
}

#[async_trait::async_trait(?Send)]
impl Device for Waiting {
    fn name(&self) -> &'static str {
        "waiting"
    }

    async fn before(&mut self, _: &Cluster, _: &mut Records) -> Result<(), RunnerError> {
        std::future::pending::<()>().await;
        self.before = Some(());
        Ok(())
    }

    async fn after(&mut self, _: &Cluster, records: &mut Records) -> Result<(), RunnerError> {
        device::first_look(self.before.as_ref())?;
        records.value("difference", 1, "", JsonObject::new());
        Ok(())
    }
}

#[test]
fn a_device_whose_first_look_took_too_long_says_so_once_and_tells_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let plan = plan(&directory, &[]);
    block_on(async {
        let (found, mut received) = mpsc::channel(100);
        let report = Report {
            clock: Arc::new(|| rally_core::ClusterTime::from_nanos(0)),
            found,
            failures: Failures::default(),
            names_clusters: false,
        };
        let cluster = Rc::new(Cluster::new(&plan, "default").await.unwrap());
        let mut device = Attached::new(Box::new(Waiting { before: None }), &cluster);
        device.attach(Since::Beginning, Duration::from_millis(1), &report).await;
        assert!(!device.look(Moment::After, &report).await);
        report.tell_failures().await;
        drop(report);
        let notice =
            "telemetry device `waiting` at cluster `default`: the cluster did not answer within 1ms before the race";
        assert_eq!(received.recv().await, Some(Found::Notice(notice.to_owned())));
        assert_eq!(received.recv().await, None);
    });
}

#[test]
fn differences_need_a_first_look() {
    let directory = tempfile::tempdir().unwrap();
    let collectors = json!({ "young": { "collection_count": 900, "collection_time_in_millis": 900 } });
    let node =
        json!({ "name": "n", "jvm": { "gc": { "collectors": collectors } }, "ingest": { "total": { "count": 900 } } });
    let stats = json!({ "nodes": { "id": node } });
    let plan = plan(&directory, &[("/_nodes/stats/jvm", stats.clone()), ("/_nodes/stats/ingest", stats)]);
    block_on(async {
        let cluster = Cluster::new(&plan, "default").await.unwrap();
        for mut device in selection::devices(&plan, "default") {
            if ["jvm-summary", "ingest-pipeline-stats"].contains(&device.name()) {
                let mut records = Records::default();
                let error = device.after(&cluster, &mut records).await.unwrap_err().to_string();
                assert!(error.starts_with("it has not seen the cluster before the race"), "{error}");
                assert_eq!(records.into_parts(), (Vec::new(), Vec::new()));
            }
        }
    });
}

#[test]
fn counters_that_make_no_sense_are_added_up_to_the_highest_one() {
    let garbage = |count: u64| {
        let collectors = json!({ "young": { "collection_count": count, "collection_time_in_millis": count } });
        let node = |name: &str| json!({ "name": name, "jvm": { "gc": { "collectors": collectors } } });
        json!({ "nodes": { "1": node("a"), "2": node("b") } })
    };
    let path = "/_nodes/stats/jvm";
    let answers = [[(path, garbage(0))], [(path, garbage(u64::MAX))]];
    let [.., after] = reports("jvm-summary", json!({}), &answers[0], &answers[1]);
    assert!(after.contains(&value("node_total_young_gen_gc_time", u64::MAX, "ms", json!({}))), "{after:#?}");
    assert!(after.contains(&value("node_total_young_gen_gc_count", u64::MAX, "", json!({}))), "{after:#?}");

    let ingested = |count: u64| {
        let node = |name: &str| json!({ "name": name, "ingest": { "total": { "count": count } } });
        json!({ "cluster_name": "es", "nodes": { "1": node("a"), "2": node("b") } })
    };
    let path = "/_nodes/stats/ingest";
    let answers = [[(path, ingested(0))], [(path, ingested(u64::MAX))]];
    let [.., after] = reports("ingest-pipeline-stats", json!({}), &answers[0], &answers[1]);
    let expected = value("ingest_pipeline_cluster_count", u64::MAX, "", json!({ "cluster_name": "es" }));
    assert!(after.contains(&expected), "{after:#?}");
}

#[test]
fn names_in_paths_are_encoded() {
    let recovery = json!({ "x": { "shards": [{ "id": 1 }] } });
    let params = json!({ "recovery-stats-indices": ["<logs-{now/d}>", "a*"] });
    let answers = [("/%3Clogs-%7Bnow%2Fd%7D%3E,a*/_recovery", recovery)];
    let [_, sample, _] = reports("recovery-stats", params, &[], &answers);
    assert_eq!(sample.len(), 1);
    let usage = json!({ "x": { "fields": { "f": { "total_in_bytes": 1 } } } });
    let params = json!({ "disk-usage-stats-indices": ["<logs-{now/d}>"] });
    let [.., usage] = reports("disk-usage-stats", params, &[], &[("/%3Clogs-%7Bnow%2Fd%7D%3E/_disk_usage", usage)]);
    assert_eq!(usage.len(), 1);
    let answers = [
        ("/_cluster/state/master_node", json!({ "master_node": "a/b c" })),
        ("/_nodes/a%2Fb%20c/os", json!({ "nodes": { "a/b c": { "name": "n" } } })),
    ];
    let [_, sample, _] = reports("master-node-stats", json!({}), &[], &answers);
    assert_eq!(sample[0]["node"], "n");
}

#[test]
fn index_statistics_are_those_at_the_end_with_the_times_of_primary_shards() {
    let shard = |primary: bool, millis: u64| json!({ "routing": { "primary": primary }, "merges": { "total_time_in_millis": millis } });
    let stats = json!({
        "_all": {
            "primaries": {
                "segments": { "count": 5, "memory_in_bytes": 11 },
                "merges": { "total": 2, "total_time_in_millis": 2_500 },
                "indexing": { "index_time_in_millis": 30 },
            },
            "total": { "store": { "size_in_bytes": 900 } },
        },
        "indices": { "logs": { "shards": { "0": [shard(true, 1_000), shard(false, 7)], "1": [shard(true, 1_500)] } } },
    });
    let answers = [("/_stats/_all", stats)];
    let [before, _, after] = reports("index-stats", json!({}), &answers, &answers);
    assert!(before[0].as_str().unwrap().contains("not clean: merges_total_time is 2500 ms"), "{before:?}");
    let shards = |record: Value, shards: Value| {
        let mut record = record;
        record["per-shard"] = shards;
        record
    };
    let expected = [
        value("segments_count", 5, "", json!({})),
        value("segments_memory_in_bytes", 11, "byte", json!({})),
        shards(value("merges_total_time", 2_500, "ms", json!({})), json!([1_000, 1_500])),
        shards(value("indexing_total_time", 30, "ms", json!({})), json!([])),
        value("merges_total_count", 2, "", json!({})),
        value("store_size_in_bytes", 900, "byte", json!({})),
    ];
    assert_eq!(after, expected);
}

#[test]
fn ingest_pipelines_are_told_by_cluster_node_pipeline_and_processor() {
    let stats = |count: u64| {
        let counts = json!({ "count": count, "time_in_millis": 2 * count, "failed": 1 });
        let processors = json!([{ "set": { "type": "set", "stats": counts } }]);
        let mut pipeline = counts.clone();
        pipeline["processors"] = processors;
        json!({
            "cluster_name": "es",
            "nodes": { "id": { "name": "n", "ingest": { "total": counts, "pipelines": { "p": pipeline } } } },
        })
    };
    let path = "/_nodes/stats/ingest";
    let [.., after] = reports("ingest-pipeline-stats", json!({}), &[(path, stats(4))], &[(path, stats(10))]);
    let mut expected = Vec::new();
    for (level, meta) in [
        ("node", json!({ "cluster_name": "es" })),
        ("pipeline", json!({ "cluster_name": "es", "pipeline_name": "p" })),
        ("processor", json!({ "cluster_name": "es", "pipeline_name": "p", "processor_name": "set_1", "type": "set" })),
    ] {
        for (name, number, unit) in [("count", 6, ""), ("time", 12, "ms"), ("failed", 0, "")] {
            expected.push(node_value("n", &format!("ingest_pipeline_{level}_{name}"), number, unit, meta.clone()));
        }
    }
    for (name, number, unit) in [("count", 6, ""), ("time", 12, "ms"), ("failed", 0, "")] {
        expected.push(value(&format!("ingest_pipeline_cluster_{name}"), number, unit, json!({ "cluster_name": "es" })));
    }
    assert_eq!(after, expected);
}

#[test]
fn the_cluster_and_its_nodes_are_described_before_the_race() {
    let answers = [
        (
            "/",
            json!({ "cluster_name": "es", "version": { "number": "8.15.0", "build_hash": "abc", "build_flavor": "default" } }),
        ),
        (
            "/_nodes",
            json!({ "nodes": {
                "1": { "name": "a", "host": "h1", "plugins": [{ "name": "icu" }], "attributes": { "zone": "x", "rack": "1" } },
                "2": { "name": "b", "os": { "name": "Linux" }, "plugins": [{ "name": "icu" }], "attributes": { "zone": "x" } },
            } }),
        ),
    ];
    let [cluster, ..] = reports("cluster-environment", json!({}), &answers, &[]);
    let expected = json!({
        "name": "cluster_environment", "cluster": "default", "source_revision": "abc", "distribution_version": "8.15.0",
        "distribution_flavor": "default", "target_id": "es", "target_platform": "on-prem",
    });
    assert_eq!(cluster, [expected]);
    let [nodes, ..] = reports("node-environment", json!({}), &answers, &[]);
    let expected = [
        json!({
            "name": "node_environment", "cluster": "default", "node": "a", "node_name": "a", "host_name": "h1",
            "plugins": ["icu"], "attribute_zone": "x", "attribute_rack": "1",
        }),
        json!({
            "name": "node_environment", "cluster": "default", "node": "b", "node_name": "b", "os_name": "Linux",
            "plugins": ["icu"], "attribute_zone": "x",
        }),
        json!({ "name": "shared_node_environment", "cluster": "default", "plugins": ["icu"], "attribute_zone": "x" }),
    ];
    assert_eq!(nodes, expected);
}

#[test]
fn a_cluster_that_says_who_handles_it_is_hosted() {
    let platform = |headers: &'static str, is_serverless: bool| {
        block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let answers = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while stream.read_buf(&mut request).await.unwrap() > 0 {
                    if request.ends_with(b"\r\n\r\n") {
                        request.clear();
                        let answer = format!("HTTP/1.1 200 OK\r\n{headers}content-length: 2\r\n\r\n{{}}");
                        stream.write_all(answer.as_bytes()).await.unwrap();
                    }
                }
            };
            let directory = tempfile::tempdir().unwrap();
            let mut plan = plan(&directory, &[]);
            plan.client_options.clear();
            let plan = plan.target([address]);
            let look = async {
                let cluster = Cluster::new(&plan, "default").await.unwrap();
                let (mut records, authentication) = (Records::default(), None);
                let mut device = ClusterEnvironment { is_serverless, is_operator: false, authentication };
                device.before(&cluster, &mut records).await.unwrap();
                records.into_parts().0[0]["target_platform"].clone()
            };
            tokio::join!(answers, look).1
        })
    };
    assert_eq!(platform("", false), "on-prem");
    assert_eq!(platform("X-Found-Handling-Cluster: abc\r\n", false), "hosted");
    assert_eq!(platform("X-Found-Handling-Cluster: abc\r\n", true), "serverless");
}

#[test]
fn node_statistics_are_flat_numbers_of_the_parts_that_are_wanted() {
    let stats = json!({ "nodes": { "id": {
        "name": "n", "roles": ["master"],
        "indices": { "docs": { "count": 5 }, "merges": { "total": 1 } },
        "jvm": { "mem": { "heap": { "used": 3 }, "note": "x" }, "gc": { "young": 1 } },
        "process": { "cpu": { "percent": 2 } }, "breakers": { "fielddata": { "tripped": 0, "on": true } },
    } } });
    let params = json!({ "node-stats-include-indices-metrics": "docs", "node-stats-include-gc": "false" });
    let [_, sample, after] = reports("node-stats", params, &[], &[("/_nodes/stats/_all", stats)]);
    assert_eq!(after, [] as [Value; 0]);
    let expected = json!({
        "name": "node-stats", "indices_docs_count": 5, "breakers_fielddata_tripped": 0, "jvm_mem_heap_used": 3,
        "process_cpu_percent": 2, "meta": { "cluster": "default", "node_name": "n", "roles": ["master"] },
    });
    assert_eq!(sample, [expected]);
}

#[test]
fn sampled_devices_keep_what_their_api_says() {
    for (device, params, path, answer, expected) in [
        (
            "recovery-stats",
            json!({ "recovery-stats-indices": { "default": "logs" } }),
            "/logs/_recovery",
            json!({ "logs": { "shards": [{ "id": 1, "stage": "INDEX" }] } }),
            vec![json!({
                "name": "recovery-stats", "shard": { "id": 1, "stage": "INDEX" },
                "meta": { "cluster": "default", "index": "logs", "shard": 1 },
            })],
        ),
        (
            "ccr-stats",
            json!({ "ccr-stats-indices": ["a"] }),
            "/_ccr/stats",
            json!({ "follow_stats": { "indices": [
                { "index": "a", "shards": [{ "lag": 1 }] }, { "index": "b", "shards": [{ "lag": 2 }] },
            ] } }),
            vec![json!({
                "name": "ccr-stats", "shard": { "lag": 1 }, "meta": { "cluster": "default", "index": "a" },
            })],
        ),
        (
            "searchable-snapshots-stats",
            json!({ "searchable-snapshots-stats-indices": "lo*" }),
            "/_searchable_snapshots/stats",
            json!({ "indices": { "logs": { "total": [{ "file_ext": "dvd" }] }, "other": { "total": [{ "file_ext": "x" }] } } }),
            vec![json!({
                "name": "searchable-snapshots-stats", "lucene_file_type": "dvd", "stats": { "file_ext": "dvd" },
                "index": "logs", "meta": { "cluster": "default", "level": "index" },
            })],
        ),
        (
            "shard-stats",
            json!({}),
            "/_nodes/stats/_all",
            json!({ "nodes": { "1": { "name": "n", "indices": { "shards": { "logs": [
                { "0": { "routing": { "primary": true }, "docs": { "count": 4 }, "store": { "size_in_bytes": 9 } } },
            ] } } } } }),
            vec![json!({
                "name": "shard-stats", "shard-id": "0", "index": "logs", "primary": true, "docs": 4, "store": 9,
                "segments-count": -1, "node": "n", "meta": { "cluster": "default" },
            })],
        ),
        (
            "data-stream-stats",
            json!({}),
            "/_data_stream/_stats",
            json!({
                "_shards": { "total": 2, "successful": 2, "failed": 0 }, "data_stream_count": 1, "backing_indices": 3,
                "total_store_size_bytes": 8, "data_streams": [
                    { "data_stream": "s", "backing_indices": 3, "store_size_bytes": 8, "maximum_timestamp": 77 },
                ],
            }),
            vec![
                json!({
                    "name": "data-stream-stats", "data_stream": "_all", "data_stream_count": 1, "backing_indices": 3,
                    "shards": { "total": 2, "successful_shards": 2, "failed_shards": 0 }, "total_store_size_bytes": 8,
                    "meta": { "cluster": "default" },
                }),
                json!({
                    "name": "data-stream-stats", "data_stream": "s", "backing_indices": 3, "store_size_bytes": 8,
                    "maximum_timestamp": 77, "meta": { "cluster": "default" },
                }),
            ],
        ),
        (
            "blob-store-stats",
            json!({}),
            "/_internal/blob_store/stats",
            json!({
                "_nodes": { "total": 1 }, "_all": { "object_store_stats": { "get": { "requests": 5 } } },
                "nodes": { "id": { "operational_backup_service_stats": { "put": 1 } } },
            }),
            vec![
                json!({
                    "name": "blob-store-stats", "object_store_get_requests": 5, "node": "_all",
                    "meta": { "cluster": "default", "_nodes": { "total": 1 } },
                }),
                json!({
                    "name": "blob-store-stats", "operational_backup_put": 1, "node": "id",
                    "meta": { "cluster": "default", "_nodes": { "total": 1 } },
                }),
            ],
        ),
    ] {
        let [before, sample, after] = reports(device, params, &[], &[(path, answer)]);
        assert_eq!((before, sample, after), (vec![], expected, vec![]), "{device}");
    }
    let answers = [
        ("/_cluster/state/master_node", json!({ "master_node": "id" })),
        ("/_nodes/id/os", json!({ "nodes": { "id": { "name": "n" } } })),
    ];
    let [_, sample, _] = reports("master-node-stats", json!({}), &[], &answers);
    assert_eq!(sample, [json!({ "name": "master-node-stats", "node": "n", "meta": { "cluster": "default" } })]);
}

#[test]
fn transforms_are_sampled_and_told_in_all_at_the_end() {
    let stats = |id: &str| {
        json!({ "id": id, "stats": {
            "documents_processed": 300, "search_time_in_ms": 50, "index_time_in_ms": 30, "processing_time_in_ms": 20,
        } })
    };
    let answers = [("/_transform/_all/_stats", json!({ "transforms": [stats("t"), stats("other")] }))];
    let params = json!({ "transform-stats-transforms": { "default": ["t"] } });
    let [_, sample, after] = reports("transform-stats", params, &[], &answers);
    let meta = json!({ "transform_id": "t" });
    for (prefix, records) in [("", &sample), ("total_", &after)] {
        assert_eq!(records.len(), 12);
        assert!(records.contains(&value(&format!("{prefix}transform_search_time"), 50, "ms", meta.clone())));
        assert!(records.contains(&value(&format!("{prefix}transform_index_failures"), 0, "", meta.clone())));
        let throughput = records.iter().find(|it| it["name"] == format!("{prefix}transform_throughput")).unwrap();
        assert_eq!((throughput["value"].as_f64(), &throughput["unit"]), (Some(3_000.0), &json!("docs/s")));
    }
}

#[test]
fn storage_is_looked_at_when_the_race_is_over() {
    let answers = [
        (
            "/logs/_disk_usage",
            json!({ "_shards": { "failed": 0 }, "logs": { "fields": { "message": {
                "total_in_bytes": 12, "inverted_index": { "total_in_bytes": 9 }, "points_in_bytes": 0, "norms_in_bytes": 3,
            } } } }),
        ),
        ("/_cat/segments/_all", json!("a table")),
        ("/_nodes/_all", json!({ "nodes": { "id": { "name": "n" } } })),
        (
            "/_ingest/geoip/stats",
            json!({ "nodes": { "id": { "cache_stats": { "hits": 4, "hits_time_in_millis": 2 } } } }),
        ),
        (
            "/.ml-anomalies-*/_search",
            json!({ "aggregations": { "jobs": { "buckets": [{
                "key": "j", "min": { "value": 1.0 }, "mean": { "value": 2.0 }, "max": { "value": 4.0 },
                "median": { "values": { "50.0": 1.5 } },
            }] } } }),
        ),
    ];
    let meta = json!({ "index": "logs", "field": "message" });
    let [.., usage] = reports("disk-usage-stats", json!({}), &[], &answers);
    let expected = [
        value("disk_usage_total", 12, "byte", meta.clone()),
        value("disk_usage_inverted_index", 9, "byte", meta.clone()),
        value("disk_usage_norms", 3, "byte", meta),
    ];
    assert_eq!(usage, expected);
    let [.., segments] = reports("segment-stats", json!({}), &[], &answers);
    assert_eq!(segments, [json!({ "name": "segment-stats", "text": "\"a table\"", "meta": { "cluster": "default" } })]);
    let [.., geoip] = reports("geoip-stats", json!({}), &[], &answers);
    let meta = json!({ "cluster": "default" });
    let expected = [
        node_value("n", "geoip_cache_hits", 4, "", meta.clone()),
        node_value("n", "geoip_cache_hits_time_in_millis", 2, "ms", meta),
    ];
    assert_eq!(geoip, expected);
    let [.., jobs] = reports("ml-bucket-processing", json!({}), &[], &answers);
    let expected = json!({
        "name": "ml_processing_time", "job": "j", "min": 1.0, "mean": 2.0, "median": 1.5, "max": 4.0, "unit": "ms",
    });
    assert_eq!(jobs, [expected]);
}

#[test]
fn what_makes_no_sense_is_refused_and_what_does_not_apply_is_announced() {
    let directory = tempfile::tempdir().unwrap();
    let with = |devices: &[&str], params: Value, change: fn(&mut RacePlan)| {
        let mut plan = plan(&directory, &[]);
        plan.telemetry = devices.iter().map(|&name| name.to_owned()).collect();
        plan.telemetry_params = object(params);
        change(&mut plan);
        selection::check(&plan)
    };
    let refused = |devices: &[&str], params, change| with(devices, params, change).unwrap_err();
    assert!(
        refused(&["node-stat"], json!({}), |_| ()).starts_with("there is no telemetry device `node-stat`; there are")
    );
    assert_eq!(
        refused(&["node-stats"], json!({ "node-stats-sample-interval": 0 }), |_| ()),
        "the telemetry parameter `node-stats-sample-interval` must be a number of seconds above 0, not 0"
    );
    assert_eq!(
        refused(&["ccr-stats"], json!({ "ccr-stats-indices": { "x": "a" } }), |_| ()),
        "the telemetry parameter `ccr-stats-indices` names the cluster `x`, but --target-hosts has default"
    );
    let pattern = json!({ "searchable-snapshots-stats-indices": "a[" });
    let pattern = refused(&["searchable-snapshots-stats"], pattern, |_| ());
    assert!(
        pattern.starts_with("the telemetry parameter `searchable-snapshots-stats-indices` has the pattern `a[`"),
        "{pattern}"
    );
    let without_indices = refused(&["disk-usage-stats"], json!({}), |plan| plan.track.indices.clear());
    assert!(without_indices.contains("has nothing to look at"), "{without_indices}");
    let old = refused(&["data-stream-stats"], json!({}), |plan| plan.distribution_version = Some("7.8.1".to_owned()));
    assert!(old.contains("needs Elasticsearch 7.9 or later"), "{old}");

    let notices = with(&["jfr", "geoip-stats", "transform-stats"], json!({}), |plan| {
        plan.distribution_flavor = Some("serverless".to_owned());
    });
    let notices = notices.unwrap();
    assert!(notices[0].contains("`jfr` looks at nodes that Rally launches"), "{notices:?}");
    assert!(notices[1].contains("`geoip-stats` is not available on a serverless project"), "{notices:?}");
    assert_eq!(notices.len(), 2);
}

#[test]
fn records_are_sent_in_arrays_of_bounded_length_and_none_that_is_too_long() {
    block_on(async {
        let (found, mut received) = mpsc::channel(100);
        let report = Report {
            clock: Arc::new(|| rally_core::ClusterTime::from_nanos(5_000_000_000)),
            found,
            failures: Failures::default(),
            names_clusters: false,
        };
        let mut records = Records::default();
        for length in [100, 200_000, 100_000, LONGEST_RECORD + 1, 10] {
            records.document("d", object(json!({ "text": "x".repeat(length) })), JsonObject::new());
        }
        report.records("default", records).await;
        drop(report);
        let (mut lengths, mut notices) = (Vec::new(), 0);
        while let Some(found) = received.recv().await {
            match found {
                Found::Records(json) => {
                    let array: Vec<Value> = serde_json::from_slice(&json).unwrap();
                    assert!(array.iter().all(|record| record["@timestamp"] == 5_000));
                    lengths.push(array.len());
                }
                Found::Notice(notice) => {
                    assert!(notice.contains("is too long to be kept"), "{notice}");
                    notices += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((lengths, notices), (vec![2, 2], 1));
    });
}

#[test]
fn what_devices_found_that_nobody_has_taken_is_given_back_when_they_are_ended() {
    let (sender, found) = mpsc::channel(FOUND);
    sender.try_send(Found::Notice("a device is done".to_owned())).unwrap();
    sender.try_send(Found::Records(b"[{}]".to_vec())).unwrap();
    let telemetry = Telemetry { detach: watch::channel(false).0, found, thread: thread::spawn(move || drop(sender)) };
    let (left, ended) = block_on(telemetry.end());
    assert_eq!(left, [Found::Notice("a device is done".to_owned()), Found::Records(b"[{}]".to_vec())]);
    assert!(ended.is_ok());
}
