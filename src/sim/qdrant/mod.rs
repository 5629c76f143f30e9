//! The simulated Qdrant-compatible store: which path is answered by whom, and the envelope around
//! results and errors.

mod collection;
mod distance;
mod filter;
mod point;
mod refusal;
mod search;
mod update;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{Method, header};
use axum::response::{IntoResponse, Response};
use parking_lot::RwLock;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use self::collection::Collection;
use self::point::PointId;
use self::refusal::Refusal;
use self::update::Operation;
use super::Settings;
use super::capacity::Capacity;
use super::limit::Limit;
use crate::net::Clock;

/// The version we say we are: the newest whose REST interface is covered here.
const VERSION: &str = "1.19.0";

/// A request's body may be this long.
const BODY_LIMIT: usize = 64 << 20;

/// All collections, and the machine that serves them.
#[derive(Debug)]
struct Database {
    settings: Settings,
    clock: Arc<dyn Clock>,
    capacity: Arc<Capacity>,
    limit: Option<Limit>,
    collections: RwLock<BTreeMap<String, Collection>>,
    operations: AtomicU64,
}

/// The JSON of a result, as it stands in the envelope.
type Reply = Result<String, Refusal>;

pub(super) fn router(settings: Settings, clock: Arc<dyn Clock>, capacity: Arc<Capacity>) -> Router {
    let mut collections = BTreeMap::new();
    if settings.documents > 0 {
        collections.insert("documents".to_owned(), Collection::of_documents(&settings));
    }
    let database = Database {
        limit: settings.requests_per_minute.and_then(Limit::per_minute),
        settings,
        clock,
        capacity,
        collections: RwLock::new(collections),
        operations: AtomicU64::new(0),
    };
    Router::new().fallback(answer).with_state(Arc::new(database))
}

async fn answer(State(database): State<Arc<Database>>, request: Request) -> Response {
    let began = database.clock.now();
    let (head, body) = request.into_parts();
    let path = head.uri.path().trim_end_matches('/');
    if head.method == Method::GET
        && let Some(known) = about_itself(path)
    {
        return known;
    }
    let reply = match axum::body::to_bytes(body, BODY_LIMIT).await {
        Ok(body) => {
            let segments: Vec<String> = path.split('/').skip(1).map(decode).collect();
            let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
            let waits = head.uri.query().is_none_or(|query| !query.contains("wait=false"));
            database.serve(&head.method, &segments, waits, &body).await
        }
        Err(_) => Err(Refusal::bad_input("the body could not be read")),
    };
    let time = database.clock.now().saturating_sub(began);
    match reply {
        Ok(result) => envelope(&result, time),
        Err(refusal) => refusal.respond(time),
    }
}

/// Health and version, which stand outside the envelope and cost no slot.
fn about_itself(path: &str) -> Option<Response> {
    let text = match path {
        "" => {
            let body = json!({ "title": "qdrant - vector search engine", "version": VERSION });
            return Some(json_response(body.to_string()));
        }
        "/healthz" | "/livez" => "healthz check passed",
        "/readyz" => "all shards are ready",
        _ => return None,
    };
    Some(text.into_response())
}

fn envelope(result: &str, time: Duration) -> Response {
    json_response(format!(
        r#"{{"usage":null,"result":{result},"status":"ok","time":{}}}"#,
        time.as_secs_f64()
    ))
}

fn json_response(body: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// A segment of a path with its `%20`s read.
fn decode(segment: &str) -> String {
    let as_form = segment.replace('+', "%2B");
    url::form_urlencoded::parse(as_form.as_bytes())
        .next()
        .map_or_else(String::new, |(name, _)| name.into_owned())
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::bad_json(&error))
}

fn parse_value<T: DeserializeOwned>(value: Value) -> Result<T, Refusal> {
    serde_json::from_value(value).map_err(|error| Refusal::bad_json(&error))
}

/// The JSON of a result.
fn result(value: &impl Serialize) -> Reply {
    serde_json::to_string(value).map_err(|error| Refusal::internal(&error))
}

impl Database {
    async fn serve(&self, method: &Method, path: &[&str], waits: bool, body: &Bytes) -> Reply {
        match path {
            ["collections", _, "points", ..] => {
                let _slot = self.capacity.enter().await.map_err(|_| Refusal::busy())?;
                self.check_limit()?;
                let done = self.clock.now() + self.settings.latency;
                let reply = self.points(method, path[1], &path[3..], waits, body);
                super::pause(&*self.clock, done).await;
                reply
            }
            ["collections", name, rest @ ..] => self.collection(method, name, rest, body),
            ["collections"] if method == Method::GET => self.list(),
            ["aliases"] if method == Method::GET => result(&json!({ "aliases": [] })),
            _ => Err(Refusal::no_such_path(method, path)),
        }
    }

    fn check_limit(&self) -> Result<(), Refusal> {
        match self.limit.as_ref().and_then(|limit| limit.take().wait) {
            Some(wait) => Err(Refusal::rate_limited(wait)),
            None => Ok(()),
        }
    }

    fn list(&self) -> Reply {
        let collections = self.collections.read();
        let names: Vec<_> = collections.keys().map(|name| json!({ "name": name })).collect();
        result(&json!({ "collections": names }))
    }

