//! `serve` while its file changes, and while another one takes its place.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tokio::time::Instant;

use super::app::{App, experiment, free_port};
use super::command::{Ended, Folder, Started, brownout, gone};
use super::runs::run;
use crate::proxy::kit::{Upstream, ask};
use crate::raw::{Raw, connect, finish, until};

/// A `serve` of a file that can be written anew.
struct Server {
    told: Value,
    started: Started,
}

fn file(upstreams: &[(&str, SocketAddr)], rest: &str) -> String {
    let mut text = "version: 1\ndependencies:\n".to_owned();
    for (name, address) in upstreams {
        text.push_str(&format!(
            "  {name}: {{ kind: http, listen: 0, upstream: \"http://{address}\" }}\n"
        ));
    }
    text + rest
}

impl Server {
    async fn start(folder: &Folder, more: &[&str]) -> Self {
        let path = folder.at("brownout.yaml");
        let mut command = brownout(&["serve", &path, "--print", "json"]);
        if !more.contains(&"--admin") {
            command.args(["--admin", "127.0.0.1:0"]);
        }
        command.args(more);
        let mut started = Started::new(command);
        let told = serde_json::from_str(&started.line().await).unwrap();
        Self { told, started }
    }

    fn of(&self, pointer: &str) -> SocketAddr {
        let url = self.told.pointer(pointer).unwrap().as_str().unwrap();
        url.strip_prefix("http://").unwrap().parse().unwrap()
    }

    async fn post(&self, path: &str) -> Raw {
        finish(connect(self.of("/admin"), "POST", path, "").await).await
    }

    async fn status(&self) -> Value {
        finish(connect(self.of("/admin"), "GET", "/v1/status", "").await).await.json()
    }

    async fn end(self) -> Ended {
        self.started.signal(Signal::TERM);
        let over = self.started.ended().await;
        over.expect(0, &[]);
        over
    }
}

async fn get(address: SocketAddr, path: &str) -> Raw {
    finish(connect(address, "GET", path, "").await).await
}

async fn upstream(answer: &'static [u8]) -> Upstream {
    Upstream::answering(answer).await
}

const A: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na";
const B: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb";
const FAULTS: &str = "faults:\n  err: { target: llm, error: { status: 503 } }\n  \
                      old: { target: llm, latency: { add: 1ms } }\n";

#[tokio::test]
async fn sighup_and_the_admin_api_read_the_file_anew_whole_or_not_at_all() {
    let (a, b) = (upstream(A).await, upstream(B).await);
    let folder = Folder::new();
    folder.write("brownout.yaml", &file(&[("llm", a.address)], FAULTS));
    let mut server = Server::start(&folder, &["--arm", "old"]).await;
    let llm = server.of("/dependencies/llm/listen");
    assert_eq!(get(llm, "/").await.body, b"a");

    folder
        .write("brownout.yaml", &file(&[("llm", b.address)], "faults:\n  err: { targte: llm }\n"));
    let refused = server.post("/v1/reload").await;
    assert_eq!(refused.status, 422);
    let why = refused.json()["error"].as_str().unwrap().to_owned();
    assert!(why.contains("unknown effect `targte`") && why.contains("brownout.yaml:5:10"), "{why}");
    server.started.hear("the file is refused; what was loaded before stays").await;
    assert_eq!(get(llm, "/").await.body, b"a");

    let armed = server.post("/v1/faults/err/arm").await;
    assert_eq!(armed.status, 200);
    let more = "gateways: { shared: 0 }\nfaults:\n  err: { target: [llm, more], error: { status: 429 } }\n";
    folder.write("brownout.yaml", &file(&[("llm", b.address), ("more", a.address)], more));
    server.started.signal(Signal::HUP);
    let told = server.started.heard_after("the file was read anew: ").await;
    for change in [
        "dependency `llm` has changed",
        "dependency `more` is new",
        "gateway `shared` is new",
        "fault `err` has changed",
        "fault `old` is gone",
        "fault `old` was armed, and is off",
    ] {
        assert!(told.contains(change), "{change}: {told}");
    }
    assert_eq!(get(llm, "/").await.status, 429, "armed still, and as the new file has it");
    let status = server.status().await;
    assert_eq!(status["faults"].as_array().unwrap().len(), 1);
    let at = |url: &Value| url.as_str().unwrap().strip_prefix("http://").unwrap().parse().unwrap();
    assert_eq!(get(at(&status["dependencies"][1]["listen"]), "/").await.status, 429);
    let shared = at(&status["gateways"]["shared"]);
    assert_eq!(get(shared, "/more/x").await.status, 429);
    assert_eq!(server.post("/v1/stop").await.status, 200);
    assert_eq!(get(llm, "/").await.body, b"b");
    assert_eq!(get(shared, "/more/x").await.body, b"a");
    assert_eq!(get(shared, "/other").await.status, 421, "its `Host` is a name");
    let again = server.post("/v1/reload").await.json();
    assert_eq!(again["changed"], serde_json::json!([]));
    let hits = &server.status().await["faults"][0]["tally"]["hit"];
    assert!(hits.as_u64().unwrap() >= 3, "the tally goes on: {hits}");
    server.end().await;
}

