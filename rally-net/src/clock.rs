//! The coordinator's clock, estimated from round trips.

use std::collections::VecDeque;
use std::time::Duration;

use rally_core::ClusterTime;
use serde::{Deserialize, Serialize};

use crate::ClockEstimate;

/// The two clocks may run apart by at most this much, in parts per million; error bounds hold as long as they do.
///
/// Quartz is within 100 ppm, and clock discipline adds at most 500 ppm to keep it right.
pub const MAX_DRIFT_PPM: u32 = 600;

/// What is left of the drift once it is followed, in parts per million: temperature, mostly. Only the choice among
/// samples depends on it, never a bound.
const WANDER_PPM: u32 = 20;

/// Samples that are remembered to follow the drift: 16 s of heartbeats by default.
const WINDOW: usize = 32;

/// The drift is followed once the samples span this time, in nanoseconds; before, noise would be taken for drift.
const SHORTEST_BASELINE: u64 = 4_000_000_000;

/// A reading of the local monotonic clock, in nanoseconds since a point that this process has chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LocalTime(u64);

impl LocalTime {
    /// A reading in nanoseconds.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The reading in nanoseconds.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }
}

/// The four times of one round trip to the coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockSample {
    /// When the request was sent, by the local clock.
    pub sent: LocalTime,
    /// When it arrived, by the coordinator's clock.
    pub received_there: ClusterTime,
    /// When the answer was sent, by the coordinator's clock.
    pub sent_there: ClusterTime,
    /// When the answer arrived, by the local clock.
    pub received: LocalTime,
}

/// What a sample did to the estimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// It agrees with the samples before it.
    Followed,
    /// It contradicts them: one of the clocks was stepped, and the estimate has started over with this sample.
    StartedOver,
}

/// A sample that makes no sense; it was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSample {
    /// An answer before its question, or more time spent there than passed here.
    #[error("a round trip cannot take less than no time")]
    NegativeRoundTrip,
    /// Older than the sample before it.
    #[error("a later sample is known")]
    OutOfOrder,
    /// The clocks are centuries apart.
    #[error("the clocks are too far apart")]
    OutOfRange,
}

/// Estimates coordinator time minus local time.
///
/// Each round trip confines the offset: the request cannot have arrived before it was sent, nor the answer before it
/// left. That holds however differently the two ways are delayed. As the clocks may drift, the confines widen with age by
/// [`MAX_DRIFT_PPM`]; what all samples together allow is the error bound. Within it, the estimate follows the best recent
/// sample and the drift that the samples of the last seconds show.
///
/// The filter belongs to one start of the coordinator: another start has another clock, so begin with a new filter.
/// A step within one start that the samples cannot contradict is not noticed.
#[derive(Clone, Debug, Default)]
pub struct ClockFilter {
    /// What all samples since the last step allow.
    confines: Option<Confines>,
    /// The latest samples, newest last.
    window: VecDeque<Observation>,
    /// Through which point, and how steeply, the estimate runs.
    line: Line,
}

/// At `at` the offset is neither below `low` nor above `high`, in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Confines {
    at: LocalTime,
    low: i128,
    high: i128,
}

#[derive(Clone, Copy, Debug)]
struct Observation {
    confines: Confines,
    round_trip: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Line {
    at: u64,
    offset: i128,
    /// Nanoseconds per nanosecond, within [`MAX_DRIFT_PPM`].
    drift: f64,
}

impl Confines {
    /// What is known at another time, later or earlier.
    fn aged(self, to: LocalTime) -> Self {
        let drift = drifted(to.0.abs_diff(self.at.0), MAX_DRIFT_PPM);
        Self { at: to, low: self.low - drift, high: self.high + drift }
    }

    fn width(&self) -> i128 {
        self.high - self.low
    }

