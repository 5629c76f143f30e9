//! Redis: commands are exchanges, told apart by their first word; errors are the server's own lines.

mod hits;
mod session;
mod words;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri};

use self::hits::Hits;
use super::{
    Answer, Arrangement, Dialect, Failure, Listing, Moment, Quota, Reading, Scheme, Session,
};
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

    fn listings(&self, operation: Operation, body: &[u8]) -> Vec<Listing> {
        match operation {
            Operation::Search => hits::listing(body).into_iter().collect(),
            _ => Vec::new(),
        }
    }

    fn arranged(&self, operation: Operation, body: &[u8], lists: &[Arrangement]) -> Option<Bytes> {
        let wanted = lists.first().filter(|_| operation == Operation::Search)?;
        hits::arranged(body, wanted)
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
