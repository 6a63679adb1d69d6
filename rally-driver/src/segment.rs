//! Raw samples on disk: Parquet files, compressed with zstd, each named by the hash of its content.
//!
//! | column | type | meaning |
//! | --- | --- | --- |
//! | `task` | text | the task |
//! | `operation`, `operation_type` | text | its operation, or the operation inside a composite one |
//! | `inner` | boolean | whether it is an operation inside a composite one |
//! | `client` | 32 bits | the client of the race |
//! | `sample_type` | text | `warmup` or `normal` |
//! | `time` | timestamp | when the runner was called, in coordinator time |
//! | `relative_time` | 64 bits | the same in nanoseconds since the start of the step |
//! | `service_time` | 64 bits | nanoseconds |
//! | `processing_time`, `latency` | 64 bits | nanoseconds; none for inner operations |
//! | `dispatch_lag` | 64 bits | nanoseconds; none if the task is not throttled |
//! | `weight`, `unit` | 64 bits, text | work that was done |
//! | `success` | boolean | |
//! | `throughput` | double | units per second, if the runner knows better than the driver |
//! | `meta` | text | a JSON object of what the runner says of it, and of what went wrong |

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use parquet::basic::{Compression, ZstdLevel};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::properties::{WriterProperties, WriterPropertiesPtr};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::TypePtr;
use rally_core::ContentHash;
use rally_core::metrics::SampleType;
use rally_core::track::Task;
use tokio::sync::mpsc;

use crate::recorder::{RawSample, StepStart};

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

/// Samples of one row group; a group is written at once and needs memory until then.
const GROUP: usize = 32_768;

/// A segment is complete when it has this many bytes, so that it can be shipped while the race goes on.
const SEGMENT_BYTES: u64 = 32 << 20;

/// Batches that may wait for the disk. Each worker makes one per second.
const BATCHES: usize = 64;

/// Samples that may wait for the disk, of about 150 bytes each: two and a half seconds of a driver that sends 100,000
/// requests a second.
const WAITING: u64 = 1 << 18;

/// Announcements that may wait for the race. The thread waits if there are more.
const ANNOUNCEMENTS: usize = 64;

/// The samples of one worker in one second.
struct Batch {
    start: StepStart,
    samples: Vec<RawSample>,
}

/// What a writer has to say.
#[derive(Debug)]
pub(crate) enum Announcement {
    /// A segment is complete.
    Written { hash: ContentHash, length: u64 },
    /// The cap is reached; nothing more is written.
    CapReached,
    /// The disk failed; nothing more is written.
    Failed(WriteSegmentError),
}

/// Raw samples cannot be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteSegmentError {
    #[error("failed to write raw samples to {}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("failed to write raw samples to {}", path.display())]
    Parquet { path: PathBuf, source: ParquetError },
}

/// Samples that were written and that were not.
#[derive(Debug, Default)]
struct Counts {
    written: AtomicU64,
    unwritten: AtomicU64,
    /// Rows that were handed over and not yet looked at.
    waiting: AtomicU64,
}

/// Writes segments on a thread of its own.
#[derive(Debug)]
pub(crate) struct SegmentWriter {
    batches: SyncSender<Batch>,
    announcements: mpsc::Receiver<Announcement>,
    counts: Arc<Counts>,
    thread: JoinHandle<()>,
}

impl SegmentWriter {
    /// Starts the thread. `prefix` names the files that are not complete yet.
    ///
    /// # Errors
    ///
    /// [`WriteSegmentError`] if the directory cannot be made or there is no thread left.
    pub(crate) fn start(
        directory: &Path,
        prefix: &str,
        cap: u64,
        tasks: Vec<Arc<Task>>,
    ) -> Result<Self, WriteSegmentError> {
        let failed = |source| WriteSegmentError::File { path: directory.to_owned(), source };
        fs::create_dir_all(directory).map_err(failed)?;
        let (batches, receiver) = sync_channel(BATCHES);
        let (announce, announcements) = mpsc::channel(ANNOUNCEMENTS);
        let counts = Arc::<Counts>::default();
        let thread = WriterThread {
            directory: directory.to_owned(),
            part: directory.join(format!("{prefix}.part")),
            left: cap,
            tasks,
            announce,
            counts: Arc::clone(&counts),
            segment: None,
            open: 0,
            waiting: Vec::new(),
        };
        let thread = std::thread::Builder::new()
            .name("segments".to_owned())
            .spawn(move || thread.run(&receiver))
            .map_err(failed)?;
        Ok(Self { batches, announcements, counts, thread })
    }

