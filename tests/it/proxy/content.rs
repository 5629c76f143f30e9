//! Faults of streams' contents on real sockets: the app gets exactly these bytes, in these writes,
//! at these times.

use std::io::ErrorKind;
use std::time::Duration;

use brownout::measure::CallEnd;
use brownout::wire::websocket::{Kind, frame};
use serde_json::json;
use tokio::time::Instant;

use super::kit::{Bench, Peer, SOON, Upstream, ask, soon};

const REQUEST: &str =
    "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 15\r\n\r\n{\"stream\":true}";
const HEAD: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

/// A token as OpenAI streams it.
fn token(text: &str) -> String {
    let open = r#"{"choices":[{"index":0,"delta":{"content":""#;
    format!("data: {open}{text}\"}},\"finish_reason\":null}}]}}\n\n")
}

/// Sends four tokens and the end, so long after each other.
async fn ticking(gap: Duration) -> Upstream {
    Upstream::start(move |mut peer| async move {
        while peer.message().await.is_some() {
            peer.write(HEAD).await;
            for text in ["a", "b", "c", "d"] {
                let event = token(text);
                peer.write(format!("{:x}\r\n{event}\r\n", event.len())).await;
                tokio::time::sleep(gap).await;
            }
            peer.write("e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n").await;
        }
    })
    .await
}

/// The chunks of an answer's body as they were framed; the end is an empty one.
async fn chunks(client: &mut Peer) -> Vec<String> {
    let mut chunks = Vec::new();
    loop {
        let line = soon(client.until(b"\r\n")).await.unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).unwrap();
        while client.buffer.len() < size + 2 {
            assert!(soon(client.more()).await.unwrap());
        }
        let mut chunk: Vec<u8> = client.buffer.drain(..size + 2).collect();
        chunk.truncate(size);
        chunks.push(String::from_utf8(chunk).unwrap());
        if size == 0 {
            return chunks;
        }
    }
}

async fn asked(bench: &Bench) -> Peer {
    let mut client = Peer::connect(bench.address).await;
    client.write(REQUEST).await;
    assert_eq!(soon(client.until(b"\r\n\r\n")).await.unwrap(), HEAD.as_bytes());
    client
}

#[tokio::test]
async fn merged_events_are_one_chunk() {
    let upstream = ticking(Duration::from_millis(5)).await;
    let bench = Bench::with_effect(upstream.address, "regroup", json!({"merge": 3})).await;
    let mut client = asked(&bench).await;
    let got = chunks(&mut client).await;
    let first = [token("a"), token("b"), token("c")].concat();
    assert_eq!(got, [first, token("d") + "data: [DONE]\n\n", String::new()]);
}

#[tokio::test]
async fn split_events_come_in_pieces_with_all_their_bytes() {
    let upstream = ticking(Duration::from_millis(5)).await;
    let options = json!({"split": "3..5", "gap": "10ms", "line_ends": "crlf"});
    let bench = Bench::with_effect(upstream.address, "regroup", options).await;
    let start = Instant::now();
    let mut client = asked(&bench).await;
    let got = chunks(&mut client).await;
    let all = [token("a"), token("b"), token("c"), token("d"), "data: [DONE]\n\n".to_owned()];
    assert_eq!(got.concat(), all.concat().replace('\n', "\r\n"));
    assert!(got.len() > 10, "{got:?}");
    assert!(start.elapsed() >= Duration::from_millis(10) * (got.len() as u32 - 1 - 5));
    let again = chunks(&mut asked(&bench).await).await;
    assert_eq!(again.concat(), got.concat());
}

#[tokio::test]
async fn bursts_come_late_and_at_once() {
    let upstream = ticking(Duration::from_millis(40)).await;
    let bench = Bench::with_effect(upstream.address, "burst", json!({"every": "100ms"})).await;
    let start = Instant::now();
    let mut client = asked(&bench).await;
    let line = soon(client.until(b"\r\n")).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(100), "{:?}", start.elapsed());
    let size = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).unwrap();
    assert!(size >= 2 * token("a").len(), "{size} bytes are no burst");
    let rest = soon(client.until(b"0\r\n\r\n")).await.unwrap();
    assert!(String::from_utf8(rest).unwrap().contains("data: [DONE]\n\n"));
}

