//! Adds time before an answer: a slow network, a busy dependency, a vector store whose tail has
//! grown tenfold.

mod line;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use hdrhistogram::Histogram;
use http::{header, request, response};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;

use super::place::unreadable;
use super::{Arming, Direction, Effect, Fault, Impossible, Invalid, Orders, Spec, Within};
use crate::dialect::Dialect;
use crate::dice::Dice;
use crate::exchange::{Grain, Item, Level, Transport};
use crate::units::{BadUnit, Percent, Span, unit};

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
    /// Where added time is spent: `before_request` (the upstream is called later), `before_head`
    /// (its answer is held back), or `each_message` (each message of a WebSocket comes that much
    /// later, in order; a delay is drawn for each). The first two delay a WebSocket's handshake.
    /// Default before_request; `multiply` always holds the answer.
    pub at: Option<At>,
    /// What is held, by the way it goes: `up` (requests), `down` (answers) or `both`, each for the
    /// whole time. On raw connections each read is held, with a delay of its own, and the next one
    /// is not held longer for it; default both. Where the connection carries requests (postgres,
    /// redis) naming a direction holds its bytes instead of its requests. Default over HTTP: `at`.
    pub direction: Option<Direction>,
}

/// A variation to both sides: `20%` of the value, or `50ms`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Jitter {
    /// A share (0 to 1) of the value.
    Share(f64),
    Time(Duration),
}

/// Where added time is spent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum At {
    /// The upstream's answer is held back.
    BeforeHead,
    /// The upstream is called later.
    #[default]
    BeforeRequest,
    /// Each message of a WebSocket to the app comes later.
    EachMessage,
}

