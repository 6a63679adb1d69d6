//! What becomes of a race over places when something breaks: what it tells is what the server has got, or the verdict says
//! what is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::slice::from_ref;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use rally_core::RaceOutcome;
use rally_core::race::Shortfall;
use rallyd::archive::read_intervals;
use rustix::process::Signal;

use crate::lab::{Family, Host, Lab, PORT, REJOIN_WITHIN, SOON, files, note, report, within};
use crate::places::{CLIENTS, Load, PlacesLab, Report, Searching, Work};
use crate::race_faults::{Mounted, cut, mend, rejoin, victim};
use crate::race_lab::{ENDS_WITHIN, RaceLab};
use crate::race_ledger::{id, raw_directory, raw_files, raw_requests};

/// Some seconds of indexing, and some of searching.
const LOAD: Load =
    Load { documents: 18_000, bulk_size: 100, indexing: Some(3_000), searching: Searching::Seconds(6), naps: None };

/// The same with enough samples for their files to be under way for some time.
const MANY_SAMPLES: Load = Load { naps: Some(8_000), searching: Searching::Seconds(2), ..LOAD };

/// Clients of each driver.
const EACH: u64 = CLIENTS / 3;

/// The steps of the race that last.
const INDEXING: u64 = 3;
const SEARCHING: u64 = 5;

/// Silence makes a host dead after 5 s; intervals come each second, and the rest is for a busy machine.
const NAMED_WITHIN: Duration = Duration::from_secs(15);

impl PlacesLab {
    fn victim(&self) -> &Host {
        victim(&self.lab)
    }

    fn victim_told(&self, race: &str) -> Report {
        self.reports(race).get(&self.victim().ip).cloned().unwrap_or_default()
    }

    /// That a race goes well on all drivers.
    fn completes(&self, race: &str, load: &Load) {
        let racing = self.race(race, load, &[]);
        self.is_complete(&racing.end(), race, self.lab.drivers(), load);
    }

    /// That a driver was named soon after its last sign of life, by the coordinator's clock.
    fn was_named_in_time(&self, race: &str, host: &Host) {
        let name = host.ip.to_string();
        let mut last = 0;
        read_intervals(&self.lab.archive().intervals_path(&id(race)), |recorded| {
            if recorded.driver == name {
                last = recorded.at.as_nanos();
            }
        })
        .unwrap();
        let events = fs::read_to_string(self.lab.archive().events_path(&id(race))).unwrap();
        let events = events.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let mut named = events.filter(|it| it["event"]["RoleFailed"]["host"] == *name);
        let named = named.next().unwrap()["at"].as_u64().unwrap();
        let after = Duration::from_nanos(named.checked_sub(last).unwrap());
        note(&format!("{name} was named {:.1} s after its last interval", after.as_secs_f64()));
        assert!(after < NAMED_WITHIN, "{after:?}");
    }

    /// That what a race tells, whose drivers lost one of them while the server held its answers, is what the server has got,
    /// but for the requests that were under way, and that the verdict says so.
    fn adds_up_without(&self, race: &str, held: Work) {
        let victim = self.victim();
        let verdict = self.lab.verdict(race).verdict;
        assert_eq!(verdict.outcome, RaceOutcome::Failed);
        let reports = self.reports(race);
        let [one, two, killed] = self.lab.drivers() else { panic!("three drivers") };
        // The indices are deleted, made, and refreshed by the first client.
        let by_first = if held == Work::Index { 2 } else { 3 };
        let merged =
            |host: &Host, more: u64| reports[&host.ip].of(Work::Index).samples + reports[&host.ip].searches() + more;
        // Those that live say what of theirs was cut off.
        let cut_off = |host: &Host, merged: u64| {
            let (driver, lost) = (host.ip.to_string(), EACH);
            Shortfall::Samples { driver, made: merged + lost, merged, lost }
        };
        let told = [merged(one, by_first), merged(two, 0), merged(killed, 0)];
        let [first, second, Shortfall::Unended { driver, untold: Some(untold) }] = &verdict.shortfalls[..] else {
            panic!("{:?}", verdict.shortfalls)
        };
        assert_eq!([first, second], [&cut_off(one, told[0]), &cut_off(two, told[1])]);
        assert_eq!(*driver, victim.ip.to_string());
        assert!(untold.requests >= EACH, "what was under way is not known: {untold:?}");
        let lost = 2 * EACH;
        assert_eq!((verdict.ledger.merged, verdict.ledger.lost), (told.iter().sum(), lost));
        assert_eq!(verdict.ledger.made, verdict.ledger.merged + lost);

        let (got, index) = (self.got(), self.told(race, Work::Index));
        let searches: u64 = reports.values().map(Report::searches).sum();
        let [bulks_under_way, searches_under_way] = if held == Work::Index { [CLIENTS, 0] } else { [0, CLIENTS] };
        assert!((index.samples..=index.samples + bulks_under_way).contains(&got.bulks), "{got:?}, {index:?}");
        assert!((searches..=searches + searches_under_way).contains(&got.searches), "{got:?}, {searches} are told");
        let under_way = if held == Work::Index { EACH } else { 0 };
        // The race may not have come to it.
        self.server.get("/_refresh").unwrap();
        (0..self.lab.drivers().len()).for_each(|driver| self.has_indexed(race, &LOAD, driver, under_way));
    }

