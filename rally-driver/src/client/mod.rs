//! HTTP clients for clusters under test.
//!
//! Each simulated client has connections of its own: one for each host, and more only while a composite operation sends
//! several requests at once.

mod api_keys;
mod connection;
mod host;
mod media_type;
mod options;
mod request;
mod static_responses;
mod tls;

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use futures_util::future::join_all;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Uri};
use indexmap::IndexMap;
use rally_core::RacePlan;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio_rustls::TlsConnector;

pub(crate) use api_keys::{ApiKeys, DELETION as KEY_DELETION, SetupError};
pub use media_type::MediaTypes;
pub use options::{Authorization, ClientOptions, InvalidClientOptions};
use request::Head;
pub use request::{Body, PreparedRequest, Request, Response};

use crate::{ErrorClass, RequestTimer, RunnerError};
use connection::{Answer, Connection, NoAnswer};
use host::Host;
use static_responses::StaticResponses;

/// The largest answer in bytes, as it comes and unpacked.
const LARGEST_BODY: u64 = 1 << 30;

/// The most that is made ready for an answer that is unpacked, in bytes.
const UNPACKED_AT_FIRST: usize = 16 << 20;

/// The cluster that ordinary operations use.
const DEFAULT_CLUSTER: &str = "default";

/// How long a connection may take to be opened before it is needed.
const WARM_UP: Duration = Duration::from_secs(5);

/// The longest part of an answer that stands in an error, in characters.
const LONGEST_DESCRIPTION: usize = 2_000;

/// The most of an error's body that is kept as an example, in bytes.
const LONGEST_KEPT: usize = 16 << 10;

/// The header in which a hosted cluster says which one it is.
pub(crate) const HANDLING_CLUSTER: &str = "x-found-handling-cluster";

/// The connections of one simulated client to one cluster under test.
#[derive(Clone, Debug)]
pub struct Client {
    hosts: Rc<[Host]>,
    /// Connections that are not in use, by host. They are large, and taken for every request.
    #[expect(clippy::vec_box, reason = "moving one costs more than a box")]
    idle: Rc<[RefCell<Vec<Box<Connection>>>]>,
    next: Rc<Cell<usize>>,
    /// Of the simulated client.
    number: usize,
    options: Rc<ClientOptions>,
    shared: Rc<Shared>,
    timer: Rc<RequestTimer>,
    reconnects: Rc<Cell<u64>>,
    retries: Rc<Cell<u64>>,
    /// The body of the last answer that was an error.
    error_body: Rc<RefCell<Bytes>>,
}

/// What is the same for all requests of a client.
#[derive(Clone)]
struct Shared {
    tls: Option<TlsConnector>,
    headers: HeaderMap,
    media_types: MediaTypes,
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
    /// all hosts get the same share. `media_types` are those that the cluster understands, as far as that is known.
    ///
    /// # Errors
    ///
    /// [`InvalidClientOptions`] if a host, a file or a header makes no sense.
    pub fn new(
        hosts: &[String],
        options: ClientOptions,
        media_types: MediaTypes,
        number: usize,
        timer: Rc<RequestTimer>,
    ) -> Result<Self, InvalidClientOptions> {
        let wrong = |option: &str, problem: String| InvalidClientOptions { option: option.to_owned(), problem };
        let parsed: Vec<Host> = hosts
            .iter()
            .map(|text| {
                Host::parse(text, options.use_ssl).ok_or_else(|| {
                    let shown = text.rsplit('@').next().unwrap_or_default();
                    let expected = "`host:port` or a URL is expected, with user and password in the client options";
                    wrong("target-hosts", format!("`{shown}` is no host; {expected}"))
                })
            })
            .collect::<Result<_, _>>()?;
        if parsed.is_empty() {
            return Err(wrong("target-hosts", "there is no host".to_owned()));
        }
        let tls = parsed.iter().any(|host| host.tls).then(|| tls::connector(&options)).transpose()?;
        let mut headers = HeaderMap::new();
        let encoding = if options.http_compress { "gzip" } else { "identity" };
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(encoding));
        if let Some(authorization) = &options.authorization {
            let mut value = HeaderValue::try_from(authorization.header())
                .map_err(|_| wrong(authorization.option(), "it has characters that no header may have".to_owned()))?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        for (name, value) in &options.headers {
            let (name, value) =
                header_of(name, value).ok_or_else(|| wrong("headers", format!("`{name}` cannot be sent")))?;
            headers.insert(name, value);
        }
        let static_responses = options.static_responses.as_deref().map(StaticResponses::read).transpose()?;
        let shared = Shared { tls, headers, media_types, static_responses };
        Ok(Self {
            idle: parsed.iter().map(|_| RefCell::default()).collect(),
            next: Rc::new(Cell::new(number % parsed.len())),
            number,
            hosts: parsed.into(),
            options: Rc::new(options),
            shared: Rc::new(shared),
            timer,
            reconnects: Rc::default(),
            retries: Rc::default(),
            error_body: Rc::default(),
        })
    }

