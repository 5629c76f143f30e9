//! Weaviate over REST and GraphQL; a search that fails is an answer with status 200 and `errors`.

use std::sync::LazyLock;

use http::{Method, Uri};
use serde_json::json;

use super::{Said, Store, Words, ids, not_partial, short, texts, words};
use crate::dialect::class::Class;
use crate::dialect::{Outline, Slot, grpc};
use crate::exchange::{Facts, Operation};
use crate::wire::json::Paths;

pub(in crate::dialect) static WEAVIATE: Store = Store {
    name: "weaviate",
    facts,
    outline,
    written: |_, body| ids(&WRITTEN, body),
    words: said,
    error: |said| json!({ "error": [{ "message": said.text }] }),
    headers: |_| Vec::new(),
    // What is wrong with the request as a whole has a status of its own.
    hidden: |operation, said| {
        operation == Operation::Search && !matches!(said.status.as_u16(), 401 | 403 | 429 | 502)
    },
    partial: not_partial,
    grpc: &grpc::WEAVIATE,
};

static FOUND: LazyLock<Paths<Slot>> = LazyLock::new(|| {
    Paths::new(&[
        ("data.Get.*", Slot::Rows),
        ("data.Get.*[*]._additional.id", Slot::HitId),
        ("data.Get.*[*]._additional.distance", Slot::Score),
        ("data.Get.*[*]._additional.certainty", Slot::Score),
        ("data.Get.*[*]._additional.score", Slot::Score),
    ])
});

static GOT: LazyLock<Paths<Slot>> = LazyLock::new(|| {
    Paths::new(&[
        ("objects", Slot::Rows),
        ("objects[*].id", Slot::HitId),
        ("totalResults", Slot::Total),
    ])
});

static WRITTEN: LazyLock<Paths<()>> =
    LazyLock::new(|| Paths::new(&[("id", ()), ("objects[*].id", ())]));
static ASKED: LazyLock<Paths<usize>> =
    LazyLock::new(|| Paths::new(&[("query", 0), ("class", 1), ("tenant", 2)]));

fn outline(operation: Operation, payload: &[u8]) -> Outline {
    match operation {
        Operation::Search => Outline::of(&FOUND, payload),
        Operation::Read => Outline::of(&GOT, payload),
        _ => Outline::default(),
    }
}

/// `/v1/graphql`, `/v1/objects`, `/v1/batch/objects`
fn facts(method: &Method, uri: &Uri, body: &[u8]) -> Facts {
    let Some((_, below)) = uri.path().rsplit_once("/v1/") else { return Facts::default() };
    let parts: Vec<&str> = below.trim_end_matches('/').split('/').collect();
    let operation = match (method.as_str(), parts[0], parts.get(1).copied()) {
        ("POST", "graphql", _) => Operation::Search,
        ("DELETE", "batch", Some("objects")) | ("DELETE", "objects", Some(_)) => Operation::Delete,
        ("POST", "batch", Some("objects" | "references"))
        | ("POST", "objects", None)
        | ("PUT" | "PATCH", "objects", Some(_)) => Operation::Upsert,
        ("GET" | "HEAD", "objects", _) => Operation::Read,
        _ => return Facts::default(),
    };
    let [query, class, tenant] = texts::<3>(&ASKED, body);
    let class = class.or_else(|| query.as_deref().and_then(class_of));
    let class = class.or_else(|| {
        let named = parts[0] == "objects" && parts.len() > 2;
        named.then(|| short(parts[1]).to_owned())
    });
    let tenant = tenant.or_else(|| query.as_deref().and_then(tenant_of));
    Facts {
        operation,
        collection: class.map(|class| match tenant {
            Some(tenant) => format!("{tenant}/{class}"),
            None => class,
        }),
        ..Facts::default()
    }
}

/// The class behind `Get {`, as far as the query's beginning tells.
fn class_of(query: &str) -> Option<String> {
    let (_, rest) = query.split_once("Get")?;
    let rest = rest.trim_start().strip_prefix('{')?.trim_start();
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
    (end > 0).then(|| rest[..end].to_owned())
}

/// The value of `tenant: "…"`.
fn tenant_of(query: &str) -> Option<String> {
    let (_, rest) = query.split_once("tenant:")?;
    let rest = rest.trim_start().strip_prefix('"')?;
    Some(rest.split('"').next()?.to_owned())
}

/// The body of a search that failed.
pub(super) fn in_answer(store: &str, said: &Said<'_>) -> Option<String> {
    (store == "weaviate").then(|| {
        json!({
            "data": { "Get": { "Documents": null } },
            "errors": [{
                "locations": [{ "column": 6, "line": 1 }],
                "message": said.text,
                "path": ["Get", "Documents"],
            }],
        })
        .to_string()
    })
}

fn said(class: Class, own: Option<&str>) -> Option<Words> {
    match own {
        Some("disk_full" | "readonly") => {
            return words(
                500,
                "",
                "put object: import into index documents: put local object: shard=\"bwsSXyinFlVm\": \
                 store is read-only",
            );
        }
        Some("oom") => {
            return words(
                500,
                "",
                "put object: import into index documents: put local object: shard=\"bwsSXyinFlVm\": \
                 store is read-only due to: memory usage too high. Currently at 92.14%, threshold set \
                 to 90.00%",
            );
        }
        Some("loading" | "not_loaded") => return words(422, "", "tenant not active: 'acme'"),
        Some("shard_unavailable") => {
            return words(
                500,
                "",
                "explorer: get class: vector search: object vector search at index documents: remote \
                 shard object search bwsSXyinFlVm: no node found",
            );
        }
        Some(_) => return None,
        None => {}
    }
    match class {
        Class::Auth => words(
            401,
            "",
            "anonymous access not enabled. Please authenticate through one of the available methods",
        ),
        Class::BadRequest => words(422, "", "vector lengths don't match: 1536 vs 1535"),
        Class::ContextLength => words(422, "", "query maximum results exceeded"),
        Class::NotFound => words(404, "", "class Documents not found in schema"),
        Class::Quota | Class::RateLimit | Class::SlowDown => {
            words(429, "", "429 Too many requests")
        }
        Class::Overloaded => words(429, "", "429 Too many requests"),
        Class::Html | Class::ServerError => words(
            500,
            "",
            "explorer: get class: vector search: object vector search at index documents: shard \
             bwsSXyinFlVm: vector search: entrypoint was deleted in the object store",
        ),
        Class::Timeout => {
            words(504, "", "explorer: get class: vector search: context deadline exceeded")
        }
        Class::Unavailable => words(503, "", "leader not found"),
    }
}
