//! One machine and its daemons.

use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::lab::{REJOIN_WITHIN, SOON, within};

/// A home with its daemons, which are stopped at the end.
struct Home {
    directory: tempfile::TempDir,
    port: u16,
}

impl Home {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), port: free_port() }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rallyd"));
        command.args(arguments).env_clear().env("RALLY_HOME", self.directory.path());
        command
    }

    /// Runs a command and returns its exit code and everything it wrote.
    fn run(&self, arguments: &[&str]) -> (i32, String) {
        let Output { status, stdout, stderr } = self.command(arguments).output().unwrap();
        (status.code().unwrap(), String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap())
    }

    fn start(&self) -> (i32, String) {
        self.run(&["start", "--coordinator-ip=127.0.0.1", &format!("--port={}", self.port)])
    }

    /// The only running daemon, as it describes itself.
    fn status(&self) -> Value {
        let output = self.command(&["status", "--format=json"]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["hosts"][0].take()
    }

    fn instance(&self) -> PathBuf {
        self.directory.path().join(format!(".rally/hosts/127.0.0.1-{}", self.port))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.run(&["stop", "--all"]);
    }
}

/// A port that was free a moment ago, and that the kernel does not give out again soon.
fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn process(status: &Value) -> Pid {
    Pid::from_raw(status["pid"].as_i64().unwrap().try_into().unwrap()).unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_daemon_starts_in_the_background_answers_and_stops_without_a_trace() {
    let home = Home::new();
    assert_eq!(home.run(&["status"]).0, 3);
    assert_eq!(home.run(&["stop"]).0, 3);

    let (exit, said) = home.start();
    assert_eq!((exit, said.contains("coordinator is up")), (0, true), "{said}");
    let status = home.status();
    assert_eq!((&status["daemon"], &status["role"]), (&"running".into(), &"coordinator".into()), "{status}");

    let (exit, said) = home.start();
    assert_eq!((exit, said.contains(&format!("already runs at 127.0.0.1:{}", home.port))), (64, true), "{said}");

    assert_eq!(home.run(&["stop"]).0, 0);
    assert_eq!(home.run(&["status"]).0, 3);
    // A process that has ended has no command line, even if nobody has reaped it.
    let command_line = std::fs::read(format!("/proc/{}/cmdline", status["pid"])).unwrap_or_default();
    assert_eq!(String::from_utf8_lossy(&command_line), "");
    let left = names(&home.instance());
    assert!(!left.iter().any(|name| name == "lock" || name == "control.sock"), "{left:?}");
}

#[test]
fn a_killed_daemon_does_not_run_and_can_be_started_again() {
    let home = Home::new();
    assert_eq!(home.start().0, 0);
    kill_process(process(&home.status()), Signal::KILL).unwrap();
    while home.run(&["status"]).0 == 64 {}
    assert_eq!(home.run(&["status"]).0, 3);
    let (exit, said) = home.run(&["restart"]);
    assert_eq!(exit, 0, "{said}");
    assert_eq!(home.status()["address"], format!("127.0.0.1:{}", home.port));
}

#[test]
fn a_daemon_that_is_stuck_is_said_to_be_and_killed_in_the_end() {
    let home = Home::new();
    assert_eq!(home.start().0, 0);
    kill_process(process(&home.status()), Signal::STOP).unwrap();
    let (exit, said) = home.run(&["status"]);
    assert_eq!((exit, said.contains("it does not answer within")), (64, true), "{said}");
    let (exit, said) = home.run(&["stop", "--within=1s"]);
    assert_eq!((exit, said.contains("sending SIGKILL"), said.contains("was killed")), (0, true, true), "{said}");
    assert_eq!(home.run(&["status"]).0, 3);
    let left = names(&home.instance());
    assert!(!left.iter().any(|name| name == "lock" || name == "control.sock"), "{left:?}");
}

#[test]
fn a_restart_remembers_how_the_daemon_was_started() {
    let home = Home::new();
    assert_eq!(home.start().0, 0);
    let before = home.status();
    let (exit, said) = home.run(&["restart"]);
    assert_eq!(exit, 0, "{said}");
    let after = home.status();
    assert_eq!(before["address"], after["address"]);
    assert_ne!(before["pid"], after["pid"]);
}

#[test]
fn a_daemon_whose_start_was_interrupted_can_be_restarted() {
    let home = Home::new();
    let start = ["start", &format!("--coordinator-ip=127.0.0.1:{}", free_port()), "--wait=60s"];
    let mut starting = home.command(&[&start[..], &[&format!("--port={}", home.port)]].concat()).spawn().unwrap();
    within(SOON, "the daemon answers", || home.run(&["status"]).0 == 0);
    starting.kill().unwrap();
    starting.wait().unwrap();
    let (exit, said) = home.run(&["restart", "--wait=1s"]);
    assert_eq!(exit, 0, "{said}");
    assert_eq!(home.status()["address"], format!("127.0.0.1:{}", home.port));
}

#[test]
fn daemons_on_one_machine_need_neither_token_nor_node_address_and_leave_each_other_alone() {
    let home = Home::new();
    let follow = format!("--coordinator-ip=127.0.0.1:{}", home.port);
    let ports = [free_port(), home.port, free_port()];
    // A member is first, before there is a token; and nobody is started twice.
    for (port, exit) in [(ports[0], 0), (ports[1], 0), (ports[2], 0), (ports[2], 64)] {
        let (found, said) = home.run(&["start", &follow, &format!("--port={port}"), "--wait=1s"]);
        assert_eq!(found, exit, "{said}");
    }
    let status = |port: u16| {
        let output = home.command(&["status", "--format=json", &format!("--port={port}")]).output().unwrap();
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["hosts"][0].take()
    };
    let alive = || {
        let cluster = status(home.port)["cluster"].take();
        cluster.as_array().unwrap().iter().filter(|host| host["state"] == "alive").count()
    };
    within(REJOIN_WITHIN, "the coordinator knows the members beside it", || alive() == 3);
    let epochs = || ports.map(|port| status(port)["epoch"].as_u64().unwrap());
    assert_eq!(epochs(), [1, 1, 1]);
    let (exit, said) = home.run(&["restart", &format!("--port={}", ports[0])]);
    assert_eq!(exit, 0, "{said}");
    assert_eq!(epochs(), [2, 1, 1]);
    assert_eq!(home.run(&["stop"]).0, 2, "it has to be said which one");
    assert_eq!(home.run(&["stop", &format!("--port={}", ports[2])]).0, 0);
    within(REJOIN_WITHIN, "one has left", || alive() == 2);
    assert_eq!(home.run(&["stop", "--all"]).0, 0);
    assert_eq!(home.run(&["status"]).0, 3);
}

#[test]
fn an_address_that_is_in_use_is_said_to_be() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let home = Home { directory: tempfile::tempdir().unwrap(), port: taken.local_addr().unwrap().port() };
    let (exit, said) = home.start();
    assert_eq!((exit, said.to_lowercase().contains("in use")), (64, true), "{said}");
    assert_eq!(home.run(&["status"]).0, 3);
}

