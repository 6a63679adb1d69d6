//! Where races are kept: their documents, and metrics records with the fields of Rally's metrics store.

use std::collections::BTreeMap;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::{self, LocalBoxStream};
use jiff::civil::DateTime;
use serde_json::Value;

use super::{RaceDocument, TaskSeries, series_of_records};
use crate::RaceId;
use crate::track::JsonObject;

/// Records that are handed over at once.
pub const RECORD_PAGE: usize = 5_000;

/// Records of a race, page by page.
pub type RecordPages<'a> = LocalBoxStream<'a, Result<Vec<JsonObject>, StoreError>>;

/// Keeps races and what was measured in them.
///
/// Whoever stores or asks waits for it, so a store need not be quick, and may block its thread. Every error is one of the store
/// itself: it cannot be reached or read, or it refuses after as many attempts as it finds sensible.
#[async_trait(?Send)]
pub trait MetricsStore {
    /// What it is and where it is, such as `the metrics store at http://10.0.0.9:9200`.
    fn place(&self) -> String;

    /// Stores the document of a race, in place of one that was stored before. Its [result
    /// documents](super::result_documents) follow from it.
    async fn store_race(&mut self, race: &RaceDocument) -> Result<(), StoreError>;

    /// Adds records of a race that was stored. If not all of them can be stored, it is not said which ones were.
    async fn store_records(&mut self, race: &RaceDocument, records: Vec<JsonObject>) -> Result<(), StoreError>;

    /// The races that a filter takes, the latest first, at most `limit`.
    async fn races(&self, filter: &RaceFilter, limit: usize) -> Result<FoundRaces, StoreError>;

    /// The document of a race, with the results that it has so far; none if there is no such race.
    async fn race(&self, race: &RaceId) -> Result<Option<RaceDocument>, StoreError>;

    /// Whether there is anything of a race, be its document damaged or not.
    async fn contains(&self, race: &RaceId) -> Result<bool, StoreError>;

    /// The records of a race.
    fn records<'a>(&'a self, race: &'a RaceDocument) -> RecordPages<'a>;

    /// What each task of a race did in each second, by its name; nothing of a task if that is not known.
    async fn series(&self, race: &RaceDocument) -> Result<BTreeMap<String, TaskSeries>, StoreError>;

    /// Deletes a race with everything that belongs to it; one that is not there is none.
    async fn delete(&mut self, race: &RaceId) -> Result<(), StoreError>;
}

/// A store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("{place} could not {action}: {cause}")]
pub struct StoreError {
    /// What the store is and where it is.
    pub place: String,
    /// What it was asked to do, as a verb phrase.
    pub action: String,
    /// Why not.
    pub cause: String,
}

/// Races of a store.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FoundRaces {
    /// The latest first.
    pub races: Vec<RaceDocument>,
    /// Documents that cannot be understood, each as a sentence.
    pub damaged: Vec<String>,
}

impl FoundRaces {
    /// Those of a store that has documents in any order.
    #[must_use]
    pub fn new(mut races: Vec<RaceDocument>, damaged: Vec<String>, filter: &RaceFilter, limit: usize) -> Self {
        races.retain(|race| filter.takes(race));
        let mut found = Self { races, damaged };
        found.arrange(limit);
        found
    }

    /// Adds those of another store that are not known yet.
    pub fn add(&mut self, other: Self, limit: usize) {
        let is_new = |race: &RaceDocument| self.races.iter().all(|known| known.race_id != race.race_id);
        let new: Vec<_> = other.races.into_iter().filter(is_new).collect();
        self.races.extend(new);
        self.damaged.extend(other.damaged);
        self.arrange(limit);
    }

    fn arrange(&mut self, limit: usize) {
        self.races.sort_by(|one, two| (&two.race_timestamp, &two.race_id).cmp(&(&one.race_timestamp, &one.race_id)));
        self.races.truncate(limit);
    }
}

