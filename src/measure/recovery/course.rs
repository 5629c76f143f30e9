//! The course of quality, second by second from the start of a span.

use std::time::Duration;

use super::signal::Baseline;
use crate::measure::{Ledger, Span};

/// Requests that a smoothing window should hold, and its shortest length in seconds.
const WINDOW_ARRIVALS: f64 = 50.0;
const SHORTEST_WINDOW: f64 = 5.0;
/// Share of the hold time that must lie within the run.
const SEEN: f64 = 0.75;
/// Arrivals below which a window says nothing.
const FEWEST: u32 = 3;
/// Arrivals of a window whose collapse alone proves an impact.
const TELLING: u32 = 8;
/// Share of the usual arrivals that must have ended before a live recovery counts.
const ENDED: f64 = 0.6;

/// Quality by seconds.
pub(super) struct Course<'a> {
    baseline: &'a Baseline,
    bins: Vec<Bin>,
    /// The hold time and the smoothing window, in bins.
    hold: usize,
    window: usize,
}

/// The cohort of one second.
#[derive(Clone, Default)]
struct Bin {
    arrivals: u32,
    /// Requests that met each signal.
    met: Vec<u32>,
}

/// When good service began.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Found {
    /// Seconds after the start of the span.
    At(f64),
    /// Not seen, and certainly not before.
    NotBefore(f64),
}

impl Found {
    pub(super) fn seconds(self) -> f64 {
        match self {
            Self::At(seconds) | Self::NotBefore(seconds) => seconds,
        }
    }
}

impl<'a> Course<'a> {
    pub(super) fn of(ledger: &Ledger, baseline: &'a Baseline, span: Span, hold: Duration) -> Self {
        let empty = Bin { arrivals: 0, met: vec![0; baseline.signals()] };
        let mut bins = vec![empty; span.seconds().ceil() as usize];
        for sample in ledger.samples() {
            if !span.holds(sample.scheduled) {
                continue;
            }
            let Some(grades) = baseline.grade(sample) else { continue };
            let bin = &mut bins[(sample.scheduled - span.from).as_secs() as usize];
            bin.arrivals += 1;
            for (met, grade) in bin.met.iter_mut().zip(grades) {
                *met += u32::from(grade);
            }
        }
        let hold = (hold.as_secs_f64().ceil() as usize).max(1);
        let smooth = WINDOW_ARRIVALS / baseline.arrivals_per_second.max(0.01);
        let window = (smooth.max(SHORTEST_WINDOW).ceil() as usize).min(hold);
        Self { baseline, bins, hold, window }
    }

    pub(super) fn has_arrivals(&self) -> bool {
        self.bins.iter().any(|bin| bin.arrivals > 0)
    }

    fn arrivals(bins: &[Bin]) -> u32 {
        bins.iter().map(|bin| bin.arrivals).sum()
    }

    /// Quality of some seconds by one signal, 1 = as in baseline; None without arrivals.
    fn quality(&self, bins: &[Bin], signal: usize) -> Option<f64> {
        let arrivals = Self::arrivals(bins);
        let met: u32 = bins.iter().map(|bin| bin.met[signal]).sum();
        let share = f64::from(met) / f64::from(arrivals) / self.baseline.share(signal);
        (arrivals > 0).then(|| share.min(1.0))
    }

    /// Whether no signal fell below 1 - `slack` x the allowed distance.
    fn up(&self, bins: &[Bin], slack: f64) -> bool {
        let floor = 1.0 - slack * self.baseline.within;
        (0..self.baseline.signals())
            .all(|signal| self.quality(bins, signal).is_none_or(|quality| quality >= floor - 1e-9))
    }

    /// Whether these seconds are well: as a whole, at their start, and in every window.
    fn well(&self, bins: &[Bin]) -> bool {
        bins.first().is_some_and(|bin| bin.arrivals > 0)
            && self.up(&bins[..1], 2.0)
            && self.up(bins, 1.0)
            && bins.windows(self.window.min(bins.len())).all(|window| self.up(window, 2.0))
    }

    /// The first second from which quality stays up for the hold time.
    pub(super) fn find(&self) -> Found {
        let n = self.bins.len();
        let need = ((self.hold as f64 * SEEN).ceil() as usize).max(1);
        let held = |from: usize| &self.bins[from..(from + self.hold).min(n)];
        for from in 0..n {
            if self.well(held(from)) {
                let enough = n - from >= need && Self::arrivals(held(from)) >= FEWEST;
                return if enough { Found::At(from as f64) } else { Found::NotBefore(from as f64) };
            }
        }
        Found::NotBefore(n as f64)
    }

    /// The same for a run that goes on: the whole hold time has passed, and nearly all of its
    /// requests have ended.
    pub(super) fn find_held(&self, arrivals_per_second: f64) -> bool {
        let enough = (arrivals_per_second * self.hold as f64 * ENDED).max(f64::from(FEWEST));
        self.bins
            .windows(self.hold)
            .any(|held| f64::from(Self::arrivals(held)) >= enough && self.well(held))
    }

    /// Whether users never felt a fault of so many seconds at the start of this course.
    pub(super) fn unhurt(&self, fault: f64) -> bool {
        let fault = (fault.ceil() as usize).min(self.bins.len());
        let telling = |window: &[Bin]| Self::arrivals(window) >= TELLING;
        self.up(&self.bins[..fault], 1.0)
            && self.up(&self.bins[fault..], 1.0)
            && self
                .bins
                .windows(self.window.min(self.bins.len()).max(1))
                .all(|window| !telling(window) || self.up(window, 4.0))
    }

    /// 1 - the lowest smoothed quality of the first seconds.
    pub(super) fn depth(&self, seconds: f64) -> Option<f64> {
        let bins = &self.bins[..(seconds.ceil() as usize).min(self.bins.len())];
        let window = self.window.min(bins.len()).max(1);
        let lowest = bins
            .windows(window)
            .filter(|window| Self::arrivals(window) >= FEWEST)
            .filter_map(|window| self.quality(window, 0))
            .min_by(f64::total_cmp);
        lowest.map(|lowest| 1.0 - lowest)
    }

    /// Good-seconds lost in the first seconds.
    pub(super) fn loss(&self, seconds: f64) -> Option<f64> {
        let bins = &self.bins[..(seconds.ceil() as usize).min(self.bins.len())];
        let seconds = |bin: &Bin| self.quality(std::slice::from_ref(bin), 0).map(|q| 1.0 - q);
        self.has_arrivals().then(|| bins.iter().filter_map(seconds).sum())
    }

    /// How much better the last third is than the first.
    pub(super) fn slope(&self) -> Option<f64> {
        let third = (self.bins.len() / 3).max(1);
        let first = self.quality(self.bins.get(..third)?, 0)?;
        Some(self.quality(self.bins.get(self.bins.len() - third..)?, 0)? - first)
    }
}
