//! `where`: which requests a fault may act on.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::named::{Named, OneOrMany};
use crate::exchange::Operation;
use crate::units::Bounds;

/// Which requests a fault may act on; all parts must hold.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Where {
    /// The request's path: a pattern such as `/v1/*`, or `{ regex: … }`.
    pub(in crate::config) path: Option<Pattern>,
    /// The request's method.
    pub(in crate::config) method: Option<String>,
    /// The host that the request names, without its port: a pattern, or `{ regex: … }`.
    pub(in crate::config) host: Option<Pattern>,
    /// Headers and what they hold: patterns, or `{ regex: … }`.
    pub(in crate::config) header: Option<Named<Pattern>>,
    /// The model asked for: a pattern such as `gpt-4o*`, or `{ regex: … }`.
    pub(in crate::config) model: Option<Pattern>,
    /// Whether the answer is asked for as a stream.
    pub(in crate::config) stream: Option<bool>,
    /// What the request does.
    pub(in crate::config) operation: Option<Operation>,
    /// The user asking, as `identify` finds it: a pattern, or `{ regex: … }`.
    pub(in crate::config) user: Option<Pattern>,
    /// The session, as `identify` finds it: a pattern, or `{ regex: … }`.
    pub(in crate::config) session: Option<Pattern>,
    /// The API key that the request carries, from the environment: `${TEAM_KEY}`. It is never shown.
    pub(in crate::config) api_key: Option<String>,
    /// Which question of a conversation, from 1: `1`, `2..`, `> 3`.
    pub(in crate::config) turn: Option<Bounds>,
    /// Tokens of the prompt, estimated as bytes of text / 4: `> 4000`, `1000..4000`.
    pub(in crate::config) prompt_tokens: Option<Bounds>,
    /// The most tokens that the request lets its answer have: `..256`, `> 1000`.
    pub(in crate::config) max_tokens: Option<Bounds>,
    /// Whether the request offers tools to the model, or calls one.
    pub(in crate::config) has_tools: Option<bool>,
    /// Tools offered to the model, or the tool called; one must fit: `search_*`, `[a, b]`.
    pub(in crate::config) tools: Option<OneOrMany<Pattern>>,
    /// What a store is asked about: a collection, index, namespace or class. A pattern, or
    /// `{ regex: … }`.
    pub(in crate::config) collection: Option<Pattern>,
    /// The text of the prompt, all messages of it: a pattern such as `*order*`, or `{ regex: … }`.
    pub(in crate::config) prompt: Option<Pattern>,
    /// The body as it is, its first 64 kB: a pattern, or `{ regex: … }`.
    pub(in crate::config) body: Option<Pattern>,
    /// JSONPaths into the body (up to 1 MiB) and what is there: a pattern, a number, `> 4000`, true,
    /// `{ regex: … }`; `"*"` is anything but null.
    pub(in crate::config) json: Option<Named<Wanted>>,
}

/// What a text must look like.
#[derive(Clone, Debug)]
pub(in crate::config) enum Pattern {
    Glob(String),
    Regex(String),
}

/// A regular expression, in place of a pattern.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ByRegex {
    /// Found anywhere in the text, in the syntax of Rust's regex crate; at most 1000 bytes.
    #[schemars(required)]
    regex: Option<String>,
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A number or a boolean is read as it is spelled.
        deserializer.deserialize_str(PatternVisitor)
    }
}

struct PatternVisitor;

impl<'de> Visitor<'de> for PatternVisitor {
    type Value = Pattern;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a pattern such as `gpt-4o*`, or { regex: … }")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Pattern, E> {
        Ok(Pattern::Glob(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Pattern, A::Error> {
        let read = ByRegex::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Pattern::Regex(read.regex.unwrap_or_default()))
    }
}

impl JsonSchema for Pattern {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Pattern".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let regex = generator.subschema_for::<ByRegex>();
        json_schema!({ "anyOf": [{ "type": "string" }, regex] })
    }
}

/// What a value in a body must be.
#[derive(Clone, Debug)]
pub(in crate::config) enum Wanted {
    Is(bool),
    Nothing,
    Number(Bounds),
    Text(Pattern),
}

impl<'de> Deserialize<'de> for Wanted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WantedVisitor)
    }
}

struct WantedVisitor;

impl<'de> Visitor<'de> for WantedVisitor {
    type Value = Wanted;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a pattern, a number, limits such as `> 4000`, true or false, or { regex: … }")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Wanted, E> {
        Ok(Wanted::Is(value))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Wanted, E> {
        Ok(Wanted::Nothing)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Wanted, E> {
        Ok(Wanted::Number(Bounds::exactly(number as f64)))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Wanted, E> {
        Ok(Wanted::Number(Bounds::exactly(number as f64)))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Wanted, E> {
        Ok(Wanted::Number(Bounds::exactly(number)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Wanted, E> {
        match Bounds::looks_like(text) {
            true => text.parse().map(Wanted::Number).map_err(E::custom),
            false => Ok(Wanted::Text(Pattern::Glob(text.to_owned()))),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Wanted, A::Error> {
        PatternVisitor.visit_map(map).map(Wanted::Text)
    }
}

impl JsonSchema for Wanted {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Wanted".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let regex = generator.subschema_for::<ByRegex>();
        json_schema!({
            "anyOf": [{ "type": ["string", "number", "boolean", "null"] }, regex]
        })
    }
}
