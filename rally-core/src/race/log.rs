//! What is told of one race, for whoever watches it now or later.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_util::Stream;

use crate::{
    AwaitedDriver, ClusterTime, EventStream, RaceEvent, RaceEventKind, RaceId, RaceStatus, RoleError, Sequence,
    StepStatus, StopMode,
};

/// Notices that are kept; the oldest ones are forgotten, so that memory does not grow with the race.
const MAX_NOTICES: usize = 1000;

/// The events of one race, which can be asked for again, and the wish that it ends.
///
/// Of progress and of waits, only the last word is kept.
#[derive(Default)]
pub struct RaceLog {
    state: Mutex<LogState>,
}

#[derive(Default)]
struct LogState {
    events: VecDeque<RaceEvent>,
    notices: usize,
    last: Sequence,
    cancelled: Option<StopMode>,
    is_ended: bool,
    wakers: Vec<Waker>,
}

impl fmt::Debug for RaceLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("RaceLog").field("last", &state.last).field("is_ended", &state.is_ended).finish_non_exhaustive()
    }
}

impl RaceLog {
    /// Adds what happened, and tells everybody who follows.
    pub fn push(&self, at: ClusterTime, kind: RaceEventKind) {
        let mut state = self.lock();
        match &kind {
            RaceEventKind::Progress(_) => state.forget_first(|kind| matches!(kind, RaceEventKind::Progress(_))),
            RaceEventKind::Noticed { .. } => {
                state.notices += 1;
                if state.notices > MAX_NOTICES {
                    state.notices -= 1;
                    state.forget_first(|kind| matches!(kind, RaceEventKind::Noticed { .. }));
                }
            }
            RaceEventKind::Waiting { .. } => state.forget_first(|kind| matches!(kind, RaceEventKind::Waiting { .. })),
            RaceEventKind::Ended(_) => state.is_ended = true,
            RaceEventKind::Started { .. }
            | RaceEventKind::DriverPrepared { .. }
            | RaceEventKind::StepStarted { .. }
            | RaceEventKind::StepEnded { .. }
            | RaceEventKind::RoleFailed(_) => {}
        }
        let sequence = state.last.next();
        state.last = sequence;
        state.events.push_back(RaceEvent { sequence, at, kind });
        state.wake();
    }

    /// The events after a number, as they happen, up to the last one.
    #[must_use]
    pub fn follow(self: &Arc<Self>, after: Sequence) -> EventStream<RaceEvent> {
        Box::pin(Following { log: Arc::clone(self), after })
    }

    /// Asks for the end of the race. [`StopMode::Now`] is not taken back.
    pub fn cancel(&self, mode: StopMode) {
        let mut state = self.lock();
        if state.cancelled != Some(StopMode::Now) {
            state.cancelled = Some(mode);
            state.wake();
        }
    }

