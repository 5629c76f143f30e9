//! Vector stores that are spoken to by HTTP and JSON: Chroma, Elasticsearch, OpenSearch, Milvus,
//! Pinecone, Weaviate. Each has a table of places, and the words of its failures.

mod chroma;
mod elastic;
mod milvus;
mod pinecone;
#[cfg(test)]
mod tests;
mod weaviate;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Uri};
use serde_json::Value;

pub(super) use self::chroma::CHROMA;
pub(super) use self::elastic::{ELASTICSEARCH, OPENSEARCH};
pub(super) use self::milvus::MILVUS;
pub(super) use self::pinecone::PINECONE;
pub(super) use self::weaviate::WEAVIATE;
use super::class::{Class, html_page, short, whole_seconds};
use super::listing::{self, id_of};
use super::{
    Answer, Arrangement, Dialect, Failure, Listing, Moment, Outline, Quota, Reading, STORE_CLASSES,
    Shards, grpc,
};
use crate::exchange::{Event, Facts, Operation};
use crate::wire::json::Paths;

/// The wire format of one of them.
#[derive(Debug)]
pub(crate) struct Store {
    name: &'static str,
    facts: fn(&Method, &Uri, &[u8]) -> Facts,
    outline: fn(Operation, &[u8]) -> Outline,
    /// The ids that a write names.
    written: fn(&str, &[u8]) -> Vec<String>,
    words: fn(Class, Option<&str>) -> Option<Words>,
    /// The body of an error.
    error: fn(&Said<'_>) -> Value,
    /// Headers that each of its answers has.
    headers: fn(u64) -> Vec<(&'static str, String)>,
    /// Whether an error comes with status 200.
    hidden: fn(Operation, &Said<'_>) -> bool,
    partial: fn(&[u8], Shards) -> Option<Bytes>,
    grpc: &'static dyn Dialect,
}

/// How a store words a class of failure.
#[derive(Clone, Copy, Debug)]
struct Words {
    status: u16,
    /// The store's own name or number of the failure.
    kind: &'static str,
    text: &'static str,
}

/// A failure that is to be said.
#[derive(Debug)]
struct Said<'a> {
    status: StatusCode,
    kind: &'static str,
    text: &'a str,
}

const fn words(status: u16, kind: &'static str, text: &'static str) -> Option<Words> {
    Some(Words { status, kind, text })
}

impl Store {
    /// What it says of a class.
    pub(super) fn text(&self, class: Class) -> Option<&'static str> {
        (self.words)(class, None).map(|words| words.text)
    }

    /// The status and the words of a class that stores alone have.
    pub(super) fn own_words(&self, class: &str) -> Option<(StatusCode, &'static str)> {
        let known = STORE_CLASSES.contains(&class);
        let words = known.then(|| (self.words)(Class::ServerError, Some(class))).flatten()?;
        Some((StatusCode::from_u16(words.status).ok()?, words.text))
    }

    /// The words for a failure; None where the store never says such a thing.
    fn words_of(&self, failure: &Failure<'_>) -> Option<Words> {
        let own = failure.class.filter(|class| STORE_CLASSES.contains(class));
        (self.words)(Class::of(failure), own)
    }
}

/// The first member of these names that is a text, in a body that may be cut off.
fn texts<const N: usize>(paths: &Paths<usize>, body: &[u8]) -> [Option<String>; N] {
    let mut found = [const { None }; N];
    for spot in paths.find(body).unwrap_or_default() {
        let text = || short(&id_of(spot.of(body))).to_owned();
        if let Some(place) = found.get_mut(spot.what) {
            place.get_or_insert_with(text);
        }
    }
    found
}

/// The ids at these places.
fn ids(paths: &Paths<()>, body: &[u8]) -> Vec<String> {
    let found = paths.find(body).unwrap_or_default();
    found.iter().map(|spot| id_of(spot.of(body))).collect()
}

/// No list is spread over several searches in a way of its own.
fn not_partial(_: &[u8], _: Shards) -> Option<Bytes> {
    None
}

impl Dialect for Store {
    fn name(&self) -> &'static str {
        self.name
    }

