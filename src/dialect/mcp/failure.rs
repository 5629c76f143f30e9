//! How an MCP server fails: by HTTP where the request does not reach it, by an error of JSON-RPC
//! where it cannot serve it, by a result that says `isError` where the tool has failed.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::Call;
use crate::dialect::class::{Class, html_page, whole_seconds};
use crate::dialect::{Answer, Failure};

/// JSON-RPC: it broke inside.
pub(super) const INTERNAL: i32 = -32603;

struct Words {
    status: u16,
    code: i32,
    message: &'static str,
}

fn words(failure: &Failure<'_>) -> Words {
    let (status, code, message) = match (failure.class, Class::of(failure)) {
        // What servers of all languages answer for a session that they do not know (any more).
        (Some("session_lost"), _) => (404, -32600, "Session not found"),
        (_, Class::Auth) => (401, -32001, "Authentication required"),
        (_, Class::BadRequest) => (200, -32602, "Invalid params"),
        (_, Class::ContextLength) => (413, -32600, "Payload too large"),
        (_, Class::NotFound) => (200, -32601, "Method not found"),
        (_, Class::Overloaded) => (503, -32000, "Server overloaded"),
        (_, Class::Quota) => (429, -32000, "Quota exceeded"),
        (_, Class::RateLimit | Class::SlowDown) => (429, -32000, "Too many requests"),
        (_, Class::Timeout) => (200, -32001, "Request timed out"),
        (_, Class::Html | Class::Unavailable) => (503, -32000, "Service unavailable"),
        (_, Class::ServerError) => (200, INTERNAL, "Internal error"),
    };
    Words { status, code, message }
}

/// The message of JSON-RPC by which a request fails.
pub(super) fn message(failure: &Failure<'_>) -> Value {
    let id = Call::read(failure.request).id;
    if failure.class == Some("tool_error") {
        let text = failure.message.unwrap_or("Error executing tool: the service behind it failed");
        let content = json!([{ "type": "text", "text": text }]);
        // The newest generation wants to know that this is all.
        let result = json!({ "content": content, "isError": true, "resultType": "complete" });
        return json!({ "jsonrpc": "2.0", "id": id, "result": result });
    }
    let words = words(failure);
    let message = failure.message.unwrap_or(words.message);
    json!({ "jsonrpc": "2.0", "id": id, "error": { "code": words.code, "message": message } })
}

pub(super) fn failure(failure: &Failure<'_>) -> Answer {
    let words = words(failure);
    let tool = failure.class == Some("tool_error");
    let known = if tool { 200 } else { words.status };
    let known = StatusCode::from_u16(known).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let status = failure.status.unwrap_or(known);
    let mut headers = Vec::with_capacity(3);
    let mut put = |name: &str, value: String| headers.push((name.to_owned(), value));
    if let Some(time) = failure.retry_after {
        put("retry-after", whole_seconds(time).to_string());
    }
    if Class::of(failure) == Class::Html {
        put("content-type", "text/html".into());
        return Answer { status, headers, body: html_page(status, "nginx").into() };
    }
    if Class::of(failure) == Class::Auth && !tool {
        put(
            "www-authenticate",
            "Bearer error=\"invalid_token\", resource_metadata=\
             \"http://localhost/.well-known/oauth-protected-resource\""
                .into(),
        );
    }
    put("content-type", "application/json".into());
    Answer { status, headers, body: Bytes::from(message(failure).to_string()) }
}
