//! Adds time before an answer: a slow network, a busy dependency, a vector store whose tail has
//! grown tenfold.

mod distribution;
mod jitter;
mod line;
mod messages;
mod stretch;
mod tokens;

use std::time::Duration;

use http::{request, response};
use schemars::JsonSchema;
use serde::Deserialize;

use self::distribution::Distribution;
use self::jitter::Jitter;
use self::stretch::{Seen, Stretch, Tail};
use super::{Arming, Direction, Effect, Fault, Impossible, Invalid, Orders, Spec, Within};
use crate::dialect::Dialect;
use crate::dice::Dice;
use crate::exchange::{Level, Transport};
use crate::units::Span;

/// No delay is longer than this, whatever a heavy tail draws.
const LONGEST: Duration = Duration::from_secs(3600);

/// Adds time before an answer: a slow network or a busy dependency. All parts that are set add up.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    /// Time to add, for example 250ms. Default 0.
    pub add: Option<Span>,
    /// How far `add` varies to both sides, evenly: a share of it (20%) or a time (50ms). Default 0.
    pub jitter: Option<Jitter>,
    /// A distribution from which a delay is drawn for each request, on top of `add`.
    pub distribution: Option<Distribution>,
    /// Stretches the upstream's own time to its head by this factor, at least 1.
    pub multiply: Option<f64>,
    /// With `multiply`: stretch the tail alone. The median keeps, this percentile of the upstream's
    /// own latency grows by the factor, and between them the factor rises log-linearly. From above
    /// 50 to below 100.
    pub percentile: Option<f64>,
    /// Where added time is spent. Default before_request; on raw connections each read is held
    /// unless it is before_connect. `multiply` always holds the answer's head and goes with
    /// before_request and before_head alone. A delay is drawn once, for each_message and each_token
    /// each time.
    pub at: Option<At>,
    /// What is held, by the way it goes: `up` (requests), `down` (answers) or `both`, each for the
    /// whole time. On raw connections each read is held, with a delay of its own, and the next one
    /// is not held longer for it; default both. Where the connection carries requests (postgres,
    /// redis) naming a direction holds its bytes instead of its requests. Default over HTTP: `at`.
    pub direction: Option<Direction>,
}

/// Where added time is spent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum At {
    /// The end of an answer is held back: the provider's terminal event, or where there is none the
    /// last byte; an answer that is no stream as a whole.
    #[serde(rename = "at_end")]
    End,
    /// Raw connections: the upstream is connected later.
    BeforeConnect,
    /// The first piece with a token is held back; what comes before it passes. An answer that is no
    /// stream is held as a whole.
    BeforeFirstToken,
    /// The upstream's answer is held back.
    BeforeHead,
    /// The upstream is called later.
    #[default]
    BeforeRequest,
    /// Each message of a WebSocket to the app comes that much later, in order. (before_request and
    /// before_head delay its handshake.)
    EachMessage,
    /// Each piece with tokens is held back, for as many delays as it has tokens, and the next is read
    /// after it: the gaps between tokens are never shorter than the delays. An answer that is no
    /// stream is held for all its tokens.
    EachToken,
}

impl At {
    fn name(self) -> &'static str {
        match self {
            Self::End => "at_end",
            Self::BeforeConnect => "before_connect",
            Self::BeforeFirstToken => "before_first_token",
            Self::BeforeHead => "before_head",
            Self::BeforeRequest => "before_request",
            Self::EachMessage => "each_message",
            Self::EachToken => "each_token",
        }
    }

    fn is_inside(self) -> bool {
        matches!(self, Self::End | Self::BeforeFirstToken | Self::EachToken)
    }
}

impl Spec for Latency {
    const NAME: &'static str = "latency";
    const SUMMARY: &'static str = "a slow network, a busy dependency, a tail that has grown";
    const EXAMPLE: &'static str = "{ add: 250ms, jitter: 20% }";

