//! Cuts an answer's body as finely as the armed effects must see it.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};

use crate::exchange::{Grain, Item};
use crate::wire::{CAP, eventstream, grpc, ndjson, sse};

/// Turns the pieces of a body into items. As an iterator it yields what is complete, and None when
/// it needs more.
#[derive(Debug)]
pub struct Cutter(Mode);

#[derive(Debug)]
enum Mode {
    EventStream(eventstream::Splitter),
    Grpc(grpc::Splitter),
    Held(Held),
    Ndjson(ndjson::Splitter),
    Sse(sse::Splitter),
}

/// Pieces that pass as they come, or wait until the answer is whole.
#[derive(Debug)]
struct Held {
    pieces: VecDeque<Bytes>,
    len: usize,
    /// Wait for the end; given up when the answer grows above the cap.
    whole: bool,
    cap: usize,
}

impl Cutter {
    /// A cutter for a body of this content type.
    pub fn new(grain: Grain, content_type: Option<&str>) -> Self {
        Self(match (grain, Shape::of(content_type)) {
            (Grain::Event, Shape::EventStream) => Mode::EventStream(eventstream::Splitter::new()),
            (Grain::Event, Shape::Grpc) => Mode::Grpc(grpc::Splitter::new()),
            (Grain::Event, Shape::Ndjson) => Mode::Ndjson(ndjson::Splitter::new()),
            (Grain::Event, Shape::Sse) => Mode::Sse(sse::Splitter::new()),
            (Grain::Event, Shape::Whole) => Mode::Held(Held::new(true)),
            (Grain::Event, Shape::Opaque) | (Grain::Head | Grain::Bytes, _) => {
                Mode::Held(Held::new(false))
            }
        })
    }

    /// A cutter for the answer with this head. A body that is compressed passes as bytes, since
    /// its events cannot be seen.
    pub fn for_answer(grain: Grain, head: &HeaderMap) -> Self {
        let plain = head
            .get_all(CONTENT_ENCODING)
            .iter()
            .all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity"));
        let content_type = head.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        Self::new(if plain { grain } else { grain.min(Grain::Bytes) }, content_type)
    }

    /// A cutter for the answer with this head, its body being unpacked before it comes here.
    pub fn unpacked(grain: Grain, head: &HeaderMap) -> Self {
        Self::new(grain, head.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()))
    }

    /// Takes the next piece; iterate over the result for what is complete.
    pub fn push(&mut self, piece: Bytes) -> &mut Self {
        match &mut self.0 {
            Mode::EventStream(splitter) => {
                splitter.push(piece);
            }
            Mode::Grpc(splitter) => {
                splitter.push(piece);
            }
            Mode::Held(held) => held.push(piece),
            Mode::Ndjson(splitter) => {
                splitter.push(piece);
            }
            Mode::Sse(splitter) => {
                splitter.push(piece);
            }
        }
        self
    }

    /// The body has ended (or broke off): gives all that is left.
    pub fn finish(&mut self) -> Vec<Item> {
        match &mut self.0 {
            Mode::EventStream(splitter) => std::iter::from_fn(|| splitter.finish()).collect(),
            Mode::Grpc(splitter) => std::iter::from_fn(|| splitter.finish()).collect(),
            Mode::Held(held) => held.finish(),
            Mode::Ndjson(splitter) => std::iter::from_fn(|| splitter.finish()).collect(),
            Mode::Sse(splitter) => std::iter::from_fn(|| splitter.finish()).collect(),
        }
    }
}

impl Iterator for Cutter {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        match &mut self.0 {
            Mode::EventStream(splitter) => splitter.next(),
            Mode::Grpc(splitter) => splitter.next(),
            Mode::Held(held) if held.whole => None,
            Mode::Held(held) => held.pieces.pop_front().map(Item::Bytes),
            Mode::Ndjson(splitter) => splitter.next(),
            Mode::Sse(splitter) => splitter.next(),
        }
    }
}

impl Held {
    fn new(whole: bool) -> Self {
        Self { pieces: VecDeque::new(), len: 0, whole, cap: CAP }
    }

    fn push(&mut self, piece: Bytes) {
        if piece.is_empty() {
            return;
        }
        self.len = self.len.saturating_add(piece.len());
        self.whole &= self.len <= self.cap;
        self.pieces.push_back(piece);
    }

