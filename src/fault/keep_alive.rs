//! Streams of keep-alives: a gateway that has taken the request and says so for ever, or until the
//! model begins; comments put into data lines; events of an id alone.

use std::time::Duration;

use http::response;
use schemars::JsonSchema;
use serde::Deserialize;

use super::place::unreadable;
use super::pulse::{Beat, KeepAlive, framing_of};
use super::{Arming, Effect, Fault, Impossible, Invalid, NO_REQUESTS, Orders, Spec};
use crate::dialect::Dialect;
use crate::exchange::{Event, Grain, Item, Level};
use crate::units::Span;

/// Keep-alives in place of the answer, before it, or in its gaps.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeepAliveOnly {
    /// What is sent: `comments` (`: keep-alive`), `pings` (the provider's own, comments where it has
    /// none), `comment_as_data` (`data: : keep-alive`) or `blank_events` (`id: 0` alone). On a
    /// WebSocket ping frames, for `comments` and `pings`. Default comments.
    pub send: Option<KeepAlive>,
    /// The time between them, from 10ms to 1h. Default 5s.
    pub every: Option<Span>,
    /// What `comments` and `comment_as_data` say, at most 200 bytes. Default keep-alive.
    pub comment: Option<String>,
    /// For how long nothing else comes after the head, up to 24h. Default: for ever.
    #[serde(rename = "for")]
    pub time: Option<Span>,
    /// Whether the answer is held meanwhile. With false it comes as it comes, and keep-alives
    /// stand where it has said nothing for as long as `every`. Default true.
    pub hold: Option<bool>,
}

impl Spec for KeepAliveOnly {
    const NAME: &'static str = "keep_alive";
    const SUMMARY: &'static str =
        "a stream of keep-alives alone, which hide a dead upstream or break naive parsers";
    const EXAMPLE: &'static str = "{ send: comments, every: 5s, for: 1m }";

    fn build(&self) -> Result<Box<dyn Fault>, Invalid> {
        let kind = self.send.unwrap_or(KeepAlive::Comments);
        let Some(beat) = Beat::checked(kind, self.every, self.comment.as_deref())? else {
            return Err(Invalid::new("send", "nothing is sent; write for example `send: comments`"));
        };
        let time = self.time.map(|span| span.0);
        if time.is_some_and(|time| time.is_zero() || time > Duration::from_secs(24 * 3600)) {
            return Err(Invalid::new("for", "write a time longer than nothing and up to 24h"));
        }
        let hold = self.hold.unwrap_or(true);
        if time.is_some() && !hold {
            return Err(Invalid::new("for", "`for` says how long the answer is held; leave it out beside `hold: false`"));
        }
        Ok(Box::new(Loaded { beat, time, hold }))
    }
}

#[derive(Debug)]
struct Loaded {
    beat: Beat,
    time: Option<Duration>,
    hold: bool,
}

impl Fault for Loaded {
    fn arm(&self, arming: &mut Arming<'_>) -> Result<Box<dyn Effect>, Impossible> {
        if arming.exchange.level == Level::Connection {
            return Err(NO_REQUESTS);
        }
        Ok(Box::new(Beating {
            beat: self.beat.clone(),
            time: self.time,
            hold: self.hold,
            dialect: arming.dialect,
            between: None,
            due: None,
            sent: 0,
        }))
    }
}

struct Beating {
    beat: Beat,
    time: Option<Duration>,
    hold: bool,
    dialect: &'static dyn Dialect,
    /// What is sent in the gaps of the stream.
    between: Option<Event>,
    due: Option<Duration>,
    sent: u64,
}

impl Effect for Beating {
    fn grain(&self) -> Grain {
        if self.hold { Grain::Head } else { Grain::Event }
    }

    fn on_response(
        &mut self,
        at: Duration,
        _: Duration,
        head: &mut response::Parts,
        out: &mut Orders,
    ) {
        if let Some(reason) = unreadable(head) {
            return out.impossible(reason);
        }
        let framing = match framing_of(head) {
            Ok(framing) => framing,
            Err(Impossible(reason)) => return out.impossible(reason),
        };
        let Some(pulse) = self.beat.pulse(self.dialect, framing, self.time) else {
            return out.impossible("a WebSocket has pings alone");
        };
        head.headers.remove(http::header::CONTENT_LENGTH);
        if self.hold {
            return out.pulse(pulse);
        }
        if let Item::Event(event) = pulse.item {
            self.between = Some(event);
            self.due = Some(at + self.beat.every);
        }
    }

