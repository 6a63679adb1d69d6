//! The coordinator as the owner of races, over a connection.

use std::sync::Arc;

use async_trait::async_trait;
use rally_core::metrics::RaceReport;
use rally_core::{
    Coordinator, EventStream, RaceEvent, RaceId, RaceRequest, RaceStatus, Role, RoleError, RoleErrorKind, Sequence,
    StopMode,
};

use super::requests;
use super::role::{RemoteRole, Target};
use crate::host::Shared;
use crate::rpc::{Access, Rejection, Services};

requests! {
    /// [`Coordinator::start_race`].
    "coordinator/start-race" StartRace { request: RaceRequest } => Result<(), RoleError>;
    /// [`Coordinator::events`].
    "coordinator/events" Events { race: RaceId, after: Sequence } => Result<RaceEvent, RoleError>;
    /// [`Coordinator::cancel`].
    "coordinator/cancel" Cancel { race: RaceId, mode: StopMode } => Result<(), RoleError>;
    /// [`Coordinator::current_race`].
    "coordinator/current-race" CurrentRace {} => Result<Option<RaceStatus>, RoleError>;
    /// [`Coordinator::report`] as JSON, from a byte on: [`PART`] bytes, or what is left.
    "coordinator/report" Report { race: RaceId, from: u64 } => Result<Vec<u8>, RoleError>;
}

/// Bytes of a report in one answer.
const PART: usize = 512 << 10;

/// The longest report that is taken, in bytes: that of some ten thousand tasks.
const MAX_REPORT: usize = 64 << 20;

/// The coordinator that this member follows. Dropping it changes nothing for a race.
#[derive(Debug)]
pub struct RemoteCoordinator {
    remote: RemoteRole,
}

impl RemoteCoordinator {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { remote: RemoteRole { shared, role: Role::Coordinator, target: Target::Coordinator } }
    }
}

#[async_trait]
impl Coordinator for RemoteCoordinator {
    async fn start_race(&self, request: RaceRequest) -> Result<(), RoleError> {
        self.remote.call(&format!("start race {}", request.race), &StartRace { request }).await
    }

    async fn events(&self, race: &RaceId, after: Sequence) -> Result<EventStream<RaceEvent>, RoleError> {
        let race = race.clone();
        let phase = format!("report on race {race}");
        let request = move |after| Events { race: race.clone(), after };
        self.remote.follow(phase, after, request, |event: &RaceEvent| event.sequence).await
    }

    async fn cancel(&self, race: &RaceId, mode: StopMode) -> Result<(), RoleError> {
        self.remote.call(&format!("cancel race {race}"), &Cancel { race: race.clone(), mode }).await
    }

    async fn current_race(&self) -> Result<Option<RaceStatus>, RoleError> {
        self.remote.call("name its race", &CurrentRace {}).await
    }

    async fn report(&self, race: &RaceId) -> Result<RaceReport, RoleError> {
        let phase = format!("give the report on race {race}");
        let mut json = Vec::new();
        loop {
            let part = self.remote.call(&phase, &Report { race: race.clone(), from: json.len() as u64 }).await?;
            let is_last = part.len() < PART;
            json.extend(part);
            if is_last || json.len() > MAX_REPORT {
                break;
            }
        }
        serde_json::from_slice(&json).map_err(|error| self.remote.broken(&phase, &error))
    }
}

/// The part of a report that begins at a byte.
fn part(report: &RaceReport, from: u64) -> serde_json::Result<Vec<u8>> {
    let json = serde_json::to_vec(report)?;
    let start = usize::try_from(from).unwrap_or(usize::MAX).min(json.len());
    let end = start.saturating_add(PART).min(json.len());
    Ok(json[start..end].to_vec())
}

/// Lets every host of the cluster start and watch races.
pub(super) fn offer(services: &mut Services, coordinator: &Arc<dyn Coordinator>) {
    let access = Access::AnyHost;
    let it = Arc::clone(coordinator);
    services.answer(access, move |_, StartRace { request }| {
        let it = Arc::clone(&it);
        async move { it.start_race(request).await }
    });
    let it = Arc::clone(coordinator);
    services.stream(access, move |_, Events { race, after }| {
        let it = Arc::clone(&it);
        async move { it.events(&race, after).await.map_err(Rejection::Role) }
    });
    let it = Arc::clone(coordinator);
    services.answer(access, move |_, Cancel { race, mode }| {
        let it = Arc::clone(&it);
        async move { it.cancel(&race, mode).await }
    });
    let it = Arc::clone(coordinator);
    services.answer(access, move |_, CurrentRace {}| {
        let it = Arc::clone(&it);
        async move { it.current_race().await }
    });
    let it = Arc::clone(coordinator);
    services.answer(access, move |_, Report { race, from }| {
        let it = Arc::clone(&it);
        async move {
            let report = it.report(&race).await?;
            part(&report, from).map_err(|error| {
                let phase = format!("give the report on race {race}");
                RoleError::new("the coordinator", Role::Coordinator, phase, RoleErrorKind::Failed, &error)
            })
        }
    });
}
