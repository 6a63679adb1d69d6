//! Administration, statistics and waiting: the requests of each operation type, and what becomes of the answers.

mod common;
mod index;
mod maintenance;
mod ml;
mod server;
mod snapshot;
mod stats;
mod transform;

use rally_core::track::{Track, TrackBuilder};
use serde_json::json;

use crate::operation::Case;

async fn check(cases: impl IntoIterator<Item = Case>) {
    for case in cases {
        case.check().await;
    }
}

/// A track with indices, data streams and templates of all kinds.
fn full_track() -> TrackBuilder {
    let settings = || json!({ "settings": { "index": { "number_of_shards": 1 }, "keep": 1 } });
    Track::builder("full")
        .index("logs", settings())
        .index("metrics", json!({}))
        .composable_template("c1", "c1-*", json!({ "index_patterns": ["c1-*"], "template": settings() }))
        .composable_template("c2", "c2-*", json!({ "index_patterns": ["c2-*"] }))
        .component_template("part", json!({ "template": settings(), "version": 3 }))
}

fn streams_track() -> TrackBuilder {
    Track::builder("streams").data_stream("s1").data_stream("s2")
}
