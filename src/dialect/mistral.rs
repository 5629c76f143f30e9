//! Mistral: OpenAI's chat completions and embeddings with answers in parts, and its own errors.

use std::sync::LazyLock;

use http::{HeaderMap, Method, StatusCode, Uri};
use serde_json::{Value, json};

use super::class::{Class, html_page, short, uuid, whole_seconds};
use super::openai::{OpenAi, finish_events};
use super::{Answer, Dialect, Failure, Finish, Outline, Quota, Reading, Reason, Slot, reading};
use crate::exchange::{Event, Facts, Operation};
use crate::wire::json::Paths;

/// The wire format of `kind: mistral`.
#[derive(Debug)]
pub(crate) struct Mistral;

/// Texts of answers that come in parts: what a model thinks, and what it says.
static PARTS: LazyLock<Paths<Slot>> = LazyLock::new(|| {
    Paths::new(&[
        ("choices[*].delta.content[*].text", Slot::Text),
        ("choices[*].delta.content[*].thinking[*].text", Slot::Reasoning),
        ("choices[*].message.content[*].text", Slot::Text),
        ("choices[*].message.content[*].thinking[*].text", Slot::Reasoning),
    ])
});

impl Dialect for Mistral {
    fn name(&self) -> &'static str {
        "mistral"
    }

    fn facts(&self, method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Facts {
        OpenAi.facts(method, uri, headers, body)
    }

    fn read_event(&self, operation: Operation, event: &Event) -> Reading {
        let reading = OpenAi.read_event(operation, event);
        if !reading.text.is_empty() || reading.done {
            return reading;
        }
        let parts = Outline::of(&PARTS, &event.data);
        let said = reading::of_event(&event.data, &parts);
        Reading { text: said.text, tokens: said.tokens, ..reading }
    }

    fn read_message(&self, operation: Operation, body: &[u8]) -> Reading {
        let reading = OpenAi.read_message(operation, body);
        if !reading.text.is_empty() {
            return reading;
        }
        let said = reading::of_message(body, &Outline::of(&PARTS, body));
        Reading { text: said.text, tokens: reading.tokens.max(said.tokens), ..reading }
    }

    fn outline(&self, operation: Operation, payload: &[u8]) -> Outline {
        let mut outline = OpenAi.outline(operation, payload);
        let in_parts = |at: usize| payload.get(at) == Some(&b'[');
        let count = outline.spots.len();
        outline.spots.retain(|spot| spot.what != Slot::Text || !in_parts(spot.span.start));
        if outline.spots.len() < count {
            outline.spots.extend(Outline::of(&PARTS, payload).spots);
            outline.spots.sort_by_key(|spot| (spot.span.start, usize::MAX - spot.span.end));
        }
        outline
    }

    fn reason(&self, _: Operation, reason: Reason) -> Option<&'static str> {
        match reason {
            Reason::ContentFilter => None,
            Reason::Length => Some("length"),
            Reason::Stop => Some("stop"),
            Reason::ToolCalls => Some("tool_calls"),
        }
    }

    fn failure(&self, failure: &Failure<'_>) -> Answer {
        let class = Class::of(failure);
        let status = failure.status.unwrap_or(match class {
            Class::BadRequest => StatusCode::UNPROCESSABLE_ENTITY,
            Class::NotFound => StatusCode::BAD_REQUEST,
            other => other.status(),
        });
        let mut headers = Vec::with_capacity(3);
        let mut put = |name: &str, value: String| headers.push((name.to_owned(), value));
        let body = if class == Class::Html {
            put("content-type", "text/html; charset=UTF-8".into());
            html_page(status, "cloudflare")
        } else {
            put("content-type", "application/json".into());
            put("mistral-correlation-id", uuid(failure.id));
            problem(class, failure).to_string()
        };
        if let Some(time) = failure.retry_after {
            put("retry-after", whole_seconds(time).to_string());
        }
        Answer { status, headers, body: body.into() }
    }

    fn quota_headers(&self, quota: &Quota) -> Vec<(&'static str, String)> {
        let mut headers = Vec::with_capacity(5);
        if let Some(gauge) = quota.requests {
            headers.push(("x-ratelimit-limit-req-minute", gauge.limit.to_string()));
            headers.push(("x-ratelimit-remaining-req-minute", gauge.remaining.to_string()));
        }
        if let Some(gauge) = quota.tokens {
            headers.push(("x-ratelimit-limit-tokens-minute", gauge.limit.to_string()));
            headers.push(("x-ratelimit-remaining-tokens-minute", gauge.remaining.to_string()));
            headers.push(("x-ratelimit-tokens-query-cost", gauge.requested.to_string()));
        }
        headers
    }

    fn finish_events(&self, operation: Operation, like: &Event, finish: &Finish<'_>) -> Vec<Event> {
        finish_events(like, self.word_for(operation, finish.reason))
    }

    fn inband_error(&self, message: &str) -> Option<Event> {
        self.inband_failure(&Failure { message: Some(message), ..Failure::default() })
    }

    fn inband_failure(&self, failure: &Failure<'_>) -> Option<Event> {
        let (kind, code, message) = words(Class::of(failure), failure);
        Some(Event::sse(object(kind, code, &message).to_string()))
    }
}

