//! One HTTP/1.1 connection, driven by whoever sends a request on it.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::response::Parts;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::either::Either;

use super::host::Host;
use crate::{ErrorClass, RequestTimer, RunnerError};

type Io = TokioIo<Either<TcpStream, Box<tokio_rustls::client::TlsStream<TcpStream>>>>;

/// An open connection. Nothing happens on it between requests: its future is only polled by [`Connection::send`], which
/// saves a spawned task and two wake-ups for each request.
pub(super) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    driver: http1::Connection<Io, Full<Bytes>>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

/// An answer with its body as it came.
pub(super) struct Answer {
    pub(super) head: Parts,
    pub(super) body: Bytes,
}

impl Connection {
    /// Connects, over TLS if the host wants it.
    pub(super) async fn open(host: &Host, tls: Option<&TlsConnector>) -> Result<Self, RunnerError> {
        let failed = |class, cause: &dyn std::fmt::Display| RunnerError::Transport {
            class,
            description: format!("cannot connect to {host}: {cause}"),
        };
        let stream = TcpStream::connect((host.name.as_str(), host.port))
            .await
            .map_err(|error| failed(ErrorClass::Connect, &error))?;
        stream.set_nodelay(true).map_err(|error| failed(ErrorClass::Connect, &error))?;
        let stream = match tls.filter(|_| host.tls) {
            None => Either::Left(stream),
            Some(connector) => {
                let name = ServerName::try_from(host.name.clone()).map_err(|error| failed(ErrorClass::Tls, &error))?;
                let stream = connector.connect(name, stream).await.map_err(|error| failed(ErrorClass::Tls, &error))?;
                Either::Right(Box::new(stream))
            }
        };
        let (sender, driver) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(ErrorClass::Connect, &error))?;
        Ok(Self { sender, driver })
    }

    /// Whether another request may be sent, as far as the kernel has told.
    pub(super) fn is_open(&mut self) -> bool {
        // Nobody has looked since the last answer; whoever is on the other side may have closed it meanwhile.
        let polled = Pin::new(&mut self.driver).poll(&mut Context::from_waker(Waker::noop()));
        polled.is_pending() && !self.sender.is_closed()
    }

    /// Sends a request and reads its answer to the last byte, marking both.
    pub(super) async fn send(
        &mut self,
        request: http::Request<Full<Bytes>>,
        timer: &RequestTimer,
    ) -> Result<Answer, hyper::Error> {
        let Self { sender, driver } = self;
        let mut driver = Pin::new(driver);
        // After an answer the connection is ready again only once it was polled.
        together(&mut driver, sender.ready()).await?;
        timer.sent();
        let result = together(&mut driver, async {
            let (head, mut body) = sender.send_request(request).await?.into_parts();
            let mut first = Bytes::new();
            let mut rest = BytesMut::new();
            while let Some(frame) = body.frame().await {
                if let Ok(data) = frame?.into_data() {
                    if first.is_empty() {
                        first = data;
                    } else {
                        if rest.is_empty() {
                            rest.extend_from_slice(&first);
                        }
                        rest.extend_from_slice(&data);
                    }
                }
            }
            let body = if rest.is_empty() { first } else { rest.freeze() };
            Ok(Answer { head, body })
        })
        .await;
        timer.received();
        result
    }
}

/// Polls a future and the connection that it waits for. If the connection ends first, the future knows.
async fn together<T>(
    driver: &mut Pin<&mut http1::Connection<Io, Full<Bytes>>>,
    work: impl Future<Output = Result<T, hyper::Error>>,
) -> Result<T, hyper::Error> {
    let mut work = pin!(work);
    let mut ended = false;
    poll_fn(|context| {
        loop {
            if let Poll::Ready(result) = work.as_mut().poll(context) {
                return Poll::Ready(result);
            }
            if ended {
                return Poll::Pending;
            }
            match driver.as_mut().poll(context) {
                Poll::Ready(Ok(())) => ended = true,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                // What the connection read may have woken the future; polling it again costs less than a wake-up.
                Poll::Pending => return work.as_mut().poll(context),
            }
        }
    })
    .await
}

/// What went wrong on a connection, for people.
pub(super) fn explain(error: &hyper::Error) -> String {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(error) = inner.downcast_ref::<io::Error>() {
            return error.to_string();
        }
        source = inner.source();
    }
    error.to_string()
}