    /// The same client with the same connections, whose requests are marked in another timer. Operations that run at the
    /// same time are measured apart in this way.
    #[must_use]
    pub fn timed_by(&self, timer: &Rc<RequestTimer>) -> Self {
        Self { timer: Rc::clone(timer), ..self.clone() }
    }

    /// A client of the same cluster for another simulated client, which may authenticate in its own way.
    fn sibling(&self, number: usize, timer: &Rc<RequestTimer>, key: Option<&Authorization>) -> Self {
        let key = key.and_then(|key| HeaderValue::try_from(key.header()).ok());
        let shared = match key {
            None => Rc::clone(&self.shared),
            Some(mut key) => {
                key.set_sensitive(true);
                let mut shared = (*self.shared).clone();
                shared.headers.insert(header::AUTHORIZATION, key);
                Rc::new(shared)
            }
        };
        Self {
            hosts: self.hosts.iter().cloned().collect(),
            idle: self.hosts.iter().map(|_| RefCell::default()).collect(),
            next: Rc::new(Cell::new(number % self.hosts.len())),
            number,
            options: Rc::clone(&self.options),
            shared,
            timer: Rc::clone(timer),
            reconnects: Rc::default(),
            retries: Rc::default(),
            error_body: Rc::default(),
        }
    }

    /// Announces bodies of the requests that are prepared from now on in another way.
    pub fn set_media_types(&mut self, media_types: MediaTypes) {
        if self.shared.media_types != media_types {
            self.shared = Rc::new(Shared { media_types, ..(*self.shared).clone() });
        }
    }

    /// Asks the cluster what it is, and sends bodies as it understands them. One that does not say is taken for what it was
    /// taken for before.
    async fn get_acquainted(&mut self) {
        if self.shared.static_responses.is_some() {
            return;
        }
        let question = Request { timeout: Some(self.options.timeout.min(WARM_UP)), ..Request::new("GET", "/") };
        let Ok(response) = self.request(&question).await else { return };
        if let Ok(root) = serde_json::from_slice(&response.body) {
            self.set_media_types(MediaTypes::of_cluster(&root));
        }
    }

    /// Opens a connection to every host that has none, so that no request has to wait for it. A host that cannot be
    /// reached will be tried again by the requests.
    pub async fn warm_up(&self) {
        if self.shared.static_responses.is_some() {
            return;
        }
        let hosts = self.hosts.iter().zip(self.idle.iter());
        join_all(hosts.map(async |(host, idle)| {
            let mut broken = 0;
            idle.borrow_mut().retain_mut(|connection| {
                let is_open = connection.is_open();
                broken += u64::from(!is_open);
                is_open
            });
            self.reconnects.set(self.reconnects.get() + broken);
            if idle.borrow().is_empty() {
                let limit = self.options.timeout.min(WARM_UP);
                if let Ok(connection) = Connection::open(host, self.shared.tls.as_ref(), self.number, limit).await {
                    idle.borrow_mut().push(connection);
                }
            }
        }))
        .await;
    }

