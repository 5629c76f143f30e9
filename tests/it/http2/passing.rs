//! What no fault touches: bytes, heads, trailers and codes arrive as they were sent.

use std::future::poll_fn;
use std::time::Duration;

use brownout::exchange::Event;
use brownout::measure::CallEnd;
use brownout::net::HttpVersion;
use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, Request, Response, Version};
use tokio::sync::mpsc;

use super::kit::{
    App, Bench, Peer, Upstream, begin_grpc, grpc, read, read_broken, reset_of, soon, status,
};
use crate::proxy::kit;

/// The lines of a map in their order.
fn lines(map: &HeaderMap) -> Vec<String> {
    map.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect()
}

#[tokio::test]
async fn an_exchange_arrives_as_it_was_sent() {
    let (seen, mut requests) = mpsc::unbounded_channel();
    let upstream = Upstream::start(move |(request, mut respond)| {
        let seen = seen.clone();
        async move {
            let (head, body) = request.into_parts();
            let (bytes, trailers) = read(body).await.unwrap();
            seen.send((head, bytes, trailers)).unwrap();
            let head = Response::builder()
                .status(207)
                .header("x-b", "1")
                .header("x-a", " two words ")
                .header("x-b", "2")
                .header("set-cookie", "k=v")
                .body(())
                .unwrap();
            let mut out = respond.send_response(head, false).unwrap();
            out.send_data(Bytes::from_static(b"first"), false).unwrap();
            out.send_data(Bytes::from_static(b"second"), false).unwrap();
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", "11".parse().unwrap());
            out.send_trailers(trailers).unwrap();
        }
    })
    .await;
    let bench = Bench::passing(upstream.address).await;
    let request = || {
        Request::put("http://app.test/a%2Fb?q=%20&x")
            .header("x-z", "1")
            .header("cookie", "a=1")
            .header("x-y", "2")
            .header("cookie", "b=2")
            .header("te", "trailers")
            .body(())
            .unwrap()
    };
    let mut all = Vec::new();
    for address in [upstream.address, bench.address] {
        let app = App::connect(address).await;
        let (answer, mut out) = app.begin(request()).await;
        out.send_data(Bytes::from_static(b"body"), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-end", "yes".parse().unwrap());
        out.send_trailers(trailers).unwrap();
        let answer = soon(answer).await.unwrap();
        let (head, body) = answer.into_parts();
        let (bytes, trailers) = read(body).await.unwrap();
        let (asked, asked_bytes, asked_trailers) = requests.recv().await.unwrap();
        assert_eq!(asked.version, Version::HTTP_2);
        all.push((
            (head.status, lines(&head.headers), bytes, trailers),
            (asked.method, lines(&asked.headers), asked_bytes, asked_trailers),
            asked.uri.path_and_query().unwrap().to_string(),
        ));
    }
    assert_eq!(all[0], all[1], "direct and through the proxy");
    assert_eq!(all[0].2, "/a%2Fb?q=%20&x");
}

#[tokio::test]
async fn both_ways_flow_at_once() {
    let upstream = Upstream::start(|(request, respond)| async move {
        let mut out = begin_grpc(respond);
        let mut body = request.into_body();
        while let Some(Ok(data)) = body.data().await {
            body.flow_control().release_capacity(data.len()).unwrap();
            out.send_data(data, false).unwrap();
        }
        out.send_trailers(status(0)).unwrap();
    })
    .await;
    let mut bench = Bench::passing(upstream.address).await;
    let app = App::connect(bench.address).await;
    let (answer, mut out) = app.begin(grpc("/echo.Echo/Chat")).await;
    let mut body = soon(answer).await.unwrap().into_body();
    for round in 0..20 {
        let message = Event::grpc(format!("round {round}")).raw;
        out.send_data(message.clone(), false).unwrap();
        let echoed = soon(body.data()).await.unwrap().unwrap();
        assert_eq!(echoed, message);
        body.flow_control().release_capacity(echoed.len()).unwrap();
    }
    out.send_data(Bytes::new(), true).unwrap();
    let (rest, trailers) = read(body).await.unwrap();
    assert_eq!((rest.len(), trailers), (0, Some(status(0))));
    assert_eq!(bench.recorded().await.ended, CallEnd::Complete);
}

#[tokio::test]
async fn an_app_that_cancels_cancels_upstream_and_the_connection_stays() {
    let (resets, mut seen) = mpsc::unbounded_channel();
    let upstream = Upstream::start(move |(_request, respond)| {
        let resets = resets.clone();
        async move {
            let mut out = begin_grpc(respond);
            out.send_data(Event::grpc("one").raw, false).unwrap();
            let reason = poll_fn(|cx| out.poll_reset(cx)).await;
            resets.send(reason.unwrap()).unwrap();
        }
    })
    .await;
    let mut bench = Bench::passing(upstream.address).await;
    let app = App::connect(bench.address).await;
    for _ in 0..3 {
        // With the request's body still open, and with it ended.
        let (answer, mut out) = app.begin(grpc("/a.B/C")).await;
        let mut answer = soon(answer).await.unwrap();
        soon(answer.body_mut().data()).await.unwrap().unwrap();
        out.send_reset(Reason::CANCEL);
        assert_eq!(soon(seen.recv()).await.unwrap(), Reason::CANCEL);
        assert_eq!(bench.recorded().await.ended, CallEnd::ClientGone);
        let mut answer = app.call("/a.B/C").await.unwrap();
        soon(answer.body_mut().data()).await.unwrap().unwrap();
        drop(answer);
        assert_eq!(soon(seen.recv()).await.unwrap(), Reason::CANCEL);
        assert_eq!(bench.recorded().await.ended, CallEnd::ClientGone);
    }
    assert_eq!(upstream.connected(), 1);
}

#[tokio::test]
async fn an_app_that_cancels_before_the_head_cancels_upstream() {
    let (resets, mut seen) = mpsc::unbounded_channel();
    let upstream = Upstream::start(move |(_request, mut respond)| {
        let resets = resets.clone();
        async move {
            resets.send(None).unwrap();
            let reason = poll_fn(|cx| respond.poll_reset(cx)).await;
            resets.send(Some(reason.unwrap())).unwrap();
        }
    })
    .await;
    let bench = Bench::passing(upstream.address).await;
    let app = App::connect(bench.address).await;
    let (answer, mut out) = app.begin(grpc("/a.B/C")).await;
    out.send_data(Event::grpc("x").raw, true).unwrap();
    assert_eq!(soon(seen.recv()).await.unwrap(), None, "it has arrived");
    drop((answer, out));
    assert_eq!(soon(seen.recv()).await.unwrap(), Some(Reason::CANCEL));
}

#[tokio::test]
async fn an_upstreams_reset_arrives_with_its_code_behind_what_came_before() {
    let upstream = Upstream::start(|(request, mut respond)| async move {
        let code: u32 = request.uri().path()[1..].parse().unwrap();
        let after_data = request.method() == "POST";
        if after_data {
            let mut out = respond.send_response(Response::new(()), false).unwrap();
            out.send_data(Bytes::from_static(b"so far"), false).unwrap();
            // So that the data is out: a reset takes back what is not.
            tokio::time::sleep(Duration::from_millis(30)).await;
            out.send_reset(Reason::from(code));
        } else {
            respond.send_reset(Reason::from(code));
        }
    })
    .await;
    let mut bench = Bench::passing(upstream.address).await;
    let app = App::connect(bench.address).await;
    for code in [1, 2, 7, 8, 11, 0xdead] {
        let url = format!("http://app.test/{code}");
        let answer = app.ask(Request::post(&url).body(()).unwrap(), "x").await.unwrap();
        let (bytes, reason) = soon(read_broken(answer.into_body())).await;
        assert_eq!((&bytes[..], reason), (&b"so far"[..], Some(Reason::from(code))));
        assert_eq!(bench.recorded().await.ended, CallEnd::UpstreamCut);
        let error = app.ask(Request::put(&url).body(()).unwrap(), "x").await.unwrap_err();
        assert_eq!(error.reason(), Some(Reason::from(code)));
        assert_eq!(bench.recorded().await.ended, CallEnd::UpstreamFailed);
    }
    assert_eq!(upstream.connected(), 1);
}

#[tokio::test]
async fn an_app_that_speaks_http1_reaches_an_upstream_that_speaks_http2() {
    let upstream = Upstream::start(|(request, mut respond)| async move {
        let (head, body) = request.into_parts();
        assert_eq!(head.uri.authority().unwrap().as_str(), head.headers["x-want"]);
        assert!(!head.headers.contains_key("connection") && !head.headers.contains_key("host"));
        assert!(!head.headers.contains_key("transfer-encoding"));
        let (bytes, _) = read(body).await.unwrap();
        let head = Response::builder().header("x-got", bytes.len()).body(()).unwrap();
        let mut out = respond.send_response(head, false).unwrap();
        out.send_data(Bytes::from(bytes), true).unwrap();
    })
    .await;
    let bench = Bench::speaking(upstream.address, HttpVersion::Http2).await;
    let mut app = Peer::connect(bench.address).await;
    for _ in 0..2 {
        let head = format!(
            "POST /x HTTP/1.1\r\nHost: app.test\r\nConnection: keep-alive\r\nX-Want: {}\r\n",
            upstream.address
        );
        app.write(format!("{head}Content-Length: 5\r\n\r\nhello")).await;
        let (head, body) = soon(app.message()).await.unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("x-got: 5"), "{head}");
        assert!(!head.contains("date"), "{head}");
        assert_eq!(body, b"hello");
    }
    app.write(format!(
        "POST /x HTTP/1.1\r\nHost: a\r\nX-Want: {}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        upstream.address
    ))
    .await;
    assert_eq!(soon(app.message()).await.unwrap().1, b"abc");
    assert_eq!(upstream.connected(), 1);
}

