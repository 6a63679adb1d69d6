//! What a race says at its end, to whoever watched it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use rally_core::metrics::{RaceDocument, RaceReport};
use rally_core::race::RaceVerdict;
use rally_core::{Coordinator, RaceId, RaceOutcome, Sequence};
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::error::CommandError;
use crate::archive::Archive;
use crate::console::Console;
use crate::exit::Exit;
use crate::race::verdict_text;
use crate::report::{
    FINAL_SCORE, NOBODY_WROTE_DOWN, RaceTimes, ReportArguments, ReportFormat, findings_text, incompleteness, junit,
    summary, thresholds_text, warnings,
};
use crate::settings::ReportingSettings;

/// How long a viewer waits for what belongs to the archive of a race of the cluster.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);

/// How soon it asks again at first; the time doubles up to [`SETTLED_EVERY`]. Mostly there is little left to do.
const SETTLED_SOON: Duration = Duration::from_millis(5);

/// How often it asks at least.
const SETTLED_EVERY: Duration = Duration::from_millis(200);

/// A race that has ended, with what is known of it.
pub(super) struct Ended {
    pub(super) report: RaceReport,
    /// None if nobody wrote it down.
    pub(super) verdict: Option<RaceVerdict>,
    /// Why the results are not those of a whole race, if they are not.
    pub(super) incomplete: Option<String>,
    /// Only needed for JUnit XML.
    pub(super) times: RaceTimes,
}

/// How the results of a race are shown.
#[derive(Clone, Copy)]
pub(super) struct Showing<'a> {
    pub(super) arguments: &'a ReportArguments,
    pub(super) reporting: &'a ReportingSettings,
    /// Notices that the user has seen during the race.
    pub(super) seen: &'a [String],
    pub(super) is_json: bool,
    pub(super) console: Console,
}

/// Asks for the results of a race that has ended, and shows them.
pub(super) async fn conclude(
    coordinator: &dyn Coordinator,
    race: &RaceId,
    verdict: RaceVerdict,
    showing: Showing<'_>,
) -> Result<Exit, CommandError> {
    let console = showing.console;
    match coordinator.report(race).await {
        Ok(report) => {
            let times = match &showing.arguments.junit_file {
                Some(_) => race_times(coordinator, race).await?,
                None => RaceTimes::default(),
            };
            let incomplete = incompleteness(&verdict);
            show_ended(Ended { report, verdict: Some(verdict), incomplete, times }, showing)
        }
        Err(error) => {
            if showing.is_json {
                console.data(&format!("{:#}", json!({"race": null, "verdict": verdict, "findings": null})))?;
            } else if verdict.errors.is_empty() {
                console.warning(&format!("there are no results: {error}"));
            }
            Ok(show_verdict(&verdict, console))
        }
    }
}

/// How long the race and its tasks took.
async fn race_times(coordinator: &dyn Coordinator, race: &RaceId) -> Result<RaceTimes, CommandError> {
    let mut times = RaceTimes::default();
    let mut events = coordinator.events(race, Sequence::START).await?;
    while let Some(event) = events.next().await {
        let event = event?;
        times.add(event.at, &event.kind);
    }
    Ok(times)
}

/// Shows a race of the archive of this machine. Of one whose end nobody wrote down, there is what was complete.
pub(super) fn show_archived(archive: &Archive, race: &RaceId, showing: Showing<'_>) -> Result<Exit, CommandError> {
    let document = archive.load_with_results(race)?;
    let (verdict, findings) = match archive.verdict(race)? {
        Some(archived) => (Some(archived.verdict), archived.findings),
        None => (None, Default::default()),
    };
    let incomplete = match &verdict {
        Some(verdict) => incompleteness(verdict),
        None => (!is_of_original(&document)).then(|| NOBODY_WROTE_DOWN.to_owned()),
    };
    let times = RaceTimes::load(archive, race)?;
    let report = RaceReport { race: document, findings, is_settled: true };
    show_ended(Ended { report, verdict, incomplete, times }, showing)
}

/// Whether a race is one of the original, which writes no outcome, and results only if the race has run to its end.
pub(super) fn is_of_original(document: &RaceDocument) -> bool {
    document.results.is_some() && document.outcome.is_none()
}

