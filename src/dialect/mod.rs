//! What the bytes of a dependency mean: operations, tokens, endings, errors, and how to edit them.
//!
//! One effect serves every provider because it asks the dialect. A dialect is pure: it reads and
//! makes bytes, and never touches a socket or a clock.

mod anthropic;
mod asks;
mod auto;
mod azure;
mod bedrock;
mod class;
mod cohere;
mod compatible;
mod failure;
mod gemini;
pub mod grpc;
mod kind;
pub mod listing;
mod mcp;
mod mistral;
mod ollama;
mod openai;
pub mod outline;
mod plain;
mod postgres;
pub mod prompt;
mod qdrant;
mod reading;
mod redis;
mod request;
mod session;
mod shorten;
mod so_far;
mod store;
mod tcp;
mod words;

use std::fmt::Debug;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri};

pub use self::asks::Offered;
pub use self::class::inband_message;
pub use self::failure::{
    Answer, FAILURE_CLASSES, Failure, Finish, Gauge, Quota, STORE_CLASSES, TOOL_CLASSES,
};
pub use self::kind::{KINDS, by_kind};
pub use self::listing::{Arrangement, Listing};
pub use self::outline::{Outline, Reason, Slot, Spot};
pub use self::session::{Asked, Down, Refusal, Reply, Session, Up};
pub use self::so_far::SoFar;
pub use self::tcp::OPAQUE;
use crate::exchange::{Event, Facts, Operation};

/// The wire format of a kind of dependency.
pub trait Dialect: Debug + Send + Sync {
    /// The word users write as `kind:`.
    fn name(&self) -> &'static str;

