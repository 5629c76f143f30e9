//! Lets an answer come slowly: a late first token, then so many tokens per second. Where the
//! upstream is slower still, nothing is added.

use std::time::Duration;

use http::{request, response};
use schemars::JsonSchema;
use serde::Deserialize;

use super::place::unreadable;
use super::{Arming, Effect, Fault, Impossible, Invalid, NO_REQUESTS, Orders, Spec};
use crate::dialect::Dialect;
use crate::dice::Dice;
use crate::exchange::{Grain, Item, Level, Operation, Transport};
use crate::units::{Percent, Shift};

/// How far a stream may fall behind its schedule and still catch up: timers are late, but a pause
/// of the upstream must not be followed by a burst.
const SLACK: Duration = Duration::from_millis(100);
/// Events without content that are held back until the first token comes.
const PREAMBLE: usize = 16;
/// Tokens of one piece whose gaps are drawn; over more than these jitter evens out anyway.
const JITTERED: u32 = 10_000;
/// No piece is held for longer.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// An answer that comes slowly, as from a busy GPU.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SlowStream {
    /// When the first token comes: `+3s` later than the upstream sends it, or `3s` after the
    /// request at the earliest. Default: when the upstream sends it.
    pub time_to_first_token: Option<Shift>,
    /// The pace of the tokens after the first, at most. Above 0. Default: the upstream's.
    pub tokens_per_second: Option<f64>,
    /// How far each gap between tokens varies to both sides, evenly. Default 0.
    pub jitter: Option<Percent>,
}

impl Spec for SlowStream {
    const NAME: &'static str = "slow_stream";
    const SUMMARY: &'static str = "a late first token and slow tokens after it, as from a busy GPU";
    const EXAMPLE: &'static str =
        "{ time_to_first_token: +3s, tokens_per_second: 8, jitter: 20% }";

    fn build(&self) -> Result<Box<dyn Fault>, Invalid> {
        if let Some(pace) = self.tokens_per_second
            && !(pace > 0.0 && pace <= 1e6)
        {
            return Err(Invalid::new(
                "tokens_per_second",
                format!("{pace} is no pace; write a number above 0, such as 8"),
            ));
        }
        if self.jitter.is_some() && self.tokens_per_second.is_none() {
            return Err(Invalid::new("jitter", "`jitter` needs `tokens_per_second`"));
        }
        if self.time_to_first_token.is_none() && self.tokens_per_second.is_none() {
            return Err(Invalid::new(
                "",
                "nothing is slowed; write `time_to_first_token: +3s` or `tokens_per_second: 8`",
            ));
        }
        Ok(Box::new(Loaded {
            first: self.time_to_first_token,
            gap: self.tokens_per_second.map(|pace| 1.0 / pace),
            jitter: self.jitter.unwrap_or_default().share(),
        }))
    }
}

#[derive(Debug)]
struct Loaded {
    first: Option<Shift>,
    /// Seconds between tokens.
    gap: Option<f64>,
    jitter: f64,
}

impl Fault for Loaded {
    fn arm(&self, arming: &mut Arming<'_>) -> Result<Box<dyn Effect>, Impossible> {
        if arming.exchange.level == Level::Connection {
            return Err(NO_REQUESTS);
        }
        Ok(Box::new(Slow {
            first: self.first,
            gap: self.gap,
            jitter: self.jitter,
            dice: arming.draw.fork("gaps"),
            dialect: arming.dialect,
            operation: arming.exchange.facts.operation,
            began: arming.at,
            due: None,
            preamble: Vec::new(),
            // A client waits for the first messages of a socket before it asks anything.
            talks: arming.exchange.transport == Transport::WebSocket,
            off: false,
            tokens: 0,
        }))
    }
}

struct Slow {
    first: Option<Shift>,
    gap: Option<f64>,
    jitter: f64,
    dice: Dice,
    dialect: &'static dyn Dialect,
    operation: Operation,
    /// When the request came.
    began: Duration,
    /// When the last token was due; None before the first.
    due: Option<Duration>,
    /// What the stream says before its first token, held until that.
    preamble: Vec<Item>,
    /// Nothing is held until the first token: the client may have to speak before it comes.
    talks: bool,
    /// The answer cannot be paced.
    off: bool,
    tokens: u64,
}

