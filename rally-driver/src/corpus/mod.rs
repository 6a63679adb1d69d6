//! Corpora on this host: how they come here, where their lines begin, and how bulks are cut from them.

mod action;
mod archive;
mod bzip2_blocks;
mod download;
mod error;
mod ids;
mod lock;
mod offset_table;
mod parallel;
mod place;
mod preparation;
mod progress;
mod reader;
mod slices;
mod unpacking;
mod zstd_frames;

pub(crate) use action::ActionLines;
pub use error::CorpusError;
pub(crate) use ids::{Conflicts, IdOrder, Ids};
pub(crate) use offset_table::OffsetTable;
pub(crate) use preparation::{Preparation, Wanted};
pub(crate) use progress::Notice;
pub(crate) use reader::{BulkReader, Slice};

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use rally_core::track::{Corpus, Documents};

use crate::DocumentsHere;

/// A file of documents on this host, or the part of it that its clients read.
#[derive(Debug)]
pub(crate) struct DocumentFile {
    pub(crate) path: PathBuf,
    /// The byte of the whole file that this one begins with.
    pub(crate) begins_at: u64,
    /// The length of the whole file.
    pub(crate) length: u64,
    /// Where the lines of the whole file begin.
    pub(crate) table: OffsetTable,
}

/// The files of documents that a race has on this host.
#[derive(Debug, Default)]
pub(crate) struct Corpora {
    /// By the names of the corpus and of the unpacked file.
    files: HashMap<(String, String), Arc<DocumentFile>>,
}

impl Corpora {
    /// All files, as other hosts need to know them.
    pub(crate) fn here(&self) -> Vec<DocumentsHere> {
        let mut here: Vec<DocumentsHere> = self
            .files
            .iter()
            .map(|((corpus, document_file), file)| DocumentsHere {
                corpus: corpus.clone(),
                document_file: document_file.clone(),
                path: file.path.clone(),
                length: file.length,
                offsets: file.table.offsets(),
            })
            .collect();
        here.sort_by(|one, other| (&one.corpus, &one.document_file).cmp(&(&other.corpus, &other.document_file)));
        here
    }

    /// The file of a document set.
    ///
    /// # Errors
    ///
    /// [`CorpusError::Missing`] if the race did not prepare it on this host.
    pub(crate) fn document_file(
        &self,
        corpus: &Corpus,
        documents: &Documents,
    ) -> Result<&Arc<DocumentFile>, CorpusError> {
        self.files.get(&(corpus.name.clone(), documents.document_file.clone())).ok_or_else(|| CorpusError::Missing {
            corpus: corpus.name.clone(),
            path: documents.document_file.clone().into(),
            remedy: "this driver has no client that reads it".to_owned(),
        })
    }
}
