//! Delays on a raw connection: before it is made, or each read by itself.

use std::time::Duration;

use super::Delays;
use crate::dice::Dice;
use crate::exchange::{Grain, Item};
use crate::fault::{Effect, Orders};

/// A raw connection on which each piece is late.
pub(super) struct Line {
    pub(super) delays: Delays,
    /// The draws of each direction that is held; None: it is not.
    pub(super) up: Option<Dice>,
    pub(super) down: Option<Dice>,
}

impl Effect for Line {
    fn grain(&self) -> Grain {
        Grain::Bytes
    }

    fn on_upload(&mut self, _: Duration, item: Item, out: &mut Orders) {
        if let Some(dice) = &mut self.up {
            out.wait(self.delays.draw(dice));
        }
        out.send(item);
    }

    fn on_item(&mut self, _: Duration, item: Item, out: &mut Orders) {
        if let Some(dice) = &mut self.down {
            out.wait(self.delays.draw(dice));
        }
        out.send(item);
    }
}

/// A raw connection that is made late.
pub(super) struct Connecting(pub(super) Duration);

impl Effect for Connecting {
    fn on_connect(&mut self, _: Duration, out: &mut Orders) {
        if self.0.is_zero() {
            out.let_go("nothing was to be added");
        }
        out.wait(self.0);
    }
}
