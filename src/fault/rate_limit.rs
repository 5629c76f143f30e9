//! A provider's rate limit: real accounts of requests and tokens, answered with 429 in the
//! provider's words once they are used up.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode, request, response};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Deserialize;

use super::limiter::{Counting, Limit, Limiter, Receipt, Told};
use super::place::unreadable;
use super::{Arming, Effect, Fault, Impossible, Invalid, NO_REQUESTS, Orders, Spec};
use crate::dialect::{Answer, Dialect, Failure, Gauge, Quota};
use crate::dice::hash_bytes;
use crate::exchange::{Exchange, Grain, Item, Level, Operation};
use crate::units::{BadUnit, Span, unit};

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
    /// Requests let through at once after a quiet time (`token_bucket` alone), from 1. Default: a
    /// second's worth; where that is less than 2, it is 2, of which 1 is there at the start. A larger burst lets that many
    /// more requests through in the first minute.
    pub burst: Option<u64>,
    /// Who has an account: the `dependency` as a whole, each `api_key`, `user` or `session`.
    /// Requests that do not say whose they are share one. Default dependency.
    pub scope: Option<Scope>,
    /// How it counts: `token_bucket` (used up requests flow back evenly) or `fixed_window` (the
    /// count begins anew each minute from the first request). Default token_bucket.
    pub algorithm: Option<Algorithm>,
    /// What a refused client is told: a fixed time (20s), `accurate` (the time until the same
    /// request would pass if no other came first), `lying` (a tenth of that) or `none`.
    /// Default accurate.
    pub retry_after: Option<RetryAfter>,
    /// The provider's headers about what is left, on passing answers too: `accurate`, `lying`
    /// (all is left, always) or `none`. Default accurate.
    pub headers: Option<Honesty>,
}

/// Who has an account of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    ApiKey,
    #[default]
    Dependency,
    Session,
    User,
}

/// How a limit is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// The count begins anew each minute.
    FixedWindow,
    /// What is used up flows back evenly.
    #[default]
    TokenBucket,
}

/// What a refused client is told about its next try.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum RetryAfter {
    /// The time until the same request would pass.
    #[default]
    Accurate,
    /// This time, whatever is true.
    Fixed(Duration),
    /// A tenth of the true time.
    Lying,
    None,
}

/// Whether headers tell the truth.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Honesty {
    #[default]
    Accurate,
    /// All is left, always.
    Lying,
    /// Silent.
    None,
}

impl Spec for RateLimit {
    const NAME: &'static str = "rate_limit";
    const SUMMARY: &'static str = "a provider's limit of requests and tokens per minute (429)";
    const EXAMPLE: &'static str =
        "{ requests_per_minute: 60, tokens_per_minute: 20000, scope: api_key }";

    fn build(&self) -> Result<Box<dyn Fault>, Invalid> {
        if self.requests_per_minute.is_none() && self.tokens_per_minute.is_none() {
            return Err(Invalid::new(
                "",
                "no limit is named; write `requests_per_minute: 60`, `tokens_per_minute: 20000` or both",
            ));
        }
        for (field, value) in [
            ("requests_per_minute", self.requests_per_minute),
            ("tokens_per_minute", self.tokens_per_minute),
            ("burst", self.burst),
        ] {
            if value == Some(0) {
                return Err(Invalid::new(
                    field,
                    format!("`{field}: 0` lets nothing through; write 1 or more, or use `error` or `outage`"),
                ));
            }
        }
        let algorithm = self.algorithm.unwrap_or_default();
        if self.burst.is_some() {
            if algorithm == Algorithm::FixedWindow {
                return Err(Invalid::new("burst", "a fixed window has no burst: its whole minute may be used at once"));
            }
            if self.requests_per_minute.is_none() {
                return Err(Invalid::new("burst", "`burst` counts requests and needs `requests_per_minute`"));
            }
        }
        let counting = match algorithm {
            Algorithm::FixedWindow => Counting::FixedWindow,
            Algorithm::TokenBucket => Counting::TokenBucket,
        };
        let requests = self.requests_per_minute.map(|count| limit_requests(counting, count, self.burst));
        let tokens = self.tokens_per_minute.map(|count| limit_tokens(counting, count));
        Ok(Box::new(Loaded {
            scope: self.scope.unwrap_or_default(),
            retry_after: self.retry_after.unwrap_or_default(),
            headers: self.headers.unwrap_or_default(),
            tokens_per_minute: self.tokens_per_minute,
            shared: Arc::new(Mutex::new(Shared {
                limiter: Limiter::new(counting, requests, tokens),
                usual_answer: UNKNOWN_ANSWER,
            })),
        }))
    }
}

/// A bucket of one second's worth keeps the rate within 1/60 over any minute. But one that must be
/// full before a request can pass loses what flows back until the next request comes; so small
/// ones hold twice as much as they begin with.
fn limit_requests(counting: Counting, per_minute: u64, burst: Option<u64>) -> Limit {
    let (whole, second) = (per_minute as f64, per_minute as f64 / 60.0);
    let (burst, start) = match (counting, burst) {
        (Counting::FixedWindow, _) => (whole, whole),
        (Counting::TokenBucket, Some(burst)) => (burst as f64, burst as f64),
        (Counting::TokenBucket, None) if second < 2.0 => (2.0, 1.0),
        (Counting::TokenBucket, None) => (second, second),
    };
    Limit { per_minute, burst, start, enough: burst }
}