    /// Whether the last event has happened.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.lock().is_ended
    }

    /// How far the race is, which was started at `since`; none once it has ended.
    #[must_use]
    pub fn status(&self, race: &RaceId, since: ClusterTime, now: ClusterTime) -> Option<RaceStatus> {
        let state = self.lock();
        if state.is_ended {
            return None;
        }
        let (drivers, awaited) = (Vec::new(), Vec::new());
        let mut status = RaceStatus { race: race.clone(), since, now, drivers, step: None, awaited };
        let mut awaited: &[String] = &[];
        let mut said = BTreeMap::new();
        for event in &state.events {
            match &event.kind {
                RaceEventKind::Started { drivers, .. } => {
                    status.drivers.clone_from(drivers);
                    awaited = &[];
                }
                RaceEventKind::StepStarted { step, of, tasks } => {
                    let (step, of, tasks) = (*step, *of, tasks.clone());
                    status.step = Some(StepStatus { step, of, tasks, progress: Vec::new() });
                    awaited = &[];
                    said.clear();
                }
                RaceEventKind::Progress(progress) => {
                    if let Some(step) = &mut status.step {
                        step.progress.clone_from(progress);
                    }
                }
                RaceEventKind::Waiting { drivers, .. } => awaited = drivers,
                RaceEventKind::StepEnded { .. } => awaited = &[],
                RaceEventKind::Noticed { driver, message } if status.step.is_none() => {
                    said.insert(driver, message);
                }
                RaceEventKind::DriverPrepared { .. }
                | RaceEventKind::Noticed { .. }
                | RaceEventKind::RoleFailed(_)
                | RaceEventKind::Ended(_) => {}
            }
        }
        let awaits = |driver: &String| AwaitedDriver {
            driver: driver.clone(),
            said: said.get(driver).map(|message| (*message).clone()),
        };
        status.awaited = awaited.iter().map(awaits).collect();
        Some(status)
    }

    /// Waits until the race is cancelled in another way than `known`.
    pub async fn cancelled(&self, known: Option<StopMode>) -> StopMode {
        std::future::poll_fn(|context| {
            let mut state = self.lock();
            match state.cancelled.filter(|&mode| Some(mode) != known) {
                Some(mode) => Poll::Ready(mode),
                None => {
                    state.wait(context);
                    Poll::Pending
                }
            }
        })
        .await
    }

    fn lock(&self) -> MutexGuard<'_, LogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogState {
    fn forget_first(&mut self, is_old: impl Fn(&RaceEventKind) -> bool) {
        if let Some(index) = self.events.iter().position(|event| is_old(&event.kind)) {
            self.events.remove(index);
        }
    }

    fn wait(&mut self, context: &Context<'_>) {
        if !self.wakers.iter().any(|waker| waker.will_wake(context.waker())) {
            self.wakers.push(context.waker().clone());
        }
    }

    fn wake(&mut self) {
        self.wakers.drain(..).for_each(Waker::wake);
    }
}

struct Following {
    log: Arc<RaceLog>,
    after: Sequence,
}

