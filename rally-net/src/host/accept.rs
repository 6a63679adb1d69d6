//! Accepting connections: strangers get little, hosts of the cluster get services.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use quinn::{Connection, ConnectionError, Incoming, RecvStream, SendStream};
use rally_core::ClusterTime;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::dial::{identity_of, negotiated};
use super::member::send;
use super::shared::{Shared, Side, display_name, lock};
use super::socket;
use crate::close::{CloseCode, is_goodbye};
use crate::frame;
use crate::identity::{PeerIdentity, check_clock};
use crate::membership::{RegistryEvent, Report, Session};
use crate::protocol::{
    Datagram, Hello, HelloRefusal, JoinRefusal, JoinRequest, Joined, SOFTWARE, Welcome, from_wall_clock,
};
use crate::rpc::{self, Peer, Services};
use crate::status::HostRole;
use crate::tls::{ALPN_JOIN, ALPN_MAIN, ALPN_VERSION};

/// Connections of strangers at the same time; more are refused at once.
const MAX_STRANGERS: usize = 256;

/// With so many strangers, a newcomer has to prove that its address is its own before anything is computed for it.
const CROWD: usize = 32;

/// Strangers from one address at the same time: enough for a rack behind one address that starts at once.
const MAX_STRANGERS_OF_ONE_ADDRESS: usize = 64;

/// Connections of known hosts at the same time, beside those that the registry counts.
const MAX_CONNECTIONS: usize = 8192;

/// How long a stranger has until it has said what it wants, handshake included.
const STRANGER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a host that got its last answer has to take it.
const LAST_ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Accepts connections until the endpoint is closed.
pub(super) async fn accept_connections(shared: Arc<Shared>, services: Arc<Services>) {
    let door = Arc::new(Door::default());
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            incoming = shared.endpoint.accept() => {
                let Some(incoming) = incoming else { break };
                if connections.len() >= MAX_CONNECTIONS {
                    incoming.refuse();
                } else if let Some((incoming, stranger)) = door.admit(incoming) {
                    connections.spawn(meet(Arc::clone(&shared), Arc::clone(&services), incoming, stranger));
                }
            }
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    warn!(%error, "a connection has failed");
                }
            }
        }
    }
    while connections.join_next().await.is_some() {}
}

/// Counts strangers.
#[derive(Debug)]
struct Door {
    places: Arc<Semaphore>,
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

impl Default for Door {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(MAX_STRANGERS)), by_address: Mutex::default() }
    }
}

/// A place among the strangers; free again when it is dropped.
#[derive(Debug)]
struct Stranger {
    door: Arc<Door>,
    address: IpAddr,
    _place: OwnedSemaphorePermit,
}

