//! Splits a gRPC stream into its messages (a flag byte, a length of four bytes, the message), each
//! with its exact bytes.

use bytes::{Buf as _, Bytes, BytesMut};

use crate::exchange::{Event, Framing, Item};
use crate::wire::CAP;

/// The flag byte and the length.
const PREFIX: usize = 5;

/// Takes pieces of a stream and gives its messages. As an iterator it yields what is complete, and
/// None when it needs more; nothing is lost when the iteration is left early. A message whose flag
/// says that it is compressed is one like the others, with data that cannot be read.
#[derive(Debug)]
pub struct Splitter {
    input: Bytes,
    /// The begun message, from earlier pieces.
    carry: BytesMut,
    /// So many bytes of a message above the cap are still to pass as bytes.
    spilling: u64,
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

    /// A splitter that passes messages above `cap` bytes on as bytes.
    pub fn with_cap(cap: usize) -> Self {
        Self { input: Bytes::new(), carry: BytesMut::new(), spilling: 0, cap }
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

    /// The stream has ended: gives what is left, call it until None. A message that is not whole
    /// is bytes.
    pub fn finish(&mut self) -> Option<Item> {
        if let Some(item) = self.next() {
            return Some(item);
        }
        let rest = self.carry.split().freeze();
        (!rest.is_empty()).then_some(Item::Bytes(rest))
    }

    /// Moves input to the carry until that has so many bytes; whether it has.
    fn fill(&mut self, wanted: usize) -> bool {
        let missing = wanted.saturating_sub(self.carry.len()).min(self.input.len());
        self.carry.extend_from_slice(&self.input[..missing]);
        self.input.advance(missing);
        self.carry.len() >= wanted
    }
}

impl Iterator for Splitter {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        if self.spilling > 0 {
            if self.input.is_empty() {
                return None;
            }
            let count = usize::try_from(self.spilling)
                .map_or(self.input.len(), |left| left.min(self.input.len()));
            self.spilling -= count as u64;
            return Some(Item::Bytes(self.input.split_to(count)));
        }
        // Nearly always a message lies whole in one piece, which is then not copied.
        if self.carry.is_empty()
            && let Some(length) = length_of(&self.input)
            && let Some(end) = whole(length, self.cap)
            && self.input.len() >= end
        {
            return Some(Item::Event(event(self.input.split_to(end))));
        }
        if !self.fill(PREFIX) {
            return None;
        }
        let length = length_of(&self.carry)?;
        match whole(length, self.cap) {
            Some(end) => {
                let complete = self.fill(end);
                complete.then(|| Item::Event(event(self.carry.split().freeze())))
            }
            None => {
                let begun = self.carry.split().freeze();
                self.spilling = u64::from(length) + PREFIX as u64 - begun.len() as u64;
                Some(Item::Bytes(begun))
            }
        }
    }
}

/// The length that a message begins with.
fn length_of(bytes: &[u8]) -> Option<u32> {
    let length = bytes.get(1..PREFIX)?;
    Some(u32::from_be_bytes(length.try_into().ok()?))
}

/// Where a message of this length ends, if it is not above the cap.
fn whole(length: u32, cap: usize) -> Option<usize> {
    let end = PREFIX.checked_add(usize::try_from(length).ok()?)?;
    (end <= cap.max(PREFIX)).then_some(end)
}

fn event(raw: Bytes) -> Event {
    let data = raw.slice(PREFIX..);
    Event { framing: Framing::Grpc, raw, name: None, data }
}

/// Whether this content type means gRPC over HTTP/2: `application/grpc`, with a codec (`+proto`) or
/// without. gRPC-Web is another format.
pub fn is_content_type(value: &[u8]) -> bool {
    const NAME: &[u8] = b"application/grpc";
    value.get(..NAME.len()).is_some_and(|start| start.eq_ignore_ascii_case(NAME))
        && matches!(value.get(NAME.len()), None | Some(b'+' | b';' | b' ' | b'\t'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(cap: usize, pieces: &[&[u8]]) -> Vec<Item> {
        let mut splitter = Splitter::with_cap(cap);
        let mut items = Vec::new();
        for piece in pieces {
            items.extend(splitter.push(Bytes::copy_from_slice(piece)));
        }
        items.extend(std::iter::from_fn(|| splitter.finish()));
        items
    }

    #[test]
    fn messages_are_events() {
        let two = [Event::grpc("abc").raw, Event::grpc("").raw].concat();
        let items = split(CAP, &[&two, b"\x01\0\0\0\x02zz", b"\0\0\0\0\x09half"]);
        let data = |item: &Item| match item {
            Item::Event(event) => (event.raw[0], event.data.to_vec()),
            other => panic!("{other:?}"),
        };
        assert_eq!(data(&items[0]), (0, b"abc".to_vec()));
        assert_eq!(data(&items[1]), (0, Vec::new()));
        assert_eq!(data(&items[2]), (1, b"zz".to_vec()));
        assert_eq!(items[3..], [Item::Bytes(Bytes::from_static(b"\0\0\0\0\x09half"))]);
    }

    #[test]
    fn messages_above_the_cap_pass_as_bytes() {
        let bytes = [Event::grpc("123456").raw, Event::grpc("1").raw].concat();
        let items = split(8, &[&bytes[..3], &bytes[3..9], &bytes[9..]]);
        let kinds: Vec<bool> = items.iter().map(|item| matches!(item, Item::Event(_))).collect();
        assert_eq!(kinds, [false, false, false, true], "{items:?}");
        let huge = split(CAP, &[b"\0\xff\xff\xff\xffx", b"y"]);
        assert!(huge.iter().all(|item| matches!(item, Item::Bytes(_))));
    }

    #[test]
    fn content_types_are_told_apart() {
        for (text, grpc) in [
            ("application/grpc", true),
            ("Application/gRPC+proto", true),
            ("application/grpc;x=y", true),
            ("application/grpc-web+proto", false),
            ("application/json", false),
        ] {
            assert_eq!(is_content_type(text.as_bytes()), grpc, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_split_decodes_alike(
            bytes in prop::collection::vec(prop_oneof![4 => Just(0u8), 2 => 1u8..9, 1 => any::<u8>()], 0..80),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
            cap in 5usize..40,
        ) {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            let events = |items: &[Item]| -> Vec<Item> {
                items.iter().filter(|item| matches!(item, Item::Event(_))).cloned().collect()
            };
            let (whole, parts) = (split(cap, &[&bytes]), split(cap, &pieces));
            prop_assert_eq!(events(&parts), events(&whole));
            for items in [whole, parts] {
                let joined: Vec<u8> = items.iter().flat_map(|item| item.raw().to_vec()).collect();
                prop_assert_eq!(&joined, &bytes);
            }
        }
    }
}