impl Stream for Following {
    type Item = Result<RaceEvent, RoleError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let log = Arc::clone(&self.log);
        let mut state = log.lock();
        let next = state.events.partition_point(|event| event.sequence <= self.after);
        match state.events.get(next) {
            Some(event) => {
                self.after = event.sequence;
                Poll::Ready(Some(Ok(event.clone())))
            }
            None if state.is_ended => Poll::Ready(None),
            None => {
                state.wait(context);
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt};

    use super::*;
    use crate::race::RaceVerdict;
    use crate::{JoinPoint, RaceDriver, RaceOutcome, Role, RoleErrorKind, Step};

    fn at(nanos: u64) -> ClusterTime {
        ClusterTime::from_nanos(nanos)
    }

    fn notice(text: &str) -> RaceEventKind {
        RaceEventKind::Noticed { driver: "a".to_owned(), message: text.to_owned() }
    }

    /// The numbers of all events that are there.
    fn there(stream: &mut EventStream<RaceEvent>) -> Vec<u64> {
        let mut numbers = Vec::new();
        while let Some(Some(event)) = stream.next().now_or_never() {
            numbers.push(event.unwrap().sequence.0);
        }
        numbers
    }

    #[test]
    fn whoever_comes_late_hears_everything_but_progress_that_was_overtaken() {
        let log = Arc::new(RaceLog::default());
        let mut early = log.follow(Sequence::START);
        log.push(at(1), notice("one"));
        log.push(at(2), RaceEventKind::Progress(Vec::new()));
        assert_eq!(there(&mut early), [1, 2]);
        log.push(at(3), RaceEventKind::Progress(Vec::new()));
        log.push(at(4), notice("two"));
        assert_eq!(there(&mut early), [3, 4]);
        assert_eq!(there(&mut log.follow(Sequence::START)), [1, 3, 4]);
        assert_eq!(there(&mut log.follow(Sequence(2))), [3, 4]);
    }

    #[test]
    fn the_status_is_what_the_last_events_said() {
        let log = RaceLog::default();
        let race: RaceId = "one".parse().unwrap();
        let status = |log: &RaceLog| log.status(&race, at(1), at(9));
        assert_eq!(status(&log).unwrap().step, None);
        let drivers = vec![RaceDriver { name: "a".to_owned(), clients: 0..2 }];
        log.push(at(2), RaceEventKind::Started { challenge: "c".to_owned(), drivers: drivers.clone() });
        for until in [1, 2] {
            let step = Step { until: JoinPoint(until), start: at(3) };
            log.push(at(3), RaceEventKind::StepStarted { step, of: 2, tasks: Vec::new() });
        }
        let found = status(&log).unwrap();
        assert_eq!((found.drivers, found.since, found.now), (drivers, at(1), at(9)));
        let step = found.step.unwrap();
        assert_eq!((step.step.until, step.of, step.progress), (JoinPoint(2), 2, Vec::new()));
        let verdict = RaceVerdict { outcome: RaceOutcome::Completed, ..RaceVerdict::not_begun(lost()) };
        log.push(at(4), RaceEventKind::Ended(Box::new(verdict)));
        assert_eq!(status(&log), None);
    }

    #[test]
    fn the_status_names_whom_the_race_waits_for_and_what_they_said_while_they_prepare() {
        let log = Arc::new(RaceLog::default());
        let race: RaceId = "one".parse().unwrap();
        let awaited = |log: &RaceLog| {
            let awaited = log.status(&race, at(1), at(9)).unwrap().awaited;
            awaited.into_iter().map(|it| (it.driver, it.said.unwrap_or_default())).collect::<Vec<_>>()
        };
        let waiting = |drivers: &[&str]| {
            let drivers = drivers.iter().map(ToString::to_string).collect();
            RaceEventKind::Waiting { drivers, since: at(1) }
        };
        log.push(at(1), notice("downloading: 1.0 %"));
        log.push(at(2), notice("downloading: 2.0 %"));
        log.push(at(3), waiting(&["a", "b"]));
        let pair = |driver: &str, said: &str| (driver.to_owned(), said.to_owned());
        assert_eq!(awaited(&log), [pair("a", "downloading: 2.0 %"), pair("b", "")]);
        log.push(at(4), waiting(&["a"]));
        assert_eq!(awaited(&log), [pair("a", "downloading: 2.0 %")]);
        // Only the last wait is kept.
        assert_eq!(there(&mut log.follow(Sequence::START)), [1, 2, 4]);
        let step = Step { until: JoinPoint(1), start: at(5) };
        log.push(at(5), RaceEventKind::StepStarted { step, of: 1, tasks: Vec::new() });
        assert_eq!(awaited(&log), []);
        log.push(at(6), waiting(&["a"]));
        assert_eq!(awaited(&log), [pair("a", "")]);
        log.push(at(6), RaceEventKind::Started { challenge: "c".to_owned(), drivers: Vec::new() });
        assert_eq!(awaited(&log), [], "what was before the race is over once it begins");
        log.push(at(6), waiting(&["a"]));
        log.push(at(7), RaceEventKind::StepEnded { until: JoinPoint(1) });
        assert_eq!(awaited(&log), []);
    }

    fn lost() -> RoleError {
        let (role, kind) = (Role::LoadDriver, RoleErrorKind::Unreachable);
        RoleError { host: "a".to_owned(), role, phase: "race".to_owned(), kind, cause: "gone".to_owned() }
    }

    #[test]
    fn a_talkative_race_keeps_a_bounded_number_of_notices() {
        let log = Arc::new(RaceLog::default());
        for number in 0..3 * MAX_NOTICES as u64 {
            log.push(at(number), notice("again"));
        }
        assert_eq!(there(&mut log.follow(Sequence::START)).len(), MAX_NOTICES);
    }

    #[test]
    fn a_race_is_cancelled_once_and_then_at_once() {
        let log = RaceLog::default();
        assert_eq!(log.cancelled(None).now_or_never(), None);
        log.cancel(StopMode::Drain);
        assert_eq!(log.cancelled(None).now_or_never(), Some(StopMode::Drain));
        assert_eq!(log.cancelled(Some(StopMode::Drain)).now_or_never(), None);
        log.cancel(StopMode::Now);
        log.cancel(StopMode::Drain);
        assert_eq!(log.cancelled(Some(StopMode::Drain)).now_or_never(), Some(StopMode::Now));
    }
}
