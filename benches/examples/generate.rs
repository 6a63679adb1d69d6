//! Applies one task to a URL and says what it measured, as one line of JSON; `benches/scripts/load.py` runs it beside other
//! load generators.
//!
//!     cargo run --release -p benches --example generate -- URL '{"clients": 32, "time-period": 5}' \
//!         '{"operation-type": "raw-request", "method": "POST", "body": {"query": {"match_all": {}}}}'
//!
//! The second argument are the properties of the task, the third those of its operation; a raw request takes its path from
//! the URL. Bulks need a fourth and a fifth: the file with the documents, and how many there are.

#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use rally_core::metrics::Distribution;
use rally_core::track::{Corpus, Documents, JsonObject, Operation, Task, Track};
use rally_driver::{Registry, TaskRun};
use serde_json::{Value, json};

/// What is told of each distribution.
const PERCENTILES: [f64; 5] = [50.0, 90.0, 99.0, 99.9, 100.0];

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().context("the first argument is the URL to send requests to")?;
    let (scheme, rest) = url.split_once("://").context("the URL needs a scheme")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut object = |what| -> anyhow::Result<JsonObject> {
        let text = arguments.next().context(what)?;
        serde_json::from_str(&text).with_context(|| format!("{what}, and `{text}` is no JSON object"))
    };
    let task_properties = object("the second argument are the properties of the task")?;
    let operation_properties = object("the third argument are the properties of the operation")?;

    let kind = operation_properties.get("operation-type").and_then(Value::as_str).unwrap_or("raw-request");
    let mut operation = Operation::builder(kind).property("path", format!("/{path}"));
    for (name, value) in &operation_properties {
        operation = operation.property(name, value.clone());
    }
    let mut task = Task::builder(operation);
    for (name, value) in &task_properties {
        task = task.property(name, value.clone());
    }
    let mut run = TaskRun::new(task).target_hosts([format!("{scheme}://{host}")]).cores(1);
    if let (Some(file), Some(number)) = (arguments.next(), arguments.next()) {
        let file = Path::new(&file);
        let (directory, name) = (file.parent().unwrap_or(file), file.file_name().unwrap_or_default().to_string_lossy());
        // Corpora lie in a directory of their own name.
        let corpus = directory.file_name().unwrap_or_default().to_string_lossy();
        let documents = Documents::builder(&name, number.parse()?).target_index("logs");
        let track =
            Track::builder("generate").index("logs", json!({})).corpus(Corpus::builder(&corpus).documents(documents));
        run = run.track(track).data_dir(directory.parent().unwrap_or(directory));
    }

    let begin = Instant::now();
    let report = run.run(Registry::rally()).await?;
    let took = begin.elapsed().as_secs_f64();
    let normal = report.normal().context("everything was warm-up")?;
    let work: u64 = normal.throughput.iter().map(|bin| bin.weight).sum();
    println!(
        "{}",
        json!({
            "requests": normal.samples,
            "failed": normal.failed,
            "errors": normal.errors,
            "work": work,
            "unit": normal.unit,
            "seconds": took,
            "per_second": normal.samples as f64 / (normal.duration as f64 / 1e9),
            "service_time_ms": milliseconds(&normal.service_time),
            "processing_time_ms": milliseconds(&normal.processing_time),
            "latency_ms": milliseconds(&normal.latency),
            "dispatch_lag_ms": milliseconds(&report.dispatch_lag),
            "reconnects": report.reconnects,
            "retries": report.retries,
            "notices": report.notices,
        })
    );
    Ok(())
}

/// Percentiles in milliseconds, with the names that reports use.
fn milliseconds(distribution: &Distribution) -> Value {
    let values = distribution.percentiles(&PERCENTILES);
    PERCENTILES.iter().zip(values).map(|(percentile, value)| (percentile.to_string(), json!(value / 1e6))).collect()
}
