//! Untouched means untouched.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use brownout::dice::Dice;
use brownout::measure::CallEnd;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::kit::{Bench, Peer, Script, Upstream, ask, soon};

/// A head of random lines: names repeated in other cases and places, values with odd spaces.
fn random_lines(dice: &mut Dice) -> Vec<String> {
    const NAMES: [&str; 7] =
        ["X-Dup", "x-dUP", "Accept", "X-Other", "X-DUP", "aCCept", "Set-Cookie"];
    const SPACES: [&str; 3] = [" ", "", "   "];
    (0..dice.whole(0, 12))
        .map(|number| {
            let name = NAMES[dice.whole(0, 6) as usize];
            let space = SPACES[dice.whole(0, 2) as usize];
            format!("{name}:{space}value {number}")
        })
        .collect()
}

fn random_bytes(dice: &mut Dice, most: u64) -> Vec<u8> {
    (0..dice.whole(0, most)).map(|_| dice.bits() as u8).collect()
}

/// A body as it stands on the wire and the line that frames it, by content-length or in chunks.
fn framed(dice: &mut Dice, body: &[u8]) -> (String, Vec<u8>) {
    if dice.whole(0, 1) == 0 {
        return (format!("Content-LENGTH: {}", body.len()), body.to_vec());
    }
    let mut wire = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let (chunk, later) = rest.split_at((dice.whole(1, 5000) as usize).min(rest.len()));
        wire.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        wire.extend_from_slice(chunk);
        wire.extend_from_slice(b"\r\n");
        rest = later;
    }
    wire.extend_from_slice(b"0\r\n\r\n");
    ("TRANSFER-encoding: chunked".to_owned(), wire)
}

