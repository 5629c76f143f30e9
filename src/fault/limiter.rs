//! A rate limiter as providers have it: requests and tokens per minute and per day, requests at
//! once, and how steeply the load may rise; checked together or not at all, tokens reserved before
//! and corrected after. Time comes from outside.

use std::collections::HashMap;
use std::time::Duration;

use crate::dialect::{Gauge, Quota};

/// Accounts kept at once; the ones that were used least lately are forgotten.
const ACCOUNTS: usize = 10_000;
pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const DAY: Duration = Duration::from_secs(24 * 3600);

/// How a limit is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Counting {
    /// The count begins anew each period.
    FixedWindow,
    /// What is used up flows back evenly.
    TokenBucket,
}

/// What a limit counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Measure {
    Requests,
    Tokens,
}

/// One limit.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Limit {
    pub(super) measure: Measure,
    pub(super) counting: Counting,
    pub(super) count: u64,
    pub(super) period: Duration,
    /// The most that is let through at once.
    pub(super) burst: f64,
    /// What may be used at the very beginning.
    pub(super) start: f64,
    /// A request that asks for more passes when this much is there, and owes the rest.
    pub(super) enough: f64,
}

/// How steeply the load may rise: in each window no more requests than this many times those of
/// the window before.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Ramp {
    /// Requests that each window has, whatever came before.
    pub(super) base: f64,
    pub(super) growth: f64,
    pub(super) window: Duration,
}

/// The limits of every account.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Limits {
    pub(super) counted: Vec<Limit>,
    pub(super) at_once: Option<u32>,
    pub(super) ramp: Option<Ramp>,
}

/// The limits of all accounts and where each stands.
#[derive(Debug)]
pub(super) struct Limiter {
    limits: Limits,
    accounts: HashMap<u64, Account>,
    /// Counts how often all accounts were forgotten.
    epoch: u64,
}

#[derive(Clone, Debug)]
struct Account {
    /// One for each limit that counts.
    meters: Vec<Meter>,
    /// Requests that are being answered; counted where there is a limit of them.
    running: u32,
    climb: Climb,
    used: Duration,
}

/// What is left of a limit.
#[derive(Clone, Copy, Debug)]
struct Meter {
    /// Below zero when more was used than was there.
    level: f64,
    /// When the window began, or when the level was last brought up to date.
    since: Duration,
}

/// How many requests passed in this window and in the one before.
#[derive(Clone, Copy, Debug)]
struct Climb {
    before: f64,
    now: f64,
    since: Duration,
}

/// What a request is told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Told {
    /// None when it may pass.
    pub(super) refused: Option<Refused>,
    /// Where the account stands now.
    pub(super) quota: Quota,
    pub(super) receipt: Receipt,
}

/// Why a request may not pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Refused {
    pub(super) over: Over,
    /// How long until it could; None when that hangs on when others end.
    pub(super) wait: Option<Duration>,
}

/// Which limit a request went over; of several the one that holds longest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Over {
    AtOnce,
    Day,
    Minute,
    Ramp,
}

/// What was taken, for a later correction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Receipt {
    account: u64,
    epoch: u64,
    at: Duration,
}

impl Limiter {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, accounts: HashMap::new(), epoch: 0 }
    }

    /// Lets a request pass and takes what it needs, or refuses it and takes nothing.
    pub(super) fn check(&mut self, at: Duration, account: u64, tokens: u64) -> Told {
        self.open(at, account);
        let Self { limits, accounts, epoch } = self;
        let state = accounts.get_mut(&account).expect("it was opened above");
        state.bring_up(at, limits);
        let refused = state.refusal(at, limits, tokens);
        if refused.is_none() {
            state.take(limits, tokens);
        }
        let over = refused.map(|refused| refused.over);
        let gauge = |measure, asked| state.gauge(at, limits, measure, over, asked);
        let quota = Quota {
            requests: gauge(Measure::Requests, 1),
            tokens: gauge(Measure::Tokens, tokens),
            ..Quota::default()
        };
        // Clocks of several threads are read in one order and come here in another.
        let newest = state.meters.iter().map(|meter| meter.since).max().unwrap_or_default();
        let receipt = Receipt { account, epoch: *epoch, at: at.max(newest) };
        Told { refused, quota, receipt }
    }

    /// Gives back tokens that were reserved but not used, or takes more (below zero). What was
    /// taken in a window that is over is over with it.
    pub(super) fn correct(&mut self, receipt: Receipt, tokens: i64) {
        let Self { limits, accounts, epoch } = self;
        let account = accounts.get_mut(&receipt.account).filter(|_| receipt.epoch == *epoch);
        let Some(state) = account else { return };
        for (limit, meter) in limits.counted.iter().zip(&mut state.meters) {
            let current = limit.counting == Counting::TokenBucket || receipt.at >= meter.since;
            if limit.measure == Measure::Tokens && current {
                meter.level = (meter.level + tokens as f64).min(limit.burst);
            }
        }
    }

    /// A request that passed has been answered.
    pub(super) fn ended(&mut self, receipt: Receipt) {
        let account = self.accounts.get_mut(&receipt.account);
        if let Some(state) = account.filter(|_| receipt.epoch == self.epoch) {
            state.running = state.running.saturating_sub(1);
        }
    }

    /// Forgets all accounts.
    pub(super) fn clear(&mut self) {
        self.accounts.clear();
        self.epoch += 1;
    }

    fn open(&mut self, at: Duration, account: u64) {
        if self.accounts.len() >= ACCOUNTS && !self.accounts.contains_key(&account) {
            self.forget_half();
        }
        let fresh = || Account {
            meters: self
                .limits
                .counted
                .iter()
                .map(|limit| Meter { level: limit.start, since: at })
                .collect(),
            running: 0,
            climb: Climb { before: 0.0, now: 0.0, since: at },
            used: at,
        };
        let state = self.accounts.entry(account).or_insert_with(fresh);
        state.used = state.used.max(at);
    }

    /// Forgets the half that was used least lately (half at once, so that a flood of new accounts
    /// costs little each). Accounts with requests under way stay.
    fn forget_half(&mut self) {
        let mut used: Vec<Duration> = self.accounts.values().map(|state| state.used).collect();
        let middle = used.len() / 2;
        let (_, median, _) = used.select_nth_unstable(middle);
        let median = *median;
        self.accounts.retain(|_, state| state.used > median || state.running > 0);
    }
}

