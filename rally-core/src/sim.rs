//! A simulated network of simulated hosts, for testing state machines against whatever can go wrong.
//!
//! Everything follows from one seed: each run with the same seed and the same calls is the same run. Time is virtual and
//! jumps from event to event. Messages are delayed, lost, duplicated and reordered by the [`LinkQuality`] of their link,
//! or cut off; nodes crash and restart, freeze and thaw, and have clocks of their own.
//!
//! A test drives it step by step and checks its invariants on the node that was just stepped:
//!
//! ```
//! use std::time::{Duration, Instant};
//!
//! use rally_core::sim::{Node, NodeId, Outbox, SimClock, Simulation};
//!
//! /// Sends back one less than it got.
//! struct Countdown(Vec<u32>);
//!
//! impl Node for Countdown {
//!     type Message = u32;
//!
//!     fn handle(&mut self, outbox: &mut Outbox<u32>, from: NodeId, message: u32) {
//!         self.0.push(message);
//!         if message > 0 {
//!             outbox.send(from, message - 1);
//!         }
//!     }
//!
//!     fn handle_timeout(&mut self, _: &mut Outbox<u32>) {}
//!
//!     fn next_deadline(&self) -> Option<Instant> {
//!         None
//!     }
//! }
//!
//! let mut sim = Simulation::new(42, Instant::now());
//! let a = sim.add(Countdown(Vec::new()), SimClock::default());
//! let b = sim.add(Countdown(Vec::new()), SimClock::default());
//! sim.with(a, |_, outbox| outbox.send(b, 3));
//! while sim.step_until(Duration::from_secs(1)).is_some() {}
//! assert_eq!(sim.node(a).expect("it runs").0, [2, 0]);
//! ```

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Messages that wait for a frozen node at most; more are lost, as in a socket's buffer.
const FROZEN_INBOX: usize = 256;

/// One participant: the state machines under test in a thin shell.
pub trait Node {
    /// What nodes send each other.
    type Message: Clone + fmt::Debug;

    /// Takes a message.
    fn handle(&mut self, outbox: &mut Outbox<Self::Message>, from: NodeId, message: Self::Message);

    /// Does what is due; called once [`next_deadline`](Self::next_deadline) has passed.
    fn handle_timeout(&mut self, outbox: &mut Outbox<Self::Message>);

    /// When to call [`handle_timeout`](Self::handle_timeout), by the node's own clock.
    fn next_deadline(&self) -> Option<Instant>;
}

/// Names a node of a [`Simulation`], through all its restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(usize);

/// What a node can reach while it is stepped: its clock and the network.
#[derive(Debug)]
pub struct Outbox<M> {
    now: Instant,
    messages: Vec<(NodeId, M)>,
}

impl<M> Outbox<M> {
    /// The node's own clock.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Sends a message, which may or may not arrive.
    pub fn send(&mut self, to: NodeId, message: M) {
        self.messages.push((to, message));
    }
}

/// How messages fare in one direction of a link.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkQuality {
    /// The shortest way.
    pub delay: Duration,
    /// Up to this much is added to the delay at random. By itself it reorders nothing: a message waits for the one
    /// before it.
    pub jitter: Duration,
    /// The share of messages that are lost.
    pub loss: f64,
    /// The share of messages that arrive twice.
    pub duplication: f64,
    /// The share of messages that do not keep their place, and take up to ten times as long.
    pub reordering: f64,
}

impl Default for LinkQuality {
    /// A good network: 1 ms each way, nothing goes wrong.
    fn default() -> Self {
        Self { delay: Duration::from_millis(1), jitter: Duration::ZERO, loss: 0.0, duplication: 0.0, reordering: 0.0 }
    }
}

impl LinkQuality {
    /// The longest that a message can take.
    pub fn longest_way(&self) -> Duration {
        let factor = if self.reordering > 0.0 { 10 } else { 1 };
        (self.delay + self.jitter) * factor
    }
}

