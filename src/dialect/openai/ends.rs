//! How a stream of chat completions ends.

use serde_json::{Map, Value};

use crate::exchange::{Event, Framing};

/// The events that end a stream like the one that `like` belongs to.
pub(in crate::dialect) fn finish_events(like: &Event, reason: &str) -> Vec<Event> {
    let Some(finish) = finish_event(like, reason) else { return Vec::new() };
    let done = (finish.framing == Framing::Sse).then(|| like.with_data("[DONE]"));
    [finish].into_iter().chain(done).collect()
}

fn finish_event(like: &Event, reason: &str) -> Option<Event> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::openai::answer::read_event;

    #[test]
    fn a_finish_event_is_shaped_like_its_stream() {
        let like = Event::sse(
            r#"{"id":"c1","model":"m","choices":[{"index":0,"delta":{"content":"x"},"logprobs":null,"finish_reason":null}],"usage":null}"#,
        );
        let events = finish_events(&like, "length");
        let [event, done] = &events[..] else { panic!("{events:?}") };
        assert_eq!(done.raw, "data: [DONE]\n\n");
        let text = std::str::from_utf8(&event.raw).unwrap();
        assert_eq!(
            text,
            "data: {\"id\":\"c1\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"length\"}],\"usage\":null}\n\n"
        );
        assert_eq!(read_event(event).finish.as_deref(), Some("length"));
        assert_eq!(finish_events(&Event::sse("[DONE]"), "length"), []);
        assert_eq!(finish_events(&Event::sse(r#"{"choices":[]}"#), "length"), []);
    }
}
