//! Composite operations.

use rally_core::metrics::SampleType;
use rally_driver::{ErrorClass, InnerTiming, Registry, RunnerError};
use serde_json::{Value, json};

use crate::cluster::{Cluster, Reply};
use crate::execution::{Execution, execute, race};

fn raw(name: &str) -> Value {
    json!({ "name": name, "operation-type": "raw-request", "path": format!("/{name}") })
}

fn stream<const N: usize>(requests: [Value; N]) -> Value {
    json!({ "stream": requests.to_vec() })
}

fn composite<const N: usize>(requests: [Value; N]) -> Value {
    json!({ "requests": requests.to_vec() })
}

fn names(timings: &[InnerTiming]) -> Vec<&str> {
    timings.iter().map(|timing| timing.operation.as_str()).collect()
}

#[tokio::test]
async fn operations_run_in_order_and_the_outer_time_spans_all_of_them() {
    let cluster = Cluster::answering(vec![json!({}); 3]).await;
    let sleep = json!({ "operation-type": "sleep", "duration": 0.02 });
    let nested = json!({ "operation-type": "composite", "requests": [raw("b"), sleep] });
    let mut execution =
        Execution::new(race(&cluster.address, "composite", composite([raw("a"), nested, raw("c")]))).unwrap();
    let outcome = execution.run().await.unwrap();
    assert_eq!((outcome.weight, outcome.unit.as_ref(), outcome.success, outcome.meta.len()), (1, "ops", true, 0));
    assert_eq!(names(&outcome.inner), ["a", "b", "sleep", "c"]);
    assert_eq!(outcome.inner[2].operation_type, "sleep");
    assert!(outcome.inner[2].span.received - outcome.inner[2].span.sent >= 20_000_000);
    assert!(outcome.inner.windows(2).all(|pair| pair[0].span.received <= pair[1].span.sent));
    let span = execution.span().unwrap();
    assert_eq!((span.sent, span.received), (outcome.inner[0].span.sent, outcome.inner[3].span.received));
    let lines: Vec<_> = cluster.lines().into_iter().map(|(line, _)| line).collect();
    assert_eq!(lines, ["GET /a", "GET /b", "GET /c"]);
}

#[tokio::test]
async fn neighbouring_streams_run_together_and_what_follows_waits_for_them() {
    let requests = [stream([raw("a")]), stream([raw("b")]), raw("c"), stream([raw("d")]), stream([raw("e")])];
    // Of the others, none is answered before its sibling was asked.
    let cluster = Cluster::start(|number, asked| match asked.line.as_str() {
        "GET /c" => Reply::json(json!({})),
        _ => Reply::Once(if number < 2 { 2 } else { 5 }, "{}".to_owned()),
    })
    .await;
    let mut execution = Execution::new(race(&cluster.address, "composite", composite(requests))).unwrap();
    let outcome = execution.run().await.unwrap();
    let lines: Vec<_> = cluster.lines().into_iter().map(|(line, _)| line).collect();
    assert_eq!(lines, ["GET /a", "GET /b", "GET /c", "GET /d", "GET /e"]);
    let timing = |name: &str| outcome.inner.iter().find(|timing| timing.operation == name).unwrap().span;
    assert!(timing("a").received.max(timing("b").received) <= timing("c").sent);
    assert!(timing("c").received <= timing("d").sent.min(timing("e").sent));
    // Each was measured apart, although both were under way at the same time.
    assert!(timing("a").sent < timing("b").received && timing("b").sent < timing("a").received);
    let span = execution.span().unwrap();
    assert_eq!(span.sent, timing("a").sent.min(timing("b").sent));
    assert_eq!(span.received, timing("d").received.max(timing("e").received));
}

