//! The rows of a segment that are written together.

use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use indexmap::IndexSet;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesPtr};
use parquet::file::writer::SerializedRowGroupWriter;
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::{ColumnPath, TypePtr};
use rally_core::ClusterTime;
use rally_core::metrics::SampleType;
use rally_core::track::Task;

use super::batch::RawSample;

const SCHEMA: &str = "message sample {
    required binary task (STRING);
    required binary operation (STRING);
    required binary operation_type (STRING);
    required boolean inner;
    required int32 client;
    required binary sample_type (STRING);
    required int64 time (TIMESTAMP(NANOS, true));
    required int64 relative_time;
    required int64 service_time;
    optional int64 processing_time;
    optional int64 latency;
    optional int64 dispatch_lag;
    required int64 weight;
    required binary unit (STRING);
    required boolean success;
    optional double throughput;
    optional binary meta (STRING);
}";

/// Columns in which hardly a value comes twice, but neighbours are alike: their differences are written in few bits.
const TIMES: [&str; 6] = ["time", "relative_time", "service_time", "processing_time", "latency", "dispatch_lag"];

/// Rows of one group, of about 140 bytes each.
pub(super) const ROWS: usize = 16_384;

/// A group is also full when its texts of `meta` have this many bytes.
pub(super) const META_BYTES: usize = 1 << 20;

/// Values of a column that are put together at once.
const CHUNK: usize = 1_024;

/// The columns of every segment.
pub(super) fn schema() -> Result<TypePtr, ParquetError> {
    static PARSED: OnceLock<TypePtr> = OnceLock::new();
    if let Some(schema) = PARSED.get() {
        return Ok(Arc::clone(schema));
    }
    let schema = Arc::new(parse_message_type(SCHEMA)?);
    Ok(Arc::clone(PARSED.get_or_init(|| schema)))
}

/// How they are written.
pub(super) fn properties() -> WriterPropertiesPtr {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        // What is said of pages would wait in memory until the segment is complete.
        .set_statistics_enabled(EnabledStatistics::Chunk);
    let properties = TIMES.into_iter().map(ColumnPath::from).fold(properties, |properties, column| {
        properties
            .set_column_dictionary_enabled(column.clone(), false)
            .set_column_encoding(column, Encoding::DELTA_BINARY_PACKED)
    });
    Arc::new(properties.build())
}

/// Rows that become a row group. Its memory is used again by the next.
pub(super) struct RowGroup {
    rows: Vec<Row>,
    /// Calls of runners among the rows.
    calls: u64,
    /// Each text that a column refers to by its place, beginning with those of the tasks.
    texts: IndexSet<Bytes>,
    tasks: Vec<Names>,
    /// Texts that stay.
    of_tasks: usize,
    /// What is said of the rows, one after the other.
    meta: BytesMut,
}

/// A task, its operation and the type of that, as texts of a group.
#[derive(Clone, Copy)]
struct Names {
    task: u32,
    operation: u32,
    operation_type: u32,
}

/// A sample without a text of its own.
struct Row {
    names: Names,
    inner: bool,
    client: u32,
    sample_type: SampleType,
    time: ClusterTime,
    relative_time: u64,
    service_time: u64,
    processing_time: Option<u64>,
    latency: Option<u64>,
    dispatch_lag: Option<u64>,
    weight: u64,
    unit: u32,
    success: bool,
    throughput: Option<f64>,
    /// Where its JSON begins and ends.
    meta: Option<(u32, u32)>,
}

