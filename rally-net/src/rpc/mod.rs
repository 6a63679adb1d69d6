//! Requests, answers, subscriptions and byte streams between two hosts that know each other.
//!
//! Each request has a QUIC stream of its own. The caller sends one frame, a [`Head`] followed by the request, and ends
//! its side. The other host answers with one frame that accepts or rejects; what follows depends on the kind of service:
//! nothing behind the answer of a [`Peer::call`], one frame for each item of a [`Peer::subscribe`], plain bytes for a
//! [`Peer::read`]. Whoever drops their end of the stream cancels the request.

mod peer;
mod service;
#[cfg(test)]
mod tests;

pub use peer::{CallError, Peer, Subscription};
pub use service::{Access, Caller, Services};

pub(crate) use service::{MAX_CONCURRENT_REQUESTS, serve};

use rally_core::RoleError;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// One kind of request, and what it is answered with.
pub trait Request: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The name on the wire, such as `driver/prepare`; it never changes within a protocol version.
    const NAME: &'static str;

    /// The answer, or for a subscription each item. Errors that the service itself defines are part of it.
    type Answer: Serialize + DeserializeOwned + Send + 'static;
}

/// The first part of every request's frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head<'a> {
    /// [`Request::NAME`].
    pub name: &'a str,
    /// How long the caller waits for the answer, in milliseconds.
    pub within: u32,
}

/// Why a request was not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Rejection {
    /// The host offers no service of that name.
    #[error("it offers no service `{0}`")]
    UnknownService(String),
    /// The bytes are no request of that kind.
    #[error("it did not understand the request")]
    Malformed,
    /// Only the coordinator may ask for this.
    #[error("only the coordinator may ask for `{0}`")]
    CoordinatorOnly(String),
    /// The service was not done when the caller's time was up.
    #[error("it was not done in time")]
    DeadlinePassed,
    /// The service has failed in a way that it has no answer for.
    #[error("the service `{0}` has crashed; the host's log says more")]
    Crashed(String),
    /// The role that was asked has refused.
    #[error(transparent)]
    Role(#[from] RoleError),
}
