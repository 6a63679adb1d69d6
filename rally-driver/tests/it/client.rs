//! The HTTP client against a target that does as it is told.

use std::cell::Cell;
use std::io::Read;
use std::rc::Rc;
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use flate2::read::GzDecoder;
use http::HeaderMap;
use rally_core::track::JsonObject;
use rally_driver::client::{Body, Client, ClientOptions, MediaTypes, Request};
use rally_driver::{ErrorClass, RequestTimer, RunnerError};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::target::{Act, Target};

fn answer(status: u16, body: &str) -> Act {
    Act::Answer(status, body.to_owned())
}

fn client(hosts: &[&Target], options: Value) -> (Client, Rc<RequestTimer>) {
    let timer = Rc::new(RequestTimer::default());
    let options: JsonObject = options.as_object().unwrap().clone();
    let hosts: Vec<String> = hosts.iter().map(|target| target.address.clone()).collect();
    let options = ClientOptions::try_from(&options).unwrap();
    (Client::new(&hosts, options, MediaTypes::default(), 0, Rc::clone(&timer)).unwrap(), timer)
}

#[tokio::test]
async fn requests_carry_what_elasticsearch_wants() {
    let target = Target::acting(&[answer(200, "{}"), answer(200, "{}")]).await;
    let (client, _) = client(&[&target], json!({ "basic_auth_user": "u", "basic_auth_password": "p" }));
    client.warm_up().await;
    let mut request = Request::new("GET", "/logs/_search?request_cache=true").json("{\"query\":{}}");
    request.headers.push(("x-opaque-id".to_owned(), "race".to_owned()));
    assert_eq!(client.request(&request).await.unwrap().body, "{}");
    client.request(&Request::new("GET", "/logs")).await.unwrap();
    let seen = target.seen();
    assert_eq!((seen[0].line(), seen[0].body()), ("GET /logs/_search?request_cache=true", "{\"query\":{}}"));
    for (name, value) in [
        ("host", target.address.as_str()),
        ("content-type", "application/vnd.elasticsearch+json; compatible-with=8"),
        ("accept", "application/vnd.elasticsearch+json; compatible-with=8"),
        ("authorization", "Basic dTpw"),
        ("x-opaque-id", "race"),
        ("accept-encoding", "identity"),
    ] {
        assert_eq!(seen[0].header(name), Some(value), "{name}");
    }
    assert_eq!(seen[1].header("content-type"), None);
}

#[tokio::test]
async fn tokens_and_keys_are_sent_as_they_are_given() {
    for (options, expected) in [
        (json!({ "bearer_auth": "t.o.k" }), "Bearer t.o.k"),
        (json!({ "api_key": "a2V5" }), "ApiKey a2V5"),
        (json!({ "api_key": ["id", "key"] }), "ApiKey aWQ6a2V5"),
    ] {
        let target = Target::acting(&[answer(200, "{}")]).await;
        let (client, _) = client(&[&target], options);
        client.request(&Request::new("GET", "/")).await.unwrap();
        assert_eq!(target.seen()[0].header("authorization"), Some(expected));
    }
}

