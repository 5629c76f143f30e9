//! What "well" means: the signals that must come back, and their level in baseline.

use std::str::FromStr;
use std::time::Duration;

use crate::measure::statistics::{nearest_rank, samples_for, sort};
use crate::measure::{Good, Ledger, Outcome, Sample};

/// For how long quality must stay up, unless the file says.
pub(super) const HOLD: Duration = Duration::from_secs(10);
const SHORTEST_HOLD: Duration = Duration::from_secs(3);
const WITHIN: f64 = 0.05;
const FEWEST: usize = 10;

/// When the app counts as recovered.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// All of these must come back.
    pub signals: Vec<Signal>,
    /// Allowed distance from baseline, as a share of 1.
    pub within: f64,
    /// For how long; None: 10 s, or half of what there is.
    pub hold: Option<Duration>,
}

/// One thing that must come back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Signal {
    /// Share of requests that were good: ok, within the limits of a good answer.
    Good,
    /// A quantile (0 to 1) of the latency.
    Latency(f64),
    /// Share of requests that were ok.
    Success,
    /// A quantile (0 to 1) of the time to first token.
    Ttft(f64),
}

impl Default for Rule {
    fn default() -> Self {
        Self { signals: vec![Signal::Good], within: WITHIN, hold: None }
    }
}

impl Rule {
    /// A rule for metrics as the file names them.
    pub fn new(metrics: &[String], within: f64, hold: Option<Duration>) -> Result<Self, String> {
        let mut signals = metrics.iter().map(|name| name.parse()).collect::<Result<Vec<_>, _>>()?;
        if signals.is_empty() {
            signals.push(Signal::Good);
        }
        Ok(Self { signals, within, hold: hold.filter(|hold| !hold.is_zero()) })
    }

    /// The hold time for a stretch of this length.
    pub(super) fn hold_within(&self, stretch: Duration) -> Duration {
        self.hold.unwrap_or_else(|| HOLD.min((stretch / 2).max(SHORTEST_HOLD)))
    }
}

impl FromStr for Signal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || {
            format!(
                "`{text}` cannot tell recovery; use success_rate, goodput, p95(ttft) or p95(latency)"
            )
        };
        match text.trim() {
            "success_rate" => return Ok(Self::Success),
            "goodput" => return Ok(Self::Good),
            _ => {}
        }
        let (percent, metric) = text.trim().split_once('(').ok_or_else(form)?;
        let percent: f64 =
            percent.strip_prefix('p').and_then(|percent| percent.parse().ok()).ok_or_else(form)?;
        if !(1.0..100.0).contains(&percent) {
            return Err(form());
        }
        match metric.strip_suffix(')').map(str::trim) {
            Some("ttft") => Ok(Self::Ttft(percent / 100.0)),
            Some("latency") => Ok(Self::Latency(percent / 100.0)),
            _ => Err(form()),
        }
    }
}

/// How things were before any fault.
pub(super) struct Baseline {
    levels: Vec<Level>,
    /// How each signal's share may fall short: 1 - within.
    pub(super) within: f64,
    good: Good,
    /// The 95th percentile of the latency.
    pub(super) usual_latency: f64,
    pub(super) arrivals_per_second: f64,
}

/// A signal, its threshold in seconds where it has one, and its share in baseline.
struct Level {
    signal: Signal,
    limit: f64,
    share: f64,
}

impl Baseline {
    /// Learns from the baseline; an error says why it does not serve for the phase judged.
    pub(super) fn of(ledger: &Ledger, rule: &Rule, judged: usize) -> Result<Self, String> {
        let phase = ledger.baseline().ok_or("the run had no phases")?;
        if *phase == ledger.phases()[judged] {
            return Err(format!("`{}` has no phase before it to compare with", phase.name));
        }
        let samples: Vec<&Sample> = ledger.cohort(phase.span).collect();
        if samples.len() < FEWEST {
            let n = samples.len();
            return Err(format!("`{}` had {n} requests; at least {FEWEST} are needed", phase.name));
        }
        let good = ledger.good();
        let mut latencies: Vec<f64> = samples
            .iter()
            .filter(|sample| sample.outcome == Outcome::Ok)
            .map(|sample| sample.latency())
            .collect();
        sort(&mut latencies);
        let mut baseline = Self {
            levels: Vec::new(),
            within: rule.within.clamp(0.001, 0.9),
            good,
            usual_latency: nearest_rank(&latencies, 0.95).unwrap_or(1.0),
            arrivals_per_second: samples.len() as f64
                / ledger.clipped(phase.span).seconds().max(1.0),
        };
        for signal in &rule.signals {
            let limit = baseline.limit(*signal, &samples)?;
            let met = samples.iter().filter(|sample| baseline.met(*signal, limit, sample)).count();
            let share = met as f64 / samples.len() as f64;
            if share < 0.5 {
                let share = (share * 100.0).round();
                return Err(format!("only {share} % of requests were well in `{}`", phase.name));
            }
            baseline.levels.push(Level { signal: *signal, limit, share });
        }
        Ok(baseline)
    }

    /// The longest time with which a request still does its part for a quantile.
    fn limit(&self, signal: Signal, samples: &[&Sample]) -> Result<f64, String> {
        let ok = samples.iter().filter(|sample| sample.outcome == Outcome::Ok);
        let (mut times, q): (Vec<f64>, f64) = match signal {
            Signal::Good | Signal::Success => return Ok(f64::INFINITY),
            Signal::Latency(q) => (ok.map(|sample| sample.latency()).collect(), q),
            Signal::Ttft(q) => (ok.filter_map(|sample| sample.ttft()).collect(), q),
        };
        sort(&mut times);
        if (times.len() as u64) < samples_for(q).min(20) {
            return Err(
                "too few answers in baseline for the quantile that tells recovery".to_owned()
            );
        }
        Ok(nearest_rank(&times, q).unwrap_or(f64::INFINITY) * (1.0 + self.within))
    }

    fn met(&self, signal: Signal, limit: f64, sample: &Sample) -> bool {
        match signal {
            Signal::Good => self.good.of(sample),
            Signal::Success => sample.outcome == Outcome::Ok,
            Signal::Latency(_) => sample.outcome == Outcome::Ok && sample.latency() <= limit,
            Signal::Ttft(_) => sample.ttft().is_some_and(|ttft| ttft <= limit),
        }
    }

    pub(super) fn signals(&self) -> usize {
        self.levels.len()
    }

    /// The share of requests that met a signal in baseline.
    pub(super) fn share(&self, signal: usize) -> f64 {
        self.levels[signal].share
    }

    /// Which signals a request met; None when it does not count. The driver's own cancelling
    /// excuses a request only while it was not yet late.
    pub(super) fn grade(&self, sample: &Sample) -> Option<impl Iterator<Item = bool>> {
        let late = sample.latency() > 2.0 * self.usual_latency;
        let counts = sample.outcome.counts() || late;
        let met = move |level: &Level| self.met(level.signal, level.limit, sample);
        counts.then(|| self.levels.iter().map(met).collect::<Vec<_>>().into_iter())
    }
}
