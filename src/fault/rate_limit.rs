//! A provider's rate limit: real accounts of requests and tokens, answered with 429 in the
//! provider's words once they are used up.

mod options;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode, request, response};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Deserialize;

use self::options::{Algorithm, Honesty, RampUp, RetryAfter, Scope};
use super::limiter::{
    Counting, DAY, Limit, Limiter, Limits, MINUTE, Measure, Over, Receipt, Refused, Told,
};
use super::place::unreadable;
use super::{Arming, Effect, Fault, Impossible, Invalid, NO_REQUESTS, Orders, Spec};
use crate::dialect::{Answer, Dialect, Failure, Quota};
use crate::exchange::{Grain, Item, Level, Operation};

/// Tokens reserved for an answer when neither the request nor earlier answers tell its length.
const UNKNOWN_ANSWER: f64 = 256.0;

/// A rate limit with accounts of its own: whether a request passes depends on the requests before
/// it, so on the order in which they come.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Requests per minute. From 1. Default: no limit.
    pub requests_per_minute: Option<u64>,
    /// Tokens of prompts and answers per minute. From 1. A request reserves its prompt and its
    /// `max_tokens` (else what answers have had so far); what it did not use flows back when its
    /// answer ends, streamed or not. A request larger than a second's worth passes when that much is
    /// there, and the rest is owed. Default: no limit.
    pub tokens_per_minute: Option<u64>,
    /// Requests per day, from 1. The day of an account begins with its first request and lasts 24
    /// hours; the count begins anew then. Refused in the provider's words for a quota that is used
    /// up, without a time unless `retry_after` says one. Default: no limit.
    pub requests_per_day: Option<u64>,
    /// Tokens of prompts and answers per day, reserved and corrected like those of a minute, counted
    /// like `requests_per_day`. From 1. Default: no limit.
    pub tokens_per_day: Option<u64>,
    /// Requests that may be under way at once, from 1: each counts from its pass to the end of its
    /// answer, or until its client goes away; a WebSocket until it closes. Default: no limit.
    pub concurrent_requests: Option<u32>,
    /// How steeply the load may rise, although it is below the other limits: in each `every` at most
    /// `growth` times the requests that passed in the one before, and never less than `base`. Refused
    /// in the provider's words for that (OpenAI: `slow_down`), without a time unless `retry_after`
    /// says one. Default: as steeply as it likes.
    pub ramp_up: Option<RampUp>,
    /// Requests let through at once after a quiet time (`token_bucket` alone), from 1. Default: a
    /// second's worth; where that is less than 2, it is 2, of which 1 is there at the start. A larger burst lets that many
    /// more requests through in the first minute.
    pub burst: Option<u64>,
    /// Who has an account: the `dependency` as a whole, each `api_key`, `user`, `session` or `model`.
    /// Requests that do not say whose they are share one. Default dependency.
    pub scope: Option<Scope>,
    /// How minutes are counted: `token_bucket` (used up requests flow back evenly) or `fixed_window` (the
    /// count begins anew each minute from the first request). Default token_bucket.
    pub algorithm: Option<Algorithm>,
    /// What a refused client is told: a fixed time (20s), `accurate` (the time until the same
    /// request would pass if no other came first), `huge` (a day), `lying` (a tenth of the true
    /// time) or `none`. Where the limit of requests at once refused, nobody knows the true time, and
    /// none is told. Default accurate for limits per minute, none for the others.
    pub retry_after: Option<RetryAfter>,
    /// The provider's headers about what is left, on passing answers too: `accurate`, `lying`
    /// (all is left, always) or `none`. Default accurate.
    pub headers: Option<Honesty>,
}

impl Spec for RateLimit {
    const NAME: &'static str = "rate_limit";
    const SUMMARY: &'static str =
        "a provider's limits of requests and tokens: per minute, per day, at once (429)";
    const EXAMPLE: &'static str =
        "{ requests_per_minute: 60, tokens_per_minute: 20000, scope: api_key }";

    fn build(&self) -> Result<Box<dyn Fault>, Invalid> {
        self.check_counts()?;
        let limits = Limits {
            counted: self.counted(),
            at_once: self.concurrent_requests,
            ramp: self.ramp_up.map(RampUp::check).transpose()?,
        };
        Ok(Box::new(Loaded {
            scope: self.scope.unwrap_or_default(),
            retry_after: self.retry_after,
            headers: self.headers.unwrap_or_default(),
            most_tokens: self.tokens_per_minute.into_iter().chain(self.tokens_per_day).min(),
            gives_back: self.concurrent_requests.is_some(),
            shared: Arc::new(Mutex::new(Shared {
                limiter: Limiter::new(limits),
                usual_answer: UNKNOWN_ANSWER,
            })),
        }))
    }
}

