//! What hosts cost beside bare QUIC, both in turn, as one table.
//!
//! `cargo bench -p benches --bench ratios`

#![expect(clippy::print_stdout, reason = "the table is the result")]

use std::time::{Duration, Instant};

use anyhow::Result;
use benches::{Bare, Cluster, Comparison, Hosts, Sides};
use bytes::Bytes;

/// Round trips in one round, small and large. Rounds are short, and many: where the system puts the threads changes how
/// long a round trip takes, and within a round both contenders should meet the same.
const REQUESTS: [(usize, u64); 2] = [(16, 400), (64 << 10, 100)];
const REQUEST_ROUNDS: usize = 201;

/// In bytes: long enough that the start does not count.
const LENGTH: u64 = 128 << 20;
const TRANSFER_ROUNDS: usize = 15;

/// Heartbeats in one round, whatever the number of hosts.
const HEARTBEATS: u64 = 500_000;
const HEARTBEAT_ROUNDS: usize = 21;

fn main() -> Result<()> {
    let sides = Sides::new()?;
    let hosts = Hosts::start(&sides)?;
    let file = hosts.offer(&sides, LENGTH)?;
    let bare = Bare::connect(&sides, Some(&file))?;
    println!("{:<62} {:>7} {:>7}   middle half of the rounds", "ratio", "target", "median");
    for (size, requests) in REQUESTS {
        let body = Bytes::from(vec![7; size]);
        let comparison = Comparison::run(
            REQUEST_ROUNDS,
            || Ok(hosts.echo(&sides, &body, requests)),
            || Ok(bare.echo(&sides, &body, requests)),
        )?;
        report(&format!("round trip of {size} B: time against bare QUIC"), "≤ 1.20", &comparison);
    }
    let fetch = || hosts.fetch(&sides, &file);
    let comparison = Comparison::run(TRANSFER_ROUNDS, fetch, || bare.copy(&sides, hosts.directory()))?;
    report("transfer: throughput against bare QUIC, file to file", "≥ 0.90", &comparison.inverted());
    let comparison = Comparison::run(TRANSFER_ROUNDS, fetch, || bare.transfer(&sides, LENGTH))?;
    report("transfer: throughput against bare QUIC, memory to nothing", "≥ 0.90", &comparison.inverted());
    for many in [100, 1000] {
        let comparison = Comparison::run(HEARTBEAT_ROUNDS, steps(many), steps(10))?;
        report(&format!("membership: cost of a host among {many} against 10"), "1", &comparison);
    }
    Ok(())
}

fn report(subject: &str, target: &str, comparison: &Comparison) {
    let (low, high) = comparison.quartiles();
    println!(
        "{subject:<62} {target:>7} {:>7.2}   {low:.2} to {high:.2} of {}",
        comparison.median(),
        comparison.rounds()
    );
}

/// The time that a number of heartbeats takes in a cluster of so many hosts.
fn steps(hosts: u64) -> impl FnMut() -> Result<Duration> {
    let mut cluster = Cluster::new(hosts);
    move || {
        let start = Instant::now();
        (0..HEARTBEATS / hosts).for_each(|_| cluster.step());
        Ok(start.elapsed())
    }
}
