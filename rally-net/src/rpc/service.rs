//! The answering side.

use std::collections::HashMap;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, Stream, StreamExt};
use quinn::{RecvStream, SendStream};
use rally_core::{Epoch, HostId};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tracing::{debug, error};

use super::{Head, Peer, Rejection, Request};
use crate::frame::{self, FrameError};
use crate::status::HostRole;

/// How many requests of one peer are served at the same time; QUIC holds back the rest.
pub(crate) const MAX_CONCURRENT_REQUESTS: u32 = 64;

/// How long a peer may take to send a request once its stream is open.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Who may use a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Every host with a certificate of the cluster.
    AnyHost,
    /// Only the host whose certificate says that it is the coordinator.
    CoordinatorOnly,
}

/// Who sent a request.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The host, for requests in the other direction.
    pub peer: Peer,
}

impl Caller {
    /// The host's id, from its certificate.
    pub fn host(&self) -> HostId {
        self.peer.host()
    }

    /// The start of the host's daemon.
    pub fn epoch(&self) -> Epoch {
        self.peer.epoch()
    }
}

type Handler = Arc<dyn Fn(Caller, Bytes, SendStream, Duration) -> BoxFuture<'static, ()> + Send + Sync>;

/// What a host offers to its peers, by the name of the request. Clones share the services themselves.
#[derive(Clone, Default)]
pub struct Services {
    by_name: HashMap<&'static str, (Access, Handler)>,
    /// Every request that is being served, until its peer has all of the answer.
    served: TaskTracker,
}

impl Services {
    /// No services.
    pub fn new() -> Self {
        Self::default()
    }

    /// Every request that is being served, until its peer has all of the answer.
    pub(crate) fn served(&self) -> &TaskTracker {
        &self.served
    }

    /// Answers requests of one kind with one answer each.
    pub fn answer<R, F, A>(&mut self, access: Access, service: F)
    where
        R: Request,
        F: Fn(Caller, R) -> A + Send + Sync + 'static,
        A: Future<Output = R::Answer> + Send + 'static,
    {
        let service = Arc::new(service);
        self.insert::<R>(access, move |caller, body, mut stream, within| {
            let service = Arc::clone(&service);
            async move {
                let answer = match frame::decode::<R>(&body) {
                    Ok(request) => guarded::<R, _>(within, service(caller, request)).await,
                    Err(_) => Err(Rejection::Malformed),
                };
                send_last(&mut stream, frame::encode(&answer)).await;
            }
            .boxed()
        });
    }

    /// Answers requests of one kind with a stream of items each, or says why there is none.
    pub fn stream<R, F, A, S>(&mut self, access: Access, service: F)
    where
        R: Request,
        F: Fn(Caller, R) -> A + Send + Sync + 'static,
        A: Future<Output = Result<S, Rejection>> + Send + 'static,
        S: Stream<Item = R::Answer> + Send + 'static,
    {
        let service = Arc::new(service);
        self.insert::<R>(access, move |caller, body, mut stream, within| {
            let service = Arc::clone(&service);
            async move {
                let accepted = match frame::decode::<R>(&body) {
                    Ok(request) => guarded::<R, _>(within, service(caller, request)).await.flatten(),
                    Err(_) => Err(Rejection::Malformed),
                };
                match accepted {
                    Err(rejection) => send_last(&mut stream, frame::encode(&Err::<(), _>(rejection))).await,
                    Ok(items) => {
                        let mut sent = send(&mut stream, frame::encode(&Ok::<(), Rejection>(()))).await;
                        let mut items = pin!(AssertUnwindSafe(items).catch_unwind());
                        while sent.is_ok()
                            && let Some(item) = items.next().await
                        {
                            sent = match item {
                                Ok(item) => send(&mut stream, frame::encode(&item)).await,
                                Err(_) => {
                                    error!(request = R::NAME, "the service panicked");
                                    Err(FrameError::Io(std::io::ErrorKind::BrokenPipe.into()))
                                }
                            };
                        }
                        finish(&mut stream, sent);
                    }
                }
            }
            .boxed()
        });
    }

