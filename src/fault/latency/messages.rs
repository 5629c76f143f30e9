//! Delays on a WebSocket: each message by itself.

use std::time::Duration;

use http::{header, response};

use super::Delays;
use crate::dice::Dice;
use crate::exchange::{Grain, Item};
use crate::fault::place::unreadable;
use crate::fault::{Effect, Orders};

/// Delays each message by the time that passes since it came.
pub(super) struct Lagging {
    pub(super) delays: Delays,
    pub(super) dice: Dice,
    /// When the next message came.
    pub(super) came: Option<Duration>,
    pub(super) seen: u64,
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
