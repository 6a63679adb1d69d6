//! What becomes of a race when something breaks, and that nothing is lost in silence.

use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::lab::{DEAD_WITHIN, Family, Host, Lab, PORT, REJOIN_WITHIN, SOON, note, report, within};
use crate::race_lab::{ENDS_WITHIN, RaceLab, Server, write_track};

/// Samples of the whole race: six clients, then one, then six.
const SAMPLES: u64 = 6 * 200 + 200 + 6 * 20;

/// A race that needs no server. Its second step has work for the first driver only, so the others wait between steps.
fn naps(lab: &RaceLab) -> PathBuf {
    let task = |name: &str, clients: u32, iterations: u32| json!({"operation": "nap", "name": name, "clients": clients, "iterations": iterations});
    let track = json!({
        "version": 2,
        "operations": [{"name": "nap", "operation-type": "sleep", "duration": 0.01}],
        "schedule": [task("all", 6, 200), task("alone", 1, 200), task("again", 6, 20)]
    });
    write_track(&lab.drivers()[0].home, "naps", &track)
}

/// Packets between two hosts get lost, all or some.
fn cut(one: &Host, other: &Host, some: &str) {
    for (at, from) in [(one, other), (other, one)] {
        at.drop_incoming(&[&format!("ip saddr {}{some}", from.ip)]);
    }
}

/// The driver that is always hit: neither the coordinator nor where the race is watched.
fn victim(lab: &RaceLab) -> &Host {
    &lab.drivers()[2]
}

fn rejoin(lab: &RaceLab) {
    victim(lab).start(&[&format!("--coordinator-ip={}", lab.coordinator().ip)]);
    lab.lab.is_whole(REJOIN_WITHIN);
    lab.is_free();
}

#[test]
fn a_driver_that_is_killed_is_named_with_what_it_did_in_every_phase() {
    let Some(lab) = RaceLab::new("a_driver_that_is_killed_is_named_with_what_it_did_in_every_phase") else { return };
    let (track, victim) = (naps(&lab), victim(&lab));
    let name = victim.ip.to_string();

    note("while it prepares");
    let stopped = victim.signal(Signal::STOP);
    let racing = lab.race("preparing", &track, &[]);
    within(SOON, "the race has begun", || lab.coordinator().running().race()["id"] == "preparing");
    stopped.kill();
    racing.end().has_failed(&[&format!("({name}:{PORT}) could not"), "0 samples of 0 known to be made"]);
    rejoin(&lab);

    note("while it applies load");
    let racing = lab.race("driving", &track, &[]);
    lab.is_in_step(&racing, 1);
    sleep(Duration::from_millis(1_500));
    victim.kill();
    let said = racing.end();
    said.has_failed(&[
        &format!("load driver on {name} could not drive step 1 (all)"),
        &format!("{name} never reported its end; its last measurements are missing"),
    ]);
    assert!(!said.stderr.contains("failed: 0 samples"), "what was measured is kept: {}", said.stderr);
    rejoin(&lab);

    note("between two steps");
    let racing = lab.race("waiting", &track, &[]);
    lab.is_in_step(&racing, 2);
    victim.kill();
    racing.end().has_failed(&[&format!("load driver on {name} could not drive step")]);
    rejoin(&lab);

    note("with the wish to go on");
    let racing = lab.race("going-on", &track, &["--on-driver-loss=continue"]);
    lab.is_in_step(&racing, 1);
    victim.kill();
    let said = racing.end();
    said.has_failed(&["The race has ended, but not all is there", &format!("the race went on without {name}")]);
    assert!(said.stderr.contains("step 3 of 3"), "{}", said.stderr);
    rejoin(&lab);
    lab.race("after", &track, &[]).end().is_complete(SAMPLES);
}

