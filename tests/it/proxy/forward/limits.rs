//! It is no open proxy.

use std::net::{IpAddr, SocketAddr};

use brownout::dialect;
use brownout::proxy::{Gateways, Listener, Options};

use super::super::kit::{Bench, Peer, Script, Upstream, ask, soon};
use super::{gateway, options, start};

#[tokio::test]
async fn link_local_metadata_mail_and_itself_are_refused() {
    let (_bench, gateway) = start("http://127.0.0.1:9", Script::default(), &[]).await;
    let port = gateway.port();
    let hosts = [
        "169.254.169.254:80".to_owned(),
        "2852039166:80".to_owned(),
        "[fe80::1]:80".to_owned(),
        "[fd00:ec2::254]:80".to_owned(),
        "[::ffff:169.254.169.254]:80".to_owned(),
        "100.100.100.200:80".to_owned(),
        "metadata.google.internal:80".to_owned(),
        "127.0.0.1:25".to_owned(),
        format!("127.0.0.1:{port}"),
        format!("localhost:{port}"),
        format!("0.0.0.0:{port}"),
    ];
    for host in &hosts {
        let connect = format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let get = format!("GET http://{host}/latest/meta-data HTTP/1.1\r\nHost: {host}\r\n\r\n");
        for request in [connect, get] {
            let mut client = Peer::connect(gateway).await;
            client.write(&request).await;
            let (head, body) = soon(client.message()).await.expect(&request);
            assert!(head.starts_with("HTTP/1.1 403 "), "{request}: {head}");
            let body = String::from_utf8(body).unwrap();
            assert!(body.contains("is not connected to"), "{body}");
        }
    }
}

/// An address of this machine that is not loopback, if it has one.
fn elsewhere() -> Option<IpAddr> {
    let probe = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent: this only asks which address would be used.
    probe.connect("192.0.2.1:9").ok()?;
    Some(probe.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback())
}

async fn open_to(clients: Vec<(IpAddr, u8)>, upstream: SocketAddr) -> (Bench, u16) {
    let gateways = Gateways {
        forward: Some(SocketAddr::from(([0, 0, 0, 0], 0))),
        clients,
        ..Gateways::default()
    };
    let options = Options { gateways, ..options() };
    let kind = dialect::by_kind("openai").unwrap();
    let listener = Listener::new("llm", kind, format!("http://{upstream}").parse().unwrap());
    let bench = Bench::of(listener, Script::default(), options).await;
    let port = gateway(&bench).port();
    (bench, port)
}

#[tokio::test]
async fn clients_of_other_machines_are_turned_away_unless_they_are_named() {
    let Some(ip) = elsewhere() else {
        eprintln!("SKIPPED: this machine has no address but loopback");
        return;
    };
    let upstream = Upstream::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await;
    let to = upstream.address;
    let request = format!("GET http://{to}/ HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n");
    let (_bench, port) = open_to(Vec::new(), to).await;
    let (got, ended) = ask(SocketAddr::from((ip, port)), &request).await;
    ended.unwrap();
    assert!(got.starts_with("HTTP/1.1 403 ") && got.contains("`clients`"), "{got}");
    assert_eq!(upstream.connections(), 0);
    let (got, _) = ask(SocketAddr::from(([127, 0, 0, 1], port)), &request).await;
    assert!(got.starts_with("HTTP/1.1 200 "), "{got}");

    let (_bench, port) = open_to(vec![(ip, 32)], to).await;
    let (got, _) = ask(SocketAddr::from((ip, port)), &request).await;
    assert!(got.starts_with("HTTP/1.1 200 "), "{got}");
    // This machine's own services are none of theirs, its dependencies apart.
    let private = Upstream::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno").await;
    let to = private.address;
    let request = format!("GET http://{to}/ HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n");
    let (got, _) = ask(SocketAddr::from((ip, port)), &request).await;
    assert!(got.starts_with("HTTP/1.1 403 ") && got.contains("another"), "{got}");
    assert_eq!(private.connections(), 0);
}
