//! What all proxies have in common: finding the host, asking again, and naming the culprit.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use rally_core::{EventStream, HostId, Role, RoleError, RoleErrorKind, Sequence};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep};

use crate::host::Shared;
use crate::rpc::{CallError, Peer, Rejection, Request, Subscription};
use crate::status::HostState;

/// How long a request may take, waiting for the host to come back included: longer than a host may be silent.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How often a lost connection is looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A role on another host.
#[derive(Clone, Debug)]
pub(super) struct RemoteRole {
    pub(super) shared: Arc<Shared>,
    pub(super) role: Role,
    pub(super) target: Target,
}

/// Which host.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    Host(HostId),
    Coordinator,
}

impl RemoteRole {
    /// Sends a request until it is answered; it must be one that may arrive twice.
    pub(super) async fn call<R, T>(&self, phase: &str, request: &R) -> Result<T, RoleError>
    where
        R: Request<Answer = Result<T, RoleError>>,
    {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let peer = self.find(phase, deadline).await?;
            match peer.call(request, deadline.saturating_duration_since(Instant::now())).await {
                Ok(answer) => return answer,
                Err(CallError::Lost { .. }) => sleep(LOOK_AGAIN).await,
                Err(error) => return Err(self.error(phase, &error)),
            }
        }
    }

    async fn subscribe<R: Request>(&self, phase: &str, request: &R) -> Result<Subscription<R::Answer>, RoleError> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let peer = self.find(phase, deadline).await?;
            match peer.subscribe(request, deadline.saturating_duration_since(Instant::now())).await {
                Ok(items) => return Ok(items),
                Err(CallError::Lost { .. }) => sleep(LOOK_AGAIN).await,
                Err(error) => return Err(self.error(phase, &error)),
            }
        }
    }

    /// Follows events until their end; `request` asks for those after a number.
    pub(super) async fn follow<R, E>(
        &self,
        phase: String,
        after: Sequence,
        request: impl Fn(Sequence) -> R + Send + Sync + 'static,
        number: fn(&E) -> Sequence,
    ) -> Result<EventStream<E>, RoleError>
    where
        R: Request<Answer = Result<E, RoleError>>,
        E: DeserializeOwned + Send + 'static,
    {
        let items = self.subscribe(&phase, &request(after)).await?;
        let following = Following { remote: self.clone(), phase, after, request, number, items };
        let next = async |following: Option<Following<_, E>>| {
            let mut following = following?;
            match following.next().await? {
                Ok(event) => Some((Ok(event), Some(following))),
                Err(error) => Some((Err(error), None)),
            }
        };
        Ok(futures_util::stream::unfold(Some(following), next).boxed())
    }

    /// Waits for a connection to the host, until the host counts as gone or the time is up.
    async fn find(&self, phase: &str, deadline: Instant) -> Result<Peer, RoleError> {
        loop {
            if let Some(cause) = self.gone() {
                return Err(self.failed(phase, RoleErrorKind::Unreachable, cause));
            }
            if Instant::now() >= deadline {
                let cause = format!("it was not connected for {TIMEOUT:?}");
                return Err(self.failed(phase, RoleErrorKind::Unreachable, cause));
            }
            match self.peer() {
                Some(peer) => return Ok(peer),
                None => sleep(LOOK_AGAIN).await,
            }
        }
    }

    fn peer(&self) -> Option<Peer> {
        match self.target {
            Target::Host(host) => self.shared.peer(host),
            Target::Coordinator => self.shared.coordinator_peer(),
        }
    }

    /// Why there is no use in waiting for the host.
    fn gone(&self) -> Option<String> {
        match self.target {
            Target::Coordinator => None,
            Target::Host(host) => match self.shared.standing(host) {
                None => Some("no such host is known here".to_owned()),
                Some((_, HostState::Dead)) => Some("it was silent for so long that it counts as dead".to_owned()),
                Some((_, HostState::Left)) => Some("it has left the cluster".to_owned()),
                Some((_, HostState::Alive | HostState::Suspect)) => None,
            },
        }
    }

    pub(super) fn error(&self, phase: &str, error: &CallError) -> RoleError {
        let kind = match error {
            CallError::Rejected { rejection: Rejection::Role(error), .. } => return error.clone(),
            CallError::Rejected { rejection: Rejection::CoordinatorOnly(_), .. } => RoleErrorKind::Forbidden,
            CallError::Rejected { .. } | CallError::Broken { .. } => RoleErrorKind::Failed,
            CallError::Lost { .. } => RoleErrorKind::Unreachable,
            CallError::DeadlinePassed { .. } => RoleErrorKind::DeadlinePassed,
        };
        RoleError::new(self.host_name(), self.role, phase, kind, error)
    }

    fn failed(&self, phase: &str, kind: RoleErrorKind, cause: String) -> RoleError {
        RoleError { host: self.host_name(), role: self.role, phase: phase.to_owned(), kind, cause }
    }

    /// The answer makes no sense.
    pub(super) fn broken(&self, phase: &str, cause: &(dyn std::error::Error + 'static)) -> RoleError {
        RoleError::new(self.host_name(), self.role, phase, RoleErrorKind::Failed, cause)
    }

    fn host_name(&self) -> String {
        match self.target {
            Target::Coordinator => {
                self.peer().map_or_else(|| "the coordinator".to_owned(), |peer| peer.name().to_owned())
            }
            Target::Host(host) => self.shared.standing(host).map_or_else(|| host.to_string(), |(name, _)| name),
        }
    }
}

/// A stream of events that outlives the connections it comes over.
struct Following<F, E> {
    remote: RemoteRole,
    phase: String,
    /// The last event that has arrived.
    after: Sequence,
    request: F,
    number: fn(&E) -> Sequence,
    items: Subscription<Result<E, RoleError>>,
}

impl<F, E, R> Following<F, E>
where
    F: Fn(Sequence) -> R,
    R: Request<Answer = Result<E, RoleError>>,
    E: DeserializeOwned + Send + 'static,
{
    async fn next(&mut self) -> Option<Result<E, RoleError>> {
        loop {
            match self.items.next().await? {
                Ok(Ok(event)) => {
                    self.after = (self.number)(&event);
                    return Some(Ok(event));
                }
                Ok(Err(error)) => return Some(Err(error)),
                Err(CallError::Lost { .. }) => {
                    match self.remote.subscribe(&self.phase, &(self.request)(self.after)).await {
                        Ok(items) => self.items = items,
                        Err(error) => return Some(Err(error)),
                    }
                }
                Err(error) => return Some(Err(self.remote.error(&self.phase, &error))),
            }
        }
    }
}
