//! Charts as SVG. Colours are classes of the page's style sheet, so that they follow light, dark and paper.

use std::fmt::Write as _;

use crate::report::escape::escaped;

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 230.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 10.0;
/// Room for the unit of values.
const TOP: f64 = 24.0;
const BOTTOM: f64 = 40.0;

/// What a character takes at the largest size of text, that of small screens.
const CHARACTER: f64 = 8.0;

const SPARK_WIDTH: f64 = 120.0;
const SPARK_HEIGHT: f64 = 26.0;

/// What is drawn, in the order in which it is drawn.
pub(super) struct Chart<'a> {
    /// For those who cannot see it.
    pub(super) label: String,
    pub(super) y_unit: &'a str,
    pub(super) x: XAxis<'a>,
    pub(super) bands: Vec<Band<'a>>,
    pub(super) lines: Vec<Line<'a>>,
    /// Until where the background is that of warm-up.
    pub(super) shaded_until: Option<f64>,
    /// What is said of a place: where, and the text.
    pub(super) hints: Vec<(f64, String)>,
}

/// The horizontal axis.
#[derive(Clone, Copy)]
pub(super) enum XAxis<'a> {
    /// Linear, in seconds, until this one.
    Seconds(f64),
    /// Percentiles as `1 / (1 - quantile)` on a logarithmic axis, with these ticks.
    Percentiles(&'a [(f64, &'a str)]),
}

/// An area between two values at each place.
pub(super) struct Band<'a> {
    pub(super) class: &'a str,
    pub(super) points: Vec<(f64, f64, f64)>,
}

/// A line through values.
pub(super) struct Line<'a> {
    pub(super) class: &'a str,
    pub(super) points: Vec<(f64, f64)>,
}

/// From values to places of the picture.
struct Scale {
    x: (f64, f64),
    y: (f64, f64),
    log_x: bool,
    log_y: bool,
}

impl Scale {
    fn x(&self, value: f64) -> f64 {
        LEFT + share(self.x, value, self.log_x) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - share(self.y, value, self.log_y) * (HEIGHT - TOP - BOTTOM)
    }
}

fn share((low, high): (f64, f64), value: f64, is_log: bool) -> f64 {
    let share = match is_log {
        true => (value.max(low) / low).log10() / (high / low).log10(),
        false => (value - low) / (high - low),
    };
    if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }
}

/// How much larger the largest value may be than the smallest before the axis becomes logarithmic.
const LINEAR_RANGE: f64 = 40.0;

/// The picture; a sentence if there is nothing to draw.
pub(super) fn chart(it: &Chart<'_>) -> String {
    let values = || {
        let of_bands = it.bands.iter().flat_map(|band| &band.points).flat_map(|&(_, low, high)| [low, high]);
        of_bands.chain(it.lines.iter().flat_map(|line| &line.points).map(|&(_, value)| value))
    };
    let places = || {
        let of_bands = it.bands.iter().flat_map(|band| &band.points).map(|&(at, ..)| at);
        of_bands.chain(it.lines.iter().flat_map(|line| &line.points).map(|&(at, _)| at))
    };
    if places().next().is_none() {
        return "<p class=\"nothing\">Nothing was measured.</p>".to_owned();
    }
    let largest = values().fold(0.0, f64::max);
    let smallest = values().filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min);
    let log_y = !it.bands.is_empty() && smallest.is_finite() && largest / smallest > LINEAR_RANGE;
    let y_ticks = if log_y { log_ticks(smallest, largest) } else { linear_ticks(largest) };
    let y = (if log_y { y_ticks[0] } else { 0.0 }, y_ticks.last().copied().unwrap_or(1.0));
    let last = places().fold(0.0, f64::max);
    let (x, x_ticks): (_, Vec<(f64, String)>) = match it.x {
        XAxis::Seconds(until) => {
            let end = until.max(1.0);
            let ticks = linear_ticks(end).into_iter().filter(|tick| *tick <= end);
            ((0.0, end), ticks.map(|tick| (tick, clock(tick))).collect())
        }
        XAxis::Percentiles(ticks) => {
            let ticks = ticks.iter().filter(|(at, _)| *at <= last);
            ((1.0, last.max(2.0)), ticks.map(|(at, text)| (*at, (*text).to_owned())).collect())
        }
    };
    let scale = Scale { x, y, log_x: matches!(it.x, XAxis::Percentiles(_)), log_y };
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\" preserveAspectRatio=\"xMidYMid meet\">",
        escaped(&it.label)
    );
    draw_axes(&mut svg, it, &scale, &x_ticks, &y_ticks);
    for Band { class, points } in &it.bands {
        let upper = points.iter().map(|&(at, _, high)| place(&scale, at, high));
        let lower = points.iter().rev().map(|&(at, low, _)| place(&scale, at, low));
        let path = upper.chain(lower).collect::<Vec<_>>().join(" ");
        let _ = write!(svg, "<polygon class=\"{class}\" points=\"{path}\"/>");
    }
    for Line { class, points } in &it.lines {
        if let [(at, value)] = points[..] {
            let _ = write!(
                svg,
                "<circle class=\"{class}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\"/>",
                scale.x(at),
                scale.y(value)
            );
            continue;
        }
        let path = points.iter().map(|&(at, value)| place(&scale, at, value)).collect::<Vec<_>>().join(" ");
        let _ = write!(svg, "<polyline class=\"{class}\" points=\"{path}\"/>");
    }
    draw_hints(&mut svg, it, &scale);
    svg + "</svg>"
}

