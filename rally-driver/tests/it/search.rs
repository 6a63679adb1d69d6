//! Searches and queries: what they ask, and what they make of the answers.

use std::time::Duration;

use rally_driver::{Outcome, RunnerError};
use serde_json::{Value, json};

use crate::cluster::{Cluster, Reply};
use crate::execution::{Execution, execute, race};

fn summary(outcome: &Outcome) -> (u64, &str, bool, Value) {
    (outcome.weight, outcome.unit.as_ref(), outcome.success, outcome.meta.clone().into())
}

fn hits(total: u64, hits: &[Value]) -> Value {
    json!({
        "took": 3, "timed_out": false, "_shards": { "total": 1, "successful": 1, "skipped": 0, "failed": 0 },
        "hits": { "total": { "value": total, "relation": "eq" }, "hits": hits },
    })
}

fn with(mut answer: Value, key: &str, value: impl Into<Value>) -> Value {
    answer[key] = value.into();
    answer
}

#[tokio::test]
async fn a_search_is_one_request_whose_answer_is_only_read_for_details() {
    let cluster = Cluster::start(|number, _| match number {
        0 => Reply::Now(200, "this is not read".to_owned()),
        1 => Reply::json(hits(7, &[json!({})])),
        _ => Reply::Now(200, "<html>".to_owned()),
    })
    .await;
    let search = json!({
        "index": "logs-*", "body": { "query": { "match_all": {} } }, "cache": true, "results-per-page": 5,
        "request-params": { "preference": "_local", "ignore": 404 }, "response-compression-enabled": false,
        "headers": { "x-mine": "1" }, "opaque-id": "me", "request-timeout": 5,
    });
    let outcome = execute(&cluster.address, "search", search.clone()).await.unwrap();
    assert_eq!(summary(&outcome), (1, "ops", true, json!({})));

    let detailed = with(search, "detailed-results", true);
    let outcome = execute(&cluster.address, "search", detailed.clone()).await.unwrap();
    let expected = json!({
        "hits": 7, "hits_relation": "eq", "timed_out": false, "took": 3,
        "shards": { "total": 1, "successful": 1, "skipped": 0, "failed": 0 },
    });
    assert_eq!(summary(&outcome), (1, "ops", true, expected));
    let error = execute(&cluster.address, "search", detailed).await.unwrap_err();
    assert!(error.to_string().starts_with("the answer to a search makes no sense"), "{error}");

    for asked in cluster.asked() {
        assert_eq!(asked.line, "GET /logs-*/_search?request_cache=true&preference=_local");
        assert_eq!(asked.body, json!({ "query": { "match_all": {} }, "size": 5 }));
        for header in ["x-mine: 1\r\n", "x-opaque-id: me\r\n", "accept-encoding: identity\r\n"] {
            assert!(asked.head.contains(header), "{header} is missing in {}", asked.head);
        }
    }
}

#[tokio::test]
async fn compression_is_what_the_headers_say_and_else_what_the_operation_says() {
    for (headers, enabled, expected) in [
        (json!({}), json!(true), "gzip"),
        (json!({}), json!("false"), "identity"),
        (json!({ "Accept-Encoding": "deflate" }), json!(false), "deflate"),
    ] {
        let cluster = Cluster::answering([json!({})]).await;
        let search = json!({ "index": "a", "body": {}, "headers": headers, "response-compression-enabled": enabled });
        let mut plan = race(&cluster.address, "search", search);
        let options = json!({ "http_compress": true }).as_object().unwrap().clone();
        plan.client_options.insert("default".to_owned(), options);
        Execution::new(plan).unwrap().run().await.unwrap();
        let head = cluster.asked().remove(0).head;
        assert!(head.contains(&format!("accept-encoding: {expected}\r\n")), "{head}");
        assert_eq!(head.matches("accept-encoding").count(), 1, "{head}");
    }
}

#[tokio::test]
async fn on_serverless_searches_are_not_cached_unless_an_operator_or_the_track_says_so() {
    let cluster = Cluster::answering(vec![json!({}); 4]).await;
    let search = json!({ "index": "logs", "body": null });
    let asked = [
        (search.clone(), false, "?request_cache=false"),
        (search.clone(), true, ""),
        (with(search.clone(), "cache", true), false, "?request_cache=true"),
        (with(search, "request-params", json!({ "request_cache": true })), false, "?request_cache=true"),
    ];
    for (search, operator, query) in &asked {
        let mut plan = race(&cluster.address, "search", search.clone());
        plan.distribution_flavor = Some("serverless".to_owned());
        plan.serverless_operator = *operator;
        Execution::new(plan).unwrap().run().await.unwrap();
        let last = cluster.asked().pop().unwrap();
        assert_eq!((last.line, last.body), (format!("GET /logs/_search{query}"), Value::Null));
    }
}

