//! HTTP clients for clusters under test.
//!
//! Each simulated client has connections of its own: one for each host, and more only while a composite operation sends
//! several requests at once.

mod connection;
mod host;
mod options;
mod request;
mod static_responses;
mod tls;

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Uri};
use http_body_util::Full;
use indexmap::IndexMap;
use rally_core::RacePlan;
use serde_json::Value;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

pub use options::{Authorization, ClientOptions, InvalidClientOptions};
pub use request::{Body, PreparedRequest, Request, Response};

use crate::{ErrorClass, RequestTimer, RunnerError};
use connection::{Answer, Connection};
use host::Host;
use static_responses::StaticResponses;

/// Statuses that say that the same request may well succeed if it is sent again.
const WORTH_A_RETRY: [u16; 4] = [429, 502, 503, 504];

/// The largest answer that is unpacked, in bytes.
const LARGEST_UNPACKED: u64 = 1 << 30;

/// The longest part of an answer that stands in an error, in characters.
const LONGEST_DESCRIPTION: usize = 2_000;

/// The connections of one simulated client to one cluster under test.
#[derive(Debug)]
pub struct Client {
    hosts: Vec<Host>,
    /// Connections that are not in use, by host.
    idle: Vec<RefCell<Vec<Connection>>>,
    next: Cell<usize>,
    options: Rc<ClientOptions>,
    shared: Rc<Shared>,
    timer: Rc<RequestTimer>,
    reconnects: Cell<u64>,
    retries: Cell<u64>,
}

