//! Devices that sample one API each and keep what it says.

use std::time::Duration;

use async_trait::async_trait;
use glob::Pattern;
use rally_core::track::JsonObject;
use serde_json::{Value, json};

use super::device::{Cluster, Device, Records, elements, encode, entries, flatten, object};
use super::selection::Parameters;
use crate::RunnerError;
use crate::client::Request;

/// What is sampled.
#[derive(Debug)]
enum What {
    /// Recoveries that are on their way, of these indices.
    Recovery {
        indices: Vec<String>,
    },
    /// Shards that follow those of another cluster, of these indices; of all if there are none.
    CrossClusterReplication {
        indices: Vec<String>,
    },
    /// Caches of searchable snapshots, of the cluster, or of indices that fit these patterns.
    SearchableSnapshots {
        indices: Vec<Pattern>,
    },
    Shards,
    DataStreams,
    BlobStore,
    MasterNode,
}

/// Samples one API.
#[derive(Debug)]
pub(super) struct Sampled {
    name: &'static str,
    interval: Duration,
    what: What,
}

impl Sampled {
    /// A device by its name; none if there is no such device here.
    pub(super) fn new(name: &'static str, parameters: &Parameters<'_>) -> Result<Option<Self>, String> {
        let indices = |key: &str| parameters.of_cluster(key).map(Option::unwrap_or_default);
        let (default_interval, what) = match name {
            "recovery-stats" => (1.0, What::Recovery { indices: indices("recovery-stats-indices")? }),
            "ccr-stats" => (1.0, What::CrossClusterReplication { indices: indices("ccr-stats-indices")? }),
            "searchable-snapshots-stats" => {
                let key = "searchable-snapshots-stats-indices";
                let pattern = |text: String| {
                    Pattern::new(&text).map_err(|error| {
                        format!(
                            "the telemetry parameter `{key}` has the pattern `{text}`, which makes no sense: {error}"
                        )
                    })
                };
                let indices = indices(key)?.into_iter().map(pattern).collect::<Result<_, _>>()?;
                (1.0, What::SearchableSnapshots { indices })
            }
            "shard-stats" => (60.0, What::Shards),
            "data-stream-stats" => (10.0, What::DataStreams),
            "blob-store-stats" => (1.0, What::BlobStore),
            "master-node-stats" => (30.0, What::MasterNode),
            _ => return Ok(None),
        };
        Ok(Some(Self { name, interval: parameters.interval(name, default_interval)?, what }))
    }
}

#[async_trait(?Send)]
impl Device for Sampled {
    fn name(&self) -> &'static str {
        self.name
    }

    fn interval(&self) -> Option<Duration> {
        Some(self.interval)
    }

    async fn sample(&mut self, cluster: &Cluster, records: &mut Records) -> Result<(), RunnerError> {
        match &self.what {
            What::Recovery { indices } => recovery(indices, cluster, records).await,
            What::CrossClusterReplication { indices } => cross_cluster_replication(indices, cluster, records).await,
            What::SearchableSnapshots { indices } => searchable_snapshots(indices, cluster, records).await,
            What::Shards => shards(cluster, records).await,
            What::DataStreams => data_streams(cluster, records).await,
            What::BlobStore => blob_store(cluster, records).await,
            What::MasterNode => master_node(cluster, records).await,
        }
    }
}

async fn recovery(indices: &[String], cluster: &Cluster, records: &mut Records) -> Result<(), RunnerError> {
    let path = match indices {
        [] => "/_recovery".to_owned(),
        indices => format!("/{}/_recovery", encode(&indices.join(","))),
    };
    let stats = cluster.get(format!("{path}?active_only=true&detailed=false")).await?;
    for (index, stats) in entries(&stats) {
        for shard in elements(&stats["shards"]) {
            let mut meta = cluster.meta();
            meta.extend(object(json!({ "index": index, "shard": shard["id"] })));
            records.document("recovery-stats", object(json!({ "shard": shard })), meta);
        }
    }
    Ok(())
}

async fn cross_cluster_replication(
    indices: &[String],
    cluster: &Cluster,
    records: &mut Records,
) -> Result<(), RunnerError> {
    let stats = cluster.get("/_ccr/stats?human=false&filter_path=follow_stats").await?;
    for followed in elements(&stats["follow_stats"]["indices"]) {
        let index = followed["index"].as_str().unwrap_or_default();
        if !indices.is_empty() && !indices.iter().any(|wanted| wanted == index) {
            continue;
        }
        for shard in elements(&followed["shards"]) {
            let mut meta = cluster.meta();
            meta.insert("index".to_owned(), json!(index));
            records.document("ccr-stats", object(json!({ "shard": shard })), meta);
        }
    }
    Ok(())
}

