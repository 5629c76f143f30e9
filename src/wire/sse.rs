//! Splits a server-sent event stream into its events, each with its exact bytes.
//!
//! All line endings of the specification are understood (LF, CRLF, bare CR). Comments and stray
//! blank lines are events with empty data. Complete events are slices of what was pushed; only an
//! event that spans pieces is copied.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use memchr::memchr2;

use crate::exchange::{Event, Framing, Item};
use crate::wire::CAP;

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// Takes pieces of a stream and gives its events. As an iterator it yields what is complete, and
/// None when it needs more; nothing is lost when the iteration is left early.
#[derive(Debug)]
pub struct Splitter {
    /// Not looked at yet.
    input: Bytes,
    /// The begun event, from earlier pieces.
    carry: BytesMut,
    line: Line,
    /// Whether the last line ended in a bare CR: then the CR of a blank line ends the event at
    /// once, with no wait for an LF that will not come.
    bare_cr: bool,
    /// No event has come yet, so a byte order mark may stand here.
    first: bool,
    /// The begun event is above the cap and passes as bytes.
    spilling: bool,
    cap: usize,
}

/// Where in a line the next byte stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Line {
    /// After the CR of a line that was not blank.
    AfterCr,
    /// After the CR of a blank line.
    BlankCr,
    Inside,
    Start,
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

    /// A splitter that passes events above `cap` bytes on as bytes.
    pub fn with_cap(cap: usize) -> Self {
        Self {
            input: Bytes::new(),
            carry: BytesMut::new(),
            line: Line::Start,
            bare_cr: false,
            first: true,
            spilling: false,
            cap,
        }
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

    /// The stream has ended: gives what is left, call it until None. A last event that lacks its
    /// blank line comes as bytes, since clients drop it too.
    pub fn finish(&mut self) -> Option<Item> {
        if let Some(item) = self.next() {
            return Some(item);
        }
        if self.carry.is_empty() {
            return None;
        }
        let raw = self.carry.split().freeze();
        let whole = self.line == Line::BlankCr;
        self.line = Line::Start;
        Some(if whole { Item::Event(self.event(raw)) } else { Item::Bytes(raw) })
    }

    /// Where in the input the begun event ends, None when it does not end here.
    fn end(&mut self) -> Option<usize> {
        let bytes = &self.input[..];
        let mut at = 0;
        loop {
            match self.line {
                Line::Inside => {
                    let found = at + memchr2(b'\n', b'\r', &bytes[at..])?;
                    at = found + 1;
                    if bytes[found] == b'\n' {
                        self.bare_cr = false;
                        self.line = Line::Start;
                    } else {
                        self.line = Line::AfterCr;
                    }
                }
                Line::Start => match bytes.get(at)? {
                    b'\n' => {
                        self.bare_cr = false;
                        return Some(at + 1);
                    }
                    b'\r' => {
                        at += 1;
                        if self.bare_cr {
                            return Some(at);
                        }
                        self.line = Line::BlankCr;
                    }
                    _ => self.line = Line::Inside,
                },
                Line::AfterCr => {
                    self.bare_cr = *bytes.get(at)? != b'\n';
                    at += usize::from(!self.bare_cr);
                    self.line = Line::Start;
                }
                Line::BlankCr => {
                    self.bare_cr = *bytes.get(at)? != b'\n';
                    return Some(at + usize::from(!self.bare_cr));
                }
            }
        }
    }

    /// Reads the fields of a complete event.
    fn event(&mut self, raw: Bytes) -> Event {
        let start = if self.first && raw.starts_with(BOM) { BOM.len() } else { 0 };
        self.first = false;
        let (name, data) = fields(&raw, start);
        let data = match data {
            Data::None => Bytes::new(),
            Data::Line(range) => raw.slice(range),
            Data::Lines(joined) => joined.into(),
        };
        Event { framing: Framing::Sse, raw, name, data }
    }
}

impl Iterator for Splitter {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        while !self.input.is_empty() {
            let Some(end) = self.end() else {
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
            self.line = Line::Start;
            let piece = self.input.split_to(end);
            let raw = if self.carry.is_empty() {
                piece
            } else {
                self.carry.extend_from_slice(&piece);
                self.carry.split().freeze()
            };
            if !self.spilling && raw.len() <= self.cap {
                return Some(Item::Event(self.event(raw)));
            }
            self.spilling = false;
            self.first = false;
            if !raw.is_empty() {
                return Some(Item::Bytes(raw));
            }
        }
        None
    }
}

