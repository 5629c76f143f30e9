//! One exchange's decision: the effects at work on it, and the books that close when it ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::selector::Aspect;
use super::shadow::{Outcome, Shadows};
use super::snapshot::Snapshot;
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
    /// What was armed when it was decided.
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) dependency: Arc<str>,
    /// The dependency's place in the engine.
    pub(super) place: usize,
    pub(super) key: ExchangeKey,
    pub(super) ordinal: u32,
    /// The dialect that it was read by.
    pub(super) kind: &'static str,
    pub(super) at: Duration,
    /// Faults that were armed and are not for this exchange, by their index among what was armed.
    pub(super) unmatched: Vec<(usize, Aspect)>,
    /// All others that were armed.
    pub(super) considered: Vec<Considered>,
    /// The key of each effect in the chain.
    pub(super) effects: Vec<&'static str>,
    /// How long it was really held back, where that is told.
    pub(super) held: Option<Duration>,
    /// It was counted as touched against `max_affected`.
    pub(super) touched: bool,
    /// Kept as long as the exchange lasts.
    pub(super) _shadows: Shadows,
}

/// One fault that was armed for the exchange's dependency, and matches.
#[derive(Debug, Default)]
pub(super) struct Considered {
    /// Its index among what was armed.
    pub(super) index: usize,
    pub(super) wanted: f64,
    /// What was drawn for its percent (0 to 100).
    pub(super) roll: Option<f64>,
    pub(super) selected: bool,
    /// The part of `when` that did not hold.
    pub(super) out_of_turn: Option<&'static str>,
    /// Why it was let go although it matched.
    pub(super) let_go: Option<&'static str>,
    /// The seed of the run that is replayed here.
    pub(super) seed: Option<u64>,
    /// What would have become of a fault in the shadow.
    pub(super) shadow: Option<Outcome>,
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

    /// How long the exchange has really been held back by what was decided.
    pub fn held(&mut self, time: Duration) {
        if let Some(open) = &mut self.open {
            open.held = Some(open.held.unwrap_or_default() + time);
        }
    }

