//! Every section and key of `rally.ini` that Rally knows, with the values that are allowed.

use crate::address::HostPort;
use crate::duration::parse_duration;

/// What may stand in a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Boolean,
    /// A whole number, zero included.
    Count,
    /// A decimal number.
    Number,
    /// A port from 1 to 65535.
    Port,
    Duration,
    /// An address or a host name without a port.
    Host,
    /// An address or a host name, perhaps with a port.
    HostPort,
    /// The version of the file's layout.
    Version,
}

/// The version of the layout of `rally.ini`, current and earliest supported alike.
const VERSION: &str = "17";

impl Kind {
    /// Whether `value` is allowed.
    pub(crate) fn allows(self, value: &str) -> bool {
        match self {
            Self::Text => true,
            Self::Boolean => {
                const WORDS: [&str; 12] = ["true", "false", "yes", "no", "on", "off", "t", "f", "y", "n", "1", "0"];
                WORDS.contains(&&*value.to_lowercase())
            }
            Self::Count => value.parse::<u64>().is_ok(),
            Self::Number => value.parse::<f64>().is_ok_and(f64::is_finite),
            Self::Port => value.parse::<u16>().is_ok_and(|port| port != 0),
            Self::Duration => parse_duration(value).is_ok(),
            Self::Host => value.parse::<HostPort>().is_ok_and(|host| host.port().is_none()),
            Self::HostPort => value.parse::<HostPort>().is_ok(),
            Self::Version => value == VERSION,
        }
    }

    /// What is allowed, to follow "expected:".
    pub(crate) fn expected(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Boolean => "`true` or `false`",
            Self::Count => "a whole number",
            Self::Number => "a number",
            Self::Port => "a port from 1 to 65535",
            Self::Duration => "a number with a unit, such as `10s`, `24h` or `30d`",
            Self::Host => "an IP address or a host name",
            Self::HostPort => "an IP address or a host name, perhaps with a port (`10.0.0.1:1901`, `[::1]:1901`)",
            Self::Version => "17, the only version there is",
        }
    }
}

/// A key that Rally knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) section: &'static str,
    /// A `*` stands for any text that is not empty, such as the name of a track repository.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Known to Rally's users, but nothing here depends on it.
    pub(crate) idle: bool,
    /// Must not be shown.
    pub(crate) secret: bool,
}

const fn key(section: &'static str, name: &'static str, kind: Kind) -> Key {
    Key { section, name, kind, idle: false, secret: false }
}

const fn idle(section: &'static str, name: &'static str) -> Key {
    Key { section, name, kind: Kind::Text, idle: true, secret: false }
}

const fn secret(section: &'static str, name: &'static str) -> Key {
    Key { section, name, kind: Kind::Text, idle: false, secret: true }
}

/// All known keys. A key with a `*` stands after the plain ones of its section.
pub(crate) const KEYS: &[Key] = &[
    key("meta", "config.version", Kind::Version),
    key("cluster", "node.ip", Kind::Host),
    key("cluster", "coordinator.ip", Kind::HostPort),
    key("cluster", "port", Kind::Port),
    secret("cluster", "join.token"),
    key("cluster", "certificate.lifetime", Kind::Duration),
    key("system", "env.name", Kind::Text),
    key("system", "available.cores", Kind::Count),
    idle("system", "async.debug"),
    key("system", "passenv", Kind::Text),
    idle("actor", "actor.process.startup.method"),
    key("node", "root.dir", Kind::Text),
    key("node", "src.root.dir", Kind::Text),
    key("source", "remote.repo.url", Kind::Text),
    key("source", "elasticsearch.src.subdir", Kind::Text),
    key("source", "cache", Kind::Boolean),
    key("source", "cache.days", Kind::Count),
    key("source", "plugin.*.remote.repo.url", Kind::Text),
    key("source", "plugin.*.src.subdir", Kind::Text),
    key("source", "plugin.*.src.dir", Kind::Text),
    key("source", "plugin.*.build.command", Kind::Text),
    key("source", "plugin.*.build.artifact.subdir", Kind::Text),
    key("benchmarks", "local.dataset.cache", Kind::Text),
    key("reporting", "datastore.type", Kind::Text),
    key("reporting", "datastore.host", Kind::Text),
    key("reporting", "datastore.port", Kind::Port),
    key("reporting", "datastore.secure", Kind::Boolean),
    key("reporting", "datastore.user", Kind::Text),
    secret("reporting", "datastore.password"),
    secret("reporting", "datastore.api_key"),
    key("reporting", "datastore.ssl.verification_mode", Kind::Text),
    key("reporting", "datastore.ssl.certificate_authorities", Kind::Text),
    key("reporting", "datastore.probe.cluster_version", Kind::Boolean),
    key("reporting", "datastore.use_data_streams", Kind::Boolean),
    key("reporting", "datastore.number_of_shards", Kind::Count),
    key("reporting", "datastore.number_of_replicas", Kind::Count),
    key("reporting", "datastore.overwrite_existing_templates", Kind::Boolean),
    key("reporting", "sample.queue.size", Kind::Count),
    key("reporting", "metrics.request.downsample.factor", Kind::Count),
    key("reporting", "output.processingtime", Kind::Boolean),
    key("tracks", "*.url", Kind::Text),
    key("teams", "*.url", Kind::Text),
    key("defaults", "preserve_benchmark_candidate", Kind::Boolean),
    key("distributions", "*.cache", Kind::Boolean),
    // Cars may refer to variables of their own here.
    key("distributions", "*", Kind::Text),
    key("driver", "serverless.mode", Kind::Boolean),
    key("driver", "serverless.operator", Kind::Boolean),
    key("track", "track.downloader.multipart_enabled", Kind::Boolean),
    idle("storage", "storage.adapters"),
    key("storage", "storage.base_url", Kind::Text),
    key("storage", "storage.local_dir", Kind::Text),
    key("storage", "storage.mirror_files", Kind::Text),
    key("storage", "storage.cache_ttl", Kind::Number),
    key("storage", "storage.chunk_size", Kind::Count),
    key("storage", "storage.max_connections", Kind::Count),
    idle("storage", "storage.max_workers"),
    idle("storage", "storage.monitor_interval"),
    key("storage", "storage.multipart_size", Kind::Count),
    idle("storage", "storage.random_seed"),
    key("storage", "storage.http.connect_timeout", Kind::Number),
    key("storage", "storage.http.read_timeout", Kind::Number),
    key("storage", "storage.http.max_retries", Kind::Count),
    key("storage", "storage.aws.profile", Kind::Text),
    secret("storage", "storage.gc.auth_token"),
];

