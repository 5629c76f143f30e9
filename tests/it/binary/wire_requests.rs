//! What a raw client sees of each fault that acts before an answer: refusals, outages, delays. The
//! upstream is never called for what is made up.

use std::io::ErrorKind;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::control::Served;
use super::wire::{Model, asking, chat, post};
use crate::proxy::kit::soon;

async fn answer(served: &Served, dependency: &str, request: &str) -> (u16, String, String) {
    let mut peer = asking(served, dependency, request).await;
    let (head, body) = soon(peer.message()).await.expect("an answer");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head, String::from_utf8(body).unwrap())
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn search() -> String {
    post("/collections/documents/points/search", r#"{"vector":[1.0],"limit":2}"#)
}

#[tokio::test]
async fn errors_speak_the_providers_words() {
    // What each class is to a client: its status, and the provider's own code.
    let classes = [
        ("auth", 401, "invalid_api_key"),
        ("bad_request", 400, "invalid_request_error"),
        ("context_length", 400, "context_length_exceeded"),
        ("html", 502, "<html>"),
        ("not_found", 404, "not_found"),
        ("overloaded", 503, "overloaded"),
        ("quota", 429, "insufficient_quota"),
        ("rate_limit", 429, "rate_limit_exceeded"),
        ("server_error", 500, "server_error"),
        ("slow_down", 429, "slow_down"),
        ("timeout", 504, ""),
        ("unavailable", 503, ""),
    ];
    let fault = |(class, ..): &(&str, u16, &str)| {
        format!(
            "  {class}: {{ target: [llm, vectors], error: {{ as: {class}, retry_after: 7s }} }}\n"
        )
    };
    let model = Model::start().await;
    let served = model.behind(&classes.iter().map(fault).collect::<String>()).await;
    for (class, status, code) in classes {
        served.arm(class).await;
        for streams in [true, false] {
            let (got, head, body) = answer(&served, "llm", &chat(streams)).await;
            assert_eq!(got, status, "{class}: {head}");
            assert!(body.contains(code), "{class}: {body}");
            assert_eq!(header(&head, "retry-after"), Some("7"), "{class}: {head}");
            if class != "html" && !code.is_empty() {
                let body: Value = serde_json::from_str(&body).unwrap();
                assert!(body["error"]["message"].is_string(), "{class}: {body}");
            }
        }
        let (got, head, body) = answer(&served, "vectors", &search()).await;
        assert!((400..600).contains(&got), "{class}: {head}");
        if header(&head, "content-type") == Some("application/json") {
            let body: Value = serde_json::from_str(&body).unwrap();
            assert!(body["status"]["error"].is_string(), "{class}: {body}");
        }
        served.disarm(class).await;
    }
    assert_eq!(model.asked(), 0, "the upstream is not called for a made-up error");
    assert_eq!(answer(&served, "llm", &chat(false)).await.0, 200);
    assert_eq!(answer(&served, "vectors", &search()).await.0, 200);
    assert_eq!(model.asked(), 2);
    served.end().await;
}

#[tokio::test]
async fn a_rate_limit_tells_the_time_after_which_it_lets_pass() {
    let model = Model::start().await;
    let faults = "  limit: { target: llm, rate_limit: { requests_per_minute: 60, burst: 1, retry_after: accurate } }\n  \
        lying: { target: llm, rate_limit: { requests_per_minute: 1, burst: 1, retry_after: lying } }\n  \
        silent: { target: llm, rate_limit: { requests_per_minute: 1, burst: 1, retry_after: none, headers: none } }\n";
    let served = model.behind(faults).await;
    served.arm("limit").await;
    let (status, head, _) = answer(&served, "llm", &chat(true)).await;
    assert_eq!((status, header(&head, "x-ratelimit-limit-requests")), (200, Some("60")), "{head}");
    assert_eq!(header(&head, "x-ratelimit-remaining-requests"), Some("0"), "{head}");
    let (status, head, body) = answer(&served, "llm", &chat(false)).await;
    let refused = Instant::now();
    assert_eq!(status, 429, "{head}");
    assert!(body.contains("rate_limit_exceeded"), "{body}");
    let exact: u64 = header(&head, "retry-after-ms").expect("retry-after-ms").parse().unwrap();
    let rounded: u64 = header(&head, "retry-after").unwrap().parse().unwrap();
    assert!((1..=1000).contains(&exact) && rounded == 1, "{head}");
    let reset = header(&head, "x-ratelimit-reset-requests").unwrap();
    assert!(reset.ends_with('s'), "Go's spelling: {reset}");
    let (early, ..) = answer(&served, "llm", &chat(false)).await;
    if refused.elapsed() < Duration::from_millis(exact) {
        assert_eq!(early, 429, "before its time");
    }
    tokio::time::sleep_until(refused + Duration::from_millis(exact)).await;
    assert_eq!(answer(&served, "llm", &chat(false)).await.0, 200, "after the told time it passes");
    let books = served.tally("limit", 4).await;
    assert_eq!(books["reasons"]["within the limit"], books["let_go"]);
    assert_eq!((&books["impossible"], &books["let_go"]), (&json!(0), &json!(model.asked())));
    served.disarm("limit").await;

    for (fault, told) in [("lying", true), ("silent", false)] {
        served.arm(fault).await;
        assert_eq!(answer(&served, "llm", &chat(false)).await.0, 200);
        let before = model.asked();
        let (status, head, _) = answer(&served, "llm", &chat(false)).await;
        assert_eq!((status, model.asked()), (429, before), "{fault}");
        assert_eq!(header(&head, "retry-after").is_some(), told, "{fault}: {head}");
        if told {
            let wait: u64 = header(&head, "retry-after").unwrap().parse().unwrap();
            assert!(wait < 30, "a lie about a minute: {head}");
        } else {
            assert!(!head.to_lowercase().contains("ratelimit"), "{head}");
        }
        served.disarm(fault).await;
    }
    served.end().await;
}

#[tokio::test]
async fn outages_look_like_what_they_are() {
    let modes = ["refuse", "blackhole", "reset", "close", "http_503"];
    let fault = |mode: &&str| format!("  {mode}: {{ target: llm, outage: {{ mode: {mode} }} }}\n");
    let model = Model::start().await;
    let served = model.behind(&modes.iter().map(fault).collect::<String>()).await;
    let llm = served.address("llm");

    let mut kept = asking(&served, "llm", &chat(false)).await;
    soon(kept.message()).await.unwrap();
    served.arm("refuse").await;
    kept.write(chat(false)).await;
    assert_eq!(
        soon(kept.rest()).await.1.unwrap_err().kind(),
        ErrorKind::ConnectionReset,
        "kept alive"
    );
    let refused = async {
        // The listener is closed by a task of its own.
        loop {
            match TcpStream::connect(llm).await {
                Err(error) => return error.kind(),
                Ok(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    assert_eq!(soon(refused).await, ErrorKind::ConnectionRefused);
    served.disarm("refuse").await;
    let again = async {
        while TcpStream::connect(llm).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(again).await;
    assert_eq!(answer(&served, "llm", &chat(false)).await.0, 200, "it is back");
    let asked = model.asked();

    served.arm("blackhole").await;
    let mut peer = asking(&served, "llm", &chat(true)).await;
    let nothing = tokio::time::timeout(Duration::from_millis(400), peer.more()).await;
    assert!(nothing.is_err(), "something came: {nothing:?}");
    served.disarm("blackhole").await;

    for (mode, kind) in [("reset", Some(ErrorKind::ConnectionReset)), ("close", None)] {
        served.arm(mode).await;
        let (text, ended) = soon(asking(&served, "llm", &chat(true)).await.rest()).await;
        assert_eq!((text.as_str(), ended.err().map(|error| error.kind())), ("", kind), "{mode}");
        served.disarm(mode).await;
    }
    served.arm("http_503").await;
    let (status, _, body) = answer(&served, "llm", &chat(true)).await;
    assert_eq!(status, 503, "{body}");
    assert_eq!(answer(&served, "vectors", &search()).await.0, 200, "the other one is well");
    assert_eq!(model.asked(), asked + 1, "a dependency that is gone is not called");
    served.end().await;
}

#[tokio::test]
async fn a_saturated_machine_queues_and_refuses() {
    let model = Model::start().await;
    let faults = "  full: { target: llm, saturation: { slots: 1, queue_limit: 0, decode_tokens_per_second: 40, when_full: { status: 529, retry_after: 2s } } }\n  \
        queue: { target: llm, saturation: { slots: 1, decode_tokens_per_second: 40 } }\n";
    let served = model.behind(faults).await;
    served.arm("full").await;
    let mut first = asking(&served, "llm", &chat(true)).await;
    soon(first.until(b"word0")).await.unwrap();
    let (status, head, _) = answer(&served, "llm", &chat(true)).await;
    assert_eq!((status, header(&head, "retry-after")), (529, Some("2")), "{head}");
    assert_eq!(model.asked(), 1, "a refused request is not passed on");
    soon(first.until(b"[DONE]")).await.unwrap();
    assert_eq!(answer(&served, "llm", &chat(true)).await.0, 200, "its slot is free again");
    served.disarm("full").await;

    served.arm("queue").await;
    let from = Instant::now();
    let mut first = asking(&served, "llm", &chat(true)).await;
    soon(first.until(b"word0")).await.unwrap();
    let mut second = asking(&served, "llm", &chat(false)).await;
    soon(second.message()).await.unwrap();
    // Each answer takes 19 or 20 tokens at 40 a second, one after the other.
    assert!(from.elapsed() >= Duration::from_millis(2 * 19 * 25), "{:?}", from.elapsed());
    let books = served.tally("queue", 2).await;
    assert_eq!((&books["hit"], &books["impossible"]), (&json!(2), &json!(0)), "{books}");
    served.end().await;
}

#[tokio::test]
async fn latency_is_never_early() {
    let model = Model::start().await;
    let faults = "  late: { target: [llm, vectors], latency: { add: 250ms } }\n  \
        later: { target: llm, latency: { add: 250ms, at: before_head } }\n";
    let served = model.behind(faults).await;
    for (fault, dependency, request) in [
        ("late", "llm", chat(true)),
        ("late", "llm", chat(false)),
        ("late", "vectors", search()),
        ("later", "llm", chat(true)),
    ] {
        served.arm(fault).await;
        let from = Instant::now();
        assert_eq!(answer(&served, dependency, &request).await.0, 200);
        assert!(from.elapsed() >= Duration::from_millis(250), "{fault}: {:?}", from.elapsed());
        served.disarm(fault).await;
    }
    assert_eq!(served.tally("late", 3).await["hit"], 3);
    served.end().await;
}

#[tokio::test]
async fn how_clients_retry_is_counted() {
    let model = Model::start().await;
    let faults = "  refused: { target: llm, error: { as: auth } }\n  \
        busy: { target: llm, error: { as: overloaded, retry_after: 30s } }\n";
    let served = model.behind(faults).await;
    let attempt = |number: u32| {
        let marked = format!("\r\nx-stainless-retry-count: {number}\r\n");
        chat(false).replacen("\r\n", &marked, 1)
    };
    served.arm("refused").await;
    for number in 0..3 {
        assert_eq!(answer(&served, "llm", &attempt(number)).await.0, 401);
    }
    served.disarm("refused").await;
    served.arm("busy").await;
    for number in 0..2 {
        assert_eq!(answer(&served, "llm", &attempt(number)).await.0, 503);
    }
    // A call is counted a moment after its end.
    let counted = "brownout_calls_total{dependency=\"llm\",status=\"503\",ended=\"injected\"} 2\n";
    let metrics = loop {
        let metrics = served.get("/metrics").await.text();
        if metrics.contains(counted) {
            break metrics;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let count = |kind: &str| {
        let labels =
            format!("brownout_client_retries_total{{dependency=\"llm\",kind=\"{kind}\"}} ");
        let found = metrics.lines().find_map(|line| line.strip_prefix(&labels));
        found.map_or(0, |count| count.parse().unwrap())
    };
    assert_eq!((count("retry"), count("needless"), count("early")), (3, 2, 1), "{metrics}");
    assert_eq!(count("at_once"), 1, "the second retry came right behind the first");
    served.end().await;
}
