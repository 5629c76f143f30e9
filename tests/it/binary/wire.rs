//! What a raw client sees of each fault that acts on an answer: through the built binary, byte by
//! byte, and by how its connection ends.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::control::Served;
use crate::proxy::kit::{Peer, Upstream, soon};

/// The words of the scripted model, a token each.
pub(super) const WORDS: usize = 20;

/// A model in front of nothing: it says the same to everybody, and counts.
pub(super) struct Model {
    pub(super) upstream: Upstream,
    asked: Arc<AtomicUsize>,
}

impl Model {
    pub(super) async fn start() -> Self {
        let asked = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&asked);
        let upstream = Upstream::start(move |mut peer| {
            let count = Arc::clone(&count);
            async move {
                while let Some((head, body)) = peer.message().await {
                    count.fetch_add(1, Ordering::SeqCst);
                    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
                    if head.contains("/points/") {
                        peer.write(whole(&found())).await;
                    } else if asked["stream"] == true {
                        stream(&mut peer).await;
                    } else {
                        peer.write(whole(&completion())).await;
                    }
                }
            }
        });
        Self { upstream: upstream.await, asked }
    }

    /// How many requests it got.
    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// A proxy in front of it, as a model and as a vector store, with these faults.
    pub(super) async fn behind(&self, faults: &str) -> Served {
        let url = format!("http://{}", self.upstream.address);
        let text = format!(
            "version: 1\ndependencies:\n  llm: {{ kind: openai, listen: 0, upstream: \"{url}\" }}\n  \
             vectors: {{ kind: qdrant, listen: 0, upstream: \"{url}\" }}\nfaults:\n{faults}"
        );
        Served::start(&text, &[]).await
    }
}

