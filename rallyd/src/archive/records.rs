//! The metrics records of a race, out of what its archive has: nothing of them is kept beside it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Row, RowAccessor};
use rally_core::metrics::{RaceDocument, RecordContext, SampleType, TaskValue, ThroughputValue, task_meta};
use rally_core::track::JsonObject;
use rally_core::{RaceEventKind, TaskIndex};
use serde_json::{Value, json};

use super::store::failed;
use super::{Archive, ArchiveError};

const NANOS_PER_MILLI: u64 = 1_000_000;

/// What the records of a race have in common.
struct Source {
    context: RecordContext,
    tasks: Vec<RecordedTask>,
    clock: StepClock,
    /// Every so many requests have records.
    factor: u64,
}

/// What records need to know of a task.
struct RecordedTask {
    name: String,
    operation: String,
    operation_type: String,
    meta: JsonObject,
    /// In nanoseconds of coordinator time; none if its step never started.
    start: Option<u64>,
    /// Over time, of each cluster by its name if there are several.
    throughput: Vec<(Option<String>, Vec<ThroughputValue>)>,
    unit: String,
}

/// Moments of a race from which time is counted anew: its begin, and the start of each step.
#[derive(Default)]
struct StepClock(Vec<u64>);

impl StepClock {
    /// Milliseconds since the last of these moments.
    fn relative_millis(&self, nanos: u64) -> f64 {
        let since = self.0.iter().rev().find_map(|moment| nanos.checked_sub(*moment));
        millis(since.unwrap_or_default())
    }
}

fn millis(nanos: u64) -> f64 {
    nanos as f64 / NANOS_PER_MILLI as f64
}

/// Milliseconds since the epoch; the nearest.
fn epoch_millis(nanos: u64) -> i64 {
    (nanos.saturating_add(NANOS_PER_MILLI / 2) / NANOS_PER_MILLI) as i64
}

/// A record, or why there is none.
type Record = Result<JsonObject, ArchiveError>;

impl Archive {
    /// All records of a race: those of telemetry devices, throughput, and the requests of the raw samples.
    pub(super) fn race_records(
        &self,
        document: &RaceDocument,
    ) -> Result<impl Iterator<Item = Record> + use<>, ArchiveError> {
        let race = &document.race_id;
        let source = Rc::new(self.source(document)?);
        let telemetry = {
            let source = Rc::clone(&source);
            self.telemetry(race)?.map(move |record| record.map(|record| source.telemetry(record)))
        };
        let throughput: Vec<_> = source.tasks.iter().flat_map(|task| source.throughput(task)).map(Ok).collect();
        let samples = match source.factor {
            0 => Vec::new(),
            _ => sample_files(&self.samples_directory(race))?,
        };
        let samples = samples.into_iter().flat_map(move |path| source.requests(path));
        Ok(telemetry.chain(throughput).chain(samples))
    }

    fn source(&self, document: &RaceDocument) -> Result<Source, ArchiveError> {
        let race = &document.race_id;
        let (mut clock, mut starts) = (StepClock::default(), Vec::new());
        for event in self.events(race)? {
            let (at, event) = event?;
            match event {
                RaceEventKind::Started { .. } => clock.0.push(at.as_nanos()),
                RaceEventKind::StepStarted { step, tasks, .. } => {
                    clock.0.push(step.start.as_nanos());
                    starts.extend(tasks.into_iter().map(|running| (running.task, step.start.as_nanos())));
                }
                _ => {}
            }
        }
        let mut cluster = JsonObject::new();
        for record in self.telemetry(race)? {
            add_cluster_meta(&mut cluster, &record?);
        }
        let start = |index: TaskIndex| starts.iter().find(|(task, _)| *task == index).map(|(_, start)| *start);
        let tasks = self.recorded_tasks(document, start)?;
        Ok(Source { context: RecordContext::new(document, &cluster), tasks, clock, factor: self.downsample_factor })
    }

    fn recorded_tasks(
        &self,
        document: &RaceDocument,
        start: impl Fn(TaskIndex) -> Option<u64>,
    ) -> Result<Vec<RecordedTask>, ArchiveError> {
        let Some(track) = self.known_track(&document.race_id)? else { return Ok(Vec::new()) };
        let Some(challenge) = document.challenge_of(&track) else { return Ok(Vec::new()) };
        let (metrics, _) = self.measured(&document.race_id)?;
        let recorded = |(index, task): (u32, &rally_core::track::Task)| {
            let index = TaskIndex(index);
            let (all, unit) = metrics.throughput(index);
            let by_cluster = metrics.throughput_by_cluster(index);
            RecordedTask {
                name: task.name.clone(),
                operation: task.operation.name.clone(),
                operation_type: task.operation.operation_type.as_str().to_owned(),
                meta: task_meta(&track, challenge, task),
                start: start(index),
                unit: format!("{unit}/s"),
                throughput: match by_cluster.is_empty() {
                    true => vec![(None, all)],
                    false => by_cluster.into_iter().map(|(name, values)| (Some(name.to_owned()), values)).collect(),
                },
            }
        };
        Ok((0..).zip(challenge.tasks()).map(recorded).collect())
    }
}