#[tokio::test]
async fn a_scroll_ends_with_an_empty_page_and_is_always_cleared() {
    let page = |id: &str, full: bool| with(hits(5, if full { &[Value::Null] } else { &[] }), "_scroll_id", id);
    for operation_type in ["scroll-search", "search"] {
        let cluster = Cluster::answering([page("a", true), page("b", true), page("b", false), json!({})]).await;
        let scroll = json!({
            "index": "logs", "body": { "query": {} }, "pages": "all", "results-per-page": 2,
            "request-params": { "q": "x" }, "opaque-id": "me",
        });
        let outcome = execute(&cluster.address, operation_type, scroll).await.unwrap();
        let expected = json!({ "pages": 3, "hits": 5, "hits_relation": "eq", "timed_out": false, "took": 9 });
        assert_eq!(summary(&outcome), (3, "pages", true, expected));
        let next = |id: &str| ("GET /_search/scroll".to_owned(), json!({ "scroll_id": id, "scroll": "10s" }));
        let asked = [
            ("GET /logs/_search?sort=_doc&scroll=10s&size=2&q=x".to_owned(), json!({ "query": {}, "size": 2 })),
            next("a"),
            next("b"),
            ("DELETE /_search/scroll".to_owned(), json!({ "scroll_id": ["b"] })),
        ];
        assert_eq!(cluster.lines(), asked);
        assert!(cluster.asked().iter().all(|asked| asked.head.contains("x-opaque-id: me")));
    }
}

#[tokio::test]
async fn a_scroll_ends_at_its_page_limit_or_when_the_first_page_has_everything() {
    let page = with(hits(5, &[Value::Null]), "_scroll_id", "a");
    for (pages, size, total, requests) in
        [(json!(2), json!(2), 5, 3), (json!("all"), json!(6), 5, 2), (json!(9), Value::Null, 0, 2)]
    {
        let mut page = page.clone();
        page["hits"]["total"]["value"] = json!(total);
        let cluster = Cluster::answering(vec![page; 3]).await;
        let scroll = json!({ "index": "logs", "body": null, "pages": pages, "results-per-page": size });
        let outcome = execute(&cluster.address, "scroll-search", scroll).await.unwrap();
        assert_eq!((outcome.weight as usize, cluster.lines().len()), (requests - 1, requests), "{pages}");
    }
}

#[tokio::test]
async fn a_scroll_that_fails_is_cleared_and_a_failure_to_clear_it_does_not_matter() {
    let page = with(hits(5, &[Value::Null]), "_scroll_id", "a");
    let scroll = json!({ "index": "logs", "body": null, "pages": 2, "results-per-page": 2 });
    let first = page.clone();
    let cluster = Cluster::start(move |number, _| match number {
        0 => Reply::json(first.clone()),
        _ => Reply::Now(404, "gone".to_owned()),
    })
    .await;
    let error = execute(&cluster.address, "scroll-search", scroll.clone()).await.unwrap_err();
    assert!(matches!(&error, RunnerError::Api { status: 404, .. }), "{error}");
    assert_eq!(cluster.lines().last().unwrap().0, "DELETE /_search/scroll");

    let cluster = Cluster::start(move |number, _| match number {
        0 | 1 => Reply::json(page.clone()),
        _ => Reply::Now(500, "no".to_owned()),
    })
    .await;
    assert_eq!(execute(&cluster.address, "scroll-search", scroll.clone()).await.unwrap().weight, 2);

    let cluster = Cluster::answering([hits(5, &[Value::Null])]).await;
    let error = execute(&cluster.address, "scroll-search", scroll).await.unwrap_err();
    assert!(error.to_string().contains("has no `_scroll_id`"), "{error}");
}