/// What is the same for all requests of a client.
struct Shared {
    tls: Option<TlsConnector>,
    headers: HeaderMap,
    json: HeaderValue,
    ndjson: HeaderValue,
    static_responses: Option<StaticResponses>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Headers hold secrets.
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Client {
    /// A client of a cluster. It connects when [`Client::warm_up`] is called or the first request is sent.
    ///
    /// `number` is that of the simulated client: client *n* begins with host *n* modulo the number of hosts, so that
    /// all hosts get the same share. `major` is the major version of the cluster, as far as it is known.
    ///
    /// # Errors
    ///
    /// [`InvalidClientOptions`] if a host, a file or a header makes no sense.
    pub fn new(
        hosts: &[String],
        options: ClientOptions,
        major: Option<u64>,
        number: usize,
        timer: Rc<RequestTimer>,
    ) -> Result<Self, InvalidClientOptions> {
        let wrong = |option: &str, problem: String| InvalidClientOptions { option: option.to_owned(), problem };
        let parsed: Vec<Host> = hosts
            .iter()
            .map(|text| {
                Host::parse(text, options.use_ssl).ok_or_else(|| {
                    wrong("target-hosts", format!("`{text}` is no host; `host:port` or a URL is expected"))
                })
            })
            .collect::<Result<_, _>>()?;
        if parsed.is_empty() {
            return Err(wrong("target-hosts", "there is no host".to_owned()));
        }
        let tls = parsed.iter().any(|host| host.tls).then(|| tls::connector(&options)).transpose()?;
        let compatible = if major == Some(9) { 9 } else { 8 };
        let media_type = |kind: &str| {
            HeaderValue::try_from(format!("application/vnd.elasticsearch+{kind}; compatible-with={compatible}"))
                .expect("visible characters only")
        };
        let mut headers = HeaderMap::new();
        let encoding = if options.http_compress { "gzip" } else { "identity" };
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(encoding));
        if let Some(authorization) = &options.authorization {
            let mut value = HeaderValue::try_from(authorization.header())
                .map_err(|_| wrong("basic_auth_password", "it has characters that no header may have".to_owned()))?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        for (name, value) in &options.headers {
            let (name, value) =
                header_of(name, value).ok_or_else(|| wrong("headers", format!("`{name}` cannot be sent")))?;
            headers.insert(name, value);
        }
        let static_responses = options.static_responses.as_deref().map(StaticResponses::read).transpose()?;
        let shared =
            Shared { tls, headers, json: media_type("json"), ndjson: media_type("x-ndjson"), static_responses };
        Ok(Self {
            idle: parsed.iter().map(|_| RefCell::default()).collect(),
            next: Cell::new(number % parsed.len()),
            hosts: parsed,
            options: Rc::new(options),
            shared: Rc::new(shared),
            timer,
            reconnects: Cell::new(0),
            retries: Cell::new(0),
        })
    }

    /// Opens a connection to every host, so that no request has to wait for it. A host that cannot be reached will be
    /// tried again by the requests.
    pub async fn warm_up(&self) {
        if self.shared.static_responses.is_some() {
            return;
        }
        for (index, host) in self.hosts.iter().enumerate() {
            let open = timeout(self.options.timeout, Connection::open(host, self.shared.tls.as_ref())).await;
            match open {
                Ok(Ok(connection)) => {
                    self.idle[index].borrow_mut().push(connection);
                }
                Ok(Err(_)) | Err(_) => host.failed(),
            }
        }
    }

    /// Connections that had to be opened again because the one before broke.
    #[must_use]
    pub fn reconnects(&self) -> u64 {
        self.reconnects.get()
    }

    /// Requests that were sent again.
    #[must_use]
    pub fn retries(&self) -> u64 {
        self.retries.get()
    }

    /// Makes a request ready to be sent, before the clock starts: headers, and a compressed body if the options want it.
    ///
    /// # Errors
    ///
    /// [`RunnerError::Other`] if path or headers cannot be sent.
    pub fn prepare(&self, request: &Request) -> Result<PreparedRequest, RunnerError> {
        let unusable =
            |what: &str| RunnerError::Other(format!("{} {}: {what} cannot be sent", request.method, request.path));
        let method = Method::from_bytes(request.method.as_bytes()).map_err(|_| unusable("this method"))?;
        let uri = Uri::try_from(&request.path).map_err(|_| unusable("this path"))?;
        let mut headers = self.shared.headers.clone();
        let (body, content_type) = match &request.body {
            Body::Empty => (Bytes::new(), None),
            Body::Json(body) => (body.clone(), Some(&self.shared.json)),
            Body::Ndjson(body) => (body.clone(), Some(&self.shared.ndjson)),
        };
        if let Some(content_type) = content_type {
            headers.insert(header::CONTENT_TYPE, content_type.clone());
            headers.insert(header::ACCEPT, self.shared.json.clone());
        }
        let body = if self.options.http_compress && !body.is_empty() {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            compress(&body).map_err(|error| RunnerError::Other(format!("cannot compress a body: {error}")))?
        } else {
            body
        };
        for (name, value) in &request.headers {
            let (name, value) = header_of(name, value).ok_or_else(|| unusable(&format!("header `{name}`")))?;
            headers.insert(name, value);
        }
        Ok(PreparedRequest {
            method,
            uri,
            headers,
            body,
            timeout: request.timeout.unwrap_or(self.options.timeout),
            ignore: request.ignore.as_slice().into(),
            answer: match &self.shared.static_responses {
                None => None,
                Some(responses) => {
                    Some(responses.answer(&request.path).ok_or_else(|| {
                        RunnerError::Other(format!("there is no static response for {}", request.path))
                    })?)
                }
            },
        })
    }

    /// Prepares a request and sends it once.
    ///
    /// # Errors
    ///
    /// As [`Client::prepare`] and [`Client::send`].
    pub async fn request(&self, request: &Request) -> Result<Response, RunnerError> {
        self.send(&self.prepare(request)?).await
    }

    /// Sends a request and reads its answer to the last byte, marking both in the timer.
    ///
    /// A request that meets status 429, 502, 503 or 504 or a broken connection is sent again to the next host, at once;
    /// all of it is one request to the timer.
    ///
    /// # Errors
    ///
    /// [`RunnerError::Transport`] without an answer, [`RunnerError::Api`] if the status is above 299 and the request does
    /// not ignore it.
    pub async fn send(&self, request: &PreparedRequest) -> Result<Response, RunnerError> {
        if let Some(body) = &request.answer {
            self.timer.sent();
            self.timer.received();
            return Ok(Response { status: 200, body: body.clone() });
        }
        let mut attempt = 0;
        loop {
            let host = self.pick_host();
            let result = match timeout(request.timeout, self.send_to(host, request)).await {
                Ok(result) => result,
                Err(_) => {
                    self.timer.received();
                    let description = format!(
                        "network connection timed out: {} did not answer within {:?}",
                        self.hosts[host], request.timeout
                    );
                    Err(RunnerError::Transport { class: ErrorClass::Timeout, description })
                }
            };
            let again = match &result {
                Ok(answer) => WORTH_A_RETRY.contains(&answer.head.status.as_u16()),
                Err(RunnerError::Transport { class: ErrorClass::Timeout, .. }) => self.options.retry_on_timeout,
                Err(_) => true,
            };
            match &result {
                Ok(_) if !again => self.hosts[host].answered(),
                _ => self.hosts[host].failed(),
            }
            if !again || attempt >= self.options.max_retries {
                return self.finish(result?, request);
            }
            attempt += 1;
            self.retries.set(self.retries.get() + 1);
        }
    }

    async fn send_to(&self, index: usize, request: &PreparedRequest) -> Result<Answer, RunnerError> {
        let host = &self.hosts[index];
        let mut idle = self.idle[index].borrow_mut().pop();
        let broke = idle.as_mut().is_some_and(|connection| !connection.is_open());
        let mut connection = match idle.filter(|_| !broke) {
            Some(connection) => connection,
            None => {
                // Time to connect counts: the user of the cluster would wait for it, too.
                self.timer.sent();
                if broke {
                    self.reconnects.set(self.reconnects.get() + 1);
                }
                let connection = Connection::open(host, self.shared.tls.as_ref()).await;
                self.timer.received();
                connection?
            }
        };
        let mut message = http::Request::new(Full::new(request.body.clone()));
        *message.method_mut() = request.method.clone();
        *message.uri_mut() = match host.prefix.as_str() {
            "" => request.uri.clone(),
            prefix => format!("{prefix}{}", request.uri)
                .parse()
                .map_err(|_| RunnerError::Other(format!("{prefix}{} is no path", request.uri)))?,
        };
        *message.headers_mut() = request.headers.clone();
        let authority = HeaderValue::try_from(host.authority()).expect("a host name that was parsed");
        message.headers_mut().insert(header::HOST, authority);
        match connection.send(message, &self.timer).await {
            Ok(answer) => {
                self.idle[index].borrow_mut().push(connection);
                Ok(answer)
            }
            Err(error) => {
                self.reconnects.set(self.reconnects.get() + 1);
                let description = format!("lost the connection to {host}: {}", connection::explain(&error));
                Err(RunnerError::Transport { class: ErrorClass::Connect, description })
            }
        }
    }

    /// The next host that is not put aside; if all are, the one that comes back first.
    fn pick_host(&self) -> usize {
        let count = self.hosts.len();
        let start = self.next.get();
        self.next.set((start + 1) % count);
        if count == 1 {
            return 0;
        }
        let now = Instant::now();
        let order = (0..count).map(|offset| (start + offset) % count);
        let alive = |index: &usize| self.hosts[*index].aside_until().is_none_or(|until| until <= now);
        order
            .clone()
            .find(alive)
            .or_else(|| order.min_by_key(|index| self.hosts[*index].aside_until()))
            .unwrap_or(start)
    }

    fn finish(&self, answer: Answer, request: &PreparedRequest) -> Result<Response, RunnerError> {
        let status = answer.head.status.as_u16();
        let is_packed = answer.head.headers.get(header::CONTENT_ENCODING).is_some_and(|value| value == "gzip");
        let body = if is_packed {
            unpack(&answer.body).map_err(|error| RunnerError::Other(format!("cannot unpack an answer: {error}")))?
        } else {
            answer.body
        };
        if status <= 299 || request.ignore.contains(&status) {
            return Ok(Response { status, body });
        }
        let meta = [
            ("request_id", "x-cloud-request-id"),
            ("handling_node", "x-found-handling-instance"),
            ("handling_cluster", "x-found-handling-cluster"),
        ];
        let meta = meta
            .into_iter()
            .filter_map(|(name, header)| Some((name, answer.head.headers.get(header)?.to_str().ok()?.to_owned())));
        Err(RunnerError::Api { status, description: describe(&body), meta: meta.collect() })
    }
}

/// The type of an error and its reason in parentheses, or else the beginning of the body.
fn describe(body: &[u8]) -> String {
    let parsed: Option<Value> = serde_json::from_slice(body).ok();
    let error = parsed.as_ref().and_then(|body| body.get("error"));
    let text = match error {
        Some(Value::String(text)) => text.clone(),
        Some(error) => {
            let kind = error.get("type").and_then(Value::as_str).unwrap_or("unknown");
            match error.get("reason").and_then(Value::as_str) {
                Some(reason) => format!("{kind} ({reason})"),
                None => kind.to_owned(),
            }
        }
        None => String::from_utf8_lossy(&body[..body.len().min(4 * LONGEST_DESCRIPTION)]).into_owned(),
    };
    text.chars().take(LONGEST_DESCRIPTION).collect()
}

fn header_of(name: &str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?))
}

