//! Which events of a stream are chosen: so many percent of them, from a place on, in one direction.
//! Each event has a draw of its own, so that a seed chooses the same ones whatever else happens.

use std::sync::Arc;

use http::response;

use super::lengths::Lengths;
use super::place::{Follower, Found, unreadable};
use super::{Arming, Direction, Impossible, Invalid, Orders, Place};
use crate::dialect::Dialect;
use crate::dice::Dice;
use crate::exchange::{Event, Item, Operation, Transport};
use crate::units::Percent;

/// What the options say.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    share: f64,
    after: Option<Place>,
    at_most: u64,
    terminal: bool,
    direction: Direction,
    lengths: Arc<Lengths>,
}

impl Choice {
    pub(super) fn checked(
        percent: Option<Percent>,
        after: Option<Place>,
        at_most: Option<u64>,
        terminal: Option<bool>,
        direction: Option<Direction>,
    ) -> Result<Self, Invalid> {
        if percent.is_some_and(|percent| percent.share() == 0.0) {
            return Err(Invalid::new("percent", "0% of the events are none; write for example 5%"));
        }
        if at_most == Some(0) {
            return Err(Invalid::new("at_most", "no event at all; write 1 or more"));
        }
        if let Some(place) = after
            && !matches!(place, Place::Events(_) | Place::Tokens(_))
        {
            return Err(Invalid::new(
                "after",
                format!(
                    "`{place}` is no place between events; write for example 20 tokens or 3 events"
                ),
            ));
        }
        Ok(Self {
            share: percent.map_or(1.0, Percent::share),
            after,
            at_most: at_most.unwrap_or(u64::MAX),
            terminal: terminal.unwrap_or_default(),
            direction: direction.unwrap_or(Direction::Down),
            lengths: Arc::default(),
        })
    }

    /// The choosers of both directions: down, up.
    pub(super) fn arm(&self, arming: &mut Arming<'_>) -> Result<[Chooser; 2], Impossible> {
        let socket = arming.exchange.transport == Transport::WebSocket;
        if self.direction == Direction::Up && !socket {
            return Err(Impossible("what the app sends has events on a WebSocket alone"));
        }
        let mut chooser = |on: bool, label: &str| Chooser {
            share: self.share,
            left: self.at_most,
            terminal: self.terminal,
            on,
            follower: self.after.map(|place| Follower::new(place, &self.lengths, arming)),
            dialect: arming.dialect,
            operation: arming.exchange.facts.operation,
            dice: arming.draw.fork(label),
            seen: 0,
            chosen: 0,
            spared: 0,
            content: false,
        };
        Ok([
            chooser(self.direction != Direction::Up, "down"),
            chooser(self.direction != Direction::Down, "up"),
        ])
    }
}

/// Chooses the events of one direction.
#[derive(Debug)]
pub(super) struct Chooser {
    share: f64,
    left: u64,
    terminal: bool,
    on: bool,
    /// Until its place is reached.
    follower: Option<Follower>,
    dialect: &'static dyn Dialect,
    operation: Operation,
    dice: Dice,
    seen: u64,
    chosen: u64,
    /// Chosen, but there was nothing in them to change.
    spared: u64,
    /// Events without content are passed over.
    content: bool,
}

impl Chooser {
    /// Looks at the answer's head; what cannot be read is not chosen from.
    pub(super) fn head(&mut self, head: &response::Parts, out: &mut Orders) {
        if let Some(reason) = unreadable(head) {
            out.impossible(reason);
            self.on = false;
        }
    }

    /// Nothing more is chosen.
    pub(super) fn turn_off(&mut self) {
        self.on = false;
    }

    /// Whether anything may be chosen.
    pub(super) fn is_on(&self) -> bool {
        self.on
    }

    /// The dice of this piece where it is chosen. Comments, pings and closes never are.
    pub(super) fn choose(&mut self, item: &Item, out: &mut Orders) -> Option<Dice> {
        if !self.on {
            return None;
        }
        let event = match item {
            Item::Event(event) if !event.data.is_empty() && !event.is_control() => event,
            Item::Message(_) => {
                out.impossible("the answer is no stream");
                self.on = false;
                return None;
            }
            Item::Bytes(_) | Item::Event(_) => return None,
        };
        let reached = self.has_reached(item);
        if self.content && self.dialect.read_event(self.operation, event).tokens == 0 {
            return None;
        }
        let dice = self.dice.fork_number(self.seen);
        self.seen += 1;
        let drawn = dice.fork("percent").unit() < self.share;
        if !reached || !drawn || self.left == 0 || (!self.terminal && self.ends(event)) {
            return None;
        }
        self.left -= 1;
        self.chosen += 1;
        Some(dice)
    }

    /// Chooses from events with content alone.
    pub(super) fn of_content(mut self) -> Self {
        self.content = true;
        self
    }

    /// The event that was chosen last had nothing to change: it does not count.
    pub(super) fn spare(&mut self) {
        self.chosen -= 1;
        self.spared += 1;
        self.left = self.left.saturating_add(1);
    }

    /// The stream has ended: says why nothing was chosen.
    pub(super) fn end(&self, name: &'static str, out: &mut Orders) {
        if !self.on {
            return;
        }
        if self.chosen > 0 {
            out.note(name, self.chosen as f64);
        } else if self.spared > 0 {
            out.impossible("no event had what this changes");
        } else if self.follower.is_some() {
            out.impossible("the stream ended before the place");
        } else if self.seen == 0 {
            out.impossible("the stream had no events");
        } else {
            out.let_go("no event was drawn");
        }
    }

    fn has_reached(&mut self, item: &Item) -> bool {
        if let Some(follower) = &mut self.follower
            && follower.step(item) == Found::Later
        {
            return false;
        }
        self.follower = None;
        true
    }

    /// Whether this is the last word of an answer.
    pub(super) fn ends(&self, event: &Event) -> bool {
        let reading = self.dialect.read_event(self.operation, event);
        reading.done || reading.finish.is_some()
    }
}
