//! Statistics of indices and of the one node.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use serde_json::{Map, Value, json};

use super::{Cluster, VERSION, read};

/// `_stats` with the level `shards`.
pub(super) fn indices(cluster: &Cluster) -> Value {
    let counters = &cluster.counters;
    let counted = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let sections = |documents: u64, bytes: u64| {
        json!({
            "docs": { "count": documents, "deleted": 0 },
            "store": { "size_in_bytes": bytes, "total_data_set_size_in_bytes": bytes },
            "indexing": {
                "index_total": counted(&counters.indexed),
                "index_time_in_millis": counted(&counters.indexing_nanos) / 1_000_000,
                "throttle_time_in_millis": 0,
            },
            "search": { "query_total": counted(&counters.searches) },
            "merges": { "total": counted(&counters.merges), "total_time_in_millis": 0, "total_throttled_time_in_millis": 0 },
            "refresh": { "total": counted(&counters.refreshes), "total_time_in_millis": 0 },
            "flush": { "total": 0, "total_time_in_millis": 0 },
            "segments": { "count": 1, "memory_in_bytes": 0 },
            "translog": { "size_in_bytes": 0 },
        })
    };
    let all = cluster.indices.read().unwrap_or_else(PoisonError::into_inner);
    let mut by_name = Map::new();
    let (mut documents, mut bytes) = (0, 0);
    for (name, index) in all.iter() {
        let index = read(index);
        let own = sections(index.len(), index.bytes());
        let mut shard = own.clone();
        shard["routing"] = json!({ "state": "STARTED", "primary": true, "node": "stand-in", "relocating_node": null });
        by_name.insert(name.clone(), json!({ "primaries": own, "total": own, "shards": { "0": [shard] } }));
        documents += index.len();
        bytes += index.bytes();
    }
    let total = sections(documents, bytes);
    json!({
        "_shards": { "total": by_name.len(), "successful": by_name.len(), "failed": 0 },
        "_all": { "primaries": total, "total": total },
        "indices": by_name,
    })
}

/// `_nodes`.
pub(super) fn node_info() -> Value {
    json!({
        "cluster_name": "rally-demo",
        "nodes": { "stand-in": {
            "name": "stand-in", "host": "127.0.0.1", "ip": "127.0.0.1", "version": VERSION, "roles": ["data", "master"],
            "build_hash": "stand-in", "attributes": {}, "plugins": [],
            "os": { "name": std::env::consts::OS, "version": "", "available_processors": 1, "allocated_processors": 1 },
            "jvm": { "version": "none", "vm_vendor": "none" },
        }},
    })
}

/// `_nodes/stats`.
pub(super) fn node_stats() -> Value {
    let collector = json!({ "collection_count": 0, "collection_time_in_millis": 0 });
    json!({
        "cluster_name": "rally-demo",
        "nodes": { "stand-in": {
            "name": "stand-in", "host": "127.0.0.1", "ip": "127.0.0.1:0", "roles": ["data", "master"],
            "jvm": { "gc": { "collectors": { "young": collector, "old": collector } }, "mem": { "pools": {} } },
            "ingest": { "total": { "count": 0, "time_in_millis": 0, "current": 0, "failed": 0 }, "pipelines": {} },
        }},
    })
}
