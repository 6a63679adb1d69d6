//! Roles that do nothing but remember what they were asked for.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use rally_core::metrics::{Findings, RaceReport};
use rally_core::{
    ClusterTime, ContentHash, Coordinator, DriverAssignment, DriverEvent, DriverEventKind, EventStream, HostFacts,
    JoinPoint, LoadDriver, NodePlan, Provisioner, ProvisionerEvent, ProvisionerEventKind, RaceEvent, RaceEventKind,
    RaceId, RaceRequest, RaceStatus, Role, RoleError, RoleErrorKind, Sequence, Step, StopMode,
};
use tokio::sync::watch;

/// Calls as text, and the length of the log of events, for any role.
#[derive(Debug)]
pub(crate) struct Fake {
    role: Role,
    calls: watch::Sender<Vec<String>>,
    /// How many events have happened, and whether there will be more.
    log: watch::Sender<(u64, bool)>,
    /// What the next call fails with.
    failure: Mutex<Option<RoleError>>,
    /// How long it takes to stop; one more event happens then, the last.
    stopping: Mutex<Option<Duration>>,
}

impl Fake {
    pub(crate) fn new(role: Role) -> Arc<Self> {
        Arc::new(Self {
            role,
            calls: watch::Sender::default(),
            log: watch::Sender::default(),
            failure: Mutex::default(),
            stopping: Mutex::default(),
        })
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        self.calls.borrow().clone()
    }

    /// Waits for a call.
    pub(crate) async fn called(&self, call: &str) {
        let mut calls = self.calls.subscribe();
        let called = calls.wait_for(|calls| calls.iter().any(|seen| seen == call));
        let outcome = tokio::time::timeout(crate::cluster::SOON, called).await.map(|called| drop(called.unwrap()));
        outcome.unwrap_or_else(|_| panic!("`{call}` is not among {:?}", self.calls()));
    }

    /// Lets so many more events happen.
    pub(crate) fn happen(&self, events: u64) {
        self.log.send_modify(|(happened, _)| *happened += events);
    }

    /// Ends all streams of events behind what has happened.
    pub(crate) fn end(&self) {
        self.log.send_modify(|(_, ended)| *ended = true);
    }

    /// Makes stopping last that long, with one last event at its end.
    pub(crate) fn take_to_stop(&self, time: Duration) {
        *self.stopping.lock().unwrap() = Some(time);
    }

    /// Makes the next call fail.
    pub(crate) fn fail_next(&self, kind: RoleErrorKind, cause: &str) -> RoleError {
        let error = RoleError {
            host: "the fake's host".to_owned(),
            role: self.role,
            phase: "play along".to_owned(),
            kind,
            cause: cause.to_owned(),
        };
        *self.failure.lock().unwrap() = Some(error.clone());
        error
    }

    fn call(&self, name: &str, arguments: impl Debug) -> Result<(), RoleError> {
        self.calls.send_modify(|calls| calls.push(format!("{name} {arguments:?}")));
        self.failure.lock().unwrap().take().map_or(Ok(()), Err)
    }

    fn follow<E, F>(&self, after: Sequence, event: F) -> EventStream<E>
    where
        E: Send + 'static,
        F: Fn(Sequence) -> E + Send + 'static,
    {
        let next = |(mut log, after, event): (watch::Receiver<(u64, bool)>, Sequence, F)| async move {
            let (happened, _) = *log.wait_for(|(happened, ended)| *happened > after.0 || *ended).await.ok()?;
            let sequence = after.next();
            (sequence.0 <= happened).then(|| (Ok(event(sequence)), (log, sequence, event)))
        };
        futures_util::stream::unfold((self.log.subscribe(), after, event), next).boxed()
    }
}

fn facts() -> HostFacts {
    HostFacts { name: "fake".to_owned(), cores: 96, ..HostFacts::default() }
}

#[async_trait]
impl LoadDriver for Fake {
    async fn facts(&self) -> Result<HostFacts, RoleError> {
        self.call("facts", ()).map(|()| facts())
    }

    async fn prepare(&self, assignment: DriverAssignment) -> Result<(), RoleError> {
        self.call("prepare", (assignment.race.as_str(), assignment.clients))
    }

