//! gRPC, whatever the service: the operation is the method's path, failures are a status in
//! trailers. What we answer ourselves is always "trailers-only" (gRPC over HTTP/2): a head with
//! the status in it, and no body.

mod columns;
mod rows;
mod service;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use serde_json::Value;

use self::service::Service;
pub use self::service::operation;
use super::class::{Class, whole_seconds};
use super::store::{self, Store};
use super::{
    Answer, Arrangement, Dialect, Failure, Listing, Moment, Quota, Reading, STORE_CLASSES, qdrant,
};
use crate::exchange::{Event, Facts, Framing, Operation};

/// The names of the status codes, each at its number
/// (<https://github.com/grpc/grpc/blob/master/doc/statuscodes.md>).
pub const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

const OK: u16 = 0;
const CANCELLED: u16 = 1;
pub const UNKNOWN: u16 = 2;
const INVALID_ARGUMENT: u16 = 3;
const DEADLINE_EXCEEDED: u16 = 4;
const NOT_FOUND: u16 = 5;
const PERMISSION_DENIED: u16 = 7;
const RESOURCE_EXHAUSTED: u16 = 8;
const ABORTED: u16 = 10;
const UNIMPLEMENTED: u16 = 12;
const INTERNAL: u16 = 13;
pub const UNAVAILABLE: u16 = 14;
const UNAUTHENTICATED: u16 = 16;

/// The header or trailer that holds the status.
pub const STATUS: &str = "grpc-status";
const MESSAGE: &str = "grpc-message";
/// How long a client is to wait before it tries again (gRFC A6, "Pushback").
pub const PUSHBACK: &str = "grpc-retry-pushback-ms";
/// What marks an event of ours that stands for trailers.
const TRAILERS: &str = "trailers";

/// The wire format of `kind: grpc`, and of other kinds where they are reached by gRPC.
#[derive(Debug)]
pub(crate) struct Grpc {
    service: Service,
    words: fn(Class) -> &'static str,
    /// The status, as HTTP has it, and the words of a class that stores alone have.
    own: fn(&str) -> Option<(StatusCode, &'static str)>,
    /// The status of a request that is not let in.
    auth: u16,
    /// Says `retry-after` in seconds too.
    retry_after: bool,
}

/// Any service.
pub(crate) static ANY: Grpc =
    Grpc { service: Service::Any, words, own: |_| None, auth: UNAUTHENTICATED, retry_after: false };

/// Qdrant on its port 6334.
pub(super) static QDRANT: Grpc = Grpc {
    service: Service::Qdrant,
    words: qdrant::words,
    own: qdrant::own_words,
    auth: PERMISSION_DENIED,
    retry_after: true,
};

pub(super) static MILVUS: Grpc = Grpc {
    service: Service::Milvus,
    words: |class| text_of(&store::MILVUS, class),
    own: |class| store::MILVUS.own_words(class),
    auth: UNAUTHENTICATED,
    retry_after: false,
};

pub(super) static PINECONE: Grpc = Grpc {
    service: Service::Pinecone,
    words: |class| text_of(&store::PINECONE, class),
    own: |class| store::PINECONE.own_words(class),
    auth: UNAUTHENTICATED,
    retry_after: false,
};

pub(super) static WEAVIATE: Grpc = Grpc {
    service: Service::Weaviate,
    words: |class| text_of(&store::WEAVIATE, class),
    own: |class| store::WEAVIATE.own_words(class),
    auth: UNAUTHENTICATED,
    retry_after: false,
};

fn text_of(store: &Store, class: Class) -> &'static str {
    store.text(class).unwrap_or_else(|| words(class))
}

