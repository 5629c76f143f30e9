//! Connections that are lent to hyper while a fault is armed, and come back to the short way.

use std::time::Duration;

use brownout::measure::CallEnd;

use super::kit::{Bench, Peer, Script, Upstream, soon};

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

/// Writes one byte at a time.
async fn dribble(peer: &mut Peer, bytes: &str) {
    for byte in bytes.as_bytes() {
        peer.write([*byte]).await;
        tokio::task::yield_now().await;
    }
}

/// An answer that loses something on any other way than the short one.
const MARKED: &str =
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=1\r\nok\r\n0\r\n\r\n";

async fn marked() -> Upstream {
    Upstream::start(|mut peer| async move {
        while let Some((head, _)) = peer.message().await {
            if head.starts_with("GET /big") {
                let big = "x".repeat(8 << 20);
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", big.len());
                peer.write(head + &big).await;
            } else {
                peer.write(MARKED).await;
            }
        }
    })
    .await
}

/// Whether the next answer came the short way.
async fn came_short(client: &mut Peer) -> bool {
    let got = soon(client.until(b"0\r\n\r\n")).await.expect("an answer");
    let got = String::from_utf8(got).unwrap();
    let unmarked = MARKED.replace(";x=1", "");
    assert!(got == MARKED || got == unmarked, "{got}");
    got == MARKED
}

#[tokio::test]
async fn a_connection_takes_the_short_way_again_when_nothing_is_armed_any_more() {
    let upstream = marked().await;
    let mut bench = Bench::passing(upstream.address).await;
    let post = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}";
    let mut client = Peer::connect(bench.address).await;
    for round in 0..3 {
        client.write(REQUEST).await;
        assert!(came_short(&mut client).await, "round {round}: nothing was armed yet");
        bench.arm();
        for requests in [REQUEST.to_owned(), post.to_owned(), REQUEST.repeat(3)] {
            client.write(&requests).await;
            for _ in 0..requests.matches(" HTTP/1.1").count() {
                assert!(!came_short(&mut client).await, "round {round}: a fault is armed");
            }
        }
        bench.engine.disarm("test");
        match round {
            0 => client.write(format!("{post}{REQUEST}")).await,
            1 => dribble(&mut client, &format!("{REQUEST}{post}")).await,
            _ => client.write(REQUEST.repeat(2)).await,
        }
        for _ in 0..2 {
            assert!(came_short(&mut client).await, "round {round}: it is disarmed");
        }
    }
    client.write("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(soon(client.until(b"0\r\n\r\n")).await.is_some());
    assert_eq!(soon(client.rest()).await.0, "");
    for _ in 0..25 {
        let call = bench.call().await;
        assert_eq!((call.status, call.ended), (Some(200), CallEnd::Complete));
    }
}

#[tokio::test]
async fn an_answer_under_way_is_whole_before_its_connection_goes_back() {
    let upstream = marked().await;
    let bench = Bench::faulty(upstream.address, Script::default()).await;
    let mut client = Peer::connect(bench.address).await;
    client.write(REQUEST).await;
    assert!(!came_short(&mut client).await);
    // Nobody reads the big one yet, and the next request waits behind it.
    client.write("GET /big HTTP/1.1\r\nHost: x\r\n\r\n").await;
    while upstream.connections() < 1 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    bench.engine.disarm("test");
    client.write(REQUEST.repeat(2)).await;
    let (head, body) = soon(client.message()).await.unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(body.len(), 8 << 20);
    for _ in 0..2 {
        came_short(&mut client).await;
    }
    client.write(REQUEST).await;
    assert!(came_short(&mut client).await, "at the latest when all is answered");
}
