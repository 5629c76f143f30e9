//! Stand-in dependencies: an OpenAI-compatible model with embeddings, and a Qdrant-compatible
//! vector store, good enough for the official clients.

use std::time::Duration;

use crate::units::Count;

/// What is simulated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `/v1/chat/completions`, `/v1/completions`, `/v1/embeddings`, `/v1/models`.
    OpenAi,
    /// Collections and points over REST.
    Qdrant,
}

/// How a simulated dependency behaves.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub kind: Kind,
    /// The preset these numbers come from.
    pub model: String,
    /// Requests worked on at once; more wait in line.
    pub slots: usize,
    /// Requests that may wait in line; more get 503 (429 for OpenAI kinds).
    pub queue_limit: usize,
    pub time_to_first_token: Duration,
    /// Per answer.
    pub tokens_per_second: f64,
    /// Length of an answer when the request does not say.
    pub answer_tokens: Count,
    pub embedding_dimensions: usize,
    /// Time of an embedding or search.
    pub latency: Duration,
    /// Documents that a vector store holds from the start (collection `documents`).
    pub documents: usize,
    /// A rate limit of the simulated provider's own.
    pub requests_per_minute: Option<u32>,
    pub seed: u64,
}

/// The presets of `simulate: { model: … }`.
pub const MODELS: &[&str] = &["instant", "small", "large", "gpu-small"];
