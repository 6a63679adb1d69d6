//! Offset tables: where every 50,000th line of a file begins, in a text file beside it.
//!
//! The format is Rally's: `<data file>.offset` with a line `line;byte` for each entry.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use memchr::memchr_iter;

/// Lines between two entries.
const STEP: u64 = 50_000;

/// Bytes that are read at once: what stays in the cache of a core.
const BLOCK: usize = 256 << 10;

/// Where a line begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) line: u64,
    pub(crate) byte: u64,
}

/// Where some lines of a file begin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OffsetTable {
    entries: Vec<Position>,
}

impl OffsetTable {
    /// A table of lines and bytes; none unless both grow and stay below the length of the file.
    pub(crate) fn new(entries: impl IntoIterator<Item = (u64, u64)>, length: u64) -> Option<Self> {
        let entries: Vec<_> = entries.into_iter().map(|(line, byte)| Position { line, byte }).collect();
        let grows = entries.windows(2).all(|pair| pair[0].line < pair[1].line && pair[0].byte < pair[1].byte);
        (grows && entries.last().is_none_or(|last| last.byte <= length)).then_some(Self { entries })
    }

    /// Lines and the bytes that they begin at.
    pub(crate) fn offsets(&self) -> Vec<(u64, u64)> {
        self.entries.iter().map(|entry| (entry.line, entry.byte)).collect()
    }

    /// The last known position at or before a line.
    pub(crate) fn before(&self, line: u64) -> Position {
        let before = self.entries.partition_point(|entry| entry.line <= line);
        before.checked_sub(1).map_or_else(Position::default, |index| self.entries[index])
    }

    /// The first known position at or behind a line; none if only the end of the file is.
    pub(crate) fn behind(&self, line: u64) -> Option<Position> {
        self.entries.get(self.entries.partition_point(|entry| entry.line < line)).copied()
    }

    /// The table beside a file, if it is not older than the file, makes sense, and has an entry.
    pub(crate) fn read(file: &Path) -> Option<Self> {
        let table = table_path(file);
        let modified = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        if modified(&table)? < modified(file)? {
            return None;
        }
        let text = fs::read_to_string(table).ok()?;
        let entry = |text: &str| {
            let (line, byte) = text.split_once(';')?;
            Some((line.parse().ok()?, byte.parse().ok()?))
        };
        let entries: Vec<_> = text.lines().map(entry).collect::<Option<_>>()?;
        Self::new(entries, fs::metadata(file).ok()?.len()).filter(|table| !table.entries.is_empty())
    }

    /// Writes the table beside its file, whole or not at all.
    pub(crate) fn write(&self, file: &Path) -> io::Result<()> {
        let directory = file.parent().unwrap_or_else(|| Path::new("."));
        let mut out = tempfile::NamedTempFile::new_in(directory)?;
        let text: String = self.entries.iter().map(|entry| format!("{};{}\n", entry.line, entry.byte)).collect();
        out.write_all(text.as_bytes())?;
        out.persist(table_path(file)).map_err(|error| error.error)?;
        Ok(())
    }
}

fn table_path(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".offset");
    name.into()
}

/// Makes a table of the bytes of a file as they pass by.
#[derive(Debug, Default)]
pub(crate) struct LineCounter {
    at: Position,
    entries: Vec<Position>,
    /// Bytes stand behind the last line feed.
    is_open: bool,
}

impl LineCounter {
    /// Counts the next bytes of the file.
    pub(crate) fn count(&mut self, block: &[u8]) {
        let Some(last) = block.last() else { return };
        self.is_open = *last != b'\n';
        let mut rest = block;
        loop {
            // Lines are only counted, which is faster than to find each, unless an entry lies within.
            let (lines, wanted) = (memchr_iter(b'\n', rest).count() as u64, STEP - self.at.line % STEP);
            if lines < wanted {
                self.at.line += lines;
                self.at.byte += rest.len() as u64;
                return;
            }
            let Some(end) = memchr_iter(b'\n', rest).nth(wanted as usize - 1) else { return };
            self.at.line += wanted;
            self.at.byte += end as u64 + 1;
            self.entries.push(self.at);
            rest = &rest[end + 1..];
        }
    }

    /// Counts the bytes of a whole file, until it is told to stop by `false`.
    pub(crate) fn count_file(&mut self, mut file: File, goes_on: impl Fn() -> bool) -> io::Result<()> {
        let mut block = vec![0; BLOCK];
        while goes_on() {
            match file.read(&mut block)? {
                0 => return Ok(()),
                length => self.count(&block[..length]),
            }
        }
        Err(io::ErrorKind::Interrupted.into())
    }

    /// The number of lines, of which the last may lack its line feed, and the table.
    pub(crate) fn finish(self) -> (u64, OffsetTable) {
        (self.at.line + u64::from(self.is_open), OffsetTable { entries: self.entries })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_table_is_kept_beside_its_file_and_not_believed_when_it_makes_no_sense() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("documents.json");
        fs::write(&file, "0123456\n".repeat(120_000)).unwrap();
        let mut counter = LineCounter::default();
        counter.count_file(File::open(&file).unwrap(), || true).unwrap();
        let (lines, table) = counter.finish();
        assert_eq!(lines, 120_000);
        assert_eq!(table.before(49_999), Position { line: 0, byte: 0 });
        assert_eq!(table.before(50_000), Position { line: 50_000, byte: 400_000 });
        assert_eq!(table.before(119_000), Position { line: 100_000, byte: 800_000 });
        assert_eq!(table.behind(50_001), Some(Position { line: 100_000, byte: 800_000 }));
        assert_eq!(table.behind(100_001), None);
        assert_eq!(OffsetTable::read(&file), None);
        table.write(&file).unwrap();
        let written = home.path().join("documents.json.offset");
        assert_eq!(fs::read_to_string(&written).unwrap(), "50000;400000\n100000;800000\n");
        assert_eq!(OffsetTable::read(&file), Some(table));
        for broken in ["", "50000\n", "5;9\n4;10\n", "50000;99999999\n"] {
            fs::write(&written, broken).unwrap();
            assert_eq!(OffsetTable::read(&file), None, "{broken}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]

        #[test]
        fn the_table_does_not_depend_on_the_blocks(
            cuts in prop::collection::vec(1_usize..400_000, 0..6), is_open: bool, lines in 90_000_u64..160_000,
        ) {
            let mut text: Vec<u8> = (0..lines).flat_map(|line| format!("{line}\n").into_bytes()).collect();
            text.truncate(text.len() - usize::from(is_open));
            let mut counter = LineCounter::default();
            let mut rest = &text[..];
            for cut in cuts {
                let (block, behind) = rest.split_at(cut.min(rest.len()));
                counter.count(block);
                rest = behind;
            }
            counter.count(rest);
            let (counted, table) = counter.finish();
            prop_assert_eq!(counted, lines);
            for (line, byte) in table.offsets() {
                prop_assert!(text[byte as usize..].starts_with(line.to_string().as_bytes()) || line == lines);
            }
            prop_assert_eq!(table.offsets().len() as u64, if is_open { lines - 1 } else { lines } / STEP);
        }
    }
}
