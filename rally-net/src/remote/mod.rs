//! Roles on other hosts: for each role trait a proxy that implements it over a connection, and a service that lets
//! others use an implementation of this host.
//!
//! Load drivers and provisioners serve the coordinator alone, and only under a lease: the proxy takes it with the first
//! request of a race and renews it for as long as it lives. When a lease ends, for whatever reason, the host stops what
//! ran under it. A connection that breaks for a moment is invisible here: requests are sent again, which every role
//! allows, and streams of events go on behind the last event that arrived.

mod coordinator;
mod driver;
mod lease;
mod provisioner;
mod role;

use std::sync::Arc;
use std::time::Duration;

use rally_core::{RaceId, Role, StopMode};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::warn;

pub use coordinator::RemoteCoordinator;
pub use driver::RemoteLoadDriver;
pub use provisioner::RemoteProvisioner;

use crate::host::{Roles, Shared};
use crate::lease::EndedLease;
use crate::rpc::Services;

/// How long a role may take to stop what it runs when this host ends.
const STOP_TIMEOUT: Duration = Duration::from_secs(8);

/// Declares requests with their names on the wire and their answers.
macro_rules! requests {
    ($($(#[$doc:meta])* $name:literal $request:ident { $($field:ident: $type:ty),* } => $answer:ty;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
        struct $request { $($field: $type),* }

        impl $crate::rpc::Request for $request {
            const NAME: &'static str = $name;
            type Answer = $answer;
        }
    )*};
}
use requests;

/// Offers the roles of this host to its peers.
pub(crate) fn offer(services: &mut Services, shared: &Arc<Shared>, roles: &Roles) {
    lease::offer(services, shared);
    if let Some(driver) = &roles.load_driver {
        driver::offer(services, shared, driver);
    }
    if let Some(provisioner) = &roles.provisioner {
        provisioner::offer(services, shared, provisioner);
    }
    if let Some(coordinator) = &roles.coordinator {
        coordinator::offer(services, coordinator);
    }
}

/// Stops what ran under a lease as soon as the lease ends, and everything when the host stops.
pub(crate) async fn end_with_leases(shared: Arc<Shared>, roles: Roles, mut ended: broadcast::Receiver<EndedLease>) {
    let mut stopping = JoinSet::new();
    loop {
        tokio::select! {
            () = shared.stop.cancelled() => break,
            () = shared.leases.run() => (),
            lease = ended.recv() => match lease {
                Ok(lease) => {
                    if let Ok(race) = lease.holder.purpose.parse() {
                        stopping.spawn(stop(roles.clone(), lease.resource, race, StopMode::Now));
                    }
                }
                Err(RecvError::Lagged(missed)) => warn!(missed, "some leases ended unnoticed"),
                Err(RecvError::Closed) => break,
            },
            Some(_) = stopping.join_next() => (),
        }
    }
    for (role, race) in shared.leases.held() {
        stopping.spawn(stop(roles.clone(), role, race, StopMode::Drain));
    }
    if timeout(STOP_TIMEOUT, async { while stopping.join_next().await.is_some() {} }).await.is_err() {
        warn!("a role of this host did not stop what it ran in time");
    }
    shared.roles_running.send_replace(false);
}

async fn stop(roles: Roles, role: Role, race: RaceId, mode: StopMode) {
    let stopped = match (role, &roles.load_driver, &roles.provisioner) {
        (Role::LoadDriver, Some(driver), _) => driver.stop(&race, mode).await,
        (Role::Provisioner, _, Some(provisioner)) => provisioner.stop(&race, mode).await,
        (Role::LoadDriver | Role::Provisioner | Role::Coordinator, ..) => Ok(()),
    };
    if let Err(error) = stopped {
        warn!(%error, "what ran under a lease could not be stopped");
    }
}
