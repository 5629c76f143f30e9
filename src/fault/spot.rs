//! Where in an answer a fault acts, by what stands there (`mid_arguments`, `before_terminal`) or by
//! count (`90 tokens`), and how to find it in pieces that pass. It never holds a piece back.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;

use super::lengths::Lengths;
use super::place::{Follower, Found, NO_PLACE, is_comment};
use super::{Arming, Impossible, Invalid, Place};
use crate::dialect::{Dialect, Reason, Slot, Spot};
use crate::exchange::{Event, Framing, Grain, Item, Level, Operation, Transport};
use crate::wire::json::Edits;

/// A position in an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum At {
    /// Right behind the first token; of a whole answer, behind as much of it as one token is.
    AfterFirstToken,
    /// Behind the event that says that the stream is over (`[DONE]`); behind the last byte where the
    /// provider has no such event.
    AfterTerminal,
    /// Behind the head, before the first byte of the body.
    BeforeBody,
    /// Before the event that says that the stream is over; of a gRPC call, before its status.
    BeforeTerminal,
    /// Inside the arguments of a tool call, which are JSON that ends too early.
    MidArguments,
    /// Inside the first character that has several bytes in UTF-8.
    MidCharacter,
    /// Inside an event: half its bytes. By default the second one that carries content.
    MidEvent,
}

/// Arguments of a tool call that are looked at together.
const LONGEST: usize = 16 << 10;

/// Why there is no terminal event to find.
pub(super) const NO_TERMINAL: &str = "the answer has no terminal event";

/// Looks for a spot in an answer.
#[derive(Debug)]
pub(super) struct Seeker {
    at: Option<At>,
    /// What `at` may be found behind is passed.
    reached: bool,
    follower: Follower,
    dialect: &'static dyn Dialect,
    operation: Operation,
    grpc: bool,
    /// The arguments of the tool call that is under way.
    arguments: String,
    grain: Grain,
}

/// Where the spot is.
#[derive(Debug, PartialEq)]
pub(super) enum Here {
    /// Right behind this piece.
    After,
    Before,
    /// Inside this piece, of which this is left in good form.
    Instead(Item),
    Later,
    /// Nowhere, and why.
    Never(&'static str),
    /// Inside this piece: behind this many of its bytes, which are this share (0 to 1) of it.
    Within {
        bytes: usize,
        share: f64,
    },
}

impl Seeker {
    /// Looks for a position, or for the first place behind `after` where it is found.
    pub(super) fn new(
        at: Option<At>,
        after: Option<Place>,
        lengths: &Arc<Lengths>,
        arming: &mut Arming<'_>,
    ) -> Result<Self, Impossible> {
        let raw = arming.exchange.level == Level::Connection;
        let place = match (at, after) {
            (Some(At::BeforeBody), _) => Place::Bytes(0),
            (None, Some(place)) if raw && !place.is_bytes() => return Err(NO_PLACE),
            (Some(_), _) if raw => return Err(NO_PLACE),
            (_, Some(place)) => place,
            (Some(At::MidEvent), None) => Place::Tokens(1),
            _ => Place::Events(0),
        };
        let grpc = arming.exchange.transport == Transport::Grpc;
        if grpc && at == Some(At::AfterTerminal) {
            return Err(Impossible("a gRPC call ends with its status: nothing comes behind it"));
        }
        Ok(Self {
            at,
            reached: false,
            follower: Follower::new(place, lengths, arming),
            dialect: arming.dialect,
            operation: arming.exchange.facts.operation,
            grpc,
            arguments: String::new(),
            grain: if place.is_bytes() { Grain::Bytes } else { Grain::Event },
        })
    }

