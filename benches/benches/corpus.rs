//! Corpora on a load driver: making offset tables, reading with the making of bodies, and looking at the answers to bulks.
//!
//! Run with `cargo bench -p benches --bench corpus`. Each figure is that of one worker, through the whole driver.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rally_core::track::{Challenge, Corpus, Documents, JsonObject, Operation, OperationBuilder, Task, Track};
use rally_core::{ContentHash, DataSource, HostFacts, RacePlan};
use rally_driver::{
    ContentSource, DriverOptions, LocalLoadDriver, Means, Outcome, Params, Registry, RequestTimer, Runner, RunnerError,
    TaskRun, local_clock,
};
use serde_json::json;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Documents of the corpus, about 300 bytes each as those of geonames.
const DOCUMENTS: u64 = 2_000_000;

/// Documents in one bulk.
const BULK_SIZE: u64 = 1_000;

/// Bulks whose answers are looked at.
const ANSWERS: u64 = 2_000;

/// Writes the corpus and gives its length in bytes.
fn write_corpus(home: &Path) -> u64 {
    let directory = home.join("places");
    fs::create_dir_all(&directory).expect("there is room for a corpus");
    let mut file = std::io::BufWriter::new(File::create(directory.join("d.json")).expect("there is room for a corpus"));
    for number in 0..DOCUMENTS {
        writeln!(
            file,
            r#"{{"geonameid": {number}, "name": "A place of some renown", "latitude": 51.{number}, "longitude": 7.{number}, "feature_class": "P", "feature_code": "PPL", "country_code": "DE", "admin1_code": "07", "population": {number}, "dem": "{number}", "timezone": "Europe/Berlin", "alternatenames": ["one", "another", "a third"]}}"#
        )
        .expect("there is room for a corpus");
    }
    file.flush().expect("there is room for a corpus");
    fs::metadata(directory.join("d.json")).expect("it was just written").len()
}

fn track(documents: u64) -> rally_core::track::TrackBuilder {
    let documents = Documents::builder("d.json", documents).target_index("places");
    Track::builder("bench").corpus(Corpus::builder("places").documents(documents))
}

struct Nothing;

#[async_trait]
impl ContentSource for Nothing {
    async fn fetch(&self, content: ContentHash) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
        Err(format!("nothing is known of {content}").into())
    }
}

/// Drops what it would send.
struct Discard(Rc<RequestTimer>);

#[async_trait(?Send)]
impl Runner for Discard {
    fn prepare(&mut self, _: &Params) -> Result<(), RunnerError> {
        Ok(())
    }

    async fn run(&mut self) -> Result<Outcome, RunnerError> {
        self.0.sent();
        self.0.received();
        Ok(Outcome::default())
    }
}

fn offset_table(criterion: &mut Criterion, runtime: &Runtime, home: &Path, length: u64) {
    let bulk = Task::builder(Operation::builder("bulk").property("bulk-size", BULK_SIZE));
    let track = track(DOCUMENTS).challenge(Challenge::builder("only").task(bulk)).build().expect("the track is valid");
    let plan = RacePlan { offline: true, data: DataSource::Local, ..RacePlan::new(track, "only") };
    let driver = LocalLoadDriver::new(DriverOptions {
        facts: HostFacts { cores: 1, ..HostFacts::default() },
        registry: Arc::new(Registry::rally()),
        content: Arc::new(Nothing),
        clock: local_clock(),
        data_dir: home.to_owned(),
        segment_dir: home.to_owned(),
    });
    let files = driver.document_files(&plan).expect("the operation makes sense");
    let mut group = criterion.benchmark_group("corpus");
    group.throughput(Throughput::Bytes(length)).sample_size(10);
    group.bench_function("offset table", |bencher| {
        bencher.iter(|| {
            // What is there from before would be believed.
            let _ = fs::remove_file(home.join("places/d.json.offset"));
            let documents = driver.documents(&plan, &files, Means::Find, Arc::new(|_: String| ()));
            assert_eq!(runtime.block_on(documents).expect("they can be looked for").len(), 1, "the corpus is there");
        });
    });
    group.finish();
}

