//! The aggregations that the stand-in understands: `terms`, `histogram` and simple metrics, nested at will.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::index::Index;
use super::query::{QueryError, text_of};

/// Buckets of a `terms` aggregation that does not say how many.
const TERMS: u64 = 10;

/// How deep aggregations may nest.
const DEEPEST: usize = 10;

/// Runs the aggregations of a search over the documents that it found.
pub(super) fn aggregate(index: &Index, documents: &[u32], wanted: &Value) -> Result<Value, QueryError> {
    nested(index, documents, wanted, DEEPEST)
}

fn nested(index: &Index, documents: &[u32], wanted: &Value, depth: usize) -> Result<Value, QueryError> {
    if depth == 0 {
        return Err(format!("aggregations may nest {DEEPEST} deep"));
    }
    let wanted = wanted.as_object().ok_or("aggregations are an object")?;
    let results: Result<Map<String, Value>, QueryError> = wanted
        .iter()
        .map(|(name, aggregation)| Ok((name.clone(), one(index, documents, aggregation, depth)?)))
        .collect();
    Ok(Value::Object(results?))
}

fn one(index: &Index, documents: &[u32], aggregation: &Value, depth: usize) -> Result<Value, QueryError> {
    let aggregation = aggregation.as_object().ok_or("an aggregation is an object")?;
    let is_inner = |name: &str| matches!(name, "aggs" | "aggregations" | "meta");
    let inner = aggregation.get("aggs").or_else(|| aggregation.get("aggregations"));
    let (kind, body) = aggregation.iter().find(|(name, _)| !is_inner(name)).ok_or("an aggregation has a type")?;
    let field = body.get("field").and_then(Value::as_str).ok_or_else(|| format!("`{kind}` wants a `field`"))?;
    let numbers = || -> Vec<f64> {
        documents.iter().flat_map(|&id| index.document(id).values(field)).filter_map(Value::as_f64).collect()
    };
    let bucket = |key: Value, documents: &[u32]| -> Result<Value, QueryError> {
        let mut bucket = Map::from_iter([("key".to_owned(), key), ("doc_count".to_owned(), documents.len().into())]);
        if let Some(Value::Object(results)) =
            inner.map(|inner| nested(index, documents, inner, depth - 1)).transpose()?
        {
            bucket.extend(results);
        }
        Ok(Value::Object(bucket))
    };
    match kind.as_str() {
        "terms" => {
            let size = body.get("size").and_then(Value::as_u64).unwrap_or(TERMS) as usize;
            let mut groups: BTreeMap<String, (Value, Vec<u32>)> = BTreeMap::new();
            for &id in documents {
                for value in index.document(id).values(field) {
                    groups.entry(text_of(value)).or_insert_with(|| (value.clone(), Vec::new())).1.push(id);
                }
            }
            let mut groups: Vec<(Value, Vec<u32>)> = groups.into_values().collect();
            groups.sort_by_key(|(_, documents)| std::cmp::Reverse(documents.len()));
            let others: usize = groups.iter().skip(size).map(|(_, documents)| documents.len()).sum();
            groups.truncate(size);
            let buckets: Result<Vec<Value>, QueryError> =
                groups.into_iter().map(|(key, documents)| bucket(key, &documents)).collect();
            Ok(json!({ "doc_count_error_upper_bound": 0, "sum_other_doc_count": others, "buckets": buckets? }))
        }
        "histogram" => {
            let width = body.get("interval").and_then(Value::as_f64).filter(|width| *width > 0.0);
            let width = width.ok_or("`histogram` wants an `interval` above 0")?;
            let mut groups: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
            for &id in documents {
                for number in index.document(id).values(field).filter_map(Value::as_f64) {
                    groups.entry((number / width).floor() as i64).or_default().push(id);
                }
            }
            let buckets: Result<Vec<Value>, QueryError> =
                groups.into_iter().map(|(group, documents)| bucket(json!(group as f64 * width), &documents)).collect();
            Ok(json!({ "buckets": buckets? }))
        }
        "min" => Ok(json!({ "value": numbers().into_iter().reduce(f64::min) })),
        "max" => Ok(json!({ "value": numbers().into_iter().reduce(f64::max) })),
        "sum" => Ok(json!({ "value": numbers().into_iter().sum::<f64>() })),
        "value_count" => Ok(json!({ "value": numbers().len() })),
        "avg" => {
            let numbers = numbers();
            let mean = (!numbers.is_empty()).then(|| numbers.iter().sum::<f64>() / numbers.len() as f64);
            Ok(json!({ "value": mean }))
        }
        other => Err(format!("the stand-in does not know the aggregation `{other}`")),
    }
}