async fn write_in_pieces(peer: &mut Peer, dice: &mut Dice, bytes: &[u8]) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, later) = rest.split_at((dice.whole(1, 4000) as usize).min(rest.len()));
        peer.write(piece).await;
        if dice.whole(0, 3) == 0 {
            tokio::task::yield_now().await;
        }
        rest = later;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_and_bodies_pass_byte_for_byte() {
    let script = Arc::new(Mutex::new(Vec::<(Dice, Vec<u8>)>::new()));
    let (told, mut heard) = mpsc::unbounded_channel();
    let answers = Arc::clone(&script);
    let upstream = Upstream::start(move |mut peer| {
        let (answers, told) = (Arc::clone(&answers), told.clone());
        async move {
            while let Some(message) = peer.message().await {
                told.send(message).unwrap();
                let (mut dice, answer) = answers.lock().pop().unwrap();
                write_in_pieces(&mut peer, &mut dice, &answer).await;
            }
        }
    })
    .await;
    let mut bench = Bench::passing(upstream.address).await;
    let mut client = Peer::connect(bench.address).await;
    for round in 0..150 {
        let mut dice = Dice::from_seed(7).fork_number(round);
        let (asked, sent) = (random_bytes(&mut dice, 9000), random_bytes(&mut dice, 40_000));
        let (request_framing, request_body) = framed(&mut dice, &asked);
        let (answer_framing, answer_body) = framed(&mut dice, &sent);
        let mut request_lines = random_lines(&mut dice);
        let mut answer_lines = random_lines(&mut dice);
        let place = dice.whole(0, request_lines.len() as u64) as usize;
        request_lines.insert(place, request_framing);
        let place = dice.whole(0, request_lines.len() as u64) as usize;
        request_lines.insert(place, "hOsT:  app.example:1".to_owned());
        let place = dice.whole(0, answer_lines.len() as u64) as usize;
        answer_lines.insert(place, answer_framing);

        let request_line = format!("POST /p%20q/{round}?a=%2F&b HTTP/1.1");
        let status_line = ["HTTP/1.1 200 OK", "HTTP/1.1 404 Not Here", "HTTP/1.1 418 "]
            [dice.whole(0, 2) as usize];
        let head =
            |first: &str, lines: &[String]| format!("{first}\r\n{}\r\n\r\n", lines.join("\r\n"));
        let answer_head = head(status_line, &answer_lines);
        script.lock().push((dice.fork("a"), [answer_head.as_bytes(), &answer_body].concat()));
        let request = [head(&request_line, &request_lines).as_bytes(), &request_body].concat();
        write_in_pieces(&mut client, &mut dice, &request).await;

        let (got_head, got_body) = soon(client.message()).await.unwrap();
        assert_eq!(got_head, answer_head, "round {round}");
        assert!(got_body == sent, "round {round}: {} of {} bytes", got_body.len(), sent.len());
        let (heard_head, heard_body) = heard.recv().await.unwrap();
        let host = format!("hOsT: {}", upstream.address);
        for line in &mut request_lines {
            if line.starts_with("hOsT") {
                line.clone_from(&host);
            }
        }
        assert_eq!(heard_head, head(&request_line, &request_lines), "round {round}");
        assert!(heard_body == asked, "round {round}");

        let call = bench.call().await;
        assert_eq!(call.ended, CallEnd::Complete, "round {round}");
        assert_eq!(call.bytes, sent.len() as u64, "round {round}");
    }
    assert_eq!(upstream.connections(), 1, "one connection serves them all");
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_is_whole() {
    let upstream = Upstream::start(|mut peer| async move {
        peer.message().await;
        peer.write("HTTP/1.1 200 OK\r\nX: 1\r\n\r\nall of").await;
        peer.write(" it").await;
    })
    .await;
    let mut bench = Bench::passing(upstream.address).await;
    let mut client = Peer::connect(bench.address).await;
    client.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let (answer, ended) = soon(client.rest()).await;
    assert_eq!(answer, "HTTP/1.1 200 OK\r\nX: 1\r\n\r\nall of it");
    assert!(ended.is_ok());
    assert_eq!(bench.call().await.ended, CallEnd::Complete);
}

#[tokio::test]
async fn answers_without_a_body_keep_their_heads() {
    for (request, answer) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 123\r\nX: 1\r\n\r\n"),
        ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\nX: 1\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 55\r\nETag: \"a\"\r\n\r\n"),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ("DELETE", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
    ] {
        let upstream = Upstream::answering(answer.as_bytes()).await;
        let mut bench = Bench::passing(upstream.address).await;
        let mut client = Peer::connect(bench.address).await;
        for _ in 0..2 {
            client.write(format!("{request} /x HTTP/1.1\r\nHost: x\r\n\r\n")).await;
            let head = soon(client.until(b"\r\n\r\n")).await.unwrap();
            assert_eq!(String::from_utf8(head).unwrap(), answer, "{request}");
            assert_eq!(bench.call().await.ended, CallEnd::Complete);
        }
        assert_eq!(upstream.connections(), 1, "{request} {answer}");
    }
}

#[tokio::test]
async fn a_request_without_a_body_gets_no_line_about_one() {
    let (told, mut heard) = mpsc::unbounded_channel();
    let upstream = Upstream::start(move |mut peer| {
        let told = told.clone();
        async move {
            while let Some((head, _)) = peer.message().await {
                told.send(head).unwrap();
                peer.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            }
        }
    })
    .await;
    let bench = Bench::start(
        &format!("http://{}/base/", upstream.address),
        Script::default(),
        <_>::default(),
    )
    .await;
    for (request, passed) in [
        ("GET /a HTTP/1.1\r\nHost: x\r\n", "GET /base/a HTTP/1.1\r\nHost: UP\r\n\r\n"),
        ("POST /a HTTP/1.1\r\nHost: x\r\n", "POST /base/a HTTP/1.1\r\nHost: UP\r\n\r\n"),
        (
            "PATCH http://other/b?c HTTP/1.1\r\nA: 1\r\nHost: x\r\n",
            "PATCH /base/b?c HTTP/1.1\r\nA: 1\r\nHost: UP\r\n\r\n",
        ),
        ("GET / HTTP/1.0\r\nA: 1\r\n", "GET /base/ HTTP/1.1\r\nA: 1\r\nHost: UP\r\n\r\n"),
        (
            "BREW /pot HTTP/1.1\r\nHost: x\r\nKeep-Alive: 5\r\nConnection: close, x-a\r\nX-A: 1\r\n",
            "BREW /base/pot HTTP/1.1\r\nHost: UP\r\n\r\n",
        ),
    ] {
        let mut client = Peer::connect(bench.address).await;
        client.write(format!("{request}\r\n")).await;
        soon(client.message()).await.unwrap();
        let head = heard.recv().await.unwrap();
        assert_eq!(head, passed.replace("UP", &upstream.address.to_string()));
    }
}

