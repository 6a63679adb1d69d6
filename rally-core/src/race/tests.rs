//! Scripts for the race: what it says to each event.

use std::time::Duration;

use super::*;
use crate::metrics::{DriverHealth, Interval, Ledger, SampleType, TaskInterval};
use crate::track::{Challenge, ChallengeBuilder, Operation, ParallelBuilder, Task, TaskBuilder, Track};
use crate::{
    ClusterTime, DriverEvent, DriverEventKind, JoinPoint, RaceDriver, RaceEventKind, RaceOutcome, Role, RoleError,
    RoleErrorKind, Sequence, StopMode, TaskIndex,
};

const A: DriverIndex = DriverIndex(0);
const B: DriverIndex = DriverIndex(1);
const MS: u64 = 1_000_000;

pub(super) fn task(name: &str, clients: u32) -> TaskBuilder {
    Task::builder(Operation::builder("sleep").property("duration", 1)).name(name).clients(clients)
}

pub(super) fn challenge(build: impl FnOnce(ChallengeBuilder) -> ChallengeBuilder) -> Challenge {
    let challenge = build(Challenge::builder("c").default_challenge());
    let track = Track::builder("t").challenge(challenge).build().unwrap();
    track.challenge("c").unwrap().clone()
}

/// `index` runs on both drivers, then `search` on the first alone.
fn two_steps() -> Challenge {
    challenge(|challenge| challenge.task(task("index", 4)).task(task("search", 2)))
}

/// A race with two drivers of two clients each, its time, and the numbers of their events.
struct Script {
    race: Race,
    now: ClusterTime,
    sequences: [Sequence; 2],
    announced: Vec<RaceEventKind>,
}

impl Script {
    fn new(challenge: &Challenge, on_loss: OnDriverLoss) -> Self {
        let now = ClusterTime::from_nanos(0);
        let drivers = [("a", 0..2), ("b", 2..4)].map(|(name, clients)| RaceDriver { name: name.to_owned(), clients });
        let id = "4711".parse().unwrap();
        let (race, actions) = Race::start(id, challenge, drivers.to_vec(), on_loss, RaceTiming::default(), now);
        let mut script = Self { race, now, sequences: [Sequence::START; 2], announced: Vec::new() };
        assert_eq!(script.seen(actions), ["prepare a 0..2 with telemetry", "prepare b 2..4"]);
        script
    }

    fn prepared(challenge: &Challenge, on_loss: OnDriverLoss) -> Self {
        let mut script = Self::new(challenge, on_loss);
        assert_eq!(script.says(A, DriverEventKind::Prepared), [""; 0]);
        assert_eq!(script.says(B, DriverEventKind::Prepared), ["drive a 1 at 20 ms", "drive b 1 at 20 ms"]);
        script
    }

    /// What is to be done, as text; announcements are kept aside.
    fn seen(&mut self, actions: Vec<RaceAction>) -> Vec<String> {
        let name = |driver: DriverIndex| ["a", "b"][driver.0];
        let mut seen = Vec::new();
        for action in actions {
            seen.push(match action {
                RaceAction::Announce(event) => {
                    self.announced.push(event);
                    continue;
                }
                RaceAction::Prepare { driver, clients, telemetry } => {
                    format!("prepare {} {clients:?}{}", name(driver), if telemetry { " with telemetry" } else { "" })
                }
                RaceAction::Drive { driver, step } => {
                    format!("drive {} {} at {} ms", name(driver), step.until, step.start.as_nanos() / MS)
                }
                RaceAction::CompleteStep { driver, until } => format!("complete {} {until}", name(driver)),
                RaceAction::AttachTelemetry { driver } => format!("attach telemetry to {}", name(driver)),
                RaceAction::Stop { driver, mode } => format!("stop {} {mode:?}", name(driver)),
                RaceAction::Record { driver, at, interval } => {
                    let (driver, number, told) = (name(driver), interval.number, at.as_nanos() / MS);
                    if at == self.now {
                        format!("record {driver} {number}")
                    } else {
                        format!("record {driver} {number} of {told} ms")
                    }
                }
                RaceAction::RecordTelemetry { driver, .. } => format!("telemetry {}", name(driver)),
                RaceAction::FetchSegment { driver, .. } => format!("fetch {}", name(driver)),
            });
        }
        seen
    }