/// Which races are wanted; all by default.
#[derive(Clone, Debug, Default)]
pub struct RaceFilter {
    /// Of this track.
    pub track: Option<String>,
    /// Of this challenge.
    pub challenge: Option<String>,
    /// With this user tag `name` or `benchmark-name`.
    pub benchmark_name: Option<String>,
    /// With all of these user tags.
    pub user_tags: JsonObject,
    /// That began at this time or later, as `YYYYMMDDTHHMMSSZ`.
    pub from: Option<DateTime>,
    /// That began at this time or earlier.
    pub to: Option<DateTime>,
}

impl RaceFilter {
    /// Whether a race is wanted.
    #[must_use]
    pub fn takes(&self, race: &RaceDocument) -> bool {
        let is = |wanted: &Option<String>, value: Option<&str>| wanted.as_deref().is_none_or(|it| Some(it) == value);
        let tag = |key: &str| race.user_tags.get(key).and_then(Value::as_str);
        let began = DateTime::strptime("%Y%m%dT%H%M%SZ", &race.race_timestamp).ok();
        is(&self.track, Some(&race.track))
            && is(&self.challenge, race.challenge.as_deref())
            && (is(&self.benchmark_name, tag("name")) || is(&self.benchmark_name, tag("benchmark-name")))
            && self.user_tags.iter().all(|(key, value)| race.user_tags.get(key) == Some(value))
            && self.from.is_none_or(|from| began.is_some_and(|began| began >= from))
            && self.to.is_none_or(|to| began.is_some_and(|began| began <= to))
    }
}

/// A store in memory, for programs that look at races and records themselves.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    /// Documents of races, one for each race.
    pub races: Vec<RaceDocument>,
    /// Metrics records of all races.
    pub records: Vec<JsonObject>,
}

impl MemoryStore {
    fn find(&self, race: &RaceId) -> Option<&RaceDocument> {
        self.races.iter().find(|known| known.race_id == *race)
    }
}

fn is_of(record: &JsonObject, race: &RaceId) -> bool {
    record.get("race-id").and_then(Value::as_str) == Some(race.as_str())
}

#[async_trait(?Send)]
impl MetricsStore for MemoryStore {
    fn place(&self) -> String {
        "the metrics store in memory".to_owned()
    }

    async fn store_race(&mut self, race: &RaceDocument) -> Result<(), StoreError> {
        self.races.retain(|known| known.race_id != race.race_id);
        self.races.push(race.clone());
        Ok(())
    }

    async fn store_records(&mut self, _: &RaceDocument, records: Vec<JsonObject>) -> Result<(), StoreError> {
        self.records.extend(records);
        Ok(())
    }

    async fn races(&self, filter: &RaceFilter, limit: usize) -> Result<FoundRaces, StoreError> {
        Ok(FoundRaces::new(self.races.clone(), Vec::new(), filter, limit))
    }

    async fn race(&self, race: &RaceId) -> Result<Option<RaceDocument>, StoreError> {
        Ok(self.find(race).cloned())
    }

    async fn contains(&self, race: &RaceId) -> Result<bool, StoreError> {
        Ok(self.find(race).is_some())
    }

    fn records<'a>(&'a self, race: &'a RaceDocument) -> RecordPages<'a> {
        let mut records: Vec<_> = self.records.iter().filter(|record| is_of(record, &race.race_id)).collect();
        records.sort_by_key(|record| record.get("@timestamp").and_then(Value::as_i64));
        stream::iter(records.into_iter().cloned()).chunks(RECORD_PAGE).map(Ok).boxed_local()
    }

    async fn series(&self, race: &RaceDocument) -> Result<BTreeMap<String, TaskSeries>, StoreError> {
        series_of_records(race, self.records(race)).await
    }

    async fn delete(&mut self, race: &RaceId) -> Result<(), StoreError> {
        self.races.retain(|known| known.race_id != *race);
        self.records.retain(|record| !is_of(record, race));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, TryStreamExt};
    use serde_json::json;

    use super::*;

