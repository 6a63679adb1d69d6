//! The keys `datastore.*` of section `[reporting]`.

use std::path::PathBuf;

use crate::secret::Secret;
use crate::settings::ReportingSettings;

/// The port of a store that does not say so.
const DEFAULT_PORT: &str = "9200";

/// How to reach an Elasticsearch metrics store, and how it keeps records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// Hosts as URLs.
    pub hosts: Vec<String>,
    /// How to authenticate.
    pub credentials: Option<StoreCredentials>,
    /// Whether certificates are checked.
    pub verify_certificates: bool,
    /// A PEM file with authorities to trust in place of those of the system.
    pub certificate_authorities: Option<PathBuf>,
    /// Whether records go to data streams; otherwise there is an index for each month.
    pub use_data_streams: bool,
    /// Shards of the indices by month.
    pub number_of_shards: Option<u64>,
    /// Replicas of the indices by month.
    pub number_of_replicas: Option<u64>,
    /// Whether templates and policies that are there are replaced.
    pub overwrite_existing_templates: bool,
    /// Every so many requests become records; none if it is 0.
    pub downsample_factor: u64,
}

/// How to authenticate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreCredentials {
    /// A user with a password.
    User {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
    /// An API key, encoded.
    ApiKey(Secret),
}

/// The settings of the store do not fit together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("section [reporting] of rally.ini: {0}")]
pub struct InvalidStoreSettings(String);

impl StoreSettings {
    /// The store that the settings name; none if races are kept in the archive alone.
    ///
    /// # Errors
    ///
    /// [`InvalidStoreSettings`] if the host is missing, or credentials do not fit together.
    pub fn new(reporting: &ReportingSettings) -> Result<Option<Self>, InvalidStoreSettings> {
        if reporting.datastore_type.as_deref() != Some("elasticsearch") {
            return Ok(None);
        }
        let wrong = |text: &str| InvalidStoreSettings(text.to_owned());
        let hosts = reporting.datastore_host.as_deref().unwrap_or_default();
        let port = reporting.datastore_port.as_deref().unwrap_or(DEFAULT_PORT);
        let scheme = if reporting.datastore_secure { "https" } else { "http" };
        let url = |host: &str| match host {
            url if url.contains("://") => url.to_owned(),
            // An IPv6 address has colons of its own.
            host if host.contains(':') && !host.ends_with(']') => format!("{scheme}://{host}"),
            host => format!("{scheme}://{host}:{port}"),
        };
        let hosts: Vec<String> = hosts.split(',').map(str::trim).filter(|host| !host.is_empty()).map(url).collect();
        if hosts.is_empty() {
            return Err(wrong("`datastore.type = elasticsearch` needs `datastore.host`"));
        }
        let credentials = match (&reporting.datastore_user, &reporting.datastore_password, &reporting.datastore_api_key)
        {
            (None, None, None) => None,
            (None, None, Some(key)) => Some(StoreCredentials::ApiKey(key.clone())),
            (Some(user), Some(password), None) => {
                Some(StoreCredentials::User { user: user.clone(), password: password.clone() })
            }
            (_, _, Some(_)) => {
                return Err(wrong("`datastore.api_key` and `datastore.user` exclude each other; remove one"));
            }
            (Some(_), None, None) => return Err(wrong("`datastore.user` needs `datastore.password`")),
            (None, Some(_), None) => return Err(wrong("`datastore.password` needs `datastore.user`")),
        };
        let verify_certificates = match reporting.datastore_verification_mode.as_deref() {
            None | Some("full") => true,
            Some("none") => false,
            Some(_) => return Err(wrong("`datastore.ssl.verification_mode` must be `full` or `none`")),
        };
        if reporting.datastore_number_of_shards == Some(0) {
            return Err(wrong("`datastore.number_of_shards` must be 1 or more"));
        }
        Ok(Some(Self {
            hosts,
            credentials,
            verify_certificates,
            certificate_authorities: reporting.datastore_certificate_authorities.as_ref().map(PathBuf::from),
            use_data_streams: reporting.datastore_use_data_streams,
            number_of_shards: reporting.datastore_number_of_shards,
            number_of_replicas: reporting.datastore_number_of_replicas,
            overwrite_existing_templates: reporting.datastore_overwrite_existing_templates,
            downsample_factor: reporting.downsample_factor.unwrap_or(1),
        }))
    }

    /// What sentences call the store.
    #[must_use]
    pub fn place(&self) -> String {
        format!("the metrics store at {}", self.hosts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reporting() -> ReportingSettings {
        ReportingSettings {
            datastore_type: Some("elasticsearch".to_owned()),
            datastore_host: Some("10.0.0.9, es2:9201".to_owned()),
            ..ReportingSettings::default()
        }
    }

    #[test]
    fn hosts_are_urls_and_only_elasticsearch_is_a_store() {
        let settings = StoreSettings::new(&reporting()).unwrap().unwrap();
        assert_eq!(settings.hosts, ["http://10.0.0.9:9200", "http://es2:9201"]);
        let secure = ReportingSettings {
            datastore_secure: true,
            datastore_port: Some("443".to_owned()),
            datastore_host: Some("es".to_owned()),
            ..reporting()
        };
        assert_eq!(StoreSettings::new(&secure).unwrap().unwrap().hosts, ["https://es:443"]);
        let memory = ReportingSettings { datastore_type: Some("in-memory".to_owned()), ..reporting() };
        assert_eq!(StoreSettings::new(&memory), Ok(None));
    }

    #[test]
    fn settings_that_do_not_fit_together_are_refused() {
        let secret = || Some(Secret::new("s3cret"));
        for (reporting, expected) in [
            (ReportingSettings { datastore_host: None, ..reporting() }, "needs `datastore.host`"),
            (ReportingSettings { datastore_user: Some("u".into()), ..reporting() }, "needs `datastore.password`"),
            (ReportingSettings { datastore_password: secret(), ..reporting() }, "needs `datastore.user`"),
            (
                ReportingSettings {
                    datastore_user: Some("u".into()),
                    datastore_password: secret(),
                    datastore_api_key: secret(),
                    ..reporting()
                },
                "exclude each other",
            ),
            (
                ReportingSettings { datastore_verification_mode: Some("some".into()), ..reporting() },
                "must be `full` or `none`",
            ),
            (ReportingSettings { datastore_number_of_shards: Some(0), ..reporting() }, "must be 1 or more"),
        ] {
            let error = StoreSettings::new(&reporting).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains("s3cret"), "{error}");
        }
    }
}