fn whole(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn completion() -> String {
    let words: Vec<String> = (0..WORDS).map(|n| format!("word{n}")).collect();
    json!({
        "id": "c", "object": "chat.completion", "model": "m",
        "choices": [{ "index": 0, "finish_reason": "stop",
            "message": { "role": "assistant", "content": words.join(" ") } }],
        "usage": { "prompt_tokens": 3, "completion_tokens": WORDS, "total_tokens": WORDS + 3 },
    })
    .to_string()
}

fn found() -> String {
    json!({ "result": [{ "id": 1, "score": 0.5 }, { "id": 2, "score": 0.4 }], "status": "ok", "time": 0.001 })
        .to_string()
}

async fn stream(peer: &mut Peer) {
    let chunk = |delta: Value, finish: Value| {
        let data = json!({
            "id": "c", "object": "chat.completion.chunk", "model": "m",
            "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }],
        });
        format!("data: {data}\n\n")
    };
    peer.write(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
    )
    .await;
    let mut events = vec![chunk(json!({ "role": "assistant", "content": "" }), Value::Null)];
    events
        .extend((0..WORDS).map(|n| chunk(json!({ "content": format!("word{n} ") }), Value::Null)));
    events.push(chunk(json!({}), json!("stop")));
    events.push("data: [DONE]\n\n".to_owned());
    for event in events {
        let piece = format!("{:x}\r\n{event}\r\n", event.len());
        if peer.stream.try_write(piece.as_bytes()).is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let _ = peer.stream.try_write(b"0\r\n\r\n");
}

/// A chat's request; its connection is kept alive.
pub(super) fn chat(streams: bool) -> String {
    let body = json!({ "model": "m", "stream": streams, "messages": [{ "role": "user", "content": "hi" }] });
    post("/v1/chat/completions", &body.to_string())
}

pub(super) fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: model\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A client that has sent a request.
pub(super) async fn asking(served: &Served, dependency: &str, request: &str) -> Peer {
    let mut peer = Peer::connect(served.address(dependency)).await;
    peer.write(request).await;
    peer
}

/// All that comes until the connection ends, and how it ends.
async fn until_the_end(served: &Served, streams: bool) -> (String, io::Result<()>) {
    soon(asking(served, "llm", &chat(streams)).await.rest()).await
}

/// How many of the model's words are in a text.
fn words(text: &str) -> usize {
    (0..WORDS).filter(|n| text.contains(&format!("word{n}")) && !text.is_empty()).count()
}

const CUTS: &str = "  close: { target: llm, truncate: { after: 5 tokens, ending: close } }\n  \
    reset: { target: llm, truncate: { after: 5 tokens, ending: reset } }\n  \
    hang: { target: llm, truncate: { after: 5 tokens, ending: hang } }\n  \
    clean: { target: llm, truncate: { after: 5 tokens, ending: clean } }\n  \
    no_done: { target: llm, truncate: { ending: no_done } }\n  \
    length: { target: llm, truncate: { after: 5 tokens, ending: finish_length } }\n";

#[tokio::test]
async fn a_broken_stream_ends_by_fin_or_rst() {
    let model = Model::start().await;
    let served = model.behind(CUTS).await;
    served.arm("close").await;
    let (text, ended) = until_the_end(&served, true).await;
    assert!(ended.is_ok(), "a FIN, not {ended:?}");
    assert!(text.contains("word4 ") && !text.contains("word5 "), "{text}");
    assert!(!text.ends_with("0\r\n\r\n"), "the last chunk never came: {text}");
    let (text, ended) = until_the_end(&served, false).await;
    assert!(ended.is_ok(), "a FIN, not {ended:?}");
    // 5 of 20 tokens are a quarter of the whole answer's bytes.
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let told = format!("content-length: {}", completion().len());
    assert!(head.contains(&told) && completion().starts_with(body), "{text}");
    assert_eq!(body.len(), completion().len() / 4, "{text}");
    served.disarm("close").await;

    served.arm("reset").await;
    let (text, ended) = until_the_end(&served, true).await;
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset, "{text}");
    assert!(text.contains("word4 ") && !text.contains("word5 "), "its bytes come first: {text}");
    let (text, ended) = until_the_end(&served, false).await;
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset, "{text}");
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    served.disarm("reset").await;

    served.arm("hang").await;
    for streams in [true, false] {
        let mut peer = asking(&served, "llm", &chat(streams)).await;
        soon(peer.until(if streams { b"word4" } else { b"{\"id\"" })).await.unwrap();
        let silence = async { while peer.more().await.unwrap() {} };
        let waited = tokio::time::timeout(Duration::from_millis(400), silence).await;
        assert!(waited.is_err(), "the connection ended");
        assert!(!String::from_utf8_lossy(&peer.buffer).contains("word6"));
    }
    let books = served.tally("hang", 2).await;
    assert_eq!((&books["selected"], &books["impossible"]), (&json!(2), &json!(0)), "{books}");
    served.end().await;
}

#[tokio::test]
async fn a_stream_may_end_in_good_order_and_be_cut_all_the_same() {
    let model = Model::start().await;
    let served = model.behind(CUTS).await;
    for (fault, seen, finish, done) in [
        ("clean", 5, None, false),
        ("no_done", WORDS, Some("stop"), false),
        ("length", 5, Some("length"), true),
    ] {
        served.arm(fault).await;
        let mut peer = asking(&served, "llm", &chat(true)).await;
        // An orderly end: the connection can be used again.
        for _ in 0..2 {
            let (head, body) = soon(peer.message()).await.unwrap();
            let text = String::from_utf8(body).unwrap();
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
            let came = text.matches("\"content\":\"word").count();
            assert_eq!(came, seen, "{fault}: {text}");
            assert_eq!(text.contains("[DONE]"), done, "{fault}: {text}");
            for reason in ["stop", "length"] {
                let there = text.contains(&format!("\"finish_reason\":\"{reason}\""));
                assert_eq!(there, finish == Some(reason), "{fault}: {text}");
            }
            peer.write(chat(true)).await;
        }
        served.disarm(fault).await;
    }
    served.arm("length").await;
    let (head, body) = soon(asking(&served, "llm", &chat(false)).await.message()).await.unwrap();
    let answer: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(answer["choices"][0]["finish_reason"], "length", "{head}");
    assert_eq!(words(answer["choices"][0]["message"]["content"].as_str().unwrap()), 5);
    served.end().await;
}

