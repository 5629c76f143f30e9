//! Answers on their way, opened at their slots: pieces of text that are rewritten as they pass, in
//! a stream event by event, and all other bytes left as they came. It never holds a stream back.

use std::time::Duration;

use bytes::Bytes;

use super::{Order, Orders};
use crate::dialect::{Dialect, Outline, Slot, Spot};
use crate::exchange::{Event, Item, Operation};
use crate::wire::json::Edits;

/// Texts told apart in one answer; further ones pass as they are.
const LANES: usize = 256;
/// Events that may follow the upstream's last text; what is more is put several pieces to an event.
const MORE: usize = 1024;
/// Text of a lane that is kept where the answer tells it again; of longer ones what is told again
/// stays as it came.
const TOLD: usize = 256 * 1024;
/// The longest pause between two pieces that we add.
const LONGEST_GAP: Duration = Duration::from_secs(1);

/// Opens the pieces of an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader {
    pub(super) dialect: &'static dyn Dialect,
    pub(super) operation: Operation,
}

impl Reader {
    /// A piece with its slots; None where it has no content: comments, pings, parts of a body.
    pub(super) fn open(self, item: &Item) -> Option<Opened> {
        let payload = match item {
            Item::Event(event) if event.is_control() => return None,
            Item::Event(event) => self.dialect.payload(event),
            Item::Message(body) => body.clone(),
            Item::Bytes(_) => return None,
        };
        let outline = self.dialect.outline(self.operation, &payload);
        Some(Opened { reader: self, payload, outline, edits: Edits::default() })
    }
}

/// A piece of an answer and what is to be changed in it.
#[derive(Debug)]
pub(super) struct Opened {
    reader: Reader,
    pub(super) payload: Bytes,
    pub(super) outline: Outline,
    pub(super) edits: Edits,
}

impl Opened {
    /// The piece with the changes; the very same where there are none.
    pub(super) fn close(self, item: Item) -> Item {
        if self.edits.is_empty() {
            return item;
        }
        let payload = self.edits.apply(&self.payload);
        match item {
            Item::Event(event) => Item::Event(self.reader.dialect.with_payload(&event, &payload)),
            Item::Message(_) | Item::Bytes(_) => Item::Message(payload),
        }
    }

    /// Which of several answers, blocks and calls a spot belongs to: the same through a stream.
    pub(super) fn lane(&self, spot: &Spot) -> Vec<u64> {
        let mut key: Vec<u64> = spot.at.iter().map(|number| *number as u64).collect();
        let mut whole = Vec::new();
        let numbers = |what| matches!(what, Slot::Index | Slot::CallIndex);
        for index in self.outline.spots.iter().filter(|index| numbers(index.what)) {
            let Some(number) = self.number(index) else { continue };
            match index.at.len() {
                0 => whole.push(number),
                length if spot.at.starts_with(&index.at) => key[length - 1] = number,
                _ => {}
            }
        }
        whole.extend(key);
        whole
    }

    /// A whole number.
    pub(super) fn number(&self, spot: &Spot) -> Option<u64> {
        serde_json::from_slice(spot.of(&self.payload)).ok()
    }

    /// Whether a spot holds anything: neither `null` nor an empty text.
    pub(super) fn holds(&self, spot: &Spot) -> bool {
        !matches!(spot.of(&self.payload), b"null" | b"\"\"")
    }

    /// The spots with this slot that hold anything.
    pub(super) fn full(&self, slot: Slot) -> impl Iterator<Item = &Spot> {
        self.outline.each(slot).filter(|spot| self.holds(spot))
    }

    /// Whether another reason for the answer's end was put in, in the provider's word.
    pub(super) fn end_for(&mut self, word: &str) -> bool {
        let mut changed = false;
        for spot in self.outline.clone().each(Slot::Finish) {
            if spot.text(&self.payload).is_some_and(|old| old != word) {
                self.edits.set_text(spot.span.clone(), word);
                changed = true;
            }
        }
        changed
    }

