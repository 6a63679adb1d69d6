//! Who is let in, as what, and how far: raw connections against real hosts.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use quinn::crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, ServerConfig};
use rally_core::{Epoch, HostFacts};
use rally_net::protocol::{Hello, HelloRefusal, JoinRefusal, JoinRequest, Joined, Welcome};
use rally_net::{
    ALPN_JOIN, ALPN_MAIN, ALPN_VERSION, COORDINATOR_SERVER_NAME, Credentials, Fingerprint, Head, Host, HostConfig,
    HostEvent, HostState, Place, Rejection, TokenSource, UplinkEvent, client_config, explain_connection_error, frame,
    join_client_config, server_config,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::TempDir;
use tokio::net::UdpSocket;
use tokio::time::{sleep, timeout};

use crate::cluster::{FREE_PORT, SOON, coordinator, coordinator_with, member_in, member_of, refusal, token};

/// The codes with which hosts close connections.
const PROTOCOL: u32 = 5;
const NO_CERTIFICATE: u32 = 6;

fn wall_clock(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64
}

fn hello(epoch: u64) -> Hello {
    Hello {
        epoch: Epoch(epoch),
        facts: HostFacts { name: "raw".to_owned(), ..HostFacts::default() },
        build: "test".to_owned(),
        capabilities: Vec::new(),
        wall_clock: wall_clock(SystemTime::now()),
    }
}

fn endpoint() -> Endpoint {
    Endpoint::client(FREE_PORT).unwrap()
}

async fn dial(
    endpoint: &Endpoint,
    address: SocketAddr,
    tls: rustls::ClientConfig,
) -> Result<Connection, ConnectionError> {
    let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let connecting = endpoint.connect_with(config, address, COORDINATOR_SERVER_NAME).unwrap();
    timeout(SOON, connecting).await.expect("an end of the handshake in time")
}

/// Sends one frame on a stream of its own and reads the answer's one frame.
async fn exchange<T: DeserializeOwned>(connection: &Connection, message: &impl Serialize) -> Option<T> {
    let (mut send, mut receive) = connection.open_bi().await.ok()?;
    send.write_all(&frame::encode(message).unwrap()).await.ok()?;
    send.finish().ok()?;
    let body = timeout(SOON, frame::read(&mut receive)).await.expect("an answer in time").ok()??;
    Some(frame::decode(&body).unwrap())
}

async fn close_code(connection: &Connection) -> u32 {
    match timeout(SOON, connection.closed()).await.expect("an end in time") {
        ConnectionError::ApplicationClosed(close) => close.error_code.into_inner() as u32,
        other => panic!("{other}"),
    }
}

/// What a member that has joined and stopped left behind: good credentials that nobody uses.
async fn credentials_of(coordinator: &Host) -> Credentials {
    let (home, member) = member_of(coordinator).await;
    member.stop(SOON).await;
    Credentials::load(home.path()).unwrap().unwrap()
}

/// The greeting of a host with these credentials.
async fn greet(endpoint: &Endpoint, coordinator: &Host, credentials: &Credentials, hello: &Hello) -> Greeted {
    let connection = dial(endpoint, coordinator.address(), client_config(credentials).unwrap()).await.unwrap();
    let answer = exchange(&connection, hello).await.expect("an answer");
    (connection, answer)
}

type Greeted = (Connection, Result<Welcome, HelloRefusal>);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_certificate_the_main_protocol_is_closed() {
    let (_a, coordinator) = coordinator().await;
    let token = coordinator.create_token(Duration::from_secs(60), "").unwrap();
    let mut tls = join_client_config(token.fingerprint).unwrap();
    tls.alpn_protocols = vec![ALPN_MAIN.to_vec()];
    let endpoint = endpoint();
    let connection = dial(&endpoint, coordinator.address(), tls).await.unwrap();
    assert!(exchange::<Result<Welcome, HelloRefusal>>(&connection, &hello(1)).await.is_none());
    assert_eq!(close_code(&connection).await, NO_CERTIFICATE);
    assert_eq!(coordinator.status().await.hosts.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_another_cluster_fails_the_handshake_of_a_caller_that_does_not_care() {
    let (_a, coordinator) = coordinator().await;
    let (_b, other) = self::coordinator().await;
    let foreign = credentials_of(&other).await;
    let token = coordinator.create_token(Duration::from_secs(60), "").unwrap();
    // Accepts the coordinator, and shows it the foreign certificate.
    let mut tls = join_client_config(token.fingerprint).unwrap();
    tls.client_auth_cert_resolver = client_config(&foreign).unwrap().client_auth_cert_resolver;
    tls.alpn_protocols = vec![ALPN_MAIN.to_vec()];
    let endpoint = endpoint();
    let error = match dial(&endpoint, coordinator.address(), tls).await {
        // With TLS 1.3 the client is done before the server has looked at its certificate.
        Ok(connection) => timeout(SOON, connection.closed()).await.expect("an end in time"),
        Err(error) => error,
    };
    let words = explain_connection_error(&error).expect("a matter of TLS");
    assert!(words.contains("from another cluster") && words.contains(&foreign.host().to_string()), "{words}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_tells_a_caller_of_another_version_its_own() {
    let (_a, coordinator) = coordinator().await;
    let credentials = credentials_of(&coordinator).await;
    let mut tls = client_config(&credentials).unwrap();
    tls.alpn_protocols = vec![b"rally/9".to_vec(), ALPN_VERSION.to_vec()];
    let endpoint = endpoint();
    let connection = dial(&endpoint, coordinator.address(), tls).await.unwrap();
    match timeout(SOON, connection.closed()).await.expect("an end in time") {
        ConnectionError::ApplicationClosed(close) => assert!(close.reason.starts_with(b"rally/1 (rallyd "), "{close}"),
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_meets_another_version_names_both() {
    let (home, real) = coordinator().await;
    let (member_home, member) = member_of(&real).await;
    member.stop(SOON).await;
    let mut tls = server_config(&Credentials::load(home.path()).unwrap().unwrap()).unwrap();
    tls.alpn_protocols = vec![b"rally/9".to_vec(), ALPN_VERSION.to_vec()];
    let server = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
    let newer = Endpoint::server(server, FREE_PORT).unwrap();
    let member = member_in(member_home.path(), newer.local_addr().unwrap(), TokenSource::None).await;
    let connection = newer.accept().await.unwrap().await.unwrap();
    let data = connection.handshake_data().unwrap().downcast::<HandshakeData>().unwrap();
    assert_eq!(data.protocol.as_deref(), Some(ALPN_VERSION));
    connection.close(7_u32.into(), b"rally/9 (rallyd 9.9.9\x1b[2J)");
    let refusal = refusal(&member).await;
    assert!(refusal.contains("rally/1 (rallyd ") && refusal.contains("rally/9 (rallyd 9.9.9[2J)"), "{refusal:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_for_joining_serves_nothing_else() {
    let (_a, coordinator) = coordinator().await;
    let token = coordinator.create_token(Duration::from_secs(60), "").unwrap();
    let endpoint = endpoint();
    let join = async || {
        let tls = join_client_config(token.fingerprint).unwrap();
        assert_eq!(tls.alpn_protocols[0], ALPN_JOIN);
        dial(&endpoint, coordinator.address(), tls).await.unwrap()
    };
    let list = (Head { name: "cluster/hosts", within: 1000 }, ());
    for connection in [join().await, join().await] {
        assert!(exchange::<Result<(), Rejection>>(&connection, &list).await.is_none());
        assert_eq!(close_code(&connection).await, PROTOCOL);
    }
    // Once joining is over, the connection does nothing more.
    let connection = join().await;
    let (_, request) = Credentials::request().unwrap();
    let request = JoinRequest {
        token: token.id,
        secret: token.secret.clone(),
        request,
        wall_clock: wall_clock(SystemTime::now()),
        name: "raw".to_owned(),
    };
    exchange::<Result<Joined, JoinRefusal>>(&connection, &request).await.expect("an answer").expect("a certificate");
    assert!(exchange::<Result<(), Rejection>>(&connection, &list).await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_that_are_hours_off_are_refused_when_joining_and_when_greeting() {
    let (_a, coordinator) = coordinator().await;
    let token = coordinator.create_token(Duration::from_secs(60), "").unwrap();
    let credentials = credentials_of(&coordinator).await;
    let endpoint = endpoint();
    let hours = Duration::from_secs(3 * 3600);
    for clock in [SystemTime::now() - hours, SystemTime::now() + hours] {
        let tls = join_client_config(token.fingerprint).unwrap();
        let connection = dial(&endpoint, coordinator.address(), tls).await.unwrap();
        let (_, request) = Credentials::request().unwrap();
        let (wall_clock, name) = (wall_clock(clock), "raw".to_owned());
        let request = JoinRequest { token: token.id, secret: token.secret.clone(), request, wall_clock, name };
        let answer = exchange::<Result<Joined, JoinRefusal>>(&connection, &request).await.expect("an answer");
        assert!(matches!(&answer, Err(JoinRefusal::Clock(words)) if words.contains("clock")), "{answer:?}");

        let hello = Hello { wall_clock, ..hello(9) };
        let (_connection, answer) = greet(&endpoint, &coordinator, &credentials, &hello).await;
        assert!(matches!(&answer, Err(HelloRefusal::Clock(words)) if words.contains("clock")), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_hello_is_just_a_malformed_request() {
    let (_a, coordinator) = coordinator().await;
    let credentials = credentials_of(&coordinator).await;
    let endpoint = endpoint();
    let (connection, welcome) = greet(&endpoint, &coordinator, &credentials, &hello(9)).await;
    assert_eq!(welcome.unwrap().epoch, coordinator.epoch());
    // Whatever its bytes look like as a request, it is none.
    let answer = exchange::<Result<(), Rejection>>(&connection, &hello(10)).await.expect("an answer");
    assert!(matches!(answer, Err(Rejection::Malformed | Rejection::UnknownService(_))), "{answer:?}");
    let hosts = coordinator.status().await.hosts;
    assert_eq!((hosts[1].epoch, hosts[1].state), (Epoch(9), HostState::Alive));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_in_place_of_a_hello_closes_that_connection_alone() {
    let (_a, coordinator) = coordinator().await;
    let credentials = credentials_of(&coordinator).await;
    let (_b, member) = member_of(&coordinator).await;
    let mut events = member.events();
    let endpoint = endpoint();
    let oversized = (frame::MAX_FRAME as u32 + 1).to_le_bytes();
    for garbage in [&[0xff; 64][..], &oversized, &[3, 0, 0, 0, 0xff, 0xff, 0xff], &[]] {
        let connection = dial(&endpoint, coordinator.address(), client_config(&credentials).unwrap()).await.unwrap();
        let (mut send, _receive) = connection.open_bi().await.unwrap();
        // The coordinator may close before it has read everything.
        let _ = send.write_all(garbage).await;
        let _ = send.finish();
        assert_eq!(close_code(&connection).await, PROTOCOL, "{garbage:?}");
    }
    let bad = Hello { build: "line\nfeed".to_owned(), ..hello(9) };
    let (_connection, answer) = greet(&endpoint, &coordinator, &credentials, &bad).await;
    assert!(matches!(answer, Err(HelloRefusal::Invalid(_))), "{answer:?}");
    while let Ok(event) = events.try_recv() {
        assert!(!matches!(event, HostEvent::Uplink(UplinkEvent::CoordinatorLost { .. })), "{event:?}");
    }
    assert!(coordinator.peer(member.id().unwrap()).is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_certificate_does_not_make_a_coordinator() {
    let (_a, real) = coordinator().await;
    let thief = credentials_of(&real).await;
    let (home, member) = member_of(&real).await;
    member.stop(SOON).await;
    let tls = server_config(&thief).unwrap();
    let server = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
    let false_coordinator = Endpoint::server(server, FREE_PORT).unwrap();
    let address = false_coordinator.local_addr().unwrap();
    // Neither one that has joined believes it, nor one that is about to.
    let newcomer = TempDir::new().unwrap();
    for (directory, token) in [(&home, TokenSource::None), (&newcomer, token(&real))] {
        let member = member_in(directory.path(), address, token).await;
        let (refusal, ()) = tokio::join!(refusal(&member), async {
            let incoming = false_coordinator.accept().await.unwrap();
            assert!(incoming.await.is_err());
        });
        assert!(refusal.contains("answers where the coordinator should be"), "{refusal}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_renewed_while_connections_stand() {
    let place = Place::Coordinator { certificate_lifetime: Duration::from_secs(6) };
    let (here, coordinator) = coordinator_with(|config| HostConfig { place, ..config }).await;
    let (there, member) = member_of(&coordinator).await;
    let id = member.id().unwrap();
    let mut events = member.events();
    let expiry = |directory: &TempDir| Credentials::load(directory.path()).unwrap().unwrap().expires_at();
    let first = [expiry(&here), expiry(&there)];
    let renewed = async {
        // Until nothing is left that the first certificates could vouch for.
        while expiry(&here) == first[0] || expiry(&there) == first[1] || SystemTime::now() <= first[0].max(first[1]) {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(SOON, renewed).await.expect("new certificates in time");
    assert_eq!((member.id(), expiry(&there) > SystemTime::now()), (Some(id), true));
    assert!(coordinator.peer(id).is_some());
    while let Ok(event) = events.try_recv() {
        assert!(!matches!(event, HostEvent::Uplink(UplinkEvent::CoordinatorLost { .. })), "{event:?}");
    }
    // New connections use the new ones, in every direction.
    let (_c, another) = member_of(&coordinator).await;
    another.connect(id, member.address()).await.unwrap();
    member.connect(another.id().unwrap(), another.address()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_can_make_a_host_hold_next_to_nothing_and_a_member_what_its_requests_need() {
    let (_a, coordinator) = coordinator().await;
    let token = coordinator.create_token(Duration::from_secs(60), "").unwrap();
    let credentials = credentials_of(&coordinator).await;
    let endpoint = endpoint();
    // What the other end does not take yet is not taken in here either.
    let large = [&(frame::MAX_FRAME as u32).to_le_bytes()[..], &[0; frame::MAX_FRAME]].concat();
    let stranger =
        dial(&endpoint, coordinator.address(), join_client_config(token.fingerprint).unwrap()).await.unwrap();
    let (mut send, _receive) = stranger.open_bi().await.unwrap();
    let taken = send.write(&large).await.unwrap();
    assert!(taken <= 64 << 10, "{taken} bytes");
    assert!(stranger.open_bi().now_or_never().is_none(), "one stream is enough to join");

    let (member, welcome) = greet(&endpoint, &coordinator, &credentials, &hello(9)).await;
    welcome.unwrap();
    let (mut send, _receive) = timeout(SOON, member.open_bi()).await.expect("a stream in time").unwrap();
    let _others = (timeout(SOON, member.open_bi()).await.expect("in time"), member.open_bi().await);
    // The room is larger as soon as the news of it has arrived.
    let begin = async { while send.write(&large).await.unwrap() < 128 << 10 {} };
    timeout(SOON, begin).await.expect("room for a large request in time");
}

/// The first packets of that many connections, which nobody has answered.
async fn first_packets(count: usize, authority: Fingerprint) -> Vec<Vec<u8>> {
    let sink = UdpSocket::bind(FREE_PORT).await.unwrap();
    let endpoint = endpoint();
    let tls = join_client_config(authority).unwrap();
    let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let address = sink.local_addr().unwrap();
    let (mut connections, mut seen, mut packets) = (Vec::new(), HashSet::new(), Vec::new());
    let mut buffer = [0; 2048];
    while packets.len() < count {
        connections.push(endpoint.connect_with(config.clone(), address, COORDINATOR_SERVER_NAME).unwrap());
        let length = timeout(SOON, sink.recv(&mut buffer)).await.expect("a packet in time").unwrap();
        // Form, version and length of the id that the caller has chosen for the other end, then the id.
        let id = buffer[6..6 + usize::from(buffer[5])].to_vec();
        if seen.insert(id) {
            packets.push(buffer[..length].to_vec());
        }
    }
    packets
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_half_open_strangers_do_not_keep_a_member_out() {
    let (_a, coordinator) = coordinator().await;
    let authority = coordinator.create_token(Duration::from_secs(60), "").unwrap().fingerprint;
    let mut strangers = Vec::new();
    for (number, packet) in first_packets(400, authority).await.into_iter().enumerate() {
        // Half of them from one address, the others from one each; none of them ever answers.
        let last = if number % 2 == 0 { 1 } else { 2 + (number / 2) as u8 };
        let socket = UdpSocket::bind((IpAddr::V4(Ipv4Addr::new(127, 0, 1, last)), 0)).await.unwrap();
        socket.send_to(&packet, coordinator.address()).await.unwrap();
        strangers.push(socket);
    }
    let (_b, member) = member_of(&coordinator).await;
    assert!(coordinator.peer(member.id().unwrap()).is_some());
}
