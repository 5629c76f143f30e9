//! What stands in an answer's place: errors and rate limits in the provider's words.

use std::time::Duration;

use brownout::dialect::Answer;
use http::{request, response};
use serde_json::Value;

use super::{STREAMS, WHOLE, answered, fault};

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    let found = answer.headers.iter().find(|(set, _)| set.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.as_str())
}

#[test]
fn an_error_in_an_answers_place_is_the_providers_own() {
    for case in STREAMS.iter().chain(WHOLE) {
        let told = |yaml: &str| {
            let fault = fault("error", yaml);
            answered(case, fault.as_ref(), Duration::ZERO).unwrap()
        };
        let overloaded = told("{ as: overloaded }");
        let (status, at, word) = match case.kind {
            "anthropic" => (529, "/error/type", "overloaded_error"),
            "gemini" => (503, "/error/status", "UNAVAILABLE"),
            "ollama" => {
                (503, "/error", "server busy, please try again.  maximum pending requests exceeded")
            }
            "cohere" => (503, "/message", "the service is overloaded, please try again later"),
            "mistral" => (503, "/message", "Service tier capacity exceeded for this model."),
            other => panic!("{other}"),
        };
        assert_eq!(overloaded.status.as_u16(), status, "{}", case.name);
        let body: Value = serde_json::from_slice(&overloaded.body).unwrap();
        assert_eq!(body.pointer(at).unwrap(), word, "{}", case.name);
        let own = told("{ status: 418, message: 'my own', headers: { x-should-retry: 'false' } }");
        assert_eq!(own.status.as_u16(), 418);
        assert!(String::from_utf8_lossy(&own.body).contains("my own"), "{}", case.name);
        assert_eq!(header(&own, "x-should-retry"), Some("false"));
        let page = told("{ as: html }");
        assert!(header(&page, "content-type").unwrap().starts_with("text/html"));
    }
}

#[test]
fn a_limit_tells_when_to_come_again_where_the_provider_does() {
    for case in STREAMS {
        let fault = fault("rate_limit", "{ requests_per_minute: 20 }");
        let at = Duration::from_millis;
        assert!(answered(case, fault.as_ref(), at(0)).is_none(), "{}: the first", case.name);
        let refused = answered(case, fault.as_ref(), at(500)).unwrap();
        assert_eq!(refused.status.as_u16(), 429, "{}", case.name);
        let body = String::from_utf8(refused.body.to_vec()).unwrap();
        match case.kind {
            // Google says it in the body alone.
            "gemini" => {
                assert_eq!(header(&refused, "retry-after"), None);
                assert!(body.contains("\"retryDelay\": \"2.5s\""), "{body}");
            }
            _ => assert_eq!(header(&refused, "retry-after"), Some("3"), "{}", case.name),
        }
        if case.kind == "anthropic" {
            assert_eq!(header(&refused, "anthropic-ratelimit-requests-limit"), Some("20"));
            assert_eq!(header(&refused, "anthropic-ratelimit-requests-remaining"), Some("0"));
            // 5.5 s until two requests are there again, after 08:06:23.5.
            let reset = header(&refused, "anthropic-ratelimit-requests-reset");
            assert_eq!(reset, Some("2026-11-24T08:06:29Z"));
            assert!(body.contains("rate limit of 20 requests per minute"), "{body}");
        }
        assert!(answered(case, fault.as_ref(), at(3000)).is_none(), "{}: as it said", case.name);
    }
}

#[test]
fn passing_answers_tell_what_is_left() {
    let fault = fault("rate_limit", "{ requests_per_minute: 60, burst: 10 }");
    for (case, name) in [
        (&STREAMS[0], Some("anthropic-ratelimit-requests-remaining")),
        (&STREAMS[1], None),
        (&STREAMS[2], None),
        (&STREAMS[4], Some("x-ratelimit-reset")),
        (&STREAMS[5], Some("x-ratelimit-remaining-req-minute")),
    ] {
        let mut chain = case.armed(fault.as_ref(), Duration::ZERO);
        let (mut asked, ()) = request::Request::new(()).into_parts();
        assert_eq!(chain.on_request(0, Duration::ZERO, &mut asked), []);
        let (mut head, ()) = response::Response::new(()).into_parts();
        chain.on_response(0, Duration::ZERO, Duration::ZERO, &mut head);
        match name {
            Some(name) => assert!(head.headers.contains_key(name), "{}", case.name),
            None => assert!(head.headers.is_empty(), "{}: {:?}", case.name, head.headers),
        }
    }
}

#[test]
fn a_limit_that_is_silent_says_no_time_anywhere() {
    for case in STREAMS {
        let fault =
            fault("rate_limit", "{ requests_per_minute: 1, retry_after: none, headers: none }");
        answered(case, fault.as_ref(), Duration::ZERO);
        let refused = answered(case, fault.as_ref(), Duration::from_millis(1)).unwrap();
        let about = |name: &str| name.starts_with("retry-after") || name.contains("ratelimit");
        assert!(!refused.headers.iter().any(|(name, _)| about(name)), "{:?}", refused.headers);
        assert!(!String::from_utf8_lossy(&refused.body).contains("retryDelay"), "{}", case.name);
    }
}

#[test]
fn tokens_are_counted_from_what_the_provider_says_in_several_events() {
    // The prompt's 12 stand in the first event of a stream of Anthropic's, the answer's 9 in the
    // last but one; so 21 of the 60 are gone, and not what the request reserved.
    let case = &STREAMS[0];
    let fault = fault("rate_limit", "{ tokens_per_minute: 60, algorithm: fixed_window }");
    let mut chain = case.armed(fault.as_ref(), Duration::ZERO);
    let (mut asked, ()) = request::Request::new(()).into_parts();
    chain.on_request(0, Duration::ZERO, &mut asked);
    let (mut head, ()) = response::Response::new(()).into_parts();
    chain.on_response(0, Duration::ZERO, Duration::ZERO, &mut head);
    for event in case.heard(case.answer).events {
        chain.on_item(Duration::ZERO, brownout::exchange::Item::Event(event));
    }
    drop(chain);
    let (mut asked, ()) = request::Request::new(()).into_parts();
    let mut next = case.armed(fault.as_ref(), Duration::from_secs(1));
    let orders = next.on_request(0, Duration::from_secs(1), &mut asked);
    let Some(brownout::fault::Order::Answer(refused)) = orders.first() else {
        panic!("it asks for 60 of the 39 that are left: {orders:?}")
    };
    assert_eq!(header(refused, "anthropic-ratelimit-tokens-remaining"), Some("39"));
}
