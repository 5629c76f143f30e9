//! A rate limiter as providers have it: requests and tokens per minute, checked together or not at
//! all, tokens reserved before and corrected after. Time comes from outside.

use std::collections::HashMap;
use std::time::Duration;

use crate::dialect::{Gauge, Quota};

/// Accounts kept at once; the ones that were used least lately are forgotten.
const ACCOUNTS: usize = 10_000;
const MINUTE: Duration = Duration::from_secs(60);

/// How a limit is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Counting {
    /// The count begins anew each minute.
    FixedWindow,
    /// What is used up flows back evenly.
    TokenBucket,
}

/// One limit.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Limit {
    pub(super) per_minute: u64,
    /// The most that is let through at once.
    pub(super) burst: f64,
    /// What may be used at the very beginning.
    pub(super) start: f64,
    /// A request that asks for more passes when this much is there, and owes the rest.
    pub(super) enough: f64,
}

/// The limits of all accounts and where each stands.
#[derive(Debug)]
pub(super) struct Limiter {
    counting: Counting,
    requests: Option<Limit>,
    tokens: Option<Limit>,
    accounts: HashMap<u64, Account>,
    /// Counts how often all accounts were forgotten.
    epoch: u64,
}

#[derive(Clone, Copy, Debug)]
struct Account {
    requests: Level,
    tokens: Level,
    /// When the window began, or when the levels were last brought up to date.
    since: Duration,
    used: Duration,
}

/// What is left of a limit; below zero when more was used than was there.
#[derive(Clone, Copy, Debug)]
struct Level(f64);

/// What a request is told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Told {
    /// None when it may pass; else how long until it could.
    pub(super) wait: Option<Duration>,
    /// Where the account stands now.
    pub(super) quota: Quota,
    pub(super) receipt: Receipt,
}

/// What was taken, for a later correction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Receipt {
    account: u64,
    epoch: u64,
    /// The window in which it was taken.
    since: Duration,
}

impl Limiter {
    pub(super) fn new(counting: Counting, requests: Option<Limit>, tokens: Option<Limit>) -> Self {
        Self { counting, requests, tokens, accounts: HashMap::new(), epoch: 0 }
    }

    /// Lets a request pass and takes what it needs, or refuses it and takes nothing.
    pub(super) fn check(&mut self, at: Duration, account: u64, tokens: u64) -> Told {
        let (counting, requests, limit) = (self.counting, self.requests, self.tokens);
        let epoch = self.epoch;
        let state = self.account(at, account);
        state.bring_up(counting, at, requests, limit);
        let shortfall = |limit: Option<Limit>, level: Level, asked: f64| -> Option<Duration> {
            limit.and_then(|limit| limit.until(counting, at, state.since, level, asked))
        };
        let wait = shortfall(requests, state.requests, 1.0).max(shortfall(
            limit,
            state.tokens,
            tokens as f64,
        ));
        if wait.is_none() {
            state.requests.0 -= 1.0;
            state.tokens.0 -= tokens as f64;
        }
        let gauge = |limit: Option<Limit>, level: Level, requested: u64| {
            limit.map(|limit| limit.gauge(counting, at, state.since, level, requested))
        };
        let quota = Quota {
            requests: gauge(requests, state.requests, 1),
            tokens: gauge(limit, state.tokens, tokens),
            ..Quota::default()
        };
        let receipt = Receipt { account, epoch, since: state.since };
        Told { wait, quota, receipt }
    }

    /// Gives back tokens that were reserved but not used, or takes more (below zero). What was
    /// taken in a window that is over is over with it.
    pub(super) fn correct(&mut self, receipt: Receipt, tokens: i64) {
        let Some(limit) = self.tokens.filter(|_| receipt.epoch == self.epoch) else { return };
        if let Some(state) = self.accounts.get_mut(&receipt.account)
            && (self.counting == Counting::TokenBucket || state.since == receipt.since)
        {
            state.tokens.0 = (state.tokens.0 + tokens as f64).min(limit.burst);
        }
    }

