//! Small pieces: what one side writes at once the other reads in bits, as TCP may always do it. It
//! finds clients that take one read for one message.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Arming, Direction, Effect, Fault, Impossible, Invalid, Orders, Spec, Within};
use crate::dialect::Dialect;
use crate::dice::Dice;
use crate::exchange::{Grain, Item};
use crate::units::{BadUnit, Count, Span, unit};

/// More pieces of one read are not made; what is left goes on whole.
const PIECES: usize = 16_384;

/// Bytes that come in small pieces.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Slice {
    /// How long the pieces are: `10 bytes`, or `1..100 bytes` drawn evenly for each piece. From 1 to
    /// 1 MB. Default 1..100 bytes.
    pub size: Option<Size>,
    /// Time between two pieces, up to 1m. Default 10ms.
    pub delay: Option<Span>,
    /// On raw connections: `down` to the app, `up` to the dependency, or `both`. Over HTTP bodies of
    /// answers alone are cut (`down`). Default both on raw connections.
    pub direction: Option<Direction>,
}

/// Lengths of pieces: `10 bytes`, `1..100 bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(Count);

impl FromStr for Size {
    type Err = BadUnit;

    fn from_str(text: &str) -> Result<Self, BadUnit> {
        let trimmed = text.trim();
        let bad =
            || BadUnit(format!("`{trimmed}` is no length of pieces; write for example 1..100 bytes"));
        let number = trimmed
            .strip_suffix("bytes")
            .or_else(|| trimmed.strip_suffix("byte"))
            .or_else(|| trimmed.strip_suffix('B'));
        let Some(number) = number else {
            return Err(match trimmed.parse::<Count>() {
                Ok(_) => BadUnit(format!("{trimmed} what? write {trimmed} bytes")),
                Err(_) => bad(),
            });
        };
        let count: Count = number.trim().parse().map_err(|_| bad())?;
        if count.low == 0 || count.high > 1_000_000 {
            return Err(BadUnit(format!("`{trimmed}` is out of range; pieces have 1 to 1000000 bytes")));
        }
        Ok(Self(count))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0)
    }
}

unit!(Size, "a length of pieces such as 1..100 bytes", {
    "type": "string",
    "pattern": "^\\s*[0-9]+\\s*(\\.\\.\\s*[0-9]+\\s*)?(B|bytes?)\\s*$",
    "examples": ["1..100 bytes", "1 byte"]
});

impl Spec for Slice {
    const NAME: &'static str = "slice";
    const SUMMARY: &'static str = "bytes that come in small pieces, with time between them";
    const EXAMPLE: &'static str = "{ size: 1..100 bytes, delay: 10ms }";

    fn build(&self) -> Result<Box<dyn Fault>, Invalid> {
        let delay = self.delay.map_or(Duration::from_millis(10), |span| span.0);
        if delay > Duration::from_secs(60) {
            return Err(Invalid::new("delay", "the time between pieces is 1m at most"));
        }
        let size = self.size.unwrap_or(Size(Count { low: 1, high: 100 }));
        Ok(Box::new(Loaded { size: size.0, delay, direction: self.direction }))
    }
}

#[derive(Debug)]
struct Loaded {
    size: Count,
    delay: Duration,
    direction: Option<Direction>,
}

impl Fault for Loaded {
    fn within(&self, _: &dyn Dialect) -> Within {
        Within::Connection
    }

    fn arm(&self, arming: &mut Arming<'_>) -> Result<Box<dyn Effect>, Impossible> {
        let why = "over HTTP answers alone are cut, not what the app sends";
        let direction = Direction::of(self.direction, arming, why)?;
        let knife = |open: bool, label| {
            open.then(|| Knife {
                size: self.size,
                delay: self.delay,
                dice: arming.draw.fork(label),
                next: Duration::ZERO,
            })
        };
        Ok(Box::new(Cut {
            up: knife(direction.is_up(), "up"),
            down: knife(direction.is_down(), "down"),
        }))
    }
}

struct Cut {
    up: Option<Knife>,
    down: Option<Knife>,
}

/// Cuts one direction.
struct Knife {
    size: Count,
    delay: Duration,
    dice: Dice,
    /// When the next piece may go.
    next: Duration,
}

