//! What one worker measures, kept by itself until it is asked for.

use std::rc::Rc;

use bytes::Bytes;
use rally_core::metrics::{Distribution, ErrorCount, RequestTimes, SampleType, TaskInterval, ThroughputBin};
use rally_core::track::JsonObject;
use rally_core::{ClusterTime, TaskIndex};

use crate::engine::LATE;
use crate::segment::{RawSample, SampleCollector};
use crate::timer::nanos;
use crate::{ErrorClass, InnerTiming, Outcome};

/// Characters of an error that are kept as its example.
const EXAMPLE_LENGTH: usize = 2_000;

/// The start of a step on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StepStart {
    /// In nanoseconds of the driver's monotonic clock.
    pub(crate) monotonic: u64,
    pub(crate) cluster: ClusterTime,
}

impl StepStart {
    /// Nanoseconds since the start of the step.
    pub(crate) fn since(self, monotonic: u64) -> u64 {
        monotonic.saturating_sub(self.monotonic)
    }
}

/// One call of a runner.
#[derive(Debug)]
pub(crate) struct Sample<'a> {
    pub(crate) task: TaskIndex,
    /// The cluster, if all are loaded at the same time.
    pub(crate) cluster: Option<&'a Rc<str>>,
    pub(crate) client: u32,
    pub(crate) sample_type: SampleType,
    pub(crate) times: RequestTimes,
    /// How long the driver itself held up a request that was due, if it had an intended start.
    pub(crate) dispatch_lag: Option<u64>,
    /// The client was still busy with the request before when this one was due.
    pub(crate) is_behind: bool,
    /// When the client's loop of this task began.
    pub(crate) task_start: u64,
    pub(crate) outcome: Outcome,
    pub(crate) error: Option<RequestError>,
}

/// What went wrong with a request.
#[derive(Debug)]
pub(crate) struct RequestError {
    pub(crate) class: ErrorClass,
    pub(crate) description: String,
    /// What was answered; empty if nothing was.
    pub(crate) body: Bytes,
}

impl RequestError {
    /// The description, and the beginning of the body if that says more.
    fn example(&self) -> String {
        let body = String::from_utf8_lossy(&self.body[..self.body.len().min(4 * EXAMPLE_LENGTH)]);
        let both = match body.trim() {
            "" => self.description.clone(),
            body if body == self.description => self.description.clone(),
            body => format!("{}: {body}", self.description),
        };
        both.chars().take(EXAMPLE_LENGTH).collect()
    }
}

/// What a worker measured since it was last asked.
#[derive(Debug, Default)]
pub(crate) struct Recording {
    pub(crate) tasks: Vec<TaskInterval>,
    pub(crate) dispatch_lag: Distribution,
    /// Calls of runners.
    pub(crate) samples: u64,
    /// Those among them that had an intended start.
    pub(crate) throttled: u64,
    /// Those among them that the driver itself held up for long.
    pub(crate) late: u64,
    /// Those among them that were due while their client was still busy with the one before.
    pub(crate) behind: u64,
    /// Connections that had to be opened again.
    pub(crate) reconnects: u64,
    /// Requests that clients sent again by themselves.
    pub(crate) retries: u64,
}

impl Recording {
    /// Adds what another worker measured, or the same one later.
    pub(crate) fn merge(&mut self, other: Self) {
        for task in other.tasks {
            match self.tasks.iter_mut().find(|into| is_same(into, &task)) {
                Some(into) => merge_task(into, task),
                None => self.tasks.push(task),
            }
        }
        self.dispatch_lag.merge(&other.dispatch_lag);
        self.samples += other.samples;
        self.throttled += other.throttled;
        self.late += other.late;
        self.behind += other.behind;
        self.reconnects += other.reconnects;
        self.retries += other.retries;
    }
}

/// Records the samples of one worker.
#[derive(Debug)]
pub(crate) struct Recorder {
    start: StepStart,
    /// Takes every sample by itself, if that is wanted.
    raw: Option<SampleCollector>,
    /// By task; of each there are few, by sample type and cluster.
    tasks: Vec<Vec<TaskRecording>>,
    inner: Vec<TaskRecording>,
    dispatch_lag: Distribution,
    samples: u64,
    throttled: u64,
    late: u64,
    behind: u64,
    reconnects: u64,
    retries: u64,
}

#[derive(Debug)]
struct TaskRecording {
    interval: TaskInterval,
    errors: Vec<(ErrorClass, u64, String)>,
}

