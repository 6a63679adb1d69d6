//! Races over a simulated network, from one seed: whatever happens to drivers and network, every race ends in a verdict
//! that tells the truth.
//!
//! `RALLY_SIM_SEEDS` says how many seeds to try, `RALLY_SIM_SEED` runs a single one.

mod hosts;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::Rng;

use self::hosts::{Account, Coordinator, Driver, Host, LEASE_TERM, Plan, Truth};
use super::tests::{challenge, task};
use super::{OnDriverLoss, RaceLedger, RaceTiming, RaceVerdict, Shortfall};
use crate::sim::{LinkQuality, NodeId, SimClock, Simulation};
use crate::track::{Challenge, ParallelBuilder};
use crate::{RaceOutcome, StopMode};

/// Tried by default, each with three races; some seconds.
const SEEDS: u64 = 400;
/// Faults begin within this time of each race.
const TROUBLE: Duration = Duration::from_secs(15);
/// No race takes longer, whatever happens: preparing and running, all drivers silent one after the other, and the end.
const BOUND: Duration = Duration::from_secs(4 * 60);
/// Clocks are apart by up to this time.
const APART: Duration = Duration::from_secs(30 * 60);
/// Any clock is off by at most this rate.
const DRIFT_PPB: i32 = 200_000;
/// Requests under way may take this much longer than the lease of a driver.
const STOPS_WITHIN: Duration = Duration::from_secs(3);

/// Runs a scenario for many seeds on all cores; a failure names its seed and how to repeat it.
fn for_seeds(test: &str, scenario: impl Fn(u64) + Sync) {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number of seeds, or a seed"));
    if let Some(seed) = number("RALLY_SIM_SEED") {
        return scenario(seed);
    }
    let seeds = number("RALLY_SIM_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let seed = next.fetch_add(1, Ordering::Relaxed)
                    && seed < seeds
                {
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| scenario(seed))) {
                        next.store(seeds, Ordering::Relaxed);
                        eprintln!(
                            "seed {seed} failed; to repeat it:\n    \
                             RALLY_SIM_SEED={seed} cargo test -p rally-core --lib -- race::simulation::{test}"
                        );
                        resume_unwind(panic);
                    }
                }
            });
        }
    });
}

/// What is done to the hosts. Node 0 is the coordinator.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    Crash(usize),
    Restart(usize),
    Freeze(usize),
    Thaw(usize),
    Part(usize),
    Mend(usize),
    Degrade(usize),
    Improve(usize),
    Cancel(StopMode),
}

struct Cluster {
    sim: Simulation<Host>,
    /// What a clock without offset shows at the beginning.
    start: Instant,
    nodes: Vec<NodeId>,
    truth: Rc<RefCell<Truth>>,
    good: LinkQuality,
    /// Starts of the coordinator.
    epoch: u64,
    /// Since when there is no coordinator.
    orphaned: Option<Duration>,
}

impl Cluster {
    fn new(seed: u64, drivers: usize) -> Self {
        let start = Instant::now();
        let mut sim = Simulation::new(seed, start);
        let rng = sim.rng();
        let good = LinkQuality {
            delay: rng.random_range(Duration::from_micros(50)..Duration::from_millis(30)),
            jitter: rng.random_range(Duration::ZERO..Duration::from_millis(10)),
            loss: rng.random_range(0.0..0.05),
            duplication: rng.random_range(0.0..0.1),
            reordering: rng.random_range(0.0..0.1),
        };
        sim.set_default_quality(good.clone());
        let truth = Rc::new(RefCell::new(Truth::default()));
        let mut cluster = Self { sim, start, nodes: Vec::new(), truth, good, epoch: 0, orphaned: None };
        for index in 0..=drivers {
            let host = if index == 0 { cluster.new_coordinator() } else { cluster.driver(index) };
            let rng = cluster.sim.rng();
            let clock = SimClock {
                offset: rng.random_range(Duration::ZERO..APART),
                drift_ppb: rng.random_range(-DRIFT_PPB..=DRIFT_PPB),
            };
            let node = cluster.sim.add(host, clock);
            cluster.nodes.push(node);
        }
        cluster
    }

    fn new_coordinator(&mut self) -> Host {
        self.epoch += 1;
        Host::Coordinator(Box::new(Coordinator::new(self.start, self.epoch, Rc::clone(&self.truth))))
    }

