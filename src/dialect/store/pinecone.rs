//! Pinecone's data plane over REST.

use std::sync::LazyLock;

use http::{Method, Uri};
use serde_json::json;

use super::{Store, Words, ids, not_partial, texts, words};
use crate::dialect::class::Class;
use crate::dialect::{Outline, Slot, grpc};
use crate::exchange::{Facts, Operation};
use crate::wire::json::Paths;

pub(in crate::dialect) static PINECONE: Store = Store {
    name: "pinecone",
    facts,
    outline,
    written: |_, body| ids(&WRITTEN, body),
    words: said,
    error: |said| json!({ "code": grpc::code_of(said.status), "message": said.text, "details": [] }),
    headers: |id| {
        vec![
            ("x-pinecone-request-latency-ms", (id % 40 + 3).to_string()),
            ("x-pinecone-request-id", (id >> 8).to_string()),
            ("server", "envoy".to_owned()),
        ]
    },
    hidden: |_, _| false,
    partial: not_partial,
    grpc: &grpc::PINECONE,
};

static FOUND: LazyLock<Paths<Slot>> = LazyLock::new(|| {
    Paths::new(&[
        ("matches", Slot::Rows),
        ("matches[*].id", Slot::HitId),
        ("matches[*].score", Slot::Score),
        // `search` of records.
        ("result.hits", Slot::Rows),
        ("result.hits[*]._id", Slot::HitId),
        ("result.hits[*]._score", Slot::Score),
        ("usage", Slot::Usage),
    ])
});

static WRITTEN: LazyLock<Paths<()>> = LazyLock::new(|| Paths::new(&[("vectors[*].id", ())]));
static ASKED: LazyLock<Paths<usize>> =
    LazyLock::new(|| Paths::new(&[("namespace", 0), ("topK", 1), ("query.top_k", 1)]));

fn outline(operation: Operation, payload: &[u8]) -> Outline {
    match operation {
        Operation::Search => Outline::of(&FOUND, payload),
        _ => Outline::default(),
    }
}

/// `/query`, `/vectors/upsert`, `/records/namespaces/{n}/search`
fn facts(method: &Method, uri: &Uri, body: &[u8]) -> Facts {
    let path = uri.path().trim_end_matches('/');
    let ends = |end: &str| path.ends_with(end);
    let records = path.contains("/records/namespaces/");
    let operation = match method.as_str() {
        "POST" if ends("/query") || records && ends("/search") => Operation::Search,
        "POST" if ends("/vectors/upsert") || ends("/vectors/update") => Operation::Upsert,
        "POST" if records && ends("/upsert") => Operation::Upsert,
        "POST" | "DELETE" if ends("/vectors/delete") => Operation::Delete,
        "GET" | "POST"
            if ends("/vectors/fetch")
                || ends("/vectors/list")
                || ends("/vectors/fetch_by_metadata")
                || ends("/describe_index_stats") =>
        {
            Operation::Read
        }
        _ => return Facts::default(),
    };
    let [namespace, top_k] = texts::<2>(&ASKED, body);
    let in_path =
        path.rsplit_once("/records/namespaces/").and_then(|(_, below)| below.split('/').next());
    let namespace = in_path.map(str::to_owned).or(namespace).filter(|name| !name.is_empty());
    Facts {
        operation,
        // The name that Pinecone gives the namespace without one.
        collection: Some(namespace.unwrap_or_else(|| "__default__".to_owned())),
        top_k: top_k.and_then(|text| text.parse().ok()),
        ..Facts::default()
    }
}

fn said(class: Class, own: Option<&str>) -> Option<Words> {
    match own {
        Some("disk_full") => return words(429, "", "Index is full, cannot accept data."),
        Some(_) => return None,
        None => {}
    }
    match class {
        Class::Auth => words(401, "", "Invalid API Key"),
        Class::BadRequest => {
            words(400, "", "Vector dimension 1535 does not match the dimension of the index 1536")
        }
        Class::ContextLength => {
            words(400, "", "Request size 4MB exceeds the maximum supported size of 2097152 bytes")
        }
        Class::NotFound => words(404, "", "Index not found"),
        Class::Quota => words(429, "", "You've reached your read unit limit for the current month"),
        Class::RateLimit | Class::SlowDown => words(429, "", "Too many requests"),
        Class::Html | Class::ServerError => words(500, "", "Internal error"),
        Class::Timeout => words(504, "", "Deadline exceeded"),
        Class::Overloaded | Class::Unavailable => {
            words(503, "", "upstream connect error or disconnect/reset before headers")
        }
    }
}
