//! Durations as people write and read them.

use std::time::Duration;

use jiff::{Span, SpanRelativeTo};

/// The text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration; write a number and a unit, such as `10s`, `5m`, `24h` or `7d`")]
pub struct ParseDurationError(String);

/// Reads `10s`, `1h 30m`, `7d` (a day has 24 hours) and the like; a bare `0` is no time at all.
///
/// # Errors
///
/// If the text has no unit, an unknown one or a minus sign.
pub fn parse_duration(text: &str) -> Result<Duration, ParseDurationError> {
    if text.trim() == "0" {
        return Ok(Duration::ZERO);
    }
    text.trim()
        .parse::<Span>()
        .and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()))
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| ParseDurationError(text.to_owned()))
}

/// A duration for people, with its two largest units: `3 d 4 h`, `12 min 5 s`, `1.5 s`, `0.31 ms`, `85 µs`.
pub(crate) fn show_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        86_400.. => two_units(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
        3_600.. => two_units(seconds / 3_600, "h", seconds % 3_600 / 60, "min"),
        60.. => two_units(seconds / 60, "min", seconds % 60, "s"),
        10.. => format!("{seconds} s"),
        1.. => format!("{:.1} s", duration.as_secs_f64()),
        0 => show_nanoseconds(duration.subsec_nanos().into()),
    }
}

fn two_units(large: u64, large_unit: &str, small: u64, small_unit: &str) -> String {
    if small == 0 { format!("{large} {large_unit}") } else { format!("{large} {large_unit} {small} {small_unit}") }
}

/// A short time with a unit that suits it.
pub(crate) fn show_nanoseconds(nanoseconds: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with two decimals")]
    let value = nanoseconds as f64;
    match nanoseconds {
        1_000_000_000.. => format!("{:.1} s", value / 1e9),
        10_000_000.. => format!("{:.0} ms", value / 1e6),
        100_000.. => format!("{:.2} ms", value / 1e6),
        1_000.. => format!("{:.0} µs", value / 1e3),
        0 => "0 s".to_owned(),
        _ => format!("{nanoseconds} ns"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_units() {
        for (text, seconds) in
            [("10s", 10), ("24h", 86_400), ("7d", 604_800), ("1h 30m", 5_400), ("0", 0), (" 5m ", 300)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "10", "-5s", "soon", "1y", "5 parsecs"] {
            assert_eq!(parse_duration(text), Err(ParseDurationError(text.to_owned())));
        }
    }

    #[test]
    fn durations_are_shown_with_units_that_suit_them() {
        let shown = [0, 85_000, 310_000, 42_000_000, 1_500_000_000, 42_000_000_000].map(Duration::from_nanos);
        assert_eq!(shown.map(show_duration), ["0 s", "85 µs", "0.31 ms", "42 ms", "1.5 s", "42 s"]);
        let shown = [725, 11_520, 273_600, 86_400].map(Duration::from_secs);
        assert_eq!(shown.map(show_duration), ["12 min 5 s", "3 h 12 min", "3 d 4 h", "1 d"]);
    }
}
