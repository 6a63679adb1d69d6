//! The daemon itself: the host in the cluster, the control socket, and what ends them.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rally_core::{Coordinator, RaceId, RaceRequest, RaceStatus, RoleError, RoleErrorKind, Sequence};
use rally_net::{
    CoordinatorStatus, DEFAULT_CERTIFICATE_LIFETIME, Host, HostConfig, HostFailed, HostRole, JoinError, JoinToken,
    LinkState, ParseTokenError, Place, TokenSource,
};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::address::is_of_this_machine;
use crate::archive::Archive;
use crate::causes::causes;
use crate::control::{ControlServer, DaemonStatus, Handler, Request, Response};
use crate::facts::host_facts;
use crate::instance::{Instance, InstanceError, LockError, StartSettings};
use crate::race::{RaceHost, RaceKeeping, is_this_host, registry, some_events};
use crate::sd_notify;
use crate::secret::Secret;
use crate::settings::{Flags, Settings, SettingsError};

/// How long the host may take to say goodbye; less than `rallyd stop` waits before it becomes rude.
const STOP_WITHIN: Duration = Duration::from_secs(8);

/// How long the coordinator may take to say which race runs; a status without it is better than none.
const ASK_WITHIN: Duration = Duration::from_millis(300);

/// How long the coordinator may take to say what has happened in a race; less than callers wait.
const EVENTS_WITHIN: Duration = Duration::from_secs(2);

/// How long a viewer waits for a coordinator that is out of reach: longer than a restart takes.
const GONE_AFTER: Duration = Duration::from_secs(20);

/// Everything a daemon needs to know, resolved.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DaemonConfig {
    /// This user's Rally directory, absolute.
    pub rally_directory: PathBuf,
    /// Where to listen.
    pub address: SocketAddr,
    /// Whom to follow; the daemon is the coordinator if this is its own address.
    pub coordinator: SocketAddr,
    /// The join string, if there is one.
    pub token: Option<Secret>,
    /// How long the certificates are valid that a coordinator gives out, `None` for the network's own default.
    pub certificate_lifetime: Option<Duration>,
    /// What to remember for a restart.
    pub start_settings: StartSettings,
    /// Where the log goes, `None` if it goes to a terminal or service manager.
    pub log: Option<PathBuf>,
    /// How long to wait for the coordinator before the daemon reports that it is up without one.
    pub wait: Duration,
}

/// The daemon is up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Up {
    /// Its process.
    pub pid: u32,
    /// Its place in the cluster.
    pub role: HostRole,
    /// How it stands to its coordinator.
    pub coordinator: Joined,
}

/// Whether a daemon that is up has joined its cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Joined {
    /// It has.
    Yes,
    /// Not within the time it was given; it keeps trying.
    NotYet {
        /// Why the last attempt failed, if one has ended.
        last_error: Option<String>,
    },
}