#[tokio::test]
async fn no_more_operations_run_at_once_than_connections_are_allowed() {
    let cluster = Cluster::answering(vec![json!({}); 6]).await;
    let two = |one: &str, other: &str| stream([raw(one), raw(other)]);
    let nested = json!({ "operation-type": "composite", "requests": [two("c", "d"), two("e", "f")] });
    let mut properties = composite([two("a", "b"), stream([nested])]);
    properties["max-connections"] = json!(1);
    let outcome = execute(&cluster.address, "composite", properties.clone()).await.unwrap();
    let mut inner = outcome.inner;
    inner.sort_by_key(|timing| timing.span.sent);
    assert_eq!(inner.len(), 6);
    assert!(inner.windows(2).all(|pair| pair[0].span.received <= pair[1].span.sent), "{inner:?}");

    properties["max-connections"] = json!(0);
    let error = execute(&cluster.address, "composite", properties).await.unwrap_err();
    assert!(error.to_string().contains("`max-connections` must be a whole number above 0, not 0"), "{error}");
}

#[tokio::test]
async fn an_error_in_one_stream_cancels_its_siblings() {
    let cluster = Cluster::start(|_, asked| match asked.line.as_str() {
        "GET /fails" => Reply::Now(400, r#"{"error":"bad"}"#.to_owned()),
        _ => Reply::Never,
    })
    .await;
    let requests = [stream([raw("hangs"), raw("later")]), stream([raw("fails"), raw("too-late")]), raw("after")];
    let mut execution = Execution::new(race(&cluster.address, "composite", composite(requests))).unwrap();
    let error = execution.run().await.unwrap_err();
    assert!(matches!(&error, RunnerError::Api { status: 400, .. }), "{error}");
    assert!(execution.span().is_some(), "what failed is measured, too");
    let mut lines: Vec<_> = cluster.lines().into_iter().map(|(line, _)| line).collect();
    lines.sort();
    assert_eq!(lines, ["GET /fails", "GET /hangs"]);
    // However many streams there are, the last one is heard.
    let mut streams = vec![stream([raw("hangs")]); 40];
    streams.push(stream([raw("fails")]));
    execute(&cluster.address, "composite", json!({ "requests": streams })).await.unwrap_err();
    // The next execution is not disturbed by what was cut short.
    assert!(execution.run().await.is_err());
}

#[tokio::test]
async fn pages_in_a_point_in_time_use_the_latest_id() {
    let page = |id: &str| {
        json!({
            "pit_id": id, "took": 1, "timed_out": false,
            "hits": { "total": { "value": 3, "relation": "eq" }, "hits": [{ "sort": [id] }] },
        })
    };
    let answers =
        [json!({ "id": "p0" }), page("p1"), page("p2"), json!({}), json!({ "id": "q0" }), page("q1"), page("q2")];
    let requests = [
        json!({ "operation-type": "open-point-in-time", "name": "pit", "index": "logs", "request-params": { "routing": "r" } }),
        json!({
            "operation-type": "paginated-search", "name": "pages", "index": "logs", "pages": 2, "results-per-page": 1,
            "with-point-in-time-from": "pit", "body": { "sort": ["n"], "routing": "r" },
            "request-params": { "preference": "_local", "routing": "r", "index": "i", "q": "x" },
        }),
        json!({ "operation-type": "close-point-in-time", "with-point-in-time-from": "pit" }),
    ];
    let cluster = Cluster::answering(answers.into_iter().chain([json!({})])).await;
    let mut execution = Execution::new(race(&cluster.address, "composite", composite(requests))).unwrap();
    let outcome = execution.run().await.unwrap();
    assert_eq!(names(&outcome.inner), ["pit", "pages", "close-point-in-time"]);
    let meta = json!({ "pages": 2, "hits": 3, "hits_relation": "eq", "timed_out": false, "took": 2 });
    assert_eq!(Value::Object(outcome.inner[1].meta.clone()), meta);
    execution.run().await.unwrap();

    let body = |id: &str| json!({ "sort": ["n"], "size": 1, "pit": { "id": id, "keep_alive": "1m" } });
    let after = |id: &str| {
        let mut body = body(id);
        body["search_after"] = json!([id]);
        body
    };
    let round = |ids: [&str; 3]| {
        [
            ("POST /logs/_pit?keep_alive=1m&routing=r".to_owned(), Value::Null),
            ("GET /_search?q=x".to_owned(), body(ids[0])),
            ("GET /_search?q=x".to_owned(), after(ids[1])),
            ("DELETE /_pit".to_owned(), json!({ "id": ids[2] })),
        ]
    };
    assert_eq!(cluster.lines(), [round(["p0", "p1", "p2"]), round(["q0", "q1", "q2"])].concat());
}

#[tokio::test]
async fn a_point_in_time_that_is_unknown_or_gets_lost_ends_the_race() {
    let open = json!({ "operation-type": "open-point-in-time", "name": "pit", "index": "logs" });
    let search = |name: &str| {
        json!({
            "operation-type": "composite-agg", "with-point-in-time-from": name,
            "body": { "aggs": { "a": { "composite": {} } } },
        })
    };
    let answers = [json!({ "id": "1" }), json!({ "took": 1, "hits": { "hits": [] } })];
    let cluster = Cluster::answering(answers.clone()).await;
    let lost = execute(&cluster.address, "composite", composite([open.clone(), search("pit")])).await.unwrap_err();
    assert!(matches!(&lost, RunnerError::Assertion(text) if text.contains("has no `pit_id`")), "{lost}");
    let cluster = Cluster::answering(answers).await;
    let unknown = execute(&cluster.address, "composite", composite([open, search("other")])).await.unwrap_err();
    assert!(unknown.to_string().contains("`other` before; known is `pit`"), "{unknown}");
    let cluster = Cluster::answering([json!({})]).await;
    let open = json!({ "operation-type": "open-point-in-time", "name": "pit", "index": "logs" });
    let nameless = execute(&cluster.address, "composite", composite([open])).await.unwrap_err();
    assert!(nameless.to_string().contains("`pit` has no `id`"), "{nameless}");
}

#[tokio::test]
async fn async_searches_are_submitted_waited_for_and_deleted() {
    let cluster = Cluster::answering([
        json!({ "id": "a=", "is_running": true }),
        json!({ "id": "b", "is_running": true }),
        json!({ "id": "a=", "is_running": true }),
        json!({ "is_running": false, "response": { "took": 4, "timed_out": false, "hits": { "total": 2 } } }),
        json!({ "is_running": false, "response": { "took": 9, "timed_out": true, "hits": { "hits": [] } } }),
        json!({ "is_running": false, "response": { "took": 4, "timed_out": false, "hits": { "total": 2 } } }),
        json!({}),
        json!({}),
    ])
    .await;
    let requests = [
        json!({ "operation-type": "submit-async-search", "name": "one", "index": "logs", "body": { "query": {} } }),
        json!({
            "operation-type": "submit-async-search", "name": "two", "body": {},
            "request-params": { "wait_for_completion_timeout": "1ms" },
        }),
        json!({
            "operation-type": "get-async-search", "name": "get", "retrieve-results-for": ["one", "two"],
            "retry-wait-period": 0.001, "request-params": { "keep_alive": "1m" },
        }),
        json!({ "operation-type": "delete-async-search", "delete-results-for": "one" }),
        json!({ "operation-type": "delete-async-search", "delete-results-for": ["two"] }),
    ];
    let outcome = execute(&cluster.address, "composite", composite(requests)).await.unwrap();
    assert_eq!(names(&outcome.inner), ["one", "two", "get", "delete-async-search", "delete-async-search"]);
    let get = &outcome.inner[2];
    let stats = json!({ "stats": {
        "one": { "timed_out": true, "took": 9 },
        "two": { "hits": 2, "hits_relation": "eq", "timed_out": false, "took": 4 },
    } });
    assert_eq!((get.success, Value::Object(get.meta.clone())), (true, stats));
    let lines = cluster.lines();
    let get = |id: &str| (format!("GET /_async_search/{id}?keep_alive=1m"), Value::Null);
    let expected = [
        ("POST /logs/_async_search?wait_for_completion_timeout=0".to_owned(), json!({ "query": {} })),
        ("POST /_async_search?wait_for_completion_timeout=1ms".to_owned(), json!({})),
        get("a%3D"),
        get("b"),
        get("a%3D"),
        get("b"),
        ("DELETE /_async_search/a%3D".to_owned(), Value::Null),
        ("DELETE /_async_search/b".to_owned(), Value::Null),
    ];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn async_searches_may_stay_unfinished_if_the_operation_says_so() {
    let answers = [json!({ "id": "a" }), json!({ "is_running": true }), json!({ "took": 1 })];
    let cluster = Cluster::answering(answers).await;
    let requests = [
        json!({ "operation-type": "submit-async-search", "name": "one", "body": {} }),
        json!({ "operation-type": "get-async-search", "retrieve-results-for": "one", "retry-until-success": false }),
    ];
    let outcome = execute(&cluster.address, "composite", composite(requests)).await.unwrap();
    assert!(outcome.success && !outcome.inner[1].success);

    let delete = json!({ "operation-type": "delete-async-search", "delete-results-for": "one" });
    let error = execute(&cluster.address, "composite", composite([delete])).await.unwrap_err();
    assert!(error.to_string().contains("known is nothing"), "{error}");
}

#[tokio::test]
async fn async_searches_that_were_done_at_once_are_not_asked_for_again() {
    let done = json!({ "is_running": false, "response": {} });
    let answers = [done.clone(), json!({ "id": "b", "is_running": true }), done, json!({})];
    let cluster = Cluster::answering(answers).await;
    let submit = |name: &str| json!({ "operation-type": "submit-async-search", "name": name, "body": {} });
    let get = |names: Value| json!({ "operation-type": "get-async-search", "retrieve-results-for": names });
    let delete = |names: Value| json!({ "operation-type": "delete-async-search", "delete-results-for": names });
    let both = json!(["one", "two"]);
    let requests = [submit("one"), submit("two"), get(json!("one")), get(both.clone()), delete(both)];
    let outcome = execute(&cluster.address, "composite", composite(requests)).await.unwrap();
    let found: Vec<_> = outcome.inner.iter().map(|it| (it.success, it.meta.get("stats").cloned())).collect();
    let nothing = json!({ "two": { "timed_out": null, "took": null } });
    assert_eq!(found[2..], [(true, Some(json!({}))), (true, Some(nothing)), (true, None)]);
    let lines: Vec<_> = cluster.lines().into_iter().map(|(line, _)| line).collect();
    assert_eq!(lines[2..], ["GET /_async_search/b", "DELETE /_async_search/b"]);
}

#[tokio::test]
async fn what_cannot_be_part_of_a_composite_operation_is_refused() {
    for (request, problem) in [
        (json!({ "operation-type": "bulk" }), "`bulk` cannot be part of a composite operation"),
        (json!({ "operation-type": "mine" }), "there is no runner for the operation type `mine`"),
        (json!({ "name": "x" }), "must have `stream` or `operation-type`"),
        (json!({ "stream": {} }), "`stream` must be a list, not {}"),
        (json!({ "operation-type": "search", "body": {} }), "operation `search` needs the parameter `index`"),
        (json!({ "operation-type": "search", "name": "s", "index": "a" }), "operation `s` needs the parameter `body`"),
    ] {
        let error = execute("127.0.0.1:1", "composite", composite([request.clone()])).await.unwrap_err();
        assert!(error.to_string().contains(problem), "{request}: {error}");
    }
    let error = execute("127.0.0.1:1", "composite", composite([raw("a")])).await.unwrap_err();
    assert!(matches!(&error, RunnerError::Transport { class: ErrorClass::Connect, .. }), "{error}");
}

#[tokio::test]
async fn inner_operations_are_counted_apart_from_their_task() {
    let cluster = Cluster::start(|_, _| Reply::json(json!({}))).await;
    let plan = race(&cluster.address, "composite", composite([raw("a"), stream([raw("b")]), stream([raw("b")])]));
    let told = crate::fixture::run(Registry::rally(), &plan, 1).await;
    assert_eq!(told.failure(), None);
    assert_eq!(told.samples(0, SampleType::Normal), 1);
    let inner = |name: &str| {
        let tasks = told.intervals.iter().flat_map(|interval| &interval.tasks);
        let wanted = Some((name.to_owned(), "raw-request".to_owned()));
        tasks.filter(|task| task.inner == wanted).map(|task| task.samples).sum::<u64>()
    };
    assert_eq!((inner("a"), inner("b")), (1, 2));
}
