//! What two hosts say to each other before and beside the requests of `rpc`: greetings, joining, heartbeats.
//!
//! The dialing host opens the first stream of a connection and sends [`Hello`], answered by `Result<Welcome, HelloRefusal>`;
//! on a connection for joining it sends [`JoinRequest`] instead, answered by `Result<Joined, JoinRefusal>`. Every type
//! here is plain data; variants are appended, never reordered.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rally_core::{Activity, ClusterTime, Epoch, HostFacts, HostId};
use serde::{Deserialize, Serialize};

use crate::clock::LocalTime;
use crate::identity::{TokenId, TokenSecret};
use crate::membership::RefuseReason;
use crate::status::ClockEstimate;

/// The protocol and the software that speaks it, as the other end of a connection shows it to its user when the protocol
/// versions do not match. Every version of the protocol sends such a text.
pub(crate) const SOFTWARE: &str = concat!("rally/1 (rallyd ", env!("CARGO_PKG_VERSION"), ")");

/// The longest text, in bytes, that a host may say about itself.
const MAX_TEXT: usize = 128;

/// How many roles a host may say that it plays.
const MAX_ROLES: usize = 8;

/// Opens a connection; sent by the host that dialed, answered by `Result<Welcome, HelloRefusal>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The number of this start of the host's daemon.
    pub epoch: Epoch,
    /// What the host is.
    pub facts: HostFacts,
    /// The build of its daemon, such as `x86_64-linux release`.
    pub build: String,
    /// What it can do for others, such as `load-driver`.
    pub capabilities: Vec<String>,
    /// Its wall clock, in nanoseconds since the Unix epoch.
    pub wall_clock: u64,
}

/// Accepts a [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The number of this start of the answering host's daemon.
    pub epoch: Epoch,
    /// What the answering host is.
    pub facts: HostFacts,
    /// The build of its daemon.
    pub build: String,
    /// What it can do for others.
    pub capabilities: Vec<String>,
}

/// Refuses a [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum HelloRefusal {
    /// The coordinator does not take the host in.
    #[error(transparent)]
    NotTakenIn(RefuseReason),
    /// The clocks are too far apart; rendered, because the coordinator knows the difference.
    #[error("{0}")]
    Clock(String),
    /// The greeting makes no sense.
    #[error("the greeting is invalid: {0}")]
    Invalid(String),
}

/// Asks for a certificate; sent on a connection for joining, answered by `Result<Joined, JoinRefusal>`.
#[derive(Clone, Serialize, Deserialize)]
pub struct JoinRequest {
    /// Which token.
    pub token: TokenId,
    /// The token's secret.
    pub secret: TokenSecret,
    /// The certificate signing request, in DER.
    pub request: Vec<u8>,
    /// The host's wall clock, in nanoseconds since the Unix epoch.
    pub wall_clock: u64,
    /// The machine's name.
    pub name: String,
}

/// Accepts a [`JoinRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// The id that the coordinator has chosen for the host.
    pub host: HostId,
    /// The host's certificate and the authority's, in DER.
    pub chain: Vec<Vec<u8>>,
}

/// Refuses a [`JoinRequest`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum JoinRefusal {
    /// The token is not good.
    #[error("{0}")]
    Token(String),
    /// The clocks are too far apart.
    #[error("{0}")]
    Clock(String),
    /// The request makes no sense.
    #[error("the request is invalid: {0}")]
    Invalid(String),
}

/// The wall clock, in nanoseconds since the Unix epoch.
pub(crate) fn wall_clock(now: SystemTime) -> u64 {
    u64::try_from(now.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

/// The point in time of a wall clock that a peer has stated.
pub(crate) fn from_wall_clock(nanos: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanos)
}

/// An unreliable message between a host and its coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Datagram {
    /// From a member, answered by [`Datagram::Answer`].
    Heartbeat {
        /// When it was sent, by the member's own clock.
        sent: LocalTime,
        /// What the member is doing.
        activity: Activity,
        /// The member's clock as far as it knows, and the shortest recent round trip.
        clock: Option<(ClockEstimate, Duration)>,
        /// How far its wall clock was moved since its daemon started, in nanoseconds.
        wall_shift: i64,
    },
    /// From the coordinator.
    Answer {
        /// When the heartbeat was sent, as it said.
        sent: LocalTime,
        /// When the heartbeat arrived.
        received_there: ClusterTime,
        /// When this answer was sent.
        sent_there: ClusterTime,
    },
}

