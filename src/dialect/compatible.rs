//! Servers that speak OpenAI's format in their own way: vLLM, SGLang, llama.cpp, Text Generation
//! Inference, and OpenRouter. What they share is OpenAI's; here is what differs: their failures, how
//! these come inside a stream, and the APIs that TGI and llama.cpp have besides.

mod failure;
mod llama;
mod tgi;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri};

use super::openai::OpenAi;
use super::{
    Answer, Called, Declines, Dialect, Failure, Finish, Outline, Quota, Reading, Reason, SoFar,
    inband_message, reading, shorten,
};
use crate::exchange::{Event, Facts, Operation};

/// Which server it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Server {
    LlamaCpp,
    OpenRouter,
    SgLang,
    Tgi,
    Vllm,
}

/// The wire format of such a server.
#[derive(Debug)]
pub(super) struct Compatible(Server);

pub(super) static LLAMA_CPP: Compatible = Compatible(Server::LlamaCpp);
pub(super) static OPENROUTER: Compatible = Compatible(Server::OpenRouter);
pub(super) static SGLANG: Compatible = Compatible(Server::SgLang);
pub(super) static TGI: Compatible = Compatible(Server::Tgi);
pub(super) static VLLM: Compatible = Compatible(Server::Vllm);

impl Compatible {
    /// The outline of the server's own API; None where a payload is in OpenAI's format.
    fn own(&self, operation: Operation, payload: &[u8]) -> Option<Outline> {
        match (self.0, operation) {
            (Server::LlamaCpp, Operation::Chat) => llama::outline(payload),
            (Server::Tgi, Operation::Chat) => tgi::outline(payload),
            _ => None,
        }
    }

    /// Whether an event of the server's own API is its last.
    fn is_last(&self, payload: &[u8]) -> bool {
        match self.0 {
            Server::LlamaCpp => llama::is_last(payload),
            Server::Tgi => tgi::is_last(payload),
            _ => false,
        }
    }
}

impl Dialect for Compatible {
    fn name(&self) -> &'static str {
        match self.0 {
            Server::LlamaCpp => "llama-cpp",
            Server::OpenRouter => "openrouter",
            Server::SgLang => "sglang",
            Server::Tgi => "tgi",
            Server::Vllm => "vllm",
        }
    }

    fn facts(&self, method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Facts {
        let own = match self.0 {
            Server::LlamaCpp => llama::facts(method, uri.path(), body),
            Server::Tgi => tgi::facts(method, uri.path(), body),
            _ => None,
        };
        own.unwrap_or_else(|| OpenAi.facts(method, uri, headers, body))
    }

    fn read_event(&self, operation: Operation, event: &Event) -> Reading {
        let mut reading = match self.own(operation, &event.data) {
            Some(outline) => {
                let reading = reading::of_event(&event.data, &outline);
                Reading { done: self.is_last(&event.data), ..reading }
            }
            None => OpenAi.read_event(operation, event),
        };
        reading.error = reading.error.or_else(|| failure::said(&event.data));
        reading
    }

    fn read_message(&self, operation: Operation, body: &[u8]) -> Reading {
        match self.own(operation, body) {
            Some(outline) => reading::of_message(body, &outline),
            None => OpenAi.read_message(operation, body),
        }
    }

    fn outline(&self, operation: Operation, payload: &[u8]) -> Outline {
        self.own(operation, payload).unwrap_or_else(|| OpenAi.outline(operation, payload))
    }

    fn reason(&self, operation: Operation, reason: Reason) -> Option<&'static str> {
        OpenAi.reason(operation, reason)
    }

    fn declines(&self, operation: Operation) -> Declines {
        OpenAi.declines(operation)
    }

    fn retells(&self, operation: Operation, payload: &[u8]) -> bool {
        OpenAi.retells(operation, payload)
    }

    fn call_events(
        &self,
        operation: Operation,
        like: &Event,
        call: &Called<'_>,
    ) -> Option<Vec<Event>> {
        OpenAi.call_events(operation, like, call)
    }

    fn with_call(&self, operation: Operation, body: &[u8], call: &Called<'_>) -> Option<Bytes> {
        OpenAi.with_call(operation, body, call)
    }

    fn failure(&self, failure: &Failure<'_>) -> Answer {
        failure::failure(self.0, failure)
    }

    fn quota_headers(&self, quota: &Quota) -> Vec<(&'static str, String)> {
        match self.0 {
            Server::OpenRouter => OpenAi.quota_headers(quota),
            // Nobody pays for them by the token.
            _ => Vec::new(),
        }
    }

    fn finish_events(&self, operation: Operation, like: &Event, finish: &Finish<'_>) -> Vec<Event> {
        self.ending(operation, &SoFar::until(like, finish.tokens), finish.reason)
    }

    fn ending(&self, operation: Operation, so_far: &SoFar, reason: &str) -> Vec<Event> {
        let own = so_far.last.as_ref().and_then(|last| match self.0 {
            Server::LlamaCpp => llama::finish(last, so_far.tokens, reason),
            Server::Tgi => tgi::finish(last, &so_far.text, so_far.tokens, reason),
            _ => None,
        });
        own.map_or_else(|| OpenAi.ending(operation, so_far, reason), |event| vec![event])
    }

    fn shorten(
        &self,
        operation: Operation,
        body: &[u8],
        share: f64,
        reason: &str,
    ) -> Option<Bytes> {
        let Some(outline) = self.own(operation, body) else {
            return OpenAi.shorten(operation, body, share, reason);
        };
        let word = match self.0 {
            Server::LlamaCpp => llama::word(reason),
            _ => tgi::word(reason),
        };
        shorten::shorten(body, &outline, share, word)
    }

    fn inband_error(&self, message: &str) -> Option<Event> {
        let failure = Failure { message: Some(message), ..Failure::default() };
        self.failing(&failure, &SoFar::default()).into_iter().next()
    }

    fn failing(&self, failure: &Failure<'_>, so_far: &SoFar) -> Vec<Event> {
        let message =
            failure.message.unwrap_or_else(|| inband_message(failure.class.unwrap_or_default()));
        failure::inside(self.0, &Failure { message: Some(message), ..failure.clone() }, so_far)
    }
}

#[cfg(test)]
mod tests;
