//! What answers to searches say beside their hits.

use rally_core::track::JsonObject;
use serde_json::{Map, Value, json};

use super::json::{Flow, Malformed, NEXT, STOP, Scanner, find};

/// What is needed of an answer. Reading stops at the hits, or behind what else is needed, once all of it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needed {
    /// Total, times and shards.
    Details,
    /// Total, times, the scroll id, and whether there are hits.
    Scroll,
    /// Total, times, the sort values of the last hit, and the id of the point in time if it is searched in one.
    LastSort { pit: bool },
    /// Total, times, aggregations, and the id of the point in time if it is searched in one.
    Aggregations { pit: bool },
}

/// The parts of an answer to a search that were needed, as far as they were there.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct SearchAnswer<'a> {
    /// In milliseconds.
    pub(super) took: Option<u64>,
    pub(super) timed_out: Option<bool>,
    /// Hits in total, and `eq` or `gte` if they are only a lower bound.
    pub(super) total: Option<(u64, String)>,
    pub(super) shards: Option<Value>,
    pub(super) reduce_phases: Option<Value>,
    pub(super) clusters: Option<Value>,
    pub(super) scroll_id: Option<String>,
    pub(super) pit_id: Option<String>,
    /// Whether there is not a single hit; none if that was not read.
    pub(super) is_empty: Option<bool>,
    pub(super) last_sort: Option<Value>,
    /// Not parsed.
    pub(super) aggregations: Option<&'a [u8]>,
}

impl<'a> SearchAnswer<'a> {
    pub(super) fn read(text: &'a [u8], needed: Needed) -> Result<Self, Malformed> {
        let mut answer = Self::default();
        let _ = Scanner::new(text).members(|key, scanner| {
            match key {
                b"took" => answer.took = scanner.parsed().ok(),
                b"timed_out" => answer.timed_out = scanner.parsed().ok(),
                b"hits" => return answer.read_hits(scanner, needed),
                b"_scroll_id" if needed == Needed::Scroll => answer.scroll_id = scanner.parsed().ok(),
                b"pit_id" => answer.pit_id = scanner.parsed().ok(),
                b"aggregations" if matches!(needed, Needed::Aggregations { .. }) => {
                    answer.aggregations = Some(scanner.value()?);
                    return if answer.has(needed) { STOP } else { NEXT };
                }
                b"_shards" if needed == Needed::Details => answer.shards = Some(scanner.parsed()?),
                b"num_reduce_phases" if needed == Needed::Details => {
                    answer.reduce_phases = Some(scanner.parsed()?);
                }
                b"_clusters" if needed == Needed::Details => answer.clusters = Some(scanner.parsed()?),
                _ => {}
            }
            NEXT
        })?;
        Ok(answer)
    }

    fn read_hits(&mut self, scanner: &mut Scanner<'a>, needed: Needed) -> Flow {
        scanner.members(|key, scanner| match key {
            b"total" => {
                self.total = total(scanner.parsed()?);
                NEXT
            }
            b"hits" => {
                self.is_empty = Some(scanner.is_empty_array());
                if matches!(needed, Needed::LastSort { .. }) {
                    self.read_last_sort(scanner)?;
                }
                if self.has(needed) { STOP } else { NEXT }
            }
            _ => NEXT,
        })
    }

    fn read_last_sort(&mut self, scanner: &mut Scanner<'a>) -> Result<(), Malformed> {
        let mut last = None;
        // Nothing stops in here.
        let _ = scanner.elements(|scanner| {
            last = Some(scanner.value()?);
            NEXT
        })?;
        if let Some(last) = last {
            self.last_sort = find(last, "sort")?;
        }
        Ok(())
    }

    /// Whether all that is needed was read.
    fn has(&self, needed: Needed) -> bool {
        let has_pit = |pit: bool| !pit || self.pit_id.is_some();
        self.took.is_some()
            && self.timed_out.is_some()
            && self.total.is_some()
            && match needed {
                Needed::Details => self.shards.is_some(),
                Needed::Scroll => self.scroll_id.is_some(),
                Needed::LastSort { pit } => has_pit(pit),
                Needed::Aggregations { pit } => has_pit(pit) && self.aggregations.is_some(),
            }
    }

    /// Hits in total; 0 if they were not counted.
    pub(super) fn hits(&self) -> u64 {
        self.total.as_ref().map_or(0, |(hits, _)| *hits)
    }

    /// `eq`, or `gte` if [`SearchAnswer::hits`] is only a lower bound.
    pub(super) fn relation(&self) -> &str {
        self.total.as_ref().map_or("eq", |(_, relation)| relation)
    }

