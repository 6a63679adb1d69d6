//! Daemons that find and trust each other over QUIC, and roles that may be remote.

mod status;

pub use status::{ClockEstimate, CoordinatorStatus, HostRole, HostState, HostStatus, HostSummary, LinkState};
