//! Coordinator time for races.

use std::fmt;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rally_core::ClusterTime;
use rally_core::race::Timer;
use rally_driver::CoordinatorClock;

/// Coordinator time with tokio's timer, which is good for a millisecond.
pub struct HostTimer(CoordinatorClock);

impl HostTimer {
    /// Follows a clock.
    pub fn new(clock: CoordinatorClock) -> Self {
        Self(clock)
    }
}

impl fmt::Debug for HostTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HostTimer").field(&self.now()).finish()
    }
}

#[async_trait]
impl Timer for HostTimer {
    fn now(&self) -> ClusterTime {
        (self.0)()
    }

    async fn sleep_until(&self, time: ClusterTime) {
        let wait: Duration = time.saturating_since(self.now());
        tokio::time::sleep_until((Instant::now() + wait).into()).await;
    }
}
