//! The store against a server that fails as it is told, and against a real one.

use std::collections::VecDeque;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use rally_core::metrics::{MemoryStore, MetricsStore, RaceDocument, Results};
use rally_driver::client::Request;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::*;
use crate::report::RaceFilter;
use crate::settings::ReportingSettings;

fn settings(host: &str, use_data_streams: bool) -> StoreSettings {
    let reporting = ReportingSettings {
        datastore_type: Some("elasticsearch".to_owned()),
        datastore_host: Some(host.to_owned()),
        datastore_use_data_streams: use_data_streams,
        ..ReportingSettings::default()
    };
    StoreSettings::new(&reporting).unwrap().unwrap()
}

fn race(id: &str) -> RaceDocument {
    let document = json!({
        "@timestamp": 1_793_534_400_000_i64, "rally-version": "1", "rally-revision": null, "environment": "local",
        "race-id": id, "race-timestamp": "20261101T120000Z", "pipeline": "benchmark-only", "track": "geonames",
        "challenge": "c", "car": ["external"], "user-tags": {"setup": "x"},
    });
    serde_json::from_value(document).unwrap()
}

fn records(count: usize) -> Vec<JsonObject> {
    let context = RecordContext::new(&race("r"), &JsonObject::new());
    let record = |number: usize| {
        let record =
            json!({"@timestamp": 1_793_534_400_000_i64 + number as i64, "name": "segments_count", "value": number});
        context.telemetry(serde_json::from_value(record).unwrap())
    };
    (0..count).map(record).collect()
}

