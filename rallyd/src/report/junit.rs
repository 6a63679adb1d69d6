//! A race as JUnit XML, for servers that run it as a test.
//!
//! One suite with a test case for the race, for each of its tasks, and for each threshold.

use std::fmt::Write as _;

use rally_core::RaceOutcome;
use rally_core::metrics::{ErrorCount, OperationMetrics, RaceReport};
use rally_core::race::RaceVerdict;

use super::escape::escaped;
use crate::race::verdict_text;

const MILLIS_PER_SECOND: f64 = 1e3;

struct TestCase<'a> {
    class: &'static str,
    name: &'a str,
    /// Seconds.
    time: f64,
    failure: Option<Failure>,
}

struct Failure {
    /// `failure` of what was tested, `error` of the test itself.
    element: &'static str,
    message: String,
    text: String,
}

/// The document. Tasks fail if a request of them failed, thresholds if the race counts as failed by them, and the race if it
/// did not run to its end.
#[must_use]
pub fn junit(report: &RaceReport, verdict: &RaceVerdict) -> String {
    let race = &report.race;
    let tasks: &[OperationMetrics] = race.results.as_ref().map_or(&[], |results| &results.op_metrics);
    let suite = match &race.challenge {
        Some(challenge) => format!("{}.{challenge}", race.track),
        None => race.track.clone(),
    };
    let mut cases =
        vec![TestCase { class: "race", name: race.race_id.as_str(), time: 0.0, failure: race_failure(verdict) }];
    cases.extend(tasks.iter().map(|task| TestCase {
        class: "task",
        name: &task.task,
        time: task.duration / MILLIS_PER_SECOND,
        failure: task_failure(task, report),
    }));
    let thresholds: Vec<_> = report.findings.thresholds.iter().map(|it| (it.threshold.to_string(), it)).collect();
    cases.extend(thresholds.iter().map(|(name, outcome)| {
        let reasons = outcome.reasons();
        let failure = outcome.failed().then(|| Failure {
            element: "failure",
            message: reasons.first().cloned().unwrap_or_default(),
            text: reasons.join("\n"),
        });
        TestCase { class: "threshold", name, time: 0.0, failure }
    }));
    document(&suite, &timestamp(race.epoch_millis), &cases)
}

fn race_failure(verdict: &RaceVerdict) -> Option<Failure> {
    if verdict.outcome == RaceOutcome::Completed {
        return None;
    }
    let errors = verdict.errors.iter().map(ToString::to_string);
    let text = [verdict_text(verdict)].into_iter().chain(errors).collect::<Vec<_>>().join("\n");
    let message = text.lines().next().unwrap_or_default().to_owned();
    Some(Failure { element: "error", message, text })
}

fn task_failure(task: &OperationMetrics, report: &RaceReport) -> Option<Failure> {
    let errors = report.findings.errors.iter().find(|it| it.task == task.task);
    if task.error_rate == 0.0 {
        return None;
    }
    let line = |error: &ErrorCount| format!("{} × {}: {}", error.count, error.class, error.example);
    let text = errors.map(|it| it.errors.iter().map(line).collect::<Vec<_>>().join("\n")).unwrap_or_default();
    Some(Failure {
        element: "failure",
        message: format!("{:.2} % of its requests failed", task.error_rate * 100.0),
        text,
    })
}

fn document(suite: &str, timestamp: &str, cases: &[TestCase<'_>]) -> String {
    let count =
        |element| cases.iter().filter(|case| case.failure.as_ref().is_some_and(|it| it.element == element)).count();
    let (tests, failures, errors) = (cases.len(), count("failure"), count("error"));
    let time: f64 = cases.iter().map(|case| case.time).sum();
    let suite = escaped(suite);
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    // Writing to a String does not fail.
    let _ = write!(
        xml,
        "<testsuites name=\"rally\" tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\" time=\"{time:.3}\">\n  \
         <testsuite name=\"{suite}\" tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"0\" \
         time=\"{time:.3}\" timestamp=\"{timestamp}\">\n"
    );
    for TestCase { class, name, time, failure } in cases {
        let name = escaped(name);
        let _ = write!(xml, "    <testcase classname=\"{suite}.{class}\" name=\"{name}\" time=\"{time:.3}\"");
        let _ = match failure {
            None => writeln!(xml, "/>"),
            Some(Failure { element, message, text }) => {
                let (message, text) = (escaped(message), escaped(text));
                writeln!(xml, ">\n      <{element} message=\"{message}\">{text}</{element}>\n    </testcase>")
            }
        };
    }
    xml + "  </testsuite>\n</testsuites>\n"
}

/// Without an offset, as the format wants it: UTC.
fn timestamp(epoch_millis: i64) -> String {
    let timestamp = jiff::Timestamp::from_millisecond(epoch_millis).unwrap_or_default();
    timestamp.strftime("%Y-%m-%dT%H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use rally_core::race::RaceLedger;

    use super::*;
    use crate::report::testing::failed_race;

    #[test]
    fn a_race_its_tasks_and_its_thresholds_are_test_cases() {
        let ledger = RaceLedger::default();
        let verdict =
            RaceVerdict { outcome: RaceOutcome::Completed, errors: Vec::new(), shortfalls: Vec::new(), ledger };
        insta::assert_snapshot!(junit(&failed_race(), &verdict));
        let cancelled = RaceVerdict { outcome: RaceOutcome::Cancelled, ..verdict };
        assert!(junit(&failed_race(), &cancelled).contains("<error message=\"The race was cancelled"));
    }
}
