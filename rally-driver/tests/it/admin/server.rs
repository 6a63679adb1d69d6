//! Administration against a real server: what it does is asked of it afterwards.
//!
//! The server (noida-db 0.2.3) has no data streams, machine learning, transforms, lifecycle policies, enrichment and
//! downsampling, and it forgets what it did in the background; those are only tested against answers by a table.

use rally_core::track::{Track, TrackBuilder};
use rally_driver::client::{self, ClientOptions, MediaTypes, Request};
use rally_driver::{Outcome, RequestTimer, RunnerError};
use serde_json::{Value, json};

use crate::operation::{Client, plan};
use crate::server::Server;

/// A server, and a client that asks it what the operations have done.
struct Real {
    server: Server,
    client: client::Client,
}

impl Real {
    async fn start(test: &str) -> Option<Self> {
        let server = Server::start(test).await?;
        let hosts = [server.address().to_owned()];
        let timer = RequestTimer::default().into();
        let client = client::Client::new(&hosts, ClientOptions::default(), MediaTypes::default(), 0, timer).unwrap();
        Some(Self { server, client })
    }

    async fn run(&self, operation_type: &str, params: Value) -> Result<Outcome, RunnerError> {
        self.run_with(Track::builder("tests"), operation_type, params).await
    }

    /// Executes an operation and expects that it succeeds with this weight.
    async fn does(&self, operation_type: &str, params: Value, weight: u64) -> Outcome {
        let outcome = self.run(operation_type, params.clone()).await;
        let outcome = outcome.unwrap_or_else(|error| panic!("{operation_type} with {params}: {error}"));
        assert!(outcome.success, "{operation_type} with {params}: {outcome:?}");
        assert_eq!(outcome.weight, weight, "{operation_type} with {params}");
        outcome
    }

    async fn run_with(&self, track: TrackBuilder, name: &str, params: Value) -> Result<Outcome, RunnerError> {
        Client::prepare(&plan(track, name, &params, self.server.address())).await?.run().await
    }

    async fn ask(&self, method: &'static str, path: &str, body: Option<Value>) -> Result<Value, RunnerError> {
        let mut request = Request::new(method, path);
        if let Some(body) = body {
            request = request.json(body.to_string());
        }
        let response = self.client.request(&request).await?;
        Ok(serde_json::from_slice(&response.body).unwrap_or_default())
    }

    async fn get(&self, path: &str) -> Value {
        self.ask("GET", path, None).await.unwrap()
    }

    async fn exists(&self, path: &str) -> bool {
        let mut request = Request::new("HEAD", path);
        request.ignore.push(404);
        self.client.request(&request).await.unwrap().status == 200
    }

    async fn index_documents(&self, index: &str, count: u64) {
        for number in 0..count {
            let path = format!("/{index}/_doc/{number}");
            self.ask("PUT", &path, Some(json!({ "number": number }))).await.unwrap();
        }
    }
}

macro_rules! start {
    ($test:literal) => {
        match Real::start($test).await {
            Some(real) => real,
            None => return,
        }
    };
}

