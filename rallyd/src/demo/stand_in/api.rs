//! The HTTP side: paths, bodies, answers.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query as QueryString, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::index::Indexed;
use super::query::Query;
use super::{Cluster, VERSION, aggregation, read, statistics};

/// The largest body, in bytes.
const LARGEST_BODY: usize = 256 << 20;

/// Hits of a search that does not say how many.
const HITS: usize = 10;

type Shared = State<Arc<Cluster>>;

pub(super) fn router(cluster: Arc<Cluster>) -> Router {
    Router::new()
        .route("/", get(about))
        .route("/_bulk", post(bulk).put(bulk))
        .route("/{index}/_bulk", post(bulk_into).put(bulk_into))
        .route("/_search", get(search_all).post(search_all))
        .route("/{index}/_search", get(search).post(search))
        .route("/{index}/_count", get(count).post(count))
        .route("/_refresh", post(refresh).get(refresh))
        .route("/{index}/_refresh", post(refresh).get(refresh))
        .route("/_forcemerge", post(force_merge))
        .route("/{index}/_forcemerge", post(force_merge))
        .route("/_cluster/health", get(health))
        .route("/_cluster/health/{index}", get(health))
        .route("/_cluster/state/master_node", get(master_node))
        .route("/_cluster/settings", get(settings).put(settings))
        .route("/_stats", get(index_stats))
        .route("/_stats/{metric}", get(index_stats))
        .route("/{index}/_stats", get(index_stats))
        .route("/{index}/_stats/{metric}", get(index_stats))
        .route("/_nodes", get(node_info))
        .route("/_nodes/{*which}", get(nodes))
        .route("/{index}", put(create_index).delete(delete_index).head(index_exists))
        .fallback(unknown)
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(from_fn_with_state(Arc::clone(&cluster), counted))
        .with_state(cluster)
}

/// Counts requests, and says in every answer what clients of Elasticsearch want to see.
async fn counted(State(cluster): Shared, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.headers_mut().insert("x-elastic-product", HeaderValue::from_static("Elasticsearch"));
    cluster.requests.fetch_add(1, Ordering::Relaxed);
    response
}

