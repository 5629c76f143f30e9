//! Reads chunks and whole answers, and makes the chunk that ends a stream.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::places;
use crate::dialect::words::{Problem, Words};
use crate::dialect::{Reading, reading};
use crate::exchange::{Event, Operation};

/// What an answer without content may say.
#[derive(Deserialize)]
struct Rest<'a> {
    #[serde(borrow, default)]
    error: Option<Problem<'a>>,
    #[serde(borrow, default, rename = "promptFeedback")]
    feedback: Option<Feedback<'a>>,
}

/// Why a prompt was not answered.
#[derive(Deserialize)]
struct Feedback<'a> {
    #[serde(borrow, default, rename = "blockReason")]
    reason: Words<'a>,
}

/// Reads one chunk of a stream.
pub(super) fn read_event(operation: Operation, payload: &[u8]) -> Reading {
    let reading = reading::of_event(payload, &places::outline(operation, payload));
    with_rest(payload, reading)
}

/// Reads a whole answer.
pub(super) fn read_message(operation: Operation, body: &[u8]) -> Reading {
    let reading = reading::of_message(body, &places::outline(operation, body));
    with_rest(body, reading)
}

fn with_rest(payload: &[u8], mut reading: Reading) -> Reading {
    if reading.text.is_empty()
        && reading.finish.is_none()
        && let Ok(rest) = serde_json::from_slice::<Rest<'_>>(payload)
    {
        reading.error = rest.error.map(|problem| problem.0.to_string());
        let reason = rest.feedback.map(|feedback| feedback.reason.0.to_string());
        reading.finish = reason.filter(|reason| !reason.is_empty());
    }
    reading
}

/// The chunk that ends a stream like the one that `like` belongs to: no text, and a reason.
pub(super) fn finish_event(like: &Event, reason: &str) -> Option<Event> {
    let mut chunk: Map<String, Value> = serde_json::from_slice(&like.data).ok()?;
    let candidates = chunk.get_mut("candidates")?.as_array_mut()?;
    for candidate in &mut *candidates {
        let candidate = candidate.as_object_mut()?;
        let content = candidate.get_mut("content").and_then(Value::as_object_mut);
        if let Some(parts) = content.and_then(|content| content.get_mut("parts")) {
            *parts = serde_json::json!([{ "text": "" }]);
        }
        candidate.insert("finishReason".into(), Value::from(reason));
    }
    if candidates.is_empty() {
        return None;
    }
    Some(like.with_data(serde_json::to_vec(&chunk).ok()?))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::wire::sse::Splitter;

    fn event(data: &str) -> Reading {
        read_event(Operation::Chat, data.as_bytes())
    }

    #[test]
    fn chunks_say_text_calls_finish_and_usage() {
        let chunk = event(
            r#"{"candidates":[{"content":{"parts":[{"text":"Hé"}],"role":"model"},"index":0}],"usageMetadata":{"promptTokenCount":3,"totalTokenCount":3}}"#,
        );
        assert_eq!((chunk.text.as_str(), chunk.tokens, chunk.done), ("Hé", 1, false));
        assert_eq!((chunk.finish, chunk.usage), (None, Some((3, 0))));
        let call = event(
            r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{"a":1}}}]},"finishReason":"STOP"}]}"#,
        );
        assert_eq!((call.text.as_str(), call.tokens), (r#"{"a":1}"#, 1));
        assert_eq!(call.finish.as_deref(), Some("STOP"));
        let blocked = event(r#"{"promptFeedback":{"blockReason":"SAFETY"}}"#);
        assert_eq!((blocked.finish.as_deref(), blocked.tokens), (Some("SAFETY"), 0));
        let error = event(r#"{"error":{"code":503,"message":"no","status":"UNAVAILABLE"}}"#);
        assert_eq!(error.error.as_deref(), Some("no"));
    }

    #[test]
    fn whole_answers_count_thoughts_too() {
        let read = read_message(
            Operation::Chat,
            br#"{"candidates":[{"content":{"role":"model","parts":[{"text":"Hello"}]},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":2,"thoughtsTokenCount":4,"totalTokenCount":9}}"#,
        );
        assert_eq!((read.tokens, read.usage), (6, Some((3, 6))));
        assert_eq!(read.finish.as_deref(), Some("STOP"));
        let vectors = read_message(Operation::Embed, br#"{"embeddings":[{"values":[0.1]}]}"#);
        assert_eq!((vectors.tokens, vectors.usage), (0, None));
    }

    #[test]
    fn the_last_chunk_is_framed_like_its_stream() {
        let raw = "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"x\"}],\"role\":\"model\"},\"index\":0}],\"responseId\":\"r\"}\r\n\r\n";
        let mut splitter = Splitter::new();
        let Some(crate::exchange::Item::Event(like)) = splitter.push(Bytes::from(raw)).next()
        else {
            panic!("an event")
        };
        assert_eq!(
            finish_event(&like, "MAX_TOKENS").unwrap().raw,
            "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"\"}],\"role\":\"model\"},\"index\":0,\"finishReason\":\"MAX_TOKENS\"}],\"responseId\":\"r\"}\r\n\r\n"
        );
        assert_eq!(finish_event(&Event::sse(r#"{"candidates":[]}"#), "STOP"), None);
        assert_eq!(finish_event(&Event::sse("{}"), "STOP"), None);
    }
}
