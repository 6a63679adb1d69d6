//! Coordinator time on this host.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rally_core::ClusterTime;
use tracing::{debug, warn};

use crate::clock::{ClockFilter, ClockSample, LocalTime, Recorded};
use crate::protocol::wall_clock;
use crate::status::ClockEstimate;

/// The last part of a wait, which is slept on a thread of its own: tokio's timer only knows milliseconds.
const FINE_WAIT: Duration = Duration::from_millis(3);

/// How long a wait may sleep before it looks at the estimate again.
const COARSE_WAIT: Duration = Duration::from_millis(500);

/// What time the coordinator has, as far as this host knows.
///
/// A host's own time starts at its wall clock and follows its monotonic clock. On the coordinator that is coordinator
/// time; on a member, coordinator time is estimated from the round trips of its heartbeats.
#[derive(Debug)]
pub struct ClusterClock {
    anchor: Instant,
    wall_at_anchor: SystemTime,
    /// `None` on the coordinator.
    filter: Option<Mutex<ClockFilter>>,
}

/// Coordinator time is not known yet: this host has not exchanged a heartbeat with its coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("coordinator time is not known yet: no heartbeat has been answered so far")]
pub struct UnknownTime;

impl ClusterClock {
    /// The clock that all others follow.
    pub(crate) fn of_coordinator() -> Self {
        Self { anchor: Instant::now(), wall_at_anchor: SystemTime::now(), filter: None }
    }

    /// A clock that follows the coordinator's.
    pub(crate) fn of_member() -> Self {
        Self { filter: Some(Mutex::default()), ..Self::of_coordinator() }
    }

    /// This host's own time.
    pub(crate) fn local(&self) -> LocalTime {
        LocalTime::from_nanos(wall_clock(self.wall_at_anchor + self.anchor.elapsed()))
    }

    /// Takes one round trip into account.
    pub(crate) fn record(&self, sample: ClockSample) {
        if let Some(filter) = &self.filter {
            match filter.lock().unwrap_or_else(PoisonError::into_inner).record(sample) {
                Ok(Recorded::Followed) => (),
                Ok(Recorded::StartedOver) => warn!("the coordinator's clock or this host's was stepped"),
                Err(error) => debug!(%error, "a round trip says nothing about the clock"),
            }
        }
    }

    /// Forgets everything about the coordinator's clock, because it is another one now.
    pub(crate) fn reset(&self) {
        if let Some(filter) = &self.filter {
            *filter.lock().unwrap_or_else(PoisonError::into_inner) = ClockFilter::default();
        }
    }

    /// Coordinator time now.
    ///
    /// # Errors
    ///
    /// [`UnknownTime`] on a member before its first heartbeat is answered.
    pub fn now(&self) -> Result<ClusterTime, UnknownTime> {
        let local = self.local();
        self.with_filter(|filter| filter.to_cluster(local), || ClusterTime::from_nanos(local.as_nanos()))
    }

    /// Coordinator time minus this host's own, and how far that may be off; `None` until it is known, exactly zero on
    /// the coordinator.
    pub fn estimate(&self) -> Option<ClockEstimate> {
        let local = self.local();
        self.with_filter(|filter| filter.estimate(local), || ClockEstimate { offset: 0, error: 0 }).ok()
    }

    /// How far this host's wall clock was moved since the host started, in nanoseconds: by hand, or by a time service that
    /// steps it. The host's own time follows the monotonic clock and does not jump with it.
    pub fn wall_shift(&self) -> i64 {
        let (wall, own) = (wall_clock(SystemTime::now()), self.local().as_nanos());
        i64::try_from(i128::from(wall) - i128::from(own)).unwrap_or(if wall > own { i64::MAX } else { i64::MIN })
    }

    /// The shortest recent round trip to the coordinator.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        let filter = self.filter.as_ref()?;
        filter.lock().unwrap_or_else(PoisonError::into_inner).round_trip()
    }

    /// When, on this process's monotonic clock, the coordinator will have that time; a past time is now.
    ///
    /// # Errors
    ///
    /// [`UnknownTime`] on a member before its first heartbeat is answered.
    pub fn instant_of(&self, time: ClusterTime) -> Result<Instant, UnknownTime> {
        let now = Instant::now();
        Ok(now + time.saturating_since(self.now()?))
    }

    /// Waits until the coordinator has that time, following the estimate while it waits.
    ///
    /// # Errors
    ///
    /// [`UnknownTime`] on a member before its first heartbeat is answered.
    pub async fn at(&self, time: ClusterTime) -> Result<(), UnknownTime> {
        loop {
            let wait = self.instant_of(time)?.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                return Ok(());
            }
            match wait.checked_sub(FINE_WAIT) {
                Some(coarse) if !coarse.is_zero() => tokio::time::sleep(coarse.min(COARSE_WAIT)).await,
                _ => {
                    let slept = tokio::task::spawn_blocking(move || std::thread::sleep(wait)).await;
                    debug_assert!(slept.is_ok(), "sleeping does not panic");
                }
            }
        }
    }

    fn with_filter<T>(
        &self,
        estimated: impl FnOnce(&ClockFilter) -> Option<T>,
        own: impl FnOnce() -> T,
    ) -> Result<T, UnknownTime> {
        match &self.filter {
            None => Ok(own()),
            Some(filter) => estimated(&filter.lock().unwrap_or_else(PoisonError::into_inner)).ok_or(UnknownTime),
        }
    }
}