impl Effect for Slow {
    fn grain(&self) -> Grain {
        Grain::Event
    }

    fn on_request(&mut self, at: Duration, _: &mut request::Parts, _: &mut Orders) {
        self.began = at;
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
        let (tokens, whole) = match &item {
            Item::Event(event) if event.data.is_empty() => (0, false),
            Item::Event(event) => {
                let reading = self.dialect.read_event(self.operation, event);
                if reading.tokens == 0 && self.holds_preamble() && !reading.done {
                    return self.preamble.push(item);
                }
                (reading.tokens, false)
            }
            Item::Message(body) => (self.dialect.read_message(self.operation, body).tokens, true),
            Item::Bytes(_) => (0, false),
        };
        if tokens > 0 {
            let due = self.due_after(at, tokens, whole);
            out.wait(due.saturating_sub(at));
        }
        self.tokens += u64::from(tokens);
        self.release(out);
        out.send(item);
    }

    fn on_end(&mut self, _: Duration, out: &mut Orders) {
        self.release(out);
        if !self.off && self.tokens == 0 {
            out.impossible("the answer has no tokens");
        } else if !self.off {
            out.let_go("the answer was slower by itself");
        }
    }
}

impl Slow {
    /// Whether events without content wait for the first token: only when that is late.
    fn holds_preamble(&self) -> bool {
        !self.talks
            && self.due.is_none()
            && self.first.is_some()
            && self.preamble.len() < PREAMBLE
    }

    fn release(&mut self, out: &mut Orders) {
        self.preamble.drain(..).for_each(|item| out.send(item));
    }

    /// When these tokens are due, which have come at `at`. The schedule is absolute, so the
    /// upstream's own pace counts and late timers do not add up.
    fn due_after(&mut self, at: Duration, tokens: u32, whole: bool) -> Duration {
        let first = match self.first {
            Some(Shift { added: true, span }) => at + span,
            Some(Shift { added: false, span }) => at.max(self.began + span),
            None => at,
        };
        let due = match self.due {
            None if whole => {
                // A whole answer takes as long as its tokens would have taken.
                let began = match self.first {
                    Some(shift) => self.began + shift.span,
                    None => self.began,
                };
                first.max(began + self.gaps(tokens))
            }
            None => first + self.gaps(tokens - 1),
            Some(last) => (last + self.gaps(tokens)).max(at.saturating_sub(SLACK)),
        };
        self.due = Some(due);
        due
    }

    /// The time that so many tokens take.
    fn gaps(&mut self, tokens: u32) -> Duration {
        let Some(gap) = self.gap else { return Duration::ZERO };
        let drawn = tokens.min(JITTERED);
        let mut total = gap * f64::from(tokens - drawn);
        for _ in 0..drawn {
            total += gap * self.dice.between(1.0 - self.jitter, 1.0 + self.jitter);
        }
        Duration::try_from_secs_f64(total).map_or(LONGEST, |time| time.min(LONGEST))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Played, Upstream, arm, build, exchange, invalid, ms, play};
    use super::*;
    use crate::exchange::Event;
    use crate::fault::Order;

    fn slow(yaml: &str, upstream: &Upstream) -> Played {
        play(&[build::<SlowStream>(yaml).as_ref()], &exchange(1), upstream)
    }

    #[test]
    fn the_first_token_is_late_and_nothing_comes_before_it() {
        let stream = Upstream::stream(3, ms(20));
        let added = slow("{ time_to_first_token: +3s }", &stream);
        assert_eq!((added.time_of("role"), added.time_of("t0")), (ms(3030), ms(3030)));
        assert_eq!(added.text(), "role t0 t1 t2 finish:stop [DONE]", "order and content keep");
        let least = slow("{ time_to_first_token: 3s }", &stream);
        assert_eq!(least.time_of("t0"), ms(3000));
        let enough = slow("{ time_to_first_token: 10ms }", &stream);
        assert_eq!((enough.time_of("t0"), enough.hit()), (ms(30), false));
    }

