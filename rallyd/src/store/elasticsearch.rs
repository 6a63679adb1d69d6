//! The metrics store of Rally in an Elasticsearch cluster.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use async_trait::async_trait;
use rally_core::RaceId;
use rally_core::metrics::{
    FoundRaces, MetricsStore, RECORD_PAGE, RaceDocument, RaceFilter, RecordPages, StoreError, TaskSeries,
    result_documents, series_of_records,
};
use rally_core::track::JsonObject;
use rally_driver::client::{
    Authorization, Body, Client, ClientOptions, InvalidClientOptions, MediaTypes, Request, Response,
};
use rally_driver::{ErrorClass, RunnerError};
use serde_json::{Value, json};
use tracing::{info, warn};

use super::StoreSettings;
use super::templates::{Kind, resources};
use crate::store::settings::StoreCredentials;

/// How long the store may take to answer.
const TIMEOUT: Duration = Duration::from_secs(120);

/// How often something is tried again.
pub(super) const RETRIES: u32 = 3;

/// The first pause; each is twice as long as the one before, and up to as much again at random.
const PAUSE: Duration = Duration::from_secs(1);

/// Statuses that say that the same request may well succeed later.
const WORTH_A_RETRY: [u64; 4] = [429, 502, 503, 504];

/// The longest part of an answer that stands in an error, in characters.
const LONGEST_CAUSE: usize = 500;

/// Races, records and results in Elasticsearch, with the names and fields that Rally gives them.
///
/// It belongs to one thread.
#[derive(Debug)]
pub struct ElasticsearchStore {
    pub(super) settings: StoreSettings,
    /// Only races of this environment are found.
    pub(super) environment: String,
    pub(super) client: Client,
    pub(super) pause: Duration,
}

/// The status of a document that is there already, from an attempt whose answer was lost.
const ALREADY_THERE: u64 = 409;

impl ElasticsearchStore {
    /// A store that nothing has been said to yet; races are looked for in one environment.
    ///
    /// # Errors
    ///
    /// [`InvalidClientOptions`] if a host or a file makes no sense.
    pub fn new(settings: StoreSettings, environment: &str) -> Result<Self, InvalidClientOptions> {
        let authorization = settings.credentials.as_ref().map(|credentials| match credentials {
            StoreCredentials::User { user, password } => Authorization::basic(user, password.reveal()),
            StoreCredentials::ApiKey(key) => Authorization::api_key(key.reveal()),
        });
        let options = ClientOptions {
            timeout: TIMEOUT,
            verify_certs: settings.verify_certificates,
            ca_certs: settings.certificate_authorities.clone(),
            authorization,
            // Pauses are made here.
            max_retries: 0,
            ..ClientOptions::default()
        };
        let client = Client::new(&settings.hosts, options, MediaTypes::default(), 0, Rc::default())?;
        Ok(Self { settings, environment: environment.to_owned(), client, pause: PAUSE })
    }

    /// Makes sure that the cluster answers and has the templates. Templates that are there stay as they are unless the
    /// settings say otherwise.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the cluster cannot be reached, or refuses.
    pub async fn set_up(&mut self) -> Result<(), StoreError> {
        let action = "be prepared";
        let root = self.json(action, Request::new("GET", "/")).await?;
        self.client.set_media_types(MediaTypes::of_cluster(&root));
        // Serverless projects and other servers that speak the API do without.
        let policies = Request { ignore: vec![400, 404, 405, 410], ..Request::new("GET", "/_ilm/policy") };
        let has_lifecycles = self.send(action, &policies).await?.status <= 299;
        for resource in resources(&self.settings, has_lifecycles) {
            let look = Request { ignore: vec![404], ..Request::new("GET", &resource.path) };
            let is_there = self.send(action, &look).await?.status != 404;
            if is_there && !resource.may_replace {
                info!(path = %resource.path, "left as it is");
                continue;
            }
            let create = Request::new("PUT", resource.path).json(resource.body.to_string());
            self.send(action, &create).await?;
        }
        Ok(())
    }

    pub(super) fn error(&self, action: &str, cause: impl Into<String>) -> StoreError {
        let cause: String = cause.into().chars().take(LONGEST_CAUSE).collect();
        StoreError { place: self.settings.place(), action: action.to_owned(), cause }
    }

    /// Sends a request, again if that may help.
    pub(super) async fn send(&self, action: &str, request: &Request) -> Result<Response, StoreError> {
        let mut attempt = 0;
        loop {
            let error = match self.client.request(request).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            let (cause, may_help) = match &error {
                RunnerError::Transport { class, description } => (description.clone(), *class != ErrorClass::Tls),
                RunnerError::Api { status: 401 | 403, .. } => {
                    let cause = "it refuses the credentials; see `datastore.user`, `datastore.password` and \
                                 `datastore.api_key` in section [reporting] of rally.ini";
                    (cause.to_owned(), false)
                }
                RunnerError::Api { status, .. } => (error.to_string(), WORTH_A_RETRY.contains(&u64::from(*status))),
                _ => (error.to_string(), false),
            };
            if !may_help || attempt == RETRIES {
                return Err(self.error(action, cause));
            }
            self.pause(attempt, &cause).await;
            attempt += 1;
        }
    }

    pub(super) async fn pause(&self, attempt: u32, cause: &str) {
        let pause = self.pause * 2_u32.pow(attempt) + self.pause.mul_f64(rand::random::<f64>());
        warn!(cause, ?pause, "the metrics store is tried again");
        tokio::time::sleep(pause).await;
    }

    pub(super) async fn json(&self, action: &str, request: Request) -> Result<Value, StoreError> {
        self.understand(action, &self.send(action, &request).await?)
    }

