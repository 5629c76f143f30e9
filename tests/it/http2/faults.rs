//! Faults on HTTP/2 and gRPC, as the library's client sees them.

use std::time::Duration;

use brownout::exchange::Event;
use brownout::measure::CallEnd;
use bytes::Bytes;
use h2::{Reason, RecvStream};
use http::{Request, Response};
use serde_json::json;
use tokio::time::Instant;

use super::kit::{App, Bench, Peer, Upstream, begin_grpc, read, read_broken, soon, status};
use crate::proxy::kit;

fn message(number: usize) -> Bytes {
    Event::grpc(format!("message {number}")).raw
}

fn told<'a>(answer: &'a Response<RecvStream>, name: &str) -> Option<&'a str> {
    answer.headers().get(name).map(|value| value.to_str().unwrap())
}

#[tokio::test]
async fn an_error_is_a_status_in_trailers_alone() {
    for (options, code, message) in [
        (
            json!({ "as": "rate_limit", "retry_after": "1500ms" }),
            "8",
            "Rate limiting exceeded: Read rate limit exceeded, retry later",
        ),
        (
            json!({ "status": 503 }),
            "14",
            "Shard temporarily unavailable: The replica set for shard 0 is overloaded",
        ),
        (json!({ "grpc_status": "DATA_LOSS" }), "15", "unrecoverable data loss"),
        (json!({ "grpc_status": 4, "message": "zu spät: 100%" }), "4", "zu sp%C3%A4t: 100%25"),
        (json!({ "status": 418, "body": { "error": { "message": "tea" } } }), "2", "tea"),
    ] {
        let upstream = Upstream::messages(1).await;
        let mut bench = Bench::faulty(upstream.address, &[("error", options.clone())]).await;
        let app = App::connect(bench.address).await;
        let answer = app.call("/qdrant.Points/Query").await.unwrap();
        assert!(answer.body().is_end_stream(), "{options}");
        assert_eq!(answer.status(), 200, "{options}");
        assert_eq!(told(&answer, "content-type"), Some("application/grpc"));
        assert_eq!(told(&answer, "grpc-status"), Some(code), "{options}");
        assert_eq!(told(&answer, "grpc-message"), Some(message), "{options}");
        if options.get("retry_after").is_some() {
            assert_eq!(told(&answer, "grpc-retry-pushback-ms"), Some("1500"));
        }
        assert_eq!(answer.headers().get("date"), None);
        assert_eq!(upstream.connected(), 0, "the upstream is not called");
        assert_eq!(bench.recorded().await.ended, CallEnd::Injected);
        assert_eq!(bench.tally().hit, 1);
    }
}

#[tokio::test]
async fn an_error_breaks_into_a_stream_of_messages() {
    let upstream = Upstream::messages(5).await;
    let options = json!({ "after": "2 events", "grpc_status": "UNAVAILABLE" });
    let mut bench = Bench::faulty(upstream.address, &[("error", options)]).await;
    let app = App::connect(bench.address).await;
    let answer = app.call("/a.B/C").await.unwrap();
    let (bytes, trailers) = soon(read(answer.into_body())).await.unwrap();
    assert_eq!(bytes, [message(0), message(1)].concat());
    let trailers = trailers.unwrap();
    assert_eq!(trailers["grpc-status"], "14");
    assert_eq!(trailers["grpc-message"], "the service is currently unavailable");
    assert_eq!(bench.recorded().await.ended, CallEnd::Injected);
}

#[tokio::test]
async fn a_cut_ends_a_call_in_each_way() {
    for (ending, code) in [
        (json!({ "ending": "rst_stream" }), Reason::INTERNAL_ERROR),
        (json!({ "ending": "rst_stream", "code": "ENHANCE_YOUR_CALM" }), Reason::ENHANCE_YOUR_CALM),
        (json!({ "ending": "rst_stream", "code": 57005 }), Reason::from(57005)),
    ] {
        let upstream = Upstream::messages(5).await;
        let mut options = ending.clone();
        options["after"] = "3 events".into();
        let mut bench = Bench::faulty(upstream.address, &[("truncate", options)]).await;
        let app = App::connect(bench.address).await;
        for _ in 0..2 {
            let answer = app.call("/a.B/C").await.unwrap();
            let (bytes, reason) = soon(read_broken(answer.into_body())).await;
            assert_eq!(bytes, [message(0), message(1), message(2)].concat(), "{ending}");
            assert_eq!(reason, Some(code), "{ending}");
            assert_eq!(bench.recorded().await.ended, CallEnd::Injected);
        }
        assert!(!app.ended.is_finished(), "the connection stays");
    }
}

