//! What Anthropic answers when it fails, and how it tells what is left of a rate limit.

use http::StatusCode;
use serde_json::{Value, json};

use crate::dialect::class::{Class, html_page, short, whole_seconds};
use crate::dialect::{Answer, Failure, Gauge, Quota, gemini};
use crate::dice::hash_bytes;
use crate::exchange::Event;
use crate::units::rfc3339;

const ORGANIZATION: &str = "b0000000-0000-4000-8000-000000000000";

/// Puts a failure into Anthropic's words.
pub(super) fn failure(failure: &Failure<'_>) -> Answer {
    let class = Class::of(failure);
    let status = failure.status.unwrap_or_else(|| status(class));
    let mut headers = Vec::with_capacity(8);
    let mut put = |name: &str, value: String| headers.push((name.to_owned(), value));
    let edge = format!("{:016x}-FRA", failure.id);
    if class == Class::Html {
        put("content-type", "text/html; charset=UTF-8".into());
        put("server", "cloudflare".into());
        put("cf-ray", edge);
        let body = html_page(status, "cloudflare").into();
        return Answer { status, headers, body };
    }
    let id = request_id(failure.id);
    put("content-type", "application/json".into());
    put("request-id", id.clone());
    put("anthropic-organization-id", ORGANIZATION.into());
    if let Some(time) = failure.retry_after {
        put("retry-after", whole_seconds(time).to_string());
    }
    put("server", "cloudflare".into());
    put("cf-ray", edge);
    let body = json!({ "type": "error", "error": problem(class, failure), "request_id": id });
    Answer { status, headers, body: body.to_string().into() }
}

/// The same behind Google's door: keys, quotas and models are Google's to refuse.
pub(super) fn on_vertex(failure: &Failure<'_>) -> Answer {
    match Class::of(failure) {
        Class::BadRequest | Class::ContextLength | Class::Overloaded => {
            let mut answer = self::failure(failure);
            answer.headers.retain(|(name, _)| !matches!(&**name, "server" | "cf-ray"));
            answer
        }
        _ => gemini::vertex_failure(failure),
    }
}

/// The event that ends a stream which breaks.
pub(super) fn inband(failure: &Failure<'_>, vertex: bool) -> Event {
    let mut error = problem(Class::of(failure), failure);
    if vertex && let Some(error) = error.as_object_mut() {
        error.insert("details".into(), Value::Null);
    }
    Event::named("error", json!({ "type": "error", "error": error }).to_string())
}

fn status(class: Class) -> StatusCode {
    match class {
        // "site is overloaded", which no registry knows.
        Class::Overloaded => StatusCode::from_u16(529).unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
        other => other.status(),
    }
}

/// `req_011C` and 20 letters and digits.
fn request_id(id: u64) -> String {
    let more = hash_bytes(&id.to_le_bytes());
    format!("req_011C{id:016x}{:04x}", more >> 48)
}

fn problem(class: Class, failure: &Failure<'_>) -> Value {
    let mut details = None;
    let (kind, message) = match class {
        Class::Auth if failure.status == Some(StatusCode::FORBIDDEN) => (
            "permission_error",
            "Your API key does not have permission to use the specified resource.".to_owned(),
        ),
        Class::Auth => ("authentication_error", "invalid x-api-key".to_owned()),
        Class::BadRequest => match failure.status.map(|status| status.as_u16()) {
            Some(402) => ("billing_error", "Your credit balance is too low.".to_owned()),
            Some(409) => ("conflict_error", "The resource is being changed.".to_owned()),
            Some(413) => (
                "request_too_large",
                "Request exceeds the maximum allowed number of bytes.".to_owned(),
            ),
            _ => ("invalid_request_error", "messages: Field required".to_owned()),
        },
        Class::ContextLength => (
            "invalid_request_error",
            "prompt is too long: 215000 tokens > 200000 maximum".to_owned(),
        ),
        Class::NotFound => {
            ("not_found_error", format!("model: {}", failure.model.map_or("unknown", short)))
        }
        Class::Overloaded => ("overloaded_error", "Overloaded".to_owned()),
        Class::Quota => {
            details = Some("enforced_spend_limit_reached");
            ("rate_limit_error", "You have reached your specified API usage limits.".to_owned())
        }
        Class::RateLimit => ("rate_limit_error", rate_limit(failure)),
        Class::SlowDown => {
            details = Some("ramp_limit_exceeded");
            (
                "rate_limit_error",
                "This request would exceed your organization's maximum usage increase rate. \
                 Please scale up your input tokens usage more gradually to stay within the \
                 acceleration limit."
                    .to_owned(),
            )
        }
        Class::Timeout => ("timeout_error", "Request timed out".to_owned()),
        Class::Unavailable => ("api_error", "Service unavailable".to_owned()),
        Class::Html | Class::ServerError => ("api_error", "Internal server error".to_owned()),
    };
    let message = failure.message.map_or(message, str::to_owned);
    match details {
        Some(code) => {
            json!({ "type": kind, "message": message, "details": { "error_code": code } })
        }
        None => json!({ "type": kind, "message": message }),
    }
}

