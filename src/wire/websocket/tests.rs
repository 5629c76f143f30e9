//! Frames in, messages out.

use proptest::prelude::*;

use super::*;

fn split_at(tracker: Tracker, cap: usize, pieces: &[&[u8]]) -> (Vec<Item>, Bytes, Tracker) {
    let mut splitter = Splitter::with_cap(tracker, cap);
    let mut items = Vec::new();
    for piece in pieces {
        items.extend(splitter.push(Bytes::copy_from_slice(piece)));
    }
    let (left, tracker) = splitter.finish();
    (items, left, tracker)
}

fn split(side: Side, bytes: &[u8]) -> Vec<Item> {
    let (mut items, left, _) = split_at(Tracker::new(side, false), CAP, &[bytes]);
    if !left.is_empty() {
        items.push(Item::Bytes(left));
    }
    items
}

/// `kind:payload` of each message; bytes are counted.
fn words(items: &[Item]) -> Vec<String> {
    let word = |item: &Item| match item {
        Item::Event(event) => {
            let data = String::from_utf8_lossy(&event.data);
            format!("{}:{data}", event.name.as_deref().unwrap_or("?"))
        }
        other => format!("bytes {}", other.raw().len()),
    };
    items.iter().map(word).collect()
}

fn joined(items: &[Item]) -> Vec<u8> {
    items.iter().flat_map(|item| item.raw().to_vec()).collect()
}

fn text(payload: &str) -> Vec<u8> {
    frame(Kind::Text, payload.as_bytes(), None).to_vec()
}

/// The same frame with another first byte: fragments, reserved bits, odd opcodes.
fn first(byte: u8, frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[0] = byte;
    frame
}

#[test]
fn messages_come_with_their_exact_frames() {
    let bytes = [text("hi"), frame(Kind::Binary, &[0, 255], None).to_vec()].concat();
    let items = split(Side::Upstream, &bytes);
    assert_eq!(words(&items), ["text:hi", "binary:\0\u{fffd}"]);
    assert_eq!(joined(&items), bytes);
    let empty = split(Side::Upstream, &text(""));
    assert_eq!(words(&empty), ["text:"]);
}

#[test]
fn masked_payloads_are_read_from_a_copy() {
    let bytes = frame(Kind::Text, b"hello world", Some([1, 2, 3, 4]));
    let items = split(Side::App, &bytes);
    assert_eq!((words(&items), joined(&items)), (vec!["text:hello world".into()], bytes.to_vec()));
}

#[test]
fn fragments_make_one_message_and_pings_overtake_them() {
    let (one, two, three) = (text("a"), text("b"), text("c"));
    let ping = frame(Kind::Ping, b"?", None).to_vec();
    let bytes = [first(0x01, &one), ping.clone(), first(0x00, &two), first(0x80, &three)].concat();
    let items = split(Side::Upstream, &bytes);
    assert_eq!(words(&items), ["ping:?", "text:abc"]);
    let moved = [ping, first(0x01, &one), first(0x00, &two), first(0x80, &three)].concat();
    assert_eq!(joined(&items), moved);
}

#[test]
fn long_lengths_are_read() {
    for length in [125, 126, 65_535, 65_536, 200_000] {
        let bytes = frame(Kind::Binary, &vec![7; length], None);
        let items = split(Side::Upstream, &bytes);
        assert!(matches!(&items[..], [Item::Event(event)] if event.data.len() == length));
    }
}