    /// Closes all connections that are not in use.
    fn disconnect(&self) {
        self.idle.iter().for_each(|idle| idle.borrow_mut().clear());
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

    /// The body of the last answer that was an error, once.
    fn take_error_body(&self) -> Bytes {
        self.error_body.take()
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
            Body::Json(body) => (body.clone(), Some(self.shared.media_types.json())),
            Body::Ndjson(body) => (body.clone(), Some(self.shared.media_types.ndjson())),
        };
        if let Some(content_type) = content_type {
            // What the client options say comes first.
            headers.entry(header::CONTENT_TYPE).or_insert(content_type);
            headers.entry(header::ACCEPT).or_insert_with(|| self.shared.media_types.json());
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
        // Where a request ends is nothing to choose.
        headers.remove(header::TRANSFER_ENCODING);
        headers.remove(header::CONTENT_LENGTH);
        if !body.is_empty() {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        let heads = self.hosts.iter().map(|host| {
            let uri = match host.prefix.as_str() {
                "" => uri.clone(),
                prefix => Uri::try_from(format!("{prefix}{uri}")).map_err(|_| unusable("this path"))?,
            };
            let mut headers = headers.clone();
            headers.entry(header::HOST).or_insert_with(|| host.authority.clone());
            Ok(Head { uri, headers })
        });
        Ok(PreparedRequest {
            method,
            heads: heads.collect::<Result<_, RunnerError>>()?,
            body,
            timeout: request.timeout.unwrap_or(self.options.timeout),
            ignore: request.ignore.as_slice().into(),
            wants_headers: request.wants_headers,
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
        let answer = self.answer(request).await?;
        let body = answer.unpacked()?;
        Ok(Response { status: answer.status, headers: answer.headers, body })
    }

    /// The same for those who do not look at the body of the answer: what came is not unpacked.
    ///
    /// # Errors
    ///
    /// As [`Client::send`].
    pub async fn send_unread(&self, request: &PreparedRequest) -> Result<(), RunnerError> {
        self.answer(request).await?.is_packed().map(drop)
    }

    async fn answer(&self, request: &PreparedRequest) -> Result<Answer, RunnerError> {
        if let Some(body) = &request.answer {
            self.timer.sent();
            self.timer.received();
            return Ok(Answer { status: 200, encoding: None, headers: None, body: body.clone() });
        }
        let mut attempt = 0;
        loop {
            let host = self.pick_host();
            let result = self.send_to(host, request).await;
            let again = match &result {
                Ok(answer) => self.options.retry_on_status.contains(&answer.status),
                Err(RunnerError::Transport { class: ErrorClass::Timeout, .. }) => self.options.retry_on_timeout,
                Err(RunnerError::Transport { class: ErrorClass::Response, .. }) => false,
                Err(_) => true,
            };
            match &result {
                Ok(_) if !again => self.hosts[host].answered(),
                _ => self.hosts[host].failed(),
            }
            if !again || attempt >= self.options.max_retries {
                return self.accept(result?, request);
            }
            attempt += 1;
            self.retries.set(self.retries.get() + 1);
        }
    }

    async fn send_to(&self, index: usize, request: &PreparedRequest) -> Result<Answer, RunnerError> {
        let mut begun = None;
        let connection = match self.take_idle(index) {
            Some(connection) => connection,
            None => {
                // Time to connect counts: the user of the cluster would wait for it, too.
                begun = Some(self.timer.sent());
                let (host, tls) = (&self.hosts[index], self.shared.tls.as_ref());
                // In a box, the future of every request is a lot smaller.
                let connection = Box::pin(Connection::open(host, tls, self.number, request.timeout)).await;
                self.timer.received();
                connection?
            }
        };
        let connection = if connection.copies_too_much(request.body.len()) {
            Box::pin(connection.without_copies()).await
        } else {
            Ok(connection)
        };
        let message = request.message(index);
        let sent = self.timer.sent();
        let result = match connection {
            Ok(connection) => {
                let begun = begun.unwrap_or(sent);
                connection.exchange(message, begun, request.timeout, request.wants_headers).await
            }
            Err(no_answer) => Err(no_answer),
        };
        self.timer.received();
        let no_answer = match result {
            Ok((answer, connection)) => {
                self.idle[index].borrow_mut().push(connection);
                return Ok(answer);
            }
            Err(no_answer) => no_answer,
        };
        self.reconnects.set(self.reconnects.get() + 1);
        let host = &self.hosts[index];
        let (class, description) = match no_answer {
            NoAnswer::Late => {
                let limit = request.timeout;
                let description = format!("network connection timed out: {host} did not answer within {limit:?}");
                (ErrorClass::Timeout, description)
            }
            NoAnswer::Broken { class: ErrorClass::Response, cause } => {
                (ErrorClass::Response, format!("the answer of {host} makes no sense: {cause}"))
            }
            NoAnswer::Broken { class, cause } => (class, format!("lost the connection to {host}: {cause}")),
        };
        Err(RunnerError::Transport { class, description })
    }

    /// An idle connection to a host that may still be used.
    fn take_idle(&self, index: usize) -> Option<Box<Connection>> {
        loop {
            let mut connection = self.idle[index].borrow_mut().pop()?;
            if connection.is_open() {
                return Some(connection);
            }
            self.reconnects.set(self.reconnects.get() + 1);
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
        let order = (0..count).map(|offset| (start + offset) % count);
        // The clock is only read if there is something to compare it with.
        let alive = |index: &usize| self.hosts[*index].aside_until().is_none_or(|until| until <= Instant::now());
        order
            .clone()
            .find(alive)
            .or_else(|| order.min_by_key(|index| self.hosts[*index].aside_until()))
            .unwrap_or(start)
    }

    /// Makes an error of a status that is one.
    fn accept(&self, answer: Answer, request: &PreparedRequest) -> Result<Answer, RunnerError> {
        let status = answer.status;
        if status <= 299 || request.ignore.contains(&status) {
            return Ok(answer);
        }
        let body = answer.unpacked()?;
        let meta = [
            ("request_id", "x-cloud-request-id"),
            ("handling_node", "x-found-handling-instance"),
            ("handling_cluster", HANDLING_CLUSTER),
        ];
        let meta = meta
            .into_iter()
            .filter_map(|(name, header)| Some((name, answer.headers.as_ref()?.get(header)?.to_str().ok()?.to_owned())));
        let meta = meta.collect();
        let description = describe(&body);
        // A slice would keep all of it.
        let kept = if body.len() > LONGEST_KEPT { Bytes::copy_from_slice(&body[..LONGEST_KEPT]) } else { body };
        self.error_body.replace(kept);
        Err(RunnerError::Api { status, description, meta })
    }
}

impl Answer {
    /// The body, unpacked if it is packed. An answer may consist of several parts that were packed on their own.
    fn unpacked(&self) -> Result<Bytes, RunnerError> {
        if self.is_packed()? { unpack(&self.body, LARGEST_BODY) } else { Ok(self.body.clone()) }
    }

    fn is_packed(&self) -> Result<bool, RunnerError> {
        match self.encoding.as_ref().map(HeaderValue::as_bytes) {
            // An answer to `HEAD` says how the body is packed that it does not have.
            _ if self.body.is_empty() => Ok(false),
            Some(b"gzip" | b"x-gzip") => Ok(true),
            None | Some(b"identity") => Ok(false),
            Some(other) => {
                let other = String::from_utf8_lossy(other);
                Err(RunnerError::response(format!("an answer is packed with `{other}`, which nobody asked for")))
            }
        }
    }
}

/// The type of an error and its reason in parentheses, or else the beginning of the body.
fn describe(body: &[u8]) -> String {
    // Only what is asked for is read: an answer may be of any size.
    #[derive(Deserialize)]
    struct Failed<'a> {
        #[serde(borrow)]
        error: &'a RawValue,
    }
    #[derive(Deserialize)]
    struct Cause<'a> {
        #[serde(borrow, rename = "type")]
        kind: Option<&'a RawValue>,
        #[serde(borrow)]
        reason: Option<&'a RawValue>,
    }
    let text_of = |raw: Option<&RawValue>| raw.and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
    let error = serde_json::from_slice(body).ok().map(|Failed { error }| error);
    let text = match (text_of(error), error) {
        (Some(text), _) => text,
        (None, Some(error)) => {
            let cause = serde_json::from_str(error.get()).ok();
            let (kind, reason) = cause.map_or((None, None), |Cause { kind, reason }| (text_of(kind), text_of(reason)));
            let kind = kind.unwrap_or_else(|| "unknown".to_owned());
            match reason {
                Some(reason) => format!("{kind} ({reason})"),
                None => kind,
            }
        }
        (None, None) => String::from_utf8_lossy(&body[..body.len().min(4 * LONGEST_DESCRIPTION)]).into_owned(),
    };
    text.chars().take(LONGEST_DESCRIPTION).collect()
}

/// What the clusters of a race understand, as far as it is known.
fn media_types(plan: &RacePlan) -> MediaTypes {
    match plan.distribution_flavor.as_deref() {
        Some("opensearch") => MediaTypes::Plain,
        _ => plan.distribution_version.as_deref().map(MediaTypes::of_version).unwrap_or_default(),
    }
}

fn header_of(name: &str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?))
}

fn compress(body: &[u8]) -> std::io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish().map(Bytes::from)
}

