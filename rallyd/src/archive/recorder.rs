//! Keeps what a race measures: adds it up, and writes it to the archive.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use rally_core::metrics::{
    ArchivedVerdict, Findings, Interval, Pending, RaceDocument, RaceMetrics, RaceReport, ThresholdOutcome,
};
use rally_core::race::{DriverIndex, RaceVerdict, Recorder, Shortfall};
use rally_core::{ClusterTime, ContentHash, HostFacts, RaceDriver, RaceEventKind, RacePlan, RaceRequest};
use serde::Serialize;
use serde_json::{Value, json};

use super::clocks::{HostClock, clock_trouble};
use super::owner::RaceLock;
use super::writer::{Entry, Trouble, Writer};
use super::{Archive, ArchiveError};
use crate::causes::causes;
use crate::race::{SampleFile, SampleFiles, Surroundings};

/// Notices that a verdict has; a talkative race says more than anybody reads.
const MAX_NOTICES: usize = 100;

/// Keeps one race.
pub(crate) struct ArchiveRecorder {
    surroundings: Arc<dyn Surroundings>,
    archive: Option<Archive>,
    plan: Arc<RacePlan>,
    document: RaceDocument,
    drivers: Vec<String>,
    metrics: RaceMetrics,
    notices: Vec<String>,
    /// What others noticed of the race's hosts while it ran.
    asides: Asides,
    began: ClusterTime,
    /// The clocks of drivers by their names, and that of the coordinator, when the race began.
    clocks: BTreeMap<String, Option<HostClock>>,
    own_clock: HostClock,
    /// Whether the coordinator is one of the drivers.
    coordinator_drives: bool,
    /// What the archive knows of hosts: first the drivers.
    hosts: Vec<HostRecord>,
    trouble: Trouble,
    writer: Option<Writer>,
    /// Nobody deletes the race until all of it is there.
    lock: Option<RaceLock>,
    sample_files: SampleFiles,
    /// The metrics store that gets the race when it has ended.
    store: Option<String>,
    /// Whether that store has all of it.
    is_stored: bool,
    is_settled: bool,
    report: ReportSlot,
    verdict: Option<RaceVerdict>,
}

/// Notices that do not come from the race itself; no more than a verdict has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asides(Arc<Mutex<Vec<String>>>);

