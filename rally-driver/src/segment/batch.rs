//! Raw samples on their way from a worker to the thread that writes them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rally_core::metrics::SampleType;
use rally_core::track::JsonObject;
use rally_core::{ClusterTime, TaskIndex};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::recorder::StepStart;

/// A worker hands over what it has when it has this many bytes: about two thousand samples.
const BATCH_BYTES: usize = 64 << 10;

/// Bytes that may wait for the disk, of all workers together: with 30 bytes each, two and a half seconds of 100,000 requests
/// a second.
pub(super) const WAITING_BYTES: u64 = 8 << 20;

/// Batches that may wait for the disk. Each worker makes at least one per second, however small.
const BATCHES: usize = 1_024;

/// A sample, or an operation inside a composite one.
///
/// While it waits to be written it has the encoding of postcard, in which small numbers are short.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RawSample<'a> {
    pub(crate) task: TaskIndex,
    /// Name and type of an operation inside a composite one.
    pub(crate) inner: Option<(&'a str, &'a str)>,
    pub(crate) client: u32,
    pub(crate) sample_type: SampleType,
    /// Nanoseconds since the start of the step.
    pub(crate) called: u64,
    pub(crate) service_time: u64,
    /// None for inner operations, and so are the next two.
    pub(crate) processing_time: Option<u64>,
    pub(crate) latency: Option<u64>,
    pub(crate) dispatch_lag: Option<u64>,
    pub(crate) weight: u64,
    pub(crate) unit: &'a str,
    pub(crate) success: bool,
    pub(crate) throughput: Option<f64>,
    /// A JSON object; the collector puts it in.
    pub(crate) meta: Option<&'a str>,
}

/// Samples of one worker in one step.
#[derive(Debug)]
pub(super) struct Batch {
    /// When the step began.
    pub(super) start: ClusterTime,
    /// One sample after the other.
    bytes: Box<[u8]>,
    /// Calls of runners among the samples; the others are inner operations.
    pub(super) calls: u64,
}

impl Batch {
    /// The samples, in the order in which they were made.
    pub(super) fn samples(&self) -> impl Iterator<Item = RawSample<'_>> {
        let mut rest = &*self.bytes;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let (sample, after) =
                postcard::take_from_bytes(rest).expect("a batch holds whole samples of its collector");
            rest = after;
            Some(sample)
        })
    }

    /// Its bytes.
    pub(super) fn length(&self) -> u64 {
        self.bytes.len() as u64
    }
}

/// Collects the samples of one worker in one step. What is neither [sent](Self::send) nor sent by itself is lost.
#[derive(Debug)]
pub(crate) struct SampleCollector {
    sender: SampleSender,
    start: ClusterTime,
    bytes: Vec<u8>,
    calls: u64,
    /// Room for the JSON of one sample.
    json: Vec<u8>,
}

impl SampleCollector {
    pub(crate) fn new(sender: SampleSender, start: StepStart) -> Self {
        Self { sender, start: start.cluster, bytes: Vec::new(), calls: 0, json: Vec::new() }
    }

    /// Adds a sample with what its runner says of it.
    pub(crate) fn add(&mut self, sample: RawSample<'_>, meta: &JsonObject) {
        self.json.clear();
        if !meta.is_empty() {
            serde_json::to_writer(&mut self.json, meta).expect("a JSON object can be written to memory");
        }
        let json = str::from_utf8(&self.json).expect("JSON is text");
        let sample = RawSample { meta: (!json.is_empty()).then_some(json), ..sample };
        let bytes = std::mem::take(&mut self.bytes);
        self.bytes = postcard::to_extend(&sample, bytes).expect("a sample can be written to memory");
        self.calls += u64::from(sample.inner.is_none());
        if self.bytes.len() >= BATCH_BYTES {
            self.send();
        }
    }

    /// Hands over what there is, and keeps the room for what comes.
    pub(crate) fn send(&mut self) {
        if !self.bytes.is_empty() {
            let (bytes, calls) = (Box::from(&*self.bytes), std::mem::take(&mut self.calls));
            self.bytes.clear();
            self.sender.send(Batch { start: self.start, bytes, calls });
        }
    }
}

/// Samples that were written and that were not.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) written: AtomicU64,
    pub(super) unwritten: AtomicU64,
    /// Bytes that were handed over and not yet looked at.
    pub(super) waiting: AtomicU64,
}

/// What the writer is told.
#[derive(Debug)]
pub(super) enum Order {
    Write(Batch),
    /// Nothing more is written, even if a worker is left that does not know.
    End,
}

/// Hands batches over to the writer.
#[derive(Clone, Debug)]
pub(crate) struct SampleSender {
    orders: mpsc::Sender<Order>,
    counts: Arc<Counts>,
}

impl SampleSender {
    /// The two ends.
    pub(super) fn new(counts: Arc<Counts>) -> (Self, mpsc::Receiver<Order>) {
        let (orders, receiver) = mpsc::channel(BATCHES);
        (Self { orders, counts }, receiver)
    }

