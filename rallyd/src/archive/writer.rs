//! Writes what a race measures on a thread of its own, so that a slow disk does not hold up the race.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rally_core::RaceId;
use tokio::sync::oneshot;
use tracing::warn;

use super::lines::Lines;
use super::{Archive, ArchiveError, IntervalLog};
use crate::causes::causes;

/// Entries that may wait for the disk.
const WAITING: usize = 4096;

/// Bytes that may wait for the disk.
const WAITING_BYTES: usize = 64 << 20;

/// How long the end of a race waits for the disk.
const PATIENCE: Duration = Duration::from_secs(10);

/// One thing to be written.
pub(super) enum Entry {
    /// A record of the interval log.
    Interval(Vec<u8>),
    /// Lines of telemetry.
    Telemetry(Vec<u8>),
    /// A line of the log.
    Event(Vec<u8>),
    /// All before it shall be on the disk.
    Sync(oneshot::Sender<()>),
}

impl Entry {
    fn length(&self) -> usize {
        match self {
            Self::Interval(bytes) | Self::Telemetry(bytes) | Self::Event(bytes) => bytes.len(),
            Self::Sync(_) => 0,
        }
    }
}

/// Why the archive is not complete: each kind of trouble once, as a sentence.
#[derive(Clone, Debug, Default)]
pub(super) struct Trouble(Arc<Mutex<Vec<String>>>);

impl Trouble {
    pub(super) fn notice(&self, sentence: String) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.contains(&sentence) {
            warn!(trouble = %sentence, "the archive is not complete");
            known.push(sentence);
        }
    }

    pub(super) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Hands over what is to be written.
#[derive(Debug)]
pub(super) struct Writer {
    entries: SyncSender<Entry>,
    waiting: Arc<AtomicUsize>,
    trouble: Trouble,
}

impl Writer {
    /// Opens the files of a race and starts the thread, which ends when this is dropped and all is written.
    pub(super) fn start(archive: &Archive, race: &RaceId, trouble: Trouble) -> Result<Self, ArchiveError> {
        let files = Files {
            intervals: archive.interval_log(race)?,
            intervals_path: archive.intervals_path(race),
            telemetry: Lines::open(archive.telemetry_path(race))?,
            events: Lines::open(archive.events_path(race))?,
            trouble: trouble.clone(),
        };
        let (entries, receiver) = sync_channel(WAITING);
        let waiting = Arc::<AtomicUsize>::default();
        let (left, path) = (Arc::clone(&waiting), archive.directory(race));
        std::thread::Builder::new()
            .name("archive".to_owned())
            .spawn(move || files.write(&receiver, &left))
            .map_err(|source| ArchiveError::File { action: "start a thread that writes to", path, source })?;
        Ok(Self { entries, waiting, trouble })
    }

    /// Hands an entry over. It never waits: what a disk is too slow for is left out, and noticed.
    pub(super) fn write(&self, entry: Entry) {
        let length = entry.length();
        let is_full = self.waiting.fetch_add(length, Ordering::Relaxed) > WAITING_BYTES;
        let sent = if is_full { Err(TrySendError::Full(entry)) } else { self.entries.try_send(entry) };
        if sent.is_err() {
            self.waiting.fetch_sub(length, Ordering::Relaxed);
            self.trouble
                .notice("the disk of the archive is too slow; some of what was measured is not there".to_owned());
        }
    }

    /// Waits until all is on the disk, but not for ever.
    pub(super) async fn sync(&self) {
        let (reply, done) = oneshot::channel();
        self.write(Entry::Sync(reply));
        if tokio::time::timeout(PATIENCE, done).await.is_err() {
            self.trouble.notice(format!("the disk of the archive was not ready within {PATIENCE:?}"));
        }
    }
}

/// What lives on the thread.
struct Files {
    intervals: IntervalLog,
    intervals_path: PathBuf,
    telemetry: Lines,
    events: Lines,
    trouble: Trouble,
}

impl Files {
    fn write(mut self, entries: &Receiver<Entry>, waiting: &AtomicUsize) {
        while let Ok(entry) = entries.recv() {
            waiting.fetch_sub(entry.length(), Ordering::Relaxed);
            let (result, path) = match entry {
                Entry::Interval(record) => (self.intervals.write(&record), &*self.intervals_path),
                Entry::Telemetry(lines) => (self.telemetry.append(&lines), &*self.telemetry.path),
                Entry::Event(line) => (self.events.append(&line), &*self.events.path),
                Entry::Sync(reply) => {
                    self.sync();
                    // Whoever asked may have lost patience.
                    let _ = reply.send(());
                    continue;
                }
            };
            if let Err(error) = result {
                self.failed(path, &error);
            }
        }
    }

    fn sync(&self) {
        for (result, path) in [
            (self.intervals.sync(), &*self.intervals_path),
            (self.telemetry.file.sync_all(), &*self.telemetry.path),
            (self.events.file.sync_all(), &*self.events.path),
        ] {
            if let Err(error) = result {
                self.failed(path, &error);
            }
        }
    }

    fn failed(&self, path: &Path, error: &io::Error) {
        self.trouble.notice(format!("{} is not complete: {}", path.display(), causes(error).join(": ")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_disk_is_noticed_once_and_stops_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let archive = Archive::new(directory.path());
        let race: RaceId = "full".parse().unwrap();
        archive.made_directory(&race).unwrap();
        // The device that is always full stands in for the disk.
        std::os::unix::fs::symlink("/dev/full", archive.telemetry_path(&race)).unwrap();
        let trouble = Trouble::default();
        let writer = Writer::start(&archive, &race, trouble.clone()).unwrap();
        for _ in 0..3 {
            writer.write(Entry::Telemetry(b"{}\n".to_vec()));
            writer.write(Entry::Event(b"{}\n".to_vec()));
        }
        writer.sync().await;
        let found: Vec<_> = trouble
            .all()
            .into_iter()
            .filter(|text| text.contains("telemetry.jsonl is not complete: No space left"))
            .collect();
        assert_eq!(found.len(), 1, "{:?}", trouble.all());
        assert_eq!(std::fs::read_to_string(archive.events_path(&race)).unwrap(), "{}\n{}\n{}\n");
    }
}