    /// What an upstream of this kind may begin with, the usual form first.
    fn schemes(&self) -> &'static [Scheme] {
        HTTP
    }

    /// Follows a raw connection on both sides; `tls_passes` when the app's TLS is not ours. None for
    /// HTTP, and for bytes that mean nothing to us.
    fn session(&self, _tls_passes: bool) -> Option<Box<dyn Session>> {
        None
    }

    /// Whether raw connections carry requests that `session` can tell apart.
    fn has_session(&self) -> bool {
        false
    }

    /// When a dependency of this kind can say this failure.
    fn moment(&self, failure: &Failure<'_>) -> Moment {
        match failure.class {
            Some(class) if STORE_CLASSES.contains(&class) || TOOL_CLASSES.contains(&class) => {
                Moment::Never
            }
            _ => Moment::Asking,
        }
    }

    /// The dialect of this request, where a kind stands for several. None: this one.
    fn of_request(&self, _: &Asking<'_>) -> Option<&'static dyn Dialect> {
        None
    }

    /// What a request asks for. `body` may be a prefix of the real one, and is empty when no armed
    /// fault needs it.
    fn facts(&self, method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Facts;

    /// What one event of a streamed answer says.
    fn read_event(&self, operation: Operation, event: &Event) -> Reading;

    /// What a whole answer says.
    fn read_message(&self, operation: Operation, body: &[u8]) -> Reading;

    /// The part of an event that `outline` reads, where it is wrapped in something else.
    fn payload(&self, event: &Event) -> Bytes {
        event.data.clone()
    }

    /// The same event with another payload, wrapped and framed like this one.
    fn with_payload(&self, event: &Event, payload: &[u8]) -> Event {
        event.with_data(payload)
    }

    /// Where the parts of an answer stand in the payload of an event, or in a whole answer.
    fn outline(&self, _operation: Operation, _payload: &[u8]) -> Outline {
        Outline::default()
    }

    /// The lists in a whole answer: hits of a search, vectors of a batch.
    fn listings(&self, operation: Operation, body: &[u8]) -> Vec<Listing> {
        listing::listings(body, &self.outline(operation, body))
    }

    /// A whole answer with its lists arranged as given, one arrangement for each. None where it has
    /// no lists.
    fn arranged(&self, operation: Operation, body: &[u8], lists: &[Arrangement]) -> Option<Bytes> {
        listing::arranged(body, &self.outline(operation, body), lists)
    }

    /// The ids of what a write stores, as `Listing::ids` has them; empty where they cannot be told.
    /// `body` is the request's as far as it was read.
    fn written(&self, _path: &str, _body: &[u8]) -> Vec<String> {
        Vec::new()
    }

    /// The same answer, saying that so many of the shards that were asked have failed. None where
    /// this store never says such a thing.
    fn partial(&self, _operation: Operation, _body: &[u8], _shards: Shards) -> Option<Bytes> {
        None
    }

    /// What an event is of an answer whose hits come one by one; None where they come in a body, and
    /// for what is said beside them.
    fn row(&self, _event: &Event) -> Option<Row> {
        None
    }

    /// The event that ends the rows, saying that there were so many.
    fn counted(&self, event: &Event, _rows: u64) -> Event {
        event.clone()
    }

    /// The word by which this provider says why an answer ended. None where it has none.
    fn reason(&self, _operation: Operation, _reason: Reason) -> Option<&'static str> {
        None
    }

    /// How this provider says that its model will not answer.
    fn declines(&self, _operation: Operation) -> Declines {
        Declines::default()
    }

    /// The JSON Schema that a request wants the answer's text to fit.
    fn schema(&self, body: &[u8]) -> Option<serde_json::Value> {
        asks::schema(body)
    }

    /// The tools that a request offers, with the schemas of their arguments.
    fn offered(&self, body: &[u8]) -> Vec<Offered> {
        asks::tools(body)
    }

    /// The word by which an answer ends whose tool call could not be read by the provider itself:
    /// Gemini's `MALFORMED_FUNCTION_CALL`. None where it has no such end.
    fn malformed_call(&self, _operation: Operation) -> Option<&'static str> {
        None
    }

    /// The events that say a tool call, shaped like `like` (the last event of the answer before its
    /// end). None when this wire format has none that we can make.
    fn call_events(&self, _: Operation, _like: &Event, _call: &Called<'_>) -> Option<Vec<Event>> {
        None
    }

    /// A whole answer with one more tool call. None when we cannot make one.
    fn with_call(&self, _: Operation, _body: &[u8], _call: &Called<'_>) -> Option<Bytes> {
        None
    }

    /// Whether this payload of a stream tells texts and arguments again that were told in parts before:
    /// the responses API's `response.output_text.done`.
    fn retells(&self, _operation: Operation, _payload: &[u8]) -> bool {
        false
    }

    /// Whether this payload ends the block of the answer whose number it gives, so that no text or
    /// arguments may follow in it: Anthropic's `content_block_stop`. What names a reason for the
    /// answer's end needs not be told here.
    fn closes(&self, _operation: Operation, _payload: &[u8]) -> bool {
        false
    }

    /// The answer this provider gives for a failure: status, headers and body as on the wire. It
    /// holds no quota headers; who wants them (true or false ones) adds `quota_headers`.
    fn failure(&self, failure: &Failure<'_>) -> Answer;

    /// The headers by which this provider tells how much of a rate limit is left; empty when it
    /// has none.
    fn quota_headers(&self, quota: &Quota) -> Vec<(&'static str, String)>;

    /// What this provider writes for a reason: its own word for one of `Reason`'s names, any other
    /// word as it is.
    fn word_for<'w>(&self, operation: Operation, reason: &'w str) -> &'w str {
        let known = Reason::named(reason);
        known.and_then(|known| self.reason(operation, known)).unwrap_or(reason)
    }

    /// Whether an event of a stream is content: a piece of the answer, or what opens or closes a
    /// part of it.
    fn is_content(&self, _: Operation, _: &Event, reading: &Reading) -> bool {
        reading.tokens > 0
    }

    /// The events that end a stream for a reason as this provider ends it, its terminal event
    /// included, shaped like `like` (the last event that is content). Empty when it has no words
    /// for that.
    fn finish_events(&self, _: Operation, _like: &Event, _: &Finish<'_>) -> Vec<Event> {
        Vec::new()
    }

    /// A whole answer with its text cut to a share (0 to 1), ended for `reason` ("length", or
    /// "stop" for a silent cut). None when the answer has no text to cut.
    fn shorten(
        &self,
        operation: Operation,
        body: &[u8],
        share: f64,
        reason: &str,
    ) -> Option<Bytes> {
        let outline = self.outline(operation, body);
        shorten::shorten(body, &outline, share, self.word_for(operation, reason))
    }

    /// The event by which this provider reports an error inside a running stream.
    fn inband_error(&self, message: &str) -> Option<Event>;

    /// The same for a failure of a class, where the provider tells classes apart in a stream too.
    fn inband_failure(&self, failure: &Failure<'_>) -> Option<Event> {
        let class = failure.class.unwrap_or_default();
        self.inband_error(failure.message.unwrap_or_else(|| inband_message(class)))
    }

    /// The events that end a stream for a reason, as it has run so far: for formats in which the end
    /// repeats what came before, or counts on.
    fn ending(&self, operation: Operation, so_far: &SoFar, reason: &str) -> Vec<Event> {
        let finish = Finish { reason, tokens: so_far.tokens };
        let last = so_far.last.as_ref();
        last.map_or_else(Vec::new, |last| self.finish_events(operation, last, &finish))
    }

    /// The events by which this provider reports a failure inside a stream, as it has run so far;
    /// none where it reports none.
    fn failing(&self, failure: &Failure<'_>, _so_far: &SoFar) -> Vec<Event> {
        self.inband_failure(failure).into_iter().collect()
    }

    /// The event by which this provider keeps a silent stream alive (`event: ping`). None where it
    /// has none of its own.
    fn ping(&self) -> Option<Event> {
        None
    }

    /// The event that says that a stream is over (`[DONE]`), as it has run so far. None where streams
    /// just end.
    fn terminal_event(&self, operation: Operation, so_far: &SoFar) -> Option<Event> {
        let done = |event: &Event| self.read_event(operation, event).done;
        let last = self.ending(operation, so_far, "stop").pop();
        last.filter(done).or_else(|| Some(Event::sse("[DONE]")).filter(done))
    }

    /// The message by which it reports one on a WebSocket.
    fn socket_error(&self, message: &str) -> Option<Event> {
        self.inband_error(message).map(|event| Event::socket("text", event.data))
    }

    /// The same dependency where it is called by gRPC.
    fn over_grpc(&self) -> &'static dyn Dialect {
        &grpc::ANY
    }
}

