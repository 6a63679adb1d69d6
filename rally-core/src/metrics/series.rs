//! What a task did in each second.

use std::collections::BTreeMap;

use futures_util::StreamExt;

use super::{Distribution, Moments, RaceDocument, RecordPages, StoreError, TaskInterval, TimeKind};
use crate::track::JsonObject;

const NANOS_PER_MILLI: f64 = 1e6;

const MILLIS_PER_SECOND: u64 = 1_000;

/// Percentiles that are kept of each second.
const PERCENTILES: [f64; 6] = [50.0, 90.0, 99.0, 99.9, 99.99, 100.0];

/// Seconds of a step that are looked at, about four months; no race has more, whatever a driver says.
pub const MAX_SECONDS: u64 = 10_000_000;

/// The seconds of one task in which it had normal samples. Drivers are added up.
///
/// Of the times of a second that is over, only percentiles are kept.
#[derive(Clone, Debug, Default)]
pub struct TaskSeries {
    /// By second: by kind, then by percentile, in milliseconds.
    times: BTreeMap<u64, [Vec<f64>; 3]>,
    open: Moments<[Distribution; 3]>,
    /// By the second in which requests were started.
    work: BTreeMap<u64, f64>,
    samples: u64,
    failed: u64,
    is_of_records: bool,
}

impl TaskSeries {
    /// Adds what a driver measured in a second of the step; late news count if they are not too late.
    pub fn add(&mut self, second: u64, part: &TaskInterval) {
        self.samples = self.samples.saturating_add(part.samples);
        self.failed = self.failed.saturating_add(part.failed);
        for bin in &part.throughput {
            *self.work.entry(u64::from(bin.second)).or_default() += bin.weight as f64;
        }
        if let Some(open) = self.open.at(second) {
            for (times, more) in open.iter_mut().zip([&part.latency, &part.service_time, &part.processing_time]) {
                times.merge(more);
            }
        }
        self.keep_over();
    }

    /// Nothing more is added.
    pub fn end(&mut self) {
        let rest = self.open.rest();
        self.keep(rest);
    }

    fn keep_over(&mut self) {
        let over = self.open.over();
        self.keep(over);
    }

    fn keep(&mut self, over: impl IntoIterator<Item = (u64, [Distribution; 3])>) {
        let millis = |times: Distribution| {
            times.percentiles(&PERCENTILES).into_iter().map(|nanos| nanos / NANOS_PER_MILLI).collect()
        };
        self.times.extend(over.into_iter().map(|(second, times)| (second, times.map(millis))));
    }

    /// A percentile of the times of each second that has some, in milliseconds; nothing if it is not 50, 90, 99, 99.9, 99.99 or
    /// 100.
    #[must_use]
    pub fn percentile(&self, kind: TimeKind, percentile: f64) -> Vec<f64> {
        let Some(index) = PERCENTILES.iter().position(|known| *known == percentile) else { return Vec::new() };
        self.times.values().filter_map(|times| times[kind as usize].get(index).copied()).collect()
    }

    /// The work of each second between the first and the last one with work, which are not whole; 0 where nothing was done.
    #[must_use]
    pub fn work(&self) -> Vec<f64> {
        let (Some((&first, _)), Some((&last, _))) = (self.work.first_key_value(), self.work.last_key_value()) else {
            return Vec::new();
        };
        let seconds = first.saturating_add(1)..last.min(first.saturating_add(MAX_SECONDS));
        seconds.map(|second| self.work.get(&second).copied().unwrap_or_default()).collect()
    }

    /// Whether these seconds come from records of requests, which do not tell the work that each of them did: what
    /// [`work`](Self::work) gives cannot be held against that of a race whose intervals are known.
    #[must_use]
    pub fn is_of_records(&self) -> bool {
        self.is_of_records
    }

    /// How many normal samples failed, and how many there are.
    #[must_use]
    pub fn failures(&self) -> (u64, u64) {
        (self.failed, self.samples)
    }