impl RateLimit {
    fn check_counts(&self) -> Result<(), Invalid> {
        let counts = [
            ("requests_per_minute", self.requests_per_minute),
            ("tokens_per_minute", self.tokens_per_minute),
            ("requests_per_day", self.requests_per_day),
            ("tokens_per_day", self.tokens_per_day),
            ("concurrent_requests", self.concurrent_requests.map(u64::from)),
            ("burst", self.burst),
        ];
        if let Some((field, _)) = counts.into_iter().find(|(_, count)| *count == Some(0)) {
            return Err(Invalid::new(
                field,
                format!("`{field}: 0` lets nothing through; write 1 or more, or use `error` or `outage`"),
            ));
        }
        let limited = counts[..5].iter().any(|(_, count)| count.is_some());
        if !limited && self.ramp_up.is_none() {
            return Err(Invalid::new(
                "",
                "no limit is named; write for example `requests_per_minute: 60`, `tokens_per_minute: 20000`, `requests_per_day: 200`, `concurrent_requests: 8` or `ramp_up: { base: 60/min }`",
            ));
        }
        let per_minute = self.requests_per_minute.or(self.tokens_per_minute);
        if self.algorithm.is_some() && per_minute.is_none() {
            return Err(Invalid::new(
                "algorithm",
                "`algorithm` says how minutes are counted and needs `requests_per_minute` or `tokens_per_minute`",
            ));
        }
        if self.burst.is_some() {
            if self.algorithm == Some(Algorithm::FixedWindow) {
                return Err(Invalid::new("burst", "a fixed window has no burst: its whole minute may be used at once"));
            }
            if self.requests_per_minute.is_none() {
                return Err(Invalid::new("burst", "`burst` counts requests and needs `requests_per_minute`"));
            }
        }
        Ok(())
    }

    /// The limits that count over a time.
    fn counted(&self) -> Vec<Limit> {
        let counting = match self.algorithm.unwrap_or_default() {
            Algorithm::FixedWindow => Counting::FixedWindow,
            Algorithm::TokenBucket => Counting::TokenBucket,
        };
        let requests = self.requests_per_minute.map(|count| per_minute(counting, count, self.burst));
        let tokens = self.tokens_per_minute.map(|count| tokens_per_minute(counting, count));
        let requests_daily = self.requests_per_day.map(|count| window(Measure::Requests, count, DAY));
        let tokens_daily = self.tokens_per_day.map(|count| window(Measure::Tokens, count, DAY));
        [requests, tokens, requests_daily, tokens_daily].into_iter().flatten().collect()
    }
}

/// A bucket of one second's worth keeps the rate within 1/60 over any minute. But one that must be
/// full before a request can pass loses what flows back until the next request comes; so small
/// ones hold twice as much as they begin with.
fn per_minute(counting: Counting, count: u64, burst: Option<u64>) -> Limit {
    let second = count as f64 / 60.0;
    let (burst, start) = match (counting, burst) {
        (Counting::FixedWindow, _) => return window(Measure::Requests, count, MINUTE),
        (Counting::TokenBucket, Some(burst)) => (burst as f64, burst as f64),
        (Counting::TokenBucket, None) if second < 2.0 => (2.0, 1.0),
        (Counting::TokenBucket, None) => (second, second),
    };
    Limit { burst, start, enough: burst, counting, ..window(Measure::Requests, count, MINUTE) }
}

fn tokens_per_minute(counting: Counting, count: u64) -> Limit {
    let (whole, second) = (window(Measure::Tokens, count, MINUTE), count as f64 / 60.0);
    match counting {
        Counting::FixedWindow => whole,
        Counting::TokenBucket => {
            Limit { counting, burst: 2.0 * second, start: second, enough: second, ..whole }
        }
    }
}

/// A count that begins anew each period.
fn window(measure: Measure, count: u64, period: Duration) -> Limit {
    let (counting, all) = (Counting::FixedWindow, count as f64);
    Limit { measure, counting, count, period, burst: all, start: all, enough: all }
}

#[derive(Debug)]
struct Loaded {
    scope: Scope,
    retry_after: Option<RetryAfter>,
    headers: Honesty,
    /// The least that a limit of tokens has; None: tokens are not counted.
    most_tokens: Option<u64>,
    /// What passed is given back when its answer ends.
    gives_back: bool,
    shared: Arc<Mutex<Shared>>,
}

