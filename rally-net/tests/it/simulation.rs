//! A whole cluster on a simulated network, from one seed: whatever happens to it, it finds together again.
//!
//! `RALLY_SIM_SEEDS` says how many seeds to try, `RALLY_SIM_SEED` runs a single one.

mod hosts;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rally_core::sim::{LinkQuality, NodeId, SimClock, Simulation};
use rally_core::{ClusterTime, Epoch, HostId, Role};
use rally_net::{DialFailure, HostChange, HostState, Link, RefuseReason, Timing, UplinkEvent};
use rand::Rng;

use self::hosts::{Coordinator, Host, LEASE_TERM, Member, is_settled};

/// Tried by default; half a minute of a cluster's life takes a few milliseconds.
const SEEDS: u64 = 4000;
/// Faults begin within this time.
const TROUBLE: Duration = Duration::from_secs(12);
/// After the cluster has found together, it must stay so for this time.
const QUIET: Duration = Duration::from_secs(4);
/// Either clock is off by at most this rate.
const DRIFT_PPB: i32 = 100_000;

/// Runs a scenario for many seeds on all cores; a failure names its seed and how to repeat it.
#[expect(clippy::print_stderr, reason = "the seed has to be seen where the test fails")]
fn for_seeds(test: &str, default: u64, scenario: impl Fn(u64) + Sync) {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number of seeds, or a seed"));
    if let Some(seed) = number("RALLY_SIM_SEED") {
        return scenario(seed);
    }
    let seeds = number("RALLY_SIM_SEEDS").unwrap_or(default);
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
                             RALLY_SIM_SEED={seed} cargo test -p rally-net --test it -- simulation::{test}"
                        );
                        resume_unwind(panic);
                    }
                }
            });
        }
    });
}

/// What is done to the cluster. Node 0 is the coordinator.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    Crash(usize),
    /// A member says goodbye and ends.
    Leave(usize),
    Restart(usize),
    Freeze(usize),
    Thaw(usize),
    /// The member no longer reaches the coordinator.
    CutUp(usize),
    /// The coordinator no longer reaches the member.
    CutDown(usize),
    Part(usize),
    Mend(usize),
    Degrade(usize),
    Improve(usize),
    /// The member's packets come from another address from now on.
    Rebind(usize),
}

struct Cluster {
    sim: Simulation<Host>,
    start: Instant,
    nodes: Vec<NodeId>,
    /// How often each node was started.
    epochs: Vec<u64>,
    ports: Vec<u16>,
    resets: bool,
    good: LinkQuality,
    longest_way: Duration,
    /// Coordinator time at the start, for each epoch of the coordinator.
    cluster_starts: HashMap<Epoch, ClusterTime>,
    /// When each epoch of the coordinator ended.
    ends: HashMap<Epoch, Duration>,
    /// When each node was frozen: from, until (or still).
    freezes: Vec<Vec<(Duration, Option<Duration>)>>,
}

impl Cluster {
    fn new(seed: u64, members: usize) -> Self {
        let start = Instant::now();
        let sim = Simulation::new(seed, start);
        let mut cluster = Self {
            sim,
            start,
            nodes: Vec::new(),
            epochs: vec![0; members + 1],
            ports: vec![1900; members + 1],
            resets: false,
            good: LinkQuality::default(),
            longest_way: Duration::ZERO,
            cluster_starts: HashMap::new(),
            ends: HashMap::new(),
            freezes: vec![Vec::new(); members + 1],
        };
        let rng = cluster.sim.rng();
        cluster.resets = rng.random();
        cluster.good = LinkQuality {
            delay: rng.random_range(Duration::from_micros(50)..Duration::from_millis(30)),
            jitter: rng.random_range(Duration::ZERO..Duration::from_millis(10)),
            loss: rng.random_range(0.0..0.05),
            duplication: rng.random_range(0.0..0.05),
            reordering: rng.random_range(0.0..0.05),
        };
        cluster.longest_way = cluster.good.longest_way();
        cluster.sim.set_default_quality(cluster.good.clone());
        for index in 0..=members {
            let rng = cluster.sim.rng();
            let clock = SimClock {
                offset: rng.random_range(Duration::ZERO..Duration::from_secs(3600)),
                drift_ppb: rng.random_range(-DRIFT_PPB..=DRIFT_PPB),
            };
            let now = start + clock.at(Duration::ZERO);
            let host = cluster.start_host(now, index);
            let node = cluster.sim.add(host, clock);
            cluster.nodes.push(node);
        }
        cluster
    }

