//! Ends an answer too early: the silent cut that every SDK takes for a whole answer, a connection
//! closed or reset in mid-stream, a stream without its terminal event or left open behind it, an
//! answer "finished" for a reason that is not true.

use std::sync::Arc;
use std::time::Duration;

use http::{header, response};
use schemars::JsonSchema;
use serde::Deserialize;

use super::close::{self, Close};
use super::code::{NO_HTTP2, is_http2};
use super::lengths::Lengths;
use super::place::unreadable;
use super::pulse::{Beat, KeepAlive, NO_KEEP_ALIVES, framing_of};
use super::spot::{At, Here, NO_TERMINAL, Seeker};
use super::{
    Arming, Effect, Ending, Fault, Impossible, Invalid, Orders, Place, Pulse, Spec, StreamCode,
};
use crate::dialect::{Dialect, Reason, SoFar, grpc};
use crate::exchange::{Event, Framing, Grain, Item, Operation, Transport};
use crate::units::Span;

/// An answer that ends too early, in a stream or as a whole.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Truncate {
    /// Where to cut, by what stands there: `before_body`, `after_first_token`, `mid_arguments` (of a
    /// tool call), `mid_event` (half an event's bytes), `mid_character`, `before_terminal` or
    /// `after_terminal`. Beside `after`: the first such place from there on. Default: none, unless
    /// the ending has one.
    pub at: Option<At>,
    /// Where to cut: `90 tokens`, `12 events`, `20 rows`, `4kB`, `30% tokens` or `30%`. On raw TCP bytes
    /// alone, counted from the connection's start or from when the fault was armed. How long a live stream
    /// will be nobody knows: a share of it is counted from a length drawn from this model's answers
    /// so far, and the journal notes the length assumed and the share reached. May be left out beside
    /// `at`, and for the endings `no_done` and `done_but_open`.
    pub after: Option<Place>,
    /// How it ends. Default clean.
    pub ending: Option<Cut>,
    /// Why the answer ended, as the provider's own finish event says it although the answer is cut:
    /// `stop`, `length`, `tool_calls` or `content_filter`; the terminal event follows. With the
    /// endings `clean` and `done_but_open`. Default: nothing is said.
    pub finish: Option<Reason>,
    /// With `hang_with_comments` and `hang_with_pings`: the time between keep-alives, from 10ms to 1h.
    /// Default 5s.
    pub every: Option<Span>,
    /// With `hang_with_comments`: what they say. Default keep-alive.
    pub comment: Option<String>,
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
    /// With the terminal event, behind which the body does not end: a client that waits for its end
    /// waits for ever. Without a place, everything comes first.
    DoneButOpen,
    /// With the provider's own `finish_reason: length` and terminal event.
    FinishLength,
    /// HTTP/2 and gRPC: the connection says GOAWAY and ends; all that is open on it breaks.
    Goaway,
    /// Nothing more comes; the connection stays open.
    Hang,
    /// Nothing more comes but comments, `every` so often, which reset the idle timers of clients; on a
    /// WebSocket ping frames.
    HangWithComments,
    /// The same with the provider's own pings, where it has them.
    HangWithPings,
    /// Everything but the terminal event (`[DONE]`); with `after` the same as `clean`. A gRPC call
    /// ends without its status.
    NoDone,
    /// The connection is reset (RST).
    Reset,
    /// HTTP/2 and gRPC: the stream is reset (RST_STREAM) with `code`; the connection stays.
    RstStream,
}

impl Cut {
    /// Where it cuts when nothing is said.
    fn place(self) -> Option<At> {
        match self {
            Self::DoneButOpen => Some(At::AfterTerminal),
            Self::NoDone => Some(At::BeforeTerminal),
            _ => None,
        }
    }

    /// What is sent for ever after.
    fn keep_alive(self) -> KeepAlive {
        match self {
            Self::HangWithComments => KeepAlive::Comments,
            Self::HangWithPings => KeepAlive::Pings,
            _ => KeepAlive::None,
        }
    }

