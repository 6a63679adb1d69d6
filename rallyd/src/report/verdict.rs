//! What went wrong in a race, after its report.

use rally_core::metrics::{Findings, ThresholdOutcome};

/// Error classes of a task that are shown; the archive has all.
const CLASSES: usize = 5;

/// The longest example that is shown, in characters; the archive has all of it.
const EXAMPLE: usize = 200;

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
                Some(HostClock { offset: 71_000_000, error: 2_500_000, wall_shift: 3_600_000_000_000 }),
                Duration::from_secs(60),
            ),
            thresholds: Vec::new(),
            archive: vec!["intervals is not complete: No space left on device".to_owned()],
        };
        insta::assert_snapshot!(findings_text(&findings).join("\n"));
        assert!(findings_text(&Findings::default()).is_empty());
    }
}
