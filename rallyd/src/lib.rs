//! The daemon and its command line as a library; the binary is a thin `main`.

mod address;
mod control;
mod duration;
mod exit;
mod instance;
mod secret;
mod settings;

pub use address::{AddressError, Addresses, HostPort, ParseHostPortError, resolve, resolve_node};
pub use control::{ControlError, DaemonStatus, Request, Response, TokenEntry, call};
pub use duration::{ParseDurationError, parse_duration};
pub use exit::Exit;
pub use instance::{Instance, InstanceError, InstanceLock, LockError, Running, StartSettings};
pub use secret::Secret;
pub use settings::{
    ClusterSettings, DEFAULT_PORT, Flags, IniError, IniProblem, Notice, Origin, Settings, SettingsError, rally_directory,
};