#[tokio::test]
async fn an_app_that_speaks_http2_reaches_an_upstream_that_speaks_http1() {
    let upstream = kit::Upstream::start(|mut peer| async move {
        while let Some((head, body)) = peer.message().await {
            let crumbs = head.contains("cookie: a=1; b=2\r\n");
            let chunked = head.contains("transfer-encoding: chunked\r\n");
            let text = format!("{crumbs} {chunked} {}", String::from_utf8(body).unwrap());
            let host = head.lines().filter(|line| line.to_lowercase().starts_with("host:")).count();
            assert_eq!(host, 1, "{head}");
            peer.write(format!(
                "HTTP/1.1 200 Fine\r\nKeep-Alive: timeout=5\r\nConnection: keep-alive\r\nX-One: 1\r\n\
                 Transfer-Encoding: chunked\r\nTrailer: x-t\r\n\r\n{:x}\r\n{text}\r\n0\r\nx-t: 9\r\n\r\n",
                text.len()
            ))
            .await;
        }
    })
    .await;
    let bench = Bench::speaking(upstream.address, HttpVersion::Http1).await;
    let app = App::connect(bench.address).await;
    let request = Request::post("http://app.test/x")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body(())
        .unwrap();
    let answer = app.ask(request, "hello").await.unwrap();
    let mut fields = lines(answer.headers());
    fields.sort_unstable();
    assert_eq!(fields, ["trailer: x-t", "x-one: 1"]);
    let (body, trailers) = read(answer.into_body()).await.unwrap();
    assert_eq!(String::from_utf8(body).unwrap(), "true true hello");
    assert_eq!(lines(&trailers.unwrap()), ["x-t: 9"]);
    let request = Request::get("http://app.test/x").body(()).unwrap();
    let mut send = app.send.clone().ready().await.unwrap();
    let (answer, _) = send.send_request(request, true).unwrap();
    let (body, _) = read(soon(answer).await.unwrap().into_body()).await.unwrap();
    assert_eq!(String::from_utf8(body).unwrap(), "false false ");
}

