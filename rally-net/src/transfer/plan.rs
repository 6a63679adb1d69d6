//! Which source reads which groups.

use std::ops::Range;

/// Shares the groups of a content out among readers, each of which reads one run of neighbouring groups at a time.
///
/// A reader without work takes a run that nobody reads, else the back half of what another has longest to read, else it
/// reads the very group that another is reading; so one slow reader delays the end by no more than the time that a faster
/// one needs for a group. All of this within what it can read: a source may have a part of the content only. It does no I/O.
#[derive(Debug)]
pub(super) struct Plan {
    stored: Vec<bool>,
    missing: usize,
    /// Runs that nobody reads.
    open: Vec<Range<usize>>,
    /// The run of each reader; it is reading the first group of it. Empty for a reader without work.
    reading: Vec<Range<usize>>,
    /// The groups that each reader can read; empty for one that has failed.
    readable: Vec<Range<usize>>,
}

impl Plan {
    /// All groups for which `stored` is false are missing; `readable` has for each reader the groups that it can read.
    pub(super) fn new(stored: Vec<bool>, readable: Vec<Range<usize>>) -> Self {
        let mut open = Vec::new();
        let mut group = 0;
        for run in stored.chunk_by(|a, b| a == b) {
            if !run[0] {
                open.push(group..group + run.len());
            }
            group += run.len();
        }
        // Runs are taken from the end; begin with the beginning.
        open.reverse();
        let missing = stored.iter().filter(|stored| !**stored).count();
        Self { stored, missing, open, reading: vec![0..0; readable.len()], readable }
    }

    /// Whether every group is stored.
    pub(super) const fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// Gives an idle reader a run; its end may come earlier when others take from it. `None` if there is nothing to do
    /// now, though there may be when another reader fails.
    pub(super) fn claim(&mut self, reader: usize) -> Option<Range<usize>> {
        let readable = self.readable[reader].clone();
        let run = self.take(&readable).or_else(|| self.steal(&readable)).or_else(|| self.double(&readable))?;
        self.reading[reader] = run.clone();
        Some(run)
    }

    /// The reader has read the first group of its run; returns the next one, unless the run has ended.
    pub(super) fn advance(&mut self, reader: usize) -> Option<usize> {
        let run = &mut self.reading[reader];
        run.next();
        run.clone().next()
    }

    /// The reader cannot go on: others may have the rest of its run.
    pub(super) fn give_up(&mut self, reader: usize) {
        let run = std::mem::take(&mut self.reading[reader]);
        for group in run {
            self.reopen(group);
        }
    }

    /// The reader will never read again; returns whether the others can read all that is missing.
    pub(super) fn retire(&mut self, reader: usize) -> bool {
        self.readable[reader] = 0..0;
        let readable = |group| self.readable.iter().any(|readable| readable.contains(&group));
        self.stored.iter().enumerate().all(|(group, stored)| *stored || readable(group))
    }

    /// A group that was read turned out to be bad, so that it has to be read again.
    pub(super) fn reopen(&mut self, group: usize) {
        let read_by_another = self.reading.iter().any(|run| run.contains(&group));
        if self.stored[group] || read_by_another {
            return;
        }
        match self.open.last_mut() {
            Some(run) if run.end == group => run.end += 1,
            _ => self.open.push(group..group + 1),
        }
    }

    /// Notes that a group is stored; returns whether it was missing until now.
    pub(super) fn store(&mut self, group: usize) -> bool {
        let first = !std::mem::replace(&mut self.stored[group], true);
        self.missing -= usize::from(first);
        first
    }

    /// Takes what can be read of the first run that nobody reads.
    fn take(&mut self, readable: &Range<usize>) -> Option<Range<usize>> {
        let index = self.open.iter().rposition(|run| !common(run, readable).is_empty())?;
        let run = self.open[index].clone();
        let taken = common(&run, readable);
        let rest = [taken.end..run.end, run.start..taken.start].into_iter().filter(|rest| !rest.is_empty());
        self.open.splice(index..=index, rest);
        Some(taken)
    }

    /// Takes the back half of what can be read of another's run, but never the group that is being read.
    fn steal(&mut self, readable: &Range<usize>) -> Option<Range<usize>> {
        let rest = |run: &Range<usize>| common(&(run.start.saturating_add(1)..run.end), readable);
        let victim = self.reading.iter_mut().max_by_key(|run| rest(run).len())?;
        let rest = rest(victim);
        let taken = rest.end - rest.len().div_ceil(2)..rest.end;
        if taken.is_empty() {
            return None;
        }
        let behind = taken.end..std::mem::replace(&mut victim.end, taken.start);
        if !behind.is_empty() {
            self.open.push(behind);
        }
        Some(taken)
    }

    /// A group that only one reader is reading.
    fn double(&self, readable: &Range<usize>) -> Option<Range<usize>> {
        let read_by = |group: usize| self.reading.iter().filter(|run| run.contains(&group)).count();
        let alone = |group: &usize| !self.stored[*group] && readable.contains(group) && read_by(*group) == 1;
        self.reading.iter().filter(|run| !run.is_empty()).map(|run| run.start).find(alone).map(|group| group..group + 1)
    }
}