impl Recorder {
    pub(crate) fn new(tasks: usize, start: StepStart, raw: Option<SampleCollector>) -> Self {
        Self {
            start,
            raw,
            tasks: (0..tasks).map(|_| Vec::new()).collect(),
            inner: Vec::new(),
            dispatch_lag: Distribution::default(),
            samples: 0,
            throttled: 0,
            late: 0,
            behind: 0,
            reconnects: 0,
            retries: 0,
        }
    }

    /// Counts what a client did about broken connections and busy hosts.
    pub(crate) fn count_repairs(&mut self, reconnects: u64, retries: u64) {
        self.reconnects += reconnects;
        self.retries += retries;
    }

    /// Records a sample.
    pub(crate) fn record(&mut self, sample: Sample<'_>) {
        let Sample { task, cluster, client, sample_type, times, dispatch_lag, is_behind, task_start, outcome, error } =
            sample;
        let service_time = nanos(times.service_time());
        let processing_time = nanos(times.processing_time());
        let latency = nanos(times.latency());
        self.samples += 1;
        if let Some(lag) = dispatch_lag {
            self.dispatch_lag.record(lag);
            self.throttled += 1;
            self.late += u64::from(lag > nanos(LATE));
            self.behind += u64::from(is_behind);
        }

        let slots = &mut self.tasks[task.0 as usize];
        let is_it = |known: &TaskRecording| {
            known.interval.sample_type == sample_type && known.interval.cluster.as_deref() == cluster.map(|it| &**it)
        };
        let slot = slots.iter().position(is_it).unwrap_or_else(|| {
            slots.push(TaskRecording::new(task, cluster, None, sample_type));
            slots.len() - 1
        });
        let recording = &mut slots[slot];
        let interval = &mut recording.interval;
        interval.service_time.record(service_time);
        interval.processing_time.record(processing_time);
        interval.latency.record(latency);
        interval.samples += 1;
        interval.failed += u64::from(!outcome.success);
        interval.duration = interval.duration.max(times.received.saturating_sub(task_start));
        // A bulk has its work also if documents failed; a request without an answer has none, and no unit that counts.
        if (outcome.success || outcome.weight > 0) && interval.unit != outcome.unit {
            interval.unit = outcome.unit.clone().into_owned();
        }
        add_work(&mut interval.throughput, self.start, times.called, outcome.weight, task_start);
        if let Some(throughput) = outcome.throughput {
            interval.reported_throughput.push((self.start.since(times.called), throughput));
        }
        if let Some(error) = error {
            recording.add_error(&error);
        }

        for inner in &outcome.inner {
            self.record_inner(task, cluster, client, sample_type, inner, &outcome.meta);
        }
        if let Some(raw) = &mut self.raw {
            let mut meta = outcome.meta;
            if let Some(cluster) = cluster {
                meta.insert("cluster".to_owned(), (**cluster).into());
            }
            let sample = RawSample {
                task,
                inner: None,
                client,
                sample_type,
                called: self.start.since(times.called),
                service_time,
                processing_time: Some(processing_time),
                latency: Some(latency),
                dispatch_lag,
                weight: outcome.weight,
                unit: &outcome.unit,
                success: outcome.success,
                throughput: outcome.throughput,
                meta: None,
            };
            raw.add(sample, &meta);
        }
    }

    fn record_inner(
        &mut self,
        task: TaskIndex,
        cluster: Option<&Rc<str>>,
        client: u32,
        sample_type: SampleType,
        inner: &InnerTiming,
        outer_meta: &JsonObject,
    ) {
        let service_time = inner.span.received.saturating_sub(inner.span.sent);
        let found = self.inner.iter().position(|recording| {
            let key = &recording.interval;
            (key.task, key.sample_type) == (task, sample_type)
                && key.cluster.as_deref() == cluster.map(|it| &**it)
                && key.inner.as_ref().is_some_and(|(operation, operation_type)| {
                    (operation, operation_type) == (&inner.operation, &inner.operation_type)
                })
        });
        let name = || (inner.operation.clone(), inner.operation_type.clone());
        let index = found.unwrap_or_else(|| {
            self.inner.push(TaskRecording::new(task, cluster, Some(name()), sample_type));
            self.inner.len() - 1
        });
        let interval = &mut self.inner[index].interval;
        interval.service_time.record(service_time);
        interval.samples += 1;
        interval.failed += u64::from(!inner.success);
        if let Some(raw) = &mut self.raw {
            let mut meta = outer_meta.clone();
            meta.extend(inner.meta.clone());
            if let Some(cluster) = cluster {
                meta.insert("cluster".to_owned(), (**cluster).into());
            }
            let sample = RawSample {
                task,
                inner: Some((&inner.operation, &inner.operation_type)),
                client,
                sample_type,
                called: self.start.since(inner.span.sent),
                service_time,
                processing_time: None,
                latency: None,
                dispatch_lag: None,
                weight: 1,
                unit: "ops",
                success: inner.success,
                throughput: None,
                meta: None,
            };
            raw.add(sample, &meta);
        }
    }

