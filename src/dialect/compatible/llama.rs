//! The API that llama.cpp's server has of its own: `/completion`.

use std::sync::LazyLock;

use http::Method;
use serde_json::Value;

use crate::dialect::{Outline, Slot};
use crate::exchange::{Event, Facts, Operation};
use crate::wire::json::Paths;

static PATHS: LazyLock<Paths<Slot>> = LazyLock::new(|| {
    Paths::new(&[
        ("content", Slot::Text),
        ("model", Slot::Model),
        ("stop_type", Slot::Finish),
        ("tokens_predicted", Slot::CompletionTokens),
        ("tokens_evaluated", Slot::PromptTokens),
    ])
});

/// None where it is OpenAI's format.
pub(super) fn outline(payload: &[u8]) -> Option<Outline> {
    let outline = Outline::of(&PATHS, payload);
    outline.has(Slot::Text).then_some(outline)
}

pub(super) fn is_last(payload: &[u8]) -> bool {
    serde_json::from_slice::<Value>(payload).is_ok_and(|event| event["stop"] == true)
}

pub(super) fn word(reason: &str) -> &str {
    match reason {
        "length" => "limit",
        "stop" => "eos",
        other => other,
    }
}

/// The last event of a stream like this one.
pub(super) fn finish(like: &Event, tokens: u64, reason: &str) -> Option<Event> {
    outline(&like.data)?;
    let mut event: Value = serde_json::from_slice(&like.data).ok()?;
    event["content"] = "".into();
    event["stop"] = true.into();
    event["stop_type"] = word(reason).into();
    event["tokens_predicted"] = tokens.into();
    event["truncated"] = false.into();
    event["stopping_word"] = "".into();
    Some(like.with_data(event.to_string()))
}

pub(super) fn facts(method: &Method, path: &str, body: &[u8]) -> Option<Facts> {
    let path = path.trim_end_matches('/');
    if method != Method::POST || !(path.ends_with("/completion") || path.ends_with("/infill")) {
        return None;
    }
    let asked: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = asked["prompt"].as_str().map_or(0, str::len) / 4;
    let prompt_tokens = u32::try_from(text).unwrap_or(u32::MAX);
    Some(Facts {
        operation: Operation::Chat,
        model: asked["model"].as_str().map(str::to_owned),
        stream: asked["stream"] == true,
        prompt_tokens: if body.is_empty() { 0 } else { prompt_tokens.max(1) },
        max_tokens: asked["n_predict"].as_u64().and_then(|most| u32::try_from(most).ok()),
        ..Facts::default()
    })
}
