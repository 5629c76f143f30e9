//! A planted key appears nowhere: no file, no output, no log, no metric, no status.

use std::time::Duration;

use tokio::process::Command;

use super::app::{App, KEY, free_port};
use super::command::{Folder, Started, brownout, ended};
use super::control::Served;
use crate::proxy::kit::Upstream;
use crate::raw::{connect_with, finish};

/// Another key, that stands in the environment.
const HIDDEN: &str = "Zx81planted0Qq55secretLmN42";

fn assert_clean(what: &str, text: &str) {
    for key in [KEY, HIDDEN, "planted"] {
        assert!(!text.contains(key), "{key} in {what}:\n{text}");
    }
}

fn in_the_dark(mut command: Command) -> Command {
    command.args(["-vv"]).env("OPENAI_API_KEY", KEY).env("APP_SECRET", HIDDEN);
    command.env("BROWNOUT_PROGRESS", "lines");
    command
}

#[tokio::test]
async fn a_key_shows_nowhere_in_a_run() {
    let (folder, port) = (Folder::new(), free_port());
    let app = App::asking(port).await;
    let text = format!(
        "version: 1\n\
         vars: {{ SECRET: \"${{APP_SECRET}}\" }}\n\
         dependencies:\n  llm: {{ kind: openai, listen: {port}, simulate: {{ model: instant }} }}\n  \
         other: {{ kind: http, listen: 0, upstream: \"http://127.0.0.1:1/${{SECRET}}\" }}\n\
         faults: {{ err: {{ target: llm, sticky: api_key, error: {{ status: 401, message: \"wrong key ${{SECRET}}\" }} }} }}\n\
         workload:\n  app: {}/echo\n  arrival_rate: 50/s\n  request:\n    headers: {{ x-api-key: \"${{SECRET}}\", authorization: \"Bearer {KEY}\" }}\n    \
         body: {{ message: \"${{prompt.text}}\", key: \"${{OPENAI_API_KEY}}\" }}\n\
         phases: [{{ name: storm, duration: 2s, faults: [err] }}]\n\
         min_samples: 5\nexpect: [success_rate >= 0%]\n",
        app.url()
    );
    let file = folder.write("brownout.yaml", &text);
    let mut command =
        brownout(&["run", &file, "--out", &folder.at("out"), "--admin", "127.0.0.1:0"]);
    command.args(["--set", &format!("workload.request.headers.x-token={HIDDEN}")]);
    command.args(["--exec", &format!("OPENAI_API_KEY={KEY} sleep 60")]);
    let mut running = Started::new(in_the_dark(command));
    let admin = running.heard_after("admin").await;
    running.hear("armed: err").await;
    let admin = admin.trim().strip_prefix("http://").unwrap().parse().unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    for path in ["/metrics", "/v1/status", "/v1/faults"] {
        let answer = finish(connect_with(admin, "GET", path, "", "").await).await;
        assert_eq!(answer.status, 200);
        assert_clean(path, &answer.text());
    }
    let over = running.ended().await;
    assert_eq!(over.code, Some(0), "{}", over.said());
    assert_clean("its output", &over.said());
    let results = folder.json("out/results.json");
    assert!(
        results["errors"].to_string().contains("wrong"),
        "errors are told: {}",
        results["errors"]
    );
    assert!(results["reproduce"].as_str().unwrap().contains("--exec"));
    let files = folder.files().into_iter().filter(|path| path.starts_with(folder.at("out")));
    assert_eq!(files.clone().count(), 4);
    for path in files {
        assert_clean(&path.display().to_string(), &std::fs::read_to_string(&path).unwrap());
    }
}

#[tokio::test]
async fn a_key_shows_nowhere_in_what_check_says() {
    let folder = Folder::new();
    let file = folder.write(
        "brownout.yaml",
        "version: 1\ndependencies: { llm: { kind: openai, listen: 0, upstream: \"${APP_SECRET}\" } }\n\
         faults: { err: { target: llm, error: { status: \"${OPENAI_API_KEY}\" } } }\n\
         workload: { app: \"http://127.0.0.1:1/?k=${APP_SECRET}\", arrival_rate: \"${APP_SECRET}\" }\n",
    );
    let out = folder.at("out");
    let over = ended(in_the_dark(brownout(&["check", &file, "--json", "--out", &out]))).await;
    over.expect(2, &["llm"]);
    assert_clean("its output", &over.said());
    assert_clean("check.json", &folder.read("out/check.json"));
}

#[tokio::test]
async fn a_key_shows_nowhere_in_a_proxy_whose_upstream_fails() {
    let gone = free_port();
    let garbage = Upstream::answering(b"sk-planted-7f3a9c2e5d8b41f6\r\n\r\n").await;
    let text = format!(
        "version: 1\ndependencies:\n  gone: {{ kind: openai, listen: 0, upstream: \"http://127.0.0.1:{gone}\" }}\n  \
         odd: {{ kind: qdrant, listen: 0, upstream: \"http://{}\" }}\n\
         faults: {{ slow: {{ target: [gone, odd], latency: {{ add: 1ms }} }} }}\n",
        garbage.address
    );
    let served = Served::start(&text, &["-vv", "--arm", "slow"]).await;
    let headers =
        format!("authorization: Bearer {KEY}\r\napi-key: {HIDDEN}\r\ncookie: k={KEY}\r\n");
    for name in ["gone", "odd"] {
        let path = format!("/v1/models?api-key={HIDDEN}");
        let body = format!("{{\"k\":\"{KEY}\"}}");
        let stream = connect_with(served.address(name), "POST", &path, &headers, &body).await;
        let answer = finish(stream).await;
        assert_eq!(answer.status, 502);
        assert_clean("the answer", &answer.text());
    }
    assert_clean("the metrics", &served.get("/metrics").await.text());
    let (over, folder) = served.end().await;
    assert_clean("its output", &over.said());
    assert_clean("the journal", &folder.read("out/decisions.jsonl"));
    assert!(!folder.lines("out/decisions.jsonl").is_empty());
}

#[tokio::test]
async fn a_crash_of_the_app_shows_no_environment() {
    let folder = Folder::new();
    let text = "version: 1\ndependencies: { llm: { kind: openai, listen: 0, simulate: true } }\n\
        workload: { app: \"http://127.0.0.1:1/\", arrival_rate: 1/s, duration: 60s }\nexpect: [success_rate > 1%]\n";
    let file = folder.write("brownout.yaml", text);
    let mut command = brownout(&["run", &file, "--out", &folder.at("out")]);
    command.args(["--exec", "sleep 0.2; kill -SEGV $$"]);
    let mut running = Started::new(in_the_dark(command));
    running.hear("app ").await;
    let over = running.ended().await;
    over.expect(3, &["signal: 11"]);
    assert_clean("its output", &over.said());
}