#[test]
fn a_driver_that_stalls_costs_nothing_for_a_moment_and_is_named_if_it_lasts() {
    let test = "a_driver_that_stalls_costs_nothing_for_a_moment_and_is_named_if_it_lasts";
    let Some(lab) = RaceLab::new(test) else { return };
    let (track, victim) = (naps(&lab), victim(&lab));

    let racing = lab.race("moment", &track, &[]);
    lab.is_in_step(&racing, 1);
    let stopped = victim.signal(Signal::STOP);
    sleep(Duration::from_secs(1));
    stopped.resume();
    racing.end().is_complete(SAMPLES);

    note("slow: it runs for a fifth of the time");
    let racing = lab.race("slow", &track, &[]);
    lab.is_in_step(&racing, 1);
    for _ in 0..8 {
        let stopped = victim.signal(Signal::STOP);
        sleep(Duration::from_millis(400));
        stopped.resume();
        sleep(Duration::from_millis(100));
    }
    racing.end().is_complete(SAMPLES);

    note("for longer than a host may be silent");
    let racing = lab.race("frozen", &track, &[]);
    lab.is_in_step(&racing, 1);
    let stopped = victim.signal(Signal::STOP);
    let said = racing.end();
    said.has_failed(&[&format!("load driver on {} could not drive step 1 (all)", victim.ip)]);
    stopped.resume();
    lab.lab.is_whole(REJOIN_WITHIN);
    lab.is_free();
    lab.race("after", &track, &[]).end().is_complete(SAMPLES);
}

#[test]
fn a_network_that_loses_packets_costs_nothing_and_one_that_is_cut_is_named() {
    let test = "a_network_that_loses_packets_costs_nothing_and_one_that_is_cut_is_named";
    let Some(lab) = RaceLab::new(test) else { return };
    let (track, victim) = (naps(&lab), victim(&lab));

    cut(lab.coordinator(), victim, " numgen random mod 100 < 10");
    lab.race("lossy", &track, &[]).end().is_complete(SAMPLES);
    [lab.coordinator(), victim].iter().for_each(|host| host.let_all_in());

    note("cut for less than a host may be silent");
    let racing = lab.race("short", &track, &[]);
    lab.is_in_step(&racing, 1);
    cut(lab.coordinator(), victim, "");
    sleep(Duration::from_millis(2_500));
    [lab.coordinator(), victim].iter().for_each(|host| host.let_all_in());
    racing.end().is_complete(SAMPLES);

    note("cut for good");
    let racing = lab.race("parted", &track, &[]);
    lab.is_in_step(&racing, 1);
    cut(lab.coordinator(), victim, "");
    racing.end().has_failed(&[&format!("load driver on {} could not drive step", victim.ip)]);
    within(ENDS_WITHIN, "the driver has stopped its load by itself", || victim.running().text("activity") == "idle");
    [lab.coordinator(), victim].iter().for_each(|host| host.let_all_in());
    lab.lab.is_whole(REJOIN_WITHIN);
    lab.is_free();
    lab.race("after", &track, &[]).end().is_complete(SAMPLES);
}

#[test]
fn drivers_whose_coordinator_is_killed_stop_their_load() {
    let Some(lab) = RaceLab::new("drivers_whose_coordinator_is_killed_stop_their_load") else { return };
    let endless = json!({
        "version": 2,
        "operations": [{"name": "nap", "operation-type": "sleep", "duration": 0.01}],
        "schedule": [{"operation": "nap", "clients": 6, "time-period": 100_000}]
    });
    let track = write_track(&lab.drivers()[0].home, "endless", &endless);
    let racing = lab.race("orphaned", &track, &[]);
    lab.is_in_step(&racing, 1);
    let plays = |host: &Host| host.running().text("activity") == "load driver of race orphaned";
    assert!(lab.drivers().iter().all(plays));
    lab.coordinator().kill();
    within(ENDS_WITHIN, "no driver plays in a race without its coordinator", || !lab.drivers().iter().any(plays));
    lab.coordinator().start(&[]);
    lab.lab.is_whole(REJOIN_WITHIN);
    let said = racing.end();
    said.has_failed(&["orphaned"]);
    lab.race("after", &naps(&lab), &[]).end().is_complete(SAMPLES);
}

