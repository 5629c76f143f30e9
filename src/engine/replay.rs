//! The decisions of an earlier run, to be met again: the same faults on the same exchanges with the
//! same draws, whatever the file says now about where, when and how often.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::dice::{Dice, hash_bytes};
use crate::exchange::{Exchange, ExchangeKey};
use crate::measure::DecisionLine;
use crate::measure::record::Replayed;

/// The most exchanges that are kept; a journal with more is refused.
pub const MOST_EXCHANGES: usize = 4_000_000;

/// The decisions of an earlier run.
#[derive(Debug, Default)]
pub struct Replay {
    /// By exchange, the first of its choices, 0 for none: an index in `choices`, from 1.
    exchanges: HashMap<u64, u32>,
    choices: Vec<Choice>,
    faults: Vec<Arc<str>>,
    seeds: Vec<u64>,
    met: AtomicU64,
    unknown: AtomicU64,
}

/// A fault that had chosen an exchange.
#[derive(Clone, Copy, Debug)]
struct Choice {
    fault: u16,
    seed: u16,
    /// The next one of the same exchange, from 1.
    next: u32,
}

/// Why a journal cannot be replayed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadJournal {
    #[error("it is no line of a decision journal: {0}")]
    Line(String),
    #[error(
        "it has no `seed`, so its draws cannot be made again; record the run with this version"
    )]
    NoSeed,
    #[error("it holds more than {MOST_EXCHANGES} exchanges; cut it")]
    TooLong,
    #[error("it names more than 65535 faults or seeds")]
    TooMany,
}

/// What the journal says of one exchange.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recorded<'a> {
    replay: &'a Replay,
    first: u32,
}

impl Replay {
    /// Takes in a line of the journal; what its fault did not choose only makes its exchange known.
    pub fn add(&mut self, line: &str) -> Result<(), BadJournal> {
        let line: DecisionLine =
            serde_json::from_str(line).map_err(|error| BadJournal::Line(error.to_string()))?;
        let key = u64::from_str_radix(&line.key, 16)
            .map_err(|_| BadJournal::Line(format!("`{}` is no key", line.key)))?;
        let place = place_of(&line.dependency, ExchangeKey(key), line.ordinal);
        if self.exchanges.len() >= MOST_EXCHANGES && !self.exchanges.contains_key(&place) {
            return Err(BadJournal::TooLong);
        }
        let first = self.exchanges.entry(place).or_default();
        if !line.selected {
            return Ok(());
        }
        let seed = line.seed.ok_or(BadJournal::NoSeed)?;
        let fault = number_of(&mut self.faults, line.fault)?;
        let seed = number_of(&mut self.seeds, seed)?;
        // A connection that was decided on anew has chosen the fault before.
        let mut next = *first;
        while let Some(choice) = next.checked_sub(1).map(|at| self.choices[at as usize]) {
            if choice.fault == fault {
                return Ok(());
            }
            next = choice.next;
        }
        self.choices.push(Choice { fault, seed, next: *first });
        *first = u32::try_from(self.choices.len()).map_err(|_| BadJournal::TooLong)?;
        Ok(())
    }

    /// What is known of an exchange.
    pub(super) fn of(&self, exchange: &Exchange) -> Recorded<'_> {
        let place = place_of(&exchange.dependency, exchange.key, exchange.ordinal);
        let first = self.exchanges.get(&place).copied();
        if first.is_none() {
            self.unknown.fetch_add(1, Ordering::Relaxed);
        }
        Recorded { replay: self, first: first.unwrap_or_default() }
    }

    /// Whether it knows nothing.
    pub fn is_empty(&self) -> bool {
        self.exchanges.is_empty()
    }

    /// How much has been met so far; `known` are the faults that there are now.
    pub fn so_far(&self, journal: &str, known: &dyn Fn(&str) -> bool) -> Replayed {
        let mut gone = BTreeMap::new();
        for choice in &self.choices {
            let name = &self.faults[usize::from(choice.fault)];
            if !known(name) {
                *gone.entry(name.to_string()).or_insert(0) += 1;
            }
        }
        let recorded = self.choices.len() as u64;
        let met = self.met.load(Ordering::Relaxed).min(recorded);
        Replayed {
            journal: journal.to_owned(),
            recorded,
            met,
            unmet: recorded.saturating_sub(met + gone.values().sum::<u64>()),
            gone,
            unknown: self.unknown.load(Ordering::Relaxed),
        }
    }
}

