//! Which documents the clients of a driver read.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use rally_core::track::{Task, Track};
use rally_core::{Allocation, ClientTask};

use super::bulk::shares_of;
use crate::corpus::Wanted;
use crate::{Partition, RunnerError};

/// The parameter sources that read corpora.
pub(super) const READERS: [&str; 2] = ["bulk", "file-reader"];

/// For each document set that some of these clients read, the documents from the first to the last of them.
///
/// # Errors
///
/// [`RunnerError`] if an operation makes no sense, or nothing matches it.
pub(crate) fn wanted_documents<'a>(
    track: &'a Track,
    tasks: &[Arc<Task>],
    allocation: &Allocation,
    clients: Range<u32>,
) -> Result<Vec<Wanted<'a>>, RunnerError> {
    let mut wanted: BTreeMap<(&str, &str), Wanted<'a>> = BTreeMap::new();
    let rows = allocation.steps.iter().flat_map(|step| step.rows.get(clients.start as usize..clients.end as usize));
    for ClientTask { task, client_in_task, .. } in rows.flatten().flatten() {
        let task = &tasks[task.0 as usize];
        let source = task.operation.param_source.as_deref().unwrap_or(task.operation.operation_type.as_str());
        if !READERS.contains(&source) {
            continue;
        }
        for share in shares_of(track, task, Partition { index: *client_in_task, total: task.clients })? {
            let range = share.first..share.first + share.count;
            let name = (share.corpus.name.as_str(), share.documents.document_file.as_str());
            wanted
                .entry(name)
                .and_modify(|wanted| {
                    wanted.range = wanted.range.start.min(range.start)..wanted.range.end.max(range.end);
                })
                .or_insert(Wanted { corpus: share.corpus, documents: share.documents, range });
        }
    }
    Ok(wanted.into_values().collect())
}