    /// Hands samples over. It never waits: if the disk is too slow, they are not written.
    pub(crate) fn write(&self, start: StepStart, samples: Vec<RawSample>) {
        let (rows, count) = (samples.len() as u64, outer(&samples));
        let before = self.counts.waiting.fetch_add(rows, Ordering::Relaxed);
        // What comes when nothing waits is taken, however much it is.
        let has_room = before == 0 || before + rows <= WAITING;
        if !has_room || self.batches.try_send(Batch { start, samples }).is_err() {
            self.counts.waiting.fetch_sub(rows, Ordering::Relaxed);
            self.counts.unwritten.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// The next announcement; none once the thread is gone.
    pub(crate) async fn announcement(&mut self) -> Option<Announcement> {
        self.announcements.recv().await
    }

    /// Samples that are in a file, and samples that never will be.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.counts.written.load(Ordering::Relaxed), self.counts.unwritten.load(Ordering::Relaxed))
    }

    /// Completes the last segment. Gives the last announcements and counts.
    pub(crate) async fn finish(self) -> (Vec<Announcement>, (u64, u64)) {
        let Self { batches, mut announcements, counts, thread } = self;
        drop(batches);
        let mut last = Vec::new();
        while let Some(announcement) = announcements.recv().await {
            last.push(announcement);
        }
        // It has dropped its end of the channel, so it is about to end.
        let _ = thread.join();
        (last, (counts.written.load(Ordering::Relaxed), counts.unwritten.load(Ordering::Relaxed)))
    }
}

/// Calls of runners among samples; the others are inner operations.
fn outer(samples: &[RawSample]) -> u64 {
    samples.iter().filter(|sample| sample.inner.is_none()).count() as u64
}

/// What lives on the writer's thread.
struct WriterThread {
    directory: PathBuf,
    part: PathBuf,
    /// Bytes that may still be written.
    left: u64,
    tasks: Vec<Arc<Task>>,
    announce: mpsc::Sender<Announcement>,
    counts: Arc<Counts>,
    segment: Option<Segment>,
    /// Samples in the segment that is not complete.
    open: u64,
    waiting: Vec<Row>,
}

/// A file that is being written.
type Segment = SerializedFileWriter<HashingFile>;

/// A sample with everything that its row needs.
struct Row {
    start: StepStart,
    sample: RawSample,
}

impl WriterThread {
    fn run(mut self, batches: &Receiver<Batch>) {
        let mut has_room = true;
        while let Ok(Batch { start, samples }) = batches.recv() {
            let rows = samples.len() as u64;
            if !has_room {
                self.counts.unwritten.fetch_add(outer(&samples), Ordering::Relaxed);
                self.counts.waiting.fetch_sub(rows, Ordering::Relaxed);
                continue;
            }
            self.waiting.extend(samples.into_iter().map(|sample| Row { start, sample }));
            has_room = match self.write_groups(GROUP) {
                Ok(true) => true,
                Ok(false) => {
                    self.say(Announcement::CapReached);
                    false
                }
                Err(error) => {
                    self.fail(error);
                    false
                }
            };
            self.counts.waiting.fetch_sub(rows, Ordering::Relaxed);
        }
        if has_room && let Err(error) = self.write_groups(1).and_then(|_| self.complete()) {
            self.fail(error);
        }
    }

