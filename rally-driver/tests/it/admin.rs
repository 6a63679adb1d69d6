//! Administration, statistics and waiting: the requests of each operation type, and what becomes of the answers.

use std::time::Duration;

use rally_core::metrics::SampleType;
use rally_core::track::{Track, TrackBuilder};
use rally_driver::RequestTimer;
use serde_json::{Value, json};

use crate::fixture;
use crate::operation::{Answer, Case, Client, Cluster, plan};

const SETTINGS: &str = "GET /_cluster/settings";

async fn check(cases: impl IntoIterator<Item = Case>) {
    for case in cases {
        case.check().await;
    }
}

/// A track with indices, data streams and templates of all kinds.
fn full_track() -> TrackBuilder {
    let settings = || json!({ "settings": { "index": { "number_of_shards": 1 }, "keep": 1 } });
    Track::builder("full")
        .index("logs", settings())
        .index("metrics", json!({}))
        .composable_template("c1", "c1-*", json!({ "index_patterns": ["c1-*"], "template": settings() }))
        .composable_template("c2", "c2-*", json!({ "index_patterns": ["c2-*"] }))
        .component_template("part", json!({ "template": settings(), "version": 3 }))
}

fn streams_track() -> TrackBuilder {
    Track::builder("streams").data_stream("s1").data_stream("s2")
}

#[tokio::test]
async fn statistics_are_asked_for_and_compared() {
    let stats = || json!({ "_all": { "total": { "merges": { "current": 0 } } } });
    let condition = |expected: Value| json!({ "path": "_all.total.merges.current", "expected-value": expected });
    check([
        Case::new("index-stats", json!({})).sends(&["GET /_all/_stats/_all"]),
        Case::new("index-stats", json!({ "index": ["a", "b-*"], "request-params": { "level": "shards" } }))
            .sends(&["GET /a,b-*/_stats/_all?level=shards"]),
        // An answer without any condition is not even read.
        Case::new("index-stats", json!({}))
            .answer_with("GET /_all/_stats/_all", Answer::Text(200, "no JSON".to_owned()))
            .sends(&["GET /_all/_stats/_all"]),
        Case::new("index-stats", json!({ "condition": condition(json!(0)) }))
            .answer("GET /_all/_stats/_all", stats())
            .sends(&["GET /_all/_stats/_all"])
            .meta(&json!({ "condition": {
                "path": "_all.total.merges.current", "actual-value": "0", "expected-value": "0",
            } })),
        Case::new("index-stats", json!({ "condition": condition(json!(7)) }))
            .answer("GET /_all/_stats/_all", stats())
            .sends(&["GET /_all/_stats/_all"])
            .without_success()
            .meta(&json!({ "condition": {
                "path": "_all.total.merges.current", "actual-value": "0", "expected-value": "7",
            } })),
        Case::new("index-stats", json!({ "condition": { "path": "a.b", "expected-value": null } }))
            .sends(&["GET /_all/_stats/_all"])
            .meta(&json!({ "condition": { "path": "a.b", "actual-value": null, "expected-value": null } })),
        Case::new("index-stats", json!({ "condition": { "path": "a" } }))
            .fails("`condition` must be an object with `path` and `expected-value`"),
        Case::new("index-stats", json!({ "condition": { "path": "a", "expected-value": 1 } }))
            .answer_with("GET /_all/_stats/_all", Answer::Text(200, "no JSON".to_owned()))
            .sends(&["GET /_all/_stats/_all"])
            .fails("an answer makes no sense: it is no JSON"),
        Case::new("node-stats", json!({})).sends(&["GET /_nodes/stats/_all"]),
        Case::new("transform-stats", json!({ "transform-id": "t" })).sends(&["GET /_transform/t/_stats"]),
        Case::new(
            "transform-stats",
            json!({ "transform-id": "t", "condition": { "path": "state", "expected-value": "started" } }),
        )
        .answer("GET /_transform/t/_stats", json!({ "transforms": [{ "state": "started" }] }))
        .sends(&["GET /_transform/t/_stats"])
        .meta(&json!({ "condition": { "path": "state", "actual-value": "started", "expected-value": "started" } })),
        Case::new("transform-stats", json!({})).fails("needs the parameter `transform-id`"),
    ])
    .await;
}

#[tokio::test]
async fn health_is_compared_with_what_is_waited_for() {
    let health = |status: &str, relocating: u64| json!({ "status": status, "relocating_shards": relocating });
    let case = |params: Value, status, relocating| {
        Case::new("cluster-health", json!({ "request-params": params }))
            .answer("GET /_cluster/health", health(status, relocating))
            .meta(&json!({ "cluster-status": status, "relocating-shards": relocating }))
    };
    check([
        case(json!({}), "red", 3).sends(&["GET /_cluster/health"]),
        case(json!({ "wait_for_status": "yellow" }), "green", 0)
            .sends(&["GET /_cluster/health?wait_for_status=yellow"]),
        case(json!({ "wait_for_status": "GREEN" }), "yellow", 0)
            .sends(&["GET /_cluster/health?wait_for_status=GREEN"])
            .without_success(),
        case(json!({ "wait_for_status": "red" }), "purple", 0)
            .sends(&["GET /_cluster/health?wait_for_status=red"])
            .without_success(),
        case(json!({ "wait_for_no_relocating_shards": true }), "green", 1)
            .sends(&["GET /_cluster/health?wait_for_no_relocating_shards=true"])
            .without_success(),
        Case::new("cluster-health", json!({ "index": "a" }))
            .answer("GET /_cluster/health/a", health("green", 0))
            .sends(&["GET /_cluster/health/a"])
            .meta(&json!({ "cluster-status": "green", "relocating-shards": 0 })),
    ])
    .await;
}

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
        Case::new("downsample", json!({})).fails("needs the parameter `source-index`"),
    ])
    .await;
}

