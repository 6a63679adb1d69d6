//! Reading from one source, which may break, stall or lie.

use std::ops::Range;
use std::time::Duration;

use bytes::BufMut;
use rally_core::ContentHash;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{sleep, timeout};

use super::error::{FetchError, SourceFault};
use super::manifest::Manifest;
use super::source::Source;

/// A source has this long to answer, and again for each [`STALL_BYTES`].
const STALL_TIMEOUT: Duration = Duration::from_secs(10);

/// A source that sends fewer bytes than this within [`STALL_TIMEOUT`] is of no use.
const STALL_BYTES: usize = 128 << 10;

/// A source has this long to deliver a whole manifest, 32 MiB at most.
const MANIFEST_TIMEOUT: Duration = Duration::from_secs(30);

/// How often in a row a source may fail and be asked again.
const RETRIES: u32 = 3;

/// The pause before the first retry; it doubles with each further one.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Why reading from a source ended.
#[derive(Debug)]
pub(super) enum Failure {
    /// The source is to blame.
    Source(SourceFault),
    /// The receiver's own file system is; nobody can go on.
    Storage(FetchError),
}

impl From<SourceFault> for Failure {
    fn from(fault: SourceFault) -> Self {
        Self::Source(fault)
    }
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        Self::Storage(error)
    }
}

/// Counts how often a source has failed in a row.
#[derive(Debug, Default)]
pub(super) struct Patience {
    failures: u32,
}

impl Patience {
    /// Pauses before the next attempt.
    ///
    /// # Errors
    ///
    /// Gives the fault back if there shall be no further attempt.
    pub(super) async fn bear(&mut self, fault: SourceFault) -> Result<(), SourceFault> {
        if self.failures == RETRIES || !fault.may_pass() {
            return Err(fault);
        }
        sleep(RETRY_PAUSE * 2_u32.pow(self.failures)).await;
        self.failures += 1;
        Ok(())
    }

    /// The source has delivered something good.
    pub(super) const fn restore(&mut self) {
        self.failures = 0;
    }
}

/// Asks a source for its manifest, within a bound.
pub(super) async fn ask_manifest(source: &dyn Source, content: ContentHash) -> Result<Manifest, SourceFault> {
    match timeout(MANIFEST_TIMEOUT, source.manifest(content)).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(SourceFault::Stalled { within: MANIFEST_TIMEOUT }),
    }
}

/// Reads a run of bytes from one source in order; every wait is bounded.
pub(super) struct RunReader {
    bytes: Box<dyn AsyncRead + Send + Unpin>,
    position: u64,
}

impl RunReader {
    pub(super) async fn open(
        source: &dyn Source,
        content: ContentHash,
        range: Range<u64>,
    ) -> Result<Self, SourceFault> {
        let position = range.start;
        match timeout(STALL_TIMEOUT, source.read(content, range)).await {
            Ok(answer) => Ok(Self { bytes: answer?, position }),
            Err(_) => Err(SourceFault::Stalled { within: STALL_TIMEOUT }),
        }
    }

    /// Reads exactly the next `length` bytes into an empty buffer.
    pub(super) async fn fill(&mut self, buffer: &mut Vec<u8>, length: usize) -> Result<(), SourceFault> {
        buffer.reserve_exact(length);
        while buffer.len() < length {
            let step = STALL_BYTES.min(length - buffer.len());
            match timeout(STALL_TIMEOUT, self.fill_step(buffer, step)).await {
                Ok(result) => result?,
                Err(_) => return Err(SourceFault::Stalled { within: STALL_TIMEOUT }),
            }
        }
        Ok(())
    }

    async fn fill_step(&mut self, buffer: &mut Vec<u8>, length: usize) -> Result<(), SourceFault> {
        let mut rest = buffer.limit(length);
        while rest.has_remaining_mut() {
            match self.bytes.read_buf(&mut rest).await {
                Ok(0) => return Err(SourceFault::Truncated { position: self.position }),
                Ok(read) => self.position += read as u64,
                Err(error) => return Err(SourceFault::Broken(error)),
            }
        }
        Ok(())
    }
}