    /// The faults that have acted so far.
    pub fn acted(&self) -> Vec<Arc<str>> {
        let Some(open) = &self.open else { return Vec::new() };
        // In the order of the faults.
        let mut hit: Vec<usize> =
            self.chain.fired().filter(|fired| fired.hit).map(|fired| fired.fault).collect();
        hit.dedup();
        let name = |at: usize| Arc::clone(&open.loaded(open.considered[at].index).rule.name);
        hit.into_iter().map(name).collect()
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
    fn loaded(&self, index: usize) -> &Loaded {
        &self.snapshot.at(index).rule
    }

    fn close(&self, chain: &Chain) {
        let mut acted = false;
        let is_heard = self.engine.journal.is_heard();
        let wished: Duration = chain.fired().map(|fired| fired.wait).sum();
        let mut unmatched = self.unmatched.iter().peekable();
        let mut effects = self.effects.iter().copied().zip(chain.fired()).peekable();
        for (at, considered) in self.considered.iter().enumerate() {
            while let Some((index, key)) = unmatched.next_if(|(index, _)| *index < considered.index)
            {
                self.pass_by(*index, *key, is_heard);
            }
            let mut fired: Vec<(&'static str, &Fired)> = Vec::new();
            while let Some(effect) = effects.next_if(|(_, fired)| fired.fault == at) {
                fired.push(effect);
            }
            let loaded = self.loaded(considered.index);
            let mut entry = considered.entry(&fired, loaded.rule.shadow);
            entry.held = self.held.and_then(|held| share_of(held, entry.wait, wished));
            acted |= entry.hit;
            loaded.books.add(&entry);
            if entry.hit || entry.would_hit {
                self.engine.hit(loaded, self.at);
            }
            if is_heard {
                let drawn = considered.drawn(&fired, loaded.rule.effects.len() > 1);
                self.record(considered.index, considered.seed, Some(&entry), drawn);
            }
        }
        for (index, key) in unmatched {
            self.pass_by(*index, *key, is_heard);
        }
        if self.touched
            && !acted
            && let Some(window) = self.engine.window(self.place)
        {
            window.lock().give_back(self.at);
        }
    }

    #[inline]
    fn pass_by(&self, index: usize, key: Aspect, is_heard: bool) {
        self.loaded(index).books.pass_by(key);
        if is_heard {
            self.record(index, None, None, BTreeMap::new());
        }
    }

    /// Writes a line of the journal; without an entry the fault is not for the exchange.
    fn record(
        &self,
        index: usize,
        seed: Option<u64>,
        entry: Option<&Entry>,
        drawn: BTreeMap<String, f64>,
    ) {
        let matched = entry.is_some();
        let nothing = Entry::default();
        let entry = entry.unwrap_or(&nothing);
        let partly = |able: bool| {
            entry.partly.iter().find(|missed| missed.able == able).map(Missed::to_string)
        };
        let line = DecisionLine {
            key: self.key.to_string(),
            ordinal: self.ordinal,
            dependency: Arc::clone(&self.dependency),
            kind: self.kind.into(),
            fault: Arc::clone(&self.loaded(index).rule.name),
            matched,
            selected: entry.selected,
            hit: entry.hit,
            would_hit: entry.would_hit.then_some(true),
            out_of_turn: entry.out_of_turn.map(str::to_owned),
            impossible: entry.impossible.map(str::to_owned).or_else(|| partly(false)),
            let_go: entry.let_go.map(str::to_owned).or_else(|| partly(true)),
            drawn,
            at_s: self.at.as_secs_f64(),
            seed: Some(seed.unwrap_or(self.engine.seed)),
        };
        self.engine.journal.record(Observation::Decision(Box::new(line)));
    }
}

/// A fault's part of the time that all of them held an exchange, in proportion to what it wished.
fn share_of(held: Duration, wished: Duration, of: Duration) -> Option<Duration> {
    if wished.is_zero() {
        return None;
    }
    if wished == of {
        return Some(held);
    }
    Some(held.mul_f64((wished.as_secs_f64() / of.as_secs_f64()).clamp(0.0, 1.0)))
}

impl Considered {
    /// What the books say of it, now that the exchange is over.
    fn entry(&self, fired: &[(&'static str, &Fired)], shadow: bool) -> Entry {
        let Self { wanted, out_of_turn, let_go, .. } = *self;
        if !self.selected {
            return Entry { wanted, out_of_turn, let_go, ..Entry::default() };
        }
        if shadow {
            let unarmed = self.unarmed.first().map(|(_, reason)| *reason);
            let (would_hit, impossible, let_go) = match self.shadow {
                Some(Outcome::Hit) => (true, None, None),
                Some(Outcome::Impossible(reason)) => (false, Some(reason), None),
                Some(Outcome::LetGo(reason)) => (false, None, Some(reason)),
                None => (false, unarmed.or(Some(TOO_SHORT)), None),
            };
            let selected = true;
            return Entry { wanted, selected, would_hit, impossible, let_go, ..Entry::default() };
        }
        let hit = fired.iter().any(|(_, fired)| fired.hit);
        let missed = self.missed(fired);
        let why = |able: bool| missed.iter().find(|it| it.able == able).map(|it| it.reason);
        let (impossible, let_go) = match (self.let_go, why(false), why(true)) {
            _ if hit => (None, None),
            (Some(kept), ..) => (None, Some(kept)),
            (None, Some(unable), _) => (Some(unable), None),
            (None, None, Some(idle)) => (None, Some(idle)),
            (None, None, None) => (Some(TOO_SHORT), None),
        };
        let sum = |of: fn(&Fired) -> u64| fired.iter().map(|(_, fired)| of(fired)).sum();
        Entry {
            wanted: self.wanted,
            selected: true,
            hit,
            impossible,
            let_go,
            partly: if hit { missed } else { Vec::new() },
            bytes: sum(|fired| fired.changed.bytes),
            events: sum(|fired| fired.changed.events),
            wait: fired.iter().map(|(_, fired)| fired.wait).sum(),
            ..Entry::default()
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
    fn drawn(&self, fired: &[(&'static str, &Fired)], several: bool) -> BTreeMap<String, f64> {
        let mut drawn = BTreeMap::new();
        if let Some(roll) = self.roll {
            drawn.insert("percent".to_owned(), roll);
        }
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
