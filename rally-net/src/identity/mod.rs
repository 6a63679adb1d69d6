//! Who a host is, and how it becomes part of a cluster.
//!
//! A cluster has an [`Authority`] of its own, which the coordinator makes at its first start. A host that wants to join
//! makes a key ([`Credentials::request`]), shows the secret of a [`JoinToken`], and gets a certificate for a [`HostId`]
//! and a [`HostRole`]: its [`Credentials`]. The coordinator knows the tokens it gave out by its [`TokenBook`].
//!
//! Functions here that take a path read or write small files and wait for the disk.
//!
//! [`HostId`]: rally_core::HostId
//! [`HostRole`]: crate::HostRole

mod authority;
mod clock;
mod credentials;
mod fingerprint;
mod key_file;
mod peer;
pub(crate) mod private_file;
mod token;
mod token_book;
mod utc;

pub use authority::{Authority, AuthorityError, DEFAULT_CERTIFICATE_LIFETIME, IssueError};
pub use clock::{ClockDifference, MAX_CLOCK_DIFFERENCE, check_clock};
pub use credentials::{Credentials, CredentialsError, HostKey};
pub use fingerprint::{Fingerprint, ParseFingerprintError};
pub use peer::{InvalidPeerIdentity, PeerIdentity, member_server_name, peer_identity};
pub use private_file::PrivateFileError;
pub use token::{JoinToken, ParseTokenError, ParseTokenIdError, TokenId, TokenSecret};
pub use token_book::{
    DEFAULT_TOKEN_LIFETIME, LOCAL_TOKEN_FILE, LocalTokenError, TokenBook, TokenBookError, TokenRefusal, TokenState,
    TokenSummary, find_local_token,
};
pub(crate) use utc::Utc;
