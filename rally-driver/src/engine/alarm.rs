//! Precise waiting for many clients of one worker.
//!
//! tokio's timer wheel is a millisecond coarse. On Linux, each worker has a timer of the kernel that wakes it through the
//! same poll as its sockets. Elsewhere tokio's timer is used, which is tested on Linux, too.
//!
//! A thread that was asleep is late: waking a core takes from a few microseconds to a hundred, on virtual machines most of
//! all. So the timer is set to ring ahead of the earliest deadline by as much as most rings were late so far, and what is
//! left of the wait is spent polling sockets and clock in turns.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::task::yield_now;

use crate::timer::monotonic;

/// Wakes the clients of one worker at their deadlines, in nanoseconds of [`RequestTimer::now`].
///
/// [`Alarm::run`] has to be polled for anybody to be woken.
#[derive(Debug)]
pub(crate) struct Alarm<C = AlarmClock> {
    clock: C,
    /// By deadline and a number that makes it unique.
    sleepers: RefCell<BTreeMap<(u64, u64), Waker>>,
    next_number: Cell<u64>,
    /// When the clock is to ring, if it is set.
    armed: Cell<Option<u64>>,
    /// Whether [`Alarm::run`] looks at all sleepers in turns, so that nobody needs the clock.
    is_awake: Cell<bool>,
    lateness: Cell<Lateness>,
    idle: Cell<u64>,
}

/// How late this share of all rings is at most, in nanoseconds: a quantile that moves with each ring by no more than a step.
#[derive(Clone, Copy, Debug, Default)]
struct Lateness(u64);

impl Lateness {
    /// Rings in a hundred that are later than this.
    const BEYOND: u64 = 1;
    /// What is added when a ring was later, for each ring in a hundred that was not.
    const STEP: u64 = 100;
    /// More than this is never waited out awake.
    const MOST: u64 = 100_000;

    /// Takes in how late one ring was. One up for each that was beyond weighs as much as the many downs in between, so it
    /// settles where the shares say (Robbins and Monro 1951).
    fn after(self, late: u64) -> Self {
        if late > self.0 {
            Self((self.0 + Self::STEP * (100 - Self::BEYOND)).min(Self::MOST))
        } else {
            Self(self.0.saturating_sub(Self::STEP * Self::BEYOND))
        }
    }
}

/// A turn that took no longer than this had nothing to do but to look at the clock, in nanoseconds.
const IDLE_TURN: u64 = 5_000;

/// Rings once, at the time that it was set to last.
pub(crate) trait Clock: Sized {
    /// A clock that is not set.
    fn new() -> io::Result<Self>;

    /// Sets the time at which it rings, in place of the one before. One that has passed makes it ring at once.
    fn set(&self, deadline: u64) -> io::Result<()>;

    /// Waits until it rings.
    async fn rings(&self) -> io::Result<()>;
}

impl<C: Clock> Alarm<C> {
    /// An alarm without sleepers, for the worker whose runtime is entered.
    ///
    /// # Errors
    ///
    /// What the operating system says if it has no timer left.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            clock: C::new()?,
            sleepers: RefCell::default(),
            next_number: Cell::default(),
            armed: Cell::default(),
            is_awake: Cell::default(),
            lateness: Cell::default(),
            idle: Cell::default(),
        })
    }

    /// For how long the worker was awake with nothing to do, in nanoseconds since this was asked last.
    pub(crate) fn take_idle(&self) -> u64 {
        self.idle.take()
    }

    /// Sleeps until a deadline, or until [`Alarm::wake_all`]. A deadline that has passed is slept until, too, and rings at
    /// once.
    pub(crate) fn sleep_until(&self, deadline: u64) -> Sleep<'_, C> {
        Sleep { alarm: self, deadline, number: None }
    }

    /// Wakes everybody now; used when something has changed that sleepers have to look at.
    pub(crate) fn wake_all(&self) {
        for waker in std::mem::take(&mut *self.sleepers.borrow_mut()).into_values() {
            waker.wake();
        }
    }

    /// Wakes sleepers at their deadlines, for ever.
    ///
    /// # Errors
    ///
    /// What the operating system says if the timer cannot be set.
    pub(crate) async fn run(&self) -> io::Result<()> {
        loop {
            self.clock.rings().await?;
            let mut now = monotonic();
            if let Some(armed) = self.armed.take() {
                self.lateness.update(|lateness| lateness.after(now.saturating_sub(armed)));
            }
            self.is_awake.set(true);
            while let Some(deadline) = self.wake_due(now) {
                if deadline > now + self.lateness.get().0 {
                    self.arm(deadline, now)?;
                    break;
                }
                yield_now().await;
                let before = std::mem::replace(&mut now, monotonic());
                let turn = now - before;
                if turn <= IDLE_TURN {
                    self.idle.update(|idle| idle + turn);
                }
            }
            self.is_awake.set(false);
        }
    }

    /// Wakes those whose time has come, and gives the earliest deadline of the others.
    fn wake_due(&self, now: u64) -> Option<u64> {
        loop {
            let mut sleepers = self.sleepers.borrow_mut();
            let first = sleepers.first_entry()?;
            let (deadline, _) = *first.key();
            if deadline > now {
                return Some(deadline);
            }
            let waker = first.remove();
            drop(sleepers);
            waker.wake();
        }
    }

    /// Sees to it that the clock rings in time for a deadline.
    fn arm(&self, deadline: u64, now: u64) -> io::Result<()> {
        // One that is set to the past rings at once, and is not late by that.
        let ring = deadline.saturating_sub(self.lateness.get().0).max(now);
        if self.armed.get().is_none_or(|armed| ring < armed) {
            self.clock.set(ring)?;
            self.armed.set(Some(ring));
        }
        Ok(())
    }
}

