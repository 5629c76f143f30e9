//! Lets events of a stream vanish: a lossy relay, a client library that skips what it cannot read,
//! a message bus between the model and the socket.

use std::time::Duration;

use http::response;
use schemars::JsonSchema;
use serde::Deserialize;

use super::choice::{Choice, Chooser};
use super::{Arming, Direction, Effect, Fault, Impossible, Invalid, Orders, Place, Spec};
use crate::exchange::{Grain, Item};
use crate::units::Percent;

/// Events of a stream that vanish: SSE events, lines, gRPC messages, messages of a WebSocket.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DropEvents {
    /// How many of the events vanish. Each is drawn for itself, with the same seed always the same
    /// ones. Default 100%.
    pub percent: Option<Percent>,
    /// From where on: `20 tokens`, `3 events`. Default: from the start.
    pub after: Option<Place>,
    /// How many vanish at most, 1 or more. Default: no limit.
    pub at_most: Option<u64>,
    /// Whether the event that says that the answer is over may vanish too. Default false.
    pub terminal: Option<bool>,
    /// On a WebSocket, which way the messages go: down (to the app), up or both. Default down.
    pub direction: Option<Direction>,
}

impl Spec for DropEvents {
    const NAME: &'static str = "drop";
    const SUMMARY: &'static str = "events of a stream or messages of a socket that never arrive";
    const EXAMPLE: &'static str = "{ percent: 5%, after: 3 events }";

    fn build(&self) -> Result<Box<dyn Fault>, Invalid> {
        let Self { percent, after, at_most, terminal, direction } = *self;
        let choice = Choice::checked(percent, after, at_most, terminal, direction)?;
        Ok(Box::new(Loaded { choice }))
    }
}

#[derive(Debug)]
struct Loaded {
    choice: Choice,
}

impl Fault for Loaded {
    fn arm(&self, arming: &mut Arming<'_>) -> Result<Box<dyn Effect>, Impossible> {
        let [down, up] = self.choice.arm(arming)?;
        Ok(Box::new(Dropping { down, up }))
    }
}

struct Dropping {
    down: Chooser,
    up: Chooser,
}

impl Effect for Dropping {
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
        self.down.head(head, out);
        self.up.head(head, out);
    }

    fn on_item(&mut self, _: Duration, item: Item, out: &mut Orders) {
        drop_or_send(&mut self.down, item, out);
    }

    fn on_upload(&mut self, _: Duration, item: Item, out: &mut Orders) {
        drop_or_send(&mut self.up, item, out);
    }

    fn on_end(&mut self, _: Duration, out: &mut Orders) {
        self.down.end("dropped", out);
        self.up.end("dropped_up", out);
    }
}

fn drop_or_send(chooser: &mut Chooser, item: Item, out: &mut Orders) {
    match chooser.choose(&item, out) {
        Some(_) => out.hit(),
        None => out.send(item),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{
        Played, Upstream, arm, build, exchange, invalid, ms, play, socket,
    };
    use super::*;
    use crate::exchange::Event;

    fn dropped(yaml: &str, upstream: &Upstream) -> Played {
        play(&[build::<DropEvents>(yaml).as_ref()], &exchange(1), upstream)
    }

    #[test]
    fn all_but_the_ends_vanish() {
        let stream = Upstream::stream(4, ms(1));
        let played = dropped("{}", &stream);
        assert_eq!((played.text().as_str(), played.hit()), ("finish:stop [DONE]", true));
        assert_eq!(played.note("dropped"), Some(5.0));
        let played = dropped("{ terminal: true }", &stream);
        assert_eq!(played.text(), "");
        let played = dropped("{ after: 2 tokens, at_most: 1 }", &stream);
        assert_eq!(played.text(), "role t0 t1 t3 finish:stop [DONE]");
    }

    #[test]
    fn a_share_is_drawn_event_by_event() {
        let stream = Upstream::stream(4000, ms(1));
        let played = dropped("{ percent: 25% }", &stream);
        let left = played.sent.len();
        assert!((2880..3130).contains(&left), "{left} of 4003");
        // Another place moves no draw.
        let later = dropped("{ percent: 25%, after: 100 events }", &stream).text();
        let from = played.text();
        let (_, tail) = from.split_once(" t200 ").unwrap_or_default();
        assert!(!tail.is_empty() && later.ends_with(tail));
    }

    #[test]
    fn a_direction_is_left_alone_that_is_not_named() {
        for (direction, down, up) in [("down", 0, 1), ("up", 1, 0), ("both", 0, 0)] {
            let fault = build::<DropEvents>(&format!("{{ direction: {direction} }}"));
            let mut effect = arm(fault.as_ref(), ms(0), &socket(1)).unwrap().0;
            let mut sent = [0, 0];
            for (way, count) in sent.iter_mut().enumerate() {
                let mut out = Orders::default();
                let item = Item::Event(Event::socket("text", "t1"));
                match way {
                    0 => effect.on_item(ms(0), item, &mut out),
                    _ => effect.on_upload(ms(0), item, &mut out),
                }
                *count = out.list.len();
            }
            assert_eq!(sent, [down, up], "{direction}");
        }
        let fault = build::<DropEvents>("{ direction: up }");
        assert!(arm(fault.as_ref(), ms(0), &exchange(1)).is_err(), "an answer over HTTP");
    }

    #[test]
    fn what_is_not_dropped_says_why() {
        assert_eq!(
            dropped("{}", &Upstream::message(5)).impossible(),
            Some("the answer is no stream")
        );
        let late = dropped("{ after: 9 tokens }", &Upstream::stream(5, ms(1)));
        assert_eq!(late.impossible(), Some("the stream ended before the place"));
        let rare = dropped("{ percent: 0.001% }", &Upstream::stream(5, ms(1)));
        assert_eq!((rare.impossible(), rare.let_go()), (None, Some("no event was drawn")));
    }

    #[test]
    fn options_that_do_not_fit_are_refused() {
        assert_eq!(invalid::<DropEvents>("{ percent: 0% }").field, "percent");
        assert_eq!(invalid::<DropEvents>("{ at_most: 0 }").field, "at_most");
        assert_eq!(invalid::<DropEvents>("{ after: 4kB }").field, "after");
    }
}
