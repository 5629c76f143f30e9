//! Damages the payload of events: characters that changed on the way, JSON that ends too early.
//! The frame around it stays valid, so that the damage reaches the app; unless it is the frame's
//! checksum that is to be wrong.

use std::time::Duration;

use http::response;
use schemars::JsonSchema;
use serde::Deserialize;

use super::choice::{Choice, Chooser};
use super::{Arming, Direction, Effect, Fault, Impossible, Invalid, Orders, Place, Spec};
use crate::dice::Dice;
use crate::exchange::{Event, Grain, Item};
use crate::units::Percent;

/// What a flipped character becomes.
const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
/// A byte that stands nowhere in UTF-8.
const NO_UTF8: u8 = 0xff;

/// Events of a stream whose payload is damaged: SSE events, lines, gRPC messages, messages of a
/// WebSocket.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Corrupt {
    /// How many of the events are damaged. Each is drawn for itself, with the same seed always the
    /// same ones in the same way. Default 100%.
    pub percent: Option<Percent>,
    /// From where on: `20 tokens`, `3 events`. Default: from the start.
    pub after: Option<Place>,
    /// How many are damaged at most, 1 or more. Default: no limit.
    pub at_most: Option<u64>,
    /// `flip` changes characters (bytes, where the payload is no text), `cut` leaves the payload's
    /// end off; lengths and checksums of the frame fit what is left. `checksum` leaves the payload as
    /// it is and makes the frame's checksum wrong (Amazon's eventstream, which Bedrock streams in).
    /// Default flip.
    pub how: Option<How>,
    /// How many characters of a payload are flipped, from 1 to 1000. Default 1.
    pub characters: Option<u64>,
    /// Whether what is flipped becomes a byte that is no UTF-8, which text may not hold. Default
    /// false: text stays text.
    pub invalid_utf8: Option<bool>,
    /// Whether the event that says that the answer is over may be damaged too. Default false.
    pub terminal: Option<bool>,
    /// On a WebSocket, which way the messages go: down (to the app), up or both. Default down.
    pub direction: Option<Direction>,
}

/// How a payload is damaged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// The frame's checksum does not fit: bits that flipped on the way.
    Checksum,
    /// Its end is missing: JSON that ends too early.
    Cut,
    /// Characters have changed.
    #[default]
    Flip,
}

impl Spec for Corrupt {
    const NAME: &'static str = "corrupt";
    const SUMMARY: &'static str = "events whose payload is damaged: changed characters, cut JSON";
    const EXAMPLE: &'static str = "{ percent: 5%, how: cut }";

    fn build(&self) -> Result<Box<dyn Fault>, Invalid> {
        let how = self.how.unwrap_or_default();
        let invalid_utf8 = self.invalid_utf8.unwrap_or_default();
        if how != How::Flip && (self.characters.is_some() || invalid_utf8) {
            let field = if invalid_utf8 { "invalid_utf8" } else { "characters" };
            return Err(Invalid::new(field, format!("`{field}` goes with `how: flip` alone")));
        }
        let characters = self.characters.unwrap_or(1);
        if !(1..=1000).contains(&characters) {
            return Err(Invalid::new("characters", "write a number from 1 to 1000"));
        }
        let Self { percent, after, at_most, terminal, direction, .. } = *self;
        let choice = Choice::checked(percent, after, at_most, terminal, direction)?;
        Ok(Box::new(Loaded { choice, damage: Damage { how, characters, invalid_utf8 } }))
    }
}

#[derive(Debug)]
struct Loaded {
    choice: Choice,
    damage: Damage,
}

/// What is done to a payload.
#[derive(Clone, Copy, Debug)]
struct Damage {
    how: How,
    characters: u64,
    invalid_utf8: bool,
}

impl Fault for Loaded {
    fn arm(&self, arming: &mut Arming<'_>) -> Result<Box<dyn Effect>, Impossible> {
        let [down, up] = self.choice.arm(arming)?;
        Ok(Box::new(Corrupting { damage: self.damage, down, up }))
    }
}

struct Corrupting {
    damage: Damage,
    down: Chooser,
    up: Chooser,
}

impl Effect for Corrupting {
    fn grain(&self) -> Grain {
        Grain::Event
    }

    fn on_response(
        &mut self,
        _: Duration,
        _: Duration,
        head: &mut response::Parts,
        out: &mut Orders,
    ) {
        self.down.head(head, out);
        self.up.head(head, out);
        // A stream has no length of its own; a damaged one would not keep it.
        if self.down.is_on() {
            head.headers.remove(http::header::CONTENT_LENGTH);
        }
    }

    fn on_item(&mut self, _: Duration, item: Item, out: &mut Orders) {
        self.damage.send(&mut self.down, item, out);
    }

    fn on_upload(&mut self, _: Duration, item: Item, out: &mut Orders) {
        self.damage.send(&mut self.up, item, out);
    }

    fn on_end(&mut self, _: Duration, out: &mut Orders) {
        self.down.end("corrupted", out);
        self.up.end("corrupted_up", out);
    }
}