/// What all exchanges share.
#[derive(Debug)]
struct Shared {
    limiter: Limiter,
    /// Tokens of answers so far, evenly forgotten.
    usual_answer: f64,
}

impl Fault for Loaded {
    fn needs_request_body(&self) -> bool {
        self.most_tokens.is_some() || self.scope == Scope::Model
    }

    fn arm(&self, arming: &mut Arming<'_>) -> Result<Box<dyn Effect>, Impossible> {
        if arming.exchange.level == Level::Connection {
            return Err(NO_REQUESTS);
        }
        arming.before_answer()?;
        let facts = &arming.exchange.facts;
        Ok(Box::new(Limited {
            shared: Arc::clone(&self.shared),
            account: self.scope.account(arming.exchange),
            dialect: arming.dialect,
            operation: facts.operation,
            model: facts.model.clone(),
            prompt: u64::from(facts.prompt_tokens),
            max_answer: match facts.operation {
                Operation::Chat => facts.max_tokens.map(u64::from),
                // Embeddings and searches answer with no tokens.
                _ => Some(0),
            },
            most_tokens: self.most_tokens,
            gives_back: self.gives_back,
            retry_after: self.retry_after,
            headers: self.headers,
            id: arming.draw.fork("id").bits(),
            epoch: arming.epoch,
            passed: None,
        }))
    }

    fn reset(&self) {
        self.shared.lock().limiter.clear();
    }
}

struct Limited {
    shared: Arc<Mutex<Shared>>,
    account: u64,
    dialect: &'static dyn Dialect,
    operation: Operation,
    model: Option<String>,
    /// Tokens of the prompt, as estimated.
    prompt: u64,
    /// Tokens the answer may have, where that is known.
    max_answer: Option<u64>,
    most_tokens: Option<u64>,
    gives_back: bool,
    retry_after: Option<RetryAfter>,
    headers: Honesty,
    id: u64,
    /// When the run began, since 1970.
    epoch: Duration,
    /// Set once the request has passed.
    passed: Option<Passed>,
}

/// A request that has passed, and what its answer is known to have used.
struct Passed {
    reserved: u64,
    receipt: Receipt,
    quota: Quota,
    answer: AnswerKind,
    counted: u64,
    /// Of prompt and answer, as far as the provider has counted; some tell them in two events.
    usage: Option<(u32, u32)>,
}

/// How the tokens of an answer are known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AnswerKind {
    Counted,
    /// It failed and has used nothing.
    Failed,
    /// It cannot be read: the reserve stays.
    Unreadable,
}

impl Effect for Limited {
    fn grain(&self) -> Grain {
        if self.most_tokens.is_some() { Grain::Event } else { Grain::Head }
    }

    fn on_request(&mut self, at: Duration, _: &mut request::Parts, out: &mut Orders) {
        if self.passed.is_some() {
            return;
        }
        let (reserved, mut told) = {
            let mut shared = self.shared.lock();
            let reserved = self.reserve(shared.usual_answer);
            (reserved, shared.limiter.check(at, self.account, reserved))
        };
        told.quota.now = self.epoch + at;
        match told.refused {
            None => {
                out.let_go("within the limit");
                self.passed = Some(Passed {
                    reserved,
                    receipt: told.receipt,
                    quota: told.quota,
                    answer: AnswerKind::Counted,
                    counted: 0,
                    usage: None,
                });
            }
            Some(refused) => {
                if let Some(wait) = refused.wait {
                    out.note("passes_after", wait.as_secs_f64());
                }
                out.answer(self.refusal(refused, told));
            }
        }
    }

    fn on_response(
        &mut self,
        _: Duration,
        _: Duration,
        head: &mut response::Parts,
        _: &mut Orders,
    ) {
        let Some(passed) = &mut self.passed else { return };
        if !head.status.is_success() {
            passed.answer = AnswerKind::Failed;
        } else if unreadable(head).is_some() {
            passed.answer = AnswerKind::Unreadable;
        }
        let Some(quota) = self.headers.tell(passed.quota) else { return };
        for (name, value) in self.dialect.quota_headers(&quota) {
            if let (Ok(name), Ok(value)) =
                (HeaderName::try_from(name), HeaderValue::try_from(value))
            {
                head.headers.insert(name, value);
            }
        }
    }