fn place(scale: &Scale, at: f64, value: f64) -> String {
    format!("{:.1},{:.1}", scale.x(at), scale.y(value))
}

fn draw_axes(svg: &mut String, it: &Chart<'_>, scale: &Scale, x_ticks: &[(f64, String)], y_ticks: &[f64]) {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    if let Some(until) = it.shaded_until {
        let width = scale.x(until) - LEFT;
        let height = bottom - TOP;
        let _ =
            write!(svg, "<rect class=\"warmup\" x=\"{LEFT}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{height}\"/>");
        if width > 7.0 * CHARACTER {
            let _ = write!(svg, "<text class=\"note\" x=\"{}\" y=\"{}\">warm-up</text>", LEFT + 4.0, TOP + 14.0);
        }
    }
    for &tick in y_ticks {
        let y = scale.y(tick);
        let text = short(tick);
        let _ = write!(svg, "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>");
        let _ = write!(svg, "<text class=\"tick end\" x=\"{}\" y=\"{:.1}\">{text}</text>", LEFT - 6.0, y + 4.0);
    }
    let mut free = f64::NEG_INFINITY;
    for (tick, text) in x_ticks {
        let x = scale.x(*tick);
        // So that texts do not touch.
        let half = text.len() as f64 * CHARACTER / 2.0;
        if x - half < free {
            continue;
        }
        free = x + half + CHARACTER;
        let anchor = if x + half > WIDTH { "end" } else { "middle" };
        let x_of_text = x.min(WIDTH - 1.0);
        let _ =
            write!(svg, "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{bottom}\" y2=\"{}\"/>", bottom + 4.0);
        let y = bottom + 17.0;
        let _ = write!(svg, "<text class=\"tick {anchor}\" x=\"{x_of_text:.1}\" y=\"{y}\">{text}</text>");
    }
    let x_unit = match it.x {
        XAxis::Seconds(_) => "time since the start of the step",
        XAxis::Percentiles(_) => "percentile",
    };
    let y_unit = escaped(it.y_unit);
    let y_unit = if scale.log_y { format!("{y_unit}, logarithmic") } else { y_unit };
    let _ = write!(
        svg,
        "<text class=\"unit middle\" x=\"{}\" y=\"{}\">{x_unit}</text>",
        (LEFT + right) / 2.0,
        HEIGHT - 5.0
    );
    let _ = write!(svg, "<text class=\"unit\" x=\"2\" y=\"{}\">{y_unit}</text>", TOP - 10.0);
}

/// A line without axes, small enough for a table. The lines of a column have the same `largest` place and value, so that they
/// can be compared.
pub(super) fn sparkline(label: &str, points: &[(f64, f64)], largest: (f64, f64)) -> String {
    let of = |value: f64, largest: f64| if largest > 0.0 { (value / largest).clamp(0.0, 1.0) } else { 0.0 };
    let place = |&(at, value): &(f64, f64)| {
        let (x, y) = (of(at, largest.0), of(value, largest.1));
        format!("{:.1},{:.1}", 1.0 + x * (SPARK_WIDTH - 2.0), SPARK_HEIGHT - 2.0 - y * (SPARK_HEIGHT - 4.0))
    };
    let path = points.iter().map(place).collect::<Vec<_>>().join(" ");
    format!(
        "<svg class=\"spark\" viewBox=\"0 0 {SPARK_WIDTH} {SPARK_HEIGHT}\" role=\"img\" aria-label=\"{}\"><polyline \
         class=\"one\" points=\"{path}\"/></svg>",
        escaped(label)
    )
}

/// Invisible columns that say on hovering what is there.
fn draw_hints(svg: &mut String, it: &Chart<'_>, scale: &Scale) {
    let places: Vec<f64> = it.hints.iter().map(|(at, _)| scale.x(*at)).collect();
    for (index, (_, text)) in it.hints.iter().enumerate() {
        let between = |other: Option<&f64>, edge: f64| other.map_or(edge, |other| f64::midpoint(*other, places[index]));
        let from = between(index.checked_sub(1).and_then(|before| places.get(before)), LEFT);
        let to = between(places.get(index + 1), WIDTH - RIGHT);
        let (width, height) = ((to - from).max(0.0), HEIGHT - TOP - BOTTOM);
        let text = escaped(text);
        let _ = write!(
            svg,
            "<rect class=\"hint\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{height}\"><title>{text}</title></rect>"
        );
    }
}