    fn middle(&self) -> i128 {
        self.low + self.width() / 2
    }
}

impl Line {
    fn at(&self, time: LocalTime) -> i128 {
        let distance = i128::from(time.0) - i128::from(self.at);
        self.offset + (distance as f64 * self.drift).round() as i128
    }
}

impl ClockFilter {
    /// A filter that knows nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a round trip into account.
    ///
    /// # Errors
    ///
    /// [`BadSample`] if it makes no sense; the estimate is as before.
    pub fn record(&mut self, sample: ClockSample) -> Result<Recorded, BadSample> {
        let ClockSample { sent, received_there, sent_there, received } = sample;
        let elapsed = received.0.checked_sub(sent.0).ok_or(BadSample::NegativeRoundTrip)?;
        let spent_there =
            sent_there.as_nanos().checked_sub(received_there.as_nanos()).ok_or(BadSample::NegativeRoundTrip)?;
        if self.window.back().is_some_and(|last| received < last.confines.at) {
            return Err(BadSample::OutOfOrder);
        }
        // Readings are whole nanoseconds, so each is up to one nanosecond short of the truth.
        let low = i128::from(sent_there.as_nanos()) - i128::from(received.0) - 1;
        let high = i128::from(received_there.as_nanos()) - i128::from(sent.0) + 1 + drifted(elapsed, MAX_DRIFT_PPM);
        if high < low {
            return Err(BadSample::NegativeRoundTrip);
        }
        if i64::try_from(low).is_err() || i64::try_from(high).is_err() {
            return Err(BadSample::OutOfRange);
        }
        let seen = Confines { at: received, low, high };

        let known = self.confines.map(|known| known.aged(received));
        let agreed =
            known.map_or(seen, |known| Confines { at: received, low: known.low.max(low), high: known.high.min(high) });
        let contradicts = agreed.high < agreed.low;
        if contradicts {
            self.window.clear();
            self.confines = Some(seen);
        } else {
            self.confines = Some(agreed);
        }
        if self.window.len() == WINDOW {
            self.window.pop_front();
        }
        self.window.push_back(Observation { confines: seen, round_trip: elapsed.saturating_sub(spent_there) });
        self.line = fit(&self.window, received);
        Ok(if contradicts { Recorded::StartedOver } else { Recorded::Followed })
    }

    /// The offset at a local time with its error bound, `None` before the first sample.
    pub fn estimate(&self, now: LocalTime) -> Option<ClockEstimate> {
        let known = self.confines?.aged(now);
        let offset = clamp_to_i64(self.line.at(now).clamp(known.low, known.high));
        let error = (known.high - i128::from(offset)).max(i128::from(offset) - known.low);
        Some(ClockEstimate { offset, error: u64::try_from(error).unwrap_or(u64::MAX) })
    }

    /// The shortest recent round trip without the time spent there, `None` before the first sample.
    pub fn round_trip(&self) -> Option<Duration> {
        self.window.iter().map(|seen| seen.round_trip).min().map(Duration::from_nanos)
    }

    /// The coordinator's time at a local time, `None` before the first sample.
    pub fn to_cluster(&self, local: LocalTime) -> Option<ClusterTime> {
        let offset = self.estimate(local)?.offset;
        Some(ClusterTime::from_nanos(clamp_to_u64(i128::from(local.0) + i128::from(offset))))
    }

