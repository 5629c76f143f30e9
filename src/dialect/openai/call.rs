//! Tool calls that are made up, in chat completions.

use std::sync::LazyLock;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::dialect::Called;
use crate::exchange::Event;
use crate::wire::json::{Edits, Paths, items, members};

/// Messages of whole answers, and the calls in them.
static MESSAGES: LazyLock<Paths<bool>> = LazyLock::new(|| {
    Paths::new(&[("choices[*].message", false), ("choices[*].message.tool_calls", true)])
});

/// The event that says a tool call in a stream like the one that `like` belongs to.
pub(super) fn call_event(like: &Event, call: &Called<'_>) -> Option<Event> {
    let mut chunk: Map<String, Value> = serde_json::from_slice(&like.data).ok()?;
    let choice = chunk.get_mut("choices")?.as_array_mut()?.first_mut()?.as_object_mut()?;
    let mut said = json!({ "index": call.index });
    said.as_object_mut()?.extend(function(call));
    *choice.get_mut("delta")? = json!({ "tool_calls": [said] });
    Some(like.with_data(serde_json::to_vec(&chunk).ok()?))
}

/// A whole answer with one more tool call in its first choice; all else stays as it came.
pub(super) fn with_call(body: &[u8], call: &Called<'_>) -> Option<Bytes> {
    let spots = MESSAGES.find(body)?;
    let first = |calls: bool| spots.iter().find(|spot| spot.what == calls && spot.at == [0]);
    let said = Value::Object(function(call)).to_string();
    let mut edits = Edits::default();
    match first(true) {
        Some(calls) => {
            let list = items(body, calls.span.clone()).unwrap_or_default();
            let others = list.iter().map(|item| String::from_utf8_lossy(&body[item.clone()]));
            let all: Vec<String> = others.map(String::from).chain([said]).collect();
            edits.replace(calls.span.clone(), format!("[{}]", all.join(",")));
        }
        None => {
            let message = first(false)?;
            let comma = if members(body, message.span.clone())?.is_empty() { "" } else { "," };
            let end = message.span.end - 1;
            edits.replace(end..end, format!("{comma}\"tool_calls\":[{said}]"));
        }
    }
    Some(edits.apply(body))
}

fn function(call: &Called<'_>) -> Map<String, Value> {
    let mut said = Map::new();
    said.insert("id".into(), Value::from(call.id));
    said.insert("type".into(), Value::from("function"));
    said.insert("function".into(), json!({ "name": call.name, "arguments": call.arguments }));
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_added() {
        let call = Called { id: "c9", name: "f", arguments: "{}", index: 0 };
        let said = r#"{"id":"c9","type":"function","function":{"name":"f","arguments":"{}"}}"#;
        let like = Event::sse(
            r#"{"id":"c1","choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}"#,
        );
        let event = call_event(&like, &call).unwrap();
        let wanted = format!(
            r#"{{"id":"c1","choices":[{{"index":0,"delta":{{"tool_calls":[{{"index":0,{}]}},"finish_reason":null}}]}}"#,
            &said[1..]
        );
        assert_eq!(event.data, wanted);
        assert_eq!(call_event(&Event::sse(r#"{"choices":[]}"#), &call), None);
        for (old, new) in [
            (r#"{ "content":"x" }"#, format!(r#"{{ "content":"x" ,"tool_calls":[{said}]}}"#)),
            (r#"{"tool_calls":null}"#, format!(r#"{{"tool_calls":[{said}]}}"#)),
            (
                r#"{"tool_calls": [{"id": 1}]}"#,
                format!(r#"{{"tool_calls": [{{"id": 1}},{said}]}}"#),
            ),
        ] {
            let body = |message: &str| format!(r#"{{"choices": [{{"message": {message}}}]}}"#);
            assert_eq!(with_call(body(old).as_bytes(), &call).unwrap(), body(&new));
        }
        assert_eq!(with_call(b"{}", &call), None);
    }
}
