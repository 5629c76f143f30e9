//! The seconds of a run, smoothed and thinned for drawing. Nothing here invents a value: a gap
//! stays a gap, and of several seconds in one point the worst is kept.

use crate::measure::record::{Phase, Record, Second};

/// A share of few requests jumps about; it is drawn over this many seconds before and with it.
const WINDOW: usize = 5;

/// The seconds that a share is drawn over: fewer where a phase is shorter, or its fault would never
/// show in full.
pub(super) fn window(record: &Record) -> usize {
    let length = |phase: &Phase| phase.end_s - phase.start_s;
    let shortest = record.phases.iter().map(length).filter(|it| *it > 0.0).reduce(f64::min);
    shortest.map_or(WINDOW, |shortest| (shortest as usize).clamp(1, WINDOW))
}

/// One point of the charts, one row of their table.
#[derive(Clone, Debug, Default)]
pub(super) struct Bin {
    pub(super) at: f64,
    pub(super) arrivals: u64,
    pub(super) good: u64,
    pub(super) failed: u64,
    pub(super) in_flight: u64,
    /// Good over arrivals of the window that ends here.
    pub(super) success: Option<f64>,
    pub(super) ttft_p50: Option<f64>,
    pub(super) ttft_p95: Option<f64>,
    pub(super) latency_p50: Option<f64>,
    pub(super) latency_p95: Option<f64>,
    pub(super) amplification: Option<f64>,
    pub(super) calls: u64,
}

/// The run in at most `most` points, and how many seconds each covers.
pub(super) fn bins(record: &Record, most: usize) -> (Vec<Bin>, usize) {
    let group = record.timeline.len().div_ceil(most.max(1)).max(1);
    let smooth = success(record);
    let bins = record
        .timeline
        .chunks(group)
        .zip(smooth.chunks(group))
        .map(|(seconds, success)| bin(seconds, success))
        .collect();
    (bins, group)
}

fn bin(seconds: &[Second], success: &[Option<f64>]) -> Bin {
    let worst = |value: fn(&Second) -> Option<f64>| {
        seconds.iter().filter_map(value).filter(|value| value.is_finite()).reduce(f64::max)
    };
    let sum = |value: fn(&Second) -> u64| seconds.iter().map(value).sum();
    Bin {
        at: seconds.first().map_or(0.0, |second| second.at_s),
        arrivals: sum(|it| it.arrivals),
        good: sum(|it| it.good),
        failed: sum(|it| it.failed),
        in_flight: seconds.iter().map(|it| it.in_flight).max().unwrap_or(0),
        success: success.iter().filter_map(|value| *value).reduce(f64::min),
        ttft_p50: worst(|it| it.ttft_p50),
        ttft_p95: worst(|it| it.ttft_p95),
        latency_p50: worst(|it| it.latency_p50),
        latency_p95: worst(|it| it.latency_p95),
        amplification: worst(|it| it.amplification),
        calls: sum(|it| it.calls.values().sum()),
    }
}

/// The success of each second's window; None where nobody arrived in it.
pub(super) fn success(record: &Record) -> Vec<Option<f64>> {
    let (seconds, window) = (&record.timeline, window(record));
    (0..seconds.len())
        .map(|at| {
            let window = &seconds[(at + 1).saturating_sub(window)..=at];
            let arrivals: u64 = window.iter().map(|it| it.arrivals).sum();
            let good: u64 = window.iter().map(|it| it.good).sum();
            (arrivals > 0).then(|| good.min(arrivals) as f64 / arrivals as f64)
        })
        .collect()
}

/// The lower end of a success axis: as close as shows everything.
pub(super) fn success_floor(lowest: f64) -> f64 {
    [0.9, 0.8, 0.5].into_iter().find(|floor| *floor <= lowest - 0.01).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(goods: &[(u64, u64)]) -> Record {
        let second = |(at, (good, arrivals)): (usize, &(u64, u64))| Second {
            at_s: at as f64,
            good: *good,
            arrivals: *arrivals,
            ttft_p95: (at % 2 == 0).then_some(at as f64),
            ..Second::default()
        };
        Record { timeline: goods.iter().enumerate().map(second).collect(), ..Record::default() }
    }

    #[test]
    fn success_is_a_window_and_a_gap_stays_a_gap() {
        let record = record(&[(0, 0), (4, 4), (0, 4), (0, 0)]);
        assert_eq!(success(&record), [None, Some(1.0), Some(0.5), Some(0.5)]);
    }

    #[test]
    fn a_short_phase_shows_in_full() {
        let mut record = record(&[(4, 4), (4, 4), (0, 4), (0, 4), (4, 4), (4, 4)]);
        let phase = |start_s, end_s| Phase { start_s, end_s, ..Phase::default() };
        record.phases = vec![phase(0.0, 2.04), phase(2.04, 4.1), phase(4.1, 6.2)];
        let shares: Vec<f64> = success(&record).into_iter().flatten().collect();
        assert_eq!(shares, [1.0, 1.0, 0.5, 0.0, 0.5, 1.0]);
        record.phases = vec![phase(0.0, 60.0)];
        assert_eq!(window(&record), WINDOW);
    }

    #[test]
    fn thinning_keeps_the_worst_and_the_sums() {
        let (bins, group) = bins(&record(&[(1, 1); 10]), 4);
        assert_eq!((bins.len(), group), (4, 3));
        assert_eq!(bins[0].arrivals, 3);
        assert_eq!(bins[0].ttft_p95, Some(2.0));
        assert_eq!(bins[3].arrivals, 1);
        assert!(super::bins(&Record::default(), 4).0.is_empty());
    }
}
