//! What a race measured, added up again from its archive: for a race whose end nobody could write down.

use std::fs::File;
use std::io::{self, BufRead, BufReader};

use rally_core::metrics::{RaceDocument, RaceMetrics, Results};

use super::{Archive, ArchiveError, read_intervals};

impl Archive {
    /// The results of a race: those that stand in its document, or what the intervals and the telemetry that were complete
    /// amount to. None if there is no interval.
    ///
    /// # Errors
    ///
    /// If a file is there but cannot be read.
    pub fn results(&self, document: &RaceDocument) -> Result<Option<Results>, ArchiveError> {
        if let Some(results) = &document.results {
            return Ok(Some(results.clone()));
        }
        let race = &document.race_id;
        let mut metrics = RaceMetrics::default();
        let path = self.intervals_path(race);
        let mut is_empty = true;
        read_intervals(&path, |recorded| {
            is_empty = false;
            let _ = metrics.add(&recorded.driver, &recorded.interval);
        })
        .map_err(|source| ArchiveError::File { action: "read", path, source })?;
        if is_empty {
            return Ok(None);
        }
        let path = self.telemetry_path(race);
        let read = File::open(&path).and_then(|file| {
            BufReader::new(file).split(b'\n').try_for_each(|line| {
                // A torn last line is left out.
                if let Ok(record) = serde_json::from_slice(&line?) {
                    metrics.add_telemetry(&record);
                }
                Ok(())
            })
        });
        match read {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(ArchiveError::File { action: "read", path, source });
            }
            Ok(()) | Err(_) => {}
        }
        let track = self.track(race)?;
        let challenge = match &document.challenge {
            Some(name) => track.challenge(name),
            None => track.selected_challenge_or_default(),
        };
        Ok(challenge.map(|challenge| metrics.results(&track, challenge)))
    }
}
