//! Keeps drivers that share a directory from preparing the same documents at the same time.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tokio::time::sleep;

/// How often it is looked whether the other one is ready.
const AGAIN: Duration = Duration::from_millis(50);

/// The right to prepare a document set, until it is dropped or its process ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock that is a file of this path, which is left behind. If another driver has it, `waits` is called once.
    ///
    /// # Cancel safety
    ///
    /// When dropped, nothing is locked.
    pub(super) async fn take(path: &Path, waits: impl FnOnce()) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        let mut waits = Some(waits);
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { _file: file }),
                Err(Errno::WOULDBLOCK) => {
                    if let Some(waits) = waits.take() {
                        waits();
                    }
                    sleep(AGAIN).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}
