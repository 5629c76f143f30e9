//! The simulated OpenAI-compatible API: which path is answered by whom, what heads carry, and what
//! is refused.

mod chat;
mod completion;
mod embeddings;
mod refusal;
mod request;
mod stream;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use self::refusal::Refusal;
use super::Settings;
use super::capacity::{Capacity, Slot};
use super::limit::{Limit, Quota, go_style};
use crate::dice::{Dice, hash_bytes};
use crate::net::Clock;

/// A request's body may be this long.
const BODY_LIMIT: usize = 64 << 20;

/// The moment all answers say they were made: the same request gives the same bytes.
const CREATED: u64 = 1_764_000_000;

/// The models that `/v1/models` lists beside the preset.
const LISTED: &[&str] = &[
    "gpt-4o",
    "gpt-4o-mini",
    "gpt-3.5-turbo-instruct",
    "text-embedding-3-small",
    "text-embedding-3-large",
    "text-embedding-ada-002",
];

/// The simulated machine behind the API.
#[derive(Debug)]
struct Model {
    settings: Settings,
    clock: Arc<dyn Clock>,
    capacity: Arc<Capacity>,
    limit: Option<Limit>,
    dice: Dice,
    requests: AtomicU64,
}

type Reply = Result<Response, Refusal>;

pub(super) fn router(settings: Settings, clock: Arc<dyn Clock>, capacity: Arc<Capacity>) -> Router {
    let model = Model {
        limit: settings.requests_per_minute.and_then(Limit::per_minute),
        dice: Dice::from_seed(settings.seed),
        requests: AtomicU64::new(0),
        settings,
        clock,
        capacity,
    };
    Router::new().fallback(answer).with_state(Arc::new(model))
}

/// Answers any request and completes its head.
async fn answer(State(model): State<Arc<Model>>, request: Request) -> Response {
    let arrived = model.clock.now();
    let quota = model.limit.as_ref().map(|limit| limit.take());
    let reply = match quota {
        Some(quota) if quota.refused() => Err(Refusal::rate_limited(&quota)),
        _ => route(&model, request).await,
    };
    let mut response = reply.unwrap_or_else(IntoResponse::into_response);
    let head = response.headers_mut();
    if let Some(quota) = quota {
        tell(&quota, head);
    }
    let took = model.clock.now().saturating_sub(arrived).as_millis();
    let number = model.requests.fetch_add(1, Relaxed);
    put(head, "openai-organization", "org-simulated");
    put(head, "openai-processing-ms", &took.to_string());
    put(head, "openai-version", "2020-10-01");
    put(head, "x-request-id", &format!("req_{}", model.id("request", number)));
    response
}

/// The headers by which OpenAI tells what is left of a limit.
fn tell(quota: &Quota, head: &mut HeaderMap) {
    put(head, "x-ratelimit-limit-requests", &quota.limit.to_string());
    put(head, "x-ratelimit-remaining-requests", &quota.remaining.to_string());
    put(head, "x-ratelimit-reset-requests", &go_style(quota.reset));
}

async fn route(model: &Arc<Model>, request: Request) -> Reply {
    let (head, body) = request.into_parts();
    model.check_key(&head.headers)?;
    let path = head.uri.path().trim_end_matches('/').to_owned();
    let (path, deployment) = split_deployment(&path);
    if head.method == Method::GET {
        return match path.strip_prefix("/v1/models") {
            Some("") => Ok(list_models(model)),
            Some(name) if name.starts_with('/') => show_model(model, &name[1..]),
            _ if matches!(path, "/" | "/health" | "/healthz") => Ok("ok".into_response()),
            _ => Err(Refusal::no_such_path(&head.method, path)),
        };
    }
    if !matches!(path, "/v1/chat/completions" | "/v1/completions" | "/v1/embeddings")
        || head.method != Method::POST
    {
        return Err(Refusal::no_such_path(&head.method, path));
    }
    let body = axum::body::to_bytes(body, BODY_LIMIT).await.map_err(|_| Refusal::unreadable())?;
    match path {
        "/v1/chat/completions" => chat::answer(model, read(&body, deployment)?).await,
        "/v1/completions" => completion::answer(model, read(&body, deployment)?).await,
        _ => embeddings::answer(model, read(&body, deployment)?).await,
    }
}

/// `/openai/deployments/NAME/chat/completions` is `/v1/chat/completions` with a model named.
fn split_deployment(path: &str) -> (&str, Option<&str>) {
    let found = path.strip_prefix("/openai/deployments/").and_then(|rest| rest.split_once('/'));
    match found {
        Some((name, "chat/completions")) => ("/v1/chat/completions", Some(name)),
        Some((name, "completions")) => ("/v1/completions", Some(name)),
        Some((name, "embeddings")) => ("/v1/embeddings", Some(name)),
        _ => (
            path.strip_prefix("/openai").filter(|rest| rest.starts_with("/v1/")).unwrap_or(path),
            None,
        ),
    }
}

/// A request whose model may be named by its path.
trait Named {
    fn model_mut(&mut self) -> &mut String;
}

fn read<T: DeserializeOwned + Named>(body: &Bytes, deployment: Option<&str>) -> Result<T, Refusal> {
    let mut request: T = serde_json::from_slice(body).map_err(|error| Refusal::bad_json(&error))?;
    if let Some(name) = deployment {
        name.clone_into(request.model_mut());
    }
    if request.model_mut().is_empty() {
        return Err(Refusal::missing("model"));
    }
    Ok(request)
}

fn list_models(model: &Model) -> Response {
    let data: Vec<_> = [model.settings.model.as_str()]
        .into_iter()
        .chain(LISTED.iter().copied())
        .map(describe_model)
        .collect();
    reply(&json!({ "object": "list", "data": data }))
}

fn show_model(model: &Model, name: &str) -> Reply {
    model.check_model(name)?;
    Ok(reply(&describe_model(name)))
}

fn describe_model(name: &str) -> serde_json::Value {
    json!({ "id": name, "object": "model", "created": CREATED, "owned_by": "brownout" })
}

/// A whole answer as JSON.
fn reply(body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => ([(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
        Err(error) => Refusal::internal(&error.to_string()).into_response(),
    }
}

fn put(head: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        head.insert(name, value);
    }
}

impl Model {
    /// Takes a slot of the machine, waiting in line for it.
    async fn enter(&self) -> Result<Slot, Refusal> {
        self.capacity.enter().await.map_err(|_| Refusal::overloaded())
    }

    fn check_key(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let given = headers.contains_key(header::AUTHORIZATION) || headers.contains_key("api-key");
        if self.settings.strict && !given { Err(Refusal::no_key()) } else { Ok(()) }
    }

    fn check_model(&self, name: &str) -> Result<(), Refusal> {
        let known = name == self.settings.model || LISTED.contains(&name);
        if self.settings.strict && !known { Err(Refusal::no_such_model(name)) } else { Ok(()) }
    }

    /// Time from one token to the next.
    fn token_period(&self) -> Duration {
        let period = 1.0 / self.settings.tokens_per_second;
        Duration::try_from_secs_f64(period).unwrap_or_default()
    }

    /// An id that depends on seed and content alone.
    fn id(&self, label: &str, number: u64) -> String {
        let mut dice = self.dice.fork(label).fork_number(number);
        format!("{:016x}{:016x}", dice.bits(), dice.bits())
    }

    fn id_of(&self, label: &str, content: &str) -> String {
        self.id(label, hash_bytes(content.as_bytes()))
    }
}
