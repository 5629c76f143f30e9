//! Stops an answer in the middle and goes on later, silent or with keep-alive comments: gaps of
//! 54 to 138 s were seen in real streams, and keep-alives that hide a dead upstream for ever.

use std::sync::Arc;
use std::time::Duration;

use http::response;
use schemars::JsonSchema;
use serde::Deserialize;

use super::lengths::Lengths;
use super::place::unreadable;
use super::pulse::{Beat, KeepAlive, framing_of};
use super::spot::{At, Here, Seeker};
use super::{Arming, Effect, Fault, Impossible, Invalid, Orders, Place, Spec};
use crate::dialect::Dialect;
use crate::exchange::{Framing, Grain, Item, Level};
use crate::units::Span;

/// A pause in the middle of an answer, which then goes on.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stall {
    /// Where to pause, by what stands there, as in `truncate`: `before_body`, `after_first_token`,
    /// `mid_arguments`, `mid_event`, `mid_character`, `before_terminal` or `after_terminal`. Default:
    /// none.
    pub at: Option<At>,
    /// Where to pause, as in `truncate`: `90 tokens`, `12 events`, `20 rows`, `4kB`, `30% tokens`,
    /// `30%`. Default: after the first token of a stream, before the body of a whole answer; on raw
    /// TCP before the first byte that comes back.
    pub after: Option<Place>,
    /// For how long, up to 1h. Default 30s.
    pub pause: Option<Span>,
    /// What is sent meanwhile: `none`; `comments` (`: keep-alive`), which reset the idle timers of
    /// clients; `pings`, the provider's own; `comment_as_data` or `blank_events`, on which clients fail.
    /// SSE streams and WebSockets have them, between two events; other answers pause in silence.
    /// Default none.
    pub keep_alive: Option<KeepAlive>,
    /// The time between keep-alives, from 10ms to 1h. Default 5s.
    pub every: Option<Span>,
    /// What `comments` and `comment_as_data` say. Default keep-alive.
    pub comment: Option<String>,
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
        Seeker::check(self.at, self.after)?;
        let kind = self.keep_alive.unwrap_or_default();
        let beat = Beat::checked(kind, self.every, self.comment.as_deref())?;
        if beat.is_none() && (self.every.is_some() || self.comment.is_some()) {
            let field = if self.every.is_some() { "every" } else { "comment" };
            return Err(Invalid::new(field, format!("`{field}` needs `keep_alive: comments`")));
        }
        Ok(Box::new(Loaded {
            at: self.at,
            after: self.after,
            pause: Pause { time: pause, beat },
            lengths: Arc::default(),
        }))
    }
}

#[derive(Debug)]
struct Loaded {
    at: Option<At>,
    after: Option<Place>,
    pause: Pause,
    lengths: Arc<Lengths>,
}

/// How long, and what is sent meanwhile.
#[derive(Clone, Debug)]
struct Pause {
    time: Duration,
    beat: Option<Beat>,
}

impl Fault for Loaded {
    fn needs_request_body(&self) -> bool {
        self.after.is_some_and(Place::is_share)
    }