    fn start_host(&mut self, now: Instant, index: usize) -> Host {
        self.epochs[index] += 1;
        let (id, epoch) = (HostId::from_random(index as u128), Epoch(self.epochs[index]));
        if index == 0 {
            // Each start of the coordinator has another idea of the time.
            let cluster_start = ClusterTime::from_nanos(self.sim.rng().random_range(1..1_u64 << 62));
            self.cluster_starts.insert(epoch, cluster_start);
            Host::Coordinator(Box::new(Coordinator::new(now, self.start, id, epoch, cluster_start, self.resets)))
        } else {
            let seed = self.sim.rng().random();
            let address = self.address(index);
            Host::Member(Box::new(Member::new(now, self.start, self.nodes[0], id, epoch, address, seed)))
        }
    }

    fn address(&self, index: usize) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, index as u8], self.ports[index]))
    }

    fn coordinator(&self) -> Option<&Coordinator> {
        match self.sim.node(self.nodes[0]) {
            Some(Host::Coordinator(coordinator)) => Some(coordinator),
            Some(Host::Member(_)) | None => None,
        }
    }

    fn member(&self, node: NodeId) -> Option<&Member> {
        match self.sim.node(node) {
            Some(Host::Member(member)) => Some(member),
            Some(Host::Coordinator(_)) | None => None,
        }
    }

    fn apply(&mut self, trouble: Trouble) {
        let (now, coordinator) = (self.sim.now(), self.nodes[0]);
        match trouble {
            Trouble::Crash(index) => self.crash(index),
            Trouble::Leave(index) => {
                self.sim.with(self.nodes[index], |host, outbox| {
                    if let Host::Member(member) = host {
                        member.leave(outbox);
                    }
                });
                self.crash(index);
            }
            Trouble::Restart(index) => {
                if self.sim.node(self.nodes[index]).is_none() {
                    let local = self.sim.local_now(self.nodes[index]);
                    let host = self.start_host(local, index);
                    self.sim.restart(self.nodes[index], host);
                }
            }
            Trouble::Freeze(index) => {
                if self.sim.is_running(self.nodes[index]) {
                    self.sim.freeze(self.nodes[index]);
                    self.freezes[index].push((now, None));
                }
            }
            Trouble::Thaw(index) => {
                self.sim.thaw(self.nodes[index]);
                self.end_freeze(index);
            }
            Trouble::CutUp(index) => self.sim.cut(self.nodes[index], coordinator),
            Trouble::CutDown(index) => self.sim.cut(coordinator, self.nodes[index]),
            Trouble::Part(index) => self.sim.part(self.nodes[index], coordinator),
            Trouble::Mend(index) => self.sim.mend(self.nodes[index], coordinator),
            Trouble::Degrade(index) => {
                let rng = self.sim.rng();
                let quality = LinkQuality {
                    delay: rng.random_range(Duration::from_millis(1)..Duration::from_millis(200)),
                    jitter: rng.random_range(Duration::ZERO..Duration::from_millis(100)),
                    loss: rng.random_range(0.05..1.0),
                    duplication: rng.random_range(0.0..0.3),
                    reordering: rng.random_range(0.0..0.5),
                };
                self.longest_way = self.longest_way.max(quality.longest_way());
                self.set_quality(index, quality);
            }
            Trouble::Improve(index) => self.set_quality(index, self.good.clone()),
            Trouble::Rebind(index) => {
                self.ports[index] += 1;
                let address = self.address(index);
                self.sim.with(self.nodes[index], |host, _| {
                    if let Host::Member(member) = host {
                        member.address = address;
                    }
                });
            }
        }
    }

    fn set_quality(&mut self, index: usize, quality: LinkQuality) {
        self.sim.set_quality(self.nodes[index], self.nodes[0], quality.clone());
        self.sim.set_quality(self.nodes[0], self.nodes[index], quality);
    }

    fn crash(&mut self, index: usize) {
        if self.sim.crash(self.nodes[index]).is_some() {
            let now = self.sim.now();
            if index == 0 {
                // A frozen process did its last deed when it was frozen.
                let last_deed = match self.freezes[0].last() {
                    Some(&(from, None)) => from,
                    Some((_, Some(_))) | None => now,
                };
                self.ends.insert(Epoch(self.epochs[0]), last_deed);
            }
            self.end_freeze(index);
        }
    }

    fn end_freeze(&mut self, index: usize) {
        let now = self.sim.now();
        if let Some((_, until @ None)) = self.freezes[index].last_mut() {
            *until = Some(now);
        }
    }

    /// Lets time pass until `end`, checking every node that is stepped.
    fn run_until(&mut self, end: Duration) {
        while let Some(node) = self.sim.step_until(end) {
            if let Some(member) = self.member(node) {
                self.check_clock(node, member);
                self.check_lease(node, member);
            }
        }
    }

    /// The member's idea of coordinator time is as good as it says.
    fn check_clock(&self, node: NodeId, member: &Member) {
        let (epoch, filter) = &member.clock;
        let local = member.local_time(self.sim.local_now(node));
        let Some(estimate) = filter.estimate(local) else { return };
        let truth = self.cluster_starts[epoch] + self.sim.clock(self.nodes[0]).at(self.sim.now());
        let offset = i128::from(truth.as_nanos()) - i128::from(local.as_nanos());
        let miss = (i128::from(estimate.offset) - offset).unsigned_abs();
        assert!(miss <= u128::from(estimate.error), "the clock is off by {miss} ns: {estimate:?}");
    }

    /// No lease outlives its owner by more than its term, counted from when its last renewal was handled: that is, once
    /// it has arrived, and the member itself is not frozen.
    fn check_lease(&self, node: NodeId, member: &Member) {
        let Some((holder, until)) = member.leases.holder(Role::LoadDriver) else { return };
        let local = self.sim.local_now(node);
        if until <= local {
            return; // Over, and to be reported at this very moment.
        }
        let last_deed = match self.freezes[0].last() {
            _ if self.ends.contains_key(&holder.epoch) => self.ends[&holder.epoch],
            Some(&(from, None)) => from,
            Some((_, Some(_))) | None => self.sim.now(),
        };
        let last_arrival = last_deed + self.longest_way;
        let index = self.nodes.iter().position(|&other| other == node).expect("every node is listed");
        let last_handled = self.freezes[index]
            .iter()
            .filter(|(from, _)| *from <= last_arrival)
            .filter_map(|&(_, until)| until)
            .fold(last_arrival, Duration::max);
        // One millisecond for the drift of the member's clock during the term.
        let latest = last_handled + LEASE_TERM + Duration::from_millis(1);
        assert!(
            self.sim.now() <= latest,
            "at {:?} a lease still runs that should have ended by {latest:?}: {holder:?}",
            self.sim.now()
        );
    }

    fn unsettled(&self) -> Vec<NodeId> {
        let coordinator = self.coordinator();
        let is_well = |node: NodeId| {
            let member = self.member(node);
            member.is_none_or(|member| coordinator.is_some_and(|coordinator| is_settled(coordinator, member)))
        };
        self.nodes[1..].iter().copied().filter(|&node| !is_well(node)).collect()
    }
}

