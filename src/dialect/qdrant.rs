//! Qdrant over REST (over gRPC: `grpc.rs`): points are searched, read, written and deleted below a collection.

mod places;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Uri};
use serde::Deserialize;
use serde_json::json;

use super::class::{Class, html_page, short, whole_seconds};
use super::{Answer, Dialect, Failure, Moment, Outline, Quota, Reading, STORE_CLASSES, grpc};
use crate::exchange::{Event, Facts, Operation};

/// The wire format of `kind: qdrant`.
#[derive(Debug)]
pub(crate) struct Qdrant;

impl Dialect for Qdrant {
    fn name(&self) -> &'static str {
        "qdrant"
    }

    fn moment(&self, failure: &Failure<'_>) -> Moment {
        match failure.class {
            Some(class) if STORE_CLASSES.contains(&class) && own_words(class).is_none() => {
                Moment::Never
            }
            _ => Moment::Asking,
        }
    }

    fn facts(&self, method: &Method, uri: &Uri, _: &HeaderMap, body: &[u8]) -> Facts {
        Facts {
            operation: operation(method, uri.path()),
            collection: collection(uri.path()),
            top_k: serde_json::from_slice::<Limit>(body).ok().and_then(|asked| asked.limit),
            ..Facts::default()
        }
    }

    fn outline(&self, operation: Operation, payload: &[u8]) -> Outline {
        places::outline(operation, payload)
    }

    fn written(&self, _: &str, body: &[u8]) -> Vec<String> {
        places::written(body)
    }

    fn read_event(&self, _: Operation, _: &Event) -> Reading {
        Reading::default()
    }

    fn read_message(&self, _: Operation, body: &[u8]) -> Reading {
        let answer = serde_json::from_slice::<Envelope<'_>>(body);
        let error = answer.ok().and_then(|answer| answer.status.error).map(String::from);
        Reading { error, ..Reading::default() }
    }

    fn failure(&self, failure: &Failure<'_>) -> Answer {
        let class = Class::of(failure);
        let own = failure.class.and_then(own_words);
        let usual = own.map_or_else(|| status(class), |(status, _)| status);
        let status = failure.status.unwrap_or(usual);
        let mut headers = Vec::with_capacity(2);
        let body = if class == Class::Html {
            headers.push(("content-type".into(), "text/html".into()));
            html_page(status, "nginx")
        } else {
            headers.push(("content-type".into(), "application/json".into()));
            let text =
                failure.message.or(own.map(|(_, text)| text)).unwrap_or_else(|| words(class));
            let seconds = (50 + failure.id % 950) as f64 / 1e6;
            json!({ "status": { "error": text }, "time": seconds }).to_string()
        };
        if let Some(time) = failure.retry_after {
            headers.push(("retry-after".into(), whole_seconds(time).to_string()));
        }
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
        &grpc::QDRANT
    }
}

/// The number of hits that a search asks for.
#[derive(Deserialize)]
struct Limit {
    limit: Option<u32>,
}

/// The collection that a path is about.
fn collection(path: &str) -> Option<String> {
    let (_, below) = path.rsplit_once("/collections/")?;
    let name = below.split('/').next().filter(|name| !name.is_empty())?;
    Some(short(name).to_owned())
}

/// What a path below `/collections/{name}/points` asks for; a base path may stand before it.
fn operation(method: &Method, path: &str) -> Operation {
    let Some((_, below)) = path.rsplit_once("/collections/") else { return Operation::Other };
    let mut parts = below.trim_end_matches('/').split('/').skip(1);
    if parts.next() != Some("points") {
        return Operation::Other;
    }
    let (first, last) = (parts.next(), parts.last());
    match (method.as_str(), first) {
        ("POST", Some("query" | "search" | "recommend" | "discover")) => Operation::Search,
        ("POST", None | Some("scroll" | "count")) | ("GET", Some(_)) => Operation::Read,
        ("POST", Some("facet")) => Operation::Read,
        ("POST", Some("delete")) => Operation::Delete,
        ("POST", Some("vectors" | "payload")) if matches!(last, Some("delete" | "clear")) => {
            Operation::Delete
        }
        ("PUT", None | Some("vectors" | "payload"))
        | ("POST", Some("batch" | "vectors" | "payload")) => Operation::Upsert,
        _ => Operation::Other,
    }
}

/// What every answer has.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    status: State<'a>,
}

/// `"ok"`, or an object with an error.
struct State<'a> {
    error: Option<std::borrow::Cow<'a, str>>,
}

/// The object form of a status.
#[derive(Deserialize)]
struct Failed<'a> {
    #[serde(borrow)]
    error: std::borrow::Cow<'a, str>,
}

impl<'de: 'a, 'a> Deserialize<'de> for State<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> serde::de::Visitor<'de> for Either {
            type Value = State<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a status")
            }

            fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
                Ok(State { error: None })
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                map: A,
            ) -> Result<Self::Value, A::Error> {
                let failed =
                    Failed::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(State { error: Some(failed.error) })
            }
        }

        json.deserialize_any(Either)
    }
}

