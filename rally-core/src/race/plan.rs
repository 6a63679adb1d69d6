//! What every role of a race needs to know of it.

use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::allocation::MAX_PLACES;
use crate::metrics::Threshold;
use crate::track::{Challenge, JsonObject, Track};
use crate::{Allocation, ContentHash, HostId};

/// What a failed request does to the race.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnError {
    /// It is recorded, and the race goes on unless nothing answers at all.
    #[default]
    Continue,
    /// It ends the race.
    Abort,
    /// It is recorded, and the race goes on whatever it was.
    ContinueOnNetwork,
}

/// Where load drivers get corpora from that they do not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataSource {
    /// Each driver downloads what is missing from where the track says.
    #[default]
    Download,
    /// Everything must be there.
    Local,
    /// Each driver fetches what its clients read from the hosts of the race that have it: other drivers, and the coordinator,
    /// which downloads what nobody has. Where there is no coordinator, it downloads.
    Ship,
}

/// A host that has a whole file of documents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShippingHost {
    /// The host.
    pub host: HostId,
    /// What users call it.
    pub name: String,
    /// Where other hosts reach it.
    pub address: SocketAddr,
}

/// A file of documents that load drivers fetch from another host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShippedFile {
    /// The corpus that it belongs to.
    pub corpus: String,
    /// Its name there, unpacked.
    pub document_file: String,
    /// Its content.
    pub content: ContentHash,
    /// Its length in bytes.
    pub length: u64,
    /// Lines, counted from 0, and the bytes that they begin at, both growing. By them a driver knows what it needs.
    pub offsets: Vec<(u64, u64)>,
    /// Who has all of it, those first that are to be asked first.
    #[serde(default)]
    pub hosts: Vec<ShippingHost>,
    /// Who has only some of it, from an earlier race.
    #[serde(default)]
    pub parts: Vec<ShippedPart>,
}

/// Bytes of a file of documents that a host has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShippedPart {
    /// The host.
    pub host: ShippingHost,
    /// What it has, counted in the whole file.
    pub bytes: Range<u64>,
}

/// A race as it is sent to load drivers, as JSON: the track with everything that its files said, and all options.
///
/// Its `Debug` leaves out whatever may hold a secret, such as the values of client options.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct RacePlan {
    /// The track, with filters and test mode applied.
    pub track: Track,
    /// The name of the challenge to run.
    pub challenge: String,
    /// The clusters under test by name, each with its hosts as `host:port` or URL. Ordinary operations use `default`.
    pub target_hosts: IndexMap<String, Vec<String>>,
    /// Client options by cluster.
    pub client_options: IndexMap<String, JsonObject>,
    /// What a failed request does.
    pub on_error: OnError,
    /// Whether assertions of operations are evaluated.
    pub enable_assertions: bool,
    /// Whether the race only tries the track out.
    pub test_mode: bool,
    /// Whether every client runs its task against all clusters at the same time.
    pub multi_cluster: bool,
    /// Whether nothing may be downloaded.
    pub offline: bool,
    /// Whether the race begins without waiting until the clusters under test answer.
    #[serde(default)]
    pub skip_rest_api_check: bool,
    /// Where drivers get corpora from.
    #[serde(default)]
    pub data: DataSource,
    /// What drivers fetch from other hosts; the coordinator fills it for [`DataSource::Ship`].
    #[serde(default)]
    pub shipped: Vec<ShippedFile>,
    /// A directory that may hold corpora on the hosts where it exists: that of the track, if the user named one.
    #[serde(default)]
    pub track_directory: Option<PathBuf>,
    /// The version of the cluster under test, such as `8.15.0`, or `serverless`, if it is known.
    pub distribution_version: Option<String>,
    /// The flavor of the cluster under test, such as `default`, `oss` or `serverless`, if it is known.
    pub distribution_flavor: Option<String>,
    /// Whether the user operates the serverless project.
    pub serverless_operator: bool,
    /// Telemetry devices to use in addition to those that are always on.
    pub telemetry: Vec<String>,
    /// Parameters of telemetry devices.
    pub telemetry_params: JsonObject,
    /// Bytes of raw samples that a driver may keep on its disk; none are written if it is 0.
    pub sample_bytes: u64,
    /// What stands in the documents of the race beside what was measured.
    #[serde(default)]
    pub description: RaceDescription,
}

/// What the user and the command line say of a race, for its documents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RaceDescription {
    /// When it was asked for, in milliseconds since the epoch; 0 if that is not known.
    pub epoch_millis: i64,
    /// The same as `YYYYMMDDTHHMMSSZ`.
    pub timestamp: String,
    /// The environment that `rally.ini` names; `local` by default.
    pub environment: String,
    /// The pipeline; `benchmark-only` by default.
    pub pipeline: String,
    /// What the user noted of it.
    pub user_tags: JsonObject,
    /// The names of the car and its mixins; `external` by default.
    pub car: Vec<String>,
    /// The parameters of the track. Values of keys that begin with `secret_` are not here.
    pub track_params: JsonObject,
    /// The revision of the track, if it came from a repository.
    pub track_revision: Option<String>,
    /// Conditions under which the race counts as failed.
    pub thresholds: Vec<Threshold>,
}

