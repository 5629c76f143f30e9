//! Stand-in dependencies: an OpenAI-compatible model with embeddings, and a Qdrant-compatible
//! vector store, good enough for the official clients.
//!
//! What they answer depends on the seed and the request alone; how long they take, on their
//! settings and on how many others are being served.

mod capacity;
mod corpus;
mod embedding;
mod limit;
mod openai;
mod qdrant;
mod structured;
mod text;
mod tokens;
mod words;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use self::capacity::Capacity;
pub use self::capacity::Load;
pub use self::corpus::{Document, documents};
pub use self::embedding::embed;
use crate::net::{Clock, Server};
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
    /// Refuses requests without a key and models that `/v1/models` does not list.
    pub strict: bool,
    pub seed: u64,
}

/// The presets of `simulate: { model: … }`.
pub const MODELS: &[&str] = &["instant", "small", "large", "gpu-small"];

impl Settings {
    /// The numbers of a preset of [`MODELS`], None when there is no such preset.
    pub fn preset(kind: Kind, model: &str) -> Option<Self> {
        let millis = Duration::from_millis;
        // (slots, queue, time to first token, tokens per second, answer, embedding, search)
        let (slots, queue_limit, first, per_second, answer, embedding, search) = match model {
            "instant" => (65_536, 65_536, 0, f64::INFINITY, (60, 60), 0, 0),
            "small" => (16, 64, 150, 60.0, (60, 160), 20, 5),
            "large" => (32, 128, 600, 35.0, (120, 400), 60, 15),
            // One card with continuous batching: few slots, a short line.
            "gpu-small" => (8, 32, 250, 45.0, (80, 200), 30, 8),
            _ => return None,
        };
        let latency = match kind {
            Kind::OpenAi => embedding,
            Kind::Qdrant => search,
        };
        Some(Self {
            kind,
            model: model.to_owned(),
            slots,
            queue_limit,
            time_to_first_token: millis(first),
            tokens_per_second: per_second,
            answer_tokens: Count { low: answer.0, high: answer.1 },
            embedding_dimensions: 1536,
            latency: millis(latency),
            documents: if kind == Kind::Qdrant { 200 } else { 0 },
            requests_per_minute: None,
            strict: false,
            seed: 0,
        })
    }
}

/// A simulated dependency.
#[derive(Debug)]
pub struct Sim;

impl Sim {
    /// Starts to serve (port 0 picks a free one). The clock paces the answers.
    pub async fn start(
        listen: SocketAddr,
        settings: Settings,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Running> {
        let capacity = Arc::new(Capacity::new(settings.slots, settings.queue_limit));
        let kind = settings.kind;
        let router = match kind {
            Kind::OpenAi => openai::router(settings, clock, Arc::clone(&capacity)),
            Kind::Qdrant => {
                let capacity = Arc::clone(&capacity);
                // Making the documents' vectors takes a while: not on a thread that serves.
                tokio::task::spawn_blocking(move || qdrant::router(settings, clock, capacity))
                    .await
                    .map_err(io::Error::other)?
            }
        };
        let server = Server::start(listen, router).await?;
        Ok(Running { server, capacity, kind })
    }
}

/// Sleeps until then; returns at once when that has passed, without a turn through the timer.
async fn pause(clock: &dyn Clock, until: Duration) {
    if until > clock.now() {
        clock.sleep_until(until).await;
    }
}

/// A simulated dependency at work; dropping it closes its listener and its connections.
#[derive(Debug)]
pub struct Running {
    server: Server,
    capacity: Arc<Capacity>,
    kind: Kind,
}

impl Running {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// `http://127.0.0.1:PORT`, without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// How busy it is.
    pub fn load(&self) -> Load {
        self.capacity.load()
    }

    /// Stops at once (as dropping does).
    pub fn stop(self) {}
}