/// A server that answers with what it is told, and remembers what it was asked.
#[derive(Clone, Default)]
struct Scripted {
    answers: Arc<Mutex<VecDeque<(u16, Value)>>>,
    asked: Arc<Mutex<Vec<String>>>,
    /// The types of the bodies that came.
    types: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    async fn start(answers: impl IntoIterator<Item = (u16, Value)>) -> (Self, String, JoinSet<()>) {
        let scripted = Self { answers: Arc::new(Mutex::new(answers.into_iter().collect())), ..Self::default() };
        let app = Router::new().fallback(Self::answer).with_state(scripted.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut serving = JoinSet::new();
        serving.spawn(async move { axum::serve(listener, app).await.unwrap() });
        (scripted, address, serving)
    }

    #[expect(clippy::unused_async, reason = "a handler has to be")]
    async fn answer(
        State(it): State<Self>,
        method: Method,
        uri: Uri,
        headers: HeaderMap,
        body: String,
    ) -> (StatusCode, String) {
        let content_type = headers.get("content-type").map(|it| it.to_str().unwrap().to_owned());
        it.types.lock().unwrap().extend(content_type);
        let documents = body.lines().skip(1).step_by(2).filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let values: Vec<_> = documents.map(|document| document["value"].to_string()).collect();
        it.asked.lock().unwrap().push(format!("{method} {uri} {}", values.join(" ")).trim_end().to_owned());
        let (status, answer) = it.answers.lock().unwrap().pop_front().unwrap_or((200, json!({})));
        (StatusCode::from_u16(status).unwrap(), answer.to_string())
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn impatient(settings: StoreSettings) -> ElasticsearchStore {
    let mut store = ElasticsearchStore::new(settings).unwrap();
    store.pause = Duration::from_millis(1);
    store
}

#[tokio::test]
async fn what_is_refused_for_the_moment_is_sent_again_and_nothing_else() {
    let busy = json!({"create": {"status": 429, "error": {"type": "es_rejected_execution_exception"}}});
    let done = json!({"create": {"status": 201}});
    let (server, address, _serving) = Scripted::start([
        (503, json!({})),
        (200, json!({"errors": true, "items": [done, busy, done]})),
        (200, json!({"errors": false, "items": [done]})),
    ])
    .await;
    let mut store = impatient(settings(&address, true));
    store.store_records(&race("r"), records(3)).await.unwrap();
    let bulk = |values: &str| format!("POST /rally-metrics-v1/_bulk {values}");
    assert_eq!(server.asked(), [bulk("0 1 2"), bulk("0 1 2"), bulk("1")]);
}

#[tokio::test]
async fn a_store_that_takes_too_long_for_a_race_is_given_up_with_what_it_has() {
    // It lets everybody in, and says nothing.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let directory = tempfile::tempdir().unwrap();
    let (archive, cluster, within) = (Archive::new(directory.path()), JsonObject::new(), Duration::from_millis(50));
    let finished = finish(settings(&address, false), archive, race("slow"), cluster, Vec::new(), within).await;
    let expected = format!(
        "the metrics store at http://{address} could not store race slow: it has taken not a single record within 50ms"
    );
    assert_eq!(finished.unwrap_err().to_string(), expected);
    assert_eq!(patience(1_000_000), Duration::from_secs(1_300));
}

#[tokio::test]
async fn what_does_not_get_better_fails_with_a_sentence() {
    let wrong = json!({"index": {"status": 400, "error": {"type": "mapper_parsing_exception"}}});
    for (answer, attempts, expected) in [
        ((401, json!({})), 1, "it refuses the credentials; see `datastore.user`"),
        ((200, json!({"errors": true, "items": [wrong]})), 1, "mapper_parsing_exception"),
        ((429, json!({"error": "busy"})), 4, "429"),
    ] {
        let (server, address, _serving) = Scripted::start(std::iter::repeat_n(answer, 9)).await;
        let mut store = impatient(settings(&address, false));
        let error = store.store_records(&race("r"), records(1)).await.unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("could not store records of race r"), "{error}");
        assert_eq!(server.asked(), vec!["POST /rally-metrics-2026-11/_bulk 0"; attempts]);
    }
}

#[tokio::test]
async fn many_records_go_in_bulks_of_five_thousand() {
    let (server, address, _serving) = Scripted::start([]).await;
    impatient(settings(&address, true)).store_records(&race("r"), records(CHUNK + 1)).await.unwrap();
    let sizes: Vec<_> = server.asked().iter().map(|asked| asked.split(' ').count() - 2).collect();
    assert_eq!(sizes, [CHUNK, 1]);
}

#[tokio::test]
async fn templates_that_are_there_stay_unless_the_user_says_otherwise() {
    for (overwrite, custom, others) in [(false, 0, 0), (true, 0, 9)] {
        let (server, address, _serving) = Scripted::start([]).await;
        let settings = StoreSettings { overwrite_existing_templates: overwrite, ..settings(&address, true) };
        impatient(settings).set_up().await.unwrap();
        let puts: Vec<_> = server.asked().into_iter().filter(|asked| asked.starts_with("PUT ")).collect();
        let is_custom = |asked: &&String| asked.contains("custom");
        assert_eq!(puts.iter().filter(is_custom).count(), custom);
        assert_eq!(puts.len() - custom, others, "{puts:?}");
    }
}

#[tokio::test]
async fn bodies_are_announced_as_the_server_understands_them() {
    let vendored = |kind: &str| format!("application/vnd.elasticsearch+{kind}; compatible-with=8");
    for (version, json_type, lines_type) in [
        (json!({"number": "8.15.0"}), vendored("json"), vendored("x-ndjson")),
        (
            json!({"number": "2.11.0", "distribution": "opensearch"}),
            "application/json".to_owned(),
            "application/x-ndjson".to_owned(),
        ),
    ] {
        let (server, address, _serving) = Scripted::start([(200, json!({"version": version}))]).await;
        let settings = StoreSettings { overwrite_existing_templates: true, ..settings(&address, true) };
        let mut store = impatient(settings);
        store.set_up().await.unwrap();
        store.store_records(&race("r"), records(1)).await.unwrap();
        let mut types = server.types.lock().unwrap().clone();
        assert_eq!(types.pop(), Some(lines_type));
        assert!(!types.is_empty() && types.iter().all(|it| *it == json_type), "{types:?}");
    }
}

#[tokio::test]
async fn the_store_in_memory_keeps_one_document_for_each_race() {
    let mut store = MemoryStore::default();
    store.store_race(&race("r")).await.unwrap();
    let ended = RaceDocument { results: Some(Results::default()), ..race("r") };
    store.store_race(&ended).await.unwrap();
    store.store_records(&ended, records(2)).await.unwrap();
    store.store_results(&ended, result_documents(&ended)).await.unwrap();
    assert_eq!((store.races, store.records.len(), store.results.len()), (vec![ended], 2, 0));
}

impl ElasticsearchStore {
    /// All documents of a race.
    async fn search(&self, target: &str, race: &str) -> Value {
        self.json("refresh", Request::new("POST", format!("/{target}/_refresh"))).await.unwrap();
        let query = json!({"query": {"term": {"race-id": race}}, "track_total_hits": true});
        let request = Request::new("POST", format!("/{target}/_search")).json(query.to_string());
        self.json("search", request).await.unwrap()
    }
}

/// A server that speaks the whole API.
struct Server {
    child: Child,
    address: String,
    _directory: tempfile::TempDir,
}

impl Server {
    async fn start() -> Option<Self> {
        let program = program()?;
        let directory = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(program);
        command.args(["start", "--only", "elasticsearch", "--elasticsearch-port", &port.to_string(), "--data-dir"]);
        command.arg(directory.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.process_group(0).spawn().unwrap();
        let server = Self { child, address: format!("127.0.0.1:{port}"), _directory: directory };
        for _ in 0..600 {
            if tokio::net::TcpStream::connect(&server.address).await.is_ok() {
                return Some(server);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the server does not listen")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}

/// Where the environment says, or in the path of whoever runs the tests.
fn program() -> Option<PathBuf> {
    if let Some(program) = std::env::var_os("RALLY_TEST_ELASTICSEARCH") {
        return Some(program.into());
    }
    let programs = std::env::split_paths(&std::env::var_os("PATH")?).map(|it| it.join("noida-db")).collect::<Vec<_>>();
    programs.into_iter().find(|program| program.is_file())
}

#[tokio::test]
async fn a_real_server_has_every_document_once() {
    let Some(server) = Server::start().await else {
        // Not by `println!`, whose text is shown of failed tests only.
        let remedy = "`pip install noida-db==0.2.3`, or RALLY_TEST_ELASTICSEARCH names it";
        let line = format!("skipped: a_real_server_has_every_document_once needs a server; {remedy}\n");
        std::io::stderr().lock().write_all(line.as_bytes()).unwrap();
        return;
    };
    for use_data_streams in [true, false] {
        let mut store = ElasticsearchStore::new(settings(&server.address, use_data_streams)).unwrap();
        store.set_up().await.unwrap();
        let race = race("r");
        store.store_race(&race).await.unwrap();
        let results = Results { cluster: crate::report::testing::cluster(), ..Results::default() };
        let ended = RaceDocument { results: Some(results), ..race };
        store.store_race(&ended).await.unwrap();
        let results = result_documents(&ended);
        store.store_results(&ended, results.clone()).await.unwrap();
        store.store_records(&ended, records(7)).await.unwrap();
        // Again: templates are there already.
        store.set_up().await.unwrap();
        let suffix = if use_data_streams { "v1" } else { "2026-11" };
        for (kind, expected) in [("races", 1), ("results", results.len()), ("metrics", 7)] {
            let target = format!("rally-{kind}-{suffix}");
            let found = store.search(&target, "r").await;
            assert_eq!(found["hits"]["total"]["value"], json!(expected), "{target}: {found}");
        }
        let stored = store.search(&format!("rally-races-{suffix}"), "r").await["hits"]["hits"][0]["_source"].take();
        assert_eq!(serde_json::from_value::<RaceDocument>(stored).unwrap(), ended);

        // And they are found and deleted again.
        let other = RaceDocument { race_timestamp: "20261102T120000Z".to_owned(), ..self::race("other") };
        store.store_race(&other).await.unwrap();
        let found = async |filter: RaceFilter, limit| store.races("local", &filter, limit).await.unwrap();
        assert_eq!(found(RaceFilter::default(), 10).await, [other.clone(), ended.clone()]);
        assert_eq!(found(RaceFilter::default(), 1).await, [other]);
        let setup = |setup: &str| RaceFilter {
            user_tags: JsonObject::from_iter([("setup".to_owned(), json!(setup))]),
            to: Some(jiff::civil::date(2026, 11, 1).at(23, 59, 59, 0)),
            ..RaceFilter::default()
        };
        assert_eq!(found(setup("x"), 10).await, std::slice::from_ref(&ended));
        assert_eq!(found(setup("y"), 10).await, []);
        assert_eq!(store.race("elsewhere", &ended.race_id).await.unwrap(), None);
        assert_eq!(store.race("local", &ended.race_id).await.unwrap().as_ref(), Some(&ended));
        assert_eq!(store.delete("local", &ended.race_id).await.unwrap(), 1 + results.len() as u64 + 7);
        assert_eq!(store.race("local", &ended.race_id).await.unwrap(), None);
        assert_eq!(store.delete("local", &"other".parse().unwrap()).await.unwrap(), 1);
    }
}