#[tokio::test]
async fn pages_begin_behind_the_last_hit_and_each_execution_begins_anew() {
    let page = |sort: u64| hits(5, &[json!({ "sort": [0] }), json!({ "sort": [sort, "x"] })]);
    let cluster = Cluster::answering([page(2), page(4), page(5), page(2), page(4), page(5)]).await;
    let search = json!({
        "index": "logs", "body": { "sort": ["n"] }, "pages": "all", "results-per-page": 2, "cache": false,
    });
    let mut execution = Execution::new(race(&cluster.address, "paginated-search", search.clone())).unwrap();
    let body = |after: Value| {
        let body = json!({ "sort": ["n"], "size": 2 });
        let body = if after.is_null() { body } else { with(body, "search_after", after) };
        ("GET /logs/_search?request_cache=false".to_owned(), body)
    };
    let asked = [body(Value::Null), body(json!([2, "x"])), body(json!([4, "x"]))];
    for _ in 0..2 {
        let outcome = execution.run().await.unwrap();
        let expected = json!({ "pages": 3, "hits": 5, "hits_relation": "eq", "timed_out": false, "took": 9 });
        assert_eq!(summary(&outcome), (3, "pages", true, expected));
    }
    assert_eq!(cluster.lines(), [asked.clone(), asked].concat());

    let cluster = Cluster::answering(vec![page(2); 4]).await;
    let mut execution = Execution::new(race(&cluster.address, "paginated-search", with(search, "pages", 2))).unwrap();
    for _ in 0..2 {
        assert_eq!(execution.run().await.unwrap().weight, 2);
    }
    let afters: Vec<_> = cluster.lines().into_iter().map(|(_, body)| body["search_after"].clone()).collect();
    assert_eq!(afters, [Value::Null, json!([2, "x"]), Value::Null, json!([2, "x"])]);
}

#[tokio::test]
async fn pages_end_where_no_hits_are_and_need_sort_values_to_go_on() {
    let search = json!({ "index": "logs", "body": null, "pages": "all", "results-per-page": 2 });
    let cluster = Cluster::answering([hits(50, &[])]).await;
    assert_eq!(execute(&cluster.address, "paginated-search", search.clone()).await.unwrap().weight, 1);
    let cluster = Cluster::answering([hits(50, &[json!({ "_source": { "sort": [1] } })])]).await;
    let error = execute(&cluster.address, "paginated-search", search).await.unwrap_err();
    assert!(error.to_string().contains("needs a `sort`"), "{error}");
}

#[tokio::test]
async fn a_composite_aggregation_is_read_to_its_last_bucket() {
    let page = |after: Value| {
        let pairs =
            if after.is_null() { json!({ "buckets": [] }) } else { json!({ "after_key": after, "buckets": [1] }) };
        with(hits(9, &[]), "aggregations", json!({ "all": { "doc_count": 9, "pairs": pairs } }))
    };
    let cluster = Cluster::answering([page(json!({ "k": "a" })), page(json!({ "k": "b" })), page(Value::Null)]).await;
    let search = json!({
        "index": "logs", "results-per-page": 10,
        "body": { "size": 0, "aggs": { "all": { "filter": {}, "aggs": { "pairs": { "composite": { "sources": [] } } } } } },
    });
    let outcome = execute(&cluster.address, "composite-agg", search.clone()).await.unwrap();
    let expected = json!({ "pages": 3, "hits": 9, "hits_relation": "eq", "timed_out": false, "took": 9 });
    assert_eq!(summary(&outcome), (3, "pages", true, expected));
    let composite: Vec<_> = cluster
        .lines()
        .into_iter()
        .map(|(_, body)| body["aggs"]["all"]["aggs"]["pairs"]["composite"].clone())
        .collect();
    let first = json!({ "sources": [], "size": 10 });
    assert_eq!(
        composite,
        [first.clone(), with(first.clone(), "after", json!({ "k": "a" })), with(first, "after", json!({ "k": "b" }))]
    );
    assert!(cluster.lines().iter().all(|(line, body)| line == "GET /logs/_search" && body["size"] == 0));

    let cluster = Cluster::answering([page(json!({ "k": "a" }))]).await;
    assert_eq!(execute(&cluster.address, "composite-agg", with(search, "pages", 1)).await.unwrap().weight, 1);
}

