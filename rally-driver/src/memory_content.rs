//! Contents that are kept in memory.

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use rally_core::{ContentHash, RacePlan};

use crate::ContentSource;

/// Contents in memory, for drivers of the same process.
#[derive(Debug, Default)]
pub struct MemoryContent(Mutex<HashMap<ContentHash, Bytes>>);

impl MemoryContent {
    /// Without any content.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Keeps a content under its hash.
    pub fn add(&self, content: Bytes) -> ContentHash {
        let hash = ContentHash::from_bytes(*blake3::hash(&content).as_bytes());
        self.lock().insert(hash, content);
        hash
    }

    /// Keeps the plan of a race, for drivers to find it.
    pub fn add_plan(&self, plan: &RacePlan) -> ContentHash {
        self.add(Bytes::from(serde_json::to_vec(plan).expect("all keys of a plan are texts")))
    }

    /// The content with this hash; none if it was never added.
    pub fn get(&self, content: ContentHash) -> Option<Bytes> {
        self.lock().get(&content).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ContentHash, Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl ContentSource for MemoryContent {
    async fn fetch(&self, content: ContentHash) -> Result<Bytes, Box<dyn Error + Send + Sync>> {
        self.get(content).ok_or_else(|| format!("nothing is known of {content}").into())
    }
}
