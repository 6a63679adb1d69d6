//! Certificate requests, as any host with a token sends them.
//!
//! The seeds are requests for one key: as our hosts make them, and with wishes that nobody grants.
#![no_main]

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use libfuzzer_sys::fuzz_target;
use rally_core::HostId;
use rally_net::{Authority, HostRole, PeerIdentity, peer_identity};
use x509_parser::parse_x509_certificate;
use x509_parser::prelude::{FromDer, X509CertificationRequest};

const HOST: HostId = HostId::from_random(7);
const LIFETIME: Duration = Duration::from_secs(60 * 60);

static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| {
    let directory = tempfile::tempdir().expect("a directory");
    Authority::open_or_create(directory.path(), SystemTime::now()).expect("an authority")
});

/// The key of the seeds: nobody can sign with another one here.
static KEY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let (_, request) = X509CertificationRequest::from_der(include_bytes!("../seeds/csr/plain")).expect("a request");
    request.certification_request_info.subject_pki.raw.to_vec()
});

fuzz_target!(|request: &[u8]| {
    let now = SystemTime::now();
    let Ok(chain) = AUTHORITY.issue(request, HOST, HostRole::Member, LIFETIME, now) else { return };
    assert_eq!(peer_identity(&chain), Ok(PeerIdentity { host: HOST, role: HostRole::Member }));
    let (rest, leaf) = parse_x509_certificate(&chain[0]).expect("a certificate");
    assert!(rest.is_empty());
    assert_eq!(leaf.public_key().raw, *KEY, "certified a key that did not sign the request");
    assert!(!leaf.is_ca());
    let seconds = leaf.validity().not_after.timestamp() as u64;
    assert!(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds) <= now + LIFETIME);
});
