//! One call of the app, from its head to its end, for the measures.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::connection::Connection;
use crate::dialect::grpc;
use crate::dice::hash_bytes;
use crate::engine::Decision;
use crate::exchange::Exchange;
use crate::measure::{Call, CallEnd, Observation};

/// On which attempt the official SDKs say they are.
pub(super) static RETRY_COUNT: HeaderName = HeaderName::from_static("x-stainless-retry-count");

/// How long to wait, in milliseconds, as the official SDKs read it.
pub(super) const RETRY_AFTER_MS: &str = "retry-after-ms";

/// The same from gRPC clients (gRFC A6).
static PREVIOUS_ATTEMPTS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");

/// Keeps the books of one call. It is handed over when this is dropped, whatever the reason; until
/// something else is said the app has gone away.
#[derive(Debug)]
pub(super) struct Books {
    /// None only while it is dropped.
    call: Option<Box<Call>>,
    /// What was decided; the effects live as long as the call.
    pub(super) decision: Decision,
    holding_since: Option<Duration>,
    /// The answer is one of gRPC, which ends with a status of its own.
    is_grpc: bool,
    connection: Arc<Connection>,
}

impl Books {
    pub(super) fn open(connection: &Arc<Connection>, headers: &HeaderMap) -> Self {
        let attempt = headers.get(&RETRY_COUNT).or_else(|| headers.get(&PREVIOUS_ATTEMPTS));
        let retry = attempt.and_then(|count| count.to_str().ok()?.parse().ok());
        Self::begin(connection, retry)
    }

    /// `retry`: on which attempt the app says it is.
    pub(super) fn begin(connection: &Arc<Connection>, retry: Option<u32>) -> Self {
        let dependency = &connection.dependency;
        let call = Call { retry, ..Call::begun(&dependency.name, dependency.clock.now()) };
        Self {
            call: Some(Box::new(call)),
            decision: Decision::default(),
            holding_since: None,
            is_grpc: false,
            connection: Arc::clone(connection),
        }
    }