#[tokio::test]
async fn a_slow_app_slows_the_upstream() {
    const ALL: usize = 64 << 20;
    let (sent, counted) = tokio::sync::watch::channel(0usize);
    let sent = std::sync::Arc::new(sent);
    let upstream = Upstream::start(move |(_, mut respond)| {
        let sent = std::sync::Arc::clone(&sent);
        async move {
            let mut out = respond.send_response(Response::new(()), false).unwrap();
            let piece = Bytes::from(vec![b'x'; 64 << 10]);
            for _ in 0..ALL / piece.len() {
                out.reserve_capacity(piece.len());
                let mut left = piece.clone();
                while !left.is_empty() {
                    let Some(Ok(room)) = poll_fn(|cx| out.poll_capacity(cx)).await else { return };
                    let part = left.split_to(room.min(left.len()));
                    let length = part.len();
                    out.send_data(part, false).unwrap();
                    sent.send_modify(|all| *all += length);
                }
            }
            out.send_data(Bytes::new(), true).unwrap();
        }
    })
    .await;
    let bench = Bench::passing(upstream.address).await;
    let app = App::connect(bench.address).await;
    let request = Request::get("http://app.test/big").body(()).unwrap();
    let answer = app.ask(request.clone(), "").await.unwrap();
    // It does not read: what the upstream has sent comes to a stand.
    let stand = soon(async {
        loop {
            let before = *counted.borrow();
            tokio::time::sleep(Duration::from_millis(300)).await;
            if before > 0 && *counted.borrow() == before {
                return before;
            }
        }
    })
    .await;
    assert!(stand < 4 << 20, "{stand} bytes are under way to an app that reads nothing");
    // Others on the same connections are served meanwhile.
    let other = App::connect(bench.address).await;
    let mut second = other.ask(request, "").await.unwrap();
    soon(second.body_mut().data()).await.unwrap().unwrap();
    assert_eq!(upstream.connected(), 1);
    drop(second);
    let (bytes, _) = soon(read(answer.into_body())).await.unwrap();
    assert_eq!(bytes.len(), ALL);
}

