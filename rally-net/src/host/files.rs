//! Files by content over a connection: the shelf as a service, and a peer as a source.
//!
//! The coordinator, to which every host has a connection, also hands on what a member offers, for members that cannot reach
//! that one themselves. It keeps nothing of it.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use quinn::{RecvStream, SendStream};
use rally_core::{ContentHash, HostId};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncRead;
use tokio::time::timeout;

use super::Shared;
use crate::frame;
use crate::rpc::{Access, Peer, Request, Services};
use crate::transfer::{MAX_MANIFEST_SIZE, Manifest, Source, SourceError};

/// How long a peer may take to begin.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

/// The same for one that is asked on behalf of another host, and again for each block of what it sends: shorter than that one
/// waits, so that it hears who is to blame.
const RELAY_TIMEOUT: Duration = Duration::from_secs(8);

/// What is handed on is read in blocks of at most this many bytes.
const BLOCK: usize = 256 << 10;

/// Asks for the manifest of a content. The bytes are a frame with `Result<(), SourceError>`, then the manifest in
/// postcard's encoding.
#[derive(Debug, Serialize, Deserialize)]
struct ReadManifest {
    content: ContentHash,
}

impl Request for ReadManifest {
    const NAME: &'static str = "file/manifest";
    type Answer = ();
}

/// Asks for a part of a content. The bytes are a frame with `Result<(), SourceError>`, then those asked for.
#[derive(Debug, Serialize, Deserialize)]
struct ReadRange {
    content: ContentHash,
    range: Range<u64>,
}

impl Request for ReadRange {
    const NAME: &'static str = "file/read";
    type Answer = ();
}

/// [`ReadManifest`] of another host, which the coordinator asks and whose answer it hands on.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RelayManifest {
    pub(super) host: HostId,
    pub(super) content: ContentHash,
}

impl Request for RelayManifest {
    const NAME: &'static str = "file/relay-manifest";
    type Answer = ();
}

/// [`ReadRange`] of another host, which the coordinator asks and whose answer it hands on.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RelayRange {
    pub(super) host: HostId,
    pub(super) content: ContentHash,
    pub(super) range: Range<u64>,
}

impl Request for RelayRange {
    const NAME: &'static str = "file/relay-read";
    type Answer = ();
}

/// Offers the files on the shelf to every host of the cluster, and those of other hosts as far as this one is connected to
/// them.
pub(super) fn offer(services: &mut Services, shared: &Arc<Shared>) {
    let manifests = Arc::clone(&shared.shelf);
    services.bytes(Access::AnyHost, move |_, ReadManifest { content }| {
        let manifest = manifests.manifest(content);
        async move {
            Ok(move |mut stream: SendStream| async move {
                begin(&mut stream, &manifest).await?;
                if let Ok(manifest) = manifest {
                    let bytes = postcard::to_stdvec(&manifest).map_err(std::io::Error::other)?;
                    stream.write_chunk(Bytes::from(bytes)).await?;
                }
                end(stream)
            })
        }
    });
    let files = Arc::clone(&shared.shelf);
    services.bytes(Access::AnyHost, move |_, ReadRange { content, range }| {
        let files = Arc::clone(&files);
        async move {
            let reader = files.open_range(content, range).await;
            Ok(move |mut stream: SendStream| async move {
                begin(&mut stream, &reader).await?;
                if let Ok(mut reader) = reader {
                    while let Some(block) = reader.next_block().await? {
                        stream.write_chunk(block).await?;
                    }
                }
                end(stream)
            })
        }
    });
    let relay = Arc::clone(shared);
    services.bytes(Access::AnyHost, move |_, RelayManifest { host, content }| {
        let relay = Arc::clone(&relay);
        async move {
            let opened = open_at(&relay, host, &ReadManifest { content }).await;
            Ok(move |stream| hand_on(opened, stream))
        }
    });
    let relay = Arc::clone(shared);
    services.bytes(Access::AnyHost, move |_, RelayRange { host, content, range }| {
        let relay = Arc::clone(&relay);
        async move {
            let opened = open_at(&relay, host, &ReadRange { content, range }).await;
            Ok(move |stream| hand_on(opened, stream))
        }
    });
}

/// Asks another host over the connection that stands.
async fn open_at<R: Request>(shared: &Shared, host: HostId, request: &R) -> Result<RecvStream, SourceError> {
    let unconnected = || SourceError::Failed(format!("{} has no connection to it", shared.name()));
    PeerSource::new(shared.peer(host).ok_or_else(unconnected)?).open(request, RELAY_TIMEOUT).await
}

/// Hands on what another host answers, as it comes.
async fn hand_on(opened: Result<RecvStream, SourceError>, mut stream: SendStream) -> std::io::Result<()> {
    begin(&mut stream, &opened).await?;
    if let Ok(mut bytes) = opened {
        loop {
            let chunk = tokio::select! {
                // Whoever asked wants no more.
                _ = stream.stopped() => return Ok(()),
                chunk = timeout(RELAY_TIMEOUT, bytes.read_chunk(BLOCK, true)) => chunk?,
            };
            let Some(chunk) = chunk? else { break };
            stream.write_chunk(chunk.bytes).await?;
        }
    }
    end(stream)
}

/// Says whether bytes follow.
async fn begin<T>(stream: &mut SendStream, outcome: &Result<T, SourceError>) -> std::io::Result<()> {
    let said: Result<(), &SourceError> = outcome.as_ref().map(drop);
    let frame = frame::encode(&said).map_err(std::io::Error::other)?;
    Ok(stream.write_chunk(Bytes::from(frame)).await?)
}

fn end(mut stream: SendStream) -> std::io::Result<()> {
    Ok(stream.finish()?)
}

/// A peer as a source of files.
#[derive(Clone, Debug)]
pub struct PeerSource {
    peer: Peer,
}

impl PeerSource {
    /// Takes what this peer offers.
    pub fn new(peer: Peer) -> Self {
        Self { peer }
    }

    /// Asks for bytes; `within` bounds the wait for their beginning.
    pub(super) async fn open<R: Request>(&self, request: &R, within: Duration) -> Result<RecvStream, SourceError> {
        let failed = |error: &dyn std::fmt::Display| SourceError::Failed(error.to_string());
        let mut stream = self.peer.read(request, within).await.map_err(|error| failed(&error))?;
        let body = frame::read(&mut stream)
            .await
            .map_err(|error| failed(&error))?
            .ok_or_else(|| failed(&"the stream ended before an answer"))?;
        let said: Result<(), SourceError> = frame::decode(&body).map_err(|error| failed(&error))?;
        said.map(|()| stream)
    }
}

#[async_trait]
impl Source for PeerSource {
    fn name(&self) -> &str {
        self.peer.name()
    }

    async fn manifest(&self, content: ContentHash) -> Result<Manifest, SourceError> {
        read_manifest(self.open(&ReadManifest { content }, TIMEOUT).await?).await
    }

    async fn read(
        &self,
        content: ContentHash,
        range: Range<u64>,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>, SourceError> {
        Ok(Box::new(self.open(&ReadRange { content, range }, TIMEOUT).await?))
    }
}

/// Reads a manifest whose bytes follow.
pub(super) async fn read_manifest(mut stream: RecvStream) -> Result<Manifest, SourceError> {
    let bytes = stream
        .read_to_end(MAX_MANIFEST_SIZE)
        .await
        .map_err(|error| SourceError::Failed(format!("the manifest did not arrive: {error}")))?;
    postcard::from_bytes(&bytes)
        .map_err(|error| SourceError::Failed(format!("the manifest cannot be understood: {error}")))
}
