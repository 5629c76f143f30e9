//! `serve` with listening sockets that another process has opened, as systemd does.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;
use tokio::process::Command;

use super::command::{Folder, Started, brownout};
use crate::proxy::kit::{Upstream, ask};

/// The command with this socket as its file descriptor 3, for this process or for another.
fn activated(arguments: &[&str], socket: TcpListener, name: &str, pid: &str) -> Command {
    let bare = brownout(&[]);
    let mut command = Command::new("/bin/sh");
    let script = format!("LISTEN_PID={pid} exec \"$@\" 3<&0 </dev/null");
    command.args(["-c", &script, "sh"]).arg(bare.as_std().get_program()).args(arguments);
    for (name, value) in bare.as_std().get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", name).kill_on_drop(true);
    command.stdin(Stdio::from(OwnedFd::from(socket)));
    command
}

fn socket() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

fn place(told: &Value, pointer: &str) -> SocketAddr {
    told.pointer(pointer).unwrap().as_str().unwrap().rsplit('/').next().unwrap().parse().unwrap()
}

/// A file with one dependency that listens there.
async fn file(listen: &str) -> (Folder, String) {
    let upstream =
        Upstream::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")
            .await;
    let folder = Folder::new();
    let text = format!(
        "version: 1\ndependencies:\n  llm: {{ kind: http, listen: '{listen}', upstream: 'http://{}' }}\n",
        upstream.address
    );
    folder.write("brownout.yaml", &text);
    let path = folder.at("brownout.yaml");
    (folder, path)
}

async fn end(started: Started) {
    started.signal(Signal::TERM);
    started.ended().await.expect(0, &[]);
}

#[tokio::test]
async fn a_socket_that_was_opened_for_us_is_served_by_name_and_by_address() {
    // Where the file leaves the port open a name decides.
    for (name, by_address) in [("llm", false), ("unknown", true)] {
        let (socket, address) = socket();
        let listen = if by_address { address.to_string() } else { "127.0.0.1:0".to_owned() };
        let (_folder, path) = file(&listen).await;
        // Whoever connects before we are there is not refused.
        let early =
            tokio::spawn(ask(address, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
        let arguments = ["serve", &path, "--admin", "127.0.0.1:0", "--print", "json"];
        let mut started = Started::new(activated(&arguments, socket, name, "$$"));
        let told: Value = serde_json::from_str(&started.line().await).unwrap();
        assert_eq!(place(&told, "/dependencies/llm/listen"), address, "{name}");
        let (got, _) = early.await.unwrap();
        assert!(got.ends_with("hi"), "{got}");
        end(started).await;
    }
}

#[tokio::test]
async fn the_admin_api_may_have_one_too() {
    let (socket, address) = socket();
    let (_folder, path) = file("127.0.0.1:0").await;
    let admin = address.to_string();
    let arguments = ["serve", &path, "--admin", &admin, "--print", "json"];
    let mut started = Started::new(activated(&arguments, socket, "admin", "$$"));
    let told: Value = serde_json::from_str(&started.line().await).unwrap();
    assert_eq!(place(&told, "/admin"), address);
    let (got, _) =
        ask(address, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    assert!(got.starts_with("HTTP/1.1 200 "), "{got}");
    end(started).await;
}

#[tokio::test]
async fn a_socket_for_another_process_is_left_alone_and_one_that_nobody_wants_is_told() {
    let (one, address) = socket();
    let (_folder, path) = file("127.0.0.1:0").await;
    let arguments = ["serve", &path, "--admin", "127.0.0.1:0", "--print", "json"];
    let mut started = Started::new(activated(&arguments, one, "llm", "1"));
    let told: Value = serde_json::from_str(&started.line().await).unwrap();
    assert_ne!(place(&told, "/dependencies/llm/listen"), address);
    end(started).await;

    let (other, address) = socket();
    let mut started = Started::new(activated(&arguments, other, "", "$$"));
    started.hear(&format!("systemd listens on {address}, and nothing in the file does")).await;
    end(started).await;
}
