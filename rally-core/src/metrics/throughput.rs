//! Throughput by Rally's definition: cumulative since the start of the task, at most one value per second.

use std::collections::BTreeMap;

use super::{ReportedThroughput, SampleType, ThroughputBin};

const SECOND: u64 = 1_000_000_000;

/// The throughput of a task, out of the work of each second from any number of drivers.
///
/// It needs memory by the seconds that a task takes, not by its requests. Seconds are those of the step, so that all clients
/// and drivers agree on them; Rally counts them from the start of the task's earliest client. For a task that does not start
/// with its step, values are therefore of other instants than Rally's, less than a second apart.
#[derive(Clone, Debug, Default)]
pub struct Throughput {
    /// By second, for warm-up and normal samples.
    seconds: BTreeMap<u32, [Option<ThroughputBin>; 2]>,
}

/// A throughput at one time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ThroughputValue {
    /// Nanoseconds since the start of the step.
    pub at: u64,
    /// Units per second since the start of the task.
    pub value: f64,
    /// Whether it counts.
    pub sample_type: SampleType,
}

impl ThroughputValue {
    /// What runners reported for one second.
    pub(super) fn reported(second: ReportedThroughput) -> Self {
        Self { at: second.first, value: second.mean(), sample_type: SampleType::Normal }
    }
}

impl Throughput {
    /// Adds the work of one second.
    pub fn add(&mut self, sample_type: SampleType, bin: ThroughputBin) {
        let slot = &mut self.seconds.entry(bin.second).or_default()[sample_type as usize];
        match slot {
            Some(known) => known.merge(bin),
            None => *slot = Some(bin),
        }
    }

    /// All values in the order of time.
    ///
    /// Rally's rules: each second that begins when the task has run for one has a value at its earliest request; from the
    /// first normal sample on values are normal; a task too short to have one gets one at its end.
    #[must_use]
    pub fn values(&self) -> Vec<ThroughputValue> {
        let bins = || self.seconds.values().flatten().flatten();
        let Some(start) = bins().min_by_key(|bin| bin.first).map(|bin| bin.task_start) else { return Vec::new() };
        let normal_from = self.seconds.values().find_map(|[_, normal]| normal.map(|bin| bin.first));
        let sample_type = |at: u64| match normal_from {
            Some(from) if from <= at => SampleType::Normal,
            Some(_) | None => SampleType::Warmup,
        };
        let mut values = Vec::new();
        let (mut done, mut last) = (0_u64, start);
        for types in self.seconds.values() {
            let Some(earliest) = types.iter().flatten().min_by_key(|bin| bin.first) else { continue };
            if earliest.first.saturating_sub(start) >= SECOND {
                let work = done.saturating_add(earliest.first_weight);
                values.extend(value(start, earliest.first, work, sample_type(earliest.first)));
            }
            for bin in types.iter().flatten() {
                done = done.saturating_add(bin.weight);
                last = last.max(bin.last);
            }
        }
        let current = sample_type(last);
        if !values.iter().any(|value| value.sample_type == current) {
            values.extend(value(start, last, done, current));
        }
        values
    }
}

fn value(start: u64, at: u64, work: u64, sample_type: SampleType) -> Option<ThroughputValue> {
    let interval = at.checked_sub(start).filter(|&interval| interval > 0)?;
    Some(ThroughputValue { at, value: work as f64 / (interval as f64 / SECOND as f64), sample_type })
}

impl ThroughputBin {
    /// Adds the work of the same second from elsewhere.
    pub fn merge(&mut self, other: Self) {
        // The order of requests that start in the same nanosecond must not matter.
        let key = |bin: &Self| (bin.first, bin.first_weight, bin.task_start);
        if key(&other) < key(self) {
            (self.first, self.first_weight) = (other.first, other.first_weight);
        }
        self.last = self.last.max(other.last);
        self.weight = self.weight.saturating_add(other.weight);
        self.task_start = self.task_start.min(other.task_start);
    }
}