impl Damage {
    fn send(self, chooser: &mut Chooser, item: Item, out: &mut Orders) {
        let chosen = chooser.choose(&item, out);
        match (chosen, item) {
            (Some(_), Item::Event(event)) if self.how == How::Checksum => {
                match event.with_bad_checksum() {
                    Some(bad) => {
                        out.hit();
                        out.send(Item::Event(bad));
                    }
                    None => {
                        out.impossible("the events of this answer have no checksum");
                        chooser.turn_off();
                        out.send(Item::Event(event));
                    }
                }
            }
            (Some(dice), Item::Event(event)) => {
                out.hit();
                out.send(Item::Event(self.damaged(&event, dice.fork("damage"))));
            }
            (_, item) => out.send(item),
        }
    }

    fn damaged(self, event: &Event, mut dice: Dice) -> Event {
        let text = std::str::from_utf8(&event.data).ok();
        let data = match (self.how, text) {
            // Its payload is whole.
            (How::Checksum, _) => event.data.to_vec(),
            (How::Cut, Some(text)) => text.as_bytes()[..cut_of(text, &mut dice)].to_vec(),
            (How::Cut, None) => {
                let end = dice.whole(0, event.data.len() as u64 - 1) as usize;
                event.data[..end].to_vec()
            }
            (How::Flip, Some(text)) => self.flipped(text, &mut dice),
            (How::Flip, None) => {
                let mut data = event.data.to_vec();
                for _ in 0..self.characters {
                    let at = dice.whole(0, data.len() as u64 - 1) as usize;
                    data[at] ^= 1 << dice.whole(0, 7);
                }
                data
            }
        };
        event.with_data(data)
    }

    /// Text with some of its characters changed.
    fn flipped(self, text: &str, dice: &mut Dice) -> Vec<u8> {
        let mut characters: Vec<char> = text.chars().collect();
        let mut flipped = vec![false; characters.len()];
        for _ in 0..self.characters {
            let at = dice.whole(0, characters.len() as u64 - 1) as usize;
            let mut letter = dice.whole(0, LETTERS.len() as u64 - 1) as usize;
            if char::from(LETTERS[letter]) == characters[at] {
                letter = (letter + 1) % LETTERS.len();
            }
            // A line break may belong to the frame: it stays.
            if !matches!(characters[at], '\n' | '\r') {
                characters[at] = char::from(LETTERS[letter]);
                flipped[at] = true;
            }
        }
        let mut data = Vec::with_capacity(text.len());
        for (character, flipped) in characters.into_iter().zip(flipped) {
            if flipped && self.invalid_utf8 {
                data.push(NO_UTF8);
            } else {
                data.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        data
    }
}

/// Where a text is cut: at a border of characters, before its last one and, if it has two or more,
/// behind its first.
fn cut_of(text: &str, dice: &mut Dice) -> usize {
    let borders = text.char_indices().map(|(at, _)| at).skip(1).count() as u64;
    if borders == 0 {
        return 0;
    }
    let border = dice.whole(1, borders) as usize;
    text.char_indices().nth(border).map_or(0, |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{Played, Upstream, build, exchange, invalid, ms, play};
    use super::*;
    use crate::exchange::Framing;
    use crate::wire::sse::Splitter;

    fn corrupted(yaml: &str, upstream: &Upstream) -> Played {
        play(&[build::<Corrupt>(yaml).as_ref()], &exchange(1), upstream)
    }

    fn damage(how: How, characters: u64, invalid_utf8: bool) -> Damage {
        Damage { how, characters, invalid_utf8 }
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
            let cut = damage(How::Cut, 1, false).damaged(&event, Dice::from_seed(seed));
            assert!(event.data.starts_with(&cut.data) && !cut.data.is_empty());
            assert!(serde_json::from_slice::<serde_json::Value>(&cut.data).is_err());
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_flipped_bit_by_bit() {
        let event = Event { data: vec![0xff, 0xfe, 0].into(), ..Event::socket("binary", "") };
        let flipped = damage(How::Flip, 1, false).damaged(&event, Dice::from_seed(1));
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
        assert_eq!(invalid::<Corrupt>("{ characters: 0 }").field, "characters");
        assert_eq!(invalid::<Corrupt>("{ after: 30% }").field, "after");
    }

    proptest! {
        #[test]
        fn frames_stay_valid_and_text_stays_text(
            text in "[^\r]{1,60}", seed in any::<u64>(), cut in any::<bool>(), invalid in any::<bool>(),
        ) {
            let how = if cut { How::Cut } else { How::Flip };
            let damaged = damage(how, 3, invalid && !cut).damaged(&Event::sse(&text), Dice::from_seed(seed));
            let mut splitter = Splitter::new();
            let items: Vec<Item> = splitter.push(damaged.raw.clone()).collect();
            prop_assert!(items.len() == 1 && splitter.finish().is_none());
            prop_assert!(matches!(&items[0], Item::Event(event) if event.data == damaged.data));
            if !invalid {
                prop_assert!(std::str::from_utf8(&damaged.data).is_ok());
            }
        }
    }
}