fn compress(body: &[u8]) -> std::io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish().map(Bytes::from)
}

fn unpack(body: &[u8]) -> std::io::Result<Bytes> {
    let mut unpacked = Vec::with_capacity(body.len() * 4);
    GzDecoder::new(body).take(LARGEST_UNPACKED).read_to_end(&mut unpacked)?;
    Ok(unpacked.into())
}

/// The clients of one simulated client, by the name of the cluster.
#[derive(Debug, Default)]
pub struct Clients {
    by_cluster: IndexMap<String, Rc<Client>>,
}

impl Clients {
    /// Clients for all clusters of a race, for the simulated client of this number.
    ///
    /// # Errors
    ///
    /// [`InvalidClientOptions`] if hosts or options make no sense.
    pub fn new(plan: &RacePlan, number: u32, timer: &Rc<RequestTimer>) -> Result<Self, InvalidClientOptions> {
        let major = plan.distribution_version.as_deref().and_then(|version| version.split('.').next()?.parse().ok());
        // A program that benchmarks something else names no hosts.
        let clusters = plan.target_hosts.iter().filter(|(_, hosts)| !hosts.is_empty());
        let by_cluster = clusters.map(|(cluster, hosts)| {
            let options =
                plan.client_options.get(cluster).map(ClientOptions::try_from).transpose()?.unwrap_or_default();
            let client = Client::new(hosts, options, major, number as usize, Rc::clone(timer))?;
            Ok((cluster.clone(), Rc::new(client)))
        });
        Ok(Self { by_cluster: by_cluster.collect::<Result<_, InvalidClientOptions>>()? })
    }

    /// Opens the connections of all clients.
    pub async fn warm_up(&self) {
        for client in self.by_cluster.values() {
            client.warm_up().await;
        }
    }

    /// The client of the cluster `default`.
    ///
    /// # Errors
    ///
    /// [`RunnerError::Other`] if `--target-hosts` names no such cluster.
    pub fn default_cluster(&self) -> Result<&Rc<Client>, RunnerError> {
        self.by_cluster.get("default").ok_or_else(|| {
            RunnerError::Other("no cluster is named `default`; name one so in `--target-hosts`".to_owned())
        })
    }

    /// The client of a cluster by name.
    #[must_use]
    pub fn get(&self, cluster: &str) -> Option<&Rc<Client>> {
        self.by_cluster.get(cluster)
    }

    /// Connections that were opened again and requests that were sent again, by all clients.
    #[must_use]
    pub fn reconnects_and_retries(&self) -> (u64, u64) {
        let clients = self.by_cluster.values();
        clients.fold((0, 0), |(reconnects, retries), client| {
            (reconnects + client.reconnects(), retries + client.retries())
        })
    }
}
