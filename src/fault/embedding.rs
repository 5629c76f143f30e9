//! Spoils the vectors of an embedding service: zeros, NaN, another length, noise, another model's space,
//! a batch in another order or with vectors missing. Every other byte of the answer stays.

mod numbers;
#[cfg(test)]
mod tests;
mod vectors;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::response;
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Deserialize;

use self::vectors::{Change, Stale};
use super::place::unreadable;
use super::{Arming, Effect, Fault, Impossible, Invalid, NO_REQUESTS, Orders, Spec};
use crate::dialect::{Arrangement, Dialect, Slot};
use crate::dice::Dice;
use crate::exchange::{Framing, Grain, Item, Level, Operation};
use crate::units::Percent;
use crate::wire::json::Edits;

/// The most numbers that a vector may be given.
const LONGEST: u64 = 65_536;

/// Vectors of an embedding service that are wrong.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Embedding {
    /// What becomes of the vectors.
    pub vectors: Option<Vectors>,
    /// With `vectors: wrong_dimension`, how many numbers a vector has, from 1 to 65536; longer ones are
    /// cut, shorter ones end with zeros. Default: one fewer than it had.
    pub dimensions: Option<u64>,
    /// With `vectors: noise`, the cosine between a vector and what it was, from -1 to below 1. Default
    /// 0.8.
    pub cosine: Option<f64>,
    /// With `vectors: unnormalised`, the length that a vector gets, as a multiple of the one it had;
    /// above 0, and not 1. Default 10.
    pub factor: Option<f64>,
    /// How many vectors of an answer change, 1 or more; which ones is drawn. Default: all.
    pub count: Option<u64>,
    /// In which order the vectors of a batch come: `shuffled` or `reversed`. Default: as asked for.
    pub order: Option<Order>,
    /// How many vectors a batch lacks, 1 or more; an answer with no more than these is empty.
    pub missing: Option<u64>,
    /// With `order` or `missing`, what becomes of the vectors' numbers (`index`): `moves` (each keeps its
    /// own) or `stays` (they count the vectors that are there, so that nobody can tell). Default moves.
    pub index: Option<Index>,
    /// On how many of the requests that the fault chose this effect acts. With `sticky`, always on those
    /// of the same users. Default 100%.
    pub percent: Option<Percent>,
}

/// What becomes of vectors.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Vectors {
    /// One and the same vector for every text.
    Constant,
    /// As exact as numbers of 16 bits are.
    Float16,
    /// Every number is NaN: the bare word in JSON, which strict readers refuse, or its bits in base64.
    Nan,
    /// So far from what they were: see `cosine`.
    Noise,
    /// In another model's space: near to each other as before, and far from all that was stored.
    OtherModel,
    /// Another text's, which was embedded before.
    Stale,
    /// Longer or shorter than 1: see `factor`.
    Unnormalised,
    /// With more or fewer numbers: see `dimensions`.
    WrongDimension,
    /// Every number is 0.
    Zeros,
}

/// The order of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// The last comes first.
    Reversed,
    /// Any but the right one.
    Shuffled,
}

/// What becomes of the number of a vector.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Index {
    /// It goes with its vector.
    #[default]
    Moves,
    /// It says at which place of the answer a vector is.
    Stays,
}

impl Spec for Embedding {
    const NAME: &'static str = "embedding";
    const SUMMARY: &'static str =
        "vectors that are zero, NaN, noisy, of another length or model, or in the wrong order";
    const EXAMPLE: &'static str = "{ vectors: noise, cosine: 0.8 }";

    fn build(&self) -> Result<Box<dyn Fault>, Invalid> {
        if self.vectors.is_none() && self.order.is_none() && self.missing.is_none() {
            return Err(Invalid::new(
                "",
                "what becomes of the vectors? write `vectors: zeros`, `order: shuffled` or `missing: 1`",
            ));
        }
        let of = |kind| self.vectors == Some(kind);
        let strays = [
            ("dimensions", self.dimensions.is_some(), of(Vectors::WrongDimension), "wrong_dimension"),
            ("cosine", self.cosine.is_some(), of(Vectors::Noise), "noise"),
            ("factor", self.factor.is_some(), of(Vectors::Unnormalised), "unnormalised"),
        ];
        if let Some((field, _, _, kind)) = strays.into_iter().find(|(_, set, fits, _)| *set && !fits) {
            return Err(Invalid::new(field, format!("`{field}` goes with `vectors: {kind}` alone")));
        }
        if self.count.is_some() && self.vectors.is_none() {
            return Err(Invalid::new("count", "`count` goes with `vectors` alone"));
        }
        if self.index.is_some() && self.order.is_none() && self.missing.is_none() {
            return Err(Invalid::new("index", "`index` goes with `order` or `missing`"));
        }
        for (field, value) in [("count", self.count), ("missing", self.missing)] {
            if value == Some(0) {
                return Err(Invalid::new(field, "none at all; write 1 or more"));
            }
        }
        if self.percent.is_some_and(|percent| percent.share() == 0.0) {
            return Err(Invalid::new("percent", "0% of the requests are none; write for example 5%"));
        }
        let number = |value: Option<u64>| value.map(|value| usize::try_from(value).unwrap_or(usize::MAX));
        Ok(Box::new(Loaded {
            plan: Arc::new(Plan {
                change: self.checked_change()?,
                count: number(self.count),
                order: self.order,
                missing: number(self.missing).unwrap_or_default(),
                index: self.index.unwrap_or_default(),
                share: self.percent.map_or(1.0, Percent::share),
            }),
            stale: Arc::default(),
        }))
    }
}