    /// In how many intervals drivers say that they stood still.
    fn stood_still(&self, race: &str) -> BTreeMap<String, u64> {
        let mut intervals = BTreeMap::new();
        read_intervals(&self.lab.archive().intervals_path(&id(race)), |recorded| {
            if recorded.interval.health.saturated.is_some_and(|reason| reason.contains("it stood still for")) {
                *intervals.entry(recorded.driver).or_default() += 1;
            }
        })
        .unwrap();
        intervals
    }

    /// The samples of a kind of work that a driver has on its own disk, but for those in files that were there before.
    fn kept(&self, host: &Host, work: Work, before: &BTreeSet<PathBuf>) -> u64 {
        let of = |file: &PathBuf| raw_requests(file).filter(|it| it.task == work.name()).count() as u64;
        raw_files(&raw_directory(host)).difference(before).map(of).sum()
    }
}

#[test]
fn a_driver_that_is_killed_in_a_race_over_places_takes_only_what_the_verdict_says() {
    let test = "a_driver_that_is_killed_in_a_race_over_places_takes_only_what_the_verdict_says";
    let Some(lab) = PlacesLab::new(test) else { return };
    let (victim, coordinator) = (lab.victim(), lab.lab.coordinator());
    let name = victim.ip.to_string();

    note("while its corpus comes");
    // Enough for heartbeats; its documents take many seconds.
    let slow = format!("ip saddr {} udp sport {PORT} limit rate over 30 kbytes/second", coordinator.ip);
    victim.drop_incoming(&[&slow]);
    let racing = lab.race("preparing", &LOAD, &[]);
    within(ENDS_WITHIN, "documents arrive", || {
        files(&victim.home).iter().any(|file| file.contains("/data/") && file.ends_with(".part"))
    });
    victim.kill();
    victim.let_all_in();
    racing.end().has_failed(&[&format!("load driver on {name} could not"), "0 samples of 0 known to be made"]);
    assert_eq!(lab.server.get("/places/_count").unwrap()["status"], 404, "no driver has begun");
    rejoin(&lab.lab);

    for (race, work, step) in [("indexing", Work::Index, INDEXING), ("searching", Work::All, SEARCHING)] {
        note(race);
        let racing = lab.race(race, &LOAD, &[]);
        lab.is_told(race, work, &lab.lab.drivers()[..1]);
        lab.hold(race);
        victim.kill();
        racing.end().has_failed(&[&format!("load driver on {name} could not drive step {step}")]);
        lab.server.answer();
        lab.was_named_in_time(race, victim);
        lab.adds_up_without(race, work);
        rejoin(&lab.lab);
    }

    note("while its raw samples are fetched");
    let racing = lab.race("fetching", &MANY_SAMPLES, &[]);
    lab.lab.is_in_step(&racing, SEARCHING);
    // Enough for intervals and heartbeats; a file takes many seconds.
    coordinator.drop_incoming(&[&format!("ip saddr {name} udp sport {PORT} limit rate over 30 kbytes/second")]);
    let directory = lab.lab.archive().samples_directory(&id("fetching"));
    let parts = || files_below(&directory).into_iter().filter(|name| name.ends_with(".part")).collect::<Vec<_>>();
    within(ENDS_WITHIN, "a file takes long", || {
        let before = parts();
        sleep(Duration::from_millis(500));
        !before.is_empty() && parts() == before
    });
    victim.kill();
    let said = racing.end();
    // All intervals were there.
    lab.is_complete(&said, "fetching", lab.lab.drivers(), &MANY_SAMPLES);
    assert!(said.stderr.contains(&format!("raw samples of {name} are missing: ")), "{}", said.stderr);
    coordinator.let_all_in();
    rejoin(&lab.lab);
    lab.completes("after", &LOAD);
}

