use proptest::prelude::*;

use super::*;

const HEADERS: &[(&str, &str)] = &[
    (":event-type", "contentBlockDelta"),
    (":content-type", "application/json"),
    (":message-type", "event"),
];

/// A frame as botocore's own tests have it: one header, a payload of JSON.
const KNOWN: &[u8] = b"\x00\x00\x00=\x00\x00\x00 \x07\xfd\x83\x96\x0ccontent-type\x07\x00\x10application/json{'foo':'bar'}\x8d\x9c\x08\xb1";

fn split(splitter: &mut Splitter, pieces: &[&[u8]]) -> Vec<Item> {
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

#[test]
fn a_known_frame_is_read() {
    let items = split(&mut Splitter::new(), &[KNOWN]);
    let [Item::Event(event)] = &items[..] else { panic!("{items:?}") };
    assert_eq!(&event.data[..], b"{'foo':'bar'}");
    assert_eq!(header(&event.raw, "content-type"), Some("application/json"));
    assert_eq!(event.with_data(&event.data), *event, "made as it was");
}

#[test]
fn another_payload_keeps_headers_and_has_right_checksums() {
    let event = Event::eventstream(HEADERS, r#"{"delta":{"text":"a"}}"#);
    let other = event.with_data(r#"{"delta":{"text":"longer"}}"#);
    let items = split(&mut Splitter::new(), &[&event.raw, &other.raw]);
    assert_eq!(items, [Item::Event(event), Item::Event(other.clone())]);
    assert_eq!(other.name.as_deref(), Some("contentBlockDelta"));
    assert_eq!(headers(&other.raw).collect::<Vec<_>>(), HEADERS);
}

#[test]
fn wrong_checksums_pass_as_bytes() {
    let event = Event::eventstream(HEADERS, "{}");
    let bad = event.with_bad_checksum().unwrap();
    assert_eq!(Event::sse("x").with_bad_checksum(), None);
    let items = split(&mut Splitter::new(), &[&bad.raw, &event.raw]);
    assert_eq!(items, [Item::Bytes(bad.raw), Item::Event(event.clone())], "the next one is read");
    let mut lost = event.raw.to_vec();
    lost[9] ^= 1;
    let items = split(&mut Splitter::new(), &[&lost, &event.raw]);
    assert!(items.iter().all(|item| matches!(item, Item::Bytes(_))), "no length to go by");
    assert_eq!(joined(&items), [&lost[..], &event.raw].concat());
}

#[test]
fn frames_above_the_cap_pass_as_bytes() {
    let long = Event::eventstream(HEADERS, "x".repeat(500));
    let short = Event::eventstream(HEADERS, "{}");
    let mut splitter = Splitter::with_cap(200);
    let mut items = Vec::new();
    for piece in [&long.raw[..], &short.raw, &long.raw].concat().chunks(7) {
        items.extend(splitter.push(Bytes::copy_from_slice(piece)));
        assert!(splitter.carry.len() <= 200);
    }
    let events = items.iter().filter(|item| matches!(item, Item::Event(_))).count();
    assert_eq!((events, joined(&items)), (1, [&long.raw[..], &short.raw, &long.raw].concat()));
}

#[test]
fn headers_of_all_types_are_stepped_over() {
    let mut bytes = Vec::new();
    for (kind, length) in [(0, 0), (1, 0), (2, 1), (3, 2), (4, 4), (5, 8), (8, 8), (9, 16)] {
        bytes.extend_from_slice(&[1, b'h', kind]);
        bytes.extend(std::iter::repeat_n(0xff, length));
    }
    bytes.extend_from_slice(&[1, b'b', 6, 0, 2, 1, 2, 1, b't', 7, 0, 1, b'v']);
    assert_eq!(Headers(&bytes).collect::<Vec<_>>(), [("t", "v")]);
    bytes.extend_from_slice(&[1, b'h', 77]);
    assert_eq!(Headers(&bytes).count(), 1, "a type that nobody knows ends the reading");
}

proptest! {
    #[test]
    fn any_split_decodes_alike(
        frames in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 0..40), prop_oneof![4 => Just(0u8), 1 => any::<u8>()]),
            0..6,
        ),
        tail in prop::collection::vec(any::<u8>(), 0..20),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut bytes = Vec::new();
        for (data, damage) in &frames {
            let mut raw = Event::eventstream(HEADERS, data).raw.to_vec();
            let at = usize::from(*damage) * 7 % raw.len();
            raw[at] ^= damage;
            bytes.extend(raw);
        }
        bytes.extend(tail);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
        let whole = split(&mut Splitter::with_cap(150), &[&bytes]);
        let parts = split(&mut Splitter::with_cap(150), &pieces);
        prop_assert_eq!(joined(&whole), bytes.clone());
        prop_assert_eq!(joined(&parts), bytes);
        let events = |items: Vec<Item>| {
            items.into_iter().filter(|item| matches!(item, Item::Event(_))).collect::<Vec<_>>()
        };
        prop_assert_eq!(events(parts), events(whole));
    }

    #[test]
    fn what_we_frame_reads_back(data in prop::collection::vec(any::<u8>(), 0..200), other in ".{0,80}") {
        let event = Event::eventstream(HEADERS, &data);
        let changed = event.with_data(&other);
        let items = split(&mut Splitter::new(), &[&event.raw, &changed.raw]);
        prop_assert_eq!(items, vec![Item::Event(event), Item::Event(changed)]);
    }
}
