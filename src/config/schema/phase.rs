//! `phases`, `recovered` and `expect`.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::json;
use super::named::OneOrMany;
use crate::units::{Percent, Ramp, Span};

/// A stretch of the timeline. Needs `name` and `duration`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Phase {
    /// What expectations call it.
    #[schemars(required)]
    pub(in crate::config) name: Option<String>,
    /// How long it lasts (at most, with `until`).
    #[schemars(required)]
    pub(in crate::config) duration: Option<Span>,
    /// The faults it arms: names, or `NAME: { percent: 5 -> 40 }`.
    pub(in crate::config) faults: Option<Vec<PhaseFault>>,
    /// Ends the phase early, as soon as the app has recovered.
    pub(in crate::config) until: Option<Until>,
    /// Sentences that must hold at its end, or the run stops as inconclusive.
    pub(in crate::config) gate: Option<Vec<String>>,
}

/// What ends a phase early.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Until {
    /// The app has recovered, as `recovered` says.
    Recovered,
}

/// A fault that a phase arms.
#[derive(Debug)]
pub(in crate::config) struct PhaseFault {
    pub(in crate::config) name: String,
    pub(in crate::config) percent: Option<Ramp>,
}

/// How a phase arms a fault.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Arming {
    /// In place of the fault's own percent; `5 -> 40` moves evenly through the phase.
    percent: Option<Ramp>,
}

impl<'de> Deserialize<'de> for PhaseFault {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PhaseFaultVisitor)
    }
}

struct PhaseFaultVisitor;

impl<'de> Visitor<'de> for PhaseFaultVisitor {
    type Value = PhaseFault;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a fault's name, or NAME: { percent: 5 -> 40 }")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<PhaseFault, E> {
        Ok(PhaseFault { name: name.to_owned(), percent: None })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<PhaseFault, A::Error> {
        let Some((name, arming)) = map.next_entry::<String, Arming>()? else {
            return Err(de::Error::custom("an empty map names no fault"));
        };
        if map.next_key::<String>()?.is_some() {
            return Err(de::Error::custom(
                "one item of `faults` names one fault; begin a new item with `-`",
            ));
        }
        Ok(PhaseFault { name, percent: arming.percent })
    }
}

impl JsonSchema for PhaseFault {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "PhaseFault".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let arming = generator.subschema_for::<Arming>();
        json_schema!({
            "anyOf": [
                { "type": "string" },
                {
                    "type": "object",
                    "minProperties": 1,
                    "maxProperties": 1,
                    "additionalProperties": arming
                }
            ]
        })
    }
}

/// When the app counts as recovered.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Recovered {
    /// What is watched: `success_rate`, `[success_rate, p95(ttft)]`. Default success_rate.
    pub(in crate::config) metric: Option<OneOrMany<String>>,
    /// How near to the baseline it must come: `10% of baseline`. Default 5%.
    pub(in crate::config) within: Option<Within>,
    /// For how long it must hold. Default 10s, or half of a recovery phase that is shorter than 20s.
    pub(in crate::config) r#for: Option<Span>,
}

/// `10%` or `10% of baseline`.
#[derive(Clone, Debug)]
pub(in crate::config) struct Within {
    pub(in crate::config) percent: Percent,
    /// The phase named after `of`.
    pub(in crate::config) phase: Option<String>,
}

impl std::str::FromStr for Within {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (percent, phase) = match text.split_once(" of ") {
            Some((percent, phase)) => (percent, Some(phase.trim().to_owned())),
            None => (text, None),
        };
        if !percent.trim().ends_with('%') {
            return Err(format!(
                "`{}` is no distance from the baseline; write for example `10% of baseline`",
                text.trim()
            ));
        }
        let percent = percent.parse().map_err(|error: crate::units::BadUnit| error.to_string())?;
        Ok(Self { percent, phase })
    }
}

json::text_type!(Within, "a distance such as `10% of baseline`", {
    "type": "string",
    "pattern": "^\\s*[0-9.]+\\s*%\\s*(of\\s+\\S+\\s*)?$",
    "examples": ["10% of baseline"]
});

/// A sentence, or a sentence with conditions.
#[derive(Debug, Default)]
pub(in crate::config) struct Expect {
    pub(in crate::config) check: Option<String>,
    pub(in crate::config) severity: Option<Severity>,
    pub(in crate::config) min_samples: Option<u64>,
    pub(in crate::config) confidence: Option<Percent>,
    /// Written as a map with `check`.
    pub(in crate::config) as_map: bool,
}

/// An expectation with conditions.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ExpectOptions {
    /// The sentence: `metric op value [during|after PHASE] [for DURATION]`.
    #[schemars(required)]
    check: Option<String>,
    /// Whether it fails the run. Default fail.
    severity: Option<Severity>,
    /// With fewer samples the verdict is inconclusive. Default 30.
    min_samples: Option<u64>,
    /// Judge by the interval at this confidence, such as 95%.
    confidence: Option<Percent>,
}

/// What a failed expectation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Severity {
    /// Fails the run.
    Fail,
    /// Is reported.
    Warn,
}

impl<'de> Deserialize<'de> for Expect {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ExpectVisitor)
    }
}

struct ExpectVisitor;

impl<'de> Visitor<'de> for ExpectVisitor {
    type Value = Expect;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sentence such as `success_rate >= 99%`, or a map with `check`")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Expect, E> {
        Ok(Expect { check: Some(text.to_owned()), ..Default::default() })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Expect, A::Error> {
        let options = ExpectOptions::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Expect {
            check: options.check,
            severity: options.severity,
            min_samples: options.min_samples,
            confidence: options.confidence,
            as_map: true,
        })
    }
}

impl JsonSchema for Expect {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Expect".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let options = generator.subschema_for::<ExpectOptions>();
        json_schema!({
            "anyOf": [{ "type": "string", "minLength": 3 }, options],
            "examples": ["p95(ttft) < 2.5s during fault", "time_to_recover < 30s"]
        })
    }
}
