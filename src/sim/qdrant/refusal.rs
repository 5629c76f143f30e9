//! What the simulated store says when it does not answer, in Qdrant's words.

use std::fmt::Display;
use std::time::Duration;

use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::point::PointId;

/// An error answer.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    message: String,
    retry_after: Option<Duration>,
}

impl Refusal {
    fn new(status: StatusCode, message: String) -> Self {
        Self { status, message, retry_after: None }
    }

    pub(super) fn bad_input(what: impl Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, format!("Wrong input: {what}"))
    }

    pub(super) fn bad_json(error: &serde_json::Error) -> Self {
        Self::new(StatusCode::BAD_REQUEST, format!("Format error in JSON body: {error}"))
    }

    pub(super) fn wrong_dimensions(expected: usize, got: usize) -> Self {
        Self::bad_input(format!("Vector dimension error: expected dim: {expected}, got {got}"))
    }

    pub(super) fn no_such_vector(name: &str) -> Self {
        Self::bad_input(format!("Not existing vector name error: {name}"))
    }

    pub(super) fn not_simulated(what: &str) -> Self {
        Self::bad_input(format!("{what} is not simulated"))
    }

    pub(super) fn no_such_collection(name: &str) -> Self {
        let message = format!("Not found: Collection `{name}` doesn't exist!");
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub(super) fn no_such_point(id: &PointId) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("Not found: No point with id {id} found"))
    }

    pub(super) fn no_such_path(method: &Method, path: &[&str]) -> Self {
        let message = format!("Not found: {method} /{} is not simulated", path.join("/"));
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub(super) fn exists(name: &str) -> Self {
        let message = format!("Wrong input: Collection `{name}` already exists!");
        Self::new(StatusCode::CONFLICT, message)
    }

    pub(super) fn busy() -> Self {
        let message = "Service unavailable: too many requests are waiting for this shard";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message.to_owned())
    }

    pub(super) fn rate_limited(wait: Duration) -> Self {
        let message = "Rate limiting exceeded: Read rate limit exceeded, retry later".to_owned();
        let refusal = Self::new(StatusCode::TOO_MANY_REQUESTS, message);
        Self { retry_after: Some(wait), ..refusal }
    }

    pub(super) fn internal(error: &dyn Display) -> Self {
        let message = format!("Service internal error: {error}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    pub(super) fn respond(self, time: Duration) -> Response {
        let body = json!({ "status": { "error": self.message }, "time": time.as_secs_f64() });
        let content_type = [(header::CONTENT_TYPE, "application/json")];
        let mut response = (self.status, content_type, body.to_string()).into_response();
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_millis().div_ceil(1000).max(1) as u64;
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