#[tokio::test]
async fn a_burst_of_a_silent_stream_is_delivered_all_the_same() {
    let upstream = Upstream::start(|mut peer| async move {
        while peer.message().await.is_some() {
            let event = token("a");
            peer.write(format!("{HEAD}{:x}\r\n{event}\r\n", event.len())).await;
        }
    })
    .await;
    let bench = Bench::with_effect(upstream.address, "burst", json!({"every": "50ms"})).await;
    let mut client = asked(&bench).await;
    soon(client.until(token("a").as_bytes())).await.unwrap();
}

#[tokio::test]
async fn a_stalled_stream_is_kept_alive_and_goes_on() {
    let upstream = ticking(Duration::from_millis(1)).await;
    let options =
        json!({"after": "2 tokens", "pause": "250ms", "keep_alive": "comments", "every": "60ms"});
    let bench = Bench::with_effect(upstream.address, "stall", options).await;
    let mut client = asked(&bench).await;
    let start = Instant::now();
    let got = chunks(&mut client).await;
    assert!(start.elapsed() >= Duration::from_millis(240), "{:?}", start.elapsed());
    let comment = ": keep-alive\n\n".to_owned();
    let wanted = [
        vec![token("a"), token("b")],
        vec![comment; 4],
        vec![token("c"), token("d"), "data: [DONE]\n\n".to_owned(), String::new()],
    ];
    assert_eq!(got, wanted.concat());
}

#[tokio::test]
async fn a_hanging_stream_is_kept_alive_until_the_drain() {
    let upstream = ticking(Duration::from_millis(1)).await;
    let options = json!({"after": "1 token", "ending": "hang_with_pings", "every": "20ms"});
    let mut bench = Bench::with_effect(upstream.address, "truncate", options).await;
    let mut client = asked(&bench).await;
    soon(client.until(token("a").as_bytes())).await.unwrap();
    for _ in 0..5 {
        let got = soon(client.until(b": keep-alive\n\n")).await.unwrap();
        assert_eq!(got, b"\r\nE\r\n: keep-alive\n\n");
    }
    assert!(soon(bench.running.take().unwrap().drain(SOON)).await, "what hangs ends with a drain");
    assert_eq!(bench.call().await.ended, CallEnd::Injected);
}

#[tokio::test]
async fn a_stream_of_keep_alives_has_its_head_at_once() {
    let upstream = ticking(Duration::from_millis(1)).await;
    let options = json!({"send": "comment_as_data", "every": "30ms", "for": "100ms"});
    let bench = Bench::with_effect(upstream.address, "keep_alive", options).await;
    let mut client = asked(&bench).await;
    let got = chunks(&mut client).await;
    assert_eq!(got[..3], vec!["data: : keep-alive\n\n"; 3][..]);
    assert!(got[3].starts_with(&token("a")), "{got:?}");
}

#[tokio::test]
async fn gaps_are_filled_with_comments_while_the_upstream_is_silent() {
    let upstream = ticking(Duration::from_millis(150)).await;
    let options = json!({"hold": false, "every": "40ms"});
    let bench = Bench::with_effect(upstream.address, "keep_alive", options).await;
    let got = chunks(&mut asked(&bench).await).await;
    let comments = got.iter().filter(|chunk| *chunk == ": keep-alive\n\n").count();
    assert!(comments >= 4, "{got:?}");
    let tokens: Vec<_> = got.iter().filter(|chunk| chunk.starts_with("data: {")).collect();
    assert_eq!(tokens, [&token("a"), &token("b"), &token("c"), &token("d")]);
}

