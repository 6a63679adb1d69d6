//! Daemons that find and trust each other over QUIC, and roles that may be remote.

mod clock;
mod lease;
mod membership;
mod status;

pub use clock::{BadSample, ClockFilter, ClockSample, LocalTime, MAX_DRIFT_PPM, Recorded};
pub use lease::{AcquireError, EndedLease, Holder, Lease, LeaseEnd, LeaseError, LeaseId, LeaseTable, MAX_LEASE_TERM};
pub use membership::{
    Capacity, DialFailure, DisconnectReason, HostChange, HostRecord, Link, LossCause, MembershipEvent, RefuseReason,
    Registry, RegistryAction, RegistryEvent, Report, Session, Timing, Uplink, UplinkAction, UplinkEvent, UplinkInput,
};
pub use status::{ClockEstimate, CoordinatorStatus, HostRole, HostState, HostStatus, HostSummary, LinkState};
