//! What all operations have in common: retries, common parameters, assertions.

use std::collections::HashMap;
use std::time::Duration;

use rally_core::track::Track;
use rally_driver::{ErrorClass, Outcome, RequestTimer, RunnerError};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::check;
use crate::fixture;
use crate::operation::{Answer, Case, Client, Cluster, Received, plan};

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

/// Operations that take the same parameters, but those within composite ones, bulks, and shrinking, which takes seconds.
const OPERATIONS: [&str; 51] = [
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
    "search",
    "scroll-search",
    "paginated-search",
    "composite-agg",
    "raw-request",
    "sql",
    "esql",
    "esql-profile",
    "field-caps",
    "run-until",
];

/// Parameters that are enough for each of them, with further ones.
fn enough(further: &Value) -> Value {
    let body = json!({ "policy": { "phases": {} }, "query": "q", "aggs": { "a": { "composite": {} } } });
    let mut all = json!({
        "index": "a", "id": "p", "body": body, "data-stream": "s", "repository": "r", "snapshot": "s", "transform-id": "t",
        "datafeed-id": "d", "job-id": "j", "policy-name": "p", "template": "t", "source-index": "a", "policies": { "e": {} },
        "only-if-exists": false, "wait-for-completion": false, "path": "/x", "json-path": "a", "query": "q", "pages": 2,
        "results-per-page": 1, "criterion": { "operator": "not_exists" }, "target-index": "b",
        "retry-on-timeout": false,
    });
    all.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
    all
}

/// Each of [`OPERATIONS`] with these parameters, and operations within composite ones, the last of them first: those before
/// are what it needs.
fn operations(further: &Value) -> Vec<(String, &'static str, Value)> {
    let inner = |operation_type: &str, more: Value| {
        let mut params = enough(further);
        params["name"] = json!("n");
        params["operation-type"] = json!(operation_type);
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        params
    };
    let open = inner("open-point-in-time", json!({}));
    let from = json!({ "with-point-in-time-from": "n" });
    let submit = inner("submit-async-search", json!({}));
    let of = |key: &str| json!({ key: "n", "retry-until-success": false });
    let composites = [
        vec![open.clone()],
        vec![open.clone(), inner("paginated-search", from.clone())],
        vec![open, inner("close-point-in-time", from)],
        vec![submit.clone()],
        vec![submit.clone(), inner("get-async-search", of("retrieve-results-for"))],
        vec![submit, inner("delete-async-search", of("delete-results-for"))],
    ];
    let single = OPERATIONS.map(|name| (name.to_owned(), name, enough(further)));
    let composites = composites.map(|requests| {
        let last = requests.last().unwrap()["operation-type"].as_str().unwrap().to_owned();
        (last, "composite", json!({ "requests": requests }))
    });
    single.into_iter().chain(composites).collect()
}

/// Answers with which all of them are content, with this status.
fn contenting(status: u16) -> HashMap<String, Vec<Answer>> {
    let hits = json!({ "total": { "value": 5, "relation": "eq" }, "hits": [{ "sort": [1] }] });
    let page =
        json!({ "_scroll_id": "s", "pit_id": "1", "hits": hits, "aggregations": { "a": { "after_key": { "k": 1 } } } });
    let done = json!({ "snapshots": [{ "state": "SUCCESS", "stats": {} }] });
    let answers = [
        ("GET /a/_recovery", json!({ "a": { "shards": [{ "stage": "DONE" }] } })),
        ("GET /_snapshot/r/_current", json!({ "total": 0 })),
        ("GET /_snapshot/r/s/_status", done),
        ("GET /a/_search", page.clone()),
        ("GET /_search", page.clone()),
        ("GET /_search/scroll", page),
        ("POST /_sql", json!({ "cursor": "c" })),
        ("POST /a/_pit", json!({ "id": "1" })),
        ("POST /a/_async_search", json!({ "id": "1" })),
        ("GET /_async_search/1", json!({ "is_running": false, "response": {} })),
        ("GET /_transform/t/_stats", json!({ "transforms": [{ "state": "stopped" }] })),
        ("*", json!({})),
    ];
    answers.map(|(to, body)| (to.to_owned(), vec![Answer::Is(status, body)])).into()
}

