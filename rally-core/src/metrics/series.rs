//! What a task did in each second.

use std::collections::BTreeMap;

use futures_util::StreamExt;

use super::{Distribution, RaceDocument, RecordPages, StoreError, TaskInterval, TimeKind};
use crate::track::JsonObject;

const NANOS_PER_MILLI: f64 = 1e6;

const MILLIS_PER_SECOND: u64 = 1_000;

/// Percentiles that are kept of each second.
const PERCENTILES: [f64; 6] = [50.0, 90.0, 99.0, 99.9, 99.99, 100.0];

/// The seconds of one task in which it had normal samples, in the order of time. Drivers are added up.
///
/// Of a second that is over, only its percentiles are kept.
#[derive(Clone, Debug, Default)]
pub struct TaskSeries {
    over: Vec<Over>,
    current: Option<(u64, Second)>,
}

#[derive(Clone, Debug)]
struct Over {
    /// By kind, then by percentile, in milliseconds.
    times: [Vec<f64>; 3],
    work: f64,
}

#[derive(Clone, Debug, Default)]
struct Second {
    /// By kind.
    times: [Distribution; 3],
    work: u64,
}

impl TaskSeries {
    /// Adds what a driver measured in a second; seconds come in their order.
    pub fn add(&mut self, second: u64, part: &TaskInterval) {
        let current = self.second(second);
        for (times, more) in current.times.iter_mut().zip([&part.latency, &part.service_time, &part.processing_time]) {
            times.merge(more);
        }
        current.work = part.throughput.iter().fold(current.work, |work, bin| work.saturating_add(bin.weight));
    }

    /// Nothing more is added.
    pub fn end(&mut self) {
        if let Some((_, second)) = self.current.take() {
            let millis = |times: Distribution| {
                times.percentiles(&PERCENTILES).into_iter().map(|nanos| nanos / NANOS_PER_MILLI).collect()
            };
            self.over.push(Over { times: second.times.map(millis), work: second.work as f64 });
        }
    }

    /// A percentile of the times of each second, in milliseconds; nothing if it is not 50, 90, 99, 99.9, 99.99 or 100.
    #[must_use]
    pub fn percentile(&self, kind: TimeKind, percentile: f64) -> Vec<f64> {
        let Some(index) = PERCENTILES.iter().position(|known| *known == percentile) else { return Vec::new() };
        self.over.iter().filter_map(|second| second.times[kind as usize].get(index).copied()).collect()
    }

    /// The work of each second but the first and the last, which are not whole.
    #[must_use]
    pub fn work(&self) -> Vec<f64> {
        let whole = self.over.get(1..self.over.len().saturating_sub(1)).unwrap_or_default();
        whole.iter().map(|second| second.work).collect()
    }

    fn second(&mut self, second: u64) -> &mut Second {
        if self.current.as_ref().is_none_or(|(current, _)| *current != second) {
            self.end();
        }
        &mut self.current.get_or_insert_with(|| (second, Second::default())).1
    }

    /// Gives the work of each second another unit: that in which its mean is this.
    fn scale_work(&mut self, mean: f64) {
        let work = self.work();
        let own = work.iter().sum::<f64>() / work.len() as f64;
        if own > 0.0 {
            self.over.iter_mut().for_each(|second| second.work *= mean / own);
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
    let mut all: BTreeMap<_, _> =
        tasks().map(|task| (task.task.clone(), (task.operation.as_str(), TaskSeries::default()))).collect();
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
    let second = series.second(millis / MILLIS_PER_SECOND);
    second.times[kind as usize].record((value * NANOS_PER_MILLI).round() as u64);
    second.work += u64::from(kind == TimeKind::Latency);
    Some(())
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use serde_json::{Value, json};

    use super::*;

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
                page.push(record(second, "latency", second as f64, json!({})));
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
        assert_eq!(series.work(), [300.0, 300.0, 900.0]);
    }
}
