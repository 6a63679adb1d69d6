//! Who writes the archive of a race: its directory is locked from before the race begins until all of it is there.

use rally_core::RaceId;

use super::store::failed;
use super::{Archive, ArchiveError};
use crate::lock_file::LockFile;

/// In the directory of the race.
const LOCK: &str = "lock";

/// The directory of a race belongs to this owner until it is dropped.
#[derive(Debug)]
pub(crate) struct RaceLock {
    _lock: LockFile,
}

impl Archive {
    /// Takes the directory of a race, which is there.
    ///
    /// # Errors
    ///
    /// If somebody else has it, or if it cannot be locked.
    pub(crate) fn lock(&self, race: &RaceId) -> Result<RaceLock, ArchiveError> {
        let path = self.directory(race).join(LOCK);
        match LockFile::take(&path, &std::process::id().to_string()).map_err(failed("lock", &path))? {
            Some(lock) => Ok(RaceLock { _lock: lock }),
            None => {
                Err(ArchiveError::InUse { race: race.clone(), pid: self.owner(race).and_then(|pid| pid.parse().ok()) })
            }
        }
    }

    /// Whether a race still runs, or something of it is still to come.
    #[must_use]
    pub fn is_in_use(&self, race: &RaceId) -> bool {
        self.owner(race).is_some()
    }

    /// Who writes a race. A lock that cannot be examined says nothing.
    fn owner(&self, race: &RaceId) -> Option<String> {
        LockFile::owner(&self.directory(race).join(LOCK)).ok().flatten()
    }
}
