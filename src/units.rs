//! The values with units that users write: durations, percents, rates, ranges, ramps, sizes.
//!
//! Each type reads itself from text and refuses a bare number, naming the right form.

mod bounds;
mod moment;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Visitor};

pub use self::bounds::Bounds;
pub use self::moment::rfc3339;

/// Why a value with a unit was refused: one sentence that says what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadUnit(pub String);

fn bad<T>(text: impl Into<String>) -> Result<T, BadUnit> {
    Err(BadUnit(text.into()))
}

/// A length of time: `250ms`, `3s`, `1m30s`, `2h`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct Span(pub Duration);

/// A share of 100: `20%` or `20`.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug, Default)]
pub struct Percent(pub f64);

/// Events per time: `5/s`, `120/min`, `10/h`.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug)]
pub struct Rate {
    /// Events per second.
    pub per_second: f64,
}

/// A whole number or a range of them: `3`, `2..6` (both ends included).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Count {
    pub low: u64,
    pub high: u64,
}

/// A length of time or a range of them: `5s`, `4s..12s`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SpanRange {
    pub low: Duration,
    pub high: Duration,
}

/// A percent that stays or moves evenly through a phase: `20`, `5 -> 40`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Ramp {
    pub from: f64,
    pub to: f64,
}

/// A length of time that is added (`+3s`) or set (`3s`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shift {
    /// True when the text began with `+`.
    pub added: bool,
    pub span: Duration,
}

impl Ramp {
    /// The percent at a share (0 to 1) of the phase.
    pub fn at(&self, share: f64) -> f64 {
        self.from + (self.to - self.from) * share.clamp(0.0, 1.0)
    }
}

impl FromStr for Span {
    type Err = BadUnit;

    fn from_str(text: &str) -> Result<Self, BadUnit> {
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return bad("an empty duration; write for example 250ms, 3s or 1m30s");
        }
        if trimmed.parse::<f64>().is_ok() {
            return bad(format!("{trimmed} what? write {trimmed}ms or {trimmed}s"));
        }
        let mut total = Duration::ZERO;
        let mut rest = trimmed;
        while !rest.is_empty() {
            let (number, unit, after) = split_quantity(rest);
            let Ok(number) = number.parse::<f64>() else {
                return bad(format!(
                    "`{trimmed}` is no duration; write for example 250ms, 3s or 1m30s"
                ));
            };
            let seconds = match unit {
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" | "min" => 60.0,
                "h" => 3600.0,
                "d" => 86_400.0,
                "" => {
                    return bad(format!(
                        "`{trimmed}` lacks a unit at its end; write for example 250ms, 3s or 1m30s"
                    ));
                }
                other => {
                    return bad(format!("`{other}` is no unit of time; use us, ms, s, m, h or d"));
                }
            };
            let Ok(part) = Duration::try_from_secs_f64(number * seconds) else {
                return bad(format!("`{trimmed}` is out of range"));
            };
            total = total.saturating_add(part);
            rest = after.trim_start();
        }
        if total > Duration::from_secs(366 * 86_400) {
            return bad(format!("`{trimmed}` is longer than a year"));
        }
        Ok(Self(total))
    }
}

/// Splits `12.5ms rest` into (`12.5`, `ms`, ` rest`).
fn split_quantity(text: &str) -> (&str, &str, &str) {
    let number = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let unit = text[number..]
        .find(|c: char| !c.is_alphabetic())
        .map_or(text.len(), |found| number + found);
    (&text[..number], &text[number..unit], &text[unit..])
}

impl FromStr for Percent {
    type Err = BadUnit;

    fn from_str(text: &str) -> Result<Self, BadUnit> {
        let number = text.trim().trim_end_matches('%').trim_end();
        let Ok(value) = number.parse::<f64>() else {
            return bad(format!(
                "`{}` is no percent; write a number from 0 to 100, such as 20 or 20%",
                text.trim()
            ));
        };
        Self::checked(value)
    }
}

impl Percent {
    /// A percent within 0 to 100.
    pub fn checked(value: f64) -> Result<Self, BadUnit> {
        if (0.0..=100.0).contains(&value) {
            Ok(Self(value))
        } else {
            bad(format!("{value} is no percent; write a number from 0 to 100"))
        }
    }

    /// The percent as a share of 1.
    pub fn share(self) -> f64 {
        self.0 / 100.0
    }
}

impl FromStr for Rate {
    type Err = BadUnit;

