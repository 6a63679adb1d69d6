//! Whether the driver itself was the bottleneck.

use std::time::Duration;

/// A worker that uses more than this share of a core has no time left to be on time.
const BUSY: f64 = 0.95;

/// Shorter intervals say nothing about how busy a worker is.
const LONG_ENOUGH: Duration = Duration::from_millis(500);

/// A request that is sent this much later than it was due, with its client free, is late.
pub(crate) const LATE: Duration = Duration::from_millis(1);

/// More late requests than this share are no accident.
const LATE_SHARE: f64 = 0.1;

/// Whether the driver runs at all is looked at this often.
pub(crate) const PULSE: Duration = Duration::from_millis(100);

/// A driver that stood still for more than this share of an interval cannot have been on time, and took its standing still
/// for the time of requests.
const STILL_SHARE: f64 = 0.2;

/// How long the driver stood still before it took a look that was late by so much; less than a pulse is none.
pub(crate) fn stood_still(late: Duration) -> Duration {
    if late < PULSE { Duration::ZERO } else { late }
}

/// How the workers did in an interval.
#[derive(Debug, Default)]
pub(crate) struct Effort<'a> {
    pub(crate) interval: Duration,
    /// CPU time of the busiest worker as a share of the time.
    pub(crate) busiest: f64,
    /// Requests that had an intended start.
    pub(crate) throttled: u64,
    /// Those that were sent more than [`LATE`] after it, although their client was free.
    pub(crate) late: u64,
    /// Time in which the driver did not run at all.
    pub(crate) still: Duration,
    /// Workers that did not even say what they measured.
    pub(crate) silent: &'a [usize],
}

/// Why a driver was the bottleneck in an interval, as a sentence.
pub(crate) fn saturation(host: &str, effort: &Effort<'_>) -> Option<String> {
    let Effort { interval, busiest, throttled, late, still, silent } = effort;
    if !silent.is_empty() {
        let names: Vec<_> = silent.iter().map(ToString::to_string).collect();
        return Some(format!(
            "the load driver on {host} could not keep up: worker {} did not answer for {:.1} s",
            names.join(", "),
            interval.as_secs_f64()
        ));
    }
    if *interval < LONG_ENOUGH {
        return None;
    }
    if still.as_secs_f64() > STILL_SHARE * interval.as_secs_f64() {
        return Some(format!(
            "the load driver on {host} could not keep up: it stood still for {:.1} of {:.1} s, which is part of the times it \
             measured; it was stopped, or something else on the host takes its time",
            still.as_secs_f64(),
            interval.as_secs_f64()
        ));
    }
    if *busiest >= BUSY {
        return Some(format!(
            "the load driver on {host} was the bottleneck: its busiest worker used {:.0} % of a core; use more cores, \
             or more load driver hosts",
            busiest * 100.0
        ));
    }
    let share = *late as f64 / (*throttled).max(1) as f64;
    (share > LATE_SHARE).then(|| {
        format!(
            "the load driver on {host} could not keep up: it sent {:.0} % of its requests more than a millisecond late, \
             although its busiest worker used only {:.0} % of a core; something else on the host takes its time",
            share * 100.0,
            busiest * 100.0
        )
    })
}

/// More requests than this share, due while their client was busy, mean that there are too few clients.
const BEHIND_SHARE: f64 = 0.5;

/// Why the schedule of an interval could not be kept although the driver had time left, as a sentence: the clients were
/// waiting for answers.
pub(crate) fn starvation(host: &str, interval: Duration, throttled: u64, behind: u64) -> Option<String> {
    let share = behind as f64 / throttled.max(1) as f64;
    (interval >= LONG_ENOUGH && share > BEHIND_SHARE).then(|| {
        format!(
            "{:.0} % of the requests from {host} were due while their client still waited for the answer before: the \
             target throughput is more than the cluster under test gives to so few clients",
            share * 100.0
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_that_always_wait_are_too_few() {
        let second = Duration::from_secs(1);
        assert_eq!(starvation("here", second, 100, 50), None);
        assert_eq!(starvation("here", Duration::from_millis(10), 100, 100), None);
        assert_eq!(starvation("here", second, 0, 0), None);
        let sentence = starvation("here", second, 100, 51).unwrap();
        assert!(sentence.starts_with("51 % of the requests from here were due"), "{sentence}");
    }

    #[test]
    fn a_look_that_is_hardly_late_says_nothing() {
        assert_eq!(stood_still(PULSE - Duration::from_nanos(1)), Duration::ZERO);
        assert_eq!(stood_still(4 * PULSE), 4 * PULSE);
    }

    #[test]
    fn a_driver_says_why_it_was_the_bottleneck() {
        let (interval, still) = (Duration::from_secs(1), Duration::ZERO);
        let effort = |busiest, late, silent| Effort { interval, busiest, throttled: 100, late, still, silent };
        for (effort, expected) in [
            (effort(0.94, 10, &[][..]), None),
            (effort(0.96, 0, &[]), Some("its busiest worker used 96 % of a core")),
            (effort(0.5, 11, &[]), Some("it sent 11 % of its requests more than a millisecond late")),
            (effort(0.1, 0, &[0, 3]), Some("worker 0, 3 did not answer for 1.0 s")),
            (Effort { interval: Duration::from_millis(10), ..effort(1.0, 100, &[]) }, None),
            (Effort { still: Duration::from_millis(200), ..effort(0.1, 0, &[]) }, None),
            (
                Effort { still: Duration::from_millis(210), ..effort(0.1, 0, &[]) },
                Some("it stood still for 0.2 of 1.0 s"),
            ),
        ] {
            let sentence = saturation("here", &effort);
            match expected {
                Some(expected) => assert!(sentence.as_ref().is_some_and(|it| it.contains(expected)), "{sentence:?}"),
                None => assert_eq!(sentence, None, "{effort:?}"),
            }
        }
    }
}
