//! Peers that mean harm: they are cut off by rule, memory stays bounded, others are served meanwhile.

use std::time::Duration;

use brownout::exchange::Event;
use bytes::Bytes;
use h2::Reason;
use http::Request;
use serde_json::json;

use super::kit::{App, Bench, Peer, Upstream, grpc, read, soon, status};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
const END_STREAM: u8 = 1;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// `GET http://a/` in HPACK: three indexed fields and a literal authority.
const GET: &[u8] = &[0x82, 0x86, 0x84, 0x41, 1, b'a'];

/// A connection of bare frames.
async fn connect(bench: &Bench) -> Peer {
    let mut peer = Peer::connect(bench.address).await;
    peer.write(PREFACE).await;
    peer.write(frame(SETTINGS, 0, 0, &[])).await;
    peer
}

/// Writes until the connection is closed, or all is written; then reads how it ended: the code of
/// GOAWAY, if one came.
async fn flood(peer: &mut Peer, bytes: impl Iterator<Item = Vec<u8>>) -> Option<u32> {
    use tokio::io::AsyncWriteExt as _;
    for chunk in bytes {
        let write = peer.stream.write_all(&chunk);
        match tokio::time::timeout(Duration::from_secs(5), write).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => break,
        }
    }
    let read = async { while peer.more().await.unwrap_or(false) {} };
    let _ = tokio::time::timeout(Duration::from_secs(5), read).await;
    let mut rest = &peer.buffer[..];
    while rest.len() >= 9 {
        let length = usize::from(rest[0]) << 16 | usize::from(rest[1]) << 8 | usize::from(rest[2]);
        if rest[3] == GOAWAY {
            return Some(u32::from_be_bytes(rest[13..17].try_into().unwrap()));
        }
        rest = rest.get(9 + length..)?;
    }
    None
}

/// Another app, on a connection of its own, is served.
async fn others_are_served(bench: &Bench) {
    let app = App::connect(bench.address).await;
    let answer = app.call("/a.B/C").await.unwrap();
    assert_eq!(read(answer.into_body()).await.unwrap().1, Some(status(0)));
}

#[tokio::test]
async fn rapid_resets_end_the_connection() {
    let upstream = Upstream::messages(1).await;
    let bench = Bench::passing(upstream.address).await;
    let mut peer = connect(&bench).await;
    let streams = (0..20_000u32).map(|number| 2 * number + 1).collect::<Vec<_>>();
    let chunks = streams.chunks(100).map(|chunk| {
        let pair = |id: &u32| {
            let cancel = frame(RST_STREAM, 0, *id, &8u32.to_be_bytes());
            [frame(HEADERS, END_HEADERS | END_STREAM, *id, GET), cancel].concat()
        };
        chunk.iter().flat_map(pair).collect()
    });
    assert_eq!(flood(&mut peer, chunks).await, Some(11), "ENHANCE_YOUR_CALM");
    others_are_served(&bench).await;
}

#[tokio::test]
async fn endless_headers_end_the_connection_or_the_request() {
    let upstream = Upstream::messages(1).await;
    let bench = Bench::passing(upstream.address).await;
    let mut peer = connect(&bench).await;
    // A literal field of 16 kB, without indexing, again and again.
    let mut field = vec![0, 1, b'x', 0x7f, 0x81, 0x7c];
    field.extend(vec![b'y'; 16_000]);
    field.truncate(16_000);
    let first = [GET, &[0, 1, b'z', 0]].concat();
    let start = std::iter::once(frame(HEADERS, END_STREAM, 1, &first));
    let floods = start.chain((0..4000).map(|_| frame(CONTINUATION, 0, 1, &field)));
    let code = flood(&mut peer, floods).await;
    assert!(code.is_some_and(|code| code != 0), "{code:?}");
    others_are_served(&bench).await;
    // One that is merely too long is refused alone.
    let app = App::connect(bench.address).await;
    let long = Request::get("http://a/").header("x", "y".repeat(100_000)).body(()).unwrap();
    match app.ask(long, "").await {
        Ok(answer) => assert_eq!(answer.status(), 431),
        Err(error) => assert!(error.reason().is_some(), "{error:?}"),
    }
    others_are_served(&bench).await;
}

#[tokio::test]
async fn floods_of_pings_and_settings_are_answered_no_faster_than_they_are_read() {
    let upstream = Upstream::messages(1).await;
    let bench = Bench::passing(upstream.address).await;
    for flooding in [frame(PING, 0, 0, &[7; 8]), frame(SETTINGS, 0, 0, &[])] {
        use tokio::io::AsyncWriteExt as _;
        let mut peer = connect(&bench).await;
        // It never reads the answers: it is not read from either, in the end.
        let chunk = flooding.repeat(1000);
        let mut written = 0usize;
        let stuck = loop {
            let write = peer.stream.write_all(&chunk);
            match tokio::time::timeout(Duration::from_millis(1500), write).await {
                Ok(Ok(())) => written += chunk.len(),
                Ok(Err(_)) | Err(_) => break true,
            }
            if written > 256 << 20 {
                break false;
            }
        };
        assert!(stuck, "{written} bytes were taken from a peer that reads nothing");
        others_are_served(&bench).await;
    }
}

