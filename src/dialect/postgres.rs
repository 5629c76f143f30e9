//! PostgreSQL: queries are exchanges, told apart by their verb; errors are SQLSTATEs in the server's
//! own words.

mod session;
mod sql;
mod words;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri};

use super::{Answer, Dialect, Failure, Moment, Quota, Reading, Row, Scheme, Session};
use crate::exchange::{Event, Facts, Operation};
use crate::wire::postgres as wire;

/// The wire format of `kind: postgres`.
#[derive(Debug)]
pub(crate) struct Postgres;

impl Dialect for Postgres {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn schemes(&self) -> &'static [Scheme] {
        &[
            Scheme { name: "postgres", port: Some(5432), tls: false },
            Scheme { name: "postgresql", port: Some(5432), tls: false },
            Scheme { name: "tcp", port: None, tls: false },
        ]
    }

    fn session(&self, tls_passes: bool) -> Option<Box<dyn Session>> {
        Some(Box::new(session::Following::new(tls_passes)))
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

    fn read_event(&self, _: Operation, event: &Event) -> Reading {
        let error = |field| String::from_utf8_lossy(field).into_owned();
        Reading {
            tokens: u32::from(event.name.as_deref() == Some("D")),
            done: event.name.as_deref() == Some("Z"),
            error: match event.name.as_deref() {
                Some("E") => wire::field(&event.data, b'M').map(error),
                _ => None,
            },
            ..Reading::default()
        }
    }

    fn read_message(&self, _: Operation, _: &[u8]) -> Reading {
        Reading::default()
    }

    fn failure(&self, failure: &Failure<'_>) -> Answer {
        words::failure(failure)
    }

    fn quota_headers(&self, _: &Quota) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    fn row(&self, event: &Event) -> Option<Row> {
        match event.name.as_deref() {
            Some("D") => Some(Row::Hit),
            // CommandComplete, EmptyQueryResponse, PortalSuspended; an error.
            Some("C" | "E" | "I" | "s") => Some(Row::End),
            _ => None,
        }
    }

    fn counted(&self, event: &Event, rows: u64) -> Event {
        match event.name.as_deref() {
            Some("C") => session::event(b'C', session::counted(event, rows)),
            _ => event.clone(),
        }
    }

    fn shorten(&self, _: Operation, _: &[u8], _: f64, _: &str) -> Option<Bytes> {
        None
    }

    fn inband_error(&self, message: &str) -> Option<Event> {
        let raw = words::error("XX000", message);
        Some(session::event(b'E', raw))
    }
}