/// As [`files`], of a directory that need not be there.
fn files_below(directory: &Path) -> Vec<String> {
    if directory.exists() { files(directory) } else { Vec::new() }
}

#[test]
fn a_driver_that_stands_still_in_a_race_over_places_costs_no_document_and_no_request() {
    let test = "a_driver_that_stands_still_in_a_race_over_places_costs_no_document_and_no_request";
    let Some(lab) = PlacesLab::new(test) else { return };
    let victim = lab.victim();
    let name = victim.ip.to_string();

    note("for a second, in each step that lasts");
    let racing = lab.race("moment", &LOAD, &[]);
    for work in [Work::Index, Work::ByCountry] {
        lab.is_told("moment", work, from_ref(victim));
        let stopped = victim.signal(Signal::STOP);
        sleep(Duration::from_secs(1));
        stopped.resume();
    }
    lab.is_complete(&racing.end(), "moment", lab.lab.drivers(), &LOAD);
    assert!(lab.stood_still("moment").contains_key(&name), "{:?}", lab.stood_still("moment"));

    note("for four fifths of the time");
    let racing = lab.race("slow", &LOAD, &[]);
    lab.is_told("slow", Work::Index, from_ref(victim));
    while lab.lab.coordinator().running().race()["id"] == "slow" {
        let stopped = victim.signal(Signal::STOP);
        sleep(Duration::from_millis(400));
        stopped.resume();
        sleep(Duration::from_millis(100));
    }
    let said = racing.end();
    lab.is_complete(&said, "slow", lab.lab.drivers(), &LOAD);
    assert!(said.stderr.contains(&format!("load driver {name} was the bottleneck in ")), "{}", said.stderr);
    let stood_still = lab.stood_still("slow");
    let of_victim = stood_still.get(&name).copied().unwrap_or_default();
    // A busy machine may hold up others, too.
    assert!(of_victim >= 3, "{stood_still:?}");
    let found = lab.lab.verdict("slow").findings.drivers;
    assert!(found.iter().any(|it| it.driver == name && it.saturated >= of_victim), "{found:?}");

    note("for 20 s, in which the race ends");
    let racing = lab.race("frozen", &LOAD, &[]);
    lab.is_told("frozen", Work::All, &lab.lab.drivers()[..1]);
    lab.hold("frozen");
    let (stopped, since) = (victim.signal(Signal::STOP), Instant::now());
    racing.end().has_failed(&[
        &format!("load driver on {name} could not drive step {SEARCHING}"),
        &format!("{name} never reported its end; its last measurements are missing"),
    ]);
    lab.was_named_in_time("frozen", victim);
    sleep(Duration::from_secs(20).saturating_sub(since.elapsed()));
    // Each of its clients waits for an answer, and may ask no more than once before it is told that the race is over.
    stopped.resume();
    lab.lab.lab.is_whole(REJOIN_WITHIN);
    lab.lab.is_free();
    lab.server.answer();
    lab.adds_up_without("frozen", Work::All);
}

