//! Searches against a server that speaks Elasticsearch.
//!
//! noida-db does not know the `composite` aggregation, async searches, SQL, ES|QL and EQL, so these are only tested
//! against a mock.

use rally_driver::{Outcome, RunnerError};
use serde_json::{Value, json};

use crate::execution::execute;
use crate::server::Server;

const DOCUMENTS: u64 = 7;

/// A server with an index `logs` whose documents have the numbers from 0 on.
async fn server(test: &str) -> Option<Server> {
    let server = Server::start(test).await?;
    let mapping = json!({ "mappings": { "properties": { "n": { "type": "long" } } } });
    run(&server, "raw-request", json!({ "path": "/logs", "method": "PUT", "body": mapping })).await;
    let lines = (0..DOCUMENTS).map(|n| format!("{{\"index\":{{}}}}\n{{\"n\":{n}}}\n")).collect::<String>();
    let bulk = json!({
        "path": "/logs/_bulk", "method": "POST", "request-params": { "refresh": true }, "body": lines,
    });
    run(&server, "raw-request", bulk).await;
    Some(server)
}

async fn run(server: &Server, operation_type: &str, properties: Value) -> Outcome {
    execute(server.address(), operation_type, properties.clone())
        .await
        .unwrap_or_else(|error| panic!("{operation_type} {properties}: {error}"))
}

#[tokio::test]
async fn searches_find_what_is_there() {
    let Some(server) = server("searches_find_what_is_there").await else { return };
    let search = json!({
        "index": "logs", "body": { "query": { "range": { "n": { "gte": 2 } } } }, "detailed-results": true, "cache": false,
        "results-per-page": 2,
    });
    let outcome = run(&server, "search", search).await;
    assert_eq!((&outcome.meta["hits"], &outcome.meta["hits_relation"]), (&json!(DOCUMENTS - 2), &json!("eq")));
    assert_eq!((&outcome.meta["timed_out"], &outcome.meta["shards"]["failed"]), (&json!(false), &json!(0)));
    assert!(outcome.meta["took"].is_u64());
    let missing = execute(server.address(), "search", json!({ "index": "none", "body": {} })).await.unwrap_err();
    assert!(matches!(&missing, RunnerError::Api { status: 404, .. }), "{missing}");
    run(&server, "search", json!({ "index": "none", "body": {}, "ignore": [404] })).await;
}

#[tokio::test]
async fn pages_of_a_scroll_add_up_to_all_documents() {
    let Some(server) = server("pages_of_a_scroll_add_up_to_all_documents").await else { return };
    let scroll = |pages: Value| json!({ "index": "logs", "body": {}, "pages": pages, "results-per-page": 3 });
    // The fourth page is empty, which ends it.
    let outcome = run(&server, "scroll-search", scroll(json!("all"))).await;
    assert_eq!((outcome.weight, &outcome.meta["hits"]), (4, &json!(DOCUMENTS)));
    assert_eq!(run(&server, "search", scroll(json!(2))).await.weight, 2);
}

#[tokio::test]
async fn pages_are_followed_by_their_sort_values_in_and_out_of_a_point_in_time() {
    let Some(server) = server("pages_are_followed_by_their_sort_values").await else { return };
    let pages = |pages: Value| {
        json!({
            "operation-type": "paginated-search", "name": "pages", "index": "logs", "pages": pages, "results-per-page": 2,
            "body": { "sort": [{ "n": "asc" }] }, "request-params": { "preference": "_local" },
        })
    };
    let outcome = run(&server, "paginated-search", pages(json!("all"))).await;
    assert_eq!((outcome.weight, &outcome.meta["hits"]), (4, &json!(DOCUMENTS)));

    let mut within = pages(json!(3));
    within["with-point-in-time-from"] = json!("pit");
    let requests = json!([
        { "operation-type": "open-point-in-time", "name": "pit", "index": "logs" },
        { "stream": [within, { "operation-type": "close-point-in-time", "with-point-in-time-from": "pit" }] },
        { "stream": [{ "operation-type": "search", "name": "side", "index": "logs", "body": {}, "detailed-results": true }] },
        { "stream": [{ "operation-type": "field-caps", "index": "logs", "fields": ["n"] }] },
    ]);
    let composite = json!({ "requests": requests, "max-connections": 2 });
    let outcome = run(&server, "composite", composite).await;
    let inner = |name: &str| outcome.inner.iter().find(|timing| timing.operation == name).unwrap();
    assert_eq!(outcome.inner.len(), 5);
    assert_eq!((&inner("pages").meta["pages"], &inner("pages").meta["hits"]), (&json!(3), &json!(DOCUMENTS)));
    assert_eq!(inner("side").meta["hits"], json!(DOCUMENTS));
}

#[tokio::test]
async fn run_until_ends_once_the_server_says_so() {
    let Some(server) = server("run_until_ends_once_the_server_says_so").await else { return };
    let until = json!({
        "path": "/_cluster/health", "json-path": "number_of_nodes", "criterion": { "operator": "gte", "value": 1 },
    });
    assert_eq!(run(&server, "run-until", until).await, Outcome::default());
}

#[tokio::test]
async fn a_raw_request_gets_the_answer_of_the_server() {
    let Some(server) = server("a_raw_request_gets_the_answer_of_the_server").await else { return };
    let body = json!({ "query": { "range": { "n": { "gte": 3 } } } });
    let count = json!({ "path": "/logs/_count", "method": "POST", "body": body });
    assert_eq!(run(&server, "raw-request", count).await, Outcome::default());
    let wrong = json!({ "path": "/logs/_count", "body": { "query": { "no-such-query": {} } } });
    let error = execute(server.address(), "raw-request", wrong).await.unwrap_err();
    assert!(matches!(&error, RunnerError::Api { status: 400, .. }), "{error}");
    let missing = json!({ "path": "/none/_count", "request-params": { "ignore": [404] } });
    run(&server, "raw-request", missing).await;
}
