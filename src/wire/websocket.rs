//! WebSocket frames (RFC 6455): where they end, and the messages they make, each with the exact
//! bytes of its frames. What breaks the protocol passes as bytes from there on and is never read.
//!
//! A ping that comes between the fragments of a message is given before that message, since it is
//! whole earlier; all other bytes keep their order.

mod frame;
mod tracker;

use bytes::{Bytes, BytesMut};

pub use self::frame::{Kind, frame};
use self::tracker::Step;
pub use self::tracker::{Side, Tracker};
use crate::exchange::{Event, Framing, Item};
use crate::wire::CAP;

/// Takes pieces of one side of a socket and gives its messages. As an iterator it yields what is
/// complete, and None when it needs more; nothing is lost when the iteration is left early.
#[derive(Debug)]
pub struct Splitter {
    tracker: Tracker,
    input: Bytes,
    /// The begun frame, from earlier pieces.
    carry: BytesMut,
    /// The fragments so far of the begun message.
    message: Option<Message>,
    /// The current frame was begun before this splitter, or its message is above the cap.
    passing: bool,
    /// The rest of the current message passes as bytes.
    spilled: bool,
    cap: usize,
}

/// A message under way.
#[derive(Debug)]
struct Message {
    kind: Kind,
    raw: BytesMut,
    data: BytesMut,
}

impl Splitter {
    /// A splitter that goes on where the tracker stands: the rest of a begun message passes as
    /// bytes.
    pub fn from(tracker: Tracker) -> Self {
        Self::with_cap(tracker, CAP)
    }

    /// A splitter that passes messages above `cap` bytes on as bytes.
    pub fn with_cap(tracker: Tracker, cap: usize) -> Self {
        Self {
            passing: !tracker.at_boundary(),
            spilled: tracker.is_inside_message(),
            tracker,
            input: Bytes::new(),
            carry: BytesMut::new(),
            message: None,
            cap,
        }
    }

    /// Takes the next piece; iterate over the result for what is complete.
    pub fn push(&mut self, piece: Bytes) -> &mut Self {
        if self.input.is_empty() {
            self.input = piece;
        } else {
            let mut joined = BytesMut::from(std::mem::take(&mut self.input));
            joined.extend_from_slice(&piece);
            self.input = joined.freeze();
        }
        self
    }

    /// Gives up splitting: what is left of the input, and where the frames stand behind it.
    pub fn finish(mut self) -> (Bytes, Tracker) {
        let mut left = self.held();
        left.extend_from_slice(&self.input);
        self.tracker.skip(&self.input);
        (left.freeze(), self.tracker)
    }

    /// Where the frames stand behind what has been iterated over.
    pub fn tracker(&self) -> &Tracker {
        &self.tracker
    }

    /// Takes what is held back of a begun message.
    fn held(&mut self) -> BytesMut {
        let mut held = self.message.take().map_or_else(BytesMut::new, |message| message.raw);
        held.unsplit(self.carry.split());
        held
    }

    /// Passes everything up to `at` as bytes.
    fn pass(&mut self, at: usize) -> Item {
        let piece = self.input.split_to(at);
        let mut held = self.held();
        if held.is_empty() {
            return Item::Bytes(piece);
        }
        held.extend_from_slice(&piece);
        Item::Bytes(held.freeze())
    }

    /// A frame's head is complete: may its message be held?
    fn begin(&mut self) {
        let frame = self.tracker.frame();
        if self.passing {
            // It was begun before this splitter.
            self.spilled |= !frame.kind.is_control() && !frame.last;
            return;
        }
        if frame.kind.is_control() {
            return;
        }
        let held = self.message.as_ref().map_or(0, |message| message.raw.len());
        let length = frame.length.saturating_add(held as u64);
        self.spilled |= self.tracker.is_opaque() || length > self.cap as u64;
        self.passing = self.spilled;
    }

    /// A frame is complete and ends at `at`.
    fn end(&mut self, at: usize) -> Option<Item> {
        let frame = self.tracker.frame();
        if self.passing {
            self.passing = false;
            if frame.last && !frame.kind.is_control() {
                self.spilled = false;
            }
            return Some(self.pass(at));
        }
        let piece = self.input.split_to(at);
        let raw = if self.carry.is_empty() {
            piece
        } else {
            self.carry.extend_from_slice(&piece);
            self.carry.split().freeze()
        };
        let payload = raw.slice(raw.len() - frame.length as usize..);
        let data = frame.unmasked(payload);
        if frame.kind.is_control() {
            return Some(event(frame.kind, raw, data));
        }
        match (&mut self.message, frame.last) {
            (None, true) => return Some(event(frame.kind, raw, data)),
            (None, false) => {
                let (raw, data) = (BytesMut::from(&raw[..]), BytesMut::from(&data[..]));
                self.message = Some(Message { kind: frame.kind, raw, data });
            }
            (Some(message), last) => {
                message.raw.extend_from_slice(&raw);
                message.data.extend_from_slice(&data);
                if last {
                    let message = self.message.take()?;
                    let (raw, data) = (message.raw.freeze(), message.data.freeze());
                    return Some(event(message.kind, raw, data));
                }
            }
        }
        None
    }
}

/// A whole message. Text that is no UTF-8 ends the socket when it arrives, so it is not read.
fn event(kind: Kind, raw: Bytes, data: Bytes) -> Item {
    if kind == Kind::Text && std::str::from_utf8(&data).is_err() {
        return Item::Bytes(raw);
    }
    let name = Some(kind.name().to_owned());
    Item::Event(Event { framing: Framing::WebSocket, raw, name, data })
}

impl Iterator for Splitter {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        let mut at = 0;
        while at < self.input.len() {
            let (used, step) = self.tracker.step(&self.input[at..]);
            at += used;
            match step {
                Step::More => {}
                Step::Broken => return Some(self.pass(self.input.len())),
                Step::Head { ends } => {
                    self.begin();
                    if ends {
                        if let Some(item) = self.end(at) {
                            return Some(item);
                        }
                        at = 0;
                    } else if self.passing {
                        return Some(self.pass(at));
                    }
                }
                Step::Payload { ends: false } => {}
                Step::Payload { ends: true } => {
                    if let Some(item) = self.end(at) {
                        return Some(item);
                    }
                    at = 0;
                }
            }
        }
        if self.input.is_empty() {
            return None;
        }
        if self.passing {
            return Some(self.pass(self.input.len()));
        }
        let piece = std::mem::take(&mut self.input);
        self.carry.extend_from_slice(&piece);
        None
    }
}

#[cfg(test)]
mod tests;
