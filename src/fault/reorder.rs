//! Lets events of a stream overtake each other: a relay that hands them on by several workers, a
//! message bus without order.

use std::time::Duration;

use http::response;
use schemars::JsonSchema;
use serde::Deserialize;

use super::choice::{Choice, Chooser};
use super::{Arming, Effect, Fault, Impossible, Invalid, Orders, Place, Spec};
use crate::exchange::{Grain, Item};
use crate::units::Percent;

/// No more bytes than these are held back.
const HELD: usize = 1 << 20;

/// Events of a stream that are overtaken by later ones.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reorder {
    /// Within how many events order is lost: an event is overtaken by up to this many less one. From 2
    /// to 64; at most 1 MiB is held. Default 2: neighbours change places.
    pub window: Option<u64>,
    /// How many of the events are held back. Each is drawn for itself, with the same seed always the
    /// same ones. Default 100%.
    pub percent: Option<Percent>,
    /// From where on: `20 tokens`, `3 events`. Default: from the start.
    pub after: Option<Place>,
    /// How many are held back at most, 1 or more. Default: no limit.
    pub at_most: Option<u64>,
    /// Whether the event that says that the answer is over may be overtaken too. Default false: all
    /// that is held goes before it.
    pub terminal: Option<bool>,
}

impl Spec for Reorder {
    const NAME: &'static str = "reorder";
    const SUMMARY: &'static str = "events of a stream that overtake each other";
    const EXAMPLE: &'static str = "{ window: 3, percent: 20% }";

    fn build(&self) -> Result<Box<dyn Fault>, Invalid> {
        let window = self.window.unwrap_or(2);
        if !(2..=64).contains(&window) {
            return Err(Invalid::new("window", "write a number of events from 2 to 64"));
        }
        let Self { percent, after, at_most, terminal, .. } = *self;
        let choice = Choice::checked(percent, after, at_most, terminal, None)?;
        Ok(Box::new(Loaded { choice, window, terminal: terminal.unwrap_or_default() }))
    }
}

#[derive(Debug)]
struct Loaded {
    choice: Choice,
    window: u64,
    terminal: bool,
}

impl Fault for Loaded {
    fn arm(&self, arming: &mut Arming<'_>) -> Result<Box<dyn Effect>, Impossible> {
        let [chooser, _] = self.choice.arm(arming)?;
        Ok(Box::new(Reordering {
            window: self.window,
            terminal: self.terminal,
            chooser,
            held: Vec::new(),
            bytes: 0,
            overtaken: 0,
        }))
    }
}

struct Reordering {
    window: u64,
    /// The end of the answer may be overtaken.
    terminal: bool,
    chooser: Chooser,
    held: Vec<Held>,
    bytes: usize,
    overtaken: u64,
}

/// An event that lets others pass.
struct Held {
    item: Item,
    /// How many are still to pass.
    left: u64,
    /// Whether one has.
    overtaken: bool,
}

impl Effect for Reordering {
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
        self.chooser.head(head, out);
    }

    fn on_item(&mut self, _: Duration, item: Item, out: &mut Orders) {
        let chosen = self.chooser.choose(&item, out);
        let length = item.raw().len();
        if let Some(dice) = chosen {
            let room = self.held.len() as u64 + 1 < self.window && self.bytes + length <= HELD;
            if room {
                let left = dice.fork("shift").whole(1, self.window - 1);
                self.bytes += length;
                return self.held.push(Held { item, left, overtaken: false });
            }
            self.chooser.spare();
        }
        let Item::Event(event) = &item else { return self.pass_whole(item, out) };
        if event.is_control() {
            return out.send(item);
        }
        if self.held.is_empty() || !self.terminal && self.chooser.ends(event) {
            return self.pass_whole(item, out);
        }
        out.send(item);
        for held in &mut self.held {
            held.left -= 1;
            held.overtaken = true;
        }
        self.let_go(|held| held.left == 0, out);
    }

    fn on_stop(&mut self, _: Duration, out: &mut Orders) {
        self.let_go(|_| true, out);
    }

    fn on_end(&mut self, _: Duration, out: &mut Orders) {
        self.let_go(|_| true, out);
        self.chooser.end("held_back", out);
        if self.overtaken > 0 {
            out.note("overtaken", self.overtaken as f64);
        }
    }
}

impl Reordering {
    /// Nothing overtakes this piece, and it overtakes nothing.
    fn pass_whole(&mut self, item: Item, out: &mut Orders) {
        self.let_go(|_| true, out);
        out.send(item);
    }

    fn let_go(&mut self, which: impl Fn(&Held) -> bool, out: &mut Orders) {
        for held in std::mem::take(&mut self.held) {
            if !which(&held) {
                self.held.push(held);
                continue;
            }
            self.bytes -= held.item.raw().len();
            if held.overtaken {
                self.overtaken += 1;
                out.hit();
            }
            out.send(held.item);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Played, Upstream, build, exchange, invalid, ms, play};
    use super::*;

    fn mixed(yaml: &str, tokens: usize) -> Played {
        let stream = Upstream::stream(tokens, ms(1));
        play(&[build::<Reorder>(yaml).as_ref()], &exchange(1), &stream)
    }

    #[test]
    fn neighbours_change_places_and_the_end_stays() {
        let played = mixed("{ after: 1 events }", 5);
        assert_eq!(played.text(), "role t1 t0 t3 t2 t4 finish:stop [DONE]");
        assert_eq!((played.note("overtaken"), played.hit()), (Some(2.0), true));
        let once = mixed("{ at_most: 1, after: 2 tokens }", 5);
        assert_eq!(once.text(), "role t0 t1 t3 t2 t4 finish:stop [DONE]");
    }

    #[test]
    fn the_end_can_be_overtaken_and_nothing_is_lost() {
        let played = mixed("{ terminal: true, after: 6 events, window: 2 }", 5);
        assert_eq!(played.text(), "role t0 t1 t2 t3 t4 [DONE] finish:stop");
    }

    #[test]
    fn what_is_held_goes_before_an_early_end() {
        let reorder = build::<Reorder>("{ after: 1 events, at_most: 1, window: 9 }");
        let cut = build::<super::super::Truncate>("{ at: mid_event, ending: close }");
        let stream = Upstream::stream(5, ms(1));
        // The cut is before the reordering here: it stops the stream while something is held.
        let played = play(&[cut.as_ref(), reorder.as_ref()], &exchange(1), &stream);
        assert!(played.text().contains("t0"), "{}", played.text());
    }

    proptest::proptest! {
        #[test]
        fn all_arrive_and_none_far_from_its_place(key in 0u64..200, window in 2u64..10) {
            let fault = build::<Reorder>(&format!("{{ window: {window}, percent: 40% }}"));
            let stream = Upstream::stream(40, ms(1));
            let played = play(&[fault.as_ref()], &exchange(key), &stream);
            proptest::prop_assert_eq!(played.sent.len(), stream.items.len());
            for (before, (_, item)) in stream.items.iter().enumerate() {
                let after = played.sent.iter().position(|(_, sent)| sent == item).unwrap();
                proptest::prop_assert!(before.abs_diff(after) < window as usize * 2);
            }
            let again = play(&[fault.as_ref()], &exchange(key), &stream);
            proptest::prop_assert_eq!(again.sent, played.sent);
        }
    }

    #[test]
    fn options_that_do_not_fit_are_refused() {
        assert_eq!(invalid::<Reorder>("{ window: 1 }").field, "window");
        assert_eq!(invalid::<Reorder>("{ percent: 0% }").field, "percent");
    }
}