#[tokio::test]
async fn bodies_are_packed_if_the_user_wants_it_and_say_so() {
    let (sender, mut arrived) = mpsc::channel(1);
    let app = Router::new().fallback(move |headers: HeaderMap, body: Bytes| async move {
        sender.send((headers, body)).await.unwrap();
        "{}"
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hosts = [listener.local_addr().unwrap().to_string()];
    let mut server = JoinSet::new();
    server.spawn(async move { axum::serve(listener, app).await.unwrap() });
    let options = JsonObject::from_iter([("http_compress".to_owned(), true.into())]);
    let options = ClientOptions::try_from(&options).unwrap();
    let client = Client::new(&hosts, options, MediaTypes::default(), 0, Rc::default()).unwrap();
    let body = "{\"a\":1}\n".repeat(1_000);
    let request = Request { body: Body::Ndjson(body.clone().into()), ..Request::new("POST", "/_bulk") };
    client.request(&request).await.unwrap();
    let (headers, packed) = arrived.recv().await.unwrap();
    assert_eq!(headers["content-encoding"], "gzip");
    assert!(packed.len() < body.len() / 10, "{} bytes", packed.len());
    let mut unpacked = String::new();
    GzDecoder::new(&packed[..]).read_to_string(&mut unpacked).unwrap();
    assert!(unpacked == body);
}

#[tokio::test]
async fn headers_of_the_user_are_never_replaced() {
    let target = Target::acting(&vec![answer(200, "{}"); 3]).await;
    let options = json!({ "headers": { "Content-Type": "application/json", "accept": "application/yaml" } });
    let (client, _) = client(&[&target], options);
    client.request(&Request::new("GET", "/_search").json("{}")).await.unwrap();
    let mut request = Request::new("PUT", "/_bulk");
    request.body = Body::Ndjson("{}\n".into());
    client.request(&request).await.unwrap();
    // What an operation says comes before what the options say.
    request.headers.push(("Accept".to_owned(), "application/cbor".to_owned()));
    client.request(&request).await.unwrap();
    let accepted = ["application/yaml", "application/yaml", "application/cbor"];
    for (seen, accepted) in target.seen().iter().zip(accepted) {
        assert_eq!(seen.header("content-type"), Some("application/json"), "{}", seen.text);
        assert_eq!(seen.header("accept"), Some(accepted), "{}", seen.text);
        assert_eq!(seen.text.to_lowercase().matches("content-type:").count(), 1, "{}", seen.text);
    }
}

#[tokio::test]
async fn a_request_ends_where_its_body_does_whatever_headers_say() {
    let target = Target::acting(&vec![answer(200, "{}"); 3]).await;
    let (client, _) = client(&[&target], json!({ "headers": { "content-length": "7" }, "timeout": 30 }));
    let mut request = Request::new("POST", "/logs/_search").json("{}");
    client.request(&request).await.unwrap();
    request.headers.push(("Transfer-Encoding".to_owned(), "chunked".to_owned()));
    request.headers.push(("Content-Length".to_owned(), "1".to_owned()));
    client.request(&request).await.unwrap();
    client.request(&Request::new("GET", "/")).await.unwrap();
    let seen = target.seen();
    assert_eq!(seen.iter().map(|seen| seen.body()).collect::<Vec<_>>(), ["{}", "{}", ""]);
}

#[tokio::test]
async fn what_goes_wrong_on_the_wire_has_the_class_that_it_is_of() {
    let raw = |text: &str| Act::Raw(text.as_bytes().to_vec());
    let large = format!("HTTP/1.1 200 OK\r\nx-large: {}\r\n\r\n", "x".repeat(1 << 20));
    let many: String = (0..200).map(|number| format!("x-{number}: 1\r\n")).collect();
    for (act, class, problem) in [
        (Act::HangUp, ErrorClass::Connect, "lost the connection to"),
        (Act::Reset, ErrorClass::Connect, "lost the connection to"),
        (raw("HTTP/1.1 200 OK\r\ncontent-le"), ErrorClass::Connect, "lost the connection to"),
        (raw("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc"), ErrorClass::Connect, "lost the connection to"),
        (raw("HTTP/1.1 twohundred\r\n\r\n"), ErrorClass::Response, "makes no sense"),
        (raw("SSH-2.0-OpenSSH_9.9\r\n\r\n"), ErrorClass::Response, "makes no sense"),
        (raw("HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n"), ErrorClass::Response, "makes no sense"),
        (raw(&large), ErrorClass::Response, "makes no sense"),
        (raw(&format!("HTTP/1.1 200 OK\r\n{many}\r\n")), ErrorClass::Response, "makes no sense"),
        (
            raw("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nmany\r\nabc\r\n0\r\n\r\n"),
            ErrorClass::Response,
            "makes no sense",
        ),
    ] {
        let target = Target::start(move |_| act.clone()).await;
        let (client, _) = client(&[&target], json!({ "max_retries": 1 }));
        let error = client.request(&Request::new("GET", "/")).await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, RunnerError::Transport { class: found, .. } if found == class), "{class:?} {error:?}");
        assert!(text.contains(problem) && text.contains(&target.address), "{text}");
        // What makes no sense is not asked for again.
        assert_eq!(client.retries(), u64::from(class == ErrorClass::Connect), "{text}");
    }
}

