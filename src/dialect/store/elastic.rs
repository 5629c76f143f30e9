//! Elasticsearch and OpenSearch: searches (kNN or not), single and many at once, bulk writes; shards
//! that fail are told of in an answer with status 200.

use std::sync::LazyLock;

use bytes::Bytes;
use http::{Method, Uri};
use serde_json::{Value, json};

use super::{Store, Words, id_of, ids, short, words};
use crate::dialect::class::Class;
use crate::dialect::{Outline, Shards, Slot, grpc};
use crate::exchange::{Facts, Operation};
use crate::wire::json::{Edits, Paths};

const ELASTIC: Store = Store {
    name: "elasticsearch",
    facts,
    outline,
    written,
    words: of_elasticsearch,
    error,
    // Without it the clients take a good answer for another product's.
    headers: |_| vec![("X-elastic-product", "Elasticsearch".to_owned())],
    hidden: |_, _| false,
    partial,
    grpc: &grpc::ANY,
};

pub(in crate::dialect) static ELASTICSEARCH: Store = ELASTIC;

pub(in crate::dialect) static OPENSEARCH: Store =
    Store { name: "opensearch", words: of_opensearch, headers: |_| Vec::new(), ..ELASTIC };

static FOUND: LazyLock<Paths<Slot>> = LazyLock::new(|| {
    Paths::new(&[
        ("hits.hits", Slot::Rows),
        ("hits.hits[*]._id", Slot::HitId),
        ("hits.hits[*]._score", Slot::Score),
        ("hits.total", Slot::Total),
        ("hits.total.value", Slot::Total),
        ("hits.max_score", Slot::TopScore),
        ("timed_out", Slot::TimedOut),
        ("_shards.total", Slot::ShardsTotal),
        ("_shards.successful", Slot::ShardsSuccessful),
        ("_shards.failed", Slot::ShardsFailed),
        ("responses[*].hits.hits", Slot::Rows),
        ("responses[*].hits.hits[*]._id", Slot::HitId),
        ("responses[*].hits.hits[*]._score", Slot::Score),
        ("responses[*].hits.total.value", Slot::Total),
        ("responses[*].hits.max_score", Slot::TopScore),
        ("responses[*].timed_out", Slot::TimedOut),
        ("responses[*]._shards.total", Slot::ShardsTotal),
        ("responses[*]._shards.successful", Slot::ShardsSuccessful),
        ("responses[*]._shards.failed", Slot::ShardsFailed),
    ])
});

static GOT: LazyLock<Paths<Slot>> =
    LazyLock::new(|| Paths::new(&[("docs", Slot::Rows), ("docs[*]._id", Slot::HitId)]));

static NUMBERS: LazyLock<Paths<usize>> =
    LazyLock::new(|| Paths::new(&[("knn.k", 0), ("query.knn.*.k", 0), ("size", 1)]));

/// The lines of a bulk request that are followed by a document.
static BULK: LazyLock<Paths<()>> =
    LazyLock::new(|| Paths::new(&[("index._id", ()), ("create._id", ()), ("update._id", ())]));

fn outline(operation: Operation, payload: &[u8]) -> Outline {
    match operation {
        Operation::Search => Outline::of(&FOUND, payload),
        Operation::Read => Outline::of(&GOT, payload),
        _ => Outline::default(),
    }
}

/// `/{index}/_search`, `/_bulk`, `/{index}/_doc/{id}`
fn facts(method: &Method, uri: &Uri, body: &[u8]) -> Facts {
    let parts: Vec<&str> = uri.path().split('/').filter(|part| !part.is_empty()).collect();
    let Some(place) = parts.iter().position(|part| part.starts_with('_')) else {
        return Facts::default();
    };
    let last = parts.get(place + 1).copied();
    let operation = match (method.as_str(), parts[place], last) {
        ("DELETE", "_doc", _) | ("POST", "_delete_by_query", _) => Operation::Delete,
        ("GET" | "POST", "_search" | "_async_search", None | Some("template")) => Operation::Search,
        ("GET" | "POST", "_knn_search" | "_msearch", _) => Operation::Search,
        ("GET" | "POST", "_search", Some("scroll")) => Operation::Read,
        ("GET" | "HEAD", "_doc" | "_source", _) | ("GET" | "POST", "_mget" | "_count", _) => {
            Operation::Read
        }
        ("POST" | "PUT", "_bulk" | "_doc" | "_create", _)
        | ("POST", "_update" | "_update_by_query", _) => Operation::Upsert,
        _ => Operation::Other,
    };
    let index = place.checked_sub(1).map(|before| short(parts[before]).to_owned());
    let found = NUMBERS.find(body).unwrap_or_default();
    let number = |wanted| {
        let spot = found.iter().find(|spot| spot.what == wanted)?;
        serde_json::from_slice(spot.of(body)).ok()
    };
    Facts {
        operation,
        collection: index,
        top_k: number(0).or_else(|| number(1)),
        ..Facts::default()
    }
}

/// The ids of a bulk request's lines, or the one in the path.
fn written(path: &str, body: &[u8]) -> Vec<String> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let one = parts.iter().position(|part| matches!(*part, "_doc" | "_create" | "_update"));
    if let Some(id) = one.and_then(|place| parts.get(place + 1)) {
        return vec![(*id).to_owned()];
    }
    body.split(|byte| *byte == b'\n').flat_map(|line| ids(&BULK, line)).collect()
}

