//! The files that this host offers to others.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use bytes::{Buf, Bytes};
use rally_core::ContentHash;
use rustix::buffer::spare_capacity;
use rustix::fs::OFlags;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::task::JoinHandle;
use tracing::warn;

use super::blocking::blocking;
use super::manifest::{MAX_CONTENT_LENGTH, Manifest};
use super::source::{Source, SourceError};

/// A reader of the shelf holds at most two blocks of this many bytes: one handed out, one read ahead.
const BLOCK: usize = 512 << 10;

/// The files that this host offers, by their content; nothing else can be asked for.
///
/// Share it in an `Arc`. It remembers where each file is and its [`Manifest`] (8 bytes for each MiB of a large file),
/// but keeps no file open. A local shelf is a [`Source`] like any other.
#[derive(Debug, Default)]
pub struct Shelf {
    files: RwLock<HashMap<ContentHash, Arc<Offer>>>,
    /// Files that hold a part of a content each.
    parts: RwLock<HashMap<ContentHash, Vec<Arc<Offer>>>>,
    /// What was withdrawn but may be offered again, by path, so that a large file is hashed once only.
    withdrawn: Mutex<HashMap<PathBuf, Arc<Offer>>>,
}

#[derive(Debug)]
struct Offer {
    content: ContentHash,
    path: PathBuf,
    stamp: Stamp,
    /// The byte of the content that the file begins with.
    begins_at: u64,
    /// None if the file holds only a part of the content.
    manifest: Option<Manifest>,
}

impl Offer {
    fn has(&self, range: &Range<u64>) -> bool {
        range.start <= range.end && range.start >= self.begins_at && range.end - self.begins_at <= self.stamp.length
    }
}

/// By this we notice that a file is no longer what was hashed.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

/// A file cannot be offered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OfferError {
    /// The file cannot be opened or read.
    #[error("failed to read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The path leads to a directory, a pipe or the like.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// What was to be offered.
        path: PathBuf,
    },
    /// Someone wrote to the file while it was hashed.
    #[error("{} changed while it was read", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The file is longer than [`MAX_CONTENT_LENGTH`].
    #[error("{} has {length} bytes, files of up to {MAX_CONTENT_LENGTH} bytes can be transferred", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        length: u64,
    },
}

impl Shelf {
    /// Hashes a file and offers it from now on; it stays where it is, and must not be changed. One that is offered, or was
    /// [withdrawn](Self::withdraw), and has not changed since is not read again.
    ///
    /// # Errors
    ///
    /// The file cannot be read, changes meanwhile, or is too long.
    ///
    /// # Cancel safety
    ///
    /// When dropped, nothing is offered.
    pub async fn add(&self, path: impl Into<PathBuf>) -> Result<ContentHash, OfferError> {
        let path = path.into();
        let opened = blocking({
            let path = path.clone();
            move || open(&path)
        });
        let read_error = |source| OfferError::Read { path: path.clone(), source };
        let (file, metadata) = opened.await.map_err(read_error)?;
        if !metadata.is_file() {
            return Err(OfferError::NotAFile { path });
        }
        let (file, stamp) = (Arc::new(file), Stamp::of(&metadata));
        if stamp.length > MAX_CONTENT_LENGTH {
            return Err(OfferError::TooLong { path, length: stamp.length });
        }
        if let Some(offer) = self.hashed(&path).filter(|offer| offer.stamp == stamp) {
            let content = offer.content;
            self.insert(offer);
            return Ok(content);
        }
        let outline = Manifest::of_file(&file, stamp.length).await;
        let metadata = blocking(move || file.metadata()).await.map_err(read_error)?;
        if Stamp::of(&metadata) != stamp {
            return Err(OfferError::Changed { path });
        }
        let (content, manifest) = outline.map_err(read_error)?;
        self.insert(Arc::new(Offer { content, path, stamp, begins_at: 0, manifest: Some(manifest) }));
        Ok(content)
    }