    fn race(change: Value) -> RaceDocument {
        let mut race = json!({
            "rally-version": "1", "rally-revision": null, "environment": "local", "race-id": "r", "challenge": "c",
            "race-timestamp": "20261101T120000Z", "pipeline": "benchmark-only", "track": "geonames",
            "user-tags": {"name": "nightly", "setup": 3}, "car": ["4gheap", "ea"],
        });
        let Value::Object(change) = change else { panic!("an object is needed") };
        race.as_object_mut().unwrap().extend(change);
        serde_json::from_value(race).unwrap()
    }

    #[test]
    fn races_are_filtered_by_everything_that_is_given() {
        let at = |text: &str| Some(DateTime::strptime("%Y%m%dT%H%M%SZ", text).unwrap());
        let tags = |value: Value| JsonObject::from_iter([("setup".to_owned(), value)]);
        for (filter, expected) in [
            (RaceFilter::default(), true),
            (RaceFilter { track: Some("geonames".into()), challenge: Some("c".into()), ..Default::default() }, true),
            (RaceFilter { track: Some("nested".into()), ..Default::default() }, false),
            (RaceFilter { challenge: Some("d".into()), ..Default::default() }, false),
            (RaceFilter { benchmark_name: Some("nightly".into()), ..Default::default() }, true),
            (RaceFilter { benchmark_name: Some("daily".into()), ..Default::default() }, false),
            (RaceFilter { user_tags: tags(json!(3)), ..Default::default() }, true),
            (RaceFilter { user_tags: tags(json!("x")), ..Default::default() }, false),
            (RaceFilter { from: at("20261101T120000Z"), to: at("20261101T120000Z"), ..Default::default() }, true),
            (RaceFilter { from: at("20261101T120001Z"), ..Default::default() }, false),
            (RaceFilter { to: at("20261031T235959Z"), ..Default::default() }, false),
        ] {
            assert_eq!(filter.takes(&race(json!({}))), expected, "{filter:?}");
        }
    }

    #[test]
    fn races_of_several_stores_are_in_one_order_and_none_is_there_twice() {
        let found = |ids: &[(&str, &str)]| FoundRaces {
            races: ids
                .iter()
                .map(|(id, day)| race(json!({"race-id": id, "race-timestamp": format!("202611{day}T120000Z")})))
                .collect(),
            damaged: vec![format!("one beside {}", ids[0].0)],
        };
        let mut all = found(&[("c", "03"), ("a", "01")]);
        all.add(found(&[("d", "04"), ("c", "03"), ("b", "01")]), 3);
        let ids: Vec<_> = all.races.iter().map(|race| race.race_id.as_str()).collect();
        assert_eq!((ids, all.damaged.len()), (vec!["d", "c", "b"], 2));
    }

    #[test]
    fn the_store_in_memory_keeps_one_document_for_each_race_and_records_in_the_order_of_time() {
        let mut store = MemoryStore::default();
        let (one, other) = (race(json!({})), race(json!({"race-id": "other"})));
        let ended = RaceDocument { results: Some(super::super::Results::default()), ..one.clone() };
        let record = |race: &str, at: i64| {
            let record = json!({"race-id": race, "@timestamp": at, "name": "segments_count"});
            record.as_object().unwrap().clone()
        };
        let done = async {
            store.store_race(&one).await?;
            store.store_race(&other).await?;
            store.store_race(&ended).await?;
            store.store_records(&one, vec![record("r", 7), record("r", 5)]).await?;
            store.store_records(&other, vec![record("other", 6)]).await?;
            assert_eq!(store.race(&one.race_id).await?.as_ref(), Some(&ended));
            assert_eq!(store.races(&RaceFilter::default(), 10).await?.races.len(), 2);
            let records: Vec<_> = store.records(&one).try_concat().await?;
            assert_eq!(records, [record("r", 5), record("r", 7)]);
            store.delete(&one.race_id).await?;
            assert_eq!((store.contains(&one.race_id).await?, store.contains(&other.race_id).await?), (false, true));
            assert_eq!(store.records, [record("other", 6)]);
            Ok::<_, StoreError>(())
        };
        done.now_or_never().unwrap().unwrap();
    }
}