/// Executes an operation against a cluster with these answers.
async fn execute(
    operation_type: &str,
    params: &Value,
    answers: HashMap<String, Vec<Answer>>,
) -> (Result<Outcome, RunnerError>, Vec<Received>) {
    let cluster = Cluster::start(answers).await;
    let mut plan = plan(Track::builder("tests"), operation_type, params, &cluster.address);
    plan.client_options.insert("default".to_owned(), json!({ "max_retries": 0 }).as_object().unwrap().clone());
    let mut client = Client::prepare(&plan).await.unwrap();
    let result = timeout(Duration::from_secs(60), client.run()).await;
    (result.unwrap_or_else(|_| panic!("{operation_type} does not end")), cluster.received())
}

#[tokio::test]
async fn every_operation_understands_what_most_do() {
    let further = json!({ "headers": { "x-a": "b" }, "opaque-id": "me", "request-params": { "extra": [1, 2] } });
    for (name, operation_type, params) in operations(&further) {
        let (result, received) = execute(operation_type, &params, contenting(200)).await;
        assert!(result.is_ok(), "{name}: {result:?}");
        assert!(received.iter().any(|request| request.line.ends_with("extra=1,2")), "{name}: {received:?}");
        for request in &received {
            let has = |text: &str| request.head.contains(text);
            assert!(has("\r\nx-a: b") && has("\r\nx-opaque-id: me"), "{name}: {request:?}");
            // What the operations within a composite one ask for is nothing but what they are about.
            assert!(operation_type != "composite" || request.line.contains("extra=1,2"), "{name}: {request:?}");
        }
    }
}

#[tokio::test]
async fn every_operation_waits_as_long_as_it_is_told() {
    for (name, operation_type, params) in operations(&json!({ "request-timeout": "0.04" })) {
        let answers = match operation_type {
            "composite" => {
                // What the last one needs is answered.
                let mut answers = contenting(200);
                answers.retain(|to, _| ["POST /a/_pit", "POST /a/_async_search"].contains(&to.as_str()));
                if params["requests"].as_array().unwrap().len() == 1 {
                    answers.clear();
                }
                answers.insert("*".to_owned(), vec![Answer::Never]);
                answers
            }
            _ => HashMap::from([("*".to_owned(), vec![Answer::Never])]),
        };
        let error = execute(operation_type, &params, answers).await.0.unwrap_err();
        assert!(matches!(&error, RunnerError::Transport { class: ErrorClass::Timeout, .. }), "{name}: {error}");
        assert!(error.to_string().contains("within 40ms"), "{name}: {error}");
    }
}

#[tokio::test]
async fn every_operation_ignores_what_it_is_told() {
    for further in [json!({ "ignore": [418] }), json!({ "request-params": { "ignore": "418" } })] {
        for (name, operation_type, params) in operations(&further) {
            // What an operation asks beside what it is about is no matter of `request-params`.
            let asks_aside =
                ["force-merge", "enrich-policy", "wait-for-", "delete-index"].iter().any(|it| name.starts_with(it));
            if asks_aside && further.get("ignore").is_none() {
                continue;
            }
            let (result, _) = execute(operation_type, &params, contenting(418)).await;
            assert!(result.is_ok(), "{name} with {further}: {result:?}");
        }
    }
    let (refused, _) = execute("sql", &enough(&json!({})), contenting(418)).await;
    assert!(matches!(refused, Err(RunnerError::Api { status: 418, .. })), "{refused:?}");
}

#[tokio::test]
async fn an_answer_that_makes_no_sense_is_a_failed_request_and_no_reason_to_ask_again() {
    let further = json!({
        "retry-until-success": true, "retry-on-timeout": true, "retry-wait-period": 0.001, "detailed-results": true,
        "condition": { "path": "a", "expected-value": 1 },
    });
    let page = || HashMap::from([("*".to_owned(), vec![Answer::Text(200, "<html>Welcome</html>".to_owned())])]);
    let reading = [
        "search",
        "scroll-search",
        "paginated-search",
        "composite-agg",
        "sql",
        "esql",
        "esql-profile",
        "run-until",
        "open-point-in-time",
        "submit-async-search",
        "index-stats",
        "transform-stats",
        "cluster-health",
        "wait-for-recovery",
        "wait-for-snapshot-create",
        "wait-for-current-snapshots-create",
        "wait-for-transform",
    ];
    let mut tested = 0;
    for (name, operation_type, params) in operations(&further) {
        if reading.contains(&name.as_str()) {
            let error = execute(operation_type, &params, page()).await.0.unwrap_err();
            let is_response = matches!(&error, RunnerError::Transport { class: ErrorClass::Response, .. });
            assert!(is_response && error.to_string().contains("makes no sense"), "{name}: {error:?}");
            tested += 1;
        }
    }
    // A paginated search is there within a composite operation, too.
    assert_eq!(tested, reading.len() + 1);
}