impl Default for RaceDescription {
    fn default() -> Self {
        Self {
            epoch_millis: 0,
            timestamp: "19700101T000000Z".to_owned(),
            environment: "local".to_owned(),
            pipeline: "benchmark-only".to_owned(),
            user_tags: JsonObject::new(),
            car: vec!["external".to_owned()],
            track_params: JsonObject::new(),
            track_revision: None,
            thresholds: Vec::new(),
        }
    }
}

impl fmt::Debug for RacePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clusters: Vec<_> = self.target_hosts.keys().collect();
        let options: Vec<_> = self
            .client_options
            .iter()
            .map(|(cluster, options)| (cluster, options.keys().collect::<Vec<_>>()))
            .collect();
        f.debug_struct("RacePlan")
            .field("track", &self.track.name)
            .field("challenge", &self.challenge)
            .field("clusters", &clusters)
            .field("client_options", &options)
            .field("test_mode", &self.test_mode)
            .finish_non_exhaustive()
    }
}

/// The plan of a race that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RacePlanError {
    /// It is no plan.
    #[error("the race plan makes no sense: {0}")]
    Json(#[from] serde_json::Error),
    /// No host has room for its clients.
    #[error(
        "challenge `{challenge}` has too many clients: those of all steps and tasks are {places}, at most {MAX_PLACES} \
         fit into a race; lower `clients` in the track"
    )]
    TooManyClients {
        /// The challenge to run.
        challenge: String,
        /// Its [`Allocation::places`].
        places: u64,
    },
}

impl RacePlan {
    /// Reads a plan that came from another host.
    ///
    /// # Errors
    ///
    /// If it is no plan, or has more clients than there can be memory for.
    pub fn from_json(json: &[u8]) -> Result<Self, RacePlanError> {
        let plan: Self = serde_json::from_slice(json)?;
        let places = plan.challenge().map_or(0, Allocation::places);
        if places > MAX_PLACES {
            return Err(RacePlanError::TooManyClients { challenge: plan.challenge, places });
        }
        Ok(plan)
    }

    /// A plan to run a challenge of a track against no cluster yet, with Rally's defaults: requests time out after 60 s,
    /// failed ones are recorded, and no raw samples are written.
    #[must_use]
    pub fn new(track: Track, challenge: &str) -> Self {
        Self {
            track,
            challenge: challenge.to_owned(),
            target_hosts: IndexMap::new(),
            client_options: IndexMap::new(),
            on_error: OnError::default(),
            enable_assertions: false,
            test_mode: false,
            multi_cluster: false,
            offline: false,
            skip_rest_api_check: false,
            data: DataSource::default(),
            shipped: Vec::new(),
            track_directory: None,
            distribution_version: None,
            distribution_flavor: None,
            serverless_operator: false,
            telemetry: Vec::new(),
            telemetry_params: JsonObject::new(),
            sample_bytes: 0,
            description: RaceDescription::default(),
        }
    }

    /// Races against these hosts, each as `host:port` or URL.
    #[must_use]
    pub fn target<H: ToString>(mut self, hosts: impl IntoIterator<Item = H>) -> Self {
        let cluster = "default".to_owned();
        let options = JsonObject::from_iter([("timeout".to_owned(), 60.into())]);
        self.client_options.entry(cluster.clone()).or_insert(options);
        self.target_hosts.insert(cluster, hosts.into_iter().map(|host| host.to_string()).collect());
        self
    }

    /// The challenge to run; none if the track has none of this name.
    #[must_use]
    pub fn challenge(&self) -> Option<&Challenge> {
        self.track.challenge(&self.challenge)
    }

    /// Whether the cluster under test is a serverless project.
    #[must_use]
    pub fn is_serverless(&self) -> bool {
        self.distribution_flavor.as_deref() == Some("serverless")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::track::{Operation, Task};

    #[test]
    fn values_of_client_options_are_not_shown() {
        let challenge = Challenge::builder("c").task(Task::builder(Operation::builder("search")));
        let track = Track::builder("t").challenge(challenge).build().unwrap();
        let mut plan = RacePlan::new(track, "c").target(["https://user:hidden@localhost:9200"]);
        plan.client_options["default"].insert("basic_auth_password".to_owned(), "hidden".into());
        let shown = format!("{plan:?}");
        assert!(shown.contains("basic_auth_password") && !shown.contains("hidden"), "{shown}");
    }

    fn plan(clients: &[u32]) -> Vec<u8> {
        let challenge = clients.iter().enumerate().fold(Challenge::builder("c"), |challenge, (index, &clients)| {
            let operation = Operation::builder("sleep").property("duration", 1);
            challenge.task(Task::builder(operation).name(&format!("t{index}")).clients(clients))
        });
        let track = Track::builder("t").challenge(challenge.default_challenge()).build().unwrap();
        serde_json::to_vec(&RacePlan::new(track, "c")).unwrap()
    }

    #[test]
    fn a_plan_with_more_clients_than_memory_is_refused() {
        assert!(RacePlan::from_json(&plan(&[2_000_000])).is_ok());
        for (clients, places) in
            [(&[2_000_001][..], 4_000_002_u64), (&[u32::MAX], 8_589_934_590), (&[1_000_000; 3], 6_000_000)]
        {
            let error = RacePlan::from_json(&plan(clients)).unwrap_err().to_string();
            assert!(error.starts_with("challenge `c` has too many clients"), "{error}");
            assert!(error.contains(&places.to_string()), "{error}");
        }
        assert!(matches!(RacePlan::from_json(b"{}"), Err(RacePlanError::Json(_))));
    }
}
