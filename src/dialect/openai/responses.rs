//! OpenAI's responses API: where the parts of its events and answers stand, and how a stream of it
//! ends. Every event has a number; what we add counts on.

use std::sync::LazyLock;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::dialect::class::Class;
use crate::dialect::{Failure, Outline, Slot, SoFar, inband_message, shorten};
use crate::exchange::Event;
use crate::wire::json::{Edits, Paths};

/// What an event or an answer is about, and the number of an event.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Label {
    Kind,
    Object,
}

static LABELS: LazyLock<Paths<Label>> =
    LazyLock::new(|| Paths::new(&[("type", Label::Kind), ("object", Label::Object)]));

/// A table for each kind of event: `delta` and `text` mean another thing in each.
macro_rules! tables {
    ($($name:ident: [$($path:expr, $slot:ident;)*])*) => {
        $(static $name: LazyLock<Paths<Slot>> =
            LazyLock::new(|| Paths::new(&[$(($path, Slot::$slot)),*]));)*
    };
}

tables! {
    TEXT: ["output_index", Index; "delta", Text; "text", Text;]
    REFUSAL: ["output_index", Index; "delta", Refusal; "refusal", Refusal;]
    REASONING: ["output_index", Index; "delta", Reasoning; "text", Reasoning; "part.text", Reasoning;]
    ARGUMENTS: [
        "output_index", Index; "item_id", CallId; "delta", Arguments; "arguments", Arguments;
        "name", CallName;
    ]
    PART: ["output_index", Index; "part.text", Text; "part.refusal", Refusal;]
    ITEM: [
        "output_index", Index; "item.role", Role; "item.content[*].text", Text;
        "item.content[*].refusal", Refusal; "item.summary[*].text", Reasoning;
        "item.call_id", CallId; "item.name", CallName; "item.arguments", Arguments;
    ]
    WHOLE: [
        "id", Id; "model", Model; "output[*].role", Role; "output[*].content[*].text", Text;
        "output[*].content[*].refusal", Refusal; "output[*].summary[*].text", Reasoning;
        "output[*].call_id", CallId; "output[*].name", CallName; "output[*].arguments", Arguments;
        "usage", Usage; "usage.input_tokens", PromptTokens;
        "usage.output_tokens", CompletionTokens; "usage.total_tokens", TotalTokens;
    ]
    WITHIN: [
        "response.id", Id; "response.model", Model; "response.output[*].role", Role;
        "response.output[*].content[*].text", Text;
        "response.output[*].content[*].refusal", Refusal;
        "response.output[*].summary[*].text", Reasoning; "response.output[*].call_id", CallId;
        "response.output[*].name", CallName; "response.output[*].arguments", Arguments;
        "response.usage", Usage; "response.usage.input_tokens", PromptTokens;
        "response.usage.output_tokens", CompletionTokens;
        "response.usage.total_tokens", TotalTokens;
    ]
}

/// Where the parts stand; None where this is no part of the responses API.
pub(super) fn outline(payload: &[u8]) -> Option<Outline> {
    let labels = LABELS.find(payload)?;
    let label =
        |wanted| labels.iter().find(|spot| spot.what == wanted).and_then(|spot| spot.text(payload));
    if label(Label::Object).as_deref() == Some("response") {
        return Some(Outline::of(&WHOLE, payload));
    }
    let kind = label(Label::Kind)?;
    let (thing, _) = kind.strip_prefix("response.")?.rsplit_once('.').unwrap_or(("", ""));
    let table = match thing {
        "" => &WITHIN,
        "content_part" => &PART,
        "output_item" => &ITEM,
        "output_text" => &TEXT,
        "refusal" => &REFUSAL,
        thing if thing.starts_with("reasoning") => &REASONING,
        thing if thing.ends_with("arguments") || thing.ends_with("_input") => &ARGUMENTS,
        _ => return Some(Outline::default()),
    };
    Some(Outline::of(table, payload))
}

/// Whether an event tells again what others have told in parts.
pub(super) fn retells(payload: &[u8]) -> bool {
    // Most events are no such ones, and of chat completions none is.
    if !payload.starts_with(b"{\"type\":\"response.") {
        return false;
    }
    let Some(labels) = LABELS.find(payload) else { return false };
    let kind = labels.iter().find(|spot| spot.what == Label::Kind);
    kind.and_then(|spot| spot.text(payload)).is_some_and(|kind| !kind.ends_with(".delta"))
}

/// An event of the responses API, as an object.
fn read(event: &Event) -> Option<Map<String, Value>> {
    let event: Map<String, Value> = serde_json::from_slice(&event.data).ok()?;
    event.get("type")?.as_str()?.starts_with("response.").then_some(event)
}

fn number(event: &Map<String, Value>) -> u64 {
    event.get("sequence_number").and_then(Value::as_u64).unwrap_or(0)
}