impl Embedding {
    fn checked_change(&self) -> Result<Option<Change>, Invalid> {
        let Some(kind) = self.vectors else { return Ok(None) };
        Ok(Some(match kind {
            Vectors::Constant => Change::Constant,
            Vectors::Float16 => Change::Float16,
            Vectors::Nan => Change::Nan,
            Vectors::OtherModel => Change::OtherModel,
            Vectors::Stale => Change::Stale,
            Vectors::Zeros => Change::Zeros,
            Vectors::Noise => match self.cosine.unwrap_or(0.8) {
                cosine if (-1.0..1.0).contains(&cosine) => Change::Noise(cosine),
                _ => return Err(Invalid::new("cosine", "write a number from -1 to below 1, such as 0.8")),
            },
            Vectors::Unnormalised => match self.factor.unwrap_or(10.0) {
                factor if factor.is_finite() && factor > 0.0 && factor != 1.0 => Change::Scaled(factor),
                _ => return Err(Invalid::new("factor", "write a number above 0 that is not 1, such as 10")),
            },
            Vectors::WrongDimension => Change::Dimensions(match self.dimensions {
                None => None,
                Some(wanted @ 1..=LONGEST) => Some(wanted as usize),
                Some(_) => return Err(Invalid::new("dimensions", "write a number from 1 to 65536")),
            }),
        }))
    }
}

/// What is done, checked.
#[derive(Debug)]
struct Plan {
    change: Option<Change>,
    count: Option<usize>,
    order: Option<Order>,
    missing: usize,
    index: Index,
    share: f64,
}

#[derive(Debug)]
struct Loaded {
    plan: Arc<Plan>,
    stale: Arc<Mutex<Stale>>,
}

impl Fault for Loaded {
    fn arm(&self, arming: &mut Arming<'_>) -> Result<Box<dyn Effect>, Impossible> {
        arming.before_answer()?;
        if arming.exchange.level == Level::Connection {
            return Err(NO_REQUESTS);
        }
        if arming.exchange.facts.operation != Operation::Embed {
            return Err(Impossible("the request asks for no vectors"));
        }
        Ok(Box::new(Acting {
            chosen: arming.draw.chooses(self.plan.share),
            plan: Arc::clone(&self.plan),
            stale: Arc::clone(&self.stale),
            dialect: arming.dialect,
            dice: arming.draw.fork("vectors"),
            settled: false,
        }))
    }

    fn reset(&self) {
        *self.stale.lock() = Stale::default();
    }
}

struct Acting {
    plan: Arc<Plan>,
    stale: Arc<Mutex<Stale>>,
    dialect: &'static dyn Dialect,
    chosen: bool,
    dice: Dice,
    /// Something has changed, or it was said why not.
    settled: bool,
}

impl Acting {
    fn impossible(&mut self, reason: &'static str, out: &mut Orders) {
        self.settled = true;
        out.impossible(reason);
    }

    /// The answer as it is to be; None where it stays.
    fn changed(&mut self, body: &Bytes, out: &mut Orders) -> Option<Bytes> {
        let mut now = body.clone();
        let mut changed = self.change_vectors(&mut now, out);
        if self.chosen && (self.plan.order.is_some() || self.plan.missing > 0) {
            changed |= self.arrange(&mut now, out);
        }
        changed.then_some(now)
    }

