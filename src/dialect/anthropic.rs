//! Anthropic: messages, streamed and not; on Vertex AI with the model in the path.

mod answer;
mod failure;
mod places;

use http::{HeaderMap, Method, Uri};

use super::request::{Asked, What};
use super::{Answer, Declines, Dialect, Failure, Finish, Outline, Quota, Reading, Reason};
use crate::exchange::{Event, Facts, Operation};

/// The wire format of `kind: anthropic` and of `kind: anthropic-vertex`.
#[derive(Debug)]
pub(crate) struct Anthropic {
    /// Behind Google's door: its paths, and its words where it refuses by itself.
    vertex: bool,
}

pub(crate) static ANTHROPIC: Anthropic = Anthropic { vertex: false };
pub(crate) static ON_VERTEX: Anthropic = Anthropic { vertex: true };

impl Dialect for Anthropic {
    fn name(&self) -> &'static str {
        if self.vertex { "anthropic-vertex" } else { "anthropic" }
    }

    fn facts(&self, method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Facts {
        let Some(call) = Call::of(method, uri.path()) else { return Facts::default() };
        let mut facts = Asked::read(asked, body).facts(Operation::Chat, headers, body);
        facts.stream |= call.stream;
        facts.model = facts.model.or_else(|| call.model.map(str::to_owned));
        facts
    }

    fn read_event(&self, _: Operation, event: &Event) -> Reading {
        answer::read_event(&event.data)
    }

    fn read_message(&self, _: Operation, body: &[u8]) -> Reading {
        answer::read_message(body)
    }

    fn outline(&self, operation: Operation, payload: &[u8]) -> Outline {
        match operation {
            Operation::Chat => places::outline(payload),
            _ => Outline::default(),
        }
    }

    fn reason(&self, _: Operation, reason: Reason) -> Option<&'static str> {
        Some(match reason {
            Reason::ContentFilter => "refusal",
            Reason::Length => "max_tokens",
            Reason::Stop => "end_turn",
            Reason::ToolCalls => "tool_use",
        })
    }

    fn declines(&self, _: Operation) -> Declines {
        Declines { member: None, finish: Some("refusal"), silent: true }
    }

    fn closes(&self, _: Operation, payload: &[u8]) -> bool {
        places::closes(payload)
    }

    fn failure(&self, failure: &Failure<'_>) -> Answer {
        match self.vertex {
            true => failure::on_vertex(failure),
            false => failure::failure(failure),
        }
    }

    fn quota_headers(&self, quota: &Quota) -> Vec<(&'static str, String)> {
        // Google tells nothing of its quotas.
        if self.vertex { Vec::new() } else { failure::quota_headers(quota) }
    }

    fn is_content(&self, _: Operation, event: &Event, reading: &Reading) -> bool {
        reading.tokens > 0 || answer::is_of_block(&event.data)
    }

    fn finish_events(&self, operation: Operation, like: &Event, finish: &Finish<'_>) -> Vec<Event> {
        answer::finish_events(like, self.word_for(operation, finish.reason), finish.tokens)
    }

    fn ping(&self) -> Option<Event> {
        Some(Event::named("ping", r#"{"type":"ping"}"#))
    }

    fn inband_error(&self, message: &str) -> Option<Event> {
        self.inband_failure(&Failure { message: Some(message), ..Failure::default() })
    }

    fn inband_failure(&self, failure: &Failure<'_>) -> Option<Event> {
        Some(failure::inband(failure, self.vertex))
    }
}

/// What a path asks for; a base path may stand before it.
struct Call<'a> {
    model: Option<&'a str>,
    stream: bool,
}

impl<'a> Call<'a> {
    /// None where no message is asked for.
    fn of(method: &Method, path: &'a str) -> Option<Self> {
        let path = path.trim_end_matches('/');
        if method != Method::POST {
            return None;
        }
        if path.ends_with("/messages") {
            return Some(Self { model: None, stream: false });
        }
        let (path, verb) = path.rsplit_once(':')?;
        let (_, model) = path.rsplit_once("/models/")?;
        match verb {
            // The body of both may say `stream`; the path decides.
            "rawPredict" => Some(Self { model: Some(model), stream: false }),
            "streamRawPredict" => Some(Self { model: Some(model), stream: true }),
            _ => None,
        }
    }
}

