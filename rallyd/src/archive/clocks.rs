//! The clocks of a race's hosts, and what their trouble means for its results.

use std::time::Duration;

use rally_net::{ClockEstimate, MAX_DRIFT_PPM};
use serde::Serialize;

use crate::duration::{show_duration, show_nanoseconds};

/// Starts of a step may differ by more than they should if a clock is not known as well as this: 5 ms. Just
/// after a host has joined, a busy machine tells no more than a millisecond or two.
const WELL_KNOWN: u64 = 5_000_000;

/// A wall clock that moves by more was set; time services only step it beyond 128 ms. 100 ms.
const WALL_JUMP: u64 = 100_000_000;

/// A host's clock at one moment; all in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct HostClock {
    /// Coordinator time minus the host's own.
    pub offset: i64,
    /// The true offset lies within this distance.
    pub error: u64,
    /// How far the wall clock was moved since the host's daemon started.
    pub wall_shift: i64,
}

impl HostClock {
    /// Of an estimate.
    #[must_use]
    pub fn new(estimate: ClockEstimate, wall_shift: i64) -> Self {
        Self { offset: estimate.offset, error: estimate.error, wall_shift }
    }

    /// Of the host whose clock is coordinator time.
    #[must_use]
    pub fn own(wall_shift: i64) -> Self {
        Self { offset: 0, error: 0, wall_shift }
    }
}

/// What was wrong with a host's clock between the begin and the end of a race, each as a sentence about `host`.
pub(crate) fn clock_trouble(
    host: &str,
    begin: Option<HostClock>,
    end: Option<HostClock>,
    elapsed: Duration,
) -> Vec<String> {
    let mut trouble = Vec::new();
    if let Some(error) = [begin, end].into_iter().flatten().map(|clock| clock.error).max()
        && error > WELL_KNOWN
    {
        trouble.push(format!(
            "{host}: its clock was only known to ± {}, so it may have begun steps that much earlier or later than others",
            show_nanoseconds(error)
        ));
    }
    if let (Some(begin), Some(end)) = (begin, end) {
        let moved = end.offset.abs_diff(begin.offset);
        let drift = (elapsed.as_nanos() * u128::from(MAX_DRIFT_PPM) / 1_000_000).try_into().unwrap_or(u64::MAX);
        if moved > begin.error.saturating_add(end.error).saturating_add(drift) {
            trouble.push(format!(
                "{host}: its clock moved by {} against the coordinator's during the race, more than clocks drift",
                show_nanoseconds(moved)
            ));
        }
        let shift = end.wall_shift.abs_diff(begin.wall_shift);
        if shift > WALL_JUMP {
            trouble.push(format!(
                "{host}: its wall clock was set by {} during the race; times of day in logs of that host are not those of \
                 the race",
                show_duration(Duration::from_nanos(shift))
            ));
        }
    }
    trouble
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    fn trouble(begin: (i64, u64, i64), end: (i64, u64, i64), seconds: u64) -> Vec<String> {
        let [begin, end] = [begin, end].map(|(offset, error, wall_shift)| HostClock { offset, error, wall_shift });
        clock_trouble("a", Some(begin), Some(end), Duration::from_secs(seconds))
    }

    #[test]
    fn clocks_that_are_far_apart_and_drift_are_no_trouble() {
        assert_eq!(trouble((300_000 * MS, 90_000, 7), (300_000 * MS + 500_000, 80_000, 9), 1), [""; 0]);
        assert_eq!(clock_trouble("a", None, None, Duration::ZERO), [""; 0]);
        // An hour at 100 ppm.
        assert_eq!(trouble((0, 90_000, 0), (360 * MS, 80_000, 0), 3_600), [""; 0]);
    }

    #[test]
    fn a_clock_that_is_not_known_well_or_moved_is_named() {
        let unknown = trouble((0, 90_000, 0), (0, 7_200_000, 0), 10);
        assert_eq!(unknown.len(), 1);
        assert!(unknown[0].starts_with("a: its clock was only known to ± 7.20 ms"), "{unknown:?}");
        let moved = trouble((0, 90_000, 0), (50 * MS, 80_000, 0), 10);
        assert!(moved[0].starts_with("a: its clock moved by 50 ms against the coordinator's"), "{moved:?}");
        let set = trouble((0, 0, 0), (0, 0, -120_000 * MS), 10);
        assert!(set[0].contains("its wall clock was set by 2 min during the race"), "{set:?}");
    }
}
