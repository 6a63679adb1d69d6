//! From the command line to the plan of a race.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use percent_encoding::percent_decode_str;
use rally_core::metrics::ThresholdSyntaxError;
use rally_core::track::JsonObject;
use rally_core::{InvalidRaceId, RaceDescription, RaceId, RacePlan};
use serde_json::{Value, json};

use super::arguments::RaceArguments;
use super::coordinator::random_id;
use super::pipeline::PIPELINES;
use super::thresholds::{FLAG, thresholds};
use crate::track::{
    ParseValueError, RaceSelection, TrackCommandError, TrackSettings, load_for_race, parse_list, parse_map,
};

/// Raw samples that a driver may keep: 16 GiB.
const SAMPLE_BYTES: u64 = 16 << 30;

/// A race that was asked for and makes sense.
#[derive(Clone, Debug)]
pub struct PlannedRace {
    /// Its id.
    pub race: RaceId,
    /// What is to be run.
    pub plan: RacePlan,
    /// Who drives, as the user names them.
    pub load_driver_hosts: Vec<String>,
}

/// A race that was asked for makes no sense.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The track cannot be loaded.
    #[error(transparent)]
    Track(#[from] TrackCommandError),
    /// A list or a map on the command line makes no sense.
    #[error("{flag} makes no sense")]
    Value {
        /// The flag.
        flag: &'static str,
        /// What is wrong with it.
        source: ParseValueError,
    },
    /// What was given for each cluster does not fit together.
    #[error("--target-hosts names the clusters {hosts}, and --client-options names {options}; they must be the same")]
    Clusters {
        /// Names of clusters with hosts.
        hosts: String,
        /// Names of clusters with client options.
        options: String,
    },
    /// Hosts or options of a cluster are not what they should be.
    #[error("{flag}: cluster `{cluster}` must have {expected}")]
    Cluster {
        /// The flag.
        flag: &'static str,
        /// The cluster.
        cluster: String,
        /// What it must have.
        expected: &'static str,
    },
    /// Several clusters at the same time are wanted, and there is only one.
    #[error("--multi-cluster needs two clusters or more in --target-hosts")]
    OneCluster,
    /// Nobody is to apply the load, or a host has no name.
    #[error("--load-driver-hosts must name a host or more, with commas in between")]
    NoLoadDriver,
    /// A telemetry device or its parameters make no sense.
    #[error("--telemetry: {0}")]
    Telemetry(String),
    /// The id is not a good one.
    #[error("--race-id")]
    RaceId(#[from] InvalidRaceId),
    /// The track has nothing to run.
    #[error("track `{0}` has no challenge that could be run; name one with --challenge")]
    NoChallenge(String),
    /// A threshold makes no sense.
    #[error("{place}")]
    Threshold {
        /// The flag, or where in the track.
        place: String,
        /// What is wrong with it.
        source: ThresholdSyntaxError,
    },
    /// A threshold is about a task that is not run.
    #[error("{place}: the challenge has no task `{task}`; {hint}")]
    ThresholdTask {
        /// The flag, or where in the track.
        place: String,
        /// The task.
        task: String,
        /// What was probably meant.
        hint: String,
    },
    /// The track has something else than thresholds where they belong.
    #[error("{place} must be a text, or a list of texts")]
    ThresholdList {
        /// Where in the track.
        place: String,
    },
    /// This version does not have the pipeline.
    #[error(
        "--pipeline={0} is not there yet: this version races against clusters that run already, with \
         --pipeline=benchmark-only"
    )]
    NotThereYet(&'static str),
    /// There is no such pipeline.
    #[error("--pipeline={given}: there is no such pipeline; there are {}", PIPELINES.map(|it| it.name).join(", "))]
    Pipeline {
        /// What was asked for.
        given: String,
    },
}

impl PlanError {
    /// Whether the command line is wrong, and not what it names.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Threshold { place, .. } | Self::ThresholdTask { place, .. } => place == FLAG,
            Self::Track(_) | Self::NoChallenge(_) | Self::ThresholdList { .. } => false,
            Self::Value { .. }
            | Self::Clusters { .. }
            | Self::Cluster { .. }
            | Self::OneCluster
            | Self::NoLoadDriver
            | Self::RaceId(_)
            | Self::Telemetry(_)
            | Self::NotThereYet(_)
            | Self::Pipeline { .. } => true,
        }
    }
}