impl Asides {
    pub(crate) fn add(&self, notice: String) {
        let mut asides = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if asides.len() < MAX_NOTICES {
            asides.push(notice);
        }
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Where whoever asks finds the report of a race once it has ended.
pub(crate) type ReportSlot = Arc<Mutex<Option<RaceReport>>>;

impl ArchiveRecorder {
    /// Begins to keep a race, in an archive if there is one; `store` is the metrics store that gets it later. A disk that cannot be written is noticed, and does not stop
    /// the race.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::InUse`] if somebody else writes a race of this id.
    pub(crate) async fn start(
        surroundings: Arc<dyn Surroundings>,
        request: &RaceRequest,
        plan: Arc<RacePlan>,
        report: ReportSlot,
        store: Option<String>,
    ) -> Result<Self, ArchiveError> {
        let (archive, race) = (surroundings.archive(), &request.race);
        let began = surroundings.timer().now();
        let clocks = surroundings.clocks(&request.load_driver_hosts).await;
        let clocks = request.load_driver_hosts.iter().cloned().zip(clocks).collect();
        // Nothing is waited for below, so that whoever drops this leaves no race behind.
        let coordinator_drives = surroundings.is_among(&request.load_driver_hosts).await;
        let document = RaceDocument::new(race.clone(), &plan, env!("CARGO_PKG_VERSION"), crate::REVISION);
        let trouble = Trouble::default();
        let begin = |archive: &Archive| {
            archive.made_directory(race)?;
            let lock = archive.lock(race)?;
            archive.store(&document)?;
            archive.store_track(race, &plan.track)?;
            Ok((Writer::start(archive, race, trouble.clone())?, lock))
        };
        let (writer, lock) = match archive.as_ref().map(begin).transpose() {
            Ok(begun) => begun.unzip(),
            Err(error @ ArchiveError::InUse { .. }) => return Err(error),
            Err(error) => {
                trouble.notice(sentence(&error));
                (None, None)
            }
        };
        Ok(Self {
            own_clock: surroundings.clock(),
            coordinator_drives,
            surroundings,
            began,
            clocks,
            hosts: Vec::new(),
            archive,
            plan,
            document,
            drivers: Vec::new(),
            metrics: RaceMetrics::default(),
            notices: Vec::new(),
            asides: Asides::default(),
            trouble,
            writer,
            lock,
            sample_files: SampleFiles::default(),
            store,
            is_stored: false,
            is_settled: false,
            report,
            verdict: None,
        })
    }

    /// The race as it stands in its document.
    pub(crate) fn document(&self) -> &RaceDocument {
        &self.document
    }

    /// Where the race is archived.
    pub(crate) fn archive(&self) -> Option<&Archive> {
        self.archive.as_ref()
    }

    /// Where notices may be left that are to stand in the verdict.
    pub(crate) fn asides(&self) -> Asides {
        self.asides.clone()
    }

    /// What is still to be collected.
    fn pending(&self) -> Option<Pending> {
        let mut samples = BTreeMap::<_, Vec<_>>::new();
        for SampleFile { driver, content } in self.sample_files.all() {
            samples.entry(driver).or_default().push(content.to_string());
        }
        let is_nothing = self.is_settled || samples.is_empty() && self.store.is_none();
        (!is_nothing).then(|| Pending { samples, store: self.store.clone() })
    }

    /// The files of raw samples that drivers have and the archive does not, also those that come later.
    pub(crate) fn sample_files(&self) -> SampleFiles {
        self.sample_files.clone()
    }

    /// Where raw samples go, if the race is archived.
    pub(crate) fn samples_directory(&self) -> Option<PathBuf> {
        Some(self.archive.as_ref()?.samples_directory(&self.document.race_id))
    }

    /// Notices what became known after the end of the race.
    pub(crate) fn notice_late(&mut self, sentence: String) {
        self.trouble.notice(sentence);
        self.conclude();
    }

    /// Notices that the metrics store has all of the race.
    pub(crate) fn stored(&mut self) {
        self.is_stored = true;
    }

    /// Lets go of the archive, and tells whoever asks for the report that nothing more can become known.
    pub(crate) fn settle(&mut self) {
        let was_pending = self.pending().is_some();
        self.is_settled = true;
        // Otherwise, what was pending stays in the verdict that was written before.
        if was_pending
            && !self.conclude()
            && self.is_stored
            && let Some(archive) = &self.archive
            && let Err(error) = archive.note_stored(&self.document.race_id)
        {
            self.trouble.notice(sentence(&error));
        }
        self.lock = None;
        if let Some(report) = self.report.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            report.is_settled = true;
        }
    }

    /// Whether a record is about the cluster that ordinary operations use, or else the first one.
    fn is_of_main_cluster(&self, record: &Value) -> bool {
        let hosts = &self.plan.target_hosts;
        let main = hosts.get_key_value("default").or_else(|| hosts.first()).map(|(name, _)| name.as_str());
        let cluster = record["meta"]["cluster"].as_str();
        cluster.is_none() || cluster == main
    }

    fn driver(&self, driver: DriverIndex) -> &str {
        self.drivers.get(driver.0).map_or("a driver", String::as_str)
    }

    fn write(&self, entry: Entry) {
        if let Some(writer) = &self.writer {
            writer.write(entry);
        }
    }

    fn notice(&mut self, notice: String) {
        if self.notices.len() < MAX_NOTICES && !self.notices.contains(&notice) {
            self.notices.push(notice);
        }
    }

    /// Writes down what is known of the hosts.
    fn store_hosts(&self) {
        let store = |archive: &Archive| archive.store_hosts(&self.document.race_id, &self.hosts);
        if let Some(Err(error)) = self.archive.as_ref().map(store) {
            self.trouble.notice(sentence(&error));
        }
    }

    /// Looks at the clocks of all hosts once more, and notices what was wrong with them.
    async fn judge_clocks(&mut self, at: ClusterTime) {
        let elapsed = at.saturating_since(self.began);
        let ends = self.surroundings.clocks(&self.drivers).await;
        let ends = ends.into_iter().chain([Some(self.surroundings.clock())]);
        let mut trouble = Vec::new();
        for (host, end) in self.hosts.iter_mut().zip(ends) {
            host.clock.end = end;
            let HostClocks { begin, end } = host.clock;
            trouble.extend(clock_trouble(&host.name, begin, end, elapsed));
        }
        trouble.into_iter().for_each(|trouble| self.notice(trouble));
        self.store_hosts();
    }

    /// Notices drivers that cannot have completed their last file of raw samples.
    fn notice_unfinished_samples(&self, verdict: &RaceVerdict) {
        if self.plan.sample_bytes == 0 || self.archive.is_none() {
            return;
        }
        let measured: Vec<_> = self.metrics.drivers().into_iter().map(|it| it.driver).collect();
        for shortfall in &verdict.shortfalls {
            if let Shortfall::Driver { driver, .. }
            | Shortfall::Unended { driver, .. }
            | Shortfall::Overdue { driver, .. } = shortfall
                && measured.contains(driver)
            {
                self.trouble.notice(format!(
                    "raw samples of {driver} are missing that were in no complete file when it was lost"
                ));
            }
        }
    }

    fn thresholds(&self) -> Vec<ThresholdOutcome> {
        let Some(challenge) = self.plan.challenge() else { return Vec::new() };
        let thresholds = &self.plan.description.thresholds;
        thresholds.iter().map(|it| self.metrics.threshold_outcome(challenge, it)).collect()
    }

    /// Writes the verdict down, and gives the report to whoever asks. Says whether all could be written.
    fn conclude(&self) -> bool {
        let Some(verdict) = self.verdict.clone() else { return true };
        let findings = || Findings {
            errors: self.plan.challenge().map(|challenge| self.metrics.task_errors(challenge)).unwrap_or_default(),
            drivers: self.metrics.drivers(),
            notices: self.notices.clone(),
            archive: self.trouble.all(),
            thresholds: self.thresholds(),
        };
        let archived = ArchivedVerdict { verdict, findings: findings(), pending: self.pending() };
        let store = |archive: &Archive| {
            archive.store_verdict(&self.document.race_id, &archived)?;
            archive.store(&self.document)
        };
        let written = self.archive.as_ref().map_or(Ok(()), store);
        if let Err(error) = &written {
            self.trouble.notice(sentence(error));
        }
        let report = RaceReport { race: self.document.clone(), findings: findings(), is_settled: false };
        *self.report.lock().unwrap_or_else(PoisonError::into_inner) = Some(report);
        written.is_ok()
    }
}

/// What the archive says of one host.
#[derive(Debug, Serialize)]
struct HostRecord {
    name: String,
    role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    clients: Option<HostClients>,
    facts: HostFacts,
    clock: HostClocks,
}

/// The clients of a driver, counted from 0 over all drivers.
#[derive(Clone, Copy, Debug, Serialize)]
struct HostClients {
    first: u32,
    count: u32,
}

/// A host's clock when the race began, and when it had ended; none where it was not known.
#[derive(Clone, Copy, Debug, Serialize)]
struct HostClocks {
    begin: Option<HostClock>,
    end: Option<HostClock>,
}

impl HostRecord {
    fn new(
        name: String,
        role: &'static str,
        clients: Option<HostClients>,
        facts: HostFacts,
        begin: Option<HostClock>,
    ) -> Self {
        Self { name, role, clients, facts, clock: HostClocks { begin, end: None } }
    }
}

/// Whether cores run slower as long as they have little to do.
fn saves_power(governors: &str) -> bool {
    governors.split(", ").any(|governor| matches!(governor, "powersave" | "ondemand" | "conservative" | "schedutil"))
}

fn sentence(error: &ArchiveError) -> String {
    causes(error).join(": ")
}

#[async_trait]
impl Recorder for ArchiveRecorder {
    fn started(&mut self, drivers: &[RaceDriver], facts: &[HostFacts]) {
        self.drivers = drivers.iter().map(|driver| driver.name.clone()).collect();
        for (driver, facts) in drivers.iter().zip(facts) {
            let begin = self.clocks.get(&driver.name).copied().flatten();
            let clients = HostClients { first: driver.clients.start, count: driver.clients.end - driver.clients.start };
            self.hosts.push(HostRecord::new(driver.name.clone(), "load driver", Some(clients), facts.clone(), begin));
            if let Some(governor) = facts.governor.as_deref().filter(|governor| saves_power(governor)) {
                self.notice(format!(
                    "{}: the frequency of its cores follows the load (governor `{governor}`), which shows in short times; \
                     `performance` keeps it steady",
                    driver.name
                ));
            }
        }
        let own = self.surroundings.facts();
        if !self.coordinator_drives {
            self.hosts.push(HostRecord::new(own.name.clone(), "coordinator", None, own, Some(self.own_clock)));
        }
        self.store_hosts();
    }

