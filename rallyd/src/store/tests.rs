//! The store against a server that fails as it is told, and against a real one.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use futures_util::TryStreamExt;
use rally_core::metrics::{
    FoundRaces, MemoryStore, OperationMetrics, RECORD_PAGE, RaceFilter, RecordContext, Results, ThroughputSummary,
    TimeKind, result_documents,
};
use rally_core::track::{Challenge, JsonObject, Operation, Task, Track};
use rally_core::{Coordinator, HostFacts, RaceOutcome, RacePlan};
use rally_driver::client::Request;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::templates::Kind;
use super::*;
use crate::race::{LocalSurroundings, RaceCoordinator, registry};
use crate::settings::ReportingSettings;

fn reporting(host: &str, use_data_streams: bool) -> ReportingSettings {
    ReportingSettings {
        datastore_type: Some("elasticsearch".to_owned()),
        datastore_host: Some(host.to_owned()),
        datastore_use_data_streams: use_data_streams,
        ..ReportingSettings::default()
    }
}

fn settings(host: &str, use_data_streams: bool) -> StoreSettings {
    StoreSettings::new(&reporting(host, use_data_streams)).unwrap().unwrap()
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
    bodies: Arc<Mutex<Vec<String>>>,
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
        it.bodies.lock().unwrap().push(body.clone());
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
    let mut store = ElasticsearchStore::new(settings, "local").unwrap();
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
    impatient(settings(&address, true)).store_records(&race("r"), records(RECORD_PAGE + 1)).await.unwrap();
    let sizes: Vec<_> = server.asked().iter().map(|asked| asked.split(' ').count() - 2).collect();
    assert_eq!(sizes, [RECORD_PAGE, 1]);
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
async fn what_others_change_at_the_same_time_is_deleted_and_replaced_all_the_same() {
    let conflict = json!({"deleted": 2, "updated": 0, "version_conflicts": 1, "failures": []});
    let done = json!({"deleted": 1, "updated": 1, "version_conflicts": 0, "failures": []});
    let fine = || (200, json!({}));
    let (server, address, _serving) = Scripted::start([
        fine(),
        (200, conflict.clone()),
        (200, done.clone()),
        fine(),
        (200, conflict.clone()),
        (200, done),
    ])
    .await;
    let mut store = impatient(settings(&address, true));
    store.delete_kind("delete race r", Kind::Results, &"r".parse().unwrap()).await.unwrap();
    store.store_race(&race("r")).await.unwrap();
    let [results, races] = ["results-*/_delete", "races-v1/_update"]
        .map(|what| format!("POST /rally-{what}_by_query?ignore_unavailable=true&refresh=true&conflicts=proceed"));
    let races = races.replace("ignore_unavailable=true&", "");
    let refresh = |what: &str| format!("POST /rally-{what}/_refresh");
    let expected = [refresh("results-*"), results.clone(), results, refresh("races-v1"), races.clone(), races];
    assert_eq!(server.asked(), expected, "it is replaced, so there is no second one");

    let (server, address, _serving) = Scripted::start(std::iter::repeat_n((200, conflict), 9)).await;
    let mut store = impatient(settings(&address, true));
    let error = store.delete(&"r".parse().unwrap()).await.unwrap_err().to_string();
    let expected = "could not delete race r: 1 documents were changed by somebody else at the same time";
    assert!(error.ends_with(expected), "{error}");
    assert_eq!(server.asked().len(), 1 + 4);

    let refused = json!({"deleted": 0, "version_conflicts": 0, "failures": [{"status": 403}]});
    let (_server, address, _serving) = Scripted::start([fine(), (200, refused)]).await;
    let error = impatient(settings(&address, true)).delete(&"r".parse().unwrap()).await.unwrap_err().to_string();
    assert!(error.ends_with("some documents were refused, such as {\"status\":403}"), "{error}");
}

/// The document of a race with results of a task and of the cluster.
fn ended(id: &str) -> RaceDocument {
    let task = OperationMetrics {
        task: "find".to_owned(),
        operation: "search".to_owned(),
        throughput: ThroughputSummary { mean: Some(8.0), ..ThroughputSummary::default() },
        latency: Default::default(),
        service_time: Default::default(),
        processing_time: Default::default(),
        error_rate: 0.0,
        duration: 1.0,
        meta: JsonObject::new(),
    };
    let results = Results { op_metrics: vec![task], cluster: crate::report::testing::cluster(), ..Results::default() };
    RaceDocument { results: Some(results), outcome: Some(RaceOutcome::Completed), ..race(id) }
}

/// What every store does, whatever it is.
async fn keeps_races(store: &mut dyn MetricsStore) {
    let place = store.place();
    let (first, ended) = (race("r"), ended("r"));
    let other = RaceDocument { race_timestamp: "20261102T120000Z".to_owned(), ..race("other") };
    store.store_race(&first).await.unwrap();
    store.store_race(&ended).await.unwrap();
    store.store_race(&other).await.unwrap();
    store.store_records(&ended, records(7)).await.unwrap();
    store.store_records(&ended, Vec::new()).await.unwrap();
    let found = async |filter: RaceFilter, limit| {
        let FoundRaces { races, damaged } = store.races(&filter, limit).await.unwrap();
        assert_eq!(damaged, [""; 0], "{place}");
        races
    };
    assert_eq!(found(RaceFilter::default(), 10).await, [other.clone(), ended.clone()], "{place}");
    assert_eq!(found(RaceFilter::default(), 1).await, std::slice::from_ref(&other), "{place}");
    let setup = |setup: &str| RaceFilter {
        user_tags: JsonObject::from_iter([("setup".to_owned(), json!(setup))]),
        to: Some(jiff::civil::date(2026, 11, 1).at(23, 59, 59, 0)),
        ..RaceFilter::default()
    };
    assert_eq!(found(setup("x"), 10).await, std::slice::from_ref(&ended), "{place}");
    assert_eq!(found(setup("y"), 10).await, [], "{place}");
    assert_eq!(store.race(&ended.race_id).await.unwrap().as_ref(), Some(&ended), "{place}");
    let read: Vec<JsonObject> = store.records(&ended).try_concat().await.unwrap();
    let values: Vec<_> = read.iter().map(|record| record["value"].as_u64().unwrap()).collect();
    assert_eq!(values, (0..7).collect::<Vec<_>>(), "{place}");
    let mut first = read[0].clone();
    // The archive knows when its races began.
    first.remove("relative-time");
    assert_eq!(first, records(1)[0], "{place}");
    assert!(store.records(&other).try_concat().await.unwrap().is_empty(), "{place}");

    store.delete(&ended.race_id).await.unwrap();
    store.delete(&ended.race_id).await.unwrap();
    assert_eq!(store.race(&ended.race_id).await.unwrap(), None, "{place}");
    assert!(!store.contains(&ended.race_id).await.unwrap() && store.contains(&other.race_id).await.unwrap(), "{place}");
    assert!(store.records(&ended).try_concat().await.unwrap().is_empty(), "{place}");
    store.delete(&other.race_id).await.unwrap();
    assert_eq!(store.races(&RaceFilter::default(), 10).await.unwrap(), FoundRaces::default(), "{place}");
}

#[tokio::test]
async fn every_store_keeps_races_with_their_records() {
    keeps_races(&mut MemoryStore::default()).await;
    let directory = tempfile::tempdir().unwrap();
    keeps_races(&mut Archive::new(directory.path())).await;
    let Some(server) = Server::start("every_store_keeps_races_with_their_records").await else { return };
    for use_data_streams in [true, false] {
        let mut store = ElasticsearchStore::new(settings(&server.address, use_data_streams), "local").unwrap();
        store.set_up().await.unwrap();
        keeps_races(&mut store).await;
    }
}

#[tokio::test]
async fn races_of_other_environments_are_not_found_and_documents_that_make_no_sense_are_named() {
    let damaged = json!({"race-id": "odd", "environment": "local"});
    let answer = json!({"hits": {"hits": [{"_source": damaged}, {"_source": race("r")}]}});
    let (server, address, _serving) = Scripted::start([(200, answer)]).await;
    let store = ElasticsearchStore::new(settings(&address, true), "nightly").unwrap();
    let found = store.races(&RaceFilter::default(), 10).await.unwrap();
    assert_eq!(found.races, [race("r")]);
    assert!(found.damaged[0].starts_with("race `odd` in the metrics store at http://127.0.0.1:"), "{found:?}");
    assert_eq!(server.asked(), ["POST /rally-races-*/_search?ignore_unavailable=true"]);
    let body = server.bodies.lock().unwrap()[0].clone();
    assert!(body.contains(r#"{"term":{"environment":"nightly"}}"#), "{body}");
}

#[tokio::test]
async fn a_page_of_records_whose_answer_is_lost_is_not_skipped() {
    let page = |number: u64| json!({"_scroll_id": "s", "hits": {"hits": [{"_source": {"value": number}}]}});
    let (server, address, _serving) =
        Scripted::start([(200, json!({})), (200, page(1)), (503, json!({})), (200, page(3))]).await;
    let store = impatient(settings(&address, true));
    let race = race("r");
    let pages: Vec<_> = futures_util::StreamExt::collect(store.records(&race)).await;
    assert_eq!(pages[0].as_ref().unwrap()[0]["value"], 1);
    let error = pages[1].as_ref().unwrap_err().to_string();
    assert!(
        pages.len() == 2 && error.contains("could not read records of race r: ") && error.contains("503"),
        "{error}"
    );
    assert_eq!(server.asked().len(), 3);
}

/// A race of naps, alone and within a composite operation, that is archived and goes to a store.
async fn race_of_naps(directory: &std::path::Path, reporting: ReportingSettings) -> (Archive, RaceDocument) {
    let archive = Archive::new(directory.join("races"));
    let facts = HostFacts { name: "here".to_owned(), cores: 1, ..HostFacts::default() };
    let [data, samples] = ["data", "samples"].map(|name| directory.join(name));
    let surroundings = LocalSurroundings::new(facts, registry(), data, samples);
    let coordinator = RaceCoordinator::new(Arc::new(surroundings.archive_in(archive.clone(), reporting)));
    let nap = || Operation::builder("sleep").name("nap").property("duration", 0.001);
    let inner = json!([{"name": "inner", "operation-type": "sleep", "duration": 0.001}]);
    let both = Operation::builder("composite").name("both").property("requests", inner);
    let challenge = Challenge::builder("c")
        .default_challenge()
        .task(Task::builder(nap()).name("rest").clients(2).iterations(20))
        .task(Task::builder(both).iterations(5).property("meta", json!({"owner": "team"})));
    let track = Track::builder("naps").challenge(challenge).build().unwrap();
    let plan = RacePlan { sample_bytes: 1 << 20, ..RacePlan::new(track, "c") };
    let race = coordinator.race(&plan, &["localhost"]).await.unwrap();
    let verdict = coordinator.verdict(&race).await.unwrap();
    assert_eq!(verdict.outcome, RaceOutcome::Completed, "{verdict:?}");
    coordinator.settled().await;
    let report = coordinator.report(&race).await.unwrap();
    assert_eq!(report.findings.archive, [""; 0]);
    (archive, report.race)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_records_of_an_archived_race_tell_of_every_request() {
    let directory = tempfile::tempdir().unwrap();
    let (mut archive, race) = race_of_naps(directory.path(), ReportingSettings::default()).await;
    let both = {
        let all: Vec<JsonObject> = archive.records(&race).try_concat().await.unwrap();
        let of = |task: &str, name: &str, operation: &str| -> Vec<JsonObject> {
            let is_it = |record: &&JsonObject| {
                (&record["task"], &record["name"], &record["operation"])
                    == (&json!(task), &json!(name), &json!(operation))
            };
            all.iter().filter(is_it).cloned().collect()
        };
        for name in ["latency", "service_time", "processing_time"] {
            assert_eq!((of("rest", name, "nap").len(), of("both", name, "both").len()), (40, 5), "{name}");
        }
        assert_eq!(of("both", "service_time", "inner").len(), 5);
        assert_eq!(of("both", "latency", "inner").len(), 0);
        assert!(!of("rest", "throughput", "nap").is_empty());
        // The metadata of the task is no part of what is said of operations inside a composite one.
        let meta = |record: &JsonObject| (record["meta"]["owner"].clone(), record["meta"]["client_id"].clone());
        assert_eq!(meta(&of("both", "service_time", "both")[0]), (json!("team"), json!(0)));
        assert_eq!(meta(&of("both", "service_time", "inner")[0]), (Value::Null, json!(0)));
        of("both", "service_time", "both")[4].clone()
    };
    assert_eq!(
        (&both["sample-type"], &both["unit"], &both["meta"]["success"]),
        (&json!("normal"), &json!("ms"), &json!(true))
    );
    assert_eq!(
        (&both["operation-type"], &both["challenge"], &both["meta"]["tag_setup"]),
        (&json!("composite"), &json!("c"), &Value::Null)
    );
    assert!(both["value"].as_f64().unwrap() >= 1.0, "{both:?}");

    // What devices say has the time since the start of the step.
    let (at, relative) = (both["@timestamp"].as_u64().unwrap(), both["relative-time"].as_f64().unwrap());
    let record = json!({"name": "segments_count", "value": 3, "unit": "", "@timestamp": at});
    archive.store_records(&race, vec![record.as_object().unwrap().clone()]).await.unwrap();
    let without_samples = archive.clone().downsampled(0);
    let all: Vec<JsonObject> = without_samples.records(&race).try_concat().await.unwrap();
    let told = all.iter().find(|record| record["name"] == "segments_count").unwrap();
    assert!((told["relative-time"].as_f64().unwrap() - relative).abs() <= 1.0, "{told:?} beside {both:?}");
    assert_eq!((&told["race-id"], &told["track"]), (&json!(race.race_id), &json!("naps")));
    assert!(all.iter().all(|record| record["name"] != "latency"));
    let few: Vec<JsonObject> = archive.downsampled(25).records(&race).try_concat().await.unwrap();
    assert_eq!(few.iter().filter(|record| record["name"] == "service_time").count(), 2, "of 50, inner ones among them");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_race_goes_into_a_real_store_as_a_whole_and_its_seconds_come_back() {
    let test = "a_race_goes_into_a_real_store_as_a_whole_and_its_seconds_come_back";
    let Some(server) = Server::start(test).await else { return };
    let directory = tempfile::tempdir().unwrap();
    let (archive, race) = race_of_naps(directory.path(), reporting(&server.address, true)).await;
    let store = ElasticsearchStore::new(settings(&server.address, true), "local").unwrap();
    let stored = store.race(&race.race_id).await.unwrap().unwrap();
    assert_eq!((stored.outcome, stored.results.unwrap().op_metrics[0].task.as_str()), (race.outcome, "both"));
    let read = async |store: &dyn MetricsStore| {
        let records: Vec<JsonObject> = store.records(&race).try_concat().await.unwrap();
        let mut records: Vec<_> = records.into_iter().map(flat).collect();
        records.sort();
        records
    };
    let (kept, archived) = (read(&store).await, read(&archive).await);
    assert!(archived.len() > 3 * 45 + 5, "{archived:?}");
    assert_eq!(kept, archived);
    let slowest = async |store: &dyn MetricsStore| {
        let series = store.series(&race).await.unwrap();
        series["both"].percentile(TimeKind::ServiceTime, 100.0).into_iter().fold(0.0, f64::max)
    };
    let (here, there) = (slowest(&archive).await, slowest(&store).await);
    assert!(here >= 1.0 && (here - there).abs() < 1e-6, "{here} {there}");
}

/// The fields of a record in one order, and numbers without the digits that a server may change.
fn flat(record: JsonObject) -> BTreeMap<String, String> {
    let text = |value: Value| value.as_f64().map_or_else(|| value.to_string(), |number| format!("{number:.6}"));
    let mut fields = BTreeMap::new();
    for (key, value) in record {
        match value {
            Value::Object(inner) => {
                fields.extend(inner.into_iter().map(|(name, it)| (format!("{key}.{name}"), text(it))))
            }
            value => drop(fields.insert(key, text(value))),
        }
    }
    fields
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
    /// Starts it; without the program, the test is skipped.
    async fn start(test: &str) -> Option<Self> {
        let Some(program) = program() else {
            // Not by `println!`, whose text is shown of failed tests only.
            let remedy = "`pip install noida-db==0.2.3`, or RALLY_TEST_ELASTICSEARCH names it";
            let line = format!("skipped: the rest of {test} needs a server; {remedy}\n");
            std::io::stderr().lock().write_all(line.as_bytes()).unwrap();
            return None;
        };
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
    let Some(server) = Server::start("a_real_server_has_every_document_once").await else { return };
    for use_data_streams in [true, false] {
        let mut store = ElasticsearchStore::new(settings(&server.address, use_data_streams), "local").unwrap();
        store.set_up().await.unwrap();
        let ended = ended("r");
        let results = result_documents(&ended);
        store.store_race(&race("r")).await.unwrap();
        store.store_race(&ended).await.unwrap();
        // A second time, it takes the place of the first one.
        store.store_race(&ended).await.unwrap();
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
        store.delete(&ended.race_id).await.unwrap();
        for kind in ["races", "results", "metrics"] {
            let found = store.search(&format!("rally-{kind}-{suffix}"), "r").await;
            assert_eq!(found["hits"]["total"]["value"], json!(0), "{kind}: {found}");
        }
    }
}
