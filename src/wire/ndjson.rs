//! Splits newline-delimited JSON into its lines, each with its exact bytes.

use bytes::{Bytes, BytesMut};
use memchr::memchr;
use serde::de::IgnoredAny;

use crate::exchange::{Event, Framing, Item};
use crate::wire::CAP;

/// Takes pieces of a stream and gives its lines. As an iterator it yields what is complete, and
/// None when it needs more; nothing is lost when the iteration is left early.
#[derive(Debug)]
pub struct Splitter {
    input: Bytes,
    /// The begun line, from earlier pieces.
    carry: BytesMut,
    /// The begun line is above the cap and passes as bytes.
    spilling: bool,
    cap: usize,
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

    /// A splitter that passes lines above `cap` bytes on as bytes.
    pub fn with_cap(cap: usize) -> Self {
        Self { input: Bytes::new(), carry: BytesMut::new(), spilling: false, cap }
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

    /// The stream has ended: gives what is left, call it until None. A last line that lacks its
    /// newline is an event when it is whole JSON, else bytes.
    pub fn finish(&mut self) -> Option<Item> {
        if let Some(item) = self.next() {
            return Some(item);
        }
        if self.carry.is_empty() {
            return None;
        }
        let raw = self.carry.split().freeze();
        let whole = serde_json::from_slice::<IgnoredAny>(&raw).is_ok();
        Some(if whole { Item::Event(event(raw)) } else { Item::Bytes(raw) })
    }
}

impl Iterator for Splitter {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        if self.input.is_empty() {
            return None;
        }
        let Some(end) = memchr(b'\n', &self.input) else {
            let piece = std::mem::take(&mut self.input);
            if self.spilling {
                return Some(Item::Bytes(piece));
            }
            self.carry.extend_from_slice(&piece);
            if self.carry.len() <= self.cap {
                return None;
            }
            self.spilling = true;
            return Some(Item::Bytes(self.carry.split().freeze()));
        };
        let piece = self.input.split_to(end + 1);
        let raw = if self.carry.is_empty() {
            piece
        } else {
            self.carry.extend_from_slice(&piece);
            self.carry.split().freeze()
        };
        let spilled = std::mem::take(&mut self.spilling) || raw.len() > self.cap;
        Some(if spilled { Item::Bytes(raw) } else { Item::Event(event(raw)) })
    }
}

fn event(raw: Bytes) -> Event {
    let line = raw.strip_suffix(b"\n").unwrap_or(&raw);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let data = raw.slice(..line.len());
    Event { framing: Framing::Ndjson, raw, name: None, data }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(pieces: &[&[u8]]) -> Vec<Item> {
        let mut splitter = Splitter::new();
        let mut items = Vec::new();
        for piece in pieces {
            items.extend(splitter.push(Bytes::copy_from_slice(piece)));
        }
        items.extend(std::iter::from_fn(|| splitter.finish()));
        items
    }

    #[test]
    fn lines_are_events() {
        let items = split(&[b"{\"a\":1}\r\n\n{\"a\":2}\n{\"a\":"]);
        let Item::Event(first) = &items[0] else { panic!("{items:?}") };
        assert_eq!(first.data, b"{\"a\":1}"[..]);
        assert_eq!(first.raw, b"{\"a\":1}\r\n"[..]);
        assert!(matches!(&items[1], Item::Event(event) if event.data.is_empty()));
        assert!(matches!(&items[2], Item::Event(event) if event.data == b"{\"a\":2}"[..]));
        assert_eq!(items[3], Item::Bytes(Bytes::from_static(b"{\"a\":")));
    }

    #[test]
    fn a_last_line_may_lack_its_newline() {
        assert!(matches!(&split(&[b"{\"a\"", b":1}"])[..], [Item::Event(_)]));
    }

    #[test]
    fn lines_above_the_cap_pass_as_bytes() {
        let mut splitter = Splitter::with_cap(4);
        let mut items = Vec::new();
        for piece in ["12345", "6", "7\n1\n", "1234567\n"] {
            items.extend(splitter.push(Bytes::from(piece)));
        }
        let kinds: Vec<bool> = items.iter().map(|item| matches!(item, Item::Event(_))).collect();
        assert_eq!(kinds, [false, false, false, true, false]);
    }

    proptest! {
        #[test]
        fn any_split_decodes_alike(
            bytes in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(b'1'), any::<u8>()], 0..60),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            let whole = split(&[&bytes]);
            prop_assert_eq!(&split(&pieces), &whole);
            let joined: Vec<u8> = whole.iter().flat_map(|item| item.raw().to_vec()).collect();
            prop_assert_eq!(joined, bytes);
        }
    }
}
