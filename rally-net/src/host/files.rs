//! Files by content over a connection: the shelf as a service, and a peer as a source.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use quinn::{RecvStream, SendStream};
use rally_core::ContentHash;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncRead;

use crate::frame;
use crate::rpc::{Access, Peer, Request, Services};
use crate::transfer::{MAX_MANIFEST_SIZE, Manifest, Shelf, Source, SourceError};

/// How long a peer may take to begin.
const TIMEOUT: Duration = Duration::from_secs(10);

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

/// Offers the files on the shelf to every host of the cluster.
pub(super) fn offer(services: &mut Services, shelf: &Arc<Shelf>) {
    let manifests = Arc::clone(shelf);
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
    let files = Arc::clone(shelf);
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

    async fn open<R: Request>(&self, request: &R) -> Result<RecvStream, SourceError> {
        let failed = |error: &dyn std::fmt::Display| SourceError::Failed(error.to_string());
        let mut stream = self.peer.read(request, TIMEOUT).await.map_err(|error| failed(&error))?;
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
        let mut stream = self.open(&ReadManifest { content }).await?;
        let bytes = stream
            .read_to_end(MAX_MANIFEST_SIZE)
            .await
            .map_err(|error| SourceError::Failed(format!("the manifest did not arrive: {error}")))?;
        postcard::from_bytes(&bytes)
            .map_err(|error| SourceError::Failed(format!("the manifest cannot be understood: {error}")))
    }

    async fn read(
        &self,
        content: ContentHash,
        range: Range<u64>,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>, SourceError> {
        Ok(Box::new(self.open(&ReadRange { content, range }).await?))
    }
}
