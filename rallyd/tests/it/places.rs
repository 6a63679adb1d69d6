//! A race over places with fields of geonames, whose corpus is shipped to its drivers, and what its target knows of it: a
//! server that is not of this project.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufWriter, Write};
use std::net::IpAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use rally_core::metrics::RaceDocument;
use rallyd::archive::read_intervals;
use serde_json::{Value, json};

use crate::lab::{Host, Said, within};
use crate::race_lab::{ENDS_WITHIN, RaceLab, Racing, Server, write_track};
use crate::race_ledger::id;

/// Clients that index, who all search afterwards: one half without a throttle, the other one with it.
pub(crate) const CLIENTS: u64 = 6;

/// Documents of the index that throttled searches ask. The server looks at every document in each search.
const COUNTRIES: u64 = 240;

/// Throttled searches in each second.
const SEARCHES_PER_SECOND: u64 = 30;

/// How much is indexed and searched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Places; there are some countries besides.
    pub(crate) documents: u64,
    pub(crate) bulk_size: u64,
    /// Documents in each second, if there is a limit.
    pub(crate) indexing: Option<u64>,
    pub(crate) searching: Searching,
    /// Samples without a request that each client makes in a last step; none without the step.
    pub(crate) naps: Option<u64>,
}

/// How long is searched.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Searching {
    /// Until so many requests of either kind are made, in which all clients have equal parts.
    Requests { unthrottled: u64, throttled: u64 },
    /// For so many seconds.
    Seconds(u64),
}

/// A task of the race.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Work {
    Index,
    All,
    ByCountry,
}

impl Work {
    const EVERY: [Self; 3] = [Self::Index, Self::All, Self::ByCountry];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::All => "all",
            Self::ByCountry => "by-country",
        }
    }

    fn of(task: u32) -> Option<Self> {
        // In the order of the schedule: the indices are deleted and made before, and refreshed in between.
        match task {
            2 => Some(Self::Index),
            4 => Some(Self::All),
            5 => Some(Self::ByCountry),
            _ => None,
        }
    }
}

/// A cluster, and the server that it loads, beside the coordinator.
pub(crate) struct PlacesLab {
    // Ends before the lab.
    pub(crate) server: Server,
    pub(crate) lab: RaceLab,
}

/// Samples of a task as they are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) samples: u64,
    pub(crate) failed: u64,
    /// What they did: documents, or the number of searches.
    pub(crate) weight: u64,
}

/// What a driver told in a race, as the archive has it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) work: BTreeMap<Work, Told>,
    pub(crate) intervals: u64,
    /// Samples that it said it had lost.
    pub(crate) lost: u64,
}

impl Report {
    pub(crate) fn of(&self, work: Work) -> Told {
        self.work.get(&work).copied().unwrap_or_default()
    }

    pub(crate) fn searches(&self) -> u64 {
        self.of(Work::All).samples + self.of(Work::ByCountry).samples
    }
}

/// What the server has got since its indices were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) bulks: u64,
    pub(crate) documents: u64,
    pub(crate) searches: u64,
}

impl PlacesLab {
    /// Over a network that can be tampered with, and with a server; without, the test is skipped.
    pub(crate) fn new(test: &str) -> Option<Self> {
        Self::over(test, RaceLab::new(test)?)
    }

    /// As [`PlacesLab::new`], over hosts whose daemons may have been started in another way.
    pub(crate) fn over(test: &str, lab: RaceLab) -> Option<Self> {
        let server = Server::start(test, &lab, lab.coordinator())?;
        Some(Self { server, lab })
    }

    /// Starts a race on some drivers, who get the corpus from the coordinator.
    pub(crate) fn race_on(&self, race: &str, drivers: &[Host], load: &Load, more: &[&str]) -> Racing {
        let corpus = self.lab.coordinator().home.join(".rally/benchmarks/data/places");
        write_corpus(&corpus.join("documents.json"), "Place", load.documents);
        write_corpus(&corpus.join("countries.json"), "Country", COUNTRIES);
        let names: Vec<_> = drivers.iter().map(|host| host.ip.to_string()).collect();
        let (hosts, on) = (self.server.target_hosts(), format!("--load-driver-hosts={}", names.join(",")));
        let track = load.write_track(&self.lab.drivers()[0].home, &format!("places-{race}"));
        self.lab.race_on(race, &track, &[&[&hosts[..], &on, "--data=ship"], more].concat())
    }

    /// As [`PlacesLab::race_on`], on all drivers.
    pub(crate) fn race(&self, race: &str, load: &Load, more: &[&str]) -> Racing {
        self.race_on(race, self.lab.drivers(), load, more)
    }

