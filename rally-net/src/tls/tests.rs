//! Handshakes in memory, and over QUIC where the far end's view matters.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ConnectionClose, ConnectionError, Endpoint, TransportErrorCode};
use rally_core::HostId;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Error, OtherError, ServerConfig, ServerConnection};
use tempfile::TempDir;

use super::*;
use crate::{Authority, HostRole, PeerIdentity, member_server_name, peer_identity};

const COORDINATOR: HostId = HostId::from_random(0xc0);
const MEMBER: HostId = HostId::from_random(0x11);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

struct Cluster {
    authority: Authority,
    _directory: TempDir,
}

impl Cluster {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        // Old enough that certificates of last month can be made.
        let authority = Authority::open_or_create(directory.path(), SystemTime::now() - 100 * DAY).unwrap();
        Self { authority, _directory: directory }
    }

    fn credentials(&self, host: HostId, role: HostRole, now: SystemTime) -> Credentials {
        let (key, request) = Credentials::request().unwrap();
        let chain = self.authority.issue(&request, host, role, 30 * DAY, now).unwrap();
        Credentials::from_issued(key, chain, self.authority.fingerprint()).unwrap()
    }

    fn coordinator(&self) -> Credentials {
        self.credentials(COORDINATOR, HostRole::Coordinator, SystemTime::now())
    }

    fn member(&self) -> Credentials {
        self.credentials(MEMBER, HostRole::Member, SystemTime::now())
    }
}

/// Both ends of a handshake that has run until it succeeded or failed.
struct Handshake {
    client: ClientConnection,
    server: ServerConnection,
    client_result: Result<(), Error>,
    server_result: Result<(), Error>,
}

fn shake_hands(client: ClientConfig, server: ServerConfig, name: &str) -> Handshake {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    let (mut client_result, mut server_result) = (Ok(()), Ok(()));
    for _ in 0..10 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        if server_result.is_ok() && !bytes.is_empty() {
            server.read_tls(&mut bytes.as_slice()).unwrap();
            server_result = server.process_new_packets().map(drop);
        }
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        if client_result.is_ok() && !bytes.is_empty() {
            client.read_tls(&mut bytes.as_slice()).unwrap();
            client_result = client.process_new_packets().map(drop);
        }
    }
    Handshake { client, server, client_result, server_result }
}

impl Handshake {
    fn assert_good(&self, alpn: &[u8]) {
        assert_eq!((&self.client_result, &self.server_result), (&Ok(()), &Ok(())));
        assert!(!self.client.is_handshaking() && !self.server.is_handshaking());
        assert_eq!(self.client.alpn_protocol(), Some(alpn));
        assert_eq!(self.server.alpn_protocol(), Some(alpn));
    }
}

#[track_caller]
fn problem(result: &Result<(), Error>) -> CertificateProblem {
    match result {
        Err(Error::Other(OtherError(error))) => {
            error.downcast_ref::<CertificateProblem>().expect("a certificate problem").clone()
        }
        other => panic!("expected a certificate problem, got {other:?}"),
    }
}

fn to_coordinator(client: &Credentials, server: &Credentials) -> Handshake {
    shake_hands(client_config(client).unwrap(), server_config(server).unwrap(), COORDINATOR_SERVER_NAME)
}

const AS_MEMBER: Option<PeerIdentity> = Some(PeerIdentity { host: MEMBER, role: HostRole::Member });
const AS_COORDINATOR: Option<PeerIdentity> = Some(PeerIdentity { host: COORDINATOR, role: HostRole::Coordinator });

#[test]
fn a_member_and_its_coordinator_learn_who_the_other_is() {
    let cluster = Cluster::new();
    let handshake = to_coordinator(&cluster.member(), &cluster.coordinator());
    handshake.assert_good(ALPN_MAIN);
    assert_eq!(peer_identity(handshake.server.peer_certificates().unwrap()).ok(), AS_MEMBER);
    assert_eq!(peer_identity(handshake.client.peer_certificates().unwrap()).ok(), AS_COORDINATOR);
}