/// Delays as they are drawn for each request; one longer than an hour is cut to an hour.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Distribution {
    /// Always the same.
    Constant {
        /// The delay.
        value: Span,
    },
    /// Many short delays, few long ones.
    Exponential {
        /// The mean.
        mean: Span,
    },
    /// What most services show: a long right tail.
    Lognormal {
        /// The median.
        p50: Span,
        /// The 99th percentile, longer than p50.
        p99: Span,
    },
    /// A bell; what falls below zero is no delay.
    Normal {
        /// The mean.
        mean: Span,
        /// The standard deviation.
        deviation: Span,
    },
    /// A heavy tail without end.
    Pareto {
        /// The median.
        p50: Span,
        /// The 99th percentile, longer than p50.
        p99: Span,
    },
    /// Evenly between two ends.
    Uniform {
        /// The shortest delay.
        min: Span,
        /// The longest delay.
        max: Span,
    },
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
        if self.at == Some(At::EachMessage) && self.multiply.is_some() {
            return Err(Invalid::new(
                "multiply",
                "`multiply` stretches the time to an answer's head; messages have none",
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

impl Distribution {
    fn check(&self) -> Result<(), Invalid> {
        let bad = |reason: &str| Err(Invalid::new("distribution", reason));
        match self {
            Self::Lognormal { p50, p99 } | Self::Pareto { p50, p99 } if p50.0.is_zero() => {
                let _ = p99;
                bad("`p50` must be longer than nothing")
            }
            Self::Lognormal { p50, p99 } | Self::Pareto { p50, p99 } if p99 <= p50 => {
                bad(&format!("`p99` ({p99}) must be longer than `p50` ({p50})"))
            }
            Self::Uniform { min, max } if max < min => {
                bad(&format!("`max` ({max}) must not be shorter than `min` ({min})"))
            }
            _ => Ok(()),
        }
    }

    /// Draws a delay in seconds; may be below zero or without bound.
    fn draw(&self, dice: &mut Dice) -> f64 {
        let seconds = |span: &Span| span.0.as_secs_f64();
        match self {
            Self::Constant { value } => seconds(value),
            Self::Exponential { mean } => seconds(mean) * dice.exponential(),
            Self::Lognormal { p50, p99 } => {
                let sigma = (seconds(p99) / seconds(p50)).ln() / Z99;
                seconds(p50) * (sigma * dice.normal()).exp()
            }
            Self::Normal { mean, deviation } => seconds(mean) + seconds(deviation) * dice.normal(),
            Self::Pareto { p50, p99 } => {
                // F(x) = 1 - (m/x)^a, solved for both quantiles.
                let shape = 50f64.ln() / (seconds(p99) / seconds(p50)).ln();
                let scale = seconds(p50) * 0.5f64.powf(1.0 / shape);
                scale * (1.0 - dice.unit()).powf(-1.0 / shape)
            }
            Self::Uniform { min, max } => dice.between(seconds(min), seconds(max)),
        }
    }
}

/// The standard normal distribution's 99th percentile.
const Z99: f64 = 2.326_347_874;

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

/// How the upstream's own time is stretched.
#[derive(Clone, Debug)]
enum Stretch {
    All(f64),
    Tail(Tail),
}

/// A tail that is stretched, and the upstream's own latency as seen so far.
#[derive(Clone, Debug)]
struct Tail {
    factor: f64,
    quantile: f64,
    seen: Seen,
}

impl Fault for Loaded {
    fn within(&self, _: &dyn Dialect) -> Within {
        if self.direction.is_some() { Within::Connection } else { Within::Requests }
    }

    fn arm(&self, arming: &mut Arming<'_>) -> Result<Box<dyn Effect>, Impossible> {
        if arming.exchange.level == Level::Connection {
            return self.arm_line(arming);
        }
        if self.at == At::EachMessage {
            if arming.exchange.transport != Transport::WebSocket {
                return Err(Impossible("this is no WebSocket: it has no messages to delay"));
            }
            let dice = arming.draw.fork("messages");
            return Ok(Box::new(Lagging { delays: self.delays.clone(), dice, came: None, seen: 0 }));
        }
        arming.before_answer()?;
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
    /// Gets ready for a raw connection, which has bytes and no answers.
    fn arm_line(&self, arming: &Arming<'_>) -> Result<Box<dyn Effect>, Impossible> {
        if self.delays.none() {
            return Err(Impossible("raw bytes have no answer whose time could be stretched"));
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

/// Delays each message by the time that passes since it came.
struct Lagging {
    delays: Delays,
    dice: Dice,
    /// When the next message came.
    came: Option<Duration>,
    seen: u64,
}

impl Effect for Lagging {
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
        if head.headers.contains_key(header::SEC_WEBSOCKET_EXTENSIONS)
            && let Some(reason) = unreadable(head)
        {
            out.impossible(reason);
        }
    }

    fn on_arrival(&mut self, at: Duration) {
        self.came = Some(at);
    }

    fn on_item(&mut self, at: Duration, item: Item, out: &mut Orders) {
        if matches!(item, Item::Event(_)) {
            let delay = self.delays.draw(&mut self.dice.fork_number(self.seen));
            self.seen += 1;
            let due = self.came.take().unwrap_or(at) + delay;
            out.wait(due.saturating_sub(at));
        }
        out.send(item);
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

impl Tail {
    /// The factor at a rank (0 to 1): 1 up to the median, then rising evenly in its logarithm.
    fn factor_at(&self, rank: f64) -> f64 {
        let way = (rank - 0.5) / (self.quantile - 0.5);
        self.factor.powf(way.clamp(0.0, 1.0))
    }
}

/// The upstream's own latency as seen so far, in microseconds.
///
/// A request is stretched by its own rank among these. (Holding it until the latency of a rank
/// drawn at random would move the median too: the later of two independent times is later than
/// either.) So which requests are slow depends on the upstream, and the order in which they came.
#[derive(Clone, Debug)]
struct Seen(Arc<Mutex<Histogram<u64>>>);

impl Seen {
    fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST.as_micros() as u64, 3)
            .expect("1 us to 1 h with 3 digits are bounds a histogram can have");
        Self(Arc::new(Mutex::new(histogram)))
    }

    /// Takes a latency in and gives its rank (0 to 1); `tie` places it among equals.
    fn rank(&self, took: Duration, tie: f64) -> f64 {
        let micros = (took.as_micros() as u64).max(1);
        let mut seen = self.0.lock();
        seen.saturating_record(micros);
        let lowest = seen.lowest_equivalent(micros.min(seen.high()));
        let below = if lowest == 0 { 0 } else { seen.count_between(0, lowest - 1) };
        let equal = seen.count_at(lowest);
        (below as f64 + tie * equal as f64) / seen.len() as f64
    }

    fn clear(&self) {
        self.0.lock().reset();
    }
}

impl FromStr for Jitter {
    type Err = BadUnit;

    fn from_str(text: &str) -> Result<Self, BadUnit> {
        let trimmed = text.trim();
        if trimmed.ends_with('%') {
            Ok(Self::Share(trimmed.parse::<Percent>()?.share()))
        } else if trimmed.parse::<f64>().is_ok() {
            Err(BadUnit(format!("{trimmed} what? write {trimmed}% or {trimmed}ms")))
        } else {
            Ok(Self::Time(trimmed.parse::<Span>()?.0))
        }
    }
}

impl fmt::Display for Jitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Share(share) => write!(f, "{}%", share * 100.0),
            Self::Time(time) => write!(f, "{}", Span(*time)),
        }
    }
}

unit!(Jitter, "a share such as 20% or a time such as 50ms", {
    "type": "string",
    "pattern": "^\\s*[0-9.]+\\s*(%|us|µs|ms|s)\\s*$",
    "examples": ["20%", "50ms"]
});

#[cfg(test)]
mod tests;
