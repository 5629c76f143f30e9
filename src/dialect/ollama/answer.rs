//! Where the parts of Ollama's answers stand, what they say, and the line that ends a stream.

use std::sync::LazyLock;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::dialect::words::Problem;
use crate::dialect::{Outline, Reading, Slot, reading};
use crate::exchange::{Event, Operation};
use crate::wire::json::Paths;

/// Lines of a stream and whole answers of `/api/chat` and `/api/generate`.
static CHAT: LazyLock<Paths<Slot>> = LazyLock::new(|| {
    Paths::new(&[
        ("model", Slot::Model),
        ("message.role", Slot::Role),
        ("message.content", Slot::Text),
        ("message.thinking", Slot::Reasoning),
        ("message.tool_calls[*]", Slot::Call),
        ("message.tool_calls[*].id", Slot::CallId),
        ("message.tool_calls[*].function.index", Slot::CallIndex),
        ("message.tool_calls[*].function.name", Slot::CallName),
        ("message.tool_calls[*].function.arguments", Slot::Arguments),
        ("response", Slot::Text),
        ("thinking", Slot::Reasoning),
        ("done_reason", Slot::Finish),
        ("prompt_eval_count", Slot::PromptTokens),
        ("eval_count", Slot::CompletionTokens),
    ])
});

/// Answers of `/api/embed`, and of the older `/api/embeddings`.
static EMBEDDINGS: LazyLock<Paths<Slot>> = LazyLock::new(|| {
    Paths::new(&[
        ("model", Slot::Model),
        ("embedding", Slot::Vector),
        ("embeddings", Slot::Rows),
        ("embeddings[*]", Slot::Vector),
        ("prompt_eval_count", Slot::PromptTokens),
    ])
});

/// What else a line says.
#[derive(Deserialize)]
struct Rest<'a> {
    #[serde(default)]
    done: Option<bool>,
    #[serde(borrow, default)]
    error: Option<Problem<'a>>,
}

/// Where the parts of an answer stand.
pub(super) fn outline(operation: Operation, payload: &[u8]) -> Outline {
    match operation {
        Operation::Chat => Outline::of(&CHAT, payload),
        Operation::Embed => Outline::of(&EMBEDDINGS, payload),
        _ => Outline::default(),
    }
}

/// Reads one line of a stream.
pub(super) fn read_event(operation: Operation, payload: &[u8]) -> Reading {
    let mut reading = reading::of_event(payload, &outline(operation, payload));
    if let Ok(rest) = serde_json::from_slice::<Rest<'_>>(payload) {
        reading.done = rest.done == Some(true);
        reading.error = rest.error.map(|problem| problem.0.to_string());
        // Older servers end without a reason.
        if reading.done && operation == Operation::Chat && reading.finish.is_none() {
            reading.finish = Some("stop".to_owned());
        }
    }
    reading
}

/// Reads a whole answer.
pub(super) fn read_message(operation: Operation, body: &[u8]) -> Reading {
    let mut reading = reading::of_message(body, &outline(operation, body));
    if reading.text.is_empty()
        && let Ok(rest) = serde_json::from_slice::<Rest<'_>>(body)
    {
        reading.error = rest.error.map(|problem| problem.0.to_string());
    }
    reading
}

/// Times of a model that writes 50 tokens a second: what the true ones were is not known here.
const EACH: Duration = Duration::from_millis(20);

