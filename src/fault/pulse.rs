//! Keep-alives: what servers and gateways send while they have nothing to say, in the forms that
//! clients ignore, and in those that they should ignore and do not.

use std::time::Duration;

use http::{StatusCode, header, response};
use schemars::JsonSchema;
use serde::Deserialize;

use super::order::Pulse;
use super::{Impossible, Invalid};
use crate::dialect::Dialect;
use crate::exchange::{Event, Framing, Item};
use crate::units::Span;

/// The text of a comment where none is given.
const COMMENT: &str = "keep-alive";
/// The longest text of a comment, in bytes.
const LONGEST: usize = 200;

/// Why an answer has no keep-alives.
pub(super) const NO_KEEP_ALIVES: &str = "only SSE streams and WebSockets have keep-alives";

/// What is sent while there is nothing to say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeepAlive {
    /// SSE events of an id alone, which the standard ignores; a client that takes each for an event
    /// with empty data fails on its JSON.
    BlankEvents,
    /// A comment that a gateway has put into a data line (`data: : keep-alive`): no JSON.
    CommentAsData,
    /// SSE comments (`: keep-alive`), which clients ignore but whose bytes they see.
    Comments,
    /// Nothing.
    #[default]
    None,
    /// The provider's own events for it (`event: ping`), on a WebSocket ping frames; SSE comments
    /// where the provider has no event for it.
    Pings,
}

/// A keep-alive and its rhythm, as checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Beat {
    kind: KeepAlive,
    pub(super) every: Duration,
    comment: Box<str>,
}

impl Beat {
    /// Checks the options `every` and `comment`; None where nothing is sent.
    pub(super) fn checked(
        kind: KeepAlive,
        every: Option<Span>,
        comment: Option<&str>,
    ) -> Result<Option<Self>, Invalid> {
        if kind == KeepAlive::None {
            return Ok(None);
        }
        let every = every.map_or(Duration::from_secs(5), |span| span.0);
        if !(Duration::from_millis(10)..=Duration::from_secs(3600)).contains(&every) {
            return Err(Invalid::new(
                "every",
                "keep-alives come every 10ms at most, every 1h at least",
            ));
        }
        let text = comment.unwrap_or(COMMENT);
        if text.len() > LONGEST || text.contains(['\n', '\r']) {
            return Err(Invalid::new(
                "comment",
                format!("a comment is one line of at most {LONGEST} bytes"),
            ));
        }
        if comment.is_some() && !matches!(kind, KeepAlive::Comments | KeepAlive::CommentAsData) {
            return Err(Invalid::new(
                "comment",
                "`comment` needs `comments` or `comment_as_data`: nothing else holds a text",
            ));
        }
        Ok(Some(Self { kind, every, comment: text.into() }))
    }

    /// The piece that is sent in a stream framed like this; None where there is none.
    pub(super) fn event(&self, dialect: &dyn Dialect, framing: Framing) -> Option<Event> {
        match (framing, self.kind) {
            (_, KeepAlive::None) => None,
            (Framing::WebSocket, KeepAlive::Comments | KeepAlive::Pings) => {
                Some(Event::socket("ping", ""))
            }
            (Framing::Sse, KeepAlive::BlankEvents) => {
                Some(Event { raw: "id: 0\n\n".into(), ..Event::comment("") })
            }
            (Framing::Sse, KeepAlive::CommentAsData) => {
                Some(Event::sse(format!(": {}", self.comment)))
            }
            (Framing::Sse, KeepAlive::Comments) => Some(Event::comment(&self.comment)),
            (Framing::Sse, KeepAlive::Pings) => {
                Some(dialect.ping().unwrap_or_else(|| Event::comment(&self.comment)))
            }
            _ => None,
        }
    }

    /// Keep-alives in a stream framed like this, for a time or for ever.
    pub(super) fn pulse(
        &self,
        dialect: &dyn Dialect,
        framing: Framing,
        time: Option<Duration>,
    ) -> Option<Pulse> {
        let item = Item::Event(self.event(dialect, framing)?);
        Some(Pulse { item, every: self.every, time })
    }
}

/// How the stream that begins with this head is framed, where its framing has keep-alives.
pub(super) fn framing_of(head: &response::Parts) -> Result<Framing, Impossible> {
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Framing::WebSocket);
    }
    let kind = head.headers.get(header::CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    let sse = b"text/event-stream";
    match kind.and_then(|kind| kind.get(..sse.len())) {
        Some(kind) if kind.eq_ignore_ascii_case(sse) => Ok(Framing::Sse),
        _ => Err(Impossible(NO_KEEP_ALIVES)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Toy;
    use super::*;
    use crate::wire::sse::Splitter;

    fn beat(kind: KeepAlive) -> Beat {
        Beat::checked(kind, None, None).unwrap().unwrap()
    }

    #[test]
    fn each_form_has_its_bytes() {
        for (kind, bytes) in [
            (KeepAlive::Comments, ": keep-alive\n\n"),
            (KeepAlive::CommentAsData, "data: : keep-alive\n\n"),
            (KeepAlive::BlankEvents, "id: 0\n\n"),
            (KeepAlive::Pings, ": keep-alive\n\n"),
        ] {
            let event = beat(kind).event(&Toy, Framing::Sse).unwrap();
            assert_eq!(event.raw, bytes, "{kind:?}");
            let mut splitter = Splitter::new();
            let read: Vec<Item> = splitter.push(event.raw.clone()).collect();
            assert!(matches!(&read[..], [Item::Event(one)] if one.data == event.data), "{read:?}");
        }
        let ping = beat(KeepAlive::Pings).event(&Toy, Framing::WebSocket).unwrap();
        assert_eq!((ping.name.as_deref(), ping.is_control()), (Some("ping"), true));
        assert_eq!(beat(KeepAlive::Comments).event(&Toy, Framing::Ndjson), None);
    }

    #[test]
    fn options_that_do_not_fit_are_refused() {
        let check = |kind, every: Option<&str>, comment| {
            let every = every.map(|text| text.parse().unwrap());
            Beat::checked(kind, every, comment).unwrap_err().field
        };
        assert_eq!(check(KeepAlive::Comments, Some("1ms"), None), "every");
        assert_eq!(check(KeepAlive::Comments, None, Some("two\nlines")), "comment");
        assert_eq!(check(KeepAlive::Pings, None, Some("hello")), "comment");
    }
}
