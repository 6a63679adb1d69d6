//! Keeps what a race measures: adds it up, and writes it to the archive.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use rally_core::metrics::{
    ArchivedVerdict, Findings, Interval, RaceDocument, RaceMetrics, RaceReport, ThresholdOutcome,
};
use rally_core::race::{DriverIndex, RaceVerdict, Recorder};
use rally_core::{ClusterTime, ContentHash, HostFacts, RaceDriver, RaceEventKind, RacePlan, RaceRequest};
use serde::Serialize;
use serde_json::{Value, json};

use super::clocks::{HostClock, clock_trouble};
use super::writer::{Entry, Trouble, Writer};
use super::{Archive, ArchiveError};
use crate::causes::causes;
use crate::race::Surroundings;

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
    segments: Vec<(DriverIndex, ContentHash)>,
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
    /// Begins to keep a race, in an archive if there is one. A disk that cannot be written is noticed, and does not stop
    /// the race.
    pub(crate) async fn start(
        surroundings: Arc<dyn Surroundings>,
        request: &RaceRequest,
        plan: Arc<RacePlan>,
        report: ReportSlot,
    ) -> Self {
        let (archive, race) = (surroundings.archive(), &request.race);
        let began = surroundings.timer().now();
        let clocks = surroundings.clocks(&request.load_driver_hosts).await;
        let clocks = request.load_driver_hosts.iter().cloned().zip(clocks).collect();
        let document = RaceDocument::new(race.clone(), &plan, env!("CARGO_PKG_VERSION"));
        let trouble = Trouble::default();
        let begin = |archive: &Archive| {
            archive.store(&document)?;
            archive.store_track(race, &plan.track)?;
            Writer::start(archive, race, trouble.clone())
        };
        let begun = archive.as_ref().map(begin).transpose();
        let writer = begun.unwrap_or_else(|error| {
            trouble.notice(sentence(&error));
            None
        });
        Self {
            own_clock: surroundings.clock(),
            coordinator_drives: surroundings.is_among(&request.load_driver_hosts).await,
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
            segments: Vec::new(),
            report,
            verdict: None,
        }
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

    /// The files of raw samples that drivers have, each with the driver's name; they are given once.
    pub(crate) fn take_segments(&mut self) -> Vec<(String, ContentHash)> {
        let segments = std::mem::take(&mut self.segments);
        segments.into_iter().map(|(driver, content)| (self.driver(driver).to_owned(), content)).collect()
    }

    /// Notices what became known after the end of the race.
    pub(crate) fn notice_late(&mut self, sentence: String) {
        self.trouble.notice(sentence);
        self.conclude();
    }

    /// Tells whoever asks for the report that nothing more can become known.
    pub(crate) fn settle(&self) {
        if let Some(report) = self.report.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            report.is_settled = true;
        }
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

    fn thresholds(&self) -> Vec<ThresholdOutcome> {
        let Some(challenge) = self.plan.challenge() else { return Vec::new() };
        let thresholds = &self.plan.description.thresholds;
        thresholds.iter().map(|it| self.metrics.threshold_outcome(challenge, it)).collect()
    }

    /// Writes the verdict down, and gives the report to whoever asks.
    fn conclude(&self) {
        let Some(verdict) = self.verdict.clone() else { return };
        let findings = || Findings {
            errors: self.plan.challenge().map(|challenge| self.metrics.task_errors(challenge)).unwrap_or_default(),
            drivers: self.metrics.drivers(),
            notices: self.notices.clone(),
            archive: self.trouble.all(),
            thresholds: self.thresholds(),
        };
        let store = |archive: &Archive| {
            archive.store_verdict(&self.document.race_id, &ArchivedVerdict { verdict, findings: findings() })?;
            archive.store(&self.document)
        };
        if let Some(Err(error)) = self.archive.as_ref().map(store) {
            self.trouble.notice(sentence(&error));
        }
        let report = RaceReport { race: self.document.clone(), findings: findings(), is_settled: false };
        *self.report.lock().unwrap_or_else(PoisonError::into_inner) = Some(report);
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
                    self.document.add_environment(&record);
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
        self.segments.push((driver, hash));
    }

    fn event(&mut self, at: ClusterTime, kind: &RaceEventKind) {
        if let RaceEventKind::Noticed { driver, message } = kind {
            self.notice(format!("{driver}: {message}"));
        }
        self.write(event_line(at, json!(kind)));
    }

    async fn ended(&mut self, at: ClusterTime, verdict: &RaceVerdict) {
        self.document.outcome = Some(verdict.outcome);
        if let Some(challenge) = self.plan.challenge() {
            let track = &self.plan.track;
            self.document.results = Some(self.metrics.results(track, challenge));
            self.document.results_by_cluster = self.metrics.results_by_cluster(track, challenge);
        }
        self.verdict = Some(verdict.clone());
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