    /// Whether anything but texts of `slot` is told here; the role counts in a lane's first event.
    fn carries_more(&self, slot: Slot, first: bool) -> bool {
        const CONTENT: &[Slot] = &[
            Slot::Arguments,
            Slot::CallId,
            Slot::CallName,
            Slot::Finish,
            Slot::Reasoning,
            Slot::Refusal,
            Slot::Text,
            Slot::Usage,
        ];
        let counts = |spot: &Spot| {
            spot.what != slot
                && (CONTENT.contains(&spot.what) || first && spot.what == Slot::Role)
                && self.holds(spot)
        };
        self.outline.spots.iter().any(counts)
    }

    /// What this event closes, so that what is still to be said must come before it.
    fn closing(&self, event: &Event) -> Closing {
        let reader = self.reader;
        if reader.dialect.read_event(reader.operation, event).done {
            return Closing { below: vec![Vec::new()], above: Vec::new() };
        }
        let mut below: Vec<_> = self.full(Slot::Finish).map(|spot| self.lane(spot)).collect();
        if reader.dialect.closes(reader.operation, &self.payload) {
            let numbers = self.outline.each(Slot::Index).filter(|spot| spot.at.is_empty());
            below.push(numbers.filter_map(|spot| self.number(spot)).collect());
        }
        let above = self.full(Slot::CallName).map(|spot| self.lane(spot)).collect();
        Closing { below, above }
    }
}

/// Which lanes an event closes.
struct Closing {
    /// Those that lie in one of these.
    below: Vec<Vec<u64>>,
    /// Those in which one of these calls lies.
    above: Vec<Vec<u64>>,
}

impl Closing {
    fn closes(&self, lane: &[u64], slot: Slot) -> bool {
        self.below.iter().any(|outer| lane.starts_with(outer))
            || slot == Slot::Text && self.above.iter().any(|call| call.starts_with(lane))
    }
}

impl Orders {
    /// Sends events that were added, each after its pause. No hit by itself.
    pub(super) fn send_all(&mut self, events: Vec<(Duration, Event)>) {
        for (wait, event) in events {
            if !wait.is_zero() {
                self.list.push(Order::Wait(wait));
            }
            self.send(Item::Event(event));
        }
    }
}

/// Rewrites one text as its pieces pass.
pub(super) trait Rewrite: Send {
    /// What a piece becomes; nothing, where it vanishes.
    fn piece(&mut self, piece: &str) -> String;

    /// What is still to be said once the text is over.
    fn rest(&mut self) -> Vec<String>;
}

/// How a rewritten text is put into its place.
pub(super) type Put = dyn Fn(&mut Opened, &Spot, &str) + Send + Sync;

/// Puts a text, or the object that it spells, into its place.
pub(super) fn put(opened: &mut Opened, spot: &Spot, text: &str) {
    if is_object(opened, spot) {
        opened.edits.replace(spot.span.clone(), text);
    } else {
        opened.edits.set_text(spot.span.clone(), text);
    }
}

fn is_object(opened: &Opened, spot: &Spot) -> bool {
    spot.of(&opened.payload).starts_with(b"{")
}

/// All texts of an answer with one slot, each with its own rewrite.
pub(super) struct Lanes<R> {
    slot: Slot,
    lanes: Vec<Lane<R>>,
    /// Whether anything was changed.
    pub(super) changed: bool,
    /// An object would have become what is no JSON: it was left.
    pub(super) refused: bool,
}

pub(super) struct Lane<R> {
    key: Vec<u64>,
    pub(super) rewrite: R,
    /// The event that further ones are shaped like, and whether it names no role.
    like: Option<(Event, bool)>,
    pieces: u32,
    /// What the app has got of it.
    told: String,
    first: Duration,
    last: Duration,
}

/// What one event says in one lane.
struct Said {
    key: Vec<u64>,
    spot: Spot,
    old: String,
    new: String,
}

/// What becomes of an event.
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// What comes before it, each after a pause.
    pub(super) before: Vec<(Duration, Event)>,
    /// It has nothing left to say.
    pub(super) gone: bool,
}

impl<R: Rewrite> Lanes<R> {
    pub(super) fn new(slot: Slot) -> Self {
        Self { slot, lanes: Vec::new(), changed: false, refused: false }
    }

    /// The rewrites that have begun.
    pub(super) fn rewrites(&self) -> impl Iterator<Item = &R> {
        self.lanes.iter().map(|lane| &lane.rewrite)
    }

