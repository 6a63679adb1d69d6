//! What is written down of a race, and what whoever watched it is told at its end.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{ErrorCount, Results, ThresholdOutcome};
use crate::race::{RacePlan, RaceVerdict};
use crate::track::{Challenge, JsonObject, Track};
use crate::{RaceId, RaceOutcome};

/// The challenge of a track that has nothing but a schedule.
const MADE_UP_CHALLENGE: &str = "default";

/// A race as Rally writes it down, before and after its benchmark.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RaceDocument {
    /// When it began, in milliseconds since the epoch; 0 in documents that do not say so.
    #[serde(rename = "@timestamp", default)]
    pub epoch_millis: i64,
    /// The version of Rally that ran it.
    pub rally_version: String,
    /// Its revision, if it is known.
    pub rally_revision: Option<String>,
    /// The environment that rally.ini names.
    pub environment: String,
    /// The race.
    pub race_id: RaceId,
    /// When it began, as `YYYYMMDDTHHMMSSZ`.
    pub race_timestamp: String,
    /// The pipeline.
    pub pipeline: String,
    /// Whether every task ran against several clusters.
    #[serde(default)]
    pub multi_cluster: bool,
    /// What the user noted of it.
    #[serde(default)]
    pub user_tags: JsonObject,
    /// The track.
    pub track: String,
    /// The names of the car and its mixins.
    #[serde(default)]
    pub car: Vec<String>,
    /// Revision, distribution version and flavor, team revision, and target of the cluster under test.
    #[serde(default)]
    pub cluster: JsonObject,
    /// The revision of the track.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub track_revision: Option<String>,
    /// The challenge; none if it was made up from the track's operations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub challenge: Option<String>,
    /// The parameters of the track.
    #[serde(default, skip_serializing_if = "JsonObject::is_empty")]
    pub track_params: JsonObject,
    /// How it ended; none as long as it runs, and for ever if whoever ran it died.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<RaceOutcome>,
    /// The results, once the race has some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub results: Option<Results>,
    /// The results of each cluster, if several were loaded at the same time; `results` adds them up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub results_by_cluster: Vec<Results>,
}

impl RaceDocument {
    /// The document of a race that is about to begin; `version` is that of the program that runs it.
    #[must_use]
    pub fn new(race: RaceId, plan: &RacePlan, version: &str) -> Self {
        let it = &plan.description;
        let mut cluster = JsonObject::new();
        if let Some(version) = &plan.distribution_version {
            cluster.insert("distribution-version".to_owned(), json!(version));
        }
        if let Some(flavor) = &plan.distribution_flavor {
            cluster.insert("distribution-flavor".to_owned(), json!(flavor));
        }
        let is_made_up = plan.challenge().is_none_or(|challenge| challenge.auto_generated);
        Self {
            epoch_millis: it.epoch_millis,
            rally_version: version.to_owned(),
            rally_revision: None,
            environment: it.environment.clone(),
            race_id: race,
            race_timestamp: it.timestamp.clone(),
            pipeline: it.pipeline.clone(),
            multi_cluster: plan.multi_cluster,
            user_tags: it.user_tags.clone(),
            track: plan.track.name.clone(),
            car: it.car.clone(),
            cluster,
            track_revision: it.track_revision.clone(),
            challenge: (!is_made_up).then(|| plan.challenge.clone()),
            track_params: it.track_params.clone(),
            outcome: None,
            results: None,
            results_by_cluster: Vec::new(),
        }
    }

    /// Takes what a telemetry device says of the cluster under test as a whole: a record `cluster_environment`. Others are about
    /// something else.
    pub fn add_environment(&mut self, record: &Value) {
        if record["name"] != "cluster_environment" {
            return;
        }
        for (key, name) in [
            ("revision", "source_revision"),
            ("distribution-version", "distribution_version"),
            ("distribution-flavor", "distribution_flavor"),
            ("target-id", "target_id"),
            ("target-platform", "target_platform"),
            ("target-auth-type", "target_auth_type"),
        ] {
            if let Some(value) = record.get(name).filter(|value| !value.is_null()) {
                self.cluster.insert(key.to_owned(), value.clone());
            }
        }
    }

    /// The name of the challenge; that of one that was made up is the one that Rally gives it.
    #[must_use]
    pub fn challenge_name(&self) -> &str {
        self.challenge.as_deref().unwrap_or(MADE_UP_CHALLENGE)
    }

    /// The challenge, in the track as it was run.
    #[must_use]
    pub fn challenge_of<'a>(&self, track: &'a Track) -> Option<&'a Challenge> {
        match &self.challenge {
            Some(name) => track.challenge(name),
            None => track.selected_challenge_or_default(),
        }
    }

    /// The version of the cluster under test, if it is known.
    #[must_use]
    pub fn distribution_version(&self) -> Option<&str> {
        self.cluster.get("distribution-version")?.as_str()
    }
}

/// What a race that has ended found out: the race document with its results, and how far they can be trusted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RaceReport {
    /// The race with its results.
    pub race: RaceDocument,
    /// What went wrong.
    pub findings: Findings,
    /// Whether everything that belongs to the race is where it is kept, so that nothing more can go wrong.
    #[serde(default)]
    pub is_settled: bool,
}

/// What went wrong in a race, for its verdict.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    /// Errors by task, warm-up included; only tasks that had some.
    pub errors: Vec<TaskErrors>,
    /// How the drivers did.
    pub drivers: Vec<DriverFindings>,
    /// What drivers and devices noticed, such as trouble with a clock, each as a sentence.
    pub notices: Vec<String>,
    /// Why the archive is not complete, each as a sentence.
    pub archive: Vec<String>,
    /// What became of the thresholds.
    #[serde(default)]
    pub thresholds: Vec<ThresholdOutcome>,
}

/// The errors of one task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskErrors {
    /// The task.
    pub task: String,
    /// By class, with an example of each.
    pub errors: Vec<ErrorCount>,
}

/// How one driver did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriverFindings {
    /// Its name.
    pub driver: String,
    /// Intervals that arrived; about one for each second.
    pub intervals: u64,
    /// Intervals in which the driver itself was the bottleneck.
    pub saturated: u64,
    /// The last reason for it, as a sentence.
    pub reason: Option<String>,
    /// Samples that were made but never arrived.
    pub lost: u64,
    /// Samples that no file of raw samples has.
    pub unwritten: u64,
}

/// How a race ended and what was wrong with it, as the archive keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArchivedVerdict {
    /// How it ended.
    pub verdict: RaceVerdict,
    /// What went wrong.
    pub findings: Findings,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cluster_says_itself_what_it_is() {
        let race = json!({
            "rally-version": "1", "rally-revision": null, "environment": "local", "race-id": "r", "track": "t",
            "race-timestamp": "20261101T120000Z", "pipeline": "benchmark-only",
            "cluster": {"distribution-version": "8.0.0"},
        });
        let mut race: RaceDocument = serde_json::from_value(race).unwrap();
        let record = json!({"name": "cluster_environment", "distribution_version": "8.15.3", "source_revision": "abc",
            "target_platform": null});
        race.add_environment(&json!({"name": "other", "distribution_version": "1"}));
        race.add_environment(&record);
        assert_eq!(Value::Object(race.cluster.clone()), json!({"distribution-version": "8.15.3", "revision": "abc"}));
        assert_eq!(race.distribution_version(), Some("8.15.3"));
    }
}
