//! Where the text of an answer stands in the JSON of the usual chat APIs, and how they say that an
//! answer is over or has failed.

use serde_json::Value;
use serde_json_path::JsonPath;

/// What an event's payload is to the reader of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Content<'a> {
    /// A shape of its own: nothing tells what it holds.
    Unknown,
    /// A known shape that holds no text (a role, usage, a ping).
    Nothing,
    /// Text, or the name of something as good as text (a tool call).
    Text(&'a str),
}

/// The text of a payload in one of the known shapes.
pub(crate) fn content(value: &Value) -> Content<'_> {
    let fields = match value {
        Value::Object(fields) => fields,
        Value::String(text) if text.is_empty() => return Content::Nothing,
        Value::String(text) => return Content::Text(text),
        _ => return Content::Unknown,
    };
    // Events such as `response.output_text.done` say once more what the deltas said.
    if fields.get("type").and_then(Value::as_str).is_some_and(|kind| kind.ends_with(".done")) {
        return Content::Nothing;
    }
    let mut known = false;
    for name in CHOICES {
        if let Some(first) = fields.get(*name).and_then(Value::as_array) {
            known = true;
            if let Some(text) = first.iter().find_map(choice_text) {
                return Content::Text(text);
            }
        }
    }
    for name in TEXTS {
        if let Some(value) = fields.get(*name) {
            known = true;
            if let Some(text) = text_of(value) {
                return Content::Text(text);
            }
        }
    }
    known |= SIGNALS.iter().any(|name| fields.contains_key(*name));
    if known { Content::Nothing } else { Content::Unknown }
}

/// Lists of alternative answers.
const CHOICES: &[&str] = &["choices", "candidates"];

/// Fields that hold the text, or an object that does.
const TEXTS: &[&str] = &[
    "delta",
    "content_block",
    "content",
    "text",
    "token",
    "answer",
    "response",
    "message",
    "output_text",
    "output",
    "reply",
];

/// Fields of events that carry no text.
const SIGNALS: &[&str] =
    &["type", "usage", "event", "done", "finish_reason", "error", "role", "status"];

/// The text of one of several alternative answers.
fn choice_text(choice: &Value) -> Option<&str> {
    ["delta", "message", "text", "content"]
        .iter()
        .find_map(|name| choice.get(*name).and_then(text_of))
}

/// The first text in a value: itself, its text fields, its parts.
fn text_of(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => (!text.is_empty()).then_some(text),
        Value::Array(parts) => parts.iter().find_map(text_of),
        Value::Object(fields) => {
            const INNER: &[&str] = &[
                "content",
                "text",
                "reasoning_content",
                "reasoning",
                "thinking",
                "refusal",
                "partial_json",
                "parts",
            ];
            INNER.iter().find_map(|name| fields.get(*name).and_then(text_of)).or_else(|| {
                let call = fields.get("tool_calls").or_else(|| fields.get("function_call"))?;
                let call = call.as_array().map_or(Some(call), |calls| calls.first())?;
                (!call.is_null()).then_some("[tool call]")
            })
        }
        _ => None,
    }
}

/// How a payload ends a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ending {
    /// Nothing comes after it.
    Last,
    /// The text is over, but more may come (usage, `[DONE]`).
    Text,
}

/// Names of events, and values of `type`, after which nothing comes.
const LAST_NAMES: &[&str] =
    &["done", "end", "message_stop", "response.completed", "response.incomplete"];

/// Whether an event of this name is the last.
pub(crate) fn ends_by_name(name: &str) -> bool {
    LAST_NAMES.contains(&name)
}

/// Whether a payload ends the stream, in the known ways.
pub(crate) fn ending(value: &Value) -> Option<Ending> {
    let fields = value.as_object()?;
    let kind = fields.get("type").and_then(Value::as_str);
    if fields.get("done") == Some(&Value::Bool(true)) || kind.is_some_and(ends_by_name) {
        return Some(Ending::Last);
    }
    finish_reason(value).map(|_| Ending::Text)
}

