//! Starting a host.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, stream};
use rally_core::{Epoch, HostId};
use rustls::pki_types::CertificateDer;
use tokio::task::JoinSet;
use tracing::error;

use super::accept::accept_connections;
use super::config::{HostConfig, Place, TokenSource};
use super::coordinator::{CoordinatorSide, watch_deadlines};
use super::member::{ListHosts, MemberSide, follow_coordinator};
use super::renewal::keep_certificate;
use super::shared::{Parts, Shared, Side};
use super::{Host, files, renewal, socket};
use crate::identity::{
    Authority, AuthorityError, Credentials, CredentialsError, IssueError, PrivateFileError, TokenBook, TokenBookError,
    private_file,
};
use crate::remote;
use crate::rpc::Access;
use crate::status::HostRole;

/// Counts the starts of the host.
const EPOCH_FILE: &str = "epoch";

/// A secret of this host that stays the same over its starts.
const SEED_FILE: &str = "transport.key";

/// Under the host's directory; only a coordinator has one.
const AUTHORITY_DIRECTORY: &str = "authority";

/// In the authority's directory.
const TOKEN_FILE: &str = "tokens.json";

/// A host could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Another process has the address.
    #[error("{address} is already in use: another rallyd, or another program, has UDP port {} open there", address.port())]
    AddressInUse {
        /// The address.
        address: SocketAddr,
    },
    /// The machine does not have the address.
    #[error("{} is no address of this machine: give one that it has", address.ip())]
    NoSuchAddress {
        /// The address.
        address: SocketAddr,
    },
    /// The address cannot be bound for another reason.
    #[error("failed to bind {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No packet could ever reach the coordinator.
    #[error("there is no route from {} to the coordinator {coordinator}: check both addresses and the network", address.ip())]
    NoRoute {
        /// This host's address.
        address: SocketAddr,
        /// The coordinator's.
        coordinator: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The host is to join a cluster, but has nothing to join with.
    #[error(
        "this host has not joined the cluster of {coordinator} yet and has no token to join with: run `rallyd token` on \
         the coordinator and hand it over by `--token`, RALLY_TOKEN, or `join.token` in the section [cluster] of rally.ini"
    )]
    NoToken {
        /// Where the coordinator is.
        coordinator: SocketAddr,
    },
    /// The identity in the host's directory is another one than the host needs.
    #[error(
        "the identity in {} is that of a {found:?}, but this host is to be a {wanted:?}: use another directory or remove it",
        directory.display()
    )]
    OtherRole {
        /// The directory.
        directory: PathBuf,
        /// What the host was.
        found: HostRole,
        /// What it shall be.
        wanted: HostRole,
    },
    /// A small file of the host cannot be used.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// The host's identity cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The cluster's authority cannot be used.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The coordinator cannot give itself a certificate.
    #[error("the coordinator cannot make a certificate for itself")]
    Issue(#[from] IssueError),
    /// The tokens cannot be used.
    #[error(transparent)]
    Tokens(#[from] TokenBookError),
    /// The cryptographic library refuses the identity.
    #[error("TLS cannot be used: {0}")]
    Tls(String),
}

/// Starts a host from within a runtime; reads and writes small files.
pub(super) fn start(config: HostConfig) -> Result<Host, StartError> {
    let HostConfig { directory, address, place, facts, roles, mut services, timing } = config;
    private_file::create_directory(&directory)?;
    let socket = bind(address)?;
    let address = socket.local_addr().map_err(|source| StartError::Bind { address, source })?;
    let epoch = next_epoch(&directory)?;
    let (side, credentials) = match place {
        Place::Coordinator { certificate_lifetime } => {
            let now = SystemTime::now();
            let authorities = directory.join(AUTHORITY_DIRECTORY);
            let authority = Authority::open_or_create(&authorities, now)?;
            let mut tokens = TokenBook::open(authorities.join(TOKEN_FILE), &authority)?;
            tokens.local_token(&directory, now)?;
            let stored = load(&directory, HostRole::Coordinator)?
                .filter(|stored| stored.authority() == authority.fingerprint() && stored.expires_at() > now);
            let side = CoordinatorSide::new(timing.clone(), authority, certificate_lifetime, tokens);
            let credentials = match stored {
                Some(credentials) => credentials,
                None => self_issued(&side, &directory)?,
            };
            (Side::Coordinator(side), Some(credentials))
        }
        Place::Member { coordinator, token } => {
            check_route(address, coordinator)?;
            let credentials = load(&directory, HostRole::Member)?;
            if credentials.is_none() && matches!(token, TokenSource::None) {
                return Err(StartError::NoToken { coordinator });
            }
            (Side::Member(MemberSide::new(coordinator, token, timing.clone())), credentials)
        }
    };
    let endpoint =
        socket::endpoint(socket, &seed(&directory)?).map_err(|source| StartError::Bind { address, source })?;
    let capabilities = roles.capabilities();
    let parts = Parts {
        endpoint,
        address,
        directory,
        epoch,
        facts,
        capabilities,
        timing,
        credentials: credentials.clone(),
        side,
    };
    let shared = Arc::new(Shared::new(parts));
    if let Some(credentials) = credentials {
        shared.install(credentials).map_err(StartError::Tls)?;
    }

    let mut tasks = JoinSet::new();
    let hosts = Arc::clone(&shared);
    services.stream(Access::AnyHost, move |_, ListHosts| {
        let hosts = Arc::clone(&hosts);
        async move { Ok(stream::iter(hosts.hosts())) }
    });
    renewal::offer(&mut services, &shared);
    files::offer(&mut services, &shared);
    remote::offer(&mut services, &shared, &roles);
    let served = services.served().clone();
    let services = Arc::new(services);

    let mut run = |part, work: BoxFuture<'static, ()>| tasks.spawn(supervise(Arc::clone(&shared), part, work));
    run("accept connections", accept_connections(Arc::clone(&shared), Arc::clone(&services)).boxed());
    match shared.role() {
        HostRole::Coordinator => run("watch the members", watch_deadlines(Arc::clone(&shared)).boxed()),
        HostRole::Member => run("follow the coordinator", follow_coordinator(Arc::clone(&shared), services).boxed()),
    };
    run("renew the certificate", keep_certificate(Arc::clone(&shared)).boxed());
    shared.roles_running.send_replace(true);
    let ended = shared.leases.ended();
    run("end roles with their leases", remote::end_with_leases(Arc::clone(&shared), roles, ended).boxed());
    Ok(Host { shared, tasks, served })
}

/// Runs a part of the host, and tells if it crashes.
async fn supervise(shared: Arc<Shared>, part: &'static str, work: BoxFuture<'static, ()>) {
    if AssertUnwindSafe(work).catch_unwind().await.is_err() {
        error!(part, "a part of the host has crashed");
        shared.crashed.send_replace(Some(part));
        shared.roles_running.send_replace(false);
    }
}

fn bind(address: SocketAddr) -> Result<UdpSocket, StartError> {
    socket::bind(address).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => StartError::AddressInUse { address },
        io::ErrorKind::AddrNotAvailable => StartError::NoSuchAddress { address },
        _ => StartError::Bind { address, source },
    })
}

