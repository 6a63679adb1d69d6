//! A request and its answer, over hosts and over bare QUIC.
//!
//! `cargo bench -p benches --bench round_trip`

use anyhow::Result;
use benches::{Bare, Hosts, Sides};
use bytes::Bytes;
use criterion::{BenchmarkId, Criterion};

fn main() -> Result<()> {
    let sides = Sides::new()?;
    let (hosts, bare) = (Hosts::start(&sides)?, Bare::connect(&sides, None)?);
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("round trip");
    for size in [16, 64 << 10] {
        let body = Bytes::from(vec![7; size]);
        group.bench_function(BenchmarkId::new("hosts", size), |b| {
            b.iter_custom(|requests| hosts.echo(&sides, &body, requests));
        });
        group.bench_function(BenchmarkId::new("bare", size), |b| {
            b.iter_custom(|requests| bare.echo(&sides, &body, requests));
        });
    }
    group.finish();
    criterion.final_summary();
    Ok(())
}
