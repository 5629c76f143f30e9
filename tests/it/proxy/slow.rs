//! Sides that do not take what is sent to them: the other side waits, and memory stays as it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use brownout::measure::CallEnd;
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::kit::{Bench, Peer, Upstream, soon};

/// More than the kernel holds on the way (its buffers grow to some MiB in each of four places).
const FLOOD: usize = 256 << 20;
const HELD: usize = 64 << 20;
const PERIOD: usize = 251;

/// Bytes that show their places: what stands at a place of the flood begins there in this.
fn pattern() -> Vec<u8> {
    (0..1 << 20).map(|place: usize| (place % PERIOD) as u8).collect()
}

/// Writes until it is done or nobody is there.
async fn flood(stream: &mut TcpStream, sent: &AtomicUsize) {
    let pattern = pattern();
    while sent.load(Ordering::SeqCst) < FLOOD {
        let done = sent.load(Ordering::SeqCst);
        let piece = &pattern[done % PERIOD..][..(64 << 10).min(FLOOD - done)];
        match stream.write(piece).await {
            Ok(count) => sent.fetch_add(count, Ordering::SeqCst),
            Err(_) => return,
        };
    }
}

/// Waits until no more is taken.
async fn settled(sent: &AtomicUsize) -> usize {
    let mut last = usize::MAX;
    loop {
        let now = sent.load(Ordering::SeqCst);
        if now == last && now > 0 {
            return now;
        }
        last = now;
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_holds_its_upstream_back() {
    let sent = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&sent);
    let upstream = Upstream::start(move |mut peer| {
        let count = Arc::clone(&count);
        async move {
            peer.message().await;
            peer.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {FLOOD}\r\n\r\n")).await;
            flood(&mut peer.stream, &count).await;
        }
    })
    .await;
    let mut bench = Bench::passing(upstream.address).await;
    let mut client = Peer::connect(bench.address).await;
    client.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let held = soon(settled(&sent)).await;
    assert!(held < HELD, "{held} bytes were taken for a client that reads nothing");
    // It gets them all when it reads.
    soon(client.until(b"\r\n\r\n")).await.unwrap();
    let (pattern, mut got) = (pattern(), 0);
    while got < FLOOD {
        if client.buffer.is_empty() {
            assert!(soon(client.more()).await.unwrap());
        }
        for piece in client.buffer.chunks(64 << 10) {
            assert!(piece == &pattern[got % PERIOD..][..piece.len()], "near {got}");
            got += piece.len();
        }
        client.buffer.clear();
    }
    let call = bench.call().await;
    assert_eq!((call.bytes, call.ended), (FLOOD as u64, CallEnd::Complete));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_upstream_holds_its_app_back() {
    let (go, wait) = tokio::sync::oneshot::channel::<()>();
    let wait = Arc::new(Mutex::new(Some(wait)));
    let upstream = Upstream::start(move |mut peer| {
        let wait = wait.lock().take();
        async move {
            peer.until(b"\r\n\r\n").await.unwrap();
            wait.unwrap().await.unwrap();
        }
    })
    .await;
    let mut bench = Bench::passing(upstream.address).await;
    let mut client = Peer::connect(bench.address).await;
    client.write(format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {FLOOD}\r\n\r\n")).await;
    let sent = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&sent);
    let writer = tokio::spawn(async move { flood(&mut client.stream, &count).await });
    let held = soon(settled(&sent)).await;
    assert!(held < HELD, "{held} bytes were taken for an upstream that reads nothing");
    go.send(()).unwrap();
    soon(writer).await.unwrap();
    assert!(sent.load(Ordering::SeqCst) < FLOOD);
    assert_eq!(bench.call().await.ended, CallEnd::UpstreamFailed);
}
