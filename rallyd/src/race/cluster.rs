//! Races over the hosts of a cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt;
use std::fs::{self, Permissions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rally_core::race::Timer;
use rally_core::{
    ContentHash, Coordinator, DataSource, HostFacts, HostId, LoadDriver, RaceId, RacePlan, ShippedFile, ShippedPart,
    ShippingHost,
};
use rally_driver::{
    ClockTimer, ContentSource, CoordinatorClock, DriverOptions, LocalLoadDriver, Registry, local_clock,
};
use rally_net::{
    Fetch, FetchProgress, FileName, Host, HostChange, HostEvent, HostState, HostStatus, HostSummary, MembershipEvent,
    PartialSource, PeerSource, Roles, Served, Services, Source, fetch,
};
use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::warn;

use super::coordinator::{RaceCoordinator, Surroundings};
use super::gentle_source::GentleSource;
use super::local::is_this_host;
use super::sample_files::FetchPace;
use super::sharing::SharingDriver;
use super::shipping::{CorpusOffers, HostNotice, Shipping, in_turn};
use crate::archive::{Archive, HostClock};
use crate::causes::causes;
use crate::settings::ReportingSettings;

/// The mode of files that others must not read.
const OWNER_ONLY: u32 = 0o600;

/// How often the coordinator is asked whether a race is over.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// Bytes of raw samples that are fetched from a driver per second while a race runs. A driver that makes more than these,
/// some 400,000 samples, catches up when the race has ended.
const GENTLE: u32 = 8 << 20;

/// The host of a daemon for the roles that it plays, which are made before it.
#[derive(Clone, Debug, Default)]
pub(super) struct LateHost(Arc<OnceLock<Weak<Host>>>);

impl LateHost {
    fn set(&self, host: &Arc<Host>) {
        let first = self.0.set(Arc::downgrade(host));
        debug_assert!(first.is_ok(), "a daemon has one host");
    }

    pub(super) fn get(&self) -> Option<Arc<Host>> {
        self.0.get()?.upgrade()
    }

    /// Coordinator time; this host's own as long as the coordinator's is not known.
    fn clock(&self) -> CoordinatorClock {
        let (host, own) = (self.clone(), local_clock());
        Arc::new(move || host.get().and_then(|host| host.clock().now().ok()).unwrap_or_else(|| own()))
    }
}

/// Contents of other hosts, and of this one.
pub(crate) struct ClusterContent {
    host: LateHost,
    /// Where plans are kept.
    directory: PathBuf,
}

#[derive(Debug, thiserror::Error)]
#[error("this host is about to end")]
pub(super) struct Ending;

impl ClusterContent {
    fn name(content: ContentHash) -> String {
        format!("{content}.json")
    }

    fn hash(bytes: &[u8]) -> ContentHash {
        ContentHash::from_bytes(*blake3::hash(bytes).as_bytes())
    }

    /// Keeps a content, and offers it to the cluster.
    pub(crate) async fn keep(&self, bytes: Vec<u8>) -> io::Result<ContentHash> {
        let content = Self::hash(&bytes);
        self.make_directory().await?;
        let path = self.directory.join(Self::name(content));
        let mut file = File::options().write(true).create(true).truncate(true).mode(OWNER_ONLY).open(&path).await?;
        file.write_all(&bytes).await?;
        file.flush().await?;
        drop(file);
        let host = self.host.get().ok_or_else(|| io::Error::other(Ending))?;
        host.shelf().add(path).await.map_err(io::Error::other)
    }

    /// Plans may hold passwords of the cluster under test.
    async fn make_directory(&self) -> io::Result<()> {
        tokio::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory).await
    }

    /// Deletes a plan that is no longer needed here.
    pub(crate) async fn forget(&self, content: ContentHash) {
        if let Some(host) = self.host.get() {
            host.shelf().remove(content);
        }
        let path = self.directory.join(Self::name(content));
        match tokio::fs::remove_file(&path).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                warn!(path = %path.display(), %error, "the plan of a race cannot be deleted");
            }
            _ => {}
        }
    }

    /// Gets a plan from whichever host has it.
    async fn get(&self, content: ContentHash) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
        self.make_directory().await?;
        let path = self.find(content, self.directory.clone(), Self::name(content)).await?;
        tokio::fs::set_permissions(&path, Permissions::from_mode(OWNER_ONLY)).await?;
        let bytes = tokio::fs::read(&path).await?;
        self.host.get().ok_or(Ending)?.shelf().add(path).await?;
        Ok(bytes)
    }

    /// Reads a plan that this host keeps only if it had it before.
    pub(super) async fn look_at_plan(&self, content: ContentHash) -> Result<RacePlan, String> {
        let had_it = self.host.get().is_some_and(|host| host.shelf().manifest(content).is_ok());
        let bytes = self.get(content).await;
        if !had_it {
            self.forget(content).await;
        }
        let bytes = bytes.map_err(|error| format!("the plan of the race cannot be had: {error}"))?;
        RacePlan::from_json(&bytes).map_err(|error| error.to_string())
    }

    /// Gets a content from whichever host has it, into a file.
    async fn find(
        &self,
        content: ContentHash,
        directory: PathBuf,
        name: String,
    ) -> Result<PathBuf, Box<dyn Error + Send + Sync>> {
        let host = self.host.get().ok_or(Ending)?;
        self.find_in(&sources(&host).await, content, directory, name).await
    }

    /// The same from these sources only.
    async fn find_in(
        &self,
        sources: &[Arc<dyn Source>],
        content: ContentHash,
        directory: PathBuf,
        name: String,
    ) -> Result<PathBuf, Box<dyn Error + Send + Sync>> {
        tokio::fs::create_dir_all(&directory).await?;
        let request = Fetch { content, directory, name: name.parse::<FileName>()?, range: None };
        Ok(fetch(&request, sources, &watch::Sender::default()).await?.path)
    }
}

