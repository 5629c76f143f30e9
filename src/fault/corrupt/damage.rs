//! What is done to one event.

use crate::dialect::{Dialect, Slot, Spot};
use crate::dice::Dice;
use crate::exchange::{Event, Framing, Operation};
use crate::fault::corrupt::{How, Where};
use crate::fault::spot::mid_character;
use crate::wire::json::Edits;

/// What a flipped character becomes.
const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
/// A byte that stands nowhere in UTF-8.
const NO_UTF8: u8 = 0xff;
/// Letters that stand in no text of another script: Thai, Chinese, Cyrillic, Arabic, Korean.
const SCRIPTS: [&str; 5] = ["กขคงจชดตนบปผพมยรลวสห", "的一是不了人我在有他这中大来上", "абвгдежзиклмнопрстуфх", "ابتثجحخدذرزسشصضطظعغ", "가나다라마바사아자차카타파하"];

/// What is done to an event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Damage {
    pub(super) how: How,
    pub(super) place: Where,
    pub(super) characters: u64,
    pub(super) invalid_utf8: bool,
}

impl Damage {
    /// The damaged event; None where it has nothing of what is to be damaged.
    pub(super) fn damaged(
        self,
        dialect: &dyn Dialect,
        operation: Operation,
        event: &Event,
        mut dice: Dice,
    ) -> Option<Event> {
        let slot = match self.place {
            Where::Frame => return self.in_frame(event, &mut dice),
            Where::Payload => return self.in_payload(event, &mut dice),
            Where::Arguments => Slot::Arguments,
            Where::Text => Slot::Text,
        };
        let payload = dialect.payload(event);
        let outline = dialect.outline(operation, &payload);
        let mut edits = Edits::default();
        for spot in outline.each(slot) {
            if let Some(json) = self.in_text(&payload, spot, &mut dice) {
                edits.replace(spot.span.clone(), json);
            }
        }
        (!edits.is_empty()).then(|| dialect.with_payload(event, &edits.apply(&payload)))
    }

    /// A damaged JSON string in the place of one; the JSON around it stays valid.
    fn in_text(self, payload: &[u8], spot: &Spot, dice: &mut Dice) -> Option<Vec<u8>> {
        let text = spot.text(payload).filter(|text| !text.is_empty())?;
        Some(match self.how {
            How::Cut => quoted(&text.as_bytes()[..cut_of(&text, dice)]),
            How::Checksum => return None,
            How::Flip => quoted(&self.flipped(&text, dice)),
            How::Script => quoted(self.foreign(&text, dice)?.as_bytes()),
            How::SplitCharacter => {
                let raw = spot.of(payload);
                let mut cut = raw[..mid_character(raw)?].to_vec();
                cut.push(b'"');
                cut
            }
        })
    }

    fn in_payload(self, event: &Event, dice: &mut Dice) -> Option<Event> {
        let text = std::str::from_utf8(&event.data).ok();
        let data = match (self.how, text) {
            (How::Cut, Some(text)) => text.as_bytes()[..cut_of(text, dice)].to_vec(),
            (How::Cut, None) => {
                let end = dice.whole(0, event.data.len() as u64 - 1) as usize;
                event.data[..end].to_vec()
            }
            (How::Checksum, _) => return None,
            (How::SplitCharacter, _) => event.data[..mid_character(&event.data)?].to_vec(),
            (How::Flip | How::Script, Some(text)) => self.flipped(text, dice),
            (How::Flip | How::Script, None) => {
                let mut data = event.data.to_vec();
                for _ in 0..self.characters {
                    let at = dice.whole(0, data.len() as u64 - 1) as usize;
                    data[at] ^= 1 << dice.whole(0, 7);
                }
                data
            }
        };
        Some(event.with_data(data))
    }

    /// The same payload in a frame that is none.
    fn in_frame(self, event: &Event, dice: &mut Dice) -> Option<Event> {
        if self.how == How::Checksum {
            return event.with_bad_checksum();
        }
        let mut raw = event.raw.to_vec();
        let length = raw.len();
        match (event.framing, self.how) {
            // The name of the first field is another one, which parsers pass over.
            (Framing::Sse, How::Flip) => {
                let name = raw.iter().position(|byte| *byte == b':').filter(|name| *name > 0)?;
                let at = dice.whole(0, name as u64 - 1) as usize;
                raw[at] = other_letter(raw[at], dice);
            }
            // The blank line is gone: the next event is one with this.
            (Framing::Sse, _) => {
                let end = if raw.ends_with(b"\r\n\r\n") { 2 } else { 1 };
                raw.truncate(length.checked_sub(end)?);
            }
            (Framing::Ndjson, How::Flip) => {
                let last = raw.last_mut().filter(|last| **last == b'\n')?;
                *last = other_letter(b' ', dice);
            }
            (Framing::Ndjson, _) => raw.truncate(raw.strip_suffix(b"\n")?.len()),
            // The last byte of the length, or of the checksum behind the message.
            (Framing::Grpc, How::Flip) => *raw.get_mut(4)? ^= 1 << dice.whole(0, 7),
            (Framing::EventStream, How::Flip) => *raw.last_mut()? ^= 1 << dice.whole(0, 7),
            (Framing::Grpc | Framing::EventStream, _) => {
                raw.truncate(length.checked_sub(1)?);
            }
            (Framing::JsonArray | Framing::Protocol | Framing::WebSocket, _) => return None,
        }
        Some(Event { raw: raw.into(), ..event.clone() })
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

    /// Text with some of its letters replaced by letters of one other script; None where it has no
    /// letters.
    fn foreign(self, text: &str, dice: &mut Dice) -> Option<String> {
        let mut characters: Vec<char> = text.chars().collect();
        let letters: Vec<usize> =
            (0..characters.len()).filter(|at| characters[*at].is_alphabetic()).collect();
        let last = letters.len().checked_sub(1)? as u64;
        let strange = |script: &&str| !script.chars().any(|letter| text.contains(letter));
        let scripts: Vec<&str> = SCRIPTS.iter().copied().filter(|script| strange(script)).collect();
        let script: Vec<char> =
            scripts.get(dice.whole(0, scripts.len().checked_sub(1)? as u64) as usize)?.chars().collect();
        for _ in 0..self.characters {
            let at = letters[dice.whole(0, last) as usize];
            characters[at] = script[dice.whole(0, script.len() as u64 - 1) as usize];
        }
        Some(characters.into_iter().collect())
    }
}

/// A JSON string of these bytes; those that are no UTF-8 stand in it as they are.
fn quoted(bytes: &[u8]) -> Vec<u8> {
    let mut json = vec![b'"'];
    for chunk in bytes.utf8_chunks() {
        let text = serde_json::Value::from(chunk.valid()).to_string();
        json.extend_from_slice(&text.as_bytes()[1..text.len() - 1]);
        json.extend_from_slice(chunk.invalid());
    }
    json.push(b'"');
    json
}

fn other_letter(than: u8, dice: &mut Dice) -> u8 {
    let letter = dice.whole(0, LETTERS.len() as u64 - 1) as usize;
    match LETTERS[letter] {
        same if same == than => LETTERS[(letter + 1) % LETTERS.len()],
        other => other,
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