#[tokio::test]
async fn an_old_client_gets_no_chunks() {
    let upstream = Upstream::answering(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: 1\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    )
    .await;
    let bench = Bench::passing(upstream.address).await;
    let (answer, ended) = ask(bench.address, "GET / HTTP/1.0\r\n\r\n").await;
    assert!(ended.is_ok());
    assert_eq!(answer, "HTTP/1.0 200 OK\r\nX: 1\r\n\r\nabc");
}

#[tokio::test]
async fn pipelined_requests_keep_their_heads() {
    let heads = Arc::<Mutex<Vec<String>>>::default();
    let heard = Arc::clone(&heads);
    let upstream = Upstream::start(move |mut peer| {
        let heard = Arc::clone(&heard);
        async move {
            while let Some((head, _)) = peer.message().await {
                heard.lock().push(head);
                peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            }
        }
    })
    .await;
    let bench = Bench::passing(upstream.address).await;
    let mut client = Peer::connect(bench.address).await;
    let mut all = String::new();
    for number in 0..8 {
        write!(
            all,
            "PUT /{number} HTTP/1.1\r\nHost: x\r\nX-A: 1\r\nb: 2\r\nx-a: {number}\r\nContent-Length: {}\r\n\r\n{}",
            number * 100,
            "y".repeat(number * 100)
        )
        .unwrap();
    }
    client.write(all).await;
    for _ in 0..8 {
        assert_eq!(soon(client.message()).await.unwrap().1, b"ok");
    }
    for (number, head) in heads.lock().iter().enumerate() {
        assert!(head.starts_with(&format!("PUT /{number} ")), "{head}");
        assert!(head.contains(&format!("X-A: 1\r\nb: 2\r\nx-a: {number}\r\n")), "{head}");
    }
}

#[tokio::test]
async fn each_piece_is_forwarded_as_it_comes() {
    let (go, wait) = mpsc::unbounded_channel::<()>();
    let wait = Arc::new(tokio::sync::Mutex::new(wait));
    let upstream = Upstream::start(move |mut peer| {
        let wait = Arc::clone(&wait);
        async move {
            peer.message().await;
            peer.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
                .await;
            for number in 0..5 {
                wait.lock().await.recv().await;
                peer.write(format!("9\r\ndata: {number}\n\n\r\n")).await;
            }
            wait.lock().await.recv().await;
            peer.write("0\r\n\r\n").await;
        }
    })
    .await;
    let bench = Bench::passing(upstream.address).await;
    let mut client = Peer::connect(bench.address).await;
    client.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    soon(client.until(b"\r\n\r\n")).await.expect("the head comes before any piece");
    for number in 0..5 {
        go.send(()).unwrap();
        let piece = soon(client.until(b"\n\n\r\n")).await.unwrap();
        assert_eq!(piece, format!("9\r\ndata: {number}\n\n\r\n").as_bytes());
    }
    go.send(()).unwrap();
    assert_eq!(soon(client.until(b"0\r\n\r\n")).await.unwrap(), b"0\r\n\r\n");
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let bodies = Arc::<Mutex<Vec<u8>>>::default();
    let heard = Arc::clone(&bodies);
    let upstream = Upstream::start(move |mut peer| {
        let heard = Arc::clone(&heard);
        async move {
            *heard.lock() = peer.message().await.unwrap().1;
            peer.write("HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX-Sum: 7\r\n\r\n").await;
        }
    })
    .await;
    let bench = Bench::passing(upstream.address).await;
    let mut client = Peer::connect(bench.address).await;
    client
        .write("POST / HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nTrailer: x-in\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nz\r\n0\r\nx-in: 5\r\n\r\n")
        .await;
    let (head, body) = soon(client.message()).await.unwrap();
    assert!(head.contains("Trailer: X-Sum\r\n"), "{head}");
    assert_eq!(String::from_utf8(body).unwrap().to_lowercase(), "abx-sum: 7\r\n");
    assert_eq!(String::from_utf8(bodies.lock().clone()).unwrap(), "zx-in: 5\r\n");
}

