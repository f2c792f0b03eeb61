//! Arithmetic on a few repetitions: medians, spreads, ratios, slopes. No I/O.

/// The middle value; the mean of the two middle ones where there is no single one. NaN without
/// values.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// The smallest and the largest value.
#[must_use]
pub fn spread(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &value| {
        (low.min(value), high.max(value))
    })
}

/// What grows with each unit of `x`: (y1 - y0) / (x1 - x0).
#[must_use]
pub fn slope((x0, y0): (f64, f64), (x1, y1): (f64, f64)) -> f64 {
    (y1 - y0) / (x1 - x0)
}

/// Ratio of the medians, and the spread of the ratios of neighbours: the first `a` to the first
/// `b`, the second to the second. Neighbours ran one after the other, so a machine that changes
/// its mind between pairs shows as spread and not as a result.
#[must_use]
pub fn paired_ratio(a: &[f64], b: &[f64]) -> (f64, (f64, f64)) {
    let pairs: Vec<f64> = a.iter().zip(b).map(|(a, b)| a / b).collect();
    (median(a) / median(b), spread(&pairs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]).to_bits(), 2.0_f64.to_bits());
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]).to_bits(), 2.5_f64.to_bits());
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_ratio_pairs_neighbours() {
        let (ratio, (low, high)) = paired_ratio(&[1.0, 4.0, 3.0], &[2.0, 4.0, 2.0]);
        assert!((ratio - 1.5).abs() < 1e-12, "3 to 2");
        assert!((low - 0.5).abs() < 1e-12 && (high - 1.5).abs() < 1e-12);
    }

    #[test]
    fn a_slope_leaves_the_fixed_cost_out() {
        let bytes =
            slope((50_000.0, 10e6 + 50_000.0 * 120.0), (200_000.0, 10e6 + 200_000.0 * 120.0));
        assert!((bytes - 120.0).abs() < 1e-9);
    }
}
