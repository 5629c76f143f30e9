//! What became of a fault over a run.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::delays::Delays;
use super::selector::Aspect;
use crate::measure::record::Quantiles;
use crate::measure::statistics::wilson;

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
    /// Matched exchanges that came out of turn, by the part of `when` that did not hold.
    #[serde(default)]
    pub out_of_turn: BTreeMap<String, u64>,
    /// Of a fault in the shadow: the exchanges on which it would have acted.
    #[serde(default)]
    pub would_hit: u64,
    /// The percent asked for (0 to 100), averaged over the matched exchanges.
    #[serde(default)]
    pub percent_wanted: Option<f64>,
    /// The percent of the matched exchanges that it really chose.
    #[serde(default)]
    pub percent_real: Option<f64>,
    /// Wilson's interval of that at 95 %.
    #[serde(default)]
    pub percent_interval: Option<[f64; 2]>,
    /// Bytes of answers that it left out, put in or altered.
    #[serde(default)]
    pub bytes_changed: u64,
    /// Events, or pieces of bodies that are no streams, that it left out, put in or altered.
    #[serde(default)]
    pub events_changed: u64,
    /// Seconds for which it wished to hold exchanges back, of those that it held.
    #[serde(default)]
    pub delay_wanted: Option<Quantiles>,
    /// Seconds for which they were really held back.
    #[serde(default)]
    pub delay_real: Option<Quantiles>,
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
    /// The part of `when` that did not hold.
    pub(super) out_of_turn: Option<&'static str>,
    /// It would have acted, were it not in the shadow.
    pub(super) would_hit: bool,
    pub(super) bytes: u64,
    pub(super) events: u64,
    /// How long it wished to hold the exchange.
    pub(super) wait: Duration,
    /// How long it did.
    pub(super) held: Option<Duration>,
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
    matched: Mutex<Matched>,
    /// By the place of the key. It is counted for each armed fault that an exchange is not for, so it
    /// takes no lock.
    unmatched: [AtomicU64; Aspect::ALL.len()],
}

/// What is kept of exchanges that matched.
#[derive(Debug, Default)]
struct Matched {
    tally: Tally,
    wanted: Delays,
    real: Delays,
}

impl Books {
    /// Writes an exchange that matched into the books.
    pub(super) fn add(&self, entry: &Entry) {
        let mut matched = self.matched.lock();
        if !entry.wait.is_zero() {
            matched.wanted.add(entry.wait);
        }
        if let Some(held) = entry.held {
            matched.real.add(held);
        }
        matched.tally.add(entry);
    }

    /// Counts an exchange that it is not for.
    #[inline]
    pub(super) fn pass_by(&self, key: Aspect) {
        self.unmatched[key as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// What they say.
    pub(super) fn tally(&self) -> Tally {
        let books = self.matched.lock();
        let mut tally = books.tally.clone();
        tally.delay_wanted = books.wanted.quantiles();
        tally.delay_real = books.real.quantiles();
        drop(books);
        let Tally { matched, selected, .. } = tally;
        let percent = |share: f64| share * 100.0;
        tally.percent_real = (matched > 0).then(|| percent(selected as f64 / matched as f64));
        tally.percent_interval =
            wilson(selected, matched, 0.95).map(|interval| interval.map(percent));
        for (key, count) in Aspect::ALL.into_iter().zip(&self.unmatched) {
            let count = count.load(Ordering::Relaxed);
            if count > 0 {
                tally.unmatched.insert(key.name().to_owned(), count);
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
        self.would_hit += u64::from(entry.would_hit);
        self.bytes_changed += entry.bytes;
        self.events_changed += entry.events;
        if let Some(part) = entry.out_of_turn {
            count(&mut self.out_of_turn, part);
        }
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