    fn arm(&self, arming: &mut Arming<'_>) -> Result<Box<dyn Effect>, Impossible> {
        let raw = arming.exchange.level == Level::Connection;
        let place = match (self.at, self.after) {
            (None, None) if raw => Some(Place::Bytes(0)),
            (None, None) => Some(Place::Tokens(1)),
            (_, place) => place,
        };
        let seeker = Seeker::new(self.at, place, &self.lengths, arming)?;
        Ok(Box::new(Stalling {
            pause: self.pause.clone(),
            grain: seeker.grain(),
            whole_at_start: self.at.is_none() && self.after.is_none(),
            seeker: Some(seeker),
            at: self.at,
            framing: None,
            dialect: arming.dialect,
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
    seeker: Option<Seeker>,
    at: Option<At>,
    /// Of the stream, where its head says it.
    framing: Option<Framing>,
    dialect: &'static dyn Dialect,
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
        self.framing = framing_of(head).ok();
        if let Some(reason) = unreadable(head) {
            out.impossible(reason);
            self.seeker = None;
        }
    }

    fn on_item(&mut self, _: Duration, item: Item, out: &mut Orders) {
        let Some(seeker) = &mut self.seeker else { return out.send(item) };
        if self.done {
            // Followed on to its end, for the lengths of answers to come.
            seeker.count_on(&item);
            return out.send(item);
        }
        if self.whole_at_start && matches!(item, Item::Message(_)) {
            self.hold(None, out);
            return out.send(item);
        }
        match seeker.step(&item) {
            Here::Later => out.send(item),
            Here::Never(reason) => {
                out.impossible(reason);
                self.seeker = None;
                out.send(item);
            }
            Here::Before => {
                seeker.count_on(&item);
                self.hold(self.between(&item), out);
                out.send(item);
            }
            Here::After => {
                let between = self.between(&item);
                out.send(item);
                self.hold(between, out);
            }
            Here::Instead(_) => {
                let bytes = item.raw().len() / 2;
                self.hold_within(&item, bytes, out);
            }
            Here::Within { bytes, .. } => self.hold_within(&item, bytes, out),
        }
    }

    fn on_end(&mut self, _: Duration, out: &mut Orders) {
        let Some(seeker) = self.seeker.take() else { return };
        let found = seeker.step_end();
        match found {
            _ if self.done => {}
            Ok(()) => self.hold(None, out),
            Err("") => out.impossible("the answer ended before the pause"),
            Err(reason) => out.impossible(reason),
        }
    }
}

impl Stalling {
    /// How the stream is framed, where keep-alives may stand beside this piece.
    fn between(&self, item: &Item) -> Option<Framing> {
        match item {
            Item::Bytes(_) => self.framing.filter(|_| self.at == Some(At::BeforeBody)),
            Item::Event(event) => Some(event.framing),
            Item::Message(_) => None,
        }
    }

    /// Orders the pause; between two events with keep-alives, where the stream has them.
    fn hold(&mut self, between: Option<Framing>, out: &mut Orders) {
        self.done = true;
        let time = self.pause.time;
        let pulse = match (&self.pause.beat, between) {
            (Some(beat), Some(framing)) => beat.pulse(self.dialect, framing, Some(time)),
            _ => None,
        };
        match pulse {
            Some(pulse) => out.pulse(pulse),
            None => out.wait(time),
        }
        out.note("paused", time.as_secs_f64());
    }

    fn hold_within(&mut self, item: &Item, bytes: usize, out: &mut Orders) {
        let raw = item.raw();
        if bytes > 0 {
            out.send(Item::Bytes(raw.slice(..bytes)));
        }
        self.hold(None, out);
        out.send(Item::Bytes(raw.slice(bytes..)));
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Played, Upstream, build, exchange, invalid, ms, play};
    use super::*;
    use crate::exchange::Event;

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
    fn positions_are_found_and_half_events_stay_whole() {
        let stream = Upstream::stream(3, ms(1));
        for (at, before) in [
            ("before_body", 0),
            ("after_first_token", 2),
            ("mid_event", 3),
            ("before_terminal", 5),
            ("after_terminal", 6),
        ] {
            let played = stalled(&format!("{{ at: {at}, pause: 30s }}"), &stream);
            let raw: Vec<u8> =
                played.sent.iter().flat_map(|(_, item)| item.raw().to_vec()).collect();
            let came: Vec<u8> =
                stream.items.iter().flat_map(|(_, item)| item.raw().to_vec()).collect();
            assert_eq!(raw, came, "{at}");
            let early = played.sent.iter().filter(|(time, _)| *time < ms(30_000)).count();
            assert_eq!((early, played.note("paused")), (before, Some(30.0)), "{at}");
        }
    }

    #[test]
    fn keep_alives_never_stand_inside_an_event() {
        let yaml = "{ at: mid_event, pause: 12s, keep_alive: comments, every: 5s }";
        let played = stalled(yaml, &Upstream::stream(3, ms(1)));
        assert!(played.sent.iter().all(|(_, item)| item.raw().as_ref() != b": keep-alive\n\n"));
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