fn limit_tokens(counting: Counting, per_minute: u64) -> Limit {
    let (whole, second) = (per_minute as f64, per_minute as f64 / 60.0);
    match counting {
        Counting::FixedWindow => Limit { per_minute, burst: whole, start: whole, enough: whole },
        Counting::TokenBucket => {
            Limit { per_minute, burst: 2.0 * second, start: second, enough: second }
        }
    }
}

#[derive(Debug)]
struct Loaded {
    scope: Scope,
    retry_after: RetryAfter,
    headers: Honesty,
    tokens_per_minute: Option<u64>,
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
        self.tokens_per_minute.is_some()
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
            tokens_per_minute: self.tokens_per_minute,
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

impl Scope {
    /// The account of an exchange. The key itself is never kept, only its hash.
    fn account(self, exchange: &Exchange) -> u64 {
        let of = |text: &Option<String>| text.as_deref().map_or(0, |text| hash_bytes(text.as_bytes()));
        let who = match self {
            Self::ApiKey => exchange.api_key.unwrap_or(0),
            Self::Dependency => 0,
            Self::Session => of(&exchange.session),
            Self::User => of(&exchange.user),
        };
        hash_bytes(exchange.dependency.as_bytes()).rotate_left(29) ^ who
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
    tokens_per_minute: Option<u64>,
    retry_after: RetryAfter,
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
        if self.tokens_per_minute.is_some() { Grain::Event } else { Grain::Head }
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
        match told.wait {
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
            Some(wait) => {
                out.note("passes_after", wait.as_secs_f64());
                out.answer(self.refusal(wait, told));
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
            && self.tokens_per_minute.is_some()
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
    /// Tokens to reserve; never more than a minute has, or the request could not pass at all.
    fn reserve(&self, usual_answer: f64) -> u64 {
        let answer = self.max_answer.unwrap_or(usual_answer.round() as u64);
        (self.prompt + answer).min(self.tokens_per_minute.unwrap_or(u64::MAX))
    }

    fn refusal(&self, wait: Duration, told: Told) -> Answer {
        let mut quota = told.quota;
        let retry_after = match self.retry_after {
            RetryAfter::Accurate => Some(millis_up(wait)),
            RetryAfter::Fixed(time) => {
                for gauge in [&mut quota.requests, &mut quota.tokens].into_iter().flatten() {
                    gauge.reset = time;
                }
                Some(time)
            }
            RetryAfter::Lying => Some(wait / 10),
            RetryAfter::None => None,
        };
        let told = self.headers.tell(quota);
        let mut answer = self.dialect.failure(&Failure {
            status: Some(StatusCode::TOO_MANY_REQUESTS),
            class: Some("rate_limit"),
            model: self.model.as_deref(),
            retry_after,
            message: None,
            quota: Some(told.unwrap_or(quota)),
            id: self.id,
            ..Failure::default()
        });
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

/// Whole milliseconds, rounded up: a client that obeys to the millisecond does not come too early.
fn millis_up(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
}

impl Drop for Limited {
    /// Corrects the account when the exchange is over, for whatever reason.
    fn drop(&mut self) {
        let (Some(passed), Some(_)) = (&self.passed, self.tokens_per_minute) else { return };
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

impl Honesty {
    /// What is told of a quota.
    fn tell(self, quota: Quota) -> Option<Quota> {
        let flatter = |gauge: Option<Gauge>| {
            gauge.map(|gauge| Gauge {
                remaining: gauge.limit.saturating_sub(gauge.requested),
                reset: Duration::from_millis(1),
                ..gauge
            })
        };
        match self {
            Self::Accurate => Some(quota),
            Self::Lying => {
                let (requests, tokens) = (flatter(quota.requests), flatter(quota.tokens));
                Some(Quota { requests, tokens, ..quota })
            }
            Self::None => None,
        }
    }
}

impl FromStr for RetryAfter {
    type Err = BadUnit;

    fn from_str(text: &str) -> Result<Self, BadUnit> {
        match text.trim() {
            "accurate" => Ok(Self::Accurate),
            "lying" => Ok(Self::Lying),
            "none" => Ok(Self::None),
            other => match other.parse::<Span>() {
                Ok(span) => Ok(Self::Fixed(span.0)),
                Err(error) if other.starts_with(|c: char| c.is_ascii_digit()) => Err(error),
                Err(_) => Err(BadUnit(format!(
                    "`{other}` is not known here; write a time such as 20s, or accurate, lying or none"
                ))),
            },
        }
    }
}

impl fmt::Display for RetryAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accurate => f.write_str("accurate"),
            Self::Fixed(time) => write!(f, "{}", Span(*time)),
            Self::Lying => f.write_str("lying"),
            Self::None => f.write_str("none"),
        }
    }
}

unit!(RetryAfter, "a time such as 20s, or accurate, lying or none", {
    "type": "string",
    "pattern": "^\\s*(accurate|lying|none|([0-9.]+\\s*(us|µs|ms|s|m|min|h|d)\\s*)+)$",
    "examples": ["accurate", "20s", "lying", "none"]
});

#[cfg(test)]
mod tests;
