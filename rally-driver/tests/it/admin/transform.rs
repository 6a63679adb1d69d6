//! Transforms, and policies for the lifecycle of indices and for enrichment.

use std::time::Duration;

use rally_core::OnError;
use rally_core::metrics::SampleType;
use rally_core::track::Track;
use serde_json::json;
use tokio::time::timeout;

use super::check;
use crate::fixture;
use crate::operation::{Answer, Case, Client, Cluster, plan};

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
    let mut progress = told.intervals.iter().flat_map(|interval| &interval.progress);
    assert!(progress.any(|task| task.done == Some(1.0)), "{told:?}");
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
        // It will not be there the next time either.
        Case::new("wait-for-transform", json!({ "transform-id": "t" }))
            .answer(stats, json!({ "count": 0 }))
            .sends(&[
                "POST /_transform/t/_stop?force=false&wait_for_checkpoint=true&wait_for_completion=false",
                "GET /_transform/t/_stats",
            ])
            .fails("operation `wait-for-transform`: the cluster knows nothing of transform \"t\": {\"count\":0}"),
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
async fn errors_are_no_reason_to_wait_for_a_transform_for_ever() {
    let cluster = Cluster::start([("*".to_owned(), vec![Answer::Is(404, json!({}))])].into()).await;
    let params = json!({ "transform-id": "t", "poll-interval": 0.01, "transform-timeout": 0.1 });
    let mut plan = plan(Track::builder("tests"), "wait-for-transform", &params, &cluster.address);
    plan.on_error = OnError::Continue;
    let told = timeout(Duration::from_secs(60), fixture::run(rally_driver::Registry::rally(), &plan, 1)).await.unwrap();
    let failure = told.failure().unwrap();
    assert!(failure.contains("is not done after 100ms; `transform-timeout` gives it more seconds"), "{failure}");
    let sent = cluster.received().len();
    assert!((1..=11).contains(&sent), "there is no pause between {sent} requests");
}
