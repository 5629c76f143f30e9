//! One request and its answer, as faults and dialects see them. No I/O, no clock.

pub mod eventstream;
mod reframe;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::dice::hash_bytes;

/// What identifies an exchange for seeded decisions: its session and turn when known, else a hash
/// of method, path and body.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct ExchangeKey(pub u64);

impl ExchangeKey {
    /// The key of a request by its content.
    pub fn of(method: &Method, path: &str, body: &[u8]) -> Self {
        let mut hash = hash_bytes(method.as_str().as_bytes());
        hash = hash.rotate_left(17) ^ hash_bytes(path.as_bytes());
        Self(hash.rotate_left(17) ^ hash_bytes(body))
    }

    /// The key of a request that carries a label of its own.
    pub fn labelled(label: &str) -> Self {
        Self(hash_bytes(label.as_bytes()))
    }
}

impl fmt::Display for ExchangeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What a request asks its dependency to do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// A chat or text completion.
    Chat,
    /// Removing points or documents.
    Delete,
    /// Turning text into vectors.
    Embed,
    /// Nothing the dialect knows.
    #[default]
    Other,
    /// Reading points or documents by id or page.
    Read,
    /// Nearest-neighbour or filtered search.
    Search,
    /// Calling a tool (MCP).
    Tool,
    /// Writing points or documents.
    Upsert,
}

impl Operation {
    /// The word users write and read.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Delete => "delete",
            Self::Embed => "embed",
            Self::Other => "other",
            Self::Read => "read",
            Self::Search => "search",
            Self::Tool => "tool",
            Self::Upsert => "upsert",
        }
    }
}

/// What a dialect reads out of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// What is asked for.
    pub operation: Operation,
    /// The model asked for, where the request names one.
    pub model: Option<String>,
    /// Whether the answer was asked for as a stream.
    pub stream: bool,
    /// Estimated tokens of the prompt (bytes of text / 4), 0 when unknown.
    pub prompt_tokens: u32,
    /// The most tokens the answer may have, when the request says so.
    pub max_tokens: Option<u32>,
    /// The names of the tools that the request offers to the model; of a tool call, the one called.
    pub tools: Vec<String>,
    /// What a store is asked about: a collection, index, namespace or class; with its tenant or
    /// database in front where the request names one.
    pub collection: Option<String>,
    /// How many hits a search asks for.
    pub top_k: Option<u32>,
    /// How many messages of the user the request holds: 1 in the first turn of a conversation, 0
    /// when unknown.
    pub turn: u32,
}

/// What is decided on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Level {
    /// A connection of a dependency that speaks raw TCP, from its start to its end.
    Connection,
    /// A TLS handshake with the app, before any request.
    Handshake,
    /// One request and its answer; a WebSocket from its handshake on.
    #[default]
    Request,
    /// A WebSocket that is open already and is decided on anew.
    Socket,
}

impl Level {
    pub const ALL: [Self; 4] = [Self::Connection, Self::Handshake, Self::Request, Self::Socket];
}

/// What carries an exchange to the app.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Transport {
    /// HTTP/2 with length-prefixed messages and a status in the trailers.
    Grpc,
    #[default]
    Http1,
    Http2,
    /// A protocol of its own over TCP.
    Tcp,
    /// Frames both ways after an upgrade.
    WebSocket,
}

/// A request on its way to a dependency, as selectors and faults see it. A connection or handshake
/// that is decided on as a whole is one too: its method is `CONNECT` and its path `/`.
#[derive(Clone, Debug)]
pub struct Exchange {
    pub dependency: Arc<str>,
    pub level: Level,
    pub transport: Transport,
    pub key: ExchangeKey,
    /// How many exchanges with this key came before (0 for the first): a retry rolls anew.
    pub ordinal: u32,
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub facts: Facts,
    /// The request body as far as it was read: up to a fixed length, and only when an armed fault
    /// needs it.
    pub body: Bytes,
    /// Who the app says is asking (`identify.user`).
    pub user: Option<String>,
    /// Which session the app says this belongs to (`identify.session`).
    pub session: Option<String>,
    /// A hash of the API key; the key itself is never kept.
    pub api_key: Option<u64>,
}

/// How finely an effect must see a body; the finest armed grain decides how the pump cuts it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Grain {
    /// The head alone; the body passes as it comes.
    #[default]
    Head,
    /// Pieces of the body as they come.
    Bytes,
    /// Single events of a stream (SSE, NDJSON, gRPC messages, WebSocket messages, protocol
    /// messages); the whole body where the answer is no stream.
    Event,
}

/// A piece of an answer's body, cut by the armed grain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// Bytes as they came.
    Bytes(Bytes),
    /// One event of a stream, with its exact bytes.
    Event(Event),
    /// The whole body of an answer that is no stream.
    Message(Bytes),
}

impl Item {
    /// The bytes that go on the wire.
    pub fn raw(&self) -> &Bytes {
        match self {
            Self::Bytes(bytes) | Self::Message(bytes) => bytes,
            Self::Event(event) => &event.raw,
        }
    }
}

