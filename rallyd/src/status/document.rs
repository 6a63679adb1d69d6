//! The JSON document of `rallyd status --format json`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use rally_core::metrics::SampleType;
use rally_core::{AwaitedDriver, HostFacts, RaceDriver, RaceStatus, RunningTask, StepStatus, TaskStatus};
use rally_net::{HostRole, HostState, HostSummary, LinkState};
use serde::Serialize;

use super::DaemonReport;
use crate::control::DaemonStatus;

/// Every daemon of this machine that runs; fields may be added, but none changes its meaning.
///
/// Times are in seconds, memory is in bytes, points in time are RFC 3339 in UTC.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct StatusDocument {
    hosts: Vec<LocalHost>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase", tag = "daemon")]
enum LocalHost {
    Running(Box<RunningHost>),
    Unresponsive { address: SocketAddr, pid: Option<u32>, error: String },
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct RunningHost {
    id: Option<String>,
    address: SocketAddr,
    role: HostRole,
    /// `null` where the host does not know.
    #[serde(flatten)]
    facts: HostFacts,
    activity: String,
    epoch: u64,
    uptime: f64,
    pid: u32,
    log: Option<PathBuf>,
    directory: PathBuf,
    coordinator: Coordinator,
    /// How old `cluster` is, `null` if the coordinator has never answered.
    cluster_age: Option<f64>,
    cluster: Vec<ClusterHost>,
    /// The race that the coordinator runs; `null` also if it cannot be asked.
    race: Option<Race>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Race {
    id: String,
    /// For how long it has run.
    age: f64,
    load_drivers: Vec<LoadDriver>,
    /// `null` while drivers prepare.
    step: Option<RunningStep>,
    /// Whom it has been waiting for lately, while the others are ready.
    waits_for: Vec<Awaited>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Awaited {
    load_driver: String,
    /// What it said last while it prepares.
    said: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct LoadDriver {
    name: String,
    first_client: u32,
    clients: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct RunningStep {
    number: u32,
    of: u32,
    age: f64,
    tasks: Vec<Task>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Task {
    name: String,
    /// `null` for the first second.
    progress: Option<TaskProgress>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct TaskProgress {
    /// From 0 to 1, `null` if it cannot be known.
    done: Option<f64>,
    warmup: bool,
    samples: u64,
    failed: u64,
    /// In units per second.
    throughput: f64,
    unit: String,
    service_time: Option<ServiceTime>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct ServiceTime {
    p50: f64,
    p90: f64,
    p99: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Coordinator {
    address: SocketAddr,
    #[serde(flatten)]
    link: Link,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase", tag = "state")]
enum Link {
    Own { since: String },
    Connected { since: String, suspect: bool },
    Connecting { since: String, attempts: u32, last_error: Option<String> },
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct ClusterHost {
    id: String,
    address: SocketAddr,
    role: HostRole,
    state: HostState,
    /// `null` where the host does not know.
    #[serde(flatten)]
    facts: HostFacts,
    activity: String,
    epoch: u64,
    last_heard: f64,
    round_trip: Option<f64>,
    /// Coordinator time minus the host's own.
    clock_offset: Option<f64>,
    /// The true offset lies within this distance.
    clock_error: Option<f64>,
    /// How far its wall clock was set since its daemon started.
    wall_clock_shift: f64,
}

impl StatusDocument {
    pub(crate) fn new(reports: &[DaemonReport]) -> Self {
        Self { hosts: reports.iter().map(LocalHost::from).collect() }
    }
}

impl From<&DaemonReport> for LocalHost {
    fn from(report: &DaemonReport) -> Self {
        match report {
            DaemonReport::Answered(status) => Self::Running(Box::new((&**status).into())),
            DaemonReport::Unresponsive { address, pid, error } => {
                Self::Unresponsive { address: *address, pid: *pid, error: error.clone() }
            }
        }
    }
}

impl From<&DaemonStatus> for RunningHost {
    fn from(status: &DaemonStatus) -> Self {
        let DaemonStatus { pid, log, directory, host, race } = status;
        Self {
            id: host.id.map(|id| id.to_string()),
            address: host.address,
            role: host.role,
            facts: host.facts.clone(),
            activity: host.activity.to_string(),
            epoch: host.epoch.0,
            uptime: seconds(host.uptime),
            pid: *pid,
            log: log.clone(),
            directory: directory.clone(),
            coordinator: Coordinator { address: host.coordinator.address, link: (&host.coordinator.link).into() },
            cluster_age: host.hosts_age.map(seconds),
            cluster: host.hosts.iter().map(ClusterHost::from).collect(),
            race: race.as_ref().map(Race::from),
        }
    }
}

impl From<&RaceStatus> for Race {
    fn from(race: &RaceStatus) -> Self {
        let age = |since| seconds(race.now.saturating_since(since));
        let driver = |driver: &RaceDriver| LoadDriver {
            name: driver.name.clone(),
            first_client: driver.clients.start,
            clients: driver.clients.end - driver.clients.start,
        };
        let step = |step: &StepStatus| RunningStep {
            number: step.step.until.0,
            of: step.of,
            age: age(step.step.start),
            tasks: step.tasks.iter().map(|task| Task::new(task, &step.progress)).collect(),
        };
        let awaited = |it: &AwaitedDriver| Awaited { load_driver: it.driver.clone(), said: it.said.clone() };
        Self {
            id: race.race.to_string(),
            age: age(race.since),
            load_drivers: race.drivers.iter().map(driver).collect(),
            step: race.step.as_ref().map(step),
            waits_for: race.awaited.iter().map(awaited).collect(),
        }
    }
}

impl Task {
    fn new(task: &RunningTask, progress: &[TaskStatus]) -> Self {
        let progress = progress.iter().find(|status| status.task == task.task).map(|status| TaskProgress {
            done: status.done,
            warmup: status.sample_type == SampleType::Warmup,
            samples: status.samples,
            failed: status.failed,
            throughput: status.throughput,
            unit: status.unit.clone(),
            service_time: status.service_time.map(|times| ServiceTime {
                p50: seconds(times.p50),
                p90: seconds(times.p90),
                p99: seconds(times.p99),
            }),
        });
        Self { name: task.name.clone(), progress }
    }
}

impl From<&LinkState> for Link {
    fn from(link: &LinkState) -> Self {
        match link {
            LinkState::Own { since } => Self::Own { since: timestamp(*since) },
            LinkState::Connected { since, suspect } => Self::Connected { since: timestamp(*since), suspect: *suspect },
            LinkState::Connecting { since, attempts, last_error } => {
                Self::Connecting { since: timestamp(*since), attempts: *attempts, last_error: last_error.clone() }
            }
        }
    }
}

impl From<&HostSummary> for ClusterHost {
    fn from(host: &HostSummary) -> Self {
        Self {
            id: host.id.to_string(),
            address: host.address,
            role: host.role,
            state: host.state,
            facts: host.facts.clone(),
            activity: host.activity.to_string(),
            epoch: host.epoch.0,
            last_heard: seconds(host.last_heard),
            round_trip: host.round_trip.map(seconds),
            clock_offset: host.clock.map(|clock| clock.offset as f64 / 1e9),
            clock_error: host.clock.map(|clock| clock.error as f64 / 1e9),
            wall_clock_shift: host.wall_shift as f64 / 1e9,
        }
    }
}

/// Seconds to the nanosecond.
fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

/// A point in time for programs, to the second.
pub(crate) fn timestamp(time: SystemTime) -> String {
    Timestamp::try_from(time).map_or_else(|_| "unknown".to_owned(), |time| format!("{time:.0}"))
}
