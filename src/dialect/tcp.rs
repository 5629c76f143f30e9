//! Raw TCP: nothing is known of the bytes, so faults act on pieces as they come.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Uri};

use super::{Answer, Dialect, Failure, Moment, Quota, Reading, Scheme};
use crate::exchange::{Event, Facts, Operation};

/// What `kind: tcp` speaks.
#[derive(Debug)]
pub(crate) struct Tcp;

/// A connection of another kind whose bytes cannot be read.
pub const OPAQUE: &'static dyn Dialect = &Tcp;

impl Dialect for Tcp {
    fn name(&self) -> &'static str {
        "tcp"
    }

    fn schemes(&self) -> &'static [Scheme] {
        &[
            Scheme { name: "tcp", port: None, tls: false },
            Scheme { name: "tls", port: None, tls: true },
        ]
    }

    fn moment(&self, _: &Failure<'_>) -> Moment {
        Moment::Never
    }

    fn facts(&self, _: &Method, _: &Uri, _: &HeaderMap, _: &[u8]) -> Facts {
        Facts::default()
    }

    fn read_event(&self, _: Operation, _: &Event) -> Reading {
        Reading::default()
    }

    fn read_message(&self, _: Operation, _: &[u8]) -> Reading {
        Reading::default()
    }

    /// It has no words for a failure.
    fn failure(&self, failure: &Failure<'_>) -> Answer {
        let status = failure.status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        Answer { status, headers: Vec::new(), body: Bytes::new() }
    }

    fn quota_headers(&self, _: &Quota) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    fn shorten(&self, _: Operation, _: &[u8], _: f64, _: &str) -> Option<Bytes> {
        None
    }

    fn inband_error(&self, _: &str) -> Option<Event> {
        None
    }
}