#[tokio::test]
async fn expect_continue_is_the_upstreams_to_grant() {
    let granting = Arc::new(AtomicBool::new(true));
    let grants = Arc::clone(&granting);
    let upstream = Upstream::start(move |mut peer| {
        let grants = Arc::clone(&grants);
        async move {
            let head = peer.until(b"\r\n\r\n").await.unwrap();
            assert!(String::from_utf8(head).unwrap().contains("Expect: 100-continue\r\n"));
            if !grants.load(Ordering::SeqCst) {
                peer.write("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n").await;
                return;
            }
            peer.write("HTTP/1.1 100 Continue\r\n\r\n").await;
            assert_eq!(peer.until(b"body").await.unwrap(), b"body");
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        }
    })
    .await;
    let bench = Bench::passing(upstream.address).await;
    let request = "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    let mut client = Peer::connect(bench.address).await;
    client.write(request).await;
    let first = soon(client.until(b"\r\n\r\n")).await.unwrap();
    assert!(first.starts_with(b"HTTP/1.1 100 "));
    client.write("body").await;
    let second = soon(client.until(b"\r\n\r\n")).await.unwrap();
    assert!(second.starts_with(b"HTTP/1.1 200 "));

    granting.store(false, Ordering::SeqCst);
    let mut client = Peer::connect(bench.address).await;
    client.write(request).await;
    let only = soon(client.until(b"\r\n\r\n")).await.unwrap();
    assert!(only.starts_with(b"HTTP/1.1 417 "), "{}", String::from_utf8_lossy(&only));
}

