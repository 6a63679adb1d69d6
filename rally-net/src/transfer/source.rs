//! Where content comes from.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use rally_core::ContentHash;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncRead;

use super::manifest::Manifest;

/// Someone who may have a content, usually a peer; nothing that it says is trusted.
#[async_trait]
pub trait Source: Send + Sync {
    /// What to call it in errors: the host's name or address.
    fn name(&self) -> &str;

    /// The only bytes of a content that it has; none if it has all of them. A source with a part is never asked for the
    /// manifest, and only for whole groups of bytes that lie in its part.
    fn part(&self) -> Option<Range<u64>> {
        None
    }

    /// Its manifest of a content.
    ///
    /// # Errors
    ///
    /// After [`SourceError::Failed`] it may be asked again, after any other error it is not.
    async fn manifest(&self, content: ContentHash) -> Result<Manifest, SourceError>;

    /// Reads a range of bytes of a content, in order.
    ///
    /// The reader is often dropped before its end, when another source has taken over the rest. Bytes after the range
    /// are never read.
    ///
    /// # Errors
    ///
    /// After [`SourceError::Failed`] it may be asked again, after any other error it is not.
    async fn read(
        &self,
        content: ContentHash,
        range: Range<u64>,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>, SourceError>;
}

/// A source that has only a part of a content, such as a host that fetched it.
pub struct PartialSource {
    source: Arc<dyn Source>,
    part: Range<u64>,
}

impl PartialSource {
    /// Takes these bytes from a source, which need not have the others.
    pub fn new(source: Arc<dyn Source>, part: Range<u64>) -> Self {
        Self { source, part }
    }
}

impl fmt::Debug for PartialSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartialSource").field("source", &self.name()).field("part", &self.part).finish()
    }
}

#[async_trait]
impl Source for PartialSource {
    fn name(&self) -> &str {
        self.source.name()
    }

    fn part(&self) -> Option<Range<u64>> {
        Some(self.part.clone())
    }

    async fn manifest(&self, content: ContentHash) -> Result<Manifest, SourceError> {
        self.source.manifest(content).await
    }

    async fn read(
        &self,
        content: ContentHash,
        range: Range<u64>,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>, SourceError> {
        self.source.read(content, range).await
    }
}

/// A source cannot deliver a content. It may travel between hosts, so it carries no path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum SourceError {
    /// The content was never offered, or is no longer.
    #[error("does not offer content {content}")]
    NotOffered {
        /// The content that was asked for.
        content: ContentHash,
    },
    /// The file is no longer what was offered.
    #[error("the file of content {content} has changed since it was offered")]
    Changed {
        /// The content that was asked for.
        content: ContentHash,
    },
    /// The range goes beyond the end of the content, or is reversed.
    #[error("bytes {} to {} are not within the {length} bytes of content {content}", range.start, range.end)]
    OutOfRange {
        /// The content that was asked for.
        content: ContentHash,
        /// The bytes that were asked for.
        range: Range<u64>,
        /// The length of the content in bytes.
        length: u64,
    },
    /// Something else failed, such as the connection; another attempt may succeed.
    #[error("{0}")]
    Failed(String),
}
