//! What a race measured, added up again from its archive: for a race whose end nobody could write down, and for whoever wants more
//! than its results.

use std::collections::BTreeMap;

use rally_core::metrics::{RaceDocument, RaceMetrics, Results, SampleType, TaskSeries};
use rally_core::{RaceId, RaceOutcome, TaskIndex};
use serde_json::Value;

use super::store::failed;
use super::{Archive, ArchiveError, read_intervals};

impl Archive {
    /// The document of a race with its results: those that stand in it, or what the intervals and the telemetry that were
    /// complete amount to, which is incomplete. It has none if there is no interval.
    ///
    /// # Errors
    ///
    /// If there is no such race, or a file of it is there but cannot be read.
    pub fn load_with_results(&self, race: &RaceId) -> Result<RaceDocument, ArchiveError> {
        let mut document = self.load(race)?;
        if document.results.is_none() {
            document.results = self.results(&document)?;
            if document.results.is_some() {
                document.outcome.get_or_insert(RaceOutcome::Incomplete);
            }
        }
        Ok(document)
    }

    fn results(&self, document: &RaceDocument) -> Result<Option<Results>, ArchiveError> {
        let race = &document.race_id;
        let (mut metrics, intervals) = self.measured(race)?;
        if intervals == 0 {
            return Ok(None);
        }
        for record in self.telemetry(race)? {
            metrics.add_telemetry(&Value::Object(record?));
        }
        let track = self.track(race)?;
        Ok(document.challenge_of(&track).map(|challenge| metrics.results(&track, challenge)))
    }

    /// What the intervals of a race amount to, and how many there are.
    pub(super) fn measured(&self, race: &RaceId) -> Result<(RaceMetrics, u64), ArchiveError> {
        let (mut metrics, mut intervals) = (RaceMetrics::default(), 0);
        let path = self.intervals_path(race);
        let read = read_intervals(&path, |recorded| {
            intervals += 1;
            let _ = metrics.add(&recorded.driver, &recorded.interval);
        });
        read.map_err(failed("read", &path))?;
        Ok((metrics, intervals))
    }

    /// The seconds of each task by its name. A race whose intervals or track are not there has none.
    ///
    /// Drivers send their intervals once per second; those that arrive in the same second of coordinator time are added up.
    ///
    /// # Errors
    ///
    /// If a file is there but cannot be read.
    pub fn task_series(&self, document: &RaceDocument) -> Result<BTreeMap<String, TaskSeries>, ArchiveError> {
        let race = &document.race_id;
        let mut tasks = BTreeMap::<TaskIndex, TaskSeries>::new();
        let path = self.intervals_path(race);
        let read = read_intervals(&path, |recorded| {
            let second = recorded.at.as_nanos() / 1_000_000_000;
            for part in &recorded.interval.tasks {
                if part.inner.is_none() && part.sample_type == SampleType::Normal && part.samples > 0 {
                    tasks.entry(part.task).or_default().add(second, part);
                }
            }
        });
        read.map_err(failed("read", &path))?;
        let Some(names) = self.tasks(document)? else { return Ok(BTreeMap::new()) };
        let named = |(index, mut series): (TaskIndex, TaskSeries)| {
            series.end();
            Some((names.get(index.0 as usize)?.clone(), series))
        };
        Ok(tasks.into_iter().filter_map(named).collect())
    }
}
