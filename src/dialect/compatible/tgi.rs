//! The API that Text Generation Inference has of its own: `/generate` and `/generate_stream`.

use std::sync::LazyLock;

use http::Method;
use serde_json::{Value, json};

use crate::dialect::{Outline, Slot};
use crate::exchange::{Event, Facts, Operation};
use crate::wire::json::Paths;

static EVENT: LazyLock<Paths<Slot>> = LazyLock::new(|| {
    Paths::new(&[
        ("token.text", Slot::Text),
        ("details.finish_reason", Slot::Finish),
        ("details.generated_tokens", Slot::CompletionTokens),
    ])
});

static WHOLE: LazyLock<Paths<Slot>> = LazyLock::new(|| {
    Paths::new(&[
        ("generated_text", Slot::Text),
        ("details.finish_reason", Slot::Finish),
        ("details.generated_tokens", Slot::CompletionTokens),
        // In front of `/`, which answers with a list.
        ("[*].generated_text", Slot::Text),
        ("[*].details.finish_reason", Slot::Finish),
        ("[*].details.generated_tokens", Slot::CompletionTokens),
    ])
});

/// None where it is OpenAI's format.
pub(super) fn outline(payload: &[u8]) -> Option<Outline> {
    let event = Outline::of(&EVENT, payload);
    if event.has(Slot::Text) {
        return Some(event);
    }
    let whole = Outline::of(&WHOLE, payload);
    whole.has(Slot::Text).then_some(whole)
}

/// Whether an event is of this API.
pub(super) fn is_own(event: &Event) -> bool {
    Outline::of(&EVENT, &event.data).has(Slot::Text)
}

/// The last event holds the whole text.
pub(super) fn is_last(payload: &[u8]) -> bool {
    serde_json::from_slice::<Value>(payload).is_ok_and(|event| event["generated_text"].is_string())
}

pub(super) fn word(reason: &str) -> &str {
    match reason {
        "stop" => "eos_token",
        other => other,
    }
}

/// The last event of a stream like this one.
pub(super) fn finish(like: &Event, text: &str, tokens: u64, reason: &str) -> Option<Event> {
    if !is_own(like) {
        return None;
    }
    let mut event: Value = serde_json::from_slice(&like.data).ok()?;
    let index = event["index"].as_u64().unwrap_or(0);
    event["index"] = (index + 1).into();
    event["token"]["text"] = "".into();
    event["token"]["special"] = true.into();
    event["generated_text"] = text.into();
    event["details"] = json!({
        "finish_reason": word(reason), "generated_tokens": tokens, "input_length": 0, "seed": null,
    });
    Some(like.with_data(event.to_string()))
}

pub(super) fn facts(method: &Method, path: &str, body: &[u8]) -> Option<Facts> {
    let path = path.trim_end_matches('/');
    let stream = path.ends_with("/generate_stream");
    if method != Method::POST || !(stream || path.ends_with("/generate") || path.is_empty()) {
        return None;
    }
    let asked: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = asked["inputs"].as_str().map_or(0, str::len) / 4;
    let prompt_tokens = u32::try_from(text).unwrap_or(u32::MAX);
    let most = asked["parameters"]["max_new_tokens"].as_u64();
    Some(Facts {
        operation: Operation::Chat,
        stream: stream || asked["stream"] == true,
        prompt_tokens: if body.is_empty() { 0 } else { prompt_tokens.max(1) },
        max_tokens: most.map(|most| u32::try_from(most).unwrap_or(u32::MAX)),
        ..Facts::default()
    })
}
