//! The numbered events of one race, kept until they have arrived.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::{StreamExt, stream};
use rally_core::{ClusterTime, DriverEvent, DriverEventKind, EventStream, Sequence};
use tokio::sync::watch;

/// Events that somebody was given are kept in case the connection to them broke: about a minute's worth.
const DELIVERED_KEPT: usize = 64;

/// Of large ones fewer are kept, as many as have this many bytes together.
const DELIVERED_BYTES: usize = 1 << 20;

/// But so many in any case: a connection that is broken for longer than these take is not waited for.
const DELIVERED_AT_LEAST: usize = 16;

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
    /// Each in the encoding of postcard: the distributions of an interval take a tenth of their memory then.
    events: VecDeque<Box<[u8]>>,
    /// Bytes of all of them.
    bytes: usize,
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
    /// Appends an event. Nothing follows the end of the race: what is told later, such as by a thread that nobody waits for
    /// any more, is dropped.
    ///
    /// # Errors
    ///
    /// [`NobodyListens`] if too many events wait; this one is kept nevertheless.
    pub(crate) fn push(&self, at: ClusterTime, kind: DriverEventKind) -> Result<(), NobodyListens> {
        let mut state = self.lock();
        if state.has_ended {
            return Ok(());
        }
        state.last = state.last.next();
        let sequence = state.last;
        state.has_ended = matches!(kind, DriverEventKind::Ended);
        let event =
            postcard::to_stdvec(&DriverEvent { sequence, at, kind }).expect("an event can be written to memory");
        state.bytes += event.len();
        state.events.push_back(event.into());
        let waiting = (sequence.0 - state.delivered.0) as usize;
        while state.keeps_too_many(waiting) {
            state.forget_first();
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
        let oldest = state.oldest();
        if after.next() < oldest || after > state.last {
            return Err(Forgotten { after, oldest });
        }
        for _ in oldest.0..=after.0 {
            state.forget_first();
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

impl State {
    /// The number of the first event that is left; of the next one if none is.
    fn oldest(&self) -> Sequence {
        Sequence(self.last.0 + 1 - self.events.len() as u64)
    }

    /// Whether more are left than those that nobody was given yet and those that may be asked for again.
    fn keeps_too_many(&self, waiting: usize) -> bool {
        let delivered = self.events.len().saturating_sub(waiting);
        delivered > DELIVERED_KEPT || (delivered > DELIVERED_AT_LEAST && self.bytes > DELIVERED_BYTES)
    }

    fn forget_first(&mut self) {
        self.bytes -= self.events.pop_front().map_or(0, |event| event.len());
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
        let place = usize::try_from(sequence.0.checked_sub(state.oldest().0)?).ok()?;
        let event: DriverEvent = postcard::from_bytes(state.events.get(place)?).expect("the log has written the event");
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
    fn nothing_that_is_told_after_the_end_undoes_it() {
        let log = log(1);
        log.push(ClusterTime::from_nanos(0), DriverEventKind::Ended).unwrap();
        push(&log);
        assert!(log.has_ended());
        assert_eq!(ready(&mut log.follow(Sequence(0)).unwrap()), [1, 2]);
        assert!(log.follow(Sequence(2)).unwrap().next().now_or_never().is_some_and(|event| event.is_none()));
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
    fn of_large_events_fewer_are_kept() {
        let log = log(0);
        let mut stream = log.follow(Sequence(0)).unwrap();
        for number in 1..=200 {
            let message = "x".repeat(DELIVERED_BYTES / 32);
            log.push(ClusterTime::from_nanos(0), DriverEventKind::Noticed { message }).unwrap();
            assert_eq!(ready(&mut stream), [number]);
        }
        let state = log.lock();
        assert!((DELIVERED_AT_LEAST..=33).contains(&state.events.len()), "{}", state.events.len());
        assert_eq!(state.bytes, state.events.iter().map(|event| event.len()).sum::<usize>());
        drop(state);
        for number in 201..=300 {
            let message = "x".repeat(DELIVERED_BYTES);
            log.push(ClusterTime::from_nanos(0), DriverEventKind::Noticed { message }).unwrap();
            assert_eq!(ready(&mut stream), [number]);
        }
        assert_eq!(log.lock().events.len(), DELIVERED_AT_LEAST + 1);
    }

    #[test]
    fn events_that_nobody_takes_are_not_dropped_but_complained_about() {
        let log = log(WAITING_MAX as u64);
        assert!(log.push(ClusterTime::from_nanos(0), DriverEventKind::Prepared).is_err());
        assert_eq!(ready(&mut log.follow(Sequence(0)).unwrap()).len(), WAITING_MAX + 1);
    }
}
