//! The names in certificates: which host, and in which role.

use rally_core::HostId;
use rustls::pki_types::CertificateDer;

use crate::HostRole;
use crate::tls::COORDINATOR_SERVER_NAME;

/// Who the far end of a connection is, by its certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerIdentity {
    /// The host.
    pub host: HostId,
    /// Its place in the cluster.
    pub role: HostRole,
}

impl PeerIdentity {
    /// The DNS names that the certificate of this host carries.
    pub(crate) fn dns_names(self) -> Vec<String> {
        match self.role {
            HostRole::Coordinator => {
                vec![format!("{}{COORDINATOR_SUFFIX}", self.host), COORDINATOR_SERVER_NAME.to_owned()]
            }
            HostRole::Member => vec![member_server_name(self.host)],
        }
    }

    /// Reads one DNS name of a certificate; `None` for [`COORDINATOR_SERVER_NAME`] and names that are not ours.
    pub(crate) fn from_dns_name(name: &str) -> Option<Self> {
        let (host, role) = if let Some(host) = name.strip_suffix(COORDINATOR_SUFFIX) {
            (host, HostRole::Coordinator)
        } else {
            (name.strip_suffix(MEMBER_SUFFIX)?, HostRole::Member)
        };
        Some(Self { host: host.parse().ok()?, role })
    }
}

/// Follows the host id in a coordinator's own name.
const COORDINATOR_SUFFIX: &str = ".coordinator.rally";

/// Follows the host id in a member's name.
const MEMBER_SUFFIX: &str = ".member.rally";

/// The server name under which another member dials this one: only this host's certificate is good for it.
pub fn member_server_name(host: HostId) -> String {
    format!("{host}{MEMBER_SUFFIX}")
}

/// The certificate does not say which host it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the peer's certificate does not name one host and its role")]
pub struct InvalidPeerIdentity;

/// Reads who a peer is from the certificate chain it presented.
///
/// The handshake must have verified the chain before: this function believes what it reads.
///
/// # Errors
///
/// The chain is empty, or its first certificate does not name exactly one host.
pub fn peer_identity(chain: &[CertificateDer<'_>]) -> Result<PeerIdentity, InvalidPeerIdentity> {
    let leaf = chain.first().ok_or(InvalidPeerIdentity)?;
    let leaf = webpki::EndEntityCert::try_from(leaf).map_err(|_| InvalidPeerIdentity)?;
    let mut identities = leaf.valid_dns_names().filter_map(PeerIdentity::from_dns_name);
    match (identities.next(), identities.next()) {
        (Some(identity), None) => Ok(identity),
        _ => Err(InvalidPeerIdentity),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn certificate(names: &[&str]) -> CertificateDer<'static> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        CertificateParams::new(names).unwrap().self_signed(&key).unwrap().into()
    }

    #[test]
    fn a_certificate_must_name_exactly_one_host() {
        let one = "0123456789abcdef0123456789abcdef";
        let host = one.parse().unwrap();
        let member = format!("{one}.member.rally");
        let coordinator = format!("{one}.coordinator.rally");
        let other = "ffffffffffffffffffffffffffffffff.member.rally";
        let table: [(&[&str], Option<HostRole>); 8] = [
            (&[&member], Some(HostRole::Member)),
            (&[&coordinator, "coordinator.rally"], Some(HostRole::Coordinator)),
            (&["example.org", &member], Some(HostRole::Member)),
            (&["coordinator.rally"], None),
            (&["*.member.rally"], None),
            (&[], None),
            (&[&member, other], None),
            (&[&member, &coordinator], None),
        ];
        for (names, role) in table {
            let expected = role.map(|role| PeerIdentity { host, role }).ok_or(InvalidPeerIdentity);
            assert_eq!(peer_identity(&[certificate(names)]), expected, "{names:?}");
        }
        assert_eq!(peer_identity(&[]), Err(InvalidPeerIdentity));
    }

    proptest! {
        #[test]
        fn garbage_is_no_identity(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            prop_assert_eq!(peer_identity(&[CertificateDer::from(bytes)]), Err(InvalidPeerIdentity));
        }

        #[test]
        fn names_lead_back_to_the_identity(bits: u128, coordinator: bool) {
            let role = if coordinator { HostRole::Coordinator } else { HostRole::Member };
            let identity = PeerIdentity { host: HostId::from_random(bits), role };
            let read: Vec<_> = identity.dns_names().iter().filter_map(|name| PeerIdentity::from_dns_name(name)).collect();
            prop_assert_eq!(read, [identity]);
        }
    }
}
