//! What became of a fault over a run.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
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

/// One exchange that matched, as one fault's books have it.
#[derive(Clone, Debug, Default)]
pub(super) struct Entry {
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
    tally: Mutex<Tally>,
    /// By the place of the part. It is counted for each armed fault that an exchange is not for, so
    /// it takes no lock.
    unmatched: [AtomicU64; Part::ALL.len()],
}

impl Books {
    /// Writes an exchange that matched into the books.
    pub(super) fn add(&self, entry: &Entry) {
        self.tally.lock().add(entry);
    }

    /// Counts an exchange of which this part did not hold.
    #[inline]
    pub(super) fn pass_by(&self, part: Part) {
        self.unmatched[part as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// What they say.
    pub(super) fn tally(&self) -> Tally {
        let mut tally = self.tally.lock().clone();
        for (part, count) in Part::ALL.into_iter().zip(&self.unmatched) {
            let count = count.load(Ordering::Relaxed);
            if count > 0 {
                tally.unmatched.insert(part.name().to_owned(), count);
                tally.armed += count;
            }
        }
        tally
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
