//! Unpacks archives of documents, and counts their lines on the way.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use tokio_util::sync::CancellationToken;

use super::CorpusError;
use super::archive::{Output, unpack};
use super::offset_table::{LineCounter, OffsetTable};
use super::place::Place;
use super::progress::Progress;

/// What becomes the unpacked file.
struct Unpacked {
    file: NamedTempFile,
    counter: LineCounter,
    length: u64,
    /// What the track says.
    expected: Option<u64>,
    progress: Progress,
    cancelled: CancellationToken,
}

impl Output for Unpacked {
    fn write(&mut self, block: &[u8]) -> io::Result<()> {
        if self.cancelled.is_cancelled() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        self.length += block.len() as u64;
        if self.expected.is_some_and(|expected| self.length > expected) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.counter.count(block);
        self.file.write_all(block)?;
        self.progress.at(self.length);
        Ok(())
    }

    fn restart(&mut self) -> io::Result<()> {
        (self.counter, self.length) = (LineCounter::default(), 0);
        let file = self.file.as_file_mut();
        file.set_len(0)?;
        io::Seek::rewind(file)
    }
}

/// Unpacks the archive of a document set beside it, whole or not at all. It blocks.
pub(super) fn unpack_documents(
    place: &Place,
    archive: &Path,
    threads: usize,
    progress: Progress,
    cancelled: CancellationToken,
) -> Result<(PathBuf, OffsetTable), CorpusError> {
    let target = place.file();
    let directory = target.parent().unwrap_or(&place.directory);
    let cannot_write = |source| CorpusError::Write { path: target.clone(), source };
    // Like any file that is created, within what the user's mask allows.
    let permissions = Permissions::from_mode(0o666);
    let file = tempfile::Builder::new().permissions(permissions).tempfile_in(directory).map_err(cannot_write)?;
    let (counter, expected) = (LineCounter::default(), place.size);
    let mut out = Unpacked { file, counter, length: 0, expected, progress, cancelled };
    if let Err(error) = unpack(archive, &place.name, threads, &mut out) {
        return Err(match error.kind() {
            io::ErrorKind::FileTooLarge => place
                .check(archive, out.length, expected)
                .err()
                .map_or_else(|| cannot_write(error), |_| broken(archive, "it has more bytes than the track says")),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => cannot_write(error),
            _ => broken(archive, &error.to_string()),
        });
    }
    if let Some(expected) = expected.filter(|expected| *expected != out.length) {
        return Err(broken(archive, &format!("it has {} bytes unpacked, but the track says {expected}", out.length)));
    }
    let (lines, table) = out.counter.finish();
    check_lines(place, archive, lines)?;
    out.file.persist(&target).map_err(|error| cannot_write(error.error))?;
    keep(&table, &target);
    Ok((target, table))
}

/// Counts the lines of a file, unless a table beside it says where they are. It blocks.
pub(super) fn count_lines(
    place: &Place,
    file: &Path,
    cancelled: &CancellationToken,
) -> Result<OffsetTable, CorpusError> {
    if let Some(table) = OffsetTable::read(file) {
        return Ok(table);
    }
    let cannot_read = |source| CorpusError::Read { path: file.to_owned(), source };
    let mut counter = LineCounter::default();
    let input = File::open(file).map_err(cannot_read)?;
    counter.count_file(input, || !cancelled.is_cancelled()).map_err(cannot_read)?;
    let (lines, table) = counter.finish();
    check_lines(place, file, lines)?;
    keep(&table, file);
    Ok(table)
}

/// Keeps a table for the next time. Where nothing can be written, it is made again.
fn keep(table: &OffsetTable, file: &Path) {
    if let Err(error) = table.write(file) {
        tracing::debug!(file = %file.display(), %error, "cannot keep an offset table");
    }
}

fn check_lines(place: &Place, path: &Path, found: u64) -> Result<(), CorpusError> {
    if found == place.lines {
        return Ok(());
    }
    Err(CorpusError::Lines { path: path.to_owned(), found, expected: place.lines })
}

fn broken(archive: &Path, problem: &str) -> CorpusError {
    CorpusError::Archive { path: archive.to_owned(), problem: problem.to_owned() }
}
