//! The effect at work on one exchange.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{request, response};

use super::arrange::{self, Made};
use super::memory::{Asked, Memory};
use super::rows::{self, Gathered, Step};
use super::{Plan, Recalled};
use crate::dialect::{Answer, Arrangement, Dialect, Listing, Shards, Slot};
use crate::dice::{Dice, hash_bytes};
use crate::exchange::{Event, Framing, Grain, Item, Operation};
use crate::fault::place::unreadable;
use crate::fault::{Arming, Effect, Orders};
use crate::wire::json::Edits;

const NO_LIST: &str = "the answer has no list of hits";
const NO_SCORES: &str = "the answer has no scores";
const TOO_LONG: &str = "the answer is too long, or compressed";
const NO_SHARDS: &str = "this store does not say how many shards answered";
const NO_TIME: &str = "this store does not say whether a search ran out of time";
const TYPED_ROWS: &str = "rows are of the types that their own query asked for";

pub(super) struct Acting {
    plan: Arc<Plan>,
    memory: Arc<Memory>,
    dialect: &'static dyn Dialect,
    operation: Operation,
    asked: Asked,
    /// The effect's own percent has chosen this exchange.
    chosen: bool,
    refusal: Option<Answer>,
    /// The ids that are written, where they are to be kept out of answers.
    written: Option<Vec<String>>,
    dice: Dice,
    /// The answer can be read.
    on: bool,
    gathered: Gathered,
    /// Something has changed, or it was said why not.
    settled: bool,
}

impl Acting {
    pub(super) fn new(
        plan: &Arc<Plan>,
        memory: &Arc<Memory>,
        refusal: Option<Answer>,
        arming: &mut Arming<'_>,
    ) -> Self {
        let exchange = arming.exchange;
        let operation = exchange.facts.operation;
        let writes = operation == Operation::Upsert && plan.late.is_some();
        Self {
            plan: Arc::clone(plan),
            memory: Arc::clone(memory),
            dialect: arming.dialect,
            operation,
            asked: Asked::of(exchange),
            chosen: arming.draw.chooses(plan.share),
            refusal,
            written: writes
                .then(|| arming.dialect.written(exchange.uri.path(), &exchange.body)),
            dice: arming.draw.fork("hits"),
            on: true,
            gathered: Gathered::default(),
            settled: false,
        }
    }

    /// Whether answers are looked into.
    fn reads(&self) -> bool {
        match self.operation {
            Operation::Search => self.plan.changes_hits() || self.plan.late.is_some(),
            Operation::Read => self.plan.late.is_some(),
            _ => false,
        }
    }

    fn impossible(&mut self, reason: &'static str, out: &mut Orders) {
        self.settled = true;
        out.impossible(reason);
    }

    /// The answer as it is to be; None where it stays.
    fn changed(&mut self, at: Duration, body: &Bytes, out: &mut Orders) -> Option<Bytes> {
        let mut lists = self.dialect.listings(self.operation, body);
        if lists.is_empty() {
            self.impossible(NO_LIST, out);
            return None;
        }
        let mut now = body.clone();
        let mut changed = false;
        if let Some(which) = self.plan.recalled {
            let recalled = self.memory.recall(which, &self.asked, &lists, body);
            self.memory.keep(&self.asked, &lists, body);
            match recalled.filter(|_| self.chosen) {
                Some(other) => {
                    lists = self.dialect.listings(self.operation, &other);
                    (now, changed) = (other, true);
                }
                None if self.chosen => self.impossible(none_to_recall(which), out),
                None => {}
            }
        }
        if self.chosen {
            changed |= self.arrange(&mut now, &lists, out);
            changed |= self.report(&mut now, out);
        }
        changed |= self.hide(at, &mut now, out);
        changed.then_some(now)
    }

