//! The timer of races.

use std::fmt;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rally_core::ClusterTime;
use rally_core::race::Timer;

use crate::CoordinatorClock;

/// Coordinator time with tokio's timer, which is good for a millisecond.
pub struct ClockTimer(CoordinatorClock);

impl ClockTimer {
    /// Follows a clock.
    pub fn new(clock: CoordinatorClock) -> Self {
        Self(clock)
    }
}

impl fmt::Debug for ClockTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClockTimer").field(&self.now()).finish()
    }
}

#[async_trait]
impl Timer for ClockTimer {
    fn now(&self) -> ClusterTime {
        (self.0)()
    }

    async fn sleep_until(&self, time: ClusterTime) {
        let wait: Duration = time.saturating_since(self.now());
        tokio::time::sleep_until((Instant::now() + wait).into()).await;
    }
}