impl RowGroup {
    /// A group without rows.
    pub(super) fn new<'a>(tasks: impl IntoIterator<Item = &'a Task>) -> Self {
        let mut texts = IndexSet::new();
        let tasks = tasks.into_iter().map(|task| Names {
            task: place(&mut texts, &task.name),
            operation: place(&mut texts, &task.operation.name),
            operation_type: place(&mut texts, task.operation.operation_type.as_str()),
        });
        let tasks = tasks.collect();
        Self { rows: Vec::new(), calls: 0, tasks, of_tasks: texts.len(), texts, meta: BytesMut::new() }
    }

    /// Adds a sample of a step that began at `start`.
    pub(super) fn add(&mut self, start: ClusterTime, sample: &RawSample<'_>) {
        let mut names = self.tasks[sample.task.0 as usize];
        if let Some((operation, operation_type)) = sample.inner {
            names.operation = place(&mut self.texts, operation);
            names.operation_type = place(&mut self.texts, operation_type);
        }
        let meta = sample.meta.map(|meta| {
            let begin = self.meta.len() as u32;
            self.meta.extend_from_slice(meta.as_bytes());
            (begin, self.meta.len() as u32)
        });
        self.calls += u64::from(sample.inner.is_none());
        self.rows.push(Row {
            names,
            inner: sample.inner.is_some(),
            client: sample.client,
            sample_type: sample.sample_type,
            time: ClusterTime::from_nanos(start.as_nanos().saturating_add(sample.called)),
            relative_time: sample.called,
            service_time: sample.service_time,
            processing_time: sample.processing_time,
            latency: sample.latency,
            dispatch_lag: sample.dispatch_lag,
            weight: sample.weight,
            unit: place(&mut self.texts, sample.unit),
            success: sample.success,
            throughput: sample.throughput,
            meta,
        });
    }

    /// Calls of runners among its rows; the others are inner operations.
    pub(super) fn calls(&self) -> u64 {
        self.calls
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether it is to be written before more is added.
    pub(super) fn is_full(&self) -> bool {
        self.rows.len() >= ROWS || self.meta.len() >= META_BYTES
    }

    /// Forgets its rows.
    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.calls = 0;
        self.meta.clear();
        self.texts.truncate(self.of_tasks);
    }

    /// Writes its rows, which are still there afterwards; what was said of them is not.
    pub(super) fn write(
        &mut self,
        group: SerializedRowGroupWriter<'_, impl std::io::Write + Send>,
    ) -> Result<(), ParquetError> {
        let meta = self.meta.split().freeze();
        self.write_columns(group, &meta)
    }

    fn write_columns(
        &self,
        mut group: SerializedRowGroupWriter<'_, impl std::io::Write + Send>,
        meta: &Bytes,
    ) -> Result<(), ParquetError> {
        let mut place = 0;
        let fields = schema()?;
        while let Some(mut column) = group.next_column()? {
            let field = fields.get_fields()[place].name();
            place += 1;
            for rows in self.rows.chunks(CHUNK) {
                self.write_values(column.untyped(), field, rows, meta)?;
            }
            column.close()?;
        }
        group.close()?;
        Ok(())
    }

    fn write_values(
        &self,
        column: &mut ColumnWriter<'_>,
        field: &str,
        rows: &[Row],
        meta: &Bytes,
    ) -> Result<(), ParquetError> {
        match column {
            ColumnWriter::BoolColumnWriter(writer) => {
                let value = |row: &Row| if field == "inner" { row.inner } else { row.success };
                writer.write_batch(&rows.iter().map(value).collect::<Vec<_>>(), None, None)?;
            }
            ColumnWriter::Int32ColumnWriter(writer) => {
                writer.write_batch(&rows.iter().map(|row| row.client as i32).collect::<Vec<_>>(), None, None)?;
            }
            ColumnWriter::DoubleColumnWriter(writer) => {
                let (values, levels) = optional(rows, |row| row.throughput);
                writer.write_batch(&values, Some(&levels), None)?;
            }
            ColumnWriter::Int64ColumnWriter(writer) => {
                let required = |value: fn(&Row) -> u64| (rows.iter().map(|row| value(row) as i64).collect(), None);
                let nullable = |value: fn(&Row) -> Option<u64>| {
                    let (values, levels) = optional(rows, |row| value(row).map(|value| value as i64));
                    (values, Some(levels))
                };
                let (values, levels): (Vec<i64>, _) = match field {
                    "time" => required(|row| row.time.as_nanos()),
                    "relative_time" => required(|row| row.relative_time),
                    "service_time" => required(|row| row.service_time),
                    "processing_time" => nullable(|row| row.processing_time),
                    "latency" => nullable(|row| row.latency),
                    "dispatch_lag" => nullable(|row| row.dispatch_lag),
                    _ => required(|row| row.weight),
                };
                writer.write_batch(&values, levels.as_deref(), None)?;
            }
            ColumnWriter::ByteArrayColumnWriter(writer) if field == "meta" => {
                let json = |row: &Row| row.meta.map(|(begin, end)| meta.slice(begin as usize..end as usize).into());
                let (values, levels) = optional(rows, json);
                writer.write_batch(&values, Some(&levels), None)?;
            }
            ColumnWriter::ByteArrayColumnWriter(writer) => {
                let text = |place: u32| ByteArray::from(self.texts[place as usize].clone());
                let value = |row: &Row| match field {
                    "task" => text(row.names.task),
                    "operation" => text(row.names.operation),
                    "operation_type" => text(row.names.operation_type),
                    "sample_type" => Bytes::from_static(match row.sample_type {
                        SampleType::Warmup => b"warmup",
                        SampleType::Normal => b"normal",
                    })
                    .into(),
                    _ => text(row.unit),
                };
                writer.write_batch(&rows.iter().map(value).collect::<Vec<_>>(), None, None)?;
            }
            _ => return Err(ParquetError::General(format!("column `{field}` has a type that is not written"))),
        }
        Ok(())
    }
}