    /// Whether a position and a place go together.
    pub(super) fn check(at: Option<At>, after: Option<Place>) -> Result<(), Invalid> {
        let (Some(at), Some(place)) = (at, after) else { return Ok(()) };
        if at == At::BeforeBody {
            return Err(Invalid::new("after", "nothing of the answer comes before its body"));
        }
        if matches!(place, Place::Events(_) | Place::Tokens(_)) {
            return Ok(());
        }
        let reason = format!(
            "beside `at`, `after` is a place between events, not `{place}`; write for example 20 tokens or 3 events"
        );
        Err(Invalid::new("after", reason))
    }

    /// How finely it must see the answer.
    pub(super) fn grain(&self) -> Grain {
        self.grain
    }

    /// What is known of the answer so far.
    pub(super) fn follower(&self) -> &Follower {
        &self.follower
    }

    /// Whether a whole answer that is cut here may stay well-formed.
    pub(super) fn keeps_form(&self) -> bool {
        match self.at {
            Some(at) => matches!(at, At::AfterFirstToken | At::MidArguments),
            None => self.follower.counts_tokens(),
        }
    }

    /// Counts a piece that lies behind the spot, so that the length of the answer is known.
    pub(super) fn count_on(&mut self, item: &Item) {
        self.follower.count_on(item);
    }

    /// Looks for the spot in a piece.
    pub(super) fn step(&mut self, item: &Item) -> Here {
        let found = self.follower.step(item);
        let Some(at) = self.at else {
            return match found {
                Found::Before => Here::Before,
                Found::Later => Here::Later,
                Found::Never(reason) => Here::Never(reason),
                Found::Within { bytes, share } => Here::Within { bytes, share },
            };
        };
        if at == At::BeforeBody {
            return Here::Before;
        }
        match item {
            Item::Bytes(_) => Here::Later,
            Item::Message(body) => self.step_message(at, body),
            Item::Event(event) if is_comment(event) => Here::Later,
            Item::Event(event) => {
                let counted = found == Found::Later && !self.reached;
                self.reached |= !counted;
                let here = if self.reached { self.step_event(at, event) } else { Here::Later };
                if !counted && matches!(here, Here::After | Here::Later) {
                    self.follower.pass(item);
                }
                here
            }
        }
    }

    fn step_event(&mut self, at: At, event: &Event) -> Here {
        let reading = &self.follower.reading;
        match at {
            At::AfterFirstToken if reading.tokens > 0 => Here::After,
            At::AfterTerminal if reading.done => Here::After,
            At::BeforeTerminal if reading.done => Here::Before,
            At::MidEvent if reading.tokens > 0 && event.raw.len() > 1 => {
                Here::Within { bytes: event.raw.len() / 2, share: 0.5 }
            }
            At::MidArguments => self.step_arguments(event),
            At::MidCharacter if is_text(event.framing) => match mid_character(&event.raw) {
                Some(bytes) => within(bytes, event.raw.len()),
                None => Here::Later,
            },
            At::MidCharacter => Here::Never("the stream is no text"),
            _ => Here::Later,
        }
    }

    /// Arguments come in one piece or in many.
    fn step_arguments(&mut self, event: &Event) -> Here {
        let payload = self.dialect.payload(event);
        let outline = self.dialect.outline(self.operation, &payload);
        if outline.has(Slot::CallName) {
            self.arguments.clear();
        }
        let Some(spot) = outline.first(Slot::Arguments) else { return Here::Later };
        let Some(text) = spot.text(&payload) else {
            return self.middle_of(event, &payload, spot);
        };
        if text.is_empty() {
            return Here::Later;
        }
        if self.arguments.len() > LONGEST {
            self.arguments.clear();
        }
        let whole = self.arguments.is_empty();
        self.arguments.push_str(&text);
        if !is_json(&self.arguments) {
            return Here::After;
        }
        match half(&text) {
            Some(half) if whole => {
                let mut edits = Edits::default();
                edits.set_text(spot.span.clone(), half);
                let edited = self.dialect.with_payload(event, &edits.apply(&payload));
                Here::Instead(Item::Event(edited))
            }
            _ => Here::Later,
        }
    }

