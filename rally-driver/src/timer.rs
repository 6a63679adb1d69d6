//! Marks when requests start and end, for whoever measures.

use std::cell::Cell;
use std::time::Duration;

/// First start and last end of the requests of one execution, in nanoseconds of the driver's monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first byte was written.
    pub sent: u64,
    /// The last byte was read.
    pub received: u64,
}

/// Collects the [`Span`] of one execution. The HTTP client marks it by itself; a runner for another protocol calls
/// [`RequestTimer::sent`] and [`RequestTimer::received`] around each of its requests.
#[derive(Debug, Default)]
pub struct RequestTimer {
    sent: Cell<Option<u64>>,
    received: Cell<u64>,
}

impl RequestTimer {
    /// Now, in nanoseconds of the driver's monotonic clock.
    #[must_use]
    pub fn now() -> u64 {
        #[cfg(test)]
        READS.with(|reads| reads.set(reads.get() + 1));
        monotonic()
    }

    /// A request starts now, which is given back. Only the first one of an execution counts.
    pub fn sent(&self) -> u64 {
        let now = Self::now();
        if self.sent.get().is_none() {
            self.sent.set(Some(now));
        }
        now
    }

    /// A request ends now: its last byte was read, or it failed. The last one counts.
    pub fn received(&self) {
        self.received.set(Self::now());
    }

    /// Counts requests that another timer has marked: the first start and the last end stand.
    pub fn add(&self, span: Span) {
        self.sent.set(Some(self.sent.get().map_or(span.sent, |sent| sent.min(span.sent))));
        self.received.set(self.received.get().max(span.received));
    }

    /// Takes what was marked and makes ready for the next execution. None if no request was marked.
    pub fn take(&self) -> Option<Span> {
        let sent = self.sent.take()?;
        Some(Span { sent, received: self.received.take().max(sent) })
    }
}

/// The driver's clock, in nanoseconds: absolute deadlines of the kernel's timers are on it, too.
pub(crate) fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// A time in nanoseconds, as [`RequestTimer::now`] counts them; those beyond five centuries become the longest one.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
thread_local! {
    /// How often this thread has read the clock.
    pub(crate) static READS: Cell<u64> = const { Cell::new(0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_other_timers_stretch_the_span_to_both_sides() {
        let timer = RequestTimer::default();
        for (sent, received) in [(30, 50), (10, 20), (40, 45)] {
            timer.add(Span { sent, received });
        }
        assert_eq!(timer.take(), Some(Span { sent: 10, received: 50 }));
        assert_eq!(timer.take(), None);
    }
}
