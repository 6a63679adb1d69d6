//! Telemetry devices: what the cluster under test says of itself before, during and after a race.
//!
//! Devices run on a thread of their own with clients of their own, so that they never share a core's time with the
//! clients of a worker that could be elsewhere. What they find are metrics documents without the fields of the race,
//! which whoever stores them adds.

mod device;
mod environment;
mod failures;
mod index_stats;
mod ingest;
mod jvm;
mod node_stats;
mod sampled;
mod selection;
mod storage;
mod transform;

#[cfg(test)]
mod tests;

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use futures_util::future::join_all;
use rally_core::RacePlan;
use rally_core::track::JsonObject;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, interval_at, timeout, timeout_at};

use crate::RunnerError;
use crate::client::ClientOptions;
use crate::driver::CoordinatorClock;
use device::{Cluster, Device, Records};
use failures::Failures;
pub use selection::{TelemetryDevice, check as check_telemetry, telemetry_devices};

/// What waits to be taken.
const FOUND: usize = 64;

/// A JSON array of documents is cut off before it gets longer, in bytes.
const LONGEST_ARRAY: usize = 256 << 10;

/// The longest document, in bytes.
const LONGEST_RECORD: usize = 768 << 10;

/// How long each device may take before the race starts. They look at the same time.
const ATTACH: Duration = Duration::from_secs(60);

/// How long all devices may take when the race is over; disk usage alone may take minutes for each index.
const DETACH: Duration = Duration::from_secs(60 * 60);

/// How long devices may take to end where they are.
const END: Duration = Duration::from_secs(5);

/// What devices have to say.
#[derive(Debug, PartialEq)]
pub(crate) enum Found {
    /// A JSON array of metrics documents.
    Records(Vec<u8>),
    /// The user should know.
    Notice(String),
    /// All devices were asked that look at the cluster before the race.
    Attached,
    /// All devices were asked that look at the cluster after the race; nothing follows.
    Detached,
}

/// From when on the devices of a driver look at the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// From before the race.
    Beginning,
    /// From when the driver before it was lost, while the race runs.
    Takeover,
}

/// The devices of a race. Dropping it ends them where they are, without waiting for it as [`Telemetry::end`] does.
#[derive(Debug)]
pub(crate) struct Telemetry {
    /// True once the race is over.
    detach: watch::Sender<bool>,
    found: mpsc::Receiver<Found>,
    /// Ends soon after the two above are gone.
    thread: JoinHandle<()>,
}

impl Telemetry {
    /// Starts the devices that the plan asks for, and those that are always on; [`Found::Attached`] follows. None if
    /// there is no cluster that they could ask.
    ///
    /// # Errors
    ///
    /// A sentence if a device or one of its parameters makes no sense, or if there is no thread left.
    pub(crate) fn start(plan: &Arc<RacePlan>, clock: &CoordinatorClock, since: Since) -> Result<Option<Self>, String> {
        let answers_itself = plan.client_options.values().any(ClientOptions::answer_themselves);
        let has_cluster = plan.target_hosts.values().any(|hosts| !hosts.is_empty());
        if answers_itself || !has_cluster {
            return Ok(None);
        }
        let notices = selection::check(plan)?;
        let (detach, detached) = watch::channel(false);
        let (sender, found) = mpsc::channel(FOUND);
        let (plan, clock) = (Arc::clone(plan), Arc::clone(clock));
        let start = |error: io::Error| format!("failed to start the telemetry devices: {error}");
        let run = move || {
            // It is made where it is used: without a thread it would be dropped among other futures, which panics.
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(sender.blocking_send(Found::Notice(start(error)))),
            };
            let work = async {
                for notice in notices.into_iter().filter(|_| since == Since::Beginning) {
                    send(&sender, Found::Notice(notice)).await;
                }
                // Without a receiver the race is over, and devices stop where they are.
                tokio::select! {
                    () = run(&plan, &clock, since, detached, &sender) => {}
                    () = sender.closed() => {}
                }
            };
            runtime.block_on(work);
            // A look-up of a name that hangs cannot be called off; nobody has to wait for it.
            runtime.shutdown_background();
        };
        let thread = thread::Builder::new().name("telemetry".to_owned()).spawn(run).map_err(start)?;
        Ok(Some(Self { detach, found, thread }))
    }

    /// What is found next; none when nothing follows.
    pub(crate) async fn next(&mut self) -> Option<Found> {
        self.found.recv().await
    }

    /// Asks devices for their last look at the cluster; [`Found::Detached`] follows.
    pub(crate) fn detach(&self) {
        self.detach.send_replace(true);
    }

    /// Ends the devices where they are and waits for it. Gives what they have found that nobody has taken yet, and what they
    /// panicked with, as of a thread that is joined.
    pub(crate) async fn end(mut self) -> (Vec<Found>, thread::Result<()>) {
        self.found.close();
        let mut left = Vec::new();
        let ended = async {
            while let Some(found) = self.found.recv().await {
                left.push(found);
            }
        };
        let result = match timeout(END, ended).await {
            // The channel is one of the last things that the thread lets go.
            Ok(()) => self.thread.join(),
            // It can do no harm any more.
            Err(_) => Ok(()),
        };
        (left, result)
    }
}

