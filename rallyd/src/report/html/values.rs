//! The values of charts as tables, for whoever cannot hover over them.

use std::fmt::Write as _;

use rally_core::metrics::Distribution;

use super::chart::number;
use super::{Cell, PERCENTILE_TICKS, write_table};

/// A column of the values of charts: its heading, and values by their place.
pub(super) struct Column {
    name: String,
    values: Vec<(f64, f64)>,
}

impl Column {
    pub(super) fn new(name: impl Into<String>, values: impl IntoIterator<Item = (f64, f64)>) -> Self {
        Self { name: name.into(), values: values.into_iter().collect() }
    }

    /// In milliseconds, as far as the number of samples can tell.
    pub(super) fn by_percentile(name: impl Into<String>, times: &Distribution) -> Self {
        let places = PERCENTILE_TICKS.iter().map(|(at, _)| *at).filter(|at| *at <= times.count() as f64);
        let places: Vec<f64> = places.collect();
        let percentiles: Vec<f64> = places.iter().map(|at| 100.0 - 100.0 / at).collect();
        let millis = times.percentiles(&percentiles).into_iter().map(|nanos| nanos / 1e6);
        Self::new(name, places.into_iter().zip(millis))
    }

    /// One for each of the bands over time.
    pub(super) fn of_times<'a>(what: &'a str, points: &'a [(f64, [f64; 4])]) -> impl Iterator<Item = Self> + 'a {
        ["p50", "p90", "p99", "max"].into_iter().enumerate().map(move |(index, percentile)| {
            Self::new(format!("{what} {percentile}, ms"), points.iter().map(move |(at, it)| (*at, it[index])))
        })
    }
}

/// What a tick of a percentile curve is called.
pub(super) fn percentile_name(at: f64) -> String {
    PERCENTILE_TICKS.iter().find(|(tick, _)| *tick == at).map_or_else(String::new, |(_, name)| format!("p{name}"))
}

/// The values of charts for those who cannot hover over them, folded away; `place` says what places are called.
pub(super) fn write_values(page: &mut String, title: &str, place: (&str, fn(f64) -> String), columns: &[Column]) {
    let mut places: Vec<f64> = columns.iter().flat_map(|column| &column.values).map(|(at, _)| *at).collect();
    places.sort_unstable_by(f64::total_cmp);
    places.dedup();
    let line = |at: &f64| {
        let value = |column: &Column| column.values.iter().find(|(other, _)| other == at).map(|(_, value)| *value);
        let cells = columns.iter().map(|column| Cell::number(value(column).map_or_else(|| "–".to_owned(), number)));
        std::iter::once(Cell::text((place.1)(*at))).chain(cells).collect::<Vec<_>>()
    };
    let names: Vec<String> = columns.iter().map(|column| format!("#{}", column.name)).collect();
    let head: Vec<&str> = std::iter::once(place.0).chain(names.iter().map(String::as_str)).collect();
    let _ = writeln!(page, "<details class=\"values\"><summary>{title}</summary>");
    write_table(page, &head, &places.iter().map(line).collect::<Vec<_>>());
    page.push_str("</details>\n");
}