    /// Writes what waits in groups, as long as there are enough for one. Says whether there is room for more.
    fn write_groups(&mut self, enough: usize) -> Result<bool, WriteSegmentError> {
        let mut waiting = std::mem::take(&mut self.waiting);
        let mut done = 0;
        while waiting.len() - done >= enough {
            let rows = &waiting[done..waiting.len().min(done + GROUP)];
            done += rows.len();
            let before = self.segment.as_ref().map_or(0, Segment::bytes_written) as u64;
            let samples = rows.iter().filter(|row| row.sample.inner.is_none()).count() as u64;
            let written = self.write_group(rows);
            let counted = if written.is_ok() { &self.counts.written } else { &self.counts.unwritten };
            counted.fetch_add(samples, Ordering::Relaxed);
            let ended = written.and_then(|length| {
                self.open += samples;
                self.left = self.left.saturating_sub(length - before);
                if self.left == 0 || length >= SEGMENT_BYTES { self.complete() } else { Ok(()) }
            });
            if ended.is_err() || self.left == 0 {
                self.waiting = waiting.split_off(done);
                ended?;
                self.give_up();
                return Ok(false);
            }
        }
        waiting.drain(..done);
        self.waiting = waiting;
        Ok(true)
    }

    /// Appends a row group. Gives the length of the segment.
    fn write_group(&mut self, rows: &[Row]) -> Result<u64, WriteSegmentError> {
        let mut segment = match self.segment.take() {
            Some(segment) => segment,
            None => self.begin()?,
        };
        let written = segment.next_row_group().and_then(|group| write_columns(group, rows, &self.tasks));
        let length = segment.bytes_written() as u64;
        self.segment = Some(segment);
        written.map_err(|source| WriteSegmentError::Parquet { path: self.part.clone(), source })?;
        Ok(length)
    }

    fn begin(&self) -> Result<Segment, WriteSegmentError> {
        let file = HashingFile::create(&self.part)
            .map_err(|source| WriteSegmentError::File { path: self.part.clone(), source })?;
        let parquet = |source| WriteSegmentError::Parquet { path: self.part.clone(), source };
        let schema = schema().map_err(parquet)?;
        SerializedFileWriter::new(file, schema, properties()).map_err(parquet)
    }

    /// Completes the segment and gives it its name.
    fn complete(&mut self) -> Result<(), WriteSegmentError> {
        let Some(segment) = self.segment.take() else { return Ok(()) };
        let file =
            segment.into_inner().map_err(|source| WriteSegmentError::Parquet { path: self.part.clone(), source })?;
        let named = file.finish().and_then(|(hash, length)| {
            fs::rename(&self.part, segment_path(&self.directory, hash))?;
            Ok(Announcement::Written { hash, length })
        });
        match named {
            Ok(announcement) => {
                self.open = 0;
                self.say(announcement);
            }
            Err(source) => return Err(WriteSegmentError::File { path: self.part.clone(), source }),
        }
        Ok(())
    }

    /// Counts what waits as not written.
    fn give_up(&mut self) {
        let samples = self.waiting.drain(..).filter(|row| row.sample.inner.is_none()).count() as u64;
        self.counts.unwritten.fetch_add(samples, Ordering::Relaxed);
    }

    /// Gives up for good: the segment that is not complete is removed, and its samples are not written after all.
    fn fail(&mut self, error: WriteSegmentError) {
        self.give_up();
        let open = std::mem::take(&mut self.open);
        self.counts.written.fetch_sub(open, Ordering::Relaxed);
        self.counts.unwritten.fetch_add(open, Ordering::Relaxed);
        self.segment = None;
        let _ = fs::remove_file(&self.part);
        self.say(Announcement::Failed(error));
    }