/// This host and all others, each of which may have a content.
async fn sources(host: &Host) -> Vec<Arc<dyn Source>> {
    let mut sources = vec![Arc::clone(host.shelf()) as Arc<dyn Source>];
    let peers = host.status().await.hosts.into_iter().filter_map(|summary| host.peer(summary.id));
    sources.extend(peers.chain(host.coordinator()).map(|peer| Arc::new(PeerSource::new(peer)) as Arc<dyn Source>));
    sources
}

#[async_trait]
impl ContentSource for ClusterContent {
    async fn fetch(&self, content: ContentHash) -> Result<Bytes, Box<dyn Error + Send + Sync>> {
        self.get(content).await.map(Bytes::from)
    }

    async fn path(&self, content: ContentHash) -> Option<PathBuf> {
        self.host.get()?.shelf().path(content).await
    }

    async fn fetch_into(
        &self,
        file: &ShippedFile,
        range: Range<u64>,
        directory: &Path,
        name: &str,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Vec<(String, u64)>, Box<dyn Error + Send + Sync>> {
        let host = self.host.get().ok_or(Ending)?;
        let (directory, name) = (directory.to_owned(), name.parse::<FileName>()?);
        let sources = shipping_sources(&host, file, &range);
        let request = Fetch { content: file.content, directory, name, range: Some(range) };
        let sender = watch::Sender::<FetchProgress>::default();
        let mut arrived = sender.subscribe();
        let tell = async {
            while arrived.changed().await.is_ok() {
                progress(arrived.borrow_and_update().done);
            }
        };
        let fetched = fetch(&request, &sources, &sender);
        tokio::pin!(fetched, tell);
        let fetched = tokio::select! {
            fetched = &mut fetched => fetched?,
            () = &mut tell => fetched.await?,
        };
        let mut served: Vec<(String, u64)> = Vec::new();
        // A host may have several parts.
        for Served { name, bytes } in fetched.served {
            match served.iter_mut().find(|(known, _)| *known == name) {
                Some((_, sum)) => *sum += bytes,
                None => served.push((name, bytes)),
            }
        }
        Ok(served)
    }
}

/// The hosts that have a file, and those that have something of a part of it, as sources.
fn shipping_sources(host: &Host, file: &ShippedFile, wanted: &Range<u64>) -> Vec<Arc<dyn Source>> {
    let coordinator = host.coordinator().map(|peer| peer.host());
    let source = |it: &ShippingHost| host.source(it.host, it.address, &it.name);
    let mut sources: Vec<_> = in_turn(&file.hosts, host.id(), coordinator).into_iter().map(source).collect();
    // All parts of a host come over one connection.
    let mut partial: BTreeMap<HostId, Arc<dyn Source>> = BTreeMap::new();
    for ShippedPart { host, bytes } in &file.parts {
        if bytes.start < wanted.end && wanted.start < bytes.end {
            let source = partial.entry(host.host).or_insert_with(|| source(host));
            sources.push(Arc::new(PartialSource::new(Arc::clone(source), bytes.clone())));
        }
    }
    sources
}

/// Where the coordinator keeps races.
pub(crate) struct RaceKeeping {
    /// On this machine.
    pub(crate) archive: Archive,
    /// Says how results are reported; it is asked for each race.
    pub(crate) reporting: Box<dyn Fn() -> Result<ReportingSettings, String> + Send + Sync>,
}

/// What one daemon plays in races.
pub(crate) struct RaceRoles {
    host: LateHost,
    driver: SharingDriver,
    /// Plans that this host has or gets.
    pub(crate) content: Arc<ClusterContent>,
    /// Corpora that this host has.
    corpora: Arc<CorpusOffers>,
    /// The owner of races, if this is the coordinator.
    pub(crate) coordinator: Option<Arc<RaceCoordinator>>,
    /// Waits for the end of races whose plans are to be deleted.
    forgetting: Mutex<JoinSet<()>>,
}

impl fmt::Debug for RaceRoles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RaceRoles").field("coordinator", &self.coordinator).finish_non_exhaustive()
    }
}

