//! A race inside a program, as a test harness would run it: a track in Rust, a load driver of this process, typed results.
//!
//!     cargo run --release -p examples --example race
//!
//! The target is the stand-in that also serves `rallyd demo`; its figures say nothing about any search engine.

#![expect(clippy::print_stdout, reason = "an example speaks to its user")]

use anyhow::{Context, ensure};
use rally_core::track::{Challenge, Corpus, Documents, Operation, ParallelBuilder, Task, Track};
use rally_core::{Coordinator, RaceOutcome, RacePlan};
use rallyd::archive::Archive;
use rallyd::demo::{StandIn, write_corpus};
use rallyd::race::RaceCoordinator;
use rallyd::report::RacePage;
use serde_json::json;

const DOCUMENTS: u64 = 10_000;

/// Bulk indexing, then searches at a fixed rate beside searches at full speed.
fn track() -> anyhow::Result<Track> {
    let search =
        |query| Operation::builder("search").property("index", "places").property("body", json!({"query": query}));
    let index = Operation::builder("bulk").name("index").property("bulk-size", 500);
    let by_name = search(json!({"match": {"name": "lake"}})).name("by-name");
    let by_country = search(json!({"term": {"country_code": "AT"}})).name("by-country");
    let searches = ParallelBuilder::new()
        .task(Task::builder(by_name).clients(2).iterations(200).target_throughput(200.0))
        .task(Task::builder(by_country).clients(1).iterations(500));
    let places =
        Corpus::builder("places").documents(Documents::builder("documents.json", DOCUMENTS).target_index("places"));
    let challenge = Challenge::builder("index-and-search").task(Task::builder(index).clients(4)).parallel(searches);
    Ok(Track::builder("places").index("places", json!({})).corpus(places).challenge(challenge).build()?)
}

#[tokio::main]
pub(crate) async fn main() -> anyhow::Result<()> {
    let target = StandIn::start().await?;
    let directory = tempfile::tempdir()?;
    write_corpus(&directory.path().join("data/places/documents.json"), DOCUMENTS)?;

    // The race in ten lines; its archive is in `races` below the directory.
    let plan = RacePlan::new(track()?, "index-and-search").target([target.address()]);
    let coordinator = RaceCoordinator::local(directory.path());
    let race = coordinator.race(&plan, &["localhost"]).await?;
    let verdict = coordinator.verdict(&race).await?;
    let report = coordinator.report(&race).await?;
    let results = report.race.results.context("the race had tasks")?;

    ensure!(verdict.outcome == RaceOutcome::Completed, "{verdict:?}");
    ensure!(target.documents() == DOCUMENTS, "{} documents have arrived", target.documents());
    println!("{} samples, and the target has {} documents", verdict.ledger.merged, target.documents());
    for task in &results.op_metrics {
        let (rate, median) = (task.throughput.median.unwrap_or_default(), task.service_time.values.get("50_0"));
        let median = median.context("every task has a sample")?;
        println!("{:>10}: {rate:.0} {}, median service time {median:.2} ms", task.task, task.throughput.unit);
    }

    // The archive outlives the race, and can be read like that of any other.
    coordinator.settled().await;
    let archive = Archive::new(directory.path().join("races"));
    let page = RacePage::load(&archive, &race)?.html();
    println!("its HTML report has {} KiB", page.len() >> 10);
    Ok(())
}