#[tokio::test]
async fn a_clean_cut_has_a_status_and_one_without_its_end_has_none() {
    for (options, count, wants_status) in [
        (json!({ "after": "2 events" }), 2, true),
        (json!({ "after": "2 events", "ending": "no_done" }), 2, false),
        (json!({ "ending": "no_done" }), 4, false),
        (json!({ "after": "2 tokens" }), 2, true),
    ] {
        let upstream = Upstream::messages(4).await;
        let bench = Bench::faulty(upstream.address, &[("truncate", options.clone())]).await;
        let app = App::connect(bench.address).await;
        let answer = app.call("/a.B/C").await.unwrap();
        let (bytes, trailers) = soon(read(answer.into_body())).await.unwrap();
        let want: Vec<Bytes> = (0..count).map(message).collect();
        assert_eq!(bytes, want.concat(), "{options}");
        assert_eq!(trailers, wants_status.then(|| status(0)), "{options}");
        assert_eq!(bench.tally().hit, 1, "{options}");
    }
}

#[tokio::test]
async fn a_cut_in_bytes_is_exact() {
    let upstream = Upstream::messages(4).await;
    let options = json!({ "after": "20B", "ending": "rst_stream", "code": "CANCEL" });
    let bench = Bench::faulty(upstream.address, &[("truncate", options)]).await;
    let app = App::connect(bench.address).await;
    let answer = app.call("/a.B/C").await.unwrap();
    let (bytes, reason) = soon(read_broken(answer.into_body())).await;
    assert_eq!((bytes.len(), reason), (20, Some(Reason::CANCEL)));
}

/// A call that the fault breaks, and one that was open beside it on the same connection.
async fn broken_beside_another(ending: &str) -> (Vec<u8>, App, Bench) {
    let upstream = Upstream::start(|(request, respond)| async move {
        let mut out = begin_grpc(respond);
        let quiet = request.uri().path() == "/a.B/Quiet";
        read(request.into_body()).await.unwrap();
        for number in 0..5 {
            out.send_data(message(number), false).unwrap();
            if quiet {
                break;
            }
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
    })
    .await;
    let options = json!({ "after": "3 events", "ending": ending });
    let bench = Bench::faulty(upstream.address, &[("truncate", options)]).await;
    let app = App::connect(bench.address).await;
    let mut quiet = app.call("/a.B/Quiet").await.unwrap();
    soon(quiet.body_mut().data()).await.unwrap().unwrap();
    let answer = app.call("/a.B/C").await.unwrap();
    let (bytes, _) = soon(read_broken(answer.into_body())).await;
    let (_, _) = soon(read_broken(quiet.into_body())).await;
    (bytes, app, bench)
}

#[tokio::test]
async fn the_connection_ends_with_all_that_is_open_on_it() {
    let want = [message(0), message(1), message(2)].concat();
    let (bytes, app, mut bench) = broken_beside_another("goaway").await;
    assert_eq!(bytes, want);
    let ended = soon(app.ended).await.unwrap();
    assert!(ended.is_ok(), "GOAWAY with NO_ERROR is an end in good order: {ended:?}");
    for _ in 0..2 {
        assert_eq!(bench.recorded().await.ended, CallEnd::Injected);
    }
    let (bytes, app, _bench) = broken_beside_another("reset").await;
    assert_eq!(bytes, want);
    let error = soon(app.ended).await.unwrap().unwrap_err();
    assert_eq!(error.get_io().unwrap().kind(), std::io::ErrorKind::ConnectionReset);
    let (bytes, app, _bench) = broken_beside_another("close").await;
    assert_eq!(bytes, want);
    let ended = soon(app.ended).await.unwrap();
    assert!(
        ended.as_ref().err().is_none_or(|error| {
            error.get_io().is_some_and(|io| io.kind() != std::io::ErrorKind::ConnectionReset)
        }),
        "{ended:?}"
    );
}

#[tokio::test]
async fn an_outage_in_each_mode() {
    let upstream = Upstream::messages(1).await;
    let bench = |options| async move {
        let bench = Bench::faulty(upstream.address, &[("outage", options)]).await;
        let app = App::connect(bench.address).await;
        (bench, app)
    };
    let (_bench, app) = bench(json!({ "mode": "rst_stream" })).await;
    for _ in 0..2 {
        let error = app.call("/a.B/C").await.unwrap_err();
        assert_eq!(error.reason(), Some(Reason::REFUSED_STREAM));
    }
    let (_bench, app) = bench(json!({ "mode": "http_503" })).await;
    let answer = app.call("/a.B/C").await.unwrap();
    assert_eq!(told(&answer, "grpc-status"), Some("14"));
    let (_bench, app) = bench(json!({ "mode": "goaway" })).await;
    app.call("/a.B/C").await.unwrap_err();
    soon(app.ended).await.unwrap().unwrap();
    let (_bench, app) = bench(json!({ "mode": "reset" })).await;
    app.call("/a.B/C").await.unwrap_err();
    soon(app.ended).await.unwrap().unwrap_err();
    let (mut gone, app) = bench(json!({ "mode": "blackhole" })).await;
    let call = tokio::time::timeout(Duration::from_millis(300), app.call("/a.B/C")).await;
    assert!(call.is_err(), "nothing comes");
    assert_eq!(gone.recorded().await.ended, CallEnd::Injected);
}

#[tokio::test]
async fn frames_of_http2_are_impossible_on_http1() {
    let upstream =
        kit::Upstream::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    for (name, options) in [
        ("outage", json!({ "mode": "goaway" })),
        ("truncate", json!({ "after": "1B", "ending": "rst_stream" })),
        ("error", json!({ "grpc_status": "UNAVAILABLE" })),
    ] {
        let bench = Bench::faulty(upstream.address, &[(name, options)]).await;
        let mut app = Peer::connect(bench.address).await;
        app.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(soon(app.message()).await.unwrap().1, b"ok", "{name}");
        drop(app);
        let tally = bench.tally();
        assert_eq!((tally.hit, tally.impossible), (0, 1), "{name}: {tally:?}");
    }
}

#[tokio::test]
async fn latency_and_stalls_hold_a_call_and_not_its_neighbours() {
    let upstream = Upstream::messages(4).await;
    let faults = [
        ("latency", json!({ "add": "150ms" })),
        ("stall", json!({ "after": "2 events", "pause": "200ms" })),
    ];
    let mut bench = Bench::faulty(upstream.address, &faults).await;
    let app = App::connect(bench.address).await;
    let start = Instant::now();
    let both = futures_join(
        async { read(app.call("/a.B/C").await.unwrap().into_body()).await.unwrap() },
        async { read(app.call("/a.B/C").await.unwrap().into_body()).await.unwrap() },
    )
    .await;
    assert!(start.elapsed() >= Duration::from_millis(350), "{:?}", start.elapsed());
    for (bytes, trailers) in [both.0, both.1] {
        assert_eq!(bytes.len(), 4 * message(0).len());
        assert_eq!(trailers, Some(status(0)));
    }
    let call = bench.recorded().await;
    assert_eq!(call.ended, CallEnd::Complete);
    assert!(call.injected_delay >= Duration::from_millis(350));
}

async fn futures_join<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    tokio::join!(a, b)
}