impl RaceRoles {
    /// Makes the roles of a host that is about to start; plans and raw samples are kept in its directory. The coordinator
    /// keeps races. Whatever an earlier run of the host left of them is deleted, so nobody else may use the directory.
    pub(crate) fn new(
        facts: HostFacts,
        registry: Arc<Registry>,
        directory: &Path,
        data_dir: PathBuf,
        keeping: Option<RaceKeeping>,
    ) -> Self {
        let host = LateHost::default();
        let (plans, samples) = (directory.join("plans"), directory.join("samples"));
        for leftover in [&plans, &samples] {
            match fs::remove_dir_all(leftover) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    warn!(path = %leftover.display(), %error, "what is left of earlier races cannot be deleted");
                }
                _ => {}
            }
        }
        let content = Arc::new(ClusterContent { host: host.clone(), directory: plans });
        let own = facts.clone();
        let driver = Arc::new(LocalLoadDriver::new(DriverOptions {
            facts,
            registry,
            content: Arc::clone(&content) as Arc<dyn ContentSource>,
            clock: host.clock(),
            data_dir,
            segment_dir: samples,
        }));
        let corpora = Arc::new(CorpusOffers::new(Arc::clone(&driver), Arc::clone(&content), host.clone()));
        // The coordinator offers plans until their race is over.
        let plans = keeping.is_none().then(|| Arc::clone(&content));
        let driver = SharingDriver::new(driver, host.clone(), Arc::clone(&corpora), plans);
        let coordinator = keeping.map(|keeping| {
            let (host, content, driver) = (host.clone(), Arc::clone(&content), driver.clone());
            let shipping = Shipping::new(Arc::clone(&corpora));
            let shipped = Mutex::default();
            let surroundings = ClusterSurroundings { facts: own, host, content, driver, shipping, shipped, keeping };
            Arc::new(RaceCoordinator::new(Arc::new(surroundings)))
        });
        Self { host, driver, content, corpora, coordinator, forgetting: Mutex::default() }
    }

    /// For the configuration of the host.
    pub(crate) fn roles(&self) -> Roles {
        Roles {
            load_driver: Some(Arc::new(self.driver.clone())),
            provisioner: None,
            coordinator: self.coordinator.clone().map(|coordinator| coordinator as Arc<dyn Coordinator>),
        }
    }

    /// Answers what the coordinator asks hosts of a race beside their roles.
    pub(crate) fn serve(&self, services: &mut Services) {
        self.corpora.serve(services);
    }

    /// Deletes a plan of this host as soon as the coordinator says that its race is over.
    pub(crate) fn forget_after(&self, race: RaceId, plan: ContentHash) {
        let content = Arc::clone(&self.content);
        let mut forgetting = self.forgetting.lock().unwrap_or_else(PoisonError::into_inner);
        while forgetting.try_join_next().is_some() {}
        forgetting.spawn(async move {
            loop {
                sleep(ASK_EVERY).await;
                let Some(coordinator) = content.host.get().map(|host| host.remote_coordinator()) else { return };
                match coordinator.current_race().await {
                    Ok(Some(status)) if status.race == race => {}
                    Ok(_) => break,
                    // It may still want the plan when it is back.
                    Err(_) => {}
                }
            }
            content.forget(plan).await;
        });
    }

    /// Gives the roles their host.
    pub(crate) fn attach(&self, host: &Arc<Host>) {
        self.host.set(host);
    }
}

/// What races of a coordinator's daemon need.
struct ClusterSurroundings {
    facts: HostFacts,
    host: LateHost,
    content: Arc<ClusterContent>,
    driver: SharingDriver,
    shipping: Shipping,
    /// The plan that says who ships what.
    shipped: Mutex<Option<ContentHash>>,
    keeping: RaceKeeping,
}

