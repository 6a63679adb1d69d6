//! The directories of the archive and their documents.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use parquet::errors::ParquetError;
use rally_core::metrics::{ArchivedVerdict, RaceDocument};
use rally_core::track::{Challenge, JsonObject, Track};
use rally_core::{ClusterTime, RaceEventKind, RaceId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::IntervalLog;
use super::lines::read_lines;
use crate::instance::show_pid;

const RACE: &str = "race.json";
const INTERVALS: &str = "intervals";
const VERDICT: &str = "verdict.json";
const TRACK: &str = "track.json";
const HOSTS: &str = "hosts.json";
const TELEMETRY: &str = "telemetry.jsonl";
const EVENTS: &str = "events.jsonl";
const SAMPLES: &str = "samples";

/// The mode of directories that others must not look into.
const OWNER_ONLY: u32 = 0o700;

/// All races that were archived on this machine.
#[derive(Clone, Debug)]
pub struct Archive {
    directory: PathBuf,
    pub(super) downsample_factor: u64,
}

/// The archive cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// No race has this id.
    #[error("no race `{race}` is in {}", directory.display())]
    Unknown {
        /// The race that was asked for.
        race: RaceId,
        /// The archive.
        directory: PathBuf,
    },
    /// A file cannot be read or written.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A race still runs, or is still collected.
    #[error("race `{race}` still runs, or something of it is still to come ({}); end it first", show_pid(*pid))]
    InUse {
        /// The race.
        race: RaceId,
        /// The process that writes it.
        pid: Option<u32>,
    },
    /// A document is damaged, or of a version that is not known.
    #[error("{} is not the document of a race", path.display())]
    Document {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A file of raw samples is damaged.
    #[error("cannot read the samples in {}", path.display())]
    Samples {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: ParquetError,
    },
}

/// A line of the log of a race.
#[derive(Deserialize)]
struct LoggedEvent {
    /// In nanoseconds of coordinator time.
    at: u64,
    event: RaceEventKind,
}

impl Archive {
    /// The archive in this directory, usually `~/.rally/benchmarks/races`. It is made when the first race is stored.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), downsample_factor: 1 }
    }

    /// The same archive, which has records of every so many requests only; of none if it is 0. The others are still in its files.
    #[must_use]
    pub fn downsampled(self, factor: u64) -> Self {
        Self { downsample_factor: factor, ..self }
    }

    /// The directory of all races.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// The directory of a race. A [`RaceId`] cannot lead out of the archive.
    #[must_use]
    pub fn directory(&self, race: &RaceId) -> PathBuf {
        self.directory.join(race.as_str())
    }

    /// Stores the document of a race in place of an older one, whole or not at all.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn store(&self, document: &RaceDocument) -> Result<(), ArchiveError> {
        self.write_json(&document.race_id, RACE, document)
    }

    /// Stores how a race ended.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn store_verdict(&self, race: &RaceId, verdict: &ArchivedVerdict) -> Result<(), ArchiveError> {
        self.write_json(race, VERDICT, verdict)
    }

    /// How a race ended, as it was stored.
    pub(super) fn stored_verdict(&self, race: &RaceId) -> Result<Option<ArchivedVerdict>, ArchiveError> {
        self.read_json(race, VERDICT)
    }

    /// Stores the track as it was run.
    pub(crate) fn store_track(&self, race: &RaceId, track: &Track) -> Result<(), ArchiveError> {
        self.write_json(race, TRACK, track)
    }

    /// Stores who drove, and what is known of these hosts.
    pub(super) fn store_hosts(&self, race: &RaceId, hosts: &impl Serialize) -> Result<(), ArchiveError> {
        self.write_json(race, HOSTS, hosts)
    }

    /// The track of a race, as it was run.
    ///
    /// # Errors
    ///
    /// If it is not there, or cannot be understood.
    pub fn track(&self, race: &RaceId) -> Result<Track, ArchiveError> {
        self.known_track(race)?.ok_or_else(|| self.unknown(race))
    }

    /// The track of a race, if it is there.
    pub(super) fn known_track(&self, race: &RaceId) -> Result<Option<Track>, ArchiveError> {
        self.read_json(race, TRACK)
    }

    /// The names of the tasks of a race, in the order of its schedule: the task of [`TaskIndex`](rally_core::TaskIndex)
    /// *n* is number *n*. None if its track is not there.
    ///
    /// # Errors
    ///
    /// If its track cannot be understood.
    pub fn tasks(&self, document: &RaceDocument) -> Result<Option<Vec<String>>, ArchiveError> {
        let Some(track) = self.known_track(&document.race_id)? else { return Ok(None) };
        let tasks = document.challenge_of(&track).into_iter().flat_map(Challenge::tasks);
        Ok(Some(tasks.map(|task| task.name.clone()).collect()))
    }

    /// What is known of the hosts of a race; nothing if that is not there.
    pub(crate) fn hosts(&self, race: &RaceId) -> Result<Vec<Value>, ArchiveError> {
        Ok(self.read_json(race, HOSTS)?.unwrap_or_default())
    }

    /// The records of telemetry devices, as they came.
    pub(super) fn telemetry(
        &self,
        race: &RaceId,
    ) -> Result<impl Iterator<Item = Result<JsonObject, ArchiveError>> + use<>, ArchiveError> {
        read_lines(self.telemetry_path(race))
    }

    /// What happened in a race and when, as its log tells.
    pub(crate) fn events(
        &self,
        race: &RaceId,
    ) -> Result<impl Iterator<Item = Result<(ClusterTime, RaceEventKind), ArchiveError>> + use<>, ArchiveError> {
        let lines = read_lines::<LoggedEvent>(self.events_path(race))?;
        Ok(lines.map(|line| line.map(|LoggedEvent { at, event }| (ClusterTime::from_nanos(at), event))))
    }

    /// Where the drivers of a race are, with what is known of their hosts: JSON.
    #[must_use]
    pub fn hosts_path(&self, race: &RaceId) -> PathBuf {
        self.directory(race).join(HOSTS)
    }

    /// Where the records of telemetry devices are: one JSON document in each line.
    #[must_use]
    pub fn telemetry_path(&self, race: &RaceId) -> PathBuf {
        self.directory(race).join(TELEMETRY)
    }

    /// Where the log of a race is: one JSON document in each line.
    #[must_use]
    pub fn events_path(&self, race: &RaceId) -> PathBuf {
        self.directory(race).join(EVENTS)
    }

    /// Where the raw samples of a race are: Parquet files.
    #[must_use]
    pub fn samples_directory(&self, race: &RaceId) -> PathBuf {
        self.directory(race).join(SAMPLES)
    }

    /// Opens the file to which the intervals of a race are appended.
    ///
    /// # Errors
    ///
    /// If it cannot be opened.
    pub fn interval_log(&self, race: &RaceId) -> Result<IntervalLog, ArchiveError> {
        let path = self.made_directory(race)?.join(INTERVALS);
        IntervalLog::open(&path).map_err(failed("open", &path))
    }

    /// Where the intervals of a race are.
    #[must_use]
    pub fn intervals_path(&self, race: &RaceId) -> PathBuf {
        self.directory(race).join(INTERVALS)
    }

    /// Whether there is a race of this id, be its document damaged or not.
    #[must_use]
    pub fn contains(&self, race: &RaceId) -> bool {
        self.directory(race).join(RACE).exists()
    }

    /// The document of a race.
    ///
    /// # Errors
    ///
    /// If there is none, or if it cannot be understood.
    pub fn load(&self, race: &RaceId) -> Result<RaceDocument, ArchiveError> {
        self.read_json(race, RACE)?.ok_or_else(|| self.unknown(race))
    }

    /// All races, in any order; those whose documents cannot be understood come as errors beside them.
    ///
    /// # Errors
    ///
    /// If the archive cannot be read. One that is not there has no race.
    pub fn list(&self) -> Result<(Vec<RaceDocument>, Vec<ArchiveError>), ArchiveError> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), Vec::new())),
            Err(source) => return Err(failed("read", &self.directory)(source)),
        };
        let (mut races, mut damaged) = (Vec::new(), Vec::new());
        for entry in entries {
            let name = entry.map_err(failed("read", &self.directory))?.file_name();
            let Some(race) = name.to_str().and_then(|name| name.parse::<RaceId>().ok()) else { continue };
            match self.load(&race) {
                Ok(document) => races.push(document),
                Err(ArchiveError::Unknown { .. }) => {}
                Err(error) => damaged.push(error),
            }
        }
        Ok((races, damaged))
    }

    /// Deletes a race with everything that belongs to it.
    ///
    /// # Errors
    ///
    /// If there is no such race, if it still runs, or if it cannot be deleted.
    pub fn delete(&self, race: &RaceId) -> Result<(), ArchiveError> {
        let path = self.directory(race);
        match fs::symlink_metadata(&path) {
            // A link could lead out of the archive; only the link itself is ours.
            Ok(metadata) if metadata.is_symlink() => fs::remove_file(&path).map_err(failed("delete", &path)),
            Ok(_) => {
                let _lock = self.lock(race)?;
                fs::remove_dir_all(&path).map_err(failed("delete", &path))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(self.unknown(race)),
            Err(source) => Err(failed("read", &path)(source)),
        }
    }

    fn write_json(&self, race: &RaceId, name: &str, document: &impl Serialize) -> Result<(), ArchiveError> {
        let path = self.made_directory(race)?.join(name);
        let mut json = serde_json::to_vec_pretty(document)
            .map_err(|source| ArchiveError::Document { path: path.clone(), source })?;
        json.push(b'\n');
        write_whole(&path, &json).map_err(failed("write", &path))
    }

    fn read_json<T: DeserializeOwned>(&self, race: &RaceId, name: &str) -> Result<Option<T>, ArchiveError> {
        let path = self.directory(race).join(name);
        match fs::read(&path) {
            Ok(json) => {
                serde_json::from_slice(&json).map(Some).map_err(|source| ArchiveError::Document { path, source })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ArchiveError::File { action: "read", path, source }),
        }
    }

    pub(super) fn made_directory(&self, race: &RaceId) -> Result<PathBuf, ArchiveError> {
        let directory = self.directory(race);
        if !directory.exists() {
            fs::create_dir_all(&self.directory).map_err(failed("make", &self.directory))?;
            // The track may have passwords in its parameters.
            DirBuilder::new()
                .recursive(true)
                .mode(OWNER_ONLY)
                .create(&directory)
                .map_err(failed("make", &directory))?;
            sync_directory(&self.directory).map_err(failed("write", &self.directory))?;
        }
        Ok(directory)
    }

    fn unknown(&self, race: &RaceId) -> ArchiveError {
        ArchiveError::Unknown { race: race.clone(), directory: self.directory.clone() }
    }
}

