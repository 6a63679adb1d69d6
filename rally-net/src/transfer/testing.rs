//! Contents and sources for tests.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use blake3::hazmat::{ChainingValue, HasherExt};
use rally_core::ContentHash;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::manifest::{Manifest, SMALLEST_GROUP};
use super::source::{Source, SourceError};

/// Bytes that repeat nowhere near a group's length.
pub(super) fn bytes(length: u64) -> Vec<u8> {
    let mut bytes = vec![0; length as usize];
    blake3::Hasher::new().update(b"content").finalize_xof().fill(&mut bytes);
    bytes
}

pub(super) fn hash(bytes: &[u8]) -> ContentHash {
    ContentHash::from_bytes(*blake3::hash(bytes).as_bytes())
}

/// The manifest of a content whose groups have the smallest size.
pub(super) fn manifest(bytes: &[u8]) -> Manifest {
    let mut groups: Vec<ChainingValue> = Vec::new();
    if bytes.len() as u64 > SMALLEST_GROUP {
        for (group, bytes) in bytes.chunks(SMALLEST_GROUP as usize).enumerate() {
            let mut hasher = blake3::Hasher::new();
            groups.push(hasher.set_input_offset(group as u64 * SMALLEST_GROUP).update(bytes).finalize_non_root());
        }
    }
    Manifest::new(bytes.len() as u64, groups).unwrap()
}

/// What a fake does after the given number of bytes of a read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Then {
    End,
    Break,
    Stall,
    /// Goes on for ever with zeros.
    Babble,
}

/// A source in memory that misbehaves as told.
pub(super) struct Fake {
    name: String,
    bytes: Arc<Vec<u8>>,
    pub(super) manifest: Result<Manifest, SourceError>,
    /// How each of the first reads ends; those after are good.
    pub(super) faults: Mutex<Vec<(u64, Then)>>,
    /// The pause before each KiB.
    pub(super) pause: Option<Duration>,
    /// Beyond the range it was asked for.
    pub(super) babbles: bool,
    pub(super) reads: Mutex<Vec<Range<u64>>>,
}

impl Fake {
    pub(super) fn new(name: &str, bytes: &[u8]) -> Self {
        Self {
            name: name.to_owned(),
            bytes: Arc::new(bytes.to_vec()),
            manifest: Ok(manifest(bytes)),
            faults: Mutex::default(),
            pause: None,
            babbles: false,
            reads: Mutex::default(),
        }
    }

    /// The first reads end like this.
    pub(super) fn faulty(mut self, faults: impl IntoIterator<Item = (u64, Then)>) -> Self {
        let mut faults: Vec<_> = faults.into_iter().collect();
        faults.reverse();
        self.faults = Mutex::new(faults);
        self
    }

    /// A bit of this byte is wrong.
    pub(super) fn lying_at(mut self, position: u64) -> Self {
        Arc::make_mut(&mut self.bytes)[position as usize] ^= 1;
        self
    }

    pub(super) fn slow(mut self, pause: Duration) -> Self {
        self.pause = Some(pause);
        self
    }

    /// How many bytes it was asked for.
    pub(super) fn asked(&self) -> u64 {
        self.reads.lock().unwrap().iter().map(|range| range.end - range.start).sum()
    }
}

#[async_trait]
impl Source for Fake {
    fn name(&self) -> &str {
        &self.name
    }

    async fn manifest(&self, _: ContentHash) -> Result<Manifest, SourceError> {
        self.manifest.clone()
    }

    async fn read(&self, _: ContentHash, range: Range<u64>) -> Result<Box<dyn AsyncRead + Send + Unpin>, SourceError> {
        self.reads.lock().unwrap().push(range.clone());
        let (length, then) = match self.faults.lock().unwrap().pop() {
            Some(fault) => fault,
            None => (u64::MAX, if self.babbles { Then::Babble } else { Then::End }),
        };
        let end = range.end.min(range.start.saturating_add(length)).min(self.bytes.len() as u64);
        Ok(Box::new(FakeReader {
            bytes: Arc::clone(&self.bytes),
            unread: range.start as usize..end as usize,
            then,
            pause: self.pause,
            sleep: None,
        }))
    }
}

struct FakeReader {
    bytes: Arc<Vec<u8>>,
    unread: Range<usize>,
    then: Then,
    pause: Option<Duration>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl AsyncRead for FakeReader {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut step = buffer.remaining();
        if let Some(pause) = self.pause {
            step = step.min(1024);
            let sleeping = self.sleep.get_or_insert_with(|| Box::pin(sleep(pause)));
            ready!(sleeping.as_mut().poll(cx));
            self.sleep = None;
        }
        if self.unread.is_empty() {
            return match self.then {
                Then::End => Poll::Ready(Ok(())),
                Then::Break => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                Then::Stall => Poll::Pending,
                Then::Babble => {
                    buffer.put_slice(&vec![0; step]);
                    Poll::Ready(Ok(()))
                }
            };
        }
        let start = self.unread.start;
        let end = self.unread.end.min(start + step);
        buffer.put_slice(&self.bytes[start..end]);
        self.unread.start = end;
        Poll::Ready(Ok(()))
    }
}