    fn interval(&mut self, driver: DriverIndex, at: ClusterTime, interval: &Interval) {
        let name = self.driver(driver).to_owned();
        // The race has already dropped what came twice and counted what is missing.
        let _ = self.metrics.add(&name, interval);
        match super::intervals::encode(&name, at, interval) {
            Ok(record) => self.write(Entry::Interval(record)),
            Err(error) => self.trouble.notice(format!("an interval of {name} cannot be written: {error}")),
        }
    }

    fn telemetry(&mut self, driver: DriverIndex, json: &[u8]) {
        match serde_json::from_slice::<Vec<Value>>(json) {
            Ok(records) => {
                let mut lines = Vec::new();
                for record in records {
                    self.metrics.add_telemetry(&record);
                    if self.is_of_main_cluster(&record) {
                        self.document.add_environment(&record);
                    }
                    lines.extend(record.to_string().bytes());
                    lines.push(b'\n');
                }
                self.write(Entry::Telemetry(lines));
            }
            Err(error) => {
                let notice = format!("telemetry of {} cannot be understood: {error}", self.driver(driver));
                self.notice(notice);
            }
        }
    }

    fn segment(&mut self, driver: DriverIndex, hash: ContentHash, _: u64) {
        self.sample_files.add(SampleFile { driver: self.driver(driver).to_owned(), content: hash });
    }

