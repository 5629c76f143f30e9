//! What Ollama answers when it fails: the local server, and its cloud where only that can.

use std::borrow::Cow;

use http::StatusCode;
use serde_json::json;

use crate::dialect::class::{Class, html_page, short, uuid, whole_seconds};
use crate::dialect::{Answer, Failure};
use crate::exchange::Event;

/// Puts a failure into Ollama's words.
pub(super) fn failure(failure: &Failure<'_>) -> Answer {
    let class = Class::of(failure);
    let status = failure.status.unwrap_or(match class {
        // A model that does not come up is the server's own failure.
        Class::Timeout => StatusCode::INTERNAL_SERVER_ERROR,
        other => other.status(),
    });
    let mut headers = Vec::with_capacity(2);
    let body = if class == Class::Html {
        headers.push(("content-type".into(), "text/html".into()));
        html_page(status, "nginx")
    } else {
        headers.push(("content-type".into(), "application/json; charset=utf-8".into()));
        json!({ "error": message(failure) }).to_string()
    };
    // It sends none by itself.
    if let Some(time) = failure.retry_after {
        headers.push(("retry-after".into(), whole_seconds(time).to_string()));
    }
    Answer { status, headers, body: body.into() }
}

/// The line that ends a stream which breaks.
pub(super) fn inband(message: &str) -> Event {
    Event::ndjson(json!({ "error": message }).to_string())
}

/// What it says of a failure.
pub(super) fn message<'a>(failure: &Failure<'a>) -> Cow<'a, str> {
    if let Some(message) = failure.message {
        return message.into();
    }
    let model = failure.model.map_or("unknown", short);
    match Class::of(failure) {
        Class::Auth => "unauthorized".into(),
        Class::BadRequest => format!("\"{model}\" does not support tools").into(),
        Class::ContextLength => "the input length exceeds the context length".into(),
        Class::Html | Class::ServerError => {
            "an error was encountered while running the model: unexpected EOF".into()
        }
        Class::NotFound => format!("model \"{model}\" not found, try pulling it first").into(),
        // Two blanks, as on the wire.
        Class::Overloaded => {
            "server busy, please try again.  maximum pending requests exceeded".into()
        }
        Class::Quota => {
            "you've reached your weekly usage limit, please wait or upgrade to continue".into()
        }
        Class::RateLimit => {
            "you've reached your hourly usage limit, please wait or upgrade to continue".into()
        }
        Class::SlowDown => "timed out waiting for a concurrent request slot".into(),
        Class::Timeout => "timed out waiting for llama runner to start - progress 0.00 - ".into(),
        Class::Unavailable => {
            format!("Server overloaded, please retry shortly (ref: {})", uuid(failure.id)).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::FAILURE_CLASSES;

    fn told(class: &str) -> (u16, String) {
        let answer =
            failure(&Failure { class: Some(class), model: Some("m"), ..Failure::default() });
        (answer.status.as_u16(), String::from_utf8(answer.body.to_vec()).unwrap())
    }

    #[test]
    fn each_class_has_its_text() {
        for (class, status, text) in [
            ("bad_request", 400, r#"{"error":"\"m\" does not support tools"}"#),
            ("not_found", 404, r#"{"error":"model \"m\" not found, try pulling it first"}"#),
            (
                "overloaded",
                503,
                r#"{"error":"server busy, please try again.  maximum pending requests exceeded"}"#,
            ),
        ] {
            assert_eq!(told(class), (status, text.to_owned()));
        }
        assert_eq!(told("timeout").0, 500);
        for class in FAILURE_CLASSES.iter().filter(|class| **class != "html") {
            let body: serde_json::Value = serde_json::from_str(&told(class).1).unwrap();
            assert!(body["error"].as_str().is_some_and(|text| !text.is_empty()), "{class}");
        }
    }
}
