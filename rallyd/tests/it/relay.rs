//! A bad network between one host and another: a relay that delays and drops packets.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Each way.
const DELAY: Duration = Duration::from_millis(50);

/// Each way.
const LOSS_PERCENT: u64 = 5;

/// How long the relay waits for a packet before it looks whether it is to end.
const IDLE: Duration = Duration::from_millis(100);

/// Passes packets between one client and a target; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Relay {
    address: SocketAddr,
    state: Arc<State>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    /// Who has sent the first packet.
    client: OnceLock<SocketAddr>,
    stop: AtomicBool,
    passed: AtomicU64,
    dropped: AtomicU64,
}

impl Relay {
    /// Listens at `address` for a client whose packets go to `target`, and come from `address` there.
    pub(crate) fn new(target: SocketAddr, address: SocketAddr) -> Self {
        let front = Arc::new(UdpSocket::bind(address).unwrap());
        let back = Arc::new(UdpSocket::bind(SocketAddr::new(address.ip(), 0)).unwrap());
        let (address, state) = (front.local_addr().unwrap(), Arc::new(State::default()));
        let there = {
            let (front, back, state) = (Arc::clone(&front), Arc::clone(&back), Arc::clone(&state));
            thread::spawn(move || {
                pass(&front, &back, &state, 1, |state, from| {
                    state.client.get_or_init(|| from);
                    Some(target)
                })
            })
        };
        let here = {
            let state = Arc::clone(&state);
            thread::spawn(move || pass(&back, &front, &state, 2, |state, _| state.client.get().copied()))
        };
        Self { address, state, threads: vec![there, here] }
    }

    /// Where the client has to send its packets to.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many packets it has passed and dropped.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.state.passed.load(Ordering::Relaxed), self.state.dropped.load(Ordering::Relaxed))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // If it has panicked, the test has failed by now.
            let _ = thread.join();
        }
    }
}

/// Passes packets one way.
fn pass(
    from: &UdpSocket,
    to: &UdpSocket,
    state: &State,
    seed: u64,
    target: impl Fn(&State, SocketAddr) -> Option<SocketAddr>,
) {
    let mut under_way: VecDeque<(Instant, SocketAddr, Vec<u8>)> = VecDeque::new();
    let mut random = seed;
    let mut buffer = [0; 65_536];
    while !state.stop.load(Ordering::Relaxed) {
        while let Some((_, target, packet)) = under_way.pop_front_if(|(due, ..)| *due <= Instant::now()) {
            // A target that is not there yet is none of the network's business.
            let _ = to.send_to(&packet, target);
            state.passed.fetch_add(1, Ordering::Relaxed);
        }
        let wait = under_way.front().map_or(IDLE, |(due, ..)| due.saturating_duration_since(Instant::now()));
        from.set_read_timeout(Some(wait.max(Duration::from_micros(100)))).unwrap();
        let (length, sender) = match from.recv_from(&mut buffer) {
            Ok(received) => received,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(error) => panic!("the relay cannot receive: {error}"),
        };
        let Some(target) = target(state, sender) else { continue };
        // The same packets are lost in every run, as far as there are the same.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if (random >> 33) % 100 < LOSS_PERCENT {
            state.dropped.fetch_add(1, Ordering::Relaxed);
        } else {
            under_way.push_back((Instant::now() + DELAY, target, buffer[..length].to_vec()));
        }
    }
}