    /// Gives the work of each second another unit: that in which its mean is this.
    fn scale_work(&mut self, mean: f64) {
        let work = self.work();
        let own = work.iter().sum::<f64>() / work.len() as f64;
        if own > 0.0 {
            self.work.values_mut().for_each(|work| *work *= mean / own);
        }
    }
}

/// The seconds of tasks by their names, out of records of their requests in the order of time.
///
/// Records tell when requests began and how long they took, but not how much work they did. All requests of a task are taken to
/// do as much, so that its mean throughput is that of the results of the race; a task that is not in them has no series.
///
/// # Errors
///
/// That of the first page that could not be had.
pub async fn series_of_records(
    race: &RaceDocument,
    mut records: RecordPages<'_>,
) -> Result<BTreeMap<String, TaskSeries>, StoreError> {
    let tasks = || race.results.iter().flat_map(|results| &results.op_metrics);
    let of_records = || TaskSeries { is_of_records: true, ..TaskSeries::default() };
    let mut all: BTreeMap<_, _> =
        tasks().map(|task| (task.task.clone(), (task.operation.as_str(), of_records()))).collect();
    while let Some(page) = records.next().await {
        for record in page? {
            let _ = add_record(&mut all, &record);
        }
    }
    for task in tasks() {
        if let Some((_, series)) = all.get_mut(&task.task) {
            series.end();
            series.scale_work(task.throughput.mean.unwrap_or_default());
        }
    }
    Ok(all.into_iter().map(|(task, (_, series))| (task, series)).collect())
}