    fn on_item(&mut self, _: Duration, item: Item, out: &mut Orders) {
        if let Some(passed) = &mut self.passed
            && self.most_tokens.is_some()
            && passed.answer == AnswerKind::Counted
        {
            let reading = match &item {
                Item::Event(event) => Some(self.dialect.read_event(self.operation, event)),
                Item::Message(body) => Some(self.dialect.read_message(self.operation, body)),
                Item::Bytes(_) => None,
            };
            if let Some(reading) = reading {
                // Of other operations the dialect can only guess from the size.
                if self.operation == Operation::Chat {
                    passed.counted += u64::from(reading.tokens);
                }
                if let Some((prompt, completion)) = reading.usage {
                    let (before, so_far) = passed.usage.unwrap_or_default();
                    passed.usage = Some((before.max(prompt), so_far.max(completion)));
                }
            }
        }
        out.send(item);
    }
}

impl Limited {
    /// Tokens to reserve; never more than a limit has, or the request could not pass at all.
    fn reserve(&self, usual_answer: f64) -> u64 {
        let answer = self.max_answer.unwrap_or(usual_answer.round() as u64);
        (self.prompt + answer).min(self.most_tokens.unwrap_or(u64::MAX))
    }

    fn refusal(&self, refused: Refused, told: Told) -> Answer {
        let mut quota = told.quota;
        let retry_after = match self.retry_after.unwrap_or(usual_word(refused.over)) {
            RetryAfter::Accurate => refused.wait.map(millis_up),
            RetryAfter::Fixed(time) => Some(time),
            RetryAfter::Huge => Some(DAY),
            RetryAfter::Lying => refused.wait.map(|wait| wait / 10),
            RetryAfter::None => None,
        };
        if let Some(RetryAfter::Fixed(time)) = self.retry_after {
            for gauge in [&mut quota.requests, &mut quota.tokens].into_iter().flatten() {
                gauge.reset = time;
            }
        }
        // The numbers of a minute are not why a request of too many at once is refused.
        let counted = matches!(refused.over, Over::Day | Over::Minute);
        let told = self.headers.tell(quota);
        let failing = |status, class| {
            self.dialect.failure(&Failure {
                status,
                class: Some(class),
                model: self.model.as_deref(),
                retry_after,
                message: None,
                quota: counted.then_some(told.unwrap_or(quota)),
                id: self.id,
                ..Failure::default()
            })
        };
        let rate_limit = || failing(Some(StatusCode::TOO_MANY_REQUESTS), "rate_limit");
        let mut answer = match refused.over {
            Over::AtOnce | Over::Minute => rate_limit(),
            // A provider whose word for a quota is another (a full disk, a bill) has none for this.
            Over::Day => Some(failing(None, "quota"))
                .filter(|answer| answer.status == StatusCode::TOO_MANY_REQUESTS)
                .unwrap_or_else(rate_limit),
            Over::Ramp => failing(None, "slow_down"),
        };
        let about_quota = self.dialect.quota_headers(&quota);
        answer.headers.retain(|(name, _)| {
            let about_time = name.to_ascii_lowercase().starts_with("retry-after");
            let untold = about_time && retry_after.is_none();
            !untold && !about_quota.iter().any(|(quota, _)| quota.eq_ignore_ascii_case(name))
        });
        if let Some(quota) = told {
            let headers = self.dialect.quota_headers(&quota);
            answer.headers.extend(headers.into_iter().map(|(name, value)| (name.to_owned(), value)));
        }
        answer
    }
}

/// What a provider says by itself when this limit refuses.
fn usual_word(over: Over) -> RetryAfter {
    match over {
        Over::AtOnce | Over::Minute => RetryAfter::Accurate,
        Over::Day | Over::Ramp => RetryAfter::None,
    }
}

/// Whole milliseconds, rounded up: a client that obeys to the millisecond does not come too early.
fn millis_up(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
}

impl Drop for Limited {
    /// Settles the account when the exchange is over, for whatever reason.
    fn drop(&mut self) {
        let Some(passed) = &self.passed else { return };
        if self.gives_back {
            self.shared.lock().limiter.ended(passed.receipt);
        }
        if self.most_tokens.is_none() {
            return;
        }
        let used = match passed.answer {
            AnswerKind::Counted => passed.usage.map_or(
                self.prompt + passed.counted,
                |(prompt, completion)| u64::from(prompt) + u64::from(completion),
            ),
            AnswerKind::Failed => 0,
            AnswerKind::Unreadable => return,
        };
        let mut shared = self.shared.lock();
        let unused = passed.reserved as i64 - used.min(1 << 40) as i64;
        shared.limiter.correct(passed.receipt, unused);
        if self.max_answer != Some(0) && passed.counted > 0 {
            shared.usual_answer += 0.1 * (passed.counted as f64 - shared.usual_answer);
        }
    }
}

#[cfg(test)]
mod tests;