/// A node's clock against virtual time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SimClock {
    /// What it shows at virtual time zero.
    pub offset: Duration,
    /// How much faster than virtual time it runs, in parts per billion; negative if slower.
    pub drift_ppb: i32,
}

impl SimClock {
    /// What it shows at a virtual time, in whole nanoseconds.
    pub fn at(&self, virtual_time: Duration) -> Duration {
        let passed = virtual_time.as_nanos() as i128;
        let drifted = (passed * i128::from(self.drift_ppb)).div_euclid(1_000_000_000);
        self.offset + Duration::from_nanos((passed + drifted) as u64)
    }

    /// The first virtual time at which it shows `reading` or more.
    fn when(&self, reading: Duration) -> Duration {
        let passed = reading.saturating_sub(self.offset).as_nanos() as i128;
        let rate = 1_000_000_000 + i128::from(self.drift_ppb);
        let guess = (passed * 1_000_000_000).div_euclid(rate) as u64;
        let mut virtual_time = Duration::from_nanos(guess.saturating_sub(1));
        while self.at(virtual_time) < reading {
            virtual_time += Duration::from_nanos(1);
        }
        virtual_time
    }
}

/// The network, its nodes and its time.
#[derive(Debug)]
pub struct Simulation<N: Node> {
    start: Instant,
    now: Duration,
    rng: StdRng,
    nodes: Vec<Slot<N>>,
    /// By time, then by the order in which they were scheduled.
    agenda: BTreeMap<(Duration, u64), Event<N::Message>>,
    scheduled: u64,
    default_quality: LinkQuality,
    qualities: HashMap<(NodeId, NodeId), LinkQuality>,
    cuts: HashSet<(NodeId, NodeId)>,
    last_arrivals: HashMap<(NodeId, NodeId), Duration>,
}

#[derive(Debug)]
struct Slot<N: Node> {
    process: Process<N>,
    clock: SimClock,
    /// The place of its next wake-up in the agenda.
    wake: Option<(Duration, u64)>,
}

#[derive(Debug)]
enum Process<N: Node> {
    Running(N),
    Frozen { node: N, inbox: Vec<(NodeId, N::Message)> },
    Crashed,
}

#[derive(Debug)]
enum Event<M> {
    Arrive { from: NodeId, to: NodeId, message: M },
    Wake(NodeId),
}

impl<N: Node> Simulation<N> {
    /// An empty network; everything random follows from `seed`, and `start` is what a clock without offset shows at
    /// virtual time zero.
    pub fn new(seed: u64, start: Instant) -> Self {
        Self {
            start,
            now: Duration::ZERO,
            rng: StdRng::seed_from_u64(seed),
            nodes: Vec::new(),
            agenda: BTreeMap::new(),
            scheduled: 0,
            default_quality: LinkQuality::default(),
            qualities: HashMap::new(),
            cuts: HashSet::new(),
            last_arrivals: HashMap::new(),
        }
    }

    /// Adds a running node.
    pub fn add(&mut self, node: N, clock: SimClock) -> NodeId {
        let id = NodeId(self.nodes.len());
        self.nodes.push(Slot { process: Process::Running(node), clock, wake: None });
        self.schedule_wake(id);
        id
    }

    /// Virtual time since the start.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// The generator that everything random comes from, for the test's own choices.
    pub fn rng(&mut self) -> &mut StdRng {
        &mut self.rng
    }

    /// A node, unless it has crashed.
    pub fn node(&self, id: NodeId) -> Option<&N> {
        match &self.nodes[id.0].process {
            Process::Running(node) | Process::Frozen { node, .. } => Some(node),
            Process::Crashed => None,
        }
    }

    /// Whether a node runs, neither frozen nor crashed.
    pub fn is_running(&self, id: NodeId) -> bool {
        matches!(self.nodes[id.0].process, Process::Running(_))
    }

    /// A node's clock.
    pub fn clock(&self, id: NodeId) -> SimClock {
        self.nodes[id.0].clock
    }

    /// What a node's clock shows now.
    pub fn local_now(&self, id: NodeId) -> Instant {
        self.start + self.clock(id).at(self.now)
    }

