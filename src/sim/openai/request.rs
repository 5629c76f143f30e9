//! What clients send: the parts of a request that the simulated model acts on. All else is let
//! pass, as unknown options are no reason for a stand-in to refuse.

use serde::Deserialize;
use serde_json::Value;

use super::Named;

/// `POST /v1/chat/completions`
#[derive(Debug, Deserialize)]
pub(super) struct Chat {
    #[serde(default)]
    pub(super) model: String,
    #[serde(default)]
    pub(super) messages: Vec<Message>,
    pub(super) tools: Option<Vec<Tool>>,
    pub(super) tool_choice: Option<Value>,
    pub(super) response_format: Option<Value>,
    #[serde(flatten)]
    pub(super) shape: Shape,
}

/// `POST /v1/completions`
#[derive(Debug, Deserialize)]
pub(super) struct Completion {
    #[serde(default)]
    pub(super) model: String,
    pub(super) prompt: Option<Value>,
    #[serde(flatten)]
    pub(super) shape: Shape,
}

/// How long an answer may be, and how it is sent.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Shape {
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    /// An extension of vLLM and others: exactly `max_tokens` tokens.
    ignore_eos: Option<bool>,
    pub(super) n: Option<u64>,
    stop: Option<OneOrMany>,
}

#[derive(Debug, Default, Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
    include_obfuscation: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Debug, Deserialize)]
pub(super) struct Message {
    pub(super) role: String,
    content: Option<Value>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Tool {
    pub(super) function: Option<Function>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Function {
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) parameters: Option<Value>,
}

/// `POST /v1/embeddings`
#[derive(Debug, Deserialize)]
pub(super) struct Embeddings {
    #[serde(default)]
    pub(super) model: String,
    pub(super) input: Option<Value>,
    pub(super) encoding_format: Option<String>,
    pub(super) dimensions: Option<u64>,
}

impl Shape {
    pub(super) fn stream(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    pub(super) fn include_usage(&self) -> bool {
        self.stream_options.as_ref().and_then(|options| options.include_usage).unwrap_or(false)
    }

    pub(super) fn obfuscated(&self) -> bool {
        self.stream_options.as_ref().and_then(|options| options.include_obfuscation).unwrap_or(true)
    }

    pub(super) fn max_tokens(&self) -> Option<usize> {
        self.max_completion_tokens.or(self.max_tokens).map(|most| most as usize)
    }

    /// Sets the most tokens where the request does not.
    pub(super) fn allow_at_most(&mut self, tokens: usize) {
        if self.max_tokens().is_none() {
            self.max_tokens = Some(tokens as u64);
        }
    }

    /// The length that was asked for, not merely allowed.
    pub(super) fn exact_tokens(&self) -> Option<usize> {
        self.max_tokens().filter(|_| self.ignore_eos == Some(true))
    }

    pub(super) fn stops(&self) -> &[String] {
        match &self.stop {
            None => &[],
            Some(OneOrMany::One(text)) => std::slice::from_ref(text),
            Some(OneOrMany::Many(texts)) => texts,
        }
    }
}

impl Message {
    /// The text of the message, its parts joined.
    pub(super) fn text(&self) -> String {
        match &self.content {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(parts)) => {
                parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n")
            }
            _ => String::new(),
        }
    }
}

impl Completion {
    /// The prompt's text; token numbers count as words.
    pub(super) fn text(&self) -> String {
        match &self.prompt {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(list)) => list
                .iter()
                .map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned))
                .collect::<Vec<_>>()
                .join(" "),
            _ => String::new(),
        }
    }
}

impl Named for Chat {
    fn model_mut(&mut self) -> &mut String {
        &mut self.model
    }
}

impl Named for Completion {
    fn model_mut(&mut self) -> &mut String {
        &mut self.model
    }
}

impl Named for Embeddings {
    fn model_mut(&mut self) -> &mut String {
        &mut self.model
    }
}
