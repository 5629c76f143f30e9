//! What Cohere answers when it fails, and how it tells what is left of a rate limit.

use std::borrow::Cow;

use http::StatusCode;
use serde_json::json;

use crate::dialect::class::{Class, html_page, short, uuid, whole_seconds};
use crate::dialect::{Answer, Failure, Quota};
use crate::exchange::Event;

/// Puts a failure into Cohere's words.
pub(super) fn failure(failure: &Failure<'_>) -> Answer {
    let class = Class::of(failure);
    let status = failure.status.unwrap_or(match class {
        Class::Quota => StatusCode::PAYMENT_REQUIRED,
        other => other.status(),
    });
    let mut headers = Vec::with_capacity(4);
    let mut put = |name: &str, value: String| headers.push((name.to_owned(), value));
    let body = if class == Class::Html {
        put("content-type", "text/html; charset=UTF-8".into());
        html_page(status, "nginx")
    } else {
        put("content-type", "application/json".into());
        put("x-debug-trace-id", format!("{:032x}", failure.id));
        json!({ "id": uuid(failure.id), "message": message(failure) }).to_string()
    };
    if let Some(time) = failure.retry_after {
        put("retry-after", whole_seconds(time).to_string());
    }
    Answer { status, headers, body: body.into() }
}

/// The event that ends a stream which breaks.
pub(super) fn inband(message: &str) -> Event {
    let end = json!({
        "type": "message-end",
        "delta": { "error": message, "finish_reason": "ERROR" },
    });
    Event::named("message-end", end.to_string())
}

/// What it says of a failure.
pub(super) fn message<'a>(failure: &Failure<'a>) -> Cow<'a, str> {
    if let Some(message) = failure.message {
        return message.into();
    }
    match Class::of(failure) {
        Class::Auth => "invalid api token".into(),
        Class::BadRequest => "invalid request: message must be at least 1 token long or tool \
                              results must be specified."
            .into(),
        Class::ContextLength => "too many tokens: size limit exceeded by 1234 tokens. Try using \
                                 shorter or fewer inputs."
            .into(),
        Class::NotFound => format!(
            "model '{}' not found, make sure the correct model ID was used and that you have \
             access to the model.",
            failure.model.map_or("unknown", short)
        )
        .into(),
        Class::Overloaded => "the service is overloaded, please try again later".into(),
        Class::Quota => "the billing limit of this account has been reached".into(),
        Class::RateLimit => {
            let limit = failure.quota.and_then(|quota| quota.requests);
            format!(
                "You are using a Trial key, which is limited to {} API calls / minute. You can \
                 continue to use the Trial key for free or upgrade to a Production key with \
                 higher rate limits at 'https://dashboard.cohere.com/api-keys'.",
                limit.map_or(40, |gauge| gauge.limit)
            )
            .into()
        }
        Class::SlowDown => "too many requests, please wait and try again later".into(),
        Class::Timeout => "the request timed out".into(),
        Class::Unavailable => "the service is unavailable".into(),
        Class::Html | Class::ServerError => format!(
            "internal server error, this has been reported to our developers. id {}",
            uuid(failure.id)
        )
        .into(),
    }
}

/// When all is there again, in seconds since 1970: what the official client reads.
pub(super) fn quota_headers(quota: &Quota) -> Vec<(&'static str, String)> {
    let Some(gauge) = quota.requests.or(quota.tokens) else { return Vec::new() };
    vec![
        ("x-ratelimit-limit", gauge.limit.to_string()),
        ("x-ratelimit-remaining", gauge.remaining.to_string()),
        ("x-ratelimit-reset", whole_seconds(quota.now + gauge.reset).to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::dialect::{FAILURE_CLASSES, Gauge};

    #[test]
    fn each_class_is_a_message() {
        for class in FAILURE_CLASSES.iter().filter(|class| **class != "html") {
            let answer = failure(&Failure { class: Some(class), ..Failure::default() });
            let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
            assert!(body["message"].as_str().is_some_and(|text| !text.is_empty()), "{class}");
        }
        let auth = failure(&Failure { class: Some("auth"), ..Failure::default() });
        assert_eq!(auth.status.as_u16(), 401);
        assert!(auth.body.ends_with(br#""message":"invalid api token"}"#));
    }

    #[test]
    fn the_reset_is_a_time_of_the_day() {
        let gauge =
            Gauge { limit: 40, remaining: 0, reset: Duration::from_millis(59_500), requested: 1 };
        let now = Duration::from_secs(1_795_507_583);
        let quota = Quota { now, requests: Some(gauge), tokens: None };
        assert_eq!(quota_headers(&quota)[2], ("x-ratelimit-reset", "1795507643".to_owned()));
    }
}