    fn collection(&self, method: &Method, name: &str, rest: &[&str], body: &Bytes) -> Reply {
        match (method.as_str(), rest) {
            ("GET", []) => self.read(name, |collection| result(&collection.describe())),
            ("PUT", []) => self.create(name, body),
            ("PATCH", []) => self.read(name, |_| result(&true)),
            ("DELETE", []) => result(&self.collections.write().remove(name).is_some()),
            ("GET", ["exists"]) => {
                result(&json!({ "exists": self.collections.read().contains_key(name) }))
            }
            ("GET", ["aliases"]) => result(&json!({ "aliases": [] })),
            ("PUT", ["index"]) => {
                let index: collection::Index = parse(body)?;
                self.change(name, |collection| collection.add_index(index))
            }
            ("DELETE", ["index", field]) => {
                self.change(name, |collection| collection.remove_index(field))
            }
            _ => Err(Refusal::no_such_path(method, &[&["collections", name], rest].concat())),
        }
    }

    fn create(&self, name: &str, body: &Bytes) -> Reply {
        let collection = Collection::new(parse(body)?)?;
        let mut collections = self.collections.write();
        if collections.contains_key(name) {
            return Err(Refusal::exists(name));
        }
        collections.insert(name.to_owned(), collection);
        result(&true)
    }

    /// Everything below `/collections/NAME/points`.
    fn points(
        &self,
        method: &Method,
        name: &str,
        rest: &[&str],
        waits: bool,
        body: &Bytes,
    ) -> Reply {
        let update = |operation| {
            let done = self.update(name, vec![operation], waits)?;
            result(&done[0])
        };
        match (method.as_str(), rest) {
            ("POST", ["query"]) => {
                let query: search::Query = parse(body)?;
                self.read(name, |collection| {
                    result(&json_points(search::run(collection, query.plan(collection)?)?))
                })
            }
            ("POST", ["query", "batch"]) => {
                let batch: search::Batch<search::Query> = parse(body)?;
                self.read(name, |collection| {
                    let found: Result<Vec<_>, Refusal> = batch
                        .searches
                        .into_iter()
                        .map(|query| search::run(collection, query.plan(collection)?))
                        .collect();
                    result(&found?.into_iter().map(json_points).collect::<Vec<_>>())
                })
            }
            ("POST", ["search"]) => {
                let query: search::Search = parse(body)?;
                self.read(name, |collection| result(&search::run(collection, query.plan())?))
            }
            ("POST", ["search", "batch"]) => {
                let batch: search::Batch<search::Search> = parse(body)?;
                self.read(name, |collection| {
                    let found: Result<Vec<_>, Refusal> = batch
                        .searches
                        .into_iter()
                        .map(|query| search::run(collection, query.plan()))
                        .collect();
                    result(&found?)
                })
            }
            ("POST", ["scroll"]) => {
                let page: search::Scroll = parse(body)?;
                self.read(name, |collection| result(&search::scroll(collection, &page)))
            }
            ("POST", ["count"]) => {
                let count: search::Count = parse(body)?;
                self.read(name, |collection| {
                    result(&json!({ "count": search::count(collection, &count) }))
                })
            }
            ("POST", []) => {
                let wanted: search::Retrieve = parse(body)?;
                self.read(name, |collection| result(&search::retrieve(collection, &wanted)))
            }
            ("PUT", []) => update(Operation::Upsert(parse(body)?)),
            ("POST", ["delete"]) => update(Operation::Delete(parse(body)?)),
            ("POST", ["payload"]) => update(Operation::SetPayload(parse(body)?)),
            ("PUT", ["payload"]) => update(Operation::OverwritePayload(parse(body)?)),
            ("POST", ["payload", "delete"]) => update(Operation::DeletePayload(parse(body)?)),
            ("POST", ["payload", "clear"]) => update(Operation::ClearPayload(parse(body)?)),
            ("PUT", ["vectors"]) => update(Operation::UpdateVectors(parse(body)?)),
            ("POST", ["vectors", "delete"]) => update(Operation::DeleteVectors(parse(body)?)),
            ("POST", ["batch"]) => {
                let batch: update::Batch = parse(body)?;
                result(&self.update(name, batch.operations, waits)?)
            }
            ("GET", [id]) => {
                let id = PointId::from_path(id)?;
                self.read(name, |collection| result(&search::one(collection, &id)?))
            }
            _ => Err(Refusal::no_such_path(
                method,
                &[&["collections", name, "points"], rest].concat(),
            )),
        }
    }

    /// Carries out changes in order; one result for each.
    fn update(
        &self,
        name: &str,
        operations: Vec<Operation>,
        waits: bool,
    ) -> Result<Vec<Value>, Refusal> {
        let status = if waits { "completed" } else { "acknowledged" };
        let mut done = Vec::with_capacity(operations.len());
        let mut collections = self.collections.write();
        let collection =
            collections.get_mut(name).ok_or_else(|| Refusal::no_such_collection(name))?;
        for operation in operations {
            let number = self.operations.fetch_add(1, Relaxed);
            collection.update(operation, number)?;
            done.push(json!({ "operation_id": number, "status": status }));
        }
        Ok(done)
    }

    fn read(&self, name: &str, read: impl FnOnce(&Collection) -> Reply) -> Reply {
        let collections = self.collections.read();
        let collection = collections.get(name).ok_or_else(|| Refusal::no_such_collection(name))?;
        read(collection)
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Collection)) -> Reply {
        let mut collections = self.collections.write();
        let collection =
            collections.get_mut(name).ok_or_else(|| Refusal::no_such_collection(name))?;
        change(collection);
        let number = self.operations.fetch_add(1, Relaxed);
        result(&json!({ "operation_id": number, "status": "completed" }))
    }
}

#[derive(Serialize)]
struct Points<T> {
    points: T,
}

fn json_points<T>(points: T) -> Points<T> {
    Points { points }
}
