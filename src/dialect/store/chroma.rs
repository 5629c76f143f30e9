//! Chroma's API v2 (and the paths of v1): answers in columns, one list in each for each question.

use std::sync::LazyLock;

use http::{Method, Uri};
use serde_json::json;

use super::{Store, Words, ids, not_partial, short, words};
use crate::dialect::class::Class;
use crate::dialect::{Outline, Slot, grpc};
use crate::exchange::{Facts, Operation};
use crate::wire::json::Paths;

pub(in crate::dialect) static CHROMA: Store = Store {
    name: "chroma",
    facts,
    outline,
    written: |_, body| ids(&WRITTEN, body),
    words: said,
    error: |said| json!({ "error": said.kind, "message": said.text }),
    headers: |id| vec![("chroma-trace-id", format!("{id:016x}{:016x}", id.rotate_left(21)))],
    hidden: |_, _| false,
    partial: not_partial,
    grpc: &grpc::ANY,
};

static FOUND: LazyLock<Paths<Slot>> = LazyLock::new(|| {
    Paths::new(&[
        ("ids[*]", Slot::Rows),
        ("ids[*][*]", Slot::HitId),
        ("embeddings[*]", Slot::Rows),
        ("documents[*]", Slot::Rows),
        ("uris[*]", Slot::Rows),
        ("metadatas[*]", Slot::Rows),
        ("distances[*]", Slot::Rows),
        ("distances[*][*]", Slot::Score),
        // `search` calls it otherwise.
        ("scores[*]", Slot::Rows),
        ("scores[*][*]", Slot::Score),
    ])
});

static GOT: LazyLock<Paths<Slot>> = LazyLock::new(|| {
    Paths::new(&[
        ("ids", Slot::Rows),
        ("ids[*]", Slot::HitId),
        ("embeddings", Slot::Rows),
        ("documents", Slot::Rows),
        ("uris", Slot::Rows),
        ("metadatas", Slot::Rows),
    ])
});

static WRITTEN: LazyLock<Paths<()>> = LazyLock::new(|| Paths::new(&[("ids[*]", ())]));
static TOP_K: LazyLock<Paths<()>> = LazyLock::new(|| Paths::new(&[("n_results", ())]));

fn outline(operation: Operation, payload: &[u8]) -> Outline {
    match operation {
        Operation::Search => Outline::of(&FOUND, payload),
        Operation::Read => Outline::of(&GOT, payload),
        _ => Outline::default(),
    }
}

/// `/api/v2/tenants/{t}/databases/{d}/collections/{id}/query`
fn facts(method: &Method, uri: &Uri, body: &[u8]) -> Facts {
    let Some((above, below)) = uri.path().rsplit_once("/collections/") else {
        return Facts::default();
    };
    let mut parts = below.trim_end_matches('/').split('/');
    let (Some(collection), Some(verb)) = (parts.next(), parts.next()) else {
        return Facts::default();
    };
    let operation = match (method.as_str(), verb) {
        ("POST", "query" | "search") => Operation::Search,
        ("POST", "get") | ("GET", "count") => Operation::Read,
        ("POST", "add" | "upsert" | "update") => Operation::Upsert,
        ("POST", "delete") => Operation::Delete,
        _ => Operation::Other,
    };
    let above: Vec<&str> = above.split('/').collect();
    let named = |key: &str| {
        let place = above.iter().position(|part| *part == key)?;
        above.get(place + 1).copied()
    };
    let names = [named("tenants"), named("databases"), Some(collection)];
    let names: Vec<&str> = names.into_iter().flatten().map(short).collect();
    let top_k = TOP_K.find(body).unwrap_or_default();
    Facts {
        operation,
        collection: Some(names.join("/")),
        top_k: top_k.first().and_then(|spot| serde_json::from_slice(spot.of(body)).ok()),
        ..Facts::default()
    }
}

fn said(class: Class, own: Option<&str>) -> Option<Words> {
    match own {
        Some("disk_full") => {
            return words(
                500,
                "InternalError",
                "error returned from database: (code: 13) database or disk is full",
            );
        }
        Some("readonly") => {
            return words(
                500,
                "InternalError",
                "error returned from database: (code: 8) attempt to write a readonly database",
            );
        }
        Some("busy" | "lock_timeout") => {
            return words(
                500,
                "InternalError",
                "error returned from database: (code: 5) database is locked",
            );
        }
        Some(_) => return None,
        None => {}
    }
    match class {
        Class::Auth => words(401, "AuthError", "Forbidden"),
        Class::BadRequest => words(
            400,
            "InvalidArgumentError",
            "Collection expecting embedding with dimension of 1536, got 1535",
        ),
        Class::ContextLength => {
            words(413, "BatchSizeExceededError", "Batch size exceeds the maximum of 5461")
        }
        Class::NotFound => words(404, "NotFoundError", "Collection [documents] does not exist"),
        Class::Overloaded | Class::Unavailable => {
            words(503, "ChromaError", "Service is not ready: executor is not ready")
        }
        Class::Quota => words(429, "QuotaError", "Quota exceeded"),
        Class::RateLimit | Class::SlowDown => words(429, "RateLimitError", "Rate limit exceeded"),
        Class::Html | Class::ServerError => {
            words(500, "InternalError", "Error executing plan: Internal error")
        }
        Class::Timeout => words(504, "ChromaError", "Deadline exceeded"),
    }
}