/// The place of a text, which is added if it is new.
fn place(texts: &mut IndexSet<Bytes>, text: &str) -> u32 {
    let known = texts.get_index_of(text.as_bytes());
    known.unwrap_or_else(|| texts.insert_full(Bytes::copy_from_slice(text.as_bytes())).0) as u32
}

/// The values that are there, and for every row whether it has one.
fn optional<T>(rows: &[Row], value: impl Fn(&Row) -> Option<T>) -> (Vec<T>, Vec<i16>) {
    let mut values = Vec::with_capacity(rows.len());
    let levels = rows
        .iter()
        .map(|row| match value(row) {
            Some(value) => {
                values.push(value);
                1
            }
            None => 0,
        })
        .collect();
    (values, levels)
}

#[cfg(test)]
mod tests {
    use rally_core::TaskIndex;
    use rally_core::track::{Challenge, Operation, Track};

    use super::*;

    #[test]
    fn a_group_needs_little_memory_however_many_samples_pass_through_it() {
        let challenge = Challenge::builder("all").task(Task::builder(Operation::builder("search")));
        let track = Track::builder("all").challenge(challenge).build().unwrap();
        let mut group = RowGroup::new(track.challenges[0].tasks());
        let meta = "x".repeat(1_000);
        let (mut seen, mut full) = (0, 0);
        for number in 0..4 * ROWS {
            let (operation, unit) = (format!("query {number}"), format!("units of {number}"));
            group.add(
                ClusterTime::from_nanos(0),
                &RawSample {
                    task: TaskIndex(0),
                    inner: Some((&operation, "search")),
                    client: 0,
                    sample_type: SampleType::Normal,
                    called: 0,
                    service_time: 1,
                    processing_time: None,
                    latency: None,
                    dispatch_lag: None,
                    weight: 1,
                    unit: &unit,
                    success: true,
                    throughput: None,
                    meta: (number % 2 == 0).then_some(&meta),
                },
            );
            if group.is_full() {
                (seen, full) = (seen + group.rows.len(), full + 1);
                group.clear();
            }
        }
        assert!(full > 30 && seen + group.rows.len() == 4 * ROWS, "{full} full groups with {seen} rows");
        assert!(group.texts.len() <= 3 + 2 * group.rows.len());
        let bytes = group.rows.capacity() * size_of::<Row>() + group.meta.capacity();
        assert!(bytes <= 6 << 20, "{bytes} bytes");
    }
}
