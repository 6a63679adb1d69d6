//! Loading a track: read, collect, render, parse, check, and build the model.
//!
//! Run with `cargo bench -p benches --bench track`. To compare with the original Rally: `benches/scripts/track_loading.py`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use rally_core::track::{LoadOptions, MemoryFiles, TrackDirectory, TrackFiles, load_track};

/// The largest of the real tracks by the time that it takes.
const LARGEST: &str = "nyc_taxis";

/// Operations of the generated track.
const OPERATIONS: usize = 1_000;

/// A track of many operations, collected from parts, and a challenge of two tasks for each of them.
fn generated() -> MemoryFiles {
    let mut operations = String::new();
    let mut schedule = String::new();
    // Writing into a string cannot fail.
    for number in 0..OPERATIONS {
        let comma = if number > 0 { "," } else { "" };
        let _ = write!(
            operations,
            r#"{comma}{{"name": "search-{number}", "operation-type": "search", "index": "logs-{{{{ suffix | default('a') }}}}",
            "body": {{"query": {{"term": {{"status": {{{{ {number} % 7 }}}}}}}}, "size": {{{{ page_size | default(10) | int }}}}}}}}"#
        );
        let _ = write!(
            schedule,
            r#"{comma}{{% for clients in [1, 8] %}}{{% if not loop.first %}},{{% endif %}}
            {{"name": "search-{number}-{{{{ clients }}}}", "operation": "search-{number}", "clients": {{{{ clients }}}},
            "iterations": {{{{ iterations | default(100) }}}}, "tags": ["search"]}}{{% endfor %}}"#
        );
    }
    MemoryFiles::new()
        .with("operations/all.json", operations)
        .with("challenges/all.json", format!(r#"{{"name": "all", "schedule": [{schedule}]}}"#))
        .with(
            "track.json",
            r#"{% import "rally.helpers" as rally with context %}
            {"version": 2, "operations": [{{ rally.collect(parts="operations/*.json") }}],
             "challenges": [{{ rally.collect(parts="challenges/*.json") }}]}"#,
        )
}

fn bench(criterion: &mut Criterion, name: &str, files: Arc<dyn TrackFiles>) {
    let options = LoadOptions::default();
    criterion.bench_function(name, |bencher| {
        bencher.iter(|| load_track(files.clone(), &options).expect("the track is valid"));
    });
}

fn tracks(criterion: &mut Criterion) {
    bench(criterion, "track/generated", Arc::new(generated()));
    let conformance = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/conformance"));
    let root = std::env::var_os("RALLY_CONFORMANCE").map_or(conformance, PathBuf::from);
    let directory = root.join("tracks").join(LARGEST);
    if directory.is_dir() {
        bench(criterion, &format!("track/{LARGEST}"), Arc::new(TrackDirectory::new(directory)));
    } else {
        #[expect(clippy::print_stderr, reason = "this is how a bench says that it was left out")]
        {
            eprintln!("skipped track/{LARGEST}: there is no {}", directory.display());
        }
    }
}

criterion_group!(benches, tracks);
criterion_main!(benches);
