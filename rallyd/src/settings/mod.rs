//! Settings: flags over environment over `rally.ini` over defaults.
//!
//! All four are layers of the `config` crate. A layer holds text by section and key, and remembers where each value
//! came from, so that a bad value is reported with its file and line or its variable. `rally.ini` is optional and never
//! written: everything has a default, and the file belongs to the user.

mod ini;
mod keys;
mod layer;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::Config;
use serde::{Deserialize, Deserializer};

use crate::address::HostPort;
use crate::duration::parse_duration;
use crate::secret::Secret;

pub use ini::{IniError, IniProblem};
pub use layer::Flags;

use ini::Ini;
use layer::Layer;

/// The UDP port of a daemon unless it is told otherwise.
pub const DEFAULT_PORT: u16 = 1900;

/// Everything that can be set.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Settings {
    /// Section `[cluster]`.
    pub cluster: ClusterSettings,
    /// Section `[node]`.
    #[serde(default)]
    pub node: NodeSettings,
    /// Section `[benchmarks]`.
    #[serde(default)]
    pub benchmarks: BenchmarksSettings,
    /// Section `[system]`.
    #[serde(default)]
    pub system: SystemSettings,
    /// Section `[reporting]`.
    #[serde(default)]
    pub reporting: ReportingSettings,
    /// Section `[tracks]`: the URL of each track repository, under `NAME.url`.
    #[serde(default)]
    pub tracks: BTreeMap<String, String>,
}

/// Section `[node]`: where Rally keeps what it works with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct NodeSettings {
    /// `root.dir`: tracks, data, distributions and races; `benchmarks` in Rally's directory by default.
    #[serde(rename = "root.dir", default)]
    pub root_dir: Option<PathBuf>,
}

/// Section `[benchmarks]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct BenchmarksSettings {
    /// `local.dataset.cache`: where load drivers keep corpora; `data` in [`Settings::root`] by default.
    #[serde(rename = "local.dataset.cache", default)]
    pub dataset_cache: Option<PathBuf>,
}

/// Section `[system]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct SystemSettings {
    /// `env.name`: stored with every race; `local` by default.
    #[serde(rename = "env.name", default)]
    pub env_name: Option<String>,
}

/// Section `[reporting]`: the summary report and where results go.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ReportingSettings {
    /// `output.processingtime`: whether reports have processing times.
    #[serde(rename = "output.processingtime", deserialize_with = "boolean")]
    pub output_processing_time: bool,
    /// `datastore.type`: `elasticsearch` sends every race there; anything else keeps it in the archive alone.
    #[serde(rename = "datastore.type")]
    pub datastore_type: Option<String>,
    /// `datastore.host`: one host, or several with commas in between.
    #[serde(rename = "datastore.host")]
    pub datastore_host: Option<String>,
    /// `datastore.port`, 9200 by default.
    #[serde(rename = "datastore.port")]
    pub datastore_port: Option<String>,
    /// `datastore.secure`: whether to use TLS.
    #[serde(rename = "datastore.secure", deserialize_with = "boolean")]
    pub datastore_secure: bool,
    /// `datastore.user`.
    #[serde(rename = "datastore.user")]
    pub datastore_user: Option<String>,
    /// `datastore.password`.
    #[serde(rename = "datastore.password")]
    pub datastore_password: Option<Secret>,
    /// `datastore.api_key`.
    #[serde(rename = "datastore.api_key")]
    pub datastore_api_key: Option<Secret>,
    /// `datastore.ssl.verification_mode`: `full`, or `none` to trust every certificate.
    #[serde(rename = "datastore.ssl.verification_mode")]
    pub datastore_verification_mode: Option<String>,
    /// `datastore.ssl.certificate_authorities`: a file of certificates.
    #[serde(rename = "datastore.ssl.certificate_authorities")]
    pub datastore_certificate_authorities: Option<String>,
    /// `datastore.use_data_streams`, true by default; otherwise there is an index for each month.
    #[serde(rename = "datastore.use_data_streams", deserialize_with = "boolean")]
    pub datastore_use_data_streams: bool,
    /// `datastore.number_of_shards` of indices by month.
    #[serde(rename = "datastore.number_of_shards", deserialize_with = "count")]
    pub datastore_number_of_shards: Option<u64>,
    /// `datastore.number_of_replicas` of indices by month.
    #[serde(rename = "datastore.number_of_replicas", deserialize_with = "count")]
    pub datastore_number_of_replicas: Option<u64>,
    /// `datastore.overwrite_existing_templates`: whether templates that differ are replaced.
    #[serde(rename = "datastore.overwrite_existing_templates", deserialize_with = "boolean")]
    pub datastore_overwrite_existing_templates: bool,
    /// `metrics.request.downsample.factor`: every so many samples become records, 1 by default; 0 keeps them in the
    /// archive alone.
    #[serde(rename = "metrics.request.downsample.factor", deserialize_with = "count")]
    pub downsample_factor: Option<u64>,
}

impl Default for ReportingSettings {
    fn default() -> Self {
        Self {
            output_processing_time: false,
            datastore_type: None,
            datastore_host: None,
            datastore_port: None,
            datastore_secure: false,
            datastore_user: None,
            datastore_password: None,
            datastore_api_key: None,
            datastore_verification_mode: None,
            datastore_certificate_authorities: None,
            datastore_use_data_streams: true,
            datastore_number_of_shards: None,
            datastore_number_of_replicas: None,
            datastore_overwrite_existing_templates: false,
            downsample_factor: None,
        }
    }
}

