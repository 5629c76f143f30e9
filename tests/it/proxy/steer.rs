//! Requests that steer faults by headers: only where the file lets them, and no further than here.

use tokio::sync::mpsc;

use super::kit::{Bench, Script, Upstream, ask, soon};

const STEERED: &str = "GET / HTTP/1.1\r\nHost: x\r\nX-Brownout-Skip: 1\r\nX-Kept: 1\r\n\
    x-brownout-fault: test\r\nConnection: close\r\n\r\n";

/// An upstream that tells the heads it sees.
async fn telling() -> (Upstream, mpsc::UnboundedReceiver<String>) {
    let (tell, heads) = mpsc::unbounded_channel();
    let upstream = Upstream::start(move |mut peer| {
        let tell = tell.clone();
        async move {
            while let Some((head, _)) = peer.message().await {
                let _ = tell.send(head);
                peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            }
        }
    })
    .await;
    (upstream, heads)
}

#[tokio::test]
async fn where_they_may_not_the_headers_pass_and_mean_nothing() {
    let (upstream, mut heads) = telling().await;
    let bench = Bench::passing(upstream.address).await;
    ask(bench.address, STEERED).await.1.unwrap();
    let head = soon(heads.recv()).await.unwrap();
    assert!(head.contains("X-Brownout-Skip: 1") && head.contains("x-brownout-fault"), "{head}");
    let script = Script::on_request(|_, out| out.hit());
    let bench = Bench::faulty(upstream.address, script).await;
    ask(bench.address, STEERED).await.1.unwrap();
    let head = soon(heads.recv()).await.unwrap();
    assert!(head.contains("X-Brownout-Skip: 1"), "{head}");
    assert_eq!(bench.engine.tallies()[0].1.hit, 1);
}

#[tokio::test]
async fn where_they_may_the_headers_stop_here_whatever_is_armed() {
    let (upstream, mut heads) = telling().await;
    let bench = Bench::passing(upstream.address).await;
    bench.engine.let_requests_steer(true);
    for armed in [false, true] {
        if armed {
            bench.arm();
        }
        let (answer, ended) = ask(bench.address, STEERED).await;
        ended.unwrap();
        assert!(answer.ends_with("ok"), "{answer}");
        let head = soon(heads.recv()).await.unwrap();
        assert!(!head.to_lowercase().contains("x-brownout"), "armed: {armed}\n{head}");
        assert!(head.contains("X-Kept: 1"), "the others stay as they are\n{head}");
    }
    let tally = &bench.engine.tallies()[0].1;
    assert_eq!((tally.armed, tally.matched), (1, 0));
    assert_eq!(tally.unmatched["x-brownout-skip"], 1);
}
