//! What is asked of the Elasticsearch metrics store: the races of teams, wherever they were run.

use rally_core::RaceId;
use rally_core::metrics::{RaceDocument, StoreError};
use rally_driver::client::Request;
use serde_json::{Value, json};

use super::ElasticsearchStore;
use super::templates::Kind;
use crate::report::RaceFilter;

/// The most documents that Elasticsearch gives at once, unless told otherwise.
const MOST_AT_ONCE: usize = 10_000;

impl ElasticsearchStore {
    /// The races of an environment that a filter takes, the latest first, at most `limit`; documents that cannot be understood
    /// are left out.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the cluster cannot be reached, or refuses.
    pub async fn races(
        &self,
        environment: &str,
        filter: &RaceFilter,
        limit: usize,
    ) -> Result<Vec<RaceDocument>, StoreError> {
        let sort = json!([{"race-timestamp": {"order": "desc", "unmapped_type": "date"}}]);
        let query = json!({"query": query(environment, filter), "size": limit.min(MOST_AT_ONCE), "sort": sort});
        self.search_races("list races", &query).await
    }

    /// The document of a race; none if there is none.
    ///
    /// # Errors
    ///
    /// As [`Self::races`].
    pub async fn race(&self, environment: &str, race: &RaceId) -> Result<Option<RaceDocument>, StoreError> {
        let query = json!({"query": of_race(environment, race), "size": 1});
        Ok(self.search_races(&format!("find race {race}"), &query).await?.pop())
    }

    /// Deletes a race with its records and results; returns how many documents it had.
    ///
    /// # Errors
    ///
    /// As [`Self::races`]; some of its documents may be deleted then.
    pub async fn delete(&self, environment: &str, race: &RaceId) -> Result<u64, StoreError> {
        let action = format!("delete race {race}");
        let mut deleted = 0;
        // The race last, so that a race of which something is left can be found and deleted again.
        for kind in [Kind::Metrics, Kind::Results, Kind::Races] {
            // Without a refresh, documents that were stored a moment ago would stay.
            let refresh = Request { ignore: vec![404], ..Request::new("POST", format!("/{}-*/_refresh", kind.name())) };
            self.send(&action, &refresh).await?;
            let parameters = "refresh=true&conflicts=proceed&ignore_unavailable=true";
            let path = format!("/{}-*/_delete_by_query?{parameters}", kind.name());
            let body = json!({"query": of_race(environment, race)});
            let answer = self.json(&action, Request::new("POST", path).json(body.to_string())).await?;
            deleted += answer["deleted"].as_u64().unwrap_or_default();
        }
        Ok(deleted)
    }

    async fn search_races(&self, action: &str, query: &Value) -> Result<Vec<RaceDocument>, StoreError> {
        let path = format!("/{}-*/_search?ignore_unavailable=true", Kind::Races.name());
        let mut answer = self.json(action, Request::new("POST", path).json(query.to_string())).await?;
        let hits = answer["hits"]["hits"].as_array_mut().map(std::mem::take).unwrap_or_default();
        Ok(hits.into_iter().filter_map(|mut hit| serde_json::from_value(hit["_source"].take()).ok()).collect())
    }
}

fn of_race(environment: &str, race: &RaceId) -> Value {
    json!({"bool": {"filter": [{"term": {"environment": environment}}, {"term": {"race-id": race}}]}})
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
    use rally_core::track::JsonObject;

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
