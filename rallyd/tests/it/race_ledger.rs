//! Races whose requests are counted by their target: what they say of each driver must be what arrived.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::RowAccessor;
use rally_core::RaceId;
use rally_core::metrics::ArchivedVerdict;
use rallyd::archive::{Archive, read_intervals};
use serde_json::json;

use crate::counting_target::CountingTarget;
use crate::lab::{Host, within};
use crate::race_lab::{ENDS_WITHIN, RaceLab, Racing, write_track};

/// Clients of each driver.
pub(crate) const CLIENTS: u64 = 2;
/// Requests of each driver that are answered before the target holds the others; far less than the first step has.
pub(crate) const ANSWERED: u64 = CLIENTS * 10;
/// Samples of a driver in the first step and in the last one. The one between has work for the first driver only, so
/// the others wait.
const FIRST: u64 = CLIENTS * 200;
const ALONE: u64 = 200;
const LAST: u64 = CLIENTS * 20;
/// Samples of the whole race.
pub(crate) const SAMPLES: u64 = 3 * (FIRST + LAST) + ALONE;

/// What became of the requests of one driver in a race.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    /// As the target counts them.
    pub(crate) arrived: u64,
    /// Samples that are part of the result.
    pub(crate) merged: u64,
    /// Samples that the driver said it had lost.
    pub(crate) lost: u64,
}

impl Account {
    /// All that arrived is in the result, or said to be lost; a request that is cut off may never have arrived.
    pub(crate) fn balances(&self) {
        assert!((self.merged..=self.merged + self.lost).contains(&self.arrived), "{self:?}");
        assert!(self.lost <= CLIENTS, "a client has one request under way: {self:?}");
    }

    /// All that was answered is in the result, and the driver did not live to say what became of the rest.
    pub(crate) fn ends_unknown(&self, under_way: u64) {
        let expected = Self { arrived: self.merged + under_way, lost: 0, ..*self };
        assert_eq!(*self, expected);
    }
}

impl RaceLab {
    /// Starts the usual race on all drivers.
    pub(crate) fn race(&self, race: &str, more: &[&str]) -> Racing {
        self.race_of(race, &self.usual(race), &[&[&self.target.target_hosts()[..]], more].concat())
    }

    /// The track of the usual race, in which each request goes to the target that counts.
    pub(crate) fn usual(&self, race: &str) -> PathBuf {
        let task = |name: &str, clients: u64, iterations: u64| json!({"operation": "ask", "name": name, "clients": clients, "iterations": iterations});
        let track = json!({
            "version": 2,
            "operations": [{"name": "ask", "operation-type": "raw-request", "path": CountingTarget::path(race)}],
            "schedule": [task("all", 3 * CLIENTS, 200), task("alone", 1, ALONE), task("again", 3 * CLIENTS, 20)]
        });
        write_track(&self.drivers()[0].home, &format!("track-{race}"), &track)
    }

    /// Waits for the end of the usual race, with which nothing must have been wrong.
    pub(crate) fn completes(&self, racing: Racing) {
        let race = racing.race.clone();
        racing.end().is_complete(SAMPLES);
        assert_eq!(self.accounts(&race), [0, 1, 2].map(all_of));
    }

    /// Where the coordinator keeps races.
    pub(crate) fn archive(&self) -> Archive {
        Archive::new(self.coordinator().home.join(".rally/benchmarks/races"))
    }

    /// How a race ended, by its archive.
    pub(crate) fn verdict(&self, race: &str) -> ArchivedVerdict {
        self.archive().verdict(&id(race)).unwrap().unwrap()
    }

    /// What became of the requests of each driver, as far as it is known by now.
    pub(crate) fn accounts(&self, race: &str) -> [Account; 3] {
        std::array::from_fn(|index| {
            let host = &self.drivers()[index];
            let mut account = Account { arrived: self.target.requests(race, host.ip), merged: 0, lost: 0 };
            let name = host.ip.to_string();
            // A race that has just begun has no file, and one that runs may be about to append to it.
            let _ = read_intervals(&self.archive().intervals_path(&id(race)), |recorded| {
                if recorded.driver == name {
                    account.merged += recorded.interval.tasks.iter().map(|task| task.samples).sum::<u64>();
                    account.lost = recorded.interval.ledger.lost;
                }
            });
            account
        })
    }

