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

/// Options that clients of Elasticsearch have in other languages and that change nothing here.
const WITHOUT_EFFECT: [&str; 3] = ["compressed", "enable_cleanup_closed", "max_connections"];

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
    /// How to authenticate.
    pub authorization: Option<Authorization>,
    /// `http_compress`: whether bodies are sent and wanted compressed with gzip. False by default.
    pub http_compress: bool,
    /// `headers`: sent with every request.
    pub headers: Vec<(String, String)>,
    /// `max_retries`: how often a request is sent again after a status 429, 502, 503 or 504 or a broken connection. 3 by
    /// default.
    pub max_retries: u32,
    /// `retry_on_timeout`: whether a request is also sent again after a timeout. False by default.
    pub retry_on_timeout: bool,
    /// `static_responses`: a JSON file with answers that are given without any network.
    pub static_responses: Option<PathBuf>,
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
            authorization: None,
            http_compress: false,
            headers: Vec::new(),
            max_retries: 3,
            retry_on_timeout: false,
            static_responses: None,
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
        for (name, value) in given {
            let wrong = |problem: &str| InvalidClientOptions { option: name.clone(), problem: problem.to_owned() };
            match name.as_str() {
                "timeout" | "request_timeout" => {
                    options.timeout = seconds(value).ok_or_else(|| wrong("a number of seconds above 0 is expected"))?
                }
                "use_ssl" => options.use_ssl = truth(value).ok_or_else(|| wrong("`true` or `false` is expected"))?,
                "verify_certs" => {
                    options.verify_certs = truth(value).ok_or_else(|| wrong("`true` or `false` is expected"))?
                }
                "http_compress" => {
                    options.http_compress = truth(value).ok_or_else(|| wrong("`true` or `false` is expected"))?
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
                "basic_auth" => {
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
        Ok(options)
    }
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
            "basic_auth_password": "secret", "headers": { "x-found": 1 }, "sniff_on_start": true,
        }))
        .unwrap();
        assert_eq!(options.timeout, Duration::from_millis(2500));
        assert!(options.use_ssl && !options.verify_certs);
        assert_eq!(options.authorization.as_ref().unwrap().header(), "Basic cmFsbHk6c2VjcmV0");
        assert_eq!(options.headers, [("x-found".to_owned(), "1".to_owned())]);
        assert_eq!(options.unknown, ["sniff_on_start"]);
        assert!(!format!("{options:?}").contains("cmFsbHk6c2VjcmV0"), "secrets are not shown");
        assert_eq!(parse(json!({})).unwrap().timeout, TIMEOUT);
        let key = parse(json!({ "api_key": ["id", "key"] })).unwrap().authorization.unwrap();
        assert_eq!(key.header(), "ApiKey aWQ6a2V5");
    }

    #[test]
    fn options_that_make_no_sense_are_named() {
        for (options, expected) in [
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
}
