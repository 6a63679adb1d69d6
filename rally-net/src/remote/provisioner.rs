//! The provisioner, over a connection.

use std::sync::Arc;

use async_trait::async_trait;
use rally_core::{
    EventStream, HostFacts, HostId, NodePlan, Provisioner, ProvisionerEvent, RaceId, Role, RoleError, Sequence,
    StopMode,
};
use tokio::sync::Mutex;

use super::lease::{self, HeldLease};
use super::requests;
use super::role::{RemoteRole, Target};
use crate::host::Shared;
use crate::rpc::{Access, Caller, Rejection, Services};

requests! {
    /// [`Provisioner::facts`].
    "provisioner/facts" Facts {} => Result<HostFacts, RoleError>;
    /// [`Provisioner::launch`].
    "provisioner/launch" Launch { plan: NodePlan } => Result<(), RoleError>;
    /// [`Provisioner::events`].
    "provisioner/events" Events { race: RaceId, after: Sequence } => Result<ProvisionerEvent, RoleError>;
    /// [`Provisioner::stop`].
    "provisioner/stop" Stop { race: RaceId, mode: StopMode } => Result<(), RoleError>;
}

/// A provisioner on another host. Dropping it gives its lease back, which stops its nodes.
#[derive(Debug)]
pub struct RemoteProvisioner {
    remote: RemoteRole,
    lease: Mutex<Option<HeldLease>>,
}

impl RemoteProvisioner {
    pub(crate) fn new(shared: Arc<Shared>, host: HostId) -> Self {
        let remote = RemoteRole { shared, role: Role::Provisioner, target: Target::Host(host) };
        Self { remote, lease: Mutex::default() }
    }
}

#[async_trait]
impl Provisioner for RemoteProvisioner {
    async fn facts(&self) -> Result<HostFacts, RoleError> {
        self.remote.call("describe its host", &Facts {}).await
    }

    async fn launch(&self, plan: NodePlan) -> Result<(), RoleError> {
        let mut lease = self.lease.lock().await;
        if lease.as_ref().is_none_or(|lease| lease.race != plan.race) {
            if let Some(other) = lease.take() {
                other.give_back().await;
            }
            *lease = Some(HeldLease::acquire(&self.remote, &plan.race).await?);
        }
        let phase = format!("launch the nodes of race {}", plan.race);
        self.remote.call(&phase, &Launch { plan }).await
    }

    async fn events(&self, race: &RaceId, after: Sequence) -> Result<EventStream<ProvisionerEvent>, RoleError> {
        let race = race.clone();
        let phase = format!("report on race {race}");
        let request = move |after| Events { race: race.clone(), after };
        self.remote.follow(phase, after, request, |event: &ProvisionerEvent| event.sequence).await
    }

    async fn stop(&self, race: &RaceId, mode: StopMode) -> Result<(), RoleError> {
        self.remote.call(&format!("stop the nodes of race {race}"), &Stop { race: race.clone(), mode }).await
    }
}

/// Lets the coordinator use a provisioner of this host.
pub(super) fn offer(services: &mut Services, shared: &Arc<Shared>, provisioner: &Arc<dyn Provisioner>) {
    let access = Access::CoordinatorOnly;
    let it = Arc::clone(provisioner);
    services.answer(access, move |_, Facts {}| {
        let it = Arc::clone(&it);
        async move { it.facts().await }
    });
    let (it, host) = (Arc::clone(provisioner), Arc::clone(shared));
    services.answer(access, move |caller: Caller, Launch { plan }| {
        let (it, host) = (Arc::clone(&it), Arc::clone(&host));
        async move {
            lease::check(&host, &caller, Role::Provisioner, &plan.race)?;
            it.launch(plan).await
        }
    });
    let it = Arc::clone(provisioner);
    services.stream(access, move |_, Events { race, after }| {
        let it = Arc::clone(&it);
        async move { it.events(&race, after).await.map_err(Rejection::Role) }
    });
    let it = Arc::clone(provisioner);
    services.answer(access, move |_, Stop { race, mode }| {
        let it = Arc::clone(&it);
        async move { it.stop(&race, mode).await }
    });
}
