//! How servers that speak OpenAI's format fail: the same classes, each in other words.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::{Server, tgi};
use crate::dialect::class::{Class, html_page, short, whole_seconds};
use crate::dialect::openai::OpenAi;
use crate::dialect::{Answer, Dialect, Failure, SoFar};
use crate::exchange::Event;

/// Puts a failure into the server's words.
pub(super) fn failure(server: Server, failure: &Failure<'_>) -> Answer {
    let class = Class::of(failure);
    if server == Server::OpenRouter && class == Class::Html {
        return OpenAi.failure(failure);
    }
    let words = Words::of(server, class, failure);
    let status = failure.status.unwrap_or(words.status);
    let mut headers = Vec::with_capacity(4);
    let mut put = |name: &str, value: String| headers.push((name.to_owned(), value));
    if let Some(time) = failure.retry_after {
        put("retry-after", whole_seconds(time).to_string());
    }
    if class == Class::Html {
        // What stands in front of it.
        put("server", "nginx".into());
        put("content-type", "text/html".into());
        return Answer { status, headers, body: html_page(status, "nginx").into() };
    }
    match server {
        Server::LlamaCpp => put("Server", "llama.cpp".into()),
        Server::OpenRouter => put("server", "cloudflare".into()),
        Server::SgLang | Server::Vllm => put("server", "uvicorn".into()),
        Server::Tgi => {}
    }
    let charset = if server == Server::LlamaCpp { "; charset=utf-8" } else { "" };
    put("content-type", format!("application/json{charset}"));
    let message = failure.message.map_or(words.message, str::to_owned);
    let body = body(server, status, words.kind, &message);
    Answer { status, headers, body: Bytes::from(body.to_string()) }
}

fn body(server: Server, status: StatusCode, kind: &str, message: &str) -> Value {
    let code = status.as_u16();
    match server {
        Server::LlamaCpp => {
            let mut body = json!({ "error": { "code": code, "message": message, "type": kind } });
            if kind == "exceed_context_size_error" {
                body["error"]["n_prompt_tokens"] = 13392.into();
                body["error"]["n_ctx"] = 8192.into();
            }
            body
        }
        Server::OpenRouter => json!({ "error": { "message": message, "code": code } }),
        Server::SgLang => json!({
            "object": "error", "message": message, "type": kind, "param": null, "code": code,
        }),
        Server::Tgi => json!({ "error": message, "error_type": kind }),
        Server::Vllm => json!({
            "error": { "message": message, "type": kind, "param": null, "code": code },
        }),
    }
}

/// The events by which a server reports a failure inside a stream.
pub(super) fn inside(server: Server, failure: &Failure<'_>, so_far: &SoFar) -> Vec<Event> {
    let words = Words::of(server, Class::of(failure), failure);
    let status = failure.status.unwrap_or(words.status);
    let message = failure.message.map_or(words.message, str::to_owned);
    let flat = |server| Event::sse(body(server, status, words.kind, &message).to_string());
    let done = || Event::sse("[DONE]");
    match server {
        Server::LlamaCpp => vec![flat(server)],
        Server::OpenRouter => vec![last_chunk(so_far, &message), done()],
        Server::SgLang => {
            let inner = body(server, status, words.kind, &message);
            vec![Event::sse(json!({ "error": inner }).to_string()), done()]
        }
        Server::Tgi if so_far.last.as_ref().is_none_or(tgi::is_own) => vec![flat(server)],
        Server::Tgi => {
            let code = status.as_u16();
            let error = json!({ "error": { "message": message, "http_status_code": code } });
            vec![Event::sse(error.to_string())]
        }
        Server::Vllm => vec![flat(server), done()],
    }
}

/// OpenRouter's last chunk of a stream that failed: a chunk like the others that holds the error.
fn last_chunk(so_far: &SoFar, message: &str) -> Event {
    let last = so_far.last.as_ref();
    let mut chunk: Value =
        last.and_then(|last| serde_json::from_slice(&last.data).ok()).unwrap_or_else(|| json!({}));
    if let Some(chunk) = chunk.as_object_mut() {
        chunk.insert("error".into(), json!({ "code": "server_error", "message": message }));
        let choice = json!({ "index": 0, "delta": { "content": "" }, "finish_reason": "error" });
        chunk.insert("choices".into(), json!([choice]));
    }
    Event::sse(chunk.to_string())
}

/// What an event says of a failure where that is not in OpenAI's words.
pub(super) fn said(data: &[u8]) -> Option<String> {
    let event: Value = serde_json::from_slice(data).ok()?;
    event.get("error_type")?;
    Some(event["error"].as_str().unwrap_or_default().to_owned())
}

struct Words {
    status: StatusCode,
    kind: &'static str,
    message: String,
}

impl Words {
    fn of(server: Server, class: Class, failure: &Failure<'_>) -> Self {
        let model = failure.model.map_or("unknown", short);
        let (status, kind, message) = match server {
            Server::LlamaCpp => llama_cpp(class),
            Server::OpenRouter => openrouter(class, model),
            Server::SgLang => sglang(class, model),
            Server::Tgi => tgi(class),
            Server::Vllm => vllm(class, model),
        };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, kind, message }
    }
}