/// The status and the words of the classes that stores alone have.
pub(super) fn own_words(class: &str) -> Option<(StatusCode, &'static str)> {
    Some(match class {
        "disk_full" => (StatusCode::INSUFFICIENT_STORAGE, words(Class::Quota)),
        "loading" | "not_loaded" => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "Service internal error: Qdrant was killed during initialization. Most likely it's \
             Out-of-Memory. Please check memory consumption, increase memory limit or remove some \
             collections and restart",
        ),
        "lock_timeout" => {
            (StatusCode::REQUEST_TIMEOUT, "Timeout: Operation 'Update' timed out after 60 seconds")
        }
        "readonly" => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "Service internal error: IO Error: Read-only file system (os error 30)",
        ),
        "shard_unavailable" => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "Service internal error: The replica set for shard 1 on peer 3 does not have enough \
             active replicas",
        ),
        "shutdown" => (
            StatusCode::SERVICE_UNAVAILABLE,
            "Shard temporarily unavailable: Qdrant is shutting down",
        ),
        _ => return None,
    })
}

/// The status that Qdrant gives for a class.
fn status(class: Class) -> StatusCode {
    match class {
        Class::Auth => StatusCode::FORBIDDEN,
        Class::Quota => StatusCode::INSUFFICIENT_STORAGE,
        Class::Timeout => StatusCode::REQUEST_TIMEOUT,
        other => other.status(),
    }
}

pub(super) fn words(class: Class) -> &'static str {
    match class {
        Class::Auth => "Forbidden: Invalid API key or JWT",
        Class::BadRequest => "Wrong input: Vector dimension error: expected dim: 1536, got 1535",
        Class::ContextLength => "Wrong input: Payload is too large",
        Class::NotFound => "Not found: Collection `documents` doesn't exist!",
        Class::Overloaded => {
            "Shard temporarily unavailable: The replica set for shard 0 is overloaded"
        }
        Class::Quota => {
            "Service internal error: No space left on device: WAL buffer size exceeds \
                         available disk space"
        }
        Class::RateLimit => "Rate limiting exceeded: Read rate limit exceeded, retry later",
        Class::SlowDown => "Rate limiting exceeded: Write rate limit exceeded, retry later",
        Class::Html | Class::ServerError => {
            "Service internal error: The replica set for shard 0 on peer 1 does not have enough \
             active replicas"
        }
        Class::Timeout => "Timeout: Operation 'Search' timed out after 60 seconds",
        Class::Unavailable => "Shard temporarily unavailable: No active replicas for shard 0",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::dialect::FAILURE_CLASSES;

    #[test]
    fn paths_and_methods_name_the_operation() {
        let asked = |method: Method, path: &str| operation(&method, path);
        let points = "/base/collections/docs/points";
        for search in ["query", "query/batch", "query/groups", "search", "recommend"] {
            let path = format!("{points}/{search}");
            assert_eq!(asked(Method::POST, &path), Operation::Search, "{path}");
        }
        for read in ["/scroll", "/count", ""] {
            assert_eq!(asked(Method::POST, &format!("{points}{read}")), Operation::Read);
        }
        assert_eq!(asked(Method::GET, &format!("{points}/7")), Operation::Read);
        for write in [points.to_owned(), format!("{points}/vectors"), format!("{points}/")] {
            assert_eq!(asked(Method::PUT, &write), Operation::Upsert, "{write}");
        }
        assert_eq!(asked(Method::POST, &format!("{points}/batch")), Operation::Upsert);
        assert_eq!(asked(Method::POST, &format!("{points}/payload")), Operation::Upsert);
        for delete in ["delete", "vectors/delete", "payload/delete", "payload/clear"] {
            let path = format!("{points}/{delete}");
            assert_eq!(asked(Method::POST, &path), Operation::Delete, "{path}");
        }
        assert_eq!(asked(Method::PUT, "/collections/docs"), Operation::Other);
        assert_eq!(asked(Method::GET, "/collections"), Operation::Other);
        assert_eq!(asked(Method::PUT, "/collections/points"), Operation::Other);
    }

    #[test]
    fn failures_have_qdrants_shape() {
        let answer = Qdrant.failure(&Failure {
            class: Some("rate_limit"),
            retry_after: Some(Duration::from_millis(1500)),
            ..Failure::default()
        });
        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
        assert!(answer.headers.contains(&("retry-after".into(), "2".into())));
        let text = std::str::from_utf8(&answer.body).unwrap();
        assert!(text.starts_with(r#"{"status":{"error":"Rate limiting exceeded"#), "{text}");
        for class in FAILURE_CLASSES {
            let answer = Qdrant.failure(&Failure { class: Some(class), ..Failure::default() });
            let read = Qdrant.read_message(Operation::Search, &answer.body);
            assert_eq!(read.error.is_some(), *class != "html", "{class}");
        }
    }

    #[test]
    fn good_answers_have_no_error() {
        let body = br#"{"usage":null,"result":{"points":[{"id":1,"score":0.9}]},"status":"ok","time":0.002}"#;
        assert_eq!(Qdrant.read_message(Operation::Search, body), Reading::default());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), path in "/[a-z/]{0,30}") {
            let _ = Qdrant.read_message(Operation::Search, &bytes);
            let _ = operation(&Method::POST, &format!("/collections{path}"));
        }
    }
}