/// When each of the model's words came, and all the text.
async fn arrivals(peer: &mut Peer, from: Instant) -> (Vec<Duration>, String) {
    let mut times = Vec::new();
    while times.len() < WORDS {
        let there = String::from_utf8_lossy(&peer.buffer).matches("\"content\":\"word").count();
        times.resize(there, from.elapsed());
        if times.len() < WORDS {
            assert!(soon(peer.more()).await.unwrap(), "it ended early");
        }
    }
    (times, String::from_utf8_lossy(&peer.buffer).into_owned())
}

#[tokio::test]
async fn a_stalled_stream_pauses_with_or_without_comments() {
    let model = Model::start().await;
    let faults = "  quiet: { target: llm, stall: { after: 5 tokens, pause: 600ms } }\n  \
        alive: { target: llm, stall: { after: 5 tokens, pause: 600ms, keep_alive: comments, every: 100ms } }\n";
    let served = model.behind(faults).await;
    for (fault, comments) in [("quiet", 0), ("alive", 5)] {
        served.arm(fault).await;
        let from = Instant::now();
        let mut peer = asking(&served, "llm", &chat(true)).await;
        let (times, text) = arrivals(&mut peer, from).await;
        assert!(times[5] - times[4] >= Duration::from_millis(500), "{fault}: {times:?}");
        assert!(times[5] >= Duration::from_millis(600), "{fault}: {times:?}");
        assert_eq!(text.matches(": keep-alive\n\n").count(), comments, "{text}");
        soon(peer.until(b"[DONE]")).await.unwrap();
        served.disarm(fault).await;
    }
    served.arm("quiet").await;
    let from = Instant::now();
    let (_, body) = soon(asking(&served, "llm", &chat(false)).await.message()).await.unwrap();
    assert_eq!(words(&String::from_utf8(body).unwrap()), WORDS);
    assert!(from.elapsed() >= Duration::from_millis(600));
    served.end().await;
}

#[tokio::test]
async fn a_slow_stream_keeps_its_pace() {
    let model = Model::start().await;
    let faults = "  slow: { target: llm, slow_stream: { time_to_first_token: +300ms, tokens_per_second: 40 } }\n";
    let served = model.behind(faults).await;
    served.arm("slow").await;
    let from = Instant::now();
    let mut peer = asking(&served, "llm", &chat(true)).await;
    let (times, _) = arrivals(&mut peer, from).await;
    assert!(times[0] >= Duration::from_millis(300), "{times:?}");
    // 19 gaps of 25 ms; whatever a busy machine delays, none comes before its time.
    for (n, time) in times.iter().enumerate() {
        assert!(*time >= Duration::from_millis(300 + 25 * n as u64), "word {n}: {times:?}");
    }
    let from = Instant::now();
    let (_, body) = soon(asking(&served, "llm", &chat(false)).await.message()).await.unwrap();
    assert_eq!(words(&String::from_utf8(body).unwrap()), WORDS);
    assert!(from.elapsed() >= Duration::from_millis(300 + 25 * 19));
    served.end().await;
}

#[tokio::test]
async fn an_error_may_come_inside_a_stream() {
    let model = Model::start().await;
    let served = model
        .behind("  inside: { target: llm, error: { as: server_error, after: 5 tokens } }\n")
        .await;
    served.arm("inside").await;
    let (head, body) = soon(asking(&served, "llm", &chat(true)).await.message()).await.unwrap();
    let text = String::from_utf8(body).unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK"));
    assert!(text.contains("word4 ") && !text.contains("word5 "), "{text}");
    assert!(text.contains("\"error\"") && !text.contains("[DONE]"), "{text}");
    soon(asking(&served, "llm", &chat(false)).await.message()).await.unwrap();
    let books = served.tally("inside", 2).await;
    assert_eq!((&books["hit"], &books["impossible"]), (&json!(1), &json!(1)), "{books}");
    assert_eq!(books["reasons"]["the answer is no stream"], 1);
    served.end().await;
}
