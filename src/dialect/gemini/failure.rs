//! What Google answers when it fails: a `google.rpc.Status`, from the Gemini API and from Vertex AI.

use std::time::Duration;

use http::StatusCode;
use serde::Serialize;
use serde_json::ser::PrettyFormatter;
use serde_json::{Map, Value, json};

use crate::dialect::class::{Class, short};
use crate::dialect::{Answer, Failure, Gauge, Quota};

const DOCUMENTATION: &str = "https://ai.google.dev/gemini-api/docs/rate-limits";

/// Puts a failure into Google's words.
pub(super) fn failure(failure: &Failure<'_>, vertex: bool) -> Answer {
    let class = Class::of(failure);
    let status = status(class, failure, vertex);
    let mut headers = Vec::with_capacity(8);
    let mut put = |name: &str, value: &str| headers.push((name.to_owned(), value.to_owned()));
    if class == Class::Html {
        put("content-type", "text/html; charset=UTF-8");
        put("referrer-policy", "no-referrer");
        return Answer { status, headers, body: page(status).into() };
    }
    put("vary", "Origin");
    put("vary", "X-Origin");
    put("vary", "Referer");
    put("content-type", "application/json; charset=UTF-8");
    put("server", "scaffolding on HTTPServer2");
    put("x-xss-protection", "0");
    put("x-frame-options", "SAMEORIGIN");
    put("x-content-type-options", "nosniff");
    Answer { status, headers, body: pretty(&status_object(failure, vertex)).into() }
}

/// JSON indented by two blanks, as Google prints it.
fn pretty(value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    let mut json =
        serde_json::Serializer::with_formatter(&mut out, PrettyFormatter::with_indent(b"  "));
    value.serialize(&mut json).expect("a tree of JSON serialises into memory");
    out.push(b'\n');
    out
}

fn status(class: Class, failure: &Failure<'_>, vertex: bool) -> StatusCode {
    failure.status.unwrap_or(match class {
        Class::Auth if !vertex => StatusCode::BAD_REQUEST,
        other => other.status(),
    })
}

/// `{ "error": … }`.
pub(super) fn status_object(failure: &Failure<'_>, vertex: bool) -> Value {
    let class = Class::of(failure);
    let code = status(class, failure, vertex).as_u16();
    let (message, details) =
        if vertex { (vertex_words(class, failure), Vec::new()) } else { words(class, failure) };
    let message = failure.message.map_or(message, str::to_owned);
    let mut error = Map::new();
    error.insert("code".into(), code.into());
    error.insert("message".into(), message.into());
    error.insert("status".into(), word(code).into());
    if !details.is_empty() {
        error.insert("details".into(), details.into());
    }
    json!({ "error": error })
}

/// The name of a status in google.rpc.Code, by the HTTP status that stands for it.
fn word(code: u16) -> &'static str {
    match code {
        400 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        402 => "FAILED_PRECONDITION",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        409 => "ABORTED",
        429 => "RESOURCE_EXHAUSTED",
        499 => "CANCELLED",
        501 => "UNIMPLEMENTED",
        502 | 503 => "UNAVAILABLE",
        408 | 504 => "DEADLINE_EXCEEDED",
        500..=599 => "INTERNAL",
        _ => "UNKNOWN",
    }
}

/// The words of the Gemini API: a message and its details.
fn words(class: Class, failure: &Failure<'_>) -> (String, Vec<Value>) {
    let model = failure.model.map_or("unknown", short);
    let plain = |text: &str| (text.to_owned(), Vec::new());
    match class {
        Class::Auth => {
            let message = "API key not valid. Please pass a valid API key.";
            let details = vec![
                json!({
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": "API_KEY_INVALID",
                    "domain": "googleapis.com",
                    "metadata": { "service": "generativelanguage.googleapis.com" },
                }),
                json!({
                    "@type": "type.googleapis.com/google.rpc.LocalizedMessage",
                    "locale": "en-US",
                    "message": message,
                }),
            ];
            (message.to_owned(), details)
        }
        Class::BadRequest => {
            plain("* GenerateContentRequest.contents: contents is not specified\n")
        }
        Class::ContextLength => plain(
            "The input token count (1200000) exceeds the maximum number of tokens allowed \
             (1048576).",
        ),
        Class::NotFound => (
            format!(
                "models/{model} is not found for API version v1beta, or is not supported for \
                 generateContent. Call ListModels to see the list of available models and their \
                 supported methods."
            ),
            Vec::new(),
        ),
        Class::Overloaded => plain("The model is overloaded. Please try again later."),
        Class::Quota | Class::RateLimit => exhausted(class, model, failure),
        Class::SlowDown => plain("Resource has been exhausted (e.g. check quota)."),
        Class::Timeout => plain("Deadline expired before operation could complete."),
        Class::Unavailable => plain("The service is currently unavailable."),
        Class::Html | Class::ServerError => plain(
            "An internal error has occurred. Please retry or report in \
             https://developers.generativeai.google/guide/troubleshooting",
        ),
    }
}

