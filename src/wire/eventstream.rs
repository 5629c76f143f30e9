//! Splits Amazon's eventstream (`application/vnd.amazon.eventstream`) into its events, each with its
//! exact bytes, and reads their headers. Frames whose checksums do not fit pass as bytes.

use bytes::{Bytes, BytesMut};

use crate::exchange::eventstream::{OVERHEAD, PRELUDE, TEXT, headers_of, is_name};
use crate::exchange::{Event, Framing, Item};
use crate::wire::CAP;

/// Takes pieces of a stream and gives its events. As an iterator it yields what is complete, and
/// None when it needs more; nothing is lost when the iteration is left early.
#[derive(Debug)]
pub struct Splitter {
    input: Bytes,
    /// The begun frame, from earlier pieces.
    carry: BytesMut,
    passing: Passing,
    cap: usize,
}

/// What is not split but passes as it comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Passing {
    Nothing,
    /// The rest of a frame that is above the cap: so many bytes.
    Frame(usize),
    /// Everything: the lengths of a frame cannot be trusted, so nobody knows where the next one
    /// begins.
    Rest,
}

impl Default for Splitter {
    fn default() -> Self {
        Self::with_cap(CAP)
    }
}

impl Splitter {
    /// A splitter at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// A splitter that passes frames above `cap` bytes on as bytes.
    pub fn with_cap(cap: usize) -> Self {
        Self { input: Bytes::new(), carry: BytesMut::new(), passing: Passing::Nothing, cap }
    }

    /// Takes the next piece of the stream; iterate over the result for what is complete.
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

    /// The stream has ended: gives what is left, call it until None. A frame that is not whole comes
    /// as bytes.
    pub fn finish(&mut self) -> Option<Item> {
        if let Some(item) = self.next() {
            return Some(item);
        }
        (!self.carry.is_empty()).then(|| Item::Bytes(self.carry.split().freeze()))
    }

    /// Moves bytes of the input into the begun frame until it has `wanted`; whether it has.
    fn fill(&mut self, wanted: usize) -> bool {
        let missing = wanted.saturating_sub(self.carry.len()).min(self.input.len());
        self.carry.extend_from_slice(&self.input.split_to(missing));
        self.carry.len() >= wanted
    }

    /// The next frame's bytes, once they are all there and below the cap.
    fn frame(&mut self) -> Option<Bytes> {
        if self.carry.is_empty() && self.input.len() >= PRELUDE {
            // The usual case: a whole frame in one piece is not copied.
            let length = length_of(&self.input).filter(|length| *length <= self.cap);
            if let Some(length) = length.filter(|length| self.input.len() >= *length) {
                return Some(self.input.split_to(length));
            }
        }
        if !self.fill(PRELUDE) {
            return None;
        }
        match length_of(&self.carry) {
            Some(length) if length <= self.cap => {
                self.fill(length).then(|| self.carry.split().freeze())
            }
            Some(length) => {
                self.passing = Passing::Frame(length - self.carry.len());
                Some(self.carry.split().freeze())
            }
            None => {
                self.passing = Passing::Rest;
                Some(self.carry.split().freeze())
            }
        }
    }
}

impl Iterator for Splitter {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        if self.input.is_empty() {
            return None;
        }
        match self.passing {
            Passing::Nothing => {}
            Passing::Frame(left) => {
                let piece = self.input.split_to(left.min(self.input.len()));
                let left = left - piece.len();
                self.passing = if left == 0 { Passing::Nothing } else { Passing::Frame(left) };
                return Some(Item::Bytes(piece));
            }
            Passing::Rest => return Some(Item::Bytes(std::mem::take(&mut self.input))),
        }
        let raw = self.frame()?;
        Some(match event(&raw) {
            Some(event) if self.passing == Passing::Nothing => Item::Event(event),
            _ => Item::Bytes(raw),
        })
    }
}

/// The length that a frame's prelude gives, None where its checksum does not fit or no frame is so
/// short.
fn length_of(raw: &[u8]) -> Option<usize> {
    let (lengths, checksum) = (raw.get(..8)?, number(raw, 8)?);
    let (total, headers) = (number(raw, 0)? as usize, number(raw, 4)? as usize);
    let fits = crc32fast::hash(lengths) == checksum && total.checked_sub(OVERHEAD)? >= headers;
    fits.then_some(total)
}

fn number(raw: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(raw.get(at..at + 4)?.try_into().ok()?))
}

/// Reads a whole frame; None where its checksum does not fit.
fn event(raw: &Bytes) -> Option<Event> {
    let end = raw.len().checked_sub(4)?;
    if length_of(raw)? != raw.len() || crc32fast::hash(&raw[..end]) != number(raw, end)? {
        return None;
    }
    let start = PRELUDE + headers_of(raw).len();
    let name = headers(raw).find(|(name, _)| is_name(name)).map(|(_, value)| value.to_owned());
    Some(Event {
        framing: Framing::EventStream,
        raw: raw.clone(),
        name,
        data: raw.slice(start..end),
    })
}

/// The headers of a frame whose values are texts, in their order.
pub fn headers(raw: &[u8]) -> Headers<'_> {
    Headers(headers_of(raw))
}

/// The value of a frame's header, where it is a text.
pub fn header<'a>(raw: &'a [u8], name: &str) -> Option<&'a str> {
    headers(raw).find(|(known, _)| *known == name).map(|(_, value)| value)
}

/// The headers of a frame that are not read yet.
#[derive(Clone, Debug)]
pub struct Headers<'a>(&'a [u8]);

impl<'a> Headers<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// The next header; a value that is no text is None in it.
    fn read(&mut self) -> Option<(&'a str, Option<&'a str>)> {
        let length = self.take(1)?[0];
        let name = std::str::from_utf8(self.take(length.into())?).ok()?;
        let kind = self.take(1)?[0];
        let length = match kind {
            // true, false
            0 | 1 => 0,
            // byte, short, integer, long, timestamp, UUID
            2 => 1,
            3 => 2,
            4 => 4,
            5 | 8 => 8,
            9 => 16,
            // bytes, text
            6 | TEXT => {
                let length = self.take(2)?;
                u16::from_be_bytes([length[0], length[1]]).into()
            }
            _ => return None,
        };
        let value = self.take(length)?;
        Some((name, (kind == TEXT).then(|| std::str::from_utf8(value).ok()).flatten()))
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<(&'a str, &'a str)> {
        loop {
            if let (name, Some(value)) = self.read()? {
                return Some((name, value));
            }
        }
    }
}

#[cfg(test)]
mod tests;