    async fn events(&self, race: &RaceId, after: Sequence) -> Result<EventStream<DriverEvent>, RoleError> {
        self.call("events", (race.as_str(), after.0))?;
        let race = race.clone();
        Ok(self.follow(after, move |sequence| DriverEvent {
            sequence,
            at: ClusterTime::from_nanos(sequence.0),
            kind: DriverEventKind::Noticed { message: format!("event {} of {race}", sequence.0) },
        }))
    }

    async fn drive(&self, race: &RaceId, step: Step) -> Result<(), RoleError> {
        self.call("drive", (race.as_str(), step.until.0, step.start.as_nanos()))
    }

    async fn complete_step(&self, race: &RaceId, until: JoinPoint) -> Result<(), RoleError> {
        self.call("complete_step", (race.as_str(), until.0))
    }

    async fn attach_telemetry(&self, race: &RaceId) -> Result<(), RoleError> {
        self.call("attach_telemetry", race.as_str())
    }

    async fn stop(&self, race: &RaceId, mode: StopMode) -> Result<(), RoleError> {
        self.call("stop", (race.as_str(), mode))?;
        let stopping = self.stopping.lock().unwrap().take();
        if let Some(time) = stopping {
            tokio::time::sleep(time).await;
            self.happen(1);
            self.end();
        }
        Ok(())
    }
}

#[async_trait]
impl Provisioner for Fake {
    async fn facts(&self) -> Result<HostFacts, RoleError> {
        self.call("facts", ()).map(|()| facts())
    }

    async fn launch(&self, plan: NodePlan) -> Result<(), RoleError> {
        self.call("launch", (plan.race.as_str(), plan.nodes.len()))
    }

    async fn events(&self, race: &RaceId, after: Sequence) -> Result<EventStream<ProvisionerEvent>, RoleError> {
        self.call("events", (race.as_str(), after.0))?;
        Ok(self.follow(after, |sequence| ProvisionerEvent {
            sequence,
            at: ClusterTime::from_nanos(sequence.0),
            kind: ProvisionerEventKind::NodeExited { name: "rally-node-0".to_owned(), cause: "killed".to_owned() },
        }))
    }

    async fn stop(&self, race: &RaceId, mode: StopMode) -> Result<(), RoleError> {
        self.call("stop", (race.as_str(), mode))
    }
}

#[async_trait]
impl Coordinator for Fake {
    async fn start_race(&self, request: RaceRequest) -> Result<(), RoleError> {
        self.call("start_race", (request.race.as_str(), request.load_driver_hosts))
    }

    async fn events(&self, race: &RaceId, after: Sequence) -> Result<EventStream<RaceEvent>, RoleError> {
        self.call("events", (race.as_str(), after.0))?;
        Ok(self.follow(after, |sequence| RaceEvent {
            sequence,
            at: ClusterTime::from_nanos(sequence.0),
            kind: RaceEventKind::StepEnded { until: JoinPoint(sequence.0 as u32) },
        }))
    }

    async fn cancel(&self, race: &RaceId, mode: StopMode) -> Result<(), RoleError> {
        self.call("cancel", (race.as_str(), mode))
    }

    async fn current_race(&self) -> Result<Option<RaceStatus>, RoleError> {
        self.call("current_race", ()).map(|()| Some(race_status()))
    }

    async fn report(&self, race: &RaceId) -> Result<RaceReport, RoleError> {
        self.call("report", race.as_str()).map(|()| report(race))
    }
}

/// A report that needs more than one answer.
pub(crate) fn report(race: &RaceId) -> RaceReport {
    let document = serde_json::json!({
        "rally-version": "1", "rally-revision": null, "environment": "local", "race-id": race,
        "race-timestamp": "20261101T000000Z", "pipeline": "benchmark-only", "track": "geonames",
    });
    let notices = vec!["the clock is odd; ".repeat(50_000), "that was long".to_owned()];
    RaceReport {
        race: serde_json::from_value(document).unwrap(),
        findings: Findings { notices, ..Findings::default() },
        is_settled: true,
    }
}

pub(crate) fn race(id: &str) -> RaceId {
    id.parse().unwrap()
}

pub(crate) fn race_status() -> RaceStatus {
    let time = ClusterTime::from_nanos(5);
    RaceStatus { race: race("4711"), since: time, now: time, drivers: Vec::new(), step: None, awaited: Vec::new() }
}

pub(crate) fn assignment(id: &str) -> DriverAssignment {
    DriverAssignment { race: race(id), plan: ContentHash::from_bytes([1; 32]), clients: 0..8, telemetry: false }
}
