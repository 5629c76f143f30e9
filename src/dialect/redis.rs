//! Redis: commands are exchanges, told apart by their first word; errors are the server's own lines.

mod session;
mod words;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri};

use super::{Answer, Dialect, Failure, Moment, Quota, Reading, Scheme, Session};
use crate::exchange::{Event, Facts, Operation};
use crate::wire::resp;

/// The wire format of `kind: redis`.
#[derive(Debug)]
pub(crate) struct Redis;

impl Dialect for Redis {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn schemes(&self) -> &'static [Scheme] {
        &[
            Scheme { name: "redis", port: Some(6379), tls: false },
            Scheme { name: "rediss", port: Some(6379), tls: true },
            Scheme { name: "tcp", port: None, tls: false },
            Scheme { name: "tls", port: None, tls: true },
        ]
    }

    fn session(&self, tls_passes: bool) -> Option<Box<dyn Session>> {
        (!tls_passes).then(|| Box::new(session::Following::new()) as Box<dyn Session>)
    }

    fn has_session(&self) -> bool {
        true
    }

    fn moment(&self, failure: &Failure<'_>) -> Moment {
        words::moment(failure)
    }

    fn facts(&self, _: &Method, _: &Uri, _: &HeaderMap, _: &[u8]) -> Facts {
        Facts::default()
    }

    fn read_event(&self, _: Operation, _: &Event) -> Reading {
        Reading::default()
    }

    fn read_message(&self, operation: Operation, body: &[u8]) -> Reading {
        let error =
            body.strip_prefix(b"-").map(|text| String::from_utf8_lossy(text).trim().to_owned());
        let tokens = Hits::of(operation, body).map_or(0, |hits| hits.count());
        Reading { tokens: u32::try_from(tokens).unwrap_or(u32::MAX), error, ..Reading::default() }
    }

    fn failure(&self, failure: &Failure<'_>) -> Answer {
        words::failure(failure)
    }

    fn quota_headers(&self, _: &Quota) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    fn shorten(&self, operation: Operation, body: &[u8], share: f64, _: &str) -> Option<Bytes> {
        let hits = Hits::of(operation, body)?;
        let kept = (hits.count() as f64 * share).round() as usize;
        Some(resp::array(&hits.parts[..hits.before + kept * hits.each]))
    }

    fn inband_error(&self, _: &str) -> Option<Event> {
        None
    }
}

/// The results in an array: `total, id, fields, id, fields …` of a search, else its elements.
struct Hits<'a> {
    parts: Vec<&'a [u8]>,
    /// Parts that stand before the first.
    before: usize,
    /// Parts of each.
    each: usize,
}

impl<'a> Hits<'a> {
    fn of(operation: Operation, body: &'a [u8]) -> Option<Self> {
        let parts = resp::parts(body)?;
        let is = |at: usize, kind: u8| parts.get(at).is_some_and(|part: &&[u8]| part[0] == kind);
        let before = usize::from(operation == Operation::Search && is(0, b':'));
        let pairs = before == 1 && is(1, b'$') && is(2, b'*');
        Some(Self { parts, before, each: if pairs { 2 } else { 1 } })
    }

    fn count(&self) -> usize {
        (self.parts.len() - self.before) / self.each
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn search_results_are_counted_and_shortened() {
        let body = b"*5\r\n:2\r\n$2\r\nd1\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n$2\r\nd2\r\n*2\r\n$1\r\na\r\n$1\r\nc\r\n";
        assert_eq!(Redis.read_message(Operation::Search, body).tokens, 2);
        let short = Redis.shorten(Operation::Search, body, 0.5, "stop").unwrap();
        assert_eq!(short, &b"*3\r\n:2\r\n$2\r\nd1\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n"[..]);
        let ids = b"*3\r\n:9\r\n$2\r\nd1\r\n$2\r\nd2\r\n";
        assert_eq!(Redis.read_message(Operation::Search, ids).tokens, 2);
        let none = Redis.shorten(Operation::Search, ids, 0.0, "stop").unwrap();
        assert_eq!(none, &b"*1\r\n:9\r\n"[..]);
        assert_eq!(Redis.shorten(Operation::Read, b"$1\r\nx\r\n", 0.5, "stop"), None);
        let error = Redis.read_message(Operation::Read, b"-ERR no\r\n").error;
        assert_eq!(error.as_deref(), Some("ERR no"));
    }
}
