//! The records of a race that has ended, out of its archive.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::PathBuf;

use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Row, RowAccessor};
use rally_core::metrics::{RecordContext, SampleType, TaskValue, ThroughputValue};
use rally_core::track::JsonObject;
use rally_core::{ClusterTime, RaceId};
use serde_json::{Value, json};

use crate::archive::Archive;

const NANOS_PER_MILLI: i64 = 1_000_000;

/// What records need to know of a task.
#[derive(Clone, Debug)]
pub(crate) struct TaskRecords {
    /// Its name.
    pub(crate) task: String,
    /// Its operation.
    pub(crate) operation: String,
    /// The type of its operation.
    pub(crate) operation_type: String,
    /// The metadata of track, challenge, operation and task.
    pub(crate) meta: JsonObject,
    /// When its step started; none if it never did.
    pub(crate) start: Option<ClusterTime>,
    /// Its throughput over time.
    pub(crate) throughput: Vec<ThroughputValue>,
    /// What the throughput is counted in.
    pub(crate) unit: String,
}

/// A record, or a sentence that says why there is none.
type Record = Result<JsonObject, String>;

/// All records: those of telemetry devices, throughput, and every `factor`-th request of the raw samples (none if it is 0).
pub(super) fn records<'a>(
    archive: &Archive,
    race: &RaceId,
    context: &'a RecordContext,
    tasks: &'a [TaskRecords],
    factor: u64,
) -> impl Iterator<Item = Record> + 'a {
    let telemetry = telemetry(archive.telemetry_path(race), context);
    let samples = if factor == 0 { Ok(Vec::new()) } else { sample_files(archive.samples_directory(race)) };
    let (files, failure) = match samples {
        Ok(files) => (files, None),
        Err(error) => (Vec::new(), Some(Err(error))),
    };
    let samples = files.into_iter().flat_map(move |path| of_file(path, context, tasks, factor));
    telemetry.chain(throughput(context, tasks)).chain(failure).chain(samples)
}

fn telemetry<'a>(path: PathBuf, context: &'a RecordContext) -> Box<dyn Iterator<Item = Record> + 'a> {
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Box::new(std::iter::empty()),
        Err(error) => return Box::new(std::iter::once(Err(format!("cannot read {}: {error}", path.display())))),
    };
    Box::new(BufReader::new(file).lines().filter_map(move |line| match line {
        // A torn last line is left out.
        Ok(line) => serde_json::from_str(&line).ok().map(|record| Ok(context.telemetry(record))),
        Err(error) => Some(Err(format!("cannot read {}: {error}", path.display()))),
    }))
}

fn throughput<'a>(context: &'a RecordContext, tasks: &'a [TaskRecords]) -> impl Iterator<Item = Record> + 'a {
    tasks.iter().filter_map(|task| Some((task, task.start?))).flat_map(move |(task, start)| {
        let unit = format!("{}/s", task.unit);
        task.throughput.iter().map(move |value| {
            Ok(context.task_value(TaskValue {
                epoch_millis: start.as_nanos().saturating_add(value.at) as i64 / NANOS_PER_MILLI,
                relative_millis: value.at as f64 / 1e6,
                name: "throughput",
                value: value.value,
                unit: &unit,
                sample_type: value.sample_type,
                task: &task.task,
                operation: &task.operation,
                operation_type: &task.operation_type,
                meta: task.meta.clone(),
            }))
        })
    })
}

fn sample_files(directory: PathBuf) -> Result<Vec<PathBuf>, String> {
    let cannot = |error: std::io::Error| format!("cannot read {}: {error}", directory.display());
    let entries = match std::fs::read_dir(&directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(cannot)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(cannot)?.path();
        if path.extension().is_some_and(|extension| extension == "parquet") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn of_file<'a>(
    path: PathBuf,
    context: &'a RecordContext,
    tasks: &'a [TaskRecords],
    factor: u64,
) -> Box<dyn Iterator<Item = Record> + 'a> {
    let open = || -> Result<RowIter<'static>, ParquetError> {
        let file = File::open(&path)?;
        RowIter::from_file_into(Box::new(SerializedFileReader::new(file)?) as Box<dyn FileReader>).project(None)
    };
    let rows = open();
    let cannot = move |error: ParquetError| Err(format!("cannot read {}: {error}", path.display()));
    match rows {
        Err(error) => Box::new(std::iter::once(cannot(error))),
        Ok(rows) => {
            let wanted = (0_u64..).zip(rows).filter(move |(index, _)| index % factor == 0);
            Box::new(wanted.flat_map(move |(_, row)| match row.and_then(|row| sample_records(&row, context, tasks)) {
                Ok(records) => records.into_iter().map(Ok).collect(),
                Err(error) => vec![cannot(error)],
            }))
        }
    }
}

/// The records of one request; the columns stand in the order of docs/archive.md.
fn sample_records(row: &Row, context: &RecordContext, tasks: &[TaskRecords]) -> Result<Vec<JsonObject>, ParquetError> {
    let task = row.get_string(0)?;
    let (operation, operation_type, is_inner) = (row.get_string(1)?, row.get_string(2)?, row.get_bool(3)?);
    let sample_type = if row.get_string(5)? == "warmup" { SampleType::Warmup } else { SampleType::Normal };
    let (at, relative) = (row.get_long(6)?, row.get_long(7)?);
    let mut meta = tasks.iter().find(|it| it.task == *task).map(|it| it.meta.clone()).unwrap_or_default();
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
    let record = |(name, nanos): (&'static str, Option<i64>)| {
        // Inner operations have a service time only.
        let nanos = nanos.filter(|_| !is_inner || name == "service_time")?;
        Some(context.task_value(TaskValue {
            epoch_millis: at / NANOS_PER_MILLI,
            relative_millis: relative as f64 / 1e6,
            name,
            value: nanos as f64 / 1e6,
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
