//! OpenAI: chat completions (streamed and not), completions, embeddings, the responses API; of the
//! Realtime API the text and the ends.

mod answer;
mod call;
mod ends;
pub(super) mod failure;
mod places;
mod responses;

use bytes::Bytes;
use http::header::UPGRADE;
use http::{HeaderMap, Method, Uri};
use serde_json::json;

pub(super) use self::ends::finish_events;
use super::request::{Asked, What};
use super::{
    Answer, Called, Declines, Dialect, Failure, Finish, Outline, Quota, Reading, Reason, SoFar,
    shorten,
};
use crate::exchange::{Event, Facts, Operation};

/// The wire format of `kind: openai`.
#[derive(Debug)]
pub(crate) struct OpenAi;

impl Dialect for OpenAi {
    fn name(&self) -> &'static str {
        "openai"
    }

    fn facts(&self, method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Facts {
        if opens_socket(method, uri.path(), headers) {
            let model = query(uri, "model").or_else(|| query(uri, "deployment"));
            return Facts { operation: Operation::Chat, model, stream: true, ..Facts::default() };
        }
        let operation = operation(method, uri.path());
        if operation == Operation::Other {
            return Facts::default();
        }
        Asked::read(asked, body).facts(operation, headers, body)
    }

    fn read_event(&self, _: Operation, event: &Event) -> Reading {
        answer::read_event(event)
    }

    fn read_message(&self, _: Operation, body: &[u8]) -> Reading {
        answer::read_message(body)
    }

    fn outline(&self, operation: Operation, payload: &[u8]) -> Outline {
        places::outline(operation, payload)
    }

    fn reason(&self, _: Operation, reason: Reason) -> Option<&'static str> {
        Some(match reason {
            Reason::ContentFilter => "content_filter",
            Reason::Length => "length",
            Reason::Stop => "stop",
            Reason::ToolCalls => "tool_calls",
        })
    }

    fn declines(&self, _: Operation) -> Declines {
        Declines { member: Some(("content", "refusal")), finish: None, silent: false }
    }

    fn retells(&self, _: Operation, payload: &[u8]) -> bool {
        responses::retells(payload)
    }

    fn call_events(&self, _: Operation, like: &Event, call: &Called<'_>) -> Option<Vec<Event>> {
        call::call_event(like, call).map(|event| vec![event])
    }

    fn with_call(&self, _: Operation, body: &[u8], call: &Called<'_>) -> Option<Bytes> {
        call::with_call(body, call)
    }

    fn failure(&self, failure: &Failure<'_>) -> Answer {
        failure::failure(failure)
    }

    fn quota_headers(&self, quota: &Quota) -> Vec<(&'static str, String)> {
        failure::quota_headers(quota)
    }

    fn finish_events(&self, operation: Operation, like: &Event, finish: &Finish<'_>) -> Vec<Event> {
        responses::finish(&SoFar::until(like, finish.tokens), finish.reason)
            .unwrap_or_else(|| finish_events(like, self.word_for(operation, finish.reason)))
    }

    fn shorten(
        &self,
        operation: Operation,
        body: &[u8],
        share: f64,
        reason: &str,
    ) -> Option<Bytes> {
        responses::shorten(body, share, reason).or_else(|| {
            let outline = self.outline(operation, body);
            shorten::shorten(body, &outline, share, self.word_for(operation, reason))
        })
    }

    fn ending(&self, operation: Operation, so_far: &SoFar, reason: &str) -> Vec<Event> {
        responses::finish(so_far, reason).unwrap_or_else(|| {
            let word = self.word_for(operation, reason);
            so_far.last.as_ref().map_or_else(Vec::new, |last| finish_events(last, word))
        })
    }

    fn failing(&self, failure: &Failure<'_>, so_far: &SoFar) -> Vec<Event> {
        responses::failure(failure, so_far)
            .unwrap_or_else(|| self.inband_failure(failure).into_iter().collect())
    }

    fn inband_error(&self, message: &str) -> Option<Event> {
        let error = json!({
            "error": { "message": message, "type": "server_error", "param": null, "code": null }
        });
        Some(Event::sse(error.to_string()))
    }

    fn socket_error(&self, message: &str) -> Option<Event> {
        let error = json!({
            "type": "error",
            "event_id": "event_brownout",
            "error": {
                "type": "server_error",
                "code": "server_error",
                "message": message,
                "param": null,
                "event_id": null,
            }
        });
        Some(Event::socket("text", error.to_string()))
    }
}

