//! Answers as providers send them, for the tests of what changes their content; and two small
//! dialects for forms that OpenAI's does not have.

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Uri};
use serde_json::{Value, json};

use super::testing::{Played, Upstream, arm_with, build, exchange, ms, play_in};
use super::{Draw, Effect, Fault, Impossible, Spec};
use crate::dialect::{self, Answer, Dialect, Failure, Outline, Quota, Reading, Reason, Slot};
use crate::exchange::{Event, Exchange, Facts, Item, Operation};
use crate::wire::json::Paths;

pub(super) fn openai() -> &'static dyn Dialect {
    dialect::by_kind("openai").unwrap()
}

/// Plays one fault on a recorded answer of a dependency of this dialect.
pub(super) fn played<S: Spec>(
    dialect: &'static dyn Dialect,
    yaml: &str,
    exchange: &Exchange,
    upstream: &Upstream,
) -> Played {
    play_in(dialect, Duration::ZERO, &[build::<S>(yaml).as_ref()], exchange, upstream)
}

/// Arms a fault for an exchange of a dialect.
pub(super) fn arm_in(
    dialect: &'static dyn Dialect,
    fault: &dyn Fault,
    at: Duration,
    exchange: &Exchange,
) -> Result<(Box<dyn Effect>, Draw), Impossible> {
    arm_with(fault, at, exchange, dialect)
}

/// A chat with this request.
pub(super) fn asked(request: &Value) -> Exchange {
    let body = request.to_string();
    let uri = Uri::from_static("/v1/chat/completions");
    let facts = openai().facts(&Method::POST, &uri, &HeaderMap::new(), body.as_bytes());
    Exchange { facts, body: body.into(), ..exchange(1) }
}

/// Events 10 ms after one another.
pub(super) fn events(events: Vec<Event>) -> Upstream {
    let timed = |(number, event)| (ms(10) * number as u32, Item::Event(event));
    let items = events.into_iter().enumerate().map(timed).collect();
    Upstream { took: ms(10), status: StatusCode::OK, headers: HeaderMap::new(), items }
}

pub(super) fn message(body: impl Into<Bytes>) -> Upstream {
    let items = vec![(Duration::ZERO, Item::Message(body.into()))];
    Upstream { took: ms(10), status: StatusCode::OK, headers: HeaderMap::new(), items }
}

/// One chunk of a chat completion.
pub(super) fn chunk(delta: &str, finish: &str) -> Event {
    Event::sse(format!(
        r#"{{"id":"c1","model":"gpt-4o","choices":[{{"index":0,"delta":{delta},"finish_reason":{finish}}}],"usage":null}}"#
    ))
}

