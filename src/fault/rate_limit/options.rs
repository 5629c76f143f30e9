//! What a rate limit is told to do: whose requests it counts, how, and what it says.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::Invalid;
use super::super::limiter::{DAY, MINUTE, Ramp};
use crate::dialect::{Gauge, Quota};
use crate::dice::hash_bytes;
use crate::exchange::Exchange;
use crate::units::{BadUnit, Rate, Span, unit};

/// Who has an account of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    ApiKey,
    #[default]
    Dependency,
    Model,
    Session,
    User,
}

/// How a limit is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// The count begins anew each minute.
    FixedWindow,
    /// What is used up flows back evenly.
    #[default]
    TokenBucket,
}

/// What a refused client is told about its next try.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum RetryAfter {
    /// The time until the same request would pass.
    #[default]
    Accurate,
    /// This time, whatever is true.
    Fixed(Duration),
    /// A day.
    Huge,
    /// A tenth of the true time.
    Lying,
    None,
}

/// Whether headers tell the truth.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Honesty {
    #[default]
    Accurate,
    /// All is left, always.
    Lying,
    /// Silent.
    None,
}

/// How steeply the load may rise.
#[derive(Clone, Copy, PartialEq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RampUp {
    /// The rate that passes whatever came before, for example 60/min; at least one request in
    /// `every`.
    pub base: Rate,
    /// How many times the requests of the time before may pass, above 1 and at most 100. Default 2.
    pub growth: Option<f64>,
    /// The time over which requests are counted, from the first one on; from 1s to a day.
    /// Default 1m.
    pub every: Option<Span>,
}

impl RampUp {
    pub(super) fn check(self) -> Result<Ramp, Invalid> {
        let bad = |reason: String| Err(Invalid::new("ramp_up", reason));
        let growth = self.growth.unwrap_or(2.0);
        if !(growth > 1.0 && growth <= 100.0) {
            return bad(format!("`growth: {growth}` lets no load rise; write a number above 1, at most 100"));
        }
        let window = self.every.map_or(MINUTE, |every| every.0);
        if !(Duration::from_secs(1)..=DAY).contains(&window) {
            return bad(format!("`every: {}` is no time from 1s to 24h", Span(window)));
        }
        let base = self.base.per_second * window.as_secs_f64();
        if base < 1.0 {
            return bad(format!(
                "`base: {}` is less than one request in {}, so nothing could ever pass; write more",
                self.base,
                Span(window)
            ));
        }
        Ok(Ramp { base: base.floor(), growth, window })
    }
}

impl Scope {
    /// The account of an exchange. The key itself is never kept, only its hash.
    pub(super) fn account(self, exchange: &Exchange) -> u64 {
        let of = |text: &Option<String>| text.as_deref().map_or(0, |text| hash_bytes(text.as_bytes()));
        let who = match self {
            Self::ApiKey => exchange.api_key.unwrap_or(0),
            Self::Dependency => 0,
            Self::Model => of(&exchange.facts.model),
            Self::Session => of(&exchange.session),
            Self::User => of(&exchange.user),
        };
        hash_bytes(exchange.dependency.as_bytes()).rotate_left(29) ^ who
    }
}

impl Honesty {
    /// What is told of a quota.
    pub(super) fn tell(self, quota: Quota) -> Option<Quota> {
        let flatter = |gauge: Option<Gauge>| {
            gauge.map(|gauge| Gauge {
                remaining: gauge.limit.saturating_sub(gauge.requested),
                reset: Duration::from_millis(1),
                ..gauge
            })
        };
        match self {
            Self::Accurate => Some(quota),
            Self::Lying => {
                let (requests, tokens) = (flatter(quota.requests), flatter(quota.tokens));
                Some(Quota { requests, tokens, ..quota })
            }
            Self::None => None,
        }
    }
}

impl FromStr for RetryAfter {
    type Err = BadUnit;

    fn from_str(text: &str) -> Result<Self, BadUnit> {
        match text.trim() {
            "accurate" => Ok(Self::Accurate),
            "huge" => Ok(Self::Huge),
            "lying" => Ok(Self::Lying),
            "none" => Ok(Self::None),
            other => match other.parse::<Span>() {
                Ok(span) => Ok(Self::Fixed(span.0)),
                Err(error) if other.starts_with(|c: char| c.is_ascii_digit()) => Err(error),
                Err(_) => Err(BadUnit(format!(
                    "`{other}` is not known here; write a time such as 20s, or accurate, huge, lying or none"
                ))),
            },
        }
    }
}

impl fmt::Display for RetryAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accurate => f.write_str("accurate"),
            Self::Fixed(time) => write!(f, "{}", Span(*time)),
            Self::Huge => f.write_str("huge"),
            Self::Lying => f.write_str("lying"),
            Self::None => f.write_str("none"),
        }
    }
}

unit!(RetryAfter, "a time such as 20s, or accurate, huge, lying or none", {
    "type": "string",
    "pattern": "^\\s*(accurate|huge|lying|none|([0-9.]+\\s*(us|µs|ms|s|m|min|h|d)\\s*)+)$",
    "examples": ["accurate", "20s", "huge", "lying", "none"]
});
