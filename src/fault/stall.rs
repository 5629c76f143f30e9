//! Stops an answer in the middle and goes on later, silent or with keep-alive comments: gaps of
//! 54 to 138 s were seen in real streams, and keep-alives that hide a dead upstream for ever.

use std::sync::Arc;
use std::time::Duration;

use http::response;
use schemars::JsonSchema;
use serde::Deserialize;

use super::lengths::Lengths;
use super::place::{Follower, Found, NO_PLACE, unreadable};
use super::{Arming, Effect, Fault, Impossible, Invalid, Orders, Place, Spec};
use crate::exchange::{Event, Framing, Grain, Item, Level};
use crate::units::Span;

/// A pause in the middle of an answer, which then goes on.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stall {
    /// Where to pause, as in `truncate`: `90 tokens`, `12 events`, `20 rows`, `4kB`, `30% tokens`,
    /// `30%`. Default: after the first token of a stream, before the body of a whole answer; on raw
    /// TCP before the first byte that comes back.
    pub after: Option<Place>,
    /// For how long, up to 1h. Default 30s.
    pub pause: Option<Span>,
    /// What is sent meanwhile: `none`, or `comments` (`: keep-alive`), which reset the idle timers
    /// of clients. Only SSE streams have comments; other answers pause in silence. Default none.
    pub keep_alive: Option<KeepAlive>,
    /// The time between keep-alives, from 10ms. Default 5s.
    pub every: Option<Span>,
}

/// What is sent during a pause.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeepAlive {
    /// SSE comments, which clients ignore but whose bytes they see.
    Comments,
    /// Nothing.
    #[default]
    None,
}

impl Spec for Stall {
    const NAME: &'static str = "stall";
    const SUMMARY: &'static str = "an answer that stops in the middle and goes on much later";
    const EXAMPLE: &'static str = "{ after: 20 tokens, pause: 30s }";

    fn build(&self) -> Result<Box<dyn Fault>, Invalid> {
        let pause = self.pause.map_or(Duration::from_secs(30), |span| span.0);
        if pause.is_zero() || pause > Duration::from_secs(3600) {
            return Err(Invalid::new("pause", "a pause is longer than nothing and at most 1h"));
        }
        let comments = self.keep_alive == Some(KeepAlive::Comments);
        if self.every.is_some() && !comments {
            return Err(Invalid::new("every", "`every` needs `keep_alive: comments`"));
        }
        let every = self.every.map_or(Duration::from_secs(5), |span| span.0);
        if every < Duration::from_millis(10) {
            return Err(Invalid::new("every", "keep-alives come at most every 10ms"));
        }
        Ok(Box::new(Loaded {
            after: self.after,
            pause: Pause { time: pause, every: comments.then_some(every) },
            lengths: Arc::default(),
        }))
    }
}

#[derive(Debug)]
struct Loaded {
    after: Option<Place>,
    pause: Pause,
    lengths: Arc<Lengths>,
}

/// How long, and what is sent meanwhile.
#[derive(Clone, Copy, Debug)]
struct Pause {
    time: Duration,
    every: Option<Duration>,
}

impl Fault for Loaded {
    fn needs_request_body(&self) -> bool {
        self.after.is_some_and(Place::is_share)
    }

    fn arm(&self, arming: &mut Arming<'_>) -> Result<Box<dyn Effect>, Impossible> {
        let raw = arming.exchange.level == Level::Connection;
        let place = match self.after {
            Some(place) if raw && !place.is_bytes() => return Err(NO_PLACE),
            Some(place) => place,
            None if raw => Place::Bytes(0),
            None => Place::Tokens(1),
        };
        Ok(Box::new(Stalling {
            pause: self.pause,
            grain: if place.is_bytes() { Grain::Bytes } else { Grain::Event },
            whole_at_start: self.after.is_none(),
            follower: Some(Follower::new(place, &self.lengths, arming)),
            done: false,
        }))
    }
}

struct Stalling {
    pause: Pause,
    grain: Grain,
    /// A whole answer is held before its first byte, since no place in it was named.
    whole_at_start: bool,
    /// None when there is nothing to look for.
    follower: Option<Follower>,
    /// The pause is over.
    done: bool,
}

