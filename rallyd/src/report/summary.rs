//! Rally's summary report: its lines, and the warnings after it.

use clap::ValueEnum;
use rally_core::metrics::Results;

use super::rows::{Kind, Row, rows_by_cluster};
use super::table::{Cell, NumberAlignment, csv, markdown};

/// Which lines are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Shown {
    /// Those with a value.
    #[default]
    Available,
    /// Those with a value, and all percentiles.
    AllPercentiles,
    /// All, and all percentiles.
    All,
}

/// How a report is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// A pipe table, with up to six significant digits.
    #[default]
    Markdown,
    /// Comma-separated values, with all digits.
    Csv,
}

/// How the summary report looks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SummaryOptions {
    /// Which lines it has.
    pub shown: Shown,
    /// How it is written.
    pub format: ReportFormat,
    /// Where numbers stand.
    pub alignment: NumberAlignment,
    /// Whether it has processing times.
    pub processing_time: bool,
}

/// How the mark of a report begins that is not about a whole race.
const INCOMPLETE: &str = "INCOMPLETE";

/// What stands above the report on a terminal.
pub const FINAL_SCORE: &str = r"
------------------------------------------------------
    _______             __   _____
   / ____(_)___  ____ _/ /  / ___/_________  ________
  / /_  / / __ \/ __ `/ /   \__ \/ ___/ __ \/ ___/ _ \
 / __/ / / / / / /_/ / /   ___/ / /__/ /_/ / /  /  __/
/_/   /_/_/ /_/\__,_/_/   /____/\___/\____/_/   \___/
------------------------------------------------------
";

/// The summary report.
///
/// With results `by_cluster` it has a column for each cluster in place of one for the value.
///
/// Results that are not those of a whole race are marked with the reason `incomplete`: in the first line of Markdown, and in
/// the first row of CSV, which has neither value nor unit.
#[must_use]
pub fn summary(results: &Results, by_cluster: &[Results], incomplete: Option<&str>, options: SummaryOptions) -> String {
    let is_shown = |row: &Row| match options.shown {
        Shown::Available => row.raw.is_some(),
        Shown::AllPercentiles => row.raw.is_some() || matches!(row.kind, Kind::Percentile(..)),
        Shown::All => true,
    };
    let clusters: Vec<&str> = by_cluster.iter().map(|it| it.cluster_name.as_str()).collect();
    let columns = if clusters.is_empty() { vec!["Value"] } else { clusters };
    let header = [&["Metric", "Task"], &columns[..], &["Unit"]].concat();
    let lines: Vec<Vec<Cell>> = rows_by_cluster(results, by_cluster, options.processing_time)
        .into_iter()
        .filter(|(row, _)| is_shown(row))
        .map(|(row, values)| {
            let (divisor, unit) = row.unit.resolve(values.iter().flatten().copied().fold(0.0, f64::max));
            let mut cells = vec![Cell::Text(row.metric), Cell::Text(row.task)];
            cells.extend(values.into_iter().map(|value| Cell::Number(value.map(|raw| raw / divisor))));
            cells.push(Cell::Text(unit));
            cells
        })
        .collect();
    let mark = incomplete.map(|reason| format!("{INCOMPLETE}: {reason}"));
    match options.format {
        ReportFormat::Markdown => {
            let mark = mark.map(|mark| format!("{mark}\n\n")).unwrap_or_default();
            mark + &markdown(&header, &lines, options.alignment)
        }
        ReportFormat::Csv => {
            let mark = mark.map(|mark| {
                let mut cells = vec![Cell::Text(mark), Cell::text("")];
                cells.extend(columns.iter().map(|_| Cell::Number(None)));
                cells.push(Cell::text(""));
                cells
            });
            csv(&header, &mark.into_iter().chain(lines).collect::<Vec<_>>())
        }
    }
}

/// What the user should know of the tasks, as sentences.
#[must_use]
pub fn warnings(results: &Results) -> Vec<String> {
    let mut warnings = Vec::new();
    for task in &results.op_metrics {
        let name = &task.task;
        if task.error_rate > 0.0 {
            let rate = task.error_rate * 100.0;
            warnings.push(format!("task `{name}` has an error rate of {rate:.2} %"));
        }
        if task.throughput.median.is_none() {
            let reason = if task.error_rate > 0.0 {
                "its error rate is too high"
            } else {
                "it probably ended during its warm-up"
            };
            warnings.push(format!("task `{name}` has no throughput: {reason}"));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use rally_core::metrics::{
        ClusterResults, Distribution, OperationMetrics, Percentiles, SampleType, ThroughputSummary, ThroughputValue,
    };

    use super::*;
    use crate::report::testing::cluster;

    fn results(error_rate: f64) -> Results {
        let mut times = Distribution::default();
        (1..=20).for_each(|millis| times.record(millis * 1_000_000));
        let value = ThroughputValue { at: 1, value: 1234.567, sample_type: SampleType::Normal };
        let values = if error_rate < 1.0 { vec![value] } else { Vec::new() };
        let task = OperationMetrics {
            task: "index, then | wait".to_owned(),
            operation: "index".to_owned(),
            throughput: ThroughputSummary::new(&values, "docs"),
            latency: Percentiles::new(&times),
            service_time: Percentiles::new(&times),
            processing_time: Percentiles::new(&times),
            error_rate,
            duration: 1_000.0,
            meta: Default::default(),
        };
        Results { cluster_name: "default".to_owned(), op_metrics: vec![task], cluster: Default::default() }
    }

    #[test]
    fn the_report_has_rallys_lines_in_rallys_order() {
        let results = Results { cluster: cluster(), ..results(0.0) };
        insta::assert_snapshot!(summary(
            &results,
            &[],
            None,
            SummaryOptions { processing_time: true, ..Default::default() }
        ));
    }

    #[test]
    fn lines_without_a_value_are_shown_on_request() {
        let options = |shown| SummaryOptions { shown, format: ReportFormat::Csv, ..Default::default() };
        let results = results(1.0);
        insta::assert_snapshot!(summary(&results, &[], None, options(Shown::All)));
        let lines = |shown| summary(&results, &[], None, options(shown)).lines().count();
        assert_eq!((lines(Shown::Available), lines(Shown::AllPercentiles)), (1 + 3 + 3 + 1, 1 + 6 + 6 + 1));
    }

    #[test]
    fn results_of_a_race_that_was_cut_short_are_marked_first() {
        let of = |format| {
            let options = SummaryOptions { format, ..Default::default() };
            summary(&results(0.0), &[], Some("it was, so to say, cut"), options)
        };
        let text = of(ReportFormat::Markdown);
        assert!(text.starts_with("INCOMPLETE: it was, so to say, cut\n\n|"), "{text}");
        let text = of(ReportFormat::Csv);
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("Metric,Task,Value,Unit"));
        assert_eq!(lines.next(), Some("\"INCOMPLETE: it was, so to say, cut\",,,"));
    }

    #[test]
    fn each_of_several_clusters_has_a_column() {
        let of = |name: &str, bytes: f64| Results {
            cluster_name: name.to_owned(),
            cluster: ClusterResults { store_size: Some(bytes), ..ClusterResults::default() },
            ..results(0.0)
        };
        let mut by_cluster = [of("here", 1024.0 * 1024.0 * 1024.0), of("there", 0.0)];
        by_cluster[1].op_metrics.clear();
        let options = SummaryOptions { format: ReportFormat::Csv, ..Default::default() };
        let text = summary(&of("default", 1024.0 * 1024.0 * 1024.0), &by_cluster, Some("cut"), options);
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("Metric,Task,here,there,Unit"));
        assert_eq!(lines.next(), Some("INCOMPLETE: cut,,,,"));
        assert_eq!(lines.next(), Some("Store size,,1,0,GB"));
        assert_eq!(lines.next(), Some("Min Throughput,\"index, then | wait\",1234.57,,docs/s"));
    }

    #[test]
    fn errors_and_missing_throughput_are_warned_of() {
        assert!(warnings(&results(0.0)).is_empty());
        assert_eq!(
            warnings(&results(1.0)),
            [
                "task `index, then | wait` has an error rate of 100.00 %",
                "task `index, then | wait` has no throughput: its error rate is too high",
            ]
        );
    }
}
