//! Upstreams that frame their answers wrong, or say more than they were asked.

use crate::proxy::kit::{Bench, Peer, Upstream, soon};

const ASK: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

/// What an app sees of two requests, one after the other, each on a connection that is still open
/// or on a new one.
async fn twice(answer: &'static [u8]) -> (Vec<String>, usize) {
    let upstream = Upstream::start(move |mut peer| async move {
        while peer.until(b"\r\n\r\n").await.is_some() {
            peer.write(answer).await;
        }
    })
    .await;
    let bench = Bench::passing(upstream.address).await;
    let mut seen = Vec::new();
    for _ in 0..2 {
        let mut peer = Peer::connect(bench.address).await;
        peer.write("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await;
        seen.push(super::all(&mut peer).await);
    }
    (seen, upstream.connections())
}

#[tokio::test]
async fn a_second_answer_is_nobodys() {
    let (seen, connections) = twice(
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
    )
    .await;
    for answer in seen {
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ok"), "{answer}");
        assert!(!answer.contains("evil"));
    }
    // The connection is not used again.
    assert_eq!(connections, 2);
}

#[tokio::test]
async fn bytes_behind_an_answer_without_a_body_are_nobodys() {
    let (seen, connections) =
        twice(b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
            .await;
    for answer in seen {
        assert!(answer.starts_with("HTTP/1.1 204 ") && !answer.contains("evil"), "{answer}");
    }
    assert_eq!(connections, 2);
}

#[tokio::test]
async fn an_answer_framed_twice_is_framed_once_for_the_app() {
    let (seen, _) = twice(
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    )
    .await;
    for answer in seen {
        assert!(!answer.to_lowercase().contains("content-length"), "{answer}");
        assert!(answer.ends_with("2\r\nok\r\n0\r\n\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn what_cannot_be_framed_is_a_bad_gateway_in_words() {
    for answer in [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!".as_slice(),
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2x\r\n\r\nok",
        b"HTTP/1.1 xyz OK\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nX\0: y\r\n\r\n",
    ] {
        let (seen, _) = twice(answer).await;
        for got in seen {
            let at = answer.escape_ascii().to_string();
            assert!(got.starts_with("HTTP/1.1 502 ") && got.contains("brownout: "), "{at}: {got}");
        }
    }
}

#[tokio::test]
async fn a_head_without_end_is_given_up() {
    let upstream = Upstream::start(|mut peer| async move {
        peer.until(b"\r\n\r\n").await;
        peer.write("HTTP/1.1 200 OK\r\n").await;
        let line = format!("X: {}\r\n", "y".repeat(1000));
        for _ in 0..4000 {
            if tokio::io::AsyncWriteExt::write_all(&mut peer.stream, line.as_bytes()).await.is_err()
            {
                return;
            }
        }
    })
    .await;
    let bench = Bench::passing(upstream.address).await;
    let mut peer = Peer::connect(bench.address).await;
    peer.write(ASK).await;
    let (head, _) = soon(peer.message()).await.unwrap();
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
}

#[tokio::test]
async fn bad_chunks_from_the_upstream_break_off_the_answer() {
    for chunk in [b"zz\r\n".as_slice(), b"4\r\nbodyXX", b"ffffffffffffffffff\r\n"] {
        let upstream = Upstream::start(move |mut peer| async move {
            while peer.until(b"\r\n\r\n").await.is_some() {
                let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n";
                peer.write([head, chunk].concat()).await;
            }
        })
        .await;
        let bench = Bench::passing(upstream.address).await;
        let mut peer = Peer::connect(bench.address).await;
        peer.write(ASK).await;
        let got = super::all(&mut peer).await;
        assert!(got.starts_with("HTTP/1.1 200 "), "{got}");
        // Never whole.
        assert!(!got.ends_with("0\r\n\r\n"), "{got}");
    }
}