#[test]
fn a_daemon_in_the_foreground_tells_systemd_and_ends_on_sigterm() {
    let home = Home::new();
    let socket = home.directory.path().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(SOON)).unwrap();
    let receive = || {
        let mut buffer = [0; 64];
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    let arguments = ["start", "--coordinator-ip=127.0.0.1", &format!("--port={}", home.port), "--foreground"];
    let mut daemon: Child =
        home.command(&arguments).env("NOTIFY_SOCKET", &socket).stderr(Stdio::null()).spawn().unwrap();
    assert_eq!(receive(), "READY=1");
    assert_eq!(home.status()["log"], Value::Null);
    kill_process(Pid::from_child(&daemon), Signal::TERM).unwrap();
    assert_eq!(receive(), "STOPPING=1");
    assert_eq!(daemon.wait().unwrap().code(), Some(0));
    assert_eq!(home.run(&["status"]).0, 3);
}

#[test]
fn wrong_usage_has_its_own_exit_code() {
    let home = Home::new();
    for arguments in [&["begin"][..], &["start"], &["start", "--coordinator-ip=::1", "--port=x"], &[]] {
        assert_eq!(home.run(arguments).0, 2, "{arguments:?}");
    }
    assert_eq!(home.run(&["start", "--coordinator-ip=0.0.0.0"]).0, 64);
    assert_eq!(home.run(&["--version"]).0, 0);
}
