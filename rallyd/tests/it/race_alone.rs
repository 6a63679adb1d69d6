//! Races without a daemon: who else may touch them, and how they are ended.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use rallyd::archive::Archive;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// A home of its own, with a track that has a short and an endless task.
struct Home(tempfile::TempDir);

/// A race that runs.
struct Racing {
    child: Child,
    stderr: BufReader<ChildStderr>,
    said: String,
}

impl Home {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let track = json!({
            "version": 2,
            "operations": [{"name": "nap", "operation-type": "sleep", "duration": 0.001}],
            "schedule": [
                {"operation": "nap", "name": "short"},
                {"operation": "nap", "name": "endless", "time-period": 100_000}
            ]
        });
        fs::create_dir(home.path().join("naps")).unwrap();
        fs::write(home.path().join("naps/track.json"), track.to_string()).unwrap();
        fs::create_dir(home.path().join(".rally")).unwrap();
        Self(home)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn race_directory(&self, race: &str) -> PathBuf {
        self.path().join(".rally/benchmarks/races").join(race)
    }

    fn archive(&self) -> Archive {
        Archive::new(self.path().join(".rally/benchmarks/races"))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rallyd"));
        command.args(arguments).env_clear().env("RALLY_HOME", self.path());
        command
    }

    fn track(&self) -> String {
        format!("--track-path={}", self.path().join("naps").display())
    }

    /// Runs a command to its end: its exit code, and what it wrote to its two outputs.
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let Output { status, stdout, stderr } = self.command(arguments).output().unwrap();
        (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
    }

    fn start_race(&self, race: &str, more: &[&str]) -> Racing {
        let (track, id) = (self.track(), format!("--race-id={race}"));
        let mut command = self.command(&[&["race", &track, &id, "--target-hosts=127.0.0.1:1"], more].concat());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Racing { child, stderr, said: String::new() }
    }

    /// A race that has come to its endless task.
    fn endless(&self, race: &str) -> Racing {
        let mut racing = self.start_race(race, &[]);
        racing.until("step 2 of 2");
        racing
    }
}

impl Racing {
    /// Reads what it says up to a line with this text.
    fn until(&mut self, text: &str) {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert_ne!(self.stderr.read_line(&mut line).unwrap(), 0, "it has ended without {text:?}: {}", self.said);
            self.said.push_str(&line);
        }
    }

    fn interrupt(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.child.id().try_into().unwrap()).unwrap(), signal).unwrap();
    }

    /// Its exit code, and all that it said.
    fn end(mut self) -> (i32, String) {
        let mut rest = String::new();
        self.stderr.read_to_string(&mut rest).unwrap();
        let status = self.child.wait().unwrap();
        (status.code().unwrap_or(-1), std::mem::take(&mut self.said) + &rest)
    }
}

impl Drop for Racing {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_race_that_runs_is_called_so_and_cannot_be_deleted() {
    let home = Home::new();
    let racing = home.endless("alive");
    let pid = racing.child.id();
    let (exit, _, stderr) = home.run(&["delete", "race", "--id=alive"]);
    assert!(exit == 64 && stderr.contains("Race alive still runs"), "{exit} {stderr}");
    let deleted = home.archive().delete(&"alive".parse().unwrap()).unwrap_err().to_string();
    assert!(deleted.contains(&format!("still runs, or something of it is still to come (pid {pid})")), "{deleted}");
    let (_, listed, _) = home.run(&["list", "races"]);
    assert!(listed.lines().any(|line| line.contains("alive") && line.ends_with("running")), "{listed}");
    let (_, listed, _) = home.run(&["list", "races", "--format=json"]);
    assert_eq!(serde_json::from_str::<Value>(&listed).unwrap()["running"], json!(["alive"]), "{listed}");
    let (_, _, shown) = home.run(&["attach", "alive"]);
    assert!(shown.contains("The race still runs"), "{shown}");

    racing.interrupt(Signal::INT);
    let (exit, stderr) = racing.end();
    assert_eq!(exit, 130, "{stderr}");
    let (_, listed, _) = home.run(&["list", "races"]);
    assert!(listed.lines().any(|line| line.contains("alive") && line.ends_with("cancelled")), "{listed}");
    let (exit, _, stderr) = home.run(&["delete", "race", "--id=alive"]);
    assert!(exit == 0 && !home.race_directory("alive").exists(), "{stderr}");
}

#[test]
fn a_race_that_was_killed_is_incomplete_and_can_be_deleted() {
    let home = Home::new();
    let mut racing = home.endless("dead");
    racing.child.kill().unwrap();
    racing.end();
    let (_, listed, _) = home.run(&["list", "races"]);
    assert!(listed.lines().any(|line| line.contains("dead") && line.ends_with("incomplete")), "{listed}");
    let (_, _, shown) = home.run(&["attach", "dead"]);
    assert!(shown.contains("Nobody wrote down how the race ended: whoever ran it died"), "{shown}");
    let (exit, _, stderr) = home.run(&["delete", "race", "--id=dead"]);
    assert_eq!(exit, 0, "{stderr}");
}

#[test]
fn a_race_whose_files_are_deleted_says_that_they_are_gone() {
    let home = Home::new();
    let racing = home.endless("gone");
    fs::remove_dir_all(home.race_directory("gone")).unwrap();
    racing.interrupt(Signal::INT);
    let (exit, stderr) = racing.end();
    assert!(exit == 130 && stderr.contains("intervals was deleted while the race ran"), "{exit} {stderr}");
}
