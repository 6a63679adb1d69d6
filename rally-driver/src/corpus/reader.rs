//! Cuts bulks from a file of documents: one copy from the block that was read into the body.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use memchr::{memchr, memchr_iter};

use super::{ActionLines, CorpusError, DocumentFile};

/// Bytes that are read at once: what stays in the cache of a core until it is copied.
const BLOCK: usize = 256 << 10;

/// Line feeds of so many bytes are counted at once, which is faster than finding each of them.
const COUNTED: usize = 4 << 10;

/// The largest body of a bulk request, in bytes; a file without line feeds is none of documents.
const LARGEST_BODY: usize = 1 << 30;

/// The documents of a file that one client reads.
#[derive(Clone, Debug)]
pub(crate) struct Slice {
    pub(crate) file: Arc<DocumentFile>,
    /// The first document, counted from 0.
    pub(crate) first: u64,
    /// How many documents.
    pub(crate) documents: u64,
    /// Lines of the file that are one document: two if an action line stands before each.
    pub(crate) lines_per_document: u64,
}

/// Reads one slice, bulk after bulk.
#[derive(Debug)]
pub(crate) struct BulkReader {
    actions: ActionLines,
    lines: Lines,
    /// Two, because a body is still in use while the next one is made.
    bodies: [BytesMut; 2],
    largest_body: usize,
    /// Documents that are left.
    rest: u64,
}

impl BulkReader {
    /// Opens the file at the first document of the slice.
    pub(crate) fn open(slice: Slice, actions: ActionLines) -> Result<Self, CorpusError> {
        let rest = slice.documents;
        let lines = Lines::open(slice)?;
        Ok(Self { actions, lines, bodies: Default::default(), largest_body: 0, rest })
    }

    /// The next bulk of at most so many documents, and how many they are; none at the end of the slice.
    ///
    /// The memory of a body is used again for the next but one, if it has been dropped by then.
    pub(crate) fn next_bulk(&mut self, documents: u64) -> Result<Option<(Bytes, u64)>, CorpusError> {
        let documents = documents.min(self.rest);
        if documents == 0 {
            return Ok(None);
        }
        self.bodies.swap(0, 1);
        let mut body = std::mem::take(&mut self.bodies[0]);
        body.reserve(self.largest_body);
        match &mut self.actions {
            ActionLines::InFile => {
                self.lines.copy(documents * self.lines.slice.lines_per_document, &mut body)?;
            }
            ActionLines::Same(line) => {
                for _ in 0..documents {
                    body.extend_from_slice(line.as_bytes());
                    self.lines.copy_one(&mut body)?;
                }
            }
            ActionLines::WithId(actions) => {
                for _ in 0..documents {
                    let updates = actions.add_to(&mut body);
                    if updates {
                        body.extend_from_slice(b"{\"doc\":");
                    }
                    self.lines.copy_one(&mut body)?;
                    if updates {
                        let line = body.trim_ascii_end().len();
                        body.truncate(line);
                        body.extend_from_slice(b"}\n");
                    }
                }
            }
        }
        self.rest -= documents;
        self.largest_body = self.largest_body.max(body.len());
        let bulk = body.split().freeze();
        self.bodies[0] = body;
        Ok(Some((bulk, documents)))
    }
}

/// Reads the lines of a slice.
#[derive(Debug)]
struct Lines {
    slice: Slice,
    input: File,
    /// What was read; `block[position..end]` is not used yet.
    block: Box<[u8]>,
    position: usize,
    end: usize,
    /// Lines of the file that lie behind.
    line: u64,
}

impl Lines {
    fn open(slice: Slice) -> Result<Self, CorpusError> {
        let DocumentFile { path, begins_at, table, .. } = &*slice.file;
        let failed = |source| CorpusError::Read { path: path.clone(), source };
        let first = slice.first * slice.lines_per_document;
        let known = table.before(first);
        let Some(byte) = known.byte.checked_sub(*begins_at) else {
            return Err(failed(io::Error::other("it is only a part of the file, and begins behind what is wanted")));
        };
        let mut input = File::open(path).map_err(failed)?;
        input.seek(SeekFrom::Start(byte)).map_err(failed)?;
        announce_reading(&input, byte);
        let block = vec![0; BLOCK].into();
        let mut lines = Self { slice, input, block, position: 0, end: 0, line: known.line };
        lines.take(first - known.line, |_| Ok(()))?;
        Ok(lines)
    }