    /// Takes everything that was recorded since it was last taken. Raw samples go their own way.
    pub(crate) fn take(&mut self) -> Recording {
        if let Some(raw) = &mut self.raw {
            raw.send();
        }
        let tasks = self.tasks.iter_mut().flat_map(std::mem::take);
        Recording {
            tasks: tasks.chain(std::mem::take(&mut self.inner)).map(TaskRecording::into_interval).collect(),
            dispatch_lag: std::mem::take(&mut self.dispatch_lag),
            samples: std::mem::take(&mut self.samples),
            throttled: std::mem::take(&mut self.throttled),
            late: std::mem::take(&mut self.late),
            behind: std::mem::take(&mut self.behind),
            reconnects: std::mem::take(&mut self.reconnects),
            retries: std::mem::take(&mut self.retries),
        }
    }
}

impl TaskRecording {
    fn new(
        task: TaskIndex,
        cluster: Option<&Rc<str>>,
        inner: Option<(String, String)>,
        sample_type: SampleType,
    ) -> Self {
        let interval = TaskInterval {
            task,
            cluster: cluster.map(|it| (**it).to_owned()),
            inner,
            sample_type,
            service_time: Distribution::default(),
            processing_time: Distribution::default(),
            latency: Distribution::default(),
            samples: 0,
            failed: 0,
            unit: String::new(),
            throughput: Vec::new(),
            reported_throughput: Vec::new(),
            errors: Vec::new(),
            duration: 0,
        };
        Self { interval, errors: Vec::new() }
    }

    fn add_error(&mut self, error: &RequestError) {
        match self.errors.iter_mut().find(|(known, ..)| *known == error.class) {
            Some((_, count, _)) => *count += 1,
            None => self.errors.push((error.class, 1, error.example())),
        }
    }

    fn into_interval(self) -> TaskInterval {
        let count = |(class, count, example): (ErrorClass, u64, String)| ErrorCount {
            class: class.to_string(),
            count,
            example,
        };
        TaskInterval { errors: self.errors.into_iter().map(count).collect(), ..self.interval }
    }
}

/// Adds the work of one request to the second in which it was started.
fn add_work(bins: &mut Vec<ThroughputBin>, start: StepStart, called: u64, weight: u64, task_start: u64) {
    let at = start.since(called);
    let bin = ThroughputBin {
        second: u32::try_from(at / 1_000_000_000).unwrap_or(u32::MAX),
        first: at,
        first_weight: weight,
        last: at,
        weight,
        task_start: start.since(task_start),
    };
    // Requests end in about the order in which they were started, so it is one of the last.
    match bins.iter_mut().rev().find(|known| known.second == bin.second) {
        Some(known) => known.merge(bin),
        None => bins.push(bin),
    }
}

fn is_same(one: &TaskInterval, other: &TaskInterval) -> bool {
    (one.task, one.sample_type, &one.cluster, &one.inner)
        == (other.task, other.sample_type, &other.cluster, &other.inner)
}

fn merge_task(into: &mut TaskInterval, task: TaskInterval) {
    into.service_time.merge(&task.service_time);
    into.processing_time.merge(&task.processing_time);
    into.latency.merge(&task.latency);
    into.samples += task.samples;
    into.failed += task.failed;
    if !task.unit.is_empty() {
        into.unit = task.unit;
    }
    for bin in task.throughput {
        match into.throughput.iter_mut().find(|known| known.second == bin.second) {
            Some(known) => known.merge(bin),
            None => into.throughput.push(bin),
        }
    }
    into.reported_throughput.extend(task.reported_throughput);
    for error in task.errors {
        match into.errors.iter_mut().find(|known| known.class == error.class) {
            Some(known) => known.count += error.count,
            None => into.errors.push(error),
        }
    }
    into.duration = into.duration.max(task.duration);
}
