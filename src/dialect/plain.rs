//! Plain HTTP: nothing is known of bodies but that streams have events, and errors are problem
//! details (RFC 9457).

use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderMap, Method, Uri};
use serde::Deserialize;
use serde_json::json;

use super::class::{Class, html_page, whole_seconds};
use super::{Answer, Dialect, Failure, Quota, Reading};
use crate::exchange::{Event, Facts, Operation};

/// The wire format of `kind: http`.
#[derive(Debug)]
pub(crate) struct Plain;

impl Dialect for Plain {
    fn name(&self) -> &'static str {
        "http"
    }

    fn facts(&self, _: &Method, _: &Uri, headers: &HeaderMap, body: &[u8]) -> Facts {
        let asked = serde_json::from_slice::<Asked>(body).unwrap_or_default();
        Facts { stream: asked.stream == Some(true) || accepts_stream(headers), ..Facts::default() }
    }

    fn read_event(&self, _: Operation, event: &Event) -> Reading {
        if event.data.trim_ascii() == b"[DONE]" {
            return Reading { done: true, ..Reading::default() };
        }
        let text = String::from_utf8_lossy(&event.data).into_owned();
        Reading { tokens: u32::from(!text.is_empty()), text, ..Reading::default() }
    }

    fn read_message(&self, _: Operation, body: &[u8]) -> Reading {
        let tokens = u32::try_from(body.len().div_ceil(4)).unwrap_or(u32::MAX);
        Reading { tokens, ..Reading::default() }
    }

    fn failure(&self, failure: &Failure<'_>) -> Answer {
        let class = Class::of(failure);
        let status = failure.status.unwrap_or_else(|| class.status());
        let mut headers = Vec::with_capacity(2);
        let body = if class == Class::Html {
            headers.push(("content-type".into(), "text/html".into()));
            html_page(status, "nginx")
        } else {
            headers.push(("content-type".into(), "application/problem+json".into()));
            let detail = failure.message.unwrap_or_else(|| words(class));
            json!({
                "type": "about:blank",
                "title": status.canonical_reason().unwrap_or("Error"),
                "status": status.as_u16(),
                "detail": detail,
            })
            .to_string()
        };
        if let Some(time) = failure.retry_after {
            headers.push(("retry-after".into(), whole_seconds(time).to_string()));
        }
        Answer { status, headers, body: body.into() }
    }

    fn quota_headers(&self, quota: &Quota) -> Vec<(&'static str, String)> {
        let Some(gauge) = quota.requests.or(quota.tokens) else { return Vec::new() };
        vec![
            ("x-ratelimit-limit", gauge.limit.to_string()),
            ("x-ratelimit-remaining", gauge.remaining.to_string()),
            ("x-ratelimit-reset", whole_seconds(gauge.reset).to_string()),
        ]
    }

    fn shorten(&self, _: Operation, _: &[u8], _: f64, _: &str) -> Option<Bytes> {
        None
    }

    fn inband_error(&self, _: &str) -> Option<Event> {
        None
    }
}

/// The one field of a request that many services share.
#[derive(Default, Deserialize)]
struct Asked {
    #[serde(default)]
    stream: Option<bool>,
}

fn accepts_stream(headers: &HeaderMap) -> bool {
    let streams = ["text/event-stream", "application/x-ndjson"];
    headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).any(|value| {
        let wanted = value.split(',').map(|range| range.split(';').next().unwrap_or("").trim());
        wanted.into_iter().any(|range| streams.iter().any(|kind| range.eq_ignore_ascii_case(kind)))
    })
}

fn words(class: Class) -> &'static str {
    match class {
        Class::Auth => "The credentials are missing or not valid.",
        Class::BadRequest => "The request could not be understood.",
        Class::ContextLength => "The request is too long.",
        Class::NotFound => "There is nothing at this address.",
        Class::Overloaded => "The service is overloaded. Try again later.",
        Class::Quota => "The quota is used up.",
        Class::RateLimit => "Too many requests. Try again later.",
        Class::Html | Class::ServerError => "The service failed to handle the request.",
        Class::SlowDown => "The request rate rises too fast. Slow down.",
        Class::Timeout => "The service did not answer in time.",
        Class::Unavailable => "The service is not available. Try again later.",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dialect::FAILURE_CLASSES;

    #[test]
    fn streams_are_asked_for_by_body_or_accept() {
        let uri = Uri::from_static("/");
        let mut headers = HeaderMap::new();
        let read = |headers: &HeaderMap, body: &[u8]| {
            Plain.facts(&Method::POST, &uri, headers, body).stream
        };
        assert!(read(&headers, br#"{"q":1,"stream":true}"#));
        assert!(!read(&headers, br#"{"stream":false}"#));
        headers.insert(ACCEPT, "text/html, text/event-stream;q=0.9".parse().unwrap());
        assert!(read(&headers, b"not json"));
    }

    #[test]
    fn failures_are_problem_details() {
        for class in FAILURE_CLASSES.iter().filter(|class| **class != "html") {
            let answer = Plain.failure(&Failure { class: Some(class), ..Failure::default() });
            let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(body["status"], answer.status.as_u16());
        }
        let page = Plain.failure(&Failure { class: Some("html"), ..Failure::default() });
        assert!(page.body.starts_with(b"<html>"));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let uri = Uri::from_static("/");
            let _ = Plain.facts(&Method::POST, &uri, &HeaderMap::new(), &bytes);
            let _ = Plain.read_event(Operation::Other, &Event::sse(&bytes));
            let _ = Plain.read_message(Operation::Other, &bytes);
        }
    }
}