/// Asks the system whether a packet could leave for the coordinator.
fn check_route(address: SocketAddr, coordinator: SocketAddr) -> Result<(), StartError> {
    UdpSocket::bind(SocketAddr::new(address.ip(), 0))
        .and_then(|socket| socket.connect(coordinator))
        .map_err(|source| StartError::NoRoute { address, coordinator, source })
}

fn load(directory: &Path, wanted: HostRole) -> Result<Option<Credentials>, StartError> {
    let credentials = Credentials::load(directory)?;
    match &credentials {
        Some(found) if found.role() != wanted => {
            Err(StartError::OtherRole { directory: directory.to_owned(), found: found.role(), wanted })
        }
        Some(_) | None => Ok(credentials),
    }
}

fn self_issued(side: &CoordinatorSide, directory: &Path) -> Result<Credentials, StartError> {
    let (key, request) = Credentials::request()?;
    let chain = side.issue(&request, HostId::from_random(rand::random()), HostRole::Coordinator)?;
    let chain = chain.into_iter().map(CertificateDer::from).collect();
    let credentials = Credentials::from_issued(key, chain, side.fingerprint())?;
    credentials.store(directory)?;
    Ok(credentials)
}

/// Counts this start.
fn next_epoch(directory: &Path) -> Result<Epoch, StartError> {
    let path = directory.join(EPOCH_FILE);
    let last: u64 = private_file::read(&path)?.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    let epoch = Epoch(last.saturating_add(1));
    private_file::write(&path, &format!("{epoch}\n"))?;
    Ok(epoch)
}

fn seed(directory: &Path) -> Result<[u8; 32], StartError> {
    let path = directory.join(SEED_FILE);
    let stored = private_file::read(&path)?.and_then(|text| STANDARD.decode(text.trim()).ok());
    if let Some(seed) = stored.and_then(|bytes| bytes.try_into().ok()) {
        return Ok(seed);
    }
    let seed: [u8; 32] = rand::random();
    private_file::write(&path, &format!("{}\n", STANDARD.encode(seed)))?;
    Ok(seed)
}