    /// Sets the quality of every direction that has none of its own.
    pub fn set_default_quality(&mut self, quality: LinkQuality) {
        self.default_quality = quality;
    }

    /// Sets the quality of one direction; of messages sent from now on.
    pub fn set_quality(&mut self, from: NodeId, to: NodeId, quality: LinkQuality) {
        self.qualities.insert((from, to), quality);
    }

    /// Cuts one direction; what is under way still arrives.
    pub fn cut(&mut self, from: NodeId, to: NodeId) {
        self.cuts.insert((from, to));
    }

    /// Cuts both directions.
    pub fn part(&mut self, a: NodeId, b: NodeId) {
        self.cut(a, b);
        self.cut(b, a);
    }

    /// Mends both directions after a cut.
    pub fn mend(&mut self, a: NodeId, b: NodeId) {
        self.cuts.remove(&(a, b));
        self.cuts.remove(&(b, a));
    }

    /// Ends a node at once and returns what is left of it; messages that arrive before it restarts are lost.
    pub fn crash(&mut self, id: NodeId) -> Option<N> {
        self.unschedule_wake(id);
        match std::mem::replace(&mut self.nodes[id.0].process, Process::Crashed) {
            Process::Running(node) | Process::Frozen { node, .. } => Some(node),
            Process::Crashed => None,
        }
    }

    /// Starts a node in the place of a crashed one; its clock has run on.
    pub fn restart(&mut self, id: NodeId, node: N) {
        self.nodes[id.0].process = Process::Running(node);
        self.schedule_wake(id);
    }

    /// Stops a running node as SIGSTOP does: it does nothing, and messages wait for it, up to a bound.
    pub fn freeze(&mut self, id: NodeId) {
        self.unschedule_wake(id);
        let process = &mut self.nodes[id.0].process;
        *process = match std::mem::replace(process, Process::Crashed) {
            Process::Running(node) => Process::Frozen { node, inbox: Vec::new() },
            other @ (Process::Frozen { .. } | Process::Crashed) => other,
        };
    }

    /// Lets a frozen node go on. Whether it sees its timers or its messages first is left to chance.
    pub fn thaw(&mut self, id: NodeId) {
        let process = &mut self.nodes[id.0].process;
        let inbox = match std::mem::replace(process, Process::Crashed) {
            Process::Frozen { node, inbox } => {
                *process = Process::Running(node);
                inbox
            }
            other @ (Process::Running(_) | Process::Crashed) => {
                *process = other;
                return;
            }
        };
        let timers_first = self.rng.random();
        if timers_first {
            self.schedule_wake(id);
        }
        for (from, message) in inbox {
            self.schedule(self.now, Event::Arrive { from, to: id, message });
        }
        if !timers_first {
            self.schedule_wake(id);
        }
    }

    /// Steps a running node from outside, such as a user's command; `None` if it does not run.
    pub fn with<T>(&mut self, id: NodeId, act: impl FnOnce(&mut N, &mut Outbox<N::Message>) -> T) -> Option<T> {
        let mut outbox = Outbox { now: self.local_now(id), messages: Vec::new() };
        let Process::Running(node) = &mut self.nodes[id.0].process else { return None };
        let result = act(node, &mut outbox);
        for (to, message) in outbox.messages {
            self.transmit(id, to, message);
        }
        self.schedule_wake(id);
        Some(result)
    }

    /// Runs until one node was stepped, and says which; `None` if there is nothing more to do before `end`, at which
    /// the time stands then.
    pub fn step_until(&mut self, end: Duration) -> Option<NodeId> {
        while let Some(entry) = self.agenda.first_entry()
            && entry.key().0 <= end
        {
            let ((at, _), event) = entry.remove_entry();
            self.now = at;
            match event {
                Event::Wake(id) => {
                    self.nodes[id.0].wake = None;
                    if self.with(id, |node, outbox| node.handle_timeout(outbox)).is_some() {
                        return Some(id);
                    }
                }
                Event::Arrive { from, to, message } => match &mut self.nodes[to.0].process {
                    Process::Running(_) => {
                        self.with(to, |node, outbox| node.handle(outbox, from, message));
                        return Some(to);
                    }
                    Process::Frozen { inbox, .. } if inbox.len() < FROZEN_INBOX => inbox.push((from, message)),
                    Process::Frozen { .. } | Process::Crashed => {}
                },
            }
        }
        self.now = self.now.max(end);
        None
    }

