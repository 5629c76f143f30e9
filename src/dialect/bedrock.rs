//! Amazon Bedrock's runtime: Converse and InvokeModel, streamed (in Amazon's eventstream) and not.
//! The JSON of the models themselves, which InvokeModel passes, is read for Claude, Nova, Titan,
//! Llama, Mistral and Cohere.

mod failure;
mod places;
mod request;
#[cfg(test)]
mod tests;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Method, Uri};
use serde_json::{Value, json};

use self::places::Shape;
use super::{
    Answer, Dialect, Failure, Finish, Outline, Quota, Reading, Reason, Slot, reading, shorten,
};
use crate::exchange::{Event, Facts, Framing, Operation};
use crate::wire::eventstream::header;
use crate::wire::json::Edits;

/// The wire format of `kind: bedrock`.
#[derive(Debug)]
pub(crate) struct Bedrock;

impl Dialect for Bedrock {
    fn name(&self) -> &'static str {
        "bedrock"
    }

    fn facts(&self, method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Facts {
        request::facts(method, uri, headers, body)
    }

    fn read_event(&self, operation: Operation, event: &Event) -> Reading {
        if is_failure(event) {
            return Reading { error: Some(problem(event)), ..Reading::default() };
        }
        let payload = self.payload(event);
        let mut reading = reading::of_event(&payload, &self.outline(operation, &payload));
        reading.done = match Shape::of(event, &payload) {
            Shape::Converse => event.name.as_deref() == Some("metadata"),
            Shape::Claude => payload_type(&payload).as_deref() == Some("message_stop"),
            // Its last piece is the one that says why.
            Shape::Nova | Shape::Other => reading.finish.is_some(),
        };
        reading
    }

    fn read_message(&self, operation: Operation, body: &[u8]) -> Reading {
        reading::of_message(body, &self.outline(operation, body))
    }

    fn payload(&self, event: &Event) -> Bytes {
        let inner = places::wrapped(&event.data).and_then(|spot| spot.text(&event.data));
        let inner = inner.and_then(|text| STANDARD.decode(text).ok());
        inner.map_or_else(|| event.data.clone(), Bytes::from)
    }

    fn with_payload(&self, event: &Event, payload: &[u8]) -> Event {
        let Some(spot) = places::wrapped(&event.data) else { return event.with_data(payload) };
        let mut edits = Edits::default();
        edits.set_text(spot.span, &STANDARD.encode(payload));
        event.with_data(edits.apply(&event.data))
    }

    fn outline(&self, operation: Operation, payload: &[u8]) -> Outline {
        places::outline(operation, payload)
    }

    fn reason(&self, _: Operation, reason: Reason) -> Option<&'static str> {
        Some(match reason {
            Reason::ContentFilter => "content_filtered",
            Reason::Length => "max_tokens",
            Reason::Stop => "end_turn",
            Reason::ToolCalls => "tool_use",
        })
    }

    fn closes(&self, operation: Operation, payload: &[u8]) -> bool {
        // The end of a block has its number and nothing else.
        let outline = places::outline(operation, payload);
        outline.has(Slot::Index) && outline.spots.iter().all(|spot| spot.what == Slot::Index)
    }

    fn failure(&self, failure: &Failure<'_>) -> Answer {
        failure::failure(failure)
    }

    fn quota_headers(&self, _: &Quota) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    fn finish_events(&self, _: Operation, like: &Event, finish: &Finish<'_>) -> Vec<Event> {
        let payload = self.payload(like);
        let shape = Shape::of(like, &payload);
        let word = shape.word(finish.reason);
        let wrapped = |inner: Value| self.with_payload(like, inner.to_string().as_bytes());
        let tokens = finish.tokens;
        match shape {
            Shape::Converse => converse_end(&word, tokens),
            Shape::Claude => vec![
                wrapped(json!({
                    "type": "message_delta",
                    "delta": { "stop_reason": word, "stop_sequence": null },
                    "usage": { "output_tokens": tokens },
                })),
                wrapped(json!({ "type": "message_stop" })),
            ],
            Shape::Nova => vec![
                wrapped(json!({ "messageStop": { "stopReason": word } })),
                wrapped(json!({
                    "metadata": { "usage": { "inputTokens": 0, "outputTokens": tokens } },
                })),
            ],
            Shape::Other => finish_other(&payload, &word)
                .map(|it| self.with_payload(like, &it))
                .into_iter()
                .collect(),
        }
    }

    fn shorten(
        &self,
        operation: Operation,
        body: &[u8],
        share: f64,
        reason: &str,
    ) -> Option<Bytes> {
        let word = Shape::of_answer(body).word(reason);
        shorten::shorten(body, &self.outline(operation, body), share, &word)
    }

    fn inband_error(&self, message: &str) -> Option<Event> {
        Some(failure::exception("internalServerException", message))
    }

    fn inband_failure(&self, failure: &Failure<'_>) -> Option<Event> {
        Some(failure::inside(failure))
    }
}

/// Whether an event is an exception, or an error of the transport.
fn is_failure(event: &Event) -> bool {
    event.framing == Framing::EventStream
        && matches!(header(&event.raw, ":message-type"), Some("exception" | "error"))
}

/// What a failure says, else its name.
fn problem(event: &Event) -> String {
    let body: Value = serde_json::from_slice(&event.data).unwrap_or_default();
    let said = body["message"].as_str().or_else(|| header(&event.raw, ":error-message"));
    said.or(event.name.as_deref()).unwrap_or_default().to_owned()
}

fn payload_type(payload: &[u8]) -> Option<String> {
    serde_json::from_slice::<Value>(payload).ok()?["type"].as_str().map(str::to_owned)
}

/// The two events that end a ConverseStream.
fn converse_end(word: &str, tokens: u64) -> Vec<Event> {
    let event = |kind, data: Value| {
        let headers = [
            (":event-type", kind),
            (":content-type", "application/json"),
            (":message-type", "event"),
        ];
        Event::eventstream(&headers, data.to_string())
    };
    let usage = json!({ "inputTokens": 0, "outputTokens": tokens, "totalTokens": tokens });
    vec![
        event("messageStop", json!({ "stopReason": word })),
        event("metadata", json!({ "usage": usage, "metrics": { "latencyMs": 0 } })),
    ]
}

/// A last piece like this one: no text, and a reason.
fn finish_other(payload: &[u8], word: &str) -> Option<Bytes> {
    let outline = places::outline(Operation::Chat, payload);
    let finish = outline.first(Slot::Finish)?;
    let mut edits = Edits::default();
    for text in outline.each(Slot::Text) {
        edits.set_text(text.span.clone(), "");
    }
    edits.set_text(finish.span.clone(), word);
    Some(edits.apply(payload))
}