/// Shards are told as failed, each with a reason.
fn partial(body: &[u8], shards: Shards) -> Option<Bytes> {
    static INDEX: LazyLock<Paths<()>> =
        LazyLock::new(|| Paths::new(&[("hits.hits[*]._index", ()), ("_shards.failures", ())]));
    let outline = Outline::of(&FOUND, body);
    if !outline.has(Slot::ShardsFailed) {
        return None;
    }
    let beside = INDEX.find(body).unwrap_or_default();
    let index = beside.iter().map(|spot| id_of(spot.of(body))).find(|text| !text.starts_with('['));
    let index = index.as_deref().map_or("documents", short);
    let failures: Vec<Value> =
        (0..shards.failed.min(5)).map(|shard| no_shard(index, shard)).collect();
    let known = beside.iter().any(|spot| spot.of(body).starts_with(b"["));
    let mut edits = Edits::default();
    for spot in &outline.spots {
        let number = match spot.what {
            Slot::ShardsTotal => shards.total,
            Slot::ShardsSuccessful => shards.total - shards.failed,
            Slot::ShardsFailed if known => shards.failed,
            Slot::ShardsFailed => {
                let told =
                    format!("{},\"failures\":{}", shards.failed, Value::from(failures.clone()));
                edits.replace(spot.span.clone(), told);
                continue;
            }
            _ => continue,
        };
        edits.replace(spot.span.clone(), number.to_string());
    }
    Some(edits.apply(body))
}

fn no_shard(index: &str, shard: u32) -> Value {
    json!({
        "shard": shard,
        "index": index,
        "node": null,
        "reason": {
            "type": "no_shard_available_action_exception",
            "reason": format!("No shard available for [{index}][{shard}]"),
        },
    })
}

fn error(said: &super::Said<'_>) -> Value {
    let cause = json!({ "type": said.kind, "reason": said.text });
    let status = said.status.as_u16();
    if said.kind == "no_shard_available_action_exception" {
        return json!({
            "error": {
                "root_cause": [cause],
                "type": "search_phase_execution_exception",
                "reason": "all shards failed",
                "phase": "query",
                "grouped": true,
                "failed_shards": [no_shard("documents", 0)],
                "caused_by": cause,
            },
            "status": status,
        });
    }
    json!({
        "error": { "root_cause": [cause], "type": said.kind, "reason": said.text },
        "status": status,
    })
}

fn of_elasticsearch(class: Class, own: Option<&str>) -> Option<Words> {
    said(class, own, "es_rejected_execution_exception")
}

fn of_opensearch(class: Class, own: Option<&str>) -> Option<Words> {
    said(class, own, "rejected_execution_exception")
}

const REJECTED: &str = "rejected execution of TimedRunnable on TaskExecutor[name = node-1/search, \
    queue capacity = 1000, pool size = 13, active threads = 13, queued tasks = 1000]";
const TOO_LARGE: &str = "[parent] Data too large, data for [<http_request>] would be \
    [4138041392/3.8gb], which is larger than the limit of [4080218931/3.7gb]";

fn said(class: Class, own: Option<&str>, rejected: &'static str) -> Option<Words> {
    match own {
        Some("busy") => return words(429, rejected, REJECTED),
        Some("disk_full") => {
            return words(
                429,
                "cluster_block_exception",
                "index [documents] blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded flood-stage \
                 watermark, index has read-only-allow-delete block];",
            );
        }
        Some("loading" | "not_loaded") => return words(503, "cluster_block_exception", NOT_READY),
        Some("oom") => return words(429, "circuit_breaking_exception", TOO_LARGE),
        Some("readonly") => {
            return words(
                403,
                "cluster_block_exception",
                "index [documents] blocked by: [FORBIDDEN/5/index read-only (api)];",
            );
        }
        Some("shard_unavailable") => {
            return words(
                503,
                "no_shard_available_action_exception",
                "No shard available for [documents][0]",
            );
        }
        Some(_) => return None,
        None => {}
    }
    match class {
        Class::Auth => words(
            401,
            "security_exception",
            "missing authentication credentials for REST request [/_search]",
        ),
        Class::BadRequest => words(
            400,
            "illegal_argument_exception",
            "the query vector has a different dimension [1535] than the index vectors [1536]",
        ),
        Class::ContextLength => words(
            400,
            "illegal_argument_exception",
            "Result window is too large, from + size must be less than or equal to: [10000]",
        ),
        Class::NotFound => words(404, "index_not_found_exception", "no such index [documents]"),
        Class::Overloaded | Class::RateLimit | Class::SlowDown => words(429, rejected, REJECTED),
        Class::Quota => words(429, "circuit_breaking_exception", TOO_LARGE),
        Class::Html | Class::ServerError => {
            words(500, "search_phase_execution_exception", "all shards failed")
        }
        Class::Timeout => words(504, "search_timeout_exception", "Time exceeded"),
        Class::Unavailable => words(503, "cluster_block_exception", NOT_READY),
    }
}

const NOT_READY: &str = "blocked by: [SERVICE_UNAVAILABLE/1/state not recovered / initialized];";