#[tokio::test]
async fn parameters_that_make_no_sense_are_named_with_the_operation() {
    for (operation_type, properties, problem) in [
        ("search", json!({ "body": {} }), "operation `search` needs the parameter `index`"),
        ("search", json!({ "index": "a", "type": "b" }), "`type` is gone"),
        ("search", json!({ "type": null }), "operation `search` needs the parameter `index`"),
        ("scroll-search", json!({ "index": "a" }), "operation `scroll-search` needs the parameter `pages`"),
        (
            "scroll-search",
            json!({ "index": "a", "pages": "many" }),
            "`pages` must be a whole number above 0 or `all`, not \"many\"",
        ),
        ("scroll-search", json!({ "index": "a", "pages": 1, "results-per-page": 0 }), "`results-per-page` must be"),
        ("paginated-search", json!({ "index": "a", "pages": 1 }), "needs the parameter `results-per-page`"),
        (
            "paginated-search",
            json!({ "index": "a", "pages": 1, "results-per-page": 1, "with-point-in-time-from": "p" }),
            "is only known inside of a `composite` operation",
        ),
        (
            "composite-agg",
            json!({ "index": "a", "body": { "aggs": {} } }),
            "`body` must have a `composite` aggregation",
        ),
        ("open-point-in-time", json!({ "name": "p" }), "operation `p`: what `open-point-in-time` refers to by name"),
        ("get-async-search", json!({}), "is only known inside of a `composite` operation"),
        ("raw-request", json!({}), "needs the parameter `path`"),
        ("raw-request", json!({ "path": "_cat" }), "`path` must begin with a slash, not be `_cat`"),
        ("raw-request", json!({ "path": "/", "method": "JUMP" }), "`JUMP` is no method"),
        ("sql", json!({ "body": {} }), "needs the parameter `body.query`"),
        ("sql", json!({ "body": { "query": "q" }, "pages": 0 }), "`pages` must be a whole number above 0, not 0"),
        ("esql", json!({}), "operation `esql` needs the parameter `query`"),
        ("esql", json!({ "query": "q", "body": [] }), "`body` must be an object, not []"),
        ("run-until", json!({ "path": "/", "json-path": "a" }), "needs the parameter `criterion`"),
        ("run-until", json!({ "path": "/", "json-path": "a", "criterion": {} }), "must be one of exists"),
        ("composite", json!({}), "operation `composite` needs the parameter `requests`"),
    ] {
        let error = execute("127.0.0.1:1", operation_type, properties.clone()).await.unwrap_err();
        assert!(error.to_string().contains(problem), "{operation_type} {properties}: {error}");
    }
}

#[tokio::test]
async fn a_raw_request_is_sent_as_it_is() {
    let cluster = Cluster::start(|number, _| Reply::Now(if number == 0 { 201 } else { 404 }, "x".to_owned())).await;
    let raw = json!({
        "path": "/_msearch", "method": "post", "body": "{}\n{\"size\":1}\n", "request-params": { "pretty": true },
        "headers": { "x-mine": "1" }, "ignore": [404],
    });
    for _ in 0..2 {
        let outcome = execute(&cluster.address, "raw-request", raw.clone()).await.unwrap();
        assert_eq!(outcome, Outcome::default());
    }
    assert_eq!(cluster.lines()[1], ("POST /_msearch?pretty=true".to_owned(), json!("{}\n{\"size\":1}\n")));
    let eql = json!({ "path": "/logs/_eql/search", "body": { "query": "any where true" } });
    let error = execute(&cluster.address, "raw-request", eql).await.unwrap_err();
    assert!(matches!(&error, RunnerError::Api { status: 404, .. }), "{error}");
    assert_eq!(cluster.lines()[2], ("GET /logs/_eql/search".to_owned(), json!({ "query": "any where true" })));
}

#[tokio::test]
async fn sql_follows_its_cursor() {
    let rows = json!({ "columns": [], "rows": [["cursor"]] });
    let answers = [with(rows.clone(), "cursor", "a"), with(rows.clone(), "cursor", "b"), rows];
    let cluster = Cluster::answering(answers.clone()).await;
    let sql =
        json!({ "body": { "query": "SELECT 1", "fetch_size": 1 }, "pages": 3, "request-params": { "format": "json" } });
    let outcome = execute(&cluster.address, "sql", sql.clone()).await.unwrap();
    assert_eq!(summary(&outcome), (3, "ops", true, json!({})));
    let asked = [json!({ "query": "SELECT 1", "fetch_size": 1 }), json!({ "cursor": "a" }), json!({ "cursor": "b" })];
    assert_eq!(cluster.lines(), asked.map(|body| ("POST /_sql?format=json".to_owned(), body)));

    let cluster = Cluster::answering(answers).await;
    let error = execute(&cluster.address, "sql", with(sql, "pages", 4)).await.unwrap_err();
    assert_eq!(error.to_string(), "operation `sql`: the rows end with page 3, but `pages` asks for 4");
}