fn unpack(body: &[u8], limit: u64) -> Result<Bytes, RunnerError> {
    let mut unpacked = Vec::with_capacity(body.len().saturating_mul(4).min(UNPACKED_AT_FIRST));
    MultiGzDecoder::new(body)
        .take(limit + 1)
        .read_to_end(&mut unpacked)
        .map_err(|error| RunnerError::response(format!("cannot unpack an answer: {error}")))?;
    if unpacked.len() as u64 > limit {
        return Err(RunnerError::response(format!("an answer is larger than {limit} bytes once it is unpacked")));
    }
    Ok(unpacked.into())
}

/// The clients of one simulated client, by the name of the cluster.
#[derive(Clone, Debug, Default)]
pub struct Clients {
    by_cluster: IndexMap<String, Rc<Client>>,
    /// The cluster that ordinary operations use.
    default: String,
}

impl Clients {
    /// Clients for all clusters of a race, for the simulated client of this number.
    ///
    /// # Errors
    ///
    /// [`InvalidClientOptions`] if hosts or options make no sense.
    pub fn new(plan: &RacePlan, number: u32, timer: &Rc<RequestTimer>) -> Result<Self, InvalidClientOptions> {
        // A program that benchmarks something else names no hosts.
        let clusters = plan.target_hosts.iter().filter(|(_, hosts)| !hosts.is_empty());
        let by_cluster = clusters.map(|(cluster, hosts)| {
            let options = options_of(plan, cluster)?;
            let client = Client::new(hosts, options, media_types(plan), number as usize, Rc::clone(timer))?;
            Ok((cluster.clone(), Rc::new(client)))
        });
        let by_cluster = by_cluster.collect::<Result<_, InvalidClientOptions>>()?;
        Ok(Self { by_cluster, default: DEFAULT_CLUSTER.to_owned() })
    }