    fn say(&self, announcement: Announcement) {
        // Without a receiver the race is over.
        let _ = self.announce.blocking_send(announcement);
    }
}

/// Where a complete segment lies.
pub(crate) fn segment_path(directory: &Path, hash: ContentHash) -> PathBuf {
    directory.join(format!("{hash}.parquet"))
}

fn schema() -> Result<TypePtr, ParquetError> {
    static PARSED: OnceLock<TypePtr> = OnceLock::new();
    if let Some(schema) = PARSED.get() {
        return Ok(Arc::clone(schema));
    }
    let schema = Arc::new(parse_message_type(SCHEMA)?);
    Ok(Arc::clone(PARSED.get_or_init(|| schema)))
}

fn properties() -> WriterPropertiesPtr {
    Arc::new(WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build())
}

fn write_columns(
    mut group: SerializedRowGroupWriter<'_, HashingFile>,
    rows: &[Row],
    tasks: &[Arc<Task>],
) -> Result<(), ParquetError> {
    let operation = |row: &Row| match &row.sample.inner {
        Some(inner) => text(&inner.0),
        None => text(&tasks[row.sample.task.0 as usize].operation.name),
    };
    let operation_type = |row: &Row| match &row.sample.inner {
        Some(inner) => text(&inner.1),
        None => text(tasks[row.sample.task.0 as usize].operation.operation_type.as_str()),
    };
    let mut name = 0;
    let fields = schema()?;
    while let Some(mut column) = group.next_column()? {
        let field = fields.get_fields()[name].name();
        name += 1;
        match column.untyped() {
            ColumnWriter::BoolColumnWriter(writer) => {
                let value = |row: &Row| if field == "inner" { row.sample.inner.is_some() } else { row.sample.success };
                writer.write_batch(&rows.iter().map(value).collect::<Vec<_>>(), None, None)?;
            }
            ColumnWriter::Int32ColumnWriter(writer) => {
                writer.write_batch(&rows.iter().map(|row| row.sample.client as i32).collect::<Vec<_>>(), None, None)?;
            }
            ColumnWriter::DoubleColumnWriter(writer) => {
                let (values, levels) = optional(rows, |row| row.sample.throughput);
                writer.write_batch(&values, Some(&levels), None)?;
            }
            ColumnWriter::Int64ColumnWriter(writer) => {
                let required = |value: fn(&Row) -> u64| (rows.iter().map(|row| value(row) as i64).collect(), None);
                let nullable = |value: fn(&Row) -> Option<u64>| {
                    let (values, levels) = optional(rows, |row| value(row).map(|value| value as i64));
                    (values, Some(levels))
                };
                let (values, levels): (Vec<i64>, _) = match field {
                    "time" => required(|row| row.start.to_cluster(row.sample.called).as_nanos()),
                    "relative_time" => required(|row| row.start.since(row.sample.called)),
                    "service_time" => required(|row| row.sample.service_time),
                    "processing_time" => nullable(|row| row.sample.processing_time),
                    "latency" => nullable(|row| row.sample.latency),
                    "dispatch_lag" => nullable(|row| row.sample.dispatch_lag),
                    _ => required(|row| row.sample.weight),
                };
                writer.write_batch(&values, levels.as_deref(), None)?;
            }
            ColumnWriter::ByteArrayColumnWriter(writer) if field == "meta" => {
                let json = |row: &Row| row.sample.meta.as_ref().and_then(|meta| serde_json::to_vec(meta).ok());
                let (values, levels) = optional(rows, |row| json(row).map(ByteArray::from));
                writer.write_batch(&values, Some(&levels), None)?;
            }
            ColumnWriter::ByteArrayColumnWriter(writer) => {
                let value = |row: &Row| match field {
                    "task" => text(&tasks[row.sample.task.0 as usize].name),
                    "operation" => operation(row),
                    "operation_type" => operation_type(row),
                    "sample_type" => text(match row.sample.sample_type {
                        SampleType::Warmup => "warmup",
                        SampleType::Normal => "normal",
                    }),
                    _ => text(&row.sample.unit),
                };
                writer.write_batch(&rows.iter().map(value).collect::<Vec<_>>(), None, None)?;
            }
            _ => return Err(ParquetError::General(format!("column `{field}` has a type that is not written"))),
        }
        column.close()?;
    }
    group.close()?;
    Ok(())
}

fn text(text: &str) -> ByteArray {
    ByteArray::from(text)
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

/// A file whose content is hashed as it is written.
struct HashingFile {
    file: BufWriter<File>,
    hash: blake3::Hasher,
    length: u64,
}

impl HashingFile {
    fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { file: BufWriter::new(File::create(path)?), hash: blake3::Hasher::new(), length: 0 })
    }