#[tokio::test]
async fn indices_are_created_filled_and_deleted() {
    let real = start!("indices_are_created_filled_and_deleted");
    let track = || {
        let body = json!({ "settings": { "number_of_shards": 2 }, "mappings": { "properties": { "number": { "type": "long" } } } });
        Track::builder("tests").index("logs-a", body.clone()).index("logs-b", body)
    };
    let settings = json!({ "settings": { "number_of_replicas": 0 } });
    let outcome = real.run_with(track(), "create-index", settings).await.unwrap();
    assert_eq!((outcome.weight, outcome.success), (2, true));
    let created = real.get("/logs-a/_settings").await;
    let of = |key: &str| created.pointer(&format!("/logs-a/settings/index/{key}")).cloned();
    assert_eq!((of("number_of_shards"), of("number_of_replicas")), (Some(json!("2")), Some(json!("0"))));
    let again = real.run_with(track(), "create-index", json!({})).await.unwrap_err().to_string();
    assert!(again.contains("resource_already_exists_exception"), "{again}");

    real.index_documents("logs-a", 7).await;
    real.does("refresh", json!({ "index": "logs-a" }), 1).await;
    real.does("refresh", json!({}), 1).await;
    let condition =
        |value: u64| json!({ "condition": { "path": "_all.primaries.docs.count", "expected-value": value } });
    let stats = real.does("index-stats", condition(7), 1).await;
    assert_eq!(stats.meta["condition"]["actual-value"], "7");
    assert!(!real.run("index-stats", condition(8)).await.unwrap().success);
    real.does("node-stats", json!({}), 1).await;
    let health = json!({ "index": "logs-a", "request-params": { "wait_for_status": "yellow" } });
    let health = real.does("cluster-health", health, 1).await;
    assert_eq!(health.meta["relocating-shards"], 0);

    real.does("delete-index", json!({ "index": ["logs-a", "absent"] }), 1).await;
    assert!(!real.exists("/logs-a").await);
    // By pattern, which the server refuses unless it is told otherwise, and refuses again afterwards.
    real.does("delete-index", json!({ "index": "logs-*", "only-if-exists": false }), 1).await;
    assert!(!real.exists("/logs-b").await);
    let settings = real.get("/_cluster/settings?flat_settings=true").await;
    assert_eq!(settings["transient"].get("action.destructive_requires_name"), None);
}

#[tokio::test]
async fn templates_apply_to_indices_and_are_deleted_with_them() {
    let real = start!("templates_apply_to_indices_and_are_deleted_with_them");
    let track = || {
        let component = json!({ "template": { "settings": { "number_of_shards": 3 } }, "version": 5 });
        let template =
            json!({ "index_patterns": ["made-*"], "composed_of": ["shards"], "template": { "settings": {} } });
        Track::builder("tests").component_template("shards", component).composable_template("made", "made-*", template)
    };
    let run = |name, params| real.run_with(track(), name, params);
    run("create-component-template", json!({})).await.unwrap();
    let component = real.get("/_component_template/shards").await;
    assert_eq!(component.pointer("/component_templates/0/component_template/version"), Some(&json!(5)));
    run("create-composable-template", json!({ "settings": { "number_of_replicas": 0 } })).await.unwrap();
    real.does("create-index", json!({ "index": "made-1" }), 1).await;
    let made = real.get("/made-1/_settings").await;
    let of = |key: &str| made.pointer(&format!("/made-1/settings/index/{key}")).cloned();
    assert_eq!((of("number_of_shards"), of("number_of_replicas")), (Some(json!("3")), Some(json!("0"))));

    // The template, the setting, the indices, and the setting again.
    assert_eq!(run("delete-composable-template", json!({})).await.unwrap().weight, 4);
    assert!(!real.exists("/_index_template/made").await && !real.exists("/made-1").await);
    assert_eq!(run("delete-component-template", json!({})).await.unwrap().weight, 1);
    assert_eq!(run("delete-component-template", json!({})).await.unwrap().weight, 0);

    let old = json!({ "template": "old", "body": { "index_patterns": ["old-*"] } });
    real.does("create-index-template", old, 1).await;
    assert!(real.exists("/_template/old").await);
    real.does("delete-index-template", json!({ "template": "old" }), 1).await;
    real.does("delete-index-template", json!({ "template": "old", "only-if-exists": false }), 1).await;
    assert!(!real.exists("/_template/old").await);
}

#[tokio::test]
async fn pipelines_and_settings_arrive() {
    let real = start!("pipelines_and_settings_arrive");
    let body = json!({ "description": "of a test", "processors": [] });
    real.does("put-pipeline", json!({ "id": "p", "body": body, "timeout": "5s" }), 1).await;
    assert_eq!(real.get("/_ingest/pipeline/p").await["p"]["description"], "of a test");
    let body = json!({ "persistent": { "action.auto_create_index": "false" } });
    real.does("put-settings", json!({ "body": body }), 1).await;
    let settings = real.get("/_cluster/settings?flat_settings=true").await;
    assert_eq!(settings["persistent"]["action.auto_create_index"], "false");
}

