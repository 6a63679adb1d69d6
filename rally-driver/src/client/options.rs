//! What `--client-options` says of one cluster.

use std::time::Duration;

use rally_core::track::JsonObject;

/// Options of the clients of one cluster.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// How long a request may take unless it says itself. 60 seconds by default.
    pub timeout: Duration,
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

    fn try_from(_options: &JsonObject) -> Result<Self, Self::Error> {
        Ok(Self { timeout: Duration::from_secs(60) })
    }
}
