//! A stand-in for `rally_net::Host` with the same interface, to be deleted once that exists.
//!
//! It binds its socket and knows itself; a coordinator has joined at once, a member never does.

#![expect(clippy::unused_async, reason = "the real one waits")]

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use rally_core::{Activity, Epoch, HostFacts, HostId};
use rally_net::{CoordinatorStatus, HostRole, HostState, HostStatus, HostSummary, LinkState};
use tokio::net::UdpSocket;

#[derive(Debug)]
pub(crate) struct HostConfig {
    pub(crate) directory: PathBuf,
    pub(crate) address: SocketAddr,
    pub(crate) coordinator: SocketAddr,
    pub(crate) token: Option<String>,
    pub(crate) facts: HostFacts,
    pub(crate) certificate_lifetime: Option<Duration>,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot bind UDP {0}")]
pub(crate) struct StartError(SocketAddr, #[source] io::Error);

#[derive(Debug, thiserror::Error)]
#[error("the token is wrong")]
pub(crate) struct JoinError;

#[derive(Debug, thiserror::Error)]
#[error("the host failed")]
pub(crate) struct HostError;

#[derive(Debug, thiserror::Error)]
#[error("there is no token `{0}`")]
pub(crate) struct TokenError(String);

#[derive(Debug)]
pub(crate) struct TokenSummary {
    pub(crate) id: String,
    pub(crate) note: String,
    pub(crate) expires: SystemTime,
}

#[derive(Debug)]
pub(crate) struct Host {
    config: HostConfig,
    _socket: UdpSocket,
    started: (Instant, SystemTime),
}

impl Host {
    pub(crate) async fn start(config: HostConfig) -> Result<Self, StartError> {
        let socket = UdpSocket::bind(config.address).await.map_err(|error| StartError(config.address, error))?;
        tracing::info!(directory = %config.directory.display(), lifetime = ?config.certificate_lifetime, "stand-in");
        Ok(Self { config, _socket: socket, started: (Instant::now(), SystemTime::now()) })
    }

    fn is_coordinator(&self) -> bool {
        self.config.address == self.config.coordinator
    }

    pub(crate) async fn joined(&self) -> Result<(), JoinError> {
        match &self.config.token {
            Some(token) if token == "wrong" => Err(JoinError),
            _ if self.is_coordinator() => Ok(()),
            _ => std::future::pending().await,
        }
    }

    pub(crate) async fn status(&self) -> HostStatus {
        let (uptime, since) = (self.started.0.elapsed(), self.started.1);
        let link = if self.is_coordinator() {
            LinkState::Own { since }
        } else {
            let last_error = Some("no answer within 3 s; is UDP blocked?".to_owned());
            LinkState::Connecting { since, attempts: 1, last_error }
        };
        let role = if self.is_coordinator() { HostRole::Coordinator } else { HostRole::Member };
        let own = HostSummary {
            id: HostId::from_random(1),
            role,
            address: self.config.address,
            state: HostState::Alive,
            last_heard: Duration::ZERO,
            round_trip: None,
            clock: None,
            epoch: Epoch(1),
            facts: self.config.facts.clone(),
            activity: Activity::Idle,
        };
        HostStatus {
            id: self.is_coordinator().then_some(own.id),
            role,
            address: self.config.address,
            epoch: Epoch(1),
            uptime,
            facts: self.config.facts.clone(),
            activity: Activity::Idle,
            coordinator: CoordinatorStatus { address: self.config.coordinator, link },
            hosts: if self.is_coordinator() { vec![own] } else { Vec::new() },
            hosts_age: self.is_coordinator().then_some(Duration::ZERO),
        }
    }

    pub(crate) async fn create_token(&self, lifetime: Duration, note: String) -> Result<String, TokenError> {
        tracing::info!(?lifetime, note, "token");
        Ok("stand-in-token".to_owned())
    }

    pub(crate) async fn tokens(&self) -> Result<Vec<TokenSummary>, TokenError> {
        Ok(vec![TokenSummary { id: "1".to_owned(), note: String::new(), expires: self.started.1 }])
    }

    pub(crate) async fn revoke_token(&self, id: &str) -> Result<(), TokenError> {
        Err(TokenError(id.to_owned()))
    }

    pub(crate) async fn failed(&self) -> HostError {
        std::future::pending().await
    }

    pub(crate) async fn stop(self, within: Duration) {
        tracing::info!(?within, "stand-in stops");
    }
}