#[tokio::test]
async fn an_app_without_a_window_holds_nothing_but_its_own_stream() {
    let upstream = Upstream::start(|(_, mut respond)| async move {
        let mut out = respond.send_response(http::Response::new(()), false).unwrap();
        let _ = out.send_data(Bytes::from(vec![b'x'; 256 << 10]), false);
        let _ = out.send_trailers(status(0));
    })
    .await;
    let bench = Bench::passing(upstream.address).await;
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(0);
    let app = App::with(builder, bench.address).await;
    let mut held = Vec::new();
    for _ in 0..50 {
        held.push(app.call("/a.B/C").await.unwrap());
    }
    let mut first = held.remove(0).into_body();
    let data = tokio::time::timeout(Duration::from_millis(200), first.data()).await;
    assert!(data.is_err(), "no window, no data");
    let other = App::connect(bench.address).await;
    let answer = other.call("/a.B/C").await.unwrap();
    assert_eq!(soon(read(answer.into_body())).await.unwrap().0.len(), 256 << 10);
}

#[tokio::test]
async fn requests_that_are_held_do_not_hold_the_others_on_their_connection() {
    let upstream = Upstream::start(|(request, mut respond)| async move {
        let Ok((bytes, _)) = read(request.into_body()).await else { return };
        let head = http::Response::builder().header("x-got", bytes.len()).body(()).unwrap();
        respond.send_response(head, true).unwrap();
    })
    .await;
    let bench =
        Bench::faulty(upstream.address, &[("outage", json!({ "mode": "blackhole" }))]).await;
    let app = App::connect(bench.address).await;
    let mut held = Vec::new();
    for _ in 0..4 {
        // As much as each may send ahead, and nobody reads it.
        let (answer, mut out) = app.begin(grpc("/a.B/Held")).await;
        let _ = out.send_data(Bytes::from(vec![0; 4 << 20]), true);
        held.push((answer, out));
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    bench.engine.disarm_all();
    let request = Request::post("http://a/free").body(()).unwrap();
    let answer = app.ask(request, vec![1; 700 << 10]).await.unwrap();
    assert_eq!(answer.headers()["x-got"], (700 << 10).to_string());
}

#[tokio::test]
async fn more_streams_than_allowed_wait_or_are_refused() {
    let upstream = Upstream::start(|(_, respond)| async move {
        let _held = respond;
        tokio::time::sleep(Duration::from_secs(60)).await;
    })
    .await;
    let bench = Bench::passing(upstream.address).await;
    let mut peer = connect(&bench).await;
    let open =
        (0..400u32).map(|number| frame(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, GET));
    peer.write(open.collect::<Vec<_>>().concat()).await;
    let refused = 7u32.to_be_bytes();
    let mut mark = vec![0, 0, 4, RST_STREAM, 0];
    mark.extend((2u32 * 256 + 1).to_be_bytes());
    mark.extend(refused);
    assert!(soon(peer.until(&mark)).await.is_some(), "the 257th is refused");
    others_can_connect(&bench).await;
}

async fn others_can_connect(bench: &Bench) {
    let app = App::connect(bench.address).await;
    let (answer, mut out) = app.begin(grpc("/a.B/C")).await;
    out.send_data(Event::grpc("x").raw, true).unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(100), answer).await.is_err());
}

#[tokio::test]
async fn an_upstream_that_floods_hurts_its_own_exchanges_alone() {
    let upstream = Upstream::connections(|stream| async move {
        let mut peer = Peer::new(stream);
        peer.write(frame(SETTINGS, 0, 0, &[])).await;
        peer.until(&[END_HEADERS, 0, 0, 0, 1]).await.unwrap();
        let mut field = vec![0, 1, b'x', 0x7f, 0x81, 0x7c];
        field.extend(vec![b'y'; 16_000]);
        field.truncate(16_000);
        peer.write(frame(HEADERS, 0, 1, &[0x88])).await;
        let endless = (0..4000).map(|_| frame(CONTINUATION, 0, 1, &field));
        let code = flood(&mut peer, endless).await;
        assert!(code.is_some_and(|code| code != 0), "{code:?}");
    })
    .await;
    let bench = Bench::passing(upstream.address).await;
    let app = App::connect(bench.address).await;
    let request = Request::post("http://a/").body(()).unwrap();
    let answer = soon(app.ask(request, "x")).await;
    match answer {
        Ok(answer) => assert_eq!(answer.status(), 502),
        Err(error) => assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR)),
    }
}
