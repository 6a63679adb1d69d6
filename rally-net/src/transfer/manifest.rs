//! The outline of a content: its length, and the hash of each group of its bytes.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use blake3::Hasher;
use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use rally_core::ContentHash;
use serde::{Deserialize, Serialize};

use super::blocking::blocking;

/// A group is at least this many bytes, so that handling one costs little beside its bytes.
pub(super) const SMALLEST_GROUP: u64 = 1 << 20;

/// A group is at most this many bytes; buffers are of this size.
pub(super) const LARGEST_GROUP: u64 = 4 << 20;

/// Groups grow with the content until there are this many; a content of up to 4 GiB has a manifest of up to 32 KiB.
const GROUPS_BEFORE_GROWTH: u64 = 1024;

/// A manifest has at most this many groups.
const MAX_GROUPS: u64 = 1 << 20;

/// The longest content that can be transferred, in bytes: 4 TiB.
pub const MAX_CONTENT_LENGTH: u64 = MAX_GROUPS * LARGEST_GROUP;

/// No manifest is longer than this when encoded with postcard, in bytes; that of a 500 GB file has 4 MB.
pub const MAX_MANIFEST_SIZE: usize = MAX_GROUPS as usize * blake3::OUT_LEN + 16;

/// Files are hashed in steps of this many bytes, which stay in the processor's cache.
const HASH_STEP: usize = 256 << 10;

/// The outline of a content: its length, and the hash of each group of its bytes.
///
/// BLAKE3 is a hash over a tree, and a group is a subtree of it: a power of two of bytes, between 1 MiB and 4 MiB
/// depending on the length. The receiver merges the groups' hashes into that of the content, so a manifest need not be
/// trusted, and then checks each group by itself. Cloning is cheap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "ManifestParts", into = "ManifestParts")]
pub struct Manifest {
    length: u64,
    /// One value for each group; none for a content of a single group, whose hash is that of the content.
    groups: Arc<[ChainingValue]>,
}

/// A manifest as it travels.
#[derive(Serialize, Deserialize)]
struct ManifestParts {
    length: u64,
    groups: Arc<[ChainingValue]>,
}

/// What was said to be a manifest does not fit together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// The content is longer than [`MAX_CONTENT_LENGTH`].
    #[error("a content of {length} bytes is too long, {MAX_CONTENT_LENGTH} bytes are the limit")]
    TooLong {
        /// The length that the manifest states, in bytes.
        length: u64,
    },
    /// The number of groups does not follow from the length.
    #[error("a content of {length} bytes has a manifest of {expected} hashes, not of {actual}")]
    GroupCount {
        /// The length that the manifest states, in bytes.
        length: u64,
        /// How many hashes belong to that length.
        expected: usize,
        /// How many there are.
        actual: usize,
    },
    /// The hashes of the groups do not make up that of the content.
    #[error("the manifest is not that of content {content}")]
    OtherContent {
        /// The content that was asked for.
        content: ContentHash,
    },
}

impl Manifest {
    /// Takes a length in bytes and the chaining value of each group; none for a content of a single group.
    ///
    /// # Errors
    ///
    /// The length is beyond [`MAX_CONTENT_LENGTH`], or it does not have as many groups.
    pub fn new(length: u64, groups: impl Into<Arc<[[u8; 32]]>>) -> Result<Self, ManifestError> {
        if length > MAX_CONTENT_LENGTH {
            return Err(ManifestError::TooLong { length });
        }
        let groups = groups.into();
        let expected = match group_count(length) {
            1 => 0,
            count => count,
        };
        if groups.len() != expected {
            return Err(ManifestError::GroupCount { length, expected, actual: groups.len() });
        }
        Ok(Self { length, groups })
    }

    /// The length of the content in bytes.
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Hashes `length` bytes of an open file, without occupying the runtime's threads.
    ///
    /// # Cancel safety
    ///
    /// When dropped, at most one group is still read.
    pub(super) async fn of_file(file: &Arc<File>, length: u64) -> io::Result<(ContentHash, Self)> {
        let mut groups = Vec::new();
        let mut group = 0;
        while group < group_count(length) {
            // Small groups are taken several at a time.
            let batch = group..group_count(length).min(group + (LARGEST_GROUP / group_length(length)) as usize);
            group = batch.end;
            let file = Arc::clone(file);
            let hashes = blocking(move || {
                batch.map(|group| hash_file(&file, 0, length, group)).collect::<io::Result<Vec<ChainingValue>>>()
            });
            groups.extend(hashes.await?);
        }
        match groups[..] {
            [] => Ok((ContentHash::from_bytes(*blake3::hash(&[]).as_bytes()), Self { length, groups: [].into() })),
            [root] => Ok((ContentHash::from_bytes(root), Self { length, groups: [].into() })),
            _ => Ok((root(&groups), Self { length, groups: groups.into() })),
        }
    }