    /// Changes what the vectors hold; whether any has changed.
    fn change_vectors(&mut self, body: &mut Bytes, out: &mut Orders) -> bool {
        let plan = Arc::clone(&self.plan);
        let Some(change) = plan.change else { return false };
        let outline = self.dialect.outline(Operation::Embed, body);
        let spots: Vec<_> = outline.each(Slot::Vector).collect();
        if spots.is_empty() {
            self.impossible("the answer has no vectors", out);
            return false;
        }
        let mut chosen = vec![self.chosen; spots.len()];
        if let Some(count) = plan.count.filter(|count| *count < spots.len()) {
            let order = self.dice.fork("count").shuffled(spots.len());
            order[count..].iter().for_each(|place| chosen[*place] = false);
        }
        let mut edits = Edits::default();
        let mut changed = 0;
        let mut why = None;
        for (spot, chosen) in spots.into_iter().zip(chosen) {
            let Some(vector) = numbers::Vector::read(spot.of(body)) else {
                why = why.or(Some("a vector is no list of numbers and no base64 of 32-bit floats"));
                continue;
            };
            let found = vectors::changed(&vector.numbers, change, &self.dice, chosen, &self.stale);
            match found {
                Ok(new) if chosen => {
                    edits.replace(spot.span.clone(), vector.written(&new));
                    changed += 1;
                }
                Ok(_) => {}
                Err(reason) => why = why.or(Some(reason)),
            }
        }
        if changed > 0 {
            out.note("vectors", f64::from(changed));
            *body = edits.apply(body);
        } else if let Some(reason) = why.filter(|_| self.chosen) {
            self.impossible(reason, out);
        }
        changed > 0
    }

    /// Puts the batch into another order, or takes vectors away; whether that changed anything.
    fn arrange(&mut self, body: &mut Bytes, out: &mut Orders) -> bool {
        let lists = self.dialect.listings(Operation::Embed, body);
        if lists.is_empty() {
            self.impossible("the answer is no batch of vectors", out);
            return false;
        }
        let wanted: Vec<Arrangement> = (0_u64..)
            .zip(&lists)
            .map(|(number, list)| {
                let order = self.ordered(list.rows, &self.dice.fork("order").fork_number(number));
                Arrangement { order, scores: None }
            })
            .collect();
        if wanted.iter().zip(&lists).all(|(wanted, list)| *wanted == Arrangement::same(list.rows)) {
            self.settled = true;
            out.let_go("the batch had too few vectors for another order");
            return false;
        }
        let Some(mut new) = self.dialect.arranged(Operation::Embed, body, &wanted) else {
            self.impossible("the answer is no batch of vectors", out);
            return false;
        };
        if self.plan.index == Index::Stays {
            new = numbered(self.dialect, &new);
        }
        let left: usize = wanted.iter().map(|wanted| wanted.order.len()).sum();
        out.note("vectors_left", left as f64);
        *body = new;
        true
    }

    fn ordered(&self, rows: usize, dice: &Dice) -> Vec<usize> {
        let mut order = match self.plan.order {
            Some(Order::Reversed) => (0..rows).rev().collect(),
            Some(Order::Shuffled) => dice.fork("shuffled").shuffled(rows),
            None => (0..rows).collect(),
        };
        let mut gone = vec![false; rows];
        let missing = dice.fork("missing").shuffled(rows).into_iter().take(self.plan.missing);
        missing.for_each(|row| gone[row] = true);
        order.retain(|row| !gone[*row]);
        order
    }
}

/// The batch with its vectors numbered as they stand.
fn numbered(dialect: &dyn Dialect, body: &Bytes) -> Bytes {
    let outline = dialect.outline(Operation::Embed, body);
    let mut edits = Edits::default();
    for spot in outline.each(Slot::Index) {
        if let Some(place) = spot.at.last() {
            edits.replace(spot.span.clone(), place.to_string());
        }
    }
    edits.apply(body)
}

impl Effect for Acting {
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
        if let Some(reason) = unreadable(head) {
            self.impossible(reason, out);
        }
    }

    fn on_item(&mut self, _: Duration, item: Item, out: &mut Orders) {
        match item {
            Item::Message(body) => {
                let new = self.changed(&body, out);
                if new.is_some() {
                    self.settled = true;
                    out.hit();
                }
                out.send(Item::Message(new.unwrap_or(body)));
            }
            Item::Event(event) if event.framing != Framing::Grpc => {
                let payload = self.dialect.payload(&event);
                match self.changed(&payload, out) {
                    Some(new) => {
                        self.settled = true;
                        out.hit();
                        out.send(Item::Event(self.dialect.with_payload(&event, &new)));
                    }
                    None => out.send(Item::Event(event)),
                }
            }
            other => {
                if !self.settled {
                    self.impossible("the answer is too long, compressed, or no JSON", out);
                }
                out.send(other);
            }
        }
    }

    fn on_end(&mut self, _: Duration, out: &mut Orders) {
        if self.settled {
        } else if self.chosen {
            out.impossible("the answer has no vectors");
        } else {
            out.let_go("not drawn by the effect's own percent");
        }
    }
}
