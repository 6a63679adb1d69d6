//! Why documents cannot be had.

use std::io;
use std::path::PathBuf;

use crate::RunnerError;

/// The documents of a corpus cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CorpusError {
    /// The file is not there, and cannot be got.
    #[error("{} of corpus `{corpus}` is missing; {remedy}", path.display())]
    Missing {
        /// The corpus.
        corpus: String,
        /// Where the file should be.
        path: PathBuf,
        /// What would help.
        remedy: String,
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
    /// The file has another number of lines than the track says.
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
    /// The file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be downloaded.
    #[error("cannot download {url} for corpus `{corpus}`: {problem}")]
    Download {
        /// The corpus.
        corpus: String,
        /// From where, without credentials.
        url: String,
        /// What is wrong, and what would help.
        problem: String,
    },
    /// The archive cannot be unpacked.
    #[error("cannot unpack {}: {problem}; delete it so that it is fetched again", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The thread that unpacks the file or counts its lines did not come to an end.
    #[error(
        "{document_file} of corpus `{corpus}` could not be unpacked or counted: {problem}; this is a defect, please report it"
    )]
    Aborted {
        /// The corpus.
        corpus: String,
        /// The file.
        document_file: String,
        /// What it panicked with.
        problem: String,
    },
    /// The file cannot be fetched from another host.
    #[error(
        "cannot fetch {document_file} of corpus `{corpus}` from another host: {problem}; put it on this host or the \
         coordinator, or let each driver download it with --data=download"
    )]
    Ship {
        /// The corpus.
        corpus: String,
        /// The file.
        document_file: String,
        /// What is wrong.
        problem: String,
    },
}

impl From<CorpusError> for RunnerError {
    fn from(error: CorpusError) -> Self {
        Self::Other(match &error {
            CorpusError::Read { source, .. } | CorpusError::Write { source, .. } => format!("{error}: {source}"),
            _ => error.to_string(),
        })
    }
}