    fn call(&mut self) -> &mut Call {
        self.call.as_mut().expect("it is taken only when the books are dropped")
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(super) fn now(&self) -> Duration {
        self.connection.dependency.clock.now()
    }

    /// What faults are decided by: which request this is, and who asks.
    pub(super) fn identify(&mut self, exchange: &Exchange) {
        let call = self.call();
        call.key = Some(exchange.key.0);
        call.user = exchange.user.as_ref().map(|user| hash_bytes(user.as_bytes()));
    }

    pub(super) fn upstream_called(&mut self) {
        self.call().upstream = true;
    }

    /// The answer's head goes to the app.
    pub(super) fn head(&mut self, status: StatusCode, retry_after: Option<Duration>) {
        let now = self.now();
        let call = self.call();
        call.head = Some(now);
        call.status = Some(status.as_u16());
        call.retry_after = retry_after;
    }

    /// The fields of the answer's head, or its trailers: a gRPC call says there how it ended.
    pub(super) fn said(&mut self, fields: &HeaderMap) {
        self.is_grpc |= fields.get(header::CONTENT_TYPE).is_some_and(is_grpc);
        let number = |name: &str| fields.get(name)?.to_str().ok()?.trim().parse::<u16>().ok();
        if let Some(status) = number(grpc::STATUS) {
            self.call().grpc_status = Some(status);
            if let Some(wait) = number(grpc::PUSHBACK) {
                self.call().retry_after = Some(Duration::from_millis(wait.into()));
            }
        }
    }

    /// A piece of the answer's body goes to the app.
    pub(super) fn sent(&mut self, bytes: usize) {
        if self.call().first_byte.is_none() {
            let now = self.now();
            self.call().first_byte = Some(now);
        }
        self.call().bytes += bytes as u64;
    }

    /// An event of a stream goes to the app.
    pub(super) fn sent_event(&mut self) {
        self.call().events += 1;
    }

    /// The answer says that trying again is of no use.
    pub(super) fn no_retry(&mut self) {
        self.call().no_retry = true;
    }

    /// How it ended.
    pub(super) fn ended(&mut self, ended: CallEnd) {
        self.call().ended = ended;
    }

    /// What was decided is over; this counts from here on.
    pub(super) fn decide_anew(&mut self, decision: Decision) {
        self.release();
        self.keep_acted();
        self.decision = decision;
    }

    /// Remembers the faults that have acted.
    fn keep_acted(&mut self) {
        for fault in self.decision.acted() {
            let faults = &mut self.call().faults;
            if !faults.contains(&fault) {
                faults.push(fault);
            }
        }
    }

    /// A fault begins to hold the call back.
    pub(super) fn hold(&mut self) {
        self.holding_since = Some(self.now());
    }

    /// The call goes on.
    pub(super) fn release(&mut self) {
        if let Some(since) = self.holding_since.take() {
            let held = self.now().saturating_sub(since);
            let call = self.call();
            call.injected_delay += held;
            call.silence = call.silence.max(held);
            self.decision.held(held);
        }
    }
}

impl Drop for Books {
    fn drop(&mut self) {
        self.release();
        let now = self.now();
        let broken = self.connection.line.is_broken();
        self.keep_acted();
        if let Some(mut call) = self.call.take() {
            call.end = now;
            if self.is_grpc && call.ended == CallEnd::Complete && call.grpc_status.is_none() {
                // What clients make of a call that ends without one.
                call.grpc_status = Some(grpc::UNKNOWN);
            }
            if broken && call.ended == CallEnd::ClientGone {
                call.ended = CallEnd::Injected;
            }
            self.connection.dependency.recorder.record(Observation::Call(call));
        }
    }
}

/// Whether an answer says that trying again is of no use, in the word that the official SDKs obey.
pub(super) fn says_no_retry(headers: &HeaderMap) -> bool {
    headers.get("x-should-retry").is_some_and(|value| value == "false")
}

/// gRPC, whatever its messages are; of gRPC-Web the end is in the body.
fn is_grpc(kind: &HeaderValue) -> bool {
    let rest = kind.as_bytes().strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// How long an answer tells its client to wait: whole seconds, or `retry-after-ms`.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = |name| headers.get(name).map(HeaderValue::as_bytes);
    retry_after_of(value(RETRY_AFTER_MS), value(header::RETRY_AFTER.as_str()))
}

/// The same from the values of `retry-after-ms` and `retry-after`.
pub(super) fn retry_after_of(millis: Option<&[u8]>, seconds: Option<&[u8]>) -> Option<Duration> {
    let number = |value| std::str::from_utf8(value).ok()?.trim().parse::<f64>().ok();
    let from = |value, scale: f64| Duration::try_from_secs_f64(number(value)? * scale).ok();
    millis
        .and_then(|value| from(value, 1e-3))
        .or_else(|| seconds.and_then(|value| from(value, 1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_is_told_by_its_content_type() {
        let is = |kind: &'static str| is_grpc(&HeaderValue::from_static(kind));
        assert!(
            is("application/grpc") && is("application/grpc+proto") && is("application/grpc;v=1")
        );
        assert!(!is("application/grpc-web") && !is("application/grpc-web+proto"));
        assert!(!is("application/json"));
    }

    #[test]
    fn retry_after_is_read_in_both_units() {
        let mut headers = HeaderMap::new();
        assert_eq!(retry_after(&headers), None);
        headers.insert("retry-after", "20".parse().unwrap());
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(20)));
        headers.insert("retry-after-ms", "1500".parse().unwrap());
        assert_eq!(retry_after(&headers), Some(Duration::from_millis(1500)));
        headers.clear();
        headers.insert("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT".parse().unwrap());
        assert_eq!(retry_after(&headers), None);
        headers.insert("retry-after", "-1e300".parse().unwrap());
        assert_eq!(retry_after(&headers), None);
    }
}