/// An event as this API frames it: its type is its name.
fn event(kind: &str, number: u64, rest: Value) -> Event {
    let mut data = json!({ "type": kind, "sequence_number": number });
    if let (Some(data), Value::Object(rest)) = (data.as_object_mut(), rest) {
        data.extend(rest);
    }
    Event::named(kind, data.to_string())
}

/// The events that end a stream for a reason: the part that is being written, its item, and the
/// response. None where this is no stream of the responses API.
pub(super) fn finish(so_far: &SoFar, reason: &str) -> Option<Vec<Event>> {
    let last = read(so_far.last.as_ref()?)?;
    let incomplete = match reason {
        "length" => Some("max_output_tokens"),
        "content_filter" => Some("content_filter"),
        _ => None,
    };
    let status = if incomplete.is_some() { "incomplete" } else { "completed" };
    let kind = last.get("type").and_then(Value::as_str).unwrap_or_default();
    let place = |name: &str| last.get(name).cloned().unwrap_or_default();
    let mut at = number(&last);
    let mut events = Vec::new();
    let mut add = |kind: &str, rest: Value| {
        at += 1;
        events.push(event(kind, at, rest));
    };
    let text = so_far.text.as_str();
    let mut output = Vec::new();
    // A call that is not whole is not said to be done.
    if kind == "response.output_text.delta" && !text.is_empty() {
        let part =
            json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] });
        let item = json!({
            "id": place("item_id"), "type": "message", "status": status, "role": "assistant",
            "content": [part],
        });
        let (id, index, content) =
            (place("item_id"), place("output_index"), place("content_index"));
        add(
            "response.output_text.done",
            json!({
                "item_id": id, "output_index": index, "content_index": content, "text": text,
                "logprobs": [],
            }),
        );
        add(
            "response.content_part.done",
            json!({
                "item_id": id, "output_index": index, "content_index": content, "part": part,
            }),
        );
        add("response.output_item.done", json!({ "output_index": index, "item": item }));
        output.push(item);
    }
    let mut response = opened(so_far);
    response.insert("status".into(), status.into());
    response.insert("error".into(), Value::Null);
    let details = incomplete.map_or(Value::Null, |reason| json!({ "reason": reason }));
    response.insert("incomplete_details".into(), details);
    response.insert("output".into(), output.into());
    response.insert(
        "usage".into(),
        json!({
            "input_tokens": 0, "input_tokens_details": { "cached_tokens": 0 },
            "output_tokens": so_far.tokens, "output_tokens_details": { "reasoning_tokens": 0 },
            "total_tokens": so_far.tokens,
        }),
    );
    add(&format!("response.{status}"), json!({ "response": response }));
    Some(events)
}

/// The response as the stream's first event had it.
fn opened(so_far: &SoFar) -> Map<String, Value> {
    let first = so_far.first.as_ref().and_then(read);
    let response = first.and_then(|mut first| first.remove("response"));
    match response {
        Some(Value::Object(response)) => response,
        _ => {
            let empty = json!({ "id": "resp_brownout", "object": "response", "created_at": 0, "model": "" });
            empty.as_object().cloned().unwrap_or_default()
        }
    }
}

/// The events that report a failure inside a stream; None where this is no stream of the responses
/// API. What the server cannot do fails the response; all else is an error of its own.
pub(super) fn failure(failure: &Failure<'_>, so_far: &SoFar) -> Option<Vec<Event>> {
    let last = so_far.last.as_ref().or(so_far.first.as_ref()).and_then(read)?;
    let at = number(&last) + 1;
    let message =
        failure.message.unwrap_or_else(|| inband_message(failure.class.unwrap_or_default()));
    let code = match Class::of(failure) {
        Class::RateLimit | Class::SlowDown => "rate_limit_exceeded",
        Class::Quota => "insufficient_quota",
        Class::ContextLength => "context_length_exceeded",
        _ => "server_error",
    };
    if code != "server_error" {
        let rest = json!({ "code": code, "message": message, "param": null });
        return Some(vec![event("error", at, rest)]);
    }
    let mut response = opened(so_far);
    response.insert("status".into(), "failed".into());
    response.insert("error".into(), json!({ "code": code, "message": message }));
    Some(vec![event("response.failed", at, json!({ "response": response }))])
}

static STATE: LazyLock<Paths<bool>> =
    LazyLock::new(|| Paths::new(&[("status", true), ("incomplete_details", false)]));