/// A sleep of one client. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Sleep<'a, C> {
    alarm: &'a Alarm<C>,
    deadline: u64,
    /// Set while it is among the sleepers.
    number: Option<u64>,
}

impl<C: Clock> Future for Sleep<'_, C> {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(number) = self.number {
            let key = (self.deadline, number);
            return match self.alarm.sleepers.borrow_mut().get_mut(&key) {
                Some(waker) => {
                    waker.clone_from(context.waker());
                    Poll::Pending
                }
                None => {
                    self.number = None;
                    Poll::Ready(Ok(()))
                }
            };
        }
        let number = self.alarm.next_number.get();
        self.alarm.next_number.set(number + 1);
        self.alarm.sleepers.borrow_mut().insert((self.deadline, number), context.waker().clone());
        self.number = Some(number);
        if self.alarm.is_awake.get() {
            return Poll::Pending;
        }
        match self.alarm.arm(self.deadline, monotonic()) {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl<C> Drop for Sleep<'_, C> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.alarm.sleepers.borrow_mut().remove(&(self.deadline, number));
        }
    }
}

#[cfg(target_os = "linux")]
pub(crate) use linux::AlarmClock;
#[cfg(not(target_os = "linux"))]
pub(crate) use portable::AlarmClock;

#[cfg(target_os = "linux")]
mod linux {
    use std::io;
    use std::os::fd::OwnedFd;

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
    };
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    use super::Clock;

    /// One timer of the kernel.
    #[derive(Debug)]
    pub(crate) struct AlarmClock(AsyncFd<OwnedFd>);

    impl Clock for AlarmClock {
        fn new() -> io::Result<Self> {
            let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
            #[expect(unsafe_code, reason = "tokio cannot know that a descriptor stays open while it is registered")]
            // SAFETY: the timer is owned by the `AsyncFd`, which never gives it away, so it stays open until both go.
            let registered = unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) };
            Ok(Self(registered?))
        }

        fn set(&self, deadline: u64) -> io::Result<()> {
            // A timer that is set to 0 never rings.
            let deadline = deadline.max(1);
            let value =
                Timespec { tv_sec: (deadline / 1_000_000_000) as i64, tv_nsec: (deadline % 1_000_000_000) as _ };
            let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
            timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::ABSTIME, &once)?;
            Ok(())
        }

        /// Nothing is read: readiness is edge-triggered, and setting the timer clears its count.
        async fn rings(&self) -> io::Result<()> {
            self.0.readable().await?.clear_ready();
            Ok(())
        }
    }
}

#[cfg(any(test, not(target_os = "linux")))]
mod portable {
    use std::cell::Cell;
    use std::io;
    use std::time::Duration;

    use tokio::sync::Notify;
    use tokio::time::sleep;

    use super::Clock;
    use crate::RequestTimer;

    /// tokio's timer.
    #[derive(Debug, Default)]
    pub(crate) struct AlarmClock {
        deadline: Cell<Option<u64>>,
        changed: Notify,
    }

    impl Clock for AlarmClock {
        fn new() -> io::Result<Self> {
            Ok(Self::default())
        }

        fn set(&self, deadline: u64) -> io::Result<()> {
            self.deadline.set(Some(deadline));
            self.changed.notify_one();
            Ok(())
        }

