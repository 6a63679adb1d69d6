//! What of a race was still to be collected when its verdict was written down.

use std::fs::File;

use rally_core::RaceId;
use rally_core::metrics::{ArchivedVerdict, Pending};

use super::store::failed;
use super::{Archive, ArchiveError};

/// In the directory of the race: its metrics store has all of it, although the verdict says that this is pending.
const STORED: &str = "stored";

impl Archive {
    /// How a race ended; none if it has not, or if whoever ran it died. What was still to be collected by then and is not
    /// there stands in its findings.
    ///
    /// # Errors
    ///
    /// If it cannot be read or understood.
    pub fn verdict(&self, race: &RaceId) -> Result<Option<ArchivedVerdict>, ArchiveError> {
        // In this order: whoever lets go of the race has written down before that all of it is there.
        let is_in_use = self.is_in_use(race);
        let mut archived = self.stored_verdict(race)?;
        if let Some(archived) = &mut archived
            && let Some(pending) = archived.pending.take()
        {
            archived.findings.archive.extend(self.pending_text(race, &pending, is_in_use));
        }
        Ok(archived)
    }

    /// Says that the metrics store has all of a race whose verdict cannot be written any more. Most disks that are full have
    /// room for an empty file.
    pub(super) fn note_stored(&self, race: &RaceId) -> Result<(), ArchiveError> {
        let path = self.directory(race).join(STORED);
        File::create(&path).map(drop).map_err(failed("write", &path))
    }

    fn pending_text(&self, race: &RaceId, pending: &Pending, is_in_use: bool) -> Vec<String> {
        let directory = self.samples_directory(race);
        let is_missing = |content: &String| !directory.join(format!("{content}.parquet")).exists();
        let missing = pending.samples.iter().filter(|(_, contents)| contents.iter().any(is_missing));
        let drivers: Vec<_> = missing.map(|(driver, _)| driver.as_str()).collect();
        let (mut texts, drivers) = (Vec::new(), drivers.join(", "));
        if !drivers.is_empty() {
            texts.push(if is_in_use {
                format!("raw samples of {drivers} are still to come")
            } else {
                format!("raw samples of {drivers} are missing: whoever ran the race ended before they had come")
            });
        }
        if let Some(store) = &pending.store
            && !self.directory(race).join(STORED).exists()
        {
            texts.push(if is_in_use {
                format!("{store} does not have all of it yet")
            } else {
                let remedy = take_from_archive(race);
                format!("{store} does not have all of it: whoever ran the race ended before that; {remedy}")
            });
        }
        texts
    }
}

/// What to do about a race that its metrics store does not have.
pub(crate) fn take_from_archive(race: &RaceId) -> String {
    format!("all is in the archive, and `rallyd report {race}` and `rallyd compare` take it from there")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use rally_core::RaceOutcome;
    use rally_core::metrics::Findings;
    use rally_core::race::{RaceLedger, RaceVerdict};

    use super::*;

    #[test]
    fn what_was_still_to_come_is_told_as_long_as_it_is_not_there() {
        let directory = tempfile::tempdir().unwrap();
        let archive = Archive::new(directory.path());
        let race: RaceId = "pending".parse().unwrap();
        let (errors, shortfalls, ledger) = (Vec::new(), Vec::new(), RaceLedger::default());
        let verdict = RaceVerdict { outcome: RaceOutcome::Completed, errors, shortfalls, ledger };
        let samples = [("a", ["1", "2"]), ("b", ["3", "4"]), ("c", ["5", "6"])];
        let samples = samples.map(|(driver, contents)| (driver.to_owned(), contents.map(str::to_owned).to_vec()));
        let pending =
            Pending { samples: BTreeMap::from(samples), store: Some("the metrics store at http://es:9200".to_owned()) };
        let archived = ArchivedVerdict { verdict, findings: Findings::default(), pending: Some(pending) };
        archive.store_verdict(&race, &archived).unwrap();
        fs::create_dir(archive.samples_directory(&race)).unwrap();
        let arrive = |content: &str| fs::write(archive.samples_directory(&race).join(format!("{content}.parquet")), "");
        ["1", "2", "3"].iter().for_each(|content| arrive(content).unwrap());
        let told = || archive.verdict(&race).unwrap().unwrap().findings.archive;

        let lock = archive.lock(&race).unwrap();
        assert_eq!(
            told(),
            [
                "raw samples of b, c are still to come",
                "the metrics store at http://es:9200 does not have all of it yet"
            ]
        );
        drop(lock);
        let [samples, store] = &told()[..] else { panic!("{:?}", told()) };
        assert!(samples.starts_with("raw samples of b, c are missing: whoever ran the race ended"), "{samples}");
        assert!(store.contains("http://es:9200 does not have all of it: whoever ran the race ended"), "{store}");
        archive.note_stored(&race).unwrap();
        assert_eq!(&told()[..], std::slice::from_ref(samples));
        archive.store_verdict(&race, &ArchivedVerdict { pending: None, ..archived }).unwrap();
        assert_eq!(told(), [""; 0]);
    }
}