#[test]
fn sessions_are_not_resumed() {
    let cluster = Cluster::new();
    let client = client_config(&cluster.member()).unwrap();
    let server = server_config(&cluster.coordinator()).unwrap();
    for _ in 0..2 {
        let handshake = shake_hands(client.clone(), server.clone(), COORDINATOR_SERVER_NAME);
        assert_eq!(handshake.server.handshake_kind(), Some(rustls::HandshakeKind::Full));
        assert_eq!(handshake.client.tls13_tickets_received(), 0);
    }
    assert_eq!(server.max_early_data_size, 0);
    assert!(!client.enable_early_data);
}

#[test]
fn members_dial_each_other_by_the_name_of_the_host() {
    let cluster = Cluster::new();
    let (client, server) = (cluster.coordinator(), cluster.member());
    let dial = |name: &str| shake_hands(client_config(&client).unwrap(), server_config(&server).unwrap(), name);
    dial(&member_server_name(MEMBER)).assert_good(ALPN_MAIN);

    let other = member_server_name(HostId::from_random(0x12));
    let handshake = dial(&other);
    let expected = CertificateProblem::WrongHost { expected: other, identity: AS_MEMBER };
    assert_eq!(problem(&handshake.client_result), expected);
}

#[test]
fn a_member_s_certificate_does_not_pass_for_the_coordinator_s() {
    let cluster = Cluster::new();
    let expected = CertificateProblem::NotCoordinator { identity: AS_MEMBER };
    let impostor = cluster.member();
    let handshake = to_coordinator(&cluster.member(), &impostor);
    assert_eq!(problem(&handshake.client_result), expected);
    let sentence = explain(&handshake.client_result.unwrap_err());
    assert!(sentence.starts_with(&format!("member {MEMBER} answers where the coordinator should be")), "{sentence}");
    assert!(handshake.server_result.is_err());

    // Nor does it for a host that joins and dials the member by its own name.
    let join = join_client_config(cluster.authority.fingerprint()).unwrap();
    let handshake = shake_hands(join, server_config(&impostor).unwrap(), &member_server_name(MEMBER));
    assert_eq!(problem(&handshake.client_result), expected);
}

#[test]
fn a_host_that_joins_needs_no_certificate_and_gets_only_the_joining_protocol() {
    let cluster = Cluster::new();
    let join = join_client_config(cluster.authority.fingerprint()).unwrap();
    let handshake = shake_hands(join, server_config(&cluster.coordinator()).unwrap(), COORDINATOR_SERVER_NAME);
    handshake.assert_good(ALPN_JOIN);
    assert!(handshake.server.peer_certificates().is_none());
}

#[test]
fn the_shell_can_tell_a_client_without_a_certificate_on_the_main_protocol() {
    let cluster = Cluster::new();
    let mut client = join_client_config(cluster.authority.fingerprint()).unwrap();
    client.alpn_protocols = vec![ALPN_MAIN.to_vec()];
    let handshake = shake_hands(client, server_config(&cluster.coordinator()).unwrap(), COORDINATOR_SERVER_NAME);
    handshake.assert_good(ALPN_MAIN);
    assert!(handshake.server.peer_certificates().is_none());
}

#[test]
fn a_foreign_certificate_is_refused_at_either_end() {
    let (ours, theirs) = (Cluster::new(), Cluster::new());
    let handshake = to_coordinator(&ours.member(), &theirs.coordinator());
    assert_eq!(problem(&handshake.client_result), CertificateProblem::Foreign { identity: AS_COORDINATOR });

    // A client that dials with a foreign certificate, but expects the right coordinator.
    let mut client = client_config(&ours.member()).unwrap();
    client.client_auth_cert_resolver = client_config(&theirs.member()).unwrap().client_auth_cert_resolver;
    let handshake = shake_hands(client, server_config(&ours.coordinator()).unwrap(), COORDINATOR_SERVER_NAME);
    assert_eq!(problem(&handshake.server_result), CertificateProblem::Foreign { identity: AS_MEMBER });
    let sentence = explain(&handshake.server_result.unwrap_err());
    assert!(sentence.contains("is from another cluster"), "{sentence}");
    assert!(matches!(handshake.client_result, Err(Error::AlertReceived(_))));
}