    fn says(&mut self, driver: DriverIndex, kind: DriverEventKind) -> Vec<String> {
        let sequence = self.sequences[driver.0].next();
        self.sequences[driver.0] = sequence;
        self.handle(RaceInput::Driver { driver, event: DriverEvent { sequence, at: self.now, kind } })
    }

    /// Like [`Self::says`], for an event that the driver told at another time.
    fn told(&mut self, driver: DriverIndex, at: u64, number: u64) -> Vec<String> {
        let sequence = self.sequences[driver.0].next();
        self.sequences[driver.0] = sequence;
        let kind = DriverEventKind::Measured(Box::new(Interval { number, ..Interval::default() }));
        let event = DriverEvent { sequence, at: ClusterTime::from_nanos(at * MS), kind };
        self.handle(RaceInput::Driver { driver, event })
    }

    fn reached(&mut self, driver: DriverIndex, at: u32) -> Vec<String> {
        self.says(driver, DriverEventKind::Reached { at: JoinPoint(at) })
    }

    fn measured(&mut self, driver: DriverIndex, number: u64, samples: u64, ledger: Ledger) -> Vec<String> {
        let task = TaskInterval { samples, ..empty_task() };
        let health = DriverHealth { in_flight: 2, ..DriverHealth::default() };
        let interval = Interval { number, tasks: vec![task], health, ledger, ..Interval::default() };
        self.says(driver, DriverEventKind::Measured(Box::new(interval)))
    }

    fn handle(&mut self, input: RaceInput) -> Vec<String> {
        let actions = self.race.handle(self.now, input);
        self.seen(actions)
    }

    fn cancel(&mut self, mode: StopMode) -> Vec<String> {
        self.handle(RaceInput::Cancelled(mode))
    }

    fn lose(&mut self, driver: DriverIndex) -> Vec<String> {
        self.handle(RaceInput::Lost { driver, error: error(RoleErrorKind::Unreachable, "it counts as dead") })
    }

    fn later(&mut self, time: Duration) -> Vec<String> {
        self.now = self.now + time;
        let actions = self.race.handle_timeout(self.now);
        self.seen(actions)
    }

    fn verdict(&self) -> &RaceVerdict {
        let verdict = self.race.verdict().expect("an end");
        assert_eq!(self.announced.last(), Some(&RaceEventKind::Ended(Box::new(verdict.clone()))));
        assert_eq!(self.race.next_deadline(), None);
        verdict
    }
}

fn error(kind: RoleErrorKind, cause: &str) -> RoleError {
    let (host, phase) = ("10.0.0.7".to_owned(), "report on race 4711".to_owned());
    RoleError { host, role: Role::LoadDriver, phase, kind, cause: cause.to_owned() }
}

pub(super) fn empty_task() -> TaskInterval {
    TaskInterval {
        task: TaskIndex(0),
        cluster: None,
        inner: None,
        sample_type: SampleType::Normal,
        service_time: Default::default(),
        processing_time: Default::default(),
        latency: Default::default(),
        samples: 0,
        failed: 0,
        unit: "ops".to_owned(),
        throughput: Vec::new(),
        reported_throughput: Vec::new(),
        errors: Vec::new(),
        duration: 0,
    }
}

