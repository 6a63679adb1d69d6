//! Where the `composite` aggregation of a search stands, in the request and in the answer.

use rally_core::track::JsonObject;
use serde_json::Value;

use super::json::{Malformed, find};

/// The way to the only `composite` aggregation of a search.
#[derive(Debug, PartialEq)]
pub(super) struct CompositeAggregation {
    /// `aggs` or `aggregations`, and a name, for each level.
    levels: Vec<(&'static str, String)>,
}

impl CompositeAggregation {
    /// Finds it in the body of a search.
    ///
    /// # Errors
    ///
    /// A sentence if there is none, or more than one.
    pub(super) fn find(body: &JsonObject) -> Result<Self, String> {
        let mut found = Vec::new();
        search(body, &mut Vec::new(), &mut found);
        let path = |found: &Self| found.levels.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>().join(".");
        if found.len() > 1 {
            let paths = found.iter().map(path).collect::<Vec<_>>().join("`, `");
            return Err(format!("`body` must have one `composite` aggregation, but has several: `{paths}`"));
        }
        found.pop().ok_or_else(|| "`body` must have a `composite` aggregation in its `aggs`, but has none".to_owned())
    }

    /// Sets a property of the aggregation in the body that it was found in.
    pub(super) fn set(&self, body: &mut JsonObject, property: &str, value: Value) {
        let mut levels = self.levels.iter();
        let first = levels.next().and_then(|(key, name)| body.get_mut(*key)?.get_mut(name));
        let last = levels.fold(first, |level, (key, name)| level?.get_mut(*key)?.get_mut(name));
        if let Some(Value::Object(composite)) = last.and_then(|level| level.get_mut("composite")) {
            composite.insert(property.to_owned(), value);
        }
    }

    /// The key behind the last bucket, from the `aggregations` of an answer; none after the last page.
    pub(super) fn after_key(&self, aggregations: &[u8]) -> Result<Option<Value>, Malformed> {
        let names = self.levels.iter().map(|(_, name)| name.as_str());
        let path: Vec<&str> = names.chain(["after_key"]).collect();
        Ok(find(aggregations, &path.join("."))?.filter(|key: &Value| !key.is_null()))
    }
}

/// Collects all of them, with the way that leads there.
fn search(level: &JsonObject, way: &mut Vec<(&'static str, String)>, found: &mut Vec<CompositeAggregation>) {
    for key in ["aggs", "aggregations"] {
        for (name, aggregation) in level.get(key).and_then(Value::as_object).into_iter().flatten() {
            let Value::Object(aggregation) = aggregation else { continue };
            way.push((key, name.clone()));
            if aggregation.contains_key("composite") {
                found.push(CompositeAggregation { levels: way.clone() });
            }
            search(aggregation, way, found);
            way.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_is_found_at_any_depth_and_must_be_the_only_one() {
        let mut body = json!({
            "aggs": { "by.day": { "filter": {}, "aggregations": { "pairs": { "composite": { "sources": [] } } } },
                      "other": { "terms": {} } },
        });
        let body = body.as_object_mut().unwrap();
        let aggregation = CompositeAggregation::find(body).unwrap();
        aggregation.set(body, "size", json!(3));
        assert_eq!(body["aggs"]["by.day"]["aggregations"]["pairs"]["composite"], json!({ "sources": [], "size": 3 }));
        let answer =
            br#"{"other":{"after_key":1},"by.day":{"doc_count":2,"pairs":{"after_key":{"a":"x"},"buckets":[]}}}"#;
        assert_eq!(aggregation.after_key(answer).unwrap(), Some(json!({ "a": "x" })));
        assert_eq!(aggregation.after_key(br#"{"by.day":{"pairs":{"buckets":[]}}}"#).unwrap(), None);

        body["aggs"]["again"] = json!({ "composite": {} });
        let several = CompositeAggregation::find(body).unwrap_err();
        assert!(several.ends_with("but has several: `by.day.pairs`, `again`"), "{several}");
        assert!(CompositeAggregation::find(&JsonObject::new()).unwrap_err().ends_with("but has none"));
    }
}