#[tokio::test]
async fn a_watched_file_is_read_when_another_takes_its_place() {
    let (a, b) = (upstream(A).await, upstream(B).await);
    let folder = Folder::new();
    folder.write("brownout.yaml", &file(&[("llm", a.address)], ""));
    let mut server = Server::start(&folder, &["--watch"]).await;
    let llm = server.of("/dependencies/llm/listen");
    let beside = folder.write("brownout.yaml.tmp", &file(&[("llm", b.address)], ""));
    std::fs::rename(beside, folder.at("brownout.yaml")).unwrap();
    server.started.hear("dependency `llm` has changed").await;
    assert_eq!(get(llm, "/").await.body, b"b");
    // Gone, half written, and whole again.
    std::fs::remove_file(folder.at("brownout.yaml")).unwrap();
    tokio::time::sleep(Duration::from_millis(600)).await;
    folder.write("brownout.yaml", "version: 1\n");
    server.started.hear("the file is refused").await;
    folder.write("brownout.yaml", &file(&[("llm", a.address)], ""));
    server.started.hear("dependency `llm` has changed").await;
    assert_eq!(get(llm, "/").await.body, b"a");
    server.end().await;
}

#[tokio::test]
async fn gateways_alone_are_told_with_their_variables() {
    let folder = Folder::new();
    folder.write(
        "brownout.yaml",
        "version: 1\ndependencies:\n  llm: { kind: openai, simulate: { model: instant } }\n  \
         store: { kind: qdrant, simulate: true, path: /db }\ngateways: { shared: 4000 }\n",
    );
    let server = Server::start(&folder, &["--random-ports"]).await;
    let shared = server.told["gateways"]["shared"].as_str().unwrap().to_owned();
    assert_ne!(shared, "http://127.0.0.1:4000");
    assert_eq!(server.told["dependencies"]["llm"]["listen"], format!("{shared}/llm"));
    assert_eq!(server.told["env"]["OPENAI_BASE_URL"], format!("{shared}/llm/v1"));
    assert_eq!(server.told["env"]["QDRANT_URL"], format!("{shared}/db"));
    assert_eq!(get(server.of("/gateways/shared"), "/llm/v1/models").await.status, 200);
    assert_eq!(get(server.of("/gateways/shared"), "/db/collections").await.status, 200);
    server.end().await;
}