/// The joined `data:` fields.
enum Data {
    None,
    Line(Range<usize>),
    Lines(Vec<u8>),
}

impl Data {
    fn add(&mut self, raw: &[u8], line: Range<usize>) {
        match self {
            Self::None => *self = Self::Line(line),
            Self::Line(first) => {
                let mut joined = raw[first.clone()].to_vec();
                joined.push(b'\n');
                joined.extend_from_slice(&raw[line]);
                *self = Self::Lines(joined);
            }
            Self::Lines(joined) => {
                joined.push(b'\n');
                joined.extend_from_slice(&raw[line]);
            }
        }
    }
}

/// The name and the data of an event; comments, `id:`, `retry:` and unknown fields say nothing.
fn fields(raw: &[u8], start: usize) -> (Option<String>, Data) {
    let (mut name, mut data) = (None, Data::None);
    let mut at = start;
    while at < raw.len() {
        let end = memchr2(b'\n', b'\r', &raw[at..]).map_or(raw.len(), |found| at + found);
        let line = &raw[at..end];
        if let Some(value) = value_of(line, b"data") {
            data.add(raw, at + value..end);
        } else if let Some(value) = value_of(line, b"event") {
            name = Some(String::from_utf8_lossy(&line[value..]).into_owned());
        }
        at = end + if raw[end..].starts_with(b"\r\n") { 2 } else { 1 };
    }
    (name, data)
}