    fn build(&self) -> Result<Box<dyn Fault>, Invalid> {
        let add = self.add.unwrap_or_default().0;
        if let Some(distribution) = &self.distribution {
            distribution.check()?;
        }
        if self.jitter.is_some() && add.is_zero() {
            return Err(Invalid::new("jitter", "`jitter` needs `add`: it says how far that varies"));
        }
        if let Some(factor) = self.multiply
            && !(1.0..=10_000.0).contains(&factor)
        {
            return Err(Invalid::new(
                "multiply",
                format!("{factor} is no factor of 1 or more; no answer can be made faster"),
            ));
        }
        match self.percentile {
            Some(_) if self.multiply.is_none() => {
                return Err(Invalid::new(
                    "percentile",
                    "`percentile` needs `multiply`: write for example { multiply: 10, percentile: 99 }",
                ));
            }
            Some(percentile) if !(percentile > 50.0 && percentile < 100.0) => {
                return Err(Invalid::new(
                    "percentile",
                    format!("{percentile} is no percentile of the tail; write one above 50 and below 100, such as 99"),
                ));
            }
            _ => {}
        }
        if let Some(at) = self.at
            && self.multiply.is_some()
            && !matches!(at, At::BeforeHead | At::BeforeRequest)
        {
            return Err(Invalid::new(
                "multiply",
                format!(
                    "`multiply` stretches the time to an answer's head and cannot go with `at: {}`",
                    at.name()
                ),
            ));
        }
        if self.direction.is_some() && self.at.is_some() {
            return Err(Invalid::new("direction", "`direction` and `at` say the same; keep one"));
        }
        if add.is_zero() && self.distribution.is_none() && self.multiply.is_none() {
            return Err(Invalid::new(
                "",
                "no delay is asked for; write `add: 250ms`, a `distribution` or `multiply: 3`",
            ));
        }
        Ok(Box::new(Loaded {
            delays: Delays {
                add,
                jitter: self.jitter.unwrap_or(Jitter::Share(0.0)),
                distribution: self.distribution.clone(),
            },
            direction: self.direction,
            at: self.at.unwrap_or_default(),
            stretch: self.multiply.map(|factor| match self.percentile {
                None => Stretch::All(factor),
                Some(percentile) => {
                    Stretch::Tail(Tail { factor, quantile: percentile / 100.0, seen: Seen::new() })
                }
            }),
        }))
    }
}

#[derive(Debug)]
struct Loaded {
    delays: Delays,
    direction: Option<Direction>,
    at: At,
    stretch: Option<Stretch>,
}

/// What delays are drawn from.
#[derive(Clone, Debug)]
struct Delays {
    add: Duration,
    jitter: Jitter,
    distribution: Option<Distribution>,
}

impl Fault for Loaded {
    fn within(&self, _: &dyn Dialect) -> Within {
        match (self.direction, self.at) {
            (Some(_), _) => Within::Connection,
            (None, At::BeforeConnect) => Within::Start,
            (None, _) => Within::Requests,
        }
    }

    fn arm(&self, arming: &mut Arming<'_>) -> Result<Box<dyn Effect>, Impossible> {
        if arming.exchange.level == Level::Connection {
            return self.arm_line(arming);
        }
        if self.at == At::BeforeConnect {
            return Err(Impossible("a request has no connection of its own: `before_request` delays it"));
        }
        if self.at == At::EachMessage {
            if arming.exchange.transport != Transport::WebSocket {
                return Err(Impossible("this is no WebSocket: it has no messages to delay"));
            }
            let dice = arming.draw.fork("messages");
            return Ok(Box::new(messages::Lagging { delays: self.delays.clone(), dice, came: None, seen: 0 }));
        }
        arming.before_answer()?;
        if self.at.is_inside() {
            return self.arm_inside(arming);
        }
        let delay = self.delays.draw(&mut arming.draw.fork("delay"));
        if !delay.is_zero() {
            arming.draw.note("delay", delay.as_secs_f64());
        }
        let tie = match self.stretch {
            Some(Stretch::Tail(_)) => arming.draw.unit("rank"),
            _ => 0.0,
        };
        let (up, down) = match self.direction {
            Some(direction) => (direction.is_up(), direction.is_down()),
            None => (self.at == At::BeforeRequest, self.at == At::BeforeHead),
        };
        Ok(Box::new(Delay { delay, up, down, stretch: self.stretch.clone(), tie }))
    }

