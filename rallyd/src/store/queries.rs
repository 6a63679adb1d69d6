//! What is asked of the Elasticsearch metrics store: the races of teams, wherever they were run.

use futures_util::stream::{self, StreamExt, TryStreamExt};
use rally_core::RaceId;
use rally_core::metrics::{FoundRaces, RECORD_PAGE, RaceDocument, RaceFilter, RecordPages, StoreError};
use rally_core::track::JsonObject;
use rally_driver::client::Request;
use serde_json::{Value, json};

use super::ElasticsearchStore;
use super::elasticsearch::RETRIES;
use super::templates::Kind;

/// The most documents that Elasticsearch gives at once, unless told otherwise.
const MOST_AT_ONCE: usize = 10_000;

/// How long the cluster keeps its place between two pages of records.
const SCROLL: &str = "5m";

impl ElasticsearchStore {
    /// Races with those that cannot be understood beside them, the latest first.
    pub(super) async fn find_races(&self, filter: &RaceFilter, limit: usize) -> Result<FoundRaces, StoreError> {
        let sort = json!([{"race-timestamp": {"order": "desc", "unmapped_type": "date"}}]);
        let query = json!({"query": query(&self.environment, filter), "size": limit.min(MOST_AT_ONCE), "sort": sort});
        let (mut races, mut damaged) = (Vec::new(), Vec::new());
        for document in self.search_races("list races", &query).await? {
            let id = document["race-id"].as_str().unwrap_or_default().to_owned();
            match serde_json::from_value(document) {
                Ok(race) => races.push(race),
                Err(error) => damaged.push(format!("race `{id}` in {} makes no sense: {error}", self.settings.place())),
            }
        }
        Ok(FoundRaces { races, damaged })
    }

    pub(super) async fn find_race(&self, race: &RaceId) -> Result<Option<RaceDocument>, StoreError> {
        let action = format!("find race {race}");
        let query = json!({"query": self.of_race(race), "size": 1});
        let document = self.search_races(&action, &query).await?.pop().map(serde_json::from_value);
        document.transpose().map_err(|error| self.error(&action, format!("its document makes no sense: {error}")))
    }

    pub(super) async fn search_races(&self, action: &str, query: &Value) -> Result<Vec<Value>, StoreError> {
        let path = format!("/{}-*/_search?ignore_unavailable=true", Kind::Races.name());
        let answer = self.json_if_any(action, Request::new("POST", path).json(query.to_string())).await?;
        Ok(sources(answer))
    }

    /// The records of a race in the order of time.
    pub(super) fn find_records<'a>(&'a self, race: &'a RaceId) -> RecordPages<'a> {
        let pages = stream::try_unfold(Scroll::Begin, move |scroll| self.page_of_records(race, scroll));
        pages.try_filter(|page| std::future::ready(!page.is_empty())).boxed_local()
    }

    async fn page_of_records(
        &self,
        race: &RaceId,
        scroll: Scroll,
    ) -> Result<Option<(Vec<JsonObject>, Scroll)>, StoreError> {
        let action = format!("read records of race {race}");
        let answer = match scroll {
            Scroll::Begin => {
                self.refresh(&action, Kind::Metrics).await?;
                let sort = json!([{"@timestamp": {"order": "asc", "unmapped_type": "date"}}]);
                let body = json!({"query": self.of_race(race), "size": RECORD_PAGE, "sort": sort});
                let parameters = format!("scroll={SCROLL}&ignore_unavailable=true");
                let path = format!("/{}-*/_search?{parameters}", Kind::Metrics.name());
                let answer = self.json_if_any(&action, Request::new("POST", path).json(body.to_string())).await?;
                if answer.is_null() {
                    return Ok(None);
                }
                answer
            }
            Scroll::GoOn(id) => {
                let body = json!({"scroll": SCROLL, "scroll_id": id});
                let request = Request::new("POST", "/_search/scroll").json(body.to_string());
                // If it was sent again because an answer was lost, the page in it would be missing.
                let response = self.client.request(&request).await;
                self.understand(&action, &response.map_err(|error| self.error(&action, error.to_string()))?)?
            }
            Scroll::End(id) => {
                let request = Request { ignore: vec![404], ..Request::new("DELETE", "/_search/scroll") };
                self.send(&action, &request.json(json!({"scroll_id": id}).to_string())).await?;
                return Ok(None);
            }
        };
        let Some(id) = answer["_scroll_id"].as_str().map(str::to_owned) else {
            return Err(self.error(&action, "it gives no way to the next page"));
        };
        let objects = sources(answer).into_iter().filter_map(|source| match source {
            Value::Object(record) => Some(record),
            _ => None,
        });
        let page: Vec<_> = objects.collect();
        let next = if page.is_empty() { Scroll::End(id) } else { Scroll::GoOn(id) };
        Ok(Some((page, next)))
    }

