//! CONNECT, to dependencies and to others.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::kit::{Bench, Peer, Script, Upstream, ask, soon};
use super::start;

/// A client that has its tunnel.
pub(super) async fn tunnel(gateway: std::net::SocketAddr, to: &str, early: &[u8]) -> Peer {
    let mut client = Peer::connect(gateway).await;
    let head =
        format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\nProxy-Connection: Keep-Alive\r\n\r\n");
    client.write([head.as_bytes(), early].concat()).await;
    let head = soon(client.until(b"\r\n\r\n")).await.unwrap();
    assert_eq!(String::from_utf8(head).unwrap(), "HTTP/1.1 200 OK\r\n\r\n");
    client
}

async fn proxy() -> (Bench, std::net::SocketAddr) {
    start("http://127.0.0.1:9", Script::default(), &[]).await
}

/// Sends back all that comes, and ends when the other side does.
async fn echo() -> Upstream {
    Upstream::start(|mut peer| async move {
        let (mut read, mut write) = peer.stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
        let _ = write.shutdown().await;
    })
    .await
}

#[tokio::test]
async fn bytes_go_both_ways_and_early_ones_are_kept() {
    let upstream = echo().await;
    let (_bench, gateway) = proxy().await;
    let early = b"\x16\x03early\0";
    let mut client = tunnel(gateway, &upstream.address.to_string(), early).await;
    let many: Vec<u8> = (0..3_000_000u32).map(|number| ((number * 7) >> 3) as u8).collect();
    let (mut read, mut write) = client.stream.split();
    let sending = async {
        write.write_all(&many).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let mut got = std::mem::take(&mut client.buffer);
    let reading = read.read_to_end(&mut got);
    let (_, read) = soon(async { tokio::join!(sending, reading) }).await;
    read.unwrap();
    assert!(got == [early.as_slice(), &many].concat(), "{} bytes came back", got.len());
}

#[tokio::test]
async fn each_side_ends_by_itself() {
    // The upstream answers only when the client has ended.
    let upstream = Upstream::start(|mut peer| async move {
        let mut asked = Vec::new();
        peer.stream.read_to_end(&mut asked).await.unwrap();
        peer.write([b"asked: ", asked.as_slice()].concat()).await;
    })
    .await;
    let (_bench, gateway) = proxy().await;
    let mut client = tunnel(gateway, &upstream.address.to_string(), b"").await;
    client.write("question").await;
    client.stream.shutdown().await.unwrap();
    let (got, ended) = soon(client.rest()).await;
    ended.unwrap();
    assert_eq!(got, "asked: question");
}

#[tokio::test]
async fn a_reset_is_passed_on_either_way() {
    let upstream = Upstream::start(|mut peer| async move {
        peer.until(b"now").await;
        peer.stream.set_zero_linger().unwrap();
    })
    .await;
    let (_bench, gateway) = proxy().await;
    let mut client = tunnel(gateway, &upstream.address.to_string(), b"now").await;
    let (_, ended) = soon(client.rest()).await;
    assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);

    let (sender, receiver) = tokio::sync::oneshot::channel();
    let sender = parking_lot::Mutex::new(Some(sender));
    let upstream = Upstream::start(move |mut peer| {
        let sender = sender.lock().take();
        async move {
            let ended = peer.rest().await.1;
            let _ = sender.unwrap().send(ended);
        }
    })
    .await;
    let client = tunnel(gateway, &upstream.address.to_string(), b"hello").await;
    client.stream.set_zero_linger().unwrap();
    drop(client);
    let ended = soon(receiver).await.unwrap();
    assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_server_may_speak_first() {
    let upstream = Upstream::start(|mut peer| async move {
        peer.write("220 hello\r\n").await;
        peer.rest().await.1.unwrap();
    })
    .await;
    let (_bench, gateway) = proxy().await;
    let mut client = tunnel(gateway, &upstream.address.to_string(), b"").await;
    assert_eq!(soon(client.until(b"\r\n")).await.unwrap(), b"220 hello\r\n");
}

#[tokio::test]
async fn http_in_a_tunnel_to_a_dependency_is_served_as_at_its_own_listener() {
    let upstream = Upstream::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await;
    let url = format!("http://{}", upstream.address);
    let (mut bench, gateway) = start(&url, Script::default(), &["llm.example.com"]).await;
    for (to, host) in
        [(upstream.address.to_string(), "whatever"), ("llm.example.com:80".to_owned(), "h")]
    {
        let early = format!("GET /v1/models HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let mut client = tunnel(gateway, &to, early.as_bytes()).await;
        for _ in 0..2 {
            let (head, body) = soon(client.message()).await.unwrap();
            assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
            assert_eq!(body, b"hi");
            client.write(&early).await;
        }
        bench.call().await;
        bench.call().await;
    }
}

#[tokio::test]
async fn what_is_no_http_in_a_tunnel_to_a_dependency_goes_where_it_was_meant_to() {
    let upstream = echo().await;
    let (_bench, gateway) =
        start(&format!("http://{}", upstream.address), Script::default(), &[]).await;
    let mut client = tunnel(gateway, &upstream.address.to_string(), b"*1\r\n").await;
    client.write("$4\r\nPING\r\n").await;
    assert_eq!(soon(client.until(b"PING\r\n")).await.unwrap(), b"*1\r\n$4\r\nPING\r\n");
}

#[tokio::test]
async fn a_dependency_that_refuses_connections_is_not_tunnelled_to() {
    let upstream = echo().await;
    let (bench, gateway) =
        start(&format!("http://{}", upstream.address), Script::refusing(), &[]).await;
    bench.arm();
    let to = upstream.address;
    let (got, ended) = ask(gateway, &format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n")).await;
    assert_eq!(got, "");
    assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    let hits = bench.engine.tallies()[0].1.hit;
    assert!(hits >= 1, "{hits}");
}

#[tokio::test]
async fn old_clients_get_their_tunnel_too() {
    let upstream = echo().await;
    let (_bench, gateway) = proxy().await;
    // As urllib, requests and boto3 send it.
    let mut client = Peer::connect(gateway).await;
    client.write(format!("CONNECT {} HTTP/1.0\r\n\r\n", upstream.address)).await;
    let head = String::from_utf8(soon(client.until(b"\r\n\r\n")).await.unwrap()).unwrap();
    assert!(head.starts_with("HTTP/1.0 200 OK\r\n"), "{head}");
    client.write("ping").await;
    assert_eq!(soon(client.until(b"ping")).await.unwrap(), b"ping");
}

#[tokio::test]
async fn a_tunnel_may_follow_other_requests_on_a_connection() {
    let upstream = echo().await;
    let web = Upstream::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await;
    let (_bench, gateway) = proxy().await;
    let mut client = Peer::connect(gateway).await;
    let web = web.address;
    client.write(format!("GET http://{web}/ HTTP/1.1\r\nHost: {web}\r\n\r\n")).await;
    assert_eq!(soon(client.message()).await.unwrap().1, b"hi");
    let to = upstream.address;
    client.write(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\nping")).await;
    assert!(soon(client.until(b"\r\n\r\n")).await.unwrap().starts_with(b"HTTP/1.1 200 OK"));
    assert_eq!(soon(client.until(b"ping")).await.unwrap(), b"ping");
}

#[tokio::test]
async fn a_tunnel_that_cannot_be_made_is_answered_in_words() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (_bench, gateway) = proxy().await;
    let mut client = Peer::connect(gateway).await;
    for (to, status, said) in [
        (free.to_string(), "502", "refused the connection"),
        ("nowhere.invalid:443".to_owned(), "502", "cannot be resolved"),
        ("host".to_owned(), "400", "a host and a port"),
    ] {
        client.write(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n")).await;
        let (head, body) = soon(client.message()).await.expect(&to);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{to}: {head}");
        let body = String::from_utf8(body).unwrap();
        assert!(body.starts_with("brownout: ") && body.contains(said), "{to}: {body}");
    }
}

#[tokio::test]
async fn a_drained_proxy_ends_its_tunnels() {
    let upstream = echo().await;
    let (mut bench, gateway) = proxy().await;
    let _client = tunnel(gateway, &upstream.address.to_string(), b"").await;
    let running = bench.running.take().unwrap();
    assert!(running.drain(Duration::from_secs(10)).await);
}