/// Parameters that operations can do without. Some are needed by some of them nevertheless.
const OPTIONAL: [&str; 46] = [
    "assertions",
    "cache",
    "completion-recheck-wait-period",
    "condition",
    "defer-validation",
    "delete",
    "delete-matching-indices",
    "detailed-results",
    "end",
    "fields",
    "filter",
    "fixed-interval",
    "force",
    "headers",
    "ignore",
    "index-pattern",
    "index_filter",
    "keep-alive",
    "master-timeout",
    "max-num-segments",
    "method",
    "mode",
    "only-if-exists",
    "opaque-id",
    "pages",
    "poll-interval",
    "poll-period",
    "request-params",
    "request-timeout",
    "response-compression-enabled",
    "results-per-page",
    "retries",
    "retry-on-error",
    "retry-on-timeout",
    "retry-until-success",
    "retry-wait-interval",
    "retry-wait-period",
    "sampling-method",
    "settings",
    "start",
    "target-index",
    "timeout",
    "transform-timeout",
    "type",
    "wait-for-checkpoint",
    "wait-for-completion",
];

#[tokio::test]
async fn parameters_that_are_null_are_as_good_as_none() {
    let mut inner = enough(&json!({ "name": "n", "operation-type": "search" }));
    inner.as_object_mut().unwrap().retain(|key, _| !OPTIONAL.contains(&key.as_str()));
    let within = |inner: &Value| ("search".to_owned(), "composite", json!({ "requests": [inner] }));
    let set_null = |params: &mut Value| OPTIONAL.iter().for_each(|key| params[*key] = Value::Null);
    let mut null = inner.clone();
    set_null(&mut null);
    let mut pairs = vec![(within(&inner), within(&null))];
    for (name, operation_type, params) in operations(&json!({})).into_iter().filter(|it| it.1 != "composite") {
        let needed: &[&str] = match name.as_str() {
            "scroll-search" => &["pages"],
            "paginated-search" => &["pages", "results-per-page"],
            // There is an end to all others.
            "composite-agg" => &["pages"],
            _ => &[],
        };
        let (mut absent, mut null) = (params.clone(), params);
        for key in OPTIONAL.iter().filter(|key| !needed.contains(key)) {
            absent.as_object_mut().unwrap().remove(*key);
            null[*key] = Value::Null;
        }
        pairs.push(((name.clone(), operation_type, absent), (name, operation_type, null)));
    }
    for ((name, operation_type, absent), (.., null)) in pairs {
        let (expected, requests) = execute(operation_type, &absent, contenting(200)).await;
        let (outcome, received) = execute(operation_type, &null, contenting(200)).await;
        let lines = |all: Vec<Received>| all.into_iter().map(|it| (it.line, it.body)).collect::<Vec<_>>();
        assert_eq!(lines(received), lines(requests), "{name}");
        let told = |outcome: Result<Outcome, RunnerError>| outcome.map(|it| (it.weight, it.unit, it.success, it.meta));
        assert_eq!(told(outcome), Ok(told(expected).unwrap()), "{name}");
    }
}

