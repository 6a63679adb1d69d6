//! What a fetch keeps of a content, and where.

use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::blocking::blocking;
use super::error::FetchError;
use super::manifest::{LARGEST_GROUP, Tree};
use super::part::Part;

/// The wanted bytes of a content, and the file that they are collected in; its methods block unless they are async.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) tree: Tree,
    pub(super) part: Part,
    /// The bytes of the content that are kept; the file begins with the first of them.
    pub(super) wanted: Range<u64>,
}

impl Store {
    /// The groups that cover what is wanted.
    pub(super) fn groups(&self) -> Range<usize> {
        self.tree.groups_of(&self.wanted)
    }

    /// How many bytes of a group are kept.
    pub(super) fn kept_length(&self, group: usize) -> u64 {
        let kept = self.kept(group);
        kept.end - kept.start
    }

    /// Writes what is wanted of a group, whose bytes have been verified.
    pub(super) fn write(&self, group: usize, bytes: &[u8]) -> io::Result<()> {
        let (range, kept) = (self.tree.bytes_of(group..group + 1), self.kept(group));
        let bytes = &bytes[(kept.start - range.start) as usize..(kept.end - range.start) as usize];
        self.part.file().write_all_at(bytes, kept.start - self.wanted.start)
    }

    /// Whether the file holds the group; never true for a group that is not kept as a whole.
    pub(super) fn holds(&self, group: usize) -> io::Result<bool> {
        let kept = self.kept(group);
        if kept != self.tree.bytes_of(group..group + 1) {
            return Ok(false);
        }
        let origin = self.wanted.start;
        Ok(self.part.has_data(kept.start - origin, kept.end - origin)
            && self.tree.matches_file(group, self.part.file(), origin)?)
    }

    /// Finds what an earlier fetch left: for each group of the content whether there is nothing more to do for it, and
    /// how many bytes that saves.
    pub(super) async fn resume(self: &Arc<Self>) -> Result<(Vec<bool>, u64), FetchError> {
        let mut stored = vec![true; self.tree.group_count()];
        let mut resumed = 0;
        let groups = self.groups();
        let step = (LARGEST_GROUP / self.tree.group_length()) as usize;
        for start in groups.clone().step_by(step) {
            let batch = start..groups.end.min(start + step);
            let store = Arc::clone(self);
            let look = batch.clone();
            let held = blocking(move || look.map(|group| store.holds(group)).collect::<io::Result<Vec<_>>>()).await;
            for (group, held) in batch.zip(held.map_err(|source| self.part.error("read", source))?) {
                stored[group] = held;
                resumed += if held { self.kept_length(group) } else { 0 };
            }
        }
        Ok((stored, resumed))
    }

    fn kept(&self, group: usize) -> Range<u64> {
        let range = self.tree.bytes_of(group..group + 1);
        range.start.max(self.wanted.start)..range.end.min(self.wanted.end)
    }
}