    /// Deletes the documents of one kind of a race.
    pub(super) async fn delete_kind(&self, action: &str, kind: Kind, race: &RaceId) -> Result<(), StoreError> {
        self.refresh(action, kind).await?;
        let path = format!("/{}-*/_delete_by_query?ignore_unavailable=true", kind.name());
        self.by_query(action, &path, &json!({"query": self.of_race(race)})).await?;
        Ok(())
    }

    /// Without it, documents that were stored a moment ago would not be found.
    async fn refresh(&self, action: &str, kind: Kind) -> Result<(), StoreError> {
        let refresh = Request::new("POST", format!("/{}-*/_refresh", kind.name()));
        self.json_if_any(action, refresh).await.map(drop)
    }

    /// Changes or deletes what a query finds, again as long as others change the same. Says how many documents it were.
    pub(super) async fn by_query(&self, action: &str, path: &str, body: &Value) -> Result<u64, StoreError> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{separator}refresh=true&conflicts=proceed");
        let (mut done, mut attempt) = (0, 0);
        loop {
            let answer = self.json_if_any(action, Request::new("POST", &path).json(body.to_string())).await?;
            let count = |key: &str| answer[key].as_u64().unwrap_or_default();
            done += count("updated") + count("deleted");
            if let Some(failure) = answer["failures"].as_array().and_then(|failures| failures.first()) {
                return Err(self.error(action, format!("some documents were refused, such as {failure}")));
            }
            let conflicts = count("version_conflicts");
            if conflicts == 0 {
                return Ok(done);
            }
            let cause = format!("{conflicts} documents were changed by somebody else at the same time");
            if attempt == RETRIES {
                return Err(self.error(action, cause));
            }
            self.pause(attempt, &cause).await;
            attempt += 1;
        }
    }

    pub(super) fn of_race(&self, race: &RaceId) -> Value {
        json!({"bool": {"filter": [{"term": {"environment": self.environment}}, {"term": {"race-id": race}}]}})
    }
}

/// How far records were read.
enum Scroll {
    Begin,
    GoOn(String),
    /// The place that the cluster keeps is to be given up.
    End(String),
}

/// The documents of an answer.
fn sources(mut answer: Value) -> Vec<Value> {
    let hits = answer["hits"]["hits"].as_array_mut().map(std::mem::take).unwrap_or_default();
    hits.into_iter().map(|mut hit| hit["_source"].take()).collect()
}

fn query(environment: &str, filter: &RaceFilter) -> Value {
    let mut filters = vec![json!({"term": {"environment": environment}})];
    for (field, value) in [("track", &filter.track), ("challenge", &filter.challenge)] {
        filters.extend(value.as_ref().map(|value| json!({"term": {field: value}})));
    }
    if let Some(name) = &filter.benchmark_name {
        let tags = ["name", "benchmark-name"].map(|tag| json!({"term": {format!("user-tags.{tag}"): name}}));
        filters.push(json!({"bool": {"should": tags, "minimum_should_match": 1}}));
    }
    filters.extend(filter.user_tags.iter().map(|(tag, value)| json!({"term": {format!("user-tags.{tag}"): value}})));
    for (bound, moment) in [("gte", filter.from), ("lte", filter.to)] {
        let moment = moment.map(|moment| moment.strftime("%Y%m%dT%H%M%SZ").to_string());
        filters.extend(moment.map(|moment| json!({"range": {"race-timestamp": {bound: moment}}})));
    }
    json!({"bool": {"filter": filters}})
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn every_filter_is_part_of_the_query() {
        let filter = RaceFilter {
            track: Some("http_logs".to_owned()),
            challenge: None,
            benchmark_name: Some("nightly".to_owned()),
            user_tags: JsonObject::from_iter([("setup".to_owned(), json!(3))]),
            from: Some(date(2026, 11, 1).at(0, 0, 0, 0)),
            to: None,
        };
        let named =
            [json!({"term": {"user-tags.name": "nightly"}}), json!({"term": {"user-tags.benchmark-name": "nightly"}})];
        let expected = json!({"bool": {"filter": [
            {"term": {"environment": "local"}},
            {"term": {"track": "http_logs"}},
            {"bool": {"should": named, "minimum_should_match": 1}},
            {"term": {"user-tags.setup": 3}},
            {"range": {"race-timestamp": {"gte": "20261101T000000Z"}}},
        ]}});
        assert_eq!(query("local", &filter), expected);
    }
}
