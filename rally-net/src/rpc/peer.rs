//! The calling side.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use quinn::{Connection, RecvStream};
use rally_core::{Epoch, HostId};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::{Head, Rejection, Request};
use crate::frame::{self, FrameError};
use crate::status::HostRole;

/// The far end of a connection: a host whose certificate was checked. Clones share the connection.
#[derive(Clone)]
pub struct Peer {
    inner: Arc<Inner>,
}

struct Inner {
    connection: Connection,
    host: HostId,
    role: HostRole,
    epoch: Epoch,
    name: String,
}

impl Peer {
    pub(crate) fn new(connection: Connection, host: HostId, role: HostRole, epoch: Epoch, name: String) -> Self {
        Self { inner: Arc::new(Inner { connection, host, role, epoch, name }) }
    }

    /// The host's id, from its certificate.
    pub fn host(&self) -> HostId {
        self.inner.host
    }

    /// The host's place in the cluster, from its certificate.
    pub fn role(&self) -> HostRole {
        self.inner.role
    }

    /// The start of the daemon that this connection belongs to.
    pub fn epoch(&self) -> Epoch {
        self.inner.epoch
    }

    /// What to call the host in messages to the user: its name and address.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.inner.connection
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    ///
    /// [`CallError`]: the peer rejects the request, is gone, or has not answered `within` the time.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the request; whether the peer had already acted is unknown.
    pub async fn call<R: Request>(&self, request: &R, within: Duration) -> Result<R::Answer, CallError> {
        self.bounded::<R, _>(within, async {
            let mut stream = self.send(request, within).await?;
            let answer: Result<R::Answer, Rejection> =
                self.receive(&mut stream).await?.ok_or_else(|| self.broken(FrameError::Io(end_of_stream())))?;
            frame::take_end(&mut stream);
            answer.map_err(|rejection| self.rejected(rejection))
        })
        .await
    }

    /// Sends a request whose answers come as a stream; `within` bounds the wait for its acceptance.
    ///
    /// # Errors
    ///
    /// As [`Peer::call`].
    pub async fn subscribe<R: Request>(
        &self,
        request: &R,
        within: Duration,
    ) -> Result<Subscription<R::Answer>, CallError> {
        let stream = self.read(request, within).await?;
        Ok(Subscription::new(self.clone(), stream))
    }

    /// Sends a request that is answered with plain bytes; `within` bounds the wait for its acceptance.
    ///
    /// # Errors
    ///
    /// As [`Peer::call`].
    pub async fn read<R: Request>(&self, request: &R, within: Duration) -> Result<RecvStream, CallError> {
        self.bounded::<R, _>(within, async {
            let mut stream = self.send(request, within).await?;
            let accepted: Result<(), Rejection> =
                self.receive(&mut stream).await?.ok_or_else(|| self.broken(FrameError::Io(end_of_stream())))?;
            accepted.map_err(|rejection| self.rejected(rejection))?;
            Ok(stream)
        })
        .await
    }

    async fn bounded<R: Request, T>(
        &self,
        within: Duration,
        work: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        match timeout(within, work).await {
            Ok(result) => result,
            Err(_) => Err(CallError::DeadlinePassed { peer: self.name().to_owned(), request: R::NAME, within }),
        }
    }

    /// Opens a stream and sends the one frame of a request on it.
    async fn send<R: Request>(&self, request: &R, within: Duration) -> Result<RecvStream, CallError> {
        let head = Head { name: R::NAME, within: u32::try_from(within.as_millis()).unwrap_or(u32::MAX) };
        let frame = frame::encode(&(head, request)).map_err(|error| self.broken(error))?;
        let (mut send, receive) = self.connection().open_bi().await.map_err(|error| self.lost(&error))?;
        send.write_chunk(Bytes::from(frame)).await.map_err(|error| self.broken(FrameError::Io(error.into())))?;
        // A stream that the peer has already stopped cannot be finished; reading its answer tells why.
        let _ = send.finish();
        Ok(receive)
    }

    async fn receive<T: DeserializeOwned>(&self, stream: &mut RecvStream) -> Result<Option<T>, CallError> {
        let body = frame::read(stream).await.map_err(|error| self.broken(error))?;
        body.map(|body| frame::decode(&body)).transpose().map_err(|error| self.broken(error))
    }

    fn rejected(&self, rejection: Rejection) -> CallError {
        CallError::Rejected { peer: self.name().to_owned(), rejection }
    }

    fn lost(&self, cause: &quinn::ConnectionError) -> CallError {
        CallError::Lost { peer: self.name().to_owned(), cause: crate::close::describe(cause) }
    }

    /// Tells a broken connection from a broken stream.
    fn broken(&self, error: FrameError) -> CallError {
        match self.connection().close_reason() {
            Some(cause) => self.lost(&cause),
            None => CallError::Broken { peer: self.name().to_owned(), source: error },
        }
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("host", &self.inner.host)
            .field("role", &self.inner.role)
            .field("epoch", &self.inner.epoch)
            .field("name", &self.inner.name)
            .finish_non_exhaustive()
    }
}

/// A request to another host got no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The connection is gone.
    #[error("lost the connection to {peer}: {cause}")]
    Lost {
        /// The other host.
        peer: String,
        /// Why.
        cause: String,
    },
    /// No answer in time.
    #[error("{peer} did not answer `{request}` within {within:?}")]
    DeadlinePassed {
        /// The other host.
        peer: String,
        /// What was asked.
        request: &'static str,
        /// How long the caller waited.
        within: Duration,
    },
    /// The other host will not do it.
    #[error("{peer} refused: {rejection}")]
    Rejected {
        /// The other host.
        peer: String,
        /// Why.
        rejection: Rejection,
    },
    /// The request or the answer could not be sent or read, although the connection stands.
    #[error("the exchange with {peer} failed")]
    Broken {
        /// The other host.
        peer: String,
        /// What is wrong.
        #[source]
        source: FrameError,
    },
}

/// The items that another host sends until it ends the stream. Dropping it cancels the subscription.
#[must_use]
pub struct Subscription<T> {
    items: Pin<Box<dyn Stream<Item = Result<T, CallError>> + Send>>,
}

impl<T: DeserializeOwned + Send + 'static> Subscription<T> {
    fn new(peer: Peer, stream: RecvStream) -> Self {
        let items = futures_util::stream::unfold(Some((peer, stream)), async |state| {
            let (peer, mut stream) = state?;
            match peer.receive(&mut stream).await {
                Ok(Some(item)) => Some((Ok(item), Some((peer, stream)))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        });
        Self { items: Box::pin(items) }
    }
}

impl<T> Stream for Subscription<T> {
    type Item = Result<T, CallError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(ready!(self.items.as_mut().poll_next(context)))
    }
}

impl<T> fmt::Debug for Subscription<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").finish_non_exhaustive()
    }
}

fn end_of_stream() -> std::io::Error {
    std::io::ErrorKind::UnexpectedEof.into()
}