/// The last line of a stream like the one that `like` belongs to.
pub(super) fn finish_event(like: &Event, reason: &str, tokens: u64) -> Option<Event> {
    let mut line: Map<String, Value> = serde_json::from_slice(&like.data).ok()?;
    if let Some(Value::Object(message)) = line.get_mut("message") {
        message.retain(|key, _| key == "role");
        message.insert("content".into(), "".into());
    } else if line.contains_key("response") {
        line.retain(|key, _| matches!(&**key, "model" | "created_at" | "response"));
        line.insert("response".into(), "".into());
    } else {
        return None;
    }
    let nanos = |time: Duration| json!(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    let written = EACH.saturating_mul(u32::try_from(tokens).unwrap_or(u32::MAX));
    let more = [
        ("done", json!(true)),
        ("done_reason", json!(reason)),
        ("total_duration", nanos(written + EACH * 2)),
        ("load_duration", nanos(EACH)),
        ("prompt_eval_count", json!(1)),
        ("prompt_eval_duration", nanos(EACH)),
        ("eval_count", json!(tokens)),
        ("eval_duration", nanos(written)),
    ];
    for (key, value) in more {
        line.insert(key.into(), value);
    }
    Some(like.with_data(serde_json::to_vec(&line).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::listing::listings;

    fn event(data: &str) -> Reading {
        read_event(Operation::Chat, data.as_bytes())
    }

    #[test]
    fn lines_say_text_calls_and_the_end() {
        let line = event(
            r#"{"model":"m","created_at":"2026-11-24T06:00:00Z","message":{"role":"assistant","content":"Hé"},"done":false}"#,
        );
        assert_eq!((line.text.as_str(), line.tokens, line.done), ("Hé", 1, false));
        assert_eq!(event(r#"{"response":"x","done":false}"#).text, "x");
        let thought = r#"{"message":{"role":"assistant","content":"","thinking":"hm"}}"#;
        assert_eq!(event(thought).text, "hm");
        let call = event(
            r#"{"message":{"role":"assistant","content":"","tool_calls":[{"function":{"name":"f","arguments":{"a":1}}}]},"done":false}"#,
        );
        assert_eq!((call.text.as_str(), call.tokens), (r#"{"a":1}"#, 1));
        let last = event(
            r#"{"message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","prompt_eval_count":26,"eval_count":282}"#,
        );
        assert_eq!((last.finish.as_deref(), last.done), (Some("stop"), true));
        assert_eq!((last.usage, last.tokens), (Some((26, 282)), 0));
        assert_eq!(event(r#"{"response":"","done":true}"#).finish.as_deref(), Some("stop"));
        assert_eq!(event(r#"{"error":"broken"}"#).error.as_deref(), Some("broken"));
    }

    #[test]
    fn whole_answers_and_vectors_are_read() {
        let whole = read_message(
            Operation::Chat,
            br#"{"model":"m","message":{"role":"assistant","content":"Hello"},"done":true,"done_reason":"length","prompt_eval_count":2,"eval_count":3}"#,
        );
        assert_eq!((whole.text.as_str(), whole.tokens), ("Hello", 3));
        assert_eq!((whole.finish.as_deref(), whole.usage), (Some("length"), Some((2, 3))));
        let body = br#"{"model":"m","embeddings":[[0.5],[0.25]],"prompt_eval_count":4}"#;
        assert_eq!(read_message(Operation::Embed, body).usage, Some((4, 0)));
        assert_eq!(listings(body, &outline(Operation::Embed, body))[0].rows, 2);
    }

    #[test]
    fn the_last_line_has_its_reason_and_counts() {
        let chat = Event::ndjson(
            r#"{"model":"m","created_at":"t","message":{"role":"assistant","content":"x","thinking":"y"},"done":false}"#,
        );
        assert_eq!(
            finish_event(&chat, "length", 5).unwrap().raw,
            "{\"model\":\"m\",\"created_at\":\"t\",\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":true,\"done_reason\":\"length\",\"total_duration\":140000000,\"load_duration\":20000000,\"prompt_eval_count\":1,\"prompt_eval_duration\":20000000,\"eval_count\":5,\"eval_duration\":100000000}\n"
        );
        let generate = Event::ndjson(r#"{"model":"m","response":"x","thinking":"y","done":false}"#);
        let last = finish_event(&generate, "stop", 1).unwrap();
        assert!(last.data.starts_with(br#"{"model":"m","response":"","done":true"#));
        assert!(read_event(Operation::Chat, &last.data).done);
        assert_eq!(finish_event(&Event::ndjson("{}"), "stop", 1), None);
    }
}