    /// The local time at a time of the coordinator, `None` before the first sample.
    pub fn to_local(&self, cluster: ClusterTime) -> Option<LocalTime> {
        // The offset is wanted at the local time that is sought. It changes so slowly that each round brings the guess
        // closer by more than a factor of a thousand: from the span of a year to a nanosecond in six.
        let mut local = self.confines?.at;
        for _ in 0..6 {
            let offset = self.estimate(local)?.offset;
            local = LocalTime(clamp_to_u64(i128::from(cluster.as_nanos()) - i128::from(offset)));
        }
        Some(local)
    }
}

/// How far two clocks drift apart within `elapsed` nanoseconds at this rate, rounded up.
fn drifted(elapsed: u64, ppm: u32) -> i128 {
    (i128::from(elapsed) * i128::from(ppm) + 999_999) / 1_000_000
}

/// The line through the best sample, as steep as the good ones show.
fn fit(window: &VecDeque<Observation>, now: LocalTime) -> Line {
    let drift = slope(window);
    let ageing = if drift.is_some() { WANDER_PPM } else { MAX_DRIFT_PPM };
    let uncertainty = |seen: &Observation| seen.confines.width() / 2 + drifted(now.0 - seen.confines.at.0, ageing);
    match window.iter().min_by_key(|seen| uncertainty(seen)) {
        Some(best) => Line { at: best.confines.at.0, offset: best.confines.middle(), drift: drift.unwrap_or_default() },
        None => Line::default(),
    }
}

/// The slope of the offset over the samples whose round trip was at most twice the shortest, by least squares; `None`
/// while they span too little time.
fn slope(window: &VecDeque<Observation>) -> Option<f64> {
    let shortest = window.iter().map(|seen| seen.confines.width()).min()?;
    let good = || window.iter().filter(|seen| seen.confines.width() <= 2 * shortest).map(|seen| seen.confines);
    let (first, last) = (good().next()?, good().next_back()?);
    if last.at.0 - first.at.0 < SHORTEST_BASELINE {
        return None;
    }
    // Relative to the first one, so that a float holds the differences exactly enough.
    let points = || good().map(|seen| ((seen.at.0 - first.at.0) as f64, (seen.middle() - first.middle()) as f64));
    let count = points().count() as f64;
    let (sum_x, sum_y) = points().fold((0.0, 0.0), |(sum_x, sum_y), (x, y)| (sum_x + x, sum_y + y));
    let (mean_x, mean_y) = (sum_x / count, sum_y / count);
    let (covariance, variance) = points().fold((0.0, 0.0), |(covariance, variance), (x, y)| {
        (covariance + (x - mean_x) * (y - mean_y), variance + (x - mean_x).powi(2))
    });
    let limit = f64::from(MAX_DRIFT_PPM) / 1e6;
    Some((covariance / variance).clamp(-limit, limit))
}

fn clamp_to_i64(value: i128) -> i64 {
    value.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

fn clamp_to_u64(value: i128) -> u64 {
    value.clamp(0, u64::MAX.into()) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;
    /// Where the local clock begins, by the coordinator's clock.
    const FAR: u64 = 1_800_000_000 * SECOND;

    /// A coordinator whose clock runs at a rate that changes from leg to leg, against a local clock that is the truth.
    struct Remote {
        /// Local time, coordinator time, and the rate from there on in ppm, by ascending local time.
        legs: Vec<(u64, u64, i64)>,
    }

    impl Remote {
        fn steady(drift_ppm: i64) -> Self {
            Self { legs: vec![(0, FAR, drift_ppm)] }
        }

        /// Lets the rate change, now and then.
        fn wandering(drifts_ppm: &[i64], leg: u64) -> Self {
            let mut remote = Self::steady(drifts_ppm[0]);
            for (&drift, start) in drifts_ppm[1..].iter().zip(1..) {
                let at = start * leg;
                let there = remote.at(at);
                remote.legs.push((at, there, drift));
            }
            remote
        }

        fn at(&self, local: u64) -> u64 {
            let &(start, there, ppm) = self.legs.iter().rev().find(|leg| leg.0 <= local).unwrap();
            let passed = i128::from(local - start);
            (i128::from(there) + passed + passed * i128::from(ppm) / 1_000_000) as u64
        }

        fn sample(&self, sent: u64, there: u64, spent: u64, back: u64) -> ClockSample {
            ClockSample {
                sent: LocalTime(sent),
                received_there: ClusterTime::from_nanos(self.at(sent + there)),
                sent_there: ClusterTime::from_nanos(self.at(sent + there + spent)),
                received: LocalTime(sent + there + spent + back),
            }
        }

        fn offset(&self, local: u64) -> i64 {
            (i128::from(self.at(local)) - i128::from(local)) as i64
        }
    }

    #[test]
    fn a_symmetric_round_trip_gives_the_offset_and_half_the_round_trip_as_error() {
        let remote = Remote::steady(0);
        let mut filter = ClockFilter::new();
        assert_eq!(filter.estimate(LocalTime(0)), None);
        filter.record(remote.sample(0, 100_000, 5_000_000, 100_000)).unwrap();
        let estimate = filter.estimate(LocalTime(5_200_000)).unwrap();
        assert!(estimate.offset.abs_diff(FAR as i64) < 2_000, "{estimate:?}");
        assert!((100_000..105_000).contains(&estimate.error), "{estimate:?}");
        assert_eq!(filter.round_trip(), Some(Duration::from_micros(200)));
    }

    #[test]
    fn a_steady_drift_is_followed_far_better_than_the_bound_says() {
        for drift in [-100, -7, 0, 42, 100] {
            let remote = Remote::steady(drift);
            let mut filter = ClockFilter::new();
            for beat in 0..60 {
                filter.record(remote.sample(beat * SECOND / 2, 100_000, 10_000, 100_000)).unwrap();
            }
            // Half a minute without a sample: by itself the drift would make 3 ms.
            let now = LocalTime(60 * SECOND);
            let estimate = filter.estimate(now).unwrap();
            assert!(estimate.offset.abs_diff(remote.offset(now.0)) < 20_000, "{drift} ppm: {estimate:?}");
        }
    }

    #[test]
    fn one_good_round_trip_counts_more_than_many_slow_ones() {
        let remote = Remote::steady(0);
        let mut filter = ClockFilter::new();
        filter.record(remote.sample(0, 50_000, 0, 50_000)).unwrap();
        for beat in 1..4 {
            filter.record(remote.sample(beat * SECOND / 100, 9_000_000, 0, 100_000)).unwrap();
        }
        let now = LocalTime(SECOND / 20);
        let estimate = filter.estimate(now).unwrap();
        assert!(estimate.offset.abs_diff(remote.offset(now.0)) < 50_000, "{estimate:?}");
        assert!(estimate.error < 120_000, "{estimate:?}");
    }

    #[test]
    fn a_step_of_the_coordinators_clock_starts_over() {
        for step in [-(SECOND as i64), -2_000_000, 2_000_000, 3600 * SECOND as i64] {
            let before = Remote::steady(0);
            let after = Remote { legs: vec![(0, FAR.checked_add_signed(step).unwrap(), 0)] };
            let mut filter = ClockFilter::new();
            filter.record(before.sample(0, 100_000, 0, 100_000)).unwrap();
            assert_eq!(filter.record(before.sample(SECOND / 2, 100_000, 0, 100_000)), Ok(Recorded::Followed));
            assert_eq!(filter.record(after.sample(SECOND, 100_000, 0, 100_000)), Ok(Recorded::StartedOver));
            let estimate = filter.estimate(LocalTime(SECOND)).unwrap();
            assert!(estimate.offset.abs_diff(after.offset(SECOND)) <= estimate.error, "step of {step}: {estimate:?}");
            assert!(estimate.error < 200_000);
        }
    }

    #[test]
    fn nonsense_is_left_out() {
        let sample = |sent, received_there, sent_there, received| ClockSample {
            sent: LocalTime(sent),
            received_there: ClusterTime::from_nanos(received_there),
            sent_there: ClusterTime::from_nanos(sent_there),
            received: LocalTime(received),
        };
        let mut filter = ClockFilter::new();
        filter.record(sample(1_000, 5_000, 5_100, 1_300)).unwrap();
        let before = filter.estimate(LocalTime(2_000));
        for (bad, why) in [
            (sample(2_000, 6_000, 6_100, 1_900), BadSample::NegativeRoundTrip),
            (sample(2_000, 6_000, 5_900, 2_300), BadSample::NegativeRoundTrip),
            (sample(2_000, 6_000, 7_000, 2_300), BadSample::NegativeRoundTrip),
            (sample(900, 4_900, 5_000, 1_200), BadSample::OutOfOrder),
            (sample(2_000, u64::MAX, u64::MAX, 2_300), BadSample::OutOfRange),
            (sample(u64::MAX, 0, 0, u64::MAX), BadSample::OutOfRange),
        ] {
            assert_eq!(filter.record(bad), Err(why));
            assert_eq!(filter.estimate(LocalTime(2_000)), before);
        }
    }

    proptest! {
        #[test]
        fn the_true_offset_is_always_within_the_bound(
            drifts in prop::collection::vec(-i64::from(MAX_DRIFT_PPM)..=i64::from(MAX_DRIFT_PPM), 1..8),
            trips in prop::collection::vec(
                // Gap, way there, time spent there, way back: from the same rack to the other side of the world.
                (0..5 * SECOND, 0..300_000_000_u64, 0..20_000_000_u64, 0..300_000_000_u64), 1..80),
            ahead in 0..100 * SECOND,
        ) {
            let remote = Remote::wandering(&drifts, 7 * SECOND);
            let mut filter = ClockFilter::new();
            let mut now = 0;
            for (gap, there, spent, back) in trips {
                let sent = now + gap;
                let sample = remote.sample(sent, there, spent, back);
                now = sample.received.as_nanos();
                prop_assert_eq!(filter.record(sample), Ok(Recorded::Followed));
                for at in [sent, now, now + ahead] {
                    let estimate = filter.estimate(LocalTime(at)).unwrap();
                    let miss = estimate.offset.abs_diff(remote.offset(at));
                    prop_assert!(miss <= estimate.error, "{miss} ns off at {at}: {estimate:?}");
                }
            }
        }

        #[test]
        fn both_conversions_agree(
            drift in -i64::from(MAX_DRIFT_PPM)..=i64::from(MAX_DRIFT_PPM),
            gaps in prop::collection::vec(0..3 * SECOND, 1..50),
            ahead in 0..86_400 * SECOND,
        ) {
            let remote = Remote::steady(drift);
            let mut filter = ClockFilter::new();
            let mut now = 0;
            for gap in gaps {
                let sample = remote.sample(now + gap, 200_000, 1_000, 90_000);
                now = sample.received.as_nanos();
                filter.record(sample).unwrap();
            }
            let local = LocalTime(now + ahead);
            let back = filter.to_local(filter.to_cluster(local).unwrap()).unwrap();
            prop_assert!(back.as_nanos().abs_diff(local.as_nanos()) <= 1, "{local:?} became {back:?}");
        }

        #[test]
        fn no_sample_and_no_question_ever_panics(
            samples in prop::collection::vec(any::<(u64, u64, u64, u64)>(), 0..50),
            plausible in prop::collection::vec((0..10_000_u64, 0..10_000_u64, 0..10_000_u64, 0..10_000_u64), 0..50),
            at in any::<u64>(),
        ) {
            let mut filter = ClockFilter::new();
            for (sent, received_there, sent_there, received) in samples.into_iter().chain(plausible) {
                let _ = filter.record(ClockSample {
                    sent: LocalTime(sent),
                    received_there: ClusterTime::from_nanos(received_there),
                    sent_there: ClusterTime::from_nanos(sent_there),
                    received: LocalTime(received),
                });
                for at in [0, at, u64::MAX] {
                    let _ = filter.estimate(LocalTime(at));
                    let _ = filter.to_cluster(LocalTime(at));
                    let _ = filter.to_local(ClusterTime::from_nanos(at));
                }
            }
        }
    }
}
