//! Hosts for tests: network namespaces with a switch between them, or loopback addresses where there may be none.
//!
//! Everything in a lab has names and addresses of its own, so labs do not disturb each other. A lab that is dropped,
//! also by a panic, takes its processes, namespaces and files with it.

use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

/// Where `ip`, `nft` and `ethtool` are, whoever runs the tests.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How many seconds a command of `rallyd` may take; it has shorter limits of its own.
const TIMEOUT: &str = "60";

/// The port that daemons take unless told otherwise.
pub(crate) const PORT: u16 = 1900;

/// Between two looks at something that is to change.
const POLL: Duration = Duration::from_millis(50);

/// Longer than anything that happens at once takes on a busy machine. Tests only wait as long as they have to; how long
/// things take is tested with state machines, which have their own time.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// Silence makes a host dead after 5 s; the rest is for a busy machine.
pub(crate) const DEAD_WITHIN: Duration = Duration::from_secs(40);

/// The default `Timing::rejoin_within` is 18.5 s; the rest is for a busy machine.
pub(crate) const REJOIN_WITHIN: Duration = Duration::from_secs(60);

/// Which addresses the hosts of a lab have, and no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// Some hosts that reach each other.
#[derive(Debug)]
pub(crate) struct Lab<const N: usize> {
    pub(crate) hosts: [Host; N],
    directory: tempfile::TempDir,
    /// What the names of its namespaces begin with, if it has any.
    prefix: Option<String>,
}

/// A host of a lab. It shares nothing with the others but the network.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) ip: IpAddr,
    /// The value of `RALLY_HOME`.
    pub(crate) home: PathBuf,
    namespace: Option<String>,
}

/// What a command of `rallyd` came to.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) exit: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A daemon as it describes itself.
#[derive(Clone, Debug)]
pub(crate) struct Status(Value);

impl<const N: usize> Lab<N> {
    /// Hosts in network namespaces if these can be made, otherwise at loopback addresses.
    pub(crate) fn new(test: &str) -> Self {
        match namespaces() {
            Ok(()) => Self::in_namespaces(test, Family::V4),
            Err(reason) => Self::on_loopback(test, reason),
        }
    }

    /// Hosts with a network that can be tampered with; without, the test is skipped, which is said.
    pub(crate) fn with_own_network(test: &str, family: Family) -> Option<Self> {
        match namespaces() {
            Ok(()) => Some(Self::in_namespaces(test, family)),
            Err(reason) => {
                report(&format!("skipped: {test} needs network namespaces ({reason})"));
                None
            }
        }
    }

    /// Hosts at addresses of the loopback network, of which every lab has others.
    pub(crate) fn on_loopback(test: &str, reason: &str) -> Self {
        report(&format!("ran: {test} on loopback addresses ({reason})"));
        let process = u8::try_from(std::process::id() % 250).unwrap();
        let lab = number();
        Self::with_hosts(None, |index| (IpAddr::from([127, 1 + lab, process, index]), None))
    }

