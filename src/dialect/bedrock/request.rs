//! What a request to Bedrock asks for: the model is in its path, the rest in a body whose form is
//! that of Converse or of the model.

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method, Uri};
use serde_json::Value;

use crate::dialect::class::short;
use crate::exchange::{Facts, Operation};

/// Reads a request; a body that was not read to its end tells its size alone.
pub(super) fn facts(method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Facts {
    let Some((model, call)) = asked(method, uri.path()) else { return Facts::default() };
    let embeds = call == "invoke" && model.contains("embed");
    let operation = if embeds { Operation::Embed } else { Operation::Chat };
    let stream = matches!(call, "converse-stream" | "invoke-with-response-stream");
    let mut facts =
        Facts { operation, model: Some(short(&model).to_owned()), stream, ..Facts::default() };
    if body.is_empty() {
        return facts;
    }
    let text = match serde_json::from_slice::<Value>(body) {
        Ok(asked) => {
            facts.max_tokens = most(&asked);
            facts.tools = tools(&asked);
            facts.turn = turns(&asked);
            let keys =
                ["messages", "system", "prompt", "inputText", "texts", "toolConfig", "tools"];
            keys.iter().map(|key| length(&asked[*key])).sum()
        }
        Err(_) => declared(headers).max(body.len() as u64),
    };
    facts.prompt_tokens = u32::try_from(text / 4).unwrap_or(u32::MAX).max(1);
    facts
}

/// The model and the call of a path: `/model/{id}/converse`, the id being percent-encoded.
pub(super) fn asked<'a>(method: &Method, path: &'a str) -> Option<(String, &'a str)> {
    let (before, call) = path.trim_end_matches('/').rsplit_once('/')?;
    let known =
        matches!(call, "converse" | "converse-stream" | "invoke" | "invoke-with-response-stream");
    if method != Method::POST || !known {
        return None;
    }
    // An ARN has slashes, which some clients do not encode.
    let (_, model) = before.rsplit_once("/model/")?;
    Some((decoded(model), call))
}

/// Percent-decoded, as far as it is well-formed.
fn decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        let digits = behind.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        let value = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match value.filter(|_| *byte == b'%') {
            Some(value) => {
                out.push(value);
                rest = &behind[2..];
            }
            None => {
                out.push(*byte);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn most(asked: &Value) -> Option<u32> {
    let places = [
        &asked["inferenceConfig"]["maxTokens"],
        &asked["inferenceConfig"]["max_new_tokens"],
        &asked["max_tokens"],
        &asked["textGenerationConfig"]["maxTokenCount"],
        &asked["max_gen_len"],
    ];
    let most = places.into_iter().find_map(Value::as_u64)?;
    Some(u32::try_from(most).unwrap_or(u32::MAX))
}

fn tools(asked: &Value) -> Vec<String> {
    let of = |tools: &Value| tools.as_array().cloned().unwrap_or_default();
    let converse = of(&asked["toolConfig"]["tools"]);
    let converse = converse.iter().filter_map(|tool| tool["toolSpec"]["name"].as_str());
    let claude = of(&asked["tools"]);
    let claude = claude.iter().filter_map(|tool| tool["name"].as_str());
    converse.chain(claude).take(128).map(|name| short(name).to_owned()).collect()
}

/// Messages of the user that are no results of tools.
fn turns(asked: &Value) -> u32 {
    let is_result =
        |part: &Value| part.get("toolResult").is_some() || part["type"] == "tool_result";
    let is_turn = |message: &&Value| {
        let parts = message["content"].as_array().map(Vec::as_slice).unwrap_or_default();
        message["role"] == "user" && (parts.is_empty() || !parts.iter().all(is_result))
    };
    let messages = asked["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    u32::try_from(messages.iter().filter(is_turn).count()).unwrap_or(u32::MAX)
}

/// Bytes of text in a value; the bytes of images and documents, and labels, are none.
fn length(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.len() as u64,
        Value::Array(items) => items.iter().map(length).sum(),
        Value::Object(map) => {
            let is_text = |key: &str| {
                !matches!(key, "bytes" | "data" | "id" | "role" | "source" | "toolUseId" | "type")
            };
            map.iter().filter(|(key, _)| is_text(key)).map(|(_, value)| length(value)).sum()
        }
        _ => 0,
    }
}

fn declared(headers: &HeaderMap) -> u64 {
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    length.and_then(|text| text.parse().ok()).unwrap_or(0)
}
