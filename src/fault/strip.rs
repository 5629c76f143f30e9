//! Leaves parts out of an answer: no `usage`, no `finish_reason`, no `index` in tool calls, no
//! `event:` lines. Compatible servers differ in just these, and clients take them for granted.

use std::time::Duration;

use bytes::Bytes;
use http::response;
use schemars::JsonSchema;
use serde::Deserialize;

use super::choice::{Choice, Chooser};
use super::place::unreadable;
use super::{Arming, Effect, Fault, Impossible, Invalid, NO_REQUESTS, Orders, Place, Spec};
use crate::dialect::{Dialect, Outline, Slot, outline};
use crate::exchange::{Event, Framing, Grain, Item, Level, Operation};
use crate::units::Percent;

/// An answer, streamed or whole, in which parts are missing.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Strip {
    /// What is missing: `call_id`, `call_index`, `call_name`, `done` (the terminal event),
    /// `event_name` (the `event:` line of SSE), `finish`, `id`, `index`, `model`, `role` or `usage`; one
    /// or more of them.
    pub parts: Vec<Part>,
    /// From how many of a stream's events they are taken. Each is drawn for itself, with the same
    /// seed always the same ones. Default 100%.
    pub percent: Option<Percent>,
    /// From where on in a stream: `20 tokens`, `3 events`. Default: from the start.
    pub after: Option<Place>,
    /// From how many events they are taken at most, 1 or more. Default: no limit.
    pub at_most: Option<u64>,
}

/// A part of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    CallId,
    CallIndex,
    CallName,
    Done,
    EventName,
    Finish,
    Id,
    Index,
    Model,
    Role,
    Usage,
}

impl Part {
    fn slot(self) -> Option<Slot> {
        Some(match self {
            Self::CallId => Slot::CallId,
            Self::CallIndex => Slot::CallIndex,
            Self::CallName => Slot::CallName,
            Self::Done | Self::EventName => return None,
            Self::Finish => Slot::Finish,
            Self::Id => Slot::Id,
            Self::Index => Slot::Index,
            Self::Model => Slot::Model,
            Self::Role => Slot::Role,
            Self::Usage => Slot::Usage,
        })
    }
}

impl Spec for Strip {
    const NAME: &'static str = "strip";
    const SUMMARY: &'static str = "answers without a part that clients take for granted";
    const EXAMPLE: &'static str = "{ parts: [call_index] }";

    fn build(&self) -> Result<Box<dyn Fault>, Invalid> {
        if self.parts.is_empty() {
            return Err(Invalid::new("parts", "nothing is missing; write for example `parts: [usage]`"));
        }
        let Self { percent, after, at_most, .. } = *self;
        let choice = Choice::checked(percent, after, at_most, Some(true), None)?;
        let slots = self.parts.iter().filter_map(|part| part.slot()).collect();
        let has = |part| self.parts.contains(&part);
        Ok(Box::new(Loaded { choice, slots, done: has(Part::Done), name: has(Part::EventName) }))
    }
}

#[derive(Debug)]
struct Loaded {
    choice: Choice,
    slots: Vec<Slot>,
    done: bool,
    name: bool,
}

impl Fault for Loaded {
    fn arm(&self, arming: &mut Arming<'_>) -> Result<Box<dyn Effect>, Impossible> {
        if arming.exchange.level == Level::Connection {
            return Err(NO_REQUESTS);
        }
        let [chooser, _] = self.choice.arm(arming)?;
        Ok(Box::new(Stripping {
            chooser,
            slots: self.slots.clone(),
            done: self.done,
            name: self.name,
            dialect: arming.dialect,
            operation: arming.exchange.facts.operation,
            off: false,
            whole: false,
        }))
    }
}

struct Stripping {
    chooser: Chooser,
    slots: Vec<Slot>,
    done: bool,
    name: bool,
    dialect: &'static dyn Dialect,
    operation: Operation,
    off: bool,
    /// The answer is no stream.
    whole: bool,
}

/// What is left of an event.
enum Left {
    All,
    Nothing,
    Part(Event),
}

impl Effect for Stripping {
    fn grain(&self) -> Grain {
        Grain::Event
    }

    fn on_response(
        &mut self,
        _: Duration,
        _: Duration,
        head: &mut response::Parts,
        out: &mut Orders,
    ) {
        if let Some(reason) = unreadable(head) {
            out.impossible(reason);
            self.off = true;
        }
    }

    fn on_item(&mut self, _: Duration, item: Item, out: &mut Orders) {
        let event = match &item {
            _ if self.off => return out.send(item),
            Item::Bytes(_) => return out.send(item),
            Item::Message(body) => {
                self.whole = true;
                match self.without(body) {
                    Some(left) => {
                        out.hit();
                        return out.send(Item::Message(left));
                    }
                    None => {
                        out.impossible("the answer has no such part");
                        return out.send(item);
                    }
                }
            }
            Item::Event(event) => event,
        };
        if self.chooser.choose(&item, out).is_none() {
            return out.send(item);
        }
        match self.left_of(event) {
            Left::All => {
                self.chooser.spare();
                out.send(item);
            }
            Left::Nothing => out.hit(),
            Left::Part(left) => {
                out.hit();
                out.send(Item::Event(left));
            }
        }
    }

    fn on_end(&mut self, _: Duration, out: &mut Orders) {
        if !self.off && !self.whole {
            self.chooser.end("stripped", out);
        }
    }
}

impl Stripping {
    fn without(&self, payload: &[u8]) -> Option<Bytes> {
        self.less(payload, &self.dialect.outline(self.operation, payload))
    }

