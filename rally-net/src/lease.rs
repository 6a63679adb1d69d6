//! What a host runs for someone else, it runs under a lease.
//!
//! The owner renews its lease in time, or the lease ends and whatever ran under it is cleaned up. So a load driver whose
//! coordinator is gone stops its load, and a provisioner stops its nodes, without anybody having to say so.
//!
//! A lease outlives its owner by no more than its term, counted from when the owner's last renewal is handled: once it
//! has arrived, and this process is not stopped itself.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::{Duration, Instant};

use rally_core::{Epoch, HostId, Role};
use serde::{Deserialize, Serialize};

/// The longest term of a lease; a longer one is cut to this, because nobody should wait longer for a host whose owner
/// has vanished.
pub const MAX_LEASE_TERM: Duration = Duration::from_secs(60);

/// Owners whose epoch is remembered; a host has few, and those that hold a lease are never forgotten.
const MAX_OWNERS: usize = 1024;

/// The leases that a host has granted: at most one for each role.
///
/// A lease that has run out still holds its resource until [`handle_timeout`](Self::handle_timeout) has reported its
/// end, so that cleaning up begins before the next owner comes.
#[derive(Debug)]
pub struct LeaseTable {
    epoch: Epoch,
    granted: u64,
    leases: BTreeMap<Role, Granted>,
    /// The latest epoch of each owner.
    owners: HashMap<HostId, Epoch>,
}

#[derive(Debug)]
struct Granted {
    id: LeaseId,
    holder: Holder,
    term: Duration,
    since: Instant,
    until: Instant,
}

/// Names one lease; never used again, not even by a later start of the daemon that granted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LeaseId {
    granted_in: Epoch,
    number: u64,
}

impl fmt::Display for LeaseId {
    /// The epoch in which it was granted, and its number: `3-17`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.granted_in, self.number)
    }
}

/// Who holds a lease, and what for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The owner's host.
    pub host: HostId,
    /// The start of the owner's daemon; a later start does not inherit its leases.
    pub epoch: Epoch,
    /// What for, such as `race 4711`.
    pub purpose: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {}", self.host, self.purpose)
    }
}

/// A granted lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its name.
    pub id: LeaseId,
    /// When it ends unless it is renewed.
    pub until: Instant,
}

/// A lease that has ended: whatever ran under it has to be stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedLease {
    /// Its name.
    pub id: LeaseId,
    /// The role that is free again.
    pub resource: Role,
    /// Who held it.
    pub holder: Holder,
    /// Why it ended.
    pub why: LeaseEnd,
}

/// Why a lease has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseEnd {
    /// Its owner gave it back.
    Released,
    /// Its owner did not renew it in time.
    Expired,
    /// Its owner's daemon has been started anew.
    OwnerRestarted,
}

/// A lease could not be granted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AcquireError {
    /// Another holder has it.
    #[error("the {resource} is taken by {by}, since {} s ago", held_for.as_secs())]
    Held {
        /// The role that was asked for.
        resource: Role,
        /// Who has it.
        by: Holder,
        /// How long it has had it by now.
        held_for: Duration,
    },
    /// A later start of the same owner is known.
    #[error("a later start of {host}, number {known}, is known")]
    OldEpoch {
        /// The owner.
        host: HostId,
        /// Its latest known epoch.
        known: Epoch,
    },
}

/// A lease could not be renewed or released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// It has ended, or never existed.
    #[error("the lease {0} has ended")]
    Ended(LeaseId),
    /// Somebody else holds it.
    #[error("the lease {id} belongs to start {epoch} of {host}")]
    NotHolder {
        /// The lease.
        id: LeaseId,
        /// Whose it is.
        host: HostId,
        /// The epoch of its owner.
        epoch: Epoch,
    },
}

impl LeaseTable {
    /// A table without leases, for this start of the daemon.
    pub fn new(epoch: Epoch) -> Self {
        Self { epoch, granted: 0, leases: BTreeMap::new(), owners: HashMap::new() }
    }

    /// Grants a role to `holder` until `now + term`, where `term` is cut to [`MAX_LEASE_TERM`].
    ///
    /// Asked again by the same holder, it renews the lease with the new term.
    ///
    /// # Errors
    ///
    /// [`AcquireError`] if another holder has the role, an earlier start of the same owner included until
    /// [`owner_seen`](Self::owner_seen) has ended its lease, or if a later start of the owner is known.
    pub fn acquire(
        &mut self,
        now: Instant,
        resource: Role,
        holder: Holder,
        term: Duration,
    ) -> Result<Lease, AcquireError> {
        if let Some(&known) = self.owners.get(&holder.host)
            && holder.epoch < known
        {
            return Err(AcquireError::OldEpoch { host: holder.host, known });
        }
        let term = term.min(MAX_LEASE_TERM);
        if let Some(granted) = self.leases.get_mut(&resource) {
            if granted.holder != holder || granted.until <= now {
                let held_for = now.saturating_duration_since(granted.since);
                return Err(AcquireError::Held { resource, by: granted.holder.clone(), held_for });
            }
            granted.term = term;
            granted.until = now + term;
            return Ok(Lease { id: granted.id, until: granted.until });
        }
        self.granted += 1;
        let id = LeaseId { granted_in: self.epoch, number: self.granted };
        let until = now + term;
        self.leases.insert(resource, Granted { id, holder, term, since: now, until });
        Ok(Lease { id, until })
    }

