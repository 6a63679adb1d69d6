//! What races leave behind, and what can be done with it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::Uri;
use parquet::file::reader::{FileReader, SerializedFileReader};
use rally_core::RaceId;
use rallyd::archive::{Archive, read_intervals};
use rallyd::demo::{StandIn, write_corpus, write_track};
use serde_json::{Value, json};
use tokio::task::JoinSet;

const DOCUMENTS: u64 = 2_001;

/// A home of its own, as if it were another machine's.
struct Home {
    directory: tempfile::TempDir,
    port: u16,
}

impl Home {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let corpus = directory.path().join(".rally/benchmarks/data/places/documents.json");
        write_corpus(&corpus, DOCUMENTS).unwrap();
        let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { directory, port }
    }

    /// Runs a command and returns its exit code and what it wrote.
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rallyd"));
        let Output { status, stdout, stderr } =
            command.args(arguments).env_clear().env("RALLY_HOME", self.directory.path()).output().unwrap();
        (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
    }

    /// Runs a command that must succeed, and returns its standard output.
    fn data(&self, arguments: &[&str]) -> String {
        let (exit, stdout, stderr) = self.run(arguments);
        assert_eq!(exit, 0, "{arguments:?}: {stdout}\n{stderr}");
        stdout
    }

    fn start(&self, coordinator: u16, more: &[&str]) {
        let (port, coordinator) =
            (format!("--port={}", self.port), format!("--coordinator-ip=127.0.0.1:{coordinator}"));
        self.data(&[&["start", "--node-ip=127.0.0.1", &port, &coordinator], more].concat());
    }

    fn archive(&self) -> Archive {
        Archive::new(self.directory.path().join(".rally/benchmarks/races"))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.run(&["stop"]);
    }
}

/// What is in an archive of a race, names of files with samples left out.
fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Samples by task, as the intervals have them.
fn samples(archive: &Archive, race: &RaceId) -> BTreeMap<String, u64> {
    let tasks = archive.tasks(&archive.load(race).unwrap()).unwrap().unwrap();
    let mut samples = BTreeMap::new();
    let torn = read_intervals(&archive.intervals_path(race), |recorded| {
        for part in recorded.interval.tasks {
            *samples.entry(tasks[part.task.0 as usize].clone()).or_default() += part.samples;
        }
    });
    assert!(!torn.unwrap());
    samples
}

