//! A thin line: bytes go on no faster than a rate allows, as over a throttled link or a shared uplink.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Arming, Direction, Effect, Fault, Impossible, Invalid, Orders, Spec, Within};
use crate::dialect::Dialect;
use crate::exchange::{Grain, Item};
use crate::units::{BadUnit, unit};

/// Bytes leave in steps of this length.
const STEP: f64 = 0.05;
/// More steps of one piece are not made; they grow instead.
const STEPS: usize = 4096;
/// How far the line may fall behind and still catch up: timers are late.
const SLACK: Duration = Duration::from_millis(20);

/// A line with little room: each connection (over HTTP each answer) has this rate for itself.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bandwidth {
    /// Bytes per second, for example 64kB/s (1 kB is 1000 bytes), from 1B/s.
    pub rate: ByteRate,
    /// On raw connections: `down` to the app, `up` to the dependency, or `both`, each with the whole
    /// rate. Over HTTP answers alone are slowed (`down`). Default both on raw connections.
    pub direction: Option<Direction>,
}

/// Bytes per time: `64kB/s`, `2MB/min`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ByteRate {
    pub per_second: f64,
}

impl FromStr for ByteRate {
    type Err = BadUnit;

    fn from_str(text: &str) -> Result<Self, BadUnit> {
        let bad = || BadUnit(format!("`{}` is no rate of bytes; write for example 64kB/s", text.trim()));
        let (amount, per) = text.trim().split_once('/').ok_or_else(bad)?;
        let seconds = match per.trim() {
            "s" | "sec" => 1.0,
            "min" | "m" => 60.0,
            _ => return Err(bad()),
        };
        let amount = amount.trim();
        let split = amount.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let count: f64 = amount[..split].parse().map_err(|_| bad())?;
        let scale = match amount[split..].trim() {
            "B" | "bytes" | "byte" => 1.0,
            "kB" | "KB" => 1e3,
            "KiB" => 1024.0,
            "MB" => 1e6,
            "MiB" => 1024.0 * 1024.0,
            "GB" => 1e9,
            _ => return Err(bad()),
        };
        let per_second = count * scale / seconds;
        if (1.0..=1e11).contains(&per_second) {
            Ok(Self { per_second })
        } else {
            Err(BadUnit(format!("`{}` is out of range; write 1B/s to 100GB/s", text.trim())))
        }
    }
}

impl fmt::Display for ByteRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.per_second {
            rate if rate >= 1e6 => write!(f, "{}MB/s", rate / 1e6),
            rate if rate >= 1e3 => write!(f, "{}kB/s", rate / 1e3),
            rate => write!(f, "{rate}B/s"),
        }
    }
}

unit!(ByteRate, "a rate of bytes such as 64kB/s", {
    "type": "string",
    "pattern": "^\\s*[0-9.]+\\s*(B|bytes?|kB|KB|KiB|MB|MiB|GB)\\s*/\\s*(s|sec|m|min)\\s*$",
    "examples": ["64kB/s", "1.5MB/s"]
});

impl Spec for Bandwidth {
    const NAME: &'static str = "bandwidth";
    const SUMMARY: &'static str = "a thin line: a throttled link, a crowded uplink, a modem";
    const EXAMPLE: &'static str = "{ rate: 64kB/s }";

    fn build(&self) -> Result<Box<dyn Fault>, Invalid> {
        Ok(Box::new(Loaded { rate: self.rate.per_second, direction: self.direction }))
    }
}

#[derive(Debug)]
struct Loaded {
    rate: f64,
    direction: Option<Direction>,
}

impl Fault for Loaded {
    fn within(&self, _: &dyn Dialect) -> Within {
        Within::Connection
    }

    fn arm(&self, arming: &mut Arming<'_>) -> Result<Box<dyn Effect>, Impossible> {
        let why = "over HTTP answers alone are slowed, not what the app sends";
        let direction = Direction::of(self.direction, arming, why)?;
        let line = |open: bool| open.then_some(Line { rate: self.rate, free: Duration::ZERO });
        Ok(Box::new(Thin { up: line(direction.is_up()), down: line(direction.is_down()) }))
    }
}

struct Thin {
    up: Option<Line>,
    down: Option<Line>,
}

/// One direction of a line.
struct Line {
    rate: f64,
    /// When all that was sent so far has gone through.
    free: Duration,
}

impl Effect for Thin {
    fn grain(&self) -> Grain {
        Grain::Bytes
    }

    fn on_upload(&mut self, at: Duration, item: Item, out: &mut Orders) {
        pass(self.up.as_mut(), at, item, out);
    }