/// What a path asks for; a base path may stand before it.
fn operation(method: &Method, path: &str) -> Operation {
    let path = path.trim_end_matches('/');
    if method != Method::POST {
        Operation::Other
    } else if path.ends_with("/completions") || path.ends_with("/responses") {
        Operation::Chat
    } else if path.ends_with("/embeddings") {
        Operation::Embed
    } else {
        Operation::Other
    }
}

/// Whether a request asks for a WebSocket of the Realtime or the Responses API.
fn opens_socket(method: &Method, path: &str, headers: &HeaderMap) -> bool {
    let path = path.trim_end_matches('/');
    let asked = headers.get(UPGRADE).map(http::HeaderValue::as_bytes);
    method == Method::GET
        && asked.is_some_and(|protocol| protocol.eq_ignore_ascii_case(b"websocket"))
        && (path.ends_with("/realtime") || path.ends_with("/responses"))
}

/// A parameter of the query, as it stands there.
fn query(uri: &Uri, name: &str) -> Option<String> {
    let mut pairs = uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(known, _)| *known == name).map(|(_, value)| value.to_owned())
}

/// What the members of a request say.
fn asked(key: &str) -> What {
    match key {
        "input" | "messages" | "prompt" => What::Conversation,
        "instructions" => What::Text,
        "max_completion_tokens" | "max_output_tokens" | "max_tokens" => What::MaxTokens,
        "model" => What::Model,
        "stream" => What::Stream,
        "tools" => What::Tools,
        _ => What::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use http::header::CONTENT_LENGTH;

    use super::*;

    fn facts(path: &str, body: &[u8]) -> Facts {
        let uri = Uri::try_from(path).unwrap();
        OpenAi.facts(&Method::POST, &uri, &HeaderMap::new(), body)
    }

    #[test]
    fn paths_are_known_by_their_ends() {
        let asked = |path| facts(path, b"{}").operation;
        assert_eq!(asked("/v1/chat/completions"), Operation::Chat);
        assert_eq!(asked("/proxy/base/v1/chat/completions?x=1"), Operation::Chat);
        assert_eq!(asked("/v1/completions"), Operation::Chat);
        assert_eq!(asked("/v1/embeddings/"), Operation::Embed);
        assert_eq!(asked("/v1/models"), Operation::Other);
        assert_eq!(asked("/v1/embeddings/x"), Operation::Other);
        let uri = Uri::from_static("/v1/chat/completions");
        let got = OpenAi.facts(&Method::GET, &uri, &HeaderMap::new(), b"");
        assert_eq!(got.operation, Operation::Other, "stored completions are listed by GET");
    }

    #[test]
    fn requests_tell_model_stream_and_size() {
        let body = br#"{"messages":[{"role":"user","content":"twelve bytes"}],"model":"gpt-4o","max_tokens":99,"stream":true}"#;
        let read = facts("/v1/chat/completions", body);
        assert_eq!(read.model.as_deref(), Some("gpt-4o"));
        assert_eq!((read.stream, read.prompt_tokens, read.max_tokens), (true, 3, Some(99)));
        assert_eq!(facts("/v1/embeddings", br#"{"input":"a"}"#).prompt_tokens, 1);
        assert_eq!(facts("/v1/embeddings", b"").prompt_tokens, 0, "unknown before it was read");
    }

    #[test]
    fn requests_tell_tools_and_turn() {
        let body = br#"{"messages":[{"role":"system","content":"s"},{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"content":"c","role":"user"}],"tools":[{"type":"function","function":{"name":"search","parameters":{"properties":{"name":{"type":"string"}}}}},{"type":"function","name":"flat"}]}"#;
        let read = facts("/v1/chat/completions", body);
        assert_eq!((read.turn, read.tools), (2, vec!["search".to_owned(), "flat".to_owned()]));
        assert_eq!(facts("/v1/responses", br#"{"input":"hi"}"#).turn, 1);
        assert_eq!(facts("/v1/embeddings", br#"{"input":"hi"}"#).turn, 0, "nobody talks");
    }

    #[test]
    fn a_cut_body_is_sized_by_its_declared_length() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_LENGTH, 400_000.into());
        let uri = Uri::from_static("/v1/chat/completions");
        let body = br#"{"model":"m","messages":[{"content":"xxxx"#;
        let read = OpenAi.facts(&Method::POST, &uri, &headers, body);
        assert_eq!((read.model.as_deref(), read.prompt_tokens), (Some("m"), 100_000));
    }

    #[test]
    fn a_socket_is_a_chat_with_the_model_in_its_query() {
        let mut headers = HeaderMap::new();
        let uri = Uri::from_static("/v1/realtime?voice=x&model=gpt-realtime");
        let read = |headers: &HeaderMap, uri| OpenAi.facts(&Method::GET, uri, headers, b"");
        assert_eq!(read(&headers, &uri).operation, Operation::Other);
        headers.insert(UPGRADE, "WebSocket".parse().unwrap());
        let facts = read(&headers, &uri);
        assert_eq!(
            (facts.operation, facts.model.as_deref()),
            (Operation::Chat, Some("gpt-realtime"))
        );
        let azure = Uri::from_static("/openai/realtime?api-version=1&deployment=mine");
        assert_eq!(read(&headers, &azure).model.as_deref(), Some("mine"));
    }

    #[test]
    fn an_inband_error_reads_back() {
        let event = OpenAi.inband_error("it \"broke\"").unwrap();
        assert_eq!(
            OpenAi.read_event(Operation::Chat, &event).error.as_deref(),
            Some("it \"broke\"")
        );
        let event = OpenAi.socket_error("it broke").unwrap();
        assert_eq!(OpenAi.read_event(Operation::Chat, &event).error.as_deref(), Some("it broke"));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(
            start in prop::sample::select(vec![&br#"{"messages":[{"content":"#[..], br#"{"choices":[{"delta":"#, b""]),
            rest in prop::collection::vec(any::<u8>(), 0..80),
            share in any::<f64>(),
        ) {
            let bytes = [start, &rest[..]].concat();
            let _ = facts("/v1/chat/completions", &bytes);
            let event = Event::sse(&bytes);
            let _ = OpenAi.read_event(Operation::Chat, &event);
            let _ = OpenAi.read_message(Operation::Chat, &bytes);
            let finish = Finish { reason: "length", tokens: 1 };
            let _ = OpenAi.finish_events(Operation::Chat, &event, &finish);
            let _ = OpenAi.shorten(Operation::Chat, &bytes, share, "length");
        }

        #[test]
        fn no_cut_panics(at in 0usize..200, share in 0.0f64..1.0) {
            let body = r#"{"choices":[{"message":{"content":"ünïcödé text","tool_calls":[{"function":{"arguments":"{}"}}]},"finish_reason":"stop"}],"usage":{"completion_tokens":4,"total_tokens":9}}"#;
            let cut = &body.as_bytes()[..at.min(body.len())];
            let _ = OpenAi.read_message(Operation::Chat, cut);
            let _ = OpenAi.shorten(Operation::Chat, body.as_bytes(), share, "stop").unwrap();
        }
    }
}
