//! Ends an answer too early: the silent cut that every SDK takes for a whole answer, a connection
//! closed or reset in mid-stream, a stream without its terminal event, an answer "finished" for
//! length.

use std::sync::Arc;
use std::time::Duration;

use http::{header, response};
use schemars::JsonSchema;
use serde::Deserialize;

use super::close::{self, Close};
use super::code::{NO_HTTP2, is_http2};
use super::lengths::Lengths;
use super::place::{Follower, Found, NO_PLACE, unreadable};
use super::{Arming, Effect, Ending, Fault, Impossible, Invalid, Orders, Place, Spec, StreamCode};
use crate::dialect::{Dialect, SoFar, grpc};
use crate::exchange::{Grain, Item, Level, Operation, Transport};

/// An answer that ends too early, in a stream or as a whole.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Truncate {
    /// Where to cut: `90 tokens`, `12 events`, `20 rows`, `4kB`, `30% tokens` or `30%`. On raw TCP bytes
    /// alone, counted from the connection's start or from when the fault was armed. How long a live stream
    /// will be nobody knows: a share of it is counted from a length drawn from this model's answers
    /// so far, and the journal notes the length assumed and the share reached. May be left out for
    /// `ending: no_done` alone.
    pub after: Option<Place>,
    /// How it ends. Default clean.
    pub ending: Option<Cut>,
    /// The error code of `ending: rst_stream`: CANCEL, REFUSED_STREAM, ENHANCE_YOUR_CALM, … or a
    /// number; default INTERNAL_ERROR. Or that of `close_frame`: 1001 (going away), 1011 (internal
    /// error), 1012 (restart), 1013 (try again later), 3000 to 4999; default 1011.
    pub code: Option<StreamCode>,
    /// With `close_frame`: the reason beside the code, at most 123 bytes. Default none.
    pub reason: Option<String>,
}

/// How a truncated answer ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// In good order on the wire, but without a finish reason and the provider's terminal event:
    /// SDKs take the part for the whole. A gRPC call ends with status OK, a WebSocket is closed with
    /// 1000.
    #[default]
    Clean,
    /// The connection is closed (FIN) before the body is whole; a WebSocket without a close frame,
    /// which its client reports as 1006.
    Close,
    /// A WebSocket is closed with a close frame: `code` and `reason`.
    CloseFrame,
    /// With the provider's own `finish_reason: length` and terminal event.
    FinishLength,
    /// HTTP/2 and gRPC: the connection says GOAWAY and ends; all that is open on it breaks.
    Goaway,
    /// Nothing more comes; the connection stays open.
    Hang,
    /// Everything but the terminal event (`[DONE]`); with `after` the same as `clean`. A gRPC call
    /// ends without its status.
    NoDone,
    /// The connection is reset (RST).
    Reset,
    /// HTTP/2 and gRPC: the stream is reset (RST_STREAM) with `code`; the connection stays.
    RstStream,
}

impl Spec for Truncate {
    const NAME: &'static str = "truncate";
    const SUMMARY: &'static str = "an answer that ends too early, silently or with a broken connection";
    const EXAMPLE: &'static str = "{ after: 30% tokens, ending: close }";

    fn build(&self) -> Result<Box<dyn Fault>, Invalid> {
        let cut = self.ending.unwrap_or_default();
        if self.code.is_some() && !matches!(cut, Cut::CloseFrame | Cut::RstStream) {
            return Err(Invalid::new(
                "code",
                "`code` belongs to `ending: rst_stream` or `ending: close_frame`",
            ));
        }
        let reason = self.reason.as_deref();
        let close = match cut {
            Cut::CloseFrame => Some(Close::checked(self.code, reason)?),
            _ => close::unused(reason).map(|()| None)?,
        };
        match (self.after, cut) {
            (None, Cut::NoDone) => {}
            (None, _) => {
                return Err(Invalid::new(
                    "after",
                    "`after` is missing; write where to cut, for example `after: 90 tokens` or `after: 30% tokens`",
                ));
            }
            (Some(Place::Bytes(_)), Cut::FinishLength) => {
                return Err(Invalid::new(
                    "ending",
                    "`finish_length` needs whole events; cut after tokens, events or a share instead of bytes",
                ));
            }
            (Some(Place::Bytes(_)), Cut::CloseFrame) => {
                return Err(Invalid::new(
                    "ending",
                    "a close frame stands between messages; cut after tokens or events instead of bytes",
                ));
            }
            _ => {}
        }
        let code = self.code.unwrap_or(StreamCode::INTERNAL_ERROR);
        Ok(Box::new(Loaded { after: self.after, cut, code, close, lengths: Arc::default() }))
    }
}