#[tokio::test]
async fn answers_without_a_body_need_not_be_packed_and_packed_ones_may_have_several_parts() {
    let pack = |text: &[u8]| {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packed, text).unwrap();
        packed.finish().unwrap()
    };
    let acts = [
        Act::Head("content-encoding: gzip\r\ncontent-length: 20"),
        Act::Packed("gzip", Vec::new()),
        Act::Packed("gzip", [pack(b"one "), pack(b"after "), pack(b"another")].concat()),
    ];
    let target = Target::acting(&acts).await;
    let (client, _) = client(&[&target], json!({ "http_compress": true }));
    assert_eq!(client.request(&Request::new("HEAD", "/logs")).await.unwrap().body, "");
    assert_eq!(client.request(&Request::new("GET", "/")).await.unwrap().body, "");
    assert_eq!(client.request(&Request::new("GET", "/")).await.unwrap().body, "one after another");
}

#[tokio::test]
async fn bodies_of_all_lengths_go_over_one_connection() {
    let bodies = [2, 20_000, 2, 300_000, 20_000].map(|length| "b".repeat(length));
    let target = Target::acting(&vec![answer(200, "{}"); bodies.len()]).await;
    let (client, _) = client(&[&target], json!({}));
    for body in &bodies {
        client.request(&Request::new("POST", "/").json(body.clone())).await.unwrap();
    }
    for (seen, body) in target.seen().iter().zip(&bodies) {
        assert_eq!(seen.header("content-length"), Some(body.len().to_string().as_str()));
        assert!(seen.body() == body, "of {} bytes, others came", body.len());
    }
    assert_eq!((client.reconnects(), target.connections()), (0, 1));
}

#[tokio::test]
async fn service_time_ends_with_the_last_byte_of_the_body() {
    let (pause, delay) = (Duration::from_millis(60), Duration::from_millis(40));
    let target = Target::acting(&[Act::Drip(pause), Act::Late(delay, "late")]).await;
    let (client, timer) = client(&[&target], json!({}));
    for (least, body) in [(pause, "abcd"), (delay, "late")] {
        let begun = RequestTimer::now();
        assert_eq!(client.request(&Request::new("GET", "/")).await.unwrap().body, body);
        let (span, ended) = (timer.take().unwrap(), RequestTimer::now());
        assert!(Duration::from_nanos(span.received - span.sent) >= least);
        assert!(begun <= span.sent && span.received <= ended, "{begun} {span:?} {ended}");
    }
}

#[tokio::test]
async fn a_request_is_sent_again_when_the_cluster_is_busy_or_hangs_up() {
    let target = Target::acting(&[answer(429, "busy"), Act::HangUp, answer(503, ""), answer(200, "done")]).await;
    let (client, _) = client(&[&target], json!({}));
    assert_eq!(client.request(&Request::new("GET", "/")).await.unwrap().body, "done");
    assert_eq!((client.retries(), client.reconnects()), (3, 1));
}

#[tokio::test]
async fn retries_end_and_errors_say_what_the_cluster_said() {
    let error = r#"{"error":{"type":"index_not_found_exception","reason":"no such index [x]"},"status":404}"#;
    let target = Target::acting(&[answer(404, error), answer(404, error), answer(429, ""), answer(429, "full")]).await;
    let (client, _) = client(&[&target], json!({ "max_retries": 1 }));
    let missing = client.request(&Request::new("DELETE", "/x")).await.unwrap_err();
    assert_eq!(missing.to_string(), "HTTP status 404: index_not_found_exception (no such index [x])");
    let ignored = Request { ignore: vec![404], ..Request::new("DELETE", "/x") };
    assert_eq!(client.request(&ignored).await.unwrap().status, 404);
    let busy = client.request(&Request::new("GET", "/")).await.unwrap_err();
    assert_eq!(busy.to_string(), "HTTP status 429: full");
}

#[tokio::test]
async fn a_timeout_is_not_sent_again_and_says_how_long_it_waited() {
    let target = Target::acting(&[Act::Late(Duration::from_secs(60), ""), answer(200, "next")]).await;
    let (client, timer) = client(&[&target], json!({}));
    let request = Request { timeout: Some(Duration::from_millis(50)), ..Request::new("GET", "/") };
    let error = client.request(&request).await.unwrap_err();
    assert!(matches!(&error, RunnerError::Transport { class: ErrorClass::Timeout, .. }), "{error}");
    assert!(error.to_string().contains("did not answer within 50ms"), "{error}");
    assert!(timer.take().is_some(), "a request that timed out is measured, too");
    assert_eq!(client.request(&Request::new("GET", "/")).await.unwrap().body, "next");
}

