//! Answers that are bad by their head alone: their class, and what they say.

use std::sync::Arc;

use http::header::{LOCATION, RETRY_AFTER};
use http::{HeaderMap, StatusCode};

use super::error_text;
use crate::measure::Outcome;

/// A status that is no success.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    pub(crate) outcome: Outcome,
    location: Option<String>,
}

impl Refusal {
    /// The class of a status that is no success.
    pub(crate) fn new(status: StatusCode, head: &HeaderMap) -> Self {
        let outcome = match status.as_u16() {
            429 => Outcome::RateLimited,
            503 if head.contains_key(RETRY_AFTER) => Outcome::RateLimited,
            400..500 => Outcome::Http4xx,
            500.. => Outcome::Http5xx,
            _ => Outcome::Invalid,
        };
        let location = head.get(LOCATION).and_then(|location| location.to_str().ok());
        Self { status, outcome, location: location.map(str::to_owned) }
    }

    /// What the answer says, in words.
    pub(crate) fn text(&self, body: &[u8]) -> Arc<str> {
        if self.status.is_redirection() {
            let location = self.location.as_deref().unwrap_or("nowhere");
            return error_text::shown(&format!("a redirect to {location}"));
        }
        error_text::of_body(self.status, body)
    }
}
