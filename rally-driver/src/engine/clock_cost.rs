//! Whether reading the clock takes so long that it would show in what is measured.

/// A clock that takes longer than this to read would be part of every measurement, in nanoseconds.
const SLOW: u64 = 500;

/// The clock is read so often in a row.
const BATCH: u64 = 100;

/// The fastest of so many batches counts: in the others something else had its turn.
const BATCHES: u64 = 10;

/// The source that costs least on the processors that have it.
const FASTEST: &str = "tsc";

/// What reading a clock of nanoseconds takes, in nanoseconds, when nothing else holds it up.
pub(super) fn cost_of_the_clock(mut now: impl FnMut() -> u64) -> u64 {
    let mut batch = |_| {
        let start = now();
        let end = (0..BATCH).fold(start, |_, _| now());
        end.saturating_sub(start) / BATCH
    };
    (0..BATCHES).map(&mut batch).min().unwrap_or(0)
}

/// What the kernel takes the time from, where it says so.
pub(super) fn clock_source() -> Option<String> {
    let source = std::fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource").ok()?;
    Some(source.trim().to_owned())
}

/// A warning about a clock that costs so many nanoseconds, with advice if there is any to give.
pub(super) fn slow_clock(host: &str, cost: u64, source: Option<&str>) -> Option<String> {
    let source = match source {
        _ if cost <= SLOW => return None,
        None => String::new(),
        Some(FASTEST) => format!("; its clock source is `{FASTEST}` already, the fastest one"),
        Some(other) => format!("; its clock source is `{other}`, and `{FASTEST}` would be the fastest"),
    };
    Some(format!("reading the clock of {host} takes {cost} ns, which shows in short times{source}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock that goes on by `cost` with each reading, and stands still for a while every now and then.
    fn clock(cost: u64, hiccup_every: u64, hiccup: u64) -> impl FnMut() -> u64 {
        let (mut now, mut reads) = (0, 0);
        move || {
            reads += 1;
            now += cost + if reads % hiccup_every == 0 { hiccup } else { 0 };
            now
        }
    }

    #[test]
    fn the_fastest_batch_tells_what_a_reading_costs() {
        assert_eq!(cost_of_the_clock(clock(30, u64::MAX, 0)), 30);
        // In every batch but one of two something else runs for a millisecond.
        assert_eq!(cost_of_the_clock(clock(30, 2 * BATCH, 1_000_000)), 30);
        assert_eq!(cost_of_the_clock(clock(900, 2 * BATCH, 1_000_000)), 900);
        assert_eq!(cost_of_the_clock(|| 7), 0);
    }

    #[test]
    fn a_slow_clock_is_told_with_the_advice_that_there_is() {
        assert_eq!(slow_clock("here", SLOW, Some("hpet")), None);
        let sentence = |source| slow_clock("here", SLOW + 1, source).unwrap();
        let slow = "reading the clock of here takes 501 ns, which shows in short times";
        assert_eq!(sentence(None), slow);
        assert_eq!(
            sentence(Some("hpet")),
            format!("{slow}; its clock source is `hpet`, and `tsc` would be the fastest")
        );
        assert_eq!(sentence(Some("tsc")), format!("{slow}; its clock source is `tsc` already, the fastest one"));
    }
}