/// The words of Vertex AI, which names neither quotas nor times.
fn vertex_words(class: Class, failure: &Failure<'_>) -> String {
    let model = failure.model.map_or("unknown", short);
    match class {
        Class::Auth => "Request had invalid authentication credentials. Expected OAuth 2 access \
                        token, login cookie or other valid authentication credential. See \
                        https://developers.google.com/identity/sign-in/web/devconsole-project."
            .to_owned(),
        Class::NotFound => format!(
            "Publisher Model `{model}` was not found or your project does not have access to it. \
             Please ensure you are using a valid model version. For more information, see: \
             https://cloud.google.com/vertex-ai/generative-ai/docs/learn/model-versions"
        ),
        Class::Quota => "Quota exceeded for aiplatform.googleapis.com/\
                         generate_content_requests_per_minute_per_project_per_base_model. Please \
                         submit a quota increase request. \
                         https://cloud.google.com/vertex-ai/docs/generative-ai/quotas-genai."
            .to_owned(),
        Class::RateLimit | Class::SlowDown => {
            "Resource exhausted. Please try again later. Please refer to \
             https://cloud.google.com/vertex-ai/generative-ai/docs/error-code-429 for more details."
                .to_owned()
        }
        Class::Html | Class::ServerError => "Internal error encountered.".to_owned(),
        other => words(other, failure).0,
    }
}

/// A quota of the free tier that is used up: per minute, or per day.
fn exhausted(class: Class, model: &str, failure: &Failure<'_>) -> (String, Vec<Value>) {
    let tokens = match failure.quota {
        Some(Quota { tokens: Some(gauge), .. }) if gauge.requested > gauge.remaining => Some(gauge),
        Some(Quota { requests: None, tokens, .. }) => tokens,
        _ => None,
    };
    let requests = failure.quota.and_then(|quota| quota.requests);
    let limit = |gauge: Option<Gauge>, usual: u64| gauge.map_or(usual, |gauge| gauge.limit);
    let (metric, id, value) = match (class, tokens) {
        (Class::Quota, _) => {
            ("requests", "GenerateRequestsPerDayPerProjectPerModel-FreeTier", limit(requests, 250))
        }
        (_, Some(gauge)) => (
            "input_token_count",
            "GenerateContentInputTokensPerModelPerMinute-FreeTier",
            gauge.limit,
        ),
        (_, None) => (
            "requests",
            "GenerateRequestsPerMinutePerProjectPerModel-FreeTier",
            limit(requests, 10),
        ),
    };
    let metric = format!("generativelanguage.googleapis.com/generate_content_free_tier_{metric}");
    let mut message = format!(
        "You exceeded your current quota, please check your plan and billing details. For more \
         information on this error, head to: {DOCUMENTATION}. To monitor your current usage, head \
         to: https://ai.dev/rate-limit. \n* Quota exceeded for metric: {metric}, limit: {value}, \
         model: {model}"
    );
    let mut details = vec![
        json!({
            "@type": "type.googleapis.com/google.rpc.QuotaFailure",
            "violations": [{
                "quotaMetric": metric,
                "quotaId": id,
                "quotaDimensions": { "location": "global", "model": model },
                "quotaValue": value.to_string(),
            }],
        }),
        json!({
            "@type": "type.googleapis.com/google.rpc.Help",
            "links": [{
                "description": "Learn more about Gemini API quotas",
                "url": DOCUMENTATION,
            }],
        }),
    ];
    if let Some(time) = failure.retry_after {
        message += &format!("\nPlease retry in {}s.", seconds(time));
        details.push(json!({
            "@type": "type.googleapis.com/google.rpc.RetryInfo",
            "retryDelay": format!("{}s", seconds(time)),
        }));
    }
    (message, details)
}

