//! The thread that writes segments.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use parquet::errors::ParquetError;
use parquet::file::writer::SerializedFileWriter;
use rally_core::ContentHash;
use rally_core::track::Task;
use tokio::sync::mpsc;

use super::batch::{Batch, Counts, Order, SampleSender};
use super::row_group::{RowGroup, properties, schema};

/// A segment is complete when it has this many bytes. What is known of its row groups waits in memory until then, and most of
/// it may be under way at once when it is fetched.
const SEGMENT_BYTES: u64 = 2 << 20;

/// Announcements that may wait for the race. The thread waits if there are more.
const ANNOUNCEMENTS: usize = 64;

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

/// Writes segments on a thread of its own.
#[derive(Debug)]
pub(crate) struct SegmentWriter {
    samples: SampleSender,
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
        tasks: &[Arc<Task>],
    ) -> Result<Self, WriteSegmentError> {
        let failed = |source| WriteSegmentError::File { path: directory.to_owned(), source };
        fs::create_dir_all(directory).map_err(failed)?;
        let counts = Arc::<Counts>::default();
        let (samples, orders) = SampleSender::new(Arc::clone(&counts));
        let (announce, announcements) = mpsc::channel(ANNOUNCEMENTS);
        let thread = WriterThread {
            directory: directory.to_owned(),
            part: directory.join(format!("{prefix}.part")),
            left: cap,
            rows: RowGroup::new(tasks.iter().map(|task| &**task)),
            announce,
            counts: Arc::clone(&counts),
            segment: None,
            open: 0,
        };
        let thread = std::thread::Builder::new()
            .name("segments".to_owned())
            .spawn(move || thread.run(orders))
            .map_err(failed)?;
        Ok(Self { samples, announcements, counts, thread })
    }

    /// Where workers hand samples over.
    pub(crate) fn samples(&self) -> SampleSender {
        self.samples.clone()
    }

    /// The next announcement; none once the thread is gone.
    pub(crate) async fn announcement(&mut self) -> Option<Announcement> {
        self.announcements.recv().await
    }

    /// Samples that are in a file, and samples that never will be.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.counts.written.load(Ordering::Relaxed), self.counts.unwritten.load(Ordering::Relaxed))
    }

    /// Completes the last segment, also if workers are left. Gives the last announcements and counts.
    pub(crate) async fn finish(self) -> (Vec<Announcement>, (u64, u64)) {
        let Self { samples, mut announcements, counts, thread } = self;
        let mut last = Vec::new();
        let listen = async {
            while let Some(announcement) = announcements.recv().await {
                last.push(announcement);
            }
        };
        // The thread may wait for somebody who listens before it takes the order.
        tokio::join!(samples.end(), listen);
        // It has dropped its end of the channel, so it is about to end.
        let _ = thread.join();
        (last, (counts.written.load(Ordering::Relaxed), counts.unwritten.load(Ordering::Relaxed)))
    }
}

/// What lives on the writer's thread.
struct WriterThread {
    directory: PathBuf,
    part: PathBuf,
    /// Bytes that may still be written.
    left: u64,
    /// What is written next.
    rows: RowGroup,
    announce: mpsc::Sender<Announcement>,
    counts: Arc<Counts>,
    segment: Option<Segment>,
    /// Samples in the segment that is not complete.
    open: u64,
}

/// A file that is being written.
type Segment = SerializedFileWriter<HashingFile>;

