//! One exchange's decision: the effects at work on it, and the books that close when it ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::tally::{Entry, Missed};
use super::{Inner, Loaded};
use crate::exchange::ExchangeKey;
use crate::fault::{Chain, Fired};
use crate::measure::{DecisionLine, Observation};

/// Why a chosen exchange shows no trace of its fault, when nothing else says so.
pub(super) const TOO_SHORT: &str = "the answer ended before the fault acted";

/// What was decided for one exchange. Dropping it closes the books: tallies and journal lines.
#[derive(Debug, Default)]
pub struct Decision {
    pub chain: Chain,
    /// None when no fault was considered.
    pub(super) open: Option<Box<Open>>,
}

/// The books of an exchange under way.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) engine: Arc<Inner>,
    pub(super) dependency: Arc<str>,
    /// The dependency's place in the engine.
    pub(super) place: usize,
    pub(super) key: ExchangeKey,
    pub(super) ordinal: u32,
    /// The dialect that it was read by.
    pub(super) kind: &'static str,
    pub(super) at: Duration,
    pub(super) considered: Vec<Considered>,
    /// The key of each effect in the chain.
    pub(super) effects: Vec<&'static str>,
    /// It was counted as touched against `max_affected`.
    pub(super) touched: bool,
}

/// One fault that was armed for the exchange's dependency.
#[derive(Debug)]
pub(super) struct Considered {
    pub(super) rule: Arc<Loaded>,
    pub(super) mismatch: Option<&'static str>,
    pub(super) wanted: f64,
    /// What was drawn for its percent (0 to 100).
    pub(super) roll: Option<f64>,
    pub(super) selected: bool,
    /// Why it was let go although it matched.
    pub(super) let_go: Option<&'static str>,
    /// Effects that could not be armed, and why.
    pub(super) unarmed: Vec<(&'static str, &'static str)>,
    /// Effect, name and value of each draw at arming.
    pub(super) drawn: Vec<(&'static str, &'static str, f64)>,
}

impl Decision {
    /// Closes the books now.
    pub fn close(self) {
        drop(self);
    }

    /// The faults that have acted so far.
    pub fn acted(&self) -> Vec<Arc<str>> {
        let Some(open) = &self.open else { return Vec::new() };
        let considered = open.considered.iter().enumerate();
        let hit = |index| self.chain.fired().any(|fired| fired.fault == index && fired.hit);
        considered
            .filter(|(index, _)| hit(*index))
            .map(|(_, considered)| Arc::clone(&considered.rule.rule.name))
            .collect()
    }
}

impl Drop for Decision {
    fn drop(&mut self) {
        if let Some(open) = self.open.take() {
            open.close(&self.chain);
        }
    }
}

impl Open {
    fn close(&self, chain: &Chain) {
        let mut acted = false;
        for (index, considered) in self.considered.iter().enumerate() {
            let fired: Vec<(&'static str, &Fired)> = self
                .effects
                .iter()
                .copied()
                .zip(chain.fired())
                .filter(|(_, fired)| fired.fault == index)
                .collect();
            let entry = considered.entry(&fired);
            acted |= entry.hit;
            considered.rule.tally.lock().add(&entry);
            let line = self.line(considered, &entry, &fired);
            self.engine.journal.record(Observation::Decision(Box::new(line)));
        }
        if self.touched
            && !acted
            && let Some(window) = self.engine.window(self.place)
        {
            window.lock().give_back(self.at);
        }
    }

    fn line(
        &self,
        considered: &Considered,
        entry: &Entry,
        fired: &[(&'static str, &Fired)],
    ) -> DecisionLine {
        let partly = |able: bool| {
            entry.partly.iter().find(|missed| missed.able == able).map(Missed::to_string)
        };
        DecisionLine {
            key: self.key.to_string(),
            ordinal: self.ordinal,
            dependency: Arc::clone(&self.dependency),
            kind: self.kind.into(),
            fault: Arc::clone(&considered.rule.rule.name),
            matched: entry.mismatch.is_none(),
            selected: entry.selected,
            hit: entry.hit,
            impossible: entry.impossible.map(str::to_owned).or_else(|| partly(false)),
            let_go: entry.let_go.map(str::to_owned).or_else(|| partly(true)),
            drawn: considered.drawn(fired),
            at_s: self.at.as_secs_f64(),
        }
    }
}

impl Considered {
    /// What the books say of it, now that the exchange is over.
    fn entry(&self, fired: &[(&'static str, &Fired)]) -> Entry {
        let hit = fired.iter().any(|(_, fired)| fired.hit);
        let missed = self.missed(fired);
        let why = |able: bool| missed.iter().find(|it| it.able == able).map(|it| it.reason);
        let (impossible, let_go) = match (self.let_go, why(false), why(true)) {
            _ if hit => (None, None),
            (Some(kept), ..) => (None, Some(kept)),
            _ if !self.selected => (None, None),
            (None, Some(unable), _) => (Some(unable), None),
            (None, None, Some(idle)) => (None, Some(idle)),
            (None, None, None) => (Some(TOO_SHORT), None),
        };
        Entry {
            mismatch: self.mismatch,
            wanted: self.wanted,
            selected: self.selected,
            hit,
            impossible,
            let_go,
            partly: if hit { missed } else { Vec::new() },
        }
    }

    /// The effects that did not act, and why.
    fn missed(&self, fired: &[(&'static str, &Fired)]) -> Vec<Missed> {
        let unarmed =
            self.unarmed.iter().map(|(effect, reason)| Missed { effect, reason, able: false });
        let idle = fired.iter().filter(|(_, fired)| !fired.hit).filter_map(|(effect, fired)| {
            let reason = fired.impossible.or(fired.let_go)?;
            Some(Missed { effect, reason, able: fired.impossible.is_none() })
        });
        unarmed.chain(idle).collect()
    }

    /// Everything that was drawn, noted and reached; a name that two effects use is told apart by
    /// the effect.
    fn drawn(&self, fired: &[(&'static str, &Fired)]) -> BTreeMap<String, f64> {
        let mut drawn = BTreeMap::new();
        if let Some(roll) = self.roll {
            drawn.insert("percent".to_owned(), roll);
        }
        let several = self.rule.rule.effects.len() > 1;
        let at_arming = self.drawn.iter().copied();
        let on_the_way = fired.iter().flat_map(|(effect, fired)| {
            fired.notes.iter().map(|(name, value)| (*effect, *name, *value))
        });
        for (effect, name, value) in at_arming.chain(on_the_way) {
            let taken = name == "percent" || (several && drawn.contains_key(name));
            let name = if taken { format!("{effect}.{name}") } else { name.to_owned() };
            drawn.insert(name, value);
        }
        drawn
    }
}