fn answer(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(body) => (status, [(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn ok(body: &impl Serialize) -> Response {
    answer(StatusCode::OK, body)
}

fn refuse(status: StatusCode, kind: &str, reason: impl AsRef<str>) -> Response {
    let cause = json!({ "type": kind, "reason": reason.as_ref() });
    answer(
        status,
        &json!({ "error": { "root_cause": [cause], "type": kind, "reason": reason.as_ref() }, "status": status.as_u16() }),
    )
}

fn bad_request(reason: impl AsRef<str>) -> Response {
    refuse(StatusCode::BAD_REQUEST, "parsing_exception", reason)
}

fn no_index(name: impl AsRef<str>) -> Response {
    refuse(StatusCode::NOT_FOUND, "index_not_found_exception", format!("no such index [{}]", name.as_ref()))
}

async fn unknown(method: Method, uri: Uri) -> Response {
    let reason = format!("the stand-in of the demo does not know {method} {}", uri.path());
    refuse(StatusCode::BAD_REQUEST, "illegal_argument_exception", reason)
}

async fn about() -> Response {
    ok(&json!({
        "name": "stand-in",
        "cluster_name": "rally-demo",
        "cluster_uuid": "rally-demo",
        "version": {
            "number": VERSION,
            "build_flavor": "default",
            "build_type": "stand-in",
            "build_hash": "stand-in",
            "build_snapshot": false,
        },
        "tagline": "You Know, for Search",
    }))
}

async fn create_index(State(cluster): Shared, Path(name): Path<String>) -> Response {
    if name.starts_with('_') {
        return refuse(StatusCode::BAD_REQUEST, "invalid_index_name_exception", format!("invalid index name [{name}]"));
    }
    if cluster.create(&name) {
        ok(&json!({ "acknowledged": true, "shards_acknowledged": true, "index": name }))
    } else {
        let reason = format!("index [{name}] already exists");
        refuse(StatusCode::BAD_REQUEST, "resource_already_exists_exception", reason)
    }
}

async fn delete_index(State(cluster): Shared, Path(names): Path<String>) -> Response {
    match cluster.select(&names) {
        Err(missing) => no_index(missing),
        Ok(selected) => {
            let mut indices = cluster.indices.write().unwrap_or_else(PoisonError::into_inner);
            for (name, _) in selected {
                indices.remove(&name);
            }
            ok(&json!({ "acknowledged": true }))
        }
    }
}

async fn index_exists(State(cluster): Shared, Path(names): Path<String>) -> StatusCode {
    if cluster.select(&names).is_ok() { StatusCode::OK } else { StatusCode::NOT_FOUND }
}

async fn bulk(State(cluster): Shared, body: Bytes) -> Response {
    run_bulk(&cluster, None, &body)
}

async fn bulk_into(State(cluster): Shared, Path(index): Path<String>, body: Bytes) -> Response {
    run_bulk(&cluster, Some(&index), &body)
}

/// The action line of a bulk request.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Index(Target),
    Create(Target),
    Update(Target),
    Delete(Target),
}

#[derive(Debug, Deserialize)]
struct Target {
    #[serde(rename = "_index")]
    index: Option<String>,
    #[serde(rename = "_id")]
    id: Option<String>,
}

/// The line after the action line of an update.
#[derive(Debug, Deserialize)]
struct Update {
    doc: Box<RawValue>,
}

fn run_bulk(cluster: &Cluster, default_index: Option<&str>, body: &[u8]) -> Response {
    let start = Instant::now();
    let mut lines = body.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    let mut items = Vec::new();
    let mut errors = false;
    while let Some(line) = lines.next() {
        let action: Action = match serde_json::from_slice(line) {
            Ok(action) => action,
            Err(error) => return bad_request(format!("malformed action line: {error}")),
        };
        let (name, target) = match &action {
            Action::Index(target) => ("index", target),
            Action::Create(target) => ("create", target),
            Action::Update(target) => ("update", target),
            Action::Delete(target) => ("delete", target),
        };
        let Some(index_name) = target.index.as_deref().or(default_index) else {
            return bad_request("an action names no index");
        };
        let source = if matches!(action, Action::Delete(_)) { None } else { lines.next() };
        let index = cluster.index(index_name);
        let mut index = index.write().unwrap_or_else(PoisonError::into_inner);
        let put = |index: &mut super::Index, text: &[u8]| -> Result<Indexed, serde_json::Error> {
            index.put(target.id.clone(), serde_json::from_slice(text)?)
        };
        let done = match (&action, source) {
            (Action::Delete(target), _) => {
                let found = target.id.as_deref().is_some_and(|id| index.delete(id));
                Ok(if found { (200, "deleted") } else { (404, "not_found") })
            }
            (_, None) => return bad_request("the last action has no source"),
            (Action::Create(Target { id: Some(id), .. }), Some(_)) if index.contains(id) => {
                Err((409, "version_conflict_engine_exception", format!("[{id}]: document already exists")))
            }
            (Action::Update(_), Some(text)) => serde_json::from_slice::<Update>(text)
                .and_then(|update| put(&mut index, update.doc.get().as_bytes()))
                .map(outcome)
                .map_err(|error| (400, "document_parsing_exception", error.to_string())),
            (_, Some(text)) => put(&mut index, text)
                .map(outcome)
                .map_err(|error| (400, "document_parsing_exception", error.to_string())),
        };
        items.push(match done {
            Ok((status, result)) => json!({ name: {
                "_index": index_name, "_id": target.id, "status": status, "result": result,
                "_shards": { "total": 1, "successful": 1, "failed": 0 },
            }}),
            Err((status, kind, reason)) => {
                errors = true;
                json!({ name: {
                    "_index": index_name, "_id": target.id, "status": status,
                    "error": { "type": kind, "reason": reason },
                }})
            }
        });
    }
    let took = start.elapsed();
    cluster.counters.indexed.fetch_add(items.len() as u64, Ordering::Relaxed);
    cluster.counters.indexing_nanos.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
    ok(&json!({ "errors": errors, "took": took.as_millis() as u64, "items": items }))
}

fn outcome(indexed: Indexed) -> (u16, &'static str) {
    match indexed {
        Indexed::Created => (201, "created"),
        Indexed::Updated => (200, "updated"),
    }
}

/// The body of a search.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Search {
    query: Option<Value>,
    size: Option<usize>,
    from: usize,
    #[serde(alias = "aggregations")]
    aggs: Option<Value>,
}

async fn search_all(cluster: Shared, query: QueryString<SearchQuery>, body: Bytes) -> Response {
    search(cluster, Path("_all".to_owned()), query, body).await
}

/// What a search may say in its query string.
#[derive(Debug, Deserialize)]
struct SearchQuery {
    size: Option<usize>,
}

async fn search(
    State(cluster): Shared,
    Path(names): Path<String>,
    QueryString(parameters): QueryString<SearchQuery>,
    body: Bytes,
) -> Response {
    let start = Instant::now();
    let search: Search = match if body.is_empty() { Ok(Search::default()) } else { serde_json::from_slice(&body) } {
        Ok(search) => search,
        Err(error) => return bad_request(error.to_string()),
    };
    let selected = match cluster.select(&names) {
        Ok(selected) => selected,
        Err(missing) => return no_index(missing),
    };
    let query = match search.query.as_ref().map_or(Ok(Query::All), Query::parse) {
        Ok(query) => query,
        Err(reason) => return bad_request(reason),
    };
    let size = search.size.or(parameters.size).unwrap_or(HITS);
    let mut total = 0;
    let mut best: Vec<(f64, Value)> = Vec::new();
    let mut aggregations = None;
    for (name, index) in &selected {
        let index = read(index);
        let mut found = query.run(&index);
        total += found.len();
        if let Some(wanted) = &search.aggs {
            let documents: Vec<u32> = found.iter().map(|(id, _)| *id).collect();
            match aggregation::aggregate(&index, &documents, wanted) {
                Ok(results) => aggregations = Some(results),
                Err(reason) => return bad_request(reason),
            }
        }
        found.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        best.extend(found.into_iter().skip(search.from).take(size).map(|(id, score)| {
            let document = index.document(id);
            (score, json!({ "_index": name, "_id": document.id, "_score": score, "_source": document.source }))
        }));
    }
    if search.aggs.is_some() && selected.len() > 1 {
        return bad_request("the stand-in aggregates over one index only");
    }
    best.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    best.truncate(size);
    cluster.counters.searches.fetch_add(1, Ordering::Relaxed);
    let shards = selected.len();
    let mut response = json!({
        "took": start.elapsed().as_millis() as u64,
        "timed_out": false,
        "_shards": { "total": shards, "successful": shards, "skipped": 0, "failed": 0 },
        "hits": {
            "total": { "value": total, "relation": "eq" },
            "max_score": best.first().map(|(score, _)| score),
            "hits": best.into_iter().map(|(_, hit)| hit).collect::<Vec<_>>(),
        },
    });
    if let Some(aggregations) = aggregations {
        response["aggregations"] = aggregations;
    }
    ok(&response)
}

async fn count(State(cluster): Shared, Path(names): Path<String>) -> Response {
    match cluster.select(&names) {
        Ok(selected) => {
            let count: u64 = selected.iter().map(|(_, index)| read(index).len()).sum();
            ok(
                &json!({ "count": count, "_shards": { "total": selected.len(), "successful": selected.len(), "failed": 0 } }),
            )
        }
        Err(missing) => no_index(missing),
    }
}

async fn refresh(State(cluster): Shared) -> Response {
    cluster.counters.refreshes.fetch_add(1, Ordering::Relaxed);
    ok(&json!({ "_shards": { "total": 1, "successful": 1, "failed": 0 } }))
}

async fn force_merge(State(cluster): Shared) -> Response {
    cluster.counters.merges.fetch_add(1, Ordering::Relaxed);
    ok(&json!({ "_shards": { "total": 1, "successful": 1, "failed": 0 } }))
}

async fn health() -> Response {
    ok(&json!({
        "cluster_name": "rally-demo", "status": "green", "timed_out": false, "number_of_nodes": 1,
        "number_of_data_nodes": 1, "relocating_shards": 0, "initializing_shards": 0, "unassigned_shards": 0,
    }))
}

async fn settings() -> Response {
    ok(&json!({ "acknowledged": true, "persistent": {}, "transient": {} }))
}

async fn index_stats(State(cluster): Shared) -> Response {
    ok(&statistics::indices(&cluster))
}

async fn master_node() -> Response {
    ok(&json!({ "cluster_name": "rally-demo", "master_node": "stand-in" }))
}

async fn node_info() -> Response {
    ok(&statistics::node_info())
}

async fn nodes(Path(which): Path<String>) -> Response {
    if which.split('/').any(|part| part == "stats") {
        ok(&statistics::node_stats())
    } else {
        ok(&statistics::node_info())
    }
}