#[tokio::test]
async fn a_rate_limit_answers_in_grpc() {
    let upstream = Upstream::messages(1).await;
    let options = json!({ "requests_per_minute": 1, "burst": 1 });
    let bench = Bench::faulty(upstream.address, &[("rate_limit", options)]).await;
    let app = App::connect(bench.address).await;
    let first = app.call("/a.B/C").await.unwrap();
    assert_eq!(read(first.into_body()).await.unwrap().1, Some(status(0)));
    let second = app.call("/a.B/C").await.unwrap();
    assert_eq!(told(&second, "grpc-status"), Some("8"));
    assert!(told(&second, "grpc-retry-pushback-ms").is_some(), "{:?}", second.headers());
}

#[tokio::test]
async fn plain_http2_gets_plain_answers() {
    let upstream = Upstream::messages(1).await;
    let options = json!({ "status": 503, "as": "overloaded", "retry_after": "2s" });
    let bench = Bench::faulty(upstream.address, &[("error", options)]).await;
    let app = App::connect(bench.address).await;
    let request = Request::post("http://app.test/collections/c/points/query").body(()).unwrap();
    let answer = app.ask(request, "{}").await.unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(told(&answer, "retry-after"), Some("2"));
    assert_eq!(answer.headers().get("date"), None);
    let (bytes, _) = read(answer.into_body()).await.unwrap();
    assert!(bytes.starts_with(br#"{"status":{"error":"#), "{bytes:?}");
    let request = Request::head("http://app.test/").body(()).unwrap();
    let answer = app.ask(request, "").await.unwrap();
    assert_eq!(answer.status(), 503);
    assert!(read(answer.into_body()).await.unwrap().0.is_empty(), "HEAD has no body");
}
