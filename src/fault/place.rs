//! Places in an answer (`90 tokens`, `12 events`, `4kB`, `30% tokens`, `30%`) and how to find them
//! in pieces that pass. It never holds a piece back.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use http::{StatusCode, header, response};

use super::lengths::Lengths;
use super::{Arming, Impossible};
use crate::dialect::{Dialect, Reading, grpc};
use crate::exchange::{Event, Framing, Item, Operation};
use crate::units::{BadUnit, Percent, unit};

/// Tokens of an answer whose length nobody knows.
const UNKNOWN_LENGTH: u32 = 100;

/// A place in an answer: `90 tokens`, `12 events`, `4kB`, `30% tokens`, `30%`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Place {
    /// After this many bytes of the body.
    Bytes(u64),
    /// After this many events of the stream, the ones without text included; comments do not
    /// count.
    Events(u64),
    /// After this share (0 to 1) of the body's bytes; of the tokens where the answer is a stream.
    Share(f64),
    /// After this share (0 to 1) of the answer's tokens.
    TokenShare(f64),
    /// After this many content-bearing events of a stream (rows of a store's answer are such), or
    /// tokens of a whole answer.
    Tokens(u64),
}

impl FromStr for Place {
    type Err = BadUnit;

    fn from_str(text: &str) -> Result<Self, BadUnit> {
        let trimmed = text.trim();
        let bad = |text: String| Err(BadUnit(text));
        if let Some((number, rest)) = trimmed.split_once('%') {
            let share = number.parse::<Percent>()?.share();
            return match rest.trim() {
                _ if share >= 1.0 => {
                    bad(format!("`{trimmed}` is past the end of the answer; write less than 100%"))
                }
                "" => Ok(Self::Share(share)),
                "token" | "tokens" => Ok(Self::TokenShare(share)),
                other => bad(format!(
                    "a share of `{other}` is not known; write {number}% tokens, or {number}% for the whole answer"
                )),
            };
        }
        let split = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, measure) = trimmed.split_at(split.unwrap_or(trimmed.len()));
        let Ok(count) = number.parse::<f64>() else {
            return bad(format!(
                "`{trimmed}` is no place in an answer; write for example 90 tokens, 12 events, 4kB or 30%"
            ));
        };
        let scale = match measure.trim() {
            // A row is what carries content in the answer of a store.
            "token" | "tokens" | "row" | "rows" => return whole(trimmed, count).map(Self::Tokens),
            "event" | "events" => return whole(trimmed, count).map(Self::Events),
            "B" | "byte" | "bytes" => 1.0,
            "kB" | "KB" => 1e3,
            "KiB" => 1024.0,
            "MB" => 1e6,
            "MiB" => 1024.0 * 1024.0,
            "" => {
                return bad(format!(
                    "{number} what? write {number} tokens, {number} events, {number}kB or {number}%"
                ));
            }
            other => {
                return bad(format!(
                    "`{other}` is no measure of an answer; use tokens, events, rows, B, kB, MB or %"
                ));
            }
        };
        Ok(Self::Bytes((count * scale).round() as u64))
    }
}

/// A count that must be whole.
fn whole(text: &str, count: f64) -> Result<u64, BadUnit> {
    if count.fract() == 0.0 && count <= 1e9 {
        Ok(count as u64)
    } else {
        Err(BadUnit(format!("`{text}` is no whole number; write for example 90 tokens")))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(count) => write!(f, "{count}B"),
            Self::Events(count) => write!(f, "{count} events"),
            Self::Share(share) => write!(f, "{}%", share * 100.0),
            Self::TokenShare(share) => write!(f, "{}% tokens", share * 100.0),
            Self::Tokens(count) => write!(f, "{count} tokens"),
        }
    }
}

unit!(Place, "a place in an answer such as 90 tokens, 12 events, 4kB or 30%", {
    "type": "string",
    "pattern": "^\\s*[0-9.]+\\s*(tokens?|events?|rows?|B|bytes?|kB|KB|KiB|MB|MiB|%|%\\s*tokens?)\\s*$",
    "examples": ["90 tokens", "12 events", "20 rows", "4kB", "30% tokens", "30%"]
});

impl Place {
    /// Whether the place depends on how long the answer is.
    pub(super) fn is_share(self) -> bool {
        matches!(self, Self::Share(_) | Self::TokenShare(_))
    }

