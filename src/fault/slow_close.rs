//! An end that comes late: everything has been sent, and the connection stays open. It finds clients
//! that wait for the close, and pools that run out of places.

use std::time::Duration;

use http::{header, response};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Arming, Direction, Effect, Fault, Impossible, Invalid, Orders, Spec, Within};
use crate::dialect::Dialect;
use crate::exchange::{Grain, Level};
use crate::units::Span;

/// The end of a connection (over HTTP of an answer without a length) comes late.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SlowClose {
    /// How much later, up to 1h.
    pub delay: Span,
    /// Whose end is late on raw connections: what the dependency sends (`down`), what the app sends
    /// (`up`), or `both`. Default down.
    pub direction: Option<Direction>,
}

impl Spec for SlowClose {
    const NAME: &'static str = "slow_close";
    const SUMMARY: &'static str = "a connection that stays open long after its last byte";
    const EXAMPLE: &'static str = "{ delay: 5s }";

    fn build(&self) -> Result<Box<dyn Fault>, Invalid> {
        let delay = self.delay.0;
        if delay.is_zero() || delay > Duration::from_secs(3600) {
            return Err(Invalid::new("delay", "a delay is longer than nothing and at most 1h"));
        }
        Ok(Box::new(Loaded { delay, direction: self.direction.unwrap_or(Direction::Down) }))
    }
}

#[derive(Debug)]
struct Loaded {
    delay: Duration,
    direction: Direction,
}

impl Fault for Loaded {
    fn within(&self, _: &dyn Dialect) -> Within {
        Within::Connection
    }

    fn arm(&self, arming: &mut Arming<'_>) -> Result<Box<dyn Effect>, Impossible> {
        if arming.exchange.level != Level::Connection && !self.direction.is_down() {
            return Err(Impossible("over HTTP the end of an answer alone can be late"));
        }
        Ok(Box::new(Lingering { delay: self.delay, direction: self.direction, off: false }))
    }
}

struct Lingering {
    delay: Duration,
    direction: Direction,
    /// The app knows where the answer ends.
    off: bool,
}

impl Effect for Lingering {
    fn grain(&self) -> Grain {
        Grain::Bytes
    }

    fn on_response(
        &mut self,
        _: Duration,
        _: Duration,
        head: &mut response::Parts,
        out: &mut Orders,
    ) {
        if head.headers.contains_key(header::CONTENT_LENGTH) {
            out.impossible("the answer says how long it is, so its end cannot be late");
            self.off = true;
        }
    }

    fn on_upload_end(&mut self, _: Duration, out: &mut Orders) {
        if self.direction.is_up() {
            out.wait(self.delay);
        }
    }

    fn on_end(&mut self, _: Duration, out: &mut Orders) {
        if self.direction.is_down() && !self.off {
            out.wait(self.delay);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Upstream, arm, build, connection, exchange, invalid, ms, play};
    use super::*;
    use crate::fault::Order;

    #[test]
    fn the_end_comes_late_and_nothing_else() {
        let fault = build::<SlowClose>("{ delay: 5s }");
        let played = play(&[fault.as_ref()], &exchange(1), &Upstream::stream(2, ms(1)));
        assert_eq!((played.time_of("[DONE]"), played.end), (ms(14), ms(5014)));
        assert!(played.hit());
        let played = play(&[fault.as_ref()], &exchange(1), &Upstream::message(2));
        assert_eq!(played.end, ms(10));
        assert!(played.impossible().unwrap().contains("how long it is"));
    }

    #[test]
    fn directions_are_told_apart() {
        for (yaml, up, down) in [
            ("{ delay: 1s }", false, true),
            ("{ delay: 1s, direction: up }", true, false),
            ("{ delay: 1s, direction: both }", true, true),
        ] {
            let fault = build::<SlowClose>(yaml);
            let (mut effect, _) = arm(fault.as_ref(), ms(0), &connection(1)).unwrap();
            let (mut above, mut below) = (Orders::default(), Orders::default());
            effect.on_upload_end(ms(0), &mut above);
            effect.on_end(ms(0), &mut below);
            let late = |out: &Orders| out.list == [Order::Wait(ms(1000))];
            assert_eq!((late(&above), late(&below)), (up, down), "{yaml}");
        }
    }

    #[test]
    fn options_that_do_not_fit_are_refused() {
        assert_eq!(invalid::<SlowClose>("{ delay: 0s }").field, "delay");
    }
}