/// Adds a record if it is one of a request. Operations inside a composite one have a service time, too, under a name of their own.
fn add_record(all: &mut BTreeMap<String, (&str, TaskSeries)>, record: &JsonObject) -> Option<()> {
    let text = |key: &str| record.get(key)?.as_str();
    let kind = match text("name")? {
        "latency" => TimeKind::Latency,
        "service_time" => TimeKind::ServiceTime,
        "processing_time" => TimeKind::ProcessingTime,
        _ => return None,
    };
    let (operation, series) = all.get_mut(text("task")?)?;
    if text("sample-type")? != "normal" || text("operation")? != *operation {
        return None;
    }
    let (millis, value) = (record.get("@timestamp")?.as_u64()?, record.get("value")?.as_f64()?);
    let second = millis / MILLIS_PER_SECOND;
    if kind == TimeKind::Latency {
        *series.work.entry(second).or_default() += 1.0;
        series.samples += 1;
        let success = record.get("meta").and_then(|meta| meta.get("success"));
        series.failed += u64::from(success.is_some_and(|success| *success == false));
    }
    if let Some(open) = series.open.at(second) {
        open[kind as usize].record((value * NANOS_PER_MILLI).round() as u64);
    }
    series.keep_over();
    Some(())
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use serde_json::{Value, json};

    use super::*;
    use crate::TaskIndex;
    use crate::metrics::{Interval, SampleType, ThroughputBin};

    #[test]
    fn requests_of_each_second_are_told_by_records_in_the_unit_of_the_results() {
        let summary = json!({"min": 1.0, "mean": 500.0, "median": 1.0, "max": 1.0, "unit": "docs/s"});
        let times = json!({"mean": null, "unit": "ms"});
        let task = json!({
            "task": "index", "operation": "bulk", "throughput": summary, "latency": times, "service_time": times,
            "processing_time": times, "error_rate": 0.0, "duration": 1.0, "meta": {},
        });
        let race = json!({
            "rally-version": "1", "rally-revision": null, "environment": "local", "race-id": "r", "track": "t",
            "race-timestamp": "20261101T120000Z", "pipeline": "benchmark-only",
            "results": {"cluster_name": "default", "op_metrics": [task]},
        });
        let race: RaceDocument = serde_json::from_value(race).unwrap();
        let record = |second: u64, name: &str, value: f64, change: Value| {
            let mut record = json!({
                "@timestamp": second * 1_000 + 7, "name": name, "value": value, "task": "index", "operation": "bulk",
                "sample-type": "normal",
            });
            record.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            record.as_object().unwrap().clone()
        };
        let mut page = Vec::new();
        // One request, then two in each of two seconds, then six, then one.
        for (second, requests) in [(1, 1), (2, 2), (3, 2), (5, 6), (6, 1)] {
            for request in 0..requests {
                let meta = json!({"meta": {"success": (second, request) != (5, 0)}});
                page.push(record(second, "latency", second as f64, meta));
                page.push(record(second, "service_time", f64::from(request), json!({})));
            }
            page.push(record(second, "service_time", 99.0, json!({"operation": "inner"})));
            page.push(record(second, "latency", 99.0, json!({"sample-type": "warmup"})));
            page.push(record(second, "latency", 99.0, json!({"task": "other"})));
        }
        page.push(JsonObject::from_iter([("name".to_owned(), json!("segments_count"))]));
        let pages: RecordPages<'_> = futures_util::stream::iter([Ok(page)]).boxed_local();
        let series = series_of_records(&race, pages).now_or_never().unwrap().unwrap();
        assert_eq!(series.keys().collect::<Vec<_>>(), ["index"]);
        let series = &series["index"];
        assert_eq!(series.percentile(TimeKind::Latency, 50.0), [1.0, 2.0, 3.0, 5.0, 6.0]);
        assert_eq!(series.percentile(TimeKind::ServiceTime, 100.0), [0.0, 1.0, 1.0, 5.0, 0.0]);
        assert_eq!(series.percentile(TimeKind::ProcessingTime, 50.0), [0.0; 0]);
        assert_eq!(series.work(), [400.0, 400.0, 0.0, 1200.0]);
        assert_eq!((series.failures(), series.is_of_records()), ((1, 12), true));
    }

    /// Ten requests of a second, each of which takes so many milliseconds; their bin is that of the second, too.
    fn interval(second: u32, millis: u64) -> Interval {
        let mut times = Distribution::default();
        (0..10).for_each(|_| times.record(millis * 1_000_000));
        let at = u64::from(second) * 1_000_000_000;
        let bin = ThroughputBin { second, first: at, first_weight: 1, last: at, weight: 10, task_start: 0 };
        let part = TaskInterval {
            task: TaskIndex(0),
            inner: None,
            cluster: None,
            sample_type: SampleType::Normal,
            service_time: times.clone(),
            processing_time: times.clone(),
            latency: times,
            samples: 10,
            failed: 1,
            unit: "docs".to_owned(),
            throughput: vec![bin],
            reported_throughput: Vec::new(),
            errors: Vec::new(),
            duration: at,
        };
        Interval { number: u64::from(second) + 1, second, tasks: vec![part], ..Interval::default() }
    }

    fn series_of(intervals: impl IntoIterator<Item = Interval>) -> TaskSeries {
        let mut series = TaskSeries::default();
        for interval in intervals {
            interval.tasks.iter().for_each(|part| series.add(u64::from(interval.second), part));
        }
        series.end();
        series
    }

    #[test]
    fn a_second_has_what_was_done_in_it_whenever_that_arrived() {
        // The second driver cannot be reached for eight seconds.
        let first = (0..8).map(|it| interval(it, 10));
        let second = (0..8).map(|it| interval(it, 20));
        let series = series_of(first.chain(second));
        assert_eq!(series.work(), [20.0; 6]);
        assert_eq!(series.percentile(TimeKind::Latency, 50.0), [15.0; 8]);
        assert_eq!(series.percentile(TimeKind::ServiceTime, 100.0), [20.0; 8]);
        assert_eq!((series.failures(), series.is_of_records()), ((16, 160), false));
    }

    #[test]
    fn a_second_without_work_is_a_zero_and_has_no_times() {
        let series = series_of([0, 1, 4, 5].map(|it| interval(it, 10)));
        assert_eq!(series.work(), [10.0, 0.0, 0.0, 10.0]);
        assert_eq!(series.percentile(TimeKind::Latency, 50.0), [10.0; 4]);
    }

    #[test]
    fn seconds_that_no_race_can_have_are_left_out() {
        let series = series_of([0, 1, 2, u32::MAX].map(|it| interval(it, 10)));
        assert_eq!(series.work().len() as u64, MAX_SECONDS - 1);
    }
}
