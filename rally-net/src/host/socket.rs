//! The one UDP socket of a host, and how QUIC uses it.
//!
//! It is public for programs that talk to hosts without being one, or measure against what hosts are made of.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, Connection, Endpoint, EndpointConfig, IdleTimeout, ServerConfig, TokioRuntime, TransportConfig,
    VarInt,
};
use tracing::debug;

use crate::rpc::MAX_CONCURRENT_REQUESTS;

/// Socket buffers, in bytes: what arrives while the process is not scheduled for some milliseconds at 10 Gbit/s.
const SOCKET_BUFFER: usize = 4 << 20;

/// How much unread data, in bytes, a peer may have under way on one stream and on one connection.
const STREAM_WINDOW: u32 = 8 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// How much unread data, in bytes, whoever has called may have under way before it is known who that is; a greeting or a
/// request to join has less than a few thousand. Without this, strangers could make a host hold gigabytes for them.
pub(crate) const STRANGER_WINDOW: u32 = 64 << 10;

/// Heartbeats are the only datagrams; a few of them fit.
const DATAGRAM_BUFFER: usize = 16 << 10;

/// QUIC gives up a silent connection later than membership does, so that membership is the one to decide.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// How many connection attempts may wait for this host to look at them.
const MAX_INCOMING: usize = 1024;

/// Binds the socket of a host.
///
/// # Errors
///
/// The system does not give out the address.
pub fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    for (what, result) in [
        ("receive", rustix::net::sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BUFFER)),
        ("send", rustix::net::sockopt::set_socket_send_buffer_size(&socket, SOCKET_BUFFER)),
    ] {
        if let Err(error) = result {
            debug!(%error, what, "the system's default socket buffer is used");
        }
    }
    Ok(socket)
}

/// Makes the endpoint of a host.
///
/// `seed` is a secret that stays the same over restarts of the daemon: from it come the tokens by which a peer
/// recognises, at its first packet after a crash, that the connection it still believes in is gone.
///
/// # Errors
///
/// The runtime does not take the socket.
pub fn endpoint(socket: UdpSocket, seed: &[u8; 32]) -> io::Result<Endpoint> {
    let derive = |purpose: &str| blake3::derive_key(purpose, seed);
    let mut config = EndpointConfig::new(Arc::new(ring::hmac::Key::new(
        ring::hmac::HMAC_SHA256,
        &derive("rally-net stateless reset tokens"),
    )));
    let ids = derive("rally-net connection ids");
    let key = u64::from_le_bytes(ids[..8].try_into().expect("8 of 32 bytes"));
    config.cid_generator(move || Box::new(quinn_proto::HashedConnectionIdGenerator::from_key(key)));
    Endpoint::new(config, None, socket, Arc::new(TokioRuntime))
}

/// How a host accepts connections: with room for one greeting and no more, until it calls [`trust`].
///
/// # Errors
///
/// `tls` cannot be used for QUIC; that of [`server_config`](crate::server_config) can.
pub fn server(tls: rustls::ServerConfig) -> Result<ServerConfig, NoInitialCipherSuite> {
    let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    let mut transport = transport();
    transport.max_concurrent_bidi_streams(VarInt::from_u32(1)).receive_window(VarInt::from_u32(STRANGER_WINDOW));
    config.transport_config(Arc::new(transport)).max_incoming(MAX_INCOMING);
    Ok(config)
}

/// Gives a connection that was accepted the room that a host of the cluster has.
pub fn trust(connection: &Connection) {
    connection.set_receive_window(VarInt::from_u32(CONNECTION_WINDOW));
    connection.set_max_concurrent_bi_streams(VarInt::from_u32(MAX_CONCURRENT_REQUESTS));
}

/// How a host dials.
///
/// # Errors
///
/// `tls` cannot be used for QUIC; that of [`client_config`](crate::client_config) can.
pub fn client(tls: rustls::ClientConfig) -> Result<ClientConfig, NoInitialCipherSuite> {
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(Arc::new(transport()));
    Ok(config)
}

fn transport() -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(MAX_CONCURRENT_REQUESTS))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(CONNECTION_WINDOW.into())
        .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER))
        .datagram_send_buffer_size(DATAGRAM_BUFFER)
        .max_idle_timeout(Some(IdleTimeout::try_from(IDLE_TIMEOUT).expect("20 s fit")));
    config
}
