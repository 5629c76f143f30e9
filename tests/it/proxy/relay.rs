//! The short way that untouched exchanges take: bytes as they came, and nothing that two readers
//! could take for two things.

use std::sync::Arc;
use std::time::Duration;

use brownout::measure::CallEnd;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

use super::kit::{Bench, Peer, Script, Upstream, ask, soon};

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Writes one byte at a time.
async fn dribble(peer: &mut Peer, bytes: &str) {
    for byte in bytes.as_bytes() {
        peer.write([*byte]).await;
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn chunks_pass_with_extensions_and_trailers_however_they_come() {
    const SENT: &str = "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:  chunked\r\n\r\n\
                        003;a=\"b c\"\r\nabc\r\n1 \r\nd\r\n0;last\r\nx-sum: 1\r\nX-B:2\r\n\r\n";
    const ANSWER: &str = "HTTP/1.1 200 Fine\r\ntransfer-ENCODING: chunked\r\n\r\n\
                          A;x\r\n0123456789\r\n000\r\nX-Sum: 7\r\n\r\n";
    let sent = SENT.replace("1 \r\n", "1\r\n");
    let expected = sent.clone();
    for slowly in [false, true] {
        let expected = expected.clone();
        let upstream = Upstream::start(move |mut peer| {
            let expected = expected.replace("Host: x", &format!("Host: {}", local(&peer)));
            async move {
                for _ in 0..2 {
                    let got = peer.until(b"X-B:2\r\n\r\n").await.unwrap();
                    assert_eq!(String::from_utf8(got).unwrap(), expected);
                    match slowly {
                        true => dribble(&mut peer, ANSWER).await,
                        false => peer.write(ANSWER).await,
                    }
                }
            }
        })
        .await;
        let mut bench = Bench::passing(upstream.address).await;
        let mut client = Peer::connect(bench.address).await;
        for _ in 0..2 {
            match slowly {
                true => dribble(&mut client, &sent).await,
                false => client.write(&sent).await,
            }
            let got = soon(client.until(b"X-Sum: 7\r\n\r\n")).await.unwrap();
            assert_eq!(String::from_utf8(got).unwrap(), ANSWER);
            let call = bench.call().await;
            assert_eq!((call.bytes, call.ended), (10, CallEnd::Complete));
        }
        assert_eq!(upstream.connections(), 1);
    }
}

fn local(peer: &Peer) -> std::net::SocketAddr {
    peer.stream.local_addr().unwrap()
}

#[tokio::test]
async fn both_directions_flow_at_once() {
    let upstream = Upstream::start(|mut peer| async move {
        peer.until(b"\r\n\r\n").await.unwrap();
        peer.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        while let Some(chunk) = peer.until(b"\n\r\n").await {
            peer.write(&chunk).await;
        }
    })
    .await;
    let bench = Bench::passing(upstream.address).await;
    let mut client = Peer::connect(bench.address).await;
    client.write("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    soon(client.until(b"\r\n\r\n")).await.expect("the answer comes before the body");
    for number in 0..5 {
        let chunk = format!("2\r\n{number}\n\r\n");
        client.write(&chunk).await;
        assert_eq!(soon(client.until(b"\n\r\n")).await.unwrap(), chunk.as_bytes());
    }
}

#[tokio::test]
async fn an_answer_may_come_before_the_request_is_whole() {
    let (told, mut bodies) = mpsc::unbounded_channel();
    let upstream = Upstream::start(move |mut peer| {
        let told = told.clone();
        async move {
            while peer.until(b"\r\n\r\n").await.is_some() {
                peer.write(OK).await;
                told.send(peer.until(b"end").await).unwrap();
            }
        }
    })
    .await;
    let mut bench = Bench::passing(upstream.address).await;
    let mut client = Peer::connect(bench.address).await;
    for _ in 0..2 {
        client.write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\nbeg").await;
        assert_eq!(soon(client.message()).await.unwrap().1, b"ok");
        assert_eq!(bench.call().await.ended, CallEnd::Complete);
        client.write("-end").await;
        assert_eq!(soon(bodies.recv()).await.unwrap().unwrap(), b"beg-end");
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn an_upstream_that_answers_early_and_closes_ends_the_connection() {
    let upstream = Upstream::start(|mut peer| async move {
        peer.until(b"\r\n\r\n").await.unwrap();
        peer.write("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno").await;
    })
    .await;
    let bench = Bench::passing(upstream.address).await;
    let mut client = Peer::connect(bench.address).await;
    client.write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 700000\r\n\r\n").await;
    let (got, ended) = soon(client.rest()).await;
    assert_eq!(got, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno");
    assert!(ended.is_ok());
}

#[tokio::test]
async fn what_belongs_to_one_connection_goes_no_further() {
    let (told, mut heard) = mpsc::unbounded_channel();
    let upstream = Upstream::start(move |mut peer| {
        let told = told.clone();
        async move {
            while let Some((head, _)) = peer.message().await {
                told.send(head).unwrap();
                peer.write("HTTP/1.1 200 OK\r\nX-A:1\r\nKeep-Alive: timeout=5\r\nConnection: keep-alive, x-mine\r\nUpgrade: h2c\r\nx-MINE: 2\r\nProxy-Auth: 3\r\nx-a:  4\r\nContent-Length: 0\r\n\r\n").await;
            }
        }
    })
    .await;
    let bench = Bench::start(
        &format!("http://{}/base", upstream.address),
        Script::default(),
        <_>::default(),
    )
    .await;
    let mut client = Peer::connect(bench.address).await;
    for _ in 0..2 {
        client.write("GET /a?b HTTP/1.1\r\nB:1\r\nProxy-Connection: keep-alive\r\nhost:  x \r\nConnection: Keep-Alive\r\nb:  2 \r\n\r\n").await;
        let (head, _) = soon(client.message()).await.unwrap();
        assert_eq!(head, "HTTP/1.1 200 OK\r\nX-A:1\r\nx-a:  4\r\nContent-Length: 0\r\n\r\n");
        let asked = format!(
            "GET /base/a?b HTTP/1.1\r\nB:1\r\nhost: {}\r\nb:  2 \r\n\r\n",
            upstream.address
        );
        assert_eq!(heard.recv().await.unwrap(), asked);
    }
    assert_eq!(upstream.connections(), 1);
    let (got, _) =
        ask(bench.address, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(got.ends_with("Content-Length: 0\r\nconnection: close\r\n\r\n"), "{got}");
}

#[tokio::test]
async fn old_and_careless_upstreams_are_understood() {
    for (answer, seen) in [
        (
            "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        ),
        ("HTTP/1.0 200 OK\r\n\r\nall", "HTTP/1.1 200 OK\r\n\r\nall"),
        (
            "HTTP/1.1 200 OK\nA: 1\nContent-Length: 2\n\nok",
            "HTTP/1.1 200 OK\r\nA: 1\r\nContent-Length: 2\r\n\r\nok",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n1  \r\na\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1  \r\na\r\n0\r\n\r\n",
        ),
    ] {
        let upstream = Upstream::start(move |mut peer| async move {
            peer.message().await;
            peer.write(answer).await;
        })
        .await;
        let mut bench = Bench::passing(upstream.address).await;
        let mut client = Peer::connect(bench.address).await;
        client.write(REQUEST).await;
        soon(client.until(seen.as_bytes())).await.expect(answer);
        assert_eq!(bench.call().await.ended, CallEnd::Complete, "{answer}");
    }
}

#[tokio::test]
async fn answers_that_cannot_be_framed_are_told_as_such() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nA: 1\r\n folded\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
    ] {
        let upstream = Upstream::answering(answer.as_bytes()).await;
        let mut bench = Bench::passing(upstream.address).await;
        let mut client = Peer::connect(bench.address).await;
        client.write(REQUEST).await;
        let (head, body) = soon(client.message()).await.unwrap();
        assert!(head.starts_with("HTTP/1.1 502 "), "{answer}: {head}");
        let body = String::from_utf8(body).unwrap();
        assert!(body.contains("does not speak HTTP/1.1: "), "{answer}: {body}");
        assert_eq!(bench.call().await.ended, CallEnd::UpstreamFailed);
    }
    // In the middle of a body it is an end.
    let upstream =
        Upstream::answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\naXX").await;
    let mut bench = Bench::passing(upstream.address).await;
    let (got, ended) = ask(bench.address, REQUEST).await;
    assert!(got.starts_with("HTTP/1.1 200 OK\r\n") && !got.contains("XX"), "{got}");
    assert!(ended.is_ok());
    assert_eq!(bench.call().await.ended, CallEnd::UpstreamCut);
}

#[tokio::test]
async fn bytes_that_nobody_asked_for_reach_nobody() {
    let upstream = Upstream::start(|mut peer| async move {
        peer.message().await;
        peer.write(format!("{OK}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")).await;
        while peer.more().await.unwrap_or(false) {}
    })
    .await;
    let bench = Bench::passing(upstream.address).await;
    let mut client = Peer::connect(bench.address).await;
    for number in 1..4 {
        client.write(REQUEST).await;
        assert_eq!(soon(client.message()).await.unwrap().1, b"ok");
        assert_eq!(upstream.connections(), number);
    }
}

#[tokio::test]
async fn smuggled_requests_reach_nobody() {
    let heads = Arc::<Mutex<Vec<String>>>::default();
    let heard = Arc::clone(&heads);
    let upstream = Upstream::start(move |mut peer| {
        let heard = Arc::clone(&heard);
        async move {
            while let Some(head) = peer.until(b"\r\n\r\n").await {
                heard.lock().push(String::from_utf8(head).unwrap());
                if peer.stream.write_all(OK.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    let bench = Bench::passing(upstream.address).await;
    const EVIL: &str = "GET /evil HTTP/1.1\r\nHost: x\r\n\r\n";
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Content-Length: 0\r\nContent-Length: 40\r\n\r\n",
        "Content-Length: 0, 40\r\n\r\n",
        "Content-Length: -1\r\n\r\n",
        "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "X: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\n",
        "Transfer-Encoding: chunked\r\n\r\n0;\n\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n",
        " Content-Length: 33\r\n\r\n",
    ] {
        let request = format!("POST /first HTTP/1.1\r\nHost: x\r\n{lines}{EVIL}");
        let mut client = Peer::connect(bench.address).await;
        client.write(&request).await;
        let mut answers = Vec::new();
        let read = client.stream.read_to_end(&mut answers);
        let _ = tokio::time::timeout(Duration::from_millis(300), read).await;
        // Two answers at most: to the first, and to what is honestly behind it.
        let asked: Vec<String> = std::mem::take(&mut heads.lock());
        let firsts = asked.iter().filter(|head| head.starts_with("POST /first ")).count();
        let evil = asked.iter().any(|head| head.contains("/evil"));
        assert!(firsts <= 1 && asked.len() <= 2, "{lines:?}: {asked:?}");
        let honest = lines.starts_with("Content-Length: 5") || !evil;
        assert!(honest, "{lines:?}: {asked:?}");
    }
}

#[tokio::test]
async fn what_the_relay_does_not_take_is_served_all_the_same() {
    let upstream = Upstream::start(|mut peer| async move {
        while let Some(head) = peer.until(b"\r\n\r\n").await {
            let head = String::from_utf8(head).unwrap();
            if head.contains("100-continue") {
                peer.write("HTTP/1.1 100 Continue\r\n\r\n").await;
                peer.until(b"body").await.unwrap();
            }
            let line = head.lines().next().unwrap().to_owned();
            peer.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{line}", line.len()))
                .await;
        }
    })
    .await;
    let bench = Bench::passing(upstream.address).await;
    for other in [
        "POST /other HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody",
        "GET /other HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        "GET http://x/other HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /other HTTP/1.1\r\nHost: x\r\nConnection: x-y\r\nX-Y: 1\r\n\r\n",
    ] {
        // Before, behind and between others, in one write.
        let mut client = Peer::connect(bench.address).await;
        client.write(format!("{REQUEST}{REQUEST}{other}{REQUEST}")).await;
        for place in ["/", "/", "/other", "/"] {
            let mut answer = soon(client.message()).await.unwrap();
            if answer.0.starts_with("HTTP/1.1 100") {
                answer = soon(client.message()).await.unwrap();
            }
            let line = String::from_utf8(answer.1).unwrap();
            assert!(line.ends_with(&format!(" {place} HTTP/1.1")), "{other}: {line}");
        }
    }
}

#[tokio::test]
async fn a_head_that_comes_slowly_is_served_when_it_is_whole() {
    let upstream = Upstream::answering(OK.as_bytes()).await;
    let bench = Bench::passing(upstream.address).await;
    for pause in [Duration::from_millis(1), Duration::from_millis(2200)] {
        let mut client = Peer::connect(bench.address).await;
        client.write(REQUEST).await;
        soon(client.message()).await.unwrap();
        client.write(&REQUEST[..20]).await;
        // Beyond two seconds hyper has it.
        tokio::time::sleep(pause).await;
        client.write(&REQUEST[20..]).await;
        assert_eq!(soon(client.message()).await.unwrap().1, b"ok");
    }
}

#[tokio::test]
async fn a_fault_that_is_armed_acts_on_the_next_request_of_any_connection() {
    let (go, wait) = mpsc::unbounded_channel::<()>();
    let wait = Arc::new(tokio::sync::Mutex::new(wait));
    let upstream = Upstream::start(move |mut peer| {
        let wait = Arc::clone(&wait);
        async move {
            while let Some((head, _)) = peer.message().await {
                if head.starts_with("GET /slow") {
                    wait.lock().await.recv().await;
                }
                peer.write(OK).await;
            }
        }
    })
    .await;
    let script = Script::on_request(|head, _| assert!(head.uri != "/", "wanted by the test"));
    let bench = Bench::start(&format!("http://{}", upstream.address), script, <_>::default()).await;
    let mut idle = Peer::connect(bench.address).await;
    idle.write(REQUEST).await;
    soon(idle.message()).await.unwrap();
    let mut half = Peer::connect(bench.address).await;
    half.write(&REQUEST[..20]).await;
    let mut busy = Peer::connect(bench.address).await;
    // The second one waits behind the first.
    busy.write(format!("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n{REQUEST}")).await;
    let mut late = Peer::connect(bench.address).await;
    late.write("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await;
    while upstream.connections() < 2 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }

    bench.arm();
    go.send(()).unwrap();
    go.send(()).unwrap();
    idle.write(REQUEST).await;
    half.write(&REQUEST[20..]).await;
    for peer in [&mut busy, &mut late] {
        assert_eq!(soon(peer.message()).await.unwrap().1, b"ok");
    }
    late.write(REQUEST).await;
    for mut peer in [idle, half, busy, late] {
        assert_eq!(soon(peer.rest()).await.0, "", "the fault ends it");
    }
}

#[tokio::test]
async fn what_the_app_says_and_is_told_about_retries_is_recorded() {
    let upstream = Upstream::answering(
        b"HTTP/1.1 429 Slow Down\r\nRetry-After: 3\r\nretry-after-MS: 1500\r\nContent-Length: 4\r\n\r\nwait",
    )
    .await;
    let mut bench = Bench::passing(upstream.address).await;
    let mut client = Peer::connect(bench.address).await;
    client.write("GET / HTTP/1.1\r\nHost: x\r\nX-Stainless-Retry-Count: 2\r\n\r\n").await;
    soon(client.message()).await.unwrap();
    let call = bench.call().await;
    assert_eq!((call.status, call.retry), (Some(429), Some(2)));
    assert_eq!(call.retry_after, Some(Duration::from_millis(1500)));
    assert_eq!((call.bytes, call.upstream, call.ended), (4, true, CallEnd::Complete));
    assert!(call.head >= Some(call.at) && call.first_byte >= call.head);
    assert!(Some(call.end) >= call.first_byte);
}

#[tokio::test]
async fn draining_ends_kept_connections_behind_their_answers() {
    let (go, wait) = tokio::sync::oneshot::channel::<()>();
    let wait = Arc::new(Mutex::new(Some(wait)));
    let upstream = Upstream::start(move |mut peer| {
        let wait = wait.lock().take();
        async move {
            peer.message().await;
            wait.unwrap().await.unwrap();
            peer.write(OK).await;
        }
    })
    .await;
    let mut bench = Bench::passing(upstream.address).await;
    let mut client = Peer::connect(bench.address).await;
    client.write(REQUEST).await;
    while upstream.connections() < 1 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let mut idle = Peer::connect(bench.address).await;
    let drained = tokio::spawn(bench.running.take().unwrap().drain(Duration::from_secs(20)));
    assert_eq!(soon(idle.rest()).await.0, "");
    go.send(()).unwrap();
    let (got, ended) = soon(client.rest()).await;
    assert_eq!(got, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nconnection: close\r\n\r\nok");
    assert!(ended.is_ok());
    assert!(soon(drained).await.unwrap());
}
