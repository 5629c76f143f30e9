//! What faults order, as the app sees it on the wire.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use brownout::dialect::Answer;
use brownout::exchange::{Event, Grain, Item};
use brownout::fault::Ending;
use brownout::measure::CallEnd;
use brownout::proxy::Options;
use http::StatusCode;
use tokio::time::Instant;

use super::kit::{Bench, Peer, SOON, Script, Upstream, ask, soon};

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

/// Five events in chunks, then the end.
async fn stream() -> Upstream {
    Upstream::start(|mut peer| async move {
        while peer.message().await.is_some() {
            let mut answer = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-A: 1\r\nb: 2\r\nx-a: 3\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
            for number in 0..5 {
                answer += &format!("9\r\ndata: {number}\n\n\r\n");
            }
            peer.write(answer + "0\r\n\r\n").await;
        }
    })
    .await
}

async fn json() -> Upstream {
    Upstream::answering(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\nX-A: 1\r\n\r\n{\"text\":\"ab\"}",
    )
    .await
}

fn cut_after(events: usize, ending: Ending) -> Script {
    Script::on_item(Grain::Event, move |index, item, out| {
        if index < events {
            out.send(item);
        } else {
            out.end(ending);
        }
    })
}

/// The head of the streamed answer as it must reach the app.
const STREAM_HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-A: 1\r\nb: 2\r\nx-a: 3\r\nTransfer-Encoding: chunked\r\n\r\n";

#[tokio::test]
async fn a_stream_is_cut_by_a_fin_before_its_terminator() {
    let upstream = stream().await;
    let mut bench = Bench::faulty(upstream.address, cut_after(2, Ending::Close)).await;
    let (got, ended) = ask(bench.address, REQUEST).await;
    assert_eq!(got, format!("{STREAM_HEAD}9\r\ndata: 0\n\n\r\n9\r\ndata: 1\n\n\r\n"));
    assert!(ended.is_ok());
    let call = bench.call().await;
    assert_eq!((call.ended, call.bytes), (CallEnd::Injected, 18));
    assert_eq!(call.faults, ["test".into()]);
    assert!(call.key.is_some());
}

#[tokio::test]
async fn a_stream_is_cut_by_a_reset_behind_all_its_bytes() {
    let upstream = stream().await;
    let bench = Bench::faulty(upstream.address, cut_after(2, Ending::Reset)).await;
    for _ in 0..20 {
        let (got, ended) = ask(bench.address, REQUEST).await;
        assert_eq!(got, format!("{STREAM_HEAD}9\r\ndata: 0\n\n\r\n9\r\ndata: 1\n\n\r\n"));
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn a_reset_loses_nothing_of_a_large_body() {
    const SIZE: usize = 4 << 20;
    let upstream = Upstream::start(|mut peer| async move {
        peer.message().await;
        peer.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 2 * SIZE)).await;
        peer.write("x".repeat(2 * SIZE)).await;
    })
    .await;
    let passed = Arc::<AtomicUsize>::default();
    let script = Script::on_item(Grain::Bytes, move |_, item, out| {
        let Item::Bytes(bytes) = item else { panic!("{item:?}") };
        let before = passed.fetch_add(bytes.len(), Ordering::SeqCst);
        let keep = SIZE.saturating_sub(before).min(bytes.len());
        out.send(Item::Bytes(bytes.slice(..keep)));
        if keep < bytes.len() {
            out.end(Ending::Reset);
        }
    });
    let bench = Bench::faulty(upstream.address, script).await;
    let (got, ended) = ask(bench.address, REQUEST).await;
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(got.matches('x').count(), SIZE);
}

#[tokio::test]
async fn a_stream_ends_cleanly_and_its_connection_stays() {
    let upstream = stream().await;
    let bench = Bench::faulty(upstream.address, cut_after(1, Ending::Clean)).await;
    let mut client = Peer::connect(bench.address).await;
    for _ in 0..3 {
        client.write(REQUEST).await;
        let (head, body) = soon(client.message()).await.unwrap();
        assert_eq!((head.as_str(), &body[..]), (STREAM_HEAD, &b"data: 0\n\n"[..]));
    }
}

#[tokio::test]
async fn a_hanging_stream_is_silent_until_the_client_goes() {
    let upstream = stream().await;
    let mut bench = Bench::faulty(upstream.address, cut_after(1, Ending::Hang)).await;
    let mut client = Peer::connect(bench.address).await;
    client.write(REQUEST).await;
    soon(client.until(b"data: 0\n\n\r\n")).await.unwrap();
    let more = tokio::time::timeout(Duration::from_millis(300), client.more()).await;
    assert!(more.is_err(), "neither bytes nor an end: {more:?}");
    drop(client);
    assert_eq!(bench.call().await.ended, CallEnd::Injected);
    // And a drain ends those that still hang.
    let mut client = Peer::connect(bench.address).await;
    client.write(REQUEST).await;
    soon(client.until(b"data: 0\n\n\r\n")).await.unwrap();
    assert!(soon(bench.running.take().unwrap().drain(SOON)).await);
    assert!(soon(client.rest()).await.1.is_ok());
}

#[tokio::test]
async fn an_exchange_ends_before_its_head() {
    for ending in [Ending::Close, Ending::Reset, Ending::Hang] {
        let upstream = stream().await;
        let script = Script::on_request(move |_, out| out.end(ending));
        let mut bench = Bench::faulty(upstream.address, script).await;
        let mut client = Peer::connect(bench.address).await;
        client.write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc").await;
        let rest = tokio::time::timeout(Duration::from_millis(500), client.rest()).await;
        match ending {
            Ending::Hang => assert!(rest.is_err()),
            Ending::Reset => {
                let (got, ended) = rest.unwrap();
                assert_eq!(got, "");
                assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset);
            }
            _ => {
                let (got, ended) = rest.unwrap();
                assert!(got.is_empty() && ended.is_ok());
            }
        }
        drop(client);
        let call = bench.call().await;
        assert_eq!((call.ended, call.upstream, call.status), (CallEnd::Injected, false, None));
        assert_eq!(upstream.connections(), 0);
    }
}

