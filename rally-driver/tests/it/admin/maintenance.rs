//! Refresh, pipelines, settings, downsampling, merges, shrinking, recovery.

use serde_json::json;

use super::{check, full_track, streams_track};
use crate::operation::{Answer, Case};

#[tokio::test]
async fn maintenance_is_one_request_each() {
    check([
        Case::new("refresh", json!({})).sends(&["POST /_refresh"]),
        Case::new("refresh", json!({ "index": "a*" })).sends(&["POST /a*/_refresh"]),
        Case::new("refresh", json!({ "index": "a" }))
            .status("POST /a/_refresh", 404)
            .sends(&["POST /a/_refresh"])
            .fails("wrong (as told)"),
        Case::new(
            "put-pipeline",
            json!({ "id": "p", "body": { "processors": [] }, "master-timeout": "5s", "timeout": "6s" }),
        )
        .sends(&[r#"PUT /_ingest/pipeline/p?master_timeout=5s&timeout=6s {"processors": []}"#]),
        Case::new("put-pipeline", json!({ "id": "p" })).fails("needs the parameter `body`"),
        Case::new("put-settings", json!({ "body": { "persistent": { "a": 1 } } }))
            .sends(&[r#"PUT /_cluster/settings {"persistent": {"a": 1}}"#]),
        Case::new("put-settings", json!({})).fails("needs the parameter `body`"),
        Case::new("downsample", json!({ "source-index": "a" }))
            .sends(&[r#"POST /a/_downsample/a-1h {"fixed_interval": "1h"}"#]),
        Case::new(
            "downsample",
            json!({ "fixed-interval": "1d", "target-index": "b", "sampling-method": "last_value" }),
        )
        .track(streams_track().property("data-streams", json!([{ "name": "s1" }])))
        .sends(&[r#"POST /s1/_downsample/b {"fixed_interval": "1d", "sampling_method": "last_value"}"#]),
        Case::new("downsample", json!({ "source-index": "", "data-stream": "s" }))
            .sends(&[r#"POST /s/_downsample/s-1h {"fixed_interval": "1h"}"#]),
        Case::new("downsample", json!({})).fails("needs the parameter `source-index`"),
    ])
    .await;
}

#[tokio::test]
async fn force_merge_waits_or_polls_as_the_server_can() {
    let root = |version: &str| json!({ "version": { "number": version } });
    let polling = || json!({ "index": "a", "mode": "polling", "poll-period": 0.001, "max-num-segments": 1 });
    let forcemerge = "POST /a/_forcemerge";
    check([
        Case::new("force-merge", json!({})).sends(&["POST /_all/_forcemerge"]),
        Case::new("force-merge", json!({ "max-num-segments": 1 }))
            .track(full_track())
            .sends(&["POST /logs,metrics/_forcemerge?max_num_segments=1"]),
        Case::new("force-merge", json!({ "index": [], "data-stream": "s", "max-num-segments": 0 }))
            .sends(&["POST /s/_forcemerge"]),
        Case::new("force-merge", polling())
            .answer("GET /", root("8.15.0"))
            .answer(forcemerge, json!({ "task": "n:1" }))
            .answer("GET /_tasks/n%3A1", json!({ "completed": false }))
            .answer("GET /_tasks/n%3A1", json!({ "completed": true }))
            .sends(&[
                "GET /",
                "POST /a/_forcemerge?max_num_segments=1&wait_for_completion=false",
                "GET /_tasks/n%3A1",
                "GET /_tasks/n%3A1",
            ]),
        // Serverless has no number for its version.
        Case::new("force-merge", polling())
            .answer("GET /", root("serverless"))
            .answer(forcemerge, json!({ "task": "n:1" }))
            .answer("GET /_tasks/n%3A1", json!({ "completed": true, "error": { "type": "broken" } }))
            .sends(&["GET /", "POST /a/_forcemerge?max_num_segments=1&wait_for_completion=false", "GET /_tasks/n%3A1"])
            .fails("operation `force-merge`: the merge failed: {\"type\":\"broken\"}"),
        Case::new("force-merge", polling())
            .answer("GET /", root("8.15.0"))
            .sends(&["GET /", "POST /a/_forcemerge?max_num_segments=1&wait_for_completion=false"])
            .fails("it names no task: {}"),
        Case::new("force-merge", polling())
            .answer("GET /", root("8.15.0"))
            .answer(forcemerge, json!({ "task": "n:1" }))
            .answer("GET /_tasks/n%3A1", json!({ "task": {} }))
            .sends(&["GET /", "POST /a/_forcemerge?max_num_segments=1&wait_for_completion=false", "GET /_tasks/n%3A1"])
            .fails("it does not say whether the merge is done: {\"task\":{}}"),
        Case::new("force-merge", polling())
            .answer("GET /", root("8.0.1"))
            .sends(&["GET /", "POST /a/_forcemerge?max_num_segments=1"]),
        Case::new("force-merge", json!({ "mode": "fast" }))
            .fails("`mode` must be `blocking` or `polling`, not \"fast\""),
        Case::new("force-merge", json!({ "mode": "polling", "poll-period": "soon" }))
            .fails("`poll-period` must be a number of seconds, at least 0, not \"soon\""),
    ])
    .await;
}

#[tokio::test]
async fn an_old_server_is_asked_for_its_merges_once_the_request_has_timed_out() {
    Case::new("force-merge", json!({ "index": "a", "mode": "polling", "poll-period": 0.001, "request-timeout": 0.3 }))
        .answer("GET /", json!({ "version": { "number": "7.17.0" } }))
        .answer_with("POST /a/_forcemerge", Answer::Never)
        .answer("GET /_tasks", json!({ "nodes": { "n": {} } }))
        .answer("GET /_tasks", json!({ "nodes": {} }))
        .sends(&[
            "GET /",
            "POST /a/_forcemerge",
            "GET /_tasks?actions=indices%3Aadmin%2Fforcemerge",
            "GET /_tasks?actions=indices%3Aadmin%2Fforcemerge",
        ])
        .check()
        .await;
}

#[tokio::test]
async fn an_index_is_moved_to_one_node_and_shrunk() {
    let still = || json!({ "relocating_shards": 0 });
    Case::new(
        "shrink-index",
        json!({ "source-index": "src-*", "target-index": "small", "target-body": { "settings": { "index.number_of_shards": 1 } } }),
    )
    .answer("GET /src-*", json!({ "src-a": {}, "src-b": {} }))
    .answer("GET /_nodes", json!({ "nodes": { "1": { "name": "one", "roles": ["data"] }, "2": { "name": "two", "roles": ["master"] } } }))
    .status("GET /_cluster/health/src-a", 408)
    .answer("GET /_cluster/health/src-a", json!({ "relocating_shards": 1, "timed_out": true }))
    .answer("GET /_cluster/health/src-a", still())
    .sends(&[
        "GET /src-*",
        "GET /_nodes",
        r#"PUT /src-a/_settings?preserve_existing=true {"settings": {"index.routing.allocation.require._name": "one", "index.blocks.write": "true"}}"#,
        "GET /_cluster/health/src-a?wait_for_no_relocating_shards=true",
        "GET /_cluster/health/src-a?wait_for_no_relocating_shards=true",
        "GET /_cluster/health/src-a?wait_for_no_relocating_shards=true",
        r#"PUT /src-a/_shrink/smalla {"settings": {"index.number_of_shards": 1, "index.routing.allocation.require._name": null, "index.blocks.write": null}}"#,
        "GET /_cluster/health/smalla?wait_for_no_relocating_shards=true",
        r#"PUT /src-b/_settings?preserve_existing=true {"settings": {"index.routing.allocation.require._name": "one", "index.blocks.write": "true"}}"#,
        "GET /_cluster/health/src-b?wait_for_no_relocating_shards=true",
        r#"PUT /src-b/_shrink/smallb {"settings": {"index.number_of_shards": 1, "index.routing.allocation.require._name": null, "index.blocks.write": null}}"#,
        "GET /_cluster/health/smallb?wait_for_no_relocating_shards=true",
    ])
    .weighs(2)
    .check()
    .await;
}

#[tokio::test]
async fn shrinking_says_what_stands_in_its_way() {
    let params = || json!({ "source-index": "src", "target-index": "small", "target-body": {} });
    let mut with_node = params();
    with_node["shrink-node"] = json!("one");
    check([
        Case::new("shrink-index", params())
            .answer("GET /src", json!({ "src": {} }))
            .answer("GET /_nodes", json!({ "nodes": { "2": { "name": "two", "roles": ["master"] } } }))
            .sends(&["GET /src", "GET /_nodes"])
            .fails("no node of the cluster has the role `data`; name one in `shrink-node`"),
        Case::new("shrink-index", with_node)
            .answer("GET /src", json!({ "src": {} }))
            .answer("GET /_cluster/health/src", json!({ "relocating_shards": 1 }))
            .sends(&[
                "GET /src",
                r#"PUT /src/_settings?preserve_existing=true {"settings": {"index.routing.allocation.require._name": "one", "index.blocks.write": "true"}}"#,
                "GET /_cluster/health/src?wait_for_no_relocating_shards=true",
            ])
            .fails("shards of `src` are still moving"),
        Case::new("shrink-index", json!({ "source-index": "src", "target-index": "small" })).fails("needs the parameter `target-body`"),
        Case::new("shrink-index", json!({ "source-index": "src", "target-index": "small", "target-body": { "settings": 1 } }))
            .fails("`target-body` must be an object whose `settings` are an object"),
    ])
    .await;
}

#[tokio::test]
async fn recovery_is_waited_for_and_measured() {
    let params = || json!({ "index": "a*", "completion-recheck-wait-period": 0.001 });
    let shard = |stage: &str, bytes: u64, start: u64, stop: u64| {
        json!({ "stage": stage, "start_time_in_millis": start, "stop_time_in_millis": stop,
                "index": { "size": { "recovered_in_bytes": bytes } } })
    };
    let recovery = "GET /a*/_recovery";
    check([
        Case::new("wait-for-recovery", params())
            .answer(recovery, json!({}))
            .answer(recovery, json!({ "a1": { "shards": [shard("DONE", 1, 1, 2), shard("INDEX", 0, 1, 0)] } }))
            .answer(
                recovery,
                json!({
                    "a1": { "shards": [shard("DONE", 600, 1_000, 2_000), shard("DONE", 300, 1_500, 3_000)] },
                    "a2": { "shards": [shard("DONE", 100, 2_000, 2_500)] },
                }),
            )
            .sends(&["GET /a*/_recovery", "GET /a*/_recovery", "GET /a*/_recovery"])
            .weighs(1_000)
            .unit("byte")
            .throughput(500.0)
            .meta(&json!({ "start_time_millis": 1_000, "stop_time_millis": 3_000 })),
        Case::new("wait-for-recovery", params())
            .answer(recovery, json!({ "a1": { "shards": vec![shard("DONE", u64::MAX, 1_000, 2_000); 2] } }))
            .sends(&["GET /a*/_recovery"])
            .weighs(u64::MAX)
            .unit("byte")
            .throughput(u64::MAX as f64)
            .meta(&json!({ "start_time_millis": 1_000, "stop_time_millis": 2_000 })),
        Case::new("wait-for-recovery", json!({})).fails("needs the parameter `index`"),
        Case::new("wait-for-recovery", params())
            .status(recovery, 404)
            .sends(&["GET /a*/_recovery"])
            .fails("HTTP status 404"),
    ])
    .await;
}
