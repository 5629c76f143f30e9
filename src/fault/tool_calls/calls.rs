//! Which calls an answer has, told apart through a stream, and what is done with them as wholes.

use bytes::Bytes;

use crate::dialect::{Slot, Spot};
use crate::exchange::{Event, Item};
use crate::fault::Orders;
use crate::fault::answer::{Opened, Reader};
use crate::wire::json::Edits;

/// Calls told apart in one answer; further ones are left alone.
const CALLS: usize = 256;
/// Bytes of events that are kept to be said again.
const KEPT: usize = 512 * 1024;

/// The calls of an answer.
pub(super) struct Calls {
    /// The one that is meant, from 1 on; None: each.
    wanted: Option<u64>,
    calls: Vec<Call>,
    /// The highest number that the answer gives to a call or block.
    last_index: Option<u64>,
    has_index: bool,
    /// The events of calls that are to be said again, with the number of the call.
    kept: Vec<(usize, Event)>,
    bytes: usize,
}

struct Call {
    lane: Vec<u64>,
    name: String,
    /// Its arguments are a value of their own: it came whole.
    whole: bool,
}

impl Calls {
    pub(super) fn new(wanted: Option<u64>) -> Self {
        let (calls, kept) = (Vec::new(), Vec::new());
        Self { wanted, calls, last_index: None, has_index: false, kept, bytes: 0 }
    }

    /// Notes the calls that begin here.
    pub(super) fn see(&mut self, opened: &Opened) {
        let outline = &opened.outline;
        for spot in outline.each(Slot::CallIndex) {
            self.has_index = true;
            self.last_index = self.last_index.max(opened.number(spot));
        }
        if !outline.has(Slot::Choice) {
            for spot in outline.each(Slot::Index) {
                self.last_index = self.last_index.max(opened.number(spot));
            }
        }
        for spot in opened.full(Slot::CallName) {
            let lane = opened.lane(spot);
            let whole = outline.each(Slot::Arguments).any(|arguments| {
                arguments.at == spot.at && arguments.of(&opened.payload).starts_with(b"{")
            });
            let known = self.calls.iter().any(|call| call.lane == lane && !call.whole);
            if (whole || !known) && self.calls.len() < CALLS {
                let name = spot.text(&opened.payload).unwrap_or_default();
                self.calls.push(Call { lane, name, whole });
            }
        }
    }

    /// The call in which a spot lies; of several in one lane the last.
    pub(super) fn of(&self, opened: &Opened, spot: &Spot) -> Option<usize> {
        let lane = opened.lane(spot);
        self.calls.iter().rposition(|call| call.lane == lane)
    }

    /// Whether a call is one that is meant.
    pub(super) fn is_chosen(&self, call: usize) -> bool {
        self.wanted.is_none_or(|wanted| wanted == call as u64 + 1)
    }

    pub(super) fn name(&self, call: usize) -> &str {
        &self.calls[call].name
    }

    /// Whether there was any.
    pub(super) fn any(&self) -> bool {
        !self.calls.is_empty()
    }

    pub(super) fn has_index(&self) -> bool {
        self.has_index
    }

    /// Whether there were fewer calls than the number of the one that is meant.
    pub(super) fn lacks_chosen(&self) -> bool {
        self.wanted.is_some_and(|wanted| wanted > self.calls.len() as u64)
    }

    /// The next number that no call or block has.
    pub(super) fn next_index(&self) -> u64 {
        self.last_index.map_or(0, |last| last + 1)
    }

    fn chosen(&self, opened: &Opened, spot: &Spot) -> Option<usize> {
        self.of(opened, spot).filter(|call| self.is_chosen(*call))
    }

    /// Takes calls away: whether any was, and whether the event is about nothing else.
    pub(super) fn remove(&self, opened: &mut Opened, event: bool) -> (bool, bool) {
        let outline = opened.outline.clone();
        let calls: Vec<&Spot> = outline.each(Slot::Call).collect();
        let mut gone = 0;
        for spot in &calls {
            if self.chosen(opened, spot).is_some() {
                gone += 1;
                if is_item(spot) {
                    opened.edits.remove(spot.start, spot.span.clone());
                }
            }
        }
        // Parts and ends of a block that is no item of a list.
        let block = event && self.is_about_chosen(opened);
        let left = gone < calls.len() || [Slot::Text, Slot::Finish, Slot::Role, Slot::Usage]
            .iter()
            .any(|slot| opened.full(*slot).next().is_some());
        (gone > 0 || block, event && (gone > 0 && !left || block))
    }

