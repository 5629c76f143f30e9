//! One listener for many dependencies: by host, else by prefix, and untouched all the same.

use std::net::SocketAddr;
use std::sync::Arc;

use brownout::dialect;
use brownout::engine::{Arming, Engine};
use brownout::measure::{Observation, Recorder, Tap};
use brownout::net::RealClock;
use brownout::proxy::{Gateways, Listener, Options, Proxy, Running};

use super::kit::{Peer, Script, Upstream, ask, script_rule, soon};

/// An upstream that answers with its name, the target and the `Host` that it was asked for.
pub(super) async fn named(name: &'static str) -> Upstream {
    Upstream::start(move |mut peer| async move {
        while let Some((head, _)) = peer.message().await {
            let target = head.split(' ').nth(1).unwrap().to_owned();
            let host = head.lines().find(|line| line.to_lowercase().starts_with("host:")).unwrap();
            let body = format!("{name} {target} {}", host[5..].trim());
            let length = body.len();
            peer.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}")).await;
        }
    })
    .await
}

pub(super) fn listener(name: &str, upstream: SocketAddr, listen: bool) -> Listener {
    let openai = dialect::by_kind("openai").unwrap();
    let mut listener = Listener::new(name, openai, format!("http://{upstream}").parse().unwrap());
    if !listen {
        listener.listen = None;
    }
    listener
}

struct Gateway {
    address: SocketAddr,
    engine: Arc<Engine>,
    tap: Tap,
    _running: Running,
}

async fn gateway(listeners: Vec<Listener>, script: Script) -> Gateway {
    let (recorder, tap) = Recorder::channel(1000);
    let engine = Arc::new(Engine::new(1, vec![script_rule(script)], Recorder::none()));
    let shared = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let gateways = Gateways { shared, ..Gateways::default() };
    let options = Options { gateways, ..Options::default() };
    let clock = Arc::new(RealClock::new());
    let running =
        Proxy::start(listeners, Arc::clone(&engine), recorder, clock, options).await.unwrap();
    let (name, address) = running.gateway_addresses().next().unwrap();
    assert_eq!((name, running.addresses().count()), ("shared", 0));
    Gateway { address, engine, tap, _running: running }
}

#[tokio::test]
async fn requests_find_their_dependency_by_host_and_by_prefix_on_one_connection() {
    let (llm, vectors) = (named("llm").await, named("vectors").await);
    let named =
        Listener { hosts: vec!["*.openai.test".into()], ..listener("llm", llm.address, false) };
    let store =
        Listener { path: Some("/db/v".into()), ..listener("vectors", vectors.address, false) };
    let mut gateway = gateway(vec![named, store], Script::default()).await;
    let mut client = Peer::connect(gateway.address).await;
    for (host, target, answer) in [
        ("127.0.0.1", "/llm/v1/chat?x=%41", format!("llm /v1/chat?x=%41 {}", llm.address)),
        ("127.0.0.1", "/db/v", format!("vectors / {}", vectors.address)),
        ("eu.openai.test", "/db/v", format!("llm /db/v {}", llm.address)),
        (&vectors.address.to_string(), "/llm", format!("vectors /llm {}", vectors.address)),
    ] {
        client.write(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        let (_, body) = soon(client.message()).await.unwrap();
        assert_eq!(String::from_utf8(body).unwrap(), answer, "{host} {target}");
    }
    client.write("GET /nobody HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let (head, body) = soon(client.message()).await.unwrap();
    let body = String::from_utf8(body).unwrap();
    assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
    assert!(body.contains("llm              /llm, *.openai.test\n"), "{body}");
    assert!(body.contains("vectors          /db/v\n"), "{body}");
    client.write("GET /nobody HTTP/1.1\r\nHost: api.example.com\r\n\r\n").await;
    assert!(soon(client.message()).await.unwrap().0.starts_with("HTTP/1.1 421 "));
    let mut counts = Vec::new();
    for _ in 0..4 {
        match soon(gateway.tap.next()).await {
            Some(Observation::Call(call)) => counts.push(call.dependency.to_string()),
            other => panic!("no call but {other:?}"),
        }
    }
    assert_eq!(counts, ["llm", "vectors", "llm", "vectors"]);
}

#[tokio::test]
async fn what_passes_keeps_its_bytes_and_what_is_touched_sees_the_path_without_its_prefix() {
    let upstream = Upstream::start(|mut peer| async move {
        while let Some((head, _)) = peer.message().await {
            let length = head.len();
            peer.write(format!(
                "HTTP/1.1 200 Fine\r\nX-oDD:  a \r\nContent-Length: {length}\r\n\r\n"
            ))
            .await;
            peer.write(head).await;
        }
    })
    .await;
    let seen = Arc::new(parking_lot::Mutex::new(String::new()));
    let paths = Arc::clone(&seen);
    let script = Script::on_request(move |head, _| *paths.lock() = head.uri.to_string());
    let gateway = gateway(vec![listener("llm", upstream.address, false)], script).await;
    let request = "POST /llm/v1//x HTTP/1.1\r\nhOsT: localhost\r\nX-OdD: 1\r\nx-odd:2\r\n\
                   Content-Length: 0\r\nConnection: close\r\n\r\n";
    let expected = format!(
        "HTTP/1.1 200 Fine\r\nX-oDD:  a \r\nContent-Length: {{}}\r\n\r\nPOST /v1//x HTTP/1.1\r\n\
         hOsT: {}\r\nX-OdD: 1\r\nx-odd:2\r\nContent-Length: 0\r\n\r\n",
        upstream.address
    );
    let (whole, _) = ask(gateway.address, request).await;
    let (_, body) = whole.split_once("\r\n\r\n").unwrap();
    let expected = expected.replace("{}", &body.len().to_string());
    assert_eq!(
        whole.replace("connection: close\r\n", "").replace("Connection: close\r\n", ""),
        expected
    );
    gateway.engine.arm("test", Arming::default()).unwrap();
    let _ = ask(gateway.address, request).await;
    assert_eq!(*seen.lock(), "/v1//x");
}
