//! `faults`: a fault is a target, a selection, how often, and one or more effects.

use std::borrow::Cow;
use std::fmt;
use std::sync::LazyLock;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};

use super::json;
use super::selection::Where;
use super::when::{Escalate, SharedCause, When};
use crate::engine::Sticky;
use crate::fault::EffectSpecs;
use crate::units::Ramp;

/// A fault: where it acts, how often, and with which effects. Its effects are keys beside these.
#[derive(Debug, Default)]
pub(in crate::config) struct Fault {
    pub(in crate::config) keys: FaultKeys,
    pub(in crate::config) effects: EffectSpecs,
}

/// A fault: where it acts, how often, and with which effects (keys of their own).
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct FaultKeys {
    /// The dependency it acts on: a name, a list of names, or `{ region: eu }`.
    #[schemars(required)]
    pub(in crate::config) target: Option<Target>,
    /// Which of the target's requests; all parts must hold. Left out: all.
    pub(in crate::config) r#where: Option<Where>,
    /// When it acts: on the first few requests, each fifth, in windows of time, in bursts, after
    /// another fault. Left out: at any time.
    pub(in crate::config) when: Option<When>,
    /// Of the requests that `where` and `when` leave: 20, 20% or a ramp over the phase, 5 -> 40. Left
    /// out: all.
    pub(in crate::config) percent: Option<Ramp>,
    /// Raises the percent in steps.
    pub(in crate::config) escalate: Option<Escalate>,
    /// The same users (sessions, API keys) suffer, request after request.
    pub(in crate::config) sticky: Option<Sticky>,
    /// A name that several faults share: they draw once together, so the same moments (or sessions)
    /// are bad at all their targets. `region-eu`, or `{ name: region-eu, per: 5s }`.
    pub(in crate::config) shared_cause: Option<SharedCause>,
    /// It acts on requests alone that ask for it by the header `x-brownout-fault: NAME`. Needs
    /// `safety.steer_by_header`. Default false.
    pub(in crate::config) opt_in: Option<bool>,
    /// It is counted what it would hit, and it never acts. Default false.
    pub(in crate::config) shadow: Option<bool>,
    /// A fault of the catalogue to start from (`brownout faults` lists them); the keys beside it
    /// replace its keys.
    #[serde(default)]
    #[schemars(schema_with = "json::profile")]
    pub(in crate::config) r#use: Option<String>,
}

/// The keys of a fault that are no effects.
pub(in crate::config) const OWN_KEYS: &[&str] = &[
    "target",
    "where",
    "when",
    "percent",
    "escalate",
    "sticky",
    "shared_cause",
    "opt_in",
    "shadow",
    "use",
];

static FIELDS: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| OWN_KEYS.iter().chain(EffectSpecs::NAMES).copied().collect());

impl<'de> Deserialize<'de> for Fault {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_struct("Fault", FIELDS.as_slice(), FaultVisitor)
    }
}

struct FaultVisitor;

impl<'de> Visitor<'de> for FaultVisitor {
    type Value = Fault;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map such as { target: llm, latency: { add: 2s } }")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fault, A::Error> {
        let mut fault = Fault::default();
        let keys = &mut fault.keys;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "target" => keys.target = map.next_value()?,
                "where" => keys.r#where = map.next_value()?,
                "percent" => keys.percent = map.next_value()?,
                "when" => keys.when = map.next_value()?,
                "escalate" => keys.escalate = map.next_value()?,
                "sticky" => keys.sticky = map.next_value()?,
                "shared_cause" => keys.shared_cause = map.next_value()?,
                "opt_in" => keys.opt_in = map.next_value()?,
                "shadow" => keys.shadow = map.next_value()?,
                "use" => keys.r#use = map.next_value()?,
                other => {
                    if !fault.effects.read_key(other, &mut map)? {
                        return Err(de::Error::unknown_field(other, FIELDS.as_slice()));
                    }
                }
            }
        }
        Ok(fault)
    }
}

impl JsonSchema for Fault {
    fn schema_name() -> Cow<'static, str> {
        "Fault".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = FaultKeys::json_schema(generator);
        let effects = EffectSpecs::json_schema(generator);
        let added = effects.get("properties").and_then(serde_json::Value::as_object).cloned();
        if let (Some(properties), Some(added)) =
            (schema.get_mut("properties").and_then(serde_json::Value::as_object_mut), added)
        {
            for (name, effect) in added {
                properties.insert(name.clone(), json::effect(&name, effect));
            }
        }
        // `use` may bring the target's effects, but never the target.
        schema
    }
}

/// The dependencies a fault acts on.
#[derive(Clone, Debug)]
pub(in crate::config) enum Target {
    Names(Vec<String>),
    Region(String),
}

/// A label of dependencies.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ByLabel {
    /// All dependencies with this `region`, at the same instant.
    region: String,
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TargetVisitor)
    }
}

struct TargetVisitor;

impl<'de> Visitor<'de> for TargetVisitor {
    type Value = Target;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a dependency's name, a list of names or { region: NAME }")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Target, E> {
        Ok(Target::Names(vec![name.to_owned()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Target, A::Error> {
        let mut names = Vec::new();
        while let Some(name) = seq.next_element()? {
            names.push(name);
        }
        Ok(Target::Names(names))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Target, A::Error> {
        ByLabel::deserialize(MapAccessDeserializer::new(map))
            .map(|label| Target::Region(label.region))
    }
}

impl JsonSchema for Target {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Target".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let label = generator.subschema_for::<ByLabel>();
        json_schema!({
            "anyOf": [
                { "type": "string" },
                { "type": "array", "items": { "type": "string" }, "minItems": 1 },
                label
            ]
        })
    }
}