impl Hello {
    /// Checks everything that the host says about itself before it is stored or shown.
    ///
    /// # Errors
    ///
    /// What is wrong, in words.
    pub fn check(&self) -> Result<(), String> {
        check_host(&self.facts, &self.build, &self.capabilities)
    }
}

impl Welcome {
    /// As [`Hello::check`].
    ///
    /// # Errors
    ///
    /// What is wrong, in words.
    pub fn check(&self) -> Result<(), String> {
        check_host(&self.facts, &self.build, &self.capabilities)
    }
}

impl Datagram {
    /// Whether a peer may say this; what is not is dropped.
    pub fn is_sound(&self) -> bool {
        match self {
            Self::Heartbeat { activity: Activity::Racing { roles, .. }, .. } => roles.len() <= MAX_ROLES,
            Self::Heartbeat { .. } | Self::Answer { .. } => true,
        }
    }
}

fn check_host(facts: &HostFacts, build: &str, capabilities: &[String]) -> Result<(), String> {
    facts.texts().try_for_each(|(what, text)| check_text(what, text))?;
    check_text("build", build)?;
    if capabilities.len() > MAX_ROLES {
        return Err(format!("{} capabilities, {MAX_ROLES} are allowed", capabilities.len()));
    }
    capabilities.iter().try_for_each(|capability| check_text("capability", capability))
}

/// Texts of peers end up on terminals and in logs, so they are short and hold nothing that moves a cursor.
fn check_text(what: &str, text: &str) -> Result<(), String> {
    if text.len() > MAX_TEXT {
        Err(format!("the {what} has {} bytes, {MAX_TEXT} are allowed", text.len()))
    } else if text.chars().any(char::is_control) {
        Err(format!("the {what} holds control characters"))
    } else {
        Ok(())
    }
}

impl std::fmt::Debug for JoinRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinRequest").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_of_a_greeting_are_bound_by_the_same_limits() {
        let facts = |name: &str| HostFacts { name: name.to_owned(), ..HostFacts::default() };
        let roles = |count| vec!["load-driver".to_owned(); count];
        let table = [
            (facts("driver-1"), "x86_64-linux release", roles(MAX_ROLES), true),
            (facts("driver-1"), "x86_64-linux release", roles(MAX_ROLES + 1), false),
            (facts("driver\x1b[2J"), "x86_64-linux release", roles(1), false),
            (facts(&"x".repeat(MAX_TEXT + 1)), "x86_64-linux release", roles(1), false),
            (HostFacts { cpu: Some("x".repeat(MAX_TEXT + 1)), ..facts("driver-1") }, "release", roles(1), false),
            (HostFacts { governor: Some("a\nb".to_owned()), ..facts("driver-1") }, "release", roles(1), false),
            (HostFacts { cpu: Some("EPYC".to_owned()), ..facts("driver-1") }, "release", roles(1), true),
            (facts("driver-1"), "two\nlines", roles(1), false),
            (facts("driver-1"), "x86_64-linux release", vec!["\u{9b}".to_owned()], false),
        ];
        for (facts, build, capabilities, fine) in table {
            let build = build.to_owned();
            let welcome = Welcome {
                epoch: Epoch(1),
                facts: facts.clone(),
                build: build.clone(),
                capabilities: capabilities.clone(),
            };
            let hello = Hello { epoch: Epoch(1), facts, build, capabilities, wall_clock: 0 };
            assert_eq!(hello.check().is_ok(), fine, "{hello:?}");
            assert_eq!(welcome.check(), hello.check());
        }
    }
}
