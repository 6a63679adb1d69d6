//! Requests at equal distances.

use std::time::Duration;

use super::{Scheduler, interval};

/// Rally's `deterministic`: one request every `1 / rate` seconds.
#[derive(Debug)]
pub(crate) struct Deterministic;

impl Scheduler for Deterministic {
    fn next(&mut self, last: Duration, rate: Option<f64>) -> Duration {
        rate.map_or(Duration::ZERO, |rate| last.saturating_add(interval(rate)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_keep_their_distance_even_if_the_rate_changes() {
        let mut scheduler = Deterministic;
        let mut last = Duration::ZERO;
        let mut due = Vec::new();
        for rate in [None, None, Some(10.0), Some(10.0), Some(2.0), Some(0.0)] {
            last = scheduler.next(last, rate);
            due.push(last.as_millis());
        }
        assert_eq!(due, [0, 0, 100, 200, 700, 700]);
    }
}
