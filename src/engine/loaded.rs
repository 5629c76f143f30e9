//! A rule at work: its dice, its books, and how it judges an exchange.

use std::sync::Arc;
use std::time::Duration;

use super::decision::Considered;
use super::replay::Recorded;
use super::selector::{Aspect, Reading};
use super::snapshot::Armed;
use super::steer::Steer;
use super::tally::Books;
use super::when::{Moment, Turn, Turns};
use super::{Rule, Sticky};
use crate::dice::{Dice, hash_bytes};
use crate::exchange::Exchange;
use crate::fault::Draw;

/// The label of the stream that the choice is drawn from.
const PERCENT: u64 = hash_bytes(b"percent");

/// A rule with its own stream of dice and its books.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) rule: Arc<Rule>,
    pub(super) dice: Dice,
    /// The rules that follow each other under a name share it.
    pub(super) books: Arc<Books>,
    /// The dice that it shares with other faults.
    pub(super) cause: Option<Dice>,
    /// It has no `when`.
    pub(super) always: bool,
    /// What its `when` remembers.
    pub(super) turns: Turns,
}

/// What all faults are told of an exchange beside what it is.
#[derive(Debug)]
pub(super) struct View<'a> {
    /// What it asks of faults by its headers, where it may.
    pub(super) steer: Option<Steer<'a>>,
    /// What an earlier run decided, where one is replayed.
    pub(super) recorded: Option<Recorded<'a>>,
    /// When the first fault was armed.
    pub(super) origin: Duration,
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

    /// The draws of one of its effects on an exchange that it has chosen; `dice` are its own there.
    /// What the effect chooses sticks to what the fault's choice sticks to.
    pub(super) fn draw(
        &self,
        shared: Duration,
        exchange: &Exchange,
        dice: &Dice,
        effect: &str,
    ) -> Draw {
        let own = dice.fork(effect);
        let sticks = self.rule.sticky.is_some() || self.rule.cause.is_some();
        match sticks.then(|| self.choice_dice(shared, exchange)) {
            Some(Ok(choice)) => Draw::sticking(own, choice.fork(effect)),
            _ => Draw::new(own),
        }
    }

    /// The stream that the choice is drawn from; an error says which identity is missing.
    fn choice_dice(&self, shared: Duration, exchange: &Exchange) -> Result<Dice, &'static str> {
        if let (Some(cause), Some(dice)) = (&self.rule.cause, &self.cause) {
            return cause.choice(dice, shared, exchange);
        }
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
    /// Why a fault is not for an exchange.
    #[inline]
    pub(super) fn mismatch(&self, read: &Reading<'_>, view: &View<'_>) -> Option<Aspect> {
        let rule = &self.rule.rule;
        if let Some(steer) = &view.steer
            && let Some(key) = steer.bars(rule)
        {
            return Some(key);
        }
        match &view.recorded {
            // The earlier run's `where` counts.
            Some(recorded) if recorded.chose(&rule.name) => None,
            _ => rule.selector.mismatch(read),
        }
    }

    /// Judges an exchange that matches: is it the fault's turn, and is it chosen? `index` is this
    /// one's in the snapshot.
    pub(super) fn consider(
        &self,
        index: usize,
        at: Duration,
        exchange: &Exchange,
        view: &View<'_>,
    ) -> Considered {
        let mut considered = Considered { index, ..Considered::default() };
        if let Some(recorded) = &view.recorded {
            considered.seed = recorded.seed(&self.rule.rule.name);
            considered.selected = considered.seed.is_some();
            considered.wanted = if considered.selected { 100.0 } else { 0.0 };
            return considered;
        }
        let shared = at.saturating_sub(view.origin);
        let share = match self.turn(at, shared, exchange) {
            Turn::In(share) => share,
            Turn::Out(part) => {
                considered.out_of_turn = Some(part);
                return considered;
            }
            Turn::Unknown(missing) => {
                considered.let_go = Some(missing);
                return considered;
            }
        };
        considered.wanted = self.percent_at(at) * share;
        match self.rule.choice_dice(shared, exchange) {
            Ok(dice) => {
                let roll = dice.fork_number(PERCENT).unit() * 100.0;
                considered.roll = Some(roll);
                considered.selected = roll < considered.wanted;
            }
            Err(missing) => considered.let_go = Some(missing),
        }
        considered
    }

    fn turn(&self, at: Duration, shared: Duration, exchange: &Exchange) -> Turn {
        let Loaded { rule, dice, cause, always, turns, .. } = &*self.rule;
        if *always {
            return Turn::In(1.0);
        }
        let since = self.since(at);
        let moment = match cause {
            Some(dice) => Moment { at, since, shared, dice },
            None => Moment { at, since, shared: since, dice },
        };
        rule.when.turn(turns, &moment, exchange)
    }
}