    /// Forgets all accounts.
    pub(super) fn clear(&mut self) {
        self.accounts.clear();
        self.epoch += 1;
    }

    fn account(&mut self, at: Duration, account: u64) -> &mut Account {
        if self.accounts.len() >= ACCOUNTS && !self.accounts.contains_key(&account) {
            self.forget_half();
        }
        let start = |limit: Option<Limit>| Level(limit.map_or(0.0, |limit| limit.start));
        let fresh = Account {
            requests: start(self.requests),
            tokens: start(self.tokens),
            since: at,
            used: at,
        };
        let state = self.accounts.entry(account).or_insert(fresh);
        state.used = state.used.max(at);
        state
    }

    /// Forgets the half that was used least lately (half at once, so that a flood of new accounts
    /// costs little each).
    fn forget_half(&mut self) {
        let mut used: Vec<Duration> = self.accounts.values().map(|state| state.used).collect();
        let middle = used.len() / 2;
        let (_, median, _) = used.select_nth_unstable(middle);
        let median = *median;
        self.accounts.retain(|_, state| state.used > median);
    }
}

impl Account {
    /// Adds what has flowed back since last time.
    fn bring_up(
        &mut self,
        counting: Counting,
        at: Duration,
        requests: Option<Limit>,
        tokens: Option<Limit>,
    ) {
        let passed = at.saturating_sub(self.since);
        match counting {
            Counting::TokenBucket => {
                for (limit, level) in [(requests, &mut self.requests), (tokens, &mut self.tokens)] {
                    if let Some(limit) = limit {
                        level.0 =
                            limit.burst.min(level.0 + limit.per_second() * passed.as_secs_f64());
                    }
                }
                self.since = self.since.max(at);
            }
            Counting::FixedWindow => {
                let windows = (passed.as_secs() / MINUTE.as_secs()) as u32;
                if windows > 0 {
                    self.since += MINUTE * windows;
                    for (limit, level) in
                        [(requests, &mut self.requests), (tokens, &mut self.tokens)]
                    {
                        level.0 = limit.map_or(0.0, |limit| limit.burst);
                    }
                }
            }
        }
    }
}

impl Limit {
    fn per_second(&self) -> f64 {
        self.per_minute as f64 / 60.0
    }

    /// How long until so much can be had; None when it can be had now.
    fn until(
        &self,
        counting: Counting,
        at: Duration,
        since: Duration,
        level: Level,
        asked: f64,
    ) -> Option<Duration> {
        let missing = asked.min(self.enough) - level.0;
        if missing <= TINY {
            return None;
        }
        Some(match counting {
            Counting::FixedWindow => (since + MINUTE).saturating_sub(at),
            Counting::TokenBucket => self.flow(missing),
        })
    }

    /// The time in which so much flows back.
    fn flow(&self, amount: f64) -> Duration {
        Duration::try_from_secs_f64(amount.max(0.0) / self.per_second()).unwrap_or(Duration::MAX)
    }

    fn gauge(
        &self,
        counting: Counting,
        at: Duration,
        since: Duration,
        level: Level,
        requested: u64,
    ) -> Gauge {
        Gauge {
            limit: self.per_minute,
            remaining: (level.0 + TINY).max(0.0) as u64,
            reset: match counting {
                Counting::FixedWindow => (since + MINUTE).saturating_sub(at),
                Counting::TokenBucket => self.flow(self.burst - level.0),
            },
            requested,
        }
    }
}

