//! The leases that this host grants, and what happens when one ends.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rally_core::{Activity, Epoch, HostId, RaceId, Role};
use tokio::sync::{Notify, broadcast};
use tokio::time::sleep_until;

use crate::lease::{AcquireError, EndedLease, Holder, Lease, LeaseError, LeaseId, LeaseTable};

/// Ended leases that a slow listener may have pending; a host has one for each role.
const ENDED_BACKLOG: usize = 64;

/// The leases of one host, shared by the services that grant them and those that work under them.
#[derive(Debug)]
pub(crate) struct Leases {
    table: Mutex<LeaseTable>,
    changed: Notify,
    ended: broadcast::Sender<EndedLease>,
}

impl Leases {
    pub(crate) fn new(epoch: Epoch) -> Self {
        Self {
            table: Mutex::new(LeaseTable::new(epoch)),
            changed: Notify::new(),
            ended: broadcast::channel(ENDED_BACKLOG).0,
        }
    }

    /// Leases as they end, from now on.
    pub(crate) fn ended(&self) -> broadcast::Receiver<EndedLease> {
        self.ended.subscribe()
    }

    pub(crate) fn acquire(&self, role: Role, holder: Holder, term: Duration) -> Result<Lease, AcquireError> {
        let lease = self.table().acquire(Instant::now(), role, holder, term);
        self.changed.notify_one();
        lease
    }

    pub(crate) fn renew(&self, id: LeaseId, host: HostId, epoch: Epoch) -> Result<(), LeaseError> {
        self.table().renew(Instant::now(), id, host, epoch).map(drop)
    }

    pub(crate) fn release(&self, id: LeaseId, host: HostId, epoch: Epoch) -> Result<(), LeaseError> {
        let ended = self.table().release(id, host, epoch)?;
        self.publish([ended]);
        Ok(())
    }

    /// A daemon has been heard of; what an earlier start of it had asked for is over.
    pub(crate) fn owner_seen(&self, host: HostId, epoch: Epoch) {
        let ended = self.table().owner_seen(host, epoch);
        self.publish(ended);
    }

    /// Whether this start of that host holds the lease of a role for a race.
    pub(crate) fn holds(&self, role: Role, host: HostId, epoch: Epoch, race: &RaceId) -> bool {
        self.table()
            .holder(role)
            .is_some_and(|(holder, _)| holder.host == host && holder.epoch == epoch && holder.purpose == race.as_str())
    }

    /// What the host is doing, by the leases that it has granted.
    pub(crate) fn activity(&self) -> Activity {
        let held = self.held();
        match held.first() {
            None => Activity::Idle,
            Some((_, race)) => Activity::Racing {
                race: race.clone(),
                roles: held.iter().filter(|(_, other)| other == race).map(|(role, _)| *role).collect(),
            },
        }
    }

    /// The roles that are taken, and the races that they are taken for.
    pub(crate) fn held(&self) -> Vec<(Role, RaceId)> {
        let table = self.table();
        let roles = [Role::Coordinator, Role::LoadDriver, Role::Provisioner];
        roles.into_iter().filter_map(|role| Some((role, table.holder(role)?.0.purpose.parse().ok()?))).collect()
    }

    /// Ends leases whose time is up, for ever.
    pub(crate) async fn run(&self) {
        loop {
            let deadline = self.table().next_deadline();
            tokio::select! {
                () = self.changed.notified() => continue,
                () = async { match deadline {
                    Some(deadline) => sleep_until(deadline.into()).await,
                    None => std::future::pending().await,
                } } => (),
            }
            let ended = self.table().handle_timeout(Instant::now());
            self.publish(ended);
        }
    }

    fn publish(&self, ended: impl IntoIterator<Item = EndedLease>) {
        for lease in ended {
            tracing::info!(role = %lease.resource, holder = %lease.holder, why = ?lease.why, "a lease has ended");
            // Nobody listens on a host without roles.
            let _ = self.ended.send(lease);
        }
    }

    fn table(&self) -> MutexGuard<'_, LeaseTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
