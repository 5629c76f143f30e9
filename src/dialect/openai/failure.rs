//! What OpenAI answers when it fails, and how it tells what is left of a rate limit.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde_json::ser::PrettyFormatter;

use crate::dialect::class::{Class, html_page, short, whole_seconds};
use crate::dialect::{Answer, Failure, Gauge, Quota};
use crate::dice::hash_bytes;

const ORGANIZATION: &str = "org-brownout";

/// The body of every error.
#[derive(Serialize)]
struct Body<'a> {
    error: &'a Problem<'a>,
}

#[derive(Serialize)]
struct Problem<'a> {
    message: String,
    #[serde(rename = "type")]
    kind: &'a str,
    param: Option<&'a str>,
    code: Option<&'a str>,
}

/// Puts a failure into OpenAI's words.
pub(super) fn failure(failure: &Failure<'_>) -> Answer {
    let class = Class::of(failure);
    let status = failure.status.unwrap_or_else(|| class.status());
    let mut headers = Vec::with_capacity(10);
    let mut put = |name: &str, value: String| headers.push((name.to_owned(), value));
    if class == Class::Html {
        put("content-type", "text/html; charset=UTF-8".into());
        put("server", "cloudflare".into());
        put("cf-ray", format!("{:016x}-FRA", failure.id));
        let body = Bytes::from(html_page(status, "cloudflare"));
        put_retry_after(&mut headers, failure.retry_after);
        return Answer { status, headers, body };
    }
    put("content-type", "application/json".into());
    put("openai-organization", ORGANIZATION.into());
    put("openai-processing-ms", (3 + failure.id % 40).to_string());
    put("openai-version", "2020-10-01".into());
    put("x-request-id", request_id(failure.id));
    put("x-content-type-options", "nosniff".into());
    put("server", "cloudflare".into());
    put("cf-ray", format!("{:016x}-FRA", failure.id));
    put_retry_after(&mut headers, failure.retry_after);
    Answer { status, headers, body: body(&problem(class, failure)) }
}

/// `req_` and 32 hex digits.
fn request_id(id: u64) -> String {
    format!("req_{id:016x}{:016x}", hash_bytes(&id.to_le_bytes()))
}

/// `retry-after` in whole seconds, and `retry-after-ms`, which the official clients prefer.
pub(crate) fn put_retry_after(headers: &mut Vec<(String, String)>, retry_after: Option<Duration>) {
    if let Some(time) = retry_after {
        headers.push(("retry-after".into(), whole_seconds(time).to_string()));
        headers.push(("retry-after-ms".into(), time.as_millis().to_string()));
    }
}

/// JSON indented by four blanks, as this provider prints its errors.
fn body(problem: &Problem<'_>) -> Bytes {
    let mut out = Vec::with_capacity(256);
    let mut json =
        serde_json::Serializer::with_formatter(&mut out, PrettyFormatter::with_indent(b"    "));
    Body { error: problem }
        .serialize(&mut json)
        .expect("a struct of strings serialises into memory");
    out.push(b'\n');
    out.into()
}

fn problem<'a>(class: Class, failure: &Failure<'a>) -> Problem<'a> {
    let model = failure.model.map(short);
    let (kind, param, code, message) = match class {
        Class::Auth => (
            "invalid_request_error",
            None,
            Some("invalid_api_key"),
            "Incorrect API key provided. You can find your API key at \
             https://platform.openai.com/account/api-keys."
                .to_owned(),
        ),
        Class::BadRequest => (
            "invalid_request_error",
            None,
            None,
            "We could not parse the JSON body of your request. (HINT: This likely means you \
             aren't using your HTTP library correctly. The OpenAI API expects a JSON payload, \
             but what was sent was not valid JSON.)"
                .to_owned(),
        ),
        Class::ContextLength => (
            "invalid_request_error",
            Some("messages"),
            Some("context_length_exceeded"),
            "This model's maximum context length is 8192 tokens. However, your messages resulted \
             in 8227 tokens. Please reduce the length of the messages."
                .to_owned(),
        ),
        Class::NotFound => (
            "invalid_request_error",
            None,
            Some("model_not_found"),
            format!(
                "The model `{}` does not exist or you do not have access to it.",
                model.unwrap_or("unknown")
            ),
        ),
        Class::Overloaded => (
            "server_error",
            None,
            None,
            "The engine is currently overloaded, please try again later.".to_owned(),
        ),
        Class::Quota if failure.quota.is_some() => {
            let limit = Limit::of(failure.quota.as_ref()).of_the_day();
            (limit.kind, None, Some("rate_limit_exceeded"), limit.message(model, failure))
        }
        Class::Quota => (
            "insufficient_quota",
            None,
            Some("insufficient_quota"),
            "You exceeded your current quota, please check your plan and billing details. For \
             more information on this error, read the docs: \
             https://platform.openai.com/docs/guides/error-codes/api-errors."
                .to_owned(),
        ),
        Class::RateLimit => {
            let limit = Limit::of(failure.quota.as_ref());
            (limit.kind, None, Some("rate_limit_exceeded"), limit.message(model, failure))
        }
        Class::SlowDown => (
            "rate_limit_error",
            None,
            Some("slow_down"),
            "Slow down: your request rate is rising too fast. Please reduce it to its earlier \
             level, then increase it gradually."
                .to_owned(),
        ),
        Class::Timeout => (
            "server_error",
            None,
            None,
            "The server timed out while processing your request. Please try again.".to_owned(),
        ),
        Class::Unavailable => (
            "service_unavailable",
            None,
            None,
            "The service is temporarily unavailable. Please try again later.".to_owned(),
        ),
        Class::Html | Class::ServerError => (
            "server_error",
            None,
            None,
            "The server had an error while processing your request. Sorry about that!".to_owned(),
        ),
    };
    let message = failure.message.map_or(message, str::to_owned);
    Problem { message, kind, param, code }
}

