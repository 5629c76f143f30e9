//! What the simulated API says when it does not answer, in OpenAI's words.

use std::time::Duration;

use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::put;
use crate::sim::limit::{Quota, go_style};

/// An error answer.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    kind: &'static str,
    param: Option<&'static str>,
    code: Option<&'static str>,
    message: String,
    retry_after: Option<Duration>,
}

impl Refusal {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, param: None, code: None, message: message.into(), retry_after: None }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    pub(super) fn bad_json(error: &serde_json::Error) -> Self {
        if error.is_data() {
            return Self::bad_request(format!(
                "Invalid value in the JSON body of your request: {error}."
            ));
        }
        Self::bad_request(format!(
            "We could not parse the JSON body of your request. (HINT: This likely means you aren't \
             using your HTTP library correctly. The OpenAI API expects a JSON payload, but what was \
             sent was not valid JSON: {error}.)"
        ))
    }

    pub(super) fn missing(param: &'static str) -> Self {
        let message = format!("Missing required parameter: '{param}'.");
        Self {
            param: Some(param),
            code: Some("missing_required_parameter"),
            ..Self::bad_request(message)
        }
    }

    pub(super) fn bad_param(param: &'static str, message: impl Into<String>) -> Self {
        Self { param: Some(param), code: Some("invalid_value"), ..Self::bad_request(message) }
    }

    pub(super) fn bad_input() -> Self {
        Self::bad_request(
            "'$.input' is invalid. Please check the API reference: \
             https://platform.openai.com/docs/api-reference.",
        )
    }

    pub(super) fn too_long(limit: usize, tokens: usize, param: &'static str) -> Self {
        let message = format!(
            "This model's maximum context length is {limit} tokens. However, your messages \
             resulted in {tokens} tokens. Please reduce the length of the messages."
        );
        Self {
            param: Some(param),
            code: Some("context_length_exceeded"),
            ..Self::bad_request(message)
        }
    }

    pub(super) fn unreadable() -> Self {
        Self::bad_request("The body of your request could not be read.")
    }

    pub(super) fn no_key() -> Self {
        let message = "You didn't provide an API key. You need to provide your API key in an \
             Authorization header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).";
        Self::new(StatusCode::UNAUTHORIZED, "invalid_request_error", message)
    }

    pub(super) fn no_such_model(name: &str) -> Self {
        let message = format!("The model `{name}` does not exist or you do not have access to it.");
        let refusal = Self::new(StatusCode::NOT_FOUND, "invalid_request_error", message);
        Self { code: Some("model_not_found"), ..refusal }
    }

    pub(super) fn no_such_path(method: &Method, path: &str) -> Self {
        let message = format!("Invalid URL ({method} {path})");
        Self::new(StatusCode::NOT_FOUND, "invalid_request_error", message)
    }

    /// The line in front of the machine is full.
    pub(super) fn overloaded() -> Self {
        let message = "The engine is currently overloaded, please try again later.";
        let refusal = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message);
        Self { code: Some("slow_down"), retry_after: Some(Duration::from_secs(1)), ..refusal }
    }

    pub(super) fn rate_limited(quota: &Quota) -> Self {
        let wait = quota.wait.unwrap_or_default();
        let message = format!(
            "Rate limit reached in organization org-simulated on requests per min (RPM): Limit {}, \
             Used {}, Requested 1. Please try again in {}. Visit \
             https://platform.openai.com/account/rate-limits to learn more.",
            quota.limit,
            quota.limit - quota.remaining,
            go_style(wait),
        );
        let refusal = Self::new(StatusCode::TOO_MANY_REQUESTS, "requests", message);
        Self { code: Some("rate_limit_exceeded"), retry_after: Some(wait), ..refusal }
    }

    pub(super) fn internal(message: &str) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({ "error": {
            "message": self.message, "type": self.kind, "param": self.param, "code": self.code,
        } });
        let mut response =
            (self.status, [(header::CONTENT_TYPE, "application/json")], body.to_string())
                .into_response();
        if let Some(wait) = self.retry_after {
            let head = response.headers_mut();
            put(head, "retry-after", &wait.as_millis().div_ceil(1000).max(1).to_string());
            put(head, "retry-after-ms", &wait.as_millis().max(1).to_string());
        }
        response
    }
}
