//! Why a handshake failed, in sentences that say what to do.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use quinn::ConnectionError;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{AlertDescription, CertificateError, Error, OtherError};

use super::COORDINATOR_SERVER_NAME;
use crate::close::peer_text;
use crate::identity::Utc;
use crate::{Fingerprint, HostRole, PeerIdentity, peer_identity};

/// Why a peer's certificate is refused.
///
/// The texts are written so that they are right at both ends: QUIC carries them to the peer whose certificate it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateProblem {
    /// The certificate was not signed by this cluster's authority.
    #[error(
        "the certificate of {} is from another cluster: check the coordinator's address, or have that host leave its \
         old cluster and join this one with a token", host_name(*identity)
    )]
    Foreign {
        /// Who the peer says it is.
        identity: Option<PeerIdentity>,
    },
    /// The coordinator is not the one that the join token is for.
    #[error(
        "the coordinator's authority is not the one in the join token: the token has {expected}, the coordinator \
         {}: check the coordinator's address, and whether the token was made there", or_none(*presented)
    )]
    WrongFingerprint {
        /// What stands in the token.
        expected: Fingerprint,
        /// The authority that the peer showed, if it showed any.
        presented: Option<Fingerprint>,
    },
    /// The certificate's time is over.
    #[error(
        "the certificate of {} expired at {}, and the clock of the host that checked it says {}: set the clock if it \
         is wrong, otherwise join again with a token", host_name(*identity), Utc(*not_after), Utc(*now)
    )]
    Expired {
        /// Who the peer says it is.
        identity: Option<PeerIdentity>,
        /// When the certificate ended.
        not_after: SystemTime,
        /// The time at the end that checked it.
        now: SystemTime,
    },
    /// The certificate's time has not come.
    #[error(
        "the certificate of {} is valid from {}, but the clock of the host that checked it says {}: one of the clocks \
         is off by more than a day, so set it right", host_name(*identity), Utc(*not_before), Utc(*now)
    )]
    NotValidYet {
        /// Who the peer says it is.
        identity: Option<PeerIdentity>,
        /// When the certificate begins.
        not_before: SystemTime,
        /// The time at the end that checked it.
        now: SystemTime,
    },
    /// Something else than the coordinator answers in its place.
    #[error(
        "{} answers where the coordinator should be, and its certificate does not allow that: check the \
         coordinator's address", host_name(*identity)
    )]
    NotCoordinator {
        /// Who the peer says it is.
        identity: Option<PeerIdentity>,
    },
    /// Another host answers than the one that was dialed.
    #[error("{} answers instead of {expected}: check the address", host_name(*identity))]
    WrongHost {
        /// The server name that was dialed.
        expected: String,
        /// Who the peer says it is.
        identity: Option<PeerIdentity>,
    },
    /// The certificate is damaged, or not one of ours at all.
    #[error("the peer's certificate is not valid: {problem}")]
    Invalid {
        /// What is wrong with it.
        problem: String,
    },
}

impl CertificateProblem {
    /// What `error` means for the peer that presented `leaf`.
    pub(super) fn new(error: Error, leaf: &CertificateDer<'_>) -> Self {
        // Nothing has been verified here: this is what the certificate claims.
        let identity = peer_identity(std::slice::from_ref(leaf)).ok();
        let Error::InvalidCertificate(error) = error else {
            return Self::Invalid { problem: error.to_string() };
        };
        match error {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::Foreign { identity },
            CertificateError::ExpiredContext { time, not_after } => {
                Self::Expired { identity, not_after: system_time(not_after), now: system_time(time) }
            }
            CertificateError::NotValidYetContext { time, not_before } => {
                Self::NotValidYet { identity, not_before: system_time(not_before), now: system_time(time) }
            }
            CertificateError::NotValidForNameContext { expected, .. } => match expected {
                ServerName::DnsName(name) if name.as_ref() == COORDINATOR_SERVER_NAME => {
                    Self::NotCoordinator { identity }
                }
                expected => Self::WrongHost { expected: expected.to_str().into_owned(), identity },
            },
            other => Self::Invalid { problem: other.to_string() },
        }
    }
}

impl From<CertificateProblem> for Error {
    /// As an error of its own kind, since rustls shows only that with its text; the alert is `handshake_failure`.
    fn from(problem: CertificateProblem) -> Self {
        Self::Other(OtherError(Arc::new(problem)))
    }
}

/// How rustls shows an error of its kind `Other`, which [`CertificateProblem`] becomes.
const OTHER_ERROR: &str = "other error: ";

/// Explains a failed handshake: what went wrong, and what to check.
pub fn explain(error: &Error) -> String {
    match error {
        Error::Other(OtherError(other)) => other.to_string(),
        Error::AlertReceived(alert) => explain_alert(*alert).to_owned(),
        Error::NoApplicationProtocol => explain_alert(AlertDescription::NoApplicationProtocol).to_owned(),
        other => other.to_string(),
    }
}

/// Explains why a QUIC connection failed if that was a matter of TLS, at whichever end; otherwise `None`.
pub fn explain_connection_error(error: &ConnectionError) -> Option<String> {
    let (code, reason) = match error {
        ConnectionError::TransportError(error) => (u64::from(error.code), error.reason.clone()),
        ConnectionError::ConnectionClosed(close) => (u64::from(close.error_code), peer_text(&close.reason)),
        _ => return None,
    };
    // QUIC has 256 codes for the alerts of TLS, in their order.
    let alert = AlertDescription::from(u8::try_from(code.checked_sub(0x100)?).ok()?);
    Some(match reason.strip_prefix(OTHER_ERROR) {
        Some(sentence) => sentence.to_owned(),
        None => match explain_alert(alert) {
            UNEXPLAINED if !reason.is_empty() => format!("the TLS handshake failed: {reason}"),
            sentence => sentence.to_owned(),
        },
    })
}

const UNEXPLAINED: &str = "the TLS handshake failed";

fn explain_alert(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::NoApplicationProtocol => {
            "the hosts have no protocol in common: check that rally listens at this address, and that both hosts run \
             the same version"
        }
        AlertDescription::CertificateRequired => {
            "the peer demands a certificate of its cluster, and this host has none: join with a token first"
        }
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            "the peer does not trust this host's certificate, which is from another cluster: check the coordinator's \
             address, or join its cluster with a token"
        }
        AlertDescription::CertificateExpired => {
            "this host's certificate is not valid at the time that the peer's clock says: set the clocks if one is \
             wrong, otherwise join again with a token"
        }
        _ => UNEXPLAINED,
    }
}

fn host_name(identity: Option<PeerIdentity>) -> String {
    match identity {
        Some(PeerIdentity { host, role: HostRole::Member }) => format!("member {host}"),
        Some(PeerIdentity { host, role: HostRole::Coordinator }) => format!("coordinator {host}"),
        None => "an unknown host".to_owned(),
    }
}

fn or_none(fingerprint: Option<Fingerprint>) -> String {
    fingerprint.map_or_else(|| "none".to_owned(), |fingerprint| fingerprint.to_string())
}

/// Times beyond the system's range, which only a forged certificate can have, count as 1970.
fn system_time(time: UnixTime) -> SystemTime {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(time.as_secs())).unwrap_or(SystemTime::UNIX_EPOCH)
}