#[test]
fn drivers_advance_only_when_all_have_reached_the_join_point() {
    let mut script = Script::prepared(&two_steps(), OnDriverLoss::Fail);
    assert_eq!(script.race.awaiting(), ["a", "b"]);
    assert_eq!(script.reached(A, 1), [""; 0]);
    assert_eq!(script.race.awaiting(), ["b"]);
    // A report of another join point changes nothing.
    assert_eq!(script.reached(A, 2), [""; 0]);
    assert_eq!(script.reached(B, 1), ["drive a 2 at 20 ms", "drive b 2 at 20 ms"]);
    script.reached(B, 2);
    assert_eq!(script.reached(A, 2), ["stop a Drain", "stop b Drain"]);
    script.says(A, DriverEventKind::Ended);
    assert!(script.race.verdict().is_none());
    script.says(B, DriverEventKind::Ended);
    let verdict = script.verdict();
    assert_eq!(
        (verdict.outcome, &verdict.errors[..], &verdict.shortfalls[..]),
        (RaceOutcome::Completed, &[][..], &[][..])
    );
}

#[test]
fn a_step_starts_later_the_farther_the_drivers_are_away() {
    let mut script = Script::new(&two_steps(), OnDriverLoss::Fail);
    for (driver, millis) in [(A, 7), (B, 180)] {
        let round_trip = Duration::from_millis(millis);
        assert_eq!(script.handle(RaceInput::Answered { driver, round_trip }), [""; 0]);
    }
    script.says(A, DriverEventKind::Prepared);
    assert_eq!(script.says(B, DriverEventKind::Prepared), ["drive a 1 at 200 ms", "drive b 1 at 200 ms"]);
}

#[test]
fn what_was_measured_has_the_time_at_which_it_was_told_even_if_it_arrives_late() {
    let mut script = Script::prepared(&two_steps(), OnDriverLoss::Fail);
    script.later(Duration::from_secs(2));
    assert_eq!(script.told(A, 1_000, 1), ["record a 1 of 1000 ms"]);
    // A clock that is ahead.
    assert_eq!(script.told(A, 60_000, 2), ["record a 2"]);
}

#[test]
fn what_comes_twice_or_out_of_order_changes_nothing() {
    let mut script = Script::prepared(&two_steps(), OnDriverLoss::Fail);
    let full = Ledger { made: 5, merged: 5, ..Ledger::default() };
    assert_eq!(script.measured(A, 1, 5, full), ["record a 1"]);
    // The same number again under a new sequence, then an event from before, then one with a gap.
    assert_eq!(script.measured(A, 1, 5, full), [""; 0]);
    let taken = script.race.taken(A);
    for sequence in [Sequence(1), taken, Sequence(taken.0 + 2)] {
        let event = DriverEvent { sequence, at: script.now, kind: DriverEventKind::Reached { at: JoinPoint(1) } };
        assert_eq!(script.handle(RaceInput::Driver { driver: A, event }), [""; 0]);
        assert_eq!(script.race.taken(A), taken);
    }
    assert_eq!(script.race.awaiting(), ["a", "b"]);
}

#[test]
fn completed_by_a_task_waits_for_all_drivers_that_run_it() {
    let parallel = || ParallelBuilder::new().task(task("index", 3)).task(task("search", 1)).completed_by("index");
    let challenge = challenge(|challenge| challenge.parallel(parallel()));
    let completed = |task| DriverEventKind::TaskCompleted { until: JoinPoint(1), task: TaskIndex(task) };
    let mut script = Script::prepared(&challenge, OnDriverLoss::Fail);
    assert_eq!(script.says(B, completed(1)), [""; 0]);
    assert_eq!(script.says(B, completed(0)), [""; 0]);
    // The first driver has nothing but the task: it is at the join point, and only the other is told.
    assert_eq!(script.reached(A, 1), ["complete b 1"]);
    assert_eq!(script.says(B, completed(0)), [""; 0]);
    assert_eq!(script.reached(B, 1), ["stop a Drain", "stop b Drain"]);

    // A lost driver is not waited for.
    let mut script = Script::prepared(&challenge, OnDriverLoss::Continue);
    script.says(B, completed(0));
    assert_eq!(script.lose(A), ["stop a Now", "attach telemetry to b", "complete b 1"]);
}

