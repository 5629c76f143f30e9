//! Vector stores that are known by the paths of their operations: Milvus, Pinecone, Weaviate. Most of
//! their traffic is gRPC; over REST their errors have a body of their own.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Uri};
use serde_json::{Value, json};

use super::class::{Class, whole_seconds};
use super::{Answer, Dialect, Failure, Quota, Reading, grpc};
use crate::exchange::{Event, Facts, Operation};

/// The wire format of one of them over REST.
#[derive(Debug)]
pub(crate) struct Store {
    name: &'static str,
    operation: fn(&Method, &str) -> Operation,
    /// The body of an error: from its status and its message.
    error: fn(StatusCode, &str) -> Value,
    /// Errors come with status 200.
    always_ok: bool,
}

pub(super) static MILVUS: Store = Store {
    name: "milvus",
    operation: milvus,
    error: |status, text| {
        // 8: rate limit; 1100: invalid parameter; 1: unexpected error.
        let code = match status.as_u16() {
            429 => 8,
            400..=499 => 1100,
            _ => 1,
        };
        json!({ "code": code, "message": text })
    },
    always_ok: true,
};

pub(super) static PINECONE: Store = Store {
    name: "pinecone",
    operation: pinecone,
    error: |status, text| {
        let code = grpc::code_of(status);
        json!({ "code": code, "message": text, "details": [] })
    },
    always_ok: false,
};

pub(super) static WEAVIATE: Store = Store {
    name: "weaviate",
    operation: weaviate,
    error: |_, text| json!({ "error": [{ "message": text }] }),
    always_ok: false,
};

/// `/v2/vectordb/entities/search`
fn milvus(method: &Method, path: &str) -> Operation {
    let Some((_, below)) = path.rsplit_once("/entities/") else { return Operation::Other };
    match (method.as_str(), below.trim_end_matches('/')) {
        ("POST", "search" | "hybrid_search" | "advanced_search") => Operation::Search,
        ("POST", "query" | "get") => Operation::Read,
        ("POST", "insert" | "upsert") => Operation::Upsert,
        ("POST", "delete") => Operation::Delete,
        _ => Operation::Other,
    }
}

/// `/query`, `/vectors/upsert`
fn pinecone(method: &Method, path: &str) -> Operation {
    let path = path.trim_end_matches('/');
    let ends = |end: &str| path.ends_with(end);
    match method.as_str() {
        "POST" if ends("/query") => Operation::Search,
        "POST" if ends("/vectors/upsert") || ends("/vectors/update") => Operation::Upsert,
        "POST" | "DELETE" if ends("/vectors/delete") => Operation::Delete,
        "GET" | "POST"
            if ends("/vectors/fetch")
                || ends("/vectors/list")
                || ends("/vectors/fetch_by_metadata")
                || ends("/describe_index_stats") =>
        {
            Operation::Read
        }
        _ => Operation::Other,
    }
}

/// `/v1/graphql`, `/v1/objects`, `/v1/batch/objects`
fn weaviate(method: &Method, path: &str) -> Operation {
    let Some((_, below)) = path.rsplit_once("/v1/") else { return Operation::Other };
    let mut parts = below.trim_end_matches('/').split('/');
    match (method.as_str(), parts.next(), parts.next()) {
        ("POST", Some("graphql"), _) => Operation::Search,
        ("DELETE", Some("batch"), Some("objects")) | ("DELETE", Some("objects"), Some(_)) => {
            Operation::Delete
        }
        ("POST", Some("batch"), Some("objects" | "references"))
        | ("POST", Some("objects"), None)
        | ("PUT" | "PATCH", Some("objects"), Some(_)) => Operation::Upsert,
        ("GET" | "HEAD", Some("objects"), _) => Operation::Read,
        _ => Operation::Other,
    }
}

impl Dialect for Store {
    fn name(&self) -> &'static str {
        self.name
    }

    fn facts(&self, method: &Method, uri: &Uri, _: &HeaderMap, _: &[u8]) -> Facts {
        Facts { operation: (self.operation)(method, uri.path()), ..Facts::default() }
    }

    fn read_event(&self, _: Operation, _: &Event) -> Reading {
        Reading::default()
    }

    fn read_message(&self, _: Operation, body: &[u8]) -> Reading {
        let json = serde_json::from_slice::<Value>(body).unwrap_or_default();
        let failed = json.get("code").and_then(Value::as_i64).is_some_and(|code| code != 0);
        let told = |place: &str| json.pointer(place).and_then(Value::as_str).map(str::to_owned);
        let error = if failed { told("/message") } else { None };
        let error =
            error.or_else(|| told("/error/0/message")).or_else(|| told("/errors/0/message"));
        Reading { error, ..Reading::default() }
    }

    fn failure(&self, failure: &Failure<'_>) -> Answer {
        let class = Class::of(failure);
        let status = failure.status.unwrap_or_else(|| class.status());
        let text = failure.message.unwrap_or_else(|| grpc::words(class));
        let mut headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        if let Some(time) = failure.retry_after {
            headers.push(("retry-after".to_owned(), whole_seconds(time).to_string()));
        }
        let body = (self.error)(status, text).to_string().into();
        // A status that was asked for is meant.
        let hidden = self.always_ok && failure.status.is_none();
        Answer { status: if hidden { StatusCode::OK } else { status }, headers, body }
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_the_operation() {
        for (store, method, path, want) in [
            (&MILVUS, Method::POST, "/v2/vectordb/entities/search", Operation::Search),
            (&MILVUS, Method::POST, "/x/v2/vectordb/entities/upsert", Operation::Upsert),
            (&MILVUS, Method::POST, "/v2/vectordb/collections/list", Operation::Other),
            (&PINECONE, Method::POST, "/query", Operation::Search),
            (&PINECONE, Method::GET, "/vectors/fetch", Operation::Read),
            (&PINECONE, Method::POST, "/vectors/delete", Operation::Delete),
            (&WEAVIATE, Method::POST, "/v1/graphql", Operation::Search),
            (&WEAVIATE, Method::POST, "/v1/batch/objects", Operation::Upsert),
            (&WEAVIATE, Method::DELETE, "/v1/objects/Doc/1", Operation::Delete),
            (&WEAVIATE, Method::GET, "/v1/meta", Operation::Other),
        ] {
            let uri: Uri = path.parse().unwrap();
            let facts = store.facts(&method, &uri, &HeaderMap::new(), b"");
            assert_eq!(facts.operation, want, "{method} {path}");
        }
    }

    #[test]
    fn errors_have_the_stores_shape_and_are_read_back() {
        for (store, status, start) in [
            (&MILVUS, 200, r#"{"code":8,"message":"#),
            (&PINECONE, 429, r#"{"code":8,"message":"#),
            (&WEAVIATE, 429, r#"{"error":[{"message":"#),
        ] {
            let failure = Failure { class: Some("rate_limit"), ..Failure::default() };
            let answer = store.failure(&failure);
            assert_eq!(answer.status.as_u16(), status, "{}", store.name);
            assert!(answer.body.starts_with(start.as_bytes()), "{:?}", answer.body);
            assert!(store.read_message(Operation::Search, &answer.body).error.is_some());
        }
        assert_eq!(MILVUS.read_message(Operation::Search, br#"{"code":0,"data":[]}"#).error, None);
    }
}