/// From zero to what is at least `largest`, in steps of 1, 2 or 5 times a power of ten.
fn linear_ticks(largest: f64) -> Vec<f64> {
    if !(largest > 0.0 && largest.is_finite()) {
        return vec![0.0, 1.0];
    }
    let rough = largest / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|it| it * power).find(|step| *step >= rough * 0.999);
    let step = step.unwrap_or(power * 10.0);
    let count = (largest / step - 1e-9).ceil().max(1.0) as u32;
    (0..=count).map(|index| f64::from(index) * step).collect()
}

/// Powers of ten around all values, with 2 and 5 between them if they are few.
fn log_ticks(smallest: f64, largest: f64) -> Vec<f64> {
    let (low, high) = (smallest.log10().floor() as i32, largest.log10().ceil() as i32);
    let is_short = largest / smallest < 150.0;
    let steps: &[f64] = if is_short { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let all: Vec<f64> = (low..=high).flat_map(|power| steps.iter().map(move |it| it * 10f64.powi(power))).collect();
    let first = all.iter().rposition(|tick| *tick <= smallest * 1.000_001).unwrap_or(0);
    let last = all.iter().position(|tick| *tick >= largest * 0.999_999).unwrap_or(all.len() - 1);
    all[first..=last.max(first + 1).min(all.len() - 1)].to_vec()
}

/// A number for people: at most three digits behind the point, commas between thousands.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    let decimals = match size {
        _ if size >= 100.0 || size == 0.0 => 0,
        _ if size >= 10.0 => 1,
        _ if size >= 1.0 => 2,
        _ if size >= 0.01 => 3,
        _ => 5,
    };
    let text = format!("{value:.decimals$}");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let fraction = fraction.trim_end_matches('0');
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let mut grouped = String::from(sign);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if fraction.is_empty() { grouped } else { format!("{grouped}.{fraction}") }
}

/// A number for an axis: like [`number`], but millions and more with a letter.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 1e9 => format!("{} G", number(value / 1e9)),
        size if size >= 1e6 => format!("{} M", number(value / 1e6)),
        _ => number(value),
    }
}

/// Seconds as `s`, `min` or `h`, whichever reads best.
pub(super) fn clock(seconds: f64) -> String {
    match seconds {
        _ if seconds < 180.0 => format!("{} s", number(seconds)),
        _ if seconds < 10_800.0 => format!("{} min", number(seconds / 60.0)),
        _ => format!("{} h", number(seconds / 3600.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers_beyond_all_values() {
        assert_eq!(linear_ticks(100.0), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!(linear_ticks(9.0), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(linear_ticks(110.0), [0.0, 50.0, 100.0, 150.0]);
        assert_eq!(linear_ticks(0.0), [0.0, 1.0]);
        assert_eq!(linear_ticks(f64::NAN), [0.0, 1.0]);
        assert_eq!(log_ticks(0.3, 2_000.0), [0.1, 1.0, 10.0, 100.0, 1_000.0, 10_000.0]);
        assert_eq!(log_ticks(3.0, 170.0), [2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0]);
        assert_eq!(log_ticks(1.0, 1.0).len(), 2);
    }

    #[test]
    fn small_lines_of_a_column_have_one_scale() {
        let svg = sparkline("lag of <b>", &[(0.0, 0.0), (5.0, 10.0), (10.0, 5.0)], (10.0, 10.0));
        assert!(svg.contains("points=\"1.0,24.0 60.0,2.0 119.0,13.0\""), "{svg}");
        assert!(svg.contains("aria-label=\"lag of &lt;b&gt;\""), "{svg}");
        assert!(sparkline("nothing happens", &[(0.0, 0.0)], (0.0, 0.0)).contains("points=\"1.0,24.0\""));
    }

    #[test]
    fn numbers_read_well() {
        for (value, text) in [
            (0.0, "0"),
            (0.25, "0.25"),
            (0.0012, "0.0012"),
            (12.34, "12.3"),
            (1_234.5, "1,234"),
            (-1_234_567.0, "-1,234,567"),
            (5.0, "5"),
        ] {
            assert_eq!(number(value), text);
        }
        assert_eq!((short(400_000.0), short(2.5e6), short(1e10)), ("400,000".into(), "2.5 M".into(), "10 G".into()));
        assert_eq!((clock(90.0), clock(600.0), clock(36_000.0)), ("90 s".into(), "10 min".into(), "10 h".into()));
    }
}
