//! What `--client-options` says of one cluster.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rally_core::track::JsonObject;
use serde_json::Value;

/// How long a request may take unless options or the operation say otherwise.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Statuses that say that the same request may well succeed if it is sent again.
const WORTH_A_RETRY: [u16; 4] = [429, 502, 503, 504];

/// Options of Rally and of the Python client that have nothing to do here, because connections work in another way: each
/// client has as many as it needs, and takes the hosts in turn.
const WITHOUT_EFFECT: [&str; 7] = [
    "enable_cleanup_closed",
    "max_connections",
    "connections_per_node",
    "maxsize",
    "meta_header",
    "randomize_nodes_in_pool",
    "ssl_show_warn",
];

/// Options of the Python client that would change what is measured or who is trusted, so that they are not passed over.
const REFUSED: [(&str, &str); 7] = [
    ("ssl_assert_fingerprint", "name the certificate's authority in `ca_certs`"),
    ("ssl_version", "TLS 1.2 and 1.3 are spoken"),
    ("ssl_context", "use `ca_certs`, `client_cert`, `client_key` and `verify_certs`"),
    ("cloud_id", "name the hosts in `--target-hosts`"),
    ("node_class", "there is only one kind of connection"),
    ("node_selector_class", "hosts take turns"),
    ("serializer", "bodies are sent as they are"),
];

/// Options of the clients of one cluster.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// How long a request may take unless it says itself: `timeout` or `request_timeout` in seconds, 60 by default.
    pub timeout: Duration,
    /// `use_ssl`: whether hosts that do not say so are spoken to over TLS. False by default.
    pub use_ssl: bool,
    /// `verify_certs`: whether the certificate and the name of a host are checked. True by default.
    pub verify_certs: bool,
    /// `ca_certs`: a PEM file with the authorities to trust, in place of those of the system.
    pub ca_certs: Option<PathBuf>,
    /// `client_cert` and `client_key`: PEM files with our own certificate and its key.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    /// `ssl_assert_hostname`: whether the name of a host is checked against its certificate. True by default.
    pub verify_hostname: bool,
    /// How to authenticate.
    pub authorization: Option<Authorization>,
    /// `create_api_key_per_client`: whether every simulated client gets an API key of its own, for which basic
    /// authentication is needed. False by default.
    pub create_api_key_per_client: bool,
    /// `http_compress`: whether bodies are sent and wanted compressed with gzip. False by default.
    pub http_compress: bool,
    /// `headers`: sent with every request.
    pub headers: Vec<(String, String)>,
    /// `max_retries`: how often a request is sent again after one of these statuses or a broken connection. 3 by default.
    pub max_retries: u32,
    /// `retry_on_status`: 429, 502, 503 and 504 by default.
    pub retry_on_status: Vec<u16>,
    /// `retry_on_timeout`: whether a request is also sent again after a timeout. False by default.
    pub retry_on_timeout: bool,
    /// `static_responses`: a JSON file with answers that are given without any network.
    pub static_responses: Option<PathBuf>,
    /// `compressed`: the name that `http_compress` had once; the user should be told.
    pub compressed: bool,
    /// Options that nobody knows; the user should be told.
    pub unknown: Vec<String>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            timeout: TIMEOUT,
            use_ssl: false,
            verify_certs: true,
            ca_certs: None,
            client_certificate: None,
            verify_hostname: true,
            authorization: None,
            create_api_key_per_client: false,
            http_compress: false,
            headers: Vec::new(),
            max_retries: 3,
            retry_on_status: WORTH_A_RETRY.to_vec(),
            retry_on_timeout: false,
            static_responses: None,
            compressed: false,
            unknown: Vec::new(),
        }
    }
}

/// The value of the header `authorization`. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Authorization(String);

impl Authorization {
    /// A user with a password: `basic_auth_user` and `basic_auth_password`.
    #[must_use]
    pub fn basic(user: &str, password: &str) -> Self {
        Self(format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}"))))
    }

