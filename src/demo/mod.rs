//! The demo app: a small RAG chat that embeds the question, searches, and asks the model. In its
//! default form it has a real bug: it retries at once and shows half an answer as a whole one.

mod careful;
mod dependency;
mod naive;
mod rag;
mod reply;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::json;
use url::Url;

use self::careful::Careful;
use self::dependency::Dependencies;
use self::reply::Reply;
use crate::net::Server;

/// Where the app finds what it depends on, as base URLs without a path (`http://127.0.0.1:4001`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstreams {
    pub llm: Url,
    pub embeddings: Url,
    pub vectors: Url,
}

/// What a user sends.
#[derive(Debug, Deserialize)]
struct Asked {
    message: String,
    user: Option<String>,
}

/// The demo app at work; dropping it ends all its conversations.
#[derive(Debug)]
pub struct DemoApp {
    server: Server,
}

#[derive(Debug)]
struct App {
    dependencies: Dependencies,
    /// Present in the version without the bug.
    careful: Option<Careful>,
}

impl DemoApp {
    /// Starts to serve (port 0 picks a free one).
    pub async fn start(listen: SocketAddr, upstreams: Upstreams, fixed: bool) -> io::Result<Self> {
        let app =
            App { dependencies: Dependencies::new(&upstreams)?, careful: fixed.then(Careful::new) };
        let router = Router::new()
            .route("/chat", post(chat))
            .route("/healthz", get(async || "ok"))
            .layer(DefaultBodyLimit::max(1 << 20))
            .with_state(Arc::new(app));
        Ok(Self { server: Server::start(listen, router).await? })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// `http://127.0.0.1:PORT`, without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }
}

/// `POST /chat`: a stream of `{"delta": …}` events, or an error before it begins.
async fn chat(State(app): State<Arc<App>>, headers: HeaderMap, body: String) -> Response {
    let asked: Asked = match serde_json::from_str(&body) {
        Ok(asked) => asked,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let carried = dependency::carried(&headers, asked.user.as_deref());
    let (reply, answer) = Reply::new();
    tokio::spawn(async move {
        tokio::select! {
            // The user has gone: nothing is worth doing any more.
            () = reply.abandoned() => {}
            () = converse(&app, &asked.message, &carried, &reply) => {}
        }
    });
    match answer.begin().await {
        Ok(stream) => {
            let content_type = [(header::CONTENT_TYPE, "text/event-stream; charset=utf-8")];
            (content_type, stream).into_response()
        }
        Err(reason) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &reason),
    }
}

async fn converse(app: &App, question: &str, carried: &HeaderMap, reply: &Reply) {
    match &app.careful {
        Some(careful) => careful.answer(&app.dependencies, question, carried, reply).await,
        None => naive::answer(&app.dependencies, question, carried, reply).await,
    }
}

fn refuse(status: StatusCode, reason: &str) -> Response {
    let body = json!({ "error": reason }).to_string();
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
