//! Delays inside an answer: before its first token, before each token, before its end.

use std::time::Duration;

use http::response;

use super::{At, Delays};
use crate::dialect::Dialect;
use crate::dice::Dice;
use crate::exchange::{Grain, Item, Operation};
use crate::fault::place::unreadable;
use crate::fault::{Effect, Orders};

/// Tokens of one piece whose delays are drawn one by one; of the rest the mean of these counts.
const DRAWN: u32 = 10_000;

/// An answer that is held somewhere inside.
pub(super) struct Inside {
    pub(super) place: At,
    pub(super) delays: Delays,
    pub(super) dice: Dice,
    pub(super) dialect: &'static dyn Dialect,
    pub(super) operation: Operation,
    /// It has been held where it is held once.
    pub(super) done: bool,
    /// Its tokens cannot be seen.
    pub(super) blind: bool,
    /// Delays so far, in seconds.
    pub(super) added: f64,
}

impl Effect for Inside {
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
        if let Some(reason) = unreadable(head) {
            out.impossible(reason);
            self.blind = true;
        }
    }

    fn on_item(&mut self, _: Duration, item: Item, out: &mut Orders) {
        if !self.blind && !self.done {
            let (tokens, last) = self.read(&item);
            match self.place {
                At::EachToken => self.hold(tokens, out),
                At::End if last => self.hold_once(out),
                At::BeforeFirstToken if tokens > 0 => self.hold_once(out),
                _ => {}
            }
        }
        out.send(item);
    }

    fn on_end(&mut self, _: Duration, out: &mut Orders) {
        if self.blind {
            return;
        }
        // A format without a terminal event ends with its last byte.
        if self.place == At::End && !self.done {
            self.hold_once(out);
        }
        if self.added > 0.0 {
            out.note("delay", self.added);
        } else if self.place != At::End && !self.done {
            out.impossible("the answer has no tokens");
        } else {
            out.let_go("nothing was to be added");
        }
    }
}

impl Inside {
    /// How many tokens a piece carries, and whether the answer ends with it.
    fn read(&self, item: &Item) -> (u32, bool) {
        match item {
            Item::Bytes(_) => (0, false),
            Item::Event(event) if event.data.is_empty() => (0, false),
            Item::Event(event) => {
                let reading = self.dialect.read_event(self.operation, event);
                (reading.tokens, reading.done)
            }
            Item::Message(body) => {
                (self.dialect.read_message(self.operation, body).tokens, true)
            }
        }
    }

    fn hold_once(&mut self, out: &mut Orders) {
        self.hold(1, out);
        self.done = true;
    }

    /// Holds what follows for as many delays as there are tokens.
    fn hold(&mut self, tokens: u32, out: &mut Orders) {
        let drawn = tokens.min(DRAWN);
        let sum: f64 = (0..drawn).map(|_| self.delays.draw(&mut self.dice).as_secs_f64()).sum();
        let seconds = sum * f64::from(tokens) / f64::from(drawn.max(1));
        self.added += seconds;
        let time = Duration::try_from_secs_f64(seconds).unwrap_or(super::LONGEST);
        out.wait(time.min(super::LONGEST));
    }
}
