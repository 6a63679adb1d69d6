//! Rally's summary report: its lines, and how they look.

use rally_core::metrics::{OperationMetrics, Percentiles, Results};

/// Which lines are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shown {
    /// Those with a value.
    #[default]
    Available,
    /// All, and all percentiles.
    All,
    /// Those with a value, and all percentiles.
    AllPercentiles,
}

/// Where numbers stand in their column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NumberAlignment {
    /// At the left.
    Left,
    /// In the middle.
    Center,
    /// At the right.
    #[default]
    Right,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SummaryLine {
    /// What it is about.
    pub metric: String,
    /// The task.
    pub task: String,
    /// The value as text; empty if there is none.
    pub value: String,
    /// The unit.
    pub unit: String,
}

const HEADER: [&str; 4] = ["Metric", "Task", "Value", "Unit"];

/// The lines of the tasks, in Rally's order; processing times are left out unless asked for.
#[must_use]
pub fn summary_lines(results: &Results, shown: Shown, processing_time: bool) -> Vec<SummaryLine> {
    results.op_metrics.iter().flat_map(|task| task_lines(task, shown, processing_time)).collect()
}

fn task_lines(task: &OperationMetrics, shown: Shown, processing_time: bool) -> Vec<SummaryLine> {
    let line = |metric: String, value: Option<String>, unit: &str| SummaryLine {
        metric,
        task: task.task.clone(),
        value: value.unwrap_or_default(),
        unit: unit.to_owned(),
    };
    let throughput = &task.throughput;
    let mut lines = Vec::new();
    for (name, value) in
        [("Min", throughput.min), ("Mean", throughput.mean), ("Median", throughput.median), ("Max", throughput.max)]
    {
        if value.is_some() || shown == Shown::All {
            lines.push(line(format!("{name} Throughput"), value.map(|value| format!("{value:.2}")), &throughput.unit));
        }
    }
    let times = [("latency", &task.latency), ("service time", &task.service_time)];
    for (name, times) in times.into_iter().chain(processing_time.then_some(("processing time", &task.processing_time)))
    {
        for (percentile, key) in PERCENTILES {
            let value = times.values.get(key);
            if value.is_some() || shown != Shown::Available {
                let value = value.map(|value| format!("{value}"));
                lines.push(line(format!("{percentile} percentile {name}"), value, unit_of(times)));
            }
        }
    }
    lines.push(line("error rate".to_owned(), Some(format!("{:.2}", task.error_rate * 100.0)), "%"));
    lines
}

/// How a percentile is called in the report, and in the results.
const PERCENTILES: [(&str, &str); 6] = [
    ("50th", "50_0"),
    ("90th", "90_0"),
    ("99th", "99_0"),
    ("99.9th", "99_9"),
    ("99.99th", "99_99"),
    ("100th", "100_0"),
];

fn unit_of(times: &Percentiles) -> &str {
    if times.unit.is_empty() { "ms" } else { &times.unit }
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

/// The report as a pipe table of Markdown.
#[must_use]
pub fn markdown(lines: &[SummaryLine], alignment: NumberAlignment) -> String {
    // A pipe in a name would begin a new column.
    let rows: Vec<[String; 4]> = lines.iter().map(|line| cells(line).map(|cell| cell.replace('|', "\\|"))).collect();
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count()).chain([HEADER[column].len()]).max().unwrap_or_default()
    };
    let widths = [width(0), width(1), width(2), width(3)];
    let row = |cells: [&str; 4]| {
        let [metric, task, value, unit] = cells;
        let number = widths[2];
        let value = match alignment {
            NumberAlignment::Left => format!("{value:<number$}"),
            NumberAlignment::Center => format!("{value:^number$}"),
            NumberAlignment::Right => format!("{value:>number$}"),
        };
        format!("| {metric:>0$} | {task:>1$} | {value} | {unit:>2$} |\n", widths[0], widths[1], widths[3])
    };
    let dashes = |width: usize| "-".repeat(width + 1);
    let number = match alignment {
        NumberAlignment::Left => format!(":{}", dashes(widths[2])),
        NumberAlignment::Center => format!(":{}:", "-".repeat(widths[2])),
        NumberAlignment::Right => format!("{}:", dashes(widths[2])),
    };
    let mut text = row(HEADER);
    text += &format!("|{}:|{}:|{number}|{}:|\n", dashes(widths[0]), dashes(widths[1]), dashes(widths[3]));
    text.extend(rows.iter().map(|cells| row(cells.each_ref().map(String::as_str))));
    text
}

/// The report as comma-separated values.
#[must_use]
pub fn csv(lines: &[SummaryLine]) -> String {
    let header = HEADER.map(str::to_owned);
    let rows = std::iter::once(header).chain(lines.iter().map(cells));
    rows.map(|cells| cells.map(|cell| quoted(&cell)).join(",") + "\n").collect()
}

fn cells(line: &SummaryLine) -> [String; 4] {
    [&line.metric, &line.task, &line.value, &line.unit].map(Clone::clone)
}

fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.to_owned() }
}

#[cfg(test)]
mod tests {
    use rally_core::metrics::{Distribution, SampleType, ThroughputSummary, ThroughputValue};

    use super::*;

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
        Results { cluster_name: "default".to_owned(), op_metrics: vec![task] }
    }

    #[test]
    fn the_report_has_rallys_lines_in_rallys_order() {
        insta::assert_snapshot!(markdown(
            &summary_lines(&results(0.0), Shown::Available, true),
            NumberAlignment::Right
        ));
    }

    #[test]
    fn all_lines_are_shown_on_request_even_without_a_value() {
        insta::assert_snapshot!(csv(&summary_lines(&results(1.0), Shown::All, false)));
    }

    #[test]
    fn numbers_stand_where_the_user_wants_them() {
        let lines = summary_lines(&results(0.0), Shown::Available, false);
        for (alignment, rule, cell) in [
            (NumberAlignment::Left, "|:--------|", "| 0.00    |"),
            (NumberAlignment::Center, "|:-------:|", "|  0.00   |"),
            (NumberAlignment::Right, "|--------:|", "|    0.00 |"),
        ] {
            let text = markdown(&lines, alignment);
            assert!(text.contains(rule) && text.contains(cell), "{text}");
        }
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
