//! Edits answers: ends a stream for a reason, cuts a whole answer short.

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::exchange::Event;

/// The event that ends a stream like the one that `like` belongs to.
pub(super) fn finish_event(like: &Event, reason: &str) -> Option<Event> {
    let mut chunk: Map<String, Value> = serde_json::from_slice(&like.data).ok()?;
    let choices = chunk.get_mut("choices")?.as_array_mut()?;
    for choice in &mut *choices {
        let choice = choice.as_object_mut()?;
        if choice.contains_key("delta") {
            choice.insert("delta".into(), Value::Object(Map::new()));
        }
        if choice.contains_key("text") {
            choice.insert("text".into(), Value::from(""));
        }
        choice.insert("finish_reason".into(), Value::from(reason));
    }
    if choices.is_empty() {
        return None;
    }
    Some(like.with_data(serde_json::to_vec(&chunk).ok()?))
}

/// A whole answer with its text cut to a share.
pub(super) fn shorten(body: &[u8], share: f64, reason: &str) -> Option<Bytes> {
    let share = share.clamp(0.0, 1.0);
    let mut answer: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let mut had_text = false;
    for choice in answer.get_mut("choices")?.as_array_mut()? {
        let choice = choice.as_object_mut()?;
        let length = length_of(choice);
        if length == 0 {
            continue;
        }
        had_text = true;
        cut_choice(choice, (length as f64 * share).floor() as usize);
        choice.insert("finish_reason".into(), Value::from(reason));
    }
    if !had_text {
        return None;
    }
    if let Some(usage) = answer.get_mut("usage").and_then(Value::as_object_mut) {
        cut_usage(usage, share);
    }
    serde_json::to_vec(&answer).ok().map(Bytes::from)
}

/// The texts of a choice in the order in which a model writes them.
fn texts(choice: &mut Map<String, Value>) -> Vec<&mut String> {
    let mut found = Vec::new();
    for (key, value) in choice {
        match (key.as_str(), value) {
            ("text", Value::String(text)) => found.push(text),
            ("message", Value::Object(message)) => {
                for (key, value) in message {
                    match (key.as_str(), value) {
                        ("content" | "refusal", Value::String(text)) => found.push(text),
                        ("tool_calls", Value::Array(calls)) => {
                            found.extend(calls.iter_mut().filter_map(|call| {
                                match call.get_mut("function")?.get_mut("arguments")? {
                                    Value::String(text) => Some(text),
                                    _ => None,
                                }
                            }));
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    found
}

fn length_of(choice: &mut Map<String, Value>) -> usize {
    texts(choice).iter().map(|text| text.chars().count()).sum()
}

/// Keeps the first characters of a choice's texts, `keep` in all; tool calls that were not begun
/// are gone.
fn cut_choice(choice: &mut Map<String, Value>, keep: usize) {
    let mut left = keep;
    for text in texts(choice) {
        let end = text.char_indices().nth(left).map_or(text.len(), |(at, _)| at);
        left -= text[..end].chars().count();
        text.truncate(end);
    }
    let message = choice.get_mut("message").and_then(Value::as_object_mut);
    if let Some(calls) = message.and_then(|message| message.get_mut("tool_calls"))
        && let Some(calls) = calls.as_array_mut()
    {
        let begun = |call: &Value| call["function"]["arguments"] != "";
        calls.retain(begun);
    }
}

/// Lets the provider's count agree with the text that is left.
fn cut_usage(usage: &mut Map<String, Value>, share: f64) {
    let Some(completion) = usage.get("completion_tokens").and_then(Value::as_u64) else { return };
    let kept = (completion as f64 * share).floor() as u64;
    usage.insert("completion_tokens".into(), Value::from(kept));
    if let Some(total) = usage.get("total_tokens").and_then(Value::as_u64) {
        let total = total.saturating_sub(completion - kept);
        usage.insert("total_tokens".into(), Value::from(total));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::openai::answer::{read_event, read_message};

    #[test]
    fn a_finish_event_is_shaped_like_its_stream() {
        let like = Event::sse(
            r#"{"id":"c1","model":"m","choices":[{"index":0,"delta":{"content":"x"},"logprobs":null,"finish_reason":null}],"usage":null}"#,
        );
        let event = finish_event(&like, "length").unwrap();
        let text = std::str::from_utf8(&event.raw).unwrap();
        assert_eq!(
            text,
            "data: {\"id\":\"c1\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"length\"}],\"usage\":null}\n\n"
        );
        assert_eq!(read_event(&event).finish.as_deref(), Some("length"));
        assert_eq!(finish_event(&Event::sse("[DONE]"), "length"), None);
        assert_eq!(finish_event(&Event::sse(r#"{"choices":[]}"#), "length"), None);
    }

    #[test]
    fn a_short_answer_agrees_with_itself() {
        let body = r#"{"id":"c1","choices":[{"index":0,"message":{"role":"assistant","content":"ééééé12345"},"finish_reason":"stop"}],"usage":{"prompt_tokens":8,"completion_tokens":10,"total_tokens":18}}"#;
        let short = shorten(body.as_bytes(), 0.5, "length").unwrap();
        let reading = read_message(&short);
        assert_eq!(reading.text, "ééééé");
        assert_eq!(reading.finish.as_deref(), Some("length"));
        assert_eq!(reading.usage, Some((8, 5)));
        assert!(short.ends_with(br#""total_tokens":13}}"#));
    }

    #[test]
    fn tool_calls_are_cut_too() {
        let body = r#"{"choices":[{"message":{"content":null,"tool_calls":[{"id":"1","function":{"name":"f","arguments":"{\"a\":1}"}},{"id":"2","function":{"name":"g","arguments":"{\"b\":2}"}}]},"finish_reason":"tool_calls"}]}"#;
        let short = shorten(body.as_bytes(), 0.25, "tool_calls").unwrap();
        assert_eq!(read_message(&short).text, "{\"a");
        assert!(!std::str::from_utf8(&short).unwrap().contains("\"g\""));
    }

    #[test]
    fn an_answer_without_text_cannot_be_shortened() {
        for body in [r#"{"data":[{"embedding":[1]}]}"#, r#"{"error":{"message":"x"}}"#, "nope", ""]
        {
            assert_eq!(shorten(body.as_bytes(), 0.5, "length"), None);
        }
    }
}
