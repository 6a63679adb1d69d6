//! The coordinator of the cluster, through the daemon of this machine.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use rally_core::metrics::RaceReport;
use rally_core::{
    Coordinator, EventStream, RaceEvent, RaceId, RaceRequest, RaceStatus, Role, RoleError, RoleErrorKind, Sequence,
    StopMode,
};

use crate::causes::causes;
use crate::control::{Request, Response, call};
use crate::instance::Instance;

/// Events in one answer at most.
const MAX_EVENTS: usize = 1000;

/// How long an answer without events is held back.
const HOLD: Duration = Duration::from_millis(500);

/// How long a daemon that has events waits for more.
const GATHER: Duration = Duration::from_millis(2);

/// The coordinator that the daemon of this machine follows, or is.
#[derive(Debug)]
pub struct ControlCoordinator {
    instance: Instance,
}

impl ControlCoordinator {
    /// Asks this daemon.
    #[must_use]
    pub fn new(instance: Instance) -> Self {
        Self { instance }
    }

    /// Starts a race with a plan that the coordinator does not have yet.
    ///
    /// # Errors
    ///
    /// As [`Coordinator::start_race`].
    pub async fn start(&self, request: RaceRequest, plan: String) -> Result<(), RoleError> {
        let phase = format!("start race {}", request.race);
        match ask(&self.instance, &phase, &Request::StartRace { request: Box::new(request), plan }).await? {
            Response::RaceAccepted => Ok(()),
            _ => Err(misfit(&self.instance, &phase)),
        }
    }
}

async fn ask(instance: &Instance, phase: &str, request: &Request) -> Result<Response, RoleError> {
    match call(instance, request).await {
        Ok(Response::RoleFailed(error)) => Err(*error),
        Ok(Response::Refused(cause)) => Err(error(instance, phase, RoleErrorKind::Failed, cause)),
        Ok(response) => Ok(response),
        Err(cause) => Err(error(instance, phase, RoleErrorKind::Unreachable, causes(&cause).join(": "))),
    }
}

fn error(instance: &Instance, phase: &str, kind: RoleErrorKind, cause: String) -> RoleError {
    RoleError { host: instance.address().to_string(), role: Role::Coordinator, phase: phase.to_owned(), kind, cause }
}

fn misfit(instance: &Instance, phase: &str) -> RoleError {
    let cause = "the daemon's answer does not fit; `rallyd restart` helps if it is of another version".to_owned();
    error(instance, phase, RoleErrorKind::Failed, cause)
}

#[async_trait]
impl Coordinator for ControlCoordinator {
    async fn start_race(&self, request: RaceRequest) -> Result<(), RoleError> {
        self.start(request, String::new()).await
    }

    async fn events(&self, race: &RaceId, after: Sequence) -> Result<EventStream<RaceEvent>, RoleError> {
        let (instance, race) = (self.instance.clone(), race.clone());
        let more = move |after: Option<Sequence>| {
            let (instance, race) = (instance.clone(), race.clone());
            async move {
                let after = after?;
                let phase = format!("report on race {race}");
                let (items, next) = match ask(&instance, &phase, &Request::RaceEvents { race, after }).await {
                    Ok(Response::RaceEvents { events, is_over }) => {
                        let next = events.last().map_or(after, |event| event.sequence);
                        (events.into_iter().map(Ok).collect(), (!is_over).then_some(next))
                    }
                    Ok(_) => (vec![Err(misfit(&instance, &phase))], None),
                    Err(error) => (vec![Err(error)], None),
                };
                Some((stream::iter(items), next))
            }
        };
        Ok(stream::unfold(Some(after), more).flatten().boxed())
    }

    async fn cancel(&self, race: &RaceId, mode: StopMode) -> Result<(), RoleError> {
        let phase = format!("cancel race {race}");
        match ask(&self.instance, &phase, &Request::CancelRace { race: race.clone(), mode }).await? {
            Response::RaceAccepted => Ok(()),
            _ => Err(misfit(&self.instance, &phase)),
        }
    }

    async fn current_race(&self) -> Result<Option<RaceStatus>, RoleError> {
        match ask(&self.instance, "name its race", &Request::CurrentRace).await? {
            Response::CurrentRace(race) => Ok(race),
            _ => Err(misfit(&self.instance, "name its race")),
        }
    }

    async fn report(&self, race: &RaceId) -> Result<RaceReport, RoleError> {
        let phase = format!("report on race {race}");
        match ask(&self.instance, &phase, &Request::RaceReport { race: race.clone() }).await? {
            Response::RaceReport(report) => Ok(*report),
            _ => Err(misfit(&self.instance, &phase)),
        }
    }
}

/// The events after a number that are there within a moment, and whether no more will come.
pub(crate) async fn some_events(
    coordinator: &dyn Coordinator,
    race: &RaceId,
    after: Sequence,
) -> Result<(Vec<RaceEvent>, bool), RoleError> {
    let mut stream = coordinator.events(race, after).await?;
    let (mut events, mut wait) = (Vec::new(), HOLD);
    while events.len() < MAX_EVENTS {
        match tokio::time::timeout(wait, stream.next()).await {
            Ok(Some(event)) => events.push(event?),
            Ok(None) => return Ok((events, true)),
            Err(_) => break,
        }
        wait = GATHER;
    }
    Ok((events, false))
}
