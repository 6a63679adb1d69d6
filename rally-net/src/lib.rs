//! Daemons that find and trust each other over QUIC, and roles that may be remote.

mod membership;
mod status;

pub use membership::{
    Capacity, DialFailure, DisconnectReason, HostChange, HostRecord, Link, LossCause, MembershipEvent, RefuseReason,
    Registry, RegistryAction, RegistryEvent, Report, Session, Timing, Uplink, UplinkAction, UplinkEvent, UplinkInput,
};
pub use status::{ClockEstimate, CoordinatorStatus, HostRole, HostState, HostStatus, HostSummary, LinkState};