#[tokio::test]
async fn interim_answers_come_before_the_answer() {
    let upstream = Upstream::answering(
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nB: 1\r\nb: 2\r\nContent-Length: 1\r\n\r\nx",
    )
    .await;
    let mut bench = Bench::passing(upstream.address).await;
    let mut client = Peer::connect(bench.address).await;
    client.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let (head, _) = soon(client.message()).await.unwrap();
    assert_eq!(head, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
    let (head, body) = soon(client.message()).await.unwrap();
    assert_eq!(head, "HTTP/1.1 200 OK\r\nB: 1\r\nb: 2\r\nContent-Length: 1\r\n\r\n");
    assert_eq!(body, b"x");
    assert_eq!(bench.call().await.status, Some(200));
}

#[tokio::test]
async fn an_upgrade_becomes_a_tunnel() {
    let upstream = Upstream::start(|mut peer| async move {
        let head = String::from_utf8(peer.until(b"\r\n\r\n").await.unwrap()).unwrap();
        assert!(head.contains("Connection: Upgrade\r\nUpgrade: echo\r\n"), "{head}");
        peer.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nearly ").await;
        while let Some(line) = peer.until(b"\n").await {
            peer.write(&line).await;
        }
    })
    .await;
    let mut bench = Bench::passing(upstream.address).await;
    let mut client = Peer::connect(bench.address).await;
    client
        .write("GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nfirst\n")
        .await;
    let head = String::from_utf8(soon(client.until(b"\r\n\r\n")).await.unwrap()).unwrap();
    assert_eq!(
        head,
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
    );
    assert_eq!(soon(client.until(b"\n")).await.unwrap(), b"early first\n");
    client.write("\0second\r\n\r\n\n").await;
    assert_eq!(soon(client.until(b"\r\n\r\n\n")).await.unwrap(), b"\0second\r\n\r\n\n");
    drop(client);
    let call = bench.call().await;
    assert_eq!((call.status, call.ended), (Some(101), CallEnd::Complete));
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_costs_nothing() {
    let served = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&served);
    let upstream = Upstream::start(move |mut peer| {
        let count = Arc::clone(&count);
        async move {
            // One answer, then closed when the next request comes: the keep-alive race.
            peer.message().await;
            count.fetch_add(1, Ordering::SeqCst);
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            peer.more().await.ok();
        }
    })
    .await;
    let bench = Bench::passing(upstream.address).await;
    let mut client = Peer::connect(bench.address).await;
    for _ in 0..10 {
        client.write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc").await;
        assert_eq!(soon(client.message()).await.unwrap().1, b"ok");
    }
    assert_eq!(served.load(Ordering::SeqCst), 10);
}

#[tokio::test]
async fn bad_requests_are_refused_and_others_served() {
    let upstream = Upstream::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let bench = Bench::passing(upstream.address).await;
    for bad in [
        "GET / HTTP/1.1\r\nno colon\r\n\r\n".to_owned(),
        "\u{0}\u{1}\u{2}\r\n\r\n".to_owned(),
        "GET /\r\n\r\n".to_owned(),
        format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(600 << 10)),
        format!("GET / HTTP/1.1\r\n{}\r\n", "A: 1\r\n".repeat(200)),
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_owned(),
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_owned(),
    ] {
        let mut client = Peer::connect(bench.address).await;
        let _ = tokio::io::AsyncWriteExt::write_all(&mut client.stream, bad.as_bytes()).await;
        let (answer, _) = soon(client.rest()).await;
        assert!(!answer.contains(" 200 "), "{} => {answer}", &bad[..bad.len().min(60)]);
    }
    let mut client = Peer::connect(bench.address).await;
    client.write("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n").await;
    assert!(soon(client.until(b"\r\n\r\n")).await.unwrap().starts_with(b"HTTP/1.1 405 "));
    // A head that never ends disturbs nobody.
    let mut slow = Peer::connect(bench.address).await;
    slow.write("GET / HTTP/1.1\r\nHos").await;
    let mut client = Peer::connect(bench.address).await;
    client.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(soon(client.message()).await.unwrap().1, b"ok");
}

#[tokio::test]
async fn an_unreachable_upstream_is_told_in_plain_words() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut bench = Bench::passing(free).await;
    let mut client = Peer::connect(bench.address).await;
    client.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let (head, body) = soon(client.message()).await.unwrap();
    assert!(head.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{head}");
    assert!(head.contains("x-brownout: upstream-error\r\n"), "{head}");
    let body = String::from_utf8(body).unwrap();
    assert_eq!(body, format!("brownout: upstream llm ({free}) refused the connection\n"));
    let call = bench.call().await;
    assert_eq!((call.status, call.ended), (Some(502), CallEnd::UpstreamFailed));
    // The connection stays of use.
    client.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(soon(client.message()).await.is_some());
}

#[tokio::test]
async fn draining_lets_an_answer_end_and_takes_no_more() {
    let (go, wait) = tokio::sync::oneshot::channel::<()>();
    let wait = Arc::new(Mutex::new(Some(wait)));
    let upstream = Upstream::start(move |mut peer| {
        let wait = wait.lock().take();
        async move {
            peer.message().await;
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab").await;
            wait.unwrap().await.unwrap();
            peer.write("cd").await;
        }
    })
    .await;
    let mut bench = Bench::passing(upstream.address).await;
    let idle = Peer::connect(bench.address).await;
    let mut client = Peer::connect(bench.address).await;
    client.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    soon(client.until(b"ab")).await.unwrap();
    let drained = tokio::spawn(bench.running.take().unwrap().drain(Duration::from_secs(20)));
    // The idle connection is closed; then nothing listens any more.
    let mut idle = idle;
    assert_eq!(soon(idle.rest()).await.0, "");
    assert!(tokio::net::TcpStream::connect(bench.address).await.is_err());
    go.send(()).unwrap();
    assert_eq!(soon(client.until(b"cd")).await.unwrap(), b"cd");
    assert!(soon(drained).await.unwrap(), "all have ended in time");
}