    fn reset(&self) {
        if let Some(Stretch::Tail(tail)) = &self.stretch {
            tail.seen.clear();
        }
    }
}

impl Loaded {
    /// Gets ready to hold an answer somewhere inside.
    fn arm_inside(&self, arming: &Arming<'_>) -> Result<Box<dyn Effect>, Impossible> {
        if arming.exchange.transport == Transport::WebSocket {
            return Err(Impossible("a WebSocket has no single answer: `each_message` delays it"));
        }
        Ok(Box::new(tokens::Inside {
            place: self.at,
            delays: self.delays.clone(),
            dice: arming.draw.fork("inside"),
            dialect: arming.dialect,
            operation: arming.exchange.facts.operation,
            done: false,
            blind: false,
            added: 0.0,
        }))
    }

    /// Gets ready for a raw connection, which has bytes and no answers.
    fn arm_line(&self, arming: &mut Arming<'_>) -> Result<Box<dyn Effect>, Impossible> {
        if self.delays.none() {
            return Err(Impossible("raw bytes have no answer whose time could be stretched"));
        }
        if self.at == At::BeforeConnect {
            let delay = self.delays.draw(&mut arming.draw.fork("delay"));
            arming.draw.note("delay", delay.as_secs_f64());
            return Ok(Box::new(line::Connecting(delay)));
        }
        let direction = self.direction.unwrap_or(Direction::Both);
        let dice = |held: bool, label| held.then(|| arming.draw.fork(label));
        Ok(Box::new(line::Line {
            delays: self.delays.clone(),
            up: dice(direction.is_up(), "up"),
            down: dice(direction.is_down(), "down"),
        }))
    }
}

impl Delays {
    fn none(&self) -> bool {
        self.add.is_zero() && self.distribution.is_none()
    }

    fn draw(&self, dice: &mut Dice) -> Duration {
        let add = self.add.as_secs_f64();
        let spread = match self.jitter {
            Jitter::Share(share) => add * share,
            Jitter::Time(time) => time.as_secs_f64(),
        };
        let jittered = dice.between(add - spread, add + spread).max(0.0);
        let drawn = self.distribution.as_ref().map_or(0.0, |from| from.draw(dice).max(0.0));
        Duration::try_from_secs_f64(jittered + drawn).map_or(LONGEST, |time| time.min(LONGEST))
    }
}

struct Delay {
    delay: Duration,
    /// Held on the way to the dependency.
    up: bool,
    /// Held on the way back.
    down: bool,
    stretch: Option<Stretch>,
    /// Where this exchange stands among equals, 0 to 1.
    tie: f64,
}

impl Effect for Delay {
    fn on_request(&mut self, _: Duration, _: &mut request::Parts, out: &mut Orders) {
        if self.up {
            out.wait(self.delay);
        }
    }

    fn on_response(
        &mut self,
        _: Duration,
        took: Duration,
        _: &mut response::Parts,
        out: &mut Orders,
    ) {
        let mut hold = if self.down { self.delay } else { Duration::ZERO };
        if let Some(stretch) = &self.stretch {
            let factor = match stretch {
                Stretch::All(factor) => *factor,
                Stretch::Tail(tail) => tail.factor_at(tail.seen.rank(took, self.tie)),
            };
            let longer = took.mul_f64(factor - 1.0).min(LONGEST);
            if !longer.is_zero() {
                out.note("stretched_by", longer.as_secs_f64());
            }
            hold += longer;
        }
        if self.delay.is_zero() && hold.is_zero() {
            out.let_go("nothing was to be added");
        }
        out.wait(hold);
    }
}

#[cfg(test)]
mod tests;
