//! One HTTP/1.1 connection, driven by whoever sends a request on it.

use std::error::Error;
use std::fmt::Display;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderValue};
use http_body_util::{BodyExt, Full};
use hyper::body::Body;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_util::either::Either;

use super::LARGEST_BODY;
use super::host::Host;
use super::tls;
use crate::timer::nanos;
use crate::{ErrorClass, RequestTimer, RunnerError};

/// The longest body in bytes that is copied behind the head of its request, so that both are written as one piece.
///
/// That takes less time than handing over two pieces; the copies of longer bodies would take more, and stay in memory.
const LONGEST_COPY: usize = 16 << 10;

/// The most that is made ready for what a peer says it will send, in bytes.
const READ_AHEAD: u64 = 1 << 20;

type Io = TokioIo<Either<TcpStream, Box<tokio_rustls::client::TlsStream<TcpStream>>>>;

/// An open connection. Nothing happens on it between requests: its future is only polled by the methods here, which saves
/// a spawned task and two wake-ups for each request.
pub(super) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    driver: http1::Connection<Io, Full<Bytes>>,
    /// Whether bodies are copied behind the heads of their requests.
    copies: bool,
    watchdog: Watchdog,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

/// An answer with its body as it came.
pub(super) struct Answer {
    pub(super) status: u16,
    /// How the body is packed, if it is.
    pub(super) encoding: Option<HeaderValue>,
    /// The headers of an error, and of what they are asked of. Others are dropped at once: they are large to move around.
    pub(super) headers: Option<Box<HeaderMap>>,
    pub(super) body: Bytes,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// It did not come in time.
    Late,
    /// The connection broke, or what came makes no sense.
    Broken { class: ErrorClass, cause: String },
}

impl Connection {
    /// Connects, over TLS if the host wants it. Of several addresses of a host, the simulated client of this number begins
    /// with the one of its number.
    pub(super) async fn open(
        host: &Host,
        tls: Option<&TlsConnector>,
        number: usize,
        limit: Duration,
    ) -> Result<Box<Self>, RunnerError> {
        let failed = |class, cause: &dyn Display| RunnerError::Transport {
            class,
            description: format!("cannot connect to {host}: {cause}"),
        };
        let open = async {
            let stream = connect(host, number).await.map_err(|error| failed(ErrorClass::Connect, &error))?;
            stream.set_nodelay(true).map_err(|error| failed(ErrorClass::Connect, &error))?;
            let stream = match tls.filter(|_| host.tls) {
                None => Either::Left(stream),
                Some(connector) => {
                    let name = ServerName::try_from(host.name.clone());
                    let name = name.map_err(|error| failed(ErrorClass::Tls, &error))?;
                    let stream = connector.connect(name, stream).await.map_err(|error| {
                        let (class, cause) = explain(&error);
                        failed(class, &cause)
                    })?;
                    Either::Right(Box::new(stream))
                }
            };
            handshake(TokioIo::new(stream), true).await.map_err(|error| failed(ErrorClass::Connect, &error))
        };
        let (sender, driver) = timeout(limit, open)
            .await
            .unwrap_or_else(|_| Err(failed(ErrorClass::Timeout, &format!("it took longer than {limit:?}"))))?;
        Ok(Box::new(Self { sender, driver, copies: true, watchdog: Watchdog::new(limit) }))
    }

    /// Whether another request may be sent, as far as the kernel has told.
    pub(super) fn is_open(&mut self) -> bool {
        let polled = Pin::new(&mut self.driver).poll(&mut Context::from_waker(Waker::noop()));
        polled.is_pending() && self.sender.is_ready()
    }

    /// Whether a body of this length in bytes would be copied, although it is long.
    pub(super) fn copies_too_much(&self, body: usize) -> bool {
        self.copies && body > LONGEST_COPY
    }

    /// The same connection for long bodies, from now on.
    pub(super) async fn without_copies(self: Box<Self>) -> Result<Box<Self>, NoAnswer> {
        let Self { driver, watchdog, .. } = *self;
        let (sender, driver) = handshake(driver.into_parts().io, false).await?;
        Ok(Box::new(Self { sender, driver, copies: false, watchdog }))
    }

