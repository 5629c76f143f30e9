//! What damage there is, and that nothing else changes.

use proptest::prelude::*;

use super::super::testing::{
    Played, Toy, Upstream, build, exchange, invalid, ms, play, play_one,
};
use super::*;
use crate::dialect::by_kind;
use crate::dice::Dice;
use crate::exchange::{Event, Framing};
use crate::wire::sse::Splitter;

fn corrupted(yaml: &str, upstream: &Upstream) -> Played {
    play(&[build::<Corrupt>(yaml).as_ref()], &exchange(1), upstream)
}

fn damaged(how: How, characters: u64, invalid_utf8: bool, event: &Event, seed: u64) -> Event {
    let damage = Damage { how, place: Where::Payload, characters, invalid_utf8 };
    damage.damaged(&Toy, Operation::Chat, event, Dice::from_seed(seed)).unwrap()
}

#[test]
fn payloads_change_and_ends_stay() {
    let stream = Upstream::stream(3, ms(1));
    let before: Vec<_> = stream.items.iter().map(|(_, item)| item.clone()).collect();
    for yaml in ["{}", "{ how: cut }"] {
        let played = corrupted(yaml, &stream);
        let after: Vec<_> = played.sent.iter().map(|(_, item)| item.clone()).collect();
        assert_eq!(after.len(), before.len());
        let changed = before.iter().zip(&after).filter(|(one, other)| one != other).count();
        assert_eq!((changed, played.note("corrupted")), (4, Some(4.0)), "{yaml}");
        assert_eq!(after[4..], before[4..]);
        assert_eq!(corrupted(yaml, &stream).sent, played.sent, "seeded");
    }
}

#[test]
fn cut_json_is_no_json() {
    let event = Event::sse(r#"{"a":{"b":[1,2,"é"]}}"#);
    for seed in 0..50 {
        let cut = damaged(How::Cut, 1, false, &event, seed);
        assert!(event.data.starts_with(&cut.data) && !cut.data.is_empty());
        assert!(serde_json::from_slice::<serde_json::Value>(&cut.data).is_err());
    }
}

#[test]
fn bytes_that_are_no_text_are_flipped_bit_by_bit() {
    let event = Event { data: vec![0xff, 0xfe, 0].into(), ..Event::socket("binary", "") };
    let flipped = damaged(How::Flip, 1, false, &event, 1);
    let bits: u32 =
        event.data.iter().zip(&flipped.data).map(|(a, b)| (a ^ b).count_ones()).sum();
    assert_eq!((bits, flipped.framing), (1, Framing::WebSocket));
}

#[test]
fn a_wrong_checksum_leaves_the_payload() {
    let frame = |data: &str| Event::eventstream(&[(":event-type", "chunk")], data);
    let mut upstream = Upstream::stream(3, ms(1));
    for (_, item) in &mut upstream.items {
        if let Item::Event(event) = item {
            *event = frame(std::str::from_utf8(&event.data).unwrap());
        }
    }
    let played = corrupted("{ how: checksum, after: 1 tokens, at_most: 1 }", &upstream);
    assert_eq!(played.text(), "role t0 t1 t2 finish:stop [DONE]");
    assert_eq!(played.note("corrupted"), Some(1.0));
    let wrong = |item: &Item| *item.raw() != frame(&String::from_utf8_lossy(&data_of(item))).raw;
    let wrong: Vec<bool> = played.sent.iter().map(|(_, item)| wrong(item)).collect();
    assert_eq!(wrong, [false, false, true, false, false, false]);
    let played = corrupted("{ how: checksum }", &Upstream::stream(3, ms(1)));
    assert_eq!(played.impossible(), Some("the events of this answer have no checksum"));
    assert!(!played.hit());
}

fn data_of(item: &Item) -> bytes::Bytes {
    let Item::Event(event) = item else { panic!("{item:?}") };
    event.data.clone()
}

#[test]
fn options_that_do_not_fit_are_refused() {
    assert_eq!(invalid::<Corrupt>("{ how: cut, characters: 3 }").field, "characters");
    assert_eq!(invalid::<Corrupt>("{ how: cut, invalid_utf8: true }").field, "invalid_utf8");
    assert_eq!(invalid::<Corrupt>("{ how: checksum, characters: 3 }").field, "characters");
    assert_eq!(invalid::<Corrupt>("{ how: checksum, where: text }").field, "where");
    assert_eq!(invalid::<Corrupt>("{ characters: 0 }").field, "characters");
    assert_eq!(invalid::<Corrupt>("{ after: 30% }").field, "after");
}

proptest! {
    #[test]
    fn frames_stay_valid_and_text_stays_text(
        text in "[^\r]{1,60}", seed in any::<u64>(), cut in any::<bool>(), invalid in any::<bool>(),
    ) {
        let how = if cut { How::Cut } else { How::Flip };
        let damaged = damaged(how, 3, invalid && !cut, &Event::sse(&text), seed);
        let mut splitter = Splitter::new();
        let items: Vec<Item> = splitter.push(damaged.raw.clone()).collect();
        prop_assert!(items.len() == 1 && splitter.finish().is_none());
        prop_assert!(matches!(&items[0], Item::Event(event) if event.data == damaged.data));
        if !invalid {
            prop_assert!(std::str::from_utf8(&damaged.data).is_ok());
        }
    }
}

const TEXT: &str = r#"{"choices":[{"index":0,"delta":{"content":"Grüß Gott"}}],"n":1}"#;
const CALL: &str = r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\":12}"}}]}}]}"#;