#[test]
fn completed_by_any_ends_with_the_first_task_but_not_with_a_driver_without_one() {
    let parallel = || {
        let tasks = ParallelBuilder::new().task(task("index", 1)).task(task("search", 1));
        tasks.completed_by("any")
    };
    let challenge = challenge(|challenge| challenge.parallel(parallel()).task(task("wide", 4)));
    let completed = DriverEventKind::TaskCompleted { until: JoinPoint(1), task: TaskIndex(1) };
    let mut script = Script::prepared(&challenge, OnDriverLoss::Fail);
    assert_eq!(script.reached(B, 1), [""; 0]);
    assert_eq!(script.says(A, completed), ["complete a 1"]);
    assert_eq!(script.reached(A, 1), ["drive a 2 at 20 ms", "drive b 2 at 20 ms"]);
}

#[test]
fn cancelling_drains_at_first_and_stops_at_once_the_second_time() {
    let mut script = Script::prepared(&two_steps(), OnDriverLoss::Fail);
    assert_eq!(script.cancel(StopMode::Drain), ["stop a Drain", "stop b Drain"]);
    assert_eq!(script.cancel(StopMode::Drain), [""; 0]);
    script.says(A, DriverEventKind::Ended);
    assert_eq!(script.cancel(StopMode::Now), ["stop b Now"]);
    script.says(B, DriverEventKind::Ended);
    assert_eq!(script.verdict().outcome, RaceOutcome::Cancelled);
    assert_eq!(script.cancel(StopMode::Now), [""; 0]);
}

#[test]
fn a_race_that_is_cancelled_ends_in_time_whether_drivers_answer_or_not() {
    let mut script = Script::prepared(&two_steps(), OnDriverLoss::Fail);
    script.cancel(StopMode::Drain);
    let timing = RaceTiming::default();
    assert_eq!(script.later(timing.drain_within - Duration::from_nanos(1)), [""; 0]);
    assert_eq!(script.later(Duration::from_nanos(1)), ["stop a Now", "stop b Now"]);
    script.says(B, DriverEventKind::Ended);
    script.later(timing.stop_within);
    let verdict = script.verdict();
    assert_eq!(verdict.outcome, RaceOutcome::Cancelled);
    let [Shortfall::Overdue { driver, within, untold: Some(untold) }] = &verdict.shortfalls[..] else {
        panic!("{verdict:?}")
    };
    assert_eq!((driver.as_str(), *within), ("a", timing.stop_within));
    assert_eq!(untold.within, timing.drain_within + timing.stop_within - timing.lead);
}

#[test]
fn a_lost_driver_fails_the_race_with_its_name_and_step_and_keeps_what_was_measured() {
    let mut script = Script::prepared(&two_steps(), OnDriverLoss::Fail);
    let full = |samples| Ledger { made: samples, merged: samples, ..Ledger::default() };
    script.now = script.now + RaceTiming::default().lead + Duration::from_millis(500);
    script.measured(A, 1, 5, full(5));
    script.measured(B, 1, 7, full(7));
    script.now = script.now + Duration::from_millis(5_250);
    assert_eq!(script.lose(B), ["stop a Now", "stop b Now"]);
    // What the other one still has is kept, too.
    assert_eq!(script.measured(A, 2, 3, full(8)), ["record a 2"]);
    script.says(A, DriverEventKind::Ended);
    let verdict = script.verdict();
    assert_eq!(verdict.outcome, RaceOutcome::Failed);
    let texts: Vec<_> = verdict.errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "load driver on b could not drive step 1 (index) of race 4711: it could not report on race 4711: it counts as dead"
        ]
    );
    // It made 14 requests a second, and had two under way.
    let untold = Some(Untold { requests: 76, within: Duration::from_millis(5_250) });
    assert_eq!(verdict.shortfalls, [Shortfall::Unended { driver: "b".to_owned(), untold }]);
    assert_eq!(
        verdict.shortfalls[0].to_string(),
        "b never reported its end; its last measurements are missing: up to about 76 requests of the last 5.2 s"
    );
    assert_eq!(verdict.ledger, RaceLedger { made: 15, merged: 15, lost: 0 });
}

