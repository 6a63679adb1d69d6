//! A race as text.

use std::fmt::Write as _;
use std::ops::Range;

use rally_core::allocation::{Allocation, spread};
use rally_core::metrics::SampleType;
use rally_core::race::RaceVerdict;
use rally_core::{Completion, RaceOutcome, RaceStatus, TaskStatus};
use serde_json::{Value, json};

use super::plan::PlannedRace;

/// Samples from which on rates and percentiles are shown.
const TELLING: u64 = 10;

/// What would run where. Clients are spread by the cores of their hosts, or evenly where these are not known.
pub(crate) fn plan_text(planned: &PlannedRace, cores: Option<&[u32]>) -> String {
    let Some(challenge) = planned.plan.challenge() else { return String::new() };
    let allocation = Allocation::new(challenge);
    let tasks: Vec<_> = challenge.tasks().collect();
    let mut text = format!(
        "Track [{}], challenge [{}]: {} in {}, against {}\n",
        planned.plan.track.name,
        challenge.name,
        counted(u64::from(allocation.clients), "client"),
        counted(allocation.steps.len() as u64, "step"),
        planned.plan.target_hosts.values().flatten().cloned().collect::<Vec<_>>().join(", "),
    );
    for (host, clients) in shares(planned, &allocation, cores) {
        // Writing to a String does not fail.
        let _ = writeln!(text, "  {host}: {}", range(&clients));
    }
    if cores.is_none() && planned.load_driver_hosts.len() > 1 {
        text.push_str("  (spread evenly, as their cores are not known here; the race spreads clients by cores)\n");
    }
    for step in &allocation.steps {
        let _ = writeln!(text, "\nStep {} of {}", step.until, allocation.steps.len());
        let mut seen = Vec::new();
        for index in step.rows.iter().flatten().map(|allocated| allocated.task) {
            if !seen.contains(&index) {
                seen.push(index);
            }
        }
        for index in seen {
            let Some(task) = tasks.get(index.0 as usize) else { continue };
            let clients: Vec<u32> = (0..)
                .zip(&step.rows)
                .filter(|(_, row)| row.iter().any(|allocated| allocated.task == index))
                .map(|(client, _)| client)
                .collect();
            let ends = match step.completion {
                Completion::By(by) if by == index => "; completes the step",
                Completion::Any => "; completes the step if it is the first",
                Completion::By(_) | Completion::Each => "",
            };
            let speed = task.target_throughput.as_ref().map(|it| format!(" at {it}")).unwrap_or_default();
            let operation = task.operation.operation_type.as_str();
            let _ = writeln!(text, "  {} ({operation}){speed}: {}{ends}", task.name, ranges(&clients));
        }
    }
    text
}

/// The same for programs.
pub(crate) fn plan_json(planned: &PlannedRace, cores: Option<&[u32]>) -> Value {
    let Some(challenge) = planned.plan.challenge() else { return Value::Null };
    let allocation = Allocation::new(challenge);
    let names: Vec<_> = challenge.tasks().map(|task| task.name.as_str()).collect();
    let driver = |(index, (host, clients)): (usize, (String, Range<u32>))| {
        let cores = cores.and_then(|cores| cores.get(index));
        json!({"host": host, "cores": cores, "first_client": clients.start, "clients": clients.len()})
    };
    let drivers: Vec<_> = shares(planned, &allocation, cores).into_iter().enumerate().map(driver).collect();
    let steps: Vec<_> = allocation
        .steps
        .iter()
        .map(|step| {
            let row = |(client, row): (usize, &Vec<rally_core::ClientTask>)| {
                let tasks: Vec<_> = row
                    .iter()
                    .map(|it| {
                        json!({
                            "task": names.get(it.task.0 as usize),
                            "client_in_task": it.client_in_task,
                            "client_in_element": it.client_in_element,
                            "clients_of_element": it.clients_of_element,
                        })
                    })
                    .collect();
                json!({"client": client, "tasks": tasks})
            };
            let completed_by = match step.completion {
                Completion::Each => Value::Null,
                Completion::By(task) => json!(names.get(task.0 as usize)),
                Completion::Any => json!("any"),
            };
            let clients: Vec<_> = step.rows.iter().enumerate().filter(|(_, row)| !row.is_empty()).map(row).collect();
            json!({"join_point": step.until, "completed_by": completed_by, "clients": clients})
        })
        .collect();
    json!({
        "race": planned.race,
        "track": planned.plan.track.name,
        "challenge": challenge.name,
        "target_hosts": planned.plan.target_hosts,
        "clients": allocation.clients,
        "load_drivers": drivers,
        "spread_by": if cores.is_some() { "cores" } else { "host" },
        "steps": steps,
    })
}

fn shares(planned: &PlannedRace, allocation: &Allocation, cores: Option<&[u32]>) -> Vec<(String, Range<u32>)> {
    let evenly = vec![1; planned.load_driver_hosts.len()];
    let shares = spread(allocation.clients, cores.unwrap_or(&evenly));
    planned.load_driver_hosts.iter().cloned().zip(shares).collect()
}

