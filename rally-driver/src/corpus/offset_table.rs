//! Offset tables: where every 50,000th line of a file begins, in a text file beside it.
//!
//! The format is Rally's: `<data file>.offset` with a line `line;byte` for each entry.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use memchr::memchr_iter;

/// Lines between two entries.
const STEP: u64 = 50_000;

/// Bytes that are read at once.
const BLOCK: usize = 1 << 20;

/// Where a line begins that stands at or before the wanted one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) line: u64,
    pub(super) byte: u64,
}

/// The last known position at or before a line. The table is made if it is not there or older than the file.
pub(super) fn position_before(file: &Path, line: u64) -> io::Result<Position> {
    if line < STEP {
        return Ok(Position { line: 0, byte: 0 });
    }
    let path = table_path(file);
    let entries = match read(file, &path) {
        Some(entries) => entries,
        None => build(file, &path)?,
    };
    let before = entries.partition_point(|entry| entry.line <= line);
    Ok(before.checked_sub(1).map_or(Position { line: 0, byte: 0 }, |index| entries[index]))
}

fn table_path(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".offset");
    name.into()
}

/// The entries of a table that is not older than its file and makes sense.
fn read(file: &Path, table: &Path) -> Option<Vec<Position>> {
    let modified = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    if modified(table)? < modified(file)? {
        return None;
    }
    let text = fs::read_to_string(table).ok()?;
    let entry = |text: &str| {
        let (line, byte) = text.split_once(';')?;
        Some(Position { line: line.parse().ok()?, byte: byte.parse().ok()? })
    };
    let entries: Vec<Position> = text.lines().map(entry).collect::<Option<_>>()?;
    let grows = entries.windows(2).all(|pair| pair[0].line < pair[1].line && pair[0].byte < pair[1].byte);
    (!entries.is_empty() && grows).then_some(entries)
}

fn build(file: &Path, table: &Path) -> io::Result<Vec<Position>> {
    let mut input = File::open(file)?;
    let mut block = vec![0; BLOCK];
    let (mut line, mut start, mut entries) = (0_u64, 0_u64, Vec::new());
    loop {
        let length = input.read(&mut block)?;
        if length == 0 {
            break;
        }
        for end in memchr_iter(b'\n', &block[..length]) {
            line += 1;
            if line.is_multiple_of(STEP) {
                entries.push(Position { line, byte: start + end as u64 + 1 });
            }
        }
        start += length as u64;
    }
    // Several clients may make it at once; each writes a file of its own and moves it into place.
    let directory = file.parent().unwrap_or_else(|| Path::new("."));
    let mut out = tempfile::NamedTempFile::new_in(directory)?;
    let text: String = entries.iter().map(|entry| format!("{};{}\n", entry.line, entry.byte)).collect();
    out.write_all(text.as_bytes())?;
    out.persist(table).map_err(|error| error.error)?;
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_made_kept_and_made_anew_when_it_makes_no_sense() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("documents.json");
        fs::write(&file, "0123456\n".repeat(120_000)).unwrap();
        assert_eq!(position_before(&file, 49_999).unwrap(), Position { line: 0, byte: 0 });
        assert_eq!(position_before(&file, 50_000).unwrap(), Position { line: 50_000, byte: 400_000 });
        assert_eq!(position_before(&file, 119_000).unwrap(), Position { line: 100_000, byte: 800_000 });
        let table = home.path().join("documents.json.offset");
        assert_eq!(fs::read_to_string(&table).unwrap(), "50000;400000\n100000;800000\n");
        for broken in ["", "50000\n", "5;9\n4;10\n"] {
            fs::write(&table, broken).unwrap();
            assert_eq!(position_before(&file, 60_000).unwrap().byte, 400_000, "{broken}");
        }
    }
}