    /// Whether something follows the cut that cannot stand behind half an event.
    fn needs_whole_events(self) -> bool {
        matches!(
            self,
            Self::CloseFrame
                | Self::DoneButOpen
                | Self::FinishLength
                | Self::HangWithComments
                | Self::HangWithPings
        )
    }
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
        let at = match self.after {
            Some(_) => self.at,
            None => self.at.or(cut.place()),
        };
        self.check_place(at, cut)?;
        self.check_finish(at, cut)?;
        let beat = Beat::checked(cut.keep_alive(), self.every, self.comment.as_deref())?;
        if beat.is_none() && (self.every.is_some() || self.comment.is_some()) {
            let field = if self.every.is_some() { "every" } else { "comment" };
            let reason = format!("`{field}` belongs to `hang_with_comments` or `hang_with_pings`");
            return Err(Invalid::new(field, reason));
        }
        Ok(Box::new(Loaded {
            at,
            after: self.after,
            way: Way {
                cut,
                finish: if cut == Cut::FinishLength { Some(Reason::Length) } else { self.finish },
                code: self.code.unwrap_or(StreamCode::INTERNAL_ERROR),
                close,
                beat,
            },
            lengths: Arc::default(),
        }))
    }
}

impl Truncate {
    fn check_place(&self, at: Option<At>, cut: Cut) -> Result<(), Invalid> {
        Seeker::check(at, self.after)?;
        let half = match (at, self.after) {
            (Some(At::MidCharacter | At::MidEvent), _) => true,
            (None, Some(place)) => place.is_bytes(),
            (None, None) => {
                return Err(Invalid::new(
                    "after",
                    "`after` is missing; write where to cut, for example `after: 90 tokens` or `at: mid_event`",
                ));
            }
            _ => false,
        };
        if half && (cut.needs_whole_events() || self.finish.is_some()) {
            return Err(Invalid::new(
                "ending",
                "this ending needs whole events before it; cut after tokens, events or a share",
            ));
        }
        if at == Some(At::AfterTerminal) && matches!(cut, Cut::Clean | Cut::FinishLength | Cut::NoDone)
        {
            return Err(Invalid::new(
                "ending",
                "behind the terminal event every answer ends in good order; write for example `ending: done_but_open` or `reset`",
            ));
        }
        Ok(())
    }