impl Dialect for Grpc {
    fn name(&self) -> &'static str {
        "grpc"
    }

    fn moment(&self, failure: &Failure<'_>) -> Moment {
        match failure.class {
            Some(class) if STORE_CLASSES.contains(&class) && (self.own)(class).is_none() => {
                Moment::Never
            }
            _ => Moment::Asking,
        }
    }

    fn facts(&self, _: &Method, uri: &Uri, _: &HeaderMap, body: &[u8]) -> Facts {
        service::facts(uri.path(), body)
    }

    fn listings(&self, operation: Operation, body: &[u8]) -> Vec<Listing> {
        match self.service {
            Service::Milvus => columns::listings(operation, body),
            service => rows::listings(service, operation, body),
        }
        .unwrap_or_default()
    }

    fn arranged(&self, operation: Operation, body: &[u8], lists: &[Arrangement]) -> Option<Bytes> {
        match self.service {
            Service::Milvus => columns::arranged(operation, body, lists),
            service => rows::arranged(service, operation, body, lists),
        }
        .map(Bytes::from)
    }

    fn written(&self, path: &str, body: &[u8]) -> Vec<String> {
        service::written(path, body)
    }

    /// A message counts as one token: what a service writes into it, nobody knows here.
    fn read_event(&self, _: Operation, event: &Event) -> Reading {
        let tokens = u32::from(event.framing == Framing::Grpc && event.name.is_none());
        Reading { tokens, ..Reading::default() }
    }

    fn read_message(&self, _: Operation, _: &[u8]) -> Reading {
        Reading::default()
    }

    fn failure(&self, failure: &Failure<'_>) -> Answer {
        let class = Class::of(failure);
        let own = failure.class.and_then(self.own);
        let code = match (failure.class, failure.status, own) {
            (None, Some(status), _) | (_, _, Some((status, _))) => code_of(status),
            _ => self.code(class),
        };
        let text = own.map_or_else(|| (self.words)(class), |(_, text)| text);
        let mut headers = head(code, failure.message.unwrap_or(text));
        if let Some(time) = failure.retry_after {
            if self.retry_after {
                headers.push(("retry-after".to_owned(), whole_seconds(time).to_string()));
            }
            headers.push((PUSHBACK.to_owned(), time.as_millis().to_string()));
        }
        Answer { status: StatusCode::OK, headers, body: Bytes::new() }
    }

    fn quota_headers(&self, _: &Quota) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    fn shorten(&self, _: Operation, _: &[u8], _: f64, _: &str) -> Option<Bytes> {
        None
    }

    fn inband_error(&self, message: &str) -> Option<Event> {
        Some(trailers(INTERNAL, message))
    }

    fn over_grpc(&self) -> &'static dyn Dialect {
        match self.service {
            Service::Any => &ANY,
            Service::Milvus => &MILVUS,
            Service::Pinecone => &PINECONE,
            Service::Qdrant => &QDRANT,
            Service::Weaviate => &WEAVIATE,
        }
    }
}

impl Grpc {
    fn code(&self, class: Class) -> u16 {
        match class {
            Class::Auth => self.auth,
            other => code_of_class(other),
        }
    }
}

/// The status of a class of failure.
fn code_of_class(class: Class) -> u16 {
    match class {
        Class::Auth => UNAUTHENTICATED,
        Class::BadRequest | Class::ContextLength => INVALID_ARGUMENT,
        Class::NotFound => NOT_FOUND,
        Class::Quota | Class::RateLimit | Class::SlowDown => RESOURCE_EXHAUSTED,
        Class::ServerError => INTERNAL,
        Class::Timeout => DEADLINE_EXCEEDED,
        // A gateway's page in place of an answer reads as this, too.
        Class::Html | Class::Overloaded | Class::Unavailable => UNAVAILABLE,
    }
}

/// The status of a class as users name it.
pub fn code_of_word(class: &str) -> u16 {
    code_of_class(Class::of(&Failure { class: Some(class), ..Failure::default() }))
}

/// The status that means the same as one of HTTP (google.rpc.Code; 502 as clients read it,
/// <https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>).
pub(super) fn code_of(status: StatusCode) -> u16 {
    match status.as_u16() {
        200..=299 => OK,
        400 => INVALID_ARGUMENT,
        401 => UNAUTHENTICATED,
        403 => PERMISSION_DENIED,
        404 => NOT_FOUND,
        408 | 504 => DEADLINE_EXCEEDED,
        409 => ABORTED,
        429 | 507 => RESOURCE_EXHAUSTED,
        499 => CANCELLED,
        500 => INTERNAL,
        501 => UNIMPLEMENTED,
        502 | 503 => UNAVAILABLE,
        _ => UNKNOWN,
    }
}

/// The number of a status that is written as its name or its number.
pub fn code_named(text: &str) -> Option<u16> {
    let text = text.trim();
    let named = CODES.iter().position(|name| name.eq_ignore_ascii_case(text));
    let number = || text.parse::<usize>().ok().filter(|number| *number < CODES.len());
    named.or_else(number).and_then(|number| u16::try_from(number).ok())
}

/// The name of a status, or its number where it has none.
pub fn name_of(code: u16) -> String {
    CODES.get(usize::from(code)).map_or_else(|| code.to_string(), |name| (*name).to_owned())
}

