//! What becomes of a race when something breaks, and that nothing is lost in silence.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rally_core::metrics::DriverFindings;
use rustix::process::Signal;
use serde_json::json;

use crate::counting_target::{CountingTarget, INDEXING_TIME};
use crate::lab::{DEAD_WITHIN, Family, Host, Lab, PORT, REJOIN_WITHIN, SOON, note, report, within};
use crate::race_lab::{ENDS_WITHIN, RaceLab, write_track};
use crate::race_ledger::{
    ANSWERED, Account, CLIENTS, SAMPLES, all_of, id, raw_directory, raw_files, raw_samples, raw_times,
};

/// Packets between two hosts get lost, all or some.
pub(crate) fn cut(one: &Host, other: &Host, some: &str) {
    for (at, from) in [(one, other), (other, one)] {
        at.drop_incoming(&[&format!("ip saddr {}{some}", from.ip)]);
    }
}

pub(crate) fn mend(one: &Host, other: &Host) {
    [one, other].iter().for_each(|host| host.let_all_in());
}

/// The driver that is always hit: neither the coordinator nor where the race is watched.
pub(crate) fn victim(lab: &RaceLab) -> &Host {
    &lab.drivers()[2]
}

pub(crate) fn rejoin(lab: &RaceLab) {
    victim(lab).start(&[&format!("--coordinator-ip={}", lab.coordinator().ip)]);
    lab.lab.is_whole(REJOIN_WITHIN);
    lab.is_free();
}

#[test]
fn a_driver_that_is_killed_is_named_with_what_it_did_in_every_phase() {
    let Some(lab) = RaceLab::new("a_driver_that_is_killed_is_named_with_what_it_did_in_every_phase") else { return };
    let victim = victim(&lab);
    let name = victim.ip.to_string();

    note("while it prepares");
    let stopped = victim.signal(Signal::STOP);
    let racing = lab.race("preparing", &[]);
    within(SOON, "the race has begun", || lab.coordinator().running().race()["id"] == "preparing");
    stopped.kill();
    racing.end().has_failed(&[&format!("load driver on {name} could not"), "0 samples of 0 known to be made"]);
    assert!(lab.drivers().iter().all(|host| lab.target.requests("preparing", host.ip) == 0));
    rejoin(&lab);

    note("while it applies load");
    let racing = lab.held("driving", &[]);
    victim.kill();
    racing.end().has_failed(&[
        &format!("load driver on {name} could not drive step 1 (all)"),
        &format!("{name} never reported its end; its last measurements are missing"),
    ]);
    let [one, two, killed] = lab.accounts("driving");
    for survivor in [one, two] {
        assert_eq!((survivor.arrived, survivor.lost), (survivor.merged + CLIENTS, CLIENTS), "all else was answered");
    }
    killed.ends_unknown(CLIENTS);
    lab.adds_up("driving");
    lab.target.answer();
    rejoin(&lab);

    note("between two steps");
    let racing = lab.race("waiting", &[]);
    lab.is_in_step(&racing, 2);
    victim.kill();
    racing.end().has_failed(&[&format!("load driver on {name} could not drive step")]);
    let [one, two, killed] = lab.accounts("waiting");
    [one, two].iter().for_each(Account::balances);
    killed.ends_unknown(0);
    lab.adds_up("waiting");
    rejoin(&lab);

    note("with the wish to go on");
    let racing = lab.held("going-on", &["--on-driver-loss=continue"]);
    victim.kill();
    within(DEAD_WITHIN, "its death is known", || lab.coordinator().sees(victim).as_deref() == Some("dead"));
    lab.target.answer();
    let said = racing.end();
    said.has_failed(&["The race has ended, but not all is there", &format!("the race went on without {name}")]);
    assert!(said.stderr.contains("step 3 of 3"), "{}", said.stderr);
    let [one, two, killed] = lab.accounts("going-on");
    assert_eq!([one, two], [all_of(0), all_of(1)], "the others did all their work");
    killed.ends_unknown(CLIENTS);
    lab.adds_up("going-on");
    rejoin(&lab);

    note("while it asks the cluster under test for telemetry, with the wish to go on");
    let others = format!("{},{}", lab.drivers()[0].ip, lab.drivers()[1].ip);
    let hosts = format!("--load-driver-hosts={name},{others}");
    let more = [&lab.target.target_hosts()[..], &hosts, "--on-driver-loss=continue"];
    lab.target.hold_after(ANSWERED);
    let racing = lab.race_on("observing", &lab.usual("observing"), &more);
    lab.is_held("observing");
    victim.kill();
    within(DEAD_WITHIN, "its death is known", || lab.coordinator().sees(victim).as_deref() == Some("dead"));
    lab.target.answer();
    let heir = lab.drivers()[0].ip;
    racing.end().has_failed(&[
        &format!("the race went on without {name}"),
        &format!("raw samples of {name} are missing that were in no complete file"),
        &format!("the telemetry of {name} ended with it, and {heir} went on with it"),
    ]);
    let results = lab.archive().load(&id("observing")).unwrap().results.unwrap();
    assert_eq!(results.cluster.total_time, Some(INDEXING_TIME), "what the cluster says at the end is known");
    rejoin(&lab);
    lab.completes(lab.race("after", &[]));
}