    /// Hands a batch over. It never waits: if the disk is too slow, its samples are not written.
    fn send(&self, batch: Batch) {
        let (bytes, calls) = (batch.length(), batch.calls);
        let before = self.counts.waiting.fetch_add(bytes, Ordering::Relaxed);
        // What comes when nothing waits is taken, however much it is.
        let has_room = before == 0 || before + bytes <= WAITING_BYTES;
        if !has_room || self.orders.try_send(Order::Write(batch)).is_err() {
            self.counts.waiting.fetch_sub(bytes, Ordering::Relaxed);
            self.counts.unwritten.fetch_add(calls, Ordering::Relaxed);
        }
    }

    /// Tells the writer to end once it has written what waits.
    pub(super) async fn end(self) {
        // A writer that is gone has ended.
        let _ = self.orders.send(Order::End).await;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SAMPLE: RawSample<'_> = RawSample {
        task: TaskIndex(3),
        inner: None,
        client: 31,
        sample_type: SampleType::Normal,
        called: 3_600_000_000_000,
        service_time: 1_000_000,
        processing_time: Some(1_100_000),
        latency: Some(1_200_000),
        dispatch_lag: Some(100_000),
        weight: 1,
        unit: "ops",
        success: true,
        throughput: None,
        meta: None,
    };

    /// A collector whose writer takes nothing by itself.
    fn stalled() -> (SampleCollector, mpsc::Receiver<Order>, Arc<Counts>) {
        let counts = Arc::<Counts>::default();
        let (sender, orders) = SampleSender::new(Arc::clone(&counts));
        let start = StepStart { monotonic: 0, cluster: ClusterTime::from_nanos(7) };
        (SampleCollector::new(sender, start), orders, counts)
    }

    fn batches(mut orders: mpsc::Receiver<Order>) -> Vec<Batch> {
        let next = || match orders.try_recv() {
            Ok(Order::Write(batch)) => Some(batch),
            Ok(Order::End) | Err(_) => None,
        };
        std::iter::from_fn(next).collect()
    }

    fn object(value: serde_json::Value) -> JsonObject {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn samples_arrive_as_they_were_made() {
        let (mut collector, orders, _) = stalled();
        let inner = RawSample {
            inner: Some(("a query", "search")),
            sample_type: SampleType::Warmup,
            processing_time: None,
            latency: None,
            dispatch_lag: None,
            success: false,
            ..SAMPLE
        };
        let reporting = RawSample { throughput: Some(0.1), weight: u64::MAX, unit: "docs", ..SAMPLE };
        collector.add(inner, &object(json!({ "took": 3 })));
        collector.add(SAMPLE, &JsonObject::new());
        collector
            .add(reporting, &object(json!({ "error-type": "transport", "error-description": "\"no\" \u{1F4A5}" })));
        collector.send();
        collector.send();
        let batches = batches(orders);
        let [batch] = &batches[..] else { panic!("{batches:?}") };
        assert_eq!((batch.start, batch.calls), (ClusterTime::from_nanos(7), 2));
        let expected = [
            RawSample { meta: Some("{\"took\":3}"), ..inner },
            SAMPLE,
            RawSample {
                meta: Some("{\"error-type\":\"transport\",\"error-description\":\"\\\"no\\\" \u{1F4A5}\"}"),
                ..reporting
            },
        ];
        assert_eq!(batch.samples().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_waits_for_the_disk_is_bounded_and_what_does_not_fit_is_counted_as_not_written() {
        const MADE: u64 = 400_000;
        let (mut collector, orders, counts) = stalled();
        for _ in 0..MADE {
            collector.add(SAMPLE, &JsonObject::new());
            assert!(collector.bytes.len() < BATCH_BYTES);
        }
        collector.send();
        let waiting = counts.waiting.load(Ordering::Relaxed);
        assert!(waiting <= WAITING_BYTES, "{waiting}");
        let batches = batches(orders);
        assert_eq!(batches.iter().map(Batch::length).sum::<u64>(), waiting);
        let calls: u64 = batches.iter().map(|batch| batch.calls).sum();
        // As many as 100,000 requests a second make in two seconds and a half.
        assert!((250_000..MADE).contains(&calls), "{calls}");
        assert_eq!(counts.unwritten.load(Ordering::Relaxed), MADE - calls);
        let decoded: usize = batches.iter().map(|batch| batch.samples().count()).sum();
        assert_eq!(decoded as u64, calls);
    }

    #[test]
    fn one_batch_is_taken_however_large_it_is() {
        let (mut collector, orders, counts) = stalled();
        let text = "x".repeat(WAITING_BYTES as usize);
        collector.add(SAMPLE, &object(json!({ "error-description": text })));
        collector.add(SAMPLE, &JsonObject::new());
        collector.send();
        assert_eq!(counts.unwritten.load(Ordering::Relaxed), 1);
        assert_eq!(batches(orders).iter().map(|batch| batch.calls).sum::<u64>(), 1);
    }

    #[tokio::test]
    async fn what_comes_behind_the_end_is_counted_as_not_written() {
        let (mut collector, mut orders, counts) = stalled();
        collector.sender.clone().end().await;
        assert!(matches!(orders.recv().await, Some(Order::End)));
        drop(orders);
        collector.add(SAMPLE, &JsonObject::new());
        collector.send();
        assert_eq!(counts.unwritten.load(Ordering::Relaxed), 1);
    }
}
