//! Requests, as operations make them and as they are sent, and their answers.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri};
use http_body_util::Full;

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

/// A request as an operation makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The method, such as `GET`.
    pub method: &'static str,
    /// Path and query, percent-encoded.
    pub path: String,
    /// Further headers; they take the place of the client's own.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Body,
    /// How long it may take; the client's option if it does not say.
    pub timeout: Option<Duration>,
    /// Statuses above 299 that are no error.
    pub ignore: Vec<u16>,
    /// Whether the headers of the answer are wanted, which takes a little longer.
    pub wants_headers: bool,
}

impl Request {
    /// A request without a body.
    #[must_use]
    pub fn new(method: &'static str, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            headers: Vec::new(),
            body: Body::Empty,
            timeout: None,
            ignore: Vec::new(),
            wants_headers: false,
        }
    }

    /// The same request with a JSON body.
    #[must_use]
    pub fn json(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Body::Json(body.into());
        self
    }
}

/// A request that is ready to be sent as often as wanted; made by [`Client::prepare`](super::Client::prepare).
#[derive(Clone, Debug)]
pub struct PreparedRequest {
    pub(super) method: Method,
    /// What differs between hosts, in their order.
    pub(super) heads: Rc<[Head]>,
    pub(super) body: Bytes,
    pub(super) timeout: Duration,
    pub(super) ignore: Rc<[u16]>,
    pub(super) wants_headers: bool,
    /// The answer, if it is given without any network.
    pub(super) answer: Option<Bytes>,
}

impl PreparedRequest {
    /// What is sent to the host of this number.
    pub(super) fn message(&self, host: usize) -> http::Request<Full<Bytes>> {
        let head = &self.heads[host];
        let mut message = http::Request::new(Full::new(self.body.clone()));
        *message.method_mut() = self.method.clone();
        *message.uri_mut() = head.uri.clone();
        *message.headers_mut() = head.headers.clone();
        message
    }
}

/// The part of a request that depends on the host.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
}

/// An answer, read to its end and decompressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The headers, if the request wanted them, or ignored this status.
    pub headers: Option<Box<HeaderMap>>,
    /// The body.
    pub body: Bytes,
}