    /// Extends a lease by its term from `now`, and returns its new end.
    ///
    /// # Errors
    ///
    /// [`LeaseError`] if it has ended, even if its end is not yet reported, or is not held by this start of this host.
    pub fn renew(&mut self, now: Instant, id: LeaseId, host: HostId, epoch: Epoch) -> Result<Instant, LeaseError> {
        let granted = self.leases.values_mut().find(|granted| granted.id == id).ok_or(LeaseError::Ended(id))?;
        granted.check_holder(host, epoch)?;
        if granted.until <= now {
            return Err(LeaseError::Ended(id));
        }
        granted.until = now + granted.term;
        Ok(granted.until)
    }

    /// Ends a lease on behalf of its owner.
    ///
    /// # Errors
    ///
    /// [`LeaseError`] if it has ended already or is not held by this start of this host.
    pub fn release(&mut self, id: LeaseId, host: HostId, epoch: Epoch) -> Result<EndedLease, LeaseError> {
        let (&resource, granted) =
            self.leases.iter().find(|(_, granted)| granted.id == id).ok_or(LeaseError::Ended(id))?;
        granted.check_holder(host, epoch)?;
        self.end(resource, LeaseEnd::Released).ok_or(LeaseError::Ended(id))
    }

    /// Takes note of a start of an owner's daemon, and ends all leases of its earlier starts.
    ///
    /// To be called with each new connection to a host that may hold leases, before anything it asks for.
    #[must_use]
    pub fn owner_seen(&mut self, host: HostId, epoch: Epoch) -> Vec<EndedLease> {
        if self.owners.len() >= MAX_OWNERS && !self.owners.contains_key(&host) {
            let leases = &self.leases;
            self.owners.retain(|owner, _| leases.values().any(|granted| granted.holder.host == *owner));
        }
        let known = self.owners.entry(host).or_insert(epoch);
        *known = epoch.max(*known);
        let known = *known;
        self.end_where(LeaseEnd::OwnerRestarted, |granted| granted.holder.host == host && granted.holder.epoch < known)
    }

    /// Ends every lease that was not renewed in time.
    #[must_use]
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<EndedLease> {
        self.end_where(LeaseEnd::Expired, |granted| granted.until <= now)
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), `None` while there is no lease.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.leases.values().map(|granted| granted.until).min()
    }

    /// Who holds a role, and until when.
    pub fn holder(&self, resource: Role) -> Option<(&Holder, Instant)> {
        self.leases.get(&resource).map(|granted| (&granted.holder, granted.until))
    }

    fn end(&mut self, resource: Role, why: LeaseEnd) -> Option<EndedLease> {
        self.leases.remove(&resource).map(|Granted { id, holder, .. }| EndedLease { id, resource, holder, why })
    }

    fn end_where(&mut self, why: LeaseEnd, is_over: impl Fn(&Granted) -> bool) -> Vec<EndedLease> {
        let over: Vec<Role> =
            self.leases.iter().filter(|(_, granted)| is_over(granted)).map(|(&resource, _)| resource).collect();
        over.into_iter().filter_map(|resource| self.end(resource, why)).collect()
    }
}