#[derive(Debug)]
struct Loaded {
    after: Option<Place>,
    cut: Cut,
    code: StreamCode,
    close: Option<Close>,
    /// Shared by all exchanges, kept over armings: answers do not change by them.
    lengths: Arc<Lengths>,
}

impl Fault for Loaded {
    fn needs_request_body(&self) -> bool {
        self.after.is_some_and(Place::is_share)
    }

    fn arm(&self, arming: &mut Arming<'_>) -> Result<Box<dyn Effect>, Impossible> {
        let transport = arming.exchange.transport;
        if matches!(self.cut, Cut::Goaway | Cut::RstStream) && !is_http2(transport) {
            return Err(Impossible(NO_HTTP2));
        }
        if self.cut == Cut::CloseFrame && transport != Transport::WebSocket {
            return Err(Impossible("only a WebSocket has close frames"));
        }
        let raw = arming.exchange.level == Level::Connection;
        if raw && !self.after.is_some_and(Place::is_bytes) {
            return Err(NO_PLACE);
        }
        let grpc = transport == Transport::Grpc;
        let Some(place) = self.after else {
            return Ok(Box::new(NoDone {
                grpc,
                dialect: arming.dialect,
                operation: arming.exchange.facts.operation,
                unreadable: false,
            }));
        };
        Ok(Box::new(Truncating {
            cut: self.cut,
            code: self.code,
            grpc,
            close: self.close.clone(),
            grain: if place.is_bytes() { Grain::Bytes } else { Grain::Event },
            follower: Some(Follower::new(place, &self.lengths, arming)),
            so_far: SoFar::default(),
            dialect: arming.dialect,
            operation: arming.exchange.facts.operation,
        }))
    }
}

struct Truncating {
    cut: Cut,
    code: StreamCode,
    /// The answer ends with a status.
    grpc: bool,
    close: Option<Close>,
    grain: Grain,
    /// None once it is clear that there is nothing to do.
    follower: Option<Follower>,
    /// Kept for an end that is to be said.
    so_far: SoFar,
    dialect: &'static dyn Dialect,
    operation: Operation,
}

impl Effect for Truncating {
    fn grain(&self) -> Grain {
        self.grain
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
            self.follower = None;
        } else if self.ending() == Ending::Clean {
            // A body that ends in good order must not be shorter than its head says.
            head.headers.remove(header::CONTENT_LENGTH);
        }
    }

    fn on_item(&mut self, _: Duration, item: Item, out: &mut Orders) {
        let Some(follower) = &mut self.follower else { return out.send(item) };
        match follower.step(&item) {
            Found::Later => {
                if let (Cut::FinishLength, Item::Event(event)) = (self.cut, &item) {
                    self.so_far.add(self.dialect, self.operation, event);
                }
                out.send(item);
            }
            Found::Never(reason) => {
                out.impossible(reason);
                self.follower = None;
                out.send(item);
            }
            Found::Before => self.cut_stream(item, out),
            Found::Within { bytes, share } => self.cut_piece(item, bytes, share, out),
        }
    }

    fn on_end(&mut self, _: Duration, out: &mut Orders) {
        if let Some(follower) = self.follower.take() {
            follower.learn(true);
            out.impossible("the answer ended before the cut");
        }
    }
}

impl Truncating {
    fn ending(&self) -> Ending {
        match self.cut {
            Cut::Clean | Cut::FinishLength | Cut::NoDone => Ending::Clean,
            Cut::Close | Cut::CloseFrame => Ending::Close,
            Cut::Goaway => Ending::GoAway,
            Cut::Hang => Ending::Hang,
            Cut::Reset => Ending::Reset,
            Cut::RstStream => Ending::StreamReset(self.code.0),
        }
    }

    /// Ends the answer here.
    fn end(&self, out: &mut Orders) {
        if self.grpc && self.cut == Cut::Clean {
            out.send(Item::Event(grpc::trailers(0, "")));
        }
        out.end(self.ending());
    }

    /// Ends the stream before this event.
    fn cut_stream(&mut self, item: Item, out: &mut Orders) {
        let Some(follower) = &self.follower else { return out.send(item) };
        if self.cut == Cut::FinishLength {
            let end = self.dialect.ending(self.operation, &self.so_far, "length");
            if end.is_empty() {
                out.impossible("the stream has no way to say that it ended for length");
                self.follower = None;
                return out.send(item);
            }
            end.into_iter().for_each(|event| out.send(Item::Event(event)));
        }
        follower.learn(false);
        out.note("reached_tokens", follower.seen.tokens as f64);
        if let Some((assumed, share)) = follower.assumed() {
            out.note("assumed_tokens", assumed as f64);
            out.note("reached_share", share);
        }
        match &self.close {
            Some(close) => close.order(out),
            None => self.end(out),
        }
    }

