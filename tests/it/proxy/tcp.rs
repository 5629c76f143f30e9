//! Raw TCP over real sockets: how connections end, and what the app of a store sees.

use std::io::ErrorKind;
use std::time::Duration;

use brownout::dialect;
use brownout::proxy::{Listener, Options};
use tokio::net::TcpListener;

use super::kit::{Bench, Peer, Script, Upstream, soon};

async fn bench(upstream: std::net::SocketAddr) -> Bench {
    let url = format!("tcp://{upstream}").parse().unwrap();
    let listener = Listener::new("llm", dialect::by_kind("tcp").unwrap(), url);
    Bench::of(listener, Script::refusing(), Options::default()).await
}

#[tokio::test]
async fn bytes_pass_both_ways_and_each_end_is_the_other_sides() {
    let upstream = Upstream::start(|mut peer| async move {
        // The app's FIN comes first; the answer follows it.
        let (asked, ended) = peer.rest().await;
        assert!(ended.is_ok());
        peer.write(asked.repeat(100)).await;
    })
    .await;
    let bench = bench(upstream.address).await;
    let mut app = Peer::connect(bench.address).await;
    let text = "hello ".repeat(5000);
    app.write(&text).await;
    tokio::io::AsyncWriteExt::shutdown(&mut app.stream).await.unwrap();
    let (got, ended) = soon(app.rest()).await;
    assert!(ended.is_ok());
    assert_eq!(got, text.repeat(100));
}

#[tokio::test]
async fn a_reset_of_the_upstream_resets_the_app() {
    let upstream = Upstream::start(|mut peer| async move {
        peer.until(b"?").await;
        peer.write("so far").await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        peer.stream.set_zero_linger().unwrap();
    })
    .await;
    let bench = bench(upstream.address).await;
    let mut app = Peer::connect(bench.address).await;
    app.write("?").await;
    let (got, ended) = soon(app.rest()).await;
    assert_eq!((got.as_str(), ended.unwrap_err().kind()), ("so far", ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn a_reset_of_the_app_resets_the_upstream() {
    let (told, heard) = tokio::sync::oneshot::channel();
    let told = std::sync::Arc::new(parking_lot::Mutex::new(Some(told)));
    let upstream = Upstream::start(move |mut peer| {
        let told = told.lock().take();
        async move {
            let (_, ended) = peer.rest().await;
            let _ = told.unwrap().send(ended.map_err(|error| error.kind()));
        }
    })
    .await;
    let bench = bench(upstream.address).await;
    let mut app = Peer::connect(bench.address).await;
    app.write("?").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    app.stream.set_zero_linger().unwrap();
    drop(app);
    assert_eq!(soon(heard).await.unwrap(), Err(ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn an_upstream_that_refuses_resets_the_app() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let bench = bench(free).await;
    let mut app = Peer::connect(bench.address).await;
    let (got, ended) = soon(app.rest()).await;
    assert_eq!((got.as_str(), ended.unwrap_err().kind()), ("", ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn a_listener_is_closed_while_connections_are_refused() {
    let upstream = Upstream::answering(b"").await;
    let bench = bench(upstream.address).await;
    bench.arm();
    let refused = async {
        while let Ok(stream) = tokio::net::TcpStream::connect(bench.address).await {
            drop(stream);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    soon(refused).await;
    bench.engine.disarm("test");
    let back = async {
        while tokio::net::TcpStream::connect(bench.address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(back).await;
}