    /// Answers requests of one kind with plain bytes, which `service` writes after it has accepted.
    ///
    /// `service` decides first; what it returns writes to the stream afterwards.
    pub fn bytes<R, F, A, W, B>(&mut self, access: Access, service: F)
    where
        R: Request,
        F: Fn(Caller, R) -> A + Send + Sync + 'static,
        A: Future<Output = Result<W, Rejection>> + Send + 'static,
        W: FnOnce(SendStream) -> B + Send + 'static,
        B: Future<Output = std::io::Result<()>> + Send + 'static,
    {
        let service = Arc::new(service);
        self.insert::<R>(access, move |caller, body, mut stream, within| {
            let service = Arc::clone(&service);
            async move {
                let accepted = match frame::decode::<R>(&body) {
                    Ok(request) => guarded::<R, _>(within, service(caller, request)).await.flatten(),
                    Err(_) => Err(Rejection::Malformed),
                };
                match accepted {
                    Err(rejection) => send_last(&mut stream, frame::encode(&Err::<(), _>(rejection))).await,
                    Ok(write) => {
                        if send(&mut stream, frame::encode(&Ok::<(), Rejection>(()))).await.is_ok()
                            && let Err(error) = write(stream).await
                        {
                            debug!(request = R::NAME, %error, "the peer did not take all bytes");
                        }
                    }
                }
            }
            .boxed()
        });
    }

    /// The last service of a name wins; no two are ever registered under one name.
    fn insert<R: Request>(
        &mut self,
        access: Access,
        handler: impl Fn(Caller, Bytes, SendStream, Duration) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) {
        let previous = self.by_name.insert(R::NAME, (access, Arc::new(handler)));
        assert!(previous.is_none(), "two services are named `{}`", R::NAME);
    }

    /// Reads one request from a fresh stream and serves it, until it is done or the peer cancels it.
    async fn serve_one(&self, caller: Caller, mut send: SendStream, mut receive: RecvStream) {
        let Ok(Ok(Some(body))) = timeout(REQUEST_TIMEOUT, frame::read(&mut receive)).await else {
            debug!(peer = caller.peer.name(), "a request did not arrive whole");
            return;
        };
        frame::take_end(&mut receive);
        let Ok((head, rest)) = postcard::take_from_bytes::<Head<'_>>(&body) else {
            return send_last(&mut send, frame::encode(&Err::<(), _>(Rejection::Malformed))).await;
        };
        let Some((access, handler)) = self.by_name.get(head.name) else {
            let name = head.name.chars().take(64).collect();
            return send_last(&mut send, frame::encode(&Err::<(), _>(Rejection::UnknownService(name)))).await;
        };
        if *access == Access::CoordinatorOnly && caller.peer.role() != HostRole::Coordinator {
            return send_last(
                &mut send,
                frame::encode(&Err::<(), _>(Rejection::CoordinatorOnly(head.name.to_owned()))),
            )
            .await;
        }
        let stopped = send.stopped();
        let within = Duration::from_millis(head.within.into());
        let rest = body.slice_ref(rest);
        // The peer stops reading when it drops the call.
        let mut stopped = pin!(stopped);
        tokio::select! {
            biased;
            () = handler(caller, rest, send, within) => (),
            _ = &mut stopped => return,
        }
        // However it ends: the peer has everything, or wants no more of it.
        let _ = stopped.await;
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_name.keys()).finish()
    }
}

/// Serves the requests of one peer until the connection ends; what is still running then is cancelled.
pub(crate) async fn serve(services: &Arc<Services>, peer: &Peer) -> quinn::ConnectionError {
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            accepted = peer.connection().accept_bi() => match accepted {
                Ok((send, receive)) => {
                    let (services, caller) = (Arc::clone(services), Caller { peer: peer.clone() });
                    let served = services.served.token();
                    running.spawn(async move {
                        services.serve_one(caller, send, receive).await;
                        drop(served);
                    });
                }
                Err(error) => return error,
            },
            Some(done) = running.join_next() => {
                if let Err(error) = done {
                    error!(peer = peer.name(), %error, "serving a request failed");
                }
            }
        }
    }
}

/// Runs a service within the caller's time, and survives its panic.
async fn guarded<R: Request, T>(within: Duration, service: impl Future<Output = T>) -> Result<T, Rejection> {
    match timeout(within, AssertUnwindSafe(service).catch_unwind()).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => {
            error!(request = R::NAME, "the service panicked");
            Err(Rejection::Crashed(R::NAME.to_owned()))
        }
        Err(_) => Err(Rejection::DeadlinePassed),
    }
}

async fn send(stream: &mut SendStream, frame: Result<Vec<u8>, FrameError>) -> Result<(), FrameError> {
    stream.write_chunk(Bytes::from(frame?)).await.map_err(|error| FrameError::Io(error.into()))
}

/// Sends the one answer of a request.
async fn send_last(stream: &mut SendStream, answer: Result<Vec<u8>, FrameError>) {
    let sent = send(stream, answer).await;
    finish(stream, sent);
}

/// Ends a stream so that the peer can tell a complete answer from a broken one.
fn finish(stream: &mut SendStream, sent: Result<(), FrameError>) {
    match sent {
        Ok(()) => drop(stream.finish()),
        Err(error) => {
            debug!(%error, "the peer did not take the answer");
            drop(stream.reset(crate::close::CloseCode::Failed.into()));
        }
    }
}