    /// Adds so many lines to a body, each with its line feed even if the last one of the file lacks it.
    fn copy(&mut self, lines: u64, body: &mut BytesMut) -> Result<(), CorpusError> {
        self.take(lines, |part| {
            body.extend_from_slice(part);
            if body.len() > LARGEST_BODY {
                return Err(io::Error::other("a bulk has more than 1 GiB; make `bulk-size` smaller"));
            }
            Ok(())
        })
    }

    /// The same for one line, which most of the time lies in the block as a whole.
    fn copy_one(&mut self, body: &mut BytesMut) -> Result<(), CorpusError> {
        let available = &self.block[self.position..self.end];
        match memchr(b'\n', available) {
            Some(end) if body.len() <= LARGEST_BODY => {
                body.extend_from_slice(&available[..=end]);
                self.position += end + 1;
                self.line += 1;
                Ok(())
            }
            _ => self.copy(1, body),
        }
    }

    /// Takes so many lines, in parts as large as possible.
    fn take(&mut self, lines: u64, mut part: impl FnMut(&[u8]) -> io::Result<()>) -> Result<(), CorpusError> {
        let mut rest = lines;
        let mut is_open = false;
        while rest > 0 {
            let available = &self.block[self.position..self.end];
            let (taken, found) = first_lines(available, rest);
            let block = &available[..taken];
            part(block).map_err(|source| self.failed(source))?;
            is_open = block.last().map_or(is_open, |last| *last != b'\n');
            rest -= found;
            self.line += found;
            self.position += taken;
            if rest > 0 && !self.refill()? {
                if !is_open || rest > 1 {
                    return Err(self.too_short(is_open));
                }
                part(b"\n").map_err(|source| self.failed(source))?;
                self.line += 1;
                return Ok(());
            }
        }
        Ok(())
    }

    /// Reads the next block; false at the end of the file.
    fn refill(&mut self) -> Result<bool, CorpusError> {
        self.position = 0;
        self.end = match self.input.read(&mut self.block) {
            Ok(length) => length,
            Err(source) => return Err(self.failed(source)),
        };
        Ok(self.end > 0)
    }

    fn failed(&self, source: io::Error) -> CorpusError {
        CorpusError::Read { path: self.slice.file.path.clone(), source }
    }

    fn too_short(&self, is_open: bool) -> CorpusError {
        let Slice { file, first, documents, lines_per_document } = &self.slice;
        CorpusError::Lines {
            path: Path::to_owned(&file.path),
            found: self.line + u64::from(is_open),
            expected: (first + documents) * lines_per_document,
        }
    }
}

/// How many bytes the first lines take, or all that there is, and how many line feeds they have.
fn first_lines(text: &[u8], lines: u64) -> (usize, u64) {
    let (mut taken, mut found) = (0, 0);
    for piece in text.chunks(COUNTED) {
        let here = memchr_iter(b'\n', piece).count() as u64;
        if found + here >= lines {
            let last = memchr_iter(b'\n', piece).nth((lines - found - 1) as usize);
            return (taken + last.map_or(piece.len(), |last| last + 1), lines);
        }
        taken += piece.len();
        found += here;
    }
    (taken, found)
}

