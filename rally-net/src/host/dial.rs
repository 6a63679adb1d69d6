//! Dialing: the coordinator to join, the coordinator to belong, other members for transfers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use quinn::crypto::rustls::HandshakeData;
use quinn::{Connection, ConnectionError};
use rally_core::HostId;
use rustls::pki_types::CertificateDer;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::shared::{Shared, display_name};
use super::socket;
use crate::close::{CloseCode, describe};
use crate::frame::{self, FrameError};
use crate::identity::{Credentials, JoinToken, PeerIdentity, member_server_name, peer_identity};
use crate::membership::DialFailure;
use crate::protocol::{HelloRefusal, JoinRefusal, JoinRequest, Joined, SOFTWARE, Welcome, wall_clock};
use crate::rpc::Peer;
use crate::tls::{self, ALPN_VERSION, COORDINATOR_SERVER_NAME};

/// Another member could not be connected to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// This host has no certificate yet.
    #[error("this host has not joined a cluster yet")]
    NotJoined,
    /// The other host could not be reached, or is another one.
    #[error("could not connect to the host {host} at {address}: {cause}")]
    Failed {
        /// The host that was sought.
        host: HostId,
        /// Where it was sought.
        address: SocketAddr,
        /// Why, in words.
        cause: String,
    },
}

/// Connects to the coordinator and is welcomed by it.
pub(super) async fn dial_coordinator(
    shared: &Shared,
    coordinator: SocketAddr,
    credentials: &Credentials,
) -> Result<Peer, DialFailure> {
    let connection = connect(shared, coordinator, COORDINATOR_SERVER_NAME, tls::client_config(credentials)).await?;
    greet(shared, connection, coordinator).await
}

/// Connects to another member, which must be that host.
pub(super) async fn connect_member(
    shared: &Arc<Shared>,
    host: HostId,
    address: SocketAddr,
) -> Result<Peer, ConnectError> {
    let credentials = shared.credentials().ok_or(ConnectError::NotJoined)?;
    let attempt = async {
        let name = member_server_name(host);
        let connection = connect(shared, address, &name, tls::client_config(&credentials)).await?;
        greet(shared, connection, address).await
    };
    let failure = match timeout(shared.timing.dial_timeout, attempt).await {
        Ok(Ok(peer)) => return Ok(peer),
        Ok(Err(failure)) => failure,
        Err(_) => DialFailure::TimedOut(shared.timing.dial_timeout),
    };
    Err(ConnectError::Failed { host, address, cause: failure.to_string() })
}

/// Gets a certificate for this host from the coordinator whose authority the token names.
pub(super) async fn join(
    shared: &Shared,
    coordinator: SocketAddr,
    token: &JoinToken,
) -> Result<Credentials, DialFailure> {
    let (key, request) = Credentials::request().map_err(|error| DialFailure::Rejected(error.to_string()))?;
    let config = tls::join_client_config(token.fingerprint);
    let connection = connect(shared, coordinator, COORDINATOR_SERVER_NAME, config).await?;
    let request = JoinRequest {
        token: token.id,
        secret: token.secret.clone(),
        request,
        wall_clock: wall_clock(SystemTime::now()),
        name: shared.facts.name.clone(),
    };
    let answer: Result<Joined, JoinRefusal> = exchange(&connection, &request).await?;
    connection.close(CloseCode::Done.into(), b"");
    let joined = answer.map_err(|refusal| DialFailure::Rejected(refusal.to_string()))?;
    let chain = joined.chain.into_iter().map(CertificateDer::from).collect();
    Credentials::from_issued(key, chain, token.fingerprint).map_err(|error| DialFailure::Rejected(error.to_string()))
}

/// Opens a connection and makes sure that both sides speak the same protocol.
async fn connect(
    shared: &Shared,
    address: SocketAddr,
    name: &str,
    tls: Result<rustls::ClientConfig, rustls::Error>,
) -> Result<Connection, DialFailure> {
    let unusable = |error: &dyn std::fmt::Display| DialFailure::Rejected(format!("TLS cannot be used: {error}"));
    let config = socket::client(tls.map_err(|error| unusable(&error))?).map_err(|error| unusable(&error))?;
    let connecting = shared
        .endpoint
        .connect_with(config, address, name)
        .map_err(|error| DialFailure::Unreachable(error.to_string()))?;
    let connection = connecting.await.map_err(|error| failure(&error))?;
    if negotiated(&connection).as_deref() == Some(ALPN_VERSION) {
        let theirs = match connection.closed().await {
            ConnectionError::ApplicationClosed(close) => String::from_utf8_lossy(&close.reason).into_owned(),
            other => describe(&other),
        };
        let theirs: String = theirs.chars().filter(|character| !character.is_control()).take(80).collect();
        return Err(DialFailure::Rejected(format!(
            "the protocol versions do not match: this host speaks {SOFTWARE}, the host at {address} speaks {theirs}; \
             install the same version of rallyd on both"
        )));
    }
    Ok(connection)
}

/// Says hello on a fresh connection.
async fn greet(shared: &Shared, connection: Connection, address: SocketAddr) -> Result<Peer, DialFailure> {
    let identity = identity_of(&connection).map_err(DialFailure::Rejected)?;
    let answer: Result<Welcome, HelloRefusal> = exchange(&connection, &shared.hello()).await?;
    let welcome = answer.map_err(|refusal| match refusal {
        HelloRefusal::NotTakenIn(reason) => DialFailure::Refused(reason),
        HelloRefusal::Clock(words) | HelloRefusal::Invalid(words) => DialFailure::Rejected(words),
    })?;
    welcome.check().map_err(DialFailure::Rejected)?;
    let name = display_name(&welcome.facts.name, address);
    Ok(Peer::new(connection, identity.host, identity.role, welcome.epoch, name))
}

/// Sends the one message that opens a connection, and reads its answer.
async fn exchange<Q: Serialize, A: DeserializeOwned>(connection: &Connection, message: &Q) -> Result<A, DialFailure> {
    let attempt = async {
        let (mut send, mut receive) = connection.open_bi().await.map_err(|error| FrameError::Io(error.into()))?;
        send.write_all(&frame::encode(message)?).await.map_err(|error| FrameError::Io(error.into()))?;
        // Reading the answer tells why the stream was stopped, if it was.
        let _ = send.finish();
        let body = frame::read(&mut receive).await?;
        body.map(|body| frame::decode(&body)).transpose()
    };
    match attempt.await {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => Err(DialFailure::Unreachable("the connection ended before an answer".to_owned())),
        Err(error) => Err(match connection.close_reason() {
            Some(cause) => failure(&cause),
            None => DialFailure::Unreachable(error.to_string()),
        }),
    }
}

/// Who the far end of a connection is, by the certificate that was verified in its handshake.
pub(super) fn identity_of(connection: &Connection) -> Result<PeerIdentity, String> {
    let chain = connection.peer_identity().and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
    peer_identity(chain.as_deref().map_or(&[][..], Vec::as_slice)).map_err(|error| error.to_string())
}

/// The application protocol of a connection.
pub(super) fn negotiated(connection: &Connection) -> Option<Vec<u8>> {
    connection.handshake_data()?.downcast::<HandshakeData>().ok()?.protocol
}

/// Tells failures that will not mend themselves from the others.
fn failure(error: &ConnectionError) -> DialFailure {
    match tls::explain_connection_error(error) {
        Some(problem) => DialFailure::Rejected(problem),
        None => match error {
            ConnectionError::TimedOut => DialFailure::Unreachable("nobody answers there".to_owned()),
            other => DialFailure::Unreachable(describe(other)),
        },
    }
}
