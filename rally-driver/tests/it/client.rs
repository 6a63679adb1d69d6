//! The HTTP client against a target that does as it is told.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rally_core::track::JsonObject;
use rally_driver::client::{Client, ClientOptions, Request};
use rally_driver::{ErrorClass, RequestTimer, RunnerError};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// What the target does with a request.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Answers with this status and body.
    Answer(u16, &'static str),
    /// Answers like that after so long.
    Late(Duration, &'static str),
    /// Sends the body in two parts, with so long in between.
    Drip(Duration),
    /// Closes the connection without an answer.
    HangUp,
}

/// A target that acts by a script, one act a request, and keeps what it was asked.
struct Target {
    address: String,
    requests: Arc<Mutex<Vec<String>>>,
    _server: JoinSet<()>,
}

async fn target(script: &[Act]) -> Target {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let script = Arc::new(Mutex::new(script.iter().rev().copied().collect::<Vec<_>>()));
    let requests = Arc::new(Mutex::new(Vec::new()));
    let (acts, seen) = (script, Arc::clone(&requests));
    let mut server = JoinSet::new();
    server.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let (acts, seen) = (Arc::clone(&acts), Arc::clone(&seen));
            connections.spawn(async move {
                let _ = serve(stream, &acts, &seen).await;
            });
        }
    });
    Target { address, requests, _server: server }
}

async fn serve(mut stream: TcpStream, acts: &Mutex<Vec<Act>>, seen: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut buffer).await? {
        seen.lock().unwrap().push(request);
        let act = acts.lock().unwrap().pop().expect("the script has an act for every request");
        let answer =
            |status: u16, body: &str| format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        match act {
            Act::Answer(status, body) => stream.write_all(answer(status, body).as_bytes()).await?,
            Act::Late(delay, body) => {
                sleep(delay).await;
                stream.write_all(answer(200, body).as_bytes()).await?;
            }
            Act::Drip(delay) => {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab").await?;
                sleep(delay).await;
                stream.write_all(b"cd").await?;
            }
            Act::HangUp => return Ok(()),
        }
    }
    Ok(())
}

/// The next request of a connection as it came; none if the other side is done. What was read too much stays in the buffer.
pub(crate) async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<String>> {
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&buffer[..end]).to_lowercase();
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()?.parse().ok());
    let whole = end + length.unwrap_or(0);
    while buffer.len() < whole {
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
    let request = String::from_utf8_lossy(&buffer[..whole]).into_owned();
    buffer.drain(..whole);
    Ok(Some(request))
}

fn client(hosts: &[&Target], options: Value) -> (Client, Rc<RequestTimer>) {
    let timer = Rc::new(RequestTimer::default());
    let options: JsonObject = options.as_object().unwrap().clone();
    let hosts: Vec<String> = hosts.iter().map(|target| target.address.clone()).collect();
    let options = ClientOptions::try_from(&options).unwrap();
    (Client::new(&hosts, options, Some(8), 0, Rc::clone(&timer)).unwrap(), timer)
}

#[tokio::test]
async fn requests_carry_what_elasticsearch_wants() {
    let target = target(&[Act::Answer(200, "{}"), Act::Answer(200, "{}")]).await;
    let (client, _) = client(&[&target], json!({ "basic_auth_user": "u", "basic_auth_password": "p" }));
    client.warm_up().await;
    let mut request = Request::new("GET", "/logs/_search?request_cache=true").json("{\"query\":{}}");
    request.headers.push(("x-opaque-id".to_owned(), "race".to_owned()));
    assert_eq!(client.request(&request).await.unwrap().body, "{}");
    client.request(&Request::new("GET", "/logs")).await.unwrap();
    let seen = target.requests.lock().unwrap().clone();
    for line in [
        "GET /logs/_search?request_cache=true HTTP/1.1",
        "content-type: application/vnd.elasticsearch+json; compatible-with=8",
        "accept: application/vnd.elasticsearch+json; compatible-with=8",
        "authorization: Basic dTpw",
        "x-opaque-id: race",
        "accept-encoding: identity",
        "{\"query\":{}}",
    ] {
        assert!(seen[0].contains(line), "{line} is missing in\n{}", seen[0]);
    }
    assert!(!seen[1].contains("content-type"), "{}", seen[1]);
}

#[tokio::test]
async fn service_time_ends_with_the_last_byte_of_the_body() {
    let (pause, delay) = (Duration::from_millis(60), Duration::from_millis(40));
    let target = target(&[Act::Drip(pause), Act::Late(delay, "late")]).await;
    let (client, timer) = client(&[&target], json!({}));
    for (least, body) in [(pause, "abcd"), (delay, "late")] {
        assert_eq!(client.request(&Request::new("GET", "/")).await.unwrap().body, body);
        let span = timer.take().unwrap();
        assert!(Duration::from_nanos(span.received - span.sent) >= least);
    }
}

#[tokio::test]
async fn a_request_is_sent_again_when_the_cluster_is_busy_or_hangs_up() {
    let target = target(&[Act::Answer(429, "busy"), Act::HangUp, Act::Answer(503, ""), Act::Answer(200, "done")]).await;
    let (client, _) = client(&[&target], json!({}));
    assert_eq!(client.request(&Request::new("GET", "/")).await.unwrap().body, "done");
    assert_eq!((client.retries(), client.reconnects()), (3, 1));
}

#[tokio::test]
async fn retries_end_and_errors_say_what_the_cluster_said() {
    let error = r#"{"error":{"type":"index_not_found_exception","reason":"no such index [x]"},"status":404}"#;
    let target =
        target(&[Act::Answer(404, error), Act::Answer(404, error), Act::Answer(429, ""), Act::Answer(429, "full")])
            .await;
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
    let target = target(&[Act::Late(Duration::from_secs(60), ""), Act::Answer(200, "next")]).await;
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
    let good = target(&[Act::Answer(200, "good"); 5]).await;
    let bad = target(&[Act::HangUp]).await;
    let (client, _) = client(&[&good, &bad], json!({}));
    let bodies = Cell::new(0);
    for _ in 0..5 {
        assert_eq!(client.request(&Request::new("GET", "/")).await.unwrap().body, "good");
        bodies.set(bodies.get() + 1);
    }
    assert_eq!((bodies.get(), bad.requests.lock().unwrap().len(), client.retries()), (5, 1, 1));
}

#[tokio::test]
async fn nobody_there_is_a_connection_error_with_the_address() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let timer = Rc::new(RequestTimer::default());
    let options = ClientOptions { max_retries: 0, ..ClientOptions::default() };
    let client = Client::new(std::slice::from_ref(&address), options, None, 0, Rc::clone(&timer)).unwrap();
    client.warm_up().await;
    let error = client.request(&Request::new("GET", "/")).await.unwrap_err();
    assert!(matches!(&error, RunnerError::Transport { class: ErrorClass::Connect, .. }), "{error}");
    assert!(error.to_string().starts_with(&format!("cannot connect to {address}: ")), "{error}");
}