/// How a stream of events is framed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// Amazon's eventstream: lengths, headers, a payload and two checksums.
    EventStream,
    /// gRPC: a flag byte, a length of four bytes, the message.
    Grpc,
    /// The items of a JSON array that is sent piece by piece.
    JsonArray,
    /// Newline-delimited JSON.
    Ndjson,
    /// A message of a protocol over raw TCP, as its own codec frames it.
    Protocol,
    /// Server-sent events.
    Sse,
    /// One message of a WebSocket, in one or more frames.
    WebSocket,
}

/// One event of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub framing: Framing,
    /// The event's exact bytes, its terminating blank line (or newline) included.
    pub raw: Bytes,
    /// The `event:` field, or the kind of a message, if any.
    pub name: Option<String>,
    /// The payload: the joined `data:` fields, the NDJSON line, the message without its frame.
    /// Empty for comments.
    pub data: Bytes,
}

impl Event {
    /// An SSE event with this payload, framed as providers frame it (`data: …\n\n`).
    pub fn sse(data: impl AsRef<[u8]>) -> Self {
        let data = Bytes::copy_from_slice(data.as_ref());
        let mut raw = Vec::with_capacity(data.len() + 8);
        for line in data.split(|byte| *byte == b'\n') {
            raw.extend_from_slice(b"data: ");
            raw.extend_from_slice(line);
            raw.push(b'\n');
        }
        raw.push(b'\n');
        Self { framing: Framing::Sse, raw: raw.into(), name: None, data }
    }

    /// An SSE event with a name before its payload (`event: …\ndata: …\n\n`).
    pub fn named(name: &str, data: impl AsRef<[u8]>) -> Self {
        let plain = Self::sse(data);
        let raw = [format!("event: {name}\n").as_bytes(), &plain.raw].concat();
        Self { raw: raw.into(), name: Some(name.to_owned()), ..plain }
    }

    /// An SSE comment, which clients ignore (`: text\n\n`).
    pub fn comment(text: &str) -> Self {
        let raw = Bytes::from(format!(": {text}\n\n"));
        Self { framing: Framing::Sse, raw, name: None, data: Bytes::new() }
    }

    /// An uncompressed gRPC message.
    pub fn grpc(data: impl AsRef<[u8]>) -> Self {
        let data = Bytes::copy_from_slice(data.as_ref());
        let mut raw = Vec::with_capacity(data.len() + 5);
        raw.push(0);
        raw.extend_from_slice(&u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes());
        raw.extend_from_slice(&data);
        Self { framing: Framing::Grpc, raw: raw.into(), name: None, data }
    }

    /// An NDJSON line with this payload.
    pub fn ndjson(data: impl AsRef<[u8]>) -> Self {
        let data = Bytes::copy_from_slice(data.as_ref());
        let mut raw = Vec::with_capacity(data.len() + 1);
        raw.extend_from_slice(&data);
        raw.push(b'\n');
        Self { framing: Framing::Ndjson, raw: raw.into(), name: None, data }
    }

    /// A message of a WebSocket: `text`, `binary`, `ping`, `pong` or `close`. It is framed when it
    /// is written, since an app's frames are masked.
    pub fn socket(kind: &str, data: impl AsRef<[u8]>) -> Self {
        let data = Bytes::copy_from_slice(data.as_ref());
        Self { framing: Framing::WebSocket, raw: Bytes::new(), name: Some(kind.to_owned()), data }
    }

    /// What closes a WebSocket: a code, and a reason of at most 123 bytes.
    pub fn close(code: u16, reason: &str) -> Self {
        let mut data = code.to_be_bytes().to_vec();
        data.extend_from_slice(reason.as_bytes());
        Self::socket("close", data)
    }

    /// Whether it carries no part of an answer: a comment, a ping, a pong, a close.
    pub fn is_control(&self) -> bool {
        match self.framing {
            Framing::WebSocket => {
                matches!(self.name.as_deref(), Some("ping" | "pong" | "close"))
            }
            Framing::EventStream | Framing::Grpc | Framing::Protocol => false,
            Framing::JsonArray | Framing::Ndjson | Framing::Sse => self.data.is_empty(),
        }
    }

    /// The same event with another payload: whatever else its frame holds stays as it came.
    pub fn with_data(&self, data: impl AsRef<[u8]>) -> Self {
        let data = Bytes::copy_from_slice(data.as_ref());
        let raw = match self.framing {
            Framing::EventStream => return self.reframed(data),
            Framing::JsonArray => data.clone(),
            Framing::Grpc => return Self::grpc(data),
            Framing::Ndjson => {
                let end = self.raw.strip_prefix(&self.data[..]);
                [&data[..], end.unwrap_or(b"\n")].concat().into()
            }
            // Their codec frames them when they are written.
            Framing::Protocol | Framing::WebSocket => Bytes::new(),
            Framing::Sse => reframe::sse(&self.raw, &self.data, &data),
        };
        Self { raw, data, ..self.clone() }
    }
}
