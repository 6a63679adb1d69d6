//! Files that say who uses what lies beside them. The kernel releases such a lock when its owner ends in whatever way, so
//! none can be stale.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

/// A probe by another process holds a lock for a moment, so whoever wants it tries this often before it gives up.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(10);

/// What lies beside the file belongs to this owner until it is dropped; then the file is gone.
#[derive(Debug)]
pub(crate) struct LockFile {
    path: PathBuf,
    file: File,
}

impl LockFile {
    /// Takes the lock and writes into it who does, if the disk has room for that; none if somebody else holds it.
    ///
    /// # Errors
    ///
    /// If the file cannot be used.
    pub(crate) fn take(path: &Path, owner: &str) -> io::Result<Option<Self>> {
        for _ in 0..ATTEMPTS {
            let mut options = OpenOptions::new();
            let mut file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                // The one before us may have deleted the file after we opened it.
                Ok(()) if is_at(&file, path) => {
                    // What it says is for people; a full disk does not keep anybody from the lock.
                    let _ = file.set_len(0).and_then(|()| writeln!(file, "{owner}"));
                    return Ok(Some(Self { path: path.to_owned(), file }));
                }
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => thread::sleep(PAUSE),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// What the owner of a lock wrote into it, which is nothing for an instant or on a full disk; none if nobody holds it.
    ///
    /// # Errors
    ///
    /// If the file is there but cannot be examined.
    pub(crate) fn owner(path: &Path) -> io::Result<Option<String>> {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(None),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                file.rewind()?;
                file.read_to_string(&mut text)?;
                Ok(Some(text.trim().to_owned()))
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // Deleted while still held, so that nobody's lock but ours goes. It is no harm if it stays.
        if is_at(&self.file, &self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether an open file is the one with this name, which another may have by now, or none.
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(open), Ok(named)) = (file.metadata(), fs::metadata(path)) else { return false };
    (open.dev(), open.ino()) == (named.dev(), named.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_has_one_owner_who_says_so_and_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        assert_eq!(LockFile::owner(&path).unwrap(), None);
        let lock = LockFile::take(&path, "me").unwrap().unwrap();
        assert_eq!(LockFile::owner(&path).unwrap().as_deref(), Some("me"));
        assert!(LockFile::take(&path, "you").unwrap().is_none());
        drop(lock);
        assert!(!path.exists());
        assert!(LockFile::take(&path, "you").unwrap().is_some());
    }

    #[test]
    fn a_lock_can_be_taken_on_a_full_disk() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        // The device that is always full stands in for the disk.
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let lock = LockFile::take(&path, "me").unwrap();
        assert!(lock.is_some());
        drop(lock);
        assert!(path.symlink_metadata().is_err());
    }

    #[test]
    fn a_lock_whose_file_was_moved_away_leaves_alone_what_is_in_its_place() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let lock = LockFile::take(&path, "me").unwrap().unwrap();
        fs::rename(&path, directory.path().join("elsewhere")).unwrap();
        let _other = LockFile::take(&path, "you").unwrap().unwrap();
        drop(lock);
        assert_eq!(LockFile::owner(&path).unwrap().as_deref(), Some("you"));
    }
}
