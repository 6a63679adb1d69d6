//! The whole answer to a bulk request.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::strange;
use crate::RunnerError;

/// The whole answer; read only if items failed, or details are wanted.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    /// In milliseconds.
    pub(super) took: Option<u64>,
    /// The part of it that ingest pipelines took.
    pub(super) ingest_took: Option<u64>,
    #[serde(default)]
    pub(super) items: Vec<Item>,
}

/// What became of one document.
#[derive(Debug)]
pub(super) struct Item {
    /// `index`, `create`, `update` or `delete`.
    pub(super) action: String,
    pub(super) result: ItemResult,
}

#[derive(Debug, Deserialize)]
pub(super) struct ItemResult {
    pub(super) status: u16,
    /// `created`, `updated` and the like.
    pub(super) result: Option<String>,
    pub(super) error: Option<Value>,
    #[serde(rename = "_shards")]
    pub(super) shards: Option<Shards>,
}

/// On how many shards an operation was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default)]
pub(super) struct Shards {
    pub(super) total: u64,
    pub(super) successful: u64,
    pub(super) failed: u64,
}

impl Answer {
    pub(super) fn parse(body: &[u8]) -> Result<Self, RunnerError> {
        serde_json::from_slice(body).map_err(strange)
    }

    /// Which documents the cluster had no room for.
    pub(super) fn busy(&self) -> Vec<usize> {
        let items = self.items.iter().enumerate();
        items.filter(|(_, item)| item.result.status == 429).map(|(index, _)| index).collect()
    }
}

impl ItemResult {
    pub(super) fn has_failed(&self) -> bool {
        self.status > 299 || self.shards.is_some_and(|shards| shards.failed > 0)
    }

    /// Why it failed, as far as it is said.
    pub(super) fn reason(&self) -> &str {
        match &self.error {
            Some(Value::String(text)) => text,
            Some(error) => error.get("reason").and_then(Value::as_str).unwrap_or_default(),
            None => "",
        }
    }
}

/// An item is an object with the action as its only key.
impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ItemVisitor;

        impl<'de> Visitor<'de> for ItemVisitor {
            type Value = Item;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with one action")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Item, A::Error> {
                let Some((action, result)) = map.next_entry()? else {
                    return Err(A::Error::custom("an item has no action"));
                };
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Item { action, result })
            }
        }

        deserializer.deserialize_map(ItemVisitor)
    }
}