    /// Whether it can be found without knowing events from bytes.
    pub(super) fn is_bytes(self) -> bool {
        matches!(self, Self::Bytes(_))
    }
}

/// Why a place cannot be found on a raw connection.
pub(super) const NO_PLACE: Impossible = Impossible(
    "raw bytes have no tokens, events or known length; name a place in bytes, such as `after: 4kB`",
);

/// Why an answer's body cannot be read, None when it can.
pub(super) fn unreadable(head: &response::Parts) -> Option<&'static str> {
    let plain = |value: &http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        let extended = head.headers.contains_key(header::SEC_WEBSOCKET_EXTENSIONS);
        return extended
            .then_some("the messages are compressed: the socket was opened before this was armed");
    }
    let failed = |status: &http::HeaderValue| status.as_bytes() != b"0";
    if !head.status.is_success() || head.headers.get(grpc::STATUS).is_some_and(failed) {
        Some("the upstream answered with an error")
    } else if !head.headers.get_all(header::CONTENT_ENCODING).iter().all(plain) {
        Some("the answer is compressed")
    } else {
        None
    }
}

/// Follows an answer to a place in it.
#[derive(Debug)]
pub(super) struct Follower {
    place: Place,
    dialect: &'static dyn Dialect,
    operation: Operation,
    model: String,
    lengths: Arc<Lengths>,
    /// How many tokens a live stream is taken to have, when a share of it is asked for.
    assumed: Option<u64>,
    pub(super) seen: Seen,
    /// What the last piece said.
    pub(super) reading: Reading,
}

/// How much of an answer has passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) bytes: u64,
    pub(super) events: u64,
    pub(super) tokens: u64,
}

/// Where the place is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Found {
    /// Right before this piece.
    Before,
    /// In later pieces, or nowhere.
    Later,
    /// Nowhere, and why.
    Never(&'static str),
    /// Inside this piece: after this many of its bytes, which is this share (0 to 1) of it.
    Within { bytes: usize, share: f64 },
}

impl Follower {
    /// Follows the answer of this exchange.
    pub(super) fn new(place: Place, lengths: &Arc<Lengths>, arming: &mut Arming<'_>) -> Self {
        let facts = &arming.exchange.facts;
        let model = facts.model.clone().unwrap_or_default();
        let assumed = place.is_share().then(|| {
            let guess = facts.max_tokens.unwrap_or(UNKNOWN_LENGTH);
            lengths.draw(&model, arming.draw.unit("length"), guess.into())
        });
        Self {
            place,
            dialect: arming.dialect,
            operation: facts.operation,
            model,
            lengths: Arc::clone(lengths),
            assumed,
            seen: Seen::default(),
            reading: Reading::default(),
        }
    }

    /// Looks for the place in a piece; what lies before it is counted as seen.
    pub(super) fn step(&mut self, item: &Item) -> Found {
        match item {
            Item::Bytes(bytes) => self.step_bytes(bytes.len()),
            Item::Event(event) => self.step_event(event),
            Item::Message(body) => self.step_message(body),
        }
    }

    fn step_bytes(&mut self, length: usize) -> Found {
        let Place::Bytes(place) = self.place else {
            self.seen.bytes += length as u64;
            return Found::Later;
        };
        let left = place.saturating_sub(self.seen.bytes);
        if left >= length as u64 {
            self.seen.bytes += length as u64;
            return Found::Later;
        }
        self.seen.bytes = place;
        Found::Within { bytes: left as usize, share: left as f64 / length as f64 }
    }

    fn step_event(&mut self, event: &Event) -> Found {
        if is_comment(event) {
            self.reading = Reading::default();
            return self.step_bytes(event.raw.len());
        }
        self.reading = self.dialect.read_event(self.operation, event);
        let tokens = u64::from(self.reading.tokens);
        let past_tokens = |place: u64, seen: &Seen| tokens > 0 && seen.tokens + tokens > place;
        let here = match self.place {
            Place::Bytes(_) => match self.step_bytes(event.raw.len()) {
                Found::Later => {
                    self.count(tokens);
                    return Found::Later;
                }
                found => return found,
            },
            Place::Events(place) => self.seen.events >= place,
            Place::Share(share) | Place::TokenShare(share) => {
                let assumed = self.assumed.unwrap_or_default() as f64;
                past_tokens((assumed * share).round() as u64, &self.seen)
            }
            Place::Tokens(place) => past_tokens(place, &self.seen),
        };
        if here {
            return Found::Before;
        }
        self.seen.bytes += event.raw.len() as u64;
        self.count(tokens);
        Found::Later
    }

