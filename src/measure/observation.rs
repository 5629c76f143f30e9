//! What the planes report: one call to a dependency, one request of the driver, one decision.
//! All times count from the start of the run.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Observation {
    /// An app's call to a dependency ended (proxy).
    Call(Box<Call>),
    /// A fault was considered for an exchange (engine).
    Decision(Box<DecisionLine>),
    /// A TLS handshake with the app failed, and no fault wanted it (proxy).
    Handshake(Box<FailedHandshake>),
    /// A request of the driver ended (load).
    Sample(Box<Sample>),
}

impl Observation {
    /// Moves all times to count from `origin`; false when it began before.
    pub fn count_from(&mut self, origin: Duration) -> bool {
        let moved = |at: &mut Duration| *at = at.saturating_sub(origin);
        match self {
            Self::Call(call) => {
                let began_before = call.at < origin;
                moved(&mut call.at);
                moved(&mut call.end);
                call.head.iter_mut().for_each(moved);
                call.first_byte.iter_mut().for_each(moved);
                !began_before
            }
            Self::Decision(line) => {
                line.at_s -= origin.as_secs_f64();
                line.at_s >= 0.0
            }
            Self::Handshake(failed) => {
                let began_before = failed.at < origin;
                moved(&mut failed.at);
                !began_before
            }
            Self::Sample(sample) => {
                let began_before = sample.scheduled < origin;
                moved(&mut sample.scheduled);
                moved(&mut sample.issued);
                moved(&mut sample.end);
                sample.head.iter_mut().for_each(moved);
                sample.first_byte.iter_mut().for_each(moved);
                sample.first_token.iter_mut().for_each(moved);
                sample.last_token.iter_mut().for_each(moved);
                !began_before
            }
        }
    }
}

/// One call of the app to a dependency, as the proxy saw it.
#[derive(Clone, Debug)]
pub struct Call {
    pub dependency: Arc<str>,
    /// When the request's head was read.
    pub at: Duration,
    /// When the answer's head was sent to the app.
    pub head: Option<Duration>,
    /// When the answer's first body byte was sent to the app.
    pub first_byte: Option<Duration>,
    pub end: Duration,
    /// The status the app saw; of a protocol's error what HTTP would say; None where there is none.
    pub status: Option<u16>,
    /// The `grpc-status` of a gRPC call: 0 is good, whatever `status` says.
    pub grpc_status: Option<u16>,
    pub ended: CallEnd,
    /// Whether the upstream was called at all.
    pub upstream: bool,
    /// Time that faults held this call back.
    pub injected_delay: Duration,
    /// The longest that a fault let the app wait for the next byte while it stayed.
    pub silence: Duration,
    /// Names of the faults that acted.
    pub faults: Vec<Arc<str>>,
    /// The client's own word on which attempt this is (`x-stainless-retry-count`), 0 for the first.
    pub retry: Option<u32>,
    /// The exchange's key, where it was computed (a fault was armed).
    pub key: Option<u64>,
    /// How long the answer told the client to wait (`retry-after`).
    pub retry_after: Option<Duration>,
    /// Whether the answer said that trying again is of no use (`x-should-retry: false`).
    pub no_retry: bool,
    /// Body bytes sent to the app.
    pub bytes: u64,
    /// Events of a stream sent to the app, where a fault looked at them.
    pub events: u64,
    /// A hash of who the app says is asking (`identify.user`), where it was computed.
    pub user: Option<u64>,
}

impl Call {
    /// A call that begins now; until something else is said, the app goes away.
    pub fn begun(dependency: &Arc<str>, at: Duration) -> Self {
        Self {
            dependency: Arc::clone(dependency),
            at,
            head: None,
            first_byte: None,
            end: at,
            status: None,
            grpc_status: None,
            ended: CallEnd::ClientGone,
            upstream: false,
            injected_delay: Duration::ZERO,
            silence: Duration::ZERO,
            faults: Vec::new(),
            retry: None,
            key: None,
            retry_after: None,
            no_retry: false,
            bytes: 0,
            events: 0,
            user: None,
        }
    }
}

/// A TLS handshake with the app that came to nothing although no fault touched it.
#[derive(Clone, Debug)]
pub struct FailedHandshake {
    pub dependency: Arc<str>,
    pub at: Duration,
    /// One word: `distrusted` when the app did not trust the certificate it was shown.
    pub reason: &'static str,
}