    /// Whether an event is about a block that is a call which is meant, and nothing else.
    fn is_about_chosen(&self, opened: &Opened) -> bool {
        self.block(opened).is_some_and(|call| self.is_chosen(call))
    }

    /// The call that is the block which an event is about.
    fn block(&self, opened: &Opened) -> Option<usize> {
        let numbers = [Slot::CallIndex, Slot::Index];
        let mut numbered = opened.outline.spots.iter().filter(|spot| numbers.contains(&spot.what));
        let numbered = numbered.find(|spot| spot.at.is_empty());
        let number = opened.number(numbered?)?;
        self.calls.iter().rposition(|call| call.lane == [number])
    }

    /// Says calls twice: items of lists beside themselves, what comes in parts before the end.
    pub(super) fn double(
        &mut self,
        opened: &mut Opened,
        item: &Item,
        reader: Reader,
        out: &mut Orders,
    ) -> bool {
        let outline = opened.outline.clone();
        let mut doubled = false;
        let mut parts = None;
        for spot in outline.each(Slot::Call) {
            let Some(call) = self.chosen(opened, spot) else { continue };
            if is_item(spot) && (self.calls[call].whole || matches!(item, Item::Message(_))) {
                let mut both = spot.of(&opened.payload).to_vec();
                both.push(b',');
                both.extend_from_slice(&copy(opened, spot));
                opened.edits.replace(spot.span.clone(), both);
                doubled = true;
            } else {
                parts = Some(call);
            }
        }
        let Item::Event(event) = item else { return doubled };
        parts = self.block(opened).filter(|call| self.is_chosen(*call)).or(parts);
        if let Some(call) = parts
            && self.bytes + event.raw.len() <= KEPT
        {
            self.bytes += event.raw.len();
            self.kept.push((call, event.clone()));
        }
        let over = opened.full(Slot::Finish).next().is_some()
            || reader.dialect.read_event(reader.operation, event).done;
        if over && !self.kept.is_empty() {
            self.say_again(reader, out);
            doubled = true;
        }
        doubled
    }

    /// Sends the events of calls once more, as those of further calls.
    fn say_again(&mut self, reader: Reader, out: &mut Orders) {
        let first = self.next_index();
        let mut numbers: Vec<usize> = Vec::new();
        for (call, event) in std::mem::take(&mut self.kept) {
            if !numbers.contains(&call) {
                numbers.push(call);
            }
            let place = numbers.iter().position(|number| *number == call).unwrap_or_default();
            let item = Item::Event(event);
            let Some(mut opened) = reader.open(&item) else { continue };
            let outline = opened.outline.clone();
            let slot = if outline.has(Slot::CallIndex) { Slot::CallIndex } else { Slot::Index };
            for spot in outline.each(slot) {
                opened.edits.replace(spot.span.clone(), (first + place as u64).to_string());
            }
            for spot in outline.each(Slot::CallId) {
                if let Some(id) = spot.text(&opened.payload) {
                    opened.edits.set_text(spot.span.clone(), &format!("{id}_2"));
                }
            }
            out.send(opened.close(item));
        }
    }

    /// Takes the numbers of calls away.
    pub(super) fn without_index(&self, opened: &mut Opened) -> bool {
        let outline = opened.outline.clone();
        let mut changed = false;
        for spot in outline.each(Slot::CallIndex) {
            if self.chosen(opened, spot).is_some() {
                opened.edits.remove(spot.start, spot.span.clone());
                changed = true;
            }
        }
        changed
    }

    /// Gives all calls the first number.
    pub(super) fn at_one_index(&self, opened: &mut Opened) -> bool {
        let outline = opened.outline.clone();
        let mut changed = false;
        for spot in outline.each(Slot::CallIndex) {
            let other = opened.number(spot).is_some_and(|number| number != 0);
            if other && self.chosen(opened, spot).is_some() {
                opened.edits.replace(spot.span.clone(), "0");
                changed = true;
            }
        }
        changed
    }
}

/// Whether a call is an item of a list.
fn is_item(spot: &Spot) -> bool {
    spot.start == spot.span.start && !spot.at.is_empty()
}

/// A call with another id.
fn copy(opened: &Opened, call: &Spot) -> Bytes {
    let mut edits = Edits::default();
    let inside = |spot: &&Spot| spot.span.start >= call.span.start && spot.span.end <= call.span.end;
    for spot in opened.outline.each(Slot::CallId).filter(inside) {
        if let Some(id) = spot.text(&opened.payload) {
            let span = spot.span.start - call.span.start..spot.span.end - call.span.start;
            edits.set_text(span, &format!("{id}_2"));
        }
    }
    edits.apply(call.of(&opened.payload))
}
