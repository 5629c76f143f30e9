//! Stretches the upstream's own time: all of it, or its tail alone.

use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;

use super::LONGEST;

/// How the upstream's own time is stretched.
#[derive(Clone, Debug)]
pub(super) enum Stretch {
    All(f64),
    Tail(Tail),
}

/// A tail that is stretched, and the upstream's own latency as seen so far.
#[derive(Clone, Debug)]
pub(super) struct Tail {
    pub(super) factor: f64,
    pub(super) quantile: f64,
    pub(super) seen: Seen,
}

impl Tail {
    /// The factor at a rank (0 to 1): 1 up to the median, then rising evenly in its logarithm.
    pub(super) fn factor_at(&self, rank: f64) -> f64 {
        let way = (rank - 0.5) / (self.quantile - 0.5);
        self.factor.powf(way.clamp(0.0, 1.0))
    }
}

/// The upstream's own latency as seen so far, in microseconds.
///
/// A request is stretched by its own rank among these. (Holding it until the latency of a rank
/// drawn at random would move the median too: the later of two independent times is later than
/// either.) So which requests are slow depends on the upstream, and the order in which they came.
#[derive(Clone, Debug)]
pub(super) struct Seen(Arc<Mutex<Histogram<u64>>>);

impl Seen {
    pub(super) fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST.as_micros() as u64, 3)
            .expect("1 us to 1 h with 3 digits are bounds a histogram can have");
        Self(Arc::new(Mutex::new(histogram)))
    }

    /// Takes a latency in and gives its rank (0 to 1); `tie` places it among equals.
    pub(super) fn rank(&self, took: Duration, tie: f64) -> f64 {
        let micros = (took.as_micros() as u64).max(1);
        let mut seen = self.0.lock();
        seen.saturating_record(micros);
        let lowest = seen.lowest_equivalent(micros.min(seen.high()));
        let below = if lowest == 0 { 0 } else { seen.count_between(0, lowest - 1) };
        let equal = seen.count_at(lowest);
        (below as f64 + tie * equal as f64) / seen.len() as f64
    }

    pub(super) fn clear(&self) {
        self.0.lock().reset();
    }
}
