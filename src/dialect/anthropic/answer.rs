//! Reads events and whole messages, and makes the events that end a stream.

use serde::Deserialize;
use serde_json::json;

use super::places;
use crate::dialect::words::{Problem, Words};
use crate::dialect::{Reading, Slot, reading};
use crate::exchange::Event;

/// What an event without content is.
#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Words<'a>,
    #[serde(borrow, default)]
    error: Option<Problem<'a>>,
}

/// Reads one event of a stream.
pub(super) fn read_event(payload: &[u8]) -> Reading {
    let outline = places::outline(payload);
    let mut reading = reading::of_event(payload, &outline);
    if reading.text.is_empty() && reading.finish.is_none() {
        note_kind(payload, &mut reading);
    }
    reading
}

/// Reads a whole message.
pub(super) fn read_message(body: &[u8]) -> Reading {
    let mut reading = reading::of_message(body, &places::outline(body));
    if reading.finish.is_none() {
        note_kind(body, &mut reading);
        reading.done = false;
    }
    reading
}

fn note_kind(payload: &[u8], reading: &mut Reading) {
    if let Ok(said) = serde_json::from_slice::<Kind<'_>>(payload) {
        reading.done = said.kind.0 == "message_stop";
        let broken = said.kind.0 == "error";
        reading.error = said.error.filter(|_| broken).map(|problem| problem.0.to_string());
    }
}

/// Whether an event opens, continues or closes a block.
pub(super) fn is_of_block(payload: &[u8]) -> bool {
    serde_json::from_slice::<Kind<'_>>(payload)
        .is_ok_and(|said| said.kind.0.starts_with("content_block_"))
}

/// The block at hand ends, unless it has, then the message: for `reason`, with so many tokens.
pub(super) fn finish_events(like: &Event, reason: &str, tokens: u64) -> Vec<Event> {
    let outline = places::outline(&like.data);
    let index = outline.first(Slot::Index).or_else(|| outline.first(Slot::CallIndex));
    let Some(index) =
        index.and_then(|spot| serde_json::from_slice::<u64>(spot.of(&like.data)).ok())
    else {
        return Vec::new();
    };
    let event = |kind: &str, body: serde_json::Value| Event::named(kind, body.to_string());
    let has_ended = serde_json::from_slice::<Kind<'_>>(&like.data)
        .is_ok_and(|said| said.kind.0 == "content_block_stop");
    let end = json!({ "type": "content_block_stop", "index": index });
    let mut events = Vec::with_capacity(3);
    events.extend((!has_ended).then(|| event("content_block_stop", end)));
    events.extend([
        event(
            "message_delta",
            json!({
                "type": "message_delta",
                "delta": { "stop_reason": reason, "stop_sequence": null },
                "usage": { "output_tokens": tokens },
            }),
        ),
        event("message_stop", json!({ "type": "message_stop" })),
    ]);
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(data: &str) -> Reading {
        read_event(data.as_bytes())
    }

    #[test]
    fn each_event_says_its_part() {
        let start = event(
            r#"{"type":"message_start","message":{"id":"m","content":[],"stop_reason":null,"usage":{"input_tokens":8,"cache_read_input_tokens":4,"output_tokens":1}}}"#,
        );
        assert_eq!((start.tokens, start.usage, start.done), (0, Some((12, 1)), false));
        let opened = event(
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
        );
        assert_eq!((opened.tokens, opened.finish), (0, None));
        for (delta, text) in [
            (r#"{"type":"text_delta","text":"Hé"}"#, "Hé"),
            (r#"{"type":"thinking_delta","thinking":"hm"}"#, "hm"),
            (r#"{"type":"input_json_delta","partial_json":"{\"a"}"#, "{\"a"),
            (r#"{"type":"input_json_delta","partial_json":""}"#, ""),
            (r#"{"type":"signature_delta","signature":"xyz"}"#, ""),
        ] {
            let said =
                event(&format!(r#"{{"type":"content_block_delta","index":0,"delta":{delta}}}"#));
            assert_eq!((said.text.as_str(), said.tokens), (text, u32::from(!text.is_empty())));
        }
        let delta = event(
            r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":3}}"#,
        );
        assert_eq!((delta.finish.as_deref(), delta.done), (Some("end_turn"), false));
        assert_eq!(delta.usage, Some((0, 3)));
        assert!(event(r#"{"type":"message_stop"}"#).done);
        assert_eq!(event(r#"{"type":"ping"}"#), Reading::default());
        let error =
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
        assert_eq!(event(error).error.as_deref(), Some("Overloaded"));
    }

    #[test]
    fn whole_messages_are_read() {
        let read = read_message(
            br#"{"id":"msg_01X","type":"message","role":"assistant","content":[{"type":"text","text":"Hello"},{"type":"tool_use","id":"t","name":"f","input":{"a":1}}],"stop_reason":"tool_use","usage":{"input_tokens":8,"cache_creation_input_tokens":0,"output_tokens":3}}"#,
        );
        assert_eq!(read.text, r#"Hello{"a":1}"#);
        assert_eq!((read.tokens, read.usage), (3, Some((8, 3))));
        assert_eq!(read.finish.as_deref(), Some("tool_use"));
        let refused =
            read_message(br#"{"type":"error","error":{"type":"api_error","message":"no"}}"#);
        assert_eq!(refused.error.as_deref(), Some("no"));
    }

    #[test]
    fn a_stream_ends_in_three_events() {
        let like = Event::named(
            "content_block_delta",
            r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{"}}"#,
        );
        let ends = finish_events(&like, "max_tokens", 7);
        let raw: Vec<u8> = ends.iter().flat_map(|event| event.raw.to_vec()).collect();
        assert_eq!(
            String::from_utf8(raw).unwrap(),
            "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":2}\n\n\
             event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\
             \"max_tokens\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":7}}\n\n\
             event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
        );
        let closed = Event::named("x", r#"{"type":"content_block_stop","index":2}"#);
        assert_eq!(finish_events(&closed, "max_tokens", 7), ends[1..]);
        let opened = r#"{"type":"content_block_start","index":3,"content_block":{"type":"tool_use","name":"f"}}"#;
        let opened = Event::named("x", opened);
        assert!(is_of_block(&opened.data) && is_of_block(&closed.data) && is_of_block(&like.data));
        assert!(finish_events(&opened, "max_tokens", 7)[0].data.ends_with(b"\"index\":3}"));
        assert!(!is_of_block(br#"{"type":"message_stop"}"#));
        assert_eq!(finish_events(&Event::named("ping", r#"{"type":"ping"}"#), "x", 1), []);
    }
}