#[test]
fn a_network_that_fails_in_a_race_over_places_costs_nothing_or_is_named() {
    let test = "a_network_that_fails_in_a_race_over_places_costs_nothing_or_is_named";
    let Some(lab) = PlacesLab::new(test) else { return };
    let (victim, coordinator) = (lab.victim(), lab.lab.coordinator());
    let name = victim.ip.to_string();

    note("one of twenty packets is lost, those of the corpus and of requests, too");
    cut(coordinator, victim, " numgen random mod 100 < 5");
    lab.completes("lossy", &LOAD);
    mend(coordinator, victim);

    note("cut for less than a host may be silent");
    let racing = lab.race("short", &LOAD, &[]);
    for work in [Work::Index, Work::ByCountry] {
        lab.is_told("short", work, from_ref(victim));
        cut(coordinator, victim, &format!(" udp sport {PORT}"));
        sleep(Duration::from_millis(2_500));
        mend(coordinator, victim);
    }
    lab.is_complete(&racing.end(), "short", lab.lab.drivers(), &LOAD);

    note("cut for good, but not from the server");
    let before = raw_files(&raw_directory(victim));
    let racing = lab.race("parted", &LOAD, &[]);
    lab.is_told("parted", Work::ByCountry, from_ref(victim));
    cut(coordinator, victim, &format!(" udp sport {PORT}"));
    racing.end().has_failed(&[
        &format!("load driver on {name} could not drive step {SEARCHING}"),
        &format!("{name} never reported its end; its last measurements are missing"),
    ]);
    lab.was_named_in_time("parted", victim);
    within(ENDS_WITHIN, "the driver has stopped its load by itself", || victim.running().text("activity") == "idle");
    let reports = lab.reports("parted");
    let cut_off: u64 = reports.values().map(|report| report.lost).sum();
    let told: u64 = reports.values().map(Report::searches).sum();
    let told_of_victim = lab.victim_told("parted").searches();
    // What the coordinator does not know is on the disk of the driver, but for what was cut off.
    let kept = || lab.kept(victim, Work::ByCountry, &before);
    let got = lab.got();
    within(SOON, "its raw samples are written", || told - told_of_victim + kept() + cut_off + EACH >= got.searches);
    assert!(kept() >= told_of_victim && told - told_of_victim + kept() <= got.searches, "{got:?}, {} kept", kept());
    assert_eq!((got.bulks, lab.kept(victim, Work::Index, &before)), (LOAD.bulks(0..CLIENTS), LOAD.bulks(4..6)));
    mend(coordinator, victim);
    lab.lab.lab.is_whole(REJOIN_WITHIN);
    lab.lab.is_free();
    assert_eq!(lab.got(), got, "it has asked for nothing since");
    (0..3).for_each(|driver| lab.has_indexed("parted", &LOAD, driver, 0));
}

#[test]
fn drivers_of_a_race_over_places_whose_coordinator_is_killed_have_what_it_does_not_know() {
    let test = "drivers_of_a_race_over_places_whose_coordinator_is_killed_have_what_it_does_not_know";
    let Some(lab) = PlacesLab::new(test) else { return };
    let coordinator = lab.lab.coordinator();
    // It would last for minutes.
    let load = Load { documents: 180_000, indexing: Some(1_000), ..LOAD };
    let racing = lab.race("orphaned", &load, &[]);
    lab.is_told("orphaned", Work::Index, lab.lab.drivers());
    coordinator.kill();
    let plays = |host: &Host| host.running().text("activity") == "load driver of race orphaned";
    within(ENDS_WITHIN, "no driver plays in a race without its coordinator", || !lab.lab.drivers().iter().any(plays));
    let got = lab.got();
    assert!(got.bulks < load.bulks(0..CLIENTS), "they have stopped before their time: {got:?}");
    let kept = || lab.lab.drivers().iter().map(|host| lab.kept(host, Work::Index, &BTreeSet::new())).sum::<u64>();
    within(SOON, "their raw samples are written", || kept() + CLIENTS >= got.bulks);
    assert!(kept() <= got.bulks, "{} are kept of {got:?}", kept());
    coordinator.start(&[]);
    lab.lab.lab.is_whole(REJOIN_WITHIN);
    racing.end().has_failed(&["orphaned"]);
    assert_eq!(lab.got(), got, "no driver has asked for anything since");
    assert!(lab.lab.archive().verdict(&id("orphaned")).unwrap().is_none());
    let told = lab.told("orphaned", Work::Index);
    assert!(0 < told.samples && told.samples <= kept(), "{told:?} of {}", kept());
    let listed = coordinator.run(&["list", "races"]);
    let row = listed.stdout.lines().find(|line| line.contains("orphaned")).unwrap_or_default();
    assert!(row.trim_end_matches([' ', '|']).ends_with("incomplete"), "{}", listed.stdout);
    lab.completes("after", &LOAD);
}