    /// Checks that this is a manifest of `content`.
    ///
    /// This alone does not prove the length: see [`Tree`].
    pub(super) fn check(self, content: ContentHash) -> Result<Tree, ManifestError> {
        let plausible = match (self.length, &self.groups[..]) {
            (0, _) => content.as_bytes() == blake3::hash(&[]).as_bytes(),
            (_, []) => true,
            (_, groups) => root(groups) == content,
        };
        if plausible { Ok(Tree { content, manifest: self }) } else { Err(ManifestError::OtherContent { content }) }
    }
}

impl TryFrom<ManifestParts> for Manifest {
    type Error = ManifestError;

    fn try_from(parts: ManifestParts) -> Result<Self, Self::Error> {
        Self::new(parts.length, parts.groups)
    }
}

impl From<Manifest> for ManifestParts {
    fn from(Manifest { length, groups }: Manifest) -> Self {
        Self { length, groups }
    }
}

/// A manifest whose hashes make up that of the content.
///
/// A liar may still have merged neighbouring groups and stated a smaller length, or state another length within the
/// last group. Neither lets wrong bytes pass, because BLAKE3 tells chunks from inner nodes and counts the chunks, but
/// it would make honest sources look bad. Once one group has matched, everything up to its end is proven: its place in
/// the tree fixes the shape of all that lies to its left.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    content: ContentHash,
    manifest: Manifest,
}

impl Tree {
    /// The length of the content in bytes; proven by the last group only.
    pub(super) const fn length(&self) -> u64 {
        self.manifest.length
    }

    /// The number of groups.
    pub(super) fn group_count(&self) -> usize {
        group_count(self.manifest.length)
    }

    /// The length of every group but the last in bytes.
    pub(super) fn group_length(&self) -> u64 {
        group_length(self.manifest.length)
    }

    /// The bytes of a group, or of a run of groups.
    pub(super) fn bytes_of(&self, groups: Range<usize>) -> Range<u64> {
        let size = self.group_length();
        groups.start as u64 * size..(groups.end as u64 * size).min(self.manifest.length)
    }

    /// The groups that together cover a range of bytes.
    pub(super) fn groups_of(&self, bytes: &Range<u64>) -> Range<usize> {
        let size = self.group_length();
        (bytes.start / size) as usize..bytes.end.div_ceil(size) as usize
    }

    /// The groups that lie within a part of the content; all without one.
    pub(super) fn readable(&self, part: Option<Range<u64>>) -> Range<usize> {
        let Some(part) = part else { return 0..self.group_count() };
        let size = self.group_length();
        let start = part.start.div_ceil(size);
        let end = if part.end >= self.length() { self.group_count() as u64 } else { part.end / size };
        start as usize..end.max(start) as usize
    }

    /// Whether these are the bytes of the group.
    pub(super) fn matches(&self, group: usize, bytes: &[u8]) -> bool {
        let range = self.bytes_of(group..group + 1);
        bytes.len() as u64 == range.end - range.start && {
            let mut hasher = group_hasher(self.manifest.length, group);
            hasher.update(bytes);
            finish(&hasher, self.manifest.length) == *self.expected(group)
        }
    }