    fn event(&mut self, at: ClusterTime, kind: &RaceEventKind) {
        if let RaceEventKind::Noticed { driver, message } = kind {
            self.notice(format!("{driver}: {message}"));
        }
        self.write(event_line(at, json!(kind)));
        if matches!(kind, RaceEventKind::StepEnded { .. }) {
            // Without waiting: a machine that loses its power costs the step that runs, and no more.
            self.write(Entry::Sync(None));
        }
    }

    async fn ended(&mut self, at: ClusterTime, verdict: &RaceVerdict) {
        self.document.outcome = Some(verdict.outcome);
        if let Some(challenge) = self.plan.challenge() {
            let track = &self.plan.track;
            self.document.results = Some(self.metrics.results(track, challenge));
            self.document.results_by_cluster = self.metrics.results_by_cluster(track, challenge);
        }
        self.verdict = Some(verdict.clone());
        self.notice_unfinished_samples(verdict);
        self.asides.take().into_iter().for_each(|aside| self.notice(aside));
        self.judge_clocks(at).await;
        self.write(event_line(at, json!({"Ended": verdict})));
        if let Some(writer) = &self.writer {
            writer.sync().await;
        }
        self.conclude();
    }
}

fn event_line(at: ClusterTime, event: Value) -> Entry {
    Entry::Event(format!("{}\n", json!({"at": at.as_nanos(), "event": event})).into_bytes())
}