impl Recorded<'_> {
    /// Whether a fault had chosen this exchange.
    pub(super) fn chose(&self, fault: &str) -> bool {
        self.choice(fault).is_some()
    }

    /// The seed with which a fault had chosen this exchange; None when it had not. Counts it as met.
    pub(super) fn seed(&self, fault: &str) -> Option<u64> {
        let choice = self.choice(fault)?;
        self.replay.met.fetch_add(1, Ordering::Relaxed);
        Some(self.replay.seeds[usize::from(choice.seed)])
    }

    fn choice(&self, fault: &str) -> Option<Choice> {
        let mut next = self.first;
        while let Some(at) = next.checked_sub(1) {
            let choice = self.replay.choices[at as usize];
            if *self.replay.faults[usize::from(choice.fault)] == *fault {
                return Some(choice);
            }
            next = choice.next;
        }
        None
    }
}

/// The stream of a fault on an exchange under a seed.
pub(super) fn dice(seed: u64, fault: &str, exchange: &Exchange) -> Dice {
    let dice = Dice::from_seed(seed).fork(fault);
    dice.fork_number(exchange.key.0).fork_number(u64::from(exchange.ordinal))
}

fn place_of(dependency: &str, key: ExchangeKey, ordinal: u32) -> u64 {
    Dice::from_seed(hash_bytes(dependency.as_bytes()))
        .fork_number(key.0)
        .fork_number(u64::from(ordinal))
        .bits()
}

fn number_of<T: PartialEq>(known: &mut Vec<T>, one: T) -> Result<u16, BadJournal> {
    let at = match known.iter().position(|other| *other == one) {
        Some(at) => at,
        None => {
            known.push(one);
            known.len() - 1
        }
    };
    u16::try_from(at).map_err(|_| BadJournal::TooMany)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::exchange;

    fn line(key: u64, fault: &str, selected: bool) -> String {
        format!(
            r#"{{"key":"{key:016x}","ordinal":0,"dependency":"llm","fault":"{fault}","matched":true,"selected":{selected},"hit":{selected},"drawn":{{}},"at_s":1.0,"seed":7}}"#
        )
    }

    #[test]
    fn choices_are_found_by_exchange_and_fault() {
        let mut replay = Replay::default();
        for (key, fault, selected) in
            [(1, "a", true), (1, "b", false), (1, "c", true), (2, "a", false), (1, "a", true)]
        {
            replay.add(&line(key, fault, selected)).unwrap();
        }
        let first = exchange(1);
        let seeds = ["a", "b", "c"].map(|fault| replay.of(&first).seed(fault));
        assert_eq!(seeds, [Some(7), None, Some(7)]);
        assert_eq!(replay.of(&exchange(2)).seed("a"), None);
        assert_eq!(replay.of(&exchange(3)).seed("a"), None);
        assert_eq!(replay.of(&Exchange { ordinal: 1, ..exchange(1) }).seed("a"), None);
        let told = replay.so_far("decisions.jsonl", &|fault| fault == "a");
        assert_eq!((told.recorded, told.unknown), (2, 2));
        assert_eq!(told.gone, BTreeMap::from([("c".to_owned(), 1)]));
    }

    #[test]
    fn what_cannot_be_replayed_is_refused_in_words() {
        let mut replay = Replay::default();
        assert!(replay.add("{").unwrap_err().to_string().contains("no line"));
        assert!(replay.add(&line(1, "a", true).replace(",\"seed\":7", "")).is_err());
        let bad = line(1, "a", true).replace("0000000000000001", "xyz");
        assert!(replay.add(&bad).unwrap_err().to_string().contains("`xyz` is no key"));
    }

    proptest::proptest! {
        #[test]
        fn no_line_panics(text in ".{0,200}") {
            let _ = Replay::default().add(&text);
        }
    }
}
