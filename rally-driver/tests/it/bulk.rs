//! Bulks against a target that answers by a script.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use rally_core::OnError;
use rally_core::track::{Corpus, Documents, JsonObject, Operation, OperationBuilder, Task, Track};
use rally_driver::{ParamSource, Params, Registry, RunnerError, TaskReport, TaskRun, TaskRunError};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// A target that gives these answers, one after the other, and keeps path and body of each request.
struct Target {
    url: String,
    seen: Arc<Seen>,
    _server: JoinSet<()>,
}

#[derive(Default)]
struct Seen {
    answers: Mutex<Vec<(u16, Value)>>,
    requests: Mutex<Vec<(String, String)>>,
}

async fn target(answers: impl IntoIterator<Item = (u16, Value)>) -> Target {
    let mut answers: Vec<_> = answers.into_iter().collect();
    answers.reverse();
    let seen = Arc::new(Seen { answers: Mutex::new(answers), ..Seen::default() });
    let app = Router::new().fallback(answer).with_state(Arc::clone(&seen));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut server = JoinSet::new();
    server.spawn(async move { axum::serve(listener, app).await.unwrap() });
    Target { url, seen, _server: server }
}

async fn answer(State(seen): State<Arc<Seen>>, request: Request) -> (StatusCode, String) {
    let asked = format!("{} {}", request.method(), request.uri());
    if asked == "GET /" {
        // The driver wants to know what it speaks to.
        return (StatusCode::NOT_FOUND, String::new());
    }
    let body = axum::body::to_bytes(request.into_body(), usize::MAX).await.unwrap();
    seen.requests.lock().unwrap().push((asked, String::from_utf8(body.to_vec()).unwrap()));
    let (status, answer) = seen.answers.lock().unwrap().pop().unwrap_or((500, json!({})));
    (StatusCode::from_u16(status).unwrap(), answer.to_string())
}

/// An answer with an item of each status.
fn items(statuses: &[u16]) -> (u16, Value) {
    let item = |status: &u16| match status {
        200..300 => json!({"index": {"status": status, "result": "created"}}),
        status => json!({"index": {"status": status, "error": {"type": "t", "reason": "no"}}}),
    };
    let errors = statuses.iter().any(|status| *status > 299);
    (200, json!({"took": 7, "errors": errors, "items": statuses.iter().map(item).collect::<Vec<_>>()}))
}

impl Target {
    /// Runs one client that sends three documents in one bulk.
    async fn bulk(&self, adjust: impl FnOnce(OperationBuilder) -> OperationBuilder) -> TaskReport {
        self.try_bulk(adjust).await.unwrap()
    }

    async fn try_bulk(
        &self,
        adjust: impl FnOnce(OperationBuilder) -> OperationBuilder,
    ) -> Result<TaskReport, TaskRunError> {
        self.try_bulks(adjust, OnError::default()).await
    }

    async fn try_bulks(
        &self,
        adjust: impl FnOnce(OperationBuilder) -> OperationBuilder,
        on_error: OnError,
    ) -> Result<TaskReport, TaskRunError> {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("c")).unwrap();
        std::fs::write(home.path().join("c/d.json"), "{\"a\":1}\n{\"a\":2}\n{\"a\":3}\n").unwrap();
        let operation = adjust(Operation::builder("bulk").property("bulk-size", 3));
        let documents = Documents::builder("d.json", 3).target_index("i");
        TaskRun::new(Task::builder(operation))
            .track(Track::builder("tests").corpus(Corpus::builder("c").documents(documents)))
            .target_hosts([&self.url])
            .on_error(on_error)
            .client_options(JsonObject::from_iter([("max_retries".to_owned(), json!(0))]))
            .cores(1)
            .data_dir(home.path())
            .run(registry())
            .await
    }

    fn requests(&self) -> Vec<(String, String)> {
        self.seen.requests.lock().unwrap().clone()
    }
}

/// Rally's operations, and a source of two lines without action lines.
fn registry() -> Registry {
    let mut registry = Registry::rally();
    registry.register_param_source("lines", |setup| Ok(Lines(setup.task.operation.params.clone())));
    registry
}

struct Lines(JsonObject);

impl ParamSource for Lines {
    fn next(&mut self) -> Result<Option<Params>, RunnerError> {
        let mut values = self.0.clone();
        values.insert("body".to_owned(), json!(["{\"a\":1}\n", {"a": 2}]));
        Ok(Some(values.into()))
    }
}

const ACTION: &str = "{\"index\": {\"_index\": \"i\"}}\n";

#[tokio::test]
async fn a_bulk_has_an_action_line_before_each_document_and_only_the_options_that_it_knows() {
    let target = target([items(&[201, 201, 201])]).await;
    let operation = |operation: OperationBuilder| {
        operation.property("pipeline", "p").property("refresh", "wait_for").property("timeout", "3s")
    };
    let report = target.bulk(operation).await;
    let body = format!("{ACTION}{{\"a\":1}}\n{ACTION}{{\"a\":2}}\n{ACTION}{{\"a\":3}}\n");
    let path = "PUT /_bulk?timeout=3s&pipeline=p&refresh=wait_for".to_owned();
    assert_eq!(target.requests(), [(path, body)]);
    let measured = report.normal().unwrap();
    assert_eq!((measured.samples, measured.failed, &*measured.unit), (1, 0, "docs"));
    assert_eq!(measured.throughput.iter().map(|bin| bin.weight).sum::<u64>(), 3);
}