    fn moment(&self, failure: &Failure<'_>) -> Moment {
        match self.words_of(failure) {
            Some(_) => Moment::Asking,
            None => Moment::Never,
        }
    }

    fn facts(&self, method: &Method, uri: &Uri, _: &HeaderMap, body: &[u8]) -> Facts {
        (self.facts)(method, uri, body)
    }

    fn outline(&self, operation: Operation, payload: &[u8]) -> Outline {
        (self.outline)(operation, payload)
    }

    fn listings(&self, operation: Operation, body: &[u8]) -> Vec<Listing> {
        match self.name {
            "milvus" => milvus::listings(operation, body),
            _ => listing::listings(body, &self.outline(operation, body)),
        }
    }

    fn arranged(&self, operation: Operation, body: &[u8], lists: &[Arrangement]) -> Option<Bytes> {
        match self.name {
            "milvus" => milvus::arranged(operation, body, lists),
            _ => listing::arranged(body, &self.outline(operation, body), lists),
        }
    }

    fn written(&self, path: &str, body: &[u8]) -> Vec<String> {
        (self.written)(path, body)
    }

    fn partial(&self, operation: Operation, body: &[u8], shards: Shards) -> Option<Bytes> {
        (operation == Operation::Search).then(|| (self.partial)(body, shards)).flatten()
    }

    fn read_event(&self, _: Operation, _: &Event) -> Reading {
        Reading::default()
    }

    fn read_message(&self, _: Operation, body: &[u8]) -> Reading {
        let json = serde_json::from_slice::<Value>(body).unwrap_or_default();
        let failed = json.get("code").and_then(Value::as_i64).is_some_and(|code| code != 0);
        let told = |place: &str| json.pointer(place).and_then(Value::as_str).map(str::to_owned);
        let named = failed || json.get("error").is_some_and(Value::is_string);
        let error = if named { told("/message") } else { None };
        let error = error
            .or_else(|| told("/error/0/message"))
            .or_else(|| told("/errors/0/message"))
            .or_else(|| told("/error/reason"));
        Reading { error, ..Reading::default() }
    }

    fn failure(&self, failure: &Failure<'_>) -> Answer {
        let class = Class::of(failure);
        let usual = self.words_of(failure).or_else(|| (self.words)(class, None));
        let usual = usual.unwrap_or(Words { status: 500, kind: "", text: grpc::words(class) });
        // A gateway's page is no answer of the store's.
        let page = class == Class::Html;
        let status = StatusCode::from_u16(usual.status).unwrap_or_else(|_| class.status());
        let status = if page { class.status() } else { status };
        let said = Said {
            status: failure.status.unwrap_or(status),
            kind: usual.kind,
            text: failure.message.unwrap_or(usual.text),
        };
        let own = if page { Vec::new() } else { (self.headers)(failure.id) };
        let mut headers: Vec<(String, String)> =
            own.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let kind = if page { "text/html" } else { "application/json" };
        headers.push(("content-type".to_owned(), kind.to_owned()));
        if let Some(time) = failure.retry_after {
            headers.push(("retry-after".to_owned(), whole_seconds(time).to_string()));
        }
        let body = match page {
            true => html_page(said.status, "nginx"),
            false => (self.error)(&said).to_string(),
        };
        // A status that was asked for is meant.
        let hidden = !page && failure.status.is_none() && (self.hidden)(failure.operation, &said);
        let status = if hidden { StatusCode::OK } else { said.status };
        let body = match hidden && failure.operation == Operation::Search {
            true => weaviate::in_answer(self.name, &said).unwrap_or(body),
            false => body,
        };
        Answer { status, headers, body: body.into() }
    }

    fn quota_headers(&self, _: &Quota) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    fn shorten(&self, _: Operation, _: &[u8], _: f64, _: &str) -> Option<Bytes> {
        None
    }

    fn inband_error(&self, _: &str) -> Option<Event> {
        None
    }

    fn over_grpc(&self) -> &'static dyn Dialect {
        self.grpc
    }
}