#[test]
fn a_full_disk_loses_raw_samples_alone_and_is_told() {
    let test = "a_full_disk_loses_raw_samples_alone_and_is_told";
    let Some(lab) = Lab::<4>::with_own_network(test, Family::V4) else { return };
    let lab = RaceLab { lab };
    let victim = victim(&lab);
    let samples = victim.instance().join("samples");
    std::fs::create_dir_all(&samples).unwrap();
    // A daemon sees the file systems that were there when it was started.
    let _mounted = Mounted::small(&samples);
    lab.lab.start();
    let said = lab.race("full", &naps(&lab), &[]).end();
    said.is_complete(SAMPLES);
    assert!(said.stderr.contains("No space left on device"), "{}", said.stderr);
    assert!(said.stderr.contains(&format!("{}: ", victim.ip)), "{}", said.stderr);
}

/// A file system with room for nothing; it is gone with this.
struct Mounted(PathBuf);

impl Mounted {
    fn small(at: &std::path::Path) -> Self {
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=4k", "tmpfs"]).arg(at).status().unwrap();
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
    let lab = RaceLab { lab };
    lab.race("apart", &naps(&lab), &[]).end().is_complete(SAMPLES);
}

#[test]
fn a_target_that_dies_fails_the_race_or_is_counted_as_errors() {
    let test = "a_target_that_dies_fails_the_race_or_is_counted_as_errors";
    let Some(lab) = RaceLab::new(test) else { return };
    let Some(mut server) = Server::start(test, &lab, lab.coordinator()) else { return };
    let search = json!({"operation-type": "raw-request", "path": "/_cluster/health"});
    let track = json!({
        "version": 2,
        "schedule": [{
            "operation": search, "name": "health", "clients": 3, "target-throughput": 60, "time-period": 6
        }]
    });
    let (track, hosts) = (write_track(&lab.drivers()[0].home, "health", &track), server.target_hosts());

    let racing = lab.race("dead", &track, &[&hosts]);
    lab.is_in_step(&racing, 1);
    server.kill();
    racing.end().has_failed(&["could not drive step 1 (health)", "onnect"]);
    lab.is_free();

    server.run(&lab);
    let racing = lab.race("back", &track, &[&hosts, "--on-error=continue-on-network"]);
    lab.is_in_step(&racing, 1);
    sleep(Duration::from_secs(1));
    server.kill();
    server.run(&lab);
    let said = racing.end();
    assert_eq!(said.exit, 0, "{}", said.stderr);
    assert!(said.stderr.contains("The race is complete: "), "{}", said.stderr);
    let errors = said.stderr.lines().find(|line| line.contains("health 100%")).unwrap_or_default();
    assert!(errors.contains("errors of "), "{}", said.stderr);
}

#[test]
fn whoever_watches_a_race_may_leave_come_back_and_end_it() {
    let Some(lab) = RaceLab::new("whoever_watches_a_race_may_leave_come_back_and_end_it") else { return };
    let track = naps(&lab);
    let racing = lab.race("left", &track, &[]);
    lab.is_in_step(&racing, 1);
    racing.interrupt(Signal::HUP);
    assert_ne!(racing.end().exit, 0, "the terminal is gone");

    let elsewhere = &lab.drivers()[1];
    let said = elsewhere.run(&["race", &format!("--track-path={}", track.display()), "--race-id=second"]);
    said.has_failed(&["race left has run for", "on 10.77.0.2, 10.77.0.3, 10.77.0.4; `rallyd attach left`"]);
    let status = elsewhere.run(&["status"]).stdout;
    assert!(status.contains("Race") && status.contains("left") && status.contains("of 3, for"), "{status}");
    let said = elsewhere.run(&["attach"]);
    said.is_complete(SAMPLES);
    assert!(said.stderr.contains("step 1 of 3: all"), "whoever comes late sees it from its beginning: {}", said.stderr);
    within(DEAD_WITHIN, "nothing runs", || elsewhere.running().race().is_null());

    note("ended by whoever watches");
    let racing = lab.race("cancelled", &track, &[]);
    lab.is_in_step(&racing, 1);
    sleep(Duration::from_millis(1_200));
    racing.interrupt(Signal::INT);
    let said = racing.end();
    assert_eq!(said.exit, 130, "{}", said.stderr);
    assert!(said.stderr.contains("The race was cancelled: "), "{}", said.stderr);
    assert!(!said.stderr.contains("cancelled: 0 samples"), "what was measured is kept: {}", said.stderr);
    lab.is_free();
}