fn show_ended(ended: Ended, showing: Showing<'_>) -> Result<Exit, CommandError> {
    let Showing { arguments, console, .. } = showing;
    let Ended { mut report, verdict, incomplete, times } = ended;
    let incomplete = incomplete.as_deref();
    if let Some(path) = &arguments.junit_file {
        write_file(path, &junit(&report, verdict.as_ref(), incomplete, &times))?;
    }
    if showing.is_json {
        let document = json!({"race": report.race, "verdict": verdict, "findings": report.findings});
        console.data(&format!("{document:#}"))?;
    } else {
        report.findings.notices.retain(|notice| !showing.seen.contains(notice));
        show_report(&report, incomplete, showing)?;
    }
    let exit = match (&verdict, incomplete) {
        (Some(verdict), _) => show_verdict(verdict, console),
        (None, None) => Exit::Success,
        (None, Some(reason)) => {
            console.error(reason);
            Exit::Failure
        }
    };
    let (held, failed) = thresholds_text(&report.findings.thresholds);
    held.iter().for_each(|text| console.info(text));
    failed.iter().for_each(|text| console.error(text));
    Ok(if exit == Exit::Success && !failed.is_empty() { Exit::Threshold } else { exit })
}

/// What is known so far to be missing in the archive of a race that has ended.
pub(super) async fn known_trouble(coordinator: &dyn Coordinator, race: &RaceId) -> Vec<String> {
    coordinator.report(race).await.map(|report| report.findings.archive).unwrap_or_default()
}

/// Says what turned out to be missing since the `known` was.
pub(super) async fn show_late_trouble(
    coordinator: &dyn Coordinator,
    race: &RaceId,
    known: &[String],
    console: Console,
) {
    let now = known_trouble(coordinator, race).await;
    now.iter().filter(|text| !known.contains(text)).for_each(|text| console.warning(text));
}

/// Waits until everything of a race of the cluster is in the archive, but not for ever, and says what went wrong since the
/// race ended.
pub(super) async fn settle(coordinator: &dyn Coordinator, race: &RaceId, known: &[String], console: Console) {
    let settled = async {
        let mut wait = SETTLED_SOON;
        while coordinator.report(race).await.is_ok_and(|report| !report.is_settled) {
            sleep(wait).await;
            wait = SETTLED_EVERY.min(2 * wait);
        }
    };
    let is_settled = tokio::select! {
        settled = timeout(SETTLED_WITHIN, settled) => settled.is_ok(),
        _ = tokio::signal::ctrl_c() => false,
    };
    show_late_trouble(coordinator, race, known, console).await;
    if !is_settled {
        console.info(&format!(
            "the coordinator still collects raw samples; `rallyd attach {race}` shows later whether some are missing"
        ));
    }
}

fn show_report(report: &RaceReport, incomplete: Option<&str>, showing: Showing<'_>) -> Result<(), CommandError> {
    let Showing { arguments, reporting, console, .. } = showing;
    if let Some(results) = report.race.results.as_ref().filter(|results| !results.op_metrics.is_empty()) {
        let options = arguments.options(reporting);
        let text = summary(results, incomplete, options);
        if options.format == ReportFormat::Markdown {
            console.plain(FINAL_SCORE);
        }
        console.data(&text)?;
        write_report_file(arguments.report_file.as_deref(), &text)?;
        warnings(results).iter().for_each(|text| console.warning(text));
    }
    findings_text(&report.findings).iter().for_each(|text| console.warning(text));
    Ok(())
}

/// Appends a report to the file that the user named, if any.
pub(super) fn write_report_file(path: Option<&Path>, text: &str) -> Result<(), CommandError> {
    let Some(path) = path else { return Ok(()) };
    let write = || OpenOptions::new().create(true).append(true).open(path)?.write_all(text.as_bytes());
    make_parent(path)
        .and_then(|()| write())
        .map_err(|source| CommandError::ReportFile { path: path.to_owned(), source })
}

/// Writes a file of a report in place of an older one.
pub(super) fn write_file(path: &Path, text: &str) -> Result<(), CommandError> {
    let written = make_parent(path).and_then(|()| fs::write(path, text));
    written.map_err(|source| CommandError::WriteFile { path: path.to_owned(), source })
}

fn make_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.map_or(Ok(()), fs::create_dir_all)
}

/// Says how a race ended.
fn show_verdict(verdict: &RaceVerdict, console: Console) -> Exit {
    let text = verdict_text(verdict);
    match verdict.outcome {
        RaceOutcome::Completed => {
            console.info(&text);
            Exit::Success
        }
        RaceOutcome::Cancelled => {
            console.error(&text);
            Exit::Interrupted
        }
        _ => {
            console.error(&text);
            Exit::Failure
        }
    }
}