#[tokio::test]
async fn parameters_of_the_wrong_kind_are_refused_before_the_first_request() {
    for (operation_type, key, value, right) in [
        ("search", "detailed-results", json!("maybe"), "true or false, not \"maybe\""),
        ("search", "detailed-results", json!(1), "true or false, not 1"),
        ("search", "response-compression-enabled", json!([]), "true or false, not []"),
        ("search", "headers", json!("x-a: b"), "an object, not \"x-a: b\""),
        ("search", "request-params", json!("a=b"), "an object, not \"a=b\""),
        ("search", "request-timeout", json!("1m"), "a number of seconds, at least 0, not \"1m\""),
        ("search", "ignore", json!("all"), "an HTTP status or a list of them, not \"all\""),
        ("search", "results-per-page", json!(-1), "a whole number above 0, not -1"),
        ("scroll-search", "pages", json!("most"), "a whole number above 0 or `all`, not \"most\""),
        ("sql", "pages", json!(0.5), "a whole number above 0, not 0.5"),
        ("esql", "detailed-results", json!("yes"), "true or false, not \"yes\""),
        ("esql", "body", json!("q"), "an object, not \"q\""),
        ("field-caps", "body", json!([]), "an object, not []"),
        ("raw-request", "method", json!(1), "a text, not 1"),
        ("raw-request", "path", json!(["/"]), "a text, not [\"/\"]"),
        ("run-until", "retry-wait-interval", json!("soon"), "a number of seconds, at least 0, not \"soon\""),
        ("composite", "max-connections", json!("few"), "a whole number above 0, not \"few\""),
        ("sleep", "duration", json!(-1), "a number of seconds, at least 0, not -1"),
        ("force-merge", "mode", json!(true), "`blocking` or `polling`, not true"),
        ("force-merge", "index", json!([1]), "a name or a list of names, not [1]"),
        ("shrink-index", "shrink-node", json!(1), "a text, not 1"),
        ("delete-index", "only-if-exists", json!("no"), "true or false, not \"no\""),
        ("delete-index", "index", json!(5), "a name or a list of names, not 5"),
        ("delete-index-template", "delete-matching-indices", json!("no"), "true or false, not \"no\""),
        ("delete-index-template", "index-pattern", json!(["a"]), "a text, not [\"a\"]"),
        ("refresh", "retries", json!([]), "a whole number, at least 0, not []"),
        ("refresh", "retry-until-success", json!(1), "true or false, not 1"),
        ("start-transform", "headers", json!([]), "an object, not []"),
    ] {
        let cluster = Cluster::start(HashMap::new()).await;
        let mut params = enough(&json!({ "requests": [], "duration": 0, "target-body": {} }));
        params[key] = value;
        let plan = plan(Track::builder("tests"), operation_type, &params, &cluster.address);
        let error = Client::prepare(&plan).await.err().map(|error| error.to_string());
        let expected = format!("operation `{operation_type}`: `{key}` must be {right}");
        assert_eq!(error, Some(expected), "{operation_type} {key}");
        assert!(cluster.received().is_empty(), "{operation_type} {key}");
    }
}

#[tokio::test]
async fn truth_and_numbers_may_be_texts() {
    let by_pattern = json!({ "template": "t", "delete-matching-indices": "True", "index-pattern": "t-*", "only-if-exists": "false" });
    let settings = json!({ "transient": {} });
    check([
        Case::new("delete-index-template", by_pattern)
            .answer("GET /_cluster/settings", settings)
            .sends(&[
                "DELETE /_template/t",
                "GET /_cluster/settings?flat_settings=true",
                r#"PUT /_cluster/settings {"transient":{"action.destructive_requires_name":false}}"#,
                "DELETE /t-*",
                "GET /_cluster/settings?flat_settings=true",
                r#"PUT /_cluster/settings {"transient":{"action.destructive_requires_name":null}}"#,
            ])
            .weighs(4),
        Case::new("search", json!({ "index": "a", "detailed-results": "true", "results-per-page": "7" }))
            .answer("GET /a/_search", json!({ "took": 3 }))
            .sends(&[r#"GET /a/_search {"size":7}"#])
            .meta(&json!({ "hits": 0, "hits_relation": "eq", "took": 3 })),
        Case::new("esql", json!({ "query": "q", "detailed-results": "true" }))
            .answer("POST /_query", json!({ "took": 3 }))
            .sends(&[r#"POST /_query {"query":"q"}"#])
            .meta(&json!({ "took": 3, "is_partial": false })),
        Case::new("sql", json!({ "body": { "query": "q" }, "pages": "2" }))
            .answer("POST /_sql", json!({ "cursor": "c" }))
            .sends(&[r#"POST /_sql {"query":"q"}"#, r#"POST /_sql {"cursor":"c"}"#])
            .weighs(2),
    ])
    .await;
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