#[test]
fn a_race_goes_on_without_a_lost_driver_if_it_was_told_to_but_never_begins_without_one() {
    let mut script = Script::prepared(&two_steps(), OnDriverLoss::Continue);
    script.reached(A, 1);
    assert_eq!(script.lose(B), ["stop b Now", "drive a 2 at 20 ms"]);
    assert_eq!(script.reached(A, 2), ["stop a Drain"]);
    script.says(A, DriverEventKind::Ended);
    let verdict = script.verdict();
    assert_eq!(verdict.outcome, RaceOutcome::Incomplete);
    let untold = Some(Untold { requests: 0, within: Duration::ZERO });
    assert_eq!(verdict.shortfalls, [Shortfall::Driver { driver: "b".to_owned(), until: JoinPoint(1), untold }]);

    // One that had arrived had told everything, and so has one that is heard of after all.
    for is_late in [false, true] {
        let mut script = Script::prepared(&two_steps(), OnDriverLoss::Continue);
        if !is_late {
            script.reached(B, 1);
        }
        script.lose(B);
        if is_late {
            script.says(B, DriverEventKind::Ended);
        }
        script.reached(A, 1);
        script.reached(A, 2);
        script.says(A, DriverEventKind::Ended);
        let shortfalls = &script.verdict().shortfalls;
        assert!(matches!(shortfalls[..], [Shortfall::Driver { untold: None, .. }]), "{shortfalls:?}");
    }

    // Nor does it go on without any.
    let mut script = Script::prepared(&two_steps(), OnDriverLoss::Continue);
    script.lose(A);
    script.lose(B);
    assert_eq!(script.verdict().outcome, RaceOutcome::Failed);

    let mut script = Script::new(&two_steps(), OnDriverLoss::Continue);
    assert_eq!(script.lose(A), ["stop b Now", "stop a Now"]);
}

const ATTACHED: DriverEventKind = DriverEventKind::TelemetryAttached { has_devices: true };

#[test]
fn another_driver_goes_on_with_the_telemetry_of_one_that_is_lost_and_the_verdict_says_so() {
    let mut script = Script::prepared(&two_steps(), OnDriverLoss::Continue);
    script.reached(B, 1);
    assert_eq!(script.lose(A), ["stop a Now", "attach telemetry to b", "drive b 2 at 20 ms"]);
    script.says(B, ATTACHED);
    assert_eq!(script.reached(B, 2), ["stop b Drain"]);
    script.says(B, DriverEventKind::Ended);
    let telemetry = Shortfall::Telemetry { driver: "a".to_owned(), by: "b".to_owned() };
    assert!(script.verdict().shortfalls.contains(&telemetry), "{:?}", script.verdict());

    // Where there are no devices, nothing is missing.
    let mut script = Script::prepared(&two_steps(), OnDriverLoss::Continue);
    script.reached(B, 1);
    script.lose(A);
    script.says(B, DriverEventKind::TelemetryAttached { has_devices: false });
    script.reached(B, 2);
    script.says(B, DriverEventKind::Ended);
    assert!(!script.verdict().shortfalls.contains(&telemetry), "{:?}", script.verdict());
    // The telemetry of others is not concerned.
    let mut script = Script::prepared(&two_steps(), OnDriverLoss::Continue);
    assert_eq!(script.lose(B), ["stop b Now"]);
}

