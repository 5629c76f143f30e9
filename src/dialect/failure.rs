//! What a provider says when it fails: the failure as faults name it, and the answer in its words.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;

use crate::exchange::Operation;

/// A failure that a dialect puts into its provider's words.
#[derive(Clone, Debug, Default)]
pub struct Failure<'a> {
    pub status: Option<StatusCode>,
    /// The class in the provider's words, such as `rate_limit`, `overloaded`, `quota`, `auth`.
    pub class: Option<&'a str>,
    /// The provider's own code: an SQLSTATE, the first word of a Redis error.
    pub code: Option<&'a str>,
    pub model: Option<&'a str>,
    pub retry_after: Option<Duration>,
    pub message: Option<&'a str>,
    /// Set when a rate limit answered: its numbers go into the message.
    pub quota: Option<Quota>,
    /// It is said when a connection begins, not in answer to a request.
    pub connecting: bool,
    /// The body of the request that fails, as far as it was read.
    pub request: &'a [u8],
    /// What was asked for, where that is known.
    pub operation: Operation,
    /// 64 seeded bits for ids (`x-request-id`).
    pub id: u64,
}

/// How a stream is to end.
#[derive(Clone, Copy, Debug)]
pub struct Finish<'a> {
    /// A name of `Reason` (`length`, `stop`, …), or a word of the provider's own.
    pub reason: &'a str,
    /// The tokens that came before it, for the provider's count.
    pub tokens: u64,
}

/// Where a rate limit stands.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Quota {
    /// When it stands so, since 1970: some providers name times of the day.
    pub now: Duration,
    pub requests: Option<Gauge>,
    pub tokens: Option<Gauge>,
}

/// One measure of a rate limit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Gauge {
    pub limit: u64,
    pub remaining: u64,
    /// Until the limit is whole again.
    pub reset: Duration,
    /// What this request asked of it.
    pub requested: u64,
}

/// An answer that we make up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: StatusCode,
    /// In wire order, in the provider's case.
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

/// The classes of failure that `error: { as: … }` names, for every dialect; each dialect words
/// them in its own way.
pub const FAILURE_CLASSES: &[&str] = &[
    "auth",
    "bad_request",
    "context_length",
    "html",
    "not_found",
    "overloaded",
    "quota",
    "rate_limit",
    "server_error",
    "slow_down",
    "timeout",
    "unavailable",
];

/// Classes of failure that stores have besides; each store has words for some of them.
pub const STORE_CLASSES: &[&str] = &[
    "busy",
    "deadlock",
    "disk_full",
    "loading",
    "lock_timeout",
    "moved",
    "not_loaded",
    "oom",
    "readonly",
    "serialization",
    "shard_unavailable",
    "shutdown",
    "too_many_connections",
];

/// Classes of failure that tools behind MCP have besides.
pub const TOOL_CLASSES: &[&str] = &["session_lost", "tool_error"];
