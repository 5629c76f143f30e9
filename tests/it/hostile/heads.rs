//! Heads that two readers could take for two things, and heads without measure.

use super::{Scene, all};

/// A request and the status that refuses it.
fn corpus() -> Vec<(&'static str, Vec<u8>, u16)> {
    let post = |lines: &str, body: &str| {
        format!("POST /evil HTTP/1.1\r\nHost: h\r\n{lines}\r\n{body}").into_bytes()
    };
    let smuggled = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";
    let both = "Content-Length: 50\r\nTransfer-Encoding: chunked\r\n";
    let mut all: Vec<(&'static str, Vec<u8>, u16)> = vec![
        ("length and chunks", post(both, smuggled), 400),
        (
            "chunks and length",
            post("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", smuggled),
            400,
        ),
        ("two lengths", post("Content-Length: 5\r\nContent-Length: 0\r\n", "GET /smuggled"), 400),
        ("the same length twice", post("Content-Length: 4\r\nContent-Length: 4\r\n", "body"), 400),
        ("a list of lengths", post("Content-Length: 4, 4\r\n", "body"), 400),
        ("a signed length", post("Content-Length: +4\r\n", "body"), 400),
        ("a negative length", post("Content-Length: -4\r\n", "body"), 400),
        ("a length with a space", post("Content-Length: 4 0\r\n", "body"), 400),
        ("a length in hex", post("Content-Length: 0x4\r\n", "body"), 400),
        ("an empty length", post("Content-Length: \r\n", "body"), 400),
        ("a huge length", post("Content-Length: 99999999999999999999\r\n", "body"), 400),
        (
            "an old client with chunks",
            b"POST /evil HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
                .to_vec(),
            400,
        ),
        (
            "a bare line feed",
            b"POST /evil HTTP/1.1\r\nHost: h\r\nX: a\nContent-Length: 4\r\n\r\nbody".to_vec(),
            400,
        ),
        ("bare line feeds alone", b"GET /evil HTTP/1.1\nHost: h\n\n".to_vec(), 400),
        ("a bare carriage return", post("X: a\rContent-Length: 4\r\n", ""), 400),
        ("a NUL", post("X: a\0b\r\n", ""), 400),
        ("a NUL in a name", post("X\0: a\r\n", ""), 400),
        ("a NUL in the target", b"GET /evil\0 HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(), 400),
        ("a fold", post("X: a\r\n Content-Length: 4\r\n", ""), 400),
        ("a fold at once", b"GET /evil HTTP/1.1\r\n Host: h\r\nHost: h\r\n\r\n".to_vec(), 400),
        ("a space before a colon", post("Content-Length : 4\r\n", "body"), 400),
        ("a name with a space", post("Content Length: 4\r\n", "body"), 400),
        ("no colon", post("nonsense\r\n", ""), 400),
        ("no name", post(": x\r\n", ""), 400),
        ("two hosts", post("Host: other\r\n", ""), 400),
        ("a host with a path", b"GET /evil HTTP/1.1\r\nHost: h/evil\r\n\r\n".to_vec(), 400),
        ("a host with a user", b"GET /evil HTTP/1.1\r\nHost: a@h\r\n\r\n".to_vec(), 400),
        ("no host", b"GET /evil HTTP/1.1\r\n\r\n".to_vec(), 400),
        ("two spaces", b"GET  /evil HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(), 400),
        ("a space in the target", b"GET /evil x HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(), 400),
        ("a tab in the line", b"GET\t/evil HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(), 400),
        ("no version", b"GET /evil\r\nHost: h\r\n\r\n".to_vec(), 400),
        ("a version of its own", b"GET /evil HTTP/1.9\r\nHost: h\r\n\r\n".to_vec(), 505),
        ("a small version", b"GET /evil http/1.1\r\nHost: h\r\n\r\n".to_vec(), 400),
        (
            "a long line",
            format!("GET /evil{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(100_000)).into_bytes(),
            414,
        ),
        ("a long header line", post(&format!("X: {}\r\n", "y".repeat(100_000)), ""), 431),
        ("many header lines", post(&"X: y\r\n".repeat(10_000), ""), 431),
        ("some more header lines", post(&"X: y\r\n".repeat(200), ""), 431),
    ];
    for coding in [
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: \x0bchunked",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
        "Transfer-Encoding : chunked",
        "Transfer_Encoding: chunked\r\nTransfer-Encoding: chunk",
        "X: y\r\n Transfer-Encoding: chunked",
        "Transfer-Encoding:",
    ] {
        all.push(("an odd coding", post(&format!("{coding}\r\n"), smuggled), 400));
    }
    all
}

#[tokio::test]
async fn each_is_refused_with_a_reason_and_none_is_forwarded() {
    let scene = Scene::start().await;
    for entrance in &scene.entrances {
        for (name, request, status) in corpus() {
            let at = format!("{name} at {}", entrance.name);
            if name == "a tab in the line" && entrance.name.starts_with("tunnel") {
                // No HTTP at all: in a tunnel it goes where it was meant to go.
                continue;
            }
            let mut peer = entrance.open().await;
            // A server that refuses early may close before all is sent.
            let _ =
                tokio::io::AsyncWriteExt::write_all(&mut peer.stream, &entrance.written(&request))
                    .await;
            let got = all(&mut peer).await;
            assert!(got.starts_with(&format!("HTTP/1.1 {status} ")), "{at}: {got}");
            assert!(got.contains("brownout: the request is refused: "), "{at}: {got}");
            assert!(got.to_lowercase().contains("connection: close"), "{at}: {got}");
            let answers = got.matches("HTTP/1.1 4").count() + got.matches("HTTP/1.1 5").count();
            assert_eq!(answers, 1, "{at}: {got}");
        }
        scene.serves(entrance).await;
    }
    let seen = scene.witness.seen();
    assert!(!seen.contains("evil") && !seen.contains("smuggled"), "{seen}");
}

#[tokio::test]
async fn it_makes_no_difference_how_the_bytes_arrive() {
    let scene = Scene::start().await;
    let entrance = &scene.entrances[0];
    let picked = ["length and chunks", "a fold", "a bare line feed", "two hosts", "a NUL"];
    for (name, request, status) in corpus() {
        if !picked.contains(&name) {
            continue;
        }
        let mut peer = entrance.open().await;
        for piece in request.chunks(7) {
            if tokio::io::AsyncWriteExt::write_all(&mut peer.stream, piece).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let got = all(&mut peer).await;
        assert!(got.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {got}");
    }
    assert!(!scene.witness.seen().contains("evil"));
}

#[tokio::test]
async fn what_came_before_is_answered_first() {
    let scene = Scene::start().await;
    for entrance in &scene.entrances {
        let mut peer = entrance.open().await;
        let honest = entrance.written(b"GET /honest HTTP/1.1\r\nHost: h\r\n\r\n");
        let evil = entrance.written(b"GET /evil HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n");
        peer.write([honest.as_slice(), &evil, &honest].concat()).await;
        let got = all(&mut peer).await;
        let statuses: Vec<_> =
            got.match_indices("HTTP/1.1 ").map(|(at, _)| &got[at + 9..at + 12]).collect();
        assert_eq!(statuses, ["200", "400"], "{}: {got}", entrance.name);
    }
    assert!(!scene.witness.seen().contains("evil"));
}

#[tokio::test]
async fn behind_a_chunked_body_heads_are_read_as_strictly() {
    let scene = Scene::start().await;
    for entrance in &scene.entrances {
        let mut peer = entrance.open().await;
        let chunked = entrance.written(
            b"POST /honest HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
        );
        let evil = entrance.written(b"GET /evil HTTP/1.1\r\nHost: h\r\nX: a\nb: c\r\n\r\n");
        peer.write([chunked.as_slice(), &evil].concat()).await;
        let got = all(&mut peer).await;
        assert!(
            got.starts_with("HTTP/1.1 200 ") && got.contains("HTTP/1.1 400 "),
            "{}: {got}",
            entrance.name
        );
    }
    assert!(!scene.witness.seen().contains("evil"));
}

#[tokio::test]
async fn large_but_honest_heads_pass() {
    let scene = Scene::start().await;
    for entrance in &scene.entrances {
        let lines: String =
            (0..90).map(|number| format!("X-{number}: {}\r\n", "v".repeat(600))).collect();
        let mut peer = entrance.open().await;
        let request = format!("GET /honest HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
        peer.write(entrance.written(request.as_bytes())).await;
        let (head, _) = crate::proxy::kit::soon(peer.message()).await.unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{}: {head}", entrance.name);
        assert!(scene.witness.seen().contains(&lines), "{}", entrance.name);
    }
}
