//! What happened in each moment of a race, from intervals that do not come in the order of time.

use std::collections::BTreeMap;

/// Moments that may still grow. Drivers are about as far as each other; one that could not be reached for a while and was not
/// given up tells of what is no older than this many seconds.
const OPEN: usize = 16;

/// Collects what belongs to the same moment, such as a second, and gives it away when nothing more of it is to come.
#[derive(Clone, Debug)]
pub struct Moments<T> {
    open: BTreeMap<u64, T>,
    /// All before this one are over.
    from: u64,
}

impl<T> Default for Moments<T> {
    fn default() -> Self {
        Self { open: BTreeMap::new(), from: 0 }
    }
}

impl<T: Default> Moments<T> {
    /// A moment by its number, if it is not over.
    #[must_use]
    pub fn at(&mut self, number: u64) -> Option<&mut T> {
        (number >= self.from).then(|| self.open.entry(number).or_default())
    }

    /// A moment that is over; each is given once.
    pub fn over(&mut self) -> Option<(u64, T)> {
        let (number, moment) = (self.open.len() > OPEN).then(|| self.open.pop_first()).flatten()?;
        self.from = number.saturating_add(1);
        Some((number, moment))
    }

    /// The moments that are left.
    pub fn rest(&mut self) -> BTreeMap<u64, T> {
        std::mem::take(&mut self.open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_open_for_those_who_come_late_and_is_given_once() {
        let mut moments = Moments::<u64>::default();
        let (mut over, seconds) = (Vec::new(), OPEN as u64 + 3);
        for number in (0..seconds).chain(seconds - OPEN as u64..seconds) {
            *moments.at(number).unwrap() += 1;
            over.extend(moments.over());
        }
        assert_eq!(over, [(0, 1), (1, 1), (2, 1)]);
        assert!(moments.at(2).is_none());
        assert_eq!(moments.rest(), (3..seconds).map(|number| (number, 2)).collect());
    }
}
