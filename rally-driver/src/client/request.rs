//! Requests that are ready to be sent, and their answers.

use std::time::Duration;

use bytes::Bytes;

/// The body of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Body {
    /// None.
    #[default]
    Empty,
    /// JSON.
    Json(Bytes),
    /// Lines of JSON, as the bulk API wants them.
    Ndjson(Bytes),
}

/// One request, made before the clock starts. It may be sent many times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The method, such as `GET`.
    pub method: &'static str,
    /// Path and query, percent-encoded.
    pub path: String,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Body,
    /// How long it may take; the client's option if it does not say.
    pub timeout: Option<Duration>,
    /// Statuses above 299 that are no error.
    pub ignore: Vec<u16>,
}

impl Request {
    /// A request without a body.
    #[must_use]
    pub fn new(method: &'static str, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), headers: Vec::new(), body: Body::Empty, timeout: None, ignore: Vec::new() }
    }
}

/// An answer, read to its end and decompressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Bytes,
}
