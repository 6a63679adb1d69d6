//! Corpora on this host: where their files are, where their lines begin, and how bulks are cut from them.

mod file;
mod offset_table;
mod reader;

pub(crate) use file::document_file;
pub(crate) use reader::{ActionLine, BulkReader, Slice};

use std::io;
use std::path::PathBuf;

use crate::RunnerError;

/// The documents of a corpus cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CorpusError {
    /// The file is not there.
    #[error("{} of corpus `{corpus}` is missing; put it there", path.display())]
    Missing {
        /// The corpus.
        corpus: String,
        /// Where the file should be.
        path: PathBuf,
    },
    /// The file has another size than the track says.
    #[error("{} of corpus `{corpus}` has {found} bytes, but the track says {expected}; replace it", path.display())]
    Size {
        /// The corpus.
        corpus: String,
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        found: u64,
        /// What the track says.
        expected: u64,
    },
    /// The name of a file leads out of the directory of its corpus.
    #[error("corpus `{corpus}` must not name `{name}`: a file within its own directory is expected")]
    Outside {
        /// The corpus.
        corpus: String,
        /// The name of the file.
        name: String,
    },
    /// The file has fewer lines than the track says.
    #[error("{} has {found} lines, but the track says {expected}; correct `document-count` or replace the file", path.display())]
    Lines {
        /// The file.
        path: PathBuf,
        /// Its lines.
        found: u64,
        /// What the track says.
        expected: u64,
    },
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl From<CorpusError> for RunnerError {
    fn from(error: CorpusError) -> Self {
        Self::Other(match &error {
            CorpusError::Read { source, .. } => format!("{error}: {source}"),
            _ => error.to_string(),
        })
    }
}
