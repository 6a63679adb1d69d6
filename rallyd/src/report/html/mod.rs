//! A race as one HTML file without anything from elsewhere: no script, no font, no picture.

mod chart;
mod compare;
mod timeline;

pub use compare::comparison_html;

use std::fmt::Write as _;

use jiff::civil::DateTime;
use rally_core::metrics::{
    ArchivedVerdict, Distribution, DriverFindings, Findings, OperationMetrics, RaceDocument, Results, ThresholdOutcome,
};
use rally_core::{RaceId, RaceOutcome, TaskIndex};
use serde_json::Value;

use self::chart::{Band, Chart, Line, XAxis, chart, clock, number, sparkline};
use self::timeline::{DriverPoint, TaskLine, Timeline};
use super::escape::escaped;
use super::rows::{Kind, Row, rows};
use super::tags_text;
use crate::archive::{Archive, ArchiveError};
use crate::race::verdict_text;
use crate::report::{findings_text, warnings};

/// Ticks of a percentile curve: `1 / (1 - quantile)`, and the percentile.
const PERCENTILE_TICKS: [(f64, &str); 7] = [
    (1.0, "0"),
    (2.0, "50"),
    (10.0, "90"),
    (100.0, "99"),
    (1_000.0, "99.9"),
    (10_000.0, "99.99"),
    (100_000.0, "99.999"),
];

/// Points of a percentile curve for each power of ten.
const CURVE_POINTS: u32 = 16;

/// Everything that the page shows of a race.
#[derive(Debug)]
pub struct RacePage {
    document: RaceDocument,
    verdict: Option<ArchivedVerdict>,
    /// Whether there is more of it than its document.
    is_archived: bool,
    /// In the order of the schedule.
    tasks: Vec<String>,
    timeline: Timeline,
    hosts: Vec<Value>,
}

impl RacePage {
    /// Reads a race. Of one that did not run to its end, or whose coordinator died, there is what was complete.
    ///
    /// # Errors
    ///
    /// If there is no such race, or a file of it cannot be read.
    pub fn load(archive: &Archive, race: &RaceId) -> Result<Self, ArchiveError> {
        Self::of(archive, archive.load_with_results(race)?)
    }

    /// A race with what the archive has of it, which is nothing if the race is known from elsewhere.
    ///
    /// # Errors
    ///
    /// If a file of it cannot be read.
    pub fn of(archive: &Archive, document: RaceDocument) -> Result<Self, ArchiveError> {
        let race = &document.race_id;
        let tasks = archive.tasks(&document)?.unwrap_or_default();
        let path = archive.intervals_path(race);
        let timeline = Timeline::read(&path).map_err(|source| ArchiveError::File { action: "read", path, source })?;
        let (verdict, hosts) = (archive.verdict(race)?, archive.hosts(race)?);
        Ok(Self { verdict, is_archived: archive.contains(race), document, tasks, timeline, hosts })
    }

    /// The page.
    #[must_use]
    pub fn html(&self) -> String {
        let it = &self.document;
        let title = format!("{} · {}", it.track, it.race_id);
        let mut page = begin(&title);
        self.write_head(&mut page);
        self.write_verdict(&mut page);
        if let Some(results) = &it.results {
            write_tasks_at_a_glance(&mut page, results);
        }
        self.write_tasks(&mut page);
        self.write_drivers(&mut page);
        self.write_environment(&mut page);
        if let Some(results) = &it.results {
            write_summary(&mut page, results);
        }
        end(page, &[&it.rally_version])
    }

    fn task_name(&self, index: TaskIndex) -> String {
        self.tasks.get(index.0 as usize).cloned().unwrap_or_else(|| format!("Task {}", index.0))
    }

    fn named_lines(&self) -> Vec<(String, &TaskLine)> {
        self.timeline.tasks.iter().map(|(index, line)| (self.task_name(*index), line)).collect()
    }

    fn findings(&self) -> Findings {
        self.verdict.as_ref().map(|verdict| verdict.findings.clone()).unwrap_or_default()
    }