    fn from_str(text: &str) -> Result<Self, BadUnit> {
        let trimmed = text.trim();
        let Some((count, per)) = trimmed.split_once('/') else {
            return match trimmed.parse::<f64>() {
                Ok(_) => bad(format!("{trimmed} per what? write {trimmed}/s or {trimmed}/min")),
                Err(_) => {
                    bad(format!("`{trimmed}` is no rate; write for example 5/s, 120/min or 10/h"))
                }
            };
        };
        let seconds = match per.trim() {
            "s" | "sec" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            other => return bad(format!("`/{other}` is no rate; use /s, /min or /h")),
        };
        match count.trim().parse::<f64>() {
            Ok(count) if count.is_finite() && count >= 0.0 => {
                Ok(Self { per_second: count / seconds })
            }
            _ => bad(format!("`{trimmed}` is no rate; write for example 5/s, 120/min or 10/h")),
        }
    }
}

impl FromStr for Count {
    type Err = BadUnit;

    fn from_str(text: &str) -> Result<Self, BadUnit> {
        let (low, high) = text.split_once("..").unwrap_or((text, text));
        match (low.trim().parse(), high.trim().parse()) {
            (Ok(low), Ok(high)) if low <= high => Ok(Self { low, high }),
            (Ok(low), Ok(high)) => {
                bad(format!("`{}` runs backwards; write {high}..{low}", text.trim()))
            }
            _ => bad(format!(
                "`{}` is no count; write a whole number such as 3, or a range such as 2..6",
                text.trim()
            )),
        }
    }
}

impl FromStr for SpanRange {
    type Err = BadUnit;

    fn from_str(text: &str) -> Result<Self, BadUnit> {
        let (low, high) = text.split_once("..").unwrap_or((text, text));
        let (low, high) = (low.parse::<Span>()?.0, high.parse::<Span>()?.0);
        if low > high {
            return bad(format!("`{}` runs backwards; put the shorter time first", text.trim()));
        }
        Ok(Self { low, high })
    }
}

impl FromStr for Ramp {
    type Err = BadUnit;

    fn from_str(text: &str) -> Result<Self, BadUnit> {
        let (from, to) = text.split_once("->").unwrap_or((text, text));
        Ok(Self { from: from.parse::<Percent>()?.0, to: to.parse::<Percent>()?.0 })
    }
}

impl FromStr for Shift {
    type Err = BadUnit;

    fn from_str(text: &str) -> Result<Self, BadUnit> {
        let trimmed = text.trim();
        let (added, span) = match trimmed.strip_prefix('+') {
            Some(rest) => (true, rest),
            None => (false, trimmed),
        };
        Ok(Self { added, span: span.parse::<Span>()?.0 })
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        match micros {
            0 => f.write_str("0s"),
            m if m % 3_600_000_000 == 0 => write!(f, "{}h", m / 3_600_000_000),
            m if m % 60_000_000 == 0 => write!(f, "{}m", m / 60_000_000),
            m if m > 60_000_000 && m % 1_000_000 == 0 => {
                write!(f, "{}m{}s", m / 60_000_000, m % 60_000_000 / 1_000_000)
            }
            m if m % 1_000_000 == 0 => write!(f, "{}s", m / 1_000_000),
            m if m >= 1_000_000 => write!(f, "{}s", m as f64 / 1e6),
            m if m >= 1000 => write!(f, "{}ms", m as f64 / 1e3),
            m => write!(f, "{m}us"),
        }
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", self.per_second)
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.low == self.high {
            write!(f, "{}", self.low)
        } else {
            write!(f, "{}..{}", self.low, self.high)
        }
    }
}

impl fmt::Display for SpanRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.low == self.high {
            write!(f, "{}", Span(self.low))
        } else {
            write!(f, "{}..{}", Span(self.low), Span(self.high))
        }
    }
}

impl fmt::Display for Ramp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.from == self.to {
            write!(f, "{}", self.from)
        } else {
            write!(f, "{} -> {}", self.from, self.to)
        }
    }
}

impl fmt::Display for Shift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.added { "+" } else { "" }, Span(self.span))
    }
}

/// Reads a unit from YAML text or from a bare number, which `FromStr` judges.
pub(crate) struct TextOrNumber<T>(
    pub(crate) std::marker::PhantomData<T>,
    /// What is expected, for the error text.
    pub(crate) &'static str,
);