#[tokio::test]
async fn merges_are_waited_for() {
    let real = start!("merges_are_waited_for");
    real.index_documents("a", 3).await;
    real.does("force-merge", json!({ "index": "a", "max-num-segments": 1 }), 1).await;
    // This server forgets what it has done in the background as soon as it is done.
    let polling = json!({ "index": "a", "mode": "polling", "poll-period": 0.01 });
    let error = real.run("force-merge", polling).await.unwrap_err().to_string();
    assert!(error.contains("task [noida:1]"), "{error}");
}

#[tokio::test]
async fn an_index_shrinks_with_all_its_documents() {
    let real = start!("an_index_shrinks_with_all_its_documents");
    real.does("create-index", json!({ "index": "large", "body": { "settings": { "number_of_shards": 4 } } }), 1).await;
    real.index_documents("large", 5).await;
    let body = json!({ "settings": { "index.number_of_shards": 1, "index.number_of_replicas": 0 } });
    let params = json!({ "source-index": "large", "target-index": "small", "target-body": body });
    real.does("shrink-index", params, 1).await;
    real.does("refresh", json!({ "index": "small" }), 1).await;
    assert_eq!(real.get("/small/_count").await["count"], 5);
}

#[tokio::test]
async fn snapshots_are_created_waited_for_and_restored() {
    let real = start!("snapshots_are_created_waited_for_and_restored");
    let place = tempfile::tempdir().unwrap();
    real.index_documents("a", 5).await;
    real.does("refresh", json!({ "index": "a" }), 1).await;
    let body = json!({ "type": "fs", "settings": { "location": place.path() } });
    real.does("create-snapshot-repository", json!({ "repository": "r", "body": body }), 1).await;
    let snapshot = json!({ "repository": "r", "snapshot": "s", "body": { "indices": "a" } });
    real.does("create-snapshot", snapshot.clone(), 1).await;
    let outcome = real.run("wait-for-snapshot-create", snapshot).await.unwrap();
    assert_eq!(outcome.unit, "byte");
    assert!(outcome.weight > 0 && outcome.meta["file_count"].as_u64() > Some(0), "{outcome:?}");
    real.does("wait-for-current-snapshots-create", json!({ "repository": "r" }), 1).await;

    real.does("delete-index", json!({ "index": "a" }), 1).await;
    let restore =
        json!({ "repository": "r", "snapshot": "s", "wait-for-completion": true, "body": { "indices": "a" } });
    real.does("restore-snapshot", restore.clone(), 1).await;
    let recovery = real.run("wait-for-recovery", json!({ "index": "a" })).await.unwrap();
    assert_eq!((recovery.unit.as_ref(), recovery.success), ("byte", true));
    assert!(recovery.meta["stop_time_millis"].as_u64() >= recovery.meta["start_time_millis"].as_u64());
    assert_eq!(real.get("/a/_count").await["count"], 5);
    let open = real.run("restore-snapshot", restore).await.unwrap_err().to_string();
    assert!(open.contains("snapshot_restore_exception"), "{open}");

    real.does("delete-snapshot-repository", json!({ "repository": "r" }), 1).await;
    real.does("delete-snapshot-repository", json!({ "repository": "r" }), 1).await;
}

#[tokio::test]
async fn what_the_server_does_not_know_is_a_failed_request() {
    let real = start!("what_the_server_does_not_know_is_a_failed_request");
    for (operation_type, params) in [
        ("create-data-stream", json!({ "data-stream": "s" })),
        ("open-ml-job", json!({ "job-id": "j" })),
        ("create-transform", json!({ "transform-id": "t", "body": {} })),
        ("create-ilm-policy", json!({ "policy-name": "p", "body": { "policy": { "phases": {} } } })),
        ("enrich-policy", json!({ "policies": { "e": {} }, "delete": false })),
        ("downsample", json!({ "source-index": "a" })),
    ] {
        let error = real.run(operation_type, params).await.unwrap_err();
        assert!(matches!(error, RunnerError::Api { status: 400, .. }), "{operation_type}: {error:?}");
    }
}