    fn write_head(&self, page: &mut String) {
        let it = &self.document;
        let has_failed_threshold = self.findings().thresholds.iter().any(ThresholdOutcome::failed);
        let (class, outcome) = match it.outcome {
            Some(RaceOutcome::Completed) if has_failed_threshold => ("bad", "a threshold failed"),
            Some(RaceOutcome::Completed) => ("good", "complete"),
            Some(RaceOutcome::Incomplete) => ("warn", "incomplete"),
            Some(RaceOutcome::Cancelled) => ("warn", "cancelled"),
            Some(_) => ("bad", "failed"),
            // The original writes results only when a race has run to its end, and no outcome.
            None if it.results.is_some() => ("good", "complete"),
            None => ("bad", "without results"),
        };
        let challenge = it.challenge.as_ref().map(|it| format!(" / {it}")).unwrap_or_default();
        let _ = write!(
            page,
            "<h1>{}{} <span class=\"badge {class}\">{outcome}</span></h1>\n<p class=\"soft\">Race {}</p>\n",
            escaped(&it.track),
            escaped(&challenge),
            escaped(it.race_id.as_str())
        );
        let params = tags_text(&it.track_params);
        write_facts(
            page,
            [
                ("Began", began(it)),
                ("Pipeline", it.pipeline.clone()),
                ("Car", it.car.join(", ")),
                ("Environment", it.environment.clone()),
                ("Track revision", it.track_revision.clone().unwrap_or_default()),
                ("Track parameters", params),
                ("User tags", tags_text(&it.user_tags)),
            ]
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value)),
        );
    }

    fn write_verdict(&self, page: &mut String) {
        page.push_str("<h2>Verdict</h2>\n");
        let findings = self.findings();
        match &self.verdict {
            Some(verdict) => {
                let text = verdict_text(&verdict.verdict);
                let errors = verdict.verdict.errors.iter().map(ToString::to_string);
                write_notes(page, "", text.lines().map(|line| line.trim().to_owned()).chain(errors));
            }
            None if !self.is_archived => page.push_str(
                "<p class=\"soft\">The race is known from a metrics store, which has its results; how it went is in the \
                 archive of the machine where it ran.</p>\n",
            ),
            None => page
                .push_str("<p class=\"warn\">Nobody wrote down how the race ended; this is what was complete.</p>\n"),
        }
        let errors = &findings.errors;
        let without_errors = Findings { errors: Vec::new(), ..findings.clone() };
        let of_tasks = self.document.results.as_ref().map(warnings).unwrap_or_default();
        let damage = self
            .timeline
            .is_damaged
            .then(|| "the file of intervals ends in damage; what follows is missing".to_owned());
        write_notes(page, "warn", of_tasks.into_iter().chain(findings_text(&without_errors)).chain(damage));
        if !findings.thresholds.is_empty() {
            page.push_str("<h3>Thresholds</h3>\n");
            let line = |outcome: &ThresholdOutcome| {
                let (class, word) = if outcome.failed() { ("bad", "failed") } else { ("good", "holds") };
                vec![
                    Cell::text(outcome.threshold.to_string()),
                    Cell::of(class, word),
                    Cell::text(outcome.reasons().join("; ")),
                ]
            };
            write_table(
                page,
                &["The race fails if", "", "Because"],
                &findings.thresholds.iter().map(line).collect::<Vec<_>>(),
            );
        }
        if !errors.is_empty() {
            page.push_str("<h3>Errors by class</h3>\n<p class=\"soft\">Warm-up included; one example of each.</p>\n");
            let mut lines = Vec::new();
            for task in errors {
                let mut classes: Vec<_> = task.errors.iter().collect();
                classes.sort_by(|one, other| other.count.cmp(&one.count).then_with(|| one.class.cmp(&other.class)));
                lines.extend(classes.into_iter().map(|error| {
                    vec![
                        Cell::text(&task.task),
                        Cell::text(&error.class),
                        Cell::number(number(error.count as f64)),
                        Cell::of("pre", &error.example),
                    ]
                }));
            }
            write_table(page, &["Task", "Class", "#Count", "Example"], &lines);
        }
    }

    fn write_tasks(&self, page: &mut String) {
        if self.timeline.tasks.is_empty() {
            return;
        }
        page.push_str("<h2>Tasks over time</h2>\n<p class=\"soft\">Each point is one second, or as many as fit. Throughput is that of the point alone, while the summary has Rally's, which is cumulative. Distributions leave warm-up out.</p>\n");
        let (long, short): (Vec<_>, Vec<_>) =
            self.named_lines().into_iter().partition(|(_, line)| line.service_time.len() > 1);
        for (name, line) in long {
            let _ = write!(page, "<h3>{}</h3>\n<div class=\"charts\">\n", escaped(&name));
            write_throughput(page, &name, line);
            if line.is_throttled() {
                write_times(page, &name, "Service time", line, &line.service_time);
                write_times(page, &name, "Latency", line, &line.latency);
            } else {
                write_times(page, &name, "Service time, which is latency, too", line, &line.service_time);
            }
            write_distribution(page, &name, line);
            page.push_str("</div>\n");
        }
        let short: Vec<_> = short.into_iter().map(|(name, _)| name).collect();
        if !short.is_empty() {
            let names = escaped(&short.join(", "));
            let _ = writeln!(page, "<p class=\"soft\">Too short for a chart: {names}.</p>");
        }
    }

    fn write_drivers(&self, page: &mut String) {
        let findings = self.findings();
        if findings.drivers.is_empty() && self.timeline.drivers.is_empty() {
            return;
        }
        page.push_str("<h2>Load drivers</h2>\n<p class=\"soft\">Whether the load generators themselves kept up, over the time of the race; \
             the numbers are the largest values, and each column has one scale.</p>\n");
        let mut names: Vec<&str> = findings.drivers.iter().map(|it| it.driver.as_str()).collect();
        let measured = self.timeline.drivers.keys().map(String::as_str);
        names.extend(measured.filter(|name| findings.drivers.iter().all(|it| it.driver != *name)));
        let scale = HealthScale::of(&self.timeline);
        let line = |name: &str| {
            let found = findings.drivers.iter().find(|it| it.driver == name);
            let count = |count: fn(&DriverFindings) -> u64| {
                Cell::number(found.map_or_else(|| "–".to_owned(), |it| number(count(it) as f64)))
            };
            let mut cells = vec![
                Cell::text(name),
                count(|it| it.intervals),
                count(|it| it.saturated),
                count(|it| it.lost),
                count(|it| it.unwritten),
            ];
            cells.extend(scale.cells(name, self.timeline.drivers.get(name).map(Vec::as_slice).unwrap_or_default()));
            cells
        };
        let head = [
            "Driver",
            "#Seconds",
            "#Saturated",
            "#Lost samples",
            "#Samples without a file",
            "Dispatch lag, p99",
            "Busiest worker",
            "Requests under way",
        ];
        write_table(page, &head, &names.into_iter().map(line).collect::<Vec<_>>());
    }

    fn write_environment(&self, page: &mut String) {
        if !self.document.cluster.is_empty() {
            page.push_str("<h2>Cluster under test</h2>\n");
            write_facts(page, self.document.cluster.iter().map(|(key, value)| (called(key), plain(key, value))));
        }
        if !self.hosts.is_empty() {
            page.push_str("<h2>Hosts</h2>\n");
        }
        for host in &self.hosts {
            let text = |key: &str| host.get(key).map(|value| plain(key, value)).unwrap_or_default();
            let _ = writeln!(page, "<h3>{}</h3>", escaped(&format!("{} ({})", text("name"), text("role"))));
            let clients =
                host.get("clients").and_then(|it| Some((it.get("first")?.as_u64()?, it.get("count")?.as_u64()?)));
            let clients = clients.map(|(first, count)| {
                let text = if count == 0 {
                    "none".to_owned()
                } else {
                    format!("{first} to {}", first.saturating_add(count - 1))
                };
                ("Clients".to_owned(), text)
            });
            let facts = host.get("facts").and_then(Value::as_object);
            let facts = facts.into_iter().flatten().map(|(key, value)| (called(key), plain(key, value)));
            let clock = host.get("clock").and_then(clock_text).map(|text| ("Clock".to_owned(), text));
            write_facts(page, clients.into_iter().chain(facts).chain(clock));
        }
    }
}

