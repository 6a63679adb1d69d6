//! The unfinished file beside the target.

use std::fs::{File, TryLockError};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rally_core::ContentHash;
use rustix::fs::{AtFlags, Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use tokio::time::Instant;

use super::blocking::blocking;
use super::error::FetchError;
use super::fetch::Fetch;
use super::manifest::Manifest;

/// While another fetch into the same file writes, we wait; after this long without a change we do not.
const OTHER_FETCH_PATIENCE: Duration = Duration::from_secs(10);

/// How often we look whether the other fetch has ended.
const OTHER_FETCH_POLL: Duration = Duration::from_millis(20);

/// The directory of a fetch, held open so that every name is looked up in it and nowhere else.
#[derive(Clone, Debug)]
pub(super) struct Place {
    directory: Arc<File>,
    target: String,
    part: String,
    path: PathBuf,
}

/// The unfinished file of one fetch, claimed by a lock that ends with the process at the latest.
///
/// It holds verified bytes only, at their place, and is a sparse file until it is complete.
#[derive(Clone, Debug)]
pub(super) struct Part {
    place: Place,
    file: Arc<File>,
}

impl Place {
    /// Opens the directory that the request names.
    pub(super) async fn open(request: &Fetch) -> Result<Self, FetchError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let path = request.directory.clone();
        let directory = blocking(move || Ok(File::from(rustix::fs::open(&path, flags, Mode::empty())?))).await;
        let directory = directory.map_err(|source| storage("open", &request.directory, source))?;
        // Part of the hash is enough: what a part file holds is never trusted.
        let hash = request.content.to_string();
        let range = match &request.range {
            Some(range) => format!(".{}-{}", range.start, range.end),
            None => String::new(),
        };
        Ok(Self {
            directory: Arc::new(directory),
            target: request.name.to_string(),
            part: format!(".{}.{}{range}.part", request.name, &hash[..16]),
            path: request.directory.clone(),
        })
    }

    /// The path of the finished file.
    pub(super) fn target_path(&self) -> PathBuf {
        self.path.join(&self.target)
    }

    fn part_path(&self) -> PathBuf {
        self.path.join(&self.part)
    }

    /// The length of the target, if it has this content already.
    ///
    /// A symbolic link is never followed; the finished file takes its place.
    pub(super) async fn target_length(&self, content: ContentHash) -> Result<Option<u64>, FetchError> {
        let error = |source| storage("read", &self.target_path(), source);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let place = self.clone();
        let opened =
            blocking(move || match rustix::fs::openat(&place.directory, &place.target, flags, Mode::empty()) {
                Ok(file) => Ok(Some(File::from(file))),
                Err(Errno::NOENT | Errno::LOOP) => Ok(None),
                Err(error) => Err(error.into()),
            });
        let Some(file) = opened.await.map_err(error)? else { return Ok(None) };
        let metadata = file.metadata().map_err(error)?;
        if !metadata.is_file() {
            return Err(FetchError::NotAFile { path: self.target_path() });
        }
        match Manifest::of_file(&Arc::new(file), metadata.len()).await {
            Ok((found, _)) => Ok((found == content).then_some(metadata.len())),
            // Someone cut it while we read.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(source) => Err(error(source)),
        }
    }

    /// Claims the part file, new or left by an earlier fetch; also returns whether another fetch had to be waited for.
    pub(super) async fn claim(&self) -> Result<(Part, bool), FetchError> {
        let mut waited = false;
        let mut last_change = (SystemTime::UNIX_EPOCH, Instant::now());
        loop {
            let place = self.clone();
            let attempt = blocking(move || place.try_claim()).await;
            match attempt.map_err(|source| storage("open", &self.part_path(), source))? {
                Claim::Claimed(file) => return Ok((Part { place: self.clone(), file: Arc::new(file) }, waited)),
                Claim::NotAFile => return Err(FetchError::NotAFile { path: self.part_path() }),
                Claim::Gone => {}
                Claim::Taken { modified } => {
                    if modified != last_change.0 {
                        last_change = (modified, Instant::now());
                    } else if last_change.1.elapsed() >= OTHER_FETCH_PATIENCE {
                        return Err(FetchError::Busy { part: self.part_path() });
                    }
                    tokio::time::sleep(OTHER_FETCH_POLL).await;
                }
            }
            waited = true;
        }
    }

    fn try_claim(&self) -> io::Result<Claim> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.directory, &self.part, flags, Mode::from_raw_mode(0o666)) {
            Ok(file) => File::from(file),
            Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO) => return Ok(Claim::NotAFile),
            Err(error) => return Err(error.into()),
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Claim::Taken { modified: file.metadata()?.modified()? }),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Between opening and locking, another fetch may have renamed the file to the target, or removed it.
        let named = match rustix::fs::statat(&self.directory, &self.part, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(named) => named,
            Err(Errno::NOENT) => return Ok(Claim::Gone),
            Err(error) => return Err(error.into()),
        };
        let metadata = file.metadata()?;
        if named.st_ino != metadata.ino() {
            return Ok(Claim::Gone);
        }
        // A second name could be that of a file outside the directory.
        if metadata.is_file() && metadata.nlink() == 1 { Ok(Claim::Claimed(file)) } else { Ok(Claim::NotAFile) }
    }
}

enum Claim {
    Claimed(File),
    /// Another fetch holds it, and last wrote at this time.
    Taken {
        modified: SystemTime,
    },
    /// It has been finished or removed meanwhile.
    Gone,
    /// A link, a directory or the like has its name.
    NotAFile,
}

impl Part {
    /// The file; whoever writes to it has verified the bytes.
    pub(super) const fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Whether anything was ever written between two positions.
    pub(super) fn has_data(&self, start: u64, end: u64) -> bool {
        match rustix::fs::seek(&self.file, SeekFrom::Data(start)) {
            Ok(data) => data < end,
            Err(Errno::NXIO) => false,
            // Not every file system can tell.
            Err(_) => true,
        }
    }

    /// Says what could not be done with it.
    pub(super) fn error(&self, action: &'static str, source: io::Error) -> FetchError {
        storage(action, &self.place.part_path(), source)
    }

    /// Makes it the target: on disk first, then under its name.
    pub(super) async fn finish(self, length: u64) -> Result<(), FetchError> {
        let path = self.place.part_path();
        let finished = blocking(move || {
            self.file.set_len(length)?;
            self.file.sync_all()?;
            let Place { directory, target, part, .. } = &self.place;
            rustix::fs::renameat(directory, part, directory, target)?;
            Ok(rustix::fs::fsync(directory.as_fd())?)
        });
        finished.await.map_err(|source| storage("finish", &path, source))
    }

    /// Removes it, because it is not needed.
    pub(super) async fn discard(self) -> Result<(), FetchError> {
        let path = self.place.part_path();
        let Place { directory, part, .. } = self.place;
        let removed = blocking(move || Ok(rustix::fs::unlinkat(directory, part, AtFlags::empty())?));
        removed.await.map_err(|source| storage("remove", &path, source))
    }
}

/// An error of the receiver's own file system.
fn storage(action: &'static str, path: &Path, source: io::Error) -> FetchError {
    FetchError::Storage { action, path: path.to_owned(), source }
}