/// Loads the track and reads the options of a race.
///
/// # Errors
///
/// [`PlanError`], which says what would be right.
pub async fn plan_race(
    arguments: &RaceArguments,
    settings: &TrackSettings,
    warn: &mut (dyn FnMut(&str) + Send),
) -> Result<PlannedRace, PlanError> {
    match PIPELINES.iter().find(|pipeline| pipeline.name == arguments.pipeline) {
        Some(pipeline) if pipeline.is_there => {}
        Some(pipeline) => return Err(PlanError::NotThereYet(pipeline.name)),
        None => return Err(PlanError::Pipeline { given: arguments.pipeline.clone() }),
    }
    let race = match &arguments.race_id {
        Some(id) => id.parse()?,
        None => random_id(),
    };
    let list = |flag, text: &str| parse_list(text).map_err(|source| PlanError::Value { flag, source });
    let map = |flag, text: &str| parse_map(text).map_err(|source| PlanError::Value { flag, source });
    let mut target_hosts = target_hosts(&arguments.target_hosts)?;
    let mut client_options = client_options(arguments.client_options.as_deref(), &target_hosts)?;
    take_credentials(&mut target_hosts, &mut client_options);
    if arguments.multi_cluster && target_hosts.len() < 2 {
        return Err(PlanError::OneCluster);
    }
    let load_driver_hosts = list("--load-driver-hosts", &arguments.load_driver_hosts)?;
    if load_driver_hosts.is_empty() || load_driver_hosts.iter().any(String::is_empty) {
        return Err(PlanError::NoLoadDriver);
    }
    let selection = RaceSelection {
        challenge: arguments.challenge.clone(),
        include_tasks: arguments.include_tasks.clone(),
        exclude_tasks: arguments.exclude_tasks.clone(),
        test_mode: arguments.test_mode,
    };
    let (loaded, track_revision) =
        load_for_race(&arguments.track, &arguments.template, selection, settings, warn).await?;
    let mut track = loaded.track;
    let challenge = track.selected_challenge_or_default().map(|challenge| challenge.name.clone());
    let challenge = challenge.ok_or_else(|| PlanError::NoChallenge(track.name.clone()))?;
    let is_filtered = arguments.include_tasks.is_some() || arguments.exclude_tasks.is_some();
    let thresholds = thresholds(&arguments.fail_if, &mut track, &challenge, is_filtered)?;
    let plan = RacePlan {
        challenge,
        track,
        target_hosts,
        client_options,
        on_error: arguments.on_error.into(),
        enable_assertions: arguments.enable_assertions,
        test_mode: arguments.test_mode,
        multi_cluster: arguments.multi_cluster,
        offline: settings.offline,
        skip_rest_api_check: arguments.skip_rest_api_check,
        data: arguments.data.into(),
        shipped: Vec::new(),
        track_directory: arguments.track.source.track_path.as_deref().and_then(directory_of),
        distribution_version: arguments.distribution_version.clone(),
        distribution_flavor: Some(arguments.template.build_flavor.clone()),
        serverless_operator: arguments.template.serverless_operator,
        telemetry: list("--telemetry", &arguments.telemetry)?,
        telemetry_params: map("--telemetry-params", &arguments.telemetry_params)?,
        sample_bytes: SAMPLE_BYTES,
        description: RaceDescription { thresholds, track_revision, ..description(arguments)? },
    };
    rally_driver::check_telemetry(&plan).map_err(PlanError::Telemetry)?;
    Ok(PlannedRace { race, plan, load_driver_hosts })
}

/// What stands in the documents of the race.
fn description(arguments: &RaceArguments) -> Result<RaceDescription, PlanError> {
    let map = |flag, text: &str| parse_map(text).map_err(|source| PlanError::Value { flag, source });
    let began = arguments.effective_start_date.unwrap_or_else(jiff::Timestamp::now);
    let mut track_params = map("--track-params", &arguments.template.track_params)?;
    for (_, value) in track_params.iter_mut().filter(|(key, _)| key.starts_with("secret_")) {
        *value = json!("<hidden>");
    }
    Ok(RaceDescription {
        epoch_millis: began.as_millisecond(),
        timestamp: began.strftime("%Y%m%dT%H%M%SZ").to_string(),
        pipeline: arguments.pipeline.clone(),
        user_tags: map("--user-tags", &arguments.user_tags)?,
        track_params,
        ..RaceDescription::default()
    })
}

/// The directory of a track that is named by it, or by a file in it.
fn directory_of(track: &Path) -> Option<PathBuf> {
    let track = std::path::absolute(track).ok()?;
    if track.is_file() { track.parent().map(Path::to_owned) } else { Some(track) }
}

/// Hosts by cluster; a mere list is the cluster `default`.
fn target_hosts(text: &str) -> Result<IndexMap<String, Vec<String>>, PlanError> {
    let flag = "--target-hosts";
    if !is_by_cluster(text) {
        let hosts = parse_list(text).map_err(|source| PlanError::Value { flag, source })?;
        return Ok(IndexMap::from([("default".to_owned(), hosts)]));
    }
    let clusters = parse_map(text).map_err(|source| PlanError::Value { flag, source })?;
    let hosts = |(cluster, hosts): (String, Value)| match serde_json::from_value(hosts) {
        Ok(hosts) => Ok((cluster, hosts)),
        Err(_) => Err(PlanError::Cluster { flag, cluster, expected: "an array of hosts, each as text" }),
    };
    clusters.into_iter().map(hosts).collect()
}