fn reading(criterion: &mut Criterion, runtime: &Runtime, home: &Path, length: u64) {
    let mut group = criterion.benchmark_group("corpus/reading and bodies");
    group.throughput(Throughput::Bytes(length)).sample_size(10);
    let bulk = || Operation::builder("bulk").property("bulk-size", BULK_SIZE);
    let kinds = [
        ("one action line", bulk(), false),
        ("action lines of the file", bulk(), true),
        ("ids that conflict", bulk().property("conflicts", "random"), false),
    ];
    for (name, operation, has_action_lines) in kinds {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut registry = Registry::rally();
                registry.register_runner("bulk", |setup| Ok(Discard(Rc::clone(&setup.timer))));
                let documents = if has_action_lines {
                    Documents::builder("d.json", DOCUMENTS / 2).includes_action_and_meta_data()
                } else {
                    Documents::builder("d.json", DOCUMENTS).target_index("places")
                };
                let track = Track::builder("bench").corpus(Corpus::builder("places").documents(documents));
                let run = TaskRun::new(Task::builder(operation.clone())).track(track).data_dir(home).cores(1);
                runtime.block_on(run.run(registry)).expect("the corpus is there")
            });
        });
    }
    group.finish();
}

/// An answer of so many items, as Elasticsearch gives it.
fn answer(errors_first: bool) -> String {
    let item = json!({"index": {
        "_index": "places", "_id": "x7bYb5IBSk0jwXM5cT2q", "_version": 1, "result": "created",
        "_shards": {"total": 2, "successful": 1, "failed": 0}, "_seq_no": 4711, "_primary_term": 1, "status": 201,
    }});
    let items = json!(vec![item; BULK_SIZE as usize]);
    if errors_first {
        format!("{{\"errors\":false,\"took\":30,\"items\":{items}}}")
    } else {
        format!("{{\"items\":{items},\"errors\":false,\"took\":30}}")
    }
}

fn answers(criterion: &mut Criterion, runtime: &Runtime) {
    let home = TempDir::new().expect("there is a directory for temporary files");
    fs::create_dir(home.path().join("places")).expect("it is empty");
    fs::write(home.path().join("places/d.json"), "{}\n").expect("there is room for a document");
    let mut group = criterion.benchmark_group("corpus/bulk with an answer of 1,000 items");
    group.throughput(Throughput::Elements(1)).sample_size(10);
    for (name, errors_first, detailed) in
        [("outcome first", true, false), ("outcome last", false, false), ("detailed results", true, true)]
    {
        let responses = home.path().join(format!("{name}.json"));
        let body: serde_json::Value = serde_json::from_str(&answer(errors_first)).expect("it is JSON");
        fs::write(&responses, json!([{"path": "*", "body": body}]).to_string()).expect("there is room for an answer");
        let operation = |operation: OperationBuilder| {
            operation.property("bulk-size", 1).property("looped", true).property("detailed-results", detailed)
        };
        group.bench_with_input(BenchmarkId::from_parameter(name), &responses, |bencher, responses| {
            bencher.iter_custom(|iterations| {
                let mut time = Duration::ZERO;
                for _ in 0..iterations {
                    let task = Task::builder(operation(Operation::builder("bulk"))).iterations(ANSWERS);
                    let options = JsonObject::from_iter([("static_responses".to_owned(), json!(responses))]);
                    let run =
                        TaskRun::new(task).track(track(1)).target_hosts(["localhost:9200"]).client_options(options);
                    let begin = Instant::now();
                    let run = run.data_dir(home.path()).cores(1).run(Registry::rally());
                    runtime.block_on(run).expect("there is nothing to fail");
                    time += begin.elapsed() / ANSWERS as u32;
                }
                time
            });
        });
    }
    group.finish();
}

fn corpus(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("there is a thread left");
    answers(criterion, &runtime);
    let home = TempDir::new().expect("there is a directory for temporary files");
    let length = write_corpus(home.path());
    offset_table(criterion, &runtime, home.path(), length);
    reading(criterion, &runtime, home.path(), length);
}

criterion_group!(benches, corpus);
criterion_main!(benches);
