//! Another host of the cluster as a source of files.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use rally_core::{ContentHash, HostId};
use tokio::io::AsyncRead;
use tokio::sync::Mutex;
use tracing::info;

use super::Shared;
use super::dial::connect_member;
use super::files::{PeerSource, RelayManifest, RelayRange, TIMEOUT, read_manifest};
use crate::rpc::Peer;
use crate::transfer::{Manifest, Source, SourceError};

/// Another host as a source of files, by whatever way leads to it now: the connection that stands, one that is made for
/// the purpose, or the coordinator, which hands on what the host answers. A connection that broke is made again.
#[derive(Debug)]
pub(super) struct HostSource {
    shared: Arc<Shared>,
    host: HostId,
    address: SocketAddr,
    name: String,
    own_way: Mutex<OwnWay>,
}

/// A connection of this source's own.
#[derive(Debug)]
enum OwnWay {
    NotTried,
    Connected(Peer),
    /// There is none, for this reason; it is not tried again.
    Closed(String),
}

/// How to ask a host.
enum Way {
    Direct(PeerSource),
    /// Through the coordinator, because of this.
    Relayed(PeerSource, String),
}

impl HostSource {
    pub(super) fn new(shared: Arc<Shared>, host: HostId, address: SocketAddr, name: String) -> Self {
        Self { shared, host, address, name, own_way: Mutex::new(OwnWay::NotTried) }
    }

    async fn way(&self) -> Result<Way, SourceError> {
        if let Some(peer) = self.shared.peer(self.host) {
            return Ok(Way::Direct(PeerSource::new(peer)));
        }
        let mut way = self.own_way.lock().await;
        if let OwnWay::Connected(peer) = &*way
            && peer.connection().close_reason().is_none()
        {
            return Ok(Way::Direct(PeerSource::new(peer.clone())));
        }
        let why_not = match &*way {
            OwnWay::Closed(why) => why.clone(),
            OwnWay::NotTried | OwnWay::Connected(_) => {
                match connect_member(&self.shared, self.host, self.address).await {
                    Ok(peer) => {
                        *way = OwnWay::Connected(peer.clone());
                        return Ok(Way::Direct(PeerSource::new(peer)));
                    }
                    Err(error) => {
                        info!(host = self.name, %error, "the coordinator is asked to hand on what this host has");
                        let why = error.to_string();
                        *way = OwnWay::Closed(why.clone());
                        why
                    }
                }
            }
        };
        match self.shared.coordinator_peer() {
            Some(coordinator) => Ok(Way::Relayed(PeerSource::new(coordinator), why_not)),
            None => Err(SourceError::Failed(why_not)),
        }
    }
}

/// What the coordinator says, with the reason why it was asked.
fn relayed(error: SourceError, why: &str) -> SourceError {
    match error {
        SourceError::Failed(error) => SourceError::Failed(format!("{why}; through the coordinator: {error}")),
        other @ (SourceError::NotOffered { .. } | SourceError::Changed { .. } | SourceError::OutOfRange { .. }) => {
            other
        }
    }
}

#[async_trait]
impl Source for HostSource {
    fn name(&self) -> &str {
        &self.name
    }

    async fn manifest(&self, content: ContentHash) -> Result<Manifest, SourceError> {
        match self.way().await? {
            Way::Direct(source) => source.manifest(content).await,
            Way::Relayed(coordinator, why) => {
                let request = RelayManifest { host: self.host, content };
                let opened = coordinator.open(&request, TIMEOUT).await;
                read_manifest(opened.map_err(|error| relayed(error, &why))?).await
            }
        }
    }

    async fn read(
        &self,
        content: ContentHash,
        range: Range<u64>,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>, SourceError> {
        match self.way().await? {
            Way::Direct(source) => source.read(content, range).await,
            Way::Relayed(coordinator, why) => {
                let request = RelayRange { host: self.host, content, range };
                let opened = coordinator.open(&request, TIMEOUT).await;
                Ok(Box::new(opened.map_err(|error| relayed(error, &why))?))
            }
        }
    }
}
