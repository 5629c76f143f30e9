//! Connections to an upstream: shared, left when they are full or going away.

use std::sync::Arc;
use std::time::Duration;

use brownout::exchange::Event;
use brownout::measure::CallEnd;
use h2::Reason;
use http::Request;
use tokio::sync::{Notify, mpsc};

use super::kit::{App, Bench, Peer, Upstream, begin_grpc, read, read_broken, soon, status};

#[tokio::test]
async fn many_calls_share_one_connection_and_a_full_one_gets_a_second() {
    let gate = Arc::new(Notify::new());
    let (came, mut calls) = mpsc::unbounded_channel();
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(10);
    let open = Arc::clone(&gate);
    let upstream = Upstream::of(builder, move |(request, respond)| {
        let (came, open) = (came.clone(), Arc::clone(&open));
        async move {
            let opened = open.notified();
            tokio::pin!(opened);
            opened.as_mut().enable();
            came.send(()).unwrap();
            read(request.into_body()).await.unwrap();
            opened.await;
            let mut out = begin_grpc(respond);
            out.send_trailers(status(0)).unwrap();
        }
    })
    .await;
    let bench = Bench::passing(upstream.address).await;
    let app = Arc::new(App::connect(bench.address).await);
    let call = |app: &Arc<App>| {
        let app = Arc::clone(app);
        tokio::spawn(async move { read(app.call("/a.B/C").await.unwrap().into_body()).await })
    };
    // One, so that the upstream's settings are known.
    let first = call(&app);
    soon(calls.recv()).await.unwrap();
    gate.notify_waiters();
    soon(first).await.unwrap().unwrap();
    let all: Vec<_> = (0..25).map(|_| call(&app)).collect();
    for _ in 0..25 {
        soon(calls.recv()).await.unwrap();
    }
    assert_eq!(upstream.connected(), 3, "10 streams each");
    gate.notify_waiters();
    for call in all {
        assert_eq!(soon(call).await.unwrap().unwrap().1, Some(status(0)));
    }
}

#[tokio::test]
async fn calls_at_once_make_one_connection() {
    let upstream = Upstream::messages(1).await;
    let bench = Bench::passing(upstream.address).await;
    let apps: Vec<_> = (0..20)
        .map(|_| {
            let address = bench.address;
            tokio::spawn(async move {
                let app = App::connect(address).await;
                read(app.call("/a.B/C").await.unwrap().into_body()).await.unwrap()
            })
        })
        .collect();
    for app in apps {
        soon(app).await.unwrap();
    }
    assert_eq!(upstream.connected(), 1);
}

#[tokio::test]
async fn a_connection_that_goes_away_is_left_in_good_order() {
    let upstream = Upstream::connections(|stream| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((request, respond))) = connection.accept().await {
            tokio::spawn(async move {
                read(request.into_body()).await.unwrap();
                let mut out = begin_grpc(respond);
                out.send_data(Event::grpc("one").raw, false).unwrap();
                tokio::time::sleep(Duration::from_millis(50)).await;
                let _ = out.send_trailers(status(0));
            });
            // After each request.
            connection.graceful_shutdown();
        }
    })
    .await;
    let bench = Bench::passing(upstream.address).await;
    let app = App::connect(bench.address).await;
    for call in 1..=5 {
        let answer = app.call("/a.B/C").await.unwrap();
        let (bytes, trailers) = read(answer.into_body()).await.unwrap();
        assert_eq!((bytes.len(), trailers), (8, Some(status(0))));
        assert_eq!(upstream.connected(), call);
        // The second GOAWAY comes with the answer to a ping.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn an_upstream_that_breaks_breaks_its_streams_alone() {
    let upstream = Upstream::connections(|stream| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let (request, respond) = connection.accept().await.unwrap().unwrap();
        let mut out = begin_grpc(respond);
        out.send_data(Event::grpc("one").raw, false).unwrap();
        if request.uri().path() != "/a.B/Go" {
            let drive = async { while connection.accept().await.is_some() {} };
            let _ = tokio::time::timeout(Duration::from_millis(50), drive).await;
        } else {
            out.send_trailers(status(0)).unwrap();
            while connection.accept().await.is_some() {}
        }
    })
    .await;
    let mut bench = Bench::passing(upstream.address).await;
    let app = App::connect(bench.address).await;
    let request = Request::post("http://app.test/plain").body(()).unwrap();
    let answer = app.ask(request, "x").await.unwrap();
    let (bytes, reason) = soon(read_broken(answer.into_body())).await;
    assert_eq!((bytes.len(), reason), (8, Some(Reason::INTERNAL_ERROR)));
    assert_eq!(bench.recorded().await.ended, CallEnd::UpstreamCut);
    // A gRPC client makes UNAVAILABLE of a broken connection.
    let answer = app.call("/a.B/Break").await.unwrap();
    let (bytes, trailers) = soon(read(answer.into_body())).await.unwrap();
    assert_eq!((bytes.len(), &trailers.unwrap()["grpc-status"]), (8, &"14".parse().unwrap()));
    assert_eq!(bench.recorded().await.ended, CallEnd::UpstreamCut);
    let answer = app.call("/a.B/Go").await.unwrap();
    assert_eq!(read(answer.into_body()).await.unwrap().1, Some(status(0)));
    assert_eq!(upstream.connected(), 3);
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_told_in_the_callers_protocol() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let bench = Bench::passing(port).await;
    let app = App::connect(bench.address).await;
    let answer = app.call("/a.B/C").await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["grpc-status"], "14");
    let message = answer.headers()["grpc-message"].to_str().unwrap();
    assert!(message.contains("refused the connection"), "{message}");
    assert!(answer.body().is_end_stream(), "trailers only");
    let request = Request::post("http://app.test/").body(()).unwrap();
    let answer = app.ask(request, "x").await.unwrap();
    assert_eq!(answer.status().as_u16(), 502);
}

#[tokio::test]
async fn an_upstream_that_speaks_something_else_is_named() {
    let upstream = Upstream::connections(|stream| async move {
        let mut peer = Peer::new(stream);
        peer.until(b"SM\r\n\r\n").await.unwrap();
        peer.write("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
        let _ = peer.rest().await;
    })
    .await;
    let bench = Bench::passing(upstream.address).await;
    let app = App::connect(bench.address).await;
    let answer = app.call("/a.B/C").await;
    let told = answer.map(|answer| answer.headers()["grpc-message"].to_str().unwrap().to_owned());
    assert!(told.as_ref().is_ok_and(|told| told.contains("does not speak HTTP/2")), "{told:?}");
}

/// Frames of an upstream: no settings of its own, and a GOAWAY that names no stream.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const GOAWAY: &[u8] = &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[tokio::test]
async fn streams_that_a_goaway_does_not_name_were_refused() {
    let upstream = Upstream::connections(|stream| async move {
        let mut peer = Peer::new(stream);
        peer.write(SETTINGS).await;
        // A frame of HEADERS with END_HEADERS on stream 1.
        peer.until(&[1, 4, 0, 0, 0, 1]).await.unwrap();
        peer.write(GOAWAY).await;
        let _ = peer.more().await;
    })
    .await;
    let bench = Bench::passing(upstream.address).await;
    let app = App::connect(bench.address).await;
    for call in 1..3 {
        let error = app.call("/a.B/C").await.unwrap_err();
        assert_eq!(error.reason(), Some(Reason::REFUSED_STREAM), "safe to try again");
        assert_eq!(upstream.connected(), call, "a new connection for each");
    }
}
