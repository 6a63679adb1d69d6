//! Where the documents of a corpus are.

use std::path::{Component, Path, PathBuf};
use std::{fs, io};

use rally_core::track::{Corpus, Documents};

use super::CorpusError;

/// The unpacked file of a document set: in the directory of its corpus, or beside it as Rally's users know it.
///
/// # Errors
///
/// [`CorpusError`] if it is not there, has another size than the track says, or lies outside of the directory.
pub(crate) fn document_file(data_dir: &Path, corpus: &Corpus, documents: &Documents) -> Result<PathBuf, CorpusError> {
    let name = Path::new(&documents.document_file);
    let inside = |path: &Path| path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !inside(name) || !inside(Path::new(&corpus.name)) {
        return Err(CorpusError::Outside { corpus: corpus.name.clone(), name: documents.document_file.clone() });
    }
    let path = data_dir.join(&corpus.name).join(name);
    let found = match fs::metadata(&path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(CorpusError::Missing { corpus: corpus.name.clone(), path });
        }
        Err(source) => return Err(CorpusError::Read { path, source }),
    };
    match documents.uncompressed_size_in_bytes {
        Some(expected) if expected != found => {
            Err(CorpusError::Size { corpus: corpus.name.clone(), path, found, expected })
        }
        _ => Ok(path),
    }
}
