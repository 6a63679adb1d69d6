//! A cluster of three hosts in one process, over real QUIC on loopback, and a race that two of them drive together, as a
//! test harness would use it.
//!
//!     cargo run --release -p examples --example cluster
//!
//! The members find their token by themselves, because they run on the coordinator's machine. The documents of the track
//! are only there: each member fetches what its clients read.
//!
//! The target is the stand-in that also serves `rallyd demo`; its figures say nothing about any search engine.

#![expect(clippy::print_stdout, reason = "an example speaks to its user")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rally_core::track::{Challenge, Corpus, Documents, Operation, Task, Track};
use rally_core::{Coordinator, DataSource, HostFacts, RaceOutcome, RacePlan};
use rally_net::{HostConfig, Place, TokenSource};
use rallyd::demo::{StandIn, write_corpus};
use rallyd::host_facts;
use rallyd::race::RaceHost;
use tempfile::TempDir;

const DOCUMENTS: u64 = 20_000;

/// Bulk indexing by four clients.
fn plan(target: SocketAddr) -> anyhow::Result<RacePlan> {
    let index = Operation::builder("bulk").name("index").property("bulk-size", 500);
    let documents = Documents::builder("documents.json", DOCUMENTS).target_index("places");
    let track = Track::builder("places")
        .corpus(Corpus::builder("places").documents(documents))
        .challenge(Challenge::builder("index").task(Task::builder(index).clients(4)))
        .build()?;
    Ok(RacePlan { data: DataSource::Ship, ..RacePlan::new(track, "index").target([target]) })
}

#[tokio::main]
pub(crate) async fn main() -> anyhow::Result<()> {
    let target = StandIn::start().await?;
    let loopback: SocketAddr = "127.0.0.1:0".parse()?;
    let homes: Vec<TempDir> = (0..3).map(|_| TempDir::new()).collect::<Result<_, _>>()?;
    let named = |name: &str| HostFacts { name: name.to_owned(), ..host_facts() };

    // The cluster: one coordinator, two members that join it.
    let start = Instant::now();
    let config = HostConfig::new(homes[0].path(), loopback, Place::coordinator());
    let coordinator = RaceHost::start(HostConfig { facts: named("coordinator"), ..config }).await?;
    let mut members = Vec::new();
    for (home, name) in homes[1..].iter().zip(["driver-1", "driver-2"]) {
        let token = TokenSource::CoordinatorDirectory(homes[0].path().to_owned());
        let place = Place::Member { coordinator: coordinator.host().address(), token };
        let config = HostConfig::new(home.path(), loopback, place);
        members.push(RaceHost::start(HostConfig { facts: named(name), ..config }).await?);
    }
    for member in &members {
        member.host().joined().await?;
    }
    println!("three hosts joined each other in {:?}:", start.elapsed());
    for host in coordinator.host().status().await.hosts {
        println!("  {} at {}, {:?}", host.facts.name, host.address, host.role);
    }

    // The race, asked for by the names of its drivers. Any member could ask, and watch, through its `remote_coordinator`.
    write_corpus(&homes[0].path().join("data/places/documents.json"), DOCUMENTS)?;
    let races = coordinator.coordinator().context("it owns races")?;
    let race = races.race(&plan(target.address())?, &["driver-1", "driver-2"]).await?;
    let verdict = members[0].host().remote_coordinator().verdict(&race).await?;
    let report = races.report(&race).await?;

    ensure!(verdict.outcome == RaceOutcome::Completed, "{verdict:?}");
    ensure!(target.documents() == DOCUMENTS, "{} documents have arrived", target.documents());
    for driver in &report.findings.drivers {
        println!("{} reported {} times", driver.driver, driver.intervals);
    }
    for task in report.race.results.context("the race had a task")?.op_metrics {
        let rate = task.throughput.median.unwrap_or_default();
        println!("{}: {rate:.0} {} from both drivers together", task.task, task.throughput.unit);
    }

    for host in members.into_iter().chain([coordinator]) {
        host.stop(Duration::from_secs(5)).await;
    }
    println!("all hosts said goodbye");
    Ok(())
}
