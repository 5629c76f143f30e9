//! How long a fault held exchanges back: as it wished, and as it came out.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::measure::record::Quantiles;
use crate::measure::statistics::samples_for;

/// Delays of one kind, to three digits, in bounded memory.
#[derive(Debug, Default)]
pub(super) struct Delays(Option<Box<Histogram<u64>>>);

/// Longer ones count as a day.
const LONGEST: u64 = 86_400_000_000;

impl Delays {
    pub(super) fn add(&mut self, delay: Duration) {
        let micros = u64::try_from(delay.as_micros()).unwrap_or(LONGEST).clamp(1, LONGEST);
        if self.0.is_none() {
            self.0 = Histogram::new_with_bounds(1, LONGEST, 3).ok().map(Box::new);
        }
        if let Some(histogram) = &mut self.0 {
            histogram.saturating_record(micros);
        }
    }

    /// None where nothing was held.
    pub(super) fn quantiles(&self) -> Option<Quantiles> {
        let histogram = self.0.as_ref()?;
        let seconds = |micros: u64| micros as f64 / 1e6;
        let n = histogram.len();
        let at = |q: f64| (n >= samples_for(q)).then(|| seconds(histogram.value_at_quantile(q)));
        Some(Quantiles {
            p50: at(0.5),
            p95: at(0.95),
            p99: at(0.99),
            max: Some(seconds(histogram.max())),
            mean: Some(histogram.mean() / 1e6),
            n,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_what_was_held() {
        let mut delays = Delays::default();
        assert_eq!(delays.quantiles(), None);
        (1..=1000).for_each(|millis| delays.add(Duration::from_millis(millis)));
        let told = delays.quantiles().unwrap();
        let near = |value: Option<f64>, wanted: f64| {
            assert!((value.unwrap() - wanted).abs() < wanted * 0.01, "{value:?} for {wanted}");
        };
        near(told.p50, 0.5);
        near(told.p95, 0.95);
        near(told.p99, 0.99);
        near(told.max, 1.0);
        delays.add(Duration::from_secs(1 << 40));
        near(delays.quantiles().unwrap().max, 86_400.0);
    }
}
