//! Races over the hosts of a lab.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::counting_target::CountingTarget;
use crate::lab::{Family, Host, Lab, Said, note, report, within};

/// Longer than any race here takes to end, whatever happens to it.
pub(crate) const ENDS_WITHIN: Duration = Duration::from_secs(40);

/// How many seconds a race may take that a command shows; the longest one indexes much on a busy machine.
const RACE_TIMEOUT: &str = "300";

/// A cluster with a coordinator and three others that drive, and a target that counts beside the coordinator.
pub(crate) struct RaceLab {
    pub(crate) lab: Lab<4>,
    pub(crate) target: CountingTarget,
}

impl RaceLab {
    /// Over a network that can be tampered with; without, the test is skipped.
    pub(crate) fn new(test: &str) -> Option<Self> {
        let lab = Lab::with_own_network(test, Family::V4)?;
        lab.start();
        Some(Self::over(lab))
    }

    /// Over hosts whose daemons may have been started in another way.
    pub(crate) fn over(lab: Lab<4>) -> Self {
        let target = CountingTarget::start(lab.hosts[0].listen());
        Self { lab, target }
    }

    pub(crate) fn coordinator(&self) -> &Host {
        &self.lab.hosts[0]
    }

    pub(crate) fn drivers(&self) -> &[Host] {
        &self.lab.hosts[1..]
    }

    /// Starts a race of all drivers on the first of them, which shows it.
    pub(crate) fn race_of(&self, race: &str, track: &Path, more: &[&str]) -> Racing {
        let drivers: Vec<_> = self.drivers().iter().map(|host| host.ip.to_string()).collect();
        let hosts = format!("--load-driver-hosts={}", drivers.join(","));
        self.race_on(race, track, &[&[&hosts[..]], more].concat())
    }

    /// As [`RaceLab::race_of`], on drivers that are named.
    pub(crate) fn race_on(&self, race: &str, track: &Path, more: &[&str]) -> Racing {
        let (track, id) = (format!("--track-path={}", track.display()), format!("--race-id={race}"));
        let arguments = [&["race", &track, &id], more].concat();
        let mut command = self.drivers()[0].command_within(RACE_TIMEOUT, &arguments);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Racing { race: race.to_owned(), child }
    }

    /// Waits until a race is in this step.
    pub(crate) fn is_in_step(&self, racing: &Racing, number: u64) {
        within(ENDS_WITHIN, &format!("race {} is in step {number}", racing.race), || {
            let Some(status) = self.coordinator().status() else { return false };
            let race = status.race();
            race["id"] == *racing.race && race["step"]["number"] == number
        });
    }

    /// Waits until no driver that answers plays in a race.
    pub(crate) fn is_free(&self) {
        within(ENDS_WITHIN, "every driver is free", || {
            self.drivers().iter().filter_map(Host::status).all(|status| status.text("activity") == "idle")
        });
    }
}

/// A race that somebody watches.
#[derive(Debug)]
pub(crate) struct Racing {
    pub(crate) race: String,
    child: Child,
}

impl Racing {
    /// Waits for its end.
    pub(crate) fn end(self) -> Said {
        let said = Said::from(self.child.wait_with_output().unwrap());
        note(&format!("race {} ended with {}:\n{}", self.race, said.exit, said.stderr));
        said
    }

    /// Sends a signal to the command that shows it, as a terminal would.
    pub(crate) fn interrupt(&self, signal: Signal) {
        // The command runs below `timeout`, which hands on what it gets itself.
        kill_process(Pid::from_raw(self.child.id().try_into().unwrap()).unwrap(), signal).unwrap();
    }
}

impl Said {
    /// That the race went well, and that the report is about so many samples.
    pub(crate) fn is_complete(&self, samples: u64) {
        assert_eq!(self.exit, 0, "{}", self.stderr);
        let expected = format!("The race is complete: {samples} samples\n");
        assert!(self.stderr.contains(&expected), "not {expected}{}", self.stderr);
    }

    /// That the race failed, and what was said of it.
    pub(crate) fn has_failed(&self, expected: &[&str]) {
        assert_eq!(self.exit, 64, "{}", self.stderr);
        for expected in expected {
            assert!(self.stderr.contains(expected), "no {expected:?} in\n{}", self.stderr);
        }
    }
}

/// Writes a track of its own directory, and says where.
pub(crate) fn write_track(directory: &Path, name: &str, track: &Value) -> PathBuf {
    let path = directory.join(name);
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("track.json"), track.to_string()).unwrap();
    path
}

/// A server that speaks Elasticsearch's API, from outside of this project.
#[derive(Debug)]
pub(crate) struct Server {
    program: PathBuf,
    host: Host,
    data: PathBuf,
    child: Option<Child>,
    /// It and those that it started.
    processes: Vec<Pid>,
}

/// Where it serves HTTP.
const HTTP_PORT: u16 = 9200;

impl Server {
    /// Starts it on a host; without the program, the test is skipped.
    pub(crate) fn start(test: &str, race_lab: &RaceLab, host: &Host) -> Option<Self> {
        let Some(program) = program() else {
            report(&format!(
                "skipped: {test} needs a server; `pip install noida-db==0.2.3`, or RALLY_TEST_ELASTICSEARCH names it"
            ));
            return None;
        };
        let (host, data) = (host.clone(), host.home.join("server"));
        let mut server = Self { program, host, data, child: None, processes: Vec::new() };
        server.run(race_lab);
        Some(server)
    }

    /// Starts it again with the data that it had.
    pub(crate) fn run(&mut self, race_lab: &RaceLab) {
        let before = race_lab.lab.processes();
        fs::create_dir_all(&self.data).unwrap();
        let mut command = self.host.inside(self.program.to_str().unwrap());
        command.args(["start", "--only", "elasticsearch", "--host", &self.host.ip.to_string()]);
        command.args(["--data-dir", self.data.to_str().unwrap(), "--elasticsearch-port", &HTTP_PORT.to_string()]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        self.child = Some(child);
        within(ENDS_WITHIN, "the server answers", || self.get("/").is_some());
        self.processes = race_lab.lab.processes().into_iter().filter(|pid| !before.contains(pid)).collect();
    }

    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        if let Some(mut child) = self.child.take() {
            child.wait().unwrap();
        }
        within(ENDS_WITHIN, "the server is gone", || self.get("/").is_none());
    }

    /// Lets every request wait for its answer, until [`Server::answer`].
    pub(crate) fn hold(&self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn answer(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        for &process in &self.processes {
            // One of them may have ended with another.
            let _ = kill_process(process, signal);
        }
    }

    pub(crate) fn target_hosts(&self) -> String {
        format!("--target-hosts={}:{HTTP_PORT}", self.host.ip)
    }

    /// A document of its API, if it answers.
    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        let url = format!("http://{}:{HTTP_PORT}{path}", self.host.ip);
        let output = self.host.inside("curl").args(["--silent", "--max-time", "60", &url]).output().unwrap();
        serde_json::from_slice(&output.stdout).ok()
    }
}

/// The server's program: where the environment says, or in the path of whoever runs the tests.
fn program() -> Option<PathBuf> {
    if let Some(program) = std::env::var_os("RALLY_TEST_ELASTICSEARCH") {
        return Some(program.into());
    }
    let runs = |path: &PathBuf| Command::new(path).arg("version").output().is_ok_and(|output| output.status.success());
    std::env::split_paths(&std::env::var_os("PATH")?).map(|directory| directory.join("noida-db")).find(runs)
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
