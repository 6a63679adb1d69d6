//! The numbered events of one race, kept until they have arrived.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::{StreamExt, stream};
use rally_core::{ClusterTime, DriverEvent, DriverEventKind, EventStream, Sequence};
use tokio::sync::watch;

/// Events that somebody was given are kept in case the connection to them broke: about a minute's worth.
const DELIVERED_KEPT: usize = 64;

/// Events that nobody has taken yet. A coordinator that is gone is noticed long before.
const WAITING_MAX: usize = 1_000;

/// The events of one race.
#[derive(Debug)]
pub(crate) struct EventLog {
    state: Mutex<State>,
    last: watch::Sender<Sequence>,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<DriverEvent>,
    last: Sequence,
    /// The last event that a stream has given out.
    delivered: Sequence,
    /// Nothing follows the last event.
    has_ended: bool,
}

/// The events asked for are not there any more.
#[derive(Debug, thiserror::Error)]
#[error("the events after number {} are gone; the oldest one that is left has number {}", after.0, oldest.0)]
pub(crate) struct Forgotten {
    after: Sequence,
    oldest: Sequence,
}

/// Nobody takes the events.
#[derive(Debug, thiserror::Error)]
#[error("nobody has taken the last {WAITING_MAX} events of the race")]
pub(crate) struct NobodyListens;

impl Default for EventLog {
    fn default() -> Self {
        Self { state: Mutex::default(), last: watch::Sender::new(Sequence::START) }
    }
}

impl EventLog {
    /// Appends an event.
    ///
    /// # Errors
    ///
    /// [`NobodyListens`] if too many events wait; this one is kept nevertheless.
    pub(crate) fn push(&self, at: ClusterTime, kind: DriverEventKind) -> Result<(), NobodyListens> {
        let mut state = self.lock();
        state.last = state.last.next();
        let sequence = state.last;
        state.has_ended = matches!(kind, DriverEventKind::Ended);
        state.events.push_back(DriverEvent { sequence, at, kind });
        let waiting = (sequence.0 - state.delivered.0) as usize;
        while state.events.len() > waiting + DELIVERED_KEPT {
            state.events.pop_front();
        }
        drop(state);
        self.last.send_replace(sequence);
        if waiting > WAITING_MAX { Err(NobodyListens) } else { Ok(()) }
    }

    /// The events after a number, up to and including the last one of the race.
    ///
    /// # Errors
    ///
    /// [`Forgotten`] if some of them are gone, or if there never was such a number.
    pub(crate) fn follow(self: &Arc<Self>, after: Sequence) -> Result<EventStream<DriverEvent>, Forgotten> {
        let mut state = self.lock();
        let oldest = state.events.front().map_or(state.last.next(), |event| event.sequence);
        if after.next() < oldest || after > state.last {
            return Err(Forgotten { after, oldest });
        }
        while state.events.front().is_some_and(|event| event.sequence <= after) {
            state.events.pop_front();
        }
        state.delivered = state.delivered.max(after);
        let after = (!state.has_ended || after < state.last).then_some(after);
        drop(state);
        let position = Position { log: Arc::clone(self), grown: self.last.subscribe(), after };
        let events = stream::unfold(position, async |mut position| {
            let event = position.next().await?;
            Some((Ok(event), position))
        });
        Ok(Box::pin(events.fuse()))
    }

    /// Whether the race has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.lock().has_ended
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where one watcher is.
struct Position {
    log: Arc<EventLog>,
    grown: watch::Receiver<Sequence>,
    /// None behind the last event.
    after: Option<Sequence>,
}

impl Position {
    async fn next(&mut self) -> Option<DriverEvent> {
        let sequence = self.after?.next();
        // The sender lives in the log that is held here.
        self.grown.wait_for(|last| *last >= sequence).await.ok()?;
        let mut state = self.log.lock();
        // A watcher that came later may have said that this event arrived; then it is not for this one any more.
        let first = state.events.front()?.sequence;
        let event = state.events.get(usize::try_from(sequence.0.checked_sub(first.0)?).ok()?)?.clone();
        state.delivered = state.delivered.max(sequence);
        self.after = (!matches!(event.kind, DriverEventKind::Ended)).then_some(sequence);
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn log(events: u64) -> Arc<EventLog> {
        let log = Arc::new(EventLog::default());
        (0..events).for_each(|_| push(&log));
        log
    }

    fn push(log: &EventLog) {
        log.push(ClusterTime::from_nanos(0), DriverEventKind::Prepared).unwrap();
    }

    /// What a stream gives without waiting.
    fn ready(stream: &mut EventStream<DriverEvent>) -> Vec<u64> {
        std::iter::from_fn(|| stream.next().now_or_never()?).map(|event| event.unwrap().sequence.0).collect()
    }

    #[test]
    fn events_are_given_again_until_they_are_acknowledged() {
        let log = log(3);
        assert_eq!(ready(&mut log.follow(Sequence(0)).unwrap()), [1, 2, 3]);
        assert_eq!(ready(&mut log.follow(Sequence(0)).unwrap()), [1, 2, 3]);
        assert_eq!(ready(&mut log.follow(Sequence(2)).unwrap()), [3]);
        let forgotten = log.follow(Sequence(1)).map(|_| ()).unwrap_err();
        assert_eq!(
            forgotten.to_string(),
            "the events after number 1 are gone; the oldest one that is left has number 3"
        );
        assert!(log.follow(Sequence(4)).is_err());
    }

    #[test]
    fn a_stream_waits_for_what_comes_and_ends_with_the_race() {
        let log = log(1);
        let mut stream = log.follow(Sequence(0)).unwrap();
        assert_eq!(ready(&mut stream), [1]);
        push(&log);
        assert_eq!(ready(&mut stream), [2]);
        log.push(ClusterTime::from_nanos(0), DriverEventKind::Ended).unwrap();
        assert_eq!(ready(&mut stream), [3]);
        let is_over = |stream: &mut EventStream<_>| stream.next().now_or_never().is_some_and(|event| event.is_none());
        assert!(is_over(&mut stream));
        assert!(is_over(&mut log.follow(Sequence(3)).unwrap()));
    }

    #[test]
    fn memory_stays_bounded_while_a_watcher_follows() {
        let log = log(0);
        let mut stream = log.follow(Sequence(0)).unwrap();
        for number in 1..=5_000 {
            push(&log);
            assert_eq!(ready(&mut stream), [number]);
        }
        assert!(log.lock().events.len() <= DELIVERED_KEPT + 1);
    }

    #[test]
    fn events_that_nobody_takes_are_not_dropped_but_complained_about() {
        let log = log(WAITING_MAX as u64);
        assert!(log.push(ClusterTime::from_nanos(0), DriverEventKind::Prepared).is_err());
        assert_eq!(ready(&mut log.follow(Sequence(0)).unwrap()).len(), WAITING_MAX + 1);
    }
}