#[test]
fn what_breaks_the_protocol_passes_and_is_not_read_from_there_on() {
    let plain = text("x");
    let masked = frame(Kind::Text, b"x", Some([9; 4])).to_vec();
    let long_ping = {
        let mut frame = frame(Kind::Binary, &[0; 126], None).to_vec();
        frame[0] = 0x89;
        frame
    };
    for (side, bad) in [
        (Side::Upstream, first(0xc1, &plain)),
        (Side::Upstream, first(0x83, &plain)),
        (Side::Upstream, first(0x8b, &plain)),
        (Side::Upstream, first(0x80, &plain)),
        (Side::Upstream, first(0x09, &plain)),
        (Side::Upstream, [first(0x01, &plain), plain.clone()].concat()),
        (Side::Upstream, long_ping),
        (Side::Upstream, vec![0x88, 1, 3]),
        (Side::Upstream, vec![0x81, 126, 0, 1, b'x']),
        (Side::Upstream, vec![0x81, 127, 0, 0, 0, 0, 0, 0, 0, 1, b'x']),
        (Side::Upstream, vec![0x81, 127, 0x80, 0, 0, 0, 0, 0, 0, 1, b'x']),
        (Side::Upstream, masked.clone()),
        (Side::App, plain.clone()),
    ] {
        let good = if side == Side::App { masked.clone() } else { plain.clone() };
        let bytes = [good.clone(), bad.clone(), good.clone()].concat();
        let items = split(side, &bytes);
        assert_eq!(
            words(&items),
            ["text:x".to_owned(), format!("bytes {}", bad.len() + good.len())]
        );
        assert_eq!(joined(&items), bytes);
    }
}

#[test]
fn text_that_is_no_utf8_is_not_read() {
    let bytes = [first(0x81, &frame(Kind::Binary, &[0xff, 0xfe], None)), text("y")].concat();
    assert_eq!(words(&split(Side::Upstream, &bytes)), ["bytes 4", "text:y"]);
}

#[test]
fn messages_above_the_cap_pass_as_bytes() {
    let big = frame(Kind::Binary, &[7; 40], None).to_vec();
    let parts = [first(0x02, &big), first(0x80, &big)].concat();
    let ping = frame(Kind::Ping, b"", None).to_vec();
    let small = text("s");
    let bytes = [&big[..], &parts[..42], &ping, &parts[42..], &small].concat();
    for cap in [20, 60] {
        let tracker = Tracker::new(Side::Upstream, false);
        let (items, left, _) = split_at(tracker, cap, &[&bytes[..7], &bytes[7..70], &bytes[70..]]);
        let events: Vec<String> =
            words(&items).into_iter().filter(|word| !word.starts_with("bytes")).collect();
        assert_eq!(events.last().map(String::as_str), Some("text:s"));
        assert!(events.contains(&"ping:".to_owned()) && left.is_empty());
        assert_eq!(joined(&items).len(), bytes.len());
    }
}