    /// What each of the drivers has told so far, by its address.
    pub(crate) fn reports(&self, race: &str) -> BTreeMap<IpAddr, Report> {
        let mut reports = BTreeMap::<IpAddr, Report>::new();
        // A race that has just begun has no file, and one that runs may be about to append to it.
        let _ = read_intervals(&self.lab.archive().intervals_path(&id(race)), |recorded| {
            let report = reports.entry(recorded.driver.parse().unwrap()).or_default();
            report.intervals += 1;
            report.lost = recorded.interval.ledger.lost;
            for part in &recorded.interval.tasks {
                let Some(work) = Work::of(part.task.0) else { continue };
                let told = report.work.entry(work).or_default();
                told.samples += part.samples;
                told.failed += part.failed;
                told.weight += part.throughput.iter().map(|bin| bin.weight).sum::<u64>();
            }
        });
        reports
    }

    /// What all drivers have told of one kind of work.
    pub(crate) fn told(&self, race: &str, work: Work) -> Told {
        self.reports(race).values().map(|report| report.of(work)).fold(Told::default(), |sum, it| Told {
            samples: sum.samples + it.samples,
            failed: sum.failed + it.failed,
            weight: sum.weight + it.weight,
        })
    }

    /// What the server says.
    pub(crate) fn got(&self) -> Got {
        let stats = self.server.get("/_stats").unwrap()["_all"]["primaries"].take();
        let count = |group: &str, what: &str| stats[group][what].as_u64().unwrap_or_else(|| panic!("{stats}"));
        Got {
            bulks: count("bulk", "total_operations"),
            documents: count("indexing", "index_total"),
            searches: count("search", "query_total"),
        }
    }

    /// How many documents of some clients the server finds, as of its last refresh. To count is a search, so that nothing about searches can be
    /// asked afterwards.
    pub(crate) fn documents_of(&self, load: &Load, clients: Range<u64>) -> u64 {
        let found = |index: &str, documents: u64| {
            let [from, to] = [clients.start, clients.end].map(|client| first_of(documents, client));
            let path = format!("/{index}/_count?q=geonameid:%5B{from}%20TO%20{}%5D", to - 1);
            let document = self.server.get(&path).unwrap();
            document["count"].as_u64().unwrap_or_else(|| panic!("{path}: {document}"))
        };
        found("places", load.documents) + found("countries", COUNTRIES)
    }

    /// Waits until a driver has told of some work of this kind.
    pub(crate) fn is_told(&self, race: &str, work: Work, drivers: &[Host]) {
        within(ENDS_WITHIN, &format!("{} is told of race {race}", work.name()), || {
            let reports = self.reports(race);
            drivers.iter().all(|host| reports.get(&host.ip).is_some_and(|report| report.of(work).samples > 0))
        });
    }

    /// Lets the server answer no more, and waits until everything before is told.
    pub(crate) fn hold(&self, race: &str) {
        self.server.hold();
        let before = self.reports(race);
        within(ENDS_WITHIN, "all but what is under way is told", || {
            let reports = self.reports(race);
            self.lab.drivers().iter().all(|host| reports[&host.ip].intervals >= before[&host.ip].intervals + 2)
        });
    }

    /// That a race had nothing wrong with it, and that what it tells of each driver is what the server has got.
    pub(crate) fn is_complete(&self, said: &Said, race: &str, drivers: &[Host], load: &Load) -> RaceDocument {
        let ledger = self.lab.verdict(race).verdict.ledger;
        said.is_complete(ledger.merged);
        assert_eq!((ledger.made, ledger.lost), (ledger.merged, 0));
        // Asked first, because a count is a search.
        let got = self.got();
        let [index, all, by_country] = Work::EVERY.map(|work| self.told(race, work));
        assert_eq!([index, all, by_country].map(|told| told.failed), [0; 3]);
        assert_eq!((index.samples, index.weight), (load.bulks(0..CLIENTS), load.documents + COUNTRIES));
        assert_eq!(
            got,
            Got { bulks: index.samples, documents: index.weight, searches: all.samples + by_country.samples }
        );
        let naps = load.naps.map_or(0, |naps| naps * CLIENTS);
        assert_eq!(ledger.merged, 3 + index.samples + all.samples + by_country.samples + naps);
        match load.searching {
            Searching::Requests { unthrottled, throttled } => {
                assert_eq!((all.samples, by_country.samples), (unthrottled, throttled));
            }
            Searching::Seconds(_) => assert!(all.samples > 0 && by_country.samples > 0),
        }
        let reports = self.reports(race);
        for (host, clients) in drivers.iter().zip(clients(drivers.len())) {
            let told = reports[&host.ip].of(Work::Index);
            assert_eq!((told.samples, told.weight), (load.bulks(clients.clone()), self.documents_of(load, clients)));
        }
        self.lab.archive().load(&id(race)).unwrap()
    }

