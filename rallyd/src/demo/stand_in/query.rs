//! The queries that the stand-in understands.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::index::{Index, words};

/// How deep queries may nest.
const DEEPEST: usize = 20;

/// A query.
#[derive(Debug)]
pub(super) enum Query {
    All,
    Match { field: String, words: Vec<String>, every: bool },
    Terms { field: String, values: Vec<String> },
    Range { field: String, bounds: Vec<(Bound, Value)> },
    Exists { field: String },
    Bool { must: Vec<Self>, should: Vec<Self>, must_not: Vec<Self> },
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Bound {
    Above,
    AtLeast,
    Below,
    AtMost,
}

/// The query cannot be run; the text goes into the answer.
pub(super) type QueryError = String;

impl Query {
    /// Reads the `query` of a search.
    pub(super) fn parse(query: &Value) -> Result<Self, QueryError> {
        parse(query, DEEPEST)
    }

    /// The live documents that match with their scores, in the order of the index.
    pub(super) fn run(&self, index: &Index) -> Vec<(u32, f64)> {
        let mut hits: Vec<(u32, f64)> = self.scores(index).into_iter().filter(|(id, _)| index.is_live(*id)).collect();
        hits.sort_unstable_by_key(|(id, _)| *id);
        hits
    }

    fn scores(&self, index: &Index) -> HashMap<u32, f64> {
        let constant = |documents: Vec<u32>| documents.into_iter().map(|id| (id, 1.0)).collect();
        match self {
            Self::All => constant(index.all()),
            Self::Match { field, words, every } => {
                let mut found: HashMap<u32, (usize, f64)> = HashMap::new();
                for word in words {
                    let documents = index.field(field).map_or(&[][..], |column| column.with_word(word));
                    // Rare words weigh more.
                    let weight = (1.0 + index.len() as f64 / (1.0 + documents.len() as f64)).ln();
                    for &id in documents {
                        let entry = found.entry(id).or_default();
                        entry.0 += 1;
                        entry.1 += weight;
                    }
                }
                let wanted = if *every { words.len() } else { 1 };
                found.into_iter().filter(|(_, (count, _))| *count >= wanted).map(|(id, (_, s))| (id, s)).collect()
            }
            Self::Terms { field, values } => match index.field(field) {
                Some(column) => constant(values.iter().flat_map(|value| column.with_value(value)).copied().collect()),
                None => HashMap::new(),
            },
            Self::Range { field, bounds } => match index.field(field) {
                Some(column) if bounds.iter().all(|(_, limit)| limit.is_number()) => {
                    let fits = |number: f64| {
                        bounds.iter().all(|(bound, limit)| {
                            limit.as_f64().and_then(|limit| number.partial_cmp(&limit)).is_some_and(|o| bound.allows(o))
                        })
                    };
                    constant(column.with_number(fits))
                }
                Some(column) => {
                    let fits = |text: &str| {
                        bounds.iter().all(|(bound, limit)| bound.allows(text.cmp(limit.as_str().unwrap_or_default())))
                    };
                    constant(column.with_text(fits))
                }
                None => HashMap::new(),
            },
            Self::Exists { field } => {
                let has = |id: &u32| index.document(*id).values(field).next().is_some();
                constant(index.all().into_iter().filter(has).collect())
            }
            Self::Bool { must, should, must_not } => {
                let mut hits: Option<HashMap<u32, f64>> = None;
                for query in must {
                    let scores = query.scores(index);
                    hits = Some(match hits {
                        None => scores,
                        Some(before) => {
                            before.into_iter().filter_map(|(id, s)| Some((id, s + scores.get(&id)?))).collect()
                        }
                    });
                }
                let optional = should.iter().map(|query| query.scores(index));
                let mut hits = match hits {
                    None if should.is_empty() => constant(index.all()),
                    None => optional.fold(HashMap::new(), |mut all: HashMap<u32, f64>, scores| {
                        scores.into_iter().for_each(|(id, score)| *all.entry(id).or_default() += score);
                        all
                    }),
                    Some(hits) => optional.fold(hits, |mut all, scores| {
                        for (id, score) in &mut all {
                            *score += scores.get(id).copied().unwrap_or_default();
                        }
                        all
                    }),
                };
                let excluded: HashSet<u32> =
                    must_not.iter().flat_map(|query| query.scores(index).into_keys()).collect();
                hits.retain(|id, _| !excluded.contains(id));
                hits
            }
        }
    }
}

impl Bound {
    fn allows(self, ordering: Ordering) -> bool {
        match self {
            Self::Above => ordering.is_gt(),
            Self::AtLeast => ordering.is_ge(),
            Self::Below => ordering.is_lt(),
            Self::AtMost => ordering.is_le(),
        }
    }
}

fn parse(query: &Value, depth: usize) -> Result<Query, QueryError> {
    if depth == 0 {
        return Err(format!("queries may nest {DEEPEST} deep"));
    }
    let (kind, body) = only_entry(query).ok_or("a query is an object with one entry")?;
    match kind {
        "match_all" => Ok(Query::All),
        "match" | "match_phrase" => {
            let (field, text) = only_entry(body).ok_or("`match` wants one field")?;
            let (text, operator) = match text {
                Value::Object(options) => (options.get("query").unwrap_or(&Value::Null), options.get("operator")),
                text => (text, None),
            };
            let every = kind == "match_phrase"
                || operator.and_then(Value::as_str).is_some_and(|word| word.eq_ignore_ascii_case("and"));
            Ok(Query::Match { field: field.to_owned(), words: words(&text_of(text)).collect(), every })
        }
        "term" => {
            let (field, value) = only_entry(body).ok_or("`term` wants one field")?;
            let value = value.get("value").unwrap_or(value);
            Ok(Query::Terms { field: field.to_owned(), values: vec![text_of(value)] })
        }
        "terms" => {
            let (field, values) = only_entry(body).ok_or("`terms` wants one field")?;
            let values = values.as_array().ok_or("`terms` wants a list")?;
            Ok(Query::Terms { field: field.to_owned(), values: values.iter().map(text_of).collect() })
        }
        "range" => {
            let (field, limits) = only_entry(body).ok_or("`range` wants one field")?;
            let limits = limits.as_object().ok_or("`range` wants limits")?;
            let bounds = limits.iter().filter_map(|(name, limit)| Some((bound(name)?, limit.clone()))).collect();
            Ok(Query::Range { field: field.to_owned(), bounds })
        }
        "exists" => {
            let field = body.get("field").and_then(Value::as_str).ok_or("`exists` wants a field")?;
            Ok(Query::Exists { field: field.to_owned() })
        }
        "bool" => {
            let body = body.as_object().ok_or("`bool` wants an object")?;
            let clauses = |name| clauses(body, name, depth - 1);
            let mut must = clauses("must")?;
            must.extend(clauses("filter")?);
            Ok(Query::Bool { must, should: clauses("should")?, must_not: clauses("must_not")? })
        }
        other => Err(format!("the stand-in does not know the query `{other}`")),
    }
}

fn clauses(body: &Map<String, Value>, name: &str, depth: usize) -> Result<Vec<Query>, QueryError> {
    match body.get(name) {
        None => Ok(Vec::new()),
        Some(Value::Array(queries)) => queries.iter().map(|query| parse(query, depth)).collect(),
        Some(query) => Ok(vec![parse(query, depth)?]),
    }
}

fn bound(name: &str) -> Option<Bound> {
    Some(match name {
        "gt" => Bound::Above,
        "gte" => Bound::AtLeast,
        "lt" => Bound::Below,
        "lte" => Bound::AtMost,
        _ => return None,
    })
}

/// The name and value of an object that has just one entry.
pub(super) fn only_entry(value: &Value) -> Option<(&str, &Value)> {
    let object = value.as_object().filter(|object| object.len() == 1)?;
    object.iter().next().map(|(name, value)| (name.as_str(), value))
}

/// A value as it is indexed.
pub(super) fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