/// Adds what a telemetry device says of the cluster under test as a whole.
fn add_cluster_meta(meta: &mut JsonObject, record: &JsonObject) {
    let name = record.get("name").and_then(Value::as_str);
    if matches!(name, Some("cluster_environment" | "shared_node_environment")) {
        let about =
            record.iter().filter(|(key, _)| !matches!(key.as_str(), "name" | "cluster" | "@timestamp" | "meta"));
        meta.extend(about.map(|(key, value)| (key.clone(), value.clone())));
    }
}

/// The files of raw samples, in the order of their names.
fn sample_files(directory: &Path) -> Result<Vec<PathBuf>, ArchiveError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed("read", directory))?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed("read", directory))?.path();
        if path.extension().is_some_and(|extension| extension == "parquet") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn rows(path: &Path) -> Result<RowIter<'static>, ParquetError> {
    let file = File::open(path)?;
    RowIter::from_file_into(Box::new(SerializedFileReader::new(file)?) as Box<dyn FileReader>).project(None)
}

impl Source {
    fn telemetry(&self, mut record: JsonObject) -> JsonObject {
        if let Some(millis) = record.get("@timestamp").and_then(Value::as_u64) {
            let relative = self.clock.relative_millis(millis.saturating_mul(NANOS_PER_MILLI));
            record.entry("relative-time").or_insert_with(|| json!(relative));
        }
        self.context.telemetry(record)
    }

    fn throughput(&self, task: &RecordedTask) -> Vec<JsonObject> {
        let Some(start) = task.start else { return Vec::new() };
        let of_cluster = |(cluster, values): &(Option<String>, Vec<ThroughputValue>)| {
            let mut meta = task.meta.clone();
            meta.extend(cluster.iter().map(|cluster| ("cluster".to_owned(), json!(cluster))));
            let record = |it: &ThroughputValue| {
                self.context.task_value(TaskValue {
                    epoch_millis: epoch_millis(start.saturating_add(it.at)),
                    relative_millis: millis(it.at),
                    name: "throughput",
                    value: it.value,
                    unit: &task.unit,
                    sample_type: it.sample_type,
                    task: &task.name,
                    operation: &task.operation,
                    operation_type: &task.operation_type,
                    meta: meta.clone(),
                })
            };
            values.iter().map(record).collect::<Vec<_>>()
        };
        task.throughput.iter().flat_map(of_cluster).collect()
    }

    /// The records of a file of raw samples.
    fn requests(self: &Rc<Self>, path: PathBuf) -> Box<dyn Iterator<Item = Record>> {
        let (source, rows) = (Rc::clone(self), rows(&path));
        let unreadable = move |source| ArchiveError::Samples { path: path.clone(), source };
        match rows {
            Err(error) => Box::new(std::iter::once(Err(unreadable(error)))),
            Ok(rows) => {
                let wanted = (0_u64..).zip(rows).filter({
                    let factor = source.factor;
                    move |(index, _)| index % factor == 0
                });
                Box::new(wanted.flat_map(move |(_, row)| match row.and_then(|row| source.request(&row)) {
                    Ok(records) => records.into_iter().map(Ok).collect(),
                    Err(error) => vec![Err(unreadable(error))],
                }))
            }
        }
    }

    /// The records of one request; the columns stand in the order of docs/archive.md.
    fn request(&self, row: &Row) -> Result<Vec<JsonObject>, ParquetError> {
        let task = row.get_string(0)?;
        let (operation, operation_type, is_inner) = (row.get_string(1)?, row.get_string(2)?, row.get_bool(3)?);
        let sample_type = if row.get_string(5)? == "warmup" { SampleType::Warmup } else { SampleType::Normal };
        let (at, relative) = (row.get_long(6)?, row.get_long(7)?);
        // Operations inside a composite one have the metadata of requests alone.
        let of_task = self.tasks.iter().find(|it| !is_inner && it.name == *task);
        let mut meta = of_task.map(|it| it.meta.clone()).unwrap_or_default();
        // The last column may be empty.
        if let Some(Value::Object(more)) = row.get_string(16).ok().and_then(|text| serde_json::from_str(text).ok()) {
            meta.extend(more);
        }
        meta.insert("success".to_owned(), json!(row.get_bool(14)?));
        meta.insert("client_id".to_owned(), json!(row.get_int(4)?));
        let times = [
            ("latency", row.get_long(10).ok()),
            ("service_time", Some(row.get_long(8)?)),
            ("processing_time", row.get_long(9).ok()),
        ];
        let nanos = |value: i64| u64::try_from(value).unwrap_or_default();
        let record = |(name, time): (&'static str, Option<i64>)| {
            // Inner operations have a service time only.
            let time = time.filter(|_| !is_inner || name == "service_time")?;
            Some(self.context.task_value(TaskValue {
                epoch_millis: epoch_millis(nanos(at)),
                relative_millis: millis(nanos(relative)),
                name,
                value: millis(nanos(time)),
                unit: "ms",
                sample_type,
                task,
                operation,
                operation_type,
                meta: meta.clone(),
            }))
        };
        Ok(times.into_iter().filter_map(record).collect())
    }
}
