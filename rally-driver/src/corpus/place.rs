//! Where the files of a document set are on this host.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use rally_core::track::{Corpus, Documents};

use super::CorpusError;

/// Where the files of a document set are.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) corpus: String,
    /// The unpacked file as the track names it.
    pub(super) name: String,
    pub(super) archive_name: Option<String>,
    pub(super) size: Option<u64>,
    pub(super) archive_size: Option<u64>,
    pub(super) lines: u64,
    pub(super) base_url: Option<String>,
    /// The directory of the corpus.
    pub(super) directory: PathBuf,
    /// The track's own directory, which may have files that are only read.
    bundle: Option<PathBuf>,
}

impl Place {
    /// The place of a document set, all of which is within its directory.
    pub(super) fn of(
        data_dir: &Path,
        bundle: Option<&Path>,
        corpus: &Corpus,
        documents: &Documents,
    ) -> Result<Self, CorpusError> {
        let is_inside = |name: &str| {
            let mut parts = Path::new(name).components();
            parts.clone().any(|part| matches!(part, Component::Normal(_)))
                && parts.all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
        };
        let names = [Some(&corpus.name), Some(&documents.document_file), documents.document_archive.as_ref()];
        if let Some(name) = names.into_iter().flatten().find(|name| !is_inside(name)) {
            return Err(CorpusError::Outside { corpus: corpus.name.clone(), name: name.clone() });
        }
        Ok(Self {
            corpus: corpus.name.clone(),
            name: documents.document_file.clone(),
            archive_name: documents.document_archive.clone(),
            size: documents.uncompressed_size_in_bytes,
            archive_size: documents.compressed_size_in_bytes,
            lines: documents.number_of_lines(),
            base_url: documents.base_url.clone(),
            directory: data_dir.join(&corpus.name),
            bundle: bundle.map(Path::to_owned),
        })
    }

    /// The unpacked file.
    pub(super) fn file(&self) -> PathBuf {
        self.directory.join(&self.name)
    }

    /// What the track says of the file that is downloaded: its name, and its size if that is known.
    pub(super) fn source(&self) -> (&str, Option<u64>) {
        match &self.archive_name {
            Some(archive) => (archive, self.archive_size),
            None => (&self.name, self.size),
        }
    }

    /// A hidden file beside the unpacked one.
    pub(super) fn hidden(&self, ending: &str) -> PathBuf {
        let file = self.file();
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        file.with_file_name(format!(".{name}.{ending}"))
    }

    /// The unpacked file, if it is there and has its size. One beside the track has to have it.
    pub(super) fn unpacked(&self) -> Result<Option<PathBuf>, CorpusError> {
        if let Some(file) = self.bundle.as_ref().map(|bundle| bundle.join(&self.name))
            && let Some(found) = length(&file)?
        {
            self.check(&file, found, self.size)?;
            return Ok(Some(file));
        }
        let file = self.file();
        let found = length(&file)?;
        Ok(found.filter(|found| self.size.is_none_or(|size| size == *found)).map(|_| file))
    }

    /// The archive, if it is there and has its size.
    pub(super) fn archive(&self) -> Result<Option<PathBuf>, CorpusError> {
        let Some(name) = &self.archive_name else { return Ok(None) };
        for directory in self.bundle.iter().chain([&self.directory]) {
            let archive = directory.join(name);
            if length(&archive)?.is_some_and(|found| self.archive_size.is_none_or(|size| size == found)) {
                return Ok(Some(archive));
            }
        }
        Ok(None)
    }

    /// What is wrong if neither is there: a size if a file has a wrong one.
    pub(super) fn missing(&self, remedy: impl FnOnce(&Path) -> String) -> CorpusError {
        let (name, expected) = self.source();
        for (path, expected) in [(self.directory.join(name), expected), (self.file(), self.size)] {
            if let Ok(Some(found)) = length(&path)
                && let Err(error) = self.check(&path, found, expected)
            {
                return error;
            }
        }
        let path = self.directory.join(name);
        CorpusError::Missing { corpus: self.corpus.clone(), remedy: remedy(&path), path }
    }

    /// Checks a size against what the track says.
    pub(super) fn check(&self, path: &Path, found: u64, expected: Option<u64>) -> Result<(), CorpusError> {
        match expected {
            Some(expected) if expected != found => {
                Err(CorpusError::Size { corpus: self.corpus.clone(), path: path.to_owned(), found, expected })
            }
            _ => Ok(()),
        }
    }
}

/// The length of a file; none if there is none.
pub(super) fn length(path: &Path) -> Result<Option<u64>, CorpusError> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(Some(metadata.len())),
        Ok(_) => Ok(None),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(source) => Err(CorpusError::Read { path: path.to_owned(), source }),
    }
}
