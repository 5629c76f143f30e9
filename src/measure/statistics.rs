//! Quantiles and intervals: nearest rank, the order statistics around it, Wilson's interval.
//! Nothing is interpolated, and a quantile that its samples cannot carry is not given.

use super::record::Quantiles;

/// The value at a quantile (0 to 1) of sorted values, by nearest rank; None without values.
pub fn nearest_rank(sorted: &[f64], q: f64) -> Option<f64> {
    sorted.get(rank(sorted.len(), q)?).copied()
}

/// The index of a quantile among `n` sorted values.
fn rank(n: usize, q: f64) -> Option<usize> {
    // The small step back keeps 0.95 * 20 at the 19th value, whatever binary fractions make of it.
    let rank = (q.clamp(0.0, 1.0) * n as f64 - 1e-9).ceil().max(1.0) as usize;
    (n > 0).then(|| rank.min(n) - 1)
}

/// The fewest values that carry a quantile: 2 for p50, 20 for p95, 100 for p99.
pub fn samples_for(q: f64) -> u64 {
    let tail = q.min(1.0 - q).max(0.0);
    if tail <= 0.0 { 1 } else { (1.0 / tail - 1e-6).ceil() as u64 }
}

/// A quantile by nearest rank, None when too few values carry it.
pub fn carried(sorted: &[f64], q: f64) -> Option<f64> {
    if (sorted.len() as u64) < samples_for(q) { None } else { nearest_rank(sorted, q) }
}

/// Sorts values (none of which is NaN) upwards.
pub fn sort(values: &mut [f64]) {
    values.sort_unstable_by(f64::total_cmp);
}

impl Quantiles {
    /// The quantiles of some values in seconds.
    pub fn of(mut values: Vec<f64>) -> Self {
        sort(&mut values);
        let n = values.len();
        Self {
            p50: carried(&values, 0.50),
            p95: carried(&values, 0.95),
            p99: carried(&values, 0.99),
            max: values.last().copied(),
            mean: (n > 0).then(|| values.iter().sum::<f64>() / n as f64),
            n: n as u64,
        }
    }
}

/// Wilson's interval of a share at a confidence (0 to 1); None without trials.
pub fn wilson(hits: u64, trials: u64, confidence: f64) -> Option<[f64; 2]> {
    if trials == 0 {
        return None;
    }
    let (n, share, z) = (trials as f64, hits as f64 / trials as f64, z_of(confidence));
    let middle = share + z * z / (2.0 * n);
    let spread = z * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + z * z / n;
    let low = if hits == 0 { 0.0 } else { ((middle - spread) / scale).max(0.0) };
    let high = if hits == trials { 1.0 } else { ((middle + spread) / scale).min(1.0) };
    Some([low, high])
}

/// The distribution-free interval of a quantile: the two order statistics that hold it at this
/// confidence (0 to 1). An end beyond the values is infinite.
pub fn quantile_interval(sorted: &[f64], q: f64, confidence: f64) -> Option<[f64; 2]> {
    let n = sorted.len();
    if n == 0 || q <= 0.0 || q >= 1.0 {
        return None;
    }
    let tail = (1.0 - confidence.clamp(0.5, 0.9999)) / 2.0;
    let (first, weights) = binomial(n, q);
    // P(the quantile lies below the k-th value) = P(fewer than k values lie below the quantile).
    let (mut below, mut low, mut high) = (0.0, None, None);
    for (step, weight) in weights.iter().enumerate() {
        let k = first + step;
        if below <= tail {
            low = k.checked_sub(1);
        }
        below += weight;
        if high.is_none() && below >= 1.0 - tail {
            high = Some(k);
        }
    }
    let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::INFINITY);
    Some([low.map_or(0.0, at), high.map_or(f64::INFINITY, at)])
}