/// What two ranges have in common.
fn common(one: &Range<usize>, other: &Range<usize>) -> Range<usize> {
    let start = one.start.max(other.start);
    start..one.end.min(other.end).max(start)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn readers_share_what_is_missing() {
        let mut plan = Plan::new(vec![true, false, false, true, false, false, false, false, true], vec![0..9; 4]);
        assert_eq!(plan.claim(0), Some(1..3), "the first missing run");
        assert_eq!(plan.claim(1), Some(4..8), "the next missing run");
        assert_eq!(plan.claim(2), Some(6..8), "the back half of the longest run");
        assert_eq!(plan.advance(1), Some(5));
        assert_eq!(plan.advance(1), None, "6 belongs to another now");
        assert_eq!(plan.claim(1), Some(7..8), "the back half again");
        assert_eq!(plan.claim(3), Some(2..3));
    }

    #[test]
    fn the_last_group_is_read_twice_rather_than_waited_for() {
        let mut plan = Plan::new(vec![false], vec![0..1; 3]);
        assert_eq!(plan.claim(0), Some(0..1));
        assert_eq!(plan.claim(1), Some(0..1));
        assert_eq!(plan.claim(2), None, "twice is enough");
        plan.give_up(0);
        assert_eq!(plan.claim(0), Some(0..1), "the one who is left is backed up again");
        assert!(plan.store(0));
        assert!(!plan.store(0), "the second copy is not counted");
        assert!(plan.is_complete());
    }

    #[test]
    fn what_failed_is_open_again() {
        let mut plan = Plan::new(vec![false; 4], vec![0..4; 2]);
        assert_eq!(plan.claim(0), Some(0..4));
        assert_eq!(plan.advance(0), Some(1));
        plan.reopen(0);
        plan.give_up(0);
        let taken: Vec<_> = std::iter::from_fn(|| {
            let run = plan.claim(1)?;
            run.clone().for_each(|group| assert!(plan.store(group)));
            plan.give_up(1);
            Some(run)
        })
        .flatten()
        .collect();
        assert_eq!(taken, [0, 1, 2, 3]);
        assert!(plan.is_complete());
    }

    #[test]
    fn a_reader_with_a_part_takes_only_what_it_has_and_leaves_the_rest_to_others() {
        let mut plan = Plan::new(vec![false; 10], vec![0..10, 4..7, 4..7]);
        assert_eq!(plan.claim(1), Some(4..7), "what it has of the run that nobody reads");
        assert_eq!(plan.claim(0), Some(0..4), "what is left before it");
        assert_eq!(plan.claim(2), Some(6..7), "the back half of what another reads");
        plan.give_up(0);
        assert_eq!(plan.claim(0), Some(0..4), "what it did not read itself");

        let mut plan = Plan::new(vec![false; 10], vec![0..10, 4..7]);
        assert_eq!(plan.claim(0), Some(0..10));
        assert_eq!(plan.claim(1), Some(5..7), "the back half of what it can read of the run of another");
        assert_eq!((plan.open.len(), &plan.open[0]), (1, &(7..10)), "nobody reads what lies behind");
        assert_eq!(plan.reading[0], 0..5);
    }

    #[test]
    fn it_is_known_when_nobody_can_read_what_is_missing() {
        let mut plan = Plan::new(vec![true, false, false, false], vec![0..4, 0..3, 2..4]);
        assert!(plan.retire(0), "the two others have all");
        plan.store(3);
        assert!(plan.retire(2), "the one that is left has the two that are missing");
        assert!(!plan.retire(1));
    }

    proptest! {
        /// However readers interleave and fail, no missing group is forgotten, and none is read by more than two.
        #[test]
        fn every_missing_group_is_stored_in_the_end(
            stored in prop::collection::vec(any::<bool>(), 0..40),
            part in (0..40_usize, 0..40_usize),
            steps in prop::collection::vec((0..3_usize, 0..8_u8), 0..200),
        ) {
            let groups = stored.len();
            let part = part.0.min(groups)..part.1.min(groups).max(part.0.min(groups));
            let readable = [0..groups, part.clone(), 0..groups];
            let mut plan = Plan::new(stored.clone(), readable.to_vec());
            let mut running: Vec<Option<usize>> = vec![None; 3];
            // After the random steps, reader 0 alone finishes.
            let finish = std::iter::once((1, 7)).chain([(2, 7)]).chain(std::iter::repeat_n((0, 0), 200));
            for (reader, action) in steps.into_iter().chain(finish) {
                match (running[reader], action) {
                    (Some(_), 7) => {
                        plan.give_up(reader);
                        running[reader] = None;
                    }
                    (Some(group), 6) => {
                        running[reader] = plan.advance(reader);
                        plan.reopen(group);
                    }
                    (Some(group), _) => {
                        running[reader] = plan.advance(reader);
                        prop_assert!(!stored[group]);
                        plan.store(group);
                    }
                    (None, 7) => {}
                    (None, _) => {
                        let run = plan.claim(reader);
                        prop_assert!(run.iter().cloned().flatten().all(|group| readable[reader].contains(&group)));
                        running[reader] = run.map(|run| run.start);
                    }
                }
                for group in 0..stored.len() {
                    prop_assert!(running.iter().flatten().filter(|reading| **reading == group).count() <= 2);
                }
            }
            prop_assert!(plan.is_complete());
        }
    }
}
