//! Cuts bulks from a file of documents: one copy from the block that was read into the body.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use memchr::memchr;

use super::{CorpusError, offset_table};

/// Bytes that are read at once.
const BLOCK: usize = 1 << 20;

/// A document that has no end within so many bytes is none.
const LONGEST_LINE: usize = 1 << 30;

/// The lines of a file that one client reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) path: PathBuf,
    /// The first document, counted from 0.
    pub(crate) first: u64,
    /// How many documents.
    pub(crate) documents: u64,
    /// Lines of the file that are one document: two if an action line stands before each.
    pub(crate) lines_per_document: u64,
}

/// What stands before each document in the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ActionLine {
    /// The file has them.
    InFile,
    /// Always this one, with its line feed.
    Same(String),
}

/// Reads one slice, bulk after bulk.
#[derive(Debug)]
pub(crate) struct BulkReader {
    slice: Slice,
    action: ActionLine,
    input: File,
    /// What was read; `block[position..end]` is not used yet.
    block: Vec<u8>,
    position: usize,
    end: usize,
    /// Documents that are left.
    rest: u64,
}

impl BulkReader {
    /// Opens the file at the first document of the slice.
    pub(crate) fn open(slice: Slice, action: ActionLine) -> Result<Self, CorpusError> {
        let failed = |source| CorpusError::Read { path: slice.path.clone(), source };
        let line = slice.first * slice.lines_per_document;
        let known = offset_table::position_before(&slice.path, line).map_err(failed)?;
        let mut input = File::open(&slice.path).map_err(failed)?;
        input.seek(SeekFrom::Start(known.byte)).map_err(failed)?;
        let rest = slice.documents;
        let mut reader = Self { slice, action, input, block: vec![0; BLOCK], position: 0, end: 0, rest };
        for _ in known.line..line {
            reader.next_line()?;
        }
        Ok(reader)
    }

    /// The next bulk of at most so many documents, and how many they are; none at the end of the slice.
    pub(crate) fn next_bulk(&mut self, documents: u64) -> Result<Option<(Bytes, u64)>, CorpusError> {
        let documents = documents.min(self.rest);
        if documents == 0 {
            return Ok(None);
        }
        let mut body = BytesMut::new();
        for _ in 0..documents {
            if let ActionLine::Same(line) = &self.action {
                body.extend_from_slice(line.as_bytes());
            }
            for _ in 0..self.slice.lines_per_document {
                let line = self.next_line()?;
                body.extend_from_slice(&self.block[line]);
            }
        }
        // The last line of a file may lack its line feed, but no bulk request may.
        if !body.ends_with(b"\n") {
            body.extend_from_slice(b"\n");
        }
        self.rest -= documents;
        Ok(Some((body.freeze(), documents)))
    }

    /// Where the next line is in the block, its line feed included.
    fn next_line(&mut self) -> Result<std::ops::Range<usize>, CorpusError> {
        let mut searched = self.position;
        loop {
            if let Some(found) = memchr(b'\n', &self.block[searched..self.end]) {
                let line = self.position..searched + found + 1;
                self.position = line.end;
                return Ok(line);
            }
            searched = self.end - self.position;
            if !self.refill()? {
                if searched == 0 {
                    return Err(self.too_short());
                }
                let line = self.position..self.end;
                self.position = self.end;
                return Ok(line);
            }
        }
    }

    /// Reads more behind what is left of the block; false at the end of the file.
    fn refill(&mut self) -> Result<bool, CorpusError> {
        let failed = |source| CorpusError::Read { path: self.slice.path.clone(), source };
        self.block.copy_within(self.position..self.end, 0);
        self.end -= self.position;
        self.position = 0;
        if self.end == self.block.len() {
            if self.end >= LONGEST_LINE {
                return Err(failed(std::io::Error::other("a line has more than 1 GiB")));
            }
            self.block.resize(self.end * 2, 0);
        }
        let length = self.input.read(&mut self.block[self.end..]).map_err(failed)?;
        self.end += length;
        Ok(length > 0)
    }

    fn too_short(&self) -> CorpusError {
        let Slice { path, first, documents, lines_per_document } = &self.slice;
        let read = first + (documents - self.rest);
        CorpusError::Lines {
            path: Path::to_owned(path),
            found: read * lines_per_document,
            expected: (first + documents) * lines_per_document,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn slice(path: &Path, first: u64, documents: u64, lines_per_document: u64) -> Slice {
        Slice { path: path.to_owned(), first, documents, lines_per_document }
    }

    #[test]
    fn action_lines_are_added_or_taken_from_the_file() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("documents.json");
        fs::write(&file, "{\"a\":1}\n{\"a\":2}\n{\"a\":3}\n{\"a\":4}").unwrap();
        let action = ActionLine::Same("{\"index\":{}}\n".to_owned());
        let mut reader = BulkReader::open(slice(&file, 1, 3, 1), action).unwrap();
        let (body, documents) = reader.next_bulk(2).unwrap().unwrap();
        assert_eq!((&body[..], documents), (&b"{\"index\":{}}\n{\"a\":2}\n{\"index\":{}}\n{\"a\":3}\n"[..], 2));
        assert_eq!(reader.next_bulk(2).unwrap().unwrap().0, "{\"index\":{}}\n{\"a\":4}\n");
        assert_eq!(reader.next_bulk(2).unwrap(), None);
        let mut reader = BulkReader::open(slice(&file, 1, 1, 2), ActionLine::InFile).unwrap();
        assert_eq!(reader.next_bulk(5).unwrap().unwrap(), (Bytes::from_static(b"{\"a\":3}\n{\"a\":4}\n"), 1));
    }

    #[test]
    fn a_file_that_is_too_short_is_named_with_both_counts() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("documents.json");
        fs::write(&file, "1\n2\n").unwrap();
        let mut reader = BulkReader::open(slice(&file, 0, 3, 1), ActionLine::InFile).unwrap();
        let error = reader.next_bulk(10).unwrap_err().to_string();
        assert!(error.ends_with("the track says 3; correct `document-count` or replace the file"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn lines_of_any_length_come_out_as_they_are(lengths in prop::collection::vec(0_usize..300_000, 1..24), bulk in 1_u64..5) {
            let home = tempfile::tempdir().unwrap();
            let file = home.path().join("documents.json");
            let text: String = lengths.iter().enumerate().map(|(i, length)| format!("{i}{}\n", "x".repeat(*length))).collect();
            fs::write(&file, &text).unwrap();
            let mut reader = BulkReader::open(slice(&file, 0, lengths.len() as u64, 1), ActionLine::InFile).unwrap();
            let mut out = Vec::new();
            while let Some((body, _)) = reader.next_bulk(bulk).unwrap() {
                out.extend_from_slice(&body);
            }
            prop_assert_eq!(out, text.into_bytes());
        }
    }
}