/// How a host's clock stood against the coordinator's, in milliseconds; none if that is not known.
fn clock_text(clock: &Value) -> Option<String> {
    let moment = |name: &str| {
        let clock = clock.get(name)?;
        let (offset, error) = (clock.get("offset")?.as_f64()?, clock.get("error")?.as_f64()?);
        Some(format!("{} ± {} ms at the {name}", number(offset / 1e6), number(error / 1e6)))
    };
    let moments: Vec<String> = ["begin", "end"].into_iter().filter_map(moment).collect();
    (!moments.is_empty()).then(|| format!("coordinator's minus own: {}", moments.join(", ")))
}

/// The page up to its content.
fn begin(title: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\"/>\n<title>{}</title>\n<style>\n{}</style>\n</head>\n<body>\n<main>\n",
        escaped(title),
        include_str!("style.css"),
    )
}

/// The page with what comes after its content; `versions` are those of who ran the races.
fn end(page: String, versions: &[&str]) -> String {
    let races = if versions.len() == 1 { "race" } else { "races" };
    let mut versions = versions.to_vec();
    versions.dedup();
    let versions = escaped(&versions.join(" and "));
    page + &format!(
        "<footer>Made by rallyd {} from the archive of the {races}, run by version {versions}.</footer>\n</main>\n</body>\n\
         </html>\n",
        env!("CARGO_PKG_VERSION")
    )
}