/// Whether a status is the server's fault, as OpenTelemetry has it for spans of servers
/// (<https://opentelemetry.io/docs/specs/semconv/rpc/grpc/>), or says that the client is one too many.
pub fn is_server_error(code: u16) -> bool {
    const DATA_LOSS: u16 = 15;
    matches!(
        code,
        UNKNOWN
            | DEADLINE_EXCEEDED
            | RESOURCE_EXHAUSTED
            | UNIMPLEMENTED
            | INTERNAL
            | UNAVAILABLE
            | DATA_LOSS
    )
}

/// What a server says with a status when it has nothing else to say.
pub fn words_of(code: u16) -> &'static str {
    match code {
        OK => "",
        CANCELLED => "the call was cancelled",
        INVALID_ARGUMENT => words(Class::BadRequest),
        DEADLINE_EXCEEDED => words(Class::Timeout),
        NOT_FOUND => words(Class::NotFound),
        6 => "it exists already",
        PERMISSION_DENIED => "permission denied",
        RESOURCE_EXHAUSTED => words(Class::RateLimit),
        9 => "the system is not in a state for this call",
        ABORTED => "the call was aborted by a concurrent one",
        11 => "out of range",
        UNIMPLEMENTED => "the method is not implemented",
        INTERNAL => words(Class::ServerError),
        UNAVAILABLE => words(Class::Unavailable),
        15 => "unrecoverable data loss",
        UNAUTHENTICATED => words(Class::Auth),
        _ => "unknown error",
    }
}

pub(super) fn words(class: Class) -> &'static str {
    match class {
        Class::Auth => "invalid credentials",
        Class::BadRequest => "invalid argument",
        Class::ContextLength => "the message is too large",
        Class::Html => "unexpected HTTP status code received from server: 502 (Bad Gateway)",
        Class::NotFound => "not found",
        Class::Overloaded => "the server is overloaded, please try again later",
        Class::Quota => "quota exceeded",
        Class::RateLimit | Class::SlowDown => "rate limit exceeded",
        Class::ServerError => "internal error",
        Class::Timeout => "deadline exceeded",
        Class::Unavailable => "the service is currently unavailable",
    }
}

/// The head of an answer that is a status alone.
fn head(code: u16, message: &str) -> Vec<(String, String)> {
    let mut headers = vec![
        ("content-type".to_owned(), "application/grpc".to_owned()),
        (STATUS.to_owned(), code.to_string()),
    ];
    if !message.is_empty() {
        headers.push((MESSAGE.to_owned(), encoded(message)));
    }
    headers
}

/// An answer that was made up for HTTP, as a gRPC client must get it. One that is gRPC already
/// stays as it is; a body has no place in it.
pub fn answer(answer: &Answer) -> Answer {
    let find = |name: &str| {
        let mut all = answer.headers.iter();
        all.find(|(set, _)| set.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    };
    let code = find(STATUS).and_then(code_named).unwrap_or_else(|| code_of(answer.status));
    let told = find(MESSAGE).map(str::to_owned);
    let told = told.unwrap_or_else(|| encoded(&message_in(&answer.body, code)));
    let pushback = match (find(PUSHBACK), find("retry-after-ms"), find("retry-after")) {
        (Some(_), _, _) => None,
        (None, Some(millis), _) => millis.parse::<u64>().ok(),
        (None, None, Some(seconds)) => {
            seconds.parse::<u64>().ok().and_then(|seconds| seconds.checked_mul(1000))
        }
        (None, None, None) => None,
    };
    let was_grpc = find(STATUS).is_some();
    let mut headers = head(code, "");
    if !told.is_empty() {
        headers.push((MESSAGE.to_owned(), told));
    }
    let ours = [STATUS, MESSAGE, "content-type", "content-length"];
    let kept = |(name, _): &(String, String)| {
        let known = |own: &&str| name.eq_ignore_ascii_case(own);
        let time = ["retry-after", "retry-after-ms"].iter().any(known);
        !ours.iter().any(known) && (was_grpc || !time)
    };
    let rest = answer.headers.iter().filter(|header| kept(header)).cloned();
    headers.extend(rest);
    headers.extend(pushback.map(|millis| (PUSHBACK.to_owned(), millis.to_string())));
    Answer { status: StatusCode::OK, headers, body: Bytes::new() }
}

/// What a body of an HTTP error says, in a sentence.
fn message_in(body: &[u8], code: u16) -> String {
    const PLACES: [&str; 6] =
        ["/error/message", "/message", "/status/error", "/detail", "/error", "/error/0/message"];
    const LONGEST: usize = 1024;
    let text = std::str::from_utf8(body).unwrap_or_default().trim();
    let said = match serde_json::from_str::<Value>(text) {
        Ok(json) => PLACES
            .iter()
            .find_map(|place| json.pointer(place)?.as_str().map(str::to_owned))
            .unwrap_or_default(),
        Err(_) if text.starts_with('<') => String::new(),
        Err(_) => text.to_owned(),
    };
    match said.is_empty() {
        true => words_of(code).to_owned(),
        false => said.chars().take(LONGEST).collect(),
    }
}

/// A message as `grpc-message` has it: percent-encoded but for what is printable ASCII
/// (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).
fn encoded(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b'%' | 0..0x20 | 0x7f.. => text.push_str(&format!("%{byte:02X}")),
            plain => text.push(char::from(plain)),
        }
    }
    text
}