    /// Rewrites the texts of a whole answer. `make` gives the rewrite of a text, None where it stays.
    pub(super) fn message(
        &mut self,
        opened: &mut Opened,
        make: &mut dyn FnMut(&Opened, &Spot) -> Option<R>,
        put: &Put,
    ) {
        for spot in opened.outline.clone().each(self.slot) {
            self.whole(opened, spot, make, put);
        }
    }

    /// A text that is whole.
    fn whole(
        &mut self,
        opened: &mut Opened,
        spot: &Spot,
        make: &mut dyn FnMut(&Opened, &Spot) -> Option<R>,
        put: &Put,
    ) {
        let Some(old) = self.text_of(opened, spot) else { return };
        if self.lanes.len() >= LANES {
            return;
        }
        let Some(mut rewrite) = make(opened, spot) else { return };
        let mut new = rewrite.piece(&old);
        new.extend(rewrite.rest());
        let fits = |text: &str| serde_json::from_str::<serde_json::Map<_, _>>(text).is_ok();
        if is_object(opened, spot) && !fits(&new) {
            self.refused = true;
        } else if new != old {
            put(opened, spot, &new);
            self.changed = true;
        }
        // A key that no lane of a stream has: a whole text is over at once.
        let key = vec![u64::MAX, self.lanes.len() as u64];
        self.lanes.push(Lane::new(key, rewrite, Duration::ZERO));
    }

    fn text_of(&self, opened: &Opened, spot: &Spot) -> Option<String> {
        if is_object(opened, spot) {
            return String::from_utf8(spot.of(&opened.payload).to_vec()).ok();
        }
        spot.text(&opened.payload).filter(|text| !text.is_empty())
    }

