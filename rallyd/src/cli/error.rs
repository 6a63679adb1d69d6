//! Why a command failed, and with which exit code.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use rally_core::metrics::StoreError;
use rally_core::{InvalidRaceId, RaceId, RoleError};
use rally_driver::client::InvalidClientOptions;

use crate::address::AddressError;
use crate::archive::ArchiveError;
use crate::background::LaunchError;
use crate::control::ControlError;
use crate::daemon::DaemonError;
use crate::exit::Exit;
use crate::instance::{InstanceError, LockError, show_pid};
use crate::race::PlanError;
use crate::settings::{Origin, SettingsError};
use crate::store::InvalidStoreSettings;
use crate::track::{ParseValueError, TrackCommandError};

#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    #[error("the home directory is not known; set HOME, or RALLY_HOME to where Rally may keep its files")]
    NoHome,
    #[error("the current directory is not known")]
    NoCurrentDirectory(#[source] io::Error),
    #[error(
        "no coordinator is given; say --coordinator-ip=IP, set RALLY_COORDINATOR_IP, or put `coordinator.ip` into \
         section [cluster] of {}", .0.display()
    )]
    NoCoordinator(PathBuf),
    #[error(transparent)]
    Settings(Box<SettingsError>),
    #[error(transparent)]
    Track(Box<TrackCommandError>),
    #[error(transparent)]
    Plan(Box<PlanError>),
    #[error(transparent)]
    Role(Box<RoleError>),
    #[error("the demo cannot be set up")]
    Demo(#[source] io::Error),
    #[error(
        "no race runs; `rallyd list races` shows those of the archive, and `rallyd attach RACE-ID` the report of one"
    )]
    NoRace,
    #[error("no daemon runs on this machine that could know race `{race}`, and it is not in {}", directory.display())]
    NoSuchRace { race: RaceId, directory: PathBuf },
    #[error("no race `{race}` is in {places}")]
    UnknownRace { race: RaceId, places: String },
    #[error("race {0} runs; end it first")]
    RaceRuns(RaceId),
    #[error("race {0} has no results: it still runs, or it never got so far")]
    NoResults(RaceId),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    StoreSettings(#[from] InvalidStoreSettings),
    #[error("the metrics store of rally.ini cannot be used")]
    UnusableStore(#[source] Box<InvalidClientOptions>),
    #[error(transparent)]
    RaceId(#[from] InvalidRaceId),
    #[error("{flag} makes no sense")]
    Value { flag: &'static str, source: Box<ParseValueError> },
    #[error("cannot append the report to {}", path.display())]
    ReportFile {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot write {}", path.display())]
    WriteFile {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("--detach needs a daemon that goes on with the race; start one with `rallyd start`")]
    DetachWithoutDaemon,
    #[error("--load-driver-hosts: {0}")]
    UnknownHost(String),
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error(transparent)]
    Instance(#[from] InstanceError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Launch(#[from] LaunchError),
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    #[error("no daemon runs on this machine{}", wanted.as_ref().map_or_else(String::new, |wanted| format!(" {wanted}")))]
    NotRunning {
        /// What was selected.
        wanted: Option<String>,
    },
    #[error("several daemons are on this machine: {}; choose one with --node-ip and --port", list(.0))]
    Several(Vec<SocketAddr>),
    #[error("the daemon at {address} ({}) cannot be asked", show_pid(*pid))]
    Control {
        address: SocketAddr,
        pid: Option<u32>,
        #[source]
        source: ControlError,
    },
    #[error("the daemon at {address} refuses: {reason}")]
    Refused { address: SocketAddr, reason: String },
    #[error(
        "the daemon at {address} gave an answer that does not fit the request; it may be of another version, \
             and `rallyd restart` helps"
    )]
    UnexpectedAnswer { address: SocketAddr },
    #[error(
        "this machine is a member of the cluster; tokens are made on the coordinator: run the command on \
             {coordinator}"
    )]
    NotCoordinator { coordinator: SocketAddr },
    #[error("the daemon at {address} ({}) cannot be ended", show_pid(*pid))]
    CannotEnd {
        address: SocketAddr,
        pid: Option<u32>,
        #[source]
        source: Option<io::Error>,
    },
    #[error("cannot write to standard output")]
    Output(#[from] io::Error),
    #[error("interrupted{}", .0)]
    Interrupted(&'static str),
}

impl CommandError {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Settings(error) if matches!(**error, SettingsError::Value { origin: Origin::Flag(_), .. }) => {
                Exit::Usage
            }
            Self::Plan(error) if error.is_usage() => Exit::Usage,
            Self::DetachWithoutDaemon | Self::UnknownHost(_) | Self::RaceId(_) | Self::Value { .. } => Exit::Usage,
            Self::NoCoordinator(_) | Self::Several(_) | Self::Address(AddressError::NodeWithPort(_)) => Exit::Usage,
            Self::NotRunning { .. } | Self::NoSuchRace { .. } => Exit::NotRunning,
            Self::Interrupted(_) => Exit::Interrupted,
            Self::NoHome
            | Self::NoCurrentDirectory(_)
            | Self::Settings(_)
            | Self::Track(_)
            | Self::Plan(_)
            | Self::Role(_)
            | Self::Demo(_)
            | Self::NoRace
            | Self::RaceRuns(_)
            | Self::NoResults(_)
            | Self::Archive(_)
            | Self::Store(_)
            | Self::StoreSettings(_)
            | Self::UnusableStore(_)
            | Self::UnknownRace { .. }
            | Self::ReportFile { .. }
            | Self::WriteFile { .. }
            | Self::Address(_)
            | Self::Instance(_)
            | Self::Lock(_)
            | Self::Launch(_)
            | Self::Daemon(_)
            | Self::Control { .. }
            | Self::Refused { .. }
            | Self::UnexpectedAnswer { .. }
            | Self::NotCoordinator { .. }
            | Self::CannotEnd { .. }
            | Self::Output(_) => Exit::Failure,
        }
    }
}

impl From<SettingsError> for CommandError {
    fn from(error: SettingsError) -> Self {
        Self::Settings(Box::new(error))
    }
}

impl From<PlanError> for CommandError {
    fn from(error: PlanError) -> Self {
        Self::Plan(Box::new(error))
    }
}

impl From<RoleError> for CommandError {
    fn from(error: RoleError) -> Self {
        Self::Role(Box::new(error))
    }
}

impl From<TrackCommandError> for CommandError {
    fn from(error: TrackCommandError) -> Self {
        Self::Track(Box::new(error))
    }
}

fn list(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