    /// Offers a file that is said to hold the bytes of a content from `begins_at` on. It is not hashed: whoever fetches from
    /// here checks every byte anyway. It stays where it is, and must not be changed.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub async fn add_part(
        &self,
        path: impl Into<PathBuf>,
        content: ContentHash,
        begins_at: u64,
    ) -> Result<(), OfferError> {
        let path = path.into();
        let opened = blocking({
            let path = path.clone();
            move || open(&path)
        });
        let (_, metadata) = opened.await.map_err(|source| OfferError::Read { path: path.clone(), source })?;
        if !metadata.is_file() {
            return Err(OfferError::NotAFile { path });
        }
        let offer = Arc::new(Offer { content, path, stamp: Stamp::of(&metadata), begins_at, manifest: None });
        let mut parts = self.parts.write().unwrap_or_else(PoisonError::into_inner);
        let parts = parts.entry(content).or_default();
        parts.retain(|part| part.path != offer.path);
        parts.push(offer);
        Ok(())
    }

    /// Offers a content no longer, because its file is about to be deleted; readers that are open go on to their end.
    /// Returns whether it was offered.
    pub fn remove(&self, content: ContentHash) -> bool {
        self.take(content).is_some()
    }

    /// Offers a content and parts of it no longer, whose files stay and may be offered again; readers that are open go on to
    /// their end. Returns whether all of it was offered.
    pub fn withdraw(&self, content: ContentHash) -> bool {
        self.parts.write().unwrap_or_else(PoisonError::into_inner).remove(&content);
        let Some(offer) = self.take(content) else { return false };
        self.withdrawn().insert(offer.path.clone(), offer);
        true
    }

    /// Where the file of a content is; none if it is not offered, or has changed since it was.
    pub async fn path(&self, content: ContentHash) -> Option<PathBuf> {
        let offer = self.offer(content).ok()?;
        let path = offer.path.clone();
        let (_, metadata) = blocking(move || open(&path)).await.ok()?;
        (Stamp::of(&metadata) == offer.stamp).then(|| offer.path.clone())
    }

    /// The manifest of a content.
    ///
    /// # Errors
    ///
    /// The content is not offered.
    pub fn manifest(&self, content: ContentHash) -> Result<Manifest, SourceError> {
        self.offer(content)?.manifest.clone().ok_or(SourceError::NotOffered { content })
    }

    /// Opens a range of bytes of a content.
    ///
    /// # Errors
    ///
    /// The content is not offered, the range is not within it, or its file has changed or cannot be opened.
    pub async fn open_range(&self, content: ContentHash, range: Range<u64>) -> Result<ShelfReader, SourceError> {
        let offer = match self.offer(content) {
            Ok(offer) if offer.has(&range) => offer,
            Ok(offer) => return Err(SourceError::OutOfRange { content, range, length: offer.stamp.length }),
            Err(not_offered) => self.part(content, &range).ok_or(not_offered)?,
        };
        let begins_at = offer.begins_at;
        let opened = blocking({
            let path = offer.path.clone();
            move || open(&path)
        });
        match opened.await {
            Ok((_, metadata)) if Stamp::of(&metadata) != offer.stamp => {
                warn!(path = %offer.path.display(), "file changed since it was offered");
                Err(SourceError::Changed { content })
            }
            Ok((file, _)) => Ok(ShelfReader {
                file: Arc::new(OfferedFile { file, offer }),
                unread: range.start - begins_at..range.end - begins_at,
                ahead: None,
                current: Bytes::new(),
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(SourceError::Changed { content }),
            Err(error) => {
                warn!(path = %offer.path.display(), %error, "failed to open an offered file");
                Err(SourceError::Failed(format!("failed to open the file of content {content}: {error}")))
            }
        }
    }

    /// A part that has these bytes.
    fn part(&self, content: ContentHash, range: &Range<u64>) -> Option<Arc<Offer>> {
        let parts = self.parts.read().unwrap_or_else(PoisonError::into_inner);
        parts.get(&content)?.iter().find(|part| part.has(range)).cloned()
    }

    /// Offers a file, and no longer what was in it before: nobody could read that.
    fn insert(&self, offer: Arc<Offer>) {
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        files.retain(|_, old| old.path != offer.path);
        files.insert(offer.content, offer);
    }

    fn take(&self, content: ContentHash) -> Option<Arc<Offer>> {
        self.files.write().unwrap_or_else(PoisonError::into_inner).remove(&content)
    }

    /// What was offered of a path before.
    fn hashed(&self, path: &Path) -> Option<Arc<Offer>> {
        let withdrawn = self.withdrawn().remove(path);
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        withdrawn.or_else(|| files.values().find(|offer| offer.path == path).cloned())
    }

    fn withdrawn(&self) -> MutexGuard<'_, HashMap<PathBuf, Arc<Offer>>> {
        self.withdrawn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn offer(&self, content: ContentHash) -> Result<Arc<Offer>, SourceError> {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        files.get(&content).cloned().ok_or(SourceError::NotOffered { content })
    }
}

#[async_trait]
impl Source for Shelf {
    fn name(&self) -> &str {
        "this host"
    }

    async fn manifest(&self, content: ContentHash) -> Result<Manifest, SourceError> {
        self.manifest(content)
    }

    async fn read(
        &self,
        content: ContentHash,
        range: Range<u64>,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>, SourceError> {
        Ok(Box::new(self.open_range(content, range).await?))
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// Opens a file for reading; a pipe in its place does not block.
fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let file = File::options().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
    let metadata = file.metadata()?;
    Ok((file, metadata))
}

/// Reads a range of an offered content, one block ahead.
///
/// It fails with [`io::ErrorKind::InvalidData`] as soon as the file is seen to have changed.
#[derive(Debug)]
pub struct ShelfReader {
    file: Arc<OfferedFile>,
    /// In the file.
    unread: Range<u64>,
    ahead: Option<JoinHandle<io::Result<Bytes>>>,
    current: Bytes,
}

#[derive(Debug)]
struct OfferedFile {
    file: File,
    offer: Arc<Offer>,
}

impl ShelfReader {
    /// The next bytes of the range, of any length, or `None` at its end; for a transport that takes them without
    /// copying.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or has changed.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn next_block(&mut self) -> io::Result<Option<Bytes>> {
        std::future::poll_fn(|cx| self.poll_block(cx)).await?;
        Ok(Some(std::mem::take(&mut self.current)).filter(|block| !block.is_empty()))
    }

    /// Waits until `current` has bytes, or the range has ended.
    fn poll_block(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.current.is_empty() {
            return Poll::Ready(Ok(()));
        }
        if self.ahead.is_none() {
            self.ahead = self.read_ahead();
        }
        let Some(ahead) = &mut self.ahead else { return Poll::Ready(Ok(())) };
        let block = ready!(Pin::new(ahead).poll(cx)).map_err(io::Error::other);
        self.ahead = None;
        self.current = block??;
        self.ahead = self.read_ahead();
        Poll::Ready(Ok(()))
    }

    /// Starts to read the next block of the range, if there is one.
    fn read_ahead(&mut self) -> Option<JoinHandle<io::Result<Bytes>>> {
        let length = (self.unread.end - self.unread.start).min(BLOCK as u64) as usize;
        if length == 0 {
            return None;
        }
        let (file, position) = (Arc::clone(&self.file), self.unread.start);
        self.unread.start += length as u64;
        Some(tokio::task::spawn_blocking(move || file.read(position, length)))
    }
}

impl AsyncRead for ShelfReader {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_block(cx))?;
        let length = self.current.len().min(buffer.remaining());
        buffer.put_slice(&self.current[..length]);
        self.current.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl OfferedFile {
    fn read(&self, position: u64, length: usize) -> io::Result<Bytes> {
        let mut block = Vec::with_capacity(length);
        while block.len() < length {
            let at = position + block.len() as u64;
            match rustix::io::pread(&self.file, spare_capacity(&mut block), at) {
                Ok(0) => break,
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if Stamp::of(&self.file.metadata()?) != self.offer.stamp || block.len() != length {
            warn!(path = %self.offer.path.display(), "file changed while it was sent");
            let content = self.offer.content;
            return Err(io::Error::new(io::ErrorKind::InvalidData, SourceError::Changed { content }));
        }
        Ok(block.into())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::transfer::testing::bytes;

    const LENGTH: u64 = 3 * BLOCK as u64 + 7;

    async fn shelf_with(content: &[u8]) -> (tempfile::TempDir, PathBuf, Shelf, ContentHash) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("documents.json");
        std::fs::write(&path, content).unwrap();
        let shelf = Shelf::default();
        let hash = shelf.add(&path).await.unwrap();
        (directory, path, shelf, hash)
    }

    #[tokio::test]
    async fn any_range_is_read_as_it_is_in_the_file() {
        let content = bytes(LENGTH);
        let (_directory, _, shelf, hash) = shelf_with(&content).await;
        let block = BLOCK as u64;
        for range in [0..LENGTH, 0..0, 5..6, block..2 * block, block - 1..2 * block + 1, LENGTH..LENGTH] {
            let expected = &content[range.start as usize..range.end as usize];
            let mut read = Vec::new();
            shelf.open_range(hash, range.clone()).await.unwrap().read_to_end(&mut read).await.unwrap();
            assert_eq!(read, expected, "{range:?}");
            let mut reader = shelf.open_range(hash, range.clone()).await.unwrap();
            read.clear();
            while let Some(block) = reader.next_block().await.unwrap() {
                read.extend_from_slice(&block);
            }
            assert_eq!(read, expected, "{range:?}");
        }
    }

    #[tokio::test]
    async fn only_what_is_offered_can_be_read() {
        let (_directory, _, shelf, hash) = shelf_with(b"some").await;
        for range in [0..5, 5..5, Range { start: 3, end: 2 }, 0..u64::MAX] {
            let error = shelf.open_range(hash, range.clone()).await.unwrap_err();
            assert_eq!(error, SourceError::OutOfRange { content: hash, range, length: 4 });
        }
        let other = ContentHash::from_bytes([7; 32]);
        assert_eq!(shelf.open_range(other, 0..1).await.unwrap_err(), SourceError::NotOffered { content: other });
        assert!(shelf.remove(hash));
        assert!(!shelf.remove(hash));
        assert_eq!(shelf.manifest(hash).unwrap_err(), SourceError::NotOffered { content: hash });
    }

    #[tokio::test]
    async fn a_file_that_was_withdrawn_is_offered_again_without_being_read_unless_it_changed() {
        let (_directory, path, shelf, hash) = shelf_with(b"some").await;
        assert_eq!(shelf.path(hash).await, Some(path.clone()));
        assert!(shelf.withdraw(hash));
        assert!(!shelf.withdraw(hash));
        assert_eq!(shelf.manifest(hash).unwrap_err(), SourceError::NotOffered { content: hash });
        assert_eq!(shelf.path(hash).await, None);
        // Behind its back, other bytes of the same length take their place: only reading could tell.
        let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
        std::fs::write(&path, b"more").unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        assert_eq!(shelf.add(&path).await.unwrap(), hash);
        assert!(shelf.withdraw(hash));
        std::fs::write(&path, b"others").unwrap();
        let other = shelf.add(&path).await.unwrap();
        assert_ne!(other, hash);
        std::fs::write(&path, b"changed").unwrap();
        assert_eq!(shelf.path(other).await, None);
    }

    #[tokio::test]
    async fn what_a_file_had_before_it_changed_is_offered_no_longer() {
        let (_directory, path, shelf, hash) = shelf_with(b"some").await;
        std::fs::write(&path, b"others").unwrap();
        let other = shelf.add(&path).await.unwrap();
        assert_eq!(shelf.manifest(hash).unwrap_err(), SourceError::NotOffered { content: hash });
        assert_eq!(shelf.path(other).await, Some(path));
    }

    #[tokio::test]
    async fn a_part_is_read_by_its_place_in_the_content() {
        let content = bytes(1_000);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("part");
        std::fs::write(&path, &content[300..700]).unwrap();
        let (shelf, hash) = (Shelf::default(), crate::transfer::testing::hash(&content));
        shelf.add_part(&path, hash, 300).await.unwrap();
        for range in [300..700, 300..301, 450..600, 700..700] {
            let mut read = Vec::new();
            shelf.open_range(hash, range.clone()).await.unwrap().read_to_end(&mut read).await.unwrap();
            assert_eq!(read, content[range.start as usize..range.end as usize]);
        }
        let not_offered = SourceError::NotOffered { content: hash };
        for range in [299..300, 300..701, 0..1_000, Range { start: 600, end: 500 }] {
            assert_eq!(shelf.open_range(hash, range).await.unwrap_err(), not_offered);
        }
        assert_eq!(shelf.manifest(hash).unwrap_err(), not_offered);
        assert_eq!(shelf.path(hash).await, None);
        assert!(!shelf.withdraw(hash));
        assert_eq!(shelf.open_range(hash, 300..301).await.unwrap_err(), not_offered);
    }

    #[tokio::test]
    async fn a_file_that_changed_is_refused() {
        let (_directory, path, shelf, hash) = shelf_with(b"some").await;
        for change in ["other content", ""] {
            std::fs::write(&path, change).unwrap();
            assert_eq!(shelf.open_range(hash, 0..4).await.unwrap_err(), SourceError::Changed { content: hash });
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(shelf.open_range(hash, 0..4).await.unwrap_err(), SourceError::Changed { content: hash });
    }

    #[tokio::test]
    async fn a_file_that_changes_while_it_is_read_ends_the_reading() {
        let (_directory, path, shelf, hash) = shelf_with(&bytes(LENGTH)).await;
        let mut reader = shelf.open_range(hash, 0..LENGTH).await.unwrap();
        reader.next_block().await.unwrap();
        File::options().write(true).open(&path).unwrap().set_len(LENGTH - 1).unwrap();
        let error = loop {
            match reader.next_block().await {
                Ok(block) => assert!(block.is_some(), "the end was reached"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[tokio::test]
    async fn what_is_not_a_file_cannot_be_offered() {
        let directory = tempfile::tempdir().unwrap();
        let shelf = Shelf::default();
        assert!(matches!(shelf.add(directory.path()).await, Err(OfferError::NotAFile { .. })));
        assert!(matches!(shelf.add(directory.path().join("missing")).await, Err(OfferError::Read { .. })));
    }
}
