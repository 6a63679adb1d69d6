//! Snapshots.

use rally_core::track::Track;
use serde_json::{Value, json};

use super::check;
use crate::operation::{Answer, Case, Client, Cluster, plan};

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
async fn a_snapshot_that_nobody_takes_is_not_waited_for_for_ever() {
    let nothing = json!({ "snapshots": [] });
    let answers = ["GET /_snapshot/r/_current", "GET /_snapshot/r/s/_status"];
    let cluster =
        Cluster::start(answers.map(|to| (to.to_owned(), vec![Answer::Is(200, nothing.clone())])).into()).await;
    let params = json!({ "repository": "r", "snapshot": "s", "completion-recheck-wait-period": 0.001 });
    let plan = plan(Track::builder("tests"), "wait-for-snapshot-create", &params, &cluster.address);
    let error = Client::prepare(&plan).await.unwrap().run().await.unwrap_err().to_string();
    assert!(
        error.contains("snapshot \"s\" is neither being taken nor in its repository, after 60 questions"),
        "{error}"
    );
    assert_eq!(cluster.received().len(), 2 * 60);
}