    fn finish(&mut self) -> Vec<Item> {
        if !self.whole || self.pieces.len() < 2 {
            let whole = self.whole;
            let item = |piece| if whole { Item::Message(piece) } else { Item::Bytes(piece) };
            return self.pieces.drain(..).map(item).collect();
        }
        let mut body = BytesMut::with_capacity(self.len);
        for piece in self.pieces.drain(..) {
            body.extend_from_slice(&piece);
        }
        vec![Item::Message(body.freeze())]
    }
}

/// What a content type says about how a body may be cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Shape {
    EventStream,
    Grpc,
    Ndjson,
    /// Media that nobody edits as a whole; it passes as it comes.
    Opaque,
    Sse,
    Whole,
}

impl Shape {
    fn of(content_type: Option<&str>) -> Self {
        if content_type.is_some_and(|kind| grpc::is_content_type(kind.as_bytes())) {
            return Self::Grpc;
        }
        let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default();
        let essence = essence.trim().to_ascii_lowercase();
        match essence.as_str() {
            "application/vnd.amazon.eventstream" => Self::EventStream,
            "text/event-stream" => Self::Sse,
            "application/x-ndjson"
            | "application/ndjson"
            | "application/jsonl"
            | "application/jsonlines"
            | "application/x-jsonlines"
            | "application/stream+json" => Self::Ndjson,
            "application/octet-stream" => Self::Opaque,
            other => match other.split('/').next() {
                Some("audio" | "image" | "video") => Self::Opaque,
                _ => Self::Whole,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(mut cutter: Cutter, pieces: &[&'static str]) -> Vec<Item> {
        let mut items = Vec::new();
        for piece in pieces {
            items.extend(cutter.push(Bytes::from_static(piece.as_bytes())));
        }
        items.extend(cutter.finish());
        items
    }

    #[test]
    fn content_types_choose_the_splitter() {
        let pieces = ["data: a\n\nda", "ta: b\n\n"];
        let sse = Cutter::new(Grain::Event, Some("Text/Event-Stream; charset=utf-8"));
        assert!(matches!(&cut(sse, &pieces)[..], [Item::Event(_), Item::Event(_)]));
        let lines = Cutter::new(Grain::Event, Some("application/x-ndjson"));
        assert_eq!(cut(lines, &["1\n2", "\n"]).len(), 2);
        let json = Cutter::new(Grain::Event, Some("application/json"));
        assert_eq!(cut(json, &["{\"a\"", ":1}"]), [Item::Message("{\"a\":1}".into())]);
        let sound = Cutter::new(Grain::Event, Some("audio/mpeg"));
        assert!(matches!(&cut(sound, &["a", "b"])[..], [Item::Bytes(_), Item::Bytes(_)]));
    }

    #[test]
    fn coarser_grains_pass_pieces_as_they_come() {
        for grain in [Grain::Head, Grain::Bytes] {
            let mut cutter = Cutter::new(grain, Some("text/event-stream"));
            let item = cutter.push(Bytes::from_static(b"data: a")).next();
            assert_eq!(item, Some(Item::Bytes("data: a".into())));
        }
    }

    #[test]
    fn compressed_bodies_pass_as_bytes() {
        let mut head = HeaderMap::new();
        head.insert(CONTENT_TYPE, "text/event-stream".parse().unwrap());
        head.insert(CONTENT_ENCODING, "gzip".parse().unwrap());
        let items = cut(Cutter::for_answer(Grain::Event, &head), &["data: a\n\n"]);
        assert!(matches!(&items[..], [Item::Bytes(_)]));
        head.insert(CONTENT_ENCODING, "identity".parse().unwrap());
        let items = cut(Cutter::for_answer(Grain::Event, &head), &["data: a\n\n"]);
        assert!(matches!(&items[..], [Item::Event(_)]));
    }

    #[test]
    fn answers_above_the_cap_pass_as_bytes() {
        let held = Held { cap: 4, ..Held::new(true) };
        let mut cutter = Cutter(Mode::Held(held));
        assert_eq!(cutter.push(Bytes::from_static(b"123")).next(), None);
        let passed: Vec<Item> = cutter.push(Bytes::from_static(b"45")).collect();
        assert_eq!(passed, [Item::Bytes("123".into()), Item::Bytes("45".into())]);
        assert_eq!(cut(cutter, &["6"]), [Item::Bytes("6".into())]);
    }

    #[test]
    fn an_empty_body_gives_nothing() {
        assert!(cut(Cutter::new(Grain::Event, Some("application/json")), &[]).is_empty());
    }
}