    /// Arranges the lists; whether any changes.
    fn arrange(&mut self, body: &mut Bytes, lists: &[Listing], out: &mut Orders) -> bool {
        let Plan { order, scores, .. } = *self.plan;
        if order.is_none() && scores.is_none() {
            return false;
        }
        let made: Vec<Made> = (0_u64..)
            .zip(lists)
            .map(|(number, list)| {
                arrange::made(list, order, scores, &self.dice.fork_number(number))
            })
            .collect();
        if made.contains(&Made::NoScores) {
            self.impossible(NO_SCORES, out);
            return false;
        }
        if made.iter().all(|made| *made == Made::Same) {
            self.settled = true;
            out.let_go("the search had too few hits for a change");
            return false;
        }
        let wanted: Vec<Arrangement> = made
            .into_iter()
            .zip(lists)
            .map(|(made, list)| match made {
                Made::Changed(wanted) => wanted,
                _ => Arrangement::same(list.rows),
            })
            .collect();
        let hits: usize = wanted.iter().map(|wanted| wanted.order.len()).sum();
        match self.dialect.arranged(self.operation, body, &wanted) {
            Some(new) => {
                *body = new;
                out.note("hits", hits as f64);
                true
            }
            None => {
                self.impossible(NO_LIST, out);
                false
            }
        }
    }

    /// Says that shards failed and that time ran out; whether anything changes.
    fn report(&mut self, body: &mut Bytes, out: &mut Orders) -> bool {
        let mut changed = false;
        if let Some(shards) = self.plan.shards {
            match self.dialect.partial(self.operation, body, shards) {
                Some(new) => {
                    *body = self.without(&new, |list, row| in_failed(list, row, shards));
                    changed = true;
                }
                None => self.impossible(NO_SHARDS, out),
            }
        }
        if self.plan.timed_out {
            let outline = self.dialect.outline(self.operation, body);
            let mut edits = Edits::default();
            for spot in outline.each(Slot::TimedOut).filter(|spot| spot.of(body) != b"true") {
                edits.replace(spot.span.clone(), "true");
            }
            if !edits.is_empty() {
                *body = edits.apply(body);
                changed = true;
            } else if !outline.has(Slot::TimedOut) {
                self.impossible(NO_TIME, out);
            }
        }
        changed
    }

    /// Takes the points that are not to be seen yet out of the lists; whether there were any.
    fn hide(&mut self, at: Duration, body: &mut Bytes, out: &mut Orders) -> bool {
        if self.plan.late.is_none() || !self.memory.hides_any() {
            return false;
        }
        let hides = |list: &Listing, row: usize| {
            let id = list.ids.get(row).and_then(Option::as_deref);
            id.is_some_and(|id| self.memory.hides(&self.asked, id, at))
        };
        let new = self.without(body, hides);
        let changed = new != *body;
        if changed {
            out.note("hidden", 1.0);
            *body = new;
        }
        changed
    }

    /// The answer without some of its rows.
    fn without(&self, body: &Bytes, goes: impl Fn(&Listing, usize) -> bool) -> Bytes {
        let lists = self.dialect.listings(self.operation, body);
        let wanted: Vec<Arrangement> = lists
            .iter()
            .map(|list| Arrangement {
                order: (0..list.rows).filter(|row| !goes(list, *row)).collect(),
                scores: None,
            })
            .collect();
        let all = wanted.iter().zip(&lists).all(|(wanted, list)| wanted.order.len() == list.rows);
        if all {
            return body.clone();
        }
        self.dialect.arranged(self.operation, body, &wanted).unwrap_or_else(|| body.clone())
    }

    /// Handles a body, or a message that holds one.
    fn show(&mut self, at: Duration, body: &Bytes, out: &mut Orders) -> Option<Bytes> {
        let new = self.changed(at, body, out)?;
        self.settled = true;
        out.hit();
        Some(new)
    }

    /// Rows that come one by one.
    fn gather(&mut self, item: Item, out: &mut Orders) {
        match self.gathered.step(self.dialect, item) {
            Step::Held => {}
            Step::Pass(held, item) => held.into_iter().chain([item]).for_each(|item| out.send(item)),
            Step::TooMany(held) => {
                self.impossible("the answer has more rows than a search has hits", out);
                held.into_iter().for_each(|item| out.send(item));
            }
            Step::Whole(held, end) => self.send_rows(&held, end, out),
        }
    }

    fn send_rows(&mut self, held: &[Item], end: Item, out: &mut Orders) {
        let made =
            arrange::made(&rows::listing(held.len()), self.plan.order, self.plan.scores, &self.dice);
        let wanted = match made {
            Made::Changed(wanted) => {
                self.settled = true;
                out.hit();
                out.note("hits", wanted.order.len() as f64);
                wanted
            }
            Made::Same => {
                self.settled = true;
                out.let_go("the search had too few hits for a change");
                Arrangement::same(held.len())
            }
            Made::NoScores => {
                self.impossible("the distance of a row cannot be told from its other columns", out);
                Arrangement::same(held.len())
            }
        };
        wanted.order.iter().filter_map(|row| held.get(*row)).cloned().for_each(|row| out.send(row));
        out.send(match end {
            Item::Event(event) if wanted.order.len() != held.len() => {
                Item::Event(self.dialect.counted(&event, wanted.order.len() as u64))
            }
            end => end,
        });
    }