    /// An API key as it is encoded by the cluster: `api_key`.
    #[must_use]
    pub fn api_key(encoded: &str) -> Self {
        Self(format!("ApiKey {encoded}"))
    }

    /// The value of the header.
    pub(super) fn header(&self) -> &str {
        &self.0
    }

    /// The option that is wrong if no header may have this value: users, passwords and pairs are encoded.
    pub(super) fn option(&self) -> &'static str {
        if self.0.starts_with("Bearer ") { "bearer_auth" } else { "api_key" }
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authorization(***)")
    }
}

/// A client option makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("client option `{option}`: {problem}")]
pub struct InvalidClientOptions {
    /// The option.
    pub option: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

impl TryFrom<&JsonObject> for ClientOptions {
    type Error = InvalidClientOptions;

    fn try_from(given: &JsonObject) -> Result<Self, Self::Error> {
        let mut options = Self::default();
        let (mut user, mut password, mut certificate, mut key) = (None, None, None, None);
        for (name, value) in given.iter().filter(|(_, value)| !value.is_null()) {
            let wrong = |problem: &str| InvalidClientOptions { option: name.clone(), problem: problem.to_owned() };
            match name.as_str() {
                "timeout" | "request_timeout" => {
                    options.timeout = seconds(value).ok_or_else(|| wrong("a number of seconds above 0 is expected"))?
                }
                "use_ssl" => options.use_ssl = truth(value).ok_or_else(|| wrong("`true` or `false` is expected"))?,
                "verify_certs" => {
                    options.verify_certs = truth(value).ok_or_else(|| wrong("`true` or `false` is expected"))?
                }
                "http_compress" | "compressed" => {
                    options.http_compress = truth(value).ok_or_else(|| wrong("`true` or `false` is expected"))?;
                    options.compressed |= name == "compressed";
                }
                "ssl_assert_hostname" => {
                    options.verify_hostname = truth(value).ok_or_else(|| wrong("`true` or `false` is expected"))?
                }
                "create_api_key_per_client" => {
                    options.create_api_key_per_client =
                        truth(value).ok_or_else(|| wrong("`true` or `false` is expected"))?
                }
                "retry_on_status" => {
                    let statuses = value.as_array().and_then(|statuses| statuses.iter().map(status).collect());
                    options.retry_on_status =
                        statuses.ok_or_else(|| wrong("a list of HTTP statuses is expected, such as `[429, 503]`"))?;
                }
                "retry_on_timeout" => {
                    options.retry_on_timeout = truth(value).ok_or_else(|| wrong("`true` or `false` is expected"))?
                }
                "max_retries" => {
                    let number =
                        value.as_u64().or_else(|| value.as_str()?.parse().ok()).and_then(|n| u32::try_from(n).ok());
                    options.max_retries = number.ok_or_else(|| wrong("a whole number is expected"))?;
                }
                "ca_certs" => options.ca_certs = Some(text(value).ok_or_else(|| wrong("a path is expected"))?.into()),
                "client_cert" => certificate = Some(text(value).ok_or_else(|| wrong("a path is expected"))?),
                "client_key" => key = Some(text(value).ok_or_else(|| wrong("a path is expected"))?),
                "basic_auth_user" => user = Some(text(value).ok_or_else(|| wrong("a text is expected"))?),
                "basic_auth_password" => password = Some(text(value).ok_or_else(|| wrong("a text is expected"))?),
                "basic_auth" | "http_auth" => {
                    let pair = pair(value).ok_or_else(|| wrong("a list of user and password is expected"))?;
                    options.authorization = Some(Authorization::basic(&pair.0, &pair.1));
                }
                "api_key" => {
                    let encoded = match pair(value) {
                        Some((id, key)) => Some(BASE64_STANDARD.encode(format!("{id}:{key}"))),
                        None => text(value),
                    };
                    let encoded =
                        encoded.ok_or_else(|| wrong("an encoded key, or a list of id and key is expected"))?;
                    options.authorization = Some(Authorization::api_key(&encoded));
                }
                "bearer_auth" => {
                    let token = text(value).ok_or_else(|| wrong("a token is expected"))?;
                    options.authorization = Some(Authorization(format!("Bearer {token}")));
                }
                "opaque_id" => {
                    let id = text(value).ok_or_else(|| wrong("a text is expected"))?;
                    options.headers.push(("x-opaque-id".to_owned(), id));
                }
                "headers" => {
                    let headers =
                        value.as_object().ok_or_else(|| wrong("an object with a text for each header is expected"))?;
                    for (header, value) in headers {
                        let value =
                            text(value).ok_or_else(|| wrong("an object with a text for each header is expected"))?;
                        options.headers.push((header.clone(), value));
                    }
                }
                "static_responses" => {
                    options.static_responses = Some(text(value).ok_or_else(|| wrong("a path is expected"))?.into())
                }
                known if WITHOUT_EFFECT.contains(&known) => {}
                // The Python client would ask the cluster for its nodes; only the hosts that were named are used here.
                sniff if sniff.starts_with("sniff_") => {
                    if truth(value) != Some(false) {
                        return Err(wrong("hosts are not looked up in the cluster; name all in `--target-hosts`"));
                    }
                }
                _ if let Some((_, instead)) = REFUSED.iter().find(|(refused, _)| refused == name) => {
                    return Err(wrong(&format!("it is not supported; {instead}")));
                }
                _ => options.unknown.push(name.clone()),
            }
        }
        let incomplete = |option: &str, other: &str| InvalidClientOptions {
            option: option.to_owned(),
            problem: format!("it needs `{other}` beside it"),
        };
        match (user, password) {
            (Some(user), Some(password)) => options.authorization = Some(Authorization::basic(&user, &password)),
            (Some(_), None) => return Err(incomplete("basic_auth_user", "basic_auth_password")),
            (None, Some(_)) => return Err(incomplete("basic_auth_password", "basic_auth_user")),
            (None, None) => {}
        }
        match (certificate, key) {
            (Some(certificate), Some(key)) => options.client_certificate = Some((certificate.into(), key.into())),
            (Some(_), None) => return Err(incomplete("client_cert", "client_key")),
            (None, Some(_)) => return Err(incomplete("client_key", "client_cert")),
            (None, None) => {}
        }
        if options.create_api_key_per_client && given.get("basic_auth_user").is_none_or(Value::is_null) {
            return Err(incomplete("create_api_key_per_client", "basic_auth_user` and `basic_auth_password"));
        }
        Ok(options)
    }
}

impl ClientOptions {
    /// Whether answers are given without any network.
    pub(crate) fn answer_themselves(given: &JsonObject) -> bool {
        given.get("static_responses").is_some_and(|file| !file.is_null())
    }