impl WriterThread {
    fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let mut has_room = true;
        while let Some(Order::Write(batch)) = orders.blocking_recv() {
            if has_room {
                has_room = self.write(&batch);
            } else {
                self.counts.unwritten.fetch_add(batch.calls, Ordering::Relaxed);
            }
            self.counts.waiting.fetch_sub(batch.length(), Ordering::Relaxed);
        }
        if has_room && let Err(error) = self.write_group().and_then(|()| self.complete()) {
            self.fail(error);
        }
    }

    /// Takes the samples of a batch, and writes those for which a group is full. Says whether there is room for more.
    fn write(&mut self, batch: &Batch) -> bool {
        let mut samples = batch.samples();
        let result = samples.by_ref().try_for_each(|sample| {
            self.rows.add(batch.start, &sample);
            if !self.rows.is_full() {
                return Ok(());
            }
            match self.write_group() {
                Ok(()) if self.left > 0 => Ok(()),
                Ok(()) => Err(None),
                Err(error) => Err(Some(error)),
            }
        });
        let Err(end) = result else { return true };
        let lost = samples.filter(|sample| sample.inner.is_none()).count() as u64;
        self.counts.unwritten.fetch_add(lost, Ordering::Relaxed);
        match end {
            Some(error) => self.fail(error),
            None => self.say(Announcement::CapReached),
        }
        false
    }

    /// Writes the rows that wait, if there are any, and completes a segment that is large or the last.
    fn write_group(&mut self) -> Result<(), WriteSegmentError> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let samples = self.rows.calls();
        let before = self.segment.as_ref().map_or(0, Segment::bytes_written) as u64;
        let written = self.append();
        self.rows.clear();
        let counted = if written.is_ok() { &self.counts.written } else { &self.counts.unwritten };
        counted.fetch_add(samples, Ordering::Relaxed);
        let length = written?;
        self.open += samples;
        self.left = self.left.saturating_sub(length - before);
        if self.left == 0 || length >= SEGMENT_BYTES { self.complete() } else { Ok(()) }
    }

    /// Appends the rows to the segment. Gives its length.
    fn append(&mut self) -> Result<u64, WriteSegmentError> {
        let mut segment = match self.segment.take() {
            Some(segment) => segment,
            None => self.begin()?,
        };
        let written = segment.next_row_group().and_then(|group| self.rows.write(group));
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

    /// Gives up for good: the segment that is not complete is removed, and its samples are not written after all.
    fn fail(&mut self, error: WriteSegmentError) {
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
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::RowAccessor;
    use rally_core::metrics::SampleType;
    use rally_core::track::{Challenge, JsonObject, Operation, Task, Track};
    use rally_core::{ClusterTime, TaskIndex};
    use serde_json::json;

    use super::super::batch::{RawSample, SampleCollector};
    use super::super::row_group::{META_BYTES, ROWS};
    use super::*;
    use crate::recorder::StepStart;

    const GROUP: u64 = ROWS as u64;

    const SAMPLE: RawSample<'_> = RawSample {
        task: TaskIndex(0),
        inner: None,
        client: 0,
        sample_type: SampleType::Normal,
        called: 1_000_000_000,
        service_time: 100_000,
        processing_time: Some(110_000),
        latency: Some(120_000),
        dispatch_lag: Some(20_000),
        weight: 1,
        unit: "ops",
        success: true,
        throughput: None,
        meta: None,
    };

    fn writer(directory: &Path) -> SegmentWriter {
        let challenge = Challenge::builder("all").task(Task::builder(Operation::builder("search")));
        let track = Track::builder("all").challenge(challenge).build().unwrap();
        let tasks: Vec<_> = track.challenges[0].tasks().cloned().map(Arc::new).collect();
        SegmentWriter::start(directory, "race", u64::MAX, &tasks).unwrap()
    }

    fn collector(writer: &SegmentWriter) -> SampleCollector {
        let start = StepStart { monotonic: 0, cluster: ClusterTime::from_nanos(0) };
        SampleCollector::new(writer.samples(), start)
    }

    fn write(writer: &SegmentWriter, samples: u64, meta: &JsonObject) {
        let mut collector = collector(writer);
        (0..samples).for_each(|_| collector.add(SAMPLE, meta));
        collector.send();
    }

    /// The only segment of a race.
    async fn read(directory: &Path, writer: SegmentWriter) -> SerializedFileReader<File> {
        let (announcements, _) = writer.finish().await;
        let [Announcement::Written { hash, .. }] = announcements[..] else { panic!("{announcements:?}") };
        SerializedFileReader::new(File::open(segment_path(directory, hash)).unwrap()).unwrap()
    }

    #[tokio::test]
    async fn a_row_has_everything_of_its_sample() {
        let directory = tempfile::tempdir().unwrap();
        let writer = writer(directory.path());
        let start = StepStart { monotonic: 0, cluster: ClusterTime::from_nanos(5_000_000_000) };
        let mut collector = SampleCollector::new(writer.samples(), start);
        let inner = RawSample {
            inner: Some(("a query", "paginated-search")),
            client: 2,
            sample_type: SampleType::Warmup,
            processing_time: None,
            latency: None,
            dispatch_lag: None,
            throughput: Some(0.5),
            weight: 3,
            unit: "pages",
            success: false,
            ..SAMPLE
        };
        let meta = json!({ "hits": 7 });
        collector.add(SAMPLE, &JsonObject::new());
        collector.add(inner, meta.as_object().unwrap());
        collector.send();
        let reader = read(directory.path(), writer).await;
        let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(|row| row.unwrap().to_string()).collect();
        let expected = [
            "task: \"search\", operation: \"search\", operation_type: \"search\", inner: false, client: 0, \
             sample_type: \"normal\", time: 6000000000, relative_time: 1000000000, service_time: 100000, \
             processing_time: 110000, latency: 120000, dispatch_lag: 20000, weight: 1, unit: \"ops\", success: true, \
             throughput: null, meta: null",
            "task: \"search\", operation: \"a query\", operation_type: \"paginated-search\", inner: true, client: 2, \
             sample_type: \"warmup\", time: 6000000000, relative_time: 1000000000, service_time: 100000, \
             processing_time: null, latency: null, dispatch_lag: null, weight: 3, unit: \"pages\", success: false, \
             throughput: 0.5, meta: \"{\"hits\":7}\"",
        ];
        assert_eq!(rows, expected.map(|row| format!("{{{row}}}")));
    }

    #[tokio::test]
    async fn a_group_ends_when_it_has_enough_rows_or_much_is_said_of_them() {
        let directory = tempfile::tempdir().unwrap();
        let writer = writer(directory.path());
        let meta = json!({ "error-description": "x".repeat(META_BYTES / 8) });
        write(&writer, GROUP + 1, &JsonObject::new());
        write(&writer, 15, meta.as_object().unwrap());
        let reader = read(directory.path(), writer).await;
        let groups: Vec<_> = reader.metadata().row_groups().iter().map(|group| group.num_rows() as u64).collect();
        assert_eq!(groups, [GROUP, 1 + 8, 7]);
        let last = reader.get_row_iter(None).unwrap().last().unwrap().unwrap();
        assert_eq!(*last.get_string(16).unwrap(), meta.to_string());
    }

    #[tokio::test]
    async fn a_failure_is_announced_at_once_and_every_sample_counts_as_not_written() {
        let directory = tempfile::tempdir().unwrap();
        // Where the file should be is a directory.
        fs::create_dir(directory.path().join("race.part")).unwrap();
        let mut writer = writer(directory.path());
        write(&writer, GROUP + 1, &JsonObject::new());
        assert!(matches!(writer.announcement().await, Some(Announcement::Failed(_))));
        write(&writer, GROUP, &JsonObject::new());
        let (announcements, counts) = writer.finish().await;
        assert!(announcements.is_empty(), "{announcements:?}");
        assert_eq!(counts, (0, 2 * GROUP + 1));
    }

    #[tokio::test]
    async fn samples_of_a_segment_that_cannot_be_completed_are_not_written() {
        let directory = tempfile::tempdir().unwrap();
        let segments = directory.path().join("segments");
        let writer = writer(&segments);
        write(&writer, GROUP, &JsonObject::new());
        while writer.counts() == (0, 0) {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        assert_eq!(writer.counts(), (GROUP, 0));
        fs::remove_dir_all(&segments).unwrap();
        let (announcements, counts) = writer.finish().await;
        assert!(matches!(announcements[..], [Announcement::Failed(_)]), "{announcements:?}");
        assert_eq!(counts, (0, GROUP));
    }
}
