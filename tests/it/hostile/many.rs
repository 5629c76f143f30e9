//! Connections that ask for nothing.

use std::net::SocketAddr;

use super::{ANSWER, Scene};
use crate::proxy::kit::{Bench, Peer, Upstream, soon};

/// Bytes of memory that this process has.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: usize = status.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * 4096
}

/// Opens so many connections, each with one request behind it, and gives back what each costs this
/// process, which holds both ends.
async fn idle(address: SocketAddr, count: usize) -> (Vec<Peer>, usize) {
    let before = resident();
    let mut peers = Vec::with_capacity(count);
    for number in 0..count {
        let mut peer = Peer::connect(address).await;
        if number % 2 == 0 {
            peer.write("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
            assert_eq!(soon(peer.message()).await.unwrap().1, b"ok");
            peer.buffer = Vec::new();
        }
        peers.push(peer);
    }
    (peers, resident().saturating_sub(before) / count)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_idle_connections_do_not_keep_others_waiting() {
    let upstream = Upstream::answering(ANSWER).await;
    let bench = Bench::passing(upstream.address).await;
    let (mut peers, each) = idle(bench.address, 2_000).await;
    assert!(each < 32 << 10, "{each} bytes for each idle connection");
    let last = peers.len() - 1;
    for number in [0, 1, last] {
        peers[number].write("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
        assert_eq!(soon(peers[number].message()).await.unwrap().1, b"ok");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "wants 200,000 descriptors: ulimit -n 210000; IDLE=… for another number"]
async fn a_hundred_thousand_idle_connections() {
    let count = std::env::var("IDLE").ok().and_then(|it| it.parse().ok()).unwrap_or(100_000);
    let upstream = Upstream::answering(ANSWER).await;
    let bench = Bench::passing(upstream.address).await;
    let (mut peers, each) = idle(bench.address, count).await;
    eprintln!("{count} idle connections, {each} bytes each, both ends");
    peers[0].write("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert_eq!(soon(peers[0].message()).await.unwrap().1, b"ok");
}

#[tokio::test]
async fn a_client_that_vanished_half_way_holds_up_nobody() {
    let scene = Scene::start().await;
    let mut gone = Vec::new();
    for entrance in &scene.entrances {
        for part in ["", "GET", "GET /evil HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf"] {
            let mut peer = entrance.open().await;
            peer.write(entrance.written(part.as_bytes())).await;
            gone.push(peer);
        }
        scene.serves(entrance).await;
    }
    // Some close, some reset.
    for (number, peer) in gone.into_iter().enumerate() {
        if number % 2 == 0 {
            peer.stream.set_zero_linger().unwrap();
        }
    }
    for entrance in &scene.entrances {
        scene.serves(entrance).await;
    }
}
