//! How connections end, as the other side sees it: clients that go away, upstreams that break off.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use brownout::measure::CallEnd;
use tokio::sync::mpsc;

use super::kit::{Bench, Peer, Script, Upstream, ask, soon};

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

/// An upstream that streams slowly for ever and tells when its client is gone.
async fn endless() -> (Upstream, mpsc::UnboundedReceiver<()>) {
    let (told, gone) = mpsc::unbounded_channel();
    let upstream = Upstream::start(move |mut peer| {
        let told = told.clone();
        async move {
            peer.message().await;
            peer.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n8\r\ndata: 1\n\r\n").await;
            // Silent from here: only the end of the connection can end this.
            while peer.more().await.unwrap_or(false) {}
            told.send(()).unwrap();
        }
    })
    .await;
    (upstream, gone)
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_upstream_request() {
    let (upstream, mut gone) = endless().await;
    let mut bench = Bench::passing(upstream.address).await;
    let mut client = Peer::connect(bench.address).await;
    client.write(REQUEST).await;
    soon(client.until(b"data: 1")).await.unwrap();
    drop(client);
    soon(gone.recv()).await.unwrap();
    assert_eq!(bench.call().await.ended, CallEnd::ClientGone);
}

#[tokio::test]
async fn a_client_that_goes_away_before_the_head_cancels_too() {
    let (told, mut gone) = mpsc::unbounded_channel();
    let upstream = Upstream::start(move |mut peer| {
        let told = told.clone();
        async move {
            peer.message().await;
            told.send(()).unwrap();
            while peer.more().await.unwrap_or(false) {}
            told.send(()).unwrap();
        }
    })
    .await;
    let mut bench = Bench::passing(upstream.address).await;
    let mut client = Peer::connect(bench.address).await;
    client.write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab").await;
    soon(gone.recv()).await.unwrap();
    drop(client);
    soon(gone.recv()).await.unwrap();
    assert_eq!(bench.call().await.ended, CallEnd::ClientGone);
}

#[tokio::test]
async fn a_client_that_goes_away_while_a_fault_holds_it_is_noticed() {
    let upstream = Upstream::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let script = Script::on_request(|_, out| out.wait(Duration::from_secs(3600)));
    let mut bench = Bench::faulty(upstream.address, script).await;
    let mut client = Peer::connect(bench.address).await;
    client.write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab").await;
    while bench.engine.tallies()[0].1.armed == 0 {
        // The books close when the exchange ends; until then only the connection shows it.
        tokio::time::sleep(Duration::from_millis(5)).await;
        if client.stream.peer_addr().is_ok() {
            break;
        }
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(client);
    let call = bench.call().await;
    assert_eq!((call.ended, call.upstream), (CallEnd::ClientGone, false));
    assert!(call.injected_delay > Duration::ZERO && call.injected_delay < Duration::from_secs(60));
    assert_eq!(upstream.connections(), 0, "the upstream is not called for one that has gone");
}

#[tokio::test]
async fn an_upstream_that_breaks_off_is_mirrored() {
    for (answer, seen) in [
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "3\r\nabc\r\n"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "abc"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", ""),
    ] {
        for reset in [false, true] {
            let upstream = Upstream::start(move |mut peer| async move {
                peer.message().await;
                peer.write(answer).await;
                // Let the bytes through before a reset overtakes them.
                tokio::time::sleep(Duration::from_millis(50)).await;
                if reset {
                    peer.stream.set_zero_linger().unwrap();
                }
            })
            .await;
            let mut bench = Bench::passing(upstream.address).await;
            let (got, ended) = ask(bench.address, REQUEST).await;
            let head = answer.split_inclusive("\r\n\r\n").next().unwrap();
            assert_eq!(got, format!("{head}{seen}"));
            match reset {
                true => assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset),
                false => assert!(ended.is_ok()),
            }
            assert_eq!(bench.call().await.ended, CallEnd::UpstreamCut);
        }
    }
}

#[tokio::test]
async fn an_upstream_that_breaks_off_before_its_head_is_mirrored() {
    let upstream = Upstream::start(|mut peer| async move {
        peer.message().await;
    })
    .await;
    let mut bench = Bench::passing(upstream.address).await;
    let (got, ended) = ask(bench.address, REQUEST).await;
    assert_eq!(got, "");
    assert!(ended.is_ok());
    let call = bench.call().await;
    assert_eq!((call.status, call.ended), (None, CallEnd::UpstreamFailed));
}

#[tokio::test]
async fn an_upstream_that_speaks_no_http_is_named() {
    let upstream = Upstream::answering(b"SSH-2.0-OpenSSH_9.2\r\n\r\n").await;
    let bench = Bench::passing(upstream.address).await;
    let (got, _) =
        ask(bench.address, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(got.starts_with("HTTP/1.1 502 "), "{got}");
    assert!(got.contains("does not speak HTTP/1.1"), "{got}");
}

#[tokio::test]
async fn dropping_the_proxy_ends_everything() {
    let (upstream, mut gone) = endless().await;
    let mut bench = Bench::passing(upstream.address).await;
    let mut client = Peer::connect(bench.address).await;
    client.write(REQUEST).await;
    soon(client.until(b"data: 1")).await.unwrap();
    drop(bench.running.take());
    soon(gone.recv()).await.unwrap();
    let _ = soon(client.rest()).await;
}

#[tokio::test]
async fn a_panic_ends_its_exchange_alone() {
    let upstream = Upstream::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let script = Script::on_request(|head, _| assert!(head.uri != "/panic", "wanted by the test"));
    let bench = Bench::faulty(upstream.address, script).await;
    let bench = Arc::new(bench);
    let mut other = Peer::connect(bench.address).await;
    other.write(REQUEST).await;
    soon(other.message()).await.unwrap();
    let (got, _) = ask(bench.address, "GET /panic HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(got, "");
    other.write(REQUEST).await;
    assert_eq!(soon(other.message()).await.unwrap().1, b"ok");
}
