//! Files with a JSON document in each line: what telemetry devices found, and the log.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;

use serde::de::DeserializeOwned;

use super::ArchiveError;
use super::store::failed;

/// The documents of a file; one that is not there has none. Lines that are not whole are left out, such as a torn last one.
pub(super) fn read_lines<T: DeserializeOwned>(
    path: PathBuf,
) -> Result<impl Iterator<Item = Result<T, ArchiveError>>, ArchiveError> {
    let file = match File::open(&path) {
        Ok(file) => Some(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(source) => return Err(failed("read", &path)(source)),
    };
    let lines = file.into_iter().flat_map(|file| BufReader::new(file).split(b'\n'));
    Ok(lines.filter_map(move |line| match line {
        Ok(line) => serde_json::from_slice(&line).ok().map(Ok),
        Err(source) => Some(Err(failed("read", &path)(source))),
    }))
}

/// A file to whose end lines are written.
pub(super) struct Lines {
    pub(super) file: File,
    pub(super) path: PathBuf,
}

impl Lines {
    pub(super) fn open(path: PathBuf) -> Result<Self, ArchiveError> {
        match OpenOptions::new().create(true).append(true).open(&path) {
            Ok(file) => Ok(Self { file, path }),
            Err(source) => Err(failed("open", &path)(source)),
        }
    }

    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let end = self.file.metadata()?.len();
        self.file.write_all(lines).inspect_err(|_| {
            // Half a line would spoil the next one.
            let _ = self.file.set_len(end);
        })
    }
}