#[tokio::test]
async fn what_is_under_way_may_end_within_the_drain_timeout() {
    let slow = Upstream::start(|mut peer| async move {
        peer.message().await;
        peer.write("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\none").await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        peer.write("two").await;
    })
    .await;
    let folder = Folder::new();
    folder.write("brownout.yaml", &file(&[("llm", slow.address)], ""));
    let ended = async |timeout: &str| {
        let server = Server::start(&folder, &["--drain-timeout", timeout]).await;
        let llm = server.of("/dependencies/llm/listen");
        let mut client = crate::proxy::kit::Peer::connect(llm).await;
        client.write("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
        client.until(b"one").await.unwrap();
        let asked = Instant::now();
        server.end().await;
        (client.until(b"two").await.is_some(), asked.elapsed())
    };
    let (whole, _) = ended("60s").await;
    assert!(whole, "it had the time");
    let (whole, took) = ended("100ms").await;
    assert!(!whole && took < Duration::from_secs(2), "cut after {took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_process_takes_over_and_nobody_is_refused() {
    let a = upstream(A).await;
    let (folder, port) = (Folder::new(), free_port());
    let text = file(&[("llm", a.address)], FAULTS).replace("listen: 0", &format!("listen: {port}"));
    folder.write("brownout.yaml", &text);
    let socket = folder.at("handover.sock");
    let first = Server::start(&folder, &["--handover", &socket]).await;
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let llm = first.of("/dependencies/llm/listen");
    assert_eq!(first.post("/v1/faults/old/arm").await.status, 200);
    let over = Arc::new(AtomicBool::new(false));
    let asked = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let (over, asked) = (Arc::clone(&over), Arc::clone(&asked));
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    // A refusal, a reset or an early end would be no such answer.
                    let request = "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
                    let (answer, end) = ask(llm, request).await;
                    assert!(answer.ends_with("\r\n\r\na") && end.is_ok(), "{answer:?} {end:?}");
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let mut serving = first;
    for _ in 0..3 {
        let before = asked.load(Ordering::Relaxed);
        until("clients are served", || asked.load(Ordering::Relaxed) > before + 20).await;
        let admin = serving.of("/admin").to_string();
        let mut next = Server::start(&folder, &["--handover", &socket, "--admin", &admin]).await;
        assert_eq!(next.told["admin"], serving.told["admin"], "the admin API too");
        next.started.hear("`old` stays armed").await;
        let over = serving.started.ended().await;
        over.expect(0, &["another process serves from here on"]);
        serving = next;
    }
    let before = asked.load(Ordering::Relaxed);
    until("clients are served", || asked.load(Ordering::Relaxed) > before + 20).await;
    assert_eq!(serving.status().await["faults"][1]["armed"], true);
    over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    serving.end().await;
}

#[tokio::test]
async fn one_that_cannot_start_takes_nothing_over() {
    let a = upstream(A).await;
    let folder = Folder::new();
    folder.write("brownout.yaml", &file(&[("llm", a.address)], ""));
    let socket = folder.at("handover.sock");
    let mut first = Server::start(&folder, &["--handover", &socket]).await;
    let foreign = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = foreign.local_addr().unwrap().port();
    let text = file(&[("llm", a.address)], "").replace("listen: 0", &format!("listen: {taken}"));
    let other = folder.write("other.yaml", &text);
    let second = brownout(&["serve", &other, "--admin", "127.0.0.1:0", "--handover", &socket]);
    super::command::ended(second).await.expect(3, &["the port is taken"]);
    first.started.hear("does not serve; serving on").await;
    assert_eq!(get(first.of("/dependencies/llm/listen"), "/").await.body, b"a");
    let third = Server::start(&folder, &["--handover", &socket]).await;
    first.started.ended().await.expect(0, &[]);
    third.end().await;
}

#[tokio::test]
async fn a_hangup_ends_a_run_and_what_it_started() {
    let (folder, port) = (Folder::new(), free_port());
    let app = App::asking(port).await;
    let pid = folder.at("pid");
    let child = format!("echo $$ > {pid}; exec sleep 600");
    let text = experiment(&app.url(), port, "phases: [{ name: baseline, duration: 60s }]\n");
    let mut command = run(&folder, &text, &["--exec", &child]);
    command.args(["--progress", "lines"]);
    let running = Started::new(command);
    until("it runs", || std::fs::metadata(&pid).is_ok_and(|it| it.len() > 0)).await;
    running.signal(Signal::HUP);
    let over = running.ended().await;
    assert_eq!(over.code, Some(130), "{}", over.said());
    gone(folder.read("pid").trim().parse().unwrap()).await;
}
