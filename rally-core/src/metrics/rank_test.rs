//! Whether two series of values differ by more than chance.

/// Values that each side needs; with fewer the normal approximation says nothing.
pub const RANK_TEST_MIN: usize = 8;

/// The two-sided p-value of the Mann-Whitney U test (Wilcoxon rank-sum test): the chance to see ranks so different if
/// both series came from the same distribution. None if a series has fewer than [`RANK_TEST_MIN`] values.
///
/// The normal approximation with correction for ties and continuity; see Mann and Whitney, "On a test of whether one of two
/// random variables is stochastically larger than the other", 1947.
#[must_use]
pub fn rank_test(one: &[f64], other: &[f64]) -> Option<f64> {
    if one.len() < RANK_TEST_MIN || other.len() < RANK_TEST_MIN {
        return None;
    }
    let mut all: Vec<(f64, bool)> =
        one.iter().map(|&value| (value, true)).chain(other.iter().map(|&value| (value, false))).collect();
    all.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let (n, m, total) = (one.len() as f64, other.len() as f64, all.len() as f64);
    let (mut rank_sum, mut ties, mut below) = (0.0, 0.0, 0.0);
    for group in all.chunk_by(|a, b| a.0 == b.0) {
        let size = group.len() as f64;
        let rank = below + (size + 1.0) / 2.0;
        rank_sum += rank * group.iter().filter(|(_, is_first)| *is_first).count() as f64;
        ties += size.powi(3) - size;
        below += size;
    }
    let distance = (rank_sum - n * (n + 1.0) / 2.0 - n * m / 2.0).abs();
    let variance = n * m / 12.0 * (total + 1.0 - ties / (total * (total - 1.0)));
    if variance <= 0.0 {
        // All values are the same.
        return Some(1.0);
    }
    let z = (distance - 0.5).max(0.0) / variance.sqrt();
    Some(both_tails(z))
}

/// The chance that a normal variable is farther than `z` from its mean, on either side; good to 1.2e-7.
///
/// The rational approximation of erfc of Press et al., "Numerical Recipes", section 6.2.
pub(super) fn both_tails(z: f64) -> f64 {
    const COEFFICIENTS: [f64; 10] = [
        -1.265_512_23,
        1.000_023_68,
        0.374_091_96,
        0.096_784_18,
        -0.186_288_06,
        0.278_868_07,
        -1.135_203_98,
        1.488_515_87,
        -0.822_152_23,
        0.170_872_77,
    ];
    let x = z / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.5 * x);
    let polynomial = COEFFICIENTS.iter().rev().fold(0.0, |sum, coefficient| sum * t + coefficient);
    (t * (-x * x + polynomial).exp()).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p_values_are_those_of_known_tables() {
        // 1.96 and 2.5758 standard deviations have 5 % and 1 % beyond them.
        for (z, expected) in [(0.0, 1.0), (1.959_964, 0.05), (2.575_829, 0.01), (3.290_527, 0.001)] {
            assert!((both_tails(z) - expected).abs() < 1e-6, "{z}: {}", both_tails(z));
        }
        // The formula worked out apart, with an exact erfc.
        let one: Vec<f64> = (0..10).map(f64::from).collect();
        let other: Vec<f64> = (4..14).map(f64::from).collect();
        let p = rank_test(&one, &other).unwrap();
        assert!((p - 0.017_006_6).abs() < 1e-6, "{p}");
    }

    #[test]
    fn the_order_of_sides_does_not_matter_and_equal_series_do_not_differ() {
        let one: Vec<f64> = (0..30).map(|it| f64::from(it * 7 % 31)).collect();
        let shifted: Vec<f64> = one.iter().map(|value| value + 100.0).collect();
        assert_eq!(rank_test(&one, &shifted), rank_test(&shifted, &one));
        assert!(rank_test(&one, &shifted).unwrap() < 1e-6);
        assert!(rank_test(&one, &one).unwrap() > 0.9);
        assert_eq!(rank_test(&[3.0; 10], &[3.0; 12]), Some(1.0));
        assert_eq!(rank_test(&one, &one[..7]), None);
    }
}