fn finish_reason(value: &Value) -> Option<&str> {
    fn of(value: &Value) -> Option<&str> {
        value.get("finish_reason").or_else(|| value.get("finishReason"))?.as_str()
    }
    of(value).or_else(|| {
        let choices = CHOICES.iter().filter_map(|name| value.get(*name).and_then(Value::as_array));
        choices.flatten().find_map(of)
    })
}

/// Whether a payload says that the answer failed; the value that tells why.
pub(crate) fn failure(value: &Value) -> Option<&Value> {
    let error = value.get("error").filter(|error| is_something(error));
    let failed = || {
        let kind = value.get("type").and_then(Value::as_str);
        matches!(kind, Some("error" | "response.failed")) || finish_reason(value) == Some("error")
    };
    error.or_else(|| failed().then_some(value))
}

/// Everything but null, false, zero and what is empty.
pub(crate) fn is_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(yes) => *yes,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

/// Whether a path selects something that is neither null, false nor empty.
pub(crate) fn selects(path: &JsonPath, value: &Value) -> bool {
    path.query(value).iter().any(|found| is_something(found))
}

/// The text a path selects: strings joined, anything else as JSON.
pub(crate) fn text_at(path: &JsonPath, value: &Value) -> String {
    let mut text = String::new();
    for found in path.query(value).iter() {
        match found {
            Value::String(found) => text.push_str(found),
            Value::Null => {}
            other => text.push_str(&other.to_string()),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn text_is_found_in_the_usual_shapes() {
        for value in [
            json!({"choices": [{"delta": {"content": "hi"}}]}),
            json!({"choices": [{"delta": {"reasoning_content": "hi"}}]}),
            json!({"choices": [{"message": {"role": "assistant", "content": "hi"}}]}),
            json!({"choices": [{"text": "hi"}]}),
            json!({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "hi"}}),
            json!({"type": "response.output_text.delta", "delta": "hi"}),
            json!({"candidates": [{"content": {"parts": [{"text": "hi"}]}}]}),
            json!({"message": {"role": "assistant", "content": "hi"}, "done": false}),
            json!({"response": "hi"}),
            json!({"token": {"text": "hi"}}),
            json!({"answer": "hi", "sources": []}),
            json!("hi"),
        ] {
            assert_eq!(content(&value), Content::Text("hi"), "{value}");
        }
        let tool = json!({"choices": [{"delta": {"tool_calls": [{"index": 0}]}}]});
        assert!(matches!(content(&tool), Content::Text(_)));
    }

    #[test]
    fn roles_usage_and_pings_are_no_text() {
        for value in [
            json!({"choices": [{"delta": {"role": "assistant", "content": ""}}]}),
            json!({"choices": [], "usage": {"completion_tokens": 3}}),
            json!({"type": "ping"}),
            json!({"type": "response.output_text.done", "text": "all of it"}),
            json!({"done": true, "response": ""}),
            json!({"choices": [{"delta": {"content": null, "tool_calls": []}}]}),
        ] {
            assert_eq!(content(&value), Content::Nothing, "{value}");
        }
        assert_eq!(content(&json!({"chunk": "hi"})), Content::Unknown);
    }

    #[test]
    fn endings_and_failures_are_told() {
        let stop = json!({"choices": [{"delta": {}, "finish_reason": "stop"}]});
        assert_eq!(ending(&stop), Some(Ending::Text));
        let going = json!({"choices": [{"delta": {}, "finish_reason": null}]});
        assert_eq!(ending(&going), None);
        assert_eq!(ending(&json!({"done": true})), Some(Ending::Last));
        assert_eq!(ending(&json!({"type": "message_stop"})), Some(Ending::Last));
        assert!(failure(&json!({"error": {"message": "x"}})).is_some());
        assert!(failure(&json!({"type": "response.failed"})).is_some());
        assert!(failure(&json!({"choices": [{"finish_reason": "error"}]})).is_some());
        assert!(failure(&json!({"error": null, "answer": "x"})).is_none());
        assert!(failure(&json!([])).is_none());
    }
}
