//! Bulks of documents from the corpora of the track.
//!
//! Each client reads its own part of every file. The parts are those that Rally gives to its clients, so the documents
//! are the same whatever number of workers and drivers the clients are spread over.

use std::collections::VecDeque;
use std::rc::Rc;

use rally_core::track::{Corpus, Documents, JsonObject, Task};
use serde_json::{Value, json};

use super::{invalid, missing, names};
use crate::corpus::{ActionLine, BulkReader, Slice, document_file};
use crate::{CorpusError, ParamSource, ParamSourceSetup, Params, Partition, RunnerError};

/// Properties that are not there yet.
const UNSUPPORTED: [&str; 2] = ["conflicts", "ingest-doc-count"];

/// Gives the bulks of one client.
#[derive(Debug)]
pub(super) struct BulkSource {
    parts: Vec<Part>,
    /// The part that is read, and those after it.
    current: Option<(BulkReader, Rc<JsonObject>)>,
    next: usize,
    bulk_size: u64,
    bulks: u64,
    issued: u64,
    looped: bool,
}

/// What one client reads of one file.
#[derive(Debug)]
struct Part {
    slice: Slice,
    action: ActionLine,
    /// The parameters of every bulk of this part.
    values: Rc<JsonObject>,
}

impl BulkSource {
    pub(super) fn new(setup: &ParamSourceSetup) -> Result<Self, RunnerError> {
        let (task, params) = (setup.task.as_ref(), &setup.task.operation.params);
        if let Some(unsupported) = UNSUPPORTED.iter().find(|key| params.contains_key(**key)) {
            return Err(invalid(task, format!("`{unsupported}` is not supported yet")));
        }
        let bulk_size = whole_number(task, params, "bulk-size")?.ok_or_else(|| missing(task, "bulk-size"))?;
        if let Some(batch) = whole_number(task, params, "batch-size")?
            && !batch.is_multiple_of(bulk_size)
        {
            return Err(invalid(task, "`batch-size` must be a multiple of `bulk-size`"));
        }
        let percentage = match params.get("ingest-percentage") {
            None => 100.0,
            Some(value) => number(value)
                .filter(|percentage| 0.0 < *percentage && *percentage <= 100.0)
                .ok_or_else(|| invalid(task, "`ingest-percentage` must be above 0 and at most 100"))?,
        };
        let selected = select(setup)?;
        let mut parts = Vec::new();
        for (corpus, documents) in staggered(&selected, setup.partition.index as usize) {
            let (first, count) = share(documents.number_of_documents, setup.partition);
            if count > 0 {
                parts.push(part(setup, corpus, documents, first, count)?);
            }
        }
        let all: u64 = parts.iter().map(|part| part.slice.documents.div_ceil(bulk_size)).sum();
        let bulks = (all as f64 * percentage / 100.0).ceil() as u64;
        let looped = params.get("looped").and_then(Value::as_bool).unwrap_or(false);
        Ok(Self { parts, current: None, next: 0, bulk_size, bulks, issued: 0, looped })
    }

    fn bulk(&mut self) -> Result<Option<Params>, CorpusError> {
        loop {
            if let Some((reader, values)) = &mut self.current
                && let Some((body, documents)) = reader.next_bulk(self.bulk_size)?
            {
                return Ok(Some(Params { values: Rc::clone(values), body: Some(body), documents }));
            }
            let Some(part) = self.parts.get(self.next) else { return Ok(None) };
            self.next += 1;
            let reader = BulkReader::open(part.slice.clone(), part.action.clone())?;
            self.current = Some((reader, Rc::clone(&part.values)));
        }
    }
}

impl ParamSource for BulkSource {
    fn next(&mut self) -> Result<Option<Params>, RunnerError> {
        if self.issued == self.bulks {
            if !self.looped || self.bulks == 0 {
                return Ok(None);
            }
            (self.current, self.next, self.issued) = (None, 0, 0);
        }
        self.issued += 1;
        Ok(self.bulk()?)
    }

    fn is_infinite(&self) -> bool {
        self.looped
    }

    fn progress(&self) -> Option<f64> {
        (!self.looped).then(|| if self.bulks == 0 { 1.0 } else { self.issued as f64 / self.bulks as f64 })
    }
}

