//! Judges expectations against what was measured. Pure.

mod evidence;
mod headline;
mod judge;
mod known;
mod limit;
mod overall;
mod print;
mod sentence;
mod watch;
pub mod words;

use std::time::Duration;

pub use self::evidence::Evidence;
pub use self::headline::headline;
pub use self::judge::{asked_recoveries, judge};
pub use self::known::{Argument, Kind, Known, METRICS};
pub use self::overall::{Ending, conclude, exit};
pub use self::sentence::MIN_SAMPLES;

/// One expectation, as parsed from its sentence.
#[derive(Clone, Debug, PartialEq)]
pub struct Expectation {
    /// As written.
    pub text: String,
    /// Its line in the file, 0 when unknown.
    pub line: u32,
    /// What is measured.
    pub metric: Metric,
    /// How it is compared.
    pub op: Op,
    /// What it is compared with.
    pub limit: Limit,
    /// Over which part of the run.
    pub window: Window,
    /// `for 15s`: how long it must hold (or fail, in `abort_when`).
    pub hold: Option<Duration>,
    /// A failed `warn` does not fail the run.
    pub warn: bool,
    /// With fewer samples there is no verdict.
    pub min_samples: u64,
    /// Judge by the interval at this confidence (0 to 1) instead of the observed value.
    pub confidence: Option<f64>,
}

/// What is measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// `success_rate`, `ttft`, `retry_amplification`, …
    pub name: String,
    /// `p95(…)`, `avg(…)`; None for a bare name.
    pub function: Option<Function>,
    /// `{kind="timeout"}`.
    pub labels: Vec<(String, String)>,
    /// What stands in its brackets: a dependency, or a fault.
    pub dependency: Option<String>,
}

/// How samples become one number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Function {
    /// Of the values that were reached.
    Avg,
    /// How many values were reached.
    Count,
    /// The largest value.
    Max,
    /// The smallest value.
    Min,
    /// 0 to 100.
    Percentile(f64),
    /// How many values per second.
    Rate,
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// `>`
    Above,
    /// `>=`
    AtLeast,
    /// `<=`
    AtMost,
    /// `<`
    Below,
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
}

/// What it is compared with: in seconds, shares of 1, or plain numbers.
#[derive(Clone, Debug, PartialEq)]
pub enum Limit {
    Value {
        value: f64,
        unit: Unit,
    },
    /// `110% of baseline`: a share of the same metric in another phase.
    OfPhase {
        share: f64,
        phase: String,
    },
}

/// The unit a limit was written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    None,
    Percent,
    PerSecond,
    Seconds,
    Times,
}

/// Which part of the run is judged.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Window {
    /// All that follows this phase.
    After(String),
    /// The whole run.
    #[default]
    All,
    /// This phase.
    During(String),
}

/// Why a sentence is no expectation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct BadSentence {
    /// Where in the sentence, in bytes.
    pub at: usize,
    pub len: usize,
    pub reason: String,
    pub hint: Option<String>,
}
