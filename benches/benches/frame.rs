//! Encoding and decoding of frames.
//!
//! `cargo bench -p benches --bench frame`

use std::hint::black_box;

use anyhow::Result;
use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput};
use rally_core::{Epoch, HostFacts};
use rally_net::{frame, protocol::Hello};
use serde::{Serialize, de::DeserializeOwned};

fn main() -> Result<()> {
    let facts = HostFacts {
        name: "driver-17.example.org".to_owned(),
        version: "0.1.0".to_owned(),
        cores: 64,
        memory: 256 << 30,
        platform: "Linux 6.1.0 x86_64".to_owned(),
        ..HostFacts::default()
    };
    let hello = Hello {
        epoch: Epoch(7),
        facts,
        build: "0.1.0".to_owned(),
        capabilities: vec!["load-driver".to_owned()],
        wall_clock: 1 << 60,
    };
    let mut criterion = Criterion::default().configure_from_args();
    bench(&mut criterion, "hello", &hello)?;
    bench(&mut criterion, "64 KiB of bytes", &Bytes::from(vec![7; 64 << 10]))?;
    criterion.final_summary();
    Ok(())
}

fn bench<T: Serialize + DeserializeOwned>(criterion: &mut Criterion, name: &str, value: &T) -> Result<()> {
    let encoded = frame::encode(value)?;
    let body = &encoded[size_of::<u32>()..];
    let mut group = criterion.benchmark_group("frame");
    group.throughput(Throughput::Bytes(encoded.len() as u64));
    group.bench_function(BenchmarkId::new("encode", name), |b| b.iter(|| frame::encode(black_box(value))));
    group.bench_function(BenchmarkId::new("decode", name), |b| b.iter(|| frame::decode::<T>(black_box(body))));
    group.finish();
    Ok(())
}