/// Client options by cluster; mere pairs are for `default`, and complete Rally's defaults.
fn client_options(
    text: Option<&str>,
    hosts: &IndexMap<String, Vec<String>>,
) -> Result<IndexMap<String, JsonObject>, PlanError> {
    let flag = "--client-options";
    let defaults = || JsonObject::from_iter([("timeout".to_owned(), json!(60))]);
    let options: IndexMap<String, JsonObject> = match text {
        None => hosts.keys().map(|cluster| (cluster.clone(), defaults())).collect(),
        Some(text) => {
            let given = parse_map(text).map_err(|source| PlanError::Value { flag, source })?;
            if is_by_cluster(text) {
                let options = |(cluster, options)| match options {
                    Value::Object(options) => Ok((cluster, options)),
                    _ => Err(PlanError::Cluster { flag, cluster, expected: "an object of options" }),
                };
                given.into_iter().map(options).collect::<Result<_, _>>()?
            } else {
                let mut options = defaults();
                options.extend(given);
                IndexMap::from([("default".to_owned(), options)])
            }
        }
    };
    if hosts.len() != options.len() || hosts.keys().any(|cluster| !options.contains_key(cluster)) {
        let names = |names: Vec<&String>| format!("{names:?}");
        return Err(PlanError::Clusters {
            hosts: names(hosts.keys().collect()),
            options: names(options.keys().collect()),
        });
    }
    Ok(options)
}

/// Makes basic authentication of `user:password@` in front of hosts, so that plans can be shown. What the client options
/// say of authentication counts more.
fn take_credentials(hosts: &mut IndexMap<String, Vec<String>>, options: &mut IndexMap<String, JsonObject>) {
    for (cluster, hosts) in hosts {
        let Some(options) = options.get_mut(cluster) else { continue };
        let has_its_own =
            ["basic_auth_user", "basic_auth", "api_key", "bearer_auth"].iter().any(|key| options.contains_key(*key));
        for host in hosts {
            let scheme = host.find("://").map_or(0, |found| found + 3);
            let end = host[scheme..].find('/').map_or(host.len(), |found| scheme + found);
            let Some(at) = host[scheme..end].rfind('@').map(|found| scheme + found) else { continue };
            let (user, password) = host[scheme..at].split_once(':').unwrap_or((&host[scheme..at], ""));
            let decoded = |text: &str| json!(percent_decode_str(text).decode_utf8_lossy());
            if !has_its_own && !options.contains_key("basic_auth_user") {
                options.insert("basic_auth_user".to_owned(), decoded(user));
                options.insert("basic_auth_password".to_owned(), decoded(password));
            }
            host.replace_range(scheme..=at, "");
        }
    }
}

fn is_by_cluster(text: &str) -> bool {
    text.trim_start().starts_with('{') || text.ends_with(".json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_client_options_are_by_cluster() {
        for (hosts, options, expected) in [
            ("a:9200,b", None, json!([{"default": ["a:9200", "b"]}, {"default": {"timeout": 60}}])),
            (
                "a",
                Some("use_ssl:true,timeout:5"),
                json!([{"default": ["a"]}, {"default": {"timeout": 5, "use_ssl": true}}]),
            ),
            (
                r#"{"x": ["a"], "y": ["b"]}"#,
                None,
                json!([{"x": ["a"], "y": ["b"]}, {"x": {"timeout": 60}, "y": {"timeout": 60}}]),
            ),
            (r#"{"x": ["a"]}"#, Some(r#"{"x": {"retries": 1}}"#), json!([{"x": ["a"]}, {"x": {"retries": 1}}])),
        ] {
            let hosts = target_hosts(hosts).unwrap();
            let options = client_options(options, &hosts).unwrap();
            assert_eq!(json!([hosts, options]), expected);
        }
    }

    #[test]
    fn a_user_in_front_of_a_host_becomes_basic_authentication_and_is_shown_nowhere() {
        for (hosts, given, host, options) in [
            (
                "https://me:p%40ss@es:9200/x",
                None,
                "https://es:9200/x",
                json!({"timeout": 60, "basic_auth_user": "me", "basic_auth_password": "p@ss"}),
            ),
            ("me:a:b@es", None, "es", json!({"timeout": 60, "basic_auth_user": "me", "basic_auth_password": "a:b"})),
            ("me:x@es", Some("api_key:k"), "es", json!({"timeout": 60, "api_key": "k"})),
            ("http://es/a@b", None, "http://es/a@b", json!({"timeout": 60})),
        ] {
            let mut hosts = target_hosts(hosts).unwrap();
            let mut found = client_options(given, &hosts).unwrap();
            take_credentials(&mut hosts, &mut found);
            assert_eq!((hosts["default"][0].as_str(), json!(found["default"])), (host, options));
        }
    }

    #[test]
    fn clusters_that_do_not_fit_together_are_refused() {
        let hosts = target_hosts(r#"{"x": ["a"], "y": ["b"]}"#).unwrap();
        for (options, expected) in [
            ("timeout:3", r#"names the clusters ["x", "y"], and --client-options names ["default"]"#),
            (r#"{"x": {}}"#, r#"names ["x"]"#),
            (r#"{"x": 3, "y": {}}"#, "--client-options: cluster `x` must have an object of options"),
        ] {
            let error = client_options(Some(options), &hosts).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let error = target_hosts(r#"{"x": "a"}"#).unwrap_err().to_string();
        assert_eq!(error, "--target-hosts: cluster `x` must have an array of hosts, each as text");
    }
}
