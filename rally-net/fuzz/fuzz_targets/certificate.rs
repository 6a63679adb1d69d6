//! Certificates, as any server shows them to a host that joins.
//!
//! The seeds are certificates of one cluster whose authority's key is gone, so whatever else is accepted is forged.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use rally_net::{Fingerprint, explain, join_client_config, peer_identity};
use rally_net_fuzz::has_control_characters;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rustls::crypto;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};

static AUTHORITY: LazyLock<CertificateDer<'static>> =
    LazyLock::new(|| CertificateDer::from(&include_bytes!("../seeds/certificate/authority")[..]));

static JOINING: LazyLock<Arc<ClientConfig>> =
    LazyLock::new(|| Arc::new(join_client_config(Fingerprint::of(&AUTHORITY)).expect("TLS 1.3")));

/// Shows any certificate, and signs with a key that belongs to none.
#[derive(Debug)]
struct Impostor(Arc<CertifiedKey>);

impl ResolvesServerCert for Impostor {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

static KEY: LazyLock<Arc<dyn SigningKey>> = LazyLock::new(|| {
    let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new()).expect("a key");
    let key = PrivatePkcs8KeyDer::from(key.as_ref().to_vec());
    crypto::ring::sign::any_ecdsa_type(&key.into()).expect("a key")
});

/// The error with which a client ends the handshake.
fn refusal(chain: Vec<CertificateDer<'static>>) -> rustls::Error {
    let mut config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Impostor(Arc::new(CertifiedKey::new(chain, Arc::clone(&KEY))))));
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![rally_net::ALPN_JOIN.to_vec()];
    let mut server = ServerConnection::new(Arc::new(config)).expect("a server");
    let name = ServerName::try_from(rally_net::COORDINATOR_SERVER_NAME).expect("a name");
    let mut client = ClientConnection::new(Arc::clone(&JOINING), name).expect("a client");
    let mut wire = Vec::new();
    while client.is_handshaking() {
        wire.clear();
        while client.wants_write() {
            client.write_tls(&mut wire).expect("written to memory");
        }
        let mut unread = &wire[..];
        while !unread.is_empty() {
            server.read_tls(&mut unread).expect("read from memory");
            server.process_new_packets().expect("the client is honest");
        }
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).expect("written to memory");
        }
        let mut unread = &wire[..];
        assert!(!unread.is_empty(), "nobody has anything to say");
        while !unread.is_empty() {
            client.read_tls(&mut unread).expect("read from memory");
            if let Err(error) = client.process_new_packets() {
                return error;
            }
        }
    }
    panic!("an impostor is taken for the coordinator");
}

fuzz_target!(|certificate: &[u8]| {
    let certificate = CertificateDer::from(certificate.to_vec());
    if let Ok(identity) = peer_identity(std::slice::from_ref(&certificate)) {
        let host = identity.host.to_string();
        let named = certificate.windows(host.len()).any(|part| part.eq_ignore_ascii_case(host.as_bytes()));
        assert!(named, "{host} does not stand in the certificate");
    }
    for chain in [vec![certificate.clone(), AUTHORITY.clone()], vec![AUTHORITY.clone(), certificate]] {
        let text = explain(&refusal(chain));
        assert!(!text.is_empty() && !has_control_characters(&text), "{text:?}");
        assert!(text.len() <= 1000, "{text}");
    }
});