    /// Ends the answer inside this piece, after so many of its bytes.
    fn cut_piece(&mut self, item: Item, bytes: usize, share: f64, out: &mut Orders) {
        let Some(follower) = &self.follower else { return out.send(item) };
        let left = match &item {
            Item::Message(body) if self.keeps_form(follower) => {
                let reason = if self.cut == Cut::FinishLength { "length" } else { "stop" };
                self.dialect.shorten(self.operation, body, share, reason).map(Item::Message)
            }
            other => Some(Item::Bytes(other.raw().slice(..bytes))),
        };
        let Some(left) = left else {
            out.impossible("the answer has no text to cut");
            self.follower = None;
            return out.send(item);
        };
        out.note("reached_bytes", follower.seen.bytes as f64);
        if matches!(item, Item::Message(_)) {
            out.note("reached_tokens", follower.seen.tokens as f64);
            out.note("reached_share", share);
        }
        if !left.raw().is_empty() {
            out.send(left);
        }
        self.end(out);
    }

    /// Whether a whole answer stays well-formed: its text is cut, not its bytes.
    fn keeps_form(&self, follower: &Follower) -> bool {
        match self.cut {
            Cut::FinishLength => true,
            Cut::Clean | Cut::NoDone => follower.counts_tokens(),
            _ => false,
        }
    }
}

/// Withholds the terminal event alone.
struct NoDone {
    /// The terminal event is the status behind the last message.
    grpc: bool,
    dialect: &'static dyn Dialect,
    operation: Operation,
    unreadable: bool,
}