    fn driver(&mut self, index: usize) -> Host {
        let seed = self.sim.rng().random();
        let mut truth = self.truth.borrow_mut();
        truth.starts += 1;
        let (coordinator, start) = (self.nodes[0], truth.starts);
        let driver = Driver::new(index - 1, coordinator, self.start, start, seed, Rc::clone(&self.truth));
        Host::Driver(Box::new(driver))
    }

    fn coordinator(&self) -> &Coordinator {
        match self.sim.node(self.nodes[0]) {
            Some(Host::Coordinator(coordinator)) => coordinator,
            Some(Host::Driver(_)) | None => panic!("the coordinator does not run"),
        }
    }

    /// Whether the coordinator that started a race still runs.
    fn owns(&self, race: u32) -> bool {
        self.sim.node(self.nodes[0]).is_some() && self.coordinator().owns(race)
    }

    fn drivers(&self) -> impl Iterator<Item = &Driver> {
        self.nodes[1..].iter().filter_map(|&node| match self.sim.node(node) {
            Some(Host::Driver(driver)) => Some(&**driver),
            Some(Host::Coordinator(_)) | None => None,
        })
    }

    fn start_race(&mut self, plan: &Arc<Plan>) {
        let drivers = self.nodes[1..].to_vec();
        self.sim.with(self.nodes[0], |host, outbox| {
            if let Host::Coordinator(coordinator) = host {
                coordinator.start_race(outbox, Arc::clone(plan), &drivers);
            }
        });
    }

    fn apply(&mut self, trouble: Trouble) {
        let coordinator = self.nodes[0];
        match trouble {
            Trouble::Crash(index) => {
                let crashed = self.sim.crash(self.nodes[index]);
                if index == 0 && crashed.is_some() {
                    self.orphaned = Some(self.sim.now());
                }
            }
            Trouble::Restart(index) => {
                if self.sim.node(self.nodes[index]).is_none() {
                    let host = if index == 0 { self.coordinator_again() } else { self.driver(index) };
                    self.sim.restart(self.nodes[index], host);
                }
            }
            Trouble::Freeze(index) => {
                if self.sim.is_running(self.nodes[index]) {
                    self.sim.freeze(self.nodes[index]);
                }
            }
            Trouble::Thaw(index) => self.sim.thaw(self.nodes[index]),
            Trouble::Part(index) => self.sim.part(self.nodes[index], coordinator),
            Trouble::Mend(index) => self.sim.mend(self.nodes[index], coordinator),
            Trouble::Degrade(index) => {
                let rng = self.sim.rng();
                let quality = LinkQuality {
                    delay: rng.random_range(Duration::from_millis(1)..Duration::from_millis(200)),
                    jitter: rng.random_range(Duration::ZERO..Duration::from_millis(100)),
                    loss: rng.random_range(0.05..0.9),
                    duplication: rng.random_range(0.0..0.3),
                    reordering: rng.random_range(0.0..0.5),
                };
                self.set_quality(index, quality);
            }
            Trouble::Improve(index) => self.set_quality(index, self.good.clone()),
            Trouble::Cancel(mode) => {
                self.sim.with(coordinator, |host, outbox| {
                    if let Host::Coordinator(coordinator) = host {
                        coordinator.cancel(outbox, mode);
                    }
                });
            }
        }
    }

    /// The coordinator after a crash; without one for longer than their lease, drivers have stopped by themselves.
    fn coordinator_again(&mut self) -> Host {
        let alone = self.orphaned.take().map_or(Duration::ZERO, |since| self.sim.now() - since);
        if alone > LEASE_TERM + STOPS_WITHIN {
            let running = self.nodes[1..].iter().filter(|&&node| self.sim.is_running(node));
            let busy = running.filter(|&&node| matches!(self.sim.node(node), Some(Host::Driver(it)) if !it.is_free()));
            assert_eq!(busy.count(), 0, "drivers go on {alone:?} after their coordinator has crashed");
        }
        self.new_coordinator()
    }

    fn set_quality(&mut self, index: usize, quality: LinkQuality) {
        self.sim.set_quality(self.nodes[index], self.nodes[0], quality.clone());
        self.sim.set_quality(self.nodes[0], self.nodes[index], quality);
    }

