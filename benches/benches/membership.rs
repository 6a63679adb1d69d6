//! The coordinator's registry over one heartbeat interval; the throughput is in hosts, and should not depend on their
//! number.
//!
//! `cargo bench -p benches --bench membership`

use benches::Cluster;
use criterion::{BenchmarkId, Criterion, Throughput};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("membership step");
    for hosts in [10, 100, 1000] {
        let mut cluster = Cluster::new(hosts);
        group.throughput(Throughput::Elements(hosts));
        group.bench_function(BenchmarkId::from_parameter(hosts), |b| b.iter(|| cluster.step()));
    }
    group.finish();
    criterion.final_summary();
}