    fn gathers(&self) -> bool {
        self.chosen && (self.plan.order.is_some() || self.plan.scores.is_some())
    }
}

impl Effect for Acting {
    fn grain(&self) -> Grain {
        if self.reads() { Grain::Event } else { Grain::Head }
    }

    fn on_request(&mut self, _: Duration, _: &mut request::Parts, out: &mut Orders) {
        match self.refusal.take() {
            Some(answer) if self.chosen => {
                self.settled = true;
                out.answer(answer);
            }
            Some(_) => {
                self.settled = true;
                out.let_go("not drawn by the effect's own percent");
            }
            None => {}
        }
    }

    fn on_response(
        &mut self,
        at: Duration,
        _: Duration,
        head: &mut response::Parts,
        out: &mut Orders,
    ) {
        if let Some(reason) = unreadable(head) {
            self.on = false;
            return self.impossible(reason, out);
        }
        let (Some(written), Some(late)) = (self.written.take(), self.plan.late) else { return };
        self.settled = true;
        if !self.chosen {
            out.let_go("not drawn by the effect's own percent");
        } else if written.is_empty() {
            out.impossible("the ids of what is written cannot be told from the request");
        } else if self.memory.hide(&self.asked, &written, at, at + late) {
            out.note("hidden", written.len() as f64);
            out.let_go("the write passed; what it wrote is kept out of answers for a while");
        } else {
            out.impossible("too many points are hidden already");
        }
    }

    fn on_item(&mut self, at: Duration, item: Item, out: &mut Orders) {
        if !self.on || !self.reads() {
            return out.send(item);
        }
        match item {
            Item::Message(body) => {
                let new = self.show(at, &body, out).unwrap_or(body);
                out.send(Item::Message(new));
            }
            Item::Event(event) if event.framing == Framing::Protocol => {
                if self.plan.recalled.is_some() && self.chosen {
                    self.impossible(TYPED_ROWS, out);
                }
                match self.gathers() {
                    true => self.gather(Item::Event(event), out),
                    false => out.send(Item::Event(event)),
                }
            }
            Item::Event(event) if is_compressed(&event) => {
                self.impossible("the message is compressed", out);
                out.send(Item::Event(event));
            }
            Item::Event(event) => {
                let payload = self.dialect.payload(&event);
                let new = self.show(at, &payload, out);
                out.send(Item::Event(match new {
                    Some(new) => self.dialect.with_payload(&event, &new),
                    None => event,
                }));
            }
            Item::Bytes(_) => {
                self.impossible(TOO_LONG, out);
                out.send(item);
            }
        }
    }

    fn on_end(&mut self, _: Duration, out: &mut Orders) {
        self.gathered.take().into_iter().for_each(|item| out.send(item));
        if self.settled || !self.on {
            return;
        }
        if !self.chosen && (self.plan.changes_hits() || self.refusal.is_some()) {
            out.let_go("not drawn by the effect's own percent");
        } else if self.plan.late.is_some() {
            out.let_go("nothing in the answer was written so lately");
        } else {
            out.impossible(NO_LIST);
        }
    }
}

/// Whether a gRPC message says of itself that it is compressed.
fn is_compressed(event: &Event) -> bool {
    event.framing == Framing::Grpc && event.raw.first().is_some_and(|flag| *flag != 0)
}

fn none_to_recall(which: Recalled) -> &'static str {
    match which {
        Recalled::Earlier => "no earlier search has been seen that found other hits",
        Recalled::Elsewhere => "no search in another collection has been seen",
    }
}

/// Whether a hit is on one of the shards that fail.
fn in_failed(list: &Listing, row: usize, shards: Shards) -> bool {
    let id = list.ids.get(row).and_then(Option::as_deref);
    let hash = id.map_or_else(|| hash_bytes(&row.to_le_bytes()), |id| hash_bytes(id.as_bytes()));
    hash % u64::from(shards.total) < u64::from(shards.failed)
}
