//! Reads the limit of an expectation in the unit that its metric asks for.

use super::known::{Kind, Known};
use super::sentence::{Read, bad};
use super::{Limit, Metric, Unit};
use crate::units::{Rate, Span};

/// Digits with at most one point, and nothing else.
pub(super) fn plain_number(text: &str) -> Option<f64> {
    let plain = text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_digit() || c == '.');
    text.parse::<f64>().ok().filter(|number| plain && number.is_finite())
}

pub(super) fn example(kind: Kind) -> &'static str {
    match kind {
        Kind::Count => "== 0",
        Kind::PerSecond => ">= 4/s",
        Kind::Seconds => "< 2.5s",
        Kind::Share => ">= 97%",
        Kind::Times => "< 1.5",
    }
}

/// Reads a limit in the unit that its metric asks for.
pub(super) fn value(
    at: usize,
    len: usize,
    text: &str,
    metric: &Metric,
    known: &Known,
) -> Read<Limit> {
    let kind = metric.kind(known);
    let bare = plain_number(text);
    let done = |value, unit| Ok(Limit::Value { value, unit });
    let percent = text.strip_suffix('%').and_then(plain_number);
    let name = &metric.name;
    let wrong = |what: &str| {
        let reason = format!("`{text}` does not fit `{name}`, which is {what}");
        bad(at, len, reason, Some(format!("write for example `{}`", example(kind))))
    };
    match (kind, bare, percent) {
        // Nothing is nothing in every unit.
        (_, Some(0.0), _) => {
            done(0.0, if kind == Kind::Share { Unit::Percent } else { Unit::None })
        }
        (Kind::Count, Some(number), _) => done(number, Unit::None),
        (Kind::Count, ..) => wrong("a count"),
        (Kind::PerSecond, Some(number), _) => done(number, Unit::PerSecond),
        (Kind::PerSecond, ..) => match text.parse::<Rate>() {
            Ok(rate) => done(rate.per_second, Unit::PerSecond),
            Err(_) => wrong("a rate"),
        },
        (Kind::Seconds, Some(number), _) => {
            let millis = if number < 10.0 { number * 1000.0 } else { number };
            bad(at, len, format!("{text} what? write {text}s or {}ms", tidy(millis)), None)
        }
        (Kind::Seconds, _, Some(_)) => {
            let reason = format!("`{text}` of what? `{name}` is a time");
            bad(
                at,
                len,
                reason,
                Some(format!("write `{text} of baseline`, or a time such as 2.5s")),
            )
        }
        (Kind::Seconds, ..) => match text.parse::<Span>() {
            Ok(Span(span)) => done(span.as_secs_f64(), Unit::Seconds),
            Err(_)
                if text.starts_with(|c: char| c.is_ascii_digit())
                    && text.ends_with(char::is_alphabetic) =>
            {
                wrong("a time")
            }
            Err(_) => wrong("a time"),
        },
        (Kind::Share, _, Some(number)) if number <= 100.0 => done(number / 100.0, Unit::Percent),
        (Kind::Share, _, Some(_)) => {
            let reason = format!("`{name}` is a share and never above 100%");
            bad(at, len, reason, Some("write a percent from 0% to 100%".to_owned()))
        }
        (Kind::Share, Some(number), _) if number <= 1.0 => {
            let both = format!("{text} what? write {}% or {text}%", tidy(number * 100.0));
            bad(at, len, both, None)
        }
        (Kind::Share, Some(number), _) if number <= 100.0 => {
            bad(at, len, format!("{text} what? write {text}%"), None)
        }
        (Kind::Share, ..) => wrong("a share"),
        (Kind::Times, Some(number), _) => done(number, Unit::Times),
        (Kind::Times, _, Some(number)) => done(number / 100.0, Unit::Percent),
        (Kind::Times, ..) => match text.strip_suffix(['x', '×']).and_then(plain_number) {
            Some(number) => done(number, Unit::Times),
            None => wrong("a multiple"),
        },
    }
}

/// A number without the noise of binary fractions.
pub(super) fn tidy(number: f64) -> f64 {
    (number * 1e6).round() / 1e6
}