impl Door {
    fn admit(self: &Arc<Self>, incoming: Incoming) -> Option<(Incoming, Stranger)> {
        let address = incoming.remote_address().ip();
        let crowded = MAX_STRANGERS - self.places.available_permits() >= CROWD;
        if crowded && !incoming.remote_address_validated() && incoming.may_retry() {
            if let Err(error) = incoming.retry() {
                debug!(%error, "a connection attempt could not be asked to try again");
            }
            return None;
        }
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            debug!(%address, "too many strangers at once");
            incoming.refuse();
            return None;
        };
        let mut by_address = lock(&self.by_address);
        let count = by_address.entry(address).or_default();
        if *count >= MAX_STRANGERS_OF_ONE_ADDRESS {
            debug!(%address, "too many strangers from one address");
            incoming.refuse();
            return None;
        }
        *count += 1;
        Some((incoming, Stranger { door: Arc::clone(self), address, _place: place }))
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut by_address = lock(&self.door.by_address);
        if let Some(count) = by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

/// Takes one connection from its first packet to its end.
async fn meet(shared: Arc<Shared>, services: Arc<Services>, incoming: Incoming, stranger: Stranger) {
    let address = incoming.remote_address();
    let introduction = async {
        let connection = incoming.accept()?.await?;
        let protocol = negotiated(&connection);
        match protocol.as_deref() {
            Some(ALPN_MAIN) => Ok(receive_hello(&connection).await.map(|greeting| (connection, greeting))),
            Some(ALPN_JOIN) => {
                receive_join(&shared, &connection).await;
                Ok(None)
            }
            Some(ALPN_VERSION) => {
                info!(%address, "a host with another protocol version has called");
                connection.close(CloseCode::Refused.into(), SOFTWARE.as_bytes());
                Ok(None)
            }
            _ => {
                connection.close(CloseCode::Protocol.into(), b"");
                Ok(None)
            }
        }
    };
    let met: Result<_, ConnectionError> = match timeout(STRANGER_TIMEOUT, introduction).await {
        Ok(met) => met,
        Err(_) => return debug!(%address, "a stranger did not say what it wants"),
    };
    drop(stranger);
    match met {
        Ok(Some((connection, greeting))) => host_connection(&shared, &services, connection, greeting).await,
        Ok(None) => (),
        Err(error) => debug!(%address, %error, "a handshake has failed"),
    }
}

/// Who called, what it said, and where the answer goes.
type Greeting = (PeerIdentity, Hello, SendStream);

async fn receive_hello(connection: &Connection) -> Option<Greeting> {
    let Ok(identity) = identity_of(connection) else {
        connection.close(CloseCode::NoCertificate.into(), b"");
        return None;
    };
    let (hello, answer) = receive_first(connection).await?;
    Some((identity, hello, answer))
}

/// Reads the message that opens a connection.
async fn receive_first<T: DeserializeOwned>(connection: &Connection) -> Option<(T, SendStream)> {
    let (send, mut receive): (SendStream, RecvStream) = connection.accept_bi().await.ok()?;
    match frame::read(&mut receive).await.map(|body| body.map(|body| frame::decode(&body))) {
        Ok(Some(Ok(message))) => Some((message, send)),
        Ok(None | Some(Err(_))) | Err(_) => {
            connection.close(CloseCode::Protocol.into(), b"");
            None
        }
    }
}

async fn answer<T: Serialize>(mut stream: SendStream, message: &T) {
    if let Ok(frame) = frame::encode(message)
        && stream.write_all(&frame).await.is_ok()
    {
        // A stream that was stopped by the peer needs no end.
        let _ = stream.finish();
    }
}

/// Serves a connection that is there only to join.
async fn receive_join(shared: &Arc<Shared>, connection: &Connection) {
    let Some((request, stream)) = receive_first::<JoinRequest>(connection).await else { return };
    let decider = Arc::clone(shared);
    let decision = spawn_blocking(move || match &decider.side {
        Side::Coordinator(side) => side.join(&request),
        Side::Member(side) => Err(JoinRefusal::Invalid(format!(
            "this host is no coordinator; the coordinator that it follows is {}",
            side.coordinator()
        ))),
    });
    let verdict: Result<Joined, JoinRefusal> =
        decision.await.unwrap_or_else(|error| Err(JoinRefusal::Invalid(format!("the coordinator failed: {error}"))));
    if let Err(refusal) = &verdict {
        warn!(address = %connection.remote_address(), %refusal, "a host was not let in");
    }
    answer(stream, &verdict).await;
    // The other side closes as soon as it has read the answer.
    let _ = timeout(LAST_ANSWER_TIMEOUT, connection.closed()).await;
    connection.close(CloseCode::Done.into(), b"");
}

/// Serves the connection of a host that showed a certificate and said hello.
async fn host_connection(
    shared: &Arc<Shared>,
    services: &Arc<Services>,
    connection: Connection,
    (identity, hello, stream): Greeting,
) {
    let session = shared.next_session();
    let name = display_name(&hello.facts.name, connection.remote_address());
    let peer = Peer::new(connection.clone(), identity.host, identity.role, hello.epoch, name);
    let registered = shared.role() == HostRole::Coordinator && identity.role == HostRole::Member;
    let verdict = admit(shared, &peer, session, registered, hello);
    let welcome: Result<Welcome, HelloRefusal> = verdict.map(|()| shared.welcome());
    if let Err(refusal) = &welcome {
        warn!(peer = peer.name(), %refusal, "a host was not taken in");
        shared.remove_session(session);
        answer(stream, &welcome).await;
        let _ = timeout(LAST_ANSWER_TIMEOUT, connection.closed()).await;
        connection.close(CloseCode::Refused.into(), b"");
        return;
    }
    socket::trust(&connection);
    answer(stream, &welcome).await;
    let cause = if registered {
        tokio::select! {
            cause = rpc::serve(services, &peer) => cause,
            cause = hear(shared, &peer, session) => cause,
        }
    } else {
        rpc::serve(services, &peer).await
    };
    shared.remove_session(session);
    if registered {
        shared.apply(RegistryEvent::Closed { session, left: is_goodbye(&cause) });
    }
}

/// Decides about a host that said hello.
fn admit(shared: &Shared, peer: &Peer, session: Session, registered: bool, hello: Hello) -> Result<(), HelloRefusal> {
    hello.check().map_err(HelloRefusal::Invalid)?;
    if !registered {
        return Ok(());
    }
    check_clock(from_wall_clock(hello.wall_clock), SystemTime::now())
        .map_err(|difference| HelloRefusal::Clock(difference.to_string()))?;
    shared.add_session(session, peer.clone());
    let event = RegistryEvent::Hello {
        session,
        host: peer.host(),
        epoch: peer.epoch(),
        address: peer.connection().remote_address(),
        facts: hello.facts,
    };
    shared.apply(event).unwrap_or(Ok(())).map_err(HelloRefusal::NotTakenIn)
}

/// Answers heartbeats, until the connection ends.
async fn hear(shared: &Shared, peer: &Peer, session: Session) -> ConnectionError {
    loop {
        let datagram = match peer.connection().read_datagram().await {
            Ok(datagram) => datagram,
            Err(error) => return error,
        };
        let received_there = coordinator_time(shared);
        let Ok(datagram) = postcard::from_bytes::<Datagram>(&datagram) else { continue };
        if !datagram.is_sound() {
            continue;
        }
        let Datagram::Heartbeat { sent, activity, clock, wall_shift } = datagram else { continue };
        let report = Report {
            activity,
            round_trip: clock.map(|(_, round_trip)| round_trip),
            clock: clock.map(|(estimate, _)| estimate),
            wall_shift,
        };
        let address = peer.connection().remote_address();
        shared.apply(RegistryEvent::Heartbeat { session, report, address });
        send(peer, &Datagram::Answer { sent, received_there, sent_there: coordinator_time(shared) });
    }
}

/// Coordinator time, which this host makes itself.
fn coordinator_time(shared: &Shared) -> ClusterTime {
    ClusterTime::from_nanos(shared.clock.local().as_nanos())
}
