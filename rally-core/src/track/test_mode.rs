//! Test mode: a race that takes a moment, to see whether the track works at all.

use std::time::Duration;

use super::model::{TargetThroughput, Task, Track};

/// Documents that a document set is reduced to.
const DOCUMENTS: u64 = 1000;

/// The longest time that a task is measured.
const TIME_PERIOD: Duration = Duration::from_secs(10);

/// What every target throughput is replaced by: so fast that it does not hold anything up, yet still a target, so that
/// the code behind it is tried out.
const THROUGHPUT: u64 = i64::MAX as u64;

/// Cuts the corpora and the tasks down.
pub(crate) fn reduce(track: &mut Track) {
    for documents in track.corpora.iter_mut().flat_map(|corpus| &mut corpus.documents) {
        documents.reduce(DOCUMENTS);
    }
    for task in track.challenges.iter_mut().flat_map(|challenge| challenge.tasks_mut()) {
        reduce_task(task);
    }
}

fn reduce_task(task: &mut Task) {
    let clients = u64::from(task.clients);
    task.warmup_iterations = task.warmup_iterations.map(|iterations| iterations.min(clients));
    task.iterations = task.iterations.map(|iterations| iterations.min(clients));
    task.warmup_time_period = task.warmup_time_period.map(|_| Duration::ZERO);
    task.time_period = task.time_period.map(|period| period.min(TIME_PERIOD));
    if let Some(TargetThroughput { unit, .. }) = task.target_throughput.take() {
        task.params.shift_remove("target-throughput");
        task.params.shift_remove("target-interval");
        task.params.insert("target-throughput".to_owned(), format!("{THROUGHPUT} {unit}").into());
        task.target_throughput = Some(TargetThroughput { value: THROUGHPUT as f64, unit });
    }
}