impl<T: FromStr<Err = BadUnit>> Visitor<'_> for TextOrNumber<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.1)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        number.to_string().parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        number.to_string().parse().map_err(E::custom)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        number.to_string().parse().map_err(E::custom)
    }
}

/// Implements reading, writing and the JSON Schema of a type that has `FromStr` and `Display`.
macro_rules! unit {
    ($type:ident, $expects:literal, $schema:tt) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any($crate::units::TextOrNumber::<Self>(
                    std::marker::PhantomData,
                    $expects,
                ))
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl schemars::JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($schema)
            }
        }
    };
}
pub(crate) use unit;

unit!(Span, "a duration such as 250ms or 3s", {
    "type": "string",
    "pattern": "^\\s*([0-9.]+\\s*(us|µs|ms|s|m|min|h|d)\\s*)+$",
    "examples": ["250ms", "3s", "1m30s"]
});
unit!(Percent, "a percent from 0 to 100", {
    "anyOf": [
        { "type": "number", "minimum": 0, "maximum": 100 },
        { "type": "string", "pattern": "^\\s*[0-9.]+\\s*%?\\s*$" }
    ],
    "examples": [20, "20%"]
});
unit!(Rate, "a rate such as 5/s", {
    "type": "string",
    "pattern": "^\\s*[0-9.]+\\s*/\\s*(s|sec|m|min|h)\\s*$",
    "examples": ["5/s", "120/min"]
});
unit!(Count, "a whole number or a range such as 2..6", {
    "anyOf": [
        { "type": "integer", "minimum": 0 },
        { "type": "string", "pattern": "^\\s*[0-9]+\\s*(\\.\\.\\s*[0-9]+\\s*)?$" }
    ],
    "examples": [3, "2..6"]
});
unit!(SpanRange, "a duration or a range such as 4s..12s", {
    "type": "string",
    "examples": ["5s", "4s..12s"]
});
unit!(Ramp, "a percent, or a ramp such as 5 -> 40", {
    "anyOf": [
        { "type": "number", "minimum": 0, "maximum": 100 },
        { "type": "string", "pattern": "^\\s*[0-9.]+\\s*%?\\s*(->\\s*[0-9.]+\\s*%?\\s*)?$" }
    ],
    "examples": [20, "5 -> 40"]
});
unit!(Shift, "a duration, with + to add it: +3s", {
    "type": "string",
    "examples": ["+3s", "3s"]
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_units() {
        let text = "300".parse::<Span>().unwrap_err().to_string();
        assert_eq!(text, "300 what? write 300ms or 300s");
        assert_eq!("1m30s".parse::<Span>(), Ok(Span(Duration::from_secs(90))));
        assert_eq!("250ms".parse::<Span>(), Ok(Span(Duration::from_millis(250))));
        assert!("3 parsecs".parse::<Span>().is_err());
        assert!("99999999999999999999h".parse::<Span>().is_err());
    }

    #[test]
    fn rates_need_a_time() {
        assert_eq!("120/min".parse::<Rate>().unwrap().per_second, 2.0);
        assert_eq!("5".parse::<Rate>().unwrap_err().to_string(), "5 per what? write 5/s or 5/min");
    }

    #[test]
    fn ranges_do_not_run_backwards() {
        assert_eq!("2..6".parse::<Count>(), Ok(Count { low: 2, high: 6 }));
        assert!("6..2".parse::<Count>().unwrap_err().to_string().contains("2..6"));
        assert!("12s..4s".parse::<SpanRange>().is_err());
    }

    #[test]
    fn ramps_move_through_a_phase() {
        let ramp: Ramp = "5 -> 40".parse().unwrap();
        assert_eq!((ramp.at(0.0), ramp.at(0.5), ramp.at(2.0)), (5.0, 22.5, 40.0));
        assert!("5 -> 400".parse::<Ramp>().is_err());
    }

    proptest::proptest! {
        #[test]
        fn spans_print_as_they_read(micros in 0u64..10_000_000_000) {
            let span = Span(Duration::from_micros(micros));
            let read: Span = span.to_string().parse().unwrap();
            let error = read.0.abs_diff(span.0);
            proptest::prop_assert!(error < Duration::from_micros(1), "{span} {error:?}");
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = (text.parse::<Span>(), text.parse::<Percent>(), text.parse::<Rate>());
            let _ = (text.parse::<Count>(), text.parse::<SpanRange>(), text.parse::<Ramp>(), text.parse::<Shift>());
        }
    }
}
