//! Whether the driver itself was the bottleneck.

use std::time::Duration;

/// A worker that uses more than this share of a core has no time left to be on time.
const BUSY: f64 = 0.95;

/// Shorter intervals say nothing about how busy a worker is.
const LONG_ENOUGH: Duration = Duration::from_millis(500);

/// Why a driver was the bottleneck in an interval, as a sentence.
///
/// `silent` are the workers that did not even say what they measured.
pub(crate) fn saturation(host: &str, interval: Duration, busiest: f64, silent: &[usize]) -> Option<String> {
    if !silent.is_empty() {
        let names: Vec<_> = silent.iter().map(ToString::to_string).collect();
        return Some(format!(
            "the load driver on {host} could not keep up: worker {} did not answer for {:.1} s",
            names.join(", "),
            interval.as_secs_f64()
        ));
    }
    (interval >= LONG_ENOUGH && busiest >= BUSY).then(|| {
        format!(
            "the load driver on {host} was the bottleneck: its busiest worker used {:.0} % of a core; use more cores, \
             or more load driver hosts",
            busiest * 100.0
        )
    })
}