/// Less than this is a rounding error, not a shortfall.
const TINY: f64 = 1e-6;

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(per_minute: u64, burst: f64) -> Limit {
        Limit { per_minute, burst, start: burst, enough: burst }
    }

    fn secs(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn the_wait_is_exact() {
        let mut limiter = Limiter::new(Counting::TokenBucket, Some(limit(60, 2.0)), None);
        assert_eq!(limiter.check(secs(0.0), 1, 0).wait, None);
        assert_eq!(limiter.check(secs(0.0), 1, 0).wait, None);
        let wait = limiter.check(secs(0.3), 1, 0).wait.unwrap();
        assert!(wait.abs_diff(secs(0.7)) < Duration::from_micros(2), "{wait:?}");
        let before = secs(0.3) + wait - Duration::from_millis(1);
        assert!(limiter.check(before, 1, 0).wait.is_some(), "just before it fails");
        assert_eq!(limiter.check(secs(0.3) + wait, 1, 0).wait, None, "then it passes");
    }

    #[test]
    fn both_limits_hold_or_nothing_is_taken() {
        let mut limiter =
            Limiter::new(Counting::TokenBucket, Some(limit(60, 5.0)), Some(limit(600, 100.0)));
        let first = limiter.check(secs(0.0), 1, 80);
        assert_eq!(first.wait, None);
        let told = limiter.check(secs(0.0), 1, 50);
        assert_eq!(told.wait, Some(secs(3.0)), "30 tokens are missing, 10 flow back each second");
        assert_eq!(told.quota.requests.unwrap().remaining, 4, "the request was not taken");
        assert_eq!(told.quota.tokens.unwrap().remaining, 20);
        limiter.correct(first.receipt, 60);
        assert_eq!(limiter.check(secs(0.0), 1, 50).wait, None, "unused tokens came back");
        limiter.clear();
        assert_eq!(limiter.check(secs(0.0), 1, 100).wait, None);
        limiter.correct(first.receipt, 60);
        assert!(limiter.check(secs(0.0), 1, 50).wait.is_some(), "of another arming");
    }

    #[test]
    fn corrections_stay_in_their_window() {
        let mut limiter = Limiter::new(Counting::FixedWindow, None, Some(limit(100, 100.0)));
        let first = limiter.check(secs(0.0), 1, 80);
        assert_eq!(limiter.check(secs(70.0), 1, 80).wait, None);
        limiter.correct(first.receipt, 60);
        assert!(limiter.check(secs(71.0), 1, 40).wait.is_some());
    }

    #[test]
    fn a_request_larger_than_the_burst_passes_and_owes() {
        let mut limiter = Limiter::new(Counting::TokenBucket, None, Some(limit(600, 100.0)));
        assert_eq!(limiter.check(secs(0.0), 1, 400).wait, None);
        assert_eq!(limiter.check(secs(0.0), 1, 10).wait, Some(secs(31.0)));
        assert_eq!(limiter.check(secs(31.0), 1, 10).wait, None);
    }

    #[test]
    fn a_window_begins_anew_each_minute() {
        let mut limiter = Limiter::new(Counting::FixedWindow, Some(limit(10, 10.0)), None);
        let passed = |limiter: &mut Limiter, from: u64, to: u64| {
            (from..to)
                .filter(|s| limiter.check(Duration::from_secs(*s), 1, 0).wait.is_none())
                .count()
        };
        assert_eq!(passed(&mut limiter, 5, 65), 10, "its minute began with the first request");
        assert_eq!(passed(&mut limiter, 65, 66), 1);
        let mut limiter = Limiter::new(Counting::FixedWindow, Some(limit(1, 1.0)), None);
        limiter.check(secs(5.0), 1, 0);
        assert_eq!(limiter.check(secs(50.0), 1, 0).wait, Some(secs(15.0)));
    }

    #[test]
    fn accounts_are_separate_and_bounded() {
        let mut limiter = Limiter::new(Counting::TokenBucket, Some(limit(60, 1.0)), None);
        for account in 0..50_000 {
            assert_eq!(limiter.check(secs(account as f64), account, 0).wait, None);
        }
        assert!(limiter.accounts.len() <= ACCOUNTS);
        assert!(limiter.accounts.contains_key(&49_999));
        // A flood at one instant must not grow it either.
        for account in 0..50_000 {
            limiter.check(secs(1e6), 1_000_000 + account, 0);
        }
        assert!(limiter.accounts.len() <= ACCOUNTS);
    }
}