    /// Rewrites the texts in an event of a stream. `dress` changes what else is to be changed in
    /// events that are added.
    pub(super) fn event(
        &mut self,
        at: Duration,
        opened: &mut Opened,
        event: &Event,
        make: &mut dyn FnMut(&Opened, &Spot) -> Option<R>,
        put: &Put,
        dress: &dyn Fn(&mut Opened),
    ) -> Passed {
        if opened.reader.dialect.retells(opened.reader.operation, &opened.payload) {
            return self.tell_again(opened, put, dress);
        }
        let mut said = Vec::new();
        let mut first = false;
        for spot in opened.outline.clone().each(self.slot) {
            let Some(old) = self.text_of(opened, spot) else { continue };
            if is_object(opened, spot) {
                self.whole(opened, spot, make, put);
                continue;
            }
            let key = opened.lane(spot);
            let Some(index) = self.enter(&key, at, opened, spot, make) else { continue };
            let lane = &mut self.lanes[index];
            first |= lane.pieces == 0;
            lane.pieces += 1;
            lane.last = at;
            let plain = !opened.outline.has(Slot::Role);
            if lane.like.as_ref().is_none_or(|(_, better)| plain || !better) {
                lane.like = Some((event.clone(), plain));
            }
            let new = lane.rewrite.piece(&old);
            said.push(Said { key, spot: spot.clone(), old, new });
        }
        for said in &said {
            if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.key == said.key) {
                lane.tell(&said.new);
            }
        }
        let before = self.close(opened, event, &mut said, put, dress);
        for said in said.iter().filter(|said| said.new != said.old) {
            put(opened, &said.spot, &said.new);
            self.changed = true;
        }
        let silent = !said.is_empty() && said.iter().all(|said| said.new.is_empty());
        Passed { before, gone: silent && !opened.carries_more(self.slot, first) }
    }

    /// An event that tells whole texts again: as the app has got them.
    fn tell_again(
        &mut self,
        opened: &mut Opened,
        put: &Put,
        dress: &dyn Fn(&mut Opened),
    ) -> Passed {
        let outline = opened.outline.clone();
        let lanes: Vec<Vec<u64>> = outline.each(self.slot).map(|spot| opened.lane(spot)).collect();
        let before = self.close_those(opened, &mut [], put, dress, &|key| {
            lanes.iter().any(|lane| lane.starts_with(key))
        });
        for (spot, key) in outline.each(self.slot).zip(&lanes) {
            let lane = self.lanes.iter().find(|lane| key.starts_with(&lane.key));
            let Some(lane) = lane.filter(|lane| lane.told.len() < TOLD) else { continue };
            let told = self.text_of(opened, spot);
            if told.is_some_and(|told| told != lane.told) {
                put(opened, spot, &lane.told);
                self.changed = true;
            }
        }
        Passed { before, gone: false }
    }

    fn enter(
        &mut self,
        key: &[u64],
        at: Duration,
        opened: &Opened,
        spot: &Spot,
        make: &mut dyn FnMut(&Opened, &Spot) -> Option<R>,
    ) -> Option<usize> {
        if let Some(index) = self.lanes.iter().position(|lane| lane.key == key) {
            return Some(index);
        }
        if self.lanes.len() >= LANES {
            return None;
        }
        self.lanes.push(Lane::new(key.to_vec(), make(opened, spot)?, at));
        Some(self.lanes.len() - 1)
    }

    /// Lets the lanes that end here say the rest.
    fn close(
        &mut self,
        opened: &Opened,
        event: &Event,
        said: &mut [Said],
        put: &Put,
        dress: &dyn Fn(&mut Opened),
    ) -> Vec<(Duration, Event)> {
        let closing = opened.closing(event);
        let slot = self.slot;
        self.close_those(opened, said, put, dress, &|key| closing.closes(key, slot))
    }

    fn close_those(
        &mut self,
        opened: &Opened,
        said: &mut [Said],
        put: &Put,
        dress: &dyn Fn(&mut Opened),
        closes: &dyn Fn(&[u64]) -> bool,
    ) -> Vec<(Duration, Event)> {
        let mut more = Vec::new();
        for lane in self.lanes.iter_mut().filter(|lane| closes(&lane.key)) {
            let mut rest = lane.rewrite.rest();
            if rest.is_empty() {
                continue;
            }
            self.changed = true;
            lane.tell(&rest.concat());
            if let Some(own) = said.iter_mut().find(|said| said.key == lane.key) {
                rest.insert(0, std::mem::take(&mut own.new));
                rest.retain(|piece| !piece.is_empty());
            }
            more.extend(lane.more(opened.reader, self.slot, &rest, put, dress));
        }
        more
    }

    /// The rest of all lanes: the stream has ended without a word that says so.
    pub(super) fn end(
        &mut self,
        reader: Reader,
        put: &Put,
        dress: &dyn Fn(&mut Opened),
    ) -> Vec<(Duration, Event)> {
        let mut more = Vec::new();
        for lane in &mut self.lanes {
            let rest = lane.rewrite.rest();
            self.changed |= !rest.is_empty();
            more.extend(lane.more(reader, self.slot, &rest, put, dress));
        }
        more
    }
}

impl<R> Lane<R> {
    fn new(key: Vec<u64>, rewrite: R, at: Duration) -> Self {
        Self { key, rewrite, like: None, pieces: 0, told: String::new(), first: at, last: at }
    }

    fn tell(&mut self, text: &str) {
        if self.told.len() < TOLD {
            self.told.push_str(text);
        }
    }

    /// Events that say these pieces, at the pace at which the others came.
    fn more(
        &self,
        reader: Reader,
        slot: Slot,
        pieces: &[String],
        put: &Put,
        dress: &dyn Fn(&mut Opened),
    ) -> Vec<(Duration, Event)> {
        let Some((like, _)) = &self.like else { return Vec::new() };
        let gap = self.last.saturating_sub(self.first) / self.pieces.saturating_sub(1).max(1);
        let gap = gap.min(LONGEST_GAP);
        let each = pieces.len().div_ceil(MORE).max(1);
        let item = Item::Event(like.clone());
        let event = |some: &[String]| {
            let mut opened = reader.open(&item)?;
            let outline = opened.outline.clone();
            let spot = outline.each(slot).find(|spot| opened.lane(spot) == self.key)?;
            put(&mut opened, spot, &some.concat());
            dress(&mut opened);
            match opened.close(item.clone()) {
                Item::Event(event) => Some((gap, event)),
                _ => None,
            }
        };
        pieces.chunks(each).filter_map(event).collect()
    }
}

#[cfg(test)]
mod tests;
