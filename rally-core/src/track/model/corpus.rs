//! Corpora: the documents that a track indexes.

use serde::{Deserialize, Serialize};

use super::JsonObject;

/// Endings of the archives that documents can come in. The longest that fits counts.
const ARCHIVE_ENDINGS: [&str; 9] = [".tar.gz", ".tar.bz2", ".tgz", ".tar", ".zip", ".bz2", ".gz", ".zst", ".lz4"];

/// A named collection of documents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Corpus {
    /// The name, unique in the track. Files are kept in a folder of this name.
    pub name: String,
    /// Added to the metadata of what is measured while this corpus is indexed.
    pub meta: JsonObject,
    /// The document sets, at least one.
    pub documents: Vec<Documents>,
}

impl Corpus {
    /// Documents in all sets.
    #[must_use]
    pub fn number_of_documents(&self) -> u64 {
        self.documents.iter().map(|documents| documents.number_of_documents).sum()
    }

    /// Size as downloaded, in bytes, if it is known of all sets.
    #[must_use]
    pub fn compressed_size_in_bytes(&self) -> Option<u64> {
        self.documents.iter().map(|documents| documents.compressed_size_in_bytes).sum()
    }

    /// Size as read, in bytes, if it is known of all sets.
    #[must_use]
    pub fn uncompressed_size_in_bytes(&self) -> Option<u64> {
        self.documents.iter().map(|documents| documents.uncompressed_size_in_bytes).sum()
    }
}

/// How documents are written in their file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum SourceFormat {
    /// One JSON document per line, perhaps with an action line before each, as in the bulk API.
    #[default]
    Bulk,
}

impl SourceFormat {
    /// The name in track files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bulk => "bulk",
        }
    }
}

/// One file of documents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Documents {
    /// How the documents are written.
    pub source_format: SourceFormat,
    /// Name of the file with the documents, unpacked.
    pub document_file: String,
    /// Name of the archive that it comes in, if it does.
    pub document_archive: Option<String>,
    /// Where the archive or file can be downloaded from.
    pub base_url: Option<String>,
    /// Whether each document has an action line before it. Targets are in these lines then.
    pub includes_action_and_meta_data: bool,
    /// Documents in the file.
    pub number_of_documents: u64,
    /// Size of the archive in bytes.
    pub compressed_size_in_bytes: Option<u64>,
    /// Size of the unpacked file in bytes.
    pub uncompressed_size_in_bytes: Option<u64>,
    /// The index that the documents go to.
    pub target_index: Option<String>,
    /// The data stream that the documents go to.
    pub target_data_stream: Option<String>,
    /// Added to the metadata of what is measured while these documents are indexed.
    pub meta: JsonObject,
}

impl Documents {
    /// Lines in the file: twice the documents if each has an action line.
    #[must_use]
    pub fn number_of_lines(&self) -> u64 {
        self.number_of_documents.saturating_mul(if self.includes_action_and_meta_data { 2 } else { 1 })
    }

    /// The name in the track file: the archive, or the file itself.
    #[must_use]
    pub fn source_file(&self) -> &str {
        self.document_archive.as_deref().unwrap_or(&self.document_file)
    }

    /// Splits a `source-file` into the names of the unpacked file and of the archive.
    pub(crate) fn split_source(source: &str) -> (String, Option<String>) {
        let ending = ARCHIVE_ENDINGS.iter().find(|ending| source.ends_with(**ending) && !is_bare(source, ending));
        match ending {
            Some(ending) => (source[..source.len() - ending.len()].to_owned(), Some(source.to_owned())),
            None => (source.to_owned(), None),
        }
    }

    /// Reduces the set to a thousand documents, for test mode: the track provides a file of this size.
    pub(crate) fn reduce(&mut self, documents: u64) {
        if self.number_of_documents <= documents {
            return;
        }
        self.number_of_documents = documents;
        self.compressed_size_in_bytes = None;
        self.uncompressed_size_in_bytes = None;
        let (stem, ending) = split_ending(&self.document_file);
        let file = format!("{stem}-1k{ending}");
        if let Some(archive) = &mut self.document_archive {
            *archive = format!("{file}{}", &archive[self.document_file.len()..]);
        }
        self.document_file = file;
    }
}

/// Whether nothing but dots stands before the ending in the last component: `.gz` is a name, not an archive.
fn is_bare(source: &str, ending: &str) -> bool {
    let stem = &source[..source.len() - ending.len()];
    // The doubled endings are cut off blindly, as Rally does.
    !ending.starts_with(".tar.") && stem.rsplit('/').next().is_none_or(|name| name.chars().all(|c| c == '.'))
}

/// Splits a path before the last dot of its last component, leading dots not counted.
fn split_ending(path: &str) -> (&str, &str) {
    let name_start = path.rfind('/').map_or(0, |slash| slash + 1);
    match path[name_start..].rfind('.') {
        Some(dot) if path[name_start..name_start + dot].chars().any(|c| c != '.') => path.split_at(name_start + dot),
        _ => (path, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_are_told_by_their_ending() {
        for (source, file, is_archive) in [
            ("documents.json.bz2", "documents.json", true),
            ("documents.tar.gz", "documents", true),
            ("a/b.c/documents.json.zst", "a/b.c/documents.json", true),
            ("documents.json.lz4", "documents.json", true),
            ("documents.json", "documents.json", false),
            ("a.zip/documents", "a.zip/documents", false),
            (".gz", ".gz", false),
        ] {
            let expected = (file.to_owned(), is_archive.then(|| source.to_owned()));
            assert_eq!(Documents::split_source(source), expected, "{source}");
        }
    }

    #[test]
    fn a_path_is_split_as_python_splits_it() {
        for (path, stem, ending) in [
            ("a/b.json", "a/b", ".json"),
            ("a.b/c", "a.b/c", ""),
            (".hidden", ".hidden", ""),
            ("..x.y", "..x", ".y"),
            ("plain", "plain", ""),
        ] {
            assert_eq!(split_ending(path), (stem, ending));
        }
    }
}