impl ReportedThroughput {
    /// A value that was reported for a request, by its start in nanoseconds since the start of the step.
    #[must_use]
    pub fn new(at: u64, value: f64) -> Self {
        let second = u32::try_from(at / SECOND).unwrap_or(u32::MAX);
        Self { second, first: at, count: 1, sum: value, min: value, max: value }
    }

    /// Adds it to those of other seconds, of which there is one each.
    pub fn add_to(self, seconds: &mut Vec<Self>) {
        // Requests end in about the order in which they were started, so it is one of the last.
        match seconds.iter_mut().rev().find(|known| known.second == self.second) {
            Some(known) => known.merge(self),
            None => seconds.push(self),
        }
    }

    /// Adds values of the same second from elsewhere.
    pub fn merge(&mut self, other: Self) {
        self.first = self.first.min(other.first);
        self.count = self.count.saturating_add(other.count);
        self.sum += other.sum;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// The mean of the values.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.sum / self.count.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy, Debug)]
    struct Single {
        at: u64,
        weight: u64,
        sample_type: SampleType,
    }

    /// Rally's formula over single samples in one round, for a task that starts with its step.
    fn oracle(samples: &[Single]) -> Vec<ThroughputValue> {
        let mut samples = samples.to_vec();
        samples.sort_by_key(|sample| sample.at);
        let Some(first) = samples.first() else { return Vec::new() };
        let (mut current, mut total, mut interval, mut boundary) = (first.sample_type, 0, 0_u64, 1);
        let mut values = Vec::new();
        let mut emitted = false;
        for sample in &samples {
            if sample.sample_type > current {
                current = sample.sample_type;
                emitted = false;
            }
            total += sample.weight;
            interval = interval.max(sample.at);
            if interval > 0 && interval >= boundary * SECOND {
                values.extend(value(0, sample.at, total, current));
                boundary = interval / SECOND + 1;
                emitted = true;
            }
        }
        if !emitted && interval > 0 {
            values.extend(value(0, interval, total, current));
        }
        values
    }

    fn bin(sample: Single, task_start: u64) -> ThroughputBin {
        let Single { at, weight, .. } = sample;
        let second = (at / SECOND) as u32;
        ThroughputBin { second, first: at, first_weight: weight, last: at, weight, task_start }
    }

    fn normal(millis: u64, weight: u64) -> Single {
        Single { at: millis * SECOND / 1_000, weight, sample_type: SampleType::Normal }
    }

    fn of(samples: &[Single]) -> Throughput {
        of_task(samples, 0)
    }

    fn of_task(samples: &[Single], task_start: u64) -> Throughput {
        let mut throughput = Throughput::default();
        samples.iter().for_each(|&sample| throughput.add(sample.sample_type, bin(sample, task_start)));
        throughput
    }

    #[test]
    fn a_later_task_of_a_row_has_no_value_of_its_first_moments() {
        // 20 requests per second from 3.999 s on, of one unit each.
        let samples: Vec<Single> = (0..100).map(|number| normal(3_999 + 50 * number, 1)).collect();
        let start = 3_999 * SECOND / 1_000 - 1_000;
        let values = of_task(&samples, start).values();
        assert_eq!(values.len(), 4, "{values:?}");
        assert!(values.iter().all(|value| (19.0..22.0).contains(&value.value)), "{values:?}");
    }

    #[test]
    fn throughput_is_cumulative_with_one_value_per_second() {
        let warmup = |millis, weight| Single { sample_type: SampleType::Warmup, ..normal(millis, weight) };
        for (samples, expected) in [
            (vec![], vec![]),
            (vec![normal(500, 10)], vec![20.0]),
            (vec![normal(0, 10)], vec![]),
            (vec![normal(500, 10), normal(2_000, 10), normal(2_500, 5), normal(4_000, 15)], vec![10.0, 10.0]),
            (vec![warmup(500, 10), warmup(1_000, 10), normal(1_600, 12)], vec![20.0, 20.0]),
        ] {
            let values: Vec<f64> = of(&samples).values().iter().map(|value| value.value).collect();
            assert_eq!(values, expected, "{samples:?}");
            assert_eq!(of(&samples).values(), oracle(&samples));
        }
    }

    proptest! {
        #[test]
        fn any_sharding_gives_what_the_formula_gives_over_single_samples(
            times in prop::collection::btree_map(0..20 * SECOND, (1_u64..100, 0_usize..4), 0..300),
            normal_from in 0..20 * SECOND,
        ) {
            let samples: Vec<(Single, usize)> = times.into_iter().map(|(at, (weight, shard))| {
                let sample_type = if at < normal_from { SampleType::Warmup } else { SampleType::Normal };
                (Single { at, weight, sample_type }, shard)
            }).collect();
            let mut merged = Throughput::default();
            for shard in 0..4 {
                let own: Vec<Single> = samples.iter().filter(|(_, of)| *of == shard).map(|(sample, _)| *sample).collect();
                for (_, types) in of(&own).seconds {
                    for (sample_type, bin) in [SampleType::Warmup, SampleType::Normal].into_iter().zip(types) {
                        if let Some(bin) = bin { merged.add(sample_type, bin) }
                    }
                }
            }
            let singles: Vec<Single> = samples.into_iter().map(|(sample, _)| sample).collect();
            prop_assert_eq!(merged.values(), oracle(&singles));
        }

        #[test]
        fn a_task_that_starts_with_a_second_of_its_step_has_the_values_of_one_that_starts_with_the_step(
            times in prop::collection::btree_map(0..20 * SECOND, 1_u64..100, 0..300),
            seconds in 0..1_000_u64,
        ) {
            let task_start = seconds * SECOND;
            let sample = |(at, weight)| Single { at, weight, sample_type: SampleType::Normal };
            let samples: Vec<Single> = times.into_iter().map(sample).collect();
            let later: Vec<Single> =
                samples.iter().map(|&sample| Single { at: sample.at + task_start, ..sample }).collect();
            let expected: Vec<ThroughputValue> =
                oracle(&samples).into_iter().map(|value| ThroughputValue { at: value.at + task_start, ..value }).collect();
            prop_assert_eq!(of_task(&later, task_start).values(), expected);
        }

        #[test]
        fn values_of_a_task_that_starts_at_any_time_are_its_work_by_the_time_that_it_has_run(
            times in prop::collection::btree_map(0..20 * SECOND, 1_u64..100, 1..300),
            task_start in 1..100 * SECOND,
        ) {
            let sample = |(at, weight)| Single { at: at + task_start, weight, sample_type: SampleType::Normal };
            let samples: Vec<Single> = times.into_iter().map(sample).collect();
            let values = of_task(&samples, task_start).values();
            let last = samples[samples.len() - 1].at;
            for value in &values {
                let work: u64 = samples.iter().filter(|sample| sample.at <= value.at).map(|sample| sample.weight).sum();
                let interval = (value.at - task_start) as f64 / SECOND as f64;
                prop_assert_eq!(value.value, work as f64 / interval);
                prop_assert!(interval >= 1.0 || (values.len() == 1 && value.at == last), "{:?}", value);
            }
            prop_assert!(values.windows(2).all(|pair| pair[0].at / SECOND < pair[1].at / SECOND), "{:?}", values);
            // Every second of the step in which the task has run for one has its value.
            let seconds: std::collections::BTreeSet<u64> = samples
                .iter()
                .map(|sample| sample.at / SECOND)
                .filter(|second| second * SECOND >= task_start + SECOND)
                .collect();
            prop_assert!(seconds.len() <= values.len(), "{:?}", values);
        }
    }
}