impl Effect for Cut {
    fn grain(&self) -> Grain {
        Grain::Bytes
    }

    fn on_upload(&mut self, at: Duration, item: Item, out: &mut Orders) {
        cut(self.up.as_mut(), at, item, out);
    }

    fn on_item(&mut self, at: Duration, item: Item, out: &mut Orders) {
        cut(self.down.as_mut(), at, item, out);
    }
}

fn cut(knife: Option<&mut Knife>, at: Duration, item: Item, out: &mut Orders) {
    match knife {
        Some(knife) => knife.cut(at, item.raw().clone(), out),
        None => out.send(item),
    }
}

impl Knife {
    fn cut(&mut self, at: Duration, mut left: Bytes, out: &mut Orders) {
        let mut now = at;
        let mut pieces = 0;
        while !left.is_empty() {
            pieces += 1;
            let size = match pieces {
                PIECES => left.len(),
                _ => usize::try_from(self.dice.whole(self.size.low, self.size.high))
                    .map_or(left.len(), |size| size.min(left.len())),
            };
            let wait = self.next.saturating_sub(now);
            out.wait(wait);
            now += wait;
            let piece = left.split_to(size);
            if !left.is_empty() {
                out.hit();
            }
            out.send(Item::Bytes(piece));
            self.next = now + self.delay;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Upstream, arm, build, connection, exchange, invalid, ms, play};
    use super::*;

    #[test]
    fn pieces_have_their_lengths_and_distances() {
        let fault = build::<Slice>("{ size: 2..7 bytes, delay: 10ms }");
        let mut upstream = Upstream::message(1);
        upstream.items = vec![(ms(0), Item::Bytes((0..100).collect::<Vec<u8>>().into()))];
        let played = play(&[fault.as_ref()], &exchange(1), &upstream);
        let lengths: Vec<usize> = played.sent.iter().map(|(_, item)| item.raw().len()).collect();
        let (last, body) = lengths.split_last().unwrap();
        assert!(body.iter().all(|length| (2..=7).contains(length)) && *last <= 7, "{lengths:?}");
        assert!(body.iter().any(|length| *length != body[0]));
        assert!(played.sent.windows(2).all(|two| two[1].0 - two[0].0 == ms(10)));
        let bytes: Vec<u8> = played.sent.iter().flat_map(|(_, item)| item.raw().to_vec()).collect();
        assert_eq!(bytes, (0..100).collect::<Vec<u8>>());
        assert!(played.hit());
        let again = play(&[fault.as_ref()], &exchange(1), &upstream);
        assert_eq!(played.sent, again.sent, "seeded");
    }

    #[test]
    fn the_distance_counts_over_reads() {
        let fault = build::<Slice>("{ size: 10 bytes, delay: 50ms }");
        let (mut effect, _) = arm(fault.as_ref(), ms(0), &connection(1)).unwrap();
        let mut out = Orders::default();
        effect.on_upload(ms(0), Item::Bytes(vec![0; 10].into()), &mut out);
        effect.on_upload(ms(20), Item::Bytes(vec![0; 10].into()), &mut out);
        assert!(out.list.contains(&crate::fault::Order::Wait(ms(30))), "{:?}", out.list);
    }

    #[test]
    fn memory_is_bounded() {
        let fault = build::<Slice>("{ size: 1 byte, delay: 0s }");
        let (mut effect, _) = arm(fault.as_ref(), ms(0), &connection(1)).unwrap();
        let mut out = Orders::default();
        effect.on_item(ms(0), Item::Bytes(vec![0; 1 << 20].into()), &mut out);
        assert_eq!(out.list.len(), PIECES);
    }

    #[test]
    fn options_that_do_not_fit_are_refused() {
        assert_eq!(invalid::<Slice>("{ delay: 2m }").field, "delay");
        for (text, part) in [
            ("10", "10 bytes"),
            ("0 bytes", "1 to 1000000"),
            ("9..3 bytes", "1..100 bytes"),
            ("some", "1..100 bytes"),
        ] {
            let error = text.parse::<Size>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert_eq!("1..100 bytes".parse::<Size>().unwrap().to_string(), "1..100 bytes");
    }
}