/// The document sets that the operation wants, by corpus.
fn select(setup: &ParamSourceSetup) -> Result<Vec<(&Corpus, Vec<&Documents>)>, RunnerError> {
    let (task, params) = (&setup.task, &setup.task.operation.params);
    let corpora = &setup.plan.track.corpora;
    if corpora.is_empty() {
        return Err(invalid(task, "the track has no corpus to take documents from"));
    }
    let (wanted, indices, streams) =
        (names(params, "corpora"), names(params, "indices"), names(params, "data-streams"));
    let fits = |wanted: &Option<Vec<String>>, name: Option<&String>| {
        wanted.as_ref().is_none_or(|wanted| name.is_some_and(|name| wanted.contains(name)))
    };
    let selected: Vec<(&Corpus, Vec<&Documents>)> = corpora
        .iter()
        .filter(|corpus| fits(&wanted, Some(&corpus.name)))
        .map(|corpus| {
            let documents = corpus.documents.iter().filter(|documents| {
                documents.number_of_documents > 0
                    && fits(&indices, documents.target_index.as_ref())
                    && fits(&streams, documents.target_data_stream.as_ref())
            });
            (corpus, documents.collect::<Vec<_>>())
        })
        .filter(|(_, documents)| !documents.is_empty())
        .collect();
    if selected.is_empty() {
        let known: Vec<&str> = corpora.iter().map(|corpus| corpus.name.as_str()).collect();
        return Err(invalid(task, format!("no documents match; the track has the corpora {}", known.join(", "))));
    }
    Ok(selected)
}

/// The order in which a client reads: each client begins with another corpus, and corpora take turns by document set.
fn staggered<'a>(selected: &[(&'a Corpus, Vec<&'a Documents>)], client: usize) -> Vec<(&'a Corpus, &'a Documents)> {
    let mut corpora: Vec<(&Corpus, VecDeque<&Documents>)> =
        selected.iter().map(|(corpus, documents)| (*corpus, documents.iter().copied().collect())).collect();
    corpora.rotate_left(client % selected.len());
    let mut order = Vec::new();
    while corpora.iter().any(|(_, documents)| !documents.is_empty()) {
        for (corpus, documents) in &mut corpora {
            order.extend(documents.pop_front().map(|documents| (*corpus, documents)));
        }
    }
    order
}

/// The first document of a client's share and how many they are: differences of shares that are rounded half to even.
fn share(documents: u64, partition: Partition) -> (u64, u64) {
    let per_client = documents as f64 / f64::from(partition.total);
    let bound = |clients: u32| (per_client * f64::from(clients)).round_ties_even() as u64;
    let (start, end) = (bound(partition.index), bound(partition.index + 1));
    (start, end - start)
}

fn part(
    setup: &ParamSourceSetup,
    corpus: &Corpus,
    documents: &Documents,
    first: u64,
    count: u64,
) -> Result<Part, RunnerError> {
    let path = document_file(&setup.data_dir, corpus, documents)?;
    let lines_per_document = if documents.includes_action_and_meta_data { 2 } else { 1 };
    let target = documents.target_data_stream.as_ref().or(documents.target_index.as_ref());
    let action = match (documents.includes_action_and_meta_data, target) {
        (true, _) => ActionLine::InFile,
        (false, Some(target)) => {
            let action = if documents.target_data_stream.is_some() { "create" } else { "index" };
            ActionLine::Same(format!("{}\n", json!({ action: { "_index": target } })))
        }
        (false, None) => {
            let problem = format!("documents `{}` have no target index or data stream", documents.document_file);
            return Err(invalid(&setup.task, problem));
        }
    };
    let mut values = setup.task.operation.params.clone();
    values.insert("operation-type".to_owned(), json!(setup.task.operation.operation_type.as_str()));
    values.insert("index".to_owned(), json!(target));
    values.insert("action-metadata-present".to_owned(), json!(true));
    values.insert("unit".to_owned(), json!("docs"));
    let slice = Slice { path, first, documents: count, lines_per_document };
    Ok(Part { slice, action, values: Rc::new(values) })
}

fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.parse().ok())
}

/// A whole number above 0, if it is there.
fn whole_number(task: &Task, params: &JsonObject, key: &str) -> Result<Option<u64>, RunnerError> {
    let Some(value) = params.get(key) else { return Ok(None) };
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok()).filter(|number| *number > 0);
    number.map(Some).ok_or_else(|| invalid(task, format!("`{key}` must be a whole number above 0, not {value}")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shares_are_rounded_half_to_even() {
        let shares = |documents, total| -> Vec<(u64, u64)> {
            (0..total).map(|index| share(documents, Partition { index, total })).collect()
        };
        assert_eq!(shares(10, 4), [(0, 2), (2, 3), (5, 3), (8, 2)]);
        assert_eq!(shares(3, 8), [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 0), (2, 1), (3, 0)]);
    }

    proptest! {
        #[test]
        fn all_clients_together_read_every_document_once(documents in 0_u64..1_000_000_000, total in 1_u32..500) {
            let mut next = 0;
            for index in 0..total {
                let (first, count) = share(documents, Partition { index, total });
                prop_assert_eq!(first, next);
                next = first + count;
            }
            prop_assert_eq!(next, documents);
        }
    }
}