/// How a task does, in one line.
pub(crate) fn status_text(name: &str, status: &TaskStatus) -> String {
    let done = status.done.map_or_else(|| "   -".to_owned(), |done| format!("{:>3.0}%", 100.0 * done));
    let warmup = if status.sample_type == SampleType::Warmup { " (warm-up)" } else { "" };
    let mut text = format!("{name} {done}{warmup}");
    let median = || status.service_time.as_ref().map(|times| times.p50);
    // A rate or a percentile of a handful of requests says nothing.
    if let (true, Some(time)) = ((1..TELLING).contains(&status.samples), median()) {
        let median = if status.samples > 1 { "median " } else { "" };
        let _ = write!(text, "  {}, {median}{:.2} ms", counted(status.samples, "request"), time.as_secs_f64() * 1e3);
        return with_errors(text, status);
    }
    // What the work is counted in is known from the first sample on.
    if !status.unit.is_empty() {
        let _ = write!(text, "  {} {}/s", rate(status.throughput), status.unit);
    }
    if let Some(times) = &status.service_time {
        let millis = |time: std::time::Duration| time.as_secs_f64() * 1e3;
        let _ = write!(
            text,
            "  service time p50 {:.2} ms, p90 {:.2} ms, p99 {:.2} ms",
            millis(times.p50),
            millis(times.p90),
            millis(times.p99)
        );
    }
    with_errors(text, status)
}

fn with_errors(mut text: String, status: &TaskStatus) -> String {
    if status.failed > 0 {
        let _ = write!(text, "  {} of {}", counted(status.failed, "error"), counted(status.samples, "sample"));
    }
    text
}

/// A rate with as many digits as say something.
fn rate(rate: f64) -> String {
    if rate < 100.0 { format!("{rate:.1}") } else { format!("{rate:.0}") }
}

/// Why another race cannot begin now.
pub(super) fn busy_text(status: &RaceStatus) -> String {
    let race = &status.race;
    let seconds = status.now.saturating_since(status.since).as_secs();
    let drivers: Vec<_> = status.drivers.iter().map(|driver| driver.name.as_str()).collect();
    let on = if drivers.is_empty() { String::new() } else { format!(" on {}", drivers.join(", ")) };
    format!("race {race} has run for {seconds} s{on}; `rallyd attach {race}` shows it, and Ctrl-C there ends it")
}

/// How a race ended, in some lines.
pub(crate) fn verdict_text(verdict: &RaceVerdict) -> String {
    let mut text = match verdict.outcome {
        RaceOutcome::Completed => format!("The race is complete: {}", counted(verdict.ledger.merged, "sample")),
        RaceOutcome::Incomplete => format!("The race has ended, but not all is there: {}", of(verdict)),
        RaceOutcome::Cancelled => format!("The race was cancelled: {}", of(verdict)),
        _ => format!("The race has failed: {}", of(verdict)),
    };
    for shortfall in &verdict.shortfalls {
        let _ = write!(text, "\n\t{shortfall}");
    }
    text
}

fn of(verdict: &RaceVerdict) -> String {
    let ledger = &verdict.ledger;
    format!("{} of {} known to be made", counted(ledger.merged, "sample"), ledger.made)
}

fn counted(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

fn range(clients: &Range<u32>) -> String {
    match clients.len() {
        0 => "no client".to_owned(),
        1 => format!("client {}", clients.start),
        _ => format!("clients {} to {}", clients.start, clients.end - 1),
    }
}

/// Rising numbers, with neighbours drawn together.
fn ranges(clients: &[u32]) -> String {
    let mut runs: Vec<Range<u32>> = Vec::new();
    for &client in clients {
        match runs.last_mut() {
            Some(run) if run.end == client => run.end += 1,
            _ => runs.push(client..client + 1),
        }
    }
    runs.iter().map(range).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rally_core::{LivePercentiles, TaskIndex};

    use super::*;

    #[test]
    fn a_handful_of_requests_has_no_rate() {
        let millis = Duration::from_millis;
        let mut status = TaskStatus {
            task: TaskIndex(0),
            done: Some(1.0),
            sample_type: SampleType::Normal,
            samples: 1,
            failed: 0,
            throughput: 389.0,
            unit: "ops".to_owned(),
            service_time: Some(LivePercentiles { p50: millis(2), p90: millis(3), p99: millis(4) }),
        };
        assert_eq!(status_text("refresh", &status), "refresh 100%  1 request, 2.00 ms");
        (status.samples, status.failed) = (9, 1);
        assert_eq!(status_text("refresh", &status), "refresh 100%  9 requests, median 2.00 ms  1 error of 9 samples");
        (status.samples, status.failed) = (10, 0);
        let expected = "refresh 100%  389 ops/s  service time p50 2.00 ms, p90 3.00 ms, p99 4.00 ms";
        assert_eq!(status_text("refresh", &status), expected);
        (status.samples, status.service_time) = (0, None);
        (status.unit, status.done) = (String::new(), None);
        assert_eq!(status_text("refresh", &status), "refresh    -");
    }
}
