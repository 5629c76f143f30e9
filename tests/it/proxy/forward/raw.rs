//! CONNECT to dependencies that speak no HTTP: served as at their own listeners, with their faults and
//! in the books.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use brownout::dialect;
use brownout::engine::Rule;
use brownout::measure::CallEnd;
use brownout::net::ca::Authority;
use brownout::proxy::{Listener, Options};
use rustls::pki_types::ServerName;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use super::super::kit::{Bench, Upstream, ask, real_rule, soon};
use super::secured::{Private, trusting};
use super::tunnels::tunnel;
use super::{gateway, options};

/// A forward proxy for a dependency that speaks no HTTP, reached through it alone.
async fn start(kind: &str, upstream: &str, hosts: &[&str], rule: Rule) -> (Bench, SocketAddr) {
    let mut listener =
        Listener::new("llm", dialect::by_kind(kind).unwrap(), upstream.parse().unwrap());
    listener.hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
    let bench = Bench::with(listener, rule, options()).await;
    let address = gateway(&bench);
    (bench, address)
}

fn slow() -> Rule {
    real_rule("latency", json!({ "add": "300ms", "direction": "down" }))
}

/// Answers each line with itself.
async fn lines() -> Upstream {
    Upstream::start(|mut peer| async move {
        while let Some(line) = peer.until(b"\n").await {
            peer.write(line).await;
        }
    })
    .await
}

/// Answers each command with `+OK`.
async fn redis() -> Upstream {
    Upstream::start(|mut peer| async move {
        while peer.until(b"PING\r\n").await.is_some() {
            peer.write("+PONG\r\n").await;
        }
    })
    .await
}

const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

#[tokio::test]
async fn bytes_in_a_tunnel_to_a_dependency_pass_and_are_counted() {
    let upstream = lines().await;
    let (mut bench, gateway) =
        start("tcp", &format!("tcp://{}", upstream.address), &[], slow()).await;
    let mut client = tunnel(gateway, &upstream.address.to_string(), b"early\n").await;
    assert_eq!(soon(client.until(b"\n")).await.unwrap(), b"early\n");
    client.stream.shutdown().await.unwrap();
    soon(client.rest()).await.1.unwrap();
    let call = bench.call().await;
    assert_eq!((&*call.dependency, call.bytes, call.ended), ("llm", 6, CallEnd::Complete));
    assert!(call.faults.is_empty());
}

#[tokio::test]
async fn a_tunnel_that_is_open_feels_a_fault_that_is_armed_later() {
    let upstream = lines().await;
    let hosts = ["queue.example.com"];
    let (mut bench, gateway) =
        start("tcp", &format!("tcp://{}", upstream.address), &hosts, slow()).await;
    // By a host of the file, which no name server knows.
    let mut client = tunnel(gateway, "Queue.example.com:5672", b"one\n").await;
    assert_eq!(soon(client.until(b"\n")).await.unwrap(), b"one\n");
    bench.arm();
    let began = Instant::now();
    client.write("two\n").await;
    assert_eq!(soon(client.until(b"\n")).await.unwrap(), b"two\n");
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
    drop(client);
    let call = bench.call().await;
    assert_eq!(call.faults, ["test".into()]);
    assert!(call.injected_delay > Duration::from_millis(250), "{:?}", call.injected_delay);
    assert_eq!(bench.engine.tallies()[0].1.hit, 1);
}

#[tokio::test]
async fn commands_in_a_tunnel_are_requests_of_their_own() {
    let upstream = redis().await;
    let rule = real_rule("error", json!({ "as": "loading" }));
    let (mut bench, gateway) =
        start("redis", &format!("tcp://{}", upstream.address), &[], rule).await;
    let mut client = tunnel(gateway, &upstream.address.to_string(), PING).await;
    assert_eq!(soon(client.until(b"\r\n")).await.unwrap(), b"+PONG\r\n");
    assert_eq!(bench.call().await.status, Some(200));
    bench.arm();
    client.write(PING).await;
    let said = soon(client.until(b"\r\n")).await.unwrap();
    assert!(said.starts_with(b"-LOADING "), "{}", String::from_utf8_lossy(&said));
    let call = bench.call().await;
    assert_eq!((call.upstream, call.faults), (false, vec!["test".into()]));
    bench.engine.disarm("test");
    client.write(PING).await;
    assert_eq!(soon(client.until(b"\r\n")).await.unwrap(), b"+PONG\r\n");
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn a_raw_dependency_that_refuses_connections_is_not_tunnelled_to() {
    let upstream = lines().await;
    let rule = real_rule("outage", json!({ "mode": "refuse" }));
    let (bench, gateway) = start("tcp", &format!("tcp://{}", upstream.address), &[], rule).await;
    bench.arm();
    let to = upstream.address;
    let (got, ended) = ask(gateway, &format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n")).await;
    assert_eq!((got.as_str(), ended.unwrap_err().kind()), ("", ErrorKind::ConnectionReset));
    assert_eq!(upstream.connections(), 0);
    assert!(bench.engine.tallies()[0].1.hit >= 1);
}

#[tokio::test]
async fn tls_in_a_tunnel_ends_here_where_the_upstream_is_spoken_to_over_tls() {
    let upstream = Private::start().await;
    let dir = tempfile::tempdir().unwrap();
    let url = format!("tls://localhost:{}", upstream.port).parse().unwrap();
    let mut listener = Listener::new("llm", dialect::by_kind("tcp").unwrap(), url);
    listener.upstream_tls.ca_file = Some(upstream.ca_file().to_owned());
    let options = Options { ca_dir: Some(dir.path().join("ca")), ..options() };
    let mut bench = Bench::with(listener, slow(), options).await;
    bench.arm();
    let authority = Authority::open(Some(&dir.path().join("ca"))).unwrap().certificate_pem();
    let client = tunnel(gateway(&bench), &format!("localhost:{}", upstream.port), b"").await;
    let name = ServerName::try_from("localhost").unwrap();
    // It does not know the upstream's own certificate.
    let mut client = soon(trusting(&authority, &[]).connect(name, client.stream)).await.unwrap();
    let began = Instant::now();
    client.write_all(b"hello\r\n\r\n").await.unwrap();
    let mut said = vec![0; 5];
    while !said.ends_with(b"hello") {
        assert!(soon(client.read_buf(&mut said)).await.unwrap() > 0);
    }
    assert!(began.elapsed() >= Duration::from_millis(300));
    drop(client);
    assert_eq!(bench.call().await.faults, ["test".into()]);
}

#[tokio::test]
async fn other_tls_in_a_tunnel_goes_through_to_the_upstream() {
    let upstream = Private::start().await;
    let url = format!("tcp://127.0.0.1:{}", upstream.port);
    let (mut bench, gateway) = start("redis", &url, &[], slow()).await;
    bench.arm();
    let client = tunnel(gateway, &format!("127.0.0.1:{}", upstream.port), b"").await;
    let name = ServerName::try_from("localhost").unwrap();
    let began = Instant::now();
    let connector = trusting(&std::fs::read_to_string(upstream.ca_file()).unwrap(), &[]);
    let client = soon(connector.connect(name, client.stream)).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(300), "bytes of the handshake are late");
    drop(client);
    assert_eq!(bench.call().await.faults, ["test".into()]);
}