/// When a race began, for people.
fn began(race: &RaceDocument) -> String {
    let moment = match DateTime::strptime("%Y%m%dT%H%M%SZ", &race.race_timestamp) {
        Ok(moment) => moment,
        // Of a version that wrote it in another way.
        Err(_) => return race.race_timestamp.clone(),
    };
    moment.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// A key as it may stand in front of its value.
fn called(key: &str) -> String {
    let words = key.replace(['-', '_'], " ");
    let mut rest = words.chars();
    rest.next().map_or_else(String::new, |first| first.to_uppercase().chain(rest).collect())
}

fn plain(key: &str, value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Number(it) if key == "memory" => {
            format!("{} GiB", number(it.as_f64().unwrap_or_default() / f64::from(1 << 30)))
        }
        other => other.to_string(),
    }
}

#[derive(Default)]
struct Cell {
    class: &'static str,
    text: String,
    /// SVG that stands before the text.
    picture: String,
}

impl Cell {
    fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    fn number(text: String) -> Self {
        Self::of("n", text)
    }

    fn of(class: &'static str, text: impl Into<String>) -> Self {
        Self { class, ..Self::text(text) }
    }
}

/// Headings of columns with numbers begin with `#`.
fn write_table(page: &mut String, head: &[&str], lines: &[Vec<Cell>]) {
    if lines.is_empty() {
        return;
    }
    page.push_str("<div class=\"scroll\"><table>\n<thead><tr>");
    for name in head {
        let _ = match name.strip_prefix('#') {
            Some(name) => write!(page, "<th class=\"n\">{}</th>", escaped(name)),
            None => write!(page, "<th>{}</th>", escaped(name)),
        };
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    for line in lines {
        page.push_str("<tr>");
        for Cell { class, text, picture } in line {
            let text = escaped(text);
            let _ = match *class {
                "" => write!(page, "<td>{picture}{text}</td>"),
                "pre" => write!(page, "<td><pre>{text}</pre></td>"),
                "group" => write!(page, "<td class=\"group\" colspan=\"{}\">{text}</td>", head.len()),
                class => write!(page, "<td class=\"{class}\">{text}</td>"),
            };
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody>\n</table></div>\n");
}

/// Names with values; those without a value are left out.
fn write_facts(page: &mut String, facts: impl Iterator<Item = (String, String)>) {
    page.push_str("<dl class=\"facts\">\n");
    for (name, value) in facts.filter(|(_, value)| !value.is_empty()) {
        let _ = writeln!(page, "<div><dt>{}</dt><dd>{}</dd></div>", escaped(&name), escaped(&value));
    }
    page.push_str("</dl>\n");
}

fn write_notes(page: &mut String, class: &str, notes: impl Iterator<Item = String>) {
    let items: Vec<String> = notes.map(|note| format!("<li>{}</li>\n", escaped(&note))).collect();
    if !items.is_empty() {
        let _ = write!(page, "<ul class=\"note-list {class}\">\n{}</ul>\n", items.concat());
    }
}

fn write_tasks_at_a_glance(page: &mut String, results: &Results) {
    if results.op_metrics.is_empty() {
        return;
    }
    page.push_str("<h2>At a glance</h2>\n");
    let line = |task: &OperationMetrics| {
        let or_dash = |value: Option<f64>| Cell::number(value.map_or_else(|| "–".to_owned(), number));
        let percentile = |times: &rally_core::metrics::Percentiles, key: &str| or_dash(times.values.get(key).copied());
        let error_rate = task.error_rate * 100.0;
        let throughput = task.throughput.median.map(|median| format!("{} {}", number(median), task.throughput.unit));
        vec![
            Cell::text(&task.task),
            Cell::number(throughput.unwrap_or_else(|| "–".to_owned())),
            percentile(&task.service_time, "50_0"),
            percentile(&task.service_time, "99_0"),
            percentile(&task.service_time, "100_0"),
            percentile(&task.latency, "99_0"),
            Cell::number(number(error_rate)),
            Cell::number(clock(task.duration / 1e3)),
        ]
    };
    let head = [
        "Task",
        "#Median throughput",
        "#Service p50, ms",
        "#p99",
        "#Max",
        "#Latency p99, ms",
        "#Errors, %",
        "#Duration",
    ];
    write_table(page, &head, &results.op_metrics.iter().map(line).collect::<Vec<_>>());
}

/// All lines of the summary report that have a value: those of tasks, each under its name, then those of the cluster, of which
/// zeros are folded away.
fn write_summary(page: &mut String, results: &Results) {
    page.push_str("<h2>Summary report</h2>\n");
    let with_value = rows(results, true).into_iter().filter(|row| row.raw.is_some());
    let (cluster, tasks): (Vec<Row>, Vec<Row>) = with_value.partition(|row| row.kind == Kind::Cluster);
    let (zeros, cluster): (Vec<Row>, Vec<Row>) = cluster.into_iter().partition(|row| row.raw == Some(0.0));
    let head = ["Metric", "#Value", "Unit"];
    let line = |row: Row| {
        let raw = row.raw.unwrap_or_default();
        let (divisor, unit) = row.unit.resolve(raw);
        (row.task, vec![Cell::text(row.metric), Cell::number(number(raw / divisor)), Cell::text(unit)])
    };
    let of_tasks = grouped(tasks.into_iter().map(line), "");
    let of_cluster = grouped(cluster.into_iter().map(line), CLUSTER);
    write_table(page, &head, &of_tasks.into_iter().chain(of_cluster).collect::<Vec<_>>());
    write_folded(page, "zero", &head, &grouped(zeros.into_iter().map(line), ""));
}

/// What stands above lines that are about no task.
const CLUSTER: &str = "Cluster under test";

/// Lines with a heading before those that follow each other with the same task, or `otherwise` if they have none.
fn grouped(lines: impl Iterator<Item = (String, Vec<Cell>)>, otherwise: &str) -> Vec<Vec<Cell>> {
    let mut cells = Vec::new();
    let mut group: Option<String> = None;
    for (task, line) in lines {
        if group.as_ref() != Some(&task) {
            let heading = if task.is_empty() { otherwise } else { &task };
            if !heading.is_empty() {
                cells.push(vec![Cell::of("group", heading)]);
            }
            group = Some(task);
        }
        cells.push(line);
    }
    cells
}

/// A table that is only seen on request; `what` its lines have in common.
fn write_folded(page: &mut String, what: &str, head: &[&str], lines: &[Vec<Cell>]) {
    if lines.is_empty() {
        return;
    }
    let count = lines.len();
    let lines_text = if count == 1 { "line is" } else { "lines are" };
    let _ = writeln!(page, "<details><summary>{count} more {lines_text} {what}</summary>");
    write_table(page, head, lines);
    page.push_str("</details>\n");
}

fn write_figure(page: &mut String, title: &str, chart: &str, legend: &[(&str, &str)]) {
    let items = legend.iter().map(|(class, text)| format!("<span class=\"{class}\">{text}</span>"));
    let legend = items.collect::<String>();
    let _ = writeln!(page, "<figure><strong>{title}</strong>{chart}<figcaption>{legend}</figcaption></figure>");
}

fn write_throughput(page: &mut String, task: &str, line: &TaskLine) {
    let unit = format!("{}/s", line.unit);
    let hint = |&(at, rate): &(f64, f64)| (at, format!("{}: {} {unit}", clock(at), number(rate)));
    let svg = chart(&Chart {
        label: format!("Throughput of {task} over time"),
        y_unit: &unit,
        x: XAxis::Seconds(line.until()),
        bands: Vec::new(),
        lines: vec![Line { class: "one", points: line.throughput.clone() }],
        shaded_until: line.warmup_until,
        hints: line.throughput.iter().map(hint).collect(),
    });
    write_figure(page, "Throughput", &svg, &[]);
}

fn write_times(page: &mut String, task: &str, title: &str, line: &TaskLine, points: &[(f64, [f64; 4])]) {
    let band =
        |class, low: usize| Band { class, points: points.iter().map(|(at, it)| (*at, it[low], it[low + 1])).collect() };
    let hint = |(at, [p50, p90, p99, max]): &(f64, [f64; 4])| {
        let [p50, p90, p99, max] = [p50, p90, p99, max].map(|it| number(*it));
        (*at, format!("{}: p50 {p50} ms, p90 {p90} ms, p99 {p99} ms, max {max} ms", clock(*at)))
    };
    let svg = chart(&Chart {
        label: format!("{title} of {task} over time"),
        y_unit: "ms",
        x: XAxis::Seconds(line.until()),
        bands: vec![band("bmax", 2), band("b99", 1), band("b90", 0)],
        lines: vec![Line { class: "one", points: points.iter().map(|(at, it)| (*at, it[0])).collect() }],
        shaded_until: line.warmup_until,
        hints: points.iter().map(hint).collect(),
    });
    write_figure(page, title, &svg, &[("one", "p50"), ("b90", "to p90"), ("b99", "to p99"), ("bmax", "to max")]);
}

fn write_distribution(page: &mut String, task: &str, line: &TaskLine) {
    let service_time = curve(&line.all_service_times);
    let mut lines = vec![Line { class: "one", points: service_time.clone() }];
    let mut legend = vec![("one", "service time")];
    if line.is_throttled() {
        lines.insert(0, Line { class: "two", points: curve(&line.all_latencies) });
        legend.push(("two", "latency"));
    }
    let svg = chart(&Chart {
        label: format!(
            "{} of {task} by percentile",
            if lines.len() > 1 { "Latency and service time" } else { "Service time" }
        ),
        y_unit: "ms",
        x: XAxis::Percentiles(&PERCENTILE_TICKS),
        bands: Vec::new(),
        lines,
        shaded_until: None,
        hints: service_time
            .iter()
            .map(|&(at, value)| {
                (at, format!("{} % within {} ms (service time)", number(100.0 - 100.0 / at), number(value)))
            })
            .collect(),
    });
    write_figure(page, "By percentile", &svg, &legend);
}

/// Times in milliseconds by `1 / (1 - quantile)`, as far as the number of samples can tell.
fn curve(times: &Distribution) -> Vec<(f64, f64)> {
    if times.is_empty() {
        return Vec::new();
    }
    let powers = (times.count() as f64).log10().min(5.0);
    let last = (powers * f64::from(CURVE_POINTS)).floor() as u32;
    let places: Vec<f64> = (0..=last).map(|index| 10f64.powf(f64::from(index) / f64::from(CURVE_POINTS))).collect();
    let percentiles: Vec<f64> = places.iter().map(|at| 100.0 - 100.0 / at).collect();
    let millis = times.percentiles(&percentiles).into_iter().map(|nanos| nanos / 1e6);
    places.into_iter().zip(millis).collect()
}

/// The largest values of all drivers, so that their lines can be compared.
#[derive(Default)]
struct HealthScale {
    at: f64,
    lag: f64,
    busiest: f64,
    in_flight: f64,
}

impl HealthScale {
    fn of(timeline: &Timeline) -> Self {
        timeline.drivers.values().flatten().fold(Self::default(), |scale, point| Self {
            at: scale.at.max(point.at),
            lag: scale.lag.max(point.lag.unwrap_or_default()),
            busiest: scale.busiest.max(point.busiest),
            in_flight: scale.in_flight.max(f64::from(point.in_flight)),
        })
    }

    /// The cells of a driver: dispatch lag, busiest worker, requests under way.
    fn cells(&self, driver: &str, points: &[DriverPoint]) -> [Cell; 3] {
        let cell = |what: &str, points: Vec<(f64, f64)>, largest: f64, show: fn(f64) -> String| {
            if points.is_empty() {
                return Cell::text("–");
            }
            let text = show(points.iter().fold(0.0, |largest: f64, (_, value)| largest.max(*value)));
            let label = format!("{what} of {driver}, {text} at most");
            Cell { picture: sparkline(&label, &points, (self.at, largest)), ..Cell::text(text) }
        };
        let lag = points.iter().filter_map(|point| Some((point.at, point.lag?))).collect();
        let busiest = points.iter().map(|point| (point.at, point.busiest)).collect();
        let in_flight = points.iter().map(|point| (point.at, f64::from(point.in_flight))).collect();
        [
            cell("Dispatch lag", lag, self.lag, |lag| format!("{} ms", number(lag))),
            cell("Busiest worker", busiest, self.busiest, |share| format!("{} %", number(share * 100.0))),
            cell("Requests under way", in_flight, self.in_flight, number),
        ]
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use rally_core::metrics::Interval;
    use rally_core::race::{RaceLedger, RaceVerdict};
    use serde_json::json;

    use super::*;
    use crate::report::testing::failed_race;

    /// A race with errors, two tasks and a driver, whose texts would be markup.
    pub(crate) fn page() -> RacePage {
        let report = failed_race();
        let ledger = RaceLedger::default();
        let verdict =
            RaceVerdict { outcome: RaceOutcome::Completed, errors: Vec::new(), shortfalls: Vec::new(), ledger };
        let mut timeline = Timeline::default();
        let mut line = TaskLine { unit: "<docs>".to_owned(), width: 1, warmup_until: Some(2.0), ..TaskLine::default() };
        for second in 0..5u32 {
            let at = f64::from(second) + 0.5;
            line.throughput.push((at, 100.0 + f64::from(second)));
            line.service_time.push((at, [1.0, 2.0, 3.0, 200.0]));
            line.all_service_times.record(u64::from(second) * 1_000_000);
        }
        timeline.tasks.insert(TaskIndex(1), line);
        let point = DriverPoint { at: 0.5, lag: Some(0.1), busiest: 0.5, in_flight: 3 };
        timeline.drivers.insert("10.0.0.2\"><b>".to_owned(), vec![point]);
        let hosts = json!([{"name": "<i>", "role": "load driver", "clients": {"first": 0, "count": 8},
            "facts": {"cores": 2, "memory": 8_589_934_592_u64, "platform": "Linux & more", "governor": null},
            "clock": {"begin": null, "end": {"offset": -1_500_000, "error": 90_000, "wall_shift": 0}}}]);
        RacePage {
            is_archived: true,
            document: report.race,
            verdict: Some(ArchivedVerdict { verdict, findings: report.findings }),
            tasks: vec!["search".to_owned(), "<b>index".to_owned()],
            timeline,
            hosts: serde_json::from_value(hosts).unwrap(),
        }
    }

    #[test]
    fn the_page_has_everything_of_a_race() {
        let page = page().html();
        let body = page.split_once("</style>").unwrap().1;
        insta::assert_snapshot!(body.replace("><", ">\n<"));
    }

    #[test]
    fn nothing_comes_from_elsewhere_and_no_text_becomes_markup() {
        let page = page().html();
        for forbidden in ["http:", "https:", "src=", "url(", "@import", "<script", "<img", "<b>", "<i>", "href="] {
            let page = page.replace("&lt;/script&gt;&lt;img src=x&gt;", "");
            assert!(!page.contains(forbidden), "{forbidden}");
        }
    }

    #[test]
    fn every_element_is_closed() {
        let page = page().html();
        let mut open: Vec<&str> = Vec::new();
        for tag in page.split('<').skip(2).map(|rest| rest.split_once('>').unwrap().0) {
            let name = tag.split([' ', '/']).find(|name| !name.is_empty()).unwrap();
            if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(name), "in {tag}");
            } else if !tag.ends_with('/') {
                open.push(name);
            }
        }
        assert!(open.is_empty(), "{open:?}");
    }

    #[test]
    fn a_race_of_which_nothing_is_known_has_a_page() {
        let directory = tempfile::tempdir().unwrap();
        let archive = Archive::new(directory.path());
        let document = RaceDocument { results: None, ..failed_race().race };
        archive.store(&document).unwrap();
        let page = RacePage::load(&archive, &document.race_id).unwrap().html();
        assert!(page.contains("without results") && page.contains("Nobody wrote down how the race ended"));
        let mut log = archive.interval_log(&document.race_id).unwrap();
        log.append("a", rally_core::ClusterTime::from_nanos(5), &Interval { number: 1, ..Interval::default() })
            .unwrap();
        let page = RacePage::load(&archive, &document.race_id);
        assert!(matches!(page, Err(ArchiveError::Unknown { .. })), "its track is missing");

        let elsewhere = RaceDocument { race_id: "elsewhere".parse().unwrap(), ..failed_race().race };
        let page = RacePage::of(&archive, elsewhere).unwrap().html();
        assert!(page.contains("known from a metrics store") && page.contains("At a glance"), "{page}");
    }
}
