//! Cohere: version 2 of chat (streamed and not), embeddings and reranking.

mod answer;
mod failure;
mod places;

use http::{HeaderMap, Method, Uri};

use super::request::{Asked, What};
use super::{Answer, Dialect, Failure, Finish, Outline, Quota, Reading, Reason};
use crate::exchange::{Event, Facts, Operation};

/// The wire format of `kind: cohere`.
#[derive(Debug)]
pub(crate) struct Cohere;

impl Dialect for Cohere {
    fn name(&self) -> &'static str {
        "cohere"
    }

    fn facts(&self, method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Facts {
        let operation = operation(method, uri.path());
        if operation == Operation::Other {
            return Facts::default();
        }
        Asked::read(asked, body).facts(operation, headers, body)
    }

    fn read_event(&self, operation: Operation, event: &Event) -> Reading {
        answer::read_event(operation, &event.data)
    }

    fn read_message(&self, operation: Operation, body: &[u8]) -> Reading {
        answer::read_message(operation, body)
    }

    fn outline(&self, operation: Operation, payload: &[u8]) -> Outline {
        places::outline(operation, payload)
    }

    fn reason(&self, _: Operation, reason: Reason) -> Option<&'static str> {
        match reason {
            Reason::ContentFilter => None,
            Reason::Length => Some("MAX_TOKENS"),
            Reason::Stop => Some("COMPLETE"),
            Reason::ToolCalls => Some("TOOL_CALL"),
        }
    }

    fn closes(&self, _: Operation, payload: &[u8]) -> bool {
        places::closes(payload)
    }

    fn failure(&self, failure: &Failure<'_>) -> Answer {
        failure::failure(failure)
    }

    fn quota_headers(&self, quota: &Quota) -> Vec<(&'static str, String)> {
        failure::quota_headers(quota)
    }

    fn is_content(&self, _: Operation, event: &Event, reading: &Reading) -> bool {
        reading.tokens > 0 || answer::is_of_block(&event.data)
    }

    fn finish_events(&self, operation: Operation, like: &Event, finish: &Finish<'_>) -> Vec<Event> {
        answer::finish_events(like, self.word_for(operation, finish.reason), finish.tokens)
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
    } else if path.ends_with("/chat") {
        Operation::Chat
    } else if path.ends_with("/embed") {
        Operation::Embed
    } else if path.ends_with("/rerank") {
        Operation::Search
    } else {
        Operation::Other
    }
}

/// What the members of a request say.
fn asked(key: &str) -> What {
    match key {
        "documents" | "inputs" | "query" | "texts" => What::Text,
        "max_tokens" => What::MaxTokens,
        "message" | "messages" => What::Conversation,
        "model" => What::Model,
        "stream" => What::Stream,
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
        Cohere.facts(&Method::POST, &uri, &HeaderMap::new(), body)
    }

    #[test]
    fn requests_tell_what_they_ask_for() {
        let body = br#"{"model":"command-a-03-2025","stream":true,"max_tokens":9,"messages":[{"role":"user","content":"12345678"}],"tools":[{"type":"function","function":{"name":"f"}}]}"#;
        let read = facts("/v2/chat", body);
        assert_eq!((read.operation, read.stream, read.turn), (Operation::Chat, true, 1));
        assert_eq!((read.max_tokens, read.prompt_tokens), (Some(9), 2));
        assert_eq!(
            (read.model.as_deref(), read.tools),
            (Some("command-a-03-2025"), vec!["f".to_owned()])
        );
        let embed =
            facts("/v2/embed", br#"{"model":"m","texts":["1234","1234"],"input_type":"x"}"#);
        assert_eq!((embed.operation, embed.prompt_tokens), (Operation::Embed, 2));
        let rerank = facts("/v2/rerank", br#"{"query":"1234","documents":["1234"]}"#);
        assert_eq!((rerank.operation, rerank.prompt_tokens), (Operation::Search, 2));
        assert_eq!(facts("/v1/tokenize", b"{}"), Facts::default());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(
            start in prop::sample::select(vec![&br#"{"type":"content-delta","delta":"#[..], br#"{"message":{"content":"#, b""]),
            rest in prop::collection::vec(any::<u8>(), 0..80),
            share in any::<f64>(),
        ) {
            let bytes = [start, &rest[..]].concat();
            let _ = facts("/v2/chat", &bytes);
            let event = Event::sse(&bytes);
            let _ = Cohere.read_event(Operation::Chat, &event);
            let _ = Cohere.read_message(Operation::Chat, &bytes);
            let finish = Finish { reason: "length", tokens: 3 };
            let _ = Cohere.finish_events(Operation::Chat, &event, &finish);
            let _ = Cohere.shorten(Operation::Chat, &bytes, share, "length");
        }
    }
}