#[tokio::test]
async fn done_is_said_and_the_stream_stays_open() {
    let upstream = ticking(Duration::from_millis(1)).await;
    let options = json!({"ending": "done_but_open"});
    let mut bench = Bench::with_effect(upstream.address, "truncate", options).await;
    let mut client = asked(&bench).await;
    soon(client.until(b"data: [DONE]\n\n\r\n")).await.unwrap();
    let more = tokio::time::timeout(Duration::from_millis(300), client.more()).await;
    assert!(more.is_err(), "neither bytes nor an end: {more:?}");
    drop(client);
    assert_eq!(bench.call().await.ended, CallEnd::Injected);
}

#[tokio::test]
async fn half_an_event_arrives_before_the_reset() {
    let upstream = ticking(Duration::from_millis(1)).await;
    let options = json!({"at": "mid_event", "ending": "reset"});
    let bench = Bench::with_effect(upstream.address, "truncate", options).await;
    let (got, ended) = ask(bench.address, REQUEST).await;
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let (a, b) = (token("a"), token("b"));
    let half = &b[..b.len() / 2];
    let chunk = |text: &str| format!("{:X}\r\n{text}\r\n", text.len());
    assert_eq!(got, format!("{HEAD}{}{}", chunk(&a), chunk(half)));
}

/// A socket over which the upstream says two things and then listens.
async fn socket() -> (Upstream, [Vec<u8>; 2]) {
    let messages = ["one", "two"].map(|text| frame(Kind::Text, text.as_bytes(), None).to_vec());
    let said = messages.concat();
    let upstream = Upstream::start(move |mut peer| {
        let said = said.clone();
        async move {
            peer.until(b"\r\n\r\n").await;
            peer.write([OPEN.as_bytes(), &said].concat()).await;
            while peer.more().await.unwrap_or(false) {}
        }
    })
    .await;
    (upstream, messages)
}

const ASK: &str = "GET /v1/realtime?model=m HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const OPEN: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

async fn opened(bench: &Bench) -> Peer {
    let mut client = Peer::connect(bench.address).await;
    client.write(ASK).await;
    soon(client.until(b"\r\n\r\n")).await.unwrap();
    client
}

async fn bytes(client: &mut Peer, count: usize) -> Vec<u8> {
    while client.buffer.len() < count {
        assert!(soon(client.more()).await.unwrap());
    }
    client.buffer.drain(..count).collect()
}

#[tokio::test]
async fn a_stalled_socket_is_pinged() {
    let (upstream, [one, two]) = socket().await;
    let options =
        json!({"after": "1 event", "pause": "200ms", "keep_alive": "pings", "every": "60ms"});
    let bench = Bench::with_effect(upstream.address, "stall", options).await;
    let mut client = opened(&bench).await;
    let pings = frame(Kind::Ping, b"", None).repeat(3);
    let wanted = [one, pings, two].concat();
    assert_eq!(bytes(&mut client, wanted.len()).await, wanted);
}

#[tokio::test]
async fn messages_come_in_bursts_and_more_than_once() {
    let (upstream, [one, two]) = socket().await;
    let bench = Bench::with_effect(upstream.address, "burst", json!({"every": "80ms"})).await;
    let start = Instant::now();
    let mut client = opened(&bench).await;
    let wanted = [one.clone(), two.clone()].concat();
    assert_eq!(bytes(&mut client, wanted.len()).await, wanted);
    assert!(start.elapsed() >= Duration::from_millis(80), "{:?}", start.elapsed());
    let bench = Bench::with_effect(upstream.address, "duplicate", json!({})).await;
    let wanted = [one.clone(), one, two.clone(), two].concat();
    assert_eq!(bytes(&mut opened(&bench).await, wanted.len()).await, wanted);
}

#[tokio::test]
async fn a_socket_that_is_let_go_keeps_what_was_held() {
    let (upstream, [one, two]) = socket().await;
    let options = json!({"collect": "64kB"});
    let bench = Bench::with_effect(upstream.address, "burst", options).await;
    let mut client = opened(&bench).await;
    let early = tokio::time::timeout(Duration::from_millis(200), client.more()).await;
    assert!(early.is_err(), "it is collected: {early:?}");
    assert!(bench.engine.disarm("test"));
    let wanted = [one, two].concat();
    assert_eq!(bytes(&mut client, wanted.len()).await, wanted);
}
