//! What `rallyd status` shows, as text for people and as JSON for programs.

mod document;
mod text;

use std::net::SocketAddr;

pub(crate) use document::StatusDocument;
pub(crate) use document::timestamp;
pub(crate) use text::render_text;

use crate::control::DaemonStatus;

/// What is known about one daemon of this machine that runs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum DaemonReport {
    /// It says so itself.
    Answered(Box<DaemonStatus>),
    /// It does not answer.
    Unresponsive { address: SocketAddr, pid: Option<u32>, error: String },
}

#[cfg(test)]
mod tests;
