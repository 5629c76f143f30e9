//! How far a delay varies to both sides.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::units::{BadUnit, Percent, Span, unit};

/// A variation to both sides: `20%` of the value, or `50ms`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Jitter {
    /// A share (0 to 1) of the value.
    Share(f64),
    Time(Duration),
}

impl FromStr for Jitter {
    type Err = BadUnit;

    fn from_str(text: &str) -> Result<Self, BadUnit> {
        let trimmed = text.trim();
        if trimmed.ends_with('%') {
            Ok(Self::Share(trimmed.parse::<Percent>()?.share()))
        } else if trimmed.parse::<f64>().is_ok() {
            Err(BadUnit(format!("{trimmed} what? write {trimmed}% or {trimmed}ms")))
        } else {
            Ok(Self::Time(trimmed.parse::<Span>()?.0))
        }
    }
}

impl fmt::Display for Jitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Share(share) => write!(f, "{}%", share * 100.0),
            Self::Time(time) => write!(f, "{}", Span(*time)),
        }
    }
}

unit!(Jitter, "a share such as 20% or a time such as 50ms", {
    "type": "string",
    "pattern": "^\\s*[0-9.]+\\s*(%|us|µs|ms|s)\\s*$",
    "examples": ["20%", "50ms"]
});