#[tokio::test]
async fn esql_says_whether_its_results_are_partial() {
    let whole = json!({ "took": 4, "is_partial": false, "documents_found": 9, "columns": [], "values": [] });
    let cluster =
        Cluster::answering([whole.clone(), whole.clone(), with(whole.clone(), "is_partial", true), whole]).await;
    let query = json!({
        "query": "FROM logs", "body": { "locale": "en" }, "filter": { "term": {} },
        "request-params": { "drop_null_columns": true },
    });
    let outcome = execute(&cluster.address, "esql", query.clone()).await.unwrap();
    assert_eq!(summary(&outcome), (1, "ops", true, json!({ "is_partial": false })));
    let outcome = execute(&cluster.address, "esql", with(query.clone(), "detailed-results", true)).await.unwrap();
    let details = json!({ "is_partial": false, "took": 4, "documents_found": 9 });
    assert_eq!(summary(&outcome), (1, "ops", true, details));
    let outcome = execute(&cluster.address, "esql", query.clone()).await.unwrap();
    assert!(!outcome.success);
    assert_eq!((&outcome.meta["is_partial"], &outcome.meta["error-type"]), (&json!(true), &json!("esql")));
    assert!(outcome.meta.contains_key("error-description"));
    execute(&cluster.address, "esql-profile", query).await.unwrap();

    let body = json!({ "locale": "en", "query": "FROM logs", "filter": { "term": {} } });
    let line = "POST /_query?drop_null_columns=true".to_owned();
    assert_eq!(cluster.lines()[0], (line.clone(), body.clone()));
    assert_eq!(cluster.lines()[3], (line, with(body, "profile", true)));
}

#[tokio::test]
async fn an_esql_profile_is_kept_with_the_sample() {
    let answer = json!({
        "is_partial": false, "columns": [], "values": [],
        "profile": {
            "query": { "took_nanos": 2_000_000 },
            "drivers": [{ "description": "data", "took_nanos": 1_000_000, "cpu_nanos": 500_000, "operators": [] }],
        },
    });
    let cluster = Cluster::answering([answer]).await;
    let outcome = execute(&cluster.address, "esql-profile", json!({ "query": "q", "filter": {} })).await.unwrap();
    assert_eq!(cluster.lines(), [("POST /_query".to_owned(), json!({ "query": "q", "profile": true }))]);
    let expected = json!({
        "is_partial": false, "query.took_ms": 2.0, "data.number": 1, "data.took_ms": 1.0, "data.took_total_ms": 1.0,
        "data.cpu_ms": 0.5, "data.cpu_total_ms": 0.5,
    });
    assert_eq!(summary(&outcome), (1, "ops", true, expected));
}

#[tokio::test]
async fn field_caps_are_asked_for_with_a_body() {
    let cluster = Cluster::answering(vec![json!({}); 3]).await;
    execute(&cluster.address, "field-caps", json!({})).await.unwrap();
    let own_fields = json!({ "body": { "fields": ["a"] }, "index_filter": {} });
    execute(&cluster.address, "field-caps", own_fields).await.unwrap();
    let some = json!({
        "index": ["a", "b*"], "fields": "time", "index_filter": { "range": {} }, "body": { "runtime_mappings": {} },
        "request-params": { "ignore_unavailable": true },
    });
    let outcome = execute(&cluster.address, "field-caps", some).await.unwrap();
    assert_eq!(outcome, Outcome::default());
    let body = json!({ "runtime_mappings": {}, "fields": "time", "index_filter": { "range": {} } });
    assert_eq!(
        cluster.lines(),
        [
            ("POST /_all/_field_caps".to_owned(), json!({ "fields": "*" })),
            ("POST /_all/_field_caps".to_owned(), json!({ "fields": ["a"] })),
            ("POST /a,b*/_field_caps?ignore_unavailable=true".to_owned(), body),
        ]
    );
}

#[tokio::test]
async fn run_until_waits_between_requests_until_its_criterion_is_met() {
    let answers = [json!({}), json!({ "a": { "n": 0 } }), json!({ "a": { "n": 2 } }), json!({ "a": { "n": 3 } })];
    let cluster = Cluster::answering(answers).await;
    let until = json!({
        "path": "/_stats", "method": "POST", "body": { "x": 1 }, "request-params": { "human": false },
        "json-path": "a.n", "criterion": { "operator": "gte", "value": 3 }, "retry-wait-interval": 0.02,
    });
    let mut execution = Execution::new(race(&cluster.address, "run-until", until)).unwrap();
    assert_eq!(execution.run().await.unwrap(), Outcome::default());
    assert_eq!(cluster.lines(), vec![("POST /_stats?human=false".to_owned(), json!({ "x": 1 })); 4]);
    // A value that is missing or zero is waited for, too.
    let span = execution.span().unwrap();
    assert!(Duration::from_nanos(span.received - span.sent) >= Duration::from_millis(60));
}