/// Section `[cluster]`: where this host is and whom it follows.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ClusterSettings {
    /// `node.ip`: this host; by default the address from which packets to the coordinator leave.
    #[serde(rename = "node.ip", default, deserialize_with = "host_port")]
    pub node_ip: Option<HostPort>,
    /// `coordinator.ip`: the coordinator, with its port if that is not `port`. There is no default.
    #[serde(rename = "coordinator.ip", default, deserialize_with = "host_port")]
    pub coordinator_ip: Option<HostPort>,
    /// `port`: the UDP port, [`DEFAULT_PORT`] by default.
    pub port: u16,
    /// `join.token`: the join string, needed only to join a cluster for the first time and from another machine.
    #[serde(rename = "join.token", default)]
    pub join_token: Option<Secret>,
    /// `certificate.lifetime`: how long the certificates are valid that a coordinator gives to its members.
    #[serde(rename = "certificate.lifetime", default, deserialize_with = "duration")]
    pub certificate_lifetime: Option<Duration>,
}

/// The settings could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The file is there but cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is not an INI file.
    #[error("{} is not well-formed", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        #[source]
        source: IniError,
    },
    /// A value is not of the right kind.
    #[error("`{key}` in [{section}] is `{value}` ({origin}); expected: {expected}")]
    Value {
        /// Where the value stands.
        origin: Origin,
        /// The section.
        section: String,
        /// The key.
        key: String,
        /// The value, hidden if it is a secret.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
    /// An environment variable is not valid Unicode.
    #[error("the environment variable {0} is not valid UTF-8")]
    NotUnicode(&'static str),
    /// The layers do not fit together.
    #[error("the settings do not fit together")]
    Combine(#[from] config::ConfigError),
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A flag of the command line.
    Flag(&'static str),
    /// An environment variable.
    Variable(&'static str),
    /// A line of a file.
    File {
        /// The file.
        path: PathBuf,
        /// Counted from one.
        line: usize,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => f.write_str(flag),
            Self::Variable(variable) => write!(f, "environment variable {variable}"),
            Self::File { path, line } => write!(f, "{}, line {line}", path.display()),
        }
    }
}

/// Something about the settings that the user should know, though it stops nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// It changes nothing; good to know.
    Info(String),
    /// It is probably not what was meant.
    Warning(String),
}

impl Settings {
    /// Resolves the settings from `flags`, `environment` (a look-up such as [`std::env::var_os`]) and the file
    /// `rally.ini` in `rally_directory`, if it exists.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or understood, or any value in it, in the environment or in a flag is not of the
    /// right kind, also one that another layer covers.
    pub fn load(
        rally_directory: &Path,
        environment: impl Fn(&str) -> Option<OsString>,
        flags: &Flags,
    ) -> Result<(Self, Vec<Notice>), SettingsError> {
        let (file, notices) = read_file(&rally_directory.join("rally.ini"), rally_directory)?;
        let settings = Config::builder()
            .set_default("cluster.port", DEFAULT_PORT)?
            .add_source(file)
            .add_source(Layer::from_environment(environment)?)
            .add_source(Layer::from_flags(flags)?)
            .build()?
            .try_deserialize()?;
        Ok((settings, notices))
    }

    /// Where tracks, data and races are kept: `root.dir`, or else `benchmarks` in Rally's directory.
    #[must_use]
    pub fn root(&self, rally_directory: &Path) -> PathBuf {
        self.node.root_dir.clone().unwrap_or_else(|| rally_directory.join("benchmarks"))
    }

    /// Where load drivers keep corpora.
    #[must_use]
    pub fn data_dir(&self, rally_directory: &Path) -> PathBuf {
        self.benchmarks.dataset_cache.clone().unwrap_or_else(|| self.root(rally_directory).join("data"))
    }
}

/// The directory of everything that belongs to this user's Rally: `$RALLY_HOME/.rally`, by default `~/.rally`.
///
/// `None` if neither variable is set, or only to nothing.
pub fn rally_directory(environment: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let home = ["RALLY_HOME", "HOME"].into_iter().filter_map(environment).find(|home| !home.is_empty())?;
    Some(PathBuf::from(home).join(".rally"))
}

fn read_file(path: &Path, rally_directory: &Path) -> Result<(Layer, Vec<Notice>), SettingsError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Layer::default(), Vec::new())),
        Err(source) => return Err(SettingsError::Read { path: path.to_owned(), source }),
    };
    let ini =
        Ini::parse(&text, rally_directory).map_err(|source| SettingsError::Syntax { path: path.to_owned(), source })?;
    let (layer, mut notices) = Layer::from_ini(path, ini)?;
    if layer.contains("cluster", "join.token") && others_can_read(path) {
        let path = path.display();
        notices
            .push(Notice::Warning(format!("{path} holds a join token and others can read it; run `chmod 600 {path}`")));
    }
    Ok((layer, notices))
}

fn others_can_read(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}

/// Values are checked before they are combined, so these two never see a bad one in practice.
fn host_port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<HostPort>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(serde::de::Error::custom)
}

fn boolean<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    let text = String::deserialize(deserializer)?.to_lowercase();
    Ok(["true", "yes", "on", "t", "y", "1"].contains(&&*text))
}

fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    String::deserialize(deserializer)?.parse().map(Some).map_err(serde::de::Error::custom)
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text).map(Some).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests;