    fn finish(mut self) -> io::Result<(ContentHash, u64)> {
        self.file.flush()?;
        Ok((ContentHash::from_bytes(*self.hash.finalize().as_bytes()), self.length))
    }
}

impl Write for HashingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use rally_core::track::{Challenge, Operation, Task, Track};
    use rally_core::{ClusterTime, TaskIndex};

    use super::*;

    fn samples() -> Vec<RawSample> {
        let sample = RawSample {
            task: TaskIndex(0),
            inner: None,
            client: 0,
            sample_type: SampleType::Normal,
            called: 1,
            service_time: 1,
            processing_time: Some(1),
            latency: Some(1),
            dispatch_lag: None,
            weight: 1,
            unit: Cow::Borrowed("ops"),
            success: true,
            throughput: None,
            meta: None,
        };
        vec![sample; GROUP]
    }

    fn writer(directory: &Path) -> SegmentWriter {
        let challenge = Challenge::builder("all").task(Task::builder(Operation::builder("search")));
        let track = Track::builder("all").challenge(challenge).build().unwrap();
        let tasks = track.challenges[0].tasks().cloned().map(Arc::new).collect();
        SegmentWriter::start(directory, "race", u64::MAX, tasks).unwrap()
    }

    fn start() -> StepStart {
        StepStart { monotonic: 0, cluster: ClusterTime::from_nanos(0) }
    }

    #[tokio::test]
    async fn as_many_samples_wait_as_there_is_memory_for_and_others_are_counted_as_not_written() {
        let directory = tempfile::tempdir().unwrap();
        let writer = writer(directory.path());
        writer.counts.waiting.store(WAITING - 1, Ordering::Relaxed);
        writer.write(start(), samples());
        assert_eq!(writer.counts(), (0, GROUP as u64));
        writer.counts.waiting.store(0, Ordering::Relaxed);
        // One batch is taken, however large it is.
        let many: Vec<_> = std::iter::repeat_with(samples).take(9).flatten().collect();
        let count = many.len() as u64;
        assert!(count > WAITING);
        writer.write(start(), many);
        let (_, counts) = writer.finish().await;
        assert_eq!(counts, (count, GROUP as u64));
    }

    #[tokio::test]
    async fn a_failure_is_announced_at_once_and_every_sample_counts_as_not_written() {
        let directory = tempfile::tempdir().unwrap();
        // Where the file should be is a directory.
        fs::create_dir(directory.path().join("race.part")).unwrap();
        let mut writer = writer(directory.path());
        writer.write(start(), samples());
        assert!(matches!(writer.announcement().await, Some(Announcement::Failed(_))));
        assert_eq!(writer.counts(), (0, GROUP as u64));
        writer.write(start(), samples());
        let (announcements, counts) = writer.finish().await;
        assert!(announcements.is_empty(), "{announcements:?}");
        assert_eq!(counts, (0, 2 * GROUP as u64));
    }

    #[tokio::test]
    async fn samples_of_a_segment_that_cannot_be_completed_are_not_written() {
        let directory = tempfile::tempdir().unwrap();
        let segments = directory.path().join("segments");
        let writer = writer(&segments);
        writer.write(start(), samples());
        while writer.counts() == (0, 0) {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        assert_eq!(writer.counts(), (GROUP as u64, 0));
        fs::remove_dir_all(&segments).unwrap();
        let (announcements, counts) = writer.finish().await;
        assert!(matches!(announcements[..], [Announcement::Failed(_)]), "{announcements:?}");
        assert_eq!(counts, (0, GROUP as u64));
    }
}