#[test]
fn a_declared_length_costs_no_memory() {
    let mut splitter = Splitter::from(Tracker::new(Side::Upstream, false));
    let head = [0x82, 127, 0x0f, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(splitter.push(Bytes::copy_from_slice(&head)).count(), 1, "it is not held");
    assert_eq!(splitter.push(Bytes::from_static(b"abc")).count(), 1);
    assert!(splitter.carry.capacity() < 100);
}

#[test]
fn with_an_extension_frames_pass_whole_but_unread() {
    let compressed = first(0xc1, &text("x"));
    let bytes = [compressed, text("y"), frame(Kind::Ping, b"p", None).to_vec()].concat();
    let (items, _, tracker) = split_at(Tracker::new(Side::Upstream, true), CAP, &[&bytes]);
    assert!(words(&items).contains(&"ping:p".to_owned()), "{:?}", words(&items));
    assert!(!words(&items).iter().any(|word| word.starts_with("text")));
    assert_eq!((joined(&items), tracker.messages()), (bytes, 2));
}

#[test]
fn a_tracker_knows_closes_and_boundaries() {
    let mut tracker = Tracker::new(Side::Upstream, false);
    tracker.skip(&text("hello")[..3]);
    assert!(!tracker.at_boundary());
    tracker.skip(&text("hello")[3..]);
    assert!(tracker.at_boundary() && !tracker.is_closed());
    tracker.skip(&frame(Kind::Close, &1000_u16.to_be_bytes(), None));
    assert!(tracker.is_closed());
    assert_eq!(tracker.messages(), 1);
}

/// Likely frames and fragments, with some rubbish.
fn stream(side: Side) -> impl Strategy<Value = Vec<u8>> {
    let mask = (side == Side::App).then_some([3, 1, 4, 1]);
    let payload = prop::collection::vec(any::<u8>(), 0..140);
    let first_byte = prop_oneof![
        4 => prop::sample::select(vec![0x81_u8, 0x82]),
        2 => prop::sample::select(vec![0x01_u8, 0x02, 0x00, 0x80]),
        2 => prop::sample::select(vec![0x88_u8, 0x89, 0x8a]),
        1 => any::<u8>(),
    ];
    let one = (first_byte, payload).prop_map(move |(byte, payload)| {
        let control = byte & 0x08 != 0;
        let payload = if control { &payload[..payload.len().min(60)] } else { &payload[..] };
        first(byte, &frame(Kind::Binary, payload, mask))
    });
    let rubbish = prop::collection::vec(any::<u8>(), 0..6);
    let piece = prop_oneof![12 => one, 1 => rubbish];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_split_decodes_alike_and_loses_nothing(
        (side, bytes) in prop_oneof![Just(Side::App), Just(Side::Upstream)]
            .prop_flat_map(|side| (Just(side), stream(side))),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
        let events = |items: &[Item]| -> Vec<Item> {
            items.iter().filter(|item| matches!(item, Item::Event(_))).cloned().collect()
        };
        let (whole, left, _) = split_at(Tracker::new(side, false), CAP, &[&bytes]);
        let (cut, left_cut, tracker) = split_at(Tracker::new(side, false), CAP, &pieces);
        prop_assert_eq!(events(&cut), events(&whole));
        let mut all = [joined(&cut), left_cut.to_vec()].concat();
        let mut same = bytes.clone();
        prop_assert_eq!(joined(&whole).len() + left.len(), bytes.len());
        // Pings overtake fragments, so the order may differ.
        all.sort_unstable();
        same.sort_unstable();
        prop_assert_eq!(all, same);
        let mut skipped = Tracker::new(side, false);
        pieces.iter().for_each(|piece| skipped.skip(piece));
        prop_assert_eq!(
            (skipped.at_boundary(), skipped.messages(), skipped.is_closed()),
            (tracker.at_boundary(), tracker.messages(), tracker.is_closed())
        );
    }

    #[test]
    fn splitting_can_begin_anywhere(bytes in stream(Side::Upstream), at in any::<prop::sample::Index>()) {
        let at = at.index(bytes.len() + 1);
        let mut tracker = Tracker::new(Side::Upstream, false);
        tracker.skip(&bytes[..at]);
        let (late, left, _) = split_at(tracker, CAP, &[&bytes[at..]]);
        prop_assert_eq!(joined(&late).len() + left.len(), bytes.len() - at);
        let (all, ..) = split_at(Tracker::new(Side::Upstream, false), CAP, &[&bytes]);
        let events = |items: Vec<Item>| -> Vec<Item> {
            items.into_iter().filter(|item| matches!(item, Item::Event(_))).collect()
        };
        let (late, all) = (events(late), events(all));
        // A message that began before is no event here; a control frame may stand inside it.
        let without_one = |gone: usize| {
            let mut rest = all.clone();
            rest.remove(gone);
            rest.ends_with(&late)
        };
        let same = all.ends_with(&late) || (0..all.len()).any(without_one);
        prop_assert!(same, "{:?} is no end of {:?}", late, all);
    }

    #[test]
    fn what_we_frame_reads_back(data in ".{0,300}", mask in any::<Option<[u8; 4]>>()) {
        let side = if mask.is_some() { Side::App } else { Side::Upstream };
        let items = split(side, &frame(Kind::Text, data.as_bytes(), mask));
        prop_assert!(matches!(&items[..], [Item::Event(event)] if event.data == data));
    }
}
