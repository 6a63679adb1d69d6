//! What became of the documents of a bulk, over all attempts.

use std::collections::BTreeSet;

use indexmap::IndexMap;
use rally_core::track::JsonObject;
use serde_json::{Value, json};

use super::answer::{Answer, Shards};
use super::lines::Sizes;

/// Causes that an error describes; more are only counted.
const DESCRIBED: usize = 5;

/// What became of documents.
#[derive(Debug, Default)]
pub(super) struct Tally {
    took: Option<u64>,
    ingest_took: Option<u64>,
    successes: u64,
    pub(super) errors: u64,
    /// Of the last request.
    pub(super) status: u16,
    /// The highest of a document in the last answer, if some have failed there.
    max_status: Option<u16>,
    /// The highest of a document in the last answer that failed.
    max_failed_status: Option<u16>,
    /// Status and reason of each failed document of the last answer.
    causes: BTreeSet<(u16, String)>,
    /// For each action how many items, and how many of them had which result.
    actions: IndexMap<String, IndexMap<String, u64>>,
    shards: IndexMap<Shards, u64>,
    sizes: Sizes,
    /// How often documents were sent again.
    pub(super) retries: u64,
}

impl Tally {
    pub(super) fn of(answer: &Answer, status: u16, sizes: Sizes) -> Self {
        let (took, ingest_took) = (answer.took, answer.ingest_took);
        let mut tally = Self { took, ingest_took, status, sizes, ..Self::default() };
        for item in &answer.items {
            let result = &item.result;
            tally.max_status = tally.max_status.max(Some(result.status));
            if result.has_failed() {
                tally.errors += 1;
                tally.max_failed_status = tally.max_failed_status.max(Some(result.status));
                tally.causes.insert((result.status, result.reason().to_owned()));
            } else {
                tally.successes += 1;
            }
            let action = tally.actions.entry(item.action.clone()).or_default();
            *action.entry("item-count".to_owned()).or_default() += 1;
            if let Some(result) = &result.result {
                *action.entry(result.clone()).or_default() += 1;
            }
            if let Some(shards) = result.shards {
                *tally.shards.entry(shards).or_default() += 1;
            }
        }
        if tally.errors == 0 {
            tally.max_status = None;
        }
        tally
    }

    /// Adds the documents that were sent again. Status and causes are those of the later attempt.
    pub(super) fn add(&mut self, later: Self) {
        let sum = |one: Option<u64>, other: Option<u64>| {
            one.zip(other).map(|(one, other)| one.saturating_add(other)).or(one).or(other)
        };
        self.took = sum(self.took, later.took);
        self.ingest_took = sum(self.ingest_took, later.ingest_took);
        self.successes += later.successes;
        self.errors += later.errors;
        (self.status, self.causes) = (later.status, later.causes);
        (self.max_status, self.max_failed_status) = (later.max_status, later.max_failed_status);
        for (action, counts) in later.actions {
            let known = self.actions.entry(action).or_default();
            counts.into_iter().for_each(|(result, count)| *known.entry(result).or_default() += count);
        }
        later.shards.into_iter().for_each(|(shards, count)| *self.shards.entry(shards).or_default() += count);
        self.sizes.request += later.sizes.request;
        self.sizes.documents += later.sizes.documents;
    }

    /// What stays with the sample.
    pub(super) fn meta(&self, success: bool, is_detailed: bool) -> JsonObject {
        let mut meta = JsonObject::new();
        let mut set = |key: &str, value: Value| drop(meta.insert(key.to_owned(), value));
        set("took", json!(self.took));
        set("success-count", self.successes.into());
        set("error-count", self.errors.into());
        set("request-status", self.status.into());
        let max_status = if is_detailed { self.max_failed_status } else { self.max_status };
        set("max-doc-status", max_status.unwrap_or(self.status).into());
        if !success {
            set("error-type", json!("bulk"));
            set("error-description", self.describe().into());
        }
        if is_detailed {
            set("ops", json!(self.actions));
            let shards = |(shards, count): (&Shards, &u64)| {
                let Shards { total, successful, failed } = shards;
                json!({"item-count": count, "shards": {"total": total, "successful": successful, "failed": failed}})
            };
            set("shards_histogram", self.shards.iter().map(shards).collect());
            set("bulk-request-size-bytes", self.sizes.request.into());
            set("total-document-size-bytes", self.sizes.documents.into());
            if let Some(ingest_took) = self.ingest_took {
                set("ingest_took", ingest_took.into());
            }
        }
        if self.retries > 0 {
            set("retry-count", self.retries.into());
            set("retried", true.into());
        }
        meta
    }

