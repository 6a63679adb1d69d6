//! The load driver, over a connection.

use std::sync::Arc;

use async_trait::async_trait;
use rally_core::{
    DriverAssignment, DriverEvent, EventStream, HostFacts, HostId, JoinPoint, LoadDriver, RaceId, Role, RoleError,
    Sequence, Step, StopMode,
};
use tokio::sync::Mutex;

use super::lease::{self, HeldLease};
use super::requests;
use super::role::{RemoteRole, Target};
use crate::host::Shared;
use crate::rpc::{Access, Caller, Rejection, Services};

requests! {
    /// [`LoadDriver::facts`].
    "driver/facts" Facts {} => Result<HostFacts, RoleError>;
    /// [`LoadDriver::prepare`].
    "driver/prepare" Prepare { assignment: DriverAssignment } => Result<(), RoleError>;
    /// [`LoadDriver::events`].
    "driver/events" Events { race: RaceId, after: Sequence } => Result<DriverEvent, RoleError>;
    /// [`LoadDriver::drive`].
    "driver/drive" Drive { race: RaceId, step: Step } => Result<(), RoleError>;
    /// [`LoadDriver::complete_step`].
    "driver/complete-step" CompleteStep { race: RaceId, until: JoinPoint } => Result<(), RoleError>;
    /// [`LoadDriver::attach_telemetry`].
    "driver/attach-telemetry" AttachTelemetry { race: RaceId } => Result<(), RoleError>;
    /// [`LoadDriver::stop`].
    "driver/stop" Stop { race: RaceId, mode: StopMode } => Result<(), RoleError>;
}

/// A load driver on another host. Dropping it gives its lease back, which stops its load.
#[derive(Debug)]
pub struct RemoteLoadDriver {
    remote: RemoteRole,
    lease: Mutex<Option<HeldLease>>,
}

impl RemoteLoadDriver {
    pub(crate) fn new(shared: Arc<Shared>, host: HostId) -> Self {
        let remote = RemoteRole { shared, role: Role::LoadDriver, target: Target::Host(host) };
        Self { remote, lease: Mutex::default() }
    }
}

#[async_trait]
impl LoadDriver for RemoteLoadDriver {
    async fn facts(&self) -> Result<HostFacts, RoleError> {
        self.remote.call("describe its host", &Facts {}).await
    }

    async fn prepare(&self, assignment: DriverAssignment) -> Result<(), RoleError> {
        let mut lease = self.lease.lock().await;
        if lease.as_ref().is_none_or(|lease| lease.race != assignment.race) {
            if let Some(other) = lease.take() {
                other.give_back().await;
            }
            *lease = Some(HeldLease::acquire(&self.remote, &assignment.race).await?);
        }
        let phase = format!("prepare race {}", assignment.race);
        self.remote.call(&phase, &Prepare { assignment }).await
    }

    async fn events(&self, race: &RaceId, after: Sequence) -> Result<EventStream<DriverEvent>, RoleError> {
        let race = race.clone();
        let phase = format!("report on race {race}");
        let request = move |after| Events { race: race.clone(), after };
        self.remote.follow(phase, after, request, |event: &DriverEvent| event.sequence).await
    }

    async fn drive(&self, race: &RaceId, step: Step) -> Result<(), RoleError> {
        let phase = format!("drive race {race} up to join point {}", step.until);
        self.remote.call(&phase, &Drive { race: race.clone(), step }).await
    }

    async fn complete_step(&self, race: &RaceId, until: JoinPoint) -> Result<(), RoleError> {
        let phase = format!("complete the step of race {race} before join point {until}");
        self.remote.call(&phase, &CompleteStep { race: race.clone(), until }).await
    }

    async fn attach_telemetry(&self, race: &RaceId) -> Result<(), RoleError> {
        let phase = format!("go on with the telemetry of race {race}");
        self.remote.call(&phase, &AttachTelemetry { race: race.clone() }).await
    }

    async fn stop(&self, race: &RaceId, mode: StopMode) -> Result<(), RoleError> {
        self.remote.call(&format!("stop race {race}"), &Stop { race: race.clone(), mode }).await
    }
}

/// Lets the coordinator use a driver of this host.
pub(super) fn offer(services: &mut Services, shared: &Arc<Shared>, driver: &Arc<dyn LoadDriver>) {
    let access = Access::CoordinatorOnly;
    let role = Role::LoadDriver;
    let it = Arc::clone(driver);
    services.answer(access, move |_, Facts {}| {
        let it = Arc::clone(&it);
        async move { it.facts().await }
    });
    let (it, host) = (Arc::clone(driver), Arc::clone(shared));
    services.answer(access, move |caller: Caller, Prepare { assignment }| {
        let (it, host) = (Arc::clone(&it), Arc::clone(&host));
        async move {
            lease::check(&host, &caller, role, &assignment.race)?;
            it.prepare(assignment).await
        }
    });
    let it = Arc::clone(driver);
    services.stream(access, move |_, Events { race, after }| {
        let it = Arc::clone(&it);
        async move { it.events(&race, after).await.map_err(Rejection::Role) }
    });
    let (it, host) = (Arc::clone(driver), Arc::clone(shared));
    services.answer(access, move |caller: Caller, Drive { race, step }| {
        let (it, host) = (Arc::clone(&it), Arc::clone(&host));
        async move {
            lease::check(&host, &caller, role, &race)?;
            it.drive(&race, step).await
        }
    });
    let (it, host) = (Arc::clone(driver), Arc::clone(shared));
    services.answer(access, move |caller: Caller, CompleteStep { race, until }| {
        let (it, host) = (Arc::clone(&it), Arc::clone(&host));
        async move {
            lease::check(&host, &caller, role, &race)?;
            it.complete_step(&race, until).await
        }
    });
    let (it, host) = (Arc::clone(driver), Arc::clone(shared));
    services.answer(access, move |caller: Caller, AttachTelemetry { race }| {
        let (it, host) = (Arc::clone(&it), Arc::clone(&host));
        async move {
            lease::check(&host, &caller, role, &race)?;
            it.attach_telemetry(&race).await
        }
    });
    let it = Arc::clone(driver);
    services.answer(access, move |_, Stop { race, mode }| {
        let it = Arc::clone(&it);
        async move { it.stop(&race, mode).await }
    });
}
