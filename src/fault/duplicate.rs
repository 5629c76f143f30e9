//! Sends events of a stream more than once: a relay that repeats after a retry, a server whose first
//! token comes twice.

use std::time::Duration;

use http::response;
use schemars::JsonSchema;
use serde::Deserialize;

use super::choice::{Choice, Chooser};
use super::{Arming, Direction, Effect, Fault, Impossible, Invalid, Orders, Place, Spec};
use crate::exchange::{Grain, Item};
use crate::units::Percent;

/// Events of a stream that come more than once, each right behind itself: SSE events, lines, gRPC
/// messages, messages of a WebSocket.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Duplicate {
    /// Which events: `events`, all of them, or `tokens`, those with content alone; with `at_most: 1`
    /// the first token. Default events.
    pub what: Option<What>,
    /// How often each comes again, from 1 to 100. Default 1.
    pub times: Option<u64>,
    /// How many of the events are repeated. Each is drawn for itself, with the same seed always the
    /// same ones. Default 100%.
    pub percent: Option<Percent>,
    /// From where on: `20 tokens`, `3 events`. Default: from the start.
    pub after: Option<Place>,
    /// How many are repeated at most, 1 or more. Default: no limit.
    pub at_most: Option<u64>,
    /// Whether the event that says that the answer is over may be repeated too. Default false.
    pub terminal: Option<bool>,
    /// On a WebSocket, which way the messages go: down (to the app), up or both. Default down.
    pub direction: Option<Direction>,
}

/// Which events are repeated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// All of them.
    #[default]
    Events,
    /// Those that carry content.
    Tokens,
}

impl Spec for Duplicate {
    const NAME: &'static str = "duplicate";
    const SUMMARY: &'static str = "events of a stream or messages of a socket that come more than once";
    const EXAMPLE: &'static str = "{ what: tokens, at_most: 1 }";

    fn build(&self) -> Result<Box<dyn Fault>, Invalid> {
        let times = self.times.unwrap_or(1);
        if !(1..=100).contains(&times) {
            return Err(Invalid::new("times", "write a number from 1 to 100"));
        }
        let Self { percent, after, at_most, terminal, direction, .. } = *self;
        let choice = Choice::checked(percent, after, at_most, terminal, direction)?;
        let tokens = self.what == Some(What::Tokens);
        Ok(Box::new(Loaded { choice, times, tokens }))
    }
}

#[derive(Debug)]
struct Loaded {
    choice: Choice,
    times: u64,
    tokens: bool,
}

impl Fault for Loaded {
    fn arm(&self, arming: &mut Arming<'_>) -> Result<Box<dyn Effect>, Impossible> {
        let [down, up] = self.choice.arm(arming)?.map(|chooser| match self.tokens {
            true => chooser.of_content(),
            false => chooser,
        });
        Ok(Box::new(Duplicating { times: self.times, down, up }))
    }
}

struct Duplicating {
    times: u64,
    down: Chooser,
    up: Chooser,
}

impl Effect for Duplicating {
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
        if self.down.is_on() {
            head.headers.remove(http::header::CONTENT_LENGTH);
        }
    }

    fn on_item(&mut self, _: Duration, item: Item, out: &mut Orders) {
        send(&mut self.down, self.times, item, out);
    }

    fn on_upload(&mut self, _: Duration, item: Item, out: &mut Orders) {
        send(&mut self.up, self.times, item, out);
    }

    fn on_end(&mut self, _: Duration, out: &mut Orders) {
        self.down.end("duplicated", out);
        self.up.end("duplicated_up", out);
    }
}

fn send(chooser: &mut Chooser, times: u64, item: Item, out: &mut Orders) {
    if chooser.choose(&item, out).is_some() {
        out.hit();
        for _ in 0..times {
            out.send(item.clone());
        }
    }
    out.send(item);
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Played, Upstream, build, exchange, invalid, ms, play};
    use super::*;

    fn doubled(yaml: &str) -> Played {
        let stream = Upstream::stream(3, ms(1));
        play(&[build::<Duplicate>(yaml).as_ref()], &exchange(1), &stream)
    }

    #[test]
    fn events_come_again_at_once() {
        assert_eq!(doubled("{}").text(), "role role t0 t0 t1 t1 t2 t2 finish:stop [DONE]");
        let first = doubled("{ what: tokens, at_most: 1, times: 2 }");
        assert_eq!(first.text(), "role t0 t0 t0 t1 t2 finish:stop [DONE]");
        assert_eq!((first.note("duplicated"), first.hit()), (Some(1.0), true));
        let later = doubled("{ what: tokens, at_most: 1, after: 2 events }");
        assert_eq!(later.text(), "role t0 t1 t1 t2 finish:stop [DONE]");
        assert_eq!(doubled("{ terminal: true, after: 4 events }").text(), "role t0 t1 t2 finish:stop finish:stop [DONE] [DONE]");
    }

    #[test]
    fn options_that_do_not_fit_are_refused() {
        assert_eq!(invalid::<Duplicate>("{ times: 0 }").field, "times");
        assert_eq!(invalid::<Duplicate>("{ after: 4kB }").field, "after");
    }
}
