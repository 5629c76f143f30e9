//! A small app under test: it asks its model and hands the answer on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::any;
use brownout::net::Server;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::raw::{Raw, local};

/// The key that this app calls its model with. It must never show anywhere.
pub(crate) const KEY: &str = "sk-planted-7f3a9c2e5d8b41f6";

/// The app at work.
pub(crate) struct App {
    pub(crate) server: Server,
    pub(crate) state: Arc<Inside>,
}

#[derive(Default)]
pub(crate) struct Inside {
    /// Where its model is; None answers by itself.
    llm: Option<SocketAddr>,
    pub(crate) asked: AtomicUsize,
    /// What `GET /healthz` says.
    pub(crate) ill: AtomicBool,
}

impl App {
    pub(crate) async fn asking(port: u16) -> Self {
        Self::with(Some(SocketAddr::from(([127, 0, 0, 1], port)))).await
    }

    /// An app that never calls its model.
    pub(crate) async fn deaf() -> Self {
        Self::with(None).await
    }

    async fn with(llm: Option<SocketAddr>) -> Self {
        let state = Arc::new(Inside { llm, ..Inside::default() });
        let router = Router::new()
            .route("/chat", any(chat))
            .route("/echo", any(echo))
            .route("/healthz", any(health))
            .with_state(Arc::clone(&state));
        Self { server: Server::start(local(), router).await.unwrap(), state }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }
}

async fn health(State(app): State<Arc<Inside>>) -> StatusCode {
    match app.ill.load(Ordering::Relaxed) {
        true => StatusCode::SERVICE_UNAVAILABLE,
        false => StatusCode::OK,
    }
}

async fn chat(State(app): State<Arc<Inside>>, body: String) -> (StatusCode, axum::Json<Value>) {
    app.asked.fetch_add(1, Ordering::Relaxed);
    let asked: Value = serde_json::from_str(&body).unwrap_or_default();
    let Some(llm) = app.llm else {
        return (StatusCode::OK, axum::Json(json!({ "answer": "I know that by heart." })));
    };
    match ask(llm, asked["message"].as_str().unwrap_or("hello")).await {
        Some(raw) if raw.status == 200 => {
            let text = raw.json()["choices"][0]["message"]["content"].clone();
            (StatusCode::OK, axum::Json(json!({ "answer": text })))
        }
        _ => (StatusCode::BAD_GATEWAY, axum::Json(json!({ "error": "the model failed" }))),
    }
}

/// An app that tells everything when its model fails.
async fn echo(
    State(app): State<Arc<Inside>>,
    headers: axum::http::HeaderMap,
    body: String,
) -> (StatusCode, String) {
    let (status, axum::Json(answer)) = chat(State(app), body.clone()).await;
    match status {
        StatusCode::OK => (status, answer.to_string()),
        _ => (status, format!("wrong api key {KEY} {headers:?} {body}")),
    }
}

/// One chat completion; None when the connection broke.
async fn ask(llm: SocketAddr, text: &str) -> Option<Raw> {
    let body = json!({ "model": "gpt-4o", "messages": [{ "role": "user", "content": text }] });
    let body = body.to_string();
    let mut stream = TcpStream::connect(llm).await.ok()?;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: model\r\nauthorization: Bearer {KEY}\r\n\
         connection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.ok()?;
    stream.write_all(body.as_bytes()).await.ok()?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.ok()?;
    Raw::parse(&bytes)
}

/// A port that nobody uses now.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(local()).unwrap();
    listener.local_addr().unwrap().port()
}

/// An experiment on one simulated model, its traffic fast enough for phases of a second.
pub(crate) fn experiment(app: &str, llm: u16, rest: &str) -> String {
    format!(
        "version: 1\n\
         name: short\n\
         dependencies:\n  llm: {{ kind: openai, listen: {llm}, simulate: {{ model: instant }} }}\n\
         workload:\n  app: {app}/chat\n  request: {{ body: {{ message: \"${{prompt.text}}\" }} }}\n  \
         arrival_rate: 50/s\n  timeout: 3s\n\
         min_samples: 10\n\
         {rest}"
    )
}
