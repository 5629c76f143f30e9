//! Collects a stream and delivers it in bursts: a proxy that buffers (nginx without
//! `proxy_buffering off`, a CDN, a compressing middlebox). The first token comes late, and the gaps
//! between tokens vanish.

use std::time::Duration;

use http::response;
use schemars::JsonSchema;
use serde::Deserialize;

use super::place::unreadable;
use super::{Arming, Effect, Fault, Impossible, Invalid, NO_REQUESTS, Orders, Place, Spec};
use crate::dialect::Dialect;
use crate::exchange::{Grain, Item, Level, Operation};
use crate::units::Span;

/// The largest burst: what a middlebox has room for, and what is held here at most.
const LARGEST: usize = 1 << 20;

/// A stream that comes in bursts.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Burst {
    /// How much is collected before it goes on: `20 tokens`, `10 events` or `4kB`, up to 1 MiB. Default:
    /// no limit but 1 MiB.
    pub collect: Option<Place>,
    /// For how long it is collected at most, from the first piece on; from 1ms to 1h. Default: until
    /// `collect` is reached, or the stream ends.
    pub every: Option<Span>,
}

impl Spec for Burst {
    const NAME: &'static str = "burst";
    const SUMMARY: &'static str = "tokens that a buffering proxy collects and delivers at once";
    const EXAMPLE: &'static str = "{ collect: 4kB, every: 1s }";

    fn build(&self) -> Result<Box<dyn Fault>, Invalid> {
        let every = self.every.map(|span| span.0);
        let allowed = Duration::from_millis(1)..=Duration::from_secs(3600);
        if every.is_some_and(|every| !allowed.contains(&every)) {
            return Err(Invalid::new("every", "bursts come every 1ms at most, every 1h at least"));
        }
        match self.collect {
            None if every.is_none() => Err(Invalid::new(
                "",
                "nothing says how much is collected; write for example `every: 1s` or `collect: 20 tokens`",
            )),
            Some(place) if place.is_share() => Err(Invalid::new(
                "collect",
                format!("how much is {place} of a stream that is still coming? write for example 20 tokens or 4kB"),
            )),
            Some(Place::Bytes(0) | Place::Events(0) | Place::Tokens(0)) => {
                Err(Invalid::new("collect", "nothing is collected; write 1 or more"))
            }
            Some(Place::Bytes(bytes)) if bytes > LARGEST as u64 => {
                Err(Invalid::new("collect", "a burst has at most 1MiB"))
            }
            collect => Ok(Box::new(Loaded { collect, every })),
        }
    }
}

#[derive(Debug)]
struct Loaded {
    collect: Option<Place>,
    every: Option<Duration>,
}

impl Fault for Loaded {
    fn arm(&self, arming: &mut Arming<'_>) -> Result<Box<dyn Effect>, Impossible> {
        if arming.exchange.level == Level::Connection {
            return Err(NO_REQUESTS);
        }
        Ok(Box::new(Bursting {
            collect: self.collect,
            every: self.every,
            dialect: arming.dialect,
            operation: arming.exchange.facts.operation,
            off: false,
            held: Vec::new(),
            bytes: 0,
            counted: 0,
            due: None,
            bursts: 0,
            largest: 0,
        }))
    }
}

struct Bursting {
    collect: Option<Place>,
    every: Option<Duration>,
    dialect: &'static dyn Dialect,
    operation: Operation,
    off: bool,
    held: Vec<Item>,
    bytes: usize,
    /// Tokens or events that are held, whichever `collect` counts.
    counted: u64,
    due: Option<Duration>,
    bursts: u64,
    largest: u64,
}

impl Effect for Bursting {
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

    fn on_item(&mut self, at: Duration, item: Item, out: &mut Orders) {
        if self.off {
            return out.send(item);
        }
        if matches!(item, Item::Message(_)) {
            out.impossible("the answer is no stream");
            self.off = true;
            return out.send(item);
        }
        if self.due.is_some_and(|due| due <= at) {
            self.deliver(out);
        }
        if self.held.is_empty() {
            self.due = self.every.map(|every| at + every);
        }
        self.bytes += item.raw().len();
        self.counted += self.count(&item);
        self.held.push(item);
        let full = match self.collect {
            Some(Place::Bytes(bytes)) => self.bytes as u64 >= bytes,
            Some(Place::Events(count) | Place::Tokens(count)) => self.counted >= count,
            _ => false,
        };
        if full || self.bytes >= LARGEST {
            self.deliver(out);
        }
    }

