//! Two races side by side as one HTML file.

use std::fmt::Write as _;

use super::chart::{Chart, Line, XAxis, chart, number};
use super::{Cell, PERCENTILE_TICKS, RacePage, begin, curve, end, write_facts, write_figure, write_table};
use crate::report::escape::escaped;
use crate::report::{ComparedLine, Noise, tags_text};

/// The page of a comparison: its lines, and charts of the tasks that both races have.
#[must_use]
pub fn comparison_html(baseline: &RacePage, contender: &RacePage, lines: &[ComparedLine]) -> String {
    let names = format!("{} and {}", baseline.document.race_id, contender.document.race_id);
    let mut page = begin(&names);
    let _ = writeln!(page, "<h1>{}</h1>", escaped(&names));
    for (title, it) in [("Baseline", &baseline.document), ("Contender", &contender.document)] {
        let _ = writeln!(page, "<h3>{title}</h3>");
        let facts = [
            ("Race", it.race_id.to_string()),
            ("Began", it.race_timestamp.clone()),
            ("Track", it.track.clone()),
            ("Challenge", it.challenge.clone().unwrap_or_default()),
            ("Car", it.car.join(", ")),
            ("Version under test", it.distribution_version().unwrap_or_default().to_owned()),
            ("User tags", tags_text(&it.user_tags)),
        ];
        write_facts(&mut page, facts.into_iter().map(|(name, value)| (name.to_owned(), value)));
    }
    write_charts(&mut page, baseline, contender);
    write_lines(&mut page, lines);
    end(page, &contender.document.rally_version)
}

fn write_charts(page: &mut String, baseline: &RacePage, contender: &RacePage) {
    let of_baseline = baseline.named_lines();
    let pairs: Vec<_> = contender
        .named_lines()
        .into_iter()
        .filter_map(|(name, two)| {
            of_baseline.iter().find(|(other, _)| *other == name).map(|(_, one)| (name, *one, two))
        })
        .filter(|(_, one, two)| one.service_time.len() > 1 && two.service_time.len() > 1)
        .collect();
    if pairs.is_empty() {
        return;
    }
    page.push_str("<h2>Tasks over time</h2>\n");
    for (name, one, two) in pairs {
        let _ = write!(page, "<h3>{}</h3>\n<div class=\"charts\">\n", escaped(&name));
        let unit = format!("{}/s", two.unit);
        let service = |index| (percentile(&one.service_time, index), percentile(&two.service_time, index));
        let latency = |index| (percentile(&one.latency, index), percentile(&two.latency, index));
        let seconds = XAxis::Seconds;
        let percentiles = XAxis::Percentiles(&PERCENTILE_TICKS);
        for (title, unit, x, (one, two)) in [
            ("Throughput", unit.as_str(), seconds, (one.throughput.clone(), two.throughput.clone())),
            ("Service time, p50", "ms", seconds, service(0)),
            ("Service time, p99", "ms", seconds, service(2)),
            ("Latency, p99", "ms", seconds, latency(2)),
            (
                "Service time by percentile",
                "ms",
                percentiles,
                (curve(&one.all_service_times), curve(&two.all_service_times)),
            ),
            ("Latency by percentile", "ms", percentiles, (curve(&one.all_latencies), curve(&two.all_latencies))),
        ] {
            let svg = chart(&Chart {
                label: format!("{title} of {name} in both races"),
                y_unit: unit,
                x,
                bands: Vec::new(),
                lines: vec![Line { class: "two", points: one }, Line { class: "one", points: two }],
                shaded_until: None,
                hints: Vec::new(),
            });
            write_figure(page, title, &svg, &[("two", "baseline"), ("one", "contender")]);
        }
        page.push_str("</div>\n");
    }
}

/// One of the bands as a line.
fn percentile(times: &[(f64, [f64; 4])], index: usize) -> Vec<(f64, f64)> {
    times.iter().map(|(at, bands)| (*at, bands[index])).collect()
}

fn write_lines(page: &mut String, lines: &[ComparedLine]) {
    page.push_str("<h2>Differences</h2>\n<p class=\"soft\">A difference of throughput or of a time is beyond noise if the two-sided Mann-Whitney U test over the values of each second gives a chance of less than 1 % for it.</p>\n");
    let mut cells = Vec::new();
    let mut group = "";
    for line in lines {
        if line.task != group {
            cells.push(vec![Cell { class: "group", text: line.task.clone() }]);
            group = &line.task;
        }
        let noise = match line.noise {
            Noise::Beyond => Cell { class: "warn", text: "beyond noise".to_owned() },
            Noise::Within => Cell::text("noise"),
            Noise::OneValue => Cell::text(""),
            Noise::TooShort(_) => Cell { class: "soft", text: line.noise.reason().unwrap_or_default() },
        };
        let signed = |value: f64| format!("{}{}", if value > 0.0 { "+" } else { "" }, number(value));
        cells.push(vec![
            Cell::text(&line.metric),
            Cell::number(number(line.baseline)),
            Cell::number(number(line.contender)),
            Cell::number(signed(line.difference())),
            Cell::text(&line.unit),
            Cell::number(format!("{:+.2} %", line.percent())),
            noise,
        ]);
    }
    write_table(page, &["Metric", "#Baseline", "#Contender", "#Difference", "Unit", "#In percent", ""], &cells);
}