/// How a call ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CallEnd {
    /// The app went away first.
    ClientGone,
    /// The answer arrived whole.
    Complete,
    /// A fault ended it.
    Injected,
    /// The upstream broke off in mid-answer.
    UpstreamCut,
    /// The upstream could not be reached, or broke off before its head.
    UpstreamFailed,
}

/// A line of `decisions.jsonl`: one fault considered for one exchange.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DecisionLine {
    /// The exchange's key, 16 hex digits.
    pub key: String,
    /// How many exchanges with this key came before.
    pub ordinal: u32,
    /// The dependency that was called.
    pub dependency: Arc<str>,
    /// The kind it was read as: what `kind: auto` found, else the dependency's own.
    #[serde(default)]
    pub kind: Cow<'static, str>,
    /// The fault that was considered.
    pub fault: Arc<str>,
    /// Its `where` describes this exchange.
    pub matched: bool,
    /// Its percent chose this exchange.
    pub selected: bool,
    /// An effect acted.
    pub hit: bool,
    /// Of a fault in the shadow: an effect would have acted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub would_hit: Option<bool>,
    /// The part of `when` that did not hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_of_turn: Option<String>,
    /// Why an effect could not act.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub impossible: Option<String>,
    /// Why it was let go: it could act and had no cause to, or was kept from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub let_go: Option<String>,
    /// What was drawn and reached: `percent` (the roll, 0 to 100), delays in seconds, shares.
    pub drawn: std::collections::BTreeMap<String, f64>,
    /// When it was decided, in seconds since the run began.
    pub at_s: f64,
    /// The seed that it was drawn with; `--replay` draws with it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

/// The outcome class of a driver's request: exactly one each.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Transport error after the head.
    Aborted,
    /// Ended by the driver itself at the end of the run; in no ratio.
    CancelledByDriver,
    /// Complete on the wire but below the quality asked for.
    Degraded,
    /// Any other 4xx.
    #[serde(rename = "http_4xx")]
    Http4xx,
    /// Any 5xx.
    #[serde(rename = "http_5xx")]
    Http5xx,
    /// An error inside a good status.
    InbandError,
    /// Not the JSON or schema that was asked for.
    Invalid,
    Ok,
    /// 429, or 503 with Retry-After.
    RateLimited,
    /// Connecting failed.
    Refused,
    /// Never sent, since too many were in flight; counts as not good.
    ShedByDriver,
    Timeout,
    /// A clean end without the terminal marker.
    Truncated,
}

impl Outcome {
    /// The word in results and expectations.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aborted => "aborted",
            Self::CancelledByDriver => "cancelled_by_driver",
            Self::Degraded => "degraded",
            Self::Http4xx => "http_4xx",
            Self::Http5xx => "http_5xx",
            Self::InbandError => "inband_error",
            Self::Invalid => "invalid",
            Self::Ok => "ok",
            Self::RateLimited => "rate_limited",
            Self::Refused => "refused",
            Self::ShedByDriver => "shed_by_driver",
            Self::Timeout => "timeout",
            Self::Truncated => "truncated",
        }
    }

    /// Whether ratios count this request at all.
    pub fn counts(self) -> bool {
        self != Self::CancelledByDriver
    }
}

/// One request of the driver, from its intended start to its end.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The intended start: what latency counts from in an open loop.
    pub scheduled: Duration,
    /// When the driver really began to send.
    pub issued: Duration,
    pub head: Option<Duration>,
    /// The first body byte.
    pub first_byte: Option<Duration>,
    /// The first content-bearing event.
    pub first_token: Option<Duration>,
    /// The last content-bearing event.
    pub last_token: Option<Duration>,
    pub end: Duration,
    pub outcome: Outcome,
    pub status: Option<u16>,
    /// Content-bearing events of the answer.
    pub tokens: u32,
    /// Gaps between content-bearing events, in microseconds.
    pub gaps: Box<[u32]>,
    /// The terminal marker came.
    pub complete: bool,
    /// The app itself says that this answer stands in for the real one (`answer.fallback`).
    pub fallback: bool,
    /// Which prompt was asked (same number, same text).
    pub prompt: u64,
    pub user: u32,
    pub session: u64,
    pub turn: u32,
    /// The error as the user saw it, shortened, with no secrets.
    pub error: Option<Arc<str>>,
    /// Whether the answer was asked for as a stream.
    pub stream: bool,
}