    fn in_namespaces(test: &str, family: Family) -> Self {
        report(&format!("ran: {test} in network namespaces"));
        let prefix = format!("rally-{}-{}", std::process::id(), number());
        let namespace = |index: u8| format!("{prefix}-{index}");
        let address = |index: u8| match family {
            Family::V4 => IpAddr::from(Ipv4Addr::new(10, 77, 0, index)),
            Family::V6 => IpAddr::from(Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, index.into())),
        };
        // Made first, so that it cleans up if the rest fails.
        let lab = Self::with_hosts(Some(prefix.clone()), |index| (address(index), Some(namespace(index))));
        let switch = namespace(0);
        ip(&format!("netns add {switch}"));
        ip(&format!("-n {switch} link add switch type bridge"));
        ip(&format!("-n {switch} link set switch up"));
        for (host, index) in lab.hosts.iter().zip(1u8..) {
            let (own, ip_address) = (namespace(index), host.ip);
            ip(&format!("netns add {own}"));
            ip(&format!("-n {own} link set lo up"));
            ip(&format!("-n {own} link add eth0 type veth peer name port{index} netns {switch}"));
            ip(&format!("-n {switch} link set port{index} master switch up"));
            ip(&format!("-n {own} link set eth0 up"));
            match family {
                Family::V4 => ip(&format!("-n {own} address add {ip_address}/24 dev eth0")),
                Family::V6 => ip(&format!("-n {own} address add {ip_address}/64 dev eth0 nodad")),
            }
        }
        lab
    }

    fn with_hosts(prefix: Option<String>, host: impl Fn(u8) -> (IpAddr, Option<String>)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let hosts = std::array::from_fn(|index| {
            let (ip, namespace) = host(u8::try_from(index + 1).unwrap());
            let home = directory.path().join(format!("host{}", index + 1));
            Host { ip, home, namespace }
        });
        Self { hosts, directory, prefix }
    }

    /// Whether the hosts have different kernels as far as the network is concerned.
    pub(crate) fn has_own_network(&self) -> bool {
        self.prefix.is_some()
    }

    /// Starts the first host as the coordinator, and all others as its members.
    pub(crate) fn start(&self) {
        let [coordinator, members @ ..] = &self.hosts[..] else { panic!("a lab has hosts") };
        coordinator.start(&[]);
        let token = coordinator.token(&[]);
        for member in members {
            member.start(&[&format!("--coordinator-ip={}", coordinator.ip), &format!("--token={token}")]);
        }
        self.is_whole(SOON);
    }

    /// Waits until the first host knows all others as alive, and each of them follows it and knows that, too.
    pub(crate) fn is_whole(&self, limit: Duration) {
        within(limit, "every host knows every other as alive", || {
            self.hosts.iter().zip(0..).all(|(host, index)| {
                host.status().is_some_and(|status| {
                    let link = if index == 0 { "own" } else { "connected" };
                    let alive = |other: &Host| status.sees(other) == Some("alive");
                    status.link() == link && self.hosts.iter().all(alive)
                })
            })
        });
    }

    /// Lets no packet of more bytes through the switch; sends no message about it, as many a firewall.
    pub(crate) fn limit_switch_to(&self, mtu: u16) {
        let prefix = self.prefix.as_deref().unwrap();
        for index in 1..=N {
            ip(&format!("-n {prefix}-0 link set port{index} mtu {mtu}"));
        }
    }

    /// All processes that were started in the lab and have not ended.
    pub(crate) fn processes(&self) -> Vec<Pid> {
        let home = format!("RALLY_HOME={}", self.directory.path().display()).into_bytes();
        let is_ours = |pid: &Pid| {
            // A process that has ended has no environment, even if nobody has reaped it.
            let environment = fs::read(format!("/proc/{}/environ", pid.as_raw_pid())).unwrap_or_default();
            environment.split(|&byte| byte == 0).any(|variable| variable.starts_with(&home))
        };
        let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.filter_map(Pid::from_raw).filter(is_ours).collect()
    }
}

impl<const N: usize> Drop for Lab<N> {
    fn drop(&mut self) {
        if thread::panicking() {
            for host in &self.hosts {
                println!("---- {}\n{}", host.ip, host.log());
            }
        }
        for process in self.processes() {
            // It may have ended by itself.
            let _ = kill_process(process, Signal::KILL);
        }
        if let Some(prefix) = &self.prefix {
            for index in 0..=N {
                // It is not there if the lab could not be built.
                let _ = command("ip").args(["netns", "delete", &format!("{prefix}-{index}")]).output();
            }
        }
    }
}

