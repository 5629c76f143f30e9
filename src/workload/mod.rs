//! What to send when: arrivals, sessions, prompts, request templates, answer formats. Pure.

pub mod arrival;
mod placeholder;
mod preset;
pub mod prompt;
pub mod session;
pub mod template;

use std::sync::Arc;
use std::time::Duration;

use crate::units::{Count, SpanRange};

pub use self::placeholder::Filling;

/// The traffic of an experiment, as loaded from the file.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The app's URL; `path` of the request is joined to it.
    pub app: url::Url,
    pub request: Template,
    pub answer: Answer,
    pub prompts: Prompts,
    pub arrivals: Arrivals,
    pub sessions: Sessions,
    /// A user gives up here.
    pub timeout: Duration,
    /// The longest wait for the first content, when users are less patient than `timeout`.
    pub first_token_timeout: Option<Duration>,
    /// Beyond this many requests at once, arrivals are shed.
    pub max_in_flight: usize,
    /// A good answer needs its first token within this time (goodput), when set.
    pub good_ttft: Option<Duration>,
    /// A good answer ends within this time (goodput), when set.
    pub good_latency: Option<Duration>,
}

/// When requests start.
#[derive(Clone, Debug, PartialEq)]
pub enum Arrivals {
    /// Closed loop: this many users, each waits for its answer and its think time.
    Users { users: u64 },
    /// Open loop: users intend this many requests, whatever the answers do. Sessions start at the
    /// rate over their mean number of turns.
    Rate { stages: Vec<Stage>, shape: Shape },
}

/// A stretch of an arrival rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stage {
    /// Requests per second at its end; the first stage with no `over` sets the rate at once.
    pub to: f64,
    /// How long the rate takes to get there, evenly.
    pub over: Duration,
}

/// How arrivals spread around their rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Shape {
    /// Even gaps.
    Constant,
    #[default]
    Poisson,
}

/// How a user's requests follow each other. Without sessions, `turns` is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sessions {
    pub turns: Count,
    pub think_time: SpanRange,
    /// Distinct users that sessions are drawn from.
    pub users: u64,
}

/// The prompts to ask.
#[derive(Clone, Debug)]
pub enum Prompts {
    /// A built-in set: see `prompt::PRESETS`.
    Preset(&'static str),
    /// From a JSONL file (one object with `text`, or one string, a line).
    List(Arc<[Prompt]>),
}

/// One prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt {
    pub text: String,
    /// The whole object of the JSONL line, for `${prompt.NAME}`.
    pub fields: serde_json::Map<String, serde_json::Value>,
}

/// The request to send: `${prompt.text}`, `${prompt.FIELD}`, `${user.id}`, `${session.id}`,
/// `${turn}`, `${request.id}`, `${history}` are filled in.
#[derive(Clone, Debug)]
pub struct Template {
    pub method: http::Method,
    /// Put below the app's path (`/api` and `/chat` make `/api/chat`); None leaves the URL as it
    /// is.
    pub path: Option<String>,
    pub headers: Vec<(http::HeaderName, String)>,
    /// JSON with placeholders in its strings; None sends no body.
    pub body: Option<serde_json::Value>,
}

/// How to read the app's answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub format: Format,
    /// The text in each event (or in the whole answer); None takes the event's data as it is.
    pub text: Option<serde_json_path::JsonPath>,
    /// What marks the end of a stream; None: `[DONE]`, or a `finish_reason`, or `done: true`, or
    /// an event named `done`, `end`, `message_stop`, `response.completed`.
    pub end: Option<EndMark>,
    /// What marks an error inside a good status, besides `event: error` and a top-level `error`.
    pub error: Option<serde_json_path::JsonPath>,
    /// What an answer holds by which the app itself says that it is a stand-in for the real one.
    pub fallback: Option<serde_json_path::JsonPath>,
}

/// What marks the end of a stream.
#[derive(Clone, Debug)]
pub enum EndMark {
    /// The stream needs no mark: a clean end is enough.
    None,
    /// An SSE event with this name.
    Event(String),
    /// A payload that equals this text, such as `[DONE]`.
    Text(String),
    /// A JSONPath that selects something true.
    Json(serde_json_path::JsonPath),
}

/// The shape of the app's answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Format {
    /// By the answer's content type.
    #[default]
    Auto,
    Json,
    Ndjson,
    Sse,
    /// Any bytes.
    Text,
}

impl Default for Sessions {
    /// One question a session, of 100 users.
    fn default() -> Self {
        let at_once = SpanRange { low: Duration::ZERO, high: Duration::ZERO };
        Self { turns: Count { low: 1, high: 1 }, think_time: at_once, users: 100 }
    }
}

impl Default for Answer {
    fn default() -> Self {
        Self { format: Format::Auto, text: None, end: None, error: None, fallback: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A plan to vary in tests.
    pub(crate) fn plan() -> Plan {
        let app: url::Url = "http://127.0.0.1:1/chat".parse().unwrap();
        Plan {
            request: Template::for_app(&app),
            app,
            answer: Answer::default(),
            prompts: Prompts::Preset("chat"),
            arrivals: Arrivals::Users { users: 1 },
            sessions: Sessions::default(),
            timeout: Duration::from_secs(60),
            first_token_timeout: None,
            max_in_flight: 1000,
            good_ttft: None,
            good_latency: None,
        }
    }
}
