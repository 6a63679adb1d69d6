//! What stands before each document in the body of a bulk request.

use std::fmt::Write as _;

use bytes::BytesMut;
use serde_json::json;

use super::ids::Ids;

/// What stands before each document.
#[derive(Clone, Debug)]
pub(crate) enum ActionLines {
    /// The file has them.
    InFile,
    /// Always this one, with its line feed.
    Same(String),
    /// One with an id.
    WithId(Box<WithId>),
}

/// Action lines with ids, some of which conflict.
#[derive(Clone, Debug)]
pub(crate) struct WithId {
    ids: Ids,
    /// Up to the id: of documents with a new id, and of those with a used one.
    new: String,
    used: String,
    /// Whether documents with a used id are partial documents of an update.
    updates: bool,
}

impl ActionLines {
    /// Lines that index documents, or create them in a data stream.
    pub(crate) fn same(action: &str, target: &str) -> Self {
        Self::Same(format!("{{\"{action}\": {{\"_index\": {}}}}}\n", json!(target)))
    }

    /// Lines that index documents by id, or update those whose id was used before.
    pub(crate) fn with_id(target: &str, ids: Ids, updates: bool) -> Self {
        let start = |action| format!("{{\"{action}\": {{\"_index\": {}, \"_id\": \"", json!(target));
        let used = start(if updates { "update" } else { "index" });
        Self::WithId(Box::new(WithId { ids, new: start("index"), used, updates }))
    }
}

impl WithId {
    /// Adds the line of the next document; true if the document has to be wrapped for an update.
    pub(super) fn add_to(&mut self, body: &mut BytesMut) -> bool {
        let (id, conflicts) = self.ids.next();
        body.extend_from_slice(if conflicts { &self.used } else { &self.new }.as_bytes());
        // Writing into memory cannot fail.
        let _ = writeln!(body, "{id:010}\"}}}}");
        conflicts && self.updates
    }
}