impl Host {
    /// A command of `rallyd` on this host.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.command_within(TIMEOUT, arguments)
    }

    /// As [`Host::command`], for so many seconds at most.
    pub(crate) fn command_within(&self, timeout: &str, arguments: &[&str]) -> Command {
        let mut command = self.inside("timeout");
        // In the foreground it hands on a signal once, not to its whole group as well.
        command.args(["--foreground", timeout, env!("CARGO_BIN_EXE_rallyd")]).args(arguments);
        command
    }

    /// Any program on this host.
    pub(crate) fn inside(&self, program: &str) -> Command {
        let mut command = match &self.namespace {
            Some(namespace) => {
                let mut command = command("ip");
                command.args(["netns", "exec", namespace, program]);
                command
            }
            None => command(program),
        };
        command.env("RALLY_HOME", &self.home);
        command
    }

    /// A socket of this process that listens on this host.
    pub(crate) fn listen(&self) -> TcpListener {
        let address = SocketAddr::new(self.ip, 0);
        let Some(namespace) = self.namespace.clone() else { return TcpListener::bind(address).unwrap() };
        // Sockets stay where they were made, so the thread that has moved there is no longer needed.
        let moved = thread::spawn(move || {
            let namespace = fs::File::open(Path::new("/run/netns").join(namespace)).unwrap();
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            TcpListener::bind(address).unwrap()
        });
        moved.join().unwrap()
    }

    /// Runs a command of `rallyd` to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        Said::from(self.command(arguments).output().unwrap())
    }

    /// Starts a daemon, the coordinator unless the arguments say otherwise, which must succeed.
    pub(crate) fn start(&self, arguments: &[&str]) -> Said {
        let said = self.try_start(arguments);
        assert_eq!(said.exit, 0, "{} {arguments:?}: {}", self.ip, said.stderr);
        said
    }

    /// As [`Host::start`], which may fail.
    pub(crate) fn try_start(&self, arguments: &[&str]) -> Said {
        let (node, coordinator) = (format!("--node-ip={}", self.ip), format!("--coordinator-ip={}", self.ip));
        let mut all = vec!["start", &node];
        if !arguments.iter().any(|argument| argument.starts_with("--coordinator-ip")) {
            all.push(&coordinator);
        }
        all.extend(arguments);
        self.run(&all)
    }

    /// Stops the daemon, which must succeed.
    pub(crate) fn stop(&self) {
        let said = self.run(&["stop"]);
        assert_eq!(said.exit, 0, "{}: {}", self.ip, said.stderr);
        assert_eq!(self.run(&["status"]).exit, 3);
    }

    /// Removes everything that the daemons here have kept.
    pub(crate) fn forget(&self) {
        fs::remove_dir_all(&self.home).unwrap();
    }

    /// A new join string of the coordinator that runs here.
    pub(crate) fn token(&self, arguments: &[&str]) -> String {
        let said = self.run(&[&["token"], arguments].concat());
        assert_eq!(said.exit, 0, "{}", said.stderr);
        said.stdout.trim().to_owned()
    }

    /// The only daemon, if it runs and answers.
    pub(crate) fn status(&self) -> Option<Status> {
        let said = self.run(&["status", "--format=json"]);
        let mut document: Value = serde_json::from_str(&said.stdout).ok()?;
        Some(document["hosts"][0].take()).filter(|host| host["daemon"] == "running").map(Status)
    }

    /// As [`Host::status`], of a daemon that must run.
    pub(crate) fn running(&self) -> Status {
        self.status().unwrap_or_else(|| panic!("no daemon answers at {}", self.ip))
    }

    /// How this host sees another one.
    pub(crate) fn sees(&self, other: &Self) -> Option<String> {
        self.status()?.sees(other).map(str::to_owned)
    }

    /// How this host stands to its coordinator.
    pub(crate) fn link(&self) -> Option<String> {
        Some(self.status()?.link().to_owned())
    }

    /// The directory of the daemon on the default port.
    pub(crate) fn instance(&self) -> PathBuf {
        self.instances().join(format!("{}-{PORT}", self.ip))
    }

    /// Where the directories of all daemons are.
    pub(crate) fn instances(&self) -> PathBuf {
        self.home.join(".rally/hosts")
    }

    /// The daemon's log so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.instance().join("daemon.log")).unwrap_or_default()
    }

    /// What the coordinator on this host has noticed about another host over all its starts, by its log.
    pub(crate) fn changes(&self, id: &str) -> Vec<String> {
        let log = self.log();
        let lines = log.lines().filter(|line| line.contains("membership changed") && line.contains(id));
        let changes = lines.filter_map(|line| line.split_once(" change=").map(|(_, change)| change));
        changes.map(|change| change.split(' ').next().unwrap_or_default().to_owned()).collect()
    }

    /// Drops packets that arrive and match, until [`Host::let_all_in`]. The matches are nftables'.
    pub(crate) fn drop_incoming(&self, matching: &[&str]) {
        self.filter("input", matching, "drop");
    }

    /// As [`Host::drop_incoming`] before packets leave; senders are told that they may not.
    pub(crate) fn drop_outgoing(&self, matching: &[&str]) {
        self.filter("output", matching, "drop");
    }

    fn filter(&self, hook: &str, matching: &[&str], verdict: &str) {
        self.tool("nft", "add table inet lab");
        self.tool("nft", &format!("add chain inet lab {hook} {{ type filter hook {hook} priority 0 ; }}"));
        for matching in matching {
            self.tool("nft", &format!("add rule inet lab {hook} {matching} {verdict}"));
        }
    }

    /// Ends [`Host::drop_incoming`] and [`Host::drop_outgoing`].
    pub(crate) fn let_all_in(&self) {
        self.tool("nft", "delete table inet lab");
    }

    /// Runs a tool of the system on this host, which must succeed.
    pub(crate) fn tool(&self, program: &str, arguments: &str) {
        succeed(self.inside(program).args(arguments.split(' ')));
    }

    /// Kills the daemon, and waits until the kernel has done so.
    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
        within(SOON, "the daemon is killed", || self.run(&["status"]).exit == 3);
    }

    /// Sends a signal to the daemon.
    pub(crate) fn signal(&self, signal: Signal) -> SignalledDaemon {
        let pid = self.running().pid();
        kill_process(pid, signal).unwrap();
        SignalledDaemon(pid)
    }
}