/// Rows in all files of raw samples. They arrive a moment after the end of a race over daemons.
fn raw_samples(archive: &Archive, race: &RaceId, expected: u64) -> u64 {
    let rows = |path: PathBuf| {
        let reader = SerializedFileReader::new(std::fs::File::open(path).unwrap()).unwrap();
        reader.metadata().file_metadata().num_rows() as u64
    };
    let mut found = 0;
    for _ in 0..200 {
        let files =
            std::fs::read_dir(archive.samples_directory(race)).into_iter().flatten().map(|it| it.unwrap().path());
        found = files.filter(|path| path.extension().is_some_and(|it| it == "parquet")).map(rows).sum();
        if found >= expected {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    found
}

/// A metrics store that takes everything, by where it goes, and finds and deletes it by the race.
#[derive(Clone, Default)]
struct Store(Arc<Mutex<Vec<(String, Value)>>>);

impl Store {
    async fn start(&self) -> (u16, JoinSet<()>) {
        let take = async |State(Self(documents)): State<Self>, uri: Uri, body: String| {
            let target = uri.path().trim_start_matches('/').split('/').next().unwrap_or_default().to_owned();
            let query = serde_json::from_str::<Value>(&body).unwrap_or_default();
            let is_of_race = |(known, document): &(String, Value)| {
                let terms = query["query"]["bool"]["filter"].as_array().cloned().unwrap_or_default();
                let race = terms.iter().find_map(|term| term["term"].get("race-id"));
                known.starts_with(target.trim_end_matches('*')) && race.is_none_or(|race| document["race-id"] == *race)
            };
            if uri.path().ends_with("/_search") || uri.path().ends_with("/_search/scroll") {
                let size = query["size"].as_u64().unwrap_or_default() as usize;
                let all = documents.lock().unwrap();
                let found = all.iter().rev().filter(|it| is_of_race(it)).take(size);
                let hits: Vec<_> = found.map(|(_, document)| json!({"_source": document})).collect();
                return json!({"_scroll_id": "s", "hits": {"hits": hits}}).to_string();
            }
            if uri.path().ends_with("/_delete_by_query") {
                documents.lock().unwrap().retain(|it| !is_of_race(it));
            }
            let lines = if uri.path().ends_with("/_bulk") {
                body.lines().skip(1).step_by(2).collect()
            } else if uri.path().ends_with("/_doc") {
                vec![&*body]
            } else {
                Vec::new()
            };
            let parsed = lines.into_iter().map(|line| (target.clone(), serde_json::from_str(line).unwrap()));
            documents.lock().unwrap().extend(parsed);
            "{}".to_owned()
        };
        let app = Router::new().fallback(take).with_state(self.clone()).layer(DefaultBodyLimit::disable());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut serving = JoinSet::new();
        serving.spawn(async move { axum::serve(listener, app).await.unwrap() });
        (port, serving)
    }

    fn documents(&self, target: &str) -> Vec<Value> {
        let documents = self.0.lock().unwrap();
        documents.iter().filter(|(known, _)| known == target).map(|(_, document)| document.clone()).collect()
    }
}

#[test]
fn a_metrics_store_gets_every_request_out_of_the_archive() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let target = runtime.block_on(StandIn::start()).unwrap();
    let store = Store::default();
    let (port, _serving) = runtime.block_on(store.start());
    let home = Home::new();
    let ini = format!(
        "[system]\nenv.name = lab\n[reporting]\ndatastore.type = elasticsearch\ndatastore.host = 127.0.0.1\ndatastore.port = {port}\n"
    );
    std::fs::write(home.directory.path().join(".rally/rally.ini"), &ini).unwrap();
    let track = home.directory.path().join("places");
    write_track(&track).unwrap();
    let (track, hosts) = (format!("--track-path={}", track.display()), format!("--target-hosts={}", target.address()));
    let parameters = format!("--track-params=document_count:{DOCUMENTS},search_seconds:1");
    home.data(&["race", &track, &hosts, &parameters, "--race-id=stored", "--user-tags=setup:test"]);

    let race: RaceId = "stored".parse().unwrap();
    let samples: u64 = samples(&home.archive(), &race).values().sum();
    let metrics = store.documents("rally-metrics-v1");
    let count = |name: &str| metrics.iter().filter(|it| it["name"] == name).count() as u64;
    for name in ["latency", "service_time", "processing_time"] {
        assert_eq!(count(name), samples, "{name}");
    }
    assert!(count("throughput") > 0);
    let bulk = metrics.iter().find(|it| it["name"] == "service_time" && it["task"] == "index-documents").unwrap();
    assert_eq!(
        json!([bulk["race-id"], bulk["environment"], bulk["operation-type"], bulk["unit"], bulk["meta"]["success"]]),
        json!(["stored", "lab", "bulk", "ms", true])
    );
    assert_eq!(bulk["meta"]["tag_setup"], "test");
    let races = store.documents("rally-races-v1");
    assert_eq!(races.iter().map(|it| it["outcome"].clone()).collect::<Vec<_>>(), [Value::Null, json!("completed")]);
    assert!(store.documents("rally-results-v1").iter().any(|it| it["name"] == "throughput"));

    // Another machine knows it from the store.
    let elsewhere = Home::new();
    std::fs::write(elsewhere.directory.path().join(".rally/rally.ini"), ini).unwrap();
    let listed: Value = serde_json::from_str(&elsewhere.data(&["list", "races", "--format=json"])).unwrap();
    assert_eq!(listed["races"][0]["race-id"], "stored");
    let (exit, compared, said) =
        elsewhere.run(&["compare", "--baseline=stored", "--contender=stored", "--format=json"]);
    assert!(exit == 0 && said.contains("read from its records in the metrics store at http://127.0.0.1:"), "{said}");
    let compared: Value = serde_json::from_str(&compared).unwrap();
    let is_it = |line: &&Value| line["task"] == "by-name" && line["metric"] == "50th percentile latency";
    let line = compared["lines"].as_array().unwrap().iter().find(is_it).unwrap();
    let reason = line["beyond_noise_reason"].as_str().unwrap();
    assert!(reason.starts_with("cannot be told: has ") && !reason.contains(" 0 s"), "{reason}");
    let page = elsewhere.data(&["report", "stored", "--output=-"]);
    assert!(page.contains("known from a metrics store") && page.contains("index-documents"));
    elsewhere.data(&["delete", "race", "--id=stored"]);
    for kind in ["races", "results", "metrics"] {
        assert_eq!(store.documents(&format!("rally-{kind}-v1")), [Value::Null; 0]);
    }
    let (exit, _, said) = elsewhere.run(&["report", "stored"]);
    let expected = " or in the metrics store at http://127.0.0.1:";
    assert!(exit == 64 && said.contains("No race `stored` is in the archive in ") && said.contains(expected), "{said}");
    assert!(home.archive().contains(&race), "it is still where it ran");

    // A store that is not there is known before the race.
    let ini = "[reporting]\ndatastore.type = elasticsearch\ndatastore.user = me\ndatastore.host = 127.0.0.1\n";
    std::fs::write(home.directory.path().join(".rally/rally.ini"), ini).unwrap();
    let (exit, _, stderr) = home.run(&["race", &track, &hosts, &parameters]);
    assert!(exit == 64 && stderr.contains("`datastore.user` needs `datastore.password`"), "{stderr}");
}

#[test]
fn races_in_one_process_and_over_three_daemons_leave_the_same_kind_of_archive() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let target = runtime.block_on(StandIn::start()).unwrap();
    let homes = [Home::new(), Home::new(), Home::new()];
    let [coordinator, members @ ..] = &homes;
    let track = coordinator.directory.path().join("places");
    write_track(&track).unwrap();
    let (track, hosts) = (format!("--track-path={}", track.display()), format!("--target-hosts={}", target.address()));
    let parameters = format!("--track-params=document_count:{DOCUMENTS},bulk_size:100,bulk_clients:3,search_seconds:2");
    let race = |id: &str, more: &[&str]| {
        let id = format!("--race-id={id}");
        let tags = ["--pipeline=benchmark-only", "--user-tags=setup:test"];
        coordinator.data(&[&["race", &track, &hosts, &parameters, &id], &tags[..], more].concat())
    };

    let report = coordinator.directory.path().join("reports/alone.csv");
    let alone = race("alone", &["--report-format=csv", &format!("--report-file={}", report.display())]);
    assert_eq!(std::fs::read_to_string(report).unwrap(), alone);
    assert_eq!(target.documents(), DOCUMENTS);
    assert!(alone.starts_with("Metric,Task,Value,Unit\n"), "{alone}");

    coordinator.start(coordinator.port, &[]);
    let token = format!("--token={}", coordinator.data(&["token"]).trim());
    for member in members {
        member.start(coordinator.port, &[&token, "--wait=30s"]);
    }
    let drivers: Vec<_> = homes.iter().map(|home| format!("127.0.0.1:{}", home.port)).collect();
    let together = race("together", &[&format!("--load-driver-hosts={}", drivers.join(","))]);
    assert_eq!(target.documents(), DOCUMENTS);
    assert!(together.contains("Median Throughput |") && together.contains(" index-documents |"), "{together}");
    // Whoever comes later, from anywhere, sees the same.
    assert_eq!(members[0].data(&["attach", "together"]), together);
    // The coordinator's archive has it without its daemon, too, and a race that its daemon knows nothing of.
    let (exit, stdout, stderr) = coordinator.run(&["attach", "alone", "--report-format=csv"]);
    assert_eq!((exit, &stdout), (0, &alone), "{stderr}");
    let shown: Value = serde_json::from_str(&members[1].data(&["attach", "together", "--format=json"])).unwrap();
    assert_eq!((&shown["race"]["race-id"], &shown["verdict"]["outcome"]), (&"together".into(), &"completed".into()));

    let archive = coordinator.archive();
    let ids: [RaceId; 2] = ["alone".parse().unwrap(), "together".parse().unwrap()];
    let bulks = DOCUMENTS.div_ceil(100);
    let contents = ids.each_ref().map(|race| {
        let samples = samples(&archive, race);
        assert!(samples["index-documents"] >= bulks, "{samples:?}");
        let all = samples.values().sum();
        assert_eq!(raw_samples(&archive, race, all), all, "{race}");
        let document = archive.load(race).unwrap();
        let results = document.results.unwrap();
        let tasks: Vec<_> = results.op_metrics.iter().map(|it| (it.task.clone(), it.error_rate.to_bits())).collect();
        let verdict = archive.verdict(race).unwrap().unwrap();
        assert_eq!((verdict.verdict.ledger.made, verdict.verdict.ledger.merged), (all, all));
        assert!(verdict.findings.archive.is_empty() && verdict.findings.errors.is_empty(), "{verdict:?}");
        (names(&archive.directory(race)), tasks)
    });
    assert_eq!(contents[0], contents[1]);
    let expected = [
        "events.jsonl",
        "hosts.json",
        "intervals",
        "race.json",
        "samples",
        "telemetry.jsonl",
        "track.json",
        "verdict.json",
    ];
    assert_eq!(contents[0].0, expected);
    let hosts: Value = serde_json::from_slice(&std::fs::read(archive.hosts_path(&ids[1])).unwrap()).unwrap();
    assert_eq!(hosts.as_array().unwrap().len(), 3, "{hosts}");

    let races: Value = serde_json::from_str(&coordinator.data(&["list", "races", "--format=json"])).unwrap();
    let listed: Vec<_> =
        races["races"].as_array().unwrap().iter().map(|race| race["race-id"].as_str().unwrap()).collect();
    assert_eq!(listed, ["together", "alone"]);
    assert!(coordinator.data(&["list", "races", "--user-tags=setup:other"]).is_empty());
    let compared = coordinator.data(&["compare", "--baseline=alone", "--contender=together", "--format=json"]);
    let compared: Value = serde_json::from_str(&compared).unwrap();
    assert!(compared["lines"].as_array().unwrap().iter().any(|line| line["task"] == "by-name"), "{compared}");
    let (_, _, said) = members[0].run(&["list", "races"]);
    let expected = "; races of a cluster are archived on its coordinator, 127.0.0.1";
    assert!(said.contains("the archive of this machine is empty") && said.contains(expected), "{said}");

    let deleted = |more: &[&str]| {
        let arguments = [&["delete", "race", "--id=alone", "--format=json"], more].concat();
        let json: Value = serde_json::from_str(&coordinator.data(&arguments)).unwrap();
        (json["races"][0]["race-id"].clone(), json["races"][0]["deleted"].clone())
    };
    assert_eq!(deleted(&["--dry-run"]), ("alone".into(), false.into()));
    // A race that is in the archive of a member, and that the coordinator does not know.
    let theirs = members[0].archive().directory(&ids[0]);
    std::fs::create_dir_all(&theirs).unwrap();
    for name in ["race.json", "verdict.json", "events.jsonl"] {
        std::fs::copy(archive.directory(&ids[0]).join(name), theirs.join(name)).unwrap();
    }
    assert_eq!(deleted(&[]), ("alone".into(), true.into()));
    assert_eq!(members[0].data(&["attach", "alone", "--report-format=csv"]), alone);
    let (exit, _, stderr) = members[1].run(&["attach", "alone"]);
    assert!(exit == 64 && stderr.contains("it knows no such race"), "{stderr}");
    let (exit, _, stderr) = coordinator.run(&["delete", "race", "--id=together,alone"]);
    assert!(exit == 64 && stderr.contains("No race `alone`"), "{stderr}");
    assert!(archive.load(&ids[1]).is_ok(), "nothing is deleted if one of the races is not there");
}
