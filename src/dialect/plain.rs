//! Plain.

use super::*;

#[derive(Debug)]
pub(crate) struct Plain;

impl Dialect for Plain {
    fn name(&self) -> &'static str {
        "http"
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
    fn failure(&self, _: &Failure<'_>) -> Answer {
        Answer { status: StatusCode::SERVICE_UNAVAILABLE, headers: vec![], body: Bytes::new() }
    }
    fn quota_headers(&self, _: &Quota) -> Vec<(&'static str, String)> {
        vec![]
    }
    fn finish_event(&self, _: Operation, _: &Event, _: &str) -> Option<Event> {
        None
    }
    fn shorten(&self, _: Operation, _: &[u8], _: f64, _: &str) -> Option<Bytes> {
        None
    }
    fn inband_error(&self, _: &str) -> Option<Event> {
        None
    }
}