/// A random list of what happens when, by time, each with its end, and the members that stay down for good.
fn troubles(cluster: &mut Cluster) -> (Vec<(Duration, Trouble)>, Vec<usize>) {
    let members = cluster.nodes.len() - 1;
    let mut troubles = Vec::new();
    let mut down = Vec::new();
    let rng = cluster.sim.rng();
    for _ in 0..rng.random_range(1..10) {
        let from = rng.random_range(Duration::ZERO..TROUBLE);
        let until = from + rng.random_range(Duration::from_millis(50)..Duration::from_secs(9));
        let member = rng.random_range(1..=members);
        let any = rng.random_range(0..=members);
        let (begin, end) = match rng.random_range(0..12) {
            0 => (Trouble::Crash(0), Trouble::Restart(0)),
            1 | 2 => (Trouble::Crash(any), Trouble::Restart(any)),
            3 => (Trouble::Leave(member), Trouble::Restart(member)),
            4 | 5 => (Trouble::Freeze(any), Trouble::Thaw(any)),
            6 => (Trouble::CutUp(member), Trouble::Mend(member)),
            7 => (Trouble::CutDown(member), Trouble::Mend(member)),
            8 => (Trouble::Part(member), Trouble::Mend(member)),
            9 => (Trouble::Degrade(member), Trouble::Improve(member)),
            10 => (Trouble::Rebind(member), Trouble::Rebind(member)),
            _ => {
                // Everybody at once loses sight of the coordinator.
                for member in 1..=members {
                    troubles.extend([(from, Trouble::Part(member)), (until, Trouble::Mend(member))]);
                }
                continue;
            }
        };
        troubles.extend([(from, begin), (until, end)]);
    }
    if rng.random_bool(0.3) {
        let member = rng.random_range(1..=members);
        down.push(member);
        troubles.push((rng.random_range(Duration::ZERO..TROUBLE), Trouble::Crash(member)));
    }
    troubles.sort_by_key(|&(at, _)| at);
    (troubles, down)
}