impl Granted {
    fn check_holder(&self, host: HostId, epoch: Epoch) -> Result<(), LeaseError> {
        let Holder { host: owner, epoch: owner_epoch, .. } = self.holder;
        if (owner, owner_epoch) == (host, epoch) {
            Ok(())
        } else {
            Err(LeaseError::NotHolder { id: self.id, host: owner, epoch: owner_epoch })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TERM: Duration = Duration::from_secs(10);
    const COORDINATOR: HostId = HostId::from_random(1);

    fn holder(epoch: u64, purpose: &str) -> Holder {
        Holder { host: COORDINATOR, epoch: Epoch(epoch), purpose: purpose.to_owned() }
    }

    #[test]
    fn a_role_has_one_holder_at_a_time_and_the_refusal_names_it() {
        let now = Instant::now();
        let mut table = LeaseTable::new(Epoch(1));
        table.acquire(now, Role::LoadDriver, holder(1, "race 1"), TERM).unwrap();
        let refused = table.acquire(now + TERM / 2, Role::LoadDriver, holder(1, "race 2"), TERM).unwrap_err();
        let held_for = TERM / 2;
        assert_eq!(refused, AcquireError::Held { resource: Role::LoadDriver, by: holder(1, "race 1"), held_for });
        let said = format!("the load driver is taken by {COORDINATOR} for race 1, since 5 s ago");
        assert_eq!(refused.to_string(), said);
        table.acquire(now, Role::Provisioner, holder(1, "race 2"), TERM).unwrap();
    }

    #[test]
    fn the_same_holder_asking_again_renews_its_lease() {
        let now = Instant::now();
        let mut table = LeaseTable::new(Epoch(1));
        let first = table.acquire(now, Role::LoadDriver, holder(1, "race"), TERM).unwrap();
        let later = now + TERM / 2;
        let again = table.acquire(later, Role::LoadDriver, holder(1, "race"), TERM).unwrap();
        assert_eq!(again, Lease { id: first.id, until: later + TERM });
    }

    #[test]
    fn a_renewed_lease_lives_on_and_one_that_is_not_ends_with_its_term() {
        let now = Instant::now();
        let mut table = LeaseTable::new(Epoch(1));
        let lease = table.acquire(now, Role::LoadDriver, holder(1, "race"), TERM).unwrap();
        let renewed_at = now + TERM / 2;
        assert_eq!(table.renew(renewed_at, lease.id, COORDINATOR, Epoch(1)), Ok(renewed_at + TERM));
        assert_eq!(table.handle_timeout(lease.until), []);
        let end = table.next_deadline().unwrap();
        assert_eq!(end, renewed_at + TERM);
        assert_eq!(table.renew(end, lease.id, COORDINATOR, Epoch(1)), Err(LeaseError::Ended(lease.id)));
        let ended = table.handle_timeout(end);
        assert_eq!(ended.len(), 1);
        assert_eq!((ended[0].id, ended[0].why), (lease.id, LeaseEnd::Expired));
        assert_eq!(table.next_deadline(), None);
    }

    #[test]
    fn a_restarted_owner_loses_the_leases_of_its_former_start() {
        let now = Instant::now();
        let mut table = LeaseTable::new(Epoch(1));
        let lease = table.acquire(now, Role::LoadDriver, holder(1, "race"), TERM).unwrap();
        assert_eq!(table.owner_seen(COORDINATOR, Epoch(1)), []);
        let ended = table.owner_seen(COORDINATOR, Epoch(2));
        assert_eq!(ended.len(), 1);
        assert_eq!((ended[0].id, ended[0].why), (lease.id, LeaseEnd::OwnerRestarted));
        assert_eq!(
            table.acquire(now, Role::LoadDriver, holder(1, "race"), TERM),
            Err(AcquireError::OldEpoch { host: COORDINATOR, known: Epoch(2) })
        );
        table.acquire(now, Role::LoadDriver, holder(2, "race"), TERM).unwrap();
        assert_eq!(table.owner_seen(COORDINATOR, Epoch(1)), []);
    }

    #[test]
    fn only_the_holder_renews_and_releases() {
        let now = Instant::now();
        let mut table = LeaseTable::new(Epoch(1));
        let lease = table.acquire(now, Role::LoadDriver, holder(5, "race"), TERM).unwrap();
        let not_holder = LeaseError::NotHolder { id: lease.id, host: COORDINATOR, epoch: Epoch(5) };
        for (host, epoch) in [(COORDINATOR, Epoch(4)), (COORDINATOR, Epoch(6)), (HostId::from_random(2), Epoch(5))] {
            assert_eq!(table.renew(now, lease.id, host, epoch), Err(not_holder));
            assert_eq!(table.release(lease.id, host, epoch), Err(not_holder));
        }
        assert_eq!(table.release(lease.id, COORDINATOR, Epoch(5)).unwrap().why, LeaseEnd::Released);
        assert_eq!(table.release(lease.id, COORDINATOR, Epoch(5)), Err(LeaseError::Ended(lease.id)));
    }

    #[test]
    fn a_lease_of_a_former_start_of_the_granting_host_is_never_mistaken_for_a_new_one() {
        let now = Instant::now();
        let old = LeaseTable::new(Epoch(1)).acquire(now, Role::LoadDriver, holder(1, "race"), TERM).unwrap();
        let mut table = LeaseTable::new(Epoch(2));
        table.acquire(now, Role::Provisioner, holder(1, "race"), TERM).unwrap();
        assert_eq!(table.release(old.id, COORDINATOR, Epoch(1)), Err(LeaseError::Ended(old.id)));
    }

    #[test]
    fn the_number_of_remembered_owners_is_bounded_and_holders_are_kept() {
        let now = Instant::now();
        let mut table = LeaseTable::new(Epoch(1));
        let _ = table.owner_seen(COORDINATOR, Epoch(7));
        table.acquire(now, Role::LoadDriver, holder(7, "race"), TERM).unwrap();
        for host in 2..5000 {
            let _ = table.owner_seen(HostId::from_random(host), Epoch(1));
            assert!(table.owners.len() <= MAX_OWNERS);
        }
        assert_eq!(table.owners.get(&COORDINATOR), Some(&Epoch(7)));
    }

    #[derive(Clone, Debug)]
    enum Event {
        Acquire { role: Role, host: u128, epoch: u64, purpose: u8, term: u64 },
        Renew { lease: usize, host: u128, epoch: u64 },
        Release { lease: usize, host: u128, epoch: u64 },
        Seen { host: u128, epoch: u64 },
        Timeout,
    }

    fn event() -> impl Strategy<Value = Event> {
        let role = prop_oneof![Just(Role::Coordinator), Just(Role::LoadDriver), Just(Role::Provisioner)];
        prop_oneof![
            (role, 1..3_u128, 1..4_u64, 0..2_u8, 0..120_u64)
                .prop_map(|(role, host, epoch, purpose, term)| Event::Acquire { role, host, epoch, purpose, term }),
            (0..20_usize, 1..3_u128, 1..4_u64).prop_map(|(lease, host, epoch)| Event::Renew { lease, host, epoch }),
            (0..20_usize, 1..3_u128, 1..4_u64).prop_map(|(lease, host, epoch)| Event::Release { lease, host, epoch }),
            (1..3_u128, 1..4_u64).prop_map(|(host, epoch)| Event::Seen { host, epoch }),
            Just(Event::Timeout),
        ]
    }

    proptest! {
        #[test]
        fn a_lease_ends_once_and_only_its_holder_keeps_it(events in prop::collection::vec((0..30_u64, event()), 0..80)) {
            let mut now = Instant::now();
            let mut table = LeaseTable::new(Epoch(1));
            let mut ids = Vec::new();
            // When each live lease has to end at the latest, by what its own holder asked for.
            let mut live: HashMap<LeaseId, (HostId, Epoch, Duration, Instant)> = HashMap::new();
            let mut seen: HashMap<HostId, Epoch> = HashMap::new();
            for (seconds, event) in events {
                now += Duration::from_secs(seconds);
                let mut ended = Vec::new();
                match event {
                    Event::Acquire { role, host, epoch, purpose, term } => {
                        let (host, epoch, term) = (HostId::from_random(host), Epoch(epoch), Duration::from_secs(term));
                        let holder = Holder { host, epoch, purpose: purpose.to_string() };
                        if let Ok(lease) = table.acquire(now, role, holder, term) {
                            prop_assert!(seen.get(&host).is_none_or(|&known| epoch >= known));
                            prop_assert!(lease.until <= now + MAX_LEASE_TERM);
                            prop_assert!(lease.until <= now + term);
                            if let Some(known) = live.insert(lease.id, (host, epoch, lease.until - now, lease.until)) {
                                prop_assert_eq!((known.0, known.1), (host, epoch));
                            } else {
                                ids.push(lease.id);
                            }
                        }
                    }
                    Event::Renew { lease, host, epoch } => {
                        let (host, epoch) = (HostId::from_random(host), Epoch(epoch));
                        if let Some(&id) = ids.get(lease)
                            && let Ok(until) = table.renew(now, id, host, epoch)
                        {
                            let known = live.get_mut(&id).expect("only a live lease is renewed");
                            prop_assert_eq!((known.0, known.1), (host, epoch));
                            prop_assert!(known.3 > now);
                            prop_assert_eq!(until, now + known.2);
                            known.3 = until;
                        }
                    }
                    Event::Release { lease, host, epoch } => {
                        if let Some(&id) = ids.get(lease) {
                            ended.extend(table.release(id, HostId::from_random(host), Epoch(epoch)));
                        }
                    }
                    Event::Seen { host, epoch } => {
                        let (host, epoch) = (HostId::from_random(host), Epoch(epoch));
                        let known = seen.entry(host).or_insert(epoch);
                        *known = epoch.max(*known);
                        let known = *known;
                        ended = table.owner_seen(host, epoch);
                        prop_assert!(ended.iter().all(|end| end.holder.host == host && end.holder.epoch < known));
                    }
                    Event::Timeout => {
                        ended = table.handle_timeout(now);
                        for end in &ended {
                            prop_assert!(live[&end.id].3 <= now);
                        }
                        prop_assert!(table.next_deadline().is_none_or(|deadline| deadline > now));
                    }
                }
                for end in ended {
                    prop_assert!(live.remove(&end.id).is_some(), "ended twice");
                }
                prop_assert_eq!(table.next_deadline(), live.values().map(|known| known.3).min());
            }
        }
    }
}
