//! Gemini: generated content, streamed and not, and embeddings; on Vertex AI too.

mod answer;
mod failure;
mod places;

use http::{HeaderMap, Method, Uri};

use super::class::short;
use super::request::{Asked, What};
use super::{Answer, Declines, Dialect, Failure, Finish, Outline, Quota, Reading, Reason};
use crate::exchange::{Event, Facts, Operation};

/// The wire format of `kind: gemini` and of `kind: vertex`.
#[derive(Debug)]
pub(crate) struct Gemini {
    vertex: bool,
}

pub(crate) static GEMINI: Gemini = Gemini { vertex: false };
pub(crate) static VERTEX: Gemini = Gemini { vertex: true };

impl Dialect for Gemini {
    fn name(&self) -> &'static str {
        if self.vertex { "vertex" } else { "gemini" }
    }

    fn facts(&self, method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Facts {
        let Some(call) = Call::of(method, uri.path()) else { return Facts::default() };
        let mut facts = Asked::read(asked, body).facts(call.operation, headers, body);
        facts.stream = call.stream;
        facts.model = Some(short(call.model).to_owned());
        facts
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
        Some(match reason {
            Reason::ContentFilter => "SAFETY",
            Reason::Length => "MAX_TOKENS",
            Reason::Stop | Reason::ToolCalls => "STOP",
        })
    }

    fn declines(&self, _: Operation) -> Declines {
        Declines { member: None, finish: Some("SAFETY"), silent: true }
    }

    fn malformed_call(&self, _: Operation) -> Option<&'static str> {
        Some("MALFORMED_FUNCTION_CALL")
    }

    fn failure(&self, failure: &Failure<'_>) -> Answer {
        failure::failure(failure, self.vertex)
    }

    /// Google tells nothing of what is left.
    fn quota_headers(&self, _: &Quota) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    fn finish_events(&self, operation: Operation, like: &Event, finish: &Finish<'_>) -> Vec<Event> {
        answer::finish_event(like, self.word_for(operation, finish.reason)).into_iter().collect()
    }

    fn inband_error(&self, message: &str) -> Option<Event> {
        self.inband_failure(&Failure { message: Some(message), ..Failure::default() })
    }

    fn inband_failure(&self, failure: &Failure<'_>) -> Option<Event> {
        let body = failure::status_object(failure, self.vertex).to_string();
        let mut event = Event::sse(&body);
        event.raw = format!("data: {body}\r\n\r\n").into();
        Some(event)
    }
}

/// What Vertex AI answers in place of a model that it hosts.
pub(super) fn vertex_failure(failure: &Failure<'_>) -> Answer {
    failure::failure(failure, true)
}

/// What a path asks for: `…/models/{model}:{method}`.
struct Call<'a> {
    model: &'a str,
    operation: Operation,
    stream: bool,
}

impl<'a> Call<'a> {
    fn of(method: &Method, path: &'a str) -> Option<Self> {
        if method != Method::POST {
            return None;
        }
        let (path, verb) = path.trim_end_matches('/').rsplit_once(':')?;
        let model =
            ["/models/", "/tunedModels/", "/endpoints/"].into_iter().find_map(|folder| {
                let (_, model) = path.rsplit_once(folder)?;
                (!model.is_empty()).then_some(model)
            })?;
        let (operation, stream) = match verb {
            "generateContent" => (Operation::Chat, false),
            "streamGenerateContent" => (Operation::Chat, true),
            "embedContent" | "batchEmbedContents" => (Operation::Embed, false),
            // Of other models it is a prediction of another kind.
            "predict" if model.contains("embedding") => (Operation::Embed, false),
            _ => return None,
        };
        Some(Self { model, operation, stream })
    }
}

