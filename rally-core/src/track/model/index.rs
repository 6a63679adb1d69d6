//! Indices, data streams and templates.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An index that the track works with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Index {
    /// The name.
    pub name: String,
    /// Settings and mappings; an empty object if the track has no file for it.
    pub body: Value,
}

/// A data stream that the track works with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DataStream {
    /// The name.
    pub name: String,
}

/// An index template, of the old kind or composable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct IndexTemplate {
    /// The name.
    pub name: String,
    /// The indices that it applies to.
    pub pattern: String,
    /// Whether deleting the template also deletes the indices that match the pattern.
    pub delete_matching_indices: bool,
    /// The template itself.
    pub content: Value,
}

/// A component template.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ComponentTemplate {
    /// The name.
    pub name: String,
    /// The template itself.
    pub content: Value,
}
