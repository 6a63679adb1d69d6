//! How a race ends before its time: by whoever watches it, and with drivers that die meanwhile.

use std::thread::sleep;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::lab::{DEAD_WITHIN, note, within};
use crate::race_faults::{rejoin, victim};
use crate::race_lab::{RaceLab, write_track};
use crate::race_ledger::{CLIENTS, SAMPLES, id, raw_files};

#[test]
fn whoever_watches_a_race_may_leave_come_back_and_end_it() {
    let Some(lab) = RaceLab::new("whoever_watches_a_race_may_leave_come_back_and_end_it") else { return };
    let racing = lab.race("left", &[]);
    lab.is_in_step(&racing, 1);
    racing.interrupt(Signal::HUP);
    assert_ne!(racing.end().exit, 0, "the terminal is gone");

    let elsewhere = &lab.drivers()[1];
    let track = format!("--track-path={}", lab.drivers()[0].home.join("track-left").display());
    let said = elsewhere.run(&["race", &track, "--race-id=second"]);
    said.has_failed(&["race left has run for", "on 10.77.0.2, 10.77.0.3, 10.77.0.4; `rallyd attach left`"]);
    let status = elsewhere.run(&["status"]).stdout;
    assert!(status.contains("Race") && status.contains("left") && status.contains("of 3, for"), "{status}");
    let said = elsewhere.run(&["attach"]);
    said.is_complete(SAMPLES);
    assert!(said.stderr.contains("step 1 of 3: all"), "whoever comes late sees it from its beginning: {}", said.stderr);
    within(DEAD_WITHIN, "nothing runs", || elsewhere.running().race().is_null());
}

#[test]
fn a_race_that_is_cancelled_lets_requests_finish_and_a_second_time_cuts_them_off() {
    let test = "a_race_that_is_cancelled_lets_requests_finish_and_a_second_time_cuts_them_off";
    let Some(lab) = RaceLab::new(test) else { return };

    let racing = lab.held("once", &[]);
    racing.interrupt(Signal::INT);
    lab.is_ending();
    lab.target.answer();
    let said = racing.end();
    assert_eq!(said.exit, 130, "{}", said.stderr);
    assert!(said.stderr.contains("ending the race; what was measured is kept"), "{}", said.stderr);
    assert!(said.stderr.contains("The race was cancelled: "), "{}", said.stderr);
    assert!(!said.stderr.contains("cancelled: 0 samples"), "what was measured is kept: {}", said.stderr);
    for account in lab.accounts("once") {
        assert_eq!((account.arrived, account.lost), (account.merged, 0), "what was under way is part of the result");
    }
    lab.adds_up("once");
    lab.is_free();

    note("twice");
    let racing = lab.held("twice", &[]);
    racing.interrupt(Signal::INT);
    lab.is_ending();
    racing.interrupt(Signal::INT);
    // Nothing is answered, so it ends at once or not at all.
    let said = racing.end();
    assert_eq!(said.exit, 130, "{}", said.stderr);
    assert!(said.stderr.contains("ending the race at once"), "{}", said.stderr);
    for account in lab.accounts("twice") {
        assert_eq!((account.arrived, account.lost), (account.merged + CLIENTS, CLIENTS));
    }
    lab.adds_up("twice");
    lab.target.answer();
    lab.is_free();
    lab.completes(lab.race("after", &[]));
}

#[test]
fn a_driver_that_is_killed_while_a_race_ends_takes_only_what_it_had_not_told() {
    let test = "a_driver_that_is_killed_while_a_race_ends_takes_only_what_it_had_not_told";
    let Some(lab) = RaceLab::new(test) else { return };
    let (coordinator, victim) = (lab.coordinator(), victim(&lab));

    note("while requests finish");
    let racing = lab.held("finishing", &[]);
    racing.interrupt(Signal::INT);
    lab.is_ending();
    victim.kill();
    within(DEAD_WITHIN, "its death is known", || coordinator.sees(victim).as_deref() == Some("dead"));
    lab.target.answer();
    let said = racing.end();
    assert_eq!(said.exit, 130, "{}", said.stderr);
    let missing = format!("{} never reported its end; its last measurements are missing", victim.ip);
    assert!(said.stderr.contains(&missing), "{}", said.stderr);
    let [one, two, killed] = lab.accounts("finishing");
    for survivor in [one, two] {
        assert_eq!(survivor.arrived, survivor.merged + survivor.lost);
    }
    killed.ends_unknown(CLIENTS);
    lab.adds_up("finishing");
    rejoin(&lab);

    note("while its raw samples are fetched");
    const NAPS: u64 = 20_000;
    let track = json!({
        "version": 2,
        "operations": [{"name": "nap", "operation-type": "sleep", "duration": 0}],
        "schedule": [{"operation": "nap", "clients": 3 * CLIENTS, "iterations": NAPS}]
    });
    let track = write_track(&lab.drivers()[0].home, "naps", &track);
    // Enough for intervals and heartbeats; a file takes many seconds.
    coordinator.drop_incoming(&[&format!("ip saddr {} limit rate over 30 kbytes/second", victim.ip)]);
    let racing = lab.race_of("fetching", &track, &[]);
    let directory = lab.archive().samples_directory(&id("fetching"));
    let parts = || {
        let files = std::fs::read_dir(&directory).into_iter().flatten().map(|file| file.unwrap().file_name());
        files.filter_map(|name| name.into_string().ok()).filter(|name| name.ends_with(".part")).collect::<Vec<_>>()
    };
    within(DEAD_WITHIN, "a file takes long", || {
        let before = parts();
        sleep(Duration::from_millis(500));
        !before.is_empty() && parts() == before
    });
    victim.kill();
    let said = racing.end();
    // All intervals were there.
    said.is_complete(3 * CLIENTS * NAPS);
    assert!(said.stderr.contains(&format!("raw samples of {} are missing: ", victim.ip)), "{}", said.stderr);
    assert_eq!(raw_files(&directory).len(), 2);
    assert_eq!(parts(), [""; 0]);
    coordinator.let_all_in();
    rejoin(&lab);
    lab.completes(lab.race("after", &[]));
}