impl fmt::Debug for ClusterSurroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterSurroundings").field("driver", &self.driver).finish_non_exhaustive()
    }
}

impl ClusterSurroundings {
    /// The files that a driver offers.
    async fn source(&self, driver: &str) -> Result<Arc<dyn Source>, String> {
        let host = self.host.get().ok_or_else(|| Ending.to_string())?;
        let id = find_host(&host.status().await, driver)?.id;
        if Some(id) == host.id() {
            return Ok(Arc::clone(host.shelf()) as Arc<dyn Source>);
        }
        let peer = host.peer(id).ok_or_else(|| format!("{driver} is not connected"))?;
        Ok(Arc::new(PeerSource::new(peer)))
    }

    fn shipped(&self) -> MutexGuard<'_, Option<ContentHash>> {
        self.shipped.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Surroundings for ClusterSurroundings {
    fn facts(&self) -> HostFacts {
        self.facts.clone()
    }

    fn timer(&self) -> Arc<dyn Timer> {
        Arc::new(ClockTimer::new(self.host.clock()))
    }

    async fn plan(&self, content: ContentHash) -> Result<RacePlan, String> {
        let bytes = self.content.get(content).await;
        let bytes = bytes.map_err(|error| format!("the plan of the race cannot be had: {error}"))?;
        RacePlan::from_json(&bytes).map_err(|error| error.to_string())
    }

    async fn ship(
        &self,
        race: &RaceId,
        (mut plan, content): (RacePlan, ContentHash),
        drivers: &[String],
        notice: HostNotice,
    ) -> Result<(RacePlan, ContentHash), String> {
        if plan.data != DataSource::Ship {
            return Ok((plan, content));
        }
        let status = self.host.get().ok_or_else(|| Ending.to_string())?.status().await;
        let drivers = drivers.iter().map(|name| {
            let summary = find_host(&status, name)?;
            Ok(ShippingHost { host: summary.id, name: name.clone(), address: summary.address })
        });
        let drivers = drivers.collect::<Result<_, String>>()?;
        plan.shipped = self.shipping.find(race, (&plan, content), drivers, &notice).await?;
        let json = serde_json::to_vec(&plan).map_err(|error| format!("the plan cannot be written: {error}"))?;
        // Before there is a file, which is to be deleted also if this is dropped in the meantime.
        *self.shipped() = Some(ClusterContent::hash(&json));
        let content = self.content.keep(json).await.map_err(|error| format!("the plan cannot be kept: {error}"))?;
        Ok((plan, content))
    }

    async fn withdraw(&self, race: &RaceId) {
        self.shipping.withdraw(race).await;
        let shipped = self.shipped().take();
        if let Some(plan) = shipped {
            self.content.forget(plan).await;
        }
    }

    async fn load_drivers(&self, hosts: &[String]) -> Result<Vec<(String, Arc<dyn LoadDriver>)>, String> {
        let host = self.host.get().ok_or_else(|| Ending.to_string())?;
        let status = host.status().await;
        let mut drivers: Vec<(String, Arc<dyn LoadDriver>)> = Vec::new();
        let mut chosen = Vec::new();
        for name in hosts {
            let id = find_host(&status, name)?.id;
            if chosen.contains(&id) {
                return Err(format!("host {name} is named twice"));
            }
            chosen.push(id);
            let driver: Arc<dyn LoadDriver> =
                if Some(id) == host.id() { Arc::new(self.driver.clone()) } else { Arc::new(host.load_driver(id)) };
            drivers.push((name.clone(), driver));
        }
        Ok(drivers)
    }

    async fn keep(&self, plan: Vec<u8>) -> Result<ContentHash, String> {
        self.content.keep(plan).await.map_err(|error| format!("the plan cannot be kept: {error}"))
    }

    async fn clocks(&self, drivers: &[String]) -> Vec<Option<HostClock>> {
        let Some(host) = self.host.get() else { return vec![None; drivers.len()] };
        let status = host.status().await;
        let clock = |name: &String| {
            let found = find_host(&status, name).ok()?;
            if Some(found.id) == status.id {
                return Some(self.clock());
            }
            let is_heard_of = matches!(found.state, HostState::Alive | HostState::Suspect);
            found.clock.filter(|_| is_heard_of).map(|estimate| HostClock::new(estimate, found.wall_shift))
        };
        drivers.iter().map(clock).collect()
    }

    async fn is_among(&self, drivers: &[String]) -> bool {
        let Some(host) = self.host.get() else { return false };
        let status = host.status().await;
        drivers.iter().any(|name| find_host(&status, name).is_ok_and(|found| Some(found.id) == status.id))
    }

    async fn watch_silence(&self, drivers: &[String], notice: &(dyn Fn(String, String) + Send + Sync)) {
        let Some(host) = self.host.get() else { return };
        let (mut events, status) = (host.events(), host.status().await);
        let dead_after = host.timing().dead_after;
        // The race must not keep the host alive.
        drop(host);
        let ids: Vec<_> = drivers.iter().map(|name| find_host(&status, name).map(|host| host.id).ok()).collect();
        let mut silent = BTreeSet::new();
        loop {
            let MembershipEvent { host: id, change, .. } = match events.recv().await {
                Ok(HostEvent::Membership(event)) => event,
                Ok(HostEvent::Uplink(_)) | Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return,
            };
            let Some(name) = ids.iter().position(|it| *it == Some(id)).and_then(|at| drivers.get(at)) else { continue };
            match change {
                HostChange::Suspected => {
                    let Some(host) = self.host.get() else { return };
                    let silence = host.status().await.hosts.iter().find(|it| it.id == id).map(|it| it.last_heard);
                    let silence = silence.unwrap_or_default();
                    silent.insert(id);
                    notice(name.clone(), silence_text(silence, dead_after.saturating_sub(silence)));
                }
                HostChange::Recovered | HostChange::Returned if silent.remove(&id) => {
                    notice(name.clone(), "it is heard of again".to_owned());
                }
                HostChange::Died | HostChange::Left | HostChange::Restarted { .. } => drop(silent.remove(&id)),
                HostChange::Joined | HostChange::Recovered | HostChange::Returned => {}
            }
        }
    }

    fn archive(&self) -> Option<Archive> {
        Some(self.keeping.archive.clone())
    }

    async fn find_samples(
        &self,
        driver: &str,
        content: ContentHash,
        directory: &Path,
        pace: FetchPace,
    ) -> Result<(), String> {
        let name = format!("{content}.parquet");
        let found = match pace {
            FetchPace::Full => self.content.find(content, directory.to_owned(), name.clone()).await,
            FetchPace::Gentle => {
                let source = GentleSource::new(self.source(driver).await?, GENTLE);
                self.content.find_in(&[Arc::new(source)], content, directory.to_owned(), name.clone()).await
            }
        };
        if found.is_err() {
            delete_parts(directory, &name);
        }
        found.map(drop).map_err(|error| causes(error.as_ref()).join(": "))
    }

    async fn forget(&self, content: ContentHash) {
        self.content.forget(content).await;
    }

    fn reporting(&self) -> Result<ReportingSettings, String> {
        (self.keeping.reporting)()
    }
}

/// The host of a cluster that a user names by its address, with or without its port, or by its own name.
///
/// # Errors
///
/// A sentence that names those that there are.
pub(crate) fn find_host<'a>(status: &'a HostStatus, name: &str) -> Result<&'a HostSummary, String> {
    let is_meant = |it: &&HostSummary| {
        let is_own = Some(it.id) == status.id;
        let (ip, address) = (it.address.ip().to_string(), it.address.to_string());
        (is_own && is_this_host(name)) || name == ip || name == address || name == it.facts.name
    };
    let found: Vec<_> = status.hosts.iter().filter(is_meant).collect();
    let names = || status.hosts.iter().map(|it| it.address.to_string()).collect::<Vec<_>>().join(", ");
    match found[..] {
        [one] => Ok(one),
        [] => Err(format!("there is no host {name} in the cluster; its hosts are {}", names())),
        [..] => Err(format!("{name} stands for several hosts; say one of {}", names())),
    }
}

/// What watchers are told of a driver that was not heard of for some time and is given up after some more.
fn silence_text(silence: Duration, left: Duration) -> String {
    let seconds = |time: Duration| format!("{} s", (time.as_secs_f64() * 10.0).round() / 10.0);
    format!(
        "it has been silent for {}; the race goes on if it is heard of within {} more",
        seconds(silence),
        seconds(left)
    )
}

/// Deletes what has arrived of a file that cannot be had as a whole.
fn delete_parts(directory: &Path, name: &str) {
    let prefix = format!(".{name}.");
    let Ok(files) = fs::read_dir(directory) else { return };
    for file in files.flatten() {
        let is_part = file.file_name().to_str().is_some_and(|it| it.starts_with(&prefix) && it.ends_with(".part"));
        if is_part && let Err(error) = fs::remove_file(file.path()) {
            warn!(path = %file.path().display(), %error, "a part of a file cannot be deleted");
        }
    }
}
