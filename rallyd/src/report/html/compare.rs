//! Two races side by side as one HTML file.

use std::fmt::Write as _;

use rally_core::metrics::{Distribution, RaceDocument};

use super::chart::{Chart, Line, XAxis, chart, clock, number};
use super::values::{Column, percentile_name, write_values};
use super::{
    CLUSTER, Cell, PERCENTILE_TICKS, RacePage, began, begin, curve, end, grouped, write_figure, write_folded,
    write_table,
};
use crate::report::escape::escaped;
use crate::report::{ComparedLine, Noise, tags_text};

/// The page of a comparison: its lines, and charts of the tasks that both races have.
#[must_use]
pub fn comparison_html(baseline: &RacePage, contender: &RacePage, lines: &[ComparedLine]) -> String {
    let (one, two) = (&baseline.document, &contender.document);
    let what = match (one.track == two.track, one.challenge == two.challenge) {
        (true, true) => called(two),
        _ => format!("{} and {}", called(one), called(two)),
    };
    let (from, to) = (told_apart(one, two), told_apart(two, one));
    let mut page = begin(&format!("{what} · {from} → {to}"));
    let _ = write!(
        page,
        "<h1>{}</h1>\n<p class=\"soft\">Two races compared: {} → {}</p>\n",
        escaped(&what),
        escaped(&from),
        escaped(&to)
    );
    write_races(&mut page, one, two);
    write_lines(&mut page, lines);
    write_charts(&mut page, baseline, contender);
    end(page, &[&one.rally_version, &two.rally_version])
}

fn called(race: &RaceDocument) -> String {
    let challenge = race.challenge.as_ref().map(|it| format!(" / {it}")).unwrap_or_default();
    format!("{}{challenge}", race.track)
}

/// What people know a race by: its user tags, or when it began.
fn told_apart(race: &RaceDocument, other: &RaceDocument) -> String {
    match race.user_tags.is_empty() || race.user_tags == other.user_tags {
        true => began(race),
        false => tags_text(&race.user_tags),
    }
}