    /// Sends a request that was begun at a time of [`RequestTimer::now`], maybe by opening this connection, and reads its answer to the last byte, with its
    /// headers if they are wanted. Without an answer the connection is gone.
    pub(super) fn exchange(
        mut self: Box<Self>,
        request: http::Request<Full<Bytes>>,
        begun: u64,
        limit: Duration,
        wants_headers: bool,
    ) -> impl Future<Output = Result<(Answer, Box<Self>), NoAnswer>> {
        // Not a part of the future, which would have to be large enough for it.
        let response = self.sender.send_request(request);
        async move {
            let Self { driver, watchdog, .. } = &mut *self;
            // Pinned here, as futures are large to move.
            let answer = pin!(async {
                let (mut head, body) = response.await?.into_parts();
                let status = head.status.as_u16();
                let encoding = head.headers.remove(header::CONTENT_ENCODING);
                let headers = (status > 299 || wants_headers).then(|| Box::new(head.headers));
                Ok(Answer { status, encoding, headers, body: read(body, LARGEST_BODY).await? })
            });
            let exchange = together(Pin::new(driver), answer);
            let answer = watchdog.guard(begun, limit, exchange).await.unwrap_or(Err(NoAnswer::Late))?;
            Ok((answer, self))
        }
    }
}

/// Speaks HTTP on a connection that is open, and between requests.
async fn handshake(
    io: Io,
    copies: bool,
) -> hyper::Result<(http1::SendRequest<Full<Bytes>>, http1::Connection<Io, Full<Bytes>>)> {
    http1::Builder::new().writev(!copies).handshake(io).await
}

/// Connects to the first address that answers.
async fn connect(host: &Host, number: usize) -> io::Result<TcpStream> {
    let mut addresses: Vec<SocketAddr> = lookup_host((host.name.as_str(), host.port)).await?.collect();
    let first = number.checked_rem(addresses.len()).unwrap_or(0);
    addresses.rotate_left(first);
    TcpStream::connect(&addresses[..]).await
}

/// Reads a body to its last byte, unless it is larger than a limit in bytes. One that comes in one piece is not copied.
async fn read(mut body: impl Body<Data = Bytes, Error = hyper::Error> + Unpin, limit: u64) -> Result<Bytes, NoAnswer> {
    let too_large = || {
        let cause = format!("the answer is larger than {limit} bytes");
        NoAnswer::Broken { class: ErrorClass::Response, cause }
    };
    if body.size_hint().lower() > limit {
        return Err(too_large());
    }
    let (mut first, mut rest) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if (first.len().max(rest.len()) + data.len()) as u64 > limit {
            return Err(too_large());
        }
        if first.is_empty() {
            first = data;
            continue;
        }
        if rest.is_empty() {
            let expected = body.size_hint().lower().min(READ_AHEAD) as usize;
            rest.reserve(first.len() + data.len() + expected);
            rest.extend_from_slice(&first);
        }
        rest.extend_from_slice(&data);
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

/// Polls a future and the connection that it waits for. If the connection ends first, the future knows.
///
/// The two wake each other as they go, although both are polled here in any case. So the task's own waker is only given to
/// the connection, and only before there is nothing left to do but to wait; otherwise each answer would cost a second turn
/// of the task.
async fn together<T>(
    mut driver: Pin<&mut http1::Connection<Io, Full<Bytes>>>,
    work: Pin<&mut impl Future<Output = Result<T, NoAnswer>>>,
) -> Result<T, NoAnswer> {
    // Out of budget, the future would ask to be woken.
    let mut work = pin!(unconstrained(work));
    let mut unwoken = Context::from_waker(Waker::noop());
    let mut ended = false;
    let mut go_on = |driver_context: &mut Context<'_>| {
        if !ended {
            match driver.as_mut().poll(driver_context) {
                Poll::Ready(Ok(())) => ended = true,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending => {}
            }
        }
        work.as_mut().poll(&mut unwoken)
    };
    let mut has_waited = false;
    poll_fn(|context| {
        if has_waited && let done @ Poll::Ready(_) = go_on(&mut Context::from_waker(Waker::noop())) {
            return done;
        }
        has_waited = true;
        go_on(context)
    })
    .await
}

impl From<hyper::Error> for NoAnswer {
    fn from(error: hyper::Error) -> Self {
        let mut source = error.source();
        while let Some(inner) = source {
            if let Some(error) = inner.downcast_ref::<io::Error>() {
                let (class, cause) = explain(error);
                return Self::Broken { class, cause };
            }
            source = inner.source();
        }
        // A head that is malformed or too large.
        let class = if error.is_parse() { ErrorClass::Response } else { ErrorClass::Connect };
        Self::Broken { class, cause: error.to_string() }
    }
}