    /// What a search with `detailed-results` keeps with its sample.
    pub(super) fn details(self) -> JsonObject {
        let shards = self.shards.as_ref().map(|shards| pick(shards, &["total", "successful", "skipped", "failed"]));
        let relation = self.relation().to_owned();
        let members = [
            ("hits", Some(self.hits().into())),
            ("hits_relation", Some(relation.into())),
            ("timed_out", self.timed_out.map(Value::from)),
            ("took", self.took.map(Value::from)),
            ("shards", shards),
            ("num_reduce_phases", self.reduce_phases),
            ("clusters", self.clusters.as_ref().map(clusters)),
        ];
        members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

/// `hits.total`: an object, or just the number.
fn total(total: Value) -> Option<(u64, String)> {
    match total {
        Value::Object(total) => {
            let relation = total.get("relation").and_then(Value::as_str).unwrap_or("eq");
            Some((total.get("value")?.as_u64()?, relation.to_owned()))
        }
        number => Some((number.as_u64()?, "eq".to_owned())),
    }
}

fn pick(from: &Value, keys: &[&str]) -> Value {
    let picked = keys.iter().filter_map(|key| Some(((*key).to_owned(), from.get(key)?.clone())));
    Value::Object(picked.collect())
}

/// The counts, and of each cluster its name, its shards, and all that is a single value.
fn clusters(answer: &Value) -> Value {
    let mut clusters = pick(answer, &["total", "successful", "skipped", "running", "partial", "failed"]);
    let details = answer.get("details").and_then(Value::as_object).into_iter().flatten().map(|(name, cluster)| {
        let mut detail = Map::from_iter([("name".to_owned(), json!(name))]);
        let kept = |key: &str, value: &Value| key == "_shards" || !(value.is_object() || value.is_array());
        let members = cluster.as_object().into_iter().flatten().filter(|(key, value)| kept(key, value));
        detail.extend(members.map(|(key, value)| (key.clone(), value.clone())));
        Value::Object(detail)
    });
    clusters["details"] = details.collect();
    clusters
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn details(text: &str) -> Value {
        SearchAnswer::read(text.as_bytes(), Needed::Details).unwrap().details().into()
    }

    #[test]
    fn details_are_read_up_to_the_hits() {
        // What follows is not even JSON.
        let text = r#"{"took":5,"timed_out":false,"num_reduce_phases":2,
            "_shards":{"total":2,"successful":1,"skipped":0,"failed":1,"failures":[{"reason":{}}]},
            "_clusters":{"total":1,"successful":1,"skipped":0,"running":0,"partial":0,"failed":0,
                "details":{"(local)":{"status":"successful","indices":"logs","took":3,"_shards":{"total":2},"failures":[]}}},
            "hits":{"total":{"value":10000,"relation":"gte"},"max_score":1.0,"hits":[{"_id":"#;
        let expected = json!({
            "hits": 10000, "hits_relation": "gte", "timed_out": false, "took": 5,
            "shards": { "total": 2, "successful": 1, "skipped": 0, "failed": 1 },
            "num_reduce_phases": 2,
            "clusters": {
                "total": 1, "successful": 1, "skipped": 0, "running": 0, "partial": 0, "failed": 0,
                "details": [
                    { "name": "(local)", "status": "successful", "indices": "logs", "took": 3, "_shards": { "total": 2 } },
                ],
            },
        });
        assert_eq!(details(text), expected);
        for text in ["<html>", "", "{\"took\":", r#"{"took":1,"hits":{"hits":["#] {
            assert!(SearchAnswer::read(text.as_bytes(), Needed::Details).is_err(), "{text}");
        }
    }

    #[test]
    fn details_are_found_in_any_order_and_only_at_their_place() {
        let text = r#" { "hits" : { "hits": [{"hits":{"total":9},"took":8,"sort":["}",{"a":[1]}]}], "total": 3 },
            "aggregations": {"took": 7, "hits": {"total": 6}}, "timed_out": true, "took": 5, "_shards": {"total": 1} } "#;
        let expected =
            json!({ "hits": 3, "hits_relation": "eq", "timed_out": true, "took": 5, "shards": { "total": 1 } });
        assert_eq!(details(text), expected);
        assert_eq!(details(r#"{"took":1,"hits":null}"#), json!({ "hits": 0, "hits_relation": "eq", "took": 1 }));
    }

    #[test]
    fn sort_values_are_those_of_the_last_hit() {
        let read = |text: &str| {
            let answer = SearchAnswer::read(text.as_bytes(), Needed::LastSort { pit: true }).unwrap();
            (answer.pit_id.clone(), answer.is_empty, answer.last_sort.clone())
        };
        let text = r#"{"pit_id":"p\u0031","took":1,"timed_out":false,"hits":{"total":{"value":2,"relation":"eq"},"hits":[
            {"_id":"1","sort":[1,"a"]},
            {"_source":{"sort":["no"],"text":"\"sort\":[0]"},"s\u006frt":[2,"b]}",null],"inner_hits":{"sort":["no"]}}]}}"#;
        assert_eq!(read(text), (Some("p1".to_owned()), Some(false), Some(json!([2, "b]}", null]))));
        assert_eq!(read(r#"{"hits":{"hits":[ ]},"pit_id":"p"}"#), (Some("p".to_owned()), Some(true), None));
        assert_eq!(read(r#"{"took":1}"#), (None, None, None));
    }

    #[test]
    fn a_scroll_needs_its_id_and_whether_there_are_hits() {
        let text = r#"{"took":1,"timed_out":false,"hits":{"total":1,"hits":[{}]},"_scroll_id":"s"}"#;
        let answer = SearchAnswer::read(text.as_bytes(), Needed::Scroll).unwrap();
        assert_eq!((answer.scroll_id.as_deref(), answer.is_empty, answer.hits()), (Some("s"), Some(false), 1));
    }

    fn hit() -> impl Strategy<Value = Value> {
        (any::<String>(), prop::option::of(prop::collection::vec(any::<i64>(), 0..3)), any::<bool>()).prop_map(
            |(text, sort, nested)| {
                let mut hit = json!({ "_source": { "text": text, "sort": [text], "took": 99 } });
                if let Some(sort) = sort {
                    hit["sort"] = json!(sort);
                }
                if nested {
                    hit["inner_hits"] = json!({ "hits": { "total": 77, "hits": [{ "sort": [text] }] } });
                }
                hit
            },
        )
    }

    proptest! {
        #[test]
        fn it_reads_what_a_tree_would_hold(
            members in Just(["took", "timed_out", "hits", "_shards", "_scroll_id", "pit_id", "aggregations"]
                .to_vec()).prop_shuffle(),
            count in 0_usize..8,
            hits in prop::collection::vec(hit(), 0..5),
            hits_last: bool,
            total in any::<u64>(),
            text in any::<String>(),
        ) {
            let total = json!({ "value": total, "relation": "gte" });
            let hits = if hits_last {
                json!({ "total": total, "hits": hits })
            } else {
                json!({ "hits": hits, "total": total })
            };
            let value = |key: &str| match key {
                "took" => json!(7),
                "timed_out" => json!(true),
                "hits" => hits.clone(),
                "_shards" => json!({ "total": 2, "failures": [text] }),
                "aggregations" => json!({ "hits": { "total": 5 }, "took": text }),
                _ => json!(text),
            };
            let tree: Map<_, _> = members.iter().take(count).map(|key| ((*key).to_owned(), value(key))).collect();
            let tree = Value::Object(tree);
            let json = serde_json::to_vec(&tree).unwrap();

            for needed in [
                Needed::Details,
                Needed::Scroll,
                Needed::LastSort { pit: true },
                Needed::Aggregations { pit: true },
            ] {
                let answer = SearchAnswer::read(&json, needed).unwrap();
                prop_assert_eq!(answer.took, tree["took"].as_u64());
                prop_assert_eq!(answer.timed_out, tree["timed_out"].as_bool());
                prop_assert_eq!(answer.hits(), tree["hits"]["total"]["value"].as_u64().unwrap_or(0));
                let found = tree["hits"]["hits"].as_array();
                prop_assert_eq!(answer.is_empty, found.map(Vec::is_empty));
                match needed {
                    Needed::Details => prop_assert_eq!(answer.shards.as_ref(), tree.get("_shards")),
                    Needed::Scroll => prop_assert_eq!(answer.scroll_id.as_deref(), tree["_scroll_id"].as_str()),
                    Needed::LastSort { .. } => {
                        prop_assert_eq!(answer.pit_id.as_deref(), tree["pit_id"].as_str());
                        let last = found.and_then(|hits| hits.last()?.get("sort"));
                        prop_assert_eq!(answer.last_sort.as_ref(), last);
                    }
                    Needed::Aggregations { .. } => {
                        let aggregations = answer.aggregations.map(|text| serde_json::from_slice::<Value>(text).unwrap());
                        prop_assert_eq!(aggregations.as_ref(), tree.get("aggregations"));
                    }
                }
            }
        }
    }
}
