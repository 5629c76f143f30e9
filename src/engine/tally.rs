//! What became of a fault over a run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::selector::Part;

/// What became of one fault over a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Tally {
    /// Exchanges with its targets while it was armed.
    pub armed: u64,
    /// Of those, the ones its `where` describes.
    pub matched: u64,
    /// Of those, the ones its percent chose.
    pub selected: u64,
    /// Of those, the ones on which an effect acted.
    pub hit: u64,
    /// Matched exchanges on which it should have acted and did not.
    pub impossible: u64,
    /// Matched exchanges that it let go: it could act and had no cause to (a request within the
    /// limit), or was kept from it (`max_affected`).
    #[serde(default)]
    pub let_go: u64,
    /// Why it did not act, with counts; also single effects of a fault that acted by another one,
    /// as `effect: reason`.
    pub reasons: BTreeMap<String, u64>,
    /// Exchanges that did not match, by the first part of `where` that did not hold.
    #[serde(default)]
    pub unmatched: BTreeMap<String, u64>,
    /// The percent asked for (0 to 100), averaged over the matched exchanges.
    #[serde(default)]
    pub percent_wanted: Option<f64>,
}

/// One exchange, as one fault's books have it.
#[derive(Clone, Debug, Default)]
pub(super) struct Entry {
    /// The part of `where` that did not hold.
    pub(super) mismatch: Option<Part>,
    /// The percent asked for at that time.
    pub(super) wanted: f64,
    pub(super) selected: bool,
    pub(super) hit: bool,
    /// Why it could not act.
    pub(super) impossible: Option<&'static str>,
    /// Why it was let go.
    pub(super) let_go: Option<&'static str>,
    /// Effects that did not act while others did.
    pub(super) partly: Vec<Missed>,
}

/// An effect that did not act.
#[derive(Clone, Copy, Debug)]
pub(super) struct Missed {
    pub(super) effect: &'static str,
    pub(super) reason: &'static str,
    /// It could have acted.
    pub(super) able: bool,
}

impl std::fmt::Display for Missed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.effect, self.reason)
    }
}

/// A tally as it is kept while exchanges come.
#[derive(Debug, Default)]
pub(super) struct Books {
    /// All but what follows.
    tally: Tally,
    /// By the place of the part: this is counted for each armed fault that an exchange is not for.
    unmatched: [u64; Part::ALL.len()],
}

impl Books {
    /// Writes an exchange into the books.
    pub(super) fn add(&mut self, entry: &Entry) {
        match entry.mismatch {
            Some(part) => self.unmatched[part as usize] += 1,
            None => self.tally.add(entry),
        }
    }

    /// What they say.
    pub(super) fn tally(&self) -> Tally {
        let parts = Part::ALL.into_iter().zip(self.unmatched).filter(|(_, count)| *count > 0);
        let unmatched: BTreeMap<String, u64> =
            parts.map(|(part, count)| (part.name().to_owned(), count)).collect();
        let armed = self.tally.armed + unmatched.values().sum::<u64>();
        Tally { armed, unmatched, ..self.tally.clone() }
    }
}

impl Tally {
    /// Writes an exchange that matched into the books.
    fn add(&mut self, entry: &Entry) {
        self.armed += 1;
        let before = self.percent_wanted.unwrap_or(0.0);
        self.matched += 1;
        self.percent_wanted = Some(before + (entry.wanted - before) / self.matched as f64);
        self.selected += u64::from(entry.selected);
        self.hit += u64::from(entry.hit);
        self.impossible += u64::from(entry.impossible.is_some());
        self.let_go += u64::from(entry.let_go.is_some());
        for reason in entry.impossible.iter().chain(&entry.let_go) {
            count(&mut self.reasons, reason);
        }
        for missed in &entry.partly {
            count(&mut self.reasons, &missed.to_string());
        }
    }
}

fn count(counts: &mut BTreeMap<String, u64>, word: &str) {
    match counts.get_mut(word) {
        Some(count) => *count += 1,
        None => drop(counts.insert(word.to_owned(), 1)),
    }
}
