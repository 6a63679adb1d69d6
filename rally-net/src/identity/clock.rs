//! A host whose clock is hours off is refused when it joins or connects.

use std::fmt;
use std::time::{Duration, SystemTime};

/// A host's wall clock may differ from the coordinator's by this much.
///
/// Certificates and tokens are about wall-clock time; smaller differences do no harm there, and races use measured
/// offsets.
pub const MAX_CLOCK_DIFFERENCE: Duration = Duration::from_secs(60 * 60);

/// A host's clock is too far from the coordinator's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the host's clock is {} {} the coordinator's, and at most {} is allowed: set the clock that is wrong (chronyd and \
     systemd-timesyncd do so over the network), then start the host again",
    Rough(*difference),
    if *ahead { "ahead of" } else { "behind" },
    Rough(MAX_CLOCK_DIFFERENCE)
)]
pub struct ClockDifference {
    /// How far the clocks are apart.
    pub difference: Duration,
    /// Whether the host's clock is ahead of the coordinator's.
    pub ahead: bool,
}

/// Compares a host's wall clock with the coordinator's, both read at about the same time.
///
/// # Errors
///
/// The difference, if it is larger than [`MAX_CLOCK_DIFFERENCE`].
pub fn check_clock(host: SystemTime, coordinator: SystemTime) -> Result<(), ClockDifference> {
    let (difference, ahead) = match host.duration_since(coordinator) {
        Ok(difference) => (difference, true),
        Err(error) => (error.duration(), false),
    };
    if difference <= MAX_CLOCK_DIFFERENCE { Ok(()) } else { Err(ClockDifference { difference, ahead }) }
}

/// Displays a duration by its two largest units.
struct Rough(Duration);

impl fmt::Display for Rough {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
        match (days, hours, minutes) {
            (0, hours, 0) => write!(f, "{hours} h"),
            (0, hours, minutes) => write!(f, "{hours} h {minutes} min"),
            (days, 0, _) => write!(f, "{days} d"),
            (days, hours, _) => write!(f, "{days} d {hours} h"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_may_differ_by_an_hour_and_no_more() {
        let coordinator = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let second = Duration::from_secs(1);
        for fine in [Duration::ZERO, second, MAX_CLOCK_DIFFERENCE] {
            assert_eq!(check_clock(coordinator + fine, coordinator), Ok(()));
            assert_eq!(check_clock(coordinator - fine, coordinator), Ok(()));
        }
        let difference = MAX_CLOCK_DIFFERENCE + second;
        assert_eq!(
            check_clock(coordinator + difference, coordinator),
            Err(ClockDifference { difference, ahead: true })
        );
        assert_eq!(
            check_clock(coordinator - difference, coordinator),
            Err(ClockDifference { difference, ahead: false })
        );
    }

    #[test]
    fn the_refusal_names_the_difference_and_its_direction() {
        let table = [
            (3_601, true, "1 h ahead of the coordinator's"),
            (3 * 3_600 + 720, false, "3 h 12 min behind the coordinator's"),
            (86_400, true, "1 d ahead of"),
            (86_400 * 20_000 + 7_200, false, "20000 d 2 h behind"),
        ];
        for (seconds, ahead, expected) in table {
            let text = ClockDifference { difference: Duration::from_secs(seconds), ahead }.to_string();
            assert!(text.contains(expected), "{text}");
            assert!(text.contains("at most 1 h is allowed"), "{text}");
        }
    }
}
