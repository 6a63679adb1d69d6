//! Leases over a connection: the service that grants them, and the handle that keeps one.

use std::sync::Arc;
use std::time::Duration;

use rally_core::{RaceId, Role, RoleError, RoleErrorKind};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, warn};

use super::requests;
use super::role::RemoteRole;
use crate::host::Shared;
use crate::lease::{Holder, LeaseId};
use crate::membership::Timing;
use crate::rpc::{Access, Caller, Services};

/// How long a host that is about to end tries to give back a lease.
const LAST_RELEASE: Duration = Duration::from_secs(1);

/// How long a host goes on without hearing from the owner of a lease, 6 s by default: a little longer than the owner
/// may be silent before it counts as dead, so that a short cut of the network costs nothing.
fn term(timing: &Timing) -> Duration {
    timing.dead_after + renewal(timing)
}

/// Between two renewals, 1 s by default; several may be late.
fn renewal(timing: &Timing) -> Duration {
    2 * timing.heartbeat
}

requests! {
    /// Takes the lease of a role for a race.
    "lease/acquire" AcquireLease { role: Role, race: RaceId } => Result<LeaseId, RoleError>;
    /// Keeps a lease for another term.
    "lease/renew" RenewLease { role: Role, lease: LeaseId } => Result<(), RoleError>;
    /// Gives a lease back.
    "lease/release" ReleaseLease { role: Role, lease: LeaseId } => Result<(), RoleError>;
}

/// Grants leases to the coordinator.
pub(super) fn offer(services: &mut Services, shared: &Arc<Shared>) {
    let grants = Arc::clone(shared);
    services.answer(Access::CoordinatorOnly, move |caller: Caller, AcquireLease { role, race }| {
        let phase = format!("take part in race {race}");
        if grants.stop.is_cancelled() {
            let cause = "this host is about to end".to_owned();
            let error = RoleError { host: grants.name(), role, phase, kind: RoleErrorKind::Cancelled, cause };
            return std::future::ready(Err(error));
        }
        let holder = Holder { host: caller.host(), epoch: caller.epoch(), purpose: race.to_string() };
        let lease = grants.leases.acquire(role, holder, term(&grants.timing)).map(|lease| lease.id);
        let lease = lease.map_err(|error| refused(&grants, role, &phase, RoleErrorKind::Busy, &error));
        std::future::ready(lease)
    });
    let renewals = Arc::clone(shared);
    services.answer(Access::CoordinatorOnly, move |caller: Caller, RenewLease { role, lease }| {
        let renewed = renewals.leases.renew(lease, caller.host(), caller.epoch());
        std::future::ready(
            renewed.map_err(|error| refused(&renewals, role, "renew its lease", RoleErrorKind::Invalid, &error)),
        )
    });
    let releases = Arc::clone(shared);
    services.answer(Access::CoordinatorOnly, move |caller: Caller, ReleaseLease { role, lease }| {
        let released = releases.leases.release(lease, caller.host(), caller.epoch());
        std::future::ready(
            released.map_err(|error| refused(&releases, role, "give back its lease", RoleErrorKind::Invalid, &error)),
        )
    });
}

fn refused(
    shared: &Shared,
    role: Role,
    phase: &str,
    kind: RoleErrorKind,
    cause: &(dyn std::error::Error + 'static),
) -> RoleError {
    RoleError::new(shared.name(), role, phase, kind, cause)
}

/// What a service of a role answers to a caller that works without a lease.
pub(super) fn check(shared: &Shared, caller: &Caller, role: Role, race: &RaceId) -> Result<(), RoleError> {
    if shared.leases.holds(role, caller.host(), caller.epoch(), race) {
        return Ok(());
    }
    Err(RoleError {
        host: shared.name(),
        role,
        phase: format!("take part in race {race}"),
        kind: RoleErrorKind::Forbidden,
        cause: "whoever asked holds no lease of this role for this race, or it has ended".to_owned(),
    })
}

/// A lease on another host; it is renewed until this is dropped, and then given back.
#[derive(Debug)]
pub(super) struct HeldLease {
    pub(super) race: RaceId,
    kept: DropGuard,
    keeper: JoinHandle<()>,
}

impl HeldLease {
    pub(super) async fn acquire(remote: &RemoteRole, race: &RaceId) -> Result<Self, RoleError> {
        let phase = format!("take part in race {race}");
        let lease = remote.call(&phase, &AcquireLease { role: remote.role, race: race.clone() }).await?;
        // Ends with the handle or with the host, whichever is first.
        let end = remote.shared.stop.child_token();
        let keeper = remote.shared.tracker.spawn(keep(remote.clone(), lease, end.clone()));
        Ok(Self { race: race.clone(), kept: end.drop_guard(), keeper })
    }

    /// Gives the lease back, and waits until the role is free for another race.
    pub(super) async fn give_back(self) {
        drop(self.kept);
        // It reports its own failures, and ends by itself.
        let _ = self.keeper.await;
    }
}

async fn keep(remote: RemoteRole, lease: LeaseId, end: CancellationToken) {
    let role = remote.role;
    loop {
        let renewal = async {
            sleep(renewal(&remote.shared.timing)).await;
            remote.call("renew its lease", &RenewLease { role, lease }).await
        };
        tokio::select! {
            () = end.cancelled() => break,
            renewed = renewal => if let Err(error) = renewed {
                // Whoever works with the role learns it from their next request.
                return warn!(%error, "a lease was lost");
            },
        }
    }
    let release = ReleaseLease { role, lease };
    let too_late = async {
        remote.shared.stop.cancelled().await;
        sleep(LAST_RELEASE).await;
    };
    tokio::select! {
        released = remote.call("give back its lease", &release) => if let Err(error) = released {
            debug!(%error, "a lease was not given back; it ends by itself");
        },
        () = too_late => debug!("a lease was not given back in time; it ends by itself"),
    }
}