/// Tells the kernel that a file is read from here to its end. It is only advice: a file system, or a platform, that does
/// not take it reads all the same.
fn announce_reading(file: &File, from: u64) {
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    let _ = rustix::fs::fadvise(file, from, None, rustix::fs::Advice::Sequential);
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    let _ = (file, from);
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;
    use crate::corpus::ids::{Conflicts, IdOrder, Ids};

    fn slice(path: &Path, first: u64, documents: u64, lines_per_document: u64) -> Slice {
        let file = Arc::new(DocumentFile { path: path.to_owned(), begins_at: 0, length: 0, table: Default::default() });
        Slice { file, first, documents, lines_per_document }
    }

    #[test]
    fn action_lines_are_added_or_taken_from_the_file() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("documents.json");
        fs::write(&file, "{\"a\":1}\n{\"a\":2}\n{\"a\":3}\n{\"a\":4}").unwrap();
        let mut reader = BulkReader::open(slice(&file, 1, 3, 1), ActionLines::same("index", "i")).unwrap();
        let (body, documents) = reader.next_bulk(2).unwrap().unwrap();
        let expected = "{\"index\": {\"_index\": \"i\"}}\n{\"a\":2}\n{\"index\": {\"_index\": \"i\"}}\n{\"a\":3}\n";
        assert_eq!((&body[..], documents), (expected.as_bytes(), 2));
        assert_eq!(reader.next_bulk(2).unwrap().unwrap().0, "{\"index\": {\"_index\": \"i\"}}\n{\"a\":4}\n");
        assert_eq!(reader.next_bulk(2).unwrap(), None);
        let mut reader = BulkReader::open(slice(&file, 1, 1, 2), ActionLines::InFile).unwrap();
        assert_eq!(reader.next_bulk(5).unwrap().unwrap(), (Bytes::from_static(b"{\"a\":3}\n{\"a\":4}\n"), 1));
    }

    #[test]
    fn documents_with_a_used_id_are_wrapped_for_an_update() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("documents.json");
        fs::write(&file, "{\"a\":1}\n{\"a\":2}\r\n").unwrap();
        let conflicts = Conflicts { order: IdOrder::Sequential, probability: 1.0, recency: 0.0 };
        let actions = ActionLines::with_id("i", Ids::new(conflicts, 41, 2, 0), true);
        let mut reader = BulkReader::open(slice(&file, 0, 2, 1), actions).unwrap();
        let expected = "{\"index\": {\"_index\": \"i\", \"_id\": \"0000000041\"}}\n{\"a\":1}\n\
                        {\"update\": {\"_index\": \"i\", \"_id\": \"0000000041\"}}\n{\"doc\":{\"a\":2}}\n";
        assert_eq!(reader.next_bulk(2).unwrap().unwrap().0, expected);
    }

    #[test]
    fn a_file_that_is_too_short_is_named_with_both_counts() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("documents.json");
        fs::write(&file, "1\n2\n").unwrap();
        let mut reader = BulkReader::open(slice(&file, 0, 3, 1), ActionLines::InFile).unwrap();
        let error = reader.next_bulk(10).unwrap_err().to_string();
        let expected = "has 2 lines, but the track says 3; correct `document-count` or replace the file";
        assert!(error.ends_with(expected), "{error}");
    }

    #[test]
    fn bodies_use_their_memory_again() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("documents.json");
        fs::write(&file, "0123456\n".repeat(20_000)).unwrap();
        let mut reader = BulkReader::open(slice(&file, 0, 20_000, 1), ActionLines::InFile).unwrap();
        let mut places = std::collections::BTreeSet::new();
        let mut held = None;
        while let Some((body, _)) = reader.next_bulk(100).unwrap() {
            places.insert(body.as_ptr());
            held = Some(body);
        }
        drop(held);
        assert!(places.len() < 20, "200 bodies were at {} places", places.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn lines_of_any_length_come_out_as_they_are(
            lengths in prop::collection::vec(0_usize..300_000, 1..24), bulk in 1_u64..5, is_open: bool, one_by_one: bool,
        ) {
            let home = tempfile::tempdir().unwrap();
            let file = home.path().join("documents.json");
            let text: String = lengths.iter().enumerate().map(|(i, length)| format!("{i}{}\n", "x".repeat(*length))).collect();
            fs::write(&file, if is_open { &text[..text.len() - 1] } else { &text }).unwrap();
            let actions = if one_by_one { ActionLines::Same(String::new()) } else { ActionLines::InFile };
            let mut reader = BulkReader::open(slice(&file, 0, lengths.len() as u64, 1), actions).unwrap();
            let mut out = Vec::new();
            while let Some((body, _)) = reader.next_bulk(bulk).unwrap() {
                out.extend_from_slice(&body);
            }
            prop_assert_eq!(out, text.into_bytes());
        }
    }
}
