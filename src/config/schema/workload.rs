//! `workload`: the traffic against the app.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::json;
use super::named::Named;
use crate::units::{Count, Rate, Span, SpanRange};

/// The traffic against your app (not against its dependencies). Needs `app`, and `arrival_rate` or
/// `users`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Workload {
    /// The app's URL; `request.path` is joined to it.
    #[schemars(required)]
    pub(in crate::config) app: Option<String>,
    /// The request to send. Left out: POST with `{"message": "${prompt.text}", "user": "${user.id}",
    /// "session": "${session.id}"}`, or in the shape of the API that the app's path names
    /// (`…/chat/completions`, `…/v1/messages`, `…/v1/responses`).
    pub(in crate::config) request: Option<Request>,
    /// How the app's answer is read.
    pub(in crate::config) answer: Option<Answer>,
    /// What is asked. Left out: the preset `chat`.
    pub(in crate::config) prompts: Option<Prompts>,
    /// Open model: requests come at this rate whatever the app does, as real users do: `5/s`,
    /// `120/min`, up to 100000/s.
    pub(in crate::config) arrival_rate: Option<ArrivalRate>,
    /// Closed model: this many users, each waits for its answer before it asks again. Not together
    /// with `arrival_rate`.
    pub(in crate::config) users: Option<u64>,
    /// How a user's requests follow each other.
    pub(in crate::config) sessions: Option<Sessions>,
    /// How long the run lasts when there are no `phases`.
    pub(in crate::config) duration: Option<Span>,
    /// A user gives up here (default 60s); counted as a timeout.
    pub(in crate::config) timeout: Option<Span>,
    /// A user gives up when no content has come by then. Default: `timeout`.
    pub(in crate::config) first_token_timeout: Option<Span>,
    /// Beyond this many requests at once, arrivals are shed (and counted). Default 1000.
    pub(in crate::config) max_in_flight: Option<u64>,
    /// What counts as a good answer, for `goodput`; only one that is ok does.
    pub(in crate::config) good: Option<Good>,
}

/// The request to send.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Request {
    /// Default POST.
    pub(in crate::config) method: Option<String>,
    /// Put below the path of the app's URL: `/chat`, or `?key=value`.
    pub(in crate::config) path: Option<String>,
    /// Headers; the placeholders of `body` are filled in, but `${history}`.
    pub(in crate::config) headers: Option<Named<String>>,
    /// JSON; `${prompt.text}` and other fields of the prompt, `${user.id}`, `${session.id}`, `${turn}`,
    /// `${request.id}` and `${history}` are filled in.
    #[schemars(with = "Option<json::Anything>")]
    pub(in crate::config) body: Option<serde_json::Value>,
}

/// How the app's answer is read.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Answer {
    /// The answer's shape. Left out: by its content type.
    pub(in crate::config) stream: Option<Stream>,
    /// JSONPath of the text in each event, or in the whole answer: `$.delta`. Left out: the text of the
    /// usual chat APIs is found.
    pub(in crate::config) text: Option<String>,
    /// What ends a stream: `"[DONE]"` (a payload), `event done`, `$.done` (JSONPath), or `none`. Left
    /// out: what the usual chat APIs send.
    pub(in crate::config) end: Option<String>,
    /// JSONPath of an error inside a good status: `$.error`. `event: error` and a top-level `error`
    /// count without it.
    pub(in crate::config) error: Option<String>,
    /// JSONPath by which the app says that an answer stands in for the real one: `$.fallback`.
    pub(in crate::config) fallback: Option<String>,
}

/// The shape of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Stream {
    /// By the answer's content type.
    Auto,
    /// One JSON document.
    Json,
    /// A line of JSON each.
    Ndjson,
    /// Server-sent events.
    Sse,
    /// Any bytes.
    Text,
}

/// What is asked: one of the three.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Prompts {
    /// A JSONL file beside this one, up to 64 MiB: an object with `text`, or a string, a line.
    pub(in crate::config) file: Option<String>,
    /// A built-in set.
    #[serde(default)]
    #[schemars(schema_with = "json::prompt_preset")]
    pub(in crate::config) preset: Option<String>,
    /// Written here: strings, or objects with `text`.
    #[schemars(with = "Option<Vec<json::Anything>>")]
    pub(in crate::config) list: Option<Vec<serde_json::Value>>,
}

/// `5/s`, or how the rate changes.
#[derive(Debug)]
pub(in crate::config) struct ArrivalRate(pub(in crate::config) ArrivalOptions);

/// How the arrival rate changes.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct ArrivalOptions {
    /// A rate that stays.
    pub(in crate::config) rate: Option<Rate>,
    /// A rate that moves evenly from each stage's end to the next.
    pub(in crate::config) stages: Option<Vec<Stage>>,
    /// How arrivals spread around their rate. Default poisson.
    pub(in crate::config) shape: Option<Shape>,
}

/// A stretch of a changing rate.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Stage {
    /// The rate at its end.
    #[schemars(required)]
    pub(in crate::config) to: Option<Rate>,
    /// How long the rate takes to get there.
    #[schemars(required)]
    pub(in crate::config) over: Option<Span>,
}

/// How arrivals spread.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Shape {
    /// Even gaps.
    Constant,
    /// As independent users come.
    Poisson,
}

impl<'de> Deserialize<'de> for ArrivalRate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ArrivalVisitor)
    }
}

struct ArrivalVisitor;

impl<'de> Visitor<'de> for ArrivalVisitor {
    type Value = ArrivalRate;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a rate such as 5/s, or a map with `rate` or `stages`")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<ArrivalRate, E> {
        let rate: Rate = text.parse().map_err(E::custom)?;
        Ok(ArrivalRate(ArrivalOptions { rate: Some(rate), ..Default::default() }))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<ArrivalRate, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<ArrivalRate, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ArrivalRate, A::Error> {
        ArrivalOptions::deserialize(MapAccessDeserializer::new(map)).map(ArrivalRate)
    }
}

impl JsonSchema for ArrivalRate {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ArrivalRate".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let rate = generator.subschema_for::<Rate>();
        let options = generator.subschema_for::<ArrivalOptions>();
        json_schema!({ "anyOf": [rate, options] })
    }
}

/// How a user's requests follow each other.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Sessions {
    /// Requests of a session: `3` or `2..6`. Default 1.
    pub(in crate::config) turns: Option<Count>,
    /// Time between an answer and the next request: `4s..12s`. Default none.
    pub(in crate::config) think_time: Option<SpanRange>,
    /// Distinct users that sessions are drawn from. Default 100.
    pub(in crate::config) users: Option<u64>,
}

/// What counts as a good answer.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Good {
    /// Its first token comes within this time. Default: no limit.
    pub(in crate::config) ttft: Option<Span>,
    /// It ends within this time, from its intended start. Default: no limit.
    pub(in crate::config) latency: Option<Span>,
}