/// What the members of a request say; the older clients write them with underlines.
fn asked(key: &str) -> What {
    match key {
        "contents" => What::Conversation,
        "content" | "instances" | "requests" | "systemInstruction" | "system_instruction" => {
            What::Text
        }
        "generationConfig" | "generation_config" => What::Within(|key| match key {
            "maxOutputTokens" | "max_output_tokens" => What::MaxTokens,
            _ => What::Nothing,
        }),
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
        GEMINI.facts(&Method::POST, &uri, &HeaderMap::new(), body)
    }

    #[test]
    fn the_path_tells_model_operation_and_stream() {
        for (path, operation, stream, model) in [
            (
                "/v1beta/models/gemini-2.5-flash:generateContent",
                Operation::Chat,
                false,
                "gemini-2.5-flash",
            ),
            ("/v1/models/m:streamGenerateContent?alt=sse", Operation::Chat, true, "m"),
            ("/v1/models/m:batchEmbedContents", Operation::Embed, false, "m"),
            ("/v1/models/m:embedContent", Operation::Embed, false, "m"),
            (
                "/v1beta1/projects/p/locations/r/publishers/google/models/g:generateContent",
                Operation::Chat,
                false,
                "g",
            ),
            (
                "/v1/projects/p/locations/r/publishers/google/models/text-embedding-005:predict",
                Operation::Embed,
                false,
                "text-embedding-005",
            ),
        ] {
            let read = facts(path, b"{}");
            assert_eq!((read.operation, read.stream), (operation, stream), "{path}");
            assert_eq!(read.model.as_deref(), Some(model), "{path}");
        }
        for path in [
            "/v1/models/m:countTokens",
            "/v1/models/imagen:predict",
            "/v1/models",
            "/v1/m:generateContent",
        ] {
            assert_eq!(facts(path, b"{}"), Facts::default(), "{path}");
        }
    }

    #[test]
    fn the_body_tells_size_limits_tools_and_turn() {
        let body = br#"{"systemInstruction":{"parts":[{"text":"1234"}]},"contents":[{"role":"user","parts":[{"text":"1234"}]},{"role":"model","parts":[{"text":"1234"}]},{"role":"user","parts":[{"text":"1234"}]}],"generationConfig":{"temperature":0.1,"maxOutputTokens":77},"tools":[{"functionDeclarations":[{"name":"f"}]}]}"#;
        let read = facts("/v1/models/m:generateContent", body);
        assert_eq!((read.prompt_tokens, read.max_tokens, read.turn), (4, Some(77), 2));
        assert_eq!(read.tools, ["f"]);
        let embed =
            br#"{"requests":[{"model":"models/m","content":{"parts":[{"text":"12345678"}]}}]}"#;
        let read = facts("/v1/models/m:batchEmbedContents", embed);
        assert!((2..=4).contains(&read.prompt_tokens) && read.turn == 0, "{read:?}");
    }

    #[test]
    fn an_error_in_a_stream_is_framed_as_google_does() {
        let failure = Failure { class: Some("overloaded"), ..Failure::default() };
        let event = GEMINI.inband_failure(&failure).unwrap();
        assert_eq!(
            event.raw,
            "data: {\"error\":{\"code\":503,\"message\":\"The model is overloaded. Please try \
             again later.\",\"status\":\"UNAVAILABLE\"}}\r\n\r\n"
        );
        let read = GEMINI.read_event(Operation::Chat, &event);
        assert_eq!(read.error.as_deref(), Some("The model is overloaded. Please try again later."));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(
            start in prop::sample::select(vec![&br#"{"candidates":[{"content":{"parts":[{"text":"#[..], br#"{"contents":"#, b""]),
            rest in prop::collection::vec(any::<u8>(), 0..80),
            share in any::<f64>(),
        ) {
            let bytes = [start, &rest[..]].concat();
            let _ = facts("/v1/models/m:generateContent", &bytes);
            let event = Event::sse(&bytes);
            let _ = GEMINI.read_event(Operation::Chat, &event);
            let _ = GEMINI.read_message(Operation::Chat, &bytes);
            let finish = Finish { reason: "length", tokens: 3 };
            let _ = GEMINI.finish_events(Operation::Chat, &event, &finish);
            let _ = GEMINI.shorten(Operation::Chat, &bytes, share, "length");
        }
    }
}
