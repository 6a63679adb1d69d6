//! Whether two shares differ by more than chance.

use super::rank_test::both_tails;

/// Failures and successes that a side needs to expect for the normal approximation.
const EXPECTED_MIN: f64 = 5.0;

/// What is left of all chances when the rest is not added up any more.
const NEGLIGIBLE: f64 = 1e-18;

/// The two-sided p-value for two shares, each as how many failed of how many: the chance to see shares so different if both
/// sides fail equally often. None if a side has nothing.
///
/// The test of two proportions with pooled variance and Yates's correction; where less than five failures or successes are to
/// be expected on a side, Fisher's exact test. See Fleiss, Levin and Paik, "Statistical Methods for Rates and Proportions",
/// chapter 3.
#[must_use]
pub fn proportion_test((one_failed, one): (u64, u64), (two_failed, two): (u64, u64)) -> Option<f64> {
    if one == 0 || two == 0 {
        return None;
    }
    let (n, m) = (one as f64, two as f64);
    let (failed_one, failed_two) = (one_failed.min(one) as f64, two_failed.min(two) as f64);
    let (failed, all) = (failed_one + failed_two, n + m);
    let expected_min = n.min(m) * failed.min(all - failed) / all;
    if expected_min < EXPECTED_MIN {
        return Some(exact(n, m, failed_one, failed));
    }
    let share = failed / all;
    let distance = (failed_one / n - failed_two / m).abs();
    let correction = (1.0 / n + 1.0 / m) / 2.0;
    let deviation = (share * (1.0 - share) * (1.0 / n + 1.0 / m)).sqrt();
    Some(both_tails((distance - correction).max(0.0) / deviation))
}

/// Fisher's exact test: adds up all that is at most as likely as `seen` failures among the first `n` of `n + m`, of which
/// `failed` fail.
fn exact(n: f64, m: f64, seen: f64, failed: f64) -> f64 {
    // How much likelier one failure more among the first is than `count`.
    let ratio = |count: f64| (failed - count) * (n - count) / ((count + 1.0) * (m - failed + count + 1.0));
    let (lowest, highest) = ((failed - m).max(0.0), failed.min(n));
    // As multiples of the chance of what was seen; those that are as likely may differ by rounding.
    let (mut all, mut tails) = (1.0, 1.0);
    let mut add = |chance: f64| {
        all += chance;
        if chance <= 1.0 + 1e-7 {
            tails += chance;
        }
        chance > NEGLIGIBLE * all && all.is_finite()
    };
    let (mut count, mut chance) = (seen, 1.0);
    while count < highest {
        chance *= ratio(count);
        count += 1.0;
        if !add(chance) {
            break;
        }
    }
    (count, chance) = (seen, 1.0);
    while count > lowest {
        count -= 1.0;
        chance /= ratio(count);
        if !add(chance) {
            break;
        }
    }
    (tails / all).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The exact test by counting, for small numbers.
    fn counted(n: u64, m: u64, seen: u64, failed: u64) -> f64 {
        let choose = |from: u64, count: u64| (0..count).fold(1.0, |it, i| it * (from - i) as f64 / (i + 1) as f64);
        let counts = failed.saturating_sub(m)..=failed.min(n);
        let chances: Vec<(u64, f64)> =
            counts.map(|count| (count, choose(n, count) * choose(m, failed - count))).collect();
        let limit = chances.iter().find(|(count, _)| *count == seen).unwrap().1 * (1.0 + 1e-7);
        let all: f64 = chances.iter().map(|(_, chance)| chance).sum();
        chances.iter().map(|(_, chance)| chance).filter(|chance| **chance <= limit).sum::<f64>() / all
    }

    #[test]
    fn few_failures_are_judged_exactly_and_many_by_approximation() {
        for (one, two, expected) in [
            // A lady tasting tea.
            ((1, 4), (3, 4), 0.485_714),
            ((0, 1_000), (0, 1_000), 1.0),
            ((0, 1_000), (3, 1_000), 0.249_624),
            ((0, 1_000), (9, 1_000), 0.003_836),
            ((1_000, 1_000), (991, 1_000), 0.003_836),
            ((10, 1_000), (10, 1_000), 1.0),
            ((100, 1_000), (140, 1_000), 0.007_283),
            ((0, 1_000_000), (1_000, 1_000_000), 0.0),
        ] {
            let chance = proportion_test(one, two).unwrap();
            assert!((chance - expected).abs() < 2e-6, "{one:?} {two:?}: {chance}");
            assert!((proportion_test(two, one).unwrap() - chance).abs() < 1e-6);
        }
        assert_eq!(proportion_test((0, 0), (1, 2)), None);
        assert_eq!(proportion_test((1, 2), (0, 0)), None);
        assert!(proportion_test((u64::MAX, u64::MAX), (0, u64::MAX)).unwrap() < 1e-9);
        assert!(proportion_test((1, u64::MAX), (0, u64::MAX)).unwrap() > 0.9);
    }

    proptest! {
        #[test]
        fn the_exact_test_is_what_counting_gives((n, m) in (1_u64..40, 1_u64..40), one in 0_u64..40, two in 0_u64..40) {
            let (one, two) = (one.min(n), two.min(m));
            let chance = exact(n as f64, m as f64, one as f64, (one + two) as f64);
            prop_assert!((chance - counted(n, m, one, one + two)).abs() < 1e-9);
        }
    }
}
