//! Statistics and health: what is asked for, and how it is compared.

use serde_json::{Value, json};

use super::check;
use crate::operation::{Answer, Case};

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
        Case::new("index-stats", json!({ "condition": condition(json!(0.0)) }))
            .answer("GET /_all/_stats/_all", stats())
            .sends(&["GET /_all/_stats/_all"])
            .meta(&json!({ "condition": {
                "path": "_all.total.merges.current", "actual-value": "0", "expected-value": "0.0",
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
        case(json!({ "wait_for_no_relocating_shards": null, "wait_for_status": null }), "red", 1)
            .sends(&["GET /_cluster/health"]),
        Case::new("cluster-health", json!({ "index": "a" }))
            .answer("GET /_cluster/health/a", health("green", 0))
            .sends(&["GET /_cluster/health/a"])
            .meta(&json!({ "cluster-status": "green", "relocating-shards": 0 })),
    ])
    .await;
}