impl Account {
    /// Adds what has flowed back since last time.
    fn bring_up(&mut self, at: Duration, limits: &Limits) {
        for (limit, meter) in limits.counted.iter().zip(&mut self.meters) {
            let passed = at.saturating_sub(meter.since);
            match limit.counting {
                Counting::TokenBucket => {
                    let flowed = limit.per_second() * passed.as_secs_f64();
                    meter.level = limit.burst.min(meter.level + flowed);
                    meter.since = meter.since.max(at);
                }
                Counting::FixedWindow => {
                    let windows = whole_windows(passed, limit.period);
                    if windows > 0 {
                        meter.since += limit.period * windows;
                        meter.level = limit.burst;
                    }
                }
            }
        }
        if let Some(ramp) = limits.ramp {
            let windows = whole_windows(at.saturating_sub(self.climb.since), ramp.window);
            if windows > 0 {
                let before = if windows == 1 { self.climb.now } else { 0.0 };
                let since = self.climb.since + ramp.window * windows;
                self.climb = Climb { before, now: 0.0, since };
            }
        }
    }

    /// Why this request may not pass.
    fn refusal(&self, at: Duration, limits: &Limits, tokens: u64) -> Option<Refused> {
        let meters = limits.counted.iter().zip(&self.meters).filter_map(|(limit, meter)| {
            let wait = limit.until(at, *meter, limit.asked(tokens))?;
            let over = if limit.period > MINUTE { Over::Day } else { Over::Minute };
            Some(Refused { over, wait: Some(wait) })
        });
        let climb = limits.ramp.filter(|ramp| self.climb.now + 1.0 > self.ceiling(*ramp) + TINY);
        let climb = climb.map(|ramp| Refused {
            over: Over::Ramp,
            wait: Some((self.climb.since + ramp.window).saturating_sub(at)),
        });
        let full = limits.at_once.is_some_and(|most| self.running >= most);
        let full = full.then_some(Refused { over: Over::AtOnce, wait: None });
        meters.chain(climb).chain(full).max_by_key(|refused| refused.wait)
    }

    /// The most requests of this window.
    fn ceiling(&self, ramp: Ramp) -> f64 {
        ramp.base.max(ramp.growth * self.climb.before)
    }

    fn take(&mut self, limits: &Limits, tokens: u64) {
        for (limit, meter) in limits.counted.iter().zip(&mut self.meters) {
            meter.level -= limit.asked(tokens);
        }
        self.climb.now += 1.0;
        self.running += u32::from(limits.at_once.is_some());
    }

    /// Where a measure stands: by the minute, but by the day where that refused or stands alone.
    fn gauge(
        &self,
        at: Duration,
        limits: &Limits,
        measure: Measure,
        over: Option<Over>,
        asked: u64,
    ) -> Option<Gauge> {
        let mut of_it: Vec<_> = limits.counted.iter().zip(&self.meters).collect();
        of_it.retain(|(limit, _)| limit.measure == measure);
        of_it.sort_by_key(|(limit, _)| limit.period);
        let shown = if over == Some(Over::Day) { of_it.last() } else { of_it.first() };
        shown.map(|(limit, meter)| limit.gauge(at, **meter, asked))
    }
}

fn whole_windows(passed: Duration, window: Duration) -> u32 {
    u32::try_from(passed.as_nanos() / window.as_nanos().max(1)).unwrap_or(u32::MAX)
}

impl Limit {
    fn per_second(&self) -> f64 {
        self.count as f64 / self.period.as_secs_f64()
    }

    /// What a request with so many tokens asks of it.
    fn asked(&self, tokens: u64) -> f64 {
        match self.measure {
            Measure::Requests => 1.0,
            Measure::Tokens => tokens as f64,
        }
    }

    /// How long until so much can be had; None when it can be had now.
    fn until(&self, at: Duration, meter: Meter, asked: f64) -> Option<Duration> {
        let missing = asked.min(self.enough) - meter.level;
        if missing <= TINY {
            return None;
        }
        Some(match self.counting {
            Counting::FixedWindow => (meter.since + self.period).saturating_sub(at),
            Counting::TokenBucket => self.flow(missing),
        })
    }

    /// The time in which so much flows back.
    fn flow(&self, amount: f64) -> Duration {
        Duration::try_from_secs_f64(amount.max(0.0) / self.per_second()).unwrap_or(Duration::MAX)
    }

    fn gauge(&self, at: Duration, meter: Meter, requested: u64) -> Gauge {
        Gauge {
            limit: self.count,
            remaining: (meter.level + TINY).max(0.0) as u64,
            reset: match self.counting {
                Counting::FixedWindow => (meter.since + self.period).saturating_sub(at),
                Counting::TokenBucket => self.flow(self.burst - meter.level),
            },
            requested,
        }
    }
}

/// Less than this is a rounding error, not a shortfall.
const TINY: f64 = 1e-6;

#[cfg(test)]
mod tests;