impl Effect for Stalling {
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
        }
    }

    fn on_item(&mut self, _: Duration, item: Item, out: &mut Orders) {
        let Some(follower) = &mut self.follower else { return out.send(item) };
        if self.done {
            // Followed on to its end, for the lengths of answers to come.
            follower.count_on(&item);
            return out.send(item);
        }
        if self.whole_at_start && matches!(item, Item::Message(_)) {
            self.pause.hold(None, out);
            self.done = true;
            return out.send(item);
        }
        match follower.step(&item) {
            Found::Later => out.send(item),
            Found::Never(reason) => {
                out.impossible(reason);
                self.follower = None;
                out.send(item);
            }
            Found::Before => {
                let framing = match &item {
                    Item::Event(event) => Some(event.framing),
                    _ => None,
                };
                self.pause.hold(framing, out);
                self.done = true;
                follower.count_on(&item);
                out.send(item);
            }
            Found::Within { bytes, .. } => {
                let raw = item.raw();
                if bytes > 0 {
                    out.send(Item::Bytes(raw.slice(..bytes)));
                }
                self.pause.hold(None, out);
                self.done = true;
                out.send(Item::Bytes(raw.slice(bytes..)));
            }
        }
    }

    fn on_end(&mut self, _: Duration, out: &mut Orders) {
        if let Some(follower) = &self.follower {
            follower.learn(true);
            if !self.done {
                out.impossible("the answer ended before the pause");
            }
        }
    }
}

impl Pause {
    /// Orders the pause, with comments where the stream has them.
    fn hold(self, framing: Option<Framing>, out: &mut Orders) {
        let mut left = self.time;
        if framing == Some(Framing::Sse)
            && let Some(every) = self.every
        {
            while left > every {
                out.wait(every);
                out.send(Item::Event(Event::comment("keep-alive")));
                left -= every;
            }
        }
        out.wait(left);
        out.note("paused", self.time.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Played, Upstream, build, exchange, invalid, ms, play};
    use super::*;

    fn stalled(yaml: &str, upstream: &Upstream) -> Played {
        play(&[build::<Stall>(yaml).as_ref()], &exchange(1), upstream)
    }

    #[test]
    fn a_stream_pauses_once_and_goes_on_whole() {
        let played = stalled("{ after: 2 tokens, pause: 30s }", &Upstream::stream(5, ms(1)));
        assert_eq!(played.text(), "role t0 t1 t2 t3 t4 finish:stop [DONE]");
        assert_eq!(played.time_of("t1"), ms(12));
        assert_eq!(played.time_of("t2"), ms(30_013));
        assert_eq!(played.time_of("[DONE]"), ms(30_013), "what came meanwhile follows at once");
        assert!(played.hit());
    }

    #[test]
    fn keep_alives_fill_the_pause() {
        let yaml = "{ after: 1 token, pause: 12s, keep_alive: comments, every: 5s }";
        let played = stalled(yaml, &Upstream::stream(2, ms(1)));
        assert_eq!(played.text(), "role t0 : : t1 finish:stop [DONE]");
        assert_eq!(played.sent[2].0, ms(5012));
        assert_eq!(played.sent[2].1.raw().as_ref(), b": keep-alive\n\n");
        assert_eq!(played.time_of("t1"), ms(12_012));
    }

    #[test]
    fn ndjson_pauses_in_silence() {
        let mut upstream = Upstream::stream(2, ms(0));
        for (_, item) in &mut upstream.items {
            if let Item::Event(event) = item {
                *event = Event::ndjson(event.data.clone());
            }
        }
        let yaml = "{ pause: 12s, keep_alive: comments }";
        let played = stalled(yaml, &upstream);
        assert_eq!((played.sent.len(), played.end), (5, ms(12_010)));
    }

    #[test]
    fn a_whole_answer_pauses_before_or_in_its_body() {
        let before = stalled("{ pause: 3s }", &Upstream::message(10));
        assert_eq!((before.head.as_ref().unwrap().0, before.sent[0].0), (ms(10), ms(3010)));
        assert_eq!(before.text().len(), 49);
        for yaml in ["{ after: 50%, pause: 3s }", "{ after: 5 tokens, pause: 3s }"] {
            let played = stalled(yaml, &Upstream::message(10));
            assert_eq!(played.sent[0].1.raw().len(), 24, "{yaml}");
            assert_eq!((played.sent[1].0, played.sent[1].1.raw().len()), (ms(3010), 25), "{yaml}");
        }
    }

    #[test]
    fn an_answer_that_is_shorter_is_impossible() {
        let played = stalled("{ after: 5 tokens }", &Upstream::stream(5, ms(1)));
        assert_eq!(played.impossible(), Some("the answer ended before the pause"));
        assert!(!played.hit());
    }

    #[test]
    fn options_that_do_not_fit_are_refused() {
        assert_eq!(invalid::<Stall>("{ pause: 0s }").field, "pause");
        assert_eq!(invalid::<Stall>("{ every: 1s }").field, "every");
        assert_eq!(invalid::<Stall>("{ keep_alive: comments, every: 1ms }").field, "every");
    }
}
