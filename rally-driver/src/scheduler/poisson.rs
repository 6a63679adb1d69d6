//! Requests as independent users send them.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::{Scheduler, interval};

/// Rally's `poisson`: the times between requests are exponentially distributed with the mean `1 / rate`.
#[derive(Debug)]
pub(crate) struct Poisson {
    random: SmallRng,
}

impl Poisson {
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: SmallRng::seed_from_u64(seed) }
    }
}

impl Scheduler for Poisson {
    fn next(&mut self, last: Duration, rate: Option<f64>) -> Duration {
        let Some(rate) = rate else { return Duration::ZERO };
        // In (0, 1], so that the logarithm is finite.
        let uniform = 1.0 - self.random.random::<f64>();
        last.saturating_add(interval(rate).mul_f64(-uniform.ln()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_have_the_mean_and_the_spread_of_an_exponential_distribution() {
        let mut scheduler = Poisson::new(7);
        let (mut last, mut distances) = (Duration::ZERO, Vec::new());
        for _ in 0..20_000 {
            let next = scheduler.next(last, Some(100.0));
            distances.push((next - last).as_secs_f64());
            last = next;
        }
        let mean = distances.iter().sum::<f64>() / distances.len() as f64;
        let variance = distances.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / distances.len() as f64;
        assert!((0.0097..0.0103).contains(&mean), "{mean}");
        assert!((0.0095..0.0105).contains(&variance.sqrt()), "{}", variance.sqrt());
    }

    #[test]
    fn the_same_seed_gives_the_same_schedule() {
        let due = |seed| {
            let mut scheduler = Poisson::new(seed);
            let mut last = Duration::ZERO;
            std::array::from_fn::<_, 8, _>(|_| {
                last = scheduler.next(last, Some(3.0));
                last
            })
        };
        assert_eq!(due(1), due(1));
        assert_ne!(due(1), due(2));
    }
}
