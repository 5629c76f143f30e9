//! Reads events and whole answers, and makes the events that end a stream.

use serde::Deserialize;
use serde_json::json;

use super::places;
use crate::dialect::words::Words;
use crate::dialect::{Reading, reading};
use crate::exchange::{Event, Operation};

const TERMINAL: &[u8] = b"[DONE]";

/// What an event says of itself, and what the one that ends a stream may say.
#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Words<'a>,
    #[serde(default)]
    index: Option<u64>,
    #[serde(borrow, default)]
    delta: Option<Delta<'a>>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default)]
    error: Words<'a>,
}

/// Reads one event of a stream.
pub(super) fn read_event(operation: Operation, payload: &[u8]) -> Reading {
    if payload.trim_ascii() == TERMINAL {
        return Reading { done: true, ..Reading::default() };
    }
    let mut reading = reading::of_event(payload, &places::outline(operation, payload));
    if reading.finish.as_deref() == Some("ERROR") {
        let end = serde_json::from_slice::<Kind<'_>>(payload).ok();
        let error = end.and_then(|end| end.delta).map(|delta| delta.error.0.to_string());
        reading.error = Some(error.unwrap_or_default());
    }
    reading
}

/// Reads a whole answer.
pub(super) fn read_message(operation: Operation, body: &[u8]) -> Reading {
    let mut reading = reading::of_message(body, &places::outline(operation, body));
    if reading.finish.as_deref() == Some("ERROR") {
        reading.error = Some(String::new());
    }
    reading
}

/// Whether an event opens, continues or closes a block.
pub(super) fn is_of_block(payload: &[u8]) -> bool {
    serde_json::from_slice::<Kind<'_>>(payload).is_ok_and(|said| said.block().is_some())
}

/// The block at hand ends, unless it has, then the message, then the stream.
pub(super) fn finish_events(like: &Event, reason: &str, tokens: u64) -> Vec<Event> {
    let Ok(said) = serde_json::from_slice::<Kind<'_>>(&like.data) else { return Vec::new() };
    let event = |kind: &str, body: serde_json::Value| Event::named(kind, body.to_string());
    let mut events = Vec::with_capacity(3);
    match (said.block(), said.index) {
        (Some(_), _) if said.kind.0.ends_with("-end") => {}
        (Some(block), Some(index)) => {
            let kind = format!("{block}-end");
            events.push(event(&kind, json!({ "type": kind, "index": index })));
        }
        // A plan is told before any block.
        _ if said.kind.0 == "tool-plan-delta" => {}
        _ => return events,
    }
    let count = json!({ "input_tokens": 1, "output_tokens": tokens });
    let end = json!({
        "type": "message-end",
        "delta": {
            "finish_reason": reason,
            "usage": { "billed_units": count.clone(), "tokens": count },
        },
    });
    events.push(event("message-end", end));
    events.push(Event::sse(TERMINAL));
    events
}

impl Kind<'_> {
    /// What kind of block it is about.
    fn block(&self) -> Option<&'static str> {
        let (block, part) = self.kind.0.rsplit_once('-')?;
        if !matches!(part, "start" | "delta" | "end") {
            return None;
        }
        ["content", "tool-call"].into_iter().find(|known| *known == block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(data: &str) -> Reading {
        read_event(Operation::Chat, data.as_bytes())
    }

    #[test]
    fn each_event_says_its_part() {
        let text = event(
            r#"{"type":"content-delta","index":0,"delta":{"message":{"content":{"text":"Hé"}}}}"#,
        );
        assert_eq!((text.text.as_str(), text.tokens), ("Hé", 1));
        let plan = r#"{"type":"tool-plan-delta","delta":{"message":{"tool_plan":"I will"}}}"#;
        assert_eq!(event(plan).text, "I will");
        let call = r#"{"type":"tool-call-delta","index":0,"delta":{"message":{"tool_calls":{"function":{"arguments":"{\"a"}}}}}"#;
        assert_eq!(event(call).text, "{\"a");
        let opened = r#"{"type":"message-start","id":"m","delta":{"message":{"role":"assistant","content":[],"tool_calls":[]}}}"#;
        assert_eq!(event(opened).tokens, 0);
        let end = event(
            r#"{"type":"message-end","delta":{"finish_reason":"COMPLETE","usage":{"billed_units":{"input_tokens":1,"output_tokens":2},"tokens":{"input_tokens":9,"output_tokens":3}}}}"#,
        );
        assert_eq!((end.finish.as_deref(), end.usage), (Some("COMPLETE"), Some((9, 3))));
        assert!(!end.done && event("[DONE]").done);
        let broken = r#"{"type":"message-end","delta":{"error":"no","finish_reason":"ERROR"}}"#;
        assert_eq!(event(broken).error.as_deref(), Some("no"));
    }

    #[test]
    fn whole_answers_are_read() {
        let read = read_message(
            Operation::Chat,
            br#"{"id":"c","finish_reason":"COMPLETE","message":{"role":"assistant","content":[{"type":"text","text":"Hello"}]},"usage":{"billed_units":{"input_tokens":1,"output_tokens":2},"tokens":{"input_tokens":8,"output_tokens":4}}}"#,
        );
        assert_eq!((read.text.as_str(), read.tokens, read.usage), ("Hello", 4, Some((8, 4))));
        assert_eq!(read.finish.as_deref(), Some("COMPLETE"));
    }

    #[test]
    fn a_stream_ends_in_three_events() {
        let like = |data: &str| Event::named("x", data);
        let raw = |events: Vec<Event>| -> String {
            events.iter().map(|event| String::from_utf8_lossy(&event.raw).into_owned()).collect()
        };
        let text =
            r#"{"type":"content-delta","index":1,"delta":{"message":{"content":{"text":"x"}}}}"#;
        assert_eq!(
            raw(finish_events(&like(text), "MAX_TOKENS", 7)),
            "event: content-end\ndata: {\"type\":\"content-end\",\"index\":1}\n\nevent: message-end\ndata: {\"type\":\"message-end\",\"delta\":{\"finish_reason\":\"MAX_TOKENS\",\"usage\":{\"billed_units\":{\"input_tokens\":1,\"output_tokens\":7},\"tokens\":{\"input_tokens\":1,\"output_tokens\":7}}}}\n\ndata: [DONE]\n\n"
        );
        let call = r#"{"type":"tool-call-delta","index":2,"delta":{"message":{"tool_calls":{"function":{"arguments":"{"}}}}}"#;
        assert!(raw(finish_events(&like(call), "X", 1)).starts_with("event: tool-call-end\n"));
        let plan = r#"{"type":"tool-plan-delta","delta":{"message":{"tool_plan":"I"}}}"#;
        assert_eq!(finish_events(&like(plan), "X", 1).len(), 2);
        assert_eq!(finish_events(&like("{}"), "X", 1), []);
        let opened = r#"{"type":"tool-call-start","index":2,"delta":{}}"#;
        assert!(raw(finish_events(&like(opened), "X", 1)).starts_with("event: tool-call-end\n"));
        let ended = r#"{"type":"tool-call-end","index":2}"#;
        assert!(raw(finish_events(&like(ended), "X", 1)).starts_with("event: message-end\n"));
    }
}