    /// That the server has every bulk of a driver that the race tells of, and no more beside than were under way. What it
    /// has got meanwhile may still wait for it.
    pub(crate) fn has_indexed(&self, race: &str, load: &Load, driver: usize, under_way: u64) {
        let host = &self.lab.drivers()[driver];
        let told = self.reports(race).get(&host.ip).cloned().unwrap_or_default().of(Work::Index).weight;
        let clients = clients(self.lab.drivers().len()).nth(driver).unwrap();
        let found = self.documents_of(load, clients);
        assert!(
            (told..=told + under_way * load.bulk_size).contains(&found),
            "{}: {found} documents, and {told} are told with {under_way} bulks under way",
            host.ip
        );
    }
}

/// The clients of each driver if there are so many.
pub(crate) fn clients(drivers: usize) -> impl Iterator<Item = Range<u64>> {
    let each = CLIENTS / drivers as u64;
    (0..drivers as u64).map(move |driver| driver * each..(driver + 1) * each)
}

impl Load {
    /// How many bulks some clients make: each makes its own of either kind of document, and the last one may be smaller.
    pub(crate) fn bulks(&self, clients: Range<u64>) -> u64 {
        let share = |documents, client| first_of(documents, client + 1) - first_of(documents, client);
        let of = |client| [self.documents, COUNTRIES].map(|it| share(it, client).div_ceil(self.bulk_size));
        clients.flat_map(of).sum()
    }

    fn write_track(&self, directory: &Path, name: &str) -> PathBuf {
        let search = |work: Work, index: &str, body: Value| json!({"name": work.name(), "operation-type": "search", "index": index, "body": body});
        let mut index = json!({"operation": Work::Index.name(), "clients": CLIENTS});
        if let Some(documents) = self.indexing {
            index["target-throughput"] = json!(format!("{documents} docs/s"));
        }
        let searchers = CLIENTS / 2;
        let mut all = json!({"operation": Work::All.name(), "clients": searchers});
        let mut by_country = json!({
            "operation": Work::ByCountry.name(), "clients": searchers, "target-throughput": SEARCHES_PER_SECOND
        });
        match self.searching {
            Searching::Requests { unthrottled, throttled } => {
                all["iterations"] = json!(unthrottled / searchers);
                by_country["iterations"] = json!(throttled / searchers);
            }
            Searching::Seconds(seconds) => {
                [&mut all, &mut by_country].into_iter().for_each(|task| task["time-period"] = json!(seconds));
            }
        }
        let mut schedule = vec![
            json!({"operation": "delete-index"}),
            json!({"operation": "create-index"}),
            index,
            json!({"operation": "refresh"}),
            json!({"parallel": {"tasks": [all, by_country]}}),
        ];
        schedule.extend(self.naps.map(|naps| json!({"operation": "nap", "clients": CLIENTS, "iterations": naps})));
        let track = json!({
            "version": 2,
            "indices": [{"name": "places"}, {"name": "countries"}],
            "corpora": [{"name": "places", "documents": [
                {"source-file": "documents.json", "document-count": self.documents, "target-index": "places"},
                {"source-file": "countries.json", "document-count": COUNTRIES, "target-index": "countries"}
            ]}],
            "operations": [
                {"name": Work::Index.name(), "operation-type": "bulk", "bulk-size": self.bulk_size},
                search(Work::All, "places", json!({"query": {"match_all": {}}, "size": 0})),
                search(Work::ByCountry, "countries", json!({"query": {"match": {"name": "17"}}})),
                {"name": "nap", "operation-type": "sleep", "duration": 0}
            ],
            "schedule": schedule
        });
        write_track(directory, name, &track)
    }
}

/// Where the part of a client begins: parts are as equal as they can be.
fn first_of(documents: u64, client: u64) -> u64 {
    (2 * client * documents + CLIENTS) / (2 * CLIENTS)
}

/// Documents with fields of geonames.
fn write_corpus(path: &Path, kind: &str, documents: u64) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut out = BufWriter::new(fs::File::create(path).unwrap());
    for number in 0..documents {
        let country = ["AT", "CH", "DE", "FR", "NO"][number as usize % 5];
        writeln!(
            out,
            r#"{{"geonameid":{number},"name":"{kind} {name} of {country}","asciiname":"{kind} {name}","feature_class":"P","feature_code":"PPL","country_code":"{country}","admin1_code":"{admin:02}","population":{population},"dem":"{dem}","timezone":"Europe/Oslo","location":[{longitude},{latitude}]}}"#,
            name = number % 1_000,
            admin = number % 17,
            population = number * 7919 % 1_000_000,
            dem = number % 4_000,
            longitude = number % 180,
            latitude = number % 90,
        )
        .unwrap();
    }
    out.flush().unwrap();
}