async fn searchable_snapshots(
    patterns: &[Pattern],
    cluster: &Cluster,
    records: &mut Records,
) -> Result<(), RunnerError> {
    let level = if patterns.is_empty() { "cluster" } else { "indices" };
    let mut request = Request::new("GET", format!("/_searchable_snapshots/stats?level={level}"));
    // There is nothing to tell as long as nothing is mounted.
    request.ignore.push(404);
    let stats = cluster.json(request).await?;
    let mut tell = |all: &Value, level: &str, index: Option<&str>| {
        for stat in elements(all) {
            let mut fields = object(json!({ "lucene_file_type": stat["file_ext"], "stats": stat }));
            if let Some(index) = index {
                fields.insert("index".to_owned(), json!(index));
            }
            let mut meta = cluster.meta();
            meta.insert("level".to_owned(), json!(level));
            records.document("searchable-snapshots-stats", fields, meta);
        }
    };
    if patterns.is_empty() {
        tell(&stats["total"], "cluster", None);
    }
    for (index, stats) in entries(&stats["indices"]) {
        if patterns.iter().any(|pattern| pattern.matches(index)) {
            tell(&stats["total"], "index", Some(index));
        }
    }
    Ok(())
}

async fn shards(cluster: &Cluster, records: &mut Records) -> Result<(), RunnerError> {
    let stats = cluster.get("/_nodes/stats/_all?level=shards").await?;
    for (_, node) in entries(&stats["nodes"]) {
        for (index, shards) in entries(&node["indices"]["shards"]) {
            for (id, shard) in elements(shards).flat_map(entries) {
                let number = |place: &str| shard.pointer(place).and_then(Value::as_i64).unwrap_or(-1);
                let fields = object(json!({
                    "shard-id": id,
                    "index": index,
                    "primary": shard["routing"]["primary"],
                    "docs": number("/docs/count"),
                    "store": number("/store/size_in_bytes"),
                    "segments-count": number("/segments/count"),
                    "node": node["name"],
                }));
                records.document("shard-stats", fields, cluster.meta());
            }
        }
    }
    Ok(())
}

async fn data_streams(cluster: &Cluster, records: &mut Records) -> Result<(), RunnerError> {
    let stats = cluster.get("/_data_stream/_stats").await?;
    let shards = &stats["_shards"];
    let all = object(json!({
        "data_stream": "_all",
        "shards": {
            "total": shards["total"], "successful_shards": shards["successful"], "failed_shards": shards["failed"],
        },
        "data_stream_count": stats["data_stream_count"],
        "backing_indices": stats["backing_indices"],
        "total_store_size_bytes": stats["total_store_size_bytes"],
    }));
    records.document("data-stream-stats", all, cluster.meta());
    for stream in elements(&stats["data_streams"]) {
        let fields = object(json!({
            "data_stream": stream["data_stream"],
            "backing_indices": stream["backing_indices"],
            "store_size_bytes": stream["store_size_bytes"],
            "maximum_timestamp": stream["maximum_timestamp"],
        }));
        records.document("data-stream-stats", fields, cluster.meta());
    }
    Ok(())
}

async fn blob_store(cluster: &Cluster, records: &mut Records) -> Result<(), RunnerError> {
    let stats = cluster.get("/_internal/blob_store/stats").await?;
    let all = std::iter::once(("_all", &stats["_all"]));
    for (node, stats_of_node) in all.chain(entries(&stats["nodes"]).map(|(node, stats)| (node.as_str(), stats))) {
        let mut fields = JsonObject::new();
        flatten("object_store", &stats_of_node["object_store_stats"], &mut fields);
        flatten("operational_backup", &stats_of_node["operational_backup_service_stats"], &mut fields);
        if fields.is_empty() {
            continue;
        }
        fields.insert("node".to_owned(), json!(node));
        let mut meta = cluster.meta();
        meta.insert("_nodes".to_owned(), stats["_nodes"].clone());
        records.document("blob-store-stats", fields, meta);
    }
    Ok(())
}

async fn master_node(cluster: &Cluster, records: &mut Records) -> Result<(), RunnerError> {
    let state = cluster.get("/_cluster/state/master_node").await?;
    let Some(id) = state["master_node"].as_str() else { return Ok(()) };
    let info = cluster.get(format!("/_nodes/{}/os", encode(id))).await?;
    let name = &info["nodes"][id]["name"];
    if !name.is_null() {
        records.document("master-node-stats", object(json!({ "node": name })), cluster.meta());
    }
    Ok(())
}