/// A daemon whose process got a signal, after which it may not answer any more.
#[derive(Debug)]
pub(crate) struct SignalledDaemon(Pid);

impl SignalledDaemon {
    /// Kills it.
    pub(crate) fn kill(self) {
        kill_process(self.0, Signal::KILL).unwrap();
    }

    /// Ends a SIGSTOP.
    pub(crate) fn resume(self) {
        kill_process(self.0, Signal::CONT).unwrap();
    }
}

impl From<Output> for Said {
    fn from(Output { status, stdout, stderr }: Output) -> Self {
        Self {
            // None if a signal ended it.
            exit: status.code().unwrap_or(-1),
            stdout: String::from_utf8(stdout).unwrap(),
            stderr: String::from_utf8(stderr).unwrap(),
        }
    }
}

impl Status {
    pub(crate) fn text(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap()
    }

    pub(crate) fn id(&self) -> &str {
        self.text("id")
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.0["epoch"].as_u64().unwrap()
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.0["pid"].as_i64().unwrap().try_into().unwrap()).unwrap()
    }

    /// The race that runs; null if there is none.
    pub(crate) fn race(&self) -> &Value {
        &self.0["race"]
    }

    /// `own`, `connected` or `connecting`.
    pub(crate) fn link(&self) -> &str {
        self.0["coordinator"]["state"].as_str().unwrap()
    }

    /// Whether the coordinator has been silent for longer than it should.
    pub(crate) fn suspects_coordinator(&self) -> bool {
        self.0["coordinator"]["suspect"] == true
    }

    /// Since when it stands to its coordinator as it does; exact to a second.
    pub(crate) fn link_since(&self) -> Timestamp {
        self.0["coordinator"]["since"].as_str().unwrap().parse().unwrap()
    }

    /// Everything that it knows about the host at the same address.
    pub(crate) fn record(&self, host: &Host) -> Option<&Value> {
        let of_host = |record: &&Value| {
            let address: SocketAddr = record["address"].as_str().unwrap().parse().unwrap();
            address.ip() == host.ip
        };
        self.0["cluster"].as_array()?.iter().find(of_host)
    }

    /// Everything that it knows about the host with this id.
    pub(crate) fn of(&self, id: &str) -> Option<&Value> {
        self.0["cluster"].as_array()?.iter().find(|record| record["id"] == id)
    }

    /// How many hosts it knows.
    pub(crate) fn cluster_size(&self) -> usize {
        self.0["cluster"].as_array().unwrap().len()
    }

    /// The state of the host at the same address.
    pub(crate) fn sees(&self, host: &Host) -> Option<&str> {
        self.record(host)?["state"].as_str()
    }
}