    fn run_until(&mut self, end: Duration) {
        while let Some(node) = self.sim.step_until(end) {
            if node != self.nodes[0] {
                self.check_barrier(node);
            }
        }
    }

    /// Whoever runs a step does so after all that still take part have ended the one before.
    fn check_barrier(&self, node: NodeId) {
        let Some(Host::Driver(driver)) = self.sim.node(node) else { return };
        let Some((race, until)) = driver.runs() else { return };
        let truth = self.truth.borrow();
        let is_given_up =
            |other: &Driver| truth.given_up.get(&race).is_some_and(|given_up| given_up.contains(&other.name()));
        for other in self.drivers().filter(|other| !is_given_up(other)) {
            if let Some(at) = other.join_point(race) {
                assert!(at.0 + 1 >= until.0, "{driver:?} runs a step while {other:?} is still before it");
            }
        }
    }

    /// Waits for the end of the race, and looks at its verdict; none if nobody is left to give it.
    fn end_race(&mut self, plan: &Plan) -> Option<RaceOutcome> {
        if !self.owns(plan.race) {
            return None;
        }
        let began = self.sim.now();
        while self.coordinator().verdict().is_none() {
            assert!(self.sim.now() <= began + BOUND, "no verdict; awaiting {:?}", self.coordinator().awaiting());
            self.run_until(self.sim.now() + Duration::from_millis(100));
        }
        let coordinator = self.coordinator();
        let verdict = coordinator.verdict().expect("it has ended");
        let truth = self.truth.borrow();
        check_samples(plan.race, &truth, coordinator, verdict);
        match verdict.outcome {
            RaceOutcome::Completed => {
                assert_eq!((verdict.ledger.merged, verdict.ledger.lost), (verdict.ledger.made, 0));
                assert!(verdict.errors.is_empty() && verdict.shortfalls.is_empty());
            }
            RaceOutcome::Incomplete => assert!(!verdict.shortfalls.is_empty()),
            RaceOutcome::Failed => assert!(!verdict.errors.is_empty()),
            RaceOutcome::Cancelled => assert!(coordinator.was_cancelled()),
        }
        if matches!(verdict.outcome, RaceOutcome::Completed | RaceOutcome::Incomplete) {
            assert_eq!(coordinator.steps_ended(), plan.challenge.schedule.len());
            assert!(coordinator.was_observed(), "nobody took a last look at the cluster under test: {verdict:?}");
        }
        Some(verdict.outcome)
    }
}

/// That the accounts of each driver are what it really did, and that the verdict names whatever is missing.
fn check_samples(race: u32, truth: &Truth, coordinator: &Coordinator, verdict: &RaceVerdict) {
    let mut sum = RaceLedger::default();
    for (name, start, Account { told, merged }) in coordinator.accounts() {
        sum.made += told.made;
        sum.merged += merged;
        sum.lost += told.lost;
        let is_cut_short = verdict.shortfalls.iter().any(|shortfall| match shortfall {
            Shortfall::Driver { driver, .. }
            | Shortfall::Unended { driver, .. }
            | Shortfall::Overdue { driver, .. } => *driver == name,
            _ => false,
        });
        let real = start.and_then(|start| truth.samples.get(&(race, start))).copied().unwrap_or_default();
        let known = (told.made, merged, told.lost);
        if is_cut_short {
            assert!(
                known.0 <= real.made && known.1 <= real.merged && known.2 <= real.lost,
                "{name}: {real:?} {verdict:?}"
            );
        } else {
            assert_eq!(known, (real.made, real.merged, real.lost), "{name}: {verdict:?}");
        }
        let (made, lost) = (told.made, told.lost);
        let missing = Shortfall::Samples { driver: name, made, merged, lost };
        let is_named = verdict.shortfalls.contains(&missing);
        assert_eq!(is_named, lost > 0 || made != merged, "{missing:?} {verdict:?}");
    }
    assert_eq!(verdict.ledger, sum, "{verdict:?}");
}

fn some_challenge(kind: u32) -> Challenge {
    let pair = || ParallelBuilder::new().task(task("p", 3)).task(task("q", 4));
    let other = || ParallelBuilder::new().task(task("r", 5)).task(task("s", 1)).completed_by("s");
    match kind {
        0 => challenge(|challenge| challenge.task(task("a", 1)).task(task("b", 9)).task(task("c", 4))),
        1 => challenge(|challenge| challenge.parallel(pair().completed_by("p")).task(task("z", 2))),
        2 => challenge(|challenge| challenge.task(task("a", 8)).parallel(pair().completed_by("any"))),
        _ => challenge(|challenge| challenge.parallel(pair().property("clients", 2)).parallel(other())),
    }
}

