//! Bulks of documents from the corpora of the track.
//!
//! Each client reads its own part of every file. The parts are those that Rally gives to its clients, so the documents
//! are the same whatever number of workers and drivers the clients are spread over.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use rally_core::track::{Corpus, Documents, JsonObject, Task, Track};
use serde_json::{Value, json};

use crate::corpus::{ActionLines, BulkReader, Conflicts, IdOrder, Ids, Slice};
use crate::parameters::Parameters;
use crate::{CorpusError, ParamSource, ParamSourceSetup, Params, Partition, RunnerError};

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
    actions: ActionLines,
    /// The parameters of every bulk of this part.
    values: Rc<JsonObject>,
}

impl BulkSource {
    pub(super) fn new(setup: &ParamSourceSetup) -> Result<Self, RunnerError> {
        let options = BulkOptions::of(&setup.task)?;
        let selected = select(&setup.plan.track, &setup.task)?;
        let shares = shares(&selected, setup.partition, options.documents, &setup.task)?;
        let parts = shares.into_iter().enumerate().map(|(number, share)| options.part(setup, number as u64, share));
        let parts = parts.collect::<Result<Vec<_>, _>>()?;
        let all: u64 = parts.iter().map(|part| part.slice.documents.div_ceil(options.bulk_size)).sum();
        let bulks = (all as f64 * options.percentage / 100.0).ceil() as u64;
        let BulkOptions { bulk_size, looped, .. } = options;
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
            let reader = BulkReader::open(part.slice.clone(), part.actions.clone())?;
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

    /// A looped one begins again, but it is not for a task without a length to end after one bulk.
    fn is_infinite(&self) -> bool {
        false
    }

    fn progress(&self) -> Option<f64> {
        (!self.looped).then(|| if self.bulks == 0 { 1.0 } else { self.issued as f64 / self.bulks as f64 })
    }
}

/// What an operation says of its bulks.
#[derive(Debug)]
struct BulkOptions {
    bulk_size: u64,
    percentage: f64,
    /// How many documents all clients send together, if not all.
    documents: Option<u64>,
    conflicts: Option<Conflicts>,
    /// Whether documents whose id was used before update the document that has it.
    updates: bool,
    looped: bool,
}

impl BulkOptions {
    fn of(task: &Task) -> Result<Self, RunnerError> {
        let given = Parameters::of(task);
        let bulk_size = given.positive("bulk-size")?.ok_or_else(|| given.missing("bulk-size"))?;
        let multiple = |key: &str| match given.positive(key)? {
            Some(number) if !number.is_multiple_of(bulk_size) => {
                let problem =
                    format!("`{key}` must be a multiple of `bulk-size`, which {number} of {bulk_size} is not");
                Err(given.invalid(problem))
            }
            number => Ok(number),
        };
        // It only says how much the original reads at once.
        multiple("batch-size")?;
        let documents = multiple("ingest-doc-count")?;
        if documents.is_some() && given.get("ingest-percentage").is_some() {
            return Err(given.invalid("`ingest-doc-count` and `ingest-percentage` exclude each other; remove one"));
        }
        let order = match given.get("conflicts").filter(|order| is_true(order)) {
            None => None,
            Some(order) if order == "sequential" => Some(IdOrder::Sequential),
            Some(order) if order == "random" => Some(IdOrder::Random),
            Some(other) => return Err(given.wrong("conflicts", "`sequential` or `random`", other)),
        };
        if order.is_some() && given.get("data-streams").is_some() {
            return Err(given.invalid("`conflicts` make no sense in data streams; remove one of the two"));
        }
        let updates = match given.get("on-conflict") {
            None => false,
            Some(action) if action == "index" => false,
            Some(action) if action == "update" => true,
            Some(other) => return Err(given.wrong("on-conflict", "`index` or `update`", other)),
        };
        let probability =
            number(&given, "conflict-probability", 25.0, "at least 0 and at most 100", 0.0, 100.0)? / 100.0;
        let recency = number(&given, "recency", 0.0, "at least 0 and at most 1", 0.0, 1.0)?;
        Ok(Self {
            bulk_size,
            percentage: number(
                &given,
                "ingest-percentage",
                100.0,
                "above 0 and at most 100",
                f64::MIN_POSITIVE,
                100.0,
            )?,
            documents,
            conflicts: order.map(|order| Conflicts { order, probability, recency }),
            updates,
            looped: given.flag("looped", false)?,
        })
    }