    fn less(&self, payload: &[u8], outline: &Outline) -> Option<Bytes> {
        let mut slots = self.slots.clone();
        // Where the counts are not kept together, each of them goes.
        if slots.contains(&Slot::Usage) && !outline.has(Slot::Usage) {
            slots.extend([Slot::PromptTokens, Slot::CompletionTokens, Slot::TotalTokens]);
        }
        outline::without(payload, outline, &slots)
    }

    fn left_of(&self, event: &Event) -> Left {
        if self.done && self.dialect.read_event(self.operation, event).done {
            return Left::Nothing;
        }
        let payload = self.dialect.payload(event);
        let outline = self.dialect.outline(self.operation, &payload);
        let less = self.less(&payload, &outline);
        let unnamed = if self.name { without_name(event) } else { None };
        match less {
            Some(_) if self.slots.contains(&Slot::Usage) && only_counts(&outline) => Left::Nothing,
            Some(less) => {
                let event = unnamed.as_ref().unwrap_or(event);
                Left::Part(self.dialect.with_payload(event, &less))
            }
            None => unnamed.map_or(Left::All, Left::Part),
        }
    }
}

/// Whether an event holds counts of tokens and no part of the answer: without them nobody sends it.
fn only_counts(outline: &Outline) -> bool {
    let counts = [
        Slot::Usage,
        Slot::PromptTokens,
        Slot::CompletionTokens,
        Slot::TotalTokens,
        Slot::Id,
        Slot::Model,
    ];
    outline.spots.iter().all(|spot| counts.contains(&spot.what))
}

/// The event without its `event:` line; None where it has none.
fn without_name(event: &Event) -> Option<Event> {
    if event.framing != Framing::Sse || event.name.is_none() {
        return None;
    }
    let mut raw = Vec::with_capacity(event.raw.len());
    let mut found = false;
    for line in event.raw.split_inclusive(|byte| *byte == b'\n') {
        match line.starts_with(b"event:") {
            true => found = true,
            false => raw.extend_from_slice(line),
        }
    }
    found.then(|| Event { raw: raw.into(), name: None, ..event.clone() })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Played, Upstream, build, invalid, ms, play_one};
    use super::*;
    use crate::dialect::by_kind;

    const STREAM: &[&str] = &[
        r#"{"id":"c","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#,
        r#"{"id":"c","model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]},"finish_reason":null}]}"#,
        r#"{"id":"c","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#,
        r#"{"id":"c","model":"m","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}"#,
        "[DONE]",
    ];

    fn stripped(yaml: &str, upstream: &Upstream) -> Played {
        play_one(by_kind("openai").unwrap(), build::<Strip>(yaml).as_ref(), upstream)
    }

    #[test]
    fn each_part_goes_and_nothing_else() {
        let stream = Upstream::sse(STREAM, ms(1));
        let all = STREAM.join(" ");
        for (part, gone) in [
            ("role", vec![r#""role":"assistant","#]),
            ("call_index", vec![r#""index":0,"function""#]),
            ("model", vec![r#""model":"m","#]),
            ("id", vec![r#""id":"c","#]),
            ("finish", vec![r#","finish_reason":null"#, r#","finish_reason":"tool_calls""#]),
            ("usage", vec![STREAM[3]]),
            ("done", vec![" [DONE]"]),
        ] {
            let played = stripped(&format!("{{ parts: [{part}] }}"), &stream);
            let mut left = all.clone();
            for gone in gone {
                let stays = if part == "call_index" { r#""function""# } else { "" };
                left = left.replace(gone, stays);
            }
            assert_eq!(played.text(), left.replace("  ", " "), "{part}");
            assert!(played.hit(), "{part}");
        }
    }

    #[test]
    fn names_of_events_go_with_their_lines() {
        let raw = "id: 7\nevent: ping\ndata:{}\n\n";
        let event = Event { raw: raw.into(), name: Some("ping".into()), ..Event::sse("{}") };
        let upstream = Upstream::events(vec![(ms(0), Item::Event(event))]);
        let played = stripped("{ parts: [event_name] }", &upstream);
        assert_eq!(played.sent[0].1.raw().as_ref(), b"id: 7\ndata:{}\n\n");
    }

    #[test]
    fn whole_answers_lose_parts_too() {
        let body = r#"{"choices":[{"message":{"role":"assistant","content":"x"}}],"usage":{"total_tokens":3}}"#;
        let mut upstream = Upstream::message(1);
        upstream.items = vec![(ms(0), Item::Message(body.into()))];
        let played = stripped("{ parts: [usage, role] }", &upstream);
        assert_eq!(played.text(), r#"{"choices":[{"message":{"content":"x"}}]}"#);
        let none = stripped("{ parts: [finish] }", &upstream);
        assert_eq!((none.impossible(), none.text().as_str()), (Some("the answer has no such part"), body));
    }

    #[test]
    fn what_is_not_there_is_impossible() {
        let stream = Upstream::sse(&[STREAM[0], "[DONE]"], ms(1));
        let played = stripped("{ parts: [usage] }", &stream);
        assert_eq!(played.impossible(), Some("no event had what this changes"));
        assert_eq!(played.sent.len(), 2);
        assert_eq!(invalid::<Strip>("{ parts: [] }").field, "parts");
    }

    #[test]
    fn counts_that_stand_alone_go_too() {
        let line = r#"{"message":{"role":"assistant","content":""},"done":true,"prompt_eval_count":11,"eval_count":5}"#;
        let upstream = Upstream::events(vec![(ms(0), Item::Event(Event::ndjson(line)))]);
        let ollama = by_kind("ollama").unwrap();
        let played = play_one(ollama, build::<Strip>("{ parts: [usage] }").as_ref(), &upstream);
        assert_eq!(played.text(), r#"{"message":{"role":"assistant","content":""},"done":true}"#);
    }
}
