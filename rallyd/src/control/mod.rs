//! The control socket: how the commands of this user talk to a daemon on the same machine.
//!
//! One request and one response per connection, each a frame: its length as four bytes (big-endian), then JSON. Both
//! ends are the same program, so the format may change with any version; the socket lies in a directory that only its
//! owner can enter, and the daemon also asks the kernel who is calling.

mod client;
mod server;

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rally_core::metrics::RaceReport;
use rally_core::{RaceEvent, RaceId, RaceRequest, RaceStatus, RoleError, Sequence, StopMode};
use rally_net::{HostStatus, TokenId, TokenSummary};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

pub use client::{ControlError, call};
pub(crate) use server::{ControlServer, Handler};

/// A daemon that has not answered by then counts as unresponsive, and a caller that has not asked is let go.
pub(crate) const DEADLINE: Duration = Duration::from_secs(3);

/// Upper bound of a frame in bytes: the status of some ten thousand hosts.
const MAX_FRAME: usize = 16 * 1024 * 1024;

/// The kernel takes 108 bytes for the path of a socket on Linux, 104 elsewhere, with a zero byte at the end.
const MAX_SOCKET_PATH: usize = 103;

/// What a command asks of the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// How are you? Answered by [`Response::Status`].
    Status,
    /// Stop gracefully. Answered by [`Response::Stopping`] at once; the daemon is gone when its lock is.
    Stop,
    /// Make a join string. Answered by [`Response::Token`].
    CreateToken {
        /// How long it is good for.
        lifetime: Duration,
        /// What it is for, in the user's words.
        note: String,
    },
    /// Which tokens are there? Answered by [`Response::Tokens`].
    ListTokens,
    /// Make a token worthless. Answered by [`Response::Revoked`].
    RevokeToken {
        /// The token's id as listed.
        id: TokenId,
    },
    /// Start a race. Answered by [`Response::RaceAccepted`].
    StartRace {
        /// The race.
        request: Box<RaceRequest>,
        /// Its plan as JSON; empty if the coordinator has it.
        plan: String,
    },
    /// What has happened in a race? Answered by [`Response::RaceEvents`] as soon as there is something.
    RaceEvents {
        /// The race.
        race: RaceId,
        /// Only what came after this event.
        after: Sequence,
    },
    /// End a race early. Answered by [`Response::RaceAccepted`].
    CancelRace {
        /// The race.
        race: RaceId,
        /// How.
        mode: StopMode,
    },
    /// Which race runs? Answered by [`Response::CurrentRace`].
    CurrentRace,
    /// What did a race find out? Answered by [`Response::RaceReport`].
    RaceReport {
        /// The race.
        race: RaceId,
    },
}

/// What the daemon answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Response {
    /// To [`Request::Status`].
    Status(Box<DaemonStatus>),
    /// To [`Request::Stop`].
    Stopping,
    /// To [`Request::CreateToken`]: the join string.
    Token(crate::secret::Secret),
    /// To [`Request::ListTokens`].
    Tokens(Vec<TokenSummary>),
    /// To [`Request::RevokeToken`].
    Revoked,
    /// To [`Request::StartRace`] and [`Request::CancelRace`].
    RaceAccepted,
    /// To [`Request::RaceEvents`].
    RaceEvents {
        /// The events, in order.
        events: Vec<RaceEvent>,
        /// Whether no more will come.
        is_over: bool,
    },
    /// To [`Request::CurrentRace`].
    CurrentRace(Option<RaceStatus>),
    /// To [`Request::RaceReport`].
    RaceReport(Box<RaceReport>),
    /// The coordinator cannot do it.
    RoleFailed(Box<RoleError>),
    /// It cannot be done, for this reason.
    Refused(String),
}

/// A daemon as it sees itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DaemonStatus {
    /// Its process.
    pub pid: u32,
    /// Its log, `None` if it logs to the terminal or to the service manager that started it.
    pub log: Option<PathBuf>,
    /// Its directory.
    pub directory: PathBuf,
    /// Everything about the host and its cluster.
    pub host: HostStatus,
    /// The race that the coordinator runs; none also if it cannot be asked.
    pub race: Option<RaceStatus>,
}

async fn write_frame(stream: &mut (impl AsyncWrite + Unpin), message: &impl Serialize) -> io::Result<()> {
    let body = serde_json::to_vec(message)?;
    if body.len() > MAX_FRAME {
        return Err(too_long(body.len()));
    }
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(&body).await?;
    stream.flush().await
}

async fn read_frame<T: DeserializeOwned>(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<T> {
    let length = usize::try_from(stream.read_u32().await?).map_err(io::Error::other)?;
    if length > MAX_FRAME {
        return Err(too_long(length));
    }
    let mut body = Vec::new();
    // The buffer grows with what arrives, not with what was announced.
    stream.take(length as u64).read_to_end(&mut body).await?;
    if body.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_slice(&body)?)
}

fn too_long(length: usize) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {length} bytes is longer than {MAX_FRAME}"))
}

/// A path of a socket that the kernel takes, however deep its directory is; good as long as it lives.
#[derive(Debug)]
struct SocketPath {
    path: PathBuf,
    /// Gives the directory a short name, where /proc exists.
    _directory: Option<File>,
}

impl SocketPath {
    fn new(socket: &Path) -> io::Result<Self> {
        if socket.as_os_str().len() <= MAX_SOCKET_PATH {
            return Ok(Self { path: socket.to_owned(), _directory: None });
        }
        let (Some(parent), Some(name)) = (socket.parent(), socket.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let directory = File::open(parent)?;
        let path = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
        Ok(Self { path, _directory: Some(directory) })
    }
}

#[cfg(test)]
mod tests;
