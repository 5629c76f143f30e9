//! Writes the events of a stream in other pieces than the server did: several at once, one in many,
//! with other line ends. TCP and proxies may always do so; clients that take one read for one event,
//! or `\n\n` for the only end of an event, break.

use std::time::Duration;

use bytes::Bytes;
use http::{header, response};
use schemars::JsonSchema;
use serde::Deserialize;

use super::place::unreadable;
use super::{Arming, Effect, Fault, Impossible, Invalid, NO_REQUESTS, Orders, Spec};
use crate::dialect::Dialect;
use crate::dice::Dice;
use crate::exchange::{Event, Framing, Grain, Item, Level, Operation, Transport};
use crate::units::{Count, Span};

/// No more bytes than these are held for one write.
const LARGEST: usize = 1 << 20;

/// Events that are written in other pieces.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Regroup {
    /// How many events go out in one write: `3`, or `2..5` drawn evenly for each write. From 1 to 1000,
    /// and up to 1 MiB. Not on WebSockets. Default 1.
    pub merge: Option<Count>,
    /// In how many pieces a write is cut, at places drawn anywhere in it: `2`, or `2..5` drawn
    /// evenly. From 2 to 1000. Default: it stays whole.
    pub split: Option<Count>,
    /// The time between two pieces, up to 1m; with 0s the network may put them together again. Default
    /// 5ms.
    pub gap: Option<Span>,
    /// How the lines of SSE events and NDJSON end: `crlf`, or for SSE `cr`. Default: as they come.
    pub line_ends: Option<LineEnds>,
}

/// How lines end. The SSE standard allows each.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LineEnds {
    Cr,
    Crlf,
    Lf,
}

impl LineEnds {
    fn bytes(self) -> &'static [u8] {
        match self {
            Self::Cr => b"\r",
            Self::Crlf => b"\r\n",
            Self::Lf => b"\n",
        }
    }
}

impl Spec for Regroup {
    const NAME: &'static str = "regroup";
    const SUMMARY: &'static str =
        "events that share a write or come in several, or whose lines end otherwise";
    const EXAMPLE: &'static str = "{ split: 2..5, gap: 5ms }";

    fn build(&self) -> Result<Box<dyn Fault>, Invalid> {
        let one = Count { low: 1, high: 1 };
        let merge = self.merge.unwrap_or(one);
        if merge.low == 0 || merge.high > 1000 {
            return Err(Invalid::new("merge", "write a number of events from 1 to 1000"));
        }
        if self.split.is_some_and(|split| split.low < 2 || split.high > 1000) {
            return Err(Invalid::new("split", "write a number of pieces from 2 to 1000"));
        }
        if self.gap.is_some() && self.split.is_none() {
            return Err(Invalid::new("gap", "`gap` needs `split`"));
        }
        let gap = self.gap.map_or(Duration::from_millis(5), |span| span.0);
        if gap > Duration::from_secs(60) {
            return Err(Invalid::new("gap", "the time between pieces is 1m at most"));
        }
        if merge == one && self.split.is_none() && self.line_ends.is_none() {
            return Err(Invalid::new(
                "",
                "nothing is regrouped; write for example `merge: 3`, `split: 2..5` or `line_ends: crlf`",
            ));
        }
        Ok(Box::new(Loaded { merge, split: self.split, gap, line_ends: self.line_ends }))
    }
}

#[derive(Clone, Copy, Debug)]
struct Loaded {
    merge: Count,
    split: Option<Count>,
    gap: Duration,
    line_ends: Option<LineEnds>,
}

impl Fault for Loaded {
    fn arm(&self, arming: &mut Arming<'_>) -> Result<Box<dyn Effect>, Impossible> {
        if arming.exchange.level == Level::Connection {
            return Err(NO_REQUESTS);
        }
        let socket = arming.exchange.transport == Transport::WebSocket;
        if socket && (self.split.is_none() || self.merge.high > 1) {
            return Err(Impossible("messages of a WebSocket keep their frames; `split` cuts those"));
        }
        Ok(Box::new(Regrouping {
            options: *self,
            dialect: arming.dialect,
            operation: arming.exchange.facts.operation,
            dice: arming.draw.fork("writes"),
            off: false,
            held: Vec::new(),
            bytes: 0,
            events: 0,
            writes: 0,
            changed: 0,
        }))
    }
}