#[tokio::test]
async fn an_answer_is_made_up_without_the_upstream() {
    let upstream = stream().await;
    let script = Script::on_request(|_, out| {
        out.answer(Answer {
            status: StatusCode::TOO_MANY_REQUESTS,
            headers: [
                ("Content-Type", "application/json"),
                ("Retry-After", "20"),
                ("X-A", "1"),
                ("x-a", "2"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
            body: "{}".into(),
        });
    });
    let options = Options { mark_faults: true, ..Options::default() };
    let mut bench = Bench::start(&format!("http://{}", upstream.address), script, options).await;
    bench.arm();
    let mut client = Peer::connect(bench.address).await;
    client.write(REQUEST).await;
    let (head, body) = soon(client.message()).await.unwrap();
    assert_eq!(
        head,
        "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nRetry-After: 20\r\nX-A: 1\r\nx-a: 2\r\nx-brownout-fault: test\r\ncontent-length: 2\r\n\r\n"
    );
    assert_eq!(body, b"{}");
    let call = bench.call().await;
    assert_eq!(call.retry_after, Some(Duration::from_secs(20)));
    assert_eq!((call.ended, call.upstream, call.status), (CallEnd::Injected, false, Some(429)));
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn edits_of_heads_leave_the_rest_alone() {
    let upstream = Upstream::start(|mut peer| async move {
        let (head, _) = peer.message().await.unwrap();
        assert!(head.contains("\r\nX-B: 1\r\nAccept: a\r\nx-b: changed\r\n"), "{head}");
        assert!(
            head.contains("\r\nAccept-Encoding: gzip\r\n"),
            "what can be unpacked may come: {head}"
        );
        peer.write("HTTP/1.1 200 OK\r\nX-A: 1\r\nY: 2\r\nx-a: 3\r\nContent-Length: 2\r\n\r\nok")
            .await;
    })
    .await;
    let mut script = Script::on_item(Grain::Event, |_, item, out| out.send(item));
    script = script.with_heads(
        |head, _| {
            let first = head.headers.get("x-b").cloned().unwrap();
            head.headers.insert("x-b", first);
            head.headers.append("x-b", "changed".parse().unwrap());
        },
        |head, _| {
            head.headers.remove("y");
            head.headers.insert("x-new", "4".parse().unwrap());
        },
    );
    let bench = Bench::faulty(upstream.address, script).await;
    let mut client = Peer::connect(bench.address).await;
    client
        .write("GET / HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\nX-B: 1\r\nAccept: a\r\nx-b: 2\r\n\r\n")
        .await;
    let (head, body) = soon(client.message()).await.unwrap();
    assert_eq!(
        head,
        "HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a: 3\r\nContent-Length: 2\r\nx-new: 4\r\n\r\n"
    );
    assert_eq!(body, b"ok");
}

#[tokio::test]
async fn a_whole_answer_that_is_edited_announces_its_new_length() {
    let upstream = json().await;
    for (send, ending, length, left) in [
        ("{\"text\":\"a", Some(Ending::Clean), "10", "{\"text\":\"a"),
        ("{\"text\":\"longer than before\"}", None, "29", "{\"text\":\"longer than before\"}"),
        ("", None, "0", ""),
        ("{\"te", Some(Ending::Close), "13", "{\"te"),
    ] {
        let script = Script::on_item(Grain::Event, move |_, item, out| {
            assert!(matches!(item, Item::Message(_)), "{item:?}");
            out.wait(Duration::from_millis(5));
            out.send(Item::Message(send.into()));
            if let Some(ending) = ending {
                out.end(ending);
            }
        });
        let bench = Bench::faulty(upstream.address, script).await;
        let (got, ended) =
            ask(bench.address, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        assert!(ended.is_ok());
        assert!(
            got.contains(&format!("\r\ncontent-length: {length}\r\n").to_lowercase())
                || got.contains(&format!("\r\nContent-Length: {length}\r\n")),
            "{got}"
        );
        assert!(!got.contains("chunked"), "{got}");
        assert!(got.ends_with(&format!("\r\n\r\n{left}")), "{got}");
    }
}

#[tokio::test]
async fn an_announced_length_that_nothing_changes_stays() {
    let upstream = json().await;
    let bench = Bench::faulty(
        upstream.address,
        Script::on_item(Grain::Bytes, |_, item, out| out.send(item)),
    )
    .await;
    let mut client = Peer::connect(bench.address).await;
    for _ in 0..2 {
        client.write(REQUEST).await;
        let (head, body) = soon(client.message()).await.unwrap();
        assert_eq!(
            head,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\nX-A: 1\r\n\r\n"
        );
        assert_eq!(body, b"{\"text\":\"ab\"}");
    }
}

#[tokio::test]
async fn events_are_held_added_and_replaced() {
    let upstream = stream().await;
    let script = Script::on_item(Grain::Event, |index, item, out| match index {
        1 => {
            out.wait(Duration::from_millis(60));
            out.send(item);
        }
        2 => {}
        3 => out.send(Item::Event(Event::sse("three"))),
        _ => out.send(item),
    })
    .and_on_end(|out| out.send(Item::Event(Event::comment("bye"))));
    let mut bench = Bench::faulty(upstream.address, script).await;
    let mut client = Peer::connect(bench.address).await;
    client.write(REQUEST).await;
    soon(client.until(b"data: 0\n\n")).await.unwrap();
    let (rest, start) = (client.until(b"0\r\n\r\n"), Instant::now());
    let rest = String::from_utf8(soon(rest).await.unwrap()).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(40), "{:?}", start.elapsed());
    let order: Vec<_> = ["data: 1", "data: three", "data: 4", ": bye", "0\r\n\r\n"]
        .iter()
        .map(|part| rest.find(part).unwrap_or_else(|| panic!("no {part} in {rest}")))
        .collect();
    assert!(order.is_sorted(), "{rest}");
    assert!(!rest.contains("data: 2"), "{rest}");
    let call = bench.call().await;
    assert_eq!(call.ended, CallEnd::Complete);
    assert!(call.injected_delay >= Duration::from_millis(60), "{:?}", call.injected_delay);
}

#[tokio::test]
async fn an_effect_is_asked_again_after_its_wait() {
    let upstream = json().await;
    let asked = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&asked);
    let script = Script::on_request(move |_, out| {
        if count.fetch_add(1, Ordering::SeqCst) < 3 {
            out.again(Duration::from_millis(10));
        }
    });
    let mut bench = Bench::faulty(upstream.address, script).await;
    let mut client = Peer::connect(bench.address).await;
    let start = Instant::now();
    client.write(REQUEST).await;
    soon(client.message()).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(30));
    assert_eq!(asked.load(Ordering::SeqCst), 4);
    assert!(bench.call().await.injected_delay >= Duration::from_millis(30));
}

#[tokio::test]
async fn a_chunked_request_with_nothing_in_it_keeps_its_terminator() {
    let upstream = json().await;
    let bench = Bench::faulty(upstream.address, Script::default()).await;
    let mut peer = Peer::connect(bench.address).await;
    // The second one shows that nothing of the first was left on the way.
    for _ in 0..2 {
        peer.write("POST /v1/x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n")
            .await;
        let (head, _) = soon(peer.message()).await.unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn large_requests_stream_while_a_fault_is_armed() {
    const SIZE: usize = 5 << 20;
    let upstream = Upstream::start(|mut peer| async move {
        let (_, body) = peer.message().await.unwrap();
        let answer = format!("{}", body.len());
        peer.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}", answer.len()))
            .await;
    })
    .await;
    let script = Script::on_request(|_, out| out.wait(Duration::from_millis(20)));
    let bench = Bench::faulty(upstream.address, script).await;
    let mut client = Peer::connect(bench.address).await;
    client.write(format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {SIZE}\r\n\r\n")).await;
    client.write("x".repeat(SIZE)).await;
    assert_eq!(soon(client.message()).await.unwrap().1, SIZE.to_string().as_bytes());
}
