//! Daemons that find and trust each other over QUIC, and roles that may be remote.

mod identity;
mod status;
mod tls;

pub use identity::{
    Authority, AuthorityError, ClockDifference, Credentials, CredentialsError, DEFAULT_CERTIFICATE_LIFETIME,
    DEFAULT_TOKEN_LIFETIME, Fingerprint, HostKey, InvalidPeerIdentity, IssueError, JoinToken, LOCAL_TOKEN_FILE,
    LocalTokenError, MAX_CLOCK_DIFFERENCE, ParseFingerprintError, ParseTokenError, ParseTokenIdError, PeerIdentity,
    PrivateFileError, TokenBook, TokenBookError, TokenId, TokenRefusal, TokenSecret, TokenState, TokenSummary,
    check_clock, find_local_token, member_server_name, peer_identity,
};
pub use status::{ClockEstimate, CoordinatorStatus, HostRole, HostState, HostStatus, HostSummary, LinkState};
pub use tls::{
    ALPN_JOIN, ALPN_MAIN, ALPN_VERSION, COORDINATOR_SERVER_NAME, CertificateProblem, client_config, explain,
    explain_connection_error, join_client_config, server_config,
};