/// A whole answer with its text cut to a share. None where it is no response, or has no text.
pub(super) fn shorten(body: &[u8], share: f64, reason: &str) -> Option<Bytes> {
    let short = shorten::shorten(body, &outline(body)?, share, "")?;
    let why = match reason {
        "length" => "max_output_tokens",
        "content_filter" => "content_filter",
        _ => return Some(short),
    };
    let mut edits = Edits::default();
    for spot in STATE.find(&short)? {
        match spot.what {
            true => edits.set_text(spot.span, "incomplete"),
            false => edits.replace(spot.span, json!({ "reason": why }).to_string()),
        }
    }
    Some(edits.apply(&short))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Dialect;
    use crate::dialect::openai::{OpenAi, answer};
    use crate::exchange::Operation;

    fn stream(parts: &[&str]) -> SoFar {
        let created = r#"{"type":"response.created","sequence_number":0,"response":{"id":"resp_7","object":"response","created_at":5,"status":"in_progress","model":"gpt-5","output":[]}}"#;
        let mut so_far = SoFar::default();
        so_far.add(&OpenAi, Operation::Chat, &Event::sse(created));
        for (at, part) in parts.iter().enumerate() {
            let delta = json!({
                "type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0,
                "content_index": 0, "delta": part, "sequence_number": at + 4,
            });
            so_far.add(&OpenAi, Operation::Chat, &Event::sse(delta.to_string()));
        }
        so_far
    }

    fn data(event: &Event) -> Value {
        serde_json::from_slice(&event.data).unwrap()
    }

    #[test]
    fn a_stream_ends_for_length_with_all_its_parts() {
        let events = finish(&stream(&["Hel", "lo"]), "length").unwrap();
        let kinds: Vec<&str> = events.iter().filter_map(|event| event.name.as_deref()).collect();
        assert_eq!(
            kinds,
            [
                "response.output_text.done",
                "response.content_part.done",
                "response.output_item.done",
                "response.incomplete"
            ]
        );
        let numbers: Vec<u64> =
            events.iter().map(|event| data(event)["sequence_number"].as_u64().unwrap()).collect();
        assert_eq!(numbers, [6, 7, 8, 9]);
        let last = data(&events[3]);
        assert_eq!(last["response"]["id"], "resp_7");
        assert_eq!(last["response"]["incomplete_details"]["reason"], "max_output_tokens");
        assert_eq!(last["response"]["output"][0]["content"][0]["text"], "Hello");
        let reading = answer::read_event(&events[3]);
        assert_eq!((reading.done, reading.finish.as_deref()), (true, Some("incomplete")));
        assert_eq!(finish(&SoFar::default(), "length").map(|events| events.len()), None);
    }

    #[test]
    fn failures_count_on() {
        let so_far = stream(&["x"]);
        let said = |class| {
            let class = Some(class);
            failure(&Failure { class, ..Failure::default() }, &so_far).unwrap().remove(0)
        };
        let limited = said("rate_limit");
        assert_eq!(
            (limited.name.as_deref(), &data(&limited)["sequence_number"]),
            (Some("error"), &json!(5))
        );
        assert!(answer::read_event(&limited).error.is_some());
        let failed = said("overloaded");
        assert_eq!(data(&failed)["response"]["error"]["code"], "server_error");
        assert_eq!(data(&failed)["response"]["id"], "resp_7");
        assert!(answer::read_event(&failed).done);
    }

    #[test]
    fn parts_stand_where_their_kind_says() {
        let text = |payload: &str, slot| {
            let outline = OpenAi.outline(Operation::Chat, payload.as_bytes());
            outline.text(payload.as_bytes(), slot)
        };
        let delta = r#"{"type":"response.function_call_arguments.delta","item_id":"fc","output_index":1,"delta":"{\"a","sequence_number":3}"#;
        assert_eq!(
            (text(delta, Slot::Arguments), text(delta, Slot::Text)),
            ("{\"a".into(), "".into())
        );
        let thought = r#"{"type":"response.reasoning_summary_text.delta","delta":"hm"}"#;
        assert_eq!(text(thought, Slot::Reasoning), "hm");
        let done = r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"message","content":[{"type":"output_text","text":"hi"}]}}"#;
        assert_eq!(text(done, Slot::Text), "hi");
        let last = r#"{"type":"response.completed","response":{"object":"response","model":"m","output":[{"content":[{"text":"hi"}]},{"arguments":"{}","name":"f"}]}}"#;
        assert_eq!((text(last, Slot::Text), text(last, Slot::CallName)), ("hi".into(), "f".into()));
        assert_eq!(text(r#"{"type":"response.web_search_call.searching"}"#, Slot::Text), "");
    }

    #[test]
    fn whole_answers_are_cut_and_say_so() {
        let body = r#"{"id":"resp_1","object":"response","status":"completed","error":null,"incomplete_details":null,"output":[{"type":"message","content":[{"type":"output_text","text":"12345678"}]}],"usage":{"input_tokens":1,"output_tokens":8,"total_tokens":9}}"#;
        let short = shorten(body.as_bytes(), 0.5, "length").unwrap();
        assert_eq!(
            short,
            r#"{"id":"resp_1","object":"response","status":"incomplete","error":null,"incomplete_details":{"reason":"max_output_tokens"},"output":[{"type":"message","content":[{"type":"output_text","text":"1234"}]}],"usage":{"input_tokens":1,"output_tokens":4,"total_tokens":5}}"#
        );
        let silent = shorten(body.as_bytes(), 0.5, "stop").unwrap();
        assert!(silent.starts_with(br#"{"id":"resp_1","object":"response","status":"completed""#));
        assert_eq!(shorten(b"{}", 0.5, "stop"), None);
    }
}