pub(super) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ArchiveError {
    let path = path.to_owned();
    move |source| ArchiveError::File { action, path, source }
}

/// Writes a file beside its place first, so that a crash leaves the old one or the new one, also if it is one of the whole
/// machine. If it cannot be written, nothing of it stays.
fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary)?;
    let written = file.write_all(content).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&temporary, path));
    written.inspect_err(|_| {
        // A disk that is full needs the room.
        let _ = fs::remove_file(&temporary);
    })?;
    path.parent().map_or(Ok(()), sync_directory)
}

/// Waits until the names of files that are new in a directory are on the disk.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use rally_core::metrics::Results;
    use rally_core::track::JsonObject;

    use super::*;

    fn document(id: &str, timestamp: &str) -> RaceDocument {
        RaceDocument {
            epoch_millis: 0,
            multi_cluster: false,
            outcome: None,
            rally_version: "0.1.0".to_owned(),
            rally_revision: None,
            environment: "local".to_owned(),
            race_id: id.parse().unwrap(),
            race_timestamp: timestamp.to_owned(),
            pipeline: "benchmark-only".to_owned(),
            user_tags: JsonObject::new(),
            track: "geonames".to_owned(),
            car: vec!["external".to_owned()],
            cluster: JsonObject::new(),
            track_revision: None,
            challenge: None,
            track_params: JsonObject::new(),
            results: None,
            results_by_cluster: Vec::new(),
        }
    }

    #[test]
    fn races_are_stored_listed_replaced_and_deleted() {
        let directory = tempfile::tempdir().unwrap();
        let archive = Archive::new(directory.path().join("races"));
        assert!(archive.list().unwrap().0.is_empty());
        let (old, mut new) = (document("old", "20261101T000000Z"), document("new", "20261102T000000Z"));
        archive.store(&old).unwrap();
        archive.store(&new).unwrap();
        new.results = Some(Results::default());
        archive.store(&new).unwrap();
        let mut all = archive.list().unwrap().0;
        all.sort_by(|one, other| one.race_id.cmp(&other.race_id));
        assert_eq!(all, [new.clone(), old.clone()]);
        archive.delete(&old.race_id).unwrap();
        assert!(matches!(archive.load(&old.race_id), Err(ArchiveError::Unknown { .. })));
        assert!(matches!(archive.delete(&old.race_id), Err(ArchiveError::Unknown { .. })));
        assert_eq!(archive.load(&new.race_id).unwrap(), new);
    }

    #[test]
    fn a_file_that_a_full_disk_does_not_take_leaves_the_old_one_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let archive = Archive::new(directory.path());
        let mut race = document("full", "20261101T000000Z");
        archive.store(&race).unwrap();
        let temporary = archive.directory(&race.race_id).join(RACE).with_extension("tmp");
        // The device that is always full stands in for the disk.
        std::os::unix::fs::symlink("/dev/full", &temporary).unwrap();
        let before = archive.load(&race.race_id).unwrap();
        race.track = "other".to_owned();
        assert!(archive.store(&race).is_err());
        assert_eq!(archive.load(&race.race_id).unwrap(), before);
        assert!(temporary.symlink_metadata().is_err());
    }

    #[test]
    fn only_its_owner_can_read_a_race() {
        let directory = tempfile::tempdir().unwrap();
        let archive = Archive::new(directory.path().join("races"));
        let race = document("secret", "20261101T000000Z");
        archive.store(&race).unwrap();
        let mode = fs::metadata(archive.directory(&race.race_id)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn a_damaged_race_does_not_hide_the_others() {
        let directory = tempfile::tempdir().unwrap();
        let archive = Archive::new(directory.path());
        archive.store(&document("good", "20261101T000000Z")).unwrap();
        archive.store(&document("bad", "20261101T000000Z")).unwrap();
        fs::write(directory.path().join("bad").join(RACE), "{").unwrap();
        let (races, damaged) = archive.list().unwrap();
        assert_eq!((races.len(), damaged.len()), (1, 1));
    }

    #[test]
    fn a_race_that_somebody_writes_is_not_deleted() {
        let directory = tempfile::tempdir().unwrap();
        let archive = Archive::new(directory.path());
        let race = document("running", "20261101T000000Z");
        archive.store(&race).unwrap();
        let lock = archive.lock(&race.race_id).unwrap();
        assert!(archive.is_in_use(&race.race_id));
        let refused = archive.delete(&race.race_id).unwrap_err().to_string();
        assert!(refused.contains(&format!(
            "`running` still runs, or something of it is still to come (pid {})",
            std::process::id()
        )));
        assert_eq!(archive.load(&race.race_id).unwrap(), race);
        drop(lock);
        assert!(!archive.is_in_use(&race.race_id));
        archive.delete(&race.race_id).unwrap();
        assert!(!archive.directory(&race.race_id).exists());
    }

    #[test]
    fn deleting_a_link_leaves_what_it_leads_to() {
        let directory = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join("kept"), "").unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), directory.path().join("link")).unwrap();
        Archive::new(directory.path()).delete(&"link".parse().unwrap()).unwrap();
        assert!(elsewhere.path().join("kept").exists());
    }
}