    fn check_finish(&self, at: Option<At>, cut: Cut) -> Result<(), Invalid> {
        if self.finish.is_none() {
            return Ok(());
        }
        if !matches!(cut, Cut::Clean | Cut::DoneButOpen) {
            return Err(Invalid::new(
                "finish",
                "`finish` goes with the endings `clean` and `done_but_open` alone",
            ));
        }
        if matches!(at, Some(At::AfterTerminal | At::BeforeBody | At::BeforeTerminal)) {
            return Err(Invalid::new(
                "finish",
                "`finish` needs a cut inside the answer, such as `at: mid_arguments` or `after: 20 tokens`",
            ));
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Loaded {
    at: Option<At>,
    after: Option<Place>,
    way: Way,
    /// Shared by all exchanges, kept over armings: answers do not change by them.
    lengths: Arc<Lengths>,
}

/// How it ends, in all particulars.
#[derive(Clone, Debug)]
struct Way {
    cut: Cut,
    finish: Option<Reason>,
    code: StreamCode,
    close: Option<Close>,
    beat: Option<Beat>,
}

impl Fault for Loaded {
    fn needs_request_body(&self) -> bool {
        self.after.is_some_and(Place::is_share)
    }

    fn arm(&self, arming: &mut Arming<'_>) -> Result<Box<dyn Effect>, Impossible> {
        let transport = arming.exchange.transport;
        let cut = self.way.cut;
        if matches!(cut, Cut::Goaway | Cut::RstStream) && !is_http2(transport) {
            return Err(Impossible(NO_HTTP2));
        }
        if cut == Cut::CloseFrame && transport != Transport::WebSocket {
            return Err(Impossible("only a WebSocket has close frames"));
        }
        let seeker = Seeker::new(self.at, self.after, &self.lengths, arming)?;
        Ok(Box::new(Truncating {
            way: self.way.clone(),
            at: self.at,
            grpc: transport == Transport::Grpc,
            grain: seeker.grain(),
            seeker: Some(seeker),
            framing: None,
            so_far: SoFar::default(),
            dialect: arming.dialect,
            operation: arming.exchange.facts.operation,
        }))
    }
}

struct Truncating {
    way: Way,
    at: Option<At>,
    /// The answer ends with a status.
    grpc: bool,
    grain: Grain,
    /// None once it is clear that there is nothing to do.
    seeker: Option<Seeker>,
    /// Of the stream, where its head or an event says it.
    framing: Option<Framing>,
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
        self.framing = framing_of(head).ok();
        if let Some(reason) = unreadable(head) {
            out.impossible(reason);
            self.seeker = None;
        } else if self.ending() == Ending::Clean && self.at != Some(At::BeforeTerminal) {
            // A body that ends in good order must not be shorter than its head says.
            head.headers.remove(header::CONTENT_LENGTH);
        }
    }

    fn on_item(&mut self, _: Duration, item: Item, out: &mut Orders) {
        let Some(seeker) = &mut self.seeker else { return out.send(item) };
        match &item {
            Item::Bytes(_) => {}
            Item::Event(event) => self.framing = Some(event.framing),
            Item::Message(_) => self.framing = None,
        }
        match seeker.step(&item) {
            Here::Later => {
                self.note(&item);
                out.send(item);
            }
            Here::Never(reason) => self.give_up(reason, item, out),
            Here::Before => self.cut(None, item, out),
            Here::After => {
                self.note(&item);
                self.cut(Some(item.clone()), item, out);
            }
            Here::Instead(left) => {
                self.note(&left);
                self.cut(Some(left), item, out);
            }
            Here::Within { bytes, share } => self.cut_piece(item, bytes, share, out),
        }
    }

    fn on_end(&mut self, _: Duration, out: &mut Orders) {
        let Some(seeker) = self.seeker.take() else { return };
        match seeker.step_end() {
            Ok(()) => self.end(out),
            Err("") => out.impossible("the answer ended before the cut"),
            Err(reason) => out.impossible(reason),
        }
    }
}

impl Truncating {
    fn ending(&self) -> Ending {
        match self.way.cut {
            Cut::Clean | Cut::FinishLength | Cut::NoDone => Ending::Clean,
            Cut::Close | Cut::CloseFrame => Ending::Close,
            Cut::Goaway => Ending::GoAway,
            Cut::DoneButOpen | Cut::Hang | Cut::HangWithComments | Cut::HangWithPings => {
                Ending::Hang
            }
            Cut::Reset => Ending::Reset,
            Cut::RstStream => Ending::StreamReset(self.way.code.0),
        }
    }

    /// Ends the answer here.
    fn end(&self, out: &mut Orders) {
        let status = self.grpc && self.way.cut == Cut::Clean && self.at != Some(At::BeforeTerminal);
        if status {
            out.send(Item::Event(grpc::trailers(0, "")));
        }
        match (&self.way.close, self.pulse()) {
            (Some(close), _) => close.order(out),
            (None, Some(pulse)) => out.pulse(pulse),
            (None, None) => out.end(self.ending()),
        }
    }

    /// Remembers what the end of a stream may have to say again.
    fn note(&mut self, item: &Item) {
        let said = self.way.finish.is_some() || self.way.cut == Cut::DoneButOpen;
        if let (true, Item::Event(event)) = (said, item) {
            self.so_far.add(self.dialect, self.operation, event);
        }
    }

    /// Nothing is cut here.
    fn give_up(&mut self, reason: &'static str, item: Item, out: &mut Orders) {
        out.impossible(reason);
        self.seeker = None;
        out.send(item);
    }

    /// What is sent for ever after the cut.
    fn pulse(&self) -> Option<Pulse> {
        self.way.beat.as_ref()?.pulse(self.dialect, self.framing?, None)
    }

    /// Ends the stream between two events; `left` goes before the cut in place of `item`.
    fn cut(&mut self, left: Option<Item>, item: Item, out: &mut Orders) {
        let closing = match self.closing() {
            Ok(closing) => closing,
            Err(reason) => return self.give_up(reason, item, out),
        };
        if let Some(left) = left {
            out.send(left);
        }
        closing.into_iter().for_each(|event| out.send(Item::Event(event)));
        if let Some(seeker) = &self.seeker {
            let follower = seeker.follower();
            follower.learn(false);
            out.note("reached_tokens", follower.seen.tokens as f64);
            if let Some((assumed, share)) = follower.assumed() {
                out.note("assumed_tokens", assumed as f64);
                out.note("reached_share", share);
            }
        }
        self.end(out);
    }

    /// What the stream says as if it had ended by itself.
    fn closing(&self) -> Result<Vec<Event>, &'static str> {
        if self.way.beat.is_some() && self.pulse().is_none() {
            return Err(NO_KEEP_ALIVES);
        }
        let Some(reason) = self.way.finish else {
            let open = self.way.cut == Cut::DoneButOpen && self.at != Some(At::AfterTerminal);
            let done = || self.dialect.terminal_event(self.operation, &self.so_far);
            return match open {
                true => done().map(|done| vec![done]).ok_or(NO_TERMINAL),
                false => Ok(Vec::new()),
            };
        };
        let closing = self.dialect.ending(self.operation, &self.so_far, word(reason));
        if closing.is_empty() {
            return Err("the stream has no way to say that it ended for a reason");
        }
        Ok(closing)
    }

    /// Ends the answer inside this piece, after so many of its bytes.
    fn cut_piece(&mut self, item: Item, bytes: usize, share: f64, out: &mut Orders) {
        let Some(seeker) = &self.seeker else { return out.send(item) };
        let follower = seeker.follower();
        let seen = follower.seen;
        let whole = matches!(item, Item::Message(_));
        let left = match &item {
            Item::Message(_) if self.way.beat.is_some() => Err(NO_KEEP_ALIVES),
            Item::Message(body) if self.keeps_form(seeker) => {
                let cut = match seeker.seeks_arguments() {
                    true => seeker.half_call(body, self.way.finish),
                    false => {
                        let why = self.way.finish.map_or("stop", word);
                        self.dialect.shorten(self.operation, body, share, why)
                    }
                };
                cut.map(Item::Message).ok_or("the answer has no text to cut")
            }
            Item::Event(_) if self.way.finish.is_some() || self.way.cut.needs_whole_events() => {
                Err("half an event cannot be followed by what this ending sends")
            }
            other => Ok(Item::Bytes(other.raw().slice(..bytes))),
        };
        let left = match left {
            Ok(left) => left,
            Err(reason) => return self.give_up(reason, item, out),
        };
        out.note("reached_bytes", seen.bytes as f64);
        if whole {
            out.note("reached_tokens", seen.tokens as f64);
            out.note("reached_share", share);
        }
        if !left.raw().is_empty() {
            out.send(left);
        }
        self.end(out);
    }

    /// Whether a whole answer stays well-formed: its text is cut, not its bytes.
    fn keeps_form(&self, seeker: &Seeker) -> bool {
        match self.way.cut {
            _ if self.way.finish.is_some() => true,
            Cut::Clean | Cut::NoDone => seeker.keeps_form(),
            _ => false,
        }
    }
}

/// The word by which dialects are told a reason.
fn word(reason: Reason) -> &'static str {
    match reason {
        Reason::ContentFilter => "content_filter",
        Reason::Length => "length",
        Reason::Stop => "stop",
        Reason::ToolCalls => "tool_calls",
    }
}

#[cfg(test)]
mod tests;
