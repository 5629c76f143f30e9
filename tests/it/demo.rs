//! The demo app against the simulator, and against upstreams that misbehave: its bug, and the
//! version without it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use brownout::demo::{DemoApp, Upstreams};
use brownout::sim::{Kind, Running, Settings};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::raw::{Raw, connect_with, finish, local, until};
use crate::sim::{instant, start};

fn url(address: SocketAddr) -> url::Url {
    format!("http://{address}").parse().unwrap()
}

/// The simulators that the app needs besides its model.
struct Around {
    embeddings: Running,
    vectors: Running,
}

impl Around {
    async fn start() -> Self {
        Self {
            embeddings: start(instant(Kind::OpenAi)).await,
            vectors: start(Settings { documents: 60, ..instant(Kind::Qdrant) }).await,
        }
    }

    async fn app(&self, llm: SocketAddr, fixed: bool) -> DemoApp {
        let upstreams = Upstreams {
            llm: url(llm),
            embeddings: url(self.embeddings.address()),
            vectors: url(self.vectors.address()),
        };
        DemoApp::start(local(), upstreams, fixed).await.unwrap()
    }
}

/// A model that answers every request with the same bytes and then closes; it keeps the heads.
struct Script {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Script {
    async fn start(answer: String) -> Self {
        let listener = TcpListener::bind(local()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&heads);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let head = read_request(&mut stream).await;
                seen.lock().push(head);
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Self { address, heads }
    }

    fn calls(&self) -> usize {
        self.heads.lock().len()
    }
}

/// Reads a request to its end, so that closing afterwards is no reset; gives back its head.
async fn read_request(stream: &mut tokio::net::TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let read = stream.read(&mut piece).await.unwrap_or(0);
        bytes.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&bytes);
        let whole = text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse().unwrap());
            body.len() >= length
        });
        if read == 0 || whole {
            return text.split("\r\n\r\n").next().unwrap().to_owned();
        }
    }
}

fn limited(retry_after: &str) -> String {
    let body =
        r#"{"error":{"message":"slow down","type":"requests","code":"rate_limit_exceeded"}}"#;
    format!(
        "HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\n\
         retry-after: {retry_after}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A stream of a few tokens that ends in good order but for its terminal event.
fn cut_stream() -> String {
    let events: String = ["Half", " an", " answer"]
        .iter()
        .map(|text| {
            format!("data: {}\n\n", json!({ "choices": [{ "delta": { "content": text } }] }))
        })
        .collect();
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{events}",
        events.len()
    )
}

async fn ask(app: &DemoApp, headers: &str) -> Raw {
    let body = json!({ "message": "How do I reset my password?", "user": "u7" }).to_string();
    finish(connect_with(app.address(), "POST", "/chat", headers, &body).await).await
}

fn last_event(raw: &Raw) -> Value {
    let events = raw.events();
    assert_eq!(events.last().unwrap(), "[DONE]", "{}", raw.text());
    serde_json::from_str(&events[events.len() - 2]).unwrap()
}

/// The text of all deltas.
fn said(raw: &Raw) -> String {
    raw.events()
        .iter()
        .filter_map(|event| serde_json::from_str::<Value>(event).ok())
        .filter_map(|event| event["delta"].as_str().map(str::to_owned))
        .collect()
}

#[tokio::test]
async fn both_versions_answer_from_their_sources() {
    let around = Around::start().await;
    let llm = start(instant(Kind::OpenAi)).await;
    for fixed in [false, true] {
        let app = around.app(llm.address(), fixed).await;
        let raw = ask(&app, "").await;
        assert_eq!(raw.status, 200, "{}", raw.text());
        let last = last_event(&raw);
        assert_eq!(last["done"], true);
        assert_eq!(last["sources"].as_array().unwrap().len(), 4);
        assert!(last["sources"][0]["title"].as_str().unwrap().contains("password"), "{last}");
        assert!(last.get("fallback").is_none());
        assert!(raw.events().len() > 40, "tokens come one by one");
        let text = said(&raw);
        assert!(text.contains("To reset your password, open Account > Security"), "{text}");
    }
}

#[tokio::test]
async fn the_bug_multiplies_the_load_at_once() {
    let around = Around::start().await;
    let llm = Script::start(limited("20")).await;
    let app = around.app(llm.address, false).await;
    let began = Instant::now();
    let raw = ask(&app, "").await;
    assert_eq!(raw.status, 500);
    assert_eq!(llm.calls(), 9, "three tries of three tries");
    assert!(began.elapsed() < Duration::from_secs(10), "it waits for nothing");
    let counts: Vec<String> = llm
        .heads
        .lock()
        .iter()
        .filter_map(|head| Some(head.split("x-stainless-retry-count: ").nth(1)?[..1].to_owned()))
        .collect();
    assert_eq!(counts.concat(), "012012012");
}

#[tokio::test]
async fn the_mended_app_waits_or_falls_back() {
    let around = Around::start().await;
    let far = Script::start(limited("20")).await;
    let app = around.app(far.address, true).await;
    let raw = ask(&app, "").await;
    assert_eq!(raw.status, 200);
    assert_eq!(last_event(&raw)["fallback"], true);
    let text = said(&raw);
    assert!(text.contains("I can't reach the model right now"), "{text}");
    assert!(text.contains("A reset link is valid for 30 minutes"), "the sources speak: {text}");
    assert_eq!(far.calls(), 1, "nobody knocks before Retry-After is over");

    let near = Script::start(limited("1")).await;
    let app = around.app(near.address, true).await;
    let began = Instant::now();
    assert_eq!(last_event(&ask(&app, "").await)["fallback"], true);
    assert_eq!(near.calls(), 2);
    assert!(began.elapsed() >= Duration::from_secs(1), "it waited as it was told");
}

#[tokio::test]
async fn half_an_answer_is_shown_as_whole_by_the_bug_alone() {
    let around = Around::start().await;
    let llm = Script::start(cut_stream()).await;
    let raw = ask(&around.app(llm.address, false).await, "").await;
    assert_eq!(last_event(&raw)["done"], true);
    assert_eq!(llm.calls(), 1);

    let raw = ask(&around.app(llm.address, true).await, "").await;
    assert!(raw.text().contains("event: error"), "{}", raw.text());
    assert!(!raw.text().contains("[DONE]"));
    assert_eq!(llm.calls(), 3, "one more try to mend it");
}

#[tokio::test]
async fn what_identifies_a_request_is_carried_to_the_dependencies() {
    let around = Around::start().await;
    let llm = Script::start(limited("20")).await;
    let app = around.app(llm.address, true).await;
    let trace = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\
                 baggage: session=s1\r\nx-brownout-session: s1/2\r\n";
    ask(&app, trace).await;
    let heads = llm.heads.lock();
    for line in trace.lines().chain(["x-user-id: u7", "x-stainless-retry-count: 0"]) {
        assert!(heads[0].lines().any(|found| found == line), "{line} is missing in {}", heads[0]);
    }
}

#[tokio::test]
async fn a_user_who_leaves_frees_the_model() {
    let around = Around::start().await;
    let settings = Settings { tokens_per_second: 0.5, ..instant(Kind::OpenAi) };
    for fixed in [false, true] {
        let llm = start(settings.clone()).await;
        let app = around.app(llm.address(), fixed).await;
        let body = json!({ "message": "How do I reset my password?" }).to_string();
        let mut stream = connect_with(app.address(), "POST", "/chat", "", &body).await;
        stream.read_exact(&mut [0; 1]).await.unwrap();
        assert_eq!(llm.load().busy, 1);
        drop(stream);
        until("the model is free", || llm.load().busy == 0).await;
    }
}
