//! The roles of a race as traits; a remote role is just another implementation.

pub(crate) mod coordinator;
pub(crate) mod driver;
pub(crate) mod error;
pub(crate) mod provisioner;

use std::pin::Pin;

use futures_util::Stream;
use serde::{Deserialize, Serialize};

use crate::RoleError;

/// Events of a role, in order and without a gap.
///
/// Dropping it only ends the watching: the race goes on, and the same events can be asked for again by their
/// [`Sequence`]. An `Err` is the last item.
pub type EventStream<E> = Pin<Box<dyn Stream<Item = Result<E, RoleError>> + Send>>;

/// The number of an event of one role in one race, counted from 1; [`Sequence::START`] stands before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Sequence(pub u64);

impl Sequence {
    /// Before the first event.
    pub const START: Self = Self(0);

    /// The number after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// How to end what runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopMode {
    /// Let requests in flight finish within a bound, and hand over everything that was measured.
    Drain,
    /// At once; what was measured so far is still handed over.
    Now,
}
