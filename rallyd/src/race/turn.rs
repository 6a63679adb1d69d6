//! Races without a daemon take turns on a machine, so that none disturbs what another one measures.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rally_core::RaceId;
use serde::{Deserialize, Serialize};

use crate::lock_file::LockFile;

/// Beside the directory of all races.
const LOCK: &str = "race.lock";

/// It is this race's turn until this is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    _lock: LockFile,
}

/// Whose turn it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TurnOwner {
    race: RaceId,
    pid: u32,
    /// As in RFC 3339.
    since: String,
}

/// A race cannot have its turn.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TurnError {
    /// Another one has it.
    #[error("{}", taken(owner.as_ref()))]
    Taken { owner: Option<TurnOwner> },
    /// The file cannot be used, which says nothing of other races.
    #[error("cannot lock {}, which makes races of this machine take turns", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

fn taken(owner: Option<&TurnOwner>) -> String {
    match owner {
        Some(TurnOwner { race, pid, since }) => format!(
            "race {race} already runs on this machine (pid {pid}, since {since}), and two at the same time would disturb \
             each other; wait for its end, or end it with `kill -INT {pid}`"
        ),
        // It has just begun, or just ended.
        None => "another race just runs on this machine; try again".to_owned(),
    }
}

impl Turn {
    /// Takes the turn for a race. `root` is the directory of everything that races leave.
    pub(crate) fn take(root: &Path, race: &RaceId) -> Result<Self, TurnError> {
        let path = root.join(LOCK);
        let failed = |source| TurnError::File { path: path.clone(), source };
        fs::create_dir_all(root).map_err(failed)?;
        let owner =
            TurnOwner { race: race.clone(), pid: std::process::id(), since: format!("{:.0}", Timestamp::now()) };
        let owner = serde_json::to_string(&owner).map_err(|error| failed(error.into()))?;
        match LockFile::take(&path, &owner).map_err(failed)? {
            Some(lock) => Ok(Self { _lock: lock }),
            None => {
                let owner = LockFile::owner(&path).map_err(failed)?;
                Err(TurnError::Taken { owner: owner.and_then(|owner| serde_json::from_str(&owner).ok()) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_race_is_told_whose_turn_it_is() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().join("benchmarks");
        let (first, second) = ("first".parse().unwrap(), "second".parse().unwrap());
        let turn = Turn::take(&root, &first).unwrap();
        let refused = Turn::take(&root, &second).unwrap_err().to_string();
        let pid = std::process::id();
        assert!(refused.contains(&format!("race first already runs on this machine (pid {pid}, since 2")), "{refused}");
        assert!(refused.ends_with(&format!("end it with `kill -INT {pid}`")), "{refused}");
        drop(turn);
        Turn::take(&root, &second).unwrap();
    }
}