#[test]
fn a_wrong_fingerprint_ends_the_handshake_and_both_are_named() {
    let (ours, theirs) = (Cluster::new(), Cluster::new());
    let (expected, presented) = (ours.authority.fingerprint(), theirs.authority.fingerprint());
    let join = join_client_config(expected).unwrap();
    let handshake = shake_hands(join, server_config(&theirs.coordinator()).unwrap(), COORDINATOR_SERVER_NAME);
    let wrong = CertificateProblem::WrongFingerprint { expected, presented: Some(presented) };
    assert_eq!(problem(&handshake.client_result), wrong);
    let sentence = explain(&handshake.client_result.unwrap_err());
    assert!(sentence.contains(&expected.to_string()) && sentence.contains(&presented.to_string()), "{sentence}");
    assert!(handshake.server_result.is_err());
}

#[test]
fn the_right_authority_s_certificate_alone_proves_nothing() {
    // The authority's certificate is no secret: here another cluster's coordinator presents it beside its own.
    let (ours, theirs) = (Cluster::new(), Cluster::new());
    let credentials = theirs.coordinator();
    let chain = vec![credentials.chain()[0].clone(), ours.coordinator().authority_certificate().clone()];
    let mut server = server_config(&credentials).unwrap();
    let forged = rustls::sign::CertifiedKey::from_der(chain, credentials.private_key(), &provider()).unwrap();
    server.cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(forged));
    let join = join_client_config(ours.authority.fingerprint()).unwrap();
    let handshake = shake_hands(join, server, COORDINATOR_SERVER_NAME);
    assert_eq!(problem(&handshake.client_result), CertificateProblem::Foreign { identity: AS_COORDINATOR });
}

#[test]
fn certificates_are_refused_before_and_after_their_time() {
    let cluster = Cluster::new();
    let now = SystemTime::now();
    let (old, early) = (now - 40 * DAY, now + 3 * DAY);
    let member = |now| cluster.credentials(MEMBER, HostRole::Member, now);
    let coordinator = |now| cluster.credentials(COORDINATOR, HostRole::Coordinator, now);

    let expired = member(old);
    for result in [
        to_coordinator(&expired, &cluster.coordinator()).server_result,
        to_coordinator(&cluster.member(), &coordinator(old)).client_result,
    ] {
        match problem(&result) {
            CertificateProblem::Expired { not_after, now, .. } => assert!(not_after < now),
            other => panic!("{other:?}"),
        }
        let sentence = explain(&result.unwrap_err());
        assert!(sentence.contains("expired at 20") && sentence.contains("Z: set the clock"), "{sentence}");
    }
    for result in [
        to_coordinator(&member(early), &cluster.coordinator()).server_result,
        to_coordinator(&cluster.member(), &coordinator(early)).client_result,
    ] {
        match problem(&result) {
            CertificateProblem::NotValidYet { not_before, now, .. } => assert!(now < not_before),
            other => panic!("{other:?}"),
        }
        let sentence = explain(&result.unwrap_err());
        assert!(sentence.contains("is valid from 20") && sentence.contains("clocks is off"), "{sentence}");
    }
    // Half a day of difference between the clocks does not matter.
    to_coordinator(&member(now + DAY / 2), &coordinator(now - DAY / 2)).assert_good(ALPN_MAIN);
}

#[test]
fn hosts_of_different_versions_still_have_a_protocol_in_common() {
    let cluster = Cluster::new();
    let old_server = |server: &mut ServerConfig| server.alpn_protocols = vec![b"rally/0".to_vec(), ALPN_VERSION.into()];
    let clients =
        [client_config(&cluster.member()).unwrap(), join_client_config(cluster.authority.fingerprint()).unwrap()];
    for client in clients {
        let mut server = server_config(&cluster.coordinator()).unwrap();
        old_server(&mut server);
        shake_hands(client.clone(), server, COORDINATOR_SERVER_NAME).assert_good(ALPN_VERSION);

        let mut newer = client;
        newer.alpn_protocols = vec![b"rally/2".to_vec(), ALPN_VERSION.into()];
        let server = server_config(&cluster.coordinator()).unwrap();
        shake_hands(newer, server, COORDINATOR_SERVER_NAME).assert_good(ALPN_VERSION);
    }
}

