//! `when`, `escalate` and `shared_cause`: at which times and on which of the matching requests a
//! fault acts.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::json;
use super::named::OneOrMany;
use crate::engine::when::Per;
use crate::units::{Bounds, Percent, Span};

/// When a fault acts; all parts must hold. Requests are counted among those that `where` describes
/// and whose time it is, in the order in which they come; `percent` is of what is left.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct When {
    /// The first so many requests, from 1.
    pub(in crate::config) first: Option<u64>,
    /// The requests with these numbers, from 1: `7`, `[2, 5]`, `10..`.
    pub(in crate::config) nth: Option<OneOrMany<Bounds>>,
    /// One request in so many: `5th` (the 5th, the 10th, …); or a part of each stretch of time:
    /// `30s for 5s`.
    pub(in crate::config) every: Option<Every>,
    /// With `every: 30s for 5s`: how long after it was armed the first one begins. Default 0.
    pub(in crate::config) offset: Option<Span>,
    /// Counts requests for each of these alone. `first: 2` with `per: call` fails the first two
    /// attempts of a call and lets the third succeed. Default fault.
    pub(in crate::config) per: Option<Per>,
    /// Windows of time since it was armed: `10s..40s`, `1m..`, or a list of them.
    pub(in crate::config) window: Option<OneOrMany<Window>>,
    /// Up for a while, then down (it acts), and so on.
    pub(in crate::config) flapping: Option<Flapping>,
    /// Failures that come in bursts: a good and a bad state that take turns at random, with a percent
    /// each (Gilbert-Elliott).
    pub(in crate::config) bursts: Option<Bursts>,
    /// Begins when another fault has hit often enough.
    pub(in crate::config) after: Option<After>,
}

/// Up for a while, then down, and so on.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Flapping {
    /// How long it is up (the fault does not act), from 10ms.
    #[schemars(required)]
    pub(in crate::config) up: Option<Span>,
    /// How long it is down (the fault acts), from 10ms.
    #[schemars(required)]
    pub(in crate::config) down: Option<Span>,
    /// How much earlier or later each change comes, in percent of the shorter of the two, 0 to 50.
    /// Default 0.
    pub(in crate::config) jitter: Option<Percent>,
}

/// A good and a bad state that take turns. How long each stay lasts is random.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Bursts {
    /// The mean stay in the good state: a time from 10ms (`30s`), or `200 requests`.
    #[schemars(required)]
    pub(in crate::config) good: Option<Stay>,
    /// The mean stay in the bad state, in the same: `5s`, `10 requests`.
    #[schemars(required)]
    pub(in crate::config) bad: Option<Stay>,
    /// The percent of the requests it acts on while good. Default 0.
    pub(in crate::config) percent_good: Option<Percent>,
    /// The percent of the requests it acts on while bad. Default 100.
    pub(in crate::config) percent_bad: Option<Percent>,
}

/// What sets a fault off.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct After {
    /// The fault whose hits are counted, from when this one is armed; both must be armed.
    #[schemars(required)]
    pub(in crate::config) fault: Option<String>,
    /// How many hits, 1 to 100000. Default 1.
    pub(in crate::config) hits: Option<u64>,
    /// Within which time they must come. Default: since it was armed.
    pub(in crate::config) within: Option<Span>,
    /// How long after the last of them it begins. Default 0.
    pub(in crate::config) delay: Option<Span>,
    /// How long it lasts then. Default: as long as it is armed.
    pub(in crate::config) r#for: Option<Span>,
}

/// A percent that rises in steps, from `percent` on.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Escalate {
    /// Points that each step adds: with `percent: 5`, `by: 10` makes 15, 25, 35.
    #[schemars(required)]
    pub(in crate::config) by: Option<Percent>,
    /// What makes a step: a time since it was armed (`30s`), or hits of its own (`20 hits`).
    #[schemars(required)]
    pub(in crate::config) each: Option<Step>,
    /// Where it ends. Default 100.
    pub(in crate::config) to: Option<Percent>,
}

/// `5th`, or `30s for 5s`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::config) enum Every {
    Nth(u64),
    Time { period: Duration, length: Duration },
}

/// `10s..40s`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::config) struct Window {
    pub(in crate::config) from: Duration,
    pub(in crate::config) to: Option<Duration>,
}

/// `30s`, or `200 requests`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::config) enum Stay {
    Requests(u64),
    Time(Duration),
}

/// `30s`, or `20 hits`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::config) enum Step {
    Hits(u64),
    Time(Duration),
}

impl FromStr for Every {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Some((period, length)) = text.split_once(" for ") {
            let read = |part: &str| part.parse::<Span>().map(|span| span.0);
            let period = read(period).map_err(|error| error.to_string())?;
            let length = read(length).map_err(|error| error.to_string())?;
            return Ok(Self::Time { period, length });
        }
        let number = ["st", "nd", "rd", "th"].iter().find_map(|end| text.strip_suffix(end));
        match number.and_then(|number| number.trim().parse().ok()) {
            Some(number) => Ok(Self::Nth(number)),
            None => Err(format!(
                "`{text}` is neither requests nor time; write for example `5th`, or `30s for 5s`"
            )),
        }
    }
}

impl FromStr for Window {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((from, to)) = text.split_once("..") else {
            return Err(format!(
                "`{}` is no window; write for example 10s..40s or 1m..",
                text.trim()
            ));
        };
        let read = |part: &str| match part.trim() {
            "" => Ok(None),
            part => {
                part.parse::<Span>().map(|span| Some(span.0)).map_err(|error| error.to_string())
            }
        };
        let (from, to) = (read(from)?.unwrap_or_default(), read(to)?);
        if to.is_some_and(|to| to <= from) {
            return Err(format!("`{}` runs backwards; write the earlier time first", text.trim()));
        }
        Ok(Self { from, to })
    }
}