    /// What the user should know of these options, given whether any host is spoken to over TLS.
    pub(super) fn warnings(&self, has_tls: bool) -> Vec<String> {
        let mut warnings = Vec::new();
        if has_tls && !self.verify_certs {
            warnings.push("certificates are not checked, so anybody could answer in place of the cluster".to_owned());
        }
        let trust = [("ca_certs", self.ca_certs.is_some()), ("client_cert", self.client_certificate.is_some())];
        for (option, _) in trust.iter().filter(|(_, is_given)| *is_given && !has_tls) {
            warnings.push(format!("client option `{option}` has no effect without `use_ssl`"));
        }
        if self.compressed {
            warnings.push("client option `compressed` is called `http_compress` now".to_owned());
        }
        for option in &self.unknown {
            warnings.push(format!("client option `{option}` is unknown and has no effect"));
        }
        warnings
    }
}

fn status(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|status| u16::try_from(status).ok()).filter(|status| (100..600).contains(status))
}

fn seconds(value: &Value) -> Option<Duration> {
    let seconds = value.as_f64().or_else(|| value.as_str()?.parse().ok())?;
    Duration::try_from_secs_f64(seconds).ok().filter(|duration| !duration.is_zero())
}

fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(value) => Some(*value),
        Value::String(text) => text.to_lowercase().parse().ok(),
        _ => None,
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn pair(value: &Value) -> Option<(String, String)> {
    match value.as_array()?.as_slice() {
        [first, second] => Some((text(first)?, text(second)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(options: Value) -> Result<ClientOptions, InvalidClientOptions> {
        ClientOptions::try_from(options.as_object().unwrap())
    }

    #[test]
    fn options_come_as_numbers_or_as_texts() {
        let options = parse(json!({
            "timeout": "2.5", "use_ssl": "true", "verify_certs": false, "basic_auth_user": "rally",
            "basic_auth_password": "secret", "headers": { "x-found": 1 }, "sniff_on_start": false, "magic": true, "retry_on_status": [503],
        }))
        .unwrap();
        assert_eq!(options.timeout, Duration::from_millis(2500));
        assert!(options.use_ssl && !options.verify_certs);
        assert_eq!(options.authorization.as_ref().unwrap().header(), "Basic cmFsbHk6c2VjcmV0");
        assert_eq!(options.headers, [("x-found".to_owned(), "1".to_owned())]);
        assert_eq!(
            (options.unknown.as_slice(), options.retry_on_status.as_slice()),
            (&["magic".to_owned()][..], &[503][..])
        );
        assert!(!format!("{options:?}").contains("cmFsbHk6c2VjcmV0"), "secrets are not shown");
        assert_eq!(parse(json!({})).unwrap().timeout, TIMEOUT);
        let null = parse(
            json!({ "timeout": null, "ca_certs": null, "use_ssl": null, "basic_auth_user": null, "magic": null }),
        );
        let null = null.unwrap();
        assert_eq!((null.timeout, null.unknown, null.authorization), (TIMEOUT, Vec::new(), None));
        let key = parse(json!({ "api_key": ["id", "key"] })).unwrap().authorization.unwrap();
        assert_eq!(key.header(), "ApiKey aWQ6a2V5");
    }

    #[test]
    fn options_that_make_no_sense_are_named() {
        for (options, expected) in [
            (
                json!({ "sniff_on_start": true }),
                "client option `sniff_on_start`: hosts are not looked up in the cluster; name all in `--target-hosts`",
            ),
            (
                json!({ "ssl_version": "x" }),
                "client option `ssl_version`: it is not supported; TLS 1.2 and 1.3 are spoken",
            ),
            (
                json!({ "create_api_key_per_client": true, "api_key": "x" }),
                "client option `create_api_key_per_client`: it needs `basic_auth_user` and `basic_auth_password` beside it",
            ),
            (json!({ "timeout": 0 }), "client option `timeout`: a number of seconds above 0 is expected"),
            (json!({ "use_ssl": "maybe" }), "client option `use_ssl`: `true` or `false` is expected"),
            (json!({ "client_cert": "c.pem" }), "client option `client_cert`: it needs `client_key` beside it"),
            (
                json!({ "basic_auth_password": "x" }),
                "client option `basic_auth_password`: it needs `basic_auth_user` beside it",
            ),
        ] {
            assert_eq!(parse(options).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn the_user_is_told_of_what_is_dangerous_or_has_no_effect() {
        for (options, has_tls, expected) in [
            (json!({ "verify_certs": false }), true, "certificates are not checked"),
            (json!({ "ca_certs": "ca.pem" }), false, "client option `ca_certs` has no effect without `use_ssl`"),
            (json!({ "compressed": true }), false, "`compressed` is called `http_compress` now"),
            (json!({ "magic": 1 }), false, "client option `magic` is unknown"),
        ] {
            let warnings = parse(options).unwrap().warnings(has_tls);
            assert!(matches!(&warnings[..], [warning] if warning.contains(expected)), "{warnings:?}");
        }
        assert_eq!(parse(json!({ "verify_certs": false, "max_connections": 1 })).unwrap().warnings(false), [""; 0]);
    }
}