#[test]
fn a_driver_that_stalls_costs_nothing_for_a_moment_and_is_named_if_it_lasts() {
    let test = "a_driver_that_stalls_costs_nothing_for_a_moment_and_is_named_if_it_lasts";
    let Some(lab) = RaceLab::new(test) else { return };
    let victim = victim(&lab);

    let racing = lab.race("moment", &[]);
    lab.is_driven("moment");
    let stopped = victim.signal(Signal::STOP);
    sleep(Duration::from_secs(1));
    stopped.resume();
    lab.completes(racing);

    note("slow: it runs for a fifth of the time");
    let racing = lab.race("slow", &[]);
    lab.is_driven("slow");
    for _ in 0..8 {
        let stopped = victim.signal(Signal::STOP);
        sleep(Duration::from_millis(400));
        stopped.resume();
        sleep(Duration::from_millis(100));
    }
    lab.completes(racing);
    let found = lab.verdict("slow").findings.drivers;
    let is_named = |it: &DriverFindings| it.driver == victim.ip.to_string() && it.saturated > 0;
    assert!(found.iter().any(is_named), "{found:?}");

    note("for 20 s, in which the race ends and another one runs");
    let racing = lab.held("frozen", &[]);
    let (stopped, since) = (victim.signal(Signal::STOP), Instant::now());
    racing.end().has_failed(&[
        &format!("load driver on {} could not drive step 1 (all)", victim.ip),
        &format!("{} never reported its end; its last measurements are missing", victim.ip),
    ]);
    let [one, two, frozen] = lab.accounts("frozen");
    for survivor in [one, two] {
        assert_eq!((survivor.arrived, survivor.lost), (survivor.merged + CLIENTS, CLIENTS), "all else was answered");
    }
    frozen.ends_unknown(CLIENTS);
    lab.adds_up("frozen");
    lab.target.answer();
    let others = format!("--load-driver-hosts={},{}", lab.drivers()[0].ip, lab.drivers()[1].ip);
    let racing = lab.race_on("meanwhile", &lab.usual("meanwhile"), &[&lab.target.target_hosts(), &others]);
    racing.end().is_complete(SAMPLES);
    sleep(Duration::from_secs(20).saturating_sub(since.elapsed()));
    // Its clients have been answered meanwhile. Each of them may ask once more before it is told that the race is over,
    // and would go on if it were not.
    lab.target.hold();
    stopped.resume();
    lab.lab.is_whole(REJOIN_WITHIN);
    lab.is_free();
    lab.target.answer();
    lab.completes(lab.race("after", &[]));
    let late = lab.target.requests("frozen", victim.ip) - frozen.arrived;
    assert!(late <= CLIENTS, "{late} requests of a race that was over");
}