impl Effect for NoDone {
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
            self.unreadable = true;
        }
    }

    fn on_item(&mut self, _: Duration, item: Item, out: &mut Orders) {
        match &item {
            Item::Event(event)
                if !self.unreadable && self.dialect.read_event(self.operation, event).done =>
            {
                out.end(Ending::Clean);
            }
            _ => out.send(item),
        }
    }

    fn on_end(&mut self, _: Duration, out: &mut Orders) {
        if self.grpc && !self.unreadable {
            out.end(Ending::Clean);
        } else if !self.unreadable {
            out.impossible("the answer has no terminal event");
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::super::testing::{
        Played, Upstream, arm, build, exchange, invalid, ms, play, socket,
    };
    use super::*;

    fn cut(yaml: &str, upstream: &Upstream) -> Played {
        play(&[build::<Truncate>(yaml).as_ref()], &exchange(1), upstream)
    }

    #[test]
    fn each_ending_ends_a_stream_after_its_tokens() {
        for (ending, text, how) in [
            ("clean", "role t0 t1", Ending::Clean),
            ("no_done", "role t0 t1", Ending::Clean),
            ("finish_length", "role t0 t1 finish:length [DONE]", Ending::Clean),
            ("close", "role t0 t1", Ending::Close),
            ("reset", "role t0 t1", Ending::Reset),
            ("hang", "role t0 t1", Ending::Hang),
        ] {
            let yaml = format!("{{ after: 2 tokens, ending: {ending} }}");
            let played = cut(&yaml, &Upstream::stream(5, ms(1)));
            assert_eq!(played.text(), text, "{ending}");
            assert_eq!(played.ended(), Some(how), "{ending}");
            assert_eq!(played.note("reached_tokens"), Some(2.0));
            assert!(played.hit());
        }
    }

    #[test]
    fn places_are_found_in_streams() {
        let stream = Upstream::stream(5, ms(1));
        assert_eq!(cut("{ after: 3 events }", &stream).text(), "role t0 t1");
        assert_eq!(cut("{ after: 0 tokens }", &stream).text(), "role");
        let bytes = cut("{ after: 17B, ending: close }", &stream);
        assert_eq!(bytes.grain, Grain::Bytes);
        let raw: usize = bytes.sent.iter().map(|(_, item)| item.raw().len()).sum();
        assert_eq!(raw, 17, "bytes are cut in mid-event");
    }

    #[test]
    fn no_done_alone_withholds_the_terminal_event() {
        let played = cut("{ ending: no_done }", &Upstream::stream(2, ms(1)));
        assert_eq!(played.text(), "role t0 t1 finish:stop");
        assert_eq!(played.ended(), Some(Ending::Clean));
        let played = cut("{ ending: no_done }", &Upstream::message(2));
        assert_eq!(played.impossible(), Some("the answer has no terminal event"));
        assert_eq!(played.text(), "word word");
    }

    #[test]
    fn an_answer_that_ends_earlier_is_impossible_and_untouched() {
        for yaml in ["{ after: 5 tokens }", "{ after: 9kB }", "{ after: 8 events }"] {
            let played = cut(yaml, &Upstream::stream(5, ms(1)));
            assert_eq!(played.impossible(), Some("the answer ended before the cut"), "{yaml}");
            assert_eq!((played.hit(), played.sent.len()), (false, 8), "{yaml}");
        }
    }

    #[test]
    fn whole_answers_stay_well_formed_or_are_cut_in_their_bytes() {
        let message = Upstream::message(10);
        let clean = cut("{ after: 30% tokens }", &message);
        assert_eq!(clean.text(), "word word word (stop)");
        assert!(clean.head.as_ref().unwrap().1.headers.get("content-length").is_none());
        let length = cut("{ after: 4 tokens, ending: finish_length }", &message);
        assert_eq!(length.text(), "word word word word (length)");
        assert_eq!(length.note("reached_share"), Some(0.4));
        let bytes = cut("{ after: 50% }", &message);
        assert_eq!(bytes.text().len(), 24, "half of 49 bytes");
        let close = cut("{ after: 50% tokens, ending: close }", &message);
        assert_eq!((close.text().len(), close.ended()), (24, Some(Ending::Close)));
        assert!(close.head.unwrap().1.headers.contains_key("content-length"), "it promised more");
        let events = cut("{ after: 3 events }", &message);
        assert_eq!(events.impossible(), Some("the answer is no stream"));
        assert_eq!(events.text().len(), 49);
    }

    #[test]
    fn a_share_of_a_live_stream_comes_from_the_lengths_seen() {
        let fault = build::<Truncate>("{ after: 50% tokens, ending: close }");
        let (mut first, mut later) = (exchange(1), exchange(2));
        first.facts.max_tokens = Some(40);
        later.facts.max_tokens = Some(40);
        let short = play(&[fault.as_ref()], &first, &Upstream::stream(10, ms(1)));
        assert_eq!(short.impossible(), Some("the answer ended before the cut"), "20 of 40");
        let cut = play(&[fault.as_ref()], &later, &Upstream::stream(100, ms(1)));
        assert_eq!(cut.note("assumed_tokens"), Some(10.0), "the one length seen");
        assert_eq!((cut.note("reached_tokens"), cut.note("reached_share")), (Some(5.0), Some(0.5)));
    }

    #[test]
    fn what_cannot_be_read_is_left_alone() {
        let mut upstream = Upstream::stream(5, ms(1));
        upstream.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        let played = cut("{ after: 1 tokens }", &upstream);
        assert_eq!(played.impossible(), Some("the answer is compressed"));
        assert_eq!(played.sent.len(), 8);
        let mut upstream = Upstream::message(5);
        upstream.status = http::StatusCode::BAD_REQUEST;
        let played = cut("{ after: 10% }", &upstream);
        assert_eq!(played.impossible(), Some("the upstream answered with an error"));
    }

    #[test]
    fn a_socket_is_closed_in_its_own_words() {
        let yaml = "{ after: 2 tokens, ending: close_frame, code: 4001, reason: bye }";
        let fault = build::<Truncate>(yaml);
        let mut upstream = Upstream::stream(5, ms(1));
        upstream.status = http::StatusCode::SWITCHING_PROTOCOLS;
        let played = play(&[fault.as_ref()], &socket(1), &upstream);
        assert_eq!(played.ended(), Some(Ending::CloseFrame(4001)));
        let Some((_, Item::Event(close))) = played.sent.last() else { panic!("nothing sent") };
        assert_eq!((close.name.as_deref(), &close.data[..]), (Some("close"), &b"\x0f\xa1bye"[..]));
        assert!(arm(fault.as_ref(), ms(0), &exchange(1)).is_err(), "over plain HTTP");
    }

    #[test]
    fn options_that_do_not_fit_are_refused() {
        assert_eq!(invalid::<Truncate>("{ after: 1 token, ending: close, code: 1011 }").field, "code");
        let never = "{ after: 1 token, ending: close_frame, code: 1006 }";
        assert_eq!(invalid::<Truncate>(never).field, "code");
        assert_eq!(invalid::<Truncate>("{ after: 1kB, ending: close_frame }").field, "ending");
        assert_eq!(invalid::<Truncate>("{ ending: close }").field, "after");
        assert_eq!(invalid::<Truncate>("{ after: 1kB, ending: finish_length }").field, "ending");
    }
}
