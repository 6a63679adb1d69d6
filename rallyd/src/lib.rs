//! The daemon and its command line as a library; the binary is a thin `main`.
//!
//! [`cli::main`] is the whole program. An embedder that wants a daemon without the command line resolves [`Settings`],
//! makes a [`DaemonConfig`] and calls [`run_daemon`]; [`call`] talks to a daemon on the same machine.
//!
//! # What this crate leaves out
//!
//! How hosts find and trust each other is `rally_net`'s; nothing here touches the network but to look up names and
//! routes.

mod address;
pub mod archive;
mod background;
mod causes;
pub mod cli;
mod console;
mod control;
mod daemon;
pub mod demo;
mod duration;
mod exit;
mod facts;
mod instance;
mod lock_file;
mod logging;
pub mod race;
pub mod report;
mod sd_notify;
mod secret;
mod settings;
mod status;
pub mod store;
pub mod track;

/// The revision that this program was built from; none if that is not known.
const REVISION: Option<&str> = option_env!("RALLY_REVISION");

pub use address::{AddressError, Addresses, HostPort, ParseHostPortError, resolve, resolve_node};
pub use control::{ControlError, DaemonStatus, Request, Response, call};
pub use daemon::{DaemonConfig, DaemonError, Joined, Up, run as run_daemon};
pub use duration::{ParseDurationError, parse_duration};
pub use exit::Exit;
pub use facts::host_facts;
pub use instance::{Instance, InstanceError, InstanceLock, LockError, Running, StartSettings};
pub use secret::Secret;
pub use settings::{
    ClusterSettings, DEFAULT_PORT, Flags, IniError, IniProblem, NodeSettings, Notice, Origin, ReportingSettings,
    Settings, SettingsError, SystemSettings, rally_directory,
};