    fn describe(&self) -> String {
        let cause = |(status, reason): &(u16, String)| match reason.as_str() {
            "" => format!("HTTP status: {status}"),
            reason => format!("HTTP status: {status}, message: {reason}"),
        };
        let mut text = self.causes.iter().take(DESCRIBED).map(cause).collect::<Vec<_>>().join(" | ");
        if self.causes.len() > DESCRIBED {
            let statuses: BTreeSet<u16> = self.causes.iter().map(|(status, _)| *status).collect();
            let count = |status: &u16| self.causes.iter().filter(|(other, _)| other == status).count();
            let summary: Vec<String> = statuses.iter().map(|status| format!("{}x{status}", count(status))).collect();
            text = format!("{text} | TRUNCATED {}", summary.join(", "));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(items: &[Value], sizes: Sizes) -> Tally {
        let answer = json!({"took": 3, "ingest_took": 1, "errors": true, "items": items}).to_string();
        Tally::of(&Answer::parse(answer.as_bytes()).unwrap(), 200, sizes)
    }

    fn failed(status: u16, reason: &str) -> Value {
        json!({"index": {"status": status, "error": {"type": "t", "reason": reason}}})
    }

    #[test]
    fn failed_items_are_counted_and_described_once_for_each_cause() {
        let mut items = vec![json!({"index": {"status": 201}}), failed(429, "full"), failed(429, "full")];
        items.push(json!({"create": {"status": 200, "_shards": {"failed": 1}}}));
        let found = tally(&items, Sizes::default());
        assert_eq!((found.errors, found.successes, found.max_status), (3, 1, Some(429)));
        assert_eq!(found.describe(), "HTTP status: 200 | HTTP status: 429, message: full");
        items.extend(["a", "b", "c", "d"].map(|reason| failed(400, reason)));
        let text = tally(&items, Sizes::default()).describe();
        assert!(text.ends_with("HTTP status: 400, message: d | TRUNCATED 1x200, 4x400, 1x429"), "{text}");
    }

    #[test]
    fn details_have_all_keys_of_the_original() {
        let shards = json!({"total": 2, "successful": 1, "failed": 0});
        let items = [
            json!({"index": {"status": 201, "result": "created", "_shards": shards}}),
            json!({"index": {"status": 200, "result": "updated", "_shards": shards}}),
            json!({"create": {"status": 409, "error": "exists"}}),
        ];
        let meta = tally(&items, Sizes { request: 90, documents: 60 }).meta(false, true);
        let expected = json!({
            "took": 3, "success-count": 2, "error-count": 1, "request-status": 200, "max-doc-status": 409,
            "error-type": "bulk", "error-description": "HTTP status: 409, message: exists",
            "ops": {"index": {"item-count": 2, "created": 1, "updated": 1}, "create": {"item-count": 1}},
            "shards_histogram": [{"item-count": 2, "shards": shards}],
            "bulk-request-size-bytes": 90, "total-document-size-bytes": 60, "ingest_took": 1,
        });
        assert_eq!(Value::Object(meta), expected);
    }

    #[test]
    fn times_that_make_no_sense_are_added_up_to_the_longest_one() {
        let answer = json!({"took": u64::MAX, "ingest_took": u64::MAX, "errors": false, "items": []}).to_string();
        let tally = || Tally::of(&Answer::parse(answer.as_bytes()).unwrap(), 200, Sizes::default());
        let mut all = tally();
        all.add(tally());
        let meta = all.meta(true, true);
        assert_eq!((&meta["took"], &meta["ingest_took"]), (&json!(u64::MAX), &json!(u64::MAX)));
    }

    #[test]
    fn attempts_are_added_up() {
        let mut all =
            tally(&[json!({"index": {"status": 201}}), failed(429, "full")], Sizes { request: 40, documents: 20 });
        all.add(tally(&[json!({"index": {"status": 201}})], Sizes { request: 20, documents: 10 }));
        all.retries = 1;
        let meta = all.meta(true, false);
        let expected = json!({
            "took": 6, "success-count": 2, "error-count": 1, "request-status": 200, "max-doc-status": 200,
            "retry-count": 1, "retried": true,
        });
        assert_eq!(Value::Object(meta), expected);
        assert_eq!(all.sizes, Sizes { request: 60, documents: 30 });
    }
}