    fn transmit(&mut self, from: NodeId, to: NodeId, message: N::Message) {
        if self.cuts.contains(&(from, to)) {
            return;
        }
        let quality = self.qualities.get(&(from, to)).unwrap_or(&self.default_quality).clone();
        if self.rng.random_bool(quality.loss) {
            return;
        }
        let copies = if self.rng.random_bool(quality.duplication) { 2 } else { 1 };
        for _ in 0..copies {
            let way = quality.delay + self.rng.random_range(Duration::ZERO..=quality.jitter);
            let arrival = if self.rng.random_bool(quality.reordering) {
                self.now + way.mul_f64(self.rng.random_range(1.0..=10.0))
            } else {
                let last = self.last_arrivals.entry((from, to)).or_default();
                *last = (self.now + way).max(*last);
                *last
            };
            self.schedule(arrival, Event::Arrive { from, to, message: message.clone() });
        }
    }

    fn schedule(&mut self, at: Duration, event: Event<N::Message>) -> (Duration, u64) {
        self.scheduled += 1;
        let key = (at, self.scheduled);
        self.agenda.insert(key, event);
        key
    }

    /// Brings the wake-up of a node in line with its deadline.
    fn schedule_wake(&mut self, id: NodeId) {
        let slot = &self.nodes[id.0];
        let Process::Running(node) = &slot.process else { return };
        let at = node
            .next_deadline()
            .map(|deadline| slot.clock.when(deadline.saturating_duration_since(self.start)).max(self.now));
        if slot.wake.map(|(wake, _)| wake) == at {
            return;
        }
        self.unschedule_wake(id);
        self.nodes[id.0].wake = at.map(|at| self.schedule(at, Event::Wake(id)));
    }