/// The binomial probabilities that matter, from the first count that does.
fn binomial(n: usize, p: f64) -> (usize, Vec<f64>) {
    let mode = (((n + 1) as f64 * p) as usize).min(n);
    let odds = p / (1.0 - p);
    let (mut down, mut weight) = (Vec::new(), 1.0);
    for k in (1..=mode).rev() {
        weight *= k as f64 / ((n - k + 1) as f64 * odds);
        if weight < 1e-15 {
            break;
        }
        down.push(weight);
    }
    let first = mode - down.len();
    let mut weights: Vec<f64> = down.into_iter().rev().collect();
    weights.push(1.0);
    weight = 1.0;
    for k in mode..n {
        weight *= (n - k) as f64 / (k + 1) as f64 * odds;
        if weight < 1e-15 {
            break;
        }
        weights.push(weight);
    }
    let total: f64 = weights.iter().sum();
    weights.iter_mut().for_each(|weight| *weight /= total);
    (first, weights)
}

/// The two-sided normal deviate of a confidence, by bisection over the error function.
fn z_of(confidence: f64) -> f64 {
    let target = confidence.clamp(0.5, 0.9999);
    let (mut low, mut high) = (0.0, 5.0);
    for _ in 0..50 {
        let middle = f64::midpoint(low, high);
        if erf(middle / std::f64::consts::SQRT_2) < target {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// The error function for x >= 0 (Abramowitz and Stegun 7.1.26, error below 2e-7).
fn erf(x: f64) -> f64 {
    const A: [f64; 5] =
        [0.254_829_592, -0.284_496_736, 1.421_413_741, -1.453_152_027, 1.061_405_429];
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let sum = A.iter().rev().fold(0.0, |sum, a| (sum + a) * t);
    1.0 - sum * (-x * x).exp()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantiles_need_enough_samples() {
        let values = |n: u32| (1..=n).map(f64::from).collect::<Vec<_>>();
        let few = Quantiles::of(values(19));
        assert_eq!((few.p50, few.p95, few.p99, few.n), (Some(10.0), None, None, 19));
        let more = Quantiles::of(values(20));
        assert_eq!((more.p95, more.p99, more.max), (Some(19.0), None, Some(20.0)));
        assert_eq!(Quantiles::of(values(100)).p99, Some(99.0));
        assert_eq!(Quantiles::of(values(1)).p50, None);
        assert_eq!(Quantiles::of(Vec::new()), Quantiles::default());
        assert_eq!((samples_for(0.999), samples_for(1.0), samples_for(0.9)), (1000, 1, 10));
    }

    #[test]
    fn wilson_as_in_the_books() {
        let [low, high] = wilson(8, 10, 0.95).unwrap();
        assert!((low - 0.4902).abs() < 1e-3 && (high - 0.9433).abs() < 1e-3, "{low} {high}");
        assert_eq!(wilson(75, 75, 0.95).unwrap()[1], 1.0);
        assert!((wilson(75, 75, 0.95).unwrap()[0] - 0.9513).abs() < 1e-3);
        assert_eq!(wilson(0, 0, 0.95), None);
    }

    #[test]
    fn order_statistics_hold_the_median() {
        // Known table: n = 10, median, 95 %: the 2nd and the 9th value.
        let values: Vec<f64> = (1..=10).map(f64::from).collect();
        assert_eq!(quantile_interval(&values, 0.5, 0.95), Some([2.0, 9.0]));
        // Thirty values cannot bound a p95 from above.
        let values: Vec<f64> = (1..=30).map(f64::from).collect();
        assert_eq!(quantile_interval(&values, 0.95, 0.95).unwrap()[1], f64::INFINITY);
    }

    proptest! {
        #[test]
        fn intervals_hold_their_estimate(n in 1u32..3000, q in 0.01f64..0.99) {
            let values: Vec<f64> = (1..=n).map(f64::from).collect();
            let at = nearest_rank(&values, q).unwrap();
            let [low, high] = quantile_interval(&values, q, 0.95).unwrap();
            prop_assert!(low <= at && at <= high, "{low} {at} {high}");
        }

        #[test]
        fn shares_lie_in_their_interval(hits in 0u64..500, more in 0u64..500) {
            prop_assume!(hits + more > 0);
            let share = hits as f64 / (hits + more) as f64;
            let [low, high] = wilson(hits, hits + more, 0.95).unwrap();
            prop_assert!(0.0 <= low && low <= share + 1e-12 && share <= high + 1e-12 && high <= 1.0);
        }
    }
}