async fn send(sender: &mpsc::Sender<Found>, found: Found) {
    // Without a receiver the race is over, which ends the devices, too.
    let _ = sender.send(found).await;
}

/// Runs all devices from before the race until after it.
async fn run(
    plan: &Arc<RacePlan>,
    clock: &CoordinatorClock,
    since: Since,
    detached: watch::Receiver<bool>,
    found: &mpsc::Sender<Found>,
) {
    let report = Report {
        clock: Arc::clone(clock),
        found: found.clone(),
        failures: Failures::default(),
        names_clusters: plan.target_hosts.len() > 1,
    };
    let mut devices = Vec::new();
    for (name, hosts) in &plan.target_hosts {
        if hosts.is_empty() {
            continue;
        }
        match Cluster::new(plan, name).await {
            Ok(cluster) => {
                let cluster = Rc::new(cluster);
                devices
                    .extend(selection::devices(plan, name).into_iter().map(|device| Attached::new(device, &cluster)));
            }
            Err(error) => send(found, Found::Notice(format!("no telemetry of cluster `{name}`: {error}"))).await,
        }
    }
    join_all(devices.iter_mut().map(|it| it.attach(since, ATTACH, &report))).await;
    report.tell_failures().await;
    send(found, Found::Attached).await;

    join_all(devices.iter_mut().map(|it| it.sample(detached.clone(), &report))).await;

    // One after the other, because some of them change what others count.
    let deadline = Instant::now() + DETACH;
    for device in &mut devices {
        if timeout_at(deadline, device.look(Moment::After, &report)).await.is_err() {
            let problem = format!("the devices had {DETACH:?} to end; this one and those after it did not");
            device.fail(&RunnerError::Other(problem), &report);
            break;
        }
    }
    report.tell_failures().await;
    send(found, Found::Detached).await;
}

/// When a device looks at the cluster.
#[derive(Clone, Copy, Debug)]
enum Moment {
    Before(Since),
    Sample,
    After,
}

/// A device at its cluster.
struct Attached {
    device: Box<dyn Device>,
    cluster: Rc<Cluster>,
    /// It said what went wrong once; more of the same is not news.
    has_failed: bool,
}

impl Attached {
    fn new(device: Box<dyn Device>, cluster: &Rc<Cluster>) -> Self {
        Self { device, cluster: Rc::clone(cluster), has_failed: false }
    }

