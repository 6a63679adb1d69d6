//! A network in a box: a UDP relay between members and their coordinator that delays, loses, repeats and cuts.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// The longest datagram; every socket splits the batches of its sender.
const DATAGRAM: usize = 65_536;

/// What the relay does to packets; by default nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    /// One way.
    pub(crate) delay: Duration,
    /// The share of packets that are lost.
    pub(crate) loss: f64,
    /// The share of packets that arrive twice.
    pub(crate) repeated: f64,
    /// Nothing from members reaches the coordinator.
    pub(crate) cut_up: bool,
    /// Nothing from the coordinator reaches members.
    pub(crate) cut_down: bool,
}

impl Weather {
    pub(crate) fn cut() -> Self {
        Self { cut_up: true, cut_down: true, ..Self::default() }
    }
}

/// Members that dial its address reach the coordinator, which sees each of them at an address of the relay's own.
pub(crate) struct Relay {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

struct Shared {
    front: UdpSocket,
    coordinator: SocketAddr,
    state: Mutex<State>,
}

struct State {
    weather: Weather,
    random: StdRng,
    /// The socket that stands for a member, towards the coordinator.
    backs: HashMap<SocketAddr, Arc<UdpSocket>>,
    carried: u64,
}

#[derive(Clone, Copy)]
enum Way {
    Up,
    Down,
}

impl Relay {
    pub(crate) async fn to(coordinator: SocketAddr) -> Self {
        let front = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let state =
            State { weather: Weather::default(), random: StdRng::seed_from_u64(7), backs: HashMap::new(), carried: 0 };
        let shared = Arc::new(Shared { front, coordinator, state: Mutex::new(state) });
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&shared).carry_up());
        Self { shared, tasks }
    }

    /// Where members find the coordinator.
    pub(crate) fn address(&self) -> SocketAddr {
        self.shared.front.local_addr().unwrap()
    }

    pub(crate) fn set(&self, weather: Weather) {
        self.shared.state.lock().unwrap().weather = weather;
    }

    /// Gives every member a new address, as a NAT does that has forgotten its connections.
    pub(crate) fn rebind(&self) {
        self.shared.state.lock().unwrap().backs.clear();
    }

    /// The addresses at which the coordinator sees members now.
    pub(crate) fn member_addresses(&self) -> Vec<SocketAddr> {
        self.shared.state.lock().unwrap().backs.values().map(|back| back.local_addr().unwrap()).collect()
    }

    /// How many packets were carried so far.
    pub(crate) fn carried(&self) -> u64 {
        self.shared.state.lock().unwrap().carried
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.tasks.abort_all();
    }
}

impl Shared {
    async fn carry_up(self: Arc<Self>) {
        let mut carriers = JoinSet::new();
        let mut buffer = vec![0; DATAGRAM];
        loop {
            let received = tokio::select! {
                received = self.front.recv_from(&mut buffer) => received,
                Some(carried) = carriers.join_next() => {
                    carried.unwrap();
                    continue;
                }
            };
            // A member that has gone makes the system report an error.
            let Ok((length, member)) = received else { continue };
            let back = self.state.lock().unwrap().backs.get(&member).cloned();
            let back = match back {
                Some(back) => back,
                None => {
                    let back = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
                    back.connect(self.coordinator).await.unwrap();
                    let back = Arc::new(back);
                    self.state.lock().unwrap().backs.insert(member, Arc::clone(&back));
                    carriers.spawn(Arc::clone(&self).carry_down(member, Arc::clone(&back)));
                    back
                }
            };
            for delay in self.fate(Way::Up) {
                let (packet, back) = (buffer[..length].to_vec(), Arc::clone(&back));
                carriers.spawn(async move {
                    sleep(delay).await;
                    // The coordinator may be down.
                    let _ = back.send(&packet).await;
                });
            }
        }
    }

    async fn carry_down(self: Arc<Self>, member: SocketAddr, back: Arc<UdpSocket>) {
        let mut carriers = JoinSet::new();
        let mut buffer = vec![0; DATAGRAM];
        loop {
            let received = tokio::select! {
                received = back.recv(&mut buffer) => received,
                Some(carried) = carriers.join_next() => {
                    let () = carried.unwrap();
                    continue;
                }
            };
            let Ok(length) = received else { continue };
            let current = self.state.lock().unwrap().backs.get(&member).is_some_and(|now| Arc::ptr_eq(now, &back));
            if !current {
                // The address was given up; what still comes to it is lost.
                continue;
            }
            for delay in self.fate(Way::Down) {
                let (packet, shared) = (buffer[..length].to_vec(), Arc::clone(&self));
                carriers.spawn(async move {
                    sleep(delay).await;
                    // The member may be gone.
                    let _ = shared.front.send_to(&packet, member).await;
                });
            }
        }
    }

    /// When the copies of a packet arrive.
    fn fate(&self, way: Way) -> Vec<Duration> {
        let state = &mut *self.state.lock().unwrap();
        let Weather { delay, loss, repeated, cut_up, cut_down } = state.weather;
        let cut = match way {
            Way::Up => cut_up,
            Way::Down => cut_down,
        };
        if cut || state.random.random_bool(loss) {
            return Vec::new();
        }
        state.carried += 1;
        if state.random.random_bool(repeated) { vec![delay, delay] } else { vec![delay] }
    }
}
