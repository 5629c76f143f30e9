//! What effects order: pieces to send, waits, ends. The planes carry orders out; here they are words.

use std::time::Duration;

use super::Changed;
use crate::dialect::Answer;
use crate::exchange::Item;

/// What the pump is to do, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Ask the same effect again after this time (only from `on_connect` and `on_request`).
    Again(Duration),
    /// Answer the request ourselves; the upstream is not called.
    Answer(Answer),
    /// Present a flawed certificate (only from `on_connect` of a handshake).
    Certificate(Flaw),
    /// End the exchange now, in this way.
    End(Ending),
    /// Send the next piece in one write with the one before it.
    Join,
    /// For a time, or from here on, send nothing but this.
    Pulse(Pulse),
    /// Send this piece.
    Send(Item),
    /// Hold everything that follows for this long.
    Wait(Duration),
}

/// A piece that comes again and again while nothing else does: a keep-alive.
#[derive(Clone, Debug, PartialEq)]
pub struct Pulse {
    pub item: Item,
    /// The time before each; longer than nothing.
    pub every: Duration,
    /// For how long; None: until the client or the fault ends.
    pub time: Option<Duration>,
}

impl Pulse {
    /// How long until the next one, and whether the piece comes then; None when its time is over.
    pub fn step(&mut self) -> Option<(Duration, bool)> {
        let Some(left) = self.time else { return Some((self.every, true)) };
        if left.is_zero() {
            return None;
        }
        let beats = left > self.every;
        let wait = if beats { self.every } else { left };
        self.time = Some(left - wait);
        Some((wait, beats))
    }
}

/// How an exchange ends early.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// In good order: the chunked terminator is sent, the connection stays open.
    Clean,
    /// The connection is closed (TCP FIN) before the body is whole.
    Close,
    /// A WebSocket is closed with this code; elsewhere like `Close`.
    CloseFrame(u16),
    /// HTTP/2: the connection says GOAWAY, open streams break; elsewhere like `Close`.
    GoAway,
    /// Nothing more is sent; the connection stays open until the client or the fault ends.
    Hang,
    /// The connection is reset (TCP RST). On HTTP/2 all its streams go down with it.
    Reset,
    /// HTTP/2: this stream alone is reset, with this code; elsewhere like `Reset`.
    StreamReset(u32),
}

impl Ending {
    /// The same ending where a connection carries one exchange at a time and has no frames.
    pub fn of_connection(self) -> Self {
        match self {
            Self::CloseFrame(_) | Self::GoAway => Self::Close,
            Self::StreamReset(_) => Self::Reset,
            plain => plain,
        }
    }
}

/// What is wrong with a certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    Expired,
    /// There is none: the handshake is refused with the alert `handshake_failure`.
    Missing,
    /// From an authority that nobody trusts.
    Untrusted,
    WrongName,
}

/// Collects what an effect orders and whether it acted.
#[derive(Debug, Default)]
pub struct Orders {
    pub(crate) list: Vec<Order>,
    pub(crate) hit: bool,
    pub(crate) impossible: Option<&'static str>,
    pub(crate) let_go: Option<&'static str>,
    pub(crate) notes: Vec<(&'static str, f64)>,
    pub(crate) changed: Option<Changed>,
}

impl Orders {
    /// Holds what follows for this long; counts as a hit when longer than nothing.
    pub fn wait(&mut self, time: Duration) {
        if !time.is_zero() {
            self.hit = true;
            self.list.push(Order::Wait(time));
        }
    }

    /// Passes a piece on. No hit by itself.
    pub fn send(&mut self, item: Item) {
        self.list.push(Order::Send(item));
    }

    /// Joins what is sent next to what was sent before, in one write. No hit by itself.
    pub fn join(&mut self) {
        self.list.push(Order::Join);
    }

    /// Sends nothing but this, again and again; counts as a hit.
    pub fn pulse(&mut self, pulse: Pulse) {
        self.hit = true;
        self.list.push(Order::Pulse(pulse));
    }

    /// Answers in the upstream's place; counts as a hit.
    pub fn answer(&mut self, answer: Answer) {
        self.hit = true;
        self.list.push(Order::Answer(answer));
    }

    /// Ends the exchange; counts as a hit.
    pub fn end(&mut self, ending: Ending) {
        self.hit = true;
        self.list.push(Order::End(ending));
    }

    /// Presents a flawed certificate; counts as a hit.
    pub fn certificate(&mut self, flaw: Flaw) {
        self.hit = true;
        self.list.push(Order::Certificate(flaw));
    }

    /// Asks to be called again after this time; counts as a hit.
    pub fn again(&mut self, time: Duration) {
        self.hit = true;
        self.list.push(Order::Again(time));
    }

    /// Says that this effect has changed something.
    pub fn hit(&mut self) {
        self.hit = true;
    }

    /// Says that this effect cannot act on this exchange, and why.
    pub fn impossible(&mut self, reason: &'static str) {
        self.impossible = Some(reason);
    }

    /// Says that this effect could act but this exchange gave it no cause to, and why (a request
    /// within the limit). Neither a hit nor impossible.
    pub fn let_go(&mut self, reason: &'static str) {
        self.let_go = Some(reason);
    }

    /// Says how many bytes and events of the body this effect has changed now. Without it they are
    /// counted from what goes in and comes out; an effect that has once said so is not counted.
    pub fn changed(&mut self, bytes: u64, events: u64) {
        let so_far = self.changed.unwrap_or_default();
        let (bytes, events) = (so_far.bytes + bytes, so_far.events + events);
        self.changed = Some(Changed { bytes, events });
    }

    /// Writes a figure to the decision journal (for example the share really reached).
    pub fn note(&mut self, name: &'static str, value: f64) {
        self.notes.push((name, value));
    }
}