fn rate_limit(failure: &Failure<'_>) -> String {
    let (gauge, unit) = match failure.quota {
        Some(Quota { tokens: Some(gauge), .. }) if gauge.requested > gauge.remaining => {
            (Some(gauge), "input tokens")
        }
        Some(Quota { requests: Some(gauge), .. }) => (Some(gauge), "requests"),
        Some(Quota { tokens, .. }) => (tokens, "input tokens"),
        None => (None, "requests"),
    };
    let limit = gauge.map_or_else(String::new, |gauge| {
        format!(" of {} {unit} per minute", thousands(gauge.limit))
    });
    format!(
        "This request would exceed your organization's rate limit{limit} (org: {ORGANIZATION}, \
         model: {}). For details, refer to: https://docs.claude.com/en/api/rate-limits. You can \
         see the response headers for current usage. Please reduce the prompt length or the \
         maximum tokens requested, or try again later. You may also contact sales at \
         https://claude.com/contact-sales to discuss your options for a rate limit increase.",
        failure.model.map_or("unknown", short)
    )
}

/// A number with commas: `30,000`.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The `anthropic-ratelimit-*` headers; they name the time of the day at which all is there again.
pub(super) fn quota_headers(quota: &Quota) -> Vec<(&'static str, String)> {
    let mut headers = Vec::with_capacity(6);
    let reset = |gauge: Gauge| {
        // Rounded up, so that waiting till then is enough.
        let at = quota.now + gauge.reset;
        rfc3339(std::time::Duration::from_secs(whole_seconds(at)))
    };
    if let Some(gauge) = quota.requests {
        headers.push(("anthropic-ratelimit-requests-limit", gauge.limit.to_string()));
        headers.push(("anthropic-ratelimit-requests-remaining", gauge.remaining.to_string()));
        headers.push(("anthropic-ratelimit-requests-reset", reset(gauge)));
    }
    if let Some(gauge) = quota.tokens {
        headers.push(("anthropic-ratelimit-tokens-limit", gauge.limit.to_string()));
        headers.push(("anthropic-ratelimit-tokens-remaining", gauge.remaining.to_string()));
        headers.push(("anthropic-ratelimit-tokens-reset", reset(gauge)));
    }
    headers
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::dialect::FAILURE_CLASSES;

    fn text(answer: &Answer) -> &str {
        std::str::from_utf8(&answer.body).unwrap()
    }

    fn told(class: &str) -> Answer {
        failure(&Failure { class: Some(class), id: 7, ..Failure::default() })
    }

    fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
        answer.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn overload_has_a_status_of_its_own() {
        let answer = told("overloaded");
        assert_eq!(answer.status.as_u16(), 529);
        let id = header(&answer, "request-id").unwrap();
        assert!(id.starts_with("req_011C") && id.len() == 28, "{id}");
        assert_eq!(
            text(&answer),
            format!(
                r#"{{"type":"error","error":{{"type":"overloaded_error","message":"Overloaded"}},"request_id":"{id}"}}"#
            )
        );
        assert_eq!(header(&answer, "retry-after"), None);
    }

    #[test]
    fn a_spend_cap_is_told_apart() {
        let answer = told("quota");
        assert_eq!(answer.status.as_u16(), 429);
        assert!(
            text(&answer).contains(r#""details":{"error_code":"enforced_spend_limit_reached"}"#)
        );
        assert!(!text(&told("rate_limit")).contains("\"details\""));
    }

    #[test]
    fn every_class_has_its_type() {
        for (class, status, kind) in [
            ("auth", 401, "authentication_error"),
            ("bad_request", 400, "invalid_request_error"),
            ("context_length", 400, "invalid_request_error"),
            ("not_found", 404, "not_found_error"),
            ("rate_limit", 429, "rate_limit_error"),
            ("server_error", 500, "api_error"),
            ("slow_down", 429, "rate_limit_error"),
            ("timeout", 504, "timeout_error"),
            ("unavailable", 503, "api_error"),
        ] {
            let answer = told(class);
            assert_eq!(answer.status.as_u16(), status, "{class}");
            let body: Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!((&body["type"], &body["error"]["type"]), (&"error".into(), &kind.into()));
        }
        for class in FAILURE_CLASSES {
            let on_vertex = on_vertex(&Failure { class: Some(class), ..Failure::default() });
            assert!(!on_vertex.body.is_empty(), "{class}");
        }
        let status = StatusCode::from_u16(413).ok();
        let large = failure(&Failure { status, ..Failure::default() });
        assert!(text(&large).contains("request_too_large"));
    }

    #[test]
    fn a_rate_limit_names_its_numbers_and_when_it_ends() {
        let tokens = Gauge {
            limit: 30_000,
            remaining: 500,
            reset: Duration::from_millis(58_400),
            requested: 1200,
        };
        let now = Duration::from_secs(1_795_507_583);
        let quota = Quota { now, tokens: Some(tokens), ..Quota::default() };
        let answer = failure(&Failure {
            quota: Some(quota),
            retry_after: Some(Duration::from_millis(1400)),
            ..Failure::default()
        });
        assert!(text(&answer).contains("rate limit of 30,000 input tokens per minute"));
        assert_eq!(header(&answer, "retry-after"), Some("2"));
        assert_eq!(header(&answer, "retry-after-ms"), None);
        assert_eq!(
            quota_headers(&quota),
            [
                ("anthropic-ratelimit-tokens-limit", "30000".to_owned()),
                ("anthropic-ratelimit-tokens-remaining", "500".to_owned()),
                ("anthropic-ratelimit-tokens-reset", "2026-11-24T08:07:22Z".to_owned()),
            ]
        );
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(thousands(999), "999");
    }
}
