//! Races in this process alone, without a daemon.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use rally_core::metrics::{Interval, RaceMetrics};
use rally_core::race::{DriverIndex, Recorder, Timer};
use rally_core::{ClusterTime, ContentHash, HostFacts, LoadDriver, RaceId, RacePlan};
use rally_driver::{ClockTimer, ContentSource, DriverOptions, LocalLoadDriver, MemoryContent, Registry, local_clock};

use super::coordinator::Surroundings;

/// One load driver, in this process.
pub struct LocalSurroundings {
    content: Arc<MemoryContent>,
    timer: Arc<ClockTimer>,
    driver: Arc<LocalLoadDriver>,
    metrics: Arc<Mutex<RaceMetrics>>,
}

impl fmt::Debug for LocalSurroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalSurroundings").field("driver", &self.driver).finish_non_exhaustive()
    }
}

impl LocalSurroundings {
    /// Makes a load driver with these runners; corpora are kept in `data_dir`, raw samples in `segment_dir`.
    #[must_use]
    pub fn new(facts: HostFacts, registry: Arc<Registry>, data_dir: PathBuf, segment_dir: PathBuf) -> Self {
        let content = Arc::<MemoryContent>::default();
        let clock = local_clock();
        let timer = Arc::new(ClockTimer::new(Arc::clone(&clock)));
        let source = Arc::clone(&content) as Arc<dyn ContentSource>;
        let options = DriverOptions { facts, registry, content: source, clock, data_dir, segment_dir };
        Self { content, timer, driver: Arc::new(LocalLoadDriver::new(options)), metrics: Arc::default() }
    }

    /// What was measured in the last race.
    #[must_use]
    pub fn metrics(&self) -> Arc<Mutex<RaceMetrics>> {
        Arc::clone(&self.metrics)
    }

    /// Where plans are left for races.
    #[must_use]
    pub fn content(&self) -> &Arc<MemoryContent> {
        &self.content
    }
}

#[async_trait]
impl Surroundings for LocalSurroundings {
    fn timer(&self) -> Arc<dyn Timer> {
        Arc::clone(&self.timer) as Arc<dyn Timer>
    }

    async fn plan(&self, content: ContentHash) -> Result<RacePlan, String> {
        let bytes = self.content.get(content).ok_or_else(|| format!("nothing is known of {content}"))?;
        serde_json::from_slice(&bytes).map_err(|error| format!("the plan of the race cannot be understood: {error}"))
    }

    async fn load_drivers(&self, hosts: &[String]) -> Result<Vec<(String, Arc<dyn LoadDriver>)>, String> {
        match hosts {
            [] => Err("there is no load driver".to_owned()),
            [host] if is_this_host(host) => Ok(vec![(host.clone(), Arc::clone(&self.driver) as Arc<dyn LoadDriver>)]),
            others => Err(format!(
                "no daemon runs on this machine, so {} cannot be reached; start one with `rallyd start`",
                others.join(", ")
            )),
        }
    }

    fn recorder(&self, _: &RaceId, _: &Arc<RacePlan>) -> Box<dyn Recorder> {
        *self.metrics.lock().unwrap_or_else(PoisonError::into_inner) = RaceMetrics::default();
        Box::new(AddUp(Arc::clone(&self.metrics)))
    }
}

/// Whether a host that a user named is this one.
pub(crate) fn is_this_host(host: &str) -> bool {
    matches!(host, "localhost" | "127.0.0.1" | "::1" | "[::1]")
}

/// Keeps nothing but what is seen while the race runs.
#[derive(Debug)]
pub(super) struct Forget;

impl Recorder for Forget {
    fn interval(&mut self, _: DriverIndex, _: ClusterTime, _: &Interval) {}
}

/// Adds up what drivers measure.
#[derive(Debug)]
struct AddUp(Arc<Mutex<RaceMetrics>>);

impl Recorder for AddUp {
    fn interval(&mut self, driver: DriverIndex, _: ClusterTime, interval: &Interval) {
        // The race has already dropped what came twice and counted what is missing.
        let mut metrics = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = metrics.add(&format!("{driver:?}"), interval);
    }
}