/// Seconds with as many decimals as are needed, to a millisecond, rounded up.
fn seconds(time: Duration) -> String {
    let millis = time.as_nanos().div_ceil(1_000_000);
    let mut text = format!("{}.{:03}", millis / 1000, millis % 1000);
    text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
    text
}

/// The page of Google's front end.
fn page(status: StatusCode) -> String {
    let (code, reason) = (status.as_u16(), status.canonical_reason().unwrap_or("Error"));
    format!(
        "<!DOCTYPE html>\n<html lang=en>\n  <meta charset=utf-8>\n  <meta name=viewport \
         content=\"initial-scale=1, minimum-scale=1, width=device-width\">\n  <title>Error {code} \
         ({reason})!!1</title>\n  <a href=//www.google.com/><span id=logo aria-label=Google></span>\
         </a>\n  <p><b>{code}.</b> <ins>That’s an error.</ins>\n  <p>The server encountered a \
         temporary error and could not complete your request.<p>Please try again in 30 seconds.  \
         <ins>That’s all we know.</ins>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::FAILURE_CLASSES;

    fn told(class: &str, vertex: bool) -> (u16, Value) {
        let answer = failure(
            &Failure { class: Some(class), model: Some("gemini-2.5-flash"), ..Failure::default() },
            vertex,
        );
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(body["error"]["code"], answer.status.as_u16());
        (answer.status.as_u16(), body["error"].clone())
    }

    #[test]
    fn every_class_has_its_status() {
        for (class, code, word) in [
            ("auth", 400, "INVALID_ARGUMENT"),
            ("bad_request", 400, "INVALID_ARGUMENT"),
            ("context_length", 400, "INVALID_ARGUMENT"),
            ("not_found", 404, "NOT_FOUND"),
            ("overloaded", 503, "UNAVAILABLE"),
            ("quota", 429, "RESOURCE_EXHAUSTED"),
            ("rate_limit", 429, "RESOURCE_EXHAUSTED"),
            ("server_error", 500, "INTERNAL"),
            ("slow_down", 429, "RESOURCE_EXHAUSTED"),
            ("timeout", 504, "DEADLINE_EXCEEDED"),
            ("unavailable", 503, "UNAVAILABLE"),
        ] {
            let (status, error) = told(class, false);
            assert_eq!((status, &error["status"]), (code, &word.into()), "{class}");
        }
        for class in FAILURE_CLASSES.iter().filter(|class| **class != "html") {
            let (status, error) = told(class, true);
            assert!(status >= 400 && error.get("details").is_none(), "{class}");
        }
        assert_eq!(told("auth", true).1["status"], "UNAUTHENTICATED");
        let page = failure(&Failure { class: Some("html"), ..Failure::default() }, false);
        assert!(page.body.starts_with(b"<!DOCTYPE html>") && page.status == 502);
    }

    #[test]
    fn a_rate_limit_says_when_to_come_again_in_its_body() {
        let answer = failure(
            &Failure {
                class: Some("rate_limit"),
                model: Some("gemini-2.5-flash"),
                retry_after: Some(Duration::from_secs(38)),
                ..Failure::default()
            },
            false,
        );
        assert!(answer.headers.iter().all(|(name, _)| !name.contains("retry")));
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        let text = body["error"]["message"].as_str().unwrap();
        assert!(text.ends_with("\nPlease retry in 38s."), "{text}");
        let details = body["error"]["details"].as_array().unwrap();
        assert_eq!(
            details[2],
            json!({ "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "38s" })
        );
        let violation = &details[0]["violations"][0];
        assert_eq!(violation["quotaId"], "GenerateRequestsPerMinutePerProjectPerModel-FreeTier");
        assert_eq!(violation["quotaValue"], "10");
        assert!(answer.body.starts_with(b"{\n  \"error\": {\n    \"code\": 429,"));
    }

    #[test]
    fn a_daily_quota_says_no_time() {
        let (_, error) = told("quota", false);
        let text = error.to_string();
        assert!(text.contains("PerDay") && !text.contains("RetryInfo"), "{text}");
        let gauge = Gauge { limit: 250_000, remaining: 3, requested: 9, ..Gauge::default() };
        let quota = Quota { tokens: Some(gauge), ..Quota::default() };
        let failure = Failure { quota: Some(quota), ..Failure::default() };
        let text = status_object(&failure, false).to_string();
        assert!(text.contains("InputTokensPerModelPerMinute") && text.contains("\"250000\""));
        assert_eq!(seconds(Duration::from_micros(1_400_001)), "1.401");
    }
}
