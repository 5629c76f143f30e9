//! `serve` and what steers it: the command line, the admin API, leases, and who is kept out.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::app::free_port;
use super::command::{Ended, Folder, Started, brownout, ended};
use crate::proxy::kit::{Upstream, ask};
use crate::raw::{Raw, connect, connect_with, finish};

/// A `serve` at work.
pub(super) struct Served {
    pub(super) told: Value,
    folder: Folder,
    started: Started,
}

impl Served {
    pub(super) async fn start(text: &str, more: &[&str]) -> Self {
        let folder = Folder::new();
        let file = folder.write("brownout.yaml", text);
        let out = folder.at("out");
        let mut command =
            brownout(&["serve", &file, "--admin", "127.0.0.1:0", "--print", "json", "--out", &out]);
        command.args(more);
        let mut started = Started::new(command);
        let told = serde_json::from_str(&started.line().await).unwrap();
        Self { told, folder, started }
    }

    pub(super) fn address(&self, dependency: &str) -> SocketAddr {
        let url = self.told["dependencies"][dependency]["listen"].as_str().unwrap();
        url.strip_prefix("http://").unwrap().parse().unwrap()
    }

    pub(super) fn admin(&self) -> SocketAddr {
        self.told["admin"].as_str().unwrap().strip_prefix("http://").unwrap().parse().unwrap()
    }

    /// Calls a command against it.
    async fn cli(&self, arguments: &[&str]) -> Ended {
        let mut command = brownout(arguments);
        command.args(["--admin", &self.admin().to_string()]);
        ended(command).await
    }

    pub(super) async fn post(&self, path: &str, body: &str) -> Raw {
        finish(connect(self.admin(), "POST", path, body).await).await
    }

    pub(super) async fn get(&self, path: &str) -> Raw {
        finish(connect(self.admin(), "GET", path, "").await).await
    }

