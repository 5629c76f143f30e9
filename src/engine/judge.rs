//! Decides for one exchange: asks each armed fault, and arms the effects of those that chose it.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::Guard;

use super::decision::{Considered, Decision, Open};
use super::loaded::View;
use super::selector::Reading;
use super::shadow::Shadows;
use super::snapshot::Judged;
use super::steer::Steer;
use super::tally::Entry;
use super::{Engine, replay, snapshot};
use crate::dialect::Dialect;
use crate::exchange::Exchange;
use crate::fault::{self, Fault, Impossible};

/// Why an exchange was let go although a fault had chosen it.
pub(super) const LIMITED: &str = "max_affected reached";

impl Engine {
    /// Decides for one exchange.
    pub fn decide(
        &self,
        at: Duration,
        exchange: &Exchange,
        dialect: &'static dyn Dialect,
    ) -> Decision {
        self.decide_on(at, exchange, dialect, false)
    }

    /// Decides anew for a connection that has been there, since something else is armed now.
    pub fn decide_anew(
        &self,
        at: Duration,
        exchange: &Exchange,
        dialect: &'static dyn Dialect,
    ) -> Decision {
        self.decide_on(at, exchange, dialect, true)
    }

    fn decide_on(
        &self,
        at: Duration,
        exchange: &Exchange,
        dialect: &'static dyn Dialect,
        live: bool,
    ) -> Decision {
        let place = self.gate(&exchange.dependency).0;
        let snapshot = self.0.snapshot.load();
        if snapshot.is_idle(place) {
            return Decision::default();
        }
        let read = Reading::new(exchange);
        let view = View {
            steer: self.0.steers().then(|| Steer::of(&exchange.headers)),
            recorded: self.0.replay.get().map(|(_, replay)| replay.of(exchange)),
            origin: self.0.origin(),
        };
        let Judged { unmatched, mut considered } =
            snapshot.judge(place, at, &read, &view, (live, dialect));
        if considered.is_empty() && unmatched.is_empty() {
            return Decision::default();
        }
        let acts = |one: &Considered| one.selected && !snapshot.at(one.index).rule.rule.shadow;
        let chosen = considered.iter().any(acts);
        let touched = self.0.admit(place, at, chosen);
        let mut decision = Decision::default();
        let mut effects = Vec::new();
        let mut shadows = Shadows::default();
        for (index, one) in considered.iter_mut().enumerate().filter(|(_, one)| one.selected) {
            let rule = &snapshot.at(one.index).rule;
            if !touched && !rule.rule.shadow {
                one.let_go = Some(LIMITED);
                continue;
            }
            let dice = match one.seed {
                Some(seed) => replay::dice(seed, &rule.rule.name, exchange),
                None => rule.exchange_dice(exchange),
            };
            let acting = |(_, fault): &&(_, Box<dyn Fault>)| {
                snapshot::acts_within(fault.as_ref(), exchange.level, live, dialect)
            };
            for (key, fault) in rule.rule.effects.iter().filter(acting) {
                let mut draw = rule.draw(at.saturating_sub(view.origin), exchange, &dice, key);
                let epoch = self.0.epoch.get().copied().unwrap_or_default();
                let mut arming = fault::Arming { at, epoch, exchange, dialect, draw: &mut draw };
                match fault.arm(&mut arming) {
                    Ok(effect) if rule.rule.shadow => {
                        let outcome = shadows.ask(at, exchange, effect);
                        one.shadow = Some(one.shadow.map_or(outcome, |other| other.or(outcome)));
                    }
                    Ok(effect) => {
                        decision.chain.push(index, effect);
                        effects.push(*key);
                    }
                    Err(Impossible(reason)) => one.unarmed.push((key, reason)),
                }
                let drawn = draw.into_drawn().into_iter();
                one.drawn.extend(drawn.map(|(name, value)| (*key, name, value)));
            }
        }
        decision.open = Some(Box::new(Open {
            engine: Arc::clone(&self.0),
            snapshot: Guard::into_inner(snapshot),
            dependency: Arc::clone(&exchange.dependency),
            place,
            key: exchange.key,
            ordinal: exchange.ordinal,
            kind: dialect.name(),
            at,
            unmatched,
            considered,
            effects,
            held: None,
            touched: chosen && touched,
            _shadows: shadows,
        }));
        decision
    }

    /// Counts a connection that was refused as a whole (it never becomes an exchange). Connections
    /// have no key, so they are tallied but not journalled.
    pub fn count_refused(&self, dependency: &str) {
        let snapshot = self.0.snapshot.load();
        let entry = Entry { wanted: 100.0, selected: true, hit: true, ..Entry::default() };
        for armed in snapshot.armed_for(self.gate(dependency).0).filter(|armed| armed.refuses()) {
            armed.rule.books.add(&entry);
        }
    }
}
