//! Races in this process alone, without a daemon.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use rally_core::race::Timer;
use rally_core::{ContentHash, HostFacts, LoadDriver, RacePlan};
use rally_driver::{ClockTimer, ContentSource, DriverOptions, LocalLoadDriver, MemoryContent, Registry, local_clock};

use super::coordinator::Surroundings;
use super::registry;
use super::sample_files::FetchPace;
use crate::archive::Archive;
use crate::facts::host_facts;
use crate::settings::ReportingSettings;

/// One load driver, in this process.
pub struct LocalSurroundings {
    facts: HostFacts,
    content: Arc<MemoryContent>,
    timer: Arc<ClockTimer>,
    driver: Arc<LocalLoadDriver>,
    archive: Option<Archive>,
    reporting: ReportingSettings,
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
        let options = DriverOptions { facts: facts.clone(), registry, content: source, clock, data_dir, segment_dir };
        let driver = Arc::new(LocalLoadDriver::new(options));
        Self { facts, content, timer, driver, archive: None, reporting: ReportingSettings::default() }
    }

    /// With Rally's operations; races are archived in `races` below the directory, and corpora are kept in `data`.
    #[must_use]
    pub fn below(directory: &Path) -> Self {
        let [data, samples, races] = ["data", "samples", "races"].map(|name| directory.join(name));
        Self::new(host_facts(), registry(), data, samples).archive_in(Archive::new(races), ReportingSettings::default())
    }

    /// Archives races, and sends them to the metrics store of these settings.
    #[must_use]
    pub fn archive_in(mut self, archive: Archive, reporting: ReportingSettings) -> Self {
        (self.archive, self.reporting) = (Some(archive), reporting);
        self
    }
}

#[async_trait]
impl Surroundings for LocalSurroundings {
    fn facts(&self) -> HostFacts {
        self.facts.clone()
    }

    async fn keep(&self, plan: Vec<u8>) -> Result<ContentHash, String> {
        Ok(self.content.add(Bytes::from(plan)))
    }

    fn timer(&self) -> Arc<dyn Timer> {
        Arc::clone(&self.timer) as Arc<dyn Timer>
    }

    async fn plan(&self, content: ContentHash) -> Result<RacePlan, String> {
        let bytes = self.content.get(content).ok_or_else(|| format!("nothing is known of {content}"))?;
        RacePlan::from_json(&bytes).map_err(|error| error.to_string())
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

    fn archive(&self) -> Option<Archive> {
        self.archive.clone()
    }

    async fn find_samples(
        &self,
        _driver: &str,
        content: ContentHash,
        directory: &Path,
        _pace: FetchPace,
    ) -> Result<(), String> {
        let (from, to) = (self.driver.segment_path(content), directory.join(format!("{content}.parquet")));
        if from == to {
            return Ok(());
        }
        let moved = async {
            tokio::fs::create_dir_all(directory).await?;
            // It may be another disk.
            match tokio::fs::rename(&from, &to).await {
                Ok(()) => Ok(()),
                Err(_) => {
                    tokio::fs::copy(&from, &to).await?;
                    tokio::fs::remove_file(&from).await
                }
            }
        };
        moved.await.map_err(|error: io::Error| format!("{} cannot be moved: {error}", from.display()))
    }

    fn reporting(&self) -> Result<ReportingSettings, String> {
        Ok(self.reporting.clone())
    }
}

/// Whether a host that a user named is this one.
pub(crate) fn is_this_host(host: &str) -> bool {
    matches!(host, "localhost" | "127.0.0.1" | "::1" | "[::1]")
}
