//! Hits that come one by one, as the rows of a SELECT do: they are gathered up to their end, as far as
//! a search has hits, and sent on in another order.

use crate::dialect::{Dialect, Listing, Row};
use crate::exchange::Item;

/// So many rows, or bytes of them, are no hits of a search any more.
const ROWS: usize = 1000;
const BYTES: usize = 4 << 20;

/// The rows so far.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    held: Vec<Item>,
    bytes: usize,
    /// There were too many: they pass.
    given_up: bool,
}

/// What is to be done with a piece.
#[derive(Debug)]
pub(super) enum Step {
    /// It is held.
    Held,
    /// It passes, behind what was held.
    Pass(Vec<Item>, Item),
    /// These rows are all; behind them comes this piece.
    Whole(Vec<Item>, Item),
    /// There are too many; these pass.
    TooMany(Vec<Item>),
}

impl Gathered {
    pub(super) fn step(&mut self, dialect: &dyn Dialect, item: Item) -> Step {
        let row = match &item {
            Item::Event(event) => dialect.row(event),
            _ => None,
        };
        match row {
            Some(Row::Hit) if !self.given_up => {
                self.bytes += item.raw().len();
                self.held.push(item);
                if self.held.len() <= ROWS && self.bytes <= BYTES {
                    return Step::Held;
                }
                self.given_up = true;
                Step::TooMany(std::mem::take(&mut self.held))
            }
            Some(Row::End) if !self.given_up => Step::Whole(self.take(), item),
            _ => Step::Pass(self.take(), item),
        }
    }

    /// What is held, which passes.
    pub(super) fn take(&mut self) -> Vec<Item> {
        self.bytes = 0;
        std::mem::take(&mut self.held)
    }
}

/// The list that rows are.
pub(super) fn listing(rows: usize) -> Listing {
    Listing { rows, scores: vec![None; rows], ids: vec![None; rows] }
}