/// The daemon could not start, or could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DaemonError {
    /// Its directory cannot be used.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// Its lock cannot be taken.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Signals cannot be received.
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
    /// The control socket cannot be bound.
    #[error("cannot open the control socket {}", path.display())]
    Control {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The host cannot start.
    #[error("the host at {address} cannot start")]
    Start {
        /// Its address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The coordinator will never take this host as it is.
    #[error("the coordinator {coordinator} refuses this host")]
    Refused {
        /// The coordinator.
        coordinator: SocketAddr,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The host was up and cannot go on.
    #[error("the host at {address} failed")]
    Failed {
        /// Its address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Runs a daemon until it is told to stop, by a signal or over its control socket, or cannot go on.
///
/// Calls `up` once the host has joined, or after `config.wait` without an answer from the coordinator. The first
/// SIGTERM or SIGINT stops it gracefully, the second at once. When this returns, socket and lock are gone.
///
/// # Errors
///
/// If the daemon cannot start, is refused for good, or fails later.
pub async fn run(config: DaemonConfig, up: impl FnOnce(Up)) -> Result<(), DaemonError> {
    let instance = Instance::new(&config.rally_directory, config.address);
    instance.create()?;
    let _lock = instance.lock()?;
    let mut signals = Signals::new().map_err(DaemonError::Signals)?;
    let races = start_host(&config, &instance).await?;
    let control = ControlServer::bind(&instance)
        .map_err(|source| DaemonError::Control { path: instance.control_socket(), source })?;
    // Before the coordinator is waited for: a daemon whose start was interrupted runs on, and can be restarted too.
    if let Err(error) = instance.write_start_settings(&config.start_settings) {
        warn!(%error, "a restart will not know how this daemon was started");
    }
    info!(address = %config.address, coordinator = %config.coordinator, pid = std::process::id(), "daemon started");

    let stop = CancellationToken::new();
    let daemon = Arc::new(Daemon { races, instance, log: config.log.clone(), stop: stop.clone() });
    let until_end = async {
        let ended = tokio::select! {
            biased;
            name = signals.recv() => {
                info!(signal = name, "stopping");
                Ok(())
            }
            () = stop.cancelled() => {
                info!("stopping on request");
                Ok(())
            }
            error = daemon.host().failed() => Err(failed(&config, error)),
            error = until_refused(daemon.host(), config.wait, up) => Err(refused(&config, error)),
        };
        stop.cancel();
        ended
    };
    let (ended, ()) = tokio::join!(until_end, control.serve(&daemon, &stop));
    drop(control);
    sd_notify::notify("STOPPING=1");

    let daemon = Arc::into_inner(daemon).expect("every conversation has ended with the control server");
    tokio::select! {
        () = daemon.races.stop(STOP_WITHIN) => info!("daemon stopped"),
        name = signals.recv() => warn!(signal = name, "daemon stopped at once"),
    }
    ended
}

async fn start_host(config: &DaemonConfig, instance: &Instance) -> Result<RaceHost, DaemonError> {
    let error = |source| DaemonError::Start { address: config.address, source };
    let place = if config.address == config.coordinator {
        let certificate_lifetime = config.certificate_lifetime.unwrap_or(DEFAULT_CERTIFICATE_LIFETIME);
        Place::Coordinator { certificate_lifetime }
    } else {
        let token = token_source(config).map_err(|source| error(source.into()))?;
        Place::Member { coordinator: config.coordinator, token }
    };
    let current = settings(&config.rally_directory).map_err(|source| error(source.into()))?;
    let archive = Archive::new(current.root(&config.rally_directory).join("races"));
    let keeping = matches!(place, Place::Coordinator { .. }).then(|| {
        let directory = config.rally_directory.clone();
        // What the user has changed since counts for the next race.
        let reporting = move || match settings(&directory) {
            Ok(settings) => Ok(settings.reporting),
            Err(error) => Err(causes(&error).join(": ")),
        };
        RaceKeeping { archive, reporting: Box::new(reporting) }
    });
    let data_dir = current.data_dir(&config.rally_directory);
    let config = HostConfig { facts: host_facts(), ..HostConfig::new(instance.directory(), config.address, place) };
    let started = RaceHost::start_with(config, registry(), data_dir, keeping).await;
    started.map_err(|source| error(source.into()))
}

/// What `rally.ini` and the environment say at the moment. What is odd about them was said when the daemon was started.
fn settings(directory: &Path) -> Result<Settings, SettingsError> {
    Ok(Settings::load(directory, |name| std::env::var_os(name), &Flags::default())?.0)
}

/// What the user gave, or where a coordinator of the same user on this machine keeps its token.
fn token_source(config: &DaemonConfig) -> Result<TokenSource, ParseTokenError> {
    match &config.token {
        Some(token) => token.reveal().parse::<JoinToken>().map(TokenSource::Given),
        None if is_of_this_machine(config.coordinator) => {
            let coordinator = Instance::new(&config.rally_directory, config.coordinator);
            Ok(TokenSource::CoordinatorDirectory(coordinator.directory().to_owned()))
        }
        None => Ok(TokenSource::None),
    }
}

fn refused(config: &DaemonConfig, error: JoinError) -> DaemonError {
    DaemonError::Refused { coordinator: config.coordinator, source: error.into() }
}

fn failed(config: &DaemonConfig, error: HostFailed) -> DaemonError {
    DaemonError::Failed { address: config.address, source: error.into() }
}

/// Reports when the host is up, and returns only if the coordinator refuses it for good.
async fn until_refused(host: &Host, wait: Duration, up: impl FnOnce(Up)) -> JoinError {
    let mut joined = pin!(host.joined());
    let first = timeout(wait, &mut joined).await;
    let status = host.status().await;
    let report = |coordinator| Up { pid: std::process::id(), role: status.role, coordinator };
    match first {
        Ok(Ok(())) => up(report(Joined::Yes)),
        Ok(Err(error)) => return error,
        Err(_) => {
            let last_error = match status.coordinator.link {
                LinkState::Connecting { last_error, .. } => last_error,
                LinkState::Own { .. } | LinkState::Connected { .. } => None,
            };
            up(report(Joined::NotYet { last_error }));
            if let Err(error) = joined.await {
                return error;
            }
            info!("joined the cluster");
        }
    }
    pending().await
}

/// What the control socket has access to.
#[derive(Debug)]
struct Daemon {
    races: RaceHost,
    instance: Instance,
    log: Option<PathBuf>,
    stop: CancellationToken,
}

impl Daemon {
    fn host(&self) -> &Host {
        self.races.host()
    }

    /// The coordinator of the cluster, which this may be.
    fn coordinator(&self) -> Arc<dyn Coordinator> {
        match self.races.coordinator() {
            Some(own) => Arc::clone(own) as Arc<dyn Coordinator>,
            None => Arc::new(self.host().remote_coordinator()),
        }
    }

    /// The race that runs, if the coordinator says so at once. One that is silent is not waited for.
    async fn race(&self, link: &LinkState) -> Option<RaceStatus> {
        if matches!(link, LinkState::Connecting { .. } | LinkState::Connected { suspect: true, .. }) {
            return None;
        }
        let coordinator = self.coordinator();
        timeout(ASK_WITHIN, coordinator.current_race()).await.ok()?.ok()?
    }

    /// What a viewer wants to know. As long as the coordinator is only out of reach, there is nothing new.
    async fn race_events(&self, race: &RaceId, after: Sequence) -> Response {
        match timeout(EVENTS_WITHIN, some_events(&*self.coordinator(), race, after)).await {
            Ok(Ok((events, is_over))) => Response::RaceEvents { events, is_over },
            Ok(Err(error)) => Response::RoleFailed(Box::new(error)),
            Err(_) => {
                let CoordinatorStatus { address, link } = self.host().status().await.coordinator;
                match link {
                    LinkState::Connecting { since, .. } if since.elapsed().is_ok_and(|it| it > GONE_AFTER) => {
                        Response::Refused(format!("its coordinator {address} has been out of reach for {GONE_AFTER:?}"))
                    }
                    _ => Response::RaceEvents { events: Vec::new(), is_over: false },
                }
            }
        }
    }

    async fn start_race(&self, mut request: RaceRequest, plan: String) -> Response {
        let is_kept = !plan.is_empty();
        if is_kept {
            match self.races.roles().content.keep(plan.into_bytes()).await {
                Ok(content) => request.bundle = content,
                Err(error) => return refusal(&error),
            }
        }
        // Whoever reads it elsewhere would take it for another host.
        for host in request.load_driver_hosts.iter_mut().filter(|host| is_this_host(host)) {
            *host = self.host().address().to_string();
        }
        let (race, plan) = (request.race.clone(), request.bundle);
        let started = self.coordinator().start_race(request).await;
        match &started {
            _ if !is_kept => {}
            Err(error) if matches!(error.kind, RoleErrorKind::Busy | RoleErrorKind::Invalid) => {
                self.races.roles().content.forget(plan).await;
            }
            // The coordinator itself deletes it when the race is over.
            _ if self.races.coordinator().is_some() => {}
            _ => self.races.roles().forget_after(race, plan),
        }
        accepted(started)
    }
}

fn accepted(outcome: Result<(), RoleError>) -> Response {
    outcome.map_or_else(|error| Response::RoleFailed(Box::new(error)), |()| Response::RaceAccepted)
}

impl Handler for Daemon {
    async fn handle(&self, request: Request) -> Response {
        match request {
            Request::Status => {
                let host = self.host().status().await;
                let race = self.race(&host.coordinator.link).await;
                let directory = self.instance.directory().to_owned();
                Response::Status(Box::new(DaemonStatus {
                    pid: std::process::id(),
                    log: self.log.clone(),
                    directory,
                    host,
                    race,
                }))
            }
            Request::Stop => {
                self.stop.cancel();
                Response::Stopping
            }
            Request::CreateToken { lifetime, note } => match self.host().create_token(lifetime, &note) {
                Ok(token) => Response::Token(Secret::new(token.to_string())),
                Err(error) => refusal(&error),
            },
            Request::ListTokens => match self.host().tokens() {
                Ok(tokens) => Response::Tokens(tokens),
                Err(error) => refusal(&error),
            },
            Request::RevokeToken { id } => match self.host().revoke_token(id) {
                Ok(()) => Response::Revoked,
                Err(error) => refusal(&error),
            },
            Request::StartRace { request, plan } => self.start_race(*request, plan).await,
            Request::RaceEvents { race, after } => self.race_events(&race, after).await,
            Request::CancelRace { race, mode } => accepted(self.coordinator().cancel(&race, mode).await),
            Request::CurrentRace => match self.coordinator().current_race().await {
                Ok(race) => Response::CurrentRace(race),
                Err(error) => Response::RoleFailed(Box::new(error)),
            },
            Request::RaceReport { race } => match self.coordinator().report(&race).await {
                Ok(report) => Response::RaceReport(Box::new(report)),
                Err(error) => Response::RoleFailed(Box::new(error)),
            },
        }
    }
}

fn refusal(error: &dyn std::error::Error) -> Response {
    Response::Refused(causes(error).join(": "))
}

/// The signals that end a daemon.
#[derive(Debug)]
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next one and names it.
    async fn recv(&mut self) -> &'static str {
        tokio::select! {
            Some(()) = self.terminate.recv() => "SIGTERM",
            Some(()) = self.interrupt.recv() => "SIGINT",
            else => pending().await,
        }
    }
}
