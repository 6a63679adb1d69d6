//! What all operations have in common: retries, common parameters, assertions.

use rally_core::track::Track;
use rally_driver::RequestTimer;
use serde_json::{Value, json};

use super::check;
use crate::fixture;
use crate::operation::{Answer, Case, Client, Cluster, plan};

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