    fn unschedule_wake(&mut self, id: NodeId) {
        if let Some(key) = self.nodes[id.0].wake.take() {
            self.agenda.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends numbered messages to a peer at a fixed interval, and keeps what it gets.
    struct Ticker {
        peer: Option<NodeId>,
        next: Instant,
        sent: u32,
        got: Vec<u32>,
    }

    const INTERVAL: Duration = Duration::from_millis(10);

    impl Node for Ticker {
        type Message = u32;

        fn handle(&mut self, _: &mut Outbox<u32>, _: NodeId, message: u32) {
            self.got.push(message);
        }

        fn handle_timeout(&mut self, outbox: &mut Outbox<u32>) {
            assert!(outbox.now() >= self.next, "woken too early");
            self.next = outbox.now() + INTERVAL;
            if let Some(peer) = self.peer {
                outbox.send(peer, self.sent);
            }
            self.sent += 1;
        }

        fn next_deadline(&self) -> Option<Instant> {
            Some(self.next)
        }
    }

    /// A node that sends to one that listens.
    fn pair(seed: u64, quality: LinkQuality) -> (Simulation<Ticker>, NodeId, NodeId) {
        let start = Instant::now();
        let mut sim = Simulation::new(seed, start);
        sim.set_default_quality(quality);
        let listener = sim.add(Ticker { peer: None, next: start, sent: 0, got: Vec::new() }, SimClock::default());
        let peer = Some(listener);
        let ticker = sim.add(Ticker { peer, next: start, sent: 0, got: Vec::new() }, SimClock::default());
        (sim, ticker, listener)
    }

    fn run(sim: &mut Simulation<Ticker>, length: Duration) {
        let end = sim.now() + length;
        while sim.step_until(end).is_some() {}
        assert_eq!(sim.now(), end);
    }

    fn rough() -> LinkQuality {
        let millis = Duration::from_millis;
        LinkQuality { delay: millis(5), jitter: millis(3), loss: 0.1, duplication: 0.1, reordering: 0.1 }
    }

    #[test]
    fn the_same_seed_is_the_same_run_and_another_is_not() {
        let got = |seed| {
            let (mut sim, _, listener) = pair(seed, rough());
            run(&mut sim, Duration::from_secs(2));
            sim.node(listener).unwrap().got.clone()
        };
        assert_eq!(got(1), got(1));
        assert_ne!(got(1), got(2));
    }

    #[test]
    fn each_misfortune_happens_only_where_it_is_asked_for() {
        let perfect = LinkQuality { jitter: Duration::from_millis(30), ..LinkQuality::default() };
        let got = |quality| {
            let (mut sim, _, listener) = pair(7, quality);
            run(&mut sim, Duration::from_secs(10));
            sim.node(listener).unwrap().got.clone()
        };
        let in_order = got(perfect.clone());
        assert!(in_order.len() >= 990 && in_order.iter().copied().eq(0..in_order.len() as u32));

        let lossy = got(LinkQuality { loss: 0.3, ..perfect.clone() });
        assert!((600..800).contains(&lossy.len()) && lossy.is_sorted());

        let twice = got(LinkQuality { duplication: 0.3, ..perfect.clone() });
        assert!((1200..1400).contains(&twice.len()) && twice.is_sorted());

        let shuffled = got(LinkQuality { reordering: 0.3, ..perfect });
        assert!(shuffled.len() >= 970 && !shuffled.is_sorted());
    }

    #[test]
    fn a_cut_is_one_way_and_can_be_mended() {
        let (mut sim, ticker, listener) = pair(1, LinkQuality::default());
        sim.cut(listener, ticker);
        run(&mut sim, Duration::from_millis(95));
        assert_eq!(sim.node(listener).unwrap().got.len(), 10);
        sim.part(ticker, listener);
        run(&mut sim, Duration::from_millis(100));
        assert_eq!(sim.node(listener).unwrap().got.len(), 10);
        sim.mend(ticker, listener);
        run(&mut sim, Duration::from_millis(100));
        assert_eq!(sim.node(listener).unwrap().got.len(), 20);
    }

    #[test]
    fn a_frozen_node_gets_its_messages_later_and_a_crashed_one_never() {
        let (mut sim, _, listener) = pair(1, LinkQuality::default());
        sim.freeze(listener);
        run(&mut sim, Duration::from_millis(95));
        assert!(sim.node(listener).unwrap().got.is_empty() && !sim.is_running(listener));
        sim.thaw(listener);
        run(&mut sim, Duration::ZERO);
        assert_eq!(sim.node(listener).unwrap().got.len(), 10);

        let old = sim.crash(listener).unwrap();
        run(&mut sim, Duration::from_millis(100));
        assert!(sim.node(listener).is_none());
        sim.restart(listener, old);
        run(&mut sim, Duration::from_millis(100));
        assert_eq!(sim.node(listener).unwrap().got.len(), 20);
    }

    #[test]
    fn clocks_drift_and_timers_go_by_the_local_one() {
        let start = Instant::now();
        let mut sim = Simulation::new(1, start);
        let second = Duration::from_secs(1);
        for drift_ppb in [-500_000_000, -100_000, 0, 100_000, 1_000_000_000] {
            let clock = SimClock { offset: 7 * second, drift_ppb };
            let node = sim.add(Ticker { peer: None, next: start, sent: 0, got: Vec::new() }, clock);
            let from = sim.now();
            run(&mut sim, 10 * second);
            let ticks = f64::from(sim.node(node).unwrap().sent);
            let expected = (clock.at(sim.now()) - clock.at(from)).div_duration_f64(INTERVAL);
            assert!((ticks - expected).abs() < 2.0, "{ticks} ticks at {drift_ppb} ppb, not {expected}");
        }
    }
}