#[test]
fn after_the_last_fault_every_live_host_is_known_to_the_coordinator_within_the_bound() {
    for_seeds("after_the_last_fault_every_live_host_is_known_to_the_coordinator_within_the_bound", SEEDS, |seed| {
        let mut cluster = Cluster::new(seed, if seed % 50 == 49 { 50 } else { 1 + seed as usize % 5 });
        let (troubles, down) = troubles(&mut cluster);
        for (at, trouble) in troubles {
            cluster.run_until(at);
            cluster.apply(trouble);
        }
        // The last fault is over: everybody runs who may, and nothing is lost any more.
        cluster.good.loss = 0.0;
        for index in 0..cluster.nodes.len() {
            cluster.apply(Trouble::Thaw(index));
            cluster.apply(if down.contains(&index) { Trouble::Crash(index) } else { Trouble::Restart(index) });
            cluster.apply(Trouble::Improve(index));
        }
        let last_fault = cluster.sim.now();

        let bound = Timing::default().rejoin_within();
        while !cluster.unsettled().is_empty() {
            let unsettled: Vec<_> = cluster
                .unsettled()
                .iter()
                .filter_map(|&node| cluster.member(node))
                .map(|member| member.uplink.link())
                .collect();
            assert!(
                cluster.sim.now() <= last_fault + bound,
                "{bound:?} after the last fault, some are still not in: {unsettled:?}"
            );
            cluster.run_until(cluster.sim.now() + Duration::from_millis(100));
        }

        // The dead are known to be dead in time, counted from when their last packet may have arrived.
        let dead_by = last_fault + cluster.longest_way + Timing::default().dead_after + Duration::from_millis(1);
        cluster.run_until(dead_by.max(cluster.sim.now()));
        let events = |cluster: &Cluster| {
            let coordinator = cluster.coordinator().expect("it runs").events.len();
            let members: Vec<_> = cluster
                .nodes
                .iter()
                .filter_map(|&node| cluster.member(node))
                .map(|member| member.events.len())
                .collect();
            (coordinator, members)
        };
        for &index in &down {
            let record =
                cluster.coordinator().and_then(|known| known.registry.host(HostId::from_random(index as u128)));
            assert!(
                record.is_none_or(|record| matches!(record.state, HostState::Dead | HostState::Left)),
                "{record:?}"
            );
        }
        let before = events(&cluster);
        cluster.run_until(cluster.sim.now() + QUIET);
        assert_eq!(events(&cluster), before, "the cluster does not come to rest");
        assert_eq!(cluster.unsettled(), []);
    });
}

