//! Races without a daemon: who else may touch them, and how they are ended.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::Uri;
use rallyd::archive::Archive;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// What comes at all comes within this time, also on a busy machine.
const COMES_WITHIN: Duration = Duration::from_secs(120);

/// A home of its own, with a track that has a short and an endless task.
struct Home(tempfile::TempDir);

/// A race that runs.
struct Racing {
    child: Child,
    /// The lines that it writes to its standard error.
    lines: Receiver<String>,
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
        let (line, lines) = channel();
        // It ends with the race, or when nobody listens any more.
        thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|it| line.send(it)));
        Racing { child, lines, said: String::new() }
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
        while !self.line().unwrap_or_else(|| panic!("it has ended without {text:?}: {}", self.said)).contains(text) {}
    }

    /// The next line that it says; none if it has ended.
    fn line(&mut self) -> Option<String> {
        match self.lines.recv_timeout(COMES_WITHIN) {
            Ok(line) => {
                self.said += &format!("{line}\n");
                Some(line)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("it says nothing more: {}", self.said),
        }
    }

    fn interrupt(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.child.id().try_into().unwrap()).unwrap(), signal).unwrap();
    }

    /// Its exit code, and all that it said.
    fn end(mut self) -> (i32, String) {
        while self.line().is_some() {}
        let status = self.child.wait().unwrap();
        (status.code().unwrap_or(-1), std::mem::take(&mut self.said))
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

#[test]
fn a_second_race_on_the_same_machine_is_told_which_one_runs() {
    let home = Home::new();
    let first = home.endless("first");
    let junit = home.path().join("junit.xml");
    let arguments = ["race", &home.track(), "--race-id=second", &format!("--junit-file={}", junit.display())];
    let (exit, _, stderr) = home.run(&arguments);
    let expected = format!("Race first already runs on this machine (pid {}, since 2", first.child.id());
    assert!(exit == 64 && stderr.contains(&expected), "{exit} {stderr}");
    let xml = fs::read_to_string(&junit).unwrap();
    assert!(xml.contains("name=\"second\"") && xml.contains("errors=\"1\"") && xml.contains("race first"), "{xml}");
    first.interrupt(Signal::INT);
    assert_eq!(first.end().0, 130);
    let (exit, _, stderr) = home.run(&[&arguments[..], &["--include-tasks=short"]].concat());
    assert_eq!(exit, 0, "{stderr}");
}

#[test]
fn a_race_that_cannot_lock_its_turn_runs_without() {
    let home = Home::new();
    fs::create_dir_all(home.path().join(".rally/benchmarks/race.lock")).unwrap();
    let (exit, _, stderr) = home.run(&["race", &home.track(), "--race-id=unlocked", "--include-tasks=short"]);
    assert!(exit == 0 && stderr.contains("this race does not wait for others"), "{exit} {stderr}");
}

#[test]
fn a_race_that_cannot_begin_is_an_error_in_its_junit_file() {
    let home = Home::new();
    let junit = home.path().join("junit.xml");
    let file = format!("--junit-file={}", junit.display());
    let (exit, _, stderr) = home.run(&["race", &home.track(), "--load-driver-hosts=10.255.255.1", &file]);
    assert_eq!(exit, 64, "{stderr}");
    let errors = |xml: &str| xml.contains("tests=\"1\" failures=\"0\" errors=\"1\"");
    let xml = fs::read_to_string(&junit).unwrap();
    assert!(errors(&xml) && xml.contains("no daemon runs on this"), "{xml}");

    let (exit, _, stderr) = home.run(&["race", &home.track(), "--race-id=lost", "--challenge=other", &file]);
    assert_eq!(exit, 64, "{stderr}");
    let xml = fs::read_to_string(&junit).unwrap();
    assert!(errors(&xml) && xml.contains("name=\"lost\"") && xml.contains("has no challenge `other`"), "{xml}");
}

/// A metrics store that takes everything but records, for which it lets wait for ever, and its rally.ini.
async fn hanging_store(home: &Home, hangs: fn(&str) -> bool) -> (Arc<Notify>, JoinSet<()>) {
    let was_asked = Arc::<Notify>::default();
    let asked = Arc::clone(&was_asked);
    let answer = async move |uri: Uri| {
        if hangs(uri.path()) {
            asked.notify_one();
            std::future::pending::<()>().await;
        }
        "{}"
    };
    let app = Router::new().fallback(answer).layer(DefaultBodyLimit::disable());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut serving = JoinSet::new();
    serving.spawn(async move { axum::serve(listener, app).await.unwrap() });
    let ini =
        format!("[reporting]\ndatastore.type = elasticsearch\ndatastore.host = 127.0.0.1\ndatastore.port = {port}\n");
    fs::write(home.path().join(".rally/rally.ini"), ini).unwrap();
    (was_asked, serving)
}

/// Waits until a store was asked for what it lets wait.
fn is_asked(runtime: &Runtime, was_asked: &Notify) {
    let asked = runtime.block_on(async { timeout(COMES_WITHIN, was_asked.notified()).await });
    asked.expect("nobody asks the store");
}

#[test]
fn a_race_that_is_interrupted_before_it_begins_was_cancelled() {
    let runtime = Runtime::new().unwrap();
    let home = Home::new();
    let (was_asked, _serving) = runtime.block_on(hanging_store(&home, |_| true));
    let junit = home.path().join("junit.xml");
    let racing = home.start_race("early", &[&format!("--junit-file={}", junit.display())]);
    is_asked(&runtime, &was_asked);
    racing.interrupt(Signal::INT);
    let (exit, stderr) = racing.end();
    assert!(exit == 130 && stderr.contains("The race was cancelled"), "{exit} {stderr}");
    assert!(fs::read_to_string(junit).unwrap().contains("The race was cancelled"));
}

#[test]
fn a_race_whose_metrics_store_hangs_can_be_interrupted_and_says_what_is_missing() {
    let runtime = Runtime::new().unwrap();
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let home = Home::new();
        let (was_asked, _serving) = runtime.block_on(hanging_store(&home, |path| path.ends_with("/_bulk")));
        let mut racing = home.start_race("stuck", &["--include-tasks=short"]);
        is_asked(&runtime, &was_asked);
        racing.until("waiting until all of the race is kept; Ctrl-C ends that");
        racing.interrupt(signal);
        let (exit, stderr) = racing.end();
        assert!(
            exit == 130 && stderr.contains("does not have all of it: whoever ran the race ended"),
            "{exit} {stderr}"
        );
        let (exit, _, stderr) = home.run(&["attach", "stuck"]);
        assert!(exit == 0 && stderr.contains("does not have all of it: whoever ran the race ended"), "{exit} {stderr}");
    }
}