/// What kind of failure ended a connection, and what is said of it.
fn explain(error: &io::Error) -> (ErrorClass, String) {
    // rustls wraps its own errors into those of I/O, and hyper what is wrong with the chunks of a body.
    if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
        return (ErrorClass::Tls, tls::explain(error));
    }
    let makes_no_sense = matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput);
    (if makes_no_sense { ErrorClass::Response } else { ErrorClass::Connect }, error.to_string())
}

/// Wakes a request that takes too long.
///
/// A timer of tokio is costly to set, so it is set only once it has rung, or if it would ring too late.
#[derive(Debug)]
struct Watchdog {
    sleep: Pin<Box<Sleep>>,
    /// In nanoseconds of [`RequestTimer::now`].
    rings_at: u64,
}

impl Watchdog {
    fn new(limit: Duration) -> Self {
        Self { sleep: Box::pin(sleep(limit)), rings_at: RequestTimer::now().saturating_add(nanos(limit)) }
    }

    /// Waits for something that was begun at a time of [`RequestTimer::now`]; none if it takes longer than the limit.
    async fn guard<T>(&mut self, begin: u64, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        let deadline = begin.saturating_add(nanos(limit));
        if self.rings_at > deadline {
            self.set(deadline, RequestTimer::now());
        }
        let mut work = pin!(work);
        poll_fn(|context| {
            if let Poll::Ready(result) = work.as_mut().poll(context) {
                return Poll::Ready(Some(result));
            }
            while self.sleep.as_mut().poll(context).is_ready() {
                let now = RequestTimer::now();
                if now >= deadline {
                    return Poll::Ready(None);
                }
                self.set(deadline, now);
            }
            Poll::Pending
        })
        .await
    }

    fn set(&mut self, deadline: u64, now: u64) {
        self.sleep.as_mut().reset(Instant::now() + Duration::from_nanos(deadline.saturating_sub(now)));
        self.rings_at = deadline;
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use futures_util::stream;
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    use super::*;

    /// Longer than any test takes: who waits for so long waits for ever.
    const FOR_EVER: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_body_is_read_up_to_a_limit_however_it_is_cut() {
        for (pieces, limit, expected) in [
            (&["abcd"][..], 4, Some("abcd")),
            (&["ab", "", "cd"], 4, Some("abcd")),
            (&["", "a"], 1, Some("a")),
            (&[], 0, Some("")),
            (&["abcd"], 3, None),
            (&["ab", "cd"], 3, None),
            (&["a", "b", "c", "d"], 3, None),
        ] {
            let frames = pieces.iter().map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes()))));
            match (read(StreamBody::new(stream::iter(frames)), limit).await, expected) {
                (Ok(body), Some(expected)) => assert_eq!(body, expected, "{pieces:?}"),
                (Err(NoAnswer::Broken { class: ErrorClass::Response, cause }), None) => {
                    assert_eq!(cause, format!("the answer is larger than {limit} bytes"), "{pieces:?}");
                }
                (result, expected) => panic!("{pieces:?}: {result:?}, not {expected:?}"),
            }
        }
    }

    #[tokio::test]
    async fn time_that_was_spent_connecting_is_a_part_of_the_limit() {
        let begun = RequestTimer::now() - nanos(FOR_EVER);
        let guarded = async { Watchdog::new(FOR_EVER).guard(begun, FOR_EVER, pending::<()>()).await };
        assert_eq!(timeout(FOR_EVER / 2, guarded).await.expect("the limit is over"), None);
    }

    #[tokio::test]
    async fn a_limit_counts_whether_it_is_shorter_or_longer_than_the_one_before() {
        let (short, long) = (Duration::from_millis(20), FOR_EVER * 2);
        let mut watchdog = Watchdog::new(long);
        let late = Duration::from_millis(60);
        // What is in time takes longer than the short limit, so that the alarm of the one before has rung by then.
        for (limit, is_in_time) in [(short, false), (long, true), (short, false), (short, false), (long, true)] {
            let work = async {
                match is_in_time {
                    true => sleep(late).await,
                    false => pending().await,
                }
            };
            let guarded = watchdog.guard(RequestTimer::now(), limit, work);
            let result = timeout(FOR_EVER, guarded).await.expect("it is woken");
            assert_eq!(result.is_some(), is_in_time, "{limit:?}");
        }
    }
}