    #[test]
    fn tokens_keep_their_pace_without_drift() {
        let played = slow("{ tokens_per_second: 8 }", &Upstream::stream(81, ms(1)));
        assert_eq!(played.time_of("t80") - played.time_of("t0"), ms(10_000));
        assert_eq!(played.time_of("t1") - played.time_of("t0"), ms(125));
        // The upstream is slower than the pace: nothing is added.
        let played = slow("{ tokens_per_second: 8 }", &Upstream::stream(20, ms(200)));
        assert!(!played.hit());
    }

    #[test]
    fn late_timers_do_not_add_up() {
        let fault = build::<SlowStream>("{ tokens_per_second: 8 }");
        let mut effect = arm(fault.as_ref(), ms(0), &exchange(1)).unwrap().0;
        let mut now = ms(0);
        for token in 0..=80 {
            let mut out = Orders::default();
            effect.on_item(now, Item::Event(Event::sse(format!("t{token}"))), &mut out);
            for order in out.list {
                if let Order::Wait(time) = order {
                    now += time + ms(7);
                }
            }
        }
        assert_eq!(now, ms(10_007), "80 gaps of 125 ms, each wait 7 ms late");
    }

    #[test]
    fn a_pause_of_the_upstream_is_not_followed_by_a_burst() {
        let mut upstream = Upstream::stream(20, ms(1));
        for (time, _) in upstream.items.iter_mut().skip(11) {
            *time += ms(20_000);
        }
        let played = slow("{ tokens_per_second: 8 }", &upstream);
        let gap = played.time_of("t12") - played.time_of("t11");
        assert!(gap >= ms(25) && gap <= ms(125), "{gap:?}");
        assert_eq!(played.time_of("t15") - played.time_of("t14"), ms(125));
    }

    #[test]
    fn jitter_varies_gaps_and_keeps_the_pace() {
        let yaml = "{ tokens_per_second: 10, jitter: 50% }";
        let played = slow(yaml, &Upstream::stream(401, ms(1)));
        let times: Vec<Duration> = played.sent[1..402].iter().map(|(time, _)| *time).collect();
        let gaps: Vec<f64> = times.windows(2).map(|w| (w[1] - w[0]).as_secs_f64()).collect();
        assert!(gaps.iter().all(|gap| (0.049..=0.151).contains(gap)));
        assert!(gaps.iter().any(|gap| *gap < 0.06) && gaps.iter().any(|gap| *gap > 0.14));
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        assert!((mean - 0.1).abs() < 0.005, "{mean}");
        let again = slow(yaml, &Upstream::stream(401, ms(1)));
        assert_eq!(played.sent, again.sent, "seeded");
    }

    #[test]
    fn a_whole_answer_takes_as_long_as_its_tokens() {
        let least = slow("{ time_to_first_token: 2s, tokens_per_second: 10 }", &Upstream::message(30));
        assert_eq!(least.sent[0].0, ms(5000));
        let added = slow("{ time_to_first_token: +2s, tokens_per_second: 10 }", &Upstream::message(30));
        assert_eq!(added.sent[0].0, ms(5000), "the upstream's own 10 ms count");
        let first = slow("{ time_to_first_token: +2s }", &Upstream::message(30));
        assert_eq!(first.sent[0].0, ms(2010));
    }

    #[test]
    fn an_answer_that_is_slower_by_itself_is_let_go() {
        let played = slow("{ tokens_per_second: 100 }", &Upstream::stream(5, ms(50)));
        assert_eq!((played.hit(), played.impossible()), (false, None));
        assert_eq!(played.let_go(), Some("the answer was slower by itself"));
    }

    #[test]
    fn an_answer_without_tokens_is_impossible() {
        let played = slow("{ time_to_first_token: 2s }", &Upstream::message(0));
        assert_eq!(played.impossible(), Some("the answer has no tokens"));
        let played = slow("{ time_to_first_token: 2s }", &Upstream::stream(0, ms(1)));
        assert_eq!(played.impossible(), Some("the answer has no tokens"));
        assert_eq!(played.text(), "role finish:stop [DONE]");
    }

    #[test]
    fn options_that_do_not_fit_are_refused() {
        assert_eq!(invalid::<SlowStream>("{}").field, "");
        assert_eq!(invalid::<SlowStream>("{ tokens_per_second: 0 }").field, "tokens_per_second");
        assert_eq!(invalid::<SlowStream>("{ time_to_first_token: 1s, jitter: 5% }").field, "jitter");
    }
}
