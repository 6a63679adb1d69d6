//! A fetch from two sources, one of which says and sends what it likes.
#![no_main]

use std::io::Cursor;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use rally_core::ContentHash;
use rally_net::{Fetch, FetchProgress, Manifest, Shelf, Source, SourceError, fetch};
use tokio::io::{AsyncRead, AsyncReadExt, repeat};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

/// In bytes: two groups of 1 MiB, and a shorter one.
const LENGTH: usize = (2 << 20) + 12_345;

/// What is fetched, and what an honest source says about it.
struct Content {
    bytes: Vec<u8>,
    hash: ContentHash,
    manifest: Manifest,
}

static CONTENT: LazyLock<Content> = LazyLock::new(|| {
    let bytes: Vec<u8> = (0..LENGTH as u32).map(|i| (i.wrapping_mul(0x9e37_79b1) >> 24) as u8).collect();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("content");
    std::fs::write(&path, &bytes).expect("written");
    let shelf = Shelf::default();
    let hash = runtime().block_on(shelf.add(path)).expect("offered");
    let manifest = shelf.manifest(hash).expect("offered");
    Content { bytes, hash, manifest }
});

/// The source that lies.
#[derive(Arbitrary, Clone, Debug)]
struct Liar {
    claim: Claim,
    /// Which bytes it changes, counted around the content.
    changes: Vec<(u32, u8)>,
    /// After how many bytes a read ends; it goes on for ever otherwise.
    end: Option<u32>,
}

/// What it says about the content.
#[derive(Arbitrary, Clone, Debug)]
enum Claim {
    Truth,
    Nothing,
    OtherLength(u64),
    LengthNearby(i16),
    OtherHashes(Vec<(u8, u8)>),
    Anything(Vec<u8>),
}

impl Claim {
    fn manifest(&self) -> Result<Manifest, SourceError> {
        let truth = postcard::to_stdvec(&CONTENT.manifest).expect("encoded");
        let (length, mut groups): (u64, Vec<[u8; 32]>) = postcard::from_bytes(&truth).expect("as it travels");
        let claim = match self {
            Self::Truth => Ok(CONTENT.manifest.clone()),
            Self::Nothing => return Err(SourceError::NotOffered { content: CONTENT.hash }),
            Self::OtherLength(length) => Manifest::new(*length, groups),
            Self::LengthNearby(difference) => Manifest::new(length.saturating_add_signed((*difference).into()), groups),
            Self::OtherHashes(changes) => {
                let hashes = groups.as_flattened_mut();
                let count = hashes.len();
                changes.iter().for_each(|(at, change)| hashes[usize::from(*at) % count] ^= change);
                Manifest::new(length, groups)
            }
            Self::Anything(bytes) => {
                return postcard::from_bytes(bytes).map_err(|error| SourceError::Failed(error.to_string()));
            }
        };
        claim.map_err(|error| SourceError::Failed(error.to_string()))
    }
}

#[async_trait]
impl Source for Liar {
    fn name(&self) -> &str {
        "liar"
    }

    async fn manifest(&self, _: ContentHash) -> Result<Manifest, SourceError> {
        self.claim.manifest()
    }

    async fn read(&self, _: ContentHash, range: Range<u64>) -> Result<Box<dyn AsyncRead + Send + Unpin>, SourceError> {
        let start = range.start.min(LENGTH as u64) as usize;
        let mut bytes = CONTENT.bytes[start..].to_vec();
        for (at, change) in &self.changes {
            if let Some(byte) = (*at as usize % LENGTH).checked_sub(start).and_then(|at| bytes.get_mut(at)) {
                *byte ^= change;
            }
        }
        let endless = Cursor::new(bytes).chain(repeat(0));
        Ok(match self.end {
            Some(end) => Box::new(endless.take(end.into())),
            None => Box::new(endless),
        })
    }
}

struct Honest;

#[async_trait]
impl Source for Honest {
    fn name(&self) -> &str {
        "honest"
    }

    async fn manifest(&self, _: ContentHash) -> Result<Manifest, SourceError> {
        Ok(CONTENT.manifest.clone())
    }

    async fn read(
        &self,
        content: ContentHash,
        range: Range<u64>,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>, SourceError> {
        match CONTENT.bytes.get(range.start as usize..range.end as usize) {
            Some(bytes) => Ok(Box::new(bytes)),
            None => Err(SourceError::OutOfRange { content, range, length: LENGTH as u64 }),
        }
    }
}

/// With paused time, so that no pause is waited for.
fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime")
}

fuzz_target!(|liar: Liar| {
    let directory = tempfile::tempdir().expect("a directory");
    let request = Fetch {
        content: CONTENT.hash,
        directory: directory.path().to_owned(),
        name: "content".parse().expect("a name"),
        range: None,
    };
    let (progress, _) = watch::channel(FetchProgress::default());
    let sources: [Arc<dyn Source>; 2] = [Arc::new(liar), Arc::new(Honest)];
    let fetched = runtime().block_on(fetch(&request, &sources, &progress)).expect("one source is honest");
    assert!(fetched.failures.iter().all(|failure| failure.name == "liar"), "{:?}", fetched.failures);
    assert!(std::fs::read(&fetched.path).expect("a file") == CONTENT.bytes, "wrong bytes");
    assert_eq!(std::fs::read_dir(&directory).expect("a directory").count(), 1, "something else is left behind");
});