type Said = (u16, &'static str, String);

fn vllm(class: Class, model: &str) -> Said {
    let (status, kind, message) = match class {
        Class::Auth => return (401, "Unauthorized", "Unauthorized".into()),
        Class::BadRequest => {
            (400, "BadRequestError", "1 validation error: field required: 'messages'")
        }
        Class::ContextLength => (
            400,
            "BadRequestError",
            "This model's maximum context length is 4096 tokens. However, your prompt contains \
             5211 input tokens. Please reduce the length of the input messages.",
        ),
        Class::NotFound => {
            return (404, "NotFoundError", format!("The model `{model}` does not exist."));
        }
        Class::Html | Class::Overloaded | Class::RateLimit | Class::Quota => (
            503,
            "Service Unavailable",
            "The engine is currently busy and cannot accept new requests. Please try again later \
             or on a different instance.",
        ),
        Class::SlowDown => (
            503,
            "Service Unavailable",
            "The engine has reached its prefill token backlog limit. Please try again later or on \
             a different instance.",
        ),
        Class::ServerError => {
            (500, "InternalServerError", "The server had an error while processing your request.")
        }
        Class::Timeout | Class::Unavailable => {
            (503, "ServiceUnavailableError", "Request failed; please retry")
        }
    };
    (status, kind, message.into())
}

fn sglang(class: Class, model: &str) -> Said {
    let (status, kind, message) = match class {
        Class::Auth => (401, "Unauthorized", "Unauthorized"),
        Class::BadRequest => (400, "BadRequest", "The request body is not valid."),
        Class::ContextLength => (
            400,
            "BadRequest",
            "The input (13392 tokens) is longer than the model's context length (8192 tokens).",
        ),
        Class::NotFound => {
            return (404, "NotFound", format!("The model `{model}` does not exist."));
        }
        Class::Html | Class::Overloaded | Class::RateLimit | Class::Quota => {
            (503, "SERVICE_UNAVAILABLE", "The request queue is full.")
        }
        Class::SlowDown => {
            (503, "SERVICE_UNAVAILABLE", "The request is aborted by a higher priority request.")
        }
        Class::ServerError => (500, "InternalServerError", "Internal server error"),
        Class::Timeout | Class::Unavailable => {
            (503, "SERVICE_UNAVAILABLE", "The server is not ready.")
        }
    };
    (status, kind, message.into())
}

fn tgi(class: Class) -> Said {
    let (status, kind, message) = match class {
        Class::Auth => (401, "unauthorized", "Unauthorized"),
        Class::BadRequest | Class::NotFound => {
            (422, "validation", "Input validation error: `inputs` cannot be empty")
        }
        Class::ContextLength => (
            422,
            "validation",
            "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: \
             5211 `inputs` tokens and 1 `max_new_tokens`",
        ),
        Class::Overloaded | Class::RateLimit | Class::SlowDown | Class::Quota => {
            (429, "overloaded", "Model is overloaded")
        }
        Class::ServerError => {
            (424, "generation", "Request failed during generation: Server error: CANCELLED")
        }
        Class::Timeout => (500, "incomplete_generation", "Incomplete generation"),
        Class::Html | Class::Unavailable => (503, "healthcheck", "unhealthy"),
    };
    (status, kind, message.into())
}

fn llama_cpp(class: Class) -> Said {
    let (status, kind, message) = match class {
        Class::Auth => (401, "authentication_error", "Invalid API Key"),
        Class::BadRequest => (400, "invalid_request_error", "'messages' is required"),
        Class::ContextLength => (
            400,
            "exceed_context_size_error",
            "request (13392 tokens) exceeds the available context size (8192 tokens), try \
             increasing it",
        ),
        Class::NotFound => (404, "not_found_error", "File Not Found"),
        Class::ServerError | Class::Timeout => (500, "server_error", "Compute error."),
        Class::Html
        | Class::Overloaded
        | Class::Quota
        | Class::RateLimit
        | Class::SlowDown
        | Class::Unavailable => (503, "unavailable_error", "Loading model"),
    };
    (status, kind, message.into())
}

fn openrouter(class: Class, model: &str) -> Said {
    let (status, message) = match class {
        Class::Auth => (401, "No auth credentials found"),
        Class::BadRequest => (400, "Input required: specify \"prompt\" or \"messages\""),
        Class::ContextLength => (
            400,
            "This endpoint's maximum context length is 8192 tokens. However, you requested about \
             13392 tokens. Please reduce the length of either one.",
        ),
        Class::NotFound => return (404, "", format!("No endpoints found for {model}.")),
        Class::Quota => {
            (402, "Insufficient credits. Add more using https://openrouter.ai/settings/credits")
        }
        Class::RateLimit | Class::SlowDown => (429, "Rate limit exceeded: free-models-per-min. "),
        Class::Timeout => (408, "Request timed out"),
        Class::Html | Class::Overloaded | Class::Unavailable => (503, "No instances available"),
        Class::ServerError => (502, "Provider returned error"),
    };
    (status, "", message.into())
}