/// Says how a test was run or that it was not, also if it passes: what `println!` writes is shown of failed tests only.
pub(crate) fn report(text: &str) {
    writeln!(io::stderr().lock(), "{text}").unwrap();
}

/// Says what the current test has found out; tests that run at the same time mix their lines.
pub(crate) fn note(text: &str) {
    println!("{}: {text}", thread::current().name().unwrap_or_default());
}

/// The changes without suspicions that came to nothing, which a busy machine causes now and then.
pub(crate) fn lasting(changes: &[String]) -> Vec<&str> {
    let mut lasting = Vec::new();
    for change in changes {
        if change == "Recovered" && lasting.last() == Some(&"Suspected") {
            lasting.pop();
        } else {
            lasting.push(change.as_str());
        }
    }
    lasting
}

/// Waits until it is so.
pub(crate) fn within(limit: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        thread::sleep(POLL);
    }
    note(&format!("{what}: after {:.1} s", start.elapsed().as_secs_f64()));
}

/// Looks again and again for a while, and it must be so each time.
pub(crate) fn throughout(duration: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while start.elapsed() < duration {
        assert!(is_so(), "no longer after {:?}: {what}", start.elapsed());
        thread::sleep(POLL);
    }
    note(&format!("{what}: for {} s", duration.as_secs()));
}

/// The names of all files below `directory`, without those of directories.
pub(crate) fn files(directory: &Path) -> Vec<String> {
    fn collect(root: &Path, directory: &Path, names: &mut Vec<String>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(root, &path, names);
            } else {
                names.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    let mut names = Vec::new();
    collect(directory, directory, &mut names);
    names.sort();
    names
}

/// Whether network namespaces can be made and filtered here, and if not, why.
fn namespaces() -> Result<(), &'static str> {
    static RESULT: OnceLock<Result<(), String>> = OnceLock::new();
    let probe = || {
        let name = format!("rally-{}-probe", std::process::id());
        let attempt =
            ["ip netns add NAME", "ip netns exec NAME nft list tables", "ip -n NAME link add switch type bridge"]
                .iter()
                .try_for_each(|line| {
                    let line = line.replace("NAME", &name);
                    let (program, arguments) = line.split_once(' ').unwrap();
                    let output = command(program).args(arguments.split(' ')).output();
                    let output = output.map_err(|error| format!("{program} cannot be run: {error}"))?;
                    let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                    if output.status.success() { Ok(()) } else { Err(format!("{line}: {reason}")) }
                });
        // It is not there if it could not be made.
        let _ = command("ip").args(["netns", "delete", &name]).output();
        attempt
    };
    RESULT.get_or_init(probe).as_ref().copied().map_err(String::as_str)
}

/// Tells the labs of this process apart.
fn number() -> u8 {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", PATH);
    command
}

fn ip(arguments: &str) {
    succeed(command("ip").args(arguments.split(' ')));
}

fn succeed(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