/// Where in a line the value of this field begins, None when it is another field's line.
#[inline]
fn value_of(line: &[u8], field: &[u8]) -> Option<usize> {
    let rest = line.strip_prefix(field)?;
    match rest {
        [] => Some(line.len()),
        [b':', b' ', ..] => Some(field.len() + 2),
        [b':', ..] => Some(field.len() + 1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Splits pieces and gives all items, the rest included.
    fn split(pieces: &[&[u8]]) -> Vec<Item> {
        let mut splitter = Splitter::new();
        let mut items = Vec::new();
        for piece in pieces {
            items.extend(splitter.push(Bytes::copy_from_slice(piece)));
        }
        items.extend(std::iter::from_fn(|| splitter.finish()));
        items
    }

    fn joined(items: &[Item]) -> Vec<u8> {
        items.iter().flat_map(|item| item.raw().to_vec()).collect()
    }

    /// The payloads of all events; bytes are marked.
    fn payloads(text: &str) -> Vec<String> {
        split(&[text.as_bytes()])
            .iter()
            .map(|item| match item {
                Item::Event(event) => String::from_utf8(event.data.to_vec()).unwrap(),
                other => format!("bytes {}", other.raw().len()),
            })
            .collect()
    }

    #[test]
    fn all_line_endings_end_events() {
        for text in ["data: a\n\ndata: b\n\n", "data: a\r\n\r\ndata: b\r\n\r\n"] {
            assert_eq!(payloads(text), ["a", "b"], "{text:?}");
        }
        assert_eq!(payloads("data: a\r\rdata: b\r\r"), ["a", "b"]);
        assert_eq!(payloads("data: a\n\r\ndata: b\r\n\n"), ["a", "b"]);
    }

    #[test]
    fn events_come_as_soon_as_they_are_complete() {
        for text in ["data: a\n\n", "data: a\r\n\r\n", "data: a\r\r"] {
            let mut splitter = Splitter::new();
            let count = splitter.push(Bytes::from_static(text.as_bytes())).count();
            assert_eq!(count, 1, "{text:?} must not be held back");
        }
    }

    #[test]
    fn fields_are_read_as_the_specification_says() {
        assert_eq!(payloads("data:a\ndata:  b\ndata\n\n"), ["a\n b\n"]);
        assert_eq!(payloads("id: 7\nretry: 10\ndataset: x\ndata: a\n\n"), ["a"]);
        assert_eq!(payloads(": keep-alive\n\n\ndata: a\n\n"), ["", "", "a"]);
        assert_eq!(payloads("\u{feff}data: a\n\n\u{feff}data: b\n\n"), ["a", ""]);
        let items = split(&[b"event: ping\ndata: {}\n\n"]);
        assert!(matches!(&items[0], Item::Event(event) if event.name.as_deref() == Some("ping")));
    }

    #[test]
    fn a_last_event_without_its_blank_line_is_bytes() {
        assert_eq!(payloads("data: a\n\ndata: b\n"), ["a", "bytes 8"]);
        assert_eq!(payloads("data: a\r\n\r"), ["a"]);
    }

    #[test]
    fn events_above_the_cap_pass_as_bytes() {
        let mut splitter = Splitter::with_cap(10);
        let mut items = Vec::new();
        for piece in ["data: 0123", "456789", "abc\n", "\ndata: a\n\n", "data: 0123456789\n\n"] {
            items.extend(splitter.push(Bytes::from(piece)));
            assert!(splitter.carry.len() <= 10);
        }
        let kinds: Vec<bool> = items.iter().map(|item| matches!(item, Item::Event(_))).collect();
        assert_eq!(kinds, [false, false, false, true, false]);
        assert_eq!(joined(&items), b"data: 0123456789abc\n\ndata: a\n\ndata: 0123456789\n\n");
    }

    #[test]
    fn leaving_an_iteration_early_loses_nothing() {
        let mut splitter = Splitter::new();
        let first = splitter.push(Bytes::from_static(b"data: a\n\ndata: b\n\nda")).next();
        let mut items: Vec<Item> = first.into_iter().collect();
        items.extend(splitter.push(Bytes::from_static(b"ta: c\n\n")));
        assert_eq!(joined(&items), b"data: a\n\ndata: b\n\ndata: c\n\n");
        assert_eq!(items.len(), 3);
    }

    /// Streams of likely lines and endings, with some rubbish.
    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let word = prop_oneof![
            Just(b"data: x".to_vec()),
            Just(b"data:".to_vec()),
            Just(b"event: e".to_vec()),
            Just(b": c".to_vec()),
            Just(BOM.to_vec()),
            prop::collection::vec(any::<u8>(), 0..6),
        ];
        let ending = prop_oneof![Just("\n"), Just("\r"), Just("\r\n"), Just("\n\n"), Just("")];
        prop::collection::vec((word, ending), 0..24).prop_map(|lines| {
            lines.into_iter().flat_map(|(word, end)| [word, end.into()].concat()).collect()
        })
    }

    proptest! {
        #[test]
        fn any_split_decodes_alike(bytes in stream(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8)) {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            let whole = split(&[&bytes]);
            prop_assert_eq!(&split(&pieces), &whole);
            prop_assert_eq!(joined(&whole), bytes);
        }

        #[test]
        fn what_we_frame_reads_back(data in "[^\r\n]{0,40}", name in "[a-z]{1,8}") {
            let event = Event::named(&name, &data);
            prop_assert_eq!(split(&[&event.raw]), vec![Item::Event(event)]);
        }

        #[test]
        fn its_own_data_leaves_an_event_as_it_came(bytes in stream()) {
            for item in split(&[&bytes]) {
                if let Item::Event(event) = item && !event.data.is_empty() {
                    prop_assert_eq!(&event.with_data(&event.data), &event);
                }
            }
        }

        #[test]
        fn other_data_reads_back_and_lines_around_it_stay(bytes in stream(), data in "[^\r]{1,40}") {
            let mut first = true;
            for item in split(&[&bytes]) {
                let starts = std::mem::take(&mut first);
                let Item::Event(event) = item else { continue };
                if event.data.is_empty() || (event.raw.starts_with(BOM) && !starts) {
                    continue;
                }
                let changed = event.with_data(&data);
                prop_assert_eq!(split(&[&changed.raw]), vec![Item::Event(changed.clone())]);
                let around = |raw: &[u8]| -> Vec<Vec<u8>> {
                    let lines = raw.split(|byte| matches!(byte, b'\n' | b'\r'));
                    lines
                        .map(|line| line.strip_prefix(BOM).unwrap_or(line))
                        .filter(|line| value_of(line, b"data").is_none() && !line.is_empty())
                        .map(<[u8]>::to_vec)
                        .collect()
                };
                prop_assert_eq!(around(&changed.raw), around(&event.raw));
            }
        }
    }
}