/// The measure that a request went over.
struct Limit {
    kind: &'static str,
    unit: &'static str,
    gauge: Option<Gauge>,
    /// All of it comes back at once.
    at_once: bool,
}

impl Limit {
    fn of(quota: Option<&Quota>) -> Self {
        let requests =
            Self { kind: "requests", unit: "requests per min (RPM)", gauge: None, at_once: false };
        let tokens =
            Self { kind: "tokens", unit: "tokens per min (TPM)", gauge: None, at_once: false };
        match quota {
            Some(Quota { tokens: Some(gauge), .. }) if gauge.requested > gauge.remaining => {
                Self { gauge: Some(*gauge), ..tokens }
            }
            Some(Quota { requests: Some(gauge), .. }) => Self { gauge: Some(*gauge), ..requests },
            Some(Quota { tokens: Some(gauge), .. }) => Self { gauge: Some(*gauge), ..tokens },
            _ => requests,
        }
    }

    /// How long until what was requested is there.
    fn until(&self, gauge: Gauge) -> Duration {
        if self.at_once { gauge.reset } else { until_enough(gauge) }
    }

    /// The same measure counted by the day, which the limits of low tiers have.
    fn of_the_day(self) -> Self {
        let tokens = self.kind == "tokens";
        let unit = if tokens { "tokens per day (TPD)" } else { "requests per day (RPD)" };
        Self { unit, at_once: true, ..self }
    }

    fn message(&self, model: Option<&str>, failure: &Failure<'_>) -> String {
        let model = model.map_or_else(String::new, |model| format!(" for {model}"));
        let mut text =
            format!("Rate limit reached{model} in organization {ORGANIZATION} on {}", self.unit);
        if let Some(gauge) = self.gauge {
            let used = gauge.limit.saturating_sub(gauge.remaining);
            let Gauge { limit, requested, .. } = gauge;
            text += &format!(": Limit {limit}, Used {used}, Requested {requested}");
        }
        text.push('.');
        if let Some(wait) =
            failure.retry_after.or_else(|| self.gauge.map(|gauge| self.until(gauge)))
        {
            text += &format!(" Please try again in {}.", go_duration(wait));
        }
        text + " Visit https://platform.openai.com/account/rate-limits to learn more."
    }
}

/// How long until a gauge that fills evenly holds what was requested.
fn until_enough(gauge: Gauge) -> Duration {
    let missing = gauge.requested.saturating_sub(gauge.remaining);
    let to_fill = gauge.limit.saturating_sub(gauge.remaining);
    if to_fill == 0 {
        Duration::ZERO
    } else {
        gauge.reset.mul_f64((missing as f64 / to_fill as f64).min(1.0))
    }
}

/// The `x-ratelimit-*` headers.
pub(super) fn quota_headers(quota: &Quota) -> Vec<(&'static str, String)> {
    let (requests, tokens) = (quota.requests, quota.tokens);
    let mut headers = Vec::with_capacity(6);
    let mut put = |name, value: Option<String>| headers.extend(value.map(|value| (name, value)));
    let limit = |gauge: Gauge| gauge.limit.to_string();
    let remaining = |gauge: Gauge| gauge.remaining.to_string();
    let reset = |gauge: Gauge| go_duration(gauge.reset);
    put("x-ratelimit-limit-requests", requests.map(limit));
    put("x-ratelimit-limit-tokens", tokens.map(limit));
    put("x-ratelimit-remaining-requests", requests.map(remaining));
    put("x-ratelimit-remaining-tokens", tokens.map(remaining));
    put("x-ratelimit-reset-requests", requests.map(reset));
    put("x-ratelimit-reset-tokens", tokens.map(reset));
    headers
}

