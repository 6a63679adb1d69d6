//! The error that every role fails with.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A role that a host plays in a race.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// Owns the race.
    Coordinator,
    /// Interprets the track and applies the load.
    LoadDriver,
    /// Installs and launches the nodes of the cluster under test.
    Provisioner,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Coordinator => "coordinator",
            Self::LoadDriver => "load driver",
            Self::Provisioner => "provisioner",
        })
    }
}

/// What kind of failure it was, as far as a caller would act differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum RoleErrorKind {
    /// The host cannot be reached, or the connection to it was lost.
    Unreachable,
    /// No answer within the time that was allowed.
    DeadlinePassed,
    /// The role is taken; the message says by whom and since when.
    Busy,
    /// The caller may not do this.
    Forbidden,
    /// The request makes no sense as it stands, such as an unknown race; a mistake of the caller or the user.
    Invalid,
    /// It was stopped before it was done.
    Cancelled,
    /// The role tried and failed.
    Failed,
}

/// A role could not do what it was asked for: which host, in which role and phase, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{role} on {host} could not {phase}: {cause}")]
pub struct RoleError {
    /// The host, by the name or address that the user knows it by.
    pub host: String,
    /// The role that failed.
    pub role: Role,
    /// What it was asked to do, as a verb phrase: `prepare race 4711`.
    pub phase: String,
    /// What kind of failure.
    pub kind: RoleErrorKind,
    /// The rendered chain of causes.
    pub cause: String,
}

impl RoleError {
    /// Says what failed; `cause` is rendered with all its sources.
    pub fn new(
        host: impl Into<String>,
        role: Role,
        phase: impl Into<String>,
        kind: RoleErrorKind,
        cause: &(dyn std::error::Error + 'static),
    ) -> Self {
        Self { host: host.into(), role, phase: phase.into(), kind, cause: render_chain(cause) }
    }
}

/// Joins an error and its sources with `: `.
fn render_chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("no space left on device")]
    struct Inner;

    #[derive(Debug, thiserror::Error)]
    #[error("failed to write a segment")]
    struct Outer(#[source] Inner);

    #[test]
    fn an_error_names_host_role_phase_and_the_whole_cause() {
        let error = RoleError::new("10.0.0.7", Role::LoadDriver, "drive race 1", RoleErrorKind::Failed, &Outer(Inner));
        assert_eq!(
            error.to_string(),
            "load driver on 10.0.0.7 could not drive race 1: failed to write a segment: no space left on device"
        );
    }
}
