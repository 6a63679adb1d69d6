//! Why an execution of an operation failed.

use std::fmt;

/// What kind of failure it was; reports count by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ErrorClass {
    /// No connection, or it broke.
    Connect,
    /// No answer in time.
    Timeout,
    /// The TLS handshake failed.
    Tls,
    /// An HTTP status above 299.
    Http(u16),
    /// Items of a bulk request failed.
    Bulk,
    /// The answer says itself that it is no success, or cannot be used.
    Response,
    /// An assertion of the track does not hold.
    Assertion,
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect => f.write_str("connect"),
            Self::Timeout => f.write_str("timeout"),
            Self::Tls => f.write_str("tls"),
            Self::Http(status) => write!(f, "http {status}"),
            Self::Bulk => f.write_str("bulk"),
            Self::Response => f.write_str("response"),
            Self::Assertion => f.write_str("assertion"),
        }
    }
}

/// An operation could not be executed.
///
/// The first two and failed assertions are failed samples of weight 0; the others are if a request was sent. All but the first two end the race whatever `--on-error` says.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RunnerError {
    /// There was no HTTP response, or one that makes no sense.
    #[error("{description}")]
    Transport {
        /// Connect, timeout or TLS; or response, if there was one.
        class: ErrorClass,
        /// What happened, with the address.
        description: String,
    },
    /// The response is an error.
    #[error("HTTP status {status}: {description}")]
    Api {
        /// The HTTP status.
        status: u16,
        /// The error's type, and its reason in parentheses, or else the beginning of the body.
        description: String,
        /// `request_id`, `handling_node` and `handling_cluster` of the response's headers, as far as there are any.
        meta: Vec<(&'static str, String)>,
    },
    /// A mandatory parameter is missing.
    #[error("operation `{operation}` needs the parameter `{parameter}`")]
    MissingParameter {
        /// The operation.
        operation: String,
        /// Its parameter.
        parameter: String,
    },
    /// A parameter has a value that makes no sense.
    #[error("operation `{operation}`: {problem}")]
    InvalidParameter {
        /// The operation.
        operation: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// An assertion of the track does not hold.
    #[error("{0}")]
    Assertion(String),
    /// Something else that makes no sense to go on with.
    #[error("{0}")]
    Other(String),
}

impl RunnerError {
    /// There was an answer, but nothing can be made of it: a request that failed, without a status that says so.
    pub(crate) fn response(description: impl Into<String>) -> Self {
        Self::Transport { class: ErrorClass::Response, description: description.into() }
    }
}
