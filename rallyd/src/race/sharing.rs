//! The load driver of a daemon, with its raw samples for the whole cluster.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures_util::StreamExt;
use rally_core::{
    ContentHash, DriverAssignment, DriverEvent, DriverEventKind, EventStream, HostFacts, JoinPoint, LoadDriver, RaceId,
    RoleError, Sequence, Step, StopMode,
};
use rally_driver::LocalLoadDriver;
use tracing::warn;

use super::cluster::{ClusterContent, LateHost};
use super::shipping::CorpusOffers;

/// What is offered of each race, the latest last.
type Shared = VecDeque<(RaceId, Vec<ContentHash>)>;

/// Races whose raw samples are kept on the host that drove them.
const RACES_SHARED: usize = 2;

/// The load driver of this host, which offers its raw samples to the cluster.
///
/// Files of the race before are kept until the next one is prepared, in case the coordinator still fetches them.
#[derive(Clone)]
pub(super) struct SharingDriver {
    driver: Arc<LocalLoadDriver>,
    host: LateHost,
    /// Corpora that this host offers until the end of their race.
    corpora: Arc<CorpusOffers>,
    shared: Arc<Mutex<Shared>>,
    /// Where plans are deleted once their race has ended here; none if they are needed for longer.
    plans: Option<Arc<ClusterContent>>,
    /// The plan of the latest race.
    plan: Arc<Mutex<Option<(RaceId, ContentHash)>>>,
}

impl fmt::Debug for SharingDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.driver.fmt(f)
    }
}

impl SharingDriver {
    pub(super) fn new(
        driver: Arc<LocalLoadDriver>,
        host: LateHost,
        corpora: Arc<CorpusOffers>,
        plans: Option<Arc<ClusterContent>>,
    ) -> Self {
        Self { driver, host, corpora, shared: Arc::default(), plans, plan: Arc::default() }
    }

    /// Deletes the plan that it remembers if its race is one of these, and remembers another.
    async fn change_plan(&self, is_over: impl FnOnce(&RaceId) -> bool, next: Option<(RaceId, ContentHash)>) {
        let old = {
            let mut plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
            let old = plan.take_if(|(race, _)| is_over(race));
            *plan = next.or_else(|| plan.take());
            old
        };
        if let (Some(plans), Some((_, content))) = (&self.plans, old) {
            plans.forget(content).await;
        }
    }

    /// Offers a file of raw samples.
    async fn share(&self, race: &RaceId, content: ContentHash) {
        let Some(host) = self.host.get() else { return };
        if let Err(error) = host.shelf().add(self.driver.segment_path(content)).await {
            warn!(%content, %error, "raw samples cannot be offered");
            return;
        }
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, contents)) = shared.iter_mut().find(|(known, _)| known == race) {
            contents.push(content);
        }
    }

    /// Makes room for the raw samples of a race by deleting those of old ones.
    fn make_room(&self, race: &RaceId) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if shared.iter().any(|(known, _)| known == race) {
            return;
        }
        shared.push_back((race.clone(), Vec::new()));
        while shared.len() > RACES_SHARED {
            for content in shared.pop_front().into_iter().flat_map(|(_, contents)| contents) {
                if let Some(host) = self.host.get() {
                    host.shelf().remove(content);
                }
                let path = self.driver.segment_path(content);
                if let Err(error) = std::fs::remove_file(&path) {
                    warn!(path = %path.display(), %error, "old raw samples cannot be deleted");
                }
            }
        }
    }
}

#[async_trait]
impl LoadDriver for SharingDriver {
    async fn facts(&self) -> Result<HostFacts, RoleError> {
        self.driver.facts().await
    }

    async fn prepare(&self, assignment: DriverAssignment) -> Result<(), RoleError> {
        let (race, plan) = (assignment.race.clone(), assignment.plan);
        self.driver.prepare(assignment).await?;
        self.change_plan(|old| *old != race, Some((race.clone(), plan))).await;
        self.make_room(&race);
        self.corpora.begin(&race);
        Ok(())
    }

    async fn events(&self, race: &RaceId, after: Sequence) -> Result<EventStream<DriverEvent>, RoleError> {
        let events = self.driver.events(race, after).await?;
        let (sharing, race) = (self.clone(), race.clone());
        let share = move |event: Result<DriverEvent, RoleError>| {
            let (sharing, race) = (sharing.clone(), race.clone());
            async move {
                if let Ok(DriverEvent { kind: DriverEventKind::SegmentWritten { hash, .. }, .. }) = &event {
                    sharing.share(&race, *hash).await;
                }
                if let Ok(DriverEvent { kind: DriverEventKind::Ended, .. }) = &event {
                    sharing.change_plan(|old| *old == race, None).await;
                }
                event
            }
        };
        Ok(events.then(share).boxed())
    }

    async fn drive(&self, race: &RaceId, step: Step) -> Result<(), RoleError> {
        self.driver.drive(race, step).await
    }

    async fn complete_step(&self, race: &RaceId, until: JoinPoint) -> Result<(), RoleError> {
        self.driver.complete_step(race, until).await
    }

    async fn attach_telemetry(&self, race: &RaceId) -> Result<(), RoleError> {
        self.driver.attach_telemetry(race).await
    }

    /// It comes with the end of the lease at the latest, also when the coordinator is gone.
    async fn stop(&self, race: &RaceId, mode: StopMode) -> Result<(), RoleError> {
        self.corpora.withdraw(race);
        self.driver.stop(race, mode).await
    }
}
