//! Daemons that find and trust each other over QUIC, and roles that may be remote.
//!
//! A [`Host`] is one machine of a cluster: it binds one UDP port, joins with a [`JoinToken`], keeps its certificate
//! fresh, follows the coordinator (or is it), serves the roles it was given and uses those of others. Whatever decides
//! something is a state machine without I/O ([`Registry`], [`Uplink`], [`LeaseTable`], [`ClockFilter`]); `Host` moves
//! bytes and time in and out of them.
//!
//! # What this crate leaves out
//!
//! It knows peers, frames and the role traits of `rally-core`, but not what a race is made of: no tracks, no load, no
//! Elasticsearch.

mod clock;
mod close;
mod cluster_clock;
pub mod frame;
mod host;
mod identity;
mod lease;
mod membership;
pub mod protocol;
mod remote;
mod rpc;
mod status;
mod tls;
mod transfer;

pub use clock::{BadSample, ClockFilter, ClockSample, LocalTime, MAX_DRIFT_PPM, Recorded};
pub use cluster_clock::{ClusterClock, UnknownTime};
pub use host::{
    ConnectError, Host, HostConfig, HostEvent, HostFailed, JoinError, PeerSource, Place, Roles, StartError, TokenError,
    TokenSource, socket,
};
pub use identity::{
    Authority, AuthorityError, ClockDifference, Credentials, CredentialsError, DEFAULT_CERTIFICATE_LIFETIME,
    DEFAULT_TOKEN_LIFETIME, Fingerprint, HostKey, InvalidPeerIdentity, IssueError, JoinToken, LOCAL_TOKEN_FILE,
    LocalTokenError, MAX_CLOCK_DIFFERENCE, ParseFingerprintError, ParseTokenError, ParseTokenIdError, PeerIdentity,
    PrivateFileError, TokenBook, TokenBookError, TokenId, TokenRefusal, TokenSecret, TokenState, TokenSummary,
    check_clock, find_local_token, member_server_name, peer_identity,
};
pub use lease::{AcquireError, EndedLease, Holder, Lease, LeaseEnd, LeaseError, LeaseId, LeaseTable, MAX_LEASE_TERM};
pub use membership::{
    Capacity, DialFailure, DisconnectReason, HostChange, HostRecord, Link, LossCause, MembershipEvent, RefuseReason,
    Registry, RegistryAction, RegistryEvent, Report, Session, Timing, Uplink, UplinkAction, UplinkEvent, UplinkInput,
};
pub use remote::{RemoteCoordinator, RemoteLoadDriver, RemoteProvisioner};
pub use rpc::{Access, CallError, Caller, Head, Peer, Rejection, Request, Services, Subscription};
pub use status::{ClockEstimate, CoordinatorStatus, HostRole, HostState, HostStatus, HostSummary, LinkState};
pub use tls::{
    ALPN_JOIN, ALPN_MAIN, ALPN_VERSION, COORDINATOR_SERVER_NAME, CertificateProblem, client_config, explain,
    explain_connection_error, join_client_config, server_config,
};
pub use transfer::{
    Fetch, FetchError, FetchProgress, Fetched, FileName, InvalidFileName, MAX_CONTENT_LENGTH, MAX_MANIFEST_SIZE,
    Manifest, ManifestError, OfferError, PartialSource, Served, Shelf, ShelfReader, Source, SourceError, SourceFailure,
    SourceFault, fetch,
};