    /// Looks once and reports. True if the device works.
    async fn look(&mut self, moment: Moment, report: &Report) -> bool {
        let mut records = Records::default();
        let result = match moment {
            Moment::Before(since) => {
                let result = self.device.before(&self.cluster, &mut records).await;
                if since == Since::Takeover {
                    // They are about a cluster before the race, and whoever did look then has told them.
                    records.drop_notices();
                }
                result
            }
            Moment::Sample => self.device.sample(&self.cluster, &mut records).await,
            Moment::After => self.device.after(&self.cluster, &mut records).await,
        };
        report.records(&self.cluster.name, records).await;
        let Err(error) = result else { return true };
        // Before and after the race, all devices look at once, and what they say is told together.
        if self.fail(&error, report) && matches!(moment, Moment::Sample) {
            report.tell_failures().await;
        }
        false
    }

    /// Looks before the race, for a bounded time.
    async fn attach(&mut self, since: Since, limit: Duration, report: &Report) {
        if timeout(limit, self.look(Moment::Before(since), report)).await.is_err() {
            let problem = format!("the cluster did not answer within {limit:?} before the race");
            self.fail(&RunnerError::Other(problem), report);
        }
    }

    /// Notes the first thing that goes wrong. True if nobody was told of it yet.
    fn fail(&mut self, error: &RunnerError, report: &Report) -> bool {
        !std::mem::replace(&mut self.has_failed, true)
            && report.failures.add(self.device.name(), &self.cluster.name, error)
    }

    /// Samples in its interval until the race is over; the first sample comes after one interval. A device that fails is
    /// not asked again, except at the end.
    async fn sample(&mut self, mut detached: watch::Receiver<bool>, report: &Report) {
        if let Some(interval) = self.device.interval() {
            let mut ticks = interval_at(Instant::now() + interval, interval);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    biased;
                    // An error says that the race is gone.
                    _ = detached.wait_for(|detached| *detached) => break,
                    _ = ticks.tick() => {}
                }
                if !self.look(Moment::Sample, report).await {
                    break;
                }
            }
        }
        // A device without an interval, or one that failed, waits with the others.
        let _ = detached.wait_for(|detached| *detached).await;
    }
}

/// Where records and notices go.
struct Report {
    clock: CoordinatorClock,
    found: mpsc::Sender<Found>,
    failures: Failures,
    /// Whether records say which cluster they are about.
    names_clusters: bool,
}

impl Report {
    /// Tells which devices failed since it was told last, those with the same cause together.
    async fn tell_failures(&self) {
        for notice in self.failures.take_untold() {
            self.notice(notice).await;
        }
    }

    async fn notice(&self, notice: String) {
        send(&self.found, Found::Notice(notice)).await;
    }

    /// Sends records as arrays of bounded length, with the time.
    async fn records(&self, cluster: &str, records: Records) {
        let (records, notices) = records.into_parts();
        for notice in notices {
            self.notice(notice).await;
        }
        let millis = (self.clock)().as_nanos() / 1_000_000;
        let mut array: Vec<u8> = Vec::new();
        for mut record in records {
            record.entry("@timestamp").or_insert_with(|| millis.into());
            if self.names_clusters
                && let Value::Object(meta) = record.entry("meta").or_insert_with(|| JsonObject::new().into())
            {
                meta.insert("cluster".to_owned(), cluster.into());
            }
            let name = record.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            let json = Value::Object(record).to_string();
            if json.len() > LONGEST_RECORD {
                self.notice(format!("telemetry: a record `{name}` of {} bytes is too long to be kept", json.len()))
                    .await;
                continue;
            }
            if !array.is_empty() && array.len() + json.len() > LONGEST_ARRAY {
                self.flush(&mut array).await;
            }
            array.push(if array.is_empty() { b'[' } else { b',' });
            array.extend_from_slice(json.as_bytes());
        }
        if !array.is_empty() {
            self.flush(&mut array).await;
        }
    }

    async fn flush(&self, array: &mut Vec<u8>) {
        array.push(b']');
        send(&self.found, Found::Records(std::mem::take(array))).await;
    }
}