    /// What a client reads of a document set, and what it makes of it.
    fn part(&self, setup: &ParamSourceSetup, number: u64, share: Share<'_>) -> Result<Part, RunnerError> {
        let Share { corpus, documents, first, count } = share;
        let task = &setup.task;
        let file = setup.corpora.document_file(corpus, documents)?;
        let lines_per_document = if documents.includes_action_and_meta_data { 2 } else { 1 };
        let target = documents.target_data_stream.as_ref().or(documents.target_index.as_ref());
        let is_stream = documents.target_data_stream.is_some();
        let actions = match (documents.includes_action_and_meta_data, target, self.conflicts) {
            (true, _, None) => ActionLines::InFile,
            (true, _, Some(_)) => {
                let problem =
                    format!("`conflicts` need documents without action lines; {} has them", file.path.display());
                return Err(Parameters::of(task).invalid(problem));
            }
            (false, Some(target), None) => ActionLines::same(if is_stream { "create" } else { "index" }, target),
            (false, Some(target), Some(_)) if is_stream => {
                return Err(
                    Parameters::of(task).invalid(format!("`conflicts` make no sense in the data stream `{target}`"))
                );
            }
            (false, Some(target), Some(conflicts)) => {
                let ids = Ids::new(conflicts, first, count, setup.seed.wrapping_add(number));
                ActionLines::with_id(target, ids, self.updates)
            }
            (false, None, _) => {
                let problem = format!("documents `{}` have no target index or data stream", documents.document_file);
                return Err(Parameters::of(task).invalid(problem));
            }
        };
        let mut values = task.operation.params.clone();
        values.retain(|key, value| key != "pipeline" || is_true(value));
        values.insert("operation-type".to_owned(), json!(task.operation.operation_type.as_str()));
        values.insert("index".to_owned(), json!(target));
        values.insert("action-metadata-present".to_owned(), json!(true));
        values.insert("unit".to_owned(), json!("docs"));
        let slice = Slice { file: Arc::clone(file), first, documents: count, lines_per_document };
        Ok(Part { slice, actions, values: Rc::new(values) })
    }
}

/// Whether the original would take a value for true.
fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::String(text) => !text.is_empty(),
        _ => true,
    }
}

/// The part of a document set that one client sends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share<'a> {
    pub(crate) corpus: &'a Corpus,
    pub(crate) documents: &'a Documents,
    /// The first document, counted from 0.
    pub(crate) first: u64,
    pub(crate) count: u64,
}

/// What one client of a bulk task reads, in this order.
///
/// # Errors
///
/// [`RunnerError`] if the operation makes no sense, or nothing matches it.
pub(crate) fn shares_of<'a>(
    track: &'a Track,
    task: &Task,
    partition: Partition,
) -> Result<Vec<Share<'a>>, RunnerError> {
    shares(&select(track, task)?, partition, BulkOptions::of(task)?.documents, task)
}

/// Every document set's share of a client, cut off where the client has its part of a number of `documents`.
fn shares<'a>(
    selected: &[(&'a Corpus, Vec<&'a Documents>)],
    partition: Partition,
    documents: Option<u64>,
    task: &Task,
) -> Result<Vec<Share<'a>>, RunnerError> {
    let sets = || selected.iter().flat_map(|(_, documents)| documents);
    let total: u64 = sets().map(|documents| documents.number_of_documents).sum();
    let mut budget = u64::MAX;
    if let Some(wanted) = documents {
        if wanted > total {
            let problem = format!("`ingest-doc-count` is {wanted}, but there are only {total} documents");
            return Err(Parameters::of(task).invalid(problem));
        }
        // In proportion to what each client has, so that nobody runs out of documents and the sum is what is wanted.
        let before = |clients: u32| {
            let read: u64 = sets().map(|documents| bound(documents.number_of_documents, clients, partition)).sum();
            (u128::from(wanted) * u128::from(read) / u128::from(total)) as u64
        };
        budget = before(partition.index + 1) - before(partition.index);
    }
    let mut shares = Vec::new();
    for (corpus, documents) in staggered(selected, partition.index as usize) {
        let (first, count) = share(documents.number_of_documents, partition);
        let count = count.min(budget);
        budget -= count;
        if count > 0 {
            shares.push(Share { corpus, documents, first, count });
        }
    }
    Ok(shares)
}

/// The document sets that the operation wants, by corpus.
fn select<'a>(track: &'a Track, task: &Task) -> Result<Vec<(&'a Corpus, Vec<&'a Documents>)>, RunnerError> {
    let (given, corpora) = (Parameters::of(task), &track.corpora);
    if corpora.is_empty() {
        return Err(given.invalid("the track has no corpus to take documents from"));
    }
    let (wanted, indices, streams) = (given.names("corpora")?, given.names("indices")?, given.names("data-streams")?);
    let fits = |wanted: &Option<Vec<String>>, name: Option<&String>| {
        wanted.as_ref().is_none_or(|wanted| name.is_some_and(|name| wanted.contains(name)))
    };
    let selected: Vec<(&'a Corpus, Vec<&'a Documents>)> = corpora
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
        return Err(given.invalid(format!("no documents match; the track has the corpora {}", known.join(", "))));
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
    let start = bound(documents, partition.index, partition);
    (start, bound(documents, partition.index + 1, partition) - start)
}