struct Regrouping {
    options: Loaded,
    dialect: &'static dyn Dialect,
    operation: Operation,
    dice: Dice,
    off: bool,
    held: Vec<Item>,
    bytes: usize,
    /// Events that are held, comments not counted.
    events: u64,
    writes: u64,
    changed: u64,
}

impl Effect for Regrouping {
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
        } else if self.options.line_ends.is_some() {
            head.headers.remove(header::CONTENT_LENGTH);
        }
    }

    fn on_item(&mut self, _: Duration, item: Item, out: &mut Orders) {
        if self.off {
            return out.send(item);
        }
        let (item, last) = match item {
            Item::Event(event) => {
                let last = self.dialect.read_event(self.operation, &event).done;
                self.events += u64::from(!event.is_control());
                (Item::Event(self.with_line_ends(event)), last)
            }
            Item::Message(_) if self.options.split.is_none() => {
                out.impossible("the answer is no stream");
                self.off = true;
                return out.send(item);
            }
            other => (other, true),
        };
        self.bytes += item.raw().len();
        self.held.push(item);
        let Count { low, high } = self.options.merge;
        let size = self.dice.fork_number(self.writes).fork("merge").whole(low, high);
        if last || self.events >= size || self.bytes >= LARGEST {
            self.write(out);
        }
    }

    fn on_stop(&mut self, _: Duration, out: &mut Orders) {
        self.write(out);
    }

    fn on_end(&mut self, _: Duration, out: &mut Orders) {
        self.write(out);
        if self.off {
            return;
        }
        match self.changed {
            0 => out.impossible("the answer had nothing to regroup"),
            changed => out.note("regrouped", changed as f64),
        }
    }
}

impl Regrouping {
    fn with_line_ends(&mut self, event: Event) -> Event {
        let Some(ends) = self.options.line_ends else { return event };
        let raw = match (event.framing, ends) {
            (Framing::Sse, _) | (Framing::Ndjson, LineEnds::Crlf | LineEnds::Lf) => {
                ended(&event.raw, ends.bytes())
            }
            _ => return event,
        };
        self.changed += u64::from(raw != event.raw);
        Event { raw, ..event }
    }

    fn write(&mut self, out: &mut Orders) {
        let held = std::mem::take(&mut self.held);
        (self.bytes, self.events) = (0, 0);
        let dice = self.dice.fork_number(self.writes);
        self.writes += 1;
        if held.len() > 1 {
            self.changed += 1;
        }
        // A message that an effect has made is framed when it is written: it cannot be cut here.
        match self.options.split.filter(|_| held.iter().all(|item| !item.raw().is_empty())) {
            Some(split) if !held.is_empty() => self.split(split, &held, &dice, out),
            _ => {
                for (index, item) in held.into_iter().enumerate() {
                    if index > 0 {
                        out.join();
                    }
                    out.send(item);
                }
            }
        }
        if self.changed > 0 {
            out.hit();
        }
    }

    fn split(&mut self, split: Count, held: &[Item], dice: &Dice, out: &mut Orders) {
        let all: Vec<u8> = held.iter().flat_map(|item| item.raw().iter().copied()).collect();
        let mut all = Bytes::from(all);
        let pieces = dice.fork("split").whole(split.low, split.high);
        let mut places = dice.fork("places");
        let mut cuts: Vec<usize> = (1..pieces.min(all.len() as u64))
            .map(|_| places.whole(1, all.len() as u64 - 1) as usize)
            .collect();
        cuts.sort_unstable();
        cuts.dedup();
        let mut from = 0;
        for cut in cuts {
            out.send(Item::Bytes(all.split_to(cut - from)));
            out.wait(self.options.gap);
            from = cut;
            self.changed += 1;
        }
        out.send(Item::Bytes(all));
    }
}

