//! Counts: the first few, each fifth, the seventh; for all requests together, or for each call, user,
//! session or key. Exact however many come at once.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::super::ordinal::Ordinals;
use crate::dice::hash_bytes;
use crate::exchange::{Exchange, ExchangeKey};
use crate::units::Bounds;

/// Which requests, by their number among those that fit, from 1.
#[derive(Clone, Debug, PartialEq)]
pub enum Counting {
    /// This one in so many: the 5th, the 10th, …
    Every(u64),
    /// The first so many.
    First(u64),
    /// Any of these.
    Nth(Vec<Bounds>),
}

/// What is counted for itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// Each API key.
    ApiKey,
    /// Each call with its retries: requests with the same method, path and body.
    Call,
    /// All requests together.
    #[default]
    Fault,
    /// Each session (`identify.session`).
    Session,
    /// Each user (`identify.user`).
    User,
}

impl Counting {
    /// Its key in the file.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Every(_) => "every",
            Self::First(_) => "first",
            Self::Nth(_) => "nth",
        }
    }

    pub(super) fn holds(&self, number: u64) -> bool {
        match self {
            Self::Every(step) => number.is_multiple_of((*step).max(1)),
            Self::First(most) => number <= *most,
            Self::Nth(which) => which.iter().any(|bounds| bounds.hold(number as f64)),
        }
    }
}

impl Per {
    /// What tells apart whatever is counted for itself; an error says what is missing.
    pub(super) fn of(self, exchange: &Exchange) -> Result<u64, &'static str> {
        let hash = |name: &Option<String>| name.as_ref().map(|name| hash_bytes(name.as_bytes()));
        match self {
            Self::ApiKey => exchange.api_key.ok_or("no API key on the request (per: api_key)"),
            Self::Call => Ok(exchange.key.0),
            Self::Fault => Ok(0),
            Self::Session => {
                hash(&exchange.session).ok_or("no session on the request (see identify.session)")
            }
            Self::User => hash(&exchange.user).ok_or("no user on the request (see identify.user)"),
        }
    }
}

/// Counts, in bounded memory: of what is counted for itself about a million are remembered.
#[derive(Debug, Default)]
pub(in crate::engine) struct Counter {
    all: AtomicU64,
    each: Mutex<Ordinals>,
}

impl Counter {
    /// The number of this request, from 1.
    pub(super) fn next(&self, per: Per, exchange: &Exchange) -> Result<u64, &'static str> {
        if per == Per::Fault {
            return Ok(self.all.fetch_add(1, Ordering::Relaxed) + 1);
        }
        let key = ExchangeKey(per.of(exchange)?);
        Ok(u64::from(self.each.lock().next(0, key)) + 1)
    }

    pub(super) fn reset(&self) {
        self.all.store(0, Ordering::Relaxed);
        *self.each.lock() = Ordinals::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::exchange;

    #[test]
    fn numbers_are_picked() {
        let picked = |counting: Counting| -> Vec<u64> {
            (1..=12).filter(|number| counting.holds(*number)).collect()
        };
        assert_eq!(picked(Counting::First(3)), [1, 2, 3]);
        assert_eq!(picked(Counting::Every(5)), [5, 10]);
        let nth = ["2", "7..8", "11.."].map(|text| text.parse().unwrap()).to_vec();
        assert_eq!(picked(Counting::Nth(nth)), [2, 7, 8, 11, 12]);
    }

    #[test]
    fn each_call_is_counted_for_itself() {
        let counter = Counter::default();
        let number = |key| counter.next(Per::Call, &exchange(key)).unwrap();
        assert_eq!([number(1), number(1), number(2), number(1), number(2)], [1, 2, 1, 3, 2]);
        counter.reset();
        assert_eq!(counter.next(Per::Call, &exchange(1)), Ok(1));
        assert!(counter.next(Per::User, &exchange(1)).unwrap_err().contains("identify.user"));
        let known = Exchange { user: Some("ann".into()), ..exchange(9) };
        assert_eq!(counter.next(Per::User, &known), Ok(1));
    }

    #[test]
    fn counts_are_exact_under_64_clients() {
        let counter = Counter::default();
        let counting = Counting::Every(5);
        let chosen: usize = std::thread::scope(|scope| {
            let count = || {
                (0..250)
                    .filter(|_| counting.holds(counter.next(Per::Fault, &exchange(1)).unwrap()))
                    .count()
            };
            let clients: Vec<_> = (0..64).map(|_| scope.spawn(count)).collect();
            clients.into_iter().map(|client| client.join().unwrap()).sum()
        });
        assert_eq!(chosen, 64 * 250 / 5);
    }
}