    /// That the ledger of a race is the sum of the accounts; drivers that were lost are no part of what was made.
    pub(crate) fn adds_up(&self, race: &str) {
        let (accounts, ledger) = (self.accounts(race), self.verdict(race).verdict.ledger);
        let sum = |what: fn(&Account) -> u64| accounts.iter().map(what).sum::<u64>();
        assert_eq!((ledger.merged, ledger.lost), (sum(|it| it.merged), sum(|it| it.lost)), "{accounts:?}");
        assert_eq!(ledger.made, ledger.merged + ledger.lost);
    }

    /// Waits until each driver applies load: it has been answered, and asked again.
    pub(crate) fn is_driven(&self, race: &str) {
        within(ENDS_WITHIN, "every driver applies load", || {
            self.drivers().iter().all(|host| self.target.requests(race, host.ip) > CLIENTS)
        });
    }

    /// Starts the usual race, in whose first step the target soon answers no more, and waits until it is [held](Self::is_held).
    pub(crate) fn held(&self, race: &str, more: &[&str]) -> Racing {
        self.target.hold_after(ANSWERED);
        let racing = self.race(race, more);
        self.is_held(race);
        racing
    }

    /// Waits until each client of all drivers waits for an answer and everything before is recorded; the target must have been
    /// told before the race to answer the first requests only.
    pub(crate) fn is_held(&self, race: &str) {
        let expected = Account { arrived: ANSWERED + CLIENTS, merged: ANSWERED, lost: 0 };
        within(ENDS_WITHIN, "all but what is under way is recorded", || self.accounts(race) == [expected; 3]);
    }

    /// Waits until a race has been ending for a while, since requests under way get no answer.
    pub(crate) fn is_ending(&self) {
        within(ENDS_WITHIN, "the race waits for its drivers to end", || {
            self.coordinator().running().race()["waits_for"].as_array().is_some_and(|drivers| !drivers.is_empty())
        });
    }
}

/// The account of a driver, counted from 0, that has done all its work in the usual race.
pub(crate) fn all_of(driver: usize) -> Account {
    let all = FIRST + LAST + if driver == 0 { ALONE } else { 0 };
    Account { arrived: all, merged: all, lost: 0 }
}

pub(crate) fn id(race: &str) -> RaceId {
    race.parse().unwrap()
}

/// The files of raw samples in a directory.
pub(crate) fn raw_files(directory: &Path) -> BTreeSet<PathBuf> {
    let files = fs::read_dir(directory).into_iter().flatten().map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|it| it == "parquet")).collect()
}

/// Samples in a file.
pub(crate) fn raw_samples(path: &Path) -> u64 {
    let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
    reader.metadata().file_metadata().num_rows() as u64
}

/// When the samples of each client began, as all files of a directory say.
pub(crate) fn raw_times(directory: &Path) -> BTreeMap<i32, Vec<SystemTime>> {
    let mut times = BTreeMap::<i32, Vec<_>>::new();
    for path in raw_files(directory) {
        let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
        for row in reader.get_row_iter(None).unwrap().map(Result::unwrap) {
            let (client, nanos) = (row.get_int(4).unwrap(), row.get_long(6).unwrap());
            let begun = SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos.try_into().unwrap());
            times.entry(client).or_default().push(begun);
        }
    }
    times
}

/// A sample of a file of raw samples.
#[derive(Clone, Debug)]
pub(crate) struct RawRequest {
    pub(crate) task: String,
    pub(crate) begun: SystemTime,
    pub(crate) success: bool,
}

/// The samples of a file.
pub(crate) fn raw_requests(path: &Path) -> impl Iterator<Item = RawRequest> {
    let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
    let of = |row: parquet::record::Row| RawRequest {
        task: row.get_string(0).unwrap().clone(),
        begun: SystemTime::UNIX_EPOCH + Duration::from_nanos(row.get_long(6).unwrap().try_into().unwrap()),
        success: row.get_bool(14).unwrap(),
    };
    reader.into_iter().map(Result::unwrap).map(of)
}

/// Where a driver writes raw samples.
pub(crate) fn raw_directory(host: &Host) -> PathBuf {
    host.instance().join("samples")
}