    /// Asks each cluster what it is, unless the user has said it, so that bodies are sent as it understands them. One that
    /// does not answer is taken for Elasticsearch 8.
    pub(crate) async fn get_acquainted(&mut self, plan: &RacePlan) {
        if plan.distribution_version.is_none() {
            join_all(self.by_cluster.values_mut().map(|client| Rc::make_mut(client).get_acquainted())).await;
        }
    }

    /// The same clients, whose requests are marked in another timer; see [`Client::timed_by`].
    #[must_use]
    pub fn timed_by(&self, timer: &Rc<RequestTimer>) -> Self {
        let by_cluster = self.by_cluster.iter();
        let by_cluster = by_cluster.map(|(cluster, client)| (cluster.clone(), Rc::new(client.timed_by(timer))));
        Self { by_cluster: by_cluster.collect(), default: self.default.clone() }
    }

    /// Clients of the same clusters for another simulated client, with an API key of its own for the cluster that ordinary
    /// operations use, if it has one.
    pub(crate) fn sibling(&self, number: u32, timer: &Rc<RequestTimer>, key: Option<&Authorization>) -> Self {
        let by_cluster = self.by_cluster.iter().map(|(cluster, client)| {
            let key = key.filter(|_| cluster == DEFAULT_CLUSTER);
            (cluster.clone(), Rc::new(client.sibling(number as usize, timer, key)))
        });
        Self { by_cluster: by_cluster.collect(), default: self.default.clone() }
    }

    /// The same clients, seen by operations that are run against this cluster only.
    pub(crate) fn only(&self, cluster: &str) -> Self {
        let by_cluster = self.by_cluster.iter().filter(|(name, _)| *name == cluster);
        let by_cluster = by_cluster.map(|(name, client)| (name.clone(), Rc::clone(client))).collect();
        Self { by_cluster, default: cluster.to_owned() }
    }

    /// The clusters by name.
    pub(crate) fn clusters(&self) -> impl Iterator<Item = &str> {
        self.by_cluster.keys().map(String::as_str)
    }

    /// Opens the connections of all clients that have none.
    pub async fn warm_up(&self) {
        join_all(self.by_cluster.values().map(|client| client.warm_up())).await;
    }

    /// Closes all connections that are not in use.
    pub(crate) fn disconnect(&self) {
        self.by_cluster.values().for_each(|client| client.disconnect());
    }