    fn due(&self) -> Option<Duration> {
        self.due
    }

    fn on_due(&mut self, _: Duration, out: &mut Orders) {
        self.deliver(out);
    }

    fn on_stop(&mut self, _: Duration, out: &mut Orders) {
        self.deliver(out);
    }

    fn on_end(&mut self, _: Duration, out: &mut Orders) {
        self.deliver(out);
        if self.off {
            return;
        }
        out.note("bursts", self.bursts as f64);
        out.note("largest_burst", self.largest as f64);
        if self.bursts == 0 {
            out.impossible("the stream had no events");
        }
    }
}

impl Bursting {
    fn count(&self, item: &Item) -> u64 {
        match (self.collect, item) {
            (Some(Place::Events(_)), Item::Event(event)) => u64::from(!event.is_control()),
            (Some(Place::Tokens(_)), Item::Event(event)) => {
                self.dialect.read_event(self.operation, event).tokens.into()
            }
            _ => 0,
        }
    }

    /// Sends what is held, in one write.
    fn deliver(&mut self, out: &mut Orders) {
        self.due = None;
        if self.held.is_empty() {
            return;
        }
        self.bursts += 1;
        self.largest = self.largest.max(self.held.len() as u64);
        if self.held.len() > 1 || self.every.is_some() {
            out.hit();
        }
        for (index, item) in self.held.drain(..).enumerate() {
            if index > 0 {
                out.join();
            }
            out.send(item);
        }
        (self.bytes, self.counted) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Played, Upstream, build, exchange, invalid, ms, play};
    use super::*;

    fn collected(yaml: &str, upstream: &Upstream) -> Played {
        play(&[build::<Burst>(yaml).as_ref()], &exchange(1), upstream)
    }

    fn times(played: &Played) -> Vec<u128> {
        played.sent.iter().map(|(time, _)| time.as_millis()).collect()
    }

    #[test]
    fn so_many_are_collected_and_come_at_once() {
        let stream = Upstream::stream(5, ms(10));
        let played = collected("{ collect: 2 tokens }", &stream);
        assert_eq!(played.text(), "role t0 t1 t2 t3 t4 finish:stop [DONE]");
        assert_eq!(times(&played), [30, 30, 30, 50, 50, 80, 80, 80]);
        assert_eq!(played.joins, [1, 2, 4, 6, 7]);
        assert_eq!((played.note("bursts"), played.note("largest_burst")), (Some(3.0), Some(3.0)));
        // `data: role` has 12 bytes with its end, a token has 10.
        let bytes = collected("{ collect: 25B }", &stream);
        assert_eq!(times(&bytes)[..6], [30, 30, 30, 60, 60, 60]);
    }

    #[test]
    fn time_delivers_what_is_there_though_nothing_comes() {
        let mut stream = Upstream::stream(3, ms(10));
        for (time, _) in &mut stream.items[3..] {
            *time += ms(5000);
        }
        let played = collected("{ every: 1s }", &stream);
        assert_eq!(times(&played), [1010, 1010, 1010, 5060, 5060, 5060]);
        assert!(played.hit());
    }

    #[test]
    fn a_pause_before_it_does_not_hold_the_burst() {
        let stall = build::<super::super::Stall>("{ after: 2 tokens, pause: 30s }");
        let burst = build::<Burst>("{ every: 1s }");
        let stream = Upstream::stream(3, ms(10));
        let played = play(&[stall.as_ref(), burst.as_ref()], &exchange(1), &stream);
        assert_eq!(times(&played)[..3], [1010, 1010, 1010]);
        assert!(times(&played)[3] >= 30_000);
    }

    #[test]
    fn what_is_held_goes_before_an_early_end() {
        let cut = build::<super::super::Truncate>("{ after: 2 tokens, ending: reset }");
        let burst = build::<Burst>("{ collect: 64kB }");
        let stream = Upstream::stream(5, ms(10));
        let played = play(&[cut.as_ref(), burst.as_ref()], &exchange(1), &stream);
        assert_eq!(played.text(), "role t0 t1");
    }

    #[test]
    fn options_that_do_not_fit_are_refused() {
        assert_eq!(invalid::<Burst>("{}").field, "");
        assert_eq!(invalid::<Burst>("{ collect: 30% }").field, "collect");
        assert_eq!(invalid::<Burst>("{ collect: 2MiB }").field, "collect");
        assert_eq!(invalid::<Burst>("{ every: 0s }").field, "every");
    }
}
