//! The distributions that delays are drawn from.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::Invalid;
use crate::dice::Dice;
use crate::units::{Percent, Span};

/// Delays as they are drawn for each request; one longer than an hour is cut to an hour.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Distribution {
    /// Always the same.
    Constant {
        /// The delay.
        value: Span,
    },
    /// Many short delays, few long ones.
    Exponential {
        /// The mean.
        mean: Span,
    },
    /// A hump with a right tail that is lighter than that of lognormal: the time of several steps in
    /// a row.
    Gamma {
        /// The mean, longer than 0.
        mean: Span,
        /// The standard deviation, longer than 0; as long as the mean, it is exponential.
        deviation: Span,
    },
    /// What most services show: a long right tail.
    Lognormal {
        /// The median.
        p50: Span,
        /// The 99th percentile, longer than p50.
        p99: Span,
    },
    /// A bell; what falls below zero is no delay.
    Normal {
        /// The mean.
        mean: Span,
        /// The standard deviation.
        deviation: Span,
    },
    /// A heavy tail without end.
    Pareto {
        /// The median.
        p50: Span,
        /// The 99th percentile, longer than p50.
        p99: Span,
    },
    /// As it was measured: give `values` or `quantiles`.
    Recorded {
        /// Times as they were measured, 1 to 10000; each is drawn as often as the others.
        values: Option<Vec<Span>>,
        /// Quantiles as pairs of a percent and a time, both rising: [[50, 300ms], [99, 2s]]. Between
        /// two of them times are even; below the first and above the last they are that one. 2 to
        /// 1000 pairs.
        quantiles: Option<Vec<(Percent, Span)>>,
    },
    /// Evenly between two ends.
    Uniform {
        /// The shortest delay.
        min: Span,
        /// The longest delay.
        max: Span,
    },
}

impl Distribution {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        let bad = |reason: &str| Err(Invalid::new("distribution", reason));
        match self {
            Self::Lognormal { p50, p99 } | Self::Pareto { p50, p99 } if p50.0.is_zero() => {
                let _ = p99;
                bad("`p50` must be longer than nothing")
            }
            Self::Lognormal { p50, p99 } | Self::Pareto { p50, p99 } if p99 <= p50 => {
                bad(&format!("`p99` ({p99}) must be longer than `p50` ({p50})"))
            }
            Self::Uniform { min, max } if max < min => {
                bad(&format!("`max` ({max}) must not be shorter than `min` ({min})"))
            }
            Self::Gamma { mean, deviation } if mean.0.is_zero() || deviation.0.is_zero() => {
                bad("`mean` and `deviation` of gamma must be longer than nothing; write `constant` for what never varies")
            }
            Self::Recorded { values: Some(values), quantiles: None } => match values.len() {
                1..=10_000 => Ok(()),
                count => bad(&format!("{count} `values` are not from 1 to 10000")),
            },
            Self::Recorded { values: None, quantiles: Some(pairs) } => check_quantiles(pairs),
            Self::Recorded { .. } => {
                bad("`recorded` needs either `values: [120ms, 180ms, …]` or `quantiles: [[50, 300ms], [99, 2s]]`")
            }
            _ => Ok(()),
        }
    }

    /// Draws a delay in seconds; may be below zero or without bound.
    pub(super) fn draw(&self, dice: &mut Dice) -> f64 {
        let seconds = |span: &Span| span.0.as_secs_f64();
        match self {
            Self::Constant { value } => seconds(value),
            Self::Exponential { mean } => seconds(mean) * dice.exponential(),
            Self::Lognormal { p50, p99 } => {
                let sigma = (seconds(p99) / seconds(p50)).ln() / Z99;
                seconds(p50) * (sigma * dice.normal()).exp()
            }
            Self::Normal { mean, deviation } => seconds(mean) + seconds(deviation) * dice.normal(),
            Self::Pareto { p50, p99 } => {
                // F(x) = 1 - (m/x)^a, solved for both quantiles.
                let shape = 50f64.ln() / (seconds(p99) / seconds(p50)).ln();
                let scale = seconds(p50) * 0.5f64.powf(1.0 / shape);
                scale * (1.0 - dice.unit()).powf(-1.0 / shape)
            }
            Self::Gamma { mean, deviation } => {
                // Mean k·t and variance k·t², solved for shape k and scale t.
                let (mean, deviation) = (seconds(mean), seconds(deviation));
                gamma((mean / deviation).powi(2), dice) * deviation * deviation / mean
            }
            Self::Recorded { values, quantiles } => match (values, quantiles) {
                (Some(values), _) if !values.is_empty() => {
                    seconds(&values[dice.whole(0, values.len() as u64 - 1) as usize])
                }
                (_, Some(pairs)) => between(pairs, dice.unit()),
                _ => 0.0,
            },
            Self::Uniform { min, max } => dice.between(seconds(min), seconds(max)),
        }
    }
}

/// Quantiles that are no distribution are refused.
fn check_quantiles(pairs: &[(Percent, Span)]) -> Result<(), Invalid> {
    let bad = |reason: String| Err(Invalid::new("distribution", reason));
    if !(2..=1000).contains(&pairs.len()) {
        return bad(format!("{} `quantiles` are not from 2 to 1000", pairs.len()));
    }
    for pair in pairs.windows(2) {
        let [(low, short), (high, long)] = pair else { continue };
        if low.share() >= high.share() || short > long {
            return bad(format!(
                "`quantiles` must rise: {low} is {short}, but {high} behind it is {long}"
            ));
        }
    }
    Ok(())
}

/// The time at this share (0 to 1) of a distribution whose quantiles these are.
fn between(pairs: &[(Percent, Span)], share: f64) -> f64 {
    let seconds = |span: &Span| span.0.as_secs_f64();
    let above = pairs.partition_point(|(percent, _)| percent.share() <= share);
    match (above.checked_sub(1).and_then(|below| pairs.get(below)), pairs.get(above)) {
        (Some((low, short)), Some((high, long))) => {
            let way = (share - low.share()) / (high.share() - low.share());
            seconds(short) + way * (seconds(long) - seconds(short))
        }
        (Some((_, edge)), None) | (None, Some((_, edge))) => seconds(edge),
        (None, None) => 0.0,
    }
}

/// A draw from the gamma distribution of this shape and scale 1 (Marsaglia and Tsang, "A simple
/// method for generating gamma variables", ACM TOMS 26, 2000).
fn gamma(shape: f64, dice: &mut Dice) -> f64 {
    if shape < 1.0 {
        return gamma(shape + 1.0, dice) * (1.0 - dice.unit()).powf(1.0 / shape);
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    // Each try is taken with more than 95 % chance; the bound keeps a decision short whatever comes.
    for _ in 0..100 {
        let normal = dice.normal();
        let cube = (1.0 + c * normal).powi(3);
        if cube > 0.0 {
            let height = 0.5 * normal * normal + d - d * cube + d * cube.ln();
            if (1.0 - dice.unit()).ln() < height {
                return d * cube;
            }
        }
    }
    shape
}

/// The standard normal distribution's 99th percentile.
const Z99: f64 = 2.326_347_874;