    fn on_item(&mut self, at: Duration, item: Item, out: &mut Orders) {
        if self.due.is_some() {
            self.due = Some(at + self.beat.every);
        }
        out.send(item);
    }

    fn due(&self) -> Option<Duration> {
        self.due
    }

    fn on_due(&mut self, at: Duration, out: &mut Orders) {
        let Some(event) = &self.between else { return };
        out.hit();
        out.send(Item::Event(event.clone()));
        self.sent += 1;
        self.due = Some(at + self.beat.every);
    }

    fn on_end(&mut self, _: Duration, out: &mut Orders) {
        self.due = None;
        match (&self.between, self.sent) {
            (None, _) => {}
            (Some(_), 0) => out.let_go("the stream was never silent for so long"),
            (Some(_), sent) => out.note("keep_alives", sent as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Played, Upstream, build, exchange, invalid, ms, play, socket};
    use super::*;

    fn kept(yaml: &str, upstream: &Upstream) -> Played {
        play(&[build::<KeepAliveOnly>(yaml).as_ref()], &exchange(1), upstream)
    }

    #[test]
    fn keep_alives_come_first_or_for_ever() {
        let stream = Upstream::stream(2, ms(1)).typed();
        let played = kept("{ every: 5s, for: 12s }", &stream);
        assert_eq!(played.text(), ": : role t0 t1 finish:stop [DONE]");
        assert_eq!((played.sent[0].0, played.time_of("role")), (ms(5010), ms(12_010)));
        assert!(played.hit());
        let played = kept("{ send: comment_as_data }", &stream);
        assert!(played.endless && played.sent.len() == 3, "{:?}", played.sent);
        assert_eq!(played.sent[0].1.raw().as_ref(), b"data: : keep-alive\n\n");
    }

    #[test]
    fn gaps_are_filled_and_nothing_is_held() {
        let mut stream = Upstream::stream(2, ms(1)).typed();
        for (time, _) in &mut stream.items[2..] {
            *time += ms(11_000);
        }
        let played = kept("{ hold: false, comment: PROCESSING }", &stream);
        assert_eq!(played.text(), "role t0 : : t1 finish:stop [DONE]");
        assert_eq!(played.sent[2].1.raw().as_ref(), b": PROCESSING\n\n");
        assert_eq!((played.sent[2].0, played.sent[3].0), (ms(5011), ms(10_011)));
        assert_eq!(played.time_of("t1"), ms(11_012), "nothing is late");
        assert_eq!(played.note("keep_alives"), Some(2.0));
        let quick = kept("{ hold: false }", &Upstream::stream(2, ms(1)).typed());
        assert_eq!(quick.let_go(), Some("the stream was never silent for so long"));
    }

    #[test]
    fn a_socket_is_pinged_and_other_answers_are_left_alone() {
        let fault = build::<KeepAliveOnly>("{ send: pings }");
        let mut upstream = Upstream::stream(1, ms(1)).typed();
        upstream.status = http::StatusCode::SWITCHING_PROTOCOLS;
        let played = play(&[fault.as_ref()], &socket(1), &upstream);
        assert!(matches!(&played.sent[0].1, Item::Event(ping) if ping.is_control()));
        let played = kept("{}", &Upstream::message(3));
        assert_eq!(played.impossible(), Some("only SSE streams and WebSockets have keep-alives"));
        assert_eq!(played.text(), "word word word");
    }

    #[test]
    fn options_that_do_not_fit_are_refused() {
        assert_eq!(invalid::<KeepAliveOnly>("{ send: none }").field, "send");
        assert_eq!(invalid::<KeepAliveOnly>("{ for: 0s }").field, "for");
        assert_eq!(invalid::<KeepAliveOnly>("{ for: 3s, hold: false }").field, "for");
    }
}
