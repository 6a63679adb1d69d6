//! A cluster of three hosts in one process, over real QUIC on loopback, as a test harness would use it.
//!
//!     cargo run --release -p examples --example cluster
//!
//! The members find their token by themselves, because they run on the coordinator's machine. Then all three act at one
//! coordinator time, and a file travels from the coordinator to a member by the hash of its content.

#![expect(clippy::print_stdout, reason = "an example speaks to its user")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use rally_core::HostFacts;
use rally_net::{Fetch, FetchProgress, Host, HostConfig, PeerSource, Place, TokenSource, fetch};
use tempfile::TempDir;
use tokio::sync::watch;

/// How large a file travels, in bytes.
const FILE_SIZE: usize = 64 << 20;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let loopback: SocketAddr = "127.0.0.1:0".parse()?;
    let homes: Vec<TempDir> = (0..3).map(|_| TempDir::new()).collect::<Result<_, _>>()?;
    let named = |name: &str| HostFacts { name: name.to_owned(), ..HostFacts::default() };

    // The cluster: one coordinator, two members that join it.
    let start = Instant::now();
    let config = HostConfig::new(homes[0].path(), loopback, Place::coordinator());
    let coordinator = Host::start(HostConfig { facts: named("coordinator"), ..config }).await?;
    let mut members = Vec::new();
    for (home, name) in homes[1..].iter().zip(["driver-1", "driver-2"]) {
        let token = TokenSource::CoordinatorDirectory(homes[0].path().to_owned());
        let place = Place::Member { coordinator: coordinator.address(), token };
        let config = HostConfig::new(home.path(), loopback, place);
        members.push(Host::start(HostConfig { facts: named(name), ..config }).await?);
    }
    for member in &members {
        member.joined().await?;
    }
    println!("three hosts joined each other in {:?}:", start.elapsed());
    for host in coordinator.status().await.hosts {
        println!("  {} at {}, {:?}", host.facts.name, host.address, host.role);
    }

    // Coordinator time: all hosts act at once.
    while members.iter().any(|member| member.clock().now().is_err()) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let when = coordinator.clock().now()? + Duration::from_millis(100);
    let acted = |host: Host| async move {
        host.at(when).await?;
        let late = host.clock().now()?.saturating_since(when);
        anyhow::Ok((host, late))
    };
    let [one, two] = <[Host; 2]>::try_from(members).ok().context("there are two members")?;
    let ((coordinator, _), (one, late_one), (two, late_two)) =
        tokio::try_join!(acted(coordinator), acted(one), acted(two))?;
    println!("both members acted at the same coordinator time, {late_one:?} and {late_two:?} after it");

    // Content: a file by its hash, verified as it arrives.
    let path = homes[0].path().join("corpus.json");
    std::fs::write(&path, vec![b'x'; FILE_SIZE])?;
    let content = coordinator.shelf().add(&path).await?;
    let peer = one.coordinator().context("the member is connected")?;
    let request = Fetch { content, directory: homes[1].path().to_owned(), name: "corpus.json".parse()?, range: None };
    let start = Instant::now();
    let fetched =
        fetch(&request, &[Arc::new(PeerSource::new(peer))], &watch::Sender::new(FetchProgress::default())).await?;
    println!("{} MiB arrived at {} in {:?}", fetched.length >> 20, fetched.path.display(), start.elapsed());

    for host in [one, two, coordinator] {
        host.stop(Duration::from_secs(5)).await;
    }
    println!("all hosts said goodbye");
    Ok(())
}
