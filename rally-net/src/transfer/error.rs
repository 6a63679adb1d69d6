//! How a fetch fails.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use rally_core::ContentHash;

use super::manifest::ManifestError;
use super::source::SourceError;

/// A content could not be fetched. What has arrived stays for the next fetch, the target is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The range to fetch has no bytes.
    #[error("there are no bytes from {} to {}", range.start, range.end)]
    EmptyRange {
        /// The range of the request.
        range: Range<u64>,
    },
    /// A directory, a link or the like has the name of the file to write.
    #[error("{} is in the way: it is not a regular file with one name", path.display())]
    NotAFile {
        /// What is in the way.
        path: PathBuf,
    },
    /// Another fetch into the same file, perhaps of another process, does not come to an end.
    #[error("another fetch holds {} and makes no progress", part.display())]
    Busy {
        /// The unfinished file.
        part: PathBuf,
    },
    /// The receiver's own file system failed; the disk may be full.
    #[error("failed to {action} {}", path.display())]
    Storage {
        /// What was tried: `write`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Every source failed.
    #[error("no source could deliver content {content}: {}", list(failures))]
    NoSource {
        /// The content that was asked for.
        content: ContentHash,
        /// Each source with the reason why it was given up.
        failures: Vec<SourceFailure>,
    },
}

/// A source that was given up, and why.
#[derive(Debug)]
pub struct SourceFailure {
    /// The name of the source.
    pub name: String,
    /// What it did wrong.
    pub fault: SourceFault,
}

impl fmt::Display for SourceFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.fault)
    }
}

fn list(failures: &[SourceFailure]) -> String {
    if failures.is_empty() {
        return "there was none to ask".to_owned();
    }
    failures.iter().map(SourceFailure::to_string).collect::<Vec<_>>().join("; ")
}

/// What a source did wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceFault {
    /// It said that it cannot.
    #[error(transparent)]
    Refused(#[from] SourceError),
    /// Its manifest does not belong to the content.
    #[error(transparent)]
    WrongManifest(#[from] ManifestError),
    /// It sent bytes that do not belong to the content.
    #[error("sent wrong bytes between {} and {}", range.start, range.end)]
    WrongBytes {
        /// The group of bytes that was wrong.
        range: Range<u64>,
    },
    /// It took too long to send what was asked for.
    #[error("sent too little within {} s", within.as_secs())]
    Stalled {
        /// How long it had.
        within: Duration,
    },
    /// The bytes ended early.
    #[error("the bytes ended at {position}")]
    Truncated {
        /// The position in the content, in bytes.
        position: u64,
    },
    /// Reading failed midway.
    #[error("reading broke off: {0}")]
    Broken(io::Error),
}

impl SourceFault {
    /// Whether another attempt may succeed.
    pub(super) const fn may_pass(&self) -> bool {
        match self {
            Self::Refused(SourceError::Failed(_)) | Self::Truncated { .. } | Self::Broken(_) => true,
            Self::Refused(
                SourceError::NotOffered { .. } | SourceError::Changed { .. } | SourceError::OutOfRange { .. },
            )
            | Self::WrongManifest(_)
            | Self::WrongBytes { .. }
            | Self::Stalled { .. } => false,
        }
    }
}
