//! The coordinator's registry with many hosts.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use rally_core::{Epoch, HostFacts, HostId};
use rally_net::{Capacity, Registry, RegistryEvent, Report, Session, Timing};

/// A registry whose hosts are all well.
#[derive(Debug)]
pub struct Cluster {
    registry: Registry,
    hosts: u64,
    timing: Timing,
    now: Instant,
    address: SocketAddr,
}

impl Cluster {
    /// So many hosts have said hello.
    pub fn new(hosts: u64) -> Self {
        let (timing, now) = (Timing::default(), Instant::now());
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1900));
        let mut registry = Registry::new(timing.clone(), Capacity::default());
        for host in 0..hosts {
            let event = RegistryEvent::Hello {
                session: Session(host),
                // Ids are random; this spreads them as well.
                host: HostId::from_random(u128::from(host + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)),
                epoch: Epoch(1),
                address,
                facts: HostFacts::default(),
            };
            assert!(!registry.handle(now, event).is_empty(), "every host is welcome");
        }
        Self { registry, hosts, timing, now, address }
    }

    /// One interval between heartbeats: every host is heard of, and the deadlines that pass meanwhile are dealt with.
    ///
    /// # Panics
    ///
    /// If anything but silence about healthy hosts comes out.
    pub fn step(&mut self) {
        let interval = self.timing.heartbeat / self.hosts as u32;
        for host in 0..self.hosts {
            self.now += interval;
            let event =
                RegistryEvent::Heartbeat { session: Session(host), report: Report::default(), address: self.address };
            let mut actions = self.registry.handle(self.now, event);
            if self.registry.next_deadline().is_some_and(|deadline| deadline <= self.now) {
                actions.extend(self.registry.handle_timeout(self.now));
            }
            assert!(actions.is_empty(), "nothing happened: {actions:?}");
        }
    }
}
