//! Ids of documents, some of which are used again so that they conflict.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Rate of the exponential distribution by which recent ids are preferred, for a recency of 1. Rally's value.
const RECENCY_SLOPE: f64 = 30.0;

/// The order in which new ids are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IdOrder {
    /// Ascending.
    Sequential,
    /// Shuffled once.
    Random,
}

/// How ids conflict.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Conflicts {
    pub(crate) order: IdOrder,
    /// The share of documents with an id that was used before, from 0 to 1.
    pub(crate) probability: f64,
    /// How much recent ids are preferred, from 0 (not at all) to 1.
    pub(crate) recency: f64,
}

/// Gives ids to the documents of one slice: those from `first` on, as many as there are documents.
#[derive(Clone, Debug)]
pub(crate) struct Ids {
    first: u64,
    used: u64,
    conflicts: Conflicts,
    shuffle: Shuffle,
    random: SmallRng,
}

impl Ids {
    pub(crate) fn new(conflicts: Conflicts, first: u64, documents: u64, seed: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let shuffle = Shuffle::new(documents, random.random());
        Self { first, used: 0, conflicts, shuffle, random }
    }

    /// The id of the next document, and whether it was used before.
    pub(crate) fn next(&mut self) -> (u64, bool) {
        let Conflicts { probability, recency, .. } = self.conflicts;
        if self.used == 0 || probability == 0.0 || self.random.random::<f64>() > probability {
            self.used += 1;
            return (self.id(self.used - 1), false);
        }
        let index = if recency == 0.0 {
            self.random.random_range(0..self.used)
        } else {
            // In (0, 1], so that the logarithm is finite.
            let uniform = 1.0 - self.random.random::<f64>();
            let age = (-uniform.ln() / (RECENCY_SLOPE * recency)).min(1.0);
            ((self.used - 1) as f64 * (1.0 - age)).round_ties_even() as u64
        };
        (self.id(index), true)
    }

    fn id(&self, index: u64) -> u64 {
        self.first
            + match self.conflicts.order {
                IdOrder::Sequential => index,
                IdOrder::Random => self.shuffle.at(index),
            }
    }
}

/// A random order of the numbers below `count` that takes no memory: a Feistel network over the next power of four,
/// applied until the result is below `count`.
#[derive(Clone, Debug)]
struct Shuffle {
    count: u64,
    /// Bits of each half.
    bits: u32,
    keys: [u64; 4],
}

impl Shuffle {
    fn new(count: u64, keys: [u64; 4]) -> Self {
        let bits = count.max(2).next_power_of_two().trailing_zeros().div_ceil(2);
        Self { count, bits, keys }
    }

    fn at(&self, index: u64) -> u64 {
        let mut number = index;
        loop {
            number = self.permute(number);
            if number < self.count {
                return number;
            }
        }
    }

    fn permute(&self, number: u64) -> u64 {
        let mask = (1 << self.bits) - 1;
        let (mut left, mut right) = (number >> self.bits, number & mask);
        for key in self.keys {
            (left, right) = (right, left ^ (scramble(right ^ key) & mask));
        }
        left << self.bits | right
    }
}

/// The finalizer of SplitMix64.
fn scramble(mut bits: u64) -> u64 {
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn ids(order: IdOrder, probability: f64, recency: f64, documents: u64) -> Vec<(u64, bool)> {
        let mut ids = Ids::new(Conflicts { order, probability, recency }, 1_000, documents, 7);
        (0..documents).map(|_| ids.next()).collect()
    }

    proptest! {
        #[test]
        fn new_ids_are_used_once_each_in_either_order(documents in 1_u64..2_000) {
            let sequential: Vec<u64> = ids(IdOrder::Sequential, 0.0, 0.0, documents).iter().map(|(id, _)| *id).collect();
            prop_assert_eq!(&sequential, &(1_000..1_000 + documents).collect::<Vec<_>>());
            let random: BTreeSet<u64> = ids(IdOrder::Random, 0.0, 0.0, documents).iter().map(|(id, _)| *id).collect();
            prop_assert_eq!(random.into_iter().collect::<Vec<_>>(), sequential);
        }

        #[test]
        fn only_ids_that_were_used_are_used_again(
            probability in 0.0..=1.0, recency in 0.0..=1.0, random: bool, documents in 1_u64..500,
        ) {
            let mut used = BTreeSet::new();
            let order = if random { IdOrder::Random } else { IdOrder::Sequential };
            for (id, conflicts) in ids(order, probability, recency, documents) {
                prop_assert!((1_000..1_000 + documents).contains(&id));
                prop_assert_eq!(used.insert(id), !conflicts);
            }
        }
    }

    #[test]
    fn a_share_of_the_documents_conflicts() {
        for (probability, expected) in [(0.0, 0..1), (0.25, 2_300..2_700), (1.0, 9_999..10_000)] {
            let conflicts = ids(IdOrder::Random, probability, 0.0, 10_000).iter().filter(|(_, again)| *again).count();
            assert!(expected.contains(&conflicts), "{probability}: {conflicts}");
        }
    }

    #[test]
    fn a_recency_prefers_ids_that_were_used_lately() {
        let mean_age = |recency| {
            let (mut newest, mut ages) = (0, Vec::new());
            for (id, conflicts) in ids(IdOrder::Sequential, 0.5, recency, 20_000) {
                if conflicts {
                    ages.push((newest - id) as f64 / (newest - 999) as f64);
                } else {
                    newest = id;
                }
            }
            ages.iter().sum::<f64>() / ages.len() as f64
        };
        let (any, recent) = (mean_age(0.0), mean_age(1.0));
        assert!((0.47..0.53).contains(&any), "{any}");
        // The mean of an exponential distribution of the rate 30.
        assert!((0.030..0.037).contains(&recent), "{recent}");
    }

    #[test]
    fn a_shuffled_order_is_no_order() {
        let random: Vec<u64> = ids(IdOrder::Random, 0.0, 0.0, 10_000).iter().map(|(id, _)| *id).collect();
        let rises = random.windows(2).filter(|pair| pair[0] < pair[1]).count();
        assert!((4_700..5_300).contains(&rises), "{rises}");
    }
}