#[test]
fn a_network_that_loses_packets_costs_nothing_and_one_that_is_cut_is_named() {
    let test = "a_network_that_loses_packets_costs_nothing_and_one_that_is_cut_is_named";
    let Some(lab) = RaceLab::new(test) else { return };
    let victim = victim(&lab);

    // The target is beside the coordinator, so requests are hit, too.
    cut(lab.coordinator(), victim, " numgen random mod 100 < 5");
    lab.completes(lab.race("lossy", &[]));
    mend(lab.coordinator(), victim);

    note("cut for less than a host may be silent");
    let racing = lab.race("short", &[]);
    lab.is_driven("short");
    cut(lab.coordinator(), victim, &format!(" udp sport {PORT}"));
    sleep(Duration::from_millis(2_500));
    mend(lab.coordinator(), victim);
    lab.completes(racing);

    note("cut for good, but not from the target");
    let before = raw_files(&raw_directory(victim));
    let racing = lab.race("parted", &[]);
    lab.is_driven("parted");
    cut(lab.coordinator(), victim, &format!(" udp sport {PORT}"));
    racing.end().has_failed(&[&format!("load driver on {} could not drive step", victim.ip)]);
    within(ENDS_WITHIN, "the driver has stopped its load by itself", || victim.running().text("activity") == "idle");
    // What the coordinator does not know is on the disk of the driver, but for what was cut off.
    let kept = || raw_files(&raw_directory(victim)).difference(&before).map(|path| raw_samples(path)).sum::<u64>();
    within(SOON, "its raw samples are written", || {
        kept() + CLIENTS >= lab.target.requests("parted", victim.ip) && kept() > 0
    });
    let [one, two, parted] = lab.accounts("parted");
    [one, two].iter().for_each(Account::balances);
    lab.adds_up("parted");
    Account { merged: kept(), lost: CLIENTS, ..parted }.balances();
    assert!(parted.merged <= kept(), "{parted:?} and {} samples on its disk", kept());
    mend(lab.coordinator(), victim);
    lab.lab.is_whole(REJOIN_WITHIN);
    lab.is_free();
    assert_eq!(lab.target.requests("parted", victim.ip), parted.arrived, "it has asked for nothing since");
    lab.completes(lab.race("after", &[]));
}

#[test]
fn drivers_whose_coordinator_is_killed_stop_their_load() {
    let Some(lab) = RaceLab::new("drivers_whose_coordinator_is_killed_stop_their_load") else { return };
    let coordinator = lab.coordinator();
    let racing = lab.race("before", &[]);
    lab.completes(racing);
    let endless = json!({
        "version": 2,
        "operations": [{"name": "ask", "operation-type": "raw-request", "path": CountingTarget::path("orphaned")}],
        "schedule": [{"operation": "ask", "clients": 3 * CLIENTS, "time-period": 100_000}]
    });
    let track = write_track(&lab.drivers()[0].home, "endless", &endless);
    lab.target.hold_after(ANSWERED);
    let racing = lab.race_of("orphaned", &track, &[&lab.target.target_hosts()]);
    lab.is_held("orphaned");
    let known = lab.accounts("orphaned");
    let plays = |host: &Host| host.running().text("activity") == "load driver of race orphaned";
    assert!(lab.drivers().iter().all(plays));
    coordinator.kill();
    lab.target.answer();
    within(ENDS_WITHIN, "no driver plays in a race without its coordinator", || !lab.drivers().iter().any(plays));
    let requests = || lab.drivers().iter().map(|host| lab.target.requests("orphaned", host.ip)).collect::<Vec<_>>();
    let mut sent = Vec::new();
    within(SOON, "nothing arrives any more", || {
        sent = requests();
        sleep(Duration::from_secs(1));
        sent == requests()
    });
    coordinator.start(&[]);
    lab.lab.is_whole(REJOIN_WITHIN);
    racing.end().has_failed(&["orphaned"]);

    note("what is left of it");
    assert_eq!(requests(), sent, "no driver has asked for anything since");
    let archived = lab.accounts("orphaned");
    assert!(archived.iter().zip(known).all(|(archived, known)| archived.merged == known.merged), "{archived:?}");
    assert!(lab.archive().verdict(&id("orphaned")).unwrap().is_none());
    let listed = coordinator.run(&["list", "races"]);
    let row = listed.stdout.lines().find(|line| line.contains("orphaned")).unwrap_or_default();
    assert!(row.trim_end_matches([' ', '|']).ends_with("incomplete"), "{}", listed.stdout);
    let page = coordinator.run(&["report", "orphaned", "--output=-"]);
    assert!(page.exit == 0 && page.stdout.contains("Nobody wrote down how the race ended"), "{}", page.stderr);
    let compared = coordinator.run(&["compare", "--baseline=before", "--contender=orphaned", "--format=json"]);
    assert_eq!(compared.exit, 0, "{}", compared.stderr);

    lab.completes(lab.race("after", &[]));
}

