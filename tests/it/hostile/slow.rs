//! Clients that take their time.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;

use super::{Scene, all};
use crate::proxy::kit::{Bench, Peer, Script, Upstream, soon};

#[tokio::test]
async fn a_head_that_dribbles_is_given_up_in_words() {
    let scene = Scene::start().await;
    let mut dribbling = Vec::new();
    for entrance in &scene.entrances {
        let mut peer = entrance.open().await;
        peer.write(entrance.written(b"GET /evil HTTP/1.1\r\nHo")).await;
        dribbling.push((entrance.name, peer));
    }
    let since = Instant::now();
    for entrance in &scene.entrances {
        scene.serves(entrance).await;
    }
    for (name, mut peer) in dribbling {
        let dribble = async {
            // A byte now and then does not help.
            while since.elapsed() < Duration::from_secs(60) {
                tokio::time::sleep(Duration::from_secs(2)).await;
                tokio::select! {
                    more = peer.more() => if !more.unwrap_or(false) || peer.buffer.len() > 20 { break },
                    () = tokio::time::sleep(Duration::from_millis(1)) => {
                        if peer.stream.write_all(b"x").await.is_err() { break }
                    }
                }
            }
        };
        dribble.await;
        let got = all(&mut peer).await;
        assert!(since.elapsed() >= Duration::from_secs(29), "{name}: {:?}", since.elapsed());
        assert!(got.starts_with("HTTP/1.1 408 "), "{name}: {got}");
        assert!(got.contains("not complete within 30 s"), "{name}: {got}");
    }
    assert!(!scene.witness.seen().contains("evil"));
}

#[tokio::test]
async fn an_answer_that_is_not_read_is_not_hoarded() {
    const SIZE: usize = 64 << 20;
    let upstream = Upstream::start(|mut peer| async move {
        peer.until(b"\r\n\r\n").await;
        peer.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n")).await;
        let piece = vec![b'x'; 64 << 10];
        let mut sent = 0;
        while sent < SIZE {
            let write = peer.stream.write_all(&piece);
            match tokio::time::timeout(Duration::from_secs(1), write).await {
                Ok(Ok(())) => sent += piece.len(),
                // It is held up: that is what is wanted.
                _ => break,
            }
        }
        assert!(sent < 32 << 20, "{sent} bytes went somewhere");
        tokio::time::sleep(Duration::from_secs(5)).await;
    })
    .await;
    let bench = Bench::passing(upstream.address).await;
    let mut peer = Peer::connect(bench.address).await;
    peer.write("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    soon(peer.until(b"\r\n\r\n")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    // Others are served meanwhile.
    let mut other = Peer::connect(bench.address).await;
    other.write("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    soon(other.until(b"\r\n\r\n")).await.unwrap();
}

#[tokio::test]
async fn a_panic_ends_its_exchange_alone() {
    let upstream = Upstream::answering(super::ANSWER).await;
    let script = Script::on_request(|head, _| assert!(head.uri.path() != "/panic", "as planned"));
    let bench = Bench::faulty(upstream.address, script).await;
    let ask = async |path: &str| {
        let mut peer = Peer::connect(bench.address).await;
        let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        peer.write(request).await;
        all(&mut peer).await
    };
    let mut kept = Peer::connect(bench.address).await;
    kept.write("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    soon(kept.message()).await.unwrap();
    for _ in 0..3 {
        assert_eq!(ask("/panic").await, "");
        assert!(ask("/").await.starts_with("HTTP/1.1 200 "));
    }
    kept.write("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert_eq!(soon(kept.message()).await.unwrap().1, b"ok");
}
