//! The archive as a metrics store: the one that every race is in.
//!
//! A race writes its intervals, telemetry and samples here while it runs; what a store is asked for follows from these files.

use std::collections::BTreeMap;

use async_trait::async_trait;
use futures_util::stream::{self, StreamExt, TryChunksError, TryStreamExt};
use rally_core::RaceId;
use rally_core::metrics::{
    FoundRaces, MetricsStore, RECORD_PAGE, RaceDocument, RaceFilter, RecordPages, StoreError, TaskSeries,
};
use rally_core::track::JsonObject;
use serde_json::Value;

use super::lines::Lines;
use super::store::failed;
use super::{Archive, ArchiveError};
use crate::causes::causes;

impl Archive {
    fn error(&self, action: String) -> impl FnOnce(ArchiveError) -> StoreError {
        let place = self.place();
        move |error| StoreError { place, action, cause: causes(&error).join(": ") }
    }

    fn append_telemetry(&self, race: &RaceId, records: Vec<JsonObject>) -> Result<(), ArchiveError> {
        self.made_directory(race)?;
        let lines: String = records.into_iter().map(|record| format!("{}\n", Value::Object(record))).collect();
        let path = self.telemetry_path(race);
        Lines::open(path.clone())?.append(lines.as_bytes()).map_err(failed("write", &path))
    }
}

#[async_trait(?Send)]
impl MetricsStore for Archive {
    fn place(&self) -> String {
        format!("the archive in {}", self.path().display())
    }

    async fn store_race(&mut self, race: &RaceDocument) -> Result<(), StoreError> {
        self.store(race).map_err(self.error(format!("store race {}", race.race_id)))
    }

    /// Adds records that do not follow from what was measured, like those of telemetry devices.
    async fn store_records(&mut self, race: &RaceDocument, records: Vec<JsonObject>) -> Result<(), StoreError> {
        let race = &race.race_id;
        self.append_telemetry(race, records).map_err(self.error(format!("store records of race {race}")))
    }

    async fn races(&self, filter: &RaceFilter, limit: usize) -> Result<FoundRaces, StoreError> {
        let (races, damaged) = self.list().map_err(self.error("list races".to_owned()))?;
        let damaged = damaged.iter().map(|error| causes(error).join(": ")).collect();
        Ok(FoundRaces::new(races, damaged, filter, limit))
    }

    async fn race(&self, race: &RaceId) -> Result<Option<RaceDocument>, StoreError> {
        match self.load_with_results(race) {
            Err(ArchiveError::Unknown { .. }) => Ok(None),
            loaded => loaded.map(Some).map_err(self.error(format!("find race {race}"))),
        }
    }

    async fn contains(&self, race: &RaceId) -> Result<bool, StoreError> {
        Ok(self.directory(race).symlink_metadata().is_ok())
    }

    fn records<'a>(&'a self, race: &'a RaceDocument) -> RecordPages<'a> {
        let error = move |error| self.error(format!("read records of race {}", race.race_id))(error);
        match self.race_records(race) {
            Err(unreadable) => stream::iter([Err(error(unreadable))]).boxed_local(),
            Ok(records) => {
                let pages = stream::iter(records).try_chunks(RECORD_PAGE);
                pages.map_err(move |TryChunksError(_, unreadable)| error(unreadable)).boxed_local()
            }
        }
    }

    async fn series(&self, race: &RaceDocument) -> Result<BTreeMap<String, TaskSeries>, StoreError> {
        self.task_series(race).map_err(self.error(format!("read what was measured in race {}", race.race_id)))
    }

    async fn delete(&mut self, race: &RaceId) -> Result<(), StoreError> {
        match Self::delete(self, race) {
            Err(ArchiveError::Unknown { .. }) => Ok(()),
            deleted => deleted.map_err(self.error(format!("delete race {race}"))),
        }
    }
}
