//! A rule at work: its dice, its books, and how it judges an exchange.

use std::sync::Arc;
use std::time::Duration;

use super::decision::Considered;
use super::snapshot::Armed;
use super::tally::Books;
use super::{Rule, Sticky};
use crate::dice::{Dice, hash_bytes};
use crate::exchange::Exchange;

/// The label of the stream that the choice is drawn from.
const PERCENT: u64 = hash_bytes(b"percent");

/// A rule with its own stream of dice and its books.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) rule: Arc<Rule>,
    pub(super) dice: Dice,
    /// The rules that follow each other under a name share it.
    pub(super) books: Arc<Books>,
}

/// Where a fault stands among the rules.
pub(super) fn place_of(rules: &[Arc<Loaded>], fault: &str) -> Option<usize> {
    rules.iter().position(|loaded| *loaded.rule.name == *fault)
}

impl Loaded {
    /// The stream of this fault on this exchange.
    #[inline]
    pub(super) fn exchange_dice(&self, exchange: &Exchange) -> Dice {
        self.dice.fork_number(exchange.key.0).fork_number(u64::from(exchange.ordinal))
    }

    /// The stream that the choice is drawn from; an error says which identity is missing.
    fn choice_dice(&self, exchange: &Exchange) -> Result<Dice, &'static str> {
        let Some(sticky) = self.rule.sticky else { return Ok(self.exchange_dice(exchange)) };
        let dice = self.dice.fork("sticky");
        let of = |name: &Option<String>| name.as_ref().map(|name| dice.fork(name));
        match sticky {
            Sticky::ApiKey => exchange
                .api_key
                .map(|key| dice.fork_number(key))
                .ok_or("no API key on the request (sticky: api_key)"),
            Sticky::Session => {
                of(&exchange.session).ok_or("no session on the request (see identify.session)")
            }
            Sticky::User => of(&exchange.user).ok_or("no user on the request (see identify.user)"),
        }
    }
}

impl Armed {
    /// Judges an exchange that matches: is it chosen? `index` is this one's in the snapshot.
    pub(super) fn consider(&self, index: usize, at: Duration, exchange: &Exchange) -> Considered {
        let mut considered =
            Considered { index, wanted: self.percent_at(at), ..Considered::default() };
        match self.rule.choice_dice(exchange) {
            Ok(dice) => {
                let roll = dice.fork_number(PERCENT).unit() * 100.0;
                considered.roll = Some(roll);
                considered.selected = roll < considered.wanted;
            }
            Err(missing) => considered.let_go = Some(missing),
        }
        considered
    }
}
