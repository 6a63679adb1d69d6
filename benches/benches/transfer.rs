//! A file from one host to the other, and the same bytes over a bare QUIC stream.
//!
//! `cargo bench -p benches --bench transfer`

use std::time::Duration;

use anyhow::Result;
use benches::{Bare, Hosts, Sides};
use criterion::{Criterion, Throughput};

/// In bytes: long enough that the start does not count.
const LENGTH: u64 = 256 << 20;

fn main() -> Result<()> {
    let sides = Sides::new()?;
    let hosts = Hosts::start(&sides)?;
    let file = hosts.offer(&sides, LENGTH)?;
    let bare = Bare::connect(&sides, Some(&file))?;
    let times = |iterations: u64, once: &dyn Fn() -> Result<Duration>| -> Duration {
        (0..iterations).map(|_| once().expect("the transfer succeeds")).sum()
    };
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("transfer");
    group.sample_size(10).throughput(Throughput::Bytes(LENGTH));
    group.bench_function("hosts, file to file", |b| {
        b.iter_custom(|iterations| times(iterations, &|| hosts.fetch(&sides, &file)));
    });
    group.bench_function("bare, file to file", |b| {
        b.iter_custom(|iterations| times(iterations, &|| bare.copy(&sides, hosts.directory())));
    });
    group.bench_function("bare, memory to nothing", |b| {
        b.iter_custom(|iterations| times(iterations, &|| bare.transfer(&sides, LENGTH)));
    });
    group.finish();
    criterion.final_summary();
    Ok(())
}
