//! Where and when faults act, on real sockets: selectors, turns, stickiness, the shadow.

use serde_json::json;

use super::control::Served;
use crate::raw::{connect_with, finish};

const LLM: &str = "version: 1\n\
    dependencies:\n  llm: { kind: openai, listen: 0, simulate: { model: instant } }\n\
    identify: { user: header x-user }\n";

/// The status of a chat.
async fn chat(served: &Served, headers: &str, body: &serde_json::Value) -> u16 {
    let to = served.address("llm");
    let path = "/v1/chat/completions";
    finish(connect_with(to, "POST", path, headers, &body.to_string()).await).await.status
}

fn saying(text: &str) -> serde_json::Value {
    json!({ "model": "m", "max_tokens": 5, "messages": [{ "role": "user", "content": text }] })
}

#[tokio::test]
async fn selectors_look_into_the_request() {
    let text = format!(
        "{LLM}faults:\n  gold: {{ target: llm, where: {{ json: {{ $.metadata.tier: gold, $.metadata.n: \"> 3\" }} }}, error: {{ status: 500 }} }}\n  \
         word: {{ target: llm, where: {{ prompt: {{ regex: \"(?i)order\\\\s+[0-9]+\" }} }}, error: {{ status: 502 }} }}\n  \
         short: {{ target: llm, where: {{ max_tokens: ..4, header: {{ x-team: r* }} }}, error: {{ status: 503 }} }}\n"
    );
    let served = Served::start(&text, &["--arm", "gold,word,short"]).await;
    let mut gold = saying("hello");
    gold["metadata"] = json!({ "tier": "gold", "n": 3 });
    assert_eq!(chat(&served, "", &gold).await, 200, "3 is not above 3");
    gold["metadata"]["n"] = json!(4);
    assert_eq!(chat(&served, "", &gold).await, 500);
    assert_eq!(chat(&served, "", &saying("where is Order 66?")).await, 502);
    assert_eq!(chat(&served, "", &saying("where is my order?")).await, 200);
    let mut short = saying("hello");
    short["max_tokens"] = json!(4);
    assert_eq!(chat(&served, "x-team: blue\r\n", &short).await, 200);
    assert_eq!(chat(&served, "x-team: red\r\n", &short).await, 503);
    served.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_few_are_exact_under_64_clients() {
    let text = format!(
        "{LLM}faults: {{ first: {{ target: llm, when: {{ first: 37 }}, error: {{ status: 503 }} }} }}\n"
    );
    let served = Served::start(&text, &["--arm", "first"]).await;
    let asked = (0..64).map(|client| {
        let served = &served;
        async move {
            let mut failed = 0;
            for number in 0..4 {
                let status = chat(served, "", &saying(&format!("{client} {number}"))).await;
                failed += u32::from(status == 503);
            }
            failed
        }
    });
    let failed: u32 = futures_util::future::join_all(asked).await.into_iter().sum();
    assert_eq!(failed, 37);
    let tally = served.tally("first", 256).await;
    assert_eq!(
        (tally["hit"].as_u64(), tally["out_of_turn"]["first"].as_u64()),
        (Some(37), Some(219))
    );
    served.end().await;
}

#[tokio::test]
async fn a_call_succeeds_after_so_many_failures() {
    let text = format!(
        "{LLM}faults: {{ flaky: {{ target: llm, when: {{ first: 2, per: call }}, error: {{ status: 503 }} }} }}\n"
    );
    let served = Served::start(&text, &["--arm", "flaky"]).await;
    for call in ["one", "two"] {
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(chat(&served, "", &saying(call)).await);
        }
        assert_eq!(seen, [503, 503, 200, 200], "{call}");
    }
    served.end().await;
}

#[tokio::test]
async fn stickiness_holds_over_reconnects() {
    let text = format!(
        "{LLM}faults: {{ some: {{ target: llm, percent: 50, sticky: user, error: {{ status: 503 }} }} }}\n"
    );
    let served = Served::start(&text, &["--arm", "some", "--seed", "3"]).await;
    let mut fates = Vec::new();
    for round in 0..3 {
        let mut fate = Vec::new();
        for user in 0..20 {
            let header = format!("x-user: u{user}\r\n");
            // A connection of its own and another question each time.
            fate.push(chat(&served, &header, &saying(&format!("{round}"))).await);
        }
        fates.push(fate);
    }
    assert!(fates.iter().all(|fate| *fate == fates[0]), "{fates:?}");
    let suffering = fates[0].iter().filter(|status| **status == 503).count();
    assert!((4..=16).contains(&suffering), "{suffering} of 20");
    served.end().await;
}

#[tokio::test]
async fn in_the_shadow_nothing_acts_and_all_is_told() {
    let text = format!("{LLM}faults: {{ err: {{ target: llm, error: {{ status: 503 }} }} }}\n");
    let served = Served::start(&text, &["--arm", "err", "--shadow"]).await;
    assert_eq!(chat(&served, "", &saying("hello")).await, 200);
    let tally = served.tally("err", 1).await;
    assert_eq!((tally["hit"].as_u64(), tally["would_hit"].as_u64()), (Some(0), Some(1)));
    let status = served.get("/v1/status").await.json();
    assert_eq!(status["faults"][0]["shadow"], true);
    let metrics = served.get("/metrics").await;
    let metrics = metrics.text();
    let line = "brownout_fault_exchanges_total{fault=\"err\",stage=\"would_hit\"} 1";
    assert!(metrics.contains(line), "{metrics}");
    let (_, folder) = served.end().await;
    let lines = folder.lines("out/decisions.jsonl");
    assert_eq!((&lines[0]["hit"], &lines[0]["would_hit"]), (&json!(false), &json!(true)));
}

#[tokio::test]
async fn the_ledger_tells_what_was_changed_and_how_long_it_was_held() {
    let text = format!(
        "{LLM}faults:\n  late: {{ target: llm, latency: {{ add: 60ms }} }}\n  \
         lost: {{ target: llm, drop: {{ percent: 50% }} }}\n"
    );
    let served = Served::start(&text, &["--arm", "late,lost"]).await;
    let mut body = saying("tell me a story");
    body["stream"] = json!(true);
    body["max_tokens"] = json!(40);
    for _ in 0..3 {
        assert_eq!(chat(&served, "", &body).await, 200);
    }
    let late = served.tally("late", 3).await;
    assert_eq!(
        (late["bytes_changed"].as_u64(), late["events_changed"].as_u64()),
        (Some(0), Some(0))
    );
    let held = |which: &str| late[which]["p50"].as_f64().unwrap();
    assert!((0.0599..0.0605).contains(&held("delay_wanted")), "{late}");
    assert!(held("delay_real") >= held("delay_wanted") - 0.001, "{late}");
    assert_eq!(late["percent_real"], 100.0);
    let lost = served.tally("lost", 3).await;
    let (bytes, events) = (&lost["bytes_changed"], &lost["events_changed"]);
    assert!(events.as_u64() > Some(10) && bytes.as_u64() > Some(500), "{lost}");
    assert!(lost["delay_wanted"].is_null(), "{lost}");
    served.end().await;
}