/// A number of something, `None` where the word is another.
fn counted(text: &str, words: [&str; 2]) -> Option<u64> {
    let (number, word) = text.trim().split_once(char::is_whitespace)?;
    words.contains(&word.trim()).then(|| number.parse().ok()).flatten()
}

impl FromStr for Stay {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(number) = counted(text, ["request", "requests"]) {
            return Ok(Self::Requests(number));
        }
        let wrong = |error: crate::units::BadUnit| match text.trim().parse::<f64>() {
            Ok(_) => format!("{0} what? write {0}s or {0} requests", text.trim()),
            Err(_) => error.to_string(),
        };
        text.parse::<Span>().map(|span| Self::Time(span.0)).map_err(wrong)
    }
}

impl FromStr for Step {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(number) = counted(text, ["hit", "hits"]) {
            return Ok(Self::Hits(number));
        }
        let wrong = |error: crate::units::BadUnit| match text.trim().parse::<f64>() {
            Ok(_) => format!("{0} what? write {0}s or {0} hits", text.trim()),
            Err(_) => error.to_string(),
        };
        text.parse::<Span>().map(|span| Self::Time(span.0)).map_err(wrong)
    }
}

json::text_type!(Every, "requests such as `5th`, or a time such as `30s for 5s`", {
    "type": "string",
    "pattern": "^\\s*([0-9]+\\s*(st|nd|rd|th)|[0-9.]+\\s*[a-zµ]+.* for .*)\\s*$",
    "examples": ["5th", "30s for 5s"]
});
json::text_type!(Window, "a window of time such as 10s..40s", {
    "type": "string",
    "pattern": "\\.\\.",
    "examples": ["10s..40s", "1m.."]
});
json::text_type!(Stay, "a time such as 30s, or a number of requests such as `200 requests`", {
    "type": "string",
    "pattern": "^\\s*[0-9]",
    "examples": ["30s", "200 requests"]
});
json::text_type!(Step, "a time such as 30s, or a number of hits such as `20 hits`", {
    "type": "string",
    "pattern": "^\\s*[0-9]",
    "examples": ["30s", "20 hits"]
});

/// A cause that several faults share.
#[derive(Debug, Default)]
pub(in crate::config) struct SharedCause {
    pub(in crate::config) name: Option<String>,
    pub(in crate::config) per: Option<PerCause>,
}

/// What faults of a shared cause draw for once.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CauseOptions {
    /// The name that all faults of the group give.
    #[schemars(required)]
    name: Option<String>,
    /// What is drawn for once: a stretch of time from 10ms (`5s`), or each `session`, `user` or
    /// `api_key`. Default 5s.
    per: Option<PerCause>,
}

/// `5s`, or who asks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::config) enum PerCause {
    Identity(Per),
    Time(Duration),
}

impl FromStr for PerCause {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "session" => Ok(Self::Identity(Per::Session)),
            "user" => Ok(Self::Identity(Per::User)),
            "api_key" => Ok(Self::Identity(Per::ApiKey)),
            time => time.parse::<Span>().map(|span| Self::Time(span.0)).map_err(|_| {
                format!("`{time}` is neither time nor identity; write a time such as 5s, session, user or api_key")
            }),
        }
    }
}

json::text_type!(PerCause, "a time such as 5s, `session`, `user` or `api_key`", {
    "type": "string",
    "examples": ["5s", "session", "user", "api_key"]
});

impl<'de> Deserialize<'de> for SharedCause {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CauseVisitor)
    }
}

struct CauseVisitor;

impl<'de> Visitor<'de> for CauseVisitor {
    type Value = SharedCause;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name, or { name: region-eu, per: 5s }")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<SharedCause, E> {
        Ok(SharedCause { name: Some(name.to_owned()), per: None })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SharedCause, A::Error> {
        let options = CauseOptions::deserialize(MapAccessDeserializer::new(map))?;
        Ok(SharedCause { name: options.name, per: options.per })
    }
}

impl JsonSchema for SharedCause {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "SharedCause".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let options = generator.subschema_for::<CauseOptions>();
        json_schema!({ "anyOf": [{ "type": "string", "minLength": 1 }, options] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_or_name_the_right_form() {
        let second = Duration::from_secs(1);
        assert_eq!("5th".parse(), Ok(Every::Nth(5)));
        assert_eq!(
            "30s for 5s".parse(),
            Ok(Every::Time { period: second * 30, length: second * 5 })
        );
        assert!("30s".parse::<Every>().unwrap_err().contains("write for example `5th`"));
        assert_eq!("1m..".parse(), Ok(Window { from: second * 60, to: None }));
        assert_eq!("..5s".parse(), Ok(Window { from: Duration::ZERO, to: Some(second * 5) }));
        assert!("40s..10s".parse::<Window>().unwrap_err().contains("backwards"));
        assert_eq!("200 requests".parse(), Ok(Stay::Requests(200)));
        assert_eq!("30".parse::<Stay>().unwrap_err(), "30 what? write 30s or 30 requests");
        assert_eq!("20 hits".parse(), Ok(Step::Hits(20)));
        assert_eq!("session".parse(), Ok(PerCause::Identity(Per::Session)));
        assert!("sessions".parse::<PerCause>().unwrap_err().contains("write a time"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = (text.parse::<Every>(), text.parse::<Window>(), text.parse::<Stay>());
            let _ = (text.parse::<Step>(), text.parse::<PerCause>());
        }
    }
}
