//! What went wrong in a race, after its report.

use rally_core::RaceOutcome;
use rally_core::metrics::{Findings, ThresholdOutcome};
use rally_core::race::RaceVerdict;

use crate::race::verdict_text;

/// What is said of a race without a verdict whose archive nobody writes any more.
pub(crate) const NOBODY_WROTE_DOWN: &str = "Nobody wrote down how the race ended: whoever ran it died";

/// What is said of one that has not ended.
pub(crate) const STILL_RUNS: &str = "The race still runs; this is what was measured so far";

/// Error classes of a task that are shown; the archive has all.
const CLASSES: usize = 5;

/// The longest example that is shown, in characters; the archive has all of it.
const EXAMPLE: usize = 200;

/// Why the results are not those of a whole race, in one line; none if they are.
#[must_use]
pub fn incompleteness(verdict: &RaceVerdict) -> Option<String> {
    if verdict.outcome == RaceOutcome::Completed {
        return None;
    }
    let text = verdict_text(verdict);
    let how = text.lines().next().unwrap_or_default();
    let error = verdict.errors.first().map(ToString::to_string);
    let why = error.or_else(|| verdict.shortfalls.first().map(ToString::to_string));
    Some(match why {
        Some(why) => format!("{how}; {}", shortened(&why)),
        None => how.to_owned(),
    })
}

/// What the user should know before trusting the results, each as a sentence or a few lines.
#[must_use]
pub fn findings_text(findings: &Findings) -> Vec<String> {
    let mut texts = Vec::new();
    for task in &findings.errors {
        let mut errors: Vec<_> = task.errors.iter().collect();
        errors.sort_by(|one, other| other.count.cmp(&one.count).then_with(|| one.class.cmp(&other.class)));
        let mut text = format!("task `{}` had errors, warm-up included", task.task);
        for error in errors.iter().take(CLASSES) {
            text += &format!("\n\t{} × {}", error.count, error.class);
            if !error.example.is_empty() {
                text += &format!(": {}", shortened(&error.example));
            }
        }
        if let Some(more) = errors.len().checked_sub(CLASSES).filter(|more| *more > 0) {
            text += &format!("\n\tand {more} more kinds");
        }
        texts.push(text);
    }
    for it in &findings.drivers {
        if it.saturated > 0 {
            let reason = it.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            let (driver, saturated, intervals) = (&it.driver, it.saturated, it.intervals);
            texts
                .push(format!("load driver {driver} was the bottleneck in {saturated} of {intervals} seconds{reason}"));
        }
        if it.lost > 0 {
            texts.push(format!("{} samples of load driver {} were lost; they are in no result", it.lost, it.driver));
        }
        if it.unwritten > 0 {
            texts.push(format!(
                "{} samples of load driver {} are in the results, but in no file of raw samples",
                it.unwritten, it.driver
            ));
        }
    }
    texts.extend(findings.notices.iter().map(|notice| shortened(notice)));
    texts.extend(findings.archive.iter().cloned());
    texts
}

/// What became of the thresholds: how many held, and each that did not, with what was measured.
#[must_use]
pub fn thresholds_text(thresholds: &[ThresholdOutcome]) -> (Option<String>, Vec<String>) {
    let (failed, held): (Vec<_>, Vec<_>) = thresholds.iter().partition(|outcome| outcome.failed());
    let held = match (held.len(), failed.len()) {
        (0, _) => None,
        (1, 0) => Some("the threshold holds".to_owned()),
        (held, 0) => Some(format!("all {held} thresholds hold")),
        (held, failed) => Some(format!("{held} of {} thresholds hold", held + failed)),
    };
    let failure = |outcome: &ThresholdOutcome| {
        format!("threshold {} counts as a failure:\n\t{}", outcome.threshold, outcome.reasons().join("\n\t"))
    };
    (held, failed.into_iter().map(failure).collect())
}

fn shortened(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(EXAMPLE) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rally_core::metrics::{DriverFindings, ErrorCount, TaskErrors};
    use rally_core::race::RaceLedger;
    use rally_core::{Role, RoleError, RoleErrorKind};

    use super::*;
    use crate::archive::{HostClock, clock_trouble};

    #[test]
    fn a_verdict_names_errors_by_class_lost_samples_and_saturated_drivers() {
        let error = |class: &str, count| ErrorCount {
            class: class.to_owned(),
            count,
            example: "no\nroute ".to_owned() + &"x".repeat(300),
        };
        let findings = Findings {
            errors: vec![TaskErrors {
                task: "index".to_owned(),
                errors: (0..7).map(|it| error(&format!("http {}", 500 + it), it)).collect(),
            }],
            drivers: vec![DriverFindings {
                driver: "10.0.0.2".to_owned(),
                intervals: 60,
                saturated: 4,
                reason: Some("a worker was busy for 99 % of the time".to_owned()),
                lost: 3,
                unwritten: 2,
            }],
            notices: clock_trouble(
                "10.0.0.2",
                Some(HostClock { offset: 1_000_000, error: 90_000, wall_shift: 0 }),
                Some(HostClock { offset: 71_000_000, error: 7_500_000, wall_shift: 3_600_000_000_000 }),
                Duration::from_secs(60),
            ),
            thresholds: Vec::new(),
            archive: vec!["intervals is not complete: No space left on device".to_owned()],
        };
        insta::assert_snapshot!(findings_text(&findings).join("\n"));
        assert!(findings_text(&Findings::default()).is_empty());
    }

    #[test]
    fn results_of_a_race_that_was_cut_short_say_why_in_one_line() {
        let mut verdict = RaceVerdict {
            outcome: RaceOutcome::Completed,
            errors: Vec::new(),
            shortfalls: Vec::new(),
            ledger: RaceLedger::default(),
        };
        assert_eq!(incompleteness(&verdict), None);
        verdict.outcome = RaceOutcome::Cancelled;
        let expected = "The race was cancelled: 0 samples of 0 known to be made";
        assert_eq!(incompleteness(&verdict).as_deref(), Some(expected));
        verdict.outcome = RaceOutcome::Failed;
        verdict.errors.push(RoleError {
            host: "10.0.0.2".to_owned(),
            role: Role::LoadDriver,
            phase: "run step 3".to_owned(),
            kind: RoleErrorKind::Failed,
            cause: "no\nroute".to_owned(),
        });
        let line = incompleteness(&verdict).unwrap();
        assert!(
            line.starts_with("The race has failed: ") && line.contains("10.0.0.2") && !line.contains('\n'),
            "{line}"
        );
    }
}
