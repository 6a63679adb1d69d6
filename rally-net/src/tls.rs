//! TLS as the hosts of a cluster speak it.
//!
//! Every configuration is for TLS 1.3 alone, with the ring provider whatever the process's default is, without early
//! data and without session tickets, so every connection is a full handshake in which the certificates are checked.
//! A certificate that is refused is explained in whole sentences, by [`CertificateProblem`], to both ends.

mod explain;
#[cfg(test)]
mod tests;
mod verifier;

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};

pub use explain::{CertificateProblem, explain, explain_connection_error};

use crate::{Credentials, Fingerprint};
use verifier::{ClusterClientVerifier, ClusterServerVerifier, JoinServerVerifier};

/// The main protocol, for hosts with a certificate of the cluster.
///
/// The handshake admits hosts without one as well, since one port serves all protocols: whoever accepts connections
/// closes those that negotiated this protocol and presented no certificate.
pub const ALPN_MAIN: &[u8] = b"rally/1";

/// For hosts that have no certificate yet: only joining is served.
pub const ALPN_JOIN: &[u8] = b"rally-join/1";

/// What every version accepts, so that hosts whose versions do not match can tell each other which they have.
pub const ALPN_VERSION: &[u8] = b"rally-version";

/// The server name under which the coordinator is dialed; only coordinators' certificates are good for it.
///
/// Members are dialed under [`member_server_name`](crate::member_server_name).
pub const COORDINATOR_SERVER_NAME: &str = "coordinator.rally";

/// How a host accepts connections: from hosts of its cluster, and from hosts without a certificate, which may only join.
///
/// A certificate of another cluster, or one that is not valid now, fails the handshake.
///
/// # Errors
///
/// The credentials' key cannot be used, which [`Credentials`] has checked before.
pub fn server_config(credentials: &Credentials) -> Result<ServerConfig, rustls::Error> {
    let provider = provider();
    let verifier = ClusterClientVerifier::new(credentials.authority_certificate(), &provider)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(credentials.chain().to_vec(), credentials.private_key())?;
    // In order of preference.
    config.alpn_protocols = [ALPN_MAIN, ALPN_JOIN, ALPN_VERSION].map(<[u8]>::to_vec).into();
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// How a host with a certificate dials the coordinator (as [`COORDINATOR_SERVER_NAME`]) or a member (by
/// [`member_server_name`](crate::member_server_name)).
///
/// # Errors
///
/// The credentials' key cannot be used, which [`Credentials`] has checked before.
pub fn client_config(credentials: &Credentials) -> Result<ClientConfig, rustls::Error> {
    let provider = provider();
    let verifier = ClusterServerVerifier::new(credentials.authority_certificate(), &provider)?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(credentials.chain().to_vec(), credentials.private_key())?;
    config.alpn_protocols = [ALPN_MAIN, ALPN_VERSION].map(<[u8]>::to_vec).into();
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// How a host without a certificate dials the coordinator in order to join.
///
/// The handshake succeeds only with the coordinator of the cluster whose authority has this fingerprint, whatever
/// server name is dialed. So a secret that is sent afterwards reaches nobody else.
///
/// # Errors
///
/// The cryptographic provider does not speak TLS 1.3, which it does.
pub fn join_client_config(authority: Fingerprint) -> Result<ClientConfig, rustls::Error> {
    let provider = provider();
    let verifier = JoinServerVerifier::new(authority, &provider);
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = [ALPN_JOIN, ALPN_VERSION].map(<[u8]>::to_vec).into();
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// The cryptography that all of this uses.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Checks that `authority` signed a host's certificate, and that it is valid at `time`.
pub(crate) fn verify_host(
    leaf: &CertificateDer<'_>,
    authority: &CertificateDer<'_>,
    time: std::time::SystemTime,
) -> Result<(), CertificateProblem> {
    let time = UnixTime::since_unix_epoch(time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default());
    let refused = |error: rustls::Error| CertificateProblem::Invalid { problem: explain(&error) };
    let verifier = ClusterClientVerifier::new(authority, &provider()).map_err(refused)?;
    verifier.verify(leaf, &[], time)
}