    /// Whether a file holds the bytes of the group; the file begins with byte `origin` of the content.
    pub(super) fn matches_file(&self, group: usize, file: &File, origin: u64) -> io::Result<bool> {
        match hash_file(file, origin, self.manifest.length, group) {
            Ok(hash) => Ok(hash == *self.expected(group)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn expected(&self, group: usize) -> &ChainingValue {
        self.manifest.groups.get(group).unwrap_or(self.content.as_bytes())
    }
}

/// The length of a group in bytes (the last may be shorter), for a content of this length.
fn group_length(length: u64) -> u64 {
    length.div_ceil(GROUPS_BEFORE_GROWTH).next_power_of_two().clamp(SMALLEST_GROUP, LARGEST_GROUP)
}

fn group_count(length: u64) -> usize {
    length.div_ceil(group_length(length)) as usize
}

/// A hasher for one group of a content of this length.
fn group_hasher(length: u64, group: usize) -> Hasher {
    let mut hasher = Hasher::new();
    hasher.set_input_offset(group as u64 * group_length(length));
    hasher
}

/// The hash of a group; one that is the whole content is the root of its tree.
fn finish(hasher: &Hasher, length: u64) -> ChainingValue {
    if group_count(length) == 1 { *hasher.finalize().as_bytes() } else { hasher.finalize_non_root() }
}

/// Hashes one group, read from a file that begins with byte `origin` of the content.
fn hash_file(file: &File, origin: u64, length: u64, group: usize) -> io::Result<ChainingValue> {
    let size = group_length(length);
    let mut position = group as u64 * size;
    let end = (position + size).min(length);
    let mut hasher = group_hasher(length, group);
    let mut buffer = vec![0; HASH_STEP];
    while position < end {
        let step = &mut buffer[..(end - position).min(HASH_STEP as u64) as usize];
        file.read_exact_at(step, position - origin)?;
        hasher.update(step);
        position += step.len() as u64;
    }
    Ok(finish(&hasher, length))
}

/// The hash of a content of at least two groups.
fn root(groups: &[ChainingValue]) -> ContentHash {
    let (left, right) = halves(groups);
    ContentHash::from_bytes(*merge_subtrees_root(&subtree(left), &subtree(right), Mode::Hash).as_bytes())
}

fn subtree(groups: &[ChainingValue]) -> ChainingValue {
    match groups {
        [group] => *group,
        _ => {
            let (left, right) = halves(groups);
            merge_subtrees_non_root(&subtree(left), &subtree(right), Mode::Hash)
        }
    }
}

/// BLAKE3 splits a tree so that the left side is the largest power of two that leaves something for the right.
fn halves(groups: &[ChainingValue]) -> (&[ChainingValue], &[ChainingValue]) {
    groups.split_at(groups.len().div_ceil(2).next_power_of_two())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::transfer::testing::bytes;

    const GROUP: u64 = SMALLEST_GROUP;

    async fn outline(content: &[u8]) -> (ContentHash, Manifest) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        Manifest::of_file(&Arc::new(file), content.len() as u64).await.unwrap()
    }

    #[tokio::test]
    async fn the_groups_make_up_the_plain_hash_of_any_length() {
        let lengths = [0, 1, 1024, GROUP - 1, GROUP, GROUP + 1, 2 * GROUP, 2 * GROUP + 1, 3 * GROUP, 7 * GROUP - 5];
        for length in lengths {
            let content = bytes(length);
            let (hash, manifest) = outline(&content).await;
            assert_eq!(hash.as_bytes(), blake3::hash(&content).as_bytes(), "{length}");
            let tree = manifest.check(hash).unwrap();
            assert_eq!(tree.group_count() as u64, length.div_ceil(GROUP), "{length}");
            for group in 0..tree.group_count() {
                let range = tree.bytes_of(group..group + 1);
                let mut group_bytes = content[range.start as usize..range.end as usize].to_vec();
                assert!(tree.matches(group, &group_bytes), "{length}, group {group}");
                group_bytes[0] ^= 1;
                assert!(!tree.matches(group, &group_bytes), "{length}, group {group}");
                assert!(!tree.matches(group, &[]), "{length}, group {group}");
            }
        }
    }

    #[test]
    fn groups_grow_with_the_content_and_the_manifest_stays_small() {
        for (length, group, count) in [
            (0, 1 << 20, 0),
            (1 << 30, 1 << 20, 1024),
            ((1 << 30) + 1, 2 << 20, 513),
            (4 << 30, 4 << 20, 1024),
            (500_000_000_000, 4 << 20, 119_210),
            (MAX_CONTENT_LENGTH, 4 << 20, 1 << 20),
        ] {
            assert_eq!((group_length(length), group_count(length)), (group, count), "{length}");
        }
    }

    #[tokio::test]
    async fn a_manifest_that_does_not_fit_together_is_refused() {
        let (hash, manifest) = outline(&bytes(3 * GROUP)).await;
        assert_eq!(
            Manifest::new(MAX_CONTENT_LENGTH + 1, []),
            Err(ManifestError::TooLong { length: MAX_CONTENT_LENGTH + 1 })
        );
        assert_eq!(
            Manifest::new(GROUP + 1, []),
            Err(ManifestError::GroupCount { length: GROUP + 1, expected: 2, actual: 0 })
        );
        let mut groups = manifest.groups.to_vec();
        groups.swap(0, 1);
        let swapped = Manifest::new(3 * GROUP, groups).unwrap();
        assert_eq!(swapped.check(hash).unwrap_err(), ManifestError::OtherContent { content: hash });
        assert!(Manifest::new(0, []).unwrap().check(hash).is_err());
    }

    #[tokio::test]
    async fn a_manifest_with_merged_groups_matches_no_bytes() {
        let content = bytes(4 * GROUP);
        let (hash, manifest) = outline(&content).await;
        let merged: Vec<_> = manifest.groups.chunks(2).map(subtree).collect();
        let tree = Manifest::new(2 * GROUP, merged).unwrap().check(hash).expect("the root is right");
        for group in 0..2 {
            for start in (0..4 * GROUP).step_by(GROUP as usize) {
                assert!(!tree.matches(group, &content[start as usize..][..GROUP as usize]));
            }
        }
    }

    #[tokio::test]
    async fn a_manifest_survives_the_wire_and_a_broken_one_does_not() {
        let (_, manifest) = outline(&bytes(3 * GROUP)).await;
        let encoded = postcard::to_stdvec(&manifest).unwrap();
        assert!(encoded.len() <= 3 * 32 + 16);
        assert_eq!(postcard::from_bytes::<Manifest>(&encoded).unwrap(), manifest);
        let parts = ManifestParts { length: 5 * GROUP, groups: Arc::clone(&manifest.groups) };
        let encoded = postcard::to_stdvec(&parts).unwrap();
        postcard::from_bytes::<Manifest>(&encoded).unwrap_err();
    }
}