/// A lab over daemons that see file systems which were mounted before.
fn mounted(test: &str, mount: impl Fn(&RaceLab) -> Mounted) -> Option<(PlacesLab, Mounted)> {
    let lab = RaceLab::over(Lab::with_own_network(test, Family::V4)?);
    let mounted = mount(&lab);
    lab.lab.start();
    Some((PlacesLab::over(test, lab)?, mounted))
}

#[test]
fn a_full_disk_of_a_driver_loses_raw_samples_of_a_race_over_places_alone() {
    let test = "a_full_disk_of_a_driver_loses_raw_samples_of_a_race_over_places_alone";
    let Some((lab, _mounted)) = mounted(test, |lab| Mounted::small(&raw_directory(victim(lab)), "4k")) else { return };
    let racing = lab.race("full", &LOAD, &[]);
    let said = racing.end();
    lab.is_complete(&said, "full", lab.lab.drivers(), &LOAD);
    let name = lab.victim().ip.to_string();
    let told = lab.victim_told("full");
    let made = told.of(Work::Index).samples + told.searches();
    for expected in [
        "No space left on device".to_owned(),
        format!("{name}: no more raw samples are written"),
        format!("{made} samples of load driver {name} are in the results, but in no file of raw samples"),
    ] {
        assert!(said.stderr.contains(&expected), "no {expected:?} in\n{}", said.stderr);
    }
    let merged = lab.lab.verdict("full").verdict.ledger.merged;
    let archived = raw_files(&lab.lab.archive().samples_directory(&id("full")));
    let archived: u64 = archived.iter().map(|file| raw_requests(file).count() as u64).sum();
    assert_eq!(archived, merged - made);
}

#[test]
fn a_full_disk_of_the_coordinator_changes_no_result_of_a_race_over_places() {
    let test = "a_full_disk_of_the_coordinator_changes_no_result_of_a_race_over_places";
    let races = |lab: &RaceLab| lab.coordinator().home.join(".rally/benchmarks/races");
    let Some((lab, _mounted)) = mounted(test, |lab| Mounted::small(&races(lab), "64k")) else { return };
    // Which file does not find room any more depends on how the others lie on the disk.
    for (race, expected) in [("filling", "raw samples of"), ("full", "/races/full")] {
        let said = lab.race(race, &LOAD, &[]).end();
        let got = lab.got();
        said.is_complete(3 + got.bulks + got.searches);
        assert_eq!((got.bulks, got.documents), (LOAD.bulks(0..CLIENTS), lab.documents_of(&LOAD, 0..CLIENTS)));
        let mut lines = said.stderr.lines();
        let named = lines.any(|line| line.contains(expected) && line.contains("No space left on device"));
        assert!(named, "nothing is said of {expected} in\n{}", said.stderr);
    }
}

#[test]
fn a_server_that_dies_in_a_race_over_places_fails_it_or_is_counted_as_errors() {
    let test = "a_server_that_dies_in_a_race_over_places_fails_it_or_is_counted_as_errors";
    let Some(mut lab) = PlacesLab::new(test) else { return };

    let racing = lab.race("dead", &LOAD, &[]);
    lab.is_told("dead", Work::Index, lab.lab.drivers());
    lab.server.kill();
    racing.end().has_failed(&[&format!("could not drive step {INDEXING} (index)"), "onnect"]);
    let ledger = lab.lab.verdict("dead").verdict.ledger;
    assert_eq!(ledger.made, ledger.merged + ledger.lost);
    assert!(ledger.lost <= CLIENTS, "{ledger:?}");
    lab.lab.is_free();

    lab.server.run(&lab.lab);
    let racing = lab.race("back", &LOAD, &["--on-error=continue-on-network"]);
    lab.is_told("back", Work::Index, lab.lab.drivers());
    let killed = SystemTime::now();
    lab.server.kill();
    lab.server.run(&lab.lab);
    let back = SystemTime::now();
    let said = racing.end();
    assert_eq!(said.exit, 0, "{}", said.stderr);
    let verdict = lab.lab.verdict("back");
    let ledger = verdict.verdict.ledger;
    assert!(said.stderr.contains(&format!("The race is complete: {} samples", ledger.merged)), "{}", said.stderr);
    assert_eq!((ledger.made, ledger.lost), (ledger.merged, 0));
    // Each bulk was either indexed or is an error, of which the verdict tells.
    let told = lab.told("back", Work::Index);
    assert_eq!(told.samples, LOAD.bulks(0..CLIENTS));
    let mut errors: BTreeMap<_, u64> = BTreeMap::new();
    for task in &verdict.findings.errors {
        *errors.entry(&task.task[..]).or_default() += task.errors.iter().map(|it| it.count).sum::<u64>();
    }
    assert!(told.failed > 0 && errors["index"] == told.failed, "{told:?}, {:?}", verdict.findings.errors);
    assert!(said.stderr.contains("task `index` had errors"), "{}", said.stderr);
    // It has forgotten what it had been told before.
    let archived = raw_files(&lab.lab.archive().samples_directory(&id("back")));
    let since = |time: SystemTime| {
        let of = |file| raw_requests(file).filter(|it| it.task == "index" && it.success && it.begun >= time).count();
        archived.iter().map(|file| of(file) as u64).sum::<u64>()
    };
    let got = lab.got();
    assert!((since(back)..=since(killed)).contains(&got.bulks), "{got:?}, {} to {}", since(back), since(killed));
}