#[test]
fn a_full_disk_loses_raw_samples_alone_and_is_told() {
    let test = "a_full_disk_loses_raw_samples_alone_and_is_told";
    let Some(lab) = Lab::<4>::with_own_network(test, Family::V4) else { return };
    let lab = RaceLab::over(lab);
    let victim = victim(&lab);
    let samples = raw_directory(victim);
    let _mounted = Mounted::small(&samples, "4k");
    lab.lab.start();
    let said = lab.race("full", &[]).end();
    // Every sample is in the results, which are complete.
    said.is_complete(SAMPLES);
    assert!(said.stderr.contains("No space left on device"), "{}", said.stderr);
    let made = all_of(2).arrived;
    for expected in [
        format!("{}: no more raw samples are written", victim.ip),
        format!("{made} samples of load driver {} are in the results, but in no file of raw samples", victim.ip),
    ] {
        assert!(said.stderr.contains(&expected), "no {expected:?} in\n{}", said.stderr);
    }
    assert_eq!(lab.accounts("full"), [all_of(0), all_of(1), all_of(2)]);
    let archived: u64 = raw_files(&lab.archive().samples_directory(&id("full"))).iter().map(|it| raw_samples(it)).sum();
    assert_eq!(archived, SAMPLES - made);
}

/// A small file system; it is gone with this.
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    /// With room for so much. A daemon sees the file systems that were there when it was started.
    pub(crate) fn small(at: &Path, size: &str) -> Self {
        std::fs::create_dir_all(at).unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(at)
            .status()
            .unwrap();
        assert!(mount.success());
        Self(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A file may still be open.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn drivers_whose_clocks_are_minutes_apart_race_together() {
    let test = "drivers_whose_clocks_are_minutes_apart_race_together";
    let Some(lab) = Lab::<4>::with_own_network(test, Family::V4) else { return };
    let [coordinator, drivers @ ..] = &lab.hosts;
    let Some(library) = crate::joining::faketime(coordinator) else {
        return report(&format!("skipped: {test} needs faketime"));
    };
    coordinator.start(&[]);
    let token = format!("--token={}", coordinator.token(&[]));
    for (driver, clock) in drivers.iter().zip(["-7m", "+3m", "+20m"]) {
        let (node, follow) = (format!("--node-ip={}", driver.ip), format!("--coordinator-ip={}", coordinator.ip));
        let mut command = driver.command(&["start", &node, &follow, &token]);
        // Only the wall clock is set wrong: the other one has no zero that could be wrong.
        command.envs([("LD_PRELOAD", &library[..]), ("FAKETIME_DONT_FAKE_MONOTONIC", "1"), ("FAKETIME", clock)]);
        assert!(command.output().unwrap().status.success());
    }
    lab.is_whole(SOON);
    let errors = drivers.each_ref().map(|driver| {
        let error = || coordinator.running().record(driver).unwrap()["clock_error"].as_f64();
        within(SOON, "the offset of its clock is known", || error().is_some());
        Duration::from_secs_f64(error().unwrap())
    });
    let lab = RaceLab::over(lab);
    lab.completes(lab.race("apart", &[]));

    // In coordinator time, each sample begins before its request arrived, but not minutes before.
    let times = raw_times(&lab.archive().samples_directory(&id("apart")));
    for ((driver, clients), error) in lab.drivers().iter().zip([0..2, 2..4, 4..6]).zip(errors) {
        let mut begun: Vec<_> = clients.flat_map(|client| times[&client].clone()).collect();
        begun.sort();
        let arrived = lab.target.arrivals("apart", driver.ip);
        assert_eq!(begun.len(), arrived.len());
        let early = begun.iter().zip(&arrived).filter(|(begun, arrived)| **begun > **arrived + 2 * error).count();
        assert_eq!(early, 0, "of {} samples of {}, whose clock is known to {error:?}", begun.len(), driver.ip);
        let between = begun.iter().zip(&arrived).filter_map(|(begun, arrived)| arrived.duration_since(*begun).ok());
        let shortest = between.min().unwrap_or_default();
        note(&format!("{}: error {error:?}, shortest way {shortest:?}", driver.ip));
        assert!(shortest < Duration::from_secs(1) + error, "{shortest:?} on {}", driver.ip);
    }
}