#[test]
fn a_race_does_not_end_before_whoever_takes_the_telemetry_over_has_looked_at_the_cluster() {
    let mut script = Script::prepared(&two_steps(), OnDriverLoss::Continue);
    script.reached(A, 1);
    script.reached(B, 1);
    // It waits at the end for longer than a driver at work may be silent.
    script.reached(B, 2);
    for _ in 0..3 {
        script.later(RaceTiming::default().drive_silence / 2);
        script.says(A, DriverEventKind::Noticed { message: "still there".to_owned() });
    }
    assert_eq!(script.lose(A), ["stop a Now", "attach telemetry to b"]);
    assert_eq!(script.later(RaceTiming::default().wait_is_news), [""; 0]);
    // What it said before it was asked does not count.
    assert_eq!(script.reached(B, 2), [""; 0]);
    assert_eq!(script.says(B, ATTACHED), [""; 0]);
    assert_eq!(script.says(B, DriverEventKind::Telemetry { json: b"[]".to_vec() }), ["telemetry b"]);
    assert_eq!(script.reached(B, 2), ["stop b Drain"]);
}

#[test]
fn a_driver_that_says_that_it_failed_fails_the_race_and_may_hand_over_the_rest() {
    let mut script = Script::prepared(&two_steps(), OnDriverLoss::Continue);
    let failed = DriverEventKind::Failed(error(RoleErrorKind::Failed, "no space left on device"));
    assert_eq!(script.says(B, failed), ["stop a Now", "stop b Now"]);
    script.says(A, DriverEventKind::Ended);
    assert_eq!(script.measured(B, 1, 2, Ledger { made: 2, merged: 2, ..Ledger::default() }), ["record b 1"]);
    script.says(B, DriverEventKind::Ended);
    let verdict = script.verdict();
    assert_eq!((verdict.outcome, &verdict.shortfalls[..]), (RaceOutcome::Failed, &[][..]));
    // The step is named once, although the driver has named its part of it, too.
    let texts: Vec<_> = verdict.errors.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["load driver on b could not drive step 1 (index) of race 4711: no space left on device"]);
}

#[test]
fn a_silent_driver_is_named_after_the_bound() {
    let timing = RaceTiming::default();
    let mut script = Script::prepared(&two_steps(), OnDriverLoss::Fail);
    script.reached(A, 1);
    let from_start = timing.drive_silence + timing.lead;
    assert_eq!(script.later(from_start - Duration::from_nanos(1)), [""; 0]);
    assert_eq!(script.later(Duration::from_nanos(1)), ["stop a Now", "stop b Now"]);
    script.says(A, DriverEventKind::Ended);
    let error = &script.verdict().errors[0];
    assert_eq!((error.host.as_str(), error.kind), ("b", RoleErrorKind::DeadlinePassed));
    assert_eq!(error.cause, "nothing was heard of it for 20 s");

    // Whoever reports is not silent.
    let mut script = Script::prepared(&two_steps(), OnDriverLoss::Fail);
    for _ in 0..5 {
        assert_eq!(script.later(timing.drive_silence / 2), [""; 0]);
        for driver in [A, B] {
            script.says(driver, DriverEventKind::Noticed { message: "still there".to_owned() });
        }
    }
}