fn chat(yaml: &str) -> Played {
    let upstream = Upstream::sse(&[TEXT, CALL, "[DONE]"], ms(1));
    play_one(by_kind("openai").unwrap(), build::<Corrupt>(yaml).as_ref(), &upstream)
}

fn payload(played: &Played, index: usize) -> Vec<u8> {
    let Item::Event(event) = &played.sent[index].1 else { panic!("no event") };
    event.data.to_vec()
}

#[test]
fn text_and_arguments_break_inside_valid_events() {
    for how in ["flip", "cut"] {
        for (place, broken) in [("text", 0), ("arguments", 1)] {
            let played = chat(&format!("{{ where: {place}, how: {how} }}"));
            assert_eq!(played.note("corrupted"), Some(1.0), "{place} {how}");
            let whole = 1 - broken;
            assert_eq!(payload(&played, whole), [TEXT, CALL][whole].as_bytes());
            let json: serde_json::Value =
                serde_json::from_slice(&payload(&played, broken)).unwrap();
            let (before, after) = match place {
                "text" => ("Grüß Gott", &json["choices"][0]["delta"]["content"]),
                _ => (
                    r#"{"a":12}"#,
                    &json["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"],
                ),
            };
            let after = after.as_str().unwrap();
            assert_ne!(after, before);
            assert_eq!(how == "cut", before.starts_with(after), "{after}");
        }
    }
}

#[test]
fn a_wrong_script_replaces_letters() {
    let played = chat("{ how: script, characters: 3 }");
    let json: serde_json::Value = serde_json::from_slice(&payload(&played, 0)).unwrap();
    let text = json["choices"][0]["delta"]["content"].as_str().unwrap();
    assert_eq!(text.chars().count(), 9);
    let strange = text.chars().filter(|letter| u32::from(*letter) >= 0x370).count();
    assert!((1..=3).contains(&strange) && text.contains(' '), "{text}");
}

#[test]
fn a_character_is_split_in_the_text_or_the_payload() {
    let played = chat("{ where: text, how: split_character }");
    let cut = payload(&played, 0);
    assert!(std::str::from_utf8(&cut).is_err());
    assert_eq!(String::from_utf8_lossy(&cut), TEXT.replace("üß Gott", "\u{fffd}"));
    let played = chat("{ how: split_character }");
    let cut = payload(&played, 0);
    assert!(TEXT.as_bytes().starts_with(&cut) && cut.last() == Some(&0xc3));
    assert_eq!(played.note("corrupted"), Some(1.0), "the call has no such character");
}

#[test]
fn frames_break_and_payloads_stay() {
    let played = chat("{ where: frame, how: cut }");
    let raw: Vec<u8> = played.sent.iter().flat_map(|(_, item)| item.raw().to_vec()).collect();
    let glued = format!("data: {TEXT}\ndata: {CALL}\ndata: [DONE]\n\n");
    assert_eq!(String::from_utf8(raw).unwrap(), glued);
    let played = chat("{ where: frame, at_most: 1 }");
    let raw = String::from_utf8(played.sent[0].1.raw().to_vec()).unwrap();
    assert!(!raw.starts_with("data:") && raw[4..] == format!(": {TEXT}\n\n"), "{raw}");
}

#[test]
fn what_is_not_there_cannot_be_damaged() {
    let upstream = Upstream::sse(&[CALL, "[DONE]"], ms(1));
    let fault = build::<Corrupt>("{ where: text }");
    let played = play_one(by_kind("openai").unwrap(), fault.as_ref(), &upstream);
    assert_eq!(played.impossible(), Some("no event had what this changes"));
    assert_eq!(invalid::<Corrupt>("{ how: script, where: payload }").field, "where");
    assert_eq!(invalid::<Corrupt>("{ how: split_character, where: frame }").field, "where");
}

proptest! {
    #[test]
    fn bytes_beside_the_text_stay(text in "[a-zé世\"\\\\ ]{1,20}", seed in any::<u64>(), how in 0usize..3) {
        let json = serde_json::Value::from(text.as_str()).to_string();
        let event = Event::sse(format!(r#"{{ "x": 1.50, "choices":[{{"delta":{{"content":{json}}}}}], "y":"\u00e9" }}"#));
        let damage = Damage {
            how: [How::Cut, How::Flip, How::Script][how],
            place: Where::Text,
            characters: 2,
            invalid_utf8: false,
        };
        let openai = by_kind("openai").unwrap();
        if let Some(damaged) = damage.damaged(openai, Operation::Chat, &event, Dice::from_seed(seed)) {
            let start = br#"data: { "x": 1.50, "choices":[{"delta":{"content":""#;
            let end = b"\"}}], \"y\":\"\\u00e9\" }\n\n";
            let beside = damaged.raw.starts_with(start) && damaged.raw.ends_with(end);
            prop_assert!(beside, "{:?}", damaged.raw);
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&damaged.data).is_ok());
        }
    }
}
