//! Limits that a number is held against: `> 4000`, `2..6`, `2..`, `7`.

use std::fmt;
use std::str::FromStr;

use super::{BadUnit, bad, unit};

/// Limits that a number is held against: `> 4000`, `<= 10`, `2..6` (both ends included), `2..`, `7`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Bounds {
    low: Option<Limit>,
    high: Option<Limit>,
}

/// One end.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Limit {
    value: f64,
    included: bool,
}

impl Bounds {
    /// Exactly this number.
    pub fn exactly(value: f64) -> Self {
        let limit = Some(Limit { value, included: true });
        Self { low: limit, high: limit }
    }

    /// Whether the number lies within.
    pub fn hold(&self, number: f64) -> bool {
        let above =
            self.low.is_none_or(|low| number > low.value || (low.included && number == low.value));
        let below = self
            .high
            .is_none_or(|high| number < high.value || (high.included && number == high.value));
        above && below
    }

    /// Whether a text is written as limits are, for values that may also be words.
    pub fn looks_like(text: &str) -> bool {
        let text = text.trim();
        text.starts_with(['>', '<'])
            || text.split_once("..").is_some_and(|(low, high)| {
                let number = |text: &str| text.trim().is_empty() || number(text).is_some();
                number(low) && number(high) && text != ".."
            })
    }

    /// Whether only whole numbers from 0 are named.
    pub fn counts(&self) -> bool {
        let whole = |limit: Option<Limit>| {
            limit.is_none_or(|limit| limit.value >= 0.0 && limit.value.fract() == 0.0)
        };
        whole(self.low) && whole(self.high)
    }
}

fn number(text: &str) -> Option<f64> {
    text.trim().parse::<f64>().ok().filter(|number| number.is_finite())
}

impl FromStr for Bounds {
    type Err = BadUnit;

    fn from_str(text: &str) -> Result<Self, BadUnit> {
        let text = text.trim();
        let wrong = || {
            BadUnit(format!(
                "`{text}` is no limit; write a number, `> 4000`, `<= 10`, or a range such as 2..6 or 2.."
            ))
        };
        let limit = |rest: &str, included| {
            number(rest).map(|value| Limit { value, included }).ok_or_else(wrong)
        };
        for (sign, included) in [(">=", true), (">", false)] {
            if let Some(rest) = text.strip_prefix(sign) {
                return Ok(Self { low: Some(limit(rest, included)?), high: None });
            }
        }
        for (sign, included) in [("<=", true), ("<", false)] {
            if let Some(rest) = text.strip_prefix(sign) {
                return Ok(Self { low: None, high: Some(limit(rest, included)?) });
            }
        }
        let Some((low, high)) = text.split_once("..") else {
            return number(text).map(Self::exactly).ok_or_else(wrong);
        };
        let end = |text: &str| match text.trim() {
            "" => Ok(None),
            text => limit(text, true).map(Some),
        };
        let bounds = Self { low: end(low)?, high: end(high)? };
        match (bounds.low, bounds.high) {
            (None, None) => Err(wrong()),
            (Some(low), Some(high)) if low.value > high.value => {
                bad(format!("`{text}` runs backwards; write {}..{}", high.value, low.value))
            }
            _ => Ok(bounds),
        }
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.low, self.high) {
            (Some(low), Some(high)) if low == high => write!(f, "{}", low.value),
            (Some(low), Some(high)) => write!(f, "{}..{}", low.value, high.value),
            (Some(low), None) if low.included => write!(f, "{}..", low.value),
            (Some(low), None) => write!(f, "> {}", low.value),
            (None, Some(high)) if high.included => write!(f, "..{}", high.value),
            (None, Some(high)) => write!(f, "< {}", high.value),
            (None, None) => f.write_str("any"),
        }
    }
}

unit!(Bounds, "a number, or limits such as `> 4000`, `2..6` or `2..`", {
    "anyOf": [
        { "type": "number" },
        {
            "type": "string",
            "pattern": "^\\s*((>=?|<=?)?\\s*-?[0-9.]+|-?[0-9]*\\.?[0-9]*\\s*\\.\\.\\s*-?[0-9]*\\.?[0-9]*)\\s*$"
        }
    ],
    "examples": ["> 4000", "2..6", "2.."]
});

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(text: &str, number: f64) -> bool {
        text.parse::<Bounds>().unwrap().hold(number)
    }

    #[test]
    fn ends_are_what_they_say() {
        assert!(holds("> 4000", 4001.0) && !holds("> 4000", 4000.0) && holds(">= 4000", 4000.0));
        assert!(holds("< 3", 2.9) && !holds("< 3", 3.0) && holds("<=3", 3.0));
        assert!(holds("2..6", 2.0) && holds("2..6", 6.0) && !holds("2..6", 6.1));
        assert!(holds("2..", 1e9) && !holds("2..", 1.0) && holds("..6", -1.0) && holds("7", 7.0));
    }

    #[test]
    fn mistakes_name_the_right_form() {
        for text in ["", "..", "> x", "many", "1..x", "> inf", "NaN"] {
            let error = text.parse::<Bounds>().unwrap_err().to_string();
            assert!(error.contains("write a number"), "{text}: {error}");
        }
        assert!("6..2".parse::<Bounds>().unwrap_err().to_string().contains("write 2..6"));
    }

    #[test]
    fn words_are_told_from_limits() {
        assert!(
            Bounds::looks_like("> 4") && Bounds::looks_like("2..") && Bounds::looks_like("1..2")
        );
        assert!(
            !Bounds::looks_like("gold") && !Bounds::looks_like("a..b") && !Bounds::looks_like("..")
        );
    }

    proptest::proptest! {
        #[test]
        fn limits_print_as_they_read(low in 0u32..1000, more in 0u32..1000, form in 0usize..6) {
            let high = low + more;
            let text = [
                format!("{low}"), format!("{low}..{high}"), format!("{low}.."),
                format!("..{high}"), format!("> {low}"), format!("< {high}"),
            ][form].clone();
            let read: Bounds = text.parse().unwrap();
            proptest::prop_assert_eq!(read.to_string().parse::<Bounds>().unwrap(), read);
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = text.parse::<Bounds>();
            let _ = Bounds::looks_like(&text);
        }
    }
}