    /// As [`Self::json`]; null if it is about an index that is not there. Some servers say so of patterns, too.
    pub(super) async fn json_if_any(&self, action: &str, request: Request) -> Result<Value, StoreError> {
        let response = self.send(action, &Request { ignore: vec![404], ..request }).await?;
        if response.status == 404 { Ok(Value::Null) } else { self.understand(action, &response) }
    }

    pub(super) fn understand(&self, action: &str, response: &Response) -> Result<Value, StoreError> {
        serde_json::from_slice(&response.body).map_err(|error| self.error(action, format!("it answers oddly: {error}")))
    }

    /// Sends documents in bulks; those that are refused for the moment are sent again.
    async fn bulk(&self, action: &str, target: &str, documents: &[JsonObject]) -> Result<(), StoreError> {
        let verb = if self.settings.use_data_streams { "create" } else { "index" };
        for chunk in documents.chunks(RECORD_PAGE) {
            // With an id, a document that is sent again because an answer was lost is not stored twice.
            let line = |document: &JsonObject| {
                let command = json!({ verb: { "_id": uuid::Uuid::new_v4().simple().to_string() } });
                format!("{command}\n{}\n", Value::Object(document.clone()))
            };
            let mut lines: Vec<String> = chunk.iter().map(line).collect();
            let mut attempt = 0;
            loop {
                let body = Body::Ndjson(lines.concat().into());
                let request = Request { body, ..Request::new("POST", format!("/{target}/_bulk")) };
                let answer = self.json(action, request).await?;
                if answer["errors"] != true {
                    break;
                }
                let items = answer["items"].as_array().map(Vec::as_slice).unwrap_or_default();
                let (mut refused, mut cause) = (Vec::new(), String::new());
                for (line, item) in std::mem::take(&mut lines).into_iter().zip(items) {
                    let outcome = &item[verb];
                    let status = outcome["status"].as_u64().unwrap_or_default();
                    if status <= 299 || status == ALREADY_THERE {
                        continue;
                    }
                    cause = format!("status {status}: {}", outcome["error"]);
                    if !WORTH_A_RETRY.contains(&status) {
                        return Err(self.error(action, cause));
                    }
                    refused.push(line);
                }
                if refused.is_empty() {
                    break;
                }
                if attempt == RETRIES {
                    return Err(self.error(action, format!("{} documents were refused: {cause}", refused.len())));
                }
                self.pause(attempt, &cause).await;
                (lines, attempt) = (refused, attempt + 1);
            }
        }
        Ok(())
    }

    /// Whether the document of a race could be replaced.
    async fn replace_race(&self, action: &str, target: &str, document: &Value) -> Result<bool, StoreError> {
        self.json_if_any(action, Request::new("POST", format!("/{target}/_refresh"))).await?;
        let body = json!({
            "query": {"term": {"race-id": document["race-id"]}},
            "script": {
                "lang": "painless",
                "source": "ctx._source.putAll(params.race)",
                "params": {"race": document},
            },
        });
        Ok(self.by_query(action, &format!("/{target}/_update_by_query"), &body).await? > 0)
    }
}

#[async_trait(?Send)]
impl MetricsStore for ElasticsearchStore {
    fn place(&self) -> String {
        self.settings.place()
    }

    async fn store_race(&mut self, race: &RaceDocument) -> Result<(), StoreError> {
        let action = format!("store race {}", race.race_id);
        let document = serde_json::to_value(race).map_err(|error| self.error(&action, error.to_string()))?;
        let target = Kind::Races.target(&self.settings, &race.race_timestamp);
        if !self.settings.use_data_streams {
            let request = Request::new("PUT", format!("/{target}/_doc/{}?refresh=true", race.race_id));
            self.send(&action, &request.json(document.to_string())).await?;
        } else if !self.replace_race(&action, &target, &document).await? {
            let request = Request::new("POST", format!("/{target}/_doc?op_type=create&refresh=true"));
            self.send(&action, &request.json(document.to_string())).await?;
        }
        let results = result_documents(race);
        if results.is_empty() {
            return Ok(());
        }
        self.delete_kind(&action, Kind::Results, &race.race_id).await?;
        let target = Kind::Results.target(&self.settings, &race.race_timestamp);
        self.bulk(&action, &target, &results).await
    }

    async fn store_records(&mut self, race: &RaceDocument, records: Vec<JsonObject>) -> Result<(), StoreError> {
        let target = Kind::Metrics.target(&self.settings, &race.race_timestamp);
        self.bulk(&format!("store records of race {}", race.race_id), &target, &records).await
    }

    async fn races(&self, filter: &RaceFilter, limit: usize) -> Result<FoundRaces, StoreError> {
        self.find_races(filter, limit).await
    }

    async fn race(&self, race: &RaceId) -> Result<Option<RaceDocument>, StoreError> {
        self.find_race(race).await
    }

    async fn contains(&self, race: &RaceId) -> Result<bool, StoreError> {
        let query = json!({"query": self.of_race(race), "size": 1});
        Ok(!self.search_races(&format!("find race {race}"), &query).await?.is_empty())
    }

    fn records<'a>(&'a self, race: &'a RaceDocument) -> RecordPages<'a> {
        self.find_records(&race.race_id)
    }

    async fn series(&self, race: &RaceDocument) -> Result<BTreeMap<String, TaskSeries>, StoreError> {
        series_of_records(race, self.records(race)).await
    }

    async fn delete(&mut self, race: &RaceId) -> Result<(), StoreError> {
        let action = format!("delete race {race}");
        // The race last, so that a race of which something is left can be found and deleted again.
        for kind in [Kind::Metrics, Kind::Results, Kind::Races] {
            self.delete_kind(&action, kind, race).await?;
        }
        Ok(())
    }
}
