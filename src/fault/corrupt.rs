//! Damages events of a stream: characters that changed on the way, JSON that ends too early, text in
//! the wrong script, characters cut in two. Where the damage stands decides who notices it: the
//! parser of frames, the parser of payloads, or the app.

mod damage;

use std::time::Duration;

use http::response;
use schemars::JsonSchema;
use serde::Deserialize;

use super::choice::{Choice, Chooser};
use super::{Arming, Direction, Effect, Fault, Impossible, Invalid, Orders, Place, Spec};
use self::damage::Damage;
use crate::dialect::Dialect;
use crate::exchange::{Framing, Grain, Item, Operation, Transport};
use crate::units::Percent;

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
    /// Where the damage stands: in the `text` of the answer or the `arguments` of a tool call, whose
    /// events stay valid, so that only the app can notice; in the `payload`, which is no valid JSON
    /// then; in the `frame`, so that the parser of events stumbles. Default payload; text for `script`, frame for `checksum`.
    #[serde(rename = "where")]
    pub place: Option<Where>,
    /// `flip` changes characters (bytes, where the payload is no text), `cut` leaves the end off,
    /// `checksum` leaves the payload as it is and makes the frame's checksum wrong (Amazon's eventstream,
    /// which Bedrock streams in), `script` puts letters of another script in the place of letters of the text,
    /// `split_character` cuts off inside the first character that has several bytes. Default flip.
    pub how: Option<How>,
    /// How many characters of an event are changed with `flip` and `script`, from 1 to 1000. Default 1.
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
    /// Letters of another script stand in the text.
    Script,
    /// It ends inside a character.
    SplitCharacter,
}

/// What is damaged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Where {
    /// The arguments of a tool call, where they are text.
    Arguments,
    /// What is around the payload: field names and blank lines of SSE, line ends, lengths.
    Frame,
    /// The payload as it is.
    #[default]
    Payload,
    /// Text of the answer.
    Text,
}

impl Spec for Corrupt {
    const NAME: &'static str = "corrupt";
    const SUMMARY: &'static str = "damaged events: changed characters, cut JSON, text in a wrong script";
    const EXAMPLE: &'static str = "{ percent: 5%, how: cut }";

    fn build(&self) -> Result<Box<dyn Fault>, Invalid> {
        let how = self.how.unwrap_or_default();
        let invalid_utf8 = self.invalid_utf8.unwrap_or_default();
        let place = self.place.unwrap_or(match how {
            How::Checksum => Where::Frame,
            How::Script => Where::Text,
            _ => Where::Payload,
        });
        if invalid_utf8 && (how != How::Flip || place == Where::Frame) {
            return Err(Invalid::new("invalid_utf8", "`invalid_utf8` goes with `how: flip` alone"));
        }
        let counts = matches!(how, How::Flip | How::Script) && place != Where::Frame;
        if self.characters.is_some() && !counts {
            return Err(Invalid::new(
                "characters",
                "`characters` goes with `how: flip` and `how: script` alone",
            ));
        }
        match (how, place) {
            (How::Checksum, Where::Frame) | (How::Script, Where::Text) => {}
            (How::Checksum, _) => {
                return Err(Invalid::new("where", "a checksum is part of the frame: `where: frame`"));
            }
            (How::Script, _) => {
                return Err(Invalid::new("where", "another script stands in the text: `where: text`"));
            }
            (How::SplitCharacter, Where::Frame) => {
                return Err(Invalid::new("where", "a frame has no characters of several bytes"));
            }
            _ => {}
        }
        let characters = self.characters.unwrap_or(1);
        if !(1..=1000).contains(&characters) {
            return Err(Invalid::new("characters", "write a number from 1 to 1000"));
        }
        let Self { percent, after, at_most, terminal, direction, .. } = *self;
        let choice = Choice::checked(percent, after, at_most, terminal, direction)?;
        Ok(Box::new(Loaded { choice, damage: Damage { how, place, characters, invalid_utf8 } }))
    }
}

#[derive(Debug)]
struct Loaded {
    choice: Choice,
    damage: Damage,
}

impl Fault for Loaded {
    fn arm(&self, arming: &mut Arming<'_>) -> Result<Box<dyn Effect>, Impossible> {
        if self.damage.place == Where::Frame && arming.exchange.transport == Transport::WebSocket {
            return Err(Impossible("frames of a WebSocket are made when they are written"));
        }
        let [down, up] = self.choice.arm(arming)?;
        let operation = arming.exchange.facts.operation;
        Ok(Box::new(Corrupting {
            damage: self.damage,
            dialect: arming.dialect,
            operation,
            down,
            up,
        }))
    }
}

struct Corrupting {
    damage: Damage,
    dialect: &'static dyn Dialect,
    operation: Operation,
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
        send((self.damage, self.dialect, self.operation), &mut self.down, item, out);
    }

    fn on_upload(&mut self, _: Duration, item: Item, out: &mut Orders) {
        send((self.damage, self.dialect, self.operation), &mut self.up, item, out);
    }

    fn on_end(&mut self, _: Duration, out: &mut Orders) {
        self.down.end("corrupted", out);
        self.up.end("corrupted_up", out);
    }
}

/// Sends a piece on, damaged where it is chosen and there is something to damage.
fn send(
    (damage, dialect, operation): (Damage, &dyn Dialect, Operation),
    chooser: &mut Chooser,
    item: Item,
    out: &mut Orders,
) {
    let chosen = chooser.choose(&item, out);
    let (Some(dice), Item::Event(event)) = (chosen, &item) else { return out.send(item) };
    if damage.how == How::Checksum && event.framing != Framing::EventStream {
        out.impossible("the events of this answer have no checksum");
        chooser.turn_off();
        return out.send(item);
    }
    match damage.damaged(dialect, operation, event, dice.fork("damage")) {
        Some(damaged) => {
            out.hit();
            out.send(Item::Event(damaged));
        }
        None => {
            chooser.spare();
            out.send(item);
        }
    }
}

#[cfg(test)]
mod tests;