/// Starts the second member's node as another process of the first member's host.
fn start_as_first(cluster: &mut Cluster, epoch: Epoch, seed: u64) {
    let node = cluster.nodes[2];
    cluster.sim.crash(node);
    let now = cluster.sim.local_now(node);
    let (id, address) = (HostId::from_random(1), cluster.address(2));
    let copy = Member::new(now, cluster.start, cluster.nodes[0], id, epoch, address, seed);
    cluster.sim.restart(node, Host::Member(Box::new(copy)));
}

#[test]
fn a_former_start_that_was_only_frozen_gets_nowhere_when_it_thaws() {
    for_seeds("a_former_start_that_was_only_frozen_gets_nowhere_when_it_thaws", SEEDS / 10, |seed| {
        let mut cluster = Cluster::new(seed, 2);
        cluster.apply(Trouble::Crash(2));
        cluster.run_until(Duration::from_secs(5));
        cluster.apply(Trouble::Freeze(1));
        start_as_first(&mut cluster, Epoch(2), seed);
        let thaw = cluster.sim.rng().random_range(Duration::from_secs(10)..Duration::from_secs(20));
        cluster.run_until(thaw);
        cluster.apply(Trouble::Thaw(1));
        cluster.run_until(Duration::from_secs(40));

        let coordinator = cluster.coordinator().expect("it runs");
        assert!(coordinator.events.is_sorted_by_key(|event| event.epoch), "{:?}", coordinator.events);
        let (former, later) = (cluster.member(cluster.nodes[1]), cluster.member(cluster.nodes[2]));
        let (former, later) = (former.expect("it runs"), later.expect("it runs"));
        assert!(matches!(later.uplink.link(), Link::Connected { .. }));
        let refused = DialFailure::Refused(RefuseReason::OldEpoch { known: Epoch(2) });
        match former.uplink.link() {
            Link::Connecting { last_failure, .. } => assert_eq!(last_failure, Some(refused)),
            other @ (Link::Connected { .. } | Link::Stopped) => panic!("{other:?}"),
        }
    });
}

#[test]
fn of_two_clones_one_is_in_and_the_other_knows_why_it_is_not() {
    for_seeds("of_two_clones_one_is_in_and_the_other_knows_why_it_is_not", SEEDS / 10, |seed| {
        let mut cluster = Cluster::new(seed, 2);
        // The second member is a copy of the first one: it takes itself for the same host in the same epoch.
        start_as_first(&mut cluster, Epoch(1), seed);
        cluster.run_until(Duration::from_secs(30));

        let changes: Vec<_> = cluster.coordinator().expect("it runs").events.iter().map(|event| event.change).collect();
        let expected = [HostChange::Joined, HostChange::Suspected, HostChange::Recovered];
        assert!(changes.iter().all(|change| expected.contains(change)), "they throw each other out: {changes:?}");
        let (inside, outside): (Vec<&Member>, Vec<&Member>) = cluster.nodes[1..]
            .iter()
            .filter_map(|&node| cluster.member(node))
            .partition(|member| matches!(member.uplink.link(), Link::Connected { .. }));
        let ([inside], [outside]) = (&inside[..], &outside[..]) else { panic!("{inside:?} {outside:?}") };
        let address = inside.address;
        let failure = DialFailure::Refused(RefuseReason::SameIdentityElsewhere { address });
        assert_eq!(outside.events.last(), Some(&UplinkEvent::Stopped { failure }));
    });
}