    /// Arms a fault.
    pub(super) async fn arm(&self, fault: &str) {
        let answer = self.post(&format!("/v1/faults/{fault}/arm"), "").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    pub(super) async fn disarm(&self, fault: &str) {
        assert_eq!(self.post(&format!("/v1/faults/{fault}/disarm"), "").await.status, 200);
    }

    /// The books of a fault, once so many exchanges are in them: an exchange's are closed a moment
    /// after its last byte.
    pub(super) async fn tally(&self, fault: &str, exchanges: u64) -> Value {
        loop {
            let status = self.get("/v1/status").await.json();
            let faults = status["faults"].as_array().unwrap();
            let tally = &faults.iter().find(|it| it["name"] == fault).unwrap()["tally"];
            let armed = tally["armed"].as_u64().unwrap();
            assert!(armed <= exchanges, "{tally}");
            if armed == exchanges {
                return tally.clone();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends it as an init system would.
    pub(super) async fn end(self) -> (Ended, Folder) {
        self.started.signal(Signal::TERM);
        let over = self.started.ended().await;
        over.expect(0, &[]);
        (over, self.folder)
    }
}

const TWO: &str = "version: 1\nname: sidecar\n\
    dependencies:\n  llm: { kind: openai, listen: 0, simulate: { model: instant } }\n  \
    vectors: { kind: qdrant, listen: 0, simulate: true }\n\
    faults:\n  err: { target: llm, error: { status: 503, as: overloaded } }\n  \
    gone: { target: vectors, outage: { mode: http_503 } }\n";

async fn models(served: &Served) -> u16 {
    finish(connect(served.address("llm"), "GET", "/v1/models", "").await).await.status
}

#[tokio::test]
async fn one_line_tells_every_address() {
    let served = Served::start(TWO, &["--seed", "9"]).await;
    assert_eq!(served.told["seed"], 9);
    assert_eq!(served.told["dependencies"].as_object().unwrap().len(), 2);
    assert_eq!(served.told["dependencies"]["vectors"]["kind"], "qdrant");
    let llm = format!("http://{}/v1", served.address("llm"));
    assert_eq!(served.told["env"]["OPENAI_BASE_URL"], llm);
    assert_eq!(served.told["env"]["QDRANT_URL"], format!("http://{}", served.address("vectors")));
    assert_eq!(models(&served).await, 200);
    let points = finish(connect(served.address("vectors"), "GET", "/collections", "").await).await;
    assert_eq!(points.status, 200);
    served.end().await;
}

#[tokio::test]
async fn the_command_line_arms_and_disarms() {
    let served = Served::start(TWO, &["--arm", "gone"]).await;
    served.cli(&["healthcheck"]).await.expect(0, &[]);
    let vectors = finish(connect(served.address("vectors"), "GET", "/collections", "").await).await;
    assert_eq!(vectors.status, 503, "armed from the start");
    assert_eq!(models(&served).await, 200);
    let stop = format!("everything off: brownout stop --admin {}", served.admin());
    served.cli(&["arm", "err"]).await.expect(0, &["armed err on llm · until disarmed", &stop]);
    assert_eq!(models(&served).await, 503);
    served
        .cli(&["status"])
        .await
        .expect(0, &["sidecar", "err on llm ARMED", "gone on vectors ARMED", "matched 1 · hit 1"]);
    served.cli(&["disarm", "err"]).await.expect(0, &["disarmed err · it hit 1 exchange"]);
    assert_eq!(models(&served).await, 200);
    let again = served.cli(&["arm", "err", "--percent", "0%", "--for", "1h"]).await;
    again.expect(0, &["ends by itself in 3600 s"]);
    assert_eq!(models(&served).await, 200);
    served.cli(&["stop"]).await.expect(0, &["everything is disarmed"]);
    let status = served.get("/v1/status").await.json();
    assert!(status["faults"].as_array().unwrap().iter().all(|it| it["armed"] == false));
    served.cli(&["arm", "er"]).await.expect(2, &["unknown fault `er`; did you mean `err`?"]);
    let journal = served.end().await.1.lines("out/decisions.jsonl");
    assert_eq!(journal.iter().filter(|line| line["hit"] == true).count(), 2, "{journal:?}");
}

#[tokio::test]
async fn leases_end_by_themselves() {
    let served = Served::start(TWO, &[]).await;
    let armed = Instant::now();
    served.cli(&["arm", "err", "--for", "600ms"]).await.expect(0, &["ends by itself"]);
    assert_eq!(models(&served).await, 503);
    while models(&served).await == 503 {
        assert!(armed.elapsed() < Duration::from_secs(20), "it never ended");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(armed.elapsed() >= Duration::from_millis(600));
    served.cli(&["status"]).await.expect(0, &["err on llm off"]);
    served.end().await;
}

#[tokio::test]
async fn strangers_cannot_steer_it() {
    let text = format!("{TWO}safety: {{ max_duration: 10m }}\n");
    let served = Served::start(&text, &[]).await;
    let arm = "/v1/faults/err/arm";
    for header in ["origin: http://evil.example\r\n", "sec-fetch-site: cross-site\r\n"] {
        let answer = finish(connect_with(served.admin(), "POST", arm, header, "").await).await;
        assert_eq!(answer.status, 403, "{header}");
    }
    let rebound = format!(
        "POST {arm} HTTP/1.1\r\nhost: rebound.example:80\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    );
    let (answer, _) = ask(served.admin(), &rebound).await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    for (path, body, status, words) in [
        (arm, r#"{"percent": 20, "fro": "5m"}"#, 400, "unknown field `fro`"),
        (arm, r#"{"for": 5}"#, 400, "5 what?"),
        (arm, r#"{"percent": 101}"#, 400, "percent"),
        (arm, r#"{"for": "11m"}"#, 400, "at most 10m"),
        (arm, "garbage", 400, "the body is not"),
        ("/v1/faults/x%2F..%2Ferr/arm", "", 404, "unknown fault"),
        ("/v1/nothing", "", 404, "no such path"),
    ] {
        let answer = served.post(path, body).await;
        assert_eq!(answer.status, status, "{path} {body}");
        assert!(answer.json()["error"].as_str().unwrap().contains(words), "{}", answer.text());
    }
    let large = served.post(arm, &json!({ "by": "x".repeat(3 << 20) }).to_string()).await;
    assert_eq!(large.status, 413);
    assert_eq!(served.get(arm).await.status, 405, "a link cannot arm");
    assert_eq!(models(&served).await, 200, "nothing was armed");
    served.end().await;
}

#[tokio::test]
async fn nothing_armed_and_zero_percent_pass_the_very_bytes() {
    const ANSWER: &[u8] =
        b"HTTP/1.1 200 Fine\r\nX-Case: Kept\r\nset-cookie: a=1\r\nSet-Cookie: b=2\r\n\
        Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n\
        6\r\ndata: \r\n3\r\n{}\n\r\n1\r\n\n\r\n0\r\n\r\n";
    let upstream = Upstream::answering(ANSWER).await;
    let text = format!(
        "version: 1\ndependencies: {{ llm: {{ kind: openai, listen: 0, upstream: \"http://{}\" }} }}\n\
         faults: {{ none: {{ target: llm, percent: 0, truncate: {{ after: 1 token }}, latency: {{ add: 9s }} }} }}\n",
        upstream.address
    );
    let served = Served::start(&text, &[]).await;
    let request = "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nconnection: close\r\ncontent-length: 13\r\n\r\n{\"model\":\"m\"}";
    for armed in [false, true] {
        if armed {
            served.arm("none").await;
        }
        let (answer, _) = ask(served.address("llm"), request).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let (theirs, their_body) =
            std::str::from_utf8(ANSWER).unwrap().split_once("\r\n\r\n").unwrap();
        assert_eq!(body.replace("\r\n", ""), their_body.replace("\r\n", ""), "armed: {armed}");
        let kept: Vec<&str> =
            head.lines().filter(|line| !line.to_lowercase().starts_with("connection:")).collect();
        assert_eq!(kept, theirs.lines().collect::<Vec<_>>(), "armed: {armed}");
    }
    let tally = served.tally("none", 1).await;
    assert_eq!((&tally["matched"], &tally["selected"]), (&json!(1), &json!(0)));
    served.end().await;
}

#[tokio::test]
async fn what_cannot_be_served_is_said_at_once() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let folder = Folder::new();
    let file =
        folder.write("taken.yaml", &TWO.replacen("listen: 0", &format!("listen: {port}"), 1));
    let free = folder.write("free.yaml", TWO);
    let busy = format!("127.0.0.1:{port}");
    let nobody = format!("127.0.0.1:{}", free_port());
    for (arguments, code, words) in [
        (vec!["serve", &file, "--admin", "127.0.0.1:0"], 3, "`llm` cannot listen on 127.0.0.1:"),
        (vec!["serve", &free, "--admin", &busy], 3, "the admin API cannot listen at 127.0.0.1:"),
        (vec!["serve", &free, "--admin", "0.0.0.0:0"], 2, "--allow-remote-admin"),
        (vec!["serve", &free, "--arm", "er"], 2, "did you mean `err`?"),
        (vec!["serve", &free, "--for", "5"], 2, "5 what? write 5ms or 5s, or `forever`"),
        (vec!["serve", &free, "--out", &format!("{file}/x")], 3, "cannot be made"),
        (vec!["sim", "--listen", &busy], 3, &busy),
        (vec!["status", "--admin", &nobody], 3, "no brownout answers at"),
        (vec!["healthcheck", "--admin", &nobody], 3, "no brownout answers at"),
    ] {
        let over = ended(brownout(&arguments)).await;
        over.expect(code, &[words]);
        assert!(over.err.starts_with("error: "), "{}", over.said());
    }
    let moved = ["serve", &file, "--admin", "127.0.0.1:0", "--random-ports", "--print", "json"];
    let mut moved = Started::new(brownout(&moved));
    assert!(moved.line().await.contains("\"llm\""));
    moved.signal(Signal::INT);
    moved.ended().await.expect(0, &[]);
}

#[tokio::test]
async fn beyond_loopback_a_run_can_only_be_looked_at() {
    let folder = Folder::new();
    let text = format!(
        "{TWO}workload: {{ app: \"http://127.0.0.1:1/\", arrival_rate: 1/s, duration: 60s }}\nexpect: [success_rate > 1%]\n"
    );
    let file = folder.write("brownout.yaml", &text);
    for (listen, status) in [("0.0.0.0:0", 403), ("127.0.0.1:0", 200)] {
        let mut run = brownout(&["run", &file, "--out", &folder.at("out"), "--admin", listen]);
        run.args(["--progress", "lines"]);
        let mut run = Started::new(run);
        let url =
            run.heard_after("admin").await.trim().replace("http://0.0.0.0", "http://127.0.0.1");
        let admin = url.strip_prefix("http://").unwrap().parse().unwrap();
        for path in ["/healthz", "/metrics", "/v1/status"] {
            assert_eq!(finish(connect(admin, "GET", path, "").await).await.status, 200);
        }
        let armed = finish(connect(admin, "POST", "/v1/faults/err/arm", "").await).await;
        assert_eq!(armed.status, status, "{listen}: {}", armed.text());
        run.signal(Signal::INT);
        run.ended().await.expect(130, &[]);
    }
}
