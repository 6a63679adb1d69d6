//! A stand-in for Elasticsearch: just enough of its API for the bundled track, on a small index in memory.
//!
//! It lets a newcomer see a race without installing anything. It is never a benchmark subject.

mod aggregation;
mod api;
mod index;
mod query;
mod statistics;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use index::Index;

/// The version that it speaks the API of.
const VERSION: &str = "8.15.0";

/// A stand-in that serves on loopback until it is dropped.
#[derive(Debug)]
pub struct StandIn {
    address: SocketAddr,
    cluster: Arc<Cluster>,
    server: JoinHandle<()>,
}

impl StandIn {
    /// Starts to serve on a free port of the loopback address.
    ///
    /// # Errors
    ///
    /// If no port can be listened on.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let cluster = Arc::new(Cluster::default());
        let router = api::router(Arc::clone(&cluster));
        #[expect(clippy::disallowed_methods, reason = "the handle is kept and aborted on drop")]
        let server = tokio::spawn(async move {
            // It only returns when the listener fails, and then there is nobody left to tell.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, cluster, server })
    }

    /// Where it serves HTTP.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests that it has answered.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.cluster.requests.load(Ordering::Relaxed)
    }

    /// Documents in all indices.
    #[must_use]
    pub fn documents(&self) -> u64 {
        let indices = self.cluster.indices.read().unwrap_or_else(PoisonError::into_inner);
        indices.values().map(|index| read(index).len()).sum()
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.server.abort();
    }
}

type SharedIndex = Arc<RwLock<Index>>;

/// What all requests work on.
#[derive(Debug, Default)]
struct Cluster {
    indices: RwLock<BTreeMap<String, SharedIndex>>,
    requests: AtomicU64,
    counters: Counters,
}

/// Work that was done, for the statistics.
#[derive(Debug, Default)]
struct Counters {
    indexed: AtomicU64,
    indexing_nanos: AtomicU64,
    searches: AtomicU64,
    refreshes: AtomicU64,
    merges: AtomicU64,
}

impl Cluster {
    /// The indices that a request names: a list, patterns with `*`, or `_all`. A name without a pattern must exist.
    fn select(&self, names: &str) -> Result<Vec<(String, SharedIndex)>, String> {
        let indices = self.indices.read().unwrap_or_else(PoisonError::into_inner);
        let mut selected = Vec::new();
        for name in names.split(',') {
            let pattern = if name == "_all" { "*" } else { name };
            let before = selected.len();
            selected.extend(
                indices.iter().filter(|(index, _)| fits(pattern, index)).map(|(n, i)| (n.clone(), Arc::clone(i))),
            );
            if selected.len() == before && !pattern.contains('*') {
                return Err(name.to_owned());
            }
        }
        Ok(selected)
    }

    /// Creates an index; whether it was not there.
    fn create(&self, name: &str) -> bool {
        let mut indices = self.indices.write().unwrap_or_else(PoisonError::into_inner);
        let is_new = !indices.contains_key(name);
        if is_new {
            indices.insert(name.to_owned(), Arc::default());
        }
        is_new
    }

    /// The index of this name, made if it is not there.
    fn index(&self, name: &str) -> SharedIndex {
        self.create(name);
        let indices = self.indices.read().unwrap_or_else(PoisonError::into_inner);
        // Another request may have deleted it meanwhile; what is written now goes with it.
        indices.get(name).cloned().unwrap_or_default()
    }
}

fn read(index: &RwLock<Index>) -> std::sync::RwLockReadGuard<'_, Index> {
    index.read().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a name fits a pattern with `*`.
fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name
            .strip_prefix(start)
            .is_some_and(|tail| (0..=tail.len()).any(|skip| tail.is_char_boundary(skip) && fits(rest, &tail[skip..]))),
    }
}

#[cfg(test)]
mod tests;
