//! Reading what is needed of an answer of a mebibyte to a search, beside two ways to do it with serde.
//!
//! `cargo bench -p benches --bench search_answer`

use std::hint::black_box;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context, Result};
use criterion::{Criterion, Throughput};
use rally_core::RacePlan;
use rally_core::track::{Challenge, Operation, OperationBuilder, Task, Track};
use rally_driver::client::Clients;
use rally_driver::{Params, Partition, Registry, RequestTimer, Runner, RunnerSetup};
use serde::Deserialize;
use serde_json::{Value, json};

/// Bytes of the answer, at least.
const SIZE: usize = 1 << 20;

/// What serde has to read for details; everything else is ignored.
#[derive(Deserialize)]
#[expect(dead_code, reason = "reading is what is measured")]
struct Details {
    took: u64,
    timed_out: bool,
    #[serde(rename = "_shards")]
    shards: Value,
    hits: Hits,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "reading is what is measured")]
struct Hits {
    total: Value,
}

/// What serde has to read for the sort values of the last hit.
#[derive(Deserialize)]
struct Page {
    hits: Sorted,
}

#[derive(Deserialize)]
struct Sorted {
    hits: Vec<Hit>,
}

#[derive(Deserialize)]
struct Hit {
    sort: Value,
}

fn main() -> Result<()> {
    let answer = answer();
    let directory = tempfile::tempdir()?;
    let responses = directory.path().join("responses.json");
    let body: Value = serde_json::from_slice(&answer)?;
    std::fs::write(&responses, json!([{ "path": "*", "body": body, "body-encoding": "json" }]).to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;

    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("answer to a search");
    group.throughput(Throughput::Bytes(answer.len() as u64));
    let search = Operation::builder("search").property("index", "logs").property("body", json!({}));
    let mut details = runner(search.property("detailed-results", true), &responses)?;
    group.bench_function("details", |b| b.iter(|| runtime.block_on(details.run())));
    let pages = Operation::builder("paginated-search").property("index", "logs").property("body", json!({}));
    let mut pages = runner(pages.property("pages", 1).property("results-per-page", 10), &responses)?;
    group.bench_function("last sort values", |b| b.iter(|| runtime.block_on(pages.run())));
    group.bench_function("details, serde", |b| b.iter(|| serde_json::from_slice::<Details>(black_box(&answer))));
    group.bench_function("last sort values, serde", |b| {
        b.iter(|| {
            let page = serde_json::from_slice::<Page>(black_box(&answer)).ok()?;
            page.hits.hits.into_iter().next_back().map(|hit| hit.sort)
        });
    });
    group.bench_function("a tree of it all", |b| b.iter(|| serde_json::from_slice::<Value>(black_box(&answer))));
    group.finish();
    criterion.final_summary();
    Ok(())
}

/// An answer as Elasticsearch writes it, with hits of about a kilobyte.
fn answer() -> Vec<u8> {
    let mut hits = Vec::new();
    let mut length = 0;
    while length < SIZE {
        let number = hits.len();
        let hit = json!({
            "_index": "logs", "_id": format!("{number:020}"), "_score": null,
            "_source": {
                "@timestamp": 1_700_000_000_000_u64 + number as u64, "status": 200, "size": 24_736, "clientip": "40.135.0.0",
                "request": "GET /images/hm_bg.jpg HTTP/1.0", "tags": ["a", "b", { "c": [1, 2.5, true, null] }],
                "message": "a text with \"quotes\" and\nline feeds; ".repeat(20),
            },
            "sort": [number, format!("{number:020}")],
        });
        length += hit.to_string().len();
        hits.push(hit);
    }
    let answer = json!({
        "took": 12, "timed_out": false,
        "_shards": { "total": 5, "successful": 5, "skipped": 0, "failed": 0 },
        "hits": { "total": { "value": 10_000, "relation": "gte" }, "max_score": null, "hits": hits },
    });
    answer.to_string().into_bytes()
}

/// A runner whose requests are answered from a file, so that nothing but its own work is measured.
fn runner(operation: OperationBuilder, responses: &Path) -> Result<Box<dyn Runner>> {
    let options = json!({ "static_responses": responses.to_string_lossy() });
    let options = options.as_object().cloned().context("an object")?;
    let track =
        Track::builder("bench").challenge(Challenge::builder("bench").task(Task::builder(operation))).build()?;
    let plan = RacePlan {
        client_options: [("default".to_owned(), options)].into(),
        ..RacePlan::new(track, "bench").target(["localhost:9200"])
    };
    let task = plan.challenge().and_then(|challenge| challenge.tasks().next()).context("a task")?.clone();
    let params = Params::from(task.operation.params.clone());
    let timer = Rc::new(RequestTimer::default());
    let registry = Arc::new(Registry::rally());
    let mut runner = registry.runner(&RunnerSetup {
        clients: Rc::new(Clients::new(&plan, 0, &timer)?),
        plan: Arc::new(plan),
        task: Arc::new(task),
        partition: Partition { index: 0, total: 1 },
        timer,
        registry: Arc::clone(&registry),
        composite: None,
    })?;
    runner.prepare(&params)?;
    Ok(runner)
}