    /// Arguments that are an object are cut with the event that holds them.
    fn middle_of(&self, event: &Event, payload: &[u8], spot: &Spot) -> Here {
        if spot.of(payload) == b"null" {
            return Here::Later;
        }
        match memchr::memmem::find(&event.raw, payload) {
            Some(start) => within(start + middle(&spot.span), event.raw.len()),
            None => Here::Never("arguments that are an object cannot be cut inside this framing"),
        }
    }

    fn step_message(&mut self, at: At, body: &Bytes) -> Here {
        let tokens = u64::from(self.follower.reading.tokens);
        match at {
            At::AfterFirstToken if tokens == 0 => Here::Never("the answer has no tokens"),
            At::AfterFirstToken => {
                let share = 1.0 / tokens as f64;
                Here::Within { bytes: (body.len() as f64 * share) as usize, share }
            }
            At::BeforeBody | At::AfterTerminal => Here::Later,
            At::BeforeTerminal => Here::Never(NO_TERMINAL),
            At::MidEvent => within(body.len() / 2, body.len()),
            At::MidCharacter => match mid_character(body) {
                Some(bytes) => within(bytes, body.len()),
                None => Here::Never("the answer has no character of several bytes"),
            },
            At::MidArguments => {
                let outline = self.dialect.outline(self.operation, body);
                match outline.first(Slot::Arguments) {
                    Some(spot) => within(middle(&spot.span), body.len()),
                    None => Here::Never("the answer calls no tool"),
                }
            }
        }
    }

    /// A whole answer whose first tool call has half its arguments, ended for this reason; None
    /// where that cannot be said in good form.
    pub(super) fn half_call(&self, body: &[u8], reason: Option<Reason>) -> Option<Bytes> {
        let outline = self.dialect.outline(self.operation, body);
        let spot = outline.first(Slot::Arguments)?;
        let text = spot.text(body)?;
        let mut edits = Edits::default();
        edits.set_text(spot.span.clone(), half(&text)?);
        if let Some(word) = reason.and_then(|why| self.dialect.reason(self.operation, why)) {
            for finish in outline.each(Slot::Finish) {
                edits.set_text(finish.span.clone(), word);
            }
        }
        Some(edits.apply(body))
    }

    /// Whether the position is the arguments of a tool call.
    pub(super) fn seeks_arguments(&self) -> bool {
        self.at == Some(At::MidArguments)
    }

    /// The answer has ended: whether the spot is here, or why it was not found.
    pub(super) fn step_end(&self) -> Result<(), &'static str> {
        self.follower.learn(true);
        match self.at {
            Some(At::AfterTerminal) => Ok(()),
            Some(At::BeforeTerminal) if self.grpc => Ok(()),
            Some(At::BeforeTerminal) => Err(NO_TERMINAL),
            Some(At::MidArguments) => Err("the answer calls no tool"),
            Some(At::MidCharacter) => Err("the answer has no character of several bytes"),
            _ => Err(""),
        }
    }
}

fn within(bytes: usize, length: usize) -> Here {
    Here::Within { bytes, share: bytes as f64 / length.max(1) as f64 }
}

fn middle(span: &Range<usize>) -> usize {
    span.start + span.len() / 2
}

fn is_text(framing: Framing) -> bool {
    matches!(framing, Framing::JsonArray | Framing::Ndjson | Framing::Sse | Framing::WebSocket)
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

/// The first half of a text, None where it has no two characters.
fn half(text: &str) -> Option<&str> {
    let mut middle = text.len() / 2;
    while !text.is_char_boundary(middle) {
        middle += 1;
    }
    (middle > 0 && middle < text.len()).then(|| &text[..middle])
}

/// Behind the first byte of the first character that has several.
pub(super) fn mid_character(text: &[u8]) -> Option<usize> {
    text.iter().position(|byte| (0xc2..=0xf4).contains(byte)).map(|at| at + 1)
}