/// A duration as Go prints it, in whole milliseconds, rounded up: `12ms`, `1.4s`, `6m0s`.
pub(super) fn go_duration(time: Duration) -> String {
    let millis = time.as_nanos().div_ceil(1_000_000);
    if millis == 0 {
        return "0s".into();
    }
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let (minutes, millis) = (millis / 60_000, millis % 60_000);
    let mut seconds = format!("{}.{:03}", millis / 1000, millis % 1000);
    seconds.truncate(seconds.trim_end_matches('0').trim_end_matches('.').len());
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::dialect::FAILURE_CLASSES;

    fn text(answer: &Answer) -> String {
        String::from_utf8(answer.body.to_vec()).unwrap()
    }

    fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
        answer.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn durations_print_as_in_go() {
        let printed = |millis| go_duration(Duration::from_millis(millis));
        assert_eq!(printed(0), "0s");
        assert_eq!(printed(12), "12ms");
        assert_eq!(printed(1000), "1s");
        assert_eq!(printed(1400), "1.4s");
        assert_eq!(printed(10_000), "10s");
        assert_eq!(printed(360_000), "6m0s");
        assert_eq!(printed(63_000_000), "17h30m0s");
        assert_eq!(go_duration(Duration::from_nanos(1)), "1ms");
    }

    #[test]
    fn a_rate_limit_names_its_numbers() {
        let tokens = Gauge {
            limit: 30_000,
            remaining: 500,
            reset: Duration::from_secs(59),
            requested: 1200,
        };
        let quota = Quota { tokens: Some(tokens), ..Quota::default() };
        let answer = failure(&Failure {
            model: Some("gpt-4o"),
            quota: Some(quota),
            retry_after: Some(Duration::from_millis(1400)),
            ..Failure::default()
        });
        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(
            text(&answer),
            "{\n    \"error\": {\n        \"message\": \"Rate limit reached for gpt-4o in \
             organization org-brownout on tokens per min (TPM): Limit 30000, Used 29500, \
             Requested 1200. Please try again in 1.4s. Visit \
             https://platform.openai.com/account/rate-limits to learn more.\",\n        \
             \"type\": \"tokens\",\n        \"param\": null,\n        \"code\": \
             \"rate_limit_exceeded\"\n    }\n}\n"
        );
        assert_eq!(header(&answer, "retry-after"), Some("2"));
        assert_eq!(header(&answer, "retry-after-ms"), Some("1400"));
    }

    #[test]
    fn without_a_wait_the_gauge_tells_it() {
        let requests =
            Gauge { limit: 60, remaining: 0, reset: Duration::from_secs(60), requested: 1 };
        let quota = Quota { requests: Some(requests), ..Quota::default() };
        let answer = failure(&Failure { quota: Some(quota), ..Failure::default() });
        assert!(
            text(&answer).contains("Requested 1. Please try again in 1s."),
            "{}",
            text(&answer)
        );
        assert_eq!(header(&answer, "retry-after"), None, "the fault decides on headers");
    }

    #[test]
    fn every_class_has_its_status_and_parses() {
        for class in FAILURE_CLASSES {
            let answer = failure(&Failure { class: Some(class), id: 7, ..Failure::default() });
            let kind = header(&answer, "content-type").unwrap();
            if *class == "html" {
                assert!(kind.starts_with("text/html") && text(&answer).contains("502 Bad Gateway"));
                continue;
            }
            assert_eq!(kind, "application/json");
            let id = header(&answer, "x-request-id").unwrap();
            assert!(id.len() == 36 && id.starts_with("req_"), "{id}");
            let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
            assert!(body["error"]["message"].as_str().is_some_and(|text| !text.is_empty()));
        }
    }

    #[test]
    fn a_status_of_its_own_is_kept() {
        let status = Some(StatusCode::SERVICE_UNAVAILABLE);
        let answer = failure(&Failure { status, class: Some("slow_down"), ..Failure::default() });
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(text(&answer).contains("slow_down"));
        let status = StatusCode::from_u16(524).ok();
        let page = failure(&Failure { status, ..Failure::default() });
        assert!(text(&page).contains("524"), "a gateway's own status is its page");
    }

    #[test]
    fn quota_headers_tell_what_is_left() {
        let gauge =
            Gauge { limit: 5000, remaining: 4999, reset: Duration::from_millis(12), requested: 1 };
        let headers = quota_headers(&Quota { requests: Some(gauge), ..Quota::default() });
        assert_eq!(
            headers,
            [
                ("x-ratelimit-limit-requests", "5000".to_owned()),
                ("x-ratelimit-remaining-requests", "4999".to_owned()),
                ("x-ratelimit-reset-requests", "12ms".to_owned()),
            ]
        );
    }

    #[test]
    fn a_days_quota_is_a_rate_limit_of_the_day() {
        let reset = Duration::from_secs(3600);
        let gauge = Gauge { limit: 200, remaining: 0, reset, requested: 1 };
        let failure = Failure {
            class: Some("quota"),
            model: Some("gpt-4o"),
            quota: Some(Quota { requests: Some(gauge), ..Quota::default() }),
            ..Failure::default()
        };
        let answer = super::failure(&failure);
        assert_eq!(answer.status.as_u16(), 429);
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let said =
            "on requests per day (RPD): Limit 200, Used 200, Requested 1. Please try again in 1h";
        assert!(text.contains(said), "{text}");
        assert!(text.contains("\"rate_limit_exceeded\""), "{text}");
    }
}
