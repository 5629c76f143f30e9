//! Which call repeats which: the attempts of one call, put together as calls come.
//!
//! A call is a retry when its client says so (`x-stainless-retry-count`), or when it repeats the
//! content of a call that failed. The second is a guess where many users ask the same.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::{Call, CallEnd};

/// A failed call is taken up again within this time, or not at all.
const MEMORY: Duration = Duration::from_secs(120);
/// Failed calls remembered for each dependency.
const OPEN: usize = 4096;
/// A retry that comes sooner after a failure has not waited.
const AT_ONCE: Duration = Duration::from_millis(100);

/// What a call is to the calls before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Mark {
    pub retry: bool,
    /// Before the Retry-After of the answer before had passed.
    pub early: bool,
    /// By content alone, without the client's word.
    pub guess: bool,
    /// Which attempt of its call it is: 1 for the first.
    pub attempt: u32,
    /// The failed call that it repeats, where that is known.
    pub failed: Option<Failed>,
}

/// A failed call, as the call that repeats it has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Failed {
    /// Its place among the calls.
    pub place: usize,
    /// From the moment at which the app knew of the failure.
    pub waited: Duration,
    /// Its answer said that no retry can mend it.
    pub is_final: bool,
}

/// Puts attempts together, call by call, in the order of their start or of their end.
#[derive(Debug, Default)]
pub struct Tracker {
    /// By dependency.
    open: HashMap<Arc<str>, VecDeque<Open>>,
}

/// A failed call that nobody repeated yet.
#[derive(Debug)]
struct Open {
    place: usize,
    key: Option<u64>,
    said: Option<u32>,
    attempt: u32,
    answered: Duration,
    known: Duration,
    not_before: Duration,
    is_final: bool,
}

impl Mark {
    /// A second or later retry that came right behind the failure.
    pub fn at_once(&self) -> bool {
        self.attempt > 2 && self.failed.is_some_and(|failed| failed.waited < AT_ONCE)
    }

    /// A retry of what no retry can mend.
    pub fn needless(&self) -> bool {
        self.failed.is_some_and(|failed| failed.is_final)
    }
}

impl Call {
    /// Whether its answer says that no retry can mend it.
    pub fn is_final(&self) -> bool {
        let refused = matches!(self.status, Some(400 | 401 | 403 | 404 | 405 | 413 | 422));
        refused || self.no_retry
    }

    /// Whether a good answer broke off.
    pub fn was_cut(&self) -> bool {
        let good = self.status.is_some_and(|status| status < 400);
        good && self.bytes > 0 && matches!(self.ended, CallEnd::Injected | CallEnd::UpstreamCut)
    }

    fn answered(&self) -> Duration {
        self.head.unwrap_or(self.end)
    }

    /// When the app knew that it had failed: at the head of an error, at the end of a stream.
    fn known(&self) -> Duration {
        match self.status {
            Some(status) if status >= 400 => self.answered(),
            _ => self.end,
        }
    }
}

impl Tracker {
    /// Takes in the next call; `place` is its place among the calls.
    pub fn see(&mut self, call: &Call, place: usize) -> Mark {
        let open = self.open.entry(Arc::clone(&call.dependency)).or_default();
        let too_old = |old: &Open| old.answered + MEMORY < call.at;
        while open.front().is_some_and(too_old) || open.len() > OPEN {
            open.pop_front();
        }
        let mark = mark(call, open);
        if call.failed() {
            let answered = call.answered();
            open.push_back(Open {
                place,
                key: call.key,
                said: call.retry,
                attempt: mark.attempt,
                answered,
                known: call.known(),
                not_before: call.retry_after.map_or(answered, |wait| answered + wait),
                is_final: call.is_final(),
            });
        }
        mark
    }
}

/// Pairs a call with the failed one that it repeats, in doubt with one that it may repeat.
fn mark(call: &Call, open: &mut VecDeque<Open>) -> Mark {
    let said = call.retry.unwrap_or(0);
    if call.retry == Some(0) {
        return Mark { attempt: 1, ..Mark::default() };
    }
    let fits = |old: &Open| {
        let same = match (call.key, old.key) {
            (Some(now), Some(before)) => now == before,
            _ => said > 0,
        };
        let next = said == 0 || old.said.unwrap_or(0) + 1 == said;
        same && next && old.answered <= call.at
    };
    let patient = open.iter().position(|old| fits(old) && old.not_before <= call.at);
    let found = patient.or_else(|| open.iter().position(fits));
    let early = patient.is_none() && found.is_some();
    let repeated = found.and_then(|found| open.remove(found));
    let before = repeated.as_ref().map_or(0, |failed| failed.attempt);
    Mark {
        retry: said > 0 || repeated.is_some(),
        early,
        guess: said == 0,
        attempt: 1 + before.max(said),
        failed: repeated.map(|failed| Failed {
            place: failed.place,
            waited: call.at.saturating_sub(failed.known),
            is_final: failed.is_final,
        }),
    }
}