/// A random list of what happens when, by time, each with its end.
fn troubles(cluster: &mut Cluster) -> Vec<(Duration, Trouble)> {
    let drivers = cluster.nodes.len() - 1;
    let now = cluster.sim.now();
    let rng = cluster.sim.rng();
    let mut troubles = Vec::new();
    for _ in 0..rng.random_range(0..4) {
        let from = now + rng.random_range(Duration::ZERO..TROUBLE);
        let until = from + rng.random_range(Duration::from_millis(50)..Duration::from_secs(25));
        let driver = rng.random_range(1..=drivers);
        let (begin, end) = match rng.random_range(0..7) {
            0 => (Trouble::Crash(driver), Trouble::Restart(driver)),
            1 => (Trouble::Freeze(driver), Trouble::Thaw(driver)),
            2 => (Trouble::Freeze(0), Trouble::Thaw(0)),
            3 => (Trouble::Part(driver), Trouble::Mend(driver)),
            4 => (Trouble::Degrade(driver), Trouble::Improve(driver)),
            5 => (Trouble::Crash(0), Trouble::Restart(0)),
            _ => (Trouble::Cancel(StopMode::Drain), Trouble::Cancel(StopMode::Now)),
        };
        troubles.extend([(from, begin), (until, end)]);
    }
    troubles.sort_by_key(|&(at, _)| at);
    troubles
}

#[test]
fn every_race_ends_in_a_verdict_that_tells_the_truth_and_leaves_the_drivers_free() {
    let (late, interrupted) = (AtomicU64::new(0), AtomicU64::new(0));
    for_seeds("every_race_ends_in_a_verdict_that_tells_the_truth_and_leaves_the_drivers_free", |seed| {
        let mut cluster = Cluster::new(seed, 1 + seed as usize % 5);
        let drivers = cluster.nodes.len() - 1;
        for number in 1..=3 {
            let rng = cluster.sim.rng();
            let challenge = some_challenge(rng.random_range(0..4));
            let on_loss = if rng.random() { OnDriverLoss::Fail } else { OnDriverLoss::Continue };
            let plan = Arc::new(Plan::new(number, challenge, drivers, on_loss, RaceTiming::default()));
            cluster.start_race(&plan);
            // The last race has no trouble but what is left of those before it.
            let troubles = if number < 3 { troubles(&mut cluster) } else { Vec::new() };
            for (at, trouble) in troubles {
                cluster.run_until(at);
                cluster.apply(trouble);
            }
            let outcome = cluster.end_race(&plan);
            interrupted.fetch_add(outcome.is_none().into(), Ordering::Relaxed);
            for index in 0..=drivers {
                cluster.apply(Trouble::Thaw(index));
                cluster.apply(Trouble::Improve(index));
                cluster.apply(Trouble::Mend(index));
                cluster.apply(Trouble::Restart(index));
            }
            if number == 3 {
                let verdict = cluster.coordinator().verdict().expect("it has ended");
                // Drivers lose a few samples now and then, and say so or do not.
                let expected = if verdict.ledger.made == verdict.ledger.merged {
                    RaceOutcome::Completed
                } else {
                    RaceOutcome::Incomplete
                };
                assert!(outcome == Some(expected) && verdict.errors.is_empty(), "{verdict:?}");
            }
            // Half of the time, the next race begins while drivers may still believe in the last one.
            if number == 2 || cluster.sim.rng().random() {
                cluster.run_until(cluster.sim.now() + LEASE_TERM + Duration::from_secs(5));
                assert!(cluster.drivers().all(|driver| driver.is_free()), "a lease has not ended");
            }
        }
        late.fetch_add(cluster.truth.borrow().late, Ordering::Relaxed);
    });
    // A single seed may have neither.
    if std::env::var_os("RALLY_SIM_SEED").is_none() {
        assert!(late.into_inner() > 0, "no event came after its race");
        assert!(interrupted.into_inner() > 0, "no race lost its coordinator");
    }
}