        async fn rings(&self) -> io::Result<()> {
            loop {
                let wait = match self.deadline.get() {
                    Some(deadline) => Duration::from_nanos(deadline.saturating_sub(RequestTimer::now())),
                    None => Duration::MAX,
                };
                tokio::select! {
                    () = sleep(wait) => break,
                    () = self.changed.notified() => (),
                }
            }
            self.deadline.set(None);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::time::Duration;

    use futures_util::StreamExt;
    use futures_util::future::join;
    use futures_util::stream::FuturesUnordered;

    use super::*;
    use crate::RequestTimer;

    fn block_on<C: Clock>(test: impl AsyncFnOnce(&Alarm<C>)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let alarm = Alarm::new().unwrap();
            tokio::select! {
                result = alarm.run() => panic!("the alarm ended: {result:?}"),
                () = test(&alarm) => (),
            }
        });
    }

    /// The clock of this platform, and the one for platforms without any.
    macro_rules! on_both_clocks {
        ($($name:ident),+) => {
            $(
                #[test]
                fn $name() {
                    super::$name::<AlarmClock>();
                }
            )+
        };
    }

    mod on_the_clock_of_this_platform {
        use super::AlarmClock;

        on_both_clocks!(
            sleepers_wake_in_the_order_of_their_deadlines_and_never_early,
            a_sleep_that_is_dropped_does_not_hold_up_the_others,
            everybody_can_be_woken_early,
            a_deadline_that_has_passed_rings_at_once
        );
    }

    mod on_the_portable_clock {
        use super::super::portable::AlarmClock;

        on_both_clocks!(
            sleepers_wake_in_the_order_of_their_deadlines_and_never_early,
            a_sleep_that_is_dropped_does_not_hold_up_the_others,
            everybody_can_be_woken_early,
            a_deadline_that_has_passed_rings_at_once
        );
    }

    fn sleepers_wake_in_the_order_of_their_deadlines_and_never_early<C: Clock>() {
        block_on::<C>(async |alarm| {
            // Far enough away for all to be asleep by then; whoever is woken first is polled first.
            let (start, order) = (RequestTimer::now() + 50_000_000, RefCell::new(Vec::new()));
            let sleepers: FuturesUnordered<_> = [3_u64, 1, 2, 1, 0]
                .into_iter()
                .map(|milliseconds| {
                    let order = &order;
                    async move {
                        let deadline = start + milliseconds * 1_000_000;
                        alarm.sleep_until(deadline).await.unwrap();
                        assert!(RequestTimer::now() >= deadline);
                        order.borrow_mut().push(milliseconds);
                    }
                })
                .collect();
            sleepers.collect::<()>().await;
            assert_eq!(order.into_inner(), [0, 1, 1, 2, 3]);
        });
    }

    fn a_sleep_that_is_dropped_does_not_hold_up_the_others<C: Clock>() {
        block_on::<C>(async |alarm| {
            let start = RequestTimer::now();
            let dropped = tokio::time::timeout(Duration::from_millis(1), alarm.sleep_until(start + 3_600_000_000_000));
            assert!(dropped.await.is_err());
            assert!(alarm.sleepers.borrow().is_empty());
            alarm.sleep_until(start + 3_000_000).await.unwrap();
        });
    }

    fn everybody_can_be_woken_early<C: Clock>() {
        block_on::<C>(async |alarm| {
            let far = RequestTimer::now() + 3_600_000_000_000;
            let sleep = alarm.sleep_until(far);
            let (slept, ()) = join(sleep, async { alarm.wake_all() }).await;
            slept.unwrap();
        });
    }

    #[test]
    fn as_many_rings_are_later_than_the_lateness_as_it_says() {
        // Every hundredth ring is late by 80 µs, the others by up to 30 µs.
        let late = |ring: u64| if ring.is_multiple_of(100) { 80_000 } else { (ring * 7_919) % 30_000 };
        let settled = (0..20_000).map(late).fold(Lateness::default(), Lateness::after);
        assert!((27_000..45_000).contains(&settled.0), "{settled:?}");
        let hopeless = (0..1_000).map(|_| 5_000_000).fold(settled, Lateness::after);
        assert_eq!(hopeless.0, Lateness::MOST);
        let prompt = (0..2_000).map(|_| 0).fold(hopeless, Lateness::after);
        assert_eq!(prompt.0, 0);
    }

    #[test]
    fn who_waits_awake_is_idle_for_that_long() {
        block_on::<AlarmClock>(async |alarm| {
            // On a busy machine, something else may have a part in each of many turns.
            while alarm.idle.get() == 0 {
                alarm.lateness.set(Lateness(Lateness::MOST));
                alarm.sleep_until(RequestTimer::now() + 90_000).await.unwrap();
            }
            assert!(alarm.take_idle() > 0);
            assert_eq!(alarm.take_idle(), 0);
        });
    }

    fn a_deadline_that_has_passed_rings_at_once<C: Clock>() {
        block_on::<C>(async |alarm| {
            alarm.sleep_until(RequestTimer::now() - 1).await.unwrap();
            assert!(alarm.sleepers.borrow().is_empty());
        });
    }
}
