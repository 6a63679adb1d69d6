//! The intervals of a race in one file that is only ever appended to.
//!
//! Each record is its length, the first eight bytes of its BLAKE3 hash, and a [`RecordedInterval`] in postcard. Whatever was complete when a process died stays readable; a torn record at the end is left out.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use rally_core::ClusterTime;
use rally_core::metrics::Interval;
use serde::{Deserialize, Serialize};

/// The longest record, in bytes; a longer one is damage.
const MAX_RECORD: usize = 64 * 1024 * 1024;

/// Bytes of length and checksum in front of each record.
const HEADER: usize = 12;

/// An interval with where it came from and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordedInterval {
    /// The driver's name.
    pub driver: String,
    /// When the driver told it, in coordinator time, which counts nanoseconds since the epoch: up to a second after the
    /// last request that it tells of returned.
    pub at: ClusterTime,
    /// What was measured.
    pub interval: Interval,
}

/// Appends intervals to the file of a race.
#[derive(Debug)]
pub struct IntervalLog {
    file: File,
}

impl IntervalLog {
    /// Opens the file, or makes it. A torn record at its end is cut off, so that it does not hide those that follow.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or opened for appending.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let complete = walk(path, |_| {})?;
        if complete < file.metadata()?.len() {
            file.set_len(complete)?;
        }
        Ok(Self { file })
    }

    /// Appends an interval of a driver.
    ///
    /// # Errors
    ///
    /// If it cannot be written, because the disk is full for example. Intervals before it stay readable.
    pub fn append(&mut self, driver: &str, at: ClusterTime, interval: &Interval) -> io::Result<()> {
        self.write(&encode(driver, at, interval)?)
    }

    /// Appends a record that [`encode`] made.
    pub(super) fn write(&mut self, record: &[u8]) -> io::Result<()> {
        let end = self.file.metadata()?.len();
        self.file.write_all(record).inspect_err(|_| {
            // Half a record would hide those after it. If this fails too, reading still ends in front of it.
            let _ = self.file.set_len(end);
        })
    }

    /// The file as it was opened, whatever has its name by now.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Waits until all is on the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}

/// One record, as it stands in the file.
pub(super) fn encode(driver: &str, at: ClusterTime, interval: &Interval) -> io::Result<Vec<u8>> {
    let body = postcard::to_stdvec(&(driver, at, interval)).map_err(io::Error::other)?;
    let length = u32::try_from(body.len())
        .ok()
        .filter(|&length| length as usize <= MAX_RECORD)
        .ok_or_else(|| io::Error::other(format!("an interval of {} bytes is too long", body.len())))?;
    let mut record = Vec::with_capacity(HEADER + body.len());
    record.extend(length.to_le_bytes());
    record.extend(checksum(&body));
    record.extend(body);
    Ok(record)
}

/// Hands every complete interval of a file to `each`; returns whether the file ends in damage. A race that never began to be
/// measured has no file, and so no interval.
///
/// # Errors
///
/// If the file is there but cannot be read.
pub fn read_intervals(path: &Path, each: impl FnMut(RecordedInterval)) -> io::Result<bool> {
    match walk(path, each) {
        Ok(complete) => Ok(complete < std::fs::metadata(path)?.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Hands over every complete interval, and returns the bytes up to the end of the last one.
fn walk(path: &Path, mut each: impl FnMut(RecordedInterval)) -> io::Result<u64> {
    let mut file = BufReader::new(File::open(path)?);
    let (mut header, mut body) = ([0; HEADER], Vec::new());
    let mut complete = 0;
    loop {
        match file.read_exact(&mut header) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(complete),
            read => read?,
        }
        let [a, b, c, d, sum @ ..] = header;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        if length > MAX_RECORD {
            return Ok(complete);
        }
        body.clear();
        file.by_ref().take(length as u64).read_to_end(&mut body)?;
        if body.len() < length || checksum(&body) != sum {
            return Ok(complete);
        }
        let Ok(recorded) = postcard::from_bytes(&body) else { return Ok(complete) };
        complete += (HEADER + length) as u64;
        each(recorded);
    }
}

fn checksum(body: &[u8]) -> [u8; 8] {
    let mut sum = [0; 8];
    sum.copy_from_slice(&blake3::hash(body).as_bytes()[..8]);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(path: &Path) -> (Vec<u64>, bool) {
        let mut numbers = Vec::new();
        let damaged = read_intervals(path, |recorded| {
            assert_eq!((recorded.driver.as_str(), recorded.at.as_nanos()), ("a", recorded.interval.number));
            numbers.push(recorded.interval.number);
        });
        (numbers, damaged.unwrap())
    }

    #[test]
    fn a_file_that_is_not_there_has_no_interval() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(numbers(&directory.path().join("intervals")), (Vec::new(), false));
        assert!(read_intervals(directory.path(), |_| {}).is_err(), "a directory is no file of intervals");
    }

    #[test]
    fn a_file_cut_or_changed_anywhere_gives_what_was_complete_before() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("intervals");
        let mut ends = vec![0];
        for number in 1..=3 {
            let interval = Interval { number, ..Interval::default() };
            IntervalLog::open(&path).unwrap().append("a", ClusterTime::from_nanos(number), &interval).unwrap();
            ends.push(std::fs::metadata(&path).unwrap().len() as usize);
        }
        let whole = std::fs::read(&path).unwrap();
        assert_eq!(numbers(&path), (vec![1, 2, 3], false));
        for cut in 0..whole.len() {
            let complete = ends.iter().filter(|&&end| end <= cut).count() - 1;
            let expected: Vec<u64> = (1..=complete as u64).collect();
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert_eq!(numbers(&path), (expected.clone(), !ends.contains(&cut)), "cut at {cut}");
            let next = Interval { number: 9, ..Interval::default() };
            IntervalLog::open(&path).unwrap().append("a", ClusterTime::from_nanos(9), &next).unwrap();
            let continued: Vec<u64> = expected.iter().copied().chain([9]).collect();
            assert_eq!(numbers(&path), (continued, false), "cut at {cut} and gone on with");
            let mut changed = whole.clone();
            changed[cut] ^= 0x55;
            std::fs::write(&path, changed).unwrap();
            assert_eq!(numbers(&path), (expected, true), "changed at {cut}");
        }
    }
}
