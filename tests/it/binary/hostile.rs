//! Apps that answer anything and clients that send anything: each is told apart, none does harm.

use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::app::{experiment, free_port};
use super::command::{Folder, Started, ended};
use super::control::Served;
use super::runs::run;
use crate::proxy::kit::{Peer, Upstream, ask, soon};

/// A run against an app that answers every request so; what users saw, by class.
async fn seen(answer: &'static [u8], stays: bool) -> (Value, String) {
    let app = Upstream::start(move |mut peer| async move {
        let _ = peer.message().await;
        let _ = peer.stream.write_all(answer).await;
        if stays {
            std::future::pending::<()>().await;
        }
    });
    let app = format!("http://{}", app.await.address);
    let folder = Folder::new();
    let rest = "phases: [{ name: a, duration: 1s }]\nexpect: [success_rate >= 0%]\n";
    let text = experiment(&app, free_port(), rest).replace("timeout: 3s", "timeout: 500ms");
    let over = ended(run(&folder, &text, &["--json"])).await;
    over.expect(5, &[]);
    let results = over.json();
    let errors = results["errors"].to_string();
    assert!(!errors.contains("\"phase\":\"\""), "each request is of a phase: {errors}");
    (results["phases"][0]["outcomes"].clone(), errors)
}

#[tokio::test]
async fn apps_that_answer_anything_are_told_apart() {
    let cases: [(&'static [u8], bool, &str, &str); 9] = [
        (b"\x00\x01\xff\xfe garbage \r\n\r\n", false, "invalid", ""),
        (b"HTTP/1.1 200 OK\r\ncontent-le", false, "aborted", ""),
        (b"HTTP/1.1 200 OK\r\ncontent-le", true, "timeout", "500ms"),
        (b"", true, "timeout", "500ms"),
        (b"", false, "aborted", ""),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", false, "invalid", "no text"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{\"answer\"", false, "aborted", ""),
        (b"HTTP/1.1 302 Found\r\nlocation: /login\r\ncontent-length: 0\r\n\r\n", false, "invalid", "/login"),
        (b"HTTP/1.1 404 Not Found\r\ncontent-type: text/html\r\ncontent-length: 28\r\n\r\n<html><title>Gone</title>...", false, "http_4xx", "Gone"),
    ];
    let all = cases.map(|(answer, stays, outcome, words)| async move {
        let (outcomes, errors) = seen(answer, stays).await;
        let told = outcomes[outcome].as_u64().unwrap_or(0);
        let text = String::from_utf8_lossy(answer);
        assert!(told > 10, "{text:?} is {outcome}: {outcomes} {errors}");
        assert!(errors.contains(words), "{text:?}: {errors}");
    });
    let [a, b, c, d, e, f, g, h, i] = all;
    tokio::join!(a, b, c, d, e, f, g, h, i);
}

const CHAT: &str = "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}";

/// Requests that could be read in two ways, or in none.
fn doubtful() -> Vec<(String, &'static str)> {
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n";
    vec![
        (format!("{head}content-length: 4\r\ncontent-length: 5\r\n\r\nabcd"), "400"),
        (format!("{head}content-length: +4\r\n\r\nabcd"), "400"),
        (format!("{head}content-length: 99999999999999999999\r\n\r\nabcd"), "400"),
        (format!("{head}transfer-encoding: xchunked\r\n\r\n0\r\n\r\n"), "400"),
        (format!("{head}transfer-encoding : chunked\r\n\r\n0\r\n\r\n"), "400"),
        (format!("{head}x: a\r\n b\r\ncontent-length: 0\r\n\r\n"), "400"),
        (format!("{head}x: a\0b\r\ncontent-length: 0\r\n\r\n"), "400"),
        ("\x16\x03\x01\x02\0\x01\0\x01".to_owned(), "400"),
        (format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(1 << 20)), "414"),
        (format!("{head}x: {}\r\n\r\n", "a".repeat(1 << 20)), "431"),
        (format!("{head}{}\r\n", "x: y\r\n".repeat(10_000)), "431"),
        (format!("{head}transfer-encoding: chunked\r\n\r\nZZ\r\nab\r\n0\r\n\r\n"), ""),
        (format!("{head}transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n"), ""),
        (
            format!(
                "{head}transfer-encoding: chunked\r\n\r\n1;{}\r\nx\r\n0\r\n\r\n",
                "a".repeat(200_000)
            ),
            "",
        ),
    ]
}

#[tokio::test]
async fn clients_that_send_anything_are_refused_and_others_served() {
    let text = "version: 1\ndependencies: { llm: { kind: openai, listen: 0, simulate: { model: instant } } }\n\
        faults: { none: { target: llm, percent: 0, error: { status: 503 } } }\n";
    let served = Served::start(text, &[]).await;
    let llm = served.address("llm");
    let good = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{CHAT}",
        CHAT.len()
    );
    for armed in [false, true] {
        if armed {
            served.arm("none").await;
        }
        for (request, status) in doubtful() {
            let mut peer = Peer::connect(llm).await;
            // The proxy may refuse it before all of it is written.
            let _ = peer.stream.write_all(request.as_bytes()).await;
            let shown: String = request.chars().take(120).collect();
            let (answer, _) = soon(peer.rest()).await;
            match status {
                "" => assert!(!answer.contains(" 200 "), "{shown:?}: {answer}"),
                _ => assert!(
                    answer.starts_with(&format!("HTTP/1.1 {status} ")),
                    "{shown:?}: {answer}"
                ),
            }
        }
        let both = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{CHAT}\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n",
            CHAT.len()
        );
        let (answer, _) = ask(llm, &both).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(!answer.contains("smuggled"), "{answer}");
        let nested = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 100000\r\n\r\n{}",
            "[".repeat(100_000)
        );
        assert!(ask(llm, &nested).await.0.starts_with("HTTP/1.1 400 "));
        assert!(ask(llm, &good).await.0.starts_with("HTTP/1.1 200 OK"), "armed: {armed}");
    }
    served.end().await;
}

#[tokio::test]
async fn idle_and_slow_clients_keep_nobody_out() {
    let folder = Folder::new();
    let text = "version: 1\ndependencies: { llm: { kind: openai, listen: 0, simulate: { model: instant } } }\n";
    let file = folder.write("brownout.yaml", text);
    // Fewer files than connections: as many as the system allows are taken.
    let program = env!("CARGO_BIN_EXE_brownout");
    let script =
        format!("ulimit -Sn 200 && exec {program} serve {file} --admin 127.0.0.1:0 --print json");
    let mut command = Command::new("sh");
    command.args(["-c", &script]).kill_on_drop(true);
    let mut started = Started::new(command);
    let told: Value = serde_json::from_str(&started.line().await).unwrap();
    let url = told["dependencies"]["llm"]["listen"].as_str().unwrap();
    let llm = url.strip_prefix("http://").unwrap().parse().unwrap();
    let mut idle = Vec::new();
    for number in 0..500 {
        let mut peer = Peer::connect(llm).await;
        if number % 2 == 0 {
            peer.write("GET /v1/mod").await;
        }
        idle.push(peer);
    }
    let request = "GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    for _ in 0..10 {
        assert!(ask(llm, request).await.0.starts_with("HTTP/1.1 200 OK"));
    }
    let mut slow = idle.swap_remove(0);
    for byte in "els HTTP/1.1\r\nhost: x\r\n\r\n".bytes() {
        slow.write([byte]).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (head, _) = soon(slow.message()).await.unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK"), "a slow request is a request");
    started.signal(rustix::process::Signal::TERM);
    started.ended().await.expect(0, &[]);
    drop(idle);
}