    /// The client of the cluster that ordinary operations use: the one named `default`, or with several clusters at the
    /// same time the one that the operation is run against.
    ///
    /// # Errors
    ///
    /// [`RunnerError::Other`] if `--target-hosts` names no such cluster.
    pub fn default_cluster(&self) -> Result<&Rc<Client>, RunnerError> {
        self.by_cluster.get(&self.default).ok_or_else(|| {
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

    /// The body of the last answer that was an error, once; nothing if there was none.
    pub(crate) fn take_error_body(&self) -> Bytes {
        let bodies = self.by_cluster.values().map(|client| client.take_error_body());
        bodies.fold(Bytes::new(), |last, body| if body.is_empty() { last } else { body })
    }
}

/// The options of a cluster of a race.
fn options_of(plan: &RacePlan, cluster: &str) -> Result<ClientOptions, InvalidClientOptions> {
    Ok(plan.client_options.get(cluster).map(ClientOptions::try_from).transpose()?.unwrap_or_default())
}

/// What the user should know of the client options of a race: those without effect, and those that are dangerous.
///
/// # Errors
///
/// [`InvalidClientOptions`] if one makes no sense.
pub(crate) fn warnings(plan: &RacePlan) -> Result<Vec<String>, InvalidClientOptions> {
    let mut warnings = Vec::new();
    for (cluster, hosts) in &plan.target_hosts {
        let options = options_of(plan, cluster)?;
        let has_tls = options.use_ssl || hosts.iter().any(|host| host.starts_with("https://"));
        let of_cluster = options.warnings(has_tls).into_iter().map(|warning| format!("cluster `{cluster}`: {warning}"));
        warnings.extend(of_cluster);
    }
    Ok(warnings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_take_turns_and_the_one_that_comes_back_first_is_asked_if_all_are_put_aside() {
        let hosts = ["a", "b", "c"].map(str::to_owned);
        let client = Client::new(&hosts, ClientOptions::default(), MediaTypes::default(), 1, Rc::default()).unwrap();
        let picks = |count: usize| (0..count).map(|_| client.pick_host()).collect::<Vec<_>>();
        assert_eq!(picks(4), [1, 2, 0, 1]);
        client.hosts[2].failed();
        assert_eq!(picks(4), [0, 0, 1, 0]);
        // The break of the host that failed twice is the longest.
        client.hosts[2].failed();
        client.hosts[0].failed();
        client.hosts[1].failed();
        assert_eq!(picks(3), [0, 0, 0]);
        client.hosts[0].answered();
        client.hosts[1].answered();
        assert_eq!(picks(3), [0, 1, 0]);
    }

    #[test]
    fn errors_are_described_whatever_they_look_like() {
        for (body, expected) in [
            (r#"{"error":{"type":"t","reason":"r","root_cause":[{"type":"u"}]},"status":400}"#, "t (r)"),
            (r#"{"error":{"type":"t"}}"#, "t"),
            (r#"{"error":{"reason":{"no":"text"},"type":"t"}}"#, "t"),
            (r#"{"error":{"reason":"r"}}"#, "unknown (r)"),
            (r#"{"status":404,"error":"no \u0022x\u0022"}"#, "no \"x\""),
            (r#"{"error":[]}"#, "unknown"),
            (r#"{"message":"m"}"#, r#"{"message":"m"}"#),
            ("<html>", "<html>"),
            ("", ""),
        ] {
            assert_eq!(describe(body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn an_option_that_no_header_may_have_is_named() {
        for (option, value) in [("bearer_auth", "a\nb"), ("api_key", "a\nb")] {
            let options = ClientOptions::try_from(&[(option.to_owned(), value.into())].into_iter().collect());
            let client = Client::new(&["a".to_owned()], options.unwrap(), MediaTypes::default(), 1, Rc::default());
            let problem = client.unwrap_err().to_string();
            assert_eq!(problem, format!("client option `{option}`: it has characters that no header may have"));
        }
    }

    #[test]
    fn answers_are_unpacked_up_to_a_limit() {
        let packed = [compress(b"abc").unwrap(), compress(b"def").unwrap()].concat();
        assert_eq!(unpack(&packed, 6).unwrap(), "abcdef");
        let problem = unpack(&packed, 5).unwrap_err().to_string();
        assert_eq!(problem, "an answer is larger than 5 bytes once it is unpacked");
    }
}