/// The same lines with other ends.
fn ended(raw: &[u8], end: &[u8]) -> Bytes {
    let mut lines = Vec::with_capacity(raw.len() + 8);
    let mut rest = raw;
    while let Some(at) = memchr::memchr2(b'\r', b'\n', rest) {
        lines.extend_from_slice(&rest[..at]);
        lines.extend_from_slice(end);
        let both = rest[at..].starts_with(b"\r\n");
        rest = &rest[at + 1 + usize::from(both)..];
    }
    lines.extend_from_slice(rest);
    lines.into()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Played, Upstream, arm, build, exchange, invalid, ms, play, socket};
    use super::*;

    fn regrouped(yaml: &str, upstream: &Upstream) -> Played {
        play(&[build::<Regroup>(yaml).as_ref()], &exchange(1), upstream)
    }

    fn raw(played: &Played) -> Vec<u8> {
        played.sent.iter().flat_map(|(_, item)| item.raw().to_vec()).collect()
    }

    #[test]
    fn events_share_a_write_and_the_last_waits_for_none() {
        let stream = Upstream::stream(4, ms(10));
        let played = regrouped("{ merge: 3 }", &stream);
        assert_eq!(played.text(), "role t0 t1 t2 t3 finish:stop [DONE]");
        assert_eq!(played.joins, [1, 2, 4, 5]);
        assert_eq!((played.time_of("role"), played.time_of("t2")), (ms(30), ms(60)));
        assert_eq!((played.hit(), played.note("regrouped")), (true, Some(2.0)));
    }

    #[test]
    fn an_event_comes_in_pieces() {
        let stream = Upstream::stream(4, ms(100));
        let played = regrouped("{ split: 3..4, gap: 7ms }", &stream);
        let came: Vec<u8> =
            stream.items.iter().flat_map(|(_, item)| item.raw().to_vec()).collect();
        assert_eq!(raw(&played), came);
        assert!(played.sent.len() > 7 * 2, "{:?}", played.sent);
        assert!(played.sent[..2].windows(2).all(|two| two[1].0 - two[0].0 == ms(7)));
        let whole = regrouped("{ split: 4 }", &Upstream::message(9));
        assert!(whole.sent.len() > 2 && whole.text().replace("  ", " ").len() > 40);
    }

    #[test]
    fn lines_end_as_asked() {
        assert_eq!(ended(b"event: a\ndata: x\r\n\r\n", b"\r\n"), "event: a\r\ndata: x\r\n\r\n");
        let stream = Upstream::stream(1, ms(1));
        let played = regrouped("{ line_ends: crlf }", &stream);
        assert_eq!(played.sent[1].1.raw().as_ref(), b"data: t0\r\n\r\n");
        assert!(played.hit());
        let played = regrouped("{ line_ends: cr }", &stream);
        assert_eq!(played.sent[1].1.raw().as_ref(), b"data: t0\r\r");
        let same = regrouped("{ line_ends: lf }", &stream);
        assert_eq!(same.impossible(), Some("the answer had nothing to regroup"));
    }

    #[test]
    fn frames_of_a_socket_are_split_and_not_merged() {
        assert!(arm(build::<Regroup>("{ merge: 2 }").as_ref(), ms(0), &socket(1)).is_err());
        assert!(arm(build::<Regroup>("{ split: 2 }").as_ref(), ms(0), &socket(1)).is_ok());
    }

    #[test]
    fn options_that_do_not_fit_are_refused() {
        for (yaml, field) in [
            ("{}", ""),
            ("{ merge: 1 }", ""),
            ("{ merge: 0..2 }", "merge"),
            ("{ split: 1 }", "split"),
            ("{ merge: 2, gap: 3ms }", "gap"),
            ("{ split: 2, gap: 2m }", "gap"),
        ] {
            assert_eq!(invalid::<Regroup>(yaml).field, field, "{yaml}");
        }
    }

    proptest::proptest! {
        #[test]
        fn the_bytes_stay_and_the_seed_decides(
            key in 0u64..1000, merge in 1u64..6, split in 2u64..9, tokens in 0usize..12,
        ) {
            let fault = build::<Regroup>(&format!("{{ merge: 1..{merge}, split: 2..{split} }}"));
            let stream = Upstream::stream(tokens, ms(3));
            let played = play(&[fault.as_ref()], &exchange(key), &stream);
            let came: Vec<u8> =
                stream.items.iter().flat_map(|(_, item)| item.raw().to_vec()).collect();
            proptest::prop_assert_eq!(raw(&played), came);
            let again = play(&[fault.as_ref()], &exchange(key), &stream);
            proptest::prop_assert_eq!(again.sent, played.sent);
        }
    }
}