#[test]
fn clocks_that_are_apart_do_not_harm_a_race_over_places_and_one_that_is_set_meanwhile_is_named() {
    let test = "clocks_that_are_apart_do_not_harm_a_race_over_places_and_one_that_is_set_meanwhile_is_named";
    let Some(lab) = Lab::<4>::with_own_network(test, Family::V4) else { return };
    let [coordinator, drivers @ ..] = &lab.hosts;
    let Some(library) = crate::joining::faketime(coordinator) else {
        return report(&format!("skipped: {test} needs faketime"));
    };
    coordinator.start(&[]);
    let token = format!("--token={}", coordinator.token(&[]));
    let clock = |driver: &Host| driver.home.join("clock");
    for (driver, time) in drivers.iter().zip(["-7m", "+3m", "+20m"]) {
        fs::create_dir_all(&driver.home).unwrap();
        fs::write(clock(driver), time).unwrap();
        let (node, follow) = (format!("--node-ip={}", driver.ip), format!("--coordinator-ip={}", coordinator.ip));
        let mut command = driver.command(&["start", &node, &follow, &token]);
        // Only the wall clock is set wrong: the other one has no zero that could be wrong.
        command.envs([("LD_PRELOAD", &library[..]), ("FAKETIME_DONT_FAKE_MONOTONIC", "1"), ("FAKETIME_NO_CACHE", "1")]);
        command.env("FAKETIME_TIMESTAMP_FILE", clock(driver));
        assert!(command.output().unwrap().status.success());
    }
    lab.is_whole(SOON);
    let Some(lab) = PlacesLab::over(test, RaceLab::over(lab)) else { return };
    let was_set = |race: &str| {
        let notices = lab.lab.verdict(race).findings.notices;
        notices.into_iter().filter(|it| it.contains("was set by") || it.contains("clock moved by")).collect::<Vec<_>>()
    };

    let begun = SystemTime::now();
    lab.completes("apart", &LOAD);
    let ended = SystemTime::now();
    assert_eq!(was_set("apart"), [""; 0], "their clocks are apart, and stay so");
    let archived = raw_files(&lab.lab.archive().samples_directory(&id("apart")));
    assert_eq!(archived.len(), lab.lab.drivers().len());
    let times = archived.iter().flat_map(|file| raw_requests(file)).map(|request| request.begun);
    assert!(times.into_iter().all(|time| begun < time && time < ended), "every sample is told in coordinator time");

    let victim = lab.victim();
    let racing = lab.race("set", &LOAD, &[]);
    lab.is_told("set", Work::ByCountry, from_ref(victim));
    fs::write(clock(victim), "+25m").unwrap();
    let said = racing.end();
    lab.is_complete(&said, "set", lab.lab.drivers(), &LOAD);
    let named = was_set("set");
    // Reading two clocks one after the other takes a moment.
    let by = |time: &str| format!("{}: its wall clock was set by {time} during the race", victim.ip);
    let is_named = |told: &str| ["5 min", "4 min 59 s"].iter().any(|time| told.contains(&by(time)));
    assert!(named.len() == 1 && is_named(&named[0]), "{named:?}");
    assert!(is_named(&said.stderr), "{}", said.stderr);
}