/// The environment variables of the keys that have one.
pub(crate) const ENVIRONMENT: &[(&str, &str, &str)] = &[
    ("RALLY_NODE_IP", "cluster", "node.ip"),
    ("RALLY_COORDINATOR_IP", "cluster", "coordinator.ip"),
    ("RALLY_PORT", "cluster", "port"),
    ("RALLY_TOKEN", "cluster", "join.token"),
    ("RALLY_CERTIFICATE_LIFETIME", "cluster", "certificate.lifetime"),
    ("RALLY_REPORTING_DATASTORE_API_KEY", "reporting", "datastore.api_key"),
    ("RALLY_REPORTING_DATASTORE_USER", "reporting", "datastore.user"),
    ("RALLY_REPORTING_DATASTORE_PASSWORD", "reporting", "datastore.password"),
    ("RALLY_STORAGE_LOCAL_DIR", "storage", "storage.local_dir"),
    ("RALLY_STORAGE_MIRROR_FILES", "storage", "storage.mirror_files"),
];

/// The known key that `name` in `section` is, if any.
pub(crate) fn find(section: &str, name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.section == section && matches(key.name, name))
}

/// Whether `section` is known at all.
pub(crate) fn is_section(section: &str) -> bool {
    KEYS.iter().any(|key| key.section == section)
}

/// The known section that an unknown one was perhaps meant to be.
pub(crate) fn similar_section(section: &str) -> Option<&'static str> {
    similar(section, KEYS.iter().map(|key| key.section))
}

/// The known key of `section` that an unknown one was perhaps meant to be.
pub(crate) fn similar_key(section: &str, name: &str) -> Option<&'static str> {
    similar(name, KEYS.iter().filter(|key| key.section == section && !key.name.contains('*')).map(|key| key.name))
}

fn similar(given: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    /// How alike two words have to be, from 0 to 1; what clap uses for its own suggestions.
    const THRESHOLD: f64 = 0.7;
    let scored = known.map(|known| (strsim::jaro(given, known), known)).filter(|(score, _)| *score > THRESHOLD);
    scored.max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, known)| known)
}

/// Whether `name` is `pattern`, in which one `*` stands for any text that is not empty.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, end)) => name.len() > start.len() + end.len() && name.starts_with(start) && name.ends_with(end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_by_name_and_by_pattern() {
        let kind = |section, name| find(section, name).map(|key| key.kind);
        assert_eq!(kind("cluster", "port"), Some(Kind::Port));
        assert_eq!(kind("tracks", "default.url"), Some(Kind::Text));
        assert_eq!(kind("distributions", "release.cache"), Some(Kind::Boolean));
        assert_eq!(kind("distributions", "release.url"), Some(Kind::Text));
        assert_eq!(kind("source", "plugin.x-pack.src.dir"), Some(Kind::Text));
        assert_eq!(kind("tracks", ".url"), None);
        assert_eq!(kind("cluster", "prot"), None);
        assert_eq!((similar_section("clutser"), similar_key("cluster", "prot")), (Some("cluster"), Some("port")));
        assert_eq!(similar_key("cluster", "zzz"), None);
    }

    #[test]
    fn every_environment_variable_belongs_to_a_key() {
        for (variable, section, name) in ENVIRONMENT {
            assert!(find(section, name).is_some(), "{variable}");
        }
    }

    #[test]
    fn values_are_checked_by_kind() {
        for (kind, good, bad) in [
            (Kind::Boolean, "True", "maybe"),
            (Kind::Count, "0", "-1"),
            (Kind::Number, "1.5", "x"),
            (Kind::Port, "1900", "0"),
            (Kind::Port, "65535", "65536"),
            (Kind::Duration, "30d", "30"),
            (Kind::Host, "db1", "db1:1900"),
            (Kind::HostPort, "db1:1900", "db1:"),
            (Kind::Version, "17", "16"),
        ] {
            assert!(kind.allows(good), "{kind:?} {good}");
            assert!(!kind.allows(bad), "{kind:?} {bad}");
        }
    }
}