fn write_races(page: &mut String, one: &RaceDocument, two: &RaceDocument) {
    type Fact = (&'static str, fn(&RaceDocument) -> String);
    let facts: [Fact; 8] = [
        ("Began", began),
        ("Track", |it| it.track.clone()),
        ("Challenge", |it| it.challenge.clone().unwrap_or_default()),
        ("Track parameters", |it| tags_text(&it.track_params)),
        ("Car", |it| it.car.join(", ")),
        ("Version under test", |it| it.distribution_version().unwrap_or_default().to_owned()),
        ("User tags", |it| tags_text(&it.user_tags)),
        ("Race", |it| it.race_id.to_string()),
    ];
    let lines = facts.into_iter().map(|(name, fact)| (name, fact(one), fact(two)));
    let lines = lines.filter(|(_, one, two)| !one.is_empty() || !two.is_empty());
    let lines = lines.map(|(name, one, two)| vec![Cell::of("soft", name), Cell::text(one), Cell::text(two)]);
    write_table(page, &["", "Baseline", "Contender"], &lines.collect::<Vec<_>>());
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
        let seconds = XAxis::Seconds(one.until().max(two.until()));
        let percentiles = XAxis::Percentiles(&PERCENTILE_TICKS);
        let mut charts = vec![
            ("Throughput", unit.as_str(), seconds, (one.throughput.clone(), two.throughput.clone())),
            ("Service time, p50", "ms", seconds, service(0)),
            ("Service time, p99", "ms", seconds, service(2)),
            (
                "Service time by percentile",
                "ms",
                percentiles,
                (curve(&one.all_service_times), curve(&two.all_service_times)),
            ),
        ];
        if one.is_throttled() || two.is_throttled() {
            let curves = (curve(&one.all_latencies), curve(&two.all_latencies));
            charts.push(("Latency, p99", "ms", seconds, latency(2)));
            charts.push(("Latency by percentile", "ms", percentiles, curves));
        }
        let over_time = charts.iter().filter(|(_, _, x, _)| matches!(x, XAxis::Seconds(_)));
        let columns = over_time.flat_map(|(title, unit, _, (one, two))| {
            [("baseline", one), ("contender", two)]
                .map(|(race, values)| Column::new(format!("{title}, {unit}, {race}"), values.clone()))
        });
        let columns: Vec<Column> = columns.collect();
        let by_percentile = |what: &str, one: &Distribution, two: &Distribution| {
            [("baseline", one), ("contender", two)]
                .map(|(race, times)| Column::by_percentile(format!("{what}, ms, {race}"), times))
        };
        let mut percentiles = Vec::from(by_percentile("Service time", &one.all_service_times, &two.all_service_times));
        if one.is_throttled() || two.is_throttled() {
            percentiles.extend(by_percentile("Latency", &one.all_latencies, &two.all_latencies));
        }
        for (title, unit, x, (one, two)) in charts {
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
        write_values(page, "Values over time", ("Time", clock), &columns);
        write_values(page, "Values by percentile", ("Percentile", percentile_name), &percentiles);
        page.push_str("</div>\n");
    }
}

/// One of the bands as a line.
fn percentile(times: &[(f64, [f64; 4])], index: usize) -> Vec<(f64, f64)> {
    times.iter().map(|(at, bands)| (*at, bands[index])).collect()
}

/// Lines of tasks, then those of the cluster, of which the same in both races are folded away.
fn write_lines(page: &mut String, lines: &[ComparedLine]) {
    page.push_str("<h2>Differences</h2>\n<p class=\"soft\">A difference of throughput or of a time is beyond noise if the two-sided Mann-Whitney U test over the values of each second gives a chance of less than 1 % for it. It cannot be told with less than eight seconds in either race. For error rates it is the test of two proportions. One value of each race tells nothing of noise.</p>\n");
    let head = ["Metric", "#Baseline", "#Contender", "#Difference", "Unit", "#Change", ""];
    let (of_tasks, of_cluster): (Vec<&ComparedLine>, Vec<_>) = lines.iter().partition(|line| line.is_of_task);
    let (same, of_cluster): (Vec<&ComparedLine>, Vec<_>) =
        of_cluster.into_iter().partition(|line| line.baseline == line.contender);
    let line = |line: &ComparedLine| (line.task.clone(), cells(line));
    let cells = grouped(of_tasks.into_iter().map(line), "").into_iter();
    let cells = cells.chain(grouped(of_cluster.into_iter().map(line), CLUSTER));
    write_table(page, &head, &cells.collect::<Vec<_>>());
    write_folded(page, "the same in both races", &head, &grouped(same.into_iter().map(line), ""));
}

fn cells(line: &ComparedLine) -> Vec<Cell> {
    let noise = match line.noise {
        Noise::Beyond if line.is_better() => Cell::of("good", "better, beyond noise"),
        Noise::Beyond => Cell::of("bad", "worse, beyond noise"),
        Noise::Within => Cell::of("soft", "noise"),
        Noise::OneValue => Cell::of("soft", "cannot be told: one value"),
        Noise::NotKnown => Cell::of("soft", "cannot be told: no samples"),
        Noise::OtherMeasure => Cell::of("soft", "cannot be told: one has records alone"),
        Noise::TooShort(seconds) => Cell::of("soft", format!("cannot be told: {seconds} s")),
    };
    let signed = |value: f64| format!("{}{}", if value > 0.0 { "+" } else { "" }, number(value));
    let percent = if line.baseline == 0.0 { "–".to_owned() } else { format!("{:+.2} %", line.percent()) };
    vec![
        Cell::text(&line.metric),
        Cell::number(number(line.baseline)),
        Cell::number(number(line.contender)),
        Cell::number(signed(line.difference())),
        Cell::text(&line.unit),
        Cell::number(percent),
        noise,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::html::tests::page;

    fn line(metric: &str, task: &str, values: (f64, f64), noise: Noise) -> ComparedLine {
        ComparedLine {
            metric: metric.to_owned(),
            task: task.to_owned(),
            baseline: values.0,
            contender: values.1,
            unit: "ms".to_owned(),
            noise,
            is_of_task: !task.is_empty(),
            more_is_better: metric.ends_with("Throughput"),
        }
    }

    #[test]
    fn tasks_come_first_and_what_is_the_same_is_folded_away() {
        let lines = [
            line("Segment count", "", (3.0, 4.0), Noise::OneValue),
            line("Merge count", "", (0.0, 0.0), Noise::OneValue),
            line("Mean Throughput", "<b>index", (10.0, 12.0), Noise::Beyond),
            line("50th percentile latency", "<b>index", (10.0, 12.0), Noise::Beyond),
            line("90th percentile latency", "<b>index", (10.0, 11.0), Noise::Within),
            line("99th percentile latency", "<b>index", (0.0, 12.0), Noise::TooShort(5)),
        ];
        let (one, mut two) = (page(), page());
        two.document.user_tags.insert("intention".to_owned(), "larger & faster".into());
        let html = comparison_html(&one, &two, &lines);
        let place = |text: &str| html.find(text).unwrap_or_else(|| panic!("no {text} in {html}"));
        let order = [
            "<h1>t&amp;t / c</h1>",
            "intention=&lt;script&gt; → intention=larger &amp; faster</p>",
            "2026-11-01 12:00:00 UTC",
            ">&lt;b&gt;index</td>",
            "better, beyond noise",
            "worse, beyond noise",
            ">noise</td>",
            "cannot be told: 5 s",
            ">Cluster under test</td>",
            "Segment count",
            "<details><summary>1 more line is the same in both races</summary>",
            "Merge count",
            "</details>",
            "in both races\"",
            "from the archive of the races",
        ];
        let places: Vec<usize> = order.iter().map(|text| place(text)).collect();
        assert!(places.is_sorted(), "{places:?}");
        assert!(!html.contains("<b>") && !html.contains("<script"));
    }
}