#[test]
fn whoever_watches_is_told_whom_the_race_waits_for_and_when_fewer_are_missing() {
    let mut script = Script::new(&two_steps(), OnDriverLoss::Fail);
    let news = RaceTiming::default().wait_is_news;
    let waits = |script: &mut Script| -> Vec<String> {
        let announced = std::mem::take(&mut script.announced);
        let waits = announced.iter().filter_map(|event| match event {
            RaceEventKind::Waiting { drivers, since } => {
                Some(format!("{} since {} ms", drivers.join(", "), since.as_nanos() / MS))
            }
            _ => None,
        });
        waits.collect()
    };
    script.later(news - Duration::from_nanos(1));
    assert_eq!(waits(&mut script), [""; 0]);
    script.later(Duration::from_nanos(1));
    assert_eq!(waits(&mut script), ["a, b since 0 ms"]);
    script.says(A, DriverEventKind::Prepared);
    script.later(news);
    assert_eq!(waits(&mut script), ["b since 0 ms"]);
    script.later(10 * news);
    assert_eq!(waits(&mut script), [""; 0]);
    script.says(B, DriverEventKind::Prepared);

    // As long as all are at work, nobody waits.
    script.later(news);
    assert_eq!(waits(&mut script), [""; 0]);
    let arrived = script.now.as_nanos() / MS;
    script.reached(B, 1);
    script.later(news);
    assert_eq!(waits(&mut script), [format!("a since {arrived} ms")]);
    script.reached(A, 1);
    // The second has nothing to do, and arrives at once.
    script.reached(B, 2);
    script.later(news);
    assert_eq!(waits(&mut script), [""; 0]);
    script.reached(A, 2);
    script.says(A, DriverEventKind::Ended);
    script.later(news);
    assert_eq!(waits(&mut script).len(), 1);
    script.says(B, DriverEventKind::Ended);
    assert_eq!(script.race.next_deadline(), None);
}

#[test]
fn a_driver_that_fails_while_it_ends_makes_a_race_incomplete() {
    let mut script = Script::prepared(&two_steps(), OnDriverLoss::Fail);
    for at in [1, 2] {
        script.reached(A, at);
        script.reached(B, at);
    }
    script.says(A, DriverEventKind::Ended);
    script.says(B, DriverEventKind::Failed(error(RoleErrorKind::Failed, "worker 1 did not end")));
    script.says(B, DriverEventKind::Ended);
    let verdict = script.verdict();
    assert_eq!((verdict.outcome, verdict.errors.len()), (RaceOutcome::Incomplete, 1));
    let [shortfall] = &verdict.shortfalls[..] else { panic!("{verdict:?}") };
    assert!(shortfall.to_string().starts_with("b did not end in order: "), "{shortfall}");
    assert!(shortfall.to_string().ends_with("worker 1 did not end"), "{shortfall}");
}

#[test]
fn samples_that_are_missing_make_a_race_incomplete() {
    let ended = |number, made, merged, lost| {
        let mut script = Script::prepared(&two_steps(), OnDriverLoss::Fail);
        script.measured(A, number, merged, Ledger { made, merged, lost, ..Ledger::default() });
        for at in [1, 2] {
            script.reached(A, at);
            script.reached(B, at);
        }
        script.says(A, DriverEventKind::Ended);
        script.says(B, DriverEventKind::Ended);
        script.verdict().clone()
    };
    let driver = || "a".to_owned();
    assert_eq!(ended(1, 9, 9, 0).outcome, RaceOutcome::Completed);
    let lost = ended(1, 9, 7, 2);
    assert_eq!(lost.shortfalls, [Shortfall::Samples { driver: driver(), made: 9, merged: 7, lost: 2 }]);
    let missing = ended(3, 9, 9, 0);
    assert_eq!(missing.shortfalls, [Shortfall::Intervals { driver: driver(), missing: 2 }]);
    assert_eq!((lost.outcome, missing.outcome), (RaceOutcome::Incomplete, RaceOutcome::Incomplete));
}

#[test]
fn no_numbers_of_drivers_overflow() {
    let mut script = Script::prepared(&two_steps(), OnDriverLoss::Fail);
    let most = Ledger { made: u64::MAX, lost: u64::MAX, ..Ledger::default() };
    for driver in [A, B] {
        script.measured(driver, u64::MAX - 1, u64::MAX, most);
        script.measured(driver, u64::MAX, u64::MAX, most);
        // It has come before.
        script.measured(driver, u64::MAX, 1, Ledger::default());
    }
    for at in [1, 2] {
        script.reached(A, at);
        script.reached(B, at);
    }
    script.says(A, DriverEventKind::Ended);
    script.says(B, DriverEventKind::Ended);
    assert_eq!(script.verdict().ledger, RaceLedger { made: u64::MAX, merged: u64::MAX, lost: u64::MAX });
}
