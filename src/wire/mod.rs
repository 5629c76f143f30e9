//! Formats on the wire as incremental, sans-IO splitters. Every byte that goes in comes out again,
//! in order: passing everything through is the identity, however the bytes were cut.

pub mod coding;
pub mod eventstream;
pub mod grain;
pub mod grpc;
pub mod host;
pub mod http1;
pub mod json;
pub mod ndjson;
pub mod postgres;
pub mod protobuf;
pub mod resp;
pub mod sse;
pub mod strict;
pub mod websocket;

pub use self::grain::Cutter;

/// The most that is held back to complete an event or a whole answer (16 MiB); what is longer
/// passes as bytes, so that no peer decides how much memory we use.
pub const CAP: usize = 16 << 20;