/// The end of a gRPC answer as an event that faults can send: the pump makes trailers of it. (So
/// does gRPC-Web, whose form this is.)
pub fn trailers(code: u16, message: &str) -> Event {
    let mut text = format!("{STATUS}: {code}\r\n");
    if !message.is_empty() {
        text.push_str(&format!("{MESSAGE}: {}\r\n", encoded(message)));
    }
    let mut event = Event::grpc(text);
    event.name = Some(TRAILERS.to_owned());
    event
}

/// The trailers that an event of ours stands for.
pub fn trailers_of(event: &Event) -> Option<HeaderMap> {
    if event.framing != Framing::Grpc || event.name.as_deref() != Some(TRAILERS) {
        return None;
    }
    let text = std::str::from_utf8(&event.data).ok()?;
    let fields = text.lines().filter_map(|line| {
        let (name, value) = line.split_once(": ")?;
        Some((name.parse::<HeaderName>().ok()?, value.parse::<HeaderValue>().ok()?))
    });
    Some(fields.collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::dialect::{FAILURE_CLASSES, by_kind};

    fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
        answer.headers.iter().find(|(set, _)| set == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn classes_and_statuses_become_codes() {
        for class in FAILURE_CLASSES {
            let answer = ANY.failure(&Failure { class: Some(class), ..Failure::default() });
            assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, 0));
            assert!(header(&answer, STATUS).is_some_and(|code| code != "0"), "{class}");
        }
        for (status, code) in [(429, 8), (503, 14), (504, 4), (401, 16), (403, 7), (404, 5)] {
            let status = StatusCode::from_u16(status).unwrap();
            let answer = ANY.failure(&Failure { status: Some(status), ..Failure::default() });
            assert_eq!(header(&answer, STATUS), Some(code.to_string().as_str()), "{status}");
        }
        let qdrant = by_kind("qdrant").unwrap().over_grpc().failure(&Failure {
            class: Some("rate_limit"),
            retry_after: Some(Duration::from_millis(1500)),
            ..Failure::default()
        });
        assert_eq!(header(&qdrant, "retry-after"), Some("2"));
        assert_eq!(header(&qdrant, PUSHBACK), Some("1500"));
        assert!(header(&qdrant, MESSAGE).unwrap().starts_with("Rate limiting exceeded"));
    }

    #[test]
    fn answers_made_for_http_become_trailers_only() {
        let openai = by_kind("openai").unwrap().failure(&Failure {
            class: Some("rate_limit"),
            message: Some("slow down: 100% full"),
            retry_after: Some(Duration::from_secs(3)),
            ..Failure::default()
        });
        let made = answer(&openai);
        assert_eq!((made.status, made.body.len()), (StatusCode::OK, 0));
        assert_eq!(header(&made, STATUS), Some("8"));
        assert_eq!(header(&made, MESSAGE), Some("slow down: 100%25 full"));
        assert_eq!(header(&made, PUSHBACK), Some("3000"));
        assert_eq!(header(&made, "content-type"), Some("application/grpc"));
        assert_eq!(answer(&made), made, "what is gRPC already stays");
        let plain = Answer {
            status: StatusCode::BAD_GATEWAY,
            headers: vec![("content-type".into(), "text/plain".into())],
            body: "no é\n".into(),
        };
        assert_eq!(header(&answer(&plain), MESSAGE), Some("no %C3%A9"));
    }

    #[test]
    fn trailers_travel_as_events() {
        let event = trailers(14, "gone\n100%");
        let map = trailers_of(&event).unwrap();
        assert_eq!(
            (&map[STATUS], &map[MESSAGE]),
            (&"14".parse().unwrap(), &"gone%0A100%25".parse().unwrap())
        );
        assert_eq!(trailers_of(&Event::grpc("grpc-status: 0\r\n")), None, "a message of the app's");
        assert_eq!(
            (code_named("unavailable"), code_named("14"), code_named("17")),
            (Some(14), Some(14), None)
        );
    }
}
