//! What Bedrock answers when it fails: a type in a header, a message in the body; inside a stream an
//! exception in a frame of its own.

use http::StatusCode;
use serde_json::json;

use crate::dialect::class::{Class, html_page, uuid, whole_seconds};
use crate::dialect::{Answer, Failure};
use crate::exchange::Event;

/// Puts a failure into Bedrock's words.
pub(super) fn failure(failure: &Failure<'_>) -> Answer {
    let class = Class::of(failure);
    let words = Words::of(class, failure);
    let status = failure.status.unwrap_or(words.status);
    let mut headers = Vec::with_capacity(4);
    let mut put = |name: &str, value: String| headers.push((name.to_owned(), value));
    if let Some(time) = failure.retry_after {
        put("Retry-After", whole_seconds(time).to_string());
    }
    if class == Class::Html {
        put("Server", "awselb/2.0".into());
        put("Content-Type", "text/html".into());
        return Answer { status, headers, body: html_page(status, "awselb/2.0").into() };
    }
    put("Content-Type", "application/json".into());
    put("x-amzn-RequestId", uuid(failure.id));
    put(
        "x-amzn-ErrorType",
        format!("{}:http://internal.amazon.com/coral/com.amazon.bedrock/", words.kind),
    );
    let body = json!({ "message": failure.message.unwrap_or(words.message) });
    Answer { status, headers, body: body.to_string().into() }
}

/// A failure inside a stream.
pub(super) fn inside(failure: &Failure<'_>) -> Event {
    let words = Words::of(Class::of(failure), failure);
    // A stream has five exceptions; the rest is said as what it comes nearest to.
    let kind = match words.kind {
        "ThrottlingException" => "throttlingException",
        "ServiceUnavailableException" | "ModelNotReadyException" => "serviceUnavailableException",
        "ModelTimeoutException" | "ModelErrorException" => "modelStreamErrorException",
        "InternalServerException" => "internalServerException",
        _ => "validationException",
    };
    exception(kind, failure.message.unwrap_or(words.message))
}

/// An exception as a frame.
pub(super) fn exception(kind: &str, message: &str) -> Event {
    let headers = [
        (":exception-type", kind),
        (":content-type", "application/json"),
        (":message-type", "exception"),
    ];
    Event::eventstream(&headers, json!({ "message": message }).to_string())
}

struct Words {
    status: StatusCode,
    kind: &'static str,
    message: &'static str,
}

impl Words {
    fn of(class: Class, failure: &Failure<'_>) -> Self {
        let model_failed =
            failure.class.is_none() && failure.status.is_some_and(|status| status.as_u16() == 424);
        if model_failed {
            let status = StatusCode::FAILED_DEPENDENCY;
            return Self { status, kind: "ModelErrorException", message: MODEL_ERROR };
        }
        let (status, kind, message) = match class {
            Class::Auth => (
                403,
                "UnrecognizedClientException",
                "The security token included in the request is invalid.",
            ),
            Class::BadRequest => (
                400,
                "ValidationException",
                "Malformed input request, please reformat your input and try again.",
            ),
            Class::ContextLength => {
                (400, "ValidationException", "Input is too long for requested model.")
            }
            Class::NotFound => (
                404,
                "ResourceNotFoundException",
                "Could not resolve the foundation model from the provided model identifier.",
            ),
            Class::Quota => (
                429,
                "ThrottlingException",
                "Too many tokens per day, please wait before trying again.",
            ),
            Class::RateLimit => (429, "ThrottlingException", too_many(failure)),
            Class::SlowDown => (
                429,
                "ModelNotReadyException",
                "The model is not ready to serve inference requests. Try your request again.",
            ),
            Class::Timeout => (
                408,
                "ModelTimeoutException",
                "Model has timed out in processing the request. Try your request again.",
            ),
            Class::Html => (503, "ServiceUnavailableException", ""),
            Class::Overloaded | Class::Unavailable => {
                (503, "ServiceUnavailableException", "Bedrock is unable to process your request.")
            }
            Class::ServerError => (
                500,
                "InternalServerException",
                "The system encountered an unexpected error during processing. Try your request again.",
            ),
        };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, kind, message }
    }
}

const MODEL_ERROR: &str = "The request failed due to an error while processing the model.";

fn too_many(failure: &Failure<'_>) -> &'static str {
    match failure.quota.and_then(|quota| quota.tokens) {
        Some(gauge) if gauge.requested > gauge.remaining => {
            "Too many tokens, please wait before trying again."
        }
        _ => "Too many requests, please wait before trying again.",
    }
}