/// How many documents the first clients have.
fn bound(documents: u64, clients: u32, partition: Partition) -> u64 {
    (documents as f64 / f64::from(partition.total) * f64::from(clients)).round_ties_even() as u64
}

/// A number within bounds.
fn number(
    given: &Parameters<'_>,
    key: &str,
    default: f64,
    bounds: &str,
    min: f64,
    max: f64,
) -> Result<f64, RunnerError> {
    let Some(value) = given.get(key) else { return Ok(default) };
    let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok());
    let number = number.filter(|number| (min..=max).contains(number));
    number.ok_or_else(|| given.wrong(key, &format!("a number, {bounds}"), value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rally_core::track::{Challenge, Operation};

    use super::*;

    /// A track with a corpus for each of these numbers of documents.
    fn track(sets: &[u64]) -> Track {
        let corpora = sets.iter().enumerate().map(|(number, documents)| {
            Corpus::builder(&number.to_string()).documents(Documents::builder("d.json", *documents).target_index("i"))
        });
        corpora
            .fold(
                Track::builder("t").challenge(Challenge::builder("c").task(Task::builder(Operation::builder("sleep")))),
                |track, corpus| track.corpus(corpus),
            )
            .build()
            .unwrap()
    }

    fn task(params: Value) -> Task {
        let Value::Object(params) = params else { panic!("{params}") };
        let operation = params
            .into_iter()
            .fold(Operation::builder("bulk").name("index"), |operation, (key, value)| operation.property(&key, value));
        let challenge = Challenge::builder("c").task(Task::builder(operation));
        let track = Track::builder("t").challenge(challenge).build().unwrap();
        track.challenge("c").unwrap().tasks().next().unwrap().clone()
    }

    #[test]
    fn options_that_make_no_sense_are_refused_in_a_sentence() {
        for (params, expected) in [
            (json!({}), "operation `index` needs the parameter `bulk-size`"),
            (json!({"bulk-size": 0}), "`bulk-size` must be a whole number above 0, not 0"),
            (json!({"bulk-size": 10, "batch-size": 25}), "`batch-size` must be a multiple of `bulk-size`"),
            (json!({"bulk-size": 10, "ingest-doc-count": 25}), "`ingest-doc-count` must be a multiple"),
            (json!({"bulk-size": 10, "ingest-doc-count": 20, "ingest-percentage": 5}), "exclude each other"),
            (json!({"bulk-size": 10, "ingest-percentage": 0}), "must be a number, above 0 and at most 100, not 0"),
            (json!({"bulk-size": 10, "conflicts": "some"}), "`conflicts` must be `sequential` or `random`"),
            (json!({"bulk-size": 10, "conflicts": "random", "data-streams": "s"}), "no sense in data streams"),
            (json!({"bulk-size": 10, "on-conflict": "delete"}), "`on-conflict` must be `index` or `update`"),
            (json!({"bulk-size": 10, "recency": 1.5}), "`recency` must be a number, at least 0 and at most 1, not 1.5"),
            (json!({"bulk-size": 10, "conflict-probability": 101}), "at least 0 and at most 100, not 101"),
        ] {
            let error = BulkOptions::of(&task(params)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn more_documents_than_there_are_cannot_be_sent() {
        let task = task(json!({"bulk-size": 5, "ingest-doc-count": 10}));
        let error = shares_of(&track(&[4, 5]), &task, Partition { index: 0, total: 1 }).unwrap_err().to_string();
        assert!(error.contains("`ingest-doc-count` is 10, but there are only 9 documents"), "{error}");
    }

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

        #[test]
        fn all_clients_together_send_exactly_the_documents_that_are_wanted(
            sets in prop::collection::vec(1_u64..5_000, 1..5), total in 1_u32..40, wanted in 0.0..=1.0,
        ) {
            let track = track(&sets);
            let wanted = ((sets.iter().sum::<u64>() as f64 * wanted) as u64).max(1);
            let task = task(json!({"bulk-size": 1, "ingest-doc-count": wanted}));
            let mut read = std::collections::BTreeSet::new();
            for index in 0..total {
                for share in shares_of(&track, &task, Partition { index, total }).unwrap() {
                    for document in share.first..share.first + share.count {
                        prop_assert!(read.insert((share.corpus.name.clone(), document)));
                    }
                }
            }
            prop_assert_eq!(read.len() as u64, wanted);
        }
    }
}