/// A streamed text: a role, its pieces, the finish, the usage, `[DONE]`.
pub(super) fn streamed(pieces: &[&str]) -> Upstream {
    let mut all = vec![chunk(r#"{"role":"assistant","content":"","refusal":null}"#, "null")];
    all.extend(pieces.iter().map(|piece| chunk(&json!({ "content": piece }).to_string(), "null")));
    all.push(chunk("{}", "\"stop\""));
    all.push(usage(pieces.len()));
    all.push(Event::sse("[DONE]"));
    events(all)
}

fn usage(tokens: usize) -> Event {
    Event::sse(format!(
        r#"{{"id":"c1","model":"gpt-4o","choices":[],"usage":{{"prompt_tokens":8,"completion_tokens":{tokens},"total_tokens":{}}}}}"#,
        tokens + 8
    ))
}

/// A whole text.
pub(super) fn whole(text: &str, tokens: usize) -> Upstream {
    let text = Value::from(text);
    message(format!(
        r#"{{"id":"c1", "model":"gpt-4o","choices":[{{"index":0,"message":{{"role":"assistant","content":{text},"refusal":null}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":8,"completion_tokens":{tokens},"total_tokens":{}}}}}"#,
        tokens + 8
    ))
}

/// Streamed calls: name and pieces of the arguments of each.
pub(super) fn streamed_calls(calls: &[(&str, &[&str])]) -> Upstream {
    let mut all = vec![chunk(r#"{"role":"assistant","content":null}"#, "null")];
    for (index, (name, pieces)) in calls.iter().enumerate() {
        all.push(chunk(
            &format!(r#"{{"tool_calls":[{{"index":{index},"id":"call_{index}","type":"function","function":{{"name":"{name}","arguments":""}}}}]}}"#),
            "null",
        ));
        for piece in *pieces {
            let piece = Value::from(*piece);
            all.push(chunk(
                &format!(
                    r#"{{"tool_calls":[{{"index":{index},"function":{{"arguments":{piece}}}}}]}}"#
                ),
                "null",
            ));
        }
    }
    all.push(chunk("{}", "\"tool_calls\""));
    all.push(Event::sse("[DONE]"));
    events(all)
}

/// Whole calls: name and arguments of each.
pub(super) fn whole_calls(calls: &[(&str, &str)]) -> Upstream {
    let call = |(index, (name, arguments)): (usize, &(&str, &str))| {
        let arguments = Value::from(*arguments);
        format!(
            r#"{{"id":"call_{index}","type":"function","function":{{"name":"{name}","arguments":{arguments}}}}}"#
        )
    };
    let calls: Vec<String> = calls.iter().enumerate().map(call).collect();
    message(format!(
        r#"{{"model":"gpt-4o","choices":[{{"index":0,"message":{{"role":"assistant","content":null,"tool_calls":[{}]}},"finish_reason":"tool_calls"}}]}}"#,
        calls.join(", ")
    ))
}

/// What a client puts together out of a stream or a whole answer.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Heard {
    pub(super) text: String,
    pub(super) refusal: String,
    pub(super) model: String,
    pub(super) finish: Option<String>,
    /// Name and arguments of each call.
    pub(super) calls: Vec<(String, String)>,
    pub(super) usage: Option<(u64, u64, u64)>,
    pub(super) events: usize,
}

impl Heard {
    /// Reads what was sent, as OpenAI's clients do; what is sent must be valid JSON.
    pub(super) fn of(played: &Played) -> Self {
        let mut heard = Self::default();
        for (_, item) in &played.sent {
            heard.events += 1;
            let data = match item {
                Item::Event(event) => &event.data,
                other => other.raw(),
            };
            if data.as_ref() != b"[DONE]" {
                let told = String::from_utf8_lossy(data);
                heard.add(
                    &serde_json::from_slice(data).unwrap_or_else(|error| panic!("{told}: {error}")),
                );
            }
        }
        heard
    }

    fn add(&mut self, json: &Value) {
        self.model = json["model"].as_str().unwrap_or_default().to_owned();
        if let Some(usage) = json["usage"].as_object() {
            let count = |name: &str| usage[name].as_u64().unwrap();
            self.usage =
                Some((count("prompt_tokens"), count("completion_tokens"), count("total_tokens")));
        }
        for choice in json["choices"].as_array().into_iter().flatten() {
            let said =
                if choice["delta"].is_object() { &choice["delta"] } else { &choice["message"] };
            self.text += said["content"].as_str().unwrap_or_default();
            self.refusal += said["refusal"].as_str().unwrap_or_default();
            for (number, call) in said["tool_calls"].as_array().into_iter().flatten().enumerate() {
                let index = call["index"].as_u64().map_or(number, |index| index as usize);
                self.calls.resize_with(self.calls.len().max(index + 1), Default::default);
                let (name, arguments) = &mut self.calls[index];
                *name += call["function"]["name"].as_str().unwrap_or_default();
                *arguments += call["function"]["arguments"].as_str().unwrap_or_default();
            }
            if let Some(finish) = choice["finish_reason"].as_str() {
                self.finish = Some(finish.to_owned());
            }
        }
    }
}

/// Lines of JSON, whole calls with objects as arguments, an end in a line of its own or in the last
/// one with text.
#[derive(Debug)]
pub(super) struct Lines;

static LINES: LazyLock<Paths<Slot>> = LazyLock::new(|| {
    Paths::new(&[
        ("model", Slot::Model),
        ("role", Slot::Role),
        ("text", Slot::Text),
        ("calls[*]", Slot::Call),
        ("calls[*].name", Slot::CallName),
        ("calls[*].args", Slot::Arguments),
        ("why", Slot::Finish),
        ("count", Slot::CompletionTokens),
    ])
});

/// Blocks with numbers, each closed by an event of its own.
#[derive(Debug)]
pub(super) struct Blocks;

static BLOCKS: LazyLock<Paths<Slot>> = LazyLock::new(|| {
    Paths::new(&[
        ("index", Slot::Index),
        ("block", Slot::Call),
        ("block.id", Slot::CallId),
        ("block.name", Slot::CallName),
        ("delta.text", Slot::Text),
        ("delta.json", Slot::Arguments),
        ("delta.why", Slot::Finish),
    ])
});

/// What both have in common.
macro_rules! small_dialect {
    ($name:ident, $paths:ident) => {
        impl Dialect for $name {
            fn name(&self) -> &'static str {
                "small"
            }

            fn facts(&self, _: &Method, _: &Uri, _: &HeaderMap, _: &[u8]) -> Facts {
                Facts::default()
            }

            fn read_event(&self, operation: Operation, event: &Event) -> Reading {
                let outline = self.outline(operation, &event.data);
                let text = outline.text(&event.data, Slot::Text);
                Reading { tokens: u32::from(!text.is_empty()), text, ..Reading::default() }
            }

            fn read_message(&self, _: Operation, _: &[u8]) -> Reading {
                Reading::default()
            }

            fn outline(&self, _: Operation, payload: &[u8]) -> Outline {
                Outline::of(&$paths, payload)
            }

            fn reason(&self, _: Operation, reason: Reason) -> Option<&'static str> {
                match reason {
                    Reason::Length => Some("MAX"),
                    Reason::Stop => Some("STOP"),
                    _ => None,
                }
            }

            fn closes(&self, _: Operation, payload: &[u8]) -> bool {
                payload.starts_with(br#"{"stop""#)
            }

            fn declines(&self, _: Operation) -> dialect::Declines {
                dialect::Declines { member: None, finish: Some("SAFETY"), silent: true }
            }

            fn failure(&self, _: &Failure<'_>) -> Answer {
                unreachable!("no failure is played")
            }

            fn quota_headers(&self, _: &Quota) -> Vec<(&'static str, String)> {
                Vec::new()
            }

            fn inband_error(&self, _: &str) -> Option<Event> {
                None
            }
        }
    };
}

small_dialect!(Lines, LINES);
small_dialect!(Blocks, BLOCKS);