#[tokio::test]
async fn indices_and_data_streams_are_created() {
    check([
        Case::new(
            "create-index",
            json!({ "index": ["a", "b"], "body": { "mappings": {} }, "request-params": { "timeout": "3s" } }),
        )
        .sends(&[r#"PUT /a?timeout=3s {"mappings": {}}"#, r#"PUT /b?timeout=3s {"mappings": {}}"#])
        .weighs(2),
        Case::new("create-index", json!({ "index": "a" })).sends(&["PUT /a"]),
        Case::new("create-index", json!({})).fails("needs the parameter `index`"),
        // Merging is shallow here.
        Case::new("create-index", json!({ "settings": { "index": { "refresh_interval": "30s" } } }))
            .track(full_track())
            .sends(&[
                r#"PUT /logs {"settings": {"index": {"refresh_interval": "30s"}, "keep": 1}}"#,
                r#"PUT /metrics {"settings": {"index": {"refresh_interval": "30s"}}}"#,
            ])
            .weighs(2),
        Case::new("create-index", json!({ "index": "metrics" })).track(full_track()).sends(&["PUT /metrics {}"]),
        Case::new("create-index", json!({ "index": "traces" }))
            .track(full_track())
            .fails("the track declares no index `traces`, only logs, metrics"),
        Case::new("create-index", json!({ "settings": 3 }))
            .track(full_track())
            .fails("`settings` must be an object, not 3"),
        Case::new("create-index", json!({ "index": "a" }))
            .status("PUT /a", 400)
            .sends(&["PUT /a"])
            .fails("HTTP status 400"),
        Case::new("create-data-stream", json!({ "data-stream": "a" })).sends(&["PUT /_data_stream/a"]),
        Case::new("create-data-stream", json!({}))
            .track(streams_track())
            .sends(&["PUT /_data_stream/s1", "PUT /_data_stream/s2"])
            .weighs(2),
        Case::new("create-data-stream", json!({ "data-stream": "s2" }))
            .track(streams_track())
            .sends(&["PUT /_data_stream/s2"]),
        Case::new("create-data-stream", json!({ "data-stream": "s3" }))
            .track(streams_track())
            .fails("the track declares no data-stream `s3`, only s1, s2"),
        Case::new("create-data-stream", json!({})).fails("needs the parameter `data-stream`"),
    ])
    .await;
}

#[tokio::test]
async fn indices_are_deleted_while_wildcards_are_allowed_and_the_setting_is_put_back() {
    check([
        Case::new("delete-index", json!({ "index": ["a", "b"], "request-params": { "timeout": "3s" } }))
            .answer(SETTINGS, json!({ "persistent": {}, "transient": {} }))
            .status("HEAD /b", 404)
            .sends(&[
                "GET /_cluster/settings?flat_settings=true",
                r#"PUT /_cluster/settings {"transient": {"action.destructive_requires_name": false}}"#,
                "HEAD /a",
                "DELETE /a?timeout=3s",
                "HEAD /b",
                "GET /_cluster/settings?flat_settings=true",
                r#"PUT /_cluster/settings {"transient": {"action.destructive_requires_name": null}}"#,
            ]),
        Case::new("delete-index", json!({ "only-if-exists": false }))
            .track(full_track())
            .answer(SETTINGS, json!({ "transient": { "action.destructive_requires_name": "true" } }))
            .status("DELETE /metrics", 404)
            .sends(&[
                "GET /_cluster/settings?flat_settings=true",
                r#"PUT /_cluster/settings {"transient": {"action.destructive_requires_name": false}}"#,
                "DELETE /logs",
                "DELETE /metrics",
                "GET /_cluster/settings?flat_settings=true",
                r#"PUT /_cluster/settings {"transient": {"action.destructive_requires_name": "true"}}"#,
            ])
            .weighs(2),
        Case::new("delete-index", json!({ "index": "a" }))
            .status("DELETE /a", 403)
            .sends(&[
                "GET /_cluster/settings?flat_settings=true",
                r#"PUT /_cluster/settings {"transient": {"action.destructive_requires_name": false}}"#,
                "HEAD /a",
                "DELETE /a",
                "GET /_cluster/settings?flat_settings=true",
                r#"PUT /_cluster/settings {"transient": {"action.destructive_requires_name": null}}"#,
            ])
            .fails("HTTP status 403"),
        Case::new("delete-index", json!({ "index": "a" })).serverless().sends(&["HEAD /a", "DELETE /a"]),
        Case::new("delete-index", json!({})).fails("needs the parameter `index`"),
        Case::new("delete-data-stream", json!({})).track(streams_track()).status("HEAD /s2", 404).sends(&[
            "HEAD /s1",
            "DELETE /_data_stream/s1",
            "HEAD /s2",
        ]),
        Case::new("delete-data-stream", json!({ "data-stream": "a", "only-if-exists": false }))
            .status("DELETE /_data_stream/a", 404)
            .sends(&["DELETE /_data_stream/a"]),
    ])
    .await;
}

#[tokio::test]
async fn templates_are_created_with_the_settings_of_the_operation() {
    check([
        Case::new("create-index-template", json!({ "template": "t", "body": { "index_patterns": ["a*"] } }))
            .sends(&[r#"PUT /_template/t {"index_patterns": ["a*"]}"#]),
        Case::new("create-index-template", json!({ "template": "t" })).fails("needs the parameter `body`"),
        // Of the old kind, those of the track win, and merging is shallow.
        Case::new(
            "create-index-template",
            json!({ "template": "c2", "body": { "order": 1 }, "settings": { "index": { "refresh_interval": "30s" } } }),
        )
        .track(full_track())
        .with_old_templates()
        .sends(&[r#"PUT /_template/c2 {"index_patterns": ["c2-*"], "settings": {"index": {"refresh_interval": "30s"}}}"#]),
        // Merging is deep here.
        Case::new("create-composable-template", json!({ "settings": { "index": { "refresh_interval": "30s" } } }))
            .track(full_track())
            .sends(&[
                r#"PUT /_index_template/c1 {"index_patterns": ["c1-*"], "template": {"settings": {
                    "index": {"number_of_shards": 1, "refresh_interval": "30s"}, "keep": 1}}}"#,
                r#"PUT /_index_template/c2 {"index_patterns": ["c2-*"], "template": {"settings": {
                    "index": {"refresh_interval": "30s"}}}}"#,
            ])
            .weighs(2),
        Case::new("create-composable-template", json!({ "template": "own", "body": { "priority": 1 }, "request-params": { "create": true } }))
            .track(full_track())
            .sends(&[r#"PUT /_index_template/own?create=true {"priority": 1}"#]),
        Case::new("create-composable-template", json!({ "template": "c2" }))
            .track(full_track())
            .sends(&[r#"PUT /_index_template/c2 {"index_patterns": ["c2-*"]}"#]),
        Case::new("create-composable-template", json!({ "template": "c3" }))
            .track(full_track())
            .fails("the track declares no template `c3`, only c1, c2"),
        Case::new("create-composable-template", json!({})).fails("the track declares no template; give `template` and `body`"),
        Case::new("create-component-template", json!({ "settings": { "keep": 2 } }))
            .track(full_track())
            .sends(&[
                r#"PUT /_component_template/part {"template": {"settings": {"index": {"number_of_shards": 1}, "keep": 2}}, "version": 3}"#,
            ]),
        Case::new("create-component-template", json!({ "template": "p", "body": { "template": {} } }))
            .sends(&[r#"PUT /_component_template/p {"template": {}}"#]),
    ])
    .await;
}

#[tokio::test]
async fn templates_are_deleted_with_their_indices() {
    check([
        Case::new("delete-composable-template", json!({}))
            .track(full_track())
            .status("HEAD /_index_template/c2", 404)
            .sends(&[
                "HEAD /_index_template/c1",
                "DELETE /_index_template/c1",
                "GET /_cluster/settings?flat_settings=true",
                r#"PUT /_cluster/settings {"transient": {"action.destructive_requires_name": false}}"#,
                "DELETE /c1-*",
                "HEAD /_index_template/c2",
                "DELETE /c2-*",
                "GET /_cluster/settings?flat_settings=true",
                r#"PUT /_cluster/settings {"transient": {"action.destructive_requires_name": null}}"#,
            ])
            .weighs(5),
        Case::new("delete-composable-template", json!({}))
            .track(full_track())
            .serverless()
            .sends(&[
                "HEAD /_index_template/c1",
                "DELETE /_index_template/c1",
                "HEAD /_index_template/c2",
                "DELETE /_index_template/c2",
            ])
            .weighs(2),
        Case::new("delete-index-template", json!({ "template": "t", "only-if-exists": false }))
            .status("DELETE /_template/t", 404)
            .sends(&["DELETE /_template/t"]),
        Case::new(
            "delete-index-template",
            json!({ "template": "t", "delete-matching-indices": true, "index-pattern": "a-*", "request-params": { "master_timeout": "3s" } }),
        )
        .sends(&[
            "HEAD /_template/t",
            "DELETE /_template/t?master_timeout=3s",
            "GET /_cluster/settings?flat_settings=true",
            r#"PUT /_cluster/settings {"transient": {"action.destructive_requires_name": false}}"#,
            "DELETE /a-*",
            "GET /_cluster/settings?flat_settings=true",
            r#"PUT /_cluster/settings {"transient": {"action.destructive_requires_name": null}}"#,
        ])
        .weighs(4),
        Case::new("delete-index-template", json!({ "template": "c1" }))
            .track(full_track())
            .with_old_templates()
            .status("HEAD /_template/c1", 404)
            .status("DELETE /c1-*", 403)
            .sends(&[
                "HEAD /_template/c1",
                "GET /_cluster/settings?flat_settings=true",
                r#"PUT /_cluster/settings {"transient": {"action.destructive_requires_name": false}}"#,
                "DELETE /c1-*",
                "GET /_cluster/settings?flat_settings=true",
                r#"PUT /_cluster/settings {"transient": {"action.destructive_requires_name": null}}"#,
            ])
            .fails("HTTP status 403"),
        Case::new("delete-index-template", json!({ "template": "t", "delete-matching-indices": true }))
            .fails("needs the parameter `index-pattern`"),
        Case::new("delete-component-template", json!({}))
            .track(full_track())
            .sends(&["HEAD /_component_template/part", "DELETE /_component_template/part"]),
        Case::new("delete-component-template", json!({ "template": "p" }))
            .status("HEAD /_component_template/p", 404)
            .sends(&["HEAD /_component_template/p"])
            .weighs(0),
        Case::new("delete-component-template", json!({ "template": "p" }))
            .track(full_track())
            .fails("the track declares no template `p`, only part"),
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
        Case::new("force-merge", json!({ "data-stream": "s", "max-num-segments": 0 })).sends(&["POST /s/_forcemerge"]),
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
    .answer("GET /_cluster/health/src-a", still())
    .sends(&[
        "GET /src-*",
        "GET /_nodes",
        r#"PUT /src-a/_settings?preserve_existing=true {"settings": {"index.routing.allocation.require._name": "one", "index.blocks.write": "true"}}"#,
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
async fn machine_learning_takes_the_older_path_after_status_400() {
    check([
        Case::new("create-ml-datafeed", json!({ "datafeed-id": "d", "body": { "job_id": "j" } }))
            .status("PUT /_ml/datafeeds/d", 400)
            .sends(&[r#"PUT /_ml/datafeeds/d {"job_id": "j"}"#, r#"PUT /_xpack/ml/datafeeds/d {"job_id": "j"}"#]),
        Case::new("create-ml-datafeed", json!({ "datafeed-id": "d" })).fails("needs the parameter `body`"),
        Case::new("delete-ml-datafeed", json!({ "datafeed-id": "d" }))
            .status("DELETE /_ml/datafeeds/d", 404)
            .sends(&["DELETE /_ml/datafeeds/d?force=false"]),
        Case::new("delete-ml-datafeed", json!({ "datafeed-id": "d", "force": true }))
            .status("DELETE /_ml/datafeeds/d", 400)
            .status("DELETE /_xpack/ml/datafeeds/d", 404)
            .sends(&["DELETE /_ml/datafeeds/d?force=true", "DELETE /_xpack/ml/datafeeds/d?force=true"]),
        Case::new("start-ml-datafeed", json!({ "datafeed-id": "d" })).sends(&["POST /_ml/datafeeds/d/_start"]),
        Case::new("start-ml-datafeed", json!({ "datafeed-id": "d", "start": "1", "end": "2", "timeout": "3s" }))
            .sends(&[r#"POST /_ml/datafeeds/d/_start {"start": "1", "end": "2", "timeout": "3s"}"#]),
        Case::new("start-ml-datafeed", json!({ "datafeed-id": "d", "body": { "end": "now" } }))
            .status("POST /_ml/datafeeds/d/_start", 400)
            .sends(&[
                r#"POST /_ml/datafeeds/d/_start {"end": "now"}"#,
                r#"POST /_xpack/ml/datafeeds/d/_start {"end": "now"}"#,
            ]),
        Case::new("stop-ml-datafeed", json!({ "datafeed-id": "d" }))
            .sends(&[r#"POST /_ml/datafeeds/d/_stop {"force": false}"#]),
        Case::new("stop-ml-datafeed", json!({ "datafeed-id": "d", "force": true, "timeout": "3s" }))
            .status("POST /_ml/datafeeds/d/_stop", 400)
            .sends(&[
                r#"POST /_ml/datafeeds/d/_stop {"force": true, "timeout": "3s"}"#,
                "POST /_xpack/ml/datafeeds/d/_stop?force=true&timeout=3s",
            ]),
        Case::new("create-ml-job", json!({ "job-id": "j", "body": { "analysis_config": {} } }))
            .sends(&[r#"PUT /_ml/anomaly_detectors/j {"analysis_config": {}}"#]),
        Case::new("delete-ml-job", json!({ "job-id": "j", "force": true }))
            .status("DELETE /_ml/anomaly_detectors/j", 404)
            .sends(&["DELETE /_ml/anomaly_detectors/j?force=true"]),
        Case::new("open-ml-job", json!({ "job-id": "j" }))
            .status("POST /_ml/anomaly_detectors/j/_open", 400)
            .status("POST /_xpack/ml/anomaly_detectors/j/_open", 400)
            .sends(&["POST /_ml/anomaly_detectors/j/_open", "POST /_xpack/ml/anomaly_detectors/j/_open"])
            .fails("HTTP status 400"),
        Case::new("open-ml-job", json!({ "job-id": "j" }))
            .status("POST /_ml/anomaly_detectors/j/_open", 409)
            .sends(&["POST /_ml/anomaly_detectors/j/_open"])
            .fails("HTTP status 409"),
        Case::new("close-ml-job", json!({ "job-id": "j", "force": true, "timeout": "3s" }))
            .sends(&[r#"POST /_ml/anomaly_detectors/j/_close {"force": true, "timeout": "3s"}"#]),
        Case::new("close-ml-job", json!({ "job-id": "j", "force": "maybe" }))
            .fails("`force` must be true or false, not \"maybe\""),
    ])
    .await;
}

#[tokio::test]
async fn snapshots_and_their_repositories_are_created_restored_and_deleted() {
    let snapshot = |body: Value| json!({ "repository": "r", "snapshot": "s", "body": body });
    check([
        Case::new(
            "create-snapshot-repository",
            json!({ "repository": "r", "body": { "type": "fs" }, "request-params": { "verify": false } }),
        )
        .sends(&[r#"PUT /_snapshot/r?verify=false {"type": "fs"}"#]),
        Case::new("create-snapshot-repository", json!({ "repository": "r" })).fails("needs the parameter `body`"),
        Case::new("delete-snapshot-repository", json!({ "repository": "r" }))
            .status("DELETE /_snapshot/r", 404)
            .sends(&["DELETE /_snapshot/r"]),
        Case::new("create-snapshot", snapshot(json!({ "indices": "a" })))
            .sends(&[r#"PUT /_snapshot/r/s?wait_for_completion=false {"indices": "a"}"#]),
        Case::new(
            "create-snapshot",
            json!({ "repository": "r", "snapshot": "s", "body": {}, "wait-for-completion": true }),
        )
        .sends(&["PUT /_snapshot/r/s?wait_for_completion=true {}"]),
        Case::new("create-snapshot", json!({ "repository": "r", "snapshot": "s" })).fails("needs the parameter `body`"),
        Case::new(
            "restore-snapshot",
            json!({ "repository": "r", "snapshot": "s", "request-params": { "master_timeout": "3s" } }),
        )
        .sends(&["POST /_snapshot/r/s/_restore?wait_for_completion=false&master_timeout=3s {}"]),
        Case::new(
            "restore-snapshot",
            json!({ "repository": "r", "snapshot": "s", "body": { "indices": "a" }, "wait-for-completion": true }),
        )
        .sends(&[r#"POST /_snapshot/r/s/_restore?wait_for_completion=true {"indices": "a"}"#]),
        // These two are not safe to be tried again.
        Case::new(
            "restore-snapshot",
            json!({ "repository": "r", "snapshot": "s", "retries": 3, "retry-wait-period": 0.001 }),
        )
        .status("POST /_snapshot/r/s/_restore", 408)
        .sends(&["POST /_snapshot/r/s/_restore?wait_for_completion=false {}"])
        .fails("HTTP status 408"),
    ])
    .await;
}

#[tokio::test]
async fn a_snapshot_is_waited_for_and_measured() {
    let params = || json!({ "repository": "r", "snapshot": "s", "completion-recheck-wait-period": 0.001 });
    let current = "GET /_snapshot/r/_current";
    let status = "GET /_snapshot/r/s/_status";
    let state = |state: &str, took: u64| {
        let stats = json!({ "total": { "size_in_bytes": 1_000, "file_count": 3 }, "start_time_in_millis": 10, "time_in_millis": took });
        json!({ "snapshots": [{ "state": state, "stats": stats, "shards_stats": { "failed": 1 } }] })
    };
    let meta = |took: u64| json!({ "start_time_millis": 10, "stop_time_millis": 10 + took, "duration": took, "file_count": 3 });
    check([
        Case::new("wait-for-snapshot-create", params())
            .answer(current, json!({ "snapshots": [{ "snapshot": "other" }, { "snapshot": "s" }] }))
            .answer(current, json!({ "snapshots": [] }))
            .answer(status, state("STARTED", 1))
            .answer(status, state("SUCCESS", 2_000))
            .sends(&[
                "GET /_snapshot/r/_current?verbose=false",
                "GET /_snapshot/r/_current?verbose=false",
                "GET /_snapshot/r/s/_status?ignore_unavailable=true",
                "GET /_snapshot/r/_current?verbose=false",
                "GET /_snapshot/r/s/_status?ignore_unavailable=true",
            ])
            .weighs(1_000)
            .unit("byte")
            .throughput(500.0)
            .meta(&meta(2_000)),
        // A snapshot that took no time has no throughput of its own.
        Case::new("wait-for-snapshot-create", params())
            .answer(status, state("SUCCESS", 0))
            .sends(&["GET /_snapshot/r/_current?verbose=false", "GET /_snapshot/r/s/_status?ignore_unavailable=true"])
            .weighs(1_000)
            .unit("byte")
            .meta(&meta(0)),
        Case::new("wait-for-snapshot-create", params())
            .answer(status, state("FAILED", 1))
            .sends(&["GET /_snapshot/r/_current?verbose=false", "GET /_snapshot/r/s/_status?ignore_unavailable=true"])
            .fails("snapshot \"s\" is FAILED: {\"failed\":1}"),
        Case::new("wait-for-snapshot-create", json!({ "repository": "r" })).fails("needs the parameter `snapshot`"),
    ])
    .await;
}

#[tokio::test]
async fn all_snapshots_are_waited_for_without_the_names_of_their_indices_if_the_server_can() {
    let params = || json!({ "repository": "r", "completion-recheck-wait-period": 0.001 });
    let root = |version: &str| json!({ "version": { "number": version } });
    let current = "GET /_snapshot/r/_current";
    check([
        Case::new("wait-for-current-snapshots-create", params())
            .answer("GET /", root("8.3.0"))
            .answer(current, json!({ "total": 2 }))
            .answer(current, json!({ "total": 0 }))
            .sends(&[
                "GET /",
                "GET /_snapshot/r/_current?verbose=false&index_names=false",
                "GET /_snapshot/r/_current?verbose=false&index_names=false",
            ]),
        Case::new("wait-for-current-snapshots-create", params())
            .answer("GET /", root("8.2.3"))
            .answer(current, json!({ "total": 0 }))
            .sends(&["GET /", "GET /_snapshot/r/_current?verbose=false"]),
        Case::new("wait-for-current-snapshots-create", params())
            .answer("GET /", json!({ "version": { "build_flavor": "serverless" } }))
            .answer(current, json!({}))
            .sends(&["GET /", "GET /_snapshot/r/_current?verbose=false&index_names=false"])
            .fails("it does not count snapshots: {}"),
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
        Case::new("wait-for-recovery", json!({})).fails("needs the parameter `index`"),
        Case::new("wait-for-recovery", params())
            .status(recovery, 404)
            .sends(&["GET /a*/_recovery"])
            .fails("HTTP status 404"),
    ])
    .await;
}

#[tokio::test]
async fn transforms_policies_and_enrichment_are_administered() {
    check([
        Case::new("create-transform", json!({ "transform-id": "t", "body": { "source": {} } }))
            .sends(&[r#"PUT /_transform/t?defer_validation=false {"source": {}}"#]),
        Case::new("start-transform", json!({ "transform-id": "t" })).sends(&["POST /_transform/t/_start"]),
        Case::new("start-transform", json!({ "transform-id": "t", "timeout": "3s" }))
            .sends(&["POST /_transform/t/_start?timeout=3s"]),
        Case::new("delete-transform", json!({ "transform-id": "t", "force": true }))
            .status("DELETE /_transform/t", 404)
            .sends(&["DELETE /_transform/t?force=true"]),
        Case::new("create-ilm-policy", json!({ "policy-name": "p", "body": { "policy": { "phases": {} } }, "request-params": { "timeout": "3s" } }))
            .sends(&[r#"PUT /_ilm/policy/p?timeout=3s {"policy": {"phases": {}}}"#]),
        Case::new("create-ilm-policy", json!({ "policy-name": "p", "body": { "phases": {} } }))
            .fails("`body` must have the key `policy` at its root"),
        Case::new("delete-ilm-policy", json!({ "policy-name": "p" }))
            .status("DELETE /_ilm/policy/p", 404)
            .sends(&["DELETE /_ilm/policy/p"]),
        Case::new("enrich-policy", json!({ "policies": { "e": { "match": { "indices": "a" } } } }))
            .status("DELETE /_enrich/policy/e", 404)
            .sends(&[
                "DELETE /_enrich/policy/e",
                r#"PUT /_enrich/policy/e {"match": {"indices": "a"}}"#,
                "POST /_all/_refresh",
                "PUT /_enrich/policy/e/_execute?wait_for_completion=true",
            ]),
        Case::new("enrich-policy", json!({ "policies": { "e": {} }, "delete": false }))
            .status("PUT /_enrich/policy/e", 400)
            .sends(&["PUT /_enrich/policy/e {}"])
            .fails("HTTP status 400"),
        Case::new("enrich-policy", json!({ "policies": {} })).fails("`policies` must be an object with at least one policy"),
    ])
    .await;
}

#[tokio::test]
async fn enrich_policies_are_created_and_executed_side_by_side() {
    let cluster = Cluster::start(
        [("PUT /_enrich/policy/a".to_owned(), vec![Answer::Late(Duration::from_millis(200), json!({}))])].into(),
    )
    .await;
    let params = json!({ "policies": { "a": { "match": {} }, "b": { "range": {} } }, "delete": false });
    let plan = plan(Track::builder("tests"), "enrich-policy", &params, &cluster.address);
    let outcome = Client::prepare(&plan).await.unwrap().run().await.unwrap();
    assert_eq!((outcome.weight, outcome.success), (2, true));
    let mut lines: Vec<_> = cluster.received().into_iter().map(|it| it.line).collect();
    // Those of one phase come in any order, but no phase begins before the one before it is over.
    lines[..2].sort();
    lines[3..].sort();
    let execute = |name: &str| format!("PUT /_enrich/policy/{name}/_execute?wait_for_completion=true");
    assert_eq!(lines[..3], ["PUT /_enrich/policy/a", "PUT /_enrich/policy/b", "POST /_all/_refresh"]);
    assert_eq!(lines[3..], [execute("a"), execute("b")]);
}

#[tokio::test]
async fn a_transform_reports_in_between_and_ends_its_task() {
    let stats = |state: &str, documents: u64, milliseconds: u64, percent: f64| {
        let stats = json!({ "documents_processed": documents, "search_time_in_ms": milliseconds / 2,
                            "processing_time_in_ms": milliseconds / 4, "index_time_in_ms": milliseconds / 4 });
        let next = json!({ "checkpoint_progress": { "percent_complete": percent } });
        Answer::Is(
            200,
            json!({ "transforms": [{ "state": state, "stats": stats, "checkpointing": { "next": next } }] }),
        )
    };
    let answers = vec![
        stats("started", 6_000, 400, 10.0),
        stats("started", 8_000, 1_000, 40.0),
        stats("started", 12_000, 2_000, 100.0),
        stats("started", 14_000, 3_000, 100.0),
        stats("stopped", 20_000, 4_000, 100.0),
    ];
    let cluster = Cluster::start([("GET /_transform/t/_stats".to_owned(), answers)].into()).await;
    let params = json!({ "transform-id": "t", "timeout": "3s", "poll-interval": 0.001 });
    let plan = plan(Track::builder("tests"), "wait-for-transform", &params, &cluster.address);
    let mut client = Client::prepare(&plan).await.unwrap();
    assert!(client.runner.is_self_terminating());
    let mut seen = Vec::new();
    for _ in 0..3 {
        let outcome = client.run().await.unwrap();
        assert_eq!((outcome.unit.as_ref(), outcome.success), ("docs", true));
        assert_eq!(outcome.meta["transform-id"], "t");
        seen.push((outcome.weight, outcome.throughput.unwrap(), client.runner.progress().unwrap()));
    }
    // Samples are about what was done since the one before, but the last one is about the whole transform.
    assert_eq!(seen, [(8_000, 8_000.0, 0.4), (14_000, 3_000.0, 0.999), (20_000, 5_000.0, 1.0)]);
    let lines: Vec<_> = cluster.received().into_iter().map(|it| it.line).collect();
    let stop = "POST /_transform/t/_stop?force=false&timeout=3s&wait_for_checkpoint=true&wait_for_completion=false";
    assert_eq!(lines[0], stop);
    assert_eq!(lines[1..], ["GET /_transform/t/_stats"; 5]);
}

#[tokio::test]
async fn a_task_that_waits_for_a_transform_needs_no_length() {
    let stats = |state: &str, work: u64| {
        let stats = json!({ "documents_processed": work * 10, "search_time_in_ms": work });
        Answer::Is(200, json!({ "transforms": [{ "state": state, "stats": stats }] }))
    };
    let answers = vec![stats("started", 1_000), stats("started", 2_000), stats("stopped", 3_000)];
    let cluster = Cluster::start([("GET /_transform/t/_stats".to_owned(), answers)].into()).await;
    let params = json!({ "transform-id": "t", "poll-interval": 0.001 });
    let plan = plan(Track::builder("tests"), "wait-for-transform", &params, &cluster.address);
    let told = fixture::run(rally_driver::Registry::rally(), &plan, 1).await;
    assert_eq!(told.failure(), None);
    assert_eq!(told.samples(0, SampleType::Normal), 3);
    let progress = told.intervals.last().unwrap().progress.iter().map(|task| task.done);
    assert_eq!(progress.collect::<Vec<_>>(), [Some(1.0)]);
}

#[tokio::test]
async fn a_transform_that_fails_or_takes_too_long_ends_the_race() {
    let state = |state: &str| json!({ "transforms": [{ "state": state, "reason": "out of disk" }] });
    let stats = "GET /_transform/t/_stats";
    check([
        Case::new(
            "wait-for-transform",
            json!({ "transform-id": "t", "wait-for-completion": false, "wait-for-checkpoint": false, "force": true }),
        )
        .answer(stats, state("started"))
        .sends(&[
            "POST /_transform/t/_stop?force=true&wait_for_checkpoint=false&wait_for_completion=false",
            "GET /_transform/t/_stats",
        ])
        .weighs(0)
        .unit("docs")
        .throughput(0.0)
        .meta(&json!({ "transform-id": "t" })),
        Case::new("wait-for-transform", json!({ "transform-id": "t" }))
            .answer(stats, state("failed"))
            .sends(&[
                "POST /_transform/t/_stop?force=false&wait_for_checkpoint=true&wait_for_completion=false",
                "GET /_transform/t/_stats",
            ])
            .fails("transform \"t\" failed: \"out of disk\""),
        Case::new("wait-for-transform", json!({ "transform-id": "t", "transform-timeout": 0 }))
            .answer(stats, state("started"))
            .sends(&[
                "POST /_transform/t/_stop?force=false&wait_for_checkpoint=true&wait_for_completion=false",
                "GET /_transform/t/_stats",
            ])
            .fails("transform \"t\" is not done after 0ns; `transform-timeout` gives it more seconds"),
    ])
    .await;
}

#[tokio::test]
async fn failures_are_tried_again_as_the_operation_says() {
    let refresh = |params: Value| {
        let mut all = json!({ "retry-wait-period": 0.001 });
        all.as_object_mut().unwrap().extend(params.as_object().unwrap().clone());
        Case::new("refresh", all)
    };
    let health = |params: Value| {
        let mut all = json!({ "retry-wait-period": 0.001, "request-params": { "wait_for_status": "green" } });
        all.as_object_mut().unwrap().extend(params.as_object().unwrap().clone());
        let status = |status: &str| json!({ "status": status, "relocating_shards": 0 });
        Case::new("cluster-health", all)
            .answer("GET /_cluster/health", status("red"))
            .answer("GET /_cluster/health", status("yellow"))
            .answer("GET /_cluster/health", status("green"))
    };
    let meta = |status: &str| json!({ "cluster-status": status, "relocating-shards": 0 });
    const HEALTH: &str = "GET /_cluster/health?wait_for_status=green";
    const REFRESH: &str = "POST /_refresh";
    check([
        // Status 408 and connections that break are, others are not.
        refresh(json!({ "retries": 2 }))
            .status(REFRESH, 408)
            .status(REFRESH, 408)
            .status(REFRESH, 200)
            .sends(&[REFRESH; 3]),
        refresh(json!({ "retries": 1 })).status(REFRESH, 408).sends(&[REFRESH; 2]).fails("HTTP status 408"),
        refresh(json!({})).status(REFRESH, 408).sends(&[REFRESH]).fails("HTTP status 408"),
        refresh(json!({ "retries": 2, "retry-on-timeout": false }))
            .status(REFRESH, 408)
            .sends(&[REFRESH])
            .fails("HTTP status 408"),
        refresh(json!({ "retry-until-success": true })).status(REFRESH, 400).sends(&[REFRESH]).fails("HTTP status 400"),
        refresh(json!({ "retries": 2 })).status(REFRESH, 500).sends(&[REFRESH]).fails("HTTP status 500"),
        refresh(json!({ "retries": 1, "request-timeout": 0.2 }))
            .answer_with(REFRESH, Answer::Never)
            .answer(REFRESH, json!({}))
            .sends(&[REFRESH; 2]),
        // Four requests of the transport each: the first and three retries of its own.
        refresh(json!({ "retries": 1 }))
            .answer_with(REFRESH, Answer::HangUp)
            .sends(&[REFRESH; 8])
            .fails("lost the connection"),
        // What is no success is only tried again if that is asked for.
        health(json!({ "retries": 5 })).sends(&[HEALTH]).without_success().meta(&meta("red")),
        health(json!({ "retries": 1, "retry-on-error": true }))
            .sends(&[HEALTH; 2])
            .without_success()
            .meta(&meta("yellow")),
        health(json!({ "retry-until-success": true })).sends(&[HEALTH; 3]).meta(&meta("green")),
        refresh(json!({ "retries": "many" })).fails("`retries` must be a whole number, at least 0, not \"many\""),
        refresh(json!({ "retry-wait-period": -1 }))
            .fails("`retry-wait-period` must be a number of seconds, at least 0, not -1"),
    ])
    .await;
}

#[tokio::test]
async fn attempts_are_one_sample_and_wait_in_between() {
    let late = vec![Answer::Is(408, json!({})), Answer::Is(408, json!({})), Answer::Is(200, json!({}))];
    let cluster = Cluster::start([("POST /_refresh".to_owned(), late)].into()).await;
    let params = json!({ "retries": 2, "retry-wait-period": 0.1 });
    let plan = plan(Track::builder("tests"), "refresh", &params, &cluster.address);
    let mut client = Client::prepare(&plan).await.unwrap();
    let begin = RequestTimer::now();
    client.run().await.unwrap();
    assert!(RequestTimer::now() - begin >= 200_000_000, "it waits twice");
    assert_eq!(cluster.received().len(), 3);
}

#[tokio::test]
async fn every_operation_understands_what_most_do() {
    let keys = json!({
        "request-timeout": 5, "headers": { "x-a": "b" }, "opaque-id": "me", "request-params": { "extra": [1, 2] },
        "index": "a", "id": "p", "body": { "policy": { "phases": {} } }, "data-stream": "s", "repository": "r",
        "snapshot": "s", "transform-id": "t", "datafeed-id": "d", "job-id": "j", "policy-name": "p", "template": "t",
        "source-index": "a", "policies": { "e": {} }, "only-if-exists": false, "wait-for-completion": false,
    });
    for operation_type in [
        "index-stats",
        "node-stats",
        "cluster-health",
        "refresh",
        "put-pipeline",
        "put-settings",
        "create-index",
        "delete-index",
        "create-data-stream",
        "delete-data-stream",
        "create-index-template",
        "delete-index-template",
        "create-composable-template",
        "delete-composable-template",
        "create-component-template",
        "delete-component-template",
        "force-merge",
        "downsample",
        "create-ml-datafeed",
        "delete-ml-datafeed",
        "start-ml-datafeed",
        "stop-ml-datafeed",
        "create-ml-job",
        "delete-ml-job",
        "open-ml-job",
        "close-ml-job",
        "create-snapshot-repository",
        "delete-snapshot-repository",
        "create-snapshot",
        "restore-snapshot",
        "wait-for-recovery",
        "wait-for-snapshot-create",
        "wait-for-current-snapshots-create",
        "create-transform",
        "start-transform",
        "wait-for-transform",
        "delete-transform",
        "transform-stats",
        "create-ilm-policy",
        "delete-ilm-policy",
        "enrich-policy",
    ] {
        let done = json!({ "state": "SUCCESS", "stats": {} });
        let answers = [
            ("GET /a/_recovery", json!({ "a": { "shards": [{ "stage": "DONE" }] } })),
            ("GET /_snapshot/r/_current", json!({ "total": 0 })),
            ("GET /_snapshot/r/s/_status", json!({ "snapshots": [done] })),
        ];
        let answers = answers.map(|(to, body)| (to.to_owned(), vec![Answer::Is(200, body)]));
        let cluster = Cluster::start(answers.into()).await;
        let plan = plan(Track::builder("tests"), operation_type, &keys, &cluster.address);
        Client::prepare(&plan).await.unwrap().run().await.unwrap();
        let received = cluster.received();
        assert!(received.iter().any(|request| request.line.ends_with("extra=1,2")), "{operation_type}: {received:?}");
        for request in received {
            let has = |text: &str| request.head.contains(text);
            assert!(has("\r\nx-a: b") && has("\r\nx-opaque-id: me"), "{operation_type}: {request:?}");
        }
    }
}

#[tokio::test]
async fn names_cannot_leave_their_place_in_the_path() {
    check([
        Case::new("create-index", json!({ "index": "a/b c?d" })).sends(&["PUT /a%2Fb%20c%3Fd"]),
        Case::new("open-ml-job", json!({ "job-id": "../x" })).sends(&["POST /_ml/anomaly_detectors/..%2Fx/_open"]),
    ])
    .await;
}

#[tokio::test]
async fn a_violated_assertion_ends_the_race_if_assertions_are_enabled() {
    let assertions = |value: u64| json!([{ "property": "relocating-shards", "condition": "<", "value": value }]);
    for (enabled, value, fails) in [(true, 3, true), (true, 4, false), (false, 3, false)] {
        let health = vec![Answer::Is(200, json!({ "status": "green", "relocating_shards": 3 }))];
        let cluster = Cluster::start([("GET /_cluster/health".to_owned(), health)].into()).await;
        let params = json!({ "name": "health", "assertions": assertions(value) });
        let mut plan = plan(Track::builder("tests"), "cluster-health", &params, &cluster.address);
        plan.enable_assertions = enabled;
        let told = fixture::run(rally_driver::Registry::rally(), &plan, 1).await;
        let failure = told.failure();
        assert_eq!(failure.is_some(), fails, "{enabled} {value}: {failure:?}");
        if let Some(failure) = failure {
            let sentence = "operation `health`: `relocating-shards` must be < 3, but is 3";
            assert!(failure.ends_with(sentence), "{failure}");
        }
    }
}

#[tokio::test]
async fn assertions_are_checked_before_the_first_request() {
    let params = json!({ "assertions": [{ "property": "took", "condition": "!=", "value": 1 }] });
    let mut plan = plan(Track::builder("tests"), "refresh", &params, "127.0.0.1:1");
    plan.enable_assertions = true;
    let error = Client::prepare(&plan).await.err().unwrap().to_string();
    assert!(error.contains("one of the conditions >, >=, <, <= and =="), "{error}");
}