#[tokio::test]
async fn hosts_take_turns_and_one_that_fails_is_put_aside() {
    let good = Target::acting(&vec![answer(200, "good"); 5]).await;
    let bad = Target::acting(&[Act::HangUp]).await;
    let (client, _) = client(&[&good, &bad], json!({}));
    let bodies = Cell::new(0);
    for _ in 0..5 {
        assert_eq!(client.request(&Request::new("GET", "/")).await.unwrap().body, "good");
        bodies.set(bodies.get() + 1);
    }
    assert_eq!((bodies.get(), bad.seen().len(), client.retries()), (5, 1, 1));
}

#[tokio::test]
async fn nobody_there_is_a_connection_error_with_the_address() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let timer = Rc::new(RequestTimer::default());
    let options = ClientOptions { max_retries: 0, ..ClientOptions::default() };
    let client =
        Client::new(std::slice::from_ref(&address), options, MediaTypes::default(), 0, Rc::clone(&timer)).unwrap();
    client.warm_up().await;
    let error = client.request(&Request::new("GET", "/")).await.unwrap_err();
    assert!(matches!(&error, RunnerError::Transport { class: ErrorClass::Connect, .. }), "{error}");
    assert!(error.to_string().starts_with(&format!("cannot connect to {address}: ")), "{error}");
}

#[tokio::test]
async fn bodies_come_in_chunks_and_packed_and_what_cannot_be_read_is_an_error() {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, b"unpacked").unwrap();
    let packed = packed.finish().unwrap();
    let acts = [
        Act::Chunks,
        Act::Packed("gzip", packed.clone()),
        Act::Packed("gzip", packed[..packed.len() / 2].to_vec()),
        Act::Packed("br", packed),
    ];
    let target = Target::acting(&acts).await;
    let (client, _) = client(&[&target], json!({ "http_compress": true }));
    for body in ["abcdef", "unpacked"] {
        assert_eq!(client.request(&Request::new("GET", "/")).await.unwrap().body, body);
    }
    for problem in ["cannot unpack an answer", "an answer is packed with `br`"] {
        let error = client.request(&Request::new("GET", "/")).await.unwrap_err();
        assert!(matches!(&error, RunnerError::Transport { class: ErrorClass::Response, .. }), "{error}");
        assert!(error.to_string().contains(problem), "{error}");
    }
    assert_eq!(client.retries(), 0, "an answer that came is not asked for again");
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_is_opened_again_without_an_error() {
    let target = Target::start(|seen| if seen.number == 0 { Act::AnswerAndClose } else { Act::ok() }).await;
    let (client, _) = client(&[&target], json!({}));
    client.request(&Request::new("GET", "/")).await.unwrap();
    while client.reconnects() == 0 {
        client.warm_up().await;
        tokio::task::yield_now().await;
    }
    client.request(&Request::new("GET", "/")).await.unwrap();
    assert_eq!((client.retries(), client.reconnects(), target.connections()), (0, 1, 2));
}

#[tokio::test]
async fn the_timeout_of_one_request_is_not_that_of_the_next() {
    let late = Act::Late(Duration::from_millis(150), "late");
    let target = Target::acting(&[answer(200, "a"), late.clone(), late]).await;
    let (client, _) = client(&[&target], json!({ "timeout": 30 }));
    let quick = Request { timeout: Some(Duration::from_millis(40)), ..Request::new("GET", "/") };
    client.request(&quick).await.unwrap();
    assert_eq!(client.request(&Request::new("GET", "/")).await.unwrap().body, "late");
    let error = client.request(&quick).await.unwrap_err();
    assert!(matches!(&error, RunnerError::Transport { class: ErrorClass::Timeout, .. }), "{error}");
}

#[tokio::test]
async fn a_host_that_speaks_no_tls_is_a_failure_of_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = json!({ "use_ssl": true, "verify_certs": false, "max_retries": 0 });
    let options = ClientOptions::try_from(options.as_object().unwrap()).unwrap();
    let hosts = [listener.local_addr().unwrap().to_string()];
    let client = Client::new(&hosts, options, MediaTypes::default(), 0, Rc::default()).unwrap();
    let request = Request::new("GET", "/");
    let (answer, _) = tokio::join!(client.request(&request), async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        stream
    });
    let error = answer.unwrap_err();
    assert!(matches!(&error, RunnerError::Transport { class: ErrorClass::Tls, .. }), "{error}");
}