#[test]
fn another_service_s_protocol_is_explained_at_both_ends() {
    let cluster = Cluster::new();
    let mut client = client_config(&cluster.member()).unwrap();
    client.alpn_protocols = vec![b"h3".to_vec()];
    let handshake = shake_hands(client, server_config(&cluster.coordinator()).unwrap(), COORDINATOR_SERVER_NAME);
    for result in [handshake.client_result, handshake.server_result] {
        let sentence = explain(&result.unwrap_err());
        assert!(sentence.contains("no protocol in common"), "{sentence}");
    }
}

#[test]
fn what_closed_a_connection_is_explained_if_it_was_tls() {
    let closed = |code, reason: &'static [u8]| {
        ConnectionError::ConnectionClosed(ConnectionClose { error_code: code, frame_type: None, reason: reason.into() })
    };
    let table = [
        (closed(TransportErrorCode::crypto(116), b""), Some("demands a certificate")),
        (closed(TransportErrorCode::crypto(120), b"peer doesn't support any known protocol"), Some("no protocol in")),
        (closed(TransportErrorCode::crypto(45), b""), Some("the peer's clock")),
        (closed(TransportErrorCode::crypto(48), b""), Some("another cluster")),
        (closed(TransportErrorCode::crypto(80), b""), Some("the TLS handshake failed")),
        (closed(TransportErrorCode::crypto(80), b"no memory"), Some("the TLS handshake failed: no memory")),
        (closed(TransportErrorCode::crypto(40), b"other error: too \x1b[31mred\n"), Some("too [31mred")),
        (closed(TransportErrorCode::crypto(40), b"\xff\x00"), Some("failed: \u{fffd}")),
        (closed(TransportErrorCode::PROTOCOL_VIOLATION, b"other error: x"), None),
        (ConnectionError::TimedOut, None),
    ];
    for (error, expected) in table {
        let explained = explain_connection_error(&error);
        match (&explained, expected) {
            (Some(sentence), Some(part)) => assert!(sentence.contains(part), "{sentence}"),
            (explained, expected) => assert_eq!(explained.as_deref(), expected, "{error:?}"),
        }
    }
    let long = closed(TransportErrorCode::crypto(40), Vec::leak(vec![b'x'; 5_000]));
    assert!(explain_connection_error(&long).unwrap().len() < 700);
}

/// Dials over QUIC and returns why the connection failed, at the client and at the server.
async fn fail_over_quic(client: ClientConfig, server: ServerConfig) -> (ConnectionError, ConnectionError) {
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let server = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(server).unwrap()));
    let server = Endpoint::server(server, loopback).unwrap();
    let client = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(client).unwrap()));
    let dialer = Endpoint::client(loopback).unwrap();
    let dial = async {
        let connecting = dialer.connect_with(client, server.local_addr().unwrap(), COORDINATOR_SERVER_NAME).unwrap();
        match connecting.await {
            // The client is done before the server has seen its certificate.
            Ok(connection) => connection.closed().await,
            Err(error) => error,
        }
    };
    let accept = async { server.accept().await.unwrap().await.map(drop).unwrap_err() };
    tokio::join!(dial, accept)
}

#[tokio::test]
async fn over_quic_both_ends_get_the_whole_sentence() {
    let (ours, theirs) = (Cluster::new(), Cluster::new());
    let expired = ours.credentials(MEMBER, HostRole::Member, SystemTime::now() - 40 * DAY);
    let coordinator = || server_config(&ours.coordinator()).unwrap();
    let table = [
        (client_config(&expired).unwrap(), coordinator(), format!("the certificate of member {MEMBER} expired at 20")),
        (
            client_config(&ours.member()).unwrap(),
            server_config(&theirs.coordinator()).unwrap(),
            format!("the certificate of coordinator {COORDINATOR} is from another cluster"),
        ),
        (
            join_client_config(theirs.authority.fingerprint()).unwrap(),
            coordinator(),
            format!(
                "the token has {}, the coordinator {}",
                theirs.authority.fingerprint(),
                ours.authority.fingerprint()
            ),
        ),
    ];
    for (client, server, expected) in table {
        let (at_client, at_server) = fail_over_quic(client, server).await;
        for error in [at_client, at_server] {
            let sentence = explain_connection_error(&error).unwrap_or_else(|| panic!("{error:?}"));
            assert!(sentence.contains(&expected), "{sentence}");
        }
    }
}