/// What the members of a request say.
fn asked(key: &str) -> What {
    match key {
        "max_tokens" => What::MaxTokens,
        "messages" => What::Conversation,
        "model" => What::Model,
        "stream" => What::Stream,
        "system" => What::Text,
        "tools" => What::Tools,
        _ => What::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dialect::FAILURE_CLASSES;

    fn facts(path: &str, body: &[u8]) -> Facts {
        let uri = Uri::try_from(path).unwrap();
        ANTHROPIC.facts(&Method::POST, &uri, &HeaderMap::new(), body)
    }

    #[test]
    fn requests_tell_what_they_ask_for() {
        let body = br#"{"model":"claude-sonnet-4-5","max_tokens":64,"stream":true,"system":"1234","tools":[{"name":"f","input_schema":{}}],"messages":[{"role":"user","content":"1234567"}]}"#;
        let read = facts("/v1/messages?beta=true", body);
        assert_eq!((read.operation, read.stream, read.turn), (Operation::Chat, true, 1));
        assert_eq!(read.model.as_deref(), Some("claude-sonnet-4-5"));
        assert_eq!((read.prompt_tokens, read.max_tokens), (3, Some(64)));
        assert_eq!(read.tools, ["f"]);
        for path in ["/v1/messages/count_tokens", "/v1/messages/batches", "/v1/models"] {
            assert_eq!(facts(path, body).operation, Operation::Other, "{path}");
        }
    }

    #[test]
    fn on_vertex_the_path_says_it() {
        let path = "/v1/projects/p/locations/r/publishers/anthropic/models/claude-opus-4@2026:streamRawPredict";
        let read = facts(path, br#"{"anthropic_version":"vertex-2023-10-16","messages":[]}"#);
        assert_eq!(read.model.as_deref(), Some("claude-opus-4@2026"));
        assert!(read.stream);
        assert!(!facts(&path.replace("streamRaw", "raw"), b"{}").stream);
        assert_eq!(facts("/v1/models/m:countTokens", b"{}").operation, Operation::Other);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(
            start in prop::sample::select(vec![&br#"{"type":"content_block_delta","#[..], br#"{"content":[{"type":"tool_use","input":"#, b""]),
            rest in prop::collection::vec(any::<u8>(), 0..80),
            share in any::<f64>(),
        ) {
            let bytes = [start, &rest[..]].concat();
            let _ = facts("/v1/messages", &bytes);
            let event = Event::sse(&bytes);
            let _ = ANTHROPIC.read_event(Operation::Chat, &event);
            let _ = ANTHROPIC.read_message(Operation::Chat, &bytes);
            let finish = Finish { reason: "length", tokens: 3 };
            let _ = ANTHROPIC.finish_events(Operation::Chat, &event, &finish);
            let _ = ANTHROPIC.shorten(Operation::Chat, &bytes, share, "length");
        }
    }

    #[test]
    fn a_class_in_a_stream_keeps_its_type() {
        for (class, kind) in [("overloaded", "overloaded_error"), ("server_error", "api_error")] {
            let failure = Failure { class: Some(class), ..Failure::default() };
            let event = ANTHROPIC.inband_failure(&failure).unwrap();
            assert!(event.raw.starts_with(b"event: error\ndata: {\"type\":\"error\""));
            let text = std::str::from_utf8(&event.data).unwrap();
            assert!(text.contains(kind), "{text}");
            assert!(ANTHROPIC.read_event(Operation::Chat, &event).error.is_some());
        }
        for class in FAILURE_CLASSES {
            let failure = Failure { class: Some(class), ..Failure::default() };
            assert!(ON_VERTEX.inband_failure(&failure).is_some(), "{class}");
        }
    }
}