/// A request, as it shows whose format it is in.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// The upstream's host, with a port where it is not the usual one.
    pub host: &'a str,
    pub method: &'a Method,
    pub uri: &'a Uri,
    pub headers: &'a HeaderMap,
    /// As far as it was read.
    pub body: &'a [u8],
}

/// What the URL of an upstream begins with: `https`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheme {
    pub name: &'static str,
    /// The port where none is written; None: one must be.
    pub port: Option<u16>,
    /// The upstream is spoken to over TLS.
    pub tls: bool,
}

/// The schemes of what speaks HTTP. A kind with others speaks something else: to the proxy its
/// connections are bytes that its dialect may read.
pub const HTTP: &[Scheme] = &[
    Scheme { name: "https", port: Some(443), tls: true },
    Scheme { name: "http", port: Some(80), tls: false },
];

/// Whether a kind of dependency speaks HTTP.
pub fn speaks_http(dialect: &dyn Dialect) -> bool {
    dialect.schemes().iter().any(|scheme| scheme.name == "http")
}

/// A part of an answer whose hits come one by one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Row {
    /// There are no more; it may say how many there were.
    End,
    Hit,
}

/// How many of the shards that a search asked have failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shards {
    pub failed: u32,
    pub total: u32,
}

/// When a dependency can say a failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    /// In answer to a request.
    Asking,
    Both,
    /// When a connection begins.
    Connecting,
    /// It has no words for it.
    Never,
}

/// A tool call that we make up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Called<'a> {
    pub id: &'a str,
    pub name: &'a str,
    /// A JSON object.
    pub arguments: &'a str,
    /// The number of the call, or of its block where blocks are numbered: the next one that is free.
    pub index: u64,
}

/// How a provider says that its model will not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Declines {
    /// The member in which the text stands otherwise, and the one that has the words in its place.
    /// None, and of texts in other members: they are the text.
    pub member: Option<(&'static str, &'static str)>,
    /// The word by which the answer ends. None: the usual one.
    pub finish: Option<&'static str>,
    /// It is said without words.
    pub silent: bool,
}

/// What an event or a whole answer says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// Text of the answer carried here (content, reasoning or tool arguments).
    pub text: String,
    /// Content-bearing deltas: 1 for an event with text, else 0; for a whole answer its completion
    /// tokens, from `usage` where given, else bytes / 4.
    pub tokens: u32,
    /// Why the answer ended, where this says so.
    pub finish: Option<String>,
    /// This is the provider's terminal marker (`[DONE]`), after which nothing follows.
    pub done: bool,
    /// The tokens the provider counted: (prompt, completion).
    pub usage: Option<(u32, u32)>,
    /// An error reported inside a good status.
    pub error: Option<String>,
}