    fn on_item(&mut self, at: Duration, item: Item, out: &mut Orders) {
        pass(self.down.as_mut(), at, item, out);
    }
}

fn pass(line: Option<&mut Line>, at: Duration, item: Item, out: &mut Orders) {
    match line {
        Some(line) => line.send(at, item, out),
        None => out.send(item),
    }
}

impl Line {
    fn send(&mut self, at: Duration, item: Item, out: &mut Orders) {
        let whole = item.raw().clone();
        let step = ((self.rate * STEP) as usize).max(whole.len() / STEPS).max(1);
        let mut now = at;
        self.free = self.free.max(at.saturating_sub(SLACK));
        if self.takes(whole.len()) + self.free <= at {
            // There was room for it: nothing shows.
            self.free += self.takes(whole.len());
            return out.send(item);
        }
        let mut left: Bytes = whole;
        while !left.is_empty() {
            let piece = left.split_to(step.min(left.len()));
            self.free += self.takes(piece.len());
            let wait = self.free.saturating_sub(now);
            out.wait(wait);
            now += wait;
            out.send(Item::Bytes(piece));
        }
    }

    fn takes(&self, bytes: usize) -> Duration {
        Duration::from_secs_f64(bytes as f64 / self.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Upstream, arm, build, connection, exchange, ms, play};
    use super::*;
    use crate::fault::Order;

    #[test]
    fn an_answer_takes_as_long_as_its_bytes() {
        let fault = build::<Bandwidth>("{ rate: 10kB/s }");
        let mut upstream = Upstream::message(1);
        upstream.items = vec![
            (ms(0), Item::Bytes(vec![b'a'; 4000].into())),
            (ms(100), Item::Bytes(vec![b'b'; 6000].into())),
        ];
        let played = play(&[fault.as_ref()], &exchange(1), &upstream);
        let (first, last) = (played.sent[0].0, played.sent.last().unwrap().0);
        // The head came after 10 ms; the slack is 20 ms.
        assert!(first >= ms(40) && last >= ms(990) && last <= ms(1010), "{first:?} {last:?}");
        let bytes: Vec<u8> = played.sent.iter().flat_map(|(_, item)| item.raw().to_vec()).collect();
        assert_eq!(bytes, [vec![b'a'; 4000], vec![b'b'; 6000]].concat());
        assert!(played.hit());
    }

    #[test]
    fn directions_have_a_line_each() {
        for (yaml, up, down) in [
            ("{ rate: 1kB/s, direction: up }", true, false),
            ("{ rate: 1kB/s, direction: down }", false, true),
            ("{ rate: 1kB/s }", true, true),
        ] {
            let fault = build::<Bandwidth>(yaml);
            let (mut effect, _) = arm(fault.as_ref(), ms(0), &connection(1)).unwrap();
            let held = |hook: &mut dyn FnMut(Item, &mut Orders)| {
                let mut out = Orders::default();
                hook(Item::Bytes(vec![0; 1000].into()), &mut out);
                out.list.iter().any(|order| matches!(order, Order::Wait(_)))
            };
            assert_eq!(held(&mut |item, out| effect.on_upload(ms(0), item, out)), up, "{yaml}");
            assert_eq!(held(&mut |item, out| effect.on_item(ms(0), item, out)), down, "{yaml}");
        }
        let fault = build::<Bandwidth>("{ rate: 1kB/s, direction: up }");
        assert!(arm(fault.as_ref(), ms(0), &exchange(1)).is_err());
    }

    #[test]
    fn a_low_rate_makes_few_orders_for_a_large_piece() {
        let fault = build::<Bandwidth>("{ rate: 1B/s }");
        let (mut effect, _) = arm(fault.as_ref(), ms(0), &connection(1)).unwrap();
        let mut out = Orders::default();
        effect.on_item(ms(0), Item::Bytes(vec![0; 1 << 20].into()), &mut out);
        assert!(out.list.len() <= 2 * STEPS + 4, "{}", out.list.len());
    }

    #[test]
    fn rates_read_and_print() {
        for (text, rate) in [("64kB/s", 64e3), ("1.5 MB / s", 1.5e6), ("6KiB/min", 102.4)] {
            let read: ByteRate = text.parse().unwrap();
            assert!((read.per_second - rate).abs() < 1e-9, "{text}");
            assert_eq!(read.to_string().parse::<ByteRate>().unwrap(), read);
        }
        for text in ["64", "64kB", "64 apples/s", "0B/s", "kB/s", "é/s", "1e9GB/s"] {
            let error = text.parse::<ByteRate>().unwrap_err().to_string();
            assert!(error.contains("write"), "{text}: {error}");
        }
    }
}