    fn count(&mut self, tokens: u64) {
        self.seen.events += 1;
        self.seen.tokens += tokens;
    }

    fn step_message(&mut self, body: &[u8]) -> Found {
        self.reading = self.dialect.read_message(self.operation, body);
        let tokens = u64::from(self.reading.tokens);
        if self.assumed.take().is_some() && tokens > 0 {
            self.lengths.learn(&self.model, tokens, true);
        }
        let share = match self.place {
            Place::Bytes(_) => return self.step_bytes(body.len()),
            Place::Events(_) => return Found::Never("the answer is no stream"),
            Place::TokenShare(_) | Place::Tokens(_) if tokens == 0 => {
                return Found::Never("the answer has no tokens");
            }
            Place::Share(share) | Place::TokenShare(share) => share,
            Place::Tokens(place) if place >= tokens => {
                self.seen = Seen { bytes: body.len() as u64, events: 0, tokens };
                return Found::Later;
            }
            Place::Tokens(place) => place as f64 / tokens as f64,
        };
        let bytes = (body.len() as f64 * share).floor() as usize;
        self.seen.bytes += bytes as u64;
        self.seen.tokens += (tokens as f64 * share).round() as u64;
        Found::Within { bytes, share }
    }

    /// Counts a piece that `step` has looked at and that goes on, wherever the place is.
    pub(super) fn pass(&mut self, item: &Item) {
        self.seen.bytes += item.raw().len() as u64;
        if let Item::Event(event) = item
            && !is_comment(event)
        {
            self.count(self.reading.tokens.into());
        }
    }

    /// Counts a piece that lies behind the place, so that the length of the answer is known.
    pub(super) fn count_on(&mut self, item: &Item) {
        if let Item::Event(event) = item
            && self.assumed.is_some()
        {
            self.seen.tokens += u64::from(self.dialect.read_event(self.operation, event).tokens);
        }
    }

    /// Whether the place is counted in tokens.
    pub(super) fn counts_tokens(&self) -> bool {
        matches!(self.place, Place::TokenShare(_) | Place::Tokens(_))
    }

    /// The tokens a live stream is taken to have, and the share of them that has passed.
    pub(super) fn assumed(&self) -> Option<(u64, f64)> {
        let assumed = self.assumed?;
        Some((assumed, self.seen.tokens as f64 / assumed.max(1) as f64))
    }

    /// Remembers how long this stream was (`ended` by itself), or how long it was at least.
    pub(super) fn learn(&self, ended: bool) {
        if self.assumed.is_some() {
            self.lengths.learn(&self.model, self.seen.tokens, ended);
        }
    }
}

/// Whether an event is a comment; but an empty message of a gRPC call is one like any other.
pub(super) fn is_comment(event: &Event) -> bool {
    event.data.is_empty() && event.framing != Framing::Grpc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_read_and_print() {
        for (text, place) in [
            ("90 tokens", Place::Tokens(90)),
            ("1 token", Place::Tokens(1)),
            ("20 rows", Place::Tokens(20)),
            ("12 events", Place::Events(12)),
            ("4kB", Place::Bytes(4000)),
            ("1.5 KiB", Place::Bytes(1536)),
            ("30% tokens", Place::TokenShare(0.3)),
            (" 30% ", Place::Share(0.3)),
        ] {
            let read: Place = text.parse().unwrap();
            assert_eq!(read, place, "{text}");
            assert_eq!(read.to_string().parse::<Place>().unwrap(), place);
        }
    }

    #[test]
    fn wrong_places_say_what_to_write() {
        for (text, part) in [
            ("90", "90 what? write 90 tokens, 90 events"),
            ("100%", "less than 100%"),
            ("30% words", "write 30% tokens"),
            ("12 words", "`words` is no measure"),
            ("1.5 tokens", "no whole number"),
            ("soon", "write for example 90 tokens"),
            ("-4 tokens", "write for example 90 tokens"),
        ] {
            let error = text.parse::<Place>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = text.parse::<Place>();
        }
    }
}
