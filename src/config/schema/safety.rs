//! `safety`: when to stop, and how far a run may go.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use crate::units::{Percent, Span};

/// When to stop, and how far a run may go.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Safety {
    /// Sentences (`success_rate < 50% for 15s`) or probes of the app; any of them stops the run.
    pub(in crate::config) abort_when: Option<Vec<AbortWhen>>,
    /// Never touch more than this share of a dependency's requests, over 30 s. Default: no limit.
    pub(in crate::config) max_affected: Option<Percent>,
    /// Stop a run after this time in any case; the longest time for which `serve` lets a caller arm a
    /// fault. Default: no limit.
    pub(in crate::config) max_duration: Option<Span>,
    /// For `serve`: whoever armed a fault by the admin API must be heard again within this time, or
    /// every fault goes off. Default: none.
    pub(in crate::config) heartbeat: Option<Span>,
    /// Lets requests steer faults: `x-brownout-skip: 1` (or names of faults) keeps them off,
    /// `x-brownout-fault: NAME` asks for one with `opt_in`. Both are taken off before the upstream.
    /// Default false: they pass as any other header and mean nothing.
    pub(in crate::config) steer_by_header: Option<bool>,
    /// Every fault is counted for what it would hit, and none acts; `--shadow` says the same. Default
    /// false.
    pub(in crate::config) shadow: Option<bool>,
}

/// What stops a run: a sentence, or a probe that fails.
#[derive(Debug)]
pub(in crate::config) enum AbortWhen {
    Probe(Option<Probe>),
    Sentence(String),
}

/// A probe of the app.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AbortProbe {
    /// A URL that is asked now and then.
    #[schemars(required)]
    probe: Option<Probe>,
}

/// A URL that is asked now and then.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Probe {
    /// The URL.
    #[schemars(required)]
    pub(in crate::config) http: Option<String>,
    /// The status of a healthy app, 100 to 599. Default 200.
    pub(in crate::config) expect_status: Option<u16>,
    /// How often, from 100ms. Default 5s.
    pub(in crate::config) every: Option<Span>,
    /// Failures in a row that stop the run. Default 3.
    pub(in crate::config) failures: Option<u32>,
}

impl<'de> Deserialize<'de> for AbortWhen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AbortVisitor)
    }
}

struct AbortVisitor;

impl<'de> Visitor<'de> for AbortVisitor {
    type Value = AbortWhen;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sentence such as `success_rate < 50% for 15s`, or a map with `probe`")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<AbortWhen, E> {
        Ok(AbortWhen::Sentence(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<AbortWhen, A::Error> {
        AbortProbe::deserialize(MapAccessDeserializer::new(map))
            .map(|abort| AbortWhen::Probe(abort.probe))
    }
}

impl JsonSchema for AbortWhen {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "AbortWhen".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let probe = generator.subschema_for::<AbortProbe>();
        json_schema!({ "anyOf": [{ "type": "string", "minLength": 3 }, probe] })
    }
}
