//! Ollama: chat, generate and embeddings, streamed as lines of JSON unless told otherwise.

mod answer;
mod failure;

use http::{HeaderMap, Method, Uri};

use super::request::{Asked, What};
use super::{Answer, Dialect, Failure, Finish, Outline, Quota, Reading, Reason};
use crate::exchange::{Event, Facts, Operation};

/// The wire format of `kind: ollama`.
#[derive(Debug)]
pub(crate) struct Ollama;

impl Dialect for Ollama {
    fn name(&self) -> &'static str {
        "ollama"
    }

    fn facts(&self, method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Facts {
        let operation = operation(method, uri.path());
        if operation == Operation::Other {
            return Facts::default();
        }
        let asked = Asked::read(asked, body);
        // Silence means a stream.
        let stream = operation == Operation::Chat && asked.stream != Some(false);
        Facts { stream: stream && !body.is_empty(), ..asked.facts(operation, headers, body) }
    }

    fn read_event(&self, operation: Operation, event: &Event) -> Reading {
        answer::read_event(operation, &event.data)
    }

    fn read_message(&self, operation: Operation, body: &[u8]) -> Reading {
        answer::read_message(operation, body)
    }

    fn outline(&self, operation: Operation, payload: &[u8]) -> Outline {
        answer::outline(operation, payload)
    }

    fn reason(&self, _: Operation, reason: Reason) -> Option<&'static str> {
        match reason {
            Reason::ContentFilter => None,
            Reason::Length => Some("length"),
            Reason::Stop | Reason::ToolCalls => Some("stop"),
        }
    }

    fn failure(&self, failure: &Failure<'_>) -> Answer {
        failure::failure(failure)
    }

    /// It has none, and neither has its cloud.
    fn quota_headers(&self, _: &Quota) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    fn finish_events(&self, operation: Operation, like: &Event, finish: &Finish<'_>) -> Vec<Event> {
        let reason = self.word_for(operation, finish.reason);
        answer::finish_event(like, reason, finish.tokens).into_iter().collect()
    }

    fn inband_error(&self, message: &str) -> Option<Event> {
        Some(failure::inband(message))
    }

    fn inband_failure(&self, failure: &Failure<'_>) -> Option<Event> {
        Some(failure::inband(&failure::message(failure)))
    }
}

/// What a path asks for; a base path may stand before it.
fn operation(method: &Method, path: &str) -> Operation {
    let path = path.trim_end_matches('/');
    if method != Method::POST {
        Operation::Other
    } else if path.ends_with("/api/chat") || path.ends_with("/api/generate") {
        Operation::Chat
    } else if path.ends_with("/api/embed") || path.ends_with("/api/embeddings") {
        Operation::Embed
    } else {
        Operation::Other
    }
}

/// What the members of a request say.
fn asked(key: &str) -> What {
    match key {
        "input" | "messages" | "prompt" => What::Conversation,
        "model" => What::Model,
        "options" => What::Within(|key| match key {
            "num_predict" => What::MaxTokens,
            _ => What::Nothing,
        }),
        "stream" => What::Stream,
        "suffix" | "system" => What::Text,
        "tools" => What::Tools,
        _ => What::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn facts(path: &str, body: &[u8]) -> Facts {
        let uri = Uri::try_from(path).unwrap();
        Ollama.facts(&Method::POST, &uri, &HeaderMap::new(), body)
    }

    #[test]
    fn it_streams_unless_told_otherwise() {
        let stream = |path, body: &str| facts(path, body.as_bytes()).stream;
        assert!(stream("/api/chat", r#"{"model":"m","messages":[]}"#));
        assert!(stream("/api/generate", r#"{"model":"m","prompt":"x","stream":true}"#));
        assert!(!stream("/api/chat", r#"{"model":"m","stream":false}"#));
        assert!(!stream("/api/embed", r#"{"model":"m","input":"x"}"#));
    }

    #[test]
    fn requests_tell_what_they_ask_for() {
        let read = facts(
            "/api/chat",
            br#"{"model":"llama3.2","messages":[{"role":"user","content":"12345678","images":["AAAA"]}],"options":{"num_predict":9,"temperature":0},"tools":[{"type":"function","function":{"name":"f"}}]}"#,
        );
        assert_eq!((read.operation, read.model.as_deref()), (Operation::Chat, Some("llama3.2")));
        assert_eq!((read.max_tokens, read.turn, read.prompt_tokens), (Some(9), 1, 2));
        assert_eq!(read.tools, ["f"]);
        assert_eq!(facts("/api/generate", br#"{"prompt":"1234"}"#).turn, 1);
        assert_eq!(facts("/api/embed", br#"{"input":["1234"]}"#).operation, Operation::Embed);
        // No limit at all, in Ollama's words.
        assert_eq!(
            facts("/api/chat", br#"{"options":{"num_predict":-1},"model":"m"}"#).max_tokens,
            None
        );
        for path in ["/api/show", "/api/pull", "/v1/chat/completions"] {
            assert_eq!(facts(path, b"{}"), Facts::default(), "{path}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(
            start in prop::sample::select(vec![&br#"{"message":{"content":"#[..], br#"{"options":"#, b""]),
            rest in prop::collection::vec(any::<u8>(), 0..80),
            share in any::<f64>(),
        ) {
            let bytes = [start, &rest[..]].concat();
            let _ = facts("/api/chat", &bytes);
            let event = Event::ndjson(&bytes);
            let _ = Ollama.read_event(Operation::Chat, &event);
            let _ = Ollama.read_message(Operation::Chat, &bytes);
            let finish = Finish { reason: "length", tokens: 3 };
            let _ = Ollama.finish_events(Operation::Chat, &event, &finish);
            let _ = Ollama.shorten(Operation::Chat, &bytes, share, "length");
        }
    }
}
