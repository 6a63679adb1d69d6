//! A race as JUnit XML, for servers that run it as a test.
//!
//! One suite with a test case for the race, for each task that was begun, and for each threshold.

use std::fmt::Write as _;
use std::time::Duration;

use rally_core::RaceId;
use rally_core::metrics::{ErrorCount, OperationMetrics, RaceReport};
use rally_core::race::RaceVerdict;

use super::escape::escaped;
use super::times::RaceTimes;
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
/// did not run to its end, for the reason `incomplete`. There is a case for every task that was begun, as far as
/// `times` or the results tell; those that were cut short are errors.
///
/// The time of a task is that from its start to its last answer, or that of its step if it has no results.
#[must_use]
pub fn junit(
    report: &RaceReport,
    verdict: Option<&RaceVerdict>,
    incomplete: Option<&str>,
    times: &RaceTimes,
) -> String {
    let race = &report.race;
    let results: &[OperationMetrics] = race.results.as_ref().map_or(&[], |results| &results.op_metrics);
    let suite = match &race.challenge {
        Some(challenge) => format!("{}.{challenge}", race.track),
        None => race.track.clone(),
    };
    let begun: Vec<(&str, Option<Duration>)> = times.tasks().collect();
    let mut cases = vec![TestCase {
        class: "race",
        name: race.race_id.as_str(),
        time: times.race().unwrap_or_default().as_secs_f64(),
        failure: incomplete.map(|reason| race_failure(reason, verdict)),
    }];
    cases.extend(begun.iter().map(|&(name, step)| {
        let results = results.iter().find(|results| results.task == name);
        let time = results.map(|task| task.duration / MILLIS_PER_SECOND).or(step.map(|step| step.as_secs_f64()));
        let cut = step.is_none().then(|| Failure {
            element: "error",
            message: "the race ended before this task did".to_owned(),
            text: String::new(),
        });
        let failure = results.and_then(|task| task_failure(task, report)).or(cut);
        TestCase { class: "task", name, time: time.unwrap_or_default(), failure }
    }));
    // Of an older race only the results may be known.
    let others = results.iter().filter(|task| begun.iter().all(|(name, _)| *name != task.task));
    cases.extend(others.map(|task| TestCase {
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
    let of_tasks = || cases.iter().map(|case| case.time).sum();
    let time = times.race().map_or_else(of_tasks, |time| time.as_secs_f64());
    document(&suite, &timestamp(race.epoch_millis), time, &cases)
}

/// The document of a race that never began, for this reason.
#[must_use]
pub fn junit_of_nothing(race: &RaceId, reason: &str, verdict: Option<&RaceVerdict>) -> String {
    let failure = Some(race_failure(reason, verdict));
    let case = TestCase { class: "race", name: race.as_str(), time: 0.0, failure };
    document("rally", &timestamp(jiff::Timestamp::now().as_millisecond()), 0.0, &[case])
}

fn race_failure(reason: &str, verdict: Option<&RaceVerdict>) -> Failure {
    let errors = verdict.into_iter().flat_map(|verdict| verdict.errors.iter().map(ToString::to_string));
    let text = verdict.map(verdict_text).into_iter().chain(errors).collect::<Vec<_>>().join("\n");
    Failure { element: "error", message: reason.to_owned(), text }
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

fn document(suite: &str, timestamp: &str, time: f64, cases: &[TestCase<'_>]) -> String {
    let count =
        |element| cases.iter().filter(|case| case.failure.as_ref().is_some_and(|it| it.element == element)).count();
    let (tests, failures, errors) = (cases.len(), count("failure"), count("error"));
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
    use rally_core::{ClusterTime, JoinPoint, RaceEventKind, RaceOutcome, RunningTask, Step, TaskIndex};

    use super::*;
    use crate::report::testing::failed_race;

    fn verdict(outcome: RaceOutcome) -> RaceVerdict {
        RaceVerdict { outcome, errors: Vec::new(), shortfalls: Vec::new(), ledger: RaceLedger::default() }
    }

    /// A race of which the last step has not ended.
    fn times() -> RaceTimes {
        let mut times = RaceTimes::default();
        let at = |second: u64| ClusterTime::from_nanos(second * 1_000_000_000);
        let step = |until: u32, start: u64, names: &[&str]| {
            let name = |(index, name): (u32, &&str)| RunningTask { task: TaskIndex(index), name: (*name).to_owned() };
            let tasks = (0..).zip(names).map(name).collect();
            RaceEventKind::StepStarted { step: Step { until: JoinPoint(until), start: at(start) }, of: 3, tasks }
        };
        times.add(at(1), &RaceEventKind::Started { challenge: "c".to_owned(), drivers: Vec::new() });
        times.add(at(2), &step(1, 2, &["delete-index"]));
        times.add(at(5), &RaceEventKind::StepEnded { until: JoinPoint(1) });
        times.add(at(5), &step(2, 6, &["search", "<b>index"]));
        times.add(at(19), &RaceEventKind::StepEnded { until: JoinPoint(2) });
        times.add(at(19), &step(3, 20, &["large \"towns\""]));
        times.add(at(31), &RaceEventKind::Ended(Box::new(verdict(RaceOutcome::Cancelled))));
        times
    }

    #[test]
    fn a_race_the_tasks_it_has_begun_and_its_thresholds_are_test_cases() {
        let verdict = verdict(RaceOutcome::Cancelled);
        insta::assert_snapshot!(junit(&failed_race(), Some(&verdict), Some("It was cancelled"), &times()));
    }

    #[test]
    fn without_events_the_tasks_are_those_with_results() {
        let xml = junit(&failed_race(), Some(&verdict(RaceOutcome::Completed)), None, &RaceTimes::default());
        assert!(
            xml.contains("<testsuites name=\"rally\" tests=\"5\" failures=\"2\" errors=\"0\" time=\"24.690\">"),
            "{xml}"
        );
        let xml = junit(&failed_race(), None, Some("Nobody knows"), &RaceTimes::default());
        assert!(xml.contains("<error message=\"Nobody knows\"></error>"), "{xml}");
    }
}