#[tokio::test]
async fn a_slow_upstream_slows_the_app() {
    let (hold, wait) = tokio::sync::watch::channel(true);
    let upstream = Upstream::start(move |(request, mut respond)| {
        let mut wait = wait.clone();
        async move {
            wait.wait_for(|hold| !hold).await.unwrap();
            let (bytes, _) = read(request.into_body()).await.unwrap();
            let head = Response::builder().header("x-got", bytes.len()).body(()).unwrap();
            respond.send_response(head, true).unwrap();
        }
    })
    .await;
    let bench = Bench::passing(upstream.address).await;
    let app = App::connect(bench.address).await;
    let (answer, mut out) = app.begin(Request::post("http://app.test/").body(()).unwrap()).await;
    let mut sent = 0;
    let send = async {
        while sent < 16 << 20 {
            out.reserve_capacity(64 << 10);
            let room = poll_fn(|cx| out.poll_capacity(cx)).await.unwrap().unwrap();
            out.send_data(Bytes::from(vec![b'x'; room]), false).unwrap();
            sent += room;
        }
    };
    assert!(tokio::time::timeout(Duration::from_millis(700), send).await.is_err());
    assert!(sent < 3 << 20, "{sent} bytes went to an upstream that reads nothing");
    hold.send(false).unwrap();
    out.send_data(Bytes::new(), true).unwrap();
    let answer = soon(answer).await.unwrap();
    assert_eq!(answer.headers()["x-got"], sent.to_string());
}

#[tokio::test]
async fn interim_answers_arrive_before_the_answer() {
    let upstream = Upstream::start(|(request, mut respond)| async move {
        assert_eq!(request.headers()["expect"], "100-continue");
        tokio::time::sleep(Duration::from_millis(100)).await;
        let go_on = Response::builder().status(100).body(()).unwrap();
        respond.send_informational(go_on).unwrap();
        let (bytes, _) = read(request.into_body()).await.unwrap();
        let hint = Response::builder().status(103).header("link", "</a>").body(()).unwrap();
        respond.send_informational(hint).unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut out = respond.send_response(Response::new(()), false).unwrap();
        out.send_data(Bytes::from(bytes), true).unwrap();
    })
    .await;
    let bench = Bench::passing(upstream.address).await;
    let app = App::connect(bench.address).await;
    let request = Request::post("http://a/").header("expect", "100-continue").body(()).unwrap();
    let (mut answer, mut out) = app.begin(request).await;
    let told = soon(poll_fn(|cx| answer.poll_informational(cx))).await.unwrap().unwrap();
    assert_eq!(told.status(), 100);
    out.send_data(Bytes::from_static(b"now"), true).unwrap();
    let told = soon(poll_fn(|cx| answer.poll_informational(cx))).await.unwrap().unwrap();
    assert_eq!((told.status().as_u16(), &told.headers()["link"]), (103, &"</a>".parse().unwrap()));
    assert_eq!(read(soon(answer).await.unwrap().into_body()).await.unwrap().0, b"now");
}

#[tokio::test]
async fn http1_and_http2_share_a_port() {
    let one = kit::Upstream::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let bench = Bench::speaking(one.address, HttpVersion::Http1).await;
    let mut app = Peer::connect(bench.address).await;
    // A method that begins as the preface does, byte by byte.
    for byte in b"PRIX / HTTP/1.1\r\nHost: a\r\n\r\n" {
        app.write([*byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(soon(app.message()).await.unwrap().1, b"ok");
    let app = App::connect(bench.address).await;
    let answer = app.ask(Request::post("http://a/").body(()).unwrap(), "x").await.unwrap();
    assert_eq!(read(answer.into_body()).await.unwrap().0, b"ok");
}

#[tokio::test]
async fn requests_that_the_app_resets_are_over_at_once() {
    let upstream = Upstream::messages(1).await;
    let bench = Bench::passing(upstream.address).await;
    let app = App::connect(bench.address).await;
    let (_answer, mut out) = app.begin(grpc("/a.B/C")).await;
    out.send_data(Bytes::from_static(b"\0\0\0\0\x09half"), false).unwrap();
    out.send_reset(Reason::INTERNAL_ERROR);
    let answer = app.call("/a.B/C").await.unwrap();
    let (bytes, trailers) = read(answer.into_body()).await.unwrap();
    assert_eq!((bytes, trailers), (Event::grpc("message 0").raw.to_vec(), Some(status(0))));
    let (_answer, mut out) = app.begin(grpc("/a.B/C")).await;
    drop(_answer);
    assert!(tokio::time::timeout(Duration::from_millis(50), reset_of(&mut out)).await.is_err());
}
