//! Who has been silent for how long, as an order.

/// Places (the indices of a `Slab`) in the order in which they were last heard of, the longest silent first.
///
/// Every operation costs the same, however many places there are: it is a ring of neighbours, each of which knows the
/// one before and the one behind, and fits the processor's cache for thousands of hosts.
#[derive(Debug)]
pub(super) struct Silence {
    /// The first one is where the ring begins and ends; that of a place stands behind it, at the place plus one. A place
    /// that is not in the ring is its own neighbour.
    links: Vec<Link>,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    before: u32,
    behind: u32,
}

impl Link {
    const fn to_itself(index: usize) -> Self {
        Self { before: index as u32, behind: index as u32 }
    }
}

impl Silence {
    /// Nobody.
    pub(super) fn new() -> Self {
        Self { links: vec![Link::to_itself(0)] }
    }

    /// The one that has been silent for longest.
    pub(super) fn longest(&self) -> Option<usize> {
        (self.links[0].behind as usize).checked_sub(1)
    }

    /// The place is heard of now: it goes to the end, wherever it was and whether or not it was there.
    pub(super) fn heard(&mut self, place: usize) {
        self.remove(place);
        let own = place + 1;
        self.links.extend((self.links.len()..=own).map(Link::to_itself));
        let last = self.links[0].before;
        self.links[own] = Link { before: last, behind: 0 };
        self.links[last as usize].behind = own as u32;
        self.links[0].before = own as u32;
    }

    /// Takes the place out, if it is there.
    pub(super) fn remove(&mut self, place: usize) {
        let own = place + 1;
        let Some(&Link { before, behind }) = self.links.get(own) else { return };
        self.links[before as usize].behind = behind;
        self.links[behind as usize].before = before;
        self.links[own] = Link::to_itself(own);
    }

    /// All places in order.
    #[cfg(test)]
    pub(super) fn places(&self) -> Vec<usize> {
        let next = |index: &usize| Some(self.links[*index].behind as usize);
        std::iter::successors(next(&0), next).take_while(|index| *index != 0).map(|index| index - 1).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn places_stand_in_the_order_in_which_they_were_last_heard_of(
            steps in prop::collection::vec((0..12_usize, prop::bool::weighted(0.7)), 0..200),
        ) {
            let mut silence = Silence::new();
            let mut expected = Vec::new();
            for (place, is_heard) in steps {
                expected.retain(|other| *other != place);
                if is_heard {
                    silence.heard(place);
                    expected.push(place);
                } else {
                    silence.remove(place);
                }
                prop_assert_eq!(silence.longest(), expected.first().copied());
                prop_assert_eq!(&silence.places(), &expected);
            }
        }
    }
}