/// The body of most errors.
fn object(kind: &str, code: Option<&str>, message: &str) -> Value {
    json!({ "object": "error", "message": message, "type": kind, "param": null, "code": code })
}

fn problem(class: Class, failure: &Failure<'_>) -> Value {
    match (class, failure.message) {
        (Class::Auth, message) => json!({ "detail": message.unwrap_or("Unauthorized") }),
        (Class::BadRequest, message) => json!({
            "detail": [{
                "type": "missing",
                "loc": ["body", "messages"],
                "msg": message.unwrap_or("Field required"),
                "input": {},
            }],
        }),
        _ => {
            let (kind, code, message) = words(class, failure);
            object(kind, code, &message)
        }
    }
}

/// Type, code and message.
fn words(class: Class, failure: &Failure<'_>) -> (&'static str, Option<&'static str>, String) {
    let (kind, code, message) = match class {
        Class::Auth => ("unauthorized", None, "Unauthorized".to_owned()),
        Class::BadRequest => ("invalid_request_error", None, "Invalid request".to_owned()),
        Class::ContextLength => (
            "invalid_request_error",
            Some("3051"),
            "Prompt contains 65673 tokens and 0 draft tokens, too large for model with 32768 \
             maximum context length"
                .to_owned(),
        ),
        Class::NotFound => (
            "invalid_model",
            Some("1500"),
            format!("Invalid model: {}", failure.model.map_or("unknown", short)),
        ),
        Class::Overloaded => (
            "invalid_request_error",
            None,
            "Service tier capacity exceeded for this model.".to_owned(),
        ),
        Class::Quota => ("rate_limited", Some("1300"), "Monthly usage limit reached".to_owned()),
        Class::RateLimit | Class::SlowDown => {
            ("rate_limited", Some("1300"), "Rate limit exceeded".to_owned())
        }
        Class::Timeout => ("timeout", None, "The request timed out.".to_owned()),
        Class::Unavailable => ("unavailable", Some("3700"), "Service unavailable.".to_owned()),
        Class::Html | Class::ServerError => {
            ("internal_server_error", Some("3000"), "Internal server error".to_owned())
        }
    };
    (kind, code, failure.message.map_or(message, str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::FAILURE_CLASSES;

    #[test]
    fn answers_in_parts_are_read_and_have_places() {
        let chunk = r#"{"id":"c","choices":[{"index":0,"delta":{"content":[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]},{"type":"text","text":"hi"}]},"finish_reason":null}]}"#;
        let read = Mistral.read_event(Operation::Chat, &Event::sse(chunk));
        assert_eq!((read.text.as_str(), read.tokens), ("hmhi", 1));
        let outline = Mistral.outline(Operation::Chat, chunk.as_bytes());
        assert_eq!(outline.text(chunk.as_bytes(), Slot::Text), "hi");
        assert_eq!(outline.text(chunk.as_bytes(), Slot::Reasoning), "hm");
        let plain = r#"{"choices":[{"delta":{"content":"x"},"finish_reason":"stop"}]}"#;
        let read = Mistral.read_event(Operation::Chat, &Event::sse(plain));
        assert_eq!((read.text.as_str(), read.finish.as_deref()), ("x", Some("stop")));
        let whole = r#"{"choices":[{"message":{"content":[{"type":"text","text":"1234"}]},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":4,"total_tokens":5}}"#;
        let short = Mistral.shorten(Operation::Chat, whole.as_bytes(), 0.5, "length").unwrap();
        let read = Mistral.read_message(Operation::Chat, &short);
        assert_eq!((read.text.as_str(), read.finish.as_deref()), ("12", Some("length")));
        assert_eq!(read.usage, Some((1, 2)));
    }

    #[test]
    fn errors_have_several_shapes() {
        let told = |class| {
            let answer = Mistral.failure(&Failure { class: Some(class), ..Failure::default() });
            (answer.status.as_u16(), String::from_utf8(answer.body.to_vec()).unwrap())
        };
        assert_eq!(told("auth"), (401, r#"{"detail":"Unauthorized"}"#.to_owned()));
        assert_eq!(
            told("rate_limit"),
            (429, r#"{"object":"error","message":"Rate limit exceeded","type":"rate_limited","param":null,"code":"1300"}"#.to_owned())
        );
        assert_eq!(told("bad_request").0, 422);
        for class in FAILURE_CLASSES {
            assert!(!told(class).1.is_empty(), "{class}");
            let event = Mistral
                .inband_failure(&Failure { class: Some(class), ..Failure::default() })
                .unwrap();
            let read = Mistral.read_event(Operation::Chat, &event);
            assert!(read.error.is_some_and(|error| !error.is_empty()), "{class}");
        }
    }
}