#[tokio::test]
async fn a_looped_bulk_without_a_length_goes_on_until_something_else_ends_it() {
    // What comes after these is an error.
    let target = target((0..5).map(|_| items(&[200, 200, 200]))).await;
    let ended = target.try_bulks(|bulk| bulk.property("looped", true), OnError::Abort).await.unwrap_err();
    assert!(ended.to_string().contains("a request failed (http 500)"), "{ended}");
    let bodies: Vec<_> = target.requests().into_iter().map(|(_, body)| body).collect();
    assert_eq!(bodies.len(), 6);
    assert!(bodies.iter().all(|body| *body == bodies[0]));
}

#[tokio::test]
async fn an_empty_pipeline_is_none() {
    let target = target([items(&[201, 201, 201])]).await;
    target.bulk(|operation| operation.property("pipeline", "")).await;
    assert_eq!(target.requests()[0].0, "PUT /_bulk");
}

#[tokio::test]
async fn documents_without_room_are_sent_again_and_nothing_else() {
    let target = target([items(&[429, 400, 429]), items(&[429, 201]), items(&[201])]).await;
    let report = target.bulk(|operation| operation.property("retries_on_429", 5)).await;
    let bodies: Vec<String> = target.requests().into_iter().map(|(_, body)| body).collect();
    let document = |number: u32| format!("{ACTION}{{\"a\":{number}}}\n");
    let all = [document(1), document(2), document(3)].concat();
    assert_eq!(bodies, [all, [document(1), document(3)].concat(), document(1)]);
    let measured = report.normal().unwrap();
    assert_eq!((measured.samples, measured.failed), (1, 0));
}

#[tokio::test]
async fn documents_that_never_find_room_are_an_error_after_the_last_retry() {
    for answers in
        [vec![items(&[201, 429, 201]), items(&[429]), items(&[429])], vec![items(&[201, 429, 201]), (500, json!({}))]]
    {
        let count = answers.len();
        let target = target(answers).await;
        let report = target.bulk(|operation| operation.property("retries_on_429", "2")).await;
        assert_eq!(target.requests().len(), count);
        let measured = report.normal().unwrap();
        assert_eq!((measured.samples, measured.failed, &*measured.errors[0].class), (1, 1, "bulk"));
        assert_eq!(measured.errors[0].example, "HTTP status: 429, message: no");
    }
}

#[tokio::test]
async fn failed_documents_are_an_error_in_either_mode() {
    for detailed in [json!(false), json!("true")] {
        let target = target([items(&[201, 400, 201])]).await;
        let report = target.bulk(|operation| operation.property("detailed-results", detailed)).await;
        let measured = report.normal().unwrap();
        assert_eq!((measured.failed, &*measured.errors[0].class), (1, "bulk"));
        assert_eq!(measured.errors[0].example, "HTTP status: 400, message: no");
        assert_eq!(&*measured.unit, "docs", "its documents count all the same");
    }
}

#[tokio::test]
async fn a_source_without_action_lines_names_the_index_in_the_path() {
    let target = target([items(&[201, 201])]).await;
    let operation = |operation: OperationBuilder| {
        let operation = operation.property("param-source", "lines").property("action-metadata-present", false);
        operation.property("index", "my index").property("unit", "docs").property("bulk-size", 2)
    };
    target.bulk(operation).await;
    assert_eq!(target.requests(), [("PUT /my%20index/_bulk".to_owned(), "{\"a\":1}\n{\"a\":2}\n".to_owned())]);
}

#[tokio::test]
async fn options_that_the_original_refuses_are_refused_in_a_sentence() {
    let target = target([]).await;
    for (key, value, expected) in [
        ("refresh", json!("yes"), "`refresh` must be `wait_for`, `true` or `false`, as text, not \"yes\""),
        ("refresh", json!(true), "as text, not true"),
        ("request-params", json!({"refresh": "true"}), "`request-params` cannot be used with bulks"),
        ("bulk-size", json!(0), "`bulk-size` must be a whole number above 0"),
        ("looped", json!("maybe"), "`looped` must be true or false, not \"maybe\""),
        ("detailed-results", json!(1), "`detailed-results` must be true or false, not 1"),
        ("retries_on_429", json!("many"), "`retries_on_429` must be a whole number, at least 0, not \"many\""),
        ("corpora", json!([1]), "`corpora` must be a name or a list of names, not [1]"),
        ("headers", json!("x"), "`headers` must be an object, not \"x\""),
    ] {
        let error = target.try_bulk(|operation| operation.property(key, value)).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let operation = |operation: OperationBuilder| operation.property("param-source", "lines");
    let error = target.try_bulk(operation).await.unwrap_err().to_string();
    assert!(error.contains("needs the parameter `action-metadata-present`"), "{error}");
    assert_eq!(target.requests(), []);
}

#[tokio::test]
async fn an_answer_that_is_none_and_a_refused_request_are_failed_samples() {
    for (answer, class) in [((200, json!("ok")), "response"), ((413, json!({})), "http 413")] {
        let report = target([answer]).await.bulk(|operation| operation).await;
        let normal = report.normal().unwrap();
        assert_eq!((normal.samples, normal.failed, normal.errors[0].class.as_str()), (1, 1, class));
    }
    let error = target([(200, json!("ok"))]).await.bulk(|operation| operation.property("detailed-results", true)).await;
    let example = &error.normal().unwrap().errors[0].example;
    assert!(example.contains("the answer to a bulk request makes no sense"), "{example}");
}
