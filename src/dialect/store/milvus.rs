//! Milvus over its REST API v2: errors come with status 200 and a `code`, and the hits of several
//! searches in one list, with the length of each in `topks`.

use std::sync::LazyLock;

use bytes::Bytes;
use http::{Method, Uri};
use serde_json::json;

use super::{Store, Words, ids, not_partial, texts, words};
use crate::dialect::class::Class;
use crate::dialect::listing;
use crate::dialect::{Arrangement, Listing, Outline, Slot, grpc};
use crate::exchange::{Facts, Operation};
use crate::wire::json::{Edits, Paths};

pub(in crate::dialect) static MILVUS: Store = Store {
    name: "milvus",
    facts,
    outline,
    written: |_, body| ids(&WRITTEN, body),
    words: said,
    error: |said| {
        // A status of the user's own has no code: it is 1, an unexpected error.
        let code = said.kind.parse().unwrap_or(1_u32);
        json!({ "code": code, "message": said.text })
    },
    headers: |_| Vec::new(),
    hidden: |_, _| true,
    partial: not_partial,
    grpc: &grpc::MILVUS,
};

static FOUND: LazyLock<Paths<Slot>> = LazyLock::new(|| {
    Paths::new(&[
        ("data", Slot::Rows),
        ("data[*].id", Slot::HitId),
        ("data[*].distance", Slot::Score),
    ])
});

static TOPKS: LazyLock<Paths<()>> = LazyLock::new(|| Paths::new(&[("topks", ())]));
/// The primary key has a name of its own; `id` is the one that quick set-ups give it.
static WRITTEN: LazyLock<Paths<()>> =
    LazyLock::new(|| Paths::new(&[("data[*].id", ()), ("data.id", ())]));
static ASKED: LazyLock<Paths<usize>> =
    LazyLock::new(|| Paths::new(&[("collectionName", 0), ("dbName", 1), ("limit", 2)]));

fn outline(operation: Operation, payload: &[u8]) -> Outline {
    match operation {
        Operation::Search | Operation::Read => Outline::of(&FOUND, payload),
        _ => Outline::default(),
    }
}

/// How many hits each of several searches has.
fn topks(body: &[u8], rows: usize) -> Option<(std::ops::Range<usize>, Vec<usize>)> {
    let spot = TOPKS.find(body)?.into_iter().next()?;
    let counts: Vec<usize> = serde_json::from_slice(spot.of(body)).ok()?;
    let all = counts.iter().try_fold(0_usize, |sum, count| sum.checked_add(*count))?;
    (all == rows).then_some((spot.span, counts))
}

pub(super) fn listings(operation: Operation, body: &[u8]) -> Vec<Listing> {
    let mut lists = listing::listings(body, &outline(operation, body));
    let Some(all) = lists.pop() else { return lists };
    let Some((_, counts)) = topks(body, all.rows) else { return vec![all] };
    let mut start = 0;
    let list = |count: usize| {
        let rows = start..start + count;
        start += count;
        Listing {
            rows: count,
            scores: all.scores[rows.clone()].to_vec(),
            ids: all.ids[rows].to_vec(),
        }
    };
    counts.into_iter().map(list).collect()
}

pub(super) fn arranged(operation: Operation, body: &[u8], lists: &[Arrangement]) -> Option<Bytes> {
    let outline = outline(operation, body);
    let rows = listing::listings(body, &outline).first()?.rows;
    let Some((span, counts)) = topks(body, rows) else {
        return listing::arranged(body, &outline, lists);
    };
    let all = listing::listings(body, &outline).pop()?;
    let mut whole = Arrangement::default();
    let mut scores: Vec<f64> = all.scores.iter().map(|score| score.unwrap_or_default()).collect();
    let mut new = Vec::with_capacity(counts.len());
    let mut start = 0;
    for (count, wanted) in counts.iter().zip(lists) {
        new.push(wanted.order.len());
        whole.order.extend(wanted.order.iter().map(|row| start + row));
        for (place, score) in wanted.scores.iter().flatten().take(*count).enumerate() {
            scores[start + place] = *score;
        }
        start += count;
    }
    whole.scores = lists.iter().any(|wanted| wanted.scores.is_some()).then_some(scores);
    // What stands later is changed first, so that places stay what they are.
    let mut edits = Edits::default();
    edits.replace(span, serde_json::Value::from(new).to_string());
    let told = edits.apply(body);
    listing::arranged(&told, &Outline::of(&FOUND, &told), &[whole])
}

/// `/v2/vectordb/entities/search`
fn facts(method: &Method, uri: &Uri, body: &[u8]) -> Facts {
    let Some((_, below)) = uri.path().rsplit_once("/entities/") else { return Facts::default() };
    let operation = match (method.as_str(), below.trim_end_matches('/')) {
        ("POST", "search" | "hybrid_search" | "advanced_search") => Operation::Search,
        ("POST", "query" | "get") => Operation::Read,
        ("POST", "insert" | "upsert") => Operation::Upsert,
        ("POST", "delete") => Operation::Delete,
        _ => return Facts::default(),
    };
    let [collection, database, limit] = texts::<3>(&ASKED, body);
    Facts {
        operation,
        collection: collection.map(|name| match database {
            Some(database) => format!("{database}/{name}"),
            None => name,
        }),
        top_k: limit.and_then(|text| text.parse().ok()),
        ..Facts::default()
    }
}

/// The kind is Milvus' own code.
fn said(class: Class, own: Option<&str>) -> Option<Words> {
    match own {
        Some("disk_full" | "readonly") => {
            return words(
                503,
                "9",
                "quota exceeded[reason=deny to write the message to mq due to force deny, disk quota \
                 exceeded]",
            );
        }
        Some("loading" | "not_loaded") => {
            return words(503, "101", "collection not loaded[collection=documents]");
        }
        Some("oom") => {
            return words(503, "3", "service memory limit exceeded[predict=3.9GB][limit=3.7GB]");
        }
        Some("shard_unavailable") => {
            return words(
                503,
                "503",
                "fail to search on QueryNode 7: no available shard leaders: channel not \
                 available[channel=by-dev-rootcoord-dml_0_449028v0]",
            );
        }
        Some("shutdown") => return words(503, "902", "node offline[node=7]"),
        Some(_) => return None,
        None => {}
    }
    match class {
        Class::Auth => words(401, "1800", "user hasn't authenticated"),
        Class::BadRequest => words(
            400,
            "1100",
            "vector dimension mismatch, expected vector size(byte) 6144, actual 6140.: invalid parameter",
        ),
        Class::ContextLength => words(
            400,
            "1100",
            "limit [20000] is invalid, it should be in range [1, 16384]: invalid parameter",
        ),
        Class::NotFound => words(404, "100", "collection not found[collection=documents]"),
        Class::Overloaded => words(503, "4", "service request limit exceeded"),
        Class::Quota => words(429, "9", "quota exceeded[reason=force deny]"),
        Class::RateLimit | Class::SlowDown => words(
            429,
            "8",
            "request is rejected by grpc RateLimiter middleware, please retry later: rate limit exceeded[rate=100]",
        ),
        Class::Html | Class::ServerError => {
            words(500, "1", "service internal error: failed to search")
        }
        Class::Timeout => {
            words(504, "1", "fail to search on QueryNode 7: context deadline exceeded")
        }
        Class::Unavailable => words(503, "2", "service unavailable: proxy is not ready"),
    }
}
